"""What of a suite is there, what is missing, and how it is brought: on small trees, and from a server on 127.0.0.1."""

from __future__ import annotations

import hashlib
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from timm.data.imagenet_info import ImageNetInfo

import trees
from farfield.data import suites
from farfield.data.suites.checking import advice, check, check_archives, needed
from farfield.data.suites.definition import Archive, Definition, Source
from farfield.data.suites.preparing import plan, prepare


def states(definition: Definition, root: Path) -> dict[str, tuple[str, int]]:
    return {one.name: (one.state, one.there) for one in check(definition, root)}


@pytest.mark.parametrize("name", suites.PUBLISHED)
def test_a_whole_tree_is_complete(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = trees.make(name, tmp_path, 5, patch=monkeypatch)
    told: list[tuple[str, int, int]] = []
    found = check(definition, tmp_path, lambda *step: told.append(step))
    assert {one.state for one in found} == {"complete"} and not needed(definition, found)
    assert all(one.there == one.expected == 5 and not one.missing and one.lacking == 0 for one in found)
    assert told[-1] == ("looked at all", len(found), len(found)) and plan(definition, tmp_path) == []


@pytest.mark.parametrize("name", suites.PUBLISHED)
def test_of_an_empty_folder_everything_is_missing(name: str, tmp_path: Path) -> None:
    definition = suites.definition(name)
    found = check(definition, tmp_path)
    missing = {one.name: one for one in found if one.state == "missing"}
    drawn = {"unit_tests"} if name == "ninco" else set()
    assert len(missing) + len(drawn) == len(found)
    assert all(one.there == 0 and one.lacking == (one.expected or 0) for one in missing.values())
    assert set(needed(definition, found)) == set(definition.sources)
    for step in plan(definition, tmp_path):
        assert step.told or step.url or step.what.startswith("torchvision's"), "nothing is said of what to do"
        assert step.action in ("fetch", "fetch and unpack", "by hand")
    assert list(tmp_path.iterdir()) == []


def test_the_pieces_of_a_split_are_named(tmp_path: Path) -> None:
    definition = trees.make("openood-v1.5-imagenet-fs", tmp_path, 3)
    names = [one.name for one in check(definition, tmp_path)]
    assert names[2:6] == ["test (1 of 4)", "test (2 of 4)", "test (3 of 4)", "test (4 of 4)"]


def test_missing_and_empty_files_of_a_list_are_named(tmp_path: Path) -> None:
    definition = trees.make("openood-v1.5-cifar10", tmp_path, 8)
    folder = tmp_path / "images_classic" / "svhn"
    files = sorted(folder.rglob("*.png"))
    for file in files[:4]:
        file.unlink()
    files[4].write_bytes(b"")
    svhn = next(one for one in check(definition, tmp_path) if one.name == "svhn")
    assert (svhn.state, svhn.there, svhn.expected, svhn.lacking) == ("incomplete", 3, 8, 5)
    assert len(svhn.missing) == 3 and svhn.missing[0] == "svhn/test_svhn/a class 0/0000.png" and svhn.sources == ("lists", "svhn")
    assert states(definition, tmp_path)["tin"] == ("complete", 8)


def test_wrong_counts_are_told(tmp_path: Path) -> None:
    definition = trees.make("mos-imagenet", tmp_path, 6)
    trees.save(tmp_path / "ood_data/SUN/images/one more.jpg", -1, 20, np.random.default_rng(0))
    next((tmp_path / "ood_data/Places/images").iterdir()).unlink()
    found = states(definition, tmp_path)
    assert found["SUN"] == ("too many", 7) and found["Places"] == ("incomplete", 5) and found["Textures"] == ("complete", 6)
    assert states(suites.definition("mos-imagenet"), tmp_path)["iNaturalist"] == ("incomplete", 6)  # of 10,000


def test_missing_class_folders_are_named(tmp_path: Path) -> None:
    definition = trees.make("mos-imagenet", tmp_path, 6)
    more = replace(definition, splits={"test": (replace(definition.splits["test"][0], count=9),)})
    test = check(more, tmp_path)[0]
    absent = ImageNetInfo().label_names()[trees.USED : trees.USED + 3]
    assert (test.state, test.lacking) == ("incomplete", 3) and test.missing == tuple(f"{wnid}/" for wnid in absent)


def test_a_broken_list_is_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    definition = trees.make("openood-v1.5-cifar10", tmp_path, 4)
    path = tmp_path / "benchmark_imglist" / "cifar10" / "test_mnist.txt"
    path.write_text("../../outside.png -1\n")
    mnist = next(one for one in check(definition, tmp_path) if one.name == "mnist")
    assert mnist.state == "broken" and "leads out of" in mnist.missing[0]
    assert states(definition, tmp_path)["svhn"] == ("complete", 4)


def test_torchvision_data_that_are_not_whole_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = trees.make("cifar10-sft", tmp_path, 6, patch=monkeypatch)
    (tmp_path / "svhn" / "test_32x32.mat").write_bytes(b"half")
    found = {one.name: one for one in check(definition, tmp_path)}
    assert found["SVHN"].state == "broken" and "is not whole" in found["SVHN"].missing[0]
    assert states(suites.definition("cifar10-sft"), tmp_path)["train"] == ("incomplete", 6)
    assert found["train"].place.endswith("cifar/cifar-10-batches-py")


# --- archives -----------------------------------------------------------------------------------------------------------------------------


def archived(root: Path, name: str, folder: str, n: int, suffix: str = ".jpg") -> Path:
    """A tar archive with a folder of pictures."""
    for index in range(n):
        trees.save(root / "made" / folder / f"{index}{suffix}", -1, 20, np.random.default_rng(index))
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as made:
        made.add(root / "made" / folder.split("/")[0], folder.split("/")[0])
    return path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that a server on 127.0.0.1 gives away, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def with_source(definition: Definition, name: str, source: Source) -> Definition:
    return replace(definition, sources={**definition.sources, name: source})


def test_what_may_be_fetched_is_fetched_checked_and_unpacked(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    root = tmp_path / "root"
    definition = trees.make("mos-imagenet", root, 5, only=frozenset(["train", "test", "iNaturalist", "Places", "Textures"]))
    made = archived(folder, "SUN.tar.gz", "SUN/images", 5)
    source = definition.sources["sun"]
    archive = Archive("SUN.tar.gz", f"{address}/SUN.tar.gz", trees.md5(made), size=made.stat().st_size, into="ood_data")
    definition = with_source(definition, "sun", replace(source, archives=(archive,)))
    (step,) = plan(definition, root)
    assert (step.source, step.action, step.url, step.size, step.checked) == ("sun", "fetch and unpack", archive.url, archive.size, "md5")
    assert states(definition, root)["SUN"] == ("missing", 0)  # a plan does nothing
    said: list[str] = []
    assert prepare(definition, root, say=said.append) == [] and len(said) == 1
    assert states(definition, root)["SUN"] == ("complete", 5) and (root / "archives" / "SUN.tar.gz").is_file()
    assert {one.file: one.state for one in check_archives(definition, root)}["SUN.tar.gz"] == "fits"
    assert prepare(definition, root) == []


def test_an_archive_that_is_there_is_checked_and_unpacked(tmp_path: Path) -> None:
    definition = trees.make("openood-v1.5-cifar10", tmp_path, 4)
    for file in (tmp_path / "images_classic" / "mnist").rglob("*.png"):
        file.unlink()
    made = archived(tmp_path, "archives/mnist.zip", "test_mnist/a class 0", 1)  # a tar that is called zip is known by its beginning
    (step,) = [step for step in plan(definition, tmp_path) if step.source == "mnist"]
    assert step.action == "unpack" and step.where == tmp_path / "images_classic" / "mnist"
    archive = replace(definition.sources["mnist"].archives[0], md5="0" * 32)
    other = with_source(definition, "mnist", replace(definition.sources["mnist"], archives=(archive,)))
    (left,) = [one for one in prepare(other, tmp_path) if one.source == "mnist"]
    assert left.action == "failed" and f"its md5 is {trees.md5(made)}, and the published one is {'0' * 32}" in left.told
    assert not (tmp_path / "images_classic/mnist/test_mnist/a class 0/0.jpg").exists()
    prepare(definition, tmp_path)
    assert (tmp_path / "images_classic/mnist/test_mnist/a class 0/0.jpg").is_file()


def test_one_source_that_cannot_be_had_does_not_stop_the_others(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    root = tmp_path / "root"
    definition = trees.make("mos-imagenet", root, 5, only=frozenset(["train", "test", "iNaturalist", "Textures"]))
    made = archived(folder, "Places.tar.gz", "Places/images", 5)
    for name, file, md5 in (("sun", "SUN", "0" * 32), ("places", "Places", trees.md5(made))):
        archive = Archive(f"{file}.tar.gz", f"{address}/{file}.tar.gz", md5, into="ood_data")
        definition = with_source(definition, name, replace(definition.sources[name], archives=(archive,)))
    (left,) = prepare(definition, root)
    assert left.source == "sun" and left.action == "failed" and "cannot be had (File not found)" in left.told
    assert states(definition, root)["Places"] == ("complete", 5)


def test_a_file_that_is_kept_as_it_is(tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = served
    root = tmp_path / "root"
    definition = trees.make("cifar10-sft", root, 5, patch=monkeypatch)
    mat = root / "svhn" / "test_32x32.mat"
    mat.replace(folder / mat.name)
    archive = replace(definition.sources["svhn"].archives[0], url=f"{address}/{mat.name}", md5=trees.md5(folder / mat.name), size=None)
    definition = with_source(definition, "svhn", replace(definition.sources["svhn"], archives=(archive,)))
    (step,) = plan(definition, root)
    assert step.action == "fetch" and step.where == root / "svhn"
    assert prepare(definition, root) == [] and mat.is_file() and states(definition, root)["SVHN"] == ("complete", 5)
    mat.write_bytes(b"other")
    (left,) = prepare(definition, root)
    assert left.action == "failed" and "Remove it, and run this again." in left.told


def test_torchvision_fetches_with_its_own_downloader(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision import datasets

    folder, address = served
    root = tmp_path / "root"
    definition = trees.make("cifar10-sft", root, 5, patch=monkeypatch)
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as made:
        made.add(root / "cifar" / "cifar-10-batches-py", "cifar-10-batches-py")
    for file in (root / "cifar" / "cifar-10-batches-py").iterdir():
        file.unlink()
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/{archive.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    (left,) = prepare(definition, root)
    assert left.action == "failed" and left.told.startswith(f"torchvision could not fetch CIFAR10 into {root / 'cifar'}: ")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", trees.md5(archive))
    assert prepare(definition, root) == [] and states(definition, root)["train"] == ("complete", 5)
    assert capsys.readouterr().out == ""


def test_archives_are_hashed_and_what_differs_is_told(tmp_path: Path) -> None:
    definition = suites.definition("mos-imagenet")
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "SUN.tar.gz").write_bytes(b"not it")
    found = {one.file: one for one in check_archives(definition, tmp_path)}
    assert found["SUN.tar.gz"].state == "unlike" and hashlib.md5(b"not it").hexdigest() in found["SUN.tar.gz"].told
    assert found["Places.tar.gz"].state == "absent" and found["Places.tar.gz"].place == tmp_path / "archives" / "Places.tar.gz"
    sized = with_source(definition, "sun", Source("x", archives=(Archive("SUN.tar.gz", size=7),)))
    assert next(one for one in check_archives(sized, tmp_path) if one.source == "sun").told == "it has 6 bytes, and the published one 7"
    for archive, state in ((Archive("SUN.tar.gz"), "unchecked"), (Archive("SUN.tar.gz", size=6), "fits")):
        one = with_source(definition, "sun", Source("x", archives=(archive,)))
        assert next(found.state for found in check_archives(one, tmp_path) if found.source == "sun") == state


def test_advice_says_what_to_do(tmp_path: Path) -> None:
    openood, mos = suites.definition("openood-v1.5-cifar10").sources, suites.definition("mos-imagenet").sources
    told = advice(openood["tin"], tmp_path)
    assert (
        "by hand from https://drive.google.com/" in told and f"Put tin.zip into {tmp_path / 'archives'}; `farfield data prepare` unpacks it." in told
    )
    assert advice(mos["sun"], tmp_path).endswith("fetched by `farfield data prepare`.")
    assert "Needs an account." in advice(mos["imagenet"], tmp_path) and "Put " not in advice(mos["imagenet"], tmp_path)
    assert advice(Source("Mine"), tmp_path) == "Mine: by hand."


def test_a_broken_archive_is_told_by_prepare(tmp_path: Path) -> None:
    definition = trees.make("openood-v1.5-cifar10", tmp_path, 3)
    for file in (tmp_path / "images_classic" / "tin").rglob("*.png"):
        file.unlink()
    trees.write(tmp_path / "archives" / "tin.zip", "no archive")
    (left,) = [one for one in prepare(definition, tmp_path) if one.source == "tin"]
    assert left.action == "failed" and "cannot be unpacked" in left.told
    assert states(definition, tmp_path)["tin"] == ("incomplete", 0)

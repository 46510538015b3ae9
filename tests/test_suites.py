"""Published suites: what their definitions say, and their readers on small trees in the published layout."""

from __future__ import annotations

import json
import os
import pickle
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

import trees
from farfield.data import noise, suites
from farfield.data.files import Files
from farfield.data.images import Images
from farfield.data.lists import image_list
from farfield.data.suites import classes as lists
from farfield.data.suites.definition import OOD, Pictures
from farfield.data.suites.reading import NoiseTests, suite_of
from farfield.data.suites.writing import to_toml
from farfield.data.transforms import Preprocess
from farfield.errors import FarfieldWarning, InputError

# The counts of shared reference tables and of the papers, written here a second time.
COUNTS = {
    "mos-imagenet": {"train": 1281167, "test": 50000, "iNaturalist": 10000, "SUN": 10000, "Places": 10000, "Textures": 5640},
    "ninco": {"train": 1281167, "test": 50000, "ninco": 5879, "cleaned": 2715, "unit_tests": 17 * 400},
    "cifar10-sft": {
        "train": 50000, "test": 10000, "SVHN": 26032, "Textures": 5640, "LSUN-crop": 10000, "LSUN-resize": 10000, "iSUN": 8925, "Places365": 10000,
    },
    "openood-v1.5-cifar10": {
        "train": 50000, "calibration": 1000, "test": 9000, "tin_val": 1000, "cifar100": 9000, "tin": 7793,
        "mnist": 70000, "svhn": 26032, "texture": 5640, "places365": 35195,
    },
    "openood-v1.5-cifar100": {
        "train": 50000, "calibration": 1000, "test": 9000, "tin_val": 972, "cifar10": 10000, "tin": 6526,
        "mnist": 70000, "svhn": 26032, "texture": 5640, "places365": 33773,
    },
    "openood-v1.5-imagenet200": {
        "train": None, "calibration": 1000, "test": 9000, "openimage_o_val": 1763, "ssb_hard": 49000, "ninco": 5879,
        "inaturalist": 10000, "textures": 5160, "openimage_o": 15869,
    },
    "openood-v1.5-imagenet": {
        "train": 1281167, "calibration": 5000, "test": 45000, "openimage_o_val": 1763, "ssb_hard": 49000, "ninco": 5879,
        "inaturalist": 10000, "textures": 5160, "openimage_o": 15869,
    },
}  # fmt: skip
COUNTS["cifar100-sft"] = COUNTS["cifar10-sft"]
FULL = {
    "openood-v1.5-cifar10-fs": [9000, 10000],
    "openood-v1.5-imagenet200-fs": [9000, 2000, 2000, 30000],
    "openood-v1.5-imagenet-fs": [45000, 10000, 10000, 30000],
}


def test_every_published_suite_is_known_here() -> None:
    assert set(suites.PUBLISHED) == {*COUNTS, *FULL}
    assert ("glyphs-200", "glyphs-1000", *suites.PUBLISHED) == suites.NAMES


@pytest.mark.parametrize("name", COUNTS)
def test_the_counts_are_the_published_ones(name: str) -> None:
    found = {called: pictures.count for _, called, pictures in suites.definition(name).sets()}
    assert found == COUNTS[name]


@pytest.mark.parametrize("name", FULL)
def test_the_full_spectrum_counts_shifted_pictures_as_id(name: str) -> None:
    full, plain = suites.definition(name), suites.definition(name.removesuffix("-fs"))
    assert [piece.count for piece in full.splits["test"]] == FULL[name]
    assert full.splits["test"][0] == plain.splits["test"][0]
    assert (full.ood, full.validation, full.classes, full.preprocess, full.fpr) == (
        plain.ood,
        plain.validation,
        plain.classes,
        plain.preprocess,
        plain.fpr,
    )
    assert full.splits["train"] == plain.splits["train"] and set(plain.sources) < set(full.sources)


@pytest.mark.parametrize("name", suites.PUBLISHED)
def test_a_definition_is_whole(name: str) -> None:
    found = suites.definition(name)
    assert found.name == name and found.version == 1 and found.root is None
    assert found.paper and found.title and found.note.endswith(".") and found.models.endswith(".")
    assert found.fpr == ("ood" if name.startswith("openood") else "id")  # DIAG and OpenOOD print the one, MOS, SFT and NINCO the other
    if found.preprocess is not None:
        assert Preprocess.parse(found.preprocess)
    used = {source for _, _, pictures in found.sets() for source in pictures.sources}
    assert used == set(found.sources), "a source that nothing needs, or a set whose source is not said"
    for _, _, pictures in found.sets():
        assert pictures.sources
    for source in found.sources.values():
        assert source.torchvision or source.archives
        assert source.page or source.torchvision
        for archive in source.archives:
            assert archive.url is None or archive.md5 or archive.sha256, "what is fetched from somewhere else must be checked"
    assert tomllib.loads(to_toml(found))["name"] == name


def test_what_validation_sets_share_is_said() -> None:
    shared = {name: {entry.name: entry.shares for entry in suites.definition(name).validation} for name in suites.PUBLISHED}
    assert shared["openood-v1.5-imagenet"] == {"openimage_o_val": ("openimage_o",)} == shared["openood-v1.5-imagenet200-fs"]
    assert shared["openood-v1.5-cifar10"] == {"tin_val": ("tin",)}
    assert shared["mos-imagenet"] == {}
    assert [entry.shares for entry in suites.load("openood-v1.5-imagenet", "x").validation] == [("openimage_o",)]


def test_openood_lists_are_where_openood_has_them() -> None:
    found = suites.definition("openood-v1.5-imagenet200")
    places = {called: (pictures.place, pictures.root) for _, called, pictures in found.sets()}
    assert places["train"] == ("benchmark_imglist/imagenet200/train_imagenet200.txt", "images_largescale")
    assert places["textures"] == ("benchmark_imglist/imagenet200/test_textures.txt", "images_classic")
    assert places["openimage_o_val"] == ("benchmark_imglist/imagenet200/val_openimage_o.txt", "images_largescale")
    fs = [piece.place.rpartition("/")[2] for piece in suites.definition("openood-v1.5-imagenet200-fs").splits["test"]]
    assert fs == ["test_imagenet200.txt", "test_imagenet200_v2.txt", "test_imagenet200_c.txt", "test_imagenet200_r.txt"]
    assert not any("_es" in piece for piece in fs)


# --- classes ------------------------------------------------------------------------------------------------------------------------------


def test_class_lists_have_the_order_of_their_labels() -> None:
    from torchvision.models import ResNet18_Weights

    categories = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    names = lists.names("imagenet-1k")
    assert len(names) == len(set(names)) == 1000
    same = sum(a.lower() == b.lower() for a, b in zip(names, categories, strict=True))
    assert same > 950  # torchvision words some otherwise
    wnids = ImageNetInfo().label_names()
    assert lists.folders("imagenet-1k") == {wnid: index for index, wnid in enumerate(wnids)}
    small = list(lists.folders("imagenet-200") or {})
    assert small == sorted(small) and len(small) == 200 and small[0] == "n01443537" and set(small) < set(wnids)
    for name, count in lists.LISTS.items():
        assert lists.count(name) == len(lists.names(name)) == len(set(lists.names(name))) == count
    assert list(lists.names("cifar-100")) == sorted(lists.names("cifar-100"))  # as its fine labels are numbered
    assert lists.synonyms(("a", "b")) == (("a",), ("b",)) and lists.synonyms(2) == ((), ())
    assert lists.folders(3) is None and lists.folders(("x", "y")) == {"x": 0, "y": 1}
    assert lists.words("n00000000") == () and "organism" in lists.words("n00004475")


# --- the published layouts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", suites.PUBLISHED)
def test_every_suite_is_read_from_each_of_its_places(name: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = trees.make(name, tmp_path, 6, place=place, patch=monkeypatch)
    suite = suite_of(definition, tmp_path)
    assert suite.name == name and len(suite.classes) == lists.count(definition.classes)
    for split in suite.splits:
        data = suite.split(split)
        assert len(data) == 6 * len(definition.splits[split])
        assert set(data.labels.tolist()) == set(range(trees.USED))
        assert all(isinstance(data[row][0], Image.Image | torch.Tensor) for row in (0, len(data) - 1))
    for entry in (*suite.ood, *suite.validation):
        data = entry.load()
        drawn = isinstance(data, NoiseTests)
        assert len(data) == (2 * 17 if drawn else 6), entry.name
        picture, label = data[len(data) - 1]
        assert label == -1 and picture is not None
        assert len(data.fingerprint()) > 8 and str(tmp_path) in data.name_of(0) if isinstance(data, Files) else True


def test_labels_are_read_from_the_lists_and_pictures_from_their_folder(tmp_path: Path) -> None:
    suite = suite_of(trees.make("openood-v1.5-imagenet200-fs", tmp_path, 7), tmp_path)
    test = suite.split("test")
    assert test.labels.tolist() == [index % trees.USED for index in range(7)] * 4
    assert isinstance(test, Files) and test.root == tmp_path
    assert [Path(path).parts[1] for path in test.paths[::7]] == ["imagenet_1k", "imagenet_v2", "imagenet_c", "imagenet_r"]
    textures = next(entry for entry in suite.ood if entry.name == "textures").load()
    assert textures.name_of(0).startswith(str(tmp_path / "images_classic" / "texture"))
    assert "a class 0" in textures.name_of(0)  # a blank in a path
    for row in range(len(test)):
        colour = np.asarray(test[row][0]).reshape(-1, 3).mean(0)
        label = row % 7 % trees.USED
        assert abs(colour[2] - 128) < 12 and abs(colour[1] - 90 * label % 256) < 30, "the picture of another row"


def test_imagenet_in_folders_is_labelled_by_wordnet_id(tmp_path: Path) -> None:
    for wnid in ("n01440764", "n15075141", "n02086240"):
        trees.save(tmp_path / "imagenet" / "val" / wnid / "a picture.JPEG", 0, 20, np.random.default_rng(0))
    with pytest.warns(
        FarfieldWarning, match=r"test of ninco has 3 pictures and is to have 50,000, so figures are not those of the suite\. `farfield data verify`"
    ):
        test = suites.load("ninco", tmp_path).split("test")
    order = ImageNetInfo().label_names()
    assert [order[label] for label in test.labels.tolist()] == ["n01440764", "n02086240", "n15075141"]
    assert test.labels.tolist()[0] == 0 and test.labels.tolist()[-1] == 999


def test_imagenet_val_may_be_flat_with_a_list(tmp_path: Path) -> None:
    flat = tmp_path / "id_data" / "ILSVRC-2012" / "val"
    for index in range(3):
        trees.save(flat / f"ILSVRC2012_val_{index + 1:08d}.JPEG", 0, 20, np.random.default_rng(0))
    trees.write(tmp_path / "data_lists" / "imagenet2012_val_list.txt", "".join(f"val/ILSVRC2012_val_{i + 1:08d}.JPEG {65 * i}\n" for i in range(3)))
    with pytest.warns(FarfieldWarning, match="test of mos-imagenet has 3 pictures and is to have 50,000"):
        assert suites.load("mos-imagenet", tmp_path).split("test").labels.tolist() == [0, 65, 130]


def test_the_lists_of_mos_with_groups_are_read_as_they_are(tmp_path: Path) -> None:
    trees.save(tmp_path / "ILSVRC-2012" / "val" / "n01751748" / "ILSVRC2012_val_00000001.JPEG", 0, 20, np.random.default_rng(0))
    path = trees.write(tmp_path / "groups.txt", "val/n01751748/ILSVRC2012_val_00000001.JPEG 0 328\n")
    found = image_list(path, root=tmp_path / "ILSVRC-2012")
    assert found.labels.tolist() == [-1] and found[0][0].size == (26, 20)
    taxonomy = trees.write(tmp_path / "openood.txt", 'val/n01751748/ILSVRC2012_val_00000001.JPEG {"group_label": 0, "class_label": 61}\n')
    assert image_list(taxonomy, root=tmp_path / "ILSVRC-2012").labels.tolist() == [61]


def test_a_folder_that_is_no_class_is_named(tmp_path: Path) -> None:
    for folder in ("n01440764", "n01443538"):
        trees.save(tmp_path / "imagenet" / "val" / folder / "1.JPEG", 0, 20, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"The folder 'n01443538' of .*val is no class of ninco; did you mean 'n01443537'\?"):
        suites.load("ninco", tmp_path).split("test")


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    suite = suite_of(trees.make("openood-v1.5-cifar10", tmp_path, 6), tmp_path)
    path = tmp_path / "benchmark_imglist" / "cifar10" / "test_cifar10.txt"
    path.write_text(path.read_text().replace(" 4\n", " 10\n"))
    with pytest.raises(InputError, match=r"0004\.png of test has label 10, and the model's classes are 0 to 9"):
        suite.split("test")


def test_classes_of_ninco_are_parts_and_the_unit_tests_are_others(tmp_path: Path) -> None:
    definition = trees.make("ninco", tmp_path, 6)
    suite = suite_of(definition, tmp_path)
    ninco, cleaned, unit = (entry.load() for entry in suite.ood)
    assert dict(ninco.parts) == {"Caracal caracal caracal": slice(0, 3), "amphiuma_means": slice(3, 6)} and ninco.part_group == "class"
    for name, span in ninco.parts.items():
        assert all(f"{os.sep}{name}{os.sep}" in ninco.name_of(row) for row in range(span.start, span.stop))
    assert cleaned.part_group == "class" and unit.part_group == "unit-test" and list(unit.parts) == ["pixel_perm", "uni"]
    some = ninco.only([0, 2, 4])
    assert dict(some.parts) == {"Caracal caracal caracal": slice(0, 2), "amphiuma_means": slice(2, 3)}
    assert dict(ninco.only([4, 5]).parts) == {"amphiuma_means": slice(0, 2)}
    assert dict(ninco.only([5, 0]).parts) == {}  # not in order


def test_pick_takes_the_same_of_a_folder_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trees.make("cifar10-sft", tmp_path, 12, patch=monkeypatch)
    few = replace(whole, ood=tuple(replace(e, pictures=replace(e.pictures, pick=5, count=5)) if e.name == "Places365" else e for e in whole.ood))
    first, again = (suite_of(few, tmp_path).ood[-1].load() for _ in range(2))
    every = suite_of(whole, tmp_path).ood[-1].load()
    assert len(every) == 12 and len(first) == 5 and first.paths == again.paths and set(first.paths) < set(every.paths)
    assert list(first.paths) == sorted(first.paths) and first.paths != every.paths[:5]


# --- torchvision --------------------------------------------------------------------------------------------------------------------------


def test_torchvision_reads_cifar_and_checks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suite_of(trees.make("cifar100-sft", tmp_path, 8, patch=monkeypatch), tmp_path)
    train = suite.split("train")
    assert isinstance(train, Images) and tuple(train.images.shape) == (8, 3, 32, 32) and train.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    file = tmp_path / "cifar" / "cifar-100-python" / "train"
    raw = pickle.loads(file.read_bytes())["data"].reshape(8, 3, 32, 32)
    assert np.array_equal(train.images.numpy(), raw)
    svhn = suite.ood[0].load()
    assert tuple(svhn.images.shape) == (8, 3, 32, 32) and svhn.labels.tolist() == [-1] * 8
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError,
        match=r"torchvision's CIFAR100 \(train\) is not whole in .*cifar: Dataset not found or corrupted.* `farfield data prepare` fetches it",
    ):
        suite.split("train")
    (tmp_path / "svhn" / "test_32x32.mat").unlink()
    with pytest.raises(InputError, match=r"torchvision's SVHN \(test\) is not whole"):
        suite.ood[0].load()


def test_grey_pictures_of_torchvision_become_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    from farfield.data.suites import vision

    class Grey:
        data = torch.arange(2 * 28 * 28, dtype=torch.uint8).reshape(2, 28, 28)
        targets = torch.tensor([3, 4])

    monkeypatch.setattr(datasets, "MNIST", lambda root, train, download: Grey)
    found = vision.images("mnist", "MNIST", "test", tmp_path)
    assert tuple(found.images.shape) == (2, 3, 28, 28) and found.labels.tolist() == [3, 4]
    assert all(torch.equal(found.images[:, channel], Grey.data) for channel in range(3))


# --- noise --------------------------------------------------------------------------------------------------------------------------------


def test_unit_tests_are_drawn_where_the_published_files_are_not(tmp_path: Path) -> None:
    definition = trees.make("ninco", tmp_path, 5, only=frozenset(["train", "test", "ninco", "cleaned"]))
    tests = suite_of(definition, tmp_path).ood[-1].load()
    assert isinstance(tests, NoiseTests) and len(tests) == 34 and list(tests.parts) == list(noise.FAMILIES)
    assert tests.part_group == "unit-test" and tests.parts["blobs"] == slice(32, 34)
    picture, label = tests[2 * noise.FAMILIES.index("blobs") + 1]
    assert picture.size == (224, 224) and label == -1
    assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), noise.generate("blobs", 2, (224, 224), seed=0)[1].numpy())
    permuted = np.asarray(tests[2 * noise.FAMILIES.index("pixel_permutation") + 1][0])
    source = suite_of(definition, tmp_path).split("test")[1][0].resize((224, 224), Image.Resampling.BILINEAR)
    assert sorted(map(tuple, permuted.reshape(-1, 3))) == sorted(map(tuple, np.asarray(source).reshape(-1, 3)))
    assert tests.name_of(33) == "unit_tests/blobs[1]" and tests.fingerprint() == suite_of(definition, tmp_path).ood[-1].load().fingerprint()
    with pytest.raises(IndexError):
        tests[34]
    assert [label for _, label in tests] == [-1] * 34  # and so it can be walked through


def test_limited_keeps_the_parts(tmp_path: Path) -> None:
    from farfield import inputs

    definition = trees.make("ninco", tmp_path, 8, only=frozenset(["train", "test", "ninco", "cleaned"]))
    suite = inputs.limited_suite(suite_of(definition, tmp_path), 6)
    assert [len(suite.split(split)) for split in ("train", "test")] == [6, 6]
    ninco, _, unit = (entry.load() for entry in suite.ood)
    for data in (ninco, unit):
        assert len(data) == 6 and sum(span.stop - span.start for span in data.parts.values()) == 6
        for name, span in data.parts.items():
            assert all(name in data.name_of(row) for row in range(span.start, span.stop))
    assert unit.part_group == "unit-test" and ninco.part_group == "class"
    assert inputs.limited_suite(suite, None) is suite


# --- names, files and places --------------------------------------------------------------------------------------------------------------


def test_a_suite_is_found_by_name_or_file_and_its_data_by_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = suites.definition("ninco")
    monkeypatch.delenv(suites.VARIABLE, raising=False)
    assert suites.place(definition) == Path("data")
    monkeypatch.setenv(suites.VARIABLE, "/somewhere")
    assert suites.place(definition) == Path("/somewhere") and suites.place(definition, tmp_path) == tmp_path
    own = replace(definition, name="mine", root="inside")
    path = trees.write(tmp_path / "folder" / "mine.toml", to_toml(own))
    read = suites.definition(str(path))
    assert read.name == "mine" and suites.place(read) == tmp_path / "folder" / "inside"
    assert suites.load(str(path)).name == "mine" and suites.is_suite(str(path)) and suites.is_suite("ninco") and not suites.is_suite("cats")
    assert suites.load("glyphs-200").name == "glyphs-200"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ninko", r"There is no suite 'ninko'; did you mean 'ninco'\? There are: glyphs-200, .*, and your own in a \.toml file\."),
        ("glyphs-200", r"glyphs-200 is drawn on the spot; it has no definition"),
        ("nowhere.toml", r"The suite nowhere\.toml cannot be read as TOML: .*No such file"),
    ],
)
def test_unknown_suites_are_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        suites.definition(name)


def test_a_list_that_leads_out_is_refused_and_nothing_is_read(tmp_path: Path) -> None:
    trees.make("openood-v1.5-cifar10", tmp_path / "root", 4)
    path = tmp_path / "root" / "benchmark_imglist" / "cifar10" / "test_tin.txt"
    trees.save(tmp_path / "secret.png", -1, 20, np.random.default_rng(0))
    path.write_text(path.read_text() + "tin/../../../secret.png -1\n")
    tin = next(entry for entry in suites.load("openood-v1.5-cifar10", tmp_path / "root").ood if entry.name == "tin")
    with pytest.raises(InputError, match=r"Line 5 of .*test_tin\.txt leads out of .*images_classic"):
        tin.load()


def test_a_suite_is_json_for_pipes() -> None:
    from dataclasses import asdict

    for name in suites.PUBLISHED:
        assert json.loads(json.dumps(asdict(suites.definition(name))))["name"] == name


def test_definitions_name_no_folder_outside_and_are_plain() -> None:
    for name in suites.PUBLISHED:
        for _, _, pictures in suites.definition(name).sets():
            for one in (pictures, *pictures.others):
                assert isinstance(one, Pictures) and not one.place.startswith("/") and ".." not in one.place and ".." not in one.root
        assert all(isinstance(entry, OOD) and re.fullmatch(r"[\w-]+", entry.name) for entry in suites.definition(name).ood)

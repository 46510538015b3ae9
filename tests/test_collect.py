"""One pass in order, the same in memory and on disk, and nothing lost when it stops."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import farfield as ff
from farfield.data.images import Images
from farfield.data.pictures import Unreadable
from farfield.data.transforms import FromPictures, Normalize
from farfield.detectors import Energy
from farfield.models import build
from farfield.store import Stored

HALF = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def pictures(n: int = 700, seed: int = 0) -> Images:
    random = torch.Generator().manual_seed(seed)
    return Images("some", torch.randint(256, (n, 3, 32, 32), generator=random, dtype=torch.uint8), torch.arange(n) % 200)


def classifier(seed: int = 0) -> ff.Classifier:
    torch.manual_seed(seed)
    return ff.Classifier.wrap(build("resnet", 200), transform=HALF, input_size=(3, 32, 32))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["farfield.collect"], "SHARD", 128)


def same(one: ff.Outputs, other: ff.Outputs) -> bool:
    return all(torch.equal(column, other.columns()[name]) for name, column in one.columns().items()) and one.fingerprint == other.fingerprint


@pytest.mark.usefixtures("small_shards")
def test_disk_and_memory_agree_bit_for_bit(tmp_path: Path) -> None:
    net, data = classifier(), pictures()
    memory = ff.collect(net, data, batch_size=64)
    stored = ff.collect(net, data, out=tmp_path, batch_size=64)
    assert (stored.shards, len(stored)) == (6, 700)
    assert same(stored.load(), memory)
    assert memory.labels.tolist() == data.labels.tolist()  # type: ignore[union-attr]
    assert memory.ids.tolist() == list(range(700))  # type: ignore[union-attr]
    assert memory.head is not None and same(stored.load()[:0], memory[:0])
    torch.testing.assert_close(memory.head(memory.features), memory.logits, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]


def test_pictures_one_by_one_give_what_pictures_in_memory_give() -> None:
    net, data = classifier(), pictures(50)
    plain = [data[i] for i in range(50)]
    one, other = ff.collect(net, data, batch_size=16), ff.collect(net, plain, batch_size=16)
    assert torch.equal(one.logits, other.logits)  # type: ignore[arg-type]
    by_workers = ff.collect(net, plain, batch_size=16, workers=2)
    assert torch.equal(one.logits, by_workers.logits)  # type: ignore[arg-type]


def test_pictures_without_labels_get_minus_one() -> None:
    outputs = ff.collect(classifier(), [pictures(4).images[i] for i in range(4)])
    assert outputs.labels.tolist() == [-1] * 4  # type: ignore[union-attr]


def test_a_second_run_does_not_run_the_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = classifier(), pictures(100)
    first = ff.collect(net, data, out=tmp_path).load()
    monkeypatch.setattr(ff.Classifier, "outputs", lambda *_: pytest.fail("the classifier ran"))
    assert same(ff.collect(net, data, out=tmp_path).load(), first)


def test_other_weights_data_transform_or_batch_size_are_another_store(tmp_path: Path) -> None:
    net, data = classifier(), pictures(40)
    folders = {ff.collect(net, data, out=tmp_path).folder}
    folders.add(ff.collect(classifier(1), data, out=tmp_path).folder)
    folders.add(ff.collect(net, pictures(40, seed=1), out=tmp_path).folder)
    folders.add(ff.collect(net, data, out=tmp_path, batch_size=8).folder)
    net.transform = Normalize((0.4, 0.5, 0.5), (0.5, 0.5, 0.5))
    folders.add(ff.collect(net, data, out=tmp_path).folder)
    assert len(folders) == 5
    assert len({ff.collect(classifier(), [data[i] for i in range(40)], out=tmp_path).folder for _ in range(2)}) == 1


def test_functions_are_told_apart_by_what_they_do_and_not_by_where_they_are(tmp_path: Path) -> None:
    net, data = classifier(), pictures(40)
    found = []
    for shift in (0.0, 0.1, 0.2, 0.0):
        net.transform = lambda x, shift=shift: HALF(x) + shift  # type: ignore[misc]
        found.append(ff.collect(net, data, out=tmp_path))
    assert len({stored.folder for stored in found}) == 3
    assert found[0].folder == found[3].folder
    assert torch.equal(found[1].load().logits, ff.collect(replace(net, transform=lambda x: HALF(x) + 0.1), data).logits)  # type: ignore[arg-type]


def test_a_changed_item_of_a_list_is_another_store(tmp_path: Path) -> None:
    net, data = classifier(), pictures(100)
    plain = [data[i] for i in range(100)]
    first = ff.collect(net, plain, out=tmp_path)
    plain[1] = (plain[2][0], 7)
    second = ff.collect(net, plain, out=tmp_path)
    assert first.folder != second.folder
    assert second.load().labels[1] == 7  # type: ignore[index]


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray, Image.fromarray])
def test_one_changed_pixel_of_one_picture_in_a_list_is_another_store(tmp_path: Path, kind: Callable[[np.ndarray], Any]) -> None:
    """The text of an array or of a PIL picture does not have its pixels."""
    arrays = [np.full((32, 32, 3), i, np.uint8) for i in range(40)]
    net = classifier()
    net.transform = lambda x: HALF((x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))).permute(2, 0, 1))
    folders = {ff.collect(net, [kind(array) for array in arrays], out=tmp_path).folder for _ in range(2)}
    arrays[1][16, 16, 1] += 1  # item 1 is not among the sixteen
    assert folders.isdisjoint({ff.collect(net, [kind(array) for array in arrays], out=tmp_path).folder})
    assert len(folders) == 1


def test_pictures_that_change_when_read_again_are_not_stored(tmp_path: Path) -> None:
    class Random:
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.randint(256, (3, 32, 32), dtype=torch.uint8)

    with pytest.raises(ff.InputError, match="another picture each time it is read"):
        ff.collect(classifier(), Random(), out=tmp_path)
    assert len(ff.collect(classifier(), Random())) == 20


def test_tuples_of_one_missing_labels_and_unreadable_items(tmp_path: Path) -> None:
    data = pictures(5)
    assert ff.collect(classifier(), TensorDataset(data.images), out=tmp_path).load().labels.tolist() == [-1] * 5  # type: ignore[union-attr]
    assert ff.collect(classifier(), [(data.images[0], None)]).labels.tolist() == [-1]  # type: ignore[union-attr]
    with pytest.raises(ff.InputError, match="Item 1 of the data set cannot be read: "):
        ff.collect(classifier(), [data[0], ("not a picture", 0)])


def test_autocast_is_another_store(tmp_path: Path) -> None:
    net, data = classifier(), pictures(20)
    plain = ff.collect(net, data, out=tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        assert ff.collect(net, data, out=tmp_path).folder != plain.folder


def test_threads_may_write_one_store(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stored = ff.Stored.at(tmp_path, {}, 40, 10, "f")
    outputs = ff.Outputs(logits=torch.randn(10, 3), ids=torch.arange(10))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: stored.write(i % 4, outputs), range(64)))
    assert stored.missing() == []
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.usefixtures("small_shards")
def test_a_broken_or_missing_shard_is_written_again(tmp_path: Path) -> None:
    net, data = classifier(), pictures(300)
    stored = ff.collect(net, data, out=tmp_path, batch_size=64)
    whole = stored.load()
    stored.path(0).write_bytes(stored.path(0).read_bytes()[:1000])
    stored.path(2).unlink()
    assert stored.missing() == [0, 2]
    with pytest.raises(ff.InputError, match="cannot be read"):
        stored.load()
    assert same(ff.collect(net, data, out=tmp_path, batch_size=64).load(), whole)


def test_outputs_of_another_classifier_are_refused(tmp_path: Path) -> None:
    detector = Energy.fit(ff.collect(classifier(0), pictures(20), out=tmp_path))
    with pytest.raises(ff.InputError, match="was fitted on classifier"):
        detector(ff.collect(classifier(1), pictures(20)))


def test_loaders_and_empty_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match=r"pass the loader's `\.dataset`"):
        ff.collect(classifier(), DataLoader(TensorDataset(torch.zeros(2, 3, 32, 32))))  # type: ignore[call-overload]
    with pytest.raises(ff.InputError, match="empty"):
        ff.collect(classifier(), [])
    with pytest.raises(ff.InputError, match="batch_size >= 1; got 0"):
        ff.collect(classifier(), pictures(3), batch_size=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ff.InputError, match="cannot be written"):
        ff.collect(classifier(), pictures(3), out=tmp_path / "file")


def test_a_model_without_a_head_still_has_logits() -> None:
    with pytest.warns(ff.FarfieldWarning, match="no linear head"):
        net = ff.Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5), nn.Softplus()), transform=HALF, input_size=(3, 32, 32))
    outputs = ff.collect(net, pictures(6))
    assert outputs.features is None and outputs.head is None
    assert Energy.fit(outputs)(outputs).shape == (6,)
    with pytest.raises(ff.InputError, match="KNN needs `features`"):
        ff.CATALOGUE["knn"].fit(outputs)


CHILD = """
import sys, torch
sys.path.insert(0, sys.argv[2])
import test_collect as t, farfield as ff
sys.modules["farfield.collect"].SHARD = 64
torch.set_num_threads(1)
print("ready", flush=True)
ff.collect(t.classifier(), t.pictures(1500), out=sys.argv[1], batch_size=16)
print("done", flush=True)
"""


def child(out: Path, **popen: object) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, str(out), str(Path(__file__).parent)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    for delay in (0.05, 0.2):
        process = child(tmp_path)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(how)
        process.communicate()
    monkeypatch.setattr(sys.modules["farfield.collect"], "SHARD", 64)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("shard-*.safetensors")}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = ff.collect(classifier(), pictures(1500), out=tmp_path, batch_size=16)
        assert same(resumed.load(), ff.collect(classifier(), pictures(1500), batch_size=16))
    finally:
        torch.set_num_threads(threads)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # a shard of 64 samples takes 84 kB

    process = child(tmp_path, preexec_fn=limit, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "cannot be written" in errors.splitlines()[-1]
    assert not list(tmp_path.rglob("shard-*"))


class Flaky:
    """Pictures of which some cannot be read; `broken` are errors by row."""

    name = "flaky"

    def __init__(self, n: int, broken: dict[int, Exception]) -> None:
        self.images, self.broken = pictures(n), broken

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        if index in self.broken:
            raise self.broken[index]
        return self.images[index]

    def name_of(self, index: int) -> str:
        return f"photo {index}.jpg"

    def fingerprint(self) -> str:
        return f"flaky {sorted(self.broken)}"


BROKEN: dict[int, Exception] = {3: OSError("image file is truncated"), 64: SyntaxError("broken PNG file"), 65: Unreadable("the file is empty")}


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, workers: int) -> None:
    net, rows = classifier(), [row for row in range(200) if row not in BROKEN]
    whole = ff.collect(net, pictures(200), batch_size=32)
    told = r"3 of 200 pictures of flaky cannot be read and are left out: photo 3\.jpg: OSError: image file is truncated; photo 64\.jpg: .*the file is empty"
    with pytest.warns(ff.FarfieldWarning, match=told):
        stored = ff.collect(net, Flaky(200, BROKEN), out=tmp_path, batch_size=32, workers=workers)
    assert (stored.items, stored.samples, len(stored), len(stored.load())) == (200, 197, 197, 197)
    assert [(failure.row, failure.name) for failure in stored.failures()] == [(row, f"photo {row}.jpg") for row in BROKEN]
    loaded = stored.load()
    assert loaded.ids.tolist() == rows  # type: ignore[union-attr]
    assert loaded.labels.tolist() == [row % 200 for row in rows]  # type: ignore[union-attr]
    torch.testing.assert_close(loaded.logits, whole.logits[rows], rtol=1e-4, atol=1e-5)  # type: ignore[index]
    assert stored.verify() == []
    with pytest.warns(ff.FarfieldWarning, match="3 of 200"):
        memory = ff.collect(net, Flaky(200, BROKEN), batch_size=32, workers=workers)
    assert same(memory, loaded)


def test_a_shard_of_unreadable_pictures_alone_is_empty(tmp_path: Path, small_shards: None) -> None:
    broken: dict[int, Exception] = {row: OSError("gone") for row in range(64, 192)}
    with pytest.warns(ff.FarfieldWarning, match="128 of 300 .* and 125 more"):
        stored = ff.collect(classifier(), Flaky(300, broken), out=tmp_path, batch_size=64)
    assert [len(stored.read(shard)) for shard in range(3)] == [64, 64, 44]
    with pytest.warns(ff.FarfieldWarning):
        empty = ff.collect(classifier(), Flaky(192, {row: OSError("gone") for row in range(128)}), out=tmp_path, batch_size=64)
    assert [len(chunk) for chunk in empty] == [0, 64]
    assert len(Energy.fit(empty)(empty.load())) == 64


def test_strict_stops_at_the_first_and_keeps_the_shards_before(tmp_path: Path, small_shards: None) -> None:
    with pytest.raises(ff.InputError, match=r"photo 150\.jpg cannot be read: OSError: gone\. What is stored so far stays"):
        ff.collect(classifier(), Flaky(200, {150: OSError("gone")}), out=tmp_path, batch_size=64, strict=True)
    with pytest.warns(ff.FarfieldWarning):
        stored = ff.collect(classifier(), Flaky(200, {150: OSError("gone")}), out=tmp_path, batch_size=64)
    assert stored.shards == 2


def test_no_readable_picture_and_faults_of_the_data_set_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match=r"None of the 3 pictures of flaky can be read\. photo 0\.jpg: OSError: gone"):
        ff.collect(classifier(), Flaky(3, {row: OSError("gone") for row in range(3)}), out=tmp_path)
    for workers in (0, 1):
        with pytest.raises(ff.InputError, match=r"photo 1\.jpg cannot be read: KeyError: 'imge'"):
            ff.collect(classifier(), Flaky(3, {1: KeyError("imge")}), workers=workers)


def test_items_may_be_dicts_and_pictures_of_any_mode(tmp_path: Path) -> None:
    net = classifier()
    net.transform = FromPictures(lambda picture: HALF(torch.from_numpy(np.array(picture)).permute(2, 0, 1)))
    grey = Image.fromarray(np.full((32, 32), 77, np.uint8))
    outputs = ff.collect(net, [{"image": grey, "label": 5}, {"img": grey.convert("RGB")}])
    assert outputs.labels.tolist() == [5, -1]  # type: ignore[union-attr]
    assert torch.equal(outputs.logits[0], outputs.logits[1])  # type: ignore[index]
    with pytest.raises(ff.InputError, match=r"an item has imge, and no image or img"):
        ff.collect(net, [{"imge": grey}])


def test_inputs_of_unlike_sizes_are_a_fault_of_the_transform() -> None:
    net = classifier()
    net.transform = lambda x: x.float()
    with pytest.raises(ff.InputError, match="inputs of unlike sizes"):
        ff.collect(net, [(torch.zeros(3, 32, 32), 0), (torch.zeros(3, 16, 32), 0)])


@pytest.mark.usefixtures("small_shards")
def test_verify_finds_what_was_changed_after_it_was_written(tmp_path: Path) -> None:
    stored = ff.collect(classifier(), pictures(700), out=tmp_path, batch_size=64)
    assert stored.verify() == []
    assert Stored.open(stored.folder) == stored
    content = bytearray(stored.path(1).read_bytes())
    content[-5] ^= 1
    stored.path(1).write_bytes(content)
    stored.path(2).write_bytes(stored.path(2).read_bytes()[:-7])
    stored.path(3).unlink()
    stored.path(4).write_bytes(stored.path(5).read_bytes())
    assert stored.verify() == [
        "shard-00001.safetensors was changed",
        "shard-00002.safetensors is broken",
        "shard-00003.safetensors is missing",
        "shard-00004.safetensors has other items than it should",
    ]
    assert stored.missing() == [2, 3]


def test_a_folder_that_is_no_store_or_of_another_version_says_so(tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match="is no store of outputs"):
        Stored.open(tmp_path)
    (tmp_path / "facts.json").write_text('{"format": 1, "items": 3, "rows": 3}')
    with pytest.raises(ff.InputError, match=r"store of another version of Farfield, or broken \(format 1; this one reads 2\)"):
        Stored.open(tmp_path)


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    data = Flaky(100, {51: OSError("Input/output error")})
    data.fingerprint = lambda: "the same"  # type: ignore[method-assign]
    with pytest.warns(ff.FarfieldWarning):
        assert len(ff.collect(classifier(), data, out=tmp_path)) == 99
    data.broken.clear()
    assert len(ff.collect(classifier(), data, out=tmp_path)) == 100


def test_a_subset_is_known_by_its_rows_and_a_data_set_of_ones_own_by_what_it_holds(tmp_path: Path) -> None:
    from torch.utils.data import Subset

    class Own:
        def __init__(self, factor: int) -> None:
            self.images, self.factor = pictures(60), factor

        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> Any:
            return self.images.images[index] if index % 9 else self.images.images[index] // self.factor

    net, whole = classifier(), pictures(300)
    one, other = list(range(200)), [*range(100), 250, *range(101, 200)]
    folders = [ff.collect(net, Subset(whole, rows), out=tmp_path).folder for rows in (one, other, one)]  # type: ignore[arg-type]
    assert folders[0] == folders[2] != folders[1]
    folders = [ff.collect(net, Own(factor), out=tmp_path).folder for factor in (2, 3, 2)]
    assert folders[0] == folders[2] != folders[1]
    dicts = [[{"image": picture, "label": 1} for picture in pictures(40).images] for _ in range(2)]
    dicts[1][1]["image"] = dicts[1][1]["image"].clone().index_fill_(1, torch.tensor([7]), 9)
    assert ff.collect(net, dicts[0], out=tmp_path).folder != ff.collect(net, dicts[1], out=tmp_path).folder


def test_a_transform_must_make_tensors() -> None:
    net = replace(classifier(), transform=lambda x: np.asarray(x))
    with pytest.raises(
        ff.InputError, match="Item 0 of the data set cannot be read: the transform makes a ndarray, not a tensor or a dict of tensors"
    ):
        ff.collect(net, [pictures(3)[0]])


def test_a_fault_in_a_loading_process_is_one_sentence() -> None:
    net = replace(classifier(), transform=lambda x: x.float()[:, : 30 + int(x[0, 0, 0]) % 2])
    with pytest.raises(ff.InputError, match="inputs of unlike sizes") as raised:
        ff.collect(net, [pictures(64)[i] for i in range(64)], workers=1)
    assert "Traceback" not in str(raised.value)


def test_strict_stops_at_what_an_earlier_run_left_out(tmp_path: Path) -> None:
    data = Flaky(100, {51: OSError("gone")})
    with pytest.warns(ff.FarfieldWarning):
        stored = ff.collect(classifier(), data, out=tmp_path)
    with pytest.raises(ff.InputError, match=r"photo 51\.jpg cannot be read"):
        ff.collect(classifier(), data, out=tmp_path, strict=True)
    assert stored.verify() == []


def test_a_data_set_that_keeps_its_files_to_itself_is_known_by_them(tmp_path: Path) -> None:
    class Own:
        def __init__(self, changed: int) -> None:
            self._pictures = pictures(60).images.clone()
            self._pictures[changed] = 0

        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> Any:
            return self._pictures[index]

    folders = [ff.collect(classifier(), Own(changed), out=tmp_path).folder for changed in (1, 2, 1)]  # rows 1 and 2 are not among the sixteen
    assert folders[0] == folders[2] != folders[1]


def test_half_precision_outputs_stay_so_beside_a_batch_that_cannot_be_read() -> None:
    net = classifier()
    net.module.to(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.warns(ff.FarfieldWarning):
        outputs = ff.collect(net, Flaky(20, {row: OSError("gone") for row in range(10)}), batch_size=10)
    assert outputs.logits is not None and outputs.logits.dtype == torch.bfloat16

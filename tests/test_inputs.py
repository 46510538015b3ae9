"""What a person writes, opened: folders, lists, arrays, functions and scores, and what is said where it is none of these."""

from __future__ import annotations

import gc
import io
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import farfield as ff
from farfield import inputs, plugins
from farfield.collect import contents
from farfield.data.files import Files
from farfield.data.hub import Hub
from farfield.data.images import Images
from farfield.inputs import limited, open_data, read_arrays, read_scores, unlabelled
from farfield.outputs import Outputs
from farfield.store import Stored


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (255, 0, 0)).save(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and a search path and modules that are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.fixture
def as_users_have_it() -> Iterator[None]:
    """Without the type checks of these tests, which refuse some input before farfield itself does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# Kinds of data


def test_folders_of_pictures(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/2.png", "cat/3.png"):
        picture(tmp_path / "pets" / name)
    plain = open_data(str(tmp_path / "pets"))
    assert isinstance(plain, Files)
    assert (plain.paths, plain.folders, plain.name) == (("cat/2.png", "cat/3.png", "dog/1.png"), (), "pets")
    classed = open_data(str(tmp_path / "pets"), name="test", labelled=True)
    assert isinstance(classed, Files)
    assert (classed.folders, classed.name) == (("cat", "cat", "dog"), "test")
    labelled = inputs.labelled_data(classed, 2, ["dog", "cat"], None)
    assert isinstance(labelled, Files)
    assert labelled.labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".lst", ".list", ".imglist", ".TXT", ".Csv"])
def test_lists(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list{suffix}"
    path.write_text("path,label\na b.png,3\n" if suffix.lower() == ".csv" else "a b.png 3\n")
    (tmp_path / "root").mkdir()
    found = open_data(str(path), root=tmp_path / "root")
    assert isinstance(found, Files)
    assert (found.paths, found.labels.tolist(), found.root, found.name) == (("a b.png",), [3], tmp_path / "root", "list")


def test_one_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a b.PNG")
    (tmp_path / "folder").mkdir()
    picture(tmp_path / "folder" / "c.png")
    one, other = str(tmp_path / "a b.PNG"), str(tmp_path / "folder" / "c.png")
    (text, found), (_, rest), (_, last) = inputs.open_several([one, other, str(tmp_path / "folder"), one])
    assert isinstance(found, Files) and isinstance(rest, Files)
    assert (text, len(found), found[0][0].size, found[0][1], len(rest), len(last)) == ("2 files", 2, (4, 3), -1, 1, 1)
    assert [inputs.name_of(found, row, "x") for row in range(2)] == [one, other]
    with pytest.raises(ff.InputError, match=r"is no data: give a folder, a list .* or arrays"):
        open_data(str(tmp_path / "a b.PNG"))
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ff.InputError, match=r"notes\.md' is no data"):
        inputs.open_several([str(tmp_path / "notes.md")])


def test_a_store(tmp_path: Path) -> None:
    net = ff.Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), transform=lambda x: x, input_size=(3, 2, 2))
    stored = ff.collect(net, [(torch.full((3, 2, 2), float(i)), i) for i in range(6)], out=tmp_path)
    found = open_data(str(stored.folder))
    assert isinstance(found, Stored)
    assert found.load().labels.tolist() == [0, 1, 2, 3, 4, 5]  # type: ignore[union-attr]
    some = limited(found, 2)
    assert isinstance(some, Outputs)
    assert len(some) == 2
    assert some.labels is not None and some.ids is not None
    assert some.labels.tolist() == some.ids.tolist()
    assert limited(found, 6) is found


def test_a_hugging_face_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    images = [Image.new("RGB", (2, 2), (i, 0, 0)) for i in range(20)]
    whole = datasets.Dataset.from_dict({"image": images, "label": [i % 2 for i in range(20)]}, features)
    datasets.DatasetDict({"train": whole}).save_to_disk(tmp_path / "set")
    found = open_data(f"hf:{tmp_path / 'set'}:train", name="mine")
    assert isinstance(found, Hub)
    assert (len(found), found.name, found.labels.tolist()) == (20, "mine", [0, 1] * 10)
    some = limited(found, 5)
    assert isinstance(some, Hub)
    reds = [some[i][0].getpixel((0, 0))[0] for i in range(5)]
    assert reds == sorted(set(reds))
    assert some.labels.tolist() == [red % 2 for red in reds]
    without = unlabelled(found)
    assert isinstance(without, Hub)
    assert (without.labels.tolist(), without.folders) == ([-1] * 20, ())
    assert inputs.name_of(found, 7, "x") == "mine[7]"
    assert [inputs.name_of(some, i, "x") for i in range(5)] == [f"mine[{red}]" for red in reds]


def test_what_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "x.png")
    with pytest.raises(ff.InputError, match=r"There is no file or folder '.*/picturse'; did you mean 'pictures'\?$"):
        open_data(str(tmp_path / "picturse"))
    with pytest.raises(ff.InputError, match=r"There is no file or folder '.*/nowhere/x'\.$"):
        open_data(str(tmp_path / "nowhere" / "x"))
    for text in ("hf:", "python:"):
        with pytest.raises(ff.InputError, match=f"There is no file or folder '{text}'"):
            open_data(text)


# Arrays


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "logits": rng.normal(size=(5, 3)).astype(np.float32),
        "features": rng.normal(size=(5, 4)).astype(np.float32),
        "labels": np.array([0, 1, 2, 0, 1]),
        "ids": np.array([9, 8, 7, 6, 5]),
        "head.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "head.bias": np.array([1, 2, 3], np.float32),
    }


def check_columns(outputs: Any) -> None:
    assert isinstance(outputs, Outputs)
    assert outputs.head is not None
    expected = columns()
    assert set(outputs.columns()) == {"logits", "features", "labels", "ids"}
    for name, value in outputs.columns().items():
        assert np.array_equal(value.numpy(), expected[name])
    assert np.array_equal(outputs.head.weight.numpy(), expected["head.weight"])
    assert np.array_equal(outputs.head.bias.numpy(), expected["head.bias"])


def test_arrays_in_each_format(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", **columns())
    save_file({name: torch.from_numpy(value) for name, value in columns().items()}, tmp_path / "all.safetensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "prefixed").mkdir()
    for (name, value), sign in zip(columns().items(), ("_", "-", ".") * 2, strict=True):
        np.save(tmp_path / "folder" / f"{name}.npy", value)
        np.save(tmp_path / "prefixed" / f"resnet{sign}{name}.npy", value)
    for name in ("all.npz", "all.safetensors", "folder", "prefixed"):
        check_columns(open_data(str(tmp_path / name)))


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "npy"])
def test_the_case_of_an_ending_does_not_matter(tmp_path: Path, suffix: str) -> None:
    logits = columns()["logits"]
    with open(tmp_path / f"x_logits.{suffix.upper()}", "wb") as file:  # noqa: PTH123
        if suffix == "npz":
            np.savez(file, logits=logits)
        elif suffix == "npy":
            np.save(file, logits)
    if suffix == "safetensors":
        save_file({"logits": torch.from_numpy(logits)}, tmp_path / "x_logits.SAFETENSORS")
    found = open_data(str(tmp_path / f"x_logits.{suffix.upper()}"))
    assert isinstance(found, Outputs)
    assert found.logits is not None
    assert np.array_equal(found.logits.numpy(), logits)


def test_one_array_says_by_its_name_what_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "vit_b-features.npy", columns()["features"])
    found = read_arrays(tmp_path / "vit_b-features.npy")
    assert set(found.columns()) == {"features"}
    np.save(tmp_path / "vit.npy", columns()["features"])
    with pytest.raises(ff.InputError, match=r"vit\.npy does not say what it holds: its name must end in one of logits, features"):
        read_arrays(tmp_path / "vit.npy")


def test_a_head_without_a_bias_has_zeros(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{name: value for name, value in columns().items() if name != "head.bias"})
    found = read_arrays(tmp_path / "x.npz")
    assert found.head is not None
    assert found.head.bias.tolist() == [0, 0, 0]


def test_large_arrays_are_mapped_and_writing_to_them_leaves_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", columns()["logits"])
    found = read_arrays(tmp_path / "logits.npy")
    assert found.logits is not None
    found.logits.zero_()
    assert np.array_equal(np.load(tmp_path / "logits.npy"), columns()["logits"])


class Trap:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


BROKEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty-npy": ("logits.npy", lambda: b""),
    "text-npy": ("logits.npy", lambda: b"hello, this is no array at all"),
    "short-npy": ("logits.npy", lambda: npy(np.ones((50, 50)))[:600]),
    "objects-npy": ("logits.npy", lambda: npy(np.array([Trap()], dtype=object))),
    "pickle-npy": ("logits.npy", lambda: pickle.dumps(Trap())),
    "strings-npy": ("logits.npy", lambda: npy(np.array(["a", "b"]))),
    "dates-npy": ("logits.npy", lambda: npy(np.array(["2020-01-01"], "datetime64[D]"))),
    "zip-npy": ("logits.npy", lambda: b"PK\x03\x04" + bytes(100)),
    "empty-npz": ("x.npz", lambda: b""),
    "text-npz": ("x.npz", lambda: b"PK\x03\x04 no zip"),
    "empty-safetensors": ("x.safetensors", lambda: b""),
    "text-safetensors": ("x.safetensors", lambda: b"hello, this is no array at all"),
    "pickle-safetensors": ("x.safetensors", lambda: pickle.dumps(Trap())),
}


def said_of(path: Path, reader: Callable[[Path], Any]) -> str:
    with pytest.raises(ff.InputError) as caught:
        reader(path)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves a broken zip file open
@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("reader", [lambda path: open_data(str(path)), read_scores], ids=["data", "scores"])
def test_broken_arrays_and_pickles_are_refused(tmp_path: Path, case: str, reader: Callable[[Path], Any]) -> None:
    name, content = BROKEN[case]
    (tmp_path / name).write_bytes(content())
    message = said_of(tmp_path / name, reader)
    gc.collect()
    assert str(tmp_path / name) in message
    assert "\n" not in message


def test_pickles_inside_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", allow_pickle=True, logits=np.array([Trap()], dtype=object))
    with pytest.raises(ff.InputError, match=r"x\.npz cannot be read"):
        open_data(str(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", allow_pickle=True, scores=np.array([Trap()], dtype=object))
    with pytest.raises(ff.InputError, match=r"x\.npz cannot be read"):
        read_scores(tmp_path / "x.npz")


def test_arrays_of_other_names_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", logit=columns()["logits"])
    with pytest.raises(ff.InputError, match=r"x\.npz has an array 'logit'; did you mean 'logits'\? Farfield reads logits, features, labels"):
        open_data(str(tmp_path / "x.npz"))
    np.savez(tmp_path / "none.npz")
    with pytest.raises(ff.InputError, match=r"none\.npz has no arrays"):
        open_data(str(tmp_path / "none.npz"))
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "means.npy", columns()["logits"])
    with pytest.raises(ff.InputError, match=r"means\.npy does not say what it holds"):
        open_data(str(tmp_path / "folder"))


UNFIT: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "rows": (
        {"logits": np.ones((5, 3), np.float32), "labels": np.zeros(4, np.int64)},
        r"must have one row per sample; got \{'logits': 5, 'labels': 4\}",
    ),
    "logits": (
        {"logits": np.ones((5, 2), np.float32), "head.weight": np.ones((3, 4), np.float32)},
        "`logits` has 2 columns but the head has 3",
    ),
    "features": (
        {"features": np.ones((5, 3), np.float32), "head.weight": np.ones((3, 4), np.float32)},
        "`features` has 3 columns but the head has 4",
    ),
    "dimensions": ({"logits": np.ones(5, np.float32)}, r"`logits` must have 2 dimensions; got shape \(5,\)"),
    "labels": ({"labels": np.ones(5, np.float32)}, "`labels` must be whole numbers; got torch.float32"),
    "bias": ({"head.weight": np.ones((3, 4), np.float32), "head.bias": np.ones(4, np.float32)}, "A head has a weight"),
    "flat-weight": ({"head.weight": np.ones(3, np.float32)}, "A head has a weight"),
    "number-weight": ({"head.weight": np.float32(1)}, "A head has a weight"),  # type: ignore[dict-item]
    "number-logits": ({"logits": np.float32(1)}, "`logits` must be a tensor with a row per sample"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("case", UNFIT)
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, case: str, as_users_have_it: None) -> None:
    columns, message = UNFIT[case]
    np.savez(tmp_path / "x.npz", **columns)
    with pytest.raises(ff.InputError, match=rf"x\.npz: .*{message}"):
        open_data(str(tmp_path / "x.npz"))


def test_a_bias_without_a_weight_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{"head.bias": np.ones(3, np.float32)})
    with pytest.raises(ff.InputError, match="head"):
        open_data(str(tmp_path / "x.npz"))


# Scores


def scores(tmp_path: Path, text: str | bytes, name: str = "scores.csv") -> list[float]:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_scores(tmp_path / name).tolist()


def test_a_csv_of_farfield(tmp_path: Path) -> None:
    text = 'path,class,score,error\na.png,dog,0.25,\n"b, c.png",1,-3e2,\n"new\nline.png",2,inf,\nbroken.png,,,the file is empty\nd.png,0,7,\n'
    assert scores(tmp_path, text) == [0.25, -300.0, float("inf"), 7.0]
    assert scores(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()) == [0.25, -300.0, float("inf"), 7.0]
    assert scores(tmp_path, " score , path\n1,x\n2,y\n", "scores.txt") == [1.0, 2.0]


@pytest.mark.parametrize("text", ["1.5\n-2\n\n3e-1\n", "score\n1.5\n-2\n0.3", "\ufeff1.5\r\n -2 \r\n.3\r\n"])
def test_a_csv_of_one_column(tmp_path: Path, text: str) -> None:
    assert scores(tmp_path, text) == [1.5, -2.0, 0.3]


def test_json_lines(tmp_path: Path) -> None:
    text = '{"path": "a.png", "score": 0.5}\n\n{"score": null, "error": "x"}\n{"score": -2}\n{"score": 1e3}\n'
    for name in ("x.jsonl", "x.ndjson", "x.json"):
        assert scores(tmp_path, text, name) == [0.5, -2.0, 1000.0]
    assert scores(tmp_path, "0.5\n1\nnull\n", "x.jsonl") == [0.5, 1.0]


def test_nan_is_kept_for_who_reads_it_to_refuse(tmp_path: Path) -> None:
    for name, text in (("x.csv", "score\n1\nnan\nNaN\n"), ("x.jsonl", '{"score": 1}\n{"score": NaN}\nNaN\n')):
        found = np.array(scores(tmp_path, text, name))
        assert np.isnan(found).tolist() == [False, True, True]
    np.save(tmp_path / "x.npy", np.array([1, np.nan]))
    assert np.isnan(read_scores(tmp_path / "x.npy")).tolist() == [False, True]


def test_scores_as_arrays(tmp_path: Path) -> None:
    values = np.array([3, -1, 2])
    for dtype in (np.float64, np.float32, np.float16, np.int64, np.uint8):
        np.save(tmp_path / "x.npy", np.abs(values).astype(dtype))
        found = read_scores(tmp_path / "x.npy")
        assert (found.dtype, found.tolist()) == (np.float64, [3, 1, 2])
    (tmp_path / "X.NPY").write_bytes(npy(values))
    np.savez(tmp_path / "one.npz", msp=values)
    np.savez(tmp_path / "several.npz", other=np.zeros(9), scores=values)
    save_file({"energy": torch.tensor([3.0, -1.0, 2.0], dtype=torch.bfloat16)}, tmp_path / "one.safetensors")
    save_file({"scores": torch.tensor([3, -1, 2]), "other": torch.zeros(2, 2)}, tmp_path / "several.safetensors")
    for name in ("X.NPY", "one.npz", "several.npz", "one.safetensors", "several.safetensors"):
        assert read_scores(tmp_path / name).tolist() == [3, -1, 2], name


def test_arrays_that_are_no_scores_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(2), b=np.ones(2))
    with pytest.raises(ff.InputError, match="holds a, b; call the scores `scores`"):
        read_scores(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz")
    with pytest.raises(ff.InputError, match="holds nothing"):
        read_scores(tmp_path / "x.npz")
    wrong = {"float64 of shape": np.ones((2, 2)), "shape ()": np.float64(1), "bool of shape": np.ones(2, bool), "complex128": np.ones(2, complex)}
    for message, value in wrong.items():
        np.save(tmp_path / "x.npy", value)
        with pytest.raises(ff.InputError, match="must hold one number a sample; it holds ") as caught:
            read_scores(tmp_path / "x.npy")
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "path,score\na,1\nb,high\n", "Line 3 of .* has the score 'high', which is no number"),
        ("x.csv", 'path,score\n"two\nlines",1\nb,high\n', "Line 4 of .* has the score 'high'"),
        ("x.csv", "msp\n0.5\n", "Line 1 of .* has the score 'msp'"),
        ("x.csv", "path,msp\na,1\n", r"has no column `score`; its header is \['path', 'msp'\]"),
        ("x.csv", 'path,score\n"a,1\n', "are no CSV"),
        ("x.csv", "", "has no scores"),
        ("x.csv", "path,score\n", "has no scores"),
        ("x.csv", "path,score\na,\n", "has no scores"),
        ("x.jsonl", '{"score": 1}\n{"scores": 1}\n', "Line 2 of .* is no JSON with a `score`"),
        ("x.jsonl", '{"score": 1}\n\n{score: 1}\n', "Line 3 of .* is no JSON with a `score`"),
        ("x.jsonl", '{"score": 1}\n{"score": true}\n', "Line 2 of .* has the score 'True', which is no number"),
        ("x.jsonl", '{"score": "high"}\n', "Line 1 of .* has the score 'high'"),
        ("x.jsonl", '{"score": [1]}\n', r"Line 1 of .* has the score '\[1\]'"),
        ("x.json", "[1, 2]\n", "Line 1 of .* has the score"),
        ("x.jsonl", '{"score": 1' + "0" * 400 + "}\n", "Line 1 of "),
        ("x.jsonl", "[" * 100_000, "Line 1 of .* is no JSON"),
        ("x.jsonl", "", "has no scores"),
    ],
)
def test_what_is_no_score_is_named_by_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=message):
        scores(tmp_path, text, name)


def test_scores_that_are_not_there_or_no_text_are_refused(tmp_path: Path) -> None:
    for name in ("x.csv", "x.jsonl", "x.npy", "x.npz", "x.safetensors"):
        with pytest.raises(ff.InputError, match=rf"x\.{name[2:]}"):
            read_scores(tmp_path / name)
    with pytest.raises(ff.InputError, match="cannot be read"):
        scores(tmp_path, b"1\n\xff\n")


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0c"])
def test_no_score_is_lost_to_a_strange_name(tmp_path: Path, sign: str) -> None:
    assert scores(tmp_path, f"path,class,score,error\na.png,0,1,\nb{sign}c.png,0,2,\nd.png,0,3,\n") == [1, 2, 3]
    assert scores(tmp_path, f"score,path\n1,a.png\n2,b{sign}c.png\n3,d.png\n") == [1, 2, 3]
    if sign != "\x0c":  # JSON writes that one in another way
        assert scores(tmp_path, f'{{"path": "a{sign}b", "score": 1}}\n{{"score": 2}}\n', "x.jsonl") == [1, 2]


# Some of the data


class Squares:
    """A user's own data set."""

    name = "squares"

    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 2, 2), index, dtype=torch.int32), index // 40


def sorted_labels() -> torch.Tensor:
    return torch.arange(400) // 40


def outputs_of(n: int) -> Outputs:
    return Outputs(logits=torch.arange(n)[:, None].float().repeat(1, 10), labels=torch.arange(n) // 40, ids=torch.arange(n))


def images_of(n: int) -> Images:
    images = (torch.arange(n) % 256).to(torch.uint8)[:, None, None, None].repeat(1, 3, 2, 2)
    return Images("i", images, torch.arange(n) // 40, clusters=torch.arange(n), parts={"first": slice(0, 5)})


def rows_of(data: Any) -> list[tuple[int, int]]:
    """For each sample its row in the whole, by its content, and its label."""
    if isinstance(data, Outputs):
        assert data.logits is not None and data.labels is not None
        return list(zip(data.logits[:, 0].int().tolist(), data.labels.tolist(), strict=True))
    if isinstance(data, Images):
        assert data.clusters is not None
        assert data.images[:, 0, 0, 0].tolist() == (data.clusters % 256).tolist()
        return list(zip(data.clusters.tolist(), data.labels.tolist(), strict=True))
    if isinstance(data, Files):
        assert [folder[1:] for folder in data.folders] == [str(label) for label in data.labels.tolist()]
        return [(int(Path(path).stem), label) for path, label in zip(data.paths, data.labels.tolist(), strict=True)]
    return [(int(data[i][0][0, 0, 0]), data[i][1]) for i in range(len(data))]


KINDS: dict[str, Callable[[], Any]] = {
    "outputs": lambda: outputs_of(400),
    "files": lambda: Files("f", Path(), tuple(f"{i}.png" for i in range(400)), sorted_labels(), tuple(f"c{i // 40}" for i in range(400))),
    "images": lambda: images_of(400),
    "own": Squares,
    "list": lambda: [Squares()[i] for i in range(400)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_takes_rows_of_all_classes_in_order_and_the_same_each_time(kind: str) -> None:
    whole = KINDS[kind]()
    some = limited(whole, 100)
    rows = rows_of(some)
    assert len(some) == len(rows) == 100
    assert [row for row, _ in rows] == sorted({row for row, _ in rows})
    assert all(label == row // 40 for row, label in rows)
    counts = np.bincount([label for _, label in rows], minlength=10)
    assert counts.min() >= 1 and counts.max() <= 25  # of 40 in each class; ten are expected, give or take three
    assert rows_of(limited(KINDS[kind](), 100)) == rows
    assert {row for row, _ in rows_of(limited(whole, 50))} < {row for row, _ in rows}
    for limit in (None, 400, 1000):
        assert limited(whole, limit) is whole


def test_a_limit_of_pictures_in_memory_leaves_the_parts_whose_rows_are_gone() -> None:
    some = limited(images_of(400), 10)
    assert isinstance(some, Images)
    assert not some.parts
    without = limited(replace(images_of(400), clusters=None, parts={}), 10)
    assert isinstance(without, Images)
    assert without.clusters is None


def test_the_items_of_a_limited_data_set_go_by_the_name_of_the_whole() -> None:
    assert getattr(limited(Squares(), 7), "name", None) == "squares"
    assert getattr(limited([1, 2, 3], 2), "name", None) == "list"


def test_another_item_of_a_limited_list_is_other_data() -> None:
    """Else a store would be found again that is of the items before."""
    whole = [Squares()[i] for i in range(400)]
    some = limited(whole, 100)
    before = contents(some)  # type: ignore[arg-type]
    rows = [row for row, _ in rows_of(some)]
    whole[rows[50]] = (whole[rows[50]][0] + 1000, 3)
    assert contents(limited(whole, 100)) != before  # type: ignore[arg-type]


def test_a_limited_sample_goes_by_its_own_row() -> None:
    some = limited(Squares(), 7)
    assert [inputs.name_of(some, i, "python:x:y") for i in range(7)] == [f"python:x:y[{row}]" for row, _ in rows_of(some)]


def test_ood_data_have_no_labels() -> None:
    files = unlabelled(KINDS["files"]())
    assert isinstance(files, Files)
    assert (set(files.labels.tolist()), files.folders) == ({-1}, ())


def test_data_without_names_of_classes_are_taken_as_they_are() -> None:
    outputs = outputs_of(3)
    assert inputs.labelled_data(outputs, 2, ["a", "b"], None) is outputs
    with pytest.raises(ff.InputError, match="label 9"):
        inputs.labelled_data(replace(KINDS["files"](), folders=()), 9, None, None)


# Functions


def test_a_function_of_the_working_folder_makes_data(here: Path) -> None:
    source = """
        import torch
        from farfield.outputs import Outputs
        def pairs(): return [(torch.zeros(3, 2, 2), 1)] * 4
        def given(): return Outputs(logits=torch.ones(2, 3))
        def number(): return 7
        def stream(): return iter([1])
    """
    (here / "my_data_functions.py").write_text("\n".join(line[8:] for line in source.splitlines()))
    assert len(open_data("python:my_data_functions:pairs")) == 4
    given = open_data("python:my_data_functions:given")
    assert isinstance(given, Outputs)
    assert len(given) == 2
    for name, kind in (("number", "int"), ("stream", "list_iterator")):
        with pytest.raises(ff.InputError, match=f"python:my_data_functions:{name} must return a data set .*; it returns a {kind}"):
            open_data(f"python:my_data_functions:{name}")


def test_functions_that_fail_say_how(here: Path) -> None:
    source = """
        from farfield.errors import InputError
        value = 3
        def divides(): return 1 / 0
        def refuses(): raise InputError("No such camera.")
        def needs(camera): return camera
    """
    (here / "my_bad_functions.py").write_text("\n".join(line[8:] for line in source.splitlines()))
    (here / "my_broken_module.py").write_text("import no_such_module_at_all\n")
    (here / "my_unparsable_module.py").write_text("def (:\n")
    cases = {
        "my_bad_functions:divides": r"divides of my_bad_functions fails: ZeroDivisionError: division by zero\.",
        "my_bad_functions:refuses": r"^No such camera\.$",
        "my_bad_functions:needs": "needs of my_bad_functions fails: TypeError: .*camera",
        "my_bad_functions:divide": "my_bad_functions has no function 'divide'; did you mean 'divides'",
        "my_bad_functions:value": "my_bad_functions has no function 'value'",
        "my_broken_module:x": r"'my_broken_module' of python:my_broken_module:x cannot be imported \(ModuleNotFoundError: .*no_such_module_at_all",
        "my_unparsable_module:x": r"cannot be imported \(SyntaxError",
        "no_such_module_either:x": r"cannot be imported \(ModuleNotFoundError",
        "..:x": "cannot be imported",
    }
    for text, message in cases.items():
        with pytest.raises(ff.InputError, match=message):
            open_data(f"python:{text}")


@pytest.mark.parametrize("text", ["module", "module:", ":function", ":"])
def test_half_a_name_of_a_function_is_refused(here: Path, text: str) -> None:
    with pytest.raises(ff.InputError, match=f"python:{text} does not name a function for data; write python:module:function"):
        plugins.call(text, "data")


def test_what_is_given_to_a_function_call_is_what_it_returns(here: Path) -> None:
    (here / "my_model_function.py").write_text(f"def make(): return {json.dumps([1, 2])}\n")
    assert plugins.call("my_model_function:make", "a classifier") == [1, 2]
    assert plugins.call("collections:OrderedDict", "a classifier") == {}

"""A person's own model and own folders, from the command to the files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import stats

import farfield as ff
import farfield.inputs
import farfield.models
from farfield import cli

Run = Callable[..., tuple[int, str, str]]
COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}
MODEL = """
import torch
from torch import nn
from farfield import Classifier
from farfield.data.transforms import Preprocess

def net(seed=0, **more):
    torch.manual_seed(seed)
    body = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():  # features are tints, and the logits pick the strongest of blue, green, red
        body[2].weight.copy_(torch.eye(3).repeat_interleave(4, 1).repeat(3, 1)[:8] / 4 + 0.01 * torch.randn(8, 12))
        body[2].bias.zero_()
        body[4].weight.copy_(4 * torch.eye(8)[[2, 1, 0]])
        body[4].bias.zero_()
    return Classifier.wrap(body, transform=Preprocess(resize=8, crop=8), name="tints", input_size=(3, 8, 8), **more)

def labelled():
    return net(labels=("blue", "green", "red"))

def other():
    return net(seed=1)
"""


def picture(colour: tuple[int, int, int], random: np.random.Generator) -> Image.Image:
    return Image.fromarray(np.clip(random.normal(colour, 40, (12, 16, 3)), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of pictures and a model, made once."""
    folder, random = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    for split, n in (("train", 20), ("test", 15)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                picture(colour, random).save(folder / split / name / f"{i:02d}.png")
    (folder / "grey").mkdir()
    for i in range(15):
        picture((128, 128, 128), random).save(folder / "grey" / f"{i:02d}.png")
    (folder / "noise").mkdir()
    for i in range(12):
        Image.fromarray(random.integers(0, 256, (10, 10, 3), dtype=np.uint8)).save(folder / "noise" / f"{i} é,\n.png")
    (folder / "my_tints.py").write_text(MODEL)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder with links to what was made; its status, stdout and stderr."""
    for entry in made.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_tints", None)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["farfield", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return command


BENCH = ("bench", "--model", "python:my_tints:labelled", "--id-train", "train", "--id-test", "test", "--near", "grey=grey", "--far", "noise=noise")


def refused(run: Run, *arguments: str) -> str:
    """The one sentence with which a command ends."""
    status, out, err = run(*arguments)
    assert (status, out) == (2, ""), err
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("farfield: "), err
    return lines[0]


def test_bench_on_folders_of_ones_own(run: Run, tmp_path: Path) -> None:
    status, out, err = run(*BENCH, "--detector", "msp", "--detector", "mahalanobis", "--name", "tints", "--json")
    assert status == 0, err
    results = json.loads(out)
    assert {(row["detector"], row["ood"], row["group"]) for row in results["rows"]} == {
        (detector, ood, group)
        for detector in ("msp", "mahalanobis")
        for ood, group in (("grey", "near"), ("noise", "far"), (None, "near"), (None, "far"))
    }
    assert {(row["n_id"], row["n_ood"]) for row in results["rows"]} == {(45, 15), (45, 12)}
    assert results["classifiers"][0]["id_accuracy"] == 1.0
    assert results["unreadable"] == []
    scores = load_file(tmp_path / "farfield-out" / "scores" / "tints" / "tints.safetensors")
    s_in, s_out = scores["mahalanobis/test"].double().numpy(), scores["mahalanobis/grey"].double().numpy()
    row = next(row for row in results["rows"] if (row["detector"], row["ood"]) == ("mahalanobis", "grey"))
    assert row["auroc"] == pytest.approx(stats.mannwhitneyu(s_in, s_out).statistic / (45 * 15))
    again = json.loads(run(*BENCH, "--detector", "msp", "--detector", "mahalanobis", "--name", "tints", "--json")[1])
    assert again["rows"] == results["rows"]
    assert again["cost"]["forward_seconds"] == 0


def test_what_a_file_says_is_what_options_say(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        'model = "python:my_tints:labelled"\nid-train = "train"\nid-test = "test"\ndetector = ["msp"]\nlimit = 30\nout = "there"\n'
        '[near]\ngrey = "grey"\n[far]\nnoise = "noise"\n'
    )
    status, _, err = run("bench", "--config", "run.toml")
    assert status == 0, err
    one = json.loads((tmp_path / "there" / "results.json").read_text())
    run(*BENCH, "--detector", "msp", "--limit", "30")
    other = json.loads((tmp_path / "farfield-out" / "results.json").read_text())
    assert one["rows"] == other["rows"]
    assert one["rows"][0]["n_id"] == 30
    run("bench", "--config", "run.toml", "--detector", "energy", "--out", "third")
    assert {row["detector"] for row in json.loads((tmp_path / "third" / "results.json").read_text())["rows"]} == {"energy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modl = 'x'", "unknown key 'modl'; did you mean 'model'?"),
        ("limit = '30'", "'limit' takes a whole number from 1 to 10000000000; got '30'"),
        ("limit = 0", "'limit' takes a whole number from 1 to 10000000000; got 0"),
        ("workers = true", "'workers' takes a whole number from 0 to 256; got True"),
        ("strict = 1", "'strict' takes true or false; got 1"),
        ("detector = [1]", "'detector' takes a text or a list of texts"),
        ("[near]\na = 1", "'near' takes a table of NAME = DATA"),
        ("= 3", "cannot be read as TOML"),
    ],
)
def test_a_broken_file_of_options_is_refused(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    assert message in refused(run, "bench", "--config", "run.toml")


def test_fit_then_score_then_metrics(run: Run, tmp_path: Path) -> None:
    status, _, err = run("fit", "--model", "python:my_tints:labelled", "--id-train", "train", "--detector", "knn:k=3", "--out", "new/d.safetensors")
    assert (status, "knn:k=3 fitted on 60 samples" in err) == (0, True), err
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / 'broken, "one".png').write_bytes(b"no picture")
    shutil.copy(next((tmp_path / "noise").glob("7*")), tmp_path / "mixed")
    shutil.copy(tmp_path / "test" / "red" / "03.png", tmp_path / "mixed")
    status, out, err = run("score", "new/d.safetensors", "mixed", "test/green/01.png", "--model", "python:my_tints:labelled")
    assert status == 0 and "1 of 3 pictures of mixed cannot be read" in err
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert [row["path"] for row in rows] == ["mixed/03.png", "mixed/7 é,\n.png", 'mixed/broken, "one".png', "test/green/01.png"]
    assert [row["class"] for row in (rows[0], rows[3])] == ["red", "green"]
    assert (rows[2]["class"], rows[2]["score"], rows[2]["error"]) == ("", "", "it is no picture of a known format")
    detector, classifier = ff.load(tmp_path / "new" / "d.safetensors"), ff.Classifier.load("python:my_tints:labelled")
    train = ff.collect(classifier, [(Image.open(tmp_path / "train" / name / f"{i:02d}.png"), k) for k, name in enumerate(COLOURS) for i in range(20)])
    one = ff.collect(classifier, [Image.open(tmp_path / "mixed" / "03.png")])
    distances = torch.cdist(torch.nn.functional.normalize(one.features.double()), torch.nn.functional.normalize(train.features.double()))  # type: ignore[arg-type]
    assert float(rows[0]["score"]) == pytest.approx(-float(distances.sort().values[0, 2]), rel=1e-4)
    assert float(rows[0]["score"]) == pytest.approx(float(detector(one)[0]), rel=1e-4)
    run("score", "new/d.safetensors", "test", "--model", "python:my_tints:labelled", "--out", "id.csv")
    run("score", "new/d.safetensors", "noise", "--model", "python:my_tints:labelled", "--out", "ood.jsonl", "--format", "jsonl")
    s_in = [float(row["score"]) for row in csv.DictReader((tmp_path / "id.csv").open(newline=""))]
    s_out = [json.loads(line)["score"] for line in (tmp_path / "ood.jsonl").read_text().splitlines()]
    status, out, _ = run("metrics", "id.csv", "noise=ood.jsonl", "--json")
    row = json.loads(out)["rows"][0]
    assert (status, len(s_in), len(s_out), row["ood"]) == (0, 45, 12, "noise")
    assert row["auroc"] == pytest.approx(stats.mannwhitneyu(s_in, s_out).statistic / (45 * 12))
    flipped = json.loads(run("metrics", "ood.jsonl", "id.csv", "--json", "--ood-is-high")[1])["rows"][0]
    assert flipped["auroc"] == pytest.approx(row["auroc"])
    two = json.loads(run("metrics", "id.csv", "a=ood.jsonl", "b=ood.jsonl", "--json")[1])["rows"]
    assert two[2]["ood"] is None and two[2]["auroc"] == pytest.approx(row["auroc"])
    assert "AUROC" in run("metrics", "id.csv", "ood.jsonl")[1]


def test_a_detector_refuses_another_model_before_it_runs(run: Run) -> None:
    run("fit", "--model", "python:my_tints:labelled", "--id-train", "train", "--detector", "mahalanobis", "--out", "d.safetensors")
    said = refused(run, "score", "d.safetensors", "test", "--model", "python:my_tints:other")
    assert "fitted on another model than tints" in said


def test_arrays_need_no_model(run: Run, tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 5, generator=random), torch.randn(3, generator=random)

    def outputs(n: int, shift: float) -> dict[str, torch.Tensor]:
        features = torch.randn(n, 5, generator=random) + shift
        return {"features": features, "logits": features @ weight.T + bias}

    train, test, strange = outputs(90, 0.0), outputs(50, 0.0), outputs(40, 3.0)
    train["labels"], test["labels"] = train["logits"].argmax(1), test["logits"].argmax(1)
    save_file({**train, "head.weight": weight, "head.bias": bias}, tmp_path / "train.safetensors")
    (tmp_path / "arrays").mkdir()
    for name, value in test.items():
        np.save(tmp_path / "arrays" / f"{name}.npy", value.numpy())
    np.savez(tmp_path / "strange.npz", **{name: value.numpy() for name, value in strange.items()})
    status, out, err = run(
        "bench", "--id-train", "train.safetensors", "--id-test", "arrays", "--far", "strange=strange.npz",
        "--detector", "energy", "--detector", "mahalanobis", "--detector", "react+energy", "--json",
    )  # fmt: skip
    assert status == 0, err
    results = json.loads(out)
    assert results["refused"] == []
    assert results["classifiers"][0]["name"] == "given outputs" and results["classifiers"][0]["id_accuracy"] == 1.0
    energy = [np.logaddexp.reduce(part["logits"].double().numpy(), 1) for part in (test, strange)]
    row = next(row for row in results["rows"] if row["detector"] == "energy")
    assert row["auroc"] == pytest.approx(stats.mannwhitneyu(*energy).statistic / 2000)
    status, out, err = run("bench", "--id-test", "arrays", "--far", "strange=strange.npz", "--detector", "energy", "--detector", "knn", "--json")
    assert status == 0, err
    assert [entry["detector"] for entry in json.loads(out)["refused"]] == ["knn"]
    assert "give --id-train" in json.loads(out)["refused"][0]["reason"]
    run("fit", "--id-train", "train.safetensors", "--detector", "knn:k=2", "--out", "k.safetensors")
    status, out, _ = run("score", "k.safetensors", "strange.npz")
    assert status == 0 and out.splitlines()[1].startswith("strange.npz[0],")
    assert len(out.splitlines()) == 41


def test_a_model_without_a_head_runs_what_reads_logits(run: Run, tmp_path: Path) -> None:
    (tmp_path / "distances.py").write_text(
        "import torch\nfrom torch import nn\nfrom farfield.data.transforms import Preprocess\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n        self.p = nn.Parameter(torch.randn(3, 3))\n"
        "    def forward(self, x):\n        return -torch.cdist(x.mean((2, 3)), self.p)\n"
        "def net():\n    return Net(), Preprocess(resize=8, crop=8)\n"
    )
    status, out, err = run(*("python:distances:net" if part == "python:my_tints:labelled" else part for part in BENCH), "--json")
    assert status == 0 and "no linear head" in err
    results = json.loads(out)
    assert {row["detector"] for row in results["rows"]} == {"msp", "maxlogit", "energy"}
    assert {entry["detector"] for entry in results["refused"]} == {"mahalanobis", "relative-mahalanobis++", "knn", "react+energy"}


def test_limit_takes_from_every_class(run: Run, tmp_path: Path) -> None:
    assert run(*BENCH, "--detector", "mahalanobis", "--limit", "12")[0] == 0
    listed = json.loads(run("store", "ls", "--json")[1])
    assert {(line["data"], line["items"], line["missing"]) for line in listed} == {
        ("train", 12, 0),
        ("test", 12, 0),
        ("grey", 12, 0),
        ("noise", 12, 0),
    }
    assert "samples and the model has 3 classes" in refused(run, *BENCH, "--limit", "2")


def test_stores_are_listed_checked_and_removed(run: Run, tmp_path: Path) -> None:
    run(*BENCH, "--detector", "msp")
    listed = json.loads(run("store", "ls", "--json")[1])
    assert len(listed) == 4 and "whole" in run("store", "ls")[1]
    assert run("store", "verify")[0] == 0
    folder = tmp_path / "farfield-out" / "store" / listed[0]["key"]
    shard = folder / "shard-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 8
    shard.write_bytes(content)
    status, out, err = run("store", "verify")
    assert status == 2 and f"{listed[0]['key']}: shard-00000.safetensors was changed" in out
    assert "1 of 4 stores are not whole" in err
    shard.unlink()
    assert "0 of 1 shards" in run("store", "ls")[1]
    assert run("store", "rm", "--incomplete", "--yes")[0] == 0
    assert not folder.exists()
    assert run("store", "rm", listed[1]["key"][:8], "--yes")[0] == 0
    assert "beginning of 0 stores" in refused(run, "store", "rm", "nothing", "--yes")
    assert "Say what to remove" in refused(run, "store", "rm")
    assert run("store", "rm", "--all", "--yes")[0] == 0
    assert json.loads(run("store", "ls", "--json")[1]) == []
    assert "There is no folder elsewhere" in refused(run, "store", "ls", "--store", "elsewhere")


def test_compare_says_which_differences_are_real(run: Run, tmp_path: Path) -> None:
    run(*BENCH, "--detector", "msp", "--out", "a")
    run(*BENCH, "--detector", "msp", "--out", "b")
    found = json.loads(run("compare", "a", "b/results.json", "--json")[1])["differences"]
    assert [(row["difference"], row["p_value"], row["real"], row["paired"]) for row in found] == [(0.0, 1.0, False, True)] * 4
    path = tmp_path / "b" / "scores" / "my-data" / "tints.safetensors"
    worse = {name: torch.rand(len(value), generator=torch.Generator().manual_seed(0)) for name, value in load_file(path).items()}
    save_file(worse, path)
    found = json.loads(run("compare", "a", "b", "--json")[1])["differences"]
    assert all(row["difference"] < 0 and row["real"] for row in found if row["auroc"][0] == 1.0)
    assert "worse" in run("compare", "a", "b")[1]
    assert "cannot be read as the results" in refused(run, "compare", "a", "nowhere")


def test_the_wrong_order_of_classes_is_seen(run: Run, tmp_path: Path) -> None:
    def with_model(*more: str) -> tuple[str, ...]:
        return (*(part.replace(":labelled", ":net") for part in BENCH), "--detector", "msp", *more)

    (tmp_path / "right.txt").write_text("blue\ngreen\nred\n")
    (tmp_path / "wrong.json").write_text('{"red": 0, "green": 2, "blue": 1}')
    status, _, err = run(*with_model("--class-map", "right.txt"))
    assert status == 0 and "another order" not in err
    status, _, err = run(*with_model("--class-map", "wrong.json"))
    assert status == 0
    assert re.search(r"warning: The labels of my-data seem to be in another order.*0\.0% of the test samples are right, and 100\.0% would be", err)
    said = refused(run, *BENCH, "--class-map", "wrong.json")
    assert "'blue' as class 1, and the model's own labels have it as class 0: the classes are in another order" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--id-test": "nowhere"}, "There is no file or folder 'nowhere'"),
        ({"--id-test": "tset"}, "'tset'; did you mean 'test'?"),
        ({"--id-train": "empty"}, "The folder empty has no images"),
        ({"--near": "grey=texts"}, "The folder texts has no images among its 1 files"),
        ({"--near": "grey"}, "--near takes NAME=DATA"),
        ({"--near": "far=grey"}, "The OOD set 'far' of my-data needs a name of its own"),
        ({"--near": "noise=grey"}, "There are two OOD sets called 'noise'"),
        ({"--id-test": "test/red"}, None),
        ({"--id-test": "one"}, "one has one class only, 'red', and the model has 3"),
        ({"--id-train": "list.txt"}, "has label 7, and the model's classes are 0 to 2"),
        ({"--model": "python:my_tints:nett"}, "my_tints has no function 'nett'; did you mean 'net'?"),
        ({"--model": "tim:resnet18"}, "No classifier 'tim:resnet18' ships"),
        ({"--model": "x.pt"}, "x.pt holds weights and does not say of which architecture"),
        ({"--detector": "mahalanobi"}, "There is no detector 'mahalanobi'; did you mean 'mahalanobis'?"),
        ({"--detector": "reac+energy"}, "There is no shaper 'reac'; did you mean 'react'?"),
        ({"--detector": "knn:kk=3"}, "knn has no option 'kk'; did you mean 'k'?"),
        ({"--detector": "knn:k=many"}, "knn's option k takes int; got 'many'"),
        ({"--detector": "knn:k=0"}, "KNN needs k >= 1; got k=0"),
        ({"--device": "abacus"}, "There is no device 'abacus' here"),
        ({"--preprocess": "crop=9,resize=8"}, "Preprocessing needs crop >= 1 and resize >= crop"),
        ({"--preprocess": "size=9"}, "Preprocessing has no 'size'"),
        ({"--limit": "0"}, "Invalid value for '--limit'"),
        ({"--class-map": "nowhere.txt"}, "The class map nowhere.txt cannot be read"),
        ({"--out": "list.txt/out"}, "The folder list.txt/out cannot be made"),
        ({"--weights": "w.safetensors"}, "`weights` are for timm:, torchvision: and zoo: models"),
        ({"--id-test": "somebody"}, "are of another model than tints"),
    ],
)
def test_bad_input_is_one_sentence(run: Run, tmp_path: Path, change: dict[str, str], message: str | None) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("no picture")
    (tmp_path / "one" / "red").mkdir(parents=True)
    shutil.copy(tmp_path / "test" / "red" / "00.png", tmp_path / "one" / "red")
    (tmp_path / "list.txt").write_text("test/red/00.png 0\ntest/red/01.png 7\ntest/red/02.png 1\n")
    if change.get("--id-test") == "somebody":
        run("fit", "--model", "python:my_tints:other", "--id-train", "train", "--detector", "knn", "--out", "d.safetensors", "--store", "s")
        (tmp_path / "somebody").symlink_to(next((tmp_path / "s").iterdir()))
    arguments = list(BENCH)
    for option, value in change.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        else:
            arguments += [option, value]
    if message is None:  # a flat folder is data without labels
        status, out, err = run(*arguments, "--detector", "msp", "--json")
        assert status == 0, err
        assert json.loads(out)["classifiers"][0]["id_accuracy"] is None
        assert "ID accuracy not known" in (tmp_path / "farfield-out" / "results.md").read_text()
        return
    assert message in refused(run, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bench", "--near", "grey=grey"), "--near goes with your own data, which needs --id-test too"),
        (("bench", "--id-test", "test", "--model", "python:my_tints:net"), "There is no OOD data"),
        (("bench", "--id-test", "test", "--far", "n=noise"), "is pictures, which need a classifier"),
        (("bench", "--suite", "glyphs-200", "--id-test", "test", "--far", "n=noise"), "exclude each other"),
        (("score", "nowhere.safetensors", "test"), "nowhere.safetensors cannot be read as a detector"),
        (("score", "d.csv", "test"), "d.csv cannot be read as a detector"),
        (("metrics", "nan.csv", "d.csv"), "have NaN in 1 of 3 rows, first at row 1"),
        (("metrics", "d.csv", "text.csv"), "Line 2 of text.csv has the score 'high', which is no number"),
        (("metrics", "d.csv", "nowhere.csv"), "The scores nowhere.csv cannot be read"),
        (("metrics", "d.csv", "d.csv", "d.csv"), "There are two OOD sets called 'd'"),
        (("fit", "--id-train", "train", "--detector", "knn", "--out", "d"), "train is pictures, which need a classifier"),
        (("bnch",), "No such command 'bnch'. Did you mean 'bench'?"),
        (("bench", "--modle", "x"), "No such option: --modle"),
    ],
)
def test_what_is_missing_is_said(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "d.csv").write_text("path,score\na,1\nb,2\n")
    (tmp_path / "nan.csv").write_text("score\n1\nnan\n2\n")
    (tmp_path / "text.csv").write_text("score\nhigh\n")
    assert message in refused(run, *arguments)


def test_strict_stops_where_a_picture_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    shutil.copy(tmp_path / "grey" / "00.png", tmp_path / "bad" / "b.png")
    arguments = [part.replace("grey=grey", "grey=bad") for part in BENCH]
    assert "bad/a.png cannot be read: the file is empty" in refused(run, *arguments, "--strict")
    status, out, err = run(*arguments, "--detector", "msp", "--json")
    assert status == 0 and "1 of 2 pictures of grey cannot be read" in err
    assert json.loads(out)["unreadable"] == [{"classifier": "tints", "set": "grey", "name": "bad/a.png", "reason": "the file is empty"}]


def test_names_that_are_no_text_are_written_as_what_they_are(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    odd = os.fsdecode(b"odd/\xff\x1b[31m.png")
    shutil.copy(tmp_path / "grey" / "00.png", odd)
    run("fit", "--model", "python:my_tints:net", "--id-train", "train", "--detector", "msp", "--out", "d.safetensors")
    status, _, err = run("score", "d.safetensors", "odd", "--model", "python:my_tints:net", "--out", "odd.csv")
    assert status == 0 and "\x1b" not in err
    assert b"\\udcff" in (tmp_path / "odd.csv").read_bytes()
    run("score", "d.safetensors", "odd", "--model", "python:my_tints:net", "--out", "odd.jsonl", "--format", "jsonl")
    assert json.loads((tmp_path / "odd.jsonl").read_text())["path"] == odd
    (tmp_path / "odd" / "b\x1b[31m.png").write_bytes(b"")
    _, _, err = run("score", "d.safetensors", "odd", "--model", "python:my_tints:net", "--out", "odd.csv")
    assert "\\x1b[31m.png: the file is empty" in err and "\x1b" not in err


@pytest.fixture
def detector_file(run: Run, tmp_path: Path) -> Path:
    assert run("fit", "--model", "python:my_tints:net", "--id-train", "train", "--detector", "knn:k=2", "--out", "d.safetensors")[0] == 0
    return tmp_path / "d.safetensors"


@pytest.mark.parametrize(
    "header",
    ["[]", "3", "{", '{"format": 1}', '{"format": 1, "detector": 3, "fingerprint": null}', '{"format": 1, "detector": {"class": "KNN", "settings": 3}, "fingerprint": null}',
     '{"format": 1, "detector": {"class": "KNN", "settings": {}}, "fingerprint": null}', '{"format": 1, "detector": {"class": [], "settings": {}}, "fingerprint": null}'],
)  # fmt: skip
def test_a_detector_file_with_a_broken_header_is_refused(run: Run, detector_file: Path, header: str) -> None:
    save_file(load_file(detector_file), detector_file, metadata={"farfield": header})
    assert "d.safetensors" in refused(run, "score", "d.safetensors", "test", "--model", "python:my_tints:net")


@pytest.mark.parametrize(
    ("fact", "value"),
    [("classes", "x"), ("classes", 0), ("architecture", []), ("architecture", "x"), ("mean", 3), ("mean", [0.5, 0.5]), ("std", [0, 0, 0]), ("labels", 7), ("labels", ["a"]), ("size", "x"), ("size", -1)],
)  # fmt: skip
def test_a_classifier_file_with_a_broken_header_is_refused(run: Run, tmp_path: Path, fact: str, value: object) -> None:
    facts = {"architecture": "resnet", "classes": 200, "mean": [0.5] * 3, "std": [0.5] * 3, fact: value}
    save_file(load_file(ff.models.shipped_path("glyphs-200-resnet")), tmp_path / "x.safetensors", metadata={"farfield": json.dumps(facts)})
    refused(run, "bench", "--model", "x.safetensors", "--id-test", "test", "--far", "n=noise")
    save_file(load_file(ff.models.shipped_path("glyphs-200-resnet")), tmp_path / "x.safetensors", metadata={"farfield": "{"})
    assert "its header is broken" in refused(run, "bench", "--model", "x.safetensors", "--id-test", "test", "--far", "n=noise")


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": None}, {"about": 3}, {"items": 10**30}, {"items": "3"}, {"rows": 0}, {"format": None}],
)
def test_a_store_with_broken_facts_is_told(run: Run, tmp_path: Path, detector_file: Path, change: dict[str, object]) -> None:
    facts = next((tmp_path / "farfield-out" / "store").rglob("facts.json"))
    facts.write_text(json.dumps({**json.loads(facts.read_text()), **change}))
    status, out, _ = run("store", "ls")
    assert status == 0 and "not readable by this version" in out
    assert "or broken" in refused(run, "score", "d.safetensors", str(facts.parent))
    assert run("store", "verify")[0] == 2


@pytest.mark.parametrize(
    "header",
    ["[]", '{"digest": "x"}', '{"digest": "x", "failed": true}', '{"digest": "x", "failed": [[1]]}', '{"digest": "x", "failed": [["a", "b", "c"]]}'],
)
def test_a_shard_with_a_broken_header_is_missing(run: Run, tmp_path: Path, detector_file: Path, header: str) -> None:
    shard = next((tmp_path / "farfield-out" / "store").rglob("shard-*.safetensors"))
    save_file(load_file(shard), shard, metadata={"farfield": header})
    assert "0 of 1 shards" in run("store", "ls")[1]
    assert run("store", "verify")[0] == 2


def test_outputs_of_another_width_are_refused(run: Run, tmp_path: Path, detector_file: Path) -> None:
    np.savez(tmp_path / "narrow.npz", features=np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32))
    assert "fitted on outputs of another width than these, which have `features` (9, 5)" in refused(run, "score", "d.safetensors", "narrow.npz")


@pytest.mark.parametrize("out", [".", "..", "train", "/dev/null"])
def test_what_is_no_file_is_not_written(run: Run, detector_file: Path, out: str) -> None:
    assert "is no file that can be written" in refused(run, "score", "d.safetensors", "noise", "--model", "python:my_tints:net", "--out", out)
    assert "is no file that can be written" in refused(
        run, "fit", "--model", "python:my_tints:net", "--id-train", "train", "--detector", "msp", "--out", out
    )


def test_a_function_that_leaves_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "leaves_at_once.py").write_text("def net():\n    raise SystemExit(3)\n")
    assert "net of leaves_at_once fails: SystemExit: 3" in refused(
        run, "bench", "--model", "python:leaves_at_once:net", "--id-test", "test", "--far", "n=noise"
    )


def test_scores_that_are_gone_are_named(run: Run, tmp_path: Path) -> None:
    run(*BENCH, "--detector", "msp", "--out", "a", "--name", "..")
    path = next((tmp_path / "a" / "scores").glob("*/tints.safetensors"))
    save_file({name: value for name, value in load_file(path).items() if name != "msp/test"}, path)
    assert "has no scores of msp for test" in refused(run, "compare", "a", "a")


def test_libtiff_keeps_quiet(made: Path, tmp_path: Path) -> None:
    import subprocess

    content = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(content, "TIFF", compression="tiff_adobe_deflate")
    (tmp_path / "x.tif").write_bytes(content.getvalue()[:8] + bytes(300) + content.getvalue()[308:])
    code = "from farfield.data.pictures import Unreadable, read_picture\ntry: read_picture('x.tif')\nexcept Unreadable as error: print('told')"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("told", "")


def test_scores_that_are_not_finite_are_the_same_in_each_format(run: Run, tmp_path: Path) -> None:
    logits = np.array([[-np.inf, -np.inf], [1.0, 0.0], [np.inf, 0.0]], np.float32)
    np.save(tmp_path / "logits.npy", logits[1:2])
    np.save(tmp_path / "strange_logits.npy", logits)
    assert run("fit", "--id-train", "logits.npy", "--detector", "maxlogit", "--out", "m.safetensors")[0] == 0
    for kind in ("csv", "jsonl"):
        assert run("score", "m.safetensors", "strange_logits.npy", "--out", f"s.{kind}", "--format", kind)[0] == 0
        assert ff.inputs.read_scores(tmp_path / f"s.{kind}").tolist() == [-np.inf, 1.0, np.inf]


def test_single_pictures_are_one_pass_and_a_broken_one_loses_nothing(run: Run, tmp_path: Path, detector_file: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    arguments = ("score", "d.safetensors", "grey/00.png", "bad.png", "grey/01.png", "--model", "python:my_tints:net", "--store", "s")
    status, out, _ = run(*arguments)
    assert status == 0
    assert [line.split(",")[0] for line in out.splitlines()] == ["path", "grey/00.png", "bad.png", "grey/01.png"]
    assert len(list((tmp_path / "s").iterdir())) == 1
    status, out, _ = run("score", "d.safetensors", "bad.png", "--model", "python:my_tints:net")
    assert (status, out.splitlines()[1]) == (0, "bad.png,,,the file is empty")


def test_a_store_is_found_again_by_another_command(run: Run, tmp_path: Path, detector_file: Path) -> None:
    before = len(list((tmp_path / "farfield-out" / "store").iterdir()))
    assert run("bench", *[part.replace(":labelled", ":net") for part in BENCH[1:]], "--detector", "msp")[0] == 0
    assert len(list((tmp_path / "farfield-out" / "store").iterdir())) == before + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--id-train", "train.npz", "--model", "timm:resnet18", "--detector", "msp", "--out", "x"), "--model and --class-map do nothing"),
        (("score", "d.safetensors", "train.npz", "--model", "timm:resnet18"), "--model does nothing"),
        (("bench", "--id-test", "train.npz", "--far", "a=train.npz", "--preprocess", "crop=8"), "--preprocess is of a model, and none is named"),
        (("bench", "--id-test", "train.npz", "--far", "a=train.npz", "--class-map", "map.txt"), "the ID data have no class folders"),
        (("bench", "--model", "glyphs-200-vit", "--random-weights"), "Random weights are for timm:, torchvision:, hf: and zoo: models"),
        (
            ("score", "d.safetensors", "test", "--model", "python:my_tints:net", "--device", "privateuseone"),
            "There is no device 'privateuseone' here",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(run: Run, tmp_path: Path, detector_file: Path, arguments: tuple[str, ...], message: str) -> None:
    np.savez(tmp_path / "train.npz", logits=np.eye(3, dtype=np.float32))
    (tmp_path / "map.txt").write_text("blue\n")
    assert message in refused(run, *arguments)


def test_removing_can_be_declined(run: Run, tmp_path: Path, detector_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    status, _, err = run("store", "rm", "--all")
    assert (status, "Nothing was removed." in err) == (0, True)
    assert len(list((tmp_path / "farfield-out" / "store").iterdir())) == 1

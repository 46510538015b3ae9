"""`farfield study`: what it says, what it writes, what it refuses, and that it goes on."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from farfield import cli

Said = tuple[int, str, str]
NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, seed, classes=2, nan=False):
        super().__init__()
        torch.manual_seed(seed)
        self.last, self.nan = nn.Linear(3, classes), nan

    def forward(self, x):
        y = self.last(x.mean((2, 3)))
        return y * float("nan") if self.nan and len(x) > 8 else y


def one():
    return Net(1), transform


def two():
    return Net(2), transform


def three():
    return Net(3), transform


def nan():
    return Net(1, nan=True), transform


def other():
    return Net(1, 5), transform


def stopped():
    raise KeyboardInterrupt


def transform(picture):
    import numpy as np

    return torch.from_numpy(np.array(picture.convert("RGB").resize((8, 8)))).permute(2, 0, 1).float() / 255
"""
OWN = ("--id-train", "train", "--id-test", "test", "--near", "birds=birds", "--far", "noise=noise", "--workers", "0", "--device", "cpu")
TWO = ("--detector", "msp", "--detector", "knn:k=2")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of pictures, and classifiers."""
    folder, random = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    for name, level, n in (("train/a", 60, 8), ("train/b", 180, 8), ("test/a", 60, 10), ("test/b", 180, 10), ("birds", 120, 12), ("noise", 240, 12)):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            made = np.clip(level + 30 * random.standard_normal((8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(made).save(folder / name / f"{i}.png")
    np.savez(folder / "given.npz", logits=np.zeros((4, 2), dtype=np.float32))
    (folder / "some_nets.py").write_text(NETS)
    (folder / "pool.csv").write_text("model,width\npython:some_nets:one,1\npython:some_nets:two,2\n")
    (folder / "all.csv").write_text(
        "model,width\npython:some_nets:one,1\npython:some_nets:two,2\npython:some_nets:nan,1\npython:some_nets:other,\npython:some_nets:lost,3\n"
    )
    return folder


@pytest.fixture
def typed(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Types a command among the folders; its status, stdout and stderr."""
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(str(world))
    monkeypatch.setenv("COLUMNS", "100")

    def command(*arguments: str) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["farfield", "study", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def test_a_study_of_own_data_says_which_to_take_and_why_others_failed(typed: Callable[..., Said], world: Path) -> None:
    status, out, err = typed("all.csv", *OWN, *TWO, "--out", "full")
    assert status == 0, err
    assert out.startswith("Take python:some_nets:") and "3 of 5 classifiers failed" in out
    lines = err.splitlines()
    assert lines[0].startswith("1 of 5, python:some_nets:one: ") and "; about " in lines[0]
    assert any(line.startswith("python:some_nets:nan: `logits` has NaN in ") for line in lines)
    assert any(line.startswith("python:some_nets:other: ") and "5 classes" in line for line in lines)
    assert any(line.startswith("python:some_nets:lost: ") for line in lines)
    assert "Written: full/study.csv, full/study.parquet, full/study.json, full/study.md, full/study.html" in lines[-1]
    rows = list(csv.DictReader((world / "full" / "study.csv").open()))
    assert {row["classifier"]: row["status"] for row in rows} == {
        f"python:some_nets:{name}": status for name, status in (("one", "done"), ("two", "done"), ("nan", "failed"), ("other", "failed"), ("lost", "failed"))
    }  # fmt: skip
    assert {(row["detector"], row["ood"]) for row in rows if row["status"] == "done"} == {
        (d, s) for d in ("msp", "knn:k=2") for s in ("birds", "noise", "")
    }
    assert {row["width"] for row in rows if row["classifier"].endswith("two")} == {"2.0"}


def test_a_second_run_does_nothing_again_and_says_the_same(typed: Callable[..., Said], world: Path) -> None:
    status, out, err = typed("pool.csv", *OWN, *TWO, "--out", "again", "--json")
    assert status == 0, err
    times = {path: path.stat().st_mtime_ns for path in (world / "again" / "classifiers").iterdir()}
    assert len(times) == 2 and not list((world / "again" / "store").iterdir())
    status, second, _ = typed("pool.csv", *OWN, *TWO, "--out", "again", "--json")
    assert status == 0 and {path: path.stat().st_mtime_ns for path in (world / "again" / "classifiers").iterdir()} == times
    assert json.loads(second) == json.loads(out) == json.loads((world / "again" / "study.json").read_text())
    told = json.loads(out)
    assert told["settings"] == {
        "detectors": ["msp", "knn:k=2"],
        "id_train": "train",
        "id_test": "test",
        "near": ["birds=birds"],
        "far": ["noise=noise"],
    }
    status, _, err = typed("pool.csv", *OWN, "--detector", "msp", "--out", "again")
    assert (
        status == 2
        and err == "farfield: again holds a study with other settings: detectors was msp, knn:k=2 and is msp. Give another folder with --out.\n"
    )
    more = typed("pool.csv", "python:some_nets:three", *OWN, *TWO, "--out", "again", "--json")
    assert more[0] == 0 and len(json.loads(more[1])["points"]["names"]) == 3
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_ctrl_c_keeps_what_is_done(typed: Callable[..., Said], world: Path) -> None:
    status, out, err = typed("python:some_nets:one", "python:some_nets:stopped", *OWN, *TWO, "--out", "stopped")
    assert (status, out) == (130, "") and "farfield: stopped. What is stored stays; run the same command to go on." in err
    assert len(list((world / "stopped" / "classifiers").iterdir())) == 1


def test_the_embedded_suite_with_a_classifier_that_ships(typed: Callable[..., Said], tmp_path: Path) -> None:
    arguments = ("glyphs-200-vit", "glyphs-1000-vit", "--limit", "200", "--detector", "msp", "--out", str(tmp_path / "glyphs"), "--json")
    status, out, err = typed(*arguments)
    assert status == 0, err
    told = json.loads(out)
    assert [target["name"] for target in told["targets"]] == ["near OOD", "far OOD", "unit tests", "letters", "scripts", "photos", "noise"]
    assert told["classifiers"][1]["reason"] == "glyphs-1000-vit has 1000 classes and glyphs-200 has 200; it was trained for another suite."
    assert told["answer"]["sentence"].endswith("no other classifier worked.") and told["cost"]["forward_seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "The pool is empty: name classifiers, a list of them, a folder of runs, or a pattern such as 'timm:vit_*augreg*'."),
        (("nowhere.csv",), "The list nowhere.csv cannot be read: No such file or directory."),
        (("train",), "The folder train holds no runs: there is no .safetensors file in it"),
        (("glyphs-200-vit", "glyphs-200-vit"), "The pool has 'glyphs-200-vit' 2 times. Leave all but one out."),
        (("timm:nothing_*_here",), "No model of timm with weights matches 'nothing_*_here'."),
        (("pool.csv", "--suite", "glyphs-20"), "There is no suite 'glyphs-20'"),
        (("pool.csv", "--suite", "mos-imagenet", "--root", "."), "of mos-imagenet is not there"),
        (("pool.csv", "--root", "."), "--root is where a suite's data lie, and glyphs-200 is drawn on the spot. Leave it out."),
        (("pool.csv", "--near", "a=b"), "--near goes with your own data, which needs --id-test too."),
        (("pool.csv", "--id-test", "nowhere", "--near", "a=birds"), "nowhere"),
        (("pool.csv", "--id-test", "test"), "There is no OOD data to tell the ID data from"),
        (("pool.csv", "--id-test", "test", "--near", "given=given.npz"), "A study runs classifiers over pictures, and what one said of given was given. Give pictures."),
        (("pool.csv", *OWN, "--suite", "glyphs-200"), "--suite and --id-test exclude each other"),
        (("pool.csv", "--detector", "enrgy"), "did you mean 'energy'?"),
        (("pool.csv", *OWN, "--unit", "depth", *TWO, "--out", "unit"), "There is no column 'depth' to count pairs by; did you mean 'width'? The metadata have: width."),
        (("pool.csv", "--device", "cuda:99"), "There is no device 'cuda:99' here"),
        (("pool.csv", "--out", "pool.csv/x"), "The folder pool.csv/x cannot be made"),
        (("python:some_nets:nan", "python:some_nets:other", *OWN, *TWO, "--out", "none"), "None of 2 classifiers worked. python:some_nets:nan: `logits` has NaN"),
        (("missing-model", *OWN, *TWO, "--out", "none"), "None of 1 classifiers worked. missing-model: No classifier 'missing-model' ships with Farfield"),
        (("pool.csv", *OWN, *TWO, "--random-weights", "--out", "random"), "None of 2 classifiers worked. python:some_nets:one: Random weights are for"),
    ],
)  # fmt: skip
def test_what_is_refused(typed: Callable[..., Said], arguments: Any, message: str) -> None:
    status, out, err = typed(*arguments)
    assert (status, out) == (2, "") and message in err.splitlines()[-1] and err.splitlines()[-1].startswith("farfield: ")

"""The experiment on training methods: a run of all its rows for two steps, and the form of its table."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import farfield as ff
from farfield import models
from farfield.data import suites
from farfield.reproduce import networks

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("experiments.training_table")


def test_smoke_has_all_rows_and_goes_on_where_it_was(script, tmp_path, capsys):
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "experiments" / "training_table.py"), "--smoke", "--out", str(out), "--keep", str(tmp_path / "kept")]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    results = json.loads((out / "training_table.json").read_text("utf-8"))
    assert list(results["rows"]) == list(script.ROWS)
    for name, row in script.ROWS.items():
        told = results["rows"][name]["0"]
        detectors = {"mos", "knn", "mahalanobis++"} if row.groups else {"msp", "maxlogit", "energy", "knn", "mahalanobis++"}
        assert set(told["figures"]) == detectors | ({"rankfeat"} if row.network == "bit" else set())
        assert all(set(sets) == {"letters", "scripts", "photos", "noise"} for sets in told["figures"].values())
        assert all(0 <= value <= 1 for sets in told["figures"].values() for pair in sets.values() for value in pair)
        if row.recipe == "augdelete" or row.groups:
            assert told["knn"] == results["rows"][row.start]["0"]["knn"]
    text = (out / "training_table.md").read_text("utf-8")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| row")]
    assert len(tables) == 4
    for lines in tables:
        assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == list(script.ROWS)
        assert {line.count("|") for line in lines} == {len(script.COLUMNS) + 4}
    claims = sum(map(len, script.CLAIMS.values()))
    assert text.count("(one seed says nothing)") >= claims and "nan" not in text
    kept = {path.stem for path in (tmp_path / "kept").iterdir()}
    assert kept == {script.slug(name) for name in script.KEPT}
    script.main(["--smoke", "--out", str(out)])
    assert capsys.readouterr().err == "", "nothing is done twice"


def made_up(script, values):
    """Results of two rows on three seeds: MaxLogit's far AUROC as given, all else the same."""
    rows = {}
    for name, far in values.items():
        rows[name] = {
            str(seed): {
                "accuracy": 0.9, "seconds": 10.0 * (1 + (name != "cross-entropy")), "knn": "same",
                "figures": {d: {s: [x if d == "maxlogit" else 0.8, 0.5] for s in ("photos", "noise", "letters")} for d in ("maxlogit", "knn")},
            }
            for seed, x in enumerate(far)
        }  # fmt: skip
    return {"schedule": script.SCHEDULE, "groups": {"near": ["letters"], "far": ["photos", "noise"]}, "rows": rows}


def test_differences_are_told_from_none_by_the_paired_interval(script):
    plain, lower, noisy = (0.90, 0.80, 0.85), (0.85, 0.76, 0.80), (0.80, 0.90, 0.85)
    text = script.page(made_up(script, {"cross-entropy": plain, "label-smoothing": lower, "mixup": noisy}))
    # differences -5, -4, -5: mean -4.67, s = 0.577, half width 4.3027 * 0.577 / sqrt 3 = 1.43
    assert "Label smoothing lowers MaxLogit's AUROC: near -4.7 ± 1.4 (**as the paper says**), far -4.7 ± 1.4" in text
    assert "Mixup lowers MaxLogit's AUROC: near +0.0 ± 24.8 (not told from 0)" in text
    assert "| label-smoothing | 90.0 ± 0.0 | 2.00 | - | 80.3 ± 11.2 ▼ | - | 80.0 ± 0.0 | - | - |" in text
    assert "Of 8 comparisons" not in text  # those that are the same to the bit are none
    mean, half = script.interval(np.array([1.0]))
    assert mean == 1.0 and math.isnan(half)


@pytest.mark.skipif(not (ROOT / "experiments" / "training_table.json").exists(), reason="the experiment has not been run")
def test_the_page_is_what_the_results_say(script):
    assert script.PAGE.read_text("utf-8") == script.page(json.loads(script.RESULTS.read_text("utf-8")))


@pytest.mark.parametrize("name", ["cross-entropy", "mos-taxonomy"])
def test_the_networks_that_are_kept_are_those_of_the_table(name: str) -> None:
    path = networks.SHIPPED / f"{name}.safetensors"
    classifier, told = ff.Classifier.load(str(path)), models.contents(path)[1]
    test = ff.collect(classifier, suites.load("glyphs-200").split("test"))
    accuracy = (test.predictions() == test.labels).double().mean().item()
    assert accuracy == pytest.approx(told["accuracy"], abs=3e-3)  # 16 bits a weight
    assert path.stat().st_size < 700_000

"""What a person types, and what they get back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import farfield as ff
from farfield.data.images import Images, OODSet, Suite


def farfield(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "farfield.cli", *arguments]
    settings = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bench", "--detector", "enrgy"), "There is no detector 'enrgy'; did you mean 'energy'? There are: msp, maxlogit"),
        (("bench", "--model", "glyphs-200-resnet", "--detector", "knn:k=0"), "KNN needs k >= 1; got k=0."),
        (
            ("bench", "--suite", "imagenet"),
            "There is no suite 'imagenet'; did you mean 'mos-imagenet'? There are: glyphs-200, glyphs-1000, cifar10-sft",
        ),
        (("bench", "--model", "nowhere.safetensors"), "nowhere.safetensors cannot be read as a classifier"),
        (("bench", "--model", "glyphs-1000-resnet"), "glyphs-1000-resnet has 1000 classes and glyphs-200 has 200"),
        (("bench", "--device", "cuda:99"), "There is no device 'cuda:99' here"),
        (("bench", "--model", "glyphs-200-resnet", "--out", "file/inside"), "The folder file/inside cannot be made"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = farfield(*arguments, cwd=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert ran.stdout == ""
    lines = [line for line in ran.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("farfield: ")
    assert message in lines[0]


def test_usage_errors_are_status_2_too() -> None:
    ran = farfield("bench", "--batch-size", "0")
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr


def test_help_and_version() -> None:
    ran = farfield("bench", "--help")
    assert ran.returncode == 0
    for option in ("--suite", "--model", "--detector", "--out", "--device", "--json"):
        assert option in ran.stdout
    assert farfield("--version").stdout.strip() == ff.__version__


def tiny(classes: int) -> Suite:
    """The suite's classes with a handful of pictures, for the way from the command to the files."""
    random = torch.Generator().manual_seed(0)

    def some(name: str, n: int, labelled: bool) -> Images:
        images = torch.randint(256, (n, 3, 32, 32), generator=random, dtype=torch.uint8)
        return Images(name, images, torch.arange(n) % classes if labelled else torch.full((n,), -1))

    train, test, strange = some("train", 240, True), some("test", 60, True), some("strange", 40, False)
    return Suite(
        "glyphs-200", ("x",) * classes, {}, {"train": lambda: train, "test": lambda: test}, (OODSet("strange", "far", lambda: strange),), (), "Tiny."
    )


def test_bench_writes_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from farfield import cli
    from farfield.data import suites

    monkeypatch.setitem(suites.SUITES, "glyphs-200", lambda: tiny(200))
    out = tmp_path / "a folder, with spaces"
    monkeypatch.setattr(
        sys,
        "argv",
        ["farfield", "bench", "--model", "glyphs-200-resnet", "--detector", "energy", "--detector", "knn:k=3", "--out", str(out), "--json"],
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((out / "results.json").read_text())
    assert {row["detector"] for row in json.loads(printed.out)["rows"]} == {"energy", "knn:k=3"}
    assert "Written: " in printed.err
    assert (out / "results.md").exists()
    assert list((out / "store").rglob("shard-*.safetensors"))
    assert list((out / "scores").rglob("*.safetensors"))


def test_a_fault_of_ours_is_status_1_and_shows_its_traceback_on_demand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from farfield import cli
    from farfield.data import suites

    def broken() -> Suite:
        raise ZeroDivisionError("planted")

    monkeypatch.setitem(suites.SUITES, "glyphs-200", broken)
    for arguments, shown in ((["bench"], False), (["--debug", "bench"], True)):
        monkeypatch.setattr(sys, "argv", ["farfield", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 1
        errors = capsys.readouterr().err
        assert "ZeroDivisionError: planted" in errors
        assert ("Traceback" in errors) is shown


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from farfield import cli
    from farfield.data import suites

    def stopped_by_hand() -> Suite:
        raise KeyboardInterrupt

    monkeypatch.setitem(suites.SUITES, "glyphs-200", stopped_by_hand)
    monkeypatch.setattr(sys, "argv", ["farfield", "bench"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 130
    assert "run the same command to go on" in capsys.readouterr().err


def test_detectors_lists_all_and_tells_of_one() -> None:
    from farfield.detectors import CATALOGUE, SHAPERS, options_of

    found = json.loads(farfield("detectors", "--json").stdout)
    assert [line["name"].removesuffix("+...") for line in found] == [*CATALOGUE, *SHAPERS]
    for line in found:
        method = {**CATALOGUE, **SHAPERS}[line["name"].removesuffix("+...")]
        assert line["paper"] == method.paper and line["passes"] == method.passes
        assert all(f"{option}=" in line["options"] for option in options_of(method.fit))
        assert line["use"] == method.use and line["fails"] == method.fails and line["cost"] == method.cost
    table = farfield("detectors", COLUMNS="200").stdout
    assert all(line["paper"] in table for line in found)
    one = farfield("detectors", "knn").stdout
    assert "z_(k)" in one and ">>>" not in one and "Options: k=50, bank=none, seed=0, bits=32." in one and "Sun et al., ICML 2022" in one
    assert "When: Features of training data" in one and "Known to fail: Near-OOD on ImageNet" in one and "Cost: scoring O(n d)" in one
    wrong = farfield("detectors", "knm")
    assert wrong.returncode == 2 and "did you mean 'knn'?" in wrong.stderr


def test_bench_names_what_a_method_is_not_made_for_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farfield import cli
    from farfield.data import suites

    monkeypatch.setitem(suites.SUITES, "glyphs-200", lambda: tiny(200))
    chosen = [f"--detector={name}" for name in ("scale+energy", "gradnorm", "energy")]
    monkeypatch.setattr(
        sys, "argv", ["farfield", "bench", "--model", "glyphs-200-vit", "--model", "glyphs-200-resnet", *chosen, "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert {row["detector"] for row in results["rows"]} == {"scale+energy", "gradnorm", "energy"}
    warned = [(said["classifier"], said["detector"]) for said in results["warnings"] if "made for features after a ReLU" in said["message"]]
    assert warned == [("glyphs-200-vit", "scale+energy"), ("glyphs-200-vit", "gradnorm")]
    assert "Scale is made for features after a ReLU" in (tmp_path / "results.md").read_text()

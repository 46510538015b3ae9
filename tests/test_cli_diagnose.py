"""`farfield recommend` and `farfield diagnose`: what they say of a classifier, what they write, their exit status, and what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import farfield as ff
import six_classes
from farfield import cli
from farfield.data.images import Images
from farfield.data.transforms import Normalize
from farfield.diagnose import CHECKS

Said = tuple[int, str, str]
MODEL = "python:six_classes:classifier"
MINE = ("--id-train", "train", "--id-test", "held")


def as_folder(images: Images, place: Path, labelled: bool = True) -> None:
    """Writes pictures as PNG files, a sub-folder a class."""
    for row, (picture, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
        folder = place / (f"class {label}" if labelled else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{row:03}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    as_folder(six_classes.pictures("train", 240, 0), place / "train")
    as_folder(six_classes.pictures("held", 120, 1), place / "held")
    as_folder(six_classes.pictures("other", 40, 5), place / "birds", labelled=False)
    return place


@pytest.fixture
def typed(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Types a command beside the photos; its status, stdout and stderr."""
    monkeypatch.chdir(photos)
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.setenv(name, "dumb")

    def command(*arguments: str) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["farfield", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def test_recommend_says_which_and_writes_it(typed: Callable[..., Said], photos: Path) -> None:
    status, out, err = typed(
        "recommend", MODEL, "--id-train", "train", "--id-cal", "held", "--detector", "msp", "--detector", "knn:k=3", "--out", "r"
    )
    assert status == 0 and "Traceback" not in err
    told = json.loads((photos / "r" / "recommendation.json").read_text("utf-8"))
    assert {one["detector"] for one in told["ranked"]} == {"msp", "knn:k=3"}
    assert told["best"] in out and "left-out classes" in (photos / "r" / "recommendation.md").read_text("utf-8")
    assert told["command"].startswith(f"farfield recommend {MODEL} --id-train train") and told["samples"]["held out"] == 120
    assert (photos / "r" / "recommendation.html").stat().st_size > 100_000
    status, out, _ = typed(
        "recommend", MODEL, "--id-train", "train", "--id-cal", "held", "--detector", "msp", "--detector", "knn:k=3", "--out", "r", "--json"
    )
    again = json.loads(out)
    assert status == 0 and again["ranked"] == told["ranked"]


def test_a_diagnosis_has_every_check_and_says_by_its_status_whether_an_issue_stands(typed: Callable[..., Said], photos: Path) -> None:
    status, out, err = typed("diagnose", MODEL, *MINE, "--ood", "birds=birds", "--reference", MODEL, "--out", "d")
    told = json.loads((photos / "d" / "diagnosis.json").read_text("utf-8"))
    codes = {one["code"]: one["outcome"] for one in told["findings"]}
    assert len(codes) == 17 and {"U1", "L1", "L2", "S1", "F1", "H1", "H3", "A1", "T1", "T3"} <= set(codes)
    issues = [code for code, outcome in codes.items() if outcome == "issue"]
    assert status == (3 if issues else 0) and issues, err
    assert all(code in out for code in issues) and all(one["said"] for one in told["findings"])
    assert {one["set"] for one in told["real"]} == {"birds"}
    assert {one["name"] for one in told["remedies"]} >= {"AugDelete", "SFT", "MOS head", "AugRevise"}


def test_a_picture_that_cannot_be_read_is_told_once(typed: Callable[..., Said], photos: Path) -> None:
    as_folder(six_classes.pictures("train", 60, 0), photos / "torn")
    (photos / "torn" / "class 0" / "zz.png").write_bytes(b"torn")
    status, _, err = typed("diagnose", MODEL, "--id-train", "torn", "--id-test", "held", "--pictures", "60", "--detector", "msp", "--out", "t")
    assert status in (0, 3) and " ".join(err.split()).count("1 of 61 pictures of train cannot be read") == 1, err


def test_muted_issues_do_not_stand(typed: Callable[..., Said], photos: Path) -> None:
    every = [word for code in CHECKS for word in ("--ignore", code)]
    status, _, err = typed("diagnose", MODEL, *MINE, "--pictures", "60", "--out", "m", *every)
    outcomes = {one["outcome"] for one in json.loads((photos / "m" / "diagnosis.json").read_text("utf-8"))["findings"]}
    assert status == 0 and "muted" in outcomes and not {"issue", "tip"} & outcomes, err


def test_fix_does_what_helps_and_says_what_changed(typed: Callable[..., Said], photos: Path) -> None:
    status, _, err = typed("diagnose", MODEL, *MINE, "--fix", "--pictures", "80", "--out", "f", "--detector", "residual")
    assert status in (0, 3) and "another detector" in err and "before" in err
    made = ff.load(photos / "f" / "detector.safetensors")
    outputs = ff.collect(six_classes.classifier(), six_classes.pictures("held", 120, 1))
    assert torch.isfinite(made(outputs)).all()
    told = json.loads((photos / "f" / "diagnosis.json").read_text("utf-8"))
    tried = {one["name"]: one["tried"] for one in told["remedies"]}
    assert tried["AugDelete"] and not tried["SFT"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("recommend", MODEL), "--id-train is missing: give --id-train and --id-cal, or --suite."),
        (("recommend", MODEL, "--id-train", "train"), "--id-cal is missing"),
        (("diagnose", MODEL, "--id-train", "train"), "--id-test is missing"),
        (("diagnose", MODEL, "--suite", "glyphs-200", "--id-train", "train"), "--id-train and --suite exclude each other"),
        (("diagnose", "glyphs-1000-resnet", "--suite", "glyphs-200"), "has 1000 classes and glyphs-200 has 200"),
        (("diagnose", MODEL, *MINE, "--try", "luck"), "--try takes augdelete, sft, mos; got 'luck'."),
        (("diagnose", MODEL, *MINE, "--ignore", "U9"), "There is no check 'U9'"),
        (("diagnose", MODEL, *MINE, "--detector", "mps"), "mps"),
        (("diagnose", MODEL, *MINE, "--ood", "birds"), "--ood takes NAME=DATA"),
        (("diagnose", MODEL, *MINE, "--ood", "birds=birds", "--ood", "birds=held"), "two sets called 'birds'"),
        (("diagnose", MODEL, *MINE, "--ood", "calibration=birds"), "two sets called 'calibration'"),
        (("diagnose", MODEL, *MINE, "--ood", "mixup=birds"), "two sets called 'mixup'"),
        (("diagnose", MODEL, *MINE, "--ood", "birds=nowhere"), "There is no file or folder 'nowhere'"),
        (("diagnose", MODEL, "--id-train", "train", "--id-test", "hold"), "no file or folder 'hold'"),
        (("diagnose", MODEL, *MINE, "--reference", "glyphs-200-resnet"), "has 200 classes, and"),
        (("diagnose", "glyphs-200-resnet", *MINE), "class folders and the model has 200 classes"),
        (("recommend", MODEL, "--id-train", "train", "--id-cal", "three", "--class-map", "names.txt"), "3 held-out ID pictures; give at least 20"),
        (("recommend", MODEL, "--id-train", "three", "--id-cal", "held", "--class-map", "names.txt"), "3 samples and the model has 6 classes"),
        (("diagnose", MODEL, *MINE, "--detector", "mos", "--pictures", "30"), "mos, the detector in use, does not take"),
    ],
)
def test_bad_input_is_one_sentence(typed: Callable[..., Said], photos: Path, arguments: tuple[str, ...], says: str) -> None:
    if not (photos / "three").exists():
        as_folder(six_classes.pictures("three", 120, 2).only(torch.tensor([0, 1, 2])), photos / "three")
        (photos / "names.txt").write_text("\n".join(f"class {label}" for label in range(6)), "utf-8")
        as_folder(Images("one", six_classes.pictures("one", 40, 2).images, torch.zeros(40, dtype=torch.int64)), photos / "one")
    status, out, err = typed(*arguments)
    assert status == 2 and out == "" and "Traceback" not in err
    assert says in " ".join(err.split())


def single() -> ff.Classifier:
    """A classifier of one class."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 1))
    return ff.Classifier.wrap(net, transform=Normalize((0.5,) * 3, (0.5,) * 3), input_size=(3, 12, 12))


def test_a_classifier_of_one_class_has_detectors_of_features_alone(typed: Callable[..., Said], photos: Path) -> None:
    as_folder(Images("one", six_classes.pictures("one", 40, 2).images, torch.zeros(40, dtype=torch.int64)), photos / "single")
    status, _, err = typed("diagnose", "python:test_cli_diagnose:single", "--id-train", "single", "--id-test", "single", "--out", "s")
    assert status in (0, 3), err
    told = json.loads((photos / "s" / "diagnosis.json").read_text("utf-8"))
    assert "at least two classes" in told["recommendation"]["refused"]["msp"] and told["current"] == told["recommendation"]["best"]
    assert {one["outcome"] for one in told["findings"] if one["code"] in ("A1", "L1", "H1")} <= {"not applicable", "skipped"}


def test_a_classifier_that_guesses_in_another_order_is_told_so(typed: Callable[..., Said], photos: Path) -> None:
    names = [f"class {i}" for i in range(6)]
    (photos / "order.txt").write_text("\n".join([*names[1:], names[0]]), "utf-8")
    typed("diagnose", MODEL, *MINE, "--class-map", "order.txt", "--pictures", "100", "--out", "o")
    told = json.loads((photos / "o" / "diagnosis.json").read_text("utf-8"))
    (order,) = [one for one in told["findings"] if one["code"] == "A1"]
    assert order["outcome"] == "issue" and "order" in order["said"]

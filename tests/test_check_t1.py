"""T1: pictures that are in two places."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter

from cases_outputs import drawn, of_logits, plain, turns
from farfield.data.files import folder
from farfield.data.images import Images
from farfield.diagnose.base import Case, Finding, Shown
from farfield.diagnose.checks import duplicates
from farfield.diagnose.checks.duplicates import DUPLICATES
from farfield.outputs import Outputs


def smooth(name: str, labels: torch.Tensor, side: int, seed: int) -> Images:
    """Pictures with shapes in them, whose perceptual hashes change little with a pixel."""
    coarse = torch.rand((len(labels), 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return Images(name, (255 * fine).to(torch.uint8), labels)


def made(train: Images, held: Images) -> Case:
    return of_logits(drawn(len(held), 3), held.labels, data={"train": train, "test": held}, pictures={"test": held})


def look(side: int = 96, *, same: int = 0, near: int = 0, repeated: int = 0, at_odds: int = 0) -> Finding:
    train, held = smooth("train", turns(30, 3), side, 1), smooth("held", turns(12, 3), side, 2)
    held.images[:same] = train.images[10 : 10 + same]
    held.images[same : same + near] = train.images[20 : 20 + near]
    held.images[same : same + near, :, 0, 0] += 1
    train.images[3 : 3 + repeated] = train.images[0]  # of class 0, as pictures 0 and 3
    if at_odds:
        train.images[1] = train.images[0]
    return DUPLICATES.look(made(train, held))


def test_pictures_in_both_are_an_issue_and_are_named_and_shown() -> None:
    found = look(same=2)
    assert found.outcome == "issue" and found.values["held-out pictures in the training data"] == 2 and found.values["share"] == pytest.approx(2 / 12)
    assert "held[0] is train[10]; held[1] is train[11]" in found.said
    assert list(found.shown) == [Shown("test", row, f"held out, and in training as train[{row + 10}]") for row in (0, 1)]
    assert found.evidence is not None and sum(found.evidence.series[0].y) == pytest.approx(100)


def test_is_quiet_where_all_differ() -> None:
    for side in (32, 96):
        found = look(side)
        assert found.outcome == "passed" and found.values["held-out pictures nearly in the training data"] == 0 and not found.shown
        assert (found.values["training pictures compared"], found.values["held-out pictures compared"]) == (30, 12)


def test_nearly_the_same_is_an_issue_of_photographs_and_a_tip_of_small_pictures() -> None:
    large, small = look(96, near=3), look(64, near=3)
    assert large.values["held-out pictures nearly in the training data"] == small.values["held-out pictures nearly in the training data"] == 3
    assert (large.outcome, small.outcome) == ("issue", "tip")
    assert (large.values["share"], small.values["share"]) == (0.25, 0)
    assert "At 64 pixels" in small.said and "pixels other" not in large.said
    assert "held[0] is train[20]" in small.said


def test_training_pictures_that_repeat_are_a_tip_and_with_two_labels_an_issue() -> None:
    found = look(repeated=2)
    assert found.values["training pictures that are repeated"] == 2 and found.values["of them with another label"] == 1
    assert found.outcome == "issue"
    found = look(repeated=1)
    assert (found.outcome, found.values["of them with another label"]) == ("tip", 0)
    assert look(at_odds=1).outcome == "issue"
    train, held = smooth("train", turns(9, 3), 96, 1), smooth("held", turns(4, 3), 96, 2)
    train.images[4] = train.images[1]  # both of class 1
    assert DUPLICATES.look(made(train, held)).values["of them with another label"] == 0


def test_pictures_of_one_colour_are_not_near_each_other() -> None:
    train, held = smooth("train", turns(9, 3), 96, 1), smooth("held", turns(4, 3), 96, 2)
    train.images[0], held.images[0] = 10, 200
    assert DUPLICATES.look(made(train, held)).outcome == "passed"


def test_files_are_named_by_path_and_unreadable_ones_passed_over(tmp_path: Path) -> None:
    for place, seed in (("train", 1), ("held", 2)):
        for number in range(4):
            (tmp_path / place / "cat").mkdir(parents=True, exist_ok=True)
            picture = smooth("x", turns(1, 1), 128, 10 * seed + number).images[0].permute(1, 2, 0).numpy()
            Image.fromarray(picture).save(tmp_path / place / "cat" / f"{number}.png")
    again = Image.open(tmp_path / "train" / "cat" / "2.png")
    again.resize((120, 120)).filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "held" / "cat" / "3.png")  # another size, and blurred
    for place in ("train", "held"):
        (tmp_path / place / "cat" / "0.png").write_bytes(b"no picture")
    train, held = (folder(tmp_path / place, labelled=True) for place in ("train", "held"))
    read = plain("held", turns(3, 1))  # what the case has of them: those that can be read
    found = DUPLICATES.look(of_logits(drawn(3, 2), None, data={"train": train, "test": held}, pictures={"test": read}))
    assert found.outcome == "issue" and found.values["held-out pictures nearly in the training data"] == 1
    assert f"{tmp_path}/held/cat/3.png is {tmp_path}/train/cat/2.png" in found.said
    assert [shown.row for shown in found.shown] == [2]


def test_what_is_not_compared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BUDGET", 20)
    found = look()
    assert "20 of 30 training pictures" in found.said and "held-out pictures; there" not in found.said
    assert found.values["training pictures compared"] == 20


def test_skipped_where_there_are_no_pictures() -> None:
    held = plain("held", turns(4, 3))
    for data in ({}, {"train": Outputs(logits=drawn(4, 3)), "test": held}, {"train": held, "test": Outputs(logits=drawn(4, 3))}):
        assert DUPLICATES.look(of_logits(drawn(4, 3), None, data=data)).outcome == "skipped"
    assert DUPLICATES.look(of_logits(drawn(4, 3), None, data={"train": ["no", "pictures"], "test": held})).outcome == "skipped"

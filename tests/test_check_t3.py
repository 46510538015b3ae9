"""T3: classes with few training samples, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cases_outputs import case, drawn, headless, stored
from farfield.diagnose.base import Case
from farfield.diagnose.checks.labels import THIN_CLASSES
from farfield.outputs import Outputs

NAMES = ("cat", "dog", "cow", "hen", "pig")


def made(*counts: int) -> Case:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    train = Outputs(logits=drawn(len(labels), len(counts)), labels=labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))])
    return case(train, Outputs(logits=drawn(3, len(counts))), names=NAMES)


@pytest.mark.parametrize(
    ("counts", "outcome", "thin", "missing"),
    [
        ((20, 200, 200, 200, 100), "passed", 0, 0),
        ((19, 200, 200, 200, 100), "tip", 1, 0),
        ((20, 201, 201, 201, 100), "tip", 1, 0),  # below a tenth of the median
        ((5, 200, 0, 200, 3), "issue", 2, 1),
        ((40, 40, 40, 40, 0), "issue", 0, 1),
    ],
)
def test_outcomes_and_figures(counts: tuple[int, ...], outcome: str, thin: int, missing: int) -> None:
    found = THIN_CLASSES.look(made(*counts))
    there = sorted(count for count in counts if count)
    middle = len(there) // 2
    median = there[middle] if len(there) % 2 else (there[middle - 1] + there[middle]) / 2
    assert found.outcome == outcome
    assert found.values == {
        "fewest": there[0], "median": median, "most over fewest": there[-1] / there[0], "missing classes": missing, "thin classes": thin
    }  # fmt: skip
    assert found.evidence is not None and list(found.evidence.series[0].y) == sorted(counts)
    assert bool(found.do) == (outcome != "passed")


def test_classes_are_named_the_thinnest_first() -> None:
    found = THIN_CLASSES.look(made(5, 200, 0, 200, 3))
    assert '1 of 5 classes have none: "cow".' in found.said and '2 have few: "pig" (3), "cat" (5).' in found.said


def test_a_stream_gives_the_same_and_unlabelled_samples_count_for_nothing(tmp_path: Path) -> None:
    one = made(19, 30, 40)
    more = Outputs(logits=torch.cat([one.train.logits, drawn(9, 3)]), labels=torch.cat([one.train.labels, torch.full((9,), -1)]))  # type: ignore[union-attr, list-item]
    assert THIN_CLASSES.look(case(stored(more, tmp_path), one.test, names=NAMES)) == THIN_CLASSES.look(one)


def test_skipped_without_labels_and_for_labels_that_are_no_classes() -> None:
    bare = Outputs(logits=drawn(5, 3))
    assert THIN_CLASSES.look(case(bare, bare)).outcome == "skipped"
    found = THIN_CLASSES.look(case(Outputs(labels=torch.tensor([0, 7])), bare, classifier=headless(3)))
    assert found.outcome == "skipped" and "7" in found.said

"""F6: as many samples as a covariance of so many features needs."""

from __future__ import annotations

import pytest
import torch

from cases_outputs import case, drawn, flat_head, of_logits, said, turns
from farfield.diagnose.base import Case
from farfield.diagnose.checks.gaussian import SAMPLES


def made(n: int, d: int = 10, classes: int = 4) -> Case:
    train = said(drawn(n, d), turns(n, classes), flat_head(classes, d))
    return case(train, train[:5])


@pytest.mark.parametrize(("n", "outcome"), [(13, "issue"), (14, "tip"), (103, "tip"), (104, "passed")])
def test_outcomes_go_by_samples_beyond_classes(n: int, outcome: str) -> None:
    found = SAMPLES.look(made(n))
    assert found.outcome == outcome
    assert found.values == {"samples": n, "features": 10, "classes": 4, "fewest of a class": n // 4, "samples beyond classes": n - 4}
    assert found.evidence is not None and list(found.evidence.series[0].y) == [n - 4, 10, 100, n // 4]
    assert bool(found.command) == (outcome != "passed")


def test_fewest_are_of_a_class_that_is_there() -> None:
    labels = torch.tensor([0] * 50 + [2] * 7 + [3] * 60)
    found = SAMPLES.look(case(said(drawn(117, 3), labels, flat_head(4, 3)), said(drawn(5, 3), None, flat_head(4, 3))))
    assert (found.values["fewest of a class"], found.values["classes"], found.outcome) == (7, 3, "passed")


def test_skipped_and_not_applicable() -> None:
    assert SAMPLES.look(of_logits(drawn(5, 3))).outcome == "not applicable"
    one = made(20)
    assert SAMPLES.look(case(one.train.having(labels=None), one.test)).outcome == "skipped"  # type: ignore[union-attr]

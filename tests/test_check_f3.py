"""F3: features that are the same for all training samples."""

from __future__ import annotations

import pytest
import torch

from cases_outputs import case, drawn, flat_head, of_logits, said, turns
from farfield.diagnose.base import Case
from farfield.diagnose.checks.spread import DEAD_UNITS
from farfield.outputs import CHUNK


def made(zero: int, constant: int, d: int = 100, n: int = CHUNK + 60, waking: int = 0) -> Case:
    x = drawn(n, d).relu()
    x[:, :zero] = 0
    x[:, zero : zero + constant] = -3.0
    head = flat_head(3, d)
    ood = drawn(10, d, seed=3)
    ood[:, : zero + constant] = x[0, : zero + constant]
    ood[:, :waking] = 9.0
    train = said(x, turns(n, 3), head)
    return case(train, train[:20], pseudo={"noise": said(ood, None, head)})


@pytest.mark.parametrize(
    ("zero", "constant", "outcome"), [(0, 0, "passed"), (1, 0, "tip"), (0, 1, "tip"), (20, 30, "tip"), (21, 30, "issue"), (99, 0, "issue")]
)
def test_outcomes_go_by_the_share(zero: int, constant: int, outcome: str) -> None:
    found = DEAD_UNITS.look(made(zero, constant))
    assert (found.outcome, found.values["dead"], found.values["always 0"]) == (outcome, zero + constant, zero)
    assert found.values["share"] == pytest.approx((zero + constant) / 100)
    assert found.values["woken by pseudo-OOD"] == 0


def test_one_of_many_is_no_tip() -> None:
    assert DEAD_UNITS.look(made(1, 0, d=101)).outcome == "passed"


def test_a_unit_that_varies_once_is_alive() -> None:
    one = made(1, 0)
    features = one.train.features  # type: ignore[union-attr]
    assert features is not None
    for row, value in ((0, 1e-3), (0, -1e-3), (CHUNK + 59, 1e-3), (CHUNK + 59, -1e-3)):  # in the first chunk, and in the last
        changed = features.clone()
        changed[row, 0] = value
        assert DEAD_UNITS.look(case(said(changed, turns(len(changed), 3), one.test.head), one.test)).values["dead"] == 0


def test_rounding_is_no_life() -> None:
    one = made(0, 1)
    features = one.train.features.clone()  # type: ignore[union-attr]
    features[::2, 0] *= 1 + 2e-7
    assert DEAD_UNITS.look(case(said(features, turns(len(features), 3), one.test.head), one.test)).values["dead"] == 1


def test_pseudo_ood_that_moves_dead_units_is_counted() -> None:
    assert DEAD_UNITS.look(made(3, 2, waking=4)).values["woken by pseudo-OOD"] == 4
    # a living unit that goes beyond its range is not dead
    assert DEAD_UNITS.look(made(3, 2, waking=50)).values["woken by pseudo-OOD"] == 5


def test_the_plot_has_every_unit() -> None:
    found = DEAD_UNITS.look(made(25, 0))
    assert found.evidence is not None
    assert sum(found.evidence.series[0].y) == pytest.approx(100) and found.evidence.series[0].y[0] == pytest.approx(25)
    assert len(found.evidence.x) == len(found.evidence.series[0].y) + 1


def test_not_applicable_without_features() -> None:
    assert DEAD_UNITS.look(of_logits(drawn(5, 3))).outcome == "not applicable"
    nan = said(torch.full((4, 2), torch.nan), turns(4, 2), flat_head(2, 2))
    assert DEAD_UNITS.look(case(nan, said(drawn(4, 2), turns(4, 2), flat_head(2, 2)))).outcome == "skipped"

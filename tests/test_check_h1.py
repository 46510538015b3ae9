"""H1: classes that what is OOD is taken for."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from cases_outputs import case, drawn, grouped_head, of_logits, plain, said, turns
from farfield.diagnose.base import Case, Shown
from farfield.diagnose.checks.sinks import SINKS, excess_p
from farfield.outputs import Outputs

CLASSES = 5


def saying(classes: torch.Tensor, sure: torch.Tensor | None = None) -> Outputs:
    """Outputs that predict these classes."""
    logits = torch.zeros(len(classes), CLASSES)
    logits[torch.arange(len(classes)), classes] = 1.0 if sure is None else 1 + sure
    return Outputs(logits=logits)


def made(into: dict[str, int], n: int = 200, names: tuple[str, ...] = ("a", "b", "c", "d", "e")) -> Case:
    """A kind of pseudo-OOD each, of which so many of 200 pictures fall into class 3 and the rest into all alike."""
    kinds = {name: saying(torch.cat([turns(n - many, CLASSES), torch.full((many,), 3)]), torch.arange(n) / n) for name, many in into.items()}
    pictures = {name: plain(name, torch.full((n,), -1)) for name in into}
    held = saying(turns(n, CLASSES))
    return of_logits(held.logits, None, pseudo=kinds, pictures=pictures, names=names)  # type: ignore[arg-type]


def test_the_test_is_exact() -> None:
    ood, held = np.array([3, 1, 1]), np.array([1, 2, 1])
    total, m = 9, 5
    for label in range(3):
        k = int(ood[label] + held[label])
        ways = [len(set(range(k)) & set(chosen)) for chosen in combinations(range(total), m)]  # every way to say which of nine pictures are OOD
        assert excess_p(ood, held)[label] == pytest.approx(sum(way >= ood[label] for way in ways) / len(ways), rel=1e-9)


def test_fires_and_names_the_class_with_its_pictures() -> None:
    found = SINKS.look(made({"jigsaw": 100, "noise": 0}))
    assert found.outcome == "tip" and found.values["sinks"] == 1
    assert '"d", which 60 % of jigsaw and 20 % of ID pictures' in found.said
    assert found.values["share of the top class"] == pytest.approx((0.6 + 0.2) / 2)
    assert found.values["share of ID pictures in it"] == pytest.approx(0.2)
    # the surest first: the last rows
    assert found.shown[0] == Shown("jigsaw", 199, 'jigsaw, taken for "d"') and len(found.shown) == 8
    assert [shown.row for shown in found.shown] == list(range(199, 191, -1))
    assert found.evidence is not None and found.evidence.x[0] == "d"
    assert [series.y[0] for series in found.evidence.series] == pytest.approx([40, 20])


def test_entropy_is_that_of_the_definition() -> None:
    found = SINKS.look(made({"jigsaw": 100}))
    shares = [0.1, 0.1, 0.1, 0.6, 0.1]
    assert found.values["entropy"] == pytest.approx(-sum(p * math.log(p) for p in shares) / math.log(5))
    assert found.values["entropy of ID predictions"] == pytest.approx(1)


def test_half_of_all_kinds_in_one_class_is_an_issue() -> None:
    assert SINKS.look(made({"jigsaw": 150, "noise": 150})).outcome == "issue"
    assert SINKS.look(made({"jigsaw": 150, "noise": 0})).outcome == "tip"


def test_is_quiet_where_predictions_are_as_of_id_pictures_or_pictures_are_few() -> None:
    for into in ({"jigsaw": 0}, {"jigsaw": 20}):  # the second has 8 percentage points more
        assert SINKS.look(made(into)).outcome == "passed"
    assert SINKS.look(made({"jigsaw": 400}, n=4000)).outcome == "passed"  # as much more, for certain
    few = made({"jigsaw": 4}, n=10)  # 32 points more, which chance may do with ten
    assert SINKS.look(few).outcome == "passed"
    assert SINKS.look(few).values["sinks"] == 0


def test_a_class_that_id_pictures_fall_into_as_often_is_no_sink() -> None:
    one = made({"jigsaw": 100})
    assert SINKS.look(of_logits(one.pseudo["jigsaw"].logits, None, pseudo=one.pseudo)).outcome == "passed"  # type: ignore[arg-type]


def test_without_pictures_none_is_shown() -> None:
    one = made({"jigsaw": 100}, names=())
    found = SINKS.look(of_logits(one.test.logits, None, pseudo=one.pseudo))  # type: ignore[arg-type]
    assert found.outcome == "tip" and not found.shown and "class 3, which" in found.said


def test_a_grouped_head_predicts_by_its_rule() -> None:
    head = grouped_head(4)
    held, ood = said(drawn(200, 4), None, head), said(drawn(200, 4, seed=1), None, head)
    logits = torch.zeros(200, 5)
    logits[:, 0] = logits[:, 2] = 9.0  # "others" are no classes
    logits[:, 4] = 5.0
    ood = Outputs(logits=logits, features=ood.features, head=head)
    found = SINKS.look(case(held, held, pseudo={"noise": ood}))
    assert found.outcome == "issue" and "class 1, which 100 % of noise" in found.said


def test_skipped_and_not_applicable() -> None:
    assert SINKS.look(of_logits(drawn(5, 3))).outcome == "skipped"
    assert SINKS.look(of_logits(drawn(5, 1), pseudo={"noise": Outputs(logits=drawn(5, 1))})).outcome == "not applicable"
    found = SINKS.look(of_logits(drawn(5, 3), pseudo={"noise": Outputs(logits=torch.full((5, 3), torch.nan))}))
    assert found.outcome == "skipped" and "NaN" in found.said

"""All checks of outputs, features and labels, on a classifier that ships and on cases at the edge: they raise nothing, and what they find can be drawn and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch

from cases_outputs import case, drawn, flat_head, grouped_head, headless, of_logits, plain, said, turns
from farfield.choose.pseudo import invented
from farfield.classifier import Classifier
from farfield.collect import collect
from farfield.data import suites
from farfield.diagnose.base import Case, Check, Finding
from farfield.diagnose.checks import calibration, duplicates, gaussian, labels, norms, order, sinks, spread, weights
from farfield.outputs import Head, Outputs

CHECKS: tuple[Check, ...] = (
    spread.EFFECTIVE_RANK, spread.WITHIN_BETWEEN, spread.DEAD_UNITS, norms.FEATURE_NORMS, gaussian.GAUSSIAN, gaussian.SAMPLES, sinks.SINKS,
    weights.WEIGHTS, calibration.CALIBRATION, order.ACCURACY, duplicates.DUPLICATES, labels.LABEL_ERRORS, labels.THIN_CLASSES,
)  # fmt: skip


def checked(check: Check, one: Case) -> Finding:
    """What a check finds, which must be whole."""
    found = check.look(one)
    assert found.code == check.code and found.said and found.said.endswith((".", ")"))
    json.dumps(asdict(found), allow_nan=False)
    if found.evidence is not None:
        more = found.evidence.kind == "histogram"
        for series in found.evidence.series:
            assert len(found.evidence.x) == len(series.y) + more
            assert len(series.low) == len(series.high) and len(series.low) in (0, len(series.y))
    for shown in found.shown:
        assert 0 <= shown.row < len(one.pictures[shown.of])
    for name, (low, high) in found.intervals.items():
        assert low <= high and name in found.values
    assert bool(found.do) == (found.outcome in ("issue", "tip"))
    return found


def test_codes_are_unique_and_limits_are_told() -> None:
    assert len({check.code for check in CHECKS}) == len(CHECKS)
    assert all(check.title and check.how.endswith(".") for check in CHECKS)


def test_a_classifier_that_ships() -> None:
    classifier = Classifier.load("glyphs-200-resnet")
    pictures = suites.load("glyphs-200").split("test")
    held, train = (pictures.only(torch.arange(start, len(pictures), len(pictures) // many)) for start, many in ((0, 400), (1, 900)))
    every = invented(held)
    made = {"jigsaw": every["jigsaw"], "noise": every["noise"].only(torch.arange(0, len(every["noise"]), 17))}
    kinds = {name: collect(classifier, kind) for name, kind in made.items()}
    data = {"train": train, "test": held}
    one = case(
        collect(classifier, train), collect(classifier, held), classifier=classifier, pseudo=kinds, pictures={"test": held, **made},
        names=suites.load("glyphs-200").classes, data=data,
    )  # fmt: skip
    found = {check.code: checked(check, one) for check in CHECKS}
    assert not {finding.outcome for finding in found.values()} & {"skipped", "not applicable"}
    assert found["A1"].outcome == "passed" and found["A1"].values["accuracy"] > 0.85
    assert found["F4"].values["AUROC, jigsaw"] > 0.8
    assert found["F6"].outcome == "tip"


def tiny() -> Case:
    head = flat_head(2, 3)
    train = said(drawn(4, 3), turns(4, 2), head)
    return case(train, train[:1], pseudo={"noise": train[:1]}, pictures={"test": plain("test", turns(1, 1)), "noise": plain("noise", turns(1, 1))})


def coarse() -> Case:
    head = flat_head(4, 6)
    labelled = [said(drawn(n, 6, seed=n), turns(n, 4), head) for n in (80, 200)]
    train, test = (
        Outputs(logits=one.logits.half(), features=one.features.bfloat16(), labels=one.labels, head=head)  # type: ignore[union-attr]
        for one in labelled
    )
    return case(train, test, pseudo={"noise": test})


def grouped() -> Case:
    one = said(drawn(200, 4), turns(200, 3), grouped_head(4))
    return case(one, one, pseudo={"noise": one})


EDGES: dict[str, Callable[[], Case]] = {
    "one held-out picture": tiny,
    "half precision": coarse,
    "a grouped head": grouped,
    "logits alone": lambda: of_logits(drawn(200, 3), turns(200, 3), train=Outputs(logits=drawn(50, 3), labels=turns(50, 3))),
    "no labels at all": lambda: case(said(drawn(50, 4)), said(drawn(50, 4))),
    "labels of -1": lambda: case(said(drawn(50, 4), torch.full((50,), -1)), said(drawn(50, 4), torch.full((50,), -1))),
    "one class": lambda: of_logits(drawn(20, 1), torch.zeros(20).long(), train=Outputs(logits=drawn(20, 1), labels=torch.zeros(20).long())),
    "no logits": lambda: case(
        Outputs(labels=turns(20, 3)), Outputs(labels=turns(20, 3)), classifier=headless(3), pseudo={"noise": Outputs(ids=turns(3, 3))}
    ),
    "a head of zeros": lambda: case(
        *(said(drawn(200, 4), turns(200, 3), Head(torch.zeros(3, 4), torch.zeros(3))),) * 2, classifier=tiny().classifier
    ),
    "all the same": lambda: case(*(said(torch.ones(200, 4), turns(200, 3)),) * 2, pseudo={"noise": said(torch.ones(20, 4))}),
    "infinite logits": lambda: of_logits(torch.full((200, 3), torch.inf), turns(200, 3)),
    "nothing held out": lambda: case(said(drawn(50, 4), turns(50, 3)), said(drawn(0, 4), turns(0, 3))),
}


@pytest.mark.parametrize("edge", EDGES)
def test_nothing_is_raised_at_the_edge(edge: str) -> None:
    one = EDGES[edge]()
    found = {check.code: checked(check, one).outcome for check in CHECKS}
    if edge == "logits alone":
        assert {code for code, outcome in found.items() if outcome == "not applicable"} == {"F1", "F2", "F3", "F4", "F5", "F6", "H2"}
    if edge == "a grouped head":
        assert {code for code, outcome in found.items() if outcome == "not applicable"} == {"H2", "H3", "T2"}

"""Every detector in `CATALOGUE`, and every shaper in `SHAPERS` before a scorer, under the public conformance suite."""

from __future__ import annotations

import pytest

import oracles
from farfield.detectors import CATALOGUE, KNN, SHAPERS, Energy, React, chain
from farfield.testing import CHECKS, Case

CASES = {
    "msp": Case(CATALOGUE["msp"].fit, oracle=oracles.msp),
    "maxlogit": Case(CATALOGUE["maxlogit"].fit, oracle=oracles.maxlogit),
    "energy": Case(Energy.fit, {"temperature": {"temperature": 3.0}}, {"temperature": 0.0}, oracles.energy),
    "mahalanobis": Case(CATALOGUE["mahalanobis"].fit, {"shrinkage": {"shrinkage": 0.2}}, {"shrinkage": 1.5}, oracles.mahalanobis),
    "knn": Case(
        KNN.fit, {"k": {"k": 3}, "bank": {"bank": 4, "k": 3}, "seed": {"seed": 1, "bank": 4, "k": 3}}, {"k": 0, "bank": 0, "seed": -1}, oracles.knn
    ),
    "react": Case(
        chain(React.fit, Energy.fit),
        {"q": {"q": 60.0}, "temperature": {"temperature": 3.0}},
        {"q": 0.0, "temperature": -1.0},
        oracles.react_energy,
    ),
}


def test_every_detector_and_shaper_has_a_case() -> None:
    assert {*CATALOGUE, *SHAPERS} <= CASES.keys()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", CASES)
def test_conformance(name: str, check: str) -> None:
    CHECKS[check](CASES[name])

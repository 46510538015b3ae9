"""Every detector in `CATALOGUE`, and every shaper in `SHAPERS` before a scorer, under the public conformance suite."""

from __future__ import annotations

from functools import partial

import pytest

import oracles
from farfield.detectors import CATALOGUE, KNN, SHAPERS, Energy, MaxLogit, React, chain
from farfield.testing import CHECKS, Case, world

CASES = {
    "msp": Case(CATALOGUE["msp"].fit, oracle=oracles.msp),
    "maxlogit": Case(CATALOGUE["maxlogit"].fit, oracle=oracles.maxlogit),
    "energy": Case(Energy.fit, {"temperature": {"temperature": 3.0}}, {"temperature": 0.0}, oracles.energy),
    "mahalanobis": Case(CATALOGUE["mahalanobis"].fit, {"shrinkage": {"shrinkage": 0.2}}, {"shrinkage": 1.5}, oracles.mahalanobis),
    "knn": Case(
        KNN.fit,
        {"k": {"k": 3}, "bank": {"bank": 4, "k": 3}, "seed": {"seed": 1, "bank": 4, "k": 3}, "bits": {"bits": 16, "k": 3}},
        {"k": 0, "bank": 0, "seed": -1, "bits": 8},
        oracles.knn,
    ),
    "react": Case(
        chain(React.fit, Energy.fit),
        {"q": {"q": 60.0}, "temperature": {"temperature": 3.0}},
        {"q": 0.0, "temperature": -1.0},
        oracles.react_energy,
    ),
    "entropy": Case(CATALOGUE["entropy"].fit, oracle=oracles.entropy),
    "gen": Case(CATALOGUE["gen"].fit, {"gamma": {"gamma": 0.5}, "m": {"m": 3}}, {"gamma": 0.0, "m": 0}, oracles.gen),
    "gradnorm": Case(CATALOGUE["gradnorm"].fit, {"temperature": {"temperature": 3.0}}, {"temperature": 0.0}, oracles.gradnorm),
    "mahalanobis++": Case(CATALOGUE["mahalanobis++"].fit, {"shrinkage": {"shrinkage": 0.2}}, {"shrinkage": 1.5}, oracles.mahalanobis_pp),
    "relative-mahalanobis": Case(CATALOGUE["relative-mahalanobis"].fit, {"shrinkage": {"shrinkage": 0.2}}, {"shrinkage": -0.5}, oracles.relative),
    "relative-mahalanobis++": Case(
        CATALOGUE["relative-mahalanobis++"].fit, {"shrinkage": {"shrinkage": 0.2}}, {"shrinkage": -0.5}, oracles.relative_pp
    ),
    "residual": Case(CATALOGUE["residual"].fit, {"dim": {"dim": 9}}, {"dim": 0}, oracles.residual, easy=partial(world, loud=True)),
    "vim": Case(CATALOGUE["vim"].fit, {"dim": {"dim": 9}}, {"dim": 0}, oracles.vim),
    "she": Case(CATALOGUE["she"].fit, oracle=oracles.she),
    "fdbd": Case(CATALOGUE["fdbd"].fit, oracle=oracles.fdbd),
    "nci": Case(CATALOGUE["nci"].fit, {"a": {"a": 0.1}}, {"a": -1.0}, oracles.nci),
    "kl-matching": Case(
        CATALOGUE["kl-matching"].fit, {"reduce": {"reduce": "predicted"}}, {"reduce": "mean"}, oracles.kl_matching, easy=partial(world, spread=1.5)
    ),
    "temperature": Case(CATALOGUE["temperature"].fit, oracle=oracles.temperature),
    "openmax": Case(
        CATALOGUE["openmax"].fit,
        {"tail": {"tail": 5}, "alpha": {"alpha": 2}},
        {"tail": 1, "alpha": 0},
        oracles.openmax,
        easy=partial(world, loud=True),
    ),
    "fsebo": Case(CATALOGUE["fsebo"].fit, {"q": {"q": 60.0}}, {"q": 0.0}, oracles.fsebo),
    "neco": Case(
        CATALOGUE["neco"].fit,
        {"variance": {"variance": 0.5}, "times": {"times": "nothing"}},
        {"variance": 1.0, "times": "all"},
        oracles.neco,
    ),
    "nnguide": Case(
        CATALOGUE["nnguide"].fit,
        {"k": {"k": 3}, "bank": {"bank": 4}, "seed": {"seed": 1, "bank": 4}, "bits": {"bits": 16}},
        {"k": 0, "bank": 0, "seed": -1, "bits": 8},
        oracles.nnguide,
    ),
    "cadref": Case(CATALOGUE["cadref"].fit, oracle=oracles.cadref),
    "vra": Case(chain(SHAPERS["vra"].fit, MaxLogit.fit), {"low": {"low": 70.0}, "high": {"high": 80.0}}, {"low": -1.0, "high": 101.0}, oracles.vra),
    **{
        name: Case(chain(SHAPERS[name].fit, MaxLogit.fit), {"p": {"p": 75.0}}, {"p": 100.0}, oracle)
        for name, oracle in {
            "ash-p": oracles.ash_p,
            "ash-b": oracles.ash_b,
            "ash-s": oracles.ash_s,
            "scale": oracles.scale,
            "dice": oracles.dice,
        }.items()
    },
}


def test_every_detector_and_shaper_has_a_case() -> None:
    assert {*CATALOGUE, *SHAPERS} <= CASES.keys()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", CASES)
def test_conformance(name: str, check: str) -> None:
    CHECKS[check](CASES[name])

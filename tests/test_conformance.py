"""Every detector in `CATALOGUE`, and every shaper in `SHAPERS` before a scorer, under the public conformance suite."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor

import oracles
import tap_oracles
from farfield.detectors import CATALOGUE, KNN, SHAPERS, Energy, MaxLogit, React, chain
from farfield.outputs import Head, Outputs
from farfield.testing import CHECKS, Case, World, with_groups, world


def untied(outputs: Outputs) -> Outputs:
    """The outputs under weights of which no two are equal, so that the sign of no gradient hangs on rounding."""
    if outputs.head is None or outputs.features is None or outputs.logits is None or not torch.isfinite(outputs.logits).all():
        return outputs
    head = _untied(outputs.head)
    return replace(outputs, head=head, logits=head(outputs.features.double()).to(outputs.features))


@cache
def _untied(head: Head) -> Head:
    noise = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(3))
    return Head(head.weight + 0.1 * head.weight.abs().mean(0) * noise, head.bias)


def spiky() -> World:
    """OOD maps of one channel, which have one direction and are nothing without it; under weights whose mean over the classes is 0, and no bias,
    the energy of nothing is the least there is."""
    easy = world()
    assert easy.id.head is not None
    head = Head(easy.id.head.weight, torch.zeros_like(easy.id.head.bias))
    alone = torch.zeros(60, 24)
    alone[torch.arange(60), torch.arange(60) % 24] = 5.0

    def under(outputs: Outputs, features: Tensor | None) -> Outputs:
        assert features is not None
        return replace(outputs, features=features, logits=head(features), head=head)

    return World(under(easy.train, easy.train.features), under(easy.id, easy.id.features), under(easy.ood, alone))


def mislabelled() -> World:
    """A world where every fifth training label is wrong, so that labels are not the predictions."""
    some = world(spread=1.5)
    labels = some.train.labels
    assert labels is not None
    return replace(some, train=some.train.having(labels=torch.where(torch.arange(len(labels)) % 5 == 0, (labels + 1) % 8, labels)))


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
        CATALOGUE["kl-matching"].fit,
        {"reduce": {"reduce": "predicted"}, "assign": {"assign": "label"}},
        {"reduce": "mean", "assign": "both"},
        oracles.kl_matching,
        easy=mislabelled,
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
    "panel": Case(
        CATALOGUE["panel"].fit,
        {
            "members": {"members": "msp/mahalanobis"},
            "by": {"by": "minimum"},
            **{by: {"by": by, "members": "gen/relative-mahalanobis/residual"} for by in ("harmonic", "cauchy")},
            "tail": {"tail": 0.4},
        },
        {"members": "msp", "by": "vote", "tail": 0.0},
        oracles.panel,
    ),
    "mos": Case(CATALOGUE["mos"].fit, oracle=tap_oracles.mos, prepare=with_groups),
    "odin": Case(
        CATALOGUE["odin"].fit,
        {"temperature": {"temperature": 3.0}, "eps": {"eps": 0.1}},
        {"temperature": 0.0, "eps": -1.0},
        tap_oracles.odin,
        prepare=untied,
    ),
    "rankfeat": Case(
        CATALOGUE["rankfeat"].fit,
        {"at": {"at": "last"}, "iterations": {"iterations": 0}, "temperature": {"temperature": 3.0}},
        {"at": "first", "iterations": -1, "temperature": 0.0},
        tap_oracles.rankfeat,
        easy=spiky,
    ),
    "featurenorm": Case(CATALOGUE["featurenorm"].fit, {"block": {"block": 1}}, {"block": 7}, tap_oracles.featurenorm),
    "multi-layer-mahalanobis": Case(
        CATALOGUE["multi-layer-mahalanobis"].fit,
        {"eps": {"eps": 0.1}, "noise": {"noise": 0.5}},
        {"eps": -1.0, "noise": 0.0},
        tap_oracles.layers,
        prepare=untied,
    ),
    "gram": Case(CATALOGUE["gram"].fit, {"powers": {"powers": 2}, "over": {"over": "nothing"}}, {"powers": 0, "over": "all"}, tap_oracles.gram),
    "adascale": Case(
        CATALOGUE["adascale"].fit,
        {
            "eps": {"eps": 2.0, "share": 0.9},
            "share": {"share": 0.9},
            "k1": {"k1": 50.0, "share": 0.9},
            "k2": {"k2": 20.0, "share": 0.9},
            "mix": {"mix": 0.0, "share": 0.9},
            "low": {"low": 50.0},
            "high": {"high": 95.0},
            "form": {"form": "logits"},
        },
        {"eps": 0.0, "share": 0.0, "k1": 0.0, "k2": 0.0, "mix": -1.0, "low": -1.0, "high": 100.0, "form": "both"},
        tap_oracles.adascale,
        prepare=untied,
    ),
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

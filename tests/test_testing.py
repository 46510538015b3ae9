"""The conformance suite finds what is planted: each check fails for a detector with the fault it is for, and for no other reason."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from farfield.detectors import Detector, MaxLogit
from farfield.errors import InputError
from farfield.outputs import Data, Outputs, validated
from farfield.testing import CHECKS, Case, check_detector, world


class Good(Detector):
    """The distance to the training mean, with a weight: nothing wrong with it."""

    needs = ("features",)
    fit_needs = ("features",)
    passes = 1
    paper = "none"
    mean: Tensor

    @classmethod
    def fit(cls, train: Data, *, weight: float = 1.0) -> Good:
        if not weight > 0:
            raise InputError(f"Good needs weight > 0; got weight={weight}.")
        total, n, fingerprint = torch.zeros(()).double(), 0, None
        for chunk in validated(train, ("features",), "Good"):
            assert chunk.features is not None
            total, n, fingerprint = total + chunk.features.double().sum(0), n + len(chunk), chunk.fingerprint
        detector = cls(mean=(total / n).float(), weight=weight)
        detector.fingerprint = fingerprint
        return detector

    def score(self, features: Tensor) -> Tensor:
        return (features - self.mean.to(features)).square().sum(1) * float(self.settings["weight"] or 0)


CASE: dict[str, Any] = {"unusual": {"weight": {"weight": 2.0}}, "refused": {"weight": -1.0}, "classes": (Good,)}


class Upside(Good):
    def score(self, features: Tensor) -> Tensor:
        return -super().score(features)


class Half(Good):
    def score(self, features: Tensor) -> Tensor:
        return super().score(features).half()


class Column(Good):
    def score(self, features: Tensor) -> Tensor:
        return super().score(features)[:, None].expand(-1, 2)


class Batchwise(Good):
    def score(self, features: Tensor) -> Tensor:
        scores = super().score(features)
        return scores / scores.max()


class Noisy(Good):
    def score(self, features: Tensor) -> Tensor:
        return super().score(features) + torch.rand(len(features))


class Scribbler(Good):
    def score(self, features: Tensor) -> Tensor:
        scores = super().score(features)
        features.add_(1.0)
        return scores


class FirstChunk(Good):
    @classmethod
    def fit(cls, train: Data, *, weight: float = 1.0) -> Good:
        return super().fit(next(iter([train] if isinstance(train, Outputs) else train)), weight=weight)


class Twice(Good):
    @classmethod
    def fit(cls, train: Data, *, weight: float = 1.0) -> Good:
        super().fit(train, weight=weight)
        return super().fit(train, weight=weight)


class Forgetful(Good):
    """Keeps something that is not saved."""

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)
        self.extra = float(torch.rand(()))

    def score(self, features: Tensor) -> Tensor:
        return super().score(features) + self.extra


class Anonymous(Good):
    @classmethod
    def fit(cls, train: Data, *, weight: float = 1.0) -> Good:
        detector = super().fit(train, weight=weight)
        detector.fingerprint = None
        return detector


class Trusting(Good):
    """Reads its data unchecked."""

    @classmethod
    def fit(cls, train: Data, *, weight: float = 1.0) -> Good:
        if not weight > 0:
            raise InputError(f"Trusting needs weight > 0; got weight={weight}.")
        if not isinstance(train, Iterable | Outputs) or iter([train]) is train:
            raise InputError("Trusting needs data it can go over again.")
        features = torch.cat([chunk.columns()["features"].float() for chunk in ([train] if isinstance(train, Outputs) else train)])
        return cls(mean=features.mean(0), weight=weight)


class Fragile(Good):
    def score(self, features: Tensor) -> Tensor:
        return super().score(features) / features.norm(dim=1)


class Deaf(Good):
    """Takes an option and does not listen."""

    def score(self, features: Tensor) -> Tensor:
        return (features - self.mean.to(features)).square().sum(1)


class Lenient(Good):
    @classmethod
    def fit(cls, train: Data, *, weight: float = 1.0) -> Good:
        return super().fit(train, weight=abs(weight))


class Pythonic(Good):
    """Looks at the numbers to decide what to do, which no exported graph can."""

    def score(self, features: Tensor) -> Tensor:
        return super().score(features) if float(features.sum()) > -math.inf else features[:, 0]


class Wanting(Good):
    """Has a parameter."""

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)
        self.bias = nn.Parameter(torch.zeros(()))


PLANTED: list[tuple[type[Good], str, str]] = [
    (Upside, "direction", "higher scores must mean more in-distribution"),
    (Half, "shape_and_type", "at least float32"),
    (Column, "shape_and_type", "80 samples|80,2"),
    (Batchwise, "batch_mates", "samples alone and together"),
    (Noisy, "purity", "Two fits"),
    (Scribbler, "purity", "changed in place"),
    (Wanting, "purity", "use buffers"),
    (FirstChunk, "chunks_agree", "a fit in chunks and a fit at once"),
    (Twice, "chunks_agree", "went over the data 2 times and declares passes = 1"),
    (Forgetful, "reload", "scores differently"),
    (Anonymous, "reload", "fingerprint"),
    (Trusting, "bad_data", "NaN in `features` at row 17"),
    (Fragile, "degenerate", "the zero vector have NaN"),
    (Deaf, "options_matter", "changes no score"),
    (Lenient, "options_matter", "not refused by name"),
    (Pythonic, "exports", "data-dependent|Could not guard"),
]


def test_a_good_detector_passes() -> None:
    check_detector(Good.fit, **CASE)


@pytest.mark.parametrize(("cls", "check", "message"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_fault_is_found(cls: type[Good], check: str, message: str) -> None:
    case = Case(cls.fit, **{**CASE, "classes": (cls,)})
    with pytest.raises(Exception, match=message):
        CHECKS[check](case)


def test_an_oracle_that_differs_in_the_fifth_digit_is_told() -> None:
    def almost(train: dict[str, Any], test: dict[str, Any], weight: float = 1.0) -> Any:
        return weight * ((test["features"] - train["features"].mean(0)) ** 2).sum(1) * (1 + 3e-5)

    with pytest.raises(AssertionError, match="the oracle, in an easy world"):
        CHECKS["oracle_agrees"](Case(Good.fit, oracle=almost, **CASE))


def test_an_option_without_an_unusual_value_is_told() -> None:
    with pytest.raises(AssertionError, match="options_matter: The option 'weight' has no unusual value"):
        check_detector(Good.fit, classes=(Good,))


def test_a_detector_that_says_why_it_cannot_be_exported_passes() -> None:
    class Unexportable(Pythonic):
        exportable = "it looks at the numbers"

    CHECKS["exports"](Case(Unexportable.fit, **CASE))


def test_worlds_are_easy_and_the_head_explains_the_logits() -> None:
    for options in ({}, {"offset": 1000.0}, {"uneven": True}, {"n": 60, "d": 96}, {"c": 60, "n": 900}):
        some = world(**options)  # type: ignore[arg-type]
        assert some.train.head is not None and some.train.features is not None and some.train.logits is not None
        exact = some.train.features.double() @ some.train.head.weight.double().T + some.train.head.bias.double()
        torch.testing.assert_close(some.train.logits.double(), exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))
    easy = world()
    assert (easy.id.predictions() == easy.id.labels).float().mean() > 0.99
    assert MaxLogit.fit(easy.train)(easy.id).mean() > MaxLogit.fit(easy.train)(easy.ood).mean()

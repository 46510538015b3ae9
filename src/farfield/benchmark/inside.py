"""Detectors that look inside the classifier: fitted before the test data go through it, since what they look for there may hang on the fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from farfield.benchmark.gather import Gathered, Passing, timed
from farfield.benchmark.results import Results, noting, quietly
from farfield.classifier import Classifier
from farfield.classifier.classifier import PROBES, move
from farfield.detectors.base import Detector, Fitter
from farfield.detectors.compose import fit_taps_of, looks_inside, most_of, passes_of
from farfield.errors import InputError
from farfield.inputs import limited
from farfield.outputs import Outputs
from farfield.store import Stored
from farfield.taps import Tap, watch


def union(several: Iterable[Sequence[Tap]]) -> list[Tap]:
    """Taps without those that make the same column twice."""
    return list({tap.name: tap for taps in several for tap in taps}.values())


def all_of(fitter: Fitter, samples: int) -> bool:
    """Whether a fitter has use for all of so many training samples."""
    most = most_of(fitter)
    return most is None or most >= samples


def fit_looking(
    classifier: Classifier | None,
    gathered: Mapping[str, Gathered],
    detectors: Mapping[str, Fitter],
    passing: Passing,
    cost: dict[str, dict[str, float]],
    results: Results,
    name: str,
) -> dict[str, Detector | InputError]:
    """The detectors that look inside the classifier, fitted before the test data are run, since what they look for there may hang on the fit.

    Those that have use for some of the training pictures alone get a seeded choice of them, in a pass for all that want as many.
    """
    some: dict[int, Stored] = {}
    made: dict[str, Detector | InputError] = {}
    for key, fitter in detectors.items():
        spent: dict[str, float] = {}
        try:
            assert classifier is not None
            train = gathered.get("train")
            if passes_of(fitter) == 0:
                fit_on: Outputs | Stored = of_probe(classifier)
            elif train is None:
                raise InputError(f"{key} is fitted on ID training data, and there are none: give --id-train.")
            elif train.data is None:
                raise InputError(f"{key} looks inside the classifier, and its outputs on the ID training data were given as arrays. Give pictures.")
            elif all_of(fitter, len(train.data)):
                fit_on = train.outputs
            else:
                most = most_of(fitter) or 0
                if most not in some:
                    taps = union(fit_taps_of(other) for other in detectors.values() if most_of(other) == most)
                    with timed(passing.seconds, "collect"), noting(results, name):
                        some[most] = passing.over(classifier, limited(train.data, most), f"{most} of train", taps)
                fit_on = some[most]
            with timed(spent, "fit"), quietly(results, name, key):
                detector = fitter(fit_on)
            try_taps(classifier, detector.taps())
            made[key] = detector
        except InputError as error:
            made[key] = error
        cost[key]["fit_seconds"] += spent.get("fit", 0.0)
        passing.seconds["fit"] = passing.seconds.get("fit", 0.0) + spent.get("fit", 0.0)
    return made


def on_probe(classifier: Classifier | None, detectors: Mapping[str, Fitter]) -> tuple[dict[str, Fitter], dict[str, Detector | InputError]]:
    """Of the detectors that look inside the classifier: those for which it has what they look for, and why the others cannot be had."""
    inside: dict[str, Fitter] = {}
    refused: dict[str, Detector | InputError] = {}
    for key, fitter in detectors.items():
        if not looks_inside(fitter):
            continue
        try:
            if classifier is None:
                raise InputError(f"{key} looks inside the classifier, and outputs alone were given. Give pictures, and name the model.")
            try_taps(classifier, fit_taps_of(fitter))
            inside[key] = fitter
        except InputError as error:
            refused[key] = error
    return inside, refused


def try_taps(classifier: Classifier, taps: Sequence[Tap]) -> None:
    """Raises where a classifier does not have what taps look for, before all the data go through it."""
    probe: Any = move(classifier.probe(), lambda x: x.to(classifier.device))
    watch(classifier, probe, torch.arange(PROBES, device=classifier.device), taps)


def of_probe(classifier: Classifier) -> Outputs:
    """What a classifier says about a few made-up inputs: all that a method that fits nothing reads."""
    return replace(
        classifier.outputs(classifier.probe()).to("cpu"), head=classifier.head and classifier.head.to("cpu"), fingerprint=classifier.fingerprint()
    )

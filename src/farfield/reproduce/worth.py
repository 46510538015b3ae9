"""What detectors make of a classifier: figures of each set and their mean, in a paper's convention, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from farfield import benchmark, inputs
from farfield.benchmark.inside import of_probe
from farfield.benchmark.run import scores_path
from farfield.classifier import Classifier
from farfield.collect import Progress, collect
from farfield.data.images import Suite
from farfield.detectors import parse
from farfield.detectors.base import Detector, Fitter
from farfield.detectors.compose import fit_taps_of, most_of, passes_of
from farfield.errors import InputError
from farfield.reproduce.base import Convention, Record
from farfield.reproduce.figures import Mean, Scored, records
from farfield.reproduce.networks import slug


@dataclass(frozen=True)
class Judged:
    """What detectors made of a classifier: records of each detector and set, its accuracy in percent with its interval, and seconds."""

    records: tuple[Record, ...]
    accuracy: float | None
    interval: tuple[float, float] | None
    scores: Mapping[str, Mapping[str, np.ndarray]]  # detector to set (`test` is ID) to scores


def judged(
    place: Path,
    label: str,
    suite: Suite,
    classifier: Classifier | None,
    detectors: Sequence[str],
    *,
    fpr: Convention = "id",
    mean: Mean = "sets",
    precision: bool = False,
    clusters: Mapping[str, np.ndarray | None] | None = None,
    progress: Progress | None = None,
) -> Judged:
    """Detectors on a classifier and a suite, or on outputs that the suite has.

    Args:
        place: the folder that everything is kept in.
        label: what the classifier is called.
        suite: pictures, or outputs where there is no classifier.
        classifier: what is judged.
        detectors: as `parse` reads them.
        fpr: the paper's convention.
        mean: what averages are over.
        precision: whether average precision is asked for.
        clusters: of sets of outputs, which samples share a source.
        progress: as `benchmark.run`'s.

    Raises:
        InputError: where a detector refuses the classifier.
    """
    folder = place / "bench" / slug(label)
    store = folder if classifier is None else place
    results = benchmark.run([(suite, [classifier])], {name: parse(name) for name in detectors}, out=store, progress=progress)
    for refused in results.refused:
        raise InputError(f"{refused['detector']} on {label}: {refused['reason']}")
    about = results.classifiers[0]
    kept = load_file(scores_path(store, suite.name, about["name"]))
    scores = {name: {key.removeprefix(f"{name}/"): v.double().numpy() for key, v in kept.items() if key.startswith(f"{name}/")} for name in detectors}
    found: list[Record] = []
    for name in detectors:
        sets = {}
        for one in suite.ood:
            own = kept.get(f"clusters/{one.name}")
            sources = (clusters or {}).get(one.name) if own is None else own.numpy()
            sets[one.name] = Scored(scores[name][one.name], one.group, sources)
        found += records(name, scores[name]["test"], sets, fpr=fpr, mean=mean, precision=precision)
    interval = about["id_accuracy_interval"]
    return Judged(
        tuple(found),
        None if about["id_accuracy"] is None else 100 * about["id_accuracy"],
        None if interval is None else (100 * interval[0], 100 * interval[1]),
        scores,
    )


def seconds(classifier: Classifier, detector: str, suite: Suite, store: Path, *, again: int = 3, progress: Progress | None = None) -> float:
    """How long the test data and all sets take with a detector, pictures in memory to scores: the forward pass with its taps, and scoring; the least of several.

    On a CPU it is its time, which what else runs there does not change.
    """
    clock = time.process_time if classifier.device.type == "cpu" else time.perf_counter
    made = _fitted(classifier, parse(detector), suite, store, progress)
    pictures = [suite.split("test"), *(ood.load() for ood in suite.ood)]
    best = float("inf")
    for _ in range(again):
        began = clock()
        for data in pictures:
            outputs = collect(classifier, data, taps=made.taps())
            made(outputs)
        best = min(best, clock() - began)
    return best


def _fitted(classifier: Classifier, fitter: Fitter, suite: Suite, store: Path, progress: Progress | None) -> Detector:
    if passes_of(fitter) == 0:
        return fitter(of_probe(classifier))
    data, most = suite.split("train"), most_of(fitter)
    some: Any = data if most is None else inputs.limited(data, most)
    train = collect(classifier, some, out=store, name="train", taps=fit_taps_of(fitter), progress=progress)
    return fitter(train)

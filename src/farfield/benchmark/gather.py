"""The outputs a benchmark stands on: of the training and test data and of every OOD set, from one pass of a classifier or as given."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farfield import metrics
from farfield.classifier import Classifier
from farfield.collect import Progress, collect
from farfield.data.images import Suite
from farfield.errors import FarfieldWarning, InputError
from farfield.outputs import Outputs, chunks
from farfield.stats import hashed
from farfield.store import Failure, Stored, digest_of, facts_of
from farfield.taps import Tap

FIFTH = 5  # of so many ID test samples one calibrates, where there are no others to do so
GIVEN = "given outputs"  # what tables call the classifier whose outputs were given as arrays
ASSIGNABLE = 2_000  # classes up to which another order of the labels is looked for


class timed:
    """Adds the time inside the `with` to `seconds[stage]`."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self.seconds, self.stage = seconds, stage

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + time.perf_counter() - self.started


@dataclass(frozen=True, eq=False)
class Gathered:
    """One set's outputs, and what the metrics need to know of its pictures.

    Args:
        outputs: in memory or stored.
        clusters: which pictures share a source; `None` where each stands for itself.
        parts: runs of rows that are also reported alone.
        part_group: the group of their rows: `unit-test`, or `class`.
        contents: a hash of the data, by which two runs know that they saw the same; `None` where it is not known.
        failed: what could not be read.
        data: the pictures; `None` where outputs were given.
    """

    outputs: Outputs | Stored
    clusters: Tensor | None = None
    parts: Mapping[str, slice] = field(default_factory=dict)
    contents: str | None = None
    failed: tuple[Failure, ...] = ()
    data: Any = None
    part_group: str = "unit-test"


@dataclass(frozen=True)
class Passing:
    """How a classifier is run over data: where its outputs go, and `collect`'s options."""

    store: Path
    seconds: dict[str, float]
    batch_size: int | None = None
    workers: int | None = None
    strict: bool = False
    progress: Progress | None = None

    def over(self, classifier: Classifier, data: Any, name: str, taps: Sequence[Tap]) -> Stored:
        """The stored outputs of one data set."""
        step = None if self.progress is None else _named(self.progress, f"{classifier.name}: {name}")
        return collect(
            classifier, data, out=self.store, batch_size=self.batch_size, workers=self.workers, strict=self.strict, name=name, taps=taps,
            progress=step, seconds=self.seconds,
        )  # fmt: skip


def gather(
    classifier: Classifier | None,
    suite: Suite,
    loaders: Mapping[str, Callable[[], Any]],
    passing: Passing,
    taps: Callable[[int], Sequence[Tap]] = lambda samples: (),
) -> dict[str, Gathered]:
    """Outputs of sets by name, with the columns of the taps that are wanted for so many samples."""
    found = {}
    for name, load in loaders.items():
        with timed(passing.seconds, "pictures"):
            data = load()
        if isinstance(data, Outputs | Stored):
            found[name] = _given(classifier, data, name)
            continue
        if classifier is None:
            raise InputError(f"{name} of {suite.name} is pictures, which need a classifier: name one with --model.")
        stored = passing.over(classifier, data, name, taps(len(data)))
        failed = tuple(stored.failures())
        read = torch.cat([chunk.columns()["ids"] for chunk in stored])
        clusters, parts = getattr(data, "clusters", None), getattr(data, "parts", {})
        found[name] = Gathered(
            stored,
            None if clusters is None else clusters[read],
            {part: slice(*torch.searchsorted(read, torch.tensor([span.start, span.stop])).tolist()) for part, span in parts.items()},
            f"{facts_of(stored.folder)['contents']} without {[failure.row for failure in failed]}",
            failed,
            data,
            getattr(data, "part_group", "unit-test"),
        )
    return found


def set_apart(entry: Gathered) -> tuple[Gathered, Gathered]:
    """A fifth of a set's samples, chosen by number, to calibrate on, and the rest to test on."""
    whole = entry.outputs.load() if isinstance(entry.outputs, Stored) else entry.outputs
    ids = torch.arange(len(whole)) if whole.ids is None else whole.ids.cpu()
    mine = hashed(ids, 0) % FIFTH == 0
    kept, rest = mine.nonzero()[:, 0], (~mine).nonzero()[:, 0]
    clusters = None if entry.clusters is None else entry.clusters[rest]
    return replace(entry, outputs=whole[kept], clusters=None, parts={}), replace(entry, outputs=whole[rest], clusters=clusters, parts={})


def _given(classifier: Classifier | None, data: Outputs | Stored, name: str) -> Gathered:
    """Outputs that came as arrays or as a store, checked against the classifier where there is one."""
    if isinstance(data, Stored) and (missing := data.missing()):
        raise InputError(f"The store {data.folder} for {name} is not whole: {len(missing)} of {data.shards} shards are missing. Collect it again.")
    if classifier is not None and data.fingerprint is not None and data.fingerprint != classifier.fingerprint():
        raise InputError(f"The outputs given for {name} are of another model than {classifier.name}. Give the pictures, or leave --model out.")
    contents = str(facts_of(data.folder).get("contents")) if isinstance(data, Stored) else digest_of(data.columns())
    return Gathered(data, contents=contents, failed=tuple(data.failures()) if isinstance(data, Stored) else ())


def _named(progress: Progress, name: str) -> Progress:
    return lambda _, done, total: progress(name, done, total)


def classes_of(classifier: Classifier | None, gathered: Mapping[str, Gathered]) -> int:
    """How many classes the classifier has."""
    if classifier is not None:
        return classifier.classes
    for entry in gathered.values():
        first = next(chunks(entry.outputs), None)
        if first is not None and first.head is not None:
            return first.head.classes
        if first is not None and first.logits is not None:
            return first.logits.shape[1]
    return 0


def check_sizes(suite: Suite, gathered: Mapping[str, Gathered], classes: int) -> None:
    """Raises where there are fewer ID training samples than classes."""
    train = gathered.get("train")
    if train is not None and len(train.outputs) < classes:
        raise InputError(
            f"The ID training data of {suite.name} are {len(train.outputs)} samples and the model has {classes} classes; "
            "detectors are fitted on at least one of each. Give more, or raise --limit."
        )


def accuracy(name: str, suite: Suite, test: Gathered, classes: int, names: Sequence[str] = ()) -> dict[str, Any]:
    """A classifier's entry: the names of its classes where they are known, and its accuracy on the labelled part of the ID test split, `None` where nothing is labelled."""
    predictions, labels = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.int64)]
    start = 0
    for chunk in chunks(test.outputs):
        columns = chunk.columns()
        if "labels" in columns and "logits" in columns:
            labelled = columns["labels"] >= 0
            if (wrong := (columns["labels"] >= classes).nonzero()).numel():
                raise InputError(
                    f"A label of the ID test data of {suite.name} is {int(columns['labels'][wrong[0, 0]])}, at row {start + int(wrong[0, 0])}, "
                    f"and the classes of {name} are 0 to {classes - 1}."
                )
            predictions.append(chunk.predictions()[labelled])
            labels.append(columns["labels"][labelled])
        start += len(chunk)
    predicted, true = torch.cat(predictions), torch.cat(labels)
    hits, n = int((predicted == true).sum()), len(true)
    if n:
        _look_for_another_order(name, suite.name, predicted, true, classes)
    return {
        "name": name,
        "suite": suite.name,
        "fingerprint": test.outputs.fingerprint,
        "id_accuracy": hits / n if n else None,
        "id_accuracy_interval": metrics.proportion_interval(hits, n) if n else None,
        "classes": classes,
        "class_names": list(names),
    }


def _look_for_another_order(name: str, suite: str, predicted: Tensor, true: Tensor, classes: int) -> None:
    """Warns when another order of the labels, found on every second sample, fits the rest far better than the order given."""
    if classes > ASSIGNABLE or len(true) < 2 * classes:
        return
    from scipy.optimize import linear_sum_assignment

    confusion = torch.bincount(true[::2] * classes + predicted[::2], minlength=classes * classes).reshape(classes, classes)
    order = torch.as_tensor(linear_sum_assignment(-confusion.numpy())[1].astype(np.int64))
    rest_true, rest_predicted = true[1::2], predicted[1::2]
    as_given, reordered = (int((mapped == rest_predicted).sum()) for mapped in (rest_true, order[rest_true]))
    n = len(rest_true)
    if metrics.proportion_interval(reordered, n).low > 2 * metrics.proportion_interval(as_given, n).high:
        warnings.warn(
            f"The labels of {suite} seem to be in another order than the classes of {name}: {as_given / n:.1%} of the test samples are right, "
            f"and {reordered / n:.1%} would be with the labels in another order. Say which class each is with --class-map.",
            FarfieldWarning,
            stacklevel=4,
        )

"""What several checks of features, labels and classes share: moments of the training features in one pass, counts, names, and who cannot be looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from farfield.diagnose.base import Case, Finding
from farfield.errors import InputError
from farfield.outputs import Head, chunks, validated
from farfield.stats import ClassMoments, double


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the training features.

    Args:
        classes: means by class, and the covariance within classes.
        low: of each unit, the least value.
        high: the largest.
    """

    classes: ClassMoments
    low: Float64[Tensor, " d"]
    high: Float64[Tensor, " d"]

    @property
    def counts(self) -> Int64[Tensor, " c"]:
        """Samples of each class that was seen, in label order, as `classes.means()`."""
        return self.classes.counts[self.classes.counts > 0]

    def between(self) -> Float64[Tensor, "d d"]:
        """The covariance of the class means, each weighed by its samples."""
        # S = sum_c n_c / N (mu_c - mu) (mu_c - mu)^T
        apart = (self.classes.means() - self.classes.mean()) * (self.counts.double() / self.classes.total).sqrt()[:, None]
        return apart.T @ apart

    def mean_of(self, labels: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " m"], Float64[Tensor, "m d"]]:
        """The rows whose class has a mean, and that mean for each."""
        counts = self.classes.counts
        inside = (labels >= 0) & (labels < len(counts))
        rows = (inside & (counts[labels.clamp(0, len(counts) - 1)] > 0)).nonzero()[:, 0]
        place = (counts > 0).cumsum(0) - 1
        return rows, self.classes.means()[place[labels[rows]]]


_KNOWN: WeakKeyDictionary[Case, Moments] = WeakKeyDictionary()
_COUNTED: WeakKeyDictionary[Case, Int64[Tensor, " c"]] = WeakKeyDictionary()


def moments(case: Case) -> Moments:
    """The moments of a case's training features, in one pass; made once.

    Raises:
        InputError: for training outputs without features or labels, or with NaN among them.
    """
    if (known := _KNOWN.get(case)) is not None:
        return known
    classes, low, high = ClassMoments(), torch.zeros(0), torch.zeros(0)
    for chunk in validated(case.train, ("features", "labels"), "A check of features", grouped=True):
        assert chunk.features is not None and chunk.labels is not None
        x = double(chunk.features)
        classes.update(x, chunk.labels)
        low = x.amin(0) if len(low) == 0 else torch.minimum(low, x.amin(0))
        high = x.amax(0) if len(high) == 0 else torch.maximum(high, x.amax(0))
    _KNOWN[case] = Moments(classes, low, high)
    return _KNOWN[case]


def class_counts(case: Case) -> Int64[Tensor, " c"]:
    """Training samples of each of the classifier's classes; what has no label is not counted.

    Raises:
        InputError: where no training sample has a label, or one has a label that is no class.
    """
    if (known := _COUNTED.get(case)) is not None:
        return known
    classes = case.classifier.classes
    counts = torch.zeros(classes, dtype=torch.int64)
    for chunk in chunks(case.train):
        if chunk.labels is not None:
            labels = chunk.labels.cpu()
            if len(labels) and int(labels.max()) >= classes:
                raise InputError(f"A label of the training data is {int(labels.max())}, and the classifier's classes are 0 to {classes - 1}.")
            counts += torch.bincount(labels[labels >= 0], minlength=classes)
    if not counts.any():
        raise InputError("No training sample has a label.")
    _COUNTED[case] = counts
    return counts


def head_of(case: Case) -> Head | None:
    """The classifier's linear head, as its outputs or itself have it."""
    return case.test.head if case.test.head is not None else case.classifier.head


def class_name(case: Case, label: int) -> str:
    """What a class is called, for people: its name, or its number where none is known."""
    names = case.names or case.classifier.labels or ()
    return names[label] if 0 <= label < len(names) else f"class {label}"


def quoted(case: Case, label: int) -> str:
    """Its name in a sentence, where it may be a full stop or two words."""
    name = class_name(case, label)
    return name if name == f"class {label}" else f'"{name}"'


def guarded(code: str, look: Callable[[Case], Finding]) -> Callable[[Case], Finding]:
    """A check that is skipped, and says why, where outputs lack what it needs or have NaN."""

    def looked(case: Case) -> Finding:
        try:
            return look(case)
        except InputError as error:
            return Finding(code, "skipped", str(error))

    return looked


def of_features(code: str, look: Callable[[Case], Finding]) -> Callable[[Case], Finding]:
    """A check of features: not applicable where there is no linear head, skipped as `guarded`."""

    def looked(case: Case) -> Finding:
        if case.test.features is None or head_of(case) is None:
            return Finding(code, "not applicable", f"{case.classifier.name} has no linear head, so it has no features to look at.")
        for _ in validated(case.test, ("features",), "A check of features", grouped=True):
            pass
        return look(case)

    return guarded(code, looked)


def norms(features: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
    """The length of each row."""
    found: Tensor = torch.linalg.vector_norm(double(features), dim=1)
    return found.cpu()


def fitting(detector: str, *, calibrated: bool = False) -> str:
    """The command that fits a detector to the classifier; capitals are for a person to fill in."""
    held = " --id-cal HELD_OUT" if calibrated else ""
    return f"farfield fit --model MODEL --id-train TRAIN{held} --detector {detector} --out {detector.split(':')[0]}.safetensors"

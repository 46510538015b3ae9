"""What a check is, what it looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from farfield.benchmark import Row
from farfield.choose import Recommendation
from farfield.classifier import Classifier
from farfield.data.images import Images
from farfield.outputs import Outputs
from farfield.store import Stored

Outcome = Literal["issue", "tip", "passed", "not applicable", "skipped", "muted"]
ORDER: tuple[Outcome, ...] = ("issue", "tip", "passed", "muted", "skipped", "not applicable")  # the worst first


@dataclass(frozen=True)
class Series:
    """Points of an evidence plot under one name; `low` and `high` are ends of intervals, where there are any."""

    name: str
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Evidence:
    """A small plot: what a check saw.

    Args:
        kind: `bars` (a category a bar), `lines` (ordered numbers), `points` (numbers), or `histogram` (`x` are the left edges of equal bins, and the last right one).
        x: categories or numbers on the horizontal axis, an entry for each point of a series; of a histogram one more.
        series: what is drawn over them.
        x_title: of the axis, with its unit.
        y_title: likewise.
        limit: a line across, such as the value from which on something is wrong.
    """

    kind: Literal["bars", "lines", "points", "histogram"]
    x: Sequence[str] | Sequence[float]
    series: Sequence[Series]
    x_title: str
    y_title: str
    limit: float | None = None


@dataclass(frozen=True)
class Shown:
    """A picture that a finding shows: row `row` of the set `of` of `Case.pictures`, with a caption."""

    of: str
    row: int
    caption: str


@dataclass(frozen=True)
class Finding:
    """What came of a check.

    Args:
        code: of the check.
        outcome: of it.
        said: a sentence or two with the figures, for a person.
        values: the figures by name.
        intervals: of those that have one, the 95 % interval.
        evidence: a plot of what was seen.
        shown: pictures.
        do: what to do; a sentence, empty where nothing is to be done.
        command: of Farfield's, if one does it.
    """

    code: str
    outcome: Outcome
    said: str
    values: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    evidence: Evidence | None = None
    shown: Sequence[Shown] = ()
    do: str = ""
    command: str = ""


@dataclass(frozen=True)
class Reference:
    """What another classifier of the same classes says of the same pictures, to compare with: one that was trained plainly, say.

    Args:
        name: of it.
        test: of the held-out ID pictures.
        ood: of each OOD set, pseudo or real, that the classifier's `pseudo` and `ood` have.
    """

    name: str
    test: Outputs
    ood: Mapping[str, Outputs]


@dataclass(frozen=True, eq=False)
class Case:
    """All that checks look at: one classifier and what it says.

    Args:
        classifier: itself.
        names: of its classes.
        train: its outputs on the ID training data: logits, features (where it has a linear head), labels; a stream that `outputs.chunks` cuts.
        test: on held-out ID pictures, in memory, with labels (-1 where there is none).
        pseudo: on pseudo-OOD made from those pictures: `mixup`, `jigsaw`, `channels` and `noise`, those that could be made.
        mixed: on mixtures of held-out pictures of two classes, by the share of the second, from 0.1 to 0.5.
        ood: on real OOD sets that were given, by name. Nothing is chosen by them.
        pictures: the held-out pictures, `test`, and the pseudo-OOD ones, by name, as the classifier saw them before its transform. Rows are those of the outputs.
        scores: of detectors, by detector and then by `test` and kind of pseudo-OOD; `maxlogit`, `mahalanobis` and `relative-mahalanobis` are among them where the
            classifier can have them. Rows are those of `Recommendation`'s test pictures, a part of `pictures["test"]`: see `tested`.
        tested: the rows of `test` that `scores` are of.
        recommendation: which detector suits it.
        data: the ID training data and held-out ID data as they were given, for pictures and names of files: `train` and `test`.
        reference: another classifier, if one was given.
        current: the detector that a person uses now, which remedies are compared with.
        real: how that and the recommended one do on the real OOD sets.
    """

    classifier: Classifier
    names: Sequence[str]
    train: Outputs | Stored
    test: Outputs
    pseudo: Mapping[str, Outputs]
    mixed: Mapping[float, Outputs]
    ood: Mapping[str, Outputs]
    pictures: Mapping[str, Images]
    scores: Mapping[str, Mapping[str, Float[np.ndarray, " _"]]]
    tested: Sequence[int]
    recommendation: Recommendation
    data: Mapping[str, Any]
    reference: Reference | None = None
    current: str = "msp"
    real: Sequence[Row] = ()


@dataclass(frozen=True)
class Check:
    """A question that is put to every classifier.

    Args:
        code: stable, such as `U1`: what `--ignore` takes.
        title: what it is about, in a few words.
        how: how it is detected, in a sentence or two, with every limit it uses.
        source: paper and year, where it has one.
        look: from a case to what it finds. It raises nothing: what cannot be looked at is `not applicable` or `skipped`, and says why.
    """

    code: str
    title: str
    how: str
    look: Callable[[Case], Finding]
    source: str = ""


def bins(values: Sequence[Float[np.ndarray, " _"]], count: int = 30) -> tuple[list[float], list[list[float]]]:
    """Equal bins over several samples together, and the percentage of each sample in each bin, for a `histogram`.

    >>> bins([np.array([0.0, 1.0]), np.array([1.0, 2.0])], 2)
    ([0.0, 1.0, 2.0], [[50.0, 50.0], [0.0, 100.0]])
    """
    every = np.concatenate([sample[np.isfinite(sample)] for sample in values])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, count + 1)
    return edges.tolist(), [(100 * np.histogram(sample, edges)[0] / max(len(sample), 1)).tolist() for sample in values]

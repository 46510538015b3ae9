"""Checks of the labels: those that the classifier is sure are wrong, and classes with few samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from farfield import metrics
from farfield.diagnose.base import Case, Check, Evidence, Finding, Series, Shown
from farfield.diagnose.checks.moments import class_counts, class_name, guarded, head_of, quoted
from farfield.errors import InputError
from farfield.loading import Pictures, name_of
from farfield.outputs import Outputs, chunks, validated
from farfield.stats import double
from farfield.store import Stored

TIP, ISSUE = 0.01, 0.1  # of the labels: ten known test sets have 0.2 % to 10 % wrong (Northcutt, Athalye and Mueller, 2021)
KEPT, NAMED, PAIRS = 20, 5, 10  # suspects that are kept and named, pairs of classes that are plotted
FEW, SHARE = 20, 0.1  # samples of a class: with fewer its mean misses by a fifth of its spread; and the share of the median class's
POINTS = 200


# --- T2 -----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Suspects:
    """Labels that another class has the better claim to.

    Args:
        samples: labelled ones, suspected or not.
        pairs: `label * c + class` of each suspect.
        rows: of the surest suspects, those with the largest `p_class - p_label`.
        labels: theirs.
        classes: what they seem to be.
        margins: `p_class - p_label`.
    """

    samples: int
    pairs: Int64[Tensor, " m"]
    rows: Int64[Tensor, " k"]
    labels: Int64[Tensor, " k"]
    classes: Int64[Tensor, " k"]
    margins: Float64[Tensor, " k"]


def _labelled(data: Outputs | Stored, classes: int) -> Iterator[tuple[Float64[Tensor, "n c"], Int64[Tensor, " n"], Int64[Tensor, " n"]]]:
    """Probabilities, labels and rows of the data's labelled samples, chunk by chunk."""
    start = 0
    for chunk in chunks(data):
        if chunk.labels is not None and chunk.logits is not None and len(chunk):
            rows = torch.arange(start, start + len(chunk)) if chunk.ids is None else chunk.ids.cpu()
            known = chunk.labels >= 0
            part = chunk[known]
            for _ in validated(part, ("logits", "labels"), "A check of labels") if len(part) else ():
                pass
            assert part.logits is not None and part.labels is not None
            if len(part) and int(part.labels.max()) >= classes:
                raise InputError(f"A label is {int(part.labels.max())}, and the classifier's classes are 0 to {classes - 1}.")
            yield double(part.logits).softmax(1).cpu(), part.labels.cpu(), rows[known.cpu()]
        start += len(chunk)


def suspects(data: Outputs | Stored, classes: int) -> Suspects:
    """Confident learning: the samples off the diagonal of the confident joint.

    Formula: `t_j = mean of p_j(x) over x labelled j`; x labelled i is counted as `argmax of p_j(x) over j with p_j(x) >= t_j`, and is suspected where that is not i.

    Args:
        data: outputs with logits and labels, streamed twice.
        classes: how many there are.

    >>> logits = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 9.0], [9.0, 0.0]])
    >>> suspects(Outputs(logits=logits, labels=torch.tensor([0, 0, 1, 1, 1, 1])), 2).rows
    tensor([5])

    Source: Northcutt, Jiang and Chuang, JAIR 2021, equations 1 and 2.
    """
    sums, counts = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.int64)
    for p, labels, _ in _labelled(data, classes):
        sums.index_add_(0, labels, p.gather(1, labels[:, None])[:, 0])
        counts += torch.bincount(labels, minlength=classes)
    limits = torch.where(counts > 0, sums / counts.clamp_min(1), torch.inf)
    pairs, best = [torch.zeros(0, dtype=torch.int64)], torch.zeros(0, dtype=torch.float64)
    kept = torch.zeros(3, 0, dtype=torch.int64)
    for p, labels, rows in _labelled(data, classes):
        claimed, claimant = torch.where(p >= limits, p, -torch.inf).max(1)
        off = (claimed > -torch.inf) & (claimant != labels)
        margin = (p.gather(1, claimant[:, None]) - p.gather(1, labels[:, None]))[:, 0][off]
        pairs.append((labels * classes + claimant)[off])
        best, kept = torch.cat([best, margin]), torch.cat([kept, torch.stack([rows[off], labels[off], claimant[off]])], 1)
        order = best.argsort(descending=True, stable=True)[:KEPT]
        best, kept = best[order], kept[:, order]
    return Suspects(int(counts.sum()), torch.cat(pairs), kept[0], kept[1], kept[2], best)


def _labels(case: Case) -> Finding:
    head, classes = head_of(case), case.classifier.classes
    if (head is not None and head.groups is not None) or classes < 2:
        return Finding("T2", "not applicable", "There is no one softmax over several classes, whose probabilities could speak against a label.")
    held, trained = suspects(case.test, classes), suspects(case.train, classes)
    if held.samples == 0 and trained.samples == 0:
        return Finding("T2", "skipped", "Neither the training nor the held-out pictures have labels.")
    figures, intervals, told, shares, low = {}, {}, [], [], 0.0
    for called, found in (("held-out", held), ("training", trained)):
        if found.samples:
            many = len(found.pairs)
            figures[f"suspected, {called}"], figures[f"share, {called}"] = float(many), many / found.samples
            interval = metrics.proportion_interval(many, found.samples)
            intervals[f"share, {called}"] = (interval.low, interval.high)
            told.append(f"{many} of {found.samples} {called} labels ({100 * many / found.samples:.1f} %)")
            shares.append(many / found.samples)
            low = max(low, interval.low)
    said = f"The classifier is sure of another class for {' and '.join(told)}."
    if trained.samples:
        said += " That it says little against training labels is weak evidence for them: it learned them."
    first = held if len(held.pairs) else trained
    data, called = (case.data.get("test"), "held out") if first is held else (case.data.get("train"), "training")
    if len(first.pairs):
        said += f" The surest: {'; '.join(_told(case, data, called, first, place) for place in range(min(NAMED, len(first.rows))))}."
    shown = _shown(case, held)
    evidence = _plotted(case, first, called, classes)
    do = "Look at these pictures; mend the labels that are wrong, in the held-out data first, as every figure rests on them."
    if low > ISSUE:
        return Finding("T2", "issue", said, figures, intervals, evidence, shown, do)
    if max(shares) >= TIP:
        return Finding("T2", "tip", said, figures, intervals, evidence, shown, do)
    return Finding("T2", "passed", said, figures, intervals, evidence, shown)


def _told(case: Case, data: Any, called: str, found: Suspects, place: int) -> str:
    row = int(found.rows[place])
    # Held-out pictures that could not be read are gone from the case, and rows are no longer those of the data.
    pictures = isinstance(data, Pictures) and not isinstance(data, Outputs | Stored)
    known = pictures and row < len(data) and (called == "training" or len(data) == len(case.pictures.get("test", ())))
    name = name_of(data, row) if known else f"{called} row {row}"
    return f"{name}, labelled {quoted(case, int(found.labels[place]))}, seems {quoted(case, int(found.classes[place]))}"


def _shown(case: Case, held: Suspects) -> list[Shown]:
    pictures = case.pictures.get("test")
    rows = held.rows.tolist()[:NAMED]
    if pictures is None or len(pictures) != len(case.test):
        return []
    known = {} if case.test.ids is None else {int(number): row for row, number in enumerate(case.test.ids.tolist())}
    return [
        Shown(
            "test",
            known.get(row, row),
            f"labelled {quoted(case, int(held.labels[place]))}, seems {quoted(case, int(held.classes[place]))} (by {float(held.margins[place]):.2f})",
        )
        for place, row in enumerate(rows)
    ]


def _plotted(case: Case, found: Suspects, called: str, classes: int) -> Evidence | None:
    """The pairs of a label and a class with the most suspects."""
    if len(found.pairs) == 0:
        return None
    pairs, many = found.pairs.unique(return_counts=True)
    order = many.argsort(descending=True, stable=True)[:PAIRS]
    names = [f"{class_name(case, int(pair) // classes)} > {class_name(case, int(pair) % classes)}" for pair in pairs[order]]
    return Evidence("bars", names, [Series(called, many[order].double().tolist())], "label > class that it seems", "suspected labels")


LABEL_ERRORS = Check(
    "T2",
    "Suspected label errors",
    f"Confident learning: a label is suspected where another class's probability is the largest of those at least as large as their mean over that class's own samples. A tip where "
    f"{100 * TIP:g} % of the held-out or training labels or more are, an issue where the low end of the interval is above {100 * ISSUE:g} %.",
    guarded("T2", _labels),
    "Northcutt, Jiang and Chuang, JAIR 2021",
)


# --- T3 -----------------------------------------------------------------------------------------------------------------------------------


def _thin(case: Case) -> Finding:
    counts = class_counts(case)
    present = counts[counts > 0]
    median = float(np.median(present.numpy()))
    missing = (counts == 0).nonzero()[:, 0].tolist()
    thin = ((counts > 0) & ((counts < FEW) | (counts < SHARE * median))).nonzero()[:, 0]
    thin = thin[counts[thin].argsort(stable=True)]
    figures = {
        "fewest": float(present.min()),
        "median": median,
        "most over fewest": float(present.max()) / float(present.min()),
        "missing classes": float(len(missing)),
        "thin classes": float(len(thin)),
    }
    ordered = counts.sort().values.numpy()
    places = np.unique(np.round(np.linspace(0, len(ordered) - 1, min(len(ordered), POINTS))).astype(np.int64))
    evidence = Evidence(
        "lines", (places + 1).astype(float).tolist(), [Series("training", ordered[places].astype(float).tolist())], "class, by its samples", "training samples", FEW
    )  # fmt: skip
    said = f"The classes have {int(present.min())} to {int(present.max())} training samples each, {median:g} in the median."
    if missing:
        said += f" {len(missing)} of {len(counts)} classes have none: {_listed(case, missing)}."
    if len(thin):
        said += f" {len(thin)} {'has' if len(thin) == 1 else 'have'} few: {_listed(case, thin.tolist(), counts)}."
    if missing:
        do = "Give training data of every class, or say which class each folder is with --class-map: a detector takes pictures of a class it never saw for OOD."
        return Finding("T3", "issue", said, figures, {}, evidence, do=do)
    if len(thin):
        do = "Give more pictures of these classes, or expect more of their pictures to be taken for OOD: their means and neighbours are poorly known."
        return Finding("T3", "tip", said, figures, {}, evidence, do=do)
    return Finding("T3", "passed", said, figures, {}, evidence)


def _listed(case: Case, labels: list[int], counts: Int64[Tensor, " c"] | None = None) -> str:
    names = [quoted(case, label) + ("" if counts is None else f" ({int(counts[label])})") for label in labels[:NAMED]]
    return ", ".join(names) + (f" and {len(labels) - NAMED} more" if len(labels) > NAMED else "")


THIN_CLASSES = Check(
    "T3",
    "Thin classes",
    f"Training samples of each class. An issue where a class has none; a tip where one has fewer than {FEW}, or less than {100 * SHARE:g} % of the median class's.",
    guarded("T3", _thin),
)

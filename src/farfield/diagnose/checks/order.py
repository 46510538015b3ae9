"""Accuracy, and whether the labels are in the order of the model's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int64
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from torch import Tensor

from farfield import metrics
from farfield.benchmark.gather import ASSIGNABLE
from farfield.diagnose.base import Case, Check, Evidence, Finding, Outcome, Series
from farfield.diagnose.checks.moments import guarded, quoted
from farfield.errors import InputError
from farfield.outputs import validated
from farfield.stats import hashed

FAR = 2.0  # times the accuracy, ends of intervals against each other, that another order must have to be the right one, as when a benchmark warns
NEARLY = 0.95  # of the accuracy of the best order, with which a usual one is the explanation
CHANCE = 1e-3  # how often chance may make another order better, for a few classes that seem exchanged
NAMED = 5  # classes that are named

Order = Int64[np.ndarray, " c"]


def usual_orders(names: Sequence[str], predicted: Int64[Tensor, " n"], true: Int64[Tensor, " n"], classes: int) -> dict[str, Order]:
    """The orders that labels come to be in by common slips: which of the model's classes each label is.

    A shift is the one that fits best; the others need no data. Names are compared where there is one for each class.

    >>> usual_orders((), torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2]), 3)["each label is 1 too low, in a circle"].tolist()
    [1, 2, 0]
    """
    own = np.arange(classes)
    shift = int(torch.bincount((predicted - true) % classes, minlength=classes).argmax())
    away = f"{shift} too low" if shift <= classes // 2 else f"{classes - shift} too high"
    found = {f"each label is {away}, in a circle": (own + shift) % classes, "the labels are reversed": own[::-1].copy()}
    text = np.array(sorted(range(classes), key=str))
    found["the labels are numbers in the order of text, '10' before '2'"] = text
    found["the model's classes are numbers in the order of text, '10' before '2'"] = np.argsort(text)
    if len(names) == classes and len(set(names)) == classes:
        by_name = np.array(sorted(range(classes), key=lambda label: names[label]))
        found["the labels are in the order of the names' alphabet"] = by_name
        found["the model's classes are in the order of the names' alphabet"] = np.argsort(by_name)
    return {name: order for name, order in found.items() if (order != own).any()}


def likeliest(
    names: Sequence[str], predicted: Int64[Tensor, " n"], true: Int64[Tensor, " n"], classes: int
) -> tuple[Order | None, str, Bool[Tensor, " n"]]:
    """The order that fits one half of the samples best, what it is called if it is a usual one, and the other half, which it is to be judged on.

    All orders are looked at where there are at most 2,000 classes and two samples for each, otherwise the usual ones alone.
    """
    first = hashed(torch.arange(len(true)), 0) % 2 == 0
    usual = usual_orders(names, predicted[first], true[first], classes)

    def hits(order: Order, half: Bool[Tensor, " n"]) -> int:
        return int((torch.as_tensor(order)[true[half]] == predicted[half]).sum())

    named = max(usual, key=lambda name: hits(usual[name], first), default="")
    if classes <= ASSIGNABLE and len(true) >= 2 * classes:
        table = torch.bincount(true[first] * classes + predicted[first], minlength=classes * classes).reshape(classes, classes)
        # A class that was never seen keeps its label where it can: ties go to the order as given.
        gain = table.numpy() + np.eye(classes) / (2 * classes)
        order = linear_sum_assignment(-gain)[1].astype(np.int64)
        if not named or hits(usual[named], ~first) < NEARLY * hits(order, ~first):
            return (order if (order != np.arange(classes)).any() else None), "", ~first
    return (usual[named] if named else None), named, ~first


def _accuracy(case: Case) -> Finding:
    classes = case.classifier.classes
    if classes < 2:
        return Finding("A1", "not applicable", f"{case.classifier.name} has one class, which is always right.")
    if case.test.labels is None or not bool((case.test.labels >= 0).any()):
        return Finding("A1", "skipped", "Held-out pictures have no labels.")
    known = case.test[case.test.labels >= 0]
    for _ in validated(known, ("logits",), "Accuracy", grouped=True):
        pass
    assert known.labels is not None
    predicted, true = known.predictions().cpu(), known.labels.cpu()
    if int(true.max()) >= classes:
        raise InputError(f"A label of the held-out pictures is {int(true.max())}, and the classifier's classes are 0 to {classes - 1}.")
    n, hits = len(true), int((predicted == true).sum())
    interval = metrics.proportion_interval(hits, n)
    # as often as predictions and labels would agree if one told nothing of the other
    chance = float((torch.bincount(predicted, minlength=classes).double() / n) @ (torch.bincount(true, minlength=classes).double() / n))
    figures = {"accuracy": hits / n, "by chance": chance, "pictures": float(n)}
    ends = {"accuracy": (interval.low, interval.high)}
    said = f"{100 * hits / n:.1f} % of {n} held-out pictures are classified rightly ({100 * interval.low:.1f} to {100 * interval.high:.1f}), {100 * chance:.1f} % would be by chance."
    other = _other(case, predicted, true, classes)
    if other is not None:
        outcome, told, more = other
        figures |= more
        drawn = [
            Series(
                "accuracy", [100 * more["accuracy as given, second half"], 100 * more["accuracy in the likeliest order, second half"], 100 * chance]
            )
        ]
        evidence = Evidence("bars", ["as given", "in the likeliest order", "by chance"], drawn, "order of the labels", "accuracy, %")
        do = "Say which of the model's classes each label is with --class-map; until then no figure that uses labels means anything."
        if outcome == "tip":
            do = "Look at pictures of these classes; if their labels are exchanged, say which class each is with --class-map."
        command = "farfield diagnose MODEL --id-train TRAIN --id-test HELD_OUT --class-map CLASSES.json"
        return Finding("A1", outcome, f"{said} {told}", figures, ends, evidence, do=do, command=command)
    drawn = [Series("accuracy", [100 * hits / n, 100 * chance], [100 * interval.low, 100 * chance], [100 * interval.high, 100 * chance])]
    evidence = Evidence("bars", ["held out", "by chance"], drawn, "", "accuracy, %")
    if interval.low <= chance:
        do = "Look at the preprocessing, the weights and the labels: the classifier does not work on these pictures, and no figure about them means anything."
        return Finding("A1", "issue", f"{said} That is no better than chance.", figures, ends, evidence, do=do)
    return Finding("A1", "passed", said, figures, ends, evidence)


def _other(case: Case, predicted: Int64[Tensor, " n"], true: Int64[Tensor, " n"], classes: int) -> tuple[Outcome, str, Mapping[str, float]] | None:
    """What another order of the labels would do, on the half of the samples that it was not found on; `None` where it would do nothing certain."""
    order, called, half = likeliest(case.names or case.classifier.labels or (), predicted, true, classes)
    if order is None or not half.any():
        return None
    given, moved = true[half] == predicted[half], torch.as_tensor(order)[true[half]] == predicted[half]
    n, as_given, reordered = len(given), int(given.sum()), int(moved.sum())
    better, worse = int((moved & ~given).sum()), int((given & ~moved).sum())
    far = metrics.proportion_interval(reordered, n).low > FAR * metrics.proportion_interval(as_given, n).high
    # McNemar: of the samples that one order alone has right, chance would give each half
    certain = better > worse and binomtest(better, better + worse).pvalue < CHANCE
    if not (far or certain):
        return None
    changed = np.flatnonzero(order != np.arange(classes))
    told = "; ".join(f"label {quoted(case, int(label))} is the model's class {int(order[label])}" for label in changed[:NAMED])
    more = f"; and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    what = (
        f"The labels seem to be in another order than the model's classes: {called}."
        if called
        else "Labels seem to stand for other classes of the model."
    )
    figures = {
        "accuracy as given, second half": as_given / n,
        "accuracy in the likeliest order, second half": reordered / n,
        "classes that move": float(len(changed)),
    }
    return "issue" if far or called else "tip", f"{what} {told}{more}. Accuracy would be {100 * reordered / n:.1f} %.", figures


ACCURACY = Check(
    "A1",
    "Accuracy and order of classes",
    f"Accuracy on held-out pictures; an issue where its interval reaches down to what chance would give (labels and predictions as often as they are, but independent). The order of the labels "
    f"that fits one half best is judged on the other: an issue where its accuracy is over {FAR:g} times that of the order given, ends of intervals against each other, or where it is a usual slip and "
    f"better with p below {CHANCE:g} (McNemar); a tip where it is another order and better so.",
    guarded("A1", _accuracy),
)

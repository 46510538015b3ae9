"""Sink classes: those that what is OOD is taken for, whatever it shows."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.stats import hypergeom
from torch import Tensor

from farfield.diagnose.base import Case, Check, Evidence, Finding, Series, Shown
from farfield.diagnose.checks.moments import class_name, guarded, quoted
from farfield.outputs import Outputs, validated

ERROR = 0.01  # over all classes and kinds together, that a class is called a sink by chance
EXCESS_TIP, EXCESS_ISSUE = (
    0.1,
    0.5,
)  # of a kind's pictures above what ID pictures give the class: a tenth is worth knowing, half of all kinds is one answer to everything
BARS, PICTURES = 10, 8  # that are shown


def excess_p(ood: Int64[np.ndarray, " c"], held: Int64[np.ndarray, " c"]) -> Float64[np.ndarray, " c"]:
    """How often chance would give each class so many of the OOD pictures, if ID and OOD pictures fell into it alike.

    Formula: Fisher's exact test, one-sided: of the `k + k'` pictures in the class at least k of the m OOD ones among `m + m'`.

    >>> float(excess_p(np.array([2, 0]), np.array([0, 2]))[0]).__round__(6)  # 1 of the 6 ways to place them
    0.166667
    """
    m, total = int(ood.sum()), int(ood.sum() + held.sum())
    found: np.ndarray = hypergeom.sf(ood - 1, total, ood + held, m)
    return found


def _counts(outputs: Outputs, classes: int) -> Int64[np.ndarray, " c"]:
    found: np.ndarray = torch.bincount(outputs.predictions().cpu(), minlength=classes).numpy()
    return found


def _entropy(shares: Float64[np.ndarray, " c"]) -> float:
    """In units of that of equal shares."""
    p = shares[shares > 0]
    return float(-(p * np.log(p)).sum() / math.log(len(shares)))


def _sinks(case: Case) -> Finding:
    classes = case.classifier.classes
    if classes < 2:
        return Finding("H1", "not applicable", f"{case.classifier.name} has one class, which everything falls into.")
    kinds = {name: outputs for name, outputs in case.pseudo.items() if len(outputs)}
    if not kinds:
        return Finding("H1", "skipped", "No pseudo-OOD could be made of the held-out pictures.")
    for outputs in (case.test, *kinds.values()):
        for _ in validated(outputs, ("logits",), "A check of predictions", grouped=True):
            pass
    held = _counts(case.test, classes)
    counts = {name: _counts(outputs, classes) for name, outputs in kinds.items()}
    usual = held / held.sum()
    shares = {name: mine / mine.sum() for name, mine in counts.items()}
    mean = np.mean(list(shares.values()), axis=0)
    certain = {name: excess_p(mine, held) * classes * len(kinds) < ERROR for name, mine in counts.items()}
    sinks = {
        (name, int(label)): float(shares[name][label] - usual[label])
        for name in kinds
        for label in np.flatnonzero(certain[name] & (shares[name] - usual > EXCESS_TIP))
    }
    top = int((mean - usual).argmax())
    figures = {
        "share of the top class": float(mean[top]),
        "share of ID pictures in it": float(usual[top]),
        "entropy": _entropy(mean),
        "entropy of ID predictions": _entropy(usual),
        "sinks": float(len({label for _, label in sinks})),
    }
    order = np.argsort(-(mean - usual), kind="stable")[:BARS]
    drawn = [Series("pseudo-OOD", (100 * mean[order]).tolist()), Series("ID", (100 * usual[order]).tolist())]
    evidence = Evidence("bars", [class_name(case, int(label)) for label in order], drawn, "predicted class", "pictures, % (mean of the kinds)")
    if not sinks:
        said = f"No class attracts pseudo-OOD: the most is {quoted(case, top)} with {100 * mean[top]:.1f} % of it, and {100 * usual[top]:.1f} % of ID pictures."
        return Finding("H1", "passed", said, figures, {}, evidence)
    worst = sorted(sinks, key=lambda sink: -sinks[sink])[:3]
    told = "; ".join(
        f"{quoted(case, label)}, which {100 * shares[name][label]:.0f} % of {name} and {100 * usual[label]:.0f} % of ID pictures are taken for"
        for name, label in worst
    )
    everything = any(mean[label] - usual[label] > EXCESS_ISSUE for _, label in sinks)
    others = f" and {len(sinks) - 3} more" if len(sinks) > 3 else ""
    return Finding(
        "H1",
        "issue" if everything else "tip",
        f"Some classes attract what is OOD: {told}{others}.",
        figures,
        {},
        evidence,
        _shown(case, kinds, worst),
        "Look at the training pictures of these classes, such as for blurred or empty ones; watch these classes in use, or set a threshold for them of their own.",
    )


def _shown(case: Case, kinds: dict[str, Outputs], sinks: list[tuple[str, int]]) -> list[Shown]:
    """The pictures in the sinks that the classifier is surest of, by its maximum logit, as many of each sink."""
    found = []
    for name, label in sinks:
        outputs = kinds[name]
        if name not in case.pictures or outputs.logits is None:
            continue
        rows: Tensor = (outputs.predictions() == label).nonzero()[:, 0]
        for row in rows[outputs.logits[rows].amax(1).argsort(descending=True)][: max(1, PICTURES // len(sinks))].tolist():
            found.append(Shown(name, row, f"{name}, taken for {quoted(case, label)}"))
    return found


SINKS = Check(
    "H1",
    "Sink classes",
    f"Of each kind of pseudo-OOD, the classes that more of its pictures are taken for than of held-out ID pictures, by Fisher's exact test with an error of {100 * ERROR:g} % "
    f"over all classes and kinds (Bonferroni). A tip where such a class has over {100 * EXCESS_TIP:g} percentage points more, an issue where one has over "
    f"{100 * EXCESS_ISSUE:g} more in the mean of the kinds.",
    guarded("H1", _sinks),
)

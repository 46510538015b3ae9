"""The weights of the head: classes it hardly tells apart, and classes it favours."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.stats import spearmanr
from torch import Tensor

from farfield.diagnose.base import Case, Check, Evidence, Finding, Series
from farfield.diagnose.checks.moments import class_counts, head_of, of_features, quoted
from farfield.stats import double

PARALLEL, SAME = 0.95, 0.999  # cosines: within 18 degrees, where the logits of two classes rise and fall together; within 3, where they are one class
ROWS = 1024  # of the weight compared with all others at once
RELATED, CHANCE, UNEVEN = 0.5, 0.01, 2.0  # the correlation that is told, how often chance may make it, and how unlike the classes' samples must be
NAMED = 5  # pairs that are named
POINTS = 200  # of the plot


def nearest_rows(weight: Float64[Tensor, "c d"]) -> tuple[Float64[Tensor, " c"], Int64[Tensor, " c"]]:
    """The largest cosine of each class's weights with another's, and whose; of weights less their mean, which moves all logits alike.

    Formula: `cos(w_a - m, w_b - m)`, `m = 1/c sum_c w_c`; 0 with a class that has no weights left.

    >>> nearest_rows(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-2.0, 0.0]]).double())[1].tolist()[:2]
    [1, 0]
    """
    unit = weight - weight.mean(0)
    length = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    unit = torch.where(length > 1e-12 * length.max(), unit / length.clamp_min(1e-300), 0.0)
    best, whose = [], []
    for start in range(0, len(unit), ROWS):
        cosines = unit[start : start + ROWS] @ unit.T
        places = torch.arange(len(cosines), device=unit.device)
        cosines[places, places + start] = -torch.inf
        value, row = cosines.max(1)
        best.append(value)
        whose.append(row)
    return torch.cat(best).cpu(), torch.cat(whose).cpu()


def _weights(case: Case) -> Finding:
    head = head_of(case)
    assert head is not None
    if head.groups is not None:
        return Finding("H2", "not applicable", "The head has a softmax in each of several groups, whose weights are not compared with each other.")
    weight, bias = double(head.weight), double(head.bias)
    classes = len(weight)
    if classes < 2:
        return Finding("H2", "not applicable", f"{case.classifier.name} has one class.")
    centred = weight - weight.mean(0)
    length = torch.linalg.vector_norm(centred, dim=1).cpu()
    cosine, whose = nearest_rows(weight)
    pairs = sorted(
        {(min(a, int(whose[a])), max(a, int(whose[a]))) for a in (cosine > PARALLEL).nonzero()[:, 0].tolist()},
        key=lambda p: -float(cosine[list(p)].max()),
    )
    figures = {
        "largest cosine": float(cosine.max()),
        "nearly parallel pairs": float(len(pairs)),
        "spread of the biases": float(bias.std(correction=0)),
    }
    if length.min() > 1e-12 * length.max():
        figures["largest norm over the smallest"] = float(length.max() / length.min())
    related = _imbalance(case, length, figures)
    drawn = cosine.sort(descending=True).values.numpy()
    places = np.unique(np.round(np.linspace(0, classes - 1, min(classes, POINTS))).astype(np.int64))
    evidence = Evidence(
        "lines", (places + 1).astype(float).tolist(), [Series("classes", drawn[places].tolist())], "class, by its nearest other class", "cosine of their weights", PARALLEL
    )  # fmt: skip
    named = "; ".join(f"{quoted(case, a)} and {quoted(case, b)} ({float(cosine[[a, b]].max()):.3f})" for a, b in pairs[:NAMED])
    more = f"; {len(pairs) - NAMED} more pairs" if len(pairs) > NAMED else ""
    said = f"The weights of {classes} classes, less their mean, have norms from {float(length.min()):.3g} to {float(length.max()):.3g}."
    if pairs:
        said += f" Nearly parallel are those of {named}{more}."
        same = float(cosine.max()) > SAME
        do = "Look whether these are one class under two names: a picture of one is always torn between both, and looks OOD to detectors of logits."
        return Finding("H2", "issue" if same else "tip", said + related, figures, {}, evidence, do=do)
    if related:
        do = "Train the head again on as many samples of each class, or judge each class by a threshold of its own."
        return Finding("H2", "tip", said + related, figures, {}, evidence, do=do)
    return Finding("H2", "passed", said, figures, {}, evidence)


def _imbalance(case: Case, length: Float64[Tensor, " c"], figures: dict[str, float]) -> str:
    """A sentence where the norms go with the classes' training samples, in `figures` either way."""
    counts = class_counts(case)
    if counts.min() == counts.max() or length.min() == length.max() or len(counts) < 3:
        return ""
    test = spearmanr(counts.numpy(), length.numpy())
    figures["correlation of norms with samples"] = float(test.statistic)
    uneven = float(counts.max()) >= UNEVEN * float(counts.min())
    if uneven and abs(test.statistic) >= RELATED and test.pvalue < CHANCE:
        return (
            f" They go with the classes' training samples (Spearman {test.statistic:.2f}): frequent classes get other logits for their number alone."
        )
    return ""


WEIGHTS = Check(
    "H2",
    "Weights of the head",
    f"Cosines and norms of the classes' weights, less their mean, which moves all logits alike. A tip where two classes have a cosine above {PARALLEL:g}, an issue above "
    f"{SAME:g}; a tip too where norms go with training samples (Spearman at least {RELATED:g}, p below {CHANCE:g}, and {UNEVEN:g} times as many samples of one class as of another).",
    of_features("H2", _weights),
    "Kang et al., ICLR 2020",
)

"""Whether features of what is OOD are longer than those of ID pictures."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64
from scipy.stats import spearmanr
from torch import Tensor

from farfield import metrics
from farfield.diagnose.base import Case, Check, Evidence, Finding, Series, bins
from farfield.diagnose.checks.moments import fitting, norms, of_features
from farfield.metrics import Linked, placements

ERROR = 0.05  # over all kinds together, that a kind is said to have longer features by chance
NOWHERE = 2**40  # from here on sources are of no held-out picture


def _lengths(case: Case) -> tuple[Float64[Tensor, " n"], dict[str, Float64[Tensor, " _"]]]:
    """The norms of the held-out pictures that pseudo-OOD was made of, and of each kind."""
    assert case.test.features is not None
    held = norms(case.test.features[torch.as_tensor(list(case.tested), dtype=torch.int64)])
    return held, {name: norms(outputs.features) for name, outputs in case.pseudo.items() if outputs.features is not None and len(outputs)}


def _norms(case: Case) -> Finding:
    held, kinds = _lengths(case)
    if not kinds or len(held) < 2:
        return Finding("F4", "skipped", "No pseudo-OOD could be made of the held-out pictures, so there is nothing to compare norms with.")
    values, intervals, longer = {"ID": float(held.median())}, {}, []
    for name, lengths in kinds.items():
        pictures = case.pictures.get(name)
        known = pictures is not None and pictures.clusters is not None and len(pictures.clusters) == len(lengths)
        sources = pictures.clusters.numpy() if known and pictures is not None and pictures.clusters is not None else NOWHERE + np.arange(len(lengths))
        piece = Linked(placements(held.numpy(), lengths.numpy()), np.arange(len(held)), sources, 1.0)
        values[f"AUROC, {name}"], intervals[f"AUROC, {name}"] = metrics.linked_auroc([piece])
        if metrics.linked_auroc([piece], level=1 - ERROR / len(kinds))[1].high < 0.5:
            longer.append(name)
    relation = _with_maxlogit(case, held)
    if not math.isnan(relation):
        values["correlation with the maximum logit"] = relation
    edges, shares = bins([held.numpy(), *(lengths.numpy() for lengths in kinds.values())])
    drawn = [Series(name, share) for name, share in zip(("ID", *kinds), shares, strict=True)]
    evidence = Evidence("histogram", edges, drawn, "norm of the features", "pictures, %")
    ends = {name: (float(interval.low), float(interval.high)) for name, interval in intervals.items()}
    told = ", ".join(f"{name} {100 * values[f'AUROC, {name}']:.1f}" for name in kinds)
    if longer:
        said = f"The features of {' and '.join(longer)} are longer than those of ID pictures (AUROC of the norm: {told})."
        if relation > 0.5:
            said += " The maximum logit rises with the norm, so detectors of logits take them for more in-distribution."
        do = "Take a detector that looks at the direction of features alone, as KNN or relative Mahalanobis++, and not maxlogit, energy or the norm."
        return Finding("F4", "tip", said, values, ends, evidence, do=do, command=fitting("relative-mahalanobis++"))
    return Finding("F4", "passed", f"No kind of pseudo-OOD has longer features than ID pictures (AUROC of the norm: {told}).", values, ends, evidence)


def _with_maxlogit(case: Case, held: Float64[Tensor, " n"]) -> float:
    """Spearman's correlation of the norm and the maximum logit over held-out pictures; NaN where one is constant."""
    if case.test.logits is None:
        return math.nan
    top = case.test.logits[torch.as_tensor(list(case.tested), dtype=torch.int64)].amax(1).double().cpu()
    if len(held) < 3 or held.unique().numel() < 2 or top.unique().numel() < 2:
        return math.nan
    return float(spearmanr(held.numpy(), top.numpy()).statistic)


FEATURE_NORMS = Check(
    "F4",
    "Feature norms",
    f"The norm of the features as a score, held-out ID pictures against each kind of pseudo-OOD. A tip where an AUROC is below 50 with an error of {100 * ERROR:g} % over "
    "all kinds together (Bonferroni; pictures of one source count as one).",
    of_features("F4", _norms),
)

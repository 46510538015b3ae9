"""AUROC, FPR and AUPR from scores alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from farfield.errors import InputError

Scores: TypeAlias = ArrayLike | Sequence[float] | Tensor
Outs: TypeAlias = Sequence[Scores]
Variant: TypeAlias = Literal["at-least", "argmin"]
Vector = Float64[np.ndarray, "_"]
Codes = Int64[np.ndarray, "_"]


@dataclass(frozen=True)
class Placements:
    """Where each image stands in the other side: `v_in[i] = P(s_in[i] > S_out) + P(=) / 2`; the mean of either is the AUROC."""

    v_in: Vector
    v_out: Vector


def auroc(s_in: Scores, s_out: Scores) -> float:
    """Return the area under the ROC curve, `P(S_in > S_out) + P(S_in = S_out) / 2`, by ranks (Hanley and McNeil 1982).

    >>> auroc([3, 2, 2], [1, 2])
    0.8333333333333334
    """
    x, y = as_pair(s_in, s_out)
    return int(_twice_above(x, y).sum()) / (2 * x.size * y.size)


def placements(s_in: Scores, s_out: Scores) -> Placements:
    """Return the placements of a detector on an OOD set, which `placement_interval` and `paired_placement_test` start from.

    >>> placements([3, 2], [1, 2])
    Placements(v_in=array([1.  , 0.75]), v_out=array([1.  , 0.75]))
    """
    x, y = as_pair(s_in, s_out)
    return Placements(_twice_above(x, y) / (2 * y.size), _twice_above(-y, -x) / (2 * x.size))


def fpr_at_tpr_id(s_in: Scores, s_out: Scores, tpr: float = 0.95, *, variant: Variant = "at-least") -> float:
    """Return the OOD fraction accepted, `mean(s_out >= t)`, at the largest t in s_in with `mean(s_in >= t) >= tpr`.

    The variant "argmin" repeats the code of Outlier Exposure and MOS: of the distinct scores the one whose recall is nearest to
    `tpr`, which may keep less of ID; the lowest of equals.

    >>> fpr_at_tpr_id(range(100), [4, 5, 6])
    0.6666666666666666
    """
    x, y = as_pair(s_in, s_out)
    if variant not in ("at-least", "argmin"):
        raise InputError(f'`variant` must be "at-least" or "argmin"; got {variant!r}.')
    threshold = threshold_at(np.sort(x), tpr) if variant == "at-least" else _nearest_threshold(np.sort(x), y, tpr)
    return float(np.mean(y >= threshold))


def fpr_at_95_tpr_id(s_in: Scores, s_out: Scores, *, variant: Variant = "at-least") -> float:
    """Return `fpr_at_tpr_id` at 0.95, as MOS and most papers; never in one column with `fpr_at_95_tpr_ood`, a different thing."""
    return fpr_at_tpr_id(s_in, s_out, variant=variant)


def threshold_at_tpr(s_in: Scores, tpr: float = 0.95) -> float:
    """Return the threshold of `fpr_at_tpr_id`: the largest t in s_in with `mean(s_in >= t) >= tpr`.

    >>> threshold_at_tpr(range(100))
    5.0
    """
    return threshold_at(np.sort(as_scores(s_in, "s_in")), tpr)


def fpr_at_95_tpr_ood(s_in: Scores, s_out: Scores) -> float:
    """Return the ID fraction flagged, `mean(s_in <= t)`, at the smallest t with `mean(s_out <= t) >= 0.95` (OpenOOD v1.5).

    >>> fpr_at_95_tpr_ood([0, 1, 2, 3], [1, 1, 2])
    0.75
    """
    x, y = as_pair(s_in, s_out)
    return fpr_at_tpr_id(-y, -x)


def ap_id(s_in: Scores, s_out: Scores) -> float:
    """Return the average precision, ID positive: `sum_k (R_k - R_(k-1)) P_k`, tied scores being one step k.

    >>> ap_id([1, 1], [1, 1, 1, 1])
    0.3333333333333333
    """
    return average_precision(*as_pair(s_in, s_out))


def ap_ood(s_in: Scores, s_out: Scores) -> float:
    """Return the average precision, OOD positive and the lowest score first; otherwise as `ap_id`."""
    x, y = as_pair(s_in, s_out)
    return average_precision(-y, -x)


def aupr_trapezoid_id(s_in: Scores, s_out: Scores) -> float:
    """Return the trapezoid under the precision-recall curve, ID positive. Optimistic: only to compare with OpenOOD, else `ap_id`.

    Precision is not linear in recall, so a constant score with 10 % positives gets 0.55 (Davis and Goadrich 2006).

    >>> aupr_trapezoid_id([0], [0] * 9)
    0.55
    """
    return _trapezoid(*as_pair(s_in, s_out))


def aupr_trapezoid_ood(s_in: Scores, s_out: Scores) -> float:
    """Return the trapezoid under the precision-recall curve, OOD positive. Optimistic, as `aupr_trapezoid_id`; see `ap_ood`."""
    x, y = as_pair(s_in, s_out)
    return _trapezoid(-y, -x)


def as_scores(values: Scores, name: str) -> Vector:
    """Return the scores as a float64 vector, or raise `InputError` saying what is wrong with which."""
    try:
        array = np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"`{name}` must be a 1-D array of numbers; got {type(values).__name__} that is not.") from None
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"`{name}` must be 1-D and not empty, one number per image; got shape {array.shape}.")
    if (nan := np.isnan(array)).any():
        raise InputError(f"`{name}` has NaN in {nan.sum()} of {nan.size} scores, first at position {nan.argmax()}.")
    return array


def as_pair(s_in: Scores, s_out: Scores) -> tuple[Vector, Vector]:
    """Return both sides, checked."""
    return as_scores(s_in, "s_in"), as_scores(s_out, "s_out")


def as_sets(outs: Outs) -> list[Vector]:
    """Return one or more OOD sets, checked."""
    if len(outs) == 0:
        raise InputError("`outs` is empty; give one array of scores per OOD set.")
    return [as_scores(out, f"outs[{k}]") for k, out in enumerate(outs)]


def _twice_above(x: Vector, y: Vector) -> Codes:
    y = np.sort(y)
    return np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")  # 2 for each y below, 1 for each y equal


def count_at_least(ordered: Vector, thresholds: Vector) -> Codes:
    """Return how many of the sorted scores are at or above each threshold."""
    return ordered.size - np.searchsorted(ordered, thresholds, "left")


def threshold_at(ordered: Vector, tpr: float) -> float:
    """Return the largest of the sorted scores that keeps at least `tpr` of them."""
    if not 0 < tpr <= 1:
        raise InputError(f"`tpr` must be above 0 and at most 1, as 0.95; got {tpr}.")
    guess = math.ceil(tpr * ordered.size)  # may be off by one: 0.55 * 100 is 55.000000000000007
    return float(ordered[-next(k for k in (guess - 1, guess, guess + 1) if k / ordered.size >= tpr)])


def _nearest_threshold(ordered: Vector, s_out: Vector, tpr: float) -> float:
    distinct = np.unique(np.concatenate([ordered, s_out[s_out >= ordered[0]]]))
    return float(distinct[np.argmin(np.abs(count_at_least(ordered, distinct) / ordered.size - tpr))])


def average_precision(pos: Vector, neg: Vector) -> float:
    """Return the average precision of the positives' scores among the negatives'."""
    hits, misses = count_at_least(np.sort(pos), pos), count_at_least(np.sort(neg), pos)
    return float(np.mean(hits / (hits + misses)))  # sum_k (R_k - R_(k-1)) P_k, as each positive's step in R is 1 / n


def _trapezoid(pos: Vector, neg: Vector) -> float:
    distinct = np.unique(np.concatenate([pos, neg]))[::-1]
    hits, misses = count_at_least(np.sort(pos), distinct), count_at_least(np.sort(neg), distinct)
    precision, recall = np.append(1.0, hits / (hits + misses)), np.append(0.0, hits / pos.size)
    return float(np.diff(recall) @ (precision[1:] + precision[:-1]) / 2)

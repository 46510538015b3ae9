"""A weighted sum of AUROCs of which the images share sources: one picture may be an ID image of several sets, and what others were made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import expit, logit, stdtr, stdtrit

from farfield.errors import InputError
from farfield.metrics.intervals import Interval, PairedTest, tail_of, without_spread
from farfield.metrics.values import Placements


@dataclass(frozen=True, eq=False)
class Linked:
    """An OOD set's part in a sum of AUROCs.

    Args:
        placements: of its images, see `farfield.metrics.placements`.
        id_sources: `(n_in,)`, which source each ID image is from.
        ood_sources: `(n_out,)`, likewise of the OOD images, counted as the ID ones are.
        weight: of its AUROC in the sum.
        ood_partners: `(n_out,)`, the second source of each OOD image that is mixed of two; `None` where they have one.
    """

    placements: Placements
    id_sources: Integer[np.ndarray, " n_in"]
    ood_sources: Integer[np.ndarray, " n_out"]
    weight: float
    ood_partners: Integer[np.ndarray, " n_out"] | None = None


def linked_auroc(pieces: Sequence[Linked], *, level: float = 0.95) -> tuple[float, Interval]:
    """Return `A = sum_k w_k A_k` and its interval.

    `logit A -+ t sqrt(var) / (A (1 - A))`, where `var = u / (u - 1) sum_s T_s^2` over the u sources, t has u - 1 degrees of freedom, and a source's term
    is `T_s = sum_k w_k (sum_{i of s} (v_in_ki - A_k) / n_in_k + sum_{j of s} (v_out_kj - A_k) / n_out_k)`: the infinitesimal jackknife, which
    for sets that share no image is DeLong's variance but for a factor `n / (n - 1)`. An image of two sources is in the terms of both, and `sum_j e_j^2` over such
    images, each with its own part e_j, is taken off again, since it would count twice (Fafchamps and Gubert 2007). All terms 0: as `placement_interval`.

    Raises:
        InputError: where there is no piece, or the weights do not add up to 1.

    >>> from farfield.metrics import placements
    >>> one = Linked(placements([3, 2, 4], [1, 2]), np.arange(3), np.arange(2), 1.0)
    >>> round(linked_auroc([one])[0], 4)
    0.9167

    Source: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982, chapter 6; of an AUROC DeLong et al. 1988, Obuchowski 1997; of pairs
    Fafchamps and Gubert, "The formation of risk sharing networks", 2007.
    """
    if not pieces or not math.isclose(sum(piece.weight for piece in pieces), 1.0, abs_tol=1e-9):
        raise InputError(f"The weights of a sum of AUROCs must add up to 1; they add up to {sum(piece.weight for piece in pieces):.4g}.")
    value, shares = _shares(pieces)
    error, df, tail = *_error(pieces, shares), tail_of(level)
    if error == 0 or math.isinf(error):
        return value, without_spread(value, 0.0, _pairs(pieces) if error == 0 else 0, tail)
    half = stdtrit(df, 1 - tail) * error / (value * (1 - value))
    return value, Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def linked_test(a: Sequence[Linked], b: Sequence[Linked], *, level: float = 0.95) -> PairedTest:
    """Test whether two detectors have different sums of AUROCs on the same images: `t = (A_a - A_b) / sqrt(var)`, var as above of the differences of terms.

    Raises:
        InputError: where the images are not the same.

    >>> from farfield.metrics import placements
    >>> one = [Linked(placements([3, 2, 4], [1, 2]), np.arange(3), np.arange(2), 1.0)]
    >>> linked_test(one, one).p_value
    1.0
    """

    def same(p: Linked, q: Linked) -> bool:
        mine, theirs = (np.zeros(0) if one.ood_partners is None else one.ood_partners for one in (p, q))
        alike = np.array_equal(p.id_sources, q.id_sources) and np.array_equal(p.ood_sources, q.ood_sources) and np.array_equal(mine, theirs)
        return alike and p.weight == q.weight

    if len(a) != len(b) or not all(same(p, q) for p, q in zip(a, b, strict=True)):
        raise InputError("`a` and `b` must be of the same images with the same weights.")
    (value_a, shares_a), (value_b, shares_b) = _shares(a), _shares(b)
    value, error, df, tail = value_a - value_b, *_error(a, shares_a - shares_b), tail_of(level)
    if error == 0 or math.isinf(error):
        pairs = _pairs(a) if error == 0 else 0
        return PairedTest(value, without_spread(value, -1.0, pairs, tail), min(1.0, 2 * (1 + abs(value)) ** -pairs))
    half = float(stdtrit(df, 1 - tail)) * error
    return PairedTest(value, Interval(max(-1.0, value - half), min(1.0, value + half)), 2 * float(stdtr(df, -abs(value) / error)))


def _shares(pieces: Sequence[Linked]) -> tuple[float, Float[np.ndarray, " m"]]:
    """The sum of AUROCs, and what each image adds to its deviation: for each piece its ID images, then its OOD images."""
    value, shares = 0.0, []
    for piece in pieces:
        auroc = float(piece.placements.v_in.mean())
        value += piece.weight * auroc
        shares += [piece.weight * (v - auroc) / len(v) for v in (piece.placements.v_in, piece.placements.v_out)]
    return value, np.concatenate(shares)


def _error(pieces: Sequence[Linked], shares: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """The standard error, and its degrees of freedom."""
    first = np.concatenate([ids for piece in pieces for ids in (piece.id_sources, piece.ood_sources)])
    second = np.concatenate(
        [ids for piece in pieces for ids in (piece.id_sources, piece.ood_sources if piece.ood_partners is None else piece.ood_partners)]
    )
    units, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    if len(units) < 2:
        return math.inf, 1.0
    one, other = codes[: len(first)], codes[len(first) :]
    mixed = one != other
    alone = np.bincount(one, shares, len(units))
    square = float(((alone + np.bincount(other[mixed], shares[mixed], len(units))) ** 2).sum() - (shares[mixed] ** 2).sum())
    if square < 0:  # which few sources may bring about
        square = float((alone**2).sum())
    # sums of equal placements are 0 but for rounding
    return (math.sqrt(len(units) / (len(units) - 1) * square) if square > 1e-24 else 0.0), len(units) - 1.0


def _pairs(pieces: Sequence[Linked]) -> int:
    """How many disjoint pairs of sources the smallest piece has."""
    return min(min(len(np.unique(piece.id_sources)), len(np.unique(piece.ood_sources))) for piece in pieces)

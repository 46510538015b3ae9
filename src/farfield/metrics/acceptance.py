"""Whether two detectors differ in FPR on the same images: a test for rates at thresholds that were estimated themselves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtr, stdtrit

from farfield.errors import InputError
from farfield.metrics.intervals import MANY, IdSets, Interval, PairedTest, Scored, codes_of, tail_of, variance_of_mean, without_spread
from farfield.metrics.values import Scores, Vector, as_pair, as_scores, as_sets, count_at_least, threshold_at, threshold_at_tpr

DRAWS = 400


@dataclass(frozen=True)
class Acceptance:
    """A detector on an OOD set at the threshold that keeps a share of ID.

    Args:
        accepted: 1 for each OOD image that passes, else 0.
        rates: the share that passes at the threshold of each resample of the ID images; resamples are the same for all detectors.
        n_in: how many ID images there are.
    """

    accepted: Float64[np.ndarray, " n"]
    rates: Float64[np.ndarray, " draws"]
    n_in: int


def threshold_draws(s_in: Scores, tpr: float = 0.95, *, seed: int = 0, draws: int = DRAWS) -> Vector:
    """Return `threshold_at_tpr` of resamples of the ID images, which depend on their number and the seed alone."""
    x = as_scores(s_in, "s_in")
    order, rng, n = np.argsort(x, kind="stable"), np.random.default_rng(seed), x.size
    spare = int(threshold_at(np.arange(n, dtype=np.float64), tpr))  # how many images may lie below the threshold
    found = np.empty(draws)
    for i in range(draws):
        below = np.bincount(rng.integers(n, size=n), minlength=n)[order].cumsum()
        found[i] = x[order[np.searchsorted(below, spare, "right")]]
    return found


def acceptance(s_in: Scores, s_out: Scores, tpr: float = 0.95, *, drawn: Vector | None = None) -> Acceptance:
    """Return what `paired_acceptance_test` starts from; `drawn` are the `threshold_draws` of `s_in`, where they are at hand.

    >>> acceptance(range(100), [4, 5, 6]).accepted
    array([0., 1., 1.])
    """
    x, y = as_pair(s_in, s_out)
    thresholds = threshold_draws(x, tpr) if drawn is None else drawn
    return Acceptance((y >= threshold_at_tpr(x, tpr)).astype(np.float64), count_at_least(np.sort(y), thresholds) / y.size, x.size)


def paired_fpr_test(a: Scored, b: Scored, *, clusters: IdSets = None, tpr: float = 0.95, level: float = 0.95) -> PairedTest:
    """Test whether detectors a and b, each `(s_in, outs)` on the same images in the same order, differ in mean `fpr_at_tpr_id`.

    >>> paired_fpr_test(([2, 3], [[0, 1, 4]]), ([2, 3], [[0, 1, 4]])).p_value
    1.0
    """
    sets = [[acceptance(s_in, s_out, tpr) for s_out in as_sets(outs)] for s_in, outs in (a, b)]
    return paired_acceptance_test(*sets, clusters=clusters, level=level)


def paired_acceptance_test(
    a: Sequence[Acceptance], b: Sequence[Acceptance], *, clusters: IdSets = None, level: float = 0.95, widen: bool = True
) -> PairedTest:
    """Test as `paired_fpr_test`: `t = (F_a - F_b) / sqrt(var)`.

    `var = sum_k S(accepted_a - accepted_b)_k / n_k / K^2 + var*(mean_k rate_a - mean_k rate_b)`: the OOD images at fixed thresholds, their
    sources resampled together where `clusters` says so, and the thresholds over the ID resamples. `widen` as in `placement_interval`; a
    variance of 0 as in `paired_placement_test`.
    """
    tail, sizes = tail_of(level), [[(p.n_in, p.accepted.size) for p in sets] for sets in (a, b)]
    if sizes[0] != sizes[1] or not sizes[0]:
        raise InputError(f"`a` and `b` must judge the same images; their (ID, OOD) counts are {sizes[0]} and {sizes[1]}.")
    flags = [(p.accepted - q.accepted) / len(a) for p, q in zip(a, b, strict=True)]
    codes = codes_of(clusters, flags)
    units = [int(c.max()) + 1 for c in codes]
    value = float(sum(f.mean() for f in flags))
    if min(units) == 1:
        return PairedTest(value, Interval(-1.0, 1.0), 1.0)
    drawn = np.mean([p.rates - q.rates for p, q in zip(a, b, strict=True)], axis=0)
    parts = [*(variance_of_mean(f, c) for f, c in zip(flags, codes, strict=True)), float(drawn.var(ddof=1))]
    error = math.sqrt(sum(parts))
    if error == 0:
        pairs = min(a[0].n_in, *units)
        return PairedTest(value, without_spread(value, -1.0, pairs, tail), min(1.0, 2 * (1 + abs(value)) ** -pairs))
    freedom = [*(u - 1 for u in units), a[0].n_in - 1 or 1]
    df = sum(parts) ** 2 / sum(p**2 / u for p, u in zip(parts, freedom, strict=True)) if widen else MANY
    half = float(stdtrit(df, 1 - tail)) * error
    return PairedTest(value, Interval(max(-1.0, value - half), min(1.0, value + half)), 2 * float(stdtr(df, -abs(value) / error)))

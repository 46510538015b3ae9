"""An interval for every figure, and a test between two detectors on the same images."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.special import betaincinv, expit, logit, ndtri, stdtr, stdtrit

from farfield.errors import InputError
from farfield.metrics.values import (
    Codes,
    Outs,
    Placements,
    Scores,
    Vector,
    as_pair,
    as_scores,
    as_sets,
    average_precision,
    count_at_least,
    placements,
    threshold_at,
)

Scored: TypeAlias = tuple[Scores, Outs]
Ids: TypeAlias = Scores | None
IdSets: TypeAlias = Sequence[Ids] | None
MANY = 1e9  # degrees of freedom at which t is normal


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """By how much detector a is above detector b on the same images, and how often chance alone would do that."""

    difference: float
    interval: Interval
    p_value: float


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return the exact interval of a proportion k / n: `Beta(k, n - k + 1)` at alpha / 2, `Beta(k + 1, n - k)` at 1 - alpha / 2.

    >>> proportion_interval(0, 10)  # Clopper and Pearson 1934
    Interval(low=0.0, high=0.3084971078187607)
    """
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"`successes` must lie between 0 and `n`, and `n` be at least 1; got {successes} of {n}.")
    low = betaincinv(successes, n - successes + 1, tail_of(level)) if successes > 0 else 0.0
    return Interval(float(low), float(betaincinv(successes + 1, n - successes, 1 - tail_of(level))) if successes < n else 1.0)


def share_interval(flags: Scores, *, clusters: Ids = None, level: float = 0.95, widen: bool = True) -> Interval:
    """Return the interval of the share of images that are flagged, those of `flags` (n,) that are not 0, by a threshold that is given.

    `proportion_interval`; where images share sources, of as many independent images as they are worth (Korn and Graubard 1998).
    `widen` as in `placement_interval`.

    >>> share_interval([1, 1, 0, 0]) == proportion_interval(2, 4)
    True
    """
    values, tail = (as_scores(flags, "flags") != 0).astype(np.float64), tail_of(level)
    codes = codes_of([clusters], [values])[0]
    if clusters is None:
        return proportion_interval(int(values.sum()), values.size, level)
    if codes.max() == 0:
        return Interval(0.0, 1.0)
    size, rate = _effective_size(values, codes, tail, widen), float(values.mean())
    low = betaincinv(size * rate, size * (1 - rate) + 1, tail) if rate > 0 else 0.0
    return Interval(float(low), float(betaincinv(size * rate + 1, size * (1 - rate), 1 - tail)) if rate < 1 else 1.0)


def auroc_interval(s_in: Scores, s_out: Scores, *, clusters: Ids = None, level: float = 0.95) -> Interval:
    """Return the interval of `auroc`; the formulas are at `placement_interval`.

    >>> auroc_interval([1] * 20, [0] * 30)
    Interval(low=0.8315665290169147, high=1.0)
    """
    return placement_interval([placements(s_in, s_out)], clusters=[clusters], level=level)


def mean_auroc_interval(s_in: Scores, outs: Outs, *, clusters: IdSets = None, level: float = 0.95) -> Interval:
    """Return the joint interval of the mean AUROC over sets that share the ID images; formulas at `placement_interval`."""
    return placement_interval([placements(s_in, s_out) for s_out in as_sets(outs)], clusters=clusters, level=level)


def placement_interval(sets: Sequence[Placements], *, clusters: IdSets = None, level: float = 0.95, widen: bool = True) -> Interval:
    """Return the interval of the mean AUROC over K >= 1 sets that share the ID images (DeLong et al. 1988, Obuchowski 1997).

    `logit A -+ t sqrt(var) / (A (1 - A))`, `var = S(mean_k v_in) / n_in + sum_k S(v_out_k) / n_out_k / K^2`, where S is the
    variance (of the clusters' sums, if any), and t has Satterthwaite's degrees of freedom, a term of u clusters having u - 1.
    All placements equal (perfect separation, all scores tied): m disjoint pairs then all have the value A, the chance of which
    is at most `(mean / A)^m` (Markov), so `low = A (alpha / 2)^(1 / m)`; likewise `high`. One image or cluster on a side: [0, 1].

    Without `widen` t is the normal quantile: what resampling the clusters at hand gives, which with two or three of them says how far
    those differ and is too narrow for others of their kind.
    """
    tail, (value, error, df, pairs) = tail_of(level), _estimate(sets, clusters, widen)
    if error == 0 or math.isinf(error):
        return without_spread(value, 0.0, pairs, tail)
    half = stdtrit(df, 1 - tail) * error / (value * (1 - value))
    return Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def paired_auroc_test(a: Scored, b: Scored, *, clusters: IdSets = None, level: float = 0.95) -> PairedTest:
    """Test whether detectors a and b, each `(s_in, outs)` on the same images in the same order, differ in mean AUROC.

    >>> paired_auroc_test(([2, 3], [[0, 1, 4]]), ([2, 3], [[0, 1, 4]])).p_value
    1.0
    """
    sets_a, sets_b = ([placements(s_in, s_out) for s_out in as_sets(outs)] for s_in, outs in (a, b))
    return paired_placement_test(sets_a, sets_b, clusters=clusters, level=level)


def paired_placement_test(
    a: Sequence[Placements], b: Sequence[Placements], *, clusters: IdSets = None, level: float = 0.95, widen: bool = True
) -> PairedTest:
    """Test as `paired_auroc_test`: `t = (A_a - A_b) / sqrt(var)`, var as in `placement_interval` but of placements' differences.

    All differences equal: its bound, for values from -1 to 1 (all 0: p = 1). `widen` as in `placement_interval`. Source: DeLong et al.
    1988; Obuchowski 1997.
    """
    tail, sizes_a, sizes_b = tail_of(level), *([(p.v_in.size, p.v_out.size) for p in sets] for sets in (a, b))
    if sizes_a != sizes_b:
        raise InputError(f"`a` and `b` must score the same images; their (ID, OOD) counts are {sizes_a} and {sizes_b}.")
    differences = [Placements(p.v_in - q.v_in, p.v_out - q.v_out) for p, q in zip(a, b, strict=True)]
    value, error, df, pairs = _estimate(differences, clusters, widen)
    if error == 0 or math.isinf(error):
        return PairedTest(value, without_spread(value, -1.0, pairs, tail), min(1.0, 2 * (1 + abs(value)) ** -pairs))
    half = float(stdtrit(df, 1 - tail)) * error
    return PairedTest(value, Interval(max(-1.0, value - half), min(1.0, value + half)), 2 * float(stdtr(df, -abs(value) / error)))


def unpaired_placement_test(
    a: Sequence[Placements], b: Sequence[Placements], *, clusters: tuple[IdSets, IdSets] = (None, None), level: float = 0.95, widen: bool = True
) -> PairedTest:
    """Test whether two mean AUROCs differ that are from independent images: `t = (A_a - A_b) / sqrt(var_a + var_b)`.

    var as in `placement_interval`, t with Welch and Satterthwaite's degrees of freedom. Where a variance is 0 (perfect separation, all
    scores tied) or unknown, the interval is the difference of the two intervals at half the error each, and p the level at which that leaves 0.

    >>> one = placements([3, 4, 5, 6], [1, 2, 3.5, 5.5])
    >>> unpaired_placement_test([one], [one]).p_value
    1.0
    """
    tail, (value_a, error_a, df_a, _), (value_b, error_b, df_b, _) = (
        tail_of(level),
        _estimate(a, clusters[0], widen),
        _estimate(b, clusters[1], widen),
    )
    value, error = value_a - value_b, math.hypot(error_a, error_b)
    if 0 in (error_a, error_b) or math.isinf(error):

        def ends(alpha: float) -> Interval:
            one, other = (
                placement_interval(sets, clusters=ids, level=1 - alpha / 2, widen=widen) for sets, ids in ((a, clusters[0]), (b, clusters[1]))
            )
            return Interval(one.low - other.high, one.high - other.low)

        low, high = 0.0, 1.0  # of the errors alpha at which the interval leaves 0, the smallest lies between
        for _ in range(50):
            middle = (low + high) / 2
            apart = ends(middle).low > 0 or ends(middle).high < 0
            low, high = (low, middle) if apart else (middle, high)
        return PairedTest(value, ends(2 * tail), high)
    df = (error_a**2 + error_b**2) ** 2 / (error_a**4 / df_a + error_b**4 / df_b)
    half = float(stdtrit(df, 1 - tail)) * error
    return PairedTest(value, Interval(max(-1.0, value - half), min(1.0, value + half)), 2 * float(stdtr(df, -abs(value) / error)))


def fpr_interval(
    s_in: Scores, s_out: Scores, *, clusters: Ids = None, tpr: float = 0.95, level: float = 0.95, seed: int = 0, draws: int = 2000
) -> Interval:
    """Return the interval of `fpr_at_tpr_id`, the threshold's own uncertainty included; never of zero width.

    `b ~ Binomial(n_in, 1 - tpr)` ID scores are below the true threshold, so it lies between order statistics b and b + 1; with c
    of n OOD scores above such an end, the FPR is drawn from Clopper and Pearson's `Beta(c, n - c + 1)` (low end of the interval)
    or `Beta(c + 1, n - c)` (high). Clusters divide c and n by their design effect (Korn and Graubard 1998). Fewer than 72 ID
    images (at the defaults) put no bound under their 5 % quantile, so `high` is 1.
    """
    x, y = as_pair(s_in, s_out)
    return mean_fpr_interval(x, [y], clusters=[clusters], tpr=tpr, level=level, seed=seed, draws=draws)


def mean_fpr_interval(
    s_in: Scores, outs: Outs, *, clusters: IdSets = None, tpr: float = 0.95, level: float = 0.95, seed: int = 0, draws: int = 2000, widen: bool = True
) -> Interval:
    """Return the joint interval of the mean `fpr_at_tpr_id` over sets that share the ID images, and so one drawn threshold.

    As `fpr_interval`, but the added 1 goes to the smallest set alone: a bound on a sum needs it once (Fay and Feuer 1997). `widen` as in
    `placement_interval`.
    """
    x, ys = as_scores(s_in, "s_in"), as_sets(outs)
    sides = [(x, np.arange(x.size)), *zip(ys, codes_of(clusters, ys), strict=True)]
    return _fpr_interval([_sorted(*side) for side in sides], tpr, level, seed, draws, widen)


def roc_band(
    s_in: Scores,
    s_out: Scores,
    flagged: Sequence[float],
    *,
    clusters: Ids = None,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 500,
    widen: bool = True,
) -> list[Interval]:
    """Return the intervals of the OOD share caught where a share of ID is flagged, for each share in `flagged`, from 0 to below 1, rising.

    The ROC curve's band, point by point: `1 - fpr_interval` at `tpr = 1 - flagged`. As the share caught can but rise with the share
    flagged, an end below that of a smaller share is raised to it, and one above that of a larger share lowered. `widen` as in
    `placement_interval`.
    """
    x, y = as_pair(s_in, s_out)
    sides = [_sorted(x, np.arange(x.size)), _sorted(y, codes_of([clusters], [y])[0])]
    kept = [_fpr_interval(sides, 1 - share, level, seed, draws, widen) for share in flagged]
    return rising([Interval(1 - high, 1 - low) for low, high in kept])


def rising(intervals: Sequence[Interval]) -> list[Interval]:
    """Return intervals of shares that can but rise from one to the next, with ends that do so too."""
    lows = np.maximum.accumulate([low for low, _ in intervals])
    highs = np.minimum.accumulate([high for _, high in reversed(intervals)])[::-1]
    return [Interval(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def fpr_ood_interval(
    s_in: Scores, s_out: Scores, *, clusters: Ids = None, tpr: float = 0.95, level: float = 0.95, seed: int = 0, draws: int = 2000
) -> Interval:
    """Return the interval of `fpr_at_95_tpr_ood`: `fpr_interval` with the roles exchanged; clusters blur the threshold."""
    x, y = as_pair(s_in, s_out)
    sides = [(-y, codes_of([clusters], [y])[0]), (-x, np.arange(x.size))]
    return _fpr_interval([_sorted(*side) for side in sides], tpr, level, seed, draws)


def ap_interval(
    s_in: Scores, s_out: Scores, positive: Literal["id", "ood"] = "id", *, level: float = 0.95, seed: int = 0, draws: int = 500
) -> Interval:
    """Return the interval of `ap_id` or `ap_ood` by a bootstrap within each class: `logit AP -+ z sd(draws) / (AP (1 - AP))`.

    Where all draws agree (perfect separation, all scores tied) it spans what `-log(alpha / 2)` negatives, as many as a sample may
    well have missed, would make of the AP at the top or at the bottom.
    """
    if positive not in ("id", "ood"):
        raise InputError(f'`positive` must be "id" or "ood"; got {positive!r}.')
    x, y = (np.sort(side) for side in as_pair(s_in, s_out))
    pos, neg = (x, y) if positive == "id" else (-y[::-1], -x[::-1])
    tail, values, value = tail_of(level), _bootstrap_ap(pos, neg, np.random.default_rng(seed), draws), average_precision(pos, neg)
    if np.ptp(values) > 1e-9:
        half = ndtri(1 - tail) * values.std() / (value * (1 - value))
        return Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))
    rest = neg[math.ceil(-math.log(tail)) :]
    worst = np.append(rest, np.full(neg.size - rest.size, np.inf))
    return Interval(average_precision(pos, worst), average_precision(pos, rest))


def codes_of(clusters: IdSets, outs: Sequence[Vector]) -> list[Codes]:
    """Number the clusters of each set from 0, for `bincount`; where there are none, every image is its own."""
    clusters, sizes = [None] * len(outs) if clusters is None else clusters, [y.size for y in outs]
    ids = [None if c is None else as_scores(c, "clusters") for c in clusters]
    if len(ids) != len(sizes) or any(c is not None and c.size != n for c, n in zip(ids, sizes, strict=True)):
        raise InputError(f"`clusters` must number the source of each OOD image; the OOD sets have {sizes} images.")
    own = [np.arange(n, dtype=np.int64) for n in sizes]
    return [n if c is None else np.unique(c, return_inverse=True)[1].astype(np.int64) for c, n in zip(ids, own, strict=True)]


def tail_of(level: float) -> float:
    """Return half of what an interval of this level leaves out."""
    if not 0 < level < 1:
        raise InputError(f"`level` must lie between 0 and 1, as 0.95; got {level}.")
    return (1 - level) / 2


def _bootstrap_ap(pos: Vector, neg: Vector, rng: np.random.Generator, draws: int) -> Vector:
    """Draw the AP of resamples of the sorted scores; a resample is a weight per score, so that nothing is sorted again."""
    firsts, values = [np.searchsorted(side, pos) for side in (pos, neg)], np.empty(draws)
    for i in range(draws):
        weights = [np.bincount(rng.integers(n, size=n), minlength=n + 1) for n in (pos.size, neg.size)]
        hits, misses = (w[::-1].cumsum()[::-1][first] for w, first in zip(weights, firsts, strict=True))
        values[i] = weights[0][:-1] @ (hits / np.maximum(hits + misses, 1)) / pos.size
    return values


def variance_of_mean(values: Vector, codes: Codes) -> float:
    """Return the variance of the mean of values whose clusters are independent of each other."""
    shifted = np.round(values - values[0], 12)  # so that the spread of a constant is exactly 0, despite rounding
    sums = np.bincount(codes, weights=shifted - shifted.mean())
    return float(sums @ sums) * sums.size / (sums.size - 1) / values.size**2


def _estimate(sets: Sequence[Placements], clusters: IdSets, widen: bool) -> tuple[float, float, float, int]:
    """Return the mean placement, its standard error and degrees of freedom, and how many disjoint pairs of images there are."""
    if len({p.v_in.size for p in sets}) != 1:
        raise InputError(f"There must be one or more sets, on the same ID images; got {[p.v_in.size for p in sets]} of them.")
    v_in, v_outs = np.mean([p.v_in for p in sets], axis=0), [p.v_out / len(sets) for p in sets]
    codes = [*codes_of(clusters, v_outs), np.arange(v_in.size)]
    units = [int(c.max()) + 1 for c in codes]
    if min(units) == 1:
        return float(v_in.mean()), math.inf, 1.0, 0
    parts = [variance_of_mean(v, c) for v, c in zip([*v_outs, v_in], codes, strict=True)]
    df = sum(parts) ** 2 / sum(p**2 / (u - 1) for p, u in zip(parts, units, strict=True)) if any(parts) else 1.0
    return float(v_in.mean()), math.sqrt(sum(parts)), df if widen else MANY, min(v_in.size, len(sets) * min(units[:-1]))


def without_spread(value: float, bottom: float, pairs: int, tail: float) -> Interval:
    """Bound the mean of values in [bottom, 1] that were all `value` in so many independent pairs; with none, say nothing."""
    shrink = tail ** (1 / pairs) if pairs else 0.0
    return Interval(bottom + (value - bottom) * shrink, 1 - (1 - value) * shrink)


def _effective_size(flags: Vector, codes: Codes, tail: float, widen: bool) -> float:
    """Return how many independent images the clusters are worth for the rate of these flags."""
    n, units = flags.size, int(codes.max()) + 1
    if units == n:
        return float(n)
    rate, variance = float(flags.mean()), variance_of_mean(flags, codes)
    # With all flags equal the design effect is unknown: a whole cluster then counts as one image.
    size = units if rate in (0, 1) else rate * (1 - rate) / variance if variance else n
    shrink = (stdtrit(n - 1, tail) / stdtrit(units - 1, tail)) ** 2 if widen else 1.0
    return float(max(1, min(n, size) * shrink))


def _fpr_interval(sides: list[tuple[Vector, Codes]], tpr: float, level: float, seed: int, draws: int, widen: bool = True) -> Interval:
    """Return the interval of the mean over `sides[1:]` of the rates above a quantile of `sides[0]`; all of them sorted."""
    kept, tail, rng = sides[0][0], tail_of(level), np.random.default_rng(seed)
    threshold = threshold_at(kept, tpr)
    if min(codes.max() for _, codes in sides) == 0:
        return Interval(0.0, 1.0)
    units, *sizes = [_effective_size((values >= threshold).astype(np.float64), codes, tail, widen) for values, codes in sides]
    below, step = rng.binomial(round(units), 1 - tpr, draws), kept.size / round(units)
    ends = np.concatenate([[-np.inf], kept, [np.inf]])
    loose, strict = ends[(below * step).astype(int)], ends[np.minimum(np.ceil((below + 1) * step), kept.size + 1).astype(int)]
    low, high = np.zeros(draws), np.zeros(draws)
    for k, size in enumerate(sizes):
        ordered, extra = sides[k + 1][0], float(k == np.argmin(sizes))
        low += _rate_draws(ordered, size, strict, 0.0, extra, rng) / len(sizes)
        high += _rate_draws(ordered, size, loose, extra, 0.0, rng) / len(sizes)
    return Interval(float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail)))


def _sorted(values: Vector, codes: Codes) -> tuple[Vector, Codes]:
    order = np.argsort(values, kind="stable")
    return values[order], codes[order]


def _rate_draws(y: Vector, size: float, thresholds: Vector, hits: float, misses: float, rng: np.random.Generator) -> Vector:
    # Beta(a, b) = G(a) / (G(a) + G(b)); the gamma with shape 0 is 0, which numpy's beta refuses.
    rate = count_at_least(y, thresholds) / y.size
    above, below = rng.standard_gamma(size * rate + hits), rng.standard_gamma(size * (1 - rate) + misses)
    return above / (above + below)

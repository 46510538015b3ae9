"""Metrics against scikit-learn, loops written from the definitions, closed forms, and the coverage of every interval."""

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from farfield import metrics as m
from farfield.errors import InputError
from farfield.metrics import Interval

Z95 = stats.norm.ppf(0.95)
INF = math.inf
SCORES = st.one_of(
    st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=25),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=25),
    st.lists(st.sampled_from([0.0, -0.0, 1e30, -1e30, 1e-310, 2e-310, INF, -INF]), min_size=1, max_size=12),
)
EXTREME = [
    ([1e30, 1e-310, INF, 3.0], [2e-310, -INF, 3.0, 3.0, 1e30]),
    ([INF, INF, 0.0], [INF, -INF]),
    ([5.0] * 7, [5.0] * 4),
    ([1.0], [2.0]),
    ([2.0], [1.0]),
    ([1.0, 2.0], [1.5]),
]


def random_scores(seed: int, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    s_in, s_out = rng.normal(1, 1, int(rng.integers(1, 60))), rng.normal(0, 1, int(rng.integers(1, 60)))
    return (np.round(s_in), np.round(s_out)) if tied else (s_in, s_out)


CASES = [random_scores(seed, tied) for seed in range(30) for tied in (False, True)] + EXTREME


# Oracles: scikit-learn refuses infinities, so it gets the ranks, which leave every metric as it is.


def labelled(s_in, s_out):
    return np.r_[np.ones(len(s_in)), np.zeros(len(s_out))], stats.rankdata(np.r_[s_in, s_out])


def loop_auroc(s_in, s_out):
    return sum((x > y) + 0.5 * (x == y) for x in s_in for y in s_out) / (len(s_in) * len(s_out))


def loop_fpr_id(s_in, s_out, tpr):
    t = max(t for t in s_in if sum(x >= t for x in s_in) / len(s_in) >= tpr)
    return sum(y >= t for y in s_out) / len(s_out)


def loop_fpr_ood(s_in, s_out):
    t = min(t for t in s_out if sum(y <= t for y in s_out) / len(s_out) >= 0.95)
    return sum(x <= t for x in s_in) / len(s_in)


def outlier_exposure_fpr(s_in, s_out, level=0.95):
    """The steps of `fpr_and_fdr_at_recall` in the Outlier Exposure code, without its false discovery rate."""
    label, score = labelled(s_in, s_out)
    order = np.argsort(score, kind="mergesort")[::-1]
    score, label = score[order], label[order]
    steps = np.r_[np.where(np.diff(score))[0], label.size - 1]
    hits = np.cumsum(label)[steps]
    misses = 1 + steps - hits
    part = slice(hits.searchsorted(hits[-1]), None, -1)
    recall, misses = np.r_[(hits / hits[-1])[part], 1], np.r_[misses[part], 0]
    return misses[np.argmin(np.abs(recall - level))] / np.sum(label == 0)


@pytest.mark.parametrize("s_in, s_out", CASES)
def test_every_metric_equals_its_oracles(s_in, s_out):
    label, rank = labelled(s_in, s_out)
    assert m.auroc(s_in, s_out) == pytest.approx(loop_auroc(s_in, s_out), abs=1e-12)
    assert m.auroc(s_in, s_out) == pytest.approx(sk.roc_auc_score(label, rank), abs=1e-12)
    assert m.fpr_at_95_tpr_id(s_in, s_out) == loop_fpr_id(s_in, s_out, 0.95)
    assert m.fpr_at_95_tpr_id(s_in, s_out, variant="argmin") == pytest.approx(outlier_exposure_fpr(s_in, s_out), abs=1e-12)
    assert m.fpr_at_95_tpr_ood(s_in, s_out) == loop_fpr_ood(s_in, s_out)
    for ap, trapezoid, positive, score in (
        (m.ap_id, m.aupr_trapezoid_id, label, rank),
        (m.ap_ood, m.aupr_trapezoid_ood, 1 - label, -rank),
    ):
        assert ap(s_in, s_out) == pytest.approx(sk.average_precision_score(positive, score), abs=1e-12)
        precision, recall, _ = sk.precision_recall_curve(positive, score)
        assert trapezoid(s_in, s_out) == pytest.approx(sk.auc(recall, precision), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 19, 20, 21, 40, 100, 101])
@pytest.mark.parametrize("tpr", [0.05, 0.1, 0.5, 0.55, 0.7, 0.9, 0.95, 0.97, 1.0])
def test_threshold_keeps_exactly_what_it_must(n, tpr):
    assert m.fpr_at_tpr_id(range(n), range(-5, n), tpr) == loop_fpr_id(range(n), range(-5, n), tpr)


def test_threshold_at_round_numbers():
    assert m.fpr_at_tpr_id(range(20), [0, 1], 0.95) == 0.5  # 19 of 20 are kept: the threshold is 1
    assert m.fpr_at_tpr_id(range(100), [44.5, 45.5], 0.55) == 0.5  # 0.55 * 100 exceeds 55 in floating point
    above = math.nextafter(0.55, 1)
    assert m.fpr_at_tpr_id(range(100), [44.0, 45.0], above) == 1.0  # 55 of 100 are now one too few
    assert m.fpr_at_tpr_id([1, 2, 3], [2], math.nextafter(1 / 3, 1)) == 1.0  # times 3 it is 1, yet 1 of 3 is too few


@settings(max_examples=150, deadline=None)
@given(SCORES, SCORES)
def test_properties(s_in, s_out):
    x, y = np.array(s_in), np.array(s_out)
    value, fpr = m.auroc(x, y), m.fpr_at_95_tpr_id(x, y)
    assert value == pytest.approx(1 - m.auroc(y, x), abs=1e-12)
    assert value == pytest.approx(m.auroc(-y, -x), abs=1e-12)
    assert 0 <= fpr <= 1
    assert m.ap_ood(x, y) == m.ap_id(-y, -x)
    assert m.fpr_at_95_tpr_ood(x, y) == m.fpr_at_95_tpr_id(-y, -x)
    ranks = stats.rankdata(np.r_[x, y]) ** 3 - 7  # an increasing map
    u, v = ranks[: x.size], ranks[x.size :]
    for metric in (m.auroc, m.fpr_at_95_tpr_id, m.fpr_at_95_tpr_ood, m.ap_id, m.ap_ood, m.aupr_trapezoid_id):
        assert metric(x, y) == metric(u, v)
        assert isinstance(metric(x, y), float)
    placed = m.placements(x, y)
    assert placed.v_in.mean() == pytest.approx(value, abs=1e-12)
    assert placed.v_out.mean() == pytest.approx(value, abs=1e-12)
    low, high = m.auroc_interval(x, y)
    assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1 and high - low > 0
    low, high = m.fpr_interval(x, y, draws=300)
    assert 0 <= low <= fpr <= high <= 1 and high - low > 0
    low, high = m.ap_interval(x, y, draws=50)
    assert 0 <= low <= m.ap_id(x, y) + 1e-12 and m.ap_id(x, y) - 1e-12 <= high <= 1 and high - low > 0


@pytest.mark.parametrize("n_in, n_out", [(1, 1), (1, 9), (9, 1), (30, 70)])
def test_constant_scores(n_in, n_out):
    s_in, s_out = [4.0] * n_in, [4.0] * n_out
    assert m.auroc(s_in, s_out) == 0.5
    assert m.fpr_at_95_tpr_id(s_in, s_out) == m.fpr_at_95_tpr_ood(s_in, s_out) == 1.0
    assert m.ap_id(s_in, s_out) == pytest.approx(n_in / (n_in + n_out))
    assert m.ap_ood(s_in, s_out) == pytest.approx(n_out / (n_in + n_out))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, np.float16, np.float32, list, tuple])
def test_any_array_like(kind):
    s_in, s_out = [2, 3, 3, 5], [1, 3, 2]
    if isinstance(kind, torch.dtype):
        a, b = torch.tensor(s_in, dtype=kind), torch.tensor(s_out, dtype=kind)
        a = a.requires_grad_() if kind.is_floating_point else a
    else:
        a, b = (kind(s) if kind in (list, tuple) else np.array(s, dtype=kind) for s in (s_in, s_out))
    assert m.auroc(a, b) == loop_auroc(s_in, s_out)
    assert m.auroc_interval(a, b, clusters=torch.tensor([0, 1, 1])) == m.auroc_interval(s_in, s_out, clusters=[5, 9, 9])


def test_float32_is_not_rounded_on_the_way():
    assert m.auroc(torch.tensor([1 + 1e-12], dtype=torch.float64), torch.tensor([1.0])) == 1.0


def test_bad_input_says_what_and_where():
    nan = np.zeros(50)
    nan[[17, 20, 49]] = np.nan
    # (`unwrap` takes off the checker of types that the tests install, so that our own message is seen.)
    calls: list[tuple[str, Callable[[], object]]] = [
        (r"`s_out` has NaN in 3 of 50 scores, first at position 17\.", lambda: m.auroc([1], nan)),
        (r"`s_in` has NaN in 3 of 50", lambda: m.auroc_interval(torch.tensor(nan), [1])),
        (r"`outs\[1\]` has NaN", lambda: m.mean_fpr_interval([1], [[1], nan])),
        (r"`s_in` must be 1-D and not empty.*\(0,\)", lambda: m.fpr_at_95_tpr_id([], [1])),
        (r"`s_out` must be 1-D.*\(1, 2\)", lambda: m.ap_id([1], [[1, 2]])),
        (r"`s_in` must be a 1-D array of numbers; got str", lambda: m.ap_ood("high", [1])),
        (r"`s_out` must be a 1-D array of numbers", lambda: m.ap_ood([1], [[1, 2], [3]])),
        (r"`outs` is empty", lambda: m.mean_auroc_interval([1], [])),
        (r"one or more sets", lambda: m.placement_interval([])),
        (r"same ID images; got \[1, 2\]", lambda: m.placement_interval([m.placements([1], [1]), m.placements([1, 2], [1])])),
        (r"`clusters` must number.*\[2\]", lambda: m.auroc_interval([1], [1, 2], clusters=[1])),
        (r"`clusters` must number.*\[2, 1\]", lambda: m.mean_fpr_interval([1], [[1, 2], [1]], clusters=[None])),
        (r"`clusters` must number", lambda: m.mean_auroc_interval([1], [[1, 2]], clusters=[None, None])),
        (r"`tpr` must be", lambda: m.fpr_at_tpr_id([1], [1], 0.0)),
        (r"`tpr` must be", lambda: m.fpr_interval([1], [1], tpr=1.1)),
        (r"`level` must", lambda: m.auroc_interval([1], [1], level=1.0)),
        (r"`level` must", lambda: m.proportion_interval(1, 2, 95)),
        (r"`variant` must", lambda: inspect.unwrap(m.fpr_at_tpr_id)([1], [1], variant="quantile")),
        (r"`positive` must", lambda: inspect.unwrap(m.ap_interval)([1], [1], "ID")),
        (r"got 3 of 2", lambda: m.proportion_interval(3, 2)),
        (r"got -1 of 2", lambda: m.proportion_interval(-1, 2)),
        (r"got 0 of 0", lambda: m.proportion_interval(0, 0)),
        (r"same images; .*\[\(1, 1\)\] and \[\(2, 1\)\]", lambda: m.paired_auroc_test(([1], [[1]]), ([1, 2], [[1]]))),
        (r"same images", lambda: m.paired_auroc_test(([1], [[1]]), ([1], [[1], [1]]))),
        (r"same images", lambda: m.paired_auroc_test(([1], [[1]]), ([1], [[1, 2]]))),
    ]
    for message, call in calls:
        with pytest.raises(InputError, match=message):
            call()


# Closed forms and exact bounds.


def test_closed_forms_of_two_gaussians():
    n, d = 40001, 1.3
    grid = stats.norm.ppf((np.arange(n) + 0.5) / n)
    assert m.auroc(grid + d, grid) == pytest.approx(stats.norm.cdf(d / math.sqrt(2)), abs=1e-4)
    assert m.fpr_at_95_tpr_id(grid + d, grid) == pytest.approx(stats.norm.cdf(Z95 - d), abs=1e-4)
    assert m.fpr_at_95_tpr_ood(2 * grid + d, grid) == pytest.approx(stats.norm.cdf((Z95 - d) / 2), abs=1e-4)
    assert m.fpr_at_tpr_id(grid + d, grid, 0.8) == pytest.approx(stats.norm.cdf(stats.norm.ppf(0.8) - d), abs=1e-4)


def test_proportion_interval_is_clopper_pearson():
    for k, n, level in ((0, 7, 0.95), (7, 7, 0.95), (3, 7, 0.9), (480, 500, 0.99)):
        expected = stats.binomtest(k, n).proportion_ci(level, "exact")
        assert m.proportion_interval(k, n, level) == pytest.approx((expected.low, expected.high), rel=1e-9)


def logit_interval(value, error, quantile):
    half = quantile * error / (value * (1 - value))
    return tuple(1 / (1 + math.exp(-(math.log(value / (1 - value)) + sign * half))) for sign in (-1, 1))


def delong(s_in, s_out, clusters=None):
    """Var(AUROC) from double loops, as Obuchowski 1997 writes it for clusters of OOD only."""
    v_in = [np.mean([(x > y) + 0.5 * (x == y) for y in s_out]) for x in s_in]
    v_out = [np.mean([(x > y) + 0.5 * (x == y) for x in s_in]) for y in s_out]
    clusters, value = list(range(len(s_out)) if clusters is None else clusters), np.mean(v_in)
    sums = [sum(v - value for v, c in zip(v_out, clusters, strict=True) if c == k) for k in set(clusters)]
    var_in = np.sum((v_in - value) ** 2) / (len(s_in) - 1) / len(s_in)
    var_out = len(sums) / (len(sums) - 1) * np.sum(np.square(sums)) / len(s_out) ** 2
    return value, var_in, var_out, (var_in + var_out) ** 2 / (var_in**2 / (len(s_in) - 1) + var_out**2 / (len(sums) - 1))


@pytest.mark.parametrize("clusters", [None, [3, 3, 7, 7, 7, 1, 1, 2, 9]])
def test_auroc_interval_equals_the_formula(clusters):
    s_in, s_out = [4, 2, 6, 8, 3, 5, 5], [1, 3, 2, 5, 0, 7, 1, 4, 4]
    value, var_in, var_out, df = delong(s_in, s_out, clusters)
    expected = logit_interval(value, math.sqrt(var_in + var_out), stats.t.ppf(0.95, df))
    assert m.auroc_interval(s_in, s_out, clusters=clusters, level=0.9) == pytest.approx(expected, rel=1e-9)
    # Twice the same set: the ID part is shared, and so stays; the OOD part is halved.
    v = [var_in, var_out / 4, var_out / 4]
    units = [6, *2 * [len(set(clusters or range(9))) - 1]]
    df = sum(v) ** 2 / sum(p**2 / u for p, u in zip(v, units, strict=True))
    expected = logit_interval(value, math.sqrt(sum(v)), stats.t.ppf(0.975, df))
    sets = None if clusters is None else [clusters, clusters]
    assert m.mean_auroc_interval(s_in, [s_out, s_out], clusters=sets) == pytest.approx(expected, rel=1e-9)


def test_auroc_interval_without_spread():
    bound = 0.025 ** (1 / 20)
    assert m.auroc_interval([1] * 20, [0] * 30) == pytest.approx((bound, 1))
    assert m.auroc_interval([0] * 30, [1] * 20) == pytest.approx((0, 1 - bound))
    assert m.auroc_interval([0] * 30, [0] * 20) == pytest.approx((bound / 2, 1 - bound / 2))
    assert m.mean_auroc_interval([1] * 50, [[0] * 20, [0] * 25]) == pytest.approx((0.025 ** (1 / 40), 1))
    assert m.auroc_interval([1] * 50, [0] * 40, clusters=[0, 1, 2, 3] * 10) == pytest.approx((0.025 ** (1 / 4), 1))
    # The worst population for a perfect sample: a mass of ID below everything. The bound is exactly right there.
    assert bound**20 == pytest.approx(0.025)


@pytest.mark.parametrize("s_in, s_out, clusters", [([1], [0, 2, 3], None), ([1, 2], [0], None), ([1, 2, 3], [0, 0.5, 2.5], [4, 4, 4])])
def test_one_image_or_cluster_says_nothing_of_spread(s_in, s_out, clusters):
    assert m.auroc_interval(s_in, s_out, clusters=clusters) == Interval(0.0, 1.0)
    assert m.fpr_interval(s_in, s_out, clusters=clusters) == Interval(0.0, 1.0)
    assert m.fpr_ood_interval(s_in, s_out, clusters=clusters) == Interval(0.0, 1.0)
    test = m.paired_auroc_test((s_in, [s_out]), (s_in[::-1], [s_out]), clusters=[clusters])
    assert test.interval == Interval(-1.0, 1.0) and test.p_value == 1.0


def test_fpr_interval_with_a_sure_threshold_is_clopper_pearson():
    s_in = np.linspace(1, 1.001, 20000)
    for k, n in ((0, 40), (40, 40), (9, 40)):
        s_out = np.r_[np.full(k, 2.0), np.zeros(n - k)]
        expected = m.proportion_interval(k, n)
        assert m.fpr_interval(s_in, s_out, draws=20000) == pytest.approx(expected, abs=0.012)
        assert m.fpr_interval(s_in, s_out).low == (0 if k == 0 else pytest.approx(expected.low, abs=0.04))
        mean = m.mean_fpr_interval(s_in, [s_out, np.zeros(10**6)], draws=20000)  # the second set adds nothing but a mean
        assert mean.low == pytest.approx(expected.low / 2, abs=0.012) and (k == 40 or mean.high < expected.high / 2 + 0.012)


def test_mean_fpr_interval_has_one_added_count():
    s_in, zero = np.linspace(1, 1.001, 5000), [np.zeros(n) for n in (100, 40, 60)]
    assert m.mean_fpr_interval(s_in, zero, draws=20000) == pytest.approx((0, m.proportion_interval(0, 40).high / 3), abs=2e-3)
    one = [np.full(y.size, 2.0) for y in zero]
    assert m.mean_fpr_interval(s_in, one, draws=20000) == pytest.approx((1 - m.proportion_interval(0, 40).high / 3, 1), abs=2e-3)


def test_fpr_interval_brackets_the_threshold_by_ranks():
    n, tpr = 200, 0.9
    s_out = np.linspace(0, n, 400001)  # the FPR at a threshold t is 1 - t / n, without error of its own
    low, high = m.fpr_interval(np.arange(n), s_out, tpr=tpr, draws=40000)
    b = stats.binom(n, 1 - tpr)  # order statistic b, from 1, is the score b - 1; the upper end lies at b + 1
    assert low == pytest.approx(1 - b.ppf(0.975) / n, abs=0.003)
    assert high == pytest.approx(1 - (b.ppf(0.025) - 1) / n, abs=0.003)


def test_fpr_interval_admits_what_few_id_images_cannot_tell():
    s_out = np.zeros(100)
    assert m.fpr_interval(np.arange(1, 51), s_out).high > 0.99 and m.fpr_interval(np.arange(1, 101), s_out).high < 0.05
    assert m.fpr_interval([1, 2], [5] * 500, tpr=0.1).low == 0.0  # the true threshold may well be above both
    assert m.fpr_interval(np.ones(100), [INF] * 100).low > 0.9 and m.fpr_interval([-INF] * 100, s_out).low > 0.9


def test_fpr_interval_options():
    rng = np.random.default_rng(3)
    s_in, s_out = rng.normal(2, 1, 500), rng.normal(0, 1, 300)
    assert m.fpr_interval(s_in, s_out) == m.fpr_interval(torch.tensor(s_in), s_out)
    assert m.fpr_interval(s_in, s_out) != m.fpr_interval(s_in, s_out, seed=1)
    narrow, wide = m.fpr_interval(s_in, s_out, level=0.8), m.fpr_interval(s_in, s_out, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert m.fpr_interval(s_in, s_out, tpr=0.5).high < m.fpr_interval(s_in, s_out, tpr=0.95).low
    assert m.fpr_interval(s_in, s_out) == m.mean_fpr_interval(s_in, [s_out])
    assert m.fpr_ood_interval(s_in, s_out) == m.fpr_interval(-s_out, -s_in)
    assert m.fpr_interval(s_in, s_out, clusters=np.arange(300) * 7) == m.fpr_interval(s_in, s_out)


def test_clusters_of_equal_images_count_as_their_number():
    """Every image five times: n is worth a fifth, but for the t quantile, whichever side is clustered."""
    rng = np.random.default_rng(5)
    s_in, once = rng.normal(1, 1, 3000), rng.normal(0, 1, 400)
    five, ids = np.repeat(once, 5), np.repeat(np.arange(400), 5)
    for f in (m.fpr_interval, m.fpr_ood_interval, m.auroc_interval):
        assert f(s_in, five, clusters=ids) == pytest.approx(f(s_in, once), abs=0.012)
        assert np.diff(f(s_in, five)) < 0.85 * np.diff(f(s_in, once))
    perfect = m.fpr_interval(s_in, np.full(40, -9.0), clusters=np.repeat(np.arange(8), 5), draws=20000)
    t = stats.t.ppf(0.025, 39) / stats.t.ppf(0.025, 7)
    assert perfect.high == pytest.approx(1 - 0.025 ** (1 / (8 * t**2)), rel=0.03)


def test_ap_interval():
    rng = np.random.default_rng(4)
    s_in, s_out = rng.normal(1, 1, 200), rng.normal(0, 1, 100)
    assert m.ap_interval(s_in, s_out, "ood") == pytest.approx(m.ap_interval(-s_out, -s_in, "id"), abs=1e-12)
    assert m.ap_interval(s_in, s_out) != m.ap_interval(s_in, s_out, "ood")
    low, high = m.ap_interval(s_in, s_out, "ood", draws=400)
    draws = [m.ap_ood(rng.choice(s_in, 200), rng.choice(s_out, 100)) for _ in range(800)]
    assert (low, high) == pytest.approx(logit_interval(m.ap_ood(s_in, s_out), np.std(draws), 1.96), abs=0.015)
    narrow = m.ap_interval(s_in, s_out, "ood", draws=400, level=0.8)
    assert narrow == pytest.approx(logit_interval(m.ap_ood(s_in, s_out), np.std(draws), 1.2816), abs=0.015)
    # Four of the 30 negatives on top of 20 positives: the r-th has the precision r / (r + 4).
    worst = np.mean([r / (r + 4) for r in range(1, 21)])
    assert m.ap_interval(range(1, 21), [0] * 30) == pytest.approx((worst, 1))
    assert m.ap_interval(range(1, 21), [0] * 3).low == pytest.approx(np.mean([r / (r + 3) for r in range(1, 21)]))
    assert m.ap_interval([1] * 20, [1] * 30) == pytest.approx((20 / 50, 20 / 46))


def test_rounded_ap_interval_ties():
    rng = np.random.default_rng(6)
    s_in, s_out = np.round(rng.normal(1, 1, 150)), np.round(rng.normal(0, 1, 150))
    draws = [m.ap_id(rng.choice(s_in, 150), rng.choice(s_out, 150)) for _ in range(800)]
    assert m.ap_interval(s_in, s_out) == pytest.approx(logit_interval(m.ap_id(s_in, s_out), np.std(draws), 1.96), abs=0.015)


# Coverage: the share of samples whose interval has the truth in it.


def covers(draw, interval, truth: float, repeats: int, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    intervals = np.array([interval(*draw(rng)) for _ in range(repeats)])
    return float(np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])))


def gaussians(d: float, n_in: int, n_out: int):
    return lambda rng: (rng.normal(d, 1, n_in), rng.normal(0, 1, n_out))


def auroc_of(d: float) -> float:
    return float(stats.norm.cdf(d / math.sqrt(2)))


def fpr_of(d: float) -> float:
    return float(stats.norm.cdf(Z95 - d))


@pytest.mark.parametrize("d", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("n_in, n_out", [(40, 40), (300, 100)])
def test_auroc_interval_covers(d, n_in, n_out):
    assert 0.925 <= covers(gaussians(d, n_in, n_out), m.auroc_interval, auroc_of(d), 1000) <= 0.98


def test_auroc_interval_covers_near_one_and_by_level():
    assert covers(gaussians(4.0, 20, 20), m.auroc_interval, auroc_of(4.0), 500) >= 0.95
    narrow = covers(gaussians(1.0, 100, 60), lambda x, y: m.auroc_interval(x, y, level=0.8), auroc_of(1.0), 1000)
    assert 0.76 <= narrow <= 0.84


def test_intervals_cover_tied_scores():
    """Scores rounded to integers: the truth is summed over the atoms."""
    atoms, d = np.arange(-8, 11), 1.2
    p_in, p_out = (stats.norm.cdf(atoms + 0.5 - mean) - stats.norm.cdf(atoms - 0.5 - mean) for mean in (d, 0))
    auroc = sum(p * (p_out[atoms < a].sum() + p_out[atoms == a].sum() / 2) for a, p in zip(atoms, p_in, strict=True))
    threshold = max(a for a in atoms if p_in[atoms >= a].sum() >= 0.95)

    def draw(rng):
        return np.round(rng.normal(d, 1, 400)), np.round(rng.normal(0, 1, 150))

    assert 0.925 <= covers(draw, m.auroc_interval, auroc, 1000) <= 0.975
    assert covers(draw, m.fpr_interval, p_out[atoms >= threshold].sum(), 300) >= 0.94


@pytest.mark.parametrize("n_in, n_out, d", [(1000, 300, 1.0), (1000, 2000, 2.5), (3000, 500, 4.0)])
def test_fpr_intervals_cover(n_in, n_out, d):
    assert 0.93 <= covers(gaussians(d, n_in, n_out), m.fpr_interval, fpr_of(d), 400) <= 0.995
    assert 0.93 <= covers(gaussians(d, n_out, n_in), m.fpr_ood_interval, fpr_of(d), 200) <= 1


def test_fpr_interval_needs_the_spread_of_the_threshold():
    def threshold_taken_as_known(x, y):
        return m.proportion_interval(round(m.fpr_at_95_tpr_id(x, y) * y.size), y.size)

    draw = gaussians(2.0, 500, 1000)
    assert covers(draw, threshold_taken_as_known, fpr_of(2.0), 300) < 0.8 < 0.93 <= covers(draw, m.fpr_interval, fpr_of(2.0), 300)


def test_intervals_of_means_cover():
    ds = np.array([0.5, 1.0, 2.0, 3.0])

    def draw(rng):
        return rng.normal(0, 1, 300), [rng.normal(-d, 1, 600) for d in ds]

    def apart(x, outs):  # as if the ID images were not shared
        single = np.array([m.auroc_interval(x, y) for y in outs])
        half = np.linalg.norm(np.diff(single)) / 2 / len(ds)
        return single.mean() - half, single.mean() + half

    auroc, fpr = np.mean([auroc_of(d) for d in ds]), np.mean([fpr_of(d) for d in ds])
    assert 0.925 <= covers(draw, m.mean_auroc_interval, auroc, 800) <= 0.975
    assert covers(draw, apart, auroc, 300) < 0.87
    assert 0.93 <= covers(draw, m.mean_fpr_interval, fpr, 300) <= 0.995


def test_intervals_of_clustered_images_cover():
    ids, d = np.repeat(np.arange(30), 15), 1.0

    def draw(rng):
        return rng.normal(d, 1, 1500), math.sqrt(0.7) * rng.normal(0, 1, 30)[ids] + math.sqrt(0.3) * rng.normal(0, 1, ids.size)

    for interval, truth, repeats in (
        (m.auroc_interval, auroc_of(d), 500),
        (m.fpr_interval, fpr_of(d), 300),
        (m.fpr_ood_interval, fpr_of(d), 300),
    ):
        assert covers(draw, interval, truth, repeats) < 0.75
        assert 0.92 <= covers(draw, lambda x, y, f=interval: f(x, y, clusters=ids), truth, repeats) <= 0.99
    assert 0.92 <= covers(draw, lambda x, y: m.mean_fpr_interval(x, [y], clusters=[ids]), fpr_of(d), 200) <= 0.99


def test_few_clusters_need_the_t_quantile():
    ids = np.repeat(np.arange(4), 25)

    def draw(rng):
        return rng.normal(0.5, 1, 1000), rng.normal(0, 1, 4)[ids]

    assert covers(draw, lambda x, y: m.auroc_interval(x, y, clusters=ids), auroc_of(0.5), 600) >= 0.9


def test_without_widening_clusters_are_resampled():
    """With t replaced by the normal quantile the interval is that of a bootstrap over the clusters at hand."""
    rng, ids = np.random.default_rng(8), np.repeat(np.arange(60), 10)
    s_in, s_out = rng.normal(1, 1, 4000), 0.8 * rng.normal(0, 1, 60)[ids] + 0.6 * rng.normal(0, 1, 600)
    groups = [s_out[ids == c] for c in range(60)]
    drawn = [np.concatenate([groups[c] for c in rng.integers(60, size=60)]) for _ in range(600)]
    again = [rng.choice(s_in, s_in.size) for _ in drawn]
    resampled = np.quantile([m.auroc(x, y) for x, y in zip(again, drawn, strict=True)], [0.025, 0.975])
    assert m.placement_interval([m.placements(s_in, s_out)], clusters=[ids], widen=False) == pytest.approx(resampled, abs=0.012)
    resampled = np.quantile([m.fpr_at_95_tpr_id(x, y) for x, y in zip(again, drawn, strict=True)], [0.025, 0.975])
    assert m.mean_fpr_interval(s_in, [s_out], clusters=[ids], widen=False) == pytest.approx(resampled, abs=0.03)
    # Two clusters: widened, the interval says next to nothing; resampled, it spans the two.
    two = np.arange(600) % 2
    s_two = s_out + two
    apart = [m.auroc(s_in, s_two[two == c]) for c in (1, 0)]
    low, high = m.placement_interval([m.placements(s_in, s_two)], clusters=[two], widen=False)
    assert low <= apart[0] < apart[1] <= high
    assert high - low < 3 * (apart[1] - apart[0]) < 0.9
    assert np.diff(m.placement_interval([m.placements(s_in, s_two)], clusters=[two])) > 0.9
    test = m.paired_placement_test(*[[m.placements(s_in, s_two + shift)] for shift in (0, 0.1 * two)], clusters=[two], widen=False)
    assert test.p_value == pytest.approx(
        2 * stats.norm.sf(abs(test.difference) / ((test.interval.high - test.interval.low) / 2 / 1.959964)), rel=1e-4
    )


def test_ap_interval_covers():
    n = 200001
    grid = stats.norm.ppf((np.arange(n) + 0.5) / n)
    truth = {
        "id": float(np.mean(200 * stats.norm.sf(grid) / (200 * stats.norm.sf(grid) + 300 * stats.norm.sf(grid + 1.5)))),
        "ood": float(np.mean(300 * stats.norm.cdf(grid) / (300 * stats.norm.cdf(grid) + 200 * stats.norm.cdf(grid - 1.5)))),
    }
    for positive, value in truth.items():
        share = covers(gaussians(1.5, 200, 300), lambda x, y, p=positive: m.ap_interval(x, y, p, draws=200), value, 300)
        assert 0.9 <= share <= 0.985


# The paired test: two detectors see the same images, so their scores are correlated.


def paired(rng, d_a: float, d_b: float, n_in: int = 150, n_out: int = 80, sets: int = 1, ids=None):
    def two(n, d, cluster=None):
        shared = rng.normal(0, 1, n) if cluster is None else rng.normal(0, 1, cluster.max() + 1)[cluster]
        own = rng.normal(0, 0.4, (2, n)) if cluster is None else rng.normal(0, 0.4, (2, cluster.max() + 1))[:, cluster]
        return shared + own[0] + d[0], shared + own[1] + d[1]

    x_a, x_b = two(n_in, (d_a, d_b))
    outs = [two(n_out, (0, 0), ids) for _ in range(sets)]
    return (x_a, [y for y, _ in outs]), (x_b, [y for _, y in outs])


@pytest.mark.parametrize("sets", [1, 3])
def test_paired_test_errs_as_often_as_it_says(sets):
    rng = np.random.default_rng(0)
    p = np.array([m.paired_auroc_test(*paired(rng, 1.5, 1.5, sets=sets)).p_value for _ in range(1000)])
    assert 0.03 <= np.mean(p < 0.05) <= 0.07 and 0.15 <= np.mean(p < 0.2) <= 0.25
    truth = stats.norm.cdf(1.8 / math.sqrt(2.32)) - stats.norm.cdf(1.5 / math.sqrt(2.32))
    tests = [m.paired_auroc_test(*paired(rng, 1.8, 1.5, sets=sets)) for _ in range(600)]
    assert 0.925 <= np.mean([t.interval.low <= truth <= t.interval.high for t in tests]) <= 0.975
    assert np.mean([t.difference for t in tests]) == pytest.approx(truth, abs=0.004)
    assert np.mean([t.p_value < 0.05 for t in tests]) > 0.5  # power that two separate intervals do not have:
    (x_a, outs_a), (x_b, outs_b) = paired(rng, 1.8, 1.5, sets=sets)
    assert m.mean_auroc_interval(x_b, outs_b).high > m.mean_auroc_interval(x_a, outs_a).low


def test_paired_test_with_clusters():
    rng, ids = np.random.default_rng(1), np.repeat(np.arange(20), 10)
    pairs = [paired(rng, 1.0, 1.0, 600, 200, ids=ids) for _ in range(500)]
    assert np.mean([m.paired_auroc_test(*pair).p_value < 0.05 for pair in pairs]) > 0.25
    assert 0.025 <= np.mean([m.paired_auroc_test(*pair, clusters=[ids]).p_value < 0.05 for pair in pairs]) <= 0.085


def test_paired_test_equals_the_formula():
    a, b = ([4, 2, 6, 8, 3], [[1, 3, 2, 5], [3, 3, 9]]), ([3, 4, 4, 9, 5], [[3, 3, 2, 1], [4, 2, 4]])
    (va, vb) = ([m.placements(x, y) for y in outs] for x, outs in (a, b))
    d_in = sum(p.v_in - q.v_in for p, q in zip(va, vb, strict=True)) / 2
    d_out = [p.v_out - q.v_out for p, q in zip(va, vb, strict=True)]
    parts = [np.var(d_in, ddof=1) / 5, np.var(d_out[0], ddof=1) / 16, np.var(d_out[1], ddof=1) / 12]
    df = sum(parts) ** 2 / sum(p**2 / u for p, u in zip(parts, (4, 3, 2), strict=True))
    test, error = m.paired_auroc_test(a, b, level=0.9), math.sqrt(sum(parts))
    value = np.mean([m.auroc(a[0], y) for y in a[1]]) - np.mean([m.auroc(b[0], y) for y in b[1]])
    assert test.difference == pytest.approx(value)
    assert test.p_value == pytest.approx(2 * stats.t.sf(abs(value) / error, df))
    half = stats.t.ppf(0.95, df) * error
    assert test.interval == pytest.approx((max(-1, value - half), min(1, value + half)))
    swapped = m.paired_auroc_test(b, a, level=0.9)
    assert swapped.p_value == pytest.approx(test.p_value) and swapped.difference == pytest.approx(-value)
    assert m.paired_placement_test(va, vb, level=0.9) == test


def test_paired_test_without_spread():
    rng = np.random.default_rng(2)
    x, y = rng.normal(1, 1, 50), rng.normal(0, 1, 40)
    same = m.paired_auroc_test((x, [y]), (np.exp(x), [np.exp(y)]))
    keep = 0.025 ** (1 / 40)
    assert same.difference == 0 and same.p_value == 1
    assert same.interval == pytest.approx((keep - 1, 1 - keep))
    ones, zeros = np.ones(20), np.zeros(10)
    best = m.paired_auroc_test((ones, [zeros]), (-ones, [zeros]))  # AUROC 1 against 0
    assert best.difference == 1 and best.p_value == pytest.approx(2 * 0.5**10)
    assert best.interval == pytest.approx((2 * 0.025 ** (1 / 10) - 1, 1))
    half = m.paired_auroc_test((0 * ones, [zeros]), (ones, [zeros]))  # all tied against 1
    assert half.difference == -0.5 and half.p_value == pytest.approx(2 * 1.5**-10)


def test_paired_interval_stays_within_one():
    a, b = ([3, 2, 5], [[1, 2]]), ([0, 3, 0], [[1, 2]])
    low, high = m.paired_auroc_test(a, b).interval
    assert -1 <= low <= high == 1 and m.paired_auroc_test(b, a).interval.low == -1


def test_a_constant_difference_is_not_certain():
    """Placements that differ by a constant up to rounding have no spread, and must not get a p-value of 0."""
    a = [m.Placements(np.array([0.9, 0.5, 0.7]), np.array([0.8, 0.6]))]
    b = [m.Placements(np.array([0.8, 0.4, 0.6]), np.array([0.7, 0.5]))]
    test = m.paired_placement_test(a, b)
    assert test.p_value == 1.0 and test.interval.low < 0 < test.interval.high


def test_fast_enough_for_hundreds_of_pairs():
    import time

    rng = np.random.default_rng(0)
    s_in, s_out = rng.normal(1, 1, 4000), rng.normal(0, 1, 2000)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        m.auroc(s_in, s_out), m.auroc_interval(s_in, s_out), m.fpr_interval(s_in, s_out)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02

"""The intervals and the test that thresholds need: against loops, closed forms, and how often they are right."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from farfield import metrics as m
from farfield.errors import InputError
from farfield.report import curves

TIED = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)


def loop_threshold(s_in: list[float], kept: float) -> float:
    return max(t for t in s_in if sum(s >= t for s in s_in) >= kept * len(s_in) - 1e-9)


@given(TIED, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_the_threshold_is_the_largest_that_keeps_enough(s_in: list[float], tpr: float) -> None:
    assert m.threshold_at_tpr(s_in, tpr) == loop_threshold(s_in, tpr)


@given(TIED)
def test_thresholds_of_the_page_are_those_of_the_metrics(s_in: list[float]) -> None:
    found = curves.thresholds(np.array(s_in))
    assert found.tolist() == [loop_threshold(s_in, 1 - rate / 1000) for rate in curves.RATES]


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (1, 1), (0, 1), (7, 40)])
def test_a_share_has_clopper_and_pearsons_interval(k: int, n: int) -> None:
    low, high = m.share_interval([1.0] * k + [0.0] * (n - k))
    assert low == pytest.approx(stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0)
    assert high == pytest.approx(stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0)


def test_clusters_widen_the_interval_of_a_share() -> None:
    flags = np.repeat([1.0, 0.0, 1.0, 0.0, 0.0, 0.0], 30)
    alone, together = m.share_interval(flags), m.share_interval(flags, clusters=np.repeat(np.arange(6), 30))
    assert together.low < alone.low < 1 / 3 < alone.high < together.high
    # Whole clusters agree, so they are worth one image each, less what the variance estimated from six costs.
    assert m.share_interval(flags, clusters=np.repeat(np.arange(6), 30), widen=False) == pytest.approx(
        m.share_interval(np.array([1.0, 0, 1, 0, 0, 0])), abs=0.06
    )
    assert m.share_interval(flags, clusters=np.zeros(180)) == (0.0, 1.0)
    assert m.share_interval(flags, clusters=np.arange(180)) == pytest.approx(alone)


def test_the_interval_of_a_clustered_share_is_right_often_enough() -> None:
    rng, hits, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        of = np.repeat(rng.beta(2, 3, 25), 8)  # 25 sources that differ, of 8 images each
        low, high = m.share_interval((rng.random(200) < of).astype(float), clusters=np.repeat(np.arange(25), 8))
        hits += low <= 0.4 <= high
    assert hits / trials > 0.92


def test_the_roc_band_is_the_fpr_interval_seen_from_the_other_side() -> None:
    rng = np.random.default_rng(1)
    s_in, s_out, clusters = rng.normal(1, 1, 300), rng.normal(0, 1, 200), rng.integers(20, size=200)
    for ids in (None, clusters):
        bands = m.roc_band(s_in, s_out, np.linspace(0, 0.99, 60).tolist(), clusters=ids)
        assert all(a.low <= b.low and a.high <= b.high and a.low <= a.high for a, b in itertools.pairwise(bands))
        for flagged, band in zip((0.0, 0.05, 0.4), m.roc_band(s_in, s_out, (0.0, 0.05, 0.4), clusters=ids, draws=2000), strict=True):
            fpr = m.fpr_interval(s_in, s_out, clusters=ids, tpr=1 - flagged)
            assert band == pytest.approx((1 - fpr.high, 1 - fpr.low), abs=1e-12)


def test_ends_can_but_rise() -> None:
    given = [m.Interval(0.1, 0.5), m.Interval(0.3, 0.9), m.Interval(0.0, 0.7), m.Interval(0.4, 1.0)]
    assert m.rising(given) == [(0.1, 0.5), (0.3, 0.7), (0.3, 0.7), (0.4, 1.0)]


def test_the_roc_band_is_right_often_enough() -> None:
    """Where ID and OOD are normal, the share caught at the true quantile is known."""
    rng, hits, trials = np.random.default_rng(2), 0, 200
    for _ in range(trials):
        band = m.roc_band(rng.normal(1.5, 1, 200), rng.normal(0, 1, 150), [0.1, 0.3], draws=300)
        truth = [stats.norm.cdf(stats.norm.ppf(share) + 1.5) for share in (0.1, 0.3)]
        hits += sum(low <= true <= high for (low, high), true in zip(band, truth, strict=True))
    assert hits / (2 * trials) > 0.93


@settings(max_examples=40)
@given(TIED, st.sampled_from([0.5, 0.95, 1.0]))
def test_drawn_thresholds_are_those_of_the_resamples(s_in: list[float], tpr: float) -> None:
    rng, n = np.random.default_rng(5), len(s_in)
    expected = [loop_threshold([s_in[i] for i in rng.integers(n, size=n)], tpr) for _ in range(20)]
    assert m.threshold_draws(s_in, tpr, seed=5, draws=20).tolist() == expected


def test_an_acceptance_is_what_passes() -> None:
    found = m.acceptance([5.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.5, 9.0], drawn=np.array([1.0, 2.0, 9.5]))
    assert found.accepted.tolist() == [0, 1, 1, 1]
    assert found.rates.tolist() == [0.75, 0.5, 0.0] and found.n_in == 4


def pair(rng: np.random.Generator, n_in: int = 400, n_out: int = 300, gap: float = 1.5, better: float = 0.0) -> tuple[object, object]:
    """Two detectors that see the same images with errors of their own; the first moves OOD further away by `better`."""
    z_in, z_out = rng.normal(size=n_in), rng.normal(size=n_out) - gap
    a = (z_in + 0.7 * rng.normal(size=n_in), [z_out - better + 0.7 * rng.normal(size=n_out)])
    return a, (z_in + 0.7 * rng.normal(size=n_in), [z_out + 0.7 * rng.normal(size=n_out)])


def test_the_paired_fpr_test_by_its_formula() -> None:
    """One set, no clusters: written out, with the resamples drawn here."""
    a, b = pair(np.random.default_rng(3))
    found = m.paired_fpr_test(a, b)
    rates, flags = [], []
    for s_in, (s_out,) in (a, b):
        flags.append(np.array([float(y >= loop_threshold(list(s_in), 0.95)) for y in s_out]))
        rng = np.random.default_rng(0)
        limits = []
        for _ in range(400):
            ordered = np.sort(s_in[rng.integers(400, size=400)])
            limits.append(ordered[20])  # 380 of 400 are at or above it
        rates.append(np.array([(s_out >= limit).mean() for limit in limits]))
    difference = flags[0] - flags[1]
    variance = difference.var(ddof=1) / 300 + (rates[0] - rates[1]).var(ddof=1)
    df = variance**2 / ((difference.var(ddof=1) / 300) ** 2 / 299 + (rates[0] - rates[1]).var(ddof=1) ** 2 / 399)
    assert found.difference == pytest.approx(difference.mean())
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(difference.mean()) / math.sqrt(variance), df))
    half = stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert found.interval == pytest.approx((difference.mean() - half, difference.mean() + half))
    swapped = m.paired_fpr_test(b, a)
    assert swapped.p_value == pytest.approx(found.p_value) and swapped.difference == pytest.approx(-found.difference)


def test_equal_detectors_are_told_apart_as_often_as_stated() -> None:
    rng = np.random.default_rng(4)
    p_values = np.array([m.paired_fpr_test(*pair(rng)).p_value for _ in range(250)])
    assert (p_values < 0.05).mean() < 0.09  # 0.05 and three standard errors
    assert 0.35 < (p_values < 0.5).mean() < 0.65


def test_a_better_detector_is_noticed() -> None:
    rng = np.random.default_rng(5)
    found = [m.paired_fpr_test(*pair(rng, better=0.7)) for _ in range(30)]
    assert sum(test.p_value < 0.05 and test.difference < 0 for test in found) >= 24
    assert np.mean([test.interval.high < 0 for test in found]) >= 0.8


def test_means_and_clusters_enter_the_paired_fpr_test() -> None:
    a, b = pair(np.random.default_rng(6), better=0.7)
    alone = m.paired_fpr_test(a, b)
    twice = m.paired_fpr_test((a[0], [a[1][0], a[1][0]]), (b[0], [b[1][0], b[1][0]]))
    assert twice.difference == pytest.approx(alone.difference)
    assert twice.p_value < alone.p_value  # the sets count as independent of each other
    ids = np.argsort(np.argsort(a[1][0] - b[1][0])) // 60  # sources that agree
    assert m.paired_fpr_test(a, b, clusters=[ids]).p_value > alone.p_value
    assert m.paired_fpr_test(a, b, clusters=[np.zeros(300)]) == (pytest.approx(alone.difference), (-1.0, 1.0), 1.0)


def test_no_spread_at_all() -> None:
    ones, zeros = np.ones(20), np.zeros(10)
    assert m.paired_fpr_test((ones, [zeros]), (ones, [zeros])).p_value == 1.0
    best = m.paired_fpr_test((ones, [zeros]), (zeros.repeat(2), [zeros]))  # 0 against 1
    assert best.difference == -1 and best.p_value == pytest.approx(2 * 0.5**10)


def test_other_images_are_refused() -> None:
    with pytest.raises(InputError, match="must judge the same images"):
        m.paired_fpr_test(([1.0, 2.0], [[0.0]]), ([1.0, 2.0], [[0.0, 1.0]]))
    with pytest.raises(InputError, match="must judge the same images"):
        m.paired_acceptance_test([], [])

"""Sums of AUROCs whose images share sources: the variance against a loop, leave-one-out, DeLong's, and resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from farfield import metrics
from farfield.errors import InputError
from farfield.metrics import Linked, linked_auroc, linked_test, placements

RNG = np.random.default_rng(0)


def made(n: int = 60, shift: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    s_in = rng.normal(shift, 1, n)
    return s_in, 0.5 * s_in + rng.normal(-0.5, 1, n)  # each OOD image is made of an ID image


def pieces(n: int = 60, seed: int = 0) -> list[Linked]:
    s_in, s_out = made(n, 1.0, seed)
    other = np.random.default_rng(seed + 1).normal(0, 1, n // 2)
    return [
        Linked(placements(s_in, s_out), np.arange(n), np.arange(n), 0.7),
        Linked(placements(s_in, other), np.arange(n), 1000 + np.arange(n // 2), 0.3),
    ]


def looped(some: list[Linked]) -> tuple[float, float]:
    """Value and variance, source by source."""
    terms: dict[int, float] = {}
    value = 0.0
    for piece in some:
        auroc = float(np.mean(piece.placements.v_in))
        value += piece.weight * auroc
        for sources, v in ((piece.id_sources, piece.placements.v_in), (piece.ood_sources, piece.placements.v_out)):
            for source, one in zip(sources.tolist(), v.tolist(), strict=True):
                terms[source] = terms.get(source, 0.0) + piece.weight * (one - auroc) / len(v)
    u = len(terms)
    return value, u / (u - 1) * sum(term**2 for term in terms.values())


def test_the_interval_is_that_of_the_formula() -> None:
    some = pieces()
    value, variance = looped(some)
    found, (low, high) = linked_auroc(some)
    sources = len({*some[0].id_sources, *some[0].ood_sources, *some[1].ood_sources})
    half = stats.t.ppf(0.975, sources - 1) * np.sqrt(variance) / (value * (1 - value))
    centre = np.log(value / (1 - value))
    assert found == pytest.approx(value)
    assert (low, high) == pytest.approx([1 / (1 + np.exp(half - centre)), 1 / (1 + np.exp(-half - centre))])


def test_leaving_one_source_out_gives_nearly_the_same_variance() -> None:
    n = 400
    s_in, s_out = made(n)
    whole = metrics.auroc(s_in, s_out)
    left = np.array([metrics.auroc(np.delete(s_in, i), np.delete(s_out, i)) for i in range(n)])
    jackknife = (n - 1) / n * ((left - left.mean()) ** 2).sum()
    one = [Linked(placements(s_in, s_out), np.arange(n), np.arange(n), 1.0)]
    assert linked_auroc(one)[0] == pytest.approx(whole)
    assert looped(one)[1] == pytest.approx(jackknife, rel=0.02)


def test_without_shared_sources_it_is_delongs() -> None:
    s_in, s_out = RNG.normal(1, 1, 300), RNG.normal(0, 1, 200)
    one = Linked(placements(s_in, s_out), np.arange(300), 300 + np.arange(200), 1.0)
    assert linked_auroc([one])[1] == pytest.approx(metrics.auroc_interval(s_in, s_out), abs=1e-3)


def test_images_of_one_source_are_not_independent() -> None:
    s_in, s_out = made(200)
    twice = np.repeat(np.arange(200), 2)
    doubled = Linked(placements(np.repeat(s_in, 2), np.repeat(s_out, 2)), twice, twice, 1.0)
    single = Linked(placements(s_in, s_out), np.arange(200), np.arange(200), 1.0)
    assert linked_auroc([doubled])[1] == pytest.approx(linked_auroc([single])[1], abs=1e-9)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # s_in ~ N(1, 1), s_out = s_in / 2 + N(-1/2, 1): of two different pictures, s_in - s_out ~ N(1, 1 + 1/4 + 1); but of the same one N(1, 1/4 + 1),
    # which is one pair in n
    n = 80
    truth = (1 - 1 / n) * stats.norm.cdf(1 / np.sqrt(2.25)) + 1 / n * stats.norm.cdf(1 / np.sqrt(1.25))
    held = 0
    for seed in range(600):
        s_in, s_out = made(n, 1.0, seed)
        low, high = linked_auroc([Linked(placements(s_in, s_out), np.arange(n), np.arange(n), 1.0)])[1]
        held += low <= truth <= high
    assert stats.binomtest(held, 600, 0.95).pvalue > 0.001


def test_equal_detectors_differ_by_chance_as_often_as_they_should() -> None:
    rejected = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        signal, n = rng.normal(1, 1, 60), 60
        one, other = ([Linked(placements(signal + rng.normal(0, 1, n), rng.normal(0, 1.4, n)), np.arange(n), np.arange(n), 1.0)] for _ in range(2))
        rejected += linked_test(one, other).p_value < 0.05
    assert stats.binomtest(rejected, 500, 0.05).pvalue > 0.001


def test_the_test_is_that_of_the_differences() -> None:
    a, b = pieces(seed=3), pieces(seed=5)
    terms = []
    for some in (a, b):
        of: dict[int, float] = {}
        for piece in some:
            auroc = piece.placements.v_in.mean()
            for sources, v in ((piece.id_sources, piece.placements.v_in), (piece.ood_sources, piece.placements.v_out)):
                for source, one in zip(sources, v, strict=True):
                    of[source] = of.get(source, 0) + piece.weight * (one - auroc) / len(v)
        terms.append(of)
    difference = looped(a)[0] - looped(b)[0]
    u = len(terms[0])
    error = np.sqrt(u / (u - 1) * sum((terms[0][s] - terms[1][s]) ** 2 for s in terms[0]))
    found = linked_test(a, b)
    assert found.difference == pytest.approx(difference)
    assert found.interval == pytest.approx(difference + np.array([-1, 1]) * stats.t.ppf(0.975, u - 1) * error)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(difference) / error, u - 1))


@given(st.integers(2, 30), st.integers(0, 5))
@settings(max_examples=30)
def test_perfect_separation_is_bounded_and_says_less_with_fewer(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = Linked(placements(rng.random(n) + 2, rng.random(n)), np.arange(n), np.arange(n), 1.0)
    value, (low, high) = linked_auroc([one])
    assert (value, high) == (1.0, 1.0) and low == pytest.approx(0.025 ** (1 / n))


def test_one_source_says_nothing() -> None:
    one = Linked(placements([1.0], [0.0]), np.zeros(1, int), np.zeros(1, int), 1.0)
    assert linked_auroc([one]) == (1.0, (0.0, 1.0))


def mixed_of(seed: int, n: int = 80) -> tuple[list[Linked], float]:
    """A piece whose OOD images are each half of one ID image and half of another, and its AUROC."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 1, n)
    partner = (np.arange(n) + 1 + rng.integers(0, n - 1, n)) % n
    s_in, s_out = signal + 1, (signal + signal[partner]) / 2 + rng.normal(0, 0.3, n)
    return [Linked(placements(s_in, s_out), np.arange(n), np.arange(n), 1.0, partner)], metrics.auroc(s_in, s_out)


def test_the_variance_of_images_of_two_sources_counts_every_pair_that_shares_one() -> None:
    (piece,), auroc = mixed_of(0, 25)
    images = [({int(i)}, (v - auroc) / 25) for i, v in zip(piece.id_sources, piece.placements.v_in, strict=True)]
    images += [({int(i), int(j)}, (v - auroc) / 25) for i, j, v in zip(piece.ood_sources, piece.ood_partners, piece.placements.v_out, strict=True)]
    square = sum(len(a & b) * e * f for a, e in images for b, f in images) - sum(e * e for a, e in images if len(a) == 2)
    half = stats.t.ppf(0.975, 24) * np.sqrt(25 / 24 * square) / (auroc * (1 - auroc))
    centre = np.log(auroc / (1 - auroc))
    assert linked_auroc([piece])[1] == pytest.approx([1 / (1 + np.exp(half - centre)), 1 / (1 + np.exp(-half - centre))])


def test_intervals_of_mixtures_hold_the_truth_as_often_as_they_say() -> None:
    found = [mixed_of(seed) for seed in range(500)]
    truth = np.mean([auroc for _, auroc in found])
    held = sum(low <= truth <= high for low, high in (linked_auroc(some)[1] for some, _ in found))
    assert stats.binomtest(held, 500, 0.95).pvalue > 0.001


def test_detectors_of_other_mixtures_are_not_compared() -> None:
    (one,), _ = mixed_of(0)
    other = Linked(one.placements, one.id_sources, one.ood_sources, 1.0, np.roll(one.ood_partners, 1))
    for wrong in (other, Linked(one.placements, one.id_sources, one.ood_sources, 1.0)):
        with pytest.raises(InputError, match="same images"):
            linked_test([one], [wrong])


def test_what_does_not_fit_is_refused() -> None:
    some = pieces()
    with pytest.raises(InputError, match=r"add up to 0\.7\."):
        linked_auroc(some[:1])
    with pytest.raises(InputError, match="add up to 0"):
        linked_auroc([])
    with pytest.raises(InputError, match="same images"):
        linked_test(some, some[::-1])
    with pytest.raises(InputError, match="same images"):
        linked_test(some, some[:1])

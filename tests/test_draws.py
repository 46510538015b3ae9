"""Draws belong to samples: uniform, independent of one another, and the same in whatever company a sample is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import config
from scipy import stats

from farfield.training import Draws


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    """Thousands of small draws take minutes where each is checked; one of each kind is."""
    one = Draws(0, 0, torch.arange(3))
    one.uniform("x"), one.normal("x", 2), one.choice("x", 3), one.orders("x", 3), one.of(slice(0, 2)), one.once("x")
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


MANY = Draws(3, 11, torch.arange(20_000))


@pytest.mark.parametrize("draws", [MANY, Draws(0, 0, torch.arange(20_000) * 1000 + 7), Draws(2**40, 10**6, torch.arange(20_000))])
def test_numbers_are_uniform(draws: Draws) -> None:
    x = draws.uniform("x", 3).double().numpy()
    assert x.min() >= 0 and x.max() < 1
    for column in x.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
        assert stats.chisquare(np.histogram(column, 64, (0, 1))[0]).pvalue > 1e-3
    fine = (draws.uniform("x") * 2**24).long() % 256  # the last bits too
    assert stats.chisquare(torch.bincount(fine, minlength=256).numpy()).pvalue > 1e-3


def test_one_sample_over_steps_and_seeds_is_uniform_too() -> None:
    one = torch.tensor([5])
    for numbers in ([Draws(0, s, one).uniform("x").item() for s in range(800)], [Draws(s, 0, one).uniform("x").item() for s in range(800)]):
        assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    wide = Draws(0, 0, one).uniform("x", 20_000)[0].double().numpy()
    assert stats.kstest(wide, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(wide[1:], wide[:-1])[0, 1]) < 4 / 20_000**0.5


def test_other_names_steps_seeds_and_neighbours_are_other_numbers() -> None:
    ids = MANY.ids
    columns = [
        MANY.uniform("x"),
        MANY.uniform("y"),
        MANY.uniform("x, radius"),
        Draws(3, 12, ids).uniform("x"),
        Draws(4, 11, ids).uniform("x"),
        Draws(11, 3, ids).uniform("x"),
        Draws(3, 11, ids + 1).uniform("x"),
        MANY.uniform("x", 2)[:, 1],
    ]
    for one, other in itertools.combinations([c.double().numpy() for c in columns], 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / len(ids) ** 0.5 or np.array_equal(one[1:], other[:-1])
        assert (one == other).mean() < 0.001
    assert torch.equal(columns[0][1:], columns[6][:-1])  # the sample's number, not its place


@settings(max_examples=30)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=12, unique=True), st.integers(0, 2**31), st.integers(0, 10**7), st.data())
def test_a_sample_draws_the_same_in_any_company(ids: list[int], seed: int, step: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(ids))))
    some = order[: data.draw(st.integers(1, len(ids)))]
    whole = Draws(seed, step, torch.tensor(ids))
    part = Draws(seed, step, torch.tensor([ids[i] for i in some]))
    for draw in (
        lambda d: d.uniform("a"),
        lambda d: d.uniform("a", 2, 3),
        lambda d: d.normal("a", 2),
        lambda d: d.choice("a", 7),
        lambda d: d.orders("a", 5),
    ):
        assert torch.equal(draw(whole)[torch.tensor(some)], draw(part))
        assert torch.equal(draw(whole.of(torch.tensor(some))), draw(part))
        assert torch.equal(draw(whole.of(slice(0, 1))), draw(whole)[:1])
    assert torch.equal(torch.rand(3, generator=whole.once("b")), torch.rand(3, generator=part.once("b")))


def test_normal_numbers_are_normal() -> None:
    x = MANY.normal("z", 2).double().numpy()
    assert np.isfinite(x).all()
    for column in x.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
        assert column.mean() == pytest.approx(0, abs=4 / len(column) ** 0.5)
        assert column.var() == pytest.approx(1, abs=4 * (2 / len(column)) ** 0.5)
        assert (column**3).mean() == pytest.approx(0, abs=4 * (15 / len(column)) ** 0.5)
        assert (column**4).mean() == pytest.approx(3, abs=4 * (96 / len(column)) ** 0.5)
    assert abs(np.corrcoef(x.T)[0, 1]) < 4 / len(x) ** 0.5


@pytest.mark.parametrize("options", [1, 2, 5, 1000])
def test_choices_are_even(options: int) -> None:
    chosen = MANY.choice("c", options)
    assert chosen.min() >= 0 and chosen.max() < options
    if options > 1:
        assert stats.chisquare(torch.bincount(chosen, minlength=options).numpy()).pvalue > 1e-3


def test_orders_are_permutations_and_even() -> None:
    orders = MANY.orders("o", 4)
    assert (orders.sort(1).values == torch.arange(4)).all()
    counts = np.unique(orders.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


def test_what_a_step_shares_is_anew_each_step_and_name() -> None:
    one = torch.tensor([0])
    first = [torch.rand((), generator=Draws(0, step, one).once("mixture")).item() for step in range(1000)]
    other = [torch.rand((), generator=Draws(0, step, one).once("tile size")).item() for step in range(1000)]
    assert len(set(first)) == len(set(other)) == 1000
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.13
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.13

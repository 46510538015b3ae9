"""The 17 noise families: each against a property of its published definition, and the promises of `generate`."""

from __future__ import annotations

import inspect
import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]
from torch import Tensor

from farfield.data import noise
from farfield.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")

SIZES = ((3, 3), (8, 8), (32, 32), (17, 40), (40, 17))
PERMUTE = ("pixel_permutation", "low_freq_pixel_permutation")
SMOOTHED = ("low_freq", "low_freq_channelfullscale", "low_freq_colorrange", "low_freq_pixel_permutation", "blobs")


def pictures(m: int, size: tuple[int, int]) -> Tensor:
    """ID pictures: a ramp per channel plus grain, so that neighbours are alike and triples mostly unique."""
    h, w = size
    down, across = torch.linspace(0, 1, h)[:, None].expand(h, w), torch.linspace(1, 0, w).expand(h, w)
    ramp = torch.stack([down, across, torch.full((h, w), 0.3)])
    grain = torch.rand((m, 3, h, w), generator=torch.Generator().manual_seed(5))
    return ((0.8 * ramp + 0.2 * grain) * 255).to(torch.uint8)


def draw(family: str, n: int, size: tuple[int, int] = (32, 32), seed: int = 0, **options: Any) -> Tensor:
    return noise.generate(family, n, size, seed=seed, source=pictures(4, size), **options)


def floats(x: Tensor) -> NDArray[np.float64]:
    return x.numpy().astype(np.float64)


def values(x: Tensor) -> set[int]:
    return set(x.flatten().tolist())


def triples(picture: Tensor) -> Counter[tuple[int, ...]]:
    return Counter(map(tuple, picture.permute(1, 2, 0).reshape(-1, 3).tolist()))


def runs(line: Tensor) -> list[int]:
    """The lengths of the runs of equal colour along a line (3, length)."""
    return [len(list(group)) for _, group in itertools.groupby(map(tuple, line.T.tolist()))]


def roughness(x: Tensor) -> float:
    """Mean squared difference of neighbours over twice the variance: 1 for white noise, 0 for a smooth picture."""
    y = floats(x)
    y = y - y.mean(axis=(2, 3), keepdims=True)
    return float(((y - np.roll(y, 1, axis=3)) ** 2).mean() / (2 * (y**2).mean()))


# --- every family ---------------------------------------------------------------------------------------------------------------


def test_the_seventeen_names_in_the_order_of_the_table() -> None:
    order = """uniform gaussian rademacher pixel_permutation white black grey monochrome tricolour tricolour_primary
        horizontal_stripes vertical_stripes low_freq low_freq_channelfullscale low_freq_colorrange low_freq_pixel_permutation
        blobs"""
    assert list(noise.FAMILIES) == order.split()
    assert noise.__doc__ is not None
    assert all(name in noise.__doc__ for name in noise.FAMILIES)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", noise.FAMILIES)
def test_any_size_gives_8_bit_channels_first(family: str, size: tuple[int, int]) -> None:
    x = draw(family, 3, size)
    assert x.dtype == torch.uint8
    assert x.shape == (3, 3, *size)
    assert x.is_contiguous()


@pytest.mark.parametrize("family", noise.FAMILIES)
def test_large_pictures(family: str) -> None:
    x = draw(family, 1, (224, 224))
    assert x.shape == (1, 3, 224, 224)
    if family in SMOOTHED[:3]:
        assert roughness(x) < 0.02  # the narrowest filter is 5.6 pixels wide


@settings(max_examples=40, deadline=None)
@given(
    family=st.sampled_from(noise.FAMILIES),
    seed=st.integers(0, 2**70),
    few=st.integers(1, 4),
    more=st.integers(0, 5),
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
)
def test_the_same_seed_gives_the_same_however_many(family: str, seed: int, few: int, more: int, size: tuple[int, int]) -> None:
    short, long = draw(family, few, size, seed), draw(family, few + more, size, seed)
    assert torch.equal(short, long[:few])
    assert torch.equal(long, draw(family, few + more, size, seed))


@pytest.mark.parametrize("family", [f for f in noise.FAMILIES if f not in ("white", "black")])
def test_seeds_and_pictures_differ(family: str) -> None:
    one, two = draw(family, 20, seed=1), draw(family, 20, seed=2)
    assert not torch.equal(one, two)
    assert len({x.numpy().tobytes() for x in one}) > 15  # a primary tricolour has only 512 x 2 looks


def test_no_two_families_agree_on_a_picture() -> None:
    # One source picture, so that the two permutations would agree if they shared a stream and neither were smoothed.
    drawn = {f: {x.numpy().tobytes() for x in noise.generate(f, 5, seed=0, source=pictures(1, (32, 32)))} for f in noise.FAMILIES}
    for one, two in itertools.combinations(noise.FAMILIES, 2):
        assert not drawn[one] & drawn[two], (one, two)


def test_families_do_not_share_a_stream() -> None:
    upright = draw("vertical_stripes", 20).permute(0, 1, 3, 2)
    assert not any(torch.equal(a, b) for a, b in zip(upright, draw("horizontal_stripes", 20), strict=True))


def test_global_randomness_is_neither_used_nor_touched() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for family in noise.FAMILIES:
        draw(family, 2, (8, 8))
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), state)


# --- noise per pixel ------------------------------------------------------------------------------------------------------------


def test_uniform_is_flat_and_truncated() -> None:
    counts = np.bincount(draw("uniform", 60, (64, 64)).numpy().ravel(), minlength=256)
    expected = counts.sum() / 255  # of 0 .. 254: 255 * U is below 255, and truncation never reaches it; rounding would halve 0
    assert counts[255] == 0
    assert np.abs(counts[:255] - expected).max() < 5 * math.sqrt(expected)


def test_gaussian_has_a_standard_deviation_of_the_pool_and_is_clipped() -> None:
    # What clipping and truncation leave of N(.5, s^2), from a large independent sample.
    z = np.random.default_rng(99).standard_normal(400_000)
    pool = {s: np.trunc(np.clip(0.5 + s * z, 0, 1) * 255).std() for s in (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)}
    seen = set()
    for x in floats(draw("gaussian", 60, (64, 64))):
        s = min(pool, key=lambda s: abs(pool[s] - x.std()))
        assert x.std() == pytest.approx(pool[s], rel=0.03)
        assert x.mean() == pytest.approx(127, abs=2.5)
        assert abs(np.corrcoef(x.reshape(3, -1))[0, 1]) < 0.1
        if s == 0.5:  # P(N(.5, .25) < 0 or > 1) = .159 each
            assert (x == 0).mean() == pytest.approx(0.159, abs=0.02)
            assert (x == 255).mean() == pytest.approx(0.159, abs=0.02)
        seen.add(s)
    assert seen == set(pool)


def test_rademacher_is_black_or_white_in_each_channel() -> None:
    x = draw("rademacher", 20)
    assert values(x) == {0, 255}
    assert (x == 255).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert (x[:, 0] == x[:, 1]).float().mean().item() == pytest.approx(0.5, abs=0.02)  # channels are independent
    assert roughness(x) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("size", SIZES[1:])
def test_permutation_moves_pixels_and_keeps_their_triples(size: tuple[int, int]) -> None:
    source = pictures(3, size)
    x = noise.generate("pixel_permutation", 7, size, seed=0, source=source)
    for i, picture in enumerate(x):
        assert triples(picture) == triples(source[i % 3])  # hence also: picture i uses source[i % m]
        assert not torch.equal(picture, source[i % 3])
    assert not torch.equal(x[0], x[3])  # the same source picture, in another order
    assert roughness(source) < 0.6
    assert roughness(x) > 0.7


def test_permutation_keeps_every_value_exactly() -> None:
    source = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    x = noise.generate("pixel_permutation", 1, (16, 16), seed=0, source=source)
    assert sorted(x[0, 0].flatten().tolist()) == list(range(256))  # v / 255 * 255, truncated, is v
    assert torch.equal(x[0, 0], x[0, 1])


def test_the_source_is_left_as_it_was_and_ignored_by_the_rest() -> None:
    source = pictures(2, (8, 8))
    copy = source.clone()
    for family in noise.FAMILIES:
        x = noise.generate(family, 3, (8, 8), seed=0, source=source)
        if family not in PERMUTE:
            assert torch.equal(x, noise.generate(family, 3, (8, 8), seed=0))
    assert torch.equal(source, copy)


# --- constant pictures and stripes ----------------------------------------------------------------------------------------------


def test_white_and_black() -> None:
    assert values(draw("white", 3)) == {255}
    assert values(draw("black", 3)) == {0}


def test_grey_is_one_level_and_monochrome_one_colour() -> None:
    grey, colour = draw("grey", 300, (4, 5)), draw("monochrome", 300, (4, 5))
    for x in (grey, colour):
        assert torch.equal(x, x[:, :, :1, :1].expand_as(x))
        levels = floats(x[:, :, 0, 0])
        assert levels.mean() == pytest.approx(127, abs=15)  # U[0, 1): mean 127, standard deviation 73.6
        assert levels.std() == pytest.approx(73.6, abs=7)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert np.abs(np.corrcoef(floats(colour[:, :, 0, 0]).T) - np.eye(3)).max() < 0.2


@pytest.mark.parametrize("family", ["tricolour", "tricolour_primary"])
@pytest.mark.parametrize("size", [(32, 32), (17, 40), (3, 3), (8, 11)])
def test_tricolour_is_three_equal_stripes_either_way(family: str, size: tuple[int, int]) -> None:
    x = draw(family, 60, size)
    directions = Counter()  # type: Counter[str]
    for picture in x:
        assert len(triples(picture)) <= 3
        lying, upright = (bool((picture == first).all()) for first in (picture[:, :, :1], picture[:, :1]))
        assert lying or upright
        directions["both" if lying and upright else "lying" if lying else "upright"] += 1
        side = size[0] if lying else size[1]
        third = side // 3
        line = picture[:, :, 0] if lying else picture[:, 0]
        for start, stop in ((0, third), (third, 2 * third), (2 * third, side)):  # the last takes the remainder
            assert (line[:, start:stop] == line[:, start : start + 1]).all()
        if family == "tricolour":
            assert runs(line) == [third, third, side - 2 * third]
    assert 15 < directions["lying"] < 45
    assert 15 < directions["upright"] < 45


def test_primary_tricolours_have_full_or_empty_channels() -> None:
    x = draw("tricolour_primary", 200)
    assert values(x) == {0, 255}
    colours = set().union(*(triples(picture) for picture in x))
    assert colours == set(itertools.product((0, 255), repeat=3))
    assert (x == 255).float().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [(32, 32), (8, 23), (23, 8), (5, 10), (3, 4)])
@pytest.mark.parametrize("family", ["horizontal_stripes", "vertical_stripes"])
def test_stripes_have_a_count_of_the_pool_that_fits(family: str, size: tuple[int, int]) -> None:
    side = size[0] if family == "horizontal_stripes" else size[1]
    allowed = {k for k in (4, 5, 7, 10, 15, 20) if k <= side} or {side}
    seen = set()
    for x in draw(family, 80, size):
        picture = x if family == "horizontal_stripes" else x.permute(0, 2, 1)
        assert (picture == picture[:, :, :1]).all()  # no change along a stripe
        lengths = runs(picture[:, :, 0])
        k = len(lengths)
        assert lengths == [side // k] * (k - 1) + [side - (k - 1) * (side // k)]
        seen.add(k)
    assert seen == allowed


# --- smooth noise ---------------------------------------------------------------------------------------------------------------


def test_low_freq_spans_the_whole_range_once_per_picture() -> None:
    x = floats(draw("low_freq", 20)).reshape(20, 3, -1)
    # (max - min) / (max - min) is exactly 1, so truncation leaves 255.
    assert (x.min(axis=(1, 2)) == 0).all()
    assert (x.max(axis=(1, 2)) == 255).all()
    assert not (x.max(axis=2) == 255).all()  # not in every channel


def test_low_freq_channelfullscale_spans_it_in_every_channel() -> None:
    x = floats(draw("low_freq_channelfullscale", 20)).reshape(20, 3, -1)
    assert (x.min(axis=2) == 0).all()
    assert (x.max(axis=2) == 255).all()


def quantile(sample: list[float], q: float) -> float:
    """Linear interpolation between order statistics."""
    ranked = sorted(sample)
    place = q * (len(ranked) - 1)
    low = math.floor(place)
    return ranked[low] + (place - low) * (ranked[min(low + 1, len(ranked) - 1)] - ranked[low])


def test_colour_range_against_a_loop() -> None:
    rng = np.random.default_rng(3)
    x, centre, deviation = rng.normal(0.4, 0.03, (9, 7, 3)), np.array([0.05, 0.5, 0.9]), 0.23
    expected = np.empty_like(x)
    for c in range(3):
        channel = [float(v) for v in x[:, :, c].flat]
        base = quantile(channel, 0.025)
        top = quantile([v - base for v in channel], 0.975)
        for i in range(9):
            for j in range(7):
                value = 2 * ((float(x[i, j, c]) - base) / top) * deviation + float(centre[c])
                expected[i, j, c] = min(max(value, 0.0), 1.0)
    np.testing.assert_allclose(noise._to_colour_range(x, centre, deviation), expected, rtol=0, atol=1e-12)


def test_colorrange_pictures_have_one_deviation_for_the_channels_and_centres_of_their_own() -> None:
    x = floats(draw("low_freq_colorrange", 150)).reshape(150, 3, -1) / 255
    # centre and centre + 2 deviation, unless clipped
    low, high = np.quantile(x, 0.025, axis=2), np.quantile(x, 0.975, axis=2)
    deviation = (high - low) / 2
    free = (x.max(axis=2) < 1) & (x.min(axis=2) > 0)
    for i in range(150):
        assert np.ptp(deviation[i][free[i]]) < 0.006 if free[i].any() else True
    assert free.sum() > 100
    assert 0.096 < deviation[free].min() < 0.12
    assert 0.28 < deviation[free].max() < 0.304
    assert low.mean() == pytest.approx(0.5, abs=0.06)  # centres ~ U[0, 1)
    assert low.std() == pytest.approx(0.289, abs=0.03)
    assert np.abs(np.corrcoef(low.T) - np.eye(3)).max() < 0.3


def wrapped(x: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """A Gaussian filter cut at 4 sigma, on a torus, as sums of shifted pictures."""
    radius = int(4 * sigma + 0.5)
    weights = {k: math.exp(-(k**2) / (2 * sigma**2)) for k in range(-radius, radius + 1)}
    for axis in (0, 1):
        x = sum((w * np.roll(x, k, axis) for k, w in weights.items()), np.zeros_like(x)) / sum(weights.values())
    return x


@pytest.mark.parametrize("family", SMOOTHED)
def test_smoothing_is_a_gaussian_on_a_torus_with_a_sigma_of_the_pool(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = {"low_freq_pixel_permutation": (1, 1.5, 2, 3, 4, 6, 8), "blobs": (1.5, 2, 2.5, 3, 3.5, 4)}
    pool = fine.get(family, (10, 15, 25, 40, 60, 85))
    scale = 0.6 if family in fine else 0.08
    seen = set()

    def spy(x: NDArray[np.float64], sigma: tuple[float, float, float], **options: Any) -> NDArray[np.float64]:
        y: NDArray[np.float64] = gaussian_filter(x, sigma, **options)
        assert sigma[0] == sigma[1]
        assert sigma[2] == 0  # channels apart
        np.testing.assert_allclose(y, wrapped(x, sigma[0]), atol=1e-12)
        if family == "blobs":
            assert set(np.unique(x)) == {0.0, 1.0}
            assert x.mean() == pytest.approx(0.7, abs=0.04)
        elif family != "low_freq_pixel_permutation":
            assert x.mean() == pytest.approx(0.5, abs=0.03)
            assert x.std() == pytest.approx(12**-0.5, abs=0.02)
        seen.add(round(sigma[0] / scale, 9))
        return y

    monkeypatch.setattr(noise, "gaussian_filter", spy)
    draw(family, 60, sigma_scale=scale)
    assert seen == set(pool)


@pytest.mark.parametrize("family", SMOOTHED)
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (17, 40)])
def test_smooth_families_are_smoother_than_what_they_smooth(family: str, size: tuple[int, int]) -> None:
    white = {"blobs": "rademacher", "low_freq_pixel_permutation": "pixel_permutation"}.get(family, "uniform")
    assert roughness(draw(family, 20, size)) < 0.93 * roughness(draw(white, 20, size))


def test_the_default_scale_is_the_shorter_side_over_400_but_half_a_pixel_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def spy(x: NDArray[np.float64], sigma: tuple[float, float, float], **options: Any) -> NDArray[np.float64]:
        seen.add(round(sigma[0], 9))
        y: NDArray[np.float64] = gaussian_filter(x, sigma, **options)
        return y

    monkeypatch.setattr(noise, "gaussian_filter", spy)
    draw("low_freq", 60, (32, 50))
    assert seen == {0.8, 1.2, 2.0, 3.2, 4.8, 6.8}
    for family, expected in (("low_freq_pixel_permutation", {0.5, 0.64}), ("blobs", {0.5})):
        seen.clear()
        draw(family, 60)
        assert seen == expected
    seen.clear()
    draw("blobs", 3, sigma_scale=1e-9)
    assert seen == {0.5}


def test_permutations_are_smoothed_but_keep_their_mean() -> None:
    source = pictures(4, (32, 32))
    x = noise.generate("low_freq_pixel_permutation", 4, seed=0, source=source, sigma_scale=1.0)
    # A filter that wraps keeps the mean; truncation takes half a level.
    assert np.abs(floats(x).mean(axis=(2, 3)) - (floats(source).mean(axis=(2, 3)) - 0.5)).max() < 0.2
    assert roughness(x) < 0.5
    assert (floats(x).std(axis=(2, 3)) < 0.6 * floats(source).std(axis=(2, 3)) + 1).all()


@pytest.mark.parametrize("scale", [None, 1.0])
def test_blobs_are_black_below_three_quarters(scale: float | None) -> None:
    x = draw("blobs", 30, (64, 64), sigma_scale=scale)
    assert not ((x > 0) & (x < math.floor(0.75 * 255))).any()
    assert all(0 in values(picture) for picture in x)
    assert (x >= 191).any()
    assert ((x > 191) & (x < 254)).any()  # what stays keeps its value: not a threshold


@pytest.mark.parametrize("family", SMOOTHED)
def test_a_filter_far_wider_than_the_picture_gives_numbers(family: str) -> None:
    x = draw(family, 10, (4, 5), sigma_scale=100.0)  # all but constant; a division by zero would warn, and warnings are errors
    assert x.shape == (10, 3, 4, 5)


def test_a_constant_picture_is_brought_to_the_low_end() -> None:
    constant = np.full((4, 4, 3), 0.5)
    assert (noise._to_full_range(constant, (0, 1, 2)) == 0).all()
    np.testing.assert_array_equal(noise._to_colour_range(constant, np.array([0.1, 0.2, 0.3]), 0.2)[0, 0], [0.1, 0.2, 0.3])


# --- what is refused ------------------------------------------------------------------------------------------------------------


def test_an_unknown_family_is_refused_with_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match="`Gausian`; the nearest is `gaussian`") as caught:
        noise.generate("Gausian", 1, seed=0)
    assert all(f in str(caught.value) for f in noise.FAMILIES)
    with pytest.raises(InputError, match="nearest"):
        noise.generate("", 1, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "`n`.*at least 1; got 0"),
        ({"size": (2, 9)}, "`size`.*got 2 x 9"),
        ({"size": (9, 2)}, "`size`.*got 9 x 2"),
        ({"seed": -1}, "`seed`.*got -1"),
        ({"sigma_scale": 0.0}, "`sigma_scale`.*got 0.0"),
        ({"sigma_scale": -1.0}, "`sigma_scale`.*got -1.0"),
        ({"sigma_scale": math.nan}, "`sigma_scale`.*got nan"),
        ({"sigma_scale": math.inf}, "`sigma_scale`.*got inf"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        noise.generate(**{"family": "blobs", "n": 1, "size": (8, 8), "seed": 0, **arguments})


@pytest.mark.parametrize("family", PERMUTE)
def test_a_permutation_needs_fitting_pictures(family: str) -> None:
    with pytest.raises(InputError, match=f"`{family}`.*`source`"):
        noise.generate(family, 1, (8, 9), seed=0)
    good = pictures(2, (8, 9))
    for bad in (good.float(), good[0], good[0, 0, 0, 0], good[:0], good[:, :1], good.permute(0, 1, 3, 2)):
        with pytest.raises(InputError, match=r"`source`.*\(m, 3, 8, 9\); got"):
            inspect.unwrap(noise.generate)(family, 1, (8, 9), seed=0, source=bad)  # a user has no type checks

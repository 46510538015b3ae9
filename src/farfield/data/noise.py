"""The 17 unit tests for OOD detectors of NINCO: noise no classifier should take for a picture, drawn at any size.

A detector that lets one of these through has a defect that pictures would not have shown; hence *unit tests*. Our names, the
printed names and the definitions; x is one picture, h x w x 3 in [0, 1], and `G_s` a Gaussian filter of s pixels on each channel
that wraps at the borders:

    uniform                     uniform noise (Uni)              x ~ U[0, 1) per pixel and channel
    gaussian                    Gaussian noise                   x ~ N(.5, s^2), s from GAUSSIAN
    rademacher                  Rademacher                       x from {0, 1}, each with probability 1/2
    pixel_permutation           IN pixel permutations            the pixels of an ID picture in another order, triples kept
    white, black                white, black                     x = 1, x = 0
    grey                        shades of grey                   x = g, g ~ U[0, 1)
    monochrome                  monochrome                       x = c, c ~ U[0, 1)^3
    tricolour                   tricolour                        3 stripes, either direction, colours ~ U[0, 1)^3
    tricolour_primary           primary tricolour                3 stripes, either direction, colours from {0, 1}^3
    horizontal_stripes          horizontal stripes               k stripes, k from STRIPES, colours ~ U[0, 1)^3
    vertical_stripes            vertical stripes                 the same, upright
    low_freq                    smooth noise (SmN)               y = G_s(U), s from SMOOTH; x = (y - min y) / (max y - min y)
    low_freq_channelfullscale   smooth noise+                    the same, min and max per channel
    low_freq_colorrange         smooth color                     y as above, in a narrow range of colour: `_to_colour_range`
    low_freq_pixel_permutation  smooth IN pixel permutations     G_s(pixel_permutation), s from SMOOTH_PERMUTATION
    blobs                       blobs                            y = G_s(Bernoulli(.7)), s from BLOBS; x = y, but 0 where y < .75

*Differs from the paper*: the released files were drawn from an unseeded generator and half of them saved as JPEG. These are other
draws of the same distributions, uncompressed; for the published numbers use the released files. The paper's sigmas are in pixels
of roughly 400-pixel pictures; here they are scaled to the size asked for, and kept from falling below `FINEST`.

Source: Bitterwolf, Mueller and Hein, *In or Out? Fixing ImageNet Out-of-Distribution Detection Evaluation*, ICML 2023, and its
code; used by Mueller and Hein, *How to train your ViT for OOD Detection*, 2024.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from farfield.errors import InputError

GAUSSIAN = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
STRIPES = (4, 5, 7, 10, 15, 20)
SMOOTH = (10.0, 15.0, 25.0, 40.0, 60.0, 85.0)
SMOOTH_PERMUTATION = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
BLOBS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
REFERENCE = 400  # the side, in pixels, that the sigmas of the paper are meant for
# Below an eighth of a pixel the filter is cut to a single tap and does nothing: `blobs` would be coin flips, and the smooth
# permutations plain ones. At half a pixel a neighbour weighs a seventh of the pixel itself.
FINEST = 0.5  # pixels

Picture = NDArray[np.float64]  # (h, w, 3) in [0, 1]


class _Frame(NamedTuple):
    """What a recipe is given besides randomness: the size, the scale of its sigmas, and a picture `(h, w, 3)` to permute."""

    h: int
    w: int
    scale: float
    picture: Picture | None


def _uniform(rng: Generator, frame: _Frame) -> Picture:
    return rng.random((frame.h, frame.w, 3))


def _bernoulli(rng: Generator, frame: _Frame, p: float) -> Picture:
    return (rng.random((frame.h, frame.w, 3)) < p).astype(np.float64)


def _gaussian(rng: Generator, frame: _Frame) -> Picture:
    return rng.normal(0.5, rng.choice(GAUSSIAN), (frame.h, frame.w, 3))


def _permutation(rng: Generator, frame: _Frame) -> Picture:
    assert frame.picture is not None  # `generate` has asked for it
    return rng.permutation(frame.picture.reshape(-1, 3)).reshape(frame.h, frame.w, 3)


def _constant(rng: Generator, frame: _Frame, colour: Callable[[Generator], float | Picture]) -> Picture:
    return np.full((frame.h, frame.w, 3), colour(rng))


def _striped(frame: _Frame, colours: Picture, *, horizontal: bool) -> Picture:
    """Equal stripes, one per row of `colours` (k, 3); the last also takes the pixels left over."""
    side, k = (frame.h if horizontal else frame.w), len(colours)
    # stripe(i) = min(i // (side // k), k - 1)
    line = colours[np.minimum(np.arange(side) // (side // k), k - 1)]
    return np.broadcast_to(line[:, None] if horizontal else line[None], (frame.h, frame.w, 3))


def _tricolour(rng: Generator, frame: _Frame, *, primary: bool) -> Picture:
    colours = rng.random((3, 3))
    return _striped(frame, np.round(colours) if primary else colours, horizontal=bool(rng.random() < 0.5))


def _stripes(rng: Generator, frame: _Frame, *, horizontal: bool) -> Picture:
    side = frame.h if horizontal else frame.w
    # A stripe is at least a pixel wide; a picture too small for the fewest stripes has one per pixel.
    k = int(rng.choice([k for k in STRIPES if k <= side] or [side]))
    return _striped(frame, rng.random((k, 3)), horizontal=horizontal)


def _smooth(rng: Generator, frame: _Frame, x: Picture, sigmas: Sequence[float]) -> Picture:
    """`x` after a Gaussian filter of one of `sigmas`, each channel by itself, on a picture without borders."""
    sigma = max(float(rng.choice(sigmas)) * frame.scale, FINEST)
    smooth: Picture = gaussian_filter(x, (sigma, sigma, 0), mode="wrap", truncate=4.0)
    return smooth


def _over(x: Picture, span: Picture) -> Picture:
    """`x / span`, and 0 rather than NaN where a filter much wider than the picture has left it constant."""
    return x / np.maximum(span, np.finfo(np.float64).tiny)


def _to_full_range(x: Picture, axis: tuple[int, ...]) -> Picture:
    # (x - min x) / (max x - min x)
    x = x - x.min(axis, keepdims=True)
    return _over(x, x.max(axis, keepdims=True))


def _to_colour_range(x: Picture, centre: Picture, deviation: float) -> Picture:
    """`x` (h, w, 3) with the middle 95 % of each channel spread over [centre, centre + 2 deviation]; `centre` is (3,).

    *Differs from the paper*, as its own code does: `centre` is the lower end of the range, not its middle.
    """
    # x0 = x - q_.025(x);  x1 = x0 / q_.975(x0);  clip(2 x1 deviation + centre)
    x0 = x - np.quantile(x, 0.025, axis=(0, 1))
    x1 = _over(x0, np.quantile(x0, 0.975, axis=(0, 1)))
    return np.clip(2 * x1 * deviation + centre, 0, 1)


def _low_freq(rng: Generator, frame: _Frame, *, axis: tuple[int, ...]) -> Picture:
    return _to_full_range(_smooth(rng, frame, _uniform(rng, frame), SMOOTH), axis)


def _low_freq_colorrange(rng: Generator, frame: _Frame) -> Picture:
    return _to_colour_range(_smooth(rng, frame, _uniform(rng, frame), SMOOTH), rng.random(3), rng.uniform(0.1, 0.3))


def _low_freq_permutation(rng: Generator, frame: _Frame) -> Picture:
    return _smooth(rng, frame, _permutation(rng, frame), SMOOTH_PERMUTATION)


def _blobs(rng: Generator, frame: _Frame) -> Picture:
    y = _smooth(rng, frame, _bernoulli(rng, frame, 0.7), BLOBS)
    return np.where(y < 0.75, 0.0, y)


_RECIPES: dict[str, Callable[[Generator, _Frame], Picture]] = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "rademacher": partial(_bernoulli, p=0.5),
    "pixel_permutation": _permutation,
    "white": partial(_constant, colour=lambda rng: 1.0),
    "black": partial(_constant, colour=lambda rng: 0.0),
    "grey": partial(_constant, colour=lambda rng: rng.random()),
    "monochrome": partial(_constant, colour=lambda rng: rng.random(3)),
    "tricolour": partial(_tricolour, primary=False),
    "tricolour_primary": partial(_tricolour, primary=True),
    "horizontal_stripes": partial(_stripes, horizontal=True),
    "vertical_stripes": partial(_stripes, horizontal=False),
    "low_freq": partial(_low_freq, axis=(0, 1, 2)),
    "low_freq_channelfullscale": partial(_low_freq, axis=(0, 1)),
    "low_freq_colorrange": _low_freq_colorrange,
    "low_freq_pixel_permutation": _low_freq_permutation,
    "blobs": _blobs,
}
PERMUTE = ("pixel_permutation", "low_freq_pixel_permutation")
"""The families that permute the pixels of a picture."""

FAMILIES: tuple[str, ...] = tuple(_RECIPES)
"""The 17 names, in the order of the table above. A family's place is part of its seed: add new ones at the end."""


def generate(
    family: str,
    n: int,
    size: tuple[int, int] = (32, 32),
    *,
    seed: int,
    source: UInt8[Tensor, "m 3 h w"] | None = None,
    sigma_scale: float | None = None,
) -> UInt8[Tensor, "n 3 h w"]:
    """`n` pictures of one family; picture i depends on `family`, `seed`, the size and `source[i % m]`, never on `n`.

    Formula: x as in the table of this module, then `floor(255 clip(x, 0, 1))`: truncated, as the paper's code does, not rounded.

    Args:
        family: one of `FAMILIES`.
        n: how many, at least 1.
        size: height and width in pixels, each at least 3.
        seed: of all randomness, at least 0; every family and every picture has a stream of its own.
        source: `(m, 3, h, w)` ID pictures whose pixels `pixel_permutation` and `low_freq_pixel_permutation` rearrange; the
            others ignore it.
        sigma_scale: what multiplies the paper's sigmas, which are in pixels of roughly 400-pixel pictures: `min(size) / 400`
            unless given, 1 for the sigmas as printed. No filter gets narrower than `FINEST` = 0.5 pixels.

    Raises:
        InputError: an unknown family; `n`, `size`, `seed` or `sigma_scale` out of range; no fitting `source` for a permutation.

    >>> pictures = generate("tricolour_primary", 2, (4, 6), seed=0)
    >>> tuple(pictures.shape), sorted(pictures.unique().tolist())
    ((2, 3, 4, 6), [0, 255])
    >>> bool((generate("blobs", 5, (8, 8), seed=1)[:2] == generate("blobs", 2, (8, 8), seed=1)).all())
    True

    Source: Bitterwolf, Mueller and Hein, ICML 2023, the 17 unit tests.
    """
    if family not in _RECIPES:
        nearest = difflib.get_close_matches(family.lower(), FAMILIES, n=1, cutoff=0.0)[0]
        raise InputError(f"No noise family is called `{family}`; the nearest is `{nearest}`. There are: {', '.join(FAMILIES)}.")
    h, w = size
    if n < 1:
        raise InputError(f"`n` is the number of pictures to draw and must be at least 1; got {n}.")
    if min(h, w) < 3:
        raise InputError(f"`size` must be at least 3 x 3 pixels, a pixel per stripe of a tricolour; got {h} x {w}.")
    if seed < 0:
        raise InputError(f"`seed` must be at least 0; got {seed}.")
    scale = min(h, w) / REFERENCE if sigma_scale is None else sigma_scale
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"`sigma_scale` must be positive and finite; got {scale}. Leave it out for min(size) / {REFERENCE}.")
    pictures = _checked(family, source, h, w) if family in PERMUTE else None
    drawn = np.empty((n, 3, h, w), dtype=np.uint8)
    for i in range(n):
        picture = None if pictures is None else pictures[i % len(pictures)].transpose(1, 2, 0) / 255
        drawn[i] = _drawn(family, i, _Frame(h, w, scale, picture), seed)
    return torch.from_numpy(drawn)


def one(family: str, index: int, size: tuple[int, int], *, seed: int, picture: UInt8[Tensor, "3 h w"] | None = None) -> UInt8[Tensor, "3 h w"]:
    """Picture `index` of `generate`, alone; `picture` is what a permutation permutes.

    >>> bool((one("blobs", 4, (8, 8), seed=1) == generate("blobs", 5, (8, 8), seed=1)[4]).all())
    True
    """
    h, w = size
    given = _checked(family, None if picture is None else picture[None], h, w)[0].transpose(1, 2, 0) / 255 if family in PERMUTE else None
    return torch.from_numpy(_drawn(family, index, _Frame(h, w, min(h, w) / REFERENCE, given), seed))


def _drawn(family: str, index: int, frame: _Frame, seed: int) -> NDArray[np.uint8]:
    """One picture, 8 bits a channel, (3, h, w)."""
    # A child of the seed for each picture, and not one stream for all, so that picture i is the same however many are drawn.
    child = SeedSequence((seed, FAMILIES.index(family)), spawn_key=(index,))
    x = _RECIPES[family](default_rng(child), frame)
    # floor(255 clip(x, 0, 1))
    return np.ascontiguousarray((np.clip(x, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1))


def _checked(family: str, source: Tensor | None, h: int, w: int) -> NDArray[np.uint8]:
    """`source` as an array, once it is known to be pictures that fit."""
    if source is None:
        raise InputError(f"`{family}` rearranges the pixels of ID pictures; give them as `source`, 8-bit (m, 3, {h}, {w}).")
    if source.dtype != torch.uint8 or tuple(source.shape[1:]) != (3, h, w) or len(source) < 1:
        raise InputError(
            f"`source` must be at least one 8-bit picture of the size asked for, uint8 (m, 3, {h}, {w}); "
            f"got {source.dtype} {tuple(source.shape)}. Resize it, or pass its height and width as `size`."
        )
    return np.asarray(source.detach().cpu().numpy())

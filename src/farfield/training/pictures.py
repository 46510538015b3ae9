"""What is done to a batch of 8-bit pictures, on the device they are on, each with random numbers of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from PIL import Image
from torch import Tensor

from farfield.errors import InputError
from farfield.training.draws import Draws
from farfield.training.operations import OPERATIONS, TRIVIAL, check_operations, operate

BINS = 31  # magnitudes of TrivialAugment
_ORDERS = torch.tensor([[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])  # of three channels, but for the one they have


def tile_sizes(sizes: Sequence[int], shape: Sequence[int]) -> list[int]:
    """The tile sizes, in pixels, of which two or more fit into each side.

    Raises:
        InputError: where none is left.

    >>> tile_sizes((2, 3, 5, 10, 15, 30, 60), (32, 32))
    [2, 3, 5, 10, 15]
    """
    fit = [size for size in sizes if 1 <= size <= min(shape) // 2]
    if not fit:
        raise InputError(
            f"Pictures of {shape[0]} x {shape[1]} pixels are too small for a jigsaw with tiles of {min(sizes, default=0)} pixels: two must fit into a side."
        )
    return fit


def jigsaw(pictures: UInt8[Tensor, "n 3 h w"], size: int, draws: Draws) -> UInt8[Tensor, "n 3 h w"]:
    """Each picture cut into whole tiles of `size x size` pixels that are put together in another order; a border that makes no tile stays.

    No picture keeps the order it has. Where the border is uneven it lies right and below.

    Source: Zhang et al., "Sharpness-aware Fine-Tuning for OOD Detection", IEEE TIP 2026, which takes sizes that divide the side.
    """
    (size,) = tile_sizes((size,), pictures.shape[2:])
    n, channels, height, width = pictures.shape
    rows, columns = height // size, width // size
    inner = pictures[:, :, : rows * size, : columns * size]
    tiles = inner.reshape(n, channels, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = draws.orders("jigsaw", rows * columns)
    same = (order == torch.arange(rows * columns)).all(1)
    order[same] = order[same].roll(1, 1)  # one in many; with four tiles, one in 24
    shuffled = tiles.gather(1, order.to(pictures.device)[:, :, None, None, None].expand_as(tiles))
    made = pictures.clone()
    made[:, :, : rows * size, : columns * size] = shuffled.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5).reshape(inner.shape)
    return made


def shuffle_channels(pictures: UInt8[Tensor, "n 3 h w"], draws: Draws) -> UInt8[Tensor, "m 3 h w"]:
    """Each picture with its channels in one of the five other orders; those that stay as they are, such as grey ones, are left out.

    Source: Zhang et al., "Sharpness-aware Fine-Tuning for OOD Detection", IEEE TIP 2026.
    """
    made = reorder_channels(pictures, draws)
    return made[(made != pictures).flatten(1).any(1)]


def reorder_channels(pictures: UInt8[Tensor, "n 3 h w"], draws: Draws) -> UInt8[Tensor, "n 3 h w"]:
    """Each picture with its channels in one of the five other orders; grey ones are as they were."""
    order = _ORDERS[draws.choice("channels", len(_ORDERS))].to(pictures.device)
    return pictures.gather(1, order[:, :, None, None].expand_as(pictures))


def flip(pictures: UInt8[Tensor, "n 3 h w"], draws: Draws, chance: float = 0.5) -> UInt8[Tensor, "n 3 h w"]:
    """Each picture mirrored, left for right, with this chance.

    Raises:
        InputError: where `chance` is no probability.

    >>> flip(torch.arange(6).to(torch.uint8).reshape(1, 3, 1, 2), Draws(0, 0, torch.tensor([0])), 1.0).flatten()
    tensor([1, 0, 3, 2, 5, 4], dtype=torch.uint8)
    """
    _check_chance("flip", chance)
    turned = (draws.uniform("flip") < chance).to(pictures.device)
    return torch.where(turned[:, None, None, None], pictures.flip(3), pictures)


def crop(
    picture: Image.Image, size: int, draws: Draws, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> Image.Image:
    """A random part of a picture, brought to `size x size` pixels by linear interpolation without aliasing.

    Its share of the area is uniform in `scale`, its width over its height log-uniform in `ratio`, and its place uniform. Ten parts are tried; where none
    fits, it is the largest in the middle whose proportion lies in `ratio`.

    Args:
        picture: in colour; a palette's colours cannot be interpolated.
        size: in pixels.
        draws: of this picture alone.
        scale: smallest and largest share.
        ratio: smallest and largest proportion.

    Raises:
        InputError: where a range is none, or `draws` are of several samples.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015; torchvision's RandomResizedCrop.

    >>> crop(Image.new("RGB", (40, 30)), 16, Draws(0, 0, torch.tensor([0]))).size
    (16, 16)
    """
    if len(draws.ids) != 1:
        raise InputError(f"A crop is of one picture; the random numbers are of {len(draws.ids)}.")
    if size < 1 or not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1] < math.inf:
        raise InputError(
            f"A crop needs a size of at least 1, shares in (0, 1] and proportions above 0, each from small to large; got size {size}, {scale}, {ratio}."
        )
    wide, tall = picture.size
    share, proportion, across, down = draws.uniform("crop", 4, 10)[0].double()
    area = wide * tall * (scale[0] + (scale[1] - scale[0]) * share)
    proportion = (math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * proportion).exp()
    widths, heights = (area * proportion).sqrt().round(), (area / proportion).sqrt().round()
    fits = ((widths >= 1) & (widths <= wide) & (heights >= 1) & (heights <= tall)).nonzero().flatten()
    if len(fits):
        first = int(fits[0])
        width, height = int(widths[first]), int(heights[first])
        left, top = int(float(across[first]) * (wide - width + 1)), int(float(down[first]) * (tall - height + 1))
    else:
        width, height = min(wide, max(1, round(tall * ratio[1]))), min(tall, max(1, round(wide / ratio[0])))
        left, top = (wide - width) // 2, (tall - height) // 2
    # Cut before it is resized: a box given to resize would let in pixels from outside of it.
    return picture.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)


def erase(inputs: Float[Tensor, "n 3 h w"], draws: Draws, chance: float = 0.1) -> Float[Tensor, "n 3 h w"]:
    """Random erasing: with this chance a box of 2 to 33 % of the input, 0.3 to 3.3 times as tall as wide, becomes 0 (the mean colour).

    The share is uniform, the proportion log-uniform, the place uniform. Ten boxes are tried, and the first that is smaller than both sides is taken;
    where none is, nothing is erased.

    Args:
        inputs: of the model, normalised.
        draws: their random numbers.
        chance: of each.

    Raises:
        InputError: where `chance` is no probability.

    Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; torchvision's recipe v2 has 10 %.

    >>> erase(torch.ones(1, 3, 8, 8), Draws(0, 0, torch.tensor([0])), 0.0).mean()
    tensor(1.)
    """
    _check_chance("erase", chance)
    height, width = inputs.shape[2:]
    share, proportion, down, across = draws.uniform("erase", 4, 10).double().unbind(1)
    area = height * width * (0.02 + (0.33 - 0.02) * share)
    proportion = (math.log(0.3) + math.log(3.3 / 0.3) * proportion).exp()
    heights, widths = (area * proportion).sqrt().round(), (area / proportion).sqrt().round()
    fits = (heights < height) & (widths < width)
    first = fits & (fits.cumsum(1) == 1) & (draws.uniform("erase, chance") < chance)[:, None]
    tops, lefts = (down * (height - heights + 1)).floor(), (across * (width - widths + 1)).floor()
    # Where no box is taken all four are 0, which is an empty box.
    top, left, tall, wide = ((box * first).sum(1).to(inputs.device)[:, None] for box in (tops, lefts, heights, widths))
    row, column = torch.arange(height, device=inputs.device), torch.arange(width, device=inputs.device)
    rows, columns = (row >= top) & (row < top + tall), (column >= left) & (column < left + wide)
    return inputs.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def trivial(pictures: UInt8[Tensor, "n 3 h w"], draws: Draws, operations: Mapping[str, float] | None = None) -> UInt8[Tensor, "n 3 h w"]:
    """TrivialAugment: one operation for each picture, all equally likely, at one of 31 magnitudes from 0 to its largest, to either side where it has two.

    Args:
        pictures: 8 bits a channel.
        draws: their random numbers.
        operations: name to largest magnitude, see `farfield.training.operations.allowed`; the paper's 14, wide, by default.

    Raises:
        InputError: for an unknown operation or an impossible magnitude.

    Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021, the wide space.

    >>> grey = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    >>> trivial(grey, Draws(0, 0, torch.tensor([0, 1])), {"Brightness": 0.0}).unique()
    tensor([100], dtype=torch.uint8)
    """
    limits = TRIVIAL if operations is None else check_operations(operations)
    which = draws.choice("trivial, operation", len(limits))
    share = draws.choice("trivial, magnitude", BINS).double() / (BINS - 1)
    return operate(pictures, list(limits), which, _signed(share, which, limits, draws.uniform("trivial, sign")))


def augmix(
    pictures: UInt8[Tensor, "n 3 h w"],
    draws: Draws,
    name: str,
    severity: float = 3.0,
    width: int = 3,
    depth: int = 0,
    operations: Mapping[str, float] | None = None,
) -> UInt8[Tensor, "n 3 h w"]:
    """AugMix: `(1 - m) x + m sum_i w_i chain_i(x)` with `w` of Dirichlet(1) and `m` of Beta(1, 1), drawn for each picture.

    A chain is `depth` operations, all equally likely, each at `U(0.1, severity) / 10` of its largest magnitude. Without `operations` these are the
    paper's, as its code has them: shears of 0.3, shifts of a third of the side, rotations of 30 degrees, 4 bits fewer than 4, inversion from 256 down to 0 (all but
    the shears in whole numbers), autocontrast, equalisation. Pixels that move are interpolated linearly. The mixture is rounded to whole levels.

    Args:
        pictures: 8 bits a channel.
        draws: their random numbers.
        name: of this view: several of one step differ by it.
        severity: in (0, 10]; 10 is as far as the largest magnitudes.
        width: chains.
        depth: operations in a chain; 0 for 1 to 3 at random.
        operations: name to largest magnitude, see `farfield.training.operations.allowed`.

    Raises:
        InputError: for an unknown operation, an impossible magnitude, or an option out of its range.

    Source: Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty", ICLR 2020.

    >>> white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    >>> augmix(white, Draws(0, 0, torch.tensor([0])), "one", operations={"Identity": 0}).unique()
    tensor([255], dtype=torch.uint8)
    """
    if not 0 < severity <= 10 or width < 1 or depth < 0:
        raise InputError(f"AugMix needs a severity in (0, 10], a width of 1 or more and a depth of 0 or more; got {severity}, {width} and {depth}.")
    n, _, high, wide = pictures.shape
    paper = {"AutoContrast": 0, "Equalize": 0, "Posterize": 4, "Rotate": 30, "Solarize": 256, "ShearX": 0.3, "ShearY": 0.3}
    limits = paper | {"TranslateX": wide / 3, "TranslateY": high / 3} if operations is None else check_operations(operations)
    names, most = list(limits), depth or 3

    def drawn(what: str, *shape: int) -> Tensor:
        return draws.uniform(f"augmix {name}, {what}", *shape)

    which = (drawn("operation", width, most) * len(names)).long().clamp_max(len(names) - 1).flatten(0, 1)
    depths = torch.full((n * width,), depth) if depth else (drawn("depth", width) * 3).long().flatten() + 1
    level = 0.1 + (severity - 0.1) * drawn("level", width, most).double().flatten(0, 1)
    magnitudes = _signed(level / 10, which, limits, drawn("sign", width, most).flatten(0, 1))
    if operations is None:
        whole = torch.tensor([not name.startswith("Shear") for name in names])
        start = torch.tensor([{"Posterize": 4.0, "Solarize": -1.0}.get(name, 0.0) for name in names])
        magnitudes = torch.where(whole[which], magnitudes.trunc(), magnitudes) + start[which]
    chains = pictures.repeat_interleave(width, 0)
    for at in range(most):
        chains = operate(chains, names, torch.where(at < depths, which[:, at], -1), magnitudes[:, at], smooth=True)
    weights = -torch.log1p(-drawn("weights", width).double()).clamp_max(-1e-12)  # of Dirichlet(1) are exponential numbers divided by their sum
    weights = drawn("skip")[:, None] * weights / weights.sum(1, keepdim=True)
    parts = zip(weights.float().to(pictures.device).unbind(1), chains.unflatten(0, (n, width)).unbind(1), strict=True)
    return sum((weight[:, None, None, None] * (chain.float() - pictures) for weight, chain in parts), pictures.float()).round().to(torch.uint8)


def _signed(
    share: Float64[Tensor, "*n"], which: Int64[Tensor, "*n"], limits: Mapping[str, float], sign: Float[Tensor, "*n"]
) -> Float64[Tensor, "*n"]:
    """These shares of the largest magnitudes; those of operations with two sides are negative where `sign` is below a half."""
    largest = torch.tensor(list(limits.values()), dtype=torch.float64)[which]
    signed = torch.tensor([OPERATIONS[name].signed for name in limits])[which]
    return share * largest * torch.where(signed & (sign < 0.5), -1, 1)


def _check_chance(what: str, chance: float) -> None:
    if not 0 <= chance <= 1:
        raise InputError(f"The chance to {what} must lie in [0, 1]; got {chance!r}.")

"""What is done to a batch of 8-bit pictures, on the device they are on, each with random numbers of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farfield.errors import InputError
from farfield.training.draws import Draws

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

    Source: paper 4, section 3.2, which takes sizes that divide the side.
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
    """Each picture with its channels in one of the five other orders; grey pictures, which would stay as they are, are left out.

    Source: paper 4, section 3.2.
    """
    coloured = (pictures != pictures[:, :1]).flatten(1).any(1)
    order = _ORDERS[draws.choice("channels", len(_ORDERS))].to(pictures.device)
    n, _, height, width = pictures.shape
    return pictures.gather(1, order[:, :, None, None].expand(n, 3, height, width))[coloured]


def erase(inputs: Float[Tensor, "n 3 h w"], draws: Draws, chance: float = 0.1) -> Float[Tensor, "n 3 h w"]:
    """Random erasing: with this chance a box of 2 to 33 % of the input, 0.3 to 3.3 times as wide as tall, becomes 0 (the mean colour).

    Ten boxes are tried, and the first that fits is taken; where none does, nothing is erased.

    Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; torchvision's recipe v2 has 10 %.
    """
    raise NotImplementedError


def augmix(
    pictures: UInt8[Tensor, "n 3 h w"], draws: Draws, name: str, severity: float, width: int, depth: int, operations: Sequence[str] | None
) -> UInt8[Tensor, "n 3 h w"]:
    """A mixture of augmentation chains of each picture."""
    raise NotImplementedError

"""Pictures of any data set as a training loop wants them: 8-bit tensors of the model's size, and what normalises them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from farfield.classifier import Transform
from farfield.data.images import Images
from farfield.data.transforms import Normalize, Preprocess, as_pil, as_tensor
from farfield.errors import InputError
from farfield.loading import Pictures, item_of, name_of
from farfield.store import Failure
from farfield.training import Draws


def normalization(transform: Transform, name: str = "The transform") -> Normalize:
    """The mean and standard deviation that a transform normalises with, found on flat pictures of black, grey and white.

    Raises:
        InputError: where its output on flat pictures is not `(x / 255 - mean) / std` for each channel.

    >>> normalization(Normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))
    Normalize(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), size=None)
    """
    try:
        levels = [transform(Image.new("RGB", (64, 64), (grey, grey, grey))) for grey in (0, 102, 255)]
        black, grey, white = (torch.as_tensor(level, dtype=torch.float64).flatten(1).mean(1) for level in levels)
        flat = all(float(torch.as_tensor(level).flatten(1).std(1).max()) < 1e-3 for level in levels)
    except Exception as error:  # a transform of one's own may want anything
        raise InputError(f"{name} cannot be used for training: it fails on a plain RGB picture ({type(error).__name__}: {error}).") from error
    std = 1 / (white - black)
    mean = -black * std
    affine = bool((torch.isfinite(std) & (std > 0)).all()) and torch.allclose(grey, (0.4 - mean) / std, atol=1e-3)
    if not flat or len(mean) != 3 or not affine:
        raise InputError(f"{name} does more than resize and normalise, so training pictures cannot be made for it. Say how with --preprocess.")

    def three(values: Tensor) -> tuple[float, float, float]:
        red, green, blue = (round(float(value), 6) for value in values)
        return red, green, blue

    return Normalize(three(mean), three(std))


class Views:
    """A data set of pictures, each as an 8-bit tensor of the model's size: as in evaluation, or a random part of it.

    A picture that cannot be read is named in `failures`, and the next one that can stands in for it.

    Args:
        dataset: pictures with labels.
        transform: the classifier's own, which says what a picture in evaluation is.
        normalize: what it normalises with.
        size: pixels of a side, for random parts.
        crop: how a picture is cropped, given itself, the size and its draws; `None` for pictures as in evaluation.
        strict: whether to stop at a picture that cannot be read.
    """

    def __init__(
        self,
        dataset: Pictures,
        transform: Transform,
        normalize: Normalize,
        size: int,
        crop: Callable[[Image.Image, int, Draws], Image.Image] | None = None,
        strict: bool = False,
    ) -> None:
        self.dataset, self.transform, self.normalize, self.size, self.crop, self.strict = dataset, transform, normalize, size, crop, strict

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Pictures as in evaluation and their labels."""
        pictures, labels, _ = self.drawn(indices, Draws(0, 0, torch.tensor(indices)))
        return pictures, labels

    def drawn(self, indices: list[int], draws: Draws) -> tuple[Tensor, Tensor, list[str]]:
        """Pictures and labels at some rows, and the names of those that could not be read."""
        items, failures = [], []
        for place, index in enumerate(indices):
            item, told = self._readable(index, draws.of(torch.tensor([place])))
            items.append(item)
            failures += told
        return torch.stack([picture for picture, _ in items]), torch.tensor([label for _, label in items]), failures

    def _readable(self, index: int, draws: Draws) -> tuple[tuple[Tensor, int], list[str]]:
        told: list[str] = []
        for step in range(len(self.dataset)):
            row = (index + step) % len(self.dataset)
            item: Any = item_of(self.dataset, row, lambda picture: self._picture(picture, draws))
            if not isinstance(item, Failure):
                return item, told
            if self.strict or type(item) is not Failure:
                raise InputError(f"{item.name} cannot be read: {item.reason}.")
            told.append(f"{name_of(self.dataset, row)}: {item.reason}")
        raise InputError(f"None of the {len(self.dataset)} pictures can be read. {told[0]}.")

    def _picture(self, picture: Any, draws: Draws) -> Tensor:
        if self.crop is not None:
            return as_tensor(np.array(self.crop(as_pil(picture), self.size, draws)))
        made = self.transform(picture)
        if not isinstance(made, Tensor):
            raise InputError(f"the transform makes a {type(made).__name__}, and training wants a tensor")
        if made.dtype == torch.uint8:
            return made
        mean, std = (torch.tensor(three)[:, None, None] for three in (self.normalize.mean, self.normalize.std))
        return ((made.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def side_of(transform: Transform, usual: int) -> int:
    """Pixels of a side of what a transform makes: of one that says so its own, of others the model's."""
    return transform.crop if isinstance(transform, Preprocess) else usual


def is_ready(data: Any, transform: Transform, size: Sequence[int]) -> bool:
    """Whether pictures are in memory as the model sees them in evaluation, so that they need no views."""
    return isinstance(data, Images) and isinstance(transform, Normalize) and tuple(data.images.shape[1:]) == tuple(size)

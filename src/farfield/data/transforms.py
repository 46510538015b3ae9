"""From pictures to a model's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Normalize:
    """`(x / 255 - mean) / std` per channel, for one 8-bit picture `(3, h, w)` or a batch `(n, 3, h, w)`.

    >>> Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(torch.full((3, 1, 1), 255, dtype=torch.uint8)).flatten()
    tensor([1., 1., 1.])
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batched: ClassVar[bool] = True

    def __call__(self, images: Tensor) -> Float[Tensor, "... 3 h w"]:
        """The model's input."""
        mean = torch.tensor(self.mean, device=images.device)[:, None, None]
        std = torch.tensor(self.std, device=images.device)[:, None, None]
        return (images.float() / 255 - mean) / std

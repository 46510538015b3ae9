"""Mixtures of pairs of pictures, at a share that is given, for a classifier to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from farfield.classifier import Transform
from farfield.errors import InputError
from farfield.training.mixing import mixup


def partners(labels: Int64[Tensor, " n"], seed: int = 0) -> Int64[Tensor, " n"]:
    """For each sample another one with another label, at random.

    Raises:
        InputError: where all have one label.

    >>> partners(torch.tensor([0, 0, 1]))[:2]
    tensor([2, 2])
    """
    if (labels == labels[:1]).all():
        raise InputError("Pictures of different labels are to be mixed, and all test pictures have one label.")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(labels), labels.shape, generator=generator)
    while (same := labels[chosen] == labels).any():
        chosen[same] = torch.randint(len(labels), (int(same.sum()),), generator=generator)
    return chosen


@dataclass(frozen=True)
class Mixed:
    """Mixtures of pairs of pictures, `(1 - share) x + share x'`, as a classifier's input.

    Args:
        pictures: a data set.
        transform: the classifier's; it is affine in pixels, so that what it makes is mixed as pixels are.
        first: `(n,)` rows of the pictures.
        second: `(n,)` rows of what is mixed in.
        share: of the second.
    """

    pictures: Any
    transform: Transform
    first: Int64[Tensor, " n"]
    second: Int64[Tensor, " n"]
    share: float

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int) -> Tensor:
        one, other = (self.transform(_picture(self.pictures[int(rows[index])])) for rows in (self.first, self.second))
        return mixup(one, other, self.share)


def _picture(item: Any) -> Any:
    return item[0] if isinstance(item, tuple | list) else item

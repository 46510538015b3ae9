"""Random numbers that belong to samples: the same whatever batch, process or device a sample is in, and however often a run was stopped."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.stats import hashed


@dataclass(frozen=True, eq=False)
class Draws:
    """What is random about one step: every draw is a hash of the seed, the step, the sample's id and the name of what is drawn.

    Args:
        seed: of the run.
        step: of the run, from 0.
        ids: `(n,)`, a number for each sample that stays with it.

    >>> both = Draws(0, 7, torch.tensor([3, 5]))
    >>> bool(both.uniform("angle")[1] == Draws(0, 7, torch.tensor([5])).uniform("angle")[0])
    True
    """

    seed: int
    step: int
    ids: Int64[Tensor, " n"]

    def uniform(self, what: str, *shape: int) -> Float[Tensor, " n *shape"]:
        """`(n, *shape)` numbers in [0, 1), in float32, on the CPU."""
        each = math.prod(shape)
        key = hashed(torch.tensor([self.step]), self.seed) ^ _number(what)
        mixed = hashed(hashed(self.ids.cpu(), 0)[:, None] + torch.arange(each), int(key))
        # the upper 24 bits, all that a float32 below 1 can tell
        return ((mixed >> 40) & 0xFFFFFF).float().mul(2.0**-24).reshape(len(self.ids), *shape)

    def normal(self, what: str, *shape: int) -> Float[Tensor, " n *shape"]:
        """`(n, *shape)` standard normal numbers (Box and Muller)."""
        radius, angle = self.uniform(f"{what}, radius", *shape), self.uniform(f"{what}, angle", *shape)
        return (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)

    def choice(self, what: str, options: int) -> Int64[Tensor, " n"]:
        """One of `0 ... options - 1` for each sample."""
        return (self.uniform(what) * options).long().clamp_max(options - 1)

    def orders(self, what: str, places: int) -> Int64[Tensor, "n places"]:
        """A permutation of `0 ... places - 1` for each sample."""
        return self.uniform(what, places).argsort(dim=1, stable=True)  # of 24 bits some are equal

    def once(self, what: str) -> torch.Generator:
        """A generator for what all samples of the step share, such as the weight of a mixture."""
        return torch.Generator().manual_seed(int(hashed(torch.tensor([self.step]), self.seed) ^ _number(what)) & 0x7FFFFFFFFFFFFFFF)

    def of(self, rows: slice | Tensor) -> Draws:
        """The same draws of some of the samples."""
        return replace(self, ids=self.ids[rows])


def _number(what: str) -> int:
    """A name as a signed 64-bit number."""
    return int.from_bytes(hashlib.blake2b(what.encode(), digest_size=8).digest(), signed=True)


def beta(alpha: float, generator: torch.Generator) -> float:
    """One draw of Beta(alpha, alpha), for the weight of a mixture; `generator` seeds it.

    >>> 0 <= beta(0.2, torch.Generator().manual_seed(0)) <= 1
    True
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))

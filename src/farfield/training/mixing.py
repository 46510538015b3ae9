"""Mixtures of two samples: mixup and CutMix, with the share of the second sample."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.errors import InputError
from farfield.training.draws import beta


def mixup(inputs: Float[Tensor, "*n"], others: Float[Tensor, "*n"], share: float) -> Float[Tensor, "*n"]:
    """`(1 - share) x + share x'`; equation 8 of Xiong et al. (ICCV 2025), whose lambda weights the second sample.

    >>> mixup(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), 0.25).flatten()
    tensor([0.2500, 0.2500, 0.2500])

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """
    return (1 - share) * inputs + share * others if share else inputs


def cutmix(
    inputs: Float[Tensor, "n 3 h w"], others: Float[Tensor, "n 3 h w"], share: float, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 h w"], float]:
    """A box of the second sample laid on the first, the same for the whole batch, and the share it really has.

    The box has the sides `sqrt(share)` of the picture's, its centre is uniform over the picture, and what hangs over the border is cut off.

    >>> made, share = cutmix(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8), 0.25, torch.Generator().manual_seed(0))
    >>> abs(float(made.mean()) - share) < 1e-6
    True

    Source: Yun et al., "CutMix", ICCV 2019.
    """
    height, width = inputs.shape[2:]
    row, column = (int(torch.randint(side, (), generator=generator)) for side in (height, width))
    tall, wide = (int(0.5 * share**0.5 * side) for side in (height, width))
    top, bottom = max(row - tall, 0), min(row + tall, height)
    left, right = max(column - wide, 0), min(column + wide, width)
    made = inputs.clone()
    made[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return made, (bottom - top) * (right - left) / (height * width)


MIXES = {"none": (), "mixup": ("mixup",), "cutmix": ("cutmix",), "mixup+cutmix": ("mixup", "cutmix")}


def draw_mix(mix: str, alpha: float, cut_alpha: float, generator: torch.Generator) -> tuple[str, float]:
    """Which of a recipe's mixtures a step makes, with equal chance, and the share of the second sample, of Beta(alpha, alpha)."""
    if mix not in MIXES:
        raise InputError(f"There is no mixture {mix!r}; there are {', '.join(MIXES)}.")
    kinds = MIXES[mix]
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    return kind, beta(alpha if kind == "mixup" else cut_alpha, generator)

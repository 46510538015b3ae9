"""Sharpness-aware steps: the gradient is taken a small way up the slope, for all parameters or for those of normalisation layers alone.

Any loop, any optimiser:

    loss().backward()
    with perturbed(norm_parameters(model), rho=0.05):
        optimizer.zero_grad()
        loss().backward()
    optimizer.step()
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

NORMS: tuple[type[nn.Module], ...] = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer normalises, by its type and never by the name it has in its model, which may be anything (`gn1`).

    It is one of torch's (most of timm's and torchvision's are subclasses of these), or of a class, or a subclass of one, that is called a norm and
    has parameters of one dimension alone (timm's `RmsNorm`, transformers' `LlamaRMSNorm`; a cosine head called `NormedLinear` has a matrix).
    """
    own = list(layer.parameters(recurse=False))
    called = any("norm" in kind.__name__.lower() for kind in type(layer).__mro__)
    return isinstance(layer, NORMS) or (called and bool(own) and all(p.ndim == 1 for p in own))


def norm_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The weights and biases of a model's normalisation layers that are trained, each once.

    >>> [p.numel() for p in norm_parameters(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(8, 2)))]
    [8, 8]
    """
    found = {id(p): p for layer in module.modules() if is_norm(layer) for p in layer.parameters(recurse=False) if p.requires_grad}
    return list(found.values())


def usual_rho(parameters: Iterable[Tensor], each: float = 0.0016) -> float:
    """A radius for models of any size: `each * sqrt(number of parameters)`, which is 0.5 for the 97,664 of the ResNetv2-101 of Zhang et al. (2026).

    >>> round(usual_rho([torch.zeros(97_664)]), 3)
    0.5
    """
    return each * math.sqrt(sum(p.numel() for p in parameters))


@contextmanager
def perturbed(parameters: Iterable[Tensor], rho: float) -> Iterator[float]:
    """Inside: the parameters are `w + rho g / |g|_2`, `g` their gradients, `|g|_2` one norm over all of them; after: the bits they were.

    Yields the norm. Parameters without a gradient stay; a norm of 0, or one that is not finite, moves nothing.

    >>> w = nn.Parameter(torch.tensor([3.0, 4.0])); w.grad = torch.tensor([0.6, 0.8])
    >>> with perturbed([w], 5.0):
    ...     print(w.detach())
    tensor([6., 8.])
    >>> w.detach()
    tensor([3., 4.])

    Source: Foret et al., "Sharpness-Aware Minimization", ICLR 2021, equation 2; for normalisation layers alone: Mueller et al., "Normalization Layers
    Are All That Sharpness-Aware Minimization Needs", NeurIPS 2023.
    """
    slopes = [(p, p.grad.detach()) for p in dict.fromkeys(parameters) if p.grad is not None]
    wide = [slope.to(torch.promote_types(slope.dtype, torch.float32)).norm() for _, slope in slopes]
    norm = float(torch.stack([one.to(wide[0]) for one in wide]).norm()) if wide else 0.0
    moves = math.isfinite(norm) and norm > 0  # 0 times an infinite gradient would move too
    kept = [(p, p.detach().clone()) for p, _ in slopes] if moves else []
    try:
        with torch.no_grad():
            for p, slope in slopes if moves else []:
                p.add_(slope, alpha=rho / (norm + 1e-16))
        yield norm
    finally:
        with torch.no_grad():
            for p, before in kept:
                p.copy_(before)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """After: running means and variances (BatchNorm's), and the count of batches, are the bits they were, whatever was seen inside."""
    kept = [(held, held.clone()) for layer in module.modules() if isinstance(layer, _NormBase) for held in layer.buffers(recurse=False)]
    try:
        yield
    finally:
        for held, before in kept:
            held.copy_(before)

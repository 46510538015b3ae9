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

# By type, never by name. timm's own layers are subclasses of these, of which it has all kinds; others are found by what they hold.
NORMS: tuple[type[nn.Module], ...] = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.RMSNorm)


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer normalises: one of torch's, a subclass, or a class of its own that says so by its type's name (`RmsNorm`, `LayerNorm2d`)."""
    kind = type(layer).__name__.lower()
    return isinstance(layer, NORMS) or (
        not list(layer.children()) and any(word in kind for word in ("norm",)) and "weight" in dict(layer.named_parameters())
    )


def norm_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The weights and biases of a model's normalisation layers that are trained, each once.

    >>> [p.numel() for p in norm_parameters(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(8, 2)))]
    [8, 8]
    """
    found = {id(p): p for layer in module.modules() if is_norm(layer) for p in layer.parameters(recurse=False) if p.requires_grad}
    return list(found.values())


def usual_rho(parameters: Iterable[Tensor], each: float = 0.0016) -> float:
    """A radius for models of any size: `each * sqrt(number of parameters)`, which is 0.5 for the 97,664 of paper 4's ResNetv2-101.

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
    moved = [p for p in parameters if p.grad is not None]
    norms = [p.grad.detach().float().norm() for p in moved if p.grad is not None]
    norm = float(torch.stack([n.cpu() for n in norms]).norm()) if norms else 0.0
    scale = rho / (norm + 1e-16) if math.isfinite(norm) and norm > 0 else 0.0
    kept = [p.detach().clone() for p in moved]
    with torch.no_grad():
        for p in moved:
            if p.grad is not None:
                p.add_(p.grad, alpha=scale)
    try:
        yield norm
    finally:
        with torch.no_grad():
            for p, before in zip(moved, kept, strict=True):
                p.copy_(before)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside: running means and variances (BatchNorm's) do not move, whether or not they are used."""
    layers = [layer for layer in module.modules() if isinstance(layer, _NormBase) and layer.track_running_stats]
    kept = [(layer.momentum, None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone()) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, (momentum, seen) in zip(layers, kept, strict=True):
            layer.momentum = momentum
            if seen is not None and layer.num_batches_tracked is not None:
                layer.num_batches_tracked.copy_(seen)

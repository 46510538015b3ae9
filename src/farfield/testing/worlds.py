"""Small imagined classifiers to check detectors on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farfield.outputs import Head, Outputs


@dataclass(frozen=True)
class World:
    """Outputs of an imagined classifier: training, ID test, OOD test."""

    train: Outputs
    id: Outputs
    ood: Outputs


def world(
    n: int = 400,
    d: int = 24,
    c: int = 8,
    *,
    seed: int = 0,
    offset: float = 0.0,
    uneven: bool = False,
    spread: float = 0.5,
    loud: bool = False,
    dtype: torch.dtype = torch.float32,
) -> World:
    """An easy world: ID features around class means after a ReLU, OOD features small and in no class's direction.

    Args:
        n: training samples.
        d: features.
        c: classes.
        seed: of everything random.
        offset: how far features are from zero, in their own units.
        spread: of the features about their class mean.
        loud: whether OOD features are large in all directions, instead of small.
        uneven: whether the features' units spread over four orders of magnitude.
        dtype: of logits and features.
    """
    random = torch.Generator().manual_seed(seed)
    means = 4.0 * (torch.rand(c, d, generator=random) < 0.4)
    units = 10 ** (4 * torch.rand(d, generator=random) - 2) if uneven else torch.ones(d)
    # Centred weights, so that what all classes share raises no logit.
    weight = (means - means.mean(0)) / units
    bias = -(weight * units @ means.mean(0))

    def outputs(features: Tensor, labels: Tensor, first_id: int) -> Outputs:
        features = (features + offset) * units
        head = Head(weight, bias)
        exact = features.double() @ weight.double().T + bias.double()
        ids = torch.arange(first_id, first_id + len(labels))
        return Outputs(exact.to(dtype), features.to(dtype), labels, head, {}, ids)

    def sample(m: int, first_id: int) -> Outputs:
        labels = torch.arange(m) % c
        return outputs(torch.relu(means[labels] + spread * torch.randn(m, d, generator=random)), labels, first_id)

    strange = torch.relu(0.4 + 0.4 * torch.randn(60, d, generator=random)) * (10 if loud else 1)
    return World(sample(n, 0), sample(80, n), outputs(strange, torch.full((60,), -1), n + 80))


class Counted:
    """Training data that counts how often it was gone over to the end."""

    def __init__(self, parts: Sequence[Outputs]) -> None:
        self.parts, self.passes, self.samples = parts, 0, sum(map(len, parts))

    def __iter__(self) -> Iterator[Outputs]:
        yield from self.parts
        self.passes += 1


def cast(outputs: Outputs, dtype: torch.dtype) -> Outputs:
    """The outputs in another precision."""
    assert outputs.logits is not None and outputs.features is not None
    return outputs.having(logits=outputs.logits.to(dtype), features=outputs.features.to(dtype))


def with_features(outputs: Outputs, features: Tensor) -> Outputs:
    """The outputs with other features, and the logits of those."""
    assert outputs.head is not None
    return outputs.having(features=features, logits=outputs.head(features))

"""Small imagined classifiers to check detectors on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from farfield.classifier import Classifier
from farfield.outputs import Head, Outputs
from farfield.taps import Tap, watch


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


class Times(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return self.factor * x


class Pictured(nn.Module):
    """An imagined classifier of pictures `(d, 3, 3)`: two blocks, of which the second rectifies; means over the places; the head."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.first, self.second = Times(2.0), nn.Sequential(Times(0.5), nn.ReLU())
        self.head = nn.Linear(head.weight.shape[1], len(head.weight))
        self.head.weight.data, self.head.bias.data = head.weight.clone(), head.bias.clone()
        self.double()

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.second(self.first(pictures)).mean((2, 3)))
        return logits


def pictures_of(features: Tensor) -> Tensor:
    """Pictures `(n, d, 3, 3)`: each feature times a fixed pattern of its own over the places, whose rectified mean is 1."""
    pattern = torch.rand(features.shape[1], 9, generator=torch.Generator().manual_seed(7)).double() - 0.2
    pattern = pattern / pattern.relu().mean(1, keepdim=True)
    pictures: Tensor = (features.double()[:, :, None] * pattern).unflatten(2, (3, 3))
    return pictures


_classifiers: dict[int, tuple[Head, Classifier]] = {}


def seen(outputs: Outputs, taps: Sequence[Tap]) -> Outputs:
    """The outputs with the columns of taps, as an imagined classifier with their head makes them of pictures with their features."""
    if not taps or outputs.features is None or outputs.head is None or outputs.ids is None:
        return outputs
    head = outputs.head
    if id(head) not in _classifiers:
        d = head.weight.shape[1]
        made = Classifier.wrap(Pictured(head), transform=lambda x: x, input_size=(d, 3, 3), blocks=("first", "second"))
        _classifiers[id(head)] = (head, made)
    columns = watch(_classifiers[id(head)][1], pictures_of(outputs.features), outputs.ids, taps).taps
    return replace(outputs, taps=columns)


def with_groups(outputs: Outputs) -> Outputs:
    """The outputs with the classes in two groups; the "others" of one is the largest logit of the other."""
    if outputs.logits is None or outputs.head is None:
        return outputs
    classes = outputs.logits.shape[1]
    half = classes // 2
    parts = outputs.logits[:, :half], outputs.logits[:, half:]
    logits = torch.cat([parts[1].amax(1, keepdim=True), parts[0], parts[0].amax(1, keepdim=True), parts[1]], 1)
    groups = torch.tensor([-1, *range(half), -1, *range(half, classes)])
    weight = torch.zeros(len(groups), outputs.head.weight.shape[1])
    return replace(outputs, logits=logits, head=Head(weight, torch.zeros(len(groups)), groups))


class Changed:
    """Training data with something done to each chunk."""

    def __init__(self, train: Iterable[Outputs], change: Callable[[Outputs], Outputs]) -> None:
        self.train, self.change = train, change
        self.samples = getattr(train, "samples", None)

    def __iter__(self) -> Iterator[Outputs]:
        return map(self.change, self.train)


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

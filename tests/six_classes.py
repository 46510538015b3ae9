"""A small classifier of small pictures, good enough for detectors to differ on it."""

from __future__ import annotations

import torch
from torch import nn

import farfield as ff
from farfield.data.images import Images
from farfield.data.transforms import Normalize


def pictures(name: str, n: int, seed: int) -> Images:
    """Six classes told by which part of a picture is bright, in which colour."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 6
    images = torch.randint(110, (n, 3, 12, 12), generator=random, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        row, column = divmod(label, 3)
        images[i, label % 3, 6 * row : 6 * row + 6, 4 * column : 4 * column + 4] += 120
    return Images(name, images, labels)


def classifier() -> ff.Classifier:
    """A random body with a head fitted in closed form."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.GroupNorm(3, 12), nn.ReLU(), nn.Flatten(), nn.Linear(300, 20), nn.Softplus(), nn.Linear(20, 6)
    )
    made = ff.Classifier.wrap(net, transform=Normalize((0.5,) * 3, (0.5,) * 3), name="random", input_size=(3, 12, 12))
    train = ff.collect(made, pictures("train", 600, 0))
    assert train.features is not None and train.labels is not None
    with torch.no_grad():
        net[-1].bias.zero_()  # type: ignore[union-attr,operator]
        net[-1].weight.copy_(torch.linalg.lstsq(train.features, 8.0 * nn.functional.one_hot(train.labels, 6).float()).solution.T)  # type: ignore[union-attr,operator]
    return made

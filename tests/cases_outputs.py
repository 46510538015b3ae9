"""Small cases for the checks that look at outputs, features and labels: tensors of a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from farfield.choose import Recommendation
from farfield.classifier import Classifier
from farfield.data.images import Images
from farfield.diagnose.base import Case
from farfield.outputs import Head, Outputs
from farfield.store import Stored


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def turns(n: int, classes: int) -> Tensor:
    """Labels 0, 1, ..., c - 1, 0, 1, ..."""
    return torch.arange(n) % classes


def flat_head(classes: int, d: int, seed: int = 5) -> Head:
    return Head(drawn(classes, d, seed=seed), torch.zeros(classes))


def grouped_head(d: int) -> Head:
    return Head(drawn(5, d), torch.zeros(5), groups=torch.tensor([-1, 2, -1, 0, 1]))


def said(features: Tensor, labels: Tensor | None = None, head: Head | None = None, logits: Tensor | None = None) -> Outputs:
    """Outputs of a classifier with a head; of one without, give logits alone."""
    if head is None and logits is None:
        head = flat_head(3, features.shape[1])
    return Outputs(logits=head(features) if head is not None and logits is None else logits, features=features, labels=labels, head=head)


def with_head(head: Head, labels: Sequence[str] | None = None) -> Classifier:
    layer = nn.Linear(head.weight.shape[1], len(head.weight))
    layer.load_state_dict({"weight": head.weight, "bias": head.bias})
    return Classifier.wrap(layer, transform=torch.as_tensor, input_size=(head.weight.shape[1],), name="toy", groups=head.groups, labels=labels)


def headless(classes: int) -> Classifier:
    return Classifier(nn.Identity(), "headless", torch.as_tensor, None, (classes,))


def case(
    train: Outputs | Stored,
    test: Outputs,
    *,
    classifier: Classifier | None = None,
    pseudo: Mapping[str, Outputs] | None = None,
    pictures: Mapping[str, Images] | None = None,
    names: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    tested: Sequence[int] | None = None,
) -> Case:
    if classifier is None:
        assert test.logits is not None
        classifier = headless(test.logits.shape[1]) if test.head is None else with_head(test.head)
    return Case(
        classifier, names, train, test, pseudo or {}, {}, {}, pictures or {}, {}, list(range(len(test))) if tested is None else tested,
        Recommendation(classifier.name, [], [], {}, None, {}, 0.0), data or {},
    )  # fmt: skip


def of_logits(logits: Tensor, labels: Tensor | None = None, train: Outputs | None = None, **more: Any) -> Case:
    """A case of a classifier without a head."""
    return case(Outputs(logits=logits[:1], labels=torch.zeros(1).long()) if train is None else train, Outputs(logits=logits, labels=labels), **more)


def stored(outputs: Outputs, folder: Path, rows: int = 16) -> Stored:
    """The same on disk, in shards."""
    made = Stored.at(folder, {"made": "here"}, len(outputs), rows, "a classifier")
    numbered = outputs.having(ids=torch.arange(len(outputs)))
    for shard in range(made.shards):
        made.write(shard, numbered[shard * rows : (shard + 1) * rows])
    return made


def plain(name: str, labels: Tensor, side: int = 8, seed: int = 0) -> Images:
    """Pictures of random pixels."""
    pixels = torch.randint(0, 256, (len(labels), 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Images(name, pixels, labels)

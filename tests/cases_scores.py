"""Small cases, made of tensors, for checks that look at logits and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from farfield.choose import Ranked, Recommendation
from farfield.choose.recommend import Figure
from farfield.classifier import Classifier
from farfield.data.images import Images
from farfield.diagnose.base import Case
from farfield.outputs import Outputs


def classifier(classes: int = 4, name: str = "tiny", groups: Tensor | None = None) -> Classifier:
    """Of pictures of 2 pixels' side; nothing is asked of it but its head."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, classes))
    return Classifier.wrap(net, transform=torch.as_tensor, input_size=(3, 2, 2), name=name, groups=groups)


def ranked(
    name: str,
    mean: float = 0.9,
    behind: tuple[float, float, float] = (0.0, 0.0, 0.0),
    reasons: Sequence[str] = (),
    failed: int = 0,
    families: int = 0,
) -> Ranked:
    """A detector's place; its mean has an interval of two points either side."""
    figure = Figure(mean, (mean - 0.02, mean + 0.02))
    return Ranked(name, figure, {"mixup": figure}, failed, families, Figure(behind[0], behind[1:]), tuple(reasons))


def recommendation(*found: Ranked, refused: Mapping[str, str] | None = None) -> Recommendation:
    """As `recommend` would have it."""
    return Recommendation("tiny", found or (ranked("msp"),), [], dict(refused or {}), None, {}, 0.0)


def pictures(name: str, n: int, clusters: Sequence[int] | None = None, parts: Mapping[str, slice] | None = None) -> Images:
    """Black ones."""
    of = None if clusters is None else torch.tensor(clusters)
    return Images(name, torch.zeros(n, 3, 2, 2, dtype=torch.uint8), torch.full((n,), -1), of, dict(parts or {}))


def outputs(logits: Any, labels: Any = None, features: Any = None) -> Outputs:
    """Of rows of logits."""
    rows = torch.as_tensor(np.asarray(logits), dtype=torch.float32)
    return Outputs(
        logits=rows,
        labels=None if labels is None else torch.as_tensor(labels),
        features=None if features is None else torch.as_tensor(np.asarray(features), dtype=torch.float32),
    )


def case(**given: Any) -> Case:
    """A case of which all that is not given is next to nothing."""
    test = given.get("test", outputs(np.eye(4), [0, 1, 2, 3]))
    empty = Case(
        classifier=classifier(), names=(), train=test, test=test, pseudo={}, mixed={}, ood={}, pictures={"test": pictures("test", len(test))}, scores={},
        tested=range(len(test)), recommendation=recommendation(), data={},
    )  # fmt: skip
    return replace(empty, **given)

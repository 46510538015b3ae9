"""Training the last layer alone, on features that a classifier said once: what a frozen backbone would say again at every step."""

from __future__ import annotations

from itertools import accumulate

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.errors import InputError
from farfield.outputs import Data, Outputs, validated


class FeatureSet:
    """Features and labels as the loop takes pictures: `train(nn.Linear(d, c), FeatureSet(outputs), recipe, transform=nn.Identity(), out=...)`.

    It is the same as training through a frozen backbone in evaluation mode, where pictures are shown as they were when they were collected: without
    augmentation. Mixup, which commutes with a linear head and not with a backbone, then is of features.

    Args:
        data: outputs with `features` `(n, d)` and `labels` `(n,)`, or chunks of them, which are kept as they are: a store's stay mapped from the disk.

    Raises:
        InputError: where features or labels are missing, not finite or no classes, or the chunks are of several widths.

    >>> both = FeatureSet(Outputs(features=torch.eye(3), labels=torch.tensor([2, 0, 1])))
    >>> len(both), both.width, both.batch([2, 0])
    (3, 3, (tensor([[0., 0., 1.],
            [1., 0., 0.]]), tensor([1, 2])))
    """

    def __init__(self, data: Data) -> None:
        for _ in validated(data, ("features", "labels"), "A last layer", grouped=True):
            pass
        parts = [part for part in ([data] if isinstance(data, Outputs) else data) if len(part)]
        self.parts = [part.features for part in parts if part.features is not None]
        self.labels = torch.cat([part.labels.cpu() for part in parts if part.labels is not None])
        self.width = self.parts[0].shape[1]
        if other := [part.shape[1] for part in self.parts if part.shape[1] != self.width]:
            raise InputError(f"A chunk has {other[0]} features where the first has {self.width}; they are of several classifiers.")
        self.ends = torch.tensor(list(accumulate(map(len, self.parts))))

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: list[int]) -> tuple[Float[Tensor, "n d"], Int64[Tensor, " n"]]:
        """The features, in float32, and labels at some indices."""
        rows = torch.tensor(indices, dtype=torch.int64)
        owner = torch.searchsorted(self.ends, rows, right=True)
        taken = torch.empty(len(rows), self.width)
        for part in owner.unique().tolist():
            here = owner == part
            start = int(self.ends[part]) - len(self.parts[part])
            taken[here] = self.parts[part][(rows[here] - start).to(self.parts[part].device)].detach().to("cpu", torch.float32)
        return taken, self.labels[rows]

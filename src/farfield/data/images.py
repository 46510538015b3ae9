"""`Images`: a labelled set of equally large pictures in memory, and the suite that groups such sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from farfield.errors import InputError

Group = Literal["near", "far", "shifted"]
RESERVED = ("near", "far", "shifted", "train", "test")  # names of groups and of splits


def kept_parts(parts: Mapping[str, slice], rows: Int64[Tensor, " m"]) -> dict[str, slice]:
    """Where the parts of a set lie among some of its rows, which are in order; those of which no row is left are gone.

    >>> import torch
    >>> kept_parts({"a": slice(0, 3), "b": slice(3, 4), "c": slice(4, 9)}, torch.tensor([1, 2, 6]))
    {'a': slice(0, 2, None), 'c': slice(2, 3, None)}
    """
    if not bool((rows[1:] >= rows[:-1]).all()):
        return {}
    ends = {name: torch.searchsorted(rows, torch.tensor([span.start, span.stop])).tolist() for name, span in parts.items()}
    return {name: slice(start, end) for name, (start, end) in ends.items() if end > start}


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures in memory, as a map-style dataset that also hands out whole batches.

    Args:
        name: what tables call it.
        images: `(n, 3, h, w)`, 8 bits a channel.
        labels: `(n,)` class indices, -1 for out-of-distribution.
        clusters: `(n,)`, which pictures share a source (one photograph, say) and are therefore resampled
            together; `None` where each stands for itself.
        parts: named runs of rows that are also reported alone, such as the families of a noise test.

    >>> import torch
    >>> two = Images("two", torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, -1]))
    >>> len(two), two[1][1]
    (2, -1)
    """

    name: str
    images: UInt8[Tensor, "n 3 h w"]
    labels: Int64[Tensor, " n"]
    clusters: Int64[Tensor, " n"] | None = None
    parts: Mapping[str, slice] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The pictures and labels at `indices`, without a Python loop over them."""
        return self.images[indices], self.labels[indices]

    def only(self, rows: Sequence[int] | Int64[Tensor, " m"]) -> Images:
        """Some of the pictures, by row.

        >>> Images("three", torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.arange(3)).only([0, 2]).labels
        tensor([0, 2])
        """
        rows = torch.as_tensor(rows, dtype=torch.int64)
        clusters = None if self.clusters is None else self.clusters[rows]
        return Images(self.name, self.images[rows], self.labels[rows], clusters, kept_parts(self.parts, rows))

    def name_of(self, index: int) -> str:
        """A picture, for people."""
        return f"{self.name}[{index}]"

    def fingerprint(self) -> str:
        """A hash of every pixel and label."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.images, self.labels):
            digest.update(str(tuple(part.shape)).encode())
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class OODSet:
    """One set a classifier was not trained for: its name, its group, and how to get it.

    `load` gives pictures (`Images`, files, any data set), or a classifier's `Outputs` of them. `group` is `near`, `far`, or `shifted` (covariate-shifted ID: other looks, same classes).
    Of a validation set, `shares` names the test sets that are of the same source, for which it is no fair choice of options.
    """

    name: str
    group: Group
    load: Callable[[], Any]
    shares: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """An in-distribution data set with its splits, and the sets to tell it from.

    Args:
        name: a changed suite gets another.
        classes: the ID class names, in label order.
        taxonomy: group name to the labels in it; every label is in exactly one group.
        splits: `train`, `calibration`, `test` to a loader.
        ood: the sets to tell ID from.
        augmentations: what may be done to a training picture without changing its label.
        note: one sentence every report prints beside its table.
        drawn: the training set of an epoch, for suites that draw it anew.
        validation: OOD sets of another source than those in `ood`, to choose options on; no result is of them.
    """

    name: str
    classes: tuple[str, ...]
    taxonomy: Mapping[str, tuple[int, ...]]
    splits: Mapping[str, Callable[[], Any]]
    ood: tuple[OODSet, ...]
    augmentations: tuple[str, ...]
    note: str
    validation: tuple[OODSet, ...] = ()
    drawn: Callable[[int], Any] | None = None

    def __post_init__(self) -> None:
        names = [ood.name for ood in (*self.ood, *self.validation)]
        for name in names:
            if names.count(name) > 1 or name in RESERVED:
                raise InputError(f"The OOD set {name!r} of {self.name} needs a name of its own, other than {', '.join(RESERVED)}.")

    def split(self, name: str) -> Any:
        """The pictures of `train`, `calibration` or `test`."""
        return self.splits[name]()

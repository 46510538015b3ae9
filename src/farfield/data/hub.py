"""Hugging Face data sets as pictures with labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from farfield.data.pictures import Unreadable, upright_rgb
from farfield.errors import InputError, nearest


@dataclass(frozen=True, eq=False)
class Hub:
    """A Hugging Face data set as a map-style one of `(PIL picture, label)`; see `from_hub`.

    Args:
        name: what tables call it.
        dataset: a `datasets.Dataset`.
        image: its column of pictures.
        labels: `(n,)`, class indices; -1 where there is none.
        folders: `(n,)` names of the classes, before they have an order; empty where there are none.
    """

    name: str
    dataset: Any
    image: str
    labels: Int64[Tensor, " n"]
    folders: tuple[str, ...] = ()
    root: str = "the data set"
    rows: tuple[int, ...] | None = None  # of the whole data set, where these are some of them

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        try:
            return upright_rgb(self.dataset[index][self.image]), int(self.labels[index])
        except Unreadable:
            raise
        except Exception as error:  # Pillow's decoders raise nearly every kind for broken files
            raise Unreadable(f"{type(error).__name__}: {error}".replace("\n", " ")) from error

    def name_of(self, index: int) -> str:
        """The row of a sample, for people."""
        return f"{self.name}[{index if self.rows is None else self.rows[index]}]"

    def fingerprint(self) -> str:
        """The data set's own hash of its content, and the labels."""
        return f"{getattr(self.dataset, '_fingerprint', '')}-{hashlib.blake2b(str(self.labels.tolist()).encode(), digest_size=8).hexdigest()}"

    def only(self, rows: Sequence[int]) -> Hub:
        """Some of the pictures."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        folders = tuple(self.folders[row] for row in rows) if self.folders else ()
        whole = tuple(rows) if self.rows is None else tuple(self.rows[row] for row in rows)
        return replace(self, dataset=self.dataset.select(list(rows)), labels=self.labels[chosen], folders=folders, rows=whole)


def from_hub(dataset: Any, *, name: str = "hub", image: str | None = None, label: str | None = None) -> Hub:
    """A `datasets.Dataset` with a column of pictures.

    Args:
        dataset: the data set, of one split.
        name: what tables call it.
        image: the column of pictures; the first of that kind by default.
        label: the column of classes; the first of that kind by default.

    Raises:
        InputError: when there is no such column.
    """
    kinds = {column: type(feature).__name__ for column, feature in dataset.features.items()}
    if image in kinds and kinds[image] != "Image":
        raise InputError(f"The column {image!r} of {name} is no column of pictures. Its columns are: {', '.join(kinds)}.")
    image = image or next((column for column, kind in kinds.items() if kind == "Image"), None)
    if image is None or image not in kinds:
        raise InputError(f"{name} has no column of pictures{nearest(image or '', kinds)} Its columns are: {', '.join(kinds)}.")
    label = label or next((column for column, kind in kinds.items() if kind == "ClassLabel"), None)
    if label is None:
        return Hub(name, dataset, image, torch.full((len(dataset),), -1))
    if label not in kinds:
        raise InputError(f"{name} has no column {label!r}{nearest(label, kinds)} Its columns are: {', '.join(kinds)}.")
    try:
        labels = torch.tensor([-1 if value is None else int(value) for value in dataset[label]], dtype=torch.int64)
    except (TypeError, ValueError) as error:
        raise InputError(f"The column {label!r} of {name} does not hold the numbers of classes.") from error
    names = getattr(dataset.features[label], "names", None)
    folders = tuple(names[index] for index in labels.tolist()) if names and bool((labels >= 0).all()) else ()
    return Hub(name, dataset, image, labels, folders, root=name)


def load_hub(text: str, *, name: str | None = None) -> Hub:
    """`NAME[:SPLIT]`: a data set saved in a folder by `save_to_disk`, or one of the hub.

    Raises:
        InputError: when the package `datasets` is missing, or the data set cannot be had.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"hf:{text} needs the package datasets: pip install 'farfield[hf]'.") from error
    place, _, split = text.partition(":")
    try:
        loaded = datasets.load_from_disk(place) if Path(place).is_dir() else datasets.load_dataset(place)
    except Exception as error:  # the hub's client raises many kinds for "not reachable"
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given").rstrip(".")
        raise InputError(f"The data set hf:{text} cannot be had ({type(error).__name__}: {first}). Check the name and the connection.") from error
    if isinstance(loaded, dict):
        if split not in loaded:
            raise InputError(f"hf:{text} has the splits {', '.join(loaded)}{nearest(split, loaded)} Write hf:{place}:SPLIT.")
        loaded = loaded[split]
    elif split:
        raise InputError(f"hf:{text} has one split, which has no name. Write hf:{place}.")
    return from_hub(loaded, name=name or Path(place).name)

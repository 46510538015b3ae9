"""From a definition and a folder to a suite whose sets are read when they are wanted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from farfield.data import noise
from farfield.data.files import Files, folder
from farfield.data.images import Images, OODSet, Suite
from farfield.data.lists import image_list
from farfield.data.order import with_classes
from farfield.data.suites import classes as lists
from farfield.data.suites import vision
from farfield.data.suites.definition import PARTS, Definition, Pictures
from farfield.data.transforms import as_pil
from farfield.errors import FarfieldWarning, InputError, nearest
from farfield.stats import hashed


def suite_of(definition: Definition, root: Path) -> Suite:
    """The suite, its data under `root`; nothing is read yet."""
    read = partial(read_ood, definition, root)
    return Suite(
        name=definition.name,
        classes=lists.names(definition.classes),
        taxonomy=definition.taxonomy,
        splits={split: partial(read_split, definition, root, split) for split in definition.splits},
        ood=tuple(OODSet(entry.name, entry.group, partial(read, entry.name, entry.pictures)) for entry in definition.ood),
        augmentations=definition.augmentations,
        note=definition.note,
        validation=tuple(OODSet(entry.name, entry.group, partial(read, entry.name, entry.pictures), entry.shares) for entry in definition.validation),
    )


def read_split(definition: Definition, root: Path, split: str) -> Files | Images:
    """ID pictures with their classes; a split of several pieces is one list of files.

    Raises:
        InputError: where there is nothing, or a label is no class of the suite.
    """
    pieces = []
    for pictures in definition.splits[split]:
        pieces.append(_labelled(definition, root, split, chosen(pictures, root, labelled=True)))
        _count(definition, split, len(pieces[-1]), pictures)
    return pieces[0] if len(pieces) == 1 else joined(split, [piece for piece in pieces if isinstance(piece, Files)], root)


def read_ood(definition: Definition, root: Path, name: str, pictures: Pictures) -> Any:
    """Pictures that are of no class of the suite."""
    found = chosen(pictures, root)
    if found.reader == "noise":
        return NoiseTests(name, found.count or 1, found.size, partial(read_split, definition, root, "test"))
    data = raw(name, found, root, labelled=bool(found.parts))
    _count(definition, name, len(data), pictures)
    if isinstance(data, Images):
        return replace(data, labels=torch.full((len(data),), -1))
    return replace(
        data,
        labels=torch.full((len(data),), -1),
        folders=(),
        parts=spans(data.folders) if found.parts else {},
        part_group=PARTS.get(found.parts, "class"),
    )


def chosen(pictures: Pictures, root: Path, labelled: bool = False) -> Pictures:
    """Where a set is: the first of its places that is there, else the first of all."""
    return next((entry for entry in (pictures, *pictures.others) if there(entry, root, labelled)), pictures)


def there(pictures: Pictures, root: Path, labelled: bool = False) -> bool:
    """Whether the place of a set exists; of ID data in a folder, with a sub-folder at least, since those are its classes."""
    if pictures.reader == "noise":
        return True
    place = root / where(pictures)
    if pictures.reader != "folder":
        return place.exists()
    if not (place.is_dir() and labelled):
        return place.is_dir()
    with os.scandir(place) as entries:
        return any(entry.is_dir() for entry in entries)


def where(pictures: Pictures) -> str:
    """The folder or file of a set, relative to the root."""
    return os.path.join(pictures.root, vision.kept(pictures.place, pictures.split)) if pictures.reader == "torchvision" else pictures.place


def joined(name: str, pieces: Sequence[Files], root: Path) -> Files:
    """Several sets of files as one, in their order."""
    paths = tuple(os.path.join(os.path.relpath(piece.root, root), path) for piece in pieces for path in piece.paths)
    return Files(name, root, paths, torch.cat([piece.labels for piece in pieces]))


def spans(folders: Sequence[str]) -> dict[str, slice]:
    """The run of rows of each folder; a folder's files lie together."""
    starts = [row for row, name in enumerate(folders) if row == 0 or folders[row - 1] != name]
    return {folders[start]: slice(start, end) for start, end in zip(starts, [*starts[1:], len(folders)], strict=True)}


def _count(definition: Definition, name: str, count: int, pictures: Pictures) -> None:
    """Warns where a set has not as many pictures as its suite says, so that no figure of it is taken for one of the suite."""
    if pictures.count is not None and count != pictures.count:
        warnings.warn(
            f"{name} of {definition.name} has {count:,} pictures and is to have {pictures.count:,}, so figures are not those of the suite. "
            "`farfield data verify` says what is missing.",
            FarfieldWarning,
            stacklevel=3,
        )


def _labelled(definition: Definition, root: Path, split: str, pictures: Pictures) -> Files | Images:
    data = raw(split, pictures, root, labelled=True)
    classes = lists.count(definition.classes)
    if isinstance(data, Images):
        return data
    if pictures.reader == "folder" and not data.folders:
        raise InputError(
            f"{data.root} has no sub-folders, which are the classes of {split} of {definition.name}. Sort its pictures into a folder a class, or give a list."
        )
    known = lists.folders(definition.classes)
    if known is not None and (strange := [name for name in data.folders if name not in known]):
        words = dict(zip(lists.names(definition.classes), range(classes), strict=True))
        if not all(name in words for name in data.folders):
            raise InputError(f"The folder {strange[0]!r} of {data.root} is no class of {definition.name}{nearest(strange[0], known)}")
        known = words
    return with_classes(data, classes, class_map=known)


def raw(name: str, pictures: Pictures, root: Path, labelled: bool) -> Files | Images:
    """The pictures of a set in one of its places, with the labels or the folders that it has itself."""
    place = root / pictures.place
    if pictures.reader == "torchvision":
        return vision.images(name, pictures.place, pictures.split, root / pictures.root)
    is_folder = pictures.reader == "folder"
    data = folder(place, name=name, labelled=labelled) if is_folder else image_list(place, root=root / pictures.root, name=name)
    if pictures.pick is None or len(data) <= pictures.pick:
        return data
    return data.only(hashed(torch.arange(len(data)), 0).argsort()[: pictures.pick].sort().values.tolist())


# --- noise --------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NoiseTests:
    """The 17 unit tests of `farfield.data.noise` as a data set; each picture is drawn when it is asked for.

    Args:
        name: what tables call it.
        each: pictures of each family.
        size: height and width.
        permuted: gives the pictures that two families permute the pixels of, brought to `size`.
        seed: of all randomness.
    """

    part_group: ClassVar[str] = "unit-test"
    name: str
    each: int
    size: tuple[int, int]
    permuted: Callable[[], Any]
    seed: int = 0
    _source: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return self.each * len(noise.FAMILIES)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        family, row = noise.FAMILIES[index // self.each], index % self.each
        picture = self._picture(row) if family in noise.PERMUTE else None
        return as_pil(noise.one(family, row, self.size, seed=self.seed, picture=picture)), -1

    def _picture(self, row: int) -> torch.Tensor:
        if not self._source:
            self._source.append(self.permuted())
        source = self._source[0]
        height, width = self.size
        small = as_pil(source[row % len(source)][0]).resize((width, height), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)

    @property
    def parts(self) -> dict[str, slice]:
        """The rows of each family."""
        return {family: slice(i * self.each, (i + 1) * self.each) for i, family in enumerate(noise.FAMILIES)}

    def name_of(self, index: int) -> str:
        """A picture, for people."""
        return f"{self.name}/{noise.FAMILIES[index // self.each]}[{index % self.each}]"

    def fingerprint(self) -> str:
        """What decides the pictures, and those whose pixels are permuted."""
        source = self.permuted()
        return f"noise {self.each} {self.size} {self.seed} {source.fingerprint()}"

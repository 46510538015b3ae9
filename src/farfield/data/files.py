"""Pictures in files as a data set, and the pictures of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from farfield.data.images import kept_parts
from farfield.data.pictures import EXTENSIONS, read_picture
from farfield.errors import InputError


@dataclass(frozen=True, eq=False)
class Files:
    """Picture files with labels, as a map-style data set of `(PIL picture, label)`.

    Args:
        name: what tables call it.
        root: the folder the paths are relative to.
        paths: of the files, in the order of the samples.
        labels: `(n,)`, class indices; -1 where there is none.
        folders: `(n,)` names of the class folders, before they have an order; empty where the labels are given.
        parts: named runs of rows that are also reported alone, such as the classes of an OOD set.
        part_group: the group of their rows: `class`, or `unit-test`.
    """

    name: str
    root: Path
    paths: tuple[str, ...]
    labels: Int64[Tensor, " n"]
    folders: tuple[str, ...] = ()
    parts: Mapping[str, slice] = field(default_factory=dict)
    part_group: str = "class"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return read_picture(self.root / self.paths[index]), int(self.labels[index])

    def name_of(self, index: int) -> str:
        """The path of a sample, for people."""
        return str(self.root / self.paths[index])

    def fingerprint(self) -> str:
        """A hash of every path, size and label, and of the beginnings of sixteen files."""
        digest = hashlib.blake2b(digest_size=16)
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            try:
                size = os.path.getsize(self.root / path)
            except OSError:
                size = -1
            digest.update(os.fsencode(f"{path}\0{size}\0{label}\0"))
        for index in sorted({round(i * (len(self) - 1) / 15) for i in range(16)}):
            with contextlib.suppress(OSError), (self.root / self.paths[index]).open("rb") as file:
                digest.update(file.read(1 << 16))
        return digest.hexdigest()

    def only(self, rows: Sequence[int]) -> Files:
        """Some of the files. Those of a part stay a part where the rows are in order."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        folders = tuple(self.folders[row] for row in rows) if self.folders else ()
        return replace(
            self, paths=tuple(self.paths[row] for row in rows), labels=self.labels[chosen], folders=folders, parts=kept_parts(self.parts, chosen)
        )


def _leads_back(root: Path, where: str, name: str) -> bool:
    """Whether a folder is a link to one that it is in."""
    path = os.path.join(where, name)
    if not os.path.islink(path):
        return False
    inside = [root, *(root.joinpath(*Path(path).relative_to(root).parts[:depth]) for depth in range(1, len(Path(path).relative_to(root).parts)))]
    return os.path.realpath(path) in {os.path.realpath(folder) for folder in inside}


def is_picture(file: str) -> bool:
    """Whether a file's name ends as a picture's does."""
    return os.path.splitext(file)[1].lower() in EXTENSIONS


def folder(path: str | Path, *, name: str | None = None, labelled: bool = False) -> Files:
    """The pictures of a folder and its sub-folders, in the order of their names; hidden ones and other files are passed over.

    Args:
        path: the folder.
        name: what tables call it; the folder's name by default.
        labelled: whether its sub-folders are classes. `with_classes` then gives them their order.

    Raises:
        InputError: when there is no such folder or no picture in it; with `labelled`, when pictures lie beside the class folders.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"There is no folder {root}." if not root.exists() else f"{root} is not a folder.")
    found, others = [], 0
    for where, inside, names in os.walk(root, followlinks=True):
        inside[:] = sorted(name for name in inside if not name.startswith(".") and not _leads_back(root, where, name))
        for file in names:
            if file.startswith("."):
                continue
            if is_picture(file):
                found.append(os.path.relpath(os.path.join(where, file), root))
            else:
                others += 1
    if not found:
        kinds = f" among its {others} files" if others else ""
        raise InputError(f"The folder {root} has no images{kinds}. Files that end in .jpg, .png, .webp, .tif, .bmp, .gif and the like are images.")
    found.sort(key=lambda file: PurePosixPath(file).parts)
    folders: tuple[str, ...] = ()
    if labelled:
        tops = [PurePosixPath(file).parts for file in found]
        beside = [file for file, parts in zip(found, tops, strict=True) if len(parts) == 1]
        if beside and len(beside) < len(found):
            raise InputError(f"{root} has images beside its class folders, such as {beside[0]!r}. Move them into the folder of their class.")
        folders = () if beside else tuple(parts[0] for parts in tops)
    return Files(name or root.resolve().name, root, tuple(found), torch.full((len(found),), -1), folders)

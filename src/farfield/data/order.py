"""Which class index each folder of pictures has."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from farfield.data.files import Files
from farfield.data.hub import Hub
from farfield.errors import FarfieldWarning, InputError, nearest

Named = TypeVar("Named", Files, Hub)


def with_classes(files: Named, classes: int, labels: Sequence[str] | None = None, class_map: Mapping[str, int] | None = None) -> Named:
    """The files with a class index for each, from the names of their folders, or checked where they have one already.

    The order is, by the first that applies: `class_map`; the model's own `labels`, where all folders are among them; the order of
    the WordNet ids, for 1,000 classes; the numbers a Hugging Face data set gives its classes; the numbers, where all folders are numbers;
    the order of the names, where there are as many as classes.

    Args:
        files: from `folder(..., labelled=True)`, an image list, or a Hugging Face data set.
        classes: how many the model has.
        labels: the model's own names of its classes.
        class_map: the class index of each folder name.

    Raises:
        InputError: when folders have no class, when the order contradicts the model's own labels, or when there is one class only.
    """
    if not files.folders:
        return _checked(files, classes)
    names = sorted(set(files.folders))
    if len(names) == 1 and classes > 1:
        raise InputError(
            f"{files.root} has one class only, {names[0]!r}, and the model has {classes}. Give the folder that has a sub-folder for each class."
        )
    own = dict(zip(files.folders, files.labels.tolist(), strict=True)) if isinstance(files, Hub) else None
    order = _order(names, classes, labels, class_map, str(files.root), own)
    for name, index in order.items():
        if not 0 <= index < classes:
            raise InputError(f"Class {name!r} of {files.root} has the index {index}, and the model's classes are 0 to {classes - 1}.")
    return replace(files, labels=torch.tensor([order[name] for name in files.folders]))


def _checked(files: Named, classes: int) -> Named:
    """The same, or an error that names a label outside the model's classes."""
    wrong = ((files.labels >= classes) | (files.labels < -1)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{files.name_of(row)} of {files.name} has label {int(files.labels[row])}, and the model's classes are 0 to {classes - 1}.")
    return files


def _order(
    names: Sequence[str],
    classes: int,
    labels: Sequence[str] | None,
    class_map: Mapping[str, int] | None,
    where: str,
    numbers: Mapping[str, int] | None,
) -> dict[str, int]:
    """The index of each class folder; `numbers` are those the data set gives its classes, where it does."""
    own: dict[str, int] = {}
    for index, label in enumerate(labels or ()):
        own[_plain(label)] = -1 if _plain(label) in own else index  # two classes of one name cannot be told apart
    known = {name: own[_plain(name)] for name in names if own.get(_plain(name), -1) >= 0}
    if class_map is not None:
        for name in names:
            if name not in class_map:
                raise InputError(f"The class map has no class {name!r}, which is a folder of {where}{nearest(name, class_map)}")
        for name, index in known.items():
            if class_map[name] != index:
                raise InputError(
                    f"The class map has {name!r} as class {class_map[name]}, and the model's own labels have it as class {index}: "
                    "the classes are in another order. Mend the map, or leave it out."
                )
        return {name: class_map[name] for name in names}
    if len(known) == len(names) and len(set(known.values())) == len(names):
        return known
    if len(known) == len(names):
        raise InputError(
            f"Two class folders of {where} have the name of one class, but for capitals or blanks. Say which class each is with --class-map."
        )
    if twice := next((name for name in names if own.get(_plain(name)) == -1), None):
        raise InputError(f"The model has two classes called {twice!r}, a folder of {where}. Say which class each is with --class-map.")
    if known:
        unknown = next(name for name in names if name not in known)
        raise InputError(
            f"The folder {unknown!r} of {where} is none of the model's own labels{nearest(unknown, labels or ())} "
            f"{len(known)} of {len(names)} folders are. Say which class each is with --class-map."
        )
    if classes == 1000 and (wnids := _wordnet(names)) is not None:
        return wnids
    if numbers is not None:
        _warn_of_other_names(names, labels, where, "they keep the numbers the data set gives them")
        return dict(numbers)
    if all(re.fullmatch(r"[0-9]{1,9}", name) for name in names) and len({int(name) for name in names}) == len(names):
        return {name: int(name) for name in names}
    if len(names) != classes:
        raise InputError(
            f"{where} has {len(names)} class folders and the model has {classes} classes, so their order is not known. "
            "Say which class each is with --class-map."
        )
    _warn_of_other_names(names, labels, where, "they are taken in the order of their names")
    return {name: index for index, name in enumerate(names)}


def _warn_of_other_names(names: Sequence[str], labels: Sequence[str] | None, where: str, taken: str) -> None:
    if labels:
        warnings.warn(
            f"The classes of {where} ({names[0]!r}, ...) have other names than the model's own labels ({labels[0]!r}, ...); {taken}. "
            "If that is wrong, say which class each is with --class-map.",
            FarfieldWarning,
            stacklevel=5,
        )


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _wordnet(names: Sequence[str]) -> dict[str, int] | None:
    """ImageNet-1k's classes by WordNet id, where all names are such."""
    if not all(re.fullmatch(r"n[0-9]{8}", name) for name in names):
        return None
    from timm.data.imagenet_info import ImageNetInfo

    order = {wnid: index for index, wnid in enumerate(ImageNetInfo().label_names())}
    return {name: order[name] for name in names} if all(name in order for name in names) else None


def read_class_map(path: str | Path) -> dict[str, int]:
    """The class index of each folder name, from a file.

    JSON (`{"cat": 0, ...}`, or a list of names in order), or text: a name a line in the order of the model's classes, or `name,index`.

    Raises:
        InputError: when the file cannot be read, a name comes twice, or an index is no whole number.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
        if Path(path).suffix.lower() == ".json":
            value = json.loads(text, object_pairs_hook=tuple)  # pairs, so that a name that comes twice is seen
            if not isinstance(value, tuple | list):
                raise TypeError("it is neither an object nor a list")
            pairs = list(value) if isinstance(value, tuple) else [(name, index) for index, name in enumerate(value)]
        else:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            numbered = [re.fullmatch(r"(.*?)\s*[,\t]\s*(-?[0-9]+)", line) for line in lines]
            whole = all(numbered) and bool(lines)
            pairs = [(m[1], int(m[2])) for m in numbered if m] if whole else [(line, index) for index, line in enumerate(lines)]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"The class map {path} cannot be read: {error}.") from error
    found: dict[str, int] = {}
    for name, index in pairs:
        if not isinstance(name, str) or type(index) is not int or name in found:
            raise InputError(f"The class map {path} must give each folder name one whole number; look at {name!r}: {index!r}.")
        found[name] = index
    if not found:
        raise InputError(f"The class map {path} is empty.")
    return found

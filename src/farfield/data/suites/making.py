"""A definition from folders and lists of one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from farfield.data.files import Files, folder
from farfield.data.images import Group
from farfield.data.lists import image_list
from farfield.data.order import with_classes
from farfield.data.suites.definition import OOD, Definition, Pictures, parse
from farfield.data.suites.reading import read_split
from farfield.data.suites.writing import to_toml
from farfield.errors import InputError


def new(
    name: str,
    splits: Mapping[str, Path],
    ood: Mapping[str, tuple[Group, Path]],
    validation: Mapping[str, Path],
    file: Path,
    *,
    title: str = "",
    note: str = "",
    preprocess: str | None = None,
) -> Definition:
    """The definition of a suite of one's own, its counts filled in.

    Args:
        name: of the suite.
        splits: where `train`, `calibration` and `test` are: a folder with a sub-folder a class, or an image list beside its pictures.
        ood: where each OOD set is, and its group.
        validation: where OOD sets to choose options on are.
        file: the TOML file that it is for: paths are relative to the folder that all data are in, and that to the file where it can be.
        title: one line.
        note: one sentence for reports.
        preprocess: as `--preprocess`.

    Raises:
        InputError: where something is not there, or the classes of the splits do not fit together.
    """
    places = [*splits.values(), *(place for _, place in ood.values()), *validation.values()]
    root = Path(os.path.commonpath([str(place.resolve().parent) for place in places]))
    first = next(split for split in ("train", "test") if split in splits)
    classes = _classes(splits[first])
    sets = {entry: OOD(entry, group, _pictures(place, root, labelled=False)) for entry, (group, place) in ood.items()}
    made = Definition(
        name,
        title or name,
        classes,
        {split: (_pictures(place, root, labelled=True),) for split, place in splits.items()},
        tuple(sets[entry] for group in ("near", "far", "shifted") for entry in sets if sets[entry].group == group),
        tuple(OOD(entry, "near", _pictures(place, root, labelled=False)) for entry, place in validation.items()),
        note=note,
        preprocess=preprocess,
        root=_from(root, file.resolve().parent),
    )
    parse(_table(made), name)
    for split in splits:
        read_split(made, root, split)
    return made


def _table(made: Definition) -> dict[str, object]:
    import tomllib

    return tomllib.loads(to_toml(made))


def _from(root: Path, here: Path) -> str:
    """The root as its file has it: relative where it is inside the file's folder, so that both can be moved."""
    return os.path.relpath(root, here) if root.is_relative_to(here) else str(root)


def _classes(place: Path) -> tuple[str, ...] | int:
    """The classes of a split, in label order: of its folders, or as many as its labels say."""
    files = _files(place, labelled=True)
    if not files.folders:
        largest = int(files.labels.max())
        if largest < 1:
            raise InputError(f"{place} has no classes: give a folder with a sub-folder for each, or a list with a label for each picture.")
        return largest + 1
    names = sorted(set(files.folders))
    if len(names) < 2:
        raise InputError(f"{place} has one class only, {names[0]!r}. Give the folder that has a sub-folder for each class.")
    ordered = with_classes(files, len(names))
    label = dict(zip(ordered.folders, ordered.labels.tolist(), strict=True))
    return tuple(sorted(names, key=lambda folder: label[folder]))


def _files(place: Path, labelled: bool) -> Files:
    return folder(place, labelled=labelled) if place.is_dir() else image_list(place)


def _pictures(place: Path, root: Path, labelled: bool) -> Pictures:
    if not place.exists():
        raise InputError(f"There is no folder or list {str(place)!r}.")
    count = len(_files(place, labelled))
    inside = str(place.resolve().relative_to(root))
    if inside.encode("utf-8", "ignore").decode() != inside:
        raise InputError(f"The path {inside!r} is not UTF-8, and a suite is written in that. Give the folder another name.")
    made = Pictures("folder" if place.is_dir() else "list", inside, count=count)
    return made if place.is_dir() else replace(made, root=str(Path(inside).parent))

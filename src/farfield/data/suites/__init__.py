"""Suites by name or from a TOML file: what they are, and their data under a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from farfield.data import glyphs
from farfield.data.images import Suite
from farfield.data.suites.definition import Definition, parse, read, resolved, table_of
from farfield.data.suites.reading import suite_of
from farfield.errors import InputError, nearest

SUITES: dict[str, Callable[[], Suite]] = {f"glyphs-{classes}": partial(glyphs.suite, classes) for classes in glyphs.SIZES}
"""Those that are drawn on the spot and need no data."""
_FILES = resources.files("farfield.data.suites").joinpath("published")
PUBLISHED: tuple[str, ...] = tuple(sorted(entry.name.removesuffix(".toml") for entry in _FILES.iterdir() if entry.name.endswith(".toml")))
"""Those whose data are to be obtained; see `definition`."""
NAMES: tuple[str, ...] = (*SUITES, *PUBLISHED)
VARIABLE = "FARFIELD_DATA"


def load(name: str, root: str | Path | None = None) -> Suite:
    """The suite of that name, or of a `.toml` file. Its data are read when a set is asked for.

    Args:
        name: one of `NAMES`, or the path of a file.
        root: the folder of its data; see `place`. Suites that are drawn need none.

    Raises:
        InputError: when there is none.

    >>> load("glyphs-1000").name
    'glyphs-1000'
    >>> load("mos-imagenet", "somewhere").ood[0].name
    'iNaturalist'
    """
    if name in SUITES:
        return SUITES[name]()
    found = definition(name)
    return suite_of(found, place(found, root))


def definition(name: str) -> Definition:
    """What a published suite, or that of a `.toml` file, consists of.

    Raises:
        InputError: when there is none, or it is drawn and not made of data.

    >>> definition("ninco").fpr
    'id'
    """
    if name.endswith(".toml"):
        return read(Path(name), _published)
    if name in PUBLISHED:
        return parse(_published(name), name, _published)
    if name in SUITES:
        raise InputError(f"{name} is drawn on the spot; it has no definition, and needs no data.")
    raise InputError(f"There is no suite {name!r}{nearest(name, NAMES)} There are: {', '.join(NAMES)}, and your own in a .toml file.")


def is_suite(name: str) -> bool:
    """Whether a text names a suite, or a file that may be one."""
    return name in NAMES or name.endswith(".toml")


def place(found: Definition, root: str | Path | None = None) -> Path:
    """Where a suite's data lie: `root` if given, else where its file says, else `$FARFIELD_DATA`, else `data`."""
    return Path(root if root is not None else found.root or os.environ.get(VARIABLE) or "data")


def _published(name: str) -> Mapping[str, Any]:
    """The table of a published suite, with what it is like."""
    if name not in PUBLISHED:
        raise InputError(f"There is no published suite {name!r} to be like{nearest(name, PUBLISHED)} There are: {', '.join(PUBLISHED)}.")
    with resources.as_file(_FILES.joinpath(f"{name}.toml")) as path:
        return resolved(table_of(path), name, _published)

"""Suites by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from farfield.data import glyphs
from farfield.data.images import Suite
from farfield.errors import InputError, nearest

SUITES: dict[str, Callable[[], Suite]] = {f"glyphs-{classes}": partial(glyphs.suite, classes) for classes in glyphs.SIZES}


def load(name: str) -> Suite:
    """The suite of that name.

    Raises:
        InputError: when there is none.

    >>> load("glyphs-1000").name
    'glyphs-1000'
    """
    if name not in SUITES:
        raise InputError(f"There is no suite {name!r}{nearest(name, SUITES)} There are: {', '.join(SUITES)}.")
    return SUITES[name]()

"""Suites by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from farfield.data import glyphs
from farfield.data.images import Suite
from farfield.errors import InputError

SUITES: dict[str, Callable[[], Suite]] = {f"glyphs-{classes}": partial(glyphs.suite, classes) for classes in glyphs.SIZES}


def load(name: str) -> Suite:
    """The suite of that name.

    Raises:
        InputError: when there is none.

    >>> load("glyphs-1000").name
    'glyphs-1000'
    """
    if name not in SUITES:
        near = difflib.get_close_matches(name, SUITES, 1)
        raise InputError(f"There is no suite {name!r}{f'; did you mean {near[0]!r}?' if near else '.'} There are: {', '.join(SUITES)}.")
    return SUITES[name]()

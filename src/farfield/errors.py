"""The error that input causes, its special case for options, the one warning, and how a message names the nearest of what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something given to Farfield is wrong: the message says what, where, the value, and what to do.

    The command line prints the message as one line and exits with status 2.
    """


class OptionError(InputError):
    """An option's value breaks its rule, whatever the data."""


class FarfieldWarning(UserWarning):
    """A result stands, but on less than was asked for: the message says on what, and what to do."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about a name that is not there.

    >>> nearest("enrgy", ["energy", "knn"]), nearest("x", ["energy"])
    ("; did you mean 'energy'?", '.')
    """
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]!r}?" if near else "."

"""The checks, in the order in which they are told; a file for each family."""

from __future__ import annotations

from farfield.diagnose.base import Check
from farfield.errors import InputError, nearest

EVERY: tuple[Check, ...] = ()
CHECKS = {check.code: check for check in EVERY}


def chosen(ignore: tuple[str, ...]) -> None:
    """Raises for a code that is none."""
    for code in ignore:
        if code not in CHECKS:
            raise InputError(f"There is no check {code!r}{nearest(code, CHECKS)} There are: {', '.join(CHECKS)}.")

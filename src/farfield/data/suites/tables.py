"""Values of a TOML table, each of the kind that is asked for, or an error that says where."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from farfield.errors import InputError, nearest


def known(given: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raises where a table has a key that is none of these."""
    for key in given:
        if key not in keys:
            raise InputError(f"{where} has an unknown key {key!r}{nearest(key, keys)} Known: {', '.join(keys)}.")


def typed(given: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    """A value of this type."""
    if type(given.get(key)) is not kind:
        kinds = {str: "a text", int: "a whole number", bool: "true or false"}
        raise InputError(f"{where}: {key!r} takes {kinds[kind]}; got {given.get(key)!r:.60}.")
    return given[key]


def text(given: Mapping[str, Any], key: str, where: str) -> str:
    """A text."""
    return cast(str, typed(given, key, str, where))


def texts(given: Mapping[str, Any], key: str, where: str) -> list[str]:
    """A list of texts; none where there is no such key."""
    value = given.get(key, [])
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise InputError(f"{where}: {key!r} takes a list of texts; got {value!r:.60}.")
    return value


def numbers(value: Any, where: str) -> list[int]:
    """A list of whole numbers."""
    if not isinstance(value, list) or not all(type(part) is int for part in value):
        raise InputError(f"{where} takes a list of whole numbers; got {value!r:.60}.")
    return value


def table(given: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """A table; an empty one where there is no such key."""
    return is_table(given.get(key, {}), f"{where}: {key}")


def is_table(value: Any, where: str) -> Mapping[str, Any]:
    """A value that is a table."""
    if not isinstance(value, dict):
        raise InputError(f"{where} is a table; got {value!r:.60}.")
    return value


def inside(given: Mapping[str, Any], key: str, where: str) -> str:
    """A path that stays inside the root."""
    path = text(given, key, where)
    plain = os.path.normpath(path)
    if os.path.isabs(plain) or plain.split(os.sep)[0] == ".." or "\0" in path:
        raise InputError(f"{where}: {key} leads out of the suite's root: {path!r}.")
    return path

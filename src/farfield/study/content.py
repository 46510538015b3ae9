"""What the page of a study shows, as one plain value."""

from __future__ import annotations

from typing import Any

from farfield.study.texts import Value


def content(value: Value) -> dict[str, Any]:
    """A study without the rows of parts of sets, which the page has no room for."""
    return {name: told for name, told in value.items() if name != "rows"}

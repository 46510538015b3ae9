"""The page of an experiment: one HTML file."""

from __future__ import annotations

from pathlib import Path

from farfield.report.render import put_text
from farfield.reproduce.tables import Value, markdown, to_json


def write(value: Value, folder: str | Path) -> Path:
    """Writes NAME.json, NAME.md and NAME.html into a folder; returns the page's path."""
    folder, name = Path(folder), value["experiment"]
    put_text(folder / f"{name}.json", to_json(value) + "\n")
    return put_text(folder / f"{name}.md", markdown(value))

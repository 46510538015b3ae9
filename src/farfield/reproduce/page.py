"""What an experiment came to, as files: JSON, Markdown, and one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farfield.report.page import assembled
from farfield.report.render import put_text
from farfield.reproduce.tables import markdown, title, to_json
from farfield.reproduce.texts import Value, differs, parts


def write(value: Value, folder: str | Path) -> Path:
    """Writes NAME.json, NAME.md and NAME.html into a folder; returns the page's path.

    Args:
        value: of `value_of`.
        folder: that is there.
    """
    folder, name = Path(folder), value["experiment"]
    put_text(folder / f"{name}.json", to_json(value) + "\n")
    put_text(folder / f"{name}.md", markdown(value))
    return put_text(folder / f"{name}.html", assembled(content(value), "experiment"))


def content(value: Value) -> dict[str, Any]:
    """What the page shows: texts, tables of texts with the numbers they sort by, and the plot's points."""
    return {
        "title": title(value),
        "paper": value["paper"],
        "what": value["what"],
        "tables": [_table(one) for one in value["tables"]],
        "papers": [_table(one) for one in value["papers"]],
        "plot": value["plot"],
        "claims": [[one["claim"], differs(one["paper"]), differs(one["difference"], one["interval"]), one["holds"]] for one in value["claims"]],
        "notes": value["notes"],
        "command": value["command"],
        "facts": _facts(value),
    }


def _table(one: Value) -> dict[str, Any]:
    rows = []
    for row in one["rows"]:
        cells = []
        for cell, column in zip(row["cells"], one["columns"], strict=True):
            figure, around, paper = parts(cell, column["digits"])
            cells.append({"figure": figure, "around": around, "paper": paper, "by": _by(cell)})
        rows.append({"of": row["of"], "cells": cells})
    return {"title": one["title"], "keys": one["keys"], "columns": [column["label"] for column in one["columns"]], "rows": rows}


def _by(cell: Value | None) -> float | None:
    """What a cell is sorted by: the paper's figure where there is none of ours."""
    found = None if cell is None else cell["paper"] if cell["value"] is None else cell["value"]
    return None if found is None else float(found)


def _facts(value: Value) -> Sequence[Sequence[str]]:
    """Of what all this is, and by which versions."""
    told = {"scale": value["scale"], "seeds": ", ".join(map(str, value["seeds"]))}
    if value["scale"] != "glyphs":
        told["suite"] = value["suite"]
    return [[name, str(text)] for name, text in {**told, **value["settings"], **value["environment"]}.items()]

"""The tidy table and what a study came to, as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farfield.errors import InputError
from farfield.files import put
from farfield.report.page import assembled
from farfield.report.render import put_text
from farfield.study.content import content
from farfield.study.figures import Table
from farfield.study.markdown import markdown

NO_PARQUET = "study.parquet needs the package pyarrow: pip install 'farfield[study]'."


def write(value: Mapping[str, Any], folder: str | Path) -> tuple[list[Path], str]:
    """Writes `study.json`, `study.md`, `study.csv`, `study.html`, and `study.parquet` where pyarrow is there, into a folder.

    Returns:
        Their paths, the page's last, and how to get what is not there; empty where all is.

    Raises:
        InputError: when one cannot be written.
    """
    folder = Path(folder)
    paths = [
        put_text(folder / "study.csv", to_csv(value["rows"])),
        put_text(folder / "study.json", to_json(value) + "\n"),
        put_text(folder / "study.md", markdown(value)),
    ]
    lacking = ""
    try:
        paths.insert(1, to_parquet(value["rows"], folder / "study.parquet"))
    except ImportError:
        lacking = NO_PARQUET
    return [*paths, put_text(folder / "study.html", assembled(content(value), "study"))], lacking


def to_json(value: Mapping[str, Any]) -> str:
    """A study as `study.json` has it."""
    return json.dumps(value, indent=1, allow_nan=False)


def to_csv(rows: Table) -> str:
    """The tidy table as CSV; what is not known is an empty cell.

    >>> to_csv([{"a": 1.5, "b": None}, {"a": 2, "b": "x,y"}])
    'a,b\\n1.5,\\n2,"x,y"\\n'
    """
    made = io.StringIO()
    writer = csv.DictWriter(made, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def to_parquet(rows: Table, path: Path) -> Path:
    """The tidy table as Parquet; a column of numbers and texts is one of texts.

    Raises:
        ImportError: without pyarrow.
        InputError: when it cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: _column([row[name] for row in rows]) for name in rows[0]})
    try:
        put(path, lambda partial: pyarrow.parquet.write_table(table, partial))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. Make room, and run the same command again.") from error
    return path


def _column(values: list[Any]) -> Any:
    import pyarrow

    known = [value for value in values if value is not None]
    if all(isinstance(value, int) for value in known) and known:
        return pyarrow.array(values, pyarrow.int64())
    if all(isinstance(value, int | float) for value in known) and known:
        return pyarrow.array(values, pyarrow.float64())
    return pyarrow.array([None if value is None else _utf8(value) for value in values], pyarrow.string())


def _utf8(value: Any) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()

"""Lists of picture files, in the four forms in use."""

from __future__ import annotations

import ast
import csv
import io
import os
import re
from pathlib import Path

import torch

from farfield.data.files import Files, is_picture
from farfield.errors import InputError


def image_list(path: str | Path, *, root: str | Path | None = None, name: str | None = None) -> Files:
    """The pictures that a list names, one a line, in any of the four forms in use.

    - `relative/path label`: split from the right, so paths may have blanks; the label may be left out (-1).
    - `relative/path group index`: MOS's group lists. The class is not said, so the label is -1.
    - `relative/path {"group_label": 0, "class_label": 1}`: OpenOOD's lists; `class_label` is the label.
    - CSV with a header that has `image_location`, `path`, `image` or `file`, and perhaps `class` or `label`.

    Args:
        path: the list.
        root: the folder its paths are relative to; the list's own by default.
        name: what tables call it; the list's name by default.

    Raises:
        InputError: with the line, for what is none of these, and for a path that leads out of the root.
    """
    path = Path(path)
    base = Path(root) if root is not None else path.parent
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"The image list {path} cannot be read: {error}.") from error
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _text_rows(path, text)
    if not rows:
        raise InputError(f"The image list {path} is empty.")
    if not base.is_dir():
        raise InputError(f"There is no folder {base}, which the paths of {path} are relative to. Give it as the root.")
    for number, file, _ in rows:
        inside = os.path.normpath(file)
        if os.path.isabs(inside) and root is None:
            continue
        if os.path.isabs(inside) or inside.split(os.sep)[0] == "..":
            raise InputError(f"Line {number} of {path} leads out of {base}: {file!r}.")
    numbers = [label for _, _, label in rows if isinstance(label, int)]
    named = [label for _, _, label in rows if isinstance(label, str)]
    if named and -1 in numbers:
        number = next(number for number, _, label in rows if label == -1)
        raise InputError(f"Line {number} of {path} has no label, and others have, such as {named[0]!r}.")
    if numbers and named:
        raise InputError(f"The image list {path} has both numbers and names as labels, such as {numbers[0]} and {named[0]!r}. Use one kind.")
    labels = torch.tensor(numbers) if numbers else torch.full((len(rows),), -1)
    return Files(name or path.stem, base, tuple(file for _, file, _ in rows), labels, tuple(named))


def _text_rows(path: Path, text: str) -> list[tuple[int, str, int | str]]:
    """Line number, file and label of each line of a list without a header."""
    rows: list[tuple[int, str, int | str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line:
            continue
        if literal := re.fullmatch(r"(.*\S)\s+(\{.*\})", line):
            rows.append((number, literal[1], _class_label(path, number, literal[2])))
            continue
        file = line
        numbers: list[int] = []
        while len(numbers) < 2 and (match := re.fullmatch(r"(.*\S)\s+(-?[0-9]{1,9})", file)) and not (numbers and is_picture(file)):
            file, numbers = match[1], [int(match[2]), *numbers]
        if not is_picture(file):
            raise InputError(f"Line {number} of {path} is no `path label`: {line[:80]!r}.")
        rows.append((number, file, numbers[0] if len(numbers) == 1 else -1))
    return rows


def _class_label(path: Path, number: int, literal: str) -> int:
    try:
        value = ast.literal_eval(literal)
        label = value["class_label"]
        if type(label) is not int or abs(label) > 10**9:
            raise TypeError
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise InputError(f"Line {number} of {path} has no whole `class_label` in {literal[:80]!r}.") from error
    return label


def _csv_rows(path: Path, text: str) -> list[tuple[int, str, int | str]]:
    """Line number, file and label of each line of a CSV with a header."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [column.strip() for column in next(reader, [])]
        place = next((header.index(c) for c in ("image_location", "path", "image", "file") if c in header), None)
        label = next((header.index(c) for c in ("class", "label") if c in header), None)
        if place is None:
            raise InputError(f"The list {path} has no column image_location, path, image or file; its header is {header[:6]}.")
        rows: list[tuple[int, str, int | str]] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"Line {reader.line_num} of {path} has {len(row)} fields, and the header {len(header)}.")
            value = "" if label is None else row[label].strip()
            kept: int | str = -1 if not value else int(value) if re.fullmatch(r"-?[0-9]{1,9}", value) else value
            rows.append((reader.line_num, row[place], kept))
    except csv.Error as error:
        raise InputError(f"The list {path} is no CSV: {error}.") from error
    return rows

"""A study as Markdown."""

from __future__ import annotations

from farfield.report.render import escape
from farfield.study.texts import Value, tables


def markdown(value: Value) -> str:
    """The answer, every table, and the notes."""
    lines = [f"# Farfield study: {len(value['classifiers'])} classifiers on {escape(value['suite'])}", ""]
    if value["answer"] is not None:
        lines += [f"**{escape(value['answer']['sentence'])}**", ""]
    for table in tables(value):
        lines += [f"## {escape(table.title)}", "", _line(table.heads), "|" + " --- |" * len(table.heads), *(_line(row) for row in table.rows), ""]
    said = [*value["notes"], *value["without_pairs"]]
    said.append("`study.csv` has every figure, `study.json` every test, correlation and effect as well.")
    lines += [f"- {escape(note)}" for note in said[:-1]] + [f"- {said[-1]}", ""]
    return "\n".join(lines + ([f"    {value['command']}", ""] if value["command"] else []))


def _line(cells: object) -> str:
    assert isinstance(cells, list | tuple)
    return "| " + " | ".join(escape(str(cell)) for cell in cells) + " |"

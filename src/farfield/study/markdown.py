"""A study as Markdown."""

from __future__ import annotations

from farfield.report.render import escape
from farfield.study.texts import Value, beside, tables


def markdown(value: Value) -> str:
    """The answer, every table, and the notes."""
    lines = [f"# Farfield study: {len(value['classifiers'])} classifiers on {escape(value['suite'])}", ""]
    if value["answer"] is not None:
        lines += [f"**{escape(value['answer']['sentence'])}**", ""]
    for table in tables(value):
        lines += [f"## {escape(table.title)}", "", _line(table.heads), "|" + " --- |" * len(table.heads), *(_line(row) for row in table.rows), ""]
    lines += [f"- {escape(note)}" for note in beside(value)]
    lines += ["- `study.csv` has every figure, `study.json` every test, correlation and effect as well.", ""]
    return "\n".join(lines + ([f"    {value['command']}", ""] if value["command"] else []))


def _line(cells: object) -> str:
    assert isinstance(cells, list | tuple)
    return "| " + " | ".join(escape(str(cell)) for cell in cells) + " |"

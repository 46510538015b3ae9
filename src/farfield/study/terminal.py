"""A study on the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from farfield.study.texts import Texts, Value, beside, tables

WIDE = 150  # columns from which every figure has room for its interval
NAME = 12  # letters of a name that have room in any case
MOST = 12  # rows of a table on the terminal; the files have all


def shown(value: Value, width: int = 80) -> Group:
    """The answer, the tables for a terminal of some width, and the notes."""
    parts: list[RenderableType] = []
    if value["answer"] is not None:
        parts += [Text(value["answer"]["sentence"], style="bold"), Text("")]
    for table in tables(value, width >= WIDE):
        if width >= WIDE or not table.wide:
            parts += [_table(table), Text("")]
    return Group(*parts, *(Text(note, style="dim") for note in beside(value)))


def _table(one: Texts) -> Table:
    made = Table(title=Text(one.title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, head in enumerate(one.heads):
        longest = max(len(row[place]) for row in one.rows)
        name = place < one.names
        made.add_column(Text(head), justify="left" if name else "right", overflow="fold", min_width=min(longest, NAME) if name else None)
    for row in one.rows[:MOST]:
        made.add_row(*map(Text, row))
    if len(one.rows) > MOST:
        made.add_row(Text(f"and {len(one.rows) - MOST} more", style="dim"))
    return made

"""An experiment's value as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from farfield.reproduce.tables import title
from farfield.reproduce.texts import LAST, Value, differs, said

NAME = 20  # columns of text for a name where there is little room
NARROW = 7  # and for a figure without its interval


def shown(value: Value, width: int = 80) -> Group:
    """Title, tables, the paper's, claims and notes for a terminal of some width; where there is no room for them all, intervals stand at the average alone."""
    parts: list[RenderableType] = [Text(title(value), style="bold"), Text(f"{value['what']} {value['paper']}."), Text("")]
    for one in value["tables"]:
        parts += [_table(one, width), Text("")]
    if value["papers"]:
        parts.append(Text("The paper's own, of other networks and data", style="bold"))
    for one in value["papers"]:
        parts += [_table(one, width), Text("")]
    if value["claims"]:
        parts += [_claims(value["claims"]), Text("")]
    return Group(*parts, *(Text(note, style="dim") for note in value["notes"]))


def _plain_table(heading: str = "") -> Table:
    return Table(title=Text(heading) if heading else None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _table(one: Value, width: int) -> Table:
    """The paper's figures have a line of their own in each cell."""
    labels = [column["label"] for column in one["columns"]]
    most = [max(len(text) for text in (key, *(row["of"][place] for row in one["rows"]))) for place, key in enumerate(one["keys"])]
    room = width + 2 - sum(max(NARROW, *map(len, label.split())) + 2 for label in labels)
    names = most if sum(most) + 2 * len(most) <= room else [min(each, NAME) for each in most]
    if sum(names) + 2 * len(names) > room:
        return _long(one)
    texts = [[_cell(row["cells"][i], column["digits"], True) for row in one["rows"]] for i, column in enumerate(one["columns"])]
    wide = [max(len(label), *(len(line) for cell in cells for line in cell.plain.split("\n"))) for label, cells in zip(labels, texts, strict=True)]
    roomy = sum(names) + sum(wide) + 2 * len(names) + 2 * len(wide) <= width + 2
    made = _plain_table(one["title"])
    for key, each in zip(one["keys"], names, strict=True):
        made.add_column(Text(key), max_width=each)
    for label in labels:
        made.add_column(Text(label), justify="right", no_wrap=roomy)
    before: Sequence[str] = ()
    for row in one["rows"]:
        cells = [_cell(cell, c["digits"], roomy or c["label"] == LAST) for cell, c in zip(row["cells"], one["columns"], strict=True)]
        made.add_row(*_fresh(row["of"], before), *cells)
        before = row["of"]
    return made


def _long(one: Value) -> Table:
    """A line a figure, for a table that is wider than the terminal."""
    made = _plain_table(one["title"])
    for i in range(len(one["keys"]) + 2):
        made.add_column(justify="right" if i > len(one["keys"]) else "left")
    made.show_header = False
    for row in one["rows"]:
        before: Sequence[str] = ()
        for cell, column in zip(row["cells"], one["columns"], strict=True):
            if cell is not None:
                made.add_row(*_fresh([*row["of"], column["label"]], before), _cell(cell, column["digits"], True))
                before = [*row["of"], column["label"]]
    return made


def _fresh(of: Sequence[str], before: Sequence[str]) -> list[Text]:
    """A row's names, without those that stand above it already."""
    again = [bool(before) and list(of[: i + 1]) == list(before[: i + 1]) and i + 1 < len(of) for i in range(len(of))]
    return [Text("" if known else name) for name, known in zip(of, again, strict=True)]


def _cell(cell: Mapping[str, Any] | None, digits: int, with_interval: bool) -> Text:
    if cell is None:
        return Text("")
    mine = said({**cell, "interval": cell["interval"] if with_interval else None}, digits, paper=False)
    paper = "" if cell["paper"] is None else f"paper {cell['paper']:.{digits}f}"
    return Text("\n").join([Text(mine)] * bool(mine) + [Text(paper, style="dim")] * bool(paper))


def _claims(claims: Sequence[Value]) -> Table:
    made = _plain_table("What the paper claims: differences in points, positive where it is as the paper says")
    for heading in ("claim", "paper", "here", "holds"):
        made.add_column(heading, justify="right" if heading in ("paper", "here") else "left")
    for one in claims:
        made.add_row(Text(one["claim"]), differs(one["paper"]), differs(one["difference"], one["interval"]), one["holds"])
    return made

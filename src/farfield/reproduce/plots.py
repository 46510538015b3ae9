"""What a figure's plot shows, as plain points: ours with their intervals, and the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farfield.reproduce.base import Key, Plot
from farfield.reproduce.texts import LAST, Cells, averaged, digits_of, said

ID = "ID"  # where figures of the network itself stand, such as its accuracy


def drawn(plot: Plot, keys: Sequence[str], figures: Mapping[str, str], ours: Cells, paper: Cells) -> dict[str, Any] | None:
    """A plot as plain data: its axes, series and panels, each with points, the paper's among them; `None` where there is no point of ours.

    What is neither on an axis nor a series nor a panel is shown at its average, where it has one.
    """
    mine, theirs = _points(plot, keys, ours), _points(plot, keys, paper)
    if not mine:
        return None
    every = [*mine, *theirs]
    numeric = plot.kind != "bars" and (plot.x in figures or all(number(point["x"]) is not None for point in every))
    digits = digits_of(plot.y, ours, paper)
    for point in every:
        point["text"] = said(point.pop("cell"), digits, paper=False)
        point["x"] = number(point["x"]) if numeric else point["x"]
    if numeric:
        every.sort(key=lambda point: point["x"])
    xs = list(dict.fromkeys(point["x"] for point in every))
    names = list(dict.fromkeys(point["panel"] for point in (*mine, *theirs)))
    return {
        "kind": plot.kind,
        "x": figures.get(plot.x, plot.x),
        "y": figures.get(plot.y, plot.y),
        "numeric": numeric,
        "xs": xs if numeric else averaged(xs),
        "series": averaged(list(dict.fromkeys(point["series"] for point in (*mine, *theirs)))),
        "panels": [{"name": name, "points": _of(every, mine, name), "paper": _of(every, theirs, name)} for name in averaged(names)],
    }


def _of(every: Sequence[dict[str, Any]], mine: Sequence[dict[str, Any]], panel: str) -> list[dict[str, Any]]:
    """The points of a panel, in the order of the axis."""
    chosen = {id(point) for point in mine if point["panel"] == panel}
    return [{name: value for name, value in point.items() if name != "panel"} for point in every if id(point) in chosen]


def number(text: Any) -> float | None:
    """The number that a name is, `None` where it is none.

    >>> number("1,000"), number("5 %"), number("0.25"), number("bit")
    (1000.0, 5.0, 0.25, None)
    """
    try:
        return float(str(text).replace(",", "").removesuffix("%"))
    except ValueError:
        return None


def _points(plot: Plot, keys: Sequence[str], cells: Cells) -> list[dict[str, Any]]:
    place = {key: i for i, key in enumerate(keys)}
    rest = [i for key, i in place.items() if key not in (plot.x, plot.series, plot.panel)]
    having = [of for of, mine in cells.items() if plot.y in mine and mine[plot.y]["value"] is not None]
    at_average = [i for i in rest if any(of[i] == LAST for of in having)]
    found = []
    for of in having:
        x = of[place[plot.x]] if plot.x in place else _figure(cells, of, plot.x)
        if x is None or any(of[i] != LAST for i in at_average):
            continue
        cell = cells[of][plot.y]
        low, high = cell["interval"] or (None, None)
        name = ", ".join(of[i] for i in rest if i not in at_average)
        found.append(
            {
                "x": x,
                "y": cell["value"],
                "low": low,
                "high": high,
                "name": name,
                "series": of[place[plot.series]] if plot.series else "",
                "panel": of[place[plot.panel]] if plot.panel else "",
                "cell": cell,
            }
        )
    return found


def _figure(cells: Cells, of: Key, figure: str) -> float | None:
    """A figure of the same thing, or of the network it is of."""
    for where in (of, *((*of[:i], ID, *of[i + 1 :]) for i in reversed(range(len(of))))):
        cell = cells.get(where, {}).get(figure)
        if cell is not None and cell["value"] is not None:
            return float(cell["value"])
    return None

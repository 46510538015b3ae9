"""How figures, intervals and verdicts are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from farfield.data import suites
from farfield.reproduce.base import Key

Value = Mapping[str, Any]
Cells = Mapping[Key, Mapping[str, dict[str, Any]]]
LAST = "average"  # stands behind what it is the average of


@cache
def shifted() -> frozenset[str]:
    """The sets of Glyphs that show ID classes in another look, which no average is over."""
    return frozenset(ood.name for ood in suites.load("glyphs-200").ood if ood.group == "shifted")


def averaged(names: Sequence[str]) -> list[str]:
    """Names in their order, but for the average, which comes after what it is of.

    >>> averaged(["average", "digits", "letters", "photos"])
    ['letters', 'photos', 'average', 'digits']
    """
    return sorted(names, key=lambda name: (name == LAST) + 2 * (name in shifted()))


def digits_of(figure: str, *several: Cells) -> int:
    """How many decimals a figure has: one for percents, three for shares, correlations and the like."""
    found = [mine[figure] for cells in several for mine in cells.values() if figure in mine]
    known = [abs(one) for cell in found for one in (cell["value"], cell["paper"]) if one is not None]
    return 1 if max(known, default=0.0) > 2 else 3


def said(cell: Value | None, digits: int, paper: bool = True) -> str:
    """A cell: the figure, its interval (half its width where both halves are the same), and the paper's.

    >>> said({"value": 61.2, "interval": [60.1, 62.3], "paper": 63.7}, 1), said({"value": 1.0, "interval": [0.0, 9.5], "paper": None}, 1), said(None, 1)
    ('61.2 ± 1.1 (paper 63.7)', '1.0 (0.0 to 9.5)', '')
    """
    figure, interval, theirs = parts(cell, digits)
    return " ".join(part for part in (figure, interval, f"(paper {theirs})" if paper and theirs else "") if part)


def parts(cell: Value | None, digits: int) -> tuple[str, str, str]:
    """The texts of a cell's figure, of its interval, and of the paper's figure; empty where there is none."""
    if cell is None:
        return "", "", ""
    value, interval, paper = cell["value"], cell["interval"], cell["paper"]
    around = ""
    if interval is not None:
        low, high = value - interval[0], interval[1] - value
        even = abs(low - high) < 2.0 * 10**-digits
        around = f"± {max(low, high):.{digits}f}" if even else f"({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
    return "" if value is None else f"{value:.{digits}f}", around, "" if paper is None else f"{paper:.{digits}f}"


def differs(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A difference with its sign and the half width of its interval.

    >>> differs(12.34, (10.0, 14.0)), differs(-0.234), differs(None)
    ('+12.3 ± 2.3', '-0.23', '-')
    """
    if value is None:
        return "-"
    digits = 1 if abs(value) >= 2 else 2
    half = "" if interval is None else f" ± {max(value - interval[0], interval[1] - value):.{digits}f}"
    return f"{value:+.{digits}f}{half}"


def held(claims: Sequence[Value]) -> str:
    """How many claims hold.

    >>> held([{"holds": "yes"}, {"holds": "no, one seed"}, {"holds": "not told"}, {"holds": "yes"}])
    '2 hold, 1 does not, 1 not told'
    """
    if not claims:
        return "no claims"
    yes, no = (sum(one["holds"].split(",")[0] == word for one in claims) for word in ("yes", "no"))
    parts = [f"{yes} hold{'s' if yes == 1 else ''}" if yes else "", f"{no} do{'es' if no == 1 else ''} not" if no else ""]
    rest = len(claims) - yes - no
    return ", ".join(part for part in (*parts, f"{rest} not told" if rest else "") if part)

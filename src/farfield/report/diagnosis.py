"""What a diagnosis came to, as files: JSON, Markdown, and one HTML page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farfield.diagnose.base import ORDER
from farfield.report.recommendation import (
    NONE,
    content,
    facts,
    fenced,
    figure,
    finite,
    number,
    of_share,
    points,
    put_all,
    ranking_lines,
    shown,
    table_lines,
    verdict,
)
from farfield.report.render import Value

OPEN = ("issue", "tip")  # what there is something to do about
COSTS = ("free", "seconds", "minutes", "hours")
PICTURE = re.compile(r"data:image/(png|webp|jpeg);base64,[A-Za-z0-9+/=]+")  # any other address a browser might fetch
MOST = 24  # points of a plot that Markdown has as a table
SEVERAL = {"issue": "issues", "tip": "tips"}


def write_diagnosis(value: Value, folder: str | Path) -> list[Path]:
    """Writes `diagnosis.json`, `.md` and `.html` into a folder, and returns their paths.

    Args:
        value: of a diagnosis, plain.
        folder: made where it is not there.

    Raises:
        InputError: when a file cannot be written.
    """
    value = finite(value)
    return put_all(Path(folder), "diagnosis", value, to_markdown(value), page_content(value))


# --- Markdown -----------------------------------------------------------------------------------------------------------------------------


def to_markdown(value: Value) -> str:
    """The whole diagnosis as Markdown: every finding, remedy and figure; pictures by their captions, long plots left to the page."""
    lines = [f"# Diagnosis of {shown(value['classifier'])}", "", shown(value["summary"]), "", f"{shown(tally(value))}.", ""]
    if value["accuracy"] is not None:
        lines += [f"ID accuracy {of_share(*value['accuracy'])} %.", ""]
    for outcome in ORDER:
        for one in (one for one in value["findings"] if one["outcome"] == outcome):
            lines += _finding(one)
    if value["remedies"]:
        lines += ["## Remedies, cheapest first", "", *_remedies(by_cost(value["remedies"]))]
    if value["recommendation"] is not None:
        lines += ["## Which detector", "", shown(verdict(value["recommendation"])), "", *ranking_lines(value["recommendation"])]
    if value["real"]:
        rows = [[one["set"], one["detector"], figure(one), of_share(one["fpr"], one["fpr_interval"])] for one in value["real"]]
        lines += ["## Real OOD sets that were given", "", "Nothing was chosen by them.", ""]
        lines += [*table_lines(["set", "detector", "AUROC, %", "FPR at 95 % TPR, %"], rows), ""]
    lines += ["## What was run", "", *(fenced(value["command"]) if value["command"] else [])]
    return "\n".join([*lines, *table_lines(["what", "value"], facts(value)), ""])


def _finding(one: Value) -> list[str]:
    lines = [f"## {one['outcome'].capitalize()} {shown(one['code'])}: {shown(one['title'])}", "", shown(one["said"]), ""]
    if one["do"]:
        lines += [f"**What to do.** {shown(one['do'])}", ""]
    if one["command"]:
        lines += fenced(one["command"])
    if one["values"]:
        lines += [*table_lines(["figure", "value", "95 % interval"], figures(one)), ""]
    if one["evidence"] is not None and one["evidence"]["kind"] != "histogram" and len(one["evidence"]["x"]) <= MOST:
        lines += [*_evidence(one["evidence"]), ""]
    lines += [f"- Picture: {shown(picture['caption'])}" for picture in one["shown"]] + [""] * bool(one["shown"])
    told = one["how"] + (f" {one['source']}." if one["source"] else "")
    return [*lines, f"How it is detected: {shown(told)}", ""]


def _evidence(evidence: Value) -> list[str]:
    """A plot as a table: a row for each place on its horizontal axis."""
    rows = []
    for i, x in enumerate(evidence["x"]):
        cells = []
        for series in evidence["series"]:
            around = ends(series["low"][i], series["high"][i]) if series["low"] else ""
            cells.append(" ".join(part for part in (number(series["y"][i]), f"({around})" if around else "") if part))
        rows.append([x if isinstance(x, str) else number(x), *cells])
    names = [" ".join(part for part in (evidence["y_title"], f"({one['name']})" if one["name"] else "") if part) for one in evidence["series"]]
    limit = [] if evidence["limit"] is None else ["", f"The limit is {number(evidence['limit'])}."]
    return [*table_lines([evidence["x_title"], *names], rows), *limit]


def _remedies(remedies: Sequence[Value]) -> list[str]:
    rows = [[one["cost"], one["name"], figure(one["before"]), figure(one["after"]), gain(one), accuracy_change(one), told(one)] for one in remedies]
    lines = [*table_lines(["cost", "remedy", "AUROC before, %", "after, %", "gain, points", "ID accuracy, points", "AUROC is"], rows), ""]
    for one in remedies:
        said = " ".join(part for part in (one["said"], one["note"]) if part)
        lines += [f"**{shown(one['name'])}** ({shown(one['cost'])}). {shown(said)}", "", *(fenced(one["command"]) if one["command"] else [])]
    return lines


# --- the page -----------------------------------------------------------------------------------------------------------------------------


def page_content(value: Value) -> dict[str, Any]:
    """What the page shows."""
    recommendation = value["recommendation"]
    return {
        "kind": "Diagnosis of",
        "title": value["classifier"],
        "summary": value["summary"],
        "accuracy": value["accuracy"],
        "order": [[outcome, said_count(outcome, n)] for outcome, n in counts(value)],
        "findings": [{**one, "figures": figures(one), "shown": [_shown(picture) for picture in one["shown"]]} for one in value["findings"]],
        "remedies": [{**one, "told": told(one)} for one in by_cost(value["remedies"])],
        "recommendation": None if recommendation is None else content(recommendation, value.get("current")),
        "real": value["real"],
        "command": value["command"],
        "facts": facts(value),
    }


def _shown(picture: Value) -> dict[str, Any]:
    return {**picture, "uri": picture["uri"] if PICTURE.fullmatch(picture["uri"]) else ""}


# --- what is said -------------------------------------------------------------------------------------------------------------------------


def counts(value: Value) -> list[tuple[str, int]]:
    """How many findings there are of each outcome, the worst first; those of which there are none are left out."""
    found = [(outcome, sum(one["outcome"] == outcome for one in value["findings"])) for outcome in ORDER]
    return [(outcome, n) for outcome, n in found if n]


def said_count(outcome: str, n: int) -> str:
    """A number of findings.

    >>> said_count("issue", 2), said_count("tip", 1), said_count("passed", 9)
    ('2 issues', '1 tip', '9 passed')
    """
    return f"{n} {SEVERAL.get(outcome, outcome) if n != 1 else outcome}"


def tally(value: Value) -> str:
    """How many findings there are of each outcome, in words."""
    return ", ".join(said_count(*one) for one in counts(value)) or "No check was made"


def figures(one: Value) -> list[list[str]]:
    """A finding's figures: name, value, interval."""
    return [[name, number(figure), ends(*one["intervals"][name]) if name in one["intervals"] else ""] for name, figure in one["values"].items()]


def ends(low: float | None, high: float | None) -> str:
    """An interval of any figure; empty where there is none.

    >>> ends(0.5, 1.25)
    '0.5 to 1.25'
    """
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def by_cost(remedies: Sequence[Value]) -> list[Value]:
    """The cheapest first, those that cost the same as they come."""
    return sorted(remedies, key=lambda one: COSTS.index(one["cost"]) if one["cost"] in COSTS else len(COSTS))


def gain(one: Value) -> str:
    """What a remedy gained, in points of AUROC."""
    return points(one["gain"]["auroc"], one["gain"]["interval"]) if one["gain"] is not None else NONE


def accuracy_change(one: Value) -> str:
    """By how many points a remedy changed the ID accuracy."""
    return points(*one["accuracy_change"]) if one["accuracy_change"] is not None else NONE


def told(one: Value) -> str:
    """What a remedy did, as far as its interval tells."""
    if not one["tried"] or one["gain"] is None:
        return "not measured"
    low, high = one["gain"]["interval"]
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"

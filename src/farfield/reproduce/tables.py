"""An experiment's records as one plain value: tables beside the paper's, verdicts, notes. Terminal, Markdown, JSON and the page are made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from farfield.report.render import escape
from farfield.reproduce.base import Experiment, Key, Record
from farfield.reproduce.plots import drawn
from farfield.reproduce.texts import Cells, Value, averaged, differs, digits_of, said, shifted
from farfield.reproduce.verdicts import Estimate, Verdict, columns, table, verdicts

WIDEST = 10  # columns that a key may be laid out in
CONVENTIONS = {
    "id": "FPR95 is the share of OOD pictures taken for ID where 95 % of ID is kept, as the paper has it.",
    "ood": "FPR95 is the share of ID pictures lost where 95 % of OOD is caught, as the paper (and OpenOOD) has it; the other convention gives other figures.",
}


def value_of(
    chosen: Experiment, records: Sequence[Record], *, scale: str, command: str, settings: Value | None = None, environment: Value | None = None
) -> dict[str, Any]:
    """What there is to say of an experiment's records.

    Args:
        chosen: the experiment.
        records: of one or several seeds.
        scale: `glyphs` or `full`.
        command: what makes them.
        settings: what was not as it is by default, such as `limit`; `random_weights` and `smoke` are said to make figures that mean nothing.
        environment: versions and machine.
    """
    ours = {of: {name: _plain(estimate) for name, estimate in mine.items()} for of, mine in table(records).items()}
    paper: dict[Key, dict[str, float]] = {}
    for record in chosen.published:
        paper.setdefault(record.of, {}).update(record.values)
    alone = {of: {name: _cell(figure) for name, figure in values.items()} for of, values in paper.items()}
    drawing = None if chosen.plot is None else drawn(chosen.plot, chosen.keys, chosen.figures, ours, alone)
    same = comparable(ours, paper)
    if same:
        for of, values in paper.items():
            for name, figure in values.items():
                ours.setdefault(of, {}).setdefault(name, _cell())["paper"] = figure
    seeds = sorted({record.seed for record in records})
    return {
        "experiment": chosen.name,
        "paper": chosen.paper,
        "place": chosen.place,
        "what": chosen.what,
        "scale": scale,
        "suite": chosen.suite,
        "fpr": chosen.fpr,
        "seeds": seeds,
        "settings": dict(settings or {}),
        "command": command,
        "keys": list(chosen.keys),
        "figures": dict(chosen.figures),
        "tables": laid(chosen.keys, chosen.figures, ours),
        "papers": [] if same else laid(chosen.keys, chosen.figures, alone),
        "plot": drawing,
        "claims": _claims(chosen, records),
        "notes": notes(chosen, scale, seeds, settings or {}, ours),
        "environment": dict(environment or {}),
    }


def _cell(value: float | None = None, interval: Sequence[float] | None = None, paper: float | None = None) -> dict[str, Any]:
    return {"value": value, "interval": interval, "paper": paper}


def _plain(estimate: Estimate) -> dict[str, Any]:
    return _cell(round(estimate.value, 4), None if estimate.interval is None else [round(end, 4) for end in estimate.interval])


def comparable(ours: Mapping[Key, object], paper: Mapping[Key, object]) -> bool:
    """Whether the paper's figures are of the same things, and so have room in the same cells: it has no name, at any place of the keys, that is not ours.

    >>> comparable({("MSP", "letters"): 1, ("MSP", "average"): 1}, {("MSP", "average"): 1}), comparable({("MSP", "letters"): 1}, {("MSP", "SUN"): 1})
    (True, False)
    """
    mine, theirs = columns(ours), columns(paper)
    return len(theirs) <= len(mine) and all(set(names) <= set(mine[place]) for place, names in enumerate(theirs))


# --- layout -----------------------------------------------------------------------------------------------------------------------------------


def laid(keys: Sequence[str], figures: Mapping[str, str], cells: Cells) -> list[dict[str, Any]]:
    """Tables: one a figure with the last key's names as its columns, and one of the figures that have a single column; or one with a column a figure.

    A table is its title, what its rows are (keys), its columns (a label, and how many decimals), and rows of cells, `None` where there is nothing.
    """
    names = averaged(columns(cells)[len(keys) - 1]) if cells else []
    if len(keys) < 2 or not 2 <= len(names) <= WIDEST:
        chosen = [(heading, figure, None) for figure, heading in figures.items() if any(figure in mine for mine in cells.values())]
        return [_table("", keys, chosen, cells, list(cells))] if chosen else []
    rows = list(dict.fromkeys(of[:-1] for of in cells))
    found, single = [], []
    for figure, heading in figures.items():
        where = [name for name in names if any(of[-1] == name and figure in mine for of, mine in cells.items())]
        if len(where) > 1:
            found.append(_table(heading, keys[:-1], [(name, figure, name) for name in where], cells, rows))
        elif where:
            single.append((heading if where[0] in ("ID", figure) else f"{heading}, {where[0]}", figure, where[0]))
    return found + ([_table("", keys[:-1], single, cells, rows)] if single else [])


def _table(title: str, keys: Sequence[str], chosen: Sequence[tuple[str, str, str | None]], cells: Cells, rows: Iterable[Key]) -> dict[str, Any]:
    filled = []
    for of in rows:
        mine = [cells.get(of if name is None else (*of, name), {}).get(figure) for _, figure, name in chosen]
        if any(cell is not None for cell in mine):
            filled.append({"of": list(of), "cells": mine})
    shown = [{"label": label, "digits": digits_of(figure, cells)} for label, figure, _ in chosen]
    return {"title": title, "keys": list(keys), "columns": shown, "rows": filled}


# --- texts ------------------------------------------------------------------------------------------------------------------------------------


def _claims(chosen: Experiment, records: Sequence[Record]) -> list[dict[str, Any]]:
    told = {found.claim: found for found in verdicts(chosen.claims, records, chosen.published)}
    found = []
    for claim in chosen.claims:
        one: Verdict | None = told.get(claim)
        difference = _cell() if one is None else _plain(one.difference)
        found.append(
            {
                "claim": claim.text,
                "same": claim.same,
                "difference": difference["value"],
                "interval": difference["interval"],
                "paper": None if one is None or one.paper is None else round(one.paper, 4),
                "holds": "its figures are not here" if one is None else one.holds,
            }
        )
    return found


def notes(chosen: Experiment, scale: str, seeds: Sequence[int], settings: Value, ours: Iterable[Key]) -> list[str]:
    """What a reader must know beside the tables."""
    found = []
    if settings.get("random_weights") or settings.get("smoke"):
        why = "weights are random" if settings.get("random_weights") else "there were two steps of training and few pictures"
        found.append(f"This was a dry run, which shows that everything runs: {why}, and the figures mean nothing.")
    if settings.get("cells"):
        found.append(f"Only the first {settings['cells']} of the experiment's cells were done.")
    found += [f"{name} was {settings[name]}." for name in ("limit", "model", "preprocess") if settings.get(name)]
    if scale == "glyphs":
        found.append(
            "This is the scale of Glyphs, small networks on pictures of 32 pixels: what holds here says something of this scale, not of the paper's."
        )
        found += [chosen.here] if chosen.here else []
        found += [
            f"{name} shows ID classes in another look: telling it from ID is not wanted, and it is in no average."
            for name in sorted(shifted() & {name for of in ours for name in of})
        ]
    if any("fpr" in name for name in chosen.figures):
        found.append(CONVENTIONS[chosen.fpr])
    if len(seeds) > 1:
        found.append(
            f"Figures and differences are means over seeds {_listed(seeds)}; ± is the half width of the 95 % interval over seeds, by Student's t."
        )
    else:
        found.append(
            f"All is of seed {_listed(seeds)}, with 95 % intervals over pictures where a figure has one; of a claim without an interval one seed says no more than a sign."
        )
    return found


def _listed(seeds: Sequence[int]) -> str:
    return " and ".join([", ".join(map(str, seeds[:-1])), str(seeds[-1])] if len(seeds) > 1 else map(str, seeds))


def to_json(value: Value) -> str:
    """The value as JSON."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)


def markdown(value: Value, level: int = 1) -> str:
    """The value as Markdown, with every interval.

    Args:
        value: of `value_of`.
        level: of the first heading.
    """
    lines = [f"{'#' * level} {escape(title(value))}", "", escape(f"{value['what']} {value['paper']}."), ""]
    for one in value["tables"]:
        lines += [*_markdown_table(one), ""]
    if value["papers"]:
        lines += ["The paper's own, of other networks and data:", ""]
    for one in value["papers"]:
        lines += [*_markdown_table(one), ""]
    if value["claims"]:
        lines += [_line(["the paper claims", "difference in the paper", "here", "holds here"]), _line(["---", "--:", "--:", "---"])]
        lines += [_line([one["claim"], differs(one["paper"]), differs(one["difference"], one["interval"]), one["holds"]]) for one in value["claims"]]
        lines += ["", "A difference is in points, positive where it is as the paper says.", ""]
    lines += [f"- {escape(note)}" for note in value["notes"]]
    return "\n".join([*lines, f"- `{value['command']}`", ""])


def title(value: Value) -> str:
    """`mos-table-1: Table 1`."""
    return f"{value['experiment']}: {value['place']}"


def _markdown_table(one: Value) -> list[str]:
    heads = [*one["keys"], *(column["label"] for column in one["columns"])]
    lines = [f"**{escape(one['title'])}**", ""] if one["title"] else []
    lines += [_line(heads), _line(["---"] * len(one["keys"]) + ["--:"] * len(one["columns"]))]
    for row in one["rows"]:
        lines.append(_line([*row["of"], *(said(cell, column["digits"]) for cell, column in zip(row["cells"], one["columns"], strict=True))]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell if set(cell) <= {"-", ":"} and len(cell) > 2 else escape(cell) for cell in cells) + " |"

"""Writes the tables of suites into `docs/suites.md`: `python docs/suites.py`."""

from __future__ import annotations

import re
from pathlib import Path

from farfield.data import suites
from farfield.data.suites import classes
from farfield.data.suites.definition import Definition, Pictures

PAGE = Path(__file__).with_name("suites.md")


def table() -> str:
    """A line for each suite, then where each one's data come from."""
    lines = [
        "| suite | classes | ID: train / calibration / test | OOD sets | to choose options on | preprocessing | FPR |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in suites.SUITES:
        drawn = suites.load(name)
        sets = ", ".join(f"{entry.name} ({entry.group})" for entry in drawn.ood)
        lines.append(
            f"| `{name}` | {len(drawn.classes):,} | drawn on the spot: [Glyphs](glyphs.md) | {sets} | {', '.join(e.name for e in drawn.validation)} | the model's | ID |"
        )
    found = [suites.definition(name) for name in suites.PUBLISHED]
    return "\n".join([*lines, *map(line, found), *(part for one in found for part in sources(one))])


def line(one: Definition) -> str:
    """A suite in short."""
    splits = " / ".join(
        " + ".join(counted(piece) for piece in one.splits[split]) if split in one.splits else "none" for split in ("train", "calibration", "test")
    )
    ood = "; ".join(f"{entry.name} {counted(entry.pictures)} ({entry.group})" for entry in one.ood)
    shared = "; ".join(f"{entry.name} {counted(entry.pictures)}, of the source of {' and '.join(entry.shares)}" for entry in one.validation) or "none"
    preprocess = f"`{one.preprocess.partition(',mean')[0]}`" if one.preprocess else "the model's"
    return f"| `{one.name}` | {classes.count(one.classes):,} | {splits} | {ood} | {shared} | {preprocess} | {'ID' if one.fpr == 'id' else 'OOD'} |"


def counted(pictures: Pictures) -> str:
    """How many pictures a set has."""
    return "?" if pictures.count is None else f"{pictures.count:,}"


def sources(one: Definition) -> list[str]:
    """A suite's paper, models and sources."""
    lines = [
        "",
        f"### `{one.name}`",
        "",
        f"{one.title}. From: {one.paper}.",
        "",
        f"Meant for {one.models} {one.note}",
        "",
        "| source | licence | from | how |",
        "|---|---|---|---|",
    ]
    for source in one.sources.values():
        how = (
            "torchvision's downloader" if source.torchvision else "fetched" if source.archives and all(a.url for a in source.archives) else "by hand"
        )
        lines.append(f"| {source.title} | {source.licence or 'not stated'} | <{source.page}> | {how} |")
    return lines


def page() -> str:
    """The page with the tables as they are now."""
    text = PAGE.read_text("utf-8")
    return re.sub(r"(<!-- suites -->\n).*?(<!-- end of suites -->)", lambda found: f"{found[1]}{table()}\n\n{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

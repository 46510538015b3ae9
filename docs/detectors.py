"""Writes `docs/detectors.md` from the classes: `python docs/detectors.py`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from farfield.citations import bibtex
from farfield.cli.catalogue import about
from farfield.detectors import CATALOGUE, SHAPERS, options_of

PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """# Detectors

<!-- Written by `python docs/detectors.py` from the classes: change those. -->

`n` training samples, `d` features, `c` classes; `v` are logits, `f` features, `p = softmax(v)`, `y` the predicted class. Every score is higher for ID. Cost is beyond
the forward pass. *Published* figures are AUROC in percent from the leaderboard of OpenOOD v1.5 (July 2025), means alone; others name their source.
[How to choose](choosing.md) has them side by side with Glyphs.

A shaper goes before a detector of logits, as `react:q=80+energy`; such a chain needs what both need and can be exported where its detector can.
`farfield cite NAME` prints the BibTeX.
"""
COLUMNS = ("name", "scoring reads", "fitting reads", "passes", "cost", "export", "paper")


def page() -> str:
    """The whole file."""
    lines = [INTRODUCTION]
    for title, methods in (("Detectors", CATALOGUE), ("Shapers", SHAPERS)):
        lines += [f"## {title}: overview", "", row(COLUMNS), row(["---"] * len(COLUMNS))]
        lines += [row(cells(name, method)) for name, method in methods.items()]
        lines.append("")
    for title, methods in (("Detectors", CATALOGUE), ("Shapers", SHAPERS)):
        lines += [f"## {title}: one by one", ""]
        for name, method in methods.items():
            lines += section(name, method)
    return "\n".join(lines)


def row(values: Any) -> str:
    return "| " + " | ".join(values) + " |"


def heading(name: str, method: type[Any]) -> str:
    return f"`{name}` ({method.__name__})"


def anchor(title: str) -> str:
    """Where a heading is, as GitHub and the site have it: `mahalanobis-mahalanobispp`."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def cells(name: str, method: type[Any]) -> list[str]:
    told, exportable = about(name, method, name in SHAPERS), getattr(method, "exportable", True)
    export = "as its detector" if name in SHAPERS else "yes" if exportable is True else str(exportable)
    link = f"[`{name}`](#{anchor(heading(name, method))})"
    return [link, told["needs"], told["fit_needs"], str(told["passes"]), told["cost"], export, told["paper"]]


def section(name: str, method: type[Any]) -> list[str]:
    lines = [f"### {heading(name, method)}", "", formula(method), "", f"- **When**: {method.use}"]
    if method.fails:
        lines.append(f"- **Known to fail**: {method.fails}")
    told = told_of(method)
    for option, parameter in options_of(method.fit).items():
        lines.append(f"- **Option** `{option}={'none' if parameter.default is None else parameter.default}`: {told[option]}")
    keys = re.findall(r"^@\w+\{(.+),$", bibtex([method.paper]), re.MULTILINE)
    return [*lines, f"- **BibTeX**: {', '.join(f'`{key}`' for key in keys)}", ""]


def formula(method: type[Any]) -> str:
    """The docstring to where it has said its formula: to the first paragraph with a `=` between backticks, or the first alone."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(method.__doc__ or "").split("\n\n")]
    last = next((index for index, paragraph in enumerate(paragraphs[:2]) if re.search(r"`[^`]+ = [^`]+`", paragraph)), 0)
    return "\n\n".join(paragraphs[: last + 1])


def told_of(method: type[Any]) -> dict[str, str]:
    """What the docstring of `fit` says of each argument."""
    arguments = inspect.cleandoc(method.fit.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    return {name: " ".join(text.split()) for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", arguments, re.MULTILINE)}


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

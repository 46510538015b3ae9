"""Results as JSON and Markdown, from one value: the content of `results.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farfield.errors import InputError
from farfield.files import put

Value = Mapping[str, Any]
FAILED = 0.10  # a unit test is failed when more of it than this passes for ID (Bitterwolf et al. 2023)
PARTS = ("unit-test", "class")  # groups of rows that are of a part of a set; no column is of them
MEASURES = {"auroc": "AUROC, %", "fpr_at_95_tpr_id": "FPR at 95 % TPR (ID positive), %"}


def to_json(results: Value) -> str:
    """The results as `results.json` has them."""
    return json.dumps(results, indent=1, allow_nan=False)


def write(results: Value, folder: str | Path) -> list[Path]:
    """Writes `results.json` and `results.md` into a folder, and returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [put_text(folder / "results.json", to_json(results)), put_text(folder / "results.md", markdown(results))]


def put_text(path: Path, text: str) -> Path:
    """Writes a text whole, what UTF-8 has no way to write escaped; returns the path.

    Raises:
        InputError: when it cannot be written.
    """
    try:
        put(path, lambda partial: partial.write_text(text, "utf-8", errors="backslashreplace"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}. What it is made of stays: mend that and run the same again."
        ) from error
    return path


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def with_interval(row: Value, measure: str) -> str:
    """`83.5 (82.6 to 84.4)`."""
    low, high = row[f"{measure}_interval"]
    return f"{percent(row[measure])} ({percent(low)} to {percent(high)})"


@dataclass(frozen=True)
class Line:
    """One detector of one classifier: its rows by column, and those of the noise families."""

    detector: str
    cells: Mapping[str, Value]
    families: Sequence[Value]

    def worst(self, measure: str) -> Value | None:
        """The row of the near or far set, or family of noise, that is told worst."""
        rows = [row for row in (*self.cells.values(), *self.families) if row["ood"] is not None and row["group"] not in ("shifted", "classes")]
        of = (lambda row: -row[measure]) if measure == "auroc" else (lambda row: row[measure])
        return max(rows, key=of, default=None)

    def failed(self) -> str:
        """How many noise families pass for ID too often, of how many."""
        wrong = sum(row["fpr_at_95_tpr_id"] > FAILED for row in self.families)
        return f"{wrong} of {len(self.families)}" if self.families else ""


def blocks(results: Value) -> list[tuple[Value, list[str], list[Line]]]:
    """For each classifier: its entry, its columns, and a line per detector, best first by the first column.

    A column is `near` or `far` for the mean of a group, or a set's name.
    """
    found = []
    for classifier in results["classifiers"]:
        mine = [r for r in results["rows"] if (r["classifier"], r["suite"]) == (classifier["name"], classifier["suite"])]
        columns = [group for group in ("near", "far") if any(r["ood"] is None and r["group"] == group for r in mine)]
        columns += dict.fromkeys(r["ood"] for r in mine if r["ood"] is not None and r["group"] not in PARTS)
        lines = []
        for detector in dict.fromkeys(r["detector"] for r in mine):
            rows = [r for r in mine if r["detector"] == detector]
            cells = {r["ood"] or r["group"]: r for r in rows if r["group"] not in PARTS}
            lines.append(Line(detector, cells, [r for r in rows if r["group"] == "unit-test"]))
        lines.sort(key=lambda line: -line.cells[columns[0]]["auroc"] if columns else 0.0)
        found.append((classifier, columns, lines))
    return found


def ranks(lines: Sequence[Line]) -> list[str]:
    """Each line's rank, on near-OOD where there is some, with `=` where it is shared."""
    given = [next((line.cells[c]["rank"] for c in ("near", "far") if c in line.cells), None) for line in lines]
    return ["" if rank is None else f"{rank}=" if given.count(rank) > 1 else str(rank) for rank in given]


def title(classifier: Value) -> str:
    """A classifier, its suite and its accuracy."""
    if classifier["id_accuracy"] is None:
        return f"{classifier['name']} on {classifier['suite']}, {classifier['classes']} classes: ID accuracy not known, no labels"
    low, high = classifier["id_accuracy_interval"]
    accuracy = f"{percent(classifier['id_accuracy'])} % (95 % interval {percent(low)} to {percent(high)})"
    return f"{classifier['name']} on {classifier['suite']}, {classifier['classes']} classes: ID accuracy {accuracy}"


def markdown(results: Value) -> str:
    """The tables with every interval, as Markdown."""
    lines = ["# Farfield benchmark", ""]
    for classifier, columns, block in blocks(results):
        for measure, name in MEASURES.items():
            extra = ["worst set", *(["noise families failed"] if measure != "auroc" else [])]
            lines += [f"## {escape(title(classifier))}", "", f"**{name}**, with 95 % intervals", ""]
            lines += [_line(["rank", "detector", *columns, *extra]), _line(["---"] * (2 + len(columns) + len(extra)))]
            for rank, line in zip(ranks(block), block, strict=True):
                cells = [with_interval(line.cells[column], measure) for column in columns]
                worst = line.worst(measure)
                told = "" if worst is None else f"{worst['ood']} {with_interval(worst, measure)}"
                lines.append(_line([rank, line.detector, *cells, told, *([line.failed()] if measure != "auroc" else [])]))
            lines.append("")
    lines += [f"- {escape(note)}" for note in notes(results)] + [""]
    return "\n".join(lines)


def notes(results: Value) -> list[str]:
    """What a reader must know beside the tables."""
    said = [suite["note"] for suite in results["suites"] if suite["note"]]
    said += [
        "near and far are plain means over their sets. Ranks are by near-OOD AUROC: 1 + the number of detectors significantly better (paired, 5 %, not corrected for the number of pairs)."
    ]
    groups = {row["group"] for row in results["rows"]}
    said += [
        "The worst set is the one, of the near and far sets and the families of noise, that is told worst; the least of several figures is a little low."
    ]
    if "shifted" in groups:
        said += ["A `shifted` set shows ID classes in another look; telling it from ID is not wanted, so a low AUROC is good there."]
    if "classes" in groups:
        said += ["`by class` is the mean over the classes of a set, each as if it were a set of its own; `results.json` has every class."]
    if "unit-test" in groups:
        said += [f"A noise family is failed when more than {100 * FAILED:.0f} % of it is taken for ID at the threshold that keeps 95 % of ID."]
    for name, sources in dict.fromkeys((row["ood"], row["sources"]) for row in results["rows"] if row["sources"]):
        said.append(f"The pictures of {name} come from {sources} sources; its intervals count those, not the pictures.")
    said += [f"{w['detector'] + ' on ' if w['detector'] else ''}{w['classifier']}: {w['message']}" for w in results["warnings"]]
    said += [f"{r['detector']} on {r['classifier']}: n/a. {r['reason']}" for r in results["refused"]]
    return list(dict.fromkeys(said))


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in text.replace("\n", " "))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell if set(cell) == {"-"} else escape(cell) for cell in cells) + " |"

"""What the page shows, as one plain value: everything the browser needs, nothing it has to work out."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from farfield import citations
from farfield.benchmark import gallery
from farfield.collect import Progress
from farfield.report import curves
from farfield.report.render import FAILED, Line, Value, blocks, notes, percent

SIDES = (64, 48, 32)  # pixels of pictures, where those of the run are too many: the largest at which all of them fit
BUDGET = 2_000_000  # bytes of pictures in a page; what is beyond has none
LINES = 60_000  # of the tables of classes in a page, over all classifiers and detectors; each has at least FEWEST
FEWEST = 50
NO_FOLDER = "There are no scores beside these results."


def model(results: Value, folder: Path | None, progress: Progress | None = None) -> dict[str, Any]:
    """The page's content.

    Args:
        results: the content of `results.json`.
        folder: where it lies; beside it are scores and pictures, without which the page has tables alone. `None` has none.
        progress: called with what is done, how far, and out of how much.
    """
    pool, units = Pool(), []
    parts = blocks(results)
    most = max(FEWEST, LINES // max(1, sum(len(lines) for _, _, lines in parts)))
    for i, (entry, columns, lines) in enumerate(parts):
        if progress is not None:
            progress(f"report: {entry['name']}", i, len(parts))
        units.append(_unit(results, entry, columns, lines, folder, pool, most))
    return {
        "rates": list(curves.RATES),
        "slider": len(curves.SLIDER),
        "band": [curves.RATES.index(rate) for rate in curves.BAND],
        "start": curves.SLIDER.index(50),
        "failedAbove": FAILED,
        "headline": headline(results),
        "units": units,
        "pictures": pool.fitted(),
        "notes": notes(results),
        "unreadable": results["unreadable"],
        "bibtex": citations.bibtex(cited(results)),
        "command": results["command"],
        "stages": _stages(results["cost"]),
        "cost": results["cost"].get("per_detector", {}),
        "environment": {str(k): str(v) for k, v in results["environment"].items()},
        "hashes": _hashes(results),
    }


class Pool:
    """The pictures of a page, each once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def add(self, picture: str) -> int:
        """The number of a picture; -1 for none."""
        return self.places.setdefault(picture, len(self.places)) if picture else -1

    def fitted(self) -> list[str]:
        """All of them, made smaller where they are too many for a page; the last are empty where that is not enough."""
        pictures = list(self.places)
        if sum(map(len, pictures)) > BUDGET:
            some = pictures[:: max(1, len(pictures) // 100)]
            sizes = {side: sum(len(_smaller(picture, side)) for picture in some) * len(pictures) / len(some) for side in SIDES}
            side = next((side for side in SIDES if sizes[side] <= BUDGET), SIDES[-1])
            pictures = [_smaller(picture, side) for picture in pictures]
        room = BUDGET
        for i, picture in enumerate(pictures):
            room -= len(picture)
            pictures[i] = picture if room >= 0 else ""
        return pictures


def _smaller(picture: str, side: int) -> str:
    try:
        with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as opened:
            return picture if max(opened.size) <= side else gallery.encoded(opened.convert("RGB"), side)
    except (OSError, ValueError):  # a file that was changed by hand
        return ""


def _unit(results: Value, entry: Value, columns: Sequence[str], lines: Sequence[Line], folder: Path | None, pool: Pool, most: int) -> dict[str, Any]:
    """One classifier on one suite."""
    groups: Mapping[str, str] = next((suite["ood"] for suite in results["suites"] if suite["name"] == entry["suite"]), {})
    sets = [name for name in columns if lines[0].cells[name]["ood"] is not None and lines[0].cells[name]["group"] != "classes"] if lines else []
    kept = NO_FOLDER if folder is None else curves.kept(folder, entry["suite"], entry["name"], lines, sets) if lines else ""
    unit: dict[str, Any] = {
        "name": entry["name"],
        "suite": entry["suite"],
        "accuracy": entry["id_accuracy"],
        "classNames": entry["class_names"] or [],
        "columns": list(columns),
        "sets": [_set(name, groups.get(name, ""), lines[0].cells[name]) for name in sets],
        "nId": lines[0].cells[columns[0]]["n_id"] if lines else 0,
        "detectors": [_line(line, results["papers"]) for line in lines],
        "refused": [{"detector": r["detector"], "reason": r["reason"]} for r in results["refused"] if r["classifier"] == entry["name"]],
        "missing": kept if isinstance(kept, str) else "",
    }
    if isinstance(kept, str):
        return unit
    labels, taken = kept.beside.get("labels/test"), kept.beside.get("classes/test")
    of = labels if labels is not None and (labels >= 0).any() else taken
    unit["classesAre"] = "the class they are of" if of is labels else "the class they are taken for"
    sizes = {"test": unit["nId"]} | {one["name"]: one["n"] for one in unit["sets"]}
    unit["drawn"] = {name: gallery.drawn(name, n) for name, n in sizes.items()}
    unit["shown"] = {
        name: {str(row): _shown(kept, name, row, pool) for row in some} for name, some in gallery.shown(kept.scores.values(), sizes).items()
    }
    for line, scores in zip(unit["detectors"], kept.scores.values(), strict=True):
        line["curves"] = curves.curves(scores, kept.beside)
        for key, rows in (("wrong", gallery.wrong(scores)), ("drawn", unit["drawn"])):
            line[key] = {name: [[row, curves.number(scores[name][row], 5)] for row in some] for name, some in rows.items()}
        by_class = [] if of is None else curves.classes(scores["test"], of)
        line["classCount"] = len(by_class)
        line["classes"] = sorted(by_class, key=lambda row: (-row[5], -row[2] / row[1], -row[3]))[:most]
    del unit["drawn"]
    return unit


def _set(name: str, group: str, row: Value) -> dict[str, Any]:
    return {"name": name, "group": group, "n": row["n_ood"], "sources": row["sources"] or 0}


def _line(line: Line, papers: Mapping[str, str]) -> dict[str, Any]:
    """One detector's figures, as shares."""
    cells = {
        name: {measure: curves.rounded([row[key], *row[f"{key}_interval"]], 5) for measure, key in (("auroc", "auroc"), ("fpr", "fpr_at_95_tpr_id"))}
        | {"beatenBy": {"auroc": row["beaten_by"], "fpr": row["fpr_beaten_by"]}}
        for name, row in line.cells.items()
    }
    families = [[row["ood"], *curves.rounded([row["fpr_at_95_tpr_id"], *row["fpr_at_95_tpr_id_interval"]])] for row in line.families]
    worst = {name: _worst(line.worst(key), key) for name, key in (("auroc", "auroc"), ("fpr", "fpr_at_95_tpr_id"))}
    return {
        "name": line.detector,
        "paper": papers.get(line.detector, ""),
        "cells": cells,
        "families": families,
        "failed": line.failed(),
        "worst": worst,
    }


def _worst(row: Value | None, key: str) -> dict[str, Any] | None:
    return None if row is None else {"set": row["ood"], "figure": curves.rounded([row[key], *row[f"{key}_interval"]], 5)}


def _shown(kept: curves.Kept, name: str, row: int, pool: Pool) -> list[Any]:
    """One picture: what it is called, its number in the pool, the class it is taken for and the one it is of, -1 where not known."""
    about = kept.pictures.get(name, {}).get(str(row), {"name": f"{name}, row {row}", "picture": ""})
    classes = [kept.beside.get(f"{key}/{name}") for key in ("classes", "labels")]
    return [about["name"], pool.add(about["picture"]), *(-1 if column is None else int(column[row]) for column in classes)]


def headline(results: Value) -> list[str]:
    """For each suite, the best detector and classifier by the mean over near-OOD sets and over far-OOD ones, and what it cannot be told from."""
    said = []
    for suite in dict.fromkeys(row["suite"] for row in results["rows"]):
        for group in ("near", "far"):
            means = [row for row in results["rows"] if row["suite"] == suite and row["ood"] is None and row["group"] == group]
            if means:
                best = max(means, key=lambda row: row["auroc"])
                low, high = best["auroc_interval"]
                interval = f"{percent(best['auroc'])} % (95 % interval {percent(low)} to {percent(high)})"
                there = [row for row in means if row["classifier"] == best["classifier"] and row is not best and row["beaten_by"] is not None]
                tied = [row["detector"] for row in there if best["detector"] not in row["beaten_by"]]
                also = f", not told apart from {' and '.join(tied)} there" if tied else ""
                said.append(f"Highest {group}-OOD AUROC on {suite}: {best['detector']} on {best['classifier']}, {interval}{also}.")
    return said


def cited(results: Value) -> list[str]:
    """What a run stands on, as `citations` knows it."""
    papers = [*citations.ALWAYS, *results["papers"].values()]
    papers += [citations.CLUSTERED] if any(row["sources"] for row in results["rows"]) else []
    return papers + ([citations.NOISE] if any(row["group"] == "unit-test" for row in results["rows"]) else [])


def _stages(cost: Value) -> list[list[Any]]:
    """Seconds of each stage, the longest first, and in all."""
    stages = {key.removesuffix("_seconds"): value for key, value in cost.items() if key.endswith("_seconds") and isinstance(value, int | float)}
    total = stages.pop("total", None)
    order = sorted(stages.items(), key=lambda item: -item[1])
    return [[name, round(value, 2)] for name, value in order] + ([] if total is None else [["in all", round(total, 2)]])


def _hashes(results: Value) -> list[list[str]]:
    """What is a hash of what; of a set all of whose pictures could be read, the hash alone."""
    found = [[f"classifier {entry['name']}", entry["fingerprint"]] for entry in results["classifiers"] if entry["fingerprint"]]
    for suite in results["suites"]:
        found += [[f"{suite['name']}: {name}", value.removesuffix(" without []")] for name, value in (suite["contents"] or {}).items() if value]
    return found

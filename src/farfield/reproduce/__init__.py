"""The tables and figures of the four papers, each as an experiment: on Glyphs, or with the papers' classifiers and data sets on disk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from farfield.errors import InputError, nearest
from farfield.files import put
from farfield.reproduce import augdelete, diagnosing, mos, sft, vit
from farfield.reproduce.base import Experiment, Record, plain, read
from farfield.reproduce.networks import slug
from farfield.reproduce.page import write
from farfield.reproduce.results import statuses
from farfield.reproduce.stage import SCALES, Scale, Stage
from farfield.reproduce.tables import value_of
from farfield.reproduce.terminal import shown

_PAPERS = (mos, vit, diagnosing, augdelete, sft)  # a file a paper, or two
EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for paper in _PAPERS for experiment in paper.EXPERIMENTS}

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "Experiment",
    "Record",
    "Scale",
    "Stage",
    "experiment",
    "run",
    "seconds",
    "shown",
    "statuses",
    "value_of",
    "write",
]


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: when there is none.

    >>> experiment("mos-table-1").place
    'Table 1'
    """
    if name not in EXPERIMENTS:
        raise InputError(f"There is no experiment {name!r}{nearest(name, EXPERIMENTS)} `farfield reproduce --list` has them all.")
    return EXPERIMENTS[name]


def named(what: str) -> list[Experiment]:
    """The experiments that a name, a file of one, or a folder of such files, means; none where it means something else.

    >>> [one.name for one in named("out/mos-table-1.json")], named("energy")
    (['mos-table-1'], [])
    """
    path = Path(what)
    names = [file.stem for file in sorted(path.glob("*.json"))] if path.is_dir() else [path.stem if path.suffix == ".json" else what]
    return [EXPERIMENTS[name] for name in names if name in EXPERIMENTS]


def run(
    chosen: Experiment, stages: Iterable[Stage], *, cells: int | None = None, each: Callable[[str, int, int], None] | None = None
) -> list[Record]:
    """The records of an experiment on some stages, one a seed. A cell that is done is kept, and not done again.

    Args:
        chosen: the experiment.
        stages: one for each seed.
        cells: how many of its cells to do; all by default.
        each: called with the cell's name, how many are done, and of how many.

    Raises:
        InputError: where something that it needs is not there, or the folder holds a run of other settings.
    """
    found: list[Record] = []
    for stage in stages:
        _settle(stage)
        work = list(chosen.cells(stage).items())[:cells]
        if not work:
            raise InputError(f"{chosen.name} has nothing to run at the scale {stage.scale}: what it compares is not to be had there.")
        assert len({slug(name) for name, _ in work}) == len(work), f"two cells of {chosen.name} would share a file"
        for done, (name, cell) in enumerate(work):
            if each is not None:
                each(f"{chosen.name}, seed {stage.seed}: {name}", done, len(work))
            path = _path(chosen, stage, name)
            if not path.exists():
                began = time.perf_counter()
                made = [_told(record, stage.seed) for record in cell()]
                _put(path, {"about": about(stage), "seconds": round(time.perf_counter() - began, 2), "records": [plain(record) for record in made]})
            found += _kept(path, stage)[0]
    return found


def seconds(chosen: Experiment, stages: Iterable[Stage]) -> float:
    """How long the cells that are done took, when they were."""
    places = [(_path(chosen, stage, name), stage) for stage in stages for name in chosen.cells(stage)]
    return sum(_kept(path, stage)[1] for path, stage in places if path.exists())


def about(stage: Stage) -> dict[str, object]:
    """What must be the same for a cell that is done to be the one that is asked for."""
    names = ("scale", "seed", "limit", "model", "preprocess", "random_weights", "smoke")
    return {name: getattr(stage, name) for name in names}


def _told(record: Record, seed: int) -> Record:
    """A record of a seed, without figures that are not told, such as the correlation of what does not vary: a table has nothing there."""
    values = {name: value for name, value in record.values.items() if math.isfinite(value)}
    intervals = {name: ends for name, ends in record.intervals.items() if name in values and all(map(math.isfinite, ends))}
    return Record(record.of, values, intervals, seed)


def _path(chosen: Experiment, stage: Stage, name: str) -> Path:
    return stage.place / "cells" / chosen.name / f"{slug(name)}.json"


def _settle(stage: Stage) -> None:
    """Keeps a folder to one set of settings: networks lie in it under names that do not tell them."""
    path, mine = stage.out / "settings.json", {name: value for name, value in about(stage).items() if name != "seed"}
    if not path.exists():
        return _put(path, mine)
    told = _read(path, "Delete it if you know that all in that folder has the same settings")
    wrong = [f"{name} was {told.get(name)} and is {value}" for name, value in mine.items() if told.get(name) != value]
    if wrong:
        raise InputError(f"{stage.out} holds experiments with other settings: {', '.join(wrong)}. Give another folder with --out.")


def _read(path: Path, do: str) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}). {do}.") from error
    return told


def _kept(path: Path, stage: Stage) -> tuple[Sequence[Record], float]:
    """The records of a cell that is done, and the seconds it took."""
    do = "Delete it, and that cell is done again"
    told = _read(path, do)
    try:
        records, took = [read(one) for one in told["records"]], float(told.get("seconds", 0.0))
        same = told["about"] == about(stage)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}). {do}.") from error
    if not same:
        raise InputError(f"{path} is of other settings: {told['about']}. {do}, or give another folder with --out.")
    return records, took


def _put(path: Path, value: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: partial.write_text(json.dumps(value, indent=1, allow_nan=False), "utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. Make room, and run the same command again.") from error

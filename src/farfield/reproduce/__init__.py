"""The tables and figures of the four papers, each as an experiment: on Glyphs, or with the papers' classifiers and data sets on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from farfield.errors import InputError, nearest
from farfield.files import put
from farfield.reproduce import mos, sft, vit
from farfield.reproduce.base import Experiment, Record, plain, read
from farfield.reproduce.networks import slug
from farfield.reproduce.stage import SCALES, Scale, Stage

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in (*mos.EXPERIMENTS, *sft.EXPERIMENTS, *vit.EXPERIMENTS)}

__all__ = ["EXPERIMENTS", "SCALES", "Experiment", "Record", "Scale", "Stage", "experiment", "run"]


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
        work = list(chosen.cells(stage).items())[:cells]
        for done, (name, cell) in enumerate(work):
            if each is not None:
                each(f"{chosen.name}, seed {stage.seed}: {name}", done, len(work))
            path = stage.place / "cells" / chosen.name / f"{slug(name)}.json"
            known = _kept(path, stage)
            if known is None:
                known = [Record(record.of, record.values, record.intervals, stage.seed) for record in cell()]
                _keep(path, stage, known)
            found += known
    return found


def about(stage: Stage) -> dict[str, object]:
    """What must be the same for a cell that is done to be the one that is asked for."""
    names = ("scale", "seed", "limit", "model", "preprocess", "random_weights", "smoke")
    return {name: getattr(stage, name) for name in names}


def _kept(path: Path, stage: Stage) -> Sequence[Record] | None:
    if not path.exists():
        return None
    try:
        told = json.loads(path.read_text("utf-8"))
        same, records = told["about"] == about(stage), [read(one) for one in told["records"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}). Delete it, and that cell is done again.") from error
    if not same:
        raise InputError(f"{stage.out} holds the same experiment with other settings ({path} says {told['about']}). Give another folder with --out.")
    return records


def _keep(path: Path, stage: Stage, records: Sequence[Record]) -> None:
    told = json.dumps({"about": about(stage), "records": [plain(record) for record in records]}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: partial.write_text(told, "utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. Make room, and run the same command again.") from error

"""Trials and what came of them, in memory and in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from farfield.detectors.base import Setting
from farfield.errors import InputError
from farfield.files import put

Metric = Literal["auroc", "fpr"]
FORMAT = 1


@dataclass(frozen=True)
class Figures:
    """How well a trial tells a set, or the mean of the sets, from the calibration data; each with its 95 % interval."""

    auroc: float
    auroc_interval: tuple[float, float]
    fpr_at_95_tpr_id: float
    fpr_at_95_tpr_id_interval: tuple[float, float]


@dataclass(frozen=True)
class Trial:
    """One choice of options and what came of it.

    Args:
        detector: as `parse` reads it.
        options: every option of the grid, with its value.
        sets: figures of each validation set; none where the trial was refused.
        mean: of the mean over the sets.
        seconds: to fit and to score.
        refused: why there are no figures.
        warnings: what fitting warned of.
    """

    detector: str
    options: Mapping[str, Setting]
    sets: Mapping[str, Figures] = field(default_factory=dict)
    mean: Figures | None = None
    seconds: float = 0.0
    refused: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuning:
    """Every trial, and which to take; the first has the default options.

    Args:
        detector: what was tuned, as `parse` reads it.
        metric: by which, `auroc` or `fpr`, over the mean of the sets.
        trials: in the order they were made.
        best: the trial with the best mean, the default among equals; `None` before the end.
        chosen: `best` where it is significantly better than the default, else the default.
        reason: why, in a sentence.
        n_id: calibration samples. n_ood: samples of each validation set.
        let_through: the overlaps that were let through by name.
        inputs: a hash of each of the data.
        command: what a person typed. environment: versions and machine.
    """

    detector: str
    metric: Metric
    trials: Sequence[Trial]
    n_id: int
    n_ood: Mapping[str, int]
    inputs: Mapping[str, str]
    let_through: Sequence[Mapping[str, Any]] = ()
    best: int | None = None
    chosen: int | None = None
    reason: str = ""
    command: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON has it, where the default, the best and the chosen trial have their detectors' names."""
        places = {"default": 0 if self.trials else None, "best": self.best, "chosen": self.chosen}
        return {"format": FORMAT, **asdict(self), **{key: None if place is None else self.trials[place].detector for key, place in places.items()}}


def write(tuning: Tuning, path: Path) -> None:
    """Raises `InputError` when the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: partial.write_text(json.dumps(tuning.plain(), indent=1), "utf-8", errors="backslashreplace"))
    except OSError as error:
        raise InputError(f"The trials cannot be written to {path}: {error.strerror or error}. Make room, or give another file.") from error


def known(path: Path, tuning: Tuning) -> dict[str, Trial]:
    """The trials in a file that is of the same data and version, by detector.

    Raises:
        InputError: when the file is something else, which is not to be lost.
    """
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
        if value["format"] == FORMAT and value["inputs"] == tuning.inputs and value["environment"]["farfield"] == tuning.environment["farfield"]:
            return {entry["detector"]: _trial(entry) for entry in value["trials"]}
        return {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is there and is no record of `farfield tune`. Give another file, or remove it.") from error


def _trial(entry: dict[str, Any]) -> Trial:
    def figures(of: dict[str, Any]) -> Figures:
        return Figures(of["auroc"], tuple(of["auroc_interval"]), of["fpr_at_95_tpr_id"], tuple(of["fpr_at_95_tpr_id_interval"]))

    sets, mean = {name: figures(of) for name, of in entry["sets"].items()}, entry["mean"]
    return Trial(**{**entry, "sets": sets, "warnings": tuple(entry["warnings"]), "mean": None if mean is None else figures(mean)})

"""What has been reproduced: the committed records of experiments, and the dry runs at full scale."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farfield.errors import InputError
from farfield.reproduce.base import Experiment, Record, plain, read
from farfield.reproduce.tables import value_of
from farfield.reproduce.texts import held

FOLDER = Path(__file__).with_name("results")
DRY = "dry_runs.json"


@dataclass(frozen=True)
class Result:
    """An experiment that was run.

    Args:
        experiment: its name.
        scale: `glyphs` or `full`.
        date: when, as 2026-11-29.
        command: what does it again.
        machine: on what.
        seeds: which.
        seconds: that its cells took, training of networks that do not ship included.
        records: what came of it.
    """

    experiment: str
    scale: str
    date: str
    command: str
    machine: str
    seeds: tuple[int, ...]
    seconds: float
    records: tuple[Record, ...]

    def value(self, chosen: Experiment) -> dict[str, Any]:
        """What there is to say of it."""
        return value_of(chosen, self.records, scale=self.scale, command=self.command)


@dataclass(frozen=True)
class DryRun:
    """An experiment of the full scale whose code ran, with random weights and few pictures; or what it lacked."""

    date: str
    command: str
    machine: str
    seconds: float
    lacks: str = ""


def path_of(name: str, scale: str, folder: Path = FOLDER) -> Path:
    """Where a result lies."""
    return folder / (f"{name}.json" if scale == "glyphs" else f"{name}-{scale}.json")


def to_text(result: Result) -> str:
    """A result as its file has it."""
    return json.dumps({**asdict(result), "records": [plain(one) for one in result.records]}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def result(name: str, scale: str = "glyphs", folder: Path = FOLDER) -> Result | None:
    """The result of an experiment at a scale, `None` where there is none.

    Raises:
        InputError: when its file is something else; says where.
    """
    path = path_of(name, scale, folder)
    if not path.exists():
        return None
    told = _object(path)
    try:
        found = Result(
            **{key: str(told[key]) for key in ("experiment", "scale", "date", "command", "machine")},
            seeds=tuple(map(int, told["seeds"])),
            seconds=float(told["seconds"]),
            records=tuple(read(one) for one in told["records"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}") from error
    if (found.experiment, found.scale) != (name, scale):
        raise _wrong(path, f"it is of {found.experiment} at the scale {found.scale}")
    return found


def dry_runs(folder: Path = FOLDER) -> dict[str, DryRun]:
    """The dry runs by experiment.

    Raises:
        InputError: when their file is something else.
    """
    path = folder / DRY
    if not path.exists():
        return {}
    try:
        return {
            name: DryRun(str(one["date"]), str(one["command"]), str(one["machine"]), float(one["seconds"]), str(one.get("lacks", "")))
            for name, one in _object(path).items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}") from error


def _object(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(path, str(error) or type(error).__name__) from error
    return told


def _wrong(path: Path, why: str) -> InputError:
    return InputError(f"{path} cannot be read as what an experiment came to: {why}. Make it again with experiments/reproductions.py.")


# --- status -----------------------------------------------------------------------------------------------------------------------------------


def statuses(experiments: Iterable[Experiment], folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Of each experiment what it is, and at each scale whether it has been reproduced, when, by which command, and what came of it."""
    dry = dry_runs(folder)
    found = []
    for one in experiments:
        about = {"name": one.name, "paper": one.paper, "place": one.place, "what": one.what, "suite": one.suite}
        found.append({**about, "glyphs": _status(one, "glyphs", None, folder), "full": _status(one, "full", dry.get(one.name), folder)})
    return found


def _status(one: Experiment, scale: str, dry: DryRun | None, folder: Path) -> Mapping[str, Any]:
    known = result(one.name, scale, folder)
    if known is not None:
        claims = known.value(one)["claims"]
        told = {"state": "reproduced", "said": f"{known.date}, {_many(known.seeds)}: {held(claims)}", "claims": claims}
        return {**told, "date": known.date, "command": known.command, "seeds": list(known.seeds), "seconds": known.seconds, "machine": known.machine}
    command = f"farfield reproduce {one.name}" + (" --scale full --root DIR" if scale == "full" else "")
    if dry is not None and dry.lacks:
        return {"state": "not run", "said": f"not run: {dry.lacks}", "why": dry.lacks, "command": command}
    if dry is not None:
        why = "the papers' data sets and weights were not at hand"
        return {
            "state": "dry run",
            "said": f"{dry.date}: dry run only, {why}",
            "why": why,
            "command": command,
            **{f"dry_{k}": v for k, v in asdict(dry).items()},
        }
    return {"state": "not run", "said": "not run", "command": command}


def _many(seeds: tuple[int, ...]) -> str:
    return f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"

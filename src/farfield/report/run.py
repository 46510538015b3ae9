"""The page of a training run: `run.html`, from what the run left in its folder."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from farfield.errors import InputError
from farfield.report.page import assembled
from farfield.report.render import Value, percent, put_text
from farfield.training import Recipe

FIRST = ("objective", "augment", "epochs", "steps", "batch_size", "lr", "schedule", "optimizer", "weight_decay", "layers", "seed")  # always in sight
RECORD = ("epoch", "loss", "accuracy", "lr", "seconds")
REACHED = {
    "before": "objective before",
    "after": "objective after",
    "gradient": "norm of its gradient after",
    "distance": "distance from the optimum, at most, over the norm of the weights",
    "iterations": "steps of L-BFGS",
    "passes": "passes over the features",
    "accuracy_before": "accuracy on these samples before, %",
    "accuracy_after": "accuracy on these samples after, %",
}


def write_run_page(folder: str | Path) -> Path:
    """Writes `run.html` into a run folder, beside what it is made of, and returns its path.

    Args:
        folder: with `recipe.json`, `metrics.jsonl` (a run of AugDelete alone has none) and, where accuracy was measured, `accuracy.json`.

    Raises:
        InputError: when a file is missing or is something else; says which, and where in it.
    """
    return put_text(Path(folder) / "run.html", assembled(content(Path(folder)), "run"))


def content(folder: Path) -> dict[str, Any]:
    """What the page shows, as one plain value."""
    path = folder / "recipe.json"
    told = _object(path, "Give the folder of a run of `farfield train` or `farfield finetune`")
    for name in ("name", "model"):
        if not (isinstance(told.get(name), str) and told[name]):
            raise _wrong(path, f"it has no {name}", "Give the folder of a run of `farfield train` or `farfield finetune`")
    start = told.get("start")
    shared = {
        "title": f"{told['name']}: {told['model']}",
        "start": "trained from random weights" if start is None else f"trained further from {_text(start)}",
        "command": command(folder, told),
        "accuracy": _accuracy(folder / "accuracy.json"),
    }
    of = _data(told)
    if told["name"] in ("augdelete", "soup") and "recipe" not in told:
        reached = told.get("reached")
        if not isinstance(reached, dict):
            raise _wrong(path, "it does not say what was reached", "Run the same command again")
        own = [[name, _text(told[name])] for name in ("fraction", "penalty", "seed") if name in told]
        return {**shared, "summary": "", "epochs": [], "settings": of + own, "rest": [], "reached": [_reached(*item) for item in reached.items()]}
    try:
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told["recipe"].items()}
        if not isinstance(given.get("options", {}), dict):
            raise TypeError("options are no JSON object")
        recipe = Recipe(**given)
        settings, rest = _settings(recipe)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}", "Give the folder of a run, with its recipe.json as the run wrote it") from error
    epochs = _records(folder / "metrics.jsonl")
    return {
        **shared,
        "summary": _summary(recipe, epochs),
        "epochs": epochs,
        "settings": of + settings,
        "rest": rest,
        "reached": _after(folder / "augdelete.json"),
    }


def command(folder: Path, told: Value) -> str:
    """What a person types to have the run again, in a folder `NEW`."""
    start, path = told.get("start"), folder / "recipe.json"
    options = {"features": told.get("features"), "class-map": told.get("class_map")}
    if told["name"] == "augdelete":
        options |= {name: told.get(name) for name in ("data", "val", "limit", "fraction", "penalty", "seed")}
        words: list[Any] = ["finetune", "augdelete", "--model", told["model"] if start is None else start]
    elif told["name"] == "soup":
        options |= {name: told.get(name) for name in ("data", "val", "limit")}
        words = ["soup", *told["soup"], *(["--greedy"] if told.get("greedy") else [])]
    elif start is None:
        words = ["train", "--recipe", path]
    else:
        words, options["limit"] = ["finetune", path, "--model", start], told.get("limit")
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return shlex.join(["farfield", *map(str, [*words, *given, "--out", "NEW"])])


# --- files ------------------------------------------------------------------------------------------------------------------------------------


def _wrong(place: Path | str, what: str, do: str) -> InputError:
    return InputError(f"{place} cannot be read as that of a training run: {' '.join(what.split()).rstrip('.')}. {do}.")


def _parsed(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _object(path: Path, do: str) -> dict[str, Any]:
    try:
        return _parsed(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(path, _why(error), do) from error


def _why(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__


def _number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and low <= value <= high


def _records(path: Path) -> list[dict[str, Any]]:
    """The records of the epochs."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise _wrong(path, _why(error), "A run writes it when an epoch is through: start the same command again, and it goes on") from error
    found = []
    for i, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = _parsed(line)
            bad = [name for name in RECORD if not _number(record.get(name))] + ["unreadable"] * (not _number(record.get("unreadable", 0)))
            if bad:
                raise ValueError(f"{bad[0]} is no number" if bad[0] in record else f"it has no {bad[0]}")
        except (ValueError, RecursionError) as error:
            raise _wrong(f"{path}, line {i},", _why(error), "Mend that line, or take it out") from error
        found.append({name: record.get(name, 0) for name in (*RECORD, "unreadable")})
    if not found:
        raise _wrong(path, "there is no epoch in it", "Start the same command again, and it goes on")
    return found


def _accuracy(path: Path) -> list[dict[str, Any]]:
    """The accuracies on pictures held apart, with intervals, as shares; none where there is no file."""
    if not path.exists():
        return []
    do = "Delete it, and the page does without; the same command again measures anew"
    told, found = _object(path, do), []
    for what in ("before", "after"):
        figure = told.get(what)
        if figure is None and what == "before":
            continue
        if not (isinstance(figure, dict) and isinstance(figure.get("interval"), list)):
            raise _wrong(path, f"{what} has no accuracy with its interval", do)
        row, n = [figure.get("accuracy"), *figure["interval"]], figure.get("n")
        if len(row) != 3 or not all(_number(value, 0, 1) for value in row) or not _number(n, 1):
            raise _wrong(path, f"{what} is no accuracy in [0, 1] with its interval and the number of pictures", do)
        found.append({"what": what, "figure": row, "n": n})
    return found


# --- texts ------------------------------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """A setting as `--set` takes it.

    >>> _text(("crop", "flip")), _text(()), _text(False), _text(1 / 3)
    ('crop/flip', 'none', 'false', '0.333333')
    """
    if value is None or value in ((), []):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "/".join(map(str, value)) if all(isinstance(one, str) for one in value) else "/".join(map(_text, value))
    return str(value)


def _data(told: Value) -> list[list[str]]:
    """What was trained, and on what."""
    names = {"model": "model", "start": "starts from", "data": "training data", "features": "outputs trained on", "val": "validation data"}
    rows = {label: told.get(name) for name, label in names.items()} | {"pictures at most": told.get("limit"), "class map": told.get("class_map")}
    rows["starts from"] = rows["starts from"] or "random weights"
    groups = told.get("groups")
    if isinstance(groups, Sequence) and groups and all(isinstance(one, Sequence) for one in groups):
        sizes = sorted(map(len, groups))
        rows["groups of classes"] = f"{len(sizes)}, of {sizes[0]} to {sizes[-1]} classes"
    return [[label, _text(value)] for label, value in rows.items() if value is not None]


def _settings(recipe: Recipe) -> tuple[list[list[str]], list[list[str]]]:
    """The settings that say most: those of `FIRST`, and all that is not as it is by default; and the others."""
    usual = asdict(Recipe())
    first: list[list[str]] = []
    rest: list[list[str]] = []
    idle = "epochs" if recipe.steps else "steps"  # does nothing beside the other
    for name, value in asdict(recipe).items():
        if name == "options":
            first += [[str(option), _text(chosen)] for option, chosen in value.items()]
        else:
            (first if name != idle and (name in FIRST or value != usual[name]) else rest).append([name, _text(value)])
    return first, rest


def _after(path: Path) -> list[list[str]]:
    """What AugDelete reached where it followed."""
    return [_reached(*item) for item in _object(path, "Run the same command again").items()] if path.exists() else []


def _reached(name: str, value: Any) -> list[str]:
    """What AugDelete reached, a line of the table."""
    share = name.startswith("accuracy") and _number(value, 0, 1)
    return [REACHED.get(name, name), percent(value) if share else _text(value)]


def _summary(recipe: Recipe, epochs: Sequence[Mapping[str, Any]]) -> str:
    """The run in two or three sentences."""
    last, n = epochs[-1], len(epochs)
    short = not recipe.steps and n < recipe.epochs
    many = f"{n} of {recipe.epochs} epochs so far" if short else f"{n} epoch{'' if n == 1 else 's'}"
    said = f"{many}, in {duration(sum(one['seconds'] for one in epochs))}. In the last, loss {last['loss']:.4g}, and of the training pictures"
    said += f" as they were shown {percent(last['accuracy'])} % told rightly."
    unread = max(one["unreadable"] for one in epochs)
    if unread:
        said += f" {unread} picture{'' if unread == 1 else 's'} in an epoch could not be read; others stood in for them."
    return said


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(9.25), duration(200), duration(7322)
    ('9.2 s', '3 min 20 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

"""Pools of classifiers: a query over timm's names, a list, a CSV file, a folder of runs, or names; each with what is known of how it was trained."""

from __future__ import annotations

import csv
import difflib
import fnmatch
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from farfield.errors import InputError, nearest
from farfield.models.zoo import augreg

MODEL, NAME = "model", "name"  # columns of a CSV file: what the classifier is, and, where there is such a column, what tables call it
LISTS = (".csv", ".txt", ".lst")
NONE = "none"  # of an option that a recipe's objective does not have
DROPPED = ("name", "file")  # columns of the zoo's table that name a model and do not say how it was trained
Setting = str | float | None


@dataclass(frozen=True)
class Entry:
    """A classifier of a pool.

    Args:
        name: what tables call it.
        model: what `Classifier.load` takes.
        metadata: how it was trained, a column each; what is not known is `None` or is not there.
    """

    name: str
    model: str
    metadata: Mapping[str, Setting] = field(default_factory=dict)


def pool(texts: Sequence[str]) -> list[Entry]:
    """The classifiers that some texts mean, in order.

    Args:
        texts: each a name that `Classifier.load` takes, `timm:` and a pattern with `*`, `?` or `[`, a text file with a name a line, a CSV file with a
            column `model` (and `name`, where tables are to call it otherwise), a run, or a folder of runs.

    Raises:
        InputError: for a file that cannot be read, one without the column, a pattern or folder with nothing in it, and a name that is there twice.

    >>> [entry.name for entry in pool(["timm:resnet18.a?_in1k", "glyphs-200-vit"])]
    ['timm:resnet18.a1_in1k', 'timm:resnet18.a2_in1k', 'timm:resnet18.a3_in1k', 'glyphs-200-vit']
    """
    found = [entry for text in texts for entry in _meant(text)]
    if not found:
        raise InputError("The pool is empty: name classifiers, a list of them, a folder of runs, or a pattern such as 'timm:vit_*augreg*'.")
    names = [entry.name for entry in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"The pool has {twice!r} {names.count(twice)} times. Leave all but one out.")
    return _filled(found)


def _meant(text: str) -> Iterable[Entry]:
    path = Path(text)
    if path.suffix.lower() in LISTS:
        return _csv(path) if path.suffix.lower() == ".csv" else _list(path)
    if path.is_dir() and not (path / "model.safetensors").exists():
        return _folder(path)
    if path.is_file() and path.suffix != ".safetensors":
        return _list(path)
    return _named(text)


def _named(text: str) -> Iterable[Entry]:
    """A name, or all of timm's that a pattern matches."""
    kind, colon, rest = text.partition(":")
    if kind == "timm" and colon and any(c in rest for c in "*?["):
        return [_timm(name) for name in _matching(rest)]
    if kind == "timm" and colon:
        return [_timm(rest)]
    path = Path(text)
    if path.is_dir() or path.suffix == ".safetensors":
        return [Entry(text, text, of_run(path) if path.exists() else {})]
    return [Entry(text, text)]


def _matching(pattern: str) -> list[str]:
    import timm

    known = timm.list_models(pretrained=True)
    found = [name for name in known if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.partition(".")[0], pattern)]
    if not found:
        near = difflib.get_close_matches("".join(c for c in pattern if c not in "*?[]"), known, 3, 0.3)
        said = f" The nearest names are {', '.join(near)}." if near else ""
        raise InputError(f"No model of timm with weights matches {pattern!r}.{said} `*` stands for any letters, as in 'timm:vit_*augreg*'.")
    return found


def _timm(name: str) -> Entry:
    """A model of timm, with what the names of the augreg and CLIP pool tell."""
    base, _, tag = name.partition(".")
    told = next((one.columns() for one in augreg.pool() if one.name == name), {})
    return Entry(f"timm:{name}", f"timm:{name}", {"architecture": base, **({} if told else {"weights": tag or None}), **_without(told, DROPPED)})


def _without(told: Mapping[str, Setting], names: Sequence[str]) -> dict[str, Setting]:
    return {key: value for key, value in told.items() if key not in names}


# --- files ----------------------------------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"The list {path} cannot be read: {said}. Give a text file with a classifier a line, or CSV with a column `{MODEL}`."
        ) from error


def _list(path: Path) -> Iterable[Entry]:
    names = [line.strip() for line in _lines(path) if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise InputError(f"The list {path} names no classifier. Write one a line.")
    return [_renamed(entry, name) for name in names for entry in _named(_beside(path, name))]


def _renamed(entry: Entry, name: str) -> Entry:
    """With the name that a file has for it, where that is no pattern."""
    return entry if entry.model.startswith("timm:") else Entry(name, entry.model, entry.metadata)


def _csv(path: Path) -> Iterable[Entry]:
    lines = _lines(path)
    rows = csv.DictReader(lines, skipinitialspace=True)
    try:
        columns = [str(name).strip() for name in rows.fieldnames or ()]
        table = list(rows)
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as CSV: {error}. Write a header with `{MODEL}`, and a classifier a line.") from error
    if MODEL not in columns:
        raise InputError(
            f"{path} has no column `{MODEL}`{nearest(MODEL, columns)} Its columns are: {', '.join(columns) or 'none'}. Name the classifiers in it."
        )
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise InputError(f"{path} has two columns {twice!r}. Give each a name of its own.")
    if not table:
        raise InputError(f"{path} names no classifier: there is no line after the header.")
    found: list[Entry] = []
    for number, row in enumerate(table, 2):
        cells = {str(key).strip(): str(value or "").strip() for key, value in row.items() if key is not None}
        if None in row or not cells[MODEL]:
            wrong = "more cells than the header" if None in row else f"nothing in the column `{MODEL}`"
            raise InputError(f"{path} has {wrong} in line {number}. Mend that line.")
        mine, called = {name: read(value) for name, value in cells.items() if name not in (MODEL, NAME)}, cells.get(NAME) or cells[MODEL]
        for each in _named(_beside(path, cells[MODEL])):
            one = Entry(called, each.model, each.metadata) if cells.get(NAME) else _renamed(each, called)
            found.append(Entry(one.name, one.model, {**one.metadata, **mine}))
    return found


def _beside(path: Path, name: str) -> str:
    """A name in a file, which may be a path relative to that."""
    there = path.parent / name
    return str(there) if name and not Path(name).is_absolute() and there.exists() else name


def read(text: str) -> Setting:
    """A cell: a number where it is one, `None` where it is empty.

    >>> read("0.10"), read("i21k"), read(""), read("nan")
    (0.1, 'i21k', None, 'nan')
    """
    try:
        number = float(text)
    except ValueError:
        return text or None
    return number if math.isfinite(number) else text


# --- runs -----------------------------------------------------------------------------------------------------------------------------------


def _folder(path: Path) -> Iterable[Entry]:
    """The runs in a folder, at any depth, and the classifier files that lie in it."""
    places = [*path.glob("*.safetensors"), *(file.parent for file in path.rglob("model.safetensors") if file.parent != path)]
    if not places:
        raise InputError(
            f"The folder {path} holds no runs: there is no .safetensors file in it and no sub-folder with a model.safetensors. Give a folder of `farfield train` runs."
        )
    return [Entry(place.relative_to(path).as_posix().removesuffix(".safetensors"), str(place), of_run(place)) for place in sorted(places)]


def of_run(place: Path) -> dict[str, Setting]:
    """How a classifier was trained, by the `recipe.json` of its run folder, else by the facts in its file; nothing where they do not say.

    Columns are the recipe's name, the `architecture`, what training started from (`start`), and the settings of the recipe and of its objective.
    """
    told: Any = None
    if place.is_dir():
        try:
            told = json.loads((place / "recipe.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            told = None
    facts = _facts(place / "model.safetensors" if place.is_dir() else place)
    architecture = facts.get("source") or facts.get("architecture")
    if not isinstance(told, dict):
        told = next((facts[key] for key in ("about", "recipe") if isinstance(facts.get(key), dict)), {})
    if "objective" in told:  # the settings alone
        told = {"recipe": told}
    settings = told.get("recipe") if isinstance(told.get("recipe"), dict) else {}
    found: dict[str, Any] = {"architecture": architecture or told.get("model")}
    if told:
        found |= {"recipe": told.get("name"), "start": told.get("start") or "random weights"}
    found |= {name: value for name, value in settings.items() if name != "options"}
    options = settings.get("options") or {}
    if isinstance(options, dict):
        found |= {f"{name} of objective" if name in found else name: value for name, value in options.items()}
    return {name: _setting(value) for name, value in found.items() if value is not None}


def _facts(path: Path) -> dict[str, Any]:
    """The facts in a file's header, without its tensors; none where there are none, which loading it will say."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("farfield", "{}"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _setting(value: Any) -> Setting:
    """A value of a recipe as a cell: a number, or a text; several as one text.

    >>> _setting(["crop", "flip"]), _setting([]), _setting(True), _setting(0.3)
    ('crop+flip', 'none', 'yes', 0.3)
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return "+".join(map(str, value)) or NONE
    return str(value) or NONE


def _filled(entries: list[Entry]) -> list[Entry]:
    """With `none` for the options that the recipe of a run does not have and others' have: to lack label smoothing is a setting, not a gap."""
    runs = [entry for entry in entries if "objective" in entry.metadata]
    options = dict.fromkeys(name for entry in runs for name in entry.metadata if name not in ("architecture", "recipe", "start"))
    lacking = {entry.name: {name: NONE for name in options if name not in entry.metadata} for entry in runs}
    return [Entry(entry.name, entry.model, {**entry.metadata, **lacking.get(entry.name, {})}) for entry in entries]

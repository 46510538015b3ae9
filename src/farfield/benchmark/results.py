"""What a benchmark found: rows of figures, and what they stand on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from farfield.errors import FarfieldWarning, InputError

LONGEST = 1e12  # seconds that a stage may have taken


@dataclass
class Row:
    """One detector of one classifier on one OOD set; on the mean of a group's sets where `ood` is `None`."""

    classifier: str
    detector: str
    suite: str
    ood: str | None
    group: str
    auroc: float
    auroc_interval: tuple[float, float]
    fpr_at_95_tpr_id: float
    fpr_at_95_tpr_id_interval: tuple[float, float]
    fpr_at_95_tpr_ood: float
    ap_id: float
    ap_ood: float
    n_id: int
    n_ood: int
    sources: int | None = None  # how many sources the OOD pictures are from, where they share some
    rank: int | None = None  # 1 + the number of detectors in `beaten_by`; none for parts of sets and for `shifted` ones
    beaten_by: list[str] | None = None  # detectors whose AUROC is significantly better on the same pictures
    fpr_beaten_by: list[str] | None = None  # likewise, whose fpr_at_95_tpr_id is


@dataclass
class Results:
    """What a benchmark found; `asdict` of it is `results.json`."""

    rows: list[Row] = field(default_factory=list)
    classifiers: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)  # pictures that are in no figure, with the reason
    refused: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    suites: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    papers: dict[str, str] = field(default_factory=dict)  # of each detector, as `citations` knows them
    command: str | None = None  # what a person typed

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def read(path: str | Path) -> tuple[dict[str, Any], Path]:
    """The content of a `results.json`, checked, and the folder it is in.

    Args:
        path: the file, or its folder.

    Raises:
        InputError: when it cannot be read, or is something else; says which entry.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path /= "results.json"
        value = json.loads(path.read_text("utf-8"))
        return checked(value), path.parent
    except (OSError, ValueError, TypeError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise InputError(
            f"{path} cannot be read as the results of `farfield bench`: {said.rstrip('.')}. Give the results.json of a run, or its folder."
        ) from error


def checked(value: Any) -> dict[str, Any]:
    """The results with every key that reports look at; those that older versions lack are empty.

    Raises:
        ValueError: where an entry is missing or of another kind.
    """
    if not isinstance(value, Mapping) or "rows" not in value:
        raise ValueError("it has no rows")
    found = {**Results().plain(), **value}
    found["rows"] = [_entry(f"rows[{i}]", row, _ROW) for i, row in enumerate(_list("rows", found["rows"]))]
    for name, kinds in _ENTRIES.items():
        found[name] = [_entry(f"{name}[{i}]", entry, kinds) for i, entry in enumerate(_list(name, found[name]))]
    for name in ("cost", "environment", "papers"):
        if not isinstance(found[name], Mapping):
            raise ValueError(f"{name} is not an object")
    if not all(isinstance(paper, str) for paper in found["papers"].values()) or not isinstance(found["command"], str | None):
        raise ValueError("papers and command are not texts")
    _check_cost(found["cost"])
    _check_rows(found["rows"])
    return found


def _check_cost(cost: Mapping[str, Any]) -> None:
    """Seconds by stage, and by detector and stage."""
    detectors = cost.get("per_detector", {})
    if not isinstance(detectors, Mapping) or not all(isinstance(stages, Mapping) for stages in detectors.values()):
        raise ValueError("cost has no objects of seconds in per_detector")
    for stages in ({k: v for k, v in cost.items() if k != "per_detector"}, *detectors.values()):
        for stage, seconds in stages.items():
            if not isinstance(seconds, int | float) or not 0 <= seconds < LONGEST:
                raise ValueError(f"cost has {seconds!r:.60} for {stage}")


def _check_rows(rows: list[dict[str, Any]]) -> None:
    """Every detector of a classifier has been judged on the same sets, once."""
    judged: dict[tuple[str, str], dict[str, list[tuple[Any, ...]]]] = {}
    for i, row in enumerate(rows):
        if 0 in (row["n_id"], row["n_ood"]):
            raise ValueError(f"rows[{i}] is of no images")
        judged.setdefault((row["suite"], row["classifier"]), {}).setdefault(row["detector"], []).append((row["ood"], row["group"]))
    for (_, classifier), detectors in judged.items():
        sets = set().union(*detectors.values())
        for detector, mine in detectors.items():
            for ood, group in sets:
                if mine.count((ood, group)) != 1:
                    raise ValueError(f"rows have {detector} of {classifier} on {ood or 'the mean'} ({group}) {mine.count((ood, group))} times")


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


Kinds = Mapping[str, tuple[Callable[[Any], bool], bool]]  # of each key: whether a value is fine, and whether it must be there


def _entry(where: str, entry: Any, kinds: Kinds) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is not an object")
    for key, (fine, needed) in kinds.items():
        if key not in entry and needed:
            raise ValueError(f"{where} has no {key}")
        if key in entry and not fine(entry[key]):
            raise ValueError(f"{where} has {key} {entry[key]!r:.60}")
    if "id_accuracy" in kinds and (entry["id_accuracy"] is None) != (entry["id_accuracy_interval"] is None):
        raise ValueError(f"{where} has id_accuracy or its interval alone")
    return {**entry, **{key: None for key in kinds if key not in entry}}


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _interval(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_share, value)) and value[0] <= value[1]


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _or_none(fine: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fine(value)


def _texts(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(map(_text, value)))


def _table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(entry, str | None) for entry in value.values())


_KINDS: dict[str, Callable[[Any], bool]] = {"str": _text, "float": _share, "tuple[float, float]": _interval, "int": _whole}
_KINDS["list[str]"] = _texts
_KINDS |= {f"{name} | None": _or_none(fine) for name, fine in _KINDS.items()}
_ROW: Kinds = {f.name: (_KINDS[str(f.type)], f.default is MISSING) for f in fields(Row)}
_ENTRIES: dict[str, Kinds] = {
    "classifiers": {
        **dict.fromkeys(("name", "suite"), (_text, True)),
        "fingerprint": (_or_none(_text), False),
        "id_accuracy": (_or_none(_share), True),
        "id_accuracy_interval": (_or_none(_interval), True),
        "classes": (_whole, True),
        "class_names": (_texts, False),
    },
    "suites": {"name": (_text, True), "note": (_text, True), "ood": (_table, True), "contents": (_or_none(_table), False)},
    "unreadable": dict.fromkeys(("classifier", "set", "name", "reason"), (_text, True)),
    "refused": dict.fromkeys(("classifier", "detector", "reason"), (_text, True)),
    "warnings": dict.fromkeys(("classifier", "detector", "message"), (_text, True)),
}


@contextmanager
def noting(results: Results, classifier: str) -> Iterator[None]:
    """Keeps what is warned of inside the `with` in the results; it is still shown."""
    said: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", FarfieldWarning)
            yield
    finally:
        for warning in said:
            if issubclass(warning.category, FarfieldWarning):
                results.warnings.append({"classifier": classifier, "detector": "", "message": str(warning.message)})
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@contextmanager
def quietly(results: Results, classifier: str, detector: str) -> Iterator[None]:
    """Keeps what a fit warns of in the results, and does not show it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", FarfieldWarning)
        yield
    results.warnings += [{"classifier": classifier, "detector": detector, "message": str(warning.message)} for warning in said]

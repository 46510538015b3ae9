"""What a column of metadata does: classifiers that differ in it alone, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from farfield import metrics
from farfield.errors import InputError
from farfield.study.figures import MEASURES, Figures
from farfield.study.pool import Setting

MOST = 6  # values of a column of which every pair is compared; of more, each with the most frequent one


def columns(metadata: Sequence[Mapping[str, Setting]]) -> list[tuple[str, ...]]:
    """The columns that vary, those that always vary together where both are known as one; what is not known of some varies too, since it may.

    >>> columns([{"lr": 0.1, "data": "i1k", "seen": 1.2}, {"lr": 0.1, "data": "i21k", "seen": 14.0}])
    [('data', 'seen')]
    """
    found: list[list[str]] = []
    for name in dict.fromkeys(name for told in metadata for name in told):
        if len({told.get(name) for told in metadata}) > 1:
            like = next((names for names in found if _together(metadata, names[0], name)), None)
            found.append([name]) if like is None else like.append(name)
    return [tuple(names) for names in found]


def _together(metadata: Sequence[Mapping[str, Setting]], one: str, other: str) -> bool:
    """Whether each of two columns tells the other, of at least two values."""
    both = {(told[one], told[other]) for told in metadata if told.get(one) is not None and told.get(other) is not None}
    return len(both) > 1 and len({a for a, _ in both}) == len({b for _, b in both}) == len(both)


def compared(values: Sequence[Setting]) -> Sequence[tuple[Setting, Setting]]:
    """Which values of a column are compared: each pair, the smaller number or the earlier text first; of more than `MOST`, each with the most frequent.

    >>> compared([0.3, None, 0.1, 0.3, 0.2])
    [(0.1, 0.2), (0.1, 0.3), (0.2, 0.3)]
    """
    known = [value for value in values if value is not None]
    ordered = sorted(set(known), key=lambda value: (isinstance(value, str), value))
    every = list(combinations(ordered, 2))
    if len(ordered) <= MOST:
        return every
    usual = max(ordered, key=known.count)
    return [pair for pair in every if usual in pair]


def matched(
    metadata: Sequence[Mapping[str, Setting]], group: Sequence[str], one: Setting, other: Setting, varying: Sequence[str]
) -> dict[Any, tuple[list[int], list[int]]]:
    """The classifiers with one value of a column and those with another, by all their other settings, where there are both.

    Returns:
        For each combination of other settings the places of those with `one` and of those with `other`; repetitions, as seeds that no column tells, are several.
    """
    found: dict[Any, tuple[list[int], list[int]]] = {}
    rest = [name for name in varying if name not in group]
    for place, told in enumerate(metadata):
        value = told.get(group[0])
        if value in (one, other) and value is not None:
            found.setdefault(tuple(told.get(name) for name in rest), ([], []))[value == other].append(place)
    return {key: sides for key, sides in found.items() if all(sides)}


def effects(figures: Figures, unit: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The mean differences of accuracy and of every detector's figures with each column that varies, and a note for each column without pairs.

    The difference of a pair is the mean of those with the second value less that of those with the first. The interval is Student's over pairs; where `unit` names a
    column, pairs whose classifiers have the same value of it are one, with their mean.

    Raises:
        InputError: where there is no column `unit`.
    """
    metadata = figures.metadata
    every = columns(metadata)
    varying = [name for names in every for name in names]
    if unit is not None and not any(unit in told for told in metadata):
        known = list(dict.fromkeys(name for told in metadata for name in told))
        raise InputError(f"There is no column {unit!r} to count pairs by. The metadata have: {', '.join(known) or 'none'}.")
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    for names in every:
        mine: list[dict[str, Any]] = []
        for one, other in compared([told.get(names[0]) for told in metadata]):
            sides = matched(metadata, names, one, other, varying)
            if sides:
                units = [_unit(metadata, both, unit, key) for key, both in sides.items()]
                about = {"columns": list(names), "from": one, "to": other, "pairs": len(sides)}
                mine += [{**about, **told} for told in _differences(figures, list(sides.values()), units)]
        found += mine
        if not mine:
            notes.append(f"{', '.join(names)}: n/a, no two classifiers differ in it alone.")
    return found, notes


def _unit(metadata: Sequence[Mapping[str, Setting]], sides: tuple[list[int], list[int]], unit: str | None, key: Any) -> Any:
    return key if unit is None else frozenset(metadata[place].get(unit) for side in sides for place in side)


def _differences(figures: Figures, sides: Sequence[tuple[list[int], list[int]]], units: Sequence[Any]) -> list[dict[str, Any]]:
    found = [{"detector": None, "target": None, "measure": "accuracy", **_mean(figures.accuracy, sides, units)}]
    for target in figures.means:
        for measure in MEASURES:
            for place, detector in enumerate(figures.detectors):
                about = {"detector": detector, "target": target, "measure": measure}
                found.append({**about, **_mean(figures.values[measure, target][:, place], sides, units)})
    return [one for one in found if one["units"]]


def _mean(values: Float[np.ndarray, " m"], sides: Sequence[tuple[list[int], list[int]]], units: Sequence[Any]) -> dict[str, Any]:
    """The mean difference over units, each the mean of its pairs; pairs of which a figure is not there count not."""
    by_unit: dict[Any, list[float]] = {}
    for (before, after), unit in zip(sides, units, strict=True):
        difference = float(values[after].mean() - values[before].mean())
        if np.isfinite(difference):
            by_unit.setdefault(unit, []).append(difference)
    if not by_unit:
        return {"units": 0, "difference": None, "interval": None}
    value, interval = metrics.mean_and_interval([float(np.mean(several)) for several in by_unit.values()])
    return {"units": len(by_unit), "difference": value, "interval": None if interval is None else [interval.low, interval.high]}

"""What a column of metadata does: classifiers that differ in it alone, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from farfield import metrics
from farfield.errors import InputError, nearest
from farfield.study.figures import MEASURES, Figures
from farfield.study.pool import Setting

MOST = 15  # two values of a column that are compared: those of which there are the most pairs
Sides = tuple[list[int], list[int]]


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


def matched(
    metadata: Sequence[Mapping[str, Setting]], group: Sequence[str], varying: Sequence[str]
) -> dict[tuple[Setting, Setting], dict[Any, Sides]]:
    """The classifiers that differ in a column alone, for each two values of it: the smaller number or the earlier text first.

    Args:
        metadata: of each classifier.
        group: the column, and those that always vary together with it.
        varying: all columns that vary.

    Returns:
        For each two values, and for each combination of all other settings, the places of those with the one value and of those with the other; repetitions, such as
        seeds that no column tells, are several. The `MOST` two values of which there are the most pairs.

    >>> list(matched([{"lr": 0.3}, {"lr": None}, {"lr": 0.1}, {"lr": 0.3}], ["lr"], ["lr"]).items())
    [((0.1, 0.3), {(): ([2], [0, 3])})]
    """
    rest = [name for name in varying if name not in group]
    alike: dict[Any, dict[Setting, list[int]]] = {}
    for place, told in enumerate(metadata):
        if (value := told.get(group[0])) is not None:
            alike.setdefault(tuple(told.get(name) for name in rest), {}).setdefault(value, []).append(place)
    found: dict[tuple[Setting, Setting], dict[Any, Sides]] = {}
    for key, by_value in alike.items():
        for one, other in combinations(sorted(by_value, key=_order), 2):
            found.setdefault((one, other), {})[key] = (by_value[one], by_value[other])
    most = sorted(found, key=lambda two: -len(found[two]))[:MOST]
    return {two: found[two] for two in sorted(most, key=lambda two: (_order(two[0]), _order(two[1])))}


def _order(value: Setting) -> tuple[bool, Any]:
    return isinstance(value, str), value


def effects(figures: Figures, unit: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The mean differences of accuracy and of every detector's figures with each column that varies, and the columns without pairs.

    The difference of a pair is the mean of those with the second value less that of those with the first. The interval is Student's over pairs; where `unit` names a
    column, pairs whose classifiers have the same value of it are one, with their mean.

    Raises:
        InputError: where there is no column `unit`.
    """
    metadata = figures.metadata
    every = columns(metadata)
    varying = [name for names in every for name in names]
    check_unit(metadata, unit)
    found: list[dict[str, Any]] = []
    lacking: list[str] = []
    for names in every:
        mine: list[dict[str, Any]] = []
        for (one, other), sides in matched(metadata, names, varying).items():
            units = [_unit(metadata, both, unit, key) for key, both in sides.items()]
            about = {"columns": list(names), "from": one, "to": other, "pairs": len(sides)}
            mine += [{**about, **told} for told in _differences(figures, list(sides.values()), units)]
        found += mine
        if not mine:
            lacking.append(", ".join(names))
    return found, lacking


def check_unit(metadata: Sequence[Mapping[str, Setting]], unit: str | None) -> None:
    """Raises where there is no column of that name to count pairs by."""
    known = list(dict.fromkeys(name for told in metadata for name in told))
    if unit is not None and unit not in known:
        raise InputError(f"There is no column {unit!r} to count pairs by{nearest(unit, known)} The metadata have: {', '.join(known) or 'none'}.")


def _unit(metadata: Sequence[Mapping[str, Setting]], sides: Sides, unit: str | None, key: Any) -> Any:
    return key if unit is None else frozenset(metadata[place].get(unit) for side in sides for place in side)


def _differences(figures: Figures, sides: Sequence[Sides], units: Sequence[Any]) -> list[dict[str, Any]]:
    found = [{"detector": None, "target": None, "measure": "accuracy", **_mean(figures.accuracy, sides, units)}]
    for target in figures.means:
        for measure in MEASURES:
            for place, detector in enumerate(figures.detectors):
                about = {"detector": detector, "target": target, "measure": measure}
                found.append({**about, **_mean(figures.values[measure, target][:, place], sides, units)})
    return [one for one in found if one["units"]]


def _mean(values: Float[np.ndarray, " m"], sides: Sequence[Sides], units: Sequence[Any]) -> dict[str, Any]:
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

"""How accuracy goes with figures over the classifiers of a study, and which detector wins on which set and family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from farfield import metrics
from farfield.metrics.ranks import FEWEST
from farfield.study.figures import MEASURES, Figures

FAMILIES = 8  # values up to which a column makes families
HIGH = {"auroc": True, "fpr": False}


def correlated(figures: Figures) -> list[dict[str, Any]]:
    """The correlations of accuracy with each detector's figures on each target, with intervals over classifiers; none for fewer than five."""
    found = []
    for target in figures.targets:
        for measure in MEASURES:
            for place, detector in enumerate(figures.detectors):
                values = figures.values[measure, target][:, place]
                known = np.isfinite(values) & np.isfinite(figures.accuracy)
                told: dict[str, Any] = {"detector": detector, "target": target, "measure": measure, "n": int(known.sum())}
                of, ends = ({}, {}) if told["n"] < FEWEST else metrics.correlations(figures.accuracy[known], values[known])
                for name in ("pearson", "spearman"):
                    told |= {name: of.get(name), f"{name}_interval": list(ends[name]) if name in ends and np.isfinite(ends[name]).all() else None}
                found.append(told)
    return found


def ranked(figures: Figures, measure: str, target: str) -> dict[str, Any]:
    """How the detectors rank on a target over the classifiers: mean ranks, Friedman's test, and the runs of neighbours of which no two differ.

    Detectors that some classifier refuses are left out, and named.
    """
    values = figures.values[measure, target]
    whole = np.isfinite(values).all(0) if len(values) else np.zeros(len(figures.detectors), dtype=bool)
    names = [name for name, fine in zip(figures.detectors, whole, strict=True) if fine]
    told: dict[str, Any] = {
        "measure": measure,
        "target": target,
        "n": len(values),
        "left_out": [name for name in figures.detectors if name not in names],
    }
    if not names:
        return {**told, "detectors": [], "friedman_p": None, "runs": [], "needed": metrics.blocks_needed(len(figures.detectors)), "tested": False}
    found = metrics.ranking(values[:, whole], high=HIGH[measure])
    means = values[:, whole].mean(0)
    order = sorted(range(len(names)), key=lambda i: (found.ranks[i], -means[i] if HIGH[measure] else means[i]))
    first = order[0]
    return {
        **told,
        "detectors": [
            {
                "detector": names[i],
                "rank": float(found.ranks[i]),
                "mean": float(means[i]),
                "p_first": None if found.pairs is None else float(found.pairs[first, i]),
            }
            for i in order
        ],
        "friedman_p": found.p_value,
        "runs": [] if found.pairs is None else [list(run) for run in metrics.runs(order, found.pairs)],
        "needed": found.needed,
        "tested": found.pairs is not None,
    }


def winners(figures: Figures) -> list[dict[str, Any]]:
    """The ranking of detectors on each target over all classifiers, and on each mean over those of each family: a value of a column with a few values."""
    found = [{"column": None, "value": None, **ranked(figures, measure, target)} for target in figures.targets for measure in MEASURES]
    for column, places in families(figures).items():
        for value, rows in places.items():
            few = figures.few(rows)
            found += [{"column": column, "value": value, **ranked(few, measure, target)} for target in figures.means for measure in MEASURES]
    return found


def families(figures: Figures) -> Mapping[str, Mapping[Any, Sequence[int]]]:
    """By column that has two to eight values: the classifiers of each value. A family of one is none."""
    found: dict[str, dict[Any, list[int]]] = {}
    for column in dict.fromkeys(name for told in figures.metadata for name in told):
        mine: dict[Any, list[int]] = {}
        for place, told in enumerate(figures.metadata):
            if told.get(column) is not None:
                mine.setdefault(told[column], []).append(place)
        several = {value: places for value, places in mine.items() if len(places) > 1}
        if several and 2 <= len(mine) <= FAMILIES:
            found[column] = several
    return found


def said_of_numbers(figures: Figures) -> list[str]:
    """How much so many classifiers can tell."""
    n, k = len(figures.names), len(figures.detectors)
    needed = metrics.blocks_needed(k)
    if n < FEWEST:
        return [
            f"{n} classifier{'' if n == 1 else 's'} worked: with fewer than {FEWEST} nothing is tested between detectors, and no correlation is told."
        ]
    if k > 1 and n < needed:
        return [
            f"With {n} classifiers no two of {k} detectors can be told apart at 5 % after Holm's correction, however clear the difference; from {needed} on they can be."
        ]
    return []

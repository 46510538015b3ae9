"""How accuracy goes with figures over the classifiers of a study, and which detector wins on which set and family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from farfield import metrics
from farfield.metrics.ranks import FEWEST
from farfield.study.effects import columns
from farfield.study.figures import MEASURES, Figures

FAMILIES = 8  # values up to which a column makes families
HIGH = {"auroc": True, "fpr": False}


def correlated(figures: Figures) -> list[dict[str, Any]]:
    """The correlations of accuracy with each detector's figures on each target, with intervals over classifiers; none for fewer than five.

    An interval without width, as of a correlation of exactly 1, would claim what so few classifiers cannot tell, and is left out.
    """
    found = []
    for target in figures.targets:
        for measure in MEASURES:
            for place, detector in enumerate(figures.detectors):
                values = figures.values[measure, target][:, place]
                known = np.isfinite(values) & np.isfinite(figures.accuracy)
                told: dict[str, Any] = {"detector": detector, "target": target, "measure": measure, "n": int(known.sum())}
                of, ends = ({}, {}) if told["n"] < FEWEST else metrics.correlations(figures.accuracy[known], values[known])
                for name in ("pearson", "spearman"):
                    told |= {name: of.get(name), f"{name}_interval": list(ends[name]) if name in ends and ends[name][0] < ends[name][1] else None}
                found.append(told)
    return found


def blocks(values: Float[np.ndarray, "m k"]) -> tuple[list[int], list[int]]:
    """The classifiers and the detectors of a table without gaps: detectors that at least half of the classifiers have, classifiers that have all of those.

    >>> blocks(np.array([[1.0, 2.0, np.nan], [3.0, 4.0, np.nan], [np.nan, 5.0, 6.0]]))
    ([0, 1], [0, 1])
    """
    known = np.isfinite(values)
    detectors = [k for k in range(known.shape[1]) if len(known) and known[:, k].mean() >= 0.5]
    return [m for m in range(len(known)) if detectors and known[m, detectors].all()], detectors


def ranked(figures: Figures, measure: str, target: str) -> dict[str, Any]:
    """How the detectors rank on a target over the classifiers: mean ranks, Friedman's test, and the runs of neighbours of which no two differ.

    Detectors that most classifiers refuse are left out, and classifiers that refuse one of the others; both are named.
    """
    rows, kept = blocks(figures.values[measure, target])
    names = [figures.detectors[k] for k in kept]
    told: dict[str, Any] = {
        "measure": measure,
        "target": target,
        "n": len(rows),
        "left_out": [name for name in figures.detectors if name not in names],
    }
    told["classifiers_left_out"] = [name for m, name in enumerate(figures.names) if m not in rows]
    if not rows:
        return {**told, "detectors": [], "friedman_p": None, "runs": [], "needed": metrics.blocks_needed(len(figures.detectors)), "tested": False}
    values = figures.values[measure, target][np.ix_(rows, kept)]
    found, means = metrics.ranking(values, high=HIGH[measure]), values.mean(0)
    order = sorted(range(len(names)), key=lambda i: (found.ranks[i], -means[i] if HIGH[measure] else means[i]))
    p_first = None if found.pairs is None else found.pairs[order[0]]
    return {
        **told,
        "detectors": [
            {"detector": names[i], "rank": float(found.ranks[i]), "mean": float(means[i]), "p_first": None if p_first is None else float(p_first[i])}
            for i in order
        ],
        "friedman_p": found.p_value,
        "runs": [] if found.pairs is None else [list(run) for run in metrics.tied_runs(order, found.pairs)],
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
    """By column that has two to eight values, those that always vary together as one: the classifiers of each value. A family of one is none."""
    found: dict[str, dict[Any, list[int]]] = {}
    for names in columns(figures.metadata):
        mine: dict[Any, list[int]] = {}
        for place, told in enumerate(figures.metadata):
            if (value := told.get(names[0])) is not None:
                mine.setdefault(value, []).append(place)
        several = {value: places for value, places in mine.items() if len(places) > 1}
        if several and 2 <= len(mine) <= FAMILIES:
            found[names[0]] = several
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

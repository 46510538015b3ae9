"""What a study came to, as one plain value: the content of `study.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farfield.benchmark.run import environment
from farfield.errors import InputError
from farfield.study.analysis import correlated, said_of_numbers, winners
from farfield.study.answer import answer
from farfield.study.effects import effects
from farfield.study.figures import columns_of, figures_of, points_of, table_of
from farfield.study.run import Done

HOW = (
    "The detector is one for all: the one with the highest mean AUROC over the pool. It and the classifier are chosen on these very sets, so expect a little less elsewhere; "
    "`other sets` has for each set the detector that the other sets choose, and `own best` what is best on these very sets."
)


def value_of(
    found: Sequence[Done],
    detectors: Sequence[str],
    out: str | Path,
    *,
    unit: str | None = None,
    settings: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """All that there is to say of a study.

    Args:
        found: what came of each classifier of the pool.
        detectors: by the name that tables call them.
        out: the folder with the scores.
        unit: the column of metadata whose values are counted as one in an effect; see `effects`.
        settings: what the study was asked for.
        command: what a person types to do this again.

    Raises:
        InputError: where no classifier worked, with the reason of the first.
    """
    worked = [one for one in found if one.results is not None]
    if not worked:
        first = found[0]
        raise InputError(f"None of {len(found)} classifiers worked. {first.entry.name}: {first.reason}")
    figures = figures_of(found, detectors)
    changes, lacking = effects(figures, unit)
    told = answer(figures, found, out)
    total, forward = (sum(values) for values in zip(*((one.seconds, (one.results or {})["cost"]["forward_seconds"]) for one in worked), strict=True))
    return {
        "answer": told,
        "classifiers": [_about(one) for one in found],
        "metadata": columns_of([one.entry for one in found]),
        "detectors": list(detectors),
        "targets": [{"name": name, "group": figures.sets.get(name), "mean": name not in figures.sets} for name in figures.targets],
        "points": points_of(figures, found),
        "correlations": correlated(figures),
        "winners": winners(figures),
        "effects": changes,
        "without_pairs": lacking,
        "notes": notes(found, said_of_numbers(figures), told, unit),
        "rows": table_of(found),
        "cost": {"seconds": round(total, 2), "forward_seconds": round(forward, 2)},
        "suite": next(one.results["suites"][0]["name"] for one in worked if one.results is not None),
        "settings": dict(settings or {}),
        "environment": environment(),
        "command": command,
    }


def _about(one: Done) -> dict[str, Any]:
    told: dict[str, Any] = {"name": one.entry.name, "model": one.entry.model, "metadata": dict(one.entry.metadata), "reason": one.reason or None}
    if one.results is None:
        return told
    (entry,) = one.results["classifiers"]
    refused = {refused["detector"]: refused["reason"] for refused in one.results["refused"]}
    seconds = {"seconds": one.seconds, "forward_seconds": round(one.results["cost"]["forward_seconds"], 3)}
    return {**told, "fingerprint": entry["fingerprint"], "parameters": one.parameters, "refused": refused, **seconds}


def notes(found: Sequence[Done], numbers: Sequence[str], told: Mapping[str, Any] | None, unit: str | None) -> list[str]:
    """What a reader must know beside the tables."""
    said = list(numbers)
    worked = [one.results for one in found if one.results is not None]
    said += list(dict.fromkeys(suite["note"] for results in worked for suite in results["suites"] if suite["note"]))
    if told is not None:
        said.append(HOW)
        tested = [line["paired"] for line in told["lines"] if line["paired"] is not None]
        if tested:
            how = (
                "on the same pictures (paired, DeLong et al. 1988)" if all(tested) else "paired where both saw the same pictures, else as independent"
            )
            said.append(
                f"Whether a classifier is told apart from the first is tested by the AUROC on {told['target']} {how}, at 5 % with Holm's correction."
            )
    said.append(
        "FPR is the share of OOD pictures taken for ID at the threshold that keeps 95 % of ID. near OOD, far OOD and unit tests are plain means over their sets."
    )
    said.append(
        "Intervals of single figures are over pictures, those of correlations and effects over classifiers, which are taken as independent: those of one family are not quite."
    )
    if unit is not None:
        said.append(f"In effects, pairs with the same {unit} count as one.")
    warned: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for results in worked:
        for one in results["warnings"]:
            message = one["message"].replace(one["classifier"], "it")
            warned.setdefault((one["detector"], re.sub(r"[\d.,]+", "", message)), []).append((one["classifier"], message))
    for (detector, _), several in warned.items():
        said.append(f"{f'{detector} on ' if detector else ''}{_some([name for name, _ in several])}: {several[0][1]}")
    refused: dict[str, list[str]] = {}
    for results in worked:
        for one in results["refused"]:
            refused.setdefault(one["detector"], []).append(one["reason"])
    said += [f"{name}: n/a on {len(reasons)} of {len(worked)} classifiers. {reasons[0]}" for name, reasons in refused.items()]
    return said


def _some(names: Sequence[str]) -> str:
    """Names, of many the first and how many more.

    >>> _some(["a", "b"]), _some(["a", "b", "c", "a"])
    ('a and b', 'a and 2 others')
    """
    each = list(dict.fromkeys(names))
    return " and ".join(each) if len(each) < 3 else f"{each[0]} and {len(each) - 1} others"

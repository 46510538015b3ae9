"""The figures of a study: the tidy table, and the arrays that are analysed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from farfield.errors import InputError
from farfield.study.pool import Entry, Setting
from farfield.study.run import Done

MEASURES = {"auroc": "auroc", "fpr": "fpr_at_95_tpr_id"}  # as we call them, and as rows do
MEANS = {"near": "near OOD", "far": "far OOD", "unit-test": "unit tests"}  # groups of rows, and what we call the mean over each
UNIT = "unit-test"
ABOUT = ("classifier", "model", "status", "reason")
OF_CLASSIFIER = ("id_accuracy", "id_accuracy_low", "id_accuracy_high", "classes", "parameters", "seconds", "forward_seconds")
OF_ROW = (
    "suite", "detector", "ood", "group", "auroc", "auroc_low", "auroc_high", "fpr_at_95_tpr_id", "fpr_at_95_tpr_id_low", "fpr_at_95_tpr_id_high",
    "fpr_at_95_tpr_ood", "ap_id", "ap_ood", "n_id", "n_ood", "sources", "rank",
)  # fmt: skip
COLUMNS = (*ABOUT, *OF_CLASSIFIER, *OF_ROW)  # those of metadata stand behind `reason`
DONE, FAILED, REFUSED = "done", "failed", "refused"
Table = list[dict[str, Any]]


def columns_of(pool: Sequence[Entry]) -> list[str]:
    """The columns of metadata, each once.

    Raises:
        InputError: where one has the name of a column that every table has.
    """
    found = list(dict.fromkeys(name for entry in pool for name in entry.metadata))
    if wrong := next((name for name in found if name in COLUMNS), None):
        raise InputError(f"The metadata have a column {wrong!r}, which is one of the table's own. Give it another name.")
    return found


def table_of(found: Sequence[Done]) -> Table:
    """The tidy table: a row for each classifier, detector and set, part of a set or mean of a group; one for a classifier that failed, one for each detector that refused."""
    metadata, rows = columns_of([one.entry for one in found]), []
    for one in found:
        about: dict[str, Any] = {"classifier": one.entry.name, "model": one.entry.model, "status": DONE, "reason": None}
        about |= {name: one.entry.metadata.get(name) for name in metadata}
        if one.results is None:
            rows.append({**about, "status": FAILED, "reason": one.reason, **dict.fromkeys((*OF_CLASSIFIER, *OF_ROW)), "seconds": one.seconds})
            continue
        (entry,) = one.results["classifiers"]
        about |= dict(zip(OF_CLASSIFIER, _of_classifier(one, entry), strict=True))
        rows += [{**about, **_of_row(row)} for row in one.results["rows"]]
        for refused in one.results["refused"]:
            said = {"suite": entry["suite"], "detector": refused["detector"]}
            rows.append({**about, **dict.fromkeys(OF_ROW), **said, "status": REFUSED, "reason": refused["reason"]})
    return rows


def _of_classifier(one: Done, entry: Mapping[str, Any]) -> list[Any]:
    assert one.results is not None
    interval = entry["id_accuracy_interval"] or (None, None)
    return [entry["id_accuracy"], *interval, entry["classes"], one.parameters, one.seconds, one.results["cost"].get("forward_seconds")]


def _of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: row.get(name) for name in OF_ROW}
    for name in MEASURES.values():
        told[f"{name}_low"], told[f"{name}_high"] = row[f"{name}_interval"]
    return told


# --- arrays ---------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What is analysed.

    Args:
        names: of the classifiers that worked.
        accuracy: of each, in percent; NaN where it is not known.
        metadata: of each.
        detectors: all of them.
        targets: what figures are on: the means `near OOD`, `far OOD` and `unit tests`, where they are there, then each near and far set.
        sets: the group of each target that is a set.
        values: by measure (`auroc`, `fpr`) and target, in percent, a row for each classifier and a column for each detector; NaN where a detector refused.
    """

    names: list[str]
    accuracy: Float[np.ndarray, " m"]
    metadata: list[Mapping[str, Setting]]
    detectors: list[str]
    targets: list[str]
    sets: dict[str, str]
    values: dict[tuple[str, str], Float[np.ndarray, "m k"]]

    @property
    def means(self) -> list[str]:
        """The targets that are means."""
        return [target for target in self.targets if target not in self.sets]

    def few(self, rows: Sequence[int]) -> Figures:
        """Of some of the classifiers."""
        values = {key: values[list(rows)] for key, values in self.values.items()}
        return Figures(
            [self.names[i] for i in rows],
            self.accuracy[list(rows)],
            [self.metadata[i] for i in rows],
            self.detectors,
            self.targets,
            self.sets,
            values,
        )


def figures_of(found: Sequence[Done], detectors: Sequence[str]) -> Figures:
    """The arrays of the classifiers that worked; unit tests are the plain mean over the families."""
    worked = [one for one in found if one.results is not None]
    sets: dict[str, str] = {}
    cells: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    means: dict[str, None] = {}
    for one in worked:
        assert one.results is not None
        for row in one.results["rows"]:
            if row["ood"] is not None and row["group"] in ("near", "far"):
                target = row["ood"]
                sets[target] = row["group"]
            elif row["group"] in MEANS and (row["ood"] is None or row["group"] == UNIT):
                target = MEANS[row["group"]]
                means[target] = None
            else:
                continue
            cells.setdefault((one.entry.name, row["detector"], target), []).append((row["auroc"], row["fpr_at_95_tpr_id"]))
    targets = [name for name in MEANS.values() if name in means] + list(sets)
    values = {}
    for place, measure in enumerate(MEASURES):
        for target in targets:
            told = [[cells.get((one.entry.name, detector, target), []) for detector in detectors] for one in worked]
            values[measure, target] = np.array([[100 * np.mean([cell[place] for cell in few]) if few else np.nan for few in line] for line in told])
    accuracy = [one.results["classifiers"][0]["id_accuracy"] for one in worked if one.results is not None]
    return Figures(
        [one.entry.name for one in worked],
        np.array([np.nan if value is None else 100 * value for value in accuracy], dtype=float),
        [one.entry.metadata for one in worked],
        list(detectors),
        targets,
        sets,
        values,
    )


def points_of(figures: Figures, found: Sequence[Done]) -> dict[str, Any]:
    """What a page plots: of each classifier its accuracy, and by mean, measure and detector its figure, each with its interval over pictures, where there is one.

    A figure is `[value, low, high]`, in percent, without ends where there is no interval; `None` where there is no figure.
    """
    ends: dict[tuple[str, ...], Sequence[float]] = {}
    accuracy: dict[str, Sequence[float] | None] = {}
    for one in found:
        for row in () if one.results is None else one.results["rows"]:
            if row["ood"] is None:
                ends |= {(one.entry.name, row["detector"], MEANS.get(row["group"], ""), m): row[f"{name}_interval"] for m, name in MEASURES.items()}
        if one.results is not None:
            accuracy[one.entry.name] = one.results["classifiers"][0]["id_accuracy_interval"]

    def told(value: float, interval: Sequence[float] | None) -> list[float] | None:
        return [round(each, 3) for each in (float(value), *(100 * end for end in interval or ()))] if np.isfinite(value) else None

    values = {
        target: {
            measure: {
                detector: [
                    told(figures.values[measure, target][i, k], ends.get((name, detector, target, measure))) for i, name in enumerate(figures.names)
                ]
                for k, detector in enumerate(figures.detectors)
            }
            for measure in MEASURES
        }
        for target in figures.means
    }
    return {
        "names": figures.names,
        "accuracy": [told(a, accuracy[name]) for name, a in zip(figures.names, figures.accuracy, strict=True)],
        "values": values,
    }

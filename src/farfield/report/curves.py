"""From the scores beside `results.json` to what the page draws: histograms, ROC curves, thresholds, classes and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.stats import binom

from farfield import metrics
from farfield.benchmark import gallery
from farfield.benchmark.rows import SIGNIFICANT
from farfield.benchmark.run import COLUMNS, pictures_path, scores_path
from farfield.report.render import Line

# Where thresholds are set: ID images flagged, of 1,000.
RATES = (*range(21), *range(22, 51, 2), *range(55, 101, 5), *range(110, 201, 10), *range(225, 501, 25), *range(550, 1000, 50))
SLIDER = tuple(rate for rate in RATES if rate <= 500)  # where a person may set one
# Where the ROC curve's band is computed; it is straight between.
BAND = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 950)
BINS = 40
LARGEST = np.finfo(np.float64).max / 8  # scores beyond lie in the end bins: differences of larger ones are no numbers
CLASSES_AT = 0.95  # of ID kept, where false alarms are counted by class

Scores = Float[np.ndarray, "_"]


@dataclass(frozen=True)
class Kept:
    """What a run has kept of one classifier: the scores by detector and set, `test` the ID one, and what lies beside them."""

    scores: Mapping[str, Mapping[str, Scores]]
    beside: Mapping[str, np.ndarray]
    pictures: gallery.Gallery


def kept(folder: Path, suite: str, classifier: str, lines: Sequence[Line], sets: Sequence[str]) -> Kept | str:
    """What a run has kept of one classifier; or why there is nothing, in a sentence.

    Args:
        folder: where results.json is.
        suite: its name.
        classifier: likewise.
        lines: the results, which the scores must bear out.
        sets: the OOD sets.
    """
    path = scores_path(folder, suite, classifier)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError):
        return f"There are no scores beside these results ({path.relative_to(folder)})."
    scores: dict[str, dict[str, Scores]] = {}
    for line in lines:
        found = {name: tensors.get(f"{line.detector}/{name}", np.zeros(0)) for name in ("test", *sets)}
        if any(values.dtype.kind != "f" or values.ndim != 1 or not values.size or np.isnan(values).any() for values in found.values()):
            return f"The scores in {path.relative_to(folder)} lack some of {line.detector}."
        scores[line.detector] = {name: values.astype(np.float64) for name, values in found.items()}
        mine = scores[line.detector]
        for name in sets:
            row = line.cells[name]
            if (mine["test"].size, mine[name].size) != (row["n_id"], row["n_ood"]) or abs(
                metrics.auroc(mine["test"], mine[name]) - row["auroc"]
            ) > 1e-9:
                return f"The scores in {path.relative_to(folder)} are of another run: {line.detector} on {name} has another AUROC."
    sizes = {name: values.shape for mine in scores.values() for name, values in mine.items()}
    columns = {f"{column}/{name}": tensors.get(f"{column}/{name}") for column in COLUMNS for name in sizes}
    beside = {
        key: values
        for key, values in columns.items()
        if values is not None and values.dtype.kind in "iu" and values.shape == sizes[key.partition("/")[2]]
    }
    return Kept(scores, beside, gallery.read(pictures_path(folder, suite, classifier)))


def thresholds(s_in: Scores) -> Scores:
    """The largest scores below which at most so much of ID lies, for each of `RATES`."""
    ordered = np.sort(s_in)
    # mean(s >= t) >= 1 - rate holds for the k-th lowest where k <= rate * n, counted from 0.
    return np.asarray(ordered[np.array(RATES) * ordered.size // 1000], dtype=np.float64)


def rounded(values: Iterable[float], digits: int = 4) -> list[float]:
    """Numbers short enough for a page."""
    return [round(float(value), digits) for value in values]


def number(value: float, digits: int = 9) -> float | str:
    """A score for a page; 9 digits are a float32 whole. JSON has no infinities: those are texts."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else "inf" if value > 0 else "-inf"


def curves(scores: Mapping[str, Scores], beside: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What one detector's plots and its threshold slider show: at the thresholds of `RATES`, intervals at those of `SLIDER` and `BAND`."""
    s_in, limits = scores["test"], thresholds(scores["test"])
    flags = np.searchsorted(np.sort(s_in), limits, "left").tolist()
    edges = _edges(list(scores.values()))
    found: dict[str, Any] = {
        "thresholds": [number(limit) for limit in limits[: len(SLIDER)]],
        "flagged": flags,
        "flaggedIntervals": [rounded(metrics.proportion_interval(k, s_in.size)) for k in flags[: len(SLIDER)]],
        "edges": [number(edges[0], 6), number(edges[-1], 6)],
        "histograms": {name: _histogram(values, edges) for name, values in scores.items()},
        "caught": {},
        "caughtIntervals": {},
        "band": {},
    }
    for name, values in scores.items():
        if name != "test":
            clusters = beside.get(f"clusters/{name}")
            counts = np.searchsorted(np.sort(values), limits, "left").tolist()
            found["caught"][name] = counts
            found["caughtIntervals"][name] = [rounded(interval) for interval in _sure(values, limits[: len(SLIDER)], counts[: len(SLIDER)], clusters)]
            band = metrics.roc_band(s_in, values, [rate / 1000 for rate in BAND], clusters=clusters, widen=False)
            found["band"][name] = [rounded(interval) for interval in band]
    return found


def _sure(scores: Scores, limits: Scores, counts: Sequence[int], clusters: np.ndarray | None) -> list[metrics.Interval]:
    """The interval of the share of a set below each threshold."""
    known: dict[int, metrics.Interval] = {}
    for limit, k in zip(limits, counts, strict=True):
        if k not in known:
            known[k] = metrics.share_interval(scores < limit, clusters=clusters, widen=False)
    return metrics.rising([known[k] for k in counts])


def _edges(sets: Sequence[Scores]) -> Scores:
    """Bins for all sets of a detector: from the lowest 0.5 % of one of them to the highest; the end bins hold what is beyond."""
    finite = [np.clip(values[np.isfinite(values)], -LARGEST, LARGEST) for values in sets]
    ends = [np.quantile(values, [0.005, 0.995]) for values in finite if values.size]
    low, high = (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else (0.0, 0.0)
    if not high - low > 1e-9 * max(abs(low), abs(high)):  # all alike
        half = max(abs(low) * 1e-3, 0.5)
        low, high = low - half, high + half
    return np.asarray(np.linspace(low, high, BINS + 1), dtype=np.float64)


def _histogram(scores: Scores, edges: Scores) -> list[float]:
    """The share of a set in each bin."""
    return rounded(np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] / scores.size, 5)


def classes(s_in: Scores, of: np.ndarray) -> list[list[float]]:
    """False alarms by class where 95 % of ID is kept: class, images, flagged, interval, and 1 where they are more than chance makes.

    More than chance: one-sided binomial test against the share flagged of all images, corrected for the number of classes (Holm 1979).
    """
    flags = s_in < metrics.threshold_at_tpr(s_in, CLASSES_AT)
    present, where = np.unique(of[of >= 0], return_inverse=True)
    if not present.size:
        return []
    total, flagged = np.bincount(where), np.bincount(where, weights=flags[of >= 0]).astype(int)
    p_values = binom.sf(flagged - 1, total, flags.mean())
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return [
        [int(c), int(n), int(k), *rounded(metrics.proportion_interval(int(k), int(n))), int(p < SIGNIFICANT)]
        for c, n, k, p in zip(present, total, flagged, corrected, strict=True)
    ]

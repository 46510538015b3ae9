"""From the scores beside `results.json` to what the page draws: histograms, ROC curves, thresholds, classes and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from farfield.benchmark.run import pictures_path, scores_path

# Where thresholds are set: ID images flagged, of 1,000.
RATES = (*range(21), *range(22, 51, 2), *range(55, 101, 5), *range(110, 201, 10), *range(225, 501, 25), *range(550, 1000, 50))
BAND = (0, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 950)  # where the ROC curve's band is computed; straight between
BINS = 40
CLASSES_AT = 0.95  # of ID kept, where false alarms are counted by class

Scores = Float[np.ndarray, "_"]


@dataclass(frozen=True)
class Told:
    """The scores of one classifier by detector and set, `test` the ID one; and what else lies beside them."""

    scores: Mapping[str, Mapping[str, Scores]]
    beside: Mapping[str, np.ndarray]
    pictures: gallery.Gallery


def told(folder: Path, suite: str, classifier: str, sizes: Mapping[str, Mapping[str, int]]) -> Told | None:
    """What a run has left of one classifier; `None` where it is not there, or is of another run.

    Args:
        folder: where results.json is.
        suite: its name.
        classifier: likewise.
        sizes: how many images the results have of each set, by detector.
    """
    try:
        tensors = load_file(scores_path(folder, suite, classifier))
    except (OSError, SafetensorError, ValueError, TypeError):
        return None
    scores: dict[str, dict[str, Scores]] = {}
    for detector, sets in sizes.items():
        found = {name: tensors.get(f"{detector}/{name}") for name in sets}
        fine = {
            name: s.astype(np.float64) for name, s in found.items() if s is not None and s.ndim == 1 and s.size == sets[name] and s.dtype.kind == "f"
        }
        if len(fine) < len(sets) or any(np.isnan(s).any() for s in fine.values()):
            return None
        scores[detector] = fine
    lengths = {name: n for sets in sizes.values() for name, n in sets.items()}
    beside = {
        key: values
        for key, values in tensors.items()
        if key.partition("/")[0] in ("classes", "labels", "clusters")
        and values.shape == (lengths.get(key.partition("/")[2]),)
        and values.dtype.kind in "iu"
    }
    return Told(scores, beside, gallery.read(pictures_path(folder, suite, classifier)))


def thresholds(s_in: Scores) -> Scores:
    """The largest scores below which at most so much of ID lies, for each of `RATES`."""
    ordered = np.sort(s_in)
    # mean(s >= t) >= 1 - rate holds for the k-th lowest where k <= rate * n, counted from 0.
    return np.asarray(ordered[np.array(RATES) * ordered.size // 1000], dtype=np.float64)


def below(scores: Scores, limits: Scores) -> np.ndarray:
    """How many of the scores are below each limit."""
    return np.searchsorted(np.sort(scores), limits, "left")


def rounded(values: Sequence[float] | np.ndarray, digits: int = 4) -> list[float]:
    """Numbers short enough for a page."""
    return [round(float(value), digits) for value in values]


def curves(scores: Mapping[str, Scores], beside: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What one detector's plots and its threshold slider show."""
    s_in, limits = scores["test"], thresholds(scores["test"])
    flags = below(s_in, limits)
    sure = {int(k): rounded(metrics.proportion_interval(int(k), s_in.size)) for k in set(flags.tolist())}
    edges = _edges(list(scores.values()))
    found: dict[str, Any] = {
        "thresholds": [float(f"{limit:.6g}") if np.isfinite(limit) else None for limit in limits],
        "flagged": [[int(k), *sure[int(k)]] for k in flags],
        "edges": [float(f"{edge:.6g}") for edge in (edges[0], edges[-1])],
        "histograms": {name: _histogram(values, edges) for name, values in scores.items()},
        "caught": {},
        "band": {},
    }
    for name, values in scores.items():
        if name != "test":
            clusters = beside.get(f"clusters/{name}")
            found["caught"][name] = _caught(values, limits, clusters)
            band = metrics.roc_band(s_in, values, [rate / 1000 for rate in BAND], clusters=clusters, widen=False)
            found["band"][name] = [rounded(interval) for interval in band]
    return found


def _caught(scores: Scores, limits: Scores, clusters: np.ndarray | None) -> list[list[float]]:
    """The share of a set below each threshold, with its interval at that threshold."""
    known: dict[int, list[float]] = {}
    for limit, k in zip(limits, below(scores, limits).tolist(), strict=True):
        if k not in known:
            sure = (
                metrics.share_interval(scores < limit, clusters=clusters, widen=False)
                if clusters is not None
                else metrics.proportion_interval(k, scores.size)
            )
            known[k] = rounded([k / scores.size, *sure])
    return [known[k] for k in below(scores, limits).tolist()]


def _edges(sets: Sequence[Scores]) -> Scores:
    """Bins for all sets of a detector: from the lowest 0.5 % of one of them to the highest; the end bins hold what is beyond."""
    finite = [values[np.isfinite(values)] for values in sets]
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


def wrong(scores: Mapping[str, Scores]) -> dict[str, list[int]]:
    """The rows of each set that a detector is most wrong about."""
    s_in = scores["test"]
    return {name: gallery.flagged(s_in) if name == "test" else gallery.accepted(s_in, values) for name, values in scores.items()}

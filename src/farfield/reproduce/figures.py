"""From scores to records: each set, and the paper's kind of mean over them, with intervals over pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from farfield import metrics
from farfield.metrics import Interval, Placements
from farfield.reproduce.base import Convention, Record

DRAWS = 200  # of the bootstrap of a mean FPR
Mean = Literal["sets", "groups"]


@dataclass(frozen=True)
class Scored:
    """A detector's scores of an OOD set, the group it belongs to, and which pictures share a source."""

    scores: np.ndarray
    group: str
    clusters: np.ndarray | None = None


def records(
    of: str, s_in: np.ndarray, sets: Mapping[str, Scored], *, fpr: Convention = "id", mean: Mean = "sets", precision: bool = False
) -> list[Record]:
    """A record for each set, `(of, set)`, and one for their mean, `(of, "average")`: AUROC and FPR at 95 %, in percent.

    Args:
        of: what the scores are of.
        s_in: of the ID test pictures.
        sets: of the others; those that are neither near nor far are in no mean.
        fpr: the convention.
        mean: over the sets (MOS, SFT), or over the means of near and far sets (OpenOOD, and so Xiong et al.).
        precision: average precision too, with ID and with OOD as the positives.
    """
    rate, rate_interval = _rates(fpr)
    found = []
    for name, one in sets.items():
        values = {"auroc": metrics.auroc(s_in, one.scores), "fpr": rate(s_in, one.scores)}
        intervals = {
            "auroc": metrics.placement_interval([metrics.placements(s_in, one.scores)], clusters=[one.clusters], widen=False),
            "fpr": rate_interval(s_in, one.scores, clusters=one.clusters),
        }
        if precision:
            values |= {"ap_id": metrics.ap_id(s_in, one.scores), "ap_ood": metrics.ap_ood(s_in, one.scores)}
            intervals |= {"ap_id": metrics.ap_interval(s_in, one.scores, "id"), "ap_ood": metrics.ap_interval(s_in, one.scores, "ood")}
        found.append(_record((of, name), values, intervals))
    weights = weights_of(sets, mean)
    if weights:
        found.append(_record((of, "average"), *_average(s_in, sets, weights, found, fpr)))
    return found


def weights_of(sets: Mapping[str, Scored], mean: Mean) -> dict[str, float]:
    """What each near and far set counts in the mean; they add up to 1.

    >>> near, far = Scored(np.zeros(1), "near"), Scored(np.zeros(1), "far")
    >>> weights_of({"a": near, "b": far, "c": far}, "groups")
    {'a': 0.5, 'b': 0.25, 'c': 0.25}
    """
    groups = {name: one.group for name, one in sets.items() if one.group in ("near", "far")}
    members = list(groups.values())
    shares = {group: len(groups) if mean == "sets" else len(set(members)) * members.count(group) for group in set(members)}
    return {name: 1 / shares[group] for name, group in groups.items()}


def _average(
    s_in: np.ndarray, sets: Mapping[str, Scored], weights: Mapping[str, float], each: list[Record], fpr: Convention
) -> tuple[dict[str, float], dict[str, Interval]]:
    by_name = {record.of[1]: record.values for record in each}
    values = {figure: sum(weight * by_name[name][figure] / 100 for name, weight in weights.items()) for figure in each[0].values}
    # placements count in proportion to their set's weight, in a plain mean over sets
    placed = [metrics.placements(s_in, sets[name].scores) for name in weights]
    scaled = [Placements(p.v_in * w * len(weights), p.v_out * w * len(weights)) for p, w in zip(placed, weights.values(), strict=True)]
    clusters = [sets[name].clusters for name in weights]
    uneven = len(set(weights.values())) > 1
    auroc = metrics.placement_interval(scaled if uneven else placed, clusters=clusters, widen=False)
    return values, {"auroc": auroc, "fpr": _resampled(s_in, sets, weights, fpr)}


def _resampled(s_in: np.ndarray, sets: Mapping[str, Scored], weights: Mapping[str, float], fpr: Convention) -> Interval:
    """The interval of the weighted mean FPR, by a bootstrap of ID pictures (shared by the sets) and of each set's pictures or sources."""
    rng, rate = np.random.default_rng(0), _rates(fpr)[0]
    drawn = np.empty(DRAWS)
    for i in range(DRAWS):
        mine = s_in[rng.integers(len(s_in), size=len(s_in))]
        drawn[i] = sum(weight * rate(mine, _again(sets[name], rng)) for name, weight in weights.items())
    return Interval(*(float(end) for end in np.quantile(drawn, (0.025, 0.975))))


def _again(one: Scored, rng: np.random.Generator) -> np.ndarray:
    if one.clusters is None:
        return one.scores[rng.integers(len(one.scores), size=len(one.scores))]
    sources = np.unique(one.clusters)
    return np.concatenate([one.scores[one.clusters == source] for source in rng.choice(sources, len(sources))])


def _rates(fpr: Convention) -> tuple[Callable[[np.ndarray, np.ndarray], float], Callable[..., Interval]]:
    if fpr == "id":
        return metrics.fpr_at_95_tpr_id, metrics.fpr_interval
    return metrics.fpr_at_95_tpr_ood, metrics.fpr_ood_interval


def _record(of: tuple[str, str], values: Mapping[str, float], intervals: Mapping[str, Interval]) -> Record:
    return Record(
        of, {name: 100 * value for name, value in values.items()}, {name: (100 * low, 100 * high) for name, (low, high) in intervals.items()}
    )

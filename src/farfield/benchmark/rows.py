"""From scores to rows: each set, each part of a set, the mean of each group, and the ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from farfield import metrics
from farfield.benchmark.results import Row

SIGNIFICANT = 0.05
MEANS = ("near", "far")
CLASS, CLASSES = "class", "classes"  # the groups of the rows of a set's classes, and of the mean over them


@dataclass
class ScoredSet:
    """One detector's scores of an OOD set, where the set belongs, and how its pictures stand among the test pictures."""

    group: str
    scores: Float[np.ndarray, " n"]
    clusters: np.ndarray | None
    parts: Mapping[str, slice]
    placements: metrics.Placements
    acceptance: metrics.Acceptance | None = None
    part_group: str = "unit-test"


def scored(
    s_in: np.ndarray,
    drawn: np.ndarray,
    scores: Tensor,
    group: str,
    clusters: Tensor | None,
    parts: Mapping[str, slice],
    part_group: str = "unit-test",
) -> ScoredSet:
    """A set with its placements among the ID scores; `drawn` are their `threshold_draws`."""
    s_out = scores.double().numpy()
    sources = None if clusters is None else clusters.numpy()
    return ScoredSet(group, s_out, sources, parts, metrics.placements(s_in, s_out), metrics.acceptance(s_in, s_out, drawn=drawn), part_group)


def rows_of(classifier: str, detector: str, suite: str, s_in: np.ndarray, sets: Mapping[str, ScoredSet]) -> list[Row]:
    """A row for each set and part of a set, one for the mean over the classes of a set, then one for the mean of each group."""

    def row(ood: str | None, group: str, members: Sequence[ScoredSet]) -> Row:
        outs = [member.scores for member in members]
        clusters = [member.clusters for member in members]
        sources = None if clusters[0] is None or len(clusters) > 1 else len(np.unique(clusters[0]))
        return Row(
            classifier,
            detector,
            suite,
            ood,
            group,
            auroc=float(np.mean([member.placements.v_in.mean() for member in members])),
            auroc_interval=metrics.placement_interval([member.placements for member in members], clusters=clusters, widen=False),
            fpr_at_95_tpr_id=float(np.mean([metrics.fpr_at_95_tpr_id(s_in, o) for o in outs])),
            fpr_at_95_tpr_id_interval=metrics.mean_fpr_interval(s_in, outs, clusters=clusters, widen=False),
            fpr_at_95_tpr_ood=float(np.mean([metrics.fpr_at_95_tpr_ood(s_in, o) for o in outs])),
            ap_id=float(np.mean([metrics.ap_id(s_in, o) for o in outs])),
            ap_ood=float(np.mean([metrics.ap_ood(s_in, o) for o in outs])),
            n_id=len(s_in),
            n_ood=sum(map(len, outs)),
            sources=sources,
        )

    rows = [row(name, scored.group, [scored]) for name, scored in sets.items()]
    for name, scored in sets.items():
        group = scored.part_group
        pieces = {part: scored.scores[span] for part, span in scored.parts.items() if span.stop > span.start}
        alone = {part: ScoredSet(group, piece, None, {}, metrics.placements(s_in, piece)) for part, piece in pieces.items()}
        rows += [row(part, group, [piece]) for part, piece in alone.items()]
        if group == CLASS and len(alone) > 1:
            rows.append(row(f"{name} by class", CLASSES, list(alone.values())))
    groups = [(group, [scored for scored in sets.values() if scored.group == group]) for group in MEANS]
    return rows + [row(None, group, members) for group, members in groups if members]


def rank(rows: Sequence[Row], placed: Mapping[str, Mapping[str, ScoredSet]]) -> None:
    """Says of each near and far set, and of each mean, which detectors of one classifier are significantly better than which.

    Better by AUROC or by FPR, paired, at 5 %, not corrected for the number of pairs.
    """
    sets = {name: scored.group for mine in placed.values() for name, scored in mine.items() if scored.group in MEANS}
    columns: list[tuple[str | None, str]] = [*((None, group) for group in MEANS), *sets.items()]
    for ood, group in columns:
        column = [row for row in rows if (row.ood, row.group) == (ood, group)]
        members = {
            row.detector: [s for name, s in placed[row.detector].items() if ood == name or (ood is None and s.group == group)] for row in column
        }
        for row in column:
            mine = members[row.detector]
            row.beaten_by = [o.detector for o in column if o.auroc > row.auroc and _auroc_differs(members[o.detector], mine)]
            row.fpr_beaten_by = [o.detector for o in column if o.fpr_at_95_tpr_id < row.fpr_at_95_tpr_id and _fpr_differs(members[o.detector], mine)]
            row.rank = 1 + len(row.beaten_by)


def _auroc_differs(a: Sequence[ScoredSet], b: Sequence[ScoredSet]) -> bool:
    placements = [[scored.placements for scored in side] for side in (a, b)]
    return metrics.paired_placement_test(*placements, clusters=[scored.clusters for scored in b], widen=False).p_value < SIGNIFICANT


def _fpr_differs(a: Sequence[ScoredSet], b: Sequence[ScoredSet]) -> bool:
    accepted = [[scored.acceptance for scored in side if scored.acceptance is not None] for side in (a, b)]
    return metrics.paired_acceptance_test(*accepted, clusters=[scored.clusters for scored in b], widen=False).p_value < SIGNIFICANT

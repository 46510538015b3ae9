"""AUROC, FPR and AUPR from scores alone, each with an interval; a higher score means more in-distribution.

Everywhere `s_in` (n_in,) and `s_out` (n_out,) are the scores of the ID and the OOD images, as any array-like. Ties count exactly;
infinities are legal, since they order; what is empty, not 1-D or has NaN raises `InputError`. `clusters` (n_out,) numbers the
source of each OOD image: crops of one photograph are not independent, and the interval widens accordingly. `outs` are the `s_out`
of several OOD sets that share the ID images, with one `clusters` array, or None, for each.
"""

from farfield.metrics.acceptance import Acceptance, acceptance, paired_acceptance_test, paired_fpr_test, threshold_draws
from farfield.metrics.correlation import correlations, mean_and_interval
from farfield.metrics.decrement import decrement_gap, predicted_auroc, relative_decrement
from farfield.metrics.intervals import (
    Interval,
    PairedTest,
    ap_interval,
    auroc_interval,
    fpr_interval,
    fpr_ood_interval,
    mean_auroc_interval,
    mean_fpr_interval,
    paired_auroc_test,
    paired_placement_test,
    placement_interval,
    proportion_interval,
    rising,
    roc_band,
    share_interval,
    unpaired_placement_test,
)
from farfield.metrics.linked import Linked, linked_auroc, linked_test
from farfield.metrics.ranks import Ranking, blocks_needed, holm, ranking, signed_rank, tied_runs
from farfield.metrics.values import (
    Placements,
    ap_id,
    ap_ood,
    aupr_trapezoid_id,
    aupr_trapezoid_ood,
    auroc,
    fpr_at_95_tpr_id,
    fpr_at_95_tpr_ood,
    fpr_at_tpr_id,
    placements,
    threshold_at_tpr,
)

__all__ = [
    "Acceptance",
    "Interval",
    "Linked",
    "PairedTest",
    "Placements",
    "Ranking",
    "acceptance",
    "ap_id",
    "ap_interval",
    "ap_ood",
    "aupr_trapezoid_id",
    "aupr_trapezoid_ood",
    "auroc",
    "auroc_interval",
    "blocks_needed",
    "correlations",
    "decrement_gap",
    "fpr_at_95_tpr_id",
    "fpr_at_95_tpr_ood",
    "fpr_at_tpr_id",
    "fpr_interval",
    "fpr_ood_interval",
    "holm",
    "linked_auroc",
    "linked_test",
    "mean_and_interval",
    "mean_auroc_interval",
    "mean_fpr_interval",
    "paired_acceptance_test",
    "paired_auroc_test",
    "paired_fpr_test",
    "paired_placement_test",
    "placement_interval",
    "placements",
    "predicted_auroc",
    "proportion_interval",
    "ranking",
    "relative_decrement",
    "rising",
    "roc_band",
    "share_interval",
    "signed_rank",
    "threshold_at_tpr",
    "threshold_draws",
    "tied_runs",
    "unpaired_placement_test",
]

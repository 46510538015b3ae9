"""Checks of what Mahalanobis takes for granted: one Gaussian a class, of one covariance, and enough samples to fit it."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.stats import chi2, kstest
from torch import Tensor

from farfield import metrics
from farfield.diagnose.base import Case, Check, Evidence, Finding, Series
from farfield.diagnose.checks.moments import Moments, fitting, moments, of_features
from farfield.outputs import chunks
from farfield.stats import double, inverse_root

BEYOND = 0.05  # of a Gaussian that lies beyond the quantile that is looked at
TAIL = 0.25  # of the held-out pictures there: five times as many as there should be
NARROW = 2.0  # times a Gaussian's mean squared distance: at ten features and more, nearly all of a Gaussian lie below that
QUANTILES = np.linspace(0.01, 0.99, 50)
ENOUGH = 10.0  # samples beyond the classes for each feature: a covariance then misses by about sqrt(1 / 10), a third


# --- F5 -----------------------------------------------------------------------------------------------------------------------------------


def distances(found: Moments, root: Float64[Tensor, "d r"], features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> Float64[Tensor, " m"]:
    """Squared Mahalanobis distances to the mean of the own class, of those rows whose class has one: `|A^T (f - mu_y)|^2`, `A A^T = Sigma^-1`."""
    rows, means = found.mean_of(labels.to(root.device))
    return ((double(features).to(root.device)[rows] - means) @ root).square().sum(1).cpu()


def _gaussian(case: Case) -> Finding:
    found = moments(case)
    root, rank = inverse_root(found.classes.within(), found.classes.mean())
    if rank == 0:
        return Finding(
            "F5", "issue", "Within classes the training features do not vary, so no Gaussian can be fitted.", do="Take KNN.", command=fitting("knn")
        )
    parts, totals = [], torch.zeros(len(found.classes.counts), dtype=torch.float64)
    for chunk in chunks(case.train):
        assert chunk.features is not None and chunk.labels is not None
        parts.append(distances(found, root, chunk.features, chunk.labels))
        totals.index_add_(0, chunk.labels.cpu(), parts[-1])
    trained = torch.cat(parts)
    seen = found.classes.counts.cpu() > 0
    scales = (totals[seen] / found.classes.counts.cpu()[seen] / rank).numpy()
    # Mardia: E |z|^4 = r (r + 2) of a Gaussian
    figures = {"rank": float(rank), "kurtosis over a Gaussian's": float(trained.square().mean()) / (rank * (rank + 2))}
    narrowest, widest = np.quantile(scales, [0.1, 0.9])
    if narrowest > 0:
        figures["scale of the widest tenth of classes over the narrowest"] = float(widest / narrowest)
    if case.test.labels is None or not bool((case.test.labels >= 0).any()):
        return Finding("F5", "skipped", "Held-out pictures have no labels, so it is not known about which mean they should lie.", figures)
    assert case.test.features is not None
    held = distances(found, root, case.test.features, case.test.labels).numpy()
    if len(held) == 0:
        return Finding("F5", "skipped", "No held-out picture is of a class that has training samples.", figures)
    ratio = float(held.mean()) / rank
    beyond = int((held > chi2.ppf(1 - BEYOND, rank)).sum())
    interval = metrics.proportion_interval(beyond, len(held))
    figures |= {
        "held-out distance over a Gaussian's": ratio,
        "share beyond the 95 % quantile": beyond / len(held),
        "Kolmogorov-Smirnov": float(kstest(held, chi2(rank).cdf).statistic),
    }
    evidence = Evidence(
        "lines",
        chi2.ppf(QUANTILES, rank).tolist(),
        [
            Series("held out", np.quantile(held, QUANTILES).tolist()),
            Series("training", np.quantile(trained.numpy(), QUANTILES).tolist()),
            Series("a Gaussian", chi2.ppf(QUANTILES, rank).tolist()),
        ],
        f"quantile of chi-squared, {rank} degrees of freedom",
        "quantile of squared Mahalanobis distances",
    )
    half = 1.96 * float(held.std()) / math.sqrt(len(held)) / rank
    ends = {
        "share beyond the 95 % quantile": (interval.low, interval.high),
        "held-out distance over a Gaussian's": (max(ratio - half, 0.0), ratio + half),
    }
    said = (
        f"Of the held-out pictures {100 * beyond / len(held):.1f} % lie beyond the distance from their class mean that 5 % of a Gaussian would; "
        f"their mean squared distance is {ratio:.2f} times a Gaussian's."
    )
    narrow = ratio - half > NARROW
    if not narrow and interval.low <= TAIL:
        return Finding("F5", "passed", said, figures, ends, evidence)
    do = "Compare relative Mahalanobis++ and KNN, which lean less on the Gaussians, and set thresholds on held-out pictures alone."
    return Finding(
        "F5", "issue" if narrow else "tip", f"{said} Mahalanobis' Gaussians do not fit.", figures, ends, evidence, do=do,
        command=fitting("relative-mahalanobis++"),
    )  # fmt: skip


GAUSSIAN = Check(
    "F5",
    "One Gaussian per class",
    f"Squared Mahalanobis distances of held-out pictures to the mean of their own class, under the covariance that all classes share, against chi-squared of its rank. "
    f"A tip where more than {100 * TAIL:g} % of them, at the low end of the interval, lie beyond its 95 % quantile; an issue where their mean is, at the low end, over {NARROW:g} times "
    "its mean, or training features do not vary within classes.",
    of_features("F5", _gaussian),
    "Lee et al., NeurIPS 2018; Mardia, Biometrika 1970",
)


# --- F6 -----------------------------------------------------------------------------------------------------------------------------------


def _samples(case: Case) -> Finding:
    found = moments(case)
    counts = found.counts
    n, d, c, fewest = found.classes.total, len(found.low), len(counts), int(counts.min())
    figures = {
        "samples": float(n),
        "features": float(d),
        "classes": float(c),
        "fewest of a class": float(fewest),
        "samples beyond classes": float(n - c),
    }
    evidence = Evidence(
        "bars",
        ["samples - classes", "features", f"{ENOUGH:g} x features", "fewest of a class"],
        [Series("count", [float(n - c), float(d), ENOUGH * d, float(fewest)])],
        "",
        "count",
    )
    said = f"{n} training samples of {c} classes, at least {fewest} of each, for a covariance of {d} features."
    if n - c < d:
        return Finding(
            "F6", "issue", f"{said} After {c} means there are {n - c} left: the covariance is singular, and Mahalanobis' distances mean nothing.", figures, {},
            evidence, do="Give more training samples, shrink the covariance, or take KNN.", command=fitting("mahalanobis:shrinkage=0.1"),
        )  # fmt: skip
    if n - c < ENOUGH * d:
        return Finding(
            "F6", "tip", f"{said} That is {(n - c) / d:.1f} for each feature: the covariance's small directions are guessed.", figures, {}, evidence,
            do="Give more training samples, or shrink the covariance; `farfield tune` finds by how much.", command=fitting("mahalanobis:shrinkage=0.1"),
        )  # fmt: skip
    return Finding("F6", "passed", said, figures, {}, evidence)


SAMPLES = Check(
    "F6",
    "Samples against dimensions",
    f"Training samples n, features d, classes c. An issue where n - c < d, as the covariance within classes is singular; a tip where n - c < {ENOUGH:g} d.",
    of_features("F6", _samples),
)

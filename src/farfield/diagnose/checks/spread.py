"""Checks of how training features spread: their effective rank, within and between classes, and units that never vary."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from farfield.detectors.residual import usual_dim
from farfield.diagnose.base import Case, Check, Evidence, Finding, Series, bins
from farfield.diagnose.checks.moments import fitting, moments, of_features
from farfield.stats import SINGULAR, double

COLLAPSED = 0.2  # of the directions that can tell c classes apart, min(c - 1, d): networks that tell 200 classes apart well have a quarter
EMPTY = 0.1  # of the directions: Mahalanobis ignores those without variance, and beyond a tenth that is no detail
POINTS = 200  # of a plotted spectrum
NARROW = 2.0  # times the scatter: at tens of features, 95 % of a Gaussian lie within 1.2 to 1.8 times its mean squared distance, so at twice most are outside
DEAD_TIP, DEAD_ISSUE = 0.01, 0.5  # of the units: one in a hundred is not an accident; beyond half, the network uses less than half of what it has
STILL = 1e-6  # of a unit's size: a smaller range is the rounding of float32


# --- F1 -----------------------------------------------------------------------------------------------------------------------------------


def effective_rank(values: Float64[Tensor, " d"]) -> float:
    """How many directions a covariance has, each counted for what it holds: exp of the entropy of its eigenvalues' shares.

    Formula: `exp(-sum_i p_i log p_i)`, `p_i = lambda_i / sum lambda`.

    >>> round(effective_rank(torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64)), 9)
    2.0

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    p = values[values > 0] / values[values > 0].sum()
    return math.exp(-float((p * p.log()).sum()))


def participation(values: Float64[Tensor, " d"]) -> float:
    """`(sum lambda)^2 / sum lambda^2`: 1 where one direction holds all, d where all hold alike.

    >>> participation(torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64))
    2.0
    """
    return float(values.sum().square() / values.square().sum())


def _rank(case: Case) -> Finding:
    found = moments(case)
    covariance = found.classes.within() + found.between()
    values = torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0).cpu()
    d, n, classes = len(values), found.classes.total, len(found.counts)
    if float(values[0]) == 0:
        return Finding("F1", "issue", f"The {d} features are the same for all {n} training samples.", {"rank": 0.0}, do="Look at the weights.")
    rank = int((values > SINGULAR * values[0]).sum())
    effective, wanted, dim = effective_rank(values), min(classes - 1, d), usual_dim(d)
    figures = {
        "effective rank": effective,
        "participation ratio": participation(values),
        "rank": float(rank),
        "share of directions without variance": 1 - rank / d,
        "features": float(d),
        "samples": float(n),
    }
    said = f"The effective rank of the {d} features is {effective:.1f} ({classes} classes, {n} samples), and their rank is {rank}."
    evidence = _spectrum(values)
    if n <= d:
        more = f" With no more samples than features, the rank is at most {n - 1}: Mahalanobis and ViM ignore all other directions, where OOD may be."
        return Finding("F1", "issue", said + more, figures, {}, evidence, do="Give more training samples, or take KNN.", command=fitting("knn"))
    if rank <= dim:
        more = f" ViM takes the first {dim} directions for ID and scores what is left, which is nothing but rounding here."
        return Finding(
            "F1", "issue", said + more, figures, {}, evidence, do="Do not use ViM or its residual as they are; lower `dim`, or take KNN.",
            command=fitting("knn"),
        )  # fmt: skip
    if effective < COLLAPSED * wanted:
        more = f" {wanted} directions can tell the classes apart, and they are used unevenly: the features have collapsed."
        return Finding(
            "F1", "tip", said + more, figures, {}, evidence, do="Compare detectors of logits with those of features before you choose one."
        )
    if d - rank > EMPTY * d:
        more = f" Mahalanobis ignores the other {d - rank} directions, whatever OOD does in them."
        return Finding(
            "F1", "tip", said + more, figures, {}, evidence, do="Compare Mahalanobis with KNN before you choose it.", command=fitting("knn")
        )
    return Finding("F1", "passed", said, figures, {}, evidence)


def _spectrum(values: Float64[Tensor, " d"]) -> Evidence:
    """The eigenvalues over the largest, as powers of ten; of many, some at even steps of the logarithm of their number."""
    d = len(values)
    places = np.arange(d) if d <= POINTS else np.unique(np.round(np.geomspace(1, d, POINTS)).astype(np.int64)) - 1
    powers = (values / values[0]).clamp_min(1e-16).log10().numpy()[places]
    return Evidence(
        "lines", (places + 1).astype(float).tolist(), [Series("training", powers.tolist())], "direction, by its variance",
        "variance over the largest, log10", math.log10(SINGULAR),
    )  # fmt: skip


EFFECTIVE_RANK = Check(
    "F1",
    "Effective rank",
    f"exp of the entropy of the eigenvalues' shares, of the covariance of the training features. An issue where there are no more samples than features, or where "
    f"the rank (eigenvalues above {SINGULAR:g} of the largest) is at most the directions that ViM takes away, or the features do not vary; a tip where the effective rank is below "
    f"{COLLAPSED:g} of min(classes - 1, features), or where more than {100 * EMPTY:g} % of the directions hold no variance.",
    of_features("F1", _rank),
    "Roy and Vetterli, EUSIPCO 2007",
)


# --- F2 -----------------------------------------------------------------------------------------------------------------------------------


def collapse(within: Float64[Tensor, "d d"], means: Float64[Tensor, "c d"]) -> float:
    """How far features lie about their class means, in units of how far these lie apart: 0 where they have collapsed (NC1).

    Formula: `tr(S_W S_B^+) / c`, `S_B = 1/c sum_c (mu_c - mu)(mu_c - mu)^T`, `mu = 1/c sum_c mu_c`.

    >>> collapse(torch.eye(1).double(), torch.tensor([[-2.0], [2.0]]).double())
    0.125

    Source: Papyan, Han and Donoho, PNAS 2020.
    """
    apart = means - means.mean(0)
    _, scale, directions = torch.linalg.svd(apart / math.sqrt(len(means)), full_matrices=False)
    kept = scale.square() > SINGULAR * scale[0].square()
    inner = directions[kept] / scale[kept][:, None]  # S_B^+ = inner^T inner
    return float(((inner @ within) * inner).sum()) / len(means)


def _within_between(case: Case) -> Finding:
    found = moments(case)
    within, between = found.classes.within(), found.between()
    inside, outside = float(within.trace()), float(between.trace())
    if len(found.counts) < 2 or outside == 0:
        return Finding("F2", "not applicable", "There is one class of training samples, or all have one mean, so nothing lies between classes.")
    figures = {"NC1": collapse(within, found.classes.means()), "share between classes": outside / (inside + outside)}
    said = f"Between classes lie {100 * figures['share between classes']:.1f} % of the variance of the training features (NC1 {figures['NC1']:.3g})."
    labels = case.test.labels
    assert case.test.features is not None
    rows, means = found.mean_of(torch.zeros(0, dtype=torch.int64) if labels is None else labels.cpu())
    if len(rows) < 2:
        return Finding("F2", "skipped", said + " Held-out pictures have no labels of trained classes, so they cannot be compared.", figures)
    if inside == 0:
        return Finding(
            "F2", "issue", said + " Within classes the training features do not vary at all: no Gaussian can be fitted to them.", figures,
            do="Take a detector of logits, or KNN.", command=fitting("knn"),
        )  # fmt: skip
    squares = (double(case.test.features).cpu()[rows] - means).square().sum(1)
    ratio = float(squares.mean()) / inside
    half = 1.96 * float(squares.std()) / math.sqrt(len(squares)) / inside
    interval = (max(ratio - half, 0.0), ratio + half)
    figures |= {"held-out over training": ratio}
    said += f" Held-out pictures lie {ratio:.2f} times as far, squared, about their class means as training pictures."
    evidence = Evidence(
        "bars",
        ["within classes, training", "within classes, held out", "between classes, training"],
        [Series("scatter", [1.0, ratio, outside / inside], [1.0, interval[0], outside / inside], [1.0, interval[1], outside / inside])],
        "",
        "mean squared distance, that of training = 1",
        NARROW,
    )
    ends = {"held-out over training": interval}
    if interval[0] > NARROW:
        said += " The training features have collapsed onto their means and those of new pictures have not: Gaussians fitted to them are too narrow."
        return Finding(
            "F2", "tip", said, figures, ends, evidence, do="Do not trust Mahalanobis' distances; compare it with KNN and relative Mahalanobis.",
            command=fitting("relative-mahalanobis++"),
        )  # fmt: skip
    return Finding("F2", "passed", said, figures, ends, evidence)


WITHIN_BETWEEN = Check(
    "F2",
    "Within and between classes",
    f"NC1, tr(S_W S_B^+) / c, and the share of the variance between classes, of the training features; the mean squared distance of held-out pictures to their class "
    f"mean of the training features, over that of training pictures. A tip where the low end of this ratio's interval is above {NARROW:g}; an issue where training features do not "
    "vary within classes.",
    of_features("F2", _within_between),
    "Papyan, Han and Donoho, PNAS 2020",
)


# --- F3 -----------------------------------------------------------------------------------------------------------------------------------


def _dead(case: Case) -> Finding:
    found = moments(case)
    slack = STILL * torch.maximum(found.high.abs(), found.low.abs())
    still = found.high - found.low <= slack
    zero = (found.low == 0) & (found.high == 0)
    d, dead = len(still), int(still.sum())
    woken = torch.zeros_like(still)
    for outputs in case.pseudo.values():
        if outputs.features is not None and len(outputs):
            x = double(outputs.features).to(slack.device)
            woken |= (x.amax(0) > found.high + slack) | (x.amin(0) < found.low - slack)
    woke = int((woken & still).sum())
    figures = {
        "dead": float(dead), "share": dead / d, "always 0": float(zero.sum()), "woken by pseudo-OOD": float(woke), "features": float(d)
    }  # fmt: skip
    variance = (found.classes.within() + found.between()).diagonal().clamp_min(0).sqrt().cpu()
    spread = (variance / variance.max().clamp_min(1e-300)).numpy()
    edges, shares = bins([spread])
    evidence = Evidence("histogram", edges, [Series("units", shares[0])], "standard deviation of a unit, over the largest", "units, %")
    said = (
        f"{dead} of {d} features ({100 * dead / d:.1f} %) are the same for all {found.classes.total} training samples, {int(zero.sum())} of them 0."
    )
    if dead:
        said += f" Pseudo-OOD moves {woke} of them."
    if dead / d > DEAD_ISSUE:
        return Finding(
            "F3", "issue", said, figures, {}, evidence,
            do="Look at how the network was trained: a lower learning rate or another activation keeps units alive. Mahalanobis ignores the dead ones.",
        )  # fmt: skip
    if dead / d >= DEAD_TIP:
        return Finding("F3", "tip", said, figures, {}, evidence, do="Know that Mahalanobis ignores these features, whatever OOD does in them.")
    return Finding("F3", "passed", said, figures, {}, evidence)


DEAD_UNITS = Check(
    "F3",
    "Dead units",
    f"Features whose range over the training samples is at most {STILL:g} of their size. A tip from {100 * DEAD_TIP:g} % of the features on, an issue above "
    f"{100 * DEAD_ISSUE:g} %.",
    of_features("F3", _dead),
)

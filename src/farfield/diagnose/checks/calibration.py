"""Whether probabilities are what they say: calibration on held-out ID pictures, and what a temperature would do."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.special import ndtr
from torch import Tensor

from farfield import metrics
from farfield.detectors.temperature import TemperatureScaling
from farfield.diagnose.base import Case, Check, Evidence, Finding, Series
from farfield.diagnose.checks.moments import fitting, guarded, head_of
from farfield.errors import FarfieldWarning, InputError
from farfield.outputs import Outputs, validated
from farfield.stats import double, hashed

BINS = 15  # of equal mass, as in Guo et al.
FEWEST = 10 * BINS  # labelled pictures: ten a bin
DRAWS = 500
TIP, ISSUE = 0.02, 0.05  # ECE: published networks have 2 % to 5 % after and 5 % to 15 % before a temperature (Guo et al., table 1)

Confidence = Float64[np.ndarray, " n"]
Right = Bool[np.ndarray, " n"]


def _edges(n: int) -> np.ndarray:
    return np.linspace(0, n, BINS + 1).round().astype(np.int64)


def ece(confidence: Confidence, right: Right) -> float:
    """The expected calibration error over bins of equal mass.

    Formula: `sum_b n_b / n |acc_b - conf_b|`, over 15 runs of the samples in the order of their confidence.

    >>> ece(np.full(30, 0.75), np.arange(30) % 2 == 0)
    0.25

    Source: Guo et al., ICML 2017, equation 3; bins of equal mass of Nguyen and O'Connor, EMNLP 2015.
    """
    order = np.argsort(confidence, kind="stable")
    return _ece_of(confidence[order], right[order])


def _ece_of(confidence: Confidence, right: Right) -> float:
    """Of samples in the order of their confidence."""
    sums = np.append(0.0, np.cumsum(right - confidence))[_edges(len(confidence))]
    return float(np.abs(np.diff(sums)).sum() / len(confidence))


def debiased(confidence: Confidence, right: Right) -> float:
    """The calibration error as a root of mean squares, less what chance adds to it; 0 where that is all.

    Formula: `sqrt(max(0, sum_b n_b / n ((acc_b - conf_b)^2 - acc_b (1 - acc_b) / (n_b - 1))))`.

    Source: Kumar, Liang and Ma, NeurIPS 2019, section 4.
    """
    order, edges = np.argsort(confidence, kind="stable"), _edges(len(confidence))
    size = np.diff(edges)
    share, sure = (np.add.reduceat(x[order].astype(np.float64), edges[:-1]) / size for x in (right, confidence))
    return float(np.sqrt(max(0.0, (size * ((share - sure) ** 2 - share * (1 - share) / (size - 1))).sum() / len(confidence))))


def without_chance(values: Float64[np.ndarray, " m"], noise: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " m"]:
    """The calibration error that an ECE comes from, less what the noise of the bins' accuracies adds; 0 where that alone would give as much.

    Formula: the `g >= 0` with `mean_b E|g + s_b z| = ECE`, z normal: what the ECE is to be expected where all bins are off by g.

    Args:
        values: ECEs.
        noise: `s_b`, the standard error of each bin's accuracy.

    >>> without_chance(np.array([0.01, 0.5]), np.full(15, 0.05)).round(3).tolist()
    [0.0, 0.5]
    """
    gaps = np.linspace(0, 1, 2001)
    ratio = gaps[:, None] / np.maximum(noise, 1e-12)
    # E|g + s z| = s sqrt(2 / pi) exp(-g^2 / 2 s^2) + g (1 - 2 Phi(-g / s))
    expected = noise * math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2) + gaps[:, None] * (1 - 2 * ndtr(-ratio))
    found: np.ndarray = np.interp(values, expected.mean(1), gaps)
    return found


def ece_interval(confidence: Confidence, right: Right, *, seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
    """The bootstrap's interval of the ECE without chance: quantiles of its draws, in which the noise of the bins is twice that of the samples."""
    order, rng, n = np.argsort(confidence, kind="stable"), np.random.default_rng(seed), len(confidence)
    sure, hit, edges = confidence[order], right[order], _edges(n)
    drawn = np.empty(draws)
    for i in range(draws):
        rows = np.sort(rng.integers(n, size=n))  # in the order of the confidence again
        drawn[i] = _ece_of(sure[rows], hit[rows])
    size = np.diff(edges)
    share = (np.add.reduceat(hit.astype(np.float64), edges[:-1]) + 0.5) / (size + 1)  # Jeffreys', since a bin without errors is not without noise
    low, high = np.quantile(without_chance(drawn, np.sqrt(2 * share * (1 - share) / size)), [0.025, 0.975])
    return float(low), float(high)


def _sure(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> tuple[Confidence, Right]:
    top, predicted = (double(logits) / temperature).softmax(1).max(1)
    return top.cpu().numpy(), (predicted == labels).cpu().numpy()


def _cooled(outputs: Outputs) -> tuple[float, float, float] | None:
    """The temperature of every second sample, by hash, and the ECE of the others before and after it; `None` where there is none."""
    assert outputs.logits is not None and outputs.labels is not None
    first = hashed(torch.arange(len(outputs)), 0) % 2 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FarfieldWarning)  # of a temperature at its bound, which the ECE after it shows
        try:
            temperature = float(TemperatureScaling.fit(outputs[first]).temperature)
        except InputError:
            return None
    rest = outputs[~first]
    assert rest.logits is not None and rest.labels is not None
    return temperature, ece(*_sure(rest.logits, rest.labels)), ece(*_sure(rest.logits, rest.labels, temperature))


def _calibration(case: Case) -> Finding:
    head = head_of(case)
    if (head is not None and head.groups is not None) or case.classifier.classes < 2:
        return Finding("H3", "not applicable", "There is no one softmax over several classes, whose probabilities could be looked at.")
    if case.test.labels is None or int((case.test.labels >= 0).sum()) < FEWEST:
        return Finding("H3", "skipped", f"Calibration needs {FEWEST} labelled held-out pictures, ten for each of {BINS} bins.")
    known = case.test[case.test.labels >= 0]
    for _ in validated(known, ("logits", "labels"), "Calibration"):
        pass
    assert known.logits is not None and known.labels is not None
    sure, right = _sure(known.logits, known.labels)
    value, (low, high) = ece(sure, right), ece_interval(sure, right)
    gap = float(sure.mean() - right.mean())
    figures = {"ECE": value, "debiased calibration error": debiased(sure, right), "confidence less accuracy": gap}
    order, edges = np.argsort(sure, kind="stable"), _edges(len(sure))
    bins = [order[start:end] for start, end in pairwise(edges.tolist())]
    middles, shares = [float(sure[rows].mean()) for rows in bins], [float(right[rows].mean()) for rows in bins]
    ends = [metrics.proportion_interval(int(right[rows].sum()), len(rows)) for rows in bins]
    drawn = [Series("held out", shares, [end.low for end in ends], [end.high for end in ends]), Series("calibrated", middles)]
    evidence = Evidence("lines", middles, drawn, "mean confidence", "accuracy")
    said = f"The ECE of {len(sure)} held-out pictures is {100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f}); confidence is {100 * abs(gap):.1f} points {'above' if gap > 0 else 'below'} accuracy."
    if (found := _cooled(known)) is not None:
        temperature, before, after = found
        figures |= {"temperature": temperature, "ECE of the second half": before, "ECE of the second half at the temperature": after}
        said += f" At the temperature of one half, {temperature:.2f}, the ECE of the other half goes from {100 * before:.1f} to {100 * after:.1f} %."
    outcome = "issue" if low > ISSUE else "tip" if low > TIP else "passed"
    if outcome == "passed":
        return Finding("H3", "passed", said, figures, {"ECE": (low, high)}, evidence)
    do = f"The classifier is too {'sure' if gap > 0 else 'unsure'} of itself: use its probabilities after a temperature only, or MSP at that temperature."
    command = fitting("temperature", calibrated=True)
    return Finding("H3", "issue" if outcome == "issue" else "tip", said, figures, {"ECE": (low, high)}, evidence, do=do, command=command)


CALIBRATION = Check(
    "H3",
    "Calibration",
    f"The expected calibration error of held-out ID pictures over {BINS} bins of equal mass, with a bootstrap interval of {DRAWS} draws from which is taken what chance adds. An issue where its low end is above "
    f"{100 * ISSUE:g} %, a tip above {100 * TIP:g} %. The temperature is fitted on one half of the pictures and judged on the other.",
    guarded("H3", _calibration),
    "Guo et al., ICML 2017; Kumar, Liang and Ma, NeurIPS 2019",
)

"""Temperature scaling: the maximum softmax probability of a calibrated classifier."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, warn
from farfield.errors import InputError
from farfield.outputs import Data, validated
from farfield.stats import double

COLDEST, HOTTEST = 1e-3, 1e3


class TemperatureScaling(Detector):
    """MSP at the temperature of the least cross-entropy: `S = -log(1 - max_c p_c)`, `p = softmax(v / T)`, `T = argmin mean CE(v / T, y)`.

    Predictions stay as they are. The cross-entropy is convex in `1 / T`, so the root of its derivative is found for certain, by Newton's method between bounds.

    *Differs from the paper* in the scale of the score, which is that of MSP here. Labelled ID data that the classifier was **not** trained on
    are wanted: on its training data it is too sure of itself, and `T` comes out too low.

    >>> import torch, farfield as ff
    >>> v = torch.tensor([[2.0, 0.0]] * 4)
    >>> detector = TemperatureScaling.fit(ff.Outputs(logits=v, labels=torch.tensor([0, 0, 0, 1])))
    >>> round(float(detector.temperature), 4)  # softmax(v / T) = 3/4, so T = 2 / log 3
    1.8205

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """

    use = "Logits alone, with labelled ID data that the classifier was not trained on."
    fails = "Fitted on the classifier's own training data, of which it is too sure: the temperature comes out too low."
    cost = "scoring O(c); fitting O(n c), some 45 times, on logits kept in memory"
    needs = ("logits",)
    fit_needs = ("logits", "labels")
    passes = 1
    paper = "Guo et al., ICML 2017"
    calibrated = True
    temperature: Tensor

    @classmethod
    def fit(cls, train: Data, calibration: Data | None = None) -> TemperatureScaling:
        """The temperature, from 1e-3 to 1e3.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`, and true labels `(n,)`. All of the logits are kept in memory meanwhile.
            calibration: the same of ID data the classifier was not trained on, which are taken instead: on its own training data a classifier is surer
                than on others, and the temperature too low.

        Raises:
            InputError: for bad data, or labels that the logits are at odds with, so that no temperature is high enough.
        """
        parts = []
        for chunk in validated(train if calibration is None else calibration, cls.fit_needs, "TemperatureScaling"):
            assert chunk.logits is not None and chunk.labels is not None
            v = double(chunk.logits)
            parts.append((v - v.mean(1, keepdim=True), chunk.labels.to(v.device)))  # the mean changes no softmax
        samples = sum(len(y) for _, y in parts)
        if slopes(parts, 0.0)[0] >= 0:
            raise InputError(
                f"TemperatureScaling needs labels that fit the logits; of these {samples} samples the labels' classes are not the likelier. Look at their order."
            )
        cold, hot, log_t = math.log(COLDEST), math.log(HOTTEST), 0.0
        if slopes(parts, 1 / COLDEST)[0] < 0:
            warn(
                f"All of the {samples} samples are classified rightly by a margin; no temperature is low enough, and {COLDEST} is taken. Give data the classifier was not trained on."
            )
            log_t = hot = cold
        while hot - cold > 1e-12:
            beta = math.exp(-log_t)
            first, second = slopes(parts, beta)
            # The slope rises with 1 / T: above 0, T is too low.
            cold, hot = (log_t, hot) if first > 0 else (cold, log_t)
            # Newton's step where it stays between the two, else half way; one so small leaves an error of its square.
            step = first / (beta * second) if second > 0 else math.inf
            log_t = log_t + step if cold <= log_t + step <= hot else (cold + hot) / 2
            if abs(step) < 1e-9:
                break
        temperature = torch.tensor(math.exp(log_t), dtype=torch.float64, device=parts[0][0].device)
        return cls(temperature=temperature, fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`, in nats, at least 0."""
        v = double(logits) / double(self.temperature)
        top, best = v.max(1, keepdim=True)
        # S = softplus(v_y - LSE_{c != y} v_c) of v / T, as MSP
        return torch.nn.functional.softplus(-(v - top).scatter(1, best, -torch.inf).logsumexp(1).to(logits))


def slopes(parts: list[tuple[Tensor, Tensor]], beta: float) -> tuple[float, float]:
    """The first two derivatives of `mean(LSE(beta v) - beta v_y)` by `beta = 1 / T`: `mean(E_p[v] - v_y)` and `mean(Var_p[v])`, `p = softmax(beta v)`."""
    first = second = 0.0
    for v, y in parts:
        p = (beta * v).softmax(1)
        pv = p * v
        expected = pv.sum(1)
        first += float((expected - v.gather(1, y[:, None])[:, 0]).sum())
        second += float(((pv * v).sum(1) - expected.square()).sum())
    samples = sum(len(y) for _, y in parts)
    return first / samples, second / samples

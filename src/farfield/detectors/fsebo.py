"""FSEBO: the energy of clipped features, times how large the features are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, expect_relu, fingerprint_of, head_of, require
from farfield.outputs import Data, validated
from farfield.stats import Quantiles, double


class FSEBO(Detector):
    """Feature-statistic energy: `S = LSE(W min(f, c) + b) (1 + mean_d f_d)`, `c` the q-quantile of all entries of all training features.

    For features after a ReLU: with a negative energy, or a mean below -1, the product turns around. One `c` for all data, where the official code
    has another constant for OOD data.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.tensor([[0.0, 1.0]]), head=ff.Head(torch.zeros(2, 2), torch.zeros(2)))
    >>> FSEBO.fit(train)(ff.Outputs(features=torch.tensor([[2.0, 4.0]])))  # log 2 times 1 + 3
    tensor([2.7726])

    Source: Guan et al., "Exploiting Discrepancy in Feature Statistic for Out-of-Distribution Detection", AAAI 2024.
    """

    use = "Features after a ReLU and a linear head, without labels."
    fails = "Features of both signs, or energies below 0: the product of the two turns around."
    cost = "scoring O(c d); fitting O(n d)"
    needs = ("features",)
    fit_needs = ("features", "head")
    passes = 2
    paper = "Guan et al., AAAI 2024"
    search = {"q": (80.0, 85.0, 90.0, 92.0, 95.0, 99.0)}
    weight: Tensor
    bias: Tensor
    cap: Tensor

    @classmethod
    def fit(cls, train: Data, *, q: float = 92.0) -> FSEBO:
        """The clipping point, in two passes.

        Args:
            train: outputs with features `(n, d)` and the head.
            q: percentile in `(0, 100]`; the official code takes 92.

        Raises:
            InputError: for a bad option or bad data.
        """
        require(0 < q <= 100, "FSEBO", "q", q, "0 < q <= 100")
        head = head_of(train, "FSEBO")
        expect_relu(next(validated(train, cls.fit_needs, "FSEBO")), "FSEBO")
        quantiles = Quantiles([q / 100])
        for _ in quantiles.passes():
            for chunk in validated(train, cls.fit_needs, "FSEBO"):
                assert chunk.features is not None
                quantiles.update(chunk.features)
        cap = torch.tensor(quantiles.values()[0], device=head.weight.device)
        return cls(weight=head.weight, bias=head.bias, cap=cap, fingerprint=fingerprint_of(train))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features`, in units of the logits times those of the features."""
        f = double(features)
        logits = f.minimum(double(self.cap)) @ double(self.weight).T + double(self.bias)
        # S = LSE(W min(f, c) + b) (1 + mean f)
        return (logits.logsumexp(1) * (1 + f.mean(1))).to(features)

"""VRA: small features to zero, large ones to a cap."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Shaper, expect_relu, fingerprint_of, head_of, require
from farfield.outputs import Data, validated
from farfield.stats import Quantiles


class VRA(Shaper):
    """Variational rectified activation: `f' = 0` where `f < a`, `f` between, `b` where `f > b`.

    `a` and `b` are percentiles of all entries of all training features, exact, from two passes in 1 MB. With `low=0` nothing but the smallest
    becomes 0 and it is ReAct. For features of both signs the low branch takes away half of them.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.arange(101.0)[:, None], head=ff.Head(torch.ones(2, 1), torch.zeros(2)))
    >>> VRA.fit(train, low=20, high=80)(ff.Outputs(features=torch.tensor([[10.0], [50.0], [90.0]]))).features.flatten()
    tensor([ 0., 50., 80.])

    Source: Xu, Lian, Liu and Tao, "VRA: Variational Rectified Activation for Out-of-distribution Detection", NeurIPS 2023.
    """

    use = "Features after a ReLU before a linear head, followed by `energy`; as `react`, and small features become 0."
    fails = "Features of both signs: the low branch takes away half of them, unless `low=0`."
    cost = "scoring O(c d), for the new logits; fitting O(n d)"
    fit_needs = ("features", "head")
    passes = 2
    paper = "Xu, Lian, Liu and Tao, NeurIPS 2023"
    search = {"low": (1.0, 5.0, 10.0, 15.0, 50.0, 60.0), "high": (85.0, 90.0, 95.0, 99.0)}
    floor: Tensor
    cap: Tensor

    @classmethod
    def fit(cls, train: Data, *, low: float = 60.0, high: float = 95.0) -> VRA:
        """The two percentiles, in two passes.

        Args:
            train: outputs with features `(n, d)` and the head.
            low: percentile below which features become 0, in `[0, 100]`; the paper takes 60 for CIFAR.
            high: percentile at which they are capped, from `low` to 100; the paper takes 90 for CIFAR-10, 95 for CIFAR-100.

        Raises:
            InputError: for a bad option or bad data.
        """
        require(0 <= low <= 100, "VRA", "low", low, "0 <= low <= 100")
        require(low <= high <= 100, "VRA", "high", high, f"low={low} <= high <= 100")
        head = head_of(train, "VRA")
        expect_relu(next(validated(train, cls.fit_needs, "VRA")), "VRA")
        quantiles = Quantiles([low / 100, high / 100])
        for _ in quantiles.passes():
            for chunk in validated(train, cls.fit_needs, "VRA"):
                assert chunk.features is not None
                quantiles.update(chunk.features)
        floor, cap = (torch.tensor(value, device=head.weight.device) for value in quantiles.values())
        return cls(weight=head.weight, bias=head.bias, floor=floor, cap=cap, fingerprint=fingerprint_of(train))

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """0 below the floor, the cap above it."""
        floor, cap = self.floor.to(features), self.cap.to(features)
        return torch.where(features < floor, torch.zeros_like(features), torch.minimum(features, cap))

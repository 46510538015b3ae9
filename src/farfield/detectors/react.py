"""ReAct: clip features that are larger than almost all training features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Shaper, expect_relu, fingerprint_of, head_of, require
from farfield.outputs import Data, validated
from farfield.stats import Quantiles


class React(Shaper):
    """Rectified activations: `f' = min(f, c)`, with `c` the q-th percentile of all entries of all training features.

    The percentile is exact, from two passes in 1 MB.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.arange(101.0)[:, None], head=ff.Head(torch.ones(2, 1), torch.zeros(2)))
    >>> React.fit(train, q=80)(ff.Outputs(features=torch.tensor([[50.0], [90.0]]))).logits
    tensor([[50., 50.],
            [80., 80.]])

    Source: Sun, Guo and Li, "ReAct: Out-of-distribution Detection With Rectified Activations", NeurIPS 2021, equations 3 and 4.
    """

    use = "Features after a ReLU before a linear head, followed by `energy`, for OOD that is far from the classes."
    fails = "Transformers: published near / far AUROC is 69.3 / 85.7 for ViT-B/16 on ImageNet, where MSP has 73.5 / 86.0 (OpenOOD v1.5)."
    cost = "scoring O(c d), for the new logits; fitting O(n d)"
    fit_needs = ("features", "head")
    passes = 2
    paper = "Sun, Guo and Li, NeurIPS 2021"
    search = {"q": (80.0, 85.0, 90.0, 95.0, 99.0)}
    cap: Tensor

    @classmethod
    def fit(cls, train: Data, *, q: float = 90.0) -> React:
        """The clipping point, in two passes.

        Args:
            train: outputs with features `(n, d)` and the head.
            q: percentile in `(0, 100]`; the paper takes 90.

        Raises:
            InputError: for a bad option or bad data.
        """
        require(0 < q <= 100, "ReAct", "q", q, "0 < q <= 100")
        head = head_of(train, "ReAct")
        expect_relu(next(validated(train, cls.fit_needs, "ReAct")), "ReAct")
        quantiles = Quantiles([q / 100])
        for _ in quantiles.passes():
            for chunk in validated(train, cls.fit_needs, "ReAct"):
                assert chunk.features is not None
                quantiles.update(chunk.features)
        cap = torch.tensor(quantiles.values()[0], device=head.weight.device)
        return cls(weight=head.weight, bias=head.bias, cap=cap, fingerprint=fingerprint_of(train))

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """`min(f, c)`."""
        return torch.minimum(features, self.cap.to(features))

"""DICE: only the weights that contribute most to the logits of training samples."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Shaper, expect_relu, fingerprint_of, head_of, require
from farfield.detectors.centred import mean_of
from farfield.outputs import Data, validated
from farfield.stats import double


class DICE(Shaper):
    """Directed sparsification: `v' = (M * W) f + b`, `M_cd = 1` where `W_cd m_d` is above the p-th percentile of all its entries.

    `m` is the mean of the training features. The features stay; the logits that go on are those of the sparse weights.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.tensor([[1.0, 1.0], [1.0, 3.0]]), head=ff.Head(torch.eye(2), torch.ones(2)))
    >>> DICE.fit(train, p=80)(train).logits
    tensor([[1., 2.],
            [1., 4.]])

    Source: Sun and Li, "DICE: Leveraging Sparsification for Out-of-Distribution Detection", ECCV 2022.
    """

    use = "Features after a ReLU before a linear head, followed by `energy`, where few weights of a class carry its logit."
    fails = "Transformers: published near / far AUROC is 48.5 / 60.4 for Swin-T on ImageNet, where MSP has 76.8 / 86.3 (OpenOOD v1.5)."
    cost = "scoring O(c d), for the new logits; fitting O(n d)"
    fit_needs = ("features", "head")
    passes = 1
    paper = "Sun and Li, ECCV 2022"
    search = {"p": (10.0, 30.0, 50.0, 70.0, 90.0)}

    @classmethod
    def fit(cls, train: Data, *, p: float = 90.0) -> DICE:
        """The mean feature, in one pass, in float64.

        Args:
            train: outputs with features `(n, d)` and the head.
            p: per cent of the weights that become 0, in `[0, 100)`; the paper takes 90 for CIFAR, 70 for ImageNet.

        Raises:
            InputError: for a bad option or bad data.
        """
        require(0 <= p < 100, "DICE", "p", p, "0 <= p < 100")
        head = head_of(train, "DICE")
        expect_relu(next(validated(train, cls.fit_needs, "DICE")), "DICE")
        contributions = double(head.weight) * mean_of(train, "DICE")
        ordered = contributions.flatten().sort().values
        place = p / 100 * (len(ordered) - 1)
        low = int(place)
        threshold = ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
        weight = torch.where(contributions > threshold, head.weight, torch.zeros_like(head.weight))
        return cls(weight=weight, bias=head.bias, fingerprint=fingerprint_of(train))

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The features as they are."""
        return features

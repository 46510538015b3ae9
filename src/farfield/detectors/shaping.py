"""ASH and SCALE: shapers that look at the largest features of each sample alone. Nothing is fitted."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Shaper, expect_relu, fingerprint_of, head_of, require
from farfield.outputs import Data, validated
from farfield.stats import double

STEEPEST = 50.0  # the largest exponent of a scale: of ReLU features with 2 % kept; beyond, float32 would overflow


def kept(d: int, p: float) -> int:
    """How many of `d` features are left when `p` per cent are pruned: at least one.

    >>> kept(10, 90), kept(10, 99)
    (1, 1)
    """
    return max(1, d - round(d * p / 100))


def boost(features: Float[Tensor, "n d"], top: Float[Tensor, "n k"]) -> Float[Tensor, "n 1"]:
    """`exp(s1 / s2)`, `s1` the sum of all features and `s2` that of the largest; 1 where `s2` is not positive."""
    s1, s2 = double(features).sum(1, keepdim=True), double(top).sum(1, keepdim=True)
    positive = s2 > 0
    ratio = (s1 / torch.where(positive, s2, 1.0)).clamp_max(STEEPEST)
    return torch.where(positive, ratio.exp(), 1.0).to(features)


def state(train: Data, p: float, method: str) -> dict[str, Any]:
    """What all of these keep: the head, and `p`, checked."""
    require(0 <= p < 100, method, "p", p, "0 <= p < 100")
    expect_relu(next(validated(train, ("features", "head"), method)), method)
    head = head_of(train, method)
    return {"p": float(p), "weight": head.weight, "bias": head.bias, "fingerprint": fingerprint_of(train)}


class ASHP(Shaper):
    """ASH-P: the largest `100 - p` per cent of the features of each sample stay, the rest become 0.

    Of equal features it is not said which stay.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.tensor([[1.0, 2.0, 3.0, 4.0]]), head=ff.Head(torch.eye(4), torch.zeros(4)))
    >>> ASHP.fit(train, p=50)(train).features
    tensor([[0., 0., 3., 4.]])

    Source: Djurisic, Bozanic, Ashok and Liu, "Extremely Simple Activation Shaping for Out-of-Distribution Detection", ICLR 2023.
    """

    use = "Features after a ReLU before a linear head, followed by `energy`; no training data are needed."
    fails = (
        "Features of both signs: near-OOD AUROC is 56.9 on the transformer of Glyphs, where `energy` has 81.7 (`farfield bench --detector "
        "ash-p+energy`)."
    )
    cost = "scoring O(c d), for the new logits; fitting nothing"
    fit_needs = ("features", "head")
    passes = 0
    paper = "Djurisic et al., ICLR 2023"
    search = {"p": (65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)}

    def __init__(self, *, p: float, weight: Tensor, bias: Tensor, fingerprint: str | None = None) -> None:
        super().__init__(p=p, weight=weight, bias=bias, fingerprint=fingerprint)
        self.p = p

    @classmethod
    def fit(cls, train: Data, *, p: float = 90.0) -> ASHP:
        """Nothing to fit.

        Args:
            train: outputs with features `(n, d)` and the head; only the first chunk is looked at.
            p: per cent of the features to prune, in `[0, 100)`.

        Raises:
            InputError: for a bad option or bad data.
        """
        return cls(**state(train, p, "ASHP"))

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The largest features as they are."""
        top, where = features.topk(kept(features.shape[1], self.p), 1)
        return torch.zeros_like(features).scatter(1, where, top)


class ASHB(Shaper):
    """ASH-B: the largest `k` features of each sample all become `s1 / k`, `s1` the sum of all features; the rest become 0.

    Of equal features it is not said which stay.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.tensor([[1.0, 2.0, 3.0, 4.0]]), head=ff.Head(torch.eye(4), torch.zeros(4)))
    >>> ASHB.fit(train, p=50)(train).features
    tensor([[0., 0., 5., 5.]])

    Source: Djurisic, Bozanic, Ashok and Liu, "Extremely Simple Activation Shaping for Out-of-Distribution Detection", ICLR 2023.
    """

    use = "Features after a ReLU before a linear head, followed by `energy`; no training data are needed."
    fails = "Features of both signs: published near / far AUROC is 53.2 / 51.6 for ViT-B/16 and 46.5 / 44.6 for Swin-T on ImageNet (OpenOOD v1.5)."
    cost = "scoring O(c d), for the new logits; fitting nothing"
    fit_needs = ("features", "head")
    passes = 0
    paper = "Djurisic et al., ICLR 2023"
    search = {"p": (65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)}

    def __init__(self, *, p: float, weight: Tensor, bias: Tensor, fingerprint: str | None = None) -> None:
        super().__init__(p=p, weight=weight, bias=bias, fingerprint=fingerprint)
        self.p = p

    @classmethod
    def fit(cls, train: Data, *, p: float = 65.0) -> ASHB:
        """Nothing to fit.

        Args:
            train: outputs with features `(n, d)` and the head; only the first chunk is looked at.
            p: per cent of the features to prune, in `[0, 100)`.

        Raises:
            InputError: for a bad option or bad data.
        """
        return cls(**state(train, p, "ASHB"))

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Two levels: 0 and `s1 / k`."""
        top, where = features.topk(kept(features.shape[1], self.p), 1)
        # f' = s1 / k
        level = (double(features).sum(1, keepdim=True) / top.shape[1]).to(features)
        return torch.zeros_like(features).scatter(1, where, level.expand_as(top))


class ASHS(Shaper):
    """ASH-S: the largest `100 - p` per cent of the features of each sample, times `exp(s1 / s2)`; the rest become 0.

    `s1` is the sum of all features and `s2` that of the largest. *Differs from the paper*: the exponent is at most 50, and the factor 1 where `s2` is
    not positive, as signed features may have it.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.tensor([[1.0, 2.0, 3.0, 4.0]]), head=ff.Head(torch.eye(4), torch.zeros(4)))
    >>> ASHS.fit(train, p=50)(train).features
    tensor([[ 0.0000,  0.0000, 12.5182, 16.6909]])

    Source: Djurisic, Bozanic, Ashok and Liu, "Extremely Simple Activation Shaping for Out-of-Distribution Detection", ICLR 2023.
    """

    use = "Features after a ReLU before a linear head, followed by `energy`; no training data are needed."
    fails = "ImageNet networks at large: the mean FPR on NINCO over 44 of them is 92.9 %, where `energy` has 58.6 % (Mueller and Hein, ICML 2025)."
    cost = "scoring O(c d), for the new logits; fitting nothing"
    fit_needs = ("features", "head")
    passes = 0
    paper = "Djurisic et al., ICLR 2023"
    search = {"p": (65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)}

    def __init__(self, *, p: float, weight: Tensor, bias: Tensor, fingerprint: str | None = None) -> None:
        super().__init__(p=p, weight=weight, bias=bias, fingerprint=fingerprint)
        self.p = p

    @classmethod
    def fit(cls, train: Data, *, p: float = 90.0) -> ASHS:
        """Nothing to fit.

        Args:
            train: outputs with features `(n, d)` and the head; only the first chunk is looked at.
            p: per cent of the features to prune, in `[0, 100)`.

        Raises:
            InputError: for a bad option or bad data.
        """
        return cls(**state(train, p, "ASHS"))

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The largest features, scaled."""
        top, where = features.topk(kept(features.shape[1], self.p), 1)
        # f' = f exp(s1 / s2)
        return torch.zeros_like(features).scatter(1, where, top * boost(features, top))


class Scale(Shaper):
    """SCALE: all features of a sample, times `exp(s1 / s2)`: ASH-S without the pruning.

    `s1` is the sum of all features and `s2` that of the largest `100 - p` per cent; limits as in ASH-S. Without a bias the prediction stays.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(features=torch.tensor([[1.0, 2.0, 3.0, 4.0]]), head=ff.Head(torch.eye(4), torch.zeros(4)))
    >>> Scale.fit(train, p=50)(train).features
    tensor([[ 4.1727,  8.3455, 12.5182, 16.6909]])

    Source: Xu, Chen, Franchi and Yao, "Scaling for Training Time and Post-hoc Out-of-distribution Detection Enhancement", ICLR 2024.
    """

    use = (
        "Features after a ReLU before a linear head, followed by `energy`: published 81.4 / 96.5 near / far for ResNet-50 on ImageNet (OpenOOD v1.5)."
    )
    fails = "CIFAR-10: published near / far AUROC is 82.6 / 86.4, where MSP has 88.0 / 90.7 (OpenOOD v1.5)."
    cost = "scoring O(c d), for the new logits; fitting nothing"
    fit_needs = ("features", "head")
    passes = 0
    paper = "Xu et al., ICLR 2024"
    search = {"p": (65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)}

    def __init__(self, *, p: float, weight: Tensor, bias: Tensor, fingerprint: str | None = None) -> None:
        super().__init__(p=p, weight=weight, bias=bias, fingerprint=fingerprint)
        self.p = p

    @classmethod
    def fit(cls, train: Data, *, p: float = 85.0) -> Scale:
        """Nothing to fit.

        Args:
            train: outputs with features `(n, d)` and the head; only the first chunk is looked at.
            p: per cent of the features to prune, in `[0, 100)`.

        Raises:
            InputError: for a bad option or bad data.
        """
        return cls(**state(train, p, "Scale"))

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The features, scaled."""
        # f' = f exp(s1 / s2)
        return features * boost(features, features.topk(kept(features.shape[1], self.p), 1).values)

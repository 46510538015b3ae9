"""fDBD and NCI: scores of a feature seen from the mean of all training features."""

from __future__ import annotations

from jaxtyping import Float, Float64
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, head_of, require
from farfield.outputs import Data, validated
from farfield.stats import double

TINY = 1e-12  # the least length that is divided by


def mean_of(train: Data, method: str) -> Float64[Tensor, " d"]:
    """The mean of the training features, in one pass, in float64."""
    total, n = None, 0
    for chunk in validated(train, ("features", "head"), method):
        assert chunk.features is not None
        part = double(chunk.features).sum(0)
        total, n = part if total is None else total + part, n + len(chunk)
    assert total is not None
    return total / n


class FDBD(Detector):
    """Fast decision boundary: the mean distance of a feature to the boundaries of its class, over its distance to the mean feature.

    `S = (1 / (c - 1)) sum_{k != y} (v_y - v_k) / ||w_y - w_k|| / ||f - mu||`, `y` the predicted class: for a linear head each term is the
    distance to the boundary with class `k`. The distances between weights are one product, `c x c`.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[3.0, 0.0], [-3.0, 4.0]])
    >>> train = ff.Outputs(features=x, logits=x, head=ff.Head(torch.eye(2), torch.zeros(2)))
    >>> FDBD.fit(train)(train)
    tensor([0.5883, 1.3728])

    Source: Liu and Qin, "Fast Decision Boundary based Out-of-Distribution Detector", ICML 2024.
    """

    use = "Logits, features and a linear head, without labels; there is nothing to tune."
    fails = "Heads that are not linear, such as cosine heads: their boundaries are elsewhere."
    cost = "scoring O(c + d); fitting O(n d + c^2 d); keeps c^2 numbers"
    needs = ("logits", "features")
    fit_needs = ("logits", "features", "head")
    passes = 1
    paper = "Liu and Qin, ICML 2024"
    mean: Tensor
    per_distance: Tensor

    @classmethod
    def fit(cls, train: Data) -> FDBD:
        """The mean feature and the distances between the weights.

        Args:
            train: outputs with features `(n, d)`, logits `(n, c)` and the head.

        Raises:
            InputError: for bad data.
        """
        head = head_of(train, "FDBD")
        next(validated(train, cls.fit_needs, "FDBD"))
        mean, weight = mean_of(train, "FDBD"), double(head.weight)
        weight = weight - weight.mean(0)  # changes no difference, and keeps its digits
        squares = weight.square().sum(1)
        # ||w_y - w_k||^2 = ||w_y||^2 + ||w_k||^2 - 2 w_y.w_k
        distances = (squares[:, None] + squares - 2 * weight @ weight.T).clamp_min(0).sqrt().clamp_min(TINY)
        distances.fill_diagonal_(1.0)  # above it stands 0
        return cls(mean=mean, per_distance=1 / distances / (len(weight) - 1), fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`: at least 0, without a unit."""
        v = double(logits)
        top, best = v.max(1)
        boundaries = ((top[:, None] - v) * double(self.per_distance)[best]).sum(1)
        # S = mean_k (v_y - v_k) / ||w_y - w_k|| / ||f - mu||
        return (boundaries / (double(features) - double(self.mean)).square().sum(1).sqrt().clamp_min(TINY)).to(features)


class NCI(Detector):
    """Neural-collapse inspired: how far a feature points along the weights of its class, plus a little of its size.

    `S = w_y.(f - mu) / ||f - mu|| + a ||f||_1`, `y` the predicted class.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[3.0, 0.0], [-3.0, 4.0]])
    >>> train = ff.Outputs(features=x, logits=x, head=ff.Head(torch.eye(2), torch.zeros(2)))
    >>> NCI.fit(train, a=0.0)(train)
    tensor([0.8321, 0.5547])

    Source: Liu and Qin, "Detecting Out-of-Distribution Through the Lens of Neural Collapse", CVPR 2025.
    """

    use = "Logits, features and a linear head, without labels; as `fdbd`, with a weight for the size of a feature."
    fails = "An `a` from another network: it is bound to the scale of the features."
    cost = "scoring O(c + d); fitting O(n d); keeps c d numbers"
    needs = ("logits", "features")
    fit_needs = ("logits", "features", "head")
    passes = 1
    paper = "Liu and Qin, CVPR 2025"
    search = {"a": (0.0, 1e-4, 1e-3, 1e-2, 1e-1)}
    mean: Tensor
    weight: Tensor

    def __init__(self, *, a: float, mean: Tensor, weight: Tensor, fingerprint: str | None = None) -> None:
        super().__init__(a=a, mean=mean, weight=weight, fingerprint=fingerprint)
        self.a = a

    @classmethod
    def fit(cls, train: Data, *, a: float = 1e-4) -> NCI:
        """The mean feature, in one pass, in float64.

        Args:
            train: outputs with features `(n, d)`, logits `(n, c)` and the head.
            a: weight of the L1 norm, from 0 to 1e6; it is bound to the scale of the features.

        Raises:
            InputError: for a bad option or bad data.
        """
        require(0 <= a <= 1e6, "NCI", "a", a, "0 <= a <= 1e6")
        head = head_of(train, "NCI")
        next(validated(train, cls.fit_needs, "NCI"))
        return cls(a=float(a), mean=mean_of(train, "NCI"), weight=head.weight, fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`."""
        centred = double(features) - double(self.mean)
        along = (double(self.weight[logits.argmax(1)]) * centred).sum(1)
        # S = w_y.(f - mu) / ||f - mu|| + a ||f||_1
        return (along / centred.square().sum(1).sqrt().clamp_min(TINY) + self.a * double(features).abs().sum(1)).to(features)

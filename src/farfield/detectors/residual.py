"""Residual and ViM: what of a feature lies outside the directions in which training features vary most."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, head_of, require
from farfield.errors import InputError
from farfield.outputs import Data, Head, validated
from farfield.stats import SINGULAR, ClassMoments, double

Basis = Float64[Tensor, "d r"]


def usual_dim(d: int) -> int:
    """How many directions ViM takes for the principal ones of `d` features."""
    return 1000 if d >= 2048 else 512 if d >= 768 else d // 2


def origin_of(head: Head) -> Float64[Tensor, " d"]:
    """The features at which all logits are 0, or as near to it as they get: `o = -pinv(W) b`."""
    origin: Tensor = -torch.linalg.pinv(double(head.weight)) @ double(head.bias)
    return origin


def residual_space(train: Data, dim: int | None, method: str) -> dict[str, Tensor]:
    """`R`, the eigenvectors of `M = E[(f - o)(f - o)^T]` after the first `dim`, the mean `m`, and `R^T (m - o)`."""
    require(dim is None or dim >= 1, method, "dim", dim, "dim >= 1, or none for the usual")
    origin = origin_of(head_of(train, method))
    d = len(origin)
    first = usual_dim(d) if dim is None else dim
    if first >= d:
        raise InputError(f"{method} needs dim < {d}, the number of features; got dim={first}.")
    moments = ClassMoments()
    for chunk in validated(train, ("features", "head"), method):
        assert chunk.features is not None
        moments.update(chunk.features, torch.zeros(len(chunk), dtype=torch.int64, device=chunk.features.device))
    # M = C + m m^T, C the covariance and m the mean seen from the origin, which may be long: then the first direction is all but m's, and the
    # others are found again without it, since beside a long m they would have few digits.
    covariance, mean = moments.within(), moments.mean() - origin
    vectors = torch.linalg.eigh(covariance + mean[:, None] * mean).eigenvectors[:, :-1]
    along = vectors.T @ mean
    values, inner = torch.linalg.eigh(vectors.T @ covariance @ vectors + along[:, None] * along)
    rest = d - first  # the smallest come first
    if values[:rest].clamp_min(0).sum() <= SINGULAR * (covariance.trace() + mean @ mean):
        raise InputError(
            f"{method} needs training features that leave the first {first} directions; these {moments.total} samples do not. Lower `dim`."
        )
    basis: Basis = vectors @ inner[:, :rest]
    return {"mean": moments.mean(), "offset": mean @ basis, "basis": basis}


class Residual(Detector):
    """Negative length of the part of a feature outside the principal directions: `S = -||R^T (f - o)||`.

    `o = -pinv(W) b` is the origin of the features for the head, `R` the eigenvectors of `E[(f - o)(f - o)^T]` after the first `dim`.

    >>> import torch, farfield as ff
    >>> head = ff.Head(torch.eye(2), torch.zeros(2))
    >>> train = ff.Outputs(features=torch.tensor([[3.0, 0.1], [-3.0, 0.1]]), head=head)
    >>> Residual.fit(train, dim=1)(ff.Outputs(features=torch.tensor([[5.0, 2.0]])))
    tensor([-2.])

    Source: Wang, Li, Feng and Zhang, "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022.
    """

    use = "Features and a head, without labels, where OOD leaves the directions that training features vary in."
    fails = (
        "OOD that stays in those directions: near-OOD AUROC is from 55.8 to 68.9 on the three networks of Glyphs (`farfield bench --detector "
        "residual`)."
    )
    cost = "scoring O(d r), r = d - dim; fitting O(n d^2 + d^3); keeps d r numbers"
    needs = ("features",)
    fit_needs = ("features", "head")
    passes = 1
    paper = "Wang et al., CVPR 2022"
    search = {"dim": (None, 16, 32, 64, 128, 256, 512, 1000)}
    mean: Tensor
    offset: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, train: Data, *, dim: int | None = None) -> Residual:
        """The second moments about the origin, in one pass, in float64.

        Args:
            train: outputs with features `(n, d)` and the head.
            dim: principal directions, below `d`; by default 1,000 from 2,048 features on, 512 from 768 on, else half of them.

        Raises:
            InputError: for a bad option or bad data, or features that do not leave the principal directions.
        """
        return cls(**residual_space(train, dim, "Residual"), fingerprint=fingerprint_of(train))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features`: at most 0, in their units."""
        # S = -||R^T (f - o)|| = -||R^T (f - m) + R^T (m - o)||, m the mean: near it float32 has the digits
        near = (double(features) - double(self.mean)).to(features)
        return -torch.addmm(self.offset.to(features), near, self.basis.to(features)).square().sum(1).sqrt()


class ViM(Detector):
    """Virtual-logit matching: the energy less the residual, which stands for one more class.

    `S = LSE(v) - alpha ||R^T (f - o)||`, `alpha = mean(max_c v) / mean(||R^T (f - o)||)` over the training samples; `R` and `o` as in Residual.
    The probability of the virtual class is an increasing map of `-S`.

    >>> import torch, farfield as ff
    >>> head = ff.Head(torch.eye(2), torch.zeros(2))
    >>> x = torch.tensor([[3.0, 1.0], [-3.0, 1.0]])
    >>> train = ff.Outputs(features=x, logits=x, head=head)
    >>> ViM.fit(train, dim=1)(train)
    tensor([ 1.1269, -0.9819])

    Source: Wang, Li, Feng and Zhang, "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022.
    """

    use = "Logits, features and a head, without labels, for OOD that is far from the classes."
    fails = "Near-OOD on ImageNet: published AUROC is 72.1 for ResNet-50 (256 directions), where MSP has 76.0 (OpenOOD v1.5)."
    cost = "scoring O(c + d r), r = d - dim; fitting O(n d^2 + d^3); keeps d r numbers"
    needs = ("logits", "features")
    fit_needs = ("logits", "features", "head")
    passes = 2
    paper = "Wang et al., CVPR 2022"
    search = {"dim": (None, 16, 32, 64, 128, 256, 512, 1000)}
    alpha: Tensor

    def __init__(self, *, residual: Residual, alpha: Tensor) -> None:
        super().__init__(alpha=alpha, fingerprint=residual.fingerprint)
        self.residual = residual

    @classmethod
    def fit(cls, train: Data, *, dim: int | None = None) -> ViM:
        """The residual space, then the scale of the virtual logit, in two passes.

        Args:
            train: outputs with features `(n, d)`, logits `(n, c)` and the head.
            dim: principal directions, as in `Residual.fit`.

        Raises:
            InputError: for a bad option or bad data, or features that do not leave the principal directions.
        """
        residual = Residual(**residual_space(train, dim, "ViM"), fingerprint=fingerprint_of(train))
        tops = lengths = torch.zeros((), dtype=torch.float64, device=residual.mean.device)
        for chunk in validated(train, cls.fit_needs, "ViM"):
            assert chunk.features is not None and chunk.logits is not None
            tops = tops + double(chunk.logits).amax(1).sum()
            lengths = lengths - residual.score(double(chunk.features)).sum()
        # alpha = mean(max v) / mean(||R^T (f - o)||)
        return cls(residual=residual, alpha=tops / lengths)

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`, in the units of the logits."""
        # S = LSE(v) - alpha ||R^T (f - o)||, a difference: in float64
        return (double(logits).logsumexp(1) + double(self.alpha) * self.residual.score(double(features))).to(features)

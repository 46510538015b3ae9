"""Mahalanobis distance to the nearest class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, require, warn
from farfield.errors import InputError
from farfield.outputs import Data, validated
from farfield.stats import ClassMoments, inverse_root, split


class Mahalanobis(Detector):
    """Negative squared Mahalanobis distance of the features to the nearest class mean, under one covariance for all classes.

    `S = -min_c (f - mu_c)^T Sigma^-1 (f - mu_c)`, `Sigma = 1/N sum_i (f_i - mu_{y_i})(f_i - mu_{y_i})^T`.

    *Differs from the paper*: the last layer's features alone, no input perturbation, and no factor 1/2, as the later
    literature has it. A singular `Sigma` is inverted on its range (pseudo-inverse), with a warning.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    >>> train = ff.Outputs(features=x, labels=torch.tensor([0, 0, 1, 1]))
    >>> Mahalanobis.fit(train)(ff.Outputs(features=torch.tensor([[1.0], [14.0]])))
    tensor([-0., -9.])

    Source: Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
    NeurIPS 2018, equations 1 and 2.
    """

    use = "Features, with labelled training data, of networks pre-trained on much data."
    fails = (
        "Convolutional networks trained on ImageNet alone: published near / far AUROC is 55.4 / 74.3 for ResNet-50, where MSP has 76.0 / 85.2 "
        "(OpenOOD v1.5)."
    )
    cost = "scoring O(d^2 + c d); fitting O(n d^2 + d^3); keeps d^2 + 3 c d numbers"
    needs = ("features",)
    fit_needs = ("features", "labels")
    passes = 1
    paper = "Lee et al., NeurIPS 2018"
    search = {"shrinkage": (0.0, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0)}
    mean: Tensor
    mean_rest: Tensor
    centre: Tensor
    centre_rest: Tensor
    root: Tensor
    whitened: Tensor

    @classmethod
    def fit(cls, train: Data, *, shrinkage: float = 0.0) -> Mahalanobis:
        """Class means and covariance, in one pass, in float64.

        Args:
            train: outputs with features `(n, d)` and true labels `(n,)`; classes without samples are left out.
            shrinkage: `a` in `[0, 1]`: the covariance becomes `(1 - a) Sigma + a tr(Sigma)/d I`.

        Raises:
            InputError: for a bad option or bad data, or features that do not vary within classes.
        """
        require(0 <= shrinkage <= 1, "Mahalanobis", "shrinkage", shrinkage, "0 <= shrinkage <= 1")
        return cls.of(moments_of(train, "Mahalanobis"), shrinkage, fingerprint_of(train))

    @classmethod
    def of(cls, moments: ClassMoments, shrinkage: float = 0.0, fingerprint: str | None = None) -> Mahalanobis:
        """The detector of the moments of some features."""
        means, centre, root = gaussian(moments, shrinkage, "Mahalanobis")
        # Subtracting a mean in two steps costs no digits of features far from zero.
        (mean, mean_rest), (coarse, rest), whitened = split(means), split(centre), ((means - centre) @ root).float()
        return cls(
            mean=mean,
            mean_rest=mean_rest,
            centre=coarse,
            centre_rest=rest,
            root=root.float(),
            whitened=whitened,
            fingerprint=fingerprint,
        )

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features`: at most 0, in squared standard deviations."""
        root, whitened = self.root.to(features), self.whitened.to(features)
        z = (features - self.centre.to(features) - self.centre_rest.to(features)) @ root
        # argmin_c |z - m_c|^2 = argmin_c |m_c|^2 - 2 z.m_c; the distance itself is then taken from the class's own mean, where nothing cancels.
        nearest = torch.addmm(whitened.square().sum(1), z, whitened.T, alpha=-2).argmin(1)
        difference = features - self.mean.to(features)[nearest] - self.mean_rest.to(features)[nearest]
        # S = -min_c |A^T (f - mu_c)|^2 with A A^T = Sigma^-1
        return -(difference @ root).square().sum(1)


def moments_of(train: Data, method: str) -> ClassMoments:
    """The moments of the training features, in one pass."""
    moments = ClassMoments()
    for chunk in validated(train, ("features", "labels"), method):
        assert chunk.features is not None and chunk.labels is not None
        moments.update(chunk.features, chunk.labels)
    return moments


def gaussian(moments: ClassMoments, shrinkage: float, method: str) -> tuple[Float64[Tensor, "c d"], Float64[Tensor, " d"], Float64[Tensor, "d r"]]:
    """The class means, the mean of all, and `A` with `A A^T = Sigma^-1`; warns where `Sigma` is singular."""
    centre, sigma = moments.mean(), moments.within()
    d = len(sigma)
    sigma = (1 - shrinkage) * sigma + shrinkage * sigma.trace() / d * torch.eye(d, dtype=sigma.dtype, device=sigma.device)
    root, rank = inverse_root(sigma, centre)
    if rank == 0:
        raise InputError(f"{method} needs features that vary within classes; these {d} are constant in {moments.total} samples.")
    if rank < d:
        lost = "1 direction is" if d - rank == 1 else f"{d - rank} directions are"
        warn(f"The covariance of {d} features from {moments.total} samples has rank {rank}; {lost} ignored. Raise `shrinkage` to use them.")
    return moments.means(), centre, root


def to_nearest(z: Float64[Tensor, "n r"], means: Float64[Tensor, "c r"]) -> Float64[Tensor, " n"]:
    """The squared distance of each row to the nearest of the means."""
    # argmin_c |z - m_c|^2 = argmin_c |m_c|^2 - 2 z.m_c
    nearest = torch.addmm(means.square().sum(1), z, means.T, alpha=-2).argmin(1)
    return (z - means[nearest]).square().sum(1)

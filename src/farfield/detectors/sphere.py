"""Mahalanobis++ and its relative form: the same distances between features of unit length."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, require
from farfield.detectors.knn import normalized
from farfield.detectors.mahalanobis import gaussian, moments_of, to_nearest
from farfield.detectors.relative import RelativeMahalanobis
from farfield.outputs import Data, Outputs, count, validated
from farfield.stats import double


class OnSphere:
    """Training data with features of unit length, in float64; iterable as often as the data behind it."""

    def __init__(self, train: Data, method: str) -> None:
        self.train, self.method, self.samples = train, method, count(train)

    def __iter__(self) -> Iterator[Outputs]:
        for chunk in validated(self.train, ("features", "labels"), self.method):
            assert chunk.features is not None
            yield chunk.having(features=normalized(chunk.features))


class MahalanobisPP(Detector):
    """Mahalanobis++: `Mahalanobis` of features of unit length, `z = f / ||f||`, in fitting and in scoring; all of it in float64.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 2.0], [1.0, 5.0]])
    >>> detector = MahalanobisPP.fit(ff.Outputs(features=x, labels=torch.tensor([0, 0, 1, 1])))
    >>> one, same = detector(ff.Outputs(features=torch.tensor([[3.0, 4.0], [6.0, 8.0]])))
    >>> bool(abs(one - same) < 1e-4 * abs(one))
    True

    Source: Mueller and Hein, "Mahalanobis++: Improving OOD Detection via Feature Normalization", ICML 2025.
    """

    use = "Features, with labelled training data, of networks pre-trained on much data, where the lengths of features vary."
    fails = "The ViT-T, B and L of augreg, pre-trained on ImageNet-21k: plain `mahalanobis` is better there (Mueller and Hein, ICML 2025)."
    cost = "scoring O(d^2 + c d); fitting O(n d^2 + d^3); keeps d^2 + 3 c d numbers"
    needs = ("features",)
    fit_needs = ("features", "labels")
    passes = 1
    paper = "Mueller and Hein, ICML 2025"
    search = {"shrinkage": (0.0, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0)}
    centre: Tensor
    root: Tensor
    whitened: Tensor

    @classmethod
    def fit(cls, train: Data, *, shrinkage: float = 0.0) -> MahalanobisPP:
        """As `Mahalanobis.fit`, on features of unit length.

        Args:
            train: outputs with features `(n, d)` and true labels `(n,)`.
            shrinkage: in `[0, 1]`, as in `Mahalanobis.fit`.

        Raises:
            InputError: for a bad option or bad data, or directions that do not vary within classes.
        """
        require(0 <= shrinkage <= 1, "MahalanobisPP", "shrinkage", shrinkage, "0 <= shrinkage <= 1")
        means, centre, root = gaussian(moments_of(OnSphere(train, "MahalanobisPP"), "MahalanobisPP"), shrinkage, "MahalanobisPP")
        return cls(centre=centre, root=root, whitened=(means - centre) @ root, fingerprint=fingerprint_of(train))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features`: at most 0, in squared standard deviations."""
        # Directions may be all but the same: in float64.
        z = (normalized(features) - double(self.centre)) @ double(self.root)
        # S = -min_c |A^T (z - mu_c)|^2 with A A^T = Sigma^-1
        return -to_nearest(z, double(self.whitened)).to(features)


class RelativeMahalanobisPP(Detector):
    """Relative Mahalanobis++: `RelativeMahalanobis` of features of unit length, in fitting and in scoring.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 2.0], [1.0, 5.0]])
    >>> detector = RelativeMahalanobisPP.fit(ff.Outputs(features=x, labels=torch.tensor([0, 0, 1, 1])))
    >>> one, same = detector(ff.Outputs(features=torch.tensor([[3.0, 4.0], [6.0, 8.0]])))
    >>> bool(abs(one - same) < 1e-4 * abs(one))
    True

    Source: Mueller and Hein, "Mahalanobis++: Improving OOD Detection via Feature Normalization", ICML 2025; Ren et al., 2021.
    """

    use = "Features, with labelled training data, of networks trained on their own classes alone."
    fails = "Far-OOD of RegNet-Y-16GF on ImageNet: published AUROC is 94.2, where `mahalanobis++` has 97.5 (OpenOOD v1.5)."
    cost = "scoring O(d^2 + c d), twice that of `mahalanobis++`; fitting O(n d^2 + d^3); keeps 2 d^2 + c d numbers in float64"
    needs = ("features",)
    fit_needs = ("features", "labels")
    passes = 1
    paper = "Mueller and Hein, ICML 2025; Ren et al., 2021"
    search = {"shrinkage": (0.0, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0)}

    def __init__(self, *, inner: RelativeMahalanobis) -> None:
        super().__init__(fingerprint=inner.fingerprint)
        self.inner = inner

    @classmethod
    def fit(cls, train: Data, *, shrinkage: float = 0.0) -> RelativeMahalanobisPP:
        """As `RelativeMahalanobis.fit`, on features of unit length.

        Args:
            train: outputs with features `(n, d)` and true labels `(n,)`.
            shrinkage: in `[0, 1]`, as in `RelativeMahalanobis.fit`.

        Raises:
            InputError: for a bad option or bad data, or directions that do not vary within classes.
        """
        return cls(inner=RelativeMahalanobis.fit(OnSphere(train, "RelativeMahalanobisPP"), shrinkage=shrinkage))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features`, in squared standard deviations."""
        return self.inner.score(normalized(features)).to(features)

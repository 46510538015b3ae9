"""NECO: how much of a feature lies in the principal directions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, require, warn
from farfield.errors import InputError
from farfield.outputs import Data, validated
from farfield.stats import ClassMoments, double


class NECO(Detector):
    """Neural-collapse observer: `S = ||P z|| / ||z|| max_c v_c`, `z = (f - mean) / deviation`, `P` the first principal directions of `z`.

    `z` is standardised and `P` are eigenvectors of the correlation matrix: as many as hold a share of the variance. Features that do not vary are
    left out. The factor `max v` is left out where it is not positive for every training sample, with a warning: it would turn scores around.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[3.0, 1.1], [1.0, 2.9], [2.0, 2.0], [2.5, 1.4]])
    >>> detector = NECO.fit(ff.Outputs(features=x, logits=x))
    >>> one, other = detector(ff.Outputs(features=torch.tensor([[4.0, 0.0], [4.0, 4.0]]), logits=torch.full((2, 2), 5.0)))
    >>> bool(one > 4.9), bool(other < 1)
    (True, True)

    Source: Ben Ammar et al., "NECO: NEural Collapse Based Out-of-distribution detection", ICLR 2024, equation 6.
    """

    use = "Logits and features, without labels and without a head, where features vary in few directions."
    fails = "Largest logits that are not above 0 would turn the score around: the factor is then left out, with a warning."
    cost = "scoring O(c + d r), r the principal directions; fitting O(n d^2 + d^3); keeps d r numbers"
    needs = ("logits", "features")
    fit_needs = ("logits", "features")
    passes = 1
    paper = "Ben Ammar et al., ICLR 2024"
    search = {"variance": (0.5, 0.7, 0.8, 0.9, 0.95, 0.99), "times": ("logit", "nothing")}
    mean: Tensor
    per_deviation: Tensor
    directions: Tensor

    def __init__(self, *, times_logit: bool, fingerprint: str | None = None, **state: Tensor) -> None:
        super().__init__(times_logit=times_logit, fingerprint=fingerprint, **state)
        self.times_logit = times_logit

    @classmethod
    def fit(cls, train: Data, *, variance: float = 0.9, times: str = "logit") -> NECO:
        """Means, deviations and principal directions, in one pass, in float64.

        Args:
            train: outputs with features `(n, d)` and logits `(n, c)`.
            variance: the share of the variance that the principal directions hold, above 0 and below 1.
            times: what the ratio is multiplied by: `logit`, the largest one, or `nothing`.

        Raises:
            InputError: for a bad option or bad data, or features that do not vary.
        """
        require(0 < variance < 1, "NECO", "variance", variance, "0 < variance < 1")
        require(times in ("logit", "nothing"), "NECO", "times", times, "times = logit or nothing")
        moments, least = ClassMoments(), torch.inf
        for chunk in validated(train, cls.fit_needs, "NECO"):
            assert chunk.features is not None and chunk.logits is not None
            moments.update(chunk.features, torch.zeros(len(chunk), dtype=torch.int64, device=chunk.features.device))
            least = min(least, float(chunk.logits.amax(1).min()))
        mean, covariance = moments.mean(), moments.within()
        deviation = covariance.diagonal().clamp_min(0).sqrt()
        varies = deviation > 1e-13 * mean.abs()
        if not varies.any():
            raise InputError(f"NECO needs features that vary; these {len(mean)} are constant in {moments.total} samples.")
        per_deviation = torch.where(varies, 1 / torch.where(varies, deviation, 1.0), 0.0)
        values, vectors = torch.linalg.eigh(covariance * per_deviation[:, None] * per_deviation)
        held = values.flip(0).clamp_min(0).cumsum(0) / values.clamp_min(0).sum()
        number = int((held < variance - 1e-12).sum()) + 1
        if times == "logit" and least <= 0:
            warn(f"The largest logit of a training sample is {least:.3g}, not above 0; NECO leaves the factor out, as `times=nothing` does.")
        directions = vectors[:, -number:]
        return cls(
            times_logit=times == "logit" and least > 0,
            mean=mean,
            per_deviation=per_deviation,
            directions=directions,
            fingerprint=fingerprint_of(train),
        )

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`: a share, or one in units of the logits."""
        z = (double(features) - double(self.mean)) * double(self.per_deviation)
        # S = ||P z|| / ||z|| max_c v_c
        ratio = (z @ double(self.directions)).square().sum(1).sqrt() / z.square().sum(1).sqrt().clamp_min(1e-300)
        return (ratio * double(logits).amax(1) if self.times_logit else ratio).to(features)

"""GradNorm: how far the last layer's weights would move towards a uniform prediction."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, expect_relu, fingerprint_of, require
from farfield.outputs import Data, validated
from farfield.stats import double


class GradNorm(Detector):
    """L1 norm of the gradient, with respect to the last layer's weights, of the cross-entropy between uniform and softmax.

    `S = || d CE(1/c, softmax(v / T)) / dW ||_1 = ||f||_1 sum_c |p_c - 1/c| / T`: no gradient is needed, since `dL/dW_cd = (p_c - 1/c) f_d / T`.

    *Differs from the official code* by the factor `c`, which has targets of ones in place of `1/c`: the same ranking. The bias is left out,
    as there. Features whose L1 norm hardly varies, as those after a LayerNorm, can turn it around (AUROC below 50).

    >>> import torch, farfield as ff
    >>> one = ff.Outputs(logits=torch.tensor([[0.0, 0.0], [50.0, 0.0]]), features=torch.tensor([[1.0, 2.0], [1.0, 2.0]]))
    >>> GradNorm.fit(one)(one)
    tensor([0., 3.])

    Source: Huang, Geng and Li, "On the Importance of Gradients for Detecting Distributional Shifts in the Wild", NeurIPS 2021.
    """

    use = "Logits and features of a network whose features come after a ReLU; nothing is fitted."
    fails = (
        "Features after a LayerNorm: published near / far AUROC is 39.3 / 41.8 for ViT-B/16 and 47.6 / 35.5 for Swin-T on ImageNet (OpenOOD v1.5)."
    )
    cost = "scoring O(c + d); fitting nothing"
    needs = ("logits", "features")
    fit_needs = ("logits", "features")
    passes = 0
    paper = "Huang, Geng and Li, NeurIPS 2021"
    search = {"temperature": (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)}

    def __init__(self, *, temperature: float, fingerprint: str | None = None) -> None:
        super().__init__(temperature=temperature, fingerprint=fingerprint)
        self.temperature = temperature

    @classmethod
    def fit(cls, train: Data, *, temperature: float = 1.0) -> GradNorm:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`, and features `(n, d)`; only the first chunk is looked at.
            temperature: `T`, from 1e-6 to 1e6.

        Raises:
            InputError: for a temperature out of its range.
        """
        require(1e-6 <= temperature <= 1e6, "GradNorm", "temperature", temperature, "1e-6 <= temperature <= 1e6")
        expect_relu(next(validated(train, cls.fit_needs, "GradNorm")), "GradNorm")
        return cls(temperature=float(temperature), fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`: at least 0, in the units of the features."""
        p = (double(logits) / self.temperature).softmax(1)
        # S = ||f||_1 sum_c |p_c - 1/c| / T
        distance = (p - 1 / logits.shape[1]).abs().sum(1) / self.temperature
        return (double(features).abs().sum(1) * distance).to(features)

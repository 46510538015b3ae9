"""Scores of the logits alone: MSP, MaxLogit, Energy. Nothing is fitted."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, require
from farfield.outputs import Data, validated


def look(train: Data, method: str) -> str | None:
    """Checks the first chunk, which is all a method that fits nothing reads."""
    next(validated(train, ("logits",), method))
    return fingerprint_of(train)


class MSP(Detector):
    """Maximum softmax probability: the probability of the predicted class, on a scale that does not saturate.

    `S = -log(1 - max_c p_c) = softplus(v_y - LSE_{c != y} v_c)`, with `p = softmax(v)` and `y` the predicted class.

    *Differs from the paper* by that increasing map alone, so every ranking is that of `max_c p_c`; in float32 the
    probability itself rounds to 1 for confident samples, and they tie.

    >>> import torch, farfield as ff
    >>> two = ff.Outputs(logits=torch.tensor([[0.0, 0.0], [90.0, 0.0]]))
    >>> MSP.fit(two)(two)
    tensor([ 0.6931, 90.0000])

    Source: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", ICLR 2017.
    """

    use = "Logits alone; the baseline that any other score has to beat."
    fails = "Many classes: the mean FPR over four OOD sets rises from 17 % with 50 classes to 77 % with 1,000 (Huang and Li, CVPR 2021, figure 2)."
    cost = "scoring O(c); fitting nothing"
    needs = ("logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "Hendrycks and Gimpel, ICLR 2017"

    @classmethod
    def fit(cls, train: Data) -> MSP:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; only the first chunk is looked at.
        """
        return cls(fingerprint=look(train, "MSP"))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`, in nats, at least 0."""
        top, best = logits.max(1, keepdim=True)
        others = (logits - top).scatter(1, best, -torch.inf)
        # S = softplus(-LSE_{c != y} (v_c - v_y)) = softplus(v_y - LSE_{c != y} v_c)
        return torch.nn.functional.softplus(-others.logsumexp(1))


class MaxLogit(Detector):
    """Maximum logit: `S = max_c v_c`.

    >>> import torch, farfield as ff
    >>> two = ff.Outputs(logits=torch.tensor([[1.0, 2.0], [5.0, 3.0]]))
    >>> MaxLogit.fit(two)(two)
    tensor([2., 5.])

    Source: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022.
    """

    use = "Logits alone, of a network trained with plain cross-entropy."
    fails = (
        "Training that lowers logits: AUROC on ImageNet is 83.0 with torchvision's first weights of ResNet-50 and 72.8 with its second (Xiong et "
        "al., ICCV 2025, table 3)."
    )
    cost = "scoring O(c); fitting nothing"
    needs = ("logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "Hendrycks et al., ICML 2022"

    @classmethod
    def fit(cls, train: Data) -> MaxLogit:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; only the first chunk is looked at.
        """
        return cls(fingerprint=look(train, "MaxLogit"))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`, in their units."""
        # S = max_c v_c
        return logits.amax(1)


class Energy(Detector):
    """Negative free energy: `S = T log sum_c exp(v_c / T)`, between `max v` and `max v + T log c`.

    >>> import torch, farfield as ff
    >>> one = ff.Outputs(logits=torch.tensor([[2.0, 2.0]]))
    >>> Energy.fit(one)(one)
    tensor([2.6931])

    Source: Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020, equation 4.
    """

    use = "Logits alone, of a network trained with plain cross-entropy; the score that shapers were published with."
    fails = "Transformers: published near / far AUROC is 62.4 / 79.0 for ViT-B/16 on ImageNet, where MSP has 73.5 / 86.0 (OpenOOD v1.5)."
    cost = "scoring O(c); fitting nothing"
    needs = ("logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "Liu et al., NeurIPS 2020"
    search = {"temperature": (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)}

    def __init__(self, *, temperature: float, fingerprint: str | None = None) -> None:
        super().__init__(temperature=temperature, fingerprint=fingerprint)
        self.temperature = temperature

    @classmethod
    def fit(cls, train: Data, *, temperature: float = 1.0) -> Energy:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; only the first chunk is looked at.
            temperature: `T`, from 1e-6 to 1e6, in the units of the logits.

        Raises:
            InputError: for a temperature out of its range.
        """
        require(1e-6 <= temperature <= 1e6, "Energy", "temperature", temperature, "1e-6 <= temperature <= 1e6")
        return cls(temperature=float(temperature), fingerprint=look(train, "Energy"))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`, in their units."""
        # S = T log sum_c exp(v_c / T)
        return self.temperature * (logits / self.temperature).logsumexp(1)

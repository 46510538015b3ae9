"""Scores of how spread the softmax is: Entropy and GEN. Nothing is fitted."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, require
from farfield.detectors.logits import look
from farfield.outputs import Data
from farfield.stats import double


class Entropy(Detector):
    """Shannon entropy of the softmax, on a scale that does not saturate: `S = -log H`, `H = -sum_c p_c log p_c`, from `-log log c` up.

    Computed in logarithms from `H = log(1 + r) - sum_{c != y} p_c u_c`, `u = v - max v`, `r = sum_{c != y} exp(u_c)`, a sum of positive terms. With
    two classes the ranking is that of MSP.

    *Differs from the literature*, which takes `-H`, by that increasing map alone: in float32 `H` of confident samples rounds to 0, and they tie.

    >>> import torch, farfield as ff
    >>> two = ff.Outputs(logits=torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
    >>> (-Entropy.fit(two)(two)).exp()
    tensor([0.6931, 0.0012])

    Source: used for OOD by Chan, Rottmann and Gottschalk, "Entropy Maximization and Meta Classification for Out-of-Distribution Detection in
    Semantic Segmentation", ICCV 2021.
    """

    use = "Logits alone, where doubt is spread over several classes; with two classes it ranks as MSP does."
    fails = ""
    cost = "scoring O(c); fitting nothing"
    needs = ("logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "Chan, Rottmann and Gottschalk, ICCV 2021"

    @classmethod
    def fit(cls, train: Data) -> Entropy:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; only the first chunk is looked at.
        """
        return cls(fingerprint=look(train, "Entropy"))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`."""
        top, best = logits.max(1, keepdim=True)
        u = logits - top
        others = u.scatter(1, best, -torch.inf)
        second = others.amax(1, keepdim=True)
        e = (others - second).exp()  # of the others, over the largest of them; 0 for the first class
        size, moment, second = double(e.sum(1)), double((-u * e).sum(1)), double(second[:, 0])
        log_r = second + size.log()
        r = log_r.exp()
        # log H = log( log(1 + r) - sum_{c != y} u_c exp(u_c) / (1 + r) ); a class as probable as the first has u = 0 and adds nothing
        first = torch.where(r > 1e-8, r.clamp_min(1e-8).log1p().log(), log_r)
        spread = second + moment.log().clamp_min(-1e30) - r.log1p()
        return -torch.logaddexp(first, spread).to(logits)


class GEN(Detector):
    """Generalised entropy, on a scale that does not saturate: `S = -log sum_m p_(m)^g (1 - p_(m))^g` over the `m` most probable classes.

    In logarithms throughout, without a clamp: with a small `g` a probability of 1e-20 still counts, and `1 - p` of a confident sample, which
    float32 rounds to 0, is taken from the other classes.

    *Differs from the paper*, which takes the negative sum, by that increasing map alone.

    >>> import torch, farfield as ff
    >>> one = ff.Outputs(logits=torch.tensor([[0.0, 0.0]]))
    >>> (-GEN.fit(one, gamma=1.0)(one)).exp()
    tensor([0.5000])

    Source: Liu, Lochman and Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", CVPR 2023.
    """

    use = (
        "Logits alone, of a network with many classes: the highest published AUROC of the logit scores for Swin-T and ViT-B/16 on ImageNet "
        "(OpenOOD v1.5)."
    )
    fails = "Comparing classifiers: scores of different numbers of classes are not on one scale."
    cost = "scoring O(c); fitting nothing"
    needs = ("logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "Liu, Lochman and Zach, CVPR 2023"
    search = {"gamma": (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0), "m": (10, 50, 100, 200, 500, 1000)}
    of_classes = ("m",)

    def __init__(self, *, gamma: float, m: int, fingerprint: str | None = None) -> None:
        super().__init__(gamma=gamma, m=m, fingerprint=fingerprint)
        self.gamma, self.m = gamma, m

    @classmethod
    def fit(cls, train: Data, *, gamma: float = 0.1, m: int = 100) -> GEN:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; only the first chunk is looked at.
            gamma: `g`, above 0 and at most 10; the paper takes 0.1.
            m: how many of the most probable classes count, from 1; all where there are fewer. The paper takes 100 for ImageNet.

        Raises:
            InputError: for an option out of its range.
        """
        require(0 < gamma <= 10, "GEN", "gamma", gamma, "0 < gamma <= 10")
        require(m >= 1, "GEN", "m", m, "m >= 1")
        return cls(gamma=float(gamma), m=m, fingerprint=look(train, "GEN"))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`."""
        first, best = logits.max(1, keepdim=True)
        others = logits.scatter(1, best, -torch.inf)
        counted = double(others if self.m >= logits.shape[1] else others.topk(self.m - 1, 1, sorted=False).values)
        first, rest = double(first), double(others).logsumexp(1, keepdim=True)
        whole = torch.logaddexp(first, rest)
        log_p = counted - whole
        # log(1 - p) of the first class by the others; of the rest, at most 1/2 each, directly.
        log_rest = torch.log1p(-log_p.exp().clamp_max(0.5))
        # S = -log sum_m exp(g (log p + log(1 - p)))
        terms = torch.cat([first - whole + rest - whole, log_p + log_rest], 1)
        return -(self.gamma * terms).logsumexp(1).to(logits)

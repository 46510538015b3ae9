"""KL matching: how unlike a prediction is to all that the classifier usually predicts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, require
from farfield.outputs import Data, validated
from farfield.stats import double

LEAST = 1e-12  # the least probability in a template, so that no divergence is infinite


class KLMatching(Detector):
    """Negative divergence from the nearest template: `S = -min_k KL(p || d_k)`, `p = softmax(v)`.

    `d_k` is the mean softmax of the training samples predicted as class `k` (or, with `assign=label`, of those that are of it); a class without samples
    has none.

    *Differs from the paper*, which has templates of ID validation data, in that they are of the data `fit` is given: give it validation data
    for the paper's. Templates are floored at 1e-12 and brought to sum 1.

    >>> import torch, farfield as ff
    >>> train = ff.Outputs(logits=torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
    >>> KLMatching.fit(train)(ff.Outputs(logits=torch.tensor([[2.0, 0.0], [0.0, 0.0]]))).round(decimals=4)
    tensor([-0.0000, -0.4338])

    Source: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022.
    """

    use = "Logits alone, with unlabelled ID data to fit on: validation data for the paper's score."
    fails = "CIFAR-10: published near / far AUROC is 79.2 / 82.7, where MSP has 88.0 / 90.7 (OpenOOD v1.5)."
    cost = "scoring O(c^2); fitting O(n c); keeps c^2 numbers"
    needs = ("logits",)
    fit_needs = ("logits",)
    passes = 1
    paper = "Hendrycks et al., ICML 2022"
    search = {"reduce": ("min", "predicted"), "assign": ("prediction", "label")}
    log_templates: Tensor
    contrast: Tensor
    seen: Bool[Tensor, " c"]

    def __init__(self, *, reduce: str, fingerprint: str | None = None, **state: Tensor) -> None:
        super().__init__(reduce=reduce, fingerprint=fingerprint, **state)
        self.reduce = reduce

    @classmethod
    def fit(cls, train: Data, *, reduce: str = "min", assign: str = "prediction") -> KLMatching:
        """A template for each class, in one pass, in float64.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; labels are looked at with `assign=label` alone.
            reduce: `min`, over all templates, as in the paper; or `predicted`, that of the predicted class alone, as in some code.
            assign: the samples of a template: by their `prediction`, as in the paper; or by their `label`, as in the code of Huang and Li (CVPR 2021).

        Raises:
            InputError: for a bad option or bad data.
        """
        require(reduce in ("min", "predicted"), "KLMatching", "reduce", reduce, "reduce = min or predicted")
        require(assign in ("prediction", "label"), "KLMatching", "assign", assign, "assign = prediction or label")
        needs = (*cls.fit_needs, "labels") if assign == "label" else cls.fit_needs
        sums = counts = torch.zeros(0, dtype=torch.float64)
        for chunk in validated(train, needs, "KLMatching"):
            assert chunk.logits is not None
            p, of = double(chunk.logits).softmax(1), chunk.predictions() if assign == "prediction" else chunk.labels
            assert of is not None
            if not len(counts):
                sums, counts = p.new_zeros(p.shape[1], p.shape[1]), p.new_zeros(p.shape[1])
            sums.index_add_(0, of.to(p.device), p)
            counts += torch.bincount(of.to(p.device), minlength=p.shape[1])
        seen = counts > 0
        # A class without samples has a template of itself alone, which `predicted` falls back to.
        templates = torch.where(seen[:, None], sums / counts.clamp_min(1)[:, None], torch.eye(len(counts), dtype=sums.dtype, device=sums.device))
        templates = templates.clamp_min(LEAST)
        log_templates = (templates / templates.sum(1, keepdim=True)).log()
        # What all templates share does not tell them apart; without it float32 has the digits to.
        contrast = (log_templates - log_templates[seen].mean(0)).float()
        return cls(reduce=reduce, log_templates=log_templates, contrast=contrast, seen=seen, fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`: at most 0, in nats."""
        log_p = double(logits).log_softmax(1)
        p = log_p.exp()
        nearest = logits.argmax(1)
        if self.reduce == "min":
            # argmin_k KL(p || d_k) = argmax_k sum_c p_c log d_kc
            likeness = p.to(self.contrast) @ self.contrast.T
            nearest = likeness.masked_fill(~self.seen.to(likeness.device), -torch.inf).argmax(1)
        log_d = double(self.log_templates[nearest.to(self.log_templates.device)])
        # KL(p || d) = sum_c d_c (x e^x - (e^x - 1)), x = log p_c - log d_c: terms that are not negative, so that nothing cancels
        x = log_p - log_d
        return -(p * x - log_d.exp() * x.expm1()).clamp_min(0).sum(1).to(logits)

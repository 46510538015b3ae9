"""SHE: how alike a feature is to what its class looks like."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, warn
from farfield.outputs import Data, validated
from farfield.stats import double


class SHE(Detector):
    """Simplified Hopfield energy: `S = f.s_y`, `s_y` the mean feature of the training samples of the predicted class `y` that were classified rightly.

    A class of which none was classified rightly has the mean of all its samples; one without samples, that of all right ones. Both are warned of.
    The size of a feature counts: after a LayerNorm it says little.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> train = ff.Outputs(features=x, logits=x, labels=torch.tensor([0, 1]))
    >>> SHE.fit(train)(train)
    tensor([ 4., 16.])

    Source: Zhang, Fu, Chen, Du, Li, Wang, Liu, Han and Zhang, "Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization
    with Modern Hopfield Energy", ICLR 2023.
    """

    use = "Logits and features, with labelled training data, where the size of a feature tells ID from OOD."
    fails = "CIFAR-10: published near / far AUROC is 81.5 / 85.3, where MSP has 88.0 / 90.7 (OpenOOD v1.5)."
    cost = "scoring O(c + d); fitting O(n d); keeps c d numbers"
    needs = ("logits", "features")
    fit_needs = ("logits", "features", "labels")
    passes = 1
    paper = "Zhang et al., ICLR 2023"
    patterns: Tensor

    @classmethod
    def fit(cls, train: Data) -> SHE:
        """A pattern for each class, in one pass, in float64.

        Args:
            train: outputs with features `(n, d)`, logits `(n, c)` and true labels `(n,)`.

        Raises:
            InputError: for bad data.
        """
        sums = counts = torch.zeros(0, dtype=torch.float64)
        for chunk in validated(train, cls.fit_needs, "SHE"):
            assert chunk.features is not None and chunk.logits is not None and chunk.labels is not None
            x, c = double(chunk.features), chunk.logits.shape[1]
            labels = chunk.labels.to(x.device)
            # Rows 0 to c - 1 are of those classified rightly, c to 2 c - 1 of all.
            right = labels[chunk.predictions().to(x.device) == labels]
            if not len(counts):
                sums, counts = torch.zeros(2 * c, x.shape[1], dtype=x.dtype, device=x.device), torch.zeros(2 * c, dtype=x.dtype, device=x.device)
            sums.index_add_(0, right, x[chunk.predictions().to(x.device) == labels]).index_add_(0, labels + c, x)
            counts += torch.bincount(right, minlength=2 * c) + torch.bincount(labels + c, minlength=2 * c)
        c = len(counts) // 2
        patterns = sums / counts.clamp_min(1)[:, None]
        never, absent = counts[:c] == 0, counts[c:] == 0
        if never.any():
            warn(f"{int(never.sum())} of {c} classes have no training sample that was classified rightly; they get the mean of what there is.")
        some = sums[:c].sum(0) / counts[:c].sum() if counts[:c].sum() else sums[c:].sum(0) / counts[c:].sum()
        chosen = torch.where(never[:, None], torch.where(absent[:, None], some, patterns[c:]), patterns[:c])
        return cls(patterns=chosen, fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`, in squared units of the features."""
        # S = f.s_y
        return (double(features) * double(self.patterns)[logits.argmax(1)]).sum(1).to(features)

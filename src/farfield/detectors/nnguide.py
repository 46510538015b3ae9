"""NNGuide: the energy, guided by how near confident training samples are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors import search
from farfield.detectors.base import Detector, fingerprint_of, require, warn
from farfield.detectors.knn import bank_of, normalized
from farfield.errors import InputError
from farfield.outputs import Data, Outputs
from farfield.stats import double


class NNGuide(Detector):
    """Nearest-neighbour guidance: `S = LSE(v) (1/k) sum of the k largest of e_i z_i.z`, `z = f / ||f||`, `e_i = LSE(v_i)` of the bank.

    The k largest products of energy and cosine, as the official code has it, in an exhaustive search. With energies below 0 the product turns around; it is warned of.

    >>> import torch, farfield as ff
    >>> bank = ff.Outputs(features=torch.tensor([[1.0, 0.0], [0.0, 2.0]]), logits=torch.tensor([[9.0, 0.0], [8.0, 0.0]]))
    >>> NNGuide.fit(bank, k=1)(ff.Outputs(features=torch.tensor([[3.0, 0.0]]), logits=torch.tensor([[5.0, -9.0]])))
    tensor([45.0006])

    Source: Park, Jung and Teoh, "Nearest Neighbor Guidance for Out-of-Distribution Detection", ICCV 2023.
    """

    use = "Logits and features, without labels and without a head, where the energies of training data are above 0."
    fails = (
        "Training that lowers logits: AUROC on ImageNet is 86.7 with torchvision's first weights of ResNet-50 and 65.8 with its second (Xiong et "
        "al., ICCV 2025, table 3)."
    )
    cost = "scoring O(n d) with n rows in the bank; fitting O(n d); keeps n d numbers: 4 GB for 500,000 rows of 2,048"
    needs = ("logits", "features")
    fit_needs = ("logits", "features")
    passes = 1
    paper = "Park, Jung and Teoh, ICCV 2023"
    search = {"k": (1, 5, 10, 50, 100, 500, 1000)}
    bank: Tensor

    def __init__(self, *, k: int, bank: Tensor, fingerprint: str | None = None) -> None:
        super().__init__(k=k, bank=bank, fingerprint=fingerprint)
        self.k = k

    @classmethod
    def fit(cls, train: Data, *, k: int = 10, bank: int | None = None, seed: int = 0, bits: int = 32) -> NNGuide:
        """Keeps the training features times their energies, or those of a balanced sample.

        Args:
            train: outputs with features `(n, d)` and logits `(n, c)`, and labels where `bank` is to be balanced.
            k: how many neighbours, from 1; the paper takes 10.
            bank: rows to keep of each class (of all, without labels): those with the lowest hash of `(seed, id)`; all by default. The paper takes 1 %.
            seed: of that choice.
            bits: of each number of the bank, 32 or 16; the scores are those of the numbers as they were kept.

        Raises:
            InputError: for a bad option or bad data, `k` beyond the bank, or numbers beyond what 16 bits can hold.
        """
        require(k >= 1, "NNGuide", "k", k, "k >= 1")
        require(bank is None or bank >= 1, "NNGuide", "bank", bank, "bank >= 1, or none for all")
        require(seed >= 0, "NNGuide", "seed", seed, "seed >= 0")
        require(bits in (16, 32), "NNGuide", "bits", bits, "bits 16 or 32")
        least = torch.inf

        def row_of(chunk: Outputs) -> Tensor:
            nonlocal least
            assert chunk.features is not None and chunk.logits is not None
            energies = double(chunk.logits).logsumexp(1, keepdim=True)
            least = min(least, float(energies.min()))
            return energies * normalized(chunk.features)

        kept = bank_of(train, cls.fit_needs, "NNGuide", row_of, bank, seed, bits)
        if k > len(kept):
            raise InputError(f"NNGuide needs k <= {len(kept)}, the size of its bank; got k={k}. Lower `k`" + (" or raise `bank`." if bank else "."))
        if least <= 0:
            warn(f"The energy of a training sample is {least:.3g}, not above 0; NNGuide's products turn around there.")
        return cls(k=k, bank=kept, fingerprint=fingerprint_of(train))

    def rows(self) -> int:
        """As many as the search takes at once."""
        return search.ROWS

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`, in squared units of the logits."""
        best = search.largest(normalized(features), self.bank, self.k)
        # S = LSE(v) mean_k (e_i z_i.z)
        return (double(logits).logsumexp(1) * best.mean(1)).to(features)

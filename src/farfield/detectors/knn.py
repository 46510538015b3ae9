"""Distance to the k-th nearest training sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, require
from farfield.errors import InputError
from farfield.outputs import Data, Outputs, count, validated
from farfield.stats import Sample, double, split

_BLOCK = 16_384  # bank rows multiplied at once


def normalized(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Each row over its length, in float64; zero rows stay zero."""
    return torch.nn.functional.normalize(double(features), dim=1, eps=1e-300)


class KNN(Detector):
    """Negative distance to the k-th nearest training sample, both of unit length.

    `S = -|| z - z_(k) ||`, `z = f / ||f||`, `z_(k)` the k-th nearest of the bank.

    Unit vectors are kept about a common centre, which changes no distance but keeps the digits of vectors that point nearly the same way.
    Neighbours are found by a product in float64; their distances are those of the differences `z - z_i`.

    >>> import torch, farfield as ff
    >>> bank = ff.Outputs(features=torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    >>> KNN.fit(bank, k=2)(ff.Outputs(features=torch.tensor([[3.0, 0.0]])))
    tensor([-1.4142])

    Source: Sun, Ming, Zhu and Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, equation 2.
    """

    use = "Features of training data, without labels and without a head, and room for a bank of them."
    fails = "Near-OOD on ImageNet: published AUROC is 71.1 for ResNet-50, where MSP has 76.0 (OpenOOD v1.5)."
    cost = "scoring O(n d) with n rows in the bank; fitting O(n d); keeps n d numbers: 4 GB for 500,000 rows of 2,048"
    needs = ("features",)
    fit_needs = ("features",)
    passes = 1
    paper = "Sun et al., ICML 2022"
    search = {"k": (1, 5, 10, 20, 50, 100, 200, 500, 1000)}
    bank: Tensor
    centre: Tensor
    centre_rest: Tensor

    def __init__(self, *, k: int, fingerprint: str | None = None, **state: Tensor) -> None:
        super().__init__(k=k, fingerprint=fingerprint, **state)
        self.k = k

    @classmethod
    def fit(cls, train: Data, *, k: int = 50, bank: int | None = None, seed: int = 0) -> KNN:
        """Keeps the training features, or a balanced sample of them.

        Args:
            train: outputs with features `(n, d)`, and labels where `bank` is to be balanced.
            k: which neighbour, from 1; the paper takes 1,000 for ImageNet and 50 for CIFAR-10.
            bank: rows to keep of each class (of all, without labels): those with the lowest hash of `(seed, id)`; all by default.
            seed: of that choice.

        Raises:
            InputError: for a bad option or bad data, or `k` beyond the bank.
        """
        require(k >= 1, "KNN", "k", k, "k >= 1")
        require(bank is None or bank >= 1, "KNN", "bank", bank, "bank >= 1, or none for all")
        require(seed >= 0, "KNN", "seed", seed, "seed >= 0")
        centre = normalized(_features(next(validated(train, cls.fit_needs, "KNN")))).mean(0)
        rows = bank_of(train, cls.fit_needs, "KNN", lambda chunk: normalized(_features(chunk)) - centre, bank, seed)
        if k > len(rows):
            raise InputError(f"KNN needs k <= {len(rows)}, the size of its bank; got k={k}. Lower `k`" + (" or raise `bank`." if bank else "."))
        coarse, rest = split(centre)
        return cls(bank=rows, centre=coarse, centre_rest=rest, k=k, fingerprint=fingerprint_of(train))

    def rows(self) -> int:
        """As many as keep the differences to the neighbours within 128 MB."""
        return max(1, min(2048, 2**25 // (self.k * self.bank.shape[1])))

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features`: between -2 and 0."""
        centre = double(self.centre) + double(self.centre_rest)
        z = (normalized(features) - centre).to(self.bank)
        near = self._nearest(double(z)).to(z.device)
        # S = -|| z - z_(k) ||, the largest of the distances to the k nearest
        return -(z[:, None] - self.bank[near]).square().sum(2).amax(1).sqrt()

    def _nearest(self, z: Float[Tensor, "n d"]) -> Int64[Tensor, "n k"]:
        """Indices of the k nearest rows of the bank, block by block, by products in float64, which tell apart what float32 holds apart."""
        best, index = z[:, :0], z[:, :0].long()
        for start in range(0, len(self.bank), _BLOCK):
            block = double(self.bank[start : start + _BLOCK])
            # argmin_i |z - z_i|^2 = argmax_i z.z_i - |z_i|^2 / 2
            top, here = torch.addmm(block.square().sum(1) / 2, z, block.T, beta=-1).topk(min(self.k, len(block)), 1, sorted=False)
            best, index = torch.cat([best, top], 1), torch.cat([index, here + start], 1)
            if start:
                best, choice = best.topk(min(self.k, best.shape[1]), 1, sorted=False)
                index = index.gather(1, choice)
        return index


def bank_of(
    train: Data, needs: tuple[str, ...], method: str, row_of: Callable[[Outputs], Tensor], limit: int | None, seed: int
) -> Float[Tensor, "n d"]:
    """What `row_of` makes of the training samples, in one pass: of all, written once into their place, or of at most `limit` of each class."""
    rows, sample, start = torch.empty(0, 0), Sample(limit or 1, seed), 0
    for chunk in validated(train, needs, method):
        part = row_of(chunk).float()
        if limit is None:
            if not start:
                rows = torch.empty(count(train), part.shape[1], device=part.device)
            rows[start : start + len(part)] = part
        else:
            # Samples without a label, -1 after `collect`, are a class of their own.
            labels = torch.zeros(len(part), dtype=torch.int64, device=part.device) if chunk.labels is None else chunk.labels + 1
            ids = torch.arange(start, start + len(part), device=part.device) if chunk.ids is None else chunk.ids
            sample.update(part, labels, ids)
        start += len(part)
    return rows if limit is None else sample.rows


def _features(chunk: Outputs) -> Tensor:
    assert chunk.features is not None
    return chunk.features

"""Distance to the k-th nearest training sample."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors import search
from farfield.detectors.base import LARGE, Detector, fingerprint_of, require
from farfield.errors import InputError
from farfield.outputs import Data, Outputs, count, validated
from farfield.stats import Sample, double, split

_FIRST = 128  # samples whose mean is the centre


def normalized(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Each row over its length, in float64; zero rows stay zero."""
    return torch.nn.functional.normalize(double(features), dim=1, eps=1e-300)


class KNN(Detector):
    """Negative distance to the k-th nearest training sample, both of unit length.

    `S = -|| z - z_(k) ||`, `z = f / ||f||`, `z_(k)` the k-th nearest of the bank.

    Unit vectors are kept about a common centre, which changes no distance but keeps the digits of vectors that point nearly the same way.
    The neighbour is that of an exhaustive search, and its distance that of the difference `z - z_i`, in float64. With `bits=16` it is the
    neighbour among the vectors as they were kept, each number rounded to float16, whose 11 digits lose an eighth of what bfloat16's 8 lose.
    A bank of 1 GB and more is kept in a file, mapped, and read block by block.

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
    def fit(cls, train: Data, *, k: int = 50, bank: int | None = None, seed: int = 0, bits: int = 32) -> KNN:
        """Keeps the training features, or a balanced sample of them.

        Args:
            train: outputs with features `(n, d)`, and labels where `bank` is to be balanced.
            k: which neighbour, from 1; the paper takes 1,000 for ImageNet and 50 for CIFAR-10.
            bank: rows to keep of each class (of all, without labels): those with the lowest hash of `(seed, id)`; all by default.
            seed: of that choice.
            bits: of each number of the bank, 32 or 16.

        Raises:
            InputError: for a bad option or bad data, or `k` beyond the bank.
        """
        require(k >= 1, "KNN", "k", k, "k >= 1")
        require(bank is None or bank >= 1, "KNN", "bank", bank, "bank >= 1, or none for all")
        require(seed >= 0, "KNN", "seed", seed, "seed >= 0")
        require(bits in (16, 32), "KNN", "bits", bits, "bits 16 or 32")
        # Of few enough samples that how the data are cut into chunks seldom changes it, and with it the rounding to 16 bits.
        centre = normalized(_features(next(validated(train, cls.fit_needs, "KNN")))[:_FIRST]).mean(0)
        rows = bank_of(train, cls.fit_needs, "KNN", lambda chunk: normalized(_features(chunk)) - centre, bank, seed, bits)
        if k > len(rows):
            raise InputError(f"KNN needs k <= {len(rows)}, the size of its bank; got k={k}. Lower `k`" + (" or raise `bank`." if bank else "."))
        coarse, rest = split(centre)
        return cls(bank=rows, centre=coarse, centre_rest=rest, k=k, fingerprint=fingerprint_of(train))

    def rows(self) -> int:
        """As many as the search takes at once."""
        return search.ROWS

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features`: between -2 and 0."""
        centre = double(self.centre) + double(self.centre_rest)
        z = (normalized(features) - centre).float().to(self.bank.device)
        return search.largest(z, self.bank, self.k, nearest=True, only_last=True).amin(1).float()


def bank_of(
    train: Data, needs: tuple[str, ...], method: str, row_of: Callable[[Outputs], Tensor], limit: int | None, seed: int, bits: int
) -> Float[Tensor, "n d"]:
    """What `row_of` makes of the training samples, in one pass: of all, written once into their place, or of at most `limit` of each class."""
    rows, sample, start = torch.empty(0, 0), Sample(limit or 1, seed), 0
    for chunk in validated(train, needs, method):
        part = row_of(chunk).float()
        if bits == 16:
            whole, part = part, part.half()
            if part.isinf().any():
                raise InputError(f"{method} with bits=16 cannot keep the number {float(whole.abs().max()):.3g}, beyond 65,504. Use bits=32.")
        if limit is None:
            if not start:
                rows = _room(count(train), part)
            rows[start : start + len(part)] = part
        else:
            # Samples without a label, -1 after `collect`, are a class of their own.
            labels = torch.zeros(len(part), dtype=torch.int64, device=part.device) if chunk.labels is None else chunk.labels + 1
            ids = torch.arange(start, start + len(part), device=part.device) if chunk.ids is None else chunk.ids
            sample.update(part, labels, ids)
        start += len(part)
    return rows if limit is None else sample.rows


def _room(n: int, like: Float[Tensor, "_ d"]) -> Float[Tensor, "n d"]:
    """Room for `n` such rows: what is large lies in a file without a name, which goes when the tensor goes, if the disk for such files has room."""
    shape = (n, like.shape[1])
    size = n * like.shape[1] * like.element_size()
    if size >= LARGE and like.device.type == "cpu" and hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile() as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_numpy(np.memmap(file, like.numpy().dtype, "r+", shape=shape))
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _features(chunk: Outputs) -> Tensor:
    assert chunk.features is not None
    return chunk.features

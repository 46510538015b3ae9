"""Statistics of data that do not fit in memory: fed chunk by chunk, merged across shards, exact or in float64.

Each has `update(chunk)`, `merge(other)` and something to ask at the end. They know tensors only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.errors import InputError


def double(x: Tensor) -> Tensor:
    """The tensor in float64: where it is, or on the CPU if its device has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """A float64 tensor as two float32 ones that add up to it, for devices and files that keep float32."""
    coarse = x.float()
    return coarse, (x - coarse.double()).float()


# Below this fraction of the largest, a variance is the rounding of float32 features and of float64 sums over millions of them.
SINGULAR = 1e-12


class ClassMoments:
    """Per-class means and the pooled covariance within classes, in one pass.

    Sums are kept about a pilot per class (the class's mean in the chunk where it first appears), so that nothing cancels when
    features are far from zero or classes far apart: with `x' = x - pilot_y`, `n_c`, `s_c = sum x'`, `M = sum x' x'^T`,
    the scatter within classes is `M - sum_c s_c s_c^T / n_c`.

    >>> moments = ClassMoments()
    >>> moments.update(torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([0, 0, 2]))
    >>> moments.means().flatten().tolist(), moments.within().item(), moments.counts.tolist()
    ([1.0, 9.0], 0.6666666666666666, [2, 0, 1])
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(0, dtype=torch.int64)
        self.pilots = self.sums = self.products = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> None:
        """Adds samples `x` with classes `labels`."""
        if len(x) == 0:
            return
        x = double(x)
        labels = labels.to(x.device)
        self._grow(int(labels.max()) + 1, x)
        counts = torch.bincount(labels, minlength=len(self.counts))
        new = (self.counts == 0) & (counts > 0)
        if new.any():
            means = torch.zeros_like(self.sums).index_add_(0, labels, x) / counts.clamp_min(1)[:, None]
            self.pilots[new] = means[new]
        x = x - self.pilots[labels]
        self.sums.index_add_(0, labels, x)
        self.counts += counts
        self.products.addmm_(x.T, x)

    def merge(self, other: ClassMoments) -> None:
        """Adds everything `other` saw."""
        if len(other.counts) == 0:
            return
        self._grow(len(other.counts), other.sums)
        other._grow(len(self.counts), self.sums)
        new = self.counts == 0
        self.pilots[new] = other.pilots[new]
        # x - p = (x - q) + (q - p) with p this pilot and q the other's.
        shift = other.pilots - self.pilots
        cross = shift.T @ other.sums
        self.products += other.products + cross + cross.T + shift.T @ (shift * other.counts[:, None])
        self.sums += other.sums + shift * other.counts[:, None]
        self.counts += other.counts

    @property
    def total(self) -> int:
        """How many samples were seen."""
        return int(self.counts.sum())

    def means(self) -> Float[Tensor, "c d"]:
        """The mean of each class that was seen, in label order."""
        seen = self.counts > 0
        return (self.pilots + self.sums / self.counts.clamp_min(1)[:, None])[seen]

    def mean(self) -> Float[Tensor, " d"]:
        """The mean of all samples."""
        weights = self.counts.double() / self.total
        return weights @ self.pilots + self.sums.sum(0) / self.total

    def within(self) -> Float[Tensor, "d d"]:
        """The pooled covariance about the class means, divided by the number of samples."""
        scaled = self.sums / self.counts.clamp_min(1).double().sqrt()[:, None]
        covariance = (self.products - scaled.T @ scaled) / self.total
        return (covariance + covariance.T) / 2

    def _grow(self, classes: int, like: Tensor) -> None:
        """Makes room for `classes` classes of as many features as `like` has."""
        width = like.shape[1]
        if len(self.counts) and self.sums.shape[1] != width:
            raise InputError(f"A chunk has {width} features where earlier ones had {self.sums.shape[1]}.")
        if len(self.products) == 0:
            self.products = torch.zeros(width, width, dtype=torch.float64, device=like.device)
        missing = classes - len(self.counts)
        if missing > 0:
            rows = torch.zeros(missing, width, dtype=torch.float64, device=like.device)
            self.sums = torch.cat([self.sums.reshape(-1, width).to(like.device), rows])
            self.pilots = torch.cat([self.pilots.reshape(-1, width).to(like.device), rows])
            self.counts = torch.cat([self.counts.to(like.device), torch.zeros(missing, dtype=torch.int64, device=like.device)])


def inverse_root(covariance: Float[Tensor, "d d"], location: Float[Tensor, " d"]) -> tuple[Float[Tensor, "d r"], int]:
    """`A` with `A A^T` the inverse of the covariance, or its pseudo-inverse, and the rank `r`.

    A covariance of full rank is inverted in units of each feature's own standard deviation, so that uneven scales cost no digits;
    the result is the same. One that is singular gets the Moore-Penrose pseudo-inverse of the features that vary. A feature at
    `location` varies if its deviation is more than the rounding of that number.

    >>> root, rank = inverse_root(torch.diag(torch.tensor([4.0, 0.0])).double(), torch.ones(2).double())
    >>> (root @ root.T).tolist(), rank
    ([[0.25, 0.0], [0.0, 0.0]], 1)
    """
    deviations = covariance.diagonal().clamp_min(0).sqrt()
    varies = deviations > 1e-13 * location.abs()
    scale, part = deviations[varies], covariance[varies][:, varies]
    if not varies.any():
        return covariance[:, :0], 0
    values, vectors = torch.linalg.eigh(part / scale[:, None] / scale)
    if values[0] > SINGULAR * values[-1]:
        inner = vectors / values.sqrt() / scale[:, None]
    else:
        values, vectors = torch.linalg.eigh(part)
        kept = values > SINGULAR * values[-1]
        inner = vectors[:, kept] / values[kept].sqrt()
    root = covariance.new_zeros(len(covariance), inner.shape[1])
    root[varies] = inner
    return root, inner.shape[1]


class Quantiles:
    """Exact quantiles of all entries ever seen, as float32, in two passes and 1 MB.

    The bits of a float32, read as an ordered integer, sort as the number does. The first pass counts the upper 16 bits, which tells in which of
    65,536 bins each wanted rank lies; the second counts the lower 16 bits inside those bins. Between ranks the value is
    interpolated linearly, as `numpy.quantile` does.

    >>> quantiles = Quantiles([0.5])
    >>> for _ in quantiles.passes():
    ...     quantiles.update(torch.tensor([3.0, 1.0, 10.0, 2.0]))
    >>> quantiles.values()
    [2.5]
    """

    def __init__(self, probabilities: Sequence[float]) -> None:
        self.probabilities = list(probabilities)
        self.upper = torch.zeros(65_536, dtype=torch.int64)
        self.lower: dict[int, Tensor] = {}
        self._first = True

    def passes(self) -> Iterator[None]:
        """Iterate this once; inside each of its two turns, feed all the data to `update`."""
        yield
        self.second_pass()
        yield

    def update(self, x: Tensor) -> None:
        """Counts the entries of `x`."""
        # Flipping the lower 31 bits of negative numbers makes the integers' order the floats'; -0 comes just below 0, and equals it.
        bits = x.detach().flatten().float().view(torch.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        bins = (bits >> 16) + 32_768
        if self._first:
            self.upper += torch.bincount(bins, minlength=65_536).cpu()
            return
        for wanted, counts in self.lower.items():
            inside = bits[bins == wanted] & 0xFFFF
            counts += torch.bincount(inside, minlength=65_536).cpu()

    def merge(self, other: Quantiles) -> None:
        """Adds what `other` counted in the same pass."""
        if self._first:
            self.upper += other.upper
        for wanted, counts in self.lower.items():
            counts += other.lower[wanted]

    def second_pass(self) -> None:
        """Ends the first pass: fixes the bins whose lower bits are to be counted."""
        if self.upper.sum() == 0:
            raise InputError("A quantile of no numbers does not exist.")
        self._first = False
        ends = self.upper.cumsum(0)
        self.lower = {
            int(torch.searchsorted(ends, rank, right=True)): torch.zeros(65_536, dtype=torch.int64)
            for probability in self.probabilities
            for rank in self._ranks(probability)[:2]
        }

    def values(self) -> list[float]:
        """The quantiles, in the order they were asked for."""
        found = []
        for probability in self.probabilities:
            low, high, fraction = self._ranks(probability)
            a, b = self._at(low), self._at(high)
            found.append(a + (b - a) * fraction if fraction else a)
        return found

    def _ranks(self, probability: float) -> tuple[int, int, float]:
        total = int(self.upper.sum())
        position = probability * (total - 1)
        low = int(position)
        return low, min(low + 1, total - 1), position - low

    def _at(self, rank: int) -> float:
        ends = self.upper.cumsum(0)
        bin_ = int(torch.searchsorted(ends, rank, right=True))
        before = int(ends[bin_ - 1]) if bin_ else 0
        low = int(torch.searchsorted(self.lower[bin_].cumsum(0), rank - before, right=True))
        bits = torch.tensor(((bin_ - 32_768) << 16) | low, dtype=torch.int32)
        return float((bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32))


def hashed(ids: Int64[Tensor, "*n"], seed: int) -> Int64[Tensor, "*n"]:
    """A well-mixed number for each id (SplitMix64): sorting by it is a shuffle that does not depend on the order of arrival.

    >>> hashed(torch.tensor([1, 2]), 0)[0] == hashed(torch.tensor([2, 1]), 0)[1]
    tensor(True)
    """
    offset = torch.tensor(seed, dtype=torch.int64, device=ids.device) * -7046029254386353131
    return _finish(_finish(ids.long() - 7046029254386353131) + offset)


def _finish(x: Tensor) -> Tensor:
    """SplitMix64's last step; a function of the module, since the tests check each function anew where it is made."""
    x = (x ^ _shift(x, 30)) * -4658895280553007687
    x = (x ^ _shift(x, 27)) * -7723592293110705685
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """An unsigned right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class Sample:
    """Up to `limit` rows of each class: those whose ids have the lowest hashes, whatever order they come in.

    >>> sample = Sample(limit=1)
    >>> sample.update(torch.eye(3), torch.tensor([0, 0, 1]), torch.arange(3))
    >>> len(sample.rows)
    2
    """

    def __init__(self, limit: int, seed: int = 0) -> None:
        self.limit, self.seed = limit, seed
        self.rows = torch.zeros(0, 0)
        self.labels = self.keys = torch.zeros(0, dtype=torch.int64)

    def update(self, rows: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], ids: Int64[Tensor, " n"]) -> None:
        """Offers rows with their classes and ids."""
        self._keep(rows, labels, hashed(ids, self.seed))

    def merge(self, other: Sample) -> None:
        """Offers everything `other` kept."""
        self._keep(other.rows, other.labels, other.keys)

    def _keep(self, rows: Tensor, labels: Tensor, keys: Tensor) -> None:
        if len(self.rows):
            rows, labels, keys = torch.cat([self.rows, rows]), torch.cat([self.labels, labels]), torch.cat([self.keys, keys])
        order = keys.argsort(stable=True)
        order = order[labels[order].argsort(stable=True)]  # by class, then by key
        sizes = torch.bincount(labels[order])
        starts = sizes.cumsum(0) - sizes
        place = torch.arange(len(order), device=order.device) - starts[labels[order]]
        order = order[place < self.limit]
        self.rows, self.labels, self.keys = rows[order], labels[order], keys[order]

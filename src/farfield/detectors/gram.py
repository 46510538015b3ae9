"""Gram: correlations between channels beyond the bounds that the training pictures of the predicted class have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, at_least_float32, fingerprint_of, require
from farfield.errors import InputError
from farfield.outputs import Data, Outputs, validated
from farfield.stats import hashed
from farfield.taps import Seen, Tap

OVER = ("confidence", "nothing")
HELD_OUT = 10  # of so many samples one is held out, in classes that have as many
LEAST = 1e-6  # what a bound counts as at least, where deviations are taken relative to it


def correlations(maps: Float[Tensor, "n c p"], powers: int) -> Float[Tensor, "n _"]:
    """For each power `q = 1 ...` the row sums of `A^q (A^q)^T`, their q-th root with the sign kept: `(n, powers c)`, the powers of a channel together.

    `rowsum(B B^T) = B (B^T 1)`, so no matrix of channels by channels is made; with `a = max |A|`, `A / a` is raised and `a^2` put back, so that nothing
    overflows.
    """
    x = at_least_float32(maps)
    size = x.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
    base, raised, found = x / size, torch.ones_like(x), []
    for power in range(1, powers + 1):
        raised = raised * base
        sums = (raised @ raised.sum(1)[:, :, None])[:, :, 0]
        found.append(sums.sign() * sums.abs().pow(1 / power))
    return (torch.stack(found, 2) * size.square()).flatten(1)


def beyond(g: Float[Tensor, "n p"], low: Float[Tensor, "n p"], high: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """How far each entry is outside its bounds, relative to the bound that it is beyond."""
    return (low - g).relu() / low.abs().clamp_min(LEAST) + (g - high).relu() / high.abs().clamp_min(LEAST)


class Correlations(Tap):
    """The correlations of every block, `(n, p)`, one block after the other."""

    maps = True

    def __init__(self, powers: int) -> None:
        self.powers, self.name = powers, f"gram:powers={powers}"

    def column(self, seen: Seen) -> Float[Tensor, "n p"]:
        """From the maps."""
        return torch.cat([correlations(maps, self.powers) for maps in seen.maps], 1)


class Deviations(Tap):
    """The deviation of every block `(n, blocks)` from the bounds of the predicted class, over its mean on held-out training pictures."""

    maps = True

    def __init__(self, powers: int, low: Tensor, high: Tensor, usual: Tensor) -> None:
        self.powers, self.low, self.high, self.usual = powers, low, high, usual
        digest = hashlib.blake2b(b"".join(part.cpu().numpy().tobytes() for part in (low, high, usual)), digest_size=8).hexdigest()
        self.name = f"gram:powers={powers},of={digest}"

    def column(self, seen: Seen) -> Float[Tensor, "n blocks"]:
        """From the maps and the predicted classes."""
        classes, start, found = seen.outputs.predictions().to(self.low.device), 0, []
        for maps in seen.maps:
            g = correlations(maps, self.powers).to(self.low.device)
            span = slice(start, start + g.shape[1])
            start = span.stop
            usual = self.usual[span].sum()
            # delta_l / E_l
            found.append(beyond(g, self.low[classes, span], self.high[classes, span]).sum(1) / torch.where(usual > 0, usual, 1.0))
        return torch.stack(found, 1)


class Gram(Detector):
    """Deviations of channel correlations from the range they have on training pictures: `S = -sum_l delta_l(x) / E_l`, over `max_c p_c`.

    For a block's map `A (c, places)` and powers `q`: `g = (sum_j (A^q (A^q)^T)_ij)^(1/q)`, and `lo`, `hi` its least and largest entries among the training
    pictures of each class. `delta_l = sum relu(lo - g) / |lo| + relu(g - hi) / |hi|` with the bounds of the predicted class, `E_l` its mean on a tenth of
    the training pictures, which the bounds have not seen.

    *Differs from the paper*: the maps are those of the blocks; bounds count as at least 1e-6; which tenth is held out hangs on the samples' numbers alone.
    Bounds are kept class by class as the data stream by; a training picture's correlations are stored, with five powers 77 kB for a ResNet-50.

    >>> import torch, farfield as ff
    >>> g = torch.tensor([[1.0], [2.0]])
    >>> train = ff.Outputs(logits=torch.eye(2), labels=torch.tensor([0, 1]), taps={"gram:powers=1": g})
    >>> detector = Gram.fit(train, powers=1)
    >>> detector.low.T, detector.high.T
    (tensor([[1., 2.]]), tensor([[1., 2.]]))

    Source: Sastry and Oore, "Detecting Out-of-Distribution Examples with Gram Matrices", ICML 2020.
    """

    use = "Where low-level statistics give OOD pictures away, such as noise and other renderings, and the training pictures are at hand."
    fails = "Near-OOD; classes with few pictures, whose bounds are narrow; one training outlier widens a bound."
    cost = "scoring O(powers x activations); fitting O(n x powers x activations), keeps 2 x c x powers x channels numbers"
    needs: tuple[str, ...] = ("logits", "deviations")
    fit_needs = ("logits", "labels", "correlations")
    passes = 3
    paper = "Sastry and Oore, ICML 2020"
    exportable = "it reads the maps inside the classifier"
    most = 50_000
    low: Tensor
    high: Tensor
    usual: Tensor

    def __init__(self, *, powers: int, over: str, fingerprint: str | None = None, **state: Tensor) -> None:
        super().__init__(powers=powers, over=over, fingerprint=fingerprint, **state)
        self.powers, self.over = powers, over
        self.needs = ("logits", self.taps()[0].name)

    @classmethod
    def fit(cls, train: Data, *, powers: int = 5, over: str = "confidence") -> Gram:
        """Bounds of each class, and the usual deviation.

        Args:
            train: outputs with logits `(n, c)`, true labels `(n,)` of every class, and the column of `fit_taps`.
            powers: how many, from 1; the paper takes 10, OpenOOD 5.
            over: `confidence` divides by the largest probability, as the official code does; `nothing` does not.

        Raises:
            InputError: for a bad option or bad data, or a class without samples.
        """
        require(1 <= powers <= 50, "Gram", "powers", powers, "1 <= powers <= 50")
        require(over in OVER, "Gram", "over", over, f"over to be one of {', '.join(OVER)}")
        needs = ("logits", "labels", cls.fit_taps(powers=powers)[0].name)
        counts = torch.zeros(0, dtype=torch.int64)
        for chunk, _, labels, _ in _chunks(train, needs):
            classes = chunk.columns()["logits"].shape[1]
            counts = (counts if len(counts) else labels.new_zeros(classes)) + torch.bincount(labels, minlength=classes)
        if absent := (counts == 0).nonzero()[:, 0].tolist():
            raise InputError(
                f"Gram needs training samples of every class; of class {absent[0]} there are none ({len(absent)} of {len(counts)} classes)."
            )
        low = high = usual = torch.zeros(0)
        for _, g, labels, held in _chunks(train, needs, counts):
            if not len(low):
                low, high = g.new_full((len(counts), g.shape[1]), torch.inf), g.new_full((len(counts), g.shape[1]), -torch.inf)
                usual = g.new_zeros(g.shape[1]).double()
            index = labels[~held, None].expand(-1, g.shape[1])
            low.scatter_reduce_(0, index, g[~held], "amin")
            high.scatter_reduce_(0, index, g[~held], "amax")
        number = 0
        for chunk, g, _, held in _chunks(train, needs, counts):
            predicted = chunk.predictions().to(g.device)[held]
            usual += beyond(g[held], low[predicted], high[predicted]).double().sum(0)
            number += int(held.sum())
        return cls(powers=powers, over=over, low=low, high=high, usual=(usual / max(number, 1)).float(), fingerprint=fingerprint_of(train))

    @classmethod
    def fit_taps(cls, *, powers: int = 5, **_: Any) -> tuple[Tap, ...]:
        """The correlations."""
        return (Correlations(powers),)

    def taps(self) -> tuple[Tap, ...]:
        """The deviations from this detector's bounds."""
        return (Deviations(self.powers, self.low, self.high, self.usual),)

    def score(self, logits: Float[Tensor, "n c"], deviations: Float[Tensor, "n blocks"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and the blocks' deviations, at most 0."""
        # S = -sum_l delta_l / E_l / max_c p_c
        total = -deviations.sum(1)
        return total / logits.to(total).softmax(1).amax(1) if self.over == "confidence" else total


def _chunks(train: Data, needs: tuple[str, ...], counts: Tensor | None = None) -> Iterator[tuple[Outputs, Tensor, Tensor, Tensor]]:
    """Each chunk with its correlations, its labels, and which of its samples are held out: a tenth, by number, of classes with as many samples."""
    start = 0
    for chunk in validated(train, needs, "Gram"):
        g, labels = at_least_float32(chunk.taps[needs[2]]), chunk.columns()["labels"].to(chunk.taps[needs[2]].device)
        ids = torch.arange(start, start + len(chunk), device=g.device) if chunk.ids is None else chunk.ids.to(g.device)
        held = hashed(ids, 0) % HELD_OUT == 0
        start += len(chunk)
        yield chunk, g, labels, held if counts is None else held & (counts.to(g.device)[labels] > HELD_OUT)

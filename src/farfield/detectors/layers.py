"""Mahalanobis distances in every block, weighed by a logistic regression against adversarial copies of training pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from farfield.detectors.base import Detector, at_least_float32, fingerprint_of, require
from farfield.detectors.mahalanobis import Mahalanobis
from farfield.detectors.odin import margin
from farfield.errors import InputError
from farfield.outputs import Data, Outputs, validated
from farfield.stats import ClassMoments, double, hashed
from farfield.taps import Seen, Tap

HELD_OUT = 10  # of so many training samples one is kept for the weights
FEWEST = 5  # samples for the weights


def pooled(seen: Seen) -> Float[Tensor, "n d"]:
    """The means of every block's channels over their places, one block after the other."""
    return torch.cat([at_least_float32(maps).mean(2) for maps in seen.maps], 1)


class Pooled(Tap):
    """The pooled channels of all blocks `(n, d)`."""

    name = "pooled"
    maps = True

    def column(self, seen: Seen) -> Float[Tensor, "n d"]:
        """From the maps."""
        return pooled(seen)


class Widths(Tap):
    """How many channels each block has `(n, blocks)`: the same in every row."""

    name = "widths"
    maps = True

    def column(self, seen: Seen) -> Tensor:
        """From the maps."""
        return torch.tensor([maps.shape[1] for maps in seen.maps], device=seen.maps[0].device).expand(len(seen.rows), -1)


class PooledOfAdversary(Tap):
    """The pooled channels `(n, d)` of `x + noise sgn(d CE(v, y) / dx)`, `y` the predicted class: 2 forward passes and a backward pass."""

    def __init__(self, noise: float) -> None:
        self.noise, self.name = noise, f"pooled:noise={noise!r}"

    def column(self, seen: Seen) -> Float[Tensor, "n d"]:
        """From the gradient of the batch."""
        gradient = seen.gradient(margin)
        return pooled(seen.again(seen.batch.to(gradient) + self.noise * gradient.sign(), maps=True))


class NearerDistances(Tap):
    """Each block's score `(n, blocks)` after a step towards the nearest class of that block: for each a forward, a backward and a forward pass."""

    def __init__(self, layers: list[Mahalanobis], eps: float) -> None:
        self.layers, self.eps = layers, eps
        state = b"".join(value.cpu().numpy().tobytes() for layer in layers for value in layer.state_dict().values())
        self.name = f"layers:eps={eps!r},of={hashlib.blake2b(state, digest_size=8).hexdigest()}"

    def column(self, seen: Seen) -> Float[Tensor, "n blocks"]:
        """From one gradient for each block."""
        found = []
        for block, layer in enumerate(self.layers):
            gradient = seen.gradient(lambda again, block=block, layer=layer: -layer.score(_block(again, block, layer)), maps=True)  # type: ignore[misc]
            moved = seen.again(seen.batch.to(gradient) - self.eps * gradient.sign(), maps=True)
            found.append(layer.score(_block(moved, block, layer)).to(gradient))
        return torch.stack(found, 1)


def _block(seen: Seen, block: int, layer: Mahalanobis) -> Float[Tensor, "n d"]:
    return at_least_float32(seen.maps[block]).mean(2).to(layer.mean.device)


class MultiLayerMahalanobis(Detector):
    """A weighed sum of the Mahalanobis scores of all blocks' pooled features: `S = b + sum_l a_l M_l`, `M_l = -min_c (f_l - mu_lc)^T Sigma_l^-1 (f_l - mu_lc)`.

    The weights are of a logistic regression of training pictures against `x + noise sgn(d CE / dx)`, on a tenth of them that the means and
    covariances have not seen. With `eps` each `M_l` is taken after a step of the input that lessens the distance of that block.

    *Differs from the paper*: fitted on training pictures alone, with no OOD data; the weights are found without the step; no factor 1/2.

    >>> import torch, farfield as ff
    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> taps = {"pooled": x, "pooled:noise=0.05": x + 3.0, "widths": torch.tensor([[1, 2]]).expand(200, 2)}
    >>> detector = MultiLayerMahalanobis.fit(ff.Outputs(labels=torch.arange(200) % 2, taps=taps))
    >>> len(detector.layers), bool((detector.weights > 0).all())
    (2, True)

    Source: Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018.
    """

    use = "Where OOD pictures differ in texture and low-level detail, which early blocks see."
    fails = (
        "Near-OOD and large label spaces: the published tables of MOS and of OpenOOD v1.5 have it last or nearly so. Weights found against adversaries may "
        "turn a block's score around: on one of three Glyphs networks its far AUROC is 33, on the others above 99 (docs/choosing.md)."
    )
    cost = "scoring O(d^2 + cd) a block, with `eps` 2 forward passes and a backward pass a block more; fitting O(n d^2 + d^3) a block, and as many passes"
    needs: tuple[str, ...] = ("pooled",)
    fit_needs = ("labels", "pooled", "widths", "pooled adversaries")
    passes = 2
    paper = "Lee et al., NeurIPS 2018"
    exportable = "it reads the maps inside the classifier"
    most = 50_000
    weights: Tensor
    bias: Tensor

    def __init__(self, *, eps: float, fingerprint: str | None = None, weights: Tensor, bias: Tensor, **layers: Mahalanobis) -> None:
        super().__init__(eps=eps, fingerprint=fingerprint, weights=weights, bias=bias)
        self.eps = eps
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.needs = (self.taps()[0].name,)

    @property
    def layers(self) -> list[Mahalanobis]:
        """The detector of each block."""
        return [child for child in self.children() if isinstance(child, Mahalanobis)]

    @classmethod
    def fit(cls, train: Data, *, eps: float = 0.0, noise: float = 0.05) -> MultiLayerMahalanobis:
        """Means and covariances of each block, and the weights.

        Args:
            train: outputs with true labels and the columns of `fit_taps`.
            eps: the step when scoring, in units of the model's input, from 0 (none) to 1000; MOS's code tries 0.0005 to 0.01.
            noise: the step of the adversaries that the weights are found on, above 0.

        Raises:
            InputError: for a bad option or bad data, or fewer than about a hundred samples.
        """
        require(0 <= eps <= 1e3, "MultiLayerMahalanobis", "eps", eps, "0 <= eps <= 1000")
        require(0 < noise <= 1e3, "MultiLayerMahalanobis", "noise", noise, "0 < noise <= 1000")
        name = cls.fit_taps(noise=noise)[-1].name
        widths: list[int] = []
        moments: list[ClassMoments] = []
        for chunk, held in _chunks(train, name):
            widths = widths or chunk.taps["widths"][0].tolist()
            moments = moments or [ClassMoments() for _ in widths]
            for part, column in zip(moments, chunk.taps["pooled"][~held].split(widths, 1), strict=True):
                part.update(column, chunk.columns()["labels"][~held])
        if not moments or moments[0].total == 0:
            raise InputError("MultiLayerMahalanobis has no training samples besides those it keeps for its weights. Give more.")
        layers = [Mahalanobis.of(part) for part in moments]
        clean: list[Tensor] = []
        moved: list[Tensor] = []
        for chunk, held in _chunks(train, name):
            for column, into in ((chunk.taps["pooled"], clean), (chunk.taps[name], moved)):
                parts = at_least_float32(column[held]).split(widths, 1)
                into.append(torch.stack([layer.score(part) for layer, part in zip(layers, parts, strict=True)], 1))
        weights, bias = regression(torch.cat(clean), torch.cat(moved))
        named: dict[str, nn.Module] = {f"block{i}": layer for i, layer in enumerate(layers)}
        return cls(eps=float(eps), weights=weights, bias=bias, fingerprint=fingerprint_of(train), **named)  # type: ignore[arg-type]

    @classmethod
    def fit_taps(cls, *, noise: float = 0.05, **_: Any) -> tuple[Tap, ...]:
        """The pooled features, and those of the adversaries."""
        return (Pooled(), Widths(), PooledOfAdversary(noise))

    def taps(self) -> tuple[Tap, ...]:
        """The pooled features, or the blocks' scores after a step."""
        return (NearerDistances(self.layers, self.eps),) if self.eps else (Pooled(),)

    def score(self, column: Float[Tensor, "n _"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From the pooled features, or from the blocks' scores after a step: the log odds of a training picture against an adversary."""
        if self.eps:
            scores = column
        else:
            parts = column.split([layer.mean.shape[1] for layer in self.layers], 1)
            scores = torch.stack([layer.score(part) for layer, part in zip(self.layers, parts, strict=True)], 1)
        # S = b + sum_l a_l M_l
        return (double(scores) @ double(self.weights) + double(self.bias)).to(scores)


def _chunks(train: Data, name: str) -> Iterator[tuple[Outputs, Tensor]]:
    """Each chunk, and which of its samples are for the weights: a tenth, by number."""
    start = 0
    for chunk in validated(train, ("labels", "pooled", "widths", name), "MultiLayerMahalanobis"):
        ids = torch.arange(start, start + len(chunk)) if chunk.ids is None else chunk.ids.cpu()
        start += len(chunk)
        yield chunk, (hashed(ids, 0) % HELD_OUT == 0).to(chunk.taps["pooled"].device)


def regression(clean: Float[Tensor, "n l"], moved: Float[Tensor, "n l"]) -> tuple[Float64[Tensor, " l"], Float64[Tensor, ""]]:
    """Weights and bias of the logistic regression that tells the first scores from the second, regularised in units of each score's deviation."""
    from sklearn.linear_model import LogisticRegression

    if len(clean) < FEWEST:
        raise InputError(
            f"MultiLayerMahalanobis finds its weights on a tenth of the training samples, {len(clean)} here; it needs {FEWEST}. Give more."
        )
    x = double(torch.cat([clean, moved])).cpu().numpy()
    spread = np.maximum(x.std(0), 1e-12)
    model = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit((x - x.mean(0)) / spread, np.repeat([1, 0], len(clean)))
    weights = model.coef_[0] / spread
    return torch.from_numpy(weights), torch.tensor(model.intercept_[0] - weights @ x.mean(0), dtype=torch.float64)

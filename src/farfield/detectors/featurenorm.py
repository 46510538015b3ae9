"""FeatureNorm: how strongly a block responds, of the block that tells pictures from their shuffled tiles best."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.detectors.base import Detector, at_least_float32, fingerprint_of, require
from farfield.errors import InputError
from farfield.outputs import Data, validated
from farfield.stats import double, hashed
from farfield.taps import Seen, Tap

TILES = 3


def norms_of(maps: tuple[Tensor, ...]) -> Float[Tensor, "n blocks"]:
    """Of each block, the mean over channels of the length of its rectified map: `1/M sum_m || relu(z_m) ||`."""
    return torch.stack([at_least_float32(map_).relu().norm(dim=2).mean(1) for map_ in maps], 1)


def jigsaw(batch: Float[Tensor, "n k h w"], rows: Int64[Tensor, " n"]) -> Float[Tensor, "n k h w"]:
    """Each picture's 3 x 3 tiles in another order, which hangs on its row alone; what the tiles do not cover is 0."""
    n, k, h, w = batch.shape
    th, tw = h // TILES, w // TILES
    if th == 0 or tw == 0:
        raise InputError(f"FeatureNorm shuffles {TILES} x {TILES} tiles, and pictures of {h} x {w} have none.")
    keys = hashed(rows[:, None] * TILES**2 + torch.arange(TILES**2, device=rows.device), 0)
    order = keys.argsort(1).to(batch.device)
    tiles = batch[:, :, : TILES * th, : TILES * tw].reshape(n, k, TILES, th, TILES, tw).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    tiles = tiles.gather(1, order[:, :, None, None, None].expand_as(tiles))
    shuffled = torch.zeros_like(batch)
    shuffled[:, :, : TILES * th, : TILES * tw] = tiles.unflatten(1, (TILES, TILES)).permute(0, 3, 1, 4, 2, 5).reshape(n, k, TILES * th, TILES * tw)
    return shuffled


class Norms(Tap):
    """The norm of every block `(n, blocks)`."""

    name = "norms"
    maps = True

    def column(self, seen: Seen) -> Float[Tensor, "n blocks"]:
        """From the maps."""
        return norms_of(seen.maps)


class ShuffledNorms(Tap):
    """The norm of every block `(n, blocks)` for the picture with its tiles shuffled: one more forward pass."""

    name = "shuffled-norms"

    def column(self, seen: Seen) -> Float[Tensor, "n blocks"]:
        """From the maps of another pass."""
        if seen.batch.ndim != 4:
            raise InputError(f"FeatureNorm shuffles pictures (n, channels, h, w); the input of {seen.classifier.name} is {tuple(seen.batch.shape)}.")
        return norms_of(seen.again(jigsaw(seen.batch, seen.rows), maps=True).maps)


class FeatureNorm(Detector):
    """The norm of one block's rectified map, `S = 1/M sum_m || relu(z_m) ||` over its `M` channels.

    The block is the one with the largest NormRatio, the mean over training pictures of `S(x) / S(jigsaw(x))`, with 3 x 3 tiles.

    *Differs from the paper*: both are computed under the evaluation transform, where the official code leaves the shuffled pictures unnormalised.

    >>> import torch, farfield as ff
    >>> norms = torch.tensor([[2.0, 9.0], [2.0, 8.0]])
    >>> train = ff.Outputs(taps={"norms": norms, "shuffled-norms": torch.tensor([[2.0, 3.0], [1.0, 4.0]])})
    >>> FeatureNorm.fit(train)(train)
    tensor([9., 8.])

    Source: Yu et al., "Block Selection Method for Using Feature Norm in Out-of-Distribution Detection", CVPR 2023.
    """

    use = "Convolutional networks on far-OOD; no labels and no head are needed."
    fails = "Transformers, whose normalised tokens have nearly one length, and OOD pictures with more contrast than ID ones, such as noise."
    cost = "scoring O(activations); fitting a forward pass more over 5,000 training pictures"
    needs = ("norms",)
    fit_needs = ("norms", "shuffled-norms")
    passes = 1
    paper = "Yu et al., CVPR 2023"
    exportable = "it reads the maps inside the classifier"
    most = 5000
    ratios: Tensor

    def __init__(self, *, block: int, fingerprint: str | None = None, **state: Tensor) -> None:
        super().__init__(block=block, fingerprint=fingerprint, **state)
        self.block = block

    @classmethod
    def fit(cls, train: Data, *, block: int | None = None) -> FeatureNorm:
        """Chooses the block.

        Args:
            train: outputs with the columns of `fit_taps`.
            block: which block, from 0; by default that of the largest NormRatio.

        Raises:
            InputError: for a bad option or bad data.
        """
        require(block is None or block >= 0, "FeatureNorm", "block", block, "block >= 0, or none for the one with the largest NormRatio")
        names = [tap.name for tap in cls.fit_taps(block=block)]
        total, seen = torch.zeros(()).double(), 0
        for chunk in validated(train, names, "FeatureNorm"):
            plain = double(chunk.taps[names[0]])
            # NR_b = mean_i FN_b(x_i) / FN_b(jigsaw(x_i)); a block that is silent for both tells nothing
            ratio = (plain + 1e-12) / (double(chunk.taps[names[-1]]) + 1e-12)
            total, seen = total + ratio.sum(0), seen + len(chunk)
        ratios = total / seen
        if block is not None and block >= len(ratios):
            raise InputError(f"FeatureNorm needs block < {len(ratios)}, the number of blocks; got block={block}.")
        return cls(block=int(ratios.argmax()) if block is None else block, ratios=ratios.float(), fingerprint=fingerprint_of(train))

    @classmethod
    def fit_taps(cls, *, block: int | None = None, **_: Any) -> tuple[Tap, ...]:
        """The norms, and those of shuffled pictures where they are to choose the block."""
        return (Norms(), ShuffledNorms()) if block is None else (Norms(),)

    def taps(self) -> tuple[Tap, ...]:
        """The norms."""
        return (Norms(),)

    def score(self, norms: Float[Tensor, "n blocks"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From the norms of all blocks, at least 0."""
        return norms[:, self.block]

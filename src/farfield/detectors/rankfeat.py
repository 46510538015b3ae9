"""RankFeat: the energy after the leading direction of a block's map is taken out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, at_least_float32, require
from farfield.detectors.logits import look
from farfield.errors import InputError
from farfield.outputs import Data
from farfield.taps import Change, Seen, Tap

AT = {"last": (1,), "before": (2,), "both": (2, 1)}  # which blocks, counted from the end


def deflated(maps: Float[Tensor, "n c p"], iterations: int) -> Float[Tensor, "n c p"]:
    """Maps without their leading singular direction: `X - s_1 u_1 v_1^T`, of each sample alone.

    With `iterations = 0` by an eigendecomposition of the smaller of `X X^T` and `X^T X`; else by so many steps of power iteration on it, from one fixed
    direction. A step shrinks what is wrong by `(s_2 / s_1)^2`.

    >>> deflated(torch.tensor([[[3.0, 0.0], [0.0, 1.0]]]), 0)
    tensor([[[0., 0.],
             [0., 1.]]])
    """
    if maps.shape[2] == 1:
        raise InputError("RankFeat takes a direction out of maps, and a block of this classifier puts out one place alone. Name other `blocks`.")
    x = at_least_float32(maps)
    if x.shape[1] < x.shape[2]:
        return _without_leading(x.transpose(1, 2), iterations).transpose(1, 2)
    return _without_leading(x, iterations)


def _without_leading(x: Float[Tensor, "n r s"], iterations: int) -> Float[Tensor, "n r s"]:
    """The same for matrices with no fewer rows than columns."""
    size = x.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
    gram = (x / size).transpose(1, 2) @ (x / size)
    if iterations == 0:
        v = torch.linalg.eigh(gram).eigenvectors[:, :, -1:]
    else:
        v = torch.randn(gram.shape[1], 1, generator=torch.Generator().manual_seed(0)).to(x).expand(len(x), -1, -1)
        for _ in range(iterations):
            v = torch.nn.functional.normalize(gram @ v, dim=1, eps=1e-30)
    rest: Tensor = x - (x @ v) @ v.transpose(1, 2)
    return rest


class Deflated(Tap):
    """The logits `(n, c)` with a block's map deflated, the mean over the blocks; what comes after the first of them runs once on all copies together."""

    def __init__(self, at: str, iterations: int) -> None:
        self.at, self.iterations = at, iterations
        self.name = f"rankfeat:at={at},iterations={iterations}"

    def branches(self, blocks: int) -> Mapping[int, Change]:
        """The last block, the one before, or each of them."""
        if blocks < max(AT[self.at]):
            raise InputError(
                f"RankFeat with at={self.at!r} needs a classifier with {max(AT[self.at])} blocks; this one has {blocks}. Name its `blocks`."
            )
        return {blocks - back: partial(deflated, iterations=self.iterations) for back in AT[self.at]}

    def column(self, seen: Seen) -> Float[Tensor, "n c"]:
        """From the copies that ran to the end."""
        return torch.stack([outputs.columns()["logits"] for (name, _), outputs in seen.branches.items() if name == self.name]).mean(0)


class RankFeat(Detector):
    """Energy without the leading singular direction of the last blocks' maps, which OOD inputs load more than ID ones.

    `S = T LSE(v / T)`, `v` the mean of the logits of the deflated branches: `X' = X - s_1 u_1 v_1^T` of a block's map `X (channels, places)`.

    Places are pixels of a map, or tokens. *Differs from the paper* in the power iteration, which starts from one fixed direction.

    >>> import torch, farfield as ff
    >>> detector = RankFeat.fit(ff.Outputs(logits=torch.tensor([[1.0, 2.0]])), at="last")
    >>> [tap.name for tap in detector.taps()]
    ['rankfeat:at=last,iterations=50']

    Source: Song, Sebe and Wang, "RankFeat: Rank-1 Feature Removal for Out-of-distribution Detection", NeurIPS 2022.
    """

    use = "Deep networks with large maps and GroupNorm, as the BiT the paper uses, on far-OOD."
    fails = "Networks whose blocks have no maps, small pictures, and in OpenOOD v1.5's published table most ResNets (CIFAR-100 61.88 / 67.10, ImageNet-1k 50.99 / 53.93)."
    cost = "scoring O(c), and what comes after the deflated block once more for each branch; fitting nothing"
    needs: tuple[str, ...] = ("deflated logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "Song, Sebe and Wang, NeurIPS 2022"
    exportable = "it changes the maps inside the classifier"

    def __init__(self, *, at: str, iterations: int, temperature: float, fingerprint: str | None = None) -> None:
        super().__init__(at=at, iterations=iterations, temperature=temperature, fingerprint=fingerprint)
        self.at, self.iterations, self.temperature = at, iterations, temperature
        self.needs = (self.taps()[0].name,)

    @classmethod
    def fit(cls, train: Data, *, at: str = "both", iterations: int = 50, temperature: float = 1.0) -> RankFeat:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; only the first chunk is looked at.
            at: whose map is deflated: the `last` block's, that of the one `before`, or `both`, each in a copy of its own, and the logits' mean. For a
                transformer the comparisons take `last`.
            iterations: of the power iteration, from 0, which is exact, to 10,000; the paper takes 20.
            temperature: `T`, from 1e-6 to 1e6.

        Raises:
            InputError: for an option out of its range.
        """
        require(at in AT, "RankFeat", "at", at, f"at to be one of {', '.join(AT)}")
        require(0 <= iterations <= 10_000, "RankFeat", "iterations", iterations, "0 <= iterations <= 10000")
        require(1e-6 <= temperature <= 1e6, "RankFeat", "temperature", temperature, "1e-6 <= temperature <= 1e6")
        return cls(at=at, iterations=iterations, temperature=float(temperature), fingerprint=look(train, "RankFeat"))

    def taps(self) -> tuple[Tap, ...]:
        """The logits of the deflated branches."""
        return (Deflated(self.at, self.iterations),)

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From the mean logits of the deflated branches, in their units."""
        # S = T LSE(v / T)
        return self.temperature * (logits / self.temperature).logsumexp(1)

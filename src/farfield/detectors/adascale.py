"""AdaSCALE: a scaling of the features whose strength hangs on how far a small change of the input moves them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, head_of, require
from farfield.errors import InputError
from farfield.outputs import Data, validated
from farfield.stats import double
from farfield.taps import Seen, Tap

FORMS = ("features", "logits")
TIE = 1e-9  # relative: sums that are equal but for rounding count as equal


class Shifted(Tap):
    """The features `(n, d)` of `x + eps sgn(g)` on the share of the input's elements with the least `|g|`, `g = d v_y / dx`: 2 forward and a backward pass."""

    def __init__(self, eps: float, share: float) -> None:
        self.eps, self.share = eps, share
        self.name = f"shifted:eps={eps!r},share={share!r}"

    def column(self, seen: Seen) -> Float[Tensor, "n d"]:
        """From the gradient of the batch."""
        if seen.outputs.features is None:
            raise InputError(f"AdaScale needs features, and {seen.classifier.name} has no linear head that could be found. Pass it as `layer`.")
        gradient = seen.gradient(lambda again: again.outputs.columns()["logits"].amax(1))
        sizes = gradient.abs().flatten(1)
        least = sizes.kthvalue(max(1, int(self.share * sizes.shape[1])), 1).values
        mask = (sizes <= least[:, None]).reshape(gradient.shape)
        return seen.again(seen.batch.to(gradient) + self.eps * gradient.sign() * mask).outputs.columns()["features"]


class AdaScale(Detector):
    """SCALE with a percentile for each sample: low where a small change of the input shifts the features much.

    With the `k1` % largest features `A` and the `k2` % largest `B`: `Q = sum_A relu(f') + weight sum_B |f - f'|`, `f'` the features of a changed input;
    `p = low + (1 - F(Q)) (high - low)`, `F` the share of ID samples with no larger `Q`; `r = sum relu(f) / sum of the d - round(d p / 100) largest relu(f)`.
    AdaSCALE-A: `S = LSE(W (f exp r) + b)`; AdaSCALE-L (`form="logits"`): `S = LSE(r^2 (W f + b))`.

    The input is changed by `eps sgn(d v_y / dx)` in the `share` of its elements with the least gradient. *Differs from the paper*: fitted on training
    samples, since calibration ones are not at hand; at least one feature counts in each sum; `exp r` stays below `exp 50`.

    >>> import torch, farfield as ff
    >>> f = torch.tensor([[4.0, 1.0], [2.0, 2.0]])
    >>> head = ff.Head(torch.eye(2), torch.zeros(2))
    >>> one = ff.Outputs(features=f, head=head, taps={"shifted:eps=0.5,share=0.05": f})
    >>> AdaScale.fit(one, low=50.0, high=50.0)(one).round(decimals=2)  # with one percentile for all it is SCALE
    tensor([13.9600, 15.4700])

    Source: Regmi, "AdaSCALE: Adaptive Scaling for OOD Detection", arXiv 2503.08023.
    """

    use = "ReLU networks on large label spaces: the best published post-hoc score of OpenOOD v1.5 on ImageNet-1k with a ResNet-50 (84.42 / 97.27)."
    fails = "Small label spaces (CIFAR-10: 83.92 / 88.00 in OpenOOD v1.5, below MSP), and features that are negative, as of transformers."
    cost = "scoring O(cd + d log d), and 2 forward passes and a backward pass more; fitting the same for 5,000 training pictures"
    needs: tuple[str, ...] = ("features", "shifted features")
    fit_needs = ("features", "head", "shifted features")
    passes = 1
    paper = "Regmi, arXiv 2025"
    exportable = "its change of the input needs the gradient of the classifier"
    most = 5000
    levels: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self, *, eps: float, share: float, k1: float, k2: float, mix: float, low: float, high: float, form: str, fingerprint: str | None = None,
        **state: Tensor,
    ) -> None:  # fmt: skip
        settings: dict[str, float | str] = {"eps": eps, "share": share, "k1": k1, "k2": k2, "mix": mix, "low": low, "high": high, "form": form}
        super().__init__(fingerprint=fingerprint, **settings, **state)
        self.eps, self.share, self.k1, self.k2, self.mix, self.low, self.high, self.form = eps, share, k1, k2, mix, low, high, form
        self.needs = ("features", self.taps()[0].name)

    @classmethod
    def fit(
        cls,
        train: Data,
        *,
        eps: float = 0.5,
        share: float = 0.05,
        k1: float = 5.0,
        k2: float = 1.0,
        mix: float = 10.0,
        low: float = 75.0,
        high: float = 85.0,
        form: str = "features",
    ) -> AdaScale:
        """The law of `Q` on ID samples.

        Args:
            train: outputs with features `(n, d)`, the head, and the column of `fit_taps`; labels are not needed.
            eps: the change of an element, in units of the model's input, above 0.
            share: of the input's elements that are changed, above 0 and at most 1.
            k1: percent of the features whose changed values count.
            k2: percent of the features whose shifts count.
            mix: the weight of the shifts, at least 0.
            low: the percentile where the shift is largest, from 0 and below 100.
            high: the percentile where it is smallest, from `low` and below 100.
            form: `features` (AdaSCALE-A) or `logits` (AdaSCALE-L).

        Raises:
            InputError: for a bad option or bad data.
        """
        require(0 < eps <= 1e3, "AdaScale", "eps", eps, "0 < eps <= 1000")
        require(0 < share <= 1, "AdaScale", "share", share, "0 < share <= 1")
        require(0 < k1 <= 100, "AdaScale", "k1", k1, "0 < k1 <= 100")
        require(0 < k2 <= 100, "AdaScale", "k2", k2, "0 < k2 <= 100")
        require(0 <= mix <= 1e6, "AdaScale", "mix", mix, "0 <= mix <= 1e6")
        require(0 <= low < 100, "AdaScale", "low", low, "0 <= low < 100")
        require(low <= high < 100, "AdaScale", "high", high, f"low <= high < 100, with low={low}")
        require(form in FORMS, "AdaScale", "form", form, f"form to be one of {', '.join(FORMS)}")
        name = cls.fit_taps(eps=eps, share=share)[0].name
        found = []
        for chunk in validated(train, ("features", "head", name), "AdaScale"):
            found.append(moved(chunk.columns()["features"], chunk.taps[name], k1, k2, mix))
        head = head_of(train, "AdaScale")
        return cls(
            eps=float(eps), share=float(share), k1=float(k1), k2=float(k2), mix=float(mix), low=float(low), high=float(high), form=form,
            levels=torch.cat(found).sort().values, weight=head.weight, bias=head.bias, fingerprint=fingerprint_of(train),
        )  # fmt: skip

    @classmethod
    def fit_taps(cls, *, eps: float = 0.5, share: float = 0.05, **_: Any) -> tuple[Tap, ...]:
        """The features of the changed input."""
        return (Shifted(float(eps), float(share)),)

    def taps(self) -> tuple[Tap, ...]:
        """The features of the changed input."""
        return (Shifted(self.eps, self.share),)

    def score(self, features: Float[Tensor, "n d"], shifted: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `features` and those of the changed input."""
        f, weight, bias = double(features), double(self.weight), double(self.bias)
        q = moved(features, shifted, self.k1, self.k2, self.mix).to(f.device)
        # p = low + (1 - F(Q)) (high - low)
        below = torch.searchsorted(self.levels.to(q), q * (1 + TIE), side="right") / len(self.levels)
        p = self.low + (1 - below.double()) * (self.high - self.low)
        d = f.shape[1]
        k = (d - (d * p / 100 + 0.5 + 1e-9).floor().long()).clamp_min(1)  # halves go up, whatever the rounding of p
        rectified = f.relu().sort(1, descending=True).values.cumsum(1)
        total, top = rectified[:, -1], rectified.gather(1, k[:, None] - 1)[:, 0]
        # r = sum relu(f) / sum of the k largest
        r = torch.where(top > 0, total / top.clamp_min(1e-300), torch.ones_like(top))
        if self.form == "logits":
            return ((f @ weight.T + bias) * r.square()[:, None]).logsumexp(1).to(features)
        return (f * r.clamp_max(50).exp()[:, None] @ weight.T + bias).logsumexp(1).to(features)


def moved(features: Float[Tensor, "n d"], shifted: Float[Tensor, "n d"], k1: float, k2: float, mix: float) -> Float[Tensor, " n"]:
    """`Q = sum over the k1 % largest features of relu(f') + mix sum over the k2 % largest of |f - f'|`, in float64."""
    f, g = double(features), double(shifted).to(features.device if features.device.type != "mps" else "cpu")
    d = f.shape[1]
    order = f.topk(max(1, int(d * max(k1, k2) / 100)), 1).indices
    first, second = order[:, : max(1, int(d * k1 / 100))], order[:, : max(1, int(d * k2 / 100))]
    return g.relu().gather(1, first).sum(1) + mix * (f - g).abs().gather(1, second).sum(1)

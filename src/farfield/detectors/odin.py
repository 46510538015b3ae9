"""ODIN: temperature, and a small step of the input towards the predicted class."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, require
from farfield.detectors.logits import look
from farfield.outputs import Data
from farfield.stats import double
from farfield.taps import Seen, Tap


class Nudged(Tap):
    """The logits `(n, c)` of `x - eps sgn(d CE(v / T, y) / dx)`, `y` the predicted class and `sgn(0) = 1`: a forward and a backward pass, and a forward pass.

    `CE = softplus(m)` with `m = LSE_{c != y} v_c / T - v_y / T`, which rises with `m`, so the sign is that of `dm / dx`: no softmax saturates in it.
    """

    def __init__(self, temperature: float, eps: float) -> None:
        self.temperature, self.eps = temperature, eps
        self.name = f"odin:temperature={temperature!r},eps={eps!r}"

    def column(self, seen: Seen) -> Float[Tensor, "n c"]:
        """From the batch and its gradient."""
        gradient = seen.gradient(partial(margin, temperature=self.temperature))
        signs = torch.where(gradient >= 0, 1.0, -1.0).to(gradient)
        logits = seen.again(seen.batch.to(gradient) - self.eps * signs).outputs.logits
        assert logits is not None
        return logits


def margin(seen: Seen, temperature: float = 1.0) -> Float[Tensor, " n"]:
    """What the cross-entropy of the predicted class `y` rises with: `LSE_{c != y} v_c / T - v_y / T`."""
    v = seen.outputs.columns()["logits"] / temperature
    top, best = v.max(1, keepdim=True)
    return v.scatter(1, best, -torch.inf).logsumexp(1) - top[:, 0]


class ODIN(Detector):
    """Softmax at a high temperature, of an input that was moved a little towards its class.

    `S = T log(C max_c softmax(v(x') / T)_c)`, `x' = x - eps sgn(d CE(v(x) / T, y) / dx)`, `y` the predicted class.

    *Differs from the paper* by the increasing map `p -> T log(C p)`: at `T = 1000` all probabilities are near `1 / C`, and float32 would tell few apart.
    `eps` is in units of the model's input; the paper's code divides the step by the standard deviations of the preprocessing, which are not known here.

    >>> import torch, farfield as ff
    >>> two = ff.Outputs(logits=torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    >>> ODIN.fit(two, eps=0.0)(two)  # without a step the logits are enough; nearly max v - mean v
    tensor([0.0000, 0.9995])

    Source: Liang, Li and Srikant, "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks", ICLR 2018.
    """

    use = "Where a forward and a backward pass more are affordable, with `eps` from the paper; with `eps=0` it costs nothing, and is a softened MaxLogit."
    fails = "Steps chosen on the test sets flatter it; on large label spaces it is no better than MaxLogit in OpenOOD v1.5's published table."
    cost = "scoring O(c), and 2 forward passes and a backward pass more (none with `eps=0`); fitting nothing"
    needs: tuple[str, ...] = ("nudged logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "Liang, Li and Srikant, ICLR 2018"
    exportable = "its step needs the gradient of the classifier"

    def __init__(self, *, temperature: float, eps: float, fingerprint: str | None = None) -> None:
        super().__init__(temperature=temperature, eps=eps, fingerprint=fingerprint)
        self.temperature, self.eps = temperature, eps
        self.needs = (self.taps()[0].name,) if eps else ("logits",)

    @classmethod
    def fit(cls, train: Data, *, temperature: float = 1000.0, eps: float = 0.0014) -> ODIN:
        """Nothing to fit.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`; only the first chunk is looked at.
            temperature: `T`, from 1e-6 to 1e6; the paper takes 1,000.
            eps: the step, in units of the model's input, at least 0; the paper chooses about 0.0014 on validation data. 0 takes the logits as they are, as
                the comparisons in MOS, GradNorm and RankFeat do.

        Raises:
            InputError: for an option out of its range.
        """
        require(1e-6 <= temperature <= 1e6, "ODIN", "temperature", temperature, "1e-6 <= temperature <= 1e6")
        require(0 <= eps <= 1e3, "ODIN", "eps", eps, "0 <= eps <= 1000")
        return cls(temperature=float(temperature), eps=float(eps), fingerprint=look(train, "ODIN"))

    def taps(self) -> tuple[Tap, ...]:
        """The logits of the moved input."""
        return (Nudged(self.temperature, self.eps),) if self.eps else ()

    def score(self, nudged: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From the logits of the moved input, in their units."""
        v = double(nudged)
        # T log(C max softmax(v / T)) = max v - T (LSE(v / T) - log C)
        return (v.amax(1) - self.temperature * ((v / self.temperature).logsumexp(1) - torch.tensor(float(v.shape[1])).double().log())).to(nudged)

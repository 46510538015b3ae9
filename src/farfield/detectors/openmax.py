"""OpenMax: logits revised by how far they are from those of their classes, as an extreme-value law has it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, require, warn
from farfield.errors import InputError
from farfield.outputs import Data, Outputs, validated
from farfield.stats import double

SHIFT = 1e4  # what is added to distances before a Weibull law is fitted to them
STEPS = 60  # of Newton's method, at most; six or so are needed
_ELEMENTS = 2**18  # of differences between logits and means at once: 2 MB, which stay in the cache


class OpenMax(Detector):
    """Open-set logits: the log-odds of all classes against "none of them", `S = LSE_c(v'_c) - v'_0`.

    `v'_c = v_c (1 - omega_c w_c)`, `v'_0 = sum_c v_c omega_c w_c`. `w_c = F_c(||v - m_c||)`, `m_c` the mean logits of the training samples of class
    `c` that were classified rightly, `F_c` a Weibull law fitted to the largest of their distances from it; `omega` is 1, `(alpha - 1)/alpha`, ...,
    `1/alpha` for the `alpha` largest logits and 0 for the rest. The probability of "none" in the paper is a falling map of `S`.

    As the original code has it, the law is of `distance + 10000 - least of the tail`. A class with fewer than two samples classified rightly has
    no law, and `w = 1`; it is warned of. A sample's score does not depend on its batch. A negative logit among the largest is raised by
    its revision: so the definition has it.

    >>> import torch, farfield as ff
    >>> v = torch.tensor([[9.0, 0.0], [8.0, 1.0], [7.0, 0.0], [0.0, 9.0], [1.0, 8.0], [0.0, 7.0]])
    >>> detector = OpenMax.fit(ff.Outputs(logits=v, labels=torch.tensor([0, 0, 0, 1, 1, 1])))
    >>> near, far = detector(ff.Outputs(logits=torch.tensor([[8.0, 0.0], [30.0, 0.0]])))
    >>> bool(near > far)
    True

    Source: Bendale and Boult, "Towards Open Set Deep Networks", CVPR 2016, algorithms 1 and 2.
    """

    use = "Logits, with labelled training data of which a class has several that are classified rightly."
    fails = "Negative logits among the largest, which its revision raises; classes with fewer than two samples classified rightly, which have no law."
    cost = "scoring O(alpha c); fitting O(n c); keeps c^2 numbers"
    needs = ("logits",)
    fit_needs = ("logits", "labels")
    passes = 2
    paper = "Bendale and Boult, CVPR 2016"
    search = {"tail": (10, 20, 30, 40, 50), "alpha": (1, 3, 5, 10, 15, 20)}
    of_classes = ("alpha",)
    means: Tensor
    least: Tensor
    shape: Tensor
    log_scale: Tensor

    def __init__(self, *, alpha: int, fingerprint: str | None = None, **state: Tensor) -> None:
        super().__init__(alpha=alpha, fingerprint=fingerprint, **state)
        self.alpha = alpha

    @classmethod
    def fit(cls, train: Data, *, tail: int = 20, alpha: int = 3) -> OpenMax:
        """Means, then a Weibull law for each class, all of them at once; two passes.

        Args:
            train: outputs with logits `(n, c)`, `c >= 2`, and true labels `(n,)`.
            tail: how many of the largest distances of a class its law is fitted to, from 2; all where there are fewer. The paper takes 20.
            alpha: how many of the largest logits are revised, from 1; all where there are fewer. The paper takes 10.

        Raises:
            InputError: for a bad option or bad data, or when no class has two samples that are classified rightly.
        """
        require(tail >= 2, "OpenMax", "tail", tail, "tail >= 2")
        require(alpha >= 1, "OpenMax", "alpha", alpha, "alpha >= 1")
        sums = counts = torch.zeros(0, dtype=torch.float64)
        for chunk in validated(train, cls.fit_needs, "OpenMax"):
            v, y = right(chunk)
            if not len(counts):
                sums, counts = v.new_zeros(v.shape[1], v.shape[1]), v.new_zeros(v.shape[1])
            sums.index_add_(0, y, v)
            counts += torch.bincount(y, minlength=len(counts))
        means = sums / counts.clamp_min(1)[:, None]
        labels, distances = torch.zeros(0, dtype=torch.int64, device=means.device), means[:0, 0]
        for chunk in validated(train, cls.fit_needs, "OpenMax"):
            v, y = right(chunk)
            distance = (v - means[y]).square().sum(1).sqrt()
            labels, distances = largest(torch.cat([labels, y]), torch.cat([distances, distance]), tail)
        fitted = counts >= 2
        if not fitted.any():
            raise InputError("OpenMax needs two samples that are classified rightly of some class, and no class has them.")
        if not fitted.all():
            warn(
                f"{int((~fitted).sum())} of {len(counts)} classes have fewer than two samples that are classified rightly, and no law: they are always revised in full."
            )
        least, shape, log_scale = weibull(labels, distances, len(counts), tail)
        # Without a law w is 1 at any distance.
        log_scale = torch.where(fitted, log_scale, torch.full_like(log_scale, -torch.inf)).nan_to_num(neginf=-1e30)
        return cls(alpha=alpha, means=means, least=least, shape=shape, log_scale=log_scale, fingerprint=fingerprint_of(train))

    def rows(self) -> int:
        """As many as keep the differences between logits and means within 2 MB."""
        return max(1, min(512, _ELEMENTS // (self.alpha * len(self.means))))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`, in nats."""
        v, alpha = double(logits), min(self.alpha, logits.shape[1])
        top, which = v.topk(alpha, 1)
        distance = (v[:, None] - double(self.means)[which]).square().sum(2).sqrt()
        log_x = (distance + SHIFT - double(self.least)[which]).clamp_min(1e-300).log()  # what is nearer than the law begins is surely known
        # w = F(x) = 1 - exp(-(x / scale)^shape)
        w = -torch.expm1(-(double(self.shape)[which] * (log_x - double(self.log_scale)[which])).clamp_max(700).exp())
        omega = torch.arange(alpha, 0, -1, dtype=v.dtype, device=v.device) / alpha
        unknown = top * omega * w
        # S = LSE(v (1 - omega w)) - sum v omega w
        return (v.scatter(1, which, top - unknown).logsumexp(1) - unknown.sum(1)).to(logits)


def right(chunk: Outputs) -> tuple[Float64[Tensor, "n c"], Int64[Tensor, " n"]]:
    """The logits and labels of the samples that are classified rightly."""
    assert chunk.logits is not None and chunk.labels is not None
    v = double(chunk.logits)
    labels = chunk.labels.to(v.device)
    correct: Bool[Tensor, " all"] = chunk.predictions().to(v.device) == labels
    return v[correct], labels[correct]


def largest(labels: Int64[Tensor, " n"], values: Float64[Tensor, " n"], number: int) -> tuple[Int64[Tensor, " m"], Float64[Tensor, " m"]]:
    """At most so many of each label: those of the largest values, by label."""
    order = values.argsort(descending=True, stable=True)
    order = order[labels[order].argsort(stable=True)]
    sizes = torch.bincount(labels[order])
    place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[labels[order]]
    order = order[place < number]
    return labels[order], values[order]


def weibull(
    labels: Int64[Tensor, " m"], values: Float64[Tensor, " m"], classes: int, tail: int
) -> tuple[Float64[Tensor, " c"], Float64[Tensor, " c"], Float64[Tensor, " c"]]:
    """The least value of each class, and the shape and log scale of the likeliest Weibull law of `value + SHIFT - least`, of all classes at once.

    With `l = log x` and `q = softmax(k l)` the shape is the root of `h(k) = sum q l - 1/k - mean l`, which rises: `h' = Var_q(l) + 1/k^2`. Where all
    values of a class are equal, the law is a step there.
    """
    sizes = torch.bincount(labels, minlength=classes)
    place = torch.arange(len(labels), device=labels.device) - (sizes.cumsum(0) - sizes)[labels]
    x = torch.full((classes, tail), torch.nan, dtype=values.dtype, device=values.device)
    x[labels, place] = values
    there = ~x.isnan()
    least = torch.where(there, x, torch.inf).amin(1).nan_to_num(posinf=0.0)
    logs = torch.where(there, (x + SHIFT - least[:, None]).log(), 0.0)
    top = torch.where(there, logs, -torch.inf).amax(1).nan_to_num(neginf=0.0)
    logs = torch.where(there, logs - top[:, None], 0.0)  # at most 0, and precise beside 0
    n = sizes.clamp_min(1)
    mean = logs.sum(1) / n
    deviation = ((logs - mean[:, None]).square() * there).sum(1).div(n).sqrt()
    even = deviation < 1e-15
    k = torch.where(even, torch.ones_like(deviation), 1.2825 / deviation.clamp_min(1e-300))
    for _ in range(STEPS):
        q = torch.where(there, k[:, None] * logs, -torch.inf).nan_to_num(neginf=-1e300).softmax(1) * there
        q = q / q.sum(1, keepdim=True).clamp_min(1e-300)
        expected = (q * logs).sum(1)
        step = (expected - 1 / k - mean) / ((q * (logs - expected[:, None]).square()).sum(1) + 1 / k.square())
        k = torch.where(k - step > 0, k - step, k / 2)
        if bool((step.abs() <= 1e-13 * k)[~even].all()):
            break
    k = torch.where(even, torch.full_like(k, 1e12), k)  # all equal: a step at that distance
    powers = torch.where(there, (k[:, None] * logs).exp(), 0.0).sum(1) / n
    return least, k, top + powers.clamp_min(1e-300).log() / k

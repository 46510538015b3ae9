"""AugDelete: a head retrained on stored features, to the one optimum of penalised cross-entropy."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.errors import FarfieldWarning, InputError, OptionError
from farfield.outputs import Data, Head, Outputs, chunks, validated
from farfield.stats import double, hashed

ROWS = 4096  # samples whose logits are held at a time
INNER = 100  # conjugate gradients in a Newton step
METHOD = "Retraining the head"


@dataclass(frozen=True, eq=False)
class Retrained:
    """What `retrain` found.

    Args:
        head: the new head, with biases that add up to 0.
        before: the objective of the head that was given.
        after: of the new one.
        gradient: the norm of the objective's gradient there, over all weights and biases.
        distance: `gradient / (penalty |W|)`, which bounds how far the weights are from the optimum, over their own norm; see `retrain`.
        converged: whether that is within the tolerance.
        iterations: Newton steps.
        passes: over the features, those for products with the Hessian included.
        samples: how many were learned from.
        accuracy_before: of the head that was given, on these samples.
        accuracy_after: of the new one.
        seconds: in all.
    """

    head: Head
    before: float
    after: float
    gradient: float
    distance: float
    converged: bool
    iterations: int
    passes: int
    samples: int
    accuracy_before: float
    accuracy_after: float
    seconds: float


def retrain(
    head: Head,
    data: Data,
    *,
    penalty: float = 5e-4,
    bias: bool = True,
    fraction: float = 1.0,
    seed: int = 0,
    tolerance: float = 1e-3,
    limit: int = 200,
    progress: Callable[[str, int, int], None] | None = None,
) -> Retrained:
    """The last layer that is best for stored features: plain labels, no smoothing, no mixing; the features stay as they are.

    `min over W, b of  F = mean_n CE(W f_n + b, y_n) + (penalty / 2) |W|^2`, the sum of squares of `W (c, d)`; the biases `(c,)` are free.

    `F` is strictly convex in `W`, so there is one optimum, whatever the warm start and the order of the samples. Where one stops matters little, and it is
    said how little: with `(G, g)` the gradient by `W` and `b`, and a star at the optimum,
    `penalty |W - W*|^2 <= <G, W - W*> + <g, b - b*>`; without biases, or where they are at their best for `W`, this is `|W - W*| <= |G| / penalty`.
    It stops where the whole gradient is at most `tolerance * penalty * |W|`. Adding one number to all biases, or one row to all rows of `W`, changes
    no probability; both are fixed by letting the biases, and the rows, add up to 0, as those of the optimum do.

    The method is Newton's, each step solved by conjugate gradients on products with the Hessian, of which each is a pass over the data; coordinates in
    which features vary alike within classes change the path and not the optimum. Products are in float32 (float64 for float64 features), sums over
    chunks in float64; what is held beside the data is at most 4,096 x c numbers of each kind, and d x d.

    Args:
        head: the warm start, a flat one; zeros are taken in its place where Newton's method fares better from there.
        data: features `(n, d)` of training samples, from a pass in evaluation mode, and labels `(n,)`; `ids` where there are some.
        penalty: on the weights, above 0.
        bias: whether the head has biases; without, they are 0.
        fraction: of each class's samples that are used, in (0, 1]: those with the lowest hash of `(seed, id)`, rounded up; the row is the id where
            there is none.
        seed: of that choice.
        tolerance: how far from the optimum it may stop, as above; 1e-3 is a thousandth of the weights' norm. Float32 reaches about 1e-4.
        limit: passes over the data at most.
        progress: called with `("retraining", passes made, limit)`.

    Raises:
        InputError: for a head with groups, labels out of range, NaN among the features, features of another width than the head, a class without samples
            (its bias would fall for ever), and an option out of its range. A warning where the tolerance is not reached.

    >>> data = Outputs(features=torch.tensor([[1.0], [2.0], [-1.0], [-3.0]]), labels=torch.tensor([0, 0, 1, 1]))
    >>> found = retrain(Head(torch.zeros(2, 1), torch.zeros(2)), data, penalty=0.1)
    >>> [round(w, 3) for w in found.head.weight.flatten().tolist()], found.accuracy_after
    ([0.89, -0.89], 1.0)

    Source: Xiong et al., "Diagnosing Pretrained Models for Out-of-distribution Detection", ICCV 2025,
    section 5.1, algorithm 1, which minimises cross-entropy by gradient descent and does not say for how long or with what decay; on
    features that are separable that has no optimum. The penalty's default is the weight decay the paper trains with.
    """
    _check_options(penalty, fraction, seed, tolerance, limit)
    if head.groups is not None:
        raise InputError(
            f"{METHOD} is for a flat head; this one has a softmax in each of several groups (MOS). Fine-tune it with the objective `mos`."
        )
    started = time.perf_counter()
    objective = _Objective(_Headed(data, head), penalty, bias, fraction, seed, limit, progress)
    with _exact_products():
        given = objective.first(head)
        found, steps = _minimise(objective, given, tolerance)
    theta = found.theta - found.theta.mean(0)
    weight, free = theta[:, :-1], theta[:, -1]
    dtype = torch.promote_types(torch.promote_types(head.weight.dtype, objective.dtype), torch.float32)
    norm, distance = float(found.gradient.norm()), _distance(found, penalty)
    if not distance <= tolerance:
        warnings.warn(
            f"{METHOD} stopped after {objective.passes} passes, where the weights may be {distance:.1e} of their norm from the optimum, not {tolerance:.1e}. "
            "Raise `limit`, `tolerance` or `penalty`, or give features in float64.",
            FarfieldWarning,
            stacklevel=2,
        )
    return Retrained(
        head=Head(weight.to(objective.device, dtype), free.to(objective.device, dtype)),
        before=given.value,
        after=found.value,
        gradient=norm,
        distance=distance,
        converged=distance <= tolerance,
        iterations=steps,
        passes=objective.passes,
        samples=objective.samples,
        accuracy_before=given.accuracy,
        accuracy_after=found.accuracy,
        seconds=time.perf_counter() - started,
    )


def _check_options(penalty: float, fraction: float, seed: int, tolerance: float, limit: int) -> None:
    rules = {
        "penalty": (penalty, penalty > 0 and math.isfinite(penalty), "above 0: without one, separable features have no optimum"),
        "fraction": (fraction, 0 < fraction <= 1, "above 0 and at most 1"),
        "seed": (seed, seed >= 0, "0 or more"),
        "tolerance": (tolerance, tolerance > 0 and math.isfinite(tolerance), "above 0"),
        "limit": (limit, limit >= 1, "1 or more"),
    }
    for name, (value, fine, rule) in rules.items():
        if not fine:
            raise OptionError(f"{METHOD} needs `{name}` {rule}; got {name}={value}.")


@dataclass(frozen=True, eq=False)
class _Headed:
    """Data whose chunks carry this head, so that labels and widths are checked against it, and nothing that retraining does not read."""

    data: Data
    head: Head

    def __iter__(self) -> Iterator[Outputs]:
        for chunk in chunks(self.data, ROWS):
            yield replace(chunk, logits=None, taps={}, head=self.head)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Inside: float32 products with all the digits of float32, whatever the caller allowed (TF32 or bfloat16 have too few for the stated optimum)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True, eq=False)
class _Point:
    """Weights and, in the last column, biases; the objective there, its gradient, the accuracy, and the mean of p (1 - p) of each class."""

    theta: Float[Tensor, "c e"]
    value: float
    gradient: Float[Tensor, "c e"]
    accuracy: float
    varies: Float[Tensor, " c"]


class _Objective:
    """Penalised cross-entropy over the chosen samples; each look at it is a pass over the data."""

    def __init__(
        self, data: _Headed, penalty: float, bias: bool, fraction: float, seed: int, limit: int, progress: Callable[[str, int, int], None] | None
    ) -> None:
        self.data, self.penalty, self.bias, self.seed, self.limit, self.progress = data, penalty, bias, seed, limit, progress
        self.passes = self.samples = 0
        self.centre = torch.zeros(0)
        self.highest = self._choose(fraction)

    def _choose(self, fraction: float) -> Int64[Tensor, " c"] | None:
        """For each class, the highest hash of the samples that are used; `None` where all are."""
        labels, keys, start = [], [], 0
        for chunk in validated(self.data, ("labels",), METHOD):
            assert chunk.labels is not None
            labels.append(chunk.labels.cpu())
            keys.append(hashed(_ids(chunk, start), self.seed).cpu() if fraction < 1 else labels[-1])
            start += len(chunk)
        label, key = torch.cat(labels), torch.cat(keys)
        counts = torch.bincount(label, minlength=self.data.head.classes)
        if self.bias and not counts.all():
            empty = (counts == 0).nonzero()[:, 0]
            raise InputError(
                f"{METHOD} needs samples of every class: {len(empty)} of {len(counts)} have none, first class {int(empty[0])}, and its bias would "
                "fall for ever. Add samples of it, or take bias=False."
            )
        if fraction == 1:
            return None
        order = key.argsort(stable=True)
        order = order[label[order].argsort(stable=True)]  # by class, then by key
        last = counts.cumsum(0) - counts + (counts * fraction).ceil().long() - 1
        return key[order[last.clamp_min(0)]]

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The features and labels of the chosen samples; the first pass checks the features."""
        start = 0
        for chunk in self.data if self.passes else validated(self.data, ("features",), METHOD):
            assert chunk.features is not None and chunk.labels is not None
            features, labels = chunk.features, chunk.labels.to(chunk.features.device)
            if self.highest is not None:
                chosen = hashed(_ids(chunk, start), self.seed).to(labels.device) <= self.highest.to(labels.device)[labels]
                features, labels = features[chosen], labels[chosen]
            start += len(chunk)
            if len(labels):
                yield features.to(torch.float64 if features.dtype == torch.float64 else torch.float32), labels
        self.passes += 1
        if self.progress is not None:
            self.progress("retraining", self.passes, self.limit)

    def first(self, head: Head) -> _Point:
        """The objective at a head; on the way, each class's mean, and the principal axes of the features within classes with the mean squares along them."""
        c, d = head.weight.shape
        counts, sums, products = torch.zeros(c), torch.zeros(c, d), torch.zeros(d, d)

        def look(x: Tensor, labels: Tensor) -> None:
            nonlocal counts, sums, products
            counts = double(counts.to(x.device)) + double(torch.bincount(labels, minlength=c))
            sums = double(sums.to(x.device)).index_add(0, labels.to(sums.device), double(x))
            products = double(products.to(x.device)) + double(x.T @ x)

        point = self.at(torch.cat([head.weight, head.bias[:, None]], 1), look)
        means = sums / counts.clamp_min(1)[:, None]
        within = (products - means.T @ sums) / self.samples
        squares, self.axes = torch.linalg.eigh(within)
        self.squares = squares.clamp_min(0)
        self.means = means + double(self.centre)
        if self.bias:
            self.centre = self.centre + (sums.sum(0) / self.samples).to(self.centre)
        self.turned = self.means @ self.axes
        return point

    def at(self, theta: Float[Tensor, "c e"], look: Callable[[Tensor, Tensor], None] | None = None) -> _Point:
        """The objective at these weights and biases; `look` sees each chunk's features about the centre, and labels."""
        loss, hits, samples = 0.0, 0, 0
        gradient = varies = torch.zeros(())
        for features, labels in self._chunks():
            if not samples:
                self._begin(features)
                theta = double(theta.to(features.device))
                w, b = self._about_centre(theta)
            x = features - self.centre
            if look is not None:
                look(x, labels)
            logits = torch.addmm(b, x, w.T)
            rows = torch.arange(len(x), device=x.device)
            hits += int((logits.argmax(1) == labels).sum())
            logits -= logits.amax(1, keepdim=True)
            own = logits[rows, labels]
            p = logits.exp_()
            sums = p.sum(1, keepdim=True)
            loss += float(double(sums).log().sum() - double(own).sum())
            p /= sums
            varies = varies.to(theta) + double(p.sum(0) - p.square().sum(0))
            p[rows, labels] -= 1
            gradient = gradient.to(theta) + double(torch.cat([p.T @ x, p.sum(0)[:, None]], 1))
            samples += len(x)
        self.samples = samples
        value = loss / samples + self.penalty / 2 * float(theta[:, :-1].square().sum())
        return _Point(theta, value, self._whole(gradient / samples, theta), hits / samples, varies / samples)

    def times(self, theta: Float[Tensor, "c e"], v: Float[Tensor, "c e"]) -> Float[Tensor, "c e"]:
        """The Hessian at these weights and biases, times a vector."""
        product = torch.zeros_like(theta)
        w, b = self._about_centre(theta)
        wv, bv = self._about_centre(v)
        for features, _ in self._chunks():
            x = features - self.centre
            p = torch.addmm(b, x, w.T).softmax(1)
            moved = torch.addmm(bv, x, wv.T)
            moved -= (p * moved).sum(1, keepdim=True)
            p *= moved
            product += double(torch.cat([p.T @ x, p.sum(0)[:, None]], 1))
        return self._whole(product / self.samples, v)

    def _about_centre(self, theta: Float[Tensor, "c e"]) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
        """Weights and biases as factors for the features about their centre."""
        w, b = theta[:, :-1], theta[:, -1] + theta[:, :-1] @ double(self.centre)
        return w.to(self.device, self.dtype), b.to(self.device, self.dtype)

    def _whole(self, sums: Float[Tensor, "c e"], theta: Float[Tensor, "c e"]) -> Float[Tensor, "c e"]:
        """A derivative by the weights on features about their centre, as one by those on features as they are, with the penalty's."""
        w = sums[:, :-1] + sums[:, -1:] * double(self.centre) + self.penalty * theta[:, :-1]
        return torch.cat([w, sums[:, -1:] * self.bias], 1)

    def _begin(self, features: Float[Tensor, "n d"]) -> None:
        """Sets the centre the features are taken about: the mean of the first chunk until that of all is known; 0 without biases to take it up."""
        self.device, self.dtype = features.device, features.dtype
        if not self.passes:
            self.centre = features.mean(0) if self.bias else torch.zeros_like(features[0])

    def preconditioned(self, gradient: Float[Tensor, "c e"], varies: Float[Tensor, " c"]) -> Float[Tensor, "c e"]:
        """A Newton step where the samples for which class c is in doubt lie about its mean as all lie about theirs, and classes do not act on each other.

        The Hessian is then `varies_c (S + m_c m_c^T) + penalty` by the weights, with `varies_c` by the bias and `varies_c m_c` between them.
        """
        doubt = varies.clamp_min(1e-2 * float(varies.mean()))[:, None]
        inner = 1 / (doubt * self.squares + self.penalty)
        w, b = gradient[:, :-1] @ self.axes, gradient[:, -1:]
        if self.bias:
            w = inner * (w - b * self.turned)
            b = b / doubt - (w * self.turned).sum(1, keepdim=True)
        else:
            w, along = inner * w, inner * self.turned
            w = w - along * (self.turned * w).sum(1, keepdim=True) / (1 / doubt + (self.turned * along).sum(1, keepdim=True))
        step = torch.cat([w @ self.axes.T, b], 1)
        return step - step.mean(0)


def _ids(chunk: Outputs, start: int) -> Int64[Tensor, " n"]:
    """The samples' ids, or their rows."""
    return torch.arange(start, start + len(chunk)) if chunk.ids is None else chunk.ids


def _minimise(objective: _Objective, given: _Point, tolerance: float) -> tuple[_Point, int]:
    """Newton's method from a point, until the gradient is small, the passes are used up, or rounding hides every descent; and the steps it took."""
    here, steps = _start(objective, given), 0
    while (off := _distance(here, objective.penalty)) > tolerance and objective.passes < objective.limit:
        share = max(min(0.25, 0.1 * math.sqrt(off)), 0.3 * tolerance / off)  # far away, a rough solution is as good
        step = _newton(objective, here, share)
        before = objective.passes
        there = _search(objective, here, step)
        if steps == 0 and objective.passes > before + 1 and here.theta.any() and objective.passes < objective.limit:
            # The warm start is so sure of its answers that its curvature says nothing of the way; from zeros Newton's method goes straight.
            here, steps = objective.at(torch.zeros_like(here.theta)), 1
            continue
        if there is None:
            break
        here, steps = there, steps + 1
    return here, steps


def _start(objective: _Objective, given: _Point) -> _Point:
    """The warm start, moved to where it has the same probabilities, and rows and biases that add up to 0; zeros where it is worse than they are."""
    theta = given.theta - given.theta.mean(0)
    if given.value > math.log(len(theta)):
        return objective.at(torch.zeros_like(theta))
    if not objective.bias and theta[:, -1].any():
        theta[:, -1] = 0
        return objective.at(theta)
    moved = theta[:, :-1] - given.theta[:, :-1]
    gradient = given.gradient.clone()
    gradient[:, :-1] += objective.penalty * moved
    value = given.value + objective.penalty / 2 * float(theta[:, :-1].square().sum() - given.theta[:, :-1].square().sum())
    return replace(given, theta=theta, gradient=gradient, value=value)


def _distance(point: _Point, penalty: float) -> float:
    """What bounds how far the weights are from the optimum, over their norm."""
    norm = float(point.gradient.norm())
    return norm / max(penalty * float(point.theta[:, :-1].norm()), 1e-300) if norm else 0.0


def _newton(objective: _Objective, here: _Point, share: float) -> Float[Tensor, "c e"]:
    """The Newton step by preconditioned conjugate gradients, until the residual is this share of the gradient, both in the preconditioner's norm."""
    step, residual = torch.zeros_like(here.theta), -here.gradient
    direction = z = objective.preconditioned(residual, here.varies)
    size = first = float((residual * z).sum())
    for _ in range(INNER):
        if objective.passes >= objective.limit - 1:  # one is for the step
            break
        product = objective.times(here.theta, direction)
        curvature = float((direction * product).sum())
        if not curvature > 0:  # of rounding alone
            break
        step, residual = step + size / curvature * direction, residual - size / curvature * product
        z = objective.preconditioned(residual, here.varies)
        before, size = size, float((residual * z).sum())
        if size <= share**2 * first:
            break
        direction = z + size / before * direction
    return step if step.any() else z


def _search(objective: _Objective, here: _Point, step: Float[Tensor, "c e"]) -> _Point | None:
    """The step, or the part of it at which the objective falls, found by parabolas; `None` where rounding hides that it does.

    Where the objective changes less than it is rounded, its slope tells whether it falls (Hager and Zhang, SIAM J. Optim. 2005, equation 4.1).
    """
    slope = float((here.gradient * step).sum())
    noise = 16 * torch.finfo(objective.dtype).eps * max(abs(here.value), 1.0)
    length = 1.0
    while length > 1e-9 and objective.passes < objective.limit:
        there = objective.at(here.theta + length * step)
        steep = float((there.gradient * step).sum())
        if there.value <= here.value + 1e-4 * length * slope or (there.value <= here.value + noise and steep <= -0.8 * slope):
            return there
        rise = there.value - here.value - length * slope
        length *= min(max(-slope * length / (2 * rise), 0.02), 0.5) if rise > 0 else 0.5
    return None

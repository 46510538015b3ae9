"""The panel: several detectors that judge together, by one-sided p-values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from farfield.detectors.base import Detector, Fitter, fingerprint_of, require, warn
from farfield.errors import InputError
from farfield.outputs import Data, Outputs, chunks
from farfield.stats import double, hashed

BY = ("fisher", "harmonic", "minimum", "cauchy", "z-score")
MEMBERS = "relative-mahalanobis/relative-mahalanobis++/she"
FEWEST = 10  # calibration samples
KEPT_BACK = 5  # of so many training samples one calibrates, where there is nothing else
CLIP = 10.0  # robust deviations that one member counts at most, in the z-score


class Panel(Detector):
    """Several detectors as one: how unusual they find a sample, compared with ID samples that none of them has seen.

    `P_j = (1 + number of calibration samples with S_j(x_i) <= S_j(x)) / (n + 1)`, small for OOD, and `S = sum_j log P_j` (`fisher`). As no `P_j` is above
    1, a detector that finds a sample very usual cannot outvote one that finds it very unusual, as it would in a sum of scores.

    Below the lowest share `tail` of the calibration scores `P_j` goes on as a generalised Pareto law, so that samples beyond all of them do not tie.
    `by` combines otherwise: `harmonic`, `S = log(J / sum_j 1 / P_j)`; `minimum`, `S = min_j log P_j`; `cauchy`, `S = -mean_j tan((1/2 - P_j) pi)` on a
    log scale; `z-score`, the mean of robust z-scores (median, 1.4826 MAD) clipped at 10. `S` is a score and no p-value: the members are not independent.

    >>> import torch, farfield as ff
    >>> random = torch.Generator().manual_seed(0)
    >>> train, held = (ff.Outputs(logits=torch.randn(100, 3, generator=random)) for _ in range(2))
    >>> panel = Panel.fit(train, held, members="maxlogit/energy")
    >>> panel(ff.Outputs(logits=torch.tensor([[4.0, 4.0, 4.0], [-9.0, -9.0, -9.0]])))[0] > -0.1
    tensor(True)

    Source: Fisher, "Statistical Methods for Research Workers", 1925; by the harmonic mean Wilson, "The harmonic mean p-value for combining dependent
    tests", PNAS 2019. Their use here is ours.
    """

    use = "To let detectors of your choice judge together, where you have measured that they miss different things."
    fails = (
        "Its default members, the best of 18,928 panels on four other classifiers, have a lower AUROC on the worst set than `relative-mahalanobis` alone "
        "on all six classifiers that ship (docs/panel.md)."
    )
    cost = "scoring O(n) a member with n calibration samples, beside what the members cost; fitting its members, and O(n log n) a member"
    needs: tuple[str, ...] = ("logits", "features")
    fit_needs = ("logits", "features", "labels")
    passes = 5
    paper = "Wilson, PNAS 2019"
    calibrated = True
    search = {"by": BY, "tail": (0.1, 0.05, 0.02)}
    known: Tensor
    shape: Tensor
    scale: Tensor

    def __init__(self, *, members: str, by: str, tail: float, fingerprint: str | None = None, **state: Tensor | nn.Module) -> None:
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        super().__init__(members=members, by=by, tail=tail, fingerprint=fingerprint, **tensors)
        self.by, self.tail = by, tail
        for name, value in state.items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)
        self.needs = tuple(dict.fromkeys(need for member in self.members for need in member.needs))
        reasons = [member.exportable for member in self.members if member.exportable is not True]
        self.exportable = reasons[0] if reasons else True

    @property
    def members(self) -> list[Detector]:
        """The detectors."""
        return [child for child in self.children() if isinstance(child, Detector)]

    @classmethod
    def fit(cls, train: Data, calibration: Data | None = None, *, members: str = MEMBERS, by: str = "fisher", tail: float = 0.1) -> Panel:
        """Fits the members on training data, and compares their scores on calibration data.

        Args:
            train: outputs with what the members need.
            calibration: outputs of ID data that the classifier was not trained on, and that are like what will be scored. Without it a fifth of
                the training data, which the members then do not see.
            members: detectors, joined by `/`; with options that have commas or `+` all in brackets, as `(gen/knn:k=10,bank=5/react+energy)`.
            by: `fisher`, `harmonic`, `minimum`, `cauchy` or `z-score`.
            tail: the share of the calibration scores that the law of the tail is fitted to, above 0 and at most 0.5.

        Raises:
            InputError: for a bad option or bad data, or fewer than 10 calibration samples.
        """
        require(by in BY, "Panel", "by", by, f"by to be one of {', '.join(BY)}")
        require(0 < tail <= 0.5, "Panel", "tail", tail, "0 < tail <= 0.5")
        fitters = fitters_of(members)
        if calibration is None:
            warn(
                "Panel has no calibration data and takes a fifth of the training data, which the classifier knows better than new data. Give "
                "ID data that it was not trained on (--id-cal)."
            )
            train, calibration = Part(train, lambda mine: ~mine), Part(train, lambda mine: mine)
        made = [fitter(train) for fitter in fitters]
        parts = [precise(chunk) for chunk in chunks(calibration) if len(chunk)]
        scores = torch.cat([torch.stack([member(part) for member in made], 1) for part in parts] or [torch.empty(0, 1)])
        if len(scores) < FEWEST:
            raise InputError(f"Panel needs {FEWEST} calibration samples to compare with; there are {len(scores)}. Give more.")
        if not torch.isfinite(scores).all():
            raise InputError("A member of the panel gives NaN or infinity on the calibration data. Look at the model, or leave that member out.")
        known = scores.sort(0).values
        laws = [tail_of(column, tail) for column in known.T]
        state: dict[str, nn.Module] = {f"member{i}": member for i, member in enumerate(made)}
        return cls(
            members=members,
            by=by,
            tail=tail,
            known=known.T,
            shape=torch.stack([law[0] for law in laws]),
            scale=torch.stack([law[1] for law in laws]),
            fingerprint=fingerprint_of(train),
            **state,
        )

    def rows(self) -> int:
        """As few as the most careful member, and as keep the comparisons within 64 MB."""
        return max(1, min(2**26 // self.known.numel(), *(member.rows() for member in self.members)))

    def score(self, *tensors: Tensor) -> Float[Tensor, " n"]:
        """From what the members read: in nats, at most 0 (`cauchy` and `z-score`: in units of their own)."""
        columns = dict(zip(self.needs, map(double, tensors), strict=True))
        scores = torch.stack([member.score(*(columns[need] for need in member.needs)) for member in self.members], 1)
        return self.combined(scores).to(tensors[0])

    def combined(self, scores: Float64[Tensor, "n j"]) -> Float64[Tensor, " n"]:
        """The panel's score from its members'."""
        if self.by == "z-score":
            return self.z(scores).mean(1)
        return together(self.log_p(scores), self.by, self.known.shape[1])

    def z(self, scores: Float64[Tensor, "n j"]) -> Float64[Tensor, "n j"]:
        """Each member's robust z-score, clipped."""
        known = self.known.to(scores)
        middle = known.median(1).values
        spread = 1.4826 * (known - middle[:, None]).abs().median(1).values
        return ((scores - middle) / torch.where(spread > 0, spread, 1.0)).clamp(-CLIP, CLIP)

    def log_p(self, scores: Float64[Tensor, "n j"]) -> Float64[Tensor, "n j"]:
        """The log of each member's p-value."""
        known = self.known.to(scores)
        n = known.shape[1]
        k = in_tail(n, self.tail)
        at_most = torch.stack([(scores[:, j, None] >= known[j]).sum(1) for j in range(len(known))], 1)
        body = ((1 + at_most) / (n + 1)).log()
        # below u, the k-th lowest: P = p_u (1 + xi (u - s) / sigma)^(-1 / xi), exp(-(u - s) / sigma) where xi is 0
        below = (known[:, k - 1] - scores).clamp_min(0) / self.scale.to(scores)
        xi = self.shape.to(scores)
        heavy = -(xi * below).log1p() / torch.where(xi > 0, xi, 1.0)
        tail = math.log((1 + k) / (n + 1)) + torch.where(xi > 0, heavy, -below)
        return torch.where(scores < known[:, k - 1], tail, body)


def precise(outputs: Outputs) -> Outputs:
    """Outputs in float64: a score far from zero that differs little among samples, rounded to float32, would tie where p-values count."""
    columns = outputs.columns()
    return outputs.having(**{name: double(columns[name]) for name in ("logits", "features") if name in columns})


def together(logs: Float64[Tensor, "n j"], by: str, calibration: int) -> Float64[Tensor, " n"]:
    """The combined score of the logs of p-values that so many calibration samples gave, by one of `BY` but the z-score."""
    if by == "minimum":
        return logs.amin(1)
    if by == "fisher":
        return logs.sum(1)
    if by == "cauchy":
        # one that is surely usual, P = 1, must not cancel the others: at most 1 - 1 / (n + 1); tan near pi / 2 is 1 / (pi P)
        p = logs.clamp(-600.0, math.log1p(-1 / (calibration + 1))).exp()
        t = torch.where(p < 1e-6, 1 / (math.pi * p), torch.tan((0.5 - p.clamp_min(1e-6)) * math.pi)).mean(1)
        return -t.sign() * t.abs().log1p()
    # S = log(J / sum_j 1 / P_j)
    return math.log(logs.shape[1]) - (-logs).logsumexp(1)


def fitters_of(members: str) -> list[Fitter]:
    """The fitters that the option `members` names.

    Raises:
        InputError: for fewer than two, a name that is not known, a panel in a panel, or a detector that looks inside the classifier.
    """
    from farfield.detectors import parse
    from farfield.detectors.compose import looks_inside

    names = [name.strip() for name in members.strip().removeprefix("(").removesuffix(")").split("/")]
    if len(names) < 2 or not all(names):
        raise InputError(f"Panel needs two or more members, joined by '/', as {MEMBERS}; got members={members!r}.")
    if any(name.startswith("panel") for name in names):
        raise InputError(f"A panel cannot sit on a panel; got members={members!r}.")
    fitters = [parse(name) for name in names]
    if inside := next((name for name, fitter in zip(names, fitters, strict=True) if looks_inside(fitter)), None):
        raise InputError(f"The members of a panel judge by logits and features, and {inside!r} looks inside the classifier. Leave it out.")
    return fitters


def in_tail(n: int, share: float) -> int:
    """How many of `n` calibration scores are the tail: the share, and at least 10."""
    return min(max(10, math.ceil(share * n)), n)


def tail_of(known: Float64[Tensor, " n"], share: float) -> tuple[Float64[Tensor, ""], Float64[Tensor, ""]]:
    """Shape and scale of a generalised Pareto law for how far the lowest of sorted scores lie below the tail's beginning.

    By probability-weighted moments (Hosking and Wallis, Technometrics 1987): with `a_0 = mean y` and `a_1 = mean (1 - p_i) y_(i)`,
    `xi = 2 - a_0 / (a_0 - 2 a_1)` and `sigma = 2 a_0 a_1 / (a_0 - 2 a_1)`. A law that ends (`xi < 0`) is taken as exponential, so that no sample is impossible.
    """
    k = in_tail(len(known), share)
    y = (known[k - 1] - known[:k]).flip(0)
    p = (torch.arange(1, k + 1, dtype=y.dtype, device=y.device) - 0.35) / k
    a0, a1 = y.mean(), ((1 - p) * y).mean()
    xi = 2 - a0 / (a0 - 2 * a1)
    if not (a0 > 0 and torch.isfinite(xi)):
        width = known[-1] - known[0]
        return torch.zeros_like(a0), torch.where(a0 > 0, a0, torch.where(width > 0, width, torch.ones_like(width)))
    if xi <= 0:
        return torch.zeros_like(xi), a0
    return xi.clamp_max(0.9), 2 * a0 * a1 / (a0 - 2 * a1)


class Part:
    """The samples of some data for which `keep(mine)` holds, `mine` being a fifth of them, by number."""

    def __init__(self, data: Data, keep: Callable[[Bool[Tensor, " n"]], Bool[Tensor, " n"]]) -> None:
        if isinstance(data, Iterator):
            raise InputError("`fit` may go over the data more than once, and a generator can be used up; pass a list, `Outputs` or a stored stream.")
        self.data, self.keep = data, keep

    def __iter__(self) -> Iterator[Outputs]:
        start = 0
        for chunk in [self.data] if isinstance(self.data, Outputs) else self.data:
            ids = torch.arange(start, start + len(chunk)) if chunk.ids is None else chunk.ids.cpu()
            start += len(chunk)
            yield chunk[self.keep(hashed(ids, 0) % KEPT_BACK == 0).nonzero()[:, 0]]

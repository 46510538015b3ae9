"""Records of several seeds as one table, and what they say of a paper's claims."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from farfield import metrics
from farfield.reproduce.base import Cells, Claim, Key, Record

LEVEL = 0.95
SAME = 1.0  # points within which a difference is none to speak of


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, `None` where there is none.

    Of several seeds it is their mean, with the interval by Student's t over seeds; of one, the figure with its interval over pictures.
    """

    value: float
    interval: tuple[float, float] | None
    seeds: int

    def __str__(self) -> str:
        """The figure and half the width of its interval: its farther end.

        >>> str(Estimate(79.31, (78.0, 80.0), 1))
        '79.3 ± 1.3'
        """
        if self.interval is None:
            return f"{self.value:.1f}"
        return f"{self.value:.1f} ± {max(self.value - self.interval[0], self.interval[1] - self.value):.1f}"


@dataclass(frozen=True)
class Verdict:
    """What the figures say of a claim.

    Args:
        claim: which.
        difference: in points, above 0 where it is as the paper says.
        paper: the same of the paper's own figures, where they are there.
        holds: whether the claim holds here: `yes`, `no` (the opposite is told from chance), or `not told`; of one seed `yes, one seed` and so on.
    """

    claim: Claim
    difference: Estimate
    paper: float | None
    holds: str


def table(records: Iterable[Record]) -> dict[Key, dict[str, Estimate]]:
    """Each thing's figures over the seeds; what a seed has twice, as two cells may have MSP, counts once."""
    found: dict[Key, dict[str, dict[int, tuple[float, tuple[float, float] | None]]]] = {}
    for record in records:
        mine = found.setdefault(record.of, {})
        for name, value in record.values.items():
            mine.setdefault(name, {})[record.seed] = (value, record.intervals.get(name))
    return {of: {name: _estimate(list(told.values())) for name, told in mine.items()} for of, mine in found.items()}


def _estimate(told: Sequence[tuple[float, tuple[float, float] | None]]) -> Estimate:
    if len(told) == 1:
        return Estimate(*told[0], 1)
    return over_seeds([value for value, _ in told])


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean, with its interval by Student's t; without one for a single value.

    >>> over_seeds([1.0, 2.0, 3.0])  # doctest: +ELLIPSIS
    Estimate(value=2.0, interval=(-0.484..., 4.484...), seeds=3)
    """
    mean, interval = metrics.mean_and_interval(values, LEVEL)
    return Estimate(mean, None if interval is None else (interval.low, interval.high), len(values))


def verdicts(claims: Sequence[Claim], records: Sequence[Record], published: Sequence[Record]) -> list[Verdict]:
    """What records say of each claim that they are enough for."""
    by_seed: dict[int, list[Record]] = {}
    for record in records:
        by_seed.setdefault(record.seed, []).append(record)
    found = []
    for claim in claims:
        differences = {seed: value for seed, mine in by_seed.items() if (value := _difference(claim, mine)) is not None}
        if differences:
            estimate = over_seeds(list(differences.values()))
            if len(differences) == 1 and claim.interval is not None:
                estimate = replace(estimate, interval=claim.interval(Cells(by_seed[next(iter(differences))])))
            found.append(Verdict(claim, estimate, _difference(claim, published), _holds(estimate, claim.same)))
    return found


def _difference(claim: Claim, records: Iterable[Record]) -> float | None:
    try:
        found = claim.difference(Cells(records))
        return found if math.isfinite(found) else None
    except (KeyError, ValueError, StopIteration, TypeError):  # a figure is not there: the min of nothing, the next of none
        return None


def _holds(estimate: Estimate, same: bool) -> str:
    """Whether a difference is told from none, by its interval; of one seed, by its sign alone.

    That there is none holds where the interval lies within `SAME` of 0: one that is wide, with 0 in it, tells nothing.
    """
    if estimate.interval is None:
        return "one seed" if same else ("yes, one seed" if estimate.value > 0 else "no, one seed")
    low, high = estimate.interval
    if same:
        return "yes" if low >= -SAME and high <= SAME else "no" if low > 0 or high < 0 else "not told"
    return "yes" if low > 0 else "no" if high < 0 else "not told"


def columns(records: Mapping[Key, object]) -> list[list[str]]:
    """What stands at each place of the keys, each once, in order."""
    width = max((len(of) for of in records), default=0)
    return [list(dict.fromkeys(of[place] for of in records if len(of) > place)) for place in range(width)]

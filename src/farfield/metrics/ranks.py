"""Several treatments on the same blocks, such as detectors on the same classifiers: which of them differ, by ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import friedmanchisquare, rankdata, wilcoxon

from farfield.errors import InputError

FEWEST = 5  # blocks under which nothing is tested
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Ranking:
    """How treatments rank over blocks.

    Args:
        ranks: the mean rank of each treatment, 1 for the best; those that tie in a block share their ranks.
        p_value: of Friedman's test that all rank alike; `None` for fewer than 3 treatments or `FEWEST` blocks.
        pairs: Holm-corrected p-values of Wilcoxon's signed-rank test of each pair, 1 on the diagonal; `None` for fewer than `FEWEST` blocks.
        blocks: how many there were.
        needed: blocks from which on any pair at all can be told apart at 5 %, for so many treatments.
    """

    ranks: Float[np.ndarray, " k"]
    p_value: float | None
    pairs: Float[np.ndarray, "k k"] | None
    blocks: int
    needed: int


def ranking(values: Float[np.ndarray, "b k"], *, high: bool = True) -> Ranking:
    """Return how k treatments rank over b blocks, and which pairs differ.

    Friedman's test over blocks; for each pair the signed-rank test of the blocks' differences, those of 0 left out, and Holm's correction over the pairs. The
    test of a pair cannot fall below `2^(1 - b)`, so that of m pairs none is told apart at 5 % for `2^(1 - b) m >= 0.05`.

    Args:
        values: a figure for each block and treatment.
        high: whether a high figure is a good one.

    Raises:
        InputError: for values that are no table of finite numbers with at least one row and one column.

    >>> ranking(np.array([[3.0, 2.0, 1.0]] * 4)).ranks
    array([1., 2., 3.])

    Source: Demsar, JMLR 2006, sections 3.1.3 and 3.2; Holm 1979.
    """
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise InputError(f"`values` must be finite numbers, a row for each block and a column for each treatment; got a shape of {values.shape}.")
    b, k = values.shape
    ranks = rankdata(-values if high else values, axis=1).mean(0)
    if b < FEWEST:
        return Ranking(ranks, None, None, b, blocks_needed(k))
    p_value = None
    if k > 2:
        varies = bool((values != values[:, :1]).any())
        p_value = float(friedmanchisquare(*values.T).pvalue) if varies else 1.0
    rows, columns = np.triu_indices(k, 1)
    pairs = np.ones((k, k))
    pairs[rows, columns] = holm([signed_rank(values[:, i] - values[:, j]) for i, j in zip(rows, columns, strict=True)])
    return Ranking(ranks, p_value, np.minimum(pairs, pairs.T), b, blocks_needed(k))


def signed_rank(differences: Float[np.ndarray, " b"]) -> float:
    """Return the p-value of Wilcoxon's signed-rank test that differences are as often and as far above 0 as below; 1 where all are 0.

    >>> signed_rank(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    0.0625
    """
    differing = differences[differences != 0]
    return float(wilcoxon(differing).pvalue) if len(differing) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the k-th smallest times the number of those not smaller, never falling, at most 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm 1979.
    """
    corrected, worst = [0.0] * len(p_values), 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, p_values[i] * (len(p_values) - place)))
        corrected[i] = worst
    return corrected


def blocks_needed(k: int) -> int:
    """Return the fewest blocks with which a pair of k treatments can be told apart at 5 %: the first b of at least `FEWEST` with `2^(1 - b) m < 0.05`.

    >>> [blocks_needed(k) for k in (2, 3, 7)]
    [6, 7, 10]
    """
    b, pairs = FEWEST, k * (k - 1) / 2
    while 2.0 ** (1 - b) * pairs >= SIGNIFICANT:
        b += 1
    return b


def tied_runs(order: Sequence[int], pairs: Float[np.ndarray, "k k"]) -> list[tuple[int, int]]:
    """Return the longest runs of neighbours, as first and last place in `order`, of which no two differ at 5 %; those of one alone are left out.

    >>> pairs = np.array([[1.0, 0.5, 0.01], [0.5, 1.0, 0.5], [0.01, 0.5, 1.0]])
    >>> tied_runs([0, 1, 2], pairs)
    [(0, 1), (1, 2)]
    """
    found: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and all(pairs[order[i], order[last + 1]] >= SIGNIFICANT for i in range(first, last + 1)):
            last += 1
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found

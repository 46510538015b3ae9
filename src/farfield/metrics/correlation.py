"""Figures over models: how two go together, and the mean of some, each with an interval over the models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit
from scipy.stats import rankdata

from farfield.errors import InputError
from farfield.metrics.intervals import Interval, tail_of

DRAWS = 2000  # of a bootstrap
Told = tuple[dict[str, float], dict[str, tuple[float, float]]]  # figures and intervals, by name


def correlations(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], less: Float[np.ndarray, " n"] | None = None) -> Told:
    """Pearson's and Spearman's correlation of `x` and `y`, or how much larger it is than that of `x` and `less`; with intervals over models.

    An interval is between quantiles of 2,000 resamples of the models, which are the same for all that have as many. A resample in which one side does
    not vary has no correlation, and is left out; where that is so of all models, there is no figure.

    >>> correlations(np.arange(4.0), np.array([1.0, 2.0, 3.0, 9.0]))[0]["spearman"]
    1.0
    """
    rows = np.random.default_rng(0).integers(len(x), size=(DRAWS, len(x)))
    values, intervals = {}, {}
    for name, by in (("pearson", _pearson), ("spearman", _spearman)):
        whole, drawn = by(x[None], y[None])[0], by(x[rows], y[rows])
        if less is not None:
            whole, drawn = whole - by(x[None], less[None])[0], drawn - by(x[rows], less[rows])
        if np.isfinite(whole):
            low, high = np.nanquantile(drawn, (0.025, 0.975))
            values[name], intervals[name] = float(whole), (float(low), float(high))
    return values, intervals


def _pearson(x: Float[np.ndarray, "k n"], y: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
    """Of each row; NaN where one side does not vary."""
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    # r = sum (x - mean) (y - mean) / sqrt(sum (x - mean)^2 sum (y - mean)^2)
    size = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    found: Float[np.ndarray, " k"] = np.divide((x * y).sum(1), size, out=np.full(len(x), np.nan), where=size > 1e-9)
    return found


def _spearman(x: Float[np.ndarray, "k n"], y: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
    return _pearson(rankdata(x, axis=1), rankdata(y, axis=1))


def mean_and_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, Interval | None]:
    """Return the mean of independent figures, with its interval by Student's t: `mean -+ t sd / sqrt(n)`; a single figure has none.

    Raises:
        InputError: when there are none.

    >>> mean_and_interval([1.0, 2.0, 3.0])  # doctest: +ELLIPSIS
    (2.0, Interval(low=-0.484..., high=4.484...))
    """
    n = len(values)
    if n < 1:
        raise InputError("There is nothing to take the mean of: `values` is empty.")
    mean = float(np.mean(values))
    if n < 2:
        return mean, None
    half = float(stdtrit(n - 1, 1 - tail_of(level)) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, Interval(mean - half, mean + half)

"""Each method once more, in float64, as its paper writes it: one sample and one class at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


def msp(train: Arrays, test: Arrays) -> np.ndarray:
    """-log(1 - max p), with 1 - max p summed from the other classes."""
    scores = []
    for v in test["logits"]:
        others = np.delete(v, v.argmax())
        margin = np.longdouble(v.max()) - others.astype(np.longdouble)
        odds = np.exp(-margin).sum()  # (1 - p_max) / p_max
        scores.append(float(np.log1p(1 / odds)) if odds > 0 else float(margin.min()))
    return np.array(scores)


def maxlogit(train: Arrays, test: Arrays) -> np.ndarray:
    return np.array([max(v) for v in test["logits"]])


def energy(train: Arrays, test: Arrays, temperature: float = 1.0) -> np.ndarray:
    scores = []
    for v in test["logits"]:
        top = max(v)
        scores.append(top + temperature * np.log(sum(np.exp((x - top) / temperature) for x in v)))
    return np.array(scores)


def mahalanobis(train: Arrays, test: Arrays, shrinkage: float = 0.0) -> np.ndarray:
    f, y = train["features"], train["labels"]
    n, d = f.shape
    means = {c: f[y == c].mean(0) for c in np.unique(y)}
    sigma = np.zeros((d, d))
    for x, c in zip(f, y, strict=True):
        sigma += np.outer(x - means[c], x - means[c]) / n
    sigma = (1 - shrinkage) * sigma + shrinkage * np.trace(sigma) / d * np.eye(d)
    # A matrix of full rank is inverted in units that make its diagonal 1: the same inverse, with more of its digits.
    units = np.sqrt(np.diag(sigma))
    if (units > 1e-13 * np.abs(f.mean(0))).all() and np.linalg.matrix_rank(sigma / np.outer(units, units), hermitian=True) == d:
        inverse = np.linalg.inv(sigma / np.outer(units, units)) / np.outer(units, units)
    else:
        inverse = np.linalg.pinv(sigma, hermitian=True, rcond=1e-12)
    return np.array([-min((x - m) @ inverse @ (x - m) for m in means.values()) for x in test["features"]])


def splitmix64(x: int) -> int:
    """Steele, Lea and Flood's mixer, on unsigned Python integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def lowest_hashes(ids: np.ndarray, labels: np.ndarray, limit: int, seed: int) -> list[int]:
    """Rows of the `limit` ids with the lowest signed hash in each class."""
    gamma = 0x9E3779B97F4A7C15

    def key(row: int) -> int:
        mixed = splitmix64((splitmix64((int(ids[row]) + gamma) % 2**64) + seed * gamma) % 2**64)
        return mixed - 2**64 if mixed >= 2**63 else mixed

    return [row for c in np.unique(labels) for row in sorted(np.flatnonzero(labels == c), key=key)[:limit]]


def knn(train: Arrays, test: Arrays, k: int = 50, bank: int | None = None, seed: int = 0) -> np.ndarray:
    rows = range(len(train["features"])) if bank is None else lowest_hashes(train["ids"], train["labels"], bank, seed)
    kept = [train["features"][row] / max(np.sqrt(np.sum(train["features"][row] ** 2)), 1e-300) for row in rows]
    scores = []
    for x in test["features"]:
        z = x / max(np.sqrt(np.sum(x**2)), 1e-300)
        scores.append(-sorted(np.sqrt(np.sum((z - b) ** 2)) for b in kept)[k - 1])
    return np.array(scores)


def react_energy(train: Arrays, test: Arrays, q: float = 90.0, temperature: float = 1.0) -> np.ndarray:
    cap = np.quantile(train["features"], q / 100)
    logits = np.array([train["weight"] @ np.minimum(f, cap) + train["bias"] for f in test["features"]])
    return energy(train, {"logits": logits}, temperature)

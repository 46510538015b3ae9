"""Methods that look inside the classifier, in float64, one sample at a time, on the imagined network of `farfield.testing`.

Its picture of features `f (d)` is `x (d, 9) = f * pattern`; block 1 puts out `2 x`, block 2 `relu(x)`, the features are the means of that over the nine
places, and the head makes the logits. Gradients are written out by hand.
"""

from __future__ import annotations

import numpy as np
import torch

from oracles import Arrays, inverse_of, splitmix64

PLACES = 9


def pattern(d: int) -> np.ndarray:
    drawn = torch.rand(d, PLACES, generator=torch.Generator().manual_seed(7)).double().numpy() - 0.2
    return np.asarray(drawn / np.maximum(drawn, 0.0).mean(1, keepdims=True))


def pictures(arrays: Arrays) -> np.ndarray:
    return np.stack([f[:, None] * pattern(len(f)) for f in arrays["features"]])


def blocks(x: np.ndarray) -> list[np.ndarray]:
    return [2 * x, np.maximum(x, 0.0)]


def logits(x: np.ndarray, arrays: Arrays) -> np.ndarray:
    return arrays["weight"] @ np.maximum(x, 0.0).mean(1) + arrays["bias"]


def lse(v: np.ndarray) -> float:
    return float(v.max() + np.log(np.exp(v - v.max()).sum()))


def through(x: np.ndarray, of_features: np.ndarray) -> np.ndarray:
    """A gradient by the features as one by the picture: the mean hands each place a ninth, and the ReLU lets through what is above 0."""
    return (of_features / PLACES)[:, None] * (x > 0)


def steepest(x: np.ndarray, arrays: Arrays, temperature: float = 1.0) -> np.ndarray:
    """The direction of the cross-entropy's gradient by the picture, the label being the predicted class."""
    v = logits(x, arrays) / temperature
    y = int(v.argmax())
    others = np.exp(np.delete(v, y) - np.delete(v, y).max())
    p = np.insert(others / others.sum(), y, 0.0)
    p[y] = -1.0
    return through(x, arrays["weight"].T @ p)


def odin(train: Arrays, test: Arrays, temperature: float = 1000.0, eps: float = 0.0014) -> np.ndarray:
    scores = []
    for x in pictures(test):
        g = steepest(x, test, temperature)
        v = logits(x - eps * np.where(g >= 0, 1.0, -1.0), test) if eps else logits(x, test)
        scores.append(temperature * (v.max() / temperature - lse(v / temperature) + np.log(len(v))))
    return np.array(scores)


def deflate(x: np.ndarray) -> np.ndarray:
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    return x - s[0] * np.outer(u[:, 0], vt[0])


def rankfeat(train: Arrays, test: Arrays, at: str = "both", iterations: int = 50, temperature: float = 1.0) -> np.ndarray:
    scores = []
    for x in pictures(test):
        last = test["weight"] @ deflate(np.maximum(x, 0.0)).mean(1) + test["bias"]
        before = logits(deflate(x), test)
        v = {"last": last, "before": before, "both": (last + before) / 2}[at]
        scores.append(temperature * lse(v / temperature))
    return np.array(scores)


def tiles(x: np.ndarray, row: int) -> np.ndarray:
    """The nine places (each a tile of one pixel) in the order of their keys."""
    gamma = 0x9E3779B97F4A7C15

    def key(place: int) -> int:
        mixed = splitmix64((splitmix64((row * PLACES + place + gamma) % 2**64) % 2**64) % 2**64)
        return mixed - 2**64 if mixed >= 2**63 else mixed

    return x[:, sorted(range(PLACES), key=key)]


def norm(x: np.ndarray) -> float:
    return float(np.mean([np.sqrt(np.sum(np.maximum(z, 0.0) ** 2)) for z in x]))


def featurenorm(train: Arrays, test: Arrays, block: int | None = None) -> np.ndarray:
    if block is None:
        ratios = []
        for b in range(2):
            pairs = [(norm(blocks(x)[b]), norm(blocks(tiles(x, int(row)))[b])) for x, row in zip(pictures(train), train["ids"], strict=True)]
            ratios.append(np.mean([(a + 1e-12) / (c + 1e-12) for a, c in pairs]))
        block = int(np.argmax(ratios))
    return np.array([norm(blocks(x)[block]) for x in pictures(test)])


def held_out(ids: np.ndarray) -> np.ndarray:
    gamma = 0x9E3779B97F4A7C15
    mixed = [splitmix64(splitmix64((int(i) + gamma) % 2**64)) for i in ids]
    return np.array([(m - 2**64 if m >= 2**63 else m) % 10 == 0 for m in mixed])


def gram_entries(x: np.ndarray, powers: int) -> np.ndarray:
    found = np.zeros((len(x), powers))
    for q in range(1, powers + 1):
        b = x**q
        sums = (b @ b.T).sum(1)  # of the Gram matrix itself
        found[:, q - 1] = np.sign(sums) * np.abs(sums) ** (1 / q)
    return found.flatten()


def gram(train: Arrays, test: Arrays, powers: int = 5, over: str = "confidence") -> np.ndarray:
    seen = [[gram_entries(m, powers) for m in blocks(x)] for x in pictures(train)]
    labels = train["labels"]
    held = held_out(train["ids"]) & (np.bincount(labels)[labels] > 10)
    low, high = {}, {}
    for c in np.unique(labels):
        for b in range(2):
            own = np.stack([g[b] for g, y, h in zip(seen, labels, held, strict=True) if y == c and not h])
            low[c, b], high[c, b] = own.min(0), own.max(0)

    def delta(g: np.ndarray, c: int, b: int) -> float:
        lo, hi = low[c, b], high[c, b]
        return float((np.maximum(lo - g, 0) / np.maximum(np.abs(lo), 1e-6) + np.maximum(g - hi, 0) / np.maximum(np.abs(hi), 1e-6)).sum())

    usual = []
    for b in range(2):
        of = [delta(g[b], int(v.argmax()), b) for g, v, h in zip(seen, train["logits"], held, strict=True) if h]
        usual.append(np.mean(of) if of and np.mean(of) > 0 else 1.0)
    scores = []
    for x in pictures(test):
        v = logits(x, test)
        total = sum(delta(gram_entries(m, powers), int(v.argmax()), b) / usual[b] for b, m in enumerate(blocks(x)))
        scores.append(-total / np.exp(v.max() - lse(v)) if over == "confidence" else -total)
    return np.array(scores)


def layers(train: Arrays, test: Arrays, eps: float = 0.0, noise: float = 0.05) -> np.ndarray:
    held, labels = held_out(train["ids"]), train["labels"]
    clean = pictures(train)
    laws = []
    for b in range(2):
        f = np.stack([blocks(x)[b].mean(1) for x in clean])[~held]
        y = labels[~held]
        means = {c: f[y == c].mean(0) for c in np.unique(y)}
        sigma = sum(np.outer(x - means[c], x - means[c]) for x, c in zip(f, y, strict=True)) / len(f)
        laws.append((means, inverse_of(sigma, f.mean(0))))

    def nearest(x: np.ndarray, b: int) -> tuple[float, np.ndarray]:
        means, inverse = laws[b]
        away = min((blocks(x)[b].mean(1) - m for m in means.values()), key=lambda z: z @ inverse @ z)
        return -float(away @ inverse @ away), 2 * inverse @ away

    def score(x: np.ndarray, b: int) -> float:
        if not eps:
            return nearest(x, b)[0]
        of_features = nearest(x, b)[1]
        g = (of_features / PLACES)[:, None] * (x > 0 if b == 1 else np.ones_like(x))
        return nearest(x - eps * np.sign(g), b)[0]

    kept = clean[held]
    moved = [x + noise * np.sign(steepest(x, train)) for x in kept]
    table = np.array([[nearest(x, b)[0] for b in range(2)] for x in [*kept, *moved]])
    spread = np.maximum(table.std(0), 1e-12)
    weights = newton((table - table.mean(0)) / spread, np.array([1.0] * len(kept) + [0.0] * len(moved)))
    rows = [np.array([score(x, b) for b in range(2)]) for x in pictures(test)]
    return np.array([weights[-1] + weights[:-1] @ ((row - table.mean(0)) / spread) for row in rows])


def newton(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The weights, and last the bias, at the least of `|w|^2 / 2 + sum log(1 + exp(...))`, by damped Newton steps."""
    design = np.hstack([z, np.ones((len(z), 1))])
    ridge = np.diag([1.0] * z.shape[1] + [0.0])
    w = np.zeros(design.shape[1])

    def loss(w: np.ndarray) -> float:
        a = design @ w
        return float(w @ ridge @ w / 2 + np.sum(np.logaddexp(0, a) - y * a))

    for _ in range(200):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = ridge @ w + design.T @ (p - y)
        hessian = ridge + design.T @ (design * (p * (1 - p))[:, None])
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        size = 1.0
        while size > 1e-8 and loss(w - size * step) > loss(w):
            size /= 2
        w = w - size * step
    return w


def adascale(
    train: Arrays, test: Arrays, eps: float = 0.5, share: float = 0.05, k1: float = 5.0, k2: float = 1.0, mix: float = 10.0, low: float = 75.0,
    high: float = 85.0, form: str = "features",
) -> np.ndarray:  # fmt: skip
    def shift(x: np.ndarray, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
        g = through(x, arrays["weight"][int(logits(x, arrays).argmax())])
        size = np.abs(g).flatten()
        least = np.sort(size)[max(1, int(share * len(size))) - 1]
        changed = x + eps * np.sign(g) * (np.abs(g) <= least)
        return np.maximum(x, 0.0).mean(1), np.maximum(changed, 0.0).mean(1)

    def q_of(f: np.ndarray, g: np.ndarray) -> float:
        order = np.argsort(-f, kind="stable")
        first, second = order[: max(1, int(len(f) * k1 / 100))], order[: max(1, int(len(f) * k2 / 100))]
        return float(np.maximum(g[first], 0).sum() + mix * np.abs(f - g)[second].sum())

    known = [q_of(*shift(x, train)) for x in pictures(train)]
    scores = []
    for x in pictures(test):
        f, g = shift(x, test)
        q = q_of(f, g)
        share_below = np.mean([other <= q * (1 + 1e-9) for other in known])
        p = low + (1 - share_below) * (high - low)
        k = max(1, len(f) - int(np.floor(len(f) * p / 100 + 0.5 + 1e-9)))
        rectified = np.sort(np.maximum(f, 0))[::-1]
        r = rectified.sum() / rectified[:k].sum() if rectified[:k].sum() > 0 else 1.0
        weight, bias = test["weight"], test["bias"]
        scores.append(lse(r**2 * (weight @ f + bias)) if form == "logits" else lse(weight @ (f * np.exp(min(r, 50.0))) + bias))
    return np.array(scores)


def mos(train: Arrays, test: Arrays) -> np.ndarray:
    scores = []
    for v in test["logits"]:
        half = len(v) // 2
        groups = [(v[0], v[1:half]), (v[half], v[half + 1 :])]
        # log p(others) = -log(1 + sum exp(v_j - v_others))
        logs = [-(np.logaddexp.reduce(np.append(classes - others, 0.0))) for others, classes in groups]
        scores.append(-min(logs))
    return np.array(scores)

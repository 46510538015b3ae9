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


def inverse_of(sigma: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """A matrix of full rank is inverted in units that make its diagonal 1: the same inverse, with more of its digits. Else the pseudo-inverse."""
    units = np.sqrt(np.diag(sigma))
    if (units > 1e-13 * np.abs(mean)).all():
        alike = sigma / np.outer(units, units)
        lengths = np.linalg.eigvalsh(alike)
        if lengths[0] > 1e-12 * lengths[-1]:
            return np.linalg.inv(alike) / np.outer(units, units)
    return np.linalg.pinv(sigma, hermitian=True, rcond=1e-12)


def mahalanobis(train: Arrays, test: Arrays, shrinkage: float = 0.0) -> np.ndarray:
    f, y = train["features"], train["labels"]
    n, d = f.shape
    means = {c: f[y == c].mean(0) for c in np.unique(y)}
    sigma = np.zeros((d, d))
    for x, c in zip(f, y, strict=True):
        sigma += np.outer(x - means[c], x - means[c]) / n
    sigma = (1 - shrinkage) * sigma + shrinkage * np.trace(sigma) / d * np.eye(d)
    inverse = inverse_of(sigma, f.mean(0))
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


def rounded(row: np.ndarray, bits: int) -> np.ndarray:
    """As a bank keeps it."""
    return row.astype(np.float32).astype(np.float16).astype(np.float64) if bits == 16 else row


def knn(train: Arrays, test: Arrays, k: int = 50, bank: int | None = None, seed: int = 0, bits: int = 32) -> np.ndarray:
    rows = range(len(train["features"])) if bank is None else lowest_hashes(train["ids"], train["labels"], bank, seed)
    unit = [x / max(np.sqrt(np.sum(x**2)), 1e-300) for x in train["features"]]
    centre = np.mean(unit[:128], axis=0)  # which changes a distance only by the rounding of what is kept
    kept = [rounded(unit[row] - centre, bits) for row in rows]
    scores = []
    for x in test["features"]:
        z = x / max(np.sqrt(np.sum(x**2)), 1e-300) - centre
        scores.append(-sorted(np.sqrt(np.sum((z - b) ** 2)) for b in kept)[k - 1])
    return np.array(scores)


def react_energy(train: Arrays, test: Arrays, q: float = 90.0, temperature: float = 1.0) -> np.ndarray:
    cap = np.quantile(train["features"], q / 100)
    logits = np.array([train["weight"] @ np.minimum(f, cap) + train["bias"] for f in test["features"]])
    return energy(train, {"logits": logits}, temperature)


def softmax(v: np.ndarray) -> np.ndarray:
    e = np.exp(v - v.max())
    return e / e.sum()


def entropy(train: Arrays, test: Arrays) -> np.ndarray:
    """-log H, with log p exact where p of the first class rounds to 1."""
    scores = []
    for v in test["logits"].astype(np.longdouble):
        u = v - v.max()
        total = np.exp(u).sum()
        others = np.delete(u, u.argmax())
        log_first = -np.log1p(np.exp(others).sum())  # log p of the first class
        scores.append(float(-np.log(-(log_first / total + sum(np.exp(x) / total * (x + log_first) for x in others)))))
    return np.array(scores)


def gen(train: Arrays, test: Arrays, gamma: float = 0.1, m: int = 100) -> np.ndarray:
    scores = []
    for v in test["logits"].astype(np.longdouble):
        order = np.argsort(-v)[:m]
        e = np.exp(v - v.max())
        scores.append(float(-np.log(sum((e[k] / e.sum()) ** gamma * (np.delete(e, k).sum() / e.sum()) ** gamma for k in order))))
    return np.array(scores)


def gradnorm(train: Arrays, test: Arrays, temperature: float = 1.0) -> np.ndarray:
    """The gradient itself: of the weights, by the chain rule, one weight at a time."""
    scores = []
    for v, f in zip(test["logits"], test["features"], strict=True):
        p, c = softmax(v / temperature), len(v)
        gradient = np.array([[(p[k] - 1 / c) / temperature * x for x in f] for k in range(c)])
        scores.append(np.abs(gradient).sum())
    return np.array(scores)


def relative(train: Arrays, test: Arrays, shrinkage: float = 0.0) -> np.ndarray:
    f, y = train["features"], train["labels"]
    n, d = f.shape
    means = {c: f[y == c].mean(0) for c in np.unique(y)}
    mean = f.mean(0)
    within = sum(np.outer(x - means[c], x - means[c]) / n for x, c in zip(f, y, strict=True))
    whole = sum(np.outer(x - mean, x - mean) / n for x in f)
    inner, outer = (inverse_of((1 - shrinkage) * s + shrinkage * np.trace(s) / d * np.eye(d), mean) for s in (within, whole))
    return np.array([(x - mean) @ outer @ (x - mean) - min((x - m) @ inner @ (x - m) for m in means.values()) for x in test["features"]])


def on_sphere(arrays: Arrays) -> Arrays:
    return {**arrays, "features": np.array([f / np.sqrt(np.sum(f**2)) for f in arrays["features"]])}


def mahalanobis_pp(train: Arrays, test: Arrays, shrinkage: float = 0.0) -> np.ndarray:
    return mahalanobis(on_sphere(train), on_sphere(test), shrinkage)


def relative_pp(train: Arrays, test: Arrays, shrinkage: float = 0.0) -> np.ndarray:
    return relative(on_sphere(train), on_sphere(test), shrinkage)


def off_space(train: Arrays, dim: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The origin and the residual space, by a singular value decomposition."""
    o = -np.linalg.lstsq(train["weight"], train["bias"], rcond=None)[0]
    d = len(o)
    dim = dim or (1000 if d >= 2048 else 512 if d >= 768 else d // 2)
    return o, np.linalg.svd(train["features"] - o, full_matrices=True)[2][dim:]


def residual(train: Arrays, test: Arrays, dim: int | None = None) -> np.ndarray:
    o, rest = off_space(train, dim)
    return np.array([-np.sqrt(sum((r @ (f - o)) ** 2 for r in rest)) for f in test["features"]])


def vim(train: Arrays, test: Arrays, dim: int | None = None) -> np.ndarray:
    alpha = np.mean([v.max() for v in train["logits"]]) / np.mean(-residual(train, train, dim))
    return energy(train, test) + alpha * residual(train, test, dim)


def she(train: Arrays, test: Arrays) -> np.ndarray:
    right = [i for i, v in enumerate(train["logits"]) if v.argmax() == train["labels"][i]]
    scores = []
    for v, f in zip(test["logits"], test["features"], strict=True):
        mine = [train["features"][i] for i in right if train["labels"][i] == v.argmax()]
        scores.append(f @ np.mean(mine, axis=0))
    return np.array(scores)


def fdbd(train: Arrays, test: Arrays) -> np.ndarray:
    mean, w = train["features"].mean(0), train["weight"]
    scores = []
    for v, f in zip(test["logits"], test["features"], strict=True):
        y = v.argmax()
        distances = [(v[y] - v[k]) / np.linalg.norm(w[y] - w[k]) for k in range(len(v)) if k != y]
        scores.append(np.mean(distances) / np.linalg.norm(f - mean))
    return np.array(scores)


def nci(train: Arrays, test: Arrays, a: float = 1e-4) -> np.ndarray:
    mean = train["features"].mean(0)
    pairs = zip(test["logits"], test["features"], strict=True)
    return np.array([train["weight"][v.argmax()] @ (f - mean) / np.linalg.norm(f - mean) + a * sum(map(abs, f)) for v, f in pairs])


def shaped(train: Arrays, test: Arrays, shape: object) -> np.ndarray:
    """The largest logit of the shaped features."""
    return np.array([max(train["weight"] @ shape(f) + train["bias"]) for f in test["features"]])  # type: ignore[operator]


def pruned(f: np.ndarray, p: float) -> list[int]:
    """Where the largest are that stay."""
    return sorted(range(len(f)), key=lambda i: -f[i])[: max(1, len(f) - round(len(f) * p / 100))]


def ash_p(train: Arrays, test: Arrays, p: float = 90.0) -> np.ndarray:
    return shaped(train, test, lambda f: np.array([x if i in pruned(f, p) else 0.0 for i, x in enumerate(f)]))


def ash_b(train: Arrays, test: Arrays, p: float = 65.0) -> np.ndarray:
    return shaped(train, test, lambda f: np.array([sum(f) / len(pruned(f, p)) if i in pruned(f, p) else 0.0 for i in range(len(f))]))


def factor(f: np.ndarray, p: float) -> float:
    s2 = sum(f[i] for i in pruned(f, p))
    return float(np.exp(min(50.0, sum(f) / s2))) if s2 > 0 else 1.0


def ash_s(train: Arrays, test: Arrays, p: float = 90.0) -> np.ndarray:
    return shaped(train, test, lambda f: np.array([x * factor(f, p) if i in pruned(f, p) else 0.0 for i, x in enumerate(f)]))


def scale(train: Arrays, test: Arrays, p: float = 85.0) -> np.ndarray:
    return shaped(train, test, lambda f: f * factor(f, p))


def vra(train: Arrays, test: Arrays, low: float = 60.0, high: float = 95.0) -> np.ndarray:
    floor, cap = np.quantile(train["features"], [low / 100, high / 100])
    return shaped(train, test, lambda f: np.array([0.0 if x < floor else min(x, cap) for x in f]))


def dice(train: Arrays, test: Arrays, p: float = 90.0) -> np.ndarray:
    w, mean = train["weight"], train["features"].mean(0)
    threshold = np.percentile([[w[k, j] * mean[j] for j in range(len(mean))] for k in range(len(w))], p)
    sparse = np.array([[w[k, j] if w[k, j] * mean[j] > threshold else 0.0 for j in range(len(mean))] for k in range(len(w))])
    return np.array([max(sparse @ f + train["bias"]) for f in test["features"]])


def kl_matching(train: Arrays, test: Arrays, reduce: str = "min", assign: str = "prediction") -> np.ndarray:
    p = [softmax(v.astype(np.longdouble)) for v in train["logits"]]
    taken = [v.argmax() for v in train["logits"]] if assign == "prediction" else [int(label) for label in train["labels"]]
    templates = {}
    for k in set(taken):
        q = np.maximum(np.mean([x for x, c in zip(p, taken, strict=True) if c == k], axis=0), 1e-12)
        templates[k] = q / q.sum()
    scores = []
    for v in test["logits"].astype(np.longdouble):
        log_p = (v - v.max()) - np.log(np.exp(v - v.max()).sum())
        divergence = {k: sum(np.exp(a) * (a - np.log(b)) for a, b in zip(log_p, q, strict=True)) for k, q in templates.items()}
        scores.append(float(-(min(divergence.values()) if reduce == "min" else divergence[v.argmax()])))
    return np.array(scores)


def temperature(train: Arrays, test: Arrays) -> np.ndarray:
    """The least cross-entropy by a search over log T."""

    def loss(t: float) -> float:
        v = train["logits"] / np.exp(t)
        v = v - v.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(v).sum(1)) - v[np.arange(len(v)), train["labels"]]))

    low, high = np.log(1e-3), np.log(1e3)
    if loss(low) <= loss(low + 1e-4):
        best = low
    else:
        grid = np.linspace(low, high, 400)
        near = int(np.argmin([loss(t) for t in grid]))
        low, high = grid[max(0, near - 1)], grid[min(399, near + 1)]
        for _ in range(200):  # ternary search
            a, b = low + (high - low) / 3, high - (high - low) / 3
            low, high = (low, b) if loss(a) < loss(b) else (a, high)
        best = (low + high) / 2
    return msp(train, {"logits": test["logits"] / np.exp(best)})


def fsebo(train: Arrays, test: Arrays, q: float = 92.0) -> np.ndarray:
    cap = np.quantile(train["features"], q / 100)
    logits = np.array([train["weight"] @ np.minimum(f, cap) + train["bias"] for f in test["features"]])
    return energy(train, {"logits": logits}) * np.array([1 + np.mean(f) for f in test["features"]])


def neco(train: Arrays, test: Arrays, variance: float = 0.9, times: str = "logit") -> np.ndarray:
    f = train["features"]
    mean, deviation = f.mean(0), f.std(0)
    varies = deviation > 1e-13 * np.abs(mean)
    z = (f[:, varies] - mean[varies]) / deviation[varies]
    lengths, directions = np.linalg.svd(z, full_matrices=False)[1:]
    number = next(k for k in range(1, len(lengths) + 1) if (lengths[:k] ** 2).sum() / (lengths**2).sum() >= variance - 1e-12)
    scores = []
    for x, v in zip(test["features"], test["logits"], strict=True):
        mine = (x[varies] - mean[varies]) / deviation[varies]
        ratio = np.sqrt(sum((p @ mine) ** 2 for p in directions[:number])) / np.linalg.norm(mine)
        scores.append(ratio * (v.max() if times == "logit" and train["logits"].max(1).min() > 0 else 1))
    return np.array(scores)


def nnguide(train: Arrays, test: Arrays, k: int = 10, bank: int | None = None, seed: int = 0, bits: int = 32) -> np.ndarray:
    rows = range(len(train["features"])) if bank is None else lowest_hashes(train["ids"], train["labels"], bank, seed)
    energies = energy(train, train)
    kept = [rounded(energies[row] * train["features"][row] / np.linalg.norm(train["features"][row]), bits) for row in rows]
    mine = energy(train, test)
    scores = []
    for e, f in zip(mine, test["features"], strict=True):
        scores.append(e * np.mean(sorted(b @ f / np.linalg.norm(f) for b in kept)[-k:]))
    return np.array(scores)


def cadref(train: Arrays, test: Arrays) -> np.ndarray:
    taken = train["logits"].argmax(1)
    mean = energy(train, train).mean()
    scores = []
    for v, f, own in zip(test["logits"], test["features"], energy(train, test), strict=True):
        y = v.argmax()
        d, sign = f - train["features"][taken == y].mean(0), np.sign(train["weight"][y])
        helping = sum(max(0.0, a * b) for a, b in zip(d, sign, strict=True))
        hurting = sum(max(0.0, -a * b) for a, b in zip(d, sign, strict=True))
        scores.append(-(helping / max(own, 0.01 * mean) + hurting / mean) / sum(map(abs, f)))
    return np.array(scores)


def openmax(train: Arrays, test: Arrays, tail: int = 20, alpha: int = 3) -> np.ndarray:
    """With one fit for each class, by halving its likelihood equation in the shape."""
    v, y = train["logits"], train["labels"]
    mine = v.argmax(1) == y
    laws = {}
    for c in range(v.shape[1]):
        of = v[mine & (y == c)]
        if len(of) < 2:
            continue
        far = np.sort([np.linalg.norm(x - of.mean(0)) for x in of])[-tail:]
        logs = np.log(far + 10_000 - far[0])
        top = logs.max()

        def equation(k: float, logs: np.ndarray = logs, top: float = top) -> float:
            q = np.exp(k * (logs - top))
            return float((q * (logs - top)).sum() / q.sum() - 1 / k - (logs - top).mean())

        low, high = 1e-3, 1e12
        for _ in range(300):
            middle = np.sqrt(low * high)
            low, high = (low, middle) if equation(middle) > 0 else (middle, high)
        k = np.sqrt(low * high)
        laws[c] = (of.mean(0), far[0], k, top + np.log(np.mean(np.exp(k * (logs - top)))) / k)
    scores = []
    for x in test["logits"]:
        revised, unknown = x.copy(), 0.0
        for r, c in enumerate(np.argsort(-x)[:alpha]):
            w = 1.0
            if c in laws:
                mean, least, k, log_scale = laws[c]
                w = -np.expm1(-np.exp(k * (np.log(np.linalg.norm(x - mean) + 10_000 - least) - log_scale)))
            share = (min(alpha, len(x)) - r) / min(alpha, len(x)) * w
            revised[c] = x[c] * (1 - share)
            unknown += x[c] * share
        scores.append(energy(train, {"logits": revised[None]})[0] - unknown)
    return np.array(scores)


def fifth(ids: np.ndarray) -> np.ndarray:
    """Which samples calibrate: those whose hash a fifth divides."""
    gamma = 0x9E3779B97F4A7C15
    mixed = [splitmix64(splitmix64((int(i) + gamma) % 2**64)) for i in ids]
    return np.array([(m - 2**64 if m >= 2**63 else m) % 5 == 0 for m in mixed])


def log_p(known: np.ndarray, score: float, tail: float) -> float:
    """One conformal p-value, continued below the tail's beginning by a generalised Pareto law (probability-weighted moments)."""
    known = np.sort(known)
    n = len(known)
    k = min(max(10, int(np.ceil(tail * n))), n)
    begin = known[k - 1]
    if score >= begin:
        return float(np.log((1 + sum(other <= score for other in known)) / (n + 1)))
    y = np.sort(begin - known[:k])
    a0 = y.mean()
    a1 = sum((1 - (i + 1 - 0.35) / k) * value for i, value in enumerate(y)) / k
    at = np.log((1 + k) / (n + 1))
    if a0 <= 0:
        return float(at - (begin - score) / (known[-1] - known[0] if known[-1] > known[0] else 1.0))
    xi = 2 - a0 / (a0 - 2 * a1)
    if xi <= 0:
        return float(at - (begin - score) / a0)
    sigma = 2 * a0 * a1 / (a0 - 2 * a1)
    xi = min(xi, 0.9)
    return float(at - np.log1p(xi * (begin - score) / sigma) / xi)


def panel(
    train: Arrays, test: Arrays, members: str = "relative-mahalanobis/relative-mahalanobis++/she", by: str = "fisher", tail: float = 0.1
) -> np.ndarray:
    known = {
        **{"msp": msp, "maxlogit": maxlogit, "energy": energy, "gen": gen, "knn": knn, "nnguide": nnguide, "she": she, "fdbd": fdbd},
        **{"mahalanobis": mahalanobis, "mahalanobis++": mahalanobis_pp, "relative-mahalanobis": relative, "relative-mahalanobis++": relative_pp},
        **{"residual": residual, "vim": vim},
    }
    mine = fifth(train["ids"])
    part = {name: value if name in ("weight", "bias") else value[~mine] for name, value in train.items()}
    held = {name: value if name in ("weight", "bias") else value[mine] for name, value in train.items()}
    laws = [(known[name](part, held), known[name](part, test)) for name in members.split("/")]
    scores = []
    for i in range(len(test["logits"])):
        if by == "z-score":
            middles = [(np.sort(c)[(len(c) - 1) // 2], c) for c, _ in laws]
            spreads = [1.4826 * np.sort(np.abs(c - m))[(len(c) - 1) // 2] for m, c in middles]
            z = [(s[i] - m) / (spread or 1.0) for (m, _), spread, (_, s) in zip(middles, spreads, laws, strict=True)]
            scores.append(np.mean(np.clip(z, -10, 10)))
            continue
        logs = np.array([log_p(c, s[i], tail) for c, s in laws])
        if by == "harmonic":
            scores.append(np.log(len(logs)) - np.logaddexp.reduce(-logs))
        elif by == "minimum":
            scores.append(logs.min())
        elif by == "fisher":
            scores.append(logs.sum())
        else:
            p = np.minimum(np.exp(np.maximum(logs, -600)), 1 - 1 / (mine.sum() + 1))
            t = np.mean([1 / (np.pi * x) if x < 1e-6 else np.tan((0.5 - x) * np.pi) for x in p])
            scores.append(-np.sign(t) * np.log1p(abs(t)))
    return np.array(scores)

"""The training losses, mixtures and steps as loops in float64: one sample and one class at a time, as the papers write them; numpy alone, nothing of the library."""

import math

import numpy as np


def lse(row) -> float:
    """log sum_c exp v_c, shifted by the largest."""
    top = max(float(v) for v in row)
    total = 0.0
    for v in row:
        total += math.exp(float(v) - top)
    return top + math.log(total)


def log_softmax(row) -> list[float]:
    whole = lse(row)
    return [float(v) - whole for v in row]


def ce(row, target: int) -> float:
    return lse(row) - float(row[target])


def cross_entropy(logits, labels) -> float:
    return sum(ce(row, int(y)) for row, y in zip(logits, labels, strict=True)) / len(logits)


def soft_cross_entropy(row, target) -> float:
    """-sum_c t_c log p_c of one sample."""
    return -sum(float(t) * lp for t, lp in zip(target, log_softmax(row), strict=True) if t != 0)


def smoothed(logits, labels, smoothing: float) -> float:
    """Targets (1 - b) y + b / C (Szegedy et al., 2016; Xiong et al., 2025, eq. 7 with u = 1/C)."""
    total, classes = 0.0, len(logits[0])
    for row, y in zip(logits, labels, strict=True):
        target = [smoothing / classes] * classes
        target[int(y)] += 1 - smoothing
        total += soft_cross_entropy(row, target)
    return total / len(logits)


def mixed(logits, labels, others, shares) -> float:
    """Cross-entropy with the target (1 - share) y + share y_other (Xiong et al., 2025, eq. 8: the share is the second picture's)."""
    total, classes = 0.0, len(logits[0])
    for row, y, z, s in zip(logits, labels, others, shares, strict=True):
        target = [0.0] * classes
        target[int(y)] += 1 - float(s)
        target[int(z)] += float(s)
        total += soft_cross_entropy(row, target)
    return total / len(logits)


def softplus(x: float) -> float:
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def separation_printed(logits, mixtures, shares) -> float:
    """Eq. 13 letter by letter: P_v of the sums of exponentials, written by their logarithms because exp(1000) is no float."""
    total = 0.0
    for v, w, s in zip(logits, mixtures, shares, strict=True):
        m = max(float(s), 1 - float(s))
        goal = m / (m + 1)
        both = lse([*v, *w])  # log sum_i (e^v_i + e^w_i)
        total += -(1 - goal) * (lse(v) - both) - goal * (lse(w) - both)
    return total / len(logits)


def separation_ratio(logits, mixtures, shares, small: float = 1e-6) -> float:
    """Eq. 13 with a logarithm before each sum; softplus(LSE) + small in place of the LSE is positive. log P_v from the logarithms: 1 - P_v may round to 0."""
    total = 0.0
    for v, w, s in zip(logits, mixtures, shares, strict=True):
        m = max(float(s), 1 - float(s))
        goal = m / (m + 1)
        own, other = softplus(lse(v)) + small, softplus(lse(w)) + small
        total += -(1 - goal) * (math.log(own) - math.log(own + other)) - goal * (math.log(other) - math.log(own + other))
    return total / len(logits)


def uniformity(logits) -> float:
    """Cross-entropy from the uniform target: -1/C sum_c log p_c (Hendrycks et al., 2019)."""
    return sum(-sum(log_softmax(row)) / len(row) for row in logits) / len(logits)


def kl_from_uniform(logits) -> float:
    """KL(p || U) = sum_c p_c log p_c + log C."""
    return sum(sum(math.exp(lp) * lp for lp in log_softmax(row)) + math.log(len(row)) for row in logits) / len(logits)


def logit_norm(logits, labels, temperature: float) -> float:
    """Wei et al., 2022: cross-entropy of v / (tau (||v||_2 + 1e-7))."""
    total = 0.0
    for row, y in zip(logits, labels, strict=True):
        norm = math.sqrt(sum(float(v) ** 2 for v in row))
        total += ce([float(v) / (temperature * (norm + 1e-7)) for v in row], int(y))
    return total / len(logits)


def feature_norm(features, weight, bias, temperature: float) -> np.ndarray:
    """Regmi et al., 2023: W f / (||f||_2 tau) + b."""
    logits = np.zeros((len(features), len(weight)))
    for n, f in enumerate(features):
        norm = math.sqrt(sum(float(v) ** 2 for v in f))
        for c, row in enumerate(weight):
            logits[n, c] = sum(float(a) * float(b) / (norm * temperature) for a, b in zip(row, f, strict=True)) + float(bias[c])
    return logits


def group_softmax(logits, sizes, group, place, labels, others=None, shares=None) -> float:
    """Huang and Li, 2021, eq. 2: the sum over the groups of the mean cross-entropy; slot 0 of a slice is "others", class j of group k is place[j] >= 1.

    With mixup (which the authors' code trains with) each group's target is (1 - share) of the first label's slot and share of the second's.
    """
    total = 0.0
    for n, row in enumerate(logits):
        start = 0
        for k, size in enumerate(sizes):
            piece = row[start : start + size + 1]
            start += size + 1
            first = int(place[int(labels[n])]) if int(group[int(labels[n])]) == k else 0
            if others is None:
                total += ce(piece, first)
            else:
                second = int(place[int(others[n])]) if int(group[int(others[n])]) == k else 0
                s = float(shares[n])
                total += (1 - s) * ce(piece, first) + s * ce(piece, second)
    return total / len(logits)


def jensen_shannon(rows_of_views) -> float:
    """Hendrycks et al., 2020: the mean over the views j of KL(p_j || mean of the views), over the samples. 0 log 0 = 0."""
    total, samples = 0.0, len(rows_of_views[0])
    for n in range(samples):
        logs = [log_softmax(view[n]) for view in rows_of_views]
        for c in range(len(logs[0])):
            mean = sum(math.exp(lp[c]) for lp in logs) / len(logs)
            for lp in logs:
                p = math.exp(lp[c])
                if p > 1e-300:  # below, p log p is nothing and the mean has no digits
                    total += p * (lp[c] - math.log(mean)) / len(logs)
    return total / samples


def mixup(images, shares, others) -> np.ndarray:
    mixture = np.zeros(images.shape)
    for n in range(len(images)):
        for where in np.ndindex(*images.shape[1:]):
            mixture[(n, *where)] = (1 - float(shares[n])) * images[(n, *where)] + float(shares[n]) * images[(int(others[n]), *where)]
    return mixture


def softmax_regression_gradient(weight, bias, inputs, labels):
    """Of the mean cross-entropy of W x + b, a loop over samples and classes: (p - y) x^T / N and (p - y) / N."""
    gw, gb = np.zeros_like(weight), np.zeros_like(bias)
    for x, y in zip(inputs, labels, strict=True):
        logs = log_softmax(weight @ x + bias)
        for c in range(len(bias)):
            slope = (math.exp(logs[c]) - (1.0 if c == int(y) else 0.0)) / len(inputs)
            gb[c] += slope
            for d in range(len(x)):
                gw[c, d] += slope * x[d]
    return gw, gb


def sam_step(parameters, gradient, rho: float, lr: float, momentum: float = 0.0, velocity=None, moved=None):
    """One sharpness-aware step (Foret et al., 2021) with SGD: up by rho g / ||g|| over the parameters in `moved`, the gradient there, back, and the step with it.

    `gradient(parameters)` gives one array a parameter. Returns the new parameters and velocity.
    """
    moved = range(len(parameters)) if moved is None else moved
    gradients = gradient(parameters)
    square = 0.0
    for i in moved:
        for g in np.ravel(gradients[i]):
            square += float(g) ** 2
    length = math.sqrt(square)
    above = [p.copy() for p in parameters]
    for i in moved:
        above[i] = parameters[i] + rho * gradients[i] / (length + 1e-16)
    there = gradient(above)
    velocity = [np.zeros_like(p) for p in parameters] if velocity is None else velocity
    velocity = [momentum * v + g for v, g in zip(velocity, there, strict=True)]
    return [p - lr * v for p, v in zip(parameters, velocity, strict=True)], velocity


def moving_average(weights, decay: float, every: int, warmup_steps: int) -> np.ndarray:
    """The averaged weights after each of the steps' weights `weights[1:]` (weights[0]: before the first): each `every` steps the average goes on; inside the warm-up it copies."""
    average = np.array(weights[0], dtype=np.float64)
    for step in range(1, len(weights)):
        if step % every:
            continue
        average = (
            np.array(weights[step], dtype=np.float64)
            if step <= warmup_steps
            else decay * average + (1 - decay) * np.array(weights[step], dtype=np.float64)
        )
    return average

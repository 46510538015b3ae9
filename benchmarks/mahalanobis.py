"""Mahalanobis scoring beside pytorch-ood 0.4.0, on the same features in one run: `python benchmarks/mahalanobis.py`.

Needs `pip install pytorch-ood==0.4.0`. Prints the time per sample (the median of five scorings of 10,000 x 2,048 features under 1,000 classes; for
pytorch-ood one scoring of 1,000 of them), the ratio, and how far both are from a float64 computation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from pytorch_ood.detector import Mahalanobis as Theirs

import farfield as ff
from farfield.detectors import Mahalanobis

N, FIT, D, C, ROUNDS = 10_000, 20_000, 2_048, 1_000, 5


def main() -> None:
    random = torch.Generator().manual_seed(0)
    means = torch.randn(C, D, generator=random)
    labels = torch.arange(FIT) % C
    train = means[labels] + torch.randn(FIT, D, generator=random)
    test = means[torch.arange(N) % C] + torch.randn(N, D, generator=random)
    ours = Mahalanobis.fit(ff.Outputs(features=train, labels=labels))
    theirs = Theirs(None)
    theirs.fit_features(train, labels)
    times: dict[str, list[float]] = {"farfield": [], "pytorch-ood": []}
    with torch.no_grad():
        # Theirs makes a quadratic form per class, some 8 GFLOP a sample: a tenth of the samples, once, is minutes of work.
        b = timed(times["pytorch-ood"], lambda: theirs.predict_features(test[: N // 10]))
        for _ in range(ROUNDS):
            a = timed(times["farfield"], lambda: ours(ff.Outputs(features=test)))
    each = {"farfield": statistics.median(times["farfield"]) / N, "pytorch-ood": times["pytorch-ood"][0] / (N // 10)}
    print({name: f"{1e6 * value:.0f} us a sample" for name, value in each.items()}, f"ratio {each['pytorch-ood'] / each['farfield']:.0f}")
    few = slice(0, 200)
    exact = reference(train.double().numpy(), labels.numpy(), test[few].double().numpy())
    for name, scores in {"farfield": a[few], "pytorch-ood": -2 * FIT * b[few]}.items():
        print(f"{name}: largest relative difference from float64 {np.abs((scores.double().numpy() - exact) / exact).max():.1e}")


def timed(times: list[float], call: Callable[[], torch.Tensor]) -> torch.Tensor:
    started = time.perf_counter()
    scores = call()
    times.append(time.perf_counter() - started)
    return scores


def reference(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """-min_c (f - mu_c)^T Sigma^-1 (f - mu_c) in float64, class by class."""
    means = np.stack([train[labels == c].mean(0) for c in range(C)])
    centred = train - means[labels]
    inverse = np.linalg.inv(centred.T @ centred / len(train))
    best = np.full(len(test), np.inf)
    for mean in means:
        best = np.minimum(best, np.einsum("nd,de,ne->n", test - mean, inverse, test - mean, optimize=True))
    return -best


if __name__ == "__main__":
    main()

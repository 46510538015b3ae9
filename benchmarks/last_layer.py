"""Seconds that `retrain` takes on stored features, beside those of extracting them, in one run: `python benchmarks/last_layer.py`.

`[--rows 200000] [--features 2048] [--classes 1000] [--penalty 5e-4] [--tolerance 1e-3] [--batches 3] [--threads 2]`. The features are made: class means
and noise whose variances fall as a power of their rank, through a ReLU, a tenth of the labels wrong, kept in float16. The warm start is the
ridge regression on log-odds of smoothed labels. The extraction is timm's resnet50 with random weights on `batches` of 32 random pictures of 224 pixels,
from which that of all rows is extrapolated; what it would be at 2,000 pictures a second (a GPU) is arithmetic.
"""

from __future__ import annotations

import argparse
import sys
import time

import timm
import torch
from torch import Tensor

from farfield.outputs import Head, Outputs
from farfield.training.last_layer import retrain

PART, SMOOTHING, BATCH = 4096, 0.1, 32


def made(n: int, d: int, c: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    spread = torch.arange(1.0, d + 1) ** -0.35
    turn = torch.linalg.qr(torch.randn(d, d, generator=random))[0].T * 0.3 / spread.square().mean().sqrt()
    means, labels = torch.randn(c, d, generator=random) * 0.8, torch.cat([torch.arange(c), torch.randint(c, (n - c,), generator=random)])
    features = torch.empty(n, d, dtype=torch.float16)
    for start in range(0, n, PART):
        own = means[labels[start : start + PART]]
        features[start : start + PART] = torch.relu((own + 1.2 * torch.randn(own.shape, generator=random)) * spread @ turn + 0.2).half()
    wrong = torch.rand(n, generator=random) < 0.1
    wrong[:c] = False
    return features, torch.where(wrong, torch.randint(c, (n,), generator=random), labels)


def smooth(features: Tensor, labels: Tensor, c: int) -> Head:
    d, n = features.shape[1], len(features)
    centre, scatter, sums = features[:PART].float().mean(0), torch.zeros(d, d), torch.zeros(c, d)
    for start in range(0, n, PART):
        x = features[start : start + PART].float() - centre
        scatter += x.T @ x / n
        sums.index_add_(0, labels[start : start + PART], x / n)
    odds = torch.tensor((1 - SMOOTHING + SMOOTHING / c) / (SMOOTHING / c)).log()
    weight = odds * torch.linalg.solve(scatter + 0.01 * scatter.diagonal().mean() * torch.eye(d), sums.T).T
    return Head(weight, -weight @ centre)


def pictures_a_second(batches: int) -> float:
    net, batch = timm.create_model("resnet50", pretrained=False).eval(), torch.randn(BATCH, 3, 224, 224)
    with torch.inference_mode():
        net(batch[:2])
        started = time.perf_counter()
        for _ in range(batches):
            net(batch)
    return BATCH * batches / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"rows": 200_000, "features": 2048, "classes": 1000, "batches": 3, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--penalty", type=float, default=5e-4)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rate = pictures_a_second(given.batches)
    features, labels = made(given.rows, given.features, given.classes)
    head = smooth(features, labels, given.classes)
    started = time.perf_counter()

    def progress(_: str, done: int, __: int) -> None:
        print(f"\r{done} passes, {time.perf_counter() - started:.0f} s", end="", file=sys.stderr, flush=True)

    found = retrain(head, Outputs(features=features, labels=labels), penalty=given.penalty, tolerance=given.tolerance, progress=progress)
    print(file=sys.stderr)
    extraction = given.rows / rate
    print(f"resnet50: {rate:.1f} pictures/s, {extraction:.0f} s for {given.rows} (extrapolated from {BATCH * given.batches})")
    print(
        f"retrain: {found.seconds:.0f} s, {found.seconds / extraction:.4f} of the extraction; {found.passes} passes in {found.iterations} steps, "
        f"{found.seconds / found.passes:.2f} s each; within {found.distance:.1e} of the optimum"
    )
    print(f"objective {found.before:.4f} to {found.after:.4f}, accuracy {found.accuracy_before:.4f} to {found.accuracy_after:.4f}")
    print(
        f"at 2,000 pictures/s the extraction takes {given.rows / 2000:.0f} s, of which a tenth is {given.rows / 2000 / 10 / found.passes:.3f} s a pass"
    )


if __name__ == "__main__":
    main()

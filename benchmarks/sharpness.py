"""What a sharpness-aware step costs over a plain one: `python benchmarks/sharpness.py [MODEL ...] [--batch 16] [--steps 8]`.

Steps of the same objective on the same batch, plain, with SAM on all parameters, and with SAM on those of normalisation layers alone, one kind after the
other within each round, so that what else the machine does meets all alike. Prints the median ratios over the rounds, in CPU time of one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time

import timm
import torch
from torch import nn

from farfield.training import frozen_statistics, norm_parameters, perturbed, usual_rho
from farfield.training.losses import smoothed

KINDS = ("plain", "sam", "sam-norm")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, pictures: torch.Tensor, labels: torch.Tensor, kind: str) -> float:
    """One step, and the CPU seconds it took."""
    moved = {"plain": [], "sam": list(model.parameters()), "sam-norm": norm_parameters(model)}[kind]
    began = time.process_time()
    optimizer.zero_grad()
    smoothed(model(pictures), labels).backward()
    if moved:
        with perturbed(moved, usual_rho(moved)), frozen_statistics(model):
            optimizer.zero_grad()
            smoothed(model(pictures), labels).backward()
    optimizer.step()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["resnet18", "resnetv2_50x1_bit", "vit_tiny_patch16_224"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=100).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        pictures, labels = torch.randn(options.batch, 3, 224, 224), torch.randint(100, (options.batch,))
        for kind in KINDS:
            step(model, optimizer, pictures, labels, kind)
        rounds = [{kind: step(model, optimizer, pictures, labels, kind) for kind in KINDS} for _ in range(options.steps)]
        said = ", ".join(f"{kind} {statistics.median(one[kind] / one['plain'] for one in rounds):.2f}" for kind in KINDS[1:])
        plain = statistics.median(one["plain"] for one in rounds)
        print(f"{name}, batches of {options.batch}: a plain step {plain:.2f} s; over it {said}", flush=True)


if __name__ == "__main__":
    main()

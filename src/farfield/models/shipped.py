"""Trains the six classifiers that ship: `python -m farfield.models.shipped [NAME ...] [--out DIR] [--install]`.

Every epoch shows new renderings of the training characters in the training typefaces. Accuracy is measured once, after training, on
the test split (unseen typefaces); nothing was tuned on it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from farfield import models
from farfield.data import glyphs
from farfield.data.transforms import Normalize
from farfield.training import Recipe, train
from farfield.training.loop import Progress

SGD = Recipe(epochs=12, batch_size=256, lr=0.2, weight_decay=5e-4, optimizer="sgd", warmup=0.1, precision="bf16", seed=0)
RECIPES = {
    "resnet": SGD,
    "bit": SGD,
    "vit": replace(SGD, epochs=24, lr=2e-3, weight_decay=0.05, optimizer="adamw", precision="no"),
}
NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def train_shipped(name: str, out: Path) -> Path:
    """Trains one of `models.SHIPPED` in `out` (resuming there) and writes `out/NAME.safetensors`."""
    _, size, architecture = name.split("-")
    classes, recipe = int(size), RECIPES[architecture]
    torch.manual_seed(recipe.seed)
    module = models.build(architecture, classes).to(memory_format=torch.channels_last)
    started = time.perf_counter()
    history = train(
        module,
        partial(glyphs.draw_split, classes, "train"),
        recipe,
        transform=NORMALIZE,
        out=out / name,
        progress=_show(name),
    )
    test = glyphs.suite(classes).split("test")
    module.half().float().eval()  # as the file will give it back
    device = next(module.parameters()).device
    with torch.no_grad():
        blocks = [slice(i, i + 500) for i in range(0, len(test), 500)]
        hits = [module(NORMALIZE(test.images[b].to(device))).argmax(1).cpu() == test.labels[b] for b in blocks]
    accuracy = torch.cat(hits).float().mean().item()
    facts = {
        "architecture": architecture,
        "classes": classes,
        "mean": NORMALIZE.mean,
        "std": NORMALIZE.std,
        "suite": f"glyphs-{classes}",
        "recipe": asdict(recipe),
        "command": f"python -m farfield.models.shipped {name}",
        "train_accuracy": round(history[-1]["accuracy"], 4),
        "test_accuracy": round(accuracy, 4),
        "seconds": round(sum(record["seconds"] for record in history)),
    }
    path = out / f"{name}.safetensors"
    models.save(module, path, facts)
    sys.stderr.write(f"\n{name}: test accuracy {accuracy:.4f}, {time.perf_counter() - started:.0f} s, {path.stat().st_size:,} bytes\n")
    return path


def _show(name: str) -> Progress:
    def progress(what: str, done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            sys.stderr.write(f"\r{name} {what} {done}/{total}")

    return progress


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(models.SHIPPED), help="which to train; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--install", action="store_true", help="copy the files into the package")
    arguments = parser.parse_args()
    for name in arguments.names:
        path = train_shipped(name, arguments.out)
        if arguments.install:
            shutil.copy(path, models.shipped_path(name))


if __name__ == "__main__":
    main()

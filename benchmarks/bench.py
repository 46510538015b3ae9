"""What `farfield bench` costs over the bare forward passes of the same pictures: `python benchmarks/bench.py [SUITE]`.

Runs the command twice in a fresh folder with a fresh cache, then passes the same pictures through the same models, from memory and keeping
nothing. Prints the split of the first run and the ratio.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import farfield as ff
from farfield import models
from farfield.data import suites


def main() -> None:
    suite = sys.argv[1] if len(sys.argv) > 1 else "glyphs-200"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FARFIELD_CACHE"] = f"{folder}/cache"
        for run in ("first", "second"):
            wall, cost = bench(suite, Path(folder) / "out")
            stages = {"start-up and writing": wall - cost["total_seconds"], "pictures": cost["pictures_seconds"], "forward": cost["forward_seconds"]}
            stages |= {stage: cost[f"{stage}_seconds"] for stage in ("store", "fit", "score", "metrics")}
            print(f"{run} run: {wall:.1f} s = " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items()), flush=True)
            if run == "first":
                first = wall
        bare = forward(suite)
    print(f"bare forward passes: {bare:.1f} s; the first run took {first / bare:.2f} times as long")


def bench(suite: str, out: Path) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "farfield.cli", "bench", "--suite", suite, "--out", str(out)], check=True, capture_output=True)
    wall = time.perf_counter() - started
    return wall, json.loads((out / "results.json").read_text())["cost"]


def forward(name: str) -> float:
    suite = suites.load(name)
    pictures = [suite.split("train"), suite.split("test"), *(ood.load() for ood in suite.ood)]
    total = 0.0
    for shipped in models.SHIPPED:
        if shipped.startswith(f"{name}-"):
            classifier = ff.Classifier.load(shipped)
            started = time.perf_counter()
            with torch.no_grad():
                for images in pictures:
                    for batch in images.images.split(256):  # type: ignore[no-untyped-call]
                        classifier.module(classifier.transform(batch))
            total += time.perf_counter() - started
    return total


if __name__ == "__main__":
    main()

"""A published suite without its data: pictures per second of a whole pass over it, beside bare decoding and bare forward passes, and what the real one would take.

`python benchmarks/suite.py [--suite mos-imagenet] [--model zoo:bit-s-r101x1] [--images 2000]`. Makes a tree in the suite's published layout, with so many
photograph-like JPEGs of 500 x 375 pixels over its test and OOD sets, and runs the model on it with random weights, as `farfield bench --random-weights` does.
Decoding alone and forward passes alone are timed on a part of the same pictures, before and after, and their middle taken.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Subset

import farfield as ff
from farfield.collect import usual_batch, usual_workers
from farfield.data import suites
from farfield.data.suites.reading import suite_of
from farfield.data.transforms import Preprocess

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from throughput import Prepared

import trees

PART = 128  # pictures that decoding and forward passes are timed on


def photographs(root: Path) -> int:
    """Puts crops of two photographs in place of the tree's pictures; how many there are."""
    random, whole = np.random.default_rng(0), [np.asarray(picture) for picture in load_sample_images().images]
    paths = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    for i, path in enumerate(paths):
        picture = whole[i % 2]
        top, left = random.integers(0, picture.shape[0] - 375), random.integers(0, picture.shape[1] - 500)
        cut = picture[top : top + 375, left : left + 500].astype(np.int16) + random.integers(-6, 7, (375, 500, 3), dtype=np.int16)
        Image.fromarray(np.clip(cut, 0, 255).astype(np.uint8)).save(path, quality=90)
    return len(paths)


def rate(n: int, started: float) -> float:
    return n / (time.perf_counter() - started)


def hours(pictures: int, per_second: float) -> str:
    return f"{pictures:,} pictures in {pictures / per_second / 3600:.1f} h"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="mos-imagenet")
    parser.add_argument("--model", default="zoo:bit-s-r101x1")
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    published = suites.definition(options.suite)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "data"
        sets = {"test", *(entry.name for entry in published.ood)}
        suite = suite_of(trees.make(options.suite, root, options.images // len(sets), only=frozenset(sets)), root)
        made = photographs(root)
        transform = Preprocess.parse(published.preprocess) if published.preprocess else None
        classifier = ff.Classifier.load(options.model, random_weights=True, transform=transform)
        data = {"test": suite.split("test"), **{ood.name: ood.load() for ood in suite.ood}}
        test, workers, batch = data["test"], usual_workers(data["test"]), usual_batch(classifier)
        part = min(PART, len(test))
        ready = torch.stack([classifier.transform(test[i][0]) for i in range(min(batch, 32, part))])
        print(
            f"{options.suite}: {made} JPEGs in {len(data)} sets; {options.model} at {tuple(ready.shape[1:])}; {workers} loading processes, {torch.get_num_threads()} threads"
        )
        bare: dict[str, list[float]] = {"decode": [], "forward": []}

        def time_bare() -> None:
            started = time.perf_counter()
            for _ in DataLoader(Subset(Prepared(test, classifier), range(part)), batch, num_workers=workers):
                pass
            bare["decode"].append(rate(part, started))
            started = time.perf_counter()
            with torch.no_grad():
                classifier.module.eval()
                for _ in islice(iter(int, 1), part // len(ready)):
                    classifier.module(ready)
            bare["forward"].append(rate(part // len(ready) * len(ready), started))

        time_bare()
        started = time.perf_counter()
        for name, pictures in data.items():
            ff.collect(classifier, pictures, out=Path(temporary) / "store", name=name)
        whole = rate(sum(map(len, data.values())), started)
        time_bare()
        decode, forward = (statistics.mean(bare[what]) for what in ("decode", "forward"))
        counts = {split: sum(piece.count or 0 for piece in pieces) for split, pieces in published.splits.items()}
        evaluated = counts["test"] + sum(entry.pictures.count or 0 for entry in published.ood)
        print(
            "| decode /s | forward /s | collect /s | over the slower | the real test and OOD sets | the real training set |\n|---|---|---|---|---|---|"
        )
        print(
            f"| {decode:.1f} | {forward:.2f} | {whole:.2f} | {whole / min(decode, forward):.2f} | {hours(evaluated, whole)} | {hours(counts.get('train', 0), whole)} |"
        )


if __name__ == "__main__":
    main()

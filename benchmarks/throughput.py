"""Images per second of `collect` on JPEG folders, beside the slower of bare decoding and bare forward passes, in one run.

`python benchmarks/throughput.py [--images 512] [--rounds 3] [--model NAME ...]`. Makes photographs-like JPEGs of 500 x 375 pixels (the
two photographs that scikit-learn carries, cut, turned and noised), then takes turns: decoding and preprocessing alone (a plain
`DataLoader` with as many processes as `collect` has), forward passes alone on batches that are ready, and `collect` into a store. A
machine whose forward passes use all cores cannot decode at the same time for free: `ideal` is 1 / (1 / decode + 1 / forward).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader

import farfield as ff
from farfield.collect import usual_batch, usual_workers
from farfield.data.files import Files, folder


def make(where: Path, n: int) -> None:
    random = np.random.default_rng(0)
    photographs = [np.asarray(picture) for picture in load_sample_images().images]
    for i in range(n):
        picture = photographs[i % 2]
        top, left = random.integers(0, picture.shape[0] - 375), random.integers(0, picture.shape[1] - 500)
        cut = picture[top : top + 375, left : left + 500].astype(np.int16) + random.integers(-6, 7, (375, 500, 3), dtype=np.int16)
        Image.fromarray(np.clip(cut, 0, 255).astype(np.uint8)).save(where / f"{i:05d}.jpg", quality=90)


class Prepared(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, files: Files, classifier: ff.Classifier) -> None:
        self.files, self.classifier = files, classifier

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.classifier.transform(self.files[index][0])


def seconds(act: object) -> float:
    started = time.perf_counter()
    act()  # type: ignore[operator]
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--model", nargs="*", default=["timm:resnet50", "timm:vit_small_patch16_224"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "pictures"
        pictures.mkdir()
        make(pictures, options.images)
        files = folder(pictures)
        workers = usual_workers(files) if options.workers is None else options.workers
        print(
            f"{options.images} JPEGs of 500 x 375, {sum(f.stat().st_size for f in pictures.iterdir()) / options.images / 1e3:.0f} kB each; {workers} loading processes, {torch.get_num_threads()} threads"
        )
        print("| model | decode /s | forward /s | collect /s | over the slower | ideal /s | over the ideal |\n|---|---|---|---|---|---|---|")
        for name in options.model:
            classifier = ff.Classifier.load(name, random_weights=True)
            size = usual_batch(classifier)
            ready = torch.stack([classifier.transform(files[i][0]) for i in range(size)])
            times: dict[str, list[float]] = {"decode": [], "forward": [], "collect": []}

            def decode(classifier: ff.Classifier = classifier, size: int = size) -> None:
                for _ in DataLoader(Prepared(files, classifier), size, num_workers=workers):
                    pass

            def forward(classifier: ff.Classifier = classifier, ready: torch.Tensor = ready, size: int = size) -> None:
                with torch.no_grad():
                    classifier.module.eval()
                    for start in range(0, options.images, size):
                        classifier.module(ready[: min(size, options.images - start)])

            forward()
            for turn in range(options.rounds):
                times["decode"].append(seconds(decode))
                times["forward"].append(seconds(forward))
                out = Path(temporary) / f"{name.replace(':', '-')}-{turn}"
                times["collect"].append(
                    seconds(lambda classifier=classifier, out=out: ff.collect(classifier, files, out=out, workers=options.workers))
                )
            rate = {what: options.images / statistics.median(values) for what, values in times.items()}
            ideal = 1 / (1 / rate["decode"] + 1 / rate["forward"])
            print(
                f"| {name} | {rate['decode']:.0f} | {rate['forward']:.1f} | {rate['collect']:.1f} | {rate['collect'] / min(rate['decode'], rate['forward']):.2f} "
                f"| {ideal:.1f} | {rate['collect'] / ideal:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

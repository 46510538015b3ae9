"""Draws `docs/glyphs.png`, a row of pictures from each part of Glyphs: `python docs/sheet.py`."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from PIL import Image

from farfield.data import glyphs

COLUMNS = 16


def main() -> None:
    suite = glyphs.suite(1000)
    rows = {"train": suite.split("train"), "test": suite.split("test")} | {f"{ood.group}: {ood.name}": ood.load() for ood in suite.ood}
    figure, axes = plt.subplots(len(rows), 1, figsize=(8, 0.55 * len(rows)), layout="constrained")
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        step = len(images) // COLUMNS
        strip = images.images[step // 2 :: step][:COLUMNS].permute(2, 0, 3, 1).flatten(1, 2)
        axis.imshow(strip, interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    path = Path(__file__).with_name("glyphs.png")
    figure.savefig(path, dpi=110)
    Image.open(path).convert("RGB").quantize(96).save(path, optimize=True)


if __name__ == "__main__":
    main()

"""Puts the figures of all detectors into `docs/choosing.md`, of Glyphs beside the published ones.

farfield bench $(python docs/choosing_table.py --detectors) && python docs/choosing_table.py farfield-out/results.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from farfield.detectors import CATALOGUE, SHAPERS
from farfield.report.render import percent

PAGE = Path(__file__).with_name("choosing.md")
ALL = [*(name for name in CATALOGUE if name != "mos"), *(f"{name}+energy" for name in SHAPERS)]
NETWORKS = {"glyphs-200-resnet": "Glyphs, ResNet", "glyphs-200-bit": "Glyphs, BiT", "glyphs-200-vit": "Glyphs, ViT"}
# OpenOOD v1.5, the leaderboard of July 2025: AUROC near / far, means alone. `-` where it has none.
BOARD = ("CIFAR-10, ResNet-18", "ImageNet, ResNet-50", "ImageNet, Swin-T", "ImageNet, ViT-B/16")
PUBLISHED = {
    "msp": ("88.0 / 90.7", "76.0 / 85.2", "76.8 / 86.3", "73.5 / 86.0"),
    "maxlogit": ("87.5 / 91.1", "76.5 / 89.6", "75.7 / 84.8", "68.3 / 83.5"),
    "energy": ("87.6 / 91.2", "75.9 / 89.5", "73.2 / 81.3", "62.4 / 79.0"),
    "gen": ("88.2 / 91.4", "76.9 / 89.8", "79.0 / 91.0", "76.3 / 91.4"),
    "kl-matching": ("79.2 / 82.7", "76.6 / 87.6", "76.1 / 88.3", "74.4 / 87.7"),
    "temperature": ("88.1 / 91.0", "77.1 / 87.6", "77.0 / 86.7", "73.2 / 86.3"),
    "openmax": ("87.6 / 89.6", "74.8 / 89.3", "76.6 / 88.6", "73.6 / 89.3"),
    "mahalanobis": ("84.2 / 89.7", "55.4 / 74.3", "75.2 / 91.5", "79.0 / 92.6"),
    "mahalanobis++": ("-", "72.0 / 93.3", "80.5 / 94.6", "81.4 / 93.7"),
    "relative-mahalanobis": ("89.8 / 92.2", "77.0 / 86.4", "78.3 / 92.3", "80.1 / 92.6"),
    "relative-mahalanobis++": ("-", "78.5 / 90.8", "81.5 / 93.3", "81.7 / 93.0"),
    "knn": ("90.6 / 93.0", "71.1 / 90.2", "71.6 / 89.4", "74.1 / 90.8"),
    "she": ("81.5 / 85.3", "73.8 / 90.9", "76.6 / 89.8", "76.1 / 92.4"),
    "vim": ("88.7 / 93.5", "72.1 / 92.7", "75.2 / 93.2", "77.0 / 92.8"),
    "fdbd": ("90.4 / 93.2", "76.6 / 92.8", "-", "-"),
    "nci": ("88.9 / 91.3", "78.7 / 95.5", "-", "-"),
    "gradnorm": ("54.9 / 57.6", "73.0 / 90.3", "47.6 / 35.5", "39.3 / 41.8"),
    "react+energy": ("87.1 / 90.4", "77.4 / 93.7", "75.6 / 88.2", "69.3 / 85.7"),
    "ash-b+energy": ("75.3 / 78.5", "78.2 / 95.7", "46.5 / 44.6", "53.2 / 51.6"),
    "scale+energy": ("82.6 / 86.4", "81.4 / 96.5", "-", "-"),
    "odin": ("82.9 / 88.0", "74.8 / 89.5", "68.2 / 73.3", "-"),
    "rankfeat": ("79.5 / 75.9", "51.0 / 53.9", "-", "-"),
    "adascale": ("83.9 / 88.0", "84.4 / 97.3", "-", "-"),
    "dice+energy": ("78.3 / 84.2", "73.1 / 91.0", "48.5 / 60.4", "65.4 / 82.3"),
}


def table(results: dict[str, list[dict[str, object]]]) -> str:
    """A line for each detector that was run, highest mean near-OOD AUROC on Glyphs first."""
    found = {(r["classifier"], r["detector"], r["group"]): float(str(r["auroc"])) for r in results["rows"] if r["ood"] is None}
    near = {name: [found[network, name, "near"] for network in NETWORKS] for name in ALL}
    lines = ["| detector | " + " | ".join([*NETWORKS.values(), *BOARD]) + " |", "|---|" + "---|" * (len(NETWORKS) + len(BOARD))]
    for name in sorted(ALL, key=lambda name: -sum(near[name])):
        ours = [f"{percent(found[network, name, 'near'])} / {percent(found[network, name, 'far'])}" for network in NETWORKS]
        lines.append(f"| `{name}` | " + " | ".join([*ours, *PUBLISHED.get(name, ("-",) * len(BOARD))]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1] == "--detectors":
        print(" ".join(f"--detector {name}" for name in ALL))
        return
    results = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    text = re.sub(
        r"(<!-- figures -->\n).*(<!-- end of figures -->)",
        lambda match: match[1] + table(results) + match[2],
        PAGE.read_text("utf-8"),
        flags=re.DOTALL,
    )
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

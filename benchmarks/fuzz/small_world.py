"""Small valid data for every command line: what is made to be broken."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MINE = """
import torch
from PIL import Image
from torch import nn
from farfield.data.transforms import Preprocess

text = "no function"
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), Preprocess(resize=24, crop=24)
def constant(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 1)), Preprocess(resize=24, crop=24)
def bare(): return nn.Linear(3, 2)
def number(): return 7
def broken(): raise RuntimeError("a fault\\nof two lines")
def leaves(): raise SystemExit(3)
def data(): return [(torch.zeros(3, 24, 24), 0), (None, None), "nonsense", 5]
def pictures(): return [(Image.new("RGB", (30, 30), (i, 2 * i, 3 * i)), i % 3) for i in range(9)]
def empty(): return []
"""
TOML = """# what a person might write
model = ["python:mine:net"]
detector = ["energy", "knn:k=2", "react:q=90+energy"]
id-train = "train"
id-test = "test"
name = "colours"
limit = 9
batch-size = 4
strict = false
preprocess = "resize=24,crop=24"
class-map = "classes.txt"
out = "out"

[near]
noise = "far"

[far]
"listed ones" = "list.txt"
"""
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
MADE = """bench --model python:mine:net --id-train train --id-test test --far noise=far --detector energy --detector knn:k=2 --out a
bench --model python:mine:net --id-train train --id-test test --far noise=far --detector energy --detector msp --out b
fit --model python:mine:net --id-train train --detector mahalanobis --out det.safetensors --store a/store
fit --id-train train.npz --detector react:q=90+energy --out det2.safetensors"""


def make_world(ask: Callable[..., Any], folder: Path) -> None:
    """Pictures, lists, arrays, scores, models and code, and what commands make of them."""
    from safetensors.numpy import save_file

    library = importlib.util.find_spec("farfield")
    assert library is not None and library.origin is not None
    draw = np.random.default_rng(0)
    paints = [(folder / "far" / f"{index}.png", (128, 128, 128)) for index in range(5)]
    for name, colour in COLOURS.items():
        for split, count in (("train", 5), ("test", 3)):
            paints += [(folder / split / name / f"{index} x.jpg", colour) for index in range(count)]
    for path, colour in paints:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(draw.normal(colour, 50, (24, 28, 3)), 0, 255).astype(np.uint8)).save(path)
    weight, bias = draw.normal(size=(3, 6)).astype(np.float32), draw.normal(size=3).astype(np.float32)
    for name, count, shift in (("train", 40, 0.0), ("test", 20, 0.0), ("far", 15, 2.0)):
        labels = draw.integers(0, 3, count)
        seen = (draw.normal(size=(count, 6)) + 2 * weight[labels] + shift).astype(np.float32)
        arrays = {"features": seen, "logits": seen @ weight.T + bias, "labels": labels, "head.weight": weight, "head.bias": bias}
        np.savez(folder / f"{name}.npz", **arrays)
    save_file(arrays, folder / "far.safetensors")
    (folder / "arrays").mkdir()
    for name in ("features", "logits", "labels"):
        np.save(folder / "arrays" / f"{name}.npy", arrays[name])
    save_file({"wrong.weight": weight}, folder / "weights.safetensors")
    shutil.copy(Path(library.origin).parent / "models" / "glyphs-200-resnet.safetensors", folder / "classifier.safetensors")
    inside, outside = draw.normal(1, 1, 40), draw.normal(-1, 1, 30)
    np.save(folder / "id.npy", inside)
    np.savez(folder / "ood.npz", scores=outside)
    save_file({"scores": outside}, folder / "ood.safetensors")
    texts = {
        "mine.py": MINE,
        "bench.toml": TOML,
        "far/broken.jpg": "no picture",
        "list.txt": "far/0.png 0\nfar/1.png 2\nfar/2.png\n",
        "openood.txt": 'far/0.png {"group_label": 0, "class_label": 1}\nfar/3.png {"group_label": 0, "class_label": 2}\n',
        "train.csv": "path,class\n" + "".join(f"train/{name}/{index} x.jpg,{name}\n" for name in COLOURS for index in range(5)),
        "classes.txt": "red\ngreen\nblue\n",
        "classes.json": '{"red": 2, "green": 1, "blue": 0}',
        "id.csv": "path,class,score,error\n" + "".join(f"{i}.png,0,{value!r},\n" for i, value in enumerate(inside.tolist())) + "x.png,,,broken\n",
        "ood.jsonl": "".join(json.dumps({"path": f"{i}.png", "score": value}) + "\n" for i, value in enumerate(outside.tolist())),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for line in MADE.splitlines():
        answer = ask("line", argv=line.split(), cwd=str(folder))
        if answer["status"] != 0:
            raise RuntimeError(f"`{line}` fails: {answer['err']}")
    for store in (folder / "a" / "store").iterdir():
        name = json.loads((store / "facts.json").read_text())["about"]["data"]
        shutil.copytree(store, folder / f"stored-{ {'noise': 'far'}.get(name, name) }", dirs_exist_ok=True)

"""Small trees of published suites, in exactly the published layout, with real picture files: `make(name, root)`."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from farfield.data import suites
from farfield.data.suites import classes as lists
from farfield.data.suites.definition import Definition, Pictures

USED = 5  # classes that have pictures


def make(
    name: str,
    root: Path,
    per_set: int = 10,
    *,
    side: int = 40,
    place: int = 0,
    patch: pytest.MonkeyPatch | None = None,
    only: frozenset[str] | None = None,
) -> Definition:
    """A tree of a published suite under `root`, and the suite's definition with the counts of the tree.

    Args:
        name: of the suite.
        root: the folder of its data.
        per_set: pictures of each set.
        side: pixels of the longer side; sets that are of 32 x 32 pixels stay so.
        place: of a set that may be in several places, which to fill; the last where it has fewer.
        patch: for suites that torchvision reads, whose checksums are those of the small files then.
        only: names of the sets to make; all by default.
    """
    definition = suites.definition(name)
    random = np.random.default_rng(0)

    def small(role: str, called: str, pictures: Pictures) -> Pictures:
        places = [pictures, *pictures.others]
        chosen = places[min(place, len(places) - 1)]
        count = per_set if pictures.reader != "noise" else pictures.count
        if only is None or called in only:
            fill(definition, role, called, chosen, root, per_set, side, random, patch)
        return replace(
            pictures, count=count, pick=None, others=tuple(replace(other, count=2) if other.reader == "noise" else other for other in pictures.others)
        )

    return replace(
        definition,
        splits={split: tuple(small(split, split, piece) for piece in pieces) for split, pieces in definition.splits.items()},
        ood=tuple(replace(entry, pictures=small(entry.group, entry.name, entry.pictures)) for entry in definition.ood),
        validation=tuple(replace(entry, pictures=small("validation", entry.name, entry.pictures)) for entry in definition.validation),
    )


def fill(
    definition: Definition,
    role: str,
    name: str,
    pictures: Pictures,
    root: Path,
    n: int,
    side: int,
    random: np.random.Generator,
    patch: pytest.MonkeyPatch | None,
) -> None:
    """The files of one set."""
    labelled = role in definition.splits
    if pictures.reader == "torchvision":
        assert patch is not None, "a suite that torchvision reads needs `patch`"
        by_torchvision(pictures, root / pictures.root, n, random, patch)
    elif pictures.reader == "folder":
        for index in range(n):
            save(root / pictures.place / in_folder(definition, name, pictures, index, labelled), index if labelled else -1, side, random)
    elif pictures.reader == "list":
        by_list(definition, role, pictures, root, n, side, random)


def in_folder(definition: Definition, name: str, pictures: Pictures, index: int, labelled: bool) -> str:
    """A path inside the folder of a set, as the published ones are called: blanks and capitals among them."""
    if labelled:
        folder = list(lists.folders(definition.classes) or {})[index % USED]
        return f"{folder}/{folder}_{index}.JPEG"
    if pictures.parts:
        folder = {"ninco": ["Caracal caracal caracal", "amphiuma_means"], "unit_tests": ["uni", "pixel_perm"], "cleaned": ["Places", "Textures"]}[
            name
        ][index % 2]
        return f"{folder}/{folder}_{index:03d}_{index}{('.jpeg', '.png')[index % 2]}"
    if "dtd" in pictures.place or name == "Textures":
        return f"{('banded', 'blotchy')[index % 2]}/banded_{index:04d}.jpg"
    return f"b_badlands_{index:08d}.jpg"


def by_list(definition: Definition, role: str, pictures: Pictures, root: Path, n: int, side: int, random: np.random.Generator) -> None:
    """A list as its authors write it, and the pictures that it names."""
    source, labelled, lines = (pictures.sources or ("x",))[-1], role in definition.splits, []
    stem = Path(pictures.place).stem
    for index in range(n):
        label = index % USED if labelled else -1
        if source == "imagenet_train":
            path = f"imagenet_1k/train/n0144353{index % USED}/n0144353{index % USED}_{index}.JPEG"
        elif source in ("imagenet_1k", "x", "imagenet"):
            path = f"{'imagenet_1k/val' if source == 'imagenet_1k' else 'val'}/ILSVRC2012_val_{int(hashlib.md5(stem.encode()).hexdigest()[:4], 16) * 1000 + index:08d}.JPEG"
        else:
            path = f"{source}/{stem}/a class {index % 2}/{index:04d}{'.png' if 'classic' in pictures.root else '.JPEG'}"
        save(root / pictures.root / path, label, side, random)
        lines.append(f"{path} {label}")
    write(root / pictures.place, "\n".join(lines) + "\n")


def by_torchvision(pictures: Pictures, root: Path, n: int, random: np.random.Generator, patch: pytest.MonkeyPatch) -> None:
    """The files that torchvision's class reads, and their checksums in the class."""
    from torchvision import datasets

    pixels = random.integers(256, size=(n, 3, 32, 32), dtype=np.uint8)
    kind = getattr(datasets, pictures.place)
    if pictures.place == "SVHN":
        path = root / f"{pictures.split}_32x32.mat"
        root.mkdir(parents=True, exist_ok=True)
        savemat(path, {"X": pixels.transpose(2, 3, 1, 0), "y": (np.arange(n) % 10 + 1)[:, None]})
        patch.setitem(kind.split_list, pictures.split, [*kind.split_list[pictures.split][:2], md5(path)])
        return
    labels = [index % USED for index in range(n)]
    fine = pictures.place == "CIFAR100"
    base, file = root / kind.base_folder, pictures.split if fine else ("data_batch_1" if pictures.split == "train" else "test_batch")
    key = "fine_labels" if fine else "labels"
    dump(base / file, {"data": pixels.reshape(n, -1), key: labels})
    dump(base / kind.meta["filename"], {kind.meta["key"]: [f"class {index}" for index in range(100 if fine else 10)]})
    patch.setattr(kind, f"{pictures.split}_list", [[file, md5(base / file)]])
    patch.setattr(kind, "meta", {**kind.meta, "md5": md5(base / kind.meta["filename"])})
    other = "test" if pictures.split == "train" else "train"
    if not (base / getattr(kind, f"{other}_list")[0][0]).exists():
        patch.setattr(kind, f"{other}_list", [])  # until it is made too


def save(path: Path, label: int, side: int, random: np.random.Generator) -> None:
    """A picture file in the colour of its class, with grain; another colour where it has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = np.array([(40 * label) % 256, (90 * label) % 256, 128]) if label >= 0 else np.array([250, 250, 20])
    pixels = np.clip(random.normal(colour, 30, (side, side + 6, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix == ".png" else "JPEG")


def dump(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()

"""The data sets that torchvision reads: which, how they are opened, and their pictures in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farfield.data.images import Images
from farfield.errors import InputError, nearest

SPLITS = ("train", "test")  # those that every one has
# Of each: its splits, what its class takes for one, and the folder or file that it keeps under its root.
_OPENED: dict[str, tuple[tuple[str, ...], Callable[[str], dict[str, Any]], Callable[[str], str]]] = {
    "CIFAR10": (SPLITS, lambda split: {"train": split == "train"}, lambda split: "cifar-10-batches-py"),
    "CIFAR100": (SPLITS, lambda split: {"train": split == "train"}, lambda split: "cifar-100-python"),
    "MNIST": (SPLITS, lambda split: {"train": split == "train"}, lambda split: "MNIST"),
    "SVHN": ((*SPLITS, "extra"), lambda split: {"split": split}, lambda split: f"{split}_32x32.mat"),
}


def check(name: str, split: str, where: str) -> None:
    """Raises where torchvision has no such data set that is read here, or it no such split."""
    if name not in _OPENED:
        raise InputError(f"{where}: torchvision's {name!r} is not read here{nearest(name, _OPENED)} These are: {', '.join(_OPENED)}.")
    if split not in _OPENED[name][0]:
        raise InputError(f"{where}: {name} has the splits {', '.join(_OPENED[name][0])}; got {split!r}.")


def kept(name: str, split: str) -> str:
    """The folder or file that a data set keeps under its root."""
    return _OPENED[name][2](split)


def opened(name: str, split: str, root: Path, download: bool = False) -> Any:
    """A data set of torchvision's, checked by its own checksums; fetched by its own downloader where asked for."""
    from torchvision import datasets

    return getattr(datasets, name)(str(root), **_OPENED[name][1](split), download=download)


def images(called: str, name: str, split: str, root: Path) -> Images:
    """The pictures of a data set that is there.

    Raises:
        InputError: where it is not, or its files are not those of the checksums.
    """
    try:
        data, labels = _arrays(opened(name, split, root))
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        first = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise InputError(f"torchvision's {name} ({split}) is not whole in {root}: {first}. `farfield data prepare` fetches it.") from error
    pixels = torch.from_numpy(np.ascontiguousarray(data))
    pixels = pixels[:, None].expand(-1, 3, -1, -1).contiguous() if pixels.ndim == 3 else pixels
    return Images(called, pixels, torch.from_numpy(labels).long())


def _arrays(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pictures `(n, 3, h, w)`, or `(n, h, w)` where they are grey, and labels."""
    data = np.asarray(dataset.data)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return (data.transpose(0, 3, 1, 2) if data.ndim == 4 and data.shape[1] != 3 else data), np.asarray(labels)

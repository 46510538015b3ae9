"""From a data set to batches of a model's input, in this process or in others; a picture that cannot be read is a `Failure`."""

from __future__ import annotations

import signal
import struct
import sys
import threading
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from farfield.classifier import Transform
from farfield.data.images import Images
from farfield.data.pictures import Unreadable, upright_rgb
from farfield.data.transforms import as_pil
from farfield.errors import InputError
from farfield.store import Failure

# What a data set raises for a picture that is broken, rather than for a fault of its own.
BROKEN = (Unreadable, OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


@runtime_checkable
class Pictures(Protocol):
    """A map-style data set of `(picture, label)`, of dicts with `image` and `label`, or of pictures alone."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def is_files(samples: Any) -> bool:
    """Whether a data set's `samples` are pairs of a path and something else."""
    return isinstance(samples, list) and all(isinstance(pair, tuple | list) and pair and isinstance(pair[0], str | Path) for pair in samples)


Item = tuple[Tensor | Mapping[str, Tensor], int]


class Fault(Failure):
    """A sample that cannot be had by a fault of the data set or of the transform, rather than of its picture: it stops the run."""


Loaded = tuple[Any, Tensor, list[int], list[Failure]]


def alive(loader: DataLoader[Loaded]) -> Generator[Loaded, None, None]:
    """The loader's batches, or an error in one sentence when one of its processes dies."""
    try:
        with _later():
            batches: Any = iter(loader)
        yield from batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        first = str(error).splitlines()[0].rstrip(". ")
        raise InputError(f"A process that loads pictures died ({first}). What is stored so far stays; run it again with fewer `workers`.") from error
    finally:
        with _later():
            batches = None  # ends the loader's processes


@contextmanager
def _later() -> Iterator[None]:
    """Ctrl-C waits for the end of the `with`: raised inside a fork or a `__del__`, it would be ignored."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


def deaf(_: int) -> None:
    """Ctrl-C is for the parent, which ends its loaders itself; what goes wrong as they end is not for a person's eyes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = lambda *_: None


class Prepared(Dataset[Loaded]):
    """A data set as a model's input, fetched a batch at a time; pictures in memory are left for the device to transform."""

    def __init__(self, dataset: Pictures, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform
        self.batched = isinstance(dataset, Images) and getattr(transform, "batched", False)

    def __getitems__(self, indices: list[int]) -> Loaded:
        if self.batched:
            assert isinstance(self.dataset, Images)
            return (*self.dataset.batch(indices), indices, [])
        items = [(index, item_of(self.dataset, index, self.transform)) for index in indices]
        read = [(index, item) for index, item in items if not isinstance(item, Failure)]
        failed = [item for _, item in items if isinstance(item, Failure)]
        rows = [index for index, _ in read]
        try:
            return _stack([item[0] for _, item in read]), torch.tensor([item[1] for _, item in read]), rows, failed
        except InputError as error:
            return None, torch.zeros(0), [], [Fault(indices[0], f"The batch from item {indices[0]} on", _reason(error))]


def _stack(inputs: Sequence[Any]) -> Any:
    if not inputs:
        return None
    if isinstance(inputs[0], Tensor):
        if len({x.shape for x in inputs}) > 1:
            raise InputError(f"The transform makes inputs of unlike sizes, {sorted({tuple(x.shape) for x in inputs})[:3]}; it must resize and crop.")
        return torch.stack(list(inputs))
    return {name: _stack([x[name] for x in inputs]) for name in inputs[0]}


def whole(batch: Any) -> Any:
    """A batch as it is, in place of torch's own way to make one."""
    return batch


def name_of(dataset: Pictures, index: int) -> str:
    """What messages and reports call a picture: its file's name where that is known."""
    known, samples = getattr(dataset, "name_of", None), getattr(dataset, "samples", None)
    if callable(known):
        return str(known(index))
    if isinstance(samples, list) and len(samples) == len(dataset) and is_files(samples[index : index + 1]):
        return str(samples[index][0])
    return f"Item {index} of the data set"


def picture_of(dataset: Pictures, index: int) -> Image.Image | None:
    """A picture as a person sees it; numbers that are no 8-bit picture are stretched to one, and `None` is for what is none."""
    try:
        picture, _ = _parts(dataset[index])
        if isinstance(picture, Image.Image):
            return upright_rgb(picture)
        if isinstance(picture, Tensor) and picture.is_floating_point() and picture.ndim == 3:
            low, high = picture.amin(), picture.amax()
            picture = ((picture - low) / (high - low).clamp_min(1e-12) * 255).to(torch.uint8).expand(3, -1, -1)
        return as_pil(picture)
    except Exception:  # as many kinds as there are data sets; a report can do without one picture
        return None


def item_of(dataset: Pictures, index: int, transform: Transform) -> Item | Failure:
    """A picture as the model's input and its label, -1 where it has none; or why it cannot be had."""
    name = name_of(dataset, index)
    try:
        item = dataset[index]
    except BROKEN as error:
        return Failure(index, name, _reason(error))
    except Exception as error:
        return Fault(index, name, _reason(error))
    try:
        picture, label = _parts(item)
        if isinstance(picture, Image.Image) and picture.mode != "RGB":
            picture = upright_rgb(picture)
        made = transform(picture)
        if not isinstance(made, Tensor) and not (isinstance(made, Mapping) and all(isinstance(part, Tensor) for part in made.values())):
            raise InputError(f"the transform makes a {type(made).__name__}, not a tensor or a dict of tensors")
        return made, -1 if label is None else int(label)
    except Unreadable as error:
        return Failure(index, name, _reason(error))
    except Exception as error:
        return Fault(index, name, _reason(error))


def _reason(error: Exception) -> str:
    """An error in a few words, for the middle of a sentence."""
    said = str(error).replace("\n", " ").rstrip(". ")
    return said if isinstance(error, Unreadable | InputError) else f"{type(error).__name__}: {said}"


def _parts(item: Any) -> tuple[Any, Any]:
    """The picture and the label in an item of a data set."""
    if isinstance(item, Mapping):
        picture = next((item[key] for key in ("image", "img", "picture", "pixel_values") if key in item), None)
        if picture is None:
            raise KeyError(f"an item has {', '.join(map(str, item))}, and no image or img")
        return picture, next((item[key] for key in ("label", "labels", "fine_label") if key in item), None)
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None

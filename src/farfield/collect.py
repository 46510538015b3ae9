"""Run a classifier once over a data set. The only place that does, for scoring."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from farfield.classifier import Classifier, Transform, plain
from farfield.data.files import Files
from farfield.data.images import Images
from farfield.data.pictures import Unreadable, upright_rgb
from farfield.errors import FarfieldWarning, InputError
from farfield.outputs import Head, Outputs, concatenate
from farfield.store import Failure, Stored

Progress = Callable[[str, int, int], None]
SHARD = 4096  # samples in a shard, about
SHOWN = 3  # unreadable samples that a warning names
# What a data set raises for a picture that is broken, rather than for a fault of its own.
BROKEN = (Unreadable, OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


@runtime_checkable
class Pictures(Protocol):
    """A map-style data set of `(picture, label)`, of dicts with `image` and `label`, or of pictures alone."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@overload
def collect(
    classifier: Classifier, dataset: Pictures, *, out: None = None, batch_size: int | None = ..., workers: int | None = ..., strict: bool = ...,
    name: str | None = ..., progress: Progress | None = ..., seconds: dict[str, float] | None = ...,
) -> Outputs: ...  # fmt: skip
@overload
def collect(
    classifier: Classifier, dataset: Pictures, *, out: str | Path, batch_size: int | None = ..., workers: int | None = ..., strict: bool = ...,
    name: str | None = ..., progress: Progress | None = ..., seconds: dict[str, float] | None = ...,
) -> Stored: ...  # fmt: skip


def collect(
    classifier: Classifier,
    dataset: Pictures | DataLoader[Any],
    *,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    name: str | None = None,
    progress: Progress | None = None,
    seconds: dict[str, float] | None = None,
) -> Outputs | Stored:
    """Logits, features, labels and ids of every sample, in one pass in the data set's order.

    A picture that cannot be read is left out and named in a warning (with `out`, in `Stored.failures` too); `ids` has the rows of the others.

    Args:
        classifier: what to run, on the device it is on.
        dataset: a map-style data set of pictures, of `(picture, label)`, or of dicts; the classifier's own transform is applied to each.
        out: a folder for the outputs. The same classifier and data find them there again, and a run that was stopped goes on. What is not
            noticed: a file changed at equal size, unless it is one of sixteen. Without `out` everything stays in memory.
        batch_size: samples in a forward pass; by default 256 of at most 64 x 64 pixels, else 64.
        workers: processes that load pictures; by default up to 8 for picture files, else none.
        strict: stop at the first picture that cannot be read.
        name: what messages call the data set; its own name by default.
        progress: called with `("forward", samples done, samples in all)`.
        seconds: gets the time inside the model added under `forward`.

    Returns:
        `Outputs`, or with `out` a `Stored` that yields them.

    Raises:
        InputError: for an empty data set, a loader instead of a data set, a folder that cannot be written, or no picture that can be read.

    >>> from torch import nn
    >>> net = Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), transform=lambda x: x, input_size=(3, 2, 2))
    >>> collect(net, [(torch.zeros(3, 2, 2), 1)]).labels
    tensor([1])
    """
    if not hasattr(dataset, "__len__"):
        raise InputError("`collect` needs a data set with a length and items by index; a stream has neither, so a run over it cannot be resumed.")
    if isinstance(dataset, DataLoader):
        raise InputError("`collect` makes its own ordered loader, since a shuffled one cannot be resumed; pass the loader's `.dataset`.")
    size = usual_batch(classifier) if batch_size is None else batch_size
    if size < 1:
        raise InputError(f"`collect` needs batch_size >= 1; got {size}.")
    if len(dataset) == 0:
        raise InputError("There is nothing to collect: the data set is empty.")
    called = name or str(getattr(dataset, "name", type(dataset).__name__))
    run = _Run(classifier, dataset, usual_workers(dataset) if workers is None else workers, strict, progress, {} if seconds is None else seconds)
    if out is None:
        outputs = concatenate([run.empty(), *run.over(_cut(range(len(dataset)), size))])
        _tell(run.failed, called, len(dataset))
        return outputs
    rows = size * max(SHARD // size, 1)
    about = {"classifier": classifier.name, "data": called, "classes": run.classes}
    stored = Stored.at(out, describe(classifier, dataset, size), len(dataset), rows, run.fingerprint, about)
    todo = stored.missing()
    run.done = len(dataset) - sum(len(stored.span(shard)) for shard in todo)
    batches = {shard: _cut(stored.span(shard), size) for shard in todo}
    stream = run.over([batch for shard in todo for batch in batches[shard]])
    for shard in todo:
        parts = list(itertools.islice(stream, len(batches[shard])))
        span = stored.span(shard)
        stored.write(shard, concatenate([run.empty(), *parts]), [failure for failure in run.failed if failure.row in span])
    stored.sweep()
    _tell(stored.failures(), called, len(dataset))
    return stored


def usual_batch(classifier: Classifier) -> int:
    """Samples in a forward pass where nothing is said."""
    size = classifier.input_size
    return 256 if isinstance(size, tuple) and max(size[1:], default=0) <= 64 else 64


def usual_workers(dataset: Pictures) -> int:
    """Processes that load pictures where nothing is said: some for files, none for what is in memory or a user's own."""
    return min(os.cpu_count() or 1, 8) if isinstance(dataset, Files) and len(dataset) >= 64 else 0


def _cut(items: range, size: int) -> list[list[int]]:
    """The items in batches."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _tell(failed: Sequence[Failure], name: str, items: int) -> None:
    """Warns of what was left out; raises where nothing is left."""
    if not failed:
        return
    named = "; ".join(f"{failure.name}: {failure.reason}" for failure in failed[:SHOWN])
    if len(failed) == items:
        raise InputError(f"None of the {items} pictures of {name} can be read. {named}.")
    rest = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    warnings.warn(f"{len(failed)} of {items} pictures of {name} cannot be read and are left out: {named}{rest}.", FarfieldWarning, stacklevel=3)


def describe(classifier: Classifier, dataset: Pictures, batch_size: int) -> dict[str, Any]:
    """What outputs depend on, beside the weights: the key of a store."""
    device = classifier.device.type
    autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "off"
    return {
        "contents": contents(dataset),
        "probes": _probes(dataset, classifier.transform),
        "transform": plain(classifier.transform),
        "batch_size": batch_size,
        "autocast": autocast,
        "torch": torch.__version__,
    }


def contents(dataset: Pictures) -> str:
    """A hash of what a data set says it holds: all of it if it is in memory, else its list of files with their sizes, and its labels."""
    if callable(known := getattr(dataset, "fingerprint", None)):
        return str(known())
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(dataset, list | tuple | TensorDataset):
        for item in (dataset[index] for index in range(len(dataset))):
            for part in item if isinstance(item, list | tuple) else (item,):
                digest.update(_bytes(part))
        return digest.hexdigest()
    for path, label in getattr(dataset, "samples", ()):
        digest.update(f"{path}|{Path(path).stat().st_size if Path(path).exists() else -1}|{label}".encode())
    digest.update(str([int(label) for label in getattr(dataset, "targets", ())]).encode())
    return digest.hexdigest()


def _probes(dataset: Pictures, transform: Transform) -> str:
    """A hash of sixteen prepared items, which change with the transform and with files whose list does not tell."""
    digest = hashlib.blake2b(digest_size=16)
    for index in sorted({round(i * (len(dataset) - 1) / 15) for i in range(16)}):
        one, again = (_item(dataset, index, transform) for _ in range(2))
        if isinstance(one, Failure) or isinstance(again, Failure):
            digest.update(str(one).encode())
            continue
        if any(not torch.equal(x, y) for x, y in zip(_tensors(one[0]), _tensors(again[0]), strict=True)):
            raise InputError(
                f"Item {index} of the data set is another picture each time it is read, so nothing can be stored; use the evaluation transform."
            )
        digest.update(b"".join(_bytes(x) for x in _tensors(one[0])) + str(one[1]).encode())
    return digest.hexdigest()


def _tensors(x: Tensor | Mapping[str, Tensor]) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else [x[name] for name in sorted(x)]


def _bytes(part: Any) -> bytes:
    """All of a tensor, an array or a PIL picture, whose texts leave most of it out; of anything else its text."""
    if isinstance(part, Tensor):
        part = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return bytes(part.tobytes()) if hasattr(part, "tobytes") else plain(part).encode()


Item = tuple[Tensor | Mapping[str, Tensor], int]
Loaded = tuple[Any, Tensor, list[int], list[Failure]]


class _Run:
    """One pass of one classifier over parts of one data set."""

    def __init__(
        self, classifier: Classifier, dataset: Pictures, workers: int, strict: bool, progress: Progress | None, seconds: dict[str, float]
    ) -> None:
        self.classifier, self.dataset, self.workers, self.strict = classifier, dataset, workers, strict
        self.progress, self.seconds = progress, seconds
        head = classifier.head
        self.head = None if head is None else Head(head.weight.cpu(), head.bias.cpu())
        self.classes = classifier.classes
        self.fingerprint, self.done = classifier.fingerprint(), 0
        self.failed: list[Failure] = []

    def empty(self) -> Outputs:
        """The outputs of no samples: what a shard without a readable picture has."""
        none = torch.zeros(0, dtype=torch.int64)
        dtype = self.classifier.dtype
        features = None if self.head is None else torch.zeros(0, self.head.weight.shape[1], dtype=dtype)
        return Outputs(torch.zeros(0, self.classes, dtype=dtype), features, none, self.head, {}, none, self.fingerprint)

    def over(self, cut: Sequence[Sequence[int]]) -> Iterator[Outputs]:
        """The outputs of the samples in each batch, on the CPU."""
        if not cut:
            return
        prepared = _Prepared(self.dataset, self.classifier.transform)
        loader = DataLoader(prepared, batch_sampler=[list(batch) for batch in cut], num_workers=self.workers, collate_fn=_whole, worker_init_fn=_deaf)
        for indices, (batch, labels, rows, failed) in zip(cut, _alive(loader), strict=True):
            self._note(failed)
            self.done += len(indices)
            if not rows:
                yield self.empty()
                continue
            if prepared.batched:
                batch = self.classifier.transform(batch.to(self.classifier.device))
            started = time.perf_counter()
            outputs = self.classifier.outputs(batch).to("cpu")
            self.seconds["forward"] = self.seconds.get("forward", 0.0) + time.perf_counter() - started
            if self.progress is not None:
                self.progress("forward", self.done, len(self.dataset))
            yield Outputs(outputs.logits, outputs.features, labels, self.head, {}, torch.tensor(rows), self.fingerprint)

    def _note(self, failed: Sequence[Failure]) -> None:
        for failure in failed:
            if self.strict or failure.reason.startswith(_FATAL):
                raise InputError(f"{failure.name} cannot be read: {failure.reason.removeprefix(_FATAL)}. What is stored so far stays.")
        self.failed += failed


_FATAL = "!"  # before the reason of what is no broken picture but a fault of the data set or of the transform


def _alive(loader: DataLoader[Loaded]) -> Iterator[Loaded]:
    """The loader's batches, or an error in one sentence when one of its processes dies."""
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        first = str(error).splitlines()[0].rstrip(". ")
        raise InputError(f"A process that loads pictures died ({first}). What is stored so far stays; run it again with fewer `workers`.") from error


def _deaf(_: int) -> None:
    """Ctrl-C is for the parent, which ends its loaders itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Prepared(Dataset[Loaded]):
    """A data set as a model's input, fetched a batch at a time; pictures in memory are left for the device to transform."""

    def __init__(self, dataset: Pictures, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform
        self.batched = isinstance(dataset, Images) and getattr(transform, "batched", False)

    def __getitems__(self, indices: list[int]) -> Loaded:
        if self.batched:
            assert isinstance(self.dataset, Images)
            return (*self.dataset.batch(indices), indices, [])
        items = [(index, _item(self.dataset, index, self.transform)) for index in indices]
        read = [(index, item) for index, item in items if not isinstance(item, Failure)]
        failed = [item for _, item in items if isinstance(item, Failure)]
        return _stack([item[0] for _, item in read]), torch.tensor([item[1] for _, item in read]), [index for index, _ in read], failed


def _stack(inputs: Sequence[Any]) -> Any:
    if not inputs:
        return None
    if isinstance(inputs[0], Tensor):
        if len({x.shape for x in inputs}) > 1:
            raise InputError(f"The transform makes inputs of unlike sizes, {sorted({tuple(x.shape) for x in inputs})[:3]}; it must resize and crop.")
        return torch.stack(list(inputs))
    return {name: _stack([x[name] for x in inputs]) for name in inputs[0]}


def _whole(batch: Any) -> Any:
    return batch


def _item(dataset: Pictures, index: int, transform: Transform) -> Item | Failure:
    """A picture as the model's input and its label, -1 where it has none; or why it cannot be had."""
    known = getattr(dataset, "name_of", None)
    samples = getattr(dataset, "samples", None)
    name = known(index) if callable(known) else str(samples[index][0]) if isinstance(samples, list) else f"Item {index} of the data set"
    try:
        item = dataset[index]
    except BROKEN as error:
        return Failure(index, name, _reason(error))
    except Exception as error:
        return Failure(index, name, _FATAL + _reason(error))
    try:
        picture, label = _parts(item)
        if isinstance(picture, Image.Image) and picture.mode != "RGB":
            picture = upright_rgb(picture)
        return transform(picture), -1 if label is None else int(label)
    except Unreadable as error:
        return Failure(index, name, _reason(error))
    except Exception as error:
        return Failure(index, name, _FATAL + _reason(error))


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

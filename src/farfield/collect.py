"""Run a classifier once over a data set. The only place that does, for scoring."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from farfield.classifier import Classifier, Transform, plain
from farfield.data.images import Images
from farfield.errors import InputError
from farfield.outputs import Head, Outputs, concatenate
from farfield.store import Stored

Progress = Callable[[str, int, int], None]
SHARD = 4096  # samples in a shard, about


@runtime_checkable
class Pictures(Protocol):
    """A map-style data set of `(picture, label)` or of pictures alone."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@overload
def collect(
    classifier: Classifier, dataset: Pictures, *, out: None = None, batch_size: int = ..., workers: int = ..., progress: Progress | None = ...,
    seconds: dict[str, float] | None = ...,
) -> Outputs: ...  # fmt: skip
@overload
def collect(
    classifier: Classifier, dataset: Pictures, *, out: str | Path, batch_size: int = ..., workers: int = ..., progress: Progress | None = ...,
    seconds: dict[str, float] | None = ...,
) -> Stored: ...  # fmt: skip


def collect(
    classifier: Classifier,
    dataset: Pictures | DataLoader[Any],
    *,
    out: str | Path | None = None,
    batch_size: int = 256,
    workers: int = 0,
    progress: Progress | None = None,
    seconds: dict[str, float] | None = None,
) -> Outputs | Stored:
    """Logits, features, labels and ids of every sample, in one pass in the data set's order.

    Args:
        classifier: what to run, on the device it is on.
        dataset: a map-style data set of pictures, or of `(picture, label)`; the classifier's own transform is applied to each.
        out: a folder for the outputs. The same classifier and data find them there again, and a run that was stopped goes on. What is not
            noticed: a file changed at equal size, unless it is one of sixteen. Without `out` everything stays in memory.
        batch_size: samples in a forward pass.
        workers: processes that load pictures; 0 loads them here.
        progress: called with `("forward", samples done, samples in all)`.
        seconds: gets the time inside the model added under `forward`.

    Returns:
        `Outputs`, or with `out` a `Stored` that yields them.

    Raises:
        InputError: for an empty data set, a loader instead of a data set, or a folder that cannot be written.

    >>> from torch import nn
    >>> net = Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), transform=lambda x: x, input_size=(3, 2, 2))
    >>> collect(net, [(torch.zeros(3, 2, 2), 1)]).labels
    tensor([1])
    """
    if not hasattr(dataset, "__len__"):
        raise InputError("`collect` needs a data set with a length and items by index; a stream has neither, so a run over it cannot be resumed.")
    if isinstance(dataset, DataLoader):
        raise InputError("`collect` makes its own ordered loader, since a shuffled one cannot be resumed; pass the loader's `.dataset`.")
    if batch_size < 1:
        raise InputError(f"`collect` needs batch_size >= 1; got {batch_size}.")
    if len(dataset) == 0:
        raise InputError("There is nothing to collect: the data set is empty.")
    run = _Run(classifier, dataset, batch_size, workers, progress, seconds if seconds is not None else {})
    if out is None:
        return concatenate(run.over(range(len(dataset))))
    rows = batch_size * max(SHARD // batch_size, 1)
    stored = Stored.at(out, describe(classifier, dataset, batch_size), len(dataset), rows, run.fingerprint)
    todo = stored.missing()
    run.done = len(dataset) - sum(min(rows, len(dataset) - shard * rows) for shard in todo)
    for shard in todo:
        stored.write(shard, concatenate(run.over(range(shard * rows, min((shard + 1) * rows, len(dataset))))))
    return stored


def describe(classifier: Classifier, dataset: Pictures, batch_size: int) -> dict[str, Any]:
    """What outputs depend on, beside the weights: the key of a store."""
    device = classifier.device.type
    autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "off"
    return {
        "contents": _contents(dataset),
        "probes": _probes(dataset, classifier.transform),
        "transform": plain(classifier.transform),
        "batch_size": batch_size,
        "autocast": autocast,
        "torch": torch.__version__,
    }


def _contents(dataset: Pictures) -> str:
    """A hash of what a data set says it holds: all of it if it is in memory, else its list of files with their sizes, and its labels."""
    if isinstance(dataset, Images):
        return dataset.fingerprint()
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
        (one, label), (again, _) = (_item(dataset, index, transform) for _ in range(2))
        if not torch.equal(one, again):
            raise InputError(
                f"Item {index} of the data set is another picture each time it is read, so nothing can be stored; use the evaluation transform."
            )
        digest.update(_bytes(one) + str(label).encode())
    return digest.hexdigest()


def _bytes(part: Any) -> bytes:
    """All of a tensor, an array or a PIL picture, whose texts leave most of it out; of anything else its text."""
    if isinstance(part, Tensor):
        part = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return bytes(part.tobytes()) if hasattr(part, "tobytes") else plain(part).encode()


class _Run:
    """One pass of one classifier over parts of one data set."""

    def __init__(
        self, classifier: Classifier, dataset: Pictures, batch_size: int, workers: int, progress: Progress | None, seconds: dict[str, float]
    ) -> None:
        self.classifier, self.dataset, self.batch_size, self.workers = classifier, dataset, batch_size, workers
        self.progress, self.seconds = progress, seconds
        head = classifier.head
        self.head = None if head is None else Head(head.weight.cpu(), head.bias.cpu())
        self.fingerprint, self.done = classifier.fingerprint(), 0

    def over(self, part: range) -> Iterator[Outputs]:
        """The outputs of the samples in `part`, a batch at a time, on the CPU."""
        cut = [list(part[start : start + self.batch_size]) for start in range(0, len(part), self.batch_size)]
        prepared = _Prepared(self.dataset, self.classifier.transform)
        loader = DataLoader(prepared, batch_sampler=cut, num_workers=self.workers, collate_fn=_whole)
        for indices, (batch, labels) in zip(cut, loader, strict=True):
            batch = batch.to(self.classifier.device)
            if prepared.batched:
                batch = self.classifier.transform(batch)
            started = time.perf_counter()
            outputs = self.classifier.outputs(batch).to("cpu")
            self.seconds["forward"] = self.seconds.get("forward", 0.0) + time.perf_counter() - started
            self.done += len(indices)
            if self.progress is not None:
                self.progress("forward", self.done, len(self.dataset))
            yield Outputs(outputs.logits, outputs.features, labels, self.head, {}, torch.tensor(indices), self.fingerprint)


class _Prepared(Dataset[tuple[Tensor, Tensor]]):
    """A data set as a model's input, fetched a batch at a time; pictures in memory are left for the device to transform."""

    def __init__(self, dataset: Pictures, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform
        self.batched = isinstance(dataset, Images) and getattr(transform, "batched", False)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        if self.batched:
            assert isinstance(self.dataset, Images)
            return self.dataset.batch(indices)
        pairs = [_item(self.dataset, index, self.transform) for index in indices]
        return torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])


def _whole(batch: Any) -> Any:
    return batch


def _item(dataset: Pictures, index: int, transform: Transform) -> tuple[Tensor, int]:
    """A picture as the model's input, and its label, -1 where it has none."""
    try:
        item = dataset[index]
        picture, label, *_ = (*item, None, None) if isinstance(item, tuple | list) else (item, None)
        return transform(picture), -1 if label is None else int(label)
    except Exception as error:
        raise InputError(f"Item {index} of the data set cannot be read: {type(error).__name__}: {error}.") from error

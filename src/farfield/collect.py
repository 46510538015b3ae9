"""Run a classifier once over a data set. The only place that does, for scoring."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from farfield.classifier import Classifier, Transform
from farfield.data.images import Images
from farfield.errors import InputError
from farfield.outputs import Outputs, concatenate
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
        out: a folder for the outputs. The same classifier and data find them there again, and a run that was stopped goes on. Without it
            everything stays in memory.
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
    fingerprint = classifier.fingerprint()
    stored = Stored.at(out, describe(classifier, dataset, batch_size), len(dataset), rows, fingerprint)
    todo = stored.missing()
    run.done = len(dataset) - sum(min(rows, len(dataset) - shard * rows) for shard in todo)
    for shard in todo:
        stored.write(shard, concatenate(run.over(range(shard * rows, min((shard + 1) * rows, len(dataset))))))
    return stored


def describe(classifier: Classifier, dataset: Pictures, batch_size: int) -> dict[str, Any]:
    """What outputs depend on, beside the weights: the key of a store."""
    if isinstance(dataset, Images):
        data = dataset.fingerprint()
    else:
        # Without a list of contents, sixteen prepared items stand for all; they change with the files and with the transform.
        probes = [_item(dataset[round(i * (len(dataset) - 1) / 15)], classifier.transform) for i in range(16)]
        data = hashlib.blake2b(b"".join(x.contiguous().numpy().tobytes() + str(y).encode() for x, y in probes), digest_size=16).hexdigest()
    dtype = next((str(p.dtype) for p in classifier.module.parameters()), "none")
    return {"data": data, "transform": repr(classifier.transform), "dtype": dtype, "batch_size": batch_size, "torch": torch.__version__}


class _Run:
    """One pass of one classifier over parts of one data set."""

    def __init__(
        self, classifier: Classifier, dataset: Pictures, batch_size: int, workers: int, progress: Progress | None, seconds: dict[str, float]
    ) -> None:
        self.classifier, self.dataset, self.batch_size, self.workers = classifier, dataset, batch_size, workers
        self.progress, self.seconds = progress, seconds
        self.head, self.fingerprint, self.done = classifier.head, classifier.fingerprint(), 0

    def over(self, part: range) -> Iterator[Outputs]:
        """The outputs of the samples in `part`, a batch at a time, on the CPU."""
        head = None if self.head is None else type(self.head)(self.head.weight.cpu(), self.head.bias.cpu())
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
            yield Outputs(outputs.logits, outputs.features, labels, head, {}, torch.tensor(indices), self.fingerprint)


class _Prepared(Dataset[tuple[Tensor, Tensor]]):
    """A data set as a model's input, fetched a batch at a time; pictures in memory are left for the device to transform."""

    def __init__(self, dataset: Pictures, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform
        self.batched = isinstance(dataset, Images) and getattr(transform, "batched", False)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        if self.batched:
            assert isinstance(self.dataset, Images)
            return self.dataset.batch(indices)
        pairs = [_item(self.dataset[index], self.transform) for index in indices]
        return torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])


def _whole(batch: Any) -> Any:
    return batch


def _item(item: Any, transform: Transform) -> tuple[Tensor, int]:
    """A picture as the model's input, and its label, -1 where it has none."""
    picture, label = item[:2] if isinstance(item, tuple | list) else (item, -1)
    return transform(picture), int(label)

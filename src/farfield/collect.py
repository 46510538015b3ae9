"""Run a classifier once over a data set. The only place that does, for scoring."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, overload

import torch
from torch.utils.data import DataLoader, Subset

from farfield.classifier import Classifier, Transform
from farfield.classifier.classifier import PROBES, move
from farfield.data.files import Files
from farfield.errors import FarfieldWarning, InputError
from farfield.files import sweep
from farfield.identity import hash_of
from farfield.loading import Fault, Pictures, Prepared, alive, deaf, is_files, item_of, whole
from farfield.outputs import Outputs, concatenate
from farfield.store import Failure, Stored
from farfield.taps import Tap, watch

Progress = Callable[[str, int, int], None]
SHARD = 4096  # samples in a shard, about
SHOWN = 3  # unreadable samples that a warning names


@overload
def collect(
    classifier: Classifier, dataset: Pictures, *, out: None = None, batch_size: int | None = ..., workers: int | None = ..., strict: bool = ...,
    name: str | None = ..., empty: bool = ..., taps: Sequence[Tap] = ..., progress: Progress | None = ..., seconds: dict[str, float] | None = ...,
) -> Outputs: ...  # fmt: skip
@overload
def collect(
    classifier: Classifier, dataset: Pictures, *, out: str | Path, batch_size: int | None = ..., workers: int | None = ..., strict: bool = ...,
    name: str | None = ..., empty: bool = ..., taps: Sequence[Tap] = ..., progress: Progress | None = ..., seconds: dict[str, float] | None = ...,
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
    empty: bool = False,
    taps: Sequence[Tap] = (),
    progress: Progress | None = None,
    seconds: dict[str, float] | None = None,
) -> Outputs | Stored:
    """Logits, features, labels and ids of every sample, in one pass in the data set's order.

    A picture that cannot be read is left out and named in a warning (with `out`, in `Stored.failures` too); `ids` has the rows of the others.

    Args:
        classifier: what to run, on the device it is on.
        dataset: a map-style data set of pictures, of `(picture, label)`, or of dicts; the classifier's own transform is applied to each.
        out: a folder for the outputs. The same classifier and data find them there again, and a run that was stopped goes on; what could not
            be read is tried again. What is not noticed: a file changed at equal size, unless it is one of sixteen, and another device.
            Without `out` everything stays in memory.
        batch_size: samples in a forward pass; by default 256 of at most 64 x 64 pixels, else 64.
        workers: processes that load pictures; by default up to 8 for picture files, else none.
        strict: stop at the first picture that cannot be read.
        name: what messages call the data set; its own name by default.
        empty: whether a data set of which nothing can be read is fine.
        taps: further columns to make in the same pass, as `ODIN.fit(train).taps()`; in a store, columns that are there already stay.
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
    asked = {tap.name: tap for tap in taps}
    loaders = usual_workers(dataset) if workers is None else workers
    run = _Run(classifier, dataset, list(asked.values()), loaders, strict, progress, {} if seconds is None else seconds)
    if out is None:
        outputs = run.joined(run.over(_cut(range(len(dataset)), size)))
        _tell(run.failed, called, len(dataset), empty)
        return outputs
    rows = size * max(SHARD // size, 1)
    about = {"classifier": classifier.name, "data": called, "classes": run.classes}
    stored = Stored.at(out, describe(classifier, dataset, size), len(dataset), rows, run.fingerprint, about).having(tuple(asked))
    # What could not be read before is tried again: a picture may have been mended, or a disk may be back. With `strict` it stops the run as before.
    again = {f.row // rows for f in stored.failures() if strict or not isinstance(item_of(dataset, f.row, classifier.transform), Failure)}
    todo = sorted({*stored.missing(), *again})
    run.done = len(dataset) - sum(len(stored.span(shard)) for shard in todo)
    batches = {shard: _cut(stored.span(shard), size) for shard in todo}
    stream = run.over([batch for shard in todo for batch in batches[shard]])
    with closing(stream):
        for shard in todo:
            outputs = run.joined(itertools.islice(stream, len(batches[shard])))
            span = stored.span(shard)
            stored.write(shard, outputs, [failure for failure in run.failed if failure.row in span])
    sweep(stored.folder)
    _tell(stored.failures(), called, len(dataset), empty)
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


def _tell(failed: Sequence[Failure], name: str, items: int, empty: bool) -> None:
    """Warns of what was left out; raises where nothing is left."""
    if not failed:
        return
    named = "; ".join(f"{failure.name}: {failure.reason}" for failure in failed[:SHOWN])
    if len(failed) == items and not empty:
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
        "transform": hash_of(classifier.transform),
        "batch_size": batch_size,
        "autocast": autocast,
        "torch": torch.__version__,
    }


def contents(dataset: Pictures) -> str:
    """A hash of what a data set says it holds: its own, where it has one, else all that its object holds (see `identity.hash_of`).

    Of a list of files, as torchvision's data sets keep in `samples`, the sizes count too; of a `Subset`, the whole and the rows.
    """
    if callable(known := getattr(dataset, "fingerprint", None)):
        return str(known())
    if isinstance(dataset, Subset):
        return hash_of(contents(dataset.dataset), list(dataset.indices))  # type: ignore[arg-type]
    samples: Any = getattr(dataset, "samples", None)
    sizes = [_size(sample[0]) for sample in samples] if is_files(samples) else None
    return hash_of(dataset, sizes)


def _size(path: str | Path) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def _probes(dataset: Pictures, transform: Transform) -> str:
    """A hash of sixteen prepared items, which change with the transform and with files whose list does not tell."""
    found = []
    for index in sorted({round(i * (len(dataset) - 1) / 15) for i in range(16)}):
        one, again = (hash_of(item_of(dataset, index, transform)) for _ in range(2))
        if one != again:
            raise InputError(
                f"Item {index} of the data set is another picture each time it is read, so nothing can be stored; use the evaluation transform."
            )
        found.append(one)
    return hash_of(found)


class _Run:
    """One pass of one classifier over parts of one data set."""

    def __init__(
        self,
        classifier: Classifier,
        dataset: Pictures,
        taps: Sequence[Tap],
        workers: int,
        strict: bool,
        progress: Progress | None,
        seconds: dict[str, float],
    ) -> None:
        self.classifier, self.dataset, self.taps, self.workers, self.strict = classifier, dataset, taps, workers, strict
        self.progress, self.seconds = progress, seconds
        head = classifier.head
        self.head = None if head is None else head.to("cpu")
        self.classes = classifier.classes
        self.fingerprint, self.done = classifier.fingerprint(), 0
        self.failed: list[Failure] = []

    def empty(self) -> Outputs:
        """The outputs of no samples: what a shard without a readable picture has; a pass over the probe says how wide its columns are."""
        probe: Any = move(self.classifier.probe(), lambda x: x.to(self.classifier.device))
        none = torch.zeros(0, dtype=torch.int64)
        like = watch(self.classifier, probe, torch.arange(PROBES, device=self.classifier.device), self.taps).to("cpu")[:0]
        return Outputs(like.logits, like.features, none, self.head, like.taps, none, self.fingerprint)

    def joined(self, parts: Iterable[Outputs]) -> Outputs:
        """Batches as one; those without a readable picture say nothing, not even of the type."""
        return concatenate([part for part in parts if len(part)] or [self.empty()])

    def over(self, cut: Sequence[Sequence[int]]) -> Generator[Outputs, None, None]:
        """The outputs of the samples in each batch, on the CPU."""
        if not cut:
            return
        prepared = Prepared(self.dataset, self.classifier.transform)
        loader = DataLoader(prepared, batch_sampler=[list(batch) for batch in cut], num_workers=self.workers, collate_fn=whole, worker_init_fn=deaf)
        with closing(alive(loader)) as batches:
            for indices, (batch, labels, rows, failed) in zip(cut, batches, strict=True):
                self._note(failed)
                self.done += len(indices)
                if not rows:
                    yield self.empty()
                    continue
                if prepared.batched:
                    batch = self.classifier.transform(batch.to(self.classifier.device))
                started = time.perf_counter()
                outputs = watch(self.classifier, batch, torch.tensor(rows, device=self.classifier.device), self.taps).to("cpu")
                self.seconds["forward"] = self.seconds.get("forward", 0.0) + time.perf_counter() - started
                if self.progress is not None:
                    self.progress("forward", self.done, len(self.dataset))
                yield Outputs(outputs.logits, outputs.features, labels, self.head, outputs.taps, torch.tensor(rows), self.fingerprint)

    def _note(self, failed: Sequence[Failure]) -> None:
        for failure in failed:
            if self.strict or isinstance(failure, Fault):
                raise InputError(f"{failure.name} cannot be read: {failure.reason}. What is stored so far stays.")
        self.failed += failed

"""Model soups from run folders: the average of several models' weights, as a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farfield.classifier import Classifier
from farfield.collect import Progress
from farfield.errors import InputError
from farfield.files import put
from farfield.loading import item_of
from farfield.recipes.data import TrainingData
from farfield.recipes.making import save
from farfield.recipes.run import accuracy
from farfield.store import Failure
from farfield.training.soup import average, greedy, refresh_statistics

BATCH, MOST = 256, 20_000  # pictures in a batch, and in all, that BatchNorm's statistics are taken of


def soup(
    names: Sequence[str],
    source: str,
    data: TrainingData,
    out: str | Path,
    *,
    choose: bool = False,
    half: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Averages the weights of models that began with the same ones, and writes `model.safetensors` and `recipe.json` into `out`.

    BatchNorm's statistics are taken anew of training pictures, as they are in evaluation; at most 20,000, spread by a fixed shuffle.

    Args:
        names: of the models, as `Classifier.load` takes them.
        source: what they were built from.
        data: their training data, and, to choose by, validation data that no result will be of.
        out: the run folder.
        choose: whether a model is left out where the accuracy falls with it (the greedy soup), in place of averaging all.
        half: whether the model is kept in 16 bits.
        progress: called with what is done, how far, and out of how much.

    Returns:
        Which models are in it.

    Raises:
        InputError: for models of several architectures, other groups of classes, or nothing to choose by.
    """
    if len(names) < 2:
        raise InputError(f"A soup is of two models or more; got {len(names)}.")
    models = [Classifier.load(name) for name in names]
    first = models[0]
    for name, model in zip(names, models, strict=True):
        if model.labels != first.labels or (model.groups is None) != (first.groups is None) or not _same(model.groups, first.groups):
            raise InputError(f"{name} and {names[0]} tell other classes apart, or in another order, so their average means nothing.")
    if choose and data.val is None:
        raise InputError("To choose the models of a soup, give validation data with --val: pictures that no result will be of.")
    states = [model.module.state_dict() for model in models]

    def fill(state: Mapping[str, Tensor]) -> None:
        first.module.load_state_dict(state)
        refresh_statistics(first.module, _batches(first, data.train), first.call)

    def score(state: dict[str, Tensor]) -> float:
        fill(state)
        return float(accuracy(first, data.val, progress=progress)["accuracy"])

    kept = [{key: value.clone() for key, value in state.items()} for state in states]
    mixed, chosen = greedy(kept, score) if choose else (average(kept), list(range(len(kept))))
    fill(mixed)
    folder = Path(out)
    told = {
        "name": "soup",
        "model": source,
        "start": None,
        **data.told,
        "soup": list(names),
        "greedy": choose,
        "reached": {"chosen": [names[i] for i in chosen]},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put(folder / "recipe.json", lambda path: path.write_text(json.dumps(told, indent=2), "utf-8"))
        save(first, folder / "model.safetensors", source, {"recipe": told}, half=half)
    except OSError as error:
        raise InputError(f"The soup cannot be written to {folder}: {error}. Make room, or give another folder.") from error
    return {"chosen": [names[i] for i in chosen]}


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is None or other is None or torch.equal(one, other)


def _batches(classifier: Classifier, pictures: Any) -> Iterator[Tensor]:
    """Training pictures as the model takes them, in an order that mixes the classes."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))[:MOST].tolist()
    for start in range(0, len(order), BATCH):
        items = [item_of(pictures, row, classifier.transform) for row in order[start : start + BATCH]]
        inputs: list[Any] = [item[0] for item in items if not isinstance(item, Failure)]
        if len(inputs) > 1:
            yield torch.stack(inputs).to(classifier.device)

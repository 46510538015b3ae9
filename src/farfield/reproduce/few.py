"""A suite cut down to what a dry run needs: some classes, a few pictures of each set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from farfield import inputs
from farfield.data.images import Images, Suite
from farfield.stats import hashed

CLASSES = 33  # about so many; spread over all, so that every group of a taxonomy keeps some
TRAIN, OTHERS, FAMILY = 400, 100, 6  # pictures of the training set, of another, and of a named part of one


def kept(classes: int) -> range:
    """The classes that are left of so many."""
    return range(0, classes, max(1, classes // CLASSES))


def few_of(suite: Suite) -> Suite:
    """Some classes of a suite of pictures in memory, with a few pictures of each set; `shifted` sets are left out.

    >>> from farfield.data import suites
    >>> small = few_of(suites.load("glyphs-200"))
    >>> len(small.classes), len(small.split("train")), [len(s.load()) for s in small.ood]
    (34, 400, [100, 100, 100, 102])
    """
    some = kept(len(suite.classes))
    numbers = {label: i for i, label in enumerate(some)}
    taxonomy = {group: tuple(numbers[c] for c in members if c in numbers) for group, members in suite.taxonomy.items()}
    splits = {name: partial(_few, load, numbers, TRAIN if name == "train" else OTHERS) for name, load in suite.splits.items()}
    sets = tuple(replace(ood, load=partial(_few, ood.load, numbers, OTHERS)) for ood in suite.ood if ood.group != "shifted")
    classes = tuple(suite.classes[label] for label in some)
    train = splits["train"]
    return replace(
        suite,
        name=f"{suite.name}-few",
        classes=classes,
        taxonomy={group: members for group, members in taxonomy.items() if members},
        splits=splits,
        ood=sets,
        validation=(),
        drawn=lambda epoch: train(),
    )


def limited(suite: Suite, limit: int | None) -> Suite:
    """A suite with at most `limit` samples of each set, spread over it; of the training set at least two of each class, so that it has some spread."""
    if limit is None:
        return suite
    splits = {name: partial(_limited, load, limit, len(suite.classes) if name == "train" else 0) for name, load in suite.splits.items()}
    sets = (tuple(replace(ood, load=partial(_limited, ood.load, limit, 0)) for ood in group) for group in (suite.ood, suite.validation))
    ood, validation = sets
    return replace(suite, splits=splits, ood=ood, validation=validation, drawn=None)


def _limited(load: Callable[[], Any], limit: int, classes: int) -> Any:
    data = load()
    labels = getattr(data, "labels", None)
    if not classes or labels is None or not hasattr(data, "only"):
        return inputs.limited(data, max(limit, 2 * classes))
    return data.only(balanced(labels, max(2, limit // classes)).tolist())


def balanced(labels: Tensor, each: int) -> Tensor:
    """The rows of so many samples of each class: those with the lowest hash of their row, in order.

    >>> labels = torch.tensor([0, 1, 0, 1, 0])
    >>> labels[balanced(labels, 2)].bincount()
    tensor([2, 2])
    """
    by_hash = hashed(torch.arange(len(labels)), 0).argsort()
    order = by_hash[labels[by_hash].argsort(stable=True)]
    ordered = labels[order]
    place = torch.arange(len(ordered)) - torch.searchsorted(ordered, ordered)
    return order[place < each].sort().values


def _few(load: Callable[[], Images], numbers: dict[int, int], most: int) -> Images:
    """Pictures of some classes, or of none, spread over the set and its parts."""
    images = load()
    if images.parts:
        rows = torch.cat([torch.arange(span.start, span.start + FAMILY) for span in images.parts.values()])
        parts = {name: slice(i * FAMILY, (i + 1) * FAMILY) for i, name in enumerate(images.parts)}
        return replace(images, images=images.images[rows], labels=images.labels[rows], parts=parts)
    renumbered = _renumbered(images.labels, numbers)
    rows = (renumbered > -2).nonzero()[:, 0]
    rows = rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]
    clusters = None if images.clusters is None else images.clusters[rows]
    return replace(images, images=images.images[rows], labels=renumbered[rows], clusters=clusters)


def _renumbered(labels: Tensor, numbers: dict[int, int]) -> Tensor:
    """Each label by its number among the classes that are kept; -1 stays, and -2 is a class that is not kept."""
    table = torch.full((max(int(labels.max()) + 1, *(label + 1 for label in numbers)) + 1,), -2)
    table[-1] = -1  # a label of -1 finds the last place
    table[list(numbers)] = torch.tensor(list(numbers.values()))
    return table[labels]

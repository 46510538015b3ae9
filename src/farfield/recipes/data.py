"""From what a person writes to training data: pictures and their classes, what may be done to them, and what accuracy is measured on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from farfield import inputs
from farfield.classifier import Classifier
from farfield.data import suites
from farfield.data.files import Files
from farfield.data.hub import Hub
from farfield.data.order import read_class_map
from farfield.errors import FarfieldWarning, InputError, nearest
from farfield.loading import name_of
from farfield.outputs import Outputs
from farfield.recipes.views import Views, normalization
from farfield.store import Stored
from farfield.training import Draws


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on.

    Args:
        train: pictures with labels, or a classifier's outputs of them.
        classes: how many there are.
        labels: their names, in order, if they have any.
        val: what accuracy is measured on; `None` for nothing.
        drawn: the pictures of an epoch, where each has its own.
        augmentations: what may be done to a picture without changing its label, as a suite says it; `None` for anything.
        taxonomy: a suite's groups of classes.
        told: what `recipe.json` says of all this.
    """

    train: Any
    classes: int
    labels: tuple[str, ...] | None = None
    val: Any = None
    drawn: Callable[[int], Any] | None = None
    augmentations: tuple[str, ...] | None = None
    taxonomy: Mapping[str, tuple[int, ...]] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


def open_training(
    text: str,
    val: str | None = None,
    *,
    classifier: Classifier | None = None,
    class_map: Path | None = None,
    root: Path | None = None,
    limit: int | None = None,
) -> TrainingData:
    """The training data a text means: a suite by name, or labelled data as `inputs.open_data` reads them.

    A folder with `train` and one of `val`, `valid`, `validation` and `test` in it has both. With a `classifier`, classes are its own where the names of
    the data's are among its labels or there are as many; otherwise they are those of the data.

    Raises:
        InputError: when there is no such thing, no labels, or labels that do not fit.
    """
    told = {"data": text, "val": val, "limit": limit, "class_map": _text(class_map), "root": _text(root)}
    if suites.is_suite(text):
        if class_map is not None:
            raise InputError(f"--class-map is for folders and lists; {text} is a suite, which has its own classes.")
        if root is not None and text in suites.SUITES:
            raise InputError(f"--root is where data lie, and {text} is drawn on the spot. Leave it out.")
        suite = suites.load(text, root)
        if "train" not in suite.splits:
            raise InputError(f"{text} has no training data.")
        mine = inputs.limited(suite.split("train"), limit)
        drawn = suite.drawn if limit is None else None
        seen = suite.split("test") if val is None else _labelled(val, len(suite.classes), suite.classes, None, root)
        augmentations = suite.augmentations if text in suites.SUITES or suite.augmentations else None
        return TrainingData(mine, len(suite.classes), suite.classes, inputs.limited(seen, limit), drawn, augmentations, suite.taxonomy or None, told)
    order = None if class_map is None else read_class_map(class_map)
    place, beside = _layout(text)
    data: Any = inputs.open_data(place, name="train", labelled=True, root=root)
    if isinstance(data, Outputs | Stored):
        classes = _of_outputs(data, place, classifier)
        return TrainingData(inputs.limited(data, limit), classes, None, None, told=told)
    names = sorted(set(data.folders)) if isinstance(data, Files | Hub) and data.folders else []
    own = tuple(getattr(data, "classes", ()) or ())
    labels = None if classifier is None else classifier.labels
    if order is not None:
        classes = max(order.values()) + 1
    elif classifier is not None and (not names or len(names) == classifier.classes or (labels and set(names) <= set(labels))):
        classes = classifier.classes
    else:
        classes = len(names) or len(own) or _count(data, place)
        labels = None
    if classes < 2:
        raise InputError(f"{place} has one class only{f', {names[0]!r}' if names else ''}; there is nothing to tell apart. Give pictures of several.")
    data = inputs.labelled_data(data, classes, labels, order)
    check_labels(data, classes, place)
    known = inputs.class_names(data, classes) or own
    if labels is not None and len(labels) == classes:
        known = tuple(labels)
    if order is None and names:
        order = dict(zip(data.folders, data.labels.tolist(), strict=True))
    seen = None if (val or beside) is None else inputs.limited(_labelled(str(val or beside), classes, known or labels, order, root), limit)
    return TrainingData(inputs.limited(data, limit), classes, known if len(known) == classes else None, seen, told=told)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _layout(text: str) -> tuple[str, str | None]:
    """Where training and validation pictures are in a folder that has both."""
    folder = Path(text)
    if not (folder / "train").is_dir():
        return text, None
    beside = [folder / name for name in ("val", "valid", "validation", "test") if (folder / name).is_dir()]
    return (str(folder / "train"), str(beside[0])) if beside else (text, None)


def _labelled(text: str, classes: int, labels: Sequence[str] | None, order: Mapping[str, int] | None, root: Path | None) -> Any:
    data: Any = inputs.open_data(text, name="val", labelled=True, root=root)
    if isinstance(data, Outputs | Stored):
        raise InputError(f"{text} is what another classifier said; accuracy is measured on pictures.")
    if order is not None and (strange := [name for name in getattr(data, "folders", ()) if name not in order]):
        raise InputError(
            f"The folder {strange[0]!r} of {text} is no class of the training data{nearest(strange[0], order)} Give validation pictures of the same classes."
        )
    data = inputs.labelled_data(data, classes, labels, order)
    check_labels(data, classes, text)
    return data


def _of_outputs(data: Outputs | Stored, text: str, classifier: Classifier | None) -> int:
    """How many classes stored outputs are of."""
    if classifier is None:
        raise InputError(f"{text} is what a classifier said already; to train one from random weights, give pictures.")
    first = data if isinstance(data, Outputs) else next(iter(data))
    if first.labels is None or first.features is None:
        raise InputError(f"{text} lacks {'labels' if first.labels is None else 'features'}, which training the head needs.")
    if first.fingerprint is not None and first.fingerprint != classifier.fingerprint():
        raise InputError(f"{text} is what another model than {classifier.name} said. Give that model's outputs.")
    return classifier.classes


def labels_in(data: Any) -> Tensor | None:
    """The labels of a data set, where it tells them without reading its pictures."""
    for name in ("labels", "targets"):
        found = getattr(data, name, None)
        if found is not None and len(found) == len(data):
            return torch.as_tensor(found)
    dataset = getattr(data, "dataset", None)
    inside = None if dataset is None else labels_in(dataset)
    rows = getattr(data, "rows", getattr(data, "indices", None))
    return None if inside is None or rows is None else inside[torch.as_tensor(rows)]


def _count(data: Any, text: str) -> int:
    labels = labels_in(data)
    if labels is None or len(labels) == 0 or int(labels.max()) < 0:
        raise InputError(f"{text} has no classes: give a folder with a sub-folder for each, or a data set that has `classes` or `targets`.")
    return int(labels.max()) + 1


def check_labels(data: Any, classes: int, text: str) -> None:
    """Raises where a label is none of the classes, as far as labels are known before pictures are read."""
    labels = labels_in(data)
    if labels is None:
        return
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"{name_of(data, row)} of {text} has the label {int(labels[row])}, and the classes are 0 to {classes - 1}. Training needs a class for each."
        )


def featured(
    text: str,
    classifier: Classifier,
    val: str | None = None,
    *,
    class_map: Path | None = None,
    root: Path | None = None,
    limit: int | None = None,
) -> TrainingData:
    """What a classifier said of its training data, from a store or arrays, to train its head on."""
    found: Any = inputs.open_data(text, name="train")
    if not isinstance(found, Outputs | Stored):
        raise InputError(f"{text} is pictures, not what a classifier said of them; give it as --data.")
    _of_outputs(found, text, classifier)
    order = None if class_map is None else read_class_map(class_map)
    if val is not None and suites.is_suite(val):
        seen = suites.load(val, root).split("test")
    else:
        seen = None if val is None else _labelled(val, classifier.classes, classifier.labels, order, root)
    told = {"features": text, "val": val, "limit": limit, "class_map": _text(class_map), "root": _text(root)}
    return TrainingData(inputs.limited(found, limit), classifier.classes, classifier.labels, seen, told=told)


def outlier_pictures(text: str, classifier: Classifier, limit: int) -> UInt8[Tensor, "m 3 h w"]:
    """Pictures without classes in memory, as the classifier sees them in evaluation; at most `limit`, spread over the data."""
    data: Any = inputs.limited(inputs.unlabelled(inputs.open_data(text, name="outliers")), limit)
    if isinstance(data, Outputs | Stored):
        raise InputError(f"{text} is what a classifier said of outliers; training needs the pictures.")
    views = Views(data, classifier.transform, normalization(classifier.transform, classifier.name), 0)
    rows = torch.arange(len(data))
    pictures, _, failed = views.drawn(rows.tolist(), Draws(0, 0, rows))
    if failed:
        warnings.warn(f"{len(failed)} outliers cannot be read, and others stand in for them; first {failed[0]}.", FarfieldWarning, stacklevel=2)
    return pictures

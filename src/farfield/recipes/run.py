"""From a classifier, data and a recipe to a run folder: the trained model, the recipe that reproduces it, and its records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from farfield.classifier import Classifier
from farfield.classifier.surgery import new_head, put_head
from farfield.collect import Progress, collect
from farfield.data.transforms import Normalize
from farfield.errors import InputError
from farfield.outputs import Outputs
from farfield.recipes.catalogue import Entry, bit_hyperrule
from farfield.recipes.making import head_layer, save, set_dropout, train_only
from farfield.recipes.views import Views, is_ready, normalization
from farfield.store import Stored
from farfield.training import Draws, Recipe, make_objective, train
from farfield.training.features import FeatureSet
from farfield.training.groups import layout
from farfield.training.last_layer import retrain
from farfield.training.pictures import allowed, crop, erase, flip, trivial


@dataclass(frozen=True)
class Setting:
    """What a run is of, beside the recipe.

    Args:
        name: of the recipe.
        source: what the model was built from.
        data: what is trained on: pictures with labels, a function from the epoch to them, or a classifier's `Outputs` for what trains the head alone.
        told: what the run's recipe.json is to say of the data; it must be the same for a run to go on.
        augmentations: what may be done to a picture without changing its label, as a suite says it; `None` for anything.
        groups: of classes, for MOS.
        outliers: 8-bit pictures of the model's size, for outlier exposure.
        penalty: of AugDelete, where it follows.
        half: whether the model is kept in 16 bits.
        workers: processes that load pictures.
        strict: whether to stop at a picture that cannot be read.
    """

    name: str
    source: str
    data: Any
    told: Mapping[str, Any]
    augmentations: Sequence[str] | None = None
    groups: Sequence[Sequence[int]] | None = None
    outliers: UInt8[Tensor, "m 3 h w"] | None = None
    penalty: float = 5e-4
    half: bool = False
    workers: int = 0
    strict: bool = False


def run(classifier: Classifier, entry: Entry, setting: Setting, out: str | Path, *, progress: Progress | None = None) -> list[dict[str, float]]:
    """Trains a classifier in place as a recipe says, and writes `model.safetensors`, `recipe.json` and `metrics.jsonl` into `out`.

    Stop it at any moment; called again with the same arguments it goes on, and ends with the same weights.

    Args:
        classifier: where training starts, with a head for the classes of the data.
        entry: the recipe.
        setting: the rest.
        out: the run folder.
        progress: called with what is done, how far, and out of how much.

    Returns:
        One record per epoch.

    Raises:
        InputError: for data, options or a folder that do not fit.
    """
    folder = Path(out)
    first = setting.data(0) if callable(setting.data) else setting.data
    recipe = fitting(entry.recipe, setting.augmentations)
    recipe = bit_hyperrule(recipe, len(first)) if setting.name == "mos-bit" and not recipe.steps else recipe
    normalize = normalization(classifier.transform, classifier.name)
    if recipe.objective == "mos":
        groups = layout(setting.groups or [range(classifier.classes)])
        if int((groups >= 0).sum()) != classifier.classes:
            raise InputError(f"The groups have {int((groups >= 0).sum())} classes and {classifier.name} has {classifier.classes}.")
        new_head(classifier, classifier.classes, groups)
    if recipe.dropout:
        set_dropout(classifier.module, recipe.dropout)
    train_only(classifier, recipe.layers)
    layer = head_layer(classifier)
    objective = make_objective(recipe.objective, recipe.options, **_given(recipe, classifier, layer, setting))
    about = {"name": setting.name, "model": setting.source, **setting.told}
    if setting.groups is not None and recipe.objective == "mos":
        about["groups"] = [list(group) for group in setting.groups]
    if recipe.layers == "head" and not (recipe.augment or recipe.dropout):
        found = FeatureSet(features_of(classifier, first, folder, setting, progress))
        history = train(layer, found, recipe, transform=_as_it_is, out=folder, objective=objective, about=about, progress=progress)
    else:
        augment, erased = augmentations(recipe, setting.augmentations)
        view = partial(_views, classifier, normalize, recipe, setting)
        data: Any = (lambda epoch: view(setting.data(epoch))) if callable(setting.data) else view(first)
        history = train(
            classifier.module, data, recipe, transform=normalize, out=folder, objective=objective, augment=augment, erase=erased, call=classifier.call,
            head=layer, about=about, workers=setting.workers, progress=progress,
        )  # fmt: skip
    objective.after(layer)
    classifier.module.requires_grad_(True)
    classifier.module.eval()
    facts: dict[str, Any] = {"recipe": json.loads((folder / "recipe.json").read_text("utf-8")), "train_accuracy": history[-1]["accuracy"]}
    if entry.then == "augdelete":
        head = classifier.head
        assert head is not None
        retrained = retrain(head, features_of(classifier, first, folder, setting, progress), penalty=setting.penalty, progress=progress)
        put_head(classifier, retrained.head)
        facts["augdelete"] = retrained.told()
    save(classifier, folder / "model.safetensors", setting.source, facts, half=setting.half)
    return history


def fitting(recipe: Recipe, augmentations: Sequence[str] | None) -> Recipe:
    """A recipe without the augmentations that would change a label: random parts and mirror images, where a suite does not list them."""
    if augmentations is None:
        return recipe
    return replace(recipe, augment=tuple(name for name in recipe.augment if name not in ("crop", "flip") or name in augmentations))


def augmentations(
    recipe: Recipe, known: Sequence[str] | None
) -> tuple[Callable[[Tensor, Draws], Tensor] | None, Callable[[Tensor, Draws], Tensor] | None]:
    """What is done to a batch of pictures, and to a batch of inputs."""
    operations = None if known is None else allowed(known)

    def augment(pictures: Tensor, draws: Draws) -> Tensor:
        pictures = flip(pictures, draws) if "flip" in recipe.augment else pictures
        return trivial(pictures, draws, operations) if "trivial" in recipe.augment else pictures

    return augment if {"flip", "trivial"} & set(recipe.augment) else None, erase if "erase" in recipe.augment else None


def features_of(classifier: Classifier, data: Any, folder: Path, setting: Setting, progress: Progress | None) -> Outputs | Stored:
    """What the classifier says of the training data as in evaluation; stored in the run folder, unless it was given."""
    if isinstance(data, Outputs | Stored):
        return data
    classifier.module.eval()
    return collect(classifier, data, out=folder / "store", workers=setting.workers or None, strict=setting.strict, progress=progress)


def _given(recipe: Recipe, classifier: Classifier, layer: Any, setting: Setting) -> dict[str, Any]:
    """What an objective needs to know of the classifier and the data."""
    if recipe.objective == "mos":
        return {"groups": classifier.groups}
    if recipe.objective == "npos":
        return {"features": layer.weight.flatten(1).shape[1], "classes": classifier.classes}
    if recipe.objective == "augmix" and setting.augmentations is not None:
        return {"operations": allowed(setting.augmentations)}
    return {} if setting.outliers is None else {"outliers": setting.outliers}


def _views(classifier: Classifier, normalize: Normalize, recipe: Recipe, setting: Setting, data: Any) -> Any:
    """The training pictures as the loop takes them."""
    size = classifier.input_size
    if not isinstance(size, tuple) or len(size) != 3:
        raise InputError(f"{classifier.name} takes inputs of size {size}; recipes are for models of one picture (3, h, w).")
    random_parts = "crop" in recipe.augment
    if is_ready(data, size) and not random_parts:
        return data
    return Views(data, classifier.transform, normalize, size[1], crop if random_parts else None, setting.strict)


def _as_it_is(features: Tensor) -> Tensor:
    return features.to(torch.float32)

"""From a classifier, data and a recipe to a run folder: the trained model, the recipe that reproduces it, and its records."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from farfield import metrics
from farfield.classifier import Classifier
from farfield.classifier.surgery import new_head, put_head
from farfield.collect import Progress, collect
from farfield.data.transforms import Normalize
from farfield.errors import FarfieldWarning, InputError
from farfield.files import put
from farfield.outputs import Outputs
from farfield.recipes.catalogue import Entry, bit_hyperrule
from farfield.recipes.data import TrainingData, labels_in
from farfield.recipes.making import head_layer, save, set_dropout, train_only
from farfield.recipes.views import Views, is_ready, normalization, side_of
from farfield.store import Stored
from farfield.training import Draws, Net, Recipe, make_objective, train
from farfield.training.features import FeatureSet
from farfield.training.groups import layout, make_groups
from farfield.training.last_layer import retrain
from farfield.training.operations import allowed
from farfield.training.pictures import crop, erase, flip, trivial


@dataclass(frozen=True)
class Setting:
    """What a run is of, beside the recipe.

    Args:
        source: what the model was built from.
        data: what it is trained on.
        start: the model that training starts from; nothing for random weights.
        groups: of the head, for MOS; see `groups_of`. One group of all classes by default.
        outliers: 8-bit pictures of the model's size, for outlier exposure.
        penalty: of AugDelete.
        half: whether the model is kept in 16 bits.
        workers: processes that load pictures.
        strict: whether to stop at a picture that cannot be read.
        told: what else `recipe.json` is to say, such as where the outliers are.
    """

    source: str
    data: TrainingData
    start: str | None = None
    groups: Int64[Tensor, " c"] | None = None
    outliers: UInt8[Tensor, "m 3 h w"] | None = None
    penalty: float = 5e-4
    half: bool = False
    workers: int = 0
    strict: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


def run(
    classifier: Classifier, name: str, entry: Entry, setting: Setting, out: str | Path, *, progress: Progress | None = None
) -> list[dict[str, float]]:
    """Trains a classifier in place as a recipe says, and writes `model.safetensors`, `recipe.json` and `metrics.jsonl` into `out`.

    Stop it at any moment; called again with the same arguments it goes on, and ends with the same weights.

    Args:
        classifier: where training starts; it gets another head where the data have other classes.
        name: of the recipe.
        entry: the recipe.
        setting: the rest.
        out: the run folder.
        progress: called with what is done, how far, and out of how much.

    Returns:
        One record per epoch. Of several processes the first alone writes the model.

    Raises:
        InputError: for data, options or a folder that do not fit.
    """
    folder, data = Path(out), setting.data
    recipe = fitting(entry.recipe, data.augmentations)
    if name == "mos-bit" and not recipe.steps:
        recipe = bit_hyperrule(recipe, len(data.train))
    if entry.then == "augdelete":
        _check_augdelete(setting)
    # before the head is another, so that the pass is the one that k-means has made
    known = on_features(recipe) and classifier.groups is None and classifier.classes == data.classes
    features = features_of(classifier, setting, folder, progress) if known else None
    if recipe.objective == "mos":
        groups = layout([range(data.classes)]) if setting.groups is None else setting.groups
        if int((groups >= 0).sum()) != data.classes:
            raise InputError(f"The groups have {int((groups >= 0).sum())} classes and the data have {data.classes}.")
        new_head(classifier, data.classes, groups)
    elif classifier.classes != data.classes or classifier.groups is not None:
        new_head(classifier, data.classes)
    classifier.labels = data.labels
    if recipe.dropout:
        set_dropout(classifier.module, recipe.dropout)
    if recipe.sharpness != "none" and recipe.statistics == "frozen" and any(isinstance(part, _BatchNorm) for part in classifier.module.modules()):
        warnings.warn(
            f"{classifier.name} has BatchNorm, which sharpness-aware fine-tuning does not suit, by its paper; the running statistics stay as they are.",
            FarfieldWarning,
            stacklevel=2,
        )
    train_only(classifier, recipe.layers)
    layer = head_layer(classifier)
    objective = make_objective(recipe.objective, recipe.options, **_given(recipe, classifier, layer, setting))
    about = {"name": name, "model": setting.source, "start": setting.start, **data.told, **setting.told, "half": setting.half, "then": entry.then}
    if entry.then == "augdelete":
        about["penalty"] = setting.penalty
    if recipe.objective == "mos":
        about["groups"] = groups.tolist()
    if on_features(recipe):
        found = FeatureSet(features_of(classifier, setting, folder, progress) if features is None else features)
        history = train(layer, found, recipe, transform=_as_it_is, out=folder, objective=objective, call=_of_rows, about=about, progress=progress)
    else:
        normalize = normalization(classifier.transform, classifier.name)
        augment, erased = augmentations(recipe, data.augmentations)
        view = partial(_views, classifier, normalize, recipe, setting)
        drawn = data.drawn
        pictures: Any = view(data.train) if drawn is None else lambda epoch: view(drawn(epoch))
        history = train(
            classifier.module, pictures, recipe, transform=normalize, out=folder, objective=objective, augment=augment, erase=erased, call=classifier.call,
            head=layer, about=about, workers=setting.workers, progress=progress,
        )  # fmt: skip
    if not first_process():
        return history
    objective.after(Net(classifier.module, classifier.call, layer))
    classifier.module.requires_grad_(True)
    classifier.module.eval()
    facts: dict[str, Any] = {"recipe": _told(folder), "train_accuracy": history[-1]["accuracy"]}
    if entry.then == "augdelete":
        facts["augdelete"] = _augdelete(classifier, setting, folder, 1.0, recipe.seed, progress)
        put(folder / "augdelete.json", lambda path: path.write_text(json.dumps(facts["augdelete"], indent=2), "utf-8"))
    _keep(classifier, folder, setting, facts)
    return history


def _keep(classifier: Classifier, folder: Path, setting: Setting, facts: dict[str, Any]) -> None:
    try:
        save(classifier, folder / "model.safetensors", setting.source, facts, half=setting.half)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"The model cannot be written to {folder}: {error}. What is there stays; make room and run the same command again."
        ) from error


def _check_augdelete(setting: Setting) -> None:
    """Raises before training for what would be found out after it."""
    if not (setting.penalty > 0 and math.isfinite(setting.penalty)):
        raise InputError(f"AugDelete needs a penalty above 0; got {setting.penalty}.")
    labels = labels_in(setting.data.train)
    absent = [] if labels is None else sorted(set(range(setting.data.classes)) - set(labels.tolist()))
    if absent:
        raise InputError(
            f"Class {absent[0]} has no training picture ({len(absent)} of {setting.data.classes} have none), and AugDelete, which follows in the end, needs "
            "some of each. Give more of the data, or leave it out with --then none."
        )


def augdelete(
    classifier: Classifier, setting: Setting, out: str | Path, *, fraction: float = 1.0, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Puts the last layer at the optimum of plain cross-entropy, and writes `model.safetensors` and `recipe.json` into `out`.

    Returns:
        What was done and reached; see `farfield.training.last_layer.Retrained`.
    """
    folder = Path(out)
    told = {
        "name": "augdelete",
        "model": setting.source,
        "start": setting.start,
        **setting.data.told,
        **setting.told,
        "half": setting.half,
        "fraction": fraction,
        "penalty": setting.penalty,
        "seed": seed,
    }
    if (folder / "recipe.json").exists():
        before = _told(folder)
        if not isinstance(before, dict) or {key: value for key, value in before.items() if key != "reached"} != told:
            raise InputError(f"{folder} holds a run of another recipe (its recipe.json differs). Give another folder, or delete this one.")
    reached = _augdelete(classifier, setting, folder, fraction, seed, progress)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put(folder / "recipe.json", lambda path: path.write_text(json.dumps({**told, "reached": reached}, indent=2), "utf-8"))
    except OSError as error:
        raise InputError(f"The run cannot be written to {folder}: {error}. Make room, or give another folder.") from error
    _keep(classifier, folder, setting, {"recipe": told, "augdelete": reached})
    return reached


def _augdelete(classifier: Classifier, setting: Setting, folder: Path, fraction: float, seed: int, progress: Progress | None) -> dict[str, Any]:
    head = classifier.head
    if head is None:
        raise InputError(f"{classifier.name} has no linear head that could be found, so there is no last layer to retrain.")
    found = features_of(classifier, setting, folder, progress)
    reached = retrain(head, found, penalty=setting.penalty, fraction=fraction, seed=seed, progress=progress)
    put_head(classifier, reached.head)
    return {name: value for name, value in vars(reached).items() if name not in ("head", "seconds")}


def accuracy(
    classifier: Classifier, val: Any, *, workers: int | None = None, strict: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Accuracy on labelled pictures with its 95 % interval (Clopper and Pearson)."""
    said = collect(classifier, val, workers=workers, strict=strict, name="val", progress=progress)
    assert said.labels is not None
    hits = int((said.predictions() == said.labels).sum())
    low, high = metrics.proportion_interval(hits, len(said))
    return {"accuracy": hits / len(said), "interval": [low, high], "n": len(said)}


def groups_of(
    how: str, classifier: Classifier, setting: Setting, out: str | Path, k: int | None = None, seed: int = 0, progress: Progress | None = None
) -> Int64[Tensor, " c"]:
    """The groups of a head for MOS: `suite`, `kmeans` of the classifier's features, `random`, or a taxonomy's file.

    Raises:
        InputError: for groups that do not hold every class once, or more groups than classes.
    """
    data = setting.data
    found = features_of(classifier, setting, Path(out), progress) if how == "kmeans" else None
    return make_groups(how, data.classes, k=k, labels=data.labels, taxonomy=data.taxonomy, data=found, seed=seed)


def fitting(recipe: Recipe, known: Sequence[str] | None) -> Recipe:
    """A recipe without the augmentations that would change a label: random parts and mirror images, where a suite does not list them."""
    if known is None:
        return recipe
    return replace(recipe, augment=tuple(name for name in recipe.augment if name not in ("crop", "flip") or name in known))


def first_process() -> bool:
    """Whether this is the process that writes and speaks, of however many train together."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def on_features(recipe: Recipe) -> bool:
    """Whether a recipe needs nothing but what the classifier said of the pictures once."""
    return recipe.layers == "head" and not recipe.augment and not recipe.dropout


Augment = Callable[[Tensor, Draws], Tensor]


def augmentations(recipe: Recipe, known: Sequence[str] | None) -> tuple[Augment | None, Augment | None]:
    """What is done to a batch of pictures, and to a batch of inputs."""
    operations = None if known is None else allowed(known)

    def augment(pictures: Tensor, draws: Draws) -> Tensor:
        pictures = flip(pictures, draws) if "flip" in recipe.augment else pictures
        return trivial(pictures, draws, operations) if "trivial" in recipe.augment else pictures

    return augment if {"flip", "trivial"} & set(recipe.augment) else None, erase if "erase" in recipe.augment else None


def features_of(classifier: Classifier, setting: Setting, folder: Path, progress: Progress | None) -> Outputs | Stored:
    """What the classifier says of the training data as in evaluation; stored in the run folder, unless it was given."""
    data = setting.data.train
    if isinstance(data, Outputs | Stored):
        return data
    classifier.module.eval()
    return collect(classifier, data, out=folder / "store", workers=setting.workers or None, strict=setting.strict, name="train", progress=progress)


def _told(folder: Path) -> Any:
    try:
        return json.loads((folder / "recipe.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'recipe.json'} cannot be read: {error}. Give another folder.") from error


def _given(recipe: Recipe, classifier: Classifier, layer: Any, setting: Setting) -> dict[str, Any]:
    """What an objective needs to know of the classifier and the data."""
    if recipe.objective == "mos":
        return {"groups": classifier.groups}
    if recipe.objective == "npos":
        return {"features": layer.weight.flatten(1).shape[1], "classes": classifier.classes}
    if recipe.objective == "augmix" and setting.data.augmentations is not None:
        return {"operations": allowed(setting.data.augmentations)}
    return {} if setting.outliers is None else {"outliers": setting.outliers}


def _views(classifier: Classifier, normalize: Normalize, recipe: Recipe, setting: Setting, data: Any) -> Any:
    """The training pictures as the loop takes them."""
    if isinstance(data, Outputs | Stored):
        raise InputError("This recipe looks at pictures, and the data are what a classifier said of them. Give pictures.")
    size = classifier.input_size
    if not isinstance(size, tuple) or len(size) != 3:
        raise InputError(f"{classifier.name} takes inputs of size {size}; recipes are for models of one picture (3, h, w).")
    random_parts = "crop" in recipe.augment
    if is_ready(data, classifier.transform, size) and not random_parts:
        return data
    return Views(data, classifier.transform, normalize, side_of(classifier.transform, size[1]), crop if random_parts else None, setting.strict)


def _of_rows(layer: nn.Module, features: Tensor) -> Tensor:
    """The logits of features `(n, d)`; a convolution takes them as maps of one pixel."""
    rows = features[:, :, None, None] if isinstance(layer, nn.Conv2d) else features
    logits: Tensor = layer(rows)
    return logits.flatten(1)


def _as_it_is(features: Tensor) -> Tensor:
    return features.to(torch.float32)

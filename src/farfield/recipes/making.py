"""The classifier a recipe trains: made anew or taken as it is, with the head its data need; and the file of what came out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from farfield import models
from farfield.classifier import Classifier
from farfield.classifier.sources import FETCHED, KINDS
from farfield.classifier.surgery import new_head
from farfield.data.transforms import Normalize, Preprocess
from farfield.errors import FarfieldWarning, InputError, nearest
from farfield.files import put
from farfield.recipes.views import normalization, side_of

SIDE = 32  # pixels, of our own architectures


def fresh(source: str, classes: int, *, seed: int = 0, preprocess: str | None = None) -> Classifier:
    """A classifier with random weights: one of our architectures, or a zoo:, timm:, torchvision:, hf: or python: model.

    Args:
        source: its name.
        classes: how many it is to tell apart.
        seed: of its weights.
        preprocess: in place of the model's own, see `Preprocess.parse`; our own architectures take 32 x 32 pixels around a half.
    """
    torch.manual_seed(seed)
    transform: Any = None if preprocess is None else Preprocess.parse(preprocess)
    if source in models.ARCHITECTURES:
        own = transform or Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), size=SIDE)
        if side_of(own, SIDE) != SIDE:
            raise InputError(
                f"A {source} takes pictures of {SIDE} x {SIDE} pixels, and --preprocess makes them {side_of(own, SIDE)} wide. Say crop={SIDE}."
            )
        module = models.build(source, classes).to(memory_format=torch.channels_last)
        return Classifier.wrap(module, transform=own, name=source, input_size=(3, SIDE, SIDE))
    if source.partition(":")[0] not in KINDS:
        known = ", ".join(models.ARCHITECTURES)
        raise InputError(
            f"{source!r} cannot be trained from random weights{nearest(source, models.ARCHITECTURES)} There are {known}, zoo:NAME, timm:NAME, torchvision:NAME, hf:NAME and "
            "python:module:function; a trained model is trained further by `farfield finetune`."
        )
    fetched = source.partition(":")[0] in FETCHED
    classifier = Classifier.load(source, transform=transform, random_weights=fetched)
    if classifier.classes != classes:
        new_head(classifier, classes)
        torch.manual_seed(seed)
        layer: Any = head_layer(classifier)
        layer.reset_parameters()
    classifier.labels = None
    return classifier


def head_layer(classifier: Classifier) -> nn.Module:
    """The layer that makes the logits of the features.

    Raises:
        InputError: where there is none, or several.
    """
    if classifier.found is None or len(classifier.found.names) != 1:
        raise InputError(f"{classifier.name} has no single last layer that could be trained; name one with Classifier.wrap(..., layer=...).")
    try:
        return classifier.module.get_submodule(classifier.found.names[0])
    except AttributeError as error:
        raise InputError(f"The head of {classifier.name} is computed, and no layer that could be trained.") from error


def train_only(classifier: Classifier, layers: str) -> None:
    """Leaves gradients to all layers (`all`), to the head alone (`head`), or to the last blocks (a number) and what comes after them.

    Raises:
        InputError: where there are not so many blocks.
    """
    module = classifier.module
    module.requires_grad_(layers == "all")
    if layers == "all":
        return
    head_layer(classifier).requires_grad_(True)
    if layers == "head":
        return
    if int(layers) > len(classifier.blocks):
        known = ", ".join(classifier.blocks) or "none that are known"
        raise InputError(f"{classifier.name} has {len(classifier.blocks)} blocks ({known}); got layers={layers}.")
    names = [name for name, _ in module.named_modules()]
    # modules are named in the order they were made, which is that of the forward pass
    for name in names[names.index(classifier.blocks[-int(layers)]) :]:
        module.get_submodule(name).requires_grad_(True)


def set_dropout(module: nn.Module, chance: float) -> None:
    """Gives every dropout layer of a model this probability; a warning where there is none."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Dropout | nn.Dropout2d)]
    for layer in layers:
        layer.p = chance
    if not layers:
        warnings.warn(f"The model has no dropout layers, so dropout={chance:g} does nothing.", FarfieldWarning, stacklevel=3)


def save(classifier: Classifier, path: str | Path, source: str, facts: dict[str, Any], *, half: bool = False) -> None:
    """Writes a classifier as safetensors with what builds it again: `Classifier.load(path)`.

    Args:
        classifier: what to write.
        path: the file.
        source: the name it was built from.
        facts: what else the file is to say.
        half: 16 bits a weight, in place of those it has.
    """
    groups = classifier.groups
    told: dict[str, Any] = {
        **facts,
        "classes": classifier.classes,
        "labels": None if classifier.labels is None else list(classifier.labels),
        "groups": None if groups is None else groups.tolist(),
    }
    if source in models.ARCHITECTURES:
        own = normalization(classifier.transform, classifier.name)
        told |= {"architecture": source, "mean": own.mean, "std": own.std, "size": SIDE}
    else:
        told |= {"source": source}
    if isinstance(classifier.transform, Preprocess):
        told["preprocess"] = classifier.transform.text()
    kept = {key: value.detach().cpu() for key, value in classifier.module.state_dict().items()}
    tensors = {key: (value.half() if half and value.is_floating_point() else value).clone().contiguous() for key, value in kept.items()}
    put(path, lambda partial: save_file(tensors, partial, metadata={"farfield": json.dumps(told)}))

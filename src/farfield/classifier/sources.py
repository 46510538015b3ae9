"""Classifiers by name: those that ship, files of ours, the papers', timm, torchvision, Hugging Face, and a user's own function."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from farfield import models, plugins
from farfield.classifier.checkpoints import PICKLES, classes_of, fill, last_layer, read_weights, skeleton
from farfield.classifier.classifier import Classifier, Transform, blocks_of
from farfield.classifier.surgery import new_head
from farfield.data.transforms import FromPictures, Normalize, Preprocess
from farfield.errors import InputError, nearest
from farfield.models import zoo

FETCHED = ("timm", "torchvision", "hf", "zoo")  # kinds of models whose weights are no part of what builds them
KINDS = (*FETCHED, "python")  # of models from elsewhere
DRY_RUN = "Check the name and the connection, or ask for random weights (--random-weights) for a dry run."


def load(cls: type[Classifier], name: str, *, weights: str | None, transform: Transform | None, random_weights: bool) -> Classifier:
    """The classifier a name means; see `Classifier.load`."""
    kind, colon, rest = name.partition(":")
    if weights is not None and (random_weights or kind not in ("timm", "torchvision", "zoo")):
        raise InputError(f"`weights` are for timm:, torchvision: and zoo: models, and not together with random ones; got {name!r} and {weights}.")
    if colon and kind == "zoo":
        return _zoo(cls, rest, weights, transform, random_weights)
    if colon and kind in FETCHED:
        given = None if weights is None else read_weights(weights)
        return _MAKERS[kind](cls, rest, name, given, transform, random_weights)
    if random_weights:
        raise InputError(
            f"Random weights are for timm:, torchvision:, hf: and zoo: models, whose own would be fetched; {name!r} has its own at hand."
        )
    if colon and kind == "python":
        return _python(cls, rest, transform)
    return _farfield(cls, name, transform)


# --- ours ---------------------------------------------------------------------------------------------------------------------------------


def _farfield(cls: type[Classifier], name: str, transform: Transform | None) -> Classifier:
    path = file_of(name)
    weights, facts = models.contents(path)
    if "source" in facts:
        return _trained(cls, path, name, weights, facts, transform)
    module, facts = models.read(path)
    size = int(facts.get("size", 32))
    own: Transform = Normalize(tuple(facts["mean"]), tuple(facts["std"]), size=size)
    if facts.get("preprocess") is not None:
        own = Preprocess.parse(str(facts["preprocess"]))
    groups = None if facts.get("groups") is None else torch.tensor(facts["groups"])
    return cls.wrap(module, transform=transform or own, name=name, input_size=(3, size, size), labels=facts.get("labels"), groups=groups)


def file_of(name: str) -> Path:
    """The file of a classifier that Farfield wrote or ships."""
    path = Path(name)
    if path.suffix in PICKLES or path.suffix == ".npz":
        raise InputError(
            f"{path} holds weights and does not say of which architecture. Name that, and give the file as its weights: --model timm:NAME --weights {path}, "
            "likewise torchvision:NAME and zoo:NAME."
        )
    if path.is_dir():
        if not (path / "model.safetensors").exists():
            raise InputError(f"The folder {path} holds no classifier: there is no model.safetensors in it.")
        return path / "model.safetensors"
    if path.suffix == ".safetensors":
        return path
    if name not in models.SHIPPED:
        raise InputError(
            f"No classifier {name!r} ships with Farfield{nearest(name, models.SHIPPED)} There are {', '.join(models.SHIPPED)}; "
            "others are zoo:NAME, timm:NAME, torchvision:NAME, hf:NAME, python:module:function, or a .safetensors file."
        )
    return models.shipped_path(name)


def source_of(name: str) -> str:
    """What the classifier of that name was built from: its architecture, or the name elsewhere; for what is no file of ours, the name itself."""
    if name in models.SHIPPED or name.partition(":")[0] in KINDS:
        return name
    facts = models.contents(file_of(name))[1]
    return str(facts.get("source") or facts.get("architecture"))


def _trained(
    cls: type[Classifier], path: Path, name: str, weights: dict[str, Tensor], facts: dict[str, Any], transform: Transform | None
) -> Classifier:
    """A model from elsewhere that Farfield trained: built as its source builds it, with the head and the weights of the file."""
    source, classes, groups = facts["source"], facts.get("classes"), facts.get("groups")
    built = isinstance(source, str) and (source in models.SHIPPED or source.partition(":")[0] in KINDS)
    if not built or type(classes) is not int or not isinstance(groups, list | None):
        raise InputError(
            f"{path} has a broken header: it must say its source and classes; it says {str({'source': source, 'classes': classes})[:120]}."
        )
    if transform is None and facts.get("preprocess") is not None:
        transform = Preprocess.parse(str(facts["preprocess"]))
    fetched = source.partition(":")[0] in FETCHED
    made = load(cls, source, weights=None, transform=transform, random_weights=fetched)
    new_head(made, classes, None if groups is None else torch.tensor(groups))
    labels = facts.get("labels")
    made.name, made.labels = name, tuple(map(str, labels)) if isinstance(labels, list) and len(labels) == classes else None
    fill(
        made.module,
        {key: value.to(made.module.state_dict()[key].dtype) if key in made.module.state_dict() else value for key, value in weights.items()},
        str(path),
    )
    return made


def _unfetched(name: str, error: Exception) -> InputError:
    """Weights that could not be had, in one line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given").rstrip(".")
    return InputError(f"The weights of {name} cannot be had ({type(error).__name__}: {first}). {DRY_RUN}")


# --- timm ---------------------------------------------------------------------------------------------------------------------------------


def _timm(
    cls: type[Classifier], model: str, name: str, weights: dict[str, Tensor] | None, transform: Transform | None, random_weights: bool
) -> Classifier:
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.imagenet_info import ImageNetInfo
    from timm.data.transforms_factory import create_transform

    base, _, tag = model.partition(".")
    if not timm.is_model(base):
        raise InputError(f"timm has no model {base!r}{nearest(base, timm.list_models())}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise InputError(f"timm's {base} has no weights {tag!r}{nearest(tag, tags)} There are: {', '.join(tags) or 'none'}.")
    options: dict[str, Any] = {}
    if weights is not None:
        config: Any = timm.get_pretrained_cfg(model)
        heads = getattr(config, "classifier", None) or ()
        options["num_classes"] = classes_of(weights, (heads,) if isinstance(heads, str) else tuple(heads))
    try:
        module: Any = timm.create_model(
            model, pretrained=weights is None and not random_weights, **{k: v for k, v in options.items() if v is not None}
        )
    except Exception as error:  # the hub's client raises many kinds for "not reachable"
        raise _unfetched(name, error) from error
    if weights is not None:
        fill(module, weights, name)
    if module.num_classes < 1:
        raise InputError(
            f"{name} has no classes: these weights are a feature extractor. Choose a model that was fine-tuned, as {base}.TAG of a data set."
        )
    config = resolve_model_data_config(module)
    own: dict[str, Any] = module.pretrained_cfg
    labels = own.get("label_names")
    if labels is None and weights is None and module.num_classes == 1000:
        labels = ImageNetInfo().label_names()
    made = transform or FromPictures(create_transform(**config))
    return cls.wrap(module, transform=made, name=name, input_size=tuple(config["input_size"]), labels=labels)


# --- torchvision --------------------------------------------------------------------------------------------------------------------------


def _torchvision(
    cls: type[Classifier], model: str, name: str, weights: dict[str, Tensor] | None, transform: Transform | None, random_weights: bool
) -> Classifier:
    from torchvision import models as published

    base, _, tag = model.partition(":")
    known = list(published.list_models(module=published))
    if base not in known:
        raise InputError(f"torchvision has no classifier {base!r}{nearest(base, known)}")
    choices = published.get_model_weights(base)
    tags = [entry.name for entry in choices]
    if tag and tag != "DEFAULT" and tag not in tags:
        raise InputError(f"torchvision's {base} has no weights {tag!r}{nearest(tag, tags)} There are: {', '.join(tags)}.")
    chosen: Any = choices["DEFAULT"] if not tag or tag == "DEFAULT" else choices[tag]
    classes = None if weights is None else classes_of(weights, (last_layer(skeleton(partial(published.get_model, base, weights=None))),))
    try:
        module = published.get_model(
            base, weights=None if weights is not None or random_weights else chosen, **({} if classes is None else {"num_classes": classes})
        )
    except Exception as error:  # a name that does not resolve, a broken download, a full disk
        raise _unfetched(name, error) from error
    if weights is not None:
        fill(module, weights, name)
    preset = chosen.transforms()
    labels = chosen.meta.get("categories") if weights is None else None
    crop = int(preset.crop_size[0])
    return cls.wrap(module, transform=transform or FromPictures(preset), name=name, input_size=(3, crop, crop), labels=labels)


# --- the papers' classifiers ---------------------------------------------------------------------------------------------------------------


def _zoo(cls: type[Classifier], key: str, weights: str | None, transform: Transform | None, random_weights: bool) -> Classifier:
    """A classifier of the papers: its published file where it is at hand, else what its package fetches."""
    found, name = zoo.entry(key), f"zoo:{key}"
    path = weights if weights is not None or random_weights else zoo.at_hand(found)
    if path is None and not random_weights and not found.fetched:
        raise InputError(f"The weights of {name} are not at hand. {zoo.where(key, found)} Random weights (--random-weights) make a dry run.")
    given = None if path is None else read_weights(path)
    own = Preprocess.parse(found.preprocess)
    if found.fetched:
        return _torchvision(cls, found.source.removeprefix("torchvision:"), name, given, transform or own, random_weights)
    known = None if given is None else classes_of(given, (last_layer(blueprint(key)),))
    module = zoo.build(found.source, known or found.classes)
    if given is not None:
        fill(module, given, name)
    return cls.wrap(module, transform=transform or own, name=name, input_size=(3, own.crop, own.crop), blocks=found.blocks)


def blueprint(key: str) -> nn.Module:
    """A classifier of the papers of which only names and shapes are wanted; see `skeleton`."""
    from torchvision import models as published

    found = zoo.entry(key)
    if found.fetched:
        return skeleton(partial(published.get_model, found.source.split(":")[1], weights=None))
    return skeleton(partial(zoo.build, found.source, found.classes))


def blocks_in_zoo(key: str) -> tuple[str, ...]:
    """The names of the stages of a classifier of the papers."""
    module = blueprint(key)
    return zoo.entry(key).blocks or blocks_of(module, (last_layer(module),))


# --- Hugging Face -------------------------------------------------------------------------------------------------------------------------


class Processor:
    """A Hugging Face image processor as a transform: from a picture to `pixel_values`."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, picture: Any) -> Tensor:
        """The model's input for one picture."""
        values: Tensor = self.processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return values

    def __repr__(self) -> str:
        return f"Processor({json.dumps(self.processor.to_dict(), sort_keys=True, default=str)})"


def _called_by_pixels(module: nn.Module, batch: Any) -> Any:
    return module(pixel_values=batch)


def _hugging_face(
    cls: type[Classifier], model: str, name: str, _: dict[str, Tensor] | None, transform: Transform | None, random_weights: bool
) -> Classifier:
    try:
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise InputError(f"{name} needs the package transformers: pip install 'farfield[hf]'.") from error
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(model)
            module = (
                AutoModelForImageClassification.from_config(config)
                if random_weights
                else AutoModelForImageClassification.from_pretrained(model, use_safetensors=True)
            )
            made = transform or FromPictures(Processor(AutoImageProcessor.from_pretrained(model)))
    except Exception as error:  # the hub's client raises many kinds for "not reachable", and ValueError for "not a classifier"
        raise _unfetched(name, error) from error
    size = config.image_size if hasattr(config, "image_size") else 224
    height, width = (size, size) if isinstance(size, int) else size
    labels = [str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels)]
    if any(label == f"LABEL_{index}" for index, label in enumerate(labels)):  # the names of classes that were given none
        labels = []
    channels = getattr(config, "num_channels", 3)
    return cls.wrap(module.eval(), transform=made, name=name, input_size=(channels, height, width), call=_called_by_pixels, labels=labels or None)


_MAKERS: dict[str, Callable[..., Classifier]] = {"timm": _timm, "torchvision": _torchvision, "hf": _hugging_face}


class _quiet:
    """Keeps the talk of Hugging Face's loaders from a user's terminal."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.logging, self.level = logging, logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error: Any) -> None:
        self.caught.__exit__(*error)
        self.logging.set_verbosity(self.level)


# --- a user's own function ----------------------------------------------------------------------------------------------------------------


def _python(cls: type[Classifier], text: str, transform: Transform | None) -> Classifier:
    made = plugins.call(text, "a classifier")
    if isinstance(made, Classifier):
        made.transform = transform or made.transform
        return made
    module, own = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise InputError(f"python:{text} must return a Classifier, a module, or a module and its transform; it returns a {type(made).__name__}.")
    chosen = transform or own
    if chosen is None:
        raise InputError(f"python:{text} returns a module without a transform; return (module, transform), or say --preprocess.")
    return cls.wrap(module, transform=chosen, name=f"python:{text}", input_size=_size_of(chosen))


def _size_of(transform: Transform) -> tuple[int, ...]:
    """The size a transform makes of a picture."""
    from PIL import Image

    try:
        made = transform(Image.new("RGB", (256, 256)))
    except Exception:
        try:
            made = transform(torch.zeros(3, 32, 32, dtype=torch.uint8))
        except Exception as error:
            raise InputError(f"The transform fails on a picture: {type(error).__name__}: {error}. Return a Classifier.wrap(...) instead.") from error
    if not isinstance(made, Tensor):
        raise InputError(
            f"The transform makes a {type(made).__name__}, not a tensor. Return a Classifier.wrap(..., input_size=..., call=...) instead."
        )
    return tuple(made.shape)

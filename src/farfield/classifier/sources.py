"""Classifiers by name: those that ship, files of ours, timm, torchvision, Hugging Face, and a user's own function."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from farfield import models, plugins
from farfield.classifier.classifier import Classifier, Transform
from farfield.classifier.surgery import new_head
from farfield.data.transforms import FromPictures, Normalize, Preprocess
from farfield.errors import InputError, nearest

PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin", ".th")
KINDS = ("timm", "torchvision", "hf", "python")  # of models from elsewhere
DRY_RUN = "Check the name and the connection, or ask for random weights (--random-weights) for a dry run."


def load(cls: type[Classifier], name: str, *, weights: str | None, transform: Transform | None, random_weights: bool) -> Classifier:
    """The classifier a name means; see `Classifier.load`."""
    kind, colon, rest = name.partition(":")
    if weights is not None and (random_weights or kind not in ("timm", "torchvision")):
        raise InputError(f"`weights` are for timm: and torchvision: models, and not together with random ones; got {name!r} and {weights}.")
    if colon and kind in ("timm", "torchvision", "hf"):
        given = None if weights is None else read_weights(weights)
        makers: dict[str, Callable[..., Classifier]] = {"timm": _timm, "torchvision": _torchvision, "hf": _hugging_face}
        return makers[kind](cls, rest, name, given, transform, random_weights)
    if random_weights:
        raise InputError(f"Random weights are for timm:, torchvision: and hf: models, whose own would be fetched; {name!r} has its own at hand.")
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
    if path.suffix in PICKLES:
        raise refuse_pickle(path)
    if path.is_dir():
        if not (path / "model.safetensors").exists():
            raise InputError(f"The folder {path} holds no classifier: there is no model.safetensors in it.")
        return path / "model.safetensors"
    if path.suffix == ".safetensors":
        return path
    if name not in models.SHIPPED:
        raise InputError(
            f"No classifier {name!r} ships with Farfield{nearest(name, models.SHIPPED)} There are {', '.join(models.SHIPPED)}; "
            "others are timm:NAME, torchvision:NAME, hf:NAME, python:module:function, or a .safetensors file."
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
    fetched = source.partition(":")[0] in ("timm", "torchvision", "hf")
    made = load(cls, source, weights=None, transform=transform, random_weights=fetched)
    new_head(made, classes, None if groups is None else torch.tensor(groups))
    labels = facts.get("labels")
    made.name, made.labels = name, tuple(map(str, labels)) if isinstance(labels, list) and len(labels) == classes else None
    _fill(
        made.module,
        {key: value.to(made.module.state_dict()[key].dtype) if key in made.module.state_dict() else value for key, value in weights.items()},
        str(path),
    )
    return made


def refuse_pickle(path: Path) -> InputError:
    """Why a pickle is not read, and how to make something that is."""
    return InputError(
        f"{path} is a pickle, which can run any code when it is read, so Farfield does not read it. Convert it once, where you trust it: python -c "
        f"\"import torch; from safetensors.torch import save_file; w = torch.load('{path}', weights_only=True); "
        f"save_file({{k: v.contiguous() for k, v in w.get('state_dict', w).items()}}, '{path.with_suffix('.safetensors')}')\", "
        "and give it as the weights of a timm: or torchvision: model."
    )


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, or the archive of pickles that `torch.save` writes."""
    try:
        with path.open("rb") as file:
            return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
    except OSError:
        return False


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; of a training checkpoint, those of the model.

    Raises:
        InputError: when the file is missing, a pickle, or broken.
    """
    path = Path(path)
    if path.suffix in PICKLES or is_pickle(path):
        raise refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is not a mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(f"The weights {path} cannot be read: {error}. Give a safetensors file.") from error
    if any(key.startswith("optimizer.") for key in tensors):
        tensors = {key: value for key, value in tensors.items() if key.startswith("model.")}
    for prefix in ("model.", "module."):
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _fill(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Loads weights that must fit in every name and shape."""
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    wrong = [key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape]
    if missing or unknown or wrong:
        told = [("lack", missing), ("have the unknown", unknown), ("have in another shape", sorted(wrong))]
        said = "; ".join(f"they {what} {len(keys)} tensor{'s' * (len(keys) > 1)}, first `{keys[0]}`" for what, keys in told if keys)
        raise InputError(f"The weights do not fit {name}: {said}. They are of another architecture or number of classes.")
    module.load_state_dict(weights)


def _last_layer(build: Callable[..., nn.Module], name: str) -> str:
    """The name of the last linear layer or convolution of an architecture, which is torchvision's classifier."""
    with torch.device("meta"):
        module = build(name, weights=None)
    names: list[str] = [key for key, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return names[-1]


def _outputs_of(weights: dict[str, Tensor], keys: Sequence[str]) -> int | None:
    """How many classes weights have, by the tensor of the head: one of `keys`, or the last matrix."""
    for key in keys:
        if f"{key}.weight" in weights:
            return len(weights[f"{key}.weight"])
    matrices = [value for key, value in weights.items() if value.ndim == 2 and key.endswith("weight")]
    return len(matrices[-1]) if matrices else None


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
        options["num_classes"] = _outputs_of(weights, (heads,) if isinstance(heads, str) else tuple(heads))
    try:
        module: Any = timm.create_model(
            model, pretrained=weights is None and not random_weights, **{k: v for k, v in options.items() if v is not None}
        )
    except Exception as error:  # the hub's client raises many kinds for "not reachable"
        raise _unfetched(name, error) from error
    if weights is not None:
        _fill(module, weights, name)
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
    from torchvision import models as zoo

    base, _, tag = model.partition(":")
    known = list(zoo.list_models(module=zoo))
    if base not in known:
        raise InputError(f"torchvision has no classifier {base!r}{nearest(base, known)}")
    choices = zoo.get_model_weights(base)
    tags = [entry.name for entry in choices]
    if tag and tag != "DEFAULT" and tag not in tags:
        raise InputError(f"torchvision's {base} has no weights {tag!r}{nearest(tag, tags)} There are: {', '.join(tags)}.")
    chosen: Any = choices["DEFAULT"] if not tag or tag == "DEFAULT" else choices[tag]
    classes = None if weights is None else _outputs_of(weights, (_last_layer(zoo.get_model, base),))
    try:
        module = zoo.get_model(
            base, weights=None if weights is not None or random_weights else chosen, **({} if classes is None else {"num_classes": classes})
        )
    except Exception as error:  # a name that does not resolve, a broken download, a full disk
        raise _unfetched(name, error) from error
    if weights is not None:
        _fill(module, weights, name)
    preset = chosen.transforms()
    labels = chosen.meta.get("categories") if weights is None else None
    crop = int(preset.crop_size[0])
    return cls.wrap(module, transform=transform or FromPictures(preset), name=name, input_size=(3, crop, crop), labels=labels)


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

"""The recipes by name: the settings of the papers, with the command that runs each as published."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from farfield.errors import InputError, nearest
from farfield.training import OBJECTIVES, Recipe


@dataclass(frozen=True)
class Entry:
    """A recipe with what a person wants to know of it.

    Args:
        recipe: the published settings.
        what: it does, in a sentence.
        paper: where it is from.
        model: the published network, for the command.
        finetunes: whether it starts from a trained model.
        then: `augdelete` where the last layer is retrained in the end.
        differs: from what was published, where it does.
    """

    recipe: Recipe
    what: str
    paper: str
    model: str = "timm:resnet50"
    finetunes: bool = False
    then: str = ""
    differs: str = ""

    def command(self, name: str) -> str:
        """What a person types for the published setting."""
        verb = f"finetune {name}" if self.finetunes else f"train --recipe {name}"
        groups = " --groups taxonomy.json" if self.recipe.objective == "mos" else ""
        return f"farfield {verb} --model {self.model} --data imagenet/train --val imagenet/val{groups} --out runs/{name}"


# torchvision's two recipes for its ResNet-50
V1 = Recipe(
    augment=("crop", "flip"), epochs=90, batch_size=256, lr=0.1, schedule="steps", drops=(1 / 3, 2 / 3), warmup=0.0, nesterov=False, weight_decay=1e-4,
    decay_all=True,
)  # fmt: skip
# every 32 steps alpha = (1 - 0.99998) * 32 * batch / epochs, which is this decay a step
AVERAGE = (1 - (1 - 0.99998) * 32 * 1024 / 600) ** (1 / 32)
V2 = Recipe(
    options={"smoothing": 0.1, "mix": "mixup+cutmix", "alpha": 0.2, "cut_alpha": 1.0}, augment=("crop", "flip", "trivial", "erase"), epochs=600,
    batch_size=1024, lr=0.5, warmup=5 / 600, nesterov=False, weight_decay=2e-5, average=AVERAGE,
)  # fmt: skip
# what OpenOOD v1.5 trains its baselines with, and Xiong et al. their AugRevise
OPENOOD = Recipe(augment=("crop", "flip"), epochs=100, batch_size=256, lr=0.1, warmup=0.0, weight_decay=5e-4, decay_all=True)
MOS = Recipe(
    objective="mos", steps=20_000, batch_size=512, lr=0.003, schedule="steps", drops=(0.3, 0.6, 0.9), warmup=0.025, nesterov=False, weight_decay=0.0,
    layers="head",
)  # fmt: skip
SFT = Recipe(
    objective="outlier-exposure", options={"weight": 1.0, "pseudo": "jigsaw+channels"}, steps=50, batch_size=64, lr=1e-3, schedule="constant", warmup=0.0,
    nesterov=False, weight_decay=1e-5, decay_all=True, sharpness="sam-norm", statistics="frozen",
)  # fmt: skip

REFERENCES = "torchvision; Xiong et al., ICCV 2025"
AUGREG = "Steiner et al., TMLR 2022; Mueller and Hein, 2024"
BIT = "zoo:bit-s-r101x1"  # of ImageNet-1k alone; timm's own weights have seen ImageNet-21k
RECIPES: dict[str, Entry] = {
    "cross-entropy": Entry(V1, "Plain cross-entropy: torchvision's first recipe.", REFERENCES),
    "v2": Entry(
        V2, "Torchvision's second recipe: smoothing, mixtures, erasing, TrivialAugment, averaging, less weight decay, 600 epochs.", REFERENCES,
        differs="no repeated augmentation; training pictures have the size of evaluation; biases have no weight decay",
    ),
    "label-smoothing": Entry(replace(V1, options={"smoothing": 0.1}), "The first recipe with labels smoothed by 0.1.", f"Szegedy et al., CVPR 2016; {REFERENCES}"),
    "mixup": Entry(replace(V1, options={"mix": "mixup", "alpha": 0.2}), "The first recipe on mixtures of two pictures.", f"Zhang et al., ICLR 2018; {REFERENCES}"),
    "cutmix": Entry(replace(V1, options={"mix": "cutmix", "cut_alpha": 1.0}), "The first recipe with a box of another picture on each.", f"Yun et al., ICCV 2019; {REFERENCES}"),
    "erasing": Entry(replace(V1, augment=(*V1.augment, "erase")), "The first recipe with random erasing.", f"Zhong et al., AAAI 2020; {REFERENCES}"),
    "trivial": Entry(replace(V1, augment=(*V1.augment, "trivial")), "The first recipe with TrivialAugment.", f"Mueller and Hutter, ICCV 2021; {REFERENCES}"),
    "ema": Entry(replace(V1, average=AVERAGE), "The first recipe with a running average of the weights.", REFERENCES),
    "long": Entry(replace(V1, epochs=600, schedule="cosine", drops=()), "The first recipe for 600 epochs.", REFERENCES),
    "weight-decay": Entry(
        replace(V1, weight_decay=2e-5, decay_all=False), "The first recipe with less weight decay, and none on normalisation and biases.", REFERENCES
    ),
    "regmixup": Entry(
        replace(OPENOOD, objective="regmixup", options={"alpha": 10.0}), "Cross-entropy of pictures and of their mixtures.",
        "Pinto et al., NeurIPS 2022", "timm:resnet18", differs="the sum of the two, as Xiong et al. (2025) have it; the authors' code takes the mean (--set mean=true)",
    ),
    "augmix": Entry(
        replace(OPENOOD, objective="augmix", options={"severity": 3.0}), "Consistency over mixtures of augmentation chains.",
        "Hendrycks et al., ICLR 2020", "timm:resnet18",
    ),
    "logitnorm": Entry(
        replace(OPENOOD, objective="logitnorm", options={"tau": 0.04}), "Cross-entropy of normalised logits.", "Wei et al., ICML 2022", "timm:resnet18"
    ),
    "t2fnorm": Entry(
        replace(OPENOOD, objective="t2fnorm", options={"tau": 0.1}), "Cross-entropy of the logits of normalised features.", "Regmi et al., 2023",
        "timm:resnet18", differs="predictions are of features as they are, with 1 / tau in the weights",
    ),
    "outlier-exposure": Entry(
        replace(OPENOOD, objective="outlier-exposure", options={"weight": 0.5}, epochs=10, batch_size=128, lr=1e-3),
        "Predictions for outliers (--outliers DATA, else made of the pictures) pushed towards uniform.", "Hendrycks et al., ICLR 2019",
        "timm:resnet18.tv_in1k", True, differs="as many outliers a step as pictures (twice as many of those that are made), where the paper has twice as many",
    ),
    "npos": Entry(
        replace(OPENOOD, objective="npos", lr=0.5, weight_decay=1e-4), "Features spread on a sphere, outliers synthesised at the border; score features, as knn does.",
        "Tao et al., ICLR 2023", "timm:resnet18", then="augdelete", differs="a classifier is made in the end, by fitting the last layer; the paper has none",
    ),
    "augrevise": Entry(
        replace(OPENOOD, objective="augrevise", options={"alpha": 0.2}, augment=(*OPENOOD.augment, "trivial", "erase")),
        "Pictures and their mixtures kept apart, no smoothed labels.", "Xiong et al., ICCV 2025", "timm:resnet18", then="augdelete",
        differs="the separation loss has the logarithm that the paper's property needs (--set form=printed has not); mixtures are of augmented pictures",
    ),
    "mos": Entry(MOS, "A softmax in each of several groups of classes, on the features of a trained model.", "Huang and Li, CVPR 2021", BIT, True),
    "mos-bit": Entry(
        replace(MOS, options={"mix": "mixup", "alpha": 0.1}, augment=("crop", "flip"), steps=0),
        "The same as the authors' code has it: the BiT-HyperRule's schedule for the size of the data, mixup and augmentation.",
        "Huang and Li, CVPR 2021; Kolesnikov et al., ECCV 2020", BIT, True,
    ),
    "sft": Entry(
        SFT, "Fifty sharpness-aware steps with pseudo-outliers made of the pictures.", "Zhang et al., IEEE TIP 2026; Mueller et al., NeurIPS 2023; Foret et al., ICLR 2021", f"{BIT}-flat", True,
        differs="what the paper leaves open: momentum 0.9, batches of 64, both kinds of pseudo-outliers, a radius that grows with the parameters it moves",
    ),
    "vit-pretrain": Entry(
        Recipe(
            augment=("crop", "flip", "trivial"), epochs=300, batch_size=4096, lr=1e-3, warmup=10_000 / (300 * 312), optimizer="adamw", weight_decay=0.1, clip=1.0
        ),
        "A vision transformer on a large label space.", AUGREG, "timm:vit_base_patch16_224", differs="TrivialAugment in place of RandAugment and mixup",
    ),
    "vit": Entry(
        Recipe(augment=("crop", "flip"), lr=0.01, steps=20_000, batch_size=512, warmup=0.025, nesterov=False, weight_decay=0.0, clip=1.0),
        "Fine-tuning a vision transformer on a smaller label space.", AUGREG, "timm:vit_base_patch16_224.augreg_in21k", True,
    ),
}  # fmt: skip


def bit_hyperrule(recipe: Recipe, samples: int) -> Recipe:
    """The schedule of the BiT-HyperRule for a training set of this size: 500, 10,000 or 20,000 steps; no mixup below 20,000 samples.

    >>> bit_hyperrule(MOS, 5_000).steps, bit_hyperrule(MOS, 1_281_167).steps
    (500, 20000)

    Source: Kolesnikov et al., "Big Transfer (BiT)", ECCV 2020.
    """
    if samples < 20_000:
        options = {name: value for name, value in recipe.options.items() if name not in ("mix", "alpha")}
        return replace(recipe, steps=500, warmup=0.2, drops=(0.4, 0.6, 0.8), options=options)
    if samples < 500_000:
        return replace(recipe, steps=10_000, warmup=0.05, drops=(0.3, 0.6, 0.9))
    return replace(recipe, steps=20_000, warmup=0.025, drops=(0.3, 0.6, 0.9))


def recipe_of(text: str) -> tuple[str, Entry]:
    """The recipe that a text means, and its name: one of `RECIPES`, or the `recipe.json` of a run.

    Raises:
        InputError: for an unknown name, or a file that holds no recipe.
    """
    path = Path(text)
    if path.suffix == ".json":
        try:
            told = json.loads(path.read_text("utf-8"))
            given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told["recipe"].items()}
            name, recipe = str(told["name"]), Recipe(**given)
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} holds no recipe ({type(error).__name__}: {error}). Give the recipe.json of a run, or a name.") from error
        return name, replace(RECIPES.get(name, Entry(recipe, "", "")), recipe=recipe)
    if text not in RECIPES:
        raise InputError(f"There is no recipe {text!r}{nearest(text, RECIPES)} There are: {', '.join(RECIPES)}.")
    return text, RECIPES[text]


def settings_of(objective: str) -> dict[str, Any]:
    """The options of an objective that a text can give, with their defaults.

    >>> settings_of("logitnorm")
    {'tau': 0.04}
    """
    if objective not in OBJECTIVES:
        raise InputError(f"There is no objective {objective!r}{nearest(objective, OBJECTIVES)} There are: {', '.join(OBJECTIVES)}.")
    options = inspect.signature(OBJECTIVES[objective]).parameters
    return {name: option.default for name, option in options.items() if option.default is not option.empty and option.default is not None}


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings in place of its own: its fields by name, or options of its objective; texts, as a command line has them, too.

    Raises:
        InputError: for a name that is neither, or a value of another kind.

    >>> changed(V1, {"lr": "0.2", "smoothing": "0.1"}).options
    {'smoothing': 0.1}
    """
    objective = str(values.get("objective", recipe.objective))
    own = {setting.name: getattr(recipe, setting.name) for setting in fields(Recipe) if setting.name != "options"}
    options = settings_of(objective)
    unknown = [name for name in values if name not in own and name not in options]
    if unknown:
        known = [*own, *options]
        raise InputError(f"Neither a recipe nor {objective} has a setting {unknown[0]!r}{nearest(unknown[0], known)} There are: {', '.join(known)}.")
    kept = recipe.options if objective == recipe.objective else {}
    mine = {name: _like(name, options[name], value) for name, value in values.items() if name not in own}
    return replace(recipe, options={**kept, **mine}, **{name: _like(name, own[name], value) for name, value in values.items() if name in own})


def _like(name: str, default: Any, value: Any) -> Any:
    """A text as a value of the kind that the default is."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    kinds = {bool: "true or false", int: "a whole number", float: "a number", tuple: "several as a/b/c, or none"}
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, tuple):
            parts = [] if value == "none" else value.split("/")
            return tuple(parts) if name == "augment" else tuple(float(part) if name == "drops" else int(part) for part in parts)
        return type(default)(value)
    except (ValueError, KeyError) as error:
        raise InputError(f"The setting {name} is {kinds[type(default)]}; got {value!r}.") from error

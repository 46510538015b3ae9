"""The pool of ViTs that the second paper compares: how each was trained, read from the names of the published files and from timm's tags.

Steiner et al., How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers, TMLR 2022, published over 50,000 ViTs, each
with its training in its name; timm has the best of each size, and those fine-tuned from CLIP. The paper compares 296 of both kinds. Nothing here
asks a network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from farfield.errors import InputError, nearest

# Files are below this address.
ADDRESS = "https://storage.googleapis.com/vit_models/augreg"
TIMM = {
    "Ti_16": "vit_tiny_patch16", "S_32": "vit_small_patch32", "S_16": "vit_small_patch16", "B_32": "vit_base_patch32", "B_16": "vit_base_patch16",
    "B_8": "vit_base_patch8", "L_16": "vit_large_patch16", "R_Ti_16": "vit_tiny_r_s16_p8", "R26_S_32": "vit_small_r26_s32", "R50_L_32": "vit_large_r50_s32",
}  # fmt: skip
AUGMENTATIONS = ("none", "light0", "light1", "medium1", "medium2", "strong1", "strong2")
COLUMNS = (
    "name", "pretraining", "data", "between", "epochs", "learning_rate", "augmentation", "weight_decay", "dropout", "stochastic_depth",
    "finetuning_steps", "finetuning_learning_rate", "resolution", "file",
)  # fmt: skip
_NUMBER = r"\d+(?:\.\d+)?"
_PRETRAINED = re.compile(
    rf"(?P<model>[A-Za-z0-9_]+)-(?P<pretraining>i1k|i21k)-(?P<epochs>\d+)ep-lr_(?P<lr>{_NUMBER})-aug_(?P<augmentation>\w+)"
    rf"-wd_(?P<decay>{_NUMBER})-do_(?P<dropout>{_NUMBER})-sd_(?P<depth>{_NUMBER})"
)
_FINETUNED = re.compile(rf"(?P<dataset>\w+)-steps_(?P<steps>\d+k?)-lr_(?P<lr>{_NUMBER})-res_(?P<resolution>\d+)")
_FORM = "MODEL-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0, then perhaps --imagenet2012-steps_20k-lr_0.01-res_224"


@dataclass(frozen=True)
class Finetuning:
    """The second half of a name: on what, for how many steps, at which learning rate and resolution."""

    dataset: str
    steps: int
    learning_rate: float
    resolution: int


@dataclass(frozen=True)
class Augreg:
    """How a ViT was trained, as the name of its file says."""

    model: str
    pretraining: str
    epochs: int
    learning_rate: float
    augmentation: str
    weight_decay: float
    dropout: float
    stochastic_depth: float
    finetuning: Finetuning | None = None

    @property
    def timm(self) -> str:
        """The architecture in timm that reads the file: `timm:NAME --weights FILE`."""
        return f"{TIMM[self.model]}_{224 if self.finetuning is None else self.finetuning.resolution}"


def parse(name: str) -> Augreg:
    """How the ViT in a file of that name was trained.

    Args:
        name: of the file, with or without `.npz`.

    Raises:
        InputError: for a name that is not of this form.

    >>> parse("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_224.npz").finetuning
    Finetuning(dataset='imagenet2012', steps=20000, learning_rate=0.01, resolution=224)

    Source: github.com/google-research/vision_transformer, section "Available ViT models".
    """
    first, dashes, second = name.removesuffix(".npz").partition("--")
    before, after = _PRETRAINED.fullmatch(first), _FINETUNED.fullmatch(second)
    if before is None or (dashes and after is None):
        half = f"{second!r} after the two dashes" if before is not None else f"{first!r}"
        raise InputError(f"{name!r} is not the name of an augreg file: {half} is not of the form {_FORM}.")
    for what, value, known in (("model", before["model"], tuple(TIMM)), ("augmentation", before["augmentation"], AUGMENTATIONS)):
        if value not in known:
            raise InputError(f"{name!r} names the {what} {value!r}{nearest(value, known)} There are {', '.join(known)}.")
    return Augreg(
        before["model"], before["pretraining"], int(before["epochs"]), float(before["lr"]), before["augmentation"],
        float(before["decay"]), float(before["dropout"]), float(before["depth"]), None if after is None else _finetuning(after),
    )  # fmt: skip


def _finetuning(found: re.Match[str]) -> Finetuning:
    steps = int(found["steps"].removesuffix("k")) * (1000 if found["steps"].endswith("k") else 1)
    return Finetuning(found["dataset"], steps, float(found["lr"]), int(found["resolution"]))


@dataclass(frozen=True)
class Member:
    """A ViT of the pool, `timm:NAME`; `None` where neither its file's name nor its tag says.

    Args:
        name: in timm, tag and all.
        pretraining: `i1k`, `i21k`, or `clip`.
        data: what it saw first: `imagenet`, `imagenet-21k`, `laion-2b` or `openai`.
        between: what it was fine-tuned on before ImageNet-1k, where there was such a step.
        resolution: pixels of a side.
        trained: how, where the name of its file is known.
        file: that name.
    """

    name: str
    pretraining: str
    data: str
    between: str | None
    resolution: int
    trained: Augreg | None = None
    file: str | None = None

    def columns(self) -> dict[str, str | int | float | None]:
        """One row of a table."""
        told: dict[str, str | int | float | None] = dict.fromkeys(COLUMNS)
        told |= {"name": self.name, "pretraining": self.pretraining, "data": self.data, "between": self.between}
        if (trained := self.trained) is not None:
            told |= {key: getattr(trained, key) for key in ("epochs", "learning_rate", "augmentation", "weight_decay", "dropout", "stochastic_depth")}
            if (tuned := trained.finetuning) is not None:
                told |= {"finetuning_steps": tuned.steps, "finetuning_learning_rate": tuned.learning_rate}
        return told | {"resolution": self.resolution, "file": self.file}


_TAG = re.compile(r"(?:(?P<kind>augreg2?)_(?P<first>in1k|in21k_ft_in1k)|(?P<clip>laion2b|openai)_ft_(?P<between>in12k_)?in1k)")


def pool() -> list[Member]:
    """The ViTs of the pool that timm publishes, by its own registry: of augreg and of CLIP, fine-tuned on ImageNet-1k.

    >>> next(member for member in pool() if member.name == "vit_base_patch16_224.augreg_in1k").trained.weight_decay
    0.1
    """
    import timm

    found = [(name, _TAG.fullmatch(name.partition(".")[2])) for name in timm.list_pretrained("vit_*")]
    return [_member(name, tag) for name, tag in found if tag is not None]


def _member(name: str, tag: re.Match[str]) -> Member:
    import timm

    config = timm.get_pretrained_cfg(name)
    assert config is not None  # of a name that timm has just listed
    resolution = config.input_size[-1]
    if tag["clip"]:
        data = {"laion2b": "laion-2b", "openai": "openai"}[tag["clip"]]
        return Member(name, "clip", data, tag["between"] and "imagenet-12k", resolution)
    file = str(config.url or "").rpartition("/")[2] or None
    one = tag["first"] == "in1k"
    trained = None if file is None else parse(file)
    return Member(name, "i1k" if one else "i21k", "imagenet" if one else "imagenet-21k", None, resolution, trained, file)

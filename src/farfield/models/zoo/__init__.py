"""The papers' classifiers by name: what each is, what builds it, how its paper prepares pictures, and where its weights are had.

`Classifier.load("zoo:NAME")` reads the published file from `$FARFIELD_WEIGHTS`, else from `weights` in the cache folder, strictly: every name and
shape. The papers: MOS (Huang & Li, CVPR 2021), ViT (Mueller & Hein, 2024), DIAG (Xiong et al., ICCV 2025), SFT (Zhang et al., TIP 2026).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from farfield.errors import InputError, nearest
from farfield.files import cache_folder
from farfield.models.zoo import pairs, vgg_cifar
from farfield.models.zoo.bit import bit
from farfield.models.zoo.entry import IMAGENET, Entry
from farfield.models.zoo.openood import ResNet18x32, resnet18_224
from farfield.models.zoo.t2t_vit import T2TViT24
from farfield.models.zoo.vgg_cifar import VGG11

__all__ = ["BUILDERS", "ZOO", "Entry", "at_hand", "build", "entry", "weights_folders", "where"]

_GOOGLE = "https://storage.googleapis.com/bit_models"
_T2T_FILES = "https://github.com/yitu-opensource/T2T-ViT/releases/download/main"
_MOS_FILES = "http://pages.cs.wisc.edu/~huangrui/finetuned_model"
_SQUARE = "resize=0,crop=480,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"  # the whole picture, its aspect ignored
_BIT = {"r50x1": 25.549, "r101x1": 44.541, "r50x3": 217.319, "r152x2": 236.335, "r101x3": 387.935}  # millions of parameters
# Each takes the number of classes.
BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    **{f"bit-{size}": partial(bit, size[1:]) for size in _BIT},
    "t2t-vit-24": T2TViT24,
    "vgg11-cifar": VGG11,
    "resnet18-32": ResNet18x32,
    "resnet18-224": resnet18_224,
}
_OPENOOD = {
    # Pictures, classes, builder, millions, folder in the archive, the archive, and its number at Google Drive.
    "cifar10": (
        "CIFAR-10", 10, "resnet18-32", 11.174, "cifar10_resnet18_32x32_base_e100_lr0.1_default", "cifar10_res18_v1.5.zip",
        "1byGeYxM_PlLjT72wZsMQvP6popJeWBgt", "resize=32,crop=32,mean=0.4914/0.4822/0.4465,std=0.2470/0.2435/0.2616",
    ),
    "cifar100": (
        "CIFAR-100", 100, "resnet18-32", 11.220, "cifar100_resnet18_32x32_base_e100_lr0.1_default", "cifar100_res18_v1.5.zip",
        "1s-1oNrRtmA0pGefxXJOUVRYpaoAML0C-", "resize=32,crop=32,mean=0.5071/0.4867/0.4408,std=0.2675/0.2565/0.2761",
    ),
    "imagenet200": (
        "ImageNet-200", 200, "resnet18-224", 11.279, "imagenet200_resnet18_224x224_base_e90_lr0.1_default", "imagenet200_res18_v1.5.zip",
        "1ddVmwc8zmzSjdLUO84EuV4Gz1c7vhIAs", f"resize=256,crop=224,{IMAGENET}",
    ),
}  # fmt: skip


def _bits() -> dict[str, Entry]:
    """Google's BiT-S, trained on ImageNet-1k alone; timm fetches BiT-M, of ImageNet-21k, which is another network."""
    found = {}
    for size, millions in _BIT.items():
        file = f"BiT-S-{size.upper().replace('X', 'x')}.npz"
        found[f"bit-s-{size}"] = Entry(
            f"BiT-S ResNetv2-{size[1:]}, GroupNorm, as Google published it", "MOS", f"bit-{size}", 1000, _SQUARE, millions, file,
            f"{_GOOGLE}/{file}", "Apache-2.0", note="MOS trains its last layer anew: zoo:bit-s-r101x1-flat, or farfield finetune.",
        )  # fmt: skip
    file = "BiT-S-R101x1-flat-finetune.pth.tar"
    found["bit-s-r101x1-flat"] = Entry(
        "BiT-S ResNetv2-101x1 with MOS's own last layer of one softmax", "MOS, SFT", "bit-r101x1", 1000, _SQUARE, _BIT["r101x1"], file,
        f"{_MOS_FILES}/{file}",
    )  # fmt: skip
    return found


def _openoods() -> dict[str, Entry]:
    found = {}
    for name, (pictures, classes, source, millions, folder, archive, number, preprocess) in _OPENOOD.items():
        for seed in range(3):
            found[f"openood-{name}-s{seed}"] = Entry(
                f"OpenOOD v1.5's ResNet-18 on {pictures}, cross-entropy, run {seed + 1} of 3", "DIAG", source, classes, preprocess, millions,
                f"{folder}/s{seed}/best.ckpt", f"https://drive.google.com/file/d/{number} ({archive}, to be unpacked)", "MIT",
            )  # fmt: skip
    return found


ZOO: dict[str, Entry] = {
    **_bits(),
    "t2t-vit-24": Entry(
        "T2T-ViT-24, performers make its tokens, as its authors published it", "SFT", "t2t-vit-24", 1000,
        f"resize=248,crop=224,{IMAGENET},interpolation=bicubic", 64.106, "82.3_T2T_ViT_24.pth.tar", f"{_T2T_FILES}/82.3_T2T_ViT_24.pth.tar", "BSD-3-Clause-Clear",
        note="The preprocessing is its authors'. RankFeat's script makes 384 x 384 of the whole picture, which these weights' 197 positions do not take.",
    ),
    "vgg11-cifar10": Entry(
        "VGG11 without BatchNorm on CIFAR-10, as FeatureNorm has it", "SFT", "vgg11-cifar", 10, "resize=0,crop=32,mean=0,std=1", 9.751,
        blocks=vgg_cifar.STAGES, note="the authors of FeatureNorm publish the network and no weights",
    ),
    **_openoods(),
    **pairs.entries(),
}  # fmt: skip


def entry(name: str) -> Entry:
    """What is known of a classifier of the papers.

    Raises:
        InputError: for another name.

    >>> entry("bit-s-r101x1").file
    'BiT-S-R101x1.npz'
    """
    if name not in ZOO:
        raise InputError(f"There is no zoo:{name}{nearest(name, ZOO)} `farfield models` lists what there is.")
    return ZOO[name]


def build(name: str, classes: int) -> nn.Module:
    """One of `BUILDERS`, freshly initialised.

    >>> build("vgg11-cifar", 7).classifier[-1].out_features
    7
    """
    return BUILDERS[name](classes)


def weights_folders() -> list[Path]:
    """Where published files are looked for: `$FARFIELD_WEIGHTS`, then `weights` in the cache folder."""
    told = os.environ.get("FARFIELD_WEIGHTS")
    return [*([Path(told)] if told else []), cache_folder() / "weights"]


def at_hand(found: Entry) -> Path | None:
    """The published file, if it is on this machine."""
    paths = [] if found.file is None else [folder / found.file for folder in weights_folders()]
    return next((path for path in paths if path.is_file()), None)


def where(name: str, found: Entry) -> str:
    """Where the weights of a classifier are had, as the end of a sentence about their lack."""
    if found.file is None:
        return f"None were published ({found.note}). Give your own as --weights, or train it: farfield train --model zoo:{name}."
    elsewhere = "" if os.environ.get("FARFIELD_WEIGHTS") else " (or below $FARFIELD_WEIGHTS)"
    return f"Get it from {found.address} and put it at {weights_folders()[0] / found.file}{elsewhere}, or give it as --weights."

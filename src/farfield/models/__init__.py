"""The small classifiers that ship with Farfield, and the file format of a trained classifier.

Three architectures, from timm's building blocks, sized to the Glyphs tasks: `resnet` (BatchNorm), `bit` (GroupNorm and standardised
weights, in the manner of BiT) and `vit`; the first two also with the pooling of their stems (`resnet-pooled`, `bit-pooled`), for experiments. A classifier file is one safetensors file: its weights, and in its
metadata what builds it again and how it was trained. `python -m farfield.models.shipped` trains the six that ship.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from farfield.errors import InputError
from farfield.files import put

# Widths for a head of at most 200 classes, and for more: the files stay under 0.7 and 1.5 MB at 16 bits.
_RESNET_WIDTHS = ((16, 32, 64, 128), (20, 40, 80, 160))
_VIT_WIDTHS = (88, 120)


def _size(classes: int) -> int:
    return 0 if classes <= 200 else 1


def _resnet(classes: int, size: int) -> nn.Module:
    from timm.models.resnet import BasicBlock, ResNet

    widths = _RESNET_WIDTHS[size]
    block: Any = BasicBlock
    net: Any = ResNet(block, (1, 1, 1, 1), classes, channels=widths, stem_type="deep", stem_width=widths[0] // 2)
    net.maxpool = nn.Identity()  # 32-pixel pictures cannot spare a second halving in the stem
    return net  # type: ignore[no-any-return]


def _bit(classes: int, size: int) -> nn.Module:
    from timm.layers.norm_act import GroupNormAct
    from timm.models.resnetv2 import ResNetV2

    widths = _RESNET_WIDTHS[size]
    norm = partial(GroupNormAct, num_groups=4)
    net = ResNetV2([1, 1, 1, 1], widths, classes, stem_type="deep", stem_chs=widths[0], basic=True, bottle_ratio=1.0, norm_layer=norm)
    net.stem.pool = nn.Identity()
    return net


def _vit(classes: int, size: int) -> nn.Module:
    from timm.layers.hybrid_embed import HybridEmbed
    from timm.models.vision_transformer import VisionTransformer

    # Overlapping convolutions make the tokens (Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021): 16 of 32 x 32 pixels.
    stem = [layer for i, o in ((3, 16), (16, 32), (32, 64)) for layer in (nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())]
    embed = partial(HybridEmbed, backbone=nn.Sequential(*stem))
    width = _VIT_WIDTHS[size]
    return VisionTransformer(img_size=32, patch_size=1, num_classes=classes, embed_dim=width, depth=3, num_heads=4, embed_layer=embed)


def _pooled(make: Callable[[int, int], Any]) -> Callable[[int, int], nn.Module]:
    """The same with the pooling of its stem, for a quarter of the work."""

    def made(classes: int, size: int) -> nn.Module:
        net = make(classes, size)
        pool = nn.MaxPool2d(3, 2, 1)
        if hasattr(net, "maxpool"):
            net.maxpool = pool
        else:
            net.stem.pool = pool
        return net  # type: ignore[no-any-return]

    return made


ARCHITECTURES: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet": _resnet, "bit": _bit, "vit": _vit, "resnet-pooled": _pooled(_resnet), "bit-pooled": _pooled(_bit)
}  # fmt: skip


FACTS = ("architecture", "classes", "mean", "std")  # what a file must say of itself; mean and std are those of its pictures


def build(architecture: str, classes: int, size: int | None = None) -> nn.Module:
    """A freshly initialised classifier of one of `ARCHITECTURES`.

    Args:
        architecture: its name.
        classes: how many logits it has.
        size: 0 for the widths of at most 200 classes, 1 for those of more; by default what `classes` is.

    Raises:
        InputError: for an unknown architecture.

    >>> import torch
    >>> build("vit", 200)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 200])
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"There is no architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[architecture](classes, _size(classes) if size is None else size)


def save(module: nn.Module, path: str | Path, facts: dict[str, Any]) -> None:
    """Writes a classifier as 16-bit safetensors; `facts` must have those of `FACTS`, and may say more."""
    tensors = {k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in module.state_dict().items()}
    put(path, lambda partial_file: save_file(tensors, partial_file, metadata={"farfield": json.dumps(facts)}))


def contents(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a classifier's file, as they are, and its facts.

    Raises:
        InputError: when the file is missing, is not safetensors, or its header is broken.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is not a mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as a classifier: {error}. Farfield reads safetensors files that it wrote.") from error
    try:
        facts = json.loads(metadata.get("farfield", "{}"))
    except (ValueError, TypeError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise InputError(f"{path} is a safetensors file, but not of a Farfield classifier: its header is broken.")
    return weights, facts


def read(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The classifier in a file written by `save`, in float32 and evaluation mode, and its facts.

    Raises:
        InputError: when the file is missing, is not safetensors, or does not say what it holds.
    """
    weights, facts = contents(path)
    lacking = [fact for fact in FACTS if fact not in facts]
    if lacking:
        raise InputError(f"{path} is a safetensors file, but not of a Farfield classifier: its header lacks {', '.join(lacking)}.")
    for fact, fine in _sound(facts).items():
        if not fine:
            raise InputError(f"{path} has a broken header: {fact} cannot be {facts.get(fact)!r:.80}.")
    logits = len(facts.get("groups") or ()) or facts["classes"]
    held = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    for size in (_size(logits), 1 - _size(logits)):  # a model that got another head has the widths of the one it had
        module = build(facts["architecture"], logits, size)
        try:
            module.load_state_dict(held)
        except RuntimeError as error:
            unfit = error
        else:
            return module.eval(), facts
    raise InputError(f"{path} holds a {facts['architecture']} of another version: its weights do not fit this Farfield's.") from unfit


def _sound(facts: dict[str, Any]) -> dict[str, bool]:
    """Whether each fact of a file's header is of its kind and range."""

    def three(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 3 and all(isinstance(x, int | float) and abs(x) < 1e6 for x in value)

    labels, classes, groups = facts.get("labels"), facts["classes"], facts.get("groups")
    return {
        "architecture": isinstance(facts["architecture"], str),
        "classes": type(classes) is int and 1 <= classes <= 10**6,
        "mean": three(facts["mean"]),
        "std": three(facts["std"]) and min(facts["std"]) > 0,
        "size": type(facts.get("size", 32)) is int and 1 <= facts.get("size", 32) <= 4096,
        "groups": groups is None or (isinstance(groups, list) and all(type(group) is int for group in groups)),
        "labels": labels is None or (isinstance(labels, list) and len(labels) == classes and all(isinstance(label, str) for label in labels)),
    }


SHIPPED = tuple(f"glyphs-{classes}-{name}" for classes in (200, 1000) for name in ("resnet", "bit", "vit"))


def shipped_path(name: str) -> Path:
    """Where a shipped classifier lies.

    Raises:
        InputError: for a name that is not in `SHIPPED`.
    """
    if name not in SHIPPED:
        raise InputError(f"No classifier {name!r} ships with Farfield; there are {', '.join(SHIPPED)}.")
    return Path(str(resources.files("farfield.models").joinpath(f"{name}.safetensors")))

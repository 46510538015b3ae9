"""The same tensors under other names: from those of a published file to timm's.

Three namings are known: Google's BiT (`resnet/block1/unit01/a/standardized_conv2d/kernel`, arrays in an npz file), Google's ViT
(`Transformer/encoderblock_0/LayerNorm_0/scale`, likewise, hybrids too), and that of the PyTorch BiT in which MOS and RankFeat publish
(`body.block1.unit01.conv1.weight`). What is not known keeps its name, so that whoever fills a model with it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

BIT, VIT, MOS = "resnet/root_block/standardized_conv2d/kernel", "embedding/kernel", "root.conv.weight"  # what each must have
_LAST = {"kernel": "weight", "scale": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
_CONVS = {"a": "1", "b": "2", "c": "3"}  # Google's BiT counts convolutions by letters
_LAYERS = {"LayerNorm_0": "norm1", "LayerNorm_2": "norm2", "MlpBlock_3/Dense_0": "mlp.fc1", "MlpBlock_3/Dense_1": "mlp.fc2"}
_ATTENTION = "MultiHeadDotProductAttention_1/"
_HYBRID = "patch_embed.backbone"


def translated(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under timm's names and in PyTorch's order of axes, where they came in a naming that is known; else as they are.

    >>> [*translated({"resnet/root_block/standardized_conv2d/kernel": torch.zeros(7, 7, 3, 64)}).items()][0][1].shape
    torch.Size([64, 3, 7, 7])
    """
    if BIT in weights:
        return _renamed((key, _bit(key), _turned(value)) for key, value in weights.items())
    if VIT in weights:
        return _vit(weights)
    if MOS in weights:
        return _renamed((key, _mos(key), value) for key, value in weights.items())
    return dict(weights)


def _renamed(tensors: Iterable[tuple[str, str, Tensor]]) -> dict[str, Tensor]:
    """Each under its new name; what comes second to a name keeps its old one, so that nothing is lost."""
    made: dict[str, Tensor] = {}
    for old, new, value in tensors:
        made[old if new in made else new] = value
    return made


def _turned(value: Tensor) -> Tensor:
    """A convolution's (h, w, i, o) as (o, i, h, w), a matrix transposed."""
    if value.ndim == 4 and value.shape[:3] == (1, 1, 1):  # the scales of hybrids' GroupNorm
        return value.flatten()
    return value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value


def _bit(key: str) -> str:
    fixed = {BIT: "stem.conv.weight", "resnet/group_norm/gamma": "norm.weight", "resnet/group_norm/beta": "norm.bias"}
    if found := re.fullmatch(r"resnet/head/conv2d/(kernel|bias)", key):
        return f"head.fc.{_LAST[found[1]]}"
    if found := re.fullmatch(r"resnet/block(\d+)/unit(\d+)/a/proj/standardized_conv2d/kernel", key):
        return f"{_unit(found[1], found[2])}.downsample.conv.weight"
    if found := re.fullmatch(r"resnet/block(\d+)/unit(\d+)/([abc])/(standardized_conv2d|group_norm)/(kernel|gamma|beta)", key):
        part = "conv" if found[4] == "standardized_conv2d" else "norm"
        return f"{_unit(found[1], found[2])}.{part}{_CONVS[found[3]]}.{_LAST[found[5]]}"
    return fixed.get(key, key)


def _mos(key: str) -> str:
    if found := re.fullmatch(r"body\.block(\d+)\.unit(\d+)\.(?:(conv|gn)([123])|(downsample))\.(weight|bias)", key):
        part = "downsample.conv" if found[5] else f"{'norm' if found[3] == 'gn' else 'conv'}{found[4]}"
        return f"{_unit(found[1], found[2])}.{part}.{found[6]}"
    return re.sub(r"^head\.conv\.", "head.fc.", re.sub(r"^before_head\.gn\.", "norm.", re.sub(r"^root\.conv\.", "stem.conv.", key)))


def _unit(block: str, unit: str) -> str:
    return f"stages.{int(block) - 1}.blocks.{int(unit) - 1}"


def _vit(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(weights)
    made: dict[str, Tensor] = {}
    for query in [key for key in found if key.endswith((f"{_ATTENTION}query/kernel", f"{_ATTENTION}query/bias"))]:
        # Queries, keys and values, each (d, heads, d / heads) or (heads, d / heads), are one matrix in timm.
        three = [query.replace("/query/", f"/{what}/") for what in ("query", "key", "value")]
        if not all(key in found for key in three) or len({found[key].shape for key in three}) > 1:
            continue
        matrices = [_joined(found.pop(key), query.endswith("kernel")) for key in three]
        made[f"{_block(query)}.attn.qkv.{_LAST[query.rpartition('/')[2]]}"] = torch.cat(matrices)
    # A hybrid without stages is its stem alone, which timm does not nest.
    root = f"{_HYBRID}.stem" if any(key.startswith("block1/") for key in found) else _HYBRID
    rest = _renamed((key, _vit_name(key, root), _vit_value(key, value)) for key, value in found.items())
    return {**rest, **made}


def _vit_value(key: str, value: Tensor) -> Tensor:
    out = key.endswith(f"{_ATTENTION}out/kernel") and value.ndim == 3  # (heads, d / heads, d)
    return value.flatten(0, 1).T if out else _turned(value)


def _joined(value: Tensor, kernel: bool) -> Tensor:
    return value.flatten(1).T if kernel else value.flatten()


def _block(key: str) -> str:
    return re.sub(r"^Transformer/encoderblock_(\d+)/.*", r"blocks.\1", key)


def _vit_name(key: str, root: str) -> str:
    fixed = {"cls": "cls_token", "Transformer/posembed_input/pos_embedding": "pos_embed"}
    path, _, last = key.rpartition("/")
    if key in fixed or last not in _LAST:
        return fixed.get(key, key)
    if found := re.fullmatch(r"block(\d+)/unit(\d+)/(conv|gn)([123]|_proj)", path):
        name = "norm" if found[3] == "gn" else "conv"
        part = f"downsample.{name}" if found[4] == "_proj" else f"{name}{found[4]}"
        return f"{_HYBRID}.{_unit(found[1], found[2])}.{part}.{_LAST[last]}"
    inner = re.sub(r"^Transformer/encoderblock_\d+/", "", path)
    if inner != path and (layer := {**_LAYERS, f"{_ATTENTION}out": "attn.proj"}.get(inner)):
        return f"{_block(path)}.{layer}.{_LAST[last]}"
    whole = {
        "embedding": "patch_embed.proj",
        "Transformer/encoder_norm": "norm",
        "head": "head",
        "conv_root": f"{root}.conv",
        "gn_root": f"{root}.norm",
    }
    return f"{whole[path]}.{_LAST[last]}" if path in whole else key

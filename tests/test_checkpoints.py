"""Weights from files of each published kind: read to the last tensor, or refused in a sentence; and nothing of a file is ever run."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import farfield as ff
from farfield.classifier.checkpoints import fill, kind_of, read_weights
from farfield.models import zoo
from farfield.models.zoo.bit import as_published, bit
from farfield.models.zoo.names import translated
from farfield.models.zoo.openood import ResNet18x32

Arrays = dict[str, np.ndarray[Any, Any]]


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with every tensor random, so that none agrees with another by being as it was made."""
    random = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point():
            drawn = (
                torch.randn(value.shape, generator=random) / max(value[0].numel(), 1) ** 0.5
                if value.ndim > 1
                else torch.rand(value.shape, generator=random) + 0.5
            )
            value.copy_(drawn)
    return module


def few() -> nn.Module:
    """A few tensors, for what does not depend on the network."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


class Trap:
    """What runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"import pathlib; pathlib.Path({str(self.mark)!r}).touch()",))


# --- checkpoints of torch.save ------------------------------------------------------------------------------------------------------------

WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "OpenOOD": lambda own: own,
    "T2T-ViT": lambda own: {
        "epoch": 3, "arch": "x", "state_dict": {k: v * 0 for k, v in own.items()}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.1), "state_dict_ema": own, "metric": 82.3,
    },
    "MOS": lambda own: {"step": 20000, "model": {f"module.{k}": v for k, v in own.items()}, "optim": {"state": {}, "param_groups": []}},
    "lightning": lambda own: {"state_dict": {f"model.{k}": v for k, v in own.items()}, "hyper_parameters": {"lr": 0.1}},
    "nested": lambda own: {"model": {"state_dict": own}},
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True], ids=["archive", "old"])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_checkpoints_are_read_whatever_is_wrapped_around_the_tensors(tmp_path: Path, wrapper: str, old: bool) -> None:
    own, path = shaken(few()), tmp_path / "best.ckpt"
    torch.save(WRAPPED[wrapper](own.state_dict()), path, _use_new_zipfile_serialization=not old)
    made = few()
    fill(made, read_weights(path), "it")
    assert kind_of(path) == "pickle" and same(own, made)


@pytest.mark.parametrize("old", [False, True], ids=["archive", "old"])
@pytest.mark.parametrize("name", ["trap.ckpt", "trap.pth.tar", "trap.safetensors"])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, name: str, old: bool) -> None:
    mark, path = tmp_path / "mark", tmp_path / name
    torch.save({"state_dict": few().state_dict(), "x": Trap(mark)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(
        ff.InputError, match=r"pickle with more in it than tensors \(\S*exec\), which can run any code.*Convert it once.*weights_only=False"
    ) as told:
        ff.Classifier.load("zoo:openood-cifar10-s0", weights=str(path))
    assert "\n" not in str(told.value) and not mark.exists()
    torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert mark.exists(), "the trap must be one"


def test_the_line_that_converts_does(tmp_path: Path) -> None:
    own, path = shaken(ResNet18x32(10)), tmp_path / "best.ckpt"
    torch.save({"state_dict": own.state_dict(), "x": Trap(tmp_path / "mark")}, path)
    with pytest.raises(ff.InputError) as told:
        read_weights(path)
    command = re.search(r'python -c "(.*)", and', str(told.value))
    assert command is not None
    exec(command[1], {})
    made = ff.Classifier.load("zoo:openood-cifar10-s0", weights=str(tmp_path / "best.ckpt.safetensors"))
    assert same(own, made.module) and made.classes == 10 and made.head is not None


def test_a_plain_pickle_runs_nothing_either(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Trap(mark), protocol=4))
    with pytest.raises(ff.InputError):
        read_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([torch.zeros(2)], r"holds no weights by name, nor any under state_dict_ema.*; it holds a list"),
        ({"epoch": 3, "loss": 0.1}, "it holds epoch, loss"),
        ({}, "it holds nothing"),
        ({"state_dict": {}}, "it holds nothing"),
        (torch.zeros(3), "it holds a Tensor"),
    ],
)
def test_a_checkpoint_without_tensors_says_what_it_holds(tmp_path: Path, held: Any, message: str) -> None:
    torch.save(held, tmp_path / "x.pt")
    with pytest.raises(ff.InputError, match=message):
        read_weights(tmp_path / "x.pt")


# --- Google's npz -------------------------------------------------------------------------------------------------------------------------


def google_bit(net: ResNetV2) -> Arrays:
    """A BiT as Google publishes it, written from the names in its npz files."""

    def kernel(weight: Tensor) -> np.ndarray[Any, Any]:
        return weight.detach().permute(2, 3, 1, 0).contiguous().numpy()

    head: Any = net.head.fc
    arrays = {
        "resnet/root_block/standardized_conv2d/kernel": kernel(net.stem.conv.weight),
        "resnet/group_norm/gamma": net.norm.weight.detach().numpy(), "resnet/group_norm/beta": net.norm.bias.detach().numpy(),
        "resnet/head/conv2d/kernel": kernel(head.weight), "resnet/head/conv2d/bias": head.bias.detach().numpy(),
    }  # fmt: skip
    for i, stage in enumerate(net.stages):
        for j, block in enumerate(stage.blocks):
            unit = f"resnet/block{i + 1}/unit{j + 1:02d}"
            for number, letter in zip("123", "abc", strict=True):
                norm: Any = getattr(block, f"norm{number}")
                arrays[f"{unit}/{letter}/standardized_conv2d/kernel"] = kernel(getattr(block, f"conv{number}").weight)
                arrays[f"{unit}/{letter}/group_norm/gamma"], arrays[f"{unit}/{letter}/group_norm/beta"] = (
                    norm.weight.detach().numpy(),
                    norm.bias.detach().numpy(),
                )
            if block.downsample is not None:
                arrays[f"{unit}/a/proj/standardized_conv2d/kernel"] = kernel(block.downsample.conv.weight)
    return arrays


def small_bit(classes: int = 5) -> ResNetV2:
    return ResNetV2([2, 1, 2, 11], (128, 128, 256, 128), classes, stem_type="fixed", stem_chs=32)


def google_vit(net: VisionTransformer, heads: int) -> Arrays:
    """A ViT, or a hybrid, as Google publishes it."""
    state = {key: value.detach() for key, value in net.state_dict().items()}
    width = state["cls_token"].shape[2]
    arrays = {"cls": state["cls_token"], "Transformer/posembed_input/pos_embedding": state["pos_embed"]}
    whole = {"patch_embed.proj": "embedding", "norm": "Transformer/encoder_norm", "head": "head"}
    layers = {"norm1": "LayerNorm_0", "norm2": "LayerNorm_2", "mlp.fc1": "MlpBlock_3/Dense_0", "mlp.fc2": "MlpBlock_3/Dense_1"}
    for block in range(len(net.blocks)):
        mine = f"Transformer/encoderblock_{block}"
        whole |= {f"blocks.{block}.{ours}": f"{mine}/{theirs}" for ours, theirs in layers.items()}
        attention = f"{mine}/MultiHeadDotProductAttention_1"
        for part, what in enumerate(("query", "key", "value")):
            rows = slice(part * width, (part + 1) * width)
            arrays[f"{attention}/{what}/kernel"] = state[f"blocks.{block}.attn.qkv.weight"][rows].T.reshape(width, heads, -1)
            arrays[f"{attention}/{what}/bias"] = state[f"blocks.{block}.attn.qkv.bias"][rows].reshape(heads, -1)
        arrays[f"{attention}/out/kernel"] = state[f"blocks.{block}.attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}/out/bias"] = state[f"blocks.{block}.attn.proj.bias"]
    root = "patch_embed.backbone"
    stem = f"{root}.stem" if f"{root}.stem.conv.weight" in state else root
    if f"{stem}.conv.weight" in state:
        whole |= {f"{stem}.conv": "conv_root", f"{stem}.norm": "gn_root"}
    for key in state:
        if found := re.fullmatch(rf"{root}\.stages\.(\d+)\.blocks\.(\d+)\.(?:(conv|norm)(\d)|downsample\.(conv|norm))\.weight", key):
            kind = (found[3] or found[5]).replace("norm", "gn")
            whole[key.removesuffix(".weight")] = f"block{int(found[1]) + 1}/unit{int(found[2]) + 1}/{kind}{found[4] or '_proj'}"
    for ours, theirs in whole.items():
        weight = state[f"{ours}.weight"]
        if weight.ndim == 1:
            value = weight.reshape(1, 1, 1, -1) if "gn" in theirs else weight
            arrays[f"{theirs}/scale"] = value
        else:
            arrays[f"{theirs}/kernel"] = weight.permute(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        if f"{ours}.bias" in state:
            bias = state[f"{ours}.bias"]
            arrays[f"{theirs}/bias"] = bias.reshape(1, 1, 1, -1) if "gn" in theirs else bias
    return {key: value.contiguous().numpy() for key, value in arrays.items()}


def vit(classes: int = 5) -> VisionTransformer:
    return VisionTransformer(img_size=32, patch_size=16, num_classes=classes, embed_dim=24, depth=11, num_heads=3)


VITS: dict[str, tuple[Callable[[], VisionTransformer], int]] = {
    "vit": (vit, 3),
    "R_Ti_16, whose stem alone is convolutional": (lambda: timm.create_model("vit_tiny_r_s16_p8_224", img_size=64, num_classes=5, depth=2), 3),
    "R26_S_32": (lambda: timm.create_model("vit_small_r26_s32_224", img_size=64, num_classes=5, depth=1), 6),
}


def test_googles_bit_is_read_as_timm_reads_it(tmp_path: Path) -> None:
    own, path = shaken(small_bit()), tmp_path / "BiT-S-R1x1.npz"
    np.savez(path, **google_bit(own))  # type: ignore[arg-type]
    ours, theirs = small_bit(), shaken(small_bit(), seed=1)
    fill(ours, read_weights(path), "a small BiT")
    theirs.load_pretrained(str(path))  # type: ignore[operator]
    assert same(own, ours) and same(theirs, ours)


@pytest.mark.parametrize("name", VITS)
def test_googles_vits_are_read_as_timm_reads_them(tmp_path: Path, name: str) -> None:
    make, heads = VITS[name]
    own, path = shaken(make()), tmp_path / "B_16.npz"
    np.savez(path, **google_vit(own, heads))  # type: ignore[arg-type]
    ours, theirs = make(), shaken(make(), seed=1)
    fill(ours, read_weights(path), "a small ViT")
    theirs.load_pretrained(str(path))  # type: ignore[operator]
    assert same(own, ours) and same(theirs, ours)


def test_an_augreg_file_is_the_weights_of_a_timm_model_and_says_its_classes(tmp_path: Path) -> None:
    own = shaken(timm.create_model("test_vit", num_classes=7))
    np.savez(tmp_path / "Ti_16.npz", **google_vit(own, 2))
    made = ff.Classifier.load("timm:test_vit", weights=str(tmp_path / "Ti_16.npz"))
    assert made.classes == 7 and same(own, made.module)


# --- what does not fit --------------------------------------------------------------------------------------------------------------------


def lacking(arrays: Arrays) -> Arrays:
    return {key: value for key, value in arrays.items() if not key.startswith("resnet/block4/unit11/b/")}


BAD_ARRAYS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "missing": (lacking, r"they lack 3 tensors, first `stages\.3\.blocks\.10\.conv2\.weight`"),
    "unknown": (lambda a: {**a, "resnet/step": np.zeros(1)}, "they have the unknown 1 tensor, first `resnet/step`"),
    "unknown unit": (
        lambda a: {**a, "resnet/block9/unit01/a/group_norm/beta": np.zeros(1)},
        r"they have the unknown 1 tensor, first `stages\.8\.blocks\.0\.norm1\.bias`",
    ),
    "a name twice": (
        lambda a: {**a, "resnet/block01/unit1/a/group_norm/beta": np.ones(32)},
        "they have the unknown 1 tensor, first `resnet/block01/unit1/a/group_norm/beta`",
    ),
    "shape": (lambda a: {**a, "resnet/group_norm/gamma": np.ones(1, np.float32)}, r"they have in another shape 1 tensor, first `norm\.weight`"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, case: str) -> None:
    change, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "x.npz", **change(google_bit(small_bit())))  # type: ignore[arg-type]
    with pytest.raises(ff.InputError, match=rf"The weights do not fit zoo:x: {message}.*another architecture or number of classes"):
        fill(small_bit(), read_weights(tmp_path / "x.npz"), "zoo:x")


def test_a_vit_without_its_keys_lacks_the_matrix_they_are_in(tmp_path: Path) -> None:
    arrays = google_vit(vit(), 3)
    del arrays["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"]
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ff.InputError, match=r"they lack 1 tensor, first `blocks\.1\.attn\.qkv\.weight`; they have the unknown 2 tensors"):
        fill(vit(), read_weights(tmp_path / "x.npz"), "zoo:x")


BAD_TENSORS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "missing": (lambda s: {k: v for k, v in s.items() if k != "bn1.running_var"}, r"they lack 1 tensor, first `bn1\.running_var`"),
    "unknown": (lambda s: {**s, "layer1.2.conv1.weight": torch.zeros(1)}, r"they have the unknown 1 tensor, first `layer1\.2\.conv1\.weight`"),
    "shape": (lambda s: {**s, "conv1.weight": torch.zeros(64, 3, 7, 7)}, r"they have in another shape 1 tensor, first `conv1\.weight`"),
    "torchvision's names": (
        lambda s: {k.replace("shortcut", "downsample"): v for k, v in s.items()},
        r"they lack 18 tensors, first `layer2\.0\.shortcut",
    ),
}


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, case: str, kind: str) -> None:
    change, message = BAD_TENSORS[case]
    state, path = change(ResNet18x32(10).state_dict()), tmp_path / f"x.{kind}"
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    with pytest.raises(ff.InputError, match=rf"The weights do not fit zoo:openood-cifar10-s0: {message}"):
        ff.Classifier.load("zoo:openood-cifar10-s0", weights=str(path))


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.save(zoo.build("vgg11-cifar", 10).state_dict(), tmp_path / "best.ckpt")
    for name in ("zoo:openood-cifar10-s0", "zoo:openood-imagenet200-s0", "timm:test_resnet"):
        with pytest.raises(ff.InputError, match=f"The weights do not fit {name}: they lack"):
            ff.Classifier.load(name, weights=str(tmp_path / "best.ckpt"))


def test_the_head_of_a_finetuned_checkpoint_tells_its_classes(tmp_path: Path) -> None:
    torch.save(shaken(ResNet18x32(7)).state_dict(), tmp_path / "own.pt")
    assert ff.Classifier.load("zoo:openood-cifar10-s0", weights=str(tmp_path / "own.pt")).classes == 7


# --- broken files -------------------------------------------------------------------------------------------------------------------------


def whole(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "npz":
        np.savez(buffer, **google_bit(small_bit()))  # type: ignore[arg-type]
    else:
        torch.save(small_bit().state_dict(), buffer, _use_new_zipfile_serialization=kind == "pth")
    return buffer.getvalue()


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("kind", ["npz", "pth", "pth.tar"])
def test_a_truncated_file_is_a_sentence(tmp_path: Path, kind: str, share: float) -> None:
    data, path = whole(kind), tmp_path / f"w.{kind}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ff.InputError, match=r"The weights .*w\.\S+ cannot be read: .*Give a safetensors file") as told:
        read_weights(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["x.npz", "x.ckpt", "x.safetensors"])
def test_a_missing_file_and_one_of_noise(tmp_path: Path, name: str) -> None:
    with pytest.raises(ff.InputError, match="cannot be read"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(ff.InputError, match="cannot be read"):
        read_weights(tmp_path / name)


def test_an_object_array_is_not_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    np.savez(tmp_path / "x.npz", allow_pickle=True, x=np.array([Trap(mark)], dtype=object))
    with pytest.raises(ff.InputError, match="cannot be read"):
        read_weights(tmp_path / "x.npz")
    assert not mark.exists()


def test_a_safetensors_file_whose_length_looks_like_a_pickle(tmp_path: Path) -> None:
    """Its header is 640 = 0x0280 bytes long, so the file begins with the bytes of a pickle of protocol 2."""
    path = tmp_path / "x.safetensors"
    for note in range(600):
        save_file({"x": torch.ones(2)}, path, metadata={"note": "n" * note})
        if struct.unpack("<Q", path.read_bytes()[:8])[0] == 0x280:
            break
    assert path.read_bytes().startswith(b"\x80\x02")
    assert kind_of(path) == "safetensors" and torch.equal(read_weights(path)["x"], torch.ones(2))


@pytest.mark.parametrize("name", ["run.pth", "run.pth.tar", "best.ckpt", "BiT-S-R101x1.npz"])
def test_weights_alone_are_no_classifier(name: str) -> None:
    with pytest.raises(ff.InputError, match=r"holds weights and does not say of which architecture\. Name that, and give the file as its weights"):
        ff.Classifier.load(name)


# --- MOS's naming -------------------------------------------------------------------------------------------------------------------------


class Standardised(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 (Qiao et al., 2019; Kolesnikov et al., ECCV 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / torch.sqrt(w.var((1, 2, 3), unbiased=False, keepdim=True) + 1e-10)
        return nn.functional.conv2d(x, w, None, self.stride, self.padding)


class Unit(nn.Module):
    """A pre-activation bottleneck under MOS's names: normalise, rectify, convolve, three times, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.gn1, self.conv1 = nn.GroupNorm(32, inputs), Standardised(inputs, middle, 1, bias=False)
        self.gn2, self.conv2 = nn.GroupNorm(32, middle), Standardised(middle, middle, 3, stride, 1, bias=False)
        self.gn3, self.conv3 = nn.GroupNorm(32, middle), Standardised(middle, outputs, 1, bias=False)
        self.downsample = Standardised(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        first = self.gn1(x).relu()
        shortcut = x if self.downsample is None else self.downsample(first)
        out: Tensor = self.conv3(self.gn3(self.conv2(self.gn2(self.conv1(first)).relu())).relu()) + shortcut
        return out


def mos_bit(units: list[int], widths: tuple[int, ...], classes: int) -> nn.Module:
    """BiT under the names of MOS's checkpoints; its widths are free, so that it can be small."""
    body, inputs = nn.Module(), widths[0] // 4
    for i, (count, width) in enumerate(zip(units, widths, strict=True)):
        block = nn.Sequential()
        for j in range(count):
            block.add_module(f"unit{j + 1:02d}", Unit(inputs, width, 2 if i and not j else 1))
            inputs = width
        body.add_module(f"block{i + 1}", block)
    net = nn.Module()
    net.root = nn.Sequential()
    net.root.add_module("conv", Standardised(3, widths[0] // 4, 7, 2, 3, bias=False))
    net.body = body
    net.before_head = nn.Sequential()
    net.before_head.add_module("gn", nn.GroupNorm(32, widths[-1]))
    net.head = nn.Sequential()
    net.head.add_module("conv", nn.Conv2d(widths[-1], classes, 1))
    return net


def mos_logits(net: Any, x: Tensor) -> Tensor:
    """Kolesnikov et al.: the stem pads with zeros, then pools without padding."""
    maps = nn.functional.max_pool2d(nn.functional.pad(net.root.conv(x), (1, 1, 1, 1)), 3, 2)
    for block in net.body.children():
        maps = block(maps)
    logits: Tensor = net.head(net.before_head(maps).relu().mean((2, 3), keepdim=True)).flatten(1)
    return logits


def test_moss_names_are_the_same_network() -> None:
    """Equal logits, in float64, of another build of the network with random weights."""
    torch.manual_seed(0)
    theirs = mos_bit([2, 1, 2, 11], (128, 256, 256, 128), 5).double()
    for key, value in theirs.state_dict().items():
        value.copy_(
            torch.rand(value.shape) + 0.5 if "gn" in key else value / 1000
        )  # filters so small that the number added to their variance is seen
    ours = as_published(ResNetV2([2, 1, 2, 11], (128, 256, 256, 128), 5, stem_type="fixed", stem_chs=32)).double()
    fill(ours, {key.removeprefix("module."): v for key, v in translated(theirs.state_dict()).items()}, "BiT")
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), mos_logits(theirs, x), rtol=1e-9, atol=1e-9)


def test_moss_checkpoint_is_read_whole(tmp_path: Path) -> None:
    theirs = shaken(mos_bit([3, 4, 6, 3], (256, 512, 1024, 2048), 4))
    torch.save({"step": 1, "model": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "flat.pth.tar")
    with torch.device("meta"):
        net = bit("50x1", 4)
    weights = read_weights(tmp_path / "flat.pth.tar")
    assert {key: value.shape for key, value in weights.items()} == {key: value.shape for key, value in net.state_dict().items()}


def test_what_is_in_no_known_naming_is_left_alone() -> None:
    weights = {"embedding.weight": torch.zeros(2, 3), "root": torch.zeros(1)}
    assert translated(weights).keys() == weights.keys() and translated(weights)["embedding.weight"] is weights["embedding.weight"]

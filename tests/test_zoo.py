"""The papers' classifiers: names and shapes against those of published files, forward passes against loops, and the way to their weights."""

from __future__ import annotations

import json
import math
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from accelerate import init_empty_weights
from PIL import Image
from torch import Tensor, nn
from torchvision import models as torchvisions
from typer.testing import CliRunner

import farfield as ff
from farfield.classifier.sources import blueprint
from farfield.cli.app import app
from farfield.cli.models import _shipped
from farfield.data.transforms import Preprocess
from farfield.models import SHIPPED, zoo
from farfield.models.zoo import ZOO
from farfield.models.zoo.openood import ResNet18x32
from farfield.models.zoo.t2t_vit import DEPTH, T2TViT24, TokenPerformer, TokensToToken, positive_features, sinusoids
from farfield.models.zoo.vgg_cifar import STAGES, VGG11

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights of this machine's are found."""
    monkeypatch.setenv("FARFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FARFIELD_WEIGHTS", raising=False)


# --- names, shapes, sizes -----------------------------------------------------------------------------------------------------------------


def published(title: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint."""
    sections = (ROOT / "tests" / "checkpoint-keys.txt").read_text("utf-8").split("\n## ")
    (section,) = [part for part in sections if part.startswith(title)]
    lines = [line.split() for line in section.splitlines()[1:] if line.strip()]
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape in lines}


@pytest.mark.parametrize(
    ("title", "source", "classes", "count"),
    [
        ("resnet18_32x32", "resnet18-32", 10, 122),
        ("resnet18_32x32", "resnet18-32", 100, 122),
        ("resnet18_224x224", "resnet18-224", 200, 122),
        ("T2T-ViT-24", "t2t-vit-24", 1000, 298),
    ],
)
def test_every_tensor_has_the_name_and_shape_of_the_published_one(title: str, source: str, classes: int, count: int) -> None:
    with torch.device("meta"):
        own = {key: tuple(value.shape) for key, value in zoo.build(source, classes).state_dict().items()}
    keys = published(title)
    if source == "resnet18-32":
        keys |= {"fc.weight": (classes, 512), "fc.bias": (classes,)}
    assert own == keys and len(own) == count


@pytest.mark.parametrize("name", ZOO)
def test_each_has_the_published_number_of_parameters_and_classes(name: str) -> None:
    with init_empty_weights():  # RegNets cannot be made on the meta device
        found, module = ZOO[name], blueprint(name)
    fixed = sum(value.numel() for value in module.buffers()) if name == "t2t-vit-24" else 0
    assert round((sum(p.numel() for p in module.parameters()) + fixed) / 1e6, 3) == found.millions
    last = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    assert len(last.weight) == found.classes


@pytest.mark.parametrize(
    ("name", "units", "factor"),
    [
        ("r50x1", (3, 4, 6, 3), 1), ("r101x1", (3, 4, 23, 3), 1), ("r50x3", (3, 4, 6, 3), 3), ("r152x2", (3, 8, 36, 3), 2), ("r101x3", (3, 4, 23, 3), 3),
    ],
)  # fmt: skip
def test_the_parameters_of_bit_are_those_of_its_bottlenecks(name: str, units: tuple[int, ...], factor: int) -> None:
    """Counted from the definition of ResNet-v2: a stem of 7 x 7, units of 1 x 1, 3 x 3, 1 x 1 without biases, two numbers a channel for each GroupNorm."""
    total, inputs = 7 * 7 * 3 * 64 * factor, 64 * factor
    for stage, count in enumerate(units):
        middle = 64 * factor * 2**stage
        for unit in range(count):
            total += inputs * middle + 9 * middle * middle + middle * 4 * middle + 2 * (inputs + 2 * middle)
            total += inputs * 4 * middle if unit == 0 else 0
            inputs = 4 * middle
    total += 2 * inputs + 1000 * inputs + 1000
    assert ZOO[f"bit-s-{name}"].millions == round(total / 1e6, 3)


@pytest.mark.parametrize("name", [name for name, found in ZOO.items() if found.fetched])
def test_torchvisions_are_as_it_publishes_them(name: str) -> None:
    _, base, tag = ZOO[name].source.split(":")
    weights: Any = torchvisions.get_model_weights(base)[tag]
    assert ZOO[name].address == weights.url and str(ZOO[name].address).endswith(f"/{ZOO[name].file}")
    assert ZOO[name].millions == round(weights.meta["num_params"] / 1e6, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (301, 403, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    assert torch.equal(Preprocess.parse(ZOO[name].preprocess)(picture), weights.transforms()(picture))


def test_the_zoo_has_what_the_papers_have() -> None:
    assert {f"bit-s-{size}" for size in ("r50x1", "r101x1", "r50x3", "r152x2", "r101x3")} <= ZOO.keys()
    for base in ("resnet50", "mobilenet-v2", "resnext50-32x4d", "wide-resnet50-2", "regnet-y-8gf"):
        assert {f"{base}-v1", f"{base}-v2"} <= ZOO.keys()
    assert {"swin-t", "vit-b-16", "t2t-vit-24", "vgg11-cifar10"} <= ZOO.keys()
    assert {f"openood-{data}-s{seed}" for data in ("cifar10", "cifar100", "imagenet200") for seed in range(3)} <= ZOO.keys()
    for found in ZOO.values():
        assert found.what and found.paper and (found.file is None) == (found.address is None)
    files = [found.file for found in ZOO.values() if found.file is not None]
    assert len(set(files)) == len(files)


# --- OpenOOD's ResNet-18 ------------------------------------------------------------------------------------------------------------------


def test_openoods_resnet_is_torchvisions_with_another_stem() -> None:
    torch.manual_seed(0)
    ours = ResNet18x32(10).eval()
    theirs = torchvisions.resnet18(num_classes=10).eval()
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = nn.Identity()
    for key, value in ours.state_dict().items():
        if "bn" in key or "shortcut.1" in key:
            value.copy_(torch.rand(value.shape) + 0.5)
    theirs.load_state_dict({key.replace("shortcut", "downsample"): value for key, value in ours.state_dict().items()})
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_the_small_ones_have_a_proven_head_and_named_blocks() -> None:
    for name, blocks, width in (("openood-cifar10-s0", ("layer1", "layer2", "layer3", "layer4"), 512), ("vgg11-cifar10", STAGES, 512)):
        made = ff.Classifier.load(f"zoo:{name}", random_weights=True)
        agree(made, (width, 10))
        assert made.blocks == blocks and made.input_size == (3, 32, 32) and made.name == f"zoo:{name}"


def agree(made: ff.Classifier, shape: tuple[int, int]) -> None:
    """Features and head make the logits."""
    head, outputs = made.head, made.outputs(made.probe())
    assert head is not None and head.weight.shape == shape[::-1] and outputs.features is not None and outputs.features.shape[1] == shape[0]
    torch.testing.assert_close(outputs.features @ head.weight.T + head.bias, outputs.logits, rtol=1e-4, atol=1e-5)


# --- VGG11 --------------------------------------------------------------------------------------------------------------------------------


def test_vgg11_is_its_eight_convolutions_and_three_layers() -> None:
    """Against the table of Simonyan & Zisserman, configuration A, run by hand; and its parameters, counted by hand."""
    torch.manual_seed(0)
    net = VGG11(10).eval()
    tensors = iter(net.state_dict().values())
    widths = [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0]  # 0 is a pooling
    x = y = torch.randn(2, 3, 32, 32)
    for width in widths:
        if width:
            weight, bias = next(tensors), next(tensors)
            assert len(weight) == width
            y = nn.functional.conv2d(y, weight, bias, padding=1).clamp(min=0)
        else:
            y = nn.functional.max_pool2d(y, 2)
    y = y.flatten(1)
    for layer in range(3):
        y = y @ next(tensors).T + next(tensors)
        y = y.clamp(min=0) if layer < 2 else y
    with torch.no_grad():
        torch.testing.assert_close(net(x), y)
    inputs = [3, 64, 128, 256, 256, 512, 512, 512]
    convolutions = sum(9 * i * o + o for i, o in zip(inputs, [w for w in widths if w], strict=True))
    assert sum(p.numel() for p in net.parameters()) == convolutions + 2 * (512 * 512 + 512) + 512 * 10 + 10


def test_the_blocks_of_vgg11_are_featurenorms() -> None:
    """After the ReLU of each convolution; the fourth after its pooling."""
    parts = dict(VGG11(10).named_modules())
    assert [type(parts[name]).__name__ for name in STAGES] == ["ReLU", "ReLU", "ReLU", "MaxPool2d", "ReLU", "ReLU", "ReLU", "ReLU"]
    convolutions = [int(name.partition(".")[2]) for name, part in parts.items() if isinstance(part, nn.Conv2d)]
    stages = [int(name.partition(".")[2]) for name in STAGES]
    assert all(one < stage <= one + 2 for one, stage in zip(convolutions, stages, strict=True))
    dropped = [part.p for part in parts.values() if isinstance(part, nn.Dropout)]
    assert dropped == [0.5, 0.5] and not any(isinstance(part, nn.BatchNorm2d) for part in parts.values())


# --- T2T-ViT ------------------------------------------------------------------------------------------------------------------------------


def performer_loop(net: TokenPerformer, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The layer for one picture's tokens `(t, d)`, token by token, as the two papers write it."""
    state = {key: value.double().numpy() for key, value in net.state_dict().items()}

    def norm(row: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
        out: np.ndarray[Any, Any] = (row - row.mean()) / math.sqrt(row.var() + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]
        return out

    def phi(row: np.ndarray[Any, Any]) -> list[float]:
        return [math.exp(float(w @ row) - float(row @ row) / 2) / math.sqrt(len(state["w"])) for w in state["w"]]

    def gelu(row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array([u * (1 + math.erf(u / math.sqrt(2))) / 2 for u in row])

    kqv = [state["kqv.weight"] @ norm(row, "norm1") + state["kqv.bias"] for row in x]
    keys, queries, values = ([row[64 * part : 64 * (part + 1)] for row in kqv] for part in range(3))
    out = []
    for query, value in zip(queries, values, strict=True):
        weights = [sum(a * b for a, b in zip(phi(query), phi(key), strict=True)) for key in keys]
        mixed = sum(weight * other for weight, other in zip(weights, values, strict=True)) / (sum(weights) + 1e-8)
        row = value + state["proj.weight"] @ mixed + state["proj.bias"]
        inner = gelu(state["mlp.0.weight"] @ norm(row, "norm2") + state["mlp.0.bias"])
        out.append(row + state["mlp.2.weight"] @ inner + state["mlp.2.bias"])
    return np.array(out)


@pytest.mark.parametrize("width", [147, 576])
def test_the_performer_is_the_papers_loop(width: int) -> None:
    torch.manual_seed(0)
    net = TokenPerformer(width).double().eval()
    for key, value in net.state_dict().items():
        if "norm" in key or "bias" in key:  # biases are small: long keys would leave nothing of attention beside the number added to its sum
            value.copy_(torch.rand(value.shape) + 0.5 if "norm" in key and "weight" in key else torch.randn(value.shape) / 10)
    x = torch.randn(2, 5, width, dtype=torch.float64)
    with torch.no_grad():
        ours = net(x)
        mixed = net.attention(net.norm1(x))[1]
    assert float(mixed.abs().mean()) > 0.05
    for picture, tokens in zip(x, ours, strict=True):
        np.testing.assert_allclose(tokens.numpy(), performer_loop(net, picture.numpy()), rtol=1e-10, atol=1e-12)


def test_the_features_estimate_the_exponential_kernel() -> None:
    """Choromanski et al., lemma 1: with normal directions the product's expectation is `exp(x . y)`."""
    torch.manual_seed(0)
    x, y = torch.randn(1, 1, 4, dtype=torch.float64) / 2, torch.randn(1, 1, 4, dtype=torch.float64) / 2
    w = torch.randn(200_000, 4, dtype=torch.float64)
    estimate = float((positive_features(x, w) * positive_features(y, w)).sum())
    assert abs(estimate / math.exp(float((x * y).sum())) - 1) < 0.02


def test_the_directions_are_orthogonal_and_do_not_learn() -> None:
    net = T2TViT24(3)
    for layer in (net.tokens_to_token.attention1, net.tokens_to_token.attention2):
        torch.testing.assert_close(layer.w @ layer.w.T, 32 * torch.eye(32), atol=1e-4, rtol=0)
    assert not {"pos_embed", "tokens_to_token.attention1.w"} & {name for name, _ in net.named_parameters()}


def soft_split(maps: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Windows `(d, h, w)` -> tokens, each with its channels first and then its rows and columns, by loops."""
    channels, height, width = maps.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=maps.dtype)
    padded[:, padding : padding + height, padding : padding + width] = maps
    rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    return torch.stack(
        [padded[:, r * stride : r * stride + kernel, c * stride : c * stride + kernel].flatten() for r in range(rows) for c in range(columns)]
    )


def test_tokens_are_made_by_three_soft_splits() -> None:
    """Yuan et al., section 3.1: windows of 7 every 4, of 3 every 2, of 3 every 2; each becomes a token, laid out as a picture again for the next."""
    torch.manual_seed(0)
    net = TokensToToken().eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours = net(x)
        for picture, tokens in zip(x, ours, strict=True):
            first = net.attention1(soft_split(picture, 7, 4, 2)[None])[0]
            assert first.shape == (64, 64)
            second = net.attention2(soft_split(first.T.reshape(64, 8, 8), 3, 2, 1)[None])[0]
            assert second.shape == (16, 64)
            third = soft_split(second.T.reshape(64, 4, 4), 3, 2, 1)
            torch.testing.assert_close(tokens, net.project(third), rtol=1e-4, atol=1e-5)
    assert ours.shape == (2, 4, 512)


def test_positions_are_sines_and_cosines_in_turn() -> None:
    places = sinusoids(197, 512)[0]
    for p, j in ((0, 0), (1, 0), (1, 1), (7, 10), (196, 511), (100, 301)):
        angle = p / 10000 ** (2 * (j // 2) / 512)
        assert abs(float(places[p, j]) - (math.cos(angle) if j % 2 else math.sin(angle))) < 1e-6


def test_t2t_vit_whole() -> None:
    """Its logits are those of the class token after blocks written out by hand; its head is proven, its blocks are named."""
    torch.manual_seed(0)
    net = T2TViT24(1000).eval()
    net.blocks = net.blocks[:2]
    made = ff.Classifier.wrap(net, transform=torch.as_tensor, input_size=(3, 224, 224))
    assert made.found is not None and made.found.names == ("head",) and DEPTH == 24
    assert made.blocks == ("blocks.0", "blocks.1")
    agree(made, (512, 1000))
    x = torch.randn(1, 3, 224, 224)
    state = net.state_dict()

    def norm(t: Tensor, name: str) -> Tensor:
        spread = (t.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return (t - t.mean(-1, keepdim=True)) / spread * state[f"{name}.weight"] + state[f"{name}.bias"]

    with torch.no_grad():
        t = torch.cat((state["cls_token"], net.tokens_to_token(x)), 1) + state["pos_embed"]
        for name in made.blocks:
            q, k, v = (norm(t, f"{name}.norm1") @ state[f"{name}.attn.qkv.weight"].T).reshape(1, 197, 3, 8, 64).permute(2, 0, 3, 1, 4)
            mixed = ((q @ k.transpose(2, 3)) / 8).softmax(-1) @ v
            t = t + mixed.transpose(1, 2).flatten(2) @ state[f"{name}.attn.proj.weight"].T + state[f"{name}.attn.proj.bias"]
            inner = nn.functional.gelu(norm(t, f"{name}.norm2") @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"])
            t = t + inner @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"]
        logits = norm(t, "norm")[:, 0] @ state["head.weight"].T + state["head.bias"]
        torch.testing.assert_close(net(x), logits, rtol=1e-3, atol=1e-4)


# --- the way to weights -------------------------------------------------------------------------------------------------------------------


def test_weights_are_found_in_the_folder_told_then_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = ZOO["openood-cifar100-s2"]
    told, cached = tmp_path / "told" / str(found.file), tmp_path / "cache" / "weights" / str(found.file)
    assert zoo.at_hand(found) is None
    for path, seed in ((cached, 1), (told, 2)):
        path.parent.mkdir(parents=True)
        torch.manual_seed(seed)
        torch.save(ResNet18x32(100).state_dict(), path)
    assert zoo.at_hand(found) == cached
    from_cache = ff.Classifier.load("zoo:openood-cifar100-s2")
    monkeypatch.setenv("FARFIELD_WEIGHTS", str(tmp_path / "told"))
    assert zoo.at_hand(found) == told
    assert from_cache.classes == 100 and isinstance(from_cache.transform, Preprocess)
    torch.manual_seed(1)
    assert torch.equal(from_cache.module.get_parameter("conv1.weight"), ResNet18x32(100).conv1.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bit-s-r101x1", r"are not at hand\. Get it from https://storage\S+BiT-S-R101x1\.npz and put it at \S+weights/BiT-S-R101x1\.npz \(or below \$FARFIELD_WEIGHTS\), or give it as"),
        ("openood-cifar10-s1", r"from https://drive\S+ \(cifar10_res18_v1\.5\.zip, to be unpacked\) and put it at \S+weights/cifar10_resnet18\S+/s1/best\.ckpt"),
        ("vgg11-cifar10", r"None were published .*Give your own as --weights, or train it: farfield train --model zoo:vgg11-cifar10\. Random weights"),
        ("bit-s-r101x", r"There is no zoo:bit-s-r101x; did you mean 'bit-s-r101x[13]'\? `farfield models` lists"),
    ],
)  # fmt: skip
def test_weights_that_are_not_here_say_where_they_are_had(name: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=message) as told:
        ff.Classifier.load(f"zoo:{name}")
    assert "\n" not in str(told.value)


def test_where_to_put_them_is_the_folder_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FARFIELD_WEIGHTS", str(tmp_path / "mine"))
    with pytest.raises(ff.InputError, match=rf"and put it at {tmp_path}/mine/BiT-S-R50x1\.npz, or give it as --weights\."):
        ff.Classifier.load("zoo:bit-s-r50x1")


def test_what_torchvision_publishes_it_fetches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ff.InputError, match="The weights of zoo:mobilenet-v2-v1 cannot be had"):
        ff.Classifier.load("zoo:mobilenet-v2-v1")
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    own = torchvisions.mobilenet_v2(num_classes=5)
    torch.save(own.state_dict(), folder / str(ZOO["mobilenet-v2-v1"].file))
    made = ff.Classifier.load("zoo:mobilenet-v2-v1")
    assert made.classes == 5 and torch.equal(made.module.state_dict()["classifier.1.weight"], own.classifier[1].weight)


def test_a_bit_is_timms_at_the_papers_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(ZOO, "bit-s-r50x1", replace(ZOO["bit-s-r50x1"], preprocess="resize=0,crop=32,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"))
    made = ff.Classifier.load("zoo:bit-s-r50x1", random_weights=True)
    assert made.blocks == ("stem.conv", "stages.0", "stages.1", "stages.2", "stages.3") and made.input_size == (3, 32, 32)
    agree(made, (2048, 1000))


def test_a_classifier_of_the_zoo_is_trained_and_read_again(tmp_path: Path) -> None:
    from farfield.recipes.making import fresh, save

    made = fresh("zoo:vgg11-cifar10", 4, seed=1)
    assert made.classes == 4
    save(made, tmp_path / "model.safetensors", "zoo:vgg11-cifar10", {})
    again = ff.Classifier.load(str(tmp_path))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.outputs(x).logits, made.outputs(x).logits) and again.blocks == STAGES
    with pytest.raises(ff.InputError, match=r"cannot be trained from random weights.*zoo:NAME"):
        fresh("zo:vgg11-cifar10", 4)


# --- the command line and the page --------------------------------------------------------------------------------------------------------


def farfield(*arguments: str) -> str:
    """What a command prints."""
    ran = CliRunner(env={"COLUMNS": "220"}).invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0
    return ran.stdout


def test_models_lists_what_ships_and_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ZOO["openood-cifar10-s0"]
    (tmp_path / str(found.file)).parent.mkdir(parents=True)
    (tmp_path / str(found.file)).touch()
    monkeypatch.setenv("FARFIELD_WEIGHTS", str(tmp_path))
    rows = json.loads(farfield("models", "--json"))
    names = {row["name"]: row for row in rows}
    assert [*names] == [*SHIPPED, *(f"zoo:{name}" for name in ZOO)]
    assert names["glyphs-200-resnet"]["weights"] == "ships" and names["glyphs-200-resnet"]["classes"] == 200
    assert names["zoo:openood-cifar10-s0"]["weights"] == "here" and names["zoo:openood-cifar10-s1"]["weights"] == "to be had"
    assert names["zoo:resnet50-v2"]["weights"] == "fetched" and names["zoo:vgg11-cifar10"]["weights"] == "none published"
    table = farfield("models")
    assert "zoo:bit-s-r101x1" in table and "44.541" in table and "farfield models NAME" in table


def test_models_tells_of_one() -> None:
    one = farfield("models", "zoo:bit-s-r50x1")
    for line in (
        "preprocess: resize=0,crop=480,mean=0.5/0.5/0.5",
        "file: BiT-S-R50x1.npz",
        "address: https://storage",
        "blocks: stem.conv, stages.0",
    ):
        assert line in one
    ours = json.loads(farfield("models", "glyphs-200-vit", "--json"))
    assert ours["blocks"] == ["blocks.0", "blocks.1", "blocks.2"] and ours["preprocess"].startswith("resize=0,crop=32")
    with pytest.raises(ff.InputError, match=r"There is no model 't2t-vit-25'; did you mean 't2t-vit-24'\? `farfield models` lists"):
        farfield("models", "zoo:t2t-vit-25")


def test_models_lists_the_pool() -> None:
    rows = json.loads(farfield("models", "--pool", "--json"))
    (row,) = [row for row in rows if row["name"] == "vit_base_patch16_224.augreg_in21k_ft_in1k"]
    assert row["weight_decay"] == 0.1 and row["finetuning_learning_rate"] == 0.01 and row["augmentation"] == "medium1"
    with pytest.raises(ff.InputError, match="--pool lists timm's ViTs, and takes no name; got 'x'"):
        farfield("models", "x", "--pool")
    assert "vit_base_patch16_224.augreg_in21k_ft_in1k" in farfield("models", "--pool")


def test_the_sizes_of_those_that_ship_are_counted() -> None:
    for name in ("glyphs-200-bit", "glyphs-1000-vit", "glyphs-200-resnet"):
        made = ff.Classifier.load(name)
        assert _shipped(name)["millions"] == round(sum(p.numel() for p in made.module.parameters()) / 1e6, 3)


def test_the_page_of_models_is_what_its_script_writes() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "models.py"))["page"]()
    assert page == (ROOT / "docs" / "models.md").read_text("utf-8"), "run `python docs/models.py`"
    for name in ZOO:
        assert f"`zoo:{name}`" in page


def test_every_classifier_that_is_named_anywhere_is_there() -> None:
    """In the sources, the documentation and the experiments, so that no experiment asks for a classifier that there is not."""
    root = Path(__file__).parents[1]
    files = [*(root / "src").rglob("*.py"), *(root / "docs").glob("*.md"), *(root / "experiments").glob("*.py"), root / "README.md"]
    text = "\n".join(path.read_text("utf-8") for path in files)
    zoos = set(re.findall(r"zoo:([a-z0-9][a-z0-9-]*[a-z0-9])\b(?![{-])", text))
    assert len(zoos) > 60 and zoos <= set(ZOO), zoos - set(ZOO)
    timms = set(re.findall(r"timm:([a-z][a-z0-9_]*[a-z0-9])(?:\.[a-z0-9_]+)?\b(?![*{])", text)) - {"vit"}
    assert len(timms) > 3 and timms <= set(timm.list_models()), timms - set(timm.list_models())

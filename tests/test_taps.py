"""What detectors see inside a classifier: held to separate passes, to loops, to finite differences; kept beside shards; run once in a benchmark."""

from __future__ import annotations

import sys
import warnings
from collections import Counter, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torchvision.models import SwinTransformer as SwinOfTorchvision
from torchvision.models import VisionTransformer as ViTOfTorchvision
from typer.testing import CliRunner

import farfield as ff
from farfield import benchmark
from farfield.classifier.classifier import blocks_of
from farfield.data.images import Images, OODSet, Suite
from farfield.data.pictures import Unreadable
from farfield.data.transforms import Normalize
from farfield.detectors import CATALOGUE, KNN, MOS, MSP, ODIN, AdaScale, FeatureNorm, Gram, Mahalanobis, MultiLayerMahalanobis, RankFeat, parse
from farfield.detectors.compose import fit_taps_of
from farfield.detectors.featurenorm import Norms, ShuffledNorms, jigsaw, norms_of
from farfield.detectors.gram import Correlations, correlations
from farfield.detectors.layers import Pooled, PooledOfAdversary, Widths
from farfield.detectors.odin import Nudged
from farfield.detectors.rankfeat import Deflated, deflated
from farfield.inputs import limited, read_arrays
from farfield.outputs import Head, Outputs
from farfield.store import Stored
from farfield.taps import Change, Seen, Tap, channels_last, watch

HALF = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FORWARD: Counter[bytes] = Counter()  # how often `Net` was given each input


class Net(nn.Module):
    """Three blocks of 25, 16 and 4 places for pictures of 7 x 7, whose last row and column it does not look at."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 6, 2), nn.BatchNorm2d(6), nn.ReLU())
        self.two = nn.Sequential(nn.MaxPool2d(2, 1), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(8, 5, 2, 2), nn.ReLU())
        self.head = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Tensor:
        FORWARD.update(row.numpy().tobytes() for row in x.detach())
        logits: Tensor = self.head(self.three(self.two(self.one(x[:, :, :6, :6]))).mean((2, 3)))
        return logits


def drawn(net: nn.Module, seed: int = 0, scale: float = 0.4) -> Any:
    """A module with random weights, so that nothing is zero by its start."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=random))
    return net.eval()


def small(classes: int = 4, dtype: torch.dtype = torch.float64, seed: int = 40, **given: Any) -> ff.Classifier:
    net = drawn(Net(classes), seed).to(dtype)
    with torch.no_grad():
        for layer in (net.one[0], net.two[1], net.three[0]):  # no channel is silent
            layer.weight.sub_(layer.weight.mean((1, 2, 3), keepdim=True))
            layer.bias.abs_()
    return ff.Classifier.wrap(net, transform=given.pop("transform", HALF), input_size=(3, 7, 7), name="small", **given)


def batch_of(n: int = 6, seed: int = 0, size: tuple[int, ...] = (3, 7, 7), dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def seen(classifier: ff.Classifier, batch: Tensor, *taps: Tap) -> dict[str, Tensor]:
    return dict(watch(classifier, batch, torch.arange(len(batch)), taps).taps)


def places(output: np.ndarray, layout: str) -> np.ndarray:
    """One sample's block output as channels x places."""
    if layout == "nchw":
        return output.reshape(len(output), -1)
    return output.reshape(-1, output.shape[-1]).T


def put_back(matrix: np.ndarray, like: np.ndarray, layout: str) -> np.ndarray:
    return matrix.reshape(like.shape) if layout == "nchw" else matrix.T.reshape(like.shape)


def without_leading(output: Tensor, layout: str) -> Tensor:
    """Each sample's map without its leading direction, by numpy's SVD."""
    done = []
    for one in output.detach().double().numpy():
        u, s, vt = np.linalg.svd(places(one, layout), full_matrices=False)
        done.append(put_back(places(one, layout) - s[0] * np.outer(u[:, 0], vt[0]), one, layout))
    return torch.from_numpy(np.stack(done)).to(output.dtype)


def separately(classifier: ff.Classifier, batch: Tensor, block: str, layout: str) -> Outputs:
    """A pass of its own in which one block's output is replaced."""

    def replaced(_: Any, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            parts = [without_leading(output[0], layout), *output[1:]]
            return Named(*parts) if isinstance(output, Named) else type(output)(parts)
        return without_leading(output, layout)

    handle = classifier.module.get_submodule(block).register_forward_hook(replaced)
    try:
        return classifier.outputs(batch)
    finally:
        handle.remove()


def hooks(module: nn.Module) -> int:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, name)) for part in module.modules() for name in names)


class Recorded(Tap):
    """Keeps what it sees, and changes the maps of some blocks."""

    name = "recorded"
    maps = True

    def __init__(self, **changes: Change) -> None:
        self.changes = {int(block.removeprefix("block")): change for block, change in changes.items()}
        self.seen: Seen | None = None

    def branches(self, blocks: int) -> dict[int, Change]:
        return self.changes

    def column(self, seen: Seen) -> Tensor:
        self.seen = seen
        return torch.zeros(len(seen.rows), 1)


# --- watch --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["last", "before", "both"])
def test_branches_are_separate_passes_with_the_blocks_output_replaced(at: str) -> None:
    net, batch = small(), batch_of()
    by_block = {"last": ["three"], "before": ["two"], "both": ["two", "three"]}[at]
    expected = torch.stack([separately(net, batch, block, "nchw").columns()["logits"] for block in by_block]).mean(0)
    plain = net.outputs(batch).columns()
    outputs = watch(net, batch, torch.arange(6), [Deflated(at, 0), Norms()])
    torch.testing.assert_close(outputs.taps[f"rankfeat:at={at},iterations=0"], expected, rtol=1e-9, atol=1e-9)
    assert (expected - plain["logits"]).abs().max() > 1e-2  # or nothing is shown
    for name in ("logits", "features"):
        torch.testing.assert_close(outputs.columns()[name], plain[name], rtol=1e-12, atol=1e-12)


def test_branches_give_features_and_maps_are_the_plain_ones() -> None:
    net, batch = small(), batch_of()
    doubled = Recorded(block0=lambda maps: 2 * maps, block2=lambda maps: maps + 1)
    watch(net, batch, torch.arange(6), [doubled])
    assert doubled.seen is not None
    with torch.no_grad():
        one = net.module.one(batch[:, :, :6, :6])
        two = net.module.two(one)
        three = net.module.three(two)
        first = net.module.three(net.module.two(2 * one)).mean((2, 3))
    for found, expected in zip(doubled.seen.maps, (one, two, three), strict=True):
        torch.testing.assert_close(found, expected.flatten(2), rtol=1e-12, atol=1e-12)
    assert list(doubled.seen.branches) == [("recorded", 0), ("recorded", 2)]
    torch.testing.assert_close(doubled.seen.branches["recorded", 0].features, first, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(doubled.seen.branches["recorded", 2].features, three.mean((2, 3)) + 1, rtol=1e-12, atol=1e-12)


def test_without_branches_logits_and_features_are_bit_equal() -> None:
    net, batch = small(dtype=torch.float32), batch_of(dtype=torch.float32)
    plain = net.outputs(batch).columns()
    outputs = watch(net, batch, torch.arange(6), [Norms(), Nudged(2.0, 0.1), ShuffledNorms()])
    assert all(torch.equal(outputs.columns()[name], plain[name]) for name in ("logits", "features"))
    bare = watch(net, batch, torch.arange(6), [])
    assert not bare.taps and torch.equal(bare.columns()["logits"], plain["logits"])


def fitted(net: ff.Classifier, *fitters: Any) -> list[Any]:
    """Detectors of a classifier, from made-up training data."""
    data = [(x, i % net.classes) for i, x in enumerate(batch_of(240, 5, dtype=net.dtype))]
    plain = ff.Classifier.wrap(net.module, transform=torch.as_tensor, input_size=(3, 7, 7))
    train = ff.collect(plain, data, taps=[tap for fitter in fitters for tap in fit_taps_of(fitter)])
    return [fitter(train) for fitter in fitters]


def all_taps(net: ff.Classifier) -> list[Tap]:
    gram, layers = fitted(net, Gram.fit, partial(MultiLayerMahalanobis.fit, eps=0.1))
    return [
        Norms(), ShuffledNorms(), Pooled(), Widths(), PooledOfAdversary(0.2), Nudged(3.0, 0.1), Deflated("last", 50), Deflated("both", 30),
        Deflated("before", 0), Correlations(3), *gram.taps(), *layers.taps(), *AdaScale.fit_taps(eps=0.5, share=0.4),
    ]  # fmt: skip


def test_several_taps_at_once_are_each_alone_and_leave_the_model_as_it_was() -> None:
    net = small()
    taps, batch = all_taps(net), batch_of()
    module = net.module
    module.train()
    module.two.eval()
    module.one[0].weight.requires_grad_(False)
    module.head.weight.grad = torch.ones_like(module.head.weight)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    asked = [parameter.requires_grad for parameter in module.parameters()]
    given = batch.clone()
    together = seen(net, batch, *taps)
    assert list(together) == [tap.name for tap in taps] and len(set(together)) == len(taps)
    for tap in taps:
        torch.testing.assert_close(together[tap.name], seen(net, batch, tap)[tap.name], rtol=1e-9, atol=1e-9, msg=tap.name)
        assert not together[tap.name].requires_grad
    assert hooks(module) == 0
    assert modes == [part.training for part in module.modules()]
    assert asked == [parameter.requires_grad for parameter in module.parameters()]
    assert torch.equal(batch, given) and not batch.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())  # BatchNorm's statistics too
    grads = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert list(grads) == ["head.weight"] and torch.equal(grads["head.weight"], torch.ones_like(module.head.weight))
    assert torch.is_grad_enabled()


class Failing(Tap):
    name = "failing"
    maps = True

    def __init__(self, where: str) -> None:
        self.where = where

    def branches(self, blocks: int) -> dict[int, Change]:
        return {1: self.fail} if self.where == "change" else {}

    def fail(self, *_: Any) -> Any:
        raise ZeroDivisionError

    def column(self, seen: Seen) -> Tensor:
        if self.where == "gradient":
            seen.gradient(self.fail, maps=True)
        return torch.zeros(99, 1) if self.where == "rows" else self.fail()


@pytest.mark.parametrize("where", ["change", "column", "gradient", "rows"])
def test_no_hook_is_left_after_an_error(where: str) -> None:
    net = small()
    net.module.train()
    with pytest.raises(
        ff.InputError if where == "rows" else ZeroDivisionError, match="The tap failing makes 99 rows of 6" if where == "rows" else None
    ):
        watch(net, batch_of(), torch.arange(6), [Failing(where)])
    assert hooks(net.module) == 0 and net.module.training and torch.is_grad_enabled()


def test_no_rows_are_no_rows() -> None:
    net = small()
    found = seen(net, batch_of(0), Norms(), Deflated("both", 5))
    assert [tuple(column.shape) for column in found.values()] == [(0, 3), (0, 4)]


class InPlace(nn.Module):
    """Writes into its input, and into the output of its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.sub_(0.3)
        x = self.first(x).relu_()
        logits: Tensor = self.head(self.second(x).relu_().mean((2, 3)))
        return logits


def test_models_that_write_in_place() -> None:
    made = ff.Classifier.wrap(drawn(InPlace()).double(), transform=HALF, input_size=(3, 7, 7), blocks=["first", "second"])
    batch = batch_of()
    with torch.no_grad():
        first = made.module.first(batch - 0.3)
        second = made.module.second(first.relu())
        plain = made.outputs(batch.clone()).columns()["logits"]
    together = seen(made, batch, Pooled(), Deflated("last", 0), Nudged(1.0, 1e-9), *AdaScale.fit_taps(eps=1e-9, share=1.0))
    torch.testing.assert_close(together["pooled"], torch.cat([first.mean((2, 3)), second.mean((2, 3))], 1))
    torch.testing.assert_close(seen(made, batch, Pooled())["pooled"], together["pooled"])
    torch.testing.assert_close(together["odin:temperature=1.0,eps=1e-09"], plain, rtol=1e-6, atol=1e-6)
    assert torch.equal(batch, batch_of())


def test_blocks_in_another_order_than_they_run() -> None:
    one = small(blocks=["two", "three"])
    other = small(blocks=["three", "two"])
    batch = batch_of()
    names = {at: f"rankfeat:at={at},iterations=0" for at in ("last", "before")}
    straight = seen(one, batch, Deflated("last", 0), Deflated("before", 0))
    turned = seen(other, batch, Deflated("last", 0), Deflated("before", 0))
    torch.testing.assert_close(turned[names["last"]], straight[names["before"]])
    torch.testing.assert_close(turned[names["before"]], straight[names["last"]])
    torch.testing.assert_close(seen(other, batch, Norms())["norms"], seen(one, batch, Norms())["norms"].flip(1))
    nested = small(blocks=["two", "two.1"])  # what is inside runs first
    inside = seen(nested, batch, Deflated("both", 0), Deflated("before", 0))
    torch.testing.assert_close(inside[names["before"]], straight[names["before"]])


# --- layouts ------------------------------------------------------------------------------------------------------------------------------


class VGG(nn.Module):
    """A row of layers whose poolings end the stages."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(3, 8), (8, 12), (12, 6)]
        layers = [(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)) for i, o in sizes]
        self.features = nn.Sequential(*(layer for stage in layers for layer in stage))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(24, 10), nn.ReLU(inplace=True), nn.Linear(10, 5))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


Named = namedtuple("Named", ["maps", "more"])


class Stage(nn.Module):
    """A stage that puts out a tuple, a list or a named tuple."""

    def __init__(self, i: int, o: int, kind: type) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(i, o, 3), kind

    def forward(self, x: Any) -> Any:
        maps = self.conv(x if isinstance(x, Tensor) else x[0]).relu()
        return Named(maps, 3) if self.kind is Named else self.kind([maps, 3])


class Several(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.a, self.b, self.head = Stage(3, 8, kind), Stage(8, 6, kind), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = self.b(self.a(x))
        assert type(out) is self.b.kind and out[1] == 3
        logits: Tensor = self.head(out[0].mean((2, 3)))
        return logits


def of_hugging_face(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    if kind == "vit":
        config = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=4, num_labels=5
        )
        return transformers.ViTForImageClassification(config)  # type: ignore[no-any-return]
    config = transformers.SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, num_labels=5)
    return transformers.SwinForImageClassification(config)  # type: ignore[no-any-return]


def swin(size: tuple[int, int]) -> nn.Module:
    return SwinTransformer(img_size=size, patch_size=4, window_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), num_classes=5)


LAYOUTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "timm-resnet": (lambda: timm.create_model("test_resnet", num_classes=5), (3, 64, 64), "nchw"),
    "timm-vit": (lambda: timm.create_model("test_vit", num_classes=5, img_size=64), (3, 64, 64), "tokens"),
    "timm-swin": (lambda: swin((32, 32)), (3, 32, 32), "nhwc"),
    "timm-swin-wide": (lambda: swin((32, 64)), (3, 32, 64), "nhwc"),
    "torchvision-swin": (
        lambda: SwinOfTorchvision(patch_size=[4, 4], embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=[4, 4], num_classes=5),
        (3, 32, 32), "nhwc",
    ),
    "torchvision-vit": (
        lambda: ViTOfTorchvision(image_size=16, patch_size=4, num_layers=4, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=5),
        (3, 16, 16), "tokens",
    ),
    "hf-vit": (lambda: of_hugging_face("vit"), (3, 16, 16), "tokens"),
    "hf-swin": (lambda: of_hugging_face("swin"), (3, 16, 16), "tokens"),
    "vgg": (VGG, (3, 16, 16), "nchw"),
    "tuple": (lambda: Several(tuple), (3, 9, 9), "nchw"),
    "list": (lambda: Several(list), (3, 9, 9), "nchw"),
    "named-tuple": (lambda: Several(Named), (3, 9, 9), "nchw"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
def test_maps_and_branches_of_every_layout(kind: str) -> None:
    make, size, layout = LAYOUTS[kind]
    torch.manual_seed(0)
    net = ff.Classifier.wrap(drawn(make(), scale=0.2).double(), transform=HALF, input_size=size, name=kind)
    assert len(net.blocks) >= 2, net.blocks
    batch = batch_of(3, size=size)
    plain = net.outputs(batch).columns()
    found = watch(net, batch, torch.arange(3), [Pooled(), Norms(), Widths(), Deflated("last", 0), Deflated("before", 0), Deflated("both", 0)])
    torch.testing.assert_close(found.columns()["logits"], plain["logits"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.columns()["features"], plain["features"], rtol=1e-9, atol=1e-9)

    heard: list[Any] = []
    handles = [net.module.get_submodule(name).register_forward_hook(lambda _, __, output: heard.append(output)) for name in net.blocks]
    net.outputs(batch)
    for handle in handles:
        handle.remove()
    maps = [[places(x, layout) for x in (out if isinstance(out, Tensor) else out[0]).numpy()] for out in heard]
    np.testing.assert_allclose(found.taps["pooled"], [np.concatenate([m[i].mean(1) for m in maps]) for i in range(3)], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        found.taps["norms"], [[np.mean([np.linalg.norm(np.maximum(z, 0)) for z in m[i]]) for m in maps] for i in range(3)], rtol=1e-9, atol=1e-12
    )
    assert found.taps["widths"].tolist() == [[len(m[0]) for m in maps]] * 3

    last, before = (separately(net, batch, net.blocks[-back], layout).columns()["logits"] for back in (1, 2))
    for at, expected in {"last": last, "before": before, "both": (last + before) / 2}.items():
        torch.testing.assert_close(found.taps[f"rankfeat:at={at},iterations=0"], expected, rtol=1e-6, atol=1e-6)
    assert float((last - plain["logits"]).abs().max()) > 1e-6


def test_which_maps_have_their_channels_last() -> None:
    assert channels_last((2, 7, 7, 5), False) and channels_last((2, 7, 9, 5), True)
    assert not channels_last((2, 5, 7, 7), False) and not channels_last((2, 7, 7, 7), False) and not channels_last((2, 7, 5), True)


class Odd(nn.Module):
    """Two stages and a head, which do something that taps have to refuse."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        x = self.b(self.a(x))
        if self.kind == "twice":
            x = self.b(x)
        if self.kind == "view":
            x = x.view(n, 8, 25)
        if self.kind == "reshape":
            x = x.reshape(n, 8, -1)
        logits: Tensor = self.head(x.flatten(2).mean(2))
        return logits


class Sequence(nn.Module):
    """Tokens come first, then samples."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.head = nn.Linear(3, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 4)
        self.b = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x.flatten(2).permute(2, 0, 1))
        logits: Tensor = self.head(self.b(self.a(tokens)).mean(0))
        return logits


class Pairs(nn.Module):
    """A model whose input is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, batch: Any) -> Tensor:
        logits: Tensor = self.net(batch["x"])
        return logits


def sentence(raised: Any) -> str:
    """The message, which must be of a few sentences on one line."""
    text = str(raised.value)
    assert 20 < len(text) < 320 and "\n" not in text and text.endswith("."), text
    return text


@pytest.mark.parametrize(
    ("kind", "tap", "said"),
    [
        ("twice", Norms(), "'b' of odd runs more than once"),
        ("view", Deflated("last", 5), "ties what comes after 'b' to the size of the batch"),
        ("reshape", Deflated("before", 5), "ties what comes after 'a' to the size of the batch"),
    ],
)
def test_what_cannot_be_watched_is_one_sentence(kind: str, tap: Tap, said: str) -> None:
    net = ff.Classifier.wrap(drawn(Odd(kind)), transform=HALF, input_size=(3, 7, 7), name="odd")
    with pytest.raises(ff.InputError, match=said) as raised:
        seen(net, batch_of(dtype=torch.float32), tap)
    sentence(raised)
    assert hooks(net.module) == 0


def test_unfit_models_are_one_sentence() -> None:
    plain = ff.Classifier.wrap(drawn(nn.Sequential(nn.Flatten(), nn.Linear(147, 4))), transform=HALF, input_size=(3, 7, 7), name="flat")
    assert plain.blocks == ()
    batch = batch_of(dtype=torch.float32)
    with pytest.raises(ff.InputError, match=r"flat has no blocks that could be found; name them") as raised:
        seen(plain, batch, Norms())
    sentence(raised)
    with pytest.raises(ff.InputError, match=r"at='both' needs a classifier with 2 blocks; this one has 0") as raised:
        seen(plain, batch, Deflated("both", 5))
    sentence(raised)
    assert seen(plain, batch, Nudged(1.0, 0.1))  # needs no blocks
    with pytest.raises(ff.InputError, match=r"has no part 'tree'; did you mean 'three'\?") as raised:
        small(blocks=["two", "tree"])
    sentence(raised)
    with pytest.raises(ff.InputError, match=r"RankFeat takes a direction out of maps"):
        seen(small(blocks=["head"]), batch.double(), Deflated("last", 5))
    turned = ff.Classifier.wrap(drawn(Sequence()), transform=HALF, input_size=(3, 7, 7), name="turned", blocks=["a", "b"])
    with pytest.raises(ff.InputError, match=r"'a' of turned puts out \(49, 6, 8\) for 6 inputs") as raised:
        seen(turned, batch, Norms())
    sentence(raised)
    pairs = ff.Classifier.wrap(drawn(Pairs()), transform=HALF, input_size={"x": (3, 7, 7)}, name="pairs")
    with pytest.raises(ff.InputError, match=r"input of pairs is a dict, and norms is for") as raised:
        watch(pairs, {"x": batch}, torch.arange(6), [Norms()])
    sentence(raised)


def test_a_model_that_gradients_do_not_pass_is_one_sentence() -> None:
    def call(module: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(x)
        return logits

    net = ff.Classifier.wrap(drawn(Net()), transform=HALF, input_size=(3, 7, 7), name="dead", call=call)
    with pytest.raises(ff.InputError, match=r"The gradient of dead by its input cannot be had") as raised:
        seen(net, batch_of(dtype=torch.float32), Nudged(1.0, 0.1))
    sentence(raised)
    assert hooks(net.module) == 0


def test_a_model_without_a_head_and_adascale_is_one_sentence() -> None:
    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).sin() + self.net(2 * x).cos()  # type: ignore[no-any-return]

    with pytest.warns(ff.FarfieldWarning, match="no linear head"):
        net = ff.Classifier.wrap(drawn(Bent()), transform=HALF, input_size=(3, 7, 7), name="bent")
    with pytest.raises(ff.InputError, match=r"bent has no linear head") as raised:
        seen(net, batch_of(dtype=torch.float32), *AdaScale.fit_taps())
    sentence(raised)


# --- each tap against loops ---------------------------------------------------------------------------------------------------------------


def slopes(objective: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-6) -> np.ndarray:
    """The gradient of one sample's objective by its input, by central differences."""
    steps = h * torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    found = (objective(x + steps) - objective(x - steps)) / (2 * h)
    return np.asarray(found.detach().reshape(x.shape))


def lse(v: np.ndarray) -> float:
    return float(v.max() + np.log(np.exp(v - v.max()).sum()))


def logits_at(net: ff.Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = net.module(x)
    return found


def cross_entropy(net: ff.Classifier, x: Tensor, temperature: float) -> Callable[[Tensor], Tensor]:
    """The cross-entropy, of moved inputs, by the class that one input is taken for."""
    label = int(logits_at(net, x[None])[0].argmax())
    return lambda moved: nn.functional.cross_entropy(logits_at(net, moved) / temperature, torch.full((len(moved),), label), reduction="none")


@pytest.mark.parametrize(("temperature", "eps"), [(1.0, 0.2), (5.0, 0.05)])
def test_odin_steps_against_the_slope_of_the_cross_entropy(temperature: float, eps: float) -> None:
    net, batch = small(), batch_of(4)
    found = seen(net, batch, Nudged(temperature, eps))[f"odin:temperature={temperature!r},eps={eps!r}"]
    detector = ODIN.fit(net.outputs(batch), temperature=temperature, eps=eps)
    scores = detector(watch(net, batch, torch.arange(4), detector.taps()))
    for i, x in enumerate(batch):
        g = slopes(cross_entropy(net, x, temperature), x)
        assert (g == 0).any() and (g > 1e-9).any() and (g < -1e-9).any()  # what is not looked at moves by sgn(0) = 1
        expected = logits_at(net, x[None] - eps * torch.from_numpy(np.where(g >= 0, 1.0, -1.0))[None])[0].numpy()
        np.testing.assert_allclose(found[i], expected, rtol=1e-9, atol=1e-9)
        p = np.exp(expected / temperature - lse(expected / temperature)).max()
        assert float(scores[i]) == pytest.approx(temperature * np.log(4 * p), rel=1e-6, abs=1e-9)


def test_odin_moves_at_a_temperature_at_which_float32_cannot_tell_the_probabilities() -> None:
    net, batch = small(dtype=torch.float32), batch_of(4, dtype=torch.float32)
    wide = small()
    one, other = seen(net, batch, Nudged(1e6, 0.1)), seen(wide, batch.double(), Nudged(1e6, 0.1))
    torch.testing.assert_close(*(next(iter(columns.values())).double() for columns in (one, other)), rtol=1e-4, atol=1e-4)


def test_the_adversary_steps_up_the_cross_entropy() -> None:
    net, batch = small(), batch_of(3)
    found = seen(net, batch, PooledOfAdversary(0.3))["pooled:noise=0.3"]
    for i, x in enumerate(batch):
        sign = torch.from_numpy(np.sign(slopes(cross_entropy(net, x, 1.0), x)))
        assert (sign == 0).any()
        with torch.no_grad():
            one = net.module.one((x + 0.3 * sign)[None, :, :6, :6])
            two = net.module.two(one)
            expected = torch.cat([part.mean((2, 3))[0] for part in (one, two, net.module.three(two))])
        torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=1e-9)
        assert float(cross_entropy(net, x, 1.0)((x + 1e-4 * sign)[None])) > float(cross_entropy(net, x, 1.0)(x[None]))


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_adascale_changes_the_least_slopes_alone(share: float) -> None:
    net, batch = small(), batch_of(3)
    found = seen(net, batch, *AdaScale.fit_taps(eps=0.7, share=share))[f"shifted:eps=0.7,share={share!r}"]
    for i, x in enumerate(batch):
        label = int(logits_at(net, x[None])[0].argmax())
        g = slopes(lambda moved, label=label: logits_at(net, moved)[:, label], x)  # type: ignore[misc]
        least = sorted(np.abs(g).flatten())[int(share * g.size) - 1]
        assert least > 0
        moved = x.numpy().copy()
        for place in np.ndindex(g.shape):
            if abs(g[place]) <= least * (1 + 1e-7):
                moved[place] += 0.7 * np.sign(g[place])
        expected = net.outputs(torch.from_numpy(moved)[None]).columns()["features"][0]
        torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=1e-9)
        assert 0 < (moved != x.numpy()).mean() <= share


def test_the_step_towards_the_nearest_class_of_each_block() -> None:
    net = small()
    (detector,) = fitted(net, partial(MultiLayerMahalanobis.fit, eps=0.2))
    batch = batch_of(3)
    (tap,) = detector.taps()
    found = seen(net, batch, tap)[tap.name]
    assert found.shape == (3, 3)

    def distance(block: int, x: Tensor) -> Tensor:
        layer = detector.layers[block]
        with torch.no_grad():
            maps = net.module.one(x[:, :, :6, :6])
            for part in (net.module.two, net.module.three)[:block]:
                maps = part(maps)
        f, means, root = maps.mean((2, 3)), layer.mean.double() + layer.mean_rest.double(), layer.root.double()
        return torch.stack([((f - mean) @ root).square().sum(1) for mean in means], 1).amin(1)

    for i, x in enumerate(batch):
        for block in range(3):
            g = slopes(partial(distance, block), x)
            moved = (x - 0.2 * torch.from_numpy(np.sign(g)))[None]
            assert float(found[i, block]) == pytest.approx(-float(distance(block, moved)), rel=1e-5)
            assert float(distance(block, (x - 1e-4 * torch.from_numpy(np.sign(g)))[None])) < float(distance(block, x[None]))
    score = detector(watch(net, batch, torch.arange(3), [tap]))
    np.testing.assert_allclose(score, found.numpy() @ detector.weights.numpy() + float(detector.bias), rtol=1e-6)


def test_a_float32_run_agrees_with_the_float64_run() -> None:
    narrow, wide = small(dtype=torch.float32), small()
    batch = batch_of(5).float()
    taps = all_taps(wide)
    one, other = seen(narrow, batch, *taps), seen(wide, batch.double(), *taps)
    for name, column in one.items():
        assert column.dtype == (torch.int64 if name == "widths" else torch.float32) or "of=" in name, name
        error = (column.double() - other[name].double()).abs().max() / other[name].double().abs().max()
        assert error < 1e-4, (name, float(error))


@pytest.mark.parametrize(("channels", "spots"), [(7, 4), (4, 7), (5, 5), (1, 6)])
def test_deflation_takes_the_leading_direction_and_nothing_else(channels: int, spots: int) -> None:
    x = torch.randn(9, channels, spots, generator=torch.Generator().manual_seed(1)).double()
    rest = deflated(x, 0)
    torch.testing.assert_close(rest, without_leading(x, "nchw"), rtol=1e-9, atol=1e-9)
    largest = torch.linalg.svdvals(x)[:, 0]
    # |X'|^2 = |X|^2 - s_1^2
    torch.testing.assert_close(rest.square().sum((1, 2)), x.square().sum((1, 2)) - largest.square(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(deflated(x, 10_000), rest, rtol=1e-6, atol=1e-6)
    errors = [float((deflated(x, k) - rest).abs().max()) for k in (1, 10, 100)]
    assert errors[2] <= errors[1] <= errors[0] and (errors[0] > 1e-3 or channels == 1)
    torch.testing.assert_close(deflated(x[3:4], 3), deflated(x, 3)[3:4])  # batch-mates play no part
    torch.testing.assert_close(deflated(1e12 * x.float(), 0) / 1e12, rest.float(), rtol=1e-3, atol=1e-4)  # no overflow in float32
    torch.testing.assert_close(deflated(1e25 * x.float(), 5) / 1e25, deflated(x.float(), 5), rtol=1e-3, atol=1e-4)


def test_deflation_of_nothing_and_of_half_precision() -> None:
    for iterations in (0, 3):
        assert torch.equal(deflated(torch.zeros(2, 3, 4), iterations), torch.zeros(2, 3, 4))
        x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
        assert deflated(x.bfloat16(), iterations).dtype == torch.float32
        rank_one = x[:, :, :1] @ x[:, :1, :]
        assert float(deflated(rank_one, iterations).abs().max()) < 1e-5
    with pytest.raises(ff.InputError, match="one place alone"):
        deflated(torch.zeros(2, 3, 1), 0)


def gram_loop(m: np.ndarray, powers: int) -> np.ndarray:
    found = np.zeros((len(m), powers))
    for i in range(len(m)):
        for q in range(1, powers + 1):
            total = sum(float((m[i] ** q) @ (m[j] ** q)) for j in range(len(m)))
            found[i, q - 1] = np.sign(total) * abs(total) ** (1 / q)
    return found.flatten()


def test_gram_is_the_loop_over_pairs_of_channels() -> None:
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(2)).double()
    found = correlations(x, 4)
    np.testing.assert_allclose(found, [gram_loop(m, 4) for m in x.numpy()], rtol=1e-8)
    assert (found < 0).any()  # or the sign is not shown


def test_gram_does_not_overflow() -> None:
    x = 1e4 * torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(2))
    found = correlations(x, 10)
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(found, [gram_loop(m, 10) for m in x.double().numpy()], rtol=1e-4)
    assert torch.equal(correlations(torch.zeros(2, 3, 4), 10), torch.zeros(2, 30))


def test_grams_bounds_are_the_least_and_largest_of_each_class() -> None:
    net = small()
    data = [(x, i % 4) for i, x in enumerate(batch_of(43, 5))]
    plain = ff.Classifier.wrap(net.module, transform=torch.as_tensor, input_size=(3, 7, 7))
    train = ff.collect(plain, data, taps=Gram.fit_taps(powers=2), batch_size=7)
    assert train.labels is not None
    g, labels = train.taps["gram:powers=2"].numpy(), train.labels.numpy()
    few = train[:39]  # ten of a class at most: none is held out
    detector = Gram.fit(few, powers=2)
    for c in range(4):
        own = [row for row, label in zip(g[:39], labels[:39], strict=True) if label == c]
        np.testing.assert_allclose(detector.low[c], np.min(own, 0))
        np.testing.assert_allclose(detector.high[c], np.max(own, 0))
    assert torch.equal(detector.usual, torch.zeros(g.shape[1]))
    pieces = Gram.fit([train[:20], train[20:21], train[21:39]], powers=2)
    assert all(torch.equal(value, pieces.state_dict()[name]) for name, value in detector.state_dict().items())
    # Training pictures are inside the bounds of their class; a deviation counts relative to the bound that it is beyond.
    (tap,) = detector.taps()
    batch = 3 * batch_of(5, 9)
    column = seen(plain, batch, tap)[tap.name]
    rows = correlations_of(net, batch)
    for i, predicted in enumerate(logits_at(net, batch).argmax(1).tolist()):
        start = 0
        for block, width in enumerate((6, 8, 5)):
            total = 0.0
            for j in range(start, start + 2 * width):
                low, high = float(detector.low[predicted, j]), float(detector.high[predicted, j])
                total += max(low - rows[i][j], 0) / max(abs(low), 1e-6) + max(rows[i][j] - high, 0) / max(abs(high), 1e-6)
            start += 2 * width
            assert float(column[i, block]) == pytest.approx(total, rel=1e-4, abs=1e-6)
    assert (column > 0).any()


def correlations_of(net: ff.Classifier, batch: Tensor) -> list[np.ndarray]:
    recorded = Recorded()
    seen(net, batch, recorded)
    assert recorded.seen is not None
    return [np.concatenate([gram_loop(maps[i].numpy(), 2) for maps in recorded.seen.maps]) for i in range(len(batch))]


def test_norms_are_the_loop() -> None:
    maps = tuple(torch.randn(4, c, p, generator=torch.Generator().manual_seed(c)) for c, p in ((5, 6), (3, 1)))
    expected = [[np.mean([np.sqrt((np.maximum(z, 0) ** 2).sum()) for z in m[i].numpy()]) for m in maps] for i in range(4)]
    np.testing.assert_allclose(norms_of(maps), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(6, 6), (7, 7), (8, 11)])
def test_jigsaw_moves_whole_tiles(size: tuple[int, int]) -> None:
    h, w = size
    th, tw = h // 3, w // 3
    batch = batch_of(12, size=(3, h, w))
    rows = torch.arange(100, 112)
    shuffled = jigsaw(batch, rows)

    def tiles(x: Tensor) -> list[bytes]:
        return [x[:, i * th : (i + 1) * th, j * tw : (j + 1) * tw].contiguous().numpy().tobytes() for i in range(3) for j in range(3)]

    orders = []
    for x, y in zip(batch, shuffled, strict=True):
        assert sorted(tiles(x)) == sorted(tiles(y))
        assert torch.equal(x[:, : 3 * th, : 3 * tw].flatten().sort().values, y[:, : 3 * th, : 3 * tw].flatten().sort().values)
        assert not y[:, 3 * th :].any() and not y[:, :, 3 * tw :].any()
        orders.append(tuple(tiles(x).index(tile) for tile in tiles(y)))
    assert len(set(orders)) > 8  # each row has an order of its own
    for i in (0, 5, 11):
        assert torch.equal(jigsaw(batch[i : i + 1], rows[i : i + 1])[0], shuffled[i])  # whoever is in the batch
    turned = torch.arange(11, -1, -1)
    assert torch.equal(jigsaw(batch[turned], rows[turned]), shuffled[turned])
    assert not torch.equal(jigsaw(batch, rows + 1), shuffled)


def test_shuffled_norms_are_those_of_the_shuffled_pictures() -> None:
    net, batch, rows = small(), batch_of(), torch.tensor([3, 1, 4, 1, 5, 9])
    found = watch(net, batch, rows, [ShuffledNorms()]).taps["shuffled-norms"]
    assert torch.equal(found, seen(net, jigsaw(batch, rows), Norms())["norms"])
    with pytest.raises(ff.InputError, match="pictures of 2 x 9 have none"):
        jigsaw(torch.zeros(1, 3, 2, 9), torch.tensor([0]))


# --- outputs and the store ----------------------------------------------------------------------------------------------------------------


def test_outputs_with_taps_can_be_cut_moved_and_joined() -> None:
    outputs = Outputs(logits=torch.randn(5, 3), ids=torch.arange(5), taps={"norms": torch.randn(5, 2), "maps": torch.randn(5, 2, 3)})
    for rows in (slice(1, 3), torch.tensor([4, 0]), slice(0, 0)):
        part = outputs[rows]
        assert all(torch.equal(part.columns()[name], column[rows]) for name, column in outputs.columns().items())
    from farfield.outputs import chunks, concatenate

    again = concatenate(list(chunks(outputs, 2)))
    assert all(torch.equal(again.columns()[name], column) for name, column in outputs.to("cpu").columns().items())
    norms = torch.rand(5000, 2) + 1
    many = Outputs(logits=torch.zeros(5000, 2), taps={"norms": norms, "shuffled-norms": norms * torch.tensor([1.0, 0.5])})
    assert FeatureNorm.fit(many).block == 1


class Pictures:
    """Sixty-four pictures, some of which cannot be read; it says of itself that it is the same whichever they are."""

    name = "pictures"

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.images = torch.randint(256, (64, 3, 7, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        self.broken = broken

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index in self.broken:
            raise Unreadable("it is torn")
        return self.images[index], index % 4

    def fingerprint(self) -> str:
        return "pictures"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys.modules["farfield.collect"], "SHARD", 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ff.FarfieldWarning)  # of what cannot be read
        yield


def kept(tmp_path: Path, data: Pictures, *taps: Tap, net: ff.Classifier | None = None) -> Stored:
    return ff.collect(net or small(dtype=torch.float32), data, out=tmp_path, batch_size=8, taps=taps)


def stamps(stored: Stored, pattern: str = "shard-?????.safetensors") -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(stored.folder.glob(pattern))}


def equal(one: Outputs, other: Outputs) -> bool:
    a, b = one.columns(), other.columns()
    return a.keys() == b.keys() and all(torch.equal(column, b[name]) for name, column in a.items())


@pytest.mark.usefixtures("small_shards")
def test_a_tap_adds_a_file_beside_each_shard_and_rewrites_none(tmp_path: Path) -> None:
    data, net = Pictures(broken=(10,)), small(dtype=torch.float32)
    base = kept(tmp_path, data)
    before = stamps(base)
    assert len(before) == 4 and not base.missing()
    first = kept(tmp_path, data, Norms())
    assert first.folder == base.folder and stamps(first) == before and first.taps == ("norms",)
    beside = stamps(first, "*.tap-*.safetensors")
    assert len(beside) == 4
    second = kept(tmp_path, data, Norms(), Pooled())
    assert stamps(second) == before and beside.items() < stamps(second, "*.tap-*.safetensors").items()
    assert len(stamps(second, "*.tap-*.safetensors")) == 8
    memory = ff.collect(net, data, batch_size=8, taps=[Norms(), Pooled()])
    assert equal(second.load(), memory)
    assert equal(base.load(), memory.to("cpu").__class__(memory.logits, memory.features, memory.labels, memory.head, {}, memory.ids))
    for kind in ("norms", "pooled"):
        assert list(base.having((kind,)).load().taps) == [kind]
    assert base.having(("norms", "pooled")).missing() == [] and base.having(("nudged",)).missing() == [0, 1, 2, 3]
    with pytest.raises(ff.InputError, match="Run `collect` again"):
        base.having(("nudged",)).load()


@pytest.mark.usefixtures("small_shards")
def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    data = Pictures()
    kept(tmp_path, data, Norms(), Nudged(1.0, 0.1))
    FORWARD.clear()
    kept(tmp_path, data, Nudged(1.0, 0.1))
    kept(tmp_path, data)
    inputs = {HALF(image).numpy().tobytes() for image in data.images}
    assert not inputs & FORWARD.keys()


@pytest.mark.usefixtures("small_shards")
def test_a_kill_between_a_shard_and_its_taps_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Pictures()
    put = Stored._put

    def killed(self: Stored, path: Path, *rest: Any) -> None:
        if path.name.startswith("shard-00001.tap"):
            raise KeyboardInterrupt
        put(self, path, *rest)

    monkeypatch.setattr(Stored, "_put", killed)
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path, data, Norms(), Pooled())
    monkeypatch.setattr(Stored, "_put", put)
    (folder,) = tmp_path.iterdir()
    half = Stored.open(folder).having(("norms", "pooled"))
    before = stamps(half) | stamps(half, "*.tap-*")
    assert sorted(stamps(half)) == ["shard-00000.safetensors", "shard-00001.safetensors"] and half.missing() == [1, 2, 3]
    done = kept(tmp_path, data, Norms(), Pooled())
    assert before.items() < (stamps(done) | stamps(done, "*.tap-*")).items() and done.verify() == []
    assert equal(done.load(), ff.collect(small(dtype=torch.float32), data, batch_size=8, taps=[Norms(), Pooled()]))


@pytest.mark.usefixtures("small_shards")
def test_a_mended_picture_makes_the_column_stale(tmp_path: Path) -> None:
    net = small(dtype=torch.float32)
    first = kept(tmp_path, Pictures(broken=(10,)), Norms())
    old = stamps(first, "*.tap-*")
    now = Pictures(broken=(11,))  # as many rows in the shard as before, and others
    base = kept(tmp_path, now)
    assert base.folder == first.folder and stamps(base, "*.tap-*") == old
    stale = base.having(("norms",))
    assert stale.missing() == [0] and not stale.has_tap(0, "norms") and stale.has_tap(1, "norms")
    with pytest.raises(ff.InputError, match="of other samples than its shard"):
        stale.load()
    kept(tmp_path, now, Norms())
    new = stamps(stale, "*.tap-*")
    assert [name for name in new if new[name] != old[name]] == [stale.tap_path(0, "norms").name]
    assert stale.missing() == [] and equal(stale.load(), ff.collect(net, now, batch_size=8, taps=[Norms()]))
    both = kept(tmp_path, Pictures(), Norms())
    assert both.failures() == [] and equal(both.load(), ff.collect(net, Pictures(), batch_size=8, taps=[Norms()]))


@pytest.mark.usefixtures("small_shards")
def test_a_shard_of_which_nothing_can_be_read_has_columns_too(tmp_path: Path) -> None:
    data = Pictures(broken=tuple(range(16, 32)))
    stored = kept(tmp_path, data, Norms(), Deflated("both", 5))
    empty = stored.read(1)
    assert [tuple(column.shape) for column in empty.taps.values()] == [(0, 3), (0, 4)] and len(empty) == 0
    loaded = stored.load()
    assert len(loaded) == 48 and loaded.taps["norms"].dtype == torch.float32
    assert equal(loaded, ff.collect(small(dtype=torch.float32), data, batch_size=8, taps=[Norms(), Deflated("both", 5)]))
    assert stored.missing() == [] and stored.verify() == []


def command(*words: str) -> tuple[int, str]:
    from farfield.cli import main
    from farfield.cli.app import app

    assert main
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


@pytest.mark.usefixtures("small_shards")
def test_broken_and_changed_columns_are_found_and_written_anew(tmp_path: Path) -> None:
    data = Pictures()
    stored = kept(tmp_path, data, Norms(), Pooled())
    assert stored.verify() == [] and command("store", "verify", "--store", str(tmp_path))[0] == 0
    broken, changed = stored.tap_path(1, "norms"), stored.tap_path(2, "pooled")
    broken.write_bytes(broken.read_bytes()[:60])
    content = changed.read_bytes()
    changed.write_bytes(content[:-4] + bytes(4))
    assert stored.verify() == [f"{broken.name} is broken", f"{changed.name} was changed"]
    status, said = command("store", "verify", "--store", str(tmp_path))
    assert status != 0 and f"{broken.name} is broken; {changed.name} was changed" in said
    assert stored.missing() == [1]
    with pytest.raises(ff.InputError, match="is broken, or of other samples"):
        stored.load()
    kept(tmp_path, data, Norms(), Pooled())
    assert stored.verify() == [f"{changed.name} was changed"]
    changed.unlink()
    kept(tmp_path, data, Norms(), Pooled())
    assert stored.verify() == []


@pytest.mark.usefixtures("small_shards")
def test_store_commands_with_columns(tmp_path: Path) -> None:
    import json
    import os

    stored = kept(tmp_path, Pictures(), Norms())
    left = stored.folder / f"{stored.tap_path(0, 'norms').name}.123-456.tmp"
    left.write_bytes(b"half")
    (told,) = json.loads(command("store", "ls", "--json", "--store", str(tmp_path))[1])
    assert told["missing"] == 0 and told["half_written"] == 1 and told["items"] == 64 and told["shards"] == 4
    assert told["bytes"] == sum(path.stat().st_size for path in stored.folder.iterdir())
    os.utime(left, (0, 0))
    kept(tmp_path, Pictures(), Norms())
    assert not left.exists()
    assert command("store", "rm", "--incomplete", "--yes", "--store", str(tmp_path))[0] == 0 and stored.folder.exists()
    assert command("store", "rm", "--all", "--yes", "--store", str(tmp_path))[0] == 0 and not stored.folder.exists()


@pytest.mark.usefixtures("small_shards")
def test_other_blocks_are_another_classifier(tmp_path: Path) -> None:
    data = Pictures()
    usual, named = small(dtype=torch.float32), small(dtype=torch.float32, blocks=["two", "three"])
    assert small(dtype=torch.float32, blocks=usual.blocks).fingerprint() == usual.fingerprint()
    kept(tmp_path, data, Norms(), net=usual)
    assert kept(tmp_path, data, Norms(), net=named).load().taps["norms"].shape == (64, 2)
    detector = FeatureNorm.fit(ff.collect(usual, data, taps=FeatureNorm.fit_taps(block=0)), block=0)
    with pytest.raises(ff.InputError, match="fitted on classifier"):
        detector(ff.collect(named, data, taps=detector.taps()))


# --- the benchmark ------------------------------------------------------------------------------------------------------------------------


def images(name: str, n: int, seed: int, ood: bool = False) -> Images:
    random = torch.Generator().manual_seed(seed)
    made = torch.randint(120, (n, 3, 7, 7), generator=random, dtype=torch.uint8)
    labels = torch.arange(n) % 4
    for i, label in enumerate(labels.tolist()):
        made[i, label % 3, 3 * (label // 2) : 3 * (label // 2) + 3] += 40 if ood else 120
    return Images(name, made, torch.full((n,), -1) if ood else labels)


def suite(**changed: Any) -> Suite:
    splits = {"train": lambda: images("train", 120, 0), "test": lambda: images("test", 40, 1)} | changed.pop("splits", {})
    ood = changed.pop("ood", (OODSet("far", "far", lambda: images("far", 20, 3, True)),))
    ood = tuple(OODSet(f"{entry.name}-set", entry.group, entry.load) for entry in ood)
    return Suite("small suite", tuple("abcd"), {"all": (0, 1, 2, 3)}, splits, ood, (), "")


def inputs_of(data: Images) -> list[bytes]:
    return [HALF(image).numpy().tobytes() for image in data.images]


def bench(tmp_path: Path, names: list[str], of: Suite | None = None, net: ff.Classifier | None = None, bare: bool = False) -> Any:
    given = None if bare else net or small(dtype=torch.float32)
    return benchmark.run([(of or suite(), [given])], {name: parse(name) for name in names}, out=tmp_path, batch_size=16)


def refusals(results: Any) -> dict[str, str]:
    return {entry["detector"]: entry["reason"] for entry in results.refused}


def scored_names(results: Any) -> set[str]:
    return {row.detector for row in results.rows}


def test_a_benchmark_runs_every_test_picture_once_and_its_scores_are_the_detectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureNorm, "most", 12)
    monkeypatch.setattr(MultiLayerMahalanobis, "most", 100)
    names = ["msp", "featurenorm", "rankfeat:at=last", "multi-layer-mahalanobis", "gram", "mahalanobis"]
    FORWARD.clear()
    results = bench(tmp_path, names)
    assert not results.refused and scored_names(results) == set(names)
    for test in (images("test", 40, 1), images("far", 20, 3, True)):
        assert [FORWARD[x] for x in inputs_of(test)] == [1] * len(test)
    train = images("train", 120, 0)
    # All in one pass; of those for FeatureNorm and of those for the layers a second; of the latter's adversary the gradient's too.
    counted = Counter(FORWARD[x] for x in inputs_of(train))
    few, some = set(inputs_of(limited(train, 12))), set(inputs_of(limited(train, 100)))
    assert [FORWARD[x] for x in inputs_of(train)] == [1 + (x in few) + 2 * (x in some) for x in inputs_of(train)], counted

    net = small(dtype=torch.float32)
    stored = load_file(next((tmp_path / "scores").rglob("*.safetensors")))
    for name in names:
        fitter = parse(name)
        most = {"featurenorm": 12, "multi-layer-mahalanobis": 100}.get(name)
        detector = fitter(ff.collect(net, limited(train, most), batch_size=16, taps=fit_taps_of(fitter)))
        for key, data in {"test": images("test", 40, 1), "far-set": images("far", 20, 3, True)}.items():
            expected = detector(ff.collect(net, data, batch_size=16, taps=detector.taps()))
            torch.testing.assert_close(stored[f"{name}/{key}"], expected, rtol=1e-4, atol=1e-4, msg=f"{name} {key}")


def test_a_benchmark_without_training_data_and_with_arrays(tmp_path: Path) -> None:
    net = small(dtype=torch.float32)
    of = suite()
    alone = Suite(of.name, of.classes, of.taxonomy, {"test": of.splits["test"]}, of.ood, (), "")
    results = bench(tmp_path / "a", ["odin", "rankfeat", "featurenorm"], alone)
    assert scored_names(results) == {"odin", "rankfeat"}
    assert refusals(results).keys() == {"featurenorm"} and "--id-train" in refusals(results)["featurenorm"]

    def arrays(name: str, n: int, seed: int, ood: bool = False) -> Callable[[], Outputs]:
        return lambda: ff.collect(net, images(name, n, seed, ood))

    given_train = suite(splits={"train": arrays("train", 120, 0)})
    results = bench(tmp_path / "b", ["odin", "featurenorm", "mahalanobis"], given_train)
    assert scored_names(results) == {"odin", "mahalanobis"} and list(refusals(results)) == ["featurenorm"]
    assert "featurenorm looks inside the classifier" in refusals(results)["featurenorm"]
    given_ood = suite(ood=(OODSet("given", "far", arrays("far", 20, 3, True)),))
    results = bench(tmp_path / "c", ["odin", "msp"], given_ood)
    assert scored_names(results) == {"msp"} and refusals(results).keys() == {"odin"}
    all_given = suite(
        splits={"train": arrays("train", 120, 0), "test": arrays("test", 40, 1)}, ood=(OODSet("given", "far", arrays("far", 20, 3, True)),)
    )
    results = bench(tmp_path / "d", ["odin", "msp", "gram", "knn:k=3"], all_given, bare=True)
    assert scored_names(results) == {"msp", "knn:k=3"} and refusals(results).keys() == {"odin", "gram"}
    assert all(name in why for name, why in refusals(results).items())


def test_a_benchmark_of_a_classifier_that_cannot_be_looked_into_refuses_by_name_and_goes_on(tmp_path: Path) -> None:
    names = ["msp", "odin", "rankfeat", "featurenorm", "adascale"]
    inside = {"rankfeat", "featurenorm"}
    flat = nn.Sequential(nn.Flatten(), nn.Linear(147, 4))
    net = ff.Classifier.wrap(drawn(flat), transform=HALF, input_size=(3, 7, 7), name="flat")
    results = bench(tmp_path / "flat", names, net=net)
    assert refusals(results).keys() == inside and scored_names(results) == set(names) - inside
    assert all("blocks" in why for why in refusals(results).values())

    class OfDict:
        def __call__(self, picture: Any) -> dict[str, Tensor]:
            return {"x": HALF(picture)}

    pairs = ff.Classifier.wrap(drawn(Pairs()), transform=OfDict(), input_size={"x": (3, 7, 7)}, name="pairs")
    results = bench(tmp_path / "pairs", names, net=pairs)
    assert refusals(results).keys() == inside | {"odin", "adascale"} and scored_names(results) == {"msp"}
    assert all("dict" in why for why in refusals(results).values())

    tied = ff.Classifier.wrap(drawn(Odd("view")), transform=HALF, input_size=(3, 7, 7), name="tied")
    results = bench(tmp_path / "tied", ["msp", "rankfeat"], net=tied)
    assert list(refusals(results)) == ["rankfeat"] and scored_names(results) == {"msp"}


def test_fit_and_score_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    for i, image in enumerate(images("train", 24, 0).images):
        (tmp_path / "train" / "abcd"[i % 4]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "train" / "abcd"[i % 4] / f"{i}.png")
    monkeypatch.setattr(FeatureNorm, "most", 8)
    for name in ("odin:eps=0.1", "featurenorm", "gram"):
        made = tmp_path / f"{name[:4]}.safetensors"
        options = ["--model", "python:test_taps:small_net", "--device", "cpu", "--store", str(tmp_path / "store")]
        status, said = command("fit", "--detector", name, "--id-train", str(tmp_path / "train"), "--out", str(made), *options)
        assert status == 0, said
        status, said = command("score", str(made), str(tmp_path / "train" / "a"), "--out", str(tmp_path / "scores.csv"), *options)
        assert status == 0, said
        rows = (tmp_path / "scores.csv").read_text().splitlines()
        assert len(rows) == 7 and all(float(row.split(",")[2]) == float(row.split(",")[2]) for row in rows[1:])


# --- heads with groups --------------------------------------------------------------------------------------------------------------------

GROUPS = torch.tensor([-1, 2, -1, 0, 4, 1, -1, 3])  # groups of one, three and one class


def predicted(v: np.ndarray, groups: list[int]) -> int:
    """The class with the largest probability in the softmax of its own group."""
    best, chosen = -np.inf, -1
    starts = [i for i, label in enumerate(groups) if label == -1]
    for start, end in zip(starts, [*starts[1:], len(groups)], strict=True):
        for place in range(start + 1, end):
            odds = v[place] - lse(np.delete(v[start:end], place - start))  # log p / (1 - p)
            if odds > best:
                best, chosen = odds, groups[place]
    return chosen


def others(v: np.ndarray, groups: list[int]) -> float:
    """`-min_k log p_k(others)`."""
    starts = [i for i, label in enumerate(groups) if label == -1]
    return -min(float(v[a] - lse(v[a:b])) for a, b in zip(starts, [*starts[1:], len(groups)], strict=True))


def grouped(n: int = 60, scale: float = 3.0, seed: int = 0) -> Outputs:
    random = torch.Generator().manual_seed(seed)
    head = Head(torch.randn(8, 6, generator=random), torch.randn(8, generator=random), GROUPS)
    features = scale * torch.randn(n, 6, generator=random)
    return Outputs(head(features), features, torch.arange(n) % 5, head, ids=torch.arange(n))


@pytest.mark.parametrize("scale", [0.5, 3.0, 60.0])
def test_mos_and_the_prediction_are_the_loops(scale: float) -> None:
    outputs = grouped(scale=scale)
    assert outputs.logits is not None and outputs.head is not None and outputs.head.classes == 5
    wide = outputs.logits.double().numpy()
    expected = [predicted(v, GROUPS.tolist()) for v in wide]
    assert len(set(expected)) >= 4 and outputs.predictions().tolist() == expected
    np.testing.assert_allclose(MOS.fit(outputs)(outputs), [others(v, GROUPS.tolist()) for v in wide], rtol=1e-4, atol=1e-6)
    one = Outputs(logits=torch.tensor([[0.0, 1.0, 2.0]]), head=Head(torch.zeros(3, 1), torch.zeros(3), torch.tensor([-1, 1, 0])))
    assert one.predictions().tolist() == [0]
    assert float(MOS.fit(one)(one)) == pytest.approx(lse(np.array([0.0, 1.0, 2.0])))


FLAT = sorted(name for name, made in CATALOGUE.items() if {"logits", "head"} & set(made.fit_needs) and name not in ("mos", "panel"))


@pytest.mark.parametrize("name", FLAT)
def test_flat_detectors_refuse_groups_by_name(name: str) -> None:
    outputs = grouped()
    fitter = CATALOGUE[name].fit
    columns = {tap.name: torch.rand(60, 6) + 0.1 for tap in fit_taps_of(fitter)}
    given = Outputs(outputs.logits, outputs.features, outputs.labels, outputs.head, columns, outputs.ids)
    with pytest.raises(ff.InputError, match=r"is for flat logits; this head has a softmax in each of several groups") as raised:
        fitter(given)
    assert str(raised.value).startswith(CATALOGUE[name].__name__ + " ")


def test_flat_is_most_of_the_catalogue() -> None:
    assert {"msp", "energy", "odin", "rankfeat", "gram", "adascale", "vim", "gradnorm", "openmax"} <= set(FLAT)
    outputs = grouped()
    flat = Outputs(outputs.logits, outputs.features, head=Head(torch.zeros(8, 6), torch.zeros(8)))
    with pytest.raises(ff.InputError, match="this one is flat"):
        MOS.fit(flat)
    for shaper in ("react", "ash-s", "dice"):
        with pytest.raises(ff.InputError, match="is for flat logits"):
            parse(f"{shaper}+energy")(outputs)


def test_detectors_of_features_work_with_groups() -> None:
    outputs = grouped(200)
    for fitter in (Mahalanobis.fit, partial(KNN.fit, k=3), CATALOGUE["relative-mahalanobis"].fit):
        assert torch.isfinite(fitter(outputs)(outputs)).all()
    wrong = outputs.having(labels=torch.arange(200) % 6)  # five classes, eight logits
    with pytest.raises(ff.InputError, match="from 0 to 4"):
        Mahalanobis.fit(wrong)


@pytest.mark.parametrize(
    "groups",
    [[2, -1, 0, 4, 1, -1, 3, -1], [-1, 2, -1, 0, 4, 1, 3, -1], [-1, -1, 2, 0, 4, 1, -1, 3], [-1, 2, -1, 0, 4, 1, -1, 2], [-1, 2, -1, 0, 4, 1, -1, 5],
     [-1, 2, -2, 0, 4, 1, -1, 3], [-1] * 8],
)  # fmt: skip
def test_bad_groups_are_one_sentence(groups: list[int]) -> None:
    with pytest.raises(ff.InputError, match="`groups` of a head") as raised:
        Head(torch.zeros(8, 6), torch.zeros(8), torch.tensor(groups, dtype=torch.int64))
    sentence(raised)
    with pytest.raises(ff.InputError, match="`groups` of a head"):
        ff.Classifier.wrap(drawn(Net(8)), transform=HALF, input_size=(3, 7, 7), groups=torch.tensor(groups, dtype=torch.int64))


@contextmanager
def unchecked() -> Iterator[None]:
    """Without the check of annotated shapes, as outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_groups_in_arrays(tmp_path: Path) -> None:
    outputs = grouped()
    assert outputs.head is not None and outputs.logits is not None
    named = {"logits": outputs.logits, "head.weight": outputs.head.weight, "head.bias": outputs.head.bias, "head.groups": GROUPS}
    save_file(named, tmp_path / "a.safetensors")
    np.savez(tmp_path / "b.npz", **{name: column.numpy() for name, column in named.items()})
    (tmp_path / "c").mkdir()
    for name, column in named.items():
        np.save(tmp_path / "c" / f"{name}.npy", column.int().numpy() if name == "head.groups" else column.numpy())
    for path in ("a.safetensors", "b.npz", "c"):
        read = read_arrays(tmp_path / path)
        assert read.head is not None and read.head.groups is not None and read.head.groups.tolist() == GROUPS.tolist()
        assert torch.equal(read.predictions(), outputs.predictions())
    for bad, said in ((GROUPS.flip(0), "an entry for each"), (GROUPS[:5], "an entry for each"), (GROUPS.float(), "whole"), (GROUPS[None], "whole")):
        save_file({**named, "head.groups": bad.contiguous()}, tmp_path / "bad.safetensors")
        with pytest.raises(ff.InputError, match=said) as raised, unchecked():
            read_arrays(tmp_path / "bad.safetensors")
        assert "bad.safetensors" in sentence(raised)
    save_file({"logits": outputs.logits, "head.groups": GROUPS}, tmp_path / "bad.safetensors")
    with pytest.raises(ff.InputError, match=r"head\.groups, and no head\.weight"):
        read_arrays(tmp_path / "bad.safetensors")


def small_net() -> ff.Classifier:
    """Used as a `python:` classifier."""
    return small(dtype=torch.float32)


def mos_net() -> ff.Classifier:
    """Used as a `python:` classifier."""
    return small(classes=6, dtype=torch.float32, groups=torch.tensor([-1, 3, 0, -1, 2, 1]))


def test_groups_in_a_store_and_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    net = ff.Classifier.load("python:test_taps:mos_net")
    assert net.classes == 4 and net.logit_count == 6 and net.fingerprint() != small(classes=6, dtype=torch.float32).fingerprint()
    test = images("test", 40, 1)
    stored = ff.collect(net, test, out=tmp_path / "store", batch_size=16).load()
    assert stored.head is not None and stored.head.groups is not None and stored.head.groups.tolist() == [-1, 3, 0, -1, 2, 1]
    assert stored.logits is not None and stored.labels is not None
    right = [predicted(v, [-1, 3, 0, -1, 2, 1]) for v in stored.logits.double().numpy()]
    assert stored.predictions().tolist() == right
    results = bench(tmp_path / "bench", ["mos", "knn:k=3", "featurenorm", "odin"], net=net)
    (entry,) = results.classifiers
    assert entry["id_accuracy"] == np.mean(np.array(right) == stored.labels.numpy()) and entry["classes"] == 4
    assert 0 < entry["id_accuracy"] != np.mean(stored.logits.argmax(1).numpy() == stored.labels.numpy())
    assert scored_names(results) == {"mos", "knn:k=3", "featurenorm"} and refusals(results).keys() == {"odin"}
    outputs = {name: ff.collect(net, images(name, n, seed, name == "far")) for name, n, seed in (("train", 120, 0), ("test", 40, 1), ("far", 20, 3))}
    given = suite(splits={"train": lambda: outputs["train"], "test": lambda: outputs["test"]}, ood=(OODSet("far", "far", lambda: outputs["far"]),))
    (again,) = bench(tmp_path / "given", ["mos", "knn:k=3"], given, bare=True).classifiers
    assert again["classes"] == 4 and again["id_accuracy"] == entry["id_accuracy"]


def test_blocks_are_those_of_the_model() -> None:
    assert blocks_of(VGG(), ("classifier.3",)) == ("features.2", "features.5", "features.8")
    assert small().blocks == ("one", "two", "three")
    assert MSP.fit(grouped().having(head=None))  # what says nothing of groups is flat
    assert RankFeat.fit(grouped().having(head=None)).taps()[0].name == "rankfeat:at=both,iterations=50"

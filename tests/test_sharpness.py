"""Sharpness-aware steps against loops in float64 and against what is known in closed form; what is moved, and that it comes back to the bit."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm import layers as timm_layers
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import FrozenBatchNorm2d

import farfield as ff
import training_oracles as oracle
from farfield.data.images import Images
from farfield.training import Recipe, frozen_statistics, norm_parameters, perturbed, train, usual_rho
from farfield.training.sharpness import is_norm


def parameters(*values: list[float], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(value, dtype=dtype)) for value in values]


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    def raw(x: Tensor) -> Tensor:
        return x.contiguous().flatten().view(torch.uint8)

    return one.keys() == other.keys() and all(torch.equal(raw(value), raw(other[name])) for name, value in one.items())


# Which layers normalise


class Own(nn.Module):
    """What transformers has: a class of its own, with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


LlamaRMSNorm = type("LlamaRMSNorm", (Own,), {})
Renamed = type("Alpha", (nn.GroupNorm,), {})
RenamedOwn = type("Beta", (timm_layers.RmsNorm,), {})
NormedLinear = type("NormedLinear", (nn.Linear,), {})
NORMS: list[Callable[[], nn.Module]] = [
    lambda: nn.BatchNorm1d(8),
    lambda: nn.BatchNorm2d(8),
    lambda: nn.SyncBatchNorm(8),
    lambda: nn.GroupNorm(2, 8),
    lambda: nn.LayerNorm(8),
    lambda: nn.LayerNorm([8, 2, 2]),
    lambda: nn.RMSNorm(8),
    lambda: nn.InstanceNorm2d(8, affine=True),
    lambda: timm_layers.GroupNormAct(8, 2),
    lambda: timm_layers.BatchNormAct2d(8),
    lambda: timm_layers.LayerNorm2d(8),
    lambda: timm_layers.LayerNormAct2d(8),
    lambda: timm_layers.RmsNorm(8),
    lambda: timm_layers.RmsNormAct(8),
    lambda: timm_layers.RmsNorm2d(8),
    lambda: timm_layers.EvoNorm2dS0(8, 2),
    lambda: timm_layers.FilterResponseNormAct2d(8),
    lambda: LayerNorm2d(8),
    LlamaRMSNorm,
    lambda: Renamed(2, 8),
    lambda: RenamedOwn(8),
]


@pytest.mark.parametrize("make", NORMS)
def test_layers_that_normalise_are_known_by_their_type(make: Callable[[], nn.Module]) -> None:
    layer = make()
    assert is_norm(layer)
    whole = nn.Sequential()
    whole.add_module("first", nn.Conv2d(3, 8, 3))
    whole.add_module("q7", layer)  # a name that says nothing
    whole.add_module("norm", nn.Linear(8, 2))  # and one that lies
    found = norm_parameters(whole)
    assert {id(p) for p in found} == {id(p) for p in layer.parameters(recurse=False)}
    assert len(found) >= 1


OTHERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(8, 8),
    lambda: nn.Conv2d(3, 8, 3),
    lambda: NormedLinear(8, 8),
    lambda: nn.PReLU(8),
    lambda: nn.LocalResponseNorm(2),
    lambda: nn.Sequential(nn.GroupNorm(2, 8)),
    lambda: timm_layers.NormMlpClassifierHead(8, 3),
    lambda: timm_layers.ConvNormAct(3, 8),
    lambda: timm_layers.LayerScale(8),
    lambda: FrozenBatchNorm2d(8),
    lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
]


@pytest.mark.parametrize("make", OTHERS)
def test_layers_that_do_not_normalise_or_hold_no_parameters_of_their_own(make: Callable[[], nn.Module]) -> None:
    assert not is_norm(make())


@pytest.mark.parametrize("name", ["resnetv2_50x1_bit", "resnetv2_18d"])
def test_all_norms_of_timms_bit_are_found(name: str) -> None:
    model = timm.create_model(name, num_classes=4)
    kinds = (timm_layers.GroupNormAct, timm_layers.BatchNormAct2d, timm_layers.LayerNorm2d)
    there = [layer for layer in model.modules() if isinstance(layer, kinds)]
    assert len(there) == (49 if "bit" in name else len(there)) > 0
    assert len(norm_parameters(model)) == 2 * len(there)
    if "bit" in name:  # three in each of 16 units, and the last
        affine = {p for n, p in model.named_parameters() if "norm" in n}
        assert set(norm_parameters(model)) == affine


@pytest.mark.parametrize(
    ("name", "kind", "norms"),
    [
        ("vit_tiny_patch16_224", nn.LayerNorm, 2 * 12 + 1),
        ("convnext_atto", nn.LayerNorm, 1 + 3 + 12 + 1),
        ("resnet18", nn.BatchNorm2d, 1 + 2 * 8 + 3),
    ],
)
def test_models_of_other_kinds_have_all_of_theirs(name: str, kind: type[nn.Module], norms: int) -> None:
    """As many as the architecture has, counted by hand."""
    model = timm.create_model(name, num_classes=4)
    theirs = [p for layer in model.modules() if isinstance(layer, kind) for p in layer.parameters()]
    assert {id(p) for p in norm_parameters(model)} == {id(p) for p in theirs}
    assert len(theirs) == 2 * norms


def test_frozen_and_tied_parameters_are_left_out_and_taken_once() -> None:
    net = nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.GroupNorm(1, 4))
    net[2].weight = net[0].weight
    net[3].requires_grad_(False)
    assert [id(p) for p in norm_parameters(net)] == [id(net[0].weight), id(net[0].bias), id(net[2].bias)]


def test_the_usual_radius_is_the_papers_for_its_network() -> None:
    assert usual_rho([torch.zeros(97_664)]) == pytest.approx(0.5, abs=1e-3)
    assert usual_rho(parameters([1.0] * 60, [1.0] * 40)) == pytest.approx(0.016)


# The perturbation


def test_the_perturbation_is_the_loop() -> None:
    random = torch.Generator().manual_seed(0)
    held = [nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=random)) for shape in ((3, 2), (4,), ())]
    for p in held:
        p.grad = torch.randn(p.shape, dtype=torch.float64, generator=random)
    length = math.sqrt(sum(float(g) ** 2 for p in held for g in p.grad.flatten()))
    expected = [np.array([float(w) + 0.7 * float(g) / length for w, g in zip(p.detach().flatten(), p.grad.flatten(), strict=True)]) for p in held]
    before = [p.detach().clone() for p in held]
    with perturbed(held, 0.7) as norm:
        assert norm == pytest.approx(length, rel=1e-14)
        for p, value in zip(held, expected, strict=True):
            np.testing.assert_allclose(p.detach().flatten(), value, rtol=1e-14)
        moved = math.sqrt(sum(float((p.detach() - b).square().sum()) for p, b in zip(held, before, strict=True)))
        assert moved == pytest.approx(0.7, rel=1e-12)
    assert all(torch.equal(p, b) for p, b in zip(held, before, strict=True))


def test_bits_come_back_also_after_an_exception() -> None:
    held = parameters([0.1, -0.0, 1e-30, 3e7], [float("inf"), 1.0], dtype=torch.float32)
    for p in held:
        p.grad = torch.full_like(p, 1 / 3)
    whole = nn.ParameterList(held)
    before = bits(whole)
    with contextlib.suppress(ZeroDivisionError), perturbed(held, 123.456):
        assert not same_bits(before, bits(whole))
        raise ZeroDivisionError
    assert same_bits(before, bits(whole))
    with pytest.raises(KeyboardInterrupt), perturbed(held, 1.0):
        raise KeyboardInterrupt
    assert same_bits(before, bits(whole))


@pytest.mark.parametrize("gradient", [0.0, math.inf, math.nan])
def test_a_gradient_without_a_direction_moves_nothing(gradient: float) -> None:
    (w,) = parameters([1.0, 2.0])
    w.grad = torch.tensor([gradient, 0.0], dtype=torch.float64)
    with perturbed([w], 1.0):
        assert w.tolist() == [1.0, 2.0]
    with perturbed([], 1.0) as norm:
        assert norm == 0


def test_parameters_without_a_gradient_stay_and_one_given_twice_moves_once() -> None:
    one, other = parameters([3.0, 4.0], [1.0])
    one.grad = torch.tensor([0.6, 0.8], dtype=torch.float64)
    with perturbed([one, other, one], 5.0) as norm:
        assert norm == pytest.approx(1)
        assert one.tolist() == pytest.approx([6.0, 8.0])
        assert other.tolist() == [1.0]
    assert one.tolist() == [3.0, 4.0]


def test_only_normalisation_moves() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 3))
    nn.functional.cross_entropy(net(torch.randn(4, 3, 4, 4)), torch.tensor([0, 1, 2, 0])).backward()
    before = bits(net)
    with perturbed(norm_parameters(net), 0.5):
        inside = bits(net)
    moved = {name for name in before if not torch.equal(before[name], inside[name])}
    assert moved == {"1.weight", "1.bias", "4.weight", "4.bias"}
    assert sum(float((inside[n] - before[n]).square().sum()) for n in moved) == pytest.approx(0.25, rel=1e-4)
    assert same_bits(before, bits(net))


def test_a_tied_weight_moves_once() -> None:
    net = nn.Sequential(nn.LayerNorm(3), nn.LayerNorm(3))
    net[1].weight = net[0].weight
    net(torch.randn(2, 3)).square().sum().backward()
    grads = torch.cat([p.grad for p in norm_parameters(net)])
    with perturbed(norm_parameters(net), 0.1):
        torch.testing.assert_close(net[0].weight.detach(), 1 + 0.1 * net[0].weight.grad / grads.norm())  # type: ignore[union-attr]


# Whole steps


def test_a_step_on_a_quadratic_is_the_closed_form() -> None:
    """f = w'Aw / 2: the gradient a way rho up the slope is A (w + rho A w / |A w|)."""
    matrix = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    (w,) = parameters([1.0, -2.0])
    optimizer = torch.optim.SGD([w], lr=0.1)
    expected = w.detach().clone()
    for _ in range(5):
        slope = matrix @ expected
        expected = expected - 0.1 * matrix @ (expected + 0.3 * slope / slope.norm())
        (w @ matrix @ w / 2).backward()
        with perturbed([w], 0.3):
            optimizer.zero_grad()
            (w @ matrix @ w / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(w.detach(), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("which", ["all", "bias"])
def test_steps_of_a_logistic_regression_are_those_of_the_loop(which: str) -> None:
    random = np.random.default_rng(0)
    inputs, labels = random.normal(size=(12, 4)), random.integers(0, 3, 12)
    layer = nn.Linear(4, 3).double()
    held = [layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()]
    velocity = None
    moved = list(layer.parameters()) if which == "all" else [layer.bias]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2, momentum=0.9)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)

    def backward() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(layer(x), y).backward()

    for _ in range(4):
        held, velocity = oracle.sam_step(
            held,
            lambda at: oracle.softmax_regression_gradient(*at, inputs, labels),
            rho=0.5,
            lr=0.2,
            momentum=0.9,
            velocity=velocity,
            moved=[0, 1] if which == "all" else [1],
        )
        backward()
        with perturbed(moved, 0.5):
            backward()
        optimizer.step()
        np.testing.assert_allclose(layer.weight.detach(), held[0], rtol=1e-11)
        np.testing.assert_allclose(layer.bias.detach(), held[1], rtol=1e-11)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_radius_of_none_is_the_optimiser_alone_to_the_bit(optimizer: str) -> None:
    def trained(sharp: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        steps = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) if optimizer == "sgd" else torch.optim.Adam(net.parameters())
        for step in range(6):
            x, y = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(step)), torch.arange(8) % 3
            steps.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            if sharp:
                first = [p.grad.clone() for p in net.parameters()]
                with perturbed(list(net.parameters()), 0.0), frozen_statistics(net):
                    steps.zero_grad()
                    nn.functional.cross_entropy(net(x), y).backward()
                assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), first, strict=True))
            steps.step()
        return bits(net)

    assert same_bits(trained(True), trained(False))


# Running statistics


@pytest.mark.parametrize("momentum", [None, 0.1, 0.5])
@pytest.mark.parametrize(
    "make",
    [lambda m: nn.BatchNorm2d(3, momentum=m), lambda m: timm_layers.BatchNormAct2d(3, momentum=m), lambda m: nn.BatchNorm2d(3, momentum=m).eval()],
)
def test_running_statistics_stay_and_go_on_as_before(make: Callable[[float | None], nn.Module], momentum: float | None) -> None:
    random = torch.Generator().manual_seed(0)
    batches = [torch.randn(4, 3, 2, 2, generator=random) + i for i in range(4)]
    layer, plain = make(momentum), make(momentum)
    layer(batches[0]), plain(batches[0])
    before = bits(layer)
    with frozen_statistics(layer):
        layer(batches[1])
        layer(torch.full_like(batches[1], torch.inf))
    assert same_bits(before, bits(layer))
    assert layer.momentum == momentum
    with contextlib.suppress(ZeroDivisionError), frozen_statistics(nn.Sequential(layer)):
        layer(batches[2])
        raise ZeroDivisionError
    assert same_bits(before, bits(layer))
    layer(batches[3]), plain(batches[3])
    assert same_bits(bits(plain), bits(layer))


def test_statistics_that_are_not_kept_are_no_hindrance() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.InstanceNorm2d(3, track_running_stats=True), nn.GroupNorm(1, 3))
    before = bits(net)
    with frozen_statistics(net):
        net(torch.randn(4, 3, 2, 2))
    assert same_bits(before, bits(net))
    assert int(net[1].num_batches_tracked) == 0


# In the loop

COLOURS = Images(
    "noise", torch.randint(256, (32, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8), (torch.arange(32) % 3).long()
)


def small(norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def scaled(pictures: Tensor) -> Tensor:
    return pictures.float() / 255 - 0.5


SAM = Recipe(epochs=1, batch_size=8, lr=0.1, warmup=0.0, schedule="constant", weight_decay=0.0, momentum=0.0, sharpness="sam-norm", rho=0.3)


@pytest.mark.filterwarnings("ignore:A radius of 0.3 is large:farfield.errors.FarfieldWarning")
@pytest.mark.parametrize("sharpness", ["sam-norm", "sam"])
def test_the_loop_takes_the_steps_written_out(tmp_path: Path, sharpness: str) -> None:
    net, other = small(nn.GroupNorm(2, 4)).double(), small(nn.GroupNorm(2, 4)).double()
    recipe = replace(SAM, sharpness=sharpness)
    seen: list[Tensor] = []

    def transform(pictures: Tensor) -> Tensor:
        seen.append(scaled(pictures).double())
        return seen[-1]

    train(net, COLOURS, recipe, transform=transform, out=tmp_path)
    labels = {x.double().sum().item(): y for x, y in zip(scaled(COLOURS.images), COLOURS.labels.tolist(), strict=True)}
    moved = norm_parameters(other) if sharpness == "sam-norm" else list(other.parameters())
    for x in seen:
        y = torch.tensor([labels[one.float().double().sum().item()] for one in x])
        other.zero_grad()
        nn.functional.cross_entropy(other(x).float(), y).backward()
        length = math.sqrt(sum(float((p.grad**2).sum()) for p in moved))
        kept = [p.detach().clone() for p in moved]
        with torch.no_grad():
            for p in moved:
                p += 0.3 * p.grad / length
        other.zero_grad()
        nn.functional.cross_entropy(other(x).float(), y).backward()
        with torch.no_grad():
            for p, before in zip(moved, kept, strict=True):
                p.copy_(before)
            for p in other.parameters():
                p -= 0.1 * p.grad
    assert len(seen) == 4
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_a_radius_of_nought_in_a_recipe_is_the_usual_one(tmp_path: Path) -> None:
    usual = usual_rho(norm_parameters(small(nn.GroupNorm(2, 4))))
    nets = [small(nn.GroupNorm(2, 4)) for _ in range(2)]
    for i, (net, rho) in enumerate(zip(nets, (0.0, usual), strict=True)):
        train(net, COLOURS, replace(SAM, rho=rho), transform=scaled, out=tmp_path / str(i))
    assert same_bits(bits(nets[0]), bits(nets[1]))


@pytest.mark.filterwarnings("ignore:A radius of 0.3 is large:farfield.errors.FarfieldWarning")
def test_batch_statistics_are_followed_once_a_step(tmp_path: Path) -> None:
    net, plain = small(nn.BatchNorm2d(4)), small(nn.BatchNorm2d(4))
    train(net, COLOURS, replace(SAM, lr=1e-30), transform=scaled, out=tmp_path / "sam")
    train(plain, COLOURS, replace(SAM, lr=1e-30, sharpness="none"), transform=scaled, out=tmp_path / "plain")
    for held, other in zip(net[1].buffers(), plain[1].buffers(), strict=True):
        assert torch.equal(held, other)
    assert int(net[1].num_batches_tracked) == 4


def test_a_model_without_normalisation_takes_plain_steps_and_says_so(tmp_path: Path) -> None:
    net, plain = small(nn.Identity()), small(nn.Identity())
    with pytest.warns(ff.FarfieldWarning, match="no normalisation layer to train"):
        train(net, COLOURS, SAM, transform=scaled, out=tmp_path / "sam")
    with warnings.catch_warnings():
        train(plain, COLOURS, replace(SAM, sharpness="none"), transform=scaled, out=tmp_path / "plain")
    assert same_bits(bits(net), bits(plain))


def test_a_radius_much_larger_than_usual_is_warned_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    images = Images("x", torch.randint(256, (8, 3, 6, 6), dtype=torch.uint8), torch.arange(8) % 3)
    with pytest.warns(ff.FarfieldWarning, match="A radius of 0.5 is large for 8 parameters"):
        train(net, images, replace(SAM, rho=0.5), transform=lambda x: x.float() / 255, out=tmp_path)

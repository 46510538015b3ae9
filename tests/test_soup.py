"""Averages of weights against means written out, the greedy soup against every subset it may pick, and BatchNorm's statistics against those of all data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import farfield as ff
from farfield.training.soup import average, greedy, refresh_statistics


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5))
    made.train()(torch.randn(8, 3, 4, 4))
    return made


def test_an_average_is_the_mean_in_float64() -> None:
    states = [net(seed).state_dict() for seed in range(3)]
    states[1]["1.num_batches_tracked"].fill_(7)
    soup = average(states)
    assert soup.keys() == states[0].keys()
    for name, value in soup.items():
        if value.dtype == torch.int64:
            assert torch.equal(value, states[0][name])
        else:
            mean = np.mean([state[name].double().numpy() for state in states], axis=0)
            np.testing.assert_array_equal(value.numpy(), mean.astype(np.float32))
    net(9).load_state_dict(soup)
    soup["0.weight"].zero_(), soup["1.num_batches_tracked"].zero_()
    assert states[0]["0.weight"].any() and states[0]["1.num_batches_tracked"]  # nothing is shared


def test_float32_and_float16_keep_what_a_sum_would_lose() -> None:
    big, small = {"w": torch.tensor([3e38])}, {"w": torch.tensor([1.0])}
    assert average([big, big, big])["w"].item() == big["w"].item()
    assert average([{"w": torch.tensor([2.0**24])}, small, {"w": torch.tensor([-(2.0**24)])}])["w"].item() == pytest.approx(1 / 3)
    half = average([{"w": torch.tensor([6e4], dtype=torch.float16)}] * 2)["w"]
    assert half.dtype == torch.float16 and torch.isfinite(half).all()


def test_an_average_of_one_is_that_one() -> None:
    state = net(0).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in average([state]).items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("5.bias"), r"Model 1 of 2 has no tensor '5\.bias', which model 0 has"),
        (lambda state: state.update(extra=torch.zeros(1)), r"Model 0 of 2 has no tensor 'extra', which model 1 has"),
        (
            lambda state: state.update({"5.bias": torch.zeros(6)}),
            r"'5\.bias' is torch\.float32 of shape \(6,\) in model 1 of 2 and .* \(5,\) in model 0",
        ),
        (lambda state: state.update({"5.bias": torch.zeros(5, dtype=torch.int64)}), r"'5\.bias' is torch\.int64"),
        (lambda state: state["5.bias"].fill_(math.nan), r"'5\.bias' has NaN or infinity in model 1 of 2"),
    ],
)
def test_models_that_do_not_fit_are_named(change: Callable[[dict[str, Tensor]], Any], said: str) -> None:
    one, other = net(0).state_dict(), net(1).state_dict()
    change(other)
    with pytest.raises(ff.InputError, match=said) as raised:
        average([one, other])
    assert "\n" not in str(raised.value)
    for empty in (lambda: average([]), lambda: greedy([], lambda _: 0.0)):
        with pytest.raises(ff.InputError, match="no model to average"):
            empty()


def test_the_greedy_soup_is_the_loop_of_the_paper() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        values = random.normal(size=6)
        states = [{"w": torch.tensor(v)} for v in values]
        asked: list[float] = []

        def score(state: dict[str, Tensor], asked: list[float] = asked) -> float:
            asked.append(float(state["w"]))
            return -round(abs(float(state["w"]) - 0.3), 1)  # rounded, for ties

        def of(chosen: list[int], values: np.ndarray = values) -> float:
            return -round(abs(float(np.mean(values[chosen])) - 0.3), 1)

        soup, chosen = greedy(states, score)
        expected: list[int] = []
        for i in sorted(range(6), key=lambda i: (-of([i]), i)):
            if not expected or of([*expected, i]) >= of(expected):
                expected.append(i)
        assert chosen == expected and float(soup["w"]) == pytest.approx(np.mean(values[expected]), rel=1e-12)
        assert of(chosen) >= max(of([i]) for i in range(6))
        assert len(asked) == 11


def test_a_score_of_nothing_is_refused() -> None:
    with pytest.raises(ff.InputError, match="score of a model is NaN"):
        greedy([{"w": torch.zeros(1)}] * 2, lambda _: math.nan)


def test_a_soup_of_fine_tuned_models_classifies() -> None:
    """Models that began with the same weights: the average of all does no worse on held-out data than the mean of them."""
    random = torch.Generator().manual_seed(0)
    means = torch.randn(6, 12, generator=random)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(6, (n,), generator=random)
        return means[labels] + 1.2 * torch.randn(n, 12, generator=random), labels

    x, y = draw(3000)
    start = nn.Linear(12, 6)
    states = []
    for seed in range(5):
        module = nn.Linear(12, 6)
        module.load_state_dict(start.state_dict())
        inputs, labels = draw(60)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1 * (seed + 1))
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(module(inputs), labels).backward()
            optimizer.step()
        states.append(module.state_dict())

    def accuracy(state: dict[str, Tensor]) -> float:
        return float((F.linear(x, state["weight"], state["bias"]).argmax(1) == y).double().mean())

    own = [accuracy(state) for state in states]
    soup, _ = greedy(states, accuracy)
    assert accuracy(soup) >= max(own)
    assert accuracy(average(states)) > np.mean(own)


# --- BatchNorm's statistics of an average -------------------------------------------------------------------------------------------------


def batches(*sizes: int, side: int = 4, offset: float = 0.0) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [offset + i + (1 + i) * torch.randn(n, 3, side, side, generator=random) for i, n in enumerate(sizes)]


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_statistics_are_those_of_all_that_goes_in(offset: float) -> None:
    """Uneven batches of unlike means and spreads; an offset in which float32 sums of squares would drown."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    given = batches(2, 9, 5, offset=offset)
    with torch.no_grad():
        went_in = torch.cat([module[0](x) for x in given]).double().transpose(0, 1).flatten(1)
    refresh_statistics(module, iter(given))
    norm = module[1]
    torch.testing.assert_close(norm.running_mean.double(), went_in.mean(1), rtol=3e-7, atol=3e-7)
    torch.testing.assert_close(norm.running_var.double(), went_in.var(1), rtol=3e-7, atol=0)
    assert norm.num_batches_tracked.item() == 3


def test_one_batch_gives_every_layer_what_training_would() -> None:
    """Momentum 1 is torch's own way to keep the statistics of the last batch alone."""
    one, other = net(0), net(0)
    (x,) = batches(16)
    refresh_statistics(one, [x])
    for layer in other.modules():
        layer.train(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d))
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        other(x)
    for name, value in one.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_nothing_else_changes() -> None:
    module = net(0).train()
    module[3].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    refresh_statistics(module, batches(8, 8))
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{i}.{part}" for i in (1, 6) for part in ("running_mean", "running_var", "num_batches_tracked")}
    assert [part.training for part in module.modules()] == modes
    assert not any(part._forward_pre_hooks for part in module.modules()) and module[1].momentum == 0.1
    first = {name: value.clone() for name, value in module.state_dict().items()}
    refresh_statistics(module, [{"x": x} for x in batches(8, 8)], call=lambda m, batch: m(batch["x"]))
    assert all(torch.equal(value, first[name]) for name, value in module.state_dict().items())  # dropout draws nothing


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: [], "not one batch came"),
        (lambda: [*batches(8), torch.full((4, 3, 4, 4), math.inf)], "'1' is not finite"),
        (lambda: batches(8, 1), "one picture has no variance"),
    ],
)
def test_statistics_of_nothing_are_refused_and_the_old_ones_stay(given: Callable[[], list[Tensor]], said: str) -> None:
    module = net(0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ff.InputError, match=said):
        refresh_statistics(module, given())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(part.training for part in module.modules()) and not module[1]._forward_pre_hooks


def test_a_model_without_batchnorm_is_left_alone() -> None:
    def never() -> Any:
        raise AssertionError
        yield

    refresh_statistics(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.BatchNorm1d(2, track_running_stats=False)), never())


def test_an_average_has_statistics_of_no_model() -> None:
    """Two models with opposite first weights: the average of them lets nothing through, and the averaged variances are those of the two."""
    one, other = net(0), net(0)
    with torch.no_grad():
        other[0].weight.neg_()
    soup = net(1)
    soup.load_state_dict(average([one.state_dict(), other.state_dict()]))
    assert float(soup[1].running_var.min()) > 0.1
    refresh_statistics(soup, batches(32, 32))
    assert float(soup[1].running_var.max()) < 1e-9
    torch.testing.assert_close(soup[1].running_mean, soup[0].bias.detach())

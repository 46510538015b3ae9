"""NPOS against loops in float64 as the papers write them, and in training."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import farfield as ff
from farfield.data.images import Images
from farfield.data.transforms import Normalize
from farfield.training import Batch, Draws, Net, Recipe, as_objective, make_objective, npos, train

HALF = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
QUICK = Recipe(epochs=5, batch_size=16, lr=0.05)
SMALL = {"queue": 12, "samples": 9, "width": 6}


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Directions, in float64."""
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


# The losses


def test_dispersion_is_that_of_cider() -> None:
    m, t, total = unit(5, 7), 0.3, 0.0
    for i in range(5):
        total += math.log(sum(math.exp(float(m[i] @ m[j]) / t) for j in range(5) if j != i) / 4) / 5
    assert npos.dispersion(m, t).item() == pytest.approx(total, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: npos.dispersion(x, t), (m.requires_grad_(),))


def test_compactness_is_that_of_cider() -> None:
    z, m, y, t, total = unit(6, 7), unit(5, 7, seed=1), torch.tensor([0, 4, 2, 2, 1, 0]), 0.3, 0.0
    for i in range(6):
        likely = [math.exp(float(z[i] @ m[j]) / t) for j in range(5)]
        total -= math.log(likely[y[i]] / sum(likely)) / 6
    assert npos.compactness(z, y, m, t).item() == pytest.approx(total, abs=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: npos.compactness(a, y, b, t), (z.requires_grad_(), m.requires_grad_()))


def test_samples_and_outliers_count_the_same_however_many_they_are() -> None:
    inside, outside = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0, -1.0]).double()
    wanted = sum(-math.log(1 / (1 + math.exp(-v))) for v in inside.tolist()) / 2
    wanted += sum(-math.log(1 - 1 / (1 + math.exp(-v))) for v in outside.tolist()) / 3
    assert npos.separate(inside, outside).item() == pytest.approx(wanted, abs=1e-12)
    assert npos.separate(inside, outside.repeat(9)).item() == pytest.approx(wanted, abs=1e-12)
    assert math.isfinite(npos.separate(inside * 1e6, outside * 1e6).item())


# What is remembered


def test_prototypes_follow_one_sample_after_the_other() -> None:
    start, z, y = unit(4, 5), unit(9, 5, seed=1), torch.tensor([2, 0, 2, 2, 0, 1, 2, 0, 2])
    start[1] = 0  # a class not yet seen; class 3 has no sample
    wanted = start.clone()
    for i in range(9):
        moved = 0.95 * wanted[y[i]] + 0.05 * z[i]
        wanted[y[i]] = moved / moved.norm()
    assert torch.allclose(npos.follow(start, z, y), wanted, atol=1e-12)
    assert torch.allclose(wanted[1], z[5])
    assert torch.autograd.gradcheck(lambda x: npos.follow(start, x, y), (z.requires_grad_(),))


@pytest.mark.parametrize("size", [1, 3, 50])
def test_queues_hold_the_last_of_each_class(size: int) -> None:
    queue, counts = torch.zeros(4, size, 2), torch.zeros(4, dtype=torch.int64)
    lists: list[list[list[float]]] = [[], [], [], []]
    random = torch.Generator().manual_seed(0)
    for _ in range(7):
        features, labels = torch.randn(11, 2, generator=random), torch.randint(3, (11,), generator=random)  # class 3 never comes
        npos.remember(queue, counts, features, labels)
        for f, y in zip(features.tolist(), labels.tolist(), strict=True):
            lists[y].append(f)
        for c, seen in enumerate(lists):
            ring = [[0.0, 0.0]] * size
            for i, f in enumerate(seen):
                ring[i % size] = f
            assert queue[c].tolist() == ring
            assert counts[c] == len(seen)


# Outliers


def distances(point: Tensor, others: Tensor) -> list[float]:
    """To other samples on the sphere, ascending."""
    return sorted(float((point / point.norm() - o / o.norm()).norm()) for o in others)


@pytest.mark.parametrize("chunk", [2**24, 1, 300])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_the_border_is_where_the_kth_neighbour_is_far(k: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npos, "CHUNK", chunk)
    queue = torch.randn(5, 10, 6, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    got = npos.boundary(queue, k, 4)
    for c in range(5):
        far = [distances(queue[c, i], torch.cat([queue[c, :i], queue[c, i + 1 :]]))[k - 1] for i in range(10)]
        assert len(set(got[c].tolist())) == 4
        assert [far[i] for i in got[c]] == pytest.approx(sorted(far, reverse=True)[:4], abs=1e-12)  # two may be each other's neighbour


@pytest.mark.parametrize("chunk", [2**24, 1, 500])
def test_the_farthest_draws_are_kept(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npos, "CHUNK", chunk)
    random = torch.Generator().manual_seed(0)
    queue, noise = (torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((5, 10, 6), (8, 6)))
    chosen = torch.randint(10, (5, 2), generator=random)
    got = npos.synthesise(queue, chosen, noise, 0.3, 4, 3)
    assert got.shape == (5, 6, 6)
    for c in range(5):
        wanted = []
        for p in range(2):
            made = [queue[c, chosen[c, p]] + 0.3 * e for e in noise]
            wanted += sorted(made, key=lambda v, c=c: -distances(v, queue[c])[3])[:3]  # type: ignore[misc]
        assert torch.allclose(got[c], torch.stack(wanted), atol=1e-12)


# The objective


def pictures(n: int = 96, epoch: int = 0, classes: int = 3) -> Images:
    """Classes told by colour."""
    random = torch.Generator().manual_seed(epoch)
    labels = torch.arange(n) % classes
    images = torch.randint(80, (n, 3, 8, 8), generator=random, dtype=torch.uint8)
    images[torch.arange(n), labels] += 150
    return Images("colours", images, labels)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def run(out: Path, recipe: Recipe = QUICK, seed: int = 0, **given: object) -> tuple[nn.Module, npos.NPOS, list[dict[str, float]]]:
    module = net(seed)
    objective = make_objective("npos", SMALL, features=8, classes=3)
    assert isinstance(objective, npos.NPOS)
    history = train(module, lambda e: pictures(epoch=e), recipe, transform=HALF, out=out, objective=objective, head=module[-1], **given)  # type: ignore[arg-type]
    return module, objective, history


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def batch(n: int = 16, step: int = 0, seed: int = 0) -> Batch:
    data = pictures(n, seed)
    shown, labels = data.batch(list(range(n)))
    return Batch(shown, HALF(shown), labels, Draws(0, step, torch.arange(n)), HALF)


def test_the_loss_is_the_weighted_sum() -> None:
    """Each part by hand, before and after the queues are full."""
    torch.manual_seed(0)
    options = {"queue": 4, "samples": 9, "width": 6, "dispersion": 0.7, "compactness": 0.9, "outlier": 0.3, "begin": 1, "temperature": 0.2}
    module, objective = net().eval(), make_objective("npos", options, features=8, classes=3)
    assert isinstance(objective, npos.NPOS)
    looked = Net(module, head=module[-1])
    before = objective.prototypes.clone()
    for step in range(2):  # 16 samples fill queues of 4
        given = batch(step=step, seed=step)
        loss, logits = objective(looked, given)
        features, _ = looked.look(given.inputs)
        z = F.normalize(objective.projection(features), dim=1)
        m = npos.follow(before, z, given.labels, 0.95)
        wanted = 0.7 * npos.dispersion(m, 0.2) + 0.9 * npos.compactness(z, given.labels, m, 0.2)
        if step:
            wanted += 0.3 * npos.separate(objective.detector(features)[:, 0], objective.detector(objective.outliers(given.draws))[:, 0])
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        assert torch.allclose(logits, z @ m.T / 0.2, atol=1e-5)
        assert torch.equal(objective.prototypes, m.detach())
        before = objective.prototypes.clone()
    assert objective.outliers(batch().draws).shape == (3 * 2 * 3, 8)


def test_every_parameter_has_a_gradient_at_every_step() -> None:
    module, objective = net(), make_objective("npos", {**SMALL, "begin": 1}, features=8, classes=3)
    loss, _ = objective(Net(module, head=module[-1]), batch())
    loss.backward()
    assert all(p.grad is not None for p in [*module.parameters(), *objective.parameters()])
    assert not any(p.grad.any() for p in [*module[-1].parameters(), *objective.detector.parameters()])  # type: ignore[union-attr]


def test_a_sharpness_aware_step_is_remembered_once() -> None:
    module, objective = net().eval(), make_objective("npos", SMALL, features=8, classes=3)
    assert isinstance(objective, npos.NPOS)
    looked = Net(module, head=module[-1])
    objective(looked, batch())
    once = {key: value.clone() for key, value in objective.state_dict().items()}
    objective(looked, batch())
    assert all(torch.equal(value, objective.state_dict()[key]) for key, value in once.items())
    objective.eval()(looked, batch(step=1))  # nor is what is only looked at
    assert objective.counts.sum() == 16
    objective.train()(looked, batch(step=1))
    assert objective.counts.sum() == 32


def test_nothing_is_drawn_from_the_common_generator() -> None:
    module, objective = net().eval(), make_objective("npos", {**SMALL, "queue": 4}, features=8, classes=3)
    looked, state = Net(module, head=module[-1]), torch.get_rng_state()
    objective(looked, batch())
    assert torch.equal(state, torch.get_rng_state())
    assert isinstance(objective, npos.NPOS)
    one, two = (objective.outliers(Draws(0, step, torch.arange(2))) for step in (1, 2))
    assert torch.equal(one, objective.outliers(Draws(0, 1, torch.arange(5))))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("sharpness", ["none", "sam"])
def test_a_run_stopped_inside_an_epoch_ends_with_the_same_bits(tmp_path: Path, sharpness: str) -> None:
    recipe = replace(QUICK, sharpness=sharpness, lr=0.02)
    whole, goal, _ = run(tmp_path / "whole", recipe)

    def pull_the_plug(what: str, done: int, total: int) -> None:
        if done == 15:  # in the third of five epochs, with full queues
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", recipe, progress=pull_the_plug, save_every=0)
    resumed, again, _ = run(tmp_path / "stopped", recipe, seed=99, save_every=0)
    assert goal.counts.tolist() == [160, 160, 160]
    assert equal(whole, resumed)
    assert equal(goal, again)


def test_it_learns_prototypes_and_features_that_tell_a_strange_colour(tmp_path: Path) -> None:
    """By the distance to the fifth neighbour among features of training pictures."""
    recipe = replace(QUICK, epochs=20)
    module, objective, history = run(tmp_path / "npos", recipe)
    assert history[-1]["accuracy"] > 0.9
    assert history[-1]["loss"] < history[0]["loss"]
    assert torch.allclose(objective.prototypes.norm(dim=1), torch.ones(3))
    strange = torch.randint(80, (48, 3, 8, 8), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    strange[:, :2] += 150  # yellow

    module.eval()
    with torch.no_grad():
        bank, known, odd = (F.normalize(module[:-1](HALF(x)), dim=1) for x in (pictures(epoch=8).images, pictures(epoch=9).images, strange))  # type: ignore[index]
    near, far = (torch.cdist(x, bank).kthvalue(5).values for x in (known, odd))
    assert (far[:, None] > near).float().mean() > 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": 1},
        {"features": 0},
        {"width": 0},
        {"temperature": 0.0},
        {"keep": 1.0},
        {"outlier": -1.0},
        {"queue": 1},
        {"k": 1000},
        {"boundary": 1001},
        {"points": 1001},
        {"samples": 0},
        {"farthest": 601},
        {"sigma": 0.0},
        {"begin": -1},
    ],
)
def test_an_option_out_of_range_is_refused_by_name(wrong: dict[str, float]) -> None:
    given = {"features": 8, "classes": 3} | {key: value for key, value in wrong.items() if key in ("features", "classes")}
    with pytest.raises(ff.InputError, match=f"`{next(iter(wrong))}`"):
        make_objective("npos", {key: value for key, value in wrong.items() if key not in given}, **given)


def test_options_scale_with_the_queue() -> None:
    usual = npos.NPOS(4, 2)
    assert (usual.k, usual.boundary, usual.farthest) == (300, 200, 200)
    small = npos.NPOS(4, 2, queue=2, samples=2)
    assert (small.k, small.boundary, small.farthest) == (1, 2, 1)


# Two processes


def gradients(objective: nn.Module, module: nn.Sequential, steps: list[Batch]) -> list[Tensor]:
    """Those of the last step, of all parameters, and what is remembered."""
    parameters = [*module.parameters(), *objective.parameters()]
    for given in steps:
        for p in parameters:
            p.grad = None
        objective(Net(module, head=module[-1]), given)[0].backward()
    return [p.grad for p in parameters if p.grad is not None] + list(objective.buffers())


class Exchange:
    """Stands for `torch.distributed`: threads in place of processes, which exchange tensors as it does."""

    def __init__(self, size: int) -> None:
        self.size, self.mine, self.given, self.barrier = size, threading.local(), [torch.empty(0)] * size, threading.Barrier(size, timeout=60)

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def get_rank(self) -> int:
        return int(self.mine.rank)

    def get_world_size(self) -> int:
        return self.size

    def all_gather(self, into: list[Tensor], tensor: Tensor) -> None:
        self.given[self.mine.rank] = tensor
        self.barrier.wait()
        for place, one in zip(into, self.given, strict=True):
            place.copy_(one)
        self.barrier.wait()


def test_two_processes_do_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its half of every batch; the mean of their gradients is the gradient of one."""

    def made() -> tuple[npos.NPOS, nn.Sequential]:
        module = net().eval()
        return npos.NPOS(8, 3, queue=4, samples=9, width=6), module

    def work(rank: int) -> None:
        exchange.mine.rank = rank
        objective, module = pairs[rank]
        half = slice(8 * rank, 8 * rank + 8)
        shares = [Batch(b.pictures[half], b.inputs[half], b.labels[half], b.draws.of(half), HALF) for b in steps]
        logits = objective.eval()(Net(module, head=module[-1]), shares[0])[1].detach()
        found[rank] = [*gradients(objective.train(), module, shares), logits]

    pairs, steps = [made() for _ in range(3)], [batch(step=s, seed=s) for s in range(3)]
    found: dict[int, list[Tensor]] = {}
    objective, module = pairs[2]
    logits = objective.eval()(Net(module, head=module[-1]), steps[0])[1].detach()
    wanted = gradients(objective.train(), module, steps)
    exchange = Exchange(2)
    monkeypatch.setattr(npos, "distributed", exchange)
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, two, whole in zip(found[0], found[1], wanted, strict=False):
        assert torch.allclose((one.double() + two.double()) / 2, whole.double(), atol=1e-5)
    assert any(bool(g.any()) for g in wanted[:2])
    assert torch.allclose(torch.cat([found[0][-1], found[1][-1]]), logits, atol=1e-5)


# What is done after training


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [True, False])
def test_t2fnorm_folds_its_temperature_into_the_head(bias: bool, kernel: bool) -> None:
    head = nn.Conv2d(8, 3, 1, bias=bias) if kernel else nn.Linear(8, 3, bias=bias)
    features = torch.randn(5, 8)
    weight = head.weight.detach().flatten(1).clone()
    wanted = F.linear(features / 0.2, weight, head.bias)
    make_objective("t2fnorm", {"tau": 0.2}).after(Net(nn.Sequential(head), head=head))
    assert torch.allclose(head(features[:, :, None, None]).flatten(1) if kernel else head(features), wanted, atol=1e-5)


def test_other_objectives_leave_the_classifier_as_it_is() -> None:
    for objective in (as_objective(F.cross_entropy), make_objective("logitnorm", {}), npos.NPOS(8, 3, queue=2)):
        module = net()
        objective.after(Net(module, head=module[-1]))
        assert equal(module, net())

"""The loop learns, resumes to the same bits, and stops with a sentence when it must."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import farfield as ff
import training_oracles as oracle
from farfield import models
from farfield.data import glyphs
from farfield.data.images import Images
from farfield.data.transforms import Normalize
from farfield.training import Draws, Recipe, loop, make_objective, train
from farfield.training.loop import make_optimizer
from farfield.training.recipe import rate

HALF = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
QUICK = Recipe(epochs=4, batch_size=16, lr=0.05)


def pictures(n: int = 96, epoch: int = 0) -> Images:
    """Three classes told by colour."""
    random = torch.Generator().manual_seed(epoch)
    labels = torch.arange(n) % 3
    images = torch.randint(80, (n, 3, 8, 8), generator=random, dtype=torch.uint8)
    images[torch.arange(n), labels] += 150
    return Images("colours", images, labels)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def run(out: Path, recipe: Recipe = QUICK, module: nn.Module | None = None, **given: object) -> tuple[nn.Module, list[dict[str, float]]]:
    module = net() if module is None else module
    return module, train(module, given.pop("data", lambda epoch: pictures(epoch=epoch)), recipe, transform=HALF, out=out, **given)  # type: ignore[arg-type]


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_it_learns_and_keeps_a_record(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    _, history = run(tmp_path, replace(QUICK, epochs=8), data=pictures(), progress=lambda what, done, total: calls.append((done, total)))
    assert history[-1]["accuracy"] > 0.9 > history[0]["accuracy"]
    assert history[-1]["loss"] < history[0]["loss"]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["epochs"] == 8
    assert calls == [(i + 1, 48) for i in range(48)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop", [7, 13])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, optimizer: str, stop: int) -> None:
    recipe = replace(QUICK, optimizer=optimizer, lr=0.01, seed=3)  # type: ignore[arg-type]
    whole, _ = run(tmp_path / "whole", recipe)

    def pull_the_plug(what: str, done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", recipe, progress=pull_the_plug)
    resumed, history = run(tmp_path / "stopped", recipe, module=net(seed=99))
    assert equal(whole, resumed)
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    again, _ = run(tmp_path / "stopped", recipe, module=net(seed=98))
    assert equal(whole, again)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a")
    other, _ = run(tmp_path / "b", replace(QUICK, seed=1))
    assert not equal(one, other)


def test_each_epoch_gets_its_own_pictures(tmp_path: Path) -> None:
    asked: list[int] = []

    def data(epoch: int) -> Images:
        asked.append(epoch)
        return pictures(epoch=epoch)

    run(tmp_path, data=data)
    assert asked == [0, 1, 2, 3]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_epoch(tmp_path: Path) -> None:
    steps = iter(range(100))

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = nn.functional.cross_entropy(logits, labels)
        return value * torch.nan if next(steps) == 8 else value

    with pytest.raises(ff.InputError, match=r"loss became nan at step 8 \(epoch 2 of 4, .*keeps the last good weights"):
        run(tmp_path, objective=loss)
    assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "checkpoint.safetensors").values())
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_weights_that_are_not_finite_are_never_a_checkpoint(tmp_path: Path) -> None:
    """A finite loss whose gradient is not, in the last step of an epoch: the loss never sees what it did."""

    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor, on: bool) -> torch.Tensor:
            ctx.on = on  # type: ignore[attr-defined]
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
            return gradient * (torch.nan if ctx.on else 1.0), None  # type: ignore[attr-defined]

    steps = iter(range(100))

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(Poison.apply(logits, next(steps) == 11), labels)

    with pytest.raises(ff.InputError, match=r"weights are no longer finite at step 11 \(epoch 2 of 4"):
        run(tmp_path, objective=loss)
    assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "checkpoint.safetensors").values())
    resumed, history = run(tmp_path, module=net(seed=9))
    assert equal(resumed, run(tmp_path / "whole")[0])
    assert len(history) == 4


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_module_is_a_plain_one_after_training(tmp_path: Path, precision: str) -> None:
    module, _ = run(tmp_path, replace(QUICK, epochs=1, precision=precision))
    assert "forward" not in vars(module)
    again = net(seed=5)
    again.load_state_dict(module.state_dict())
    batch = torch.randn(4, 3, 8, 8)
    assert torch.equal(module.eval()(batch), again.eval()(batch))
    found = ff.Classifier.wrap(module, transform=HALF, input_size=(3, 8, 8)).found
    assert found is not None and module.get_submodule(found.names[0]) is module[-1]  # type: ignore[index]


def test_tied_weights_are_stored_and_resumed(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(192, 192), nn.Linear(192, 192), nn.Linear(192, 3)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    module, _ = run(tmp_path, replace(QUICK, lr=0.001), module=Tied())
    again, _ = run(tmp_path, replace(QUICK, lr=0.001), module=Tied())
    assert equal(module, again)


def test_broken_files_of_a_run_are_named(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(ff.InputError, match=r"checkpoint\.safetensors cannot be read.*Delete it"):
        run(tmp_path)
    (tmp_path / "recipe.json").write_text("")
    with pytest.raises(ff.InputError, match=r"recipe\.json cannot be read"):
        run(tmp_path)
    with pytest.raises(ff.InputError, match="the data set is empty"):
        run(tmp_path / "new", data=pictures(0))


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ff.InputError, match="holds a run of another recipe"):
        run(tmp_path, replace(QUICK, lr=0.1))
    with pytest.raises(ff.InputError, match="of another architecture"):
        run(tmp_path, module=nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": math.inf},
        {"weight_decay": -1.0},
        {"warmup": 1.0},
        {"optimizer": "lion"},
        {"precision": "int8"},
    ],
)
def test_a_recipe_out_of_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ff.InputError, match=f"{next(iter(wrong))}="):
        replace(QUICK, **wrong)  # type: ignore[arg-type]


def test_the_schedule_rises_and_falls() -> None:
    factors = [rate(step, 100, QUICK) for step in range(100)]
    assert factors.index(max(factors)) == 9
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(b < a for a, b in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5)
    assert rate(0, 10, replace(QUICK, warmup=0.0)) == 1.0


def test_weight_decay_spares_biases_and_normalisation() -> None:
    module = net()
    decayed, spared = make_optimizer(module, QUICK).param_groups
    assert {id(p) for p in decayed["params"]} == {id(module[0].weight), id(module[6].weight)}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (5e-4, 0.0)
    assert len(spared["params"]) == 4


def test_a_step_is_nesterov_momentum_with_decay() -> None:
    """Two steps against the update written out."""
    module = nn.Linear(2, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    optimizer = make_optimizer(module, Recipe(lr=0.1, weight_decay=0.01))
    weight, velocity = 1.0, 0.0
    for gradient in (0.5, -0.2):
        module.weight.grad = torch.full_like(module.weight, gradient)
        optimizer.step()
        decayed = gradient + 0.01 * weight
        velocity = 0.9 * velocity + decayed
        weight -= 0.1 * (decayed + 0.9 * velocity)
        assert module.weight.detach().flatten().tolist() == pytest.approx([weight] * 2)


def test_bfloat16_learns_too(tmp_path: Path) -> None:
    _, history = run(tmp_path, replace(QUICK, epochs=8, precision="bf16"))
    assert history[-1]["accuracy"] > 0.9


# Stopped inside an epoch


def brighter(images: Tensor, draws: Draws) -> Tensor:
    """A random augmentation of each picture."""
    return (images.float() * (0.5 + 0.5 * draws.uniform("brighter"))[:, None, None, None]).to(torch.uint8)


LONG = Recipe(epochs=2, batch_size=16, lr=0.02, seed=3)  # 6 steps an epoch
OTHERS = [
    ({}, "cross-entropy", {"mix": "mixup+cutmix", "alpha": 1.0}),
    ({"optimizer": "adam", "lr": 0.003, "average": 0.9}, "regmixup", {}),
    ({"sharpness": "sam", "rho": 0.05, "clip": 1.0}, "augrevise", {"form": "printed"}),
    ({"sharpness": "sam-norm", "average": 0.5, "statistics": "frozen"}, "outlier-exposure", {"sizes": (2, 3)}),
    ({"steps": 10, "schedule": "steps", "drops": (0.5,), "nesterov": False, "decay_all": True}, "logitnorm", {}),
]


@pytest.mark.parametrize(("settings", "name", "options"), OTHERS)
@pytest.mark.parametrize("stop", [4, 9])
def test_a_run_stopped_inside_an_epoch_ends_with_the_same_bits(
    tmp_path: Path, settings: dict[str, object], name: str, options: dict[str, object], stop: int
) -> None:
    recipe = replace(LONG, objective=name, options=options, **settings)  # type: ignore[arg-type]

    def pull_the_plug(what: str, done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    def go(out: str, module: nn.Module | None = None, **given: object) -> tuple[nn.Module, list[dict[str, float]]]:
        return run(tmp_path / out, recipe, module, objective=make_objective(name, options), augment=brighter, save_every=-1.0, **given)

    whole, history = go("whole")
    with pytest.raises(KeyboardInterrupt):
        go("stopped", progress=pull_the_plug)
    resumed, again = go("stopped", net(seed=99))
    assert equal(whole, resumed)
    for one, other in zip(history, again, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    one, other = (load_file(tmp_path / out / "checkpoint.safetensors") for out in ("whole", "stopped"))
    assert one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_steps_in_place_of_epochs(tmp_path: Path) -> None:
    """Eight of the six an epoch has; with constant rates, the weights after them are those on the way of a longer run."""
    done: list[int] = []
    recipe = replace(LONG, steps=8, schedule="constant", warmup=0.0)
    short, history = run(tmp_path / "short", recipe, progress=lambda what, step, total: done.append(step * 100 + total))
    assert done == [step * 100 + 8 for step in range(1, 9)]
    assert [record["epoch"] for record in history] == [1, 2]
    kept: list[dict[str, Tensor]] = []
    module = net()
    run(
        tmp_path / "long",
        replace(recipe, steps=12),
        module,
        progress=lambda what, step, total: kept.append({k: v.clone() for k, v in module.state_dict().items()}),
    )
    assert all(torch.equal(value, kept[7][key]) for key, value in short.state_dict().items())


@pytest.mark.parametrize("warmup", [0.0, 0.3])
def test_the_average_of_the_weights_is_the_loop(tmp_path: Path, warmup: float) -> None:
    module = net().double()
    path = [{k: v.clone() for k, v in module.state_dict().items()}]
    recipe = replace(LONG, average=0.8, warmup=warmup)
    run(tmp_path, recipe, module, progress=lambda *_: path.append({k: v.clone() for k, v in module.state_dict().items()}), call=in_double)
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            expected = oracle.moving_average([weights[key].numpy() for weights in path], 0.8, 1, math.ceil(warmup * 12))
            assert torch.allclose(value, torch.from_numpy(expected), rtol=1e-12, atol=1e-14), key
        else:
            assert torch.equal(value, path[-1][key])


def in_double(module: nn.Module, inputs: Tensor) -> Tensor:
    return module(inputs.double())  # type: ignore[no-any-return]


def test_gradients_are_clipped_to_a_norm(tmp_path: Path) -> None:
    """One plain step: the weights move by the rate times the limit."""
    module, before = net(), net()
    run(tmp_path, Recipe(steps=1, batch_size=16, lr=0.5, clip=0.01, warmup=0.0, momentum=0.0, weight_decay=0.0), module)
    moved = math.sqrt(sum(float((p - q).detach().square().sum()) for p, q in zip(module.parameters(), before.parameters(), strict=True)))
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)


@pytest.mark.parametrize("statistics", ["batch", "frozen"])
def test_statistics_of_layers_that_are_not_trained_or_are_frozen_stay(tmp_path: Path, statistics: str) -> None:
    module = net()
    frozen = module[1]
    if statistics == "batch":
        for p in (*module[0].parameters(), *frozen.parameters()):
            p.requires_grad_(False)
    before = {k: v.clone() for k, v in frozen.named_buffers()}
    run(tmp_path, replace(LONG, epochs=1, statistics=statistics), module)
    assert all(torch.equal(value, before[key]) for key, value in frozen.named_buffers())
    trained, _ = run(tmp_path / "plain", replace(LONG, epochs=1))
    assert int(trained[1].num_batches_tracked) == 6  # type: ignore[index]


@pytest.mark.parametrize("writer", ["put", "save_file"])
def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str) -> None:
    run(tmp_path / "whole")
    real = getattr(loop, writer)
    written: list[bytes] = []

    def full(*given: object, **named: object) -> None:
        if (tmp_path / "run" / "checkpoint.safetensors").exists():
            written.append((tmp_path / "run" / "checkpoint.safetensors").read_bytes())
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*given, **named)

    monkeypatch.setattr(loop, writer, full)
    with pytest.raises(ff.InputError, match=r"checkpoint cannot be written to .*No space left.* The last one stays; make room") as raised:
        run(tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == written[0]
    assert not list((tmp_path / "run").glob("*.tmp"))
    monkeypatch.undo()
    assert equal(run(tmp_path / "run", module=net(seed=5))[0], run(tmp_path / "whole")[0])


def test_a_checkpoint_of_another_version_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    run(tmp_path)
    save_file({"model.a": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", metadata={"state": json.dumps({"epoch": 1, "records": []})})
    with pytest.raises(ff.InputError, match=r"checkpoint\.safetensors cannot be read.*Delete it"):
        run(tmp_path)


# Two processes

TOLERANCE = 1e-5  # absolute, and relative
SHARED = """
import sys
import torch
from torch import nn
from farfield.data.images import Images
from farfield.training import Recipe, make_objective, train


def noise(pictures, draws):
    moved = pictures.float() + 20 * draws.normal("noise", 3, 8, 8)
    return torch.where(draws.uniform("flip")[:, None, None, None] < 0.5, moved.flip(3), moved).clamp(0, 255).to(torch.uint8)


torch.set_num_threads(1)
images = Images("x", torch.randint(256, (36, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8), torch.arange(36) % 3)
for sharpness, name, options in (("none", "cross-entropy", {"mix": "mixup+cutmix", "alpha": 1.0}), ("sam-norm", "augrevise", {})):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    recipe = Recipe(steps=8, batch_size=12, lr=0.1, sharpness=sharpness, rho=0.05, clip=1.0, average=0.5)
    objective = make_objective(name, options)
    train(net, images, recipe, transform=lambda x: x.float() / 128 - 1, out=f"{sys.argv[1]}-{sharpness}", objective=objective, augment=noise)
"""


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    """The same batches, mixtures and random augmentations: only the order of sums differs. Measured: 1.5e-7 of weights of about 1."""
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    started = [
        subprocess.Popen([sys.executable, "-W", "ignore", str(script), str(tmp_path / out)], env={**given, **more}, stderr=subprocess.PIPE, text=True)
        for out, more in (("two", places[0]), ("two", places[1]), ("one", {}))
    ]
    try:
        for process in started:
            _, said = process.communicate(timeout=200)
            assert process.returncode == 0, said
    finally:
        for process in started:
            process.kill()
    for sharpness in ("none", "sam-norm"):
        one, two = (load_file(tmp_path / f"{out}-{sharpness}" / "checkpoint.safetensors") for out in ("one", "two"))
        assert one.keys() == two.keys()
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-5, atol=TOLERANCE, msg=lambda text, key=key: f"{key}: {text}")
        records = [json.loads((tmp_path / f"{out}-{sharpness}" / "metrics.jsonl").read_text().splitlines()[0]) for out in ("one", "two")]
        assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=1e-5)
        assert records[0]["accuracy"] == records[1]["accuracy"]


# The file of a classifier


def test_a_classifier_file_gives_the_classifier_back(tmp_path: Path) -> None:
    module = models.build("bit", 200).half().float().eval()
    facts = {"architecture": "bit", "classes": 200, "mean": [0.5] * 3, "std": [0.5] * 3}
    models.save(module, tmp_path / "x.safetensors", facts)
    again, read = models.read(tmp_path / "x.safetensors")
    assert equal(module, again)
    assert read == facts
    assert ff.Classifier.load(str(tmp_path / "x.safetensors")).fingerprint() == ff.Classifier.load(str(tmp_path / "x.safetensors")).fingerprint()


@pytest.mark.parametrize("name", models.SHIPPED)
def test_shipped_files_are_small_and_say_how_they_were_made(name: str) -> None:
    path = models.shipped_path(name)
    module, facts = models.read(path)
    limit = 700_000 if facts["classes"] == 200 else 1_500_000
    assert path.stat().st_size <= limit
    assert {tensor.dtype for tensor in load_file(path).values()} <= {torch.float16, torch.int64}
    assert facts["suite"] == f"glyphs-{facts['classes']}"
    assert facts["command"].endswith(name)
    assert Recipe(**facts["recipe"]).epochs > 0
    assert 0.5 < facts["test_accuracy"] < 0.97
    assert not module.training


@pytest.mark.parametrize("name", models.SHIPPED)
def test_shipped_classifiers_are_as_accurate_as_they_say(name: str) -> None:
    """Also holds the weights to the pictures: those of another version would not be recognised."""
    classifier, facts = ff.Classifier.load(name), models.read(models.shipped_path(name))[1]
    test = ff.collect(classifier, glyphs.suite(facts["classes"]).split("test"))
    assert (test.predictions() == test.labels).float().mean().item() == pytest.approx(facts["test_accuracy"], abs=2e-3)


def test_a_file_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ff.InputError, match="its header lacks architecture, classes, mean, std"):
        models.read(tmp_path / "x.safetensors")
    with pytest.raises(ff.InputError, match="no architecture 'alexnet'"):
        models.build("alexnet", 10)

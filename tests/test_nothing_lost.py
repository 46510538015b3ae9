"""Real processes, killed, stopped and starved of room: what they leave is whole, and the next run ends with the same bits."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import farfield as ff
from farfield import benchmark, cli, inputs, report  # noqa: F401 (a forked process has imported them)
from farfield.store import Stored, stores


def _benchmark(name: str) -> Any:
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kills = _benchmark("kills")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Any]:
    with kills.Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.draw(tmp_path_factory.mktemp("some") / "pictures", 150)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def collected(nursery: Any, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nobody disturbed, of three shards."""
    out = tmp_path_factory.mktemp("collected") / "out"
    assert nursery.run(kills.collecting, str(out), str(pictures)).status == 0
    return out


def collecting(pictures: Path) -> Any:
    return kills.Work("collect", kills.collecting, (str(pictures),), kills.shards, kills.store_differs)


def training(epochs: int, steps: int) -> Any:
    return kills.Work("train", kills.training, (epochs, steps), kills.epochs, kills.run_differs)


# Killed


def test_collect_killed_at_random_moments_loses_nothing(nursery: Any, pictures: Path, tmp_path: Path) -> None:
    tally = kills.Range(nursery, collecting(pictures), tmp_path).random(4, random.Random(0))
    assert tally.differences == []
    assert tally.early + tally.later + tally.late == 4


def test_training_killed_at_random_moments_loses_nothing(nursery: Any, tmp_path: Path) -> None:
    tally = kills.Range(nursery, training(3, 4), tmp_path).random(3, random.Random(0))
    assert tally.differences == []
    assert tally.early + tally.later + tally.late == 3


def test_collect_killed_at_each_step_of_writing_loses_nothing(nursery: Any, tmp_path: Path) -> None:
    pictures = kills.draw(tmp_path / "pictures", 65)
    tally = kills.Range(nursery, collecting(pictures), tmp_path).steps()
    assert tally.differences == []
    assert tally.early + tally.later >= 9  # three for each of three files
    assert max(tally.reused) == 2


def test_training_killed_at_each_step_of_writing_loses_nothing(nursery: Any, tmp_path: Path) -> None:
    tally = kills.Range(nursery, training(1, 1), tmp_path).steps()
    assert tally.early + tally.later >= 9
    assert tally.differences == []


# Two at a time, and what an older run left


def collecting_slowly(out: str, pictures: str) -> None:
    """Takes so long to write each file that another process writes it too."""
    fsync = os.fsync

    def slow(file: int) -> None:
        fsync(file)
        time.sleep(0.05)

    os.fsync = slow
    kills.collecting(out, pictures)


def test_two_processes_may_write_one_store(nursery: Any, collected: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = nursery.together([(collecting_slowly, (str(out), str(pictures)))] * 2)
    assert [end.status for end in ended] == [0, 0]
    assert kills.store_differs(collected, out) == []
    assert kills.left(out) == []


def copied(collected: Path, out: Path) -> Path:
    """The one store in a copy of a folder of stores."""
    shutil.copytree(collected, out)
    (folder,) = stores(out)
    return folder


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_shard_that_was_cut_off_is_written_again(nursery: Any, collected: Path, pictures: Path, tmp_path: Path, kept: int) -> None:
    folder = copied(collected, tmp_path / "out")
    shard = folder / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:kept])
    assert Stored.open(folder).missing() == [1]
    before = kills.shards(tmp_path / "out")
    assert nursery.run(kills.collecting, str(tmp_path / "out"), str(pictures)).status == 0
    assert kills.store_differs(collected, tmp_path / "out") == []
    after = kills.shards(tmp_path / "out")
    assert {name for name in before if before[name] != after[name]} == {shard.name}


def test_half_written_files_are_swept_after_an_hour_and_not_before(nursery: Any, collected: Path, pictures: Path, tmp_path: Path) -> None:
    folder = copied(collected, tmp_path / "out")
    for age, name in ((3700, "shard-00000.safetensors.1-1.tmp"), (3500, "shard-00000.safetensors.2-2.tmp")):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    assert nursery.run(kills.collecting, str(tmp_path / "out"), str(pictures)).status == 0
    assert [path.name for path in kills.left(folder)] == ["shard-00000.safetensors.2-2.tmp"]
    assert kills.store_differs(collected, tmp_path / "out") == []


def killed_while_writing(out: str, pictures: str) -> None:
    """Dies in the middle of the first shard."""
    kills.die_beyond(100_000)
    kills.collecting(out, pictures)


def test_whatever_a_kill_leaves_is_swept_after_an_hour(nursery: Any, collected: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert nursery.run(killed_while_writing, str(out), str(pictures)).status == -signal.SIGXFSZ
    left = kills.left(out)
    for path in left:
        os.utime(path, (time.time() - 3700,) * 2)
    assert nursery.run(kills.collecting, str(out), str(pictures)).status == 0
    assert kills.store_differs(collected, out) == []
    assert left and kills.left(out) == []


BROKEN = ["", '{"format": 2', "[]", "null", '"text"', "{}", "\udcff"]


@pytest.mark.parametrize("text", BROKEN)
def test_broken_facts_are_one_sentence(collected: Path, tmp_path: Path, text: str) -> None:
    folder = copied(collected, tmp_path / "out")
    (folder / "facts.json").write_text(text, "utf-8", errors="surrogateescape")
    with pytest.raises(ff.InputError, match=r"is no store of outputs|is a store of another version"):
        Stored.open(folder)


def test_broken_facts_do_not_touch_the_shards(nursery: Any, collected: Path, pictures: Path, tmp_path: Path) -> None:
    folder = copied(collected, tmp_path / "out")
    (folder / "facts.json").write_text('{"format"')
    before = kills.shards(tmp_path / "out")
    ran = Ran(nursery, tmp_path, "store", "verify", "--store", "out")
    assert (ran.status, len(ran.errors)) == (2, 1)
    assert nursery.run(kills.collecting, str(tmp_path / "out"), str(pictures)).status == 0
    assert kills.shards(tmp_path / "out") == before


def test_broken_facts_are_mended_by_the_next_run(nursery: Any, collected: Path, pictures: Path, tmp_path: Path) -> None:
    folder = copied(collected, tmp_path / "out")
    (folder / "facts.json").write_text('{"format"')
    assert nursery.run(kills.collecting, str(tmp_path / "out"), str(pictures)).status == 0
    assert kills.store_differs(collected, tmp_path / "out") == []


# The command


def command(folder: str, arguments: list[str], limit: int | None) -> None:
    """`farfield` in a process of its own, which can write no file larger than `limit` bytes."""
    os.chdir(folder)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    full(limit)
    sys.argv = ["farfield", *arguments]
    cli.main()


def full(limit: int | None) -> None:
    """A disk with so much room in each file: beyond it the system says that the file is too large, as it would say that there is no space."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Ran:
    """A command that was run in a folder: its status and what it said."""

    def __init__(self, nursery: Any, folder: Path, *arguments: str, limit: int | None = None) -> None:
        self.status = nursery.run(command, str(folder), arguments, limit).status
        self.errors = (folder / "stderr").read_text().splitlines()


MODEL = """
import time
from pathlib import Path
import torch
from torch import nn
from farfield import Classifier
from farfield.data.transforms import Preprocess

class Slow(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        if Path("slow").exists() and len(x) == 8:
            with Path("passes").open("a") as file:
                file.write("x")
            time.sleep(0.01 if Path("passes").stat().st_size < 8 else 1)
        return self.net(x)

class Prepare(Preprocess):
    def __call__(self, picture):
        if Path("slow").exists():
            time.sleep(0.005)
        return super().__call__(picture)

def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    return Slow(nn.Sequential(*layers)), Prepare(resize=16, crop=16)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model, training and test pictures of two classes, and others."""
    (tmp_path / "mine.py").write_text(MODEL)
    noise = np.random.default_rng(0)
    for name in ("train/dark", "train/bright", "test/dark", "test/bright", "a name long enough for a file of scores to be larger than the store"):
        (tmp_path / name).mkdir(parents=True)
        for index in range(24):
            Image.fromarray(noise.integers(0, 100 if "dark" in name else 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / name / f"{index}.png")
    return tmp_path


OTHERS = "a name long enough for a file of scores to be larger than the store"
MINE = ("--model", "python:mine:net", "--batch-size", "8")


def test_scores_on_a_full_disk_are_one_sentence_and_then_complete(nursery: Any, place: Path) -> None:
    fit = Ran(nursery, place, "fit", "--detector", "energy", "--id-train", "train", "--out", "d.safetensors", "--store", "fitted", *MINE)
    assert fit.status == 0, fit.errors
    score = ("score", "d.safetensors", f"{place}/{OTHERS}", *MINE)
    assert Ran(nursery, place, *score, "--out", "right.csv", "--store", "right").status == 0
    right = (place / "right.csv").read_bytes()
    (shard,) = (place / "right").rglob("shard-*")
    assert len(right) > shard.stat().st_size > 1000
    for where, limit in (("nowhere", 100), ("in the shard", shard.stat().st_size - 1), ("in the scores", len(right) - 1)):
        store = place / where
        ran = Ran(nursery, place, *score, "--out", "scores.csv", "--store", where, limit=limit)
        assert (ran.status, len(ran.errors)) == (2, 1), (where, ran.errors)
        assert ran.errors[0].startswith("farfield: ") and "cannot be written" in ran.errors[0]
        assert not (place / "scores.csv").exists()
        assert kills.left(place) == []
        assert len(list(store.rglob("shard-*"))) == (where == "in the scores")
        again = Ran(nursery, place, *score, "--out", "scores.csv", "--store", where)
        assert again.status == 0, again.errors
        assert (place / "scores.csv").read_bytes() == right
        assert kills.store_differs(place / "right", store) == []
        (place / "scores.csv").unlink()


def test_a_detector_on_a_full_disk_is_one_sentence(nursery: Any, place: Path) -> None:
    fit = ("fit", "--detector", "knn:k=5", "--id-train", "train", "--out", "d.safetensors", "--store", "store", *MINE)
    assert Ran(nursery, place, *fit).status == 0
    right = (place / "d.safetensors").read_bytes()
    (place / "d.safetensors").unlink()
    ran = Ran(nursery, place, *fit, limit=len(right) - 1)
    assert (ran.status, len(ran.errors)) == (2, 1), ran.errors
    assert not (place / "d.safetensors").exists()
    assert kills.left(place) == []
    assert Ran(nursery, place, *fit).status == 0
    assert (place / "d.safetensors").read_bytes() == right


def training_while_the_disk_fills(out: str, epochs: int, steps: int) -> int:
    """Has room for one epoch."""
    replace = os.replace

    def then_full(source: Any, target: Any) -> None:
        replace(source, target)
        if {"checkpoint.safetensors", "metrics.jsonl"} <= {path.name for path in Path(target).parent.iterdir()}:
            full(100)

    os.replace = then_full  # type: ignore[assignment]
    try:
        kills.training(out, epochs, steps)
    except ff.InputError as error:
        full(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        Path(out).with_name("told").write_text(str(error))
        return 2
    return 0


def test_a_checkpoint_on_a_full_disk_is_one_sentence_and_the_last_one_stays(nursery: Any, tmp_path: Path) -> None:
    right, out = tmp_path / "right" / "out", tmp_path / "full" / "out"
    for path in (right, out):
        path.parent.mkdir()
    assert nursery.run(kills.training, str(right), 3, 4).status == 0
    assert nursery.run(training_while_the_disk_fills, str(out), 3, 4).status == 2
    told = out.with_name("told").read_text()
    assert told.startswith(f"The checkpoint cannot be written to {out}: ") and told.endswith("make room and run the same command again.")
    assert "\n" not in told
    with safe_open(out / "checkpoint.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["state"])["epoch"] == 1
    assert kills.left(out) == []
    assert nursery.run(kills.training, str(out), 3, 4).status == 0
    assert kills.run_differs(right, out) == []


def test_ctrl_c_in_a_bench_with_loaders_is_one_sentence_and_the_next_run_goes_on(nursery: Any, place: Path) -> None:
    bench = ("bench", *MINE, "--id-train", "train", "--id-test", "test", "--far", f"others={OTHERS}", "--detector", "energy", "--workers", "2")
    (place / "slow").touch()
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "farfield", *bench], cwd=place, env=settings, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        passes, deadline = place / "passes", time.time() + 60
        while not (passes.exists() and passes.stat().st_size >= 8):  # six are of the training pictures
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert errors == "farfield: stopped. What is stored stays; run the same command to go on.\n"
    assert printed == ""
    store = place / "farfield-out" / "store"
    (first,) = store.rglob("shard-*")
    written = first.stat().st_mtime_ns
    assert kills.left(store) == []
    (place / "slow").unlink()
    again = Ran(nursery, place, *bench)
    assert again.status == 0, again.errors
    assert len(stores(store)) == 3
    assert first.stat().st_mtime_ns == written
    rows = json.loads((place / "farfield-out" / "results.json").read_text())["rows"]
    assert {(row["ood"], row["n_id"], row["n_ood"]) for row in rows if row["ood"]} == {("others", 48, 24)}


def interrupted(out: str, pictures: str, when: str) -> int:
    """Ctrl-C at a moment in which Python has nobody to raise it to: while a loader is forked, or while it is waited for at the end."""
    pressed: list[str] = []

    def press(now: str) -> None:
        if now == when and not pressed:
            pressed.append(now)
            os.kill(os.getpid(), signal.SIGINT)

    join = multiprocessing.Process.join

    def joined(process: multiprocessing.Process, timeout: float | None = None) -> None:
        press("ends")
        join(process, timeout)

    os.register_at_fork(after_in_parent=lambda: press("starts"))
    multiprocessing.Process.join = joined  # type: ignore[method-assign]
    try:
        kills.collecting(out, pictures, 2)
    except KeyboardInterrupt:
        return 130
    return 0 if pressed else 1


@pytest.mark.parametrize("when", ["starts", "ends"])
def test_ctrl_c_is_not_lost_while_loaders_start_and_end(nursery: Any, collected: Path, pictures: Path, tmp_path: Path, when: str) -> None:
    out = tmp_path / "out"
    status = nursery.run(interrupted, str(out), str(pictures), when).status
    assert nursery.run(kills.collecting, str(out), str(pictures)).status == 0
    assert kills.store_differs(collected, out) == []
    assert status == 130

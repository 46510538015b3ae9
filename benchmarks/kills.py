"""Kills runs with SIGKILL, starts them again, and looks for any bit that differs: `python benchmarks/kills.py [--kills 50] [--seed 0]`.

`collect` into a store and `train` into a folder of checkpoints, each against a run that nobody disturbed: once killed at a random moment and
then run to its end; killed again and again until it gets through; and killed at every step of writing every file. Prints a table; status 1
when anything differs. Every run is a process of its own, with one thread.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import inspect
import itertools
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import farfield as ff
from farfield.data.files import folder as pictures_in
from farfield.data.images import Images
from farfield.data.transforms import Normalize, Preprocess
from farfield.store import Stored, stores
from farfield.training import Recipe, make_objective, train

SHARD, BATCH = 64, 32
PATIENCE = 120  # seconds after which a run hangs


# --- what is run and killed ---------------------------------------------------------------------------------------------------------------


def draw(folder: Path, n: int) -> Path:
    """A folder of `n` small pictures, of which the last cannot be read."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")
    (folder / f"{n - 1:05d}.png").write_bytes(b"no picture")
    return folder


def collecting(out: str, pictures: str, workers: int = 0) -> None:
    """A small net with many features, which take long to write, over a folder of pictures."""
    sys.modules["farfield.collect"].SHARD = SHARD  # type: ignore[attr-defined]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Flatten(), nn.Linear(8192, 10))
    classifier = ff.Classifier.wrap(net, transform=Preprocess(resize=16, crop=16), input_size=(3, 16, 16))
    ff.collect(classifier, pictures_in(pictures), out=out, batch_size=BATCH, workers=workers)


def training(out: str, epochs: int, steps: int = 16, save_every: float = 300.0) -> None:
    """A small net with all that a training step may keep: momentum, running means, random numbers, an average of the weights, partners to mix with."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(576, 256), nn.ReLU(), nn.Linear(256, 3))
    net = nn.Sequential(*layers)

    def images(epoch: int) -> Images:
        source = torch.Generator().manual_seed(epoch)
        labels = torch.arange(steps * BATCH) % 3
        return Images("noise", torch.randint(256, (len(labels), 3, 8, 8), generator=source, dtype=torch.uint8), labels)

    recipe = Recipe(epochs=epochs, batch_size=BATCH, lr=0.01, average=0.9)
    mixtures = make_objective("regmixup", {})
    train(net, images, recipe, transform=Normalize((0.5,) * 3, (0.5,) * 3), out=out, objective=mixtures, save_every=save_every)
    save_file(net.state_dict(), Path(out).with_name("module.safetensors"))


# --- processes ----------------------------------------------------------------------------------------------------------------------------


class Ended(NamedTuple):
    """How a run ended: its exit status, or the signal that ended it, negative; and how long it took."""

    status: int
    seconds: float


class Nursery:
    """A process that has imported everything and run nothing, and forks a child for every run: they start at once, and are real."""

    def __enter__(self) -> Nursery:
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
        command = [sys.executable, __file__, "--serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=settings)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def run(self, job: Callable[..., object], *arguments: object, after: float | None = None, step: int | None = None) -> Ended:
        """Runs a function of a module in a process of its own, to its end or to its death.

        Args:
            job: what to run.
            arguments: for it, such that JSON has them.
            after: seconds after which the process is killed.
            step: of its writing at which it is killed; see `die_at`.
        """
        return self.together([(job, arguments)], after=after, step=step)[0]

    def together(
        self, jobs: Sequence[tuple[Callable[..., object], Sequence[object]]], *, after: float | None = None, step: int | None = None
    ) -> list[Ended]:
        """Runs several at the same time."""
        named = [(inspect.getfile(job), job.__name__, list(arguments)) for job, arguments in jobs]
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps({"jobs": named, "after": after, "step": step}), file=self.process.stdin, flush=True)
        return [Ended(*entry) for entry in json.loads(self.process.stdout.readline())]


def serve() -> None:
    """Forks, waits, kills and tells, until nobody asks any more."""
    import accelerate  # noqa: F401 (what every child would import)

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])  # imports more, for seconds, and so does PIL
    Image.init()
    modules: dict[str, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        for path, _, _ in asked["jobs"]:
            if path not in modules:
                modules[path] = load(Path(path))
        gc.freeze()  # a child that looks for garbage would copy all of this process
        started = time.perf_counter()
        quiet = asked["after"] is not None  # loaders whose parent was killed say so
        children = [fork(getattr(modules[path], name), arguments, asked["step"], quiet) for path, name, arguments in asked["jobs"]]
        if asked["after"] is not None:
            time.sleep(max(asked["after"] - (time.perf_counter() - started), 0.0))
            for child in children:
                os.kill(child, signal.SIGKILL)  # one that has ended is still there, to be waited for
        ended = [Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.perf_counter() - started) for child in children]
        print(json.dumps(ended), flush=True)
    os._exit(0)  # tidying up would take seconds


def load(path: Path) -> Any:
    """A module by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fork(job: Callable[..., object], arguments: Sequence[object], step: int | None, quiet: bool) -> int:
    """A child that runs a job and exits with what it returns; its process id."""
    child = os.fork()
    if child:
        return child
    status: object = 1
    try:
        if quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)
        signal.alarm(PATIENCE)
        warnings.simplefilter("ignore")
        if step is not None:
            die_at(step)
        status = job(*arguments)
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def die_at(step: int) -> None:
    """Has this process killed at one step of its writing; each file has four.

    They are: its content is there by half; it is whole; it is in its place; and some of the next one is written by whoever writes it.
    """
    steps, fsync, replace = itertools.count(), os.fsync, os.replace

    def half(file: int) -> None:
        if next(steps) == step:
            os.ftruncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    def moved(source: Any, target: Any) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        if next(steps) == step:
            die_beyond(Path(target).stat().st_size // 2)

    os.fsync, os.replace = half, moved  # type: ignore[assignment]


def die_beyond(size: int) -> None:
    """Has this process killed as soon as a file it writes has more bytes than this."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# --- what is compared ---------------------------------------------------------------------------------------------------------------------


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two files have the same tensors, NaN and negative zero included."""
    if one.keys() != other.keys():
        return False
    pairs = [(one[name], other[name]) for name in one]
    return all(a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)


def header(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def left(out: Path) -> list[Path]:
    """Half-written files of killed runs: Farfield's end in .tmp, those of safetensors begin with it."""
    return sorted(path for path in out.rglob("*") if path.suffix == ".tmp" or path.name.startswith(".tmp"))


def files(folder: Path) -> list[str]:
    """The names of the other files."""
    return sorted({path.name for path in folder.iterdir()} - {path.name for path in left(folder)})


def torn(out: Path) -> list[str]:
    """Files that are in their place and not whole."""
    found, aside = [], left(out)
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path not in aside):
        try:
            if path.suffix == ".safetensors":
                load_file(path)
            else:
                [json.loads(text) for text in (path.read_text("utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")])]
        except (OSError, ValueError, SafetensorError) as error:
            found.append(f"{path.name} is torn: {error}")
    return found


def shards(out: Path) -> dict[str, float]:
    """The shards that are there, each with when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.rglob("shard-*.safetensors")}


def store_differs(reference: Path, out: Path) -> list[str]:
    """How a store differs from the one of a run that nobody disturbed."""
    (right,), found = stores(reference), stores(out) if out.exists() else []
    if [folder.name for folder in found] != [right.name]:
        return [f"there are the stores {[folder.name for folder in found]} and not {right.name}"]
    (here,) = found
    wrong = Stored.open(here).verify()
    names = [files(folder) for folder in (right, here)]
    if names[0] != names[1]:
        wrong.append(f"there are the files {names[1]} and not {names[0]}")
    for name in sorted(set(names[0]) & set(names[1])):
        if name == "facts.json":
            equal = (right / name).read_bytes() == (here / name).read_bytes()
        else:
            equal = header(right / name) == header(here / name) and same_bits(load_file(right / name), load_file(here / name))
        if not equal:
            wrong.append(f"{name} differs")
    return wrong


def epochs(out: Path) -> dict[str, float]:
    """The epochs in the checkpoint, each with the seconds it took, which no second time has."""
    path = out / "checkpoint.safetensors"
    return {f"epoch {line['epoch']}": line["seconds"] for line in state(path)["history"]} if path.exists() else {}


def state(path: Path) -> dict[str, Any]:
    """Where a run is, as its checkpoint says."""
    return json.loads(header(path)["state"])  # type: ignore[no-any-return]


def _timeless(records: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def run_differs(reference: Path, out: Path) -> list[str]:
    """How a training run's files and module differ from those of a run that nobody disturbed, but for the seconds."""
    names = [files(folder) for folder in (reference, out)]
    if names[0] != names[1]:
        return [f"there are the files {names[1]} and not {names[0]}"]
    wrong = []
    tensors = [(folder / "checkpoint.safetensors", folder.with_name("module.safetensors")) for folder in (reference, out)]
    for right, here in zip(*tensors, strict=True):
        if not here.exists() or not same_bits(load_file(right), load_file(here)):
            wrong.append(f"the tensors of {here.name} differ")
    told = [state(pair[0]) for pair in tensors]
    if len({json.dumps({**entry, "history": _timeless(entry["history"])}) for entry in told}) > 1:
        wrong.append("where the run is differs, by the checkpoint")
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()] for folder in (reference, out)]
    if _timeless(lines[0]) != _timeless(lines[1]):
        wrong.append(f"metrics.jsonl has {len(lines[1])} records for {len(lines[0])}, or others")
    if (reference / "recipe.json").read_bytes() != (out / "recipe.json").read_bytes():
        wrong.append("recipe.json differs")
    return wrong


# --- killing ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Something to run and kill.

    Args:
        name: what the table calls it.
        job: the function, called with the folder to write and `arguments`.
        arguments: the rest of them.
        kept: from that folder to the parts that are done, each with a number that it has if it is not done again.
        differs: from the folder of an undisturbed run and that of another to what differs.
    """

    name: str
    job: Callable[..., object]
    arguments: tuple[object, ...]
    kept: Callable[[Path], dict[str, float]]
    differs: Callable[[Path, Path], list[str]]


@dataclass
class Tally:
    """What came of some kills."""

    what: str
    early: int = 0  # hit a process that had no part done yet
    later: int = 0  # hit one that had
    late: int = 0  # found the process already at its end
    resumed: int = 0
    left: int = 0  # half-written files, which stay for an hour
    reused: list[int] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def cells(self) -> list[object]:
        """The row of the table."""
        reused = f"{statistics.median(self.reused):g}" if self.reused else "-"
        return [self.what, self.early + self.later, self.early, self.later, self.late, self.resumed, len(self.differences), self.left, reused]


HEADS = (
    "what",
    "kills that hit",
    "before the first part",
    "after it",
    "too late",
    "resumed runs",
    "differences",
    "half-written files left",
    "reused (median)",
)


def table(tallies: Sequence[Tally]) -> str:
    """The tallies in Markdown."""
    lines = [HEADS, ("---", *("---:",) * (len(HEADS) - 1)), *(tally.cells() for tally in tallies)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


class Range:
    """One work, the runs of it that nobody disturbs, and the kills.

    Args:
        nursery: where the processes come from.
        work: what is killed.
        folder: for what the runs write.
    """

    def __init__(self, nursery: Nursery, work: Work, folder: Path) -> None:
        self.nursery, self.work, self.folder, self.runs = nursery, work, folder, itertools.count()
        outs = [self._new() for _ in range(3)]
        ended = [self._run(out) for out in outs]
        self.reference, self.seconds = outs[0], statistics.median(end.seconds for end in ended)
        wrong = [f"status {end.status}" for end in ended if end.status] or [line for out in outs[1:] for line in work.differs(self.reference, out)]
        if wrong:
            raise SystemExit(f"{work.name} does not run, or is not the same twice: {'; '.join(wrong)}.")

    def random(self, kills: int, source: random.Random) -> Tally:
        """Killed once at a random moment, then run to the end."""
        tally = Tally(f"{self.work.name}, killed once")
        for _ in range(kills):
            self._trial(tally, [{"after": source.uniform(0.0, self.seconds)}])
        return tally

    def chains(self, chains: int, source: random.Random) -> Tally:
        """Killed at random moments until it gets through."""
        tally = Tally(f"{self.work.name}, killed until it ends")
        for _ in range(chains):
            self._trial(tally, ({"after": source.uniform(0.0, 0.6 * self.seconds)} for _ in range(1000)))
        return tally

    def steps(self) -> Tally:
        """Killed once at each step of writing."""
        tally, unhurt = Tally(f"{self.work.name}, at each step of writing"), 0
        for step in itertools.count():
            unhurt = unhurt + 1 if self._trial(tally, [{"step": step}]) else 0
            if unhurt == 2:  # the last file has no next one, and after it there are no steps
                tally.late = 0
                return tally
        raise AssertionError

    def _trial(self, tally: Tally, kills: Iterable[dict[str, Any]]) -> bool:
        """Runs and kills as told, then runs to the end, and compares; whether no kill hit."""
        out, told, hit = self._new(), [], False
        wrong: list[str] = []
        for kill in itertools.chain(kills, [{}]):
            before = self.work.kept(out)
            ended = self._run(out, **kill)
            told += [f"{name} {value:.4g}" for name, value in kill.items()]
            wrong += torn(out)
            if wrong or ended.status not in (0, -signal.SIGKILL, -signal.SIGXFSZ):
                wrong.append(f"status {ended.status}")
                break
            after = self.work.kept(out)
            wrong += [f"{name} was made again" for name in before if before[name] != after.get(name)]
            if hit:
                tally.resumed += 1
                tally.reused.append(len(before))
            if ended.status == 0:
                tally.late += bool(kill)
                wrong += self.work.differs(self.reference, out)
                break
            hit = True
            tally.early, tally.later = (tally.early, tally.later + 1) if after else (tally.early + 1, tally.later)
        tally.differences += [f"{tally.what}, {', '.join(told)}: {what}" for what in wrong]
        tally.left += len(left(out))
        if not wrong:
            shutil.rmtree(out.parent)
        return not hit

    def _new(self) -> Path:
        return self.folder / f"{next(self.runs):04d}" / "out"

    def _run(self, out: Path, **how: Any) -> Ended:
        out.parent.mkdir(parents=True, exist_ok=True)
        return self.nursery.run(self.work.job, str(out), *self.work.arguments, **how)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills runs and looks for what is lost.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    source, started, tallies = random.Random(options.seed), time.perf_counter(), []
    with tempfile.TemporaryDirectory() as name, Nursery() as nursery:
        folder = Path(name)
        many, few = str(draw(folder / "many", 700)), str(draw(folder / "few", 150))
        for work, short in (
            (Work("collect", collecting, (many,), shards, store_differs), Work("collect", collecting, (few,), shards, store_differs)),
            (Work("train", training, (8,), epochs, run_differs), Work("train", training, (3, 2), epochs, run_differs)),
        ):
            full = Range(nursery, work, folder / work.name)
            print(f"{work.name}: {full.seconds:.2f} s undisturbed", file=sys.stderr)
            tallies += [full.random(options.kills, source), full.chains(-(-options.kills // 10), source)]
            tallies.append(Range(nursery, short, folder / f"{work.name} in steps").steps())
        often = Range(nursery, Work("train, every step", training, (2, 8, 0.0), epochs, run_differs), folder / "often")
        tallies += [often.random(-(-options.kills // 5), source), often.steps()]
        pool = Range(nursery, Work("collect, 2 loaders", collecting, (many, 2), shards, store_differs), folder / "loaders")
        tallies.append(pool.random(-(-options.kills // 10), source))
    print(table(tallies))
    wrong = [line for tally in tallies for line in tally.differences]
    print(*wrong, sep="\n")
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

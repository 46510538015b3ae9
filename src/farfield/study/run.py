"""One classifier after the other through the benchmark, each kept when it is done; one that fails is kept out of the way of the others."""

from __future__ import annotations

import errno
import gc
import json
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from farfield import benchmark
from farfield.benchmark.results import checked
from farfield.benchmark.run import scores_path
from farfield.classifier import Classifier
from farfield.collect import Progress
from farfield.data.images import Suite
from farfield.detectors.base import Fitter
from farfield.errors import InputError
from farfield.files import put
from farfield.store import Stored, facts_of, stores
from farfield.study.pool import Entry

KEPT, SETTINGS = "classifiers", "settings.json"
STOPS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # errors of a disk, which are no classifier's
MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
LONGEST = 400  # letters of a reason
SAID_OF_OUTPUTS = re.compile(r"`(logits|features)` has (NaN|infinity)")
Jobs = Sequence[tuple[Suite, Sequence[Classifier | None]]]


@dataclass
class Done:
    """What came of one classifier.

    Args:
        entry: of the pool.
        results: of the benchmark, as `results.json` has them; `None` where it failed.
        reason: why it failed; empty where it did not.
        parameters: how many numbers its weights are.
        seconds: that it took, loading included.
    """

    entry: Entry
    results: dict[str, Any] | None = None
    reason: str = ""
    parameters: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Options:
    """How each classifier is run: `benchmark.run`'s options, and whether what it said of every picture stays on the disk once it is judged."""

    batch_size: int | None = None
    workers: int | None = None
    strict: bool = False
    keep_outputs: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def run(
    pool: Sequence[Entry],
    jobs_of: Callable[[str], Jobs],
    detectors: Mapping[str, Fitter],
    *,
    out: str | Path,
    options: Options | None = None,
    progress: Progress | None = None,
    each: Callable[[Done, int, str], object] | None = None,
) -> list[Done]:
    """Judges every detector on every classifier of a pool. What is done is kept in `out`, and not done again; what failed is tried again.

    Args:
        pool: the classifiers.
        jobs_of: from what `Classifier.load` takes to the suite and that classifier, as `benchmark.run` takes them.
        detectors: fitters by the name that tables call them.
        out: a folder. A classifier has a file in `out/classifiers`, and its scores in `out/scores`.
        options: how it is run; `settings` are what must be the same for what is kept to be what is asked for.
        progress: called with what is done, how far, and out of how much.
        each: called with what came of a classifier, how many are through, and what `forecast` says.

    Raises:
        InputError: where the folder holds a study of other settings, or cannot be written. A classifier that fails is no reason.
    """
    out, options = Path(out), options or Options()
    _settle(out, options.settings)
    found: list[Done] = []
    times: list[float] = []
    for number, entry in enumerate(pool):
        done = _kept(_path(out, entry), entry, out)
        if done is None:
            ahead = forecast(times, len(pool) - number)
            began = time.perf_counter()
            done = _judged(
                entry, jobs_of, detectors, out, options, _titled(progress, f"{entry.name} ({number + 1} of {len(pool)}{ahead and f', {ahead}'})")
            )
            done.seconds = round(time.perf_counter() - began, 3)
            _forget()
            if not done.reason:
                _put(
                    _path(out, entry),
                    {"model": entry.model, "state": state_of(entry), "seconds": done.seconds, "parameters": done.parameters, "results": done.results},
                )
                if not options.keep_outputs:
                    _tidy(out, done)
        times += [] if done.reason else [done.seconds]
        found.append(done)
        if each is not None:
            each(done, number + 1, forecast(times, len(pool) - number - 1))
    return found


def _judged(
    entry: Entry, jobs_of: Callable[[str], Jobs], detectors: Mapping[str, Fitter], out: Path, options: Options, progress: Progress | None
) -> Done:
    """What comes of a classifier; whatever goes wrong with it is its reason, unless the disk is at fault."""
    try:
        jobs = jobs_of(entry.model)
        classifier = next(one for _, several in jobs for one in several if one is not None)
        classifier.name = entry.name
        parameters = sum(p.numel() for p in classifier.module.parameters())
        results = benchmark.run(
            jobs, detectors, out=out, batch_size=options.batch_size, workers=options.workers, strict=options.strict, progress=progress
        )
    except Exception as error:  # a model may fail in any way, and the others are not to suffer for it
        stopping = next((one for one in _causes(error) if isinstance(one, OSError) and one.errno in STOPS), None)
        if stopping is not None:
            raise
        return Done(entry, reason=reason_of(error))
    wrong = next((one["reason"] for one in results.refused if SAID_OF_OUTPUTS.match(one["reason"])), "")
    if wrong or not _finite(results, out):
        return Done(entry, reason=wrong or "Its logits have NaN or infinity on ID test data. Mend the model.")
    if not results.rows:
        first = results.refused[0]["reason"] if results.refused else "there is nothing to judge it on"
        return Done(entry, reason=f"No detector could be judged on it: {first}")
    return Done(entry, results.plain(), parameters=parameters)


def _finite(results: benchmark.Results, out: Path) -> bool:
    """Whether the logits on the ID test data are numbers: a detector of features alone would not notice, and the accuracy would mean nothing."""
    for stored in _stored(out, {entry["fingerprint"] for entry in results.classifiers}):
        if facts_of(stored.folder)["about"].get("data") == "test":
            logits = (chunk.logits for chunk in stored)
            return all(one is None or bool(torch.isfinite(one).all()) for one in logits)
    return True


def _stored(out: Path, fingerprints: Container[str]) -> Iterator[Stored]:
    """What some classifiers said, as it is stored; what cannot be read is passed over."""
    for folder in stores(out / "store"):
        try:
            stored = Stored.open(folder)
        except InputError:
            continue
        if stored.fingerprint in fingerprints:
            yield stored


def reason_of(error: BaseException) -> str:
    """Why a classifier failed, in one line.

    >>> reason_of(MemoryError()), reason_of(KeyError("x"))
    ('It does not fit in memory (MemoryError).', "KeyError: 'x'")
    """
    for one in _causes(error):
        text = str(one)
        if isinstance(one, MemoryError | torch.OutOfMemoryError) or (isinstance(one, RuntimeError) and any(said in text.lower() for said in MEMORY)):
            first = (text.splitlines() or [""])[0]
            return f"It does not fit in memory ({type(one).__name__}{f': {first[:LONGEST]}' if first else ''})."
    said = " ".join(str(error).split())
    said = said if isinstance(error, InputError) else f"{type(error).__name__}: {said}" if said else type(error).__name__
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def forecast(times: Sequence[float], left: int) -> str:
    """How long what is left will take, by the mean of those done; empty where nothing is known or left.

    >>> forecast([50.0, 70.0], 4), forecast([2.0], 3), forecast([], 4)
    ('about 4 min left', 'about 6 s left', '')
    """
    if not times or not left:
        return ""
    seconds = left * sum(times) / len(times)
    size, unit = next(((size, unit) for size, unit in ((3600.0, "h"), (60.0, "min")) if seconds >= 2 * size), (1.0, "s"))
    return f"about {seconds / size:.0f} {unit} left"


def _titled(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None

    def step(what: str, done: int, total: int) -> None:
        progress(f"{name}: {what.partition(': ')[2] or what}", done, total)

    step(": loading", 0, 1)
    return step


def _forget() -> None:
    """Frees a classifier, hooks and cycles and all, before the next is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# --- what is kept ---------------------------------------------------------------------------------------------------------------------------


def _path(out: Path, entry: Entry) -> Path:
    """Where a classifier's file lies, under the name that its scores have."""
    return out / KEPT / f"{scores_path(out, KEPT, entry.name).stem}.json"


def state_of(entry: Entry) -> list[int] | None:
    """Of a file, its size and when it was written: a run that was trained again is another classifier."""
    path = Path(entry.model)
    path = path / "model.safetensors" if path.is_dir() else path
    if path.suffix != ".safetensors" or not path.exists():
        return None
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _kept(path: Path, entry: Entry, out: Path) -> Done | None:
    """What is kept of a classifier; `None` where it is not done, is another by now, or its scores are gone."""
    if not path.exists():
        return None
    told = _read(path, "Delete it, and that classifier is done again")
    try:
        results = checked(told["results"])
        suite, name = results["classifiers"][0]["suite"], results["classifiers"][0]["name"]
        if (told["model"], told["state"]) != (entry.model, state_of(entry)) or not scores_path(out, suite, name).exists():
            return None
        return Done(entry, results, parameters=int(told["parameters"]), seconds=float(told["seconds"]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}). Delete it, and that classifier is done again.") from error


def _settle(out: Path, settings: Mapping[str, Any]) -> None:
    """Keeps a folder to one set of settings."""
    path, mine = out / SETTINGS, json.loads(json.dumps(dict(settings)))
    if not path.exists():
        return _put(path, mine)
    told = _read(path, "Delete it if you know that all in that folder has the same settings")
    wrong = [f"{name} was {_short(told.get(name))} and is {_short(mine.get(name))}" for name in {**told, **mine} if told.get(name) != mine.get(name)]
    if wrong:
        raise InputError(f"{out} holds a study with other settings: {', '.join(wrong)}. Give another folder with --out.")


def _short(value: Any) -> str:
    return "not given" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read(path: Path, do: str) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}). {do}.") from error
    return told


def _put(path: Path, value: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: partial.write_text(json.dumps(value, allow_nan=False), "utf-8", errors="backslashreplace"))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. Make room, and run the same command again.") from error


def _tidy(out: Path, done: Done) -> None:
    """Removes what a classifier said of every picture: its scores and figures stay, and hundreds of classifiers would fill any disk."""
    assert done.results is not None
    for stored in _stored(out, {entry["fingerprint"] for entry in done.results["classifiers"]}):
        with suppress(OSError):  # in use: it costs room and nothing else
            stored.remove()

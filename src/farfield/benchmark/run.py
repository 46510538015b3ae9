"""Classifiers x detectors x suites to rows of figures, with an interval on every one.

Training outputs fit the detectors, test and OOD outputs are scored, and nothing is chosen by looking at either. Every picture goes through
each classifier once, whatever the number of detectors.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from farfield import metrics
from farfield.benchmark.gallery import gallery, save, shown
from farfield.benchmark.gather import GIVEN, Gathered, Passing, accuracy, check_sizes, classes_of, gather, set_apart, timed
from farfield.benchmark.inside import all_of, fit_looking, on_probe, union
from farfield.benchmark.results import Results, noting, quietly
from farfield.benchmark.rows import ScoredSet, rank, rows_of, scored
from farfield.classifier import Classifier
from farfield.collect import Progress
from farfield.data.images import Suite
from farfield.detectors.base import Detector, Fitter
from farfield.detectors.compose import calibrated, check_ranges, fit_taps_of, fitted, papers_of, passes_of
from farfield.errors import FarfieldWarning, InputError
from farfield.files import put
from farfield.outputs import Outputs, chunks
from farfield.store import Stored

SCORED = 65_536  # samples scored at a time
COLUMNS = ("classes", "labels", "clusters")  # what lies beside the scores


def run(
    jobs: Sequence[tuple[Suite, Sequence[Classifier | None]]],
    detectors: Mapping[str, Fitter],
    *,
    out: str | Path,
    batch_size: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    each: Callable[[Results], object] | None = None,
) -> Results:
    """Fits and judges every detector on every classifier of every suite.

    Args:
        jobs: suites, each with the classifiers of its classes; `None` for a classifier whose outputs the suite has itself.
        detectors: fitters by the name tables call them.
        out: a folder; the outputs go to `out/store` and are found there again, the scores to `out/scores`.
        batch_size: pictures in a forward pass; as `collect`'s.
        workers: processes that load pictures; as `collect`'s.
        strict: stop at the first picture that cannot be read; else it is left out and named in `Results.unreadable`.
        command: what a person types to do this again; reports quote it.
        progress: called with what is done, how far, and out of how much.
        each: called with the results so far after each classifier, so that they can be kept.

    Raises:
        InputError: when a classifier has other classes than its suite, or `out` cannot be written. A detector that refuses a classifier does
            not stop the rest: `Results.refused` says why.
    """
    for fitter in detectors.values():
        check_ranges(fitter)
    _check_jobs(jobs, detectors)
    started = time.perf_counter()
    results = Results(environment=environment(), papers={name: "; ".join(papers_of(fitter)) for name, fitter in detectors.items()}, command=command)
    seconds: dict[str, float] = {}
    passing = Passing(Path(out) / "store", seconds, batch_size, workers, strict, progress)
    cost: dict[str, dict[str, float]] = {name: {"fit_seconds": 0.0, "score_seconds": 0.0} for name in detectors}
    for suite, classifiers in jobs:
        about = next((entry for entry in results.suites if entry["name"] == suite.name), None)
        if about is None:
            about = {"name": suite.name, "note": suite.note, "ood": {s.name: s.group for s in suite.ood}, "contents": {}}
            results.suites.append(about)
        for classifier in classifiers:
            name = GIVEN if classifier is None else classifier.name
            calibrating = any(calibrated(fitter) for fitter in detectors.values())
            training = {key: suite.splits[key] for key in ("train", *(("calibration",) if calibrating else ())) if key in suite.splits}
            tested = {"test": suite.splits["test"], **{ood.name: ood.load for ood in suite.ood}}
            inside, looking = on_probe(classifier, detectors)
            with timed(seconds, "collect"), noting(results, name):
                gathered = gather(
                    classifier,
                    suite,
                    training,
                    passing,
                    lambda n, inside=inside: union(fit_taps_of(f) for f in inside.values() if all_of(f, n)),  # type: ignore[misc]
                )
            looking |= fit_looking(classifier, gathered, inside, passing, cost, results, name)
            taps = union(made.taps() for made in looking.values() if isinstance(made, Detector))
            with timed(seconds, "collect"), noting(results, name):
                gathered |= gather(classifier, suite, tested, passing, lambda _, taps=taps: taps)  # type: ignore[misc]
                if calibrating and "calibration" not in gathered:
                    gathered["calibration"], gathered["test"] = set_apart(gathered["test"])
                    warnings.warn(
                        f"{len(gathered['calibration'].outputs)} of the ID test samples of {suite.name} calibrate, since no others are given for that "
                        f"(--id-cal), and are left out of the figures; {len(gathered['test'].outputs)} remain.",
                        FarfieldWarning,
                        stacklevel=2,
                    )
                classes = classes_of(classifier, gathered)
                check_sizes(suite, gathered, classes)
                results.classifiers.append(accuracy(name, suite, gathered["test"], classes, _class_names(suite, classifier)))
            about["contents"] |= {key: entry.contents for key, entry in gathered.items()}
            for key, entry in gathered.items():
                results.unreadable += [{"classifier": name, "set": key, "name": f.name, "reason": f.reason} for f in entry.failed]
            _judge(results, name, suite, gathered, detectors, looking, cost, seconds, Path(out), progress)
            if each is not None:
                each(results)
    seconds["store"] = max(0.0, seconds.pop("collect", 0.0) - seconds.get("pictures", 0.0) - seconds.get("forward", 0.0))
    results.cost = {
        "forward_seconds": seconds.pop("forward", 0.0),
        "total_seconds": time.perf_counter() - started,
        **{f"{stage}_seconds": value for stage, value in seconds.items()},
        "per_detector": cost,
    }
    return results


def environment() -> dict[str, Any]:
    """Versions and machine."""
    from farfield import __version__

    return {
        "farfield": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("torchvision", "timm", "numpy", "scipy", "pillow")},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _class_names(suite: Suite, classifier: Classifier | None) -> Sequence[str]:
    return suite.classes or (() if classifier is None or classifier.labels is None else classifier.labels)


def _check_jobs(jobs: Sequence[tuple[Suite, Sequence[Classifier | None]]], detectors: Iterable[str]) -> None:
    """Raises, before anything runs, for names that cannot be written, a classifier of other classes than its suite's, and two of one name."""
    for suite, _ in jobs:
        sets = ["test", *(ood.name for ood in suite.ood)]
        for called in (suite.name, *sets, *detectors):
            if called.encode("utf-8", "ignore").decode() != called:
                raise InputError(f"The name {called!r} is not UTF-8, and results are written in that. Give it another.")
        keys = [f"{name}/{key}" for name in (*COLUMNS, *detectors) for key in sets]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise InputError(f"Two columns of the scores of {suite.name} would be called {twice!r}. Give the detector or the set another name.")
    names = [(suite.name, GIVEN if classifier is None else classifier.name) for suite, classifiers in jobs for classifier in classifiers]
    for suite_name, name in names:
        if names.count((suite_name, name)) > 1:
            raise InputError(
                f"There are two classifiers called {name!r} for {suite_name}; results could not tell them apart. Give each a name of its own."
            )
    for suite, classifiers in jobs:
        for classifier in classifiers:
            if classifier is not None and suite.classes and classifier.classes != len(suite.classes):
                raise InputError(
                    f"{classifier.name} has {classifier.classes} classes and {suite.name} has {len(suite.classes)}; it was trained for another suite."
                )


def _judge(
    results: Results,
    classifier: str,
    suite: Suite,
    gathered: Mapping[str, Gathered],
    detectors: Mapping[str, Fitter],
    looking: Mapping[str, Detector | InputError],
    cost: dict[str, dict[str, float]],
    seconds: dict[str, float],
    out: Path,
    progress: Progress | None,
) -> None:
    """Fits every detector on one classifier, but those that are fitted already, scores every set, and adds the rows."""
    kept: dict[str, Tensor] = {}
    placed: dict[str, dict[str, ScoredSet]] = {}
    for index, (name, fitter) in enumerate(detectors.items()):
        if progress is not None:
            progress(f"{classifier}: {name}", index, len(detectors))
        spent: dict[str, float] = {}
        try:
            if name in looking:
                detector = looking[name]
                if isinstance(detector, InputError):
                    raise detector
            else:
                with timed(spent, "fit"), quietly(results, classifier, name):
                    calibration = gathered["calibration"].outputs if "calibration" in gathered else None
                    detector = fitted(fitter, _training(gathered, name, fitter), calibration)
            with timed(spent, "score"):
                scores = {key: score(detector, entry.outputs) for key, entry in gathered.items() if key not in ("train", "calibration")}
            with timed(seconds, "metrics"):
                s_in = scores["test"].double().numpy()
                drawn = metrics.threshold_draws(s_in)
                entries = {o.name: (o.group, gathered[o.name]) for o in suite.ood}
                sets = {key: scored(s_in, drawn, scores[key], group, e.clusters, e.parts, e.part_group) for key, (group, e) in entries.items()}
                results.rows += rows_of(classifier, name, suite.name, s_in, sets)
        except InputError as error:
            results.refused.append({"classifier": classifier, "detector": name, "reason": str(error)})
            continue
        finally:
            for stage, value in spent.items():
                cost[name][f"{stage}_seconds"] += value
                seconds[stage] = seconds.get(stage, 0.0) + value
        kept |= {f"{name}/{key}": value for key, value in scores.items()}
        placed[name] = sets
    with timed(seconds, "metrics"):
        rank([row for row in results.rows if (row.classifier, row.suite) == (classifier, suite.name)], placed)
    for key in ("test", *(o.name for o in suite.ood)):
        kept |= {f"{column}/{key}": values for column, values in _beside(gathered[key]).items()}
    with timed(seconds, "gallery"):
        scored_sets = [{key: kept[f"{name}/{key}"].double().numpy() for key in ("test", *sets)} for name, sets in placed.items()]
        rows = shown(scored_sets, {key: len(gathered[key].outputs) for key in ("test", *(o.name for o in suite.ood))})
        save(pictures_path(out, suite.name, classifier), gallery(gathered, rows))
    path = scores_path(out, suite.name, classifier)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: save_file(kept, partial))
    except (OSError, SafetensorError) as error:
        raise InputError(f"The scores cannot be written to {path}: {error}. Make room and run the same command again.") from error
    if progress is not None:
        progress(f"{classifier}: done", len(detectors), len(detectors))


def _training(gathered: Mapping[str, Gathered], name: str, fitter: Fitter) -> Outputs | Stored:
    """What to fit on; what learns nothing may do without training data, and looks at a row of the test data for its columns."""
    if "train" in gathered:
        return gathered["train"].outputs
    if passes_of(fitter) > 0:
        raise InputError(f"{name} is fitted on ID training data, and there are none: give --id-train.")
    return next(chunks(gathered["test"].outputs))[:1]


def score(detector: Detector, outputs: Outputs | Stored) -> Float[Tensor, " n"]:
    """A detector's number for every sample, a piece at a time."""
    return torch.cat([detector(chunk) for chunk in chunks(outputs, SCORED)])


def _beside(entry: Gathered) -> dict[str, Tensor]:
    """What a report needs of a set beside the scores: the class each picture is taken for, the one it is of, and which share a source."""
    found: dict[str, list[Tensor]] = {}
    for chunk in chunks(entry.outputs):
        columns = chunk.columns()
        if "logits" in columns:
            found.setdefault("classes", []).append(chunk.predictions().int())
        if "labels" in columns:
            found.setdefault("labels", []).append(columns["labels"].int())
    columns_of = {column: torch.cat(values) for column, values in found.items()}
    return columns_of | ({} if entry.clusters is None else {"clusters": entry.clusters})


def scores_path(out: Path, suite: str, classifier: str) -> Path:
    """Where the scores of a classifier on a suite lie: tensors `detector/set`, and `classes/set`, `labels/set` and `clusters/set` beside them."""
    return _place(out / "scores", suite, classifier, ".safetensors")


def pictures_path(out: Path, suite: str, classifier: str) -> Path:
    """Where the small pictures for reports lie."""
    return _place(out / "pictures", suite, classifier, ".json")


def _place(folder: Path, suite: str, classifier: str, ending: str) -> Path:
    """A file for a classifier on a suite, under names that a file system takes."""

    def safe(name: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".")
        return plain if plain == name else f"{plain}-{hashlib.blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"

    return folder / safe(suite) / f"{safe(classifier.removesuffix('.safetensors'))}{ending}"

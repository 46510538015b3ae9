"""Classifiers x detectors x suites to rows of figures, with an interval on every one.

Training outputs fit the detectors, test and OOD outputs are scored, and nothing is chosen by looking at either. Every picture goes through
each classifier once, whatever the number of detectors.
"""

from __future__ import annotations

import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from farfield import metrics
from farfield.classifier import Classifier
from farfield.collect import Progress, collect
from farfield.data.images import Images, Suite
from farfield.detectors.base import Detector, Fitter
from farfield.detectors.compose import check_ranges
from farfield.errors import FarfieldWarning, InputError
from farfield.store import Stored

SIGNIFICANT = 0.05
MEANS = ("near", "far")


@dataclass
class Row:
    """One detector of one classifier on one OOD set; on the mean of a group's sets where `ood` is `None`."""

    classifier: str
    detector: str
    suite: str
    ood: str | None
    group: str
    auroc: float
    auroc_interval: tuple[float, float]
    fpr_at_95_tpr_id: float
    fpr_at_95_tpr_id_interval: tuple[float, float]
    fpr_at_95_tpr_ood: float
    ap_id: float
    ap_ood: float
    n_id: int
    n_ood: int
    sources: int | None = None  # how many sources the OOD pictures are from, where they share some
    rank: int | None = None  # of a mean: 1 + the number of detectors significantly better on the same pictures


@dataclass
class Results:
    """What a benchmark found; `asdict` of it is `results.json`."""

    rows: list[Row] = field(default_factory=list)
    classifiers: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    suites: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass
class ScoredSet:
    """One detector's scores of an OOD set, where the set belongs, and how its pictures stand among the test pictures."""

    group: str
    scores: Float[np.ndarray, " n"]
    clusters: np.ndarray | None
    parts: Mapping[str, slice]
    placements: metrics.Placements


def run(
    jobs: Sequence[tuple[Suite, Sequence[Classifier]]],
    detectors: Mapping[str, Fitter],
    *,
    out: str | Path,
    batch_size: int = 256,
    workers: int = 0,
    progress: Progress | None = None,
) -> Results:
    """Fits and judges every detector on every classifier of every suite.

    Args:
        jobs: suites, each with the classifiers of its classes.
        detectors: fitters by the name tables call them.
        out: a folder; the outputs go to `out/store` and are found there again, the scores to `out/scores`.
        batch_size: pictures in a forward pass.
        workers: processes that load pictures.
        progress: called with what is done, how far, and out of how much.

    Raises:
        InputError: when a classifier has other classes than its suite, or `out` cannot be written. A detector that refuses a classifier does
            not stop the rest: `Results.refused` says why.
    """
    for fitter in detectors.values():
        check_ranges(fitter)
    _check_jobs(jobs)
    started = time.perf_counter()
    results = Results(environment=environment())
    seconds: dict[str, float] = {}
    cost: dict[str, dict[str, float]] = {name: {"fit_seconds": 0.0, "score_seconds": 0.0} for name in detectors}
    for suite, classifiers in jobs:
        results.suites.append({"name": suite.name, "note": suite.note, "ood": {s.name: s.group for s in suite.ood}})
        for classifier in classifiers:
            with _timed(seconds, "collect"):
                stored = _collect_all(classifier, suite, Path(out) / "store", batch_size, workers, progress, seconds)
            results.classifiers.append(_accuracy(classifier, suite, stored["test"]))
            _judge(results, classifier, suite, stored, detectors, cost, seconds, Path(out), progress)
    seconds["store"] = seconds.pop("collect", 0.0) - seconds.get("pictures", 0.0) - seconds.get("forward", 0.0)
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
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


class _timed:
    """Adds the time inside the `with` to `seconds[stage]`."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self.seconds, self.stage = seconds, stage

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + time.perf_counter() - self.started


def _check_jobs(jobs: Sequence[tuple[Suite, Sequence[Classifier]]]) -> None:
    """Raises, before anything runs, for a classifier of other classes than its suite's, and for two of one name."""
    names = [(suite.name, classifier.name) for suite, classifiers in jobs for classifier in classifiers]
    for suite_name, name in names:
        if names.count((suite_name, name)) > 1:
            raise InputError(
                f"There are two classifiers called {name!r} for {suite_name}; results could not tell them apart. Give each a name of its own."
            )
    for suite, classifiers in jobs:
        for classifier in classifiers:
            head = classifier.head
            if head is not None and len(head.weight) != len(suite.classes):
                raise InputError(
                    f"{classifier.name} has {len(head.weight)} classes and {suite.name} has {len(suite.classes)}; it was trained for another suite."
                )


def _collect_all(
    classifier: Classifier, suite: Suite, store: Path, batch_size: int, workers: int, progress: Progress | None, seconds: dict[str, float]
) -> dict[str, tuple[Stored, Images]]:
    """Outputs of the training and test splits and of every OOD set, each with its pictures."""
    loaders: dict[str, Callable[[], Images]] = {name: suite.splits[name] for name in ("train", "test")}
    loaders |= {ood.name: ood.load for ood in suite.ood}
    stored = {}
    for name, load in loaders.items():
        with _timed(seconds, "pictures"):
            images = load()
        step = None if progress is None else _named(progress, f"{classifier.name}: {name}")
        stored[name] = (
            collect(classifier, images, out=store, batch_size=batch_size, workers=workers, progress=step, seconds=seconds),
            images,
        )
    return stored


def _named(progress: Progress, name: str) -> Progress:
    return lambda _, done, total: progress(name, done, total)


def _accuracy(classifier: Classifier, suite: Suite, test: tuple[Stored, Images]) -> dict[str, Any]:
    """A classifier's entry: its accuracy on the ID test split."""
    stored, _ = test
    hits = sum(int(chunk.predictions().eq(chunk.columns()["labels"]).sum()) for chunk in stored)
    return {
        "name": classifier.name,
        "suite": suite.name,
        "fingerprint": stored.fingerprint,
        "id_accuracy": hits / len(stored),
        "id_accuracy_interval": metrics.proportion_interval(hits, len(stored)),
        "classes": len(suite.classes),
    }


def _judge(
    results: Results,
    classifier: Classifier,
    suite: Suite,
    stored: Mapping[str, tuple[Stored, Images]],
    detectors: Mapping[str, Fitter],
    cost: dict[str, dict[str, float]],
    seconds: dict[str, float],
    out: Path,
    progress: Progress | None,
) -> None:
    """Fits every detector on one classifier, scores every set, and adds the rows."""
    kept: dict[str, Tensor] = {}
    placed: dict[str, list[ScoredSet]] = {}
    for index, (name, fitter) in enumerate(detectors.items()):
        if progress is not None:
            progress(f"{classifier.name}: {name}", index, len(detectors))
        spent: dict[str, float] = {}
        try:
            with _timed(spent, "fit"), warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", FarfieldWarning)
                detector = fitter(stored["train"][0])
            results.warnings += [{"classifier": classifier.name, "detector": name, "message": str(warning.message)} for warning in said]
            with _timed(spent, "score"):
                scores = {key: score(detector, outputs) for key, (outputs, _) in stored.items() if key != "train"}
            with _timed(seconds, "metrics"):
                s_in = scores["test"].double().numpy()
                sets = {o.name: _scored(s_in, scores[o.name], o.group, stored[o.name][1]) for o in suite.ood}
                results.rows += _rows(classifier.name, name, suite.name, s_in, sets)
        except InputError as error:
            results.refused.append({"classifier": classifier.name, "detector": name, "reason": str(error)})
            continue
        finally:
            for stage, value in spent.items():
                cost[name][f"{stage}_seconds"] += value
                seconds[stage] = seconds.get(stage, 0.0) + value
        kept |= {f"{name}/{key}": value for key, value in scores.items()}
        placed[name] = list(sets.values())
    with _timed(seconds, "metrics"):
        _rank([row for row in results.rows if (row.classifier, row.suite) == (classifier.name, suite.name)], placed)
    folder = out / "scores" / suite.name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', classifier.name.removesuffix('.safetensors'))}.safetensors")
    if progress is not None:
        progress(f"{classifier.name}: done", len(detectors), len(detectors))


def score(detector: Detector, outputs: Stored) -> Float[Tensor, " n"]:
    """A detector's number for every stored sample, shard by shard."""
    return torch.cat([detector(chunk) for chunk in outputs])


def _scored(s_in: np.ndarray, scores: Tensor, group: str, images: Images) -> ScoredSet:
    s_out = scores.double().numpy()
    clusters = None if images.clusters is None else images.clusters.numpy()
    return ScoredSet(group, s_out, clusters, images.parts, metrics.placements(s_in, s_out))


def _rows(classifier: str, detector: str, suite: str, s_in: np.ndarray, sets: Mapping[str, ScoredSet]) -> list[Row]:
    """A row for each set and part of a set, then one for the mean of each group."""

    def row(ood: str | None, group: str, members: Sequence[ScoredSet]) -> Row:
        outs = [member.scores for member in members]
        clusters = [member.clusters for member in members]
        sources = None if clusters[0] is None or len(clusters) > 1 else len(np.unique(clusters[0]))
        return Row(
            classifier,
            detector,
            suite,
            ood,
            group,
            auroc=float(np.mean([member.placements.v_in.mean() for member in members])),
            auroc_interval=metrics.placement_interval([member.placements for member in members], clusters=clusters, widen=False),
            fpr_at_95_tpr_id=float(np.mean([metrics.fpr_at_95_tpr_id(s_in, o) for o in outs])),
            fpr_at_95_tpr_id_interval=metrics.mean_fpr_interval(s_in, outs, clusters=clusters, widen=False),
            fpr_at_95_tpr_ood=float(np.mean([metrics.fpr_at_95_tpr_ood(s_in, o) for o in outs])),
            ap_id=float(np.mean([metrics.ap_id(s_in, o) for o in outs])),
            ap_ood=float(np.mean([metrics.ap_ood(s_in, o) for o in outs])),
            n_id=len(s_in),
            n_ood=sum(map(len, outs)),
            sources=sources,
        )

    rows = [row(name, scored.group, [scored]) for name, scored in sets.items()]
    for scored in sets.values():
        for part, span in scored.parts.items():
            piece = scored.scores[span]
            rows.append(row(part, "unit-test", [ScoredSet("unit-test", piece, None, {}, metrics.placements(s_in, piece))]))
    groups = [(group, [scored for scored in sets.values() if scored.group == group]) for group in MEANS]
    return rows + [row(None, group, members) for group, members in groups if members]


def _rank(rows: Sequence[Row], placed: Mapping[str, Sequence[ScoredSet]]) -> None:
    """Gives each mean its rank among the detectors of one classifier; those that cannot be told apart share one."""
    for group in MEANS:
        means = [row for row in rows if row.ood is None and row.group == group]
        members = {name: [scored for scored in sets if scored.group == group] for name, sets in placed.items()}
        for row in means:
            better = 0
            for other in means:
                if other.auroc > row.auroc:
                    mine, theirs = members[row.detector], members[other.detector]
                    test = metrics.paired_placement_test(
                        [scored.placements for scored in theirs],
                        [scored.placements for scored in mine],
                        clusters=[scored.clusters for scored in mine],
                        widen=False,
                    )
                    better += test.p_value < SIGNIFICANT
            row.rank = 1 + better

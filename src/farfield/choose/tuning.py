"""Which options of a detector to take: a grid, fitted on training data and judged on calibration data and validation OOD sets.

Test data have no part in it: a validation set that shares samples with one is refused.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from farfield import metrics
from farfield.benchmark.gather import timed
from farfield.benchmark.run import environment, score
from farfield.choose.apart import check_names, held_apart, samples_of
from farfield.choose.record import Figures, Metric, Trial, Tuning, known, write
from farfield.collect import Progress
from farfield.detectors import CATALOGUE, SHAPERS, parse
from farfield.detectors.base import Chain, Detector, Fitter, Setting, Shaped, Shaper
from farfield.detectors.compose import bind, check_ranges, class_of, defaults_of, search_of, singles, title
from farfield.errors import FarfieldWarning, InputError, OptionError
from farfield.outputs import Data, Outputs, chunks
from farfield.store import Stored

MOST = 200  # trials of a grid
SIGNIFICANT = 0.05
COLUMNS = ("logits", "features", "labels", "head")  # what outputs have without a tap
NAMES = {method: name for name, method in (*CATALOGUE.items(), *SHAPERS.items())}


def tune(
    fitter: Fitter | str,
    train: Data,
    calibration: Outputs | Stored,
    ood: Mapping[str, Outputs | Stored],
    *,
    values: Mapping[str, Sequence[Setting]] | None = None,
    metric: Metric = "auroc",
    test: Mapping[str, Outputs | Stored] | None = None,
    allow: Sequence[str] = (),
    let_through: Sequence[Mapping[str, Any]] = (),
    out: str | Path | None = None,
    command: str | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Tries a grid of options; the default stays unless another is significantly better.

    The test is paired, on the same samples, at 5 %, its p-value times the number of trials that the best one was picked from (Bonferroni).

    Args:
        fitter: a detector or a chain, or its text; an option that is bound, as in `knn:k=10`, is not searched.
        train: outputs to fit on.
        calibration: ID outputs of the test's source, which the classifier was not trained on and no result is of.
        ood: validation OOD sets by name, of another source than the test sets.
        values: in place of the `search` values of a detector's class, option by option.
        metric: `auroc`, or `fpr` (at 95 % TPR, ID positive): of which the mean over the sets decides.
        test: the test sets, to be held apart from; see `hold_apart`, which has `allow` too.
        let_through: what `hold_apart` let through among the pictures behind these outputs, to be recorded.
        out: a JSON file, written after each trial; trials of the same data that are in it are taken from there.
        command: what a person types to do this again, to be recorded.
        progress: called with what is tried, how far, and out of how much.

    Raises:
        InputError: for a grid of more than 200 trials, an unknown option, a value out of its range, data that are not held apart, a detector
            with nothing to search, or if every trial is refused. A trial that is refused among others is recorded.

    >>> from farfield.testing import world
    >>> w = world(n=160, spread=2.0)
    >>> found = tune("knn", w.train, w.id, {"strange": w.ood}, values={"k": [5, 20]})
    >>> [trial.detector for trial in found.trials], found.trials[found.chosen].detector
    (['knn', 'knn:k=5', 'knn:k=20'], 'knn:k=5')
    """
    fitter = bind(parse(fitter) if isinstance(fitter, str) else fitter, {})
    detector = title(fitter, NAMES)
    check_ranges(fitter)
    if metric not in ("auroc", "fpr"):
        raise InputError(f'`metric` must be "auroc" or "fpr"; got {metric!r}.')
    if not ood:
        raise InputError("There is no validation OOD set to choose by.")
    test = test or {}
    check_names(ood, test)
    _check_taps(fitter, detector, calibration)
    points = grid(fitter, values, _classes(calibration))
    seen = {name: samples_of(data) for name, data in {"train": train, "calibration": calibration, **ood, **test}.items()}
    shared = held_apart({name: seen[name] for name in ("calibration", *ood)}, {name: seen[name] for name in ("train", "calibration", *test)}, allow)
    tuning = Tuning(
        detector, metric, [], len(calibration), {name: len(data) for name, data in ood.items()},
        {name: seen[name].contents for name in ("train", "calibration", *ood)},
        [*let_through, *shared], command=command, environment=environment(),
    )  # fmt: skip
    done = {} if out is None else known(Path(out), tuning)
    shapers: dict[str, Shaper] = {}

    def attempt(options: Mapping[str, Setting]) -> tuple[Trial, _Judged | None]:
        return _attempt(fitter, options, train, calibration, ood, shapers)

    judged: dict[int, _Judged | None] = {}  # of the default and of the best so far, for the test between them
    trials: list[Trial] = []
    for index, options in enumerate(points):
        name = title(_with(fitter, options), NAMES)
        if progress is not None:
            progress(name, index, len(points))
        if name in done:
            trials.append(replace(done[name], options=options))
        else:
            trial, scores = attempt(options)
            trials.append(trial)
            if index in (0, _best(trials, metric)):
                judged = {place: entry for place, entry in judged.items() if place == 0} | {index: scores}
        if out is not None:
            write(replace(tuning, trials=trials), Path(out))
    best = _best(trials, metric)
    if best is None:
        raise InputError(f"Every trial of {detector} is refused. The first: {trials[0].refused}")
    if best and trials[0].mean is not None:  # of trials from a file, what the test needs is not there
        judged |= {index: attempt(trials[index].options)[1] for index in (0, best) if index not in judged}
    chosen, reason = _choice(trials, best, metric, judged)
    tuning = replace(tuning, trials=trials, best=best, chosen=chosen, reason=reason)
    if out is not None:
        write(tuning, Path(out))
    return tuning


# --- the grid -----------------------------------------------------------------------------------------------------------------------------


def grid(fitter: Fitter, values: Mapping[str, Sequence[Setting]] | None = None, classes: int | None = None) -> list[dict[str, Setting]]:
    """The options of each trial, the default first; values that are one with `classes` classes are tried once.

    Raises:
        InputError: as `tune`.

    >>> grid(parse("knn"), {"k": [10, 50]})
    [{'k': 50}, {'k': 10}]
    """
    detector = title(fitter, NAMES)
    bind(fitter, dict.fromkeys(values or {}))  # refuses those it does not have
    choices = {**search_of(fitter), **(values or {})}
    if not choices:
        raise InputError(f"{detector} has no option to search: {'all that it has are given' if '=' in detector else 'it has none'}.")
    defaults = {name: value for name, value in defaults_of(fitter).items() if name in choices}
    counted = {name for single in singles(fitter) for name in getattr(class_of(single), "of_classes", ())}

    def same(name: str, value: Setting) -> object:
        return min(value, classes) if name in counted and classes is not None and isinstance(value, int) else value

    for name, tried in choices.items():
        if not tried:
            raise InputError(f"There are no values for {name} to try.")
        usual = [defaults[name]] if same(name, defaults[name]) in [same(name, value) for value in tried] else []
        once: dict[object, Setting] = {}
        for value in (*usual, *tried):
            once.setdefault(same(name, value), value)
        choices[name] = tuple(once.values())
    number = math.prod(map(len, choices.values()))
    if number > MOST:
        lengths = ", ".join(f"{name} ({len(tried)})" for name, tried in choices.items())
        raise InputError(f"The grid of {detector} has {number:,} trials and may have {MOST}: {lengths}. Give fewer values, or bind an option.")
    points = [dict(zip(choices, point, strict=True)) for point in itertools.product(*choices.values())]
    points = [defaults, *(point for point in points if point != defaults)]
    _check_values(fitter, choices, points[1:])
    return points


def _check_values(fitter: Fitter, choices: Mapping[str, Sequence[Setting]], points: Sequence[Mapping[str, Setting]]) -> None:
    """Raises for a value that no trial can have; one that does not go with another is for the trial to refuse."""
    wrong: list[OptionError | None] = []
    for point in points:
        try:
            check_ranges(_with(fitter, point))
            wrong.append(None)
        except OptionError as error:
            wrong.append(error)
    for name, values in choices.items():
        for value in values:
            errors = [error for point, error in zip(points, wrong, strict=True) if point[name] == value]
            if errors and all(errors):
                raise next(filter(None, errors))


def _with(fitter: Fitter, options: Mapping[str, Setting]) -> Fitter:
    """The fitter with those options bound that are not the default."""
    defaults = defaults_of(fitter)
    return bind(fitter, {name: value for name, value in options.items() if value != defaults[name]})


def _check_taps(fitter: Fitter, detector: str, outputs: Outputs | Stored) -> None:
    first = next(chunks(outputs), None)
    there = {*COLUMNS, *(first.columns() if first is not None else ())}
    for single in singles(fitter):
        method = class_of(single)
        for need in (*getattr(method, "needs", ()), *getattr(method, "fit_needs", ())):
            if need not in there:
                raise InputError(
                    f"{detector} needs `{need}`, which is tapped while a classifier runs; tap options cannot be tuned on stored outputs."
                )


def _classes(outputs: Outputs | Stored) -> int | None:
    first = next(chunks(outputs), None)
    return first.logits.shape[1] if first is not None and first.logits is not None else None


# --- a trial ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judged:
    """What the paired tests start from, set by set."""

    placements: Sequence[metrics.Placements]
    acceptances: Sequence[metrics.Acceptance]


def _attempt(
    fitter: Fitter,
    options: Mapping[str, Setting],
    train: Data,
    calibration: Outputs | Stored,
    ood: Mapping[str, Outputs | Stored],
    shapers: dict[str, Shaper],
) -> tuple[Trial, _Judged | None]:
    """Fits and judges one trial."""
    chosen = _with(fitter, options)
    name, seconds = title(chosen, NAMES), {"trial": 0.0}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", FarfieldWarning)
        try:
            with timed(seconds, "trial"):
                detector = _fitted(chosen, train, shapers)
                s_in = score(detector, calibration).double().numpy()
                outs = {key: score(detector, data).double().numpy() for key, data in ood.items()}
            figures = {key: _figures(s_in, [s_out]) for key, s_out in outs.items()}
            mean = _figures(s_in, list(outs.values()))
        except InputError as error:
            return Trial(name, options, seconds=seconds["trial"], refused=str(error)), None
    trial = Trial(name, options, figures, mean, seconds["trial"], None, tuple(str(warning.message) for warning in said))
    drawn = metrics.threshold_draws(s_in)
    judged = _Judged(
        [metrics.placements(s_in, s_out) for s_out in outs.values()], [metrics.acceptance(s_in, s_out, drawn=drawn) for s_out in outs.values()]
    )
    return trial, judged


def _fitted(fitter: Fitter, train: Data, shapers: dict[str, Shaper], before: str = "") -> Detector:
    """The detector; a shaper that is in the memory is not fitted again."""
    parts = getattr(fitter, "parts", None)
    if parts is None:
        return fitter(train)
    first, scorer = parts
    key = f"{before}+{title(first)}"
    if key not in shapers:
        shapers[key] = first(train)
    return Chain(shaper=shapers[key], scorer=_fitted(scorer, Shaped(train, shapers[key]), shapers, key))


def _figures(s_in: np.ndarray, outs: Sequence[np.ndarray]) -> Figures:
    return Figures(
        float(np.mean([metrics.auroc(s_in, s_out) for s_out in outs])),
        metrics.mean_auroc_interval(s_in, outs),
        float(np.mean([metrics.fpr_at_95_tpr_id(s_in, s_out) for s_out in outs])),
        metrics.mean_fpr_interval(s_in, outs),
    )


# --- the choice ---------------------------------------------------------------------------------------------------------------------------


def goodness(trial: Trial, metric: Metric) -> float:
    """What is to be large: the mean AUROC, or one minus the mean FPR; below all others where the trial was refused."""
    return -math.inf if trial.mean is None else trial.mean.auroc if metric == "auroc" else 1 - trial.mean.fpr_at_95_tpr_id


def _best(trials: Sequence[Trial], metric: Metric) -> int | None:
    """The best trial, the first among equals; none where all are refused."""
    index = max(range(len(trials)), key=lambda place: goodness(trials[place], metric))
    return None if trials[index].mean is None else index


def _choice(trials: Sequence[Trial], best: int, metric: Metric, judged: Mapping[int, _Judged | None]) -> tuple[int, str]:
    """Which trial to take, and why."""
    name, figure = trials[best].detector, "mean AUROC" if metric == "auroc" else "mean FPR"
    if best == 0:
        return 0, f"No trial has a better {figure} than the default, which stays."
    if trials[0].mean is None:
        return best, f"The default is refused, and {name} has the best {figure} of the rest."
    one, other = judged[best], judged[0]
    assert one is not None and other is not None
    if metric == "auroc":
        found = metrics.paired_placement_test(one.placements, other.placements)
    else:
        found = metrics.paired_acceptance_test(one.acceptances, other.acceptances)
    others = sum(trial.mean is not None for trial in trials) - 1
    p = min(1.0, found.p_value * others)
    low, high = (100 * end for end in found.interval)
    said = f"{100 * found.difference:+.1f} points against the default, {low:+.1f} to {high:+.1f}, p {p:.2g}, for the best of {others}"
    if p < SIGNIFICANT:
        return best, f"{name} has the best {figure}, significantly better than the default ({said})."
    return 0, f"{name} has the best {figure}, not significantly better than the default ({said}), which stays."

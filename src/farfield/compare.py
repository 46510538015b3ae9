"""Two benchmark runs side by side: which differences are real.

Where both runs saw the same pictures the test is paired (DeLong et al. 1988), which sees much smaller differences; where they did not, it
takes the two as independent. P-values are corrected for the number of comparisons (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from farfield import metrics
from farfield.benchmark.results import read
from farfield.benchmark.rows import SIGNIFICANT
from farfield.benchmark.run import scores_path
from farfield.errors import InputError


@dataclass
class Difference:
    """One detector on one set (`ood` `None`: the mean of a group) in two runs; the difference is b - a, of AUROC."""

    suite: str
    classifiers: tuple[str, str]
    detector: str
    ood: str | None
    group: str
    auroc: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float
    real: bool
    paired: bool


@dataclass
class Comparison:
    """The differences between two runs, and what only one of them has."""

    differences: list[Difference]
    only_a: list[str]
    only_b: list[str]


class Run:
    """A benchmark's results and its scores, read from disk."""

    def __init__(self, path: str | Path) -> None:
        value, self.folder = read(path)
        self.path = self.folder / "results.json" if Path(path).is_dir() else Path(path)
        self.sets: dict[str, dict[str, str]] = {suite["name"]: dict(suite["ood"]) for suite in value["suites"]}
        self.contents: dict[str, dict[str, str | None]] = {suite["name"]: dict(suite["contents"] or {}) for suite in value["suites"]}
        self.classifiers: dict[str, list[str]] = {}
        for entry in value["classifiers"]:
            self.classifiers.setdefault(entry["suite"], []).append(entry["name"])
        self.detectors: dict[tuple[str, str], list[str]] = {}
        for row in value["rows"]:
            found = self.detectors.setdefault((row["suite"], row["classifier"]), [])
            if row["detector"] not in found:
                found.append(row["detector"])

    def scores(self, suite: str, classifier: str) -> dict[str, Tensor]:
        """The scores of one classifier, as `detector/set`."""
        path = scores_path(self.folder, suite, classifier)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path} cannot be read: {error}. A comparison needs the scores beside results.json; run the benchmark again."
            ) from error


def compare(a: str | Path, b: str | Path) -> Comparison:
    """The differences between two runs of `farfield bench`, for all detectors and sets that both have.

    Classifiers are matched by name; where each run has one for a suite, those two are compared whatever their names.

    Args:
        a: a `results.json` file, or the folder it is in.
        b: the other.

    Raises:
        InputError: when a file cannot be read, or the runs have nothing in common.
    """
    one, other = Run(a), Run(b)
    found: list[Difference] = []
    lines = [_lines(run) for run in (one, other)]
    for suite in one.sets:
        for first, second in _pairs(one.classifiers.get(suite, []), other.classifiers.get(suite, [])):
            mine, theirs = one.scores(suite, first), other.scores(suite, second)
            for detector in one.detectors.get((suite, first), []):
                if detector in other.detectors.get((suite, second), []):
                    found += _differences(one, other, suite, (first, second), detector, mine, theirs)
    if not found:
        raise InputError(f"{one.path} and {other.path} have no detector and set in common for a classifier of the same name.")
    for difference, corrected in zip(found, metrics.holm([each.p_value for each in found]), strict=True):
        difference.p_holm, difference.real = corrected, corrected < SIGNIFICANT
    return Comparison(found, sorted(lines[0] - lines[1]), sorted(lines[1] - lines[0]))


def _lines(run: Run) -> set[str]:
    """What a run has, for saying what the other lacks."""
    detectors = {f"detector {name}" for names in run.detectors.values() for name in names}
    classifiers = {f"classifier {name} on {suite}" for suite, names in run.classifiers.items() for name in names if len(names) > 1}
    return detectors | classifiers | {f"{group} set {name} of {suite}" for suite, sets in run.sets.items() for name, group in sets.items()}


def _pairs(a: Sequence[str], b: Sequence[str]) -> list[tuple[str, str]]:
    same = [(name, name) for name in a if name in b]
    return [(a[0], b[0])] if not same and len(a) == len(b) == 1 else same


def _differences(
    one: Run, other: Run, suite: str, classifiers: tuple[str, str], detector: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> list[Difference]:
    """The differences of one detector: on each set, and on the mean of each group."""
    names = [name for name in one.sets[suite] if one.sets[suite][name] == other.sets.get(suite, {}).get(name)]
    for run, scores, classifier in ((one, mine, classifiers[0]), (other, theirs, classifiers[1])):
        for name in ("test", *names):
            if f"{detector}/{name}" not in scores:
                path = scores_path(run.folder, suite, classifier)
                raise InputError(f"{path} has no scores of {detector} for {name}, which results.json beside it has. Run the benchmark again.")
    targets: list[tuple[str | None, str, list[str]]] = [(name, one.sets[suite][name], [name]) for name in names]
    for group in ("near", "far"):
        members = [name for name in names if one.sets[suite][name] == group]
        whole = all(sorted(n for n, g in run.sets[suite].items() if g == group) == sorted(members) for run in (one, other))
        if members and whole:
            targets.append((None, group, members))
    return [_difference(one, other, suite, classifiers, detector, mine, theirs, *target) for target in targets]


def _difference(
    one: Run,
    other: Run,
    suite: str,
    classifiers: tuple[str, str],
    detector: str,
    mine: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    ood: str | None,
    group: str,
    members: Sequence[str],
) -> Difference:
    sets, ids = [], []
    for scores in (mine, theirs):
        s_in = scores[f"{detector}/test"].double().numpy()
        sets.append([metrics.placements(s_in, scores[f"{detector}/{name}"].double().numpy()) for name in members])
        ids.append([scores[f"clusters/{name}"].numpy() if f"clusters/{name}" in scores else None for name in members])
    paired = all(_same(one, other, suite, name, mine, theirs, detector) for name in ("test", *members))
    if paired:
        test = metrics.paired_placement_test(sets[1], sets[0], clusters=ids[0], widen=False)
    else:
        test = metrics.unpaired_placement_test(sets[1], sets[0], clusters=(ids[1], ids[0]), widen=False)
    value_a, value_b = (float(sum(p.v_in.mean() for p in side) / len(side)) for side in sets)
    return Difference(
        suite,
        classifiers,
        detector,
        ood,
        group,
        (value_a, value_b),
        test.difference,
        (test.interval.low, test.interval.high),
        test.p_value,
        1.0,
        False,
        paired,
    )


def _same(one: Run, other: Run, suite: str, name: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], detector: str) -> bool:
    """Whether both runs scored the same pictures of a set, in the same order."""
    contents = [run.contents.get(suite, {}).get(name) for run in (one, other)]
    return contents[0] is not None and contents[0] == contents[1] and len(mine[f"{detector}/{name}"]) == len(theirs[f"{detector}/{name}"])


def plain(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it."""
    return asdict(comparison)

"""Which classifier to take: all of them ranked by one detector, what cannot be told from the first, and the front of accuracy against FPR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from farfield import metrics
from farfield.benchmark.run import scores_path
from farfield.errors import InputError
from farfield.metrics.ranks import SIGNIFICANT
from farfield.study.analysis import blocks
from farfield.study.figures import MEANS, MEASURES, Figures
from farfield.study.run import Done

NAMED = 3  # of those not told apart, so many are named in the sentence


def detector_of(figures: Figures, target: str) -> str | None:
    """The detector with the highest mean AUROC on a target, over the classifiers that have all detectors but those that most refuse; `None` where there is none."""
    values = figures.values["auroc", target]
    rows, kept = blocks(values)
    if not rows:
        counts = np.isfinite(values).sum(0)
        return figures.detectors[int(counts.argmax())] if counts.size and counts.max() else None
    return figures.detectors[max(kept, key=lambda k: float(values[rows, k].mean()))]


def elsewhere(figures: Figures, place: int, group: str) -> dict[str, Any] | None:
    """A classifier's figures with the detector chosen for each set of a group by the mean AUROC over all other sets: no set has a say in what it is judged by.

    Returns:
        The mean AUROC and FPR, and the detector for each set; `None` where there are not two sets.
    """
    sets = [name for name, its in figures.sets.items() if its == group]
    auroc = np.array([figures.values["auroc", name][place] for name in figures.sets])
    every = list(figures.sets)
    if len(every) < 2 or not sets or not np.isfinite(auroc).any():
        return None
    chosen: dict[str, int] = {}
    for name in sets:
        means = np.delete(auroc, every.index(name), 0).mean(0)
        chosen[name] = int(np.nanargmax(means))
    told: dict[str, Any] = {m: float(np.mean([figures.values[m, name][place, i] for name, i in chosen.items()])) for m in MEASURES}
    return {**told, "detectors": {name: figures.detectors[i] for name, i in chosen.items()}}


def front(accuracy: Sequence[float | None], fpr: Sequence[float | None]) -> list[int]:
    """The Pareto front: who has nobody at least as accurate and with as low an FPR, and better in one; the most accurate first. Those of unknown figures are not in it.

    >>> front([90.0, 80.0, 85.0, None], [50.0, 40.0, 60.0, 1.0])
    [0, 1]
    """
    known = [(i, a, f) for i, (a, f) in enumerate(zip(accuracy, fpr, strict=True)) if a is not None and f is not None]
    found = [(i, a) for i, a, f in known if not any(b >= a and g <= f and (b > a or g < f) for _, b, g in known)]
    return [i for i, _ in sorted(found, key=lambda one: -one[1])]


def answer(figures: Figures, found: Sequence[Done], out: str | Path) -> dict[str, Any] | None:
    """All that is said of which classifier to take; `None` where there is no near or far OOD.

    Args:
        figures: of those that worked.
        found: what came of the pool.
        out: the folder with the scores.

    Raises:
        InputError: where scores cannot be read.
    """
    group = next((one for one in ("near", "far") if MEANS[one] in figures.targets), None)
    detector = None if group is None else detector_of(figures, MEANS[group])
    if group is None or detector is None:
        return None
    worked = {one.entry.name: one for one in found if one.results is not None}
    lines = [_line(figures, place, worked[name], detector, group) for place, name in enumerate(figures.names)]
    lines = sorted(lines, key=lambda line: -(line["auroc"] if line["auroc"] is not None else -1.0))
    first = lines[0]
    rivals = [line for line in lines[1:] if line["auroc"] is not None]
    tests = [_apart(worked[first["classifier"]], worked[line["classifier"]], detector, group, Path(out)) for line in rivals]
    for line, (test, paired), corrected in zip(rivals, tests, metrics.holm([test.p_value for test, _ in tests]), strict=True):
        line |= {"behind": 100 * test.difference, "behind_interval": [100 * end for end in test.interval], "p_holm": corrected, "paired": paired}
    order = front([line["accuracy"] for line in lines], [line["fpr"] for line in lines])
    for place, line in enumerate(lines):
        line["front"] = place in order
    told: dict[str, Any] = {"group": group, "target": MEANS[group], "detector": detector, "lines": lines}
    told["front"] = [lines[i]["classifier"] for i in order]
    told["tied"] = [line["classifier"] for line in rivals if line["p_holm"] >= SIGNIFICANT]
    take = f"Take {first['classifier']} with {detector}"
    return {**told, "take": take, "sentence": f"{take}: {evidence(told)}"}


def _line(figures: Figures, place: int, done: Done, detector: str, group: str) -> dict[str, Any]:
    """A classifier: its accuracy, its figures by the pool's detector with intervals, by its own best, and by what other sets choose."""
    assert done.results is not None
    (entry,) = done.results["classifiers"]
    target, at = MEANS[group], figures.detectors.index(detector)
    line: dict[str, Any] = {"classifier": done.entry.name, "accuracy": None, "accuracy_interval": None}
    if entry["id_accuracy"] is not None:
        line |= {"accuracy": 100 * entry["id_accuracy"], "accuracy_interval": [100 * end for end in entry["id_accuracy_interval"]]}
    mean = next((row for row in done.results["rows"] if (row["detector"], row["ood"], row["group"]) == (detector, None, group)), None)
    for measure, name in MEASURES.items():
        line[measure] = None if mean is None else 100 * mean[name]
        line[f"{measure}_interval"] = None if mean is None else [100 * end for end in mean[f"{name}_interval"]]
    others = [one for one in figures.means if one != target]
    line["others"] = {one: {m: _number(figures.values[m, one][place, at]) for m in MEASURES} for one in others}
    own = figures.values["auroc", target][place]
    best = int(np.nanargmax(own))
    line["own"] = {"detector": figures.detectors[best], **{m: _number(figures.values[m, target][place, best]) for m in MEASURES}}
    line["elsewhere"] = elsewhere(figures, place, group)
    return line | {"behind": None, "behind_interval": None, "p_holm": None, "paired": None}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _apart(one: Done, other: Done, detector: str, group: str, out: Path) -> tuple[metrics.PairedTest, bool]:
    """The test of the mean AUROC of two classifiers over the sets of a group, paired where both saw the same pictures."""
    sides, ids, told = [], [], []
    for done in (one, other):
        assert done.results is not None
        (suite,) = done.results["suites"]
        sets = [name for name, its in suite["ood"].items() if its == group]
        scores = _scores(scores_path(out, suite["name"], done.results["classifiers"][0]["name"]), detector, ("test", *sets))
        sides.append([metrics.placements(scores["test"], scores[name]) for name in sets])
        ids.append([scores.get(f"clusters/{name}") for name in sets])
        told.append({name: ((suite["contents"] or {}).get(name), len(scores[name])) for name in ("test", *sets)})
    if told[0] == told[1] and all(contents is not None for contents, _ in told[0].values()):
        return metrics.paired_placement_test(*sides, clusters=ids[0], widen=False), True
    return metrics.unpaired_placement_test(*sides, clusters=(ids[0], ids[1]), widen=False), False


def _scores(path: Path, detector: str, sets: Sequence[str]) -> dict[str, Float[np.ndarray, " n"]]:
    """A detector's scores of some sets, and which pictures of them share a source."""
    try:
        with safe_open(path, framework="pt") as file:
            held = set(file.keys())
            found = {name: file.get_tensor(f"{detector}/{name}").double().numpy() for name in sets}
            return found | {f"clusters/{name}": file.get_tensor(f"clusters/{name}").numpy() for name in sets if f"clusters/{name}" in held}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, and that classifier is done again.") from error


def evidence(told: Mapping[str, Any]) -> str:
    """What speaks for the first, and what is not told apart from it."""
    first, tied = told["lines"][0], told["tied"]
    accuracy = "not known, as nothing is labelled" if first["accuracy"] is None else with_ends(first["accuracy"], first["accuracy_interval"])
    said = (
        f"AUROC {with_ends(first['auroc'], first['auroc_interval'])} and "
        f"FPR {with_ends(first['fpr'], first['fpr_interval'])} on {told['target']}, ID accuracy {accuracy}"
    )
    if len(told["lines"]) == 1:
        return f"{said}; no other classifier worked."
    if not tied:
        return f"{said}; all others are told apart from it."
    names = tied if len(tied) <= NAMED + 1 else [*tied[:NAMED], f"{len(tied) - NAMED} others"]
    joined = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{said}; {joined} {'is' if len(tied) == 1 else 'are'} not told apart from it."


def with_ends(value: float, interval: Sequence[float] | None) -> str:
    """`83.5 % (82.6 to 84.4)`."""
    return f"{value:.1f} %" + ("" if interval is None else f" ({interval[0]:.1f} to {interval[1]:.1f})")

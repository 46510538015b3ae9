"""Which detector suits a classifier: ranked without any OOD data, on pseudo-OOD that is made from held-out ID pictures.

Every detector is fitted on the ID training data and judged by the benchmark itself, on the sets of `farfield.choose.pseudo`. What is known to fail here is said
beside its figures, and is not recommended.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from farfield import benchmark, inputs, metrics
from farfield.benchmark.gather import GIVEN
from farfield.benchmark.run import scores_path
from farfield.choose.pseudo import Without, folds, invented
from farfield.classifier import Classifier
from farfield.collect import Progress, collect
from farfield.data.images import Group, Images, OODSet, Suite
from farfield.detectors import CATALOGUE, parse
from farfield.detectors.base import Fitter
from farfield.detectors.compose import calibrated, looks_inside
from farfield.errors import InputError
from farfield.metrics import Linked
from farfield.outputs import Outputs
from farfield.stats import hashed
from farfield.store import Stored

PSEUDO, LEFT = "pseudo-OOD", "left-out classes"
KINDS: dict[str, Group] = {LEFT: "near", "mixup": "near", "jigsaw": "far", "channels": "far", "noise": "far"}
FOLDS, SHARE = 2, 0.2  # of the classes left out, and how often
MOST = 50_000  # training samples that a detector without some classes is fitted on
FIFTH = 5  # of so many held-out pictures one calibrates, where a detector does that
FEWEST = 20  # pictures of a side of a comparison
FEWEST_CLASSES = 5  # of which some can be left out
NONE = 2**40  # from here on sources are of no held-out picture
FAILED = 0.1  # share of a family of noise taken for ID, above which it is failed (Bitterwolf et al., ICML 2023)
USUAL = (
    *(name for name in CATALOGUE if name != "panel" and not looks_inside(parse(name))),
    "react+energy",
    "vra+energy",
    "scale+energy",
    "ash-s+energy",
)


@dataclass(frozen=True)
class Figure:
    """An AUROC with its 95 % interval."""

    auroc: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Ranked:
    """What a detector came to.

    Args:
        detector: as `parse` reads it.
        mean: over near and far, each the mean of its kinds.
        kinds: of each kind of pseudo-OOD, by name.
        failed: families of noise of which more than a tenth is taken for ID.
        families: how many there are.
        behind: by how much the mean is below the best one's, and the interval of that.
        reasons: what speaks against it here; it is not recommended then.
    """

    detector: str
    mean: Figure
    kinds: Mapping[str, Figure]
    failed: int
    families: int
    behind: Figure
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """Detectors for a classifier, the best first.

    Args:
        classifier: its name.
        ranked: those that could be fitted, by their mean, those against which something speaks last.
        tied: detectors not told from the first.
        refused: detectors that refuse this classifier, and why.
        accuracy: on the held-out ID pictures, with its interval; `None` without labels.
        samples: held-out ID pictures, and pseudo-OOD ones of each kind.
        seconds: all it took.
        command: what a person typed.
        environment: versions and machine.
    """

    classifier: str
    ranked: Sequence[Ranked]
    tied: Sequence[str]
    refused: Mapping[str, str]
    accuracy: tuple[float, tuple[float, float]] | None
    samples: Mapping[str, int]
    seconds: float
    command: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The detector to take."""
        return self.ranked[0].detector

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"format": 1, "best": self.best, **asdict(self)}


def recommend(
    classifier: Classifier,
    train: Any,
    held: Images,
    *,
    detectors: Mapping[str, Fitter] | None = None,
    out: str | Path,
    seed: int = 0,
    names: Sequence[str] = (),
    batch_size: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
) -> Recommendation:
    """Ranks detectors for a classifier on pseudo-OOD made from ID pictures that it was not trained on.

    Formula: of each detector the mean of two, near and far; near is the mean AUROC over `left-out classes` and `mixup`, far over `jigsaw`, `channels` and `noise`; a
    kind that cannot be had for all of them counts for none. Ties: a detector is not told from the first where the interval of the difference holds 0; the
    intervals of a mean add those of its parts, as if these went together, so they are wide rather than narrow.

    Args:
        classifier: any; of one without a linear head, detectors of logits and features alone.
        train: its ID training data, labelled.
        held: ID pictures that it was not trained on, as `pseudo.squares` makes them.
        detectors: fitters by name; all that look at logits and features by default.
        out: a folder, as `benchmark.run`'s.
        seed: of what is made up.
        names: of the classes.
        batch_size: as `collect`'s.
        workers: likewise.
        strict: likewise.
        command: what a person types to do this again.
        progress: called with what is done, how far, and out of how much.

    Raises:
        InputError: when nothing can be made of the pictures, or no detector takes the classifier.
    """
    began, folder = time.perf_counter(), Path(out)
    fitters = dict(detectors) if detectors is not None else {name: parse(name) for name in USUAL}
    if len(held) < FEWEST:
        raise InputError(f"Detectors cannot be compared on {len(held)} held-out ID pictures; give at least {FEWEST}.")
    calibrating, rest = split(held, fitters)
    tested = held.only(rest)
    splits = {"train": train, "test": tested, **({"calibration": held.only(calibrating)} if len(calibrating) else {})}
    made = invented(tested, seed=seed)
    sets = tuple(OODSet(name, KINDS[name], partial(_given, data)) for name, data in made.items())
    suite = Suite(PSEUDO, tuple(names), {}, {name: partial(_given, data) for name, data in splits.items()}, sets, (), "")
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "strict": strict, "progress": progress}
    results = benchmark.run([(suite, [classifier])], fitters, out=folder, **options)
    refused = {entry["detector"]: entry["reason"] for entry in results.refused}
    fitted = {name: fitter for name, fitter in fitters.items() if name not in refused}
    if not fitted:
        raise InputError(f"No detector takes {classifier.name}. {next(iter(refused.values()), 'None was given.')}")
    said = {name: collect(classifier, data, out=folder / "store", name=name, **options) for name, data in splits.items()}
    sources = {"test": torch.arange(len(tested)), **{name: _sources(data) for name, data in made.items()}}
    scores = load_file(scores_path(folder, PSEUDO, classifier.name))
    pieces = {name: [_piece(kind, kind, name, scores, sources) for kind in made] for name in fitted}
    grouped = classifier.head is not None and classifier.head.groups is not None
    if not grouped and not any(map(looks_inside, fitted.values())):
        for name, more in _left_out(said, fitted, folder, seed, progress).items():
            pieces[name] += more
    warned = {(entry["detector"], entry["message"]) for entry in results.warnings}
    families = {name: [row for row in results.rows if row.detector == name and row.group == "unit-test"] for name in fitted}
    failed = {name: (sum(row.fpr_at_95_tpr_id > FAILED for row in mine), len(mine)) for name, mine in families.items()}
    ranked = _ranked(pieces, failed, warned)
    about = results.classifiers[0]
    return Recommendation(
        classifier.name,
        ranked,
        [one.detector for one in ranked if not one.reasons and one.detector != ranked[0].detector and one.behind.interval[0] <= 0],
        refused,
        None if about["id_accuracy"] is None else (about["id_accuracy"], about["id_accuracy_interval"]),
        {"held out": len(tested), **{name: len(data) for name, data in made.items()}},
        time.perf_counter() - began,
        command,
        benchmark.environment(),
    )


def _given(data: Any) -> Any:
    return data


def split(held: Images, fitters: Mapping[str, Fitter]) -> tuple[Tensor, Tensor]:
    """The rows that detectors calibrate on, a fifth where one of them does that, and those that they are compared on."""
    mine = (hashed(torch.arange(len(held)), 0) % FIFTH == 0) & any(map(calibrated, fitters.values()))
    return mine.nonzero()[:, 0], (~mine).nonzero()[:, 0]


def _sources(data: Images) -> Tensor:
    """Which held-out picture each was made of; noise is of none."""
    return NONE + torch.arange(len(data)) if data.clusters is None else data.clusters


def _piece(
    kind: str, where: str, detector: str, scores: Mapping[str, Tensor], sources: Mapping[str, Tensor], share: float = 1.0
) -> tuple[str, Linked]:
    """A detector's placements on a set; its weight is its share of its kind."""
    s_in, s_out = (scores[f"{detector}/{name}"].double().numpy() for name in ("test", where))
    return kind, Linked(metrics.placements(s_in, s_out), sources["test"].numpy(), sources[where].numpy(), share)


# --- left-out classes ---------------------------------------------------------------------------------------------------------------------


def _left_out(
    said: Mapping[str, Stored], fitters: Mapping[str, Fitter], folder: Path, seed: int, progress: Progress | None
) -> dict[str, list[tuple[str, Linked]]]:
    """The pieces of each detector that takes a classifier without some of its classes; all or nothing, so that every detector has the same."""
    train, tested = _some(said["train"]), said["test"].load()
    if tested.labels is None or not bool((tested.labels >= 0).any()) or tested.logits is None or classes_of(tested) < FEWEST_CLASSES:
        return {}
    found: dict[str, list[tuple[str, Linked]]] = {name: [] for name in fitters}
    for number, out in enumerate(folds(classes_of(tested), SHARE, FOLDS, seed)):
        known = tested.labels >= 0
        gone = known & out[tested.labels.clamp_min(0)]
        if min(int(gone.sum()), int((known & ~gone).sum())) < FEWEST:
            return {}
        splits = {name: partial(_given, Without(train if name == "train" else data, out).load()) for name, data in said.items()}
        sets = (OODSet(LEFT, "near", partial(_given, Without(tested, out, only=True).load())),)
        suite = Suite(f"{LEFT} {number + 1}", (), {}, splits, sets, (), "")
        results = benchmark.run([(suite, [None])], fitters, out=folder, progress=progress)
        if results.refused:
            return {}
        scores = load_file(scores_path(folder, suite.name, GIVEN))
        sources = {"test": (known & ~gone).nonzero()[:, 0], LEFT: gone.nonzero()[:, 0]}
        for name in fitters:
            found[name].append(_piece(LEFT, LEFT, name, scores, sources, 1 / FOLDS))
    return found


def _some(train: Stored) -> Outputs | Stored:
    """At most `MOST` training samples, since they are in memory."""
    some = inputs.limited(train, MOST)
    assert isinstance(some, Outputs | Stored)
    return some


def classes_of(outputs: Outputs) -> int:
    """How many classes a flat classifier has."""
    assert outputs.logits is not None
    return outputs.logits.shape[1]


# --- the ranking --------------------------------------------------------------------------------------------------------------------------


def weights(kinds: Iterable[str]) -> dict[str, float]:
    """What each kind weighs in the mean: near and far half each, and the kinds of each alike.

    >>> weights(["mixup", "jigsaw", "noise"])
    {'mixup': 0.5, 'jigsaw': 0.25, 'noise': 0.25}
    """
    groups: dict[str, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        groups.setdefault(KINDS[kind], []).append(kind)
    return {kind: 1 / len(groups) / len(mine) for mine in groups.values() for kind in mine}


def _ranked(
    pieces: Mapping[str, Sequence[tuple[str, Linked]]], failed: Mapping[str, tuple[int, int]], warned: Collection[tuple[str, str]]
) -> list[Ranked]:
    """The detectors by their mean, those against which something speaks last."""
    weight = weights(kind for mine in pieces.values() for kind, _ in mine)
    whole = {name: [piece._replace(weight=piece.weight * weight[kind]) for kind, piece in mine] for name, mine in pieces.items()}
    figures = {name: _figure(mine) for name, mine in whole.items()}
    kinds = {name: {kind: _figure([piece for other, piece in mine if other == kind]) for kind in weight} for name, mine in pieces.items()}
    reasons = {name: tuple(_reasons(name, kinds[name], warned)) for name in pieces}
    order = sorted(pieces, key=lambda name: (bool(reasons[name]), -figures[name].auroc))
    equal = [name for name in order if not reasons[name] and metrics.linked_test(whole[order[0]], whole[name]).interval.low <= 0]
    if equal:  # of those that are not told from the first, the one that fails the fewest families of noise
        first = min(equal, key=lambda name: failed[name][0])
        order = [first, *(name for name in order if name != first)]
    best = whole[order[0]]
    found = []
    for name in order:
        test = metrics.linked_test(best, whole[name])
        found.append(Ranked(name, figures[name], kinds[name], *failed[name], Figure(test.difference, test.interval), reasons[name]))
    return found


def _figure(pieces: Sequence[Linked]) -> Figure:
    return Figure(*metrics.linked_auroc(pieces))


def _reasons(name: str, kinds: Mapping[str, Figure], warned: Collection[tuple[str, str]]) -> Iterator[str]:
    """What speaks against a detector: what fitting it warned of, and kinds that it takes for more ID than ID."""
    yield from sorted(message for detector, message in warned if detector == name)
    for kind, figure in kinds.items():
        if figure.interval[1] < 0.5:
            yield f"It takes {kind} for more in-distribution than ID pictures (AUROC {100 * figure.auroc:.1f})."

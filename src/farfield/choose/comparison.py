"""Detectors of a classifier compared on pseudo-OOD that is made from held-out ID pictures, by the benchmark itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from safetensors.torch import load_file
from torch import Tensor

from farfield import benchmark, metrics
from farfield.benchmark.gather import GIVEN
from farfield.benchmark.run import scores_path
from farfield.choose.pseudo import Without, folds, invented, partners
from farfield.classifier import Classifier
from farfield.collect import Progress, collect
from farfield.data.images import Group, Images, OODSet, Suite
from farfield.detectors.base import Fitter
from farfield.detectors.compose import calibrated, looks_inside
from farfield.errors import InputError
from farfield.metrics import Linked
from farfield.outputs import Data, Outputs, chunks, concatenate, count
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

Piece = tuple[str, Linked]  # a kind, and a detector's placements on a set of it


@dataclass(frozen=True)
class Figure:
    """An AUROC with its 95 % interval."""

    auroc: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What detectors came to on pseudo-OOD.

    Args:
        pieces: of each detector the placements on every set, with the kind that the set is of; a piece's weight is its share of its kind.
        failed: of each detector how many families of noise it takes for ID more than a tenth of, and of how many.
        warned: what fitting warned of, as pairs of a detector and a message.
        refused: detectors that refuse the classifier, and why.
        accuracy: on the held-out ID pictures, with its interval; `None` without labels.
        samples: held-out ID pictures, and pseudo-OOD ones of each kind.
    """

    pieces: Mapping[str, Sequence[Piece]]
    failed: Mapping[str, tuple[int, int]]
    warned: frozenset[tuple[str, str]]
    refused: Mapping[str, str]
    accuracy: tuple[float, tuple[float, float]] | None
    samples: Mapping[str, int]

    def whole(self, detector: str, among: Collection[str] = tuple(KINDS)) -> list[Linked]:
        """The pieces of a detector, of some kinds, with their weights in its mean."""
        mine = [(kind, piece) for kind, piece in self.pieces[detector] if kind in among]
        weight = weights(kind for kind, _ in mine)
        return [replace(piece, weight=piece.weight * weight[kind]) for kind, piece in mine]

    def kinds(self, detector: str) -> dict[str, Figure]:
        """A detector's AUROC on each kind."""
        mine = self.pieces[detector]
        return {kind: figure([piece for other, piece in mine if other == kind]) for kind in dict.fromkeys(kind for kind, _ in mine)}


def figure(pieces: Sequence[Linked]) -> Figure:
    """The sum of AUROCs with its interval."""
    return Figure(*metrics.linked_auroc(pieces))


def weights(kinds: Iterable[str]) -> dict[str, float]:
    """What each kind weighs in the mean: near and far half each, and the kinds of each alike.

    >>> weights(["mixup", "jigsaw", "noise"])
    {'mixup': 0.5, 'jigsaw': 0.25, 'noise': 0.25}
    """
    groups: dict[str, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        groups.setdefault(KINDS[kind], []).append(kind)
    return {kind: 1 / len(groups) / len(mine) for mine in groups.values() for kind in mine}


@dataclass(frozen=True, eq=False)
class Material:
    """What detectors are compared on: pictures, which a classifier is run over, or what one says of them.

    Args:
        splits: `train`, `test`, and `calibration` where a detector calibrates.
        sets: the pseudo-OOD of each kind.
        made: the pictures of those sets, whose `clusters` say which held-out picture each is made of, and whose `parts` are the families of noise.
    """

    splits: Mapping[str, Any]
    sets: Mapping[str, Any]
    made: Mapping[str, Images]

    @staticmethod
    def of(train: Any, held: Images, fitters: Mapping[str, Fitter], seed: int) -> Material:
        """Made from held-out ID pictures.

        Raises:
            InputError: for too few of them.
        """
        if len(held) < FEWEST:
            raise InputError(f"Detectors cannot be compared on {len(held)} held-out ID pictures; give at least {FEWEST}.")
        calibrating, rest = split(held, fitters)
        tested = held.only(rest)
        splits = {"train": train, "test": tested, **({"calibration": held.only(calibrating)} if len(calibrating) else {})}
        made = invented(tested, seed=seed)
        return Material(splits, made, made)


def split(held: Images, fitters: Mapping[str, Fitter]) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " m"]]:
    """The rows that detectors calibrate on, a fifth where one of them does that, and those that they are compared on."""
    mine = (hashed(torch.arange(len(held)), 0) % FIFTH == 0) & any(map(calibrated, fitters.values()))
    return mine.nonzero()[:, 0], (~mine).nonzero()[:, 0]


def compare(
    classifier: Classifier | None,
    material: Material,
    fitters: Mapping[str, Fitter],
    *,
    out: str | Path,
    seed: int = 0,
    names: Sequence[str] = (),
    batch_size: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Fits every detector on the training data and judges it on every kind of pseudo-OOD.

    Args:
        classifier: `None` where the material is what one said already.
        material: what they are compared on.
        fitters: by name.
        out: a folder, as `benchmark.run`'s.
        seed: by which classes are left out.
        names: of the classes.
        batch_size: as `collect`'s.
        workers: likewise.
        strict: likewise.
        progress: called with what is done, how far, and out of how much.

    Raises:
        InputError: when no detector takes the classifier.
    """
    folder, called = Path(out), GIVEN if classifier is None else classifier.name
    loaders = {name: partial(_given, data) for name, data in material.splits.items()}
    sets = tuple(OODSet(name, KINDS[name], partial(_given, data)) for name, data in material.sets.items())
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "strict": strict, "progress": progress}
    results = benchmark.run([(Suite(PSEUDO, tuple(names), {}, loaders, sets, (), ""), [classifier])], fitters, out=folder, **options)
    refused = {entry["detector"]: entry["reason"] for entry in results.refused}
    fitted = {name: fitter for name, fitter in fitters.items() if name not in refused}
    if not fitted:
        raise InputError(f"No detector takes {called}. {next(iter(refused.values()), 'None was given.')}")
    scores, made = load_file(scores_path(folder, PSEUDO, called)), material.made
    tested = len(scores[f"{next(iter(fitted))}/test"])
    sources = {"test": torch.arange(tested), **{name: _sources(data) for name, data in made.items()}}
    labels = _labels(material.splits["test"], tested)
    mixed = {"mixup": partners(labels, seed)[sources["mixup"]]} if "mixup" in made else {}
    pieces = {name: [_piece(kind, kind, name, scores, sources, mixed=mixed.get(kind)) for kind in made] for name in fitted}
    if not any(map(looks_inside, fitted.values())):
        more, without = _left_out(_said(classifier, material.splits, folder, options), fitted, folder, seed, progress)
        refused |= without
        pieces = {name: [*mine, *more.get(name, [])] for name, mine in pieces.items() if name not in without}
    about = results.classifiers[0]
    return Comparison(
        pieces,
        {name: _failed(scores, name, made.get("noise")) for name in pieces},
        frozenset((entry["detector"], entry["message"]) for entry in results.warnings if entry["detector"]),
        refused,
        None if about["id_accuracy"] is None else (about["id_accuracy"], about["id_accuracy_interval"]),
        {"held out": tested, **{name: len(data) for name, data in made.items()}},
    )


def _given(data: Any) -> Any:
    return data


def _said(classifier: Classifier | None, splits: Mapping[str, Any], folder: Path, options: Mapping[str, Any]) -> dict[str, Outputs | Stored]:
    """What is said of the splits: as given, or found again in the store."""
    if classifier is None:
        return dict(splits)
    return {name: collect(classifier, data, out=folder / "store", name=name, **options) for name, data in splits.items()}


def _sources(data: Images) -> Tensor:
    """Which held-out picture each was made of; noise is of none."""
    return NONE + torch.arange(len(data)) if data.clusters is None else data.clusters


def _piece(
    kind: str, where: str, detector: str, scores: Mapping[str, Tensor], sources: Mapping[str, Tensor], share: float = 1.0, mixed: Tensor | None = None
) -> Piece:
    """A detector's placements on a set; its weight is its share of its kind, and `mixed` are the second sources of mixtures."""
    s_in, s_out = (scores[f"{detector}/{name}"].double().numpy() for name in ("test", where))
    second = None if mixed is None else mixed.numpy()
    return kind, Linked(metrics.placements(s_in, s_out), sources["test"].numpy(), sources[where].numpy(), share, second)


def _labels(tested: Any, count: int) -> Tensor:
    """The labels of the held-out pictures, -1 where they are not known."""
    labels = getattr(tested, "labels", None)
    return torch.full((count,), -1) if labels is None else labels


def _failed(scores: Mapping[str, Tensor], detector: str, noise: Images | None) -> tuple[int, int]:
    """How many families of noise are failed, of how many."""
    if noise is None:
        return 0, 0
    s_in, s_out = (scores[f"{detector}/{name}"].double().numpy() for name in ("test", "noise"))
    rates = [metrics.fpr_at_95_tpr_id(s_in, s_out[span]) for span in noise.parts.values()]
    return sum(rate > FAILED for rate in rates), len(rates)


# --- left-out classes ---------------------------------------------------------------------------------------------------------------------


def _left_out(
    said: Mapping[str, Outputs | Stored], fitters: Mapping[str, Fitter], folder: Path, seed: int, progress: Progress | None
) -> tuple[dict[str, list[Piece]], dict[str, str]]:
    """The pieces of each detector, none where no classes can be left out; and those that refuse a classifier without some of its classes, with why."""
    train, tested = some(said["train"]), _whole(said["test"])
    grouped = tested.head is not None and tested.head.groups is not None
    if grouped or tested.labels is None or not bool((tested.labels >= 0).any()) or tested.logits is None or tested.logits.shape[1] < FEWEST_CLASSES:
        return {}, {}
    found: dict[str, list[Piece]] = {name: [] for name in fitters}
    refused: dict[str, str] = {}
    for number, out in enumerate(folds(tested.logits.shape[1], SHARE, FOLDS, seed)):
        known = tested.labels >= 0
        gone = known & out[tested.labels.clamp_min(0)]
        if min(int(gone.sum()), int((known & ~gone).sum())) < FEWEST:
            return {}, {}
        splits = {name: partial(_given, Without(train if name == "train" else data, out).load()) for name, data in said.items()}
        sets = (OODSet(LEFT, "near", partial(_given, Without(tested, out, only=True).load())),)
        suite = Suite(f"{LEFT} {number + 1}", (), {}, splits, sets, (), "")
        results = benchmark.run([(suite, [None])], fitters, out=folder, progress=progress)
        refused |= {entry["detector"]: f"Without some of the classes: {entry['reason']}" for entry in results.refused}
        scores = load_file(scores_path(folder, suite.name, GIVEN))
        sources = {"test": (known & ~gone).nonzero()[:, 0], LEFT: gone.nonzero()[:, 0]}
        for name in fitters.keys() - refused.keys():
            found[name].append(_piece(LEFT, LEFT, name, scores, sources, 1 / FOLDS))
    return found, refused


def some(data: Data, most: int = MOST) -> Outputs:
    """At most so many samples in memory, spread over the data: those with the lowest hash of their row, in order; the rest is streamed past.

    >>> some(Outputs(logits=torch.arange(8.0)[:, None].expand(8, 2)), 3).logits[:, 0].tolist()
    [1.0, 3.0, 5.0]
    """
    total = count(data)
    kept = torch.zeros(total, dtype=torch.bool)
    kept[hashed(torch.arange(total), 0).argsort()[:most]] = True
    parts, start = [], 0
    for chunk in chunks(data):
        parts.append(chunk[kept[start : start + len(chunk)]])
        start += len(chunk)
    return concatenate(parts)


def _whole(outputs: Outputs | Stored) -> Outputs:
    return outputs.load() if isinstance(outputs, Stored) else outputs

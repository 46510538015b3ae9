"""From a classifier and its data to a case: one pass over each set, which serves every check and the recommendation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from farfield import benchmark
from farfield.benchmark import Row
from farfield.benchmark.run import scores_path
from farfield.choose import USUAL, Comparison, Material, compare, recommendation
from farfield.choose.comparison import KINDS, PSEUDO, split
from farfield.choose.pseudo import mixtures
from farfield.classifier import Classifier
from farfield.collect import Progress, collect
from farfield.data.images import Images, OODSet, Suite
from farfield.detectors import parse
from farfield.detectors.base import Fitter
from farfield.diagnose.base import Case, Reference
from farfield.errors import InputError
from farfield.outputs import Outputs

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the second picture in mixtures
USED = ("msp", "mos")  # the detector that is taken to be in use, the first that takes the classifier
TAKEN = ("train", "test", "calibration", "held out", *KINDS)  # names that a real OOD set cannot have
UNIT = ("maxlogit", "mahalanobis", "relative-mahalanobis")  # the detectors of paper 2's unit tests


@dataclass(frozen=True, eq=False)
class Work:
    """A case, and what remedies are measured with.

    Args:
        case: what checks look at.
        comparison: of the detectors on pseudo-OOD.
        material: what they were compared on.
        fitters: of these detectors, by name.
        out: the folder.
        options: of `collect`.
        seed: of what is made up.
    """

    case: Case
    comparison: Comparison
    material: Material
    fitters: Mapping[str, Fitter]
    out: Path
    options: Mapping[str, Any]
    seed: int


def gather(
    classifier: Classifier,
    train: Any,
    held: Images,
    *,
    out: str | Path,
    ood: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    names: tuple[str, ...] = (),
    detectors: Mapping[str, Fitter] | None = None,
    current: str | None = None,
    reference: Classifier | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
) -> Work:
    """Everything that checks look at, and remedies are measured with.

    Args:
        classifier: any.
        train: its ID training data, labelled.
        held: ID pictures that it was not trained on, as `pseudo.squares` makes them.
        out: a folder, as `benchmark.run`'s.
        ood: real OOD sets by name.
        data: the ID data as given, `train` and `test`.
        names: of the classes.
        detectors: among which to recommend; all that look at logits and features by default.
        current: the detector in use; `msp` by default, or `mos` where the head is grouped.
        reference: another classifier of the same classes.
        seed: of what is made up.
        batch_size: as `collect`'s.
        workers: likewise.
        strict: likewise.
        command: what a person types to do this again.
        progress: called with what is done, how far, and out of how much.

    Raises:
        InputError: as `recommend`; for a real OOD set that is called as a split or a kind of pseudo-OOD is.
    """
    check_names(ood or {})
    fitters = dict(detectors) if detectors is not None else {name: parse(name) for name in USUAL}
    fitters = {**fitters, **{name: parse(name) for name in (*UNIT, *([current] if current else USED)) if name not in fitters}}
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "strict": strict, "progress": progress}
    folder = Path(out)
    began, material = time.perf_counter(), Material.of(train, held, fitters, seed)
    compared = compare(classifier, material, fitters, out=folder, seed=seed, names=names, **options)
    found = recommendation(classifier.name, compared, time.perf_counter() - began, command)
    if current is not None and current not in compared.pieces:
        raise InputError(f"{current}, the detector in use, does not take {classifier.name}. {compared.refused.get(current, '')} Give another.")
    used = current or next((name for name in USED if name in compared.pieces), found.best)

    def said(of: Classifier, pictures: Any, name: str) -> Outputs:
        return collect(of, pictures, out=folder / "store", name=name, **options).load()

    tested_rows = split(held, fitters)[1]
    tested, made = material.splits["test"], material.made
    pseudo = {name: said(classifier, pictures, name) for name, pictures in made.items()}
    real_sets = dict(ood or {})
    real = {name: said(classifier, pictures, name) for name, pictures in real_sets.items()}
    rows = _real(classifier, material, real_sets, {name: fitters[name] for name in (used, found.best)}, folder, names, options)
    other = None
    if reference is not None:
        sets = {**made, **real_sets}
        other = Reference(reference.name, said(reference, held, "held out"), {name: said(reference, one, name) for name, one in sets.items()})
    case = Case(
        classifier,
        names,
        collect(classifier, train, out=folder / "store", name="train", **options),
        said(classifier, held, "held out"),
        pseudo,
        {share: said(classifier, pictures, f"mixed {share}") for share in SHARES if len(pictures := _mixed(tested, share, seed))},
        real,
        {"test": held, **made},
        _by_detector(load_file(scores_path(folder, PSEUDO, classifier.name)), made),
        tested_rows.tolist(),
        found,
        {"train": train, "test": held} if data is None else data,
        other,
        used,
        rows,
    )
    return Work(case, compared, material, fitters, folder, options, seed)


def check_names(names: Iterable[str]) -> None:
    """Raises for a name of a real OOD set that a split or a kind of pseudo-OOD has."""
    if double := next((name for name in names if name in TAKEN), None):
        raise InputError(f"There are two sets called {double!r}. Give each a name of its own, other than {', '.join(TAKEN)}.")


def _real(
    classifier: Classifier,
    material: Material,
    sets: Mapping[str, Any],
    fitters: Mapping[str, Fitter],
    folder: Path,
    names: tuple[str, ...],
    options: Mapping[str, Any],
) -> list[Row]:
    """The figures of detectors on real OOD sets, against the same held-out pictures as on pseudo-OOD."""
    if not sets:
        return []
    splits = {name: partial(_given, data) for name, data in material.splits.items()}
    suite = Suite("real OOD", names, {}, splits, tuple(OODSet(name, "far", partial(_given, data)) for name, data in sets.items()), (), "")
    rows = benchmark.run([(suite, [classifier])], fitters, out=folder, **options).rows
    return [row for row in rows if row.ood in sets]


def _given(data: Any) -> Any:
    return data


def _mixed(images: Images, share: float, seed: int) -> Images:
    mixed = mixtures(images, share, seed=seed)
    return Images(f"mixed {share}", mixed, torch.full((len(mixed),), -1))


def _by_detector(kept: Mapping[str, Tensor], made: Mapping[str, Images]) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, values in kept.items():
        detector, _, name = key.rpartition("/")
        if name in ("test", *made) and detector not in ("classes", "labels", "clusters"):
            found.setdefault(detector, {})[name] = values.double().numpy()
    return found

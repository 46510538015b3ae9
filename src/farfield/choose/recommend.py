"""Which detector suits a classifier: ranked without any OOD data, on pseudo-OOD that is made from held-out ID pictures.

Every detector is fitted on the ID training data and judged by the benchmark itself, on the sets of `farfield.choose.pseudo`. What is known to fail here is said
beside its figures, and is not recommended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from farfield import benchmark, metrics
from farfield.choose.comparison import Comparison, Figure, Material, compare, figure
from farfield.classifier import Classifier
from farfield.collect import Progress
from farfield.data.images import Images
from farfield.detectors import CATALOGUE, parse
from farfield.detectors.base import Fitter
from farfield.detectors.compose import looks_inside

USUAL = (
    *(name for name in CATALOGUE if name != "panel" and not looks_inside(parse(name))),
    "react+energy",
    "vra+energy",
    "scale+energy",
    "ash-s+energy",
)


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
    kind that cannot be had for all of them counts for none. Intervals know that the sets share pictures (`metrics.linked_auroc`). A detector is not told from
    the first where the interval of the difference holds 0. Those against which something speaks come last.

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
    began = time.perf_counter()
    fitters = dict(detectors) if detectors is not None else {name: parse(name) for name in USUAL}
    found = compare(
        classifier,
        Material.of(train, held, fitters, seed),
        fitters,
        out=out,
        seed=seed,
        names=names,
        batch_size=batch_size,
        workers=workers,
        strict=strict,
        progress=progress,
    )
    return recommendation(classifier.name, found, time.perf_counter() - began, command)


def recommendation(name: str, found: Comparison, seconds: float = 0.0, command: str | None = None) -> Recommendation:
    """What a comparison of a classifier's detectors recommends."""
    ranked = _ranked(found)
    tied = [one.detector for one in ranked[1:] if not one.reasons and one.behind.interval[0] <= 0]
    return Recommendation(name, ranked, tied, found.refused, found.accuracy, found.samples, seconds, command, benchmark.environment())


def _ranked(found: Comparison) -> list[Ranked]:
    """The detectors by their mean, those against which something speaks last."""
    whole = {name: found.whole(name) for name in found.pieces}
    figures = {name: figure(mine) for name, mine in whole.items()}
    kinds = {name: found.kinds(name) for name in whole}
    reasons = {name: tuple(_reasons(name, kinds[name], found)) for name in whole}
    order = sorted(whole, key=lambda name: (bool(reasons[name]), -figures[name].auroc))
    ranked = []
    for name in order:
        test = metrics.linked_test(whole[order[0]], whole[name])
        ranked.append(Ranked(name, figures[name], kinds[name], *found.failed[name], Figure(test.difference, test.interval), reasons[name]))
    return ranked


def _reasons(name: str, kinds: Mapping[str, Figure], found: Comparison) -> Iterator[str]:
    """What speaks against a detector: what fitting it warned of, and kinds that it takes for more ID than ID."""
    yield from sorted(message for detector, message in found.warned if detector == name)
    for kind, one in kinds.items():
        if one.interval[1] < 0.5:
            yield f"It takes {kind} for more in-distribution than ID pictures (AUROC {100 * one.auroc:.1f})."

"""A study of many classifiers: what each has on near OOD and on unit tests, kept; and how that goes with accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from farfield import metrics
from farfield.data.images import Suite
from farfield.errors import InputError
from farfield.metrics.correlation import DRAWS, Told
from farfield.reproduce.base import Record
from farfield.reproduce.keep import once
from farfield.reproduce.networks import slug
from farfield.reproduce.stage import Network, Stage

METHODS = {"maxlogit": "MaxLogit", "mahalanobis": "Mahalanobis", "relative-mahalanobis": "Relative Mahalanobis"}
NEAR, UNIT = "near OOD", "unit tests"
KINDS = (NEAR, UNIT)
ID = "ID"  # what an accuracy is of
FAILED = 0.1  # share of a unit test's pictures taken for ID, above which it is failed


def on(method: str, kind: str) -> str:
    """What a figure is of.

    >>> on("Mahalanobis", NEAR)
    'Mahalanobis, near OOD'
    """
    return f"{method}, {kind}"


def labels() -> list[str]:
    """All that figures are of: each method on each kind of OOD."""
    return [on(method, kind) for method in METHODS.values() for kind in KINDS]


# --- one classifier -----------------------------------------------------------------------------------------------------------------------------


def pieces(suite: Suite) -> dict[str, list[tuple[str, slice, int]]]:
    """What the means are over: near, each set, or each class of a set that knows them; of unit tests each family.

    Returns:
        For each kind, the name of a set, the rows of a piece of it, and how many rows the set has.

    >>> from farfield.data import suites
    >>> found = pieces(suites.load("glyphs-200"))
    >>> found["near OOD"][1], found["unit tests"][1], len(found["unit tests"])
    (('scripts', slice(0, 2000, None), 2000), ('noise', slice(100, 200, None), 1700), 17)
    """
    found: dict[str, list[tuple[str, slice, int]]] = {kind: [] for kind in KINDS}
    for ood in suite.ood:
        data: Any = ood.load()
        parts = getattr(data, "parts", {})
        if parts and getattr(data, "part_group", "unit-test") == "unit-test":
            found[UNIT] += [(ood.name, span, len(data)) for span in parts.values()]
        elif ood.group == "near":
            found[NEAR] += [(ood.name, span, len(data)) for span in (parts.values() or [slice(0, len(data))])]
    return found


def failed(s_in: Float[np.ndarray, " n"], outs: Sequence[Float[np.ndarray, " _"]]) -> tuple[int, tuple[float, float]]:
    """How many unit tests have an FPR above 10 %, with an interval over pictures: the threshold is that of resampled ID, and each test is resampled.

    >>> failed(np.arange(100.0), [np.zeros(50), np.full(50, 50.0)])
    (1, (1.0, 1.0))

    Source: Bitterwolf et al., ICML 2023.
    """
    rng, thresholds = np.random.default_rng(0), metrics.threshold_draws(s_in, draws=DRAWS)
    count, drawn = 0, np.zeros(DRAWS)
    for out in outs:
        count += metrics.fpr_at_95_tpr_id(s_in, out) > FAILED
        share = 1 - np.searchsorted(np.sort(out), thresholds, "left") / len(out)
        drawn += rng.binomial(len(out), share) / len(out) > FAILED  # how many of a resample are above a threshold
    low, high = np.quantile(drawn, (0.025, 0.975))
    return int(count), (float(low), float(high))


def figures_of(s_in: Float[np.ndarray, " n"], outs: Sequence[Float[np.ndarray, " _"]], tests: bool) -> Told:
    """The mean FPR and AUROC over some sets, in percent, with intervals over pictures; of unit tests the number failed and the worst one's FPR too."""
    rates = [100 * metrics.fpr_at_95_tpr_id(s_in, out) for out in outs]
    auroc, fpr = metrics.mean_auroc_interval(s_in, outs), metrics.mean_fpr_interval(s_in, outs, widen=False)
    values = {"fpr": float(np.mean(rates)), "auroc": 100 * float(np.mean([metrics.auroc(s_in, out) for out in outs]))}
    intervals = {"fpr": (100 * fpr.low, 100 * fpr.high), "auroc": (100 * auroc.low, 100 * auroc.high)}
    if tests:
        values["failed"], intervals["failed"] = failed(s_in, outs)
        values["worst"] = max(rates)
    return values, intervals


def judged(stage: Stage, network: Network, suite: Suite) -> list[Record]:
    """The figures of a classifier by each method on each kind of OOD, `("Mahalanobis, near OOD",)` and so on, and its accuracy, `("ID",)`.

    Raises:
        InputError: where a picture cannot be read.
    """
    found, records = stage.judge(network, tuple(METHODS), suite), []
    if found.accuracy is not None and found.interval is not None:
        records.append(Record((ID,), {"accuracy": found.accuracy}, {"accuracy": found.interval}))
    for kind, sets in pieces(suite).items():
        for method, name in METHODS.items():
            scores = found.scores[method]
            for one, _, many in sets:
                if len(scores[one]) != many:
                    raise InputError(
                        f"{many - len(scores[one])} of {many} pictures of {one} cannot be read, so its parts are not whole. Mend the files."
                    )
            outs = [scores[one][span] for one, span, _ in sets]
            records.append(Record((on(name, kind),), *figures_of(scores["test"], outs, kind == UNIT)))
    return records


def look(stage: Stage, name: str, make: Callable[[str], Network], suite: Suite) -> list[Record]:
    """The figures of the classifier of that name; those that are kept, or of what `make` makes of the name."""
    return once(stage, f"pool/{slug(name)}", lambda: judged(stage, make(name), suite))


# --- many -----------------------------------------------------------------------------------------------------------------------------------------


def gathered(each: Iterable[Iterable[Record]]) -> dict[tuple[str, str], np.ndarray]:
    """The figures of many classifiers, an array with an entry for each: `("Mahalanobis, near OOD", "fpr")` and so on."""
    found: dict[tuple[str, str], list[float]] = {}
    for records in each:
        for record in records:
            for name, value in record.values.items():
                found.setdefault((record.of[0], name), []).append(value)
    return {key: np.array(values) for key, values in found.items()}


def upper_half(accuracy: Mapping[Any, float]) -> list[Any]:
    """The more accurate half of some models, the middle one included.

    >>> upper_half({"a": 3.0, "b": 5.0, "c": 4.0})
    ['b', 'c']
    """
    return sorted(accuracy, key=lambda name: -accuracy[name])[: (len(accuracy) + 1) // 2]

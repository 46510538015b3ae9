"""L2: what training has taken from the maximal logit, against a reference classifier.

Source: Xiong et al., ICCV 2025, section 4.2 and proposition 4.2; the figures are those of `farfield.metrics.decrement`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from farfield import metrics
from farfield.choose.comparison import KINDS, NONE
from farfield.diagnose.base import Case, Check, Evidence, Finding, Outcome, Series
from farfield.errors import InputError
from farfield.metrics import Linked
from farfield.outputs import Outputs

GAP = 0.1  # q from which on a loss is told of: about the spread that it leaves out
DRAWS = 400
BEFORE = "reference's AUROC"
Scores = Float[np.ndarray, " _"]
Sources = Integer[np.ndarray, " _"]


@dataclass(frozen=True)
class Side:
    """Maximal logits of some pictures by the reference, `before`, and the classifier, `after`, and which held-out picture each is made of."""

    before: Scores
    after: Scores
    sources: Sources

    def rows(self, rows: Sources) -> Side:
        """Some of them."""
        return Side(self.before[rows], self.after[rows], self.sources[rows])


def figures(test: Side, ood: Side) -> dict[str, float]:
    """`r_i`, `r_o`, their difference, `q` and the AUROC it predicts; the last two are missing where OOD has lost all."""
    r_in, r_out = (metrics.relative_decrement(side.before, side.after) for side in (test, ood))
    found = {"r_i": r_in, "r_o": r_out, "r_i - r_o": r_in - r_out}
    if r_out < 1:
        found["q"] = metrics.decrement_gap(r_in, r_out)
        found["predicted AUROC"] = metrics.predicted_auroc(test.before, ood.before, found["q"])
    return found


def intervals(test: Side, ood: Side, seed: int = 0, draws: int = DRAWS) -> dict[str, tuple[float, float]]:
    """Their 95 % intervals, by a bootstrap over held-out pictures; what is made of a picture goes with it, and what is of none is drawn by itself.

    A draw in which a figure does not exist counts for none of that figure; one that more than a twentieth lack has no interval.
    """
    rng, n = np.random.default_rng(seed), len(test.before)
    linked = ood.sources < NONE
    order = np.argsort(ood.sources[linked], kind="stable")
    rows = np.flatnonzero(linked)[order]
    starts, ends = (np.searchsorted(ood.sources[rows], test.sources, side) for side in ("left", "right"))
    free = np.flatnonzero(~linked)
    drawn: dict[str, list[float]] = {}
    for _ in range(draws):
        mine = rng.integers(n, size=n)
        theirs = np.concatenate([_ranges(rows, starts[mine], ends[mine]), free[rng.integers(len(free), size=len(free))] if len(free) else free])
        try:
            once = figures(test.rows(mine), ood.rows(theirs))
        except InputError:  # nothing was drawn, or nothing with a share to lose
            continue
        for name, value in once.items():
            drawn.setdefault(name, []).append(value)
    enough = {name: values for name, values in drawn.items() if len(values) >= 0.95 * draws}
    return {name: (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))) for name, values in enough.items()}


def _ranges(rows: Sources, starts: Sources, ends: Sources) -> Sources:
    """The rows of each of several runs, one after the other.

    >>> _ranges(np.array([7, 8, 9]), np.array([1, 0, 1]), np.array([3, 0, 2])).tolist()
    [8, 9, 8]
    """
    lengths = ends - starts
    first = np.repeat(starts - np.concatenate([[0], lengths.cumsum()[:-1]]), lengths)
    found: Sources = rows[np.arange(lengths.sum()) + first]
    return found


def look(case: Case) -> Finding:
    """Whether ID has lost more of its maximal logit than OOD."""
    reference = case.reference
    head = case.classifier.head
    if (head is not None and head.groups is not None) or case.test.logits is None:
        return Finding("L2", "not applicable", "The maximal logit is of flat logits, and this head has a softmax in each of several groups.")
    if reference is None:
        return Finding(
            "L2",
            "skipped",
            "There is nothing to compare with: give --reference, a classifier of the same classes that was trained with plain cross-entropy.",
        )
    if reference.test.logits is None or (reference.test.head is not None and reference.test.head.groups is not None):
        return Finding("L2", "not applicable", f"The head of {reference.name}, the reference, has a softmax in each of several groups.")
    test = _side(reference.test, case.test, np.arange(len(case.test)))
    if not test.before.mean() > 0:
        said = f"The maximal logits of {reference.name} have a mean of {test.before.mean():.2g} on ID pictures, and of what is not above 0 no share can be lost."
        return Finding("L2", "not applicable", said)
    sets = {name: side for name, side in _sets(case, reference.ood).items() if side.before.mean() > 0}
    if not any(_far(case, name) for name in sets):
        return Finding(
            "L2", "not applicable", f"The maximal logits of {reference.name} have no mean above 0 on any far OOD set, and no share can be lost."
        )
    seen = {name: figures(test, side) for name, side in sets.items()}
    ends = {name: intervals(test, side, draws=DRAWS) for name, side in sets.items()}
    for name, side in sets.items():
        piece = Linked(metrics.placements(test.after, side.after), test.sources, side.sources, 1.0)
        seen[name]["AUROC"], ends[name]["AUROC"] = metrics.linked_auroc([piece])
        seen[name][BEFORE] = metrics.auroc(test.before, side.before)
    return _finding(case, reference.name, seen, ends)


def _moved(share: float) -> str:
    """What became of a share.

    >>> _moved(0.5), _moved(-0.25)
    ('lost 50 %', 'gained 25 %')
    """
    return f"{'lost' if share >= 0 else 'gained'} {100 * abs(share):.0f} %"


def _finding(case: Case, reference: str, seen: Mapping[str, Mapping[str, float]], ends: Mapping[str, Mapping[str, tuple[float, float]]]) -> Finding:
    far = [name for name in seen if _far(case, name)]
    more = [name for name in far if ends[name].get("r_i - r_o", (0.0,))[0] > 0]
    much = [name for name in more if seen[name].get("q", 0.0) >= GAP]
    outcome: Outcome = "issue" if 2 * len(much) > len(far) else "tip" if 2 * len(more) > len(far) else "passed"
    first = next(iter(seen))
    said = (
        f"Against {reference}, ID pictures have {_moved(seen[first]['r_i'])} of their maximal logit; they have lost more than OOD ones beyond chance on {len(more)} of "
        f"{len(far)} far sets, by q of {GAP:g} or more on {len(much)}."
    )
    told = [name for name in (much or far) if "q" in seen[name]]
    if told:
        most = max(told, key=lambda name: seen[name]["q"])
        one = seen[most]
        said += (
            f" On {most} OOD has {_moved(one['r_o'])}: q is {one['q']:.2f}, which alone makes of the reference's AUROC of "
            f"{100 * one[BEFORE]:.1f} one of {100 * one['predicted AUROC']:.1f}; measured are {100 * one['AUROC']:.1f}."
        )
    return Finding(
        "L2",
        outcome,
        said,
        {f"{figure}, {name}": value for name, mine in seen.items() for figure, value in mine.items()},
        {f"{figure}, {name}": interval for name, mine in ends.items() for figure, interval in mine.items()},
        _evidence(seen, ends),
        (),
        ""
        if outcome == "passed"
        else f"Train the last layer once more with plain cross-entropy (AugDelete), use a detector of features, or use {reference}.",
        "" if outcome == "passed" else _command(case),
    )


def _far(case: Case, name: str) -> bool:
    return name in case.ood or KINDS.get(name) == "far"


def _command(case: Case) -> str:
    return "farfield finetune augdelete --model MODEL --data TRAIN --out NEW"


def _side(before: Outputs, after: Outputs, sources: Sources) -> Side:
    assert before.logits is not None and after.logits is not None
    return Side(before.logits.amax(1).double().numpy(), after.logits.amax(1).double().numpy(), sources)


def _sets(case: Case, reference: Mapping[str, Outputs]) -> dict[str, Side]:
    """The OOD sets that both have said something about, with which held-out picture each of their pictures is made of."""
    tested, found = np.asarray(case.tested, dtype=np.int64), {}
    for name, after in {**case.pseudo, **case.ood}.items():
        before, pictures = reference.get(name), case.pictures.get(name)
        if before is None or before.logits is None or after.logits is None or not len(after):
            continue
        made_of = None if name in case.ood or pictures is None else pictures.clusters
        sources = NONE + np.arange(len(after)) if made_of is None else tested[made_of.numpy()]
        found[name] = _side(before, after, sources)
    return found


def _evidence(seen: Mapping[str, Mapping[str, float]], ends: Mapping[str, Mapping[str, tuple[float, float]]]) -> Evidence:
    """What each set has lost, against what ID has: the line."""
    low, high = ([100 * ends[name].get("r_o", (mine["r_o"], mine["r_o"]))[end] for name, mine in seen.items()] for end in (0, 1))
    series = Series("OOD", [100 * mine["r_o"] for mine in seen.values()], low, high)
    return Evidence(
        "bars",
        list(seen),
        [series],
        "OOD set; the line is what ID pictures have lost",
        "maximal logit lost, %",
        100 * next(iter(seen.values()))["r_i"],
    )


REFERENCE = Check(
    "L2",
    "Against the reference",
    "With --reference: r_i and r_o are the shares of the reference's mean maximal logit that the classifier has lost on ID and on OOD pictures, and q = (r_i - r_o) / (1 - r_o). Far "
    f"sets are jigsaw, channels, noise and every real set. Issue: on more than half of them the 95 % interval of r_i - r_o is all above 0 and q is at least {GAP:g}. Tip: the "
    "interval alone is. Intervals are bootstraps over held-out pictures.",
    look,
    "Xiong et al., ICCV 2025",
)

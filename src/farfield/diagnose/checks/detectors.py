"""S1: which detectors would fail on this classifier, and whether the one in use is among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from farfield.choose import Ranked
from farfield.diagnose.base import Case, Check, Evidence, Finding, Outcome, Series

BEHIND = 0.05  # of mean AUROC, by which the detector in use may be below the best


def look(case: Case) -> Finding:
    """What speaks against each detector, and against the one in use."""
    ranked, refused, current = case.recommendation.ranked, case.recommendation.refused, case.current
    if len(ranked) + len(refused) < 2:
        return Finding("S1", "not applicable", f"{ranked[0].detector} alone was looked at; there is nothing to compare it with.")
    mine = next((one for one in ranked if one.detector == current), None)
    if mine is None and current not in refused:
        return Finding("S1", "skipped", f"{current}, the detector in use, is not among those compared: {', '.join(one.detector for one in ranked)}.")
    best, wrong = ranked[0], _wrong(mine, ranked[0], refused.get(current, ""))
    failing = [one for one in ranked if one.reasons]
    others = [one for one in failing if one.detector != current]
    outcome: Outcome = "issue" if wrong else "tip" if others else "passed"
    said = [f"{current}, the detector in use, {wrong or _standing(mine, best)}."]
    if others:
        said.append(
            f"{len(others)} of the {len(ranked)} detectors that take this classifier would fail{' too' if wrong else ''}: {_listed({one.detector: one.reasons for one in others})}."
        )
    elif not failing:
        said.append(f"Nothing speaks against any of the {len(ranked)} detectors that take this classifier.")
    if more := {name: (reason,) for name, reason in refused.items() if name != current}:
        said.append(f"{len(more)} refuse it: {_listed(more)}.")
    told = [one for one in ranked if one is not best]
    return Finding(
        "S1",
        outcome,
        " ".join(said),
        {"would fail": float(len(failing)), "refused": float(len(refused))}
        | {f"AUROC, {one.detector}": one.mean.auroc for one in ranked}
        | {f"behind, {one.detector}": one.behind.auroc for one in told},
        {f"AUROC, {one.detector}": one.mean.interval for one in ranked} | {f"behind, {one.detector}": one.behind.interval for one in told},
        _evidence(ranked, current),
        (),
        _advice(wrong, best, current),
        "" if outcome == "passed" else "farfield recommend MODEL --id-train TRAIN --id-cal HELD_OUT",
    )


def _wrong(mine: Ranked | None, best: Ranked, refusal: str) -> str:
    """What is wrong with the detector in use; nothing where it may stay."""
    if mine is None:
        return f"refuses this classifier: {refusal.rstrip('.')}"
    if mine.reasons:
        return f"would fail here: {_listed({'': mine.reasons})}"
    low, high = mine.behind.interval
    if mine.behind.auroc > BEHIND and low > 0:
        return f"is {100 * mine.behind.auroc:.1f} points of mean AUROC ({100 * low:.1f} to {100 * high:.1f}) behind {best.detector}, the best"
    return ""


def _standing(mine: Ranked | None, best: Ranked) -> str:
    assert mine is not None
    if mine is best:
        return "is the best of them"
    return (
        f"is {100 * mine.behind.auroc:.1f} points of mean AUROC behind {best.detector}, the best, which is within {100 * BEHIND:.0f} points or chance"
    )


SHOWN = 4  # detectors that are told with their reasons; the ranking has all


def _listed(reasons: Mapping[str, Sequence[str]]) -> str:
    """Detectors with what speaks against each, on a line.

    >>> _listed({"knn": ("It takes noise for ID.",), "vim": ("It needs a head.",)})
    'knn (It takes noise for ID); vim (It needs a head)'
    """
    told = {name: "; ".join(reason.rstrip(".") for reason in mine) for name, mine in list(reasons.items())[:SHOWN]}
    more = [f"and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
    return "; ".join([*(f"{name} ({reason})" if name else reason for name, reason in told.items()), *more])


def _advice(wrong: str, best: Ranked, current: str) -> str:
    if not wrong:
        return ""
    if best.reasons:
        return "Something speaks against every detector that was compared; compare others, or mend the classifier first."
    return f"Take {best.detector} in place of {current}."


def _evidence(ranked: Sequence[Ranked], current: str) -> Evidence:
    """Mean AUROC by detector, the best first; the one in use is a series of its own."""

    def series(name: str, mine: Sequence[bool]) -> Series:
        low, high = ([100 * one.mean.interval[end] if shown else math.nan for one, shown in zip(ranked, mine, strict=True)] for end in (0, 1))
        return Series(name, [100 * one.mean.auroc if shown else math.nan for one, shown in zip(ranked, mine, strict=True)], low, high)

    used = [one.detector == current for one in ranked]
    drawn = [series("compared", [not one for one in used]), *([series(f"{current} (in use)", used)] if any(used) else [])]
    return Evidence("bars", [one.detector for one in ranked], drawn, "detector", "mean AUROC on pseudo-OOD, %")


FAILING = Check(
    "S1",
    "Detectors that would fail here",
    "Every detector is fitted on the ID training data and ranked on pseudo-OOD made from held-out ID pictures (`farfield recommend`). One would fail where fitting it warns, or "
    "where the 95 % interval of its AUROC on some kind is all below 50. Issue: the detector in use would, refuses the classifier, or is more than "
    f"{100 * BEHIND:.0f} points of mean AUROC behind the best, with a 95 % interval of the difference all above 0. Tip: others would.",
    look,
    "pseudo-OOD: Zhang et al., IEEE TIP 2026; Xiong et al., ICCV 2025; Bitterwolf et al., ICML 2023",
)

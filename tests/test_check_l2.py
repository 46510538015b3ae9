"""L2: what training has taken from the maximal logit of ID and of OOD pictures, against a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from cases_scores import case, classifier, outputs, pictures
from farfield import metrics
from farfield.choose.comparison import NONE
from farfield.diagnose.base import Case, Finding, Reference
from farfield.diagnose.checks import against
from farfield.diagnose.checks.against import GAP, REFERENCE, Side, figures, intervals
from farfield.outputs import Head, Outputs

N = 300


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every shape enforced a draw takes ten times as long."""
    monkeypatch.setattr(against, "DRAWS", 30)


def said(largest: np.ndarray) -> Outputs:
    """Logits of three classes with these as the largest."""
    return outputs(np.stack([largest, largest - 3, largest - 1], 1))


def scores(mean: float, seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.5, size=n)


FAR = ("jigsaw", "channels", "noise")
BEFORE = {"test": scores(12, 0), "mixup": scores(10, 1, 280), "jigsaw": scores(8, 2), "channels": scores(9, 3, 250), "noise": scores(7, 4)}
MADE_OF = {"mixup": range(280), "jigsaw": range(N), "channels": range(50, 300), "noise": None}


def made(lost: dict[str, float], *, spread: float = 0.2, real: Sequence[str] = (), **given: Any) -> Case:
    """A classifier whose maximal logits are lower than the reference's by a share of each set."""
    rng = np.random.default_rng(9)
    before = {**BEFORE, **{name: scores(8, 5) for name in real}}
    after = {name: (1 - lost.get(name, 0.0)) * one + rng.normal(0, spread, len(one)) for name, one in before.items()}
    ood = {name: said(one) for name, one in before.items() if name != "test"}
    pseudo = {name: said(after[name]) for name in MADE_OF}
    some = {name: pictures(name, len(before[name]), of) for name, of in MADE_OF.items()}
    held = pictures("test", N)
    told: dict[str, Any] = {
        "test": said(after["test"]), "pseudo": pseudo, "ood": {name: said(after[name]) for name in real},
        "pictures": {"test": held, **some}, "tested": range(N), "reference": Reference("plain", said(before["test"]), ood),
    }  # fmt: skip
    return case(**told | given)


def look(some: Case) -> Finding:
    found = REFERENCE.look(some)
    assert found.code == REFERENCE.code == "L2"
    return found


EVEN = dict.fromkeys(("test", "mixup", *FAR), 0.4)


def test_it_fires_where_id_has_lost_more_than_far_ood() -> None:
    found = look(made({**EVEN, "test": 0.5, "jigsaw": 0.1, "channels": 0.2}))
    assert found.outcome == "issue"
    assert "Against plain, ID pictures have lost 50 %" in found.said and "on 3 of 3 far sets, by q of 0.1 or more on 3" in found.said
    assert found.values["r_i, jigsaw"] == pytest.approx(0.5, abs=0.01) and found.values["r_o, jigsaw"] == pytest.approx(0.1, abs=0.01)
    assert found.values["r_i - r_o, jigsaw"] == pytest.approx(0.4, abs=0.01) and found.values["q, jigsaw"] == pytest.approx(0.4 / 0.9, abs=0.01)
    assert found.command == "farfield finetune augdelete --model MODEL --data TRAIN --out NEW" and found.do
    for name, (low, high) in found.intervals.items():
        assert low <= found.values[name] <= high
    assert found.values.keys() - found.intervals.keys() == {f"reference's AUROC, {name}" for name in MADE_OF}
    assert found.values["reference's AUROC, noise"] == pytest.approx(metrics.auroc(BEFORE["test"], BEFORE["noise"]), abs=1e-4)
    assert "which alone makes of the reference's AUROC of" in found.said
    evidence = found.evidence
    assert evidence is not None and list(evidence.x) == ["mixup", *FAR] and evidence.limit == pytest.approx(50, abs=1)
    assert list(evidence.series[0].y) == pytest.approx([40, 10, 20, 40], abs=1.5)


def test_what_is_measured_is_what_is_predicted_where_all_pictures_lose_a_share() -> None:
    found = look(made({**EVEN, "test": 0.5, "jigsaw": 0.1}, spread=0.0))
    for name in ("jigsaw", "noise"):
        assert found.values[f"predicted AUROC, {name}"] == pytest.approx(found.values[f"AUROC, {name}"], abs=1e-6)


def test_quiet_where_both_lose_alike_or_ood_loses_more() -> None:
    found = look(made({**EVEN, "jigsaw": 0.6, "noise": 0.5, "channels": 0.5}))
    assert found.outcome == "passed" and not found.do and not found.command
    assert look(made({})).outcome == "passed"


def test_a_small_gap_is_a_tip() -> None:
    found = look(made({**EVEN, "test": 0.43}))
    assert found.outcome == "tip" and 0 < found.values["q, noise"] < GAP and found.do and found.intervals["r_i - r_o, noise"][0] > 0


def test_most_is_more_than_half_of_the_far_sets() -> None:
    half = {**EVEN, "test": 0.5, "jigsaw": 0.5, "real": 0.5}  # 2 of 4
    assert look(made(half, real=["real"])).outcome == "passed"
    assert look(made({**half, "real": 0.4}, real=["real"])).outcome == "issue"
    near = {**EVEN, "test": 0.5, "mixup": 0.1, "jigsaw": 0.5, "channels": 0.5}  # mixtures are near, so 1 of 3
    assert look(made(near)).outcome == "passed"


def test_a_gap_within_chance_is_none() -> None:
    some = made({**EVEN, "test": 0.45, "jigsaw": 0.2, "channels": 0.2, "noise": 0.2})
    assert look(some).outcome == "issue"
    rows = torch.arange(3)
    few = (
        Reference("plain", some.reference.test[rows], {name: one[rows] for name, one in some.reference.ood.items() if name != "mixup"})
        if some.reference
        else None
    )
    pseudo = {name: said(scores(6, 20 + i, 3)) for i, name in enumerate(FAR)}
    rough = case(test=said(np.array([1.0, 12.0, 6.0])), pseudo=pseudo, pictures={}, tested=range(3), reference=few)
    assert look(rough).outcome == "passed"


def test_figures_are_those_of_the_proposition() -> None:
    test, ood = Side(BEFORE["test"], 0.5 * BEFORE["test"], np.arange(N)), Side(BEFORE["jigsaw"], BEFORE["jigsaw"] - 2, np.arange(N))
    r_i = 1 - sum(test.after) / sum(test.before)
    r_o = 1 - sum(ood.after) / sum(ood.before)
    q = (r_i - r_o) / (1 - r_o)
    wins = sum(((1 - q) * s > ood.before).sum() + ((1 - q) * s == ood.before).sum() / 2 for s in test.before)
    assert figures(test, ood) == pytest.approx({"r_i": r_i, "r_o": r_o, "r_i - r_o": r_i - r_o, "q": q, "predicted AUROC": wins / N**2})


def test_what_is_made_of_a_picture_is_drawn_with_it() -> None:
    """Against the delta method, in a loop over the held-out pictures; with other links the interval is another."""
    rng = np.random.default_rng(3)
    base, own = rng.normal(10, 2, N), rng.normal(0, 1.5, N)
    made_of = rng.permutation(N)[:200]
    test = Side(base, 0.6 * base + own, np.arange(N))
    linked = Side(base[made_of] - 2, 0.6 * (base[made_of] - 2) + own[made_of], made_of)
    free = Side(linked.before, linked.after, NONE + np.arange(200))
    halves = {}
    for name, ood in (("linked", linked), ("free", free)):
        told, terms = figures(test, ood), {}
        for sign, side, r in ((1, test, told["r_i"]), (-1, ood, told["r_o"])):
            for source, before, after in zip(side.sources.tolist(), side.before, side.after, strict=True):
                terms[source] = terms.get(source, 0.0) - sign * (after - (1 - r) * before) / side.before.mean() / len(side.before)
        low, high = intervals(test, ood, draws=400)["r_i - r_o"]
        halves[name] = (high - low) / 2
        assert halves[name] == pytest.approx(1.96 * math.sqrt(sum(term**2 for term in terms.values())), rel=0.15)
        assert (low + high) / 2 == pytest.approx(told["r_i - r_o"], abs=0.2 * halves[name])
    assert halves["linked"] < 0.8 * halves["free"]


def test_links_are_by_the_rows_that_were_tested() -> None:
    """Pseudo-OOD is made of a part of the held-out pictures: its sources count those, and the links are to rows of all."""
    rng = np.random.default_rng(5)
    base, own, tested = rng.normal(10, 1, N), rng.normal(0, 1.5, N), np.arange(100, N)
    before, after = base[tested] - 2, 0.6 * (base[tested] - 2) + own[tested]
    some = {"jigsaw": pictures("jigsaw", 200, range(200))}
    reference = Reference("plain", said(base), {"jigsaw": said(before)})
    told = {"test": said(0.6 * base + own), "pseudo": {"jigsaw": said(after)}, "reference": reference}
    right = look(case(**told, pictures=some, tested=tested.tolist())).intervals["r_i - r_o, jigsaw"]
    wrong = look(case(**told, pictures=some, tested=range(N))).intervals["r_i - r_o, jigsaw"]
    test, ood = Side(base, 0.6 * base + own, np.arange(N)), Side(before, after, tested)
    assert right == pytest.approx(intervals(test, ood, draws=30)["r_i - r_o"], abs=1e-5)
    assert wrong[1] - wrong[0] > 1.2 * (right[1] - right[0])


def test_ood_that_lost_all_has_no_q() -> None:
    found = look(made({**EVEN, "noise": 1.3}))
    assert "q, noise" not in found.values and "predicted AUROC, noise" not in found.intervals and found.values["r_o, noise"] > 1
    assert found.outcome == "passed"


def test_it_is_skipped_without_a_reference() -> None:
    found = look(made(EVEN, reference=None))
    assert found.outcome == "skipped" and "give --reference" in found.said


def test_it_does_not_apply_to_groups_and_to_logits_below_0() -> None:
    some = made(EVEN)
    assert some.reference is not None
    grouped = classifier(5, groups=torch.tensor([-1, 2, -1, 0, 1]))
    assert look(made(EVEN, classifier=grouped)).outcome == "not applicable"
    head = Head(torch.zeros(3, 1), torch.zeros(3), groups=torch.tensor([-1, 1, 0]))
    theirs = Outputs(logits=some.reference.test.logits, head=head)
    assert look(made(EVEN, reference=Reference("plain", theirs, some.reference.ood))).outcome == "not applicable"
    low = Reference("plain", said(-BEFORE["test"]), some.reference.ood)
    assert look(made(EVEN, reference=low)).outcome == "not applicable"
    none = Reference("plain", some.reference.test, {name: said(-BEFORE[name]) for name in MADE_OF})
    assert look(made(EVEN, reference=none)).outcome == "not applicable"
    near = Reference("plain", some.reference.test, {"mixup": some.reference.ood["mixup"]})
    assert look(made(EVEN, reference=near)).outcome == "not applicable"


def test_a_set_of_which_nothing_can_be_lost_or_that_is_missing_is_left_out() -> None:
    some = made({**EVEN, "test": 0.6})
    assert some.reference is not None
    ood = {"jigsaw": some.reference.ood["jigsaw"], "noise": said(-BEFORE["noise"])}
    found = look(made({**EVEN, "test": 0.6}, reference=Reference("plain", some.reference.test, ood)))
    assert found.evidence is not None and list(found.evidence.x) == ["jigsaw"] and found.outcome == "issue"


def test_the_same_each_time() -> None:
    some = made({**EVEN, "test": 0.5})
    assert look(some).intervals == look(some).intervals

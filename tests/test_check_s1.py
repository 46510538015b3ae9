"""S1: which detectors would fail on a classifier, and whether the one in use is among them."""

from __future__ import annotations

import math

import pytest

from cases_scores import case, ranked, recommendation
from farfield.choose import Ranked
from farfield.diagnose.base import Finding
from farfield.diagnose.checks.detectors import BEHIND, FAILING

BEST = ranked("knn", 0.95)
NEAR = ranked("msp", 0.93, (0.02, 0.01, 0.03))
BAD = ranked("vim", 0.6, (0.35, 0.3, 0.4), ["It takes noise for more in-distribution than ID pictures (AUROC 31.0)."])


def look(*found: Ranked, refused: dict[str, str] | None = None, current: str = "msp") -> Finding:
    one = FAILING.look(case(recommendation=recommendation(*found, refused=refused), current=current))
    assert one.code == FAILING.code == "S1"
    return one


def test_quiet_where_nothing_speaks_against_any() -> None:
    found = look(BEST, NEAR)
    assert found.outcome == "passed" and not found.do and not found.command
    assert (
        found.said.startswith("msp, the detector in use, is 2.0 points of mean AUROC behind knn")
        and "Nothing speaks against any of the 2" in found.said
    )
    assert look(BEST, NEAR, current="knn").said.startswith("knn, the detector in use, is the best of them.")


def test_that_others_would_fail_is_a_tip() -> None:
    found = look(BEST, NEAR, BAD, refused={"odin": "ODIN needs pictures."})
    assert found.outcome == "tip" and not found.do
    assert (
        "1 of the 3 detectors that take this classifier would fail: vim (It takes noise for more in-distribution than ID pictures (AUROC 31.0))."
        in found.said
    )
    assert "1 refuse it: odin (ODIN needs pictures)." in found.said
    assert found.values["would fail"] == 1 and found.values["refused"] == 1
    assert found.values["AUROC, vim"] == 0.6 and found.values["behind, vim"] == 0.35 and found.intervals["behind, vim"] == (0.3, 0.4)
    assert found.intervals["AUROC, knn"] == pytest.approx((0.93, 0.97)) and "behind, knn" not in found.values
    assert found.command == "farfield recommend MODEL --id-train TRAIN --id-cal HELD_OUT"


def test_the_detector_in_use_would_fail() -> None:
    worse = ranked("mahalanobis", 0.5, (0.45, 0.4, 0.5), ["Its covariance is singular.", "It takes mixup for more in-distribution."])
    found = look(BEST, NEAR, worse, BAD, current="mahalanobis")
    assert found.outcome == "issue" and found.do == "Take knn in place of mahalanobis."
    assert "mahalanobis, the detector in use, would fail here: Its covariance is singular; It takes mixup for more in-distribution." in found.said
    assert "1 of the 4 detectors that take this classifier would fail too: vim" in found.said
    assert found.values["would fail"] == 2


def test_the_detector_in_use_is_refused() -> None:
    found = look(BEST, NEAR, refused={"mos": "It needs a head with groups."}, current="mos")
    assert found.outcome == "issue" and "mos, the detector in use, refuses this classifier: It needs a head with groups." in found.said
    assert "refuse it" not in found.said and found.evidence is not None and [one.name for one in found.evidence.series] == ["compared"]


@pytest.mark.parametrize(
    ("behind", "outcome"),
    [
        ((0.08, 0.02, 0.14), "issue"),
        ((BEHIND, 0.04, 0.06), "passed"),  # not more than that
        ((0.08, -0.01, 0.17), "passed"),  # may be chance
        ((0.04, 0.03, 0.05), "passed"),
    ],
)
def test_how_far_behind_is_an_issue(behind: tuple[float, float, float], outcome: str) -> None:
    found = look(BEST, ranked("msp", 0.87, behind))
    assert found.outcome == outcome
    if outcome == "issue":
        assert "is 8.0 points of mean AUROC (2.0 to 14.0) behind knn, the best" in found.said and found.do == "Take knn in place of msp."


def test_where_all_would_fail_none_is_recommended() -> None:
    found = look(ranked("msp", 0.5, reasons=["It takes noise for ID."]), BAD)
    assert found.outcome == "issue" and "against every detector" in found.do


def test_the_bars_are_the_ranking_with_the_one_in_use_by_itself() -> None:
    evidence = look(BEST, NEAR, BAD).evidence
    assert evidence is not None and list(evidence.x) == ["knn", "msp", "vim"]
    others, mine = evidence.series
    assert mine.name == "msp (in use)" and mine.y[1] == pytest.approx(93) and (mine.low[1], mine.high[1]) == pytest.approx((91, 95))
    assert [others.y[0], others.y[2]] == pytest.approx([95, 60]) and [others.low[2], others.high[2]] == pytest.approx([58, 62])
    assert all(map(math.isnan, (others.y[1], others.low[1], mine.y[0], mine.high[2])))


def test_one_detector_is_compared_with_none() -> None:
    assert look(ranked("msp")).outcome == "not applicable"
    assert look(ranked("knn"), refused={"msp": "No."}).outcome == "issue"


def test_it_is_skipped_where_the_detector_in_use_was_not_compared() -> None:
    found = look(BEST, BAD)
    assert found.outcome == "skipped" and "knn, vim" in found.said

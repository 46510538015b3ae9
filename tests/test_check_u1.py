"""U1: which families of noise detectors take for ID."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from cases_scores import case, pictures, ranked, recommendation
from farfield.diagnose.base import Case, Finding
from farfield.diagnose.checks.unit_tests import UNIT_TESTS, families, rates

NAMES = ("white", "black", "blobs")
PARTS = {name: slice(100 * i, 100 * (i + 1)) for i, name in enumerate(NAMES)}
TEST = np.arange(1000.0)  # 95 % of it are 50 or more


def noise(accepted: Sequence[int]) -> np.ndarray:
    """Scores of noise, of each family so many as high as ID's, the later the higher."""
    return np.concatenate([np.where(np.arange(100) < 100 - many, -1.0, 500.0 + np.arange(100)) for many in accepted])


def made(accepted: Mapping[str, Sequence[int]], best: str = "knn", **given: Any) -> Case:
    scores = {name: {"test": TEST, "noise": noise(many), "mixup": TEST[:5]} for name, many in accepted.items()}
    some = {"test": pictures("test", 1000), "noise": pictures("noise", 300, parts=PARTS)}
    return case(pictures=some, scores=scores, recommendation=recommendation(ranked(best)), **given)


def look(some: Case) -> Finding:
    found = UNIT_TESTS.look(some)
    assert found.code == UNIT_TESTS.code == "U1"
    return found


GOOD = {"maxlogit": (0, 0, 0), "mahalanobis": (10, 0, 0), "relative-mahalanobis": (0, 3, 0)}


def test_the_recommended_detector_that_fails_is_an_issue() -> None:
    found = look(made({"knn": (40, 10, 90), "msp": (0, 11, 90), "vim": (0, 11, 0), **GOOD}))
    assert found.outcome == "issue"
    assert "Of 3 families of noise, knn fails 2; maxlogit fails 0; mahalanobis fails 0; relative-mahalanobis fails 0." in found.said
    assert "takes 90 % (" in found.said and "of blobs for ID" in found.said
    assert found.values["knn, failed"] == 2 and found.values["knn, white"] == 0.4 and found.values["mahalanobis, white"] == 0.1
    assert "msp, failed" not in found.values  # only the unit tests' detectors and the recommended one are told of
    assert found.do == "Where such pictures may come, take maxlogit, which fails 0 of 3, the fewest of the 6 detectors compared."
    # the highest of the families failed, two of each, the surest first
    assert [(one.of, one.row) for one in found.shown] == [("noise", 99), ("noise", 299), ("noise", 98), ("noise", 298)]
    assert found.shown[0].caption == "white: above 60 % of ID"
    assert found.evidence is not None and found.evidence.limit == 10 and list(found.evidence.x) == list(NAMES)
    assert [series.name for series in found.evidence.series] == ["knn (recommended)", "maxlogit", "mahalanobis", "relative-mahalanobis"]
    assert list(found.evidence.series[0].y) == [40, 10, 90]
    assert all(low <= y <= high for s in found.evidence.series for low, y, high in zip(s.low, s.y, s.high, strict=True))


def test_the_detector_that_fails_fewest_may_be_one_beside_the_unit_tests() -> None:
    found = look(made({"knn": (40, 40, 90), "gen": (0, 11, 0), "vim": (0, 11, 90)}))
    assert "take gen, which fails 1 of 3" in found.do
    alike = look(made({"gen": (40, 0, 0), "knn": (40, 0, 0)}))
    assert alike.do == "Take knn: none of the 2 detectors compared fails fewer families."


def test_what_may_be_chance_is_a_tip() -> None:
    found = look(made({"knn": (12, 0, 0), **GOOD}))
    assert found.outcome == "tip" and "may be chance" in found.said
    assert found.intervals["knn, white"][0] < 0.1 < 0.12 < found.intervals["knn, white"][1]
    assert [one.row for one in found.shown] == [99, 98]


def test_that_only_others_fail_is_a_tip() -> None:
    found = look(made({"knn": (0, 5, 0), "maxlogit": (90, 90, 90)}))
    assert found.outcome == "tip" and "maxlogit fails 3" in found.said and not found.shown
    assert found.do == "Take knn: none of the 2 detectors compared fails fewer families."


def test_quiet_where_at_most_a_tenth_is_accepted() -> None:
    found = look(made({"knn": (10, 0, 10), **GOOD}))
    assert found.outcome == "passed" and not found.do and not found.shown


def test_the_recommended_detector_may_be_one_of_the_unit_tests() -> None:
    found = look(made({"maxlogit": (90, 0, 0), "mahalanobis": (0, 0, 0)}, best="maxlogit"))
    assert found.outcome == "issue" and found.evidence is not None and len(found.evidence.series) == 2


def test_at_most_eight_pictures_and_two_of_a_family() -> None:
    parts = {f"family {i}": slice(10 * i, 10 * i + 10) for i in range(6)}
    some = {"noise": pictures("noise", 60, parts=parts)}
    found = look(case(pictures=some, scores={"knn": {"test": TEST, "noise": 500.0 + np.arange(60)}}, recommendation=recommendation(ranked("knn"))))
    assert [one.row for one in found.shown] == [59, 58, 49, 48, 39, 38, 29, 28]


def test_only_what_is_accepted_is_shown() -> None:
    parts = {"one": slice(0, 5)}
    score = np.array([-1.0, 60.0, -2.0, -3.0, -4.0])
    found = look(
        case(
            pictures={"noise": pictures("noise", 5, parts=parts)},
            scores={"knn": {"test": TEST, "noise": score}},
            recommendation=recommendation(ranked("knn")),
        )
    )
    assert [one.row for one in found.shown] == [1]


def test_without_noise_it_does_not_apply_and_without_scores_it_is_skipped() -> None:
    assert look(case()).outcome == "not applicable"
    assert look(case(pictures={"noise": pictures("noise", 300)})).outcome == "not applicable"  # no families
    found = look(made({"maxlogit": (90, 0, 0)}))
    assert found.outcome == "skipped" and "knn" in found.said


def test_rates_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    for n in (19, 20, 101, 400):
        test, score = rng.normal(size=n).round(1), rng.normal(-1, size=300).round(1)
        threshold = max(t for t in test if sum(float(s >= t) for s in test) >= 0.95 * n - 1e-9)
        expected = {name: sum(float(s >= threshold) for s in score[part]) / 100 for name, part in PARTS.items()}
        assert rates(test, score, PARTS) == pytest.approx(expected)
        assert {name: one.rate for name, one in families(test, score, PARTS).items()} == pytest.approx(expected)


def test_intervals_hold_the_rate_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        [one] = families(rng.uniform(size=400), rng.uniform(-0.7, 0.3, size=100), {"one": slice(0, 100)}).values()
        held += one.interval[0] <= 0.25 <= one.interval[1]  # of the uniform scores, those from 0.05 to 0.3
    assert held >= 54

"""F1: the effective rank of the training features."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cases_outputs import case, drawn, flat_head, of_logits, said, stored, turns
from farfield.diagnose.checks.spread import COLLAPSED, EFFECTIVE_RANK, participation
from farfield.outputs import Outputs


def features(n: int = 300, d: int = 8, classes: int = 3, scale: float = 1.0) -> Outputs:
    labels = turns(n, classes)
    x = drawn(n, d) * torch.linspace(0.5, 2.0, d) + scale * drawn(classes, d, seed=1)[labels] + 100
    return said(x, labels, flat_head(classes, d))


def spectrum(x: np.ndarray) -> list[float]:
    """Eigenvalues of the covariance, by a loop over samples in float64, and numpy's general solver."""
    mean = x.mean(0)
    total = np.zeros((x.shape[1], x.shape[1]))
    for row in x:
        total += np.outer(row - mean, row - mean) / len(x)
    return sorted((max(float(value.real), 0.0) for value in np.linalg.eigvals(total)), reverse=True)


def test_figures_are_those_of_the_definition() -> None:
    train = features()
    found = EFFECTIVE_RANK.look(case(train, train[:30]))
    assert train.features is not None
    values = spectrum(train.features.double().numpy())
    shares = [value / sum(values) for value in values]
    assert found.outcome == "passed"
    assert found.values["effective rank"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-8)
    assert found.values["participation ratio"] == pytest.approx(sum(values) ** 2 / sum(value**2 for value in values), rel=1e-8)
    assert (found.values["rank"], found.values["features"], found.values["samples"]) == (8, 8, 300)
    assert found.evidence is not None
    assert found.evidence.series[0].y == pytest.approx([math.log10(value / values[0]) for value in values], abs=1e-7)
    assert found.evidence.x == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_stream_gives_the_same(tmp_path: Path) -> None:
    train = features()
    whole, streamed = (EFFECTIVE_RANK.look(case(data, train[:30])) for data in (train, stored(train, tmp_path)))
    assert streamed.values == pytest.approx(whole.values, rel=1e-12)


def test_no_more_samples_than_features_is_an_issue() -> None:
    for n, outcome in ((8, "issue"), (9, "passed")):
        train = features(n)
        found = EFFECTIVE_RANK.look(case(train, train))
        assert found.outcome == outcome
        assert found.values["rank"] == n - 1
    assert "KNN" in EFFECTIVE_RANK.look(case(features(8), features(8))).do


def test_features_within_what_vim_takes_away_are_an_issue() -> None:
    train = features()
    assert train.features is not None
    for kept, outcome in ((4, "issue"), (5, "tip"), (8, "passed")):  # ViM takes away 4 of 8; more than a tenth without variance is a tip
        x = train.features.clone()
        x[:, kept:] = 7.0
        found = EFFECTIVE_RANK.look(case(said(x, train.labels, train.head), train[:30]))
        assert (found.outcome, found.values["rank"]) == (outcome, kept)
        assert ("ViM" in found.said) == (outcome == "issue")
        assert found.values["share of directions without variance"] == pytest.approx(1 - kept / 8)


def test_collapsed_features_are_a_tip() -> None:
    d = classes = 30
    for size, outcome in ((1.0, "passed"), (1000.0, "tip")):
        x = drawn(900, d)
        x[:, 0] *= size
        labels = turns(900, classes)
        found = EFFECTIVE_RANK.look(case(said(x, labels, flat_head(classes, d)), said(x[:30], labels[:30], flat_head(classes, d))))
        assert found.outcome == outcome
        assert (found.values["effective rank"] < COLLAPSED * (classes - 1)) == (outcome == "tip")
    # of three classes two directions are enough
    assert EFFECTIVE_RANK.look(case(said(x, turns(900, 3), flat_head(3, d)), said(x[:30], turns(30, 3), flat_head(3, d)))).outcome == "passed"


def test_features_that_are_one_point_are_an_issue() -> None:
    train = said(torch.ones(20, 4), turns(20, 3))
    assert EFFECTIVE_RANK.look(case(train, train)).outcome == "issue"


def test_not_applicable_without_features_and_skipped_with_nan() -> None:
    assert EFFECTIVE_RANK.look(of_logits(drawn(5, 3))).outcome == "not applicable"
    train = features()
    assert train.features is not None
    bad = train.features.clone()
    bad[17, 2] = torch.nan
    found = EFFECTIVE_RANK.look(case(said(bad, train.labels, train.head), train[:30]))
    assert found.outcome == "skipped" and "row 17" in found.said
    found = EFFECTIVE_RANK.look(case(train, said(bad[:30], train.labels[:30] if train.labels is not None else None, train.head)))
    assert found.outcome == "skipped" and "row 17" in found.said
    assert EFFECTIVE_RANK.look(case(said(train.features, None, train.head), train[:30])).outcome == "skipped"


def test_participation_of_one_direction() -> None:
    assert participation(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)) == 1


def test_a_wide_spectrum_is_drawn_in_part_with_both_ends() -> None:
    d = 500
    x = drawn(700, d)
    found = EFFECTIVE_RANK.look(case(said(x, turns(700, 3), flat_head(3, d)), said(x[:5], turns(5, 3), flat_head(3, d))))
    assert found.evidence is not None
    assert len(found.evidence.x) == len(found.evidence.series[0].y) <= 200
    assert (found.evidence.x[0], found.evidence.x[-1], found.evidence.series[0].y[0]) == (1, d, 0)

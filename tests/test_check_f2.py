"""F2: scatter within and between classes, of training and of held-out features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cases_outputs import case, drawn, flat_head, of_logits, said, turns
from farfield.diagnose.base import Case
from farfield.diagnose.checks.spread import WITHIN_BETWEEN


def made(narrow: float = 1.0, d: int = 6, classes: int = 4, n: int = 400) -> Case:
    """Training features about their means by `narrow`, and held-out features by 1."""
    means = 5 * drawn(classes, d, seed=9)
    labels = torch.cat([turns(n - 40, classes), torch.zeros(40).long()])  # one class has more
    head = flat_head(classes, d)
    train = said(means[labels] + narrow * drawn(n, d, seed=1), labels, head)
    held = said(means[turns(200, classes)] + drawn(200, d, seed=2), turns(200, classes), head)
    return case(train, held)


def test_figures_are_those_of_the_definition() -> None:
    one = made(0.9)
    found = WITHIN_BETWEEN.look(one)
    x, y = one.train.features.double().numpy(), one.train.labels.numpy()  # type: ignore[union-attr]
    h, g = one.test.features.double().numpy(), one.test.labels.numpy()  # type: ignore[union-attr]
    classes, d = 4, x.shape[1]
    means = [x[y == c].mean(0) for c in range(classes)]
    within, between, total = np.zeros((d, d)), np.zeros((d, d)), 0.0
    for row, label in zip(x, y, strict=True):
        within += np.outer(row - means[label], row - means[label]) / len(x)
        total += float(((row - x.mean(0)) ** 2).sum()) / len(x)
    middle = sum(means) / classes
    for mean in means:
        between += np.outer(mean - middle, mean - middle) / classes
    held = [float(((row - means[label]) ** 2).sum()) for row, label in zip(h, g, strict=True)]
    assert found.values["NC1"] == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / classes, rel=1e-7)
    assert found.values["share between classes"] == pytest.approx(1 - np.trace(within) / total, rel=1e-7)
    assert found.values["held-out over training"] == pytest.approx(np.mean(held) / np.trace(within), rel=1e-7)
    half = 1.96 * np.std(held, ddof=1) / math.sqrt(len(held)) / np.trace(within)
    assert found.intervals["held-out over training"] == pytest.approx(
        (np.mean(held) / np.trace(within) - half, np.mean(held) / np.trace(within) + half)
    )


def test_fires_where_training_features_are_too_narrow() -> None:
    found = WITHIN_BETWEEN.look(made(0.3))
    assert found.outcome == "tip" and found.values["held-out over training"] > 9 and "KNN" in found.do and found.command
    assert found.evidence is not None and found.evidence.series[0].y[1] == found.values["held-out over training"]


def test_is_quiet_where_new_pictures_lie_as_training_pictures() -> None:
    assert WITHIN_BETWEEN.look(made(1.0)).outcome == "passed"
    found = WITHIN_BETWEEN.look(made(0.66))
    assert found.outcome == "passed" and found.intervals["held-out over training"][0] < 2 < found.values["held-out over training"]


def test_no_variance_within_classes_is_an_issue() -> None:
    found = WITHIN_BETWEEN.look(made(0.0))
    assert found.outcome == "issue" and found.values["NC1"] == pytest.approx(0, abs=1e-10)


def test_a_class_without_training_samples_counts_for_nothing() -> None:
    one = made(1.0)
    assert one.train.labels is not None and one.test.features is not None and one.test.labels is not None  # type: ignore[union-attr]
    kept = one.train.labels != 1  # type: ignore[union-attr]
    fewer = case(one.train[kept], one.test)  # type: ignore[index]
    known = case(one.train[kept], one.test[one.test.labels != 1])  # type: ignore[index]
    assert WITHIN_BETWEEN.look(fewer).values == WITHIN_BETWEEN.look(known).values


def test_skipped_and_not_applicable() -> None:
    one = made()
    found = WITHIN_BETWEEN.look(case(one.train, one.test.having(labels=None)))
    assert found.outcome == "skipped" and found.values["NC1"] > 0
    assert WITHIN_BETWEEN.look(of_logits(drawn(5, 3))).outcome == "not applicable"
    single = said(drawn(20, 3), torch.zeros(20).long())
    assert WITHIN_BETWEEN.look(case(single, single)).outcome == "not applicable"

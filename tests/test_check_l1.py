"""L1: logits that smoothed labels or mixtures have flattened, seen from one classifier."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from cases_scores import case, classifier, outputs
from farfield import metrics
from farfield.classifier import Classifier
from farfield.collect import collect
from farfield.data import suites
from farfield.diagnose.base import Finding
from farfield.diagnose.checks.flattened import FLATTENED, LIMIT, smoothing, told
from farfield.outputs import Head, Outputs
from farfield.reproduce.networks import SHIPPED


def look(**given: Any) -> Finding:
    found = FLATTENED.look(case(**given))
    assert found.code == FLATTENED.code == "L1"
    return found


def world(n: int = 1000, classes: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of some shape and labels, about three in four of which have the largest one."""
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(n, classes)), rng.integers(classes, size=n)
    z[np.arange(n), y] += 2
    return z, y


def loss(z: np.ndarray, y: np.ndarray, b: float) -> float:
    """Cross-entropy on smoothed labels, in a loop."""
    total = 0.0
    for row, label in zip(z.tolist(), y.tolist(), strict=True):
        norm = math.log(sum(map(math.exp, row)))
        total -= sum(((1 - b) * (k == label) + b / len(row)) * (v - norm) for k, v in enumerate(row))
    return total / len(y)


def fitted(z: np.ndarray, y: np.ndarray, b: float) -> np.ndarray:
    """The same logits at the scale that is best for labels smoothed by b: where the loss' slope is 0."""
    step = 1e-5
    return z * brentq(lambda s: loss((s + step) * z, y, b) - loss((s - step) * z, y, b), 0.05, 8, xtol=1e-7)


@pytest.mark.parametrize("b", [0.0, 0.1, 0.3])
def test_at_the_optimum_of_smoothed_labels_it_is_their_smoothing(b: float) -> None:
    z, y = world(300)
    said = told(outputs(fitted(z, y, b), y))
    assert smoothing(said.lead, said.expected)[0] == pytest.approx(b, abs=2e-4)


def test_the_figures_are_those_of_a_loop() -> None:
    z, y = world(40)
    said = told(outputs(z, y))
    leads, expected = [], []
    for row, label in zip(np.float32(z).astype(float).tolist(), y.tolist(), strict=True):
        mean, norm = sum(row) / len(row), sum(map(math.exp, row))
        leads.append(row[label] - mean)
        expected.append(sum(math.exp(v) / norm * (v - mean) for v in row))
    assert said.lead == pytest.approx(leads) and said.expected == pytest.approx(expected)
    assert said.confidence == pytest.approx([max(map(math.exp, row)) / sum(map(math.exp, row)) for row in np.float32(z).astype(float)])
    assert said.right.mean() == np.mean([row.argmax() == label for row, label in zip(z, y, strict=True)])
    found, (low, high) = smoothing(said.lead, said.expected)
    assert found == pytest.approx(1 - sum(expected) / sum(leads))
    kept = [1 - (sum(expected) - e) / (sum(leads) - a) for a, e in zip(leads, expected, strict=True)]  # the jackknife, an independent error
    error = math.sqrt(39 / 40 * sum((one - np.mean(kept)) ** 2 for one in kept))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05) and (low + high) / 2 == pytest.approx(found)


def test_a_constant_in_a_pictures_logits_changes_nothing() -> None:
    z, y = world()
    moved = look(train=outputs(z + 50 * np.arange(1000)[:, None] / 1000, y), test=outputs(z, y))
    assert moved.values["smoothing"] == pytest.approx(look(train=outputs(z, y), test=outputs(z, y)).values["smoothing"], abs=1e-5)


@pytest.mark.parametrize(("b", "outcome"), [(0.0, "passed"), (0.1, "issue")])
def test_it_fires_for_smoothed_labels_and_not_for_plain_ones(b: float, outcome: str) -> None:
    z, y = world(3000)
    z = fitted(z, y, b)
    held, labels = world(500, seed=1)
    mixed = {share: outputs((1 - share) * held, labels) for share in (0.1, 0.5)}
    found = look(train=outputs(z, y), test=outputs(held, labels, np.abs(held)), mixed=mixed)
    assert found.outcome == outcome
    assert found.intervals["smoothing"][0] < found.values["smoothing"] < found.intervals["smoothing"][1]
    assert (found.command == "farfield finetune augdelete --model MODEL --data TRAIN --out NEW") == (outcome == "issue") == ("AugDelete" in found.do)
    for share, one in mixed.items():
        assert one.logits is not None
        assert found.values[f"AUROC over mixtures, {share:g}"] == pytest.approx(metrics.auroc(np.float32(held).max(1), one.logits.amax(1).numpy()))
    centred = held - held.mean(1, keepdims=True)
    assert found.values["maximal logit"] == pytest.approx(centred.max(1).mean(), rel=1e-6)
    assert found.values["maximal logit, spread"] == pytest.approx(centred.max(1).std(ddof=1), rel=1e-6)
    assert found.values["gap to the second"] == pytest.approx(np.mean([sorted(row)[-1] - sorted(row)[-2] for row in held]), rel=1e-5)
    assert "correlation with the length of the features" in found.values
    assert found.evidence is not None and len(found.evidence.x) == 21
    assert all(sum(series.y) == pytest.approx(100) for series in found.evidence.series)


def test_it_needs_the_interval_above_the_limit() -> None:
    z, y = world(3000)
    z = fitted(z, y, LIMIT + 0.004)
    few, many = look(train=outputs(z[:100], y[:100])), look(train=outputs(np.tile(z, (30, 1)), np.tile(y, 30)))
    assert few.intervals["smoothing"][0] < LIMIT and few.outcome == "passed"
    assert many.values["smoothing"] > LIMIT and many.outcome == "issue"


def test_the_correlation_is_of_ranks() -> None:
    z = np.zeros((30, 4))
    z[:, 0] = np.arange(1, 31)
    test = outputs(z, np.zeros(30, dtype=int), np.exp(np.arange(30.0))[:, None])
    assert look(train=test, test=test).values["correlation with the length of the features"] == pytest.approx(1)
    same = outputs(z, np.zeros(30, dtype=int), np.ones((30, 1)))
    assert "correlation with the length of the features" not in look(train=same, test=same).values


def test_what_cannot_be_used_is_left_out() -> None:
    z, y = world(100)
    bad = outputs(np.vstack([z, np.full((1, 6), np.nan), np.full((1, 6), 99.0)]), [*y, 0, -1])
    assert look(train=bad, test=outputs(z, y)).values == look(train=outputs(z, y), test=outputs(z, y)).values


def test_it_does_not_apply_to_groups_and_two_classes() -> None:
    z, y = world(100)
    grouped = classifier(5, groups=torch.tensor([-1, 2, -1, 0, 1]))
    assert look(classifier=grouped, train=outputs(z, y), test=outputs(z, y)).outcome == "not applicable"
    two = outputs(z[:, :2], y % 2)
    assert look(train=two, test=two).outcome == "not applicable"
    three = outputs(z[:, :3], y % 3)
    assert look(train=three, test=three).outcome != "not applicable"


@pytest.mark.parametrize("labels", [None, [-1] * 100, [0] * 19 + [-1] * 81])
def test_it_is_skipped_without_labels(labels: Any) -> None:
    z, y = world(100)
    found = look(train=outputs(z, labels), test=outputs(z, y))
    assert found.outcome == "skipped" and "labelled ID training pictures" in found.said


def test_it_is_skipped_where_the_labels_are_in_another_order() -> None:
    z, y = world(100)
    found = look(train=outputs(-z, y), test=outputs(z, y))
    assert found.outcome == "skipped" and "order of the labels" in found.said


def test_training_data_come_in_chunks() -> None:
    z, y = world(3000)
    whole = outputs(z, y)
    assert told([whole[:1700], whole[1700:]]).lead == pytest.approx(told(whole).lead)


@pytest.mark.parametrize(("name", "outcome"), [("cross-entropy", "passed"), ("label-smoothing", "issue")])
def test_networks_of_glyphs(name: str, outcome: str) -> None:
    network = Classifier.load(str(SHIPPED / f"{name}.safetensors"))
    some = suites.load("glyphs-200").split("calibration")
    said: Outputs = collect(network, some.only(torch.arange(0, len(some), len(some) // 600)))
    assert look(classifier=network, train=said, test=said).outcome == outcome


def test_one_more_head_is_the_remedy() -> None:
    """After a head that is best for plain labels it is quiet: what it tells to do does away with what it saw."""
    z, y = world(3000)
    flat: Tensor = torch.as_tensor(fitted(z, y, 0.3), dtype=torch.float64)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([scale], max_iter=50)

    def step() -> Tensor:
        descent.zero_grad()
        value = torch.nn.functional.cross_entropy(scale * flat, torch.as_tensor(y))
        value.backward()
        return value

    descent.step(step)
    head = Head(scale.detach().float() * torch.eye(6), torch.zeros(6))
    before, after = outputs(flat, y), outputs(head(flat.float()), y)
    assert look(train=before, test=before).outcome == "issue" and look(train=after, test=after).outcome == "passed"

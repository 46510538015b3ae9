"""H2: cosines and norms of the weights of the head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from cases_outputs import case, drawn, grouped_head, of_logits, said, turns
from farfield.diagnose.base import Case
from farfield.diagnose.checks import weights
from farfield.diagnose.checks.weights import WEIGHTS, nearest_rows
from farfield.outputs import Head

NAMES = ("cat", "dog", "cow", "hen", "pig", "owl")


def made(weight: Tensor, labels: Tensor | None = None, bias: Tensor | None = None) -> Case:
    head = Head(weight, torch.zeros(len(weight)) if bias is None else bias)
    labels = turns(60, len(weight)) if labels is None else labels
    train = said(drawn(len(labels), weight.shape[1]), labels, head)
    return case(train, train[:5], names=NAMES)


def apart() -> Tensor:
    return torch.cat([torch.eye(6), 0.3 * drawn(6, 3)], 1) + 40.0  # what all share changes no softmax


def by_hand(weight: Tensor) -> np.ndarray:
    w = weight.double().numpy() - weight.double().numpy().mean(0)
    return np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in w] for a in w])


def test_figures_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    bias = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    one = made(apart(), bias=bias)
    cosines = by_hand(apart()) - 9 * np.eye(6)
    w = apart().double().numpy() - apart().double().numpy().mean(0)
    norms = [float(np.sqrt((row * row).sum())) for row in w]
    for rows in (1024, 4):  # compared all at once, and four at a time
        monkeypatch.setattr(weights, "ROWS", rows)
        found = WEIGHTS.look(one)
        assert found.outcome == "passed"
        assert found.values["largest cosine"] == pytest.approx(cosines.max(), abs=1e-5)
        assert found.values["largest norm over the smallest"] == pytest.approx(max(norms) / min(norms), rel=1e-5)
        assert found.values["spread of the biases"] == pytest.approx(np.std(bias.numpy()), rel=1e-5)
        assert found.values["nearly parallel pairs"] == 0
        best, whose = nearest_rows(apart().double())
        assert best.numpy() == pytest.approx(cosines.max(1)) and whose.tolist() == cosines.argmax(1).tolist()
        assert found.evidence is not None
        assert list(found.evidence.series[0].y) == pytest.approx(sorted(cosines.max(1), reverse=True), abs=1e-5)


@pytest.mark.parametrize(("off", "outcome"), [(0.0, "issue"), (0.25, "tip"), (1.0, "passed")])
def test_fires_for_parallel_classes_and_names_them(off: float, outcome: str) -> None:
    weight = apart()
    other = weight[1].clone()
    weight[4] = weight[1]
    weight[4, 8] += off
    found = WEIGHTS.look(made(weight))
    assert found.outcome == outcome
    assert found.values["nearly parallel pairs"] == (outcome != "passed")
    assert ('"dog" and "pig"' in found.said) == (outcome != "passed")
    assert torch.equal(other, apart()[1])


def test_norms_that_go_with_samples_are_a_tip() -> None:
    size = torch.linspace(1, 3, 12)
    weight = size[:, None] * torch.eye(12)
    for many, outcome in (
        (torch.arange(4, 16), "tip"),
        (torch.arange(12, 24), "passed"),
        (torch.full((12,), 9), "passed"),
        (torch.arange(15, 3, -1), "tip"),
    ):
        labels = torch.repeat_interleave(torch.arange(12), many)
        found = WEIGHTS.look(made(weight, labels))
        assert found.outcome == outcome, many
        if many[0] != many[-1]:
            w = weight.numpy() - weight.numpy().mean(0)
            rho = spearmanr(many.numpy(), [np.sqrt(row @ row) for row in w]).statistic
            assert found.values["correlation of norms with samples"] == pytest.approx(rho)
        else:
            assert "correlation of norms with samples" not in found.values


def test_two_classes_are_never_parallel() -> None:
    found = WEIGHTS.look(made(torch.ones(2, 4) + 0.01 * drawn(2, 4)))
    assert found.outcome == "passed" and found.values["largest cosine"] == pytest.approx(-1)


def test_a_class_without_weights_of_its_own_is_parallel_to_none() -> None:
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])
    best, _ = nearest_rows(weight.double())
    assert best.tolist() == pytest.approx([0, 0, 0, 0, 0])
    assert WEIGHTS.look(made(weight)).outcome == "passed"


def test_not_applicable_and_skipped() -> None:
    assert WEIGHTS.look(of_logits(drawn(5, 3))).outcome == "not applicable"
    grouped = said(drawn(30, 4), turns(30, 3), grouped_head(4))
    assert WEIGHTS.look(case(grouped, grouped)).outcome == "not applicable"
    one = made(apart())
    assert WEIGHTS.look(case(one.train.having(labels=None), one.test)).outcome == "skipped"  # type: ignore[union-attr]

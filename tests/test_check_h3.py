"""H3: calibration on held-out ID pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor

from cases_outputs import case, drawn, grouped_head, headless, of_logits, said, turns
from farfield.diagnose.base import Case
from farfield.diagnose.checks.calibration import BINS, CALIBRATION, debiased, ece, ece_interval, without_chance
from farfield.metrics import proportion_interval
from farfield.stats import hashed

TOY = headless(4)


def made(temperature: float = 1.0, n: int = 2000, seed: int = 0) -> Case:
    """Labels drawn from the softmax, and logits that say so at another temperature."""
    logits = 2 * drawn(n, 4, seed=seed).double()
    labels = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(seed + 1))[:, 0]
    return of_logits(temperature * logits, labels, classifier=TOY)


def sure(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    found = [], []
    for row, label in zip(logits.double().numpy(), labels.tolist(), strict=True):
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        found[0].append(float(p.max()))
        found[1].append(int(p.argmax()) == label)
    return np.array(found[0]), np.array(found[1])


def by_hand(confidence: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Both errors, bin by bin; bins of 15 that are as large as each other."""
    pairs = sorted(zip(confidence.tolist(), right.tolist(), strict=True))
    assert len(pairs) % BINS == 0
    size, plain, squares = len(pairs) // BINS, 0.0, 0.0
    for b in range(BINS):
        mine = pairs[b * size : (b + 1) * size]
        acc, conf = sum(hit for _, hit in mine) / size, sum(p for p, _ in mine) / size
        plain += abs(acc - conf) / BINS
        squares += ((acc - conf) ** 2 - acc * (1 - acc) / (size - 1)) / BINS
    return plain, max(squares, 0.0) ** 0.5


@pytest.mark.parametrize("temperature", [1.0, 1.8])  # bins off to either side, and all to one
def test_figures_are_those_of_the_definition(temperature: float) -> None:
    one = made(temperature, n=1500)
    assert one.test.logits is not None and one.test.labels is not None
    confidence, right = sure(one.test.logits, one.test.labels)
    plain, root = by_hand(confidence, right)
    found = CALIBRATION.look(one)
    assert found.values["ECE"] == pytest.approx(plain, abs=1e-12) == ece(confidence, right)
    assert found.values["debiased calibration error"] == pytest.approx(root, abs=1e-9) == debiased(confidence, right)
    assert found.values["confidence less accuracy"] == pytest.approx(confidence.mean() - right.mean())
    assert found.evidence is not None
    curve, diagonal = found.evidence.series
    first = np.argsort(confidence)[:100]
    assert (curve.y[0], diagonal.y[0]) == pytest.approx((right[first].mean(), confidence[first].mean()))
    assert (curve.low[0], curve.high[0]) == pytest.approx(tuple(proportion_interval(int(right[first].sum()), 100)))
    assert found.evidence.x == diagonal.y and len(curve.y) == BINS


def test_the_temperature_is_of_one_half_and_judged_on_the_other() -> None:
    one = made(2.0)
    assert one.test.logits is not None and one.test.labels is not None
    first = (hashed(torch.arange(2000), 0) % 2 == 0).numpy()
    v, y = one.test.logits.numpy(), one.test.labels.numpy()

    def loss(log_t: float) -> float:
        z = v[first] / np.exp(log_t)
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), y[first]]))

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-10}).x))
    found = CALIBRATION.look(one)
    assert found.values["temperature"] == pytest.approx(temperature, rel=1e-5)
    rest = torch.from_numpy(~first)
    before, after = (ece(*sure(one.test.logits[rest] / t, one.test.labels[rest])) for t in (1.0, temperature))
    assert found.values["ECE of the second half"] == pytest.approx(before, abs=1e-12)
    assert found.values["ECE of the second half at the temperature"] == pytest.approx(after, abs=1e-4)
    assert after < before / 2


@pytest.mark.parametrize(
    ("temperature", "outcome", "word"), [(1.0, "passed", ""), (1.2, "tip", "too sure"), (3.0, "issue", "too sure"), (0.4, "issue", "too unsure")]
)
def test_outcomes_go_by_the_low_end(temperature: float, outcome: str, word: str) -> None:
    found = CALIBRATION.look(made(temperature, n=4000))
    assert found.outcome == outcome and word in found.do
    low = found.intervals["ECE"][0]
    assert outcome == ("issue" if low > 0.05 else "tip" if low > 0.02 else "passed")
    assert ("--detector temperature" in found.command) == (outcome != "passed")


def test_few_pictures_of_a_calibrated_classifier_are_no_issue() -> None:
    """The ECE of 200 pictures is some 7 % by chance alone; the interval knows."""
    values, lows, highs = [], [], []
    for seed in range(40):
        one = made(1.0, n=200, seed=100 + 2 * seed)
        assert one.test.logits is not None and one.test.labels is not None
        confidence, right = sure(one.test.logits, one.test.labels)
        values.append(ece(confidence, right))
        low, high = ece_interval(confidence, right, draws=200)
        lows.append(low)
        highs.append(high)
    assert np.mean(values) > 0.05
    assert np.mean(np.array(lows) > 0.005) <= 0.1
    assert np.mean(np.array(highs) > 0.02) > 0.5


def test_the_interval_holds_the_error_that_there_is() -> None:
    """Confidence 0.9 and accuracy 0.7: the error is 0.2."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(40):
        low, high = ece_interval(np.full(600, 0.9), rng.random(600) < 0.7, draws=200)
        held += low <= 0.2 <= high
    assert held >= 34


def test_what_chance_adds_is_that_of_the_definition() -> None:
    """The ECE that bins are expected to have that are all off by g, by a numerical integral."""
    noise, gap = np.array([0.02, 0.05, 0.0, 0.11]), 0.03
    expected = np.mean([quad(lambda z, s=s: abs(gap + s * z) * norm.pdf(z), -12, 12, points=[-gap / s] if s else None)[0] for s in noise])
    assert without_chance(np.array([expected, 0.0]), noise) == pytest.approx([gap, 0.0], abs=1e-4)


def test_unlabelled_pictures_count_for_nothing() -> None:
    one = made(2.0, n=400)
    assert one.test.logits is not None and one.test.labels is not None
    more = of_logits(torch.cat([one.test.logits, 50 * drawn(100, 4).double()]), torch.cat([one.test.labels, torch.full((100,), -1)]), classifier=TOY)
    assert CALIBRATION.look(more).values == CALIBRATION.look(one).values


def test_labels_at_odds_with_the_logits_have_no_temperature() -> None:
    one = made(1.0, n=400)
    assert one.test.logits is not None and one.test.labels is not None
    found = CALIBRATION.look(of_logits(-one.test.logits, one.test.labels, classifier=TOY))
    assert found.outcome == "issue" and "temperature" not in found.values
    sure_of_all = 100.0 * torch.nn.functional.one_hot(turns(400, 4), 4)
    found = CALIBRATION.look(of_logits(sure_of_all, turns(400, 4), classifier=TOY))  # no temperature is low enough
    assert found.outcome == "passed" and found.values["ECE"] < 1e-9


def test_skipped_and_not_applicable() -> None:
    one = made(n=149)
    assert CALIBRATION.look(one).outcome == "skipped"
    assert CALIBRATION.look(made(n=150)).outcome != "skipped"
    assert CALIBRATION.look(of_logits(drawn(200, 4), None, classifier=TOY)).outcome == "skipped"
    assert CALIBRATION.look(of_logits(drawn(200, 1), torch.zeros(200).long())).outcome == "not applicable"
    grouped = said(drawn(200, 4), turns(200, 3), grouped_head(4))
    assert CALIBRATION.look(case(grouped, grouped)).outcome == "not applicable"
    bad = drawn(200, 4)
    bad[3] = torch.nan
    assert CALIBRATION.look(of_logits(bad, turns(200, 4), classifier=TOY)).outcome == "skipped"

"""F5: whether held-out features lie about their class means as the fitted Gaussians say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from cases_outputs import case, drawn, flat_head, of_logits, said, stored, turns
from farfield.diagnose.base import Case
from farfield.diagnose.checks.gaussian import GAUSSIAN, QUANTILES
from farfield.outputs import CHUNK

D, CLASSES = 5, 4


def made(wide: float = 1.0, tails: bool = False, n: int = 2 * CHUNK + 100, held: int = 400, uneven: bool = False) -> Case:
    mixing, means = drawn(D, D, seed=4), 9 * drawn(CLASSES, D, seed=9)

    def points(n: int, seed: int, size: float) -> tuple[torch.Tensor, torch.Tensor]:
        labels, z = turns(n, CLASSES), drawn(n, D, seed=seed)
        if tails:  # Student's t of 3 degrees of freedom
            z = z / (drawn(n, 3, seed=seed + 50).square().mean(1, keepdim=True)).sqrt()
        if uneven:
            z[labels == 0] *= 4
        return size * z @ mixing + means[labels] + 50, labels

    head = flat_head(CLASSES, D)
    return case(said(*points(n, 1, 1.0), head), said(*points(held, 2, wide), head))


def by_hand(one: Case) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances of training and held-out pictures, sample by sample."""
    x, y = one.train.features.double().numpy(), one.train.labels.numpy()  # type: ignore[union-attr]
    means = [np.mean([row for row, label in zip(x, y, strict=True) if label == c], axis=0) for c in range(CLASSES)]
    sigma = np.zeros((D, D))
    for row, label in zip(x, y, strict=True):
        sigma += np.outer(row - means[label], row - means[label]) / len(x)
    inverse = np.linalg.inv(sigma)

    def squares(features: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        return np.array([(f - means[c]) @ inverse @ (f - means[c]) for f, c in zip(features.double().numpy(), labels.numpy(), strict=True)])

    return squares(one.train.features, one.train.labels), squares(one.test.features, one.test.labels)  # type: ignore[union-attr, arg-type]


def test_figures_are_those_of_the_definition() -> None:
    one = made(1.2)
    found, (trained, held) = GAUSSIAN.look(one), by_hand(one)
    assert found.values["rank"] == D
    assert found.values["kurtosis over a Gaussian's"] == pytest.approx(np.mean(trained**2) / (D * (D + 2)), rel=1e-6)
    assert found.values["held-out distance over a Gaussian's"] == pytest.approx(held.mean() / D, rel=1e-6)
    assert found.values["share beyond the 95 % quantile"] == sum(float(h) > 11.0705 for h in held) / len(
        held
    )  # of chi-squared, 5 degrees, from a table
    own = np.array([(held <= h).mean() for h in held])
    apart = np.abs(np.concatenate([own, own - 1 / len(held)]) - np.tile(chi2.cdf(held, D), 2)).max()
    assert found.values["Kolmogorov-Smirnov"] == pytest.approx(apart, abs=1e-6)
    labels = one.train.labels.numpy()  # type: ignore[union-attr]
    scales = [trained[labels == c].mean() / D for c in range(CLASSES)]
    wide, narrow = (float(np.quantile(scales, q)) for q in (0.9, 0.1))
    assert found.values["scale of the widest tenth of classes over the narrowest"] == pytest.approx(wide / narrow, rel=1e-6)
    half = 1.96 * held.std() / len(held) ** 0.5 / D
    assert found.intervals["held-out distance over a Gaussian's"] == pytest.approx((held.mean() / D - half, held.mean() / D + half), rel=1e-6)
    assert found.evidence is not None
    assert found.evidence.series[0].y == pytest.approx(np.quantile(held, QUANTILES).tolist(), rel=1e-6)
    assert found.evidence.series[1].y == pytest.approx(np.quantile(trained, QUANTILES).tolist(), rel=1e-6)
    assert found.evidence.series[2].y == found.evidence.x == pytest.approx([chi2.ppf(q, D) for q in QUANTILES])


def test_a_stream_gives_the_same(tmp_path: Path) -> None:
    one = made(n=200)
    streamed = case(stored(one.train, tmp_path), one.test)  # type: ignore[arg-type]
    assert GAUSSIAN.look(streamed).values == pytest.approx(dict(GAUSSIAN.look(one).values), rel=1e-12)


def test_is_quiet_for_gaussians() -> None:
    found = GAUSSIAN.look(made())
    assert found.outcome == "passed"
    assert found.values["kurtosis over a Gaussian's"] == pytest.approx(1, abs=0.05)
    assert found.values["share beyond the 95 % quantile"] == pytest.approx(0.05, abs=0.03)


def test_fires_by_how_far_new_pictures_lie_out() -> None:
    wide, wider = GAUSSIAN.look(made(1.39)), GAUSSIAN.look(made(2.0))  # the mean is 1.93 and 4 times a Gaussian's
    assert (wide.outcome, wider.outcome) == ("tip", "issue")
    assert "relative-mahalanobis++" in wider.command and "KNN" in wider.do


def test_heavy_tails_and_uneven_classes_show_in_the_figures() -> None:
    assert GAUSSIAN.look(made(tails=True)).values["kurtosis over a Gaussian's"] > 2
    even, uneven = (GAUSSIAN.look(made(uneven=kind)).values["scale of the widest tenth of classes over the narrowest"] for kind in (False, True))
    assert even < 1.2 and uneven > 5


def test_skipped_and_not_applicable() -> None:
    one = made(n=100)
    found = GAUSSIAN.look(case(one.train, one.test.having(labels=None)))
    assert found.outcome == "skipped" and found.values["rank"] == D
    kept = one.train[turns(100, CLASSES) == 0]  # type: ignore[index]
    assert GAUSSIAN.look(case(kept, one.test[turns(400, CLASSES) == 1])).outcome == "skipped"  # type: ignore[arg-type]
    assert GAUSSIAN.look(of_logits(drawn(5, 3))).outcome == "not applicable"
    still = said(torch.ones(12, 3), turns(12, 3))
    assert GAUSSIAN.look(case(still, still)).outcome == "issue"

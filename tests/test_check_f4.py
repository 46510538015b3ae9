"""F4: whether features of pseudo-OOD are longer than those of ID pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cases_outputs import case, drawn, flat_head, of_logits, plain, said
from farfield.data.images import Images
from farfield.diagnose.base import Case
from farfield.diagnose.checks.norms import FEATURE_NORMS
from farfield.metrics import auroc_interval

D = 6


def made(sizes: Mapping[str, float], tested: Sequence[int] | None = None, n: int = 120, clusters: torch.Tensor | None = None) -> Case:
    head = flat_head(3, D)
    held = said(drawn(n, D), None, head)
    kinds = {name: said(size * drawn(90, D, seed=i + 1), None, head) for i, (name, size) in enumerate(sizes.items())}
    pictures = {} if clusters is None else {name: Images(name, plain(name, clusters).images, -torch.ones(90).long(), clusters) for name in kinds}
    return case(held, held, pseudo=kinds, tested=tested, pictures=pictures)


def by_hand(one: Case, name: str) -> float:
    held, ood = one.test.features[list(one.tested)].double().numpy(), one.pseudo[name].features.double().numpy()  # type: ignore[index, union-attr]
    hits = 0.0
    for x in held:
        for y in ood:
            a, b = sum(v * v for v in x) ** 0.5, sum(v * v for v in y) ** 0.5
            hits += 1.0 if a > b else 0.5 if a == b else 0.0
    return hits / len(held) / len(ood)


def test_figures_are_those_of_the_definition() -> None:
    one = made({"jigsaw": 0.8, "noise": 1.3}, tested=range(0, 120, 2))
    found = FEATURE_NORMS.look(one)
    for name in ("jigsaw", "noise"):
        assert found.values[f"AUROC, {name}"] == pytest.approx(by_hand(one, name), abs=1e-12)
    held, ood = (x.double().norm(dim=1).numpy() for x in (one.test.features[::2], one.pseudo["noise"].features))  # type: ignore[index, union-attr]
    usual = auroc_interval(held, ood)  # the same but for the degrees of freedom
    assert found.intervals["AUROC, noise"] == pytest.approx(tuple(usual), abs=0.01)
    assert found.values["ID"] == pytest.approx(float(np.median(np.sort(held)[: len(held) // 2 + 1][-2:][:1])))  # the lower median
    top = one.test.logits[::2].max(1).values.numpy()  # type: ignore[index]
    assert found.values["correlation with the maximum logit"] == pytest.approx(spearmanr(held, top).statistic)


def test_fires_for_a_kind_with_longer_features_alone() -> None:
    found = FEATURE_NORMS.look(made({"jigsaw": 0.8, "noise": 1.5, "channels": 1.0}))
    assert found.outcome == "tip" and found.said.startswith("The features of noise are longer") and found.command
    assert found.evidence is not None and [series.name for series in found.evidence.series] == ["ID", "jigsaw", "noise", "channels"]
    assert all(sum(series.y) == pytest.approx(100) for series in found.evidence.series)


def test_is_quiet_where_none_is_surely_longer() -> None:
    assert FEATURE_NORMS.look(made({"jigsaw": 0.7, "noise": 1.0})).outcome == "passed"


def test_pictures_of_few_sources_are_less_certain() -> None:
    assert FEATURE_NORMS.look(made({"noise": 1.2})).outcome == "tip"
    alone, sources = (
        FEATURE_NORMS.look(made({"noise": 1.2}, clusters=ids)).intervals["AUROC, noise"] for ids in (torch.arange(90), torch.arange(90) // 45)
    )
    assert alone != sources  # ID pictures 0 and 1 are what they were made of


def test_all_kinds_together_are_rarely_called_longer_by_chance() -> None:
    fired = 0
    head = flat_head(3, D)
    for seed in range(60):
        held = said(drawn(60, D, seed=1000 + seed), None, head)
        kinds = {name: said(drawn(60, D, seed=7000 + 10 * seed + i), None, head) for i, name in enumerate(("a", "b", "c", "d"))}
        fired += FEATURE_NORMS.look(case(held, held, classifier=CLASSIFIER, pseudo=kinds)).outcome == "tip"
    assert fired <= 5  # about 1.5 are to be expected, and 6 without the correction for four kinds


CLASSIFIER = made({}).classifier


def test_skipped_and_not_applicable() -> None:
    assert FEATURE_NORMS.look(made({})).outcome == "skipped"
    assert FEATURE_NORMS.look(of_logits(drawn(5, 3))).outcome == "not applicable"

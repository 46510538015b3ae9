"""Detectors ranked on pseudo-OOD: the figures against loops over the scores, who comes first and why, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import farfield as ff
from farfield import metrics
from farfield.benchmark.run import scores_path
from farfield.choose import Material, Recommendation, compare, recommend
from farfield.choose.comparison import KINDS, LEFT, PSEUDO, Comparison, some, split, weights
from farfield.choose.pseudo import Without, folds, invented, partners
from farfield.choose.recommend import _ranked
from farfield.data.transforms import Normalize
from farfield.detectors import CATALOGUE, parse
from farfield.errors import InputError
from farfield.metrics import Linked, placements
from farfield.outputs import Head, Outputs
from six_classes import classifier, pictures

NAMES = ("msp", "maxlogit", "mahalanobis", "knn:k=3", "temperature")


KEPT = classifier()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recommendation]:
    out = tmp_path_factory.mktemp("recommend")
    return out, recommend(
        KEPT, pictures("train", 600, 0), pictures("held", 240, 1), detectors={name: parse(name) for name in NAMES}, out=out, command="as typed"
    )


def test_every_kind_is_judged_as_a_loop_does(found: tuple[Path, Recommendation]) -> None:
    out, made = found
    scores = load_file(scores_path(out, PSEUDO, "random"))
    assert {one.detector for one in made.ranked} == set(NAMES) and not made.refused
    for one in made.ranked:
        assert set(one.kinds) == set(KINDS)
        s_in = scores[f"{one.detector}/test"].double().numpy()
        for kind in ("mixup", "jigsaw", "channels", "noise"):
            s_out = scores[f"{one.detector}/{kind}"].double().numpy()
            auroc = np.mean([(a > b) + 0.5 * (a == b) for a in s_in for b in s_out]) if kind == "mixup" else metrics.auroc(s_in, s_out)
            assert one.kinds[kind].auroc == pytest.approx(auroc)
        left = []
        for i in (1, 2):
            own = load_file(scores_path(out, f"{LEFT} {i}", "given outputs"))
            left.append(metrics.auroc(own[f"{one.detector}/test"].double().numpy(), own[f"{one.detector}/{LEFT}"].double().numpy()))
        assert one.kinds[LEFT].auroc == pytest.approx(np.mean(left))
        near = (one.kinds[LEFT].auroc + one.kinds["mixup"].auroc) / 2
        far = (one.kinds["jigsaw"].auroc + one.kinds["channels"].auroc + one.kinds["noise"].auroc) / 3
        assert one.mean.auroc == pytest.approx((near + far) / 2)
        assert one.mean.interval[0] < one.mean.auroc < one.mean.interval[1]


def test_mixtures_are_of_two_pictures(found: tuple[Path, Recommendation], tmp_path: Path) -> None:
    held, fitters = pictures("held", 120, 1), {"msp": parse("msp")}
    made = compare(KEPT, Material.of(pictures("train", 240, 0), held, fitters, 3), fitters, out=tmp_path, seed=3)
    (mixup,) = [piece for kind, piece in made.pieces["msp"] if kind == "mixup"]
    assert np.array_equal(mixup.ood_partners, partners(held.labels, 3).numpy()) and np.array_equal(mixup.ood_sources, np.arange(120))
    assert all(piece.ood_partners is None for kind, piece in made.pieces["msp"] if kind != "mixup")


def test_families_of_noise_are_counted(found: tuple[Path, Recommendation]) -> None:
    out, made = found
    scores = load_file(scores_path(out, PSEUDO, "random"))
    held = pictures("held", 240, 1)
    parts = invented(held.only(split(held, {"temperature": parse("temperature")})[1]))["noise"].parts
    assert len(parts) == 17
    for one in made.ranked:
        s_in = scores[f"{one.detector}/test"].double().numpy()
        noise = scores[f"{one.detector}/noise"].double().numpy()
        wrong = sum(metrics.fpr_at_95_tpr_id(s_in, noise[span]) > 0.1 for span in parts.values())
        assert (one.failed, one.families) == (wrong, 17)


def test_a_fifth_calibrates_where_a_detector_does_that(found: tuple[Path, Recommendation]) -> None:
    held = pictures("held", 240, 1)
    calibrating, rest = split(held, {"temperature": parse("temperature")})
    assert found[1].samples["held out"] == len(rest) and 20 < len(calibrating) < 80 and len(calibrating) + len(rest) == 240
    assert len(split(held, {"msp": parse("msp")})[0]) == 0


def test_left_out_classes_are_refitted(found: tuple[Path, Recommendation]) -> None:
    """The scores of a fold are those of detectors fitted on the training data without its classes."""
    out, _ = found
    held = pictures("held", 240, 1)
    rest = held.only(split(held, {"temperature": parse("temperature")})[1])
    train, tested = ff.collect(KEPT, pictures("train", 600, 0)), ff.collect(KEPT, rest)
    for i, fold in enumerate(folds(6, 0.2, 2), 1):
        own = load_file(scores_path(out, f"{LEFT} {i}", "given outputs"))
        made = CATALOGUE["mahalanobis"].fit(Without(train, fold).load())
        assert torch.allclose(own["mahalanobis/test"], made(Without(tested, fold).load()), rtol=1e-4, atol=1e-3)
        assert torch.allclose(own[f"mahalanobis/{LEFT}"], made(Without(tested, fold, only=True).load()), rtol=1e-4, atol=1e-3)


def test_the_order_is_by_the_mean_and_the_first_is_tied_with_none_that_is_told_from_it(found: tuple[Path, Recommendation]) -> None:
    _, made = found
    means = [one.mean.auroc for one in made.ranked if not one.reasons]
    assert means == sorted(means, reverse=True)
    first = made.ranked[0]
    assert (first.behind.auroc, first.detector) == (0.0, made.best)
    for one in made.ranked[1:]:
        assert one.behind.auroc == pytest.approx(first.mean.auroc - one.mean.auroc)
        assert (one.detector in made.tied) == (not one.reasons and one.behind.interval[0] <= 0)


def test_it_is_plain_json(found: tuple[Path, Recommendation]) -> None:
    told = json.loads(json.dumps(found[1].plain()))
    assert told["best"] == told["ranked"][0]["detector"] and told["command"] == "as typed" and told["accuracy"][0] > 0.8
    assert set(told["samples"]) == {"held out", "mixup", "jigsaw", "channels", "noise"}


def test_a_second_time_runs_no_classifier(found: tuple[Path, Recommendation], monkeypatch: pytest.MonkeyPatch) -> None:
    out, made = found
    monkeypatch.setattr(ff.Classifier, "outputs", lambda *_, **__: pytest.fail("the classifier was run again"))
    again = recommend(KEPT, pictures("train", 600, 0), pictures("held", 240, 1), detectors={name: parse(name) for name in NAMES}, out=out)
    assert [one.mean for one in again.ranked] == [one.mean for one in made.ranked]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 7))
@settings(max_examples=30)
def test_some_of_a_stream_are_those_of_the_whole(n: int, most: int, cut: int) -> None:
    whole = Outputs(logits=torch.arange(2.0 * n).reshape(n, 2), ids=torch.arange(n))
    parts = [whole[i : i + cut] for i in range(0, n, cut)]
    one, other = some(whole, most), some(parts, most)  # type: ignore[arg-type]
    assert len(one) == min(n, most) and torch.equal(one.ids, other.ids) and torch.equal(one.logits, whole.logits[one.ids])
    assert bool((one.ids.diff() > 0).all())


# --- the ranking on made-up scores --------------------------------------------------------------------------------------------------------


def pieces(near: float, far: float, seed: int = 0, n: int = 300) -> list[tuple[str, Linked]]:
    rng = np.random.default_rng(seed)
    s_in, ids = rng.normal(0, 1, n), np.arange(n)
    found = []
    for kind, shift in (("mixup", near), ("jigsaw", far)):
        found.append((kind, Linked(placements(s_in, rng.normal(-shift, 1, n)), ids, ids, 1.0)))
    return found


def test_a_warning_or_a_kind_below_chance_speaks_against_a_detector() -> None:
    both = {"a": pieces(2.0, 2.0), "b": pieces(3.0, -1.0), "c": pieces(0.5, 0.5)}
    ranked = _ranked(Comparison(both, dict.fromkeys(both, (0, 17)), frozenset({("a", "It is not made for this.")}), {}, None, {}))
    assert next(one.detector for one in ranked) == "c"
    reasons = {one.detector: one.reasons for one in ranked}
    assert reasons["a"] == ("It is not made for this.",) and "takes jigsaw for more in-distribution" in reasons["b"][0] and reasons["c"] == ()


def test_near_and_far_weigh_alike() -> None:
    assert weights(KINDS) == pytest.approx({LEFT: 0.25, "mixup": 0.25, "jigsaw": 1 / 6, "channels": 1 / 6, "noise": 1 / 6})
    assert weights(["noise"]) == {"noise": 1.0}


# --- what is refused, and what is left out ------------------------------------------------------------------------------------------------


def test_three_pictures_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compared on 3 held-out ID pictures; give at least 20"):
        recommend(KEPT, pictures("train", 60, 0), pictures("held", 3, 1), out=tmp_path)


def test_no_detector_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No detector takes random\. MOS is for heads"):
        recommend(KEPT, pictures("train", 60, 0), pictures("held", 30, 1), detectors={"mos": parse("mos")}, out=tmp_path)


@pytest.mark.parametrize("case", ["unlabelled", "inside", "few"])
def test_left_out_classes_are_left_out_where_they_cannot_be_had(case: str, tmp_path: Path) -> None:
    held, names = pictures("held", 60 if case != "few" else 42, 1), ["msp", "odin"] if case == "inside" else ["msp"]
    if case == "unlabelled":
        held = replace(held, labels=torch.full((60,), -1))
    made = recommend(KEPT, pictures("train", 120, 0), held, detectors={name: parse(name) for name in names}, out=tmp_path)
    assert all(set(one.kinds) == {"mixup", "jigsaw", "channels", "noise"} for one in made.ranked)
    assert (made.accuracy is None) == (case == "unlabelled")


def test_a_grouped_head_is_ranked_without_left_out_classes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(432, 8))
    groups = torch.tensor([-1, 0, 1, 2, -1, 3, 4, 5])
    made: Any = ff.Classifier.wrap(net, transform=Normalize((0.5,) * 3, (0.5,) * 3), name="grouped", input_size=(3, 12, 12), groups=groups)
    assert isinstance(made.head, Head)
    found = recommend(made, pictures("train", 120, 0), pictures("held", 60, 1), detectors={n: parse(n) for n in ("mos", "msp", "knn")}, out=tmp_path)
    assert {one.detector for one in found.ranked} == {"mos", "knn"} and "flat logits" in found.refused["msp"]
    assert LEFT not in found.ranked[0].kinds


class OfSix(ff.detectors.Detector):
    """A detector that needs all six classes."""

    needs = fit_needs = ("logits",)
    passes = 1
    paper = "none"

    @classmethod
    def fit(cls, train: Any) -> OfSix:
        if any(chunk.logits.shape[1] < 6 for chunk in ff.outputs.chunks(train)):
            raise InputError("It needs six classes.")
        return cls()

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.amax(1)


def test_a_detector_that_needs_every_class_takes_the_kind_from_no_other(tmp_path: Path) -> None:
    fitters = {"msp": parse("msp"), "six": OfSix.fit}
    made = recommend(KEPT, pictures("train", 240, 0), pictures("held", 120, 1), detectors=fitters, out=tmp_path)
    assert [one.detector for one in made.ranked] == ["msp"] and LEFT in made.ranked[0].kinds
    assert made.refused == {"six": "Without some of the classes: It needs six classes."}

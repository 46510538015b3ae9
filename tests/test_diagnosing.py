"""The experiments of Xiong et al.: relative decrements and the AUROC they predict, mixtures, what the paper claims of its own figures, and dry runs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given
from hypothesis import strategies as st

from farfield.classifier import Classifier
from farfield.collect import collect
from farfield.data.images import Images, OODSet, Suite
from farfield.data.transforms import Normalize
from farfield.errors import InputError
from farfield.metrics import auroc, decrement_gap, predicted_auroc, relative_decrement
from farfield.reproduce import augdelete, diagnosing, run
from farfield.reproduce.base import Cells, Record
from farfield.reproduce.few import few_of
from farfield.reproduce.mixtures import Mixed, partners
from farfield.reproduce.networks import ROWS, slug
from farfield.reproduce.stage import Network, Stage
from farfield.training.last_layer import retrain

ALL = {experiment.name: experiment for experiment in (*diagnosing.EXPERIMENTS, *augdelete.EXPERIMENTS)}
numbers = st.integers(1, 40).map(float)
scores = st.lists(numbers, min_size=1, max_size=12)


# --- decrements -------------------------------------------------------------------------------------------------------------------------------


def by_hand(before, after, each):
    """The share that is lost, in fractions: one sum after another."""
    if each:
        kept = [(Fraction(s), Fraction(t)) for s, t in zip(before, after, strict=True) if s > 0]
        return sum(((s - t) / s for s, t in kept), Fraction(0)) / len(kept)
    return 1 - sum(map(Fraction, after), Fraction(0)) / sum(map(Fraction, before), Fraction(0))


def pairs_won(s_in, s_out, r_in, r_out):
    """`P(s_i (1 - r_i) > s_o (1 - r_o))` with ties as halves, pair by pair in fractions, as proposition 4.2 has the scores after."""
    won = Fraction(0)
    for i in s_in:
        for o in s_out:
            mine, other = Fraction(i) * (1 - Fraction(r_in)), Fraction(o) * (1 - Fraction(r_out))
            won += Fraction(mine > other) + Fraction(mine == other) / 2
    return won / (len(s_in) * len(s_out))


@given(st.lists(st.tuples(numbers, st.integers(-40, 40).map(float)), min_size=1, max_size=12), st.booleans())
def test_the_relative_decrement_equals_its_loop(pairs, each):
    before, after = zip(*pairs, strict=True)
    assert relative_decrement(before, after, each=each) == pytest.approx(float(by_hand(before, after, each)), abs=1e-12)


def test_each_images_own_share_is_not_that_of_the_means_and_leaves_out_what_is_not_above_0():
    before, after = [8.0, 1.0, -1.0, 0.0], [4.0, 1.0, 5.0, 5.0]
    assert relative_decrement(before, after, each=True) == 0.25  # of 1/2 and 0
    assert relative_decrement(before, after) == 1 - 15 / 8


@given(scores, st.sampled_from([0.25, 0.5, 1.0, 2.0]), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5]), st.booleans())
def test_a_share_that_all_lose_is_found_whatever_the_unit(s, unit, share, each):
    before = unit * np.array(s)
    assert relative_decrement(before, (1 - share) * before, each=each) == pytest.approx(share, abs=1e-12)
    assert relative_decrement(torch.tensor(before), torch.tensor(before), each=each) == 0


@given(scores, scores, st.integers(-8, 7), st.integers(-8, 7))
def test_where_all_lose_one_share_the_prediction_is_the_auroc(s_in, s_out, up, down):
    r_in, r_out = up / 8, down / 8  # binary fractions, so that ties are exact
    lower_in, lower_out = (1 - r_in) * np.array(s_in), (1 - r_out) * np.array(s_out)
    want = pairs_won(s_in, s_out, r_in, r_out)
    assert auroc(lower_in, lower_out) == pytest.approx(float(want), abs=1e-12)
    assume((1 - r_out) in (0.25, 0.5, 1.0, 2.0))  # where 1 - q is a binary fraction too
    assert predicted_auroc(s_in, s_out, decrement_gap(r_in, r_out)) == pytest.approx(float(want), abs=1e-12)
    # proposition 4.2: delta P >= 0 where r_i >= r_o, and <= 0 where r_i <= r_o
    change = auroc(s_in, s_out) - float(want)
    assert (change >= -1e-12) if r_in >= r_out else (change <= 1e-12)


@given(scores, scores, st.lists(st.integers(-16, 16), min_size=2, max_size=6))
def test_the_prediction_never_rises_with_q(s_in, s_out, steps):
    predictions = [predicted_auroc(s_in, s_out, step / 8) for step in sorted(steps)]
    assert predictions == sorted(predictions, reverse=True)
    assert predicted_auroc(s_in, s_out, 0.0) == auroc(s_in, s_out)


@given(st.floats(-3, 3), st.floats(-3, 0.9))
def test_the_gap_is_what_is_left_of_one_over_the_other(r_in, r_out):
    assert 1 - decrement_gap(r_in, r_out) == pytest.approx((1 - r_in) / (1 - r_out), abs=1e-12)
    assert (decrement_gap(r_in, r_out) > 0) == (r_in - r_out > 0)


def test_ties_count_half_in_the_prediction():
    assert predicted_auroc([2.0], [1.0], 0.5) == 0.5
    assert predicted_auroc([2.0, 4.0], [1.0, 1.0], 0.5) == 0.75


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([1.0, 2.0], [1.0], "`before` and `after` must be scores of the same images; got 2 and 1."),
        ([-1.0, -2.0], [0.0, 0.0], "A relative decrement needs scores above 0 before, as maximal logits are; their mean is -1.5. Use another score."),
        ([1.0, np.inf], [1.0, 1.0], "`before` and `after` must be finite: an infinite score has no share to lose."),
        ([1.0, np.nan], [1.0, 1.0], "`before` has NaN in 1 of 2 scores, first at position 1."),
        ([], [], "`before` must be 1-D and not empty, one number per image; got shape (0,)."),
    ],
)
def test_scores_without_a_share_to_lose_are_refused(before, after, said):
    for each in (False, True):
        with pytest.raises(InputError) as error:
            relative_decrement(before, after, each=each)
        assert str(error.value) == said


@pytest.mark.parametrize("r_out", [1.0, 1.5, float("nan")])
def test_a_gap_needs_something_left(r_out):
    with pytest.raises(InputError, match=r"`r_out` must be below 1, the share at which nothing of the score is left; got"):
        decrement_gap(0.5, r_out)


# --- mixtures ---------------------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.integers(0, 5))
def test_partners_have_another_label(labels, seed):
    assume(len(set(labels)) > 1)
    given_labels = torch.tensor(labels)
    found = partners(given_labels, seed)
    assert (given_labels[found] != given_labels).all()
    assert torch.equal(found, partners(given_labels, seed))


def test_partners_are_drawn_from_all_of_another_label():
    labels = torch.tensor([0] * 50 + [1] * 50)
    found = Counter(label for seed in range(200) for label in partners(labels, seed)[:1].tolist())
    assert set(found) == set(range(50, 100)) and max(found.values()) < 20
    assert not torch.equal(partners(labels, 0), partners(labels, 1))


def test_one_label_has_no_partners():
    with pytest.raises(InputError, match="Pictures of different labels are to be mixed, and all test pictures have one label"):
        partners(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["in memory", "pairs", "alone"])
def test_mixtures_are_those_of_pixels(kind):
    pixels = torch.randint(0, 256, (5, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = {
        "in memory": Images("five", pixels, torch.arange(5)),
        "pairs": [(picture, label) for label, picture in enumerate(pixels)],
        "alone": list(pixels),
    }[kind]
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    first, second = torch.tensor([0, 4, 2]), torch.tensor([3, 1, 0])
    mixed = Mixed(data, Normalize(mean, std), first, second, 0.3)
    assert len(mixed) == 3
    for place, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        for channel in range(3):
            blend = 0.7 * pixels[i, channel].double() + 0.3 * pixels[j, channel].double()  # lambda weights the second picture, equation 8
            assert torch.allclose(mixed[place][channel].double(), (blend / 255 - mean[channel]) / std[channel], atol=1e-5)


def test_a_mixture_without_a_second_picture_is_the_picture(tmp_path):
    stage = Stage("glyphs", tmp_path, smoke=True)
    test, classifier = stage.suite("").split("test"), Classifier.load("glyphs-200-resnet")
    rows = torch.arange(len(test))
    direct = Classifier.load("glyphs-200-resnet", transform=diagnosing._as_it_is)
    whole = collect(classifier, test)
    same = collect(direct, Mixed(test, classifier.transform, rows, rows.flip(0), 0.0))
    half = collect(direct, Mixed(test, classifier.transform, rows, rows.flip(0), 0.5))
    assert torch.allclose(same.logits, whole.logits, atol=1e-4)
    assert not torch.allclose(half.logits, whole.logits, atol=1.0)
    assert torch.allclose(half.logits, half.logits.flip(0), atol=1e-4), "halves of both are the same either way round"


# --- what the paper says of its own figures ---------------------------------------------------------------------------------------------------

# claims whose figures the paper prints; of the others it shows curves alone
TOLD = {"diag-figure-1": 5, "diag-figure-2": 2, "diag-figure-3a": 0, "diag-figure-3b": 0, "diag-figure-5": 1, "diag-figure-6": 1}
TOLD |= {"diag-table-1": 7, "diag-table-2": 6, "diag-table-3": 10, "diag-table-4": 6}


def told(experiment):
    cells, found = Cells(experiment.published), {}
    for claim in experiment.claims:
        try:
            found[claim] = claim.difference(cells)
        except (KeyError, ValueError):
            continue
    return found


@pytest.mark.parametrize("name", ALL)
def test_the_papers_own_figures_are_as_it_says(name):
    found = told(ALL[name])
    assert len(found) == TOLD[name]
    wrong = [claim.text for claim, difference in found.items() if not claim.same and not difference > 0]
    assert wrong == []
    assert all(abs(difference) < 1 for claim, difference in found.items() if claim.same)


@pytest.mark.parametrize(
    ("name", "text", "difference"),
    [
        ("diag-figure-1", "The second recipe has a lower AUROC than the first, on every architecture", 83.02 - 72.84),
        ("diag-figure-2", "Mixup lowers the AUROC of the maximal logit", 3.0),
        ("diag-figure-5", "AugDelete raises the AUROC with all augmentations together", 85.57 - 82.78),
        ("diag-table-1", "AugRevise has a lower FPR than v1", 46.90 - 42.09),
        ("diag-table-2", "AugRevise has a higher accuracy than all of v1 and v2*", 87.67 - 86.74),
        ("diag-table-3", "AugDelete raises the AUROC of ASH", 81.70 - 53.53),
        ("diag-table-3", "With AugDelete KNN and NNGuide still have a lower AUROC than with the first recipe", 80.64 - 79.91),
        ("diag-table-4", "AugRevise with NNGuide has the lowest FPR of all", 40.28 - 37.56),
        ("diag-table-4", "AugRevise has the highest accuracy of all", 87.67 - 87.25),
    ],
)
def test_differences_by_hand(name, text, difference):
    (claim,) = [claim for claim in ALL[name].claims if claim.text == text]
    assert claim.difference(Cells(ALL[name].published)) == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_experiments_are_in_form(name):
    experiment = ALL[name]
    assert experiment.fpr == "ood" and experiment.paper == "Xiong et al., ICCV 2025" and experiment.here and experiment.plot is not None
    assert {experiment.plot.x, experiment.plot.y, experiment.plot.series, experiment.plot.panel} <= {*experiment.keys, *experiment.figures, ""}
    for record in experiment.published:
        assert len(record.of) == len(experiment.keys) and set(record.values) <= set(experiment.figures)
    names = [record.of for record in experiment.published]
    assert len(names) == len(set(names))
    texts = [claim.text for claim in experiment.claims]
    assert len(texts) == len(set(texts)) and not any(text.endswith(".") for text in texts)


@pytest.mark.parametrize("scale", ["glyphs", "full"])
@pytest.mark.parametrize("name", ALL)
def test_no_two_cells_are_kept_in_one_file(name, scale, tmp_path):
    cells = ALL[name].cells(Stage(scale, tmp_path))
    assert len({slug(cell) for cell in cells}) == len(cells) > 1


def test_a_claim_counts_the_worst_architecture():
    known = {("a", "v1"): 80.0, ("a", "v2"): 70.0, ("b", "v1"): 75.0, ("b", "v2"): 76.0, ("c", "v2"): 10.0}
    cells = Cells([Record((*of, "average"), {"auroc": value}) for of, value in known.items()])
    assert diagnosing._over_architectures("auroc", "v1", "v2")(cells) == -1.0


# --- the paper's own networks -----------------------------------------------------------------------------------------------------------------


class Asked(Stage):
    """A stage at full scale that notes what it is asked for."""

    def __init__(self):
        super().__init__("full", "nowhere")
        self.said, self.any = {}, Network("any", Classifier.load("glyphs-200-resnet"), "glyphs-200-resnet")

    def suite(self, full, glyphs=""):
        self.said["suite"] = full
        return tiny()

    def network(self, row, full):
        self.said["network"] = full
        return self.any

    def trained(self, row, source, suite, *, change=None, options=None):
        self.said |= {"source": source, "change": change, "options": options}
        return self.any

    def augdelete(self, start, suite, fraction=1.0):
        self.said["augdelete"] = start is self.any
        return start


def test_what_full_scale_trains():
    stage = Asked()
    diagnosing.network(stage, "cross-entropy")
    assert stage.said == {"network": "zoo:openood-imagenet200-s0"}
    for row in (*diagnosing.AUGMENTATIONS, *diagnosing.TECHNIQUES):
        diagnosing.network(stage, row)
        assert stage.said["source"] == "timm:resnet18" and stage.said["suite"] == "openood-v1.5-imagenet200" and stage.said["options"] == {}
        change = stage.said["change"]
        assert change["lr"] == 0.1 and change["schedule"] == "cosine"
        assert ("epochs" in change) == (row != "long") and ("weight_decay" in change) == (row not in ("weight-decay", "v2"))
    diagnosing.network(stage, "npos")
    assert stage.said["change"] == stage.said["options"] == {}, "its published settings"
    diagnosing.network(stage, "augrevise, smoothing")
    assert stage.said["options"] == {"smoothing": 0.1} and "augdelete" not in stage.said
    diagnosing.deleted(stage, "augrevise as printed")
    assert stage.said["options"] == {"form": "printed"} and stage.said["augdelete"]


def test_every_row_that_is_asked_for_is_there():
    for _, row, made in [(name, *how) for rows in (augdelete.FIRST, augdelete.SECOND) for name, how in rows.items()]:
        assert (f"{row}, AugDelete" if made is diagnosing.deleted else row) in ROWS
    for row in (*diagnosing.MIXERS, *augdelete.BEFORE, *(row for row, _, _ in augdelete.METHODS.values())):
        assert row in ROWS


def test_the_architectures_have_the_weights_that_are_named():
    for name in diagnosing.BOTH.values():
        assert {"IMAGENET1K_V1", "IMAGENET1K_V2"} <= {weights.name for weights in torchvision.models.get_model_weights(name)}
    for name in diagnosing.SECOND.values():
        names = {weights.name for weights in torchvision.models.get_model_weights(name)}
        assert "IMAGENET1K_V1" in names and "IMAGENET1K_V2" not in names


def tiny() -> Suite:
    """A suite of a few pictures of Glyphs, as one from a disk."""
    from farfield.data import suites

    return few_of(suites.load("glyphs-200"))


def test_a_row_is_trained_at_full_scale_with_its_own_options(tmp_path):
    stage, suite = Stage("full", tmp_path, smoke=True), tiny()
    made = stage.trained("augrevise, smoothing", "resnet-pooled", suite, change={"lr": 0.02}, options={"smoothing": 0.1})
    (folder,) = (tmp_path / "seed-0" / "trained").iterdir()
    told = json.loads((folder / "recipe.json").read_text("utf-8"))
    assert told["recipe"]["options"] == {"alpha": 0.2, "smoothing": 0.1} and told["recipe"]["lr"] == 0.02 and told["recipe"]["steps"] == 2
    assert told["then"] == "", "AugDelete is a step of its own"
    assert made.classifier.classes == len(suite.classes) and suite.name in made.name
    again = stage.trained("augrevise, smoothing", "resnet-pooled", suite)
    assert again.classifier.fingerprint() == made.classifier.fingerprint()


def test_two_data_sets_have_two_networks(tmp_path):
    stage = Stage("full", tmp_path, smoke=True)
    for suite in (tiny(), Suite("another", *(getattr(tiny(), name) for name in ("classes", "taxonomy", "splits", "ood", "augmentations", "note")))):
        stage.trained("cutmix", "resnet-pooled", suite)
    assert len(list((tmp_path / "seed-0" / "trained").iterdir())) == 2


# --- dry runs ---------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage("glyphs", tmp_path_factory.mktemp("diagnosing"), smoke=True)


def of(name, stage, cells=None):
    return {record.of: record for record in run(ALL[name], [stage], cells=cells)}


def test_figure_3a_by_a_loop(stage):
    found = of("diag-figure-3a", stage)
    suite = stage.suite("")
    logits = {}
    for row in ("cross-entropy", "mixup"):
        sets = {"test": suite.split("test"), **{ood.name: ood.load() for ood in suite.ood}}
        logits[row] = {name: collect(stage.networks.get(row), data).logits.max(1).values.double().numpy() for name, data in sets.items()}
    before, after = logits.values()
    shares = {name: 1 - after[name].mean() / before[name].mean() for name in before}
    wanted = {}
    for name in ("letters", "scripts", "photos", "noise"):
        q = (shares["test"] - shares[name]) / (1 - shares[name])
        wanted[name] = {
            "r_in": 100 * shares["test"], "r_out": 100 * shares[name], "q": 100 * q, "predicted": 100 * auroc((1 - q) * before["test"], before[name]),
            "auroc": 100 * auroc(after["test"], after[name]),
        }  # fmt: skip
    wanted["average"] = {key: np.mean([wanted[name][key] for name in wanted]) for key in wanted["letters"]}
    assert {of[1] for of in found} == {"letters", "scripts", "photos", "noise", "average"}
    for name, values in wanted.items():
        assert found["mixup", name].values == pytest.approx(values, abs=1e-4)  # as cells keep them
    assert found["v1", "average"].values["r_in"] == 0
    for name in wanted:  # nothing has changed, so the prediction is what is measured
        assert found["v1", name].values["predicted"] == pytest.approx(found["v1", name].values["auroc"], abs=1e-9)


def test_figure_3b_has_both_aurocs_over_the_share(stage):
    found = of("diag-figure-3b", stage, cells=1)
    assert {of[:2] for of in found} == {("v1", str(share)) for share in (0.1, 0.2, 0.3, 0.4, 0.5)}
    assert {of[2] for of in found} == {"ID over mixed", *(f"mixed over {name}" for name in ("letters", "scripts", "photos", "noise", "average"))}
    mean = np.mean([found["v1", "0.2", f"mixed over {name}"].values["auroc"] for name in ("letters", "scripts", "photos", "noise")])
    assert found["v1", "0.2", "mixed over average"].values["auroc"] == pytest.approx(mean)


def test_table_3_finds_the_scores_of_knn_unchanged(stage):
    found = of("diag-table-3", stage)
    assert found["KNN", "v2 + AugDelete", "all pictures"].values == {"changed": 0.0}
    assert found["KNN", "v2 + AugDelete", "average"].values["auroc"] == found["KNN", "v2", "average"].values["auroc"]
    assert found["MLS", "v2 + AugDelete", "average"].values["auroc"] != found["MLS", "v2", "average"].values["auroc"]
    assert set(found["ASH", "v1", "average"].values) == {"auroc", "fpr", "accuracy"} == set(found["ASH", "v1", "average"].intervals)
    assert all("accuracy" not in record.values for of, record in found.items() if of[2] != "average")


def test_table_3_would_notice_a_bit(stage, monkeypatch):
    judge = stage.judge

    def nudged(some, detectors, suite, **rest):
        told = judge(some, detectors, suite, **rest)
        if "AugDelete" in some.name:
            told.scores["knn"]["photos"][0] = np.nextafter(told.scores["knn"]["photos"][0], 1)
        return told

    monkeypatch.setattr(stage, "judge", nudged)
    pictures = sum(len(ood.load()) for ood in stage.suite("").ood) + len(stage.suite("").split("test"))
    (record,) = augdelete._unchanged(stage)
    assert record.values["changed"] == pytest.approx(100 / pictures)


def test_figure_6_uses_no_more_than_its_part(stage, tmp_path):
    start = diagnosing.pretrained(stage, "v2, longer")
    head = stage.augdelete(start, stage.suite(""), 0.1).classifier.head
    train = collect(start.classifier, stage.training(stage.suite("")).train)
    assert torch.allclose(head.weight, retrain(start.classifier.head, train, fraction=0.1).head.weight, atol=1e-4)
    assert not torch.allclose(head.weight, retrain(start.classifier.head, train).head.weight, atol=1e-4)
    assert stage.augdelete(start, stage.suite("")).classifier.classes == start.classifier.classes


def test_augdelete_learns_from_the_pictures_of_training_not_from_the_suites(stage, tmp_path):
    """On Glyphs the two are the same at seed 0 alone."""
    other = Stage("glyphs", tmp_path, smoke=True)
    suite = other.suite("")
    pictures = suite.split("train")
    pictures = replace(pictures, images=pictures.images.flip(3))
    data = replace(other.training(suite), train=pictures)
    other.training = lambda suite: data
    start = diagnosing.pretrained(stage, "v2, longer")
    head = other.augdelete(start, suite).classifier.head
    assert torch.allclose(head.weight, retrain(start.classifier.head, collect(start.classifier, pictures)).head.weight, atol=1e-4)


@pytest.mark.parametrize("name", ["diag-figure-1", "diag-figure-2", "diag-figure-5", "diag-figure-6", "diag-table-1", "diag-table-2", "diag-table-4"])
def test_a_dry_run_of_the_first_cell(stage, name):
    found = of(name, stage, cells=1)
    assert found and all(len(of) == len(ALL[name].keys) for of in found)
    averages = [record for of, record in found.items() if of[-1] == "average"]
    assert averages and all(set(record.values) == {"auroc", "fpr", "accuracy"} for record in averages)
    assert all(0 <= value <= 100 for record in found.values() for value in record.values.values())
    assert all(
        low <= record.values[figure] <= high for record in found.values() for figure, (low, high) in record.intervals.items() if figure != "fpr"
    )


def test_a_sets_mean_is_that_of_near_and_far():
    """Three far sets and one near: near counts as much as the three together."""
    suite = Suite(
        "some", (), {}, {}, tuple(OODSet(name, group, list) for name, group in (("a", "near"), ("b", "far"), ("c", "far"), ("d", "far"))), (), ""
    )
    values = {"a": np.array([0.0]), "b": np.array([2.0]), "c": np.array([0.0]), "d": np.array([2.0])}
    found = diagnosing.records("x", np.array([1.0]), diagnosing._sets(suite, values), fpr="ood", mean="groups")
    assert {record.of[1]: record.values["auroc"] for record in found} == pytest.approx(
        {"a": 100, "b": 0, "c": 100, "d": 0, "average": (100 + 100 / 3) / 2}
    )

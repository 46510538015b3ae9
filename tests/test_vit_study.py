"""The study of transformers: its figures against scipy and by hand, its claims on made-up worlds, its pool, and a cell of each experiment."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import farfield as ff
from farfield import models
from farfield.data import suites
from farfield.data.images import Images, OODSet, Suite
from farfield.errors import InputError
from farfield.metrics import correlations
from farfield.reproduce import EXPERIMENTS, Stage, run, vit
from farfield.reproduce.base import Claim, Record
from farfield.reproduce.keep import once
from farfield.reproduce.networks import SHIPPED, Networks, slug
from farfield.reproduce.pool import MEMBERS, PRETRAININGS, RATES, Member, Pool, pairs, published
from farfield.reproduce.stage import Network
from farfield.reproduce.study import DRAWS, METHODS, NEAR, UNIT, failed, figures_of, gathered, judged, labels, on, pieces, upper_half
from farfield.reproduce.verdicts import verdicts

ROOT = Path(__file__).parents[1]
NAMES = [name for name in EXPERIMENTS if name.startswith("vit-")]
POOL = [f"pool-{slug(name)}" for name in (*list(PRETRAININGS)[1::2], *MEMBERS)]


# --- correlations -------------------------------------------------------------------------------------------------------------------------------

few = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=20)


@given(few)
@settings(max_examples=40)
def test_correlations_are_those_of_scipy(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, float).T
    values, intervals = correlations(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert values == intervals == {}
        return
    assert values == pytest.approx({"pearson": stats.pearsonr(x, y)[0], "spearman": stats.spearmanr(x, y)[0]})
    assert all(-1 - 1e-9 <= low <= high <= 1 + 1e-9 for low, high in intervals.values())


def test_the_interval_of_a_correlation_is_a_bootstrap_over_models() -> None:
    random = np.random.default_rng(3)
    x, near, unit = random.normal(size=(3, 7)).round(1)
    rows = np.random.default_rng(0).integers(7, size=(DRAWS, 7))
    drawn: dict[str, list[tuple[float, float]]] = {"pearson": [], "spearman": []}
    for mine in rows:
        if len(set(mine)) > 1:
            ranked = [stats.rankdata(side[mine]) for side in (x, near, unit)]
            drawn["pearson"].append(tuple(np.corrcoef(x[mine], y[mine])[0, 1] for y in (near, unit)))
            drawn["spearman"].append(tuple(np.corrcoef(ranked[0], y)[0, 1] for y in ranked[1:]))
    for name, pair in drawn.items():
        each = np.array(pair)
        assert correlations(x, near)[1][name] == pytest.approx(np.quantile(each[:, 0], (0.025, 0.975)))
        values, intervals = correlations(x, unit, near)
        assert values[name] == pytest.approx(correlations(x, unit)[0][name] - correlations(x, near)[0][name])
        assert intervals[name] == pytest.approx(np.quantile(each[:, 1] - each[:, 0], (0.025, 0.975)), abs=1e-9)


def test_resamples_without_variation_are_left_out() -> None:
    values, intervals = correlations(np.array([1.0, 1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0, 9.0]))
    assert math.isfinite(values["pearson"]) and all(map(math.isfinite, intervals["pearson"]))


# --- figures of a classifier --------------------------------------------------------------------------------------------------------------------


def test_a_unit_test_is_failed_above_a_tenth() -> None:
    s_in = np.arange(100.0)  # the threshold that keeps 95 % is 5
    outs = [np.r_[np.full(taken, 5.0), np.full(100 - taken, 4.0)] for taken in (0, 9, 10, 11, 50, 100)]
    assert failed(s_in, outs)[0] == 3


def test_the_interval_of_failed_tests_is_a_bootstrap_over_pictures() -> None:
    random = np.random.default_rng(1)
    s_in, outs = random.normal(size=400), [random.normal(shift, 1, 60) for shift in (-4.0, -3.0, -2.8, -2.6, 0.0)]
    drawn = np.empty(3000)
    for i in range(len(drawn)):
        mine = np.sort(s_in[random.integers(400, size=400)])
        drawn[i] = sum(np.mean(out[random.integers(60, size=60)] >= mine[20]) > 0.1 for out in outs)
    assert failed(s_in, outs)[1] == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=1)
    assert 1 <= failed(s_in, outs)[1][0] < failed(s_in, outs)[1][1] <= 5


def test_figures_are_means_over_sets() -> None:
    s_in, outs = np.arange(100.0), [np.array([4.0, 5.0]), np.array([200.0]), np.array([-1.0] * 3 + [50.0])]
    values, intervals = figures_of(s_in, outs, tests=True)
    auroc = [np.mean([(a > b) + 0.5 * (a == b) for a in s_in for b in out]) for out in outs]
    assert values == {"fpr": pytest.approx(100 * (1 / 2 + 1 + 1 / 4) / 3), "auroc": pytest.approx(100 * np.mean(auroc)), "failed": 3, "worst": 100.0}
    assert all(low <= values[name] <= high for name, (low, high) in intervals.items()) and set(intervals) == {"fpr", "auroc", "failed"}
    assert set(figures_of(s_in, outs, tests=False)[0]) == {"fpr", "auroc"}


class Classed:
    """A set that knows its classes, as published ones do."""

    parts, part_group = {"a": slice(0, 2), "b": slice(2, 5)}, "class"

    def __len__(self) -> int:
        return 5


def test_pieces_are_sets_classes_and_families() -> None:
    pictures = torch.zeros(6, 3, 2, 2, dtype=torch.uint8)
    plain = Images("plain", pictures, torch.full((6,), -1))
    noise = Images("noise", pictures, torch.full((6,), -1), parts={"white": slice(0, 3), "black": slice(3, 6)})
    sets = (
        OODSet("x", "near", Classed), OODSet("y", "near", lambda: plain), OODSet("z", "far", Classed), OODSet("w", "far", lambda: plain),
        OODSet("n", "far", lambda: noise), OODSet("s", "shifted", lambda: plain),
    )  # fmt: skip
    found = pieces(Suite("s", (), {}, {}, sets, (), ""))
    assert found == {
        NEAR: [("x", slice(0, 2), 5), ("x", slice(2, 5), 5), ("y", slice(0, 6), 6)],
        UNIT: [("n", slice(0, 3), 6), ("n", slice(3, 6), 6)],
    }


def test_a_set_with_unreadable_pictures_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage, pictures = Stage("glyphs", tmp_path), torch.zeros(100, 3, 2, 2, dtype=torch.uint8)
    suite = Suite("s", (), {}, {}, (OODSet("letters", "near", lambda: Images("letters", pictures, torch.full((100,), -1))),), (), "")

    class Found:
        scores = {method: {name: np.arange(50.0) for name in ("test", "letters")} for method in METHODS}  # noqa: RUF012
        accuracy, interval = None, None

    monkeypatch.setattr(stage, "judge", lambda *_: Found())
    with pytest.raises(InputError, match=r"^50 of 100 pictures of letters cannot be read, so its parts are not whole\. Mend the files\.$"):
        judged(stage, Network("x", ff.Classifier.load("glyphs-200-vit"), "x"), suite)


# --- the pool -----------------------------------------------------------------------------------------------------------------------------------


def test_pairs_differ_in_one_setting_alone() -> None:
    everyone = list(MEMBERS.values())
    for setting, one, other, many in (
        ("pretraining", "200 classes", "1000 classes", 8),
        ("weight decay", "0.05", "0.3", 8),
        ("learning rate", "0.1", "0.003", 4),
    ):
        found = pairs(everyone, setting, one, other)
        assert len(found) == many
        for a, b in found:
            assert {name for name in a.settings if a.settings[name] != b.settings[name]} == {setting}
            assert (a.settings[setting], b.settings[setting]) == (one, other)
    lone = [Member("a", {"pretraining": "i1k", "weight decay": "0.1"}), Member("b", {"pretraining": "i21k"})]
    assert pairs(lone, "pretraining", "i1k", "i21k") == []


def test_differences_have_an_interval_over_pretrainings() -> None:
    changes = {"fpr": np.array([-1.0, -3.0, 2.0, -8.0]), "auroc": np.array([1.0, 1.0, 3.0, 3.0])}
    values, intervals = vit.paired(changes, np.array([0, 0, 1, 1]))
    assert values == {"lower": 75.0, "fpr_change": -2.5, "auroc_change": 2.0}
    half = stats.t.ppf(0.975, 1) * np.std([-2.0, -3.0], ddof=1) / np.sqrt(2)
    assert intervals["fpr_change"] == pytest.approx((-2.5 - half, -2.5 + half))
    assert vit.paired(changes, np.zeros(4))[1] == {}
    assert set(vit.paired({"accuracy": changes["auroc"]}, np.zeros(4))[0]) == {"accuracy_change"}


def shipped(name: str) -> Path:
    path = SHIPPED / f"{name}.safetensors"
    if not path.exists():
        pytest.skip("it does not ship yet")
    return path


@pytest.mark.parametrize("name", POOL)
def test_networks_that_ship_are_of_their_recipe(name: str, tmp_path: Path) -> None:
    told = models.contents(shipped(name))[1]
    pool = Pool(Networks(tmp_path), tmp_path)
    recipe = json.loads(json.dumps(asdict(pool.recipe(told["pool"]))))
    assert f"pool-{slug(told['pool'])}" == name and told["command"] == "python experiments/pool.py"
    if told["pool"] in PRETRAININGS:
        space, decay = PRETRAININGS[told["pool"]]
        assert told["recipe"] == recipe and (recipe["weight_decay"], told["classes"]) == (decay, space)
        ours = models.contents(models.shipped_path(f"glyphs-{space}-vit"))[1]["recipe"]
        assert {**ours, "weight_decay": decay} == {key: recipe[key] for key in ours}
    else:
        member = MEMBERS[told["pool"]]
        assert told["recipe"]["recipe"] == recipe and told["recipe"]["start"] == member.pretraining
        assert (recipe["lr"], recipe["optimizer"], told["classes"]) == (float(member.settings["learning rate"]), "sgd", 200)
    assert shipped(name).stat().st_size < 1_400_000


@pytest.mark.parametrize("name", [POOL[2], POOL[-1]])
def test_networks_that_ship_have_the_accuracy_they_say(name: str) -> None:
    classifier, told = ff.Classifier.load(str(shipped(name))), models.contents(shipped(name))[1]
    test = suites.load("glyphs-200").split("test")
    some = Images("some", test.images[::4], test.labels[::4])
    outputs = ff.collect(classifier, some)
    assert (outputs.predictions() == outputs.labels).double().mean().item() == pytest.approx(told["test_accuracy"], abs=0.03)


@pytest.mark.parametrize("start", list(PRETRAININGS))
def test_a_larger_rate_goes_farther_from_the_pretraining(start: str, tmp_path: Path) -> None:
    pool = Pool(Networks(tmp_path), tmp_path)
    shipped(f"pool-{slug(f'{start}, rate 0.1')}")
    before = models.read(pool.file(start))[0].state_dict()
    body = [name for name, value in before.items() if value.is_floating_point() and not name.startswith("head.") and "running" not in name]
    moved = []
    for rate in RATES:
        after = models.read(pool.file(f"{start}, rate {rate:g}"))[0].state_dict()
        moved.append(math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in body)))
    assert moved == sorted(moved) and moved[0] > 0


@pytest.mark.parametrize("space", [200, 1000])
def test_the_larger_decay_has_the_smaller_weights(space: int, tmp_path: Path) -> None:
    pool = Pool(Networks(tmp_path), tmp_path)
    shipped(f"pool-{space}-classes-decay-0-3")
    sizes = []
    for decay in (0.05, 0.3):
        state = models.read(pool.file(f"{space} classes, decay {decay:g}"))[0].state_dict()
        sizes.append(sum(float(value.square().sum()) for name, value in state.items() if name.startswith("blocks.") and value.ndim == 2))
    assert sizes[1] < sizes[0]


def test_a_member_that_is_not_there_is_made_once(tmp_path: Path) -> None:
    networks = Networks(tmp_path, smoke=True)
    pool = Pool(networks, tmp_path / "pool")
    name = "200 classes, decay 0.05, rate 0.03"
    path = pool.file(name)
    before = path.stat().st_mtime_ns
    assert path == tmp_path / "pool" / "seed-0" / slug(name) / "model.safetensors" and pool.file(name).stat().st_mtime_ns == before
    classifier = pool.get(name)
    assert (classifier.name, classifier.classes) == (name, len(networks.suite.classes))
    told = models.contents(path)[1]["recipe"]
    assert told["recipe"]["lr"] == 0.03 and told["start"] == "200 classes, decay 0.05"
    assert Pool(Networks(tmp_path, seed=2, smoke=True), tmp_path / "pool").recipe(name).seed == 2


def test_the_script_makes_what_does_not_ship_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    script = importlib.import_module("experiments.pool")
    assert [f"pool-{slug(name)}" for name in script.NAMES] == POOL
    some = ("200 classes, decay 0.3", "200 classes, decay 0.3, rate 0.01")
    monkeypatch.setattr(script, "NAMES", some)
    monkeypatch.setattr(script, "accuracy", lambda *_: 0.5)
    for _ in range(2):
        script.main(["--out", str(tmp_path / "out"), "--smoke", "--keep", str(tmp_path / "kept")])
    told = {path.stem: models.contents(path)[1] for path in (tmp_path / "kept").iterdir()}
    assert set(told) == {f"pool-{slug(name)}" for name in some}
    assert {facts["pool"] for facts in told.values()} == set(some) and all(facts["test_accuracy"] == 0.5 for facts in told.values())
    # the member begins with the pretraining that was made here, not the one that ships
    assert (tmp_path / "out" / "pool" / slug(some[0]) / "model.safetensors").exists()


def test_the_published_pool_says_how_each_was_trained() -> None:
    found = {one.name: one for one in published()}
    one = found["timm:vit_base_patch16_224.augreg_in21k_ft_in1k"]
    assert (
        one.settings["pretraining"] == "i21k" and one.settings["architecture"] == "vit_base_patch16_224" and float(one.settings["learning rate"]) > 0
    )
    assert one.pretraining == f"i21k, decay {one.settings['weight decay']}"
    clip = next(one for one in found.values() if one.settings["pretraining"] == "clip")
    assert clip.pretraining == "clip" and "weight decay" not in clip.settings
    assert {one.settings["pretraining"] for one in found.values()} == {"i1k", "i21k", "clip"} and len(found) > 20


# --- records that are kept ----------------------------------------------------------------------------------------------------------------------


def test_records_are_made_once(tmp_path: Path) -> None:
    stage, made = Stage("glyphs", tmp_path, seed=3), []

    def make() -> list[Record]:
        made.append(1)
        return [Record(("a",), {"fpr": 1 / 3}, {"fpr": (0.0, 2 / 3)})]

    first = once(stage, "pool/a", make)
    assert first == once(stage, "pool/a", make) == [Record(("a",), {"fpr": 0.3333}, {"fpr": (0.0, 0.6667)}, 3)] and len(made) == 1
    with pytest.raises(InputError, match=r"a\.json is of other settings: .*'smoke': False.*\. Give another folder with --out, or delete it\.$"):
        once(Stage("glyphs", tmp_path, seed=3, smoke=True), "pool/a", make)
    (tmp_path / "seed-3" / "pool" / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json cannot be read \(JSONDecodeError: .*\)\. Delete it, and it is made again\.$"):
        once(stage, "pool/a", make)
    (tmp_path / "seed-3" / "file").write_text("")
    with pytest.raises(InputError, match=r"b\.json cannot be written: .*\. Make room, and run the same command again\.$"):
        once(stage, "file/b", make)


def test_the_claim_of_one_seed_is_told_by_its_interval_over_models() -> None:
    claim = Claim("x", lambda cells: cells["a", "v"], interval=lambda cells: cells.interval("a", "v"))
    one, other = (Record(("a",), {"v": value}, {"v": (value - 1, value + 1)}, seed) for seed, value in enumerate((0.5, 5.0)))
    assert [found.holds for found in verdicts([claim], [one], [])] == ["not told"]
    assert [found.holds for found in verdicts([claim], [other], [])] == ["yes"]
    assert verdicts([claim], [one, other], [])[0].difference.seeds == 2  # by Student's t over seeds then


# --- claims on made-up worlds -------------------------------------------------------------------------------------------------------------------


def world(sign: float, _stage: Stage, name: str) -> list[Record]:
    """What the paper found (`sign` 1), or its opposite: FPR by how a model was trained; on unit tests, accurate models have any."""
    space, decay, rate = (
        PRETRAININGS[MEMBERS[name].pretraining][0],
        *(float(MEMBERS[name].settings[key]) for key in ("weight decay", "learning rate")),
    )
    place = list(MEMBERS).index(name)
    good = (space == 1000) + (decay == 0.3) + (RATES[-1] - rate) * 10 + place % 3 / 10
    accuracy = 80 + 4 * good
    found = [Record(("ID",), {"accuracy": accuracy})]
    for method in METHODS.values():
        behind = 0.0 if method == "Mahalanobis" else 5.0
        near = 50 - 8 * sign * good + sign * behind
        unit = 40 - 8 * sign * good + sign * behind + (40 if place == 13 and sign > 0 else 0)
        found.append(Record((on(method, NEAR),), {"fpr": near, "auroc": 90.0}))
        found.append(Record((on(method, UNIT),), {"fpr": unit, "auroc": 90.0, "failed": 17.0 * (unit > 50), "worst": 100.0}))
    return found


@pytest.mark.parametrize("name", ["vit-accuracy", "vit-pretraining", "vit-best"])
def test_claims_have_their_sign(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit, "CONVOLUTIONAL", ())
    held = {}
    for sign in (1.0, -1.0):
        monkeypatch.setattr(vit, "told", partial(world, sign))
        records = run(EXPERIMENTS[name], [Stage("glyphs", tmp_path / f"{sign}")])
        told = verdicts(EXPERIMENTS[name].claims, records, ())
        assert len(told) == len(EXPERIMENTS[name].claims) - (name == "vit-pretraining")  # CLIP is not on Glyphs
        held[sign] = {found.claim.text: found.difference.value for found in told if not found.claim.same}
    for text, value in held[1.0].items():
        assert value > 0, text
        if "Some of" not in text and "goes with accuracy less" not in text:
            assert held[-1.0][text] < 0, text


def test_a_soup_stands_beside_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit, "told", partial(world, 1.0))
    monkeypatch.setattr(vit, "stirred", lambda *_: None)
    mixed = [Record(("ID",), {"accuracy": 80.0}), *(Record((label,), {"fpr": 30.0, "auroc": 90.0}) for label in labels())]
    monkeypatch.setattr(vit, "judged", lambda *_: mixed)
    records = run(EXPERIMENTS["vit-soups"], [Stage("glyphs", tmp_path)])
    figures = {record.of: record.values["fpr"] for record in records if record.of[2] != "ID"}
    label = on("Mahalanobis", NEAR)
    for name in PRETRAININGS:
        members = [world(1.0, Stage("glyphs", tmp_path), f"{name}, rate {rate:g}")[3].values["fpr"] for rate in RATES]
        assert figures[name, "soup", label] == 30.0
        assert figures[name, "mean of members", label] == pytest.approx(np.mean(members), abs=1e-3)
        assert figures[name, "best member", label] == pytest.approx(min(members), abs=1e-3)
    told = {found.claim.text: found for found in verdicts(EXPERIMENTS["vit-soups"].claims, records, ())}
    saved = [figures[name, "mean of members", label] - 30 for name in PRETRAININGS]
    found = told[f"A soup has about the FPR that its members have on average ({label})"].difference
    half = stats.t.ppf(0.975, 3) * np.std(saved, ddof=1) / 2
    assert (found.value, found.interval) == (pytest.approx(np.mean(saved)), pytest.approx((np.mean(saved) - half, np.mean(saved) + half)))
    behind = [30 - figures[name, "best member", label] for name in PRETRAININGS]
    assert told[f"A soup has a higher FPR than the best of its members ({label})"].difference.value == pytest.approx(np.mean(behind))


def test_ranks_are_over_models_and_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit, "told", partial(world, 1.0))
    records = [record for record in run(EXPERIMENTS["vit-best"], [Stage("glyphs", tmp_path)]) if record.of[1] != "mean"]
    assert len(records) == 48 and all(record.values["either"] == max(record.values["near"], record.values["unit"]) for record in records)
    for record in records:
        assert record.values["rank"] == 1 + sum(other.values["either"] < record.values["either"] for other in records)


def test_figures_are_gathered_and_halved() -> None:
    each = [[Record(("a",), {"fpr": value})] for value in (3.0, 1.0)]
    assert gathered(each)["a", "fpr"].tolist() == [3.0, 1.0]
    assert upper_half({"a": 1.0, "b": 2.0}) == ["b"]


# --- all of it ----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, since they share what they know of the models."""
    return tmp_path_factory.mktemp("study")


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_of_each_runs(name: str, out: Path, tmp_path: Path) -> None:
    chosen, stage = EXPERIMENTS[name], Stage("glyphs", out, smoke=True)
    records = run(chosen, [stage], cells=1)
    assert records and all(len(record.of) == len(chosen.keys) and set(record.values) <= set(chosen.figures) for record in records)
    assert all(math.isfinite(value) for record in records for value in record.values.values())
    if name == "vit-accuracy":
        assert {record.of[2] for record in records} == {*labels(), "ID"} and {"failed", "worst"} <= set(records[-1].values)
        assert list(chosen.cells(Stage("glyphs", tmp_path))) == [*MEMBERS, *vit.CONVOLUTIONAL, "correlation"]


def test_a_model_of_ones_own_stands_for_the_pool(tmp_path: Path) -> None:
    stage = Stage("full", tmp_path, root=tmp_path, model="timm:vit_tiny_patch16_224", random_weights=True)
    assert list(EXPERIMENTS["vit-accuracy"].cells(stage)) == ["timm:vit_tiny_patch16_224"]
    assert list(EXPERIMENTS["vit-soups"].cells(stage)) == []

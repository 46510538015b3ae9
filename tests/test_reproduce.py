"""The engine of the experiments: what is kept, what is refused, and the figures, intervals and verdicts against their definitions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farfield import citations
from farfield.data import suites
from farfield.data.images import Images, OODSet, Suite
from farfield.errors import InputError
from farfield.reproduce import EXPERIMENTS, Stage, experiment, named, run, seconds
from farfield.reproduce.base import Cells, Claim, Experiment, Record, plain, printed, read
from farfield.reproduce.few import few_of, kept, limited
from farfield.reproduce.figures import Mean, Scored, records, weights_of
from farfield.reproduce.verdicts import over_seeds, table, verdicts

NAMES = st.text(st.characters(exclude_characters="|\n\r", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=8).filter(
    lambda name: name != "-" and name.splitlines() == [name]
)
FIGURES = st.floats(-100, 100).map(lambda value: round(value, 4))


def counted(done: list[str], names: Iterable[str] = ("a", "b")) -> Experiment:
    """An experiment that notes which of its cells are done."""

    def cells(stage: Stage) -> dict[str, Callable[[], Iterable[Record]]]:
        def cell(name: str) -> Callable[[], Iterable[Record]]:
            def work() -> Iterable[Record]:
                done.append(f"{name}{stage.seed}")
                return [Record((name,), {"auroc": 50.0 + stage.seed}, {"auroc": (40.0, 60.0)})]

            return work

        return {name: cell(name) for name in names}

    return Experiment("made-up", "Sun et al., ICML 2022", "Table 0", "Nothing.", ("method",), {"auroc": "AUROC"}, cells)


# --- cells that are kept --------------------------------------------------------------------------------------------------------------------


def test_a_cell_is_done_once_and_seeds_stand_beside_each_other(tmp_path: Path) -> None:
    done: list[str] = []
    told: list[tuple[str, int, int]] = []
    stages = [Stage("glyphs", tmp_path, seed) for seed in (3, 1)]
    found = run(counted(done), stages, each=lambda *step: told.append(step))
    assert done == ["a3", "b3", "a1", "b1"]
    assert told[:2] == [("made-up, seed 3: a", 0, 2), ("made-up, seed 3: b", 1, 2)]
    assert [(record.of, record.seed, record.values["auroc"]) for record in found] == [
        (("a",), 3, 53.0),
        (("b",), 3, 53.0),
        (("a",), 1, 51.0),
        (("b",), 1, 51.0),
    ]
    assert run(counted(done), stages) == found and len(done) == 4
    assert 0 <= seconds(counted(done), stages) < 5
    (tmp_path / "seed-1" / "cells" / "made-up" / "b.json").unlink()
    assert run(counted(done), stages) == found and done[4:] == ["b1"]


def test_only_some_cells_when_asked(tmp_path: Path) -> None:
    done: list[str] = []
    found = run(counted(done), [Stage("glyphs", tmp_path)], cells=1)
    assert done == ["a0"] and [record.of for record in found] == [("a",)]


def test_what_is_done_stays_when_a_cell_fails(tmp_path: Path) -> None:
    done: list[str] = []

    def cells(stage: Stage) -> dict[str, Callable[[], Iterable[Record]]]:
        def missing() -> Iterable[Record]:
            raise InputError("The weights are not there.")

        return {**counted(done).cells(stage), "c": missing}

    broken = replace(counted(done), cells=cells)
    for _ in range(2):
        with pytest.raises(InputError, match="weights"):
            run(broken, [Stage("glyphs", tmp_path)])
    assert done == ["a0", "b0"]


@pytest.mark.parametrize("change", [{"limit": 5}, {"smoke": True}, {"random_weights": True}, {"model": "timm:resnet18"}, {"preprocess": "crop=8"}])
def test_a_folder_of_other_settings_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run(counted([]), [Stage("glyphs", tmp_path)])
    with pytest.raises(InputError) as raised:
        run(replace(counted([]), name="another"), [Stage("glyphs", tmp_path, **change)])
    ((name, value),) = change.items()
    before = {"limit": None, "model": None, "preprocess": None}.get(name, False)
    assert (
        str(raised.value) == f"{tmp_path} holds experiments with other settings: {name} was {before} and is {value}. Give another folder with --out."
    )


def test_another_scale_is_refused_and_another_seed_is_not(tmp_path: Path) -> None:
    run(counted([]), [Stage("glyphs", tmp_path)])
    run(counted([]), [Stage("glyphs", tmp_path, 7)])
    with pytest.raises(InputError, match="scale was glyphs and is full"):
        run(counted([]), [Stage("full", tmp_path)])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "JSONDecodeError"),
        ("[1]", "no JSON object"),
        ("{}", "KeyError: 'records'"),
        ('{"about": {}, "seconds": 1, "records": [{"of": ["a"]}]}', "KeyError: 'values'"),
        ('{"about": {}, "seconds": 1, "records": [{"of": ["a"], "values": {"auroc": "x"}}]}', "ValueError"),
        ('{"about": {}, "seconds": 1, "records": [{"of": ["a"], "values": {"auroc": 1}, "intervals": {"auroc": 3}}]}', "TypeError"),
        ('{"about": {}, "seconds": 1, "records": [{"of": ["a"], "values": []}]}', "AttributeError"),
        ('{"about": {"scale": "full"}, "seconds": 1, "records": []}', "is of other settings: {'scale': 'full'}"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_a_broken_cell_is_named(tmp_path: Path, text: str, why: str) -> None:
    run(counted([]), [Stage("glyphs", tmp_path)])
    path = tmp_path / "seed-0" / "cells" / "made-up" / "b.json"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        run(counted([]), [Stage("glyphs", tmp_path)])
    message = str(raised.value)
    assert message.startswith(str(path)) and why in message and "Delete it, and that cell is done again" in message and "\n" not in message


def test_broken_settings_and_a_place_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("?")
    with pytest.raises(InputError, match=r"settings\.json cannot be read .* Delete it if you know"):
        run(counted([]), [Stage("glyphs", tmp_path)])
    (tmp_path / "settings.json").unlink()
    (tmp_path / "seed-0").write_text("a file")
    with pytest.raises(InputError, match=r"a\.json cannot be written: .* Make room, and run the same command again"):
        run(counted([]), [Stage("glyphs", tmp_path)])


def test_experiments_by_name_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no experiment 'mos-tabel-1'; did you mean 'mos-table-1'"):
        experiment("mos-tabel-1")
    for name in ("mos-table-1.json", "settings.json", "mos-figure-2.json"):
        (tmp_path / name).write_text("{}")
    assert [one.name for one in named(str(tmp_path))] == ["mos-figure-2", "mos-table-1"]
    assert [one.name for one in named("mos-groups")] == ["mos-groups"] and named("knn:k=5") == []


# --- records --------------------------------------------------------------------------------------------------------------------------------


@given(
    st.lists(NAMES, min_size=1, max_size=3),
    st.dictionaries(NAMES, FIGURES, max_size=3),
    st.dictionaries(NAMES, st.tuples(FIGURES, FIGURES), max_size=2),
    st.integers(0, 99),
)
def test_a_record_comes_back_from_json(of: list[str], values: dict[str, float], intervals: dict[str, tuple[float, float]], seed: int) -> None:
    record = Record(tuple(of), values, intervals, seed)
    assert read(json.loads(json.dumps(plain(record)))) == record


@given(
    st.dictionaries(
        st.tuples(NAMES, NAMES), st.lists(st.lists(st.none() | FIGURES, min_size=2, max_size=2), min_size=3, max_size=3), min_size=1, max_size=4
    )
)
def test_a_printed_table_is_read_as_it_stands(rows: dict[tuple[str, str], list[list[float | None]]]) -> None:
    columns = ("one", "two", "average")
    lines = [" | ".join([*of, *("-" if v is None else str(v) for pair in told for v in pair)]) for of, told in rows.items()]
    found = printed("\n".join(lines), 2, ("fpr", "auroc"), columns)
    expected = {
        (*of, column): {name: v for name, v in zip(("fpr", "auroc"), pair, strict=True) if v is not None}
        for of, told in rows.items()
        for column, pair in zip(columns, told, strict=True)
    }
    assert {record.of: dict(record.values) for record in found} == {of: values for of, values in expected.items() if values}


def test_a_printed_line_of_the_wrong_length_is_no_table() -> None:
    with pytest.raises(ValueError, match="shorter"):
        printed("msp | 1.0", 1, ("fpr", "auroc"))
    assert printed("msp | 1.0 | -", 1, ("fpr", "auroc")) == [Record(("msp",), {"fpr": 1.0})]


# --- figures against their definitions ------------------------------------------------------------------------------------------------------


def auroc_of(s_in: Any, s_out: Any) -> float:
    """The chance that an ID picture scores higher than another, a tie counting half: pair by pair."""
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in s_in.tolist() for b in s_out.tolist())
    return 100 * won / (len(s_in) * len(s_out))


def fpr_of(s_in: Any, s_out: Any, convention: str) -> float:
    """By every threshold there can be."""
    every = sorted({*s_in.tolist(), *s_out.tolist()})
    if convention == "id":  # the largest threshold that keeps 95 % of ID; what of OOD it keeps
        cut = max(t for t in every if sum(s >= t for s in s_in.tolist()) >= 0.95 * len(s_in))
        return 100 * sum(s >= cut for s in s_out.tolist()) / len(s_out)
    cut = min(t for t in every if sum(s <= t for s in s_out.tolist()) >= 0.95 * len(s_out))  # the smallest that catches 95 % of OOD
    return 100 * sum(s <= cut for s in s_in.tolist()) / len(s_in)


def world(seed: int) -> tuple[Any, dict[str, Scored]]:
    rng = np.random.default_rng(seed)
    s_in = np.round(rng.normal(2, 1, 60), 1)  # with ties
    sets = {name: Scored(np.round(rng.normal(shift, 1, n), 1), group) for name, shift, n, group in (
        ("a", 0.5, 40, "near"), ("b", 0.0, 55, "far"), ("c", 1.0, 30, "far"), ("looks", 2.0, 25, "shifted"))}  # fmt: skip
    return s_in, sets


@pytest.mark.parametrize("convention", ["id", "ood"])
@pytest.mark.parametrize("mean", ["sets", "groups"])
def test_figures_are_those_of_loops(convention: Any, mean: Mean) -> None:
    s_in, sets = world(0)
    found = {record.of: record for record in records("msp", s_in, sets, fpr=convention, mean=mean)}
    assert list(found) == [("msp", name) for name in ("a", "b", "c", "looks", "average")]
    for name, one in sets.items():
        record = found["msp", name]
        assert record.values["auroc"] == pytest.approx(auroc_of(s_in, one.scores), abs=1e-9)
        assert record.values["fpr"] == pytest.approx(fpr_of(s_in, one.scores, convention), abs=1e-9)
    weights = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3} if mean == "sets" else {"a": 1 / 2, "b": 1 / 4, "c": 1 / 4}
    for figure in ("auroc", "fpr"):
        assert found["msp", "average"].values[figure] == pytest.approx(sum(w * found["msp", name].values[figure] for name, w in weights.items()))
    for record in found.values():
        for figure, (low, high) in record.intervals.items():
            assert 0 <= low <= record.values[figure] <= high <= 100, (record.of, figure)


@pytest.mark.parametrize("mean", ["sets", "groups"])
def test_the_interval_of_a_mean_auroc_is_delongs(mean: Mean) -> None:
    s_in, sets = world(1)
    weights = weights_of(sets, mean)

    def won(a: float, b: float) -> float:
        return 1.0 if a > b else 0.5 if a == b else 0.0

    v_in = np.zeros(len(s_in))
    variance = 0.0
    for name, weight in weights.items():
        s_out = sets[name].scores
        v_in += weight * np.array([np.mean([won(a, b) for b in s_out]) for a in s_in])
        v_out = np.array([np.mean([won(a, b) for a in s_in]) for b in s_out])
        variance += weight**2 * v_out.var(ddof=1) / len(s_out)
    error, value = math.sqrt(variance + v_in.var(ddof=1) / len(s_in)), v_in.mean()
    half = 1.959964 * error / (value * (1 - value))
    logit = math.log(value / (1 - value))
    expected = [100 / (1 + math.exp(-(logit + sign * half))) for sign in (-1, 1)]
    (average,) = [record for record in records("x", s_in, sets, mean=mean) if record.of[1] == "average"]
    assert average.intervals["auroc"] == pytest.approx(expected, abs=0.02)


def test_the_interval_of_a_mean_fpr_is_a_bootstraps() -> None:
    s_in, sets = world(0)
    (average,) = [record for record in records("x", s_in, sets, mean="groups") if record.of[1] == "average"]
    rng, drawn = np.random.default_rng(5), []
    for _ in range(2000):
        cut = np.sort(rng.choice(s_in, len(s_in)))[len(s_in) // 20]  # 57 of 60 are kept
        rate = {name: (rng.choice(one.scores, len(one.scores)) >= cut).mean() for name, one in sets.items()}
        drawn.append(rate["a"] / 2 + rate["b"] / 4 + rate["c"] / 4)
    low, high = 100 * np.quantile(drawn, [0.025, 0.975])
    assert average.intervals["fpr"] == pytest.approx((low, high), abs=0.2 * (high - low))


def test_pictures_of_one_source_are_not_counted_apart() -> None:
    s_in, sets = np.random.default_rng(2).normal(2, 1, 1000), world(2)[1]
    alone = sets["b"]
    often = Scored(np.tile(alone.scores, 9), "far", np.tile(np.arange(len(alone.scores)), 9))
    careless = Scored(often.scores, "far")

    def interval(one: Scored, name: str, figure: str) -> np.ndarray:
        return np.array({record.of[1]: record for record in records("x", s_in, {"b": one, "c": sets["c"]})}[name].intervals[figure])

    for name in ("b", "average"):
        width = {kind: np.ptp(interval(one, name, "auroc")) for kind, one in (("alone", alone), ("often", often), ("careless", careless))}
        assert width["often"] == pytest.approx(width["alone"], rel=0.05) and width["careless"] < 0.9 * width["alone"]
    assert np.ptp(interval(often, "average", "fpr")) > 1.1 * np.ptp(interval(careless, "average", "fpr"))


def test_average_precision_is_there_when_asked_for() -> None:
    s_in, sets = world(3)
    found = {record.of[1]: record for record in records("x", s_in, sets, precision=True)}
    ranked = sorted([(s, True) for s in s_in.tolist()] + [(s, False) for s in sets["a"].scores.tolist()], key=lambda pair: -pair[0])
    hits = total = area = 0.0
    for threshold in sorted({score for score, _ in ranked}, reverse=True):
        mine = [positive for score, positive in ranked if score == threshold]
        hits, total = hits + sum(mine), total + len(mine)
        area += sum(mine) / len(s_in) * hits / total
    assert found["a"].values["ap_id"] == pytest.approx(100 * area)
    assert set(found["average"].values) == {"auroc", "fpr", "ap_id", "ap_ood"} and "ap_ood" in found["a"].intervals
    assert found["average"].values["ap_ood"] == pytest.approx(np.mean([found[name].values["ap_ood"] for name in ("a", "b", "c")]))


@given(st.dictionaries(NAMES, st.sampled_from(["near", "far", "shifted", "unit-test"]), max_size=8), st.sampled_from(["sets", "groups"]))
def test_weights_are_even_within_a_group_and_make_one(groups: dict[str, str], mean: Mean) -> None:
    weights = weights_of({name: Scored(np.zeros(1), group) for name, group in groups.items()}, mean)
    counted = [name for name, group in groups.items() if group in ("near", "far")]
    assert set(weights) == set(counted)
    if counted:
        assert sum(weights.values()) == pytest.approx(1)
        totals = {group: sum(w for name, w in weights.items() if groups[name] == group) for group in ("near", "far")}
        both = min(totals.values()) > 0
        assert not (mean == "groups" and both) or totals["near"] == pytest.approx(totals["far"])
        assert mean == "groups" or len(set(weights.values())) == 1


def test_no_near_or_far_set_means_no_average() -> None:
    s_in, sets = world(4)
    assert [record.of[1] for record in records("x", s_in, {"looks": sets["looks"]})] == ["looks"]


# --- verdicts over seeds --------------------------------------------------------------------------------------------------------------------


def judged(values: Iterable[float], same: bool = False, published: Iterable[Record] = ()) -> Any:
    claim = Claim("It is higher", lambda cells: cells["a", "auroc"] - cells["b", "auroc"], same)
    found = [Record((name,), {"auroc": v}, seed=i) for i, value in enumerate(values) for name, v in (("a", 50 + value), ("b", 50.0))]
    return verdicts([claim], found, list(published))[0]


@pytest.mark.parametrize(
    ("values", "same", "interval", "holds"),
    [
        # half width by Student's t: 4.302653 s / sqrt 3 with three seeds, 12.706205 s / sqrt 2 with two
        ([1.0, 2.0, 3.0], False, (2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), "not told"),
        ([2.0, 2.5, 3.0], False, (2.5 - 2.151326 / 3**0.5, 2.5 + 2.151326 / 3**0.5), "yes"),
        ([-2.0, -2.5, -3.0], False, (-2.5 - 2.151326 / 3**0.5, -2.5 + 2.151326 / 3**0.5), "no"),
        ([1.0, 2.0], False, (1.5 - 12.706205 / 2, 1.5 + 12.706205 / 2), "not told"),
        ([0.1, 0.2, 0.3], True, (0.2 - 0.430265 / 3**0.5, 0.2 + 0.430265 / 3**0.5), "yes"),
        ([-1.0, 0.0, 1.0], True, (-4.302653 / 3**0.5, 4.302653 / 3**0.5), "not told"),
        ([2.0, 2.5, 3.0], True, (2.5 - 2.151326 / 3**0.5, 2.5 + 2.151326 / 3**0.5), "no"),
        ([0.0, 0.0, 0.0], True, (0.0, 0.0), "yes"),
        ([0.4, 0.4], False, (0.4, 0.4), "yes"),
    ],
)
def test_a_claim_is_told_from_chance_by_students_t(values: list[float], same: bool, interval: tuple[float, float], holds: str) -> None:
    found = judged(values, same)
    assert found.difference.interval == pytest.approx(interval, abs=1e-5)
    assert found.difference.value == pytest.approx(sum(values) / len(values)) and found.holds == holds


@pytest.mark.parametrize(("value", "same", "holds"), [(1.0, False, "yes, one seed"), (-1.0, False, "no, one seed"), (0.0, True, "one seed")])
def test_one_seed_says_no_more_than_a_sign(value: float, same: bool, holds: str) -> None:
    found = judged([value], same)
    assert found.difference.interval is None and found.holds == holds


def test_the_papers_own_difference_stands_beside_it() -> None:
    assert judged([1.0]).paper is None
    assert judged([1.0], published=[Record(("a",), {"auroc": 90.0}), Record(("b",), {"auroc": 87.5})]).paper == 2.5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda cells: cells["gone", "auroc"],
        lambda cells: min([]),
        lambda cells: next(iter(())),
        lambda cells: None - 1,
        lambda cells: over_seeds([]).value,
        lambda cells: math.nan,
    ],
)
def test_a_claim_whose_figures_are_not_there_has_no_verdict(wrong: Callable[[Cells], float]) -> None:
    assert verdicts([Claim("x", wrong)], [Record(("a",), {"auroc": 1.0})], []) == []


def test_figures_over_seeds_and_a_figure_that_two_cells_have() -> None:
    found = table(
        [Record(("a",), {"x": 1.0}, {"x": (0.5, 1.5)}, 0), Record(("a",), {"x": 1.0}, {"x": (0.5, 1.5)}, 0), Record(("b",), {"x": 3.0}, {}, 0)]
    )
    assert (found["a",]["x"].value, found["a",]["x"].interval, found["a",]["x"].seeds) == (1.0, (0.5, 1.5), 1)
    assert found["b",]["x"].interval is None
    both = table([Record(("a",), {"x": v}, {"x": (0.0, 9.0)}, seed) for seed, v in enumerate((1.0, 3.0))])["a",]["x"]
    assert both.value == 2.0 and both.interval == pytest.approx((2 - 12.706205, 2 + 12.706205), abs=1e-4) and both.seeds == 2


@given(st.lists(FIGURES, min_size=1, max_size=6), FIGURES)
def test_an_estimate_moves_with_what_it_is_of(values: list[float], shift: float) -> None:
    one, moved = over_seeds(values), over_seeds([value + shift for value in values])
    assert moved.value == pytest.approx(one.value + shift, abs=1e-6) and one.seeds == len(values)
    if one.interval is not None and moved.interval is not None:
        assert one.interval[0] <= one.value + 1e-9 and one.value - 1e-9 <= one.interval[1]
        assert np.ptp(moved.interval) == pytest.approx(np.ptp(one.interval), abs=1e-6)


# --- suites cut down ------------------------------------------------------------------------------------------------------------------------


def test_few_of_a_suite_keeps_its_groups_and_its_labels() -> None:
    whole = suites.load("glyphs-200")
    some = few_of(whole)
    chosen = list(kept(200))
    assert some.name != whole.name and some.classes == tuple(whole.classes[c] for c in chosen)
    assert set(some.taxonomy) == set(whole.taxonomy)
    for group, members in some.taxonomy.items():
        assert [chosen[m] for m in members] == [c for c in whole.taxonomy[group] if c in chosen]
    assert sorted(m for members in some.taxonomy.values() for m in members) == list(range(len(chosen)))
    original, cut = whole.split("test"), some.split("test")
    assert set(cut.labels.tolist()) <= set(range(len(chosen)))
    for i in (0, len(cut) // 2, len(cut) - 1):
        same = (original.images == cut.images[i]).flatten(1).all(1).nonzero()[:, 0]
        assert chosen[int(cut.labels[i])] in original.labels[same].tolist()
    noise = next(ood for ood in some.ood if ood.load().parts).load()
    assert [span.stop - span.start for span in noise.parts.values()] == [6] * 17 and len(noise) == 17 * 6
    assert some.drawn is not None and some.drawn(3).fingerprint() == some.split("train").fingerprint()
    assert all(ood.group != "shifted" for ood in some.ood)


def tiny(n: int) -> Suite:
    images = Images("x", torch.arange(n * 48, dtype=torch.int64).to(torch.uint8).reshape(n, 3, 4, 4), torch.arange(n) % 3)
    return Suite("tiny", ("a", "b", "c"), {}, {"test": lambda: images}, (OODSet("o", "far", lambda: images),), (), "", drawn=lambda epoch: images)


@given(st.integers(1, 40), st.integers(1, 50))
def test_limited_sets_are_spread_over_what_is_there(n: int, limit: int) -> None:
    whole, cut = tiny(n), limited(tiny(n), limit)
    for data in (cut.split("test"), cut.ood[0].load()):
        assert len(data) == min(n, limit)
    assert cut.drawn is None and limited(whole, None) is whole


# --- what the experiments say of themselves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", EXPERIMENTS.values(), ids=lambda one: one.name)
def test_an_experiment_is_whole(one: Experiment) -> None:
    assert one.paper in citations.known() and one.what.endswith(".") and one.place and one.suite
    assert one.keys and one.figures and len(set(one.keys)) == len(one.keys)
    for record in one.published:
        assert len(record.of) == len(one.keys), record
        assert set(record.values) <= set(one.figures), record
    if one.plot is not None:
        assert one.plot.y in one.figures and one.plot.x in {**dict.fromkeys(one.keys), **one.figures}
        assert {one.plot.series, one.plot.panel} - {""} <= set(one.keys)
    assert len({claim.text for claim in one.claims}) == len(one.claims) and not any(claim.text.endswith(".") for claim in one.claims)


def test_an_experiment_has_cells_at_both_scales(tmp_path: Path) -> None:
    for one in EXPERIMENTS.values():
        assert one.cells(Stage("glyphs", tmp_path)), one.name
        try:
            full = one.cells(Stage("full", tmp_path, root=tmp_path))
        except InputError as error:  # its cells depend on how much data there is
            assert f"There is no folder {tmp_path}" in str(error), one.name
        else:
            assert full or one.name == "vit-soups"  # timm has no two of one pretraining


def test_an_experiment_without_cells_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="made-up has nothing to run at the scale glyphs: what it compares is not to be had there"):
        run(counted([], ()), [Stage("glyphs", tmp_path)])


def test_a_figure_that_is_not_told_is_not_there(tmp_path: Path) -> None:
    values = {"rho": math.nan, "auroc": 50.0, "fpr": 3.0, "time": math.inf}
    intervals = {"rho": (0.1, 0.2), "auroc": (40.0, 60.0), "fpr": (math.nan, 5.0)}
    one = replace(counted([]), cells=lambda stage: {"a": lambda: [Record(("a",), values, intervals)]})
    for _ in range(2):
        assert run(one, [Stage("glyphs", tmp_path)]) == [Record(("a",), {"auroc": 50.0, "fpr": 3.0}, {"auroc": (40.0, 60.0)})]

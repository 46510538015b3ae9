"""Two runs side by side: every difference, interval and p-value against formulas written here from the placements."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats
from torch import nn

import farfield as ff
from farfield import benchmark, compare, metrics, report
from farfield.data.images import Images, OODSet, Suite
from farfield.data.transforms import Normalize
from farfield.detectors import parse
from farfield.metrics import Placements

Vectors = tuple[np.ndarray, np.ndarray]
ODD_ONES = {"near-one": "near", "near-two": "near", "far-one": "far", "other": "shifted"}


# Oracles


def placed(s_in: np.ndarray, s_out: np.ndarray) -> Vectors:
    """Where each score stands among those of the other side, pair by pair."""
    above = (s_in[:, None] > s_out[None]) + 0.5 * (s_in[:, None] == s_out[None])
    return above.mean(1), above.mean(0)


def variance(values: np.ndarray, clusters: np.ndarray | None = None) -> tuple[float, int]:
    """Of the mean, with as many units as it has clusters."""
    names = np.arange(len(values)) if clusters is None else clusters
    sums = np.array([(values[names == name] - values.mean()).sum() for name in np.unique(names)])
    return float((sums**2).sum() * len(sums) / (len(sums) - 1) / len(values) ** 2), len(sums)


def terms(sides: Sequence[Vectors], clusters: Sequence[np.ndarray | None] | None = None) -> list[tuple[float, int]]:
    """The independent parts of the variance of a mean over sets that share the ID pictures."""
    k = len(sides)
    found = [variance(np.mean([v_in for v_in, _ in sides], axis=0))]
    for (_, v_out), ids in zip(sides, clusters or [None] * k, strict=True):
        part, units = variance(v_out, ids)
        found.append((part / k**2, units))
    return found


def auroc(sides: Sequence[Vectors]) -> float:
    return float(np.mean([v_in.mean() for v_in, _ in sides]))


def t_test(difference: float, parts: Sequence[tuple[float, int]], normal: bool) -> tuple[float, float, float]:
    """Low, high and p-value, by Welch and Satterthwaite or by the normal distribution."""
    total = sum(part for part, _ in parts)
    df = total**2 / sum(part**2 / (units - 1) for part, units in parts)
    law = stats.norm() if normal else stats.t(df)
    half = law.ppf(0.975) * total**0.5
    return max(-1.0, difference - half), min(1.0, difference + half), 2 * law.sf(abs(difference) / total**0.5)


def holm(p_values: Sequence[float]) -> list[float]:
    """By the definition: reject in the order of p while p < alpha / (those left); the smallest such alpha."""
    adjusted = []
    for p in p_values:
        smaller = sorted(q for q in p_values if q <= p)
        adjusted.append(min(1.0, max(q * (len(p_values) - rank) for rank, q in enumerate(smaller))))
    return adjusted


def as_placements(sides: Sequence[Vectors]) -> list[Placements]:
    return [Placements(v_in, v_out) for v_in, v_out in sides]


# Runs on outputs that were given


def given(seed: int, quality: float, n: int = 60) -> dict[str, ff.Outputs]:
    """Outputs whose largest logit is higher for ID pictures by `quality`."""
    rng = np.random.default_rng(seed)
    shift = {"test": quality, "near-one": 0.4, "near-two": 0.1, "far-one": -0.8, "other": 0.9}
    found = {}
    for i, (name, height) in enumerate(shift.items()):
        logits = np.round(rng.normal(height, 1, (n - 5 * i, 3)), 1).astype(np.float32)
        found[name] = ff.Outputs(logits=torch.from_numpy(logits), labels=torch.from_numpy(logits.argmax(1)) if name == "test" else None)
    return found


def given_suite(outputs: Mapping[str, ff.Outputs], name: str = "mine", groups: Mapping[str, Any] | None = None) -> Suite:
    ood = tuple(OODSet(key, group, lambda key=key: outputs[key]) for key, group in (groups or ODD_ONES).items())
    return Suite(name, (), {}, {"test": lambda: outputs["test"]}, ood, (), "x")


def written(out: Path, jobs: Sequence[tuple[Suite, Sequence[Any]]], detectors: Sequence[str] = ("maxlogit", "msp")) -> Path:
    results = benchmark.run(jobs, {name: parse(name) for name in detectors}, out=out)
    report.write(results.plain(), out)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    a, b = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    return written(a, [(given_suite(given(0, 1.0)), [None])]), written(b, [(given_suite(given(1, 1.6, n=80)), [None])])


def largest(outputs: ff.Outputs) -> np.ndarray:
    assert outputs.logits is not None
    return outputs.logits.double().numpy().max(1)


def by_key(comparison: compare.Comparison, detector: str) -> dict[tuple[str | None, str], compare.Difference]:
    return {(d.ood, d.group): d for d in comparison.differences if d.detector == detector}


def test_runs_on_other_pictures_are_compared_as_independent(two: tuple[Path, Path]) -> None:
    found = by_key(compare.compare(*two), "maxlogit")
    outputs = given(0, 1.0), given(1, 1.6, n=80)
    targets: dict[tuple[str | None, str], list[str]] = {(name, group): [name] for name, group in ODD_ONES.items()}
    targets |= {(None, "near"): ["near-one", "near-two"], (None, "far"): ["far-one"]}
    assert found.keys() == targets.keys()
    for key, members in targets.items():
        a, b = ([placed(largest(side["test"]), largest(side[name])) for name in members] for side in outputs)
        low, high, p = t_test(auroc(b) - auroc(a), [*terms(a), *terms(b)], normal=True)
        entry = found[key]
        assert not entry.paired
        assert entry.auroc == pytest.approx((auroc(a), auroc(b)))
        assert entry.difference == pytest.approx(auroc(b) - auroc(a))
        assert entry.interval == pytest.approx((low, high), abs=1e-7)
        assert entry.p_value == pytest.approx(p, rel=1e-5)


def test_p_values_are_corrected_for_the_number_of_comparisons(two: tuple[Path, Path]) -> None:
    differences = compare.compare(*two).differences
    assert len(differences) == 12
    corrected = holm([d.p_value for d in differences])
    assert [d.p_holm for d in differences] == pytest.approx(corrected)
    assert [d.real for d in differences] == [p < 0.05 for p in corrected]
    assert 0 < sum(d.real for d in differences) < sum(d.p_value < 0.05 for d in differences)


def test_the_oracle_of_the_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]


def test_the_other_way_round_the_signs_change(two: tuple[Path, Path]) -> None:
    there, back = compare.compare(*two), compare.compare(two[1], two[0])
    for one, other in zip(there.differences, back.differences, strict=True):
        assert (one.detector, one.ood, one.group, one.classifiers) == (other.detector, other.ood, other.group, other.classifiers)
        assert other.difference == pytest.approx(-one.difference)
        assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]))
        assert other.auroc == one.auroc[::-1]
        assert (other.p_value, other.p_holm) == pytest.approx((one.p_value, one.p_holm))


def test_runs_are_named_by_folder_or_file_and_compare_as_json(two: tuple[Path, Path]) -> None:
    one, other = compare.compare(*two), compare.compare(two[0] / "results.json", str(two[1]))
    assert compare.plain(one) == compare.plain(other)
    value = json.loads(json.dumps(compare.plain(one)))
    assert value["only_a"] == value["only_b"] == []
    assert value["differences"][0].keys() == {
        "suite", "classifiers", "detector", "ood", "group", "auroc", "difference", "interval", "p_value", "p_holm", "real", "paired",
    }  # fmt: skip
    assert value["differences"][0]["suite"] == "mine"


def test_what_only_one_run_has_is_told_and_half_a_group_has_no_mean(two: tuple[Path, Path], tmp_path: Path) -> None:
    outputs = given(2, 1.2)
    outputs["new"] = outputs["far-one"]
    groups = {"near-one": "near", "far-one": "far", "other": "far", "new": "shifted"}
    third = written(tmp_path, [(given_suite(outputs, groups=groups), [None])], ["maxlogit", "energy"])
    found = compare.compare(two[0], third)
    assert set(found.only_a) >= {"detector msp", "near set near-two of mine"}
    assert set(found.only_b) >= {"detector energy", "shifted set new of mine", "far set other of mine"}
    assert by_key(found, "maxlogit").keys() == {("near-one", "near"), ("far-one", "far")}
    assert {d.detector for d in found.differences} == {"maxlogit"}


def test_nothing_in_common_is_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "suite", [(given_suite(given(2, 1.2), name="yours"), [None])], ["maxlogit"])
    otherwise = written(tmp_path / "detector", [(given_suite(given(2, 1.2)), [None])], ["energy"])
    renamed = written(tmp_path / "sets", [(given_suite({**given(2, 1.2), "x": given(2, 1.2)["other"]}, groups={"x": "far"}), [None])], ["maxlogit"])
    for other in (elsewhere, otherwise, renamed):
        with pytest.raises(ff.InputError, match=r"have no detector and set in common"):
            compare.compare(two[0], other)


def test_what_is_no_run_is_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match=r"nowhere cannot be read as the results of `farfield bench`"):
        compare.compare(two[0], tmp_path / "nowhere")
    with pytest.raises(ff.InputError, match=r"results\.json cannot be read as the results of `farfield bench`: No such file"):
        compare.compare(tmp_path, two[0])
    for text in ("", "{", "[]", "7", "{}", '{"suites": 3}', '{"suites": [{"name": "x"}], "classifiers": [], "rows": []}', '{"suites": [3]}'):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ff.InputError, match=r"results\.json cannot be read as the results"):
            compare.compare(two[0], tmp_path)


def test_missing_scores_are_named(tmp_path: Path) -> None:
    a, b = (written(tmp_path / name, [(given_suite(given(0, 1.0)), [None])], ["maxlogit"]) for name in "ab")
    (path,) = (b / "scores").rglob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ff.InputError, match=rf"{path.name} cannot be read: .* A comparison needs the scores beside results\.json"):
        compare.compare(a, b)
    path.unlink()
    with pytest.raises(ff.InputError, match=r"scores/mine/given_outputs-[0-9a-f]{8}\.safetensors cannot be read"):
        compare.compare(a, b)


# Runs on pictures


def pictures(name: str, n: int, seed: int, bright: int, **more: Any) -> Images:
    random = torch.Generator().manual_seed(seed)
    return Images(name, torch.randint(bright, (n, 3, 2, 2), generator=random, dtype=torch.uint8), torch.arange(n) % 4, **more)


def picture_suite(test_seed: int = 1, near_seed: int = 2) -> Suite:
    return Suite(
        "squares",
        ("a", "b", "c", "d"),
        {"all": (0, 1, 2, 3)},
        {"train": lambda: pictures("train", 60, 0, 256), "test": lambda: pictures("test", 90, test_seed, 256)},
        (
            OODSet("dim", "near", lambda: pictures("dim", 50, near_seed, 190)),
            OODSet("dark", "far", lambda: pictures("dark", 40, 3, 120)),
            OODSet("shots", "far", lambda: pictures("shots", 48, 4, 150, clusters=torch.arange(48) // 6)),
        ),
        (),
        "x",
    )


def net(seed: int, name: str = "net") -> ff.Classifier:
    torch.manual_seed(seed)
    half = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return ff.Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), transform=half, name=name, input_size=(3, 2, 2))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    a, b = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    return written(a, [(picture_suite(), [net(0)])]), written(b, [(picture_suite(), [net(1)])])


TARGETS: dict[tuple[str | None, str], list[str]] = {
    ("dim", "near"): ["dim"],
    ("dark", "far"): ["dark"],
    ("shots", "far"): ["shots"],
    (None, "near"): ["dim"],
    (None, "far"): ["dark", "shots"],
}


def kept(out: Path, detector: str, members: Sequence[str], name: str = "net") -> list[tuple[np.ndarray, np.ndarray]]:
    scores = load_file(out / "scores" / "squares" / f"{name}.safetensors")
    return [(scores[f"{detector}/test"].double().numpy(), scores[f"{detector}/{member}"].double().numpy()) for member in members]


@pytest.mark.parametrize("detector", ["maxlogit", "msp"])
def test_runs_on_the_same_pictures_are_paired(seen: tuple[Path, Path], detector: str) -> None:
    found = by_key(compare.compare(*seen), detector)
    assert found.keys() == TARGETS.keys()
    for key, members in TARGETS.items():
        scores = [kept(out, detector, members) for out in seen]
        a, b = ([placed(*pair) for pair in side] for side in scores)
        apart = [(y[0] - x[0], y[1] - x[1]) for x, y in zip(a, b, strict=True)]
        ids = [np.arange(48) // 6 if name == "shots" else None for name in members]
        low, high, p = t_test(auroc(b) - auroc(a), terms(apart, ids), normal=True)
        entry = found[key]
        assert entry.paired
        assert entry.classifiers == ("net", "net")
        assert entry.auroc == pytest.approx((auroc(a), auroc(b)))
        assert entry.difference == pytest.approx(auroc(b) - auroc(a))
        assert entry.interval == pytest.approx((low, high), abs=1e-7)
        assert entry.p_value == pytest.approx(p, rel=1e-5)
        by_students = metrics.paired_auroc_test(
            (scores[1][0][0], [s_out for _, s_out in scores[1]]), (scores[0][0][0], [s_out for _, s_out in scores[0]]), clusters=ids
        )
        assert entry.difference == pytest.approx(by_students.difference)
        assert by_students.interval.low < entry.interval[0] < entry.interval[1] < by_students.interval.high


def test_only_sets_whose_pictures_are_the_same_are_paired(seen: tuple[Path, Path], tmp_path: Path) -> None:
    near = written(tmp_path / "near", [(picture_suite(near_seed=9), [net(1)])])
    paired = {(d.ood, d.group): d.paired for d in compare.compare(seen[0], near).differences}
    assert paired == {("dim", "near"): False, ("dark", "far"): True, ("shots", "far"): True, (None, "near"): False, (None, "far"): True}
    test = written(tmp_path / "test", [(picture_suite(test_seed=9), [net(1)])])
    found = by_key(compare.compare(seen[0], test), "msp")
    assert not any(d.paired for d in found.values())
    a, b = ([placed(*pair) for pair in kept(out, "msp", ["dark", "shots"])] for out in (seen[0], test))
    ids = [None, np.arange(48) // 6]
    low, high, p = t_test(auroc(b) - auroc(a), [*terms(a, ids), *terms(b, ids)], normal=True)
    assert found[None, "far"].interval == pytest.approx((low, high), abs=1e-7)
    assert found[None, "far"].p_value == pytest.approx(p, rel=1e-5)


def test_a_run_does_not_differ_from_itself(seen: tuple[Path, Path]) -> None:
    for entry in compare.compare(seen[0], seen[0]).differences:
        assert (entry.difference, entry.p_value, entry.p_holm, entry.real, entry.paired) == (0, 1, 1, False, True)
        assert entry.interval[0] < 0 < entry.interval[1]


def test_classifiers_are_matched_by_name_or_as_the_only_ones(seen: tuple[Path, Path], tmp_path: Path) -> None:
    both = written(tmp_path / "both", [(picture_suite(), [net(0, "p"), net(1, "q")])], ["msp"])
    turned = written(tmp_path / "turned", [(picture_suite(), [net(1, "q"), net(2, "p")])], ["msp"])
    found = compare.compare(both, turned).differences
    assert {d.classifiers for d in found} == {("p", "p"), ("q", "q")}
    assert all((d.difference == 0) == (d.classifiers == ("q", "q")) for d in found)
    alone = written(tmp_path / "alone", [(picture_suite(), [net(1, "other")])], ["msp"])
    assert {d.classifiers for d in compare.compare(seen[0], alone).differences} == {("net", "other")}
    assert all(d.difference == 0 for d in compare.compare(seen[1], alone).differences)
    assert {d.classifiers for d in compare.compare(both, written(tmp_path / "q", [(picture_suite(), [net(1, "q")])], ["msp"])).differences} == {
        ("q", "q")
    }
    with pytest.raises(ff.InputError, match="in common for a classifier of the same name"):
        compare.compare(both, alone)


# The test itself


def sample(rng: np.random.Generator, n_in: int, n_out: int, shift: float = 1.0) -> Vectors:
    return placed(rng.normal(shift, 1, n_in), rng.normal(0, 1, n_out))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_unpaired_test_is_welchs_of_the_placements(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 40, 5)
    s_in = rng.normal(1, 1, sizes[0])
    a = [placed(s_in, rng.normal(0, 1, n)) for n in sizes[1:3]]
    b = [sample(rng, int(sizes[3]), int(sizes[4]), 0.5)]
    ids = [None, rng.integers(0, 4, sizes[2])]
    found = metrics.unpaired_placement_test(as_placements(a), as_placements(b), clusters=(ids, None), level=level)
    parts = [*terms(a, ids), *terms(b)]
    total = sum(part for part, _ in parts)
    law = stats.t(total**2 / sum(part**2 / (units - 1) for part, units in parts))
    difference = auroc(a) - auroc(b)
    half = law.ppf(0.5 + level / 2) * total**0.5
    assert found.difference == pytest.approx(difference)
    assert found.interval == pytest.approx((max(-1, difference - half), min(1, difference + half)))
    assert found.p_value == pytest.approx(2 * law.sf(abs(difference) / total**0.5))


@pytest.mark.parametrize("seed", range(5))
def test_against_one_constant_ood_score_it_is_scipys_welch_test(seed: int) -> None:
    """All OOD placements are then equal, and the ID ones are 0 or 1."""
    rng = np.random.default_rng(seed)
    a, b = (placed(rng.normal(shift, 1, n), np.zeros(7)) for shift, n in ((1.0, 30), (0.3, 22)))
    found = metrics.unpaired_placement_test(as_placements([a]), as_placements([b]))
    expected = stats.ttest_ind(a[0], b[0], equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_the_unpaired_interval_covers_no_difference_as_often_as_it_says() -> None:
    rng, covered, rejected = np.random.default_rng(0), 0, 0
    for _ in range(300):
        a, b = ([metrics.placements(rng.normal(1, 1, n), rng.normal(0, 1, m))] for n, m in ((40, 30), (25, 50)))
        found = metrics.unpaired_placement_test(a, b)
        covered += found.interval.low <= 0 <= found.interval.high
        rejected += found.p_value < 0.05
    assert 0.90 <= covered / 300 <= 0.99
    assert covered + rejected == 300


def test_the_paired_test_is_sharper_on_the_same_pictures() -> None:
    rng = np.random.default_rng(0)
    s_in, s_out = rng.normal(1, 1, 80), rng.normal(0, 1, 80)
    a, b = ([placed(s_in + 0.1 * rng.normal(size=80), s_out + 0.1 * rng.normal(size=80))] for _ in range(2))
    paired, unpaired = (test(as_placements(a), as_placements(b)) for test in (metrics.paired_placement_test, metrics.unpaired_placement_test))
    assert paired.difference == pytest.approx(unpaired.difference)
    assert paired.interval.high - paired.interval.low < 0.5 * (unpaired.interval.high - unpaired.interval.low)


SIDES: dict[str, tuple[list[float], list[float]]] = {
    "usual": ([3, 4, 5, 6, 2.5, 7], [1, 2, 3.5, 5.5, 0]),
    "better": ([3, 4, 5, 6, 7, 8], [1, 2, 3.5, 0, -1]),
    "perfect": ([3, 4, 5, 6, 7], [0, 1, 2, 2.5]),
    "perfect-and-large": (list(range(100, 200)), list(range(100))),
    "worst": ([0, 1, 2], [3, 4, 5, 6]),
    "worst-and-large": (list(range(100)), list(range(100, 200))),
    "tied": ([1] * 6, [1] * 8),
    "single-id": ([3], [1, 2, 4]),
    "single-ood": ([1, 2, 4], [3]),
    "single-pair": ([1], [0]),
}


def side(name: str) -> list[Placements]:
    s_in, s_out = (np.array(values, float) for values in SIDES[name])
    return as_placements([placed(s_in, s_out)])


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations_with_replacement([name for name in SIDES if "large" not in name], 2)))
def test_the_unpaired_test_is_sound_for_every_pair_of_sides(a: str, b: str) -> None:
    there, back = metrics.unpaired_placement_test(side(a), side(b)), metrics.unpaired_placement_test(side(b), side(a))
    low, high = there.interval
    assert np.isfinite([low, high, there.difference, there.p_value]).all()
    assert there.difference == pytest.approx(side(a)[0].v_in.mean() - side(b)[0].v_in.mean(), abs=1e-12)
    assert -1 <= low <= there.difference <= high <= 1
    assert low < high
    assert 0 <= there.p_value <= 1
    assert (there.p_value < 0.05) == (low > 0 or high < 0)
    assert back.difference == pytest.approx(-there.difference, abs=1e-12)
    assert back.interval == pytest.approx((-high, -low))
    assert back.p_value == pytest.approx(there.p_value, rel=1e-6, abs=1e-12)
    narrow = metrics.unpaired_placement_test(side(a), side(b), level=0.8).interval
    assert low <= narrow.low <= narrow.high <= high


def test_perfect_on_both_sides_says_by_how_much_they_may_differ() -> None:
    """Each AUROC is 1 of m disjoint pairs, so above (alpha / 2 / 2)^(1 / m) at half the error, on two sides."""
    found = metrics.unpaired_placement_test(side("perfect"), side("perfect-and-large"))
    few, many = 0.0125 ** (1 / 4), 0.0125 ** (1 / 100)
    assert found.interval == pytest.approx((few - 1, 1 - many))
    assert (found.difference, found.p_value) == (0, 1)


def test_perfect_against_worst_is_as_unlikely_as_the_samples_are_large() -> None:
    few, many = (metrics.unpaired_placement_test(side(f"perfect{size}"), side(f"worst{size}")) for size in ("", "-and-large"))
    assert few.difference == many.difference == 1
    assert few.p_value > many.p_value
    assert many.p_value < 1e-6
    # Both bounds meet where (alpha / 4)^(1 / 4) = 1 - (alpha / 4)^(1 / 3).
    quarter = few.p_value / 4
    assert quarter ** (1 / 4) == pytest.approx(1 - quarter ** (1 / 3), rel=1e-6)


def test_sides_of_unlike_id_sizes_within_one_run_are_refused() -> None:
    with pytest.raises(ff.InputError, match="on the same ID images"):
        metrics.unpaired_placement_test([*side("usual"), *side("perfect")], side("usual"))
    with pytest.raises(ff.InputError, match="`level` must lie between 0 and 1"):
        metrics.unpaired_placement_test(side("usual"), side("usual"), level=1)

"""From pictures to rows, end to end, on a small suite made here."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats
from torch import nn

import farfield as ff
import oracles
from farfield import benchmark, report
from farfield.data.images import Images, OODSet, Suite
from farfield.data.transforms import Normalize
from farfield.detectors import CATALOGUE, DEFAULTS, Detector, parse

HALF = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def pictures(name: str, n: int, seed: int, shift: int = 0, **more: Any) -> Images:
    """Four classes told by which quarter is bright; OOD sets shift the brightness or have none."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    images = torch.randint(90, (n, 3, 8, 8), generator=random, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        row, column = divmod(label, 2)
        images[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150 - shift
    return Images(name, images, labels if shift == 0 else torch.full((n,), -1), **more)


def suite() -> Suite:
    parts = {"dim": slice(0, 30), "dark": slice(30, 60)}
    return Suite(
        name="quarters",
        classes=("a", "b", "c", "d"),
        taxonomy={"all": (0, 1, 2, 3)},
        splits={"train": lambda: pictures("train", 400, 0), "test": lambda: pictures("test", 200, 1), "calibration": lambda: pictures("cal", 40, 2)},
        ood=(
            OODSet("paler", "near", lambda: pictures("paler", 80, 3, 60)),
            OODSet("dark", "far", lambda: pictures("dark", 60, 4, 140, parts=parts)),
            OODSet("shots", "far", lambda: pictures("shots", 60, 5, 120, clusters=torch.arange(60) // 10)),
            OODSet("other", "shifted", lambda: pictures("other", 40, 6)),
        ),
        augmentations=(),
        note="Quarters of light.",
    )


def classifier(seed: int = 0, classes: int = 4) -> ff.Classifier:
    """A network whose body is random and whose head is fitted to the training pictures in closed form."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(108, 16), nn.Softplus(), nn.Linear(16, classes))
    made = ff.Classifier.wrap(net, transform=HALF, name=f"random-{seed}", input_size=(3, 8, 8))
    train = ff.collect(made, pictures("train", 400, 0))
    assert train.features is not None and train.labels is not None
    targets = 8.0 * nn.functional.one_hot(train.labels % classes, classes).float()
    with torch.no_grad():
        net[-1].bias.zero_()  # type: ignore[union-attr,operator]
        net[-1].weight.copy_(torch.linalg.lstsq(train.features, targets).solution.T)  # type: ignore[union-attr,operator]
    return made


class OfLogits(Detector):
    """The first logit; the tests below break it in one way each."""

    needs = fit_needs = ("logits",)
    passes = 0
    paper = "none"

    @classmethod
    def fit(cls, train: ff.Outputs) -> Detector:
        return cls()

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[:, 0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("bench")
    results = benchmark.run([(suite(), [classifier(0), classifier(1)])], {name: parse(name) for name in DEFAULTS if name != "knn"}, out=out)
    value = results.plain()
    report.write(value, out)
    return out, value


def test_rows_are_complete(finished: tuple[Path, dict[str, Any]]) -> None:
    out, value = finished
    assert json.loads((out / "results.json").read_text()) == json.loads(report.to_json(value))
    keys = {(row["classifier"], row["detector"], row["ood"], row["group"]) for row in value["rows"]}
    sets = [
        ("paler", "near"),
        ("dark", "far"),
        ("shots", "far"),
        ("other", "shifted"),
        ("dim", "unit-test"),
        ("dark", "unit-test"),
        (None, "near"),
        (None, "far"),
    ]
    expected = {(f"random-{i}", name, *pair) for i in (0, 1) for name in DEFAULTS if name != "knn" for pair in sets}
    assert keys == expected
    assert len(value["rows"]) == len(expected)
    named = {"classifier", "detector", "suite", "ood", "group", "auroc", "auroc_interval", "fpr_at_95_tpr_id", "fpr_at_95_tpr_id_interval"}
    assert named | {"fpr_at_95_tpr_ood", "ap_id", "ap_ood", "n_id", "n_ood"} <= value["rows"][0].keys()
    assert {"name", "fingerprint", "id_accuracy", "id_accuracy_interval", "classes"} <= value["classifiers"][0].keys()
    assert {"forward_seconds", "total_seconds", "per_detector"} <= value["cost"].keys()
    assert value["cost"]["total_seconds"] >= value["cost"]["forward_seconds"] > 0
    assert all(entry["id_accuracy"] > 0.8 for entry in value["classifiers"])


def test_figures_are_those_of_the_scores_that_were_kept(finished: tuple[Path, dict[str, Any]]) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    out, value = finished
    scores = load_file(out / "scores" / "quarters" / "random-0.safetensors")
    for row in value["rows"]:
        if row["classifier"] != "random-0" or row["ood"] is None or row["group"] == "unit-test":
            continue
        s_in, s_out = scores[f"{row['detector']}/test"].double(), scores[f"{row['detector']}/{row['ood']}"].double()
        truth, both = np.r_[np.ones(len(s_in)), np.zeros(len(s_out))], torch.cat([s_in, s_out]).numpy()
        assert row["auroc"] == pytest.approx(roc_auc_score(truth, both))
        assert row["ap_id"] == pytest.approx(average_precision_score(truth, both))
        assert row["ap_ood"] == pytest.approx(average_precision_score(1 - truth, -both))
        threshold = np.sort(s_in.numpy())[::-1][int(np.ceil(0.95 * len(s_in))) - 1]
        assert row["fpr_at_95_tpr_id"] == pytest.approx((s_out.numpy() >= threshold).mean())
        assert (row["n_id"], row["n_ood"]) == (len(s_in), len(s_out))
        for measure in ("auroc", "fpr_at_95_tpr_id"):
            low, high = row[f"{measure}_interval"]
            assert 0 <= low <= row[measure] <= high <= 1
            assert low < high


def test_means_are_over_sets_and_sources_are_told(finished: tuple[Path, dict[str, Any]]) -> None:
    rows = {(r["classifier"], r["detector"], r["ood"], r["group"]): r for r in finished[1]["rows"]}
    for i in (0, 1):
        mean = rows[f"random-{i}", "energy", None, "far"]
        members = [rows[f"random-{i}", "energy", name, "far"] for name in ("dark", "shots")]
        for measure in ("auroc", "fpr_at_95_tpr_id", "fpr_at_95_tpr_ood", "ap_id", "ap_ood"):
            assert mean[measure] == pytest.approx(np.mean([member[measure] for member in members]))
        assert mean["n_ood"] == 120
        assert members[1]["sources"] == 6
        assert members[0]["sources"] is None


def test_ranks_count_who_is_significantly_better(finished: tuple[Path, dict[str, Any]]) -> None:
    """Against a permutation test: swapping the two detectors' placements of each picture at random."""
    out, value = finished
    scores = load_file(out / "scores" / "quarters" / "random-0.safetensors")
    rows = {r["detector"]: r for r in value["rows"] if (r["classifier"], r["ood"], r["group"]) == ("random-0", None, "near")}
    names = sorted(rows, key=lambda name: -rows[name]["auroc"])
    assert rows[names[0]]["rank"] == 1
    assert [rows[name]["rank"] for name in names] == sorted(rows[name]["rank"] for name in names)
    for name in names:
        better = 0
        for other in names[: names.index(name)]:
            if rows[other]["auroc"] > rows[name]["auroc"]:
                placed = []
                for detector in (other, name):
                    s_in, s_out = (stats.rankdata(scores[f"{detector}/{key}"]) for key in ("test", "paler"))
                    ranks = stats.rankdata(torch.cat([scores[f"{detector}/test"], scores[f"{detector}/paler"]]))
                    placed.append((ranks[: len(s_in)] - s_in) / len(s_out))
                difference = placed[0] - placed[1]
                out_placed = []
                for detector in (other, name):
                    s_out = stats.rankdata(scores[f"{detector}/paler"])
                    ranks = stats.rankdata(torch.cat([scores[f"{detector}/test"], scores[f"{detector}/paler"]]))
                    out_placed.append(1 - (ranks[200:] - s_out) / 200)
                out_difference = out_placed[0] - out_placed[1]
                error = np.sqrt(difference.var(ddof=1) / 200 + out_difference.var(ddof=1) / 80)
                better += 2 * stats.norm.sf(difference.mean() / error) < 0.05
        assert rows[name]["rank"] == 1 + better == 1 + len(rows[name]["beaten_by"])


def test_who_is_better_is_said_of_each_set_and_by_fpr(finished: tuple[Path, dict[str, Any]]) -> None:
    """Against the public tests on the scores; where two differ, only the worse of them is beaten."""
    out, value = finished
    for name in ("random-0", "random-1"):
        scores = load_file(out / "scores" / "quarters" / f"{name}.safetensors")
        mine = [row for row in value["rows"] if row["classifier"] == name]
        assert all(row["beaten_by"] is None for row in mine if row["group"] in ("shifted", "unit-test"))
        for row in mine:
            if row["group"] not in ("near", "far"):
                continue
            sets = [row["ood"]] if row["ood"] else {"near": ["paler"], "far": ["dark", "shots"]}[row["group"]]
            clusters = [scores[f"clusters/{s}"].numpy() if f"clusters/{s}" in scores else None for s in sets]
            for key, figure, sign in (("beaten_by", "auroc", 1), ("fpr_beaten_by", "fpr_at_95_tpr_id", -1)):
                better = []
                for other in mine:
                    if (other["ood"], other["group"]) == (row["ood"], row["group"]) and sign * (other[figure] - row[figure]) > 0:
                        pair = [
                            (scores[f"{d['detector']}/test"].numpy(), [scores[f"{d['detector']}/{s}"].numpy() for s in sets]) for d in (other, row)
                        ]
                        if key == "beaten_by":
                            found = ff.metrics.paired_placement_test(
                                *([ff.metrics.placements(s_in, s) for s in outs] for s_in, outs in pair), clusters=clusters, widen=False
                            )
                        else:
                            found = ff.metrics.paired_acceptance_test(
                                *([ff.metrics.acceptance(s_in, s) for s in outs] for s_in, outs in pair), clusters=clusters, widen=False
                            )
                        better += [other["detector"]] if found.p_value < 0.05 else []
                assert sorted(row[key]) == sorted(better)


def test_a_second_run_reads_the_store(finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    out, value = finished
    nets = [classifier(0)]
    monkeypatch.setattr(ff.Classifier, "outputs", lambda *_: pytest.fail("the classifier ran"))
    again = benchmark.run([(suite(), nets)], {"energy": parse("energy")}, out=out).plain()
    before = [r for r in value["rows"] if (r["classifier"], r["detector"]) == ("random-0", "energy")]
    alone = {"rank": None, "beaten_by": None, "fpr_beaten_by": None}  # these are among the detectors of their own run
    assert [{**row, **alone} for row in again["rows"]] == [{**row, **alone} for row in before]
    assert again["cost"]["forward_seconds"] == 0


def test_a_detector_that_refuses_does_not_stop_the_rest(tmp_path: Path) -> None:
    value = benchmark.run([(suite(), [classifier(0)])], {"knn:k=5000": parse("knn:k=5000"), "energy": parse("energy")}, out=tmp_path).plain()
    assert {row["detector"] for row in value["rows"]} == {"energy"}
    assert value["refused"][0]["detector"] == "knn:k=5000"
    assert "KNN needs k <= 400" in value["refused"][0]["reason"]
    assert "KNN needs k" in report.markdown(value).replace("\\", "")


def test_detectors_whose_scores_are_all_equal_tie(tmp_path: Path) -> None:
    class Blind(OfLogits):
        def score(self, logits: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(logits))

    value = benchmark.run([(suite(), [classifier(0)])], {"blind": Blind.fit, "blinder": Blind.fit}, out=tmp_path).plain()
    near = [row for row in value["rows"] if row["ood"] is None and row["group"] == "near"]
    assert [(row["auroc"], row["fpr_at_95_tpr_id"], row["rank"]) for row in near] == [(0.5, 1.0, 1), (0.5, 1.0, 1)]
    assert all(row["auroc_interval"][0] < 0.5 < row["auroc_interval"][1] for row in near)


def test_a_classifier_of_another_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match="random-0 has 5 classes and quarters has 4"):
        benchmark.run([(suite(), [classifier(0, classes=5)])], {"energy": parse("energy")}, out=tmp_path)


def test_what_would_mix_up_results_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [classifier(0), classifier(0), classifier(0, classes=5)]
    monkeypatch.setattr(ff.Classifier, "outputs", lambda *_: pytest.fail("the classifier ran"))
    with pytest.raises(ff.InputError, match="two classifiers called 'random-0'"):
        benchmark.run([(suite(), nets[:2])], {"energy": parse("energy")}, out=tmp_path)
    with pytest.raises(ff.InputError, match="has 5 classes"):
        benchmark.run([(suite(), nets[:1]), (replace(suite(), name="other"), nets[2:])], {"energy": parse("energy")}, out=tmp_path)
    with pytest.raises(ff.InputError, match="temperature=-1"):
        benchmark.run([(suite(), nets[:1])], {"x": parse("react+energy:temperature=-1")}, out=tmp_path)
    with pytest.raises(ff.InputError, match="'paler' of quarters needs a name of its own"):
        replace(suite(), ood=(*suite().ood, suite().ood[0]))
    with pytest.raises(ff.InputError, match="'near' of quarters needs a name of its own"):
        replace(suite(), ood=(OODSet("near", "near", lambda: pictures("near", 8, 1)),))


def test_warnings_of_a_fit_are_in_the_results(tmp_path: Path) -> None:
    class Grumbling(OfLogits):
        @classmethod
        def fit(cls, train: ff.Outputs) -> Detector:
            warnings.warn("Something is thin.", ff.FarfieldWarning, stacklevel=1)
            return cls()

    value = benchmark.run([(suite(), [classifier(0)])], {"grumbling": Grumbling.fit}, out=tmp_path).plain()
    assert value["warnings"] == [{"classifier": "random-0", "detector": "grumbling", "message": "Something is thin."}]
    assert "Something is thin" in report.markdown(value)


def test_nan_scores_are_named(tmp_path: Path) -> None:
    class Broken(OfLogits):
        def score(self, logits: torch.Tensor) -> torch.Tensor:
            return logits[:, 0] * torch.nan

    value = benchmark.run([(suite(), [classifier(0)])], {"broken": Broken.fit, "energy": parse("energy")}, out=tmp_path).plain()
    assert "NaN in 200 of 200" in value["refused"][0]["reason"]
    assert {row["detector"] for row in value["rows"]} == {"energy"}


# Reports


def test_markdown_has_every_interval_and_hostile_names_are_text(finished: tuple[Path, dict[str, Any]]) -> None:
    value = json.loads(report.to_json(finished[1]))
    for part in (*value["rows"], *value["classifiers"]):
        for key in ("classifier", "name"):
            if part.get(key) == "random-0":
                part[key] = "<img onerror=alert(1)>|*x*\n# y"
    text = report.markdown(value)
    assert "<img" not in text.replace("\\<img", "")
    assert "\n# y" not in text
    for ood in ("shots", "dark"):  # `dark` is also the name of a part, which has figures of its own
        row = next(r for r in value["rows"] if (r["classifier"], r["detector"], r["ood"], r["group"]) == ("random-1", "energy", ood, "far"))
        low, high = row["auroc_interval"]
        line = next(line for line in text[text.index("random-1") :].splitlines() if "| energy |" in line)
        assert f"{100 * row['auroc']:.1f} ({100 * low:.1f} to {100 * high:.1f})" in line
    assert "come from 6 sources" in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_terminal_table_shows_all_detectors_at_any_width(finished: tuple[Path, dict[str, Any]], width: int) -> None:
    from rich.console import Console

    console = Console(width=width, record=True, force_terminal=False, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(report.tables(finished[1], width))
    text = console.export_text()
    console.file.close()
    for name in ("msp", "maxlogit", "mahalanobis", "near", "far", "paler"):
        assert name in text
    assert ("±" in text) is True


def test_ranks_that_are_shared_carry_a_sign() -> None:
    from farfield.report.render import Line, ranks

    lines = [Line(name, {"near": {"rank": rank}}, []) for name, rank in {"a": 1, "b": 1, "c": 3}.items()]
    assert ranks(lines) == ["1=", "1=", "3"]


def test_results_are_replaced_whole(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    paths = report.write(finished[1], tmp_path)
    assert {path.name for path in paths} == {"results.json", "results.md"}
    assert not list(tmp_path.glob("*.tmp"))


def test_parts_and_clusters_follow_the_pictures_that_can_be_read(tmp_path: Path) -> None:
    class Torn:
        """A set of two halves, of ten shots each, whose first thirty pictures cannot be read."""

        name, parts, clusters = "torn", {"first": slice(0, 100), "second": slice(100, 200)}, torch.arange(200) // 10
        images = pictures("torn", 200, 9, 60)

        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: int) -> Any:
            if index < 30:
                raise OSError("gone")
            return self.images[index]

    made = replace(suite(), ood=(OODSet("torn", "near", Torn),))
    with pytest.warns(ff.FarfieldWarning, match="30 of 200 pictures of torn"):
        results = benchmark.run([(made, [classifier()])], {"energy": parse("energy")}, out=tmp_path)
    found = {row.ood: (row.n_ood, row.sources) for row in results.rows}
    assert found["first"][0] == 70 and found["second"][0] == 100
    assert found["torn"] == (170, 17)
    assert len(results.unreadable) == 30


def test_labels_outside_the_head_are_named(tmp_path: Path) -> None:
    made = replace(suite(), classes=(), splits={**suite().splits, "test": lambda: [(pictures("x", 8, 0)[0][0], 9)] * 8})
    with pytest.raises(ff.InputError, match="A label of the ID test data of quarters is 9, at row 0, and the classes of random-0 are 0 to 3"):
        benchmark.run([(made, [classifier()])], {"energy": parse("energy")}, out=tmp_path)


def test_what_calibrates_gets_the_calibration_split(tmp_path: Path) -> None:
    made, held_out = classifier(0), pictures("cal", 40, 2)
    held_out.labels[:10] = held_out.labels[:10].flip(0)  # so that the classifier is not always right, and a temperature is best
    whole = replace(suite(), splits={**suite().splits, "calibration": lambda: held_out})
    fitters = {"temperature": parse("temperature"), "panel": parse("panel:members=msp/mahalanobis"), "msp": parse("msp")}
    results = benchmark.run([(whole, [made])], fitters, out=tmp_path)
    assert not results.refused and not any("calibration" in w["message"] for w in results.warnings)
    assert {row.n_id for row in results.rows} == {200}
    scores = load_file(tmp_path / "scores" / "quarters" / "random-0.safetensors")
    test, held, train = (ff.collect(made, data) for data in (pictures("test", 200, 1), held_out, pictures("train", 400, 0)))
    expected = parse("temperature")(held)
    assert float(expected.temperature) > 0.01  # type: ignore[arg-type]
    torch.testing.assert_close(scores["temperature/test"], expected(test))
    panel = CATALOGUE["panel"].fit(train, held, members="msp/mahalanobis")  # type: ignore[call-arg]
    torch.testing.assert_close(scores["panel/test"], panel(test))


def test_without_a_calibration_split_a_fifth_of_the_test_data_calibrates_and_is_not_scored(tmp_path: Path) -> None:
    whole = suite()
    bare = replace(whole, splits={name: load for name, load in whole.splits.items() if name != "calibration"})
    made = classifier(0)
    with pytest.warns(ff.FarfieldWarning, match=r"(\d+) of the ID test samples of quarters calibrate") as said:
        results = benchmark.run([(bare, [made])], {"panel": parse("panel:members=msp/mahalanobis")}, out=tmp_path)
    rest = int(str(said[0].message).split("; ")[1].split()[0])
    assert 140 < rest < 180 and {row.n_id for row in results.rows} == {rest}
    scores = load_file(tmp_path / "scores" / "quarters" / "random-0.safetensors")
    assert len(scores["panel/test"]) == len(scores["classes/test"]) == rest
    test, train = (ff.collect(made, pictures(*which)) for which in (("test", 200, 1), ("train", 400, 0)))
    mine = torch.tensor([oracles.fifth(np.array([i]))[0] for i in range(200)])
    panel = CATALOGUE["panel"].fit(train, test[mine.nonzero()[:, 0]], members="msp/mahalanobis")  # type: ignore[call-arg]
    torch.testing.assert_close(scores["panel/test"], panel(test[(~mine).nonzero()[:, 0]]))


def test_the_worst_set_is_the_worst(finished: tuple[Path, dict[str, Any]]) -> None:
    _, value = finished
    for entry, _, lines in report.render.blocks(value):
        for line in lines:
            rows = [r for r in value["rows"] if (r["classifier"], r["detector"]) == (entry["name"], line.detector)]
            counted = [r for r in rows if r["ood"] in ("paler", "dark", "shots", "dim")]
            worst = line.worst("auroc"), line.worst("fpr_at_95_tpr_id")
            assert worst[0] is not None and worst[0]["auroc"] == min(r["auroc"] for r in counted)
            assert worst[1] is not None and worst[1]["fpr_at_95_tpr_id"] == max(r["fpr_at_95_tpr_id"] for r in counted)

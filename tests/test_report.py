"""What a report is made of: curves, classes and pictures from scores; and what is no report."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file
from scipy import stats

from farfield import benchmark, citations, report
from farfield.benchmark import gallery
from farfield.benchmark.gather import Gathered
from farfield.data.images import Images
from farfield.detectors import CATALOGUE, SHAPERS, parse
from farfield.errors import InputError
from farfield.outputs import Outputs
from farfield.report import curves
from farfield.report.model import Pool, headline, model
from farfield.report.page import ASSETS, TITLES
from test_benchmark import classifier, suite

SCORES = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False)), min_size=1, max_size=40).map(np.array)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("bench")
    jobs = [(suite(), [classifier(0), classifier(1)])]
    results = benchmark.run(jobs, {name: parse(name) for name in ("msp", "react+energy", "mahalanobis")}, out=out, command="farfield bench")
    value = results.plain()
    report.write(value, out)
    return out, value


def told(out: Path, name: str = "random-0") -> dict[str, np.ndarray]:
    return load_file(out / "scores" / "quarters" / f"{name}.safetensors")


@example(np.array([1.7976e308]), np.array([-1.7976e308]))
@given(SCORES, SCORES)
def test_histograms_hold_every_score_once(s_in: np.ndarray, s_out: np.ndarray) -> None:
    found = curves.curves({"test": s_in, "ood": s_out}, {})
    low, high = found["edges"]
    assert low < high
    for name, values in (("test", s_in), ("ood", s_out)):
        assert sum(found["histograms"][name]) == pytest.approx(1, abs=1e-3)
        assert len(found["histograms"][name]) == curves.BINS, name
        assert min(found["histograms"][name]) >= 0 and np.isfinite(values).any() >= 0


def test_a_histogram_by_hand() -> None:
    values = np.linspace(0, 1, 1001)
    found = curves.curves({"test": values, "ood": np.full(10, 0.5)}, {})
    low, high = found["edges"]
    assert (low, high) == pytest.approx((0.005, 0.995))
    step = (high - low) / curves.BINS
    expected = [
        np.mean((values >= low + i * step if i else True) & (values < low + (i + 1) * step if i < curves.BINS - 1 else True))
        for i in range(curves.BINS)
    ]
    assert found["histograms"]["test"] == pytest.approx(expected, abs=0.0011)  # a score on an edge may fall either way
    assert sorted(found["histograms"]["ood"])[-1] == 1.0


@example(np.array([1.7976e308]), np.array([-1.7976e308]))
@example(np.array([1.7976e308]), np.array([1.7976e308]))
@given(SCORES, SCORES)
def test_what_is_flagged_and_caught_is_counted(s_in: np.ndarray, s_out: np.ndarray) -> None:
    found = curves.curves({"test": s_in, "ood": s_out}, {})
    for i, rate in enumerate(curves.RATES):
        limit = max(t for t in s_in if sum(s < t for s in s_in) <= rate / 1000 * len(s_in) + 1e-9)
        k = sum(s < limit for s in s_in)
        n = len(s_in)
        sure = (stats.beta.ppf(0.025, k, n - k + 1) if k else 0, stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1)
        assert found["flagged"][i] == k
        assert found["caught"]["ood"][i] == sum(s < limit for s in s_out)
        if rate <= 500:
            assert found["flaggedIntervals"][i] == pytest.approx(sure, abs=1e-4)
            low, high = found["caughtIntervals"]["ood"][i]
            assert low - 1e-4 <= found["caught"]["ood"][i] / len(s_out) <= high + 1e-4
            assert float(found["thresholds"][i]) == pytest.approx(limit, rel=1e-8)
    assert len(found["thresholds"]) == len(found["flaggedIntervals"]) == sum(rate <= 500 for rate in curves.RATES)
    json.dumps(found, allow_nan=False)


def test_false_alarms_by_class_are_counted_and_marked() -> None:
    rng = np.random.default_rng(0)
    of = rng.integers(8, size=2000)
    s_in = rng.normal(size=2000) - 1.2 * (of == 3)  # one class scores low
    of[:50] = -1  # images of no known class
    found = {row[0]: row for row in curves.classes(s_in, of)}
    limit = max(t for t in s_in if (s_in >= t).mean() >= 0.95)
    share, p_values = float((s_in < limit).mean()), {}
    for c in range(8):
        n, k = int((of == c).sum()), int(((of == c) & (s_in < limit)).sum())
        assert found[c][1:3] == [n, k]
        assert found[c][3:5] == pytest.approx([stats.beta.ppf(0.025, k, n - k + 1), stats.beta.ppf(0.975, k + 1, n - k)], abs=1e-4)
        p_values[c] = stats.binomtest(k, n, share, alternative="greater").pvalue
    worst, marked = 0.0, set()
    for place, c in enumerate(sorted(p_values, key=p_values.__getitem__)):
        worst = max(worst, p_values[c] * (8 - place))
        marked |= {c} if worst < 0.05 else set()
    assert {c for c in found if found[c][5]} == marked == {3}
    assert curves.classes(s_in, np.full(2000, -1)) == []


@given(SCORES, SCORES)
def test_the_worst_pictures_are_wrong_and_the_worst(s_in: np.ndarray, s_out: np.ndarray) -> None:
    limit = max(t for t in s_in if np.mean(s_in >= t) >= 0.95)
    flagged, accepted = gallery.flagged(s_in), gallery.accepted(s_in, s_out)
    assert s_in[flagged].tolist() == sorted(s for s in s_in if s < limit)[: gallery.ID_SHOWN]
    assert s_out[accepted].tolist() == sorted((s for s in s_out if s >= limit), reverse=True)[: gallery.OOD_SHOWN]
    assert len(set(flagged)) == len(flagged) and len(set(accepted)) == len(accepted)


def test_pictures_are_drawn_alike_for_all_and_without_bias() -> None:
    assert gallery.drawn("birds", 1000) == gallery.drawn("birds", 1000) != gallery.drawn("fish", 1000)
    assert gallery.drawn("one", 1) == [0] and gallery.drawn("\udcff", 3) == [0, 1, 2]
    rows = [row for i in range(400) for row in gallery.drawn(f"set {i}", 100)]
    assert len(rows) == 400 * gallery.DRAWN and 45 < np.mean(rows) < 54


def decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_a_gallery_shows_the_picture_of_the_row(tmp_path: Path) -> None:
    """Rows of the outputs are not items of the data where some could not be read: the ids say which is which."""
    shades = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 300, 200) * 40
    data = Images("shades", shades.contiguous(), torch.full((6,), -1))
    outputs = Outputs(logits=torch.zeros(4, 2), ids=torch.tensor([0, 2, 3, 5]))
    found = gallery.gallery({"a": Gathered(outputs, data=data), "given": Gathered(outputs)}, {"a": [1, 3], "given": [0]})
    assert list(found) == ["a"]  # outputs that were given have no pictures
    assert {row: about["name"] for row, about in found["a"].items()} == {"1": "shades[2]", "3": "shades[5]"}
    for row, shade in (("1", 80), ("3", 200)):
        picture = decoded(found["a"][row]["picture"])
        assert picture.size == (64, 96)
        assert abs(np.asarray(picture).mean() - shade) < 4
    gallery.save(tmp_path / "deep" / "g.json", found)
    assert gallery.read(tmp_path / "deep" / "g.json") == found


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', '{"a": {"1": {"name": "x"}}}', "null", '{"a": {"1": []}}'])
def test_a_broken_gallery_is_an_empty_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text(text)
    assert gallery.read(tmp_path / "g.json") == {}
    assert gallery.read(tmp_path / "nowhere.json") == {}


def test_a_picture_from_elsewhere_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text(json.dumps({"a": {"1": {"name": "x", "picture": "https://example.org/x.png"}}}))
    assert gallery.read(tmp_path / "g.json")["a"]["1"] == {"name": "x", "picture": ""}


def test_numbers_that_are_no_picture_are_stretched_to_one() -> None:
    from farfield.loading import picture_of

    data = [
        (torch.linspace(-2, 3, 48).reshape(3, 4, 4), 0),
        (torch.linspace(-2, 3, 16).reshape(1, 4, 4), 0),
        ("no picture", 0),
        {"image": Image.new("L", (3, 5), 9)},
    ]
    first, grey, none, mapped = (picture_of(data, i) for i in range(4))
    assert first is not None and np.asarray(first).min() == 0 and np.asarray(first).max() == 255
    assert grey is not None and grey.mode == "RGB" and none is None
    assert mapped is not None and (mapped.mode, mapped.size) == ("RGB", (3, 5))
    assert picture_of(data, 9) is None


def test_too_many_pictures_are_made_smaller() -> None:
    rng, pool = np.random.default_rng(0), Pool()
    for i in range(500):
        picture = gallery.encoded(Image.fromarray(rng.integers(256, size=(96, 80, 3), dtype=np.uint8)))
        assert pool.add(picture) == i == pool.add(picture)
    assert pool.add("") == -1
    assert sum(map(len, pool.places)) > 2_000_000
    fitted = pool.fitted()
    assert len(fitted) == 500 and sum(map(len, fitted)) < 2_000_000
    assert max(decoded(fitted[7]).size) in (64, 48, 32)
    assert abs(np.asarray(decoded(fitted[7])).mean() - 127) < 10


def test_the_model_has_the_figures_of_the_results(finished: tuple[Path, dict[str, Any]]) -> None:
    out, value = finished
    found = model(benchmark.read(out)[0], out)
    assert [unit["name"] for unit in found["units"]] == ["random-0", "random-1"]
    for unit in found["units"]:
        assert unit["missing"] == "" and unit["nId"] == 200 and unit["classNames"] == ["a", "b", "c", "d"]
        assert {s["name"]: (s["group"], s["n"], s["sources"]) for s in unit["sets"]} == {
            "paler": ("near", 80, 0), "dark": ("far", 60, 0), "shots": ("far", 60, 6), "other": ("shifted", 40, 0),
        }  # fmt: skip
        for line in unit["detectors"]:
            rows = [r for r in value["rows"] if (r["classifier"], r["detector"]) == (unit["name"], line["name"])]
            for row in rows:
                if row["group"] == "unit-test":
                    family = next(f for f in line["families"] if f[0] == row["ood"])
                    assert family[1:] == pytest.approx([row["fpr_at_95_tpr_id"], *row["fpr_at_95_tpr_id_interval"]], abs=1e-4)
                else:
                    cell = line["cells"][row["ood"] or row["group"]]
                    assert cell["auroc"] == pytest.approx([row["auroc"], *row["auroc_interval"]], abs=1e-5)
                    assert cell["fpr"] == pytest.approx([row["fpr_at_95_tpr_id"], *row["fpr_at_95_tpr_id_interval"]], abs=1e-5)
                    assert cell["beatenBy"] == {"auroc": row["beaten_by"], "fpr": row["fpr_beaten_by"]}
            scores = told(out, unit["name"])
            s_in = scores[f"{line['name']}/test"]
            at = curves.RATES.index(50)
            kept = max(t for t in s_in if (s_in >= t).mean() >= 0.95)
            for name in ("paler", "dark", "shots", "other"):
                caught = (scores[f"{line['name']}/{name}"] < kept).mean()
                assert line["curves"]["caught"][name][at] == (scores[f"{line['name']}/{name}"] < kept).sum()
                assert 1 - caught == pytest.approx(line["cells"][name]["fpr"][0], abs=1e-4)
            for name, rows_shown in unit["shown"].items():
                for row, (called, picture, taken, label) in rows_shown.items():
                    assert called == f"{name}[{row}]" and found["pictures"][picture].startswith("data:image/webp;base64,")
                    assert taken == scores[f"classes/{name}"][int(row)] and label == scores[f"labels/{name}"][int(row)]
                for key in ("wrong", "drawn"):
                    for row, value_shown in line[key][name]:
                        assert str(row) in rows_shown
                        assert value_shown == pytest.approx(float(scores[f"{line['name']}/{name}"][row]), rel=1e-4)


def test_scores_of_another_run_are_not_taken_for_this_ones(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, value = finished
    tensors = told(out)
    path = tmp_path / "scores" / "quarters" / "random-0.safetensors"
    path.parent.mkdir(parents=True)

    def found(changed: dict[str, np.ndarray]) -> dict[str, Any]:
        save_file(changed, path)
        units: list[dict[str, Any]] = model(benchmark.results.checked(value), tmp_path)["units"]
        return units[0]

    assert found(tensors)["missing"] == ""
    assert "lack some of msp" in found({k: v for k, v in tensors.items() if k != "msp/dark"})["missing"]
    assert "lack some of msp" in found({**tensors, "msp/test": np.full(200, np.nan, np.float32)})["missing"]
    assert "lack some of msp" in found({**tensors, "msp/test": tensors["msp/test"].reshape(2, 100)})["missing"]
    assert "are of another run: msp on" in found({**tensors, "msp/test": tensors["msp/test"][:-1]})["missing"]
    assert "are of another run: msp on paler" in found({**tensors, "msp/paler": tensors["msp/paler"] + 1})["missing"]
    fewer = found({**{k: v for k, v in tensors.items() if "labels" not in k}, "classes/test": tensors["classes/test"][:-1]})
    assert fewer["missing"] == "" and fewer["detectors"][0]["classes"] == []  # what is beside may be missing
    path.write_bytes(b"no tensors")
    assert "There are no scores beside" in model(benchmark.results.checked(value), tmp_path)["units"][0]["missing"]
    assert "There are no scores beside" in model(benchmark.results.checked(value), None)["units"][0]["missing"]


def test_the_headline_is_the_best_mean(finished: tuple[Path, dict[str, Any]]) -> None:
    _, value = finished
    best = max((r for r in value["rows"] if (r["ood"], r["group"]) == (None, "near")), key=lambda r: r["auroc"])
    assert headline(value)[0].startswith(
        f"Highest near-OOD AUROC on quarters: {best['detector']} on {best['classifier']}, {100 * best['auroc']:.1f} %"
    )
    assert headline({"rows": []}) == []


def changed(value: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> Any:
    made = copy.deepcopy(value)
    replaced = change(made)
    return made if replaced is None or isinstance(replaced, int | float | str) else replaced


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: [v], "it has no rows"),
        (lambda v: v.pop("rows") and {"x": 1}, "it has no rows"),
        (lambda v: v.__setitem__("rows", {}), "rows is not a list"),
        (lambda v: v["rows"].__setitem__(0, 3), "rows[0] is not an object"),
        (lambda v: v["rows"][2].__delitem__("auroc"), "rows[2] has no auroc"),
        (lambda v: v["rows"][1].__setitem__("auroc", "0.5"), "rows[1] has auroc '0.5'"),
        (lambda v: v["rows"][1].__setitem__("auroc", float("nan")), "rows[1] has auroc nan"),
        (lambda v: v["rows"][1].__setitem__("auroc", 1.5), "rows[1] has auroc 1.5"),
        (lambda v: v["rows"][1].__setitem__("auroc_interval", [0.1]), "rows[1] has auroc_interval [0.1]"),
        (lambda v: v["rows"][1].__setitem__("n_id", 2.5), "rows[1] has n_id 2.5"),
        (lambda v: v["rows"][1].__setitem__("n_id", True), "rows[1] has n_id True"),
        (lambda v: v["rows"][1].__setitem__("ood", 7), "rows[1] has ood 7"),
        (lambda v: v["classifiers"][0].__delitem__("classes"), "classifiers[0] has no classes"),
        (lambda v: v["classifiers"][0].__setitem__("class_names", "abc"), "classifiers[0] has class_names 'abc'"),
        (lambda v: v["suites"][0].__setitem__("ood", []), "suites[0] has ood []"),
        (lambda v: v.__setitem__("cost", []), "cost is not an object"),
        (lambda v: v["cost"].__setitem__("total_seconds", float("inf")), "cost has inf for total_seconds"),
        (lambda v: v["cost"].__setitem__("per_detector", {"msp": None}), "cost has no objects of seconds in per_detector"),
        (lambda v: v["cost"].__setitem__("per_detector", {"msp": {"fit": "fast"}}), "cost has 'fast' for fit"),
        (lambda v: v["rows"].pop(0) and None, "rows have msp of random-0 on paler (near) 0 times"),
        (lambda v: v["rows"].append(v["rows"][0]), "rows have msp of random-0 on paler (near) 2 times"),
        (lambda v: v["rows"][0].__setitem__("n_ood", 0), "rows[0] is of no images"),
        (lambda v: v["rows"][1].__setitem__("auroc_interval", [0.9, 0.1]), "rows[1] has auroc_interval [0.9, 0.1]"),
        (lambda v: v["rows"][1].__setitem__("beaten_by", "msp"), "rows[1] has beaten_by 'msp'"),
        (lambda v: v["classifiers"][0].__setitem__("id_accuracy", None), "classifiers[0] has id_accuracy or its interval alone"),
        (lambda v: v.__setitem__("papers", {"msp": 1}), "papers and command are not texts"),
        (lambda v: v.__setitem__("command", ["farfield"]), "papers and command are not texts"),
        (lambda v: v.__setitem__("warnings", [{"classifier": "a"}]), "warnings[0] has no detector"),
    ],
)
def test_what_is_no_results_file_is_refused_by_entry(
    change: Callable[[dict[str, Any]], object], said: str, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(changed(json.loads(report.to_json(finished[1])), change)))
    with pytest.raises(InputError) as raised:
        benchmark.read(path)
    assert str(path) in str(raised.value) and said in str(raised.value)


def test_results_of_older_versions_are_read(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    value = json.loads(report.to_json(finished[1]))
    for key in ("papers", "command", "unreadable"):
        del value[key]
    for row in value["rows"]:
        del row["beaten_by"], row["fpr_beaten_by"], row["sources"]
    for entry in value["classifiers"]:
        del entry["class_names"]
    (tmp_path / "results.json").write_text(json.dumps(value))
    read, folder = benchmark.read(tmp_path)
    assert folder == tmp_path and read["command"] is None and read["rows"][0]["beaten_by"] is None
    assert "Farfield report" in report.page(read, folder)
    assert benchmark.read(tmp_path / "results.json") == (read, folder)


def test_every_method_has_its_reference() -> None:
    for method in (*CATALOGUE.values(), *SHAPERS.values()):
        for paper in method.paper.split("; "):
            assert paper in citations.known(), paper
    for paper in (*citations.ALWAYS, citations.CLUSTERED, citations.NOISE):
        assert paper in citations.known()


def test_references_are_bibtex_each_once() -> None:
    entries = list(citations.known().values())
    keys = [entry.split("{")[1].split(",")[0] for entry in entries]
    assert len(set(keys)) == len(keys)
    for entry in entries:
        assert entry.startswith("@") and entry.endswith("}") and entry.count("{") == entry.count("}")
        assert {"title", "author", "year"} <= {line.split("=")[0].strip() for line in entry.splitlines()}
    twice = citations.bibtex(["Liu et al., NeurIPS 2020; Sun et al., ICML 2022", "Liu et al., NeurIPS 2020"])
    assert twice.count("@") == 2
    assert citations.bibtex(["A\nB, 2031", ""]) == "% No entry is known for: A B, 2031"


def test_a_run_cites_what_it_used(finished: tuple[Path, dict[str, Any]]) -> None:
    text = citations.bibtex(report.cited(benchmark.results.checked(finished[1])))
    keys = {line.split("{")[1].rstrip(",") for line in text.splitlines() if line.startswith("@")}
    expected = {"farfield", "hendrycks2017baseline", "sun2021react", "liu2020energy", "lee2018simple", "delong1988comparing", "clopper1934use"}
    assert keys == expected | {"obuchowski1997clustered", "bitterwolf2023ninco"}


@pytest.mark.parametrize("name", TITLES)
def test_no_two_scripts_of_a_page_declare_one_name(name: str) -> None:
    scripts = [(ASSETS / f"{script}.js").read_text("utf-8") for script in ("elements", "plots", name)]
    declared = [found for text in scripts for found in re.findall(r"^(?:const|let|function|class) +(\w+)", text, re.MULTILINE)]
    assert len(declared) > 20 and len(declared) == len(set(declared)), sorted({one for one in declared if declared.count(one) > 1})

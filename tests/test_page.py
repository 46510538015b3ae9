"""The page of a benchmark in a real browser: what it says is what was measured, whatever things are called."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import stats
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from torch import nn

import farfield as ff
from farfield import benchmark, cli, report
from farfield.data.files import folder
from farfield.data.images import OODSet, Suite
from farfield.data.transforms import Preprocess
from farfield.detectors import CATALOGUE, DEFAULTS, SHAPERS, parse
from pages import Browser, clopper_pearson, numbers, threshold
from test_benchmark import OfLogits, classifier, pictures, suite

DETECTORS = ("msp", "energy", "react+energy", "mahalanobis")
MEASURES = {"AUROC": "auroc", "FPR": "fpr_at_95_tpr_id"}
LABELS = {"near": "near-OOD, mean", "far": "far-OOD, mean"}
DRAWN = "return [...document.querySelectorAll('.frame')].every((frame) => frame.querySelector('svg'))"
INJECTED = "<img src=x onerror=window.hacked=1>"
HOSTILE_CLASSES = ("<script>window.hacked=1</script>", f'">{INJECTED}', "{{content}}", "a\u2028b<!--")
HOSTILE_SETS = ("constructor", "__proto__", "7", "</script><!--{{style}}", f"'\"{INJECTED}")
HOSTILE_NET = f'<b>"{{{{content}}}}"</b></script><!--{INJECTED}'
HOSTILE_DETECTORS = ("__proto__", "7", f"{{{{vega}}}}</script>'\"{INJECTED}", "all alike")


@dataclass(frozen=True)
class Finished:
    """A run and what it left."""

    out: Path
    value: dict[str, Any]

    @property
    def page(self) -> Path:
        return self.out / "report.html"

    def row(self, net: str, detector: str, column: str) -> dict[str, Any]:
        group = column in LABELS
        return next(
            r
            for r in self.value["rows"]
            if (r["classifier"], r["detector"], r["ood"]) == (net, detector, None if group else column)
            and (r["group"] == column if group else r["group"] != "unit-test")
        )

    def scores(self, net: str, detector: str) -> dict[str, list[float]]:
        found = load_file(self.out / "scores" / self.value["suites"][0]["name"] / f"{net}.safetensors")
        return {key.removeprefix(f"{detector}/"): t.double().tolist() for key, t in found.items() if key.startswith(f"{detector}/")}

    def beside(self, net: str, column: str) -> list[int]:
        found: list[int] = load_file(self.out / "scores" / self.value["suites"][0]["name"] / f"{net}.safetensors")[column].tolist()
        return found


def written(jobs: Any, detectors: Any, out: Path, **more: Any) -> Finished:
    value = benchmark.run(jobs, detectors, out=out, **more).plain()
    report.write(value, out)
    report.write_page(value, out)
    return Finished(out, json.loads((out / "results.json").read_text()))


def rewritten(value: dict[str, Any], out: Path) -> Path:
    """The page of results that were changed, without scores."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(value))
    return report.write_page(*benchmark.read(out))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    made = suite()
    many = replace(made, splits={**made.splits, "test": lambda: pictures("test", 300, 1)})
    command = "farfield bench --suite quarters"
    return written(
        [(many, [classifier(0), classifier(1)])], {name: parse(name) for name in DETECTORS}, tmp_path_factory.mktemp("bench"), command=command
    )


@pytest.fixture
def view(browser: Browser, finished: Finished) -> Browser:
    browser.open(finished.page)
    return browser


def wrapped(name: str) -> ff.Classifier:
    """The network of `classifier()` under another name, for pictures in files too."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(108, 16), nn.Softplus(), nn.Linear(16, 4))
    transform = Preprocess.parse("resize=8,crop=8,mean=0.5/0.5/0.5,std=0.5/0.5/0.5")
    return ff.Classifier.wrap(net, transform=transform, name=name, input_size=(3, 8, 8))


class Flat(OfLogits):
    def score(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(logits))


class Endless(OfLogits):
    """Scores of which the lowest three are -inf and the highest three inf."""

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        scores, order = logits[:, 0].clone(), logits[:, 0].argsort()
        scores[order[:3]], scores[order[-3:]] = -torch.inf, torch.inf
        return scores


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("hostile")
    place = out / "pictures in a folder"
    place.mkdir()
    for i, name in enumerate((os.fsencode(f"{INJECTED}.png"), b"lone \xff.png", b"{{page}}.png")):
        Image.new("RGB", (8, 8), (40 * i, 90, 200)).save(place / os.fsdecode(name))
    sets = [OODSet(name, "near" if i % 2 else "far", partial(pictures, "p", 20, 10 + i, 60)) for i, name in enumerate(HOSTILE_SETS)]
    sets += [OODSet("one", "far", lambda: pictures("one", 1, 3, 60)), OODSet("folder", "near", lambda: folder(place, name="folder"))]
    made = replace(suite(), name=f"</title>{INJECTED}", classes=HOSTILE_CLASSES, ood=tuple(sets), note=f"`{INJECTED}` {{{{page}}}}")
    fitters = {name: Flat.fit if name == "all alike" else parse("energy") for name in HOSTILE_DETECTORS}
    return written([(made, [wrapped(HOSTILE_NET)])], fitters, out, command=f"farfield '{INJECTED}' \u2028 {{{{style}}}} \udcff")


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """1,000 classes, of outputs that were given; class 17 has far more false alarms than chance makes, class 900 just two of two."""
    random = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(2000) % 1000, torch.full((60,), 17)])
    scores = torch.randn(len(labels), generator=random)
    scores[2000:2040] -= 9.0
    scores[labels == 900] -= 9.0
    logits = torch.full((len(labels), 1001), -50.0)
    logits[torch.arange(len(labels)), labels + 1] = 50.0
    logits[:, 0] = scores
    strange = torch.randn(50, 1001, generator=random) - 1.0
    made = Suite(
        "many", tuple(f"class number {i}" for i in range(1001)), {},
        {"test": lambda: ff.Outputs(logits=logits, labels=labels + 1)}, (OODSet("strange", "far", lambda: ff.Outputs(logits=strange)),), (), "Many.",
    )  # fmt: skip
    return written([(made, [None])], {"first": OfLogits.fit}, tmp_path_factory.mktemp("thousand"))


# What is loaded


def test_nothing_is_fetched_and_the_console_is_quiet(view: Browser, finished: Finished) -> None:
    view.js("document.querySelectorAll('details').forEach((box) => { box.open = true })")
    view.wait(DRAWN)
    view.js("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager' })")
    view.wait("return [...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    asked = view.asked_for()
    assert finished.page.resolve().as_uri() in asked
    assert [address for address in asked if not address.startswith("data:")] == [finished.page.resolve().as_uri()]
    assert view.complaints() == []


def test_no_attribute_leads_out_of_the_page(finished: Finished) -> None:
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(str(value) for name, value in attrs if name in ("src", "href", "srcset", "action", "data"))

    text = finished.page.read_text("utf-8")
    Reader().feed(text)
    assert found
    assert all(address.startswith(("data:", "#")) for address in found)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in text


# Rankings


def order_of(finished: Finished, net: str, column: str, key: str, down: bool) -> list[float]:
    return sorted((finished.row(net, name, column)[key] for name in DETECTORS), reverse=down)


def shown(value: float) -> str:
    return f"{100 * value:.1f}"


def about(text: str, value: float, within: float = 0.051) -> bool:
    """Whether a text is a share in percent, to one decimal."""
    return abs(float(text) - 100 * value) < within and len(text.partition(".")[2]) == 1


@pytest.mark.parametrize("measure", ["AUROC", "FPR"])
def test_every_figure_and_interval_is_that_of_the_results(view: Browser, finished: Finished, measure: str) -> None:
    key = MEASURES[measure]
    view.find(f"input[name=measure][value={'auroc' if measure == 'AUROC' else 'fpr'}]").click()
    for column in ("near", "far", "paler", "dark", "shots", "other"):
        view.pick("#column", LABELS.get(column, column))
        assert len(view.all("#ranking > .card")) == 2
        ends = [float(end) / 100 for end in view.js("return [...document.querySelectorAll('#ranking-0 .ends span')].map((end) => end.textContent)")]
        for i in (0, 1):
            rows = view.figures(f"ranking-{i}")
            assert [r["detector"] for r in rows] != [] and {r["detector"] for r in rows} == set(DETECTORS)
            truths = [finished.row(f"random-{i}", r["detector"], column) for r in rows]
            # Best first: high AUROC and low FPR, but for a set that should pass.
            assert [t[key] for t in truths] == order_of(finished, f"random-{i}", column, key, (measure == "AUROC") != (column == "other"))
            for found, truth in zip(rows, truths, strict=True):
                (low, high), value = truth[f"{key}_interval"], truth[key]
                assert about(found["figure"], value)
                assert all(about(end, t) for end, t in zip(found["interval"].split(" to "), (low, high), strict=True))
                assert ends[0] <= low + 1e-9 and high <= ends[1] + 1e-9
                places = [float(place.removesuffix("%")) for place in (*found["bar"], found["dot"])]
                expected = [100 * part / (ends[1] - ends[0]) for part in (low - ends[0], high - low, value - ends[0])]
                assert places == pytest.approx(expected, abs=0.02)
        assert f"ID accuracy {shown(finished.value['classifiers'][1]['id_accuracy'])} %" in view.text("#ranking-1 caption")
        assert ("low AUROC is good" in view.text("#ties")) == (column == "other")


def test_the_table_of_every_set_has_every_interval(view: Browser, finished: Finished) -> None:
    view.pick("#unit", "random-1")
    for row in view.table("every-table"):
        for cell, column in zip(row[1:], ("near", "far", "paler", "dark", "shots", "other"), strict=False):
            truth = finished.row("random-1", row[0], column)
            assert [about(f"{n}", t) for n, t in zip(numbers(cell), (truth["auroc"], *truth["auroc_interval"]), strict=True)] == [True] * 3
    for key in ("detector", "set near", "set far", "set paler", "set dark", "set shots", "set other", "failed"):
        for _ in range(2):
            view.press("every-table", key)
            sorts = view.sorts("every-table")
            assert {k for k, way in sorts.items() if way != "none"} == {key}
            place = list(sorts).index(key)
            cells = [row[place] for row in view.table("every-table")]
            values = cells if key == "detector" else [numbers(cell)[0] for cell in cells]
            assert values == sorted(values, reverse=sorts[key] == "descending")  # type: ignore[type-var]


LADDER = {  # AUROC, by whom it is beaten, FPR, likewise
    "a": (0.95, "", 0.10, ""),
    "b": (0.94, "", 0.30, "ac"),
    "c": (0.93, "a", 0.12, ""),
    "d": (0.90, "abc", 0.40, "abc"),
    "e": (0.85, "abcd", 0.50, "abcd"),
    "f": (0.84, "abcd", 0.52, "abcd"),
    "g": (0.50, "abcd", 0.90, "abcdef"),
}


@pytest.fixture(scope="module")
def ladder(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of detectors of which it is known who beats whom; without scores."""
    value = json.loads(json.dumps(finished.value))
    like = [row for row in value["rows"] if row["detector"] == "energy"]
    value["rows"] = []
    for name, (auroc, beaten_by, fpr, fpr_beaten_by) in LADDER.items():
        for row in like:
            figures = {"auroc": auroc, "auroc_interval": [auroc - 0.02, auroc + 0.01], "fpr_at_95_tpr_id": fpr}
            ranks = {"rank": 1 + len(beaten_by), "beaten_by": [*beaten_by], "fpr_beaten_by": [*fpr_beaten_by]} if row["rank"] else {}
            value["rows"].append({**row, **figures, **ranks, "fpr_at_95_tpr_id_interval": [fpr - 0.05, fpr + 0.05], "detector": name})
            if row["group"] == "unit-test":
                value["rows"][-1]["fpr_at_95_tpr_id"] = {"a": 0.1, "b": 0.1001}.get(name, 0.0) if row["ood"] == "dim" else 0.9
    return rewritten(value, tmp_path_factory.mktemp("ladder"))


def brackets(names: Sequence[str], at: int) -> list[list[str]]:
    """Of each row, what it is to the longest runs of rows of which none beats another: the first, in the middle, the last."""
    apart = {(x, y) for x in names for y in names if x in str(LADDER[y][at]) or y in str(LADDER[x][at])}
    n = len(names)
    alike = [(i, j) for i in range(n) for j in range(i + 1, n) if not any((x, y) in apart for x in names[i : j + 1] for y in names[i : j + 1])]
    runs = [(i, j) for i, j in alike if not any((k, m) != (i, j) and k <= i and j <= m for k, m in alike)]
    return [[f"tie-{'first' if row == i else 'last' if row == j else 'middle'}" for i, j in runs if i <= row <= j] for row in range(n)]


def test_brackets_join_the_detectors_that_cannot_be_told_apart(browser: Browser, ladder: Path) -> None:
    assert brackets("abcdefg", 1) == [["tie-first"], ["tie-last", "tie-first"], ["tie-last"], [], ["tie-first"], ["tie-middle"], ["tie-last"]]
    browser.open(ladder)
    for measure, at in (("auroc", 1), ("fpr", 3)):
        browser.find(f"input[name=measure][value={measure}]").click()
        for key in ("figure", "figure", "rank", "rank"):
            rows = browser.figures("ranking-0")
            names = [row["detector"] for row in rows]
            assert [int(row["rank"].split(",")[0]) for row in rows] == [1 + len(str(LADDER[name][at])) for name in names]
            assert [sorted(row["brackets"]) for row in rows] == [sorted(expected) for expected in brackets(names, at)]
            browser.press("ranking-0", key)
        browser.press("ranking-0", "detector")
        assert not any(row["brackets"] for row in browser.figures("ranking-0"))
        browser.press("ranking-0", "figure")
    browser.pick("#column", "other")  # a shifted set has no ranks
    assert not any(row["rank"] or row["brackets"] for row in browser.figures("ranking-0"))


def test_a_bracket_is_told_to_those_who_do_not_see_it(browser: Browser, ladder: Path) -> None:
    browser.open(ladder)
    assert [row["rank"] for row in browser.figures("ranking-0")] == [
        "1, not told apart from b", "1, not told apart from a and c", "2, not told apart from b", "4", "5, not told apart from f and g", "5, not told apart from e and g",
        "5, not told apart from e and f",
    ]  # fmt: skip


def test_a_ranking_sorts_by_each_column_with_mouse_and_keyboard(browser: Browser, ladder: Path) -> None:
    browser.open(ladder)
    first = [row["detector"] for row in browser.figures("ranking-0")]
    assert first == list("abcdefg")
    assert browser.sorts("ranking-0") == {"rank": "none", "detector": "none", "figure": "descending"}
    for key, at, ways in (
        ("rank", 1, ("ascending", "descending")),
        ("detector", None, ("ascending", "descending")),
        ("figure", 0, ("descending", "ascending")),
    ):
        for i, way in enumerate(ways):
            if i:  # the focus has stayed on the button, though the table was drawn again
                assert browser.js("return document.activeElement.dataset.key") == key
                browser.keys(Keys.ENTER)
            else:
                browser.press("ranking-0", key)
            assert browser.sorts("ranking-0") == {**dict.fromkeys(("rank", "detector", "figure"), "none"), key: way}
            names = [row["detector"] for row in browser.figures("ranking-0")]
            values = [name if at is None else len(LADDER[name][1]) if at == 1 else LADDER[name][at] for name in names]  # type: ignore[arg-type]
            assert values == sorted(values, reverse=way == "descending")  # type: ignore[type-var]
            assert browser.js("return document.activeElement.closest('table').id") == "ranking-0"
        assert [row["detector"] for row in browser.figures("ranking-1")] == first


def test_what_a_table_is_sorted_by_is_always_told(browser: Browser, ladder: Path) -> None:
    """A shifted set has no ranks to sort by."""
    browser.open(ladder)
    browser.press("ranking-0", "rank")
    browser.pick("#column", "other")
    names = [row["detector"] for row in browser.figures("ranking-0")]
    told = [key for key, way in browser.sorts("ranking-0").items() if way != "none"]
    assert len(told) == 1
    values = [name if told == ["detector"] else LADDER[name][0] for name in names]
    assert values in (sorted(values), sorted(values, reverse=True))  # type: ignore[type-var]


def test_noise_families_are_failed_above_ten_percent(browser: Browser, ladder: Path) -> None:
    browser.open(ladder)
    rows = {row[0]: row[1:] for row in browser.table("families-table")}
    assert rows["dim"] == ["10.0", "✗ 10.0", "0.0", "0.0", "0.0", "0.0", "0.0"]
    assert rows["dark"] == ["✗ 90.0"] * 7
    assert [row[-1] for row in sorted(browser.table("every-table"))] == ["1 of 2", "2 of 2", *["1 of 2"] * 5]


def test_a_click_on_a_detector_shows_it_below(view: Browser, finished: Finished) -> None:
    view.js("[...document.querySelectorAll('#ranking-1 .choose')].find((one) => one.textContent === 'mahalanobis').focus()")
    view.keys(Keys.ENTER)
    assert view.js("return [document.querySelector('#unit').value, document.querySelector('#detector').value]") == ["1", "mahalanobis"]
    assert view.js("return document.activeElement.textContent") == "mahalanobis"
    check_threshold(view, finished, "random-1", "mahalanobis")
    assert view.js("return [...document.querySelectorAll('tr.chosen')].map((row) => row.closest('table').id)") == ["ranking-1", "every-table"]


# The threshold


def check_threshold(view: Browser, finished: Finished, net: str, detector: str) -> int:
    """Everything that the slider's place says, against counting; returns the place."""
    said = view.text("#rate-said")
    rate = int(numbers(said)[0])
    scores = finished.scores(net, detector)
    s_in = scores["test"]
    cut = threshold(s_in, rate)
    flags = sum(s < cut for s in s_in)
    assert float(view.text("#limit")) == pytest.approx(cut, rel=1e-4)
    assert float(view.text("#flagged")) == pytest.approx(1000 * flags / len(s_in), abs=0.051)
    assert numbers(view.text("#flagged-interval")) == pytest.approx([1000 * end for end in clopper_pearson(flags, len(s_in))], abs=0.11)
    assert f"; {flags} of the {len(s_in)} here" in view.text("#threshold-said")
    assert set(view.caught()) == {"paler", "dark", "shots", "other"}
    for name, (kind, caught, interval) in view.caught().items():
        k = sum(s < cut for s in scores[name])
        assert float(caught) == pytest.approx(100 * k / len(scores[name]), abs=0.056)
        low, high = numbers(interval)
        if name == "shots":
            assert low <= float(caught) <= high
            assert not rate or high > low
        else:
            assert [low, high] == pytest.approx([100 * end for end in clopper_pearson(k, len(scores[name]))], abs=0.056)
        assert ("should pass" in kind) == (name == "other")
    return rate


@pytest.mark.parametrize(("net", "detector"), [("random-0", "energy"), ("random-1", "react+energy")])
def test_the_slider_says_what_a_threshold_flags_and_catches(view: Browser, finished: Finished, net: str, detector: str) -> None:
    view.pick("#unit", net)
    view.pick("#detector", detector)
    assert check_threshold(view, finished, net, detector) == 50  # where it starts
    for rate in (0, 1, 10, 200, 500):
        view.slide_to(rate)
        assert check_threshold(view, finished, net, detector) == rate
    view.js("document.getElementById('rate').focus()")
    seen = []
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT * 9, Keys.END, Keys.ARROW_LEFT):
        view.keys(key)
        seen.append(check_threshold(view, finished, net, detector))
        assert view.js("return document.getElementById('rate').getAttribute('aria-valuetext')") == view.text("#rate-said")
    assert seen[0] == 0 and seen[3] == 500
    assert seen[0] < seen[1] < seen[2] < seen[4] < seen[3]


def test_the_table_of_what_is_caught_sorts_and_the_slider_keeps_its_order(view: Browser) -> None:
    sets = ["paler", "dark", "shots", "other"]
    for key in ("set", "caught"):
        for _ in range(2):
            view.press("caught-table", key)
            way = view.sorts("caught-table")[key]
            for rate in (5, 500):
                view.slide_to(rate)
                values = [sets.index(name) if key == "set" else float(cells[1]) for name, cells in view.caught().items()]
                assert values == sorted(values, reverse=way == "descending")
                assert view.sorts("caught-table")[key] == way


# Plots


def card_of(view: Browser, name: str) -> str:
    """The selector of the card with the plots of a set."""
    heads = view.js("return [...document.querySelectorAll('#plots .card h3')].map((head) => head.firstChild.data)")
    return f"#plots .card:nth-child({heads.index(name) + 1})"


def test_pointing_at_a_histogram_counts_the_scores(view: Browser, finished: Finished) -> None:
    scores = finished.scores("random-0", "energy")
    view.pick("#detector", "energy")
    ends = [np.quantile(values, [0.005, 0.995]) for values in scores.values()]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    edges = [low + i * (high - low) / 40 for i in range(41)]
    card = card_of(view, "paler")
    view.js("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", card)
    svg = view.wait("return document.querySelector(`${arguments[0]} .frame svg`)", card)

    def check(bar: int) -> None:
        inside = []
        for name in ("test", "paler"):
            n = 0
            for score in scores[name]:
                n += (bar == 0 or score >= edges[bar]) and (bar == 39 or score < edges[bar + 1])
            inside.append(100 * n / len(scores[name]))
        said = view.text(f"{card} .readout")
        first, second = said.split(": ")
        expected = [e for i, e in ((bar, edges[bar]), (39 - bar, edges[bar + 1])) if i]
        assert numbers(first) == pytest.approx(expected, rel=2e-3, abs=1e-3)
        assert numbers(second) == pytest.approx(inside, abs=0.051)
        assert (" below " in first, " on" in first) == (bar == 0, bar == 39)
        assert "% of ID" in second and "% of paler" in second

    view.js("arguments[0].focus()", view.find(f"{card} .frame"))
    view.keys(Keys.ARROW_RIGHT)
    check(0)
    view.keys(Keys.ARROW_RIGHT * 25)
    check(25)
    view.keys(Keys.ARROW_LEFT * 3 + Keys.ARROW_UP + Keys.ARROW_DOWN)
    check(22)
    view.keys(Keys.ARROW_RIGHT * 30)
    check(39)
    ActionChains(view.driver, duration=20).move_to_element(svg).perform()
    # Where the mouse is, from the axis that is drawn, whose domain is the edges.
    box = view.js(
        "const b = document.querySelector(`${arguments[0]} .frame svg .background`).getBoundingClientRect(); const s = arguments[1].getBoundingClientRect(); return [b.left, b.width, s.left + s.width / 2]",
        card,
        svg,
    )
    check(int(40 * (box[2] - box[0]) / box[1]))
    ActionChains(view.driver, duration=20).move_to_element(view.find("h1")).perform()
    cut = threshold(scores["test"], 50)
    below = [100 * sum(s < cut for s in scores[name]) / len(scores[name]) for name in ("test", "paler")]
    assert numbers(view.text(f"{card} .readout")) == pytest.approx([cut, *below], abs=0.051)


def band(s_in: Sequence[float], s_out: Sequence[float], share: float) -> tuple[float, float]:
    """What is caught where a share of ID is flagged: the threshold drawn as the quantile of a binomial, the rest from Clopper and Pearson's betas."""
    random = np.random.default_rng(7)
    x, y, n = np.concatenate([[-np.inf], np.sort(s_in), [np.inf]]), np.asarray(s_out), len(s_out)
    ends: list[list[float]] = [[], []]
    for below in random.binomial(len(s_in), share, 6000):
        most, least = int((y >= x[below]).sum()), int((y >= x[below + 1]).sum())
        ends[0].append(1 - (random.beta(most + 1, n - most) if most < n else 1.0))
        ends[1].append(1 - (random.beta(least, n - least + 1) if least else 0.0))
    return float(np.quantile(ends[0], 0.025)), float(np.quantile(ends[1], 0.975))


def test_pointing_at_a_roc_curve_counts_what_is_caught(view: Browser, finished: Finished) -> None:
    scores = finished.scores("random-0", "energy")
    view.pick("#detector", "energy")
    s_in, s_out = scores["test"], scores["paler"]
    card = card_of(view, "paler")
    frame, readout = f"{card} .plot:nth-child(2) .frame", f"{card} .plot:nth-child(2) .readout"
    view.js("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", card)
    svg = view.wait("return document.querySelector(`${arguments[0]} svg`)", frame)

    def check() -> float:
        flagged, caught, low, high = numbers(view.text(readout).replace("Of 100 ID", "").replace("of 100 OOD", ""))
        k = round(flagged * len(s_in) / 100)
        assert flagged == pytest.approx(100 * k / len(s_in), abs=0.051)
        cut = sorted(s_in)[k] if k < len(s_in) else math.inf
        assert caught == pytest.approx(100 * sum(s < cut for s in s_out) / len(s_out), abs=0.056)
        assert low <= caught <= high
        return flagged

    view.js("arguments[0].focus()", view.find(frame))
    view.keys(Keys.ARROW_RIGHT)
    assert check() == 0
    while (flagged := check()) < 5:
        view.keys(Keys.ARROW_RIGHT)
    assert flagged == 5
    assert numbers(view.text(readout))[-2:] == pytest.approx([100 * end for end in band(s_in, s_out, 0.05)], abs=2.0)
    view.keys(Keys.ARROW_RIGHT * 300)
    assert check() == 100
    ActionChains(view.driver, duration=20).move_to_element(svg).perform()
    middle = check()
    assert 30 < middle < 70
    ActionChains(view.driver, duration=20).move_by_offset(-40, 0).perform()
    assert check() < middle
    ActionChains(view.driver, duration=20).move_by_offset(80, 0).perform()
    assert check() > middle


def test_a_plot_that_is_drawn_keeps_the_name_it_has_for_those_who_do_not_see_it(view: Browser, finished: Finished) -> None:
    view.pick("#detector", "energy")
    view.wait("return document.querySelectorAll('.frame svg').length === 8")
    names = view.js("return [...document.querySelectorAll('.frame')].map((frame) => frame.getAttribute('aria-label'))")
    for i, name in enumerate(("paler", "dark", "shots", "other")):
        assert name in names[2 * i] and "istogram" in names[2 * i] and "energy" in names[2 * i]
        assert name in names[2 * i + 1] and shown(finished.row("random-0", "energy", name)["auroc"]) in names[2 * i + 1]


def test_printing_draws_all_plots_and_opens_all_there_is(view: Browser) -> None:
    view.js("window.dispatchEvent(new Event('beforeprint'))")
    view.wait(DRAWN)
    heads = [text.split()[0] for text in view.js("return [...document.querySelectorAll('#plots h3')].map((head) => head.textContent)")]
    assert heads == ["paler", "dark", "shots", "other"]
    assert len(view.all(".frame svg")) == 2 * len(heads)
    assert view.js("return [...document.querySelectorAll('details')].every((box) => box.open)")
    assert view.js(
        "const fine = (svg) => svg.querySelectorAll('path').length > 3 && svg.getBoundingClientRect().width > 100;"
        "return [...document.querySelectorAll('.frame svg')].every(fine)"
    )
    view.pick("#detector", "msp")  # all of them are drawn again
    assert len(view.all(".frame")) == 8
    view.wait(DRAWN)


# Colours and sizes


def test_text_stands_out_from_its_background_in_light_dark_and_print(view: Browser) -> None:
    def looks(selector: str = "h1, p.quiet") -> dict[str, tuple[Any, ...]]:
        found = view.contrasts(selector)
        assert [entry for entry in found if entry[1] < 4.5] == []
        return {text: (paper, ink) for text, _, paper, ink in found}

    view.js("document.querySelectorAll('details').forEach((box) => { box.open = true })")
    view.wait(DRAWN)
    everything = looks("body *")
    light = looks()
    view.media("dark")
    dark = looks()
    assert looks("body *").keys() == everything.keys() and len(everything) > 200
    assert light.keys() == dark.keys() and len(light) > 3
    assert all(light[text][0] != dark[text][0] and light[text][1] != dark[text][1] for text in light)
    assert all(sum(light[text][0]) > 700 and sum(dark[text][0]) < 200 for text in light)
    for theme, as_dark, as_light in (("dark", dark, dark), ("light", light, light), ("auto", dark, light)):
        view.find("#theme").click()
        assert view.text("#theme") == f"Colours: {theme}"
        for scheme, expected in (("dark", as_dark), ("light", as_light)):
            view.media(scheme)
            assert looks() == expected, (theme, scheme)
    for _ in range(3):  # every theme is printed on white
        view.media("dark", "print")
        assert looks("body *")
        assert {tuple(paper) for paper, _ in looks().values()} == {(255, 255, 255)}
        view.media()
        view.find("#theme").click()


@pytest.mark.parametrize("which", ["finished", "hostile", "thousand"])
def test_nothing_sticks_out_of_the_window(browser: Browser, request: pytest.FixtureRequest, which: str) -> None:
    browser.open(request.getfixturevalue(which).page)
    browser.js("document.querySelectorAll('details').forEach((box) => { box.open = true })")
    for width, mobile in ((390, True), (320, True), (1280, False)):
        browser.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=mobile)
        browser.wait("return window.innerWidth >= arguments[0]", width)
        assert browser.js("return document.documentElement.scrollWidth") <= width


# Pictures and classes


def pixels(address: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image.convert("L"), dtype=float)


@pytest.mark.parametrize(("net", "detector"), [("random-0", "energy"), ("random-1", "mahalanobis")])
def test_the_pictures_shown_are_those_a_detector_is_most_wrong_about(view: Browser, finished: Finished, net: str, detector: str) -> None:
    view.pick("#unit", net)
    view.pick("#detector", detector)
    scores = finished.scores(net, detector)
    cut = threshold(scores["test"], 50)
    strips = view.strips()
    assert list(strips) == ["ID flagged", "paler accepted", "dark accepted", "shots accepted"]
    for heading, figures in strips.items():
        name = "test" if heading == "ID flagged" else heading.removesuffix(" accepted")
        taken = finished.beside(net, f"classes/{name}")
        if name == "test":
            rows = sorted((s, i) for i, s in enumerate(scores[name]) if s < cut)[:12]
        else:
            rows = [(-s, i) for s, i in sorted((-s, i) for i, s in enumerate(scores[name]) if s >= cut)][:6]
        assert [float(figure["score"]) for figure in figures] == pytest.approx([s for s, _ in rows], rel=1e-4)
        assert [figure["called"] for figure in figures] == [f"{name}[{i}]" for _, i in rows]
        for figure, (_, i) in zip(figures, rows, strict=True):
            verdict = f"taken for {'abcd'[taken[i]]}"
            if name == "test":
                label = finished.beside(net, "labels/test")[i]
                verdict = f"{'abcd'[label]}, taken for {'abcd'[taken[i]]}"
            assert verdict in figure["text"]
            assert all(part in figure["image"]["alt"] for part in (f"{name}[{i}]", verdict, figure["score"]))
    assert len(strips["ID flagged"]) == 12
    assert len(strips["paler accepted"]) == 6
    source = pictures("test", 300, 1).images.double().mean(1).numpy()
    for figure in strips["ID flagged"]:
        distances = np.abs(source - pixels(figure["image"]["src"])).mean((1, 2))
        assert figure["called"] == f"test[{int(distances.argmin())}]"


def class_rows(s_in: Sequence[float], of: Sequence[int]) -> dict[int, tuple[int, int, bool]]:
    """Of each class: images, images flagged where 95 % of ID is kept, and whether those are more than chance makes."""
    cut = threshold(s_in, 50)
    total, flagged = dict.fromkeys(sorted(set(of)), 0), dict.fromkeys(sorted(set(of)), 0)
    for score, c in zip(s_in, of, strict=True):
        total[c] += 1
        flagged[c] += score < cut
    rate = sum(flagged.values()) / len(s_in)
    p = {c: stats.binomtest(flagged[c], total[c], rate, alternative="greater").pvalue for c in total}
    marked, so_far = set(), 0.0
    for i, c in enumerate(sorted(p, key=lambda c: p[c])):  # Holm
        so_far = max(so_far, p[c] * (len(p) - i))
        if so_far < 0.05:
            marked.add(c)
    return {c: (total[c], flagged[c], c in marked) for c in total}


def check_classes(view: Browser, expected: dict[int, tuple[int, int, bool]], names: Sequence[str]) -> None:
    rows = view.table("classes-table")
    assert {row[0] for row in rows} == {names[c] for c in expected} and len(rows) == len(expected)
    shares = [float(row[3]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    place = {name: i for i, name in enumerate(names)}
    for name, n, k, share, interval, more in rows:
        total, flagged, marked = expected[place[name]]
        assert (int(n), int(k), "yes" in more) == (total, flagged, marked)
        assert float(share) == pytest.approx(100 * flagged / total, abs=0.051)
        assert numbers(interval) == pytest.approx([100 * end for end in clopper_pearson(flagged, total)], abs=0.056)


def test_false_alarms_are_counted_by_class(view: Browser, finished: Finished) -> None:
    view.pick("#detector", "react+energy")
    check_classes(view, class_rows(finished.scores("random-0", "react+energy")["test"], finished.beside("random-0", "labels/test")), "abcd")
    assert "15 of 300 ID test images are flagged" in view.text("#classes-note")
    for key, place in (("class", 0), ("n", 1), ("flagged", 2), ("share", 3), ("more", 5)):
        view.press("classes-table", key)
        assert view.sorts("classes-table")[key] != "none"
        cells = [row[place] for row in view.table("classes-table")]
        values = cells if key in ("class", "more") else [float(cell) for cell in cells]
        assert values == sorted(values, reverse=view.sorts("classes-table")[key] == "descending")  # type: ignore[type-var]


def test_a_thousand_classes_are_listed_and_those_beyond_chance_are_marked(browser: Browser, thousand: Finished) -> None:
    browser.open(thousand.page)
    found = load_file(next((thousand.out / "scores").rglob("*.safetensors")))
    expected = class_rows(found["first/test"].double().tolist(), found["labels/test"].tolist())
    assert [c for c, (_, _, marked) in expected.items() if marked] == [18]  # two of two are not beyond chance among 1,000
    assert expected[901][:2] == (2, 2) and len(expected) == 1000
    check_classes(browser, expected, [f"class number {i}" for i in range(1001)])
    assert "no picture" in browser.text("#pictures .strip")
    browser.slide_to(200)
    assert browser.text("#rate-said") == "200 of 1,000"


# Names and values that nobody expects


def test_whatever_things_are_called_is_shown_as_text(browser: Browser, hostile: Finished) -> None:
    browser.open(hostile.page)
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    browser.wait(DRAWN)
    text = browser.text("body")
    assert browser.js("return typeof window.hacked") == "undefined"
    assert browser.driver.title.startswith("</title><img")
    assert len(browser.all("script")) == 3 and not browser.all("img[onerror]")
    for name in (*HOSTILE_SETS, *HOSTILE_DETECTORS, HOSTILE_NET, f"{INJECTED}.png", "{{page}}.png", hostile.value["suites"][0]["name"]):
        assert name in text
    assert {name for name in HOSTILE_CLASSES if name in browser.text("#classes-table")} == set(HOSTILE_CLASSES)
    assert (
        browser.js("return document.getElementById('command').textContent.codePointAt(document.getElementById('command').textContent.length - 1)")
        == 0xDCFF
    )
    assert browser.js("return [...document.querySelectorAll('.called')].some((one) => one.textContent.includes('lone \\udcff.png'))")
    assert browser.js("return [...document.querySelector('#detector').options].map((option) => option.text)") == [
        line["detector"] for line in sorted((r for r in hostile.value["rows"] if (r["ood"], r["group"]) == (None, "near")), key=lambda r: -r["auroc"])
    ]


def test_a_set_may_be_called_like_a_property_of_an_object(browser: Browser, hostile: Finished) -> None:
    browser.open(hostile.page)
    expected = ["near-OOD, mean", "far-OOD, mean", *HOSTILE_SETS, "one", "folder"]
    assert browser.js("return [...document.querySelector('#column').options].map((option) => option.text)") == expected
    heads = browser.js("return [...document.querySelectorAll('#every-table th')].map((head) => head.textContent)")
    assert heads == ["Detector", *expected, "worst set"]
    assert set(browser.caught()) == set(expected[2:])


def test_the_controls_work_whatever_things_are_called(browser: Browser, hostile: Finished) -> None:
    browser.open(hostile.page)
    rows = {(r["detector"], r["ood"]): r for r in hostile.value["rows"]}
    found = load_file(next((hostile.out / "scores").rglob("*.safetensors")))
    for place, name in enumerate(HOSTILE_SETS):
        browser.find(f"#column option:nth-child({place + 3})").click()
        figures = browser.figures("ranking-0")
        assert {row["detector"] for row in figures} == set(HOSTILE_DETECTORS)
        assert all(about(row["figure"], rows[row["detector"], name]["auroc"]) for row in figures)
    for column in ("detector", *(f"set {name}" for name in HOSTILE_SETS)):
        browser.press("every-table", column)
        assert browser.sorts("every-table")[column] != "none"
        assert browser.js("return document.activeElement.dataset.key") == column
    for detector in HOSTILE_DETECTORS:
        browser.pick("#detector", detector)
        for rate in (0, 500) if detector == "7" else (100,):
            browser.slide_to(rate)
            s_in = found[f"{detector}/test"].double().tolist()
            cut = threshold(s_in, rate)
            assert float(browser.text("#limit")) == pytest.approx(cut, rel=1e-4)
            for name, cells in browser.caught().items():
                s_out = found[f"{detector}/{name}"].double().tolist()
                assert float(cells[1]) == pytest.approx(100 * sum(s < cut for s in s_out) / len(s_out), abs=0.056)
    browser.pick("#detector", "all alike")
    assert browser.strips()["ID flagged"] == []
    assert "No ID image is flagged." in browser.text("#pictures")
    assert len(browser.strips()["one accepted"]) == 1
    assert "1 image;" in browser.text("#plots")
    assert browser.js("return typeof window.hacked") == "undefined"


def test_the_axis_of_one_image_and_of_scores_all_alike_is_a_line(browser: Browser, hostile: Finished) -> None:
    browser.open(hostile.page)
    browser.pick("#detector", "all alike")
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    browser.wait(DRAWN)
    assert browser.js("return [...document.querySelectorAll('.frame path')].every((path) => !/NaN|Infinity/.test(path.getAttribute('d')))")
    browser.find("#column option[value=one]").click()
    assert all(0 <= float(place.removesuffix("%")) <= 100 for row in browser.figures("ranking-0") for place in (*row["bar"], row["dot"]))


def test_infinite_scores_have_a_page(browser: Browser, tmp_path: Path) -> None:
    made = written([(suite(), [classifier()])], {"endless": Endless.fit, "energy": parse("energy")}, tmp_path)
    browser.open(made.page)
    browser.pick("#detector", "endless")
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    browser.wait(DRAWN)
    scores = made.scores("random-0", "endless")
    browser.slide_to(0)
    assert "∞" in browser.text("#limit")
    browser.slide_to(50)
    cut = threshold(scores["test"], 50)
    assert float(browser.text("#limit")) == pytest.approx(cut, rel=1e-4)
    assert [row["called"] for row in browser.strips()["ID flagged"][:3]] == [f"test[{i}]" for i, s in enumerate(scores["test"]) if s == -math.inf]
    assert "∞" in browser.strips()["ID flagged"][0]["score"]


def test_a_set_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """As the command line has it, of `--near` with such bytes."""
    made = replace(suite(), ood=(OODSet("lone \udcff", "near", lambda: pictures("p", 20, 3, 60)),))
    with pytest.raises(ff.InputError, match=r"The name 'lone .udcff' is not UTF-8"):
        written([(made, [classifier()])], {"energy": parse("energy")}, tmp_path)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Detector `a` on set `b/c`, and detector `a/b` on set `c`."""
    sets = tuple(OODSet(name, "near", lambda: pictures("p", 20, 3, 60)) for name in ("b/c", "c"))
    with pytest.raises(ff.InputError, match=r"Two columns of the scores of quarters would be called 'a/b/c'"):
        written([(replace(suite(), ood=sets), [classifier()])], {"a": parse("energy"), "a/b": parse("msp")}, tmp_path)
    with pytest.raises(ff.InputError, match=r"would be called 'labels/test'"):
        written([(suite(), [classifier()])], {"labels": parse("energy")}, tmp_path)


# What is missing


def copied(finished: Finished, to: Path) -> Finished:
    for name in ("scores", "pictures"):
        shutil.copytree(finished.out / name, to / name)
    for name in ("results.json", "results.md", "report.html"):
        shutil.copy(finished.out / name, to / name)
    return Finished(to, finished.value)


def test_results_without_scores_have_a_ranking_and_say_so(browser: Browser, finished: Finished, tmp_path: Path) -> None:
    browser.open(rewritten(finished.value, tmp_path))
    assert len(browser.figures("ranking-1")) == len(DETECTORS)
    assert not browser.find("#from-scores").is_displayed()
    assert browser.find("#no-scores").is_displayed()
    assert "no scores beside these results" in browser.text("#no-scores")
    browser.press("ranking-0", "detector")
    browser.pick("#unit", "random-1")
    browser.pick("#detector", "msp")
    assert browser.table("every-table") and browser.table("families-table")
    assert "farfield bench --suite quarters" in browser.text("#command")
    browser.js("window.dispatchEvent(new Event('beforeprint'))")


def test_scores_of_another_run_are_not_shown(browser: Browser, finished: Finished, tmp_path: Path) -> None:
    made = copied(finished, tmp_path)
    path = tmp_path / "scores" / "quarters" / "random-0.safetensors"
    save_file({key: t[:-1] if key == "msp/paler" else t for key, t in load_file(path).items()}, path)
    (tmp_path / "scores" / "quarters" / "random-1.safetensors").write_bytes(b"broken")
    browser.open(report.write_page(made.value, tmp_path))
    for net in ("random-1", "random-0"):
        browser.pick("#unit", net)
        assert browser.find("#no-scores").is_displayed() and not browser.find("#from-scores").is_displayed()


@pytest.mark.parametrize(
    "value",
    [
        {"rows": []},
        {"rows": [], "classifiers": [{"name": "n", "suite": "s", "id_accuracy": None, "id_accuracy_interval": None, "classes": 3}]},
        {"rows": [], "refused": [{"classifier": "n", "detector": "d", "reason": INJECTED}]},
    ],
)  # fmt: skip
def test_results_without_rows_have_a_page(browser: Browser, tmp_path: Path, value: dict[str, Any]) -> None:
    browser.open(rewritten(value, tmp_path))
    assert not browser.find("#from-scores").is_displayed()
    assert browser.js("return typeof window.hacked") == "undefined"
    assert "What was run" in browser.text("#main")


def test_results_of_an_older_version_have_a_page(browser: Browser, finished: Finished, tmp_path: Path) -> None:
    made = copied(finished, tmp_path)
    old = {key: made.value[key] for key in ("rows", "classifiers", "suites")}
    old["rows"] = [{key: v for key, v in row.items() if key not in ("sources", "rank", "beaten_by", "fpr_beaten_by")} for row in old["rows"]]
    old["classifiers"] = [{key: v for key, v in entry.items() if key not in ("fingerprint", "class_names")} for entry in old["classifiers"]]
    old["suites"] = [{key: v for key, v in entry.items() if key != "contents"} for entry in old["suites"]]
    for net in ("random-0", "random-1"):
        path = tmp_path / "scores" / "quarters" / f"{net}.safetensors"
        save_file({key: t for key, t in load_file(path).items() if key.split("/")[0] in DETECTORS}, path)
    shutil.rmtree(tmp_path / "pictures")
    browser.open(rewritten(old, tmp_path))
    assert {row["rank"] for row in browser.figures("ranking-0")} == {""}
    browser.pick("#detector", "energy")
    s_in = finished.scores("random-0", "energy")["test"]
    assert float(browser.text("#limit")) == pytest.approx(threshold(s_in, 50), rel=1e-4)
    assert "not known" in browser.text("#classes-note")
    assert "no picture" in browser.text("#pictures")
    browser.slide_to(500)


def test_several_suites_share_a_page(browser: Browser, tmp_path: Path) -> None:
    net = classifier()
    other = replace(suite(), name="again", ood=(OODSet("faint", "near", lambda: pictures("faint", 30, 8, 100)),))
    made = written([(suite(), [net]), (other, [net])], {"energy": parse("energy")}, tmp_path)
    browser.open(made.page)
    assert browser.js("return [...document.querySelector('#unit').options].map((option) => option.text)") == [
        "random-0 on quarters",
        "random-0 on again",
    ]
    assert len(browser.all("#ranking > .card")) == 2
    browser.pick("#column", "faint")
    assert len(browser.all("#ranking > .card")) == 1
    assert about(browser.figures("ranking-1")[0]["figure"], made.row("random-0", "energy", "faint")["auroc"])
    browser.pick("#unit", "random-0 on again")
    assert list(browser.caught()) == ["faint"]
    assert "energy on random-0 on again" in browser.text("#h-scores + p")
    assert "again" in browser.text("#headline") and "quarters" in browser.text("#headline")


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "null", '{"test": []}', '{"test": {"0": {"name": 3}}}', '{"test": 7}', "\udcff", '{"test": {"0": {"name": "x", "picture": 5}}}'],
)
def test_broken_pictures_cost_the_pictures_alone(finished: Finished, tmp_path: Path, content: str) -> None:
    made = copied(finished, tmp_path)
    for path in (tmp_path / "pictures").rglob("*.json"):
        path.write_bytes(os.fsencode(content))
    text = report.page(
        {**made.value, "rows": [row for row in made.value["rows"] if (row["classifier"], row["detector"]) == ("random-0", "msp")]}, tmp_path
    )
    assert "data:image/webp" not in text
    assert '"missing":""' in text and "no scores" not in text.partition('id="content">')[2].partition("</script>")[0]


def test_only_pictures_in_the_page_itself_are_shown(browser: Browser, finished: Finished, tmp_path: Path) -> None:
    made = copied(finished, tmp_path)
    for path in (tmp_path / "pictures").rglob("*.json"):
        value = json.loads(path.read_text())
        addresses = [
            "https://evil.example/x.webp",
            "javascript:window.hacked=1",
            "data:text/html,<script>window.hacked=1</script>",
            "file:///etc/passwd",
            "//evil.example/x",
        ]
        for rows in value.values():
            for i, entry in enumerate(rows.values()):
                entry["picture"] = addresses[i % len(addresses)]
        value["test"][next(iter(value["test"]))]["picture"] = 'data:image/webp;base64,"><script>window.hacked=1</script>'
        path.write_text(json.dumps(value))
    browser.open(report.write_page(made.value, tmp_path))
    assert "evil.example" not in made.page.read_text() and "etc/passwd" not in made.page.read_text()
    assert browser.js("return [...document.images].every((image) => image.src.startsWith('data:image/webp;base64,'))")
    assert "no picture" in browser.text("#pictures")
    assert browser.js("return typeof window.hacked") == "undefined"
    assert [address for address in browser.asked_for() if not address.startswith("data:")] == [made.page.resolve().as_uri()]
    assert [said for said in browser.complaints() if "data:image/webp" not in said] == []  # a broken picture may be told of


# The command line

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def farfield(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line here, and returns its status, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["farfield", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, *capsys.readouterr()

    return run


def test_report_makes_the_same_page_again(farfield: Cli, finished: Finished, tmp_path: Path) -> None:
    made = copied(finished, tmp_path)
    made.page.unlink()
    status, out, err = farfield("report", tmp_path)
    assert (status, out) == (0, "")
    assert str(made.page) in err
    assert made.page.read_bytes() == finished.page.read_bytes()
    elsewhere = tmp_path / "new folder" / "page.html"
    assert farfield("report", tmp_path / "results.json", "--out", elsewhere)[0] == 0
    assert elsewhere.read_bytes() == finished.page.read_bytes()
    assert farfield("report", tmp_path, "--out", "-")[1].rstrip("\n") == finished.page.read_text("utf-8").rstrip("\n")


def test_report_has_the_other_formats(farfield: Cli, finished: Finished, tmp_path: Path) -> None:
    before = finished.page.stat().st_mtime_ns
    status, out, _ = farfield("report", finished.out, "--format", "markdown")
    assert status == 0
    assert out.rstrip("\n") == (finished.out / "results.md").read_text("utf-8").rstrip("\n")
    status, out, _ = farfield("report", finished.out, "--format", "json")
    assert status == 0
    assert json.loads(out) == finished.value
    assert farfield("report", finished.out, "--format", "markdown", "--out", tmp_path / "x.md")[:2] == (0, "")
    assert (tmp_path / "x.md").read_bytes() == (finished.out / "results.md").read_bytes()
    assert finished.page.stat().st_mtime_ns == before


def test_open_shows_the_page(farfield: Cli, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert farfield("report", finished.out, "--out", tmp_path / "p.html", "--open")[0] == 0
    assert opened == [(tmp_path / "p.html").resolve().as_uri()]


def in_row(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["rows"][0].update(changes)


def in_first(name: str, **changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda value: value[name][0].update(changes)


def put(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda value: value.update(changes)


NAN, DEEP = math.nan, [[[[[[]]]]]]
CORRUPTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no rows": lambda value: value.pop("rows"),
    "rows a table": put(rows={}),
    "rows a text": put(rows="x"),
    "rows null": put(rows=None),
    "rows nested": put(rows=DEEP),
    "rows of numbers": put(rows=[3]),
    "row without detector": lambda v: v["rows"][0].pop("detector"),
    "row without n_id": lambda v: v["rows"][0].pop("n_id"),
    "row without interval": lambda v: v["rows"][0].pop("auroc_interval"),
    "AUROC a text": in_row(auroc="0.9"),
    "AUROC true": in_row(auroc=True),
    "AUROC NaN": in_row(auroc=NAN),
    "AUROC infinite": in_row(auroc=math.inf),
    "AUROC 2": in_row(auroc=2),
    "AUROC below 0": in_row(auroc=-0.1),
    "AUROC null": in_row(auroc=None),
    "AUROC nested": in_row(auroc=DEEP),
    "AUROC enormous": in_row(auroc=10**400),
    "interval of one": in_row(auroc_interval=[0.1]),
    "interval of texts": in_row(auroc_interval=["a", "b"]),
    "interval NaN": in_row(auroc_interval=[NAN, 1]),
    "interval nested": in_row(fpr_at_95_tpr_id_interval=DEEP),
    "interval a text": in_row(auroc_interval="01"),
    "FPR null": in_row(fpr_at_95_tpr_id=None),
    "AP NaN": in_row(ap_ood=NAN),
    "n_id negative": in_row(n_id=-1),
    "n_ood half": in_row(n_ood=1.5),
    "n_ood null": in_row(n_ood=None),
    "n_id true": in_row(n_id=True),
    "ood a number": in_row(ood=3),
    "ood a list": in_row(ood=["x"]),
    "group null": in_row(group=None),
    "detector null": in_row(detector=None),
    "classifier a list": in_row(classifier=["x"]),
    "suite a number": in_row(suite=1),
    "rank a text": in_row(rank="1"),
    "rank half": in_row(rank=1.5),
    "beaten by numbers": in_row(beaten_by=[3]),
    "beaten by a text": in_row(fpr_beaten_by="energy"),
    "sources negative": in_row(sources=-1),
    "classifiers a text": put(classifiers="x"),
    "classifiers of null": put(classifiers=[None]),
    "classifier without name": lambda v: v["classifiers"][0].pop("name"),
    "class names numbers": in_first("classifiers", class_names=[3]),
    "class names a text": in_first("classifiers", class_names="abc"),
    "accuracy 2": in_first("classifiers", id_accuracy=2),
    "accuracy interval half": in_first("classifiers", id_accuracy_interval=[0.5]),
    "accuracy without interval": in_first("classifiers", id_accuracy_interval=None),
    "fingerprint a number": in_first("classifiers", fingerprint=3),
    "classes a text": in_first("classifiers", classes="4"),
    "suites a table": put(suites={}),
    "suite without note": lambda v: v["suites"][0].pop("note"),
    "groups a list": in_first("suites", ood=["paler"]),
    "groups numbers": in_first("suites", ood={"paler": 3}),
    "contents a list": in_first("suites", contents=[]),
    "cost a list": put(cost=[]),
    "cost null": put(cost=None),
    "cost NaN": put(cost={"total_seconds": NAN}),
    "cost of detectors null": put(cost={"per_detector": None}),
    "cost of detectors a list": put(cost={"per_detector": [1]}),
    "cost of a detector null": put(cost={"per_detector": {"energy": None}}),
    "cost of a detector NaN": put(cost={"per_detector": {"energy": {"fit_seconds": NAN}}}),
    "environment a number": put(environment=3),
    "environment null": put(environment=None),
    "papers numbers": put(papers={"x": 3}),
    "papers a list": put(papers=[]),
    "command a list": put(command=["farfield"]),
    "unreadable without keys": put(unreadable=[{}]),
    "unreadable null": put(unreadable=None),
    "refused a text": put(refused="x"),
    "warnings nested": put(warnings=DEEP),
    "warning a number": put(warnings=[{"classifier": "x", "detector": "", "message": 3}]),
}


def refused(ran: tuple[int, str, str], path: Path) -> None:
    status, out, err = ran
    lines = [line for line in err.splitlines() if line.strip()]
    assert (status, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("farfield: ") and "Traceback" not in err
    assert str(path) in lines[0]


@pytest.mark.parametrize("change", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_results_that_are_something_else_are_refused(farfield: Cli, finished: Finished, tmp_path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(json.dumps(finished.value))
    change(value)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(value))
    refused(farfield("report", path), path)
    refused(farfield("cite", path), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b"NaN",
        b'"rows"',
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"rows": ' * 50_000,
        b'{"rows": [], "cost": {"x_seconds": NaN}}',
    ],
)
def test_a_file_that_is_no_results_is_refused(farfield: Cli, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    refused(farfield("report", path), path)
    refused(farfield("report", tmp_path, "--format", "markdown"), path)


UNFIT: dict[str, Callable[[dict[str, Any]], object]] = {
    "a row less": lambda value: value["rows"].pop(0),
    "a set of its own": in_row(ood="unheard of"),
    "an empty name": in_row(ood=""),
    "a detector of its own": in_row(detector="unheard of"),
    "a family of its own": in_row(group="unit-test"),
    "a classifier of its own": in_row(classifier="x"),
}


@pytest.mark.parametrize("change", UNFIT.values(), ids=UNFIT.keys())
def test_rows_that_do_not_fit_together_are_no_fault_of_ours(
    farfield: Cli, finished: Finished, tmp_path: Path, change: Callable[[Any], object]
) -> None:
    value = json.loads(json.dumps(finished.value))
    change(value)
    (tmp_path / "results.json").write_text(json.dumps(value))
    for form in ("html", "markdown"):
        status, _, err = farfield("report", tmp_path, "--format", form)
        assert status in (0, 2), err
        assert "fault in Farfield" not in err


def test_report_says_what_it_cannot_do(farfield: Cli, finished: Finished, tmp_path: Path) -> None:
    for arguments, said in (
        (("report", tmp_path / "none.json"), "none.json"),
        (("report", tmp_path), "results.json"),
        (("report", finished.out, "--format", "markdown", "--open"), "--open is for the page"),
        (("report", finished.out, "--out", "-", "--open"), "--open is for the page"),
        (("report", finished.out, "--out", tmp_path), "no file that can be written"),
        (("report", finished.out, "--format", "pdf"), "pdf"),
    ):
        status, out, err = farfield(*arguments)
        assert (status, out, len(err.strip().splitlines())) == (2, "", 1), arguments
        assert said in err and err.startswith("farfield: ")


def test_cite_prints_what_the_page_has(farfield: Cli, view: Browser, finished: Finished) -> None:
    status, out, _ = farfield("cite", finished.out / "results.json")
    assert status == 0
    assert out.rstrip("\n") == view.text("#bibtex").rstrip("\n")
    assert farfield("cite", finished.out)[1] == out
    for key in (
        "@software{farfield",
        "liu2020energy",
        "hendrycks2017baseline",
        "lee2018simple",
        "sun2021react",
        "Obuchowski",
        "Bitterwolf",
        "Clopper",
        "DeLong",
    ):
        assert key in out
    assert "No entry is known" not in out


@pytest.mark.parametrize("detector", sorted({*CATALOGUE, *SHAPERS, *DEFAULTS}))
def test_every_detector_has_an_entry(farfield: Cli, detector: str) -> None:
    status, out, err = farfield("cite", detector)
    assert (status, err) == (0, "")
    assert "No entry is known" not in out
    method = {**CATALOGUE, **SHAPERS}.get(detector)
    named = len([paper for paper in method.paper.split("; ") if paper]) if method else 1
    assert out.count("\n@") + out.startswith("@") >= 2 + named
    assert all(block.count("{") == block.count("}") for block in out.split("\n\n"))


def test_cite_knows_all_and_refuses_the_unknown(farfield: Cli) -> None:
    status, every, _ = farfield("cite")
    assert status == 0
    both = farfield("cite", "knn", "react+energy")[1]
    assert all(block in every for block in both.strip().split("\n\n"))
    status, out, err = farfield("cite", "enrgy")
    assert (status, out, len(err.strip().splitlines())) == (2, "", 1)
    assert "enrgy" in err and "energy" in err


# The keyboard


def test_every_control_is_reached_with_the_tab_key(view: Browser) -> None:
    view.js("document.querySelectorAll('details').forEach((box) => { box.open = true })")
    view.wait(DRAWN)
    wanted = [
        one
        for one in view.all("a[href], button, select, input[type=range], input[type=radio]:checked, summary, [tabindex='0'], .frame, #classes")
        if one.get_attribute("class") == "skip" or one.is_displayed()
    ]
    reached = view.tabbed()
    assert len(wanted) > 40
    assert [one.get_attribute("outerHTML")[:80] for one in wanted if one not in reached] == []  # type: ignore[index]
    assert reached[0].get_attribute("class") == "skip"
    script = "const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2"
    view.js("document.activeElement.blur()")
    for _ in range(8):
        view.keys(Keys.TAB)
        assert view.js(script) or view.js("return document.activeElement.type === 'radio'")


def test_the_skip_link_leads_to_the_ranking(view: Browser) -> None:
    view.js("document.activeElement.blur()")
    view.keys(Keys.TAB)
    assert view.js("return document.activeElement.className") == "skip"
    assert view.js("const box = document.activeElement.getBoundingClientRect(); return box.left >= 0 && box.top >= 0")
    view.keys(Keys.ENTER)
    assert view.js("return document.querySelector(location.hash).textContent") == "Ranking"
    view.keys(Keys.TAB)
    assert view.js("return document.getElementById('main').contains(document.activeElement)")


def test_the_measure_is_switched_with_the_arrow_keys(view: Browser) -> None:
    view.js("document.querySelector('input[name=measure]').focus()")
    view.keys(Keys.ARROW_RIGHT)
    assert "FPR" in view.text("#ranking-0 thead") and "FPR" in view.text("#every-table caption")
    view.keys(Keys.ARROW_LEFT)
    assert "AUROC" in view.text("#ranking-0 thead")


def test_every_control_and_plot_has_a_name(view: Browser) -> None:
    view.js("document.querySelectorAll('details').forEach((box) => { box.open = true })")
    names = view.js(
        "return [...document.querySelectorAll('button, select, input, .frame, img, section')].map((one) => one.getAttribute('aria-label') || one.alt || one.textContent.trim()"
        " && one.tagName === 'BUTTON' || (one.labels && one.labels.length && one.labels[0].textContent.trim()) || one.getAttribute('aria-labelledby') || one.id === 'top')"
    )
    assert len(names) > 60 and all(names)

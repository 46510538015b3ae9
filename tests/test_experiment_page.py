"""The page of an experiment: what it says is what the records say, in a browser, at every width."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from farfield.reproduce import value_of, write
from farfield.reproduce.base import Claim, Experiment, Plot, Record
from farfield.reproduce.plots import drawn
from farfield.reproduce.tables import comparable, laid, markdown
from pages import Browser

HOSTILE = "</script><!--{{style}}<img src=x onerror=window.hacked=1>'\"`$(rm) \u2028\ud800"
KEYS = ("method", "classes", "set")
FIGURES = {"auroc": "AUROC", "fpr": "FPR95", "accuracy": "ID accuracy"}
METHODS, COUNTS, SETS = ("MSP", "MOS"), ("50", "200", "1000"), ("letters", "photos", "average")


def rows(seed: int = 0, methods: Sequence[str] = METHODS) -> list[Record]:
    """Records whose figures tell where they are from."""
    found = []
    for m, method in enumerate(methods):
        for c, count in enumerate(COUNTS):
            for s, name in enumerate(SETS):
                value = 90 - 5.5 * m - 10 * c - s + seed
                found.append(
                    Record(
                        (method, count, name),
                        {"auroc": value, "fpr": 100 - value},
                        {"auroc": (value - 1, value + 2), "fpr": (98 - value, 101 - value)},
                        seed,
                    )
                )
            found.append(Record((method, count, "ID"), {"accuracy": 70.0 - c + seed}, {}, seed))
    return found


PAPER = [Record((method, count, "iNaturalist"), {"fpr": 20.0 + 15 * c}) for method in METHODS for c, count in enumerate(COUNTS)]
LINES = Experiment(
    "made-up", "Sun et al., ICML 2022", "Figure 9", "Two methods over the number of classes.", KEYS, FIGURES, lambda stage: {}, PAPER,
    (Claim("MOS is lower", lambda cells: cells["MSP", "50", "average", "fpr"] - cells["MOS", "50", "average", "fpr"]),),
    here="Small networks.", suite="some-suite", plot=Plot("classes", "fpr", "method", "set"),
)  # fmt: skip
BARS = replace(LINES, name="bars", published=[Record(("MSP", "50", "average"), {"fpr": 30.0})], plot=Plot("classes", "fpr", "method", kind="bars"))
POINTS = replace(LINES, name="points", published=(), plot=Plot("accuracy", "fpr", "method", kind="points"))
WORDS = replace(LINES, name="words", plot=Plot("method", "fpr", "set", kind="points"), published=(), claims=())
BARE = replace(LINES, name="bare", plot=None, claims=(), published=())
NASTY = replace(
    LINES, name="nasty", paper=HOSTILE, place=HOSTILE, what=HOSTILE, here=HOSTILE, published=[Record((HOSTILE, "50", HOSTILE), {"fpr": 3.0})],
    keys=(HOSTILE, "classes", "set"), figures={**FIGURES, "fpr": HOSTILE}, claims=(Claim(HOSTILE, lambda cells: 1.0),), plot=Plot("classes", "fpr", HOSTILE, "set"),
)  # fmt: skip


def value(one: Experiment = LINES, seeds: Sequence[int] = (0,), methods: Sequence[str] = METHODS, **more: Any) -> dict[str, Any]:
    records = [record for seed in seeds for record in rows(seed, methods)]
    environment = {"farfield": "0.1", "torch": "2.9"}
    return value_of(one, records, **{"scale": "glyphs", "command": "farfield reproduce made-up", "environment": environment, **more})


# --- the value ------------------------------------------------------------------------------------------------------------------------------


def test_a_table_a_figure_with_sets_as_columns_and_the_average_last() -> None:
    records = {(m, s): {"auroc": {"value": 1.0, "interval": None, "paper": None}} for m in METHODS for s in ("average", "photos", "letters")}
    (one,) = laid(("method", "set"), {"auroc": "AUROC"}, records)
    assert [column["label"] for column in one["columns"]] == ["photos", "letters", "average"] and one["keys"] == ["method"]
    assert [row["of"] for row in one["rows"]] == [["MSP"], ["MOS"]]


def test_a_set_of_id_classes_in_another_look_stands_apart_and_is_said_to() -> None:
    one = replace(BARE, keys=("method", "set"), figures={"auroc": "AUROC"})
    found = value_of(one, [Record(("MSP", name), {"auroc": 50.0}) for name in ("letters", "digits", "average")], scale="glyphs", command="x")
    assert [column["label"] for column in found["tables"][0]["columns"]] == ["letters", "average", "digits"]
    assert "digits shows ID classes in another look: telling it from ID is not wanted, and it is in no average." in found["notes"]
    assert "another look" not in " ".join(value()["notes"])


def test_figures_of_a_single_column_share_a_table_and_many_names_stay_rows() -> None:
    tables = value()["tables"]
    assert [(one["title"], len(one["columns"]), len(one["rows"])) for one in tables] == [("AUROC", 3, 6), ("FPR95", 3, 6), ("", 1, 6)]
    assert tables[2]["columns"][0]["label"] == "ID accuracy"
    many = {(f"network {i}",): {"auroc": {"value": float(i), "interval": None, "paper": None}} for i in range(12)}
    (one,) = laid(("network",), FIGURES, many)
    assert [column["label"] for column in one["columns"]] == ["AUROC"] and len(one["rows"]) == 12
    wide = {("a", f"set {i}"): {"auroc": {"value": 50.0, "interval": None, "paper": None}} for i in range(11)}
    (one,) = laid(("method", "set"), FIGURES, wide)
    assert one["keys"] == ["method", "set"] and len(one["rows"]) == 11
    assert laid(KEYS, FIGURES, {}) == []


def test_the_papers_figures_stand_in_the_same_cells_only_where_all_are_of_the_same_things() -> None:
    assert comparable({("a", "b"): 1}, {}) and not comparable({}, {("a",): 1})
    assert value()["papers"] and all(cell["paper"] is None for one in value()["tables"] for row in one["rows"] for cell in row["cells"])
    same = value(BARS)
    assert same["papers"] == []
    (fpr,) = [one for one in same["tables"] if one["title"] == "FPR95"]
    assert [cell["paper"] for cell in fpr["rows"][0]["cells"]] == [None, None, 30.0]
    assert "| 12.0 (10.0 to 13.0) (paper 30.0) |" in markdown(same) and "| the paper claims |" in markdown(same)


def test_shares_and_correlations_have_three_decimals() -> None:
    one = replace(BARE, keys=("method",), figures={"rho": "Spearman", "n": "count"})
    (table,) = value_of(one, [Record(("a",), {"rho": -0.1234, "n": 24.0})], scale="glyphs", command="x")["tables"]
    assert [column["digits"] for column in table["columns"]] == [3, 1]


def test_every_figure_of_the_records_is_in_json_and_markdown_with_its_interval() -> None:
    one = value(seeds=(0, 1, 4))
    text = markdown(one)
    cells = [cell for table in one["tables"] for row in table["rows"] for cell in row["cells"]]
    assert len(cells) == 6 * 7
    for record in rows():
        for figure, told in record.values.items():
            mean = told + (5 / 3 if figure != "fpr" else -5 / 3)
            # seeds 0, 1, 4: s = 2.0817, half width 4.302653 * 2.0817 / sqrt 3 = 5.1713
            assert f"{mean:.1f} ± 5.2" in text
            assert any(
                cell["value"] == pytest.approx(mean, abs=1e-4) and cell["interval"] == pytest.approx([mean - 5.1713, mean + 5.1713], abs=1e-3)
                for cell in cells
            )


def test_what_a_plot_has_on_its_axes() -> None:
    plot = value()["plot"]
    assert (plot["x"], plot["y"], plot["numeric"], plot["xs"], plot["series"]) == ("classes", "FPR95", True, [50, 200, 1000], ["MSP", "MOS"])
    assert [(panel["name"], len(panel["points"]), len(panel["paper"])) for panel in plot["panels"]] == [
        ("letters", 6, 0), ("photos", 6, 0), ("iNaturalist", 0, 6), ("average", 6, 0),
    ]  # fmt: skip
    assert plot["panels"][0]["points"][0] == {"x": 50, "y": 10.0, "low": 8.0, "high": 11.0, "name": "", "series": "MSP", "text": "10.0 (8.0 to 11.0)"}
    bars = value(BARS)["plot"]  # what is on no axis is shown at its average
    assert [[point["y"] for point in panel["points"]] for panel in bars["panels"]] == [[12.0, 22.0, 32.0, 17.5, 27.5, 37.5]]
    assert [point["y"] for point in bars["panels"][0]["paper"]] == [30.0]
    points = value(POINTS)["plot"]  # a figure on an axis may be that of the network
    assert [(point["x"], point["series"]) for point in points["panels"][0]["points"]] == [
        (68, "MSP"),
        (68, "MOS"),
        (69, "MSP"),
        (69, "MOS"),
        (70, "MSP"),
        (70, "MOS"),
    ]
    words = value(WORDS)["plot"]
    assert not words["numeric"] and words["xs"] == ["MSP", "MOS"] and words["panels"][0]["points"][0]["name"] == "50"
    assert drawn(Plot("classes", "fpr"), KEYS, FIGURES, {}, {}) is None and value(BARE)["plot"] is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"settings": {"smoke": True}}, "two steps of training and few pictures, and the figures mean nothing"),
        ({"settings": {"random_weights": True}, "scale": "full"}, "weights are random, and the figures mean nothing"),
        ({"settings": {"limit": 50, "model": "timm:resnet18"}, "scale": "full"}, "model was timm:resnet18."),
        ({"seeds": (0, 2, 5)}, "means over seeds 0, 2 and 5"),
        ({}, "All is of seed 0"),
    ],
)
def test_notes_say_what_was_done(more: dict[str, Any], said: str) -> None:
    notes = " ".join(value(**more)["notes"])
    assert said in notes and ("Small networks." in notes) == (more.get("scale") != "full") and "95 % of ID is kept" in notes
    assert "95 % of OOD is caught" in " ".join(value(replace(LINES, fpr="ood"))["notes"])


# --- the file -------------------------------------------------------------------------------------------------------------------------------


def test_no_text_ends_the_element_it_is_in(tmp_path: Path) -> None:
    text = write(value(NASTY, command=HOSTILE, methods=(HOSTILE, "MOS")), tmp_path).read_text("utf-8")
    (told,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)
    assert json.loads(told)["paper"] == HOSTILE.encode("utf-8", "backslashreplace").decode() or json.loads(told)["paper"] == HOSTILE
    assert text.count("<script") == 3 + text.count("<script>alert") and "default-src 'none'" in text
    assert "{{" not in text[: text.index("<body>")]
    assert HOSTILE.partition("\u2028")[0].replace("<", "\\<")[:9] in markdown(value(NASTY)) and (tmp_path / "nasty.md").stat().st_size > 1000


# --- in a browser ---------------------------------------------------------------------------------------------------------------------------

DRAWN = "return [...document.querySelectorAll('.frame')].every((frame) => frame.querySelector('svg'))"
MARKS = "return [...document.querySelectorAll('.frame')].map((frame) => frame.querySelectorAll(arguments[0]).length)"


def opened(browser: Browser, folder: Path, one: dict[str, Any]) -> Path:
    page = write(one, folder)
    browser.open(page)
    browser.wait(DRAWN)
    return page


def test_it_has_the_figures_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, value(seeds=(0, 1)))
    assert [address for address in browser.asked_for() if not address.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.js("return document.title") == "made-up: Figure 9 \u2013 Farfield experiment"
    assert browser.text("#paper") == "Sun et al., ICML 2022" and "Small networks." in browser.text("#notes")
    table = browser.table("tables-1")
    assert table[0] == ["MSP", "50", "9.5 ± 6.4", "10.5 ± 6.4", "11.5 ± 6.4"] and len(table) == 6
    assert browser.table("papers-0")[0] == ["MSP", "50", "iNaturalist", "20.0"] and browser.js("return document.getElementById('tables-3')") is None
    assert [cell.text for cell in browser.all("#claims td")] == ["MOS is lower", "-", "-5.5 ± 0.0", "no"]
    assert browser.text("#command") == "farfield reproduce made-up" and "2.9" in browser.text("#ran")


def test_its_tables_sort(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, value())
    assert browser.sorts("tables-1") == {"key 0": "ascending", "key 1": "none", "figure 0": "none", "figure 1": "none", "figure 2": "none"}
    browser.press("tables-1", "figure 1")
    assert browser.sorts("tables-1")["figure 1"] == "descending"
    figures = [float(row[3].split()[0]) for row in browser.table("tables-1")]
    assert figures == sorted(figures, reverse=True) and len(set(figures)) == 6
    browser.press("tables-1", "key 1")
    assert [row[1] for row in browser.table("tables-1")] == ["50", "50", "200", "200", "1000", "1000"]
    browser.press("tables-1", "key 0")
    assert [row[:2] for row in browser.table("tables-1")][:2] == [["MSP", "50"], ["MSP", "200"]]
    assert browser.js("return document.activeElement.dataset.key") == "key 0"


def test_lines_have_whiskers_and_the_papers_marks_are_hollow(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, value())
    assert [head.text for head in browser.all("#plots h3")] == ["letters", "photos", "iNaturalist, the paper's", "average"]
    assert browser.js(MARKS, ".mark-rule.role-mark line") == [6, 6, 0, 6]
    assert browser.js(MARKS, ".mark-symbol path[fill^=var]") == [6, 6, 0, 6]
    assert browser.js(MARKS, ".mark-symbol path[fill=transparent]") == [0, 0, 6, 0]
    assert browser.js(MARKS, ".mark-line path[stroke^=var]") == [2, 2, 2, 2]
    assert [item.text for item in browser.all("#legend li")] == ["MSP", "MOS"] and "Hollow marks" in browser.text("#hollow")
    browser.js("document.querySelectorAll('.frame')[0].focus()")
    browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.text(".readout") == "classes 200: MSP 20.0 (18.0 to 21.0); MOS 25.5 (23.5 to 26.5)."
    assert browser.js(MARKS, ".mark-symbol path[fill=currentColor]")[0] == 2
    browser.js("document.querySelectorAll('.frame')[2].focus()")
    browser.keys(Keys.ARROW_RIGHT)
    assert browser.all(".readout")[2].text == "classes 50: MSP 20.0 (paper); MOS 20.0 (paper)."


def test_whiskers_are_where_the_intervals_are(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, value())
    places = browser.js("""
      const view = document.querySelector(".frame").view;
      const middle = (one) => { const box = one.getBoundingClientRect(); return [box.left + box.width / 2, box.top, box.bottom]; };
      const zero = document.querySelector(".frame .mark-symbol path[fill^=var]").getBoundingClientRect();
      const y = (value) => view.scale("y")(value);
      const found = [...document.querySelectorAll(".frame")[0].querySelectorAll(".mark-rule.role-mark line")].map(middle);
      const dots = [...document.querySelectorAll(".frame")[0].querySelectorAll(".mark-symbol path[fill^=var]")].map(middle);
      return found.map((rule, i) => [rule[0] - dots[i][0], rule[1] - (dots[i][1] + dots[i][2]) / 2, rule[2] - (dots[i][1] + dots[i][2]) / 2, y(10) - y(11), y(8) - y(10)]);
    """)
    for across, up, down, one, two in places:
        assert abs(across) < 1 and up == pytest.approx(-one, abs=1.2) and down == pytest.approx(two, abs=1.2)


def test_bars_stand_side_by_side_and_the_pointer_finds_them(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, value(replace(BARS, keys=("method", "way", "set"), plot=Plot("way", "fpr", "method", kind="bars"))))
    assert browser.js(MARKS, ".mark-rect path[fill^=var]") == [6] and browser.js(MARKS, ".mark-symbol path[fill=transparent]") == [1]
    boxes = browser.js(
        "return [...document.querySelectorAll('.mark-rect path[fill^=var]')].map((bar) => { const box = bar.getBoundingClientRect(); return [box.left, box.right]; })"
    )
    boxes.sort()
    assert all(one[1] <= other[0] + 1 for one, other in pairwise(boxes))
    assert browser.js("return document.querySelector('.frame').view.scale('y').domain()[0]") == 0
    view = "return [document.querySelector('.frame').view.scale('y')(0), [...document.querySelectorAll('.mark-rect path[fill^=var]')].map((bar) => bar.__data__.bounds.y2)]"
    zero, bottoms = browser.js(view)
    assert bottoms == pytest.approx([zero] * 6, abs=1)
    names = browser.js("return document.querySelector('.frame').view.scale('x').domain()")
    assert sorted(names) == sorted(COUNTS)
    browser.js("""
      const frame = document.querySelector(".frame"), box = frame.querySelector("svg").getBoundingClientRect(), scale = frame.view.scale("x");
      const x = box.left + frame.view.origin()[0] + scale("200") + scale.bandwidth() * 0.8;
      frame.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: box.top + 40 }));
    """)
    assert browser.text(".readout").startswith("way 200: MSP 22.0") and "paper" not in browser.text(".readout")


def test_many_series_look_each_another_way(browser: Browser, tmp_path: Path) -> None:
    names = [f"network {i}" for i in range(12)]
    one = replace(BARE, keys=("network", "set"), plot=Plot("accuracy", "fpr", "network", kind="points"))
    records = [Record((name, "average"), {"fpr": 30.0 + i, "accuracy": 60.0 + i}) for i, name in enumerate(names)]
    opened(browser, tmp_path, value_of(one, records, scale="glyphs", command="x"))
    looks = browser.js(
        "return [...document.querySelectorAll('#legend li')].map((item) => item.querySelector('path').getAttribute('d') + item.querySelector('path').style.fill)"
    )
    assert len(set(looks)) == len(looks) == 12
    marks = browser.js(
        "return [...document.querySelectorAll('.mark-symbol path[fill^=var]')].map((mark) => mark.getAttribute('d') + mark.getAttribute('fill'))"
    )
    assert len(set(marks)) == 12


def test_a_scatter_names_its_marks(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, value(POINTS))
    assert browser.js(MARKS, ".mark-symbol path[fill^=var]") == [6] and browser.js(MARKS, ".mark-line path") == [0]
    browser.js("document.querySelector('.frame').focus()")
    browser.keys(Keys.ARROW_RIGHT)
    assert browser.text(".readout") == "MSP 1000, ID accuracy 68, FPR95 32.0 (30.0 to 33.0)."


ALL = [
    value(),
    value(seeds=(0, 1, 2)),
    value(BARS),
    value(POINTS),
    value(WORDS),
    value(BARE),
    value(NASTY, command=HOSTILE, methods=(HOSTILE, "MOS")),
]


@pytest.mark.parametrize("one", ALL, ids=["lines", "seeds", "bars", "points", "words", "bare", "nasty"])
def test_it_fits_the_window_in_light_and_dark(browser: Browser, tmp_path: Path, one: dict[str, Any]) -> None:
    opened(browser, tmp_path, one)
    assert browser.js("return typeof window.hacked") == "undefined"
    assert browser.js("return document.getElementById('plot-box').hidden") == (one["plot"] is None)
    for width, mobile in ((1280, False), (390, True), (320, True)):
        browser.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=mobile)
        browser.wait("return window.innerWidth >= arguments[0]", width)
        assert browser.js("return document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            browser.media(scheme)
            assert [found for found in browser.contrasts() if found[1] < 4.5] == []


def test_the_keyboard_comes_by_everything_and_all_has_a_name(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, value())
    names = [
        browser.js("return arguments[0].getAttribute('aria-label') || arguments[0].textContent || arguments[0].getAttribute('aria-labelledby')", one)
        for one in browser.tabbed()
    ]
    assert all(names) and len([name for name in names if "Arrow keys" in name]) == 4
    assert "FPR95 over classes, letters, of MSP, MOS. Arrow keys move along it." in names
    assert sum(name in ("method", "classes", "letters", "photos", "average") for name in names) >= 10
    headings = browser.js(
        "return [...document.querySelectorAll('h1, h2, h3')].filter((head) => head.checkVisibility()).map((head) => Number(head.tagName[1]))"
    )
    assert headings[0] == 1 and headings.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(headings))


def test_in_print_all_is_there_on_white(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, value())
    browser.media("dark", "print")
    assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not browser.find("header").is_displayed() and browser.find("#tables-1").is_displayed() and browser.find("#legend").is_displayed()
    boxes: Callable[[str], Any] = lambda what: browser.js("return document.querySelector(arguments[0]).getBoundingClientRect().width", what)  # noqa: E731
    assert boxes("#tables .wide") >= boxes("#tables-0") - 1
    assert [found for found in browser.contrasts() if found[1] < 4.5] == []

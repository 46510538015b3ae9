"""The page of a diagnosis, and that of a recommendation: what they say is what the value says, in a browser, at every width."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from diagnoses import DETECTORS, FINDINGS, HOSTILE, KINDS, REMEDIES, bare, diagnosis, hostile, recommendation
from farfield.report.diagnosis import write_diagnosis
from farfield.report.recommendation import clean, write_recommendation
from pages import Browser

DRAWN = "return [...document.querySelectorAll('.frame')].every((frame) => frame.querySelector('svg'))"
MARKS = "return [...document.querySelectorAll('.frame')].map((frame) => frame.querySelectorAll(arguments[0]).length)"
SAID = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent.toWellFormed())"
FINDING = "return [...document.querySelectorAll('.finding')].find((one) => one.querySelector('h3 code').textContent === arguments[0])"
NO_RULES = ".mark-rule.role-mark line:not([stroke-dasharray])"


def opened(browser: Browser, folder: Path, value: dict[str, Any]) -> Path:
    page = write_diagnosis(value, folder)[2]
    browser.open(page)
    browser.wait(DRAWN)
    return page


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    """The browser with the whole diagnosis."""
    opened(browser, tmp_path, diagnosis())
    return browser


def share(value: float, interval: Any) -> str:
    return f"{100 * value:.1f} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def signed(value: float, interval: Any) -> str:
    return f"{100 * value:+.1f} ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"


def test_it_says_the_verdict_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, diagnosis(accuracy=[0.8123, [0.8034, 0.8212]]))
    assert [address for address in browser.asked_for() if not address.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.js("return document.title") == "mixup-net \u2013 Farfield diagnosis" and browser.text("h1") == "mixup-net"
    assert browser.text("#summary") == diagnosis()["summary"] and "81.2 % (95 % interval 80.3 to 82.1)" in browser.text("#accuracy")
    assert browser.js(SAID, "#tally li") == ["3 issues", "2 tips", "3 passed", "1 muted", "1 skipped", "1 not applicable"]
    assert browser.js(SAID, "#nav a") == ["Findings", "Remedies", "Detectors", "Real OOD"]
    assert browser.js(SAID, "#ran tbody tr")[2:5] == ["pictures, noise6,800", "seconds128.4", "farfield0.1.0"]
    assert browser.text("#ran pre") == diagnosis()["command"]
    rows = [
        [real["set"], real["detector"], share(real["auroc"], real["interval"]), share(real["fpr"], real["fpr_interval"])]
        for real in diagnosis()["real"]
    ]
    assert browser.table("real-table") == rows


def test_every_finding_is_there_with_its_figures(page: Browser) -> None:
    assert page.js(SAID, ".finding h3 code") == [one["code"] for one in FINDINGS]
    for one in FINDINGS:
        card = page.js(FINDING, one["code"])
        text = page.js("return arguments[0].textContent", card)
        assert text.startswith(f"{one['outcome']}{one['code']}{one['title']}")
        assert all(part in text for part in (one["said"], one["do"], one["command"], one["how"], one["source"]))
        assert page.js("return arguments[0].checkVisibility()", card) == (one["outcome"] in ("issue", "tip"))
        rows = page.js(
            "return [...arguments[0].querySelectorAll('.figures tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))", card
        )
        values = []
        for name, value in one["values"].items():
            ends = one["intervals"].get(name)
            values.append([name, f"{value:,.0f}" if value >= 1000 else f"{value:.4g}", "" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"])
        assert rows[: len(values)] == values
        evidence = one["evidence"]
        for i, row in enumerate(rows[len(values) :]):
            for series, cell in zip(evidence["series"], row[1:], strict=True):
                assert cell == f"{series['y'][i]:.4g}" + (f" ({series['low'][i]:.4g} to {series['high'][i]:.4g})" if series["low"] else "")
        assert len(rows) - len(values) == (0 if evidence is None else len(evidence["series"][0]["y"]))
        shown = page.js(
            "return [...arguments[0].querySelectorAll('img')].map((one) => [one.src, one.alt, one.naturalWidth, one.parentNode.textContent])", card
        )
        assert shown == [[picture["uri"], picture["caption"], 32, picture["caption"]] for picture in one["shown"]]


def test_plots_of_every_kind_have_their_marks(page: Browser) -> None:
    # in the order of the page: lines, bars, points, histogram, bars among the passed, the ranking
    assert page.js(MARKS, ".mark-line path[stroke^=var]") == [2, 0, 0, 1, 0, 0]
    assert page.js(MARKS, ".mark-rect path[fill^=var]") == [0, 10, 0, 24 + 1, 7, 0]
    assert page.js(MARKS, ".mark-symbol path[fill^=var]") == [10, 0, 7, 0, 0, 18 * 6]
    assert page.js(MARKS, NO_RULES) == [10, 5, 7, 0, 0, 18]
    assert page.js(MARKS, ".mark-rule.role-mark line[stroke-dasharray]") == [1, 1, 0, 1, 0, 1]
    places = page.js("""
      return [...document.querySelectorAll(".frame")].slice(0, 4).map((frame) => {
        const line = frame.querySelector(".mark-rule line[stroke-dasharray]");
        const across = line && Math.abs(Number(line.getAttribute("y2") || 0)) > 1;
        return line && [across ? "x" : "y", line.__data__.bounds.x1, line.__data__.bounds.y1, frame.view.scale("x")(0.25), frame.view.scale("y")(75), frame.view.scale("y")(10)];
      });
    """)
    assert [place and place[0] for place in places] == ["y", "y", None, "x"]
    assert (
        places[0][2] == pytest.approx(places[0][4], abs=2)
        and places[1][2] == pytest.approx(places[1][5], abs=2)
        and places[3][1] == pytest.approx(places[3][3], abs=2)
    )
    assert [page.js("return [...arguments[0].querySelectorAll('.legend li')].map((one) => one.textContent)", page.js(FINDING, code)) for code in ("M1", "U1", "C1", "S1")] == [
        ["this classifier", "plainly trained"], ["msp", "energy"], [], ["held-out ID", "mixup"],
    ]  # fmt: skip


def test_bars_and_intervals_are_where_the_figures_are(page: Browser) -> None:
    found = page.js("""
      const frame = document.querySelectorAll(".frame")[1], y = frame.view.scale("y");
      const bars = [...frame.querySelectorAll(".mark-rect path[fill^=var]")].map((bar) => bar.__data__);
      const rules = [...frame.querySelectorAll(".mark-rule.role-mark line:not([stroke-dasharray])")].map((rule) => rule.__data__);
      return [bars.map((b) => [b.x, b.x + b.width, y.invert(b.y), y.invert(b.y + b.height)]), rules.map((b) => [b.x, y.invert(Math.min(b.y, b.y2)), y.invert(Math.max(b.y, b.y2))]), y.domain()[0]];
    """)
    bars, rules, floor = sorted(found[0]), sorted(found[1]), found[2]
    msp, energy = FINDINGS[2]["evidence"]["series"]
    assert floor == 0 and all(one[1] <= other[0] + 0.1 for one, other in pairwise(bars))
    assert [bar[2] for bar in bars] == pytest.approx([value for pair in zip(msp["y"], energy["y"], strict=True) for value in pair], abs=0.01)
    assert [bar[3] for bar in bars] == pytest.approx([0] * 10, abs=0.01)
    assert [rule[1] for rule in rules] == pytest.approx(msp["high"], abs=0.01) and [rule[2] for rule in rules] == pytest.approx(msp["low"], abs=0.01)
    assert all(bar[0] <= rule[0] <= bar[1] for bar, rule in zip(bars[::2], rules, strict=True))


def test_arrow_keys_and_the_pointer_read_the_plots(page: Browser) -> None:
    said: list[str] = []
    for i, steps in enumerate((2, 4, 1, 3)):
        page.js("document.querySelectorAll('.frame')[arguments[0]].focus()", i)
        page.keys(*[Keys.ARROW_RIGHT] * steps)
        said.append(page.js(SAID, ".readout")[i])
        assert page.js(MARKS, ".mark-symbol path[fill=currentColor], .mark-rule line[stroke=currentColor]:not([stroke-dasharray])")[i] >= 1
    assert said == [
        "share of the second picture 0.2: this classifier 52.1 (50.8 to 53.4); plainly trained 61.8 (60.4 to 63.2).",
        "family of noise white: msp 88.2 (85.4 to 90.6); energy 43.1.",
        "accuracy of the class 0.62: 21.3 (16.3 to 27).",
        "largest logit -1.5 to -1.25: held-out ID 0.002; mixup 0.258.",
    ]
    page.keys(Keys.ARROW_LEFT)
    assert page.js(SAID, ".readout")[3].startswith("largest logit -1.75 to -1.5")
    page.js("document.activeElement.blur()")
    assert page.js(SAID, ".readout")[0] == "share of the second picture: 0.1 to 0.5. The dashed line is at 75."
    page.js("""
      const frame = document.querySelectorAll(".frame")[1], box = frame.querySelector("svg").getBoundingClientRect(), scale = frame.view.scale("x");
      frame.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + frame.view.origin()[0] + scale("uniform") + scale.bandwidth() * 0.8, clientY: box.top + 40 }));
    """)
    assert page.js(SAID, ".readout")[1].startswith("family of noise uniform: msp 31.75")


def test_what_passed_opens_on_a_click_with_its_plot(page: Browser) -> None:
    assert page.js(SAID, ".group > summary") == ["3 passed A1, A2, L1", "1 muted G1", "1 skipped R1", "1 not applicable K1"]
    page.find("#tally li:nth-child(3) a").click()
    page.wait("return document.getElementById('of-passed').open")
    width = "return document.querySelector('#of-passed .frame svg').getBoundingClientRect().width"
    page.wait(f"{width} > 250")
    assert page.find("#of-passed .finding").is_displayed() and not page.find("#of-muted .finding").is_displayed()


def test_remedies_stand_by_cost_with_what_they_gained(page: Browser) -> None:
    rows = page.table("remedies-table")
    assert [row[:2] for row in rows] == [["Use knn", "free"], ["AugDelete", "seconds"], ["SFT", "minutes"], ["AugRevise", "hours"]]
    assert [row[3] for row in rows] == ["better", "not told apart", "worse", "not measured"]
    for row in rows:
        (one,) = [one for one in REMEDIES if one["name"] == row[0]]
        told = [("\u2013" if one[key] is None else share(one[key]["auroc"], one[key]["interval"])) for key in ("before", "after")]
        assert row[2] == ("\u2013" if one["gain"] is None else signed(one["gain"]["auroc"], one["gain"]["interval"])) and row[4:6] == told
        assert row[6] == ("\u2013" if one["accuracy_change"] is None else signed(*one["accuracy_change"]))
        (card,) = [text for text in page.js(SAID, ".remedy") if text.startswith(f"{one['cost']}{one['name']}")]
        assert one["said"] in card and one["note"] in card and one["command"] in card and row[3] in card
    zeros = page.js(
        "return [...document.querySelectorAll('#remedies .whisker')].map((one) => ['.zero', 'b'].map((part) => parseFloat(one.querySelector(part).style.left)))"
    )
    assert [dot > zero for zero, dot in zeros] == [True, True, False]
    assert zeros[0][0] == pytest.approx(100 * 0.0306 / (0.0306 + 0.1647), abs=0.1)


def test_the_ranking_has_every_detector_and_sorts(page: Browser) -> None:
    rows = page.table("ranking-table")
    assert [row[0] for row in rows] == [name + ("in use" if name == "msp" else "") for name in DETECTORS]
    for place, (row, one) in enumerate(zip(rows, recommendation()["ranked"], strict=True)):
        assert row[1] == share(one["mean"]["auroc"], one["mean"]["interval"]).replace(" (", "").rstrip(")")
        assert row[3] == {0: "take this", 1: "not told from it", 16: "not recommended", 17: "not recommended"}.get(place, "behind")
        assert row[4] == f"{one['failed']} of 17"
        assert row[5] == ("\u2013" if place == 0 else share(one["behind"]["auroc"], one["behind"]["interval"]).replace(" (", "").rstrip(")"))
        assert row[6:] == [share(one["kinds"][kind]["auroc"], one["kinds"][kind]["interval"]).replace(" (", "").rstrip(")") for kind in KINDS]
    page.press("ranking-table", "noise")
    assert page.sorts("ranking-table")["noise"] == "ascending" and [row[4] for row in page.table("ranking-table")][:4] == ["0 of 17"] * 3 + [
        "1 of 17"
    ]
    page.press("ranking-table", "kind jigsaw")
    assert page.table("ranking-table")[0][0] == "knn" and page.sorts("ranking-table")["kind jigsaw"] == "descending"
    assert page.js(SAID, "#against li")[0] == "neco: It takes noise for more in-distribution than ID pictures (AUROC 57.3)."
    assert page.js(SAID, "#refused li") == ["mos: The head has no groups.", "gradnorm: Its covariance is singular."]
    page.js("document.querySelector('#ranking-plot .frame').focus()")
    page.keys(Keys.ARROW_RIGHT)
    assert (
        page.text("#ranking-plot .readout")
        == "detector knn: mean 86.42 (85.48 to 87.36); left-out classes 84.22; mixup 85.32; jigsaw 86.42; channels 87.52; noise 88.62."
    )


def test_the_page_of_a_recommendation_has_the_ranking_alone(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_recommendation(recommendation(), tmp_path)[2])
    browser.wait(DRAWN)
    assert browser.js("return document.title") == "mixup-net \u2013 Farfield recommendation" and browser.text("#summary").startswith("Take knn")
    assert browser.js("return [...document.querySelectorAll('section')].filter((one) => one.hidden).map((one) => one.id)") == [
        "findings-box",
        "remedies-box",
        "real-box",
    ]
    assert (
        len(browser.table("ranking-table")) == 18
        and browser.js(SAID, "#nav a") == ["Detectors"]
        and browser.text("#ran pre") == recommendation()["command"]
    )


def test_a_command_is_copied_as_it_is(page: Browser) -> None:
    page.js("Object.defineProperty(navigator, 'clipboard', { configurable: true, value: { writeText: async (text) => { window.copied = text; } } })")
    page.find(".copy").click()
    page.wait("return window.copied !== undefined")
    assert page.js("return window.copied") == FINDINGS[0]["command"]
    page.wait("return document.querySelector('.copy').textContent === 'Copied'")
    page.js("navigator.clipboard.writeText = async () => { throw new Error('not let'); }")
    button = page.all(".copy")[1]
    button.click()
    page.wait("return document.querySelectorAll('.copy')[1].textContent === 'Ctrl + C'")
    assert page.js("return window.getSelection().toString()") == FINDINGS[1]["command"]


@pytest.mark.parametrize("value", [diagnosis(), bare(), hostile()], ids=["whole", "bare", "hostile"])
def test_it_fits_the_window_in_light_and_dark(browser: Browser, tmp_path: Path, value: dict[str, Any]) -> None:
    opened(browser, tmp_path, value)
    browser.js("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.js("return typeof window.hacked") == "undefined" and browser.js("return document.querySelectorAll('img[src=x]').length") == 0
    for width, mobile in ((1280, False), (390, True), (320, True)):
        browser.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=mobile)
        browser.wait("return window.innerWidth >= arguments[0]", width)
        assert browser.js("return document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            browser.media(scheme)
            assert [found for found in browser.contrasts() if found[1] < 4.5] == []


def test_hostile_names_are_shown_as_they_are(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, hostile())
    assert [address for address in browser.asked_for() if not address.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.text("h1") == clean(HOSTILE) == browser.text("#summary") and browser.js(SAID, ".finding .said") == [clean(HOSTILE)] * len(FINDINGS)
    assert browser.js(SAID, ".blank") == ["no picture"] * len(FINDINGS) and len(browser.all(".finding img")) == 5
    assert browser.js("return document.querySelector('#ran pre').textContent.toWellFormed()") == browser.js(
        "return arguments[0].toWellFormed()", HOSTILE.replace("\ud800", "\ufffd")
    )


def test_the_keyboard_comes_by_everything_and_all_has_a_name(page: Browser) -> None:
    names = [
        page.js("return arguments[0].getAttribute('aria-label') || arguments[0].textContent || arguments[0].getAttribute('aria-labelledby')", one)
        for one in page.tabbed()
    ]
    assert all(names) and len([name for name in names if "Arrow keys" in name]) == 5 and names.count("Copy") == 6
    assert (
        "Noise that is taken for ID: taken for ID, % over family of noise, of msp, energy. The dashed line is at 10. Arrow keys move along it."
        in names
    )
    assert "3 passed A1, A2, L1" in names and "Use knn" in names
    headings = page.js(
        "return [...document.querySelectorAll('h1, h2, h3')].filter((head) => head.checkVisibility()).map((head) => Number(head.tagName[1]))"
    )
    assert headings[0] == 1 and headings.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(headings))


def test_in_print_all_is_there_on_white(page: Browser) -> None:
    page.js("window.dispatchEvent(new Event('beforeprint'))")
    page.media("dark", "print")
    assert page.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" and not page.find("header").is_displayed()
    assert all(one.is_displayed() for one in page.all(".finding, #remedies-table, #ranking-table, #real-table"))
    assert not page.find(".copy").is_displayed()
    page.js("window.dispatchEvent(new Event('afterprint'))")
    assert not page.find("#of-passed .finding").is_displayed()

"""The page of a study in a browser: what it says is what the study found, at every width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farfield import study
from farfield.study import Entry
from pages import Browser, numbers
from test_study import DETECTORS, World

HOSTILE = "</script><!--{{style}}<img src=x onerror=window.hacked=1>'\"`$(rm) \u2028"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A study of six classifiers that work and one that does not, with two columns of metadata."""
    out, world = tmp_path_factory.mktemp("page"), World()
    names = [f"net-{i}" for i in range(6)]
    pool = [Entry(name, name, {"rate": (0.1, 0.2)[i % 2], "kind": "pqr"[i // 2]}) for i, name in enumerate(names)]
    found = study.run([*pool, Entry(HOSTILE, "missing", {"rate": 0.1, "kind": HOSTILE})], world.jobs, DETECTORS, out=out)
    value = study.value_of(found, list(DETECTORS), out, command="farfield study 'pool.csv'")
    return value, study.write(value, out)[0][-1]


def test_the_answer_the_ranking_and_the_failed(made: tuple[dict[str, Any], Path], browser: Browser) -> None:
    value, page = made
    browser.open(page)
    assert browser.text("#answer") == value["answer"]["take"]
    assert browser.text("#answer") + ": " + browser.text("#evidence") == value["answer"]["sentence"]
    rows = browser.table("choice-table")
    lines = value["answer"]["lines"]
    assert [row[0] for row in rows] == [line["classifier"] for line in lines]
    shown = browser.js(
        "return [...document.getElementById('choice-table').tBodies[0].rows].map((row) => [...row.cells[2].childNodes].map((node) => node.textContent))"
    )
    assert [numbers(" ".join(cell)) for cell in shown] == [
        [float(f"{each:.1f}") for each in (line["auroc"], *line["auroc_interval"])] for line in lines
    ]
    assert rows[0][3] == "first" and [row[5] == "on it" for row in rows] == [line["front"] for line in lines]
    browser.press("choice-table", "accuracy")
    order = [row[0] for row in browser.table("choice-table")]
    accuracy = {line["classifier"]: line["accuracy"] for line in lines}
    assert [accuracy[name] for name in order] == sorted(accuracy.values(), reverse=True)
    assert HOSTILE in browser.text("#failed") and "There is no such classifier." in browser.text("#failed")
    assert browser.js("return window.hacked") is None and browser.text("#command") == "farfield study 'pool.csv'"
    assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.asked_for())


def test_marks_detector_and_figure_are_the_readers_choice(made: tuple[dict[str, Any], Path], browser: Browser) -> None:
    value, page = made
    browser.open(page)
    browser.pick("#detector", "energy")
    browser.pick("#measure", "AUROC")
    browser.pick("#colour", "kind")
    assert [item.text.strip() for item in browser.all("#legend li")] == list("pqr")
    browser.wait(
        "document.querySelector('#plots .frame:not(:has(svg))')?.scrollIntoView(); return document.querySelectorAll('#plots svg').length === 3"
    )
    assert browser.text("#plots .card h3") == "near OOD"
    frame = browser.find("#plots .frame")
    browser.js("arguments[0].focus()", frame)
    points = value["points"]
    order = sorted(range(6), key=lambda i: points["accuracy"][i][0])
    for place in range(3):
        browser.keys("\ue014")  # the right arrow
        i = order[place]
        figure, low, high = points["values"]["near OOD"]["auroc"]["energy"][i]
        said = browser.text("#plots .readout")
        assert said.startswith(f"net-{i}: ID accuracy ") and said.endswith(f", kind {'pqr'[i // 2]}.")
        assert numbers(said.partition("AUROC")[2])[:3] == pytest.approx([figure, low, high], abs=0.051)
    hovered = browser.js(
        "const frame = document.querySelector('#plots .frame'); const view = frame.view; const box = frame.querySelector('svg').getBoundingClientRect();"
        "const [x, y] = [view.scale('x')(arguments[0]) + view.origin()[0] + box.left, view.scale('y')(arguments[1]) + view.origin()[1] + box.top];"
        "frame.dispatchEvent(new PointerEvent('pointermove', { clientX: x, clientY: y, bubbles: true })); return document.querySelector('#plots .readout').textContent",
        points["accuracy"][4][0],
        points["values"]["near OOD"]["auroc"]["energy"][4][0],
    )
    same = [i for i in range(6) if points["accuracy"][i][0] == points["accuracy"][4][0]]
    nearest = min(
        same, key=lambda i: abs(points["values"]["near OOD"]["auroc"]["energy"][i][0] - points["values"]["near OOD"]["auroc"]["energy"][4][0])
    )
    assert hovered.startswith(f"net-{nearest}: ")
    browser.pick("#family", "rate 0.1 (3)")
    mine = [one for one in value["winners"] if (one["column"], one["value"], one["measure"]) == ("rate", 0.1, "auroc")]
    assert len(browser.all("#winners .card")) == len(mine) == 3
    assert [row[1] for row in browser.table("winners-0")] == [line["detector"] for line in mine[0]["detectors"]]
    effects = browser.table("effects-table")
    (told,) = [
        one
        for one in value["effects"]
        if (one["columns"], one["detector"], one["target"], one["measure"]) == (["rate"], "energy", "near OOD", "auroc")
    ]
    row = next(row for row in effects if row[0] == "rate")
    assert row[1:3] == ["0.1 to 0.2", "3"] and float(row[4].split("to")[0][: len(f"{told['difference']:+.1f}")]) == pytest.approx(
        told["difference"], abs=0.051
    )


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_it_fits_every_width_and_can_be_read(made: tuple[dict[str, Any], Path], browser: Browser, width: int, scheme: str) -> None:
    browser.open(made[1])
    browser.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.media(scheme)
    browser.wait(
        "document.querySelector('#plots .frame:not(:has(svg))')?.scrollIntoView(); return document.querySelectorAll('#plots svg').length === 3"
    )
    assert browser.js("return document.documentElement.scrollWidth") <= width
    poor = [told for told in browser.contrasts("main *, header *") if told[1] < 4.5]
    assert poor == []

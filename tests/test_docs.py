"""The documentation: what is generated is what its script writes, its examples run, and the site is whole."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from farfield import detectors
from farfield.data import suites
from farfield.detectors import CATALOGUE, SHAPERS
from farfield.diagnose import CHECKS

ROOT = Path(__file__).parents[1]


def test_the_page_of_detectors_is_what_its_script_writes() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "detectors.py"))["page"]()
    assert page == (ROOT / "docs" / "detectors.md").read_text("utf-8"), "run `python docs/detectors.py`"
    for name, method in {**CATALOGUE, **SHAPERS}.items():
        assert f"### `{name}` ({method.__name__})" in page and (not method.fails or method.fails in page)


def test_choosing_has_every_detector_and_names_none_that_is_not_there() -> None:
    page = (ROOT / "docs" / "choosing.md").read_text("utf-8")
    script = runpy.run_path(str(ROOT / "docs" / "choosing_table.py"))
    listed = re.findall(r"^\| `([^`]+)` \|", page.partition("<!-- figures -->")[2], re.MULTILINE)
    assert sorted(listed) == sorted(script["ALL"]) and set(script["PUBLISHED"]) <= set(script["ALL"])
    for name, published in script["PUBLISHED"].items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert line.endswith(f"| {' | '.join(published)} |")


def test_the_page_of_training_is_what_its_script_writes_and_its_loop_runs() -> None:
    page = (ROOT / "docs" / "training.md").read_text("utf-8")
    assert page == runpy.run_path(str(ROOT / "docs" / "training.py"))["page"](), "run `python docs/training.py`"
    (loop,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    said: dict[str, object] = {}
    exec(loop, said)
    norm = said["moved"]
    assert isinstance(norm, list) and [p.numel() for p in norm] == [8, 8]


def test_the_page_of_suites_is_what_its_script_writes() -> None:
    page = (ROOT / "docs" / "suites.md").read_text("utf-8")
    assert page == runpy.run_path(str(ROOT / "docs" / "suites.py"))["page"](), "run `python docs/suites.py`"
    for name in suites.NAMES:
        assert f"| `{name}` |" in page


def test_the_page_of_checks_is_what_its_script_writes() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text("utf-8")
    assert page == runpy.run_path(str(ROOT / "docs" / "diagnosis.py"))["page"](), "run `python docs/diagnosis.py`"
    assert all(f"### {code}: " in page for code in CHECKS)


def test_the_page_of_the_recommendation_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "experiments" / "recommendation.py"))
    rows = json.loads((ROOT / "experiments" / "recommendation.json").read_text("utf-8"))
    page = (ROOT / "docs" / "recommendation.md").read_text("utf-8")
    assert page == script["page"](rows), "run `python experiments/recommendation.py --table`"
    for row in rows:
        assert script["mean_of"](row, row["best"]) <= max(script["mean_of"](row, name) for name in row["real"]) and len(row["kinds"]) > 5


@pytest.mark.parametrize("name", ["tutorial-model", "tutorial-detector"])
def test_the_examples_of_the_tutorials_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / f"{name}.md").read_text("utf-8").replace("```", "")  # a closing fence would be an expected line
    failed, tried = doctest.testfile(str(write(tmp_path / "page.txt", text)), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 5 and not failed


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


EXTERNAL = re.compile(r"^(?:https?:)?//")


def test_the_site_is_whole_and_asks_no_other_host(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(site)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr

    page = Asked.of(site / "api" / "detectors.html")
    for name in detectors.__all__:
        if inspect.isclass(getattr(detectors, name)):
            assert f"farfield.detectors.{name}" in page.anchors, name
    for room in (ROOT / "src" / "farfield").glob("[a-z]*"):
        assert (site / "api" / f"{room.stem}.html").exists() or room.stem in ("cli", "py", "references"), room
    for path in site.rglob("*.html"):
        assert not [address for address in Asked.of(path).addresses if EXTERNAL.match(address)], path
        assert ">>>" not in re.sub(r"<pre.*?</pre>", "", path.read_text("utf-8"), flags=re.DOTALL).replace("&gt;", ">"), path
    for path in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text("utf-8")), path


class Asked(HTMLParser):
    """What a page's browser asks for, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()

    @classmethod
    def of(cls, path: Path) -> Asked:
        asked = cls()
        asked.feed(path.read_text("utf-8"))
        return asked

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.addresses.append(str(given["src"]))
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(given.get("href") or "")

"""The documentation: what is generated is what its script writes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from farfield.detectors import CATALOGUE, SHAPERS

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

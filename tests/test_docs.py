"""The documentation: what is generated is what its script writes."""

from __future__ import annotations

import runpy
from pathlib import Path

from farfield.detectors import CATALOGUE, SHAPERS

ROOT = Path(__file__).parents[1]


def test_the_page_of_detectors_is_what_its_script_writes() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "detectors.py"))["page"]()
    assert page == (ROOT / "docs" / "detectors.md").read_text("utf-8"), "run `python docs/detectors.py`"
    for name, method in {**CATALOGUE, **SHAPERS}.items():
        assert f"### `{name}` ({method.__name__})" in page and (not method.fails or method.fails in page)

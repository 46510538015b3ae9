"""Bad input gets one sentence and status 2, or a named place among what could not be read: a short run of `benchmarks/fuzz`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked and their memory is limited")


@pytest.fixture(scope="module", autouse=True)
def path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks" / "fuzz")
        yield


@pytest.fixture(scope="module")
def ask(path: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with import_module("asking").serving(tmp_path_factory.mktemp("cache")) as ask:
        yield ask


def test_a_broken_picture_is_read_or_named(ask: Any, tmp_path: Path) -> None:
    single, together = import_module("bad_pictures").fuzz_pictures(ask, 150, 0, tmp_path / "pictures", large=False)
    assert single.violations == together.violations == []
    assert together.counts["tried"] == single.counts["tried"] > 150
    assert min(single.counts["accepted"], single.counts["refused"]) > 40


def test_a_broken_command_is_one_sentence(ask: Any, tmp_path: Path) -> None:
    lines, tomls = import_module("bad_lines").fuzz_lines(ask, 32, 0, tmp_path / "lines", hub=False)
    assert lines.violations == tomls.violations == []
    assert (lines.counts["tried"], tomls.counts["tried"]) == (24, 8)
    assert lines.counts["refused"] > 10


def test_what_breaks_the_promise_is_seen() -> None:
    def judged(status: int | None, err: str) -> str:
        return str(import_module("bad_lines").judged({"status": status, "err": err, "out": ""})[0])

    assert judged(0, "1 row.\n") == "accepted"
    assert judged(2, "warning: less\nfarfield: There is no file 'x'.\n") == "refused"
    assert judged(2, "farfield: There is no\nfile.\n") == judged(2, "") == judged(1, "farfield: no.\n") == judged(-9, "") == "other"
    assert judged(1, "farfield: KeyError: 'x'. This is a fault in Farfield; ...\n") == "faults"
    assert judged(1, "Traceback (most recent call last):\n") == "tracebacks"
    assert judged(None, "") == "timeouts"

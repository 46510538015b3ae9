"""Bad input gets one sentence and status 2, or a named place among what could not be read: a short run of `benchmarks/fuzz.py`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked and their memory is limited")


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    place = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz"]


@pytest.fixture(scope="module")
def server(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with fuzz.Server(tmp_path_factory.mktemp("cache")) as made:
        yield made


def test_a_broken_picture_is_read_or_named(fuzz: ModuleType, server: Any, tmp_path: Path) -> None:
    single, all_at_once = fuzz.fuzz_pictures(server, 150, 0, tmp_path / "pictures", tmp_path / "kept", large=False)
    assert single.violations == []
    assert all_at_once.violations == []
    assert all_at_once.counts["tried"] == single.counts["tried"] > 150
    assert min(single.counts["accepted"], single.counts["refused"]) > 40


def test_a_broken_command_is_one_sentence(fuzz: ModuleType, server: Any, tmp_path: Path) -> None:
    lines, tomls = fuzz.fuzz_lines(server, 40, 0, tmp_path / "lines", tmp_path / "kept", slow=False)
    assert lines.violations == []
    assert tomls.violations == []
    assert (lines.counts["tried"], tomls.counts["tried"]) == (30, 10)
    assert lines.counts["refused"] > 10


def test_what_breaks_the_promise_is_seen(fuzz: ModuleType) -> None:
    def judged(status: int, err: str) -> str:
        return str(fuzz.judged({"status": status, "err": err, "out": "", "silent": False})[0])

    assert judged(0, "1 row.\n") == "accepted"
    assert judged(2, "warning: less\nfarfield: There is no file 'x'.\n") == "refused"
    assert judged(2, "farfield: There is no\nfile.\n") == judged(2, "") == judged(1, "farfield: no.\n") == judged(-9, "") == "other"
    assert judged(1, "farfield: KeyError: 'x'. This is a fault in Farfield; ...\n") == "faults"
    assert judged(1, "Traceback (most recent call last):\n") == "tracebacks"

"""What is committed of the experiments: its script, and the page that is made of it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farfield.errors import InputError
from farfield.reproduce import EXPERIMENTS, results
from farfield.reproduce.base import Experiment
from test_cli_reproduce import made_up

ROOT = Path(__file__).parents[1]
RESULTS = sorted(path for path in results.FOLDER.glob("*.json") if path.name != results.DRY)


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("experiments.reproductions")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Experiment]]:
    """Made-up experiments alone, one of which lacks something."""
    made = {one.name: one for one in (made_up("first"), made_up("second", "The weights of ours are not there. Get them."))}
    whole = dict(EXPERIMENTS)
    EXPERIMENTS.clear()
    EXPERIMENTS.update(made)
    yield made
    monkeypatch.undo()  # what a test has put among these
    EXPERIMENTS.clear()
    EXPERIMENTS.update(whole)  # in their order, which pages have


def test_results_are_written_for_all_that_ran_and_the_others_are_named(
    script: Any, known: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, into = tmp_path / "out", tmp_path / "into"
    command = ["--out", str(out), "--into", str(into), "--seeds", "0", "4"]
    assert script.main(command) == 2
    err = capsys.readouterr().err
    assert "second: The weights of ours are not there. Get them." in err and err.splitlines()[-1].endswith("not done: second")
    found = results.result("first", "glyphs", into)
    assert found is not None and found.seeds == (0, 4) and found.command == "farfield reproduce first --seed 0 --seed 4"
    assert len(found.records) == 16 and {record.seed for record in found.records} == {0, 4} and results.result("second", "glyphs", into) is None
    assert script.main([*command, "--names", "first"]) == 0 and results.result("first", "glyphs", into) == found, "nothing is done twice"


def test_a_dry_run_is_noted_beside_those_there_are(script: Any, known: Any, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / results.DRY).write_text(json.dumps({"second": {"date": "2026-01-01", "command": "x", "machine": "y", "seconds": 1.0}}))
    assert script.main(["--out", str(tmp_path / "out"), "--into", str(into), "--dry", "--root", str(tmp_path), "--names", "first"]) == 0
    told = results.dry_runs(into)
    assert list(told) == ["first", "second"] and told["first"].command.startswith("farfield reproduce first --scale full --root DIR --limit 16")


def test_what_a_dry_run_lacked_is_noted(script: Any, known: Any, tmp_path: Path) -> None:
    assert script.main(["--out", str(tmp_path / "out"), "--into", str(tmp_path), "--dry", "--root", str(tmp_path)]) == 2
    told = results.dry_runs(tmp_path)
    assert told["first"].lacks == "" and told["second"].lacks == "The weights of ours are not there. Get them."
    status = {one["name"]: one["full"] for one in results.statuses(known.values(), tmp_path)}
    assert status["first"]["state"] == "dry run" and status["second"]["said"] == "not run: The weights of ours are not there. Get them."


@pytest.mark.parametrize("words", [[], ["--dry"]])
def test_what_is_missing_of_the_command_is_told(script: Any, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(words)
    assert ended.value.code == 2 and "give" in capsys.readouterr().err
    with pytest.raises(InputError, match="no experiment 'mos'"):
        script.main(["--out", "x", "--names", "mos"])


def test_the_page_has_what_is_committed_and_no_more(script: Any, known: Any, tmp_path: Path) -> None:
    assert script.main(["--out", str(tmp_path / "out"), "--into", str(tmp_path), "--names", "first", "--seeds", "0"]) == 0
    text = script.page(tmp_path)
    assert "| [`first`](#first-table-9) | Sun et al., ICML 2022 | Table 9 | " in text and "1 seed: 1 holds, 1 not told | not run |" in text
    assert "| `second` |" in text and "\n### second" not in text and "\n### first: Table 9\n" in text
    assert text.count("This is the scale of Glyphs") == 1, "what all share is said once"
    assert "| plain | 60.0 (58.0 to 61.0) | 70.0 (68.0 to 71.0) | 65.0 (63.0 to 66.0) (paper 61.5) |" in text
    assert "| Ours is higher | +9.5 | +2.8 | yes, one seed |" in text


@pytest.mark.parametrize(("heading", "address"), [("mos-groups: Appendix B.2", "mos-groups-appendix-b2"), ("x: Figures 2, 5 (a)", "x-figures-2-5-a")])
def test_an_address_is_that_of_the_site(script: Any, heading: str, address: str) -> None:
    toc = pytest.importorskip("markdown.extensions.toc")
    assert script.anchor(heading) == address == toc.slugify(heading, "-")


@pytest.mark.skipif(not RESULTS, reason="nothing is committed yet")
def test_the_page_is_what_is_committed(script: Any) -> None:
    assert script.PAGE.read_text("utf-8") == script.page(), "run `python experiments/reproductions.py --page`"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_what_is_committed_is_of_an_experiment_as_it_is(path: Path) -> None:
    scale = "full" if path.stem.endswith("-full") else "glyphs"
    name = path.stem.removesuffix("-full")
    found = results.result(name, scale)
    assert found is not None and path.read_text("utf-8") == results.to_text(found)
    one = EXPERIMENTS[name]
    assert {record.seed for record in found.records} == set(found.seeds) and found.command.startswith(f"farfield reproduce {name}")
    for record in found.records:
        assert len(record.of) == len(one.keys) and set(record.values) <= set(one.figures), record

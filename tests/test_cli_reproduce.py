"""`farfield reproduce`: what it says, what it refuses, and that a cell of every experiment runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import farfield as ff
from farfield import cli, reproduce
from farfield.errors import InputError
from farfield.reproduce import EXPERIMENTS, results
from farfield.reproduce.base import Claim, Experiment, Plot, Record

Said = tuple[int, str, str]
SETS = ("letters", "photos", "average")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Types a command in a folder of its own; its status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*arguments: str) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["farfield", "reproduce", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def made_up(name: str, wrong: str = "", paper: bool = True) -> Experiment:
    """An experiment that needs nothing but its seed."""

    def cells(stage: Any) -> dict[str, Any]:
        def cell(method: str, far: float) -> list[Record]:
            if wrong and method == "ours":
                raise InputError(wrong)
            stage.progress and stage.progress("train", 3, 4)
            values = {"letters": 60.0 + stage.seed, "photos": far, "average": (60.0 + stage.seed + far) / 2}
            found = [Record((method, one), {"auroc": value, "fpr": 100 - value}, {"auroc": (value - 2, value + 1)}) for one, value in values.items()]
            return [*found, Record((method, "ID"), {"accuracy": 80.0})]

        return {method: lambda method=method, far=far: cell(method, far) for method, far in (("plain", 70.0), ("ours", 75.5 - stage.seed / 8))}

    figures = [Record(("plain", "average"), {"auroc": 61.5}), Record(("ours", "average"), {"auroc": 71.0})]
    claims = (
        Claim("Ours is higher", lambda cells: cells["ours", "average", "auroc"] - cells["plain", "average", "auroc"]),
        Claim("Something of another kind", lambda cells: cells["other", "average", "auroc"]),
    )
    return Experiment(
        name, "Sun et al., ICML 2022", "Table 9", "Ours beside the plain one.", ("method", "set"),
        {"auroc": "AUROC", "fpr": "FPR95", "accuracy": "ID accuracy"}, cells, figures if paper else (), claims, here="Small.", suite="some-suite",
        plot=Plot("set", "auroc", "method", kind="bars"),
    )  # fmt: skip


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Experiment]]:
    """Made-up experiments alone, one of which lacks something."""
    made = {
        one.name: one for one in (made_up("first"), made_up("second", "The weights of ours are not there. Get them."), made_up("third", paper=False))
    }
    whole = dict(EXPERIMENTS)
    EXPERIMENTS.clear()
    EXPERIMENTS.update(made)
    yield made
    monkeypatch.undo()  # what a test has put among these
    EXPERIMENTS.clear()
    EXPERIMENTS.update(whole)  # in their order, which pages have


# --- what it says ---------------------------------------------------------------------------------------------------------------------------


def test_tables_claims_notes_and_where_they_are(typed: Callable[..., Said], known: Any, tmp_path: Path) -> None:
    status, out, err = typed("first", "--seed", "0", "--seed", "1", "--seed", "0", "--out", "here")
    assert status == 0, err
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0] == "first: Table 9"
    plain = next(line for line in lines if line.startswith("plain"))
    # 60 and 61, mean 60.5, half width 12.706 * 0.7071 / sqrt 2
    assert plain.split()[1:] == ["60.5", "±", "6.4", "70.0", "±", "0.0", "65.2", "±", "3.2"]
    assert "paper 61.5" in lines[lines.index(plain) + 1]
    claim = next(line for line in lines if line.startswith("Ours is higher"))
    # 75.5 / 2 - 70 / 2 = 2.75, and an eighth / 2 less with seed 1: mean 2.71875, half width 12.706 * 0.0442 / sqrt 2
    assert claim.split()[3:] == ["+9.5", "+2.7", "±", "0.4", "yes"]
    assert "its figures are not here" in next(line for line in lines if line.startswith("Something of another"))
    told = " ".join(lines)
    for note in ("scale of Glyphs", "Small.", "FPR95 is the share of OOD pictures taken for ID", "means over seeds 0 and 1"):
        assert note in told
    assert err.strip() == "Written: here/first.html, and the same as .md and .json"
    assert {path.name for path in (tmp_path / "here").glob("first.*")} == {"first.html", "first.md", "first.json"}


def test_json_is_what_was_written_and_has_every_interval(typed: Callable[..., Said], known: Any, tmp_path: Path) -> None:
    status, out, _ = typed("first", "--json", "--cells", "1")
    assert status == 0
    value = json.loads(out)
    assert value == json.loads((tmp_path / "farfield-out" / "reproduce" / "glyphs" / "first.json").read_text())
    assert value["command"] == "farfield reproduce first --json --cells 1" and value["environment"]["farfield"] == ff.__version__
    (auroc, fpr, single) = value["tables"]
    assert [column["label"] for column in auroc["columns"]] == ["letters", "photos", "average"] and auroc["title"] == "AUROC"
    assert [cell["interval"] for cell in auroc["rows"][0]["cells"]] == [[58.0, 61.0], [68.0, 71.0], [63.0, 66.0]]
    assert [cell["interval"] for cell in fpr["rows"][0]["cells"]] == [None] * 3 and single["columns"][0]["label"] == "ID accuracy"
    assert value["papers"] and "Only the first 1 of" in " ".join(value["notes"])  # one of the paper's two is not here
    assert value["settings"] == {"cells": 1}
    markdown = (tmp_path / "farfield-out" / "reproduce" / "glyphs" / "first.md").read_text()
    assert "| plain | 60.0 (58.0 to 61.0) | 70.0 (68.0 to 71.0) | 65.0 (63.0 to 66.0) |" in markdown


def test_a_second_run_goes_on_and_a_dry_run_has_a_folder_of_its_own(typed: Callable[..., Said], known: Any, tmp_path: Path) -> None:
    typed("first")
    kept = tmp_path / "farfield-out" / "reproduce" / "glyphs" / "seed-0" / "cells" / "first"
    times = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    status, out, _ = typed("first", "--smoke")
    assert status == 0 and "the figures mean nothing" in " ".join(out.split())
    assert (tmp_path / "farfield-out" / "reproduce" / "glyphs-smoke" / "first.html").exists()
    assert typed("first")[0] == 0 and {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == times and len(times) == 2


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_broken(
    typed: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, known: Any, width: int
) -> None:
    wide = replace(
        known["first"],
        cells=lambda stage: {"all": lambda: [Record(("a network of a long name", f"set {i}"), {"auroc": 60 + i / 8}) for i in range(9)]},
    )
    monkeypatch.setitem(EXPERIMENTS, "first", wide)
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = typed("first")
    assert max(len(line.rstrip()) for line in out.splitlines()) <= width
    for i in range(9):
        assert f"{60 + i / 8:.1f}" in out


def test_all_goes_on_after_one_that_lacks_something_and_names_it(typed: Callable[..., Said], known: Any, tmp_path: Path) -> None:
    status, out, err = typed("all", "--out", "here")
    assert status == 2 and "first: Table 9" in out and "third: Table 9" in out and "second: Table 9" not in out
    lines = err.splitlines()
    assert "second: The weights of ours are not there. Get them." in lines
    assert lines[-1] == "farfield: 1 of 3 could not be run for want of something, as said above: second. The others are done."
    assert (tmp_path / "here" / "third.html").exists() and (tmp_path / "here" / "seed-0" / "cells" / "second" / "plain.json").exists()
    status, out, err = typed("all", "--out", "here", "--json")
    assert status == 2 and [value["experiment"] for value in json.loads(out)] == ["first", "third"]


def test_ctrl_c_says_that_it_goes_on(typed: Callable[..., Said], known: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped() -> list[Record]:
        raise KeyboardInterrupt

    whole = known["first"]
    monkeypatch.setitem(EXPERIMENTS, "first", replace(whole, cells=lambda stage: {**whole.cells(stage), "last": stopped}))
    status, out, err = typed("first", "--out", "here")
    assert (status, out) == (130, "") and "run the same command to go on" in err
    assert sorted(path.stem for path in (tmp_path / "here" / "seed-0" / "cells" / "first").iterdir()) == ["ours", "plain"]
    monkeypatch.setitem(EXPERIMENTS, "first", whole)
    assert typed("first", "--out", "here")[0] == 0


def test_progress_tells_of_cells_and_of_what_goes_on_within(known: Any, tmp_path: Path) -> None:
    from farfield.cli.reproduce import Progress

    progress, told = Progress(), []
    progress.inside("nobody listens", 0, 1)
    progress.step = lambda *step: told.append(step)
    stage = reproduce.Stage("glyphs", tmp_path, progress=progress.inside)
    reproduce.run(known["first"], [stage], each=progress.cell)
    first = "first, seed 0: plain (1 of 2)"
    assert told[:3] == [(first, 0, 2), (f"{first}, train", 3, 4), ("first, seed 0: ours (2 of 2)", 1, 2)]


# --- the list -------------------------------------------------------------------------------------------------------------------------------


def test_the_list_has_every_experiment_with_its_status(typed: Callable[..., Said]) -> None:
    status, out, err = typed("--list")
    assert status == 0 and "`--list --json` has the commands" in err
    for one in EXPERIMENTS.values():
        assert one.paper in out and any(line.split()[:1] == [one.name] for line in out.splitlines()), one.name
    status, out, _ = typed("--list", "--json")
    told = {one["name"]: one for one in json.loads(out)}
    assert status == 0 and list(told) == list(EXPERIMENTS)
    for name, one in told.items():
        for scale in ("glyphs", "full"):
            assert one[scale]["state"] in ("reproduced", "dry run", "not run") and one[scale]["command"].startswith(f"farfield reproduce {name}")


def test_a_status_says_when_how_and_what(known: Any, tmp_path: Path) -> None:
    records = tuple(reproduce.run(known["first"], [reproduce.Stage("glyphs", tmp_path / "out", seed) for seed in (0, 1)]))
    result = results.Result("first", "glyphs", "2026-11-29", "farfield reproduce first", "2 cores", (0, 1), 12.5, records)
    results.path_of("first", "glyphs", tmp_path).write_text(results.to_text(result))
    run = {"date": "2026-11-30", "command": "farfield reproduce third ...", "machine": "2 cores", "seconds": 3.5}
    (tmp_path / results.DRY).write_text(json.dumps({"third": run}))
    assert results.result("first", "glyphs", tmp_path) == result and results.result("third", "glyphs", tmp_path) is None
    first, second, third = results.statuses(known.values(), tmp_path)
    assert first["glyphs"]["said"] == "2026-11-29, 2 seeds: 1 holds, 1 not told" and first["glyphs"]["seconds"] == 12.5
    assert first["glyphs"]["claims"][0]["difference"] == 2.7188 and first["full"]["state"] == "not run"
    assert second["full"]["command"] == "farfield reproduce second --scale full --root DIR"
    assert third["full"]["said"].startswith("2026-11-30: dry run only, the papers' data sets") and third["full"]["dry_seconds"] == 3.5


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("first.json", lambda told: [], "it is no JSON object"),
        ("first.json", lambda told: {**told, "experiment": "other"}, "it is of other at the scale glyphs"),
        ("first.json", lambda told: {**told, "seeds": 3}, "TypeError"),
        ("first.json", lambda told: {**told, "records": [{}]}, "KeyError: 'values'"),
        ("first.json", lambda told: {k: v for k, v in told.items() if k != "date"}, "KeyError: 'date'"),
        (results.DRY, lambda told: {"first": {"date": "x"}}, "KeyError: 'command'"),
        (results.DRY, lambda told: {"first": 3}, "TypeError"),
    ],
)
def test_broken_results_are_named(tmp_path: Path, name: str, change: Callable[[Any], Any], why: str) -> None:
    result = results.Result("first", "glyphs", "2026-11-29", "farfield reproduce first", "2 cores", (0,), 1.0, (Record(("a", "b"), {"auroc": 1.0}),))
    (tmp_path / name).write_text(json.dumps(change(json.loads(results.to_text(result)))))
    with pytest.raises(InputError) as raised:
        results.statuses([made_up("first")], tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / name} cannot be read") and why in message
    assert message.endswith("Make it again with experiments/reproductions.py.")


# --- what it refuses ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Which is to be reproduced? Give a name, or `all`; `farfield reproduce --list` has them."),
        (("mos-tabel-1",), "There is no experiment 'mos-tabel-1'; did you mean 'mos-table-1'? `farfield reproduce --list` has them all."),
        (("mos-table-1", "--scale", "ful"), "There is no scale 'ful'; did you mean 'full'? There are: glyphs, full."),
        (("mos-table-1", "--root", "."), "On Glyphs the networks and data are Farfield's own; leave out --root."),
        (
            ("mos-table-1", "--random-weights", "--model", "x"),
            "On Glyphs the networks and data are Farfield's own; leave out --random-weights, --model.",
        ),
        (("mos-table-1", "--preprocess", "crop=8"), "On Glyphs the networks and data are Farfield's own; leave out --preprocess."),
        (("mos-table-1", "--scale", "full"), "--scale full reads the papers' data sets from a folder. Give it with --root DIR;"),
        (("mos-table-1", "--scale", "full", "--root", "nowhere"), "--root nowhere is no folder. Give the one that holds the data sets."),
        (
            ("all", "--scale", "full", "--root", ".", "--model", "x"),
            "`all` runs experiments with classifiers and pages of their own; leave out --model.",
        ),
        (("all", "--open"), "`all` runs experiments with classifiers and pages of their own; leave out --open."),
        (("mos-table-1", "--list", "--seed", "3"), "--list takes --json alone; leave out --seed, 'mos-table-1'."),
        (("mos-table-1", "--device", "cuda:99"), "There is no device 'cuda:99' here"),
        (("mos-table-1", "--out", "file/inside"), "The folder file/inside cannot be made"),
        (("mos-table-1", "--seed", "-1"), "Invalid value for '--seed'"),
        (("mos-table-1", "--cells", "0"), "Invalid value for '--cells'"),
        (("second",), "The weights of ours are not there. Get them."),
    ],
)
def test_what_cannot_be_is_one_sentence_and_status_2(
    typed: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "second", made_up("second", "The weights of ours are not there. Get them."))
    (tmp_path / "file").write_text("")
    status, out, err = typed(*arguments)
    assert (status, out) == (2, "") and err.startswith("farfield: ") and message in err and len(err.splitlines()) == 1, err


def test_other_settings_in_the_same_folder_are_refused(typed: Callable[..., Said], known: Any) -> None:
    assert typed("first", "--out", "here")[0] == 0
    status, out, err = typed("first", "--out", "here", "--limit", "5")
    assert (status, out) == (2, "") and "limit was None and is 5. Give another folder with --out." in err


def test_cite_takes_an_experiment_or_a_folder_of_them(known: Any, typed: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    typed("first", "--out", "here")
    for what in ("first", "here", "here/first.json"):
        monkeypatch.setattr(sys, "argv", ["farfield", "cite", what])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        assert [line.partition("{")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("@")] == ["farfield,", "sun2022knn,"]


# --- every experiment -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose networks all experiments use."""
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_a_cell_of_every_experiment_runs(name: str, typed: Callable[..., Said], shared: Path) -> None:
    status, out, err = typed(name, "--smoke", "--cells", "1", "--out", str(shared), "--json")
    assert status == 0, err
    value = json.loads(out)
    one = EXPERIMENTS[name]
    assert value["tables"] and all(table["rows"] for table in value["tables"])
    assert set(value["figures"]) == set(one.figures) and [claim["claim"] for claim in value["claims"]] == [claim.text for claim in one.claims]
    assert (shared / f"{name}.html").stat().st_size > 500_000  # the plotting library is in it
    records = [json.loads(path.read_text()) for path in (shared / "seed-0" / "cells" / name).iterdir()]
    for record in (record for told in records for record in told["records"]):
        assert len(record["of"]) == len(one.keys) and set(record["values"]) <= set(one.figures), record

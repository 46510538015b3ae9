"""`farfield reproduce`: the papers' tables and figures again, on Glyphs or with the papers' classifiers and data sets."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farfield.cli.app import Limit, Open, PreprocessText, RandomWeights, app, command_line, make_folder, pick_device, progress_bar, say, show
from farfield.errors import InputError, nearest

if TYPE_CHECKING:
    from farfield.reproduce import Experiment, Stage

FULL = ("root", "random_weights", "model", "preprocess")  # options of the full scale alone
ONE = ("model", "preprocess", "open")  # options of one experiment


@app.command()
def reproduce(
    name: Annotated[str | None, typer.Argument(help="An experiment, as mos-table-1, or `all`. --list has them.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="What there is, and what has been reproduced, at which scale.")] = False,
    scale: Annotated[str | None, typer.Option(help="glyphs: small networks, nothing to fetch; full: the paper's classifiers, and its data under --root.  [default: glyphs]")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder of the data sets, for --scale full.")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Of networks and whatever else is random. Repeat it for more; 0 by default.")] = None,
    model: Annotated[str | None, typer.Option(help="A classifier in place of the paper's, for --scale full.")] = None,
    preprocess: PreprocessText = None,
    limit: Limit = None,
    random_weights: RandomWeights = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="A dry run: two steps of training, and on Glyphs few pictures. The figures mean nothing.")] = False,
    cells: Annotated[int | None, typer.Option(min=1, help="Only the first so many cells of each experiment.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps, ...  [default: cpu on Glyphs, else auto]")] = None,
    out: Annotated[Path | None, typer.Option(help="Where all is kept; what is there is not done again.  [default: farfield-out/reproduce/SCALE, a dry run's beside it]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    open_: Open = False,
) -> None:  # fmt: skip
    """A paper's table or figure again: ours beside the paper's, with intervals, and whether what the paper claims holds.

    On Glyphs nothing is fetched. At full scale: `farfield reproduce mos-table-1 --scale full --root data`. A run that was stopped goes on.
    """
    said: dict[str, Any] = {
        "scale": scale, "root": root, "seed": seed, "model": model, "preprocess": preprocess, "limit": limit, "random_weights": random_weights,
        "smoke": smoke, "cells": cells, "device": device, "out": out, "open": open_,
    }  # fmt: skip
    given = {key: value for key, value in said.items() if value not in (None, False, [])}
    from farfield.reproduce import shown

    if list_:
        _refuse([f"--{option.replace('_', '-')}" for option in given] + [repr(name)] * (name is not None), "--list takes --json alone")
        return _list(json)
    chosen = _chosen(name, given)
    folder = out or Path(
        "farfield-out", "reproduce", "-".join([given.get("scale", "glyphs"), *(["random"] if random_weights else []), *(["smoke"] if smoke else [])])
    )
    make_folder(folder)
    where = pick_device(given.get("device", "cpu" if given.get("scale", "glyphs") == "glyphs" else "auto"))
    progress = Progress()
    stages = _stages(given, folder, where, progress)
    values, lacking = [], {}
    for one in chosen:
        try:
            value, page = _run(one, given, stages, progress)
        except InputError as error:
            if name != "all":
                raise
            say(f"{one.name}: {error}", style="yellow")
            lacking[one.name] = str(error)
            continue
        values.append(value)
        if not json:
            console = Console()
            console.print(shown(value, console.width))
        say(f"Written: {page}, and the same as .md and .json")
    if json:
        typer.echo(jsonlib.dumps(values if name == "all" else values[0], indent=1, allow_nan=False))
    if lacking:
        raise InputError(
            f"{len(lacking)} of {len(chosen)} could not be run for want of something, as said above: {', '.join(lacking)}. The others are done."
        )
    if open_:
        show(page)


def _refuse(options: list[str], why: str) -> None:
    if options:
        raise InputError(f"{why}; leave out {', '.join(options)}.")


def _chosen(name: str | None, given: Mapping[str, Any]) -> list[Experiment]:
    """The experiments that are meant; raises where options do not go together."""
    from farfield.reproduce import EXPERIMENTS, SCALES, experiment

    if name is None:
        raise InputError("Which is to be reproduced? Give a name, or `all`; `farfield reproduce --list` has them.")
    chosen = list(EXPERIMENTS.values()) if name == "all" else [experiment(name)]
    scale = given.get("scale", "glyphs")
    if scale not in SCALES:
        raise InputError(f"There is no scale {scale!r}{nearest(scale, SCALES)} There are: {', '.join(SCALES)}.")
    if scale == "glyphs":
        _refuse([f"--{option.replace('_', '-')}" for option in FULL if option in given], "On Glyphs the networks and data are Farfield's own")
    elif "root" not in given:
        raise InputError(
            "--scale full reads the papers' data sets from a folder. Give it with --root DIR; `farfield data list` says what belongs there."
        )
    elif not Path(given["root"]).is_dir():
        raise InputError(f"--root {given['root']} is no folder. Give the one that holds the data sets.")
    if name == "all":
        _refuse([f"--{option}" for option in ONE if option in given], "`all` runs experiments with classifiers and pages of their own")
    return chosen


SETTINGS = ("limit", "model", "preprocess", "random_weights", "smoke")


class Progress:
    """Cells, and within each what the library tells of, on one bar."""

    def __init__(self) -> None:
        self.step: Callable[[str, int, int], None] | None = None
        self.now = ""

    def cell(self, name: str, done: int, total: int) -> None:
        """A cell begins."""
        self.now = f"{name} ({done + 1} of {total})"
        self._tell(self.now, done, total)

    def inside(self, what: str, done: int, total: int) -> None:
        """Something within it goes on."""
        self._tell(f"{self.now}, {what}", done, total)

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.step is not None:
            self.step(what, done, total)


def _stages(given: Mapping[str, Any], folder: Path, device: str, progress: Progress) -> list[Stage]:
    from farfield.reproduce import Stage

    settings = {key: given[key] for key in SETTINGS if key in given}
    return [
        Stage(given.get("scale", "glyphs"), folder, seed, root=given.get("root"), device=device, progress=progress.inside, **settings)
        for seed in dict.fromkeys(given.get("seed", [0]))
    ]


def _run(chosen: Experiment, given: Mapping[str, Any], stages: list[Stage], progress: Progress) -> tuple[dict[str, Any], Path]:
    """Runs an experiment; what it came to, and its page."""
    from farfield import reproduce as room
    from farfield.benchmark.run import environment

    about = {key: given[key] for key in (*SETTINGS, "cells") if key in given}
    with progress_bar() as progress.step:
        records = room.run(chosen, stages, cells=given.get("cells"), each=progress.cell)
    value = room.value_of(chosen, records, scale=stages[0].scale, command=command_line(), settings=about, environment=environment())
    return value, room.write(value, stages[0].out)


def _list(json: bool) -> None:
    from farfield.reproduce import EXPERIMENTS, SCALES, statuses

    found = statuses(EXPERIMENTS.values())
    if json:
        return typer.echo(jsonlib.dumps(found, indent=1))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("name", "place", *SCALES):
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for paper in dict.fromkeys(one["paper"] for one in found):
        table.add_row(Text(""))
        table.add_row(Text(paper, style="bold"))
        for one in found:
            if one["paper"] == paper:
                table.add_row(Text(one["name"]), Text(one["place"]), *(Text(one[scale]["said"]) for scale in SCALES))
    Console().print(table)
    say("`farfield reproduce NAME` runs one. `--list --json` has the commands.")


__all__ = ["reproduce"]

"""`farfield store`: what is stored, whether it is whole, and making room."""

from __future__ import annotations

import json as jsonlib
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farfield.cli.app import app, printable, say
from farfield.errors import InputError

store = typer.Typer(no_args_is_help=True, help="What classifiers said, on disk: list it, check it, remove it.")
app.add_typer(store, name="store")

Where = Annotated[Path, typer.Option("--store", help="The folder of stored outputs.")]
STORE = Path("farfield-out/store")


def _found(root: Path) -> list[Path]:
    from farfield.store import stores

    return stores(root)


def _about(folder: Path) -> dict[str, Any]:
    """What a store is, as far as it can be read."""
    from farfield.store import Stored, facts_of

    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    line: dict[str, Any] = {"key": folder.name, "bytes": size, "changed": folder.stat().st_mtime}
    try:
        stored = Stored.open(folder)
    except InputError as error:
        return {**line, "error": str(error)}
    about = facts_of(folder).get("about", {})
    missing, left = len(stored.missing()), stored.half_written()
    return {
        **line,
        "classifier": about.get("classifier", ""),
        "data": about.get("data", ""),
        "items": stored.items,
        "unreadable": len(stored.failures()),
        "shards": stored.shards,
        "missing": missing,
        "half_written": len(left),
        "error": None,
    }


@store.command("ls")
def list_stores(root: Where = STORE, json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """What is stored: whose outputs of which data, how much of them, and how large."""
    lines = [_about(folder) for folder in _found(root)]
    if json:
        typer.echo(jsonlib.dumps(lines, indent=1))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("key", "classifier", "data", "items", "state", "MB", "changed"):
        table.add_column(column, justify="right" if column in ("items", "MB") else "left", no_wrap=column == "key")
    for line in lines:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(line["changed"]))
        if line["error"]:
            table.add_row(line["key"], "", "", "", Text("not readable by this version"), f"{line['bytes'] / 1e6:.1f}", when)
            continue
        state = "whole" if not line["missing"] else f"{line['shards'] - line['missing']} of {line['shards']} shards"
        state += f", {line['unreadable']} unreadable" if line["unreadable"] else ""
        state += f", {line['half_written']} half-written" if line["half_written"] else ""
        names = (Text(printable(str(line[key]))) for key in ("classifier", "data"))
        table.add_row(line["key"], *names, str(line["items"]), state, f"{line['bytes'] / 1e6:.1f}", when)
    Console().print(table)
    say(f"{len(lines)} in {root}, {sum(line['bytes'] for line in lines) / 1e6:.1f} MB.")


def _chosen(root: Path, keys: list[str]) -> list[Path]:
    """The stores whose keys begin as given; each beginning must be one's alone."""
    found, chosen = _found(root), []
    for key in keys:
        match = [folder for folder in found if key and folder.name.startswith(key)]
        if len(match) != 1:
            raise InputError(f"{key!r} is the beginning of {len(match)} stores in {root}; `farfield store ls` shows the keys.")
        chosen += match
    return list(dict.fromkeys(chosen))


@store.command("rm")
def remove(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys as `ls` shows them, or their beginnings.")] = None,
    root: Where = STORE,
    all: Annotated[bool, typer.Option("--all", help="Remove every store.")] = False,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="Remove those with missing shards, and those of other versions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Removes stored outputs; a later run computes them again."""
    import shutil

    if not keys and not all and not incomplete:
        raise InputError("Say what to remove: keys as `farfield store ls` shows them, --incomplete, or --all.")
    chosen = _found(root) if all else _chosen(root, keys or [])
    if incomplete and not all:
        chosen += [folder for folder in _found(root) if (line := _about(folder))["error"] or line["missing"]]
    chosen = list(dict.fromkeys(chosen))
    size = sum(_about(folder)["bytes"] for folder in chosen)
    if not chosen:
        say("There is nothing to remove.")
        return
    if not yes and not typer.confirm(f"Remove {len(chosen)} of them, {size / 1e6:.1f} MB?", err=True):
        say("Nothing was removed.")
        return
    for folder in chosen:
        shutil.rmtree(folder)
    say(f"Removed {len(chosen)}, {size / 1e6:.1f} MB.")


@store.command("verify")
def verify(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys as `ls` shows them; all by default.")] = None,
    root: Where = STORE,
) -> None:
    """Reads every shard and compares it with the hash it was written with; status 2 when something is wrong."""
    from farfield.store import Stored

    wrong: list[str] = []
    chosen = _chosen(root, keys) if keys else _found(root)
    for folder in chosen:
        try:
            stored = Stored.open(folder)
            told = stored.verify()
            left = [f"{path.name} is half-written" for path in stored.half_written()]
        except InputError as error:
            told, left = [str(error)], []
        typer.echo(f"{folder.name}: {'; '.join([*(told or ['whole']), *left])}")
        wrong += [folder.name] if told else []
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(chosen)} stores are not whole: {', '.join(wrong)}. Remove them (farfield store rm KEY), or run what made them again."
        )

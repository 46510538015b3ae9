"""`farfield models`: the classifiers that ship, those of the papers, and the pool of ViTs."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from farfield.cli.app import app
from farfield.errors import InputError, nearest

COLUMNS = ("name", "what", "classes", "millions", "paper", "weights")  # of the list
Row = dict[str, Any]


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One of them, to read all about it.")] = None,
    pool: Annotated[bool, typer.Option("--pool", help="The ViTs of timm that the second paper's pool is of, with how each was trained.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Classifiers by name: those that ship and those of the papers; their size, classes, preprocessing, and where their weights are had."""
    if pool and name is not None:
        raise InputError(f"--pool lists timm's ViTs, and takes no name; got {name!r}.")
    if pool:
        _pool(json)
    elif name is None:
        _list(json)
    else:
        _one(name.removeprefix("zoo:"), json)


def _list(json: bool) -> None:
    rows = [*(_shipped(name) for name in _ships()), *(_published(name) for name in _zoo())]
    if json:
        typer.echo(jsonlib.dumps(rows, indent=1))
        return
    _print_table(rows, COLUMNS)
    Console().print(
        "\nEach is a --model. `farfield models NAME` says where its weights are had; `farfield models --pool` lists ViTs by their training."
    )


def _one(name: str, json: bool) -> None:
    ships, published = _ships(), _zoo()
    if name not in (*ships, *published):
        raise InputError(f"There is no model {name!r}{nearest(name, (*ships, *published))} `farfield models` lists what there is.")
    row = _shipped(name) if name in ships else _published(name)
    row["blocks"] = _blocks(name, name in ships)
    if json:
        typer.echo(jsonlib.dumps(row, indent=1))
        return
    for key, value in row.items():
        if value not in (None, ""):
            typer.echo(f"{key}: {', '.join(value) if isinstance(value, list) else value}")


def _pool(json: bool) -> None:
    from farfield.models.zoo import augreg

    rows = [member.columns() for member in augreg.pool()]
    if json:
        typer.echo(jsonlib.dumps(rows, indent=1))
        return
    columns = [column for column in augreg.COLUMNS if column != "file"]
    _print_table([{key: "-" if value is None else value for key, value in row.items()} for row in rows], columns)
    Console().print(f"\nEach is timm:NAME. Others of augreg are had from {augreg.ADDRESS} and read by --weights FILE.npz.")


def _print_table(rows: list[Row], columns: tuple[str, ...] | list[str]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=column == "name", justify="right" if isinstance(rows[0][column], int | float) else "left")
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    Console().print(table)


def _ships() -> tuple[str, ...]:
    from farfield.models import SHIPPED

    return SHIPPED


def _zoo() -> tuple[str, ...]:
    from farfield.models.zoo import ZOO

    return tuple(ZOO)


def _shipped(name: str) -> Row:
    """What is known of a classifier that ships."""
    from farfield.models import contents, shipped_path

    path = shipped_path(name)
    weights, facts = contents(path)
    learnt = [value for key, value in weights.items() if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    mean, std = ("/".join(f"{value:g}" for value in facts[key]) for key in ("mean", "std"))
    size = facts.get("size", 32)
    return {
        "name": name,
        "what": f"a small {facts['architecture']} on Glyphs",
        "classes": facts["classes"],
        "millions": round(sum(value.numel() for value in learnt) / 1e6, 3),
        "paper": "-",
        "weights": "ships",
        "preprocess": f"resize=0,crop={size},mean={mean},std={std}",
        "here": str(path),
    }


def _published(name: str) -> Row:
    """What is known of a classifier of the papers, and whether its weights are here."""
    from farfield.models import zoo

    found = zoo.entry(name)
    here = zoo.at_hand(found)
    weights = "here" if here is not None else "fetched" if found.fetched else "none published" if found.file is None else "to be had"
    return {
        "name": f"zoo:{name}",
        "what": found.what,
        "classes": found.classes,
        "millions": found.millions,
        "paper": found.paper,
        "weights": weights,
        "preprocess": found.preprocess,
        "here": None if here is None else str(here),
        "source": found.source,
        "file": found.file,
        "address": found.address,
        "folders": [str(folder) for folder in zoo.weights_folders()],
        "licence": found.licence,
        "note": found.note,
    }


def _blocks(name: str, ships: bool) -> list[str]:
    """The names of its stages; the weights of a large one are not made for that."""
    from farfield.classifier import Classifier
    from farfield.classifier.sources import blocks_in_zoo

    return list(Classifier.load(name).blocks if ships else blocks_in_zoo(name))

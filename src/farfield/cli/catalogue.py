"""`farfield detectors`: what there is, and what each needs."""

from __future__ import annotations

import inspect
import json as jsonlib
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from farfield.cli.app import app
from farfield.errors import InputError, nearest


@app.command()
def detectors(
    name: Annotated[str | None, typer.Argument(help="One of them, to read all about it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Every detector and shaper: what it needs, its options, where it comes from."""
    from farfield.detectors import CATALOGUE, SHAPERS

    methods: dict[str, type[Any]] = {**CATALOGUE, **SHAPERS}
    if name is not None and name not in methods:
        raise InputError(f"There is no detector {name!r}{nearest(name, methods)} There are: {', '.join(methods)}.")
    found = {key: about(key, method, key in SHAPERS) for key, method in methods.items() if name in (None, key)}
    if json:
        typer.echo(jsonlib.dumps(list(found.values()), indent=1))
    elif name is not None:
        one = found[name]
        typer.echo(inspect.cleandoc(methods[name].__doc__ or "").partition("\n>>>")[0].strip())
        typer.echo(f"\nWhen: {one['use']}" + (f"\nKnown to fail: {one['fails']}" if one["fails"] else "") + f"\nCost: {one['cost']}.")
        typer.echo(
            f"Scoring reads {one['needs']}; fitting reads {one['fit_needs']}, in {one['passes']} passes. Options: {one['options'] or 'none'}.\n{one['paper']}."
        )
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("name", "scoring reads", "fitting reads", "passes", "options", "paper"):
            table.add_column(column, justify="right" if column == "passes" else "left", no_wrap=column == "name")
        for one in found.values():
            table.add_row(one["name"], one["needs"], one["fit_needs"], str(one["passes"]), one["options"], one["paper"])
        console = Console()
        console.print(table)
        console.print(
            "\nOptions go behind a colon, as `knn:k=10`. A shaper goes before a detector, as `react:q=80+energy`. `farfield detectors NAME` says more."
        )


def about(name: str, method: type[Any], shaper: bool) -> dict[str, Any]:
    """One method's line."""
    from farfield.detectors import options_of

    options = ", ".join(f"{key}={'none' if option.default is None else option.default}" for key, option in options_of(method.fit).items())
    return {
        "name": f"{name}+..." if shaper else name,
        "needs": ", ".join(method.needs),
        "fit_needs": ", ".join(need for need in method.fit_needs if method.passes or need == "head") or "nothing",
        "passes": method.passes,
        "options": options,
        "use": method.use,
        "fails": method.fails,
        "cost": method.cost,
        "paper": method.paper,
    }

"""`farfield metrics` and `farfield compare`: figures from score files alone, and the differences between two runs."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farfield.cli.app import app, printable, say
from farfield.errors import InputError

FIGURES = {
    "auroc": "AUROC",
    "fpr_at_95_tpr_id": "OOD kept where 95 % of ID is kept (FPR, ID positive)",
    "fpr_at_95_tpr_ood": "ID flagged where 95 % of OOD is caught (FPR, OOD positive)",
    "ap_id": "average precision, ID positive",
    "ap_ood": "average precision, OOD positive",
}
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def metrics(
    id_scores: Annotated[Path, typer.Argument(help="Scores of ID images: CSV or JSON lines as `farfield score` writes, .npy, .npz, .safetensors.")],
    ood_scores: Annotated[list[str], typer.Argument(help="Scores of OOD images, as FILE or NAME=FILE; several sets are averaged too.")],
    ood_is_high: Annotated[bool, typer.Option("--ood-is-high", help="The scores are higher for OOD, as some tools have it.")] = False,
    json: Json = False,
) -> None:
    """AUROC, FPR and average precision from score files, each with its 95 % interval."""
    from farfield import inputs

    sign = -1.0 if ood_is_high else 1.0
    s_in = sign * inputs.read_scores(id_scores)
    sets: dict[str, np.ndarray] = {}
    for text in ood_scores:
        name, equals, place = text.partition("=")
        if not equals or Path(text).exists():
            name, place = Path(text).stem, text
        if name in sets:
            raise InputError(f"There are two OOD sets called {name!r}. Give them names, as birds={place}.")
        sets[name] = sign * inputs.read_scores(place)
    for name, values in {str(id_scores): s_in, **sets}.items():
        if np.isnan(values).any():
            raise InputError(
                f"The scores of {name} have NaN in {int(np.isnan(values).sum())} of {len(values)} rows, first at row {int(np.isnan(values).argmax())}."
            )
    rows = [_figures(s_in, name, values) for name, values in sets.items()]
    if len(sets) > 1:
        rows.append(_mean(s_in, list(sets.values())))
    if json:
        typer.echo(jsonlib.dumps({"n_id": len(s_in), "rows": rows}, indent=1))
        return
    console = Console()
    console.print(f"{len(s_in)} ID scores; percent, with 95 % intervals")
    for row in rows:
        table = Table(
            title=Text(printable(f"{row['ood'] or 'mean of the sets'}, {row['n_ood']} scores")),
            title_justify="left",
            box=None,
            show_header=False,
            pad_edge=False,
        )
        for key, label in FIGURES.items():
            if key in row:
                low, high = row[f"{key}_interval"]
                table.add_row(label, f"{100 * row[key]:.1f}", f"({100 * low:.1f} to {100 * high:.1f})")
        console.print(table, "")


def _figures(s_in: np.ndarray, name: str, s_out: np.ndarray) -> dict[str, Any]:
    from farfield import metrics as m

    return {
        "ood": name,
        "n_ood": len(s_out),
        "auroc": m.auroc(s_in, s_out),
        "auroc_interval": m.auroc_interval(s_in, s_out),
        "fpr_at_95_tpr_id": m.fpr_at_95_tpr_id(s_in, s_out),
        "fpr_at_95_tpr_id_interval": m.fpr_interval(s_in, s_out),
        "fpr_at_95_tpr_ood": m.fpr_at_95_tpr_ood(s_in, s_out),
        "fpr_at_95_tpr_ood_interval": m.fpr_ood_interval(s_in, s_out),
        "ap_id": m.ap_id(s_in, s_out),
        "ap_id_interval": m.ap_interval(s_in, s_out, positive="id"),
        "ap_ood": m.ap_ood(s_in, s_out),
        "ap_ood_interval": m.ap_interval(s_in, s_out, positive="ood"),
    }


def _mean(s_in: np.ndarray, outs: list[np.ndarray]) -> dict[str, Any]:
    from farfield import metrics as m

    return {
        "ood": None,
        "n_ood": sum(map(len, outs)),
        "auroc": float(np.mean([m.auroc(s_in, s) for s in outs])),
        "auroc_interval": m.mean_auroc_interval(s_in, outs),
        "fpr_at_95_tpr_id": float(np.mean([m.fpr_at_95_tpr_id(s_in, s) for s in outs])),
        "fpr_at_95_tpr_id_interval": m.mean_fpr_interval(s_in, outs),
    }


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="results.json of one run of `farfield bench`, or its folder.")],
    b: Annotated[Path, typer.Argument(help="That of another.")],
    json: Json = False,
) -> None:
    """Which differences between two benchmark runs are real: AUROC of b minus a, paired where the images are the same."""
    from farfield import compare as comparing

    found = comparing.compare(a, b)
    if json:
        typer.echo(jsonlib.dumps(comparing.plain(found), indent=1))
        return
    console = Console()
    console.print("AUROC in percent, b - a with its 95 % interval; p corrected for all comparisons (Holm)")
    for key in dict.fromkeys((row.suite, row.classifiers, row.detector) for row in found.differences):
        suite, classifiers, detector = key
        names = " against ".join(dict.fromkeys(classifiers))
        table = Table(title=Text(printable(f"{detector} on {suite}, {names}")), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("set", "a", "b", "b - a", "p", "b is"):
            table.add_column(column, justify="left" if column in ("set", "b is") else "right", no_wrap=True)
        for row in found.differences:
            if (row.suite, row.classifiers, row.detector) == key:
                low, high = row.interval
                verdict = ("better" if row.difference > 0 else "worse") if row.real else "not told apart"
                table.add_row(
                    Text(printable(row.ood or f"mean of {row.group}")),
                    f"{100 * row.auroc[0]:.1f}",
                    f"{100 * row.auroc[1]:.1f}",
                    f"{100 * row.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
                    f"{row.p_holm:.2g}",
                    verdict + ("" if row.paired else ", unpaired"),
                )
        console.print(table, "")
    for name, missing in (("a", found.only_a), ("b", found.only_b)):
        if missing:
            say(f"Only in {name}: {', '.join(missing)}.")

"""`farfield report` and `farfield cite`: a benchmark's results again, and what they stand on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.app import Open, app, check_file, make_folder, progress_bar, say, show
from farfield.errors import InputError


class Format(StrEnum):
    """What `farfield report` makes of results."""

    html = "html"
    markdown = "markdown"
    json = "json"


@app.command("report")
def report_(
    results: Annotated[Path, typer.Argument(help="results.json of a run of `farfield bench`, or its folder.")],
    format_: Annotated[Format, typer.Option("--format", help="The page, the tables as Markdown, or the value that both are made of.")] = Format.html,
    out: Annotated[
        str | None, typer.Option(help="A file, or - for stdout.  [default: report.html beside the results; stdout for the others]")
    ] = None,
    open_: Open = False,
) -> None:
    """Make the report of a benchmark again: one HTML file, Markdown or JSON."""
    from farfield import benchmark, report

    value, folder = benchmark.read(results)
    place = out or (str(folder / "report.html") if format_ is Format.html else "-")
    if open_ and (format_ is not Format.html or place == "-"):
        raise InputError("--open is for the page: leave --format out, and give --out no -.")
    if place != "-":
        if Path(place).resolve() == (folder / "results.json").resolve() or Path(place).resolve() == results.resolve():
            raise InputError(f"--out {place} are the results themselves. Give another file.")
        check_file(Path(place))
        make_folder(Path(place).parent)
    with progress_bar() as step:
        text = {
            Format.html: lambda: report.page(value, folder, step),
            Format.markdown: lambda: report.markdown(value),
            Format.json: lambda: report.to_json(value),
        }[format_]()
    if place == "-":
        typer.echo(text)
        return
    path = report.put_text(Path(place), text)
    say(f"Written: {path}")
    if open_:
        show(path)


@app.command()
def cite(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="Detectors, as `knn react+energy`; recipes, as sft; experiments, as mos-table-1; or results.json of a run. All detectors by default."
        ),
    ] = None,
) -> None:
    """BibTeX of what detectors, recipes, experiments, or a run's results, stand on."""
    from farfield import benchmark, citations, report, reproduce
    from farfield.detectors import CATALOGUE, SHAPERS, papers_of, parse
    from farfield.recipes import RECIPES

    papers: list[str] = [] if what else [*citations.ALWAYS, *(method.paper for method in (*CATALOGUE.values(), *SHAPERS.values()))]
    for text in what or []:
        if text not in CATALOGUE and (text in RECIPES or text == "augdelete"):
            papers += ["Farfield", RECIPES[text].paper if text in RECIPES else "Xiong et al., ICCV 2025"]
        elif text in SHAPERS:
            papers += [*citations.ALWAYS, SHAPERS[text].paper]
        elif found := reproduce.named(text):
            papers += ["Farfield", *(one.paper for one in found)]
        elif text.endswith(".json") or (text not in CATALOGUE and text and (Path(text) / "results.json").exists()):
            papers += report.cited(benchmark.read(text)[0])
        else:
            papers += [*citations.ALWAYS, *papers_of(parse(text))]
    typer.echo(citations.bibtex(papers))

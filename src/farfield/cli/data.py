"""`farfield data`: which suites there are, whether their data are here, and fetching them; `farfield suite new`: one of your own."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farfield.cli.app import app, check_file, named, printable, progress_bar, say
from farfield.errors import InputError

data = typer.Typer(no_args_is_help=True, help="Suites: which there are, whether their data are here, fetching them, and what OOD sets share with ID.")
app.add_typer(data, name="data")
suite = typer.Typer(no_args_is_help=True, help="Suites of your own.")
app.add_typer(suite, name="suite")

Name = Annotated[str, typer.Argument(help="A suite, as `farfield data list` has them, or a TOML file.")]
DataRoot = Annotated[Path | None, typer.Option("--root", help="The folder of the data.  [default: $FARFIELD_DATA, else `data`]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MISSING = 3  # the exit status of `verify` while something is missing or wrong


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines; its first column is not broken."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if column in right else "left", no_wrap=index == 0, overflow="fold")
    return table


def cells(*values: object) -> list[Text]:
    """The cells of a row: texts that a terminal may show."""
    return [Text(printable(str(value))) for value in values]


@data.command("list")
def list_suites(json: Json = False) -> None:
    """The suites: their classes, sets and how many pictures they have."""
    from farfield.data import suites

    lines = [_line(name) for name in suites.NAMES]
    if json:
        typer.echo(jsonlib.dumps(lines, indent=1))
        return
    table = plain_table("suite", "classes", "pictures", "OOD sets", "what it is", right=("classes", "pictures", "OOD sets"))
    for line in lines:
        pictures = "drawn" if line["drawn"] else f"{line['pictures']:,}"
        table.add_row(*cells(line["name"], line["classes"], pictures, len(line["ood"]), line["title"]))
    Console().print(table)
    say("`farfield data show NAME` says where its data come from, `farfield data verify NAME` whether they are here.")


def _line(name: str) -> dict[str, Any]:
    """A suite in short."""
    from farfield.data import suites
    from farfield.data.suites import classes

    if name in suites.SUITES:
        drawn = suites.load(name)
        title = "Characters of typefaces, drawn on the spot"
        return {
            "name": name,
            "title": title,
            "classes": len(drawn.classes),
            "drawn": True,
            "pictures": None,
            "ood": [entry.name for entry in drawn.ood],
        }
    found = suites.definition(name)
    pictures = sum(piece.count or 0 for _, _, piece in found.sets())
    ood = [entry.name for entry in found.ood]
    return {"name": found.name, "title": found.title, "classes": classes.count(found.classes), "drawn": False, "pictures": pictures, "ood": ood}


@data.command()
def show(name: Name, json: Json = False) -> None:
    """What a suite is: its sets and counts, its preprocessing, and where each part comes from, under which licence."""
    from farfield.data import suites

    if name in suites.SUITES:
        drawn = suites.load(name)
        about = {**_line(name), "splits": list(drawn.splits), "validation": [entry.name for entry in drawn.validation], "note": drawn.note}
        typer.echo(
            jsonlib.dumps(about, indent=1)
            if json
            else f"{name}: {about['title']}; it needs no data.\n{drawn.note}\nOOD sets: {', '.join(about['ood'])}."
        )
        return
    found = suites.definition(name)
    if json:
        typer.echo(jsonlib.dumps(asdict(found), indent=1))
        return
    told = [f"{found.name}, version {found.version}: {found.title}", found.note, f"From: {found.paper}." if found.paper else ""]
    told += [f"Models: {found.models}" if found.models else ""]
    told += [f"Preprocessing: {found.preprocess or 'each model has its own'}"]
    kept = "of OOD at 95 % of ID kept" if found.fpr == "id" else "of ID at 95 % of OOD caught"
    typer.echo("\n".join(line for line in (*told, f"FPR in its publications: {kept}.", "") if line or line == ""))
    sets = plain_table("set", "as", "pictures", "where", right=("pictures",))
    for role, called, pictures in found.sets():
        where = f"{pictures.place} ({pictures.split}) in {pictures.root}" if pictures.reader == "torchvision" else pictures.place
        sets.add_row(*cells(called, role, "not published" if pictures.count is None else f"{pictures.count:,}", where))
    Console().print(sets)
    for source in found.sources.values():
        size = sum(archive.size or 0 for archive in source.archives)
        told = [f"licence: {source.licence or 'not stated'}", *([f"{size / 1e9:.2f} GB"] if size else []), *([source.page] if source.page else [])]
        typer.echo(f"\n{printable(source.title)}\n  {printable('; '.join(told))}")


@data.command()
def verify(
    name: Name,
    root: DataRoot = None,
    checksums: Annotated[bool, typer.Option("--checksums", help="Hash the archives that are kept, too.")] = False,
    json: Json = False,
) -> None:
    """Whether a suite's data are here and whole. Exit status 3 while something is missing or wrong."""
    from farfield.data import suites
    from farfield.data.suites import checking

    if name in suites.SUITES:
        typer.echo(jsonlib.dumps({"sets": [], "archives": [], "whole": True}) if json else f"{name} is drawn on the spot; it needs no data.")
        return
    found = suites.definition(name)
    place = suites.place(found, root)
    with progress_bar() as step:
        sets = checking.check(found, place, step)
        archives = checking.check_archives(found, place, step) if checksums else []
    wrong = [one for one in sets if one.state != "complete"]
    unlike = [one for one in archives if one.state == "unlike"]
    if json:
        told = [{**asdict(one), "place": str(one.place)} for one in archives]
        typer.echo(jsonlib.dumps({"sets": [asdict(one) for one in sets], "archives": told, "whole": not wrong and not unlike}, indent=1))
    else:
        _show_state(sets, archives)
    for source in checking.needed(found, sets):
        say(checking.advice(found.sources[source], place))
    for one in [one for one in wrong if one.state == "too many"]:
        say(f"{one.name} has {one.there - (one.expected or 0):,} pictures more than it is to have. Move out of {one.place} what is not of it.")
    for archive in unlike:
        say(f"{archive.place} is not what was published: {archive.told}. Fetch it again.")
    say(f"{len(sets) - len(wrong)} of {len(sets)} sets of {found.name} are complete in {place}.")
    if wrong or unlike:
        raise typer.Exit(MISSING)


def _show_state(sets: list[Any], archives: list[Any]) -> None:
    table = plain_table("set", "as", "there", "expected", "state", "first missing", right=("there", "expected"))
    for one in sets:
        lacking = f"{one.lacking:,}: " if one.missing and one.lacking else ""
        missing = lacking + ", ".join(one.missing) if one.missing else one.place if one.state == "missing" else ""
        expected = "not published" if one.expected is None else f"{one.expected:,}"
        table.add_row(*cells(one.name, one.role, f"{one.there:,}", expected, one.state, missing))
    console = Console()
    console.print(table)
    if archives:
        kept = plain_table("archive", "state", "where")
        for one in archives:
            kept.add_row(*cells(one.file, one.state, one.place))
        console.print("", kept)


@data.command()
def prepare(
    name: Name,
    root: DataRoot = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: Json = False,
) -> None:
    """Fetches and unpacks what a suite lacks and may be fetched, and says how to obtain the rest. A run that was stopped goes on.

    What you fetch by hand goes into the folder `archives` of the root; this then checks and unpacks it. Exit status 3 while something is left to do.
    """
    from farfield.data import suites
    from farfield.data.suites import preparing

    if name in suites.SUITES:
        say(f"{name} is drawn on the spot; it needs no data.")
        return
    found = suites.definition(name)
    place = suites.place(found, root)
    with progress_bar() as step:
        steps = preparing.plan(found, place, step) if dry_run else preparing.prepare(found, place, step, say)
    if json:
        typer.echo(jsonlib.dumps([{**asdict(one), "where": str(one.where)} for one in steps], indent=1))
    else:
        for one in steps:
            told = ", ".join(part for part in (f"{one.size / 1e9:.2f} GB" if one.size else "", one.checked and f"checked by {one.checked}") if part)
            typer.echo(printable(f"{one.action}: {one.what}{f' ({told})' if told else ''}{f' from {one.url}' if one.url else ''}, into {one.where}"))
    for one in steps:
        if one.told:
            say(one.told)
    if not steps:
        say(
            f"{found.name} has all of its data in {place}."
            if dry_run
            else f"Nothing is left to do. `farfield data verify {name} --root {place}` counts again."
        )
    elif not dry_run:
        raise typer.Exit(MISSING)


@suite.command()
def new(
    name: Annotated[str, typer.Argument(help="What tables call it. A changed suite gets another name.")],
    out: Annotated[Path, typer.Option(help="The TOML file to write.")],
    id_test: Annotated[Path, typer.Option(help="ID test data: a folder with a sub-folder a class, or an image list beside its pictures.")],
    id_train: Annotated[Path | None, typer.Option(help="ID training data, likewise.")] = None,
    id_cal: Annotated[Path | None, typer.Option(help="ID calibration data, likewise: of the test's source, unseen by the model.")] = None,
    near: Annotated[list[str] | None, typer.Option(help="NAME=DIR: OOD data like the ID data. Repeat it.")] = None,
    far: Annotated[list[str] | None, typer.Option(help="NAME=DIR: OOD data unlike the ID data. Repeat it.")] = None,
    shifted: Annotated[list[str] | None, typer.Option(help="NAME=DIR: the ID classes in another look. Repeat it.")] = None,
    validation: Annotated[list[str] | None, typer.Option(help="NAME=DIR: OOD data to choose options on, of another source than the others. Repeat it.")] = None,
    title: Annotated[str, typer.Option(help="One line: what it is.")] = "",
    note: Annotated[str, typer.Option(help="One sentence that every report prints.")] = "",
    preprocess: Annotated[str | None, typer.Option(help="In place of each model's own: resize=256,crop=224,...")] = None,
) -> None:  # fmt: skip
    """Writes the definition of a suite from folders, with the number of pictures of each.

    `farfield suite new birds --id-train photos/train --id-test photos/test --near bats=photos/bats --out birds.toml`, then `farfield bench --suite birds.toml --model ...`
    """
    from farfield.data.images import Group
    from farfield.data.suites import making
    from farfield.data.suites.writing import to_toml
    from farfield.files import put

    check_file(out)
    if out.suffix != ".toml":
        raise InputError(f"A suite is a .toml file; got {str(out)!r}.")
    sets: dict[str, tuple[Group, Path]] = {}
    groups: list[tuple[Group, list[str] | None]] = [("near", near), ("far", far), ("shifted", shifted)]
    for group, texts in groups:
        for called, place in _named(group, texts).items():
            if called in sets:
                raise InputError(f"There are two OOD sets called {called!r}. Give each a name of its own.")
            sets[called] = (group, place)
    places = {"train": id_train, "calibration": id_cal, "test": id_test}
    splits = {split: place for split, place in places.items() if place is not None}
    made = making.new(name, splits, sets, _named("validation", validation), out, title=title, note=note, preprocess=preprocess)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        put(out, lambda partial: partial.write_text(to_toml(made), "utf-8"))
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}. Give another with --out.") from error
    say(f"{sum(pictures.count or 0 for _, _, pictures in made.sets()):,} pictures in {len(list(made.sets()))} sets. Written: {out}")


def _named(option: str, texts: list[str] | None) -> dict[str, Path]:
    """NAME=DIR options."""
    found: dict[str, Path] = {}
    for text in texts or []:
        called, place = named(option, text)
        if called in found:
            raise InputError(f"There are two OOD sets called {called!r}. Give each a name of its own.")
        found[called] = Path(place)
    return found

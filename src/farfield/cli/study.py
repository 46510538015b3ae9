"""`farfield study`: many classifiers, every detector; which to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from farfield.cli.app import (
    BatchSize,
    ClassMap,
    Limit,
    Open,
    RandomWeights,
    Strict,
    Workers,
    app,
    check_file,
    command_line,
    make_folder,
    pick_device,
    progress_bar,
    say,
    show,
    talk,
)
from farfield.cli.bench import Given, check_suites, own_jobs, suite_jobs, suite_names, suite_of
from farfield.errors import InputError

SAME = (
    "suite",
    "id_train",
    "id_cal",
    "id_test",
    "near",
    "far",
    "shifted",
    "name",
    "root",
    "class_map",
    "preprocess",
    "random_weights",
    "limit",
)


@app.command()
def study(
    pool: Annotated[list[str] | None, typer.Argument(help="Classifiers: names, as `farfield bench --model` takes them; 'timm:PATTERN' with * or ?; a text file with a name a line; a CSV file with a column `model` and any others; a folder of runs.")] = None,
    suite: Annotated[str | None, typer.Option(help="A suite by name (`farfield data list`), or a TOML file that says one.  [default: glyphs-200]")] = None,
    detector: Annotated[list[str] | None, typer.Option(help="A detector, as `knn:k=10` or `react:q=90+energy`; those of `farfield bench` by default. Repeat it.")] = None,
    id_train: Annotated[str | None, typer.Option(help="ID training data, to fit on, as `farfield bench` takes them.")] = None,
    id_cal: Annotated[str | None, typer.Option(help="ID data the models were not trained on, for detectors that calibrate.")] = None,
    id_test: Annotated[str | None, typer.Option(help="ID test data: your own in place of a suite.")] = None,
    near: Annotated[list[str] | None, typer.Option(help="NAME=DATA: OOD data like the ID data. Repeat it.")] = None,
    far: Annotated[list[str] | None, typer.Option(help="NAME=DATA: OOD data unlike the ID data. Repeat it.")] = None,
    shifted: Annotated[list[str] | None, typer.Option(help="NAME=DATA: the ID classes in another look. Repeat it.")] = None,
    name: Annotated[str | None, typer.Option(help="What tables call your own data.")] = None,
    unit: Annotated[str | None, typer.Option(help="A column of metadata: pairs with the same value of it count as one in effects, as fine-tunings of one pretraining do.")] = None,
    preprocess: Annotated[str | None, typer.Option("--preprocess", help="In place of the models' own or the suite's; or `model` for the models' own.")] = None,
    class_map: ClassMap = None,
    root: Annotated[Path | None, typer.Option(help="The folder of a suite's data, or the one that paths in image lists are relative to.")] = None,
    limit: Limit = None,
    out: Annotated[Path, typer.Option(help="Where all is kept; what is there is not done again.")] = Path("farfield-study"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    strict: Strict = False,
    random_weights: RandomWeights = False,
    keep_outputs: Annotated[bool, typer.Option("--keep-outputs", help="Keep what each classifier said of every picture; by default that goes when its scores are there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print study.json to stdout instead of tables.")] = False,
    open_: Open = False,
) -> None:  # fmt: skip
    """Which classifier knows its limits? Every detector on each of many classifiers, in one pass over the data each.

    `farfield study runs/` compares what you trained; `farfield study 'timm:vit_*augreg*' --suite ninco --root data` what others did. One that fails is a row with
    its reason, and the study goes on; a study that was stopped goes on too.
    """
    from farfield import study as room
    from farfield.detectors import DEFAULTS, parse
    from farfield.detectors.compose import check_ranges

    said: dict[str, Any] = {
        "suite": [suite] if suite else None, "id_train": id_train, "id_cal": id_cal, "id_test": id_test, "near": near, "far": far, "shifted": shifted, "name": name,
        "preprocess": preprocess, "class_map": class_map, "root": root, "limit": limit, "random_weights": random_weights,
    }  # fmt: skip
    options = {key: value for key, value in said.items() if value is not None and value is not False and value != []}
    fitters = {text: parse(text) for text in detector or DEFAULTS}
    for fitter in fitters.values():
        check_ranges(fitter)
    entries = room.pool(pool or [])
    room.columns_of(entries)
    room.check_unit([entry.metadata for entry in entries], unit)
    where = pick_device(device)
    jobs_of = _data(options, where)
    make_folder(out)
    check_file(out / "study.html")
    about = {"detectors": list(fitters), **{key: _plain(options[key]) for key in SAME if key in options}, **({"strict": True} if strict else {})}
    with progress_bar() as step:
        found = room.run(
            entries,
            jobs_of,
            fitters,
            out=out,
            options=room.Options(batch_size, workers, strict, keep_outputs, about),
            progress=step,
            each=_told(len(entries)),
        )
    value = room.value_of(found, list(fitters), out, unit=unit, settings=about, command=command_line())
    paths, lacking = room.write(value, out)
    if json:
        typer.echo(room.to_json(value))
    else:
        console = Console()
        console.print(room.shown(value, console.width))
    cost = value["cost"]
    say(f"{cost['seconds']:.1f} s over all classifiers, {cost['forward_seconds']:.1f} s of it in them. Written: {', '.join(map(str, paths))}")
    if lacking:
        say(lacking)
    if open_:
        show(paths[-1])


def _data(options: Mapping[str, Any], device: str) -> Callable[[str], Sequence[Any]]:
    """From a classifier to the suite and it; raises, before any is loaded, where the data are at fault."""
    from farfield.outputs import Outputs
    from farfield.store import Stored

    given = Given(options)
    if given.text("id_test"):
        ((suite, _),) = own_jobs(Given({key: value for key, value in options.items() if key not in ("preprocess", "random_weights")}), device)
        loads = {**suite.splits, **{ood.name: ood.load for ood in suite.ood}}
        if told := next((name for name, load in loads.items() if isinstance(load(), Outputs | Stored)), None):
            raise InputError(f"A study runs classifiers over pictures, and what one said of {told} was given. Give pictures.")
        return lambda model: own_jobs(Given({**options, "model": [model]}), device)
    check_suites(given)
    for suite in suite_names(given):
        suite_of(given, suite)
    return lambda model: suite_jobs(Given({**options, "model": [model]}), device)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | list) else str(value)


def _told(total: int) -> Callable[[Any, int, str], None]:
    """Says of each classifier that failed why, and where there is no bar to see, of each that it is done."""

    def tell(done: Any, number: int, ahead: str) -> None:
        if done.reason:
            say(f"{done.entry.name}: {done.reason}", style="yellow")
        elif not talk.is_terminal:
            say(f"{number} of {total}, {done.entry.name}: {done.seconds:.1f} s{ahead and f'; {ahead}'}")

    return tell


__all__ = ["study"]

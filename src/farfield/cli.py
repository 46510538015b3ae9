"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from farfield.errors import FarfieldWarning, InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
talk = Console(stderr=True, highlight=False)
STOPPED = 130  # the exit status of Ctrl-C, as typer has it
_debug = False


@app.callback(invoke_without_command=True)
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Out-of-distribution detection on image classifiers: measure it, mend it, ship it."""
    global _debug
    _debug = debug
    if version:
        from farfield import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def bench(
    suite: Annotated[list[str] | None, typer.Option(help="A suite: glyphs-200 or glyphs-1000. Repeat it for more.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A classifier; by default those that ship for the suite. Repeat it for more.")] = None,
    detector: Annotated[list[str] | None, typer.Option(help="A detector, as `knn:k=10` or `react:q=90+energy`; all by default. Repeat it.")] = None,
    out: Annotated[Path, typer.Option(help="Where results, scores and stored outputs go.")] = Path("farfield-out"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in a forward pass.")] = 256,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load pictures.")] = 0,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Do not fetch the weights of timm models: a dry run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print results.json to stdout instead of tables.")] = False,
) -> None:
    """How well do detectors tell in-distribution images from others?

    Without arguments: the embedded Glyphs suite with 200 classes, its three classifiers, all detectors. A second run reuses what the first stored.
    """
    from farfield import benchmark, models, report
    from farfield.classifier import Classifier
    from farfield.data import suites
    from farfield.detectors import DEFAULTS, parse

    fitters = {text: parse(text) for text in detector or DEFAULTS}
    where = pick_device(device)
    jobs = []
    for name in suite or ["glyphs-200"]:
        chosen = suites.load(name)
        names = model or [shipped for shipped in models.SHIPPED if shipped.startswith(f"{name}-")]
        jobs.append((chosen, [Classifier.load(n, device=where, random_weights=random_weights) for n in names]))
    make_folder(out)
    with progress_bar() as step:
        results = benchmark.run(jobs, fitters, out=out, batch_size=batch_size, workers=workers, progress=step)
    value = results.plain()
    paths = report.write(value, out)
    if json:
        typer.echo(report.to_json(value))
    else:
        console = Console()
        console.print(report.tables(value, console.width))
    cost = value["cost"]
    talk.print(f"{cost['total_seconds']:.1f} s, {cost['forward_seconds']:.1f} s of it in the classifiers. Written: {', '.join(map(str, paths))}")


def pick_device(name: str) -> str:
    """The device a name means here; `auto` is the fastest there is."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"There is no device {name!r} here ({str(error).splitlines()[0]}). Use auto or cpu.") from error
    return name


def make_folder(path: Path) -> None:
    """Makes the output folder, or says why it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {path} cannot be made: {error.strerror or error}. Give another with --out.") from error


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr; yields what library functions call with a description, how much is done, and how much there is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def step(what: str, done: int, total: int) -> None:
            bar.update(task, description=escape(what), completed=done, total=total)

        yield step


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, FarfieldWarning):
        talk.print(f"warning: {message}", style="yellow", markup=False)


def main() -> None:
    """The entry point: an input error is one line and status 2, our own is status 1."""
    warnings.simplefilter("always", FarfieldWarning)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        app()
    except InputError as error:
        if _debug:
            traceback.print_exc()
        talk.print(f"farfield: {error}", markup=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == STOPPED:
            talk.print("farfield: stopped. What is stored stays; run the same command to go on.")
        raise
    except Exception as error:
        if _debug:
            traceback.print_exc()
        talk.print(
            f"farfield: {type(error).__name__}: {error}\nThis is a fault in Farfield. Run it again with --debug for the traceback.", markup=False
        )
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The application and its edges: what an error looks like, the progress bar, warnings, and what several commands share."""

from __future__ import annotations

import io
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from farfield.errors import FarfieldWarning, InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
talk = Console(stderr=True, highlight=False)
STOPPED = 130  # the exit status of Ctrl-C
GOES_ON = "farfield: stopped. What is stored stays; run the same command to go on."
_debug = False
_warned: set[str] = set()

# What several commands take.
ModelName = Annotated[
    str | None, typer.Option("--model", help="zoo:NAME, timm:NAME, torchvision:NAME[:WEIGHTS], hf:NAME, python:module:function, a file or folder of Farfield's, or a name that ships.")
]  # fmt: skip
Weights = Annotated[
    Path | None, typer.Option(help="Your own weights for a zoo:, timm: or torchvision: model: safetensors, a checkpoint of tensors, or Google's npz.")
]
PreprocessText = Annotated[
    str | None, typer.Option("--preprocess", help="In place of the model's own: resize=256,crop=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5.")
]
ClassMap = Annotated[Path | None, typer.Option(help="Which class each folder is: a name a line in the model's order, `name,index` lines, or JSON.")]
Root = Annotated[Path | None, typer.Option(help="The folder that the paths in image lists are relative to; by default each list's own.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many samples of each set, spread over it.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps, ...")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Pictures in a forward pass; 256 small ones or 64 by default.")]
Workers = Annotated[int | None, typer.Option(min=0, max=256, help="Processes that load pictures; up to 8 for files by default.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first picture that cannot be read, instead of leaving it out.")]
Open = Annotated[bool, typer.Option("--open", help="Open the report in a browser.")]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Do not fetch weights: a dry run.")]


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


def load_classifier(
    name: str, *, weights: Path | None = None, preprocess: str | None = None, random_weights: bool = False, device: str = "cpu"
) -> Any:
    """The classifier that a command's options describe."""
    from farfield.classifier import Classifier
    from farfield.data.transforms import Preprocess

    transform = None if preprocess is None else Preprocess.parse(preprocess)
    given = None if weights is None else str(weights)
    return Classifier.load(name, weights=given, transform=transform, random_weights=random_weights, device=device)


def pick_device(name: str) -> str:
    """The device a name means here; `auto` is the fastest there is."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except Exception as error:  # each kind of device has its own way to be missing
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"There is no device {name!r} here ({first[:120]}). Use auto or cpu.") from error
    return name


def named(option: str, text: str) -> tuple[str, str]:
    """The name and the data that a NAME=DATA says."""
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise InputError(f"--{option} takes NAME=DATA, as --{option} birds=photos/birds; got {text!r}.")
    return name, place


def check_file(path: Path) -> None:
    """Raises where a file to write is a folder, or a device, which a new file would replace."""
    if path.is_dir() or not path.name or (path.exists() and not path.is_file()):
        raise InputError(f"{str(path)!r} is no file that can be written: something else is there. Give another with --out.")


def make_folder(path: Path, option: str = "--out") -> None:
    """Makes an output folder, or says why it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"The folder {path} cannot be made: {getattr(error, 'strerror', None) or error}. Give another with {option}.") from error


def command_line() -> str:
    """What was typed, to be typed again."""
    return shlex.join(["farfield", *sys.argv[1:]])


def show(path: Path) -> None:
    """Opens a page in a browser, or says that there is none."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        say(f"There is no browser to open {path} with here.")


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr; yields what library functions call with a description, how much is done, and how much there is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def step(what: str, done: int, total: int) -> None:
            bar.update(task, description=escape(printable(what)), completed=done, total=total)

        yield step


def printable(text: str) -> str:
    """Text without what would move a terminal's cursor or start a line: a file's name may have anything in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def say(message: object, style: str | None = None) -> None:
    """One line on stderr."""
    talk.print(printable(str(message)), style=style, markup=False, soft_wrap=True)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """Says a warning, once: a picture that cannot be read is met at every pass over its set."""
    if issubclass(category, FarfieldWarning) and str(message) not in _warned:
        _warned.add(str(message))
        say(f"warning: {message}", style="yellow")


def main() -> None:
    """The entry point: an input error is one line and status 2, our own fault is status 1."""
    _warned.clear()
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", FarfieldWarning)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    """Runs the command; its exit status."""
    try:
        command = typer.main.get_command(app)
        status = command.main(prog_name="farfield", standalone_mode=False)
        sys.stdout.flush()
        if status == STOPPED:  # typer has caught Ctrl-C itself
            return _fail(GOES_ON, STOPPED)
        return status if isinstance(status, int) else 0
    except InputError as error:
        return _fail(f"farfield: {error}", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(GOES_ON, STOPPED)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        told: Callable[[], str] | None = getattr(error, "format_message", None)  # a usage error of the parser's
        if told is not None:
            text = told().strip()
            return _fail(f"farfield: {text}{'' if text[-1] in '.?' else '.'} Try `farfield --help`.", 2) if text else 2
        full = _full_disk(error)
        if full is not None:
            return _fail(f"farfield: {full}", 2)
        return _fail(f"farfield: {type(error).__name__}: {error}. This is a fault in Farfield; run it again with --debug for the traceback.", 1)


def _full_disk(error: Exception) -> str | None:
    """What to say of an error of the operating system that is no fault of ours."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}. What is stored stays; mend that and run the same command again."
    return None


def _fail(message: str, status: int) -> int:
    if _debug:
        traceback.print_exc()
    say(message)
    return status

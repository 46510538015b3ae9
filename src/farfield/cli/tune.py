"""`farfield tune`: which options a detector is to have, chosen on data that no result is of."""

from __future__ import annotations

import json as jsonlib
import re
import shlex
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from farfield.cli.app import (
    BatchSize,
    ClassMap,
    Device,
    Limit,
    ModelName,
    PreprocessText,
    RandomWeights,
    Root,
    Strict,
    Weights,
    Workers,
    app,
    check_file,
    command_line,
    load_classifier,
    make_folder,
    named,
    pick_device,
    printable,
    progress_bar,
    say,
)
from farfield.cli.detect import STORE, Store
from farfield.data.images import OODSet, Suite
from farfield.errors import InputError

SHOWN = 10  # trials in the table


class Metric(StrEnum):
    """By which figure trials are compared."""

    auroc = "auroc"
    fpr = "fpr"


@app.command()
def tune(
    detector: Annotated[str, typer.Argument(help="A detector, as `knn` or `react+energy`. An option that is given, as in `knn:k=10`, is not searched.")],
    suite: Annotated[str | None, typer.Option(help="A suite: its training and calibration data and its validation OOD sets.")] = None,
    id_train: Annotated[str | None, typer.Option(help="ID training data, to fit on, in place of a suite: a folder with a sub-folder a class, a list, arrays, hf:NAME:SPLIT.")] = None,
    id_cal: Annotated[str | None, typer.Option(help="ID calibration data, likewise: of the test's source, but no test data.")] = None,
    ood: Annotated[list[str] | None, typer.Option(help="NAME=DATA: validation OOD data, of another source than your test sets. Repeat it.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="NAME=DATA: a test set, to be held apart from; it is not scored. Repeat it.")] = None,
    values: Annotated[list[str] | None, typer.Option(help="OPTION=VALUE,VALUE,...: in place of the usual values, as k=10,50,100. Repeat it.")] = None,
    metric: Annotated[Metric, typer.Option(help="What is compared, on the mean of the sets.")] = Metric.auroc,
    allow: Annotated[list[str] | None, typer.Option(help="A validation set that may share samples with other data. Repeat it.")] = None,
    model: ModelName = None,
    weights: Weights = None,
    preprocess: PreprocessText = None,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="The file that records every trial.  [default: farfield-out/tune-DETECTOR.json]")] = None,
    store: Store = STORE,
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    strict: Strict = False,
    random_weights: RandomWeights = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record to stdout instead of a table.")] = False,
) -> None:  # fmt: skip
    """Tries a grid of options on calibration data and validation OOD sets; the default stays unless another is significantly better.

    `farfield tune knn --suite glyphs-200 --model glyphs-200-resnet`

    Your own: `farfield tune knn --model timm:resnet18 --id-train DIR --id-cal DIR --ood textures=DIR --test birds=DIR`. Data to choose by that
    share a sample with a test set are refused.
    """
    from farfield import choose
    from farfield.benchmark.gather import Passing, check_sizes, classes_of, gather
    from farfield.detectors import parse
    from farfield.detectors.compose import check_ranges, title
    from farfield.outputs import Outputs
    from farfield.store import Stored

    fitter = parse(detector)
    check_ranges(fitter)
    tried = _values(fitter, values or [])
    choose.grid(fitter, tried, classes=1)  # whatever the number of classes, there are no fewer trials
    called = title(fitter, choose.NAMES)
    path = out or Path("farfield-out") / f"tune-{re.sub(r'[^A-Za-z0-9_.+=,-]+', '_', called)}.json"
    check_file(path)
    given = {"--weights": weights, "--preprocess": preprocess, "--random-weights": random_weights or None}
    if model is None and (needless := next((option for option, value in given.items() if value is not None), None)):
        raise InputError(f"{needless} is of a model, and none is named with --model.")
    load = partial(load_classifier, weights=weights, preprocess=preprocess, random_weights=random_weights, device=pick_device(device))
    own = {"--id-train": id_train, "--id-cal": id_cal, "--ood": ood, "--test": test, "--class-map": class_map, "--limit": limit}
    if suite is not None:
        if double := next((option for option, value in own.items() if value), None):
            raise InputError(f"{double} and --suite exclude each other: a suite has its own data.")
        classifier, data, tests = _of_suite(suite, model, load, root, allow or [], preprocess is None)
    else:
        classifier, data, tests = _own(id_train, id_cal, ood or [], test or [], model, load, class_map, root, limit)
    pictures = {name: entry for name, entry in _sets(data).items() if not isinstance(entry, Outputs | Stored)}
    shown = {name: entry for name, entry in tests.items() if not isinstance(entry, Outputs | Stored)}
    mine = {name: entry for name, entry in pictures.items() if name != "train"}
    if shown and len(pictures) < len(_sets(data)):
        raise InputError(
            f"The test set {next(iter(shown))!r} is pictures and other data are arrays, so they cannot be compared. Give all in one form."
        )
    allowed = [name for name in allow or [] if name in mine]
    let_through = choose.hold_apart(mine, {name: entry for name, entry in {**pictures, **shown}.items() if name != "train"}, allowed)
    make_folder(path.parent)
    with progress_bar() as step:
        loaders = {name: data.splits[name] for name in ("train", "calibration")} | {entry.name: entry.load for entry in data.ood}
        gathered = gather(classifier, data, loaders, Passing(store, {}, batch_size, workers, strict, step))
        check_sizes(data, gathered, classes_of(classifier, gathered))
        found = choose.tune(
            fitter,
            gathered["train"].outputs,
            gathered["calibration"].outputs,
            {entry.name: gathered[entry.name].outputs for entry in data.ood},
            values=tried,
            metric=metric.value,
            test={name: entry for name, entry in tests.items() if name not in shown},
            allow=allow or [],
            let_through=let_through,
            out=path,
            command=command_line(),
            progress=step,
        )
    assert found.chosen is not None
    chosen = found.trials[found.chosen].detector
    if json:
        typer.echo(jsonlib.dumps(found.plain(), indent=1))
    else:
        console = Console()
        console.print(f"{found.n_id:,} calibration samples; percent, ± the farther end of the 95 % interval", highlight=False)
        console.print(_table(found), "")
        place = "" if root is None else f" --root {shlex.quote(str(root))}"
        where = f" --suite {suite}{place} --model {shlex.quote(model or '')}" if suite is not None else ""
        console.print(printable(found.reason), markup=False, highlight=False)
        console.print(f"farfield bench{where} --detector {shlex.quote(chosen)}", markup=False, highlight=False, soft_wrap=True)
    refused = sum(trial.refused is not None for trial in found.trials)
    say(f"{len(found.trials)} trials{f', {refused} of them refused' if refused else ''}. Written: {path}")


def _values(fitter: Any, texts: list[str]) -> dict[str, list[Any]]:
    """What `--values` say."""
    from farfield.detectors.compose import value_of

    found: dict[str, list[Any]] = {}
    for text in texts:
        option, equals, rest = text.partition("=")
        if not (option and equals and rest):
            raise InputError(f"--values takes OPTION=VALUE,VALUE,..., as --values k=10,50,100; got {text!r}.")
        if option in found:
            raise InputError(f"--values has {option} twice. Give all of its values at once.")
        found[option] = [value_of(fitter, option, value.strip()) for value in rest.split(",")]
    return found


def _of_suite(
    name: str, model: str | None, load: Any, root: Path | None, allowed: list[str], as_published: bool
) -> tuple[Any, Suite, dict[str, Any]]:
    """A suite as `tune` wants it: its validation sets in place of its test sets; and those."""
    from farfield import models
    from farfield.cli.bench import published_for
    from farfield.data import suites

    if root is not None and name in suites.SUITES:
        raise InputError(f"--root and --suite {name} exclude each other: it is drawn on the spot.")
    chosen = suites.load(name, root)
    if not chosen.validation or "calibration" not in chosen.splits:
        raise InputError(f"{name} has no calibration data or no validation sets. Give your own: --id-train, --id-cal and --ood.")
    for entry in chosen.validation:
        if entry.shares and entry.name not in allowed:
            raise InputError(
                f"The validation set {entry.name!r} of {name} is of the source of its test set {entry.shares[0]!r}, so that what is chosen on it is "
                f"chosen on the test's kind. Allow it by name with --allow {entry.name}, or give data of another source with --id-train, --id-cal and --ood."
            )
    if model is None:
        shipped = [shipped for shipped in models.SHIPPED if shipped.startswith(f"{name}-")]
        raise InputError(f"Options are chosen for one classifier: name it with --model{', as ' + ' or '.join(shipped) if shipped else ''}.")
    classifier = load(model)
    preprocess = None if name in suites.SUITES else suites.definition(name).preprocess
    if as_published and preprocess is not None:
        published_for(classifier, model, preprocess)
    if classifier.classes != len(chosen.classes):
        raise InputError(
            f"{classifier.name} has {classifier.classes} classes and {name} has {len(chosen.classes)}; it was trained for another suite."
        )
    tests = {"test": chosen.split("test"), **{entry.name: entry.load() for entry in chosen.ood}}
    return classifier, replace(chosen, ood=chosen.validation, validation=()), tests


def _own(
    id_train: str | None,
    id_cal: str | None,
    ood: list[str],
    test: list[str],
    model: str | None,
    load: Any,
    class_map: Path | None,
    root: Path | None,
    limit: int | None,
) -> tuple[Any, Suite, dict[str, Any]]:
    """A person's own data likewise; all of them are looked at before anything runs."""
    from farfield import choose, inputs
    from farfield.data.order import read_class_map
    from farfield.outputs import Outputs
    from farfield.store import Stored

    if id_train is None or id_cal is None or not ood:
        missing = "--id-train" if id_train is None else "--id-cal" if id_cal is None else "--ood NAME=DATA"
        raise InputError(f"{missing} is missing: give --id-train, --id-cal and --ood, or --suite.")
    order = None if class_map is None else read_class_map(class_map)
    places = [named("ood", text) for text in ood], [named("test", text) for text in test]
    choose.check_names(*([name for name, _ in pairs] for pairs in places))
    splits: dict[str, Any] = {
        "train": inputs.open_data(id_train, name="train", labelled=True, root=root),
        "calibration": inputs.unlabelled(inputs.open_data(id_cal, name="calibration", root=root)),
    }
    sets, tests = (
        {
            name: inputs.unlabelled(inputs.limited(inputs.open_data(place, name=name, root=root), limit if side == 0 else None))
            for name, place in pairs
        }
        for side, pairs in enumerate(places)
    )
    every = [*splits.values(), *sets.values()]
    if model is not None and all(isinstance(data, Outputs | Stored) for data in every):
        raise InputError("The data are what a classifier said already, so --model does nothing. Leave it out.")
    classifier = None if model is None else load(model)
    if classifier is not None:
        splits["train"] = inputs.labelled_data(splits["train"], classifier.classes, classifier.labels, order)
    loaders = {name: partial(_as_it_is, inputs.limited(data, limit)) for name, data in splits.items()}
    own = tuple(OODSet(name, "far", partial(_as_it_is, data)) for name, data in sets.items())
    return classifier, Suite("your data", (), {}, loaders, own, (), ""), tests


def _as_it_is(data: Any) -> Any:
    return data


def _sets(data: Suite) -> dict[str, Any]:
    """What is fitted and scored, by name."""
    return {**{name: data.splits[name]() for name in ("train", "calibration")}, **{entry.name: entry.load() for entry in data.ood}}


def _table(found: Any) -> Table:
    """The best trials and the default: means, then AUROC set by set."""
    from farfield.choose import goodness

    names = list(found.n_ood)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("detector", "mean AUROC", "mean FPR", *(names if len(names) > 1 else ()), ""):
        table.add_column(Text(printable(column)), justify="left" if column in ("detector", "") else "right", no_wrap=True)
    ranked = sorted((place for place, trial in enumerate(found.trials) if trial.mean), key=lambda place: -goodness(found.trials[place], found.metric))
    for place in dict.fromkeys([*ranked[:SHOWN], *(place for place in ranked if place in (0, found.chosen))]):
        trial = found.trials[place]
        sets = [f"{100 * figures.auroc:.1f}" for figures in trial.sets.values()] if len(names) > 1 else []
        mark = ", ".join(word for word, index in (("default", 0), ("chosen", found.chosen)) if place == index)
        mean = [_with_end(trial.mean, "auroc"), _with_end(trial.mean, "fpr_at_95_tpr_id")]
        table.add_row(Text(printable(trial.detector)), *mean, *sets, mark)
    return table


def _with_end(figures: Any, name: str) -> str:
    """A figure and the farther end of its interval."""
    value, (low, high) = getattr(figures, name), getattr(figures, f"{name}_interval")
    return f"{100 * value:.1f} ±{100 * max(high - value, value - low):.1f}"

"""`farfield bench`: how well detectors tell in-distribution images from others."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
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
    Weights,
    Workers,
    app,
    check_file,
    command_line,
    load_classifier,
    make_folder,
    named,
    pick_device,
    progress_bar,
    say,
    show,
)
from farfield.data.images import Group, OODSet, Suite
from farfield.errors import InputError, nearest

GROUPS: tuple[Group, ...] = ("near", "far", "shifted")
ELSEWHERE = ("timm", "torchvision", "hf")  # models that a suite's preprocessing is meant for


@app.command()
def bench(
    suite: Annotated[list[str] | None, typer.Option(help="A suite by name (`farfield data list`), or a TOML file that says one. Repeat it for more.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A classifier: zoo:NAME, timm:NAME, torchvision:NAME[:WEIGHTS], hf:NAME, python:module:function, a file or folder of Farfield's, or one that ships. Repeat it for more.")] = None,
    detector: Annotated[list[str] | None, typer.Option(help="A detector, as `knn:k=10` or `react:q=90+energy`; all by default. Repeat it.")] = None,
    id_train: Annotated[str | None, typer.Option(help="ID training data, to fit on: a folder with a sub-folder a class, a list, arrays, hf:NAME:SPLIT.")] = None,
    id_cal: Annotated[str | None, typer.Option(help="ID data the model was not trained on, for detectors that calibrate; else a fifth of the ID test data.")] = None,
    id_test: Annotated[str | None, typer.Option(help="ID test data, likewise: your own data in place of a suite.")] = None,
    near: Annotated[list[str] | None, typer.Option(help="NAME=DATA: OOD data like the ID data. Repeat it.")] = None,
    far: Annotated[list[str] | None, typer.Option(help="NAME=DATA: OOD data unlike the ID data. Repeat it.")] = None,
    shifted: Annotated[list[str] | None, typer.Option(help="NAME=DATA: the ID classes in another look. Repeat it.")] = None,
    name: Annotated[str | None, typer.Option(help="What tables call your own data.")] = None,
    weights: Weights = None,
    preprocess: Annotated[str | None, typer.Option("--preprocess", help="In place of the model's own or the suite's: resize=256,crop=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5; or `model` for the model's own.")] = None,
    class_map: ClassMap = None,
    root: Annotated[Path | None, typer.Option(help="The folder of a suite's data [default: $FARFIELD_DATA, else `data`]; or the one that paths in image lists are relative to.")] = None,
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="Where results, scores and stored outputs go.  [default: farfield-out]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps, ...  [default: auto]")] = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    strict: Strict = False,
    random_weights: RandomWeights = False,
    config: Annotated[Path | None, typer.Option(help="A TOML file with these options by name; `near`, `far` and `shifted` are tables. What is said here comes first.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results.json to stdout instead of tables.")] = False,
    open_: Open = False,
) -> None:  # fmt: skip
    """How well do detectors tell in-distribution images from others?

    Without arguments: the embedded Glyphs suite with 200 classes, its three classifiers, all detectors. A second run reuses what the first stored.

    A published suite: `farfield bench --suite openood-v1.5-imagenet --root DIR --model torchvision:resnet50`; `farfield data verify` says whether its data are there.

    Your own: `farfield bench --model timm:resnet18 --id-train DIR --id-test DIR --near birds=DIR --far noise=DIR`.
    """
    from farfield import benchmark, report
    from farfield.detectors import DEFAULTS, parse
    from farfield.detectors.compose import check_ranges

    said: dict[str, Any] = {
        "suite": suite, "model": model, "detector": detector, "id_train": id_train, "id_cal": id_cal, "id_test": id_test, "near": near, "far": far, "shifted": shifted,
        "name": name, "weights": weights, "preprocess": preprocess, "class_map": class_map, "root": root, "limit": limit, "out": out,
        "device": device, "batch_size": batch_size, "workers": workers, "strict": strict, "random_weights": random_weights,
    }  # fmt: skip
    options = {key: value for key, value in said.items() if value is not None and value is not False and value != []}
    if config is not None:
        options = {**read_config(config), **options}
    given = Given(options)
    folder = Path(given.text("out", "farfield-out"))
    fitters = {text: parse(text) for text in given.several("detector") or DEFAULTS}
    for fitter in fitters.values():
        check_ranges(fitter)
    where = pick_device(given.text("device", "auto"))
    jobs = own_jobs(given, where) if given.text("id_test") else suite_jobs(given, where)
    make_folder(folder)
    check_file(folder / "report.html")
    with progress_bar() as step:
        results = benchmark.run(
            jobs,
            fitters,
            out=folder,
            batch_size=options.get("batch_size"),
            workers=options.get("workers"),
            strict=bool(options.get("strict")),
            command=command_line(),
            progress=step,
            each=lambda so_far: report.write(so_far.plain(), folder),
        )
    value = results.plain()
    paths = report.write(value, folder)
    if json:
        typer.echo(report.to_json(value))
    else:
        console = Console()
        console.print(report.tables(value, console.width))
    with progress_bar() as step:
        paths.append(report.write_page(value, folder, step))
    cost = value["cost"]
    say(f"{cost['total_seconds']:.1f} s, {cost['forward_seconds']:.1f} s of it in the classifiers. Written: {', '.join(map(str, paths))}")
    if open_:
        show(paths[-1])


# The options a TOML file may have, each with the type of its value; a table or a list for those that may be repeated.
OPTIONS: dict[str, type] = {
    **dict.fromkeys(("suite", "model", "detector", *GROUPS), list),
    **dict.fromkeys(("id_train", "id_cal", "id_test", "name", "weights", "preprocess", "class_map", "root", "out", "device"), str),
    **dict.fromkeys(("limit", "batch_size", "workers"), int),
    **dict.fromkeys(("strict", "random_weights"), bool),
}
_RANGES = {"limit": (1, 10**10), "batch_size": (1, 10**6), "workers": (0, 256)}


def read_config(path: Path) -> dict[str, Any]:
    """The options in a TOML file, under the names that `bench` has for them.

    Raises:
        InputError: when it cannot be read, or has an unknown name or a value of another kind.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The file {path} cannot be read as TOML: {str(error) or type(error).__name__}.") from error
    options: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in OPTIONS:
            known = [option.replace("_", "-") for option in OPTIONS]
            raise InputError(f"{path} has an unknown key {key!r}{nearest(name.replace('_', '-'), known)} Known: {', '.join(known)}.")
        options[name] = _typed(path, key, name, value)
    return options


def _typed(path: Path, key: str, name: str, value: Any) -> Any:
    kind = OPTIONS[name]
    if kind is list:
        if name in GROUPS and isinstance(value, dict) and all(isinstance(part, str) for part in value.values()):
            return [f"{set_name}={place}" for set_name, place in value.items()]
        if isinstance(value, str):
            return [value]
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return value
        raise InputError(f"{path}: {key!r} takes {'a table of NAME = DATA' if name in GROUPS else 'a text or a list of texts'}; got {value!r:.80}.")
    low, high = _RANGES.get(name, (0, 0))
    if type(value) is not kind or (isinstance(value, int) and kind is int and not low <= value <= high):
        kinds = {str: "a text", int: f"a whole number from {low} to {high}", bool: "true or false"}
        raise InputError(f"{path}: {key!r} takes {kinds[kind]}; got {value!r:.80}.")
    return value


class Given:
    """The options of a run, from the command line and the file."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def text(self, name: str, default: str = "") -> str:
        """An option that is one text."""
        return str(self.options.get(name, default))

    def path(self, name: str) -> Path | None:
        """An option that is a path."""
        return Path(self.text(name)) if name in self.options else None

    def several(self, name: str) -> Sequence[str]:
        """An option that may be repeated."""
        return list(self.options.get(name, []))

    def flag(self, name: str) -> bool:
        """An option that is yes or no."""
        return bool(self.options.get(name))


def _classifiers(given: Given, names: Sequence[str], device: str, preprocess: str | None = None) -> list[Any]:
    """The classifiers of those names; `preprocess` is a suite's, for models from elsewhere, which keep their own mean and deviation."""
    if given.path("weights") is not None and len(names) > 1:
        raise InputError(f"--weights are of one model, and there are {len(names)}: {', '.join(names)}. Run each by itself.")
    said = given.text("preprocess") or None
    made = [
        load_classifier(
            name,
            weights=given.path("weights"),
            preprocess=None if said == "model" else said,
            random_weights=given.flag("random_weights"),
            device=device,
        )
        for name in names
    ]
    if said is None and preprocess is not None:
        for classifier, name in zip(made, names, strict=True):
            published_for(classifier, name, preprocess)
    return made


def published_for(classifier: Any, name: str, preprocess: str) -> None:
    """Gives a model from elsewhere a suite's preprocessing; others have their own."""
    if name.partition(":")[0] in ELSEWHERE:
        classifier.transform = _as_published(classifier, preprocess)


def _as_published(classifier: Any, preprocess: str) -> Any:
    """A suite's size and crop, with the mean and deviation that the model was trained with, where its own transform tells them."""
    import torch

    from farfield.data.transforms import Preprocess
    from farfield.recipes.views import normalization

    published = Preprocess.parse(preprocess)
    try:
        own = normalization(classifier.transform, classifier.name)
        published = replace(published, mean=own.mean, std=own.std)
    except InputError:
        pass
    try:
        with torch.no_grad():
            classifier.outputs(torch.zeros(1, 3, published.crop, published.crop, device=classifier.device))
    except Exception as error:  # each architecture has its own way to say that it takes one size
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{classifier.name} does not take the {published.crop} x {published.crop} pixels that the suite's preprocessing makes ({first[:120]}). "
            "Keep the model's own with --preprocess model, or give another."
        ) from error
    return published


def suite_jobs(given: Given, device: str) -> list[tuple[Any, list[Any]]]:
    """Suites by name or file, each with its classifiers."""
    check_suites(given)
    return [_suite_job(given, name, device) for name in suite_names(given)]


def suite_names(given: Given) -> Sequence[str]:
    """The suites that are named, or the embedded one."""
    return given.several("suite") or ["glyphs-200"]


def check_suites(given: Given) -> None:
    """Raises where an option does not go with suites."""
    from farfield.data import suites

    for option in ("id_train", "id_cal", *GROUPS, "class_map", "name"):
        if option in given.options:
            raise InputError(f"--{option.replace('_', '-')} goes with your own data, which needs --id-test too.")
    if given.path("root") is not None and (drawn := [name for name in suite_names(given) if name in suites.SUITES]):
        raise InputError(f"--root is where a suite's data lie, and {drawn[0]} is drawn on the spot. Leave it out.")


def _suite_job(given: Given, name: str, device: str) -> tuple[Any, list[Any]]:
    from farfield import models
    from farfield.data import suites

    models_named = given.several("model")
    if not models_named and name in suites.SUITES:
        models_named = [shipped for shipped in models.SHIPPED if shipped.startswith(f"{name}-")]
    elif not models_named:
        found = suites.definition(name)
        classes = len(suites.load(name, given.path("root")).classes)
        meant = f": {found.models.rstrip('.')}" if found.models else f" of its {classes} classes"
        raise InputError(f"{found.name} needs a classifier{meant}. Name one with --model.")
    suite, preprocess = suite_of(given, name)
    return suite, _classifiers(given, models_named, device, preprocess)


def suite_of(given: Given, name: str) -> tuple[Suite, str | None]:
    """A suite by name or file, and the preprocessing it was published with; its sets are there."""
    from farfield import inputs
    from farfield.data import suites

    chosen, preprocess = suites.load(name, given.path("root")), None
    if name not in suites.SUITES:
        found = suites.definition(name)
        preprocess = found.preprocess
        _check_there(name, found, suites.place(found, given.path("root")))
    return inputs.limited_suite(chosen, given.options.get("limit")), preprocess


def _check_there(name: str, found: Any, root: Path) -> None:
    """Raises, before anything runs, where a set of a suite is not there at all."""
    from farfield.data.suites.definition import SPLITS
    from farfield.data.suites.reading import chosen, there, where

    sets = [(role, lost, chosen(pictures, root, role in SPLITS), role in SPLITS) for role, lost, pictures in found.sets() if role != "validation"]
    lacking = [(lost, pictures) for _, lost, pictures, labelled in sets if not there(pictures, root, labelled)]
    if lacking:
        lost, pictures = lacking[0]
        more = f", nor are {len(lacking) - 1} other sets" if len(lacking) > 1 else ""
        raise InputError(
            f"{lost} of {found.name} is not there ({root / where(pictures)}){more}. `farfield data verify {name} --root {root}` says what is missing and what to do."
        )


def own_jobs(given: Given, device: str) -> list[tuple[Any, list[Any]]]:
    """A person's own data as a suite, for each of the models; all of it is looked at before anything runs."""
    from farfield import inputs
    from farfield.data.order import read_class_map

    if given.several("suite"):
        raise InputError("--suite and --id-test exclude each other: a suite has its own test data.")
    root, limit = given.path("root"), given.options.get("limit")
    opened = {
        split: inputs.open_data(given.text(option), name=split, labelled=True, root=root)
        for split, option in (("train", "id_train"), ("calibration", "id_cal"), ("test", "id_test"))
        if given.text(option)
    }
    sets: dict[str, tuple[Group, Any]] = {}
    for group in GROUPS:
        for text in given.several(group):
            set_name, place = named(group, text)
            if set_name in sets:
                raise InputError(f"There are two OOD sets called {set_name!r}. Give each a name of its own.")
            sets[set_name] = (group, inputs.unlabelled(inputs.limited(inputs.open_data(place, name=set_name, root=root), limit)))
    if not sets:
        raise InputError("There is no OOD data to tell the ID data from: give --near NAME=DATA or --far NAME=DATA.")
    path = given.path("class_map")
    order = None if path is None else read_class_map(path)
    if order is not None and not any(getattr(data, "folders", ()) for data in opened.values()):
        raise InputError("--class-map says which class each folder is, and the ID data have no class folders.")
    for option in ("weights", "preprocess", "random_weights"):
        if option in given.options and not given.several("model"):
            raise InputError(f"--{option.replace('_', '-')} is of a model, and none is named with --model.")
    jobs = []
    for classifier in _classifiers(given, given.several("model"), device) or [None]:
        classes, labels = (0, None) if classifier is None else (classifier.classes, classifier.labels)
        mine = opened if classifier is None else {split: inputs.labelled_data(data, classes, labels, order) for split, data in opened.items()}
        some = {split: inputs.limited(data, limit) for split, data in mine.items()}
        if "train" in some and len(some["train"]) < classes:
            raise InputError(
                f"The ID training data {given.text('id_train')} are {len(some['train'])} samples and the model has {classes} classes; "
                "detectors are fitted on at least one of each. Give more, or raise --limit."
            )
        splits = {split: partial(_as_it_is, data) for split, data in some.items()}
        ood = tuple(OODSet(set_name, group, partial(_as_it_is, data)) for set_name, (group, data) in sets.items())
        note = f"ID test data: {given.text('id_test')}."
        names = tuple(labels or ()) or next((found for data in mine.values() if (found := inputs.class_names(data, classes))), ())
        jobs.append((Suite(given.text("name", "my-data"), names, {}, splits, ood, (), note), [classifier]))
    return jobs


def _as_it_is(data: Any) -> Any:
    return data

"""`farfield diagnose`: what is wrong with a classifier, and the least that can be done about it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from farfield.cli.app import (
    BatchSize,
    ClassMap,
    Device,
    Limit,
    Open,
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
    pick_device,
    progress_bar,
    say,
    show,
)
from farfield.cli.recommend import Pictures
from farfield.cli.subject import PICTURES, Subject, subject
from farfield.errors import InputError

ISSUE = 3  # the exit status where an issue stands


@app.command()
def diagnose(
    model: Annotated[str, typer.Argument(help="A classifier, as elsewhere: zoo:NAME, timm:NAME, torchvision:NAME[:WEIGHTS], hf:NAME, python:module:function, a file or folder, or one that ships.")],
    id_train: Annotated[str | None, typer.Option(help="ID training data: a folder with a sub-folder a class, a list, hf:NAME:SPLIT.")] = None,
    id_test: Annotated[str | None, typer.Option(help="ID pictures that the model was not trained on, likewise.")] = None,
    suite: Annotated[str | None, typer.Option(help="A suite in place of those: its training and calibration data.")] = None,
    ood: Annotated[list[str] | None, typer.Option(help="NAME=DATA: real OOD data, to be looked at; nothing is chosen by them. Repeat it.")] = None,
    reference: Annotated[str | None, typer.Option(help="Another classifier of the same classes to compare with, such as one that was trained plainly.")] = None,
    detector: Annotated[str | None, typer.Option(help="The detector in use, which others are compared with; msp, or mos where the head is grouped.")] = None,
    try_: Annotated[list[str] | None, typer.Option("--try", help="Try a remedy and measure what it gains: augdelete (on the stored features), sft, mos. Repeat it.")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Do the cheapest remedy that helps, of those that were measured; augdelete is tried.")] = False,
    most_lost: Annotated[float, typer.Option(min=0.0, max=100.0, help="Points of accuracy that --fix may lose.")] = 1.0,
    ignore: Annotated[list[str] | None, typer.Option(help="A code whose issue is muted. Repeat it.")] = None,
    weights: Weights = None,
    preprocess: PreprocessText = None,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    pictures: Pictures = PICTURES,
    out: Annotated[Path, typer.Option(help="Where the diagnosis, its page and stored outputs go.")] = Path("farfield-diagnosis"),
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    strict: Strict = False,
    random_weights: RandomWeights = False,
    json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON instead of a table.")] = False,
    open_: Open = False,
) -> None:  # fmt: skip
    """What is wrong with this classifier, and what is the least to be done? Exit status 3 while an issue stands.

    `farfield diagnose timm:resnet18 --id-train photos/train --id-test photos/test --ood birds=photos/birds`

    `farfield diagnose glyphs-200-resnet --suite glyphs-200 --try augdelete`
    """
    import json as jsonlib

    from farfield import diagnose as diagnosing
    from farfield import report
    from farfield.classifier.sources import source_of
    from farfield.detectors import parse
    from farfield.detectors.compose import check_ranges

    began = time.perf_counter()
    tries = list(dict.fromkeys([*(try_ or []), *(["augdelete"] if fix else [])]))
    if wrong := next((name for name in tries if name not in diagnosing.TRIED), None):
        raise InputError(f"--try takes {', '.join(diagnosing.TRIED)}; got {wrong!r}.")
    if detector is not None:
        check_ranges(parse(detector))
    diagnosing.known(ignore or [])
    where = pick_device(device)
    mine = subject(
        model, suite=suite, id_train=id_train, id_held=("--id-test", id_test), ood=ood or [], weights=weights, preprocess=preprocess, class_map=class_map,
        root=root, limit=limit, pictures=pictures, random_weights=random_weights, device=where,
    )  # fmt: skip
    other = None
    if reference is not None:
        other = load_classifier(reference, device=where)
        if other.classes != mine.classifier.classes:
            raise InputError(
                f"The reference {reference} has {other.classes} classes, and {model} has {mine.classifier.classes}. Give one of the same classes."
            )
        if other.name == mine.classifier.name:
            other.name = f"{other.name} (reference)"
    make_folder(out)
    check_file(out / "diagnosis.html")
    with progress_bar() as step:
        work = diagnosing.gather(
            mine.classifier, mine.train, mine.held, out=out, ood=mine.ood, data=mine.data, names=mine.names, current=detector, reference=other,
            batch_size=batch_size, workers=workers, strict=strict, command=command_line(), progress=step,
        )  # fmt: skip
        trial = diagnosing.Trial(tries, source_of(model), _training(mine, limit), model, mine.given, mine.options)
        remedies = diagnosing.prescribe(work, trial)
        found = diagnosing.diagnose(work, ignore=ignore or [], remedies=remedies, trial=trial)
        value = diagnosing.plain(found, time.perf_counter() - began)
        paths = report.write_diagnosis(value, out)
        done = diagnosing.fix(work, remedies, most_lost / 100, trial) if fix else None
    if json:
        typer.echo(jsonlib.dumps(value, indent=1))
    else:
        console = Console()
        console.print(report.diagnosis_table(value, console.width))
    if done is not None:
        say(done.said)
    say(f"{time.perf_counter() - began:.0f} s. Written: {', '.join(map(str, paths))}")
    if open_:
        show(paths[-1])
    if found.issues:
        raise typer.Exit(ISSUE)


def _training(mine: Subject, limit: int | None) -> Any:
    """The training data for remedies that train."""
    from farfield import recipes

    name = mine.given.get("--suite")
    if name is not None:
        root = mine.given.get("--root")
        return recipes.open_training(name, classifier=mine.classifier, root=None if root is None else Path(root), limit=limit)
    told = {"data": mine.given.get("--id-train")}
    labels = mine.names if len(mine.names) == mine.classifier.classes else None
    return recipes.TrainingData(mine.train, mine.classifier.classes, labels, told=told)

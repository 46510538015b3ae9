"""`farfield recommend`: which detector suits a classifier, without any OOD data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    make_folder,
    pick_device,
    progress_bar,
    say,
    show,
)
from farfield.cli.subject import PICTURES, subject

Pictures = Annotated[int, typer.Option(min=20, help="At most so many held-out pictures, spread over the data; others are made of each.")]


@app.command()
def recommend(
    model: Annotated[str, typer.Argument(help="A classifier, as elsewhere: zoo:NAME, timm:NAME, torchvision:NAME[:WEIGHTS], hf:NAME, python:module:function, a file or folder, or one that ships.")],
    id_train: Annotated[str | None, typer.Option(help="ID training data, to fit on: a folder with a sub-folder a class, a list, hf:NAME:SPLIT.")] = None,
    id_cal: Annotated[str | None, typer.Option(help="ID pictures that the model was not trained on, likewise; with labels, classes are left out too.")] = None,
    suite: Annotated[str | None, typer.Option(help="A suite in place of those: its training and calibration data.")] = None,
    detector: Annotated[list[str] | None, typer.Option(help="A detector to compare, as `knn:k=10`; all that look at logits and features by default. Repeat it.")] = None,
    weights: Weights = None,
    preprocess: PreprocessText = None,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    pictures: Pictures = PICTURES,
    out: Annotated[Path, typer.Option(help="Where the ranking, its page and stored outputs go.")] = Path("farfield-recommend"),
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    strict: Strict = False,
    random_weights: RandomWeights = False,
    json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON instead of a table.")] = False,
    open_: Open = False,
) -> None:  # fmt: skip
    """Which detector suits this classifier? Ranked without any OOD data, on pictures made from held-out ID ones.

    `farfield recommend timm:resnet18 --id-train photos/train --id-cal photos/cal`

    `farfield recommend glyphs-200-resnet --suite glyphs-200`
    """
    import json as jsonlib

    from farfield import choose, report
    from farfield.detectors import parse
    from farfield.detectors.compose import check_ranges

    fitters = {text: parse(text) for text in detector or choose.USUAL}
    for fitter in fitters.values():
        check_ranges(fitter)
    mine = subject(
        model, suite=suite, id_train=id_train, id_held=("--id-cal", id_cal), ood=[], weights=weights, preprocess=preprocess, class_map=class_map,
        root=root, limit=limit, pictures=pictures, random_weights=random_weights, device=pick_device(device),
    )  # fmt: skip
    make_folder(out)
    check_file(out / "recommendation.html")
    with progress_bar() as step:
        found = choose.recommend(
            mine.classifier, mine.train, mine.held, detectors=fitters, out=out, names=mine.names, batch_size=batch_size, workers=workers,
            strict=strict, command=command_line(), progress=step,
        )  # fmt: skip
    value = found.plain()
    paths = report.write_recommendation(value, out)
    if json:
        typer.echo(jsonlib.dumps(value, indent=1))
    else:
        console = Console()
        console.print(report.recommendation_table(value, console.width))
    say(f"{found.seconds:.0f} s. Written: {', '.join(map(str, paths))}")
    if open_:
        show(paths[-1])

"""`farfield fit` and `farfield score`: a detector for a model and its data, and its word on new images."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

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
    load_classifier,
    make_folder,
    pick_device,
    progress_bar,
    say,
)
from farfield.errors import InputError

Store = Annotated[Path, typer.Option(help="Where the classifier's outputs are kept, so that a stopped run goes on and a second one is quick.")]
STORE = Path("farfield-out/store")


@app.command()
def fit(
    detector: Annotated[str, typer.Option(help="A detector, as `knn:k=10` or `react:q=90+energy`.")],
    id_train: Annotated[str, typer.Option(help="ID training data: a folder with a sub-folder a class, a list, arrays, hf:NAME:SPLIT.")],
    out: Annotated[Path, typer.Option(help="The file to write, as detector.safetensors.")],
    model: ModelName = None,
    weights: Weights = None,
    preprocess: PreprocessText = None,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    store: Store = STORE,
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    strict: Strict = False,
    random_weights: RandomWeights = False,
) -> None:
    """Fits a detector to a model and its training data, and saves it.

    `farfield fit --model timm:resnet18 --id-train photos/train --detector mahalanobis --out mahalanobis.safetensors`
    """
    from farfield import inputs
    from farfield.collect import collect
    from farfield.data.order import read_class_map
    from farfield.detectors import parse
    from farfield.detectors.compose import check_ranges, fit_taps_of, most_of
    from farfield.outputs import Outputs
    from farfield.store import Stored

    fitter = parse(detector)
    check_ranges(fitter)
    check_file(out)
    order = None if class_map is None else read_class_map(class_map)
    data = inputs.open_data(id_train, name="train", labelled=True, root=root)
    if isinstance(data, Outputs | Stored):
        if model is not None or order is not None:
            raise InputError(f"{id_train} is what a classifier said already, so --model and --class-map do nothing. Leave them out.")
        train: Any = inputs.limited(data, limit)
    elif model is None:
        raise InputError(f"{id_train} is pictures, which need a classifier: name one with --model.")
    else:
        classifier = load_classifier(model, weights=weights, preprocess=preprocess, random_weights=random_weights, device=pick_device(device))
        pictures: Any = inputs.limited(inputs.labelled_data(data, classifier.classes, classifier.labels, order), limit)
        if len(pictures) < classifier.classes:
            raise InputError(
                f"The ID training data {id_train} are {len(pictures)} samples and the model has {classifier.classes} classes; give at least one of each."
            )
        make_folder(store, "--store")
        pictures = inputs.limited(pictures, most_of(fitter))
        with progress_bar() as step:
            train = collect(
                classifier, pictures, out=store, batch_size=batch_size, workers=workers, strict=strict, name="train", taps=fit_taps_of(fitter),
                progress=step,
            )  # fmt: skip
    made = fitter(train)
    make_folder(out.parent)
    made.save(out)
    say(f"{detector} fitted on {len(train)} samples, {out.stat().st_size / 1e6:.2f} MB. Written: {out}")


class Format(StrEnum):
    """How scores are written."""

    csv = "csv"
    jsonl = "jsonl"


@app.command()
def score(
    detector: Annotated[Path, typer.Argument(help="A file that `farfield fit` wrote.")],
    data: Annotated[list[str], typer.Argument(help="Images: folders, lists, single picture files, arrays, hf:NAME:SPLIT.")],
    model: ModelName = None,
    weights: Weights = None,
    preprocess: PreprocessText = None,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; stdout by default.")] = None,
    format: Annotated[Format, typer.Option(help="csv, or jsonl: one JSON object a line.")] = Format.csv,
    store: Store = STORE,
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    strict: Strict = False,
    random_weights: RandomWeights = False,
) -> None:
    """One row per image: its path, the class the model gives it, and its score (higher is more in-distribution).

    A picture that cannot be read has a row too, with the reason in place of class and score.
    """
    from farfield import inputs
    from farfield.collect import collect
    from farfield.data.order import read_class_map
    from farfield.detectors import load
    from farfield.outputs import Outputs
    from farfield.store import Stored

    judge = load(detector)
    if out is not None:
        check_file(out)
    order = None if class_map is None else read_class_map(class_map)
    opened = [(text, inputs.unlabelled(inputs.limited(entry, limit))) for text, entry in inputs.open_several(data, root=root)]
    classifier = None
    if model is not None and all(isinstance(entry, Outputs | Stored) for _, entry in opened):
        raise InputError(f"{', '.join(data)} are what a classifier said already, so --model does nothing. Leave it out.")
    if not all(isinstance(entry, Outputs | Stored) for _, entry in opened):
        if model is None:
            raise InputError(f"{', '.join(data)} are pictures, which need a classifier: name one with --model.")
        classifier = load_classifier(model, weights=weights, preprocess=preprocess, random_weights=random_weights, device=pick_device(device))
        inputs.check_fits(judge, classifier)
        make_folder(store, "--store")
    labels = {index: name for name, index in order.items()} if order is not None else dict(enumerate((classifier and classifier.labels) or ()))
    rows: list[dict[str, Any]] = []
    for text, entry in opened:
        if isinstance(entry, Outputs | Stored):
            outputs: Any = entry
        else:
            assert classifier is not None
            with progress_bar() as step:
                outputs = collect(
                    classifier, entry, out=store, batch_size=batch_size, workers=workers, strict=strict, name=text, empty=True, taps=judge.taps(),
                    progress=step,
                )  # fmt: skip
        rows += _rows(judge, outputs, lambda row, text=text, entry=entry: inputs.name_of(entry, row, text), labels)
    written = "".join(_written(rows, format))
    if out is None:
        sys.stdout.write(written)
        return
    from farfield.files import put

    make_folder(out.parent)
    try:
        put(out, lambda path: path.write_text(written, "utf-8", errors="backslashreplace", newline=""))
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}. Give another with --out.") from error
    say(f"{len(rows)} rows. Written: {out}")


def _rows(judge: Any, outputs: Any, name: Any, labels: dict[int, str]) -> list[dict[str, Any]]:
    """A row for each sample, in the order of the data, the unreadable ones in their places."""
    from farfield.outputs import chunks
    from farfield.store import Stored

    found: dict[int, dict[str, Any]] = {}
    for failure in outputs.failures() if isinstance(outputs, Stored) else []:
        found[failure.row] = {"path": failure.name, "class": None, "score": None, "error": failure.reason}
    start = 0
    for chunk in chunks(outputs):
        ids = chunk.ids.tolist() if chunk.ids is not None else range(start, start + len(chunk))
        classes = chunk.predictions().tolist() if chunk.logits is not None else [None] * len(chunk)
        for row, index, value in zip(ids, classes, judge(chunk).tolist(), strict=True):
            found[row] = {"path": name(row), "class": labels.get(index, index), "score": value, "error": None}
        start += len(chunk)
    return [found[row] for row in sorted(found)]


def _written(rows: list[dict[str, Any]], format: Format) -> Iterator[str]:
    """The rows as text; a score that is not finite is a text in JSON, which has no number for it."""
    if format is Format.jsonl:
        for row in rows:
            value = row["score"]
            finite = value is None or math.isfinite(value)
            yield json.dumps(row if finite else {**row, "score": str(value)}) + "\n"
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "class", "score", "error"])
    for row in rows:
        writer.writerow(["" if value is None else repr(value) if isinstance(value, float) else value for value in row.values()])
    yield text.getvalue()

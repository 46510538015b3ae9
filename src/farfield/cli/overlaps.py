"""`farfield data overlap`: what OOD sets share with the ID training data."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from farfield.cli.app import (
    BatchSize,
    Device,
    Limit,
    ModelName,
    RandomWeights,
    Weights,
    Workers,
    check_file,
    load_classifier,
    named,
    pick_device,
    progress_bar,
    say,
)
from farfield.cli.data import DataRoot, Json, cells, data, plain_table
from farfield.errors import InputError

SHOWN = 20  # pairs in the table


@data.command()
def overlap(
    suite: Annotated[str | None, typer.Option(help="A suite, or a TOML file.")] = None,
    root: DataRoot = None,
    id_train: Annotated[str | None, typer.Option(help="ID training data, in place of a suite: a folder with a sub-folder a class, or a list.")] = None,
    near: Annotated[list[str] | None, typer.Option(help="NAME=DATA: an OOD set. Repeat it.")] = None,
    far: Annotated[list[str] | None, typer.Option(help="NAME=DATA: an OOD set. Repeat it.")] = None,
    model: ModelName = None,
    weights: Weights = None,
    within: Annotated[int, typer.Option(min=0, max=63, help="Bits of 64 in which the perceptual hashes of a pair may differ.")] = 4,
    distance: Annotated[float, typer.Option(min=0.0, max=2.0, help="1 - cosine, up to which the features of a pair may differ.")] = 0.05,
    limit: Limit = None,
    out: Annotated[Path, typer.Option(help="The CSV of all pairs.")] = Path("farfield-out/overlap.csv"),
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    random_weights: RandomWeights = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Near-duplicates between the ID training data and each OOD set, and the classes they share by name.

    By perceptual hash, and with --model by the classifier's features too. Each OOD picture is paired with the training picture nearest to it.

    `farfield data overlap --suite mos-imagenet --root DIR --model timm:resnet50.tv2_in1k`
    """
    from farfield import overlap as finding
    from farfield.benchmark.gather import Passing
    from farfield.outputs import Outputs
    from farfield.report.render import put_text
    from farfield.store import Stored

    check_file(out)
    train, sets, names = _of_suite(suite, root, limit) if suite is not None else _own(id_train, [*(near or []), *(far or [])], limit)
    if broken := next((name for name, one in {"train": train, **sets}.items() if isinstance(one, Outputs | Stored)), None):
        raise InputError(f"{broken} is what a classifier said; overlap is looked for in pictures.")
    with progress_bar() as step:
        pairs = finding.by_hash(train, sets, within, step)
        if model is not None:
            classifier = load_classifier(model, weights=weights, random_weights=random_weights, device=pick_device(device))
            if classifier.head is None:
                raise InputError(f"{classifier.name} has no linear head, so no features are known. Leave --model out, or name another.")
            passing = Passing(out.parent / "store", {}, batch_size, workers, False, step)
            told = {name: (one, passing.over(classifier, one, name, ())) for name, one in {"train": train, **sets}.items()}
            pairs += finding.by_features(told.pop("train"), told, distance, step)
    shared = finding.shared_classes(names, sets)
    out.parent.mkdir(parents=True, exist_ok=True)
    put_text(out, finding.to_csv(pairs))
    if json:
        typer.echo(jsonlib.dumps({"pairs": [asdict(pair) for pair in pairs], "classes": [asdict(one) for one in shared]}, indent=1))
    else:
        _show(pairs, shared, sets, model is not None)
    say(f"{len(pairs)} pairs, {len(shared)} shared classes. Written: {out}")


def _show(pairs: list[Any], shared: list[Any], sets: dict[str, Any], featured: bool) -> None:
    console = Console()
    counts = plain_table(
        "set", "pictures", "near by hash", *(["near by features"] if featured else []), "shared classes", right=("pictures", "near by hash")
    )
    for name, one in sets.items():
        by = {kind: sum(pair.by == kind and pair.ood_set == name for pair in pairs) for kind in ("hash", "features")}
        classes = ", ".join(f"{hit.ood_class} ({hit.pictures:,})" for hit in shared if hit.ood_set == name)
        counts.add_row(*cells(name, f"{len(one):,}", by["hash"], *([by["features"]] if featured else []), classes))
    console.print(counts)
    if pairs:
        table = plain_table("by", "distance", "set", "OOD picture", "ID training picture", right=("distance",))
        for pair in pairs[:SHOWN]:
            table.add_row(*cells(pair.by, f"{pair.distance:.3g}", pair.ood_set, pair.ood, pair.id))
        console.print("", table)


def _of_suite(name: str, root: Path | None, limit: int | None) -> tuple[Any, dict[str, Any], list[tuple[str, ...]]]:
    """A suite's training data and OOD sets, and every name of its classes."""
    from farfield import inputs
    from farfield.data import suites
    from farfield.data.suites import classes

    chosen = inputs.limited_suite(suites.load(name, root), limit)
    if "train" not in chosen.splits:
        raise InputError(f"{name} has no training data to compare with.")
    names: list[tuple[str, ...]] = [(one,) for one in chosen.classes]
    if name not in suites.SUITES:
        names = list(classes.synonyms(suites.definition(name).classes))
    return chosen.split("train"), {entry.name: entry.load() for entry in (*chosen.ood, *chosen.validation)}, names


def _own(id_train: str | None, texts: list[str], limit: int | None) -> tuple[Any, dict[str, Any], list[tuple[str, ...]]]:
    """A person's own data likewise."""
    from farfield import inputs

    if id_train is None or not texts:
        raise InputError("Give --suite, or --id-train and at least one --near NAME=DATA or --far NAME=DATA.")
    train: Any = inputs.limited(inputs.open_data(id_train, name="train", labelled=True), limit)
    sets: dict[str, Any] = {}
    for text in texts:
        name, place = named("near", text)
        if name in sets or name == "train":
            raise InputError(f"The OOD set {name!r} needs a name of its own, other than train.")
        sets[name] = inputs.unlabelled(inputs.limited(inputs.open_data(place, name=name), limit))
    return train, sets, [(name,) for name in sorted(set(getattr(train, "folders", ())))]

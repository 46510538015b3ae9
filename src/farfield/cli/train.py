"""`farfield train`, `farfield finetune` and `farfield recipes`: a better classifier, as the papers make it."""

from __future__ import annotations

import json as jsonlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from farfield.cli.app import (
    ClassMap,
    Device,
    Limit,
    PreprocessText,
    RandomWeights,
    Root,
    Strict,
    Weights,
    app,
    load_classifier,
    make_folder,
    pick_device,
    progress_bar,
    say,
)
from farfield.errors import InputError

# What both take.
Data = Annotated[str | None, typer.Option("--data", help="Training pictures: a folder with a sub-folder a class (or with train and val in it), a list, hf:NAME:SPLIT, python:module:function, or a suite as glyphs-200.")]  # fmt: skip
Val = Annotated[str | None, typer.Option(help="Pictures to measure accuracy on, likewise.")]
Out = Annotated[Path, typer.Option(help="The run folder; a run that was stopped goes on there.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="SETTING=VALUE of the recipe or its objective, as lr=0.1 or alpha=1. Repeat it.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the data, in place of the recipe's.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps in all, in place of epochs.")]
Batch = Annotated[int | None, typer.Option("--batch-size", min=1, help="Pictures in a step, over all processes.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of the weights, the order, and all that is random.")]
Precision = Annotated[str | None, typer.Option(help="no (float32), bf16 or fp16.")]
Outliers = Annotated[str | None, typer.Option(help="Outlier pictures, for outlier exposure; without, they are made of the training pictures.")]
Groups = Annotated[str | None, typer.Option(help="Of classes, for MOS: a taxonomy (JSON), suite (the default), kmeans or random.")]
K = Annotated[int | None, typer.Option("-k", min=1, help="How many groups kmeans and random make; by default the square root of the classes.")]
Then = Annotated[str | None, typer.Option(help="augdelete or none: what is done in the end, in place of what the recipe does.")]
Penalty = Annotated[
    float | None, typer.Option(help="Of AugDelete: half of it times the squared weights is added to the cross-entropy; 0.0005 by default.")
]
Half = Annotated[bool, typer.Option("--half", help="Keep the model in 16 bits.")]
Loaders = Annotated[int, typer.Option("--workers", min=0, max=256, help="Processes that load pictures.")]
LARGEST = 50_000  # outlier pictures kept in memory


@app.command()
def train(
    recipe: Annotated[str, typer.Option(help="A recipe (`farfield recipes`), or the recipe.json of a run.")],
    model: Annotated[str | None, typer.Option(help="zoo:NAME, timm:NAME, torchvision:NAME, hf:NAME, python:module:function; resnet, bit or vit for 32-pixel pictures.")] = None,
    out: Out = Path("farfield-out/run"),
    data: Data = None,
    val: Val = None,
    settings: Set = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_size: Batch = None,
    seed: Seed = None,
    precision: Precision = None,
    groups: Groups = None,
    k: K = None,
    outliers: Outliers = None,
    then: Then = None,
    penalty: Penalty = None,
    preprocess: PreprocessText = None,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    device: Device = "auto",
    workers: Loaders = 0,
    strict: Strict = False,
    half: Half = False,
) -> None:  # fmt: skip
    """Trains a model from random weights. Stop it when you like: the same command goes on, and ends with the same weights.

    `farfield train --recipe augrevise --model timm:resnet18 --data photos --out run`

    Several processes: `accelerate launch -m farfield train ...`.
    """
    from farfield import recipes

    name, entry, told = _recipe(recipe, settings, then, epochs=epochs, steps=steps, batch_size=batch_size, seed=seed, precision=precision)
    if told.get("start") is not None:
        raise InputError(f"{recipe} is of a run that began with a trained model, {told['start']}. Give it to farfield finetune.")
    model, preprocess = model or told.get("model"), preprocess or told.get("preprocess")
    data, _, val, where = _data_of([told], data, None, val, class_map, root, limit)
    if model is None or data is None:
        raise InputError(f"--{'model' if model is None else 'data'} is missing.")
    mine = recipes.open_training(data, val, **where)
    classifier = recipes.fresh(model, mine.classes, seed=entry.recipe.seed, preprocess=preprocess).to(pick_device(device))
    setting = recipes.Setting(model, mine, half=half or told.get("half", False), workers=workers, strict=strict, told=_said(preprocess=preprocess))
    _go(classifier, name, entry, setting, out, told, groups, k, outliers, penalty)


@app.command()
def finetune(
    recipe: Annotated[str, typer.Argument(help="A recipe (`farfield recipes`), augdelete, or the recipe.json of a run.")],
    model: Annotated[str | None, typer.Option(help="The trained model: a run folder, a name that ships, zoo:NAME, timm:NAME, torchvision:NAME, hf:NAME, python:module:function.")] = None,
    out: Out = Path("farfield-out/finetuned"),
    data: Data = None,
    features: Annotated[str | None, typer.Option(help="In place of --data, for what trains the head alone: what the model said of the training data, as a store or arrays.")] = None,
    fraction: Annotated[float | None, typer.Option(help="For augdelete: the part of the training data it takes, above 0 and at most 1, which is the default.")] = None,
    val: Val = None,
    settings: Set = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_size: Batch = None,
    seed: Seed = None,
    precision: Precision = None,
    groups: Groups = None,
    k: K = None,
    outliers: Outliers = None,
    then: Then = None,
    penalty: Penalty = None,
    weights: Weights = None,
    preprocess: PreprocessText = None,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    device: Device = "auto",
    workers: Loaders = 0,
    strict: Strict = False,
    half: Half = False,
    random_weights: RandomWeights = False,
) -> None:  # fmt: skip
    """Trains a trained model further, or its last layer anew. Of a run folder the data are known.

    `farfield finetune sft --model run --steps 50`

    `farfield finetune augdelete --model timm:resnet50.tv2_in1k --features store/KEY --fraction 0.2`

    `farfield finetune mos --model run --groups taxonomy.json`
    """
    import torch

    from farfield import recipes
    from farfield.classifier.sources import source_of

    given: dict[str, Any] = {"epochs": epochs, "steps": steps, "batch_size": batch_size, "seed": seed, "precision": precision}
    told = _read(Path(recipe)) if recipe.endswith(".json") else {}
    if "augdelete" in (recipe, told.get("name")):
        name, entry = "augdelete", None
        needless = {**given, "set": settings, "then": then, "groups": groups, "k": k, "outliers": outliers}
        wrong = [f"--{key.replace('_', '-')}" for key, value in needless.items() if value is not None and key != "seed"]
        if wrong:
            raise InputError(f"augdelete has no {wrong[0]}: it takes --fraction, --penalty and --seed.")
    else:
        name, entry, told = _recipe(recipe, settings, then, **given)
        if fraction is not None:
            raise InputError("--fraction is for augdelete; for other recipes --limit takes a part of the data.")
    start = model or told.get("start")
    if start is None:
        raise InputError("--model is missing: the trained model, such as a run folder.")
    if model is None and weights is None and told.get("weights") is not None:
        weights = Path(told["weights"])
    preprocess = preprocess or told.get("preprocess")
    data, features, val, where = _data_of([told, _of_run(start)], data, features, val, class_map, root, limit)
    if features is not None and entry is not None and not recipes.on_features(entry.recipe):
        raise InputError(f"{name} looks at pictures, so it needs --data; --features are for augdelete and mos.")
    if data is None and features is None:
        raise InputError(f"--data is missing, and {start} is no run folder that knows its data.")
    chance = entry.recipe.seed if entry is not None else int(told.get("seed", 0)) if seed is None else seed
    torch.manual_seed(chance)  # for random weights
    classifier = load_classifier(start, weights=weights, preprocess=preprocess, random_weights=random_weights, device=pick_device(device))
    if features is not None:
        mine = recipes.featured(features, classifier, val, **where)
    else:
        mine = recipes.open_training(str(data), val, classifier=classifier, **where)
    said = _said(preprocess=preprocess, weights=weights)
    setting = recipes.Setting(source_of(start), mine, start, half=half or told.get("half", False), workers=workers, strict=strict, told=said)
    if entry is not None:
        _go(classifier, name, entry, setting, out, told, groups, k, outliers, penalty)
        return
    setting = replace(setting, penalty=float(told.get("penalty", 5e-4)) if penalty is None else penalty)
    fraction = float(told.get("fraction", 1.0)) if fraction is None else fraction
    make_folder(out)
    with progress_bar() as step:
        was = None if mine.val is None else recipes.accuracy(classifier, mine.val, strict=strict, progress=step)
        reached = recipes.augdelete(classifier, setting, out, fraction=fraction, seed=chance, progress=step)
        now = None if mine.val is None else recipes.accuracy(classifier, mine.val, strict=strict, progress=step)
    say(
        f"The last layer is at the optimum of its objective (gradient {reached['gradient']:.1e}) after {reached['passes']} passes over {reached['samples']:,} "
        f"samples; training accuracy {100 * reached['accuracy_before']:.1f} % before, {100 * reached['accuracy_after']:.1f} % after."
    )
    _finish(out, was, now)


@app.command()
def soup(
    models: Annotated[list[str], typer.Argument(help="Run folders of models that were trained from the same weights.")],
    out: Out = Path("farfield-out/soup"),
    data: Data = None,
    val: Val = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Leave a model out where accuracy on --val falls with it.")] = False,
    class_map: ClassMap = None,
    root: Root = None,
    limit: Limit = None,
    half: Half = False,
) -> None:
    """Averages the weights of several fine-tuned models.

    `farfield soup run-a run-b run-c --val photos/val --greedy --out soup`
    """
    from farfield import recipes

    before = _of_run(models[0])
    data = data or before.get("data")
    if greedy and val is None:
        raise InputError("--greedy chooses by accuracy, so give --val with pictures that no result will be of.")
    if data is None:
        raise InputError(f"--data is missing, and {models[0]} is no run folder that knows its data.")
    classifier = load_classifier(models[0])
    mine = recipes.open_training(data, val or before.get("val"), classifier=classifier, class_map=class_map, root=root, limit=limit)
    make_folder(out)
    with progress_bar() as step:
        found = recipes.soup(models, before.get("model", models[0]), mine, out, choose=greedy, half=half, progress=step)
        now = None if mine.val is None else recipes.accuracy(load_classifier(str(out)), mine.val, progress=step)
    say(f"In the soup: {', '.join(found['chosen'])}.")
    _finish(out, None, now)


@app.command("recipes")
def list_recipes(
    name: Annotated[str | None, typer.Argument(help="One of them, to read all about it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Every recipe: what it does, where it is from, and the command for the published setting."""
    from dataclasses import asdict

    from farfield.recipes import RECIPES, recipe_of

    entries = dict(RECIPES)
    if name is not None and name != "augdelete":
        name, entry = recipe_of(name)
        entries[name] = entry
    about = {
        key: {
            "name": key, "what": entry.what, "paper": entry.paper, "differs": entry.differs, "starts": "a trained model" if entry.finetunes else "random weights",
            "then": entry.then, "command": entry.command(key), "recipe": asdict(entry.recipe),
        }
        for key, entry in entries.items()
    } | {"augdelete": AUGDELETE}  # fmt: skip
    if json:
        typer.echo(jsonlib.dumps([about[name]] if name else list(about.values()), indent=1))
    elif name is not None:
        one = about[name]
        typer.echo(f"{one['what']}\nFrom {one['paper']}. Starts from {one['starts']}{'; AugDelete follows' if one['then'] else ''}.")
        typer.echo(f"Differs from what was published: {one['differs']}." if one["differs"] else "", nl=bool(one["differs"]))
        typer.echo(f"As published: {one['command']}")
        for key, value in one["recipe"].items():
            typer.echo(f"  {key} = {'/'.join(map(str, value)) or 'none' if isinstance(value, tuple) else value}")
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("name", "starts from", "what it does", "paper"):
            table.add_column(column, no_wrap=column in ("name", "starts from"))
        for one in about.values():
            table.add_row(one["name"], one["starts"], one["what"], one["paper"])
        Console().print(table)
        Console().print("\n`farfield recipes NAME` has the settings and the published command. Change a setting with --set SETTING=VALUE.")


AUGDELETE: dict[str, Any] = {
    "name": "augdelete",
    "what": "The last layer at the optimum of plain cross-entropy on stored features, without smoothed labels and mixtures.",
    "paper": "Xiong et al., ICCV 2025",
    "differs": "the optimum of a stated objective with a small penalty, in place of so many steps",
    "starts": "a trained model",
    "then": "",
    "command": "farfield finetune augdelete --model timm:resnet50.tv2_in1k --data imagenet/train --val imagenet/val --out runs/augdelete",
    "recipe": {"fraction": 1.0, "penalty": 5e-4, "seed": 0},
}


def _recipe(text: str, settings: list[str] | None, then: str | None, **given: Any) -> tuple[str, Any, dict[str, Any]]:
    """The recipe with what the command line changes in it, its name, and what else its file says."""
    from farfield import recipes

    name, entry = recipes.recipe_of(text)
    told = _read(Path(text)) if text.endswith(".json") else {}
    if then is None and "then" in told:
        then = told["then"] or "none"
    values = {key: value for key, value in given.items() if value is not None}
    if given.get("epochs") is not None and given.get("steps") is None and entry.recipe.steps:
        values["steps"] = 0
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not (key and equals and value):
            raise InputError(f"--set takes SETTING=VALUE, as --set lr=0.1; got {setting!r}.")
        if key in values:
            raise InputError(f"{key} is given twice.")
        values[key] = value
    if then not in (None, "none", "augdelete"):
        raise InputError(f"--then is augdelete or none; got {then!r}.")
    entry = replace(entry, recipe=recipes.changed(entry.recipe, values))
    return name, entry if then is None else replace(entry, then="" if then == "none" else then), told


TEXTS = ("name", "model", "start", "data", "features", "val", "class_map", "root", "preprocess", "weights", "outliers", "then")


def _read(path: Path) -> dict[str, Any]:
    """What a recipe.json says."""
    try:
        told = jsonlib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Give the recipe.json of a run, or say what it would with options.") from error
    if not isinstance(told, dict):
        raise InputError(f"{path} is broken: it holds a {type(told).__name__}, not what a run is of.")
    groups = told.get("groups")
    kinds = {key: told.get(key) is None or isinstance(told[key], str) for key in TEXTS} | {
        "half": isinstance(told.get("half", False), bool),
        "limit": told.get("limit") is None or (type(told["limit"]) is int and told["limit"] >= 1),
        "groups": groups is None or (isinstance(groups, list) and all(type(group) is int and group >= -1 for group in groups)),
        "seed": type(told.get("seed", 0)) is int and told.get("seed", 0) >= 0,
        **{key: isinstance(told.get(key, 1.0), int | float) for key in ("fraction", "penalty")},
    }
    for key, fine in kinds.items():
        if not fine:
            raise InputError(f"{path} is broken: its {key} cannot be {str(told[key])[:60]!r}.")
    return told


def _said(**given: Any) -> dict[str, Any]:
    """What recipe.json is to say of options that were given."""
    return {key: str(value) for key, value in given.items() if value is not None}


def _data_of(
    files: list[dict[str, Any]], data: str | None, features: str | None, val: str | None, class_map: Path | None, root: Path | None, limit: int | None
) -> tuple[str | None, str | None, str | None, dict[str, Any]]:
    """The data, features, validation data and how they are read: as the command line says; what it leaves out as the first file with data does."""
    told: dict[str, Any] = {}
    if data is None:  # pictures to measure on stay those of the run, whatever features its head is trained on
        val = val or next((file["val"] for file in files if file.get("val")), None)
    if data is None and features is None:
        told = next((file for file in files if file.get("data") or file.get("features")), {})
        data, features = told.get("data"), told.get("features")

    def path(given: Path | None, key: str) -> Path | None:
        return Path(told[key]) if given is None and told.get(key) is not None else given

    where = {"class_map": path(class_map, "class_map"), "root": path(root, "root"), "limit": limit or told.get("limit")}
    return data, features, val, where


def _of_run(model: str) -> dict[str, Any]:
    """What the recipe.json of a run folder says of its pictures; nothing for other models."""
    path = Path(model) / "recipe.json"
    return {key: value for key, value in _read(path).items() if key != "features"} if path.exists() else {}


def _go(
    classifier: Any, name: str, entry: Any, setting: Any, out: Path, told: dict[str, Any], groups: str | None, k: int | None, outliers: str | None,
    penalty: float | None,
) -> None:  # fmt: skip
    """Runs a recipe, and says what came out."""
    import torch

    from farfield import recipes

    mine, mos = setting.data, entry.recipe.objective == "mos"
    if outliers is not None and entry.recipe.objective != "outlier-exposure":
        raise InputError(f"{name} has no outliers; --outliers are for outlier-exposure and sft.")
    if not mos and (groups is not None or k is not None):
        raise InputError(f"{name} has no groups; --groups and -k are for mos and mos-bit.")
    if penalty is not None and entry.then != "augdelete":
        raise InputError(f"{name} has no penalty; --penalty is for AugDelete (--then augdelete).")
    outliers = outliers or (told.get("outliers") if entry.recipe.objective == "outlier-exposure" else None)
    setting = replace(
        setting, penalty=float(told.get("penalty", 5e-4)) if penalty is None else penalty, told={**setting.told, **_said(outliers=outliers)}
    )
    make_folder(out)
    with progress_bar() as step:
        if mos:
            known = told.get("groups") if groups is None and k is None else None
            members = torch.tensor(known) if known else recipes.groups_of(groups or "suite", classifier, setting, out, k, entry.recipe.seed, step)
            setting = replace(setting, groups=members)
        if outliers is not None:
            setting = replace(setting, outliers=recipes.outlier_pictures(outliers, classifier, LARGEST))
        same = classifier.classes == mine.classes and setting.start is not None
        was = recipes.accuracy(classifier, mine.val, strict=setting.strict, progress=step) if same and mine.val is not None else None
        history = recipes.run(classifier, name, entry, setting, out, progress=step)
        if not recipes.first_process():
            return
        now = None if mine.val is None else recipes.accuracy(classifier, mine.val, strict=setting.strict, progress=step)
    last = history[-1]
    say(f"{len(history)} epochs, loss {last['loss']:.3f}, accuracy on the training pictures as they were shown {100 * last['accuracy']:.1f} %.")
    _finish(out, was, now)


def _finish(out: Path, was: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
    """The accuracy before and after, kept and said, and where things are."""
    from farfield.files import put
    from farfield.report.run import write_run_page

    if now is not None:
        figures = {"before": was, "after": now}
        put(out / "accuracy.json", lambda path: path.write_text(jsonlib.dumps(figures, indent=1), "utf-8"))
        for what, figure in figures.items():
            if figure is not None:
                low, high = figure["interval"]
                say(
                    f"Accuracy {what}: {100 * figure['accuracy']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), {figure['n']:,} pictures."
                )
    page = write_run_page(out)
    say(f"Written: {out / 'model.safetensors'}, {page}. Next: farfield diagnose {shlex.quote(str(out))} {_held(out)}")


SEEN = ("val", "valid", "validation", "test")  # what a folder's held-out pictures may be called


def _held(out: Path) -> str:
    """The data to look at a run with: its suite, or its own."""
    from farfield.data import suites

    data = str(_of_run(str(out)).get("data") or "DIR")
    if suites.is_suite(data):
        return f"--suite {shlex.quote(data)}"
    train, test = (next((Path(data) / name for name in names if (Path(data) / name).is_dir()), None) for names in (("train",), SEEN))
    return f"--id-train {shlex.quote(str(train or data))} --id-test {shlex.quote(str(test or 'DIR'))}"

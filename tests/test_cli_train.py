"""`farfield train`, `finetune` and `recipes`: from what a person types to a run folder, and one sentence for what cannot be."""

from __future__ import annotations

import json
import resource
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file, save_file

from farfield import cli
from farfield.classifier import Classifier
from farfield.recipes import RECIPES

Run = Callable[..., tuple[int, str, str]]
COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}
SHORT = ("--steps", "2", "--batch-size", "4")
TRAIN = ("train", "--recipe", "cross-entropy", "--model", "resnet", "--data", "photos", *SHORT)
TAXONOMY = '{"cold": ["blue", "green"], "warm": ["red"]}'
NET = """
import torch
from torch import nn
from farfield import Classifier
from farfield.data.transforms import Preprocess

def net(labels=("blue", "green", "red")):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))
    return Classifier.wrap(body, transform=Preprocess(resize=18, crop=16), name="mine", input_size=(3, 16, 16), labels=labels)

def tall():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return Classifier.wrap(body, transform=Preprocess(resize=3, crop=3), name="tiny", input_size=(3, 3, 3))
"""


def draw(folder: Path, names: dict[str, tuple[int, int, int]], n: int, seed: int = 0, noise: float = 40.0) -> None:
    random = np.random.default_rng(seed)
    for name, colour in names.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            level = random.normal(0, noise, (14, 18 + 3 * (i % 2), 1)) + (random.normal(0, noise, 3) if noise > 40 else 0)
            Image.fromarray(np.clip(np.array(colour) + level, 0, 255).astype(np.uint8)).save(folder / name / f"{i:02d}.png")


@contextmanager
def typing(*arguments: str) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["farfield", *arguments])
        patch.setenv("COLUMNS", "200")
        yield patch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a model and a run folder, made once."""
    folder = tmp_path_factory.mktemp("made")
    draw(folder / "photos" / "train", COLOURS, 4)
    draw(folder / "photos" / "val", COLOURS, 2, seed=1)
    draw(folder / "grey", {"a": (90, 90, 90), "b": (160, 160, 160)}, 3)
    draw(folder / "strange", {"x": (20, 20, 20)}, 6, seed=3)
    (folder / "train_net.py").write_text(NET)
    (folder / "taxonomy.json").write_text(TAXONOMY)
    with typing(*TRAIN, "--out", "run") as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder of its own with what was made; its status, stdout and stderr."""
    for entry in made.iterdir():
        if entry.name == "run":
            shutil.copytree(entry, tmp_path / "run")
        else:
            (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("train_net", None)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with typing(*arguments), pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def refused(run: Run, *arguments: str, message: str) -> None:
    """The command ends with one sentence and status 2."""
    status, out, err = run(*arguments)
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert (status, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("farfield: ") and message in lines[0], lines[0]


def good(run: Run, *arguments: str) -> str:
    status, _, err = run(*arguments)
    assert status == 0, err
    return err


def same(one: str, other: str) -> bool:
    a, b = (load_file(Path(folder) / "model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


# --- the published commands ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_the_published_command_is_one_and_its_dry_run_works(name: str, run: Run) -> None:
    command = shlex.split(RECIPES[name].command(name))
    assert command[0] == "farfield"
    typer.main.get_command(cli.app).commands[command[1]].make_context(command[1], command[2:])  # type: ignore[attr-defined]
    small = "vit" if name.startswith("vit") else "resnet" if name not in ("sft", "mos", "mos-bit") else "bit"
    model = "timm:test_resnet.r160_in1k" if RECIPES[name].finetunes else small
    swap = {RECIPES[name].model: model, "imagenet/train": "photos/train", "imagenet/val": "photos/val"}
    dry = [swap.get(word, word) for word in command[1:]] + [*SHORT, *(["--random-weights"] if RECIPES[name].finetunes else [])]
    if RECIPES[name].finetunes:
        dry += ["--preprocess", "resize=36,crop=32"]
    err = good(run, *dry)
    assert "Accuracy after: " in err and "6 pictures" in err and f"farfield diagnose runs/{name} --id-train" in err
    out = Path("runs") / name
    assert Classifier.load(str(out)).labels == ("blue", "green", "red")
    assert {"model.safetensors", "recipe.json", "metrics.jsonl", "accuracy.json"} <= {path.name for path in out.iterdir()}
    assert all(json.loads(line)["loss"] > 0 for line in (out / "metrics.jsonl").read_text().splitlines())
    assert json.loads((out / "accuracy.json").read_text())["after"]["n"] == 6


def test_the_lines_of_the_readme(run: Run) -> None:
    good(
        run,
        "train",
        "--recipe",
        "augrevise",
        "--model",
        "timm:test_resnet",
        "--data",
        "photos",
        "--preprocess",
        "resize=36,crop=32",
        "--out",
        "one",
        *SHORT,
    )
    err = good(run, "finetune", "sft", "--model", "one", "--steps", "2", "--out", "two")
    assert "Accuracy before: " in err and "Accuracy after: " in err  # the data are known
    assert json.loads(Path("two/recipe.json").read_text())["model"] == "timm:test_resnet"
    good(run, "finetune", "mos", "--model", "two", "--groups", "taxonomy.json", "--steps", "2", "--out", "three")
    groups = Classifier.load("three").groups
    assert groups is not None and groups.tolist() == [-1, 0, 1, -1, 2]
    good(run, "finetune", "augdelete", "--model", "run", "--fraction", "0.5", "--out", "four")
    store = str(next(path.parent for path in Path("four/store").rglob("facts.json")))
    err = good(run, "finetune", "augdelete", "--model", "run", "--features", store, "--val", "photos/val", "--fraction", "0.5", "--out", "five")
    assert "The last layer is at the optimum" in err and "Accuracy after: " in err
    assert same("four", "five")


# --- reproduced by recipe.json alone ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--recipe", "npos", "--model", "python:train_net:net", "--data", "photos", "--seed", "3", "--penalty", "0.01", "--half"),
        ("train", "--recipe", "augrevise", "--model", "bit", "--data", "photos/train", "--val", "photos/val", "--then", "none", "--limit", "9"),
        ("train", "--recipe", "ema", "--model", "timm:test_resnet", "--data", "photos", "--preprocess", "resize=36,crop=32", "--set", "drops=0.5"),
        ("finetune", "outlier-exposure", "--model", "run", "--outliers", "strange"),
        ("finetune", "sft", "--model", "run", "--set", "sizes=2/4", "--data", "photos/train", "--class-map", "map.txt", "--then", "augdelete"),
        ("finetune", "mos", "--model", "run", "--groups", "kmeans", "-k", "2"),
        ("finetune", "augdelete", "--model", "run", "--fraction", "0.5", "--penalty", "0.01", "--seed", "2"),
    ],
)
def test_recipe_json_alone_reproduces_the_weights(command: tuple[str, ...], run: Run) -> None:
    Path("map.txt").write_text("blue\ngreen\nred\n")
    good(run, *command, *(() if command[1] == "augdelete" else SHORT), "--out", "one")
    again = ("train", "--recipe", "one/recipe.json") if command[0] == "train" else ("finetune", "one/recipe.json")
    good(run, *again, "--out", "two")
    assert same("one", "two")
    one, two = (json.loads(Path(folder, "recipe.json").read_text()) for folder in ("one", "two"))
    assert {k: v for k, v in one.items() if k != "reached"} == {k: v for k, v in two.items() if k != "reached"}


def test_a_stop_is_status_130_and_the_same_command_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("train", "--recipe", "ema", "--model", "resnet", "--data", "photos", "--batch-size", "4", "--epochs", "3")
    good(run, *command, "--out", "whole")

    @contextmanager
    def stopping() -> Iterator[Callable[[str, int, int], None]]:
        def step(what: str, done: int, total: int) -> None:
            if (what, done) == ("training", 5):
                raise KeyboardInterrupt

        yield step

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["farfield.cli.train"], "progress_bar", stopping)
        status, out, err = run(*command, "--out", "parts")
    assert (status, out) == (130, "") and "run the same command to go on" in err
    assert not Path("parts/model.safetensors").exists() and Path("parts/checkpoint.safetensors").exists()
    good(run, *command, "--out", "parts")
    assert same("whole", "parts")
    assert len(Path("parts/metrics.jsonl").read_text().splitlines()) == 3


def test_a_run_folder_is_a_model_for_the_other_commands(run: Run) -> None:
    places = ("--id-train", "photos/train", "--id-test", "photos/val", "--far", "strange=strange")
    good(run, "bench", "--model", "run", *places, "--detector", "msp", "--out", "bench")
    assert json.loads(Path("bench/results.json").read_text())["rows"]


# --- settings -----------------------------------------------------------------------------------------------------------------------------


def test_settings_reach_the_recipe(run: Run) -> None:
    good(
        run,
        *TRAIN[:-4],
        "--set",
        "lr=0.01",
        "--set",
        "smoothing=0.1",
        "--set",
        "augment=none",
        "--epochs",
        "1",
        "--batch-size",
        "6",
        "--seed",
        "5",
        "--out",
        "a",
    )
    told = json.loads(Path("a/recipe.json").read_text())["recipe"]
    assert (told["lr"], told["options"], told["augment"], told["epochs"], told["batch_size"], told["seed"]) == (0.01, {"smoothing": 0.1}, [], 1, 6, 5)
    good(run, "finetune", "sft", "--model", "run", "--epochs", "1", "--precision", "bf16", "--out", "b")
    told = json.loads(Path("b/recipe.json").read_text())["recipe"]
    assert (told["steps"], told["epochs"], told["precision"]) == (0, 1, "bf16")


def test_recipes_lists_all_and_tells_of_one(run: Run) -> None:
    status, out, _ = run("recipes")
    assert status == 0 and all(f"{name} " in out for name in (*RECIPES, "augdelete"))
    status, out, _ = run("recipes", "sft")
    assert (
        status == 0
        and RECIPES["sft"].what in out
        and RECIPES["sft"].command("sft") in out
        and "sharpness = sam-norm" in out
        and "Zhang et al., IEEE TIP 2026" in out
    )
    listed = json.loads(run("recipes", "--json")[1])
    assert [line["name"] for line in listed] == [*RECIPES, "augdelete"]
    assert all(line["command"].startswith("farfield ") and line["what"] and line["paper"] for line in listed)
    (one,) = json.loads(run("recipes", "sft", "--json")[1])
    assert one["recipe"]["steps"] == 50
    assert run("recipes", "augdelete")[0] == 0
    status, out, _ = run("recipes", "run/recipe.json")
    assert status == 0 and "batch_size = 4" in out
    refused(run, "recipes", "stf", message="There is no recipe 'stf'; did you mean 'sft'?")


# --- what cannot be -----------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_one_sentence(run: Run) -> None:
    draw(Path("one"), {"only": (9, 9, 9)}, 3)
    draw(Path("other"), {"cyan": (1, 2, 3), "pink": (1, 2, 3), "grey": (1, 2, 3)}, 1)
    draw(Path("two"), {"a": (9, 9, 9), "b": (200, 9, 9)}, 1)
    Path("empty").mkdir()
    Path("file").write_text("")
    Path("broken.json").write_text("{")
    Path("list.txt").write_text("photos/train/blue/00.png 0\nphotos/train/red/00.png 7\n")
    Path("misses.json").write_text('{"a": ["blue"], "b": ["green"]}')
    Path("repeats.json").write_text('{"a": ["blue", "red"], "b": ["green", "red"]}')
    Path("others.json").write_text('{"a": ["cat"], "b": ["dog"]}')
    good(run, "finetune", "augdelete", "--model", "run", "--out", "deleted")
    store = str(next(path.parent for path in Path("deleted/store").rglob("facts.json")))
    kept = {path: path.read_bytes() for path in (*Path("run").iterdir(), *Path("deleted").iterdir()) if path.is_file()}
    train = ("train", "--recipe", "cross-entropy")
    resnet = (*train, "--model", "resnet")
    tune = ("--model", "run", *SHORT, "--out", "new")
    for *arguments, message in (
        (*train, "--data", "photos", "--out", "new", "--model is missing."),
        (*resnet, "--out", "new", "--data is missing."),
        (*train, "--model", "resnt", "--data", "photos", "--out", "new", "did you mean 'resnet'"),
        (*train, "--model", "timm:resnt18", "--data", "photos", "--out", "new", "timm has no model 'resnt18'"),
        (*train, "--model", "glyphs-200-resnet", "--data", "photos", "--out", "new", "trained further by `farfield finetune`"),
        (*resnet, "--data", "nowhere", "--out", "new", "There is no file or folder 'nowhere'"),
        (*resnet, "--data", "photos/train/red", "--out", "new", "has no classes"),
        (*resnet, "--data", "one", "--out", "new", "one has one class only, 'only'"),
        (*resnet, "--data", "empty", "--out", "new", "The folder empty has no images"),
        (*resnet, "--data", "photos/train", "--val", "other", "--out", "new", "'cyan' of other is no class of the training data"),
        (*resnet, "--data", "photos", "--out", "file", "The folder file cannot be made"),
        (*resnet, "--data", "photos", "--out", "run", *SHORT, "--set", "lr=0.2", "run holds a run of another recipe"),
        (*train, "--model", "bit", "--data", "photos", "--out", "run", *SHORT, "run holds a run of another recipe"),
        (*resnet, "--data", "photos", "--out", "new", "--set", "lrr=1", "did you mean 'lr'"),
        (*resnet, "--data", "photos", "--out", "new", "--set", "lr=fast", "The setting lr is a number; got 'fast'."),
        (*resnet, "--data", "photos", "--out", "new", "--set", "lr", "--set takes SETTING=VALUE"),
        (*resnet, "--data", "photos", "--out", "new", "--set", "lr=1", "--set", "lr=2", "lr is given twice"),
        (*resnet, "--data", "photos", "--out", "new", "--set", "epochs=1", "--epochs", "2", "epochs is given twice"),
        (*resnet, "--data", "photos", "--out", "new", "--then", "augdelet", "--then is augdelete or none"),
        (*resnet, "--data", "photos", "--out", "new", "--precision", "fp8", "cannot have precision='fp8'"),
        (*resnet, "--data", "photos", "--out", "new", "--precision", "fp16", *SHORT, "fp16"),
        (*resnet, "--data", "photos", "--out", "new", "--outliers", "strange", "cross-entropy has no outliers"),
        (*resnet, "--data", "photos", "--out", "new", "--groups", "kmeans", "cross-entropy has no groups"),
        (*resnet, "--data", "photos", "--out", "new", "--penalty", "1", "cross-entropy has no penalty"),
        (*resnet, "--data", "photos", "--out", "new", "--preprocess", "crop=64,resize=64", "pictures of 32 x 32 pixels"),
        ("train", "--recipe", "crossentropy", "--model", "resnet", "--data", "photos", "did you mean 'cross-entropy'"),
        ("train", "--recipe", "broken.json", "--data", "photos", "broken.json holds no recipe"),
        ("train", "--recipe", "nowhere.json", "--data", "photos", "nowhere.json holds no recipe"),
        ("finetune", "sft", "--data", "photos", "--out", "new", "--model is missing"),
        ("finetune", "sft", "--model", "glyphs-200-bit", "--out", "new", "--data is missing, and glyphs-200-bit is no run folder"),
        ("finetune", "sft", *tune, "--set", "sizes=60", "too small for a jigsaw"),
        ("finetune", "sft", "--model", "python:train_net:tall", "--data", "photos", *SHORT, "--out", "new", "Pictures of 3 x 3 pixels are too small for a jigsaw"),
        ("finetune", "sft", *tune, "--features", store, "sft looks at pictures, so it needs --data"),
        ("finetune", "sft", *tune, "--fraction", "0.5", "--fraction is for augdelete"),
        ("finetune", "sft", *tune, "--set", "layers=9", "blocks"),
        ("finetune", "cross-entropy", *tune, "--data", "list.txt", "--set", "layers=head", "has label 7, and the model's classes are 0 to 2"),
        ("finetune", "mos", *tune, "--groups", "misses.json", "class 2 ('red') is in no group"),
        ("finetune", "mos", *tune, "--groups", "repeats.json", "class 2 ('red') is named 2 times"),
        ("finetune", "mos", *tune, "--groups", "others.json", "is for other labels: 'cat' is no class here"),
        ("finetune", "mos", *tune, "--groups", "kmeans", "-k", "4", "3 classes make from 1 to 3 groups; got k=4"),
        ("finetune", "mos", *tune, "--groups", "taxonomy.json", "-k", "2", "`k` is for the groups kmeans and random"),
        ("finetune", "mos", *tune, "--groups", "kmean", "did you mean 'kmeans'"),
        ("finetune", "mos", *tune, "This data set has no taxonomy of its own"),
        ("finetune", "mos", "--model", "glyphs-200-bit", "--features", store, *SHORT, "--groups", "random", "--out", "new", "what another model than"),
        ("finetune", "augdelete", "--model", "run", "--fraction", "0", "--out", "new", "needs `fraction` above 0 and at most 1; got fraction=0"),
        ("finetune", "augdelete", "--model", "run", "--penalty", "0", "--out", "new", "needs `penalty` above 0"),
        ("finetune", "augdelete", "--model", "run", "--epochs", "2", "--out", "new", "augdelete has no --epochs"),
        ("finetune", "augdelete", "--model", "run", "--features", "photos/train", "--out", "new", "is pictures, not what a classifier said"),
        ("finetune", "augdelete", "--model", "run", "--out", "run", "run holds a run of another recipe"),
        ("finetune", "augdelete", "--model", "run", "--fraction", "0.5", "--out", "deleted", "deleted holds a run of another recipe"),
        ("finetune", "sft", "--model", "run", "--out", "run", "run holds a run of another recipe"),
        ("finetune", "sft", "--model", "empty", "--data", "photos", "--out", "new", "there is no model.safetensors in it"),
    ):  # fmt: skip
        refused(run, *arguments, message=message)
        assert not Path("new/model.safetensors").exists(), arguments
        shutil.rmtree("new", ignore_errors=True)
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_run_that_began_with_a_trained_model_is_not_trained_anew(run: Run) -> None:
    good(run, "finetune", "sft", "--model", "run", *SHORT, "--out", "tuned")
    refused(run, "train", "--recipe", "tuned/recipe.json", "--out", "new", message="began with a trained model, run. Give it to farfield finetune")
    refused(run, "finetune", "run/recipe.json", "--out", "new", message="--model is missing")
    for key, value in (("data", 5), ("half", "yes"), ("limit", 0), ("groups", "ab"), ("penalty", "x"), ("start", [])):
        told = json.loads(Path("tuned/recipe.json").read_text()) | {key: value}
        Path("wrong.json").write_text(json.dumps(told))
        refused(run, "finetune", "wrong.json", "--out", "new", message=f"wrong.json is broken: its {key} cannot be")


def test_the_loss_turning_nan_keeps_the_last_good_checkpoint(run: Run) -> None:
    command = ("train", "--recipe", "cross-entropy", "--model", "resnet", "--data", "photos", "--batch-size", "4")
    refused(run, *command, "--set", "lr=1e30", "--epochs", "4", "--out", "nan", message=" at step ")
    assert not Path("nan/model.safetensors").exists()


def test_a_full_disk_is_one_sentence_and_loses_nothing(run: Run) -> None:
    good(run, *TRAIN, "--out", "kept")
    before = {path: path.read_bytes() for path in Path("kept").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        refused(run, *TRAIN, "--out", "full", message="full")  # the checkpoint
        refused(run, *TRAIN, "--out", "kept", message="kept")  # the model of a finished run
        refused(run, "finetune", "augdelete", "--model", "run", "--out", "deleted", message="deleted")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path: path.read_bytes() for path in before} == before
    assert not list(Path("full").glob("*.tmp")) and not Path("full/model.safetensors").exists()
    good(run, *TRAIN, "--out", "full")
    assert same("full", "kept")


def test_a_checkpoint_of_another_architecture_is_refused(run: Run) -> None:
    good(run, "train", "--recipe", "cross-entropy", "--model", "bit", "--data", "photos", *SHORT, "--out", "bit")
    shutil.copy("bit/checkpoint.safetensors", "run/checkpoint.safetensors")
    refused(run, *TRAIN, "--out", "run", message="run/checkpoint.safetensors is of another architecture")
    Path("run/checkpoint.safetensors").write_bytes(b"broken")
    refused(run, *TRAIN, "--out", "run", message="run/checkpoint.safetensors cannot be read")
    save_file({"x": torch.zeros(1)}, "other.safetensors")
    refused(
        run,
        "finetune",
        "sft",
        "--model",
        "timm:test_resnet",
        "--weights",
        "other.safetensors",
        "--data",
        "photos",
        "--out",
        "new",
        message="The weights do not fit",
    )


def test_grey_pictures_have_no_channels_in_another_order(run: Run) -> None:
    status, _, err = run(
        "finetune", "sft", "--model", "run", "--data", "grey", "--set", "pseudo=channels", "--set", "augment=none", *SHORT, "--out", "new"
    )
    assert status == 0 and "A batch of grey pictures alone has no pseudo-outliers" in err


def test_pictures_that_cannot_be_read(run: Run) -> None:
    shutil.copytree("photos", "broken")
    Path("broken/train/red/03.png").write_bytes(b"no")
    command = ("train", "--recipe", "augrevise", "--model", "resnet", "--data", "broken", "--epochs", "1", "--batch-size", "12")
    err = good(run, *command, "--out", "one")
    assert "1 training pictures cannot be read" in err and "red/03.png" in err
    refused(run, *command, "--strict", "--out", "two", message="red/03.png cannot be read")
    refused(run, *command, "--strict", "--workers", "1", "--out", "three", message="red/03.png cannot be read")


def test_a_file_is_as_good_as_its_folder(run: Run) -> None:
    good(run, "finetune", "sft", "--model", "run/model.safetensors", "--data", "photos", *SHORT, "--out", "new")
    assert json.loads(Path("new/recipe.json").read_text())["model"] == "resnet"
    assert Classifier.load("new").labels == ("blue", "green", "red")


# --- soups --------------------------------------------------------------------------------------------------------------------------------


def test_a_soup_is_the_mean_of_its_models_with_statistics_of_its_own(run: Run) -> None:
    for seed in ("1", "2"):
        assert run("finetune", "cross-entropy", "--model", "run", "--out", f"more-{seed}", *SHORT, "--seed", seed)[0] == 0
    status, _, said = run("soup", "more-1", "more-2", "--out", "soup")
    assert status == 0 and "In the soup: more-1, more-2." in said and "Accuracy after" in said
    one, two, both = (load_file(Path(name) / "model.safetensors") for name in ("more-1", "more-2", "soup"))
    for name, value in both.items():
        if "running" not in name and value.is_floating_point():
            assert torch.allclose(value, (one[name].double() + two[name].double()).div(2).float(), atol=1e-6), name
    assert any(not torch.allclose(both[name], (one[name] + two[name]) / 2) for name in both if "running_var" in name)
    told = json.loads(Path("soup/recipe.json").read_text("utf-8"))
    assert told["soup"] == ["more-1", "more-2"] and Path("soup/run.html").exists()
    assert Classifier.load("soup").labels == tuple(COLOURS)


def test_a_greedy_soup_chooses_by_pictures_of_its_own_and_what_cannot_be_mixed_is_refused(run: Run) -> None:
    assert run("finetune", "cross-entropy", "--model", "run", "--out", "more", *SHORT)[0] == 0
    status, _, said = run("soup", "run", "more", "--out", "soup", "--greedy", "--val", "photos/val")
    assert status == 0 and "In the soup: " in said
    refused(run, "soup", "run", "more", "--greedy", message="--greedy chooses by accuracy")
    refused(run, "soup", "run", "--out", "other", message="two models or more; got 1")
    assert run("train", "--recipe", "cross-entropy", "--model", "bit", "--data", "photos", *SHORT, "--out", "bit")[0] == 0
    refused(run, "soup", "run", "bit", "--out", "other", message="only models of one architecture average")


def test_batchnorm_is_warned_of_in_sft(run: Run) -> None:
    status, _, said = run("finetune", "sft", "--model", "run", "--out", "sft", *SHORT)
    assert status == 0 and "has BatchNorm, which sharpness-aware fine-tuning does not suit" in said

"""`farfield data ...`, `farfield suite new` and `--suite` with files: from the command to what it prints and writes."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trees
from farfield import cli
from farfield.data import suites
from farfield.data.suites.writing import to_toml
from farfield.errors import FarfieldWarning

Run = Callable[..., tuple[int, str, str]]
MODEL = """
import torch
from torch import nn
from farfield import Classifier
from farfield.data.transforms import Preprocess

def net(classes):
    torch.manual_seed(0)
    body = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, classes))
    return Classifier.wrap(body, transform=Preprocess(resize=8, crop=8), name=f"net-{classes}", input_size=(3, 8, 8))

def ten(): return net(10)
def five(): return net(5)
def two(): return net(2)
"""
TEN = ("--model", "python:suite_nets:ten", "--device", "cpu")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "suite_nets.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv(suites.VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("suite_nets", None)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["farfield", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return command


def refused(run: Run, *arguments: object) -> str:
    status, out, err = run(*arguments)
    assert (status, out) == (2, ""), err
    return err


# --- data ---------------------------------------------------------------------------------------------------------------------------------


def test_list_has_every_suite(run: Run) -> None:
    status, out, err = run("data", "list")
    assert status == 0 and "farfield data show NAME" in err
    for name in suites.NAMES:
        assert f"\n{name} " in out
    assert "1,366,807" in out and "drawn" in out
    lines = json.loads(run("data", "list", "--json")[1])
    assert [line["name"] for line in lines] == list(suites.NAMES)
    mos = next(line for line in lines if line["name"] == "mos-imagenet")
    assert mos["classes"] == 1000 and mos["ood"] == ["iNaturalist", "SUN", "Places", "Textures"] and not mos["drawn"]


def test_show_says_what_and_where_from(run: Run) -> None:
    status, out, _ = run("data", "show", "ninco")
    assert status == 0
    for told in (
        "5,879",
        "NINCO/NINCO_OOD_classes",
        "CC-BY-4.0",
        "https://zenodo.org/record/8013288",
        "each model has its own",
        "154.64 GB",
        "of OOD at 95 % of ID kept",
    ):
        assert told in out, told
    out = run("data", "show", "openood-v1.5-imagenet200")[1]
    assert "not published" in out and "licence: not stated" in out and "of ID at 95 % of OOD caught" in out and "resize=256,crop=224" in out
    assert json.loads(run("data", "show", "cifar10-sft", "--json")[1])["sources"]["svhn"]["archives"][0]["md5"] == "eb5a983be6a315427106f1b164d9cef3"
    assert "needs no data" in run("data", "show", "glyphs-200")[1]
    assert json.loads(run("data", "show", "glyphs-200", "--json")[1])["validation"] == ["jigsaw", "channels"]
    assert "did you mean 'ninco'?" in refused(run, "data", "show", "nico")


def test_verify_counts_and_exits_3_while_something_is_missing(run: Run, tmp_path: Path) -> None:
    trees.write(tmp_path / "o.toml", to_toml(trees.make("openood-v1.5-cifar10", tmp_path / "root", 4)))
    status, out, err = run("data", "verify", "o.toml", "--root", "root")
    assert status == 0 and out.count("complete") == 10 and "10 of 10 sets of openood-v1.5-cifar10 are complete in root." in err
    next((tmp_path / "root/images_classic/svhn").rglob("*.png")).unlink()
    for path in (tmp_path / "root/images_classic/tin/val_tin").rglob("*.png"):
        path.unlink()
    (tmp_path / "root/benchmark_imglist/cifar10/test_mnist.txt").unlink()
    status, out, err = run("data", "verify", "o.toml", "--root", "root")
    assert status == 3 and "incomplete" in out and "missing" in out and "svhn/test_svhn/a class" in out and "7 of 10 sets" in err
    assert "svhn.zip" in err and "cifar100.zip" not in err  # only what is needed
    told = json.loads(run("data", "verify", "o.toml", "--root", "root", "--json", "--checksums")[1])
    assert not told["whole"] and {one["name"]: one["there"] for one in told["sets"]}["svhn"] == 3
    assert {one["state"] for one in told["archives"]} == {"absent"}


def test_verify_tells_too_many_and_archives_that_differ(run: Run, tmp_path: Path) -> None:
    trees.write(tmp_path / "m.toml", to_toml(trees.make("mos-imagenet", tmp_path / "root", 4)))
    trees.save(tmp_path / "root/ood_data/SUN/images/more.jpg", -1, 20, np.random.default_rng(0))
    status, out, err = run("data", "verify", "m.toml", "--root", "root")
    assert status == 3 and "too many" in out and "SUN has 1 pictures more than it is to have" in err
    (tmp_path / "root/ood_data/SUN/images/more.jpg").unlink()
    trees.write(tmp_path / "root/archives/SUN.tar.gz", "x")
    assert run("data", "verify", "m.toml", "--root", "root")[0] == 0
    status, out, err = run("data", "verify", "m.toml", "--root", "root", "--checksums")
    assert status == 3 and "unlike" in out and "SUN.tar.gz is not what was published: its md5 is" in err


def test_drawn_suites_are_whole_and_need_nothing(run: Run) -> None:
    assert run("data", "verify", "glyphs-200")[:2] == (0, "glyphs-200 is drawn on the spot; it needs no data.\n")
    assert json.loads(run("data", "verify", "glyphs-200", "--json")[1])["whole"]
    assert run("data", "prepare", "glyphs-1000")[0] == 0


def test_prepare_dry_run_says_what_would_be_done(run: Run, tmp_path: Path) -> None:
    status, out, err = run("data", "prepare", "mos-imagenet", "--root", "root", "--dry-run")
    assert status == 0 and not (tmp_path / "root").exists()
    assert (
        "fetch and unpack: SUN.tar.gz (checked by md5) from http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset/SUN.tar.gz, into root/ood_data"
        in out
    )
    assert "fetch and unpack: dtd-r1.0.1.tar.gz (0.63 GB, checked by md5)" in out
    assert "by hand: ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar" in out and "Needs an account." in err
    steps = json.loads(run("data", "prepare", "mos-imagenet", "--root", "root", "--dry-run", "--json")[1])
    assert {step["action"] for step in steps} == {"by hand", "fetch and unpack"}
    made = trees.make("mos-imagenet", tmp_path / "root", 4)
    trees.write(tmp_path / "m.toml", to_toml(made))
    assert "has all of its data in root" in run("data", "prepare", "m.toml", "--root", "root", "--dry-run")[2]
    status, _, err = run("data", "prepare", "m.toml", "--root", "root")
    assert status == 0 and "Nothing is left to do." in err


def test_prepare_exits_3_while_something_is_left_to_a_person(run: Run, tmp_path: Path) -> None:
    trees.write(tmp_path / "o.toml", to_toml(trees.make("openood-v1.5-cifar10", tmp_path / "root", 4)))
    next((tmp_path / "root/images_classic/svhn").rglob("*.png")).unlink()
    status, out, err = run("data", "prepare", "o.toml", "--root", "root")
    assert status == 3 and out.startswith("by hand: benchmark_imglist.zip") and "Put svhn.zip into root/archives" in err


def test_the_root_is_a_variable_of_the_environment(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.write(tmp_path / "o.toml", to_toml(trees.make("openood-v1.5-cifar10", tmp_path / "elsewhere", 3)))
    monkeypatch.setenv(suites.VARIABLE, str(tmp_path / "elsewhere"))
    assert run("data", "verify", "o.toml")[0] == 0
    monkeypatch.delenv(suites.VARIABLE)
    assert "are complete in data." in run("data", "verify", "o.toml")[2]


# --- bench --------------------------------------------------------------------------------------------------------------------------------


def test_bench_on_a_published_suite(run: Run, tmp_path: Path) -> None:
    trees.make("openood-v1.5-cifar10-fs", tmp_path / "root", 20)
    status, out, err = run(
        "bench", "--suite", "openood-v1.5-cifar10-fs", "--root", "root", *TEN, "--detector", "energy", "--detector", "knn:k=3", "--json"
    )
    assert status == 0, err
    found = json.loads(out)
    rows = {(row["ood"], row["group"]): (row["n_id"], row["n_ood"]) for row in found["rows"]}
    assert rows[("cifar100", "near")] == (40, 20) and rows[("mnist", "far")] == (40, 20) and rows[(None, "near")] == (40, 40)
    assert found["classifiers"][0]["class_names"][3] == "cat" and "covariate-shifted" in found["suites"][0]["note"]
    assert "calibrate" not in err  # the suite has calibration data
    assert "cifar100 of openood-v1.5-cifar10-fs has 20 pictures and is to have 9,000" in err
    assert any("is to have 9,000" in warning["message"] for warning in found["warnings"])
    limited = run(
        "bench", "--suite", "openood-v1.5-cifar10-fs", "--root", "root", *TEN, "--detector", "energy", "--limit", "12", "--json", "--out", "few"
    )
    assert {(row["n_id"], row["n_ood"]) for row in json.loads(limited[1])["rows"]} == {(12, 12), (12, 24), (12, 48)}
    assert (tmp_path / "farfield-out" / "report.html").stat().st_size > 10_000


NINCO = """
name = "small"
title = "Small"
classes = ["n01440764", "n01443537", "n01484850", "n01491361", "n01494475"]
[splits.train]
folder = "imagenet/train"
[splits.test]
folder = "imagenet/val"
[near.ninco]
folder = "NINCO/NINCO_OOD_classes"
parts = "classes"
[far.unit_tests]
noise = 2
size = [16, 16]
"""


def test_the_mean_over_classes_is_that_of_each_class_alone(run: Run, tmp_path: Path) -> None:
    trees.make("ninco", tmp_path / "root", 15)
    trees.write(tmp_path / "small.toml", NINCO)
    model = ("--model", "python:suite_nets:five", "--device", "cpu")
    status, out, err = run("bench", "--suite", "small.toml", "--root", "root", *model, "--detector", "energy", "--json")
    assert status == 0, err
    rows = {(row["ood"], row["group"]): row for row in json.loads(out)["rows"]}
    classes = [row for (_, group), row in rows.items() if group == "class"]
    assert [row["ood"] for row in classes] == ["Caracal caracal caracal", "amphiuma_means"] and [row["n_ood"] for row in classes] == [8, 7]
    by_class = rows[("ninco by class", "classes")]
    for figure in ("fpr_at_95_tpr_id", "auroc", "fpr_at_95_tpr_ood", "ap_id"):
        assert by_class[figure] == pytest.approx(np.mean([row[figure] for row in classes]))
    assert by_class["n_ood"] == 15 and by_class["rank"] is None
    scores = load_file(tmp_path / "farfield-out" / "scores" / "small" / "net-5.safetensors")
    threshold = scores["energy/test"].sort().values[0]  # keeps at least 95 % of 15
    assert classes[0]["fpr_at_95_tpr_id"] == pytest.approx(float((scores["energy/ninco"][:8] >= threshold).float().mean()))
    assert len([row for (_, group), row in rows.items() if group == "unit-test"]) == 17
    table = run("bench", "--suite", "small.toml", "--root", "root", *model, "--detector", "energy")[1]
    assert "ninco by class" in table and "amphiuma" not in table and "mean over the classes of a set" in " ".join(table.split())
    assert " of 17" in table  # families of noise, no class among them


def test_bench_says_what_a_suite_lacks(run: Run, tmp_path: Path) -> None:
    said = refused(run, "bench", "--suite", "ninco", "--root", "root")
    assert "ninco needs a classifier: any classifier of the 1,000 classes of ImageNet, with its own preprocessing. Name one with --model." in said
    said = refused(run, "bench", "--suite", "ninco", "--root", "root", *TEN)
    assert "train of ninco is not there (root/imagenet/train), nor are 3 other sets. `farfield data verify ninco --root root` says what" in said
    assert "--root is where a suite's data lie, and glyphs-200 is drawn" in refused(run, "bench", "--suite", "glyphs-200", "--root", "x")
    assert "--id-train goes with your own data" in refused(run, "bench", "--suite", "ninco", "--id-train", "x")
    trees.make("openood-v1.5-cifar10", tmp_path / "root", 12)
    said = refused(run, "bench", "--suite", "openood-v1.5-cifar10", "--root", "root", "--model", "python:suite_nets:five", "--device", "cpu")
    assert "net-5 has 5 classes and openood-v1.5-cifar10 has 10" in said


@pytest.mark.parametrize(
    ("arguments", "mean", "crop"),
    [
        ((), (0.485, 0.456, 0.406), 224),
        (("--preprocess", "model"), None, None),
        (("--preprocess", "resize=64,crop=64,mean=0,std=1"), (0.0, 0.0, 0.0), 64),
    ],
)
def test_a_suites_preprocessing_is_for_models_from_elsewhere(
    arguments: tuple[str, ...], mean: tuple[float, ...] | None, crop: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.transforms import v2

    from farfield.classifier import Classifier
    from farfield.cli import bench
    from farfield.data.transforms import FromPictures, Preprocess

    steps = [
        v2.Resize(8),
        v2.CenterCrop(8),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]

    def load(name: str, preprocess: str | None, **_: object) -> Classifier:
        net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 4))
        transform = FromPictures(v2.Compose(steps)) if preprocess is None else Preprocess.parse(preprocess)
        return Classifier.wrap(net, transform=transform, name=name, input_size=(3, 8, 8))

    monkeypatch.setattr(bench, "load_classifier", load)
    given = bench.Given({"preprocess": arguments[1]} if arguments else {})
    (elsewhere,) = bench._classifiers(given, ["timm:net"], "cpu", "resize=256,crop=224,mean=0.5,std=0.5")
    if mean is None:
        assert not isinstance(elsewhere.transform, Preprocess)
        return
    assert isinstance(elsewhere.transform, Preprocess) and elsewhere.transform.crop == crop
    assert elsewhere.transform.mean == pytest.approx(mean, abs=1e-4)  # that the model was trained with, not the suite's


def test_a_model_of_one_size_is_told_from_the_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    from farfield.classifier import Classifier
    from farfield.cli import bench
    from farfield.data.transforms import Preprocess
    from farfield.errors import InputError

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    made = Classifier.wrap(net, transform=Preprocess(resize=8, crop=8), name="fixed", input_size=(3, 8, 8))
    with pytest.raises(
        InputError,
        match=r"fixed does not take the 16 x 16 pixels that the suite's preprocessing makes \(.*Keep the model's own with --preprocess model",
    ):
        bench.published_for(made, "timm:fixed", "resize=16,crop=16")
    own = made.transform
    bench.published_for(made, "python:mine:fixed", "resize=16,crop=16")
    bench.published_for(made, "fixed.safetensors", "resize=16,crop=16")
    assert made.transform is own  # Farfield's files and functions of one's own have theirs


# --- suite new, tune, train ---------------------------------------------------------------------------------------------------------------


def own_folders(root: Path) -> None:
    random = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 6), ("cal", 6)):
        for index in range(n):
            trees.save(root / split / ("2 dogs", "10 cats")[index % 2] / f"{index}.png", index % 2, 20, random)
    for name in ("birds", "noise", "other"):
        for index in range(5):
            trees.save(root / name / f"{index} é.jpg", -1, 20, random)


NEW = (
    "suite",
    "new",
    "pets",
    "--id-train",
    "my data/train",
    "--id-test",
    "my data/test",
    "--near",
    "birds=my data/birds",
    "--far",
    "noise=my data/noise",
)


def test_a_suite_of_ones_own_is_written_verified_and_benched(run: Run, tmp_path: Path) -> None:
    own_folders(tmp_path / "my data")
    status, _, err = run(*NEW, "--id-cal", "my data/cal", "--validation", "other=my data/other", "--note", "Pets.", "--out", "sub/pets.toml")
    assert status == 0 and "39 pictures in 6 sets. Written: sub/pets.toml" in err
    status, _, _ = run(*NEW, "--id-cal", "my data/cal", "--validation", "other=my data/other", "--out", "pets.toml")
    found = suites.definition("pets.toml")
    assert found.classes == ("10 cats", "2 dogs") and found.root is not None and Path(found.root) == Path("my data")
    assert suites.definition("sub/pets.toml").root == str(tmp_path / "my data")  # outside of its folder, so absolute
    assert {name: pictures.count for _, name, pictures in found.sets()} == {
        "train": 12,
        "calibration": 6,
        "test": 6,
        "birds": 5,
        "noise": 5,
        "other": 5,
    }
    assert run("data", "verify", "pets.toml")[0] == 0 == run("data", "verify", "sub/pets.toml")[0]
    (tmp_path / "my data/birds/0 é.jpg").unlink()
    assert run("data", "verify", "pets.toml")[0] == 3
    two = ("--model", "python:suite_nets:two", "--device", "cpu")
    status, out, err = run("bench", "--suite", "pets.toml", *two, "--detector", "energy", "--json")
    assert status == 0, err
    assert json.loads(out)["classifiers"][0]["class_names"] == ["10 cats", "2 dogs"] and len(json.loads(out)["rows"]) == 4
    assert run("tune", "knn", "--suite", "pets.toml", *two, "--values", "k=1,2")[0] == 0
    moved = tmp_path / "moved"
    (tmp_path / "my data").rename(moved)
    assert run("data", "verify", "pets.toml", "--root", "moved")[0] == 3


def test_lists_and_numbered_folders_make_a_suite(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(24):
        trees.save(tmp_path / "d" / "test" / str(index % 12) / f"{index}.png", 0, 20, random)
        trees.save(tmp_path / "d" / "lists" / f"{index}.png", 0, 20, random)
    trees.write(tmp_path / "d" / "lists" / "train.txt", "".join(f"{index}.png {index % 12}\n" for index in range(24)))
    assert run("suite", "new", "n", "--id-test", "d/test", "--near", "x=d/lists", "--out", "n.toml")[0] == 0
    assert suites.definition("n.toml").classes == tuple(map(str, range(12)))  # 10 after 9
    assert (
        run("suite", "new", "m", "--id-train", "d/lists/train.txt", "--id-test", "d/lists/train.txt", "--near", "x=d/lists", "--out", "m.toml")[0]
        == 0
    )
    found = suites.definition("m.toml")
    assert found.classes == 12 and suites.load("m.toml").split("train").labels.tolist()[:13] == [*range(12), 0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--out", "pets.txt"), "A suite is a .toml file; got 'pets.txt'"),
        (("--out", "p.toml", "--near", "birds=x"), "There are two OOD sets called 'birds'"),
        (("--out", "p.toml", "--far", "birds=my data/noise"), "There are two OOD sets called 'birds'"),
        (("--out", "p.toml", "--far", "birds"), "--far takes NAME=DATA"),
        (("--out", "p.toml", "--far", "x=nowhere"), "There is no folder or list 'nowhere'"),
        (("--out", "p.toml", "--far", "test=my data/noise"), "the OOD set 'test' needs a name of its own"),
        (("--out", "p.toml", "--preprocess", "resize"), "Preprocessing"),
        (("--out", "p.toml", "--id-cal", "my data/birds"), "birds has no sub-folders, which are the classes of calibration of pets"),
    ],
)
def test_what_cannot_be_a_suite_is_refused(run: Run, tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    own_folders(tmp_path / "my data")
    assert said in refused(run, *NEW, *more)
    assert not (tmp_path / "p.toml").exists()


def test_classes_of_the_test_data_must_be_those_of_the_training_data(run: Run, tmp_path: Path) -> None:
    own_folders(tmp_path / "my data")
    trees.save(tmp_path / "my data/test/3 mice/1.png", 0, 20, np.random.default_rng(0))
    assert "The folder '3 mice' of" in refused(run, *NEW, "--out", "p.toml")


def test_tune_refuses_validation_sets_of_a_test_sets_source(run: Run, tmp_path: Path) -> None:
    trees.make("openood-v1.5-cifar10", tmp_path / "root", 16)
    arguments = ("tune", "knn", "--suite", "openood-v1.5-cifar10", "--root", "root", *TEN, "--values", "k=1,2")
    assert "The validation set 'tin_val' of openood-v1.5-cifar10 is of the source of its test set 'tin'" in refused(run, *arguments)
    status, out, err = run(*arguments, "--allow", "tin_val")
    assert status == 0 and "--suite openood-v1.5-cifar10 --root root" in out, err


def test_a_suite_with_a_root_is_training_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farfield.recipes.data import open_training

    trees.make("cifar10-sft", tmp_path, 12, patch=monkeypatch)
    with (
        pytest.warns(FarfieldWarning, match="train of cifar10-sft has 12 pictures and is to have 50,000"),
        pytest.warns(FarfieldWarning, match="test of cifar10-sft has 12 pictures and is to have 10,000"),
    ):
        found = open_training("cifar10-sft", root=tmp_path)
    assert found.classes == 10 and len(found.train) == 12 and len(found.val) == 12 and found.augmentations is None and found.taxonomy is None
    assert found.labels is not None and found.labels[3] == "cat"


# --- overlap ------------------------------------------------------------------------------------------------------------------------------


def test_overlap_finds_planted_copies(run: Run, tmp_path: Path) -> None:
    from test_overlap import scene

    for seed in range(20):
        path = tmp_path / "o" / "train" / ("cat", "dog")[seed % 2] / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(seed).save(path)
    for seed in (4, 50, 51):
        path = tmp_path / "o" / "birds" / ("Cat", "Owl")[seed % 2] / f"{seed}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(seed).resize((60, 60)).save(path)
    two = ("--model", "python:suite_nets:two", "--device", "cpu")
    status, out, err = run("data", "overlap", "--id-train", "o/train", "--near", "birds=o/birds", *two, "--distance", "0.0001")
    assert status == 0, err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "farfield-out/overlap.csv").read_text())))
    assert ("hash", "o/birds/Cat/4.jpg", "o/train/cat/4.png") in [(row["by"], row["ood"], row["id"]) for row in rows]
    assert "Cat (2)" in out and "near by features" in out and "1 shared classes" in err
    told = json.loads(run("data", "overlap", "--id-train", "o/train", "--near", "birds=o/birds", "--json", "--out", "x/y.csv")[1])
    assert [pair["by"] for pair in told["pairs"]] == ["hash"] and told["classes"] == [
        {"ood_set": "birds", "ood_class": "Cat", "id_class": "cat", "pictures": 2}
    ]
    assert (tmp_path / "x/y.csv").exists()
    run("suite", "new", "o", "--id-train", "o/train", "--id-test", "o/train", "--near", "birds=o/birds", "--out", "o.toml")
    again = json.loads(run("data", "overlap", "--suite", "o.toml", "--json")[1])
    assert again["classes"] == told["classes"] and [Path(pair["ood"]).name for pair in again["pairs"]] == ["4.jpg"]


def test_overlap_runs_on_glyphs(run: Run) -> None:
    status, out, err = run("data", "overlap", "--suite", "glyphs-200", "--limit", "8", "--model", "glyphs-200-resnet", "--device", "cpu")
    assert status == 0 and "letters" in out and "jigsaw" in out, err


def test_overlap_says_what_it_needs(run: Run, tmp_path: Path) -> None:
    assert "Give --suite, or --id-train and at least one --near" in refused(run, "data", "overlap")
    own_folders(tmp_path / "d")
    assert "needs a name of its own, other than train" in refused(run, "data", "overlap", "--id-train", "d/train", "--near", "train=d/birds")
    np.save(tmp_path / "logits.npy", np.zeros((3, 2), np.float32))
    said = refused(run, "data", "overlap", "--id-train", "logits.npy", "--near", "x=d/birds")
    assert "train is what a classifier said; overlap is looked for in pictures" in said
    assert "is no file" in refused(run, "data", "overlap", "--id-train", "d/train", "--near", "x=d/birds", "--out", ".")

"""A study of many classifiers: what is kept and what fails, the pools, the table, and every statistic against an oracle."""

from __future__ import annotations

import csv
import gc
import io
import json
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import nn

import farfield as ff
from farfield import metrics, models, study
from farfield.benchmark.run import scores_path
from farfield.data.images import Images, OODSet, Suite
from farfield.detectors import parse
from farfield.errors import InputError
from farfield.study import Done, Entry, Options
from farfield.study.analysis import correlated, families, ranked, said_of_numbers, winners
from farfield.study.answer import answer, detector_of, elsewhere, front
from farfield.study.effects import MOST, columns, effects, matched
from farfield.study.figures import COLUMNS, Figures, figures_of, points_of, table_of
from farfield.study.run import forecast, reason_of
from farfield.study.texts import letters, tables

DETECTORS = {name: parse(name) for name in ("msp", "energy", "mahalanobis")}
NORMALIZE = {"mean": [0.5] * 3, "std": [0.5] * 3}


# --- a small world --------------------------------------------------------------------------------------------------------------------------


def pictures(name: str, n: int, seed: int, level: int = 128, parts: Mapping[str, slice] | None = None) -> Images:
    random = np.random.default_rng(seed)
    labels = torch.arange(n) % 3 if name in ("train", "test") else torch.full((n,), -1)
    base = level + 40 * np.maximum(labels.numpy(), 0)[:, None, None, None] - 40
    made = torch.from_numpy(np.clip(base + 25 * random.standard_normal((n, 3, 4, 4)), 0, 255).astype(np.uint8))
    return Images(name, made, labels, parts=parts or {})


def small_suite() -> Suite:
    noise = pictures("noise", 40, 5, 220, {"salt": slice(0, 10), "pepper": slice(10, 40)})
    sets = (("birds", "near", pictures("birds", 40, 3, 160)), ("fish", "near", pictures("fish", 30, 4, 100)), ("noise", "far", noise))
    ood = tuple(OODSet(name, group, lambda data=data: data) for name, group, data in sets)  # type: ignore[arg-type]
    splits = {"train": lambda: pictures("train", 60, 1), "test": lambda: pictures("test", 60, 2)}
    return Suite("small", ("a", "b", "c"), {}, splits, ood, (), "A small world.")


class Net(nn.Module):
    def __init__(self, seed: int = 0, classes: int = 3, wrong: str = "") -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.last, self.wrong = nn.Linear(48, 8), nn.Linear(8, classes), wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.wrong == "memory" and len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")
        if self.wrong == "disk" and len(x) > 8:
            raise OSError(28, "No space left on device")
        if self.wrong == "stopped" and len(x) > 8:
            raise KeyboardInterrupt
        y: torch.Tensor = self.last(torch.relu(self.first(x.flatten(1))))
        return y * math.nan if self.wrong == "nan" and len(x) > 8 else y


class World:
    """Makes the classifiers by name, and notes which."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.alive: list[Any] = []
        self.most = 0

    def jobs(self, model: str) -> Any:
        self.made.append(model)
        self.most = max(self.most, sum(one() is not None for one in self.alive))
        kind, _, number = model.partition("-")
        if kind == "missing":
            raise InputError("There is no such classifier.")
        net = Net(int(number or 0), 10 if kind == "other" else 3, kind if kind in ("nan", "memory", "disk", "stopped") else "")
        self.alive.append(weakref.ref(net))
        classifier = ff.Classifier.wrap(net, transform=lambda p: p.float() / 255, name="whatever", input_size=(3, 4, 4))
        classifier.itself = classifier  # type: ignore[attr-defined]  # what only a collection of cycles frees
        return [(small_suite(), [classifier])]


def entries(*names: str, **metadata: Sequence[Any]) -> list[Entry]:
    return [Entry(name, name, {key: values[i] for key, values in metadata.items()}) for i, name in enumerate(names)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Done], Path, World]:
    """Five classifiers that work, and one of each kind that does not."""
    out, world = tmp_path_factory.mktemp("study"), World()
    pool = entries(
        "net-0", "nan-0", "net-1", "other", "net-2", "memory", "net-3", "missing", "net-4", rate=[0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.2, 0.1, None]
    )
    gc.disable()  # so that nothing is freed by chance
    try:
        return study.run(pool, world.jobs, DETECTORS, out=out), out, world
    finally:
        gc.enable()


# --- running --------------------------------------------------------------------------------------------------------------------------------


def test_one_that_fails_is_a_row_with_its_reason_and_the_others_go_on(ran: tuple[list[Done], Path, World]) -> None:
    found, _, _ = ran
    reasons = {one.entry.name: one.reason for one in found}
    assert [name for name, reason in reasons.items() if not reason] == [f"net-{i}" for i in range(5)]
    assert reasons["nan-0"].startswith("`logits` has NaN in 60 of 60 rows, first at row 0.")
    assert reasons["other"] == "other has 10 classes and small has 3; it was trained for another suite."
    assert reasons["memory"] == "It does not fit in memory (OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB)."
    assert reasons["missing"] == "There is no such classifier."
    rows = [row for row in table_of(found) if row["status"] == "failed"]
    assert {row["classifier"]: row["reason"] for row in rows} == {name: reason for name, reason in reasons.items() if reason}
    assert all(row["auroc"] is None and row["rate"] == 0.1 for row in rows)
    assert found[0].parameters == 48 * 8 + 8 + 8 * 3 + 3 and found[0].seconds > 0


def test_each_classifier_is_freed_before_the_next_and_its_outputs_go(ran: tuple[list[Done], Path, World]) -> None:
    _, out, world = ran
    assert world.most == 0 and len(world.alive) == 8
    kept = [json.loads((path / "facts.json").read_text())["about"] for path in (out / "store").iterdir()]
    assert {about["classifier"] for about in kept} == {"nan-0", "memory"}  # which are tried again


def test_what_is_done_is_not_done_again_and_what_failed_is(ran: tuple[list[Done], Path, World]) -> None:
    found, out, _ = ran
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "classifiers").iterdir()}
    assert set(kept) == {f"net-{i}.json" for i in range(5)}
    world = World()
    again = study.run([one.entry for one in found], world.jobs, DETECTORS, out=out)
    assert world.made == ["nan-0", "other", "memory", "missing"]
    assert {path.name: path.stat().st_mtime_ns for path in (out / "classifiers").iterdir()} == kept
    assert [one.reason for one in again] == [one.reason for one in found]
    assert table_of([one for one in again if not one.reason]) == table_of([one for one in found if not one.reason])


def test_a_study_that_was_stopped_goes_on(tmp_path: Path) -> None:
    world, pool = World(), entries("net-0", "stopped", "net-1")
    with pytest.raises(KeyboardInterrupt):
        study.run(pool, world.jobs, DETECTORS, out=tmp_path)
    assert world.made == ["net-0", "stopped"]
    world, told = World(), []
    found = study.run(
        entries("net-0", "net-1"), world.jobs, DETECTORS, out=tmp_path, each=lambda done, n, ahead: told.append((done.entry.name, n, ahead))
    )
    assert world.made == ["net-1"] and [one.reason for one in found] == ["", ""]
    assert [(name, n) for name, n, _ in told] == [("net-0", 1), ("net-1", 2)] and told[0][2].startswith("about ") and told[1][2] == ""


def test_progress_names_the_classifier_its_number_and_what_is_left(tmp_path: Path) -> None:
    told: list[str] = []
    study.run(entries("net-0", "net-1"), World().jobs, DETECTORS, out=tmp_path, progress=lambda what, done, total: told.append(what))
    assert told[0] == "net-0 (1 of 2): loading" and "net-0 (1 of 2): msp" in told
    second = [what for what in told if what.startswith("net-1")]
    assert all(what.startswith("net-1 (2 of 2, about ") and " left): " in what for what in second) and second[0].endswith("left): loading")


def test_nan_is_noticed_by_detectors_of_features_alone_too(tmp_path: Path) -> None:
    (found,) = study.run(entries("nan-0"), World().jobs, {"mahalanobis": parse("mahalanobis")}, out=tmp_path)
    assert found.reason == "Its logits have NaN or infinity on ID test data. Mend the model."


def test_a_full_disk_stops_the_study(tmp_path: Path) -> None:
    with pytest.raises((OSError, InputError)):
        study.run(entries("net-0", "disk"), World().jobs, DETECTORS, out=tmp_path)


def test_other_settings_are_refused_in_one_sentence(tmp_path: Path) -> None:
    def go(**settings: Any) -> None:
        study.run([], World().jobs, DETECTORS, out=tmp_path, options=Options(settings=settings))

    go(limit=100, near=["a=b"])
    go(limit=100, near=["a=b"])
    with pytest.raises(InputError) as raised:
        go(limit=200, near=["a=b", "c=d"], name="mine")
    assert str(raised.value) == (
        f"{tmp_path} holds a study with other settings: limit was 100 and is 200, near was a=b and is a=b, c=d, name was not given and is mine. "
        "Give another folder with --out."
    )
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(InputError, match="it is no JSON object"):
        go()


@pytest.mark.parametrize("text", ["{", "{}", '{"model": "net-0", "state": null, "seconds": 1, "parameters": 2, "results": {"rows": 3}}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "classifiers").mkdir()
    (tmp_path / "classifiers" / "net-0.json").write_text(text)
    with pytest.raises(InputError, match=r"net-0\.json cannot be read .*Delete it, and that classifier is done again\."):
        study.run(entries("net-0"), World().jobs, DETECTORS, out=tmp_path)


def test_a_run_that_was_trained_again_and_one_without_scores_are_done_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes(b"one")
    world, pool = World(), [Entry("net-0", str(run))]

    def jobs(model: str) -> Any:
        return world.jobs("net-0")

    def go() -> int:
        study.run(pool, jobs, DETECTORS, out=tmp_path / "out")
        return len(world.made)

    assert [go(), go()] == [1, 1]
    (run / "model.safetensors").write_bytes(b"another")
    assert [go(), go()] == [2, 2]
    scores_path(tmp_path / "out", "small", "net-0").unlink()
    assert [go(), go()] == [3, 3]
    pool = [Entry("net-0", "net-0")]  # another classifier of that name
    assert go() == 4


def test_outputs_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    study.run(entries("net-0"), World().jobs, DETECTORS, out=tmp_path, options=Options(keep_outputs=True))
    assert len(list((tmp_path / "store").iterdir())) == 5  # training, test and three OOD sets


def test_reasons_and_forecasts() -> None:
    inner = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    try:
        try:
            raise inner
        except RuntimeError as error:
            raise InputError("net fails on a probe") from error
    except InputError as error:
        assert reason_of(error).startswith("It does not fit in memory (RuntimeError: [enforce fail]")
    assert reason_of(RuntimeError("shapes\n  differ")) == "RuntimeError: shapes differ" and reason_of(ValueError()) == "ValueError"
    assert len(reason_of(InputError("x" * 1000))) == 400 and reason_of(InputError("a b")) == "a b"
    assert (
        forecast([10.0, 20.0], 8) == "about 2 min left" and forecast([10.0], 11) == "about 110 s left" and forecast([3600.0], 5) == "about 5 h left"
    )
    assert forecast([10.0], 0) == "" and forecast([], 3) == ""


# --- pools ----------------------------------------------------------------------------------------------------------------------------------


def saved(path: Path, **facts: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.zeros(1)}, path, metadata={"farfield": json.dumps({"architecture": "resnet", **facts})})


RECIPE = {"objective": "cross-entropy", "options": {}, "augment": ["crop", "flip"], "epochs": 4, "steps": 0, "lr": 0.1, "decay_all": True, "seed": 0}


def test_a_folder_of_runs_tells_how_they_were_trained(tmp_path: Path) -> None:
    saved(tmp_path / "deep" / "first" / "model.safetensors")
    told = {"name": "label-smoothing", "model": "timm:resnet18", "start": "elsewhere", "recipe": {**RECIPE, "options": {"smoothing": 0.1}}}
    (tmp_path / "deep" / "first" / "recipe.json").write_text(json.dumps(told))
    (tmp_path / "deep" / "first" / "checkpoint.safetensors").write_bytes(b"no run")
    saved(tmp_path / "second.safetensors", about={"recipe": {**RECIPE, "lr": 0.2}, "start": ""})
    saved(tmp_path / "third.safetensors", recipe={**RECIPE, "augment": []})
    saved(tmp_path / "fourth.safetensors")
    pool = {entry.name: entry for entry in study.pool([str(tmp_path)])}
    assert list(pool) == ["deep/first", "fourth", "second", "third"] and pool["deep/first"].model == str(tmp_path / "deep" / "first")
    first, second, third = (dict(pool[name].metadata) for name in ("deep/first", "second", "third"))
    assert {key: first[key] for key in ("recipe", "start", "objective", "augment", "epochs", "lr", "decay_all", "smoothing", "architecture")} == {
        "recipe": "label-smoothing", "start": "elsewhere", "objective": "cross-entropy", "augment": "crop+flip", "epochs": 4.0, "lr": 0.1, "decay_all": "yes",
        "smoothing": 0.1, "architecture": "resnet",
    }  # fmt: skip
    assert (second["lr"], second["start"], second["smoothing"]) == (0.2, "random weights", "none")  # to lack it is a setting
    assert third["augment"] == "none" and dict(pool["fourth"].metadata) == {"architecture": "resnet"}


def test_the_networks_of_the_experiments_are_a_folder_of_runs() -> None:
    folder = Path(str(models.__file__)).parents[1] / "reproduce" / "networks"
    pool = {entry.name: entry.metadata for entry in study.pool([str(folder)])}
    assert len(pool) == len(list(folder.glob("*.safetensors")))
    assert pool["mixup"]["mix"] == "mixup" and pool["cross-entropy"]["mix"] == "none" and pool["v2"]["smoothing"] == 0.1
    assert (
        pool["pool-200-classes-decay-0-3-rate-0-01"]["lr"] == 0.01
        and pool["pool-200-classes-decay-0-3-rate-0-01"]["start"] == "200 classes, decay 0.3"
    )


def test_lists_tables_names_and_patterns(tmp_path: Path) -> None:
    saved(tmp_path / "run" / "model.safetensors", recipe={**RECIPE, "lr": 0.3})
    (tmp_path / "pool.txt").write_text("# mine\n\nrun\n  glyphs-200-vit \npython:nets:good\n")
    found = study.pool([str(tmp_path / "pool.txt")])
    assert [(entry.name, entry.model) for entry in found] == [
        ("run", str(tmp_path / "run")), ("glyphs-200-vit", "glyphs-200-vit"), ("python:nets:good", "python:nets:good"),
    ]  # fmt: skip
    assert found[0].metadata["lr"] == 0.3 and found[1].metadata == {}
    (tmp_path / "pool.csv").write_text('\ufeffwidth, model ,data\n88,glyphs-200-vit,"a, b"\n,run,\n')
    one, other = study.pool([str(tmp_path / "pool.csv")])
    assert one.metadata == {"width": 88.0, "data": "a, b"} and (other.model, other.metadata["width"], other.metadata["lr"]) == (
        str(tmp_path / "run"),
        None,
        0.3,
    )
    (tmp_path / "named.csv").write_text("name,model\nmine,timm:resnet18.a1_in1k\n,glyphs-200-vit\n")
    assert [(entry.name, entry.model) for entry in study.pool([str(tmp_path / "named.csv")])] == [
        ("mine", "timm:resnet18.a1_in1k"), ("glyphs-200-vit", "glyphs-200-vit"),
    ]  # fmt: skip
    assert [entry.name for entry in study.pool(["glyphs-200-vit", str(tmp_path / "run")])] == ["glyphs-200-vit", str(tmp_path / "run")]
    many = study.pool(["timm:vit_*augreg*"])
    assert len(many) > 20 and all("augreg" in entry.name and entry.name.startswith("timm:vit_") for entry in many)
    known = {entry.name: entry.metadata for entry in many}["timm:vit_base_patch16_224.augreg_in1k"]
    assert (known["weight_decay"], known["pretraining"], known["architecture"]) == (0.1, "i1k", "vit_base_patch16_224") and "file" not in known
    assert study.pool(["timm:resnet18.a1_in1k"])[0].metadata == {"architecture": "resnet18", "weights": "a1_in1k"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:vitt_base*augreg*", "No model of timm with weights matches 'vitt_base*augreg*'. The nearest names are vit_base_"),
        ("timm:*qqqqqqqqqqqqqqq*", "No model of timm with weights matches '*qqqqqqqqqqqqqqq*'. `*` stands for any letters"),
        ("nowhere.csv", "The list nowhere.csv cannot be read: No such file or directory. Give a text file"),
        ("nothing.txt", "The list nothing.txt names no classifier. Write one a line."),
        ("binary.txt", "The list binary.txt cannot be read: 'utf-8' codec can't decode"),
        ("folder", "The folder folder holds no runs: there is no .safetensors file in it"),
        ("header.csv", "header.csv names no classifier: there is no line after the header."),
        ("column.csv", "column.csv has no column `model`; did you mean 'modell'? Its columns are: modell, x. Name the classifiers in it."),
        ("empty.csv", "empty.csv has no column `model`. Its columns are: none."),
        ("twice.csv", "twice.csv has two columns 'x'. Give each a name of its own."),
        ("long.csv", "long.csv has more cells than the header in line 3. Mend that line."),
        ("blank.csv", "blank.csv has nothing in the column `model` in line 2. Mend that line."),
        ("same.csv", "The pool has 'a' 2 times. Leave all but one out."),
    ],
)  # fmt: skip
def test_pools_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    files = {
        "nothing.txt": "# all\n\n", "header.csv": "model,x\n", "column.csv": "modell,x\na,1\n", "empty.csv": "", "twice.csv": "model,x,x\na,1,2\n",
        "long.csv": "model,x\na,1\nb,2,3\n", "blank.csv": "model,x\n,1\n", "same.csv": "model\na\na\n",
    }  # fmt: skip
    for name, told in files.items():
        (tmp_path / name).write_text(told)
    with pytest.raises(InputError) as raised:
        study.pool([text])
    assert str(raised.value).startswith(message)


def test_no_pool_and_a_column_of_the_tables_own() -> None:
    with pytest.raises(InputError, match="The pool is empty"):
        study.pool([])
    with pytest.raises(InputError, match="have a column 'auroc', which is one of the table's own"):
        table_of([Done(Entry("a", "a", {"auroc": 1.0}), reason="x")])


# --- the table ------------------------------------------------------------------------------------------------------------------------------


def test_the_table_is_tidy_and_has_every_figure(ran: tuple[list[Done], Path, World], tmp_path: Path) -> None:
    found, _, _ = ran
    rows = table_of(found)
    assert list(rows[0]) == [*COLUMNS[:4], "rate", *COLUMNS[4:]] and all(list(row) == list(rows[0]) for row in rows)
    # each detector on three sets, two families of noise, and the means of near and far
    assert len(rows) == 5 * 3 * (3 + 2 + 2) + 4
    by = {(row["classifier"], row["detector"], row["ood"], row["group"]): row for row in rows}
    (result,) = (one.results for one in found if one.entry.name == "net-3")
    assert result is not None
    for told in result["rows"]:
        row = by["net-3", told["detector"], told["ood"], told["group"]]
        assert all(row[name] == told[name] for name in ("auroc", "fpr_at_95_tpr_id", "fpr_at_95_tpr_ood", "ap_id", "ap_ood", "n_id", "n_ood", "rank"))
        assert (row["auroc_low"], row["fpr_at_95_tpr_id_high"]) == (told["auroc_interval"][0], told["fpr_at_95_tpr_id_interval"][1])
        assert row["id_accuracy"] == result["classifiers"][0]["id_accuracy"] and (row["rate"], row["status"]) == (0.2, "done")
    read = list(csv.DictReader(io.StringIO(study.to_csv(rows))))
    assert len(read) == len(rows)
    for told, row in zip(read, rows, strict=True):
        assert told == {name: "" if value is None else str(value) for name, value in row.items()}
    parquet = pytest.importorskip("pyarrow.parquet").read_table(study.to_parquet(rows, tmp_path / "x.parquet"))
    assert parquet.to_pylist() == rows and str(parquet.schema.field("n_id").type) == "int64" and str(parquet.schema.field("rate").type) == "double"


def test_a_detector_that_refuses_is_a_row(tmp_path: Path) -> None:
    detectors = {**DETECTORS, "mos": parse("mos")}
    found = study.run(entries("net-0"), World().jobs, detectors, out=tmp_path)
    (row,) = [row for row in table_of(found) if row["status"] == "refused"]
    assert (row["detector"], row["suite"], row["auroc"], row["id_accuracy"]) == (
        "mos",
        "small",
        None,
        found[0].results["classifiers"][0]["id_accuracy"],
    )  # type: ignore[index]
    assert "group" in row["reason"]
    figures = figures_of(found, list(detectors))
    assert np.isnan(figures.values["fpr", "birds"][0]).tolist() == [False, False, False, True]
    value = study.value_of(found, list(detectors), tmp_path)
    assert any(note.startswith("mos: n/a on 1 of 1 classifiers.") for note in value["notes"]) and "mos" in value["classifiers"][0]["refused"]


def test_a_column_of_numbers_and_texts_is_one_of_texts(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"a": 0.1, "b": 1, "c": None, "d": 1}, {"a": "none", "b": 2, "c": None, "d": 0.5}]
    read = parquet.read_table(study.to_parquet(rows, tmp_path / "x.parquet")).to_pylist()
    assert read == [{"a": "0.1", "b": 1, "c": None, "d": 1.0}, {"a": "none", "b": 2, "c": None, "d": 0.5}]


def test_means_are_over_sets_and_families(ran: tuple[list[Done], Path, World]) -> None:
    found, out, _ = ran
    figures = figures_of(found, list(DETECTORS))
    assert figures.targets == ["near OOD", "far OOD", "unit tests", "birds", "fish", "noise"] and figures.sets == {
        "birds": "near",
        "fish": "near",
        "noise": "far",
    }
    for place, name in enumerate(figures.names):
        scores = load_file(scores_path(out, "small", name))
        for column, detector in enumerate(DETECTORS):
            s_in = scores[f"{detector}/test"].double().numpy()
            outs = {one: scores[f"{detector}/{one}"].double().numpy() for one in ("birds", "fish", "noise")}
            outs |= {"salt": outs["noise"][:10], "pepper": outs["noise"][10:]}
            auroc = {one: 100 * np.mean([(s_in > s).mean() + (s_in == s).mean() / 2 for s in values]) for one, values in outs.items()}
            cut = np.sort(s_in)[int(np.floor(0.05 * len(s_in)))]
            fpr = {one: 100 * float((values >= cut).mean()) for one, values in outs.items()}
            for measure, told in (("auroc", auroc), ("fpr", fpr)):
                mean = {"near OOD": (told["birds"] + told["fish"]) / 2, "far OOD": told["noise"], "unit tests": (told["salt"] + told["pepper"]) / 2}
                for target, value in {**mean, "birds": told["birds"]}.items():
                    assert figures.values[measure, target][place, column] == pytest.approx(value, abs=1e-4), (name, detector, measure, target)


# --- statistics -----------------------------------------------------------------------------------------------------------------------------


def drawn(
    m: int,
    detectors: int = 3,
    seed: int = 0,
    metadata: Sequence[Mapping[str, Any]] | None = None,
    targets: Sequence[str] = ("near OOD", "birds", "fish"),
) -> Figures:
    random = np.random.default_rng(seed)
    values = {(measure, target): random.uniform(0, 100, (m, detectors)) for measure in ("auroc", "fpr") for target in targets}
    sets = {target: "far" if target == "noise" else "near" for target in targets if "OOD" not in target}
    return Figures(
        [f"c{i}" for i in range(m)],
        random.uniform(50, 90, m),
        list(metadata or [{}] * m),
        [f"d{k}" for k in range(detectors)],
        list(targets),
        sets,
        values,
    )


def test_correlations_are_scipys_and_their_intervals_a_bootstrap() -> None:
    figures = drawn(9)
    figures.values["fpr", "birds"][2, 1] = math.nan
    found = {(one["detector"], one["target"], one["measure"]): one for one in correlated(figures)}
    assert len(found) == 3 * 3 * 2
    for (detector, target, measure), told in found.items():
        y = figures.values[measure, target][:, int(detector[1])]
        known = np.isfinite(y)
        x, y = figures.accuracy[known], y[known]
        assert told["n"] == len(x) == (8 if (detector, target, measure) == ("d1", "birds", "fpr") else 9)
        assert told["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic) and told["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
    x, y = figures.accuracy, figures.values["auroc", "fish"][:, 0]
    rows = np.random.default_rng(0).integers(9, size=(2000, 9))
    for name, by in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        each = [by(x[row], y[row]).statistic for row in rows if len(set(row)) > 1]
        assert found["d0", "fish", "auroc"][f"{name}_interval"] == pytest.approx(np.quantile(each, (0.025, 0.975)), abs=1e-9)


def test_few_classifiers_tell_no_correlation_and_a_perfect_one_has_no_interval() -> None:
    assert all(one["spearman"] is None and one["pearson_interval"] is None and one["n"] == 4 for one in correlated(drawn(4)))
    figures = drawn(6)
    figures.values["fpr", "birds"][:, 0] = 100 - figures.accuracy
    told = next(one for one in correlated(figures) if (one["detector"], one["target"], one["measure"]) == ("d0", "birds", "fpr"))
    assert (told["spearman"], told["spearman_interval"]) == (pytest.approx(-1), None)


def holm_by_hand(p: Mapping[Any, float]) -> dict[Any, float]:
    order = sorted(p, key=lambda key: p[key])
    return {key: min(1.0, max((len(p) - j) * p[order[j]] for j in range(i + 1))) for i, key in enumerate(order)}


@pytest.mark.parametrize("measure", ["auroc", "fpr"])
def test_detectors_rank_by_friedman_and_wilcoxon(measure: str) -> None:
    figures = drawn(14, 4)
    values = figures.values[measure, "near OOD"]
    values[:, 2] += 60 if measure == "auroc" else -60
    values[:, 3] = values[:, 0] + np.where(np.arange(14) % 2, 0.5, -0.5)
    found = ranked(figures, measure, "near OOD")
    p = {pair: float(stats.wilcoxon(values[:, pair[0]], values[:, pair[1]]).pvalue) for pair in combinations(range(4), 2)}
    corrected = holm_by_hand(p)
    ranks = [np.mean([1 + sum((v > row[k]) if measure == "auroc" else (v < row[k]) for v in row) for row in values]) for k in range(4)]
    assert found["friedman_p"] == pytest.approx(stats.friedmanchisquare(*values.T).pvalue) and found["n"] == 14 and found["tested"]
    assert [line["detector"] for line in found["detectors"]] == [f"d{k}" for k in sorted(range(4), key=lambda k: ranks[k])]
    assert found["detectors"][0]["detector"] == "d2"
    for line in found["detectors"]:
        k = int(line["detector"][1])
        assert line["rank"] == pytest.approx(ranks[k]) and line["mean"] == pytest.approx(values[:, k].mean())
        assert line["p_first"] == pytest.approx(1.0 if k == 2 else corrected[(min(k, 2), max(k, 2))])
    names = [int(line["detector"][1]) for line in found["detectors"]]
    apart = lambda a, b: corrected[(min(a, b), max(a, b))] < 0.05  # noqa: E731
    every = [
        (i, j) for i in range(4) for j in range(i + 1, 4) if not any(apart(names[a], names[b]) for a in range(i, j + 1) for b in range(a + 1, j + 1))
    ]
    longest = [run for run in every if not any(other != run and other[0] <= run[0] and other[1] >= run[1] for other in every)]
    assert [tuple(run) for run in found["runs"]] == longest and longest
    assert letters(found["runs"], 0) == ""  # the first is told apart from all


def test_what_is_refused_is_in_no_test_and_few_classifiers_are_not_tested() -> None:
    figures = drawn(7, 4)
    values = figures.values["fpr", "birds"]
    values[3, 0], values[1:5, 1] = math.nan, math.nan  # one refuses d0, most refuse d1
    found = ranked(figures, "fpr", "birds")
    assert found["left_out"] == ["d1"] and found["classifiers_left_out"] == ["c3"] and found["n"] == 6
    assert len(found["detectors"]) == 3 and found["needed"] == metrics.blocks_needed(3) == 7
    assert found["friedman_p"] == pytest.approx(stats.friedmanchisquare(*np.delete(values, 3, 0)[:, [0, 2, 3]].T).pvalue)
    few = ranked(drawn(4), "fpr", "birds")
    assert (few["friedman_p"], few["runs"], few["tested"]) == (None, [], False) and len(few["detectors"]) == 3
    assert ranked(drawn(6, 2), "fpr", "birds")["friedman_p"] is None


@pytest.mark.parametrize("k", [2, 3, 7, 30])
def test_how_many_classifiers_are_needed_is_so(k: int) -> None:
    needed = metrics.blocks_needed(k)
    clear = np.arange(k)[None] * 100.0 + np.arange(needed)[:, None] + np.arange(k)[None] * np.arange(needed)[:, None] * 0.1
    assert metrics.ranking(clear).pairs.min() < 0.05  # type: ignore[union-attr]
    fewer = metrics.ranking(clear[:-1])
    assert fewer.pairs is None or fewer.pairs.min() >= 0.05
    said = said_of_numbers(drawn(needed - 1, k))
    assert len(said) == 1 and (f"from {needed} on they can be" in said[0] or "fewer than 5 nothing is tested" in said[0])
    assert said_of_numbers(drawn(needed, k)) == []


def test_ranks_of_ties_of_what_does_not_differ_and_of_what_is_no_table() -> None:
    same = metrics.ranking(np.ones((6, 3)))
    assert same.ranks.tolist() == [2, 2, 2] and same.p_value == 1.0 and (same.pairs == 1).all()  # type: ignore[union-attr]
    assert metrics.signed_rank(np.zeros(5)) == 1.0 and metrics.signed_rank(np.array([0.0, 1, 2, 3, 4, 5, 6])) == pytest.approx(2 / 64)
    for wrong in (np.zeros((0, 3)), np.zeros(3), np.array([[1.0, math.nan]])):
        with pytest.raises((InputError, TypeError)):
            metrics.ranking(wrong)
    with pytest.raises(InputError, match="nothing to take the mean of"):
        metrics.mean_and_interval([])


GRID = [
    {"rate": rate, "decay": decay, "seen": f"{decay} images", "start": start}
    for rate in (0.1, 0.2, 0.4)
    for decay in ("low", "high")
    for start in ("p", "q")
]


def test_effects_are_mean_differences_of_those_that_differ_in_a_column_alone() -> None:
    metadata = [dict(told) for told in GRID] + [dict(GRID[0]), {"rate": 0.4, "decay": "low"}]  # one twice, and one of which less is known
    figures = drawn(len(metadata), metadata=metadata)
    found, lacking = effects(figures)
    assert lacking == [] and columns(metadata) == [("rate",), ("decay", "seen"), ("start",)]
    for column, others in (("rate", ("decay", "seen", "start")), ("decay", ("rate", "start")), ("start", ("rate", "decay", "seen"))):
        values = sorted({told[column] for told in metadata if told.get(column) is not None})
        for before, after in combinations(values, 2):
            differences: dict[Any, list[float]] = {}
            y = figures.values["fpr", "near OOD"][:, 1]
            for key in {tuple(told.get(name) for name in others) for told in metadata}:
                sides = [
                    [y[i] for i, told in enumerate(metadata) if told.get(column) == value and tuple(told.get(name) for name in others) == key]
                    for value in (before, after)
                ]
                if all(sides):
                    differences[key] = [float(np.mean(sides[1]) - np.mean(sides[0]))]
            (told,) = [
                one
                for one in found
                if one["columns"][0] == column and (one["from"], one["to"]) == (before, after) and (one["detector"], one["measure"]) == ("d1", "fpr")
            ]
            each = [value for (value,) in differences.values()]
            assert told["pairs"] == told["units"] == len(each) and told["difference"] == pytest.approx(np.mean(each))
            half = stats.t.ppf(0.975, len(each) - 1) * np.std(each, ddof=1) / math.sqrt(len(each))
            assert told["interval"] == pytest.approx([np.mean(each) - half, np.mean(each) + half])
    (rate,) = [one for one in found if one["columns"] == ["rate"] and (one["from"], one["to"], one["measure"]) == (0.1, 0.2, "accuracy")]
    assert rate["pairs"] == 4 and rate["detector"] is None


def test_pairs_of_one_unit_count_as_one() -> None:
    figures = drawn(len(GRID), metadata=GRID)
    found, _ = effects(figures, "start")
    (told,) = [one for one in found if one["columns"] == ["rate"] and (one["from"], one["to"], one["measure"]) == (0.1, 0.4, "accuracy")]
    by = {start: [] for start in "pq"}  # type: dict[str, list[float]]
    for i, one in enumerate(GRID):
        for j, other in enumerate(GRID):
            if one["rate"] == 0.1 and other == {**one, "rate": 0.4}:
                by[str(one["start"])].append(figures.accuracy[j] - figures.accuracy[i])
    means = [float(np.mean(values)) for values in by.values()]
    half = stats.t.ppf(0.975, 1) * np.std(means, ddof=1) / math.sqrt(2)
    assert (told["pairs"], told["units"]) == (4, 2) and told["interval"] == pytest.approx([np.mean(means) - half, np.mean(means) + half])
    with pytest.raises(
        InputError, match=r"There is no column 'sart' to count pairs by; did you mean 'start'\? The metadata have: rate, decay, seen, start"
    ):
        effects(figures, "sart")


def test_columns_without_pairs_are_said() -> None:
    metadata = [{"rate": 0.1, "decay": "low"}, {"rate": 0.2, "decay": "high"}, {"rate": 0.3, "decay": "high"}]
    found, lacking = effects(drawn(3, metadata=metadata))
    assert {(one["from"], one["to"]) for one in found} == {(0.2, 0.3)} and all(one["interval"] is None for one in found)
    assert lacking == ["decay"]
    unknown = [{"rate": 0.1, "kind": "x"}, {"rate": 0.2, "kind": None}]  # which may differ in both
    assert effects(drawn(2, metadata=unknown)) == ([], ["rate", "kind"])
    assert effects(drawn(2))[1] == []
    missing = drawn(2, metadata=[{"rate": 0.1}, {"rate": 0.2}])
    missing.values["fpr", "near OOD"][0, 1] = math.nan
    assert {one["detector"] for one in effects(missing)[0] if one["measure"] == "fpr"} == {"d0", "d2"}


def test_of_many_values_those_with_the_most_pairs_are_compared() -> None:
    metadata = [{"rate": float(rate), "seed": seed} for rate in range(8) for seed in range(3 if rate < 6 else 2)]
    found = matched(metadata, ["rate"], ["rate", "seed"])
    assert list(found) == list(combinations([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 2)) and len(found) == MOST
    assert all(len(sides) == 3 for sides in found.values()) and found[0.0, 1.0][2,] == ([2], [5])
    mixed = matched([{"kind": kind} for kind in ("b", 2.0, "a", 10.0)], ["kind"], ["kind"])
    assert list(mixed) == [(2.0, 10.0), (2.0, "a"), (2.0, "b"), (10.0, "a"), (10.0, "b"), ("a", "b")]


def test_families_are_values_of_columns_that_vary() -> None:
    metadata = [{"kind": "x" if i < 5 else "y", "same": 1, "alias": i < 5, "name": f"n{i}", "part": None if i else "z"} for i in range(8)]
    figures = drawn(8, metadata=metadata)
    assert {column: {value: list(rows) for value, rows in mine.items()} for column, mine in families(figures).items()} == {
        "kind": {"x": [0, 1, 2, 3, 4], "y": [5, 6, 7]}
    }
    found = winners(figures)
    assert len(found) == 3 * 2 + 2 * 2
    family = next(one for one in found if one["value"] == "x" and one["measure"] == "fpr")
    assert family["tested"] and family["friedman_p"] == pytest.approx(stats.friedmanchisquare(*figures.values["fpr", "near OOD"][:5].T).pvalue)
    assert not next(one for one in found if one["value"] == "y")["tested"]


# --- the answer -----------------------------------------------------------------------------------------------------------------------------


def test_the_front_has_nobody_that_is_beaten() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        a, f = random.integers(0, 6, 12).astype(float), random.integers(0, 6, 12).astype(float)
        found = front(a.tolist(), f.tolist())
        beaten = [any((a[j] > a[i] and f[j] <= f[i]) or (a[j] >= a[i] and f[j] < f[i]) for j in range(12)) for i in range(12)]
        assert sorted(found) == [i for i in range(12) if not beaten[i]] and [a[i] for i in found] == sorted((a[i] for i in found), reverse=True)
    assert front([None, 3.0], [1.0, None]) == []


def test_the_detector_of_the_other_sets_has_no_say_from_the_set_itself() -> None:
    figures = drawn(4, 5, targets=("near OOD", "far OOD", "birds", "fish", "noise"))
    for place in range(4):
        told = elsewhere(figures, place, "near")
        assert told is not None
        auroc, fpr = [], []
        for name, others in (("birds", ("fish", "noise")), ("fish", ("birds", "noise"))):
            k = max(range(5), key=lambda k: sum(figures.values["auroc", other][place, k] for other in others))
            assert told["detectors"][name] == f"d{k}"
            auroc.append(figures.values["auroc", name][place, k])
            fpr.append(figures.values["fpr", name][place, k])
        assert (told["auroc"], told["fpr"]) == (pytest.approx(np.mean(auroc)), pytest.approx(np.mean(fpr)))
    assert elsewhere(drawn(4, targets=("near OOD", "birds")), 0, "near") is None


def test_the_detector_of_the_pool_is_one_that_most_have() -> None:
    figures = drawn(5)
    means = figures.values["auroc", "near OOD"].mean(0)
    assert detector_of(figures, "near OOD") == f"d{means.argmax()}"
    figures.values["auroc", "near OOD"][:3, means.argmax()] = math.nan
    assert detector_of(figures, "near OOD") == f"d{np.argsort(means)[-2]}"
    figures.values["auroc", "near OOD"][1:, np.argsort(means)[-2]] = math.nan
    assert detector_of(figures, "near OOD") == f"d{np.argsort(means)[0]}"
    figures.values["auroc", "near OOD"][:] = math.nan
    assert detector_of(figures, "near OOD") is None


def delong(a: Any, b: Any) -> tuple[float, float]:
    """By how much the mean AUROC of one is higher on the same pictures, and the p-value, as DeLong et al. write it."""

    def beaten(one: Any, other: Any) -> Any:
        return np.array([[float(x > y) + float(x == y) / 2 for y in other] for x in one])

    kernels = [[beaten(s_in, out) for out in outs] for s_in, outs in (a, b)]
    differences = [mine - theirs for mine, theirs in zip(*kernels, strict=True)]
    value = float(np.mean([d.mean() for d in differences]))
    variance = np.var(np.mean([d.mean(1) for d in differences], axis=0), ddof=1) / len(a[0])
    variance += sum(np.var(d.mean(0), ddof=1) / d.shape[1] for d in differences) / len(differences) ** 2
    return value, 2 * float(stats.norm.sf(abs(value) / math.sqrt(variance)))


def test_the_first_and_what_is_not_told_apart_from_it(ran: tuple[list[Done], Path, World]) -> None:
    found, out, _ = ran
    figures = figures_of(found, list(DETECTORS))
    told = answer(figures, found, out)
    assert told is not None and told["target"] == "near OOD"
    best = list(DETECTORS)[int(figures.values["auroc", "near OOD"].mean(0).argmax())]
    k = list(DETECTORS).index(best)
    order = sorted(range(5), key=lambda i: -figures.values["auroc", "near OOD"][i, k])
    assert told["detector"] == best and [line["classifier"] for line in told["lines"]] == [figures.names[i] for i in order]

    def scored(name: str) -> Any:
        scores = load_file(scores_path(out, "small", name))
        return scores[f"{best}/test"].double().numpy(), [scores[f"{best}/{one}"].double().numpy() for one in ("birds", "fish")]

    first = told["lines"][0]["classifier"]
    tests = {line["classifier"]: delong(scored(first), scored(line["classifier"])) for line in told["lines"][1:]}
    corrected = holm_by_hand({name: p for name, (_, p) in tests.items()})
    for line in told["lines"][1:]:
        assert line["paired"] and line["p_holm"] == pytest.approx(corrected[line["classifier"]], abs=1e-9)
        assert line["behind"] == pytest.approx(100 * tests[line["classifier"]][0]) and line["behind"] >= 0
    assert told["tied"] == [line["classifier"] for line in told["lines"][1:] if corrected[line["classifier"]] >= 0.05]
    top = told["lines"][0]
    row = next(r for r in found[int(first[-1]) * 2].results["rows"] if (r["detector"], r["ood"], r["group"]) == (best, None, "near"))  # type: ignore[index]
    assert (top["auroc"], top["fpr"]) == (100 * row["auroc"], 100 * row["fpr_at_95_tpr_id"]) and top["auroc_interval"] == [
        100 * end for end in row["auroc_interval"]
    ]
    own = figures.values["auroc", "near OOD"][order[0]]
    assert top["own"] == {
        "detector": list(DETECTORS)[int(own.argmax())],
        "auroc": pytest.approx(own.max()),
        "fpr": pytest.approx(figures.values["fpr", "near OOD"][order[0], own.argmax()]),
    }
    assert told["sentence"].startswith(f"Take {first} with {best}: AUROC {top['auroc']:.1f} % ({top['auroc_interval'][0]:.1f} to ")
    assert all(name in told["sentence"] for name in told["tied"][:3])


def test_the_sentence_says_how_many_are_tied() -> None:
    from farfield.study.answer import evidence

    line = {"auroc": 80.0, "auroc_interval": [79.0, 81.0], "fpr": 40.0, "fpr_interval": [30.0, 50.0], "accuracy": None, "accuracy_interval": None}
    told: dict[str, Any] = {"target": "near OOD", "lines": [{"classifier": name, **line} for name in "abcdefgh"], "tied": []}
    start = "AUROC 80.0 % (79.0 to 81.0) and FPR 40.0 % (30.0 to 50.0) on near OOD, ID accuracy not known, as nothing is labelled; "
    ends = {
        (): "all others are told apart from it.", ("b",): "b is not told apart from it.", ("b", "c"): "b and c are not told apart from it.",
        tuple("bcde"): "b, c, d and e are not told apart from it.", tuple("bcdefg"): "b, c, d and 3 others are not told apart from it.",
    }  # fmt: skip
    for tied, end in ends.items():
        assert evidence({**told, "tied": list(tied)}) == start + end
    assert evidence({**told, "lines": told["lines"][:1]}).endswith("; no other classifier worked.")


def test_other_pictures_are_no_pair(ran: tuple[list[Done], Path, World]) -> None:
    found, out, _ = ran
    changed = [json.loads(json.dumps(one.results)) if one.results else None for one in found]
    assert changed[0] is not None
    changed[0]["suites"][0]["contents"]["birds"] = "other pictures"
    some = [Done(one.entry, results, one.reason) for one, results in zip(found, changed, strict=True)]
    told = answer(figures_of(some, list(DETECTORS)), some, out)
    assert told is not None
    paired = {line["classifier"]: line["paired"] for line in told["lines"][1:]}
    first = told["lines"][0]["classifier"]
    assert paired == {name: "net-0" not in (name, first) for name in paired}


def test_where_nothing_worked_and_where_there_is_no_ood_to_answer_by() -> None:
    with pytest.raises(InputError, match=r"None of 2 classifiers worked\. a: It is not there\."):
        study.value_of([Done(Entry(name, name), reason="It is not there.") for name in "ab"], ["msp"], "nowhere")
    figures = drawn(3, targets=("unit tests",))
    assert answer(figures, [], "nowhere") is None


# --- what is written ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def value(ran: tuple[list[Done], Path, World]) -> dict[str, Any]:
    found, out, _ = ran
    return study.value_of(found, list(DETECTORS), out, settings={"limit": 3}, command="farfield study pool.csv")


def test_the_files(value: dict[str, Any], tmp_path: Path) -> None:
    paths, lacking = study.write(value, tmp_path)
    assert [path.name for path in paths] == ["study.csv", "study.parquet", "study.json", "study.md", "study.html"] and lacking == ""
    assert json.loads((tmp_path / "study.json").read_text()) == json.loads(json.dumps(value))
    told = (tmp_path / "study.md").read_text()
    assert f"**{value['answer']['sentence'].replace('_', chr(92) + '_')}**" in told and "farfield study pool.csv" in told
    for heading in (
        "4 of 9 classifiers failed",
        "Classifiers by",
        "Detectors by FPR on near OOD over 5 classifiers",
        "Correlation of ID accuracy with",
    ):
        assert heading in told
    html = (tmp_path / "study.html").read_text()
    assert "{{" not in html.partition('type="application/json"')[0] and "://" not in html.partition("<script")[0]


def test_without_pyarrow_all_else_is_written(value: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    paths, lacking = study.write(value, tmp_path)
    assert [path.name for path in paths] == ["study.csv", "study.json", "study.md", "study.html"]
    assert lacking == "study.parquet needs the package pyarrow: pip install 'farfield[study]'."


def test_points_are_the_figures_with_their_intervals(value: dict[str, Any], ran: tuple[list[Done], Path, World]) -> None:
    found, _, _ = ran
    points = points_of(figures_of(found, list(DETECTORS)), found)
    assert value["points"] == points and points["names"] == [f"net-{i}" for i in range(5)]
    for i, one in enumerate(one for one in found if one.results):
        (row,) = [r for r in one.results["rows"] if (r["detector"], r["ood"], r["group"]) == ("energy", None, "near")]  # type: ignore[index]
        told = [100 * each for each in (row["fpr_at_95_tpr_id"], *row["fpr_at_95_tpr_id_interval"])]
        assert points["values"]["near OOD"]["fpr"]["energy"][i] == pytest.approx(told, abs=1e-3)
        assert len(points["values"]["unit tests"]["fpr"]["energy"][i]) == 1
        assert points["accuracy"][i][0] == pytest.approx(100 * one.results["classifiers"][0]["id_accuracy"], abs=1e-3)  # type: ignore[index]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(value: dict[str, Any], width: int) -> None:
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO())
    console.print(study.shown(value, width))
    said = console.export_text()
    assert max(len(line.rstrip()) for line in said.splitlines()) <= width
    assert value["answer"]["take"] in " ".join(said.split()) and "nan-0" in said


def test_tables_say_what_the_value_says(value: dict[str, Any]) -> None:
    by_title: dict[str, Callable[..., Any]] = {}
    found = {table.title.split(" by ")[0] if table.title.startswith("Classifiers") else table.title: table for table in tables(value)}
    assert by_title == {}
    choice = found["Classifiers"]
    assert [row[0] for row in choice.rows] == [line["classifier"] for line in value["answer"]["lines"]]
    line = value["answer"]["lines"][0]
    assert choice.rows[0][2] == f"{line['auroc']:.1f} ({line['auroc_interval'][0]:.1f} to {line['auroc_interval'][1]:.1f})"
    assert [row[-1] == "*" for row in choice.rows] == [one["classifier"] in value["answer"]["front"] for one in value["answer"]["lines"]]
    failed = next(table for title, table in found.items() if "failed" in title)
    assert {row[0] for row in failed.rows} == {"nan-0", "other", "memory", "missing"}
    assert any("rate" in row[0] for title, table in found.items() if title.startswith("Mean change") for row in table.rows)

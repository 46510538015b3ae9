"""What can be done about a classifier: gains measured on the same pictures, the cheapest that helps, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import farfield as ff
from farfield import metrics, recipes
from farfield.choose import Figure
from farfield.choose.comparison import KINDS, figure
from farfield.classifier import Classifier
from farfield.detectors import parse
from farfield.diagnose import Remedy, Trial, Work, fix, gather, prescribe
from farfield.diagnose.prescription import _trained, accuracy_change
from farfield.errors import InputError
from farfield.outputs import Outputs
from six_classes import classifier, pictures

NAMES = ("msp", "maxlogit", "knn:k=3", "temperature", "mahalanobis", "relative-mahalanobis")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    train, held = pictures("train", 600, 0), pictures("held", 240, 1)
    fitters = {name: parse(name) for name in NAMES}
    ood = {"dark": replace(pictures("dark", 60, 2), labels=torch.full((60,), -1))}
    return gather(classifier(), train, held, out=tmp_path_factory.mktemp("work"), detectors=fitters, ood=ood, reference=reference(), command="typed")


def reference() -> Classifier:
    made = classifier()
    made.name = "reference"
    return made


def trial(*names: str, given: dict[str, str] | None = None) -> Trial:
    data = recipes.TrainingData(pictures("train", 600, 0), 6, told={"data": "photos/train"})
    return Trial(names, "python:mine:net", data, "my model", given or {"--id-train": "photos/train", "--id-test": "photos/test"})


def by_name(remedies: list[Remedy]) -> dict[str, Remedy]:
    return {remedy.name: remedy for remedy in remedies}


def test_a_case_has_everything_in_the_rows_it_says(work: Work) -> None:
    case, net = work.case, classifier()
    held = pictures("held", 240, 1)
    assert torch.allclose(case.test.logits, ff.collect(net, held).logits)
    assert set(case.pseudo) == set(KINDS) - {"left-out classes"} and set(case.pictures) == {"test", *case.pseudo}
    for name, outputs in case.pseudo.items():
        assert torch.allclose(outputs.logits, ff.collect(net, case.pictures[name]).logits, atol=1e-5)
    assert list(case.mixed) == [0.1, 0.2, 0.3, 0.4, 0.5]
    for detector in ("maxlogit", "mahalanobis", "relative-mahalanobis", "msp"):
        assert set(case.scores[detector]) == {"test", *case.pseudo}
    assert np.allclose(case.scores["maxlogit"]["test"], case.test.logits[torch.tensor(case.tested)].amax(1).numpy())
    assert case.reference is not None and set(case.reference.ood) == {*case.pseudo, "dark"} and len(case.reference.test) == 240
    assert case.recommendation.command == "typed"


def test_real_sets_are_judged_by_the_detector_in_use_and_the_recommended_one(work: Work) -> None:
    case = work.case
    assert {row.detector for row in case.real} == {case.current, case.recommendation.best} and {row.ood for row in case.real} == {"dark"}
    net = classifier()
    made = parse("msp")(ff.collect(net, pictures("train", 600, 0)))
    s_in = made(case.test)[torch.tensor(case.tested)].double().numpy()
    auroc = metrics.auroc(s_in, made(case.ood["dark"]).double().numpy())
    assert next(row.auroc for row in case.real if row.detector == "msp") == pytest.approx(auroc, abs=1e-6)


def test_the_gain_of_another_detector_is_that_of_the_ranking(work: Work) -> None:
    remedy = by_name(prescribe(work, trial()))["another detector"]
    best = work.case.recommendation.ranked[0]
    mine = next(one for one in work.case.recommendation.ranked if one.detector == "msp")
    assert remedy.detector == best.detector and remedy.cost == "free" and remedy.tried
    assert remedy.gain is not None and remedy.gain.auroc == pytest.approx(best.mean.auroc - mine.mean.auroc)
    test = metrics.linked_test(*(work.comparison.whole(name) for name in (best.detector, "msp")), level=1 - 0.05 / (len(work.comparison.pieces) - 1))
    assert remedy.gain.interval == pytest.approx(test.interval) and remedy.before == mine.mean and remedy.after == best.mean
    assert remedy.gain.interval[0] < mine.behind.interval[0]  # it is the best of several on these very pictures


def test_what_was_not_tried_has_no_gain(work: Work) -> None:
    found = prescribe(work, trial())
    assert [remedy.cost for remedy in found] == sorted((remedy.cost for remedy in found), key=["free", "seconds", "minutes", "hours"].index)
    untried = {remedy.name for remedy in found if not remedy.tried}
    assert untried == {"AugDelete", "SFT", "MOS head", "AugRevise"} and all(by_name(found)[name].gain is None for name in untried)
    json.dumps([remedy.plain() for remedy in found])


def test_commands_are_whole(work: Work) -> None:
    found = by_name(prescribe(work, trial()))
    best = work.case.recommendation.best
    assert best != "temperature"  # it would be given the held-out data, which `fit` refuses of a detector that does not calibrate
    assert found["another detector"].command.startswith(f"farfield fit --model 'my model' --id-train photos/train --detector {best} --out")
    assert " --id-train photos/train --id-cal photos/test --detector temperature --out" in found["temperature"].command
    assert found["AugDelete"].command == "farfield finetune augdelete --model 'my model' --data photos/train --out NEW"
    assert found["AugRevise"].command == "farfield train --recipe augrevise --model python:mine:net --data photos/train --out NEW"
    suite = by_name(prescribe(work, trial(given={"--suite": "glyphs-200"})))
    assert "MODEL" not in fix(work, [remedy("c", (0.01, 0.1))], trial=trial()).said
    again = fix(work, [remedy("c", (0.01, 0.1), model="there")], trial=replace(trial(), options={"--weights": "mine", "--class-map": "map.txt"})).said
    assert again.endswith("Next: farfield diagnose there --id-train photos/train --id-test photos/test --class-map map.txt.")
    grouped = trial().data
    assert found["MOS head"].command == "farfield finetune mos --groups kmeans --model 'my model' --data photos/train --out NEW"
    known = prescribe(work, replace(trial(), data=replace(grouped, taxonomy={"a": (0, 1, 2), "b": (3, 4, 5)})))
    assert by_name(known)["MOS head"].command == "farfield finetune mos --model 'my model' --data photos/train --out NEW"
    assert suite["another detector"].command == f"farfield bench --suite glyphs-200 --model 'my model' --detector {best}"


def test_commands_of_checks_are_filled_in_with_what_is_known() -> None:
    own, suite = trial(), trial(given={"--suite": "glyphs-200"})
    fit, tune = (
        "farfield fit --model MODEL --id-train TRAIN --id-cal HELD_OUT --detector knn",
        "farfield finetune augdelete --model MODEL --data TRAIN --out NEW",
    )
    assert own.filled(fit) == "farfield fit --model 'my model' --id-train photos/train --id-cal photos/test --detector knn"
    assert own.filled(tune) == "farfield finetune augdelete --model 'my model' --data photos/train --out NEW"
    assert suite.filled(tune) == "farfield finetune augdelete --model 'my model' --data glyphs-200 --out NEW"
    assert suite.filled(fit) == "farfield fit --model 'my model' --id-train TRAIN --id-cal HELD_OUT --detector knn"
    assert suite.filled("farfield recommend MODEL --id-train TRAIN --id-cal HELD_OUT") == "farfield recommend 'my model' --suite glyphs-200"
    assert own.filled("") == ""


def test_commands_read_the_classifier_and_its_data_as_they_were_read() -> None:
    own = replace(trial(), options={"--weights": "my weights", "--class-map": "map.txt"})
    assert own.detecting("knn").endswith("--detector knn --out knn.safetensors --weights 'my weights' --class-map map.txt")
    assert own.training("finetune", "sft", "--model", own.model).endswith("--out NEW --weights 'my weights' --class-map map.txt")
    assert own.training("train", "--model", own.source).endswith("--out NEW --class-map map.txt")  # from random weights
    assert (
        own.filled("farfield score d PICTURES --model MODEL")
        == "farfield score d PICTURES --model 'my model' --weights 'my weights' --class-map map.txt"
    )
    again = "farfield diagnose MODEL --id-train TRAIN --id-test HELD_OUT --class-map CLASSES.json"
    assert own.filled(again).endswith("--class-map CLASSES.json --weights 'my weights'") and own.filled("") == ""
    assert trial(given={"--suite": "glyphs-200"}).filled(again) == "farfield diagnose 'my model' --suite glyphs-200 --class-map CLASSES.json"


def test_augdelete_is_measured_on_the_stored_features(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "outputs", lambda *_, **__: pytest.fail("the classifier was run"))
    remedy = by_name(prescribe(work, trial("augdelete")))["AugDelete"]
    monkeypatch.undo()
    assert (Path(remedy.model) / "model.safetensors").exists()
    from safetensors.torch import load_file

    kept = load_file(Path(remedy.model) / "model.safetensors")
    weight, bias = (kept[next(key for key in kept if key.endswith(f"6.{part}"))] for part in ("weight", "bias"))
    case = work.case
    assert case.test.features is not None and case.test.labels is not None
    logits = {name: outputs.features.double() @ weight.double().T + bias.double() for name, outputs in {"test": case.test, **case.pseudo}.items()}  # type: ignore[union-attr]
    msp = {name: v.softmax(1).amax(1).numpy() for name, v in logits.items()}
    rows = torch.tensor(case.tested)
    far = np.mean([metrics.auroc(msp["test"][rows], msp[kind]) for kind in ("jigsaw", "channels", "noise")])
    mixup = metrics.auroc(msp["test"][rows], msp["mixup"])
    assert remedy.after is not None and remedy.before is not None and remedy.gain is not None
    left = 4 * (remedy.after.auroc - far / 2 - mixup / 4)
    assert 0.4 < left < 1.0  # the rest is of left-out classes
    assert remedy.gain.auroc == pytest.approx(remedy.after.auroc - remedy.before.auroc)
    before = float((case.test.logits.argmax(1) == case.test.labels).double().mean())  # type: ignore[union-attr]
    after = float((logits["test"].argmax(1) == case.test.labels).double().mean())
    assert remedy.accuracy_change is not None and remedy.accuracy_change[0] == pytest.approx(after - before)


def test_a_change_of_accuracy_has_the_interval_of_paired_pictures() -> None:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, 200))
    one, other = (torch.from_numpy(rng.random((200, 3))) for _ in range(2))
    d = (other.argmax(1) == labels).numpy().astype(float) - (one.argmax(1) == labels).numpy().astype(float)
    found = accuracy_change(Outputs(logits=one, labels=labels), Outputs(logits=other, labels=labels))
    assert found is not None and found[0] == pytest.approx(d.mean())
    assert found[1] == pytest.approx(stats.norm.interval(0.95, d.mean(), d.std(ddof=1) / np.sqrt(200)), abs=1e-4)
    assert accuracy_change(Outputs(logits=one), Outputs(logits=other)) is None
    assert accuracy_change(Outputs(logits=one, labels=torch.full((200,), -1)), Outputs(logits=other, labels=labels)) is None


def test_what_cannot_be_tried_is_refused(work: Work) -> None:
    with pytest.raises(InputError, match="nothing called 'luck' to try"):
        prescribe(work, trial("luck"))


# --- doing it -------------------------------------------------------------------------------------------------------------------------------


def remedy(name: str, gain: tuple[float, float] | None, loss: float | None = None, detector: str = "knn:k=3", model: str = "") -> Remedy:
    figure_ = None if gain is None else Figure(sum(gain) / 2, gain)
    change = None if loss is None else (loss, (loss - 0.01, loss + 0.01))
    some = Figure(0.8, (0.7, 0.9))
    return Remedy(name, "free", "", "", gain is not None, detector, some, some, figure_, change, "", model)


def test_the_first_that_helps_is_done(work: Work) -> None:
    done = fix(work, [remedy("a", (-0.1, 0.1)), remedy("b", None), remedy("c", (0.01, 0.1)), remedy("d", (0.3, 0.4))])
    assert done.remedy is not None and done.remedy.name == "c" and done.written is not None
    made = ff.load(done.written)
    again = parse("knn:k=3")(work.case.train)
    assert torch.allclose(made(work.case.test), again(work.case.test))
    assert "80.0 before, 80.0 after" in done.said


def test_a_detector_that_calibrates_is_fitted_with_what_was_kept_back(work: Work) -> None:
    done = fix(work, [remedy("t", (0.01, 0.1), detector="temperature")])
    assert done.written is not None
    calibration = work.material.splits["calibration"]
    expected = parse("temperature")(work.case.train, ff.collect(classifier(), calibration))
    assert torch.allclose(ff.load(done.written)(work.case.test), expected(work.case.test), atol=1e-5)


def test_what_costs_accuracy_is_refused_and_named(work: Work) -> None:
    done = fix(work, [remedy("sharp", (0.1, 0.2), -0.03, model="there")], bound=0.01)
    assert done.remedy is None and "sharp would lose 3.0 points of accuracy, and 1.0 are allowed" in done.said
    allowed = fix(work, [remedy("sharp", (0.1, 0.2), -0.03, model="there")], bound=0.05)
    assert allowed.remedy is not None and allowed.written == Path("there")


def test_nothing_is_done_where_nothing_helps(work: Work) -> None:
    done = fix(work, [remedy("a", (-0.1, 0.1)), remedy("b", None)])
    assert done.remedy is None and done.written is None and "measured (a) has a gain that is told from 0" in done.said


def test_figures_before_are_those_of_the_detector_in_use(work: Work) -> None:
    for one in prescribe(work, trial()):
        assert one.before is None or one.before == figure(work.comparison.whole("msp"))


def test_a_recipe_is_run_and_judged(work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SFT on the classifier at hand; its files name a source that can be built again."""
    calls: list[Any] = []
    short = replace(recipes.RECIPES["sft"], recipe=replace(recipes.RECIPES["sft"].recipe, steps=2, batch_size=16))
    monkeypatch.setitem(recipes.RECIPES, "sft", short)
    monkeypatch.setattr(Classifier, "load", classmethod(lambda cls, text: calls.append(text) or reference()))
    found = by_name(prescribe(replace(work, out=tmp_path), trial("sft")))["SFT"]
    assert (
        found.tried and found.gain is not None and found.gain.auroc == pytest.approx(0.0, abs=1e-6)
    )  # judged as the classifier that was loaded, which is the same
    (folder,) = (tmp_path / "tried").iterdir()
    assert calls == [str(folder)] and folder.name.startswith("sft-") and (folder / "model.safetensors").exists()
    assert found.accuracy_change == (0.0, (0.0, 0.0))
    prescribe(replace(work, out=tmp_path), trial("sft"))
    assert calls == [str(folder)] * 2  # a second time it is read


def test_what_was_tried_on_another_classifier_is_not_taken_for_it(work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(
        recipes.RECIPES, "sft", replace(recipes.RECIPES["sft"], recipe=replace(recipes.RECIPES["sft"].recipe, steps=2, batch_size=16))
    )
    monkeypatch.setattr(Classifier, "load", classmethod(lambda cls, text: reference()))
    other = classifier()
    with torch.no_grad():
        next(iter(other.module.parameters())).mul_(1.01)
    works = [replace(one, out=tmp_path) for one in (work, replace(work, case=replace(work.case, classifier=other)))]
    of_both = [prescribe(one, trial("sft", "augdelete")) for one in works]
    models = {remedy.model for found in of_both for remedy in found if remedy.model}
    assert len(models) == 4 and all((Path(model) / "model.safetensors").exists() for model in models)


def test_the_best_before_and_after_are_of_the_same_kinds(work: Work) -> None:
    """As of a grouped head, which has no classes that can be left out."""
    pieces = {name: [piece for piece in mine if piece[0] != "left-out classes"] for name, mine in work.comparison.pieces.items()}
    assert len(pieces["msp"]) < len(work.comparison.pieces["msp"])
    best = max(pieces, key=lambda name: figure(replace(work.comparison, pieces=pieces).whole(name)).auroc)
    same = replace(work, case=replace(work.case, recommendation=replace(work.case.recommendation, ranked=[
        one for one in work.case.recommendation.ranked if one.detector == best
    ])))  # fmt: skip
    note = _trained(same, remedy("MOS head", None), replace(work.comparison, pieces=pieces), work.case.test, 1.0, Path("there")).note
    after, before = re.findall(r"[0-9]+\.[0-9]", note)
    assert after == before

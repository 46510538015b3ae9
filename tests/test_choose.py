"""Options are chosen on calibration data and validation sets, by figures that others give too, and never on what results are of."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import farfield as ff
from farfield import choose, cli, metrics
from farfield.choose import hold_apart, tune
from farfield.data.files import folder
from farfield.data.images import Images, OODSet, Suite
from farfield.detectors import CATALOGUE, KNN, SHAPERS, Detector, Energy, React, chain, options_of, parse
from farfield.detectors.compose import bind, check_ranges, looks_inside, search_of, title, value_of
from farfield.outputs import Outputs
from farfield.testing import World, world

METHODS: dict[str, type[Any]] = {**CATALOGUE, **SHAPERS}
CROWDED = world(n=160, spread=2.0)  # twenty training samples a class: the fiftieth neighbour is of another


def split(made: World) -> tuple[dict[str, Outputs], dict[str, Outputs]]:
    """The OOD samples of a world in two: to choose by, and to test on."""
    return {"one": made.ood[:20], "two": made.ood[20:40]}, {"kept": made.ood[40:]}


# --- what there is to search --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_option_has_values_and_its_default_is_one(name: str) -> None:
    method = METHODS[name]
    options, hints = options_of(method.fit), get_type_hints(method.fit)
    if looks_inside(method.fit):
        assert not method.search  # its options are those of a pass
        return
    assert method.search.keys() == options.keys() - {"seed", "bank", "bits", "members"}
    assert {*method.of_classes} <= method.search.keys()
    for option, values in method.search.items():
        assert options[option].default in values and len(set(values)) == len(values) > 1
        for value in values:
            assert type(value) in getattr(hints[option], "__args__", (hints[option],))
            check_ranges(partial(method.fit, **{option: value}))
            assert value_of(method.fit, option, title(partial(method.fit, **{option: value})).partition("=")[2]) == value


def test_a_trials_name_is_what_parse_reads() -> None:
    for text in ("react+energy", "vim", "neco", "dice:p=10+react+energy", "mahalanobis++"):
        fitter = parse(text)
        for options in choose.grid(fitter, {"temperature": [1.0, 3.0]} if "energy" in text else None):
            bound = bind(fitter, options)
            again = parse(title(bound, choose.NAMES))
            assert title(again, choose.NAMES) == title(bound, choose.NAMES)
    assert title(parse("react:q=80.5+energy"), choose.NAMES) == "react:q=80.5+energy"


def test_binding_reaches_the_part_that_has_the_option() -> None:
    both = chain(React.fit, Energy.fit)
    bound = bind(both, {"q": 60.0, "temperature": 2.0})
    assert torch.equal(bound(CROWDED.train)(CROWDED.id), both(CROWDED.train, q=60.0, temperature=2.0)(CROWDED.id))
    assert torch.equal(bind(partial(both, q=60.0), {})(CROWDED.train)(CROWDED.id), both(CROWDED.train, q=60.0)(CROWDED.id))
    with pytest.raises(ff.InputError, match="has no option 'q'"):
        bind(bind(both, {"q": 60.0}), {"q": 50.0})
    same = parse("react:q=80+fsebo")  # one name in both parts: the bound one is out of the way
    assert search_of(same) == {"q": METHODS["fsebo"].search["q"]}
    assert choose.grid(same)[0] == {"q": 92.0}


def test_the_default_comes_first_and_what_is_one_is_tried_once() -> None:
    gen = choose.grid(parse("gen"), classes=1000)
    assert gen[0] == {"gamma": 0.1, "m": 100} and len(gen) == 42
    assert len(choose.grid(parse("gen"), classes=200)) == 28
    few = choose.grid(parse("gen"), classes=8)
    assert few[0] == {"gamma": 0.1, "m": 100} and len(few) == 7
    assert len(choose.grid(parse("react+gen"), classes=200)) == 140
    with pytest.raises(ff.InputError, match="has 210 trials and may have 200"):
        choose.grid(parse("react+gen"), classes=1000)
    assert choose.grid(parse("knn"), {"k": [3, 50, 3]}) == [{"k": 50}, {"k": 3}]
    assert choose.grid(parse("knn"), {"bank": [5], "k": [3]}) == [{"k": 50, "bank": None}, {"k": 3, "bank": 5}]
    assert choose.grid(parse("react:q=80+energy"))[0] == {"temperature": 1.0}


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        (
            "vra+energy",
            {"temperature": [0.1 * i for i in range(1, 11)]},
            r"has 240 trials and may have 200: low \(6\), high \(4\), temperature \(10\)",
        ),
        ("msp", None, "msp has no option to search"),
        ("knn", {"kk": [1]}, "no option 'kk'; did you mean 'k'"),
        ("knn:k=3", {"k": [1]}, "no option 'k'"),
        ("knn", {"k": []}, "no values for k"),
        ("knn", {"k": [5, 0]}, "KNN needs k >= 1; got k=0"),
        ("vra+energy", {"low": [99.5], "high": [90.0, 95.0]}, "low=99.5 <= high"),
        ("knn:k=0", {"seed": [1]}, "KNN needs k >= 1"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_is_fitted(text: str, values: Any, message: str) -> None:
    ood, _ = split(CROWDED)
    with pytest.raises(ff.InputError, match=message):
        tune(text, CROWDED.train, CROWDED.id, ood, values=values)


def test_values_that_do_not_go_together_are_a_refused_trial() -> None:
    found = tune("vra+energy:temperature=1", CROWDED.train, CROWDED.id, split(CROWDED)[0], values={"low": [60.0, 92.0], "high": [90.0, 95.0]})
    assert [trial.refused is None for trial in found.trials].count(False) == 1
    assert next(trial for trial in found.trials if trial.refused).options == {"low": 92.0, "high": 90.0}


# --- the figures and the choice -----------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_each_trials_own_detector() -> None:
    ood, _ = split(CROWDED)
    started = time.perf_counter()
    found = tune("knn", CROWDED.train, CROWDED.id, ood)
    spent = time.perf_counter() - started
    assert [trial.options["k"] for trial in found.trials] == [50, 1, 5, 10, 20, 100, 200, 500, 1000]
    for trial in found.trials[:6]:
        detector = KNN.fit(CROWDED.train, k=trial.options["k"])  # type: ignore[arg-type]
        s_in, outs = detector(CROWDED.id).numpy(), [detector(data).numpy() for data in ood.values()]
        aurocs = [stats.mannwhitneyu(s_in, s_out).statistic / (len(s_in) * len(s_out)) for s_out in outs]
        assert [figures.auroc for figures in trial.sets.values()] == pytest.approx(aurocs)
        assert trial.mean is not None and trial.mean.auroc == pytest.approx(np.mean(aurocs))
        assert trial.mean.auroc_interval == metrics.mean_auroc_interval(s_in, outs)
        assert trial.sets["two"].fpr_at_95_tpr_id == metrics.fpr_at_95_tpr_id(s_in, outs[1])
        assert trial.sets["two"].fpr_at_95_tpr_id_interval == metrics.fpr_interval(s_in, outs[1])
        assert 0 < trial.seconds < spent and trial.refused is None
    assert [("k <= 160" in str(trial.refused), trial.mean) for trial in found.trials[6:]] == [(True, None)] * 3


@pytest.mark.parametrize("metric", ["auroc", "fpr"])
def test_a_plainly_better_option_is_chosen(metric: choose.Metric) -> None:
    found = tune("knn", CROWDED.train, CROWDED.id, split(CROWDED)[0], metric=metric)
    assert found.chosen == found.best != 0 and found.chosen is not None
    assert found.trials[found.chosen].options["k"] in (1, 5, 10)
    assert "significantly better than the default" in found.reason and f"mean {metric.upper()}" in found.reason


def test_equals_keep_the_default() -> None:
    easy = world()
    found = tune("knn", easy.train, easy.id, split(easy)[0], values={"k": [1, 5, 10]})
    assert {trial.mean.auroc for trial in found.trials if trial.mean} == {1.0}
    assert (found.best, found.chosen) == (0, 0) and "stays" in found.reason


@pytest.mark.parametrize(
    ("text", "seed", "metric", "values", "better"),
    [
        ("knn", 1, "auroc", {"k": [18, 22, 26]}, True),
        ("knn", 1, "fpr", {"k": [30]}, True),
        ("knn", 1, "fpr", {"k": [30, 60, 70, 80]}, False),  # the best of four needs more than the only one
        ("knn", 1, "fpr", {"k": [40]}, False),
        ("energy", 0, "auroc", None, False),
    ],
)
def test_the_best_is_chosen_where_the_paired_test_says_so_for_the_best_of_many(
    text: str, seed: int, metric: choose.Metric, values: Any, better: bool
) -> None:
    made = world(n=240, spread=1.8, seed=seed)
    ood = split(made)[0]
    found = tune(text, made.train, made.id, ood, values=values, metric=metric)
    assert found.best and found.chosen == (found.best if better else 0)
    fitted = [parse(found.trials[index].detector)(made.train) for index in (found.best, 0)]
    one, other = ((detector(made.id), [detector(data) for data in ood.values()]) for detector in fitted)
    test = metrics.paired_auroc_test if metric == "auroc" else metrics.paired_fpr_test
    p = test(one, other).p_value * (len(found.trials) - 1)
    assert (p < 0.05) is better
    assert f"p {min(p, 1):.2g}, for the best of {len(found.trials) - 1}" in found.reason


def test_a_chain_searches_both_parts_and_fits_a_shaper_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[float] = []

    def fit(train: Any, *, q: float = 90.0) -> Any:
        if len(train):  # not where it is asked of its ranges alone
            fits.append(q)
        return React.fit(train, q=q)

    ood, _ = split(CROWDED)
    found = tune(chain(fit, Energy.fit), CROWDED.train, CROWDED.id, ood, values={"q": [80.0, 90.0], "temperature": [1.0, 5.0]})
    assert sorted(fits) == [80.0, 90.0]
    for trial in found.trials:
        detector = chain(React.fit, Energy.fit)(CROWDED.train, **trial.options)
        assert trial.sets["one"].auroc == metrics.auroc(detector(CROWDED.id), detector(ood["one"]))
    assert len(found.trials) == 4
    assert list(choose.grid(parse("react+energy"))[0]) == ["q", "temperature"]


def test_a_default_that_is_refused_gives_way_and_if_all_are_there_is_no_choice() -> None:
    small = CROWDED.train[:40]
    found = tune("knn", small, CROWDED.id, split(CROWDED)[0])
    assert found.trials[0].refused is not None and found.chosen == found.best != 0
    assert found.reason.startswith("The default is refused, and knn:k=")
    with pytest.raises(ff.InputError, match=r"Every trial of knn is refused. The first: KNN needs k <= 40"):
        tune("knn", small, CROWDED.id, split(CROWDED)[0], values={"k": [60, 70]})


class Tapped(Detector):
    """Reads a column that outputs do not have of themselves."""

    needs = fit_needs = ("norm",)
    passes = 0
    paper = "none"

    @classmethod
    def fit(cls, train: Any, *, weight: float = 1.0) -> Tapped:
        return cls(weight=weight)

    def score(self, norm: torch.Tensor) -> torch.Tensor:
        return norm * float(self.settings["weight"] or 0)


def test_tap_options_cannot_be_tuned() -> None:
    with pytest.raises(ff.InputError, match=r"needs `norm`.* tap options cannot be tuned on stored outputs"):
        tune(Tapped.fit, CROWDED.train, CROWDED.id, split(CROWDED)[0], values={"weight": [2.0]})
    with pytest.raises(ff.InputError, match="tap options"):
        tune(chain(React.fit, Tapped.fit), CROWDED.train, CROWDED.id, split(CROWDED)[0], values={"weight": [2.0]})


def test_options_of_what_reads_a_tap_that_is_there_can_be() -> None:
    train, calibration, ood = (replace(data, taps={"norm": torch.arange(len(data)).double()}) for data in (CROWDED.train, CROWDED.id, CROWDED.ood))
    found = tune(Tapped.fit, train, calibration, {"one": ood}, values={"weight": [-1.0]})
    assert found.chosen == found.best == 0 and found.trials[1].detector == "Tapped:weight=-1"


def test_what_is_no_metric_and_no_set_is_refused() -> None:
    with pytest.raises(ff.InputError, match="no validation OOD set"):
        tune("knn", CROWDED.train, CROWDED.id, {})
    with pytest.raises(ff.InputError, match="two sets called 'train'"):
        tune("knn", CROWDED.train, CROWDED.id, {"train": CROWDED.ood})


# --- held apart ---------------------------------------------------------------------------------------------------------------------------


def joined(*parts: Outputs) -> Outputs:
    return ff.outputs.concatenate(parts)


@pytest.mark.parametrize(
    ("ood", "test", "message"),
    [
        (CROWDED.train, {}, "OOD set 'v' and the ID training data have samples in common, all 160"),
        (CROWDED.id, {}, "OOD set 'v' and the ID calibration data have samples in common, all 80"),
        (CROWDED.ood, {"t": CROWDED.ood}, "OOD set 'v' and the test set 't' have samples in common, all 60"),
        (CROWDED.ood[:30], {"s": world(seed=5).ood, "t": CROWDED.ood[27:]}, "OOD set 'v' and the test set 't' have samples in common, 3 of 30"),
        (joined(CROWDED.ood[:9], CROWDED.train[3:4]), {}, "the ID training data have samples in common, 1 of 10"),
        (CROWDED.ood, {"t": CROWDED.id[7:9]}, "The ID calibration data and the test set 't' have samples in common, 2 of 80"),
        (CROWDED.ood[:30].having(features=None), {"t": CROWDED.ood[29:]}, "have samples in common, 1 of 30"),
    ],
)  # fmt: skip
def test_data_that_are_not_apart_are_refused(ood: Outputs, test: dict[str, Outputs], message: str) -> None:
    ood, test = ood.having(labels=None), {name: data.having(labels=None) for name, data in test.items()}
    with pytest.raises(ff.InputError, match=message):
        tune("energy", CROWDED.train, CROWDED.id, {"v": ood}, test=test)


def test_a_calibration_set_of_training_data_is_refused() -> None:
    with pytest.raises(ff.InputError, match="The ID calibration data and the ID training data have samples in common, all 10"):
        tune("energy", CROWDED.train, CROWDED.train[:10], {"v": CROWDED.ood})


def test_what_is_told_by_name_is_let_through_and_recorded() -> None:
    found = tune("energy", CROWDED.train, CROWDED.id, {"v": CROWDED.ood}, test={"t": CROWDED.ood[50:]}, allow=["v"])
    assert found.let_through == [{"set": "v", "shares": 10, "of": 60, "with": "t"}]
    with pytest.raises(ff.InputError, match="no validation set 'vv' to let through; did you mean 'v'"):
        tune("energy", CROWDED.train, CROWDED.id, {"v": CROWDED.ood}, allow=["vv"])


def test_rows_are_the_same_bit_for_bit_whatever_the_precision_and_the_sign_of_zero() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(50, 7, generator=random)
    x[3] = 0
    hashes = choose.row_hashes(x)
    assert len(set(hashes.tolist())) == 50
    assert torch.equal(choose.row_hashes(x.double()), hashes)
    assert choose.row_hashes(-x)[3] == hashes[3]
    nudged = x.clone()
    nudged[:, 2] = torch.nextafter(x[:, 2], torch.tensor(9.0))
    assert not torch.isin(choose.row_hashes(nudged), hashes).any()
    assert not torch.isin(choose.row_hashes(x.flip(1)), hashes)[:3].any()
    assert choose.row_hashes(x.half()[:1]) == choose.row_hashes(x.half().float()[:1])


def test_pictures_are_compared_by_what_is_in_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, numbers in {"a": range(3), "b": range(2, 6)}.items():
        (tmp_path / name).mkdir()
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{random.integers(10**9)}.png")
    for name in ("a", "b"):
        (tmp_path / name / "broken.png").write_bytes(b"")
        (tmp_path / name / "gone.png").symlink_to("nowhere.png")
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b")
    with pytest.raises(ff.InputError, match="'a' and the test set 'b' have samples in common, 1 of 5"):
        hold_apart({"a": a}, {"b": b})
    images = torch.from_numpy(random.integers(0, 256, (6, 3, 4, 4), dtype=np.uint8))
    whole = Images("whole", images, torch.zeros(6, dtype=torch.int64))
    part = Images("part", images[4:], -torch.ones(2, dtype=torch.int64))
    with pytest.raises(ff.InputError, match="'part' and the test set 'whole' have samples in common, all 2"):
        hold_apart({"part": part}, {"whole": whole})
    assert hold_apart({"other": Images("other", 255 - images, whole.labels)}, {"whole": whole}) == []
    with pytest.raises(ff.InputError, match="cannot be compared: pixels of one, files of the other"):
        hold_apart({"part": part}, {"b": b})
    mine: list[Any] = [(images[i], i) for i in range(6)]
    with pytest.raises(ff.InputError, match="have samples in common, 2 of 4"):
        hold_apart({"mine": mine[:4]}, {"yours": [{"image": x, "label": 1} for x, _ in mine[2:]]})

    class Broken(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            raise OSError("gone")

    assert hold_apart({"mine": mine}, {"yours": Broken(mine)}) == []


# --- the record ---------------------------------------------------------------------------------------------------------------------------


def stopping(after: int) -> Callable[[str, int, int], None]:
    """A progress that presses Ctrl-C at a trial."""

    def progress(_: str, done: int, __: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The `k` of each KNN that is fitted."""
    counted: list[int] = []
    init = KNN.__init__

    def counting(self: KNN, **state: Any) -> None:
        counted.append(state["k"])
        init(self, **state)

    monkeypatch.setattr(KNN, "__init__", counting)
    yield counted


def test_a_stopped_tuning_goes_on_where_it_was(tmp_path: Path, fits: list[int]) -> None:
    path, ood = tmp_path / "a" / "tune.json", split(CROWDED)[0]
    run = partial(tune, "knn", CROWDED.train, CROWDED.id, out=path)
    whole = tune("knn", CROWDED.train, CROWDED.id, ood)
    assert fits == [50, 1, 5, 10, 20, 100]  # and no more for the test between two of them
    fits.clear()
    with pytest.raises(KeyboardInterrupt):
        run(ood, progress=stopping(4))
    assert fits == [50, 1, 5, 10]
    halfway = json.loads(path.read_text())
    assert [trial["detector"] for trial in halfway["trials"]] == ["knn", "knn:k=1", "knn:k=5", "knn:k=10"]
    assert (halfway["chosen"], halfway["default"]) == (None, "knn")
    fits.clear()
    found = run(ood, command="farfield tune knn")
    assert fits[:2] == [20, 100] and sorted(fits[2:]) == [5, 50]  # the last two for the test between them
    assert [(trial.sets, trial.mean, trial.refused) for trial in found.trials] == [(t.sets, t.mean, t.refused) for t in whole.trials]
    assert (found.chosen, found.reason) == (whole.chosen, whole.reason)
    record = json.loads(path.read_text())
    assert record["chosen"] == record["best"] == "knn:k=5" and record["default"] == "knn" and record["command"] == "farfield tune knn"
    assert record["environment"]["torch"] == torch.__version__ and record["reason"] == found.reason
    assert record["trials"][2]["sets"]["two"]["auroc"] == found.trials[2].sets["two"].auroc
    assert "KNN needs k <= 160" in record["trials"][-1]["refused"]
    fits.clear()
    assert run(ood).trials == found.trials and sorted(fits) == [5, 50]
    fits.clear()
    run({"one": ood["one"], "two": ood["two"][:19]})
    assert len(fits) >= 6  # of other data, nothing is reused


def test_another_file_is_not_written_over(tmp_path: Path) -> None:
    for text in ("my notes", "[]", '{"trials": 3}'):
        (tmp_path / "notes.json").write_text(text)
        with pytest.raises(ff.InputError, match="is no record of `farfield tune`"):
            tune("energy", CROWDED.train, CROWDED.id, split(CROWDED)[0], out=tmp_path / "notes.json")
        assert (tmp_path / "notes.json").read_text() == text
    (tmp_path / "file").write_text("")
    with pytest.raises(ff.InputError, match="cannot be written"):
        tune("energy", CROWDED.train, CROWDED.id, split(CROWDED)[0], out=tmp_path / "file" / "x.json")


# --- the command --------------------------------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder of arrays; its status, stdout and stderr."""
    ood, test = split(CROWDED)
    for name, data in {"train": CROWDED.train, "cal": CROWDED.id, **ood, **test}.items():
        assert data.head is not None
        arrays = {key: column.numpy() for key, column in data.columns().items()}
        np.savez(tmp_path / f"{name}.npz", **arrays, **{"head.weight": data.head.weight.numpy(), "head.bias": data.head.bias.numpy()})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["farfield", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return command


OWN = ("--id-train", "train.npz", "--id-cal", "cal.npz", "--ood", "one=one.npz", "--ood", "two=two.npz", "--test", "kept=kept.npz")


def test_the_command_prints_a_table_and_the_line_to_use(run: Run, tmp_path: Path) -> None:
    status, out, err = run("tune", "knn", *OWN)
    assert status == 0, err
    found = tune("knn", CROWDED.train, CROWDED.id, split(CROWDED)[0])
    record = json.loads((tmp_path / "farfield-out" / "tune-knn.json").read_text())
    assert [trial["sets"]["one"]["auroc"] for trial in record["trials"][:6]] == [trial.sets["one"].auroc for trial in found.trials[:6]]
    assert record["command"].startswith("farfield tune knn --id-train")
    assert out.splitlines()[-1] == "farfield bench --detector knn:k=5"
    lines = out.splitlines()
    assert "mean AUROC" in lines[1] and "one" in lines[1] and "two" in lines[1]
    assert lines[2].split()[0] == "knn:k=5" and lines[2].split()[-1] == "chosen"
    assert [line.split()[-1] for line in lines if line.startswith("knn ")] == ["default"]
    assert found.trials[2].mean is not None and f"{100 * found.trials[2].mean.auroc:.1f} ±" in lines[2]
    assert "9 trials, 3 of them refused" in err
    status, out, err = run("tune", "react+energy:temperature=1", *OWN, "--values", "q=80,90", "--metric", "fpr", "--out", "here/r.json", "--json")
    assert (status, err.count("Written: here/r.json")) == (0, 1), err
    assert json.loads(out) == json.loads((tmp_path / "here" / "r.json").read_text())
    assert [trial["detector"] for trial in json.loads(out)["trials"]] == ["react+energy:temperature=1", "react:q=80+energy:temperature=1"]
    assert json.loads(out)["metric"] == "fpr"
    status, out, _ = run("tune", "energy", *OWN[:-1], "kept=one.npz", "--allow", "one", "--json")
    assert status == 0 and json.loads(out)["let_through"] == [{"set": "one", "shares": 20, "of": 20, "with": "kept"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("knm", *OWN), "did you mean 'knn'"),
        (("knn:k=0", *OWN), "KNN needs k >= 1"),
        (("msp", *OWN), "msp has no option to search"),
        (("knn", *OWN, "--values", "k=ten"), "takes int; got 'ten'"),
        (("knn", *OWN, "--values", "k"), "--values takes OPTION=VALUE"),
        (("knn", *OWN, "--values", "k=1", "--values", "k=2"), "k twice"),
        (("knn", *OWN, "--values", "j=1"), "no option 'j'"),
        (("knn", *OWN, "--values", "k=0"), "KNN needs k >= 1"),
        (("knn", *OWN, "--ood", "one=two.npz"), "two sets called 'one'"),
        (("knn", *OWN, "--test", "one=two.npz"), "two sets called 'one'"),
        (("knn", *OWN, "--ood", "train=two.npz"), "two sets called 'train'"),
        (("knn", *OWN, "--ood", "two.npz"), "--ood takes NAME=DATA"),
        (("knn", *OWN, "--test", "again=one.npz"), "'one' and the test set 'again' have samples in common, all 20"),
        (("knn", *OWN, "--allow", "three"), "no validation set 'three'"),
        (("knn", *OWN, "--model", "glyphs-200-resnet"), "--model does nothing"),
        (("knn", *OWN, "--random-weights"), "--random-weights is of a model"),
        (("knn", *OWN[:4]), "--ood NAME=DATA is missing"),
        (("knn", *OWN[2:]), "--id-train is missing"),
        (("knn", "--suite", "glyphs-200"), "name it with --model, as glyphs-200-resnet or"),
        (("knn", "--suite", "glyphs-2", "--model", "glyphs-200-resnet"), "did you mean 'glyphs-200'"),
        (("knn", "--suite", "glyphs-200", "--id-cal", "cal.npz"), "--id-cal and --suite exclude each other"),
        (("knn", *OWN, "--out", "."), "no file that can be written"),
        (("knn", *OWN, "--out", "cal.npz"), "no record of `farfield tune`"),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run("tune", *arguments)
    assert (status, out) == (2, ""), err
    assert len(err.splitlines()) == 1 and err.startswith("farfield: ") and message in err


def tiny() -> Suite:
    """Glyphs' classes with a handful of pictures; of the validation set 4 are also in the test set."""
    random = torch.Generator().manual_seed(0)

    def some(name: str, n: int, labelled: bool = False) -> Images:
        images = torch.randint(256, (n, 3, 32, 32), generator=random, dtype=torch.uint8)
        return Images(name, images, torch.arange(n) % 200 if labelled else torch.full((n,), -1))

    splits = {name: some(name, n, True) for name, n in (("train", 220), ("calibration", 50), ("test", 30))}
    strange, other = some("strange", 20), some("other", 24)
    other.images[3:7] = strange.images[8:12]
    sets = OODSet("strange", "far", lambda: strange), OODSet("other", "far", lambda: other)
    loaders = {name: partial(lambda data: data, data) for name, data in splits.items()}
    return Suite("glyphs-200", ("x",) * 200, {}, loaders, sets[:1], (), "Tiny.", validation=sets[1:])


def model(where: Path, monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """A network that `python:small:net` names."""
    (where / "small.py").write_text(
        "import torch\nfrom torch import nn\nfrom farfield import Classifier\nfrom farfield.data.transforms import Preprocess\n"
        "def net():\n    torch.manual_seed(0)\n"
        f"    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, {classes}))\n"
        "    return Classifier.wrap(body, transform=Preprocess(resize=8, crop=8), name='small', input_size=(3, 8, 8))\n"
    )
    monkeypatch.syspath_prepend(str(where))
    sys.modules.pop("small", None)


def test_a_suite_has_its_own_calibration_and_validation_data(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farfield.data import suites

    monkeypatch.setitem(suites.SUITES, "glyphs-200", tiny)
    model(tmp_path, monkeypatch, classes=200)
    on_suite = ("tune", "knn", "--suite", "glyphs-200", "--model", "python:small:net", "--values", "k=1,500")
    status, out, err = run(*on_suite)
    assert (status, out) == (2, "") and "'other' and the test set 'strange' have samples in common, 4 of 24" in err
    status, out, err = run(*on_suite, "--allow", "other")
    assert status == 0, err
    record = json.loads((tmp_path / "farfield-out" / "tune-knn.json").read_text())
    assert (record["n_id"], record["n_ood"]) == (50, {"other": 24})
    assert record["let_through"] == [{"set": "other", "shares": 4, "of": 24, "with": "strange"}]
    assert "KNN needs k <= 220" in record["trials"][2]["refused"]
    assert out.splitlines()[-1].startswith("farfield bench --suite glyphs-200 --model python:small:net --detector knn")
    classifier, made = ff.Classifier.load("python:small:net"), tiny()
    train, calibration, other = (ff.collect(classifier, data) for data in (made.split("train"), made.split("calibration"), made.validation[0].load()))
    detector = KNN.fit(train, k=1)
    model(tmp_path, monkeypatch, classes=20)
    assert "small has 20 classes and glyphs-200 has 200" in run(*on_suite)[2]
    assert record["trials"][1]["sets"]["other"]["auroc"] == pytest.approx(metrics.auroc(detector(calibration), detector(other)), abs=1e-3)


def test_pictures_are_refused_before_the_classifier_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for name, n in {"id/a": 3, "id/b": 3, "calibration": 4, "strange": 4}.items():
        (tmp_path / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
    model(tmp_path, monkeypatch, classes=2)
    own = ("tune", "knn:k=2", "--values", "seed=0,1", "--model", "python:small:net", "--id-train", "id", "--id-cal", "calibration", "--ood")
    status, _, err = run(*own, "s=strange", "--test", "c=calibration")
    assert status == 2 and "The ID calibration data and the test set 'c' have samples in common, all 4" in err
    assert not (tmp_path / "farfield-out").exists()
    status, _, err = run("tune", "energy", *OWN, "--test", "s=strange")
    assert status == 2 and "'s' is pictures and other data are arrays" in err
    status, _, err = run(*own, "s=strange", "--test", "one=one.npz")
    assert status == 0, err
    status, _, err = run(*own, "s=id", "--out", "other.json")
    assert status == 2 and "'s' and the ID training data have samples in common, all 6" in err

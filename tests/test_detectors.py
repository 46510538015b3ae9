"""What is true of one detector alone, of chains, of texts that name them, and of their files."""

from __future__ import annotations

import json
import math
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import stats

import farfield as ff
import oracles
from farfield.detectors import CATALOGUE, KNN, MSP, SHAPERS, Chain, Energy, Mahalanobis, MaxLogit, Panel, React, chain, options_of, parse
from farfield.errors import FarfieldWarning
from farfield.testing import world
from farfield.testing.checks import arrays


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


# Closed forms and properties


def test_the_mean_mahalanobis_distance_of_the_training_data_to_their_own_class_is_d() -> None:
    features, labels = normal(500, 12) @ normal(12, 12, 1), torch.zeros(500, dtype=torch.int64)
    train = ff.Outputs(features=features, labels=labels)
    assert -Mahalanobis.fit(train)(train).double().mean() == pytest.approx(12, rel=1e-5)


def test_mahalanobis_distances_of_gaussian_samples_follow_chi_squared() -> None:
    mixing = normal(8, 8, 2)
    train = ff.Outputs(features=normal(50_000, 8) @ mixing, labels=torch.zeros(50_000, dtype=torch.int64))
    fresh = ff.Outputs(features=normal(20_000, 8, 9) @ mixing)
    distances = -Mahalanobis.fit(train)(fresh).numpy()
    assert stats.kstest(distances, stats.chi2(8).cdf).pvalue > 0.001


def test_mahalanobis_does_not_change_under_an_invertible_map() -> None:
    easy = world()
    assert easy.train.features is not None and easy.ood.features is not None
    mixing = normal(24, 24, 3)
    one = Mahalanobis.fit(easy.train)(easy.ood)
    other = Mahalanobis.fit(easy.train.having(features=easy.train.features @ mixing, logits=None))(
        easy.ood.having(features=easy.ood.features @ mixing)
    )
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_mahalanobis_says_which_rank_is_missing() -> None:
    with pytest.warns(ff.FarfieldWarning, match="768 features from 500 samples has rank 498; 270 directions are ignored"):
        Mahalanobis.fit(ff.Outputs(features=normal(500, 768), labels=torch.arange(500) % 2))


def test_mahalanobis_keeps_its_digits_when_classes_collapse() -> None:
    """Classes 40,000 times as far apart as they are wide: the distance must not be a difference of large numbers."""
    some = world(spread=1e-4)
    arrays = [{"features": o.features.double().numpy(), "labels": o.labels.numpy()} for o in (some.train, some.id)]  # type: ignore[union-attr]
    np.testing.assert_allclose(Mahalanobis.fit(some.train)(some.id), oracles.mahalanobis(*arrays), rtol=1e-5)


def test_full_shrinkage_is_the_euclidean_distance_to_the_nearest_mean() -> None:
    easy = world()
    assert easy.train.features is not None and easy.train.labels is not None and easy.id.features is not None
    scores = Mahalanobis.fit(easy.train, shrinkage=1.0)(easy.id)
    means = torch.stack([easy.train.features[easy.train.labels == c].mean(0) for c in range(8)])
    euclidean = -torch.cdist(easy.id.features, means).amin(1).square()
    np.testing.assert_allclose(scores / scores[0], euclidean / euclidean[0], rtol=1e-4)


def test_msp_ranks_what_the_probability_cannot_tell_apart() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0], [200.0, 0.0, 0.0]])
    assert logits.softmax(1).amax(1).tolist() == [1.0, 1.0, 1.0]
    outputs = ff.Outputs(logits=logits)
    scores = MSP.fit(outputs)(outputs)
    assert scores[0] < scores[1] < scores[2]
    assert scores.tolist() == pytest.approx([40 - math.log(2), 60 - math.log(2), 200 - math.log(2)])


def test_msp_is_the_probability_on_another_scale() -> None:
    outputs = ff.Outputs(logits=normal(200, 10))
    assert outputs.logits is not None
    np.testing.assert_allclose(1 - (-MSP.fit(outputs)(outputs)).exp(), outputs.logits.softmax(1).amax(1), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1e-6, 0.1, 1.0, 10.0, 1000.0, 1e6])
def test_energy_lies_between_the_largest_logit_and_that_plus_t_log_c(temperature: float) -> None:
    outputs = ff.Outputs(logits=20 * normal(100, 50))
    score, top = Energy.fit(outputs, temperature=temperature)(outputs), MaxLogit.fit(outputs)(outputs)
    assert (score >= top - 1e-4).all()
    assert (score <= top + temperature * math.log(50) * (1 + 1e-6) + 1e-3).all()


def test_knn_takes_the_kth_neighbour_of_directions() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 0.6])
    bank = ff.Outputs(features=torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1.0], [5.0], [0.2], [9.0]]))
    query = ff.Outputs(features=torch.tensor([[2.0, 0.0]]))
    for k, angle in enumerate(angles.tolist(), 1):
        assert KNN.fit(bank, k=k)(query).item() == pytest.approx(-2 * math.sin(angle / 2), rel=1e-5, abs=1e-9)


def test_knn_of_its_own_bank_is_exactly_zero() -> None:
    some = ff.Outputs(features=normal(300, 64) + 100)
    assert KNN.fit(some, k=1)(some).abs().max() == 0


def test_knn_over_several_blocks_is_the_knn_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    some, query = ff.Outputs(features=normal(1000, 16)), ff.Outputs(features=normal(40, 16, 5))
    whole = KNN.fit(some, k=30)(query)
    monkeypatch.setattr("farfield.detectors.search._BLOCK", 17)
    np.testing.assert_allclose(KNN.fit(some, k=30)(query), whole, rtol=1e-6)


def test_knn_says_how_large_its_bank_is() -> None:
    some = ff.Outputs(features=normal(400, 4), labels=torch.arange(400) % 4)
    with pytest.raises(ff.InputError, match=r"KNN needs k <= 400, the size of its bank; got k=1000. Lower `k`\."):
        KNN.fit(some, k=1000)
    with pytest.raises(ff.InputError, match=r"KNN needs k <= 20, the size of its bank; got k=50. Lower `k` or raise `bank`\."):
        KNN.fit(some, bank=5)


def test_knn_without_labels_samples_from_all() -> None:
    some = ff.Outputs(features=normal(400, 4))
    assert KNN.fit(some, bank=30, k=2).bank.shape == (30, 4)


def test_knn_takes_unlabelled_samples_as_one_class_and_any_integers_as_labels() -> None:
    some = ff.Outputs(features=normal(400, 4), labels=torch.full((400,), -1))
    assert KNN.fit(some, bank=30, k=2).bank.shape == (30, 4)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        labelled = ff.Outputs(features=normal(400, 4), labels=(torch.arange(400) % 4).to(dtype))
        assert KNN.fit(labelled, bank=30, k=2).bank.shape == (120, 4)
        assert Mahalanobis.fit(labelled)(labelled).shape == (400,)


def test_knn_tells_neighbours_apart_in_a_tight_cluster() -> None:
    for radius in (1e-2, 1e-3, 1e-4, 1e-5):
        centres = torch.nn.functional.normalize(normal(10, 32), dim=1).repeat(100, 1)
        bank, query = centres + radius * normal(1000, 32, 1), centres[:20] + radius * normal(20, 32, 2)
        scores = KNN.fit(ff.Outputs(features=bank))(ff.Outputs(features=query))
        unit_bank, unit_query = (torch.nn.functional.normalize(x.double(), dim=1) for x in (bank, query))
        exact = -(unit_query[:, None] - unit_bank).square().sum(2).sqrt().sort(1).values[:, 49]
        np.testing.assert_allclose(scores, exact, rtol=1e-5, atol=1e-7)  # the bank itself is float32


def test_mahalanobis_ignores_a_copied_and_scaled_feature_however_the_data_are_cut() -> None:
    a, b, c = normal(4000, 3).T
    y = torch.arange(4000) % 4
    three, five = torch.stack([a, b, c], 1), torch.stack([a, b, a, c / 2, 3 * c / 2], 1)
    for rows in (4000, 999):
        with pytest.warns(ff.FarfieldWarning, match="rank 3; 2 directions are ignored"):
            detector = Mahalanobis.fit([ff.Outputs(features=five[i : i + rows], labels=y[i : i + rows]) for i in range(0, 4000, rows)])
        expected = Mahalanobis.fit(ff.Outputs(features=three, labels=y))(ff.Outputs(features=three))
        np.testing.assert_allclose(detector(ff.Outputs(features=five)), expected, rtol=1e-4)


def test_react_at_one_hundred_changes_nothing_in_range() -> None:
    easy = world()
    shaped = React.fit(easy.train, q=100)(easy.train)
    assert torch.equal(shaped.features, easy.train.features)  # type: ignore[arg-type]
    np.testing.assert_allclose(shaped.logits, easy.train.logits, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]


def test_react_keeps_ninety_percent_below_its_cap() -> None:
    easy = world()
    assert easy.train.features is not None
    cap = React.fit(easy.train, q=90).cap
    assert cap.item() == pytest.approx(np.quantile(easy.train.features.numpy(), 0.9), rel=1e-6)


def test_large_float16_logits_do_not_overflow() -> None:
    outputs = ff.Outputs(logits=torch.full((3, 1000), 60_000.0, dtype=torch.float16))
    for name in ("msp", "maxlogit", "energy"):
        assert torch.isfinite(CATALOGUE[name].fit(outputs)(outputs)).all()


# Chains


def test_a_chain_is_its_parts_by_hand() -> None:
    easy = world()
    shaper = React.fit(easy.train, q=70)
    by_hand = KNN.fit(shaper(easy.train), k=4)(shaper(easy.ood))
    chained = chain(React.fit, KNN.fit)(easy.train, q=70, k=4)
    np.testing.assert_allclose(chained(easy.ood), by_hand, rtol=1e-6)
    assert (chained.needs, chained.fit_needs, chained.passes) == (("features",), ("features", "head"), 3)


def test_a_chain_of_mahalanobis_still_needs_labels() -> None:
    easy = world()
    chained = chain(React.fit, Mahalanobis.fit)
    assert chained(easy.train).fit_needs == ("features", "head", "labels")
    with pytest.raises(ff.InputError, match="Mahalanobis needs `labels`"):
        chained(easy.train.having(labels=None))


def test_a_chain_takes_bound_options_and_refuses_strangers() -> None:
    easy = world()
    bound = chain(partial(React.fit, q=70), Energy.fit)
    assert list(options_of(bound)) == ["temperature"]
    assert torch.equal(bound(easy.train)(easy.id), chain(React.fit, Energy.fit)(easy.train, q=70)(easy.id))
    with pytest.raises(ff.InputError, match="no option 'temprature'; did you mean 'temperature'"):
        bound(easy.train, temprature=2)


def test_a_chain_with_a_bound_scorer() -> None:
    def fit(train: ff.Outputs, *, temperature: float = 1.0) -> React:
        return React.fit(train, q=temperature)

    assert list(options_of(chain(fit, partial(Energy.fit, temperature=2.0)))) == ["temperature"]


def test_ranges_are_checked_without_data_in_chains_too() -> None:
    from farfield.detectors.compose import check_ranges

    for text in ("react:q=200+energy", "react+energy:temperature=-1", "knn:k=0"):
        with pytest.raises(ff.InputError, match=r"got (q=200|temperature=-1|k=0)"):
            check_ranges(parse(text))
    for text in ("react+energy", "knn", "msp"):
        check_ranges(parse(text))
    check_ranges(lambda train: train[0])


def test_a_chain_whose_parts_share_an_option_must_bind_one() -> None:
    def fit(train: ff.Outputs, *, temperature: float = 1.0) -> React:
        return React.fit(train)

    with pytest.raises(ff.InputError, match="both have an option 'temperature'"):
        chain(fit, Energy.fit)


# Texts


def test_a_text_names_a_fitter_with_options() -> None:
    easy = world()
    for text, fitter in {
        "energy": Energy.fit,
        " knn:k=3, bank=4 ": partial(KNN.fit, k=3, bank=4),
        "knn:bank=none,k=3": partial(KNN.fit, k=3),
        "react:q=80+energy:temperature=2": partial(chain(React.fit, Energy.fit), q=80.0, temperature=2.0),
    }.items():
        assert torch.equal(parse(text)(easy.train)(easy.id), fitter(easy.train)(easy.id))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enrgy", "There is no detector 'enrgy'; did you mean 'energy'"),
        ("", "There is no detector ''"),
        ("ract+energy", "There is no shaper 'ract'; did you mean 'react'"),
        ("react", "changes features for a detector, as in `react\\+energy`"),
        ("energy+react", "changes features for a detector"),
        ("energy+msp", "'energy' in 'energy' comes last"),
        ("knn:kk=3", "knn has no option 'kk'; did you mean 'k'"),
        ("knn:k", "knn's option k takes int; got ''"),
        ("knn:k=many", "knn's option k takes int; got 'many'"),
        ("knn:k=2.5", "knn's option k takes int; got '2.5'"),
        ("knn:k=true", "knn's option k takes int; got 'true'"),
        ("knn:bank=x", "takes int or none; got 'x'"),
        ("react:q=__import__('os')+energy", "takes float"),
        ("knn:k=3,k=5", "given twice"),
        ("msp:k=1", "msp has no option 'k'. It has: none."),
    ],
)
def test_a_wrong_text_is_refused_with_what_there_is(text: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=message):
        parse(text)


# Files


class Mine(ff.detectors.Detector):  # type: ignore[name-defined]
    """Somebody else's detector."""

    needs = ("logits",)
    fit_needs = ("logits",)
    passes = 0
    paper = "ours"

    @classmethod
    def fit(cls, train: ff.Outputs) -> Mine:
        return cls(shift=torch.ones(()))

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sum(1) + self.shift


def test_only_known_classes_are_loaded(tmp_path: Path) -> None:
    easy = world()
    Mine.fit(easy.train).save(tmp_path / "mine.safetensors")
    with pytest.raises(ff.InputError, match=r"class 'Mine', which Farfield does not know; give it as `load\(path, classes=\[Mine\]\)`"):
        ff.load(tmp_path / "mine.safetensors")
    assert isinstance(ff.load(tmp_path / "mine.safetensors", classes=[Mine]), Mine)


def test_what_is_not_a_detector_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ff.InputError, match="cannot be read as a detector"):
        ff.load(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ff.InputError, match="cannot be read as a detector"):
        ff.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ff.InputError, match="not of a Farfield detector"):
        ff.load(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"farfield": json.dumps({"format": 99, "detector": {}, "fingerprint": None})})
    with pytest.raises(ff.InputError, match="has format 99"):
        ff.load(path)


def test_a_chain_is_saved_with_its_parts(tmp_path: Path) -> None:
    easy = world()
    chained = chain(React.fit, KNN.fit)(easy.train, q=70, k=4)
    chained.save(tmp_path / "chain.safetensors")
    with safe_open(tmp_path / "chain.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["farfield"])["format"] == 1  # what files out there have
    again = ff.load(tmp_path / "chain.safetensors")
    assert isinstance(again, Chain)
    assert torch.equal(again(easy.ood), chained(easy.ood))


def test_a_detector_moves_with_to_and_keeps_nested_parts() -> None:
    easy = world()
    chained = chain(React.fit, Mahalanobis.fit)(easy.train).to("meta")
    assert {buffer.device.type for buffer in chained.buffers()} == {"meta"}


def test_refitting_leaves_the_first_detector_alone() -> None:
    easy = world()
    first = Mahalanobis.fit(easy.train)
    before = first(easy.id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Mahalanobis.fit(easy.train[:50])
    assert torch.equal(first(easy.id), before)


def test_a_detector_keeps_no_hold_of_the_head_it_was_fitted_with() -> None:
    easy = world()
    detector = chain(React.fit, Energy.fit)(easy.train)
    before = detector(easy.id)
    assert easy.train.head is not None
    easy.train.head.weight.zero_()
    assert torch.equal(detector(easy.id), before)


# What a method is made for


@pytest.mark.parametrize("name", ["react", "vra", "ash-p", "ash-b", "ash-s", "scale", "dice", "fsebo", "gradnorm"])
def test_methods_for_relu_features_warn_of_others_by_name_and_share(name: str) -> None:
    fit = {**CATALOGUE, **SHAPERS}[name].fit
    train = world().train
    assert train.features is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(train)
        few = train.features.clone()
        few[:96, 0] = -1.0  # 96 of 400 x 24: exactly 1 %
        fit(train.having(features=few))
    few[96, 0] = -1.0
    with pytest.warns(ff.FarfieldWarning, match=r" is made for features after a ReLU, and 1\.0 % of those of the first 400 training samples") as said:
        fit(train.having(features=few))
    (message,) = [str(warning.message) for warning in said]
    assert message.lower().startswith(name.replace("-", "") + " ") and "Take" not in message and "`knn`" in message


def test_every_method_says_when_to_take_it_and_what_it_costs() -> None:
    for name, method in {**CATALOGUE, **SHAPERS}.items():
        for sentence in (method.use, method.fails):
            assert not sentence or (sentence[0].isupper() and sentence.endswith(".")), f"{name}: {sentence!r}"
        assert method.use and method.cost.startswith("scoring O(") and "; fitting " in method.cost, name


@pytest.mark.parametrize("by", ["z-score", "cauchy"])
def test_other_combinations_of_a_panel_are_the_loops(by: str) -> None:
    easy = world()
    with pytest.warns(FarfieldWarning, match="no calibration data"):
        panel = Panel.fit(easy.train, by=by)
    for test in (easy.id, easy.ood):
        expected = oracles.panel(arrays(easy.train), arrays(test), by=by)
        torch.testing.assert_close(panel(test).double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


def test_somebody_elses_detector_is_named_by_module_and_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "somebodys.py").write_text(
        "from farfield.detectors import MSP, Detector, Shaper\n"
        "class Power(Detector):\n"
        "    needs = fit_needs = ('features',)\n"
        "    passes, paper = 0, 'none'\n"
        "    @classmethod\n"
        "    def fit(cls, train, *, power: float = 1.0):\n"
        "        return cls(power=power)\n"
        "    def score(self, features):\n"
        "        return features.norm(dim=1) ** self.settings['power']\n"
        "def function():\n"
        "    pass\n"
    )
    outputs = ff.Outputs(features=torch.tensor([[3.0, 4.0]]))
    assert parse("somebodys:Power")(outputs)(outputs).tolist() == [5.0]
    detector = parse("somebodys:Power:power=2")(outputs)
    assert detector(outputs).tolist() == [25.0]
    detector.save("d.safetensors")
    assert ff.load("d.safetensors", classes=[type(detector)])(outputs).tolist() == [25.0]
    for text, message in {
        "somebodys:function": "is no detector: it must be a subclass",
        "somebodys:Powr": "did you mean 'Power'",
        "nobodys:Power": "cannot be imported",
        "somebodys:Power:pwoer=2": "has no option 'pwoer'",
        "somebodys:Power+msp": "is no shaper",
    }.items():
        with pytest.raises(ff.InputError, match=message):
            parse(text)


def test_what_is_in_brackets_is_one_value() -> None:
    fitter = parse("react:q=80+panel:members=(gen/knn:k=3,bank=9/react:q=90+energy),by=cauchy")
    assert options_of(fitter).keys() == {"tail"}
    assert fitter.parts[1].keywords == {"members": "(gen/knn:k=3,bank=9/react:q=90+energy)", "by": "cauchy"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("msp", "two or more members"),
        ("msp//energy", "two or more members"),
        ("msp/panel", "cannot sit on a panel"),
        ("msp/odin", "'odin' looks inside the classifier"),
        ("msp/enrgy", "did you mean 'energy'"),
    ],
)
def test_members_that_make_no_panel_are_told(members: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=message):
        Panel.fit(world().train, world().id, members=members)


def test_a_panel_orders_samples_beyond_all_it_was_calibrated_on_and_one_member_cannot_be_outvoted() -> None:
    random = torch.Generator().manual_seed(0)

    def outputs(logits: torch.Tensor, features: torch.Tensor) -> ff.Outputs:
        head = ff.Head(torch.eye(2), torch.zeros(2))
        return ff.Outputs(logits=logits, features=features, labels=logits.argmax(1), head=head)

    train, held = (outputs(torch.randn(300, 2, generator=random).abs(), torch.randn(300, 2, generator=random)) for _ in range(2))
    panel = Panel.fit(train, held, members="maxlogit/mahalanobis")
    far = torch.stack([torch.tensor([x, 0.0]) for x in (6.0, 8.0, 12.0, 20.0)])
    sure = torch.full((4, 2), 30.0)  # MaxLogit finds these more usual than any training sample
    scores = panel(outputs(sure, far))
    assert bool((scores.diff() < 0).all())  # no ties among the extremes
    assert float(scores.max()) < float(torch.quantile(panel(held), 0.01))
    assert float(MaxLogit.fit(held)(outputs(sure, far)).min()) > float(MaxLogit.fit(held)(held).max())


def test_the_p_values_of_new_id_data_are_uniform() -> None:
    random = torch.Generator().manual_seed(1)
    train, held, new = (ff.Outputs(logits=torch.randn(4000, 3, generator=random)) for _ in range(3))
    panel = Panel.fit(train, held, members="maxlogit/energy")
    p = panel.log_p(torch.stack([member(new).double() for member in panel.members], 1)).exp()
    for column in p.T:
        assert stats.kstest(column.numpy(), "uniform").statistic < 0.04
        assert 0.004 < float((column < 0.01).double().mean()) < 0.02
        assert float((column < 0.002).double().mean()) < 0.006  # a law that ends is taken as exponential, which errs towards usual


@pytest.mark.parametrize("true", [0.3, 5.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(true: float) -> None:
    random = torch.Generator().manual_seed(0)
    logits = 3.0 * torch.randn(20_000, 10, generator=random)
    labels = torch.multinomial((logits / true).softmax(1), 1, generator=random)[:, 0]
    found = parse("temperature")(ff.Outputs(logits=logits, labels=labels))
    assert float(found.temperature) == pytest.approx(true, rel=0.05)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["msp", "entropy", "gen", "temperature"])
def test_confident_samples_are_still_told_apart(name: str) -> None:
    """Margins at which `1 - max p` is 0 in float32: a peer's AUROC fell from 0.975 to 0.61 there."""
    random = torch.Generator().manual_seed(0)
    margins = torch.cat([40.0 + 8.0 * torch.rand(200, generator=random), 30.0 + 8.0 * torch.rand(200, generator=random)])
    logits = torch.zeros(400, 5)
    logits[:, 0] = margins
    labels = torch.zeros(400, dtype=torch.int64)
    labels[:40] = 1  # so that a temperature near 1 is no worse than a low one
    detector = parse(name)(ff.Outputs(logits=logits, labels=labels))
    scores = detector(ff.Outputs(logits=logits))
    assert ff.metrics.auroc(scores[:200], scores[200:]) == 1.0
    assert len(scores.unique()) == len(margins.unique())


@pytest.mark.parametrize("name", ["msp", "maxlogit", "energy", "entropy", "gen", "temperature", "openmax", "kl-matching", "gradnorm", "nnguide"])
def test_huge_logits_overflow_nothing(name: str) -> None:
    easy = world()
    assert easy.train.logits is not None and easy.id.logits is not None
    big = easy.train.having(logits=1e4 * easy.train.logits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FarfieldWarning)
        detector = parse(name)(big)
    for outputs in (easy.id, easy.ood):
        assert torch.isfinite(detector(outputs.having(logits=1e4 * outputs.columns()["logits"]))).all()


@pytest.mark.parametrize("name", ["vim", "residual"])
def test_a_subspace_as_wide_as_the_features_is_refused(name: str) -> None:
    for dim in (24, 25, 1000):
        with pytest.raises(ff.InputError, match=f"dim={dim}"):
            parse(f"{name}:dim={dim}")(world().train)


def test_a_class_that_is_never_classified_rightly_has_a_pattern_all_the_same() -> None:
    easy = world()
    assert easy.train.labels is not None
    labels = torch.where(easy.train.labels == 3, 4, torch.where(easy.train.labels == 4, 3, easy.train.labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FarfieldWarning)
        she = parse("she")(easy.train.having(labels=labels))
    assert torch.isfinite(she(easy.id)).all() and torch.isfinite(she(easy.ood)).all()

"""Each objective on a tiny net: its loss is that of the loops on the mixtures that the step draws; what does not fit is named in a sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import farfield as ff
import training_oracles as oracle
from farfield.data.images import Images
from farfield.outputs import Head
from farfield.training import OBJECTIVES, Batch, Draws, Net, Recipe, make_objective, train
from farfield.training.draws import beta
from farfield.training.groups import layout
from farfield.training.mixing import cutmix, draw_mix
from farfield.training.pictures import jigsaw, shuffle_channels, tile_sizes

GROUPS = layout([[2], [0, 3], [1]])


def scaled(pictures: Tensor) -> Tensor:
    return pictures.float() / 128 - 1


def batch(paired: bool, step: int = 0, n: int = 5) -> Batch:
    random = torch.Generator().manual_seed(step)
    pictures = torch.randint(256, (n, 3, 6, 6), generator=random, dtype=torch.uint8)
    labels, ids = torch.randint(4, (n,), generator=random), torch.randperm(100, generator=random)[:n]
    draws, shifted = Draws(7, step, ids), torch.arange(n).roll(-1)
    second = Batch(pictures[shifted], scaled(pictures[shifted]), labels[shifted], draws.of(shifted), scaled) if paired else None
    return Batch(pictures, scaled(pictures), labels, draws, scaled, second)


def tiny(classes: int = 4) -> tuple[nn.Sequential, Net]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(96, classes))
    return module, Net(module, head=module[3])


def said(module: nn.Module, inputs: Tensor) -> np.ndarray:
    with torch.no_grad():
        return module(inputs).double().numpy()  # type: ignore[no-any-return]


def value(name: str, options: dict[str, Any], given: Batch, classes: int = 4, **more: Any) -> tuple[float, Tensor, nn.Module]:
    objective = make_objective(name, options, **more)
    module, net = tiny(classes)
    assert objective.paired == (given.partners is not None)
    loss, logits = objective(net, given)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    return loss.item(), logits.detach(), module


def mixture(b: Batch, alpha: float) -> tuple[Tensor, list[float]]:
    share = beta(alpha, b.draws.once("mixture"))
    assert b.partners is not None
    n = len(b.labels)
    rows = np.concatenate([b.inputs.double().numpy(), b.partners.inputs.double().numpy()])
    return torch.from_numpy(oracle.mixup(rows[: 2 * n], [share] * n + [0] * n, [*range(n, 2 * n), *range(n)])[:n]).float(), [share] * n


STEPS = [0, 1, 2]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(step: int, smoothing: float) -> None:
    b = batch(False, step)
    loss, logits, module = value("cross-entropy", {"smoothing": smoothing}, b)
    assert loss == pytest.approx(oracle.smoothed(said(module, b.inputs), b.labels, smoothing), rel=1e-5)
    np.testing.assert_allclose(logits, said(module, b.inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", STEPS)
def test_cross_entropy_of_mixup(step: int) -> None:
    b = batch(True, step)
    loss, logits, module = value("cross-entropy", {"mix": "mixup", "alpha": 0.8}, b)
    kind, share = draw_mix("mixup", 0.8, 1.0, b.draws.once("mixture"))
    assert kind == "mixup" and b.partners is not None
    mixed = said(module, (1 - share) * b.inputs + share * b.partners.inputs)
    assert loss == pytest.approx(oracle.mixed(mixed, b.labels, b.partners.labels, [share] * 5), rel=1e-5)
    np.testing.assert_allclose(logits, mixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", STEPS)
def test_cross_entropy_of_cutmix_weighs_by_the_area(step: int) -> None:
    b = batch(True, step)
    assert b.partners is not None
    loss, _, module = value("cross-entropy", {"mix": "cutmix"}, b)
    random = b.draws.once("mixture")
    _, asked = draw_mix("cutmix", 0.2, 1.0, random)
    made, _ = cutmix(b.inputs, b.partners.inputs, asked, random)
    share = ((made != b.inputs).any(1)).float().mean().item()
    assert loss == pytest.approx(oracle.mixed(said(module, made), b.labels, b.partners.labels, [share] * 5), rel=1e-5)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("name", "form"), [("regmixup", ""), ("augrevise", "ratio"), ("augrevise", "printed")])
def test_regmixup_and_augrevise(name: str, form: str, step: int) -> None:
    b = batch(True, step)
    assert b.partners is not None
    options: dict[str, Any] = {"alpha": 2.0, **({"form": form} if form else {})}
    loss, logits, module = value(name, options, b)
    inputs, shares = mixture(b, 2.0)
    v, w = said(module, b.inputs), said(module, inputs)
    both = oracle.cross_entropy(v, b.labels) + oracle.mixed(w, b.labels, b.partners.labels, shares)
    extra = {"": lambda *_: 0.0, "ratio": oracle.separation_ratio, "printed": oracle.separation_printed}[form](v, w, shares)
    assert loss == pytest.approx(both + extra, rel=1e-5)
    np.testing.assert_allclose(logits, v, rtol=1e-4, atol=1e-5)
    if not form:
        assert value(name, {**options, "mean": True}, b)[0] == pytest.approx(loss / 2, rel=1e-6)


def test_logit_norm() -> None:
    b = batch(False)
    loss, _, module = value("logitnorm", {"tau": 0.1}, b)
    assert loss == pytest.approx(oracle.logit_norm(said(module, b.inputs), b.labels, 0.1), rel=1e-5)


def test_feature_norm() -> None:
    b = batch(False)
    loss, logits, module = value("t2fnorm", {"tau": 0.2}, b)
    with torch.no_grad():
        features = module[:3](b.inputs).double().numpy()  # type: ignore[index]
    head = module[3]  # type: ignore[index]
    expected = oracle.feature_norm(features, head.weight.detach().double().numpy(), head.bias.detach().double().numpy(), 0.2)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert loss == pytest.approx(oracle.cross_entropy(expected, b.labels), rel=1e-5)


@pytest.mark.parametrize("mix", ["none", "mixup"])
def test_mos(mix: str) -> None:
    b = batch(mix != "none", 1)
    loss, classes, module = value("mos", {"mix": mix, "alpha": 1.0}, b, classes=7, groups=GROUPS)
    sizes, group, place = [1, 2, 1], [1, 2, 0, 1], [1, 1, 1, 2]
    if b.partners is None:
        v = said(module, b.inputs)
        expected = oracle.group_softmax(v, sizes, group, place, b.labels)
    else:
        inputs, shares = mixture(b, 1.0)
        v = said(module, inputs)
        expected = oracle.group_softmax(v, sizes, group, place, b.labels, b.partners.labels, shares)
    assert loss == pytest.approx(expected, rel=1e-5)
    head = Head(torch.eye(7), torch.zeros(7), GROUPS)
    assert torch.equal(classes.argmax(1), head.predict(torch.from_numpy(v).float()))
    assert classes.shape == (5, 4)


@pytest.mark.parametrize("distance", ["cross-entropy", "kl"])
@pytest.mark.parametrize("pseudo", ["jigsaw", "channels", "jigsaw+channels"])
def test_outlier_exposure_with_outliers_made_of_the_batch(pseudo: str, distance: str) -> None:
    b = batch(False, 2)
    loss, logits, module = value("outlier-exposure", {"pseudo": pseudo, "distance": distance, "weight": 1.5}, b)
    sizes = tile_sizes((2, 3, 5, 10, 15, 30, 60), (6, 6))
    assert sizes == [2, 3]
    size = sizes[int(torch.randint(2, (), generator=b.draws.once("tile size")))]
    parts = {"jigsaw": jigsaw(b.pictures, size, b.draws), "channels": shuffle_channels(b.pictures, b.draws)}
    strange = torch.cat([parts[kind] for kind in pseudo.split("+")])
    far = {"cross-entropy": oracle.uniformity, "kl": oracle.kl_from_uniform}[distance](said(module, scaled(strange)))
    assert loss == pytest.approx(oracle.cross_entropy(said(module, b.inputs), b.labels) + 1.5 * far, rel=1e-5)
    assert len(logits) == 5


def test_outlier_exposure_with_outliers_of_ones_own() -> None:
    b = batch(False, 3)
    outliers = torch.randint(256, (11, 3, 6, 6), dtype=torch.uint8)
    loss, _, module = value("outlier-exposure", {}, b, outliers=outliers)
    far = oracle.uniformity(said(module, scaled(outliers[b.draws.choice("outlier", 11)])))
    assert loss == pytest.approx(oracle.cross_entropy(said(module, b.inputs), b.labels) + 0.5 * far, rel=1e-5)


def test_grey_pictures_have_no_channels_to_shuffle() -> None:
    """Their loss is finite, and a warning says that there were no pseudo-outliers; beside jigsaws nothing is amiss."""
    grey = batch(False)
    pictures = grey.pictures[:, :1].expand(5, 3, 6, 6)
    grey = Batch(pictures, scaled(pictures), grey.labels, grey.draws, scaled)
    with pytest.warns(ff.FarfieldWarning, match="grey pictures alone"):
        loss, _, module = value("outlier-exposure", {"pseudo": "channels"}, grey)
    assert loss == pytest.approx(oracle.cross_entropy(said(module, grey.inputs), grey.labels), rel=1e-5)
    with pytest.warns(ff.FarfieldWarning, match="jigsaws alone"):
        assert math.isfinite(value("outlier-exposure", {}, grey)[0])


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("mixup", {}, r"no objective 'mixup'.*There are: cross-entropy"),
        ("cross-entropy", {"smooth": 0.1}, r"cross-entropy has no option 'smooth'.*`?smoothing"),
        ("cross-entropy", {"smoothing": 1.5}, r"`smoothing` at least 0 and at most 1; got 1\.5"),
        ("cross-entropy", {"smoothing": math.nan}, r"`smoothing`.*got nan"),
        ("cross-entropy", {"mix": "cutout"}, r"no mixture 'cutout'"),
        ("cross-entropy", {"mix": "mixup", "alpha": 0}, r"`alpha` above 0; got 0"),
        ("cross-entropy", {"mix": "cutmix", "cut_alpha": -1}, r"`cut_alpha` above 0; got -1"),
        ("cross-entropy", {"alpha": math.inf}, r"`alpha`.*got inf"),
        ("regmixup", {"alpha": -2}, r"`alpha` above 0; got -2"),
        ("augrevise", {"form": "score"}, r"no form 'score'.*ratio, printed"),
        ("augrevise", {"mean": True}, r"augrevise has no option 'mean'"),
        ("augmix", {"severity": 11}, r"`severity` above 0 and at most 10; got 11"),
        ("augmix", {"weight": -1}, r"`weight` at least 0; got -1"),
        ("logitnorm", {"tau": 0}, r"`tau` above 0; got 0"),
        ("t2fnorm", {"tau": -0.1}, r"`tau` above 0; got -0\.1"),
        ("outlier-exposure", {"pseudo": "noise"}, r"no pseudo-outliers 'noise'"),
        ("outlier-exposure", {"distance": "l2"}, r"no distance 'l2'"),
        ("mos", {}, r"do not fit mos.*groups"),
    ],
)
def test_what_does_not_fit_is_named(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ff.InputError, match=sentence) as raised:
        make_objective(name, options)
    assert "\n" not in str(raised.value)


def test_a_value_of_another_kind_is_named() -> None:
    with pytest.raises(ff.InputError, match="do not fit cross-entropy"):
        make_objective("cross-entropy", {"alpha": "much"})


def test_mos_refuses_a_mixture_it_has_not_and_a_head_of_another_width() -> None:
    with pytest.raises(ff.InputError, match="MOS has no mixture 'cutmix'"):
        make_objective("mos", {"mix": "cutmix"}, groups=GROUPS)
    with pytest.raises(ff.InputError, match="a head with 7 logits, and the model has 6"):
        value("mos", {}, batch(False), classes=6, groups=GROUPS)


# Labels that are no class

PICTURES = torch.randint(256, (12, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "augmix"])
def test_a_label_beyond_the_classes_is_named_with_where_it_is(tmp_path: Path, name: str) -> None:
    labels = torch.arange(12) % 4
    labels[9] = 4 if name == "mos" else 5
    module, net = tiny(7 if name == "mos" else 4)
    more: dict[str, object] = {"mos": {"groups": GROUPS}, "npos": {"features": module[-1].in_features, "classes": 4}}.get(name, {})
    options = {"mix": "mixup"} if name in ("mos", "cross-entropy") else {}
    with pytest.raises(
        ff.InputError, match=rf"Item 9 of the training set has the label {int(labels[9])}, and the model has 4 classes: labels are 0 to 3"
    ):
        train(
            module,
            Images("x", PICTURES, labels),
            Recipe(epochs=2, batch_size=6),
            transform=scaled,
            out=tmp_path,
            objective=make_objective(name, options, **more),
            head=net.head,
        )


def test_a_label_of_no_class_is_named_too(tmp_path: Path) -> None:
    class Unlabelled:
        def __len__(self) -> int:
            return 12

        def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
            return PICTURES[indices], torch.tensor([-1 if i == 8 else i % 4 for i in indices])

    with pytest.raises(ff.InputError, match="Item 8 of the training set has the label -1: a sample of no class"):
        train(tiny()[0], Unlabelled(), Recipe(epochs=1, batch_size=6), transform=scaled, out=tmp_path)
    beyond = Images("x", PICTURES, torch.arange(12) % 5)
    with pytest.raises(ff.InputError, match=r"Item (4|9) of the training set has the label 4, and the model has 4 classes"):
        train(tiny()[0], beyond, Recipe(epochs=1, batch_size=6), transform=scaled, out=tmp_path / "plain")

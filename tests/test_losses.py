"""Each training loss against a loop in float64, its gradient against differences, and what its paper says of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

import farfield as ff
import training_oracles as oracle
from farfield.outputs import Head, group_places
from farfield.training import losses
from farfield.training.draws import Draws, beta
from farfield.training.groups import layout, targets
from farfield.training.mixing import MIXES, cutmix, draw_mix, mixup

SHAPES = [(1, 2), (4, 3), (3, 17)]
SCALES = [1e-3, 1.0, 30.0, 1e3]


def drawn(n: int, c: int, scale: float, seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    double = {"dtype": torch.float64, "generator": random}
    return {
        "v": torch.randn(n, c, **double) * scale,  # type: ignore[call-overload]
        "w": torch.randn(n, c, **double) * scale,  # type: ignore[call-overload]
        "u": torch.randn(n, c, **double) * scale,  # type: ignore[call-overload]
        "y": torch.randint(c, (n,), generator=random),
        "z": torch.randint(c, (n,), generator=random),
        "s": torch.rand(n, **double),  # type: ignore[call-overload]
    }


def group_of(c: int, seed: int) -> Tensor:
    """The groups of a head with c logits (c >= 2): random sizes, random classes."""
    random = np.random.default_rng(seed)
    groups: list[list[int]] = []
    k = int(random.integers(1, max(c // 2, 1) + 1))
    order = random.permutation(c - k)
    cuts = np.sort(random.choice(np.arange(1, c - k), k - 1, replace=False)) if k > 1 else []
    groups = [list(map(int, part)) for part in np.split(order, cuts)]
    return layout(groups)


def in_loops(groups: Tensor) -> tuple[list[int], list[int], list[int]]:
    """Sizes of the groups, and for each class its group and its place in it from 1."""
    sizes: list[int] = []
    group, place = [0] * int((groups >= 0).sum()), [0] * int((groups >= 0).sum())
    for c in groups.tolist():
        if c < 0:
            sizes.append(0)
        else:
            sizes[-1] += 1
            group[c], place[c] = len(sizes) - 1, sizes[-1]
    return sizes, group, place


class Case:
    """A loss of the logits alone and the loop it is to equal, for given draws."""

    def __init__(self, d: dict[str, Tensor], seed: int = 0) -> None:
        v, w, y, z, s = d["v"], d["w"], d["y"], d["z"], d["s"]
        share, smoothing, tau = float(s[0]), 0.1, 0.04
        views = [d[name].numpy() for name in "vwu"]
        one = torch.full_like(s, share)
        groups = group_of(v.shape[1], seed)
        sizes, group, place = in_loops(groups)
        right, places = targets(groups), group_places(groups)
        gy, gz = y % len(right), z % len(right)
        self.losses: dict[str, tuple[Callable[..., Tensor], float]] = {
            "smoothed": (lambda x: losses.smoothed(x, y, smoothing), oracle.smoothed(v, y, smoothing)),
            "plain": (lambda x: losses.smoothed(x, y), oracle.cross_entropy(v, y)),
            "mixed": (lambda x: losses.mixed(x, y, z, share), oracle.mixed(v, y, z, one)),
            "mixed of each": (lambda x: losses.mixed(x, y, z, s.to(x)), oracle.mixed(v, y, z, s)),
            "ratio": (lambda x: losses.separation(x, w.to(x), share), oracle.separation_ratio(v, w, one)),
            "printed": (lambda x: losses.separation(x, w.to(x), share, "printed"), oracle.separation_printed(v, w, one)),
            "ratio of mixtures": (lambda x: losses.separation(w.to(x), x, share), oracle.separation_ratio(w, v, one)),
            "printed of mixtures": (lambda x: losses.separation(w.to(x), x, share, "printed"), oracle.separation_printed(w, v, one)),
            "uniformity": (losses.uniformity, oracle.uniformity(v)),
            "towards uniform": (losses.towards_uniform, oracle.kl_from_uniform(v)),
            "logit norm": (lambda x: losses.logit_norm(x, y, tau), oracle.logit_norm(v, y, tau)),
            "groups": (lambda x: losses.group_softmax(x, right[gy], places), oracle.group_softmax(v, sizes, group, place, gy)),
            "groups mixed": (
                lambda x: losses.group_softmax(x, right[gy], places, right[gz], share),
                oracle.group_softmax(v, sizes, group, place, gy, gz, one),
            ),
            "jensen-shannon": (lambda x: losses.jensen_shannon(x, d["w"].to(x), d["u"].to(x)), oracle.jensen_shannon(views)),
        }


NAMES = tuple(Case(drawn(2, 3, 1.0)).losses)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_loss_equals_its_loop(shape: tuple[int, int], scale: float) -> None:
    d = drawn(*shape, scale)
    for name, (loss, expected) in Case(d).losses.items():
        assert loss(d["v"]).item() == pytest.approx(expected, rel=1e-10, abs=1e-10), name


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(2, 7), st.sampled_from([0.0, 1e-3, 1.0, 50.0, 1e3]), st.integers(0, 10**6))
def test_each_loss_equals_its_loop_whatever_is_drawn(n: int, c: int, scale: float, seed: int) -> None:
    d = drawn(n, c, scale, seed)
    for name, (loss, expected) in Case(d, seed).losses.items():
        assert loss(d["v"]).item() == pytest.approx(expected, rel=1e-10, abs=1e-10), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.5, 8.0])
def test_gradients_are_those_of_differences(name: str, scale: float) -> None:
    d = drawn(3, 5, scale)
    loss, _ = Case(d).losses[name]
    assert torch.autograd.gradcheck(loss, d["v"].requires_grad_(), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_finite_at_huge_logits(name: str) -> None:
    for seed in range(3):
        d = drawn(4, 6, 1e4, seed)
        loss, expected = Case(d).losses[name]
        v = d["v"].float().requires_grad_()
        value = loss(v)
        value.backward()  # type: ignore[no-untyped-call]
        assert value.dtype == torch.float32 and math.isfinite(value.item())
        assert v.grad is not None and torch.isfinite(v.grad).all()
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_equal_logits_have_finite_gradients_too() -> None:
    for name, (loss, _) in Case(drawn(2, 4, 0.0)).losses.items():
        v = torch.zeros(2, 4, requires_grad=True)
        loss(v).backward()
        assert v.grad is not None and torch.isfinite(v.grad).all(), name


# Features


@given(st.integers(1, 4), st.integers(1, 6), st.integers(2, 5), st.sampled_from([1e-3, 1.0, 1e3]), st.integers(0, 10**6))
def test_normalised_features_equal_their_loop(n: int, width: int, classes: int, scale: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    f, weight, bias = (torch.randn(*shape, dtype=torch.float64, generator=random) for shape in ((n, width), (classes, width), (classes,)))
    y = torch.randint(classes, (n,), generator=random)
    logits = losses.feature_norm(scale * f, weight, bias, 0.1)
    expected = oracle.feature_norm((scale * f).numpy(), weight.numpy(), bias.numpy(), 0.1)
    np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-10)
    assert losses.smoothed(logits, y).item() == pytest.approx(oracle.cross_entropy(expected, y), rel=1e-10, abs=1e-10)


def test_normalised_features_have_the_gradients_of_differences() -> None:
    random = torch.Generator().manual_seed(0)
    f, weight, bias = (torch.randn(*shape, dtype=torch.float64, generator=random).requires_grad_() for shape in ((3, 4), (5, 4), (5,)))
    y = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda *a: losses.smoothed(losses.feature_norm(*a), y), (f, weight, bias))


def test_a_feature_of_length_zero_gives_the_bias() -> None:
    f = torch.zeros(1, 3, requires_grad=True)
    logits = losses.feature_norm(f, torch.ones(2, 3), torch.tensor([1.0, 2.0]))
    logits.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.tolist() == [[1.0, 2.0]]
    assert f.grad is not None and torch.isfinite(f.grad).all()


# Properties


def test_shares_of_none_and_all() -> None:
    d = drawn(5, 4, 3.0)
    v, y, z = d["v"], d["y"], d["z"]
    assert torch.equal(losses.mixed(v, y, z, 0.0), F.cross_entropy(v, y))
    assert torch.equal(losses.mixed(v, y, z, 1.0), F.cross_entropy(v, z))
    one, other = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    assert torch.equal(mixup(one, other, 0.0), one)
    assert torch.equal(mixup(one, other, 1.0), other)


def test_one_group_is_a_softmax_with_others() -> None:
    d = drawn(6, 5, 2.0)
    groups = layout([[0, 1, 2, 3]])
    y = d["y"] % 4
    found = losses.group_softmax(d["v"], targets(groups)[y], group_places(groups))
    assert found.item() == pytest.approx(F.cross_entropy(d["v"], y + 1).item(), rel=1e-14)


@given(st.floats(-200, 200), st.integers(0, 1000))
def test_each_groups_softmax_is_its_own(shift: float, seed: int) -> None:
    """A constant added to the logits of one group changes nothing."""
    d = drawn(3, 8, 2.0, seed)
    groups = group_of(8, seed)
    right, places = targets(groups), group_places(groups)
    y = d["y"] % len(right)
    first = places[0][places[0] < 8]
    moved = d["v"].clone()
    moved[:, first] += shift
    assert losses.group_softmax(moved, right[y], places).item() == pytest.approx(losses.group_softmax(d["v"], right[y], places).item(), rel=1e-11)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.77, 1.0])
def test_where_the_separation_losses_are_least(share: float) -> None:
    """`ratio` where LSE(v) / LSE(v_mix) = 1 / m, `printed` where LSE(v) - LSE(v_mix) = log 1 / m, for large scores, of which softplus leaves all."""
    m = max(share, 1 - share)
    mix = torch.tensor([[40.0, 39.0, 12.0]], dtype=torch.float64)
    score = mix.logsumexp(1).item()

    def at(own: float, form: str) -> Tensor:
        v = torch.tensor([[own, own]], dtype=torch.float64) - math.log(2)  # its LSE is `own`
        return losses.separation(v.requires_grad_(), mix[:, :2] - mix[:, :2].logsumexp(1) + score, share, form)

    for form, best in (("ratio", score / m), ("printed", score + math.log(1 / m))):
        found = minimize_scalar(lambda own, form=form: at(own, form).item(), bounds=(best - 15, best + 15), method="bounded", options={"xatol": 1e-9})
        assert found.x == pytest.approx(best, abs=1e-4), form
        own = torch.tensor([[best, -1e4]], dtype=torch.float64, requires_grad=True)
        losses.separation(own, torch.tensor([[score, -1e4]], dtype=torch.float64), share, form).backward()
        assert own.grad is not None and own.grad.abs().max() < 1e-8, form


def test_the_two_separation_losses_pull_in_the_directions_that_the_text_says() -> None:
    """At scores of 15 and 9 and a share of a half: `printed` pulls the sample's score down, `ratio` lifts it."""
    for form, down in (("printed", True), ("ratio", False)):
        v = torch.tensor([[15.0, -50.0]], dtype=torch.float64, requires_grad=True)
        losses.separation(v, torch.tensor([[9.0, -50.0]], dtype=torch.float64), 0.5, form).backward()
        assert v.grad is not None
        assert (v.grad[0, 0].item() > 0) == down
        assert v.grad[0, 0].item() == pytest.approx(0.331 if down else -0.0028, rel=0.05)


def test_the_separation_loss_lifts_a_sample_whose_score_is_low() -> None:
    v = torch.tensor([[1.0, 1.0]], requires_grad=True)
    losses.separation(v, torch.full((1, 2), 9.0), 0.3).backward()  # type: ignore[no-untyped-call]
    assert v.grad is not None and (v.grad < 0).all()


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(ff.InputError, match=r"forms ratio and printed; got 'score'"):
        losses.separation(torch.zeros(1, 2), torch.zeros(1, 2), 0.5, "score")


@given(st.integers(2, 40), st.sampled_from([0.0, 0.1, 10.0, 1e3]), st.integers(0, 10**6))
def test_distances_from_uniform_are_least_at_equal_logits(c: int, scale: float, seed: int) -> None:
    v = drawn(3, c, scale, seed)["v"]
    assert losses.uniformity(v).item() >= math.log(c) - 1e-12
    assert -1e-12 <= losses.towards_uniform(v).item() <= math.log(c) + 1e-12
    level = v[:, :1].expand(3, c)
    assert losses.uniformity(level).item() == pytest.approx(math.log(c), rel=1e-12)
    assert losses.towards_uniform(level).item() == pytest.approx(0.0, abs=1e-12)


@given(st.floats(1e-2, 1e4), st.integers(0, 10**6))
def test_normalised_logits_have_no_scale(factor: float, seed: int) -> None:
    d = drawn(3, 5, 1.0, seed)
    one, other = losses.logit_norm(d["v"], d["y"]), losses.logit_norm(factor * d["v"], d["y"])
    shortest = min(1, factor) * d["v"].norm(dim=1).min().item()
    # d loss / d log scale is at most 2 / tau: logits of length 1 / tau, of which the 1e-7 takes 1e-7 / |v|
    assert abs(one.item() - other.item()) <= 2 / 0.04 * 1e-7 / shortest + 1e-9


@settings(max_examples=50)
@given(st.integers(2, 9), st.sampled_from([0.0, 1.0, 30.0, 1e3]), st.integers(0, 10**6), st.booleans())
def test_the_divergence_of_predictions_is_between_none_and_the_log_of_their_number(c: int, scale: float, seed: int, single: bool) -> None:
    d = drawn(4, c, scale, seed)
    views = [d[name].float() if single else d[name] for name in "vwu"]
    found = losses.jensen_shannon(*views).item()
    slack = 1e-6 if single else 1e-12
    assert -slack <= found <= math.log(3) + slack
    assert losses.jensen_shannon(views[0], views[0], views[0]).item() == pytest.approx(0, abs=slack)
    assert losses.jensen_shannon(*reversed(views)).item() == pytest.approx(found, abs=slack)


def test_predictions_that_share_no_class_are_as_far_apart_as_can_be() -> None:
    v = 1e4 * torch.eye(3)
    assert losses.jensen_shannon(v[:1], v[1:2], v[2:]).item() == pytest.approx(math.log(3), rel=1e-6)


# Groups


@given(st.integers(2, 30), st.integers(0, 10**6))
def test_the_targets_of_groups_are_those_of_the_loop(c: int, seed: int) -> None:
    groups = group_of(c, seed)
    sizes, group, place = in_loops(groups)
    right = targets(groups)
    assert right.shape == (c - len(sizes), len(sizes))
    for label in range(len(right)):
        assert right[label].tolist() == [place[label] if k == group[label] else 0 for k in range(len(sizes))]


# Mixtures


@given(st.floats(0, 1), st.integers(0, 1000))
def test_mixup_is_the_loop(share: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    one = torch.rand(3, 3, 2, 4, dtype=torch.float64, generator=random)
    others = [1, 2, 0]
    np.testing.assert_allclose(mixup(one, one[others], share), oracle.mixup(one.numpy(), [share] * 3, others), rtol=1e-12, atol=1e-15)


@given(st.floats(0, 1), st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_cutmix_takes_each_pixel_from_one_and_its_share_is_the_area(share: float, height: int, width: int, seed: int) -> None:
    one, other = torch.zeros(2, 3, height, width), torch.ones(2, 3, height, width)
    one[1], other[1] = 2, 3
    made, real = cutmix(one, other, share, torch.Generator().manual_seed(seed))
    inside = made[0, 0] == 1
    assert ((made == one) | (made == other)).all()
    assert (made[0] == inside.float()).all() and (made[1] == 2 + inside.float()).all()  # the same box in every picture and channel
    assert real == pytest.approx(inside.float().mean().item(), abs=1e-6)
    assert real <= share + 1e-9
    assert not inside.any() or inside[inside.any(1)][:, inside.any(0)].all()  # a box, with no holes
    assert (one[0] == 0).all()  # what was given is not written to


def test_the_boxes_of_cutmix_lie_anywhere_and_are_as_large_as_asked() -> None:
    """Away from the border the box has all of its sides, and every pixel is hit."""
    one, other = torch.zeros(1, 3, 20, 20), torch.ones(1, 3, 20, 20)
    boxes = [cutmix(one, other, 0.25, torch.Generator().manual_seed(seed)) for seed in range(400)]
    assert max(share for _, share in boxes) == pytest.approx(0.25)
    assert min(share for _, share in boxes) == pytest.approx(0.0625)  # centred on a corner: a quarter of it
    hit = torch.stack([made[0, 0] for made, _ in boxes]).mean(0)
    assert (hit > 0.05).all() and hit[5:-5, 5:-5].mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("mix", [mix for mix in MIXES if mix != "none"])
def test_which_mixture_is_drawn_with_equal_chance(mix: str) -> None:
    made = [draw_mix(mix, 0.2, 1.0, Draws(0, step, torch.tensor([0])).once("mixture")) for step in range(600)]
    kinds = MIXES[mix]
    for kind, a in zip(kinds, (0.2, 1.0) if mix != "cutmix" else (1.0,), strict=False):
        shares = np.array([share for got, share in made if got == kind])
        assert len(shares) == pytest.approx(600 / len(kinds), abs=50)  # four standard deviations
        variance = 1 / (4 * (2 * a + 1))
        assert shares.mean() == pytest.approx(0.5, abs=4 * math.sqrt(variance / len(shares)))
        assert shares.var() == pytest.approx(variance, rel=0.2)


def test_an_unknown_mixture_is_named() -> None:
    with pytest.raises(ff.InputError, match="no mixture 'cutout'"):
        draw_mix("cutout", 1.0, 1.0, torch.Generator())


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 20.0])
def test_beta_has_the_moments_of_beta(alpha: float) -> None:
    random = torch.Generator().manual_seed(1)
    shares = np.array([beta(alpha, random) for _ in range(4000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert ((shares >= 0) & (shares <= 1)).all()
    assert shares.mean() == pytest.approx(0.5, abs=4 * math.sqrt(variance / 4000))
    assert shares.var() == pytest.approx(variance, rel=0.12)


def test_classes_are_predicted_by_the_rule_of_the_head() -> None:
    """The head's rule, and the largest log-probability that the objective reports, name the same class."""
    from farfield.training import OBJECTIVES
    from farfield.training.batch import Batch, Net

    groups = layout([[3, 1], [0], [2, 4]])
    v = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 3
    batch = Batch(v, v, torch.arange(50) % 5, Draws(0, 0, torch.arange(50)), lambda x: x)
    _, said = OBJECTIVES["mos"](groups=groups)(Net(torch.nn.Identity()), batch)  # type: ignore[call-arg]
    assert torch.equal(said.argmax(1), Head(torch.eye(8), torch.zeros(8), groups).predict(v))

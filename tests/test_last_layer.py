"""A retrained head is at the optimum that others find too, and a head put into a classifier is its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import timm
import torch
import torchvision
from sklearn.linear_model import LogisticRegression
from torch import nn

import farfield as ff
from farfield.classifier.surgery import new_head, put_head
from farfield.detectors import KNN, Energy, MahalanobisPP, MaxLogit
from farfield.errors import OptionError
from farfield.outputs import Head, Outputs, concatenate
from farfield.stats import hashed
from farfield.store import Stored
from farfield.testing.worlds import world
from farfield.training.last_layer import Retrained, retrain

GROUPS = torch.tensor([-1, 2, -1, 0, 1, -1, 3, 4])


def data(n: int, d: int, c: int, *, apart: float = 1.0, seed: int = 0, dtype: torch.dtype = torch.float64) -> Outputs:
    """Classes of uneven size about their means, with ids that are not the rows."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(c), (c * torch.rand(n - c, generator=random, dtype=torch.float64) ** 2).long()])
    features = apart * torch.randn(c, d, generator=random)[labels] + torch.randn(n, d, generator=random) + 3
    return Outputs(features=features.to(dtype), labels=labels, ids=torch.randperm(10 * n, generator=random)[:n])


def zeros(d: int, c: int, dtype: torch.dtype = torch.float64) -> Head:
    return Head(torch.zeros(c, d, dtype=dtype), torch.zeros(c, dtype=dtype))


def columns(some: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
    assert some.features is not None and some.labels is not None
    return some.features, some.labels


def slope(head: Head, some: Outputs, penalty: float, bias: bool = True) -> tuple[float, float]:
    """The objective and the norm of its gradient, sample by sample in float64."""
    x, y = (column.double().numpy() if column.is_floating_point() else column.numpy() for column in columns(some))
    w, b = head.weight.double().numpy(), head.bias.double().numpy()
    value, by_w, by_b = 0.0, np.zeros_like(w), np.zeros_like(b)
    for f, label in zip(x, y, strict=True):
        v = w @ f + b
        p = np.exp(v - v.max())
        p /= p.sum()
        value -= np.log(p[label]) / len(x)
        p[label] -= 1
        by_w += np.outer(p, f) / len(x)
        by_b += p / len(x)
    by_w += penalty * w
    return value + penalty / 2 * (w**2).sum(), float(np.sqrt((by_w**2).sum() + bias * (by_b**2).sum()))


def differ(one: Retrained, other: Retrained) -> float:
    """The difference of two heads' weights and biases, over the norm of the weights."""
    apart = torch.cat([one.head.weight - other.head.weight, (one.head.bias - other.head.bias)[:, None]], 1)
    return float(apart.norm() / one.head.weight.norm())


@pytest.mark.parametrize(("n", "d", "c", "apart"), [(300, 6, 4, 1.0), (300, 6, 4, 8.0), (200, 5, 2, 0.5), (30, 50, 3, 1.0)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("penalty", [5e-4, 1e-1])
def test_the_optimum_is_that_of_scikit_learn(n: int, d: int, c: int, apart: float, bias: bool, penalty: float) -> None:
    some = data(n, d, c, apart=apart)  # at 8 classes lie apart in lines; with more features than samples, too
    found = retrain(zeros(d, c), some, penalty=penalty, bias=bias, tolerance=1e-8, limit=2000)
    x, y = columns(some)
    # Of two classes it has one row of weights, w_1 - w_0 = 2 w_1, so that the penalty is half as large.
    theirs = LogisticRegression(C=1 / (n * penalty * (0.5 if c == 2 else 1)), fit_intercept=bias, tol=1e-12, max_iter=100_000, solver="newton-cg")
    theirs.fit(x.numpy(), y.numpy())
    w, b = torch.from_numpy(theirs.coef_), torch.from_numpy(np.broadcast_to(theirs.intercept_, len(theirs.coef_)).copy())
    if c == 2:
        w, b = torch.cat([-w, w]) / 2, torch.cat([-b, b]) / 2
    torch.testing.assert_close(found.head.weight, w - w.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.head.bias, b - b.mean(), rtol=1e-5, atol=1e-5)
    assert found.converged and found.samples == n and found.distance <= 1e-8


def test_the_optimum_is_that_of_scipy_in_float32_within_what_is_said() -> None:
    some, penalty = data(400, 10, 5), 5e-4
    x, y = (column.numpy() for column in columns(some))

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = theta[:50].reshape(5, 10), theta[50:]
        v = x @ w.T + b
        p = np.exp(v - v.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        value = -np.log(p[np.arange(400), y]).mean() + penalty / 2 * (w**2).sum()
        p[np.arange(400), y] -= 1
        return value, np.concatenate([(p.T @ x / 400 + penalty * w).ravel(), p.mean(0)])

    best = scipy.optimize.minimize(objective, np.zeros(55), jac=True, method="L-BFGS-B", options={"maxiter": 10_000, "ftol": 1e-16, "gtol": 1e-10})
    w = torch.from_numpy(best.x[:50].reshape(5, 10))
    rough = some.having(features=columns(some)[0].float())
    for tolerance in (1e-1, 1e-2, 1e-3):
        found = retrain(zeros(10, 5, torch.float32), rough, penalty=penalty, tolerance=tolerance)
        assert found.head.weight.dtype == torch.float32
        assert float((found.head.weight - w).norm() / w.norm()) <= found.distance + 1e-5 <= tolerance + 1e-5
        assert found.after == pytest.approx(best.fun, rel=1e-2 * tolerance)


@pytest.mark.parametrize("bias", [True, False])
def test_the_figures_are_those_of_a_loop_in_float64(bias: bool) -> None:
    some = data(150, 8, 4, dtype=torch.float32)
    start = Head(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), torch.arange(4.0))
    found = retrain(start, some, bias=bias)
    before, after = slope(start, some, 5e-4, bias), slope(found.head, some, 5e-4, bias)
    assert found.before == pytest.approx(before[0], rel=1e-6) and found.after == pytest.approx(after[0], rel=1e-6)
    allowed = 1e-3 * 5e-4 * float(found.head.weight.norm())
    assert found.gradient <= allowed and after[1] <= allowed + 1e-6 and found.gradient == pytest.approx(after[1], abs=1e-6)
    assert found.distance == pytest.approx(found.gradient / (5e-4 * float(found.head.weight.norm())), rel=1e-5)
    x, y = columns(some)
    assert found.accuracy_before == pytest.approx(float((start(x).argmax(1) == y).float().mean()))
    assert found.accuracy_after == pytest.approx(float((found.head(x).argmax(1) == y).float().mean()), abs=0.01)
    assert bool(found.head.bias.any()) == bias
    assert abs(float(found.head.bias.sum())) < 1e-5 and float(found.head.weight.sum(0).abs().max()) < 1e-4
    assert found.after < found.before and 1 < found.iterations < found.passes and found.seconds > 0


class Pieces:
    """Chunks of given sizes, the same each time."""

    def __init__(self, whole: Outputs, *sizes: int) -> None:
        self.whole, self.ends = whole, [0, *itertools.accumulate(sizes), len(whole)]

    def __iter__(self) -> Iterator[Outputs]:
        return (self.whole[a:b] for a, b in itertools.pairwise(self.ends))


def test_warm_start_order_and_chunks_do_not_matter(tmp_path: Path) -> None:
    some = data(500, 8, 4)
    one = retrain(zeros(8, 4), some, tolerance=1e-9)
    far = Head(3 * torch.randn(4, 8, dtype=torch.float64) + 5, torch.randn(4, dtype=torch.float64) + 40)
    assert differ(one, retrain(far, some, tolerance=1e-9)) < 1e-8
    assert differ(one, retrain(zeros(8, 4), some[torch.randperm(500)], tolerance=1e-9)) < 1e-8
    assert differ(one, retrain(zeros(8, 4), Pieces(some, 1, 0, 130), tolerance=1e-9)) < 1e-8
    again = retrain(zeros(8, 4), some, tolerance=1e-9)
    assert torch.equal(one.head.weight, again.head.weight) and torch.equal(one.head.bias, again.head.bias)
    store = Stored.at(tmp_path, {}, 500, 128, "f")
    for shard in range(store.shards):
        span = store.span(shard)
        store.write(shard, some[span.start : span.stop].having(ids=torch.arange(span.start, span.stop)))
    assert differ(one, retrain(zeros(8, 4), store, tolerance=1e-9)) < 1e-8


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_uneven_and_distant_features_need_few_passes(offset: float) -> None:
    there = world(600, 12, 5, uneven=True, spread=2.0, offset=offset, dtype=torch.float64).train
    assert there.head is not None
    found = retrain(there.head, there, tolerance=1e-4 if offset else 1e-6, limit=400)
    assert found.converged and slope(found.head, there, 5e-4)[1] <= found.gradient * 1.01 + 1e-12


def test_half_precision_features_are_taken_as_they_are() -> None:
    rough = data(300, 8, 4, dtype=torch.float16)
    whole = rough.having(features=columns(rough)[0].float())
    assert differ(retrain(zeros(8, 4), rough), retrain(zeros(8, 4), whole)) == 0


def test_a_fraction_is_that_of_the_lowest_hashes_in_each_class() -> None:
    some = data(400, 6, 5)
    _, labels = columns(some)
    assert some.ids is not None
    for fraction, seed in ((0.1, 0), (0.5, 7), (1e-6, 0)):
        keys = hashed(some.ids, seed)
        rows = []
        for c in range(5):
            mine = (labels == c).nonzero()[:, 0].tolist()
            rows += sorted(mine, key=lambda row: int(keys[row]))[: max(1, int(np.ceil(fraction * len(mine))))]
        found = retrain(zeros(6, 5), some, fraction=fraction, seed=seed, tolerance=1e-9)
        assert found.samples == len(rows)
        assert differ(found, retrain(zeros(6, 5), some[torch.tensor(rows)], tolerance=1e-9)) < 1e-8
        assert differ(found, retrain(zeros(6, 5), Pieces(some, 33, 44), fraction=fraction, seed=seed, tolerance=1e-9)) < 1e-8
    plain = some.having(ids=None)
    numbered = some.having(ids=torch.arange(400))
    assert differ(retrain(zeros(6, 5), Pieces(plain, 55), fraction=0.3), retrain(zeros(6, 5), numbered, fraction=0.3)) < 1e-3


def test_it_says_how_far_it_is() -> None:
    calls: list[tuple[str, int, int]] = []
    some = data(200, 6, 3)
    found = retrain(zeros(6, 3), some, limit=50, progress=lambda *what: calls.append(what))
    assert calls == [("retraining", i + 1, 50) for i in range(found.passes)]
    for limit in (1, 2, 4):
        with pytest.warns(ff.FarfieldWarning, match=rf"stopped after {limit} passes.*Raise `limit`"):
            short = retrain(zeros(6, 3), some, limit=limit)
        assert not short.converged and short.passes == limit and short.after <= short.before


def test_what_cannot_be_retrained_is_said() -> None:
    some = data(60, 4, 3)
    x, y = columns(some)
    with pytest.raises(ff.InputError, match="a softmax in each of several groups \\(MOS\\)"):
        retrain(Head(torch.zeros(4, 4), torch.zeros(4), torch.tensor([-1, 0, 1, 2])), some)
    options: list[tuple[str, float]] = [("fraction", 0), ("fraction", 1.1), ("penalty", 0), ("penalty", float("nan")), ("tolerance", 0), ("limit", 0)]
    for name, value in [*options, ("seed", -1)]:
        with pytest.raises(OptionError, match=f"needs `{name}`.*got {name}="):
            retrain(zeros(4, 3), some, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ff.InputError, match="from 0 to 2; row 7 has 3"):
        retrain(zeros(4, 3), some.having(labels=y.index_fill(0, torch.tensor([7]), 3)))
    with pytest.raises(ff.InputError, match="`features` has NaN in 1 of 60 rows, first at row 5"):
        retrain(zeros(4, 3), some.having(features=x.index_fill(0, torch.tensor([5]), torch.nan)))
    with pytest.raises(ff.InputError, match="needs `labels`"):
        retrain(zeros(4, 3), some.having(labels=None))
    with pytest.raises(ff.InputError, match="needs `features`"):
        retrain(zeros(4, 3), Outputs(labels=y))
    with pytest.raises(ff.InputError, match="of another model"):
        retrain(zeros(5, 3), some)
    with pytest.raises(ff.InputError, match="no samples"):
        retrain(zeros(4, 3), some[:0])
    with pytest.raises(ff.InputError, match="a generator can be used up"):
        retrain(zeros(4, 3), iter([some]))
    with pytest.raises(ff.InputError, match=r"1 of 4 have none, first class 3.*bias=False"):
        retrain(zeros(4, 4), some)
    assert retrain(zeros(4, 4), some, bias=False).converged


def test_scores_of_features_stay_and_those_of_logits_move() -> None:
    there = world(300, 16, 5, spread=2.0)
    assert there.train.head is not None
    found = retrain(there.train.head, there.train)

    def spoken(outputs: Outputs, head: Head) -> Outputs:
        assert outputs.features is not None
        return replace(outputs, logits=head(outputs.features), head=head)

    for method, stays in ((KNN, True), (MahalanobisPP, True), (MaxLogit, False), (Energy, False)):
        before, after = (
            method.fit(spoken(there.train, head))(spoken(there.ood, head))  # type: ignore[attr-defined]
            for head in (there.train.head, found.head)
        )
        assert torch.equal(before, after) == stays


# --- another head on a classifier -----------------------------------------------------------------------------------------------------------


def wrapped(module: nn.Module, size: tuple[int, ...] = (3, 32, 32), **given: object) -> ff.Classifier:
    return ff.Classifier.wrap(module, transform=torch.as_tensor, input_size=size, **given)  # type: ignore[arg-type]


def hugging_face() -> ff.Classifier:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16, num_labels=7)
    return wrapped(ViTForImageClassification(config), call=lambda module, x: module(pixel_values=x))


def mapped() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 7, 1, bias=False), nn.Flatten())


MODELS = {
    "timm resnet18": lambda: wrapped(timm.create_model("resnet18", num_classes=7)),
    "timm vit": lambda: wrapped(timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=32)),
    "timm bit": lambda: wrapped(timm.create_model("resnetv2_50x1_bit", num_classes=7)),
    "torchvision": lambda: wrapped(torchvision.models.resnet18(num_classes=7), labels=[*"abcdefg"]),
    "hugging face": hugging_face,
    "maps": lambda: wrapped(mapped()),
    "plain": lambda: wrapped(nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 7, bias=False)), (3, 2, 2)),
    "one layer": lambda: wrapped(nn.Linear(12, 7), (12,)),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("classes", [7, 4])
def test_a_head_that_is_put_into_a_classifier_is_its_own(model: str, classes: int) -> None:
    classifier = MODELS[model]()
    assert classifier.head is not None
    classifier.module.train()
    labels, fingerprint, width = classifier.labels, classifier.fingerprint(), classifier.head.weight.shape[1]
    assert isinstance(classifier.input_size, tuple)
    batch = torch.randn(3, *classifier.input_size)
    features = classifier.outputs(batch).features
    head = Head(torch.randn(classes, width), torch.randn(classes))
    put_head(classifier, head)
    now = classifier.head
    assert torch.equal(now.weight, head.weight) and torch.equal(now.bias, head.bias) and now.groups is None
    after = classifier.outputs(batch)
    assert after.features is not None and features is not None and torch.equal(after.features, features)
    torch.testing.assert_close(after.logits, head(features), rtol=1e-4, atol=1e-4)
    assert classifier.classes == classifier.logit_count == classes and classifier.fingerprint() != fingerprint
    assert classifier.labels == (labels if classes == 7 else None)
    assert all(part.training for part in classifier.module.modules())
    for holder in (classifier.module, getattr(classifier.module, "config", None)):
        for name in ("num_classes", "num_labels"):
            assert getattr(holder, name, classes) == classes
    assert len(wrapped(classifier.module, classifier.input_size, call=classifier.call).head.weight) == classes  # type: ignore[union-attr]


@pytest.mark.parametrize("model", MODELS)
def test_a_new_head_is_zero_and_can_be_trained(model: str) -> None:
    classifier = MODELS[model]()
    new_head(classifier, 5, GROUPS)
    assert classifier.head is not None and classifier.groups is not None
    assert classifier.classes == 5 and classifier.logit_count == 8 and torch.equal(classifier.groups, GROUPS)
    assert not classifier.head.weight.any() and not classifier.head.bias.any()
    assert isinstance(classifier.input_size, tuple)
    made = classifier.call(classifier.module, torch.randn(4, *classifier.input_size))
    (made if isinstance(made, torch.Tensor) else made.logits).square().add(made if isinstance(made, torch.Tensor) else made.logits).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in list(classifier.module.parameters())[-2:])
    new_head(classifier, 3)
    assert classifier.groups is None and classifier.classes == 3


def test_layers_keep_their_number_format_and_whether_they_are_trained() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 7)).bfloat16()
    net.requires_grad_(False)
    classifier = wrapped(net, (3, 2, 2))
    for classes in (7, 4):
        put_head(classifier, Head(torch.randn(classes, 6), torch.randn(classes)))
        assert net[3].weight.dtype == torch.bfloat16 and not any(p.requires_grad for p in net.parameters())
    with pytest.raises(ff.InputError, match=r"NaN or infinity among its weights, as torch.bfloat16"):
        put_head(classifier, Head(torch.full((4, 6), 3.4e38), torch.zeros(4)))


class Scaled(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body, self.head, self.kind = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU()), nn.Linear(7, 7), kind
        self.register_buffer("matrix", torch.randn(7, 7))
        self.beside = nn.Parameter(torch.randn(7))
        if kind == "tied":
            self.body[1] = nn.Linear(7, 7)
            self.body[1].weight = self.head.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.body(x)
        if self.kind == "buffer":
            return nn.functional.linear(f, self.matrix)
        if self.kind == "computed":
            return nn.functional.linear(f, nn.functional.normalize(self.head.weight))
        return self.head(f) * (3 if self.kind == "factor" else 1) + (self.beside if self.kind == "beside" else 0)


class Clamped(nn.Linear):
    """Follows any head of its own size, but its biases only so far."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight, None if self.bias is None else self.bias.clamp(-1, 1))


@pytest.mark.parametrize(
    ("module", "size", "match"),
    [
        (lambda: timm.create_model("deit_tiny_distilled_patch16_224", num_classes=7, img_size=32), (3, 32, 32), "come from 2 layers"),
        (lambda: Scaled("factor"), (3, 2, 2), "multiplies the outputs of its last layer, head, by 3"),
        (lambda: Scaled("buffer"), (3, 2, 2), "is no layer of its own but matrix"),
        (lambda: Scaled("computed"), (3, 2, 2), "is no layer of its own but computed"),
        (lambda: Scaled("tied"), (7,), "also that of its part"),
        (lambda: Scaled("beside"), (3, 2, 2), "does not follow the head"),
        (lambda: nn.Sequential(nn.Flatten(), Clamped(12, 7)), (3, 2, 2), "changes the logits"),
    ],
)
def test_a_refusal_leaves_everything_as_it_was(module: object, size: tuple[int, ...], match: str) -> None:
    torch.manual_seed(0)
    classifier = wrapped(module(), size, labels=[*"abcdefg"])  # type: ignore[operator]
    assert classifier.head is not None
    before, found, fingerprint = {k: v.clone() for k, v in classifier.module.state_dict().items()}, classifier.found, classifier.fingerprint()
    width = classifier.head.weight.shape[1]
    for classes in (7, 4) if "follow" not in match and "changes" not in match else (7,):
        with pytest.raises(ff.InputError, match=match):
            put_head(classifier, Head(torch.randn(classes, width), 5 * torch.ones(classes)))
        assert classifier.found is found and classifier.labels is not None and classifier.fingerprint() == fingerprint
        assert before.keys() == classifier.module.state_dict().keys()
        assert all(torch.equal(value, before[key]) for key, value in classifier.module.state_dict().items())


def test_a_replaced_layer_that_does_not_prove_is_put_back() -> None:
    class Seven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_classes, self.body, self.head = 7, nn.Flatten(), nn.Linear(12, 7, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v = self.head(self.body(x))
            return v if v.shape[1] == 7 else v.tanh()

    net = Seven()
    layer, weight = net.head, net.head.weight.detach().clone()
    classifier = wrapped(net, (3, 2, 2), labels=[*"abcdefg"])
    found = classifier.found
    with pytest.raises(ff.InputError, match="does not follow the head"):
        new_head(classifier, 5, GROUPS)
    assert net.head is layer and torch.equal(layer.weight, weight) and layer.bias is None and net.num_classes == 7
    assert classifier.found is found and classifier.labels is not None and classifier.groups is None and classifier.classes == 7


def test_heads_that_do_not_fit_are_said() -> None:
    classifier = MODELS["plain"]()
    with pytest.raises(ff.InputError, match="takes 6 features, and the new one 5"):
        put_head(classifier, Head(torch.zeros(7, 5), torch.zeros(7)))
    with pytest.raises(ff.InputError, match="hold 5 classes, and the head is to have 4"):
        new_head(classifier, 4, GROUPS)
    with pytest.raises(ff.InputError, match="at least one class; got classes=0"):
        new_head(classifier, 0)
    with pytest.warns(ff.FarfieldWarning, match="no linear head"):
        soft = wrapped(nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.Softplus()), (3, 2, 2))
    with pytest.raises(ff.InputError, match="has no linear head that could be found, so none can be put"):
        new_head(soft, 3)


def test_a_retrained_head_goes_back_into_its_classifier() -> None:
    classifier = MODELS["timm resnet18"]()
    random = torch.Generator().manual_seed(0)
    seen = [classifier.outputs(torch.randn(32, 3, 32, 32, generator=random)).having(labels=torch.arange(32) % 7) for _ in range(2)]
    assert classifier.head is not None
    found = retrain(classifier.head, concatenate(seen))
    put_head(classifier, found.head)
    assert torch.equal(classifier.head.weight, found.head.weight) and found.accuracy_after > found.accuracy_before

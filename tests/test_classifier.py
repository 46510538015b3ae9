"""The head is found and proven, and the user's model is left as it was."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import farfield as ff
from farfield.classifier import find_head, head_of_layer, proof_error
from farfield.models import ARCHITECTURES, SHIPPED, build

FAMILIES = ["resnet18", "resnetv2_50x1_bit", "vit_tiny_patch16_224", "convnext_atto"]


def wrapped(module: nn.Module, size: tuple[int, int, int] = (3, 8, 8), **given: object) -> ff.Classifier:
    return ff.Classifier.wrap(module, transform=torch.as_tensor, input_size=size, **given)  # type: ignore[arg-type]


def small(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last)


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_of_timm_models_are_found_and_reproduce_the_logits(name: str) -> None:
    net = timm.create_model(name, pretrained=False, num_classes=11).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    classifier = wrapped(net, (3, 64, 64) if "vit" not in name else (3, 224, 224))
    assert classifier.layer is not None
    assert classifier.layer is (net.head.fc if hasattr(net.head if hasattr(net, "head") else None, "fc") else net.get_classifier())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    # Random weights in head and body, so that nothing agrees by being zero.
    with torch.no_grad():
        for parameter in classifier.layer.parameters():
            parameter.normal_()
    batch = torch.randn(3, *((3, 64, 64) if "vit" not in name else (3, 224, 224)))
    outputs = classifier.outputs(batch)
    assert outputs.logits is not None and outputs.features is not None and classifier.head is not None
    with torch.no_grad():
        torch.testing.assert_close(outputs.logits, net(batch), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(classifier.head(outputs.features), outputs.logits, rtol=1e-4, atol=1e-4 * float(outputs.logits.std()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("classes", [200, 1000])
def test_heads_of_the_shipped_architectures_are_found(architecture: str, classes: int) -> None:
    classifier = wrapped(build(architecture, classes), (3, 32, 32))
    assert classifier.head is not None
    assert classifier.head.weight.shape[0] == classes


def test_a_zero_head_is_found_although_it_proves_nothing_as_it_is() -> None:
    net = small(nn.Linear(6, 4))
    nn.init.zeros_(net[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(net[-1].bias)  # type: ignore[arg-type]
    assert wrapped(net).layer is net[-1]
    assert not net[-1].weight.any()


def test_a_linear_map_before_a_nonlinearity_is_no_head() -> None:
    for last in (nn.Softplus(), nn.LogSoftmax(1)):
        with pytest.warns(ff.FarfieldWarning, match="Sequential has no linear head that could be found.*pass it as `layer`"):
            assert wrapped(small(nn.Linear(6, 4), last)).layer is None


def test_a_decoy_with_as_many_outputs_is_passed_over() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.real, self.decoy = small(), nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.body(x)
            logits: torch.Tensor = self.real(features)
            self.decoy(features)  # runs last and goes nowhere
            return logits

    net = Two()
    assert wrapped(net).layer is net.real


def test_a_convolution_before_the_pooling_is_a_head() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = wrapped(net)
    assert classifier.layer is net[2]
    outputs = classifier.outputs(torch.randn(5, 3, 8, 8))
    assert outputs.features is not None and outputs.features.shape == (5, 6)
    torch.testing.assert_close(classifier.head(outputs.features), outputs.logits)  # type: ignore[misc]


def test_a_given_layer_is_proven_too() -> None:
    net = small(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))
    assert wrapped(net, layer=net[-1]).layer is net[-1]
    with pytest.raises(ff.InputError, match="not the head"):
        wrapped(net, layer=net[-3])


def test_the_proof_is_relative_to_the_spread_of_the_logits() -> None:
    class Off(nn.Module):
        """Adds a little that no head explains."""

        def __init__(self, size: float) -> None:
            super().__init__()
            self.body, self.head, self.size = small(), nn.Linear(6, 4), size

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x)) + self.size * torch.arange(4.0)

    probe = torch.randn(4, 3, 8, 8)
    net = Off(0.01)
    assert proof_error(net, net.head, probe) > 1e-3
    assert find_head(net, probe) is None
    exact = Off(0.0)
    assert find_head(exact, probe) is exact.head


def test_a_layer_that_does_not_run_or_has_other_outputs_is_no_head() -> None:
    net, probe = small(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)), torch.randn(2, 3, 8, 8)
    assert proof_error(net, nn.Linear(6, 4), probe) == float("inf")
    assert proof_error(net, net[4], probe) == float("inf")


def test_no_hook_and_no_mode_outlives_a_pass() -> None:
    net = small(nn.Dropout(0.5), nn.Linear(6, 4))
    net.train()
    net[0].eval()
    classifier = wrapped(net)
    first, second = (classifier.outputs(torch.ones(2, 3, 8, 8)).logits for _ in range(2))
    assert torch.equal(first, second)  # type: ignore[arg-type]
    assert [part.training for part in net] == [False, True, True, True, True, True]
    assert net.training
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in net.modules())


class Functional(nn.Module):
    """What it does is an attribute, not a module."""

    def __init__(self, act: object) -> None:
        super().__init__()
        self.net, self.act = small(nn.Linear(6, 4)), act
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(input=self.act(x) * self.scale)  # type: ignore[operator,no-any-return]


def test_the_fingerprint_is_of_attributes_and_unsaved_buffers_too() -> None:
    one, other = Functional(torch.relu), Functional(torch.tanh)
    other.load_state_dict(one.state_dict())
    assert wrapped(one).fingerprint() != wrapped(other).fingerprint()
    other.act = torch.relu
    assert wrapped(one).fingerprint() == wrapped(other).fingerprint()
    other.scale.fill_(2.0)
    assert wrapped(one).fingerprint() != wrapped(other).fingerprint()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_in_half_precision_work(dtype: torch.dtype) -> None:
    net = small(nn.Linear(6, 40)).to(dtype)
    classifier = wrapped(net)
    assert classifier.layer is net[-1]
    assert classifier.outputs(torch.randn(3, 3, 8, 8)).logits.dtype == dtype  # type: ignore[union-attr]


def test_a_head_called_by_keyword_is_heard() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = small(), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(input=self.body(x))  # type: ignore[no-any-return]

    net = Keyword()
    assert wrapped(net).layer is net.head


def test_batch_statistics_do_not_move() -> None:
    net = build("resnet", 200).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    wrapped(net, (3, 32, 32)).outputs(torch.randn(8, 3, 32, 32))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_hooks_and_weights_are_put_back_when_the_model_fails() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.calls = nn.Linear(192, 4), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("out of memory")
            return self.head(x.flatten(1))  # type: ignore[no-any-return]

    net = Fails()
    before = net.head.weight.clone()
    with pytest.raises(RuntimeError, match="out of memory"):
        wrapped(net)
    assert torch.equal(net.head.weight, before)
    assert not net.head._forward_pre_hooks


def test_nan_weights_and_strange_outputs_are_refused() -> None:
    net = small(nn.Linear(6, 4))
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ff.InputError, match=r"NaN or infinity among its weights, in `0\.weight`"):
        wrapped(net)
    with pytest.raises(ff.InputError, match=r"logits of shape \(n, classes\); this one returns \(4, 6, 6, 6\)"):
        wrapped(nn.Conv2d(3, 6, 3))


def test_an_object_with_logits_is_a_classifiers_answer() -> None:
    class Answer:
        def __init__(self, logits: torch.Tensor) -> None:
            self.logits = logits

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small(nn.Linear(6, 4))

        def forward(self, x: torch.Tensor) -> Answer:
            return Answer(self.net(x))

    net = Wrapped()
    assert wrapped(net).layer is net.net[-1]


def test_the_fingerprint_is_of_weights_and_architecture() -> None:
    one, other = small(nn.Linear(6, 4)), small(nn.Linear(6, 4))
    other.load_state_dict(one.state_dict())
    assert wrapped(one).fingerprint() == wrapped(other).fingerprint()
    with torch.no_grad():
        other[-1].bias[0] += 1e-6
    assert wrapped(one).fingerprint() != wrapped(other).fingerprint()
    other.load_state_dict(one.state_dict())
    other[1] = nn.ReLU6()
    assert wrapped(one).fingerprint() != wrapped(other).fingerprint()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_classifiers_load(name: str) -> None:
    classifier = ff.Classifier.load(name)
    assert classifier.head is not None
    assert not torch.isnan(head_of_layer(classifier.layer).weight).any()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glyphs-200-resnt", "No classifier 'glyphs-200-resnt' ships"),
        ("timm:resnet1801", "timm has no model 'resnet1801'"),
        ("nowhere/x.safetensors", "cannot be read as a classifier"),
    ],
)
def test_an_unknown_classifier_is_refused(name: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=message):
        ff.Classifier.load(name)


def test_timm_with_random_weights_brings_its_transform() -> None:
    classifier = ff.Classifier.load("timm:test_resnet", random_weights=True)
    assert classifier.head is not None
    assert "Normalize" in repr(classifier.transform)

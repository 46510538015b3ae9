"""The head is found and proven, and the user's model is left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import farfield as ff
from farfield.classifier.classifier import blocks_of
from farfield.models import ARCHITECTURES, SHIPPED, build

FAMILIES = ["resnet18", "resnetv2_50x1_bit", "vit_tiny_patch16_224", "convnext_atto"]


def wrapped(module: nn.Module, size: tuple[int, int, int] = (3, 8, 8), **given: object) -> ff.Classifier:
    return ff.Classifier.wrap(module, transform=torch.as_tensor, input_size=size, **given)  # type: ignore[arg-type]


def names_of(net: nn.Module) -> tuple[str, ...]:
    """What the head of a module is called, as found."""
    found = wrapped(net).found
    assert found is not None
    return found.names


def small(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last)


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_of_timm_models_are_found_and_reproduce_the_logits(name: str) -> None:
    net = timm.create_model(name, pretrained=False, num_classes=11).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    classifier = wrapped(net, (3, 64, 64) if "vit" not in name else (3, 224, 224))
    assert classifier.found is not None
    layer = net.head.fc if hasattr(net.head if hasattr(net, "head") else None, "fc") else net.get_classifier()
    assert [net.get_submodule(name) for name in classifier.found.names] == [layer]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    # Random weights in the head, so that nothing agrees by being zero.
    with torch.no_grad():
        for parameter in layer.parameters():
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
    assert names_of(net) == ("4",)
    assert not net[-1].weight.any()


def test_a_linear_map_before_a_nonlinearity_is_no_head() -> None:
    for last in (nn.Softplus(), nn.LogSoftmax(1)):
        with (
            pytest.warns(ff.FarfieldWarning, match="Sequential has no linear head that could be found.*pass it as `layer`"),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Sequential returns log-probabilities")
            assert wrapped(small(nn.Linear(6, 4), last)).found is None


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

    assert names_of(Two()) == ("real",)


def test_a_convolution_before_the_pooling_is_a_head() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = wrapped(net)
    assert classifier.found is not None and classifier.found.names == ("2",)
    outputs = classifier.outputs(torch.randn(5, 3, 8, 8))
    assert outputs.features is not None and outputs.features.shape == (5, 6)
    torch.testing.assert_close(classifier.head(outputs.features), outputs.logits)  # type: ignore[misc]


def test_a_given_layer_is_proven_too() -> None:
    net = small(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))
    assert wrapped(net, layer=net[-1]).found.names == ("6",)  # type: ignore[union-attr]
    with pytest.raises(ff.InputError, match="not the head"):
        wrapped(net, layer=net[-3])
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in net.modules())


def test_what_depends_on_the_sample_beside_the_product_is_no_head() -> None:
    class Off(nn.Module):
        """Adds a little that no head explains."""

        def __init__(self, size: float) -> None:
            super().__init__()
            self.body, self.head, self.size = small(), nn.Linear(6, 4), size

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.body(x)
            return self.head(features) + self.size * torch.sin(40 * features[:, :1]) * torch.arange(4.0)

    with pytest.warns(ff.FarfieldWarning, match="no linear head"):
        assert wrapped(Off(0.01)).found is None
    exact = wrapped(Off(0.0)).found
    assert exact is not None and exact.names == ("head",) and exact.error < 1e-5


def test_a_constant_beside_the_product_is_part_of_the_bias() -> None:
    class Prior(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.prior = small(), nn.Linear(6, 4), nn.Parameter(torch.arange(4.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x)) + self.prior  # type: ignore[no-any-return]

    net = Prior()
    classifier = wrapped(net)
    assert classifier.head is not None
    torch.testing.assert_close(classifier.head.bias, net.head.bias + net.prior)
    with torch.no_grad():
        net.prior += 5  # the head is read as the model is now
    torch.testing.assert_close(classifier.head.bias, net.head.bias + net.prior)


class Bare(nn.Module):
    """A head of bare parameters; `act` is how they are used."""

    def __init__(self, act: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor], square: bool = False) -> None:
        super().__init__()
        self.body, self.act = small(), act
        self.w, self.b = nn.Parameter(torch.randn(6 if square else 4, 6)), nn.Parameter(torch.randn(6 if square else 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x), self.w, self.b)


@pytest.mark.parametrize(
    ("act", "weight"),
    [
        (nn.functional.linear, lambda w: w),
        (lambda x, w, b: x @ w.T + b, lambda w: w),
        (lambda x, w, b: torch.matmul(x, w.t()) + b, lambda w: w),
        (lambda x, w, b: torch.addmm(b, x, w.T), lambda w: w),
        (lambda x, w, b: x.mm(w.T) + b, lambda w: w),
        (lambda x, w, b: 3 * nn.functional.linear(x, w, b) + b, lambda w: 3 * w),
        (lambda x, w, b: nn.functional.linear(x, w / w.norm()), lambda w: w / w.norm()),
    ],
)
@pytest.mark.parametrize("square", [False, True])
def test_a_functional_head_is_found(act: Callable[..., torch.Tensor], weight: Callable[[torch.Tensor], torch.Tensor], square: bool) -> None:
    torch.manual_seed(0)
    net = Bare(act, square)
    classifier = wrapped(net)
    outputs, head = classifier.outputs(torch.randn(5, 3, 8, 8)), classifier.head
    assert head is not None and outputs.features is not None
    torch.testing.assert_close(head.weight, weight(net.w.detach()))
    torch.testing.assert_close(head(outputs.features), outputs.logits)


def test_two_heads_that_are_averaged_are_one_head() -> None:
    net = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=7).eval()
    nn.init.normal_(net.head.weight)
    nn.init.normal_(net.head_dist.weight)
    nn.init.normal_(net.head_dist.bias)
    classifier = wrapped(net, (3, 224, 224))
    assert classifier.found is not None and classifier.found.names == ("head", "head_dist")
    head = classifier.head
    assert head is not None
    assert torch.equal(head.weight, torch.cat([net.head.weight, net.head_dist.weight], 1).detach() / 2)
    torch.testing.assert_close(head.bias, (net.head.bias + net.head_dist.bias).detach() / 2)
    outputs = classifier.outputs(torch.randn(2, 3, 224, 224))
    torch.testing.assert_close(head(outputs.features), outputs.logits, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]


def test_a_dict_goes_in_and_a_dict_comes_out() -> None:
    class Dicts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small(nn.Linear(6, 4))

        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"logits": self.net(batch["image"]) * batch["gain"]}

    data = [({"image": torch.rand(3, 8, 8), "gain": torch.ones(1)}, i % 4) for i in range(6)]
    net = Dicts()
    with pytest.warns(ff.FarfieldWarning, match="no linear head"):  # the gain differs from sample to sample
        classifier = ff.Classifier.wrap(net, transform=lambda x: x, input_size={"image": (3, 8, 8), "gain": (1,)})
    outputs = ff.collect(classifier, data, batch_size=4)
    with torch.no_grad():
        expected = net.eval().net(torch.stack([x["image"] for x, _ in data]))
    torch.testing.assert_close(outputs.logits, expected)
    fixed = ff.Classifier.wrap(net, transform=lambda x: x, input_size=(3, 8, 8), call=lambda m, x: m({"image": x, "gain": torch.ones(1)}))
    assert fixed.found is not None and fixed.found.names == ("net.4",)


def test_how_a_model_is_called_can_be_said() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small(nn.Linear(6, 4))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.net(x), x

    with pytest.raises(ff.InputError, match=r"this one returns a tuple\. Say how to get them, for example call=lambda module, x: module\(x\)\[0\]"):
        wrapped(Pair())
    assert wrapped(Pair(), call=lambda module, x: module(x)[0]).found is not None


@pytest.mark.parametrize(("last", "kind"), [(nn.Softmax(1), "probabilities"), (nn.LogSoftmax(1), "log-probabilities")])
def test_a_model_that_ends_in_a_softmax_is_pointed_out(last: nn.Module, kind: str) -> None:
    with pytest.warns(ff.FarfieldWarning, match=f"returns {kind}, not logits"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sequential has no linear head")
        wrapped(small(nn.Linear(6, 4), last))


def test_a_model_that_fails_on_the_probe_says_what_to_give() -> None:
    with pytest.raises(ff.InputError, match=r"Sequential fails on a probe of size \(3, 224, 224\).*Give its `input_size`"):
        ff.Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), transform=torch.as_tensor)


def test_another_path_through_the_model_is_noticed() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = small(), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.body(x))
            return logits if len(x) == 4 else self.head(self.body(x))

    classifier = wrapped(Fickle())
    with pytest.raises(ff.InputError, match="took another path"):
        classifier.outputs(torch.randn(3, 3, 8, 8))


def test_names_of_classes_must_be_as_many_as_the_classes() -> None:
    assert wrapped(small(nn.Linear(6, 2)), labels=["cat", "dog"]).labels == ("cat", "dog")
    with pytest.raises(ff.InputError, match="has 2 classes, and 3 names"):
        wrapped(small(nn.Linear(6, 2)), labels=["cat", "dog", "eel"])


def test_stages_are_named() -> None:
    from torchvision import models as zoo

    assert blocks_of(timm.create_model("resnet18")) == ("act1", "layer1", "layer2", "layer3", "layer4")
    assert blocks_of(zoo.resnet18(), ("fc",)) == ("layer1", "layer2", "layer3", "layer4")
    assert blocks_of(zoo.vgg11(), ("classifier.6",)) == ("features.2", "features.5", "features.10", "features.15", "features.20")
    vit = zoo.VisionTransformer(32, 8, 3, 2, 96, 192)
    assert blocks_of(vit, ("heads.head",)) == tuple(f"encoder.layers.encoder_layer_{i}" for i in range(3))
    assert wrapped(small(nn.Linear(6, 4)), blocks=["0", "2"]).blocks == ("0", "2")


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
    assert classifier.found is not None and classifier.found.names == ("4",)
    assert classifier.outputs(torch.randn(3, 3, 8, 8)).logits.dtype == dtype  # type: ignore[union-attr]


def test_a_head_called_by_keyword_is_heard() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = small(), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(input=self.body(x))  # type: ignore[no-any-return]

    assert names_of(Keyword()) == ("head",)


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
    with pytest.raises(ff.InputError, match=r"logits of shape \(n, classes\); this one returns a tensor of shape \(4, 6, 6, 6\)"):
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

    assert names_of(Wrapped()) == ("net.4",)


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
    assert not torch.isnan(classifier.head.weight).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glyphs-200-resnt", "No classifier 'glyphs-200-resnt' ships"),
        ("timm:resnet1801", "timm has no model 'resnet1801'; did you mean 'resnet101'"),
        ("timm:resnet18.a1_in1", "timm's resnet18 has no weights 'a1_in1'; did you mean 'a1_in1k'"),
        ("timm:eva02_tiny_patch14_224", "has no classes: these weights are a feature extractor"),
        ("torchvision:resnet1", "torchvision has no classifier 'resnet1'; did you mean 'resnet1"),
        ("torchvision:resnet18:IMAGENET1K_V3", "no weights 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V1'"),
        ("python:nowhere:net", "The module 'nowhere' of python:nowhere:net cannot be imported"),
        ("python:torch", "does not name a function"),
        ("python:torch:seed_", "torch has no function 'seed_'; did you mean 'seed'"),
        ("python:torch:seed", "must return a Classifier, a module, or a module and its transform; it returns a int"),
        ("run.pth", r"run.pth holds weights and does not say of which architecture"),
        ("tests", "The folder tests holds no classifier: there is no model.safetensors"),
        ("nowhere/x.safetensors", "cannot be read as a classifier"),
    ],
)
def test_an_unknown_classifier_is_refused(name: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=message):
        ff.Classifier.load(name, random_weights=name.startswith("timm:eva"))


def test_timm_with_random_weights_brings_its_transform() -> None:
    classifier = ff.Classifier.load("timm:test_resnet", random_weights=True)
    assert classifier.head is not None
    assert "Normalize" in repr(classifier.transform)
    assert classifier.labels is not None and len(classifier.labels) == 1000


def test_weights_of_ones_own_fit_or_say_why_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = timm.create_model("test_resnet", num_classes=7)
    save_file(own.state_dict(), tmp_path / "own.safetensors")
    classifier = ff.Classifier.load("timm:test_resnet", weights=str(tmp_path / "own.safetensors"))
    assert classifier.classes == 7 and classifier.labels is None
    batch = torch.randn(2, *classifier.input_size)  # type: ignore[misc]
    with torch.no_grad():
        assert torch.equal(classifier.outputs(batch).logits, own.eval()(batch))  # type: ignore[arg-type]
    checkpoint = {f"model.{key}": value for key, value in own.state_dict().items()} | {"optimizer.0.momentum": torch.zeros(1)}
    save_file(checkpoint, tmp_path / "checkpoint.safetensors")
    again = ff.Classifier.load("timm:test_resnet", weights=str(tmp_path / "checkpoint.safetensors"))
    assert again.fingerprint() == classifier.fingerprint()
    with pytest.raises(ff.InputError, match="The weights do not fit timm:test_vit: they lack"):
        ff.Classifier.load("timm:test_vit", weights=str(tmp_path / "own.safetensors"))
    torch.save(own.state_dict(), tmp_path / "own.safetensors")
    assert ff.Classifier.load("timm:test_resnet", weights=str(tmp_path / "own.safetensors")).fingerprint() == classifier.fingerprint()
    with pytest.raises(ff.InputError, match=r"weights.*are for timm:, torchvision: and zoo:"):
        ff.Classifier.load("glyphs-200-resnet", weights=str(tmp_path / "own.safetensors"))


def test_torchvision_brings_the_transform_and_the_labels_of_its_weights() -> None:
    from PIL import Image
    from torchvision.models import ResNet18_Weights

    classifier = ff.Classifier.load("torchvision:resnet18", random_weights=True)
    assert classifier.labels is not None and classifier.labels[:2] == ("tench", "goldfish")
    picture = Image.effect_noise((300, 260), 90).convert("RGB")
    assert torch.equal(classifier.transform(picture), ResNet18_Weights.DEFAULT.transforms()(picture))


def test_hugging_face_brings_processor_and_labels_from_a_folder(tmp_path: Path) -> None:
    import transformers

    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=3,
        id2label={0: "cat", 1: "dog", 2: "eel"}, label2id={"cat": 0, "dog": 1, "eel": 2},
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.ViTForImageClassification(config)
    net.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    classifier = ff.Classifier.load(f"hf:{tmp_path}")
    assert classifier.labels == ("cat", "dog", "eel") and classifier.input_size == (3, 32, 32)
    picture = torch.randint(256, (3, 40, 50), dtype=torch.uint8)
    x = classifier.transform(picture)[None]
    assert x.shape == (1, 3, 32, 32)
    outputs = classifier.outputs(x)
    with torch.no_grad():
        torch.testing.assert_close(outputs.logits, net.eval()(x).logits)
    assert classifier.head is not None and torch.equal(classifier.head.weight, net.classifier.weight)
    again = ff.Classifier.load(f"hf:{tmp_path}")
    assert again.fingerprint() == classifier.fingerprint()
    assert ff.Classifier.load(f"hf:{tmp_path}", random_weights=True).fingerprint() != classifier.fingerprint()
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ff.InputError, match=r"The weights of hf:.* cannot be had .*random weights"):
        ff.Classifier.load(f"hf:{tmp_path}")


def test_weights_that_cannot_be_fetched_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("timm:resnet10t", "torchvision:mobilenet_v3_small", "hf:nobody/nothing-at-all"):
        with pytest.raises(ff.InputError, match=f"The weights of {name} cannot be had") as raised:
            ff.Classifier.load(name)
        assert "\n" not in str(raised.value)


def test_a_run_folder_is_a_classifier(tmp_path: Path) -> None:
    import shutil

    from farfield.models import shipped_path

    shutil.copy(shipped_path("glyphs-200-bit"), tmp_path / "model.safetensors")
    assert ff.Classifier.load(str(tmp_path)).fingerprint() == ff.Classifier.load("glyphs-200-bit").fingerprint()


def test_a_function_of_ones_own_is_a_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models_for_a_test.py").write_text(
        "import torch, farfield as ff\nfrom torch import nn\nfrom farfield.data.transforms import Normalize\n"
        "HALF = Normalize((0.5,) * 3, (0.5,) * 3, size=8)\n"
        "def net(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))\n"
        "def pair(): return net(), HALF\n"
        "def whole(): return ff.Classifier.wrap(net(), transform=HALF, input_size=(3, 8, 8))\n"
        "def fails(): raise RuntimeError('no such checkpoint')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("pair", "whole"):
        classifier = ff.Classifier.load(f"python:my_models_for_a_test:{name}")
        assert (classifier.classes, classifier.input_size) == (5, (3, 8, 8))
    with pytest.raises(ff.InputError, match="without a transform"):
        ff.Classifier.load("python:my_models_for_a_test:net")
    with pytest.raises(ff.InputError, match="fails of my_models_for_a_test fails: RuntimeError: no such checkpoint"):
        ff.Classifier.load("python:my_models_for_a_test:fails")


HEADS = ["EfficientNet", "torchvision ViT", "Hugging Face ResNet", "Swin", "MobileNetV3", "no linear head", "Sequential head"]


@pytest.mark.parametrize("family", HEADS)
def test_the_table_of_heads(family: str) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("heads", Path(__file__).parents[1] / "benchmarks" / "heads.py")
    assert spec is not None and spec.loader is not None
    heads = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(heads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = heads.FAMILIES[family]().found
    if family == "no linear head":
        assert found is None
    else:
        assert found is not None and found.error < 1e-4


def test_a_clamp_after_the_product_is_seen() -> None:
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = small(), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x)).clamp(-10, 10)  # type: ignore[no-any-return]

    with pytest.warns(ff.FarfieldWarning, match="no linear head"):
        assert wrapped(Clamped()).found is None


def test_a_small_second_product_counts_in_half_precision_too() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.a, self.b = small(), nn.Linear(6, 40), nn.Linear(6, 40)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.body(x)
            return self.a(features) + 0.1 * self.b(torch.sin(9 * features))  # type: ignore[no-any-return]

    assert names_of(Two().bfloat16()) == ("a", "b")


def test_products_with_other_numbers_of_rows_are_no_heads() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(2, 4), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = nn.functional.adaptive_avg_pool2d(x, (4, 2)).mean(1)
            return self.head(self.inner(pooled.reshape(-1, 2)).reshape(len(x), 16))  # type: ignore[no-any-return]

    assert names_of(Windows()) == ("head",)


def test_compiled_and_parallel_models_are_what_is_inside() -> None:
    net = small(nn.Linear(6, 4))
    assert wrapped(nn.DataParallel(net)).module is net
    assert wrapped(torch.compile(net, backend="eager")).module is net  # type: ignore[arg-type]


def test_a_model_that_is_changed_after_it_was_wrapped_is_read_as_it_is_or_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.scale, self.bias = small(), nn.Linear(6, 4), 1.0, nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x)) * self.scale + self.bias  # type: ignore[no-any-return]

    net = Scaled()
    classifier = wrapped(net)
    with torch.no_grad():
        net.bias += 3
    outputs, head = classifier.outputs(torch.randn(5, 3, 8, 8)), classifier.head
    torch.testing.assert_close(head(outputs.features), outputs.logits)  # type: ignore[misc, arg-type]
    net.scale = 2.0
    with pytest.raises(ff.InputError, match="changed after its head was found"):
        _ = classifier.head


def test_the_fingerprint_is_of_the_code_and_of_all_that_is_held() -> None:
    class Text(nn.Module):
        def __init__(self, row: float, k: float) -> None:
            super().__init__()
            self.net, self._k = small(), k
            self.prompts = torch.arange(1200.0).reshape(200, 6)
            self.prompts[50] = row

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) @ self.prompts.T * self._k

    torch.manual_seed(0)
    same = small().state_dict()

    def fingerprint(row: float = 0.0, k: float = 1.0, call: Callable[..., object] | None = None, hook: bool = False) -> str:
        net = Text(row, k)
        net.net.load_state_dict(same)
        classifier = wrapped(net, call=call)
        if hook:
            net.register_forward_hook(lambda _m, _x, y: y + 1)
        return classifier.fingerprint()

    found = [
        fingerprint(), fingerprint(row=1.0), fingerprint(k=2.0), fingerprint(hook=True),
        fingerprint(call=lambda m, x: m(x)), fingerprint(call=lambda m, x: m(x) * 1.0), fingerprint(call=lambda m, x: m(x) * 2.0),
    ]  # fmt: skip
    assert len(set(found)) == 7
    assert fingerprint() == found[0]


def test_torchvision_weights_of_ones_own_need_not_end_with_the_head(tmp_path: Path) -> None:
    from torchvision import models as zoo

    for name in ("convnext_tiny", "squeezenet1_1"):
        own = zoo.get_model(name, weights=None, num_classes=10)
        save_file(own.state_dict(), tmp_path / "own.safetensors")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torchvision:squeezenet1_1 has no linear head")  # a ReLU comes after it
            assert ff.Classifier.load(f"torchvision:{name}", weights=str(tmp_path / "own.safetensors")).classes == 10

"""The head of every family of classifiers: found, proven, and how exactly. `python benchmarks/heads.py [--family NAME]`.

Prints a Markdown table: family, where it comes from, head found, the proof's error (over the logits' spread), the largest difference
between `features @ W.T + b` and the logits under the model's own weights, and its blocks. No weights are fetched.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

import farfield as ff


def timm(name: str, **options: object) -> Callable[[], ff.Classifier]:
    return lambda: ff.Classifier.load(f"timm:{name}", random_weights=True)


def torchvision(name: str) -> Callable[[], ff.Classifier]:
    return lambda: ff.Classifier.load(f"torchvision:{name}", random_weights=True)


def hugging_face(kind: str) -> Callable[[], ff.Classifier]:
    def make() -> ff.Classifier:
        import transformers

        if kind == "vit":
            config = transformers.ViTConfig(
                image_size=64, patch_size=16, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, num_labels=9
            )
            module: nn.Module = transformers.ViTForImageClassification(config)
        else:
            resnet = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], num_labels=9)
            module = transformers.ResNetForImageClassification(resnet)
        return ff.Classifier.wrap(module, transform=torch.as_tensor, input_size=(3, 64, 64), name=kind)

    return make


class Dict(nn.Module):
    """Takes a dict, gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.stage_one, self.stage_two = block(3, 8), block(8, 16)
        self.schluss = nn.Linear(16, 7)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.schluss(self.stage_two(self.stage_one(batch["image"])).mean((2, 3)))}


class Functional(nn.Module):
    """Has its head as two bare parameters; `product` says how they are used."""

    def __init__(self, product: str) -> None:
        super().__init__()
        self.body, self.product = nn.Sequential(block(3, 8), block(8, 16)), product
        self.w, self.b = nn.Parameter(torch.randn(7, 16)), nn.Parameter(torch.randn(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x).mean((2, 3))
        if self.product == "linear":
            return nn.functional.linear(x, self.w, self.b)
        if self.product == "cosine":
            return 20 * nn.functional.linear(nn.functional.normalize(x), nn.functional.normalize(self.w))
        return x @ self.w.T + self.b


class Nonlinear(nn.Module):
    """No linear head: distances to prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.prototypes = nn.Sequential(block(3, 8), block(8, 16)), nn.Parameter(torch.randn(7, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(self.body(x).mean((2, 3)), self.prototypes)


def block(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())


def own(make: Callable[[], nn.Module], size: object = (3, 32, 32)) -> Callable[[], ff.Classifier]:
    return lambda: ff.Classifier.wrap(make(), transform=torch.as_tensor, input_size=size)  # type: ignore[arg-type]


FAMILIES: dict[str, Callable[[], ff.Classifier]] = {
    "resnet18": timm("resnet18"),
    "resnet50": timm("resnet50"),
    "ResNetV2-BiT": timm("resnetv2_50x1_bit"),
    "DenseNet": timm("densenet121"),
    "VGG11 (three-layer head)": timm("vgg11"),
    "VGG16 (three-layer head)": timm("vgg16"),
    "EfficientNet": timm("efficientnet_b0"),
    "MobileNetV3": timm("mobilenetv3_small_100"),
    "RegNet": timm("regnety_004"),
    "ConvNeXt": timm("convnext_atto"),
    "ViT": timm("vit_tiny_patch16_224"),
    "DeiT distilled (two heads)": timm("deit_tiny_distilled_patch16_224"),
    "Swin": timm("swin_tiny_patch4_window7_224"),
    "BEiT": timm("beit_base_patch16_224"),
    "MaxViT": timm("maxvit_rmlp_pico_rw_256"),
    "EVA": timm("eva02_tiny_patch14_336"),
    "torchvision ResNet": torchvision("resnet50"),
    "torchvision VGG": torchvision("vgg11"),
    "torchvision ViT": torchvision("vit_b_16"),
    "torchvision Swin": torchvision("swin_t"),
    "torchvision ConvNeXt": torchvision("convnext_tiny"),
    "Hugging Face ViT": hugging_face("vit"),
    "Hugging Face ResNet": hugging_face("resnet"),
    "dict in, dict out": own(Dict, {"image": (3, 32, 32)}),
    "Sequential head": own(
        lambda: nn.Sequential(block(3, 8), block(8, 16), nn.Flatten(), nn.Sequential(nn.Linear(1024, 20), nn.ReLU(), nn.Linear(20, 7)))
    ),
    "functional head, F.linear": own(lambda: Functional("linear")),
    "functional head, x @ W.T + b": own(lambda: Functional("matmul")),
    "functional head, cosine": own(lambda: Functional("cosine")),
    "no linear head": own(Nonlinear),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", nargs="*", default=list(FAMILIES))
    print("| family | head found | proof error | under its own weights | features | blocks | s |\n|---|---|---|---|---|---|---|")
    import warnings

    warnings.simplefilter("ignore", ff.FarfieldWarning)
    for family in parser.parse_args().family:
        torch.manual_seed(0)
        started = time.perf_counter()
        classifier = FAMILIES[family]()
        seconds = time.perf_counter() - started
        found, names = classifier.found, classifier.blocks
        blocks = f"{len(names)}: {names[0]} … {names[-1]}" if names else "none"
        if found is None:
            print(f"| {family} | none (logits alone) | | | | {blocks} | {seconds:.1f} |")
            continue
        batch = classifier.probe()
        outputs, head = classifier.outputs(batch), classifier.head
        assert head is not None and outputs.features is not None and outputs.logits is not None
        miss = (head(outputs.features.double()) - outputs.logits.double()).abs().max() / outputs.logits.double().std().clamp_min(1e-30)
        scale = "" if set(found.scales) == {1.0} else f" x {found.scales[0]:.4g}"
        print(
            f"| {family} | `{'` + `'.join(found.names)}`{scale} | {found.error:.1e} | {float(miss):.1e} | {head.weight.shape[1]} | {blocks} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

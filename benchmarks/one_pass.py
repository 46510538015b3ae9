"""What all detectors together cost over one bare forward pass: `python benchmarks/one_pass.py [MODEL ...]`; by default a ResNet-50 and a ViT-B/16 at 224 pixels.

The classifiers have random weights, and the detectors are fitted on made-up outputs as wide as theirs: only times are looked at. For banks of 10,000 and
50,000 training samples: one pass and the scores of every detector of logits and features and every shaper; the same with FeatureNorm and RankFeat in
the pass; as many passes as methods, for the same one at a time; and the passes that need gradients. Medians of three over 64 pictures, as multiples of the
bare passes.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

import farfield as ff
from farfield.detectors import CATALOGUE, SHAPERS, Detector, parse
from farfield.detectors.compose import looks_inside
from farfield.outputs import Outputs
from farfield.taps import Tap, watch

MODELS = ("timm:resnet50", "timm:vit_base_patch16_224")
PICTURES, BATCH, ROUNDS, BANKS = 64, 32, 3, (10_000, 50_000)
GRADIENTS = ("odin", "adascale")


def main() -> None:
    for name in sys.argv[1:] or MODELS:
        classifier = ff.Classifier.load(name, random_weights=True)
        size = classifier.input_size
        assert isinstance(size, tuple) and classifier.head is not None
        random = torch.Generator().manual_seed(0)
        pictures = torch.randn(PICTURES, *size, generator=random)
        first = partial(passes, classifier, pictures, bare=True)
        bare = median(first)
        print(f"{name}: bare forward passes {1e3 * bare / PICTURES:.1f} ms a picture, {torch.get_num_threads()} threads", flush=True)
        for bank in BANKS:
            train = made_up(classifier, bank, random)
            detectors = fitted(train)
            together = ratio(partial(passes, classifier, pictures, detectors), first)
            costs = scoring(classifier, pictures, detectors)
            own = sum(costs.values()) / bare
            print(
                f"  bank of {bank}: {len(detectors)} methods of logits and features in one pass {together:.3f}, by the scores' own time {1 + own:.3f}, "
                f"one at a time {len(detectors) + own:.1f}"
            )
            dear = sorted(costs.items(), key=lambda item: -item[1])[:6]
            print("    dearest scores, share of the bare passes: " + ", ".join(f"{text} {value / bare:.3f}" for text, value in dear), flush=True)
        inside = {"rankfeat": parse("rankfeat")(train), "featurenorm": parse("featurenorm:block=1")(with_norms(train, len(classifier.blocks)))}
        taps = [tap for one in inside.values() for tap in one.taps()]
        everything = ratio(partial(passes, classifier, pictures, {**detectors, **inside}, taps), first)
        print(f"  and FeatureNorm and RankFeat in the same pass: {everything:.3f}", flush=True)
        for text in GRADIENTS:
            tap = parse(text)(train if text == "odin" else replace(train, taps={parse(text).__self__.fit_taps()[0].name: train.features})).taps()  # type: ignore[union-attr]
            print(f"  {text}, its pass alone: {ratio(partial(passes, classifier, pictures, {}, tap), first):.2f}", flush=True)


def median(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def ratio(call: Callable[[], object], base: Callable[[], object]) -> float:
    """The median of how many times as long a call takes as another that is made right before it."""
    found = []
    for _ in range(ROUNDS):
        times = []
        for each in (base, call):
            started = time.perf_counter()
            each()
            times.append(time.perf_counter() - started)
        found.append(times[1] / times[0])
    return statistics.median(found)


def passes(
    classifier: ff.Classifier,
    pictures: torch.Tensor,
    detectors: dict[str, Detector] | None = None,
    taps: list[Tap] | tuple[Tap, ...] = (),
    bare: bool = False,
) -> None:
    """All pictures through the model, batch by batch; the outputs are scored together at the end."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            if bare:
                classifier.module(batch)
            else:
                parts.append(watch(classifier, batch, torch.arange(len(batch)), list(taps)))
    if parts:
        outputs = ff.outputs.concatenate(parts)
        for detector in (detectors or {}).values():
            detector(outputs)


def scoring(classifier: ff.Classifier, pictures: torch.Tensor, detectors: dict[str, Detector]) -> dict[str, float]:
    outputs = classifier.outputs(pictures[:BATCH])
    return {text: median(lambda d=detector: d(outputs), 3) * PICTURES / BATCH for text, detector in detectors.items()}


def made_up(classifier: ff.Classifier, n: int, random: torch.Generator) -> Outputs:
    """Training outputs as wide as the classifier's, rectified where its features are."""
    head = classifier.head
    assert head is not None
    c, d = head.weight.shape
    labels = torch.arange(n) % c
    # Each class lies where the head looks for it, so that labels and logits go together.
    features = (d**0.5 * torch.nn.functional.normalize(head.weight))[labels] + torch.randn(n, d, generator=random)
    if bool((classifier.outputs(classifier.probe()).columns()["features"] >= 0).all()):
        features = features.relu()
    return Outputs(head(features), features, labels, head, ids=torch.arange(n))


def with_norms(train: Outputs, blocks: int) -> Outputs:
    return replace(train, taps={"norms": torch.ones(len(train), blocks)})


def fitted(train: Outputs) -> dict[str, Detector]:
    flat = {name: parse(name) for name, method in CATALOGUE.items() if name != "mos" and not looks_inside(method.fit)}
    shaped = {f"{name}+energy": parse(f"{name}+energy") for name in SHAPERS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ff.FarfieldWarning)
        return {text: fitter(train) for text, fitter in {**flat, **shaped}.items()}


if __name__ == "__main__":
    main()

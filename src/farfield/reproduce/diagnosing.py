"""Xiong, Xu and Yao, "Diagnosing Pretrained Models for Out-of-distribution Detection", ICCV 2025: what is wrong (figures 1 to 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farfield.collect import collect
from farfield.data.images import Suite
from farfield.metrics import auroc, decrement_gap, predicted_auroc, relative_decrement
from farfield.outputs import Outputs
from farfield.recipes.catalogue import OPENOOD
from farfield.reproduce.base import Cell, Cells, Claim, Experiment, Plot, Record, printed
from farfield.reproduce.figures import Scored, records, weights_of
from farfield.reproduce.mixtures import Mixed, partners
from farfield.reproduce.networks import ROWS
from farfield.reproduce.stage import Network, Stage, loaded

PAPER = "Xiong et al., ICCV 2025"
SUITE, LARGE = "openood-v1.5-imagenet200", "openood-v1.5-imagenet"
PLAIN, FRESH = "zoo:openood-imagenet200-s0", "timm:resnet18"
# The paper trains the techniques of the second recipe as OpenOOD trains its networks; what makes a technique itself stays.
AUGMENTATIONS = ("label-smoothing", "mixup", "cutmix", "erasing", "trivial", "v2")
TECHNIQUES = ("weight-decay", "ema", "long")
SETTINGS = ("epochs", "batch_size", "lr", "schedule", "drops", "warmup", "nesterov", "weight_decay")
SCHEDULE: Mapping[str, Any] = {name: getattr(OPENOOD, name) for name in SETTINGS}
OWN: Mapping[str, tuple[str, ...]] = {"long": ("epochs",), "weight-decay": ("weight_decay",), "v2": ("weight_decay",)}
NAMES = {
    "cross-entropy": "v1", "label-smoothing": "label smoothing", "mixup": "mixup", "cutmix": "CutMix", "erasing": "random erasing", "trivial": "TrivialAugment",
    "v2": "v2*", "ema": "averaging", "weight-decay": "less weight decay", "long": "longer training", "regmixup": "RegMixup", "augrevise": "AugRevise",
}  # fmt: skip
DETECTORS = {"maxlogit": "MLS", "knn": "KNN", "nnguide": "NNGuide", "fsebo": "FSEBO", "msp": "MSP", "mos": "MOS", "ash-s:p=90+energy": "ASH"}
FIGURES = {"auroc": "AUROC", "fpr": "FPR95"}
WITH_ACCURACY = {**FIGURES, "accuracy": "ID accuracy"}
THREE = ("auroc", "fpr", "accuracy")
HERE = (
    "A ResNet of 0.3 million weights trained on Glyphs for 4 epochs, with the objectives and augmentations of the paper's recipes but for crops and mirror images, which "
    "change a glyph's label. v2* is the whole second recipe in those 4 epochs, which are too few for it: its accuracy is far below the others', and its figures are of a network "
    "that had only begun."
)


def network(stage: Stage, row: str) -> Network:
    """A network trained from random weights; at full scale a ResNet-18 on ImageNet-200, the plain one OpenOOD's own."""
    if row == "cross-entropy":
        return stage.network(row, PLAIN)
    change = {name: value for name, value in SCHEDULE.items() if row in AUGMENTATIONS + TECHNIQUES and name not in OWN.get(row, ())}
    options = ROWS[row].options if ROWS[row].recipe == "augrevise" else {}  # those of NPOS are for Glyphs
    return stage.trained(row, FRESH, stage.suite(SUITE), change=change, options=options)


def mended(stage: Stage, row: str, start: Network, suite: Suite) -> Network:
    """A network after AugDelete; on Glyphs a row of its own."""
    return stage.network(f"{row}, AugDelete", "") if stage.glyphs else stage.augdelete(start, suite)


def deleted(stage: Stage, row: str) -> Network:
    """`network` after AugDelete."""
    return mended(stage, row, network(stage, row), stage.suite(SUITE))


def judged(stage: Stage, some: Network, detectors: Sequence[str], suite: Suite) -> list[Record]:
    """A record for each detector and set, `(detector's name, set)`; the accuracy stands beside the average, the mean of near and far."""
    told = stage.judge(some, detectors, suite, fpr="ood", mean="groups")
    found = []
    for record in told.records:
        values, intervals = dict(record.values), dict(record.intervals)
        if record.of[1] == "average" and told.accuracy is not None and told.interval is not None:
            values["accuracy"], intervals["accuracy"] = told.accuracy, told.interval
        found.append(Record((DETECTORS[record.of[0]], *record.of[1:]), values, intervals))
    return found


def under(records: Iterable[Record], *names: str, keep: int = 1) -> list[Record]:
    """Records under other names: these, and then the last `keep` of their keys."""
    return [Record((*names, *record.of[-keep:]), record.values, record.intervals) for record in records]


# --- Figure 1: the two recipes over architectures ---------------------------------------------------------------------------------------------

BOTH = {
    "ResNet-50": "resnet50", "ResNet-101": "resnet101", "ResNet-152": "resnet152", "MobileNetV2": "mobilenet_v2", "MobileNetV3-L": "mobilenet_v3_large",
    "ResNeXt-50": "resnext50_32x4d", "ResNeXt-101": "resnext101_32x8d", "WideResNet-50": "wide_resnet50_2", "WideResNet-101": "wide_resnet101_2",
    "RegNet-Y-400MF": "regnet_y_400mf", "RegNet-Y-1.6GF": "regnet_y_1_6gf", "RegNet-Y-8GF": "regnet_y_8gf", "RegNet-Y-32GF": "regnet_y_32gf",
}  # fmt: skip
# Published once, with smoothed labels and mixtures: they have no v1.
SECOND = {"Swin-T": "swin_t", "Swin-S": "swin_s", "Swin-B": "swin_b", "ViT-B/16": "vit_b_16"}


def pretrained(stage: Stage, row: str, name: str = "resnet50", version: int = 1) -> Network:
    """A row on Glyphs, a pretrained network of torchvision at full scale."""
    return stage.network(row, f"torchvision:{name}:IMAGENET1K_V{version}")


def _both(stage: Stage, architecture: str, recipe: str, row: str, name: str, version: int) -> Iterable[Record]:
    """A network as it is, and after AugDelete."""
    suite, start = stage.suite(LARGE), pretrained(stage, row, name, version)
    found = under(judged(stage, start, ("maxlogit",), suite), architecture, recipe)
    return found + under(judged(stage, mended(stage, row, start, suite), ("maxlogit",), suite), architecture, f"{recipe} + AugDelete")


def _figure_1(stage: Stage) -> Mapping[str, Cell]:
    if stage.glyphs:
        rows = {"v1": "cross-entropy", "v2*": "v2", "v2": "v2, longer"}
        return {row: partial(_both, stage, "ResNet", recipe, row, "", 1) for recipe, row in rows.items()}
    if stage.model:
        return {stage.model: partial(_both, stage, stage.model, "v2", "", "", 1)}
    first = {f"{shown}, v{v}": partial(_both, stage, shown, f"v{v}", "", name, v) for shown, name in BOTH.items() for v in (1, 2)}
    return first | {shown: partial(_both, stage, shown, "v2", "", name, 1) for shown, name in SECOND.items()}


def _over_architectures(figure: str, better: str, worse: str) -> Callable[[Cells], float]:
    """The least by which one recipe is above another, over the architectures that have both."""

    def difference(cells: Cells) -> float:
        pairs = [tuple(cells.get(name, recipe, "average", figure) for recipe in (better, worse)) for name in cells.names(0)]
        return min(a - b for a, b in pairs if a is not None and b is not None)

    return difference


RESNET_50 = printed(
    """
    ResNet-50 | v1 | average | 83.02 | 53.02 | 76.18
    ResNet-50 | v2 | average | 72.84 | 84.75 | 80.92
    ResNet-50 | v2 + AugDelete | average | 83.08 | 63.11 | 80.31
    """,
    3, THREE,
)  # fmt: skip


# --- Figure 2: each technique alone -----------------------------------------------------------------------------------------------------------

LABELS, LITTLE = ("label smoothing", "mixup"), ("random erasing", "TrivialAugment")


def _alone(stage: Stage, row: str) -> Iterable[Record]:
    return under(judged(stage, network(stage, row), ("maxlogit", "knn"), stage.suite(SUITE)), NAMES[row], keep=2)


def _figure_2(stage: Stage) -> Mapping[str, Cell]:
    return {NAMES[row]: partial(_alone, stage, row) for row in ("cross-entropy", *AUGMENTATIONS, *TECHNIQUES)}


def lost(cells: Cells, name: str, *score: str, figure: str = "auroc") -> float:
    """By how much the average is lower than that of v1."""
    return cells["v1", *score, "average", figure] - cells[name, *score, "average", figure]


ALONE = printed(
    """
    v1 | MLS | average | 87.00 | 46.90 | 86.37
    v1 | KNN | average | 86.54 | 44.70 | 86.37
    mixup | MLS | average | 84.00 | 57.81 | 86.87
    v2* | MLS | average | 82.78 | 62.47 | 86.74
    """,
    3, THREE,
)  # fmt: skip


# --- Figure 3a: how much lower the maximal logit is -------------------------------------------------------------------------------------------


def maximal(stage: Stage, some: Network, suite: Suite, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The maximal logits of the test data and each near and far set."""
    sets = names or ("test", *(ood.name for ood in suite.ood if ood.group in ("near", "far")))
    return {name: _largest(loaded(outputs)) for name, outputs in stage.said(some, suite, sets).items()}


def _largest(outputs: Outputs) -> np.ndarray:
    assert outputs.logits is not None
    largest: np.ndarray = outputs.logits.amax(1).double().numpy()
    return largest


def _sets(suite: Suite, scores: Mapping[str, np.ndarray]) -> dict[str, Scored]:
    found = {}
    for ood in suite.ood:
        if ood.name in scores:
            clusters = getattr(ood.load(), "clusters", None)
            found[ood.name] = Scored(scores[ood.name], ood.group, None if clusters is None else clusters.numpy())
    return found


def _decrement(stage: Stage, row: str) -> Iterable[Record]:
    """What a recipe takes from the maximal logit of the plain network, and the AUROC that this alone would make."""
    suite = stage.suite(SUITE)
    before, after = (maximal(stage, network(stage, name), suite) for name in ("cross-entropy", row))
    sets, r_in = _sets(suite, after), relative_decrement(before["test"], after["test"])
    told = {name: _predicted(before["test"], r_in, before[name], after[name]) for name in sets}
    weights = weights_of(sets, "groups")
    told["average"] = {
        figure: sum(weight * told[name][figure] for name, weight in weights.items())
        for figure in ("r_in", "r_out", "q", "predicted")
        if all(figure in told[name] for name in weights)
    }
    found = []
    for record in records(NAMES[row], after["test"], sets, fpr="ood", mean="groups"):
        values = {name: 100 * value for name, value in told[record.of[1]].items()}
        found.append(Record(record.of, values | {"auroc": record.values["auroc"]}, {"auroc": record.intervals["auroc"]}))
    return found


def _predicted(s_in: np.ndarray, r_in: float, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    r_out = relative_decrement(before, after)
    if r_out >= 1:  # nothing is left of the score, and proposition 4.2 is of what is left
        return {"r_in": r_in, "r_out": r_out}
    q = decrement_gap(r_in, r_out)
    return {"r_in": r_in, "r_out": r_out, "q": q, "predicted": predicted_auroc(s_in, before, q)}


def _figure_3a(stage: Stage) -> Mapping[str, Cell]:
    rows = ("cross-entropy", "erasing", "trivial", "label-smoothing", "mixup")
    return {NAMES[row]: partial(_decrement, stage, row) for row in rows}


def _beyond(figure: str) -> Callable[[Cells], float]:
    """By how much a figure is larger with label smoothing and mixup, the smaller, than with erasing and TrivialAugment, the larger."""
    return lambda cells: min(cells[name, "average", figure] for name in LABELS) - max(cells[name, "average", figure] for name in LITTLE)


# --- Figure 3b: mixed pictures ----------------------------------------------------------------------------------------------------------------

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
MIXERS = ("cross-entropy", "mixup", "regmixup", "augrevise")


def _as_it_is(picture: Tensor) -> Tensor:
    return picture


def _mixed(stage: Stage, row: str) -> Iterable[Record]:
    """AUROC of the maximal logit between ID pictures and their mixtures, and between these and each set."""
    suite = stage.suite(SUITE)
    some = deleted(stage, row) if row == "augrevise" else network(stage, row)
    test = loaded(stage.said(some, suite, ("test",))["test"])
    assert test.labels is not None
    rows = torch.arange(len(test)) if test.ids is None else test.ids
    others = rows[partners(test.labels)]
    whole, sets = _largest(test), _sets(suite, maximal(stage, some, suite))
    direct = replace(some.classifier, transform=_as_it_is)
    found = []
    for share in SHARES:
        data = Mixed(suite.split("test"), some.classifier.transform, rows, others, share)
        mixed = _largest(collect(direct, data, name=f"mixtures, {share}", progress=stage.progress))
        found.append(Record((NAMES[row], str(share), "ID over mixed"), {"auroc": 100 * auroc(whole, mixed)}))
        for record in records("mixed", mixed, sets, fpr="ood", mean="groups"):
            found.append(Record((NAMES[row], str(share), f"mixed over {record.of[1]}"), {"auroc": record.values["auroc"]}))
    return found


def _figure_3b(stage: Stage) -> Mapping[str, Cell]:
    return {NAMES[row]: partial(_mixed, stage, row) for row in MIXERS}


def _rises(pair: str, sign: int) -> Callable[[Cells], float]:
    """The least change from the smallest share to the largest, over the recipes."""
    return lambda cells: min(
        sign * (cells[name, cells.names(1)[-1], pair, "auroc"] - cells[name, cells.names(1)[0], pair, "auroc"]) for name in cells.names(0)
    )


def _at_each(pair: str, higher: str, lower: str) -> Callable[[Cells], float]:
    """The least difference of two recipes, over the shares."""
    return lambda cells: min(cells[higher, share, pair, "auroc"] - cells[lower, share, pair, "auroc"] for share in cells.names(1))


def _no_change(name: str, cells: Cells) -> float:
    return -lost(cells, name, "MLS")


def _r_in(name: str, cells: Cells) -> float:
    return cells[name, "average", "r_in"]


def _off(name: str, cells: Cells) -> float:
    """By how much the measured AUROC is above the predicted."""
    return cells[name, "average", "auroc"] - cells[name, "average", "predicted"]


INSIDE, OUTSIDE = "ID over mixed", "mixed over average"
EXPERIMENTS = (
    Experiment(
        "diag-figure-1", PAPER, "Figure 1", "The first and the second recipe of torchvision, and AugDelete after each: accuracy, and what the maximal logit tells.",
        ("architecture", "recipe", "set"), WITH_ACCURACY, _figure_1, RESNET_50,
        (
            Claim("The second recipe has a higher accuracy than the first, on every architecture", _over_architectures("accuracy", "v2", "v1")),
            Claim("The second recipe has a lower AUROC than the first, on every architecture", _over_architectures("auroc", "v1", "v2")),
            Claim("AugDelete raises the AUROC of the second recipe, on every architecture", _over_architectures("auroc", "v2 + AugDelete", "v2")),
            Claim("With AugDelete the second recipe still has a higher accuracy than the first", _over_architectures("accuracy", "v2 + AugDelete", "v1")),
            Claim("With AugDelete the second recipe has a higher or about the same AUROC as the first", _over_architectures("auroc", "v2 + AugDelete", "v1")),
        ),
        fpr="ood",
        here=HERE + " v2 has 16 epochs, four times those of v1 (torchvision's 600 epochs are nearly seven times). One architecture: those that ship have no second recipe. "
        "The paper's figures for ResNet-50 are those of Table 3; its text says that AUROC falls by 12, its table 10.2.",
        suite=LARGE, plot=Plot("accuracy", "auroc", "recipe", kind="points"),
    ),
    Experiment(
        "diag-figure-2", PAPER, "Figure 2", "Each augmentation (a) and technique (b) of the second recipe alone, by the maximal logit and by KNN (c).",
        ("technique", "score", "set"), WITH_ACCURACY, _figure_2, ALONE,
        (
            Claim("Label smoothing lowers the AUROC of the maximal logit", lambda cells: lost(cells, "label smoothing", "MLS")),
            Claim("Mixup lowers the AUROC of the maximal logit", lambda cells: lost(cells, "mixup", "MLS")),
            Claim("All augmentations together lower the AUROC of the maximal logit", lambda cells: lost(cells, "v2*", "MLS")),
            Claim("Label smoothing and mixup raise the accuracy, each of them", lambda cells: min(-lost(cells, name, "MLS", figure="accuracy") for name in LABELS)),
            *(
                Claim(f"{name[0].upper()}{name[1:]} changes the AUROC of the maximal logit little", partial(_no_change, name), same=True)
                for name in (*LITTLE, *(NAMES[row] for row in TECHNIQUES))
            ),
            Claim("Label smoothing lowers the AUROC of KNN less than that of the maximal logit", lambda cells: lost(cells, "label smoothing", "MLS") - lost(cells, "label smoothing", "KNN")),
            Claim("Mixup lowers the AUROC of KNN less than that of the maximal logit", lambda cells: lost(cells, "mixup", "MLS") - lost(cells, "mixup", "KNN")),
            Claim("No technique changes the AUROC of KNN by more than a point", lambda cells: 1 - max(abs(lost(cells, name, "KNN")) for name in cells.names(0) if name != "v1")),
        ),
        fpr="ood",
        here=HERE + " CutMix, which the second recipe has too, is a row of its own; label smoothing with mixup is none. The paper's figures that are left are those of Tables 1, 2 and 4.",
        suite=SUITE, plot=Plot("accuracy", "auroc", "technique", "score", "points"),
    ),
    Experiment(
        "diag-figure-3a", PAPER, "Figure 3a",
        "By which share recipes lower the maximal logit on ID (r_i) and OOD (r_o), against v1; q = (r_i - r_o) / (1 - r_o), and the AUROC that q alone would make of v1's, by Proposition 4.2.",
        ("technique", "set"), {"r_in": "r_i", "r_out": "r_o", "q": "q", "predicted": "AUROC by q", "auroc": "AUROC"}, _figure_3a, (),
        (
            Claim("Label smoothing lowers the maximal logit more on ID than on OOD", lambda cells: cells["label smoothing", "average", "r_in"] - cells["label smoothing", "average", "r_out"]),
            Claim("Mixup lowers the maximal logit more on ID than on OOD", lambda cells: cells["mixup", "average", "r_in"] - cells["mixup", "average", "r_out"]),
            Claim("Label smoothing and mixup lower the maximal logit of ID more than erasing and TrivialAugment do", _beyond("r_in")),
            Claim("Label smoothing and mixup have a larger q than erasing and TrivialAugment", _beyond("q")),
            *(Claim(f"{name[0].upper()}{name[1:]} leaves the maximal logit of ID about as it is", partial(_r_in, name), same=True) for name in LITTLE),
            Claim("Label smoothing and mixup lower the AUROC more than erasing and TrivialAugment do", lambda cells: min(cells[name, "average", "auroc"] for name in LITTLE) - max(cells[name, "average", "auroc"] for name in LABELS)),
            *(Claim(f"The AUROC with {name} is what Proposition 4.2 makes of its q", partial(_off, name), same=True) for name in LABELS),
        ),
        fpr="ood",
        here=HERE + " r is a ratio of means, where the paper leaves open of what; the average is that of the figures of near and far sets. Proposition 4.2 is of an r that all pictures share.",
        suite=SUITE, plot=Plot("technique", "q", panel="set", kind="bars"),
    ),
    Experiment(
        "diag-figure-3b", PAPER, "Figure 3b", "AUROC of the maximal logit between ID pictures and mixtures of two of them, and between these mixtures and OOD, over the share of the second picture.",
        ("recipe", "share", "pair"), {"auroc": "AUROC"}, _figure_3b, (),
        (
            Claim("The larger the share, the better are ID and mixed pictures told apart, with every recipe", _rises(INSIDE, 1)),
            Claim("The larger the share, the worse are mixed and OOD pictures told apart, with every recipe", _rises(OUTSIDE, -1)),
            Claim("Mixup lowers the AUROC between mixed and OOD pictures, at each share", _at_each(OUTSIDE, "v1", "mixup")),
            Claim("Mixup lowers the AUROC between ID and mixed pictures, at each share", _at_each(INSIDE, "v1", "mixup")),
            Claim("AugRevise has a higher AUROC between ID and mixed pictures than RegMixup, at each share", _at_each(INSIDE, "AugRevise", "RegMixup")),
            Claim("AugRevise has a lower AUROC between mixed and OOD pictures than RegMixup, at each share", _at_each(OUTSIDE, "RegMixup", "AugRevise")),
        ),
        fpr="ood",
        here=HERE + " AugRevise erases and has TrivialAugment, where the paper's curve is of its mixtures alone. The text of the paper has mixup lower the second AUROC and concludes that it lowers the "
        "first; both are claims here. There are no intervals over pictures, since mixtures share pictures.",
        suite=SUITE, plot=Plot("share", "auroc", "recipe", "pair"),
    ),
)  # fmt: skip

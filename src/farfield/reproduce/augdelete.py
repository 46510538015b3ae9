"""Xiong, Xu and Yao, "Diagnosing Pretrained Models for Out-of-distribution Detection", ICCV 2025: what mends it (figures 5 and 6, tables 1 to 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from farfield.reproduce.base import Cell, Cells, Claim, Experiment, Plot, Record, printed
from farfield.reproduce.diagnosing import (
    ALONE,
    HERE,
    LARGE,
    LITTLE,
    NAMES,
    PAPER,
    RESNET_50,
    SUITE,
    THREE,
    WITH_ACCURACY,
    deleted,
    judged,
    mended,
    network,
    pretrained,
    under,
)
from farfield.reproduce.stage import Network, Stage
from farfield.training.groups import cluster, layout

GROUPS = 8  # of classes, for MOS, where a suite has no taxonomy


# --- Figure 5: AugDelete after each augmentation ----------------------------------------------------------------------------------------------

BEFORE = ("cross-entropy", "label-smoothing", "mixup", "erasing", "trivial", "v2")


def _before_and_after(stage: Stage, row: str) -> Iterable[Record]:
    suite = stage.suite(SUITE)
    found: list[Record] = []
    for when, made in (("before", network), ("after", deleted)):
        found += under(judged(stage, made(stage, row), ("maxlogit",), suite), NAMES[row], when)
    return found


def _figure_5(stage: Stage) -> Mapping[str, Cell]:
    return {NAMES[row]: partial(_before_and_after, stage, row) for row in BEFORE}


def _gain(*names: str) -> Callable[[Cells], float]:
    """The least by which AugDelete raises the AUROC of the maximal logit."""
    return lambda cells: min(cells[name, "after", "average", "auroc"] - cells[name, "before", "average", "auroc"] for name in names)


def _still_below(name: str) -> Callable[[Cells], float]:
    return lambda cells: cells["v1", "before", "average", "auroc"] - cells[name, "after", "average", "auroc"]


DELETED = [*under([record for record in ALONE if record.of[1] == "MLS" and record.of[0] == "v1"], "v1", "before")]
DELETED += [
    *under([record for record in ALONE if record.of[0] == "mixup"], "mixup", "before"),
    *under([record for record in ALONE if record.of[0] == "v2*"], "v2*", "before"),
]
DELETED += printed("v2* | after | average | 85.57 | 51.87 | 86.68", 3, THREE)


# --- Figure 6: a fraction of the training data ------------------------------------------------------------------------------------------------

FRACTIONS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


def _fraction(stage: Stage, fraction: float) -> Iterable[Record]:
    suite, start = stage.suite(LARGE), pretrained(stage, "v2, longer", version=2)
    after = stage.augdelete(start, suite, fraction) if fraction else start
    return under(judged(stage, after, ("maxlogit",), suite), f"{100 * fraction:g}")


def _figure_6(stage: Stage) -> Mapping[str, Cell]:
    return {f"{100 * fraction:g} %": partial(_fraction, stage, fraction) for fraction in FRACTIONS}


def _from_to(start: str, end: str, figure: str = "auroc") -> Callable[[Cells], float]:
    return lambda cells: cells[end, "average", figure] - cells[start, "average", figure]


ENDS = [Record((share, "average"), record.values) for share, record in zip(("0", "100"), RESNET_50[1:], strict=True)]


# --- Tables 1 and 2: recipes, by the maximal logit --------------------------------------------------------------------------------------------


def _recipe(stage: Stage, name: str, row: str, made: Callable[[Stage, str], Network]) -> Iterable[Record]:
    return under(judged(stage, made(stage, row), ("maxlogit",), stage.suite(SUITE)), name)


Rows = Mapping[str, tuple[str, Callable[[Stage, str], Network]]]
FIRST: Rows = {
    "v1": ("cross-entropy", network),
    "v1 + mixup": ("mixup", network),
    "v1 + RegMixup": ("regmixup", network),
    "v1 + AugRevise": ("augrevise", deleted),
    "AugRevise, its loss as printed": ("augrevise as printed", deleted),
    "AugRevise without AugDelete": ("augrevise", network),
    "v1 + random erasing": ("erasing", network),
}
SECOND: Rows = {
    "v1": ("cross-entropy", network),
    "v2*": ("v2", network),
    "v2* + AugDelete": ("v2", deleted),
    "AugRevise": ("augrevise", deleted),
    "AugRevise + label smoothing": ("augrevise, smoothing", deleted),
    "AugRevise, its loss as printed": ("augrevise as printed", deleted),
}


def _recipes(rows: Rows, stage: Stage) -> Mapping[str, Cell]:
    return {name: partial(_recipe, stage, name, *how) for name, how in rows.items()}


def _above(name: str, *others: str, figure: str = "auroc", sign: int = 1) -> Callable[[Cells], float]:
    """By how much a recipe is better than the best of others."""
    return lambda cells: min(sign * (cells[name, "average", figure] - cells[other, "average", figure]) for other in others)


TABLE_1 = printed(
    """
    v1 | average | 87.00 | 46.90 | 86.37
    v1 + mixup | average | 84.00 | 57.81 | 86.87
    v1 + RegMixup | average | 86.97 | 48.03 | 87.58
    v1 + AugRevise | average | 87.72 | 42.09 | 87.28
    """,
    2, THREE,
)  # fmt: skip
TABLE_2 = printed(
    """
    v1 | average | 87.00 | 46.90 | 86.37
    v2* | average | 82.78 | 62.47 | 86.74
    v2* + AugDelete | average | 85.57 | 51.87 | 86.68
    AugRevise | average | 87.88 | 41.72 | 87.67
    AugRevise + label smoothing | average | 87.17 | 43.87 | 87.33
    """,
    2, THREE,
)  # fmt: skip


# --- Table 3: AugDelete and other scores ------------------------------------------------------------------------------------------------------

SCORES = ("maxlogit", "ash-s:p=90+energy", "knn", "nnguide")


def _pretrained(stage: Stage, which: str) -> Network:
    row, version = ("cross-entropy", 1) if which == "v1" else ("v2, longer", 2)
    start = pretrained(stage, row, version=version)
    return mended(stage, row, start, stage.suite(LARGE)) if "AugDelete" in which else start


def _scores(stage: Stage, which: str) -> Iterable[Record]:
    told = judged(stage, _pretrained(stage, which), SCORES, stage.suite(LARGE))
    return [Record((record.of[0], which, record.of[1]), record.values, record.intervals) for record in told]


def _unchanged(stage: Stage) -> Iterable[Record]:
    """How many of KNN's scores AugDelete changes, in any bit."""
    suite = stage.suite(LARGE)
    before, after = (stage.judge(_pretrained(stage, which), ("knn",), suite).scores["knn"] for which in ("v2", "v2 + AugDelete"))
    changed = np.concatenate([before[name] != after[name] for name in before])
    return [Record(("KNN", "v2 + AugDelete", "all pictures"), {"changed": 100 * float(changed.mean())})]


def _table_3(stage: Stage) -> Mapping[str, Cell]:
    return {which: partial(_scores, stage, which) for which in ("v1", "v2", "v2 + AugDelete")} | {"KNN before and after": partial(_unchanged, stage)}


def _raised(*names: str, start: str = "v2", end: str = "v2 + AugDelete") -> Callable[[Cells], float]:
    return lambda cells: min(cells[name, end, "average", "auroc"] - cells[name, start, "average", "auroc"] for name in names)


TABLE_3 = [
    Record((*record.of, "average"), record.values)
    for record in printed(
        """
        MLS | 83.02 | 53.02 | 76.18 | 72.84 | 84.75 | 80.92 | 83.08 | 63.11 | 80.31
        ASH | 83.97 | 49.62 | 76.18 | 53.53 | 90.59 | 80.92 | 81.70 | 65.11 | 80.31
        KNN | 80.64 | 52.50 | 76.18 | 79.91 | 55.09 | 80.92 | 79.91 | 55.09 | 80.31
        NNGuide | 86.68 | 44.81 | 76.18 | 65.77 | 72.07 | 80.92 | 77.54 | 58.22 | 80.31
        """,
        1, THREE, ("v1", "v2", "v2 + AugDelete"),
    )
]  # fmt: skip


# --- Table 4: other methods -------------------------------------------------------------------------------------------------------------------


def _mos(stage: Stage, row: str) -> Network:
    """The plain network with groups; clusters of classes where the suite has no taxonomy."""
    if stage.glyphs:
        return stage.network(row, "")
    suite, plain = stage.suite(SUITE), network(stage, "cross-entropy")
    train = stage.said(plain, suite, ("train",))["train"]
    groups = stage.groups(suite) if suite.taxonomy else layout(cluster(train, GROUPS, stage.seed, len(suite.classes)))
    return stage.headed(plain, stage.head(f"{plain.name} table 4", train, len(suite.classes), groups))


METHODS: Mapping[str, tuple[str, Callable[[Stage, str], Network], Sequence[str]]] = {
    "v1": ("cross-entropy", network, ("maxlogit", "fsebo", "knn", "nnguide")),
    "LogitNorm": ("logitnorm", network, ("msp",)),
    "NPOS": ("npos", network, ("knn",)),
    "MOS": ("mos, taxonomy", _mos, ("mos",)),
    "AugMix": ("augmix", network, ("msp",)),
    "RegMixup": ("regmixup", network, ("msp",)),
    "AugRevise": ("augrevise", deleted, ("maxlogit", "msp", "knn", "nnguide")),
}


def _method(stage: Stage, name: str) -> Iterable[Record]:
    row, made, detectors = METHODS[name]
    told = judged(stage, made(stage, row), detectors, stage.suite(SUITE))
    return [Record((f"{name} + {record.of[0]}", record.of[1]), record.values, record.intervals) for record in told]


def _table_4(stage: Stage) -> Mapping[str, Cell]:
    return {name: partial(_method, stage, name) for name in METHODS}


def _best(figure: str, sign: int, among: Callable[[str], bool]) -> Callable[[Cells], float]:
    """The best average of the methods that are meant."""
    return lambda cells: (
        sign * max(sign * value for name in cells.names(0) if among(name) and (value := cells.get(name, "average", figure)) is not None)
    )


def _revised(name: str) -> bool:
    return name.startswith("AugRevise")


def _over_others(figure: str, sign: int, mine: Callable[[str], bool] = _revised) -> Callable[[Cells], float]:
    """By how much the best of AugRevise is better than the best of all others."""

    def difference(cells: Cells) -> float:
        return sign * (_best(figure, sign, mine)(cells) - _best(figure, sign, lambda name: not _revised(name))(cells))

    return difference


def _with(score: str, cells: Cells) -> float:
    return cells[f"AugRevise + {score}", "average", "auroc"] - cells[f"v1 + {score}", "average", "auroc"]


TABLE_4 = printed(
    """
    v1 + MLS | 87.00 | 46.90 | 86.37 | 80.36 | 56.09 | 77.26 | 83.02 | 53.02 | 76.18
    v1 + FSEBO | 86.75 | 48.87 | 86.37 | 79.97 | 57.24 | 77.26 | 86.82 | 45.14 | 76.18
    v1 + KNN | 86.54 | 44.70 | 86.37 | 81.29 | 57.44 | 77.26 | 80.64 | 52.50 | 76.18
    v1 + NNGuide | 87.83 | - | 86.37 | 80.84 | 57.51 | 77.26 | 86.68 | 44.81 | 76.18
    LogitNorm + MSP | 87.85 | 40.28 | 86.04 | 80.00 | 58.25 | 76.34 | 83.08 | 49.94 | 76.45
    NPOS + KNN | 86.94 | 41.93 | - | 80.32 | 57.24 | - | - | - | -
    MOS + MOS | 75.15 | 61.58 | 85.60 | 80.29 | 56.67 | 76.98 | 77.80 | 64.47 | 72.81
    AugMix + MSP | 87.09 | 44.20 | 87.01 | 78.27 | 57.33 | 76.45 | 82.08 | 55.70 | 77.63
    RegMixup + MSP | 87.47 | 49.62 | 87.25 | 79.94 | 56.81 | 79.32 | 81.68 | 57.12 | 76.68
    AugRevise + MLS | 87.88 | 41.72 | 87.67 | 83.69 | 50.86 | 82.10 | 84.77 | 49.06 | 77.70
    AugRevise + MSP | 87.89 | 41.65 | 87.67 | 82.50 | 52.12 | 82.10 | 84.78 | - | 77.70
    AugRevise + KNN | 87.00 | 41.66 | 87.67 | 83.88 | 53.46 | 82.10 | 82.56 | 49.25 | 77.70
    AugRevise + NNGuide | 89.31 | 37.56 | 87.67 | 84.51 | 49.52 | 82.10 | 87.17 | 43.64 | 77.70
    """,
    1, THREE, ("average", "CIFAR-100", "ImageNet-1k"),
)  # fmt: skip

ON = (
    HERE
    + " AugRevise has the separation loss with the logarithm that the paper's property needs; as printed, without it, it is a row of its own where there is one."
)
EXPERIMENTS = (
    Experiment(
        "diag-figure-5", PAPER, "Figure 5", "AugDelete after each augmentation, by the maximal logit.",
        ("augmentation", "AugDelete", "set"), WITH_ACCURACY, _figure_5, DELETED,
        (
            Claim("AugDelete raises the AUROC with label smoothing", _gain("label smoothing")),
            Claim("AugDelete raises the AUROC with mixup", _gain("mixup")),
            Claim("AugDelete raises the AUROC with all augmentations together", _gain("v2*")),
            Claim("AugDelete raises the AUROC with erasing and with TrivialAugment", _gain(*LITTLE)),
            Claim("Label smoothing with AugDelete still has a lower AUROC than v1", _still_below("label smoothing")),
            Claim("Mixup with AugDelete still has a lower AUROC than v1", _still_below("mixup")),
        ),
        fpr="ood", here=HERE + " v1 after AugDelete, which the paper does not have, tells how much is due to another last layer alone. The paper's figures are those of Tables 1 and 2.",
        suite=SUITE, plot=Plot("set", "auroc", "AugDelete", "augmentation", "bars"),
    ),
    Experiment(
        "diag-figure-6", PAPER, "Figure 6", "AugDelete on a part of the training data, after the second recipe, by the maximal logit; 0 is without AugDelete.",
        ("per cent", "set"), WITH_ACCURACY, _figure_6, ENDS,
        (
            Claim("AugDelete on 10 % of the training data raises the AUROC", _from_to("0", "10")),
            Claim("More than 30 % of the training data bring no more", _from_to("30", "100"), same=True),
            Claim("AugDelete on all data leaves the accuracy about as it is", _from_to("0", "100", "accuracy"), same=True),
        ),
        fpr="ood", here=HERE + " The network is v2 with 16 epochs; of 100 pictures of a class, 1 % is one. Of the paper's figures those of Table 3 are left, and its network is taken to be the one there.",
        suite=LARGE, plot=Plot("per cent", "auroc", "set"),
    ),
    Experiment(
        "diag-table-1", PAPER, "Table 1", "What is done with mixtures, by the maximal logit.", ("recipe", "set"), WITH_ACCURACY, partial(_recipes, FIRST), TABLE_1,
        (
            Claim("Mixup has a lower AUROC than v1", _above("v1", "v1 + mixup")),
            Claim("RegMixup has a higher AUROC than mixup", _above("v1 + RegMixup", "v1 + mixup")),
            Claim("RegMixup has no higher AUROC than v1", _above("v1", "v1 + RegMixup")),
            Claim("AugRevise has a higher AUROC than v1", _above("v1 + AugRevise", "v1")),
            Claim("AugRevise has a higher AUROC than RegMixup", _above("v1 + AugRevise", "v1 + RegMixup")),
            Claim("AugRevise has a lower FPR than v1", _above("v1 + AugRevise", "v1", figure="fpr", sign=-1)),
            Claim("AugRevise has a higher accuracy than v1", _above("v1 + AugRevise", "v1", figure="accuracy")),
        ),
        fpr="ood", here=ON + " AugRevise erases and has TrivialAugment, where the paper's row of this table has mixtures alone; random erasing alone stands beside it. v1's AUROC, printed with a dollar sign in our copy of Table 2, is 87.00.",
        suite=SUITE, plot=Plot("accuracy", "auroc", "recipe", kind="points"),
    ),
    Experiment(
        "diag-table-2", PAPER, "Table 2", "AugDelete and AugRevise, by the maximal logit.", ("recipe", "set"), WITH_ACCURACY, partial(_recipes, SECOND), TABLE_2,
        (
            Claim("AugDelete raises the AUROC of v2*", _above("v2* + AugDelete", "v2*")),
            Claim("AugDelete leaves the accuracy of v2* about as it is", _above("v2* + AugDelete", "v2*", figure="accuracy"), same=True),
            Claim("v2* with AugDelete still has a lower AUROC than v1", _above("v1", "v2* + AugDelete")),
            Claim("AugRevise has a higher AUROC than v1 and than v2* with AugDelete", _above("AugRevise", "v1", "v2* + AugDelete")),
            Claim("AugRevise has a higher accuracy than all of v1 and v2*", _above("AugRevise", "v1", "v2*", "v2* + AugDelete", figure="accuracy")),
            Claim("Label smoothing lowers the AUROC of AugRevise", _above("AugRevise", "AugRevise + label smoothing")),
        ),
        fpr="ood", here=ON, suite=SUITE, plot=Plot("accuracy", "auroc", "recipe", kind="points"),
    ),
    Experiment(
        "diag-table-3", PAPER, "Table 3", "AugDelete and four scores, after the second recipe.", ("score", "recipe", "set"), {**WITH_ACCURACY, "changed": "scores changed"}, _table_3, TABLE_3,
        (
            *(Claim(f"AugDelete raises the AUROC of {name}", _raised(name)) for name in ("MLS", "ASH", "NNGuide")),
            Claim("AugDelete changes no bit of KNN's scores", lambda cells: cells["KNN", "v2 + AugDelete", "all pictures", "changed"], same=True),
            *(Claim(f"{name} has a lower AUROC with the second recipe than with the first", _raised(name, start="v2", end="v1")) for name in ("MLS", "ASH", "KNN", "NNGuide")),
            Claim("With AugDelete MLS has about the AUROC that it has with the first recipe", _raised("MLS", start="v1"), same=True),
            Claim("With AugDelete KNN and NNGuide still have a lower AUROC than with the first recipe", lambda cells: -max(_raised(name, start="v1")(cells) for name in ("KNN", "NNGuide"))),
            Claim("With AugDelete the second recipe has a higher accuracy than the first", lambda cells: cells["MLS", "v2 + AugDelete", "average", "accuracy"] - cells["MLS", "v1", "average", "accuracy"]),
        ),
        fpr="ood", here=HERE + " v2 has 16 epochs. ASH is ASH-S of the 10 % largest features, then the energy: the paper does not say which.", suite=LARGE,
        plot=Plot("recipe", "auroc", panel="score", kind="bars"),
    ),
    Experiment(
        "diag-table-4", PAPER, "Table 4", "AugRevise beside other methods; the paper's figures for CIFAR-100 and ImageNet-1k stand beside those for ImageNet-200, whose network is nearest.",
        ("method", "set"), WITH_ACCURACY, _table_4, TABLE_4,
        (
            Claim("AugRevise with NNGuide has the highest AUROC of all", _over_others("auroc", 1, lambda name: name == "AugRevise + NNGuide")),
            Claim("AugRevise with NNGuide has the lowest FPR of all", _over_others("fpr", -1, lambda name: name == "AugRevise + NNGuide")),
            Claim("AugRevise has the highest accuracy of all", _over_others("accuracy", 1)),
            *(Claim(f"AugRevise raises the AUROC of {score}", partial(_with, score)) for score in ("MLS", "KNN", "NNGuide")),
        ),
        fpr="ood",
        here=ON + " MOS has the taxonomy of Glyphs, on the features of v1. Left out as likely slips of the pen: two FPRs that the paper prints as those of the row of MLS, of v1 + NNGuide on ImageNet-200 "
        "(46.90) and of AugRevise + MSP on ImageNet-1k (49.06).",
        suite=SUITE, plot=Plot("accuracy", "auroc", "method", kind="points"),
    ),
)  # fmt: skip

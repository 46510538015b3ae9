"""Zhang et al., "Sharpness-aware Fine-Tuning for OOD Detection", IEEE TIP 2026 ("Why SAM finetuning can benefit OOD detection?"): its tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from farfield.data.images import Suite
from farfield.reproduce.base import Cell, Cells, Claim, Experiment, Plot, Record, printed
from farfield.reproduce.distributions import QUANTITIES, SPREAD, changed_mildly, falls_more, spread
from farfield.reproduce.mos import SETS
from farfield.reproduce.mos import TABLE as MOS_TABLE
from farfield.reproduce.stage import Network, Stage, loaded
from farfield.training.sharpness import norm_parameters, usual_rho

PAPER = "Zhang et al., IEEE TIP 2026"
IMAGENET, CIFAR = "mos-imagenet", "cifar10-sft"
FIGURES = {"auroc": "AUROC", "fpr": "FPR95"}
WITH_ACCURACY = {**FIGURES, "accuracy": "ID accuracy"}
LONGER: dict[str, Any] = {"steps": 400, "lr": 1e-2}  # no setting of the paper: what moves a network of 0.3 million weights
NAMES = {
    "msp": "MSP", "odin:eps=0": "ODIN", "energy": "Energy", "multi-layer-mahalanobis": "Mahalanobis", "gradnorm": "GradNorm", "react+energy": "ReAct",
    "kl-matching": "KL Matching", "dice+energy": "DICE", "featurenorm": "FeatureNorm",
}  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A network of the paper: the small one in its place, its own, its suite, and where RankFeat looks in each (nowhere where the paper has none)."""

    small: str
    full: str
    suite: str = IMAGENET
    rankfeat: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.full.partition(":")[2].removesuffix("-flat")

    def network(self, stage: Stage) -> Network:
        """It, on a stage."""
        return stage.network(self.small, self.full)

    def scores(self, stage: Stage, *others: str) -> dict[str, str]:
        """Detectors by the paper's name for them: RankFeat, where it can be had, behind the others."""
        looked = () if self.rankfeat is None else (f"rankfeat:at={self.rankfeat[0 if stage.glyphs else 1]}",)
        return {name: NAMES.get(name, "RankFeat") for name in (*others, *looked)}


BIT = Start("bit", "zoo:bit-s-r101x1-flat", rankfeat=("before", "both"))  # the last block of the small one puts out a single place
T2T = Start("glyphs-200-vit", "zoo:t2t-vit-24", rankfeat=("last", "last"))
VGG = Start("cross-entropy", "zoo:vgg11-cifar10", CIFAR)
HERE = {
    BIT: "The network is a BiT of 0.3 million weights (GroupNorm), trained on Glyphs for 4 epochs; the radius 0.5 is scaled to its number of normalisation parameters. "
    "RankFeat takes the map before the last block's alone.",
    T2T: "In place of the T2T-ViT-24 the small ViT that ships (LayerNorm; BatchNorm in its stem, whose statistics stay).",
    VGG: "The paper's VGG11 has no normalisation layer in the published code, where sharpness over normalisation alone is plain SGD. In its place the ResNet of the training table, "
    "which has BatchNorm: a network that the paper says SFT does not suit.",
}  # fmt: skip


def tuned(stage: Stage, start: Start, label: str = "SFT", options: Mapping[str, Any] | None = None, **change: Any) -> Network:
    """A network after SFT, with some settings in place of the paper's."""
    return stage.finetuned(start.network(stage), label, "sft", stage.suite(start.suite), options=options, **change)


def judged(stage: Stage, start: Start, network: Network, detectors: Mapping[str, str], suffix: str = "") -> list[Record]:
    """Detectors on a network, as the paper calls them."""
    found = stage.judge(network, tuple(detectors), stage.suite(start.suite))
    return [Record((detectors[record.of[0]] + suffix, *record.of[1:]), record.values, record.intervals) for record in found.records]


def accuracy(stage: Stage, start: Start, network: Network) -> float:
    """Of the test data, in percent."""
    test = loaded(stage.said(network, stage.suite(start.suite), ("test",))["test"])
    assert test.labels is not None
    return 100 * (test.predictions() == test.labels).double().mean().item()


def averages(records: Iterable[Record], of: tuple[str, ...]) -> list[Record]:
    """The averages alone, under another key."""
    return [Record(of, record.values, record.intervals) for record in records if record.of[-1] == "average"]


# --- Tables 1 to 3: the methods -----------------------------------------------------------------------------------------------------------------


def _table(start: Start, before: tuple[str, ...], after: tuple[str, ...], stage: Stage) -> Mapping[str, Cell]:
    def plain() -> Iterable[Record]:
        network = start.network(stage)
        return [*judged(stage, start, network, start.scores(stage, *before)), Record(("before", "ID"), {"accuracy": accuracy(stage, start, network)})]

    def changed(name: str, change: Mapping[str, Any]) -> Iterable[Record]:
        network = tuned(stage, start, name, **change)
        return [
            *judged(stage, start, network, start.scores(stage, *after), f"+{name}"),
            Record((name, "ID"), {"accuracy": accuracy(stage, start, network)}),
        ]

    cells: dict[str, Cell] = {"before": plain, "SFT": partial(changed, "SFT", {})}
    return {**cells, "SFT, longer": partial(changed, "SFT, longer", LONGER)} if stage.glyphs else cells


def _gain(name: str, figure: str, after: str = "SFT") -> Callable[[Cells], float]:
    sign = 1 if figure == "auroc" else -1
    return lambda cells: sign * (cells[f"{name}+{after}", "average", figure] - cells[name, "average", figure])


def _kept(cells: Cells) -> float:
    return cells["SFT", "ID", "accuracy"] - cells["before", "ID", "accuracy"]


def _claims(*names: str) -> tuple[Claim, ...]:
    return (
        *(Claim(f"SFT lowers the average FPR of {name}", _gain(name, "fpr")) for name in names),
        *(Claim(f"SFT raises the average AUROC of {name}", _gain(name, "auroc")) for name in names),
        Claim("SFT leaves the accuracy about as it is", _kept, same=True),
    )


TABLE_1 = [record for record in MOS_TABLE if record.of[0] not in ("MOS", "KL matching, fitted on test data") and record.of[1] not in ("time", "ID")] + printed(
    """
    GradNorm | 50.03 | 90.33 | 46.48 | 89.03 | 60.86 | 84.82 | 61.42 | 81.07 | 54.70 | 86.31
    ReAct | 44.52 | 91.81 | 52.71 | 90.16 | 62.66 | 87.83 | 70.73 | 76.85 | 57.66 | 86.67
    RankFeat | 41.31 | 91.91 | 29.27 | 94.07 | 39.34 | 90.93 | 37.29 | 91.70 | 36.80 | 92.15
    KL Matching | 27.36 | 93.00 | 67.52 | 78.72 | 72.61 | 76.49 | 49.70 | 87.07 | 54.30 | 83.82
    MSP+SFT | 36.59 | 92.81 | 67.32 | 83.05 | 73.20 | 80.40 | 38.72 | 89.34 | 53.96 | 86.40
    Energy+SFT | 34.59 | 94.21 | 52.98 | 89.23 | 63.70 | 85.04 | 30.80 | 91.94 | 45.52 | 90.11
    RankFeat+SFT | 37.15 | 92.93 | 27.66 | 94.35 | 37.88 | 91.14 | 27.29 | 93.83 | 32.50 | 93.06
    """,
    1, ("fpr", "auroc"), SETS,
)  # fmt: skip
TABLE_1 += [Record(("before", "ID"), {"accuracy": 75.20}), Record(("SFT", "ID"), {"accuracy": 75.99})]
TABLE_2 = printed(
    """
    MSP | 48.92 | 88.95 | 61.77 | 81.37 | 69.54 | 80.03 | 62.91 | 82.31 | 60.79 | 83.17
    ODIN | 44.07 | 88.17 | 63.83 | 78.46 | 68.19 | 75.33 | 54.27 | 83.63 | 57.59 | 81.40
    Mahalanobis | 90.50 | 58.13 | 91.71 | 50.52 | 93.32 | 49.60 | 80.67 | 64.06 | 89.05 | 55.58
    Energy | 52.95 | 82.93 | 68.55 | 73.06 | 74.24 | 68.17 | 51.05 | 83.25 | 61.70 | 76.85
    GradNorm | 99.30 | 25.86 | 98.37 | 28.06 | 99.01 | 25.71 | 92.68 | 38.80 | 97.34 | 29.61
    ReAct | 52.17 | 89.51 | 65.23 | 81.03 | 68.93 | 78.20 | 52.54 | 85.46 | 59.72 | 83.55
    RankFeat | 50.27 | 87.81 | 57.18 | 84.33 | 66.22 | 80.89 | 32.64 | 89.36 | 51.58 | 85.60
    MSP+SFT | 41.98 | 90.97 | 65.41 | 82.88 | 68.03 | 81.99 | 47.02 | 88.12 | 55.61 | 85.99
    Energy+SFT | 30.90 | 92.13 | 56.02 | 83.27 | 63.29 | 79.60 | 22.27 | 94.56 | 43.12 | 87.39
    RankFeat+SFT | 30.62 | 93.23 | 49.88 | 88.37 | 59.29 | 85.52 | 18.26 | 93.20 | 39.51 | 90.08
    """,
    1, ("fpr", "auroc"), SETS,
)  # fmt: skip
TABLE_2 += [Record(("before", "ID"), {"accuracy": 81.52}), Record(("SFT", "ID"), {"accuracy": 80.74})]
TABLE_3 = printed(
    """
    MSP | 68.07 | 90.02 | 63.86 | 89.37 | 46.63 | 93.73 | 70.19 | 86.29 | 71.81 | 85.71 | 68.08 | 87.25 | 64.77 | 88.73
    ODIN | 53.84 | 92.23 | 48.09 | 91.94 | 19.95 | 97.01 | 54.29 | 89.47 | 56.61 | 88.87 | 52.34 | 89.86 | 47.52 | 91.56
    Energy | 53.13 | 92.26 | 47.04 | 92.08 | 18.51 | 97.20 | 53.02 | 89.58 | 55.39 | 88.97 | 51.67 | 89.95 | 46.46 | 91.67
    ReAct | 58.81 | 83.28 | 51.73 | 87.47 | 23.40 | 94.77 | 47.19 | 89.68 | 51.30 | 88.07 | 50.47 | 87.39 | 47.15 | 88.44
    DICE | 47.81 | 93.27 | 50.95 | 91.77 | 16.73 | 97.06 | 64.26 | 87.83 | 65.83 | 87.43 | 59.23 | 88.53 | 50.80 | 90.98
    FeatureNorm | 8.84 | 98.24 | 24.62 | 95.11 | 3.38 | 99.36 | 71.17 | 83.12 | 62.80 | 86.05 | 65.25 | 85.20 | 39.34 | 91.18
    MSP+SFT | 57.15 | 91.10 | 54.68 | 91.03 | 9.00 | 98.44 | 15.29 | 97.13 | 18.27 | 96.65 | 55.41 | 89.16 | 34.97 | 93.92
    Energy+SFT | 44.23 | 93.27 | 43.39 | 92.90 | 3.25 | 99.16 | 10.65 | 97.86 | 13.51 | 97.36 | 46.18 | 90.64 | 26.87 | 95.20
    """,
    1, ("fpr", "auroc"), ("SVHN", "Textures", "LSUN-crop", "LSUN-resize", "iSUN", "Places365", "average"),
)  # fmt: skip


# --- Tables 4 to 8: what it is made of ---------------------------------------------------------------------------------------------------------


def _only_id(start: Start, stage: Stage) -> Iterable[Record]:
    """The same steps without pseudo-outliers."""
    network = stage.finetuned(start.network(stage), "SFT of ID data", "sft", stage.suite(start.suite), objective="cross-entropy")
    return averages(judged(stage, start, network, {"energy": "Energy"}), (start.name, "Energy+SFT, ID data alone"))


def _with_outliers(start: Start, stage: Stage, sft: bool) -> Iterable[Record]:
    network = tuned(stage, start) if sft else start.network(stage)
    return averages(judged(stage, start, network, {"energy": "Energy"}), (start.name, "Energy+SFT" if sft else "Energy"))


def _table_4(stage: Stage) -> Mapping[str, Cell]:
    cells: dict[str, Cell] = {}
    for start in _starts(stage):
        cells |= {
            f"{start.name} before": partial(_with_outliers, start, stage, False),
            f"{start.name} ID": partial(_only_id, start, stage),
            f"{start.name} SFT": partial(_with_outliers, start, stage, True),
        }
    return cells


def _starts(stage: Stage) -> tuple[Start, ...]:
    return (BIT,) if stage.model else (BIT, T2T)  # a model of one's own stands in for both


def _energy(stage: Stage, of: str, start: Start = BIT, before: str = "", **change: Any) -> Iterable[Record]:
    """The average of energy and the accuracy, after SFT with some settings."""
    network = start.network(stage) if of == before else tuned(stage, start, f"SFT {of}", **change)
    [record] = averages(judged(stage, start, network, {"energy": "Energy"}), (of,))
    return [Record((of,), {**record.values, "accuracy": accuracy(stage, start, network)}, record.intervals)]


def _table_5(stage: Stage) -> Mapping[str, Cell]:
    size = len(stage.suite(IMAGENET).split("train"))
    epoch = -(-size // 64)
    steps = {"0": 0, "10": 10, "50": 50, "100": 100, "200": 200, "1 epoch": epoch, "5 epochs": 5 * epoch}

    def one(of: str, n: int) -> Iterable[Record]:
        change: dict[str, Any] = {"steps": n} if n else {}
        return _energy(stage, of, before="0", **change)

    return {of: partial(one, of, n) for of, n in steps.items()}


def _table_6(stage: Stage) -> Mapping[str, Cell]:
    def one(start: Start, optimizer: str) -> Iterable[Record]:
        change = {"SAM": {"sharpness": "sam"}, "SAM over normalisation": {}, "before": {}}[optimizer]
        [record] = _energy(stage, optimizer, start, before="before", **change)
        return [Record((start.name, optimizer), record.values, record.intervals)]

    return {
        f"{start.name} {optimizer}": partial(one, start, optimizer)
        for start in _starts(stage)
        for optimizer in ("before", "SAM", "SAM over normalisation")
    }


def _table_7(stage: Stage) -> Mapping[str, Cell]:
    def one(rho: float) -> Iterable[Record]:
        usual = usual_rho(norm_parameters(BIT.network(stage).classifier.module))
        return _energy(stage, f"{rho:g}", rho=rho / 0.5 * usual)

    return {f"rho {rho:g}": partial(one, rho) for rho in (0.05, 0.1, 0.5, 1.0, 2.0)}


def _table_8(stage: Stage) -> Mapping[str, Cell]:
    changes: dict[str, dict[str, Any]] = {"FT(SGD)": {"sharpness": "none"}, "FT(Adam)": {"sharpness": "none", "optimizer": "adam"}, "SFT": {}}

    def one(name: str) -> Iterable[Record]:
        network = tuned(stage, BIT, name, **changes[name])
        return [
            *judged(stage, BIT, network, BIT.scores(stage, "energy"), f"+{name}"),
            Record((name, "ID"), {"accuracy": accuracy(stage, BIT, network)}),
        ]

    return {name: partial(one, name) for name in changes}


# --- Figures 2 to 4: distributions before and after ---------------------------------------------------------------------------------------------


def _distributions(stage: Stage, quantities: tuple[str, ...]) -> Mapping[str, Cell]:
    def one(when: str) -> Iterable[Record]:
        suite: Suite = stage.suite(IMAGENET)
        network = BIT.network(stage) if when == "before" else tuned(stage, BIT, when, **(LONGER if when == "SFT, longer" else {}))
        names = ("test", *(ood.name for ood in suite.ood if ood.group in ("near", "far")))
        said = {name: loaded(outputs) for name, outputs in stage.said(network, suite, names).items()}
        return [
            spread((quantity, when, "ID" if name == "test" else name), QUANTITIES[quantity](outputs).numpy())
            for quantity in quantities
            for name, outputs in said.items()
        ]

    times = ("before", "SFT", "SFT, longer") if stage.glyphs else ("before", "SFT")
    return {when: partial(one, when) for when in times}


EXPERIMENTS = (
    Experiment(
        "sft-table-1", PAPER, "Table 1", "Scores before and after SFT on a ResNetv2 with GroupNorm.", ("method", "set"), WITH_ACCURACY,
        partial(_table, BIT, ("msp", "odin:eps=0", "energy", "multi-layer-mahalanobis", "gradnorm", "react+energy", "kl-matching"), ("msp", "energy")), TABLE_1,
        _claims("MSP", "Energy", "RankFeat"),
        here=f"{HERE[BIT]} `longer` is 400 steps at ten times the rate, no setting of the paper. MOS is in `mos-table-1`; KL matching is fitted on training data, the paper's on the test data.", suite=IMAGENET,
    ),
    Experiment(
        "sft-table-2", PAPER, "Table 2", "The same on a vision transformer.", ("method", "set"), WITH_ACCURACY,
        partial(_table, T2T, ("msp", "odin:eps=0", "energy", "multi-layer-mahalanobis", "react+energy", "gradnorm"), ("msp", "energy")), TABLE_2, _claims("MSP", "Energy", "RankFeat"),
        here=f"{HERE[T2T]} `longer` is 400 steps at ten times the rate.", suite=IMAGENET,
    ),
    Experiment(
        "sft-table-3", PAPER, "Table 3", "The same on a small network for CIFAR-10.", ("method", "set"), WITH_ACCURACY,
        partial(_table, VGG, ("msp", "odin:eps=0", "energy", "react+energy", "dice+energy", "featurenorm"), ("msp", "energy")), TABLE_3,
        (*_claims("MSP", "Energy")[:-1], Claim("FeatureNorm has a lower average FPR than energy", lambda cells: cells["Energy", "average", "fpr"] - cells["FeatureNorm", "average", "fpr"])),
        here=HERE[VGG], suite=CIFAR,
    ),
    Experiment(
        "sft-table-4", PAPER, "Table 4", "SFT without its pseudo-outliers.", ("network", "method"), FIGURES, _table_4,
        printed(
            """
            bit-s-r101x1 | Energy | 71.03 | 82.74
            bit-s-r101x1 | Energy+SFT, ID data alone | 71.42 | 83.23
            bit-s-r101x1 | Energy+SFT | 45.52 | 90.11
            t2t-vit-24 | Energy | 61.70 | 76.85
            t2t-vit-24 | Energy+SFT, ID data alone | 61.45 | 78.04
            t2t-vit-24 | Energy+SFT | 43.12 | 87.39
            """,
            2, ("fpr", "auroc"),
        ),
        tuple(
            claim
            for name in ("bit-s-r101x1", "t2t-vit-24")
            for claim in (
                Claim(f"{name}: with ID data alone the FPR stays about as it is", lambda cells, n=name: cells[n, "Energy", "fpr"] - cells[n, "Energy+SFT, ID data alone", "fpr"], same=True),  # type: ignore[misc]
                Claim(f"{name}: with pseudo-outliers the FPR is lower than without", lambda cells, n=name: cells[n, "Energy+SFT, ID data alone", "fpr"] - cells[n, "Energy+SFT", "fpr"]),  # type: ignore[misc]
            )
        ),
        here=f"{HERE[BIT]} {HERE[T2T]} The networks are called as the paper's.", suite=IMAGENET,
    ),
    Experiment(
        "sft-table-5", PAPER, "Table 5", "The number of steps.", ("steps",), WITH_ACCURACY, _table_5,
        printed("0 | 71.03 | 82.74\n10 | 52.27 | 88.19\n50 | 45.52 | 90.11\n100 | 49.78 | 88.71\n200 | 53.66 | 87.32\n1 epoch | 68.5 | 84.6\n5 epochs | 73.48 | 82.90", 1, ("fpr", "auroc")),
        (
            Claim("50 steps have a lower FPR than none", lambda cells: cells["0", "fpr"] - cells["50", "fpr"]),
            Claim("Five epochs have a higher FPR than 50 steps", lambda cells: cells["5 epochs", "fpr"] - cells["50", "fpr"]),
        ),
        here=HERE[BIT], suite=IMAGENET, plot=Plot("steps", "fpr", kind="bars"),
    ),
    Experiment(
        "sft-table-6", PAPER, "Table 6", "Sharpness over all parameters, and over those of normalisation layers.", ("network", "optimizer"), WITH_ACCURACY, _table_6,
        printed(
            """
            bit-s-r101x1 | before | 71.03 | 82.74 | 75.20
            bit-s-r101x1 | SAM | 28.57 | 93.35 | 70.01
            bit-s-r101x1 | SAM over normalisation | 45.52 | 90.11 | 75.99
            t2t-vit-24 | before | 61.70 | 76.85 | 81.52
            t2t-vit-24 | SAM | 93.73 | 48.38 | 0.83
            t2t-vit-24 | SAM over normalisation | 43.12 | 87.39 | 80.74
            """,
            2, ("fpr", "auroc", "accuracy"),
        ),
        (
            Claim("bit-s-r101x1: SAM over all parameters has a lower FPR", lambda cells: cells["bit-s-r101x1", "SAM over normalisation", "fpr"] - cells["bit-s-r101x1", "SAM", "fpr"]),
            Claim("bit-s-r101x1: SAM over all parameters costs accuracy", lambda cells: cells["bit-s-r101x1", "SAM over normalisation", "accuracy"] - cells["bit-s-r101x1", "SAM", "accuracy"]),
            Claim("t2t-vit-24: SAM over all parameters ruins the accuracy", lambda cells: cells["t2t-vit-24", "SAM over normalisation", "accuracy"] - cells["t2t-vit-24", "SAM", "accuracy"] - 10),
        ),
        here=f"{HERE[BIT]} {HERE[T2T]} The networks are called as the paper's.", suite=IMAGENET,
    ),
    Experiment(
        "sft-table-7", PAPER, "Table 7", "The radius.", ("rho",), WITH_ACCURACY, _table_7,
        printed("0.05 | 46.62 | 89.74\n0.1 | 45.81 | 89.93\n0.5 | 45.52 | 90.11\n1 | 46.02 | 89.93\n2 | 47.92 | 89.31", 1, ("fpr", "auroc")),
        (
            Claim("0.5 has a lower FPR than 0.05", lambda cells: cells["0.05", "fpr"] - cells["0.5", "fpr"]),
            Claim("0.5 has a lower FPR than 2", lambda cells: cells["2", "fpr"] - cells["0.5", "fpr"]),
        ),
        here=f"{HERE[BIT]} The radii are named as the paper's and scaled alike.", suite=IMAGENET, plot=Plot("rho", "fpr", kind="bars"),
    ),
    Experiment(
        "sft-table-8", PAPER, "Table 8", "The optimizer.", ("method", "set"), WITH_ACCURACY, _table_8,
        printed(
            """
            Energy+FT(SGD) | 41.95 | 93.07 | 60.22 | 87.12 | 68.22 | 83.23 | 31.65 | 91.94 | 50.51 | 88.84
            Energy+FT(Adam) | 99.58 | 26.44 | 97.12 | 43.33 | 96.05 | 45.60 | 99.06 | 26.54 | 97.95 | 35.48
            Energy+SFT | 34.59 | 94.21 | 52.98 | 89.23 | 63.70 | 85.04 | 30.80 | 91.94 | 45.52 | 90.11
            RankFeat+FT(SGD) | 38.31 | 92.63 | 27.82 | 94.28 | 37.34 | 91.38 | 29.00 | 93.32 | 33.12 | 92.90
            RankFeat+FT(Adam) | 75.70 | 71.36 | 92.47 | 61.15 | 94.55 | 55.91 | 66.65 | 72.71 | 82.34 | 65.28
            RankFeat+SFT | 37.15 | 92.93 | 27.66 | 94.35 | 37.88 | 91.14 | 27.29 | 93.83 | 32.50 | 93.06
            """,
            1, ("fpr", "auroc"), SETS,
        ),
        tuple(
            claim
            for name in ("Energy", "RankFeat")
            for claim in (
                Claim(f"SFT has a lower average FPR of {name} than SGD", lambda cells, n=name: cells[f"{n}+FT(SGD)", "average", "fpr"] - cells[f"{n}+SFT", "average", "fpr"]),  # type: ignore[misc]
                Claim(f"Adam ruins {name}", lambda cells, n=name: cells[f"{n}+FT(Adam)", "average", "fpr"] - cells[f"{n}+SFT", "average", "fpr"] - 10),  # type: ignore[misc]
            )
        ),
        here=HERE[BIT], suite=IMAGENET,
    ),
    Experiment(
        "sft-figure-2", PAPER, "Figures 2 and 4", "The distribution of energy before and after.", ("quantity", "when", "pictures"), SPREAD,
        lambda stage: _distributions(stage, ("energy",)), (),
        (
            Claim("Energy falls more on OOD pictures than on ID pictures, in nats", falls_more("energy", False)),
            Claim("With 400 steps at ten times the rate too (no setting of the paper)", falls_more("energy", False, "SFT, longer")),
        ),
        here=HERE[BIT], suite=IMAGENET, plot=Plot("pictures", "mean", "when", kind="bars"),
    ),
    Experiment(
        "sft-figure-3", PAPER, "Figure 3", "The gradient norm of the last layer and the maximal logit, before and after.", ("quantity", "when", "pictures"), SPREAD,
        lambda stage: _distributions(stage, ("gradient norm", "max logit")), (),
        (
            Claim("The maximal logit falls more on OOD pictures than on ID pictures, in percent of itself", falls_more("max logit", True)),
            Claim("The gradient norm changes less than the maximal logit, in percent of the medians", changed_mildly),
        ),
        here=f"{HERE[BIT]} The gradient is that of cross-entropy with the predicted class, for ID pictures too.", suite=IMAGENET,
        plot=Plot("pictures", "mean", "when", "quantity", kind="bars"),
    ),
)  # fmt: skip

"""Huang and Li, "MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space", CVPR 2021: its table and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from farfield.data.images import Suite
from farfield.outputs import Outputs, group_places, in_groups
from farfield.reproduce.base import Cell, Cells, Claim, Experiment, Plot, Record, printed
from farfield.reproduce.networks import MOS
from farfield.reproduce.stage import Network, Stage, loaded, reheaded
from farfield.training.groups import at_random, cluster, layout

PAPER = "Huang and Li, CVPR 2021"
SUITE = "mos-imagenet"
BACKBONE = "zoo:bit-s-r101x1-flat"  # with the last layer that the authors trained
BACKBONES = ("zoo:bit-s-r50x1", "zoo:bit-s-r101x1", "zoo:bit-s-r50x3", "zoo:bit-s-r152x2", "zoo:bit-s-r101x3")
SMALL = ("cross-entropy", "bit", "glyphs-200-resnet", "glyphs-200-bit", "glyphs-200-vit")  # in their place on Glyphs
FLAT = ("msp", "odin:eps=0", "multi-layer-mahalanobis", "energy", "kl-matching")
NAMES = {"msp": "MSP", "odin:eps=0": "ODIN", "multi-layer-mahalanobis": "Mahalanobis", "energy": "Energy", "kl-matching": "KL matching", "mos": "MOS"}
SETS = ("iNaturalist", "SUN", "Places", "Textures", "average")
COUNTS = (50, 100, 200, 400, 700, 1000)  # of classes, on Glyphs
PAPER_COUNTS = (50, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
BATCH = 128  # of a head, on Glyphs
AN_EACH = 700  # training pictures of a class, of ImageNet's subsets
FIGURES = {"auroc": "AUROC", "fpr": "FPR95"}
HERE = "The backbone is a BiT (GroupNorm, 0.3 million weights) trained on the same classes of Glyphs, and the head has {steps:,} steps of {batch} samples at rate {lr}, a tenth of the paper's steps, a quarter of its batch, at ten times its rate."
HERE = HERE.format(**MOS, batch=BATCH)


def backbone(stage: Stage) -> Network:
    """The paper's frozen network."""
    return stage.network("bit", BACKBONE)


def change(stage: Stage) -> Mapping[str, float]:
    """The settings of a head at this scale."""
    return MOS | {"batch_size": BATCH} if stage.glyphs else {}


def heads(stage: Stage, network: Network, suite: Suite, which: Mapping[str, torch.Tensor | None], label: str = "") -> dict[str, dict[str, Outputs]]:
    """What heads trained on a network's features say of the test data and the sets: the flat one (`None`), and those with groups."""
    said = stage.said(network, suite)
    rest = {name: loaded(outputs) for name, outputs in said.items() if name != "train"}
    found = {}
    for name, groups in which.items():
        head = stage.head(f"{network.name} {label} {name}", said["train"], len(suite.classes), groups, **change(stage))
        found[name] = {key: reheaded(outputs, head) for key, outputs in rest.items()}
    return found


def accuracy(outputs: Outputs) -> float:
    """Of the test data, in percent."""
    assert outputs.labels is not None
    return 100 * (outputs.predictions() == outputs.labels).double().mean().item()


# --- Table 1, and the areas of Appendix D -----------------------------------------------------------------------------------------------------


def _flat(stage: Stage, precision: bool) -> Iterable[Record]:
    network, suite = backbone(stage), stage.suite(SUITE)
    judged = stage.judge(network, FLAT, suite, precision=precision)
    return _named(judged.records) + ([] if precision or judged.accuracy is None else [Record(("MSP", "ID"), {"accuracy": judged.accuracy})])


def _mos(stage: Stage, precision: bool) -> Iterable[Record]:
    network, suite = backbone(stage), stage.suite(SUITE)
    outputs = heads(stage, network, suite, {"taxonomy": stage.groups(suite)})["taxonomy"]
    judged = stage.judge_outputs("mos", outputs, ("mos",), suite, precision=precision)
    return _named(judged.records) + ([] if precision else [Record(("MOS", "ID"), {"accuracy": accuracy(outputs["test"])})])


def _named(records: Iterable[Record]) -> list[Record]:
    return [Record((NAMES.get(record.of[0], record.of[0]), *record.of[1:]), record.values, record.intervals) for record in records]


def _times(stage: Stage) -> Iterable[Record]:
    """Seconds of each method over those of MSP, pictures to scores; MOS's head has as many more outputs as there are groups."""
    network, suite = backbone(stage), stage.suite(SUITE)
    taken = {name: stage.seconds(network, name, suite) for name in FLAT}
    grouped = stage.headed(
        network,
        stage.head(
            f"{network.name}  taxonomy", stage.said(network, suite, ("train",))["train"], len(suite.classes), stage.groups(suite), **change(stage)
        ),
    )
    taken["mos"] = stage.seconds(grouped, "mos", suite)
    return [Record((NAMES[name], "time"), {"time": seconds / taken["msp"]}) for name, seconds in taken.items()]


def _leaky(stage: Stage) -> Iterable[Record]:
    """KL matching as the authors' code has it: fitted on the very test pictures, with their labels as the classes."""
    network, suite = backbone(stage), stage.suite(SUITE)
    outputs = {name: loaded(one) for name, one in stage.said(network, suite).items() if name != "train"}
    judged = stage.judge_outputs("kl matching on the test data", {**outputs, "train": outputs["test"]}, ("kl-matching:assign=label",), suite)
    return [Record(("KL matching, fitted on test data", *record.of[1:]), record.values, record.intervals) for record in judged.records]


TABLE = printed(
    """
    MSP | 63.69 | 87.59 | 79.98 | 78.34 | 81.44 | 76.76 | 82.73 | 74.45 | 76.96 | 79.29
    ODIN | 62.69 | 89.36 | 71.67 | 83.92 | 76.27 | 80.67 | 81.31 | 76.30 | 72.99 | 82.56
    Mahalanobis | 96.34 | 46.33 | 88.43 | 65.20 | 89.75 | 64.46 | 52.23 | 72.10 | 81.69 | 62.02
    Energy | 64.91 | 88.48 | 65.33 | 85.32 | 73.02 | 81.37 | 80.87 | 75.79 | 71.03 | 82.74
    KL matching, fitted on test data | 27.36 | 93.00 | 67.52 | 78.72 | 72.61 | 76.49 | 49.70 | 87.07 | 54.30 | 83.82
    MOS | 9.28 | 98.15 | 40.63 | 92.01 | 49.54 | 89.06 | 60.43 | 81.23 | 39.97 | 90.11
    """,
    1, ("fpr", "auroc"), SETS,
)  # fmt: skip
MINUTES = {"MSP": 3.1, "ODIN": 23.6, "Mahalanobis": 145.4, "Energy": 3.1, "KL matching": 20.6, "MOS": 3.2}
TABLE += [Record((name, "time"), {"time": minutes / MINUTES["MSP"]}) for name, minutes in MINUTES.items()]
TABLE += [Record(("MSP", "ID"), {"accuracy": 75.20}), Record(("MOS", "ID"), {"accuracy": 75.16})]


def _best_other(cells: Cells, figure: str, sign: int) -> float:
    """The best of the other methods on the average; the paper's own KL matching, which has seen the test data, is not among them."""
    others = [cells.get(name, "average", figure) for name in NAMES.values() if name != "MOS"]
    return max(sign * value for value in others if value is not None) * sign


def _table_1(stage: Stage) -> Mapping[str, Cell]:
    cells: dict[str, Cell] = {"flat": partial(_flat, stage, False), "mos": partial(_mos, stage, False), "times": partial(_times, stage)}
    # some of the test data are too few to fit on
    return cells if stage.limit else {**cells, "kl matching on test data": partial(_leaky, stage)}


# --- Figures 2 and 5: the number of classes ---------------------------------------------------------------------------------------------------


def _of_classes(stage: Stage, count: int) -> Iterable[Record]:
    """MSP and MOS on heads for `count` random classes of the features of one network."""
    suite = stage.suite(SUITE, glyphs="glyphs-1000")
    network = stage.network("glyphs-1000-bit", BACKBONE)
    classes = len(suite.classes)
    chosen = torch.randperm(classes, generator=torch.Generator().manual_seed(stage.seed))[: min(count, classes)].sort().values
    said = stage.said(network, suite)
    groups = [[chosen.tolist().index(c) for c in members if c in set(chosen.tolist())] for members in suite.taxonomy.values()]
    kept = {name: some for name, outputs in said.items() if len(some := _some(loaded(outputs), chosen))}  # a shifted set may have none of the classes
    found: list[Record] = []
    for method, layer in (("msp", None), ("mos", layout([group for group in groups if group]))):
        head = stage.head(f"{network.name} {count} classes {method}", kept["train"], len(chosen), layer, **change(stage))
        outputs = {name: reheaded(one, head) for name, one in kept.items() if name != "train"}
        judged = stage.judge_outputs(f"{count} classes {method}", outputs, (method,), suite)
        found += [Record((NAMES[method], str(count), record.of[1]), record.values, record.intervals) for record in judged.records]
        found.append(Record((NAMES[method], str(count), "ID"), {"accuracy": accuracy(outputs["test"])}))
    return found


def _some(outputs: Outputs, classes: torch.Tensor) -> Outputs:
    """The samples of some classes, under their numbers among those, and all that have no class; at most `AN_EACH` of a class."""
    assert outputs.labels is not None
    numbers = torch.full((int(max(outputs.labels.max(), classes.max())) + 2,), -2)
    numbers[-1] = -1
    numbers[classes] = torch.arange(len(classes))
    labels = numbers[outputs.labels]
    rows = (labels > -2).nonzero()[:, 0]
    order = labels[rows].argsort(stable=True)
    ordered = labels[rows][order]
    place = torch.arange(len(ordered)) - torch.searchsorted(ordered, ordered)
    rows = rows[order[(place < AN_EACH) | (ordered < 0)]].sort().values
    return Outputs(features=outputs.features[rows] if outputs.features is not None else None, labels=labels[rows])


def _counts(stage: Stage) -> Sequence[int]:
    return COUNTS if stage.glyphs else PAPER_COUNTS


def _figure_5(stage: Stage) -> Mapping[str, Cell]:
    return {f"{count} classes": partial(_of_classes, stage, count) for count in _counts(stage)}


def _rise(cells: Cells, method: str, figure: str = "fpr") -> float:
    """How much the average rises from the fewest classes to the most."""
    counts = sorted({int(name) for name in cells.names(1)})
    return cells[method, str(counts[-1]), "average", figure] - cells[method, str(counts[0]), "average", figure]


def _msp_alone(stage: Stage) -> Mapping[str, Cell]:
    def msp(cell: Cell) -> Iterable[Record]:
        return [Record(record.of[1:], record.values, record.intervals) for record in cell() if record.of[0] == "MSP"]

    return {name: partial(msp, cell) for name, cell in _figure_5(stage).items()}


# --- Figure 4: the score of "others" by group -------------------------------------------------------------------------------------------------


def _others(stage: Stage) -> Iterable[Record]:
    """The mean probability of "others" in each group, of the ID test pictures of the largest group and of each set."""
    network, suite = backbone(stage), stage.suite(SUITE)
    groups = stage.groups(suite)
    outputs = heads(stage, network, suite, {"taxonomy": groups})["taxonomy"]
    names, largest = list(suite.taxonomy), max(suite.taxonomy, key=lambda name: len(suite.taxonomy[name]))
    labels = outputs["test"].labels
    assert labels is not None
    mine = torch.isin(labels, torch.tensor(suite.taxonomy[largest]))
    shown = {f"ID, {largest}": outputs["test"][mine], **{one.name: outputs[one.name] for one in suite.ood if one.group in ("near", "far")}}
    found = []
    for of, some in shown.items():
        assert some.logits is not None
        chance = in_groups(some.logits, group_places(groups)).softmax(2)[:, :, 0].double()
        half = 1.96 * chance.std(0) / len(chance) ** 0.5
        for name, mean, width in zip(names, chance.mean(0).tolist(), half.tolist(), strict=True):
            found.append(Record((of, name), {"others": mean}, {"others": (mean - width, mean + width)}))
    return found


def _own_is_low(cells: Cells) -> float:
    """By how much "others" is lower in the group the pictures are of than in the group where the sets have it lowest."""
    own = next(name for name in cells.names(0) if name.startswith("ID"))
    group = own.removeprefix("ID, ")
    sets = [min(cells[name, where, "others"] for where in cells.names(1)) for name in cells.names(0) if name != own]
    return 100 * (min(sets) - cells[own, group, "others"])


# --- Figure 6: how classes are grouped, and into how many -------------------------------------------------------------------------------------


def _grouped(stage: Stage, how: str, k: int | None = None) -> Iterable[Record]:
    network, suite = backbone(stage), stage.suite(SUITE)
    classes, k = len(suite.classes), k or len(suite.taxonomy) or 8
    if how == "taxonomy":
        groups: torch.Tensor | None = stage.groups(suite)
    elif how == "cluster":
        groups = layout(cluster(stage.said(network, suite, ("train",))["train"], k, stage.seed, classes))
    else:
        groups = layout(at_random(classes, k, stage.seed)) if how == "random" else None
    label = how if groups is None or how == "taxonomy" else f"{how} {k}"
    outputs = heads(stage, network, suite, {label: groups})[label]
    judged = stage.judge_outputs(label, outputs, ("msp" if groups is None else "mos",), suite)
    name = {"taxonomy": "MOS, taxonomy", "cluster": "MOS, cluster", "random": "MOS, random", "flat": "MSP"}[how]
    return [Record((name, record.of[1]), record.values, record.intervals) for record in judged.records] + [
        Record((name, "ID"), {"accuracy": accuracy(outputs["test"])})
    ]


def _figure_6(stage: Stage) -> Mapping[str, Cell]:
    return {how: partial(_grouped, stage, how) for how in ("flat", "random", "cluster", "taxonomy")}


def _groups(stage: Stage) -> Mapping[str, Cell]:
    def one(how: str, k: int) -> Iterable[Record]:
        return [Record((record.of[0], str(k), record.of[1]), record.values, record.intervals) for record in _grouped(stage, how, k)]

    return {f"{how}, {k} groups": partial(one, how, k) for k in (2, 4, 8, 16, 32) for how in ("random", "cluster")}


GROUPED = [record for record in TABLE if record.of[0] == "MSP" and record.of[1] not in ("time",)]
GROUPED += [Record(("MOS, taxonomy", *record.of[1:]), record.values) for record in TABLE if record.of[0] == "MOS" and record.of[1] != "time"]
GROUPED += [
    Record(("MOS, cluster", "iNaturalist"), {"fpr": 41.1, "auroc": 93.3}),
    Record(("MOS, random", "iNaturalist"), {"fpr": 47.5, "auroc": 90.6}),
    Record(("MOS, cluster", "average"), {"fpr": 58.8}),
    Record(("MOS, cluster", "ID"), {"accuracy": 75.16 - 0.16}),
    Record(("MOS, random", "ID"), {"accuracy": 75.16 - 0.98}),
]


# --- Figure 7: backbones; Figure 8: how much is fine-tuned ------------------------------------------------------------------------------------


def _on_backbone(stage: Stage, small: str, full: str) -> Iterable[Record]:
    network, suite = stage.network(small, full), stage.suite(SUITE)
    found: list[Record] = []
    for method, outputs in heads(stage, network, suite, {"msp": None, "mos": stage.groups(suite)}).items():
        judged = stage.judge_outputs(f"{network.name} {method}", outputs, (method,), suite)
        found += [Record((network.name, NAMES[method], record.of[1]), record.values, record.intervals) for record in judged.records]
        found.append(Record((network.name, NAMES[method], "ID"), {"accuracy": accuracy(outputs["test"])}))
    return found


def _figure_7(stage: Stage) -> Mapping[str, Cell]:
    chosen = BACKBONES[:1] if stage.model else BACKBONES  # a model of one's own stands in for all
    return {(small if stage.glyphs else full): partial(_on_backbone, stage, small, full) for small, full in zip(SMALL, chosen, strict=False)}


def _depth(stage: Stage, blocks: int) -> Iterable[Record]:
    """MSP and MOS where the head and the last blocks are fine-tuned, on pictures."""
    network, suite = backbone(stage), stage.suite(SUITE)
    layers = "head" if blocks == 0 else str(blocks)
    small = {"steps": 300, "lr": 0.01, "batch_size": 128, "augment": ()}
    found: list[Record] = []
    for method, recipe, groups in (("msp", "cross-entropy", None), ("mos", "mos", stage.groups(suite))):
        published: dict[str, Any] = (
            {}
            if recipe == "mos"
            else {"steps": 20_000, "batch_size": 512, "lr": 0.003, "drops": (0.3, 0.6, 0.9), "warmup": 0.025, "weight_decay": 0.0, "augment": ()}
        )
        tuned = stage.finetuned(
            network, f"{method} {blocks} blocks", recipe, suite, glyphs=small, groups=groups, layers=layers, **({} if stage.glyphs else published)
        )
        judged = stage.judge(tuned, (method,), suite)
        found += [Record((NAMES[method], str(blocks), record.of[1]), record.values, record.intervals) for record in judged.records]
        found.append(Record((NAMES[method], str(blocks), "ID"), {"accuracy": judged.accuracy or 0.0}))
    return found


def _figure_8(stage: Stage) -> Mapping[str, Cell]:
    return {f"{blocks} blocks": partial(_depth, stage, blocks) for blocks in range(5)}


def _everywhere(figure: str, sign: int) -> Callable[[Cells], float]:
    """The least by which MOS is better than MSP on the average, over what stands at the other place of the keys."""

    def least(cells: Cells) -> float:
        first = 0 if "MSP" in cells.names(1) else 1
        gains = []
        for name in cells.names(first):
            pair = [cells.get(*((name, method) if first == 0 else (method, name)), "average", figure) for method in ("MOS", "MSP")]
            if None not in pair:
                gains.append(sign * (pair[0] - pair[1]))  # type: ignore[operator]
        return min(gains)

    return least


WITH_ACCURACY = {**FIGURES, "accuracy": "ID accuracy"}
EXPERIMENTS = (
    Experiment(
        "mos-table-1", PAPER, "Table 1", "MOS and the baselines of its time on one network, with the time each takes over that of MSP.",
        ("method", "set"), {**WITH_ACCURACY, "time": "time over MSP's"}, _table_1, TABLE,
        (
            Claim("MOS has a lower average FPR than the best of the other methods", lambda cells: _best_other(cells, "fpr", -1) - cells["MOS", "average", "fpr"]),
            Claim("MOS has a higher average AUROC than the best of the other methods", lambda cells: cells["MOS", "average", "auroc"] - _best_other(cells, "auroc", 1)),
            Claim("MOS has a lower average FPR than MSP", lambda cells: cells["MSP", "average", "fpr"] - cells["MOS", "average", "fpr"]),
            Claim("The head with groups has about the accuracy of the flat one", lambda cells: cells["MOS", "ID", "accuracy"] - cells["MSP", "ID", "accuracy"], same=True),
            Claim("KL matching takes several times as long as MSP", lambda cells: cells["KL matching", "time", "time"] - 2),
        ),
        here=HERE + " KL matching is fitted on training data; the paper's figures are of a fit on the test data, which is a row of its own. ODIN has no step, as the authors' code.",
        suite=SUITE,
    ),
    Experiment(
        "mos-aupr", PAPER, "Appendix D", "The areas under the precision-recall curves of Table 1's methods, with ID and with OOD as the positives; the paper's did not survive in our copy.",
        ("method", "set"), {"ap_id": "AP, ID positive", "ap_ood": "AP, OOD positive"},
        lambda stage: {"flat": partial(_precise, stage, _flat), "mos": partial(_precise, stage, _mos)},
        here=HERE, suite=SUITE,
    ),
    Experiment(
        "mos-figure-2", PAPER, "Figure 2", "MSP over the number of classes.", ("classes", "set"), WITH_ACCURACY, _msp_alone,
        [Record(("50", "average"), {"fpr": 17.34}), Record(("1000", "average"), {"fpr": 76.94})],
        (Claim("The FPR of MSP rises with the number of classes", lambda cells: cells[str(max(map(int, cells.names(0)))), "average", "fpr"] - cells[str(min(map(int, cells.names(0)))), "average", "fpr"]),),
        here=HERE + " The network knows 1,000 classes, its heads those that are drawn.", suite=SUITE, plot=Plot("classes", "fpr", "set"),
    ),
    Experiment(
        "mos-figure-4", PAPER, "Figure 4", "The mean probability of \"others\" in each group, of ID pictures of one group and of OOD pictures.",
        ("pictures", "group"), {"others": "mean of others"}, lambda stage: {"others": partial(_others, stage)}, (),
        (Claim("ID pictures have a low \"others\" in their own group, OOD pictures a high one in all", _own_is_low),),
        here=HERE, suite=SUITE, plot=Plot("group", "others", panel="pictures", kind="bars"),
    ),
    Experiment(
        "mos-figure-5", PAPER, "Figure 5", "MSP and MOS over the number of classes.", ("method", "classes", "set"), WITH_ACCURACY, _figure_5,
        [Record(("MSP", "50", "iNaturalist"), {"fpr": 21.02}), Record(("MSP", "1000", "iNaturalist"), {"fpr": 63.36})],
        (
            Claim("The FPR of MOS rises less with the number of classes than that of MSP", lambda cells: _rise(cells, "MSP") - _rise(cells, "MOS")),
            Claim("MOS has a lower FPR than MSP at the most classes", lambda cells: cells["MSP", max(cells.names(1), key=int), "average", "fpr"] - cells["MOS", max(cells.names(1), key=int), "average", "fpr"]),
        ),
        here=HERE + " The network knows 1,000 classes, its heads those that are drawn.", suite=SUITE, plot=Plot("classes", "fpr", "method", "set"),
    ),
    Experiment(
        "mos-figure-6", PAPER, "Figure 6", "How the classes are grouped: by taxonomy, by clusters of features, at random; beside MSP.",
        ("method", "set"), WITH_ACCURACY, _figure_6, GROUPED,
        (
            Claim("The taxonomy has a lower average FPR than clusters", lambda cells: cells["MOS, cluster", "average", "fpr"] - cells["MOS, taxonomy", "average", "fpr"]),
            Claim("Clusters have a lower average FPR than MSP", lambda cells: cells["MSP", "average", "fpr"] - cells["MOS, cluster", "average", "fpr"]),
            Claim("Random groups have a higher average FPR than clusters", lambda cells: cells["MOS, random", "average", "fpr"] - cells["MOS, cluster", "average", "fpr"]),
            Claim("Random groups cost accuracy, against the taxonomy", lambda cells: cells["MOS, taxonomy", "ID", "accuracy"] - cells["MOS, random", "ID", "accuracy"]),
        ),
        here=HERE, suite=SUITE, plot=Plot("set", "fpr", "method", kind="bars"),
    ),
    Experiment(
        "mos-groups", PAPER, "Appendix B.2", "The number of groups; the paper's figures did not survive in our copy.", ("method", "groups", "set"), WITH_ACCURACY, _groups,
        here=HERE, suite=SUITE, plot=Plot("groups", "fpr", "method", "set"),
    ),
    Experiment(
        "mos-figure-7", PAPER, "Figure 7", "MSP and MOS on several backbones, each frozen.", ("network", "method", "set"), WITH_ACCURACY, _figure_7, (),
        (Claim("MOS has a lower average FPR than MSP on every backbone", _everywhere("fpr", -1)),),
        here="In place of five sizes of BiT: two small networks trained for 4 epochs, and the three that ship, trained for 12 and 24; all heads as in Table 1.", suite=SUITE,
        plot=Plot("network", "fpr", "method", kind="bars"),
    ),
    Experiment(
        "mos-figure-8", PAPER, "Figure 8", "How many of the last blocks are fine-tuned beside the head.", ("method", "blocks", "set"), WITH_ACCURACY, _figure_8, (),
        (
            Claim("MOS has a lower average FPR than MSP whatever is fine-tuned", _everywhere("fpr", -1)),
            Claim("The more blocks are fine-tuned, the higher the accuracy", lambda cells: cells["MOS", "4", "ID", "accuracy"] - cells["MOS", "0", "ID", "accuracy"]),
        ),
        here="The BiT of Table 1; 300 steps of 128 pictures at rate 0.01.", suite=SUITE, plot=Plot("blocks", "fpr", "method", "set"),
    ),
)  # fmt: skip


def _precise(stage: Stage, cell: Callable[[Stage, bool], Iterable[Record]]) -> Iterable[Record]:
    """The areas alone."""
    found = []
    for record in cell(stage, True):
        values = {name: value for name, value in record.values.items() if name.startswith("ap_")}
        found.append(Record(record.of, values, {name: ends for name, ends in record.intervals.items() if name in values}))
    return found

"""Mueller and Hein, "How to train your ViT for OOD Detection", 2024: its study of a pool of vision transformers. No figure of the paper survives in our copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from scipy.stats import rankdata

from farfield import metrics, recipes
from farfield.classifier import Classifier
from farfield.reproduce.base import Cell, Cells, Claim, Experiment, Key, Plot, Record
from farfield.reproduce.keep import once
from farfield.reproduce.networks import slug
from farfield.reproduce.pool import MEMBERS, Member, Pool, pairs, published
from farfield.reproduce.stage import Network, Stage
from farfield.reproduce.study import ID, KINDS, METHODS, NEAR, UNIT, gathered, judged, labels, look, on, upper_half
from farfield.reproduce.verdicts import Estimate, over_seeds

PAPER = "Mueller and Hein, 2024"
SUITE = "ninco"
DISTANCES = ("Mahalanobis", "Relative Mahalanobis")
SMALL, LARGE = ("200 classes", "i1k"), ("1000 classes", "i21k")  # label spaces of pretraining, at each scale
SETTINGS = ("pretraining", "weight decay", "learning rate")
BEST = ("1000 classes, decay 0.3", "1000 classes, decay 0.3, rate 0.003", "Mahalanobis")  # what the paper recommends, as Glyphs has it
FEW = (("pretraining", "200 classes", "1000 classes"), ("weight decay", "0.05", "0.3"), ("learning rate", "0.003", "0.1"))  # of a smoke run
CONVOLUTIONAL = ("cross-entropy", "label-smoothing", "mixup", "cutmix", "regmixup", "logitnorm", "v2", "bit")
OTHERS, CORRELATION, MEAN, SOUP = "convolutional", "correlation", "mean", "soup"
DIFFERENCE = f"{UNIT} - {NEAR}"
FIGURES = {"fpr": "FPR95", "auroc": "AUROC"}
ACCURACY = {"accuracy": "ID accuracy"}
CHANGES = {f"{name}_change": f"change of {heading}" for name, heading in {**FIGURES, **ACCURACY}.items()} | {"lower": "pairs with a lower FPR95, %"}
TESTS = {"failed": "unit tests failed", "worst": "worst unit test's FPR95"}
HERE = (
    "The pool is 16 transformers of 0.3 to 0.5 million weights: 4 pretrainings (200 or 1,000 classes of Glyphs, weight decay 0.05 or 0.3; one network each), each fine-tuned on the 200 classes "
    "by SGD for 2 epochs at 4 rates. The 200 classes are among the 1,000. With the label space other things change: models of 1,000 classes are wider (120 for 88) and saw half as many pictures "
    "again; those of 200 saw the very task they are fine-tuned on. Intervals of the effects of label space and decay are over two pairs of pretrainings, with one degree of freedom. The rate "
    "0.003 is undertrained in 2 epochs."
)


def members(stage: Stage) -> list[Member]:
    """The transformers of this scale, or the one that stands in for them; in a smoke run the first, and one for each setting that differs in it."""
    if stage.glyphs:
        everyone = list(MEMBERS.values())
        return [everyone[0], *(pairs(everyone, *change)[0][1] for change in FEW)] if stage.smoke else everyone
    return published() if stage.model is None else [Member(stage.model, {"pretraining": "given"})]


def network(stage: Stage, name: str) -> Network:
    """A classifier by name: a transformer of the pool, or another."""
    if stage.glyphs and name in MEMBERS:
        return Network(name, Pool(stage.networks, stage.out / "pool").get(name).to(stage.device), "vit")
    return stage.network(name, name)


def told(stage: Stage, name: str) -> list[Record]:
    """The figures of a classifier; all experiments are of them."""
    return look(stage, name, partial(network, stage), stage.suite(SUITE))


def columns(stage: Stage, some: Iterable[Member]) -> dict[tuple[str, str], np.ndarray]:
    """The figures of some transformers, an array each."""
    return gathered(told(stage, one.name) for one in some)


def _mean(values: Sequence[float]) -> Estimate:
    """The mean with its interval by Student's t. A `KeyError` where there is nothing."""
    if not values:
        raise KeyError("no figures")
    return over_seeds(values)


def _negated(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (-ends[1], -ends[0])


# --- accuracy against FPR -----------------------------------------------------------------------------------------------------------------------


def _of_model(stage: Stage, group: str, name: str) -> Iterable[Record]:
    return [Record((group, name, *record.of), record.values, record.intervals) for record in told(stage, name)]


def _correlated(stage: Stage) -> Iterable[Record]:
    """The correlations over all transformers, and over those of each pretraining set."""
    everyone, found = members(stage), []
    groups = {"all": everyone} | {space: [one for one in everyone if one.settings["pretraining"] == space] for space in (*SMALL, *LARGE, "clip")}
    for group, some in groups.items():
        figures = columns(stage, some)
        for method in METHODS.values() if len(some) > 3 else ():
            accuracy, (near, unit) = figures[ID, "accuracy"], (figures[on(method, kind), "fpr"] for kind in KINDS)
            found.append(Record((group, CORRELATION, on(method, NEAR)), *metrics.correlations(accuracy, near)))
            found.append(Record((group, CORRELATION, on(method, UNIT)), *metrics.correlations(accuracy, unit)))
            found.append(Record((group, CORRELATION, on(method, DIFFERENCE)), *metrics.correlations(accuracy, unit, near)))
    return [record for record in found if record.values]


def _accuracy(stage: Stage) -> Mapping[str, Cell]:
    pool: dict[str, Cell] = {one.name: partial(_of_model, stage, one.pretraining, one.name) for one in members(stage)}
    if not stage.glyphs:
        return pool if stage.model is not None else {**pool, CORRELATION: partial(_correlated, stage)}
    return {**pool, **{name: partial(_of_model, stage, OTHERS, name) for name in CONVOLUTIONAL}, CORRELATION: partial(_correlated, stage)}


def _r(method: str, kind: str, cells: Cells) -> float:
    return 100 * cells["all", CORRELATION, on(method, kind), "pearson"]


def _minus_r(method: str, kind: str, cells: Cells) -> float:
    return -_r(method, kind, cells)


def _r_ends(method: str, kind: str, cells: Cells) -> tuple[float, float] | None:
    found = cells.ends.get(("all", CORRELATION, on(method, kind), "pearson"))
    return None if found is None else (100 * found[0], 100 * found[1])


def _minus_r_ends(method: str, kind: str, cells: Cells) -> tuple[float, float] | None:
    return _negated(_r_ends(method, kind, cells))


def _accurate(figure: str, above: float, cells: Cells) -> float:
    """By how much the highest figure on unit tests, by a distance, of the more accurate half of the transformers is above a number."""
    models = {where[:2] for where in cells.known if where[0] != OTHERS and where[1] != CORRELATION}
    best = upper_half({of: cells[(*of, ID, "accuracy")] for of in models})
    return max(cells[(*of, on(method, UNIT), figure)] for of in best for method in DISTANCES) - above


def _accuracy_claims() -> Iterable[Claim]:
    for method in METHODS.values():
        text = f"The more accurate a model, the lower its FPR on near OOD ({method}; correlation x 100, its sign turned)"
        yield Claim(text, partial(_minus_r, method, NEAR), interval=partial(_minus_r_ends, method, NEAR))
    for method in DISTANCES:
        text = f"On unit tests accuracy and FPR are not correlated ({method}; correlation x 100, its sign turned)"
        yield Claim(text, partial(_minus_r, method, UNIT), same=True, interval=partial(_minus_r_ends, method, UNIT))
        text = f"A low FPR goes with accuracy less on unit tests than on near OOD ({method}; difference of correlations x 100)"
        yield Claim(text, partial(_r, method, DIFFERENCE), interval=partial(_r_ends, method, DIFFERENCE))
    yield Claim(
        "Some of the more accurate half of the models fail unit tests by a distance (the most that one fails)", partial(_accurate, "failed", 0.0)
    )
    yield Claim(
        "Some of the more accurate half have a mean FPR above 50 % on unit tests by a distance (the highest, less 50)",
        partial(_accurate, "fpr", 50.0),
    )


# --- what pretraining and fine-tuning do --------------------------------------------------------------------------------------------------------


def ends(setting: str, values: Sequence[str]) -> tuple[str, str]:
    """Of the values of a setting, the one that the paper has for the worst, and that for the best.

    >>> ends("weight decay", ["0.05", "0.3"]), ends("learning rate", ["0.1", "0.01"]), ends("pretraining", ["1000 classes", "200 classes"])
    (('0.05', '0.3'), ('0.1', '0.01'), ('200 classes', '1000 classes'))
    """
    if setting == "pretraining":
        return next((small, large) for small, large in zip(SMALL, LARGE, strict=True) if small in values)
    ordered = sorted(values, key=float, reverse=setting == "learning rate")
    return ordered[0], ordered[-1]


def _effect(stage: Stage, setting: str) -> Iterable[Record]:
    """The mean figures of models by a setting, and the mean difference of pairs that differ in it alone."""
    everyone = members(stage)
    values = list(dict.fromkeys(one.settings[setting] for one in everyone if setting in one.settings))
    found = []
    for value in values:
        figures = columns(stage, [one for one in everyone if one.settings.get(setting) == value])
        found += [Record((setting, value, label), mean) for label, mean in means(figures).items()]
    if len(values) < 2:
        return found
    worse, better = ends(setting, values)
    matched = pairs(everyone, setting, worse, better)
    if not matched:
        return found
    units = np.unique([" ".join((a.pretraining, b.pretraining, a.architecture)) for a, b in matched], return_inverse=True)[1]
    before, after = (columns(stage, side) for side in zip(*matched, strict=True))
    for label in (*labels(), ID):
        changes = {name: after[label, name] - before[label, name] for name in ((*ACCURACY,) if label == ID else FIGURES)}
        found.append(Record((setting, f"{better} - {worse}", label), *paired(changes, units)))
    return found


def means(figures: Mapping[tuple[str, str], np.ndarray]) -> dict[str, dict[str, float]]:
    """The mean figures of some models by what they are of."""
    found = {label: {name: float(figures[label, name].mean()) for name in FIGURES} for label in labels()}
    return {**found, ID: {name: float(figures[ID, name].mean()) for name in ACCURACY}}


def paired(changes: Mapping[str, np.ndarray], units: np.ndarray) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Mean differences of pairs, and the percentage of them in which the FPR is lower, if it is among the figures.

    The intervals are by Student's t over the units, each with the mean of its pairs: pairs of the same pretrainings are not independent.
    """
    values, intervals = {}, {}
    if "fpr" in changes:
        values["lower"] = 100 * float((changes["fpr"] < 0).mean())
    for name, change in changes.items():
        estimate = over_seeds([float(change[units == unit].mean()) for unit in np.unique(units)])
        values[f"{name}_change"] = estimate.value
        if estimate.interval is not None:
            intervals[f"{name}_change"] = estimate.interval
    return values, intervals


def _where(setting: str, label: str, cells: Cells) -> Key:
    value = next(where[1] for where in cells.known if where[0] == setting and where[3] == "fpr_change")
    return (setting, value, label, "fpr_change")


def _less(setting: str, label: str, cells: Cells) -> float:
    return -cells[_where(setting, label, cells)]


def _less_ends(setting: str, label: str, cells: Cells) -> tuple[float, float] | None:
    return _negated(cells.ends.get(_where(setting, label, cells)))


def _settings_claims() -> Iterable[Claim]:
    said = ("pretrained on the large label space", "pretrained with the larger weight decay", "fine-tuned at the smallest rate")
    for setting, words in zip(SETTINGS, said, strict=True):
        for label in (on("Mahalanobis", kind) for kind in KINDS):
            yield Claim(f"A model {words} has a lower FPR ({label})", partial(_less, setting, label), interval=partial(_less_ends, setting, label))
    yield Claim("After CLIP the distances have a higher FPR on near OOD than MaxLogit", _after_clip)


def _after_clip(cells: Cells) -> float:
    fpr = {method: cells["pretraining", "clip", on(method, NEAR), "fpr"] for method in METHODS.values()}
    return min(fpr[method] for method in DISTANCES) - fpr["MaxLogit"]


# --- the best method and model ------------------------------------------------------------------------------------------------------------------


def _ranked(stage: Stage) -> Iterable[Record]:
    """Each model by each method, ranked by the higher of its two mean FPRs, and the means over the models of each pretraining."""
    everyone = members(stage)
    figures, rows = columns(stage, everyone), []
    for method in METHODS.values():
        near, unit = (figures[on(method, kind), "fpr"] for kind in KINDS)
        each = {"near": near, "unit": unit, "either": np.maximum(near, unit), "failed": figures[on(method, UNIT), "failed"]}
        rows += [((one.pretraining, one.name, method), {name: float(values[i]) for name, values in each.items()}) for i, one in enumerate(everyone)]
    ranks = rankdata([values["either"] for _, values in rows], method="min")
    found = [Record(of, {**values, "rank": float(rank)}) for (of, values), rank in zip(rows, ranks, strict=True)]
    for name in dict.fromkeys(one.pretraining for one in everyone):
        for method in METHODS.values():
            mine = [values for of, values in rows if (of[0], of[2]) == (name, method)]
            found.append(Record((name, MEAN, method), {figure: float(np.mean([values[figure] for values in mine])) for figure in mine[0]}))
    return found


def _gains(figure: str, cells: Cells) -> list[float]:
    """By how much Mahalanobis has a lower mean figure than the best other method, for each pretraining on the large label space."""
    found = []
    for name in (name for name in cells.names(0) if name.startswith(LARGE)):
        mean = {method: cells[name, MEAN, method, figure] for method in METHODS.values()}
        found.append(min(value for method, value in mean.items() if method != "Mahalanobis") - mean["Mahalanobis"])
    return found


def _gain(figure: str, cells: Cells) -> float:
    return _mean(_gains(figure, cells)).value


def _gain_ends(figure: str, cells: Cells) -> tuple[float, float] | None:
    return _mean(_gains(figure, cells)).interval


def _best_claims() -> Iterable[Claim]:
    for figure, words in (("near", "on near OOD"), ("unit", "on unit tests"), ("either", "on the worse of the two")):
        text = f"Mahalanobis has a lower mean FPR {words} than the best other method, on models of the large label space"
        yield Claim(text, partial(_gain, figure), interval=partial(_gain_ends, figure))
    yield Claim("The best of all is Mahalanobis on a model of the large label space, the larger decay and the smallest rate", _lead)


def _lead(cells: Cells) -> float:
    """By how much what the paper recommends is better than the best of the rest."""
    either = {where[:3]: value for where, value in cells.known.items() if where[3] == "either" and where[1] != MEAN}
    return min(value for of, value in either.items() if of != BEST) - either[BEST]


# --- soups --------------------------------------------------------------------------------------------------------------------------------------


def stirred(stage: Stage, name: str, some: Sequence[Member]) -> Network:
    """The uniform soup of models that were fine-tuned from the same pretraining."""
    folder, suite = stage.place / "soups" / slug(name), stage.suite(SUITE)
    if not (folder / "model.safetensors").exists():
        pool = Pool(stage.networks, stage.out / "pool")
        names = [str(pool.file(one.name)) if stage.glyphs else one.name for one in some]
        recipes.soup(names, "vit" if stage.glyphs else names[0], stage.training(suite), folder, half=True, progress=stage.progress)
    classifier = Classifier.load(str(folder)).to(stage.device)
    classifier.name = f"soup, {name}"
    return Network(classifier.name, classifier, "vit")


def _soup(stage: Stage, name: str, some: Sequence[Member]) -> Iterable[Record]:
    """A soup beside its members: their mean, and the one with the lowest FPR, which nobody can know beforehand."""
    figures = columns(stage, some)
    mixed = once(stage, f"pool/soup-{slug(name)}", lambda: judged(stage, stirred(stage, name, some), stage.suite(SUITE)))
    found = [Record((name, SOUP, *record.of), record.values, record.intervals) for record in mixed]
    found += [Record((name, "mean of members", label), mean) for label, mean in means(figures).items()]
    for label in labels():
        best = int(figures[label, "fpr"].argmin())
        found.append(Record((name, "best member", label), {figure: float(figures[label, figure][best]) for figure in FIGURES}))
    return found


def _soups(stage: Stage) -> Mapping[str, Cell]:
    groups: dict[Key, list[Member]] = {}
    for one in members(stage):
        groups.setdefault(one.but("learning rate"), []).append(one)
    several = [some for some in groups.values() if len(some) > 1]
    return {name: partial(_soup, stage, name, some) for some in several for name in [f"{some[0].pretraining} {some[0].architecture}".strip()]}


def _saved(over: str, label: str, sign: int, cells: Cells) -> list[float]:
    """By how much the FPR of each soup is below that of its members, or above it."""
    return [sign * (cells[name, over, label, "fpr"] - cells[name, SOUP, label, "fpr"]) for name in cells.names(0)]


def _saving(over: str, label: str, sign: int, cells: Cells) -> float:
    return _mean(_saved(over, label, sign, cells)).value


def _saving_ends(over: str, label: str, sign: int, cells: Cells) -> tuple[float, float] | None:
    return _mean(_saved(over, label, sign, cells)).interval


def _soup_claims() -> Iterable[Claim]:
    for label in (on("Mahalanobis", kind) for kind in KINDS):
        of = ("mean of members", label, 1)
        text = f"A soup has about the FPR that its members have on average ({label})"
        yield Claim(text, partial(_saving, *of), same=True, interval=partial(_saving_ends, *of))
        of = ("best member", label, -1)
        text = f"A soup has a higher FPR than the best of its members ({label})"
        yield Claim(text, partial(_saving, *of), interval=partial(_saving_ends, *of))


EXPERIMENTS = (
    Experiment(
        "vit-accuracy", PAPER, "Accuracy against FPR", "Each model's accuracy, and its FPR on near OOD and on the 17 unit tests, with the correlation of the two over the models.",
        ("pretraining", "model", "on"), {**FIGURES, **ACCURACY, **TESTS, "pearson": "Pearson's r", "spearman": "Spearman's r"}, _accuracy, (), tuple(_accuracy_claims()),
        here=HERE + " Eight convolutional networks of the training table stand beside them, and in no correlation. The intervals of correlations are a bootstrap over the 16 models as if "
        "these were independent; they share 4 pretrainings, so the intervals are too narrow. A unit test is failed where more than 10 % of its 100 pictures are taken for ID.",
        suite=SUITE, plot=Plot("accuracy", "fpr", "pretraining", "on", "points"),
    ),
    Experiment(
        "vit-pretraining", PAPER, "The effect of label space, weight decay and learning rate", "The mean FPR of models by what they were pretrained on, with what weight decay, and at what rate "
        "they were fine-tuned; and the mean difference of models that differ in that alone.",
        ("setting", "value", "on"), {**FIGURES, **ACCURACY, **CHANGES}, lambda stage: {name: partial(_effect, stage, name) for name in SETTINGS}, (), tuple(_settings_claims()),
        here=HERE + " The intervals of differences are over pretrainings: two pairs for the label space and two for the decay, each of one network a side, and four for the rate. Since the pairs of the first two are the same four pretrainings, their intervals are as wide as the effects depend on each other, and with a single degree of freedom.",
        suite=SUITE, plot=Plot("value", "fpr", "on", "setting", "bars"),
    ),
    Experiment(
        "vit-best", PAPER, "The best method and model", "Each model by each method, ranked by the higher of its mean FPRs on near OOD and on unit tests; and the means of each pretraining.",
        ("pretraining", "model", "method"), {"near": "FPR95, near OOD", "unit": "FPR95, unit tests", "either": "the higher", "failed": "unit tests failed", "rank": "rank"},
        lambda stage: {"ranking": partial(_ranked, stage)}, (),
        tuple(_best_claims()),
        here=HERE + " The intervals of claims are over the two pretrainings of the large label space.", suite=SUITE, plot=Plot("near", "unit", "pretraining", "method", "points"),
    ),
    Experiment(
        "vit-soups", PAPER, "Soups", "The average of the weights of models that differ in the rate of fine-tuning alone, beside its members.", ("pretraining", "models", "on"),
        {**FIGURES, **ACCURACY, **TESTS}, _soups, (), tuple(_soup_claims()),
        here=HERE + " A soup is of the 4 rates of a pretraining; the BatchNorm of its stem has its statistics taken anew. The paper's soups are of models fine-tuned from CLIP. The intervals of claims are over the 4 soups.",
        suite=SUITE, plot=Plot("pretraining", "fpr", "models", "on", "bars"),
    ),
)  # fmt: skip

"""Which members is the detector `panel` to have, and is it then worth being the default?

    python experiments/panel.py --design --out FOLDER   # trains four small classifiers, and chooses members, `by` and `tail` on them
    python experiments/panel.py --judge --out FOLDER    # judges that choice, once, on the six classifiers that ship and on sets not used so far

Both write a JSON file into FOLDER and print Markdown. Stopped and started again they go on where they were. `--judge` takes the choice from the
file that `--design` wrote, and refuses to run without it; nothing that it finds goes back.

DESIGN looks at four classifiers that do not ship (`DESIGNS`: three architectures, three losses, other seeds), each trained on 160 of the 200
characters of `glyphs-200`, on one drawing of its training split. Their OOD sets are made of ID calibration data and of noise: renderings of the 40 characters left out (`left-out`) and
two characters on top of each other (`mixup`), both near; `jigsaw` and `channels`, the suite's validation sets; and of the 17 noise families those
of even number. The panel is calibrated on the calibration split; its AUROC is measured against other renderings of the same characters.

JUDGE looks at the six classifiers that ship, calibrated on the calibration split, on the test split, `letters`, `scripts` (near), `photos`, and the
noise families of odd number, each a set of its own.

THE CRITERION, written before anything was scored. For a panel g and a design classifier c let W(g, c) be the lowest AUROC over its sets, and N(g, c)
the mean over its near sets minus that of the single score that is best there. All panels of 2 to 4 of `MEMBERS`, with every rule in `BY` and every
`TAIL`, stand for choice.

1. Averaged over any three of the four classifiers, N must be at least -2 points (if no panel has that: those with the highest such average).
2. Of these, J(g) = the lowest average of W over any three of the four is to be high: no single classifier carries the choice.
3. Of those within half a point of the highest J: the fewest members; of these the highest J.

How much of it is luck is told by choosing on three classifiers (the highest average W subject to an average N of at least -2) and looking at the
fourth, four times.

IT HOLDS AND IS TO BE THE DEFAULT, also written before: if on the average of the six classifiers that ship (a) its worst set is above that of every
single score, (b) its mean over sets is not below that of the best single score by more than 1 point, and (c) its near mean is within 2 points of the
best single score's.

Time: some minutes of training for each design classifier and some of scoring, on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import farfield as ff
from farfield import metrics, models
from farfield.data import glyphs, noise, suites
from farfield.data.images import Images
from farfield.data.transforms import Normalize
from farfield.detectors import parse
from farfield.detectors.panel import BY, Panel, tail_of, together
from farfield.training import Recipe, train

MEMBERS = (
    *("msp", "maxlogit", "energy", "gen", "mahalanobis", "mahalanobis++", "relative-mahalanobis", "relative-mahalanobis++"),
    *("knn", "nnguide", "she", "residual", "vim", "fdbd"),
)
TAIL = (0.02, 0.05, 0.1)
PROPOSED = ("gen", "relative-mahalanobis", "residual")  # harmonic, tail 0.05: the panel before this experiment. Shown beside; no part of the verdict
MOST = 4  # members
PRICE = 0.02  # AUROC that a panel may cost near
CLOSE = 0.005  # AUROC within which the smaller panel is taken
NOISE = 100  # pictures of a noise family, in design
OTHERS = 500  # pictures of the other sets, in design
NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SGD = Recipe(epochs=4, batch_size=128, lr=0.1, weight_decay=5e-4, optimizer="sgd", warmup=0.1)
ADAM = Recipe(epochs=7, batch_size=128, lr=1e-3, weight_decay=0.05, optimizer="adamw", warmup=0.1)


def normalised(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits brought to length 1 and divided by 0.05 (Wei et al., ICML 2022)."""
    return F.cross_entropy(F.normalize(logits, dim=1) / 0.05, labels)


# Architecture, recipe, loss and which fifth of the classes is left out.
DESIGNS = {
    "resnet-smoothed": ("resnet", SGD, 11, partial(F.cross_entropy, label_smoothing=0.1), 0),
    "bit-plain": ("bit", SGD, 12, F.cross_entropy, 1),
    "vit-plain": ("vit", ADAM, 13, F.cross_entropy, 2),
    "resnet-normalised": ("resnet", SGD, 14, normalised, 3),
}


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


# --- design: classifiers and sets -----------------------------------------------------------------------------------------------------------


def apart(images: Images, fifth: int) -> tuple[Images, Images]:
    """The pictures of the classes that a design classifier knows, with its labels, and those of the classes it does not."""
    out = images.labels % 5 == fifth
    known = torch.tensor([label for label in range(200) if label % 5 != fifth])
    mine = torch.searchsorted(known, images.labels[~out])
    return Images(images.name, images.images[~out], mine), Images("left-out", images.images[out], torch.full((int(out.sum()),), -1))


def trained(name: str, out: Path) -> ff.Classifier:
    """A design classifier, trained where it is not there."""
    architecture, recipe, seed, loss, fifth = DESIGNS[name]
    path = out / "classifiers" / f"{name}.safetensors"
    if not path.exists():
        torch.manual_seed(seed)
        module = models.build(architecture, 160).to(memory_format=torch.channels_last)

        def progress(what: str, done: int, total: int) -> None:
            if done % 25 == 0 or done == total:
                say(f"{name}: {what} {done}/{total}")

        started = time.perf_counter()
        pictures = apart(suites.load("glyphs-200").split("train"), fifth)[0]
        history = train(module, pictures, replace(recipe, seed=seed), transform=NORMALIZE, out=out / "training" / name, loss=loss, progress=progress)
        facts = {"architecture": architecture, "classes": 160, "mean": NORMALIZE.mean, "std": NORMALIZE.std, "design": name}
        models.save(module, path, facts)
        say(f"{name}: trained in {time.perf_counter() - started:.0f} s, last epoch's accuracy {history[-1]['accuracy']:.3f}")
    return ff.Classifier.load(str(path))


def design_sets(fifth: int) -> dict[str, Images]:
    """What a design classifier is looked at on: `train`, `calibration` and `id`, and the OOD sets."""
    suite = suites.load("glyphs-200")
    found = {split: apart(suite.split(split), fifth)[0] for split in ("train", "calibration")}
    found["id"], found["left-out"] = apart(glyphs.draw_split(200, "calibration", 3), fifth)
    found["mixup"] = mixed(apart(glyphs.draw_split(200, "calibration", 4), fifth)[0])
    for made in suite.validation:
        pictures = made.load().images[:OTHERS]
        found[made.name] = Images(made.name, pictures, torch.full((len(pictures),), -1))
    for family in noise.FAMILIES[::2]:
        pictures = noise.generate(family, NOISE, (32, 32), seed=7, source=found["calibration"].images)
        found[family] = Images(family, pictures, torch.full((NOISE,), -1))
    return found


def mixed(images: Images) -> Images:
    """Pictures halfway between two of different classes."""
    other = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    apart_ = images.labels != images.labels[other]
    pairs = (images.images.short() + images.images[other].short()) // 2
    pictures = pairs[apart_].to(torch.uint8)[:OTHERS]
    return Images("mixup", pictures, torch.full((len(pictures),), -1))


def judge_sets(suite_name: str) -> dict[str, Images]:
    """What a classifier that ships is judged on: `train`, `calibration` and `id`, and the test OOD sets."""
    suite = suites.load(suite_name)
    found = {split: suite.split(split) for split in ("train", "calibration")} | {"id": suite.split("test")}
    for entry in suite.ood:
        if entry.group != "shifted" and entry.name != "noise":
            found[entry.name] = entry.load()
    whole = next(entry.load() for entry in suite.ood if entry.name == "noise")
    for family in noise.FAMILIES[1::2]:
        rows = whole.parts[family]
        found[family] = Images(family, whole.images[rows], whole.labels[rows])
    return found


# --- scores ---------------------------------------------------------------------------------------------------------------------------------


Scores = dict[str, dict[str, Tensor]]  # by set (`calibration`, `id` and the OOD sets), then by member


def scored(classifier: ff.Classifier, sets: Iterable[tuple[str, Images]], path: Path, store: Path) -> Scores:
    """Every member's scores on every set but `train`, from a file where they are there."""
    if not path.exists():
        outputs = {}
        for name, images in sets:
            outputs[name] = ff.collect(classifier, images, out=store)
            say(f"{classifier.name}: {name}, {len(images)} pictures")
        train_data, tensors = outputs.pop("train").load(), {}
        for member in MEMBERS:
            started = time.perf_counter()
            detector = parse(member)(train_data)
            for name, stored in outputs.items():
                tensors[f"{member}/{name}"] = torch.cat([detector(chunk).double() for chunk in stored])
            say(f"{classifier.name}: {member}, {time.perf_counter() - started:.1f} s")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
    found: Scores = {}
    for key, values in load_file(path).items():
        member, _, name = key.partition("/")
        found.setdefault(name, {})[member] = values
    return found


def stacked(scores: dict[str, Tensor], members: Iterable[str]) -> Tensor:
    """A column for each member."""
    return torch.stack([scores[member] for member in members], 1)


def panel_of(calibration: Tensor, by: str, tail: float) -> Panel:
    """The panel of members with these scores (n, j) on calibration data; it only combines."""
    known = calibration.sort(0).values.T.contiguous()
    laws = [tail_of(column, tail) for column in known]
    shape, scale = (torch.stack([law[i] for law in laws]) for i in (0, 1))
    return Panel(members="scores", by=by, tail=tail, known=known, shape=shape, scale=scale)


def combined(panel: Panel, scores: Tensor) -> Tensor:
    """The panel's score of its members', some rows at a time."""
    return torch.cat([panel.combined(rows) for rows in scores.split(2000)])


# --- design: the choice -----------------------------------------------------------------------------------------------------------------------

NEAR = ("left-out", "mixup")


def aurocs(s_in: np.ndarray, s_out: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The AUROC of each of several OOD sets that lie one after the other in `s_out`, from `starts` on."""
    s_in = np.sort(s_in)
    above = 2 * s_in.size - np.searchsorted(s_in, s_out, "left") - np.searchsorted(s_in, s_out, "right")
    sizes = np.diff(np.append(starts, s_out.size))
    return np.add.reduceat(above, starts) / sizes / (2 * s_in.size)


class Looked:
    """One design classifier's scores, ready for many panels."""

    def __init__(self, scores: Scores) -> None:
        self.sets = [name for name in scores if name not in ("calibration", "id")]
        self.calibration = stacked(scores["calibration"], MEMBERS)
        every = [stacked(scores[name], MEMBERS) for name in ("id", *self.sets)]
        self.n_in = len(every[0])
        self.starts = np.cumsum([0, *(len(part) for part in every[1:-1])])
        self.scores = torch.cat(every)
        self.near = [self.sets.index(name) for name in NEAR]
        self.singles = {member: self.figures(self.scores[:, i]) for i, member in enumerate(MEMBERS)}
        self.best_near = max(near for _, _, near in self.singles.values())

    def aurocs(self, values: Tensor) -> np.ndarray:
        array = values.numpy()
        return aurocs(array[: self.n_in], array[self.n_in :], self.starts)

    def figures(self, values: Tensor) -> tuple[float, float, float]:
        """Worst set, mean over sets, mean over near sets."""
        found = self.aurocs(values)
        return float(found.min()), float(found.mean()), float(found[self.near].mean())


Config = tuple[tuple[str, ...], str, float]


def configs() -> list[Config]:
    """All panels that stand for choice; the z-score has no tail."""
    found = []
    for members in itertools.chain.from_iterable(itertools.combinations(MEMBERS, size) for size in range(2, MOST + 1)):
        found += [(members, by, tail) for by in BY for tail in TAIL if by != "z-score" or tail == 0.05]
    return found


def looked_at(looked: Looked, name: str) -> np.ndarray:
    """Worst, mean and near of every panel in `configs()`, on one classifier."""
    columns = {}
    for tail in TAIL:
        panel = panel_of(looked.calibration, "harmonic", tail)
        columns[tail] = torch.cat([panel.log_p(rows) for rows in looked.scores.split(2000)])
    z = panel_of(looked.calibration, "z-score", 0.05).z(looked.scores)
    every, found = configs(), []
    for i, (members, by, tail) in enumerate(every):
        which = [MEMBERS.index(member) for member in members]
        values = z[:, which].mean(1) if by == "z-score" else together(columns[tail][:, which], by, len(looked.calibration))
        found.append(looked.figures(values))
        if i % 2000 == 0:
            say(f"{name}: panel {i} of {len(every)}")
    return np.array(found)


def chosen(figures: np.ndarray, best_near: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The criterion: which of the panels (figures: classifiers x panels x 3), and J and the lowest average N of each."""
    worst, price = figures[:, :, 0], figures[:, :, 2] - best_near[:, None]
    threes = [[c for c in range(len(figures)) if c != left] for left in range(len(figures))]
    j = np.min([worst[three].mean(0) for three in threes], axis=0)
    n = np.min([price[three].mean(0) for three in threes], axis=0)
    allowed = n >= -PRICE if (n >= -PRICE).any() else n == n.max()
    top = j[allowed].max()
    sizes = np.array([len(members) for members, _, _ in configs()])
    close = allowed & (j >= top - CLOSE)
    smallest = close & (sizes == sizes[close].min())
    return int(np.where(smallest, j, -1).argmax()), j, n


def name_of(config: Config) -> str:
    members, by, tail = config
    return f"{'/'.join(members)}, {by}" + ("" if by == "z-score" else f", tail {tail}")


def design(out: Path) -> None:
    """Trains, scores, looks at all panels and writes the choice."""
    looked = {}
    for name, (*_, fifth) in DESIGNS.items():
        classifier, path = trained(name, out), out / "scores" / f"{name}.safetensors"
        sets = [] if path.exists() else design_sets(fifth).items()
        looked[name] = Looked(scored(classifier, sets, path, out / "store"))
    accuracy = {name: accuracy_of(trained(name, out), DESIGNS[name][4], out) for name in DESIGNS}
    figures = np.stack([looked_at(entry, name) for name, entry in looked.items()])
    best_near = np.array([entry.best_near for entry in looked.values()])
    index, j, n = chosen(figures, best_near)
    every, names = configs(), list(DESIGNS)
    held = []
    for left, name in enumerate(names):
        rest = [c for c in range(len(names)) if c != left]
        worst, price = figures[rest, :, 0].mean(0), (figures[rest, :, 2] - best_near[rest, None]).mean(0)
        allowed = price >= -PRICE if (price >= -PRICE).any() else price == price.max()
        one = int(np.where(allowed, worst, -1).argmax())
        best_single = max(MEMBERS, key=lambda member, rest=rest: np.mean([looked[names[c]].singles[member][0] for c in rest]))
        held.append({
            "left out": name, "chosen": name_of(every[one]), "its worst set there": figures[left, one, 0],
            "its price near there": figures[left, one, 2] - best_near[left],
            "single of the best worst set": best_single, "worst set of that": looked[name].singles[best_single][0],
        })  # fmt: skip
    members, by, tail = every[index]
    single = {member: np.mean([entry.singles[member] for entry in looked.values()], axis=0).tolist() for member in MEMBERS}
    allowed = np.flatnonzero(n >= -PRICE)
    order = allowed[np.argsort(-j[allowed])][:20]
    by_rule = {
        f"{rule}, {size} members": max(((j[i], name_of(every[i])) for i in allowed if every[i][1] == rule and len(every[i][0]) == size), default=None)
        for rule in BY for size in range(2, MOST + 1)
    }  # fmt: skip
    before = every.index((PROPOSED, "harmonic", 0.05))
    result = {
        "members": "/".join(members), "by": by, "tail": tail, "J": j[index], "N": n[index], "panels": len(every), "allowed": len(allowed),
        "accuracy": accuracy, "best near": dict(zip(names, best_near.tolist(), strict=True)),
        "chosen": {name: sets_of(looked[name], every[index]) for name in names},
        "singles by set": {name: {m: dict(zip(e.sets, e.aurocs(e.scores[:, i]).tolist(), strict=True)) for i, m in enumerate(MEMBERS)} for name, e in looked.items()},
        "mean over classifiers: worst, mean, near": {
            "panel": figures[:, index].mean(0).tolist(), "gen/relative-mahalanobis/residual": figures[:, before].mean(0).tolist(), **single,
        },
        "top": [{"panel": name_of(every[i]), "J": j[i], "N": n[i]} for i in order], "best by rule": by_rule, "left out": held,
    }  # fmt: skip
    write(out / "design.json", result)
    print(f"Chosen of {len(every):,} panels: **{name_of(every[index])}**, J {100 * j[index]:.1f}, N {100 * n[index]:+.1f}.\n")
    print(f"Accuracy on known characters: {', '.join(f'{name} {100 * value:.1f} %' for name, value in accuracy.items())}.\n")
    table(["score", "worst set", "mean over sets", "near"], [
        [label, *(f"{100 * value:.1f}" for value in row)] for label, row in result["mean over classifiers: worst, mean, near"].items()
    ])  # fmt: skip
    table(["left out", "chosen on the others", "worst set", "near, against the best", "best single for the worst set", "worst set"], [
        [e["left out"], e["chosen"], f"{100 * e['its worst set there']:.1f}", f"{100 * e['its price near there']:+.1f}",
         e["single of the best worst set"], f"{100 * e['worst set of that']:.1f}"] for e in held
    ])  # fmt: skip


def sets_of(looked: Looked, config: Config) -> dict[str, float]:
    """A panel's AUROC on each set, by the detector's own code."""
    members, by, tail = config
    which = [MEMBERS.index(member) for member in members]
    values = combined(panel_of(looked.calibration[:, which], by, tail), looked.scores[:, which])
    return dict(zip(looked.sets, looked.aurocs(values).tolist(), strict=True))


def accuracy_of(classifier: ff.Classifier, fifth: int, out: Path) -> float:
    outputs = ff.collect(classifier, apart(glyphs.draw_split(200, "calibration", 3), fifth)[0], out=out / "store").load()
    return float((outputs.predictions() == outputs.labels).double().mean())


# --- judging ----------------------------------------------------------------------------------------------------------------------------------


def judge(out: Path) -> None:
    """The choice on the classifiers that ship."""
    try:
        choice = json.loads((out / "design.json").read_text("utf-8"))
    except OSError:
        raise SystemExit(f"{out / 'design.json'} is not there: run --design first.") from None
    members, by, tail = choice["members"].split("/"), choice["by"], choice["tail"]
    result: dict[str, object] = {"members": choice["members"], "by": by, "tail": tail}
    lines, classifiers = {}, {}
    for name in models.SHIPPED:
        path, suite = out / "scores" / f"{name}.safetensors", name.rpartition("-")[0]
        sets = judge_sets(suite)
        scores = scored(ff.Classifier.load(name), sets.items(), path, out / "store")
        clusters = {key: None if images.clusters is None else images.clusters.numpy() for key, images in sets.items()}
        panel = panel_of(stacked(scores["calibration"], members), by, tail)
        ours = {key: combined(panel, stacked(entry, members)).numpy() for key, entry in scores.items() if key != "calibration"}
        singles = {member: {key: entry[member].numpy() for key, entry in scores.items() if key != "calibration"} for member in MEMBERS}
        old = panel_of(stacked(scores["calibration"], PROPOSED), "harmonic", 0.05)
        before = {key: combined(old, stacked(entry, PROPOSED)).numpy() for key, entry in scores.items() if key != "calibration"}
        shown_scores = {"panel": ours, "proposed": before, **singles}
        lines[name] = {label: figures_of(values) for label, values in shown_scores.items()}
        classifiers[name] = {
            "sets": {label: {key: metrics.auroc(v["id"], v[key]) for key in v if key != "id"} for label, v in shown_scores.items()},
            "figures": lines[name], "differences": differences(ours, singles, lines[name], clusters),
            "calibration": by_size(scores, members, by, tail),
        }  # fmt: skip
        say(f"{name}: judged")
    mean = {label: np.mean([entry[label] for entry in lines.values()], axis=0).tolist() for label in ("panel", "proposed", *MEMBERS)}
    tops = {column: max((mean[m][i], m) for m in MEMBERS) for i, column in enumerate(COLUMNS)}
    verdict = {
        "worst set above every single score's": mean["panel"][0] > tops["worst"][0],
        "mean at most 1 point below the best": mean["panel"][1] >= tops["mean"][0] - 0.01,
        "near at most 2 points below the best": mean["panel"][2] >= tops["near"][0] - PRICE,
    }
    result |= {"mean over classifiers": mean, "best single": tops, "verdict": verdict, "classifiers": classifiers}
    write(out / "judge.json", result)
    print(f"Panel {choice['members']}, {by}, tail {tail}. AUROC in percent, worst set / mean over sets / near.\n")
    table(["score", *models.SHIPPED, "mean"], [
        [label, *(shown(lines[name][label]) for name in models.SHIPPED), shown(mean[label])] for label in ("panel", "proposed", *sorted(MEMBERS, key=lambda m: -mean[m][0]))
    ])  # fmt: skip
    table(["classifier", "against", "worst", "mean", "near"], [
        [name, against, *(f"{label}{100 * d['difference']:+.1f} ({100 * d['low']:+.1f} to {100 * d['high']:+.1f})" for d in cells for label in [f"{d['of']} " if against == "the best" else ""])]
        for name, entry in classifiers.items() for against, cells in entry["differences"].items()
    ])  # fmt: skip
    table(["classifier", "calibration", "worst", "mean", "near", "flagged at 5 %, recalibrated (lowest to highest)", "not recalibrated"], [
        [name, str(row["n"]), *(f"{100 * value:.1f}" for value in row["figures"]),
         f"{100 * row['level']:.1f} ({100 * row['lowest']:.1f} to {100 * row['highest']:.1f})", "-" if row["raw"] is None else f"{100 * row['raw']:.1f}"]
        for name, entry in classifiers.items() for row in entry["calibration"]
    ])  # fmt: skip
    print("\n".join(f"- {what}: {'yes' if holds else 'no'}" for what, holds in verdict.items()))


COLUMNS = ("worst", "mean", "near")
JUDGED_NEAR = ("letters", "scripts")


def figures_of(values: dict[str, np.ndarray]) -> tuple[float, float, float]:
    found = {key: metrics.auroc(values["id"], values[key]) for key in values if key != "id"}
    return min(found.values()), float(np.mean(list(found.values()))), float(np.mean([found[key] for key in JUDGED_NEAR]))


def differences(
    ours: dict[str, np.ndarray],
    singles: dict[str, dict[str, np.ndarray]],
    figures: dict[str, tuple[float, float, float]],
    clusters: dict[str, np.ndarray | None],
) -> dict[str, list[dict[str, object]]]:
    """The panel minus a single score, with paired 95 % intervals: the best of each column in hindsight, and two that are widely used."""
    found = {}
    for against in ("the best", "relative-mahalanobis", "knn"):
        cells = []
        for i, column in enumerate(COLUMNS):
            other = max(MEMBERS, key=lambda member, i=i: figures[member][i]) if against == "the best" else against
            keys = JUDGED_NEAR if column == "near" else [key for key in ours if key != "id"]
            mine, theirs = ([metrics.placements(values["id"], values[key]) for key in keys] for values in (ours, singles[other]))
            if column == "worst":
                difference, (low, high) = worst_difference(mine, theirs)
            else:
                test = metrics.paired_placement_test(mine, theirs, clusters=[clusters[key] for key in keys], widen=False)
                difference, (low, high) = test.difference, test.interval
            cells.append({"of": other, "column": column, "difference": difference, "low": low, "high": high})
        found[against] = cells
    return found


def worst_difference(a: list[metrics.Placements], b: list[metrics.Placements], draws: int = 1000) -> tuple[float, tuple[float, float]]:
    """The difference of two lowest AUROCs, and the middle 95 % of it over resampled pictures, the same for both.

    A resample's AUROC is taken to first order, as the means of its placements: mean v_in* + mean v_out* - AUROC.
    """
    random = np.random.default_rng(0)

    def resampled(values: list[np.ndarray]) -> np.ndarray:
        n = values[0].size
        weights = random.multinomial(n, np.full(n, 1 / n), draws) / n
        return np.stack(values, 1).T @ weights.T

    k = len(a)
    v_in = resampled([p.v_in for p in (*a, *b)])
    v_out = np.concatenate([resampled([p.v_out, q.v_out]) for p, q in zip(a, b, strict=True)]).reshape(k, 2, draws)
    whole = np.array([p.v_in.mean() for p in (*a, *b)])
    drawn = (v_in - whole[:, None]).reshape(2, k, draws) + v_out.transpose(1, 0, 2)
    spread = drawn[0].min(0) - drawn[1].min(0)
    low, high = np.quantile(spread, (0.025, 0.975))
    return float(whole[:k].min() - whole[k:].min()), (float(low), float(high))


def by_size(scores: Scores, members: list[str], by: str, tail: float) -> list[dict[str, object]]:
    """The figures and the share of ID test flagged at 5 %, with so many calibration samples, each the mean over ten choices of them.

    Recalibrated: one half of them is for the members' p-values, and the panel's score is compared with its own on the other half.
    """
    calibration, tests = (
        stacked(scores["calibration"], members),
        {key: stacked(entry, members) for key, entry in scores.items() if key != "calibration"},
    )
    random, found = torch.Generator().manual_seed(0), []
    for n in (100, 500, len(calibration)):
        figures, levels, raw = [], [], []
        for _ in range(10):
            chosen_rows = calibration[torch.randperm(len(calibration), generator=random)[:n]]
            if n < len(calibration) or not figures:
                panel = panel_of(chosen_rows, by, tail)
                values = {key: combined(panel, entry).numpy() for key, entry in tests.items()}
                figures.append(figures_of(values))
                raw.append(float(np.mean(values["id"] < np.log(0.05))))
            half = panel_of(chosen_rows[: n // 2], by, tail)
            held, test = (combined(half, entry) for entry in (chosen_rows[n // 2 :], tests["id"]))
            p = (1 + torch.searchsorted(held.sort().values, test, right=True)).double() / (len(held) + 1)
            levels.append(float((p <= 0.05).double().mean()))
        found.append({
            "n": n, "figures": np.mean(figures, axis=0).tolist(), "level": float(np.mean(levels)), "lowest": min(levels), "highest": max(levels),
            "raw": float(np.mean(raw)) if by in ("harmonic", "minimum") else None,
        })  # fmt: skip
    return found


# --- what comes out -----------------------------------------------------------------------------------------------------------------------------


def shown(row: Iterable[float]) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in row)


def table(head: list[str], rows: list[list[str]]) -> None:
    print("\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n")


def write(path: Path, result: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, default=float) + "\n", "utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--design", action="store_true", help="choose, on classifiers that do not ship")
    which.add_argument("--judge", action="store_true", help="judge the choice, on those that ship")
    parser.add_argument("--out", type=Path, default=Path("panel-out"), help="folder for classifiers, outputs, scores and results")
    arguments = parser.parse_args()
    (design if arguments.design else judge)(arguments.out)


if __name__ == "__main__":
    main()

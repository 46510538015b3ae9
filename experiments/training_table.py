"""What do the training methods do for OOD detection, all from one start, on networks that a single core trains in a minute?

    python experiments/training_table.py --out FOLDER            # every row, seeds 0 to 2; a stop costs one row at most
    python experiments/training_table.py --out FOLDER --table    # what is there so far, as experiments/training_table.json and docs/training_table.md
    python experiments/training_table.py --table                 # the page anew from that JSON file

Everything is on `glyphs-200` and one thread. A row is a network trained by one recipe of `farfield recipes`, or one that starts from another row's network.
What a recipe does (objective, options, augmentation, what has weight decay) is the catalogue's; its schedule is not, but `SCHEDULE` for all rows that
start from random weights. All rows of a seed begin with the same weights and see the same renderings in the same order.

`--rows` and `--seeds` choose, `--keep DIR` writes the networks of seed 0 that are used elsewhere, `--smoke` runs all rows for two steps on few pictures.
Two processes with other seeds may work in one folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401 (imported here, so that no row's time is that of an import)
import numpy as np
import sklearn.cluster  # noqa: F401
import torch
from scipy import stats

import farfield as ff
from farfield import metrics, recipes
from farfield.benchmark.run import environment, score
from farfield.collect import collect
from farfield.data import suites
from farfield.data.images import Images
from farfield.detectors import parse
from farfield.files import put
from farfield.reproduce.networks import AVERAGE, MOS, NPOS, ROWS, SCHEDULE, Networks, slug

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "experiments" / "training_table.json", ROOT / "docs" / "training_table.md"
SEEDS = (0, 1, 2)
FEATURES = ("knn", "mahalanobis++")
LOGITS = ("msp", "maxlogit", "energy")
RANKFEAT = "rankfeat:at=before"  # the last block puts out a single place


# What experiments use is those that start from random weights, and three that issues of their own start from.
KEPT = (*(name for name, row in ROWS.items() if not row.start), "augrevise, AugDelete", "bit, sft", "mos, taxonomy")


# --- networks and data ------------------------------------------------------------------------------------------------------------------------


class Work(Networks):
    """The rows of one seed: their networks, and what these are worth."""

    def __init__(self, out: Path, seed: int, smoke: bool) -> None:
        super().__init__(out, seed, smoke=smoke)
        sets = {"test": self.suite.split("test")} | {s.name: s.load() for s in self.suite.ood if s.group in ("near", "far")}
        self.judged, self.sets = _together(sets)

    def get(self, name: str) -> ff.Classifier:
        """The network of a row that is done; here those that ship are what is to be made."""
        return self.trained(name)

    def do(self, name: str) -> None:
        """Trains and judges a row that is not done, after the one it starts from."""
        row, path = ROWS[name], self.folder(name).parent / "row.json"
        recipe = None if row.recipe == "augdelete" else self.recipe(row)
        about = json.loads(json.dumps({**asdict(row), "recipe": None if recipe is None else asdict(recipe)}))
        before = None
        if row.start:
            self.do(row.start)
            before = json.loads((self.folder(row.start).parent / "row.json").read_text("utf-8"))["knn"]  # which network that was
        if path.exists():
            told = json.loads(path.read_text("utf-8"))
            if told["about"] == about and told.get("before", before) == before:
                return
        shutil.rmtree(path.parent, ignore_errors=True)
        classifier, seconds = self.train(name)
        found = {"about": about, "before": before, "seconds": seconds, **self.judge(name, classifier)}
        put(path, lambda partial: partial.write_text(json.dumps(found), "utf-8"))
        near_far = {d: "/".join(f"{np.mean([v[s][0] for s in g]):.3f}" for g in groups_of(self.suite).values()) for d, v in found["figures"].items()}
        say(f"seed {self.seed}, {name}: {seconds:.0f} s, accuracy {found['accuracy']:.3f}, AUROC near/far {near_far}")

    def judge(self, name: str, classifier: ff.Classifier) -> dict[str, Any]:
        """Accuracy, and AUROC and FPR at 95 % of ID of each detector on each set; one pass over each."""
        row = ROWS[name]
        named = ("mos", *FEATURES) if row.groups else (*LOGITS, *FEATURES, *((RANKFEAT,) if row.network == "bit" else ()))
        train = self.said(name, classifier)[0]
        looking = parse(RANKFEAT)(train[:1]) if row.network == "bit" else None
        taps = () if looking is None else looking.taps()
        whole = collect(classifier, self.judged, taps=taps)
        outputs = {key: whole[rows] for key, rows in self.sets.items()}
        if name not in {other.start for other in ROWS.values()}:
            del self.seen[name]
        test = outputs["test"]
        assert test.labels is not None
        found: dict[str, Any] = {"accuracy": float((test.predictions() == test.labels).double().mean()), "figures": {}}
        for text in named:
            detector = parse(text)(train)
            scores = {key: score(detector, said) for key, said in outputs.items()}
            if text == "knn":
                found["knn"] = hashlib.blake2b(torch.cat(list(scores.values())).numpy().tobytes(), digest_size=6).hexdigest()
            s_in = scores.pop("test").double().numpy()
            found["figures"][text.partition(":")[0]] = {
                key: [float(figure(s_in, values.double().numpy())) for figure in (metrics.auroc, metrics.fpr_at_95_tpr_id)]
                for key, values in scores.items()
            }
        return found

    def keep(self, names: Iterable[str], into: Path) -> None:
        """Writes networks in 16 bits, with what they are."""
        for name in names:
            path = self.folder(name).parent / "row.json"
            if path.exists():
                told = json.loads(path.read_text("utf-8"))
                facts = {"row": name, "seed": self.seed, **{key: told[key] for key in ("about", "accuracy")}}
                source = f"{ROWS[name].network}-pooled"
                recipes.save(self.trained(name), into / f"{slug(name)}.safetensors", source, facts, half=True)


def _together(sets: Mapping[str, Images]) -> tuple[Images, dict[str, slice]]:
    """Several sets as one, for a single pass, and where each is in it."""
    ends = np.cumsum([len(images) for images in sets.values()]).tolist()
    places = {name: slice(end - len(images), end) for (name, images), end in zip(sets.items(), ends, strict=True)}
    pictures, labels = (torch.cat([getattr(images, part) for images in sets.values()]) for part in ("images", "labels"))
    return Images("judged", pictures, labels), places


def groups_of(suite: Any) -> dict[str, list[str]]:
    """The sets of the suite by how far they are."""
    return {group: [s.name for s in suite.ood if s.group == group] for group in ("near", "far")}


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


# --- figures over seeds -----------------------------------------------------------------------------------------------------------------------


def gather(out: Path) -> dict[str, Any]:
    """All that is done in a folder, in the order of the rows."""
    found: dict[str, dict[str, Any]] = {}
    for name in ROWS:
        for path in sorted(out.glob(f"seed-*/{slug(name)}/row.json")):
            told = json.loads(path.read_text("utf-8"))
            figures = {d: {s: [round(x, 6) for x in pair] for s, pair in sets.items()} for d, sets in told["figures"].items()}
            seed = path.parts[-3].removeprefix("seed-")
            found.setdefault(name, {})[seed] = {
                "accuracy": told["accuracy"], "seconds": round(told["seconds"], 1), "knn": told["knn"], "figures": figures,
            }  # fmt: skip
    return {"schedule": SCHEDULE, "environment": environment(), "groups": groups_of(suites.load("glyphs-200")), "rows": found}


class Found:
    """The results, as arrays over the seeds that all rows asked for have."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.rows, self.groups = results["rows"], results["groups"]

    def seeds(self, *names: str) -> list[str]:
        """Those that all of some rows have."""
        return sorted(set.intersection(*(set(self.rows.get(name, ())) for name in names)))

    def of(self, name: str, detector: str, where: str, seeds: Iterable[str], figure: int = 0) -> np.ndarray | None:
        """In percent: the accuracy, or the mean over a group's sets of the AUROC (0) or FPR (1) of a detector; `None` where it has none."""
        told = [self.rows[name][seed] for seed in seeds]
        if detector == "accuracy":
            return 100 * np.array([one["accuracy"] for one in told])
        if any(detector not in one["figures"] for one in told):
            return None
        return 100 * np.array([np.mean([one["figures"][detector][s][figure] for s in self.groups[where]]) for one in told])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval by Student's t; not a number for one value."""
    n = len(values)
    half = float("nan") if n < 2 else float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return float(values.mean()), half


def shown(values: np.ndarray, signed: bool = False) -> str:
    mean, half = interval(values)
    return f"{mean:+.1f}" * signed + f"{mean:.1f}" * (not signed) + (f" ± {half:.1f}" if half == half else "")


def against(name: str) -> str:
    """The row that a row is compared with: the one it starts from, else plain cross-entropy of the same network."""
    row = ROWS[name]
    return row.start or ("cross-entropy" if row.network == "resnet" else "bit")


Score = tuple[str, str]  # a row and a detector
LS, MIX, V2, LONGER_V2, CE = "label-smoothing", "mixup", "v2", "v2, longer", "cross-entropy"
REVISED = "augrevise, AugDelete"


def _hurt(name: str, what: str) -> list[tuple[str, int, list[Score], list[Score]]]:
    return [
        (f"{what} lowers MaxLogit's AUROC", -1, [(name, "maxlogit")], [(CE, "maxlogit")]),
        (f"{what} lowers it more than KNN's", -1, [(name, "maxlogit"), (CE, "knn")], [(CE, "maxlogit"), (name, "knn")]),
    ]


def _beats(name: str, other: str, what: str, sign: int, *detectors: str) -> list[tuple[str, int, list[Score], list[Score]]]:
    return [(what.replace("*", d), sign, [(name, d)], [(other, d)]) for d in detectors]


# What the papers say, with the sign of a difference that says so (0 for none): the sum of some scores minus that of others.
CLAIMS: dict[str, list[tuple[str, int, list[Score], list[Score]]]] = {
    "Xiong et al., ICCV 2025 (AugDelete, AugRevise, and what is wrong with the second recipe)": [
        *_hurt(LS, "Label smoothing"), *_hurt(MIX, "Mixup"), *_hurt(V2, "The second recipe"), *_hurt(LONGER_V2, "The second recipe, four times as long,"),
        *(claim for name in ("erasing", "trivial", "weight-decay", "ema", "long")
          for claim in _beats(name, CE, f"`{name}` leaves MaxLogit's AUROC as it is", 0, "maxlogit")),
        *(claim for name, what in ((LS, "label smoothing"), (MIX, "mixup"), (V2, "the second recipe"), (LONGER_V2, "the second recipe, four times as long,"))
          for claim in _beats(f"{name}, AugDelete", name, f"AugDelete after {what} raises the AUROC of `*`", 1, "energy", "maxlogit")),
        *_beats(REVISED, CE, "AugRevise has a higher AUROC of `*` than cross-entropy", 1, "maxlogit", "knn"),
        *_beats(REVISED, "regmixup", "AugRevise has a higher AUROC of `*` than RegMixup", 1, "maxlogit"),
        *_beats(REVISED, "erasing", "AugRevise, which erases too, has a higher AUROC of `*` than erasing alone", 1, "maxlogit"),
        *_beats(REVISED, CE, "AugRevise has a higher * than cross-entropy", 1, "accuracy"),
    ],
    "Huang and Li, CVPR 2021 (MOS)": [
        ("MOS with the taxonomy has a higher AUROC than MSP of the flat head", 1, [("mos, taxonomy", "mos")], [(CE, "msp")]),
        *_beats("mos, k-means", "mos, taxonomy", "Groups by k-means are about as good as the taxonomy's", 0, "mos"),
        *_beats("mos, random", "mos, taxonomy", "Random groups are worse than the taxonomy's", -1, "mos"),
        *_beats("mos, taxonomy", CE, "MOS leaves the * as it is", 0, "accuracy"),
    ],
    "Zhang et al., IEEE TIP 2026 (SFT)": [
        *_beats("bit, sft", "bit", "50 steps raise the AUROC of `*`", 1, "energy", "msp", "rankfeat"),
        *_beats("bit, sft", "bit", "50 steps leave the * about as it is", 0, "accuracy"),
        *_beats("bit, sft 400 steps", "bit", "400 steps at ten times the rate raise the AUROC of `*` (no setting of the paper)", 1, "energy"),
        *_beats("bit, sft by SAM", "bit, sft", "SAM over all parameters has a higher AUROC of `*` than SAM over normalisation alone", 1, "energy"),
        *_beats("bit, sft by SAM", "bit, sft", "SAM over all parameters costs *, against SAM over normalisation alone", -1, "accuracy"),
        *_beats("bit, sft by SGD", "bit, sft", "Plain SGD has a lower AUROC of `*` than SAM over normalisation alone", -1, "energy"),
        *_beats("bit, sft by Adam", "bit, sft", "Adam at the same rate collapses: a lower AUROC of `*` than SAM over normalisation alone", -1, "energy"),
        *_beats("bit, sft by Adam", "bit, sft", "Adam at the same rate collapses: a lower *", -1, "accuracy"),
        *_beats("bit, sft", "bit", "50 steps leave the AUROC of `*` as it is (the paper has none)", 0, "knn"),
        *_beats("sft", CE, "On a network with BatchNorm there is no gain of `*`", 0, "energy"),
    ],
}  # fmt: skip


def verdict(values: np.ndarray, sign: int) -> str:
    """What a difference says of a claim."""
    mean, half = interval(values)
    if half != half:
        return "one seed says nothing"
    if sign == 0:
        return "no difference told" if abs(mean) <= half else "**a difference**"
    return "not told from 0" if abs(mean) <= half else "**as the paper says**" if mean * sign > 0 else "**the opposite**"


def statements(found: Found) -> Iterable[str]:
    """A line for each claim whose rows are there."""
    late = late_rows(found)
    for paper, claims in CLAIMS.items():
        lines = []
        for text, sign, plus, minus in claims:
            seeds = found.seeds(*(name for name, _ in plus + minus))
            groups = ("",) if plus[0][1] == "accuracy" else ("near", "far")
            parts = []
            for group in groups if seeds else ():
                values = [[found.of(name, d, group, seeds) for name, d in side] for side in (plus, minus)]
                if all(value is not None for side in values for value in side):
                    difference = np.sum(values[0], axis=0) - np.sum(values[1], axis=0)
                    parts.append(f"{group} {shown(difference, signed=True)} ({verdict(difference, sign)})".strip())
            slow = [f"`{name}`" for name in dict.fromkeys(name for name, _ in plus + minus) if name in late]
            but = f"; but {' and '.join(slow)} had not learnt" if slow else ""
            if parts:
                lines.append(f"- {text}: {', '.join(parts)}{but}.")
        if paper.startswith("Xiong"):
            lines += _identical(found)
        if lines:
            yield "\n".join([f"*{paper}.*\n", *lines, ""])


LATE = 10  # points of accuracy


def late_rows(found: Found) -> dict[str, list[float]]:
    """The accuracy on each seed of rows that had not learnt the task when their epochs were over: in some seed far below plain cross-entropy, or started from such a row."""
    late: dict[str, list[float]] = {}
    for name in found.rows:
        base = "cross-entropy" if ROWS[name].network == "resnet" else "bit"
        seeds = found.seeds(name, base)
        mine, other = (found.of(one, "accuracy", "", seeds) for one in (name, base))
        assert mine is not None and other is not None
        if ROWS[name].start in late or (not ROWS[name].start and (mine < other - LATE).any()):
            late[name] = mine.tolist()
    return late


def _identical(found: Found) -> list[str]:
    """Whether AugDelete left KNN's scores as they were, to the bit."""
    pairs = [
        (found.rows[name][seed]["knn"], found.rows[row.start][seed]["knn"])
        for name, row in ROWS.items() if row.recipe == "augdelete" for seed in found.seeds(name, row.start)
    ]  # fmt: skip
    same = sum(one == other for one, other in pairs)
    how = "**as the paper says**" if same == len(pairs) else "**not so**"
    return [f"- AugDelete leaves KNN's scores as they are: in {same} of {len(pairs)} networks every bit of every score ({how})."] if pairs else []


# --- the page ---------------------------------------------------------------------------------------------------------------------------------

COLUMNS = {"msp": "MSP", "maxlogit": "MaxLogit", "energy": "energy", "knn": "KNN", "mahalanobis++": "Mahalanobis++", "own": "MOS, RankFeat"}


def table(found: Found, where: str, figure: int) -> tuple[str, int, int]:
    """The figures of all rows in one group; how many of its cells are compared, and how many differ."""
    lines = ["| row | accuracy | cost | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * (len(COLUMNS) + 2)]
    compared = differing = 0
    for name in found.rows:
        seeds = found.seeds(name)
        cells = []
        for detector in ("accuracy", *COLUMNS):
            mine = {"own": "mos" if ROWS[name].groups else "rankfeat"}.get(detector, detector)
            values = found.of(name, mine, where, seeds, figure)
            if values is None:
                cells.append("-")
                continue
            mark, before = "", against(name)
            common = found.seeds(name, before) if before != name else []
            other = found.of(before, "msp" if mine == "mos" else mine, where, common, figure) if common else None
            here = found.of(name, mine, where, common, figure)
            if other is not None and here is not None and len(common) > 1:
                mean, half = interval(here - other)
                told = abs(mean) > half
                mark = (" ▲" if mean > 0 else " ▼") if told else ""
                if detector != "accuracy" and (here != other).any():
                    compared, differing = compared + 1, differing + told
            cells.append(shown(values) + mark)
        lines.append(f"| {name} | {cells[0]} | {cost(found, name)} | " + " | ".join(cells[1:]) + " |")
    return "\n".join(lines) + "\n", compared, differing


def cost(found: Found, name: str) -> str:
    """CPU time of training over that of plain cross-entropy of the same network; with a plus where it comes on top of the row it starts from."""
    base = "cross-entropy" if ROWS[name].network == "resnet" else "bit"
    seeds = found.seeds(name, base)
    if not seeds:
        return "-"
    ratio = np.mean([found.rows[name][seed]["seconds"] / found.rows[base][seed]["seconds"] for seed in seeds])
    return f"+{ratio:.2f}" if ROWS[name].start else f"{ratio:.2f}"


def power(found: Found) -> str:
    """How large a difference of AUROC has to be to be told, in the middle comparison."""
    halves = []
    for name in found.rows:
        common = found.seeds(name, against(name)) if against(name) != name else []
        for detector in COLUMNS if len(common) > 1 else ():
            for where in found.groups:
                mine, other = (found.of(one, detector, where, common) for one in (name, against(name)))
                if mine is not None and other is not None and (mine != other).any():
                    halves.append(interval(mine - other)[1])
    if not halves:
        return ""
    middle, large = np.quantile(halves, (0.5, 0.9))
    return f"In half of the {len(halves)} comparisons of AUROC it has to exceed {middle:.1f} points to be told from none, in a tenth {large:.1f}."


def page(results: Mapping[str, Any]) -> str:
    """The page, from the results alone."""
    found = Found(results)
    seeds = sorted({seed for row in found.rows.values() for seed in row})
    seconds = {name: [one["seconds"] for one in row.values()] for name, row in found.rows.items()}
    base = np.mean(seconds.get("cross-entropy", [float("nan")]))
    tables = {(w, f): table(found, w, f) for f in (0, 1) for w in found.groups}
    compared, differing = (sum(entry[i] for entry in tables.values()) for i in (1, 2))
    headings = {0: "AUROC", 1: "FPR at 95 % of ID"}
    parts = [HEAD.format(
        seeds=len(seeds), epochs=results["schedule"]["epochs"], batch=results["schedule"]["batch_size"], lr=results["schedule"]["lr"],
        weight_decay=results["schedule"]["weight_decay"], minutes=sum(map(sum, seconds.values())) / 60, base=base, average=AVERAGE,
        mos_steps=MOS["steps"], mos_lr=MOS["lr"], queue=NPOS["queue"], samples=NPOS["samples"],
    )]  # fmt: skip
    late = ", ".join(f"`{name}` ({', '.join(f'{x:.0f}' for x in values)} %)" for name, values in late_rows(found).items())
    parts += ["## Which effects appear here\n", EFFECTS, *([SLOW.format(rows=late, points=LATE)] if late else []), *statements(found), "## The figures\n", READING.format(
        power=power(found), compared=compared, differing=differing, chance=compared / 20
    )]  # fmt: skip
    for (where, figure), (text, _, _) in tables.items():
        parts += [f"### {headings[figure]}, {where}-OOD ({' and '.join(f'`{s}`' for s in found.groups[where])})\n", text]
    return "\n".join(parts).rstrip() + "\n"


HEAD = """# Training, an experiment

What the recipes of `farfield recipes` do for OOD detection when all of them have the same network, data and time: {seeds} seeds on `glyphs-200`, on one
CPU thread. **This is small**: networks of 0.3 million weights on 32-pixel pictures, {epochs} epochs. Whether a paper's effect appears here says
something about this scale, not about the paper.

```bash
python experiments/training_table.py --out training-table           # {minutes:.0f} minutes of CPU time for training, besides drawing and scoring
python experiments/training_table.py --out training-table --table   # this page
```

*Networks.* The ResNet (BatchNorm) that ships, with its stem's pooling put back; for SFT, which is for other normalisations, likewise the BiT (GroupNorm).
Vision transformers are left out: on one thread they take too long to learn anything.

*Schedule.* All rows that start from random weights: {epochs} epochs of 20,000 renderings, each epoch its own and the same for all rows of a seed; batch {batch}, SGD with Nesterov
momentum 0.9, learning rate {lr} with a cosine and 10 % warm-up, weight decay {weight_decay:g}. `long` has twice the epochs; `weight-decay` and `v2` have a fifth of the weight
decay and none on normalisation and biases, `v2, longer` is that with four times the epochs, `npos` has a fifth; running averages have the decay {average}. Objectives, options and augmentation are the catalogue's, without crops and flips,
which change a glyph's label. `v2` has the epochs of the others, as the v2* of Xiong et al. has. No learning rate was tuned for any row.

*What starts from another row.* AugDelete is the last layer alone, on the renderings of the first epoch. `outlier-exposure`: 1 epoch with pseudo-outliers. MOS: {mos_steps:,} steps at rate {mos_lr}
on stored features, with 8 groups each time. SFT: 50 steps at rate 0.001 with SAM over normalisation layers, its radius that of as many parameters; by SAM over all
parameters, by SGD or Adam alone; and 400 steps at 0.01. NPOS keeps {queue} features of a class and draws {samples} outliers around each point, where the paper has 1,000 and 600.

*Cost* is the CPU time of training over that of plain cross-entropy of the same network ({base:.0f} s for the ResNet), without drawing pictures; with a plus it comes on top of the row
that was started from, and includes the pass over the training pictures where the head alone is trained. Two processes shared the machine; by rows that do the same work as plain
cross-entropy, such as `label-smoothing`, the ratio is good to about a tenth.
"""
EFFECTS = """Differences are in points of AUROC (or accuracy), the mean over seeds with its 95 % interval by Student's t, paired by seed. They are told from 0 where that interval excludes it. No
difference told does not mean that there is none: the interval says how large it may be.
"""
SLOW = """**Not learnt in the time given**: {rows}, accuracy by seed; more than {points} points below plain cross-entropy in at least one seed, or started from such a network. On this task
training stays at chance for a while before it takes hold, and harder pictures or labels make that longer. Where it took hold late the figures are of a network that had only begun, and say
little about the method.
"""
READING = """Percent; the mean over seeds ± half of its 95 % interval by Student's t; the mean over the sets of a group. Seeds differ in weights, renderings and order, and are judged on the same test
pictures, so the intervals are about training and not about pictures. ▲ and ▼: different from the row it starts from, else from plain cross-entropy of the same
network, by a paired t-test at 5 %, not corrected. MOS is compared with MSP of its start. With so few seeds such a test sees large differences alone. {power} Of {compared} comparisons in the
four tables {differing} are marked; {chance:.0f} would be by chance. A head with groups has no MSP, MaxLogit or energy. RankFeat is for the BiT, on the map before the last block's, whose own is a single place.
FPR is the share of OOD taken for ID where 95 % of ID is kept; lower is better.
"""


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("farfield-out/training-table"), help="folder for the state of each row")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"which: {'; '.join(ROWS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="which")
    parser.add_argument("--keep", type=Path, help="folder for the networks of seed 0 that are used elsewhere")
    parser.add_argument(
        "--smoke", action="store_true", help="all rows in under a minute: two steps, one seed, few pictures; the page goes to the folder"
    )
    parser.add_argument("--table", action="store_true", help="write the JSON file and the page, and train nothing")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not chosen.table:
        for seed in chosen.seeds[:1] if chosen.smoke else chosen.seeds:
            work = Work(chosen.out, seed, chosen.smoke)
            for name in chosen.rows:
                work.do(name)
            if chosen.keep is not None and seed == 0:
                chosen.keep.mkdir(parents=True, exist_ok=True)
                work.keep(KEPT, chosen.keep)
    if chosen.table or chosen.smoke:
        found = gather(chosen.out)
        results, written = (chosen.out / RESULTS.name, chosen.out / PAGE.name) if chosen.smoke else (RESULTS, PAGE)
        if found["rows"]:
            results.write_text(json.dumps(found, separators=(",", ":")).replace('},"', '},\n"') + "\n", "utf-8")
        written.write_text(page(json.loads(results.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()

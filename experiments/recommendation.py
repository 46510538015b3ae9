"""How good is `farfield recommend`, and do remedies gain on real OOD sets what the prescription says?

    python experiments/recommendation.py --out FOLDER            # every committed classifier of 200 classes; a stop costs one of them at most
    python experiments/recommendation.py --table                 # docs/recommendation.md from experiments/recommendation.json

Every classifier that Farfield ships or its experiments stand on is given to `recommend` as a stranger: training pictures and calibration pictures of `glyphs-200`, no OOD
data. What it says is then held against the benchmark's own sets. No number of `recommend` is fitted to classifiers, so there is none to be left out; a set is left out by
leaving out the kind of pseudo-OOD that is like it, which is the noise.

`--names` chooses classifiers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from farfield import benchmark, metrics, recipes
from farfield.benchmark import score
from farfield.choose import USUAL
from farfield.choose.comparison import weights
from farfield.choose.pseudo import squares
from farfield.classifier import Classifier
from farfield.collect import collect
from farfield.data import suites
from farfield.data.images import Suite
from farfield.detectors import parse
from farfield.detectors.compose import fitted
from farfield.diagnose import Remedy, Trial, Work, gather, prescribe
from farfield.files import put
from farfield.metrics import Linked
from farfield.report.render import put_text
from farfield.reproduce.networks import ROWS, SHIPPED, Networks, slug
from farfield.reproduce.pool import MEMBERS, Pool

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "experiments" / "recommendation.json", ROOT / "docs" / "recommendation.md"
SUITE = "glyphs-200"
OURS = ("glyphs-200-resnet", "glyphs-200-bit", "glyphs-200-vit")
TABLE = tuple(name for name in ROWS if (SHIPPED / f"{slug(name)}.safetensors").exists())
TUNED = ("cross-entropy", "label-smoothing", "mixup", "v2", "bit")  # on which sharpness-aware fine-tuning is tried as well
ALWAYS = ("msp", "energy", "mahalanobis++", "relative-mahalanobis++", "panel")
CURRENT = "msp"


# --- classifiers ------------------------------------------------------------------------------------------------------------------------------


def loaded(name: str, out: Path) -> tuple[Classifier, str]:
    """A committed classifier, and what it was built from."""
    networks = Networks(out / "networks", 0)
    if name in OURS:
        return Classifier.load(name), name
    if name in ROWS:
        return networks.get(name), f"{ROWS[name].network}-pooled"
    return Pool(networks, out / "pool").get(name), "vit"


def rounded(value: Any) -> Any:
    """Figures to a thousandth of a point."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def kind_of(name: str) -> str:
    """Which of the three groups of classifiers a classifier is in."""
    return "shipped" if name in OURS else "training table" if name in ROWS else "pool"


def look(name: str, out: Path) -> dict[str, Any]:
    """What `recommend` and the prescription say of a classifier, and what is so."""
    began = time.perf_counter()
    classifier, source = loaded(name, out)
    classifier.name = name
    suite, folder = suites.load(SUITE), out / "work"
    shutil.rmtree(folder, ignore_errors=True)
    fitters = {text: parse(text) for text in (*USUAL, "panel")}
    held, _ = squares(suite.split("calibration"), 32, name="held-out ID")
    grouped = classifier.groups is not None
    current = "mos" if grouped else CURRENT
    work = gather(classifier, suite.split("train"), held, out=folder, names=suite.classes, detectors=fitters, current=current)
    results = benchmark.run([(suite, [classifier])], fitters, out=folder)
    tries = [] if grouped else ["augdelete", *(["sft"] if name in TUNED else [])]
    trial = Trial(tries, source, recipes.open_training(SUITE, classifier=classifier), name, {"--suite": SUITE})
    remedies = [remedy for remedy in prescribe(work, trial) if remedy.tried]
    told = work.case.recommendation
    return {
        "classifier": name,
        "kind": kind_of(name),
        "accuracy": results.classifiers[0]["id_accuracy"],
        "real": {
            d: {r.ood: r.auroc for r in results.rows if r.detector == d and r.group in ("near", "far") and r.ood}
            for d in fitters
            if d not in told.refused
        },
        "groups": {one.name: one.group for one in suite.ood if one.group != "shifted"},
        "kinds": {one.detector: {kind: figure.auroc for kind, figure in one.kinds.items()} for one in told.ranked},
        "reasons": {one.detector: list(one.reasons) for one in told.ranked if one.reasons},
        "failed": {one.detector: one.failed for one in told.ranked},
        "tied": list(told.tied),
        "best": told.best,
        "remedies": [{**actual(work, suite, remedy), **predicted(remedy)} for remedy in remedies],
        "seconds": round(time.perf_counter() - began, 1),
    }


def predicted(remedy: Remedy) -> dict[str, Any]:
    """What the prescription says a remedy gains."""
    assert remedy.gain is not None
    return {"name": remedy.name, "detector": remedy.detector, "predicted": remedy.gain.auroc, "predicted_interval": list(remedy.gain.interval)}


def actual(work: Work, suite: Suite, remedy: Remedy) -> dict[str, Any]:
    """What it gains on the suite's own OOD sets, near and far alike."""
    case = work.case
    before = pieces(work, suite, case.classifier, case.current)
    after = case.classifier
    if remedy.model:
        after = Classifier.load(remedy.model)
        after.name = f"{after.name} {remedy.name}"
    test = metrics.linked_test(pieces(work, suite, after, remedy.detector), before)
    return {"actual": test.difference, "actual_interval": list(test.interval)}


def pieces(work: Work, suite: Suite, classifier: Classifier, detector: str) -> list[Linked]:
    """A detector's placements on the suite's sets."""

    def said(name: str, data: Any) -> Any:
        return collect(classifier, data, out=work.out / "store", name=name)

    train, tested = said("train", suite.split("train")), said("test", suite.split("test"))
    calibration = said("calibration", work.material.splits["calibration"])
    fitter = parse(detector)
    made = fitted(fitter, train, calibration)
    s_in = score(made, tested).double().numpy()
    sets = [one for one in suite.ood if one.group != "shifted"]
    found, start = [], len(s_in)
    for one in sets:
        data = one.load()
        s_out = score(made, said(one.name, data)).double().numpy()
        sources = np.arange(len(s_out)) if getattr(data, "clusters", None) is None else data.clusters.numpy()
        share = 0.5 / sum(other.group == one.group for other in sets)
        found.append(Linked(metrics.placements(s_in, s_out), np.arange(len(s_in)), start + sources, share))
        start += len(s_out)
    return found


# --- how good it is ---------------------------------------------------------------------------------------------------------------------------


def chosen(row: Mapping[str, Any], without: Sequence[str] = (), candidates: Sequence[str] = USUAL) -> str:
    """What `recommend` takes, of some detectors, when it does without some kinds of pseudo-OOD."""
    kinds = {d: {kind: v for kind, v in mine.items() if kind not in without} for d, mine in row["kinds"].items() if d in candidates}
    weight = weights(next(iter(kinds.values())))
    return max(kinds, key=lambda d: (d not in row["reasons"], sum(weight[kind] * value for kind, value in kinds[d].items())))


def mean_of(row: Mapping[str, Any], detector: str) -> float:
    """The mean of near and far, each that of its sets."""
    sets, groups = row["real"][detector], row["groups"]
    return float(np.mean([np.mean([sets[name] for name in sets if groups[name] == group]) for group in ("near", "far")]))


def worst_of(row: Mapping[str, Any], detector: str) -> float:
    """The AUROC on the worst set."""
    return min(row["real"][detector].values())


def regret(row: Mapping[str, Any], detector: str, by: Callable[[Mapping[str, Any], str], float]) -> float:
    """How much the best detector of all has more, in points."""
    best = max(by(row, d) for d in row["real"])
    return 100 * (best - by(row, detector)) if detector in row["real"] else float("nan")


def left_out(row: Mapping[str, Any], policy: Callable[[Mapping[str, Any], Sequence[str]], str]) -> float:
    """The mean, over the sets, of the regret on that set alone of a choice made without the kind of pseudo-OOD that is like it."""
    found = []
    for name in row["groups"]:
        detector = policy(row, ("noise",) if name == "noise" else ())
        found.append(regret(row, detector, lambda row, d, name=name: row["real"][d][name]))
    return float(np.mean(found))


def policies() -> dict[str, Callable[[Mapping[str, Any], Sequence[str]], str]]:
    """Ways to choose a detector for a classifier, by name."""
    found: dict[str, Callable[[Mapping[str, Any], Sequence[str]], str]] = {"`farfield recommend`": lambda row, without: chosen(row, without)}
    found["the same without noise"] = lambda row, without: chosen(row, ("noise",))
    for name in ALWAYS:
        found[f"always `{name}`"] = lambda row, without, name=name: name  # type: ignore[misc]
    return found


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """docs/recommendation.md."""
    flat = [row for row in rows if CURRENT in row["real"]]
    lines = [INTRODUCTION.format(many=len(flat), detectors=max(len(row["real"]) for row in flat)), "", "## The choice of a detector", ""]
    lines += [
        "| choice | regret, mean of near and far | more than `recommend` | its worst | regret, worst set | more than `recommend` | its worst | regret, set by set |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = [chosen(row) for row in flat]
    for name, policy in policies().items():
        by_mean = [regret(row, policy(row, ()), mean_of) for row in flat]
        by_worst = [regret(row, policy(row, ()), worst_of) for row in flat]
        by_set = [left_out(row, policy) for row in flat]
        more = [
            spread([theirs - regret(row, mine, by) for theirs, row, mine in zip(figures, flat, ours, strict=True)], "+.2f")
            for figures, by in ((by_mean, mean_of), (by_worst, worst_of))
        ]
        lines.append(
            f"| {name} | {spread(by_mean)} | {more[0]} | {max(by_mean):.1f} | {spread(by_worst)} | {more[1]} | {max(by_worst):.1f} | {spread(by_set)} |"
        )
    lines += ["", REGRET, "", "| classifiers | how many | " + " | ".join(policies()) + " |", "|---|---" + "|---" * len(policies()) + "|"]
    for kind in dict.fromkeys(row["kind"] for row in flat):
        mine = [row for row in flat if row["kind"] == kind]
        cells = [f"{np.mean([regret(row, policy(row, ()), mean_of) for row in mine]):.2f}" for policy in policies().values()]
        lines.append(f"| {kind} | {len(mine)} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Regret by the mean, in points.",
        "",
        "## What was taken",
        "",
        "| classifier | accuracy, % | taken | its mean AUROC | best of all | its mean AUROC |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for row in flat:
        mine, best = chosen(row), max(row["real"], key=lambda d: mean_of(row, d))
        lines.append(
            f"| {row['classifier']} | {100 * row['accuracy']:.1f} | `{mine}` | {100 * mean_of(row, mine):.1f} | `{best}` | {100 * mean_of(row, best):.1f} |"
        )
    return "\n".join([*lines, "", *remedies(rows), ""])


def remedies(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Predicted against actual gains."""
    lines = ["## What remedies gain", "", GAINS, ""]
    lines += [
        "| remedy | classifiers | predicted, mean | actual, mean | error, mean of its size | correlation | same sign | said to help | of those it did |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    every = [(row["classifier"], one) for row in rows for one in row["remedies"]]
    for name in dict.fromkeys(one["name"] for _, one in every):
        mine = [one for _, one in every if one["name"] == name]
        p, a = (100 * np.array([one[key] for one in mine]) for key in ("predicted", "actual"))
        helped = [one for one in mine if one["predicted_interval"][0] > 0]
        right = sum(one["actual"] > 0 for one in helped)
        r = f"{np.corrcoef(p, a)[0, 1]:.2f}" if len(p) > 2 and p.std() > 0 and a.std() > 0 else "-"
        signs = f"{np.mean(np.sign(p) == np.sign(a)):.0%}"
        lines.append(
            f"| {name} | {len(mine)} | {p.mean():+.1f} | {a.mean():+.1f} | {np.abs(p - a).mean():.1f} | {r} | {signs} | {len(helped)} | {right} |"
        )
    lines += ["", "| classifier | remedy | with | predicted | actual |", "|---|---|---|---|---|"]
    for classifier, one in every:
        (pl, ph), (al, ah) = ([100 * end for end in one[key]] for key in ("predicted_interval", "actual_interval"))
        lines.append(
            f"| {classifier} | {one['name']} | `{one['detector']}` | {100 * one['predicted']:+.1f} ({pl:+.1f} to {ph:+.1f}) | {100 * one['actual']:+.1f} ({al:+.1f} to {ah:+.1f}) |"
        )
    return lines


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """A mean with its 95 % interval over classifiers; nothing of what is all the same."""
    if not np.any(values):
        return "-" if form.startswith("+") else f"{0:{form}}"
    x = np.array(values)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else float("nan")
    return f"{x.mean():{form}} ±{half:.2f}"


INTRODUCTION = """# How good is the recommendation?

<!-- Written by `python experiments/recommendation.py --table`. -->

`farfield recommend` ranks detectors for a classifier without any OOD data. Here it is held against what is so: {many} classifiers of `glyphs-200` (three that ship, those of
the [training table](training_table.md), and the pool of fine-tuned transformers), each with {detectors} detectors on the benchmark's near and far sets, none of which it has seen.
No number of it was fitted to these classifiers: that near and far weigh alike was set before. But four other weightings were looked at on five of them and kept out, and a rule that takes, of detectors
not told apart, the one that fails the fewest families of noise was dropped after a look at fourteen. All of it is Glyphs: [a small task](glyphs.md), and these classifiers are relatives. On photographs and large networks nothing of
this has been measured."""
REGRET = """*Regret* is how many points of AUROC the best detector of all, which only somebody with the OOD data knows, has more than the one that was taken: by the mean of near and far,
and by the worst of the four sets; ± is the 95 % interval of the mean over classifiers as if these were independent, and *its worst* the classifier with the most. *Set by set*: the
best detector of each set by itself against one that was taken without the kind of pseudo-OOD that is like that set (noise, for the noise). *More than `recommend`*: paired by classifier; where ± is
larger than the figure, the two are not told apart."""
GAINS = """*Predicted* is the gain in mean AUROC that `farfield diagnose --try` measures on held-out ID pictures and pseudo-OOD, against `msp` on the classifier as it is (`mos`, where it is grouped; here the panel is among the detectors to choose from); *actual* is
the gain on the benchmark's near and far sets. The predicted interval of another detector is for the best of so many (Bonferroni); that of photographs counts their two
sources."""


def main(words: Sequence[str] | None = None) -> int:
    """Does what is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--names", nargs="+", default=[*OURS, *TABLE, *MEMBERS])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args(words)
    if given.out is None and not given.table:
        parser.error("give --out FOLDER, or --table")
    if given.out is not None:
        rows = {}
        for name in given.names:
            path = given.out / "rows" / f"{slug(name)}.json"
            if not path.exists():
                row = look(name, given.out)
                path.parent.mkdir(parents=True, exist_ok=True)
                put_text(path, json.dumps(rounded(row)))
            rows[name] = rounded(json.loads(path.read_text("utf-8")))
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}: {rows[name]['best']}, {rows[name]['seconds']} s\n")
        put(RESULTS, lambda partial: partial.write_text("[\n" + ",\n".join(map(json.dumps, rows.values())) + "\n]\n", "utf-8"))
    put_text(PAGE, page(json.loads(RESULTS.read_text("utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

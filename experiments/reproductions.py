"""The papers' tables and figures as `farfield reproduce` makes them: what is committed of them, and their page.

    python experiments/reproductions.py --out FOLDER                     # every experiment on Glyphs, seeds 0 to 2, and what came of it into
                                                                         # src/farfield/reproduce/results; a stop costs one cell at most
    python experiments/reproductions.py --out FOLDER --dry               # every experiment's full scale, with random weights, on made-up pictures in
                                                                         # the published layouts; --root DIR for real ones
    python experiments/reproductions.py --page                           # docs/reproductions.md from what is committed

`--names` and `--seeds` choose, `--into DIR` is another folder for the results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from farfield import reproduce
from farfield.data import suites
from farfield.data.suites.classes import count
from farfield.errors import InputError
from farfield.report.render import escape, put_text
from farfield.reproduce import results
from farfield.reproduce.base import Experiment
from farfield.reproduce.networks import slug
from farfield.reproduce.tables import markdown, title
from farfield.reproduce.texts import Value, held

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import trees

PAGE = Path(__file__).parents[1] / "docs" / "reproductions.md"
SEEDS = (0, 1, 2)
LIMIT = 16  # samples of each set in a dry run
# A dry run's classifier and pictures, by suite or experiment, where the paper's would take a CPU hours.
SMALL = {
    "mos-imagenet": ("torchvision:resnet18", "resize=64,crop=64"),
    "ninco": ("timm:vit_tiny_patch16_224", ""),
    "openood-v1.5-imagenet": ("torchvision:resnet18", "resize=64,crop=64"),
    "openood-v1.5-imagenet200": ("", "resize=64,crop=64"),
    "sft-table-6": ("zoo:bit-s-r50x1", "resize=64,crop=64"),  # one of its optimisers makes NaN of random weights with running statistics
}
MACHINE = f"{os.cpu_count()} cores, {platform.machine()}"


def main(words: Sequence[str] | None = None) -> int:
    """Does what is asked; 2 where an experiment lacks something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--names", nargs="+", default=list(reproduce.EXPERIMENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--into", type=Path, default=results.FOLDER)
    parser.add_argument("--smoke", action="store_true", help="two steps of training, few pictures: to see that all runs")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args(words)
    if given.out is None and not given.page:
        parser.error("give --out FOLDER, or --page")
    chosen, lacking = [reproduce.experiment(name) for name in given.names], []
    for one in chosen if given.out is not None else ():
        try:
            dry(one, given.out, given.root, given.into) if given.dry else keep(one, given.out, given.seeds, given.into, given.smoke)
        except InputError as error:
            say(f"{one.name}: {error}")
            lacking.append(one.name)
    if given.page:
        put_text(PAGE, page(given.into))
    if lacking:
        say(f"not done: {', '.join(lacking)}")
    return 2 if lacking else 0


def keep(one: Experiment, out: Path, seeds: Iterable[int], into: Path, smoke: bool = False) -> None:
    """Runs an experiment on Glyphs and writes what came of it."""
    stages = [reproduce.Stage("glyphs", out, seed, smoke=smoke) for seed in seeds]
    records = tuple(reproduce.run(one, stages, each=lambda name, done, total: say(f"{name} ({done + 1} of {total})")))
    words = ["farfield", "reproduce", one.name, *(word for seed in seeds for word in ("--seed", str(seed))), *(["--smoke"] if smoke else [])]
    made = results.Result(one.name, "glyphs", today(), shlex.join(words), MACHINE, tuple(seeds), round(reproduce.seconds(one, stages), 1), records)
    into.mkdir(parents=True, exist_ok=True)
    put_text(results.path_of(one.name, "glyphs", into), results.to_text(made))
    say(f"{one.name}: {made.seconds:.0f} s, {held(made.value(one)['claims'])}")


def dry(one: Experiment, out: Path, root: Path | None, into: Path) -> None:
    """Runs an experiment's full scale with random weights, and notes that it ran, or what it lacked."""
    began, lacks = time.perf_counter(), ""
    model, preprocess = SMALL.get(one.name) or SMALL.get(one.suite, ("", ""))
    options = {"model": model or None, "preprocess": preprocess or None}
    with pytest.MonkeyPatch.context() as patch:
        data = root or made_up(one.suite, out / "trees" / one.suite, patch)
        stage = reproduce.Stage("full", out / slug(f"{one.suite} {model}"), root=data, limit=LIMIT, random_weights=True, smoke=True, **options)
        try:
            reproduce.run(one, [stage], each=lambda name, done, total: say(f"{name} ({done + 1} of {total})"))
        except InputError as error:
            lacks = str(error)
    given = [word for name, value in options.items() if value for word in (f"--{name}", value)]
    words = ["farfield", "reproduce", one.name, "--scale", "full", "--root", "DIR", "--limit", str(LIMIT), *given, "--random-weights", "--smoke"]
    known = results.dry_runs(into)
    known[one.name] = results.DryRun(today(), shlex.join(words), MACHINE, round(time.perf_counter() - began, 1), lacks)
    into.mkdir(parents=True, exist_ok=True)
    ordered = {name: asdict(known[name]) for name in reproduce.EXPERIMENTS if name in known}
    put_text(into / results.DRY, json.dumps(ordered, indent=1) + "\n")
    if lacks:
        raise InputError(lacks)
    say(f"{one.name}: ran at full scale")


def made_up(suite: str, root: Path, patch: pytest.MonkeyPatch) -> Path:
    """A folder with a few pictures of each set of a suite in its published layout, and two of each class in the training data."""
    definition = suites.definition(suite)
    classes = count(definition.classes)
    patch.setattr(trees, "USED", classes)
    sets = {*definition.splits, *(entry.name for entry in (*definition.ood, *definition.validation))} - {"train"}
    trees.make(suite, root, 2 * classes, patch=patch, only=frozenset({"train"}))
    trees.make(suite, root, LIMIT, patch=patch, only=frozenset(sets))
    groups = {"first half": list(range(classes // 2)), "second half": list(range(classes // 2, classes))}
    put_text(root / "taxonomy.json", json.dumps(groups))
    return root


def today() -> str:
    return time.strftime("%Y-%m-%d")


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


# --- the page ---------------------------------------------------------------------------------------------------------------------------------

INTRODUCTION = """# The papers' tables and figures

<!-- Written by `python experiments/reproductions.py --page`. -->

Each table and figure of four papers is an experiment: `farfield reproduce NAME` makes it again, ours beside the paper's, with intervals, a page, and whether what the
paper claims holds.

```bash
farfield reproduce mos-table-1 --seed 0 --seed 1 --seed 2            # on Glyphs: small networks, nothing to fetch
farfield reproduce mos-table-1 --scale full --root data              # the paper's classifier and data sets
farfield reproduce all                                               # every one; what is done is not done again
farfield reproduce --list                                            # what there is, and what has been reproduced
```

**On Glyphs everything is small**: networks of 0.3 million weights on pictures of 32 pixels. Whether a claim holds there says something about this scale, not about the paper. The full
scale is the same code on the papers' classifiers and data sets. *Dry run* means that it ran to its end with random weights and few pictures, no more.

A claim *holds* where the 95 % interval of its difference, over seeds, lies above 0, and *does not* where it lies below; else it is *not told*. That two things are the
same holds where the interval lies within one point of 0.
"""


def page(folder: Path = results.FOLDER) -> str:
    """The page from what is committed."""
    every = list(reproduce.EXPERIMENTS.values())
    values = {one.name: known.value(one) for one in every if (known := results.result(one.name, "glyphs", folder)) is not None}
    full = {one.name: known.value(one) for one in every if (known := results.result(one.name, "full", folder)) is not None}
    lines = [INTRODUCTION, *overview(every, {**values, **full}, folder), ""]
    shared = [note for note in next(iter(values.values()), {"notes": []})["notes"] if all(note in value["notes"] for value in values.values())]
    lines += [f"- {escape(note)}" for note in shared] + [""] * bool(shared)
    for paper in dict.fromkeys(one.paper for one in every):
        mine = [one.name for one in every if one.paper == paper and one.name in {**values, **full}]
        lines += [f"## {escape(paper)}", ""] if mine else []
        for name in mine:
            for value in (told[name] for told in (values, full) if name in told):
                lines.append(markdown({**value, "notes": [note for note in value["notes"] if note not in shared]}, level=3))
    return "\n".join(lines).rstrip() + "\n"


def overview(every: Sequence[Experiment], values: dict[str, Value], folder: Path) -> list[str]:
    """A line for each experiment: where it is from, and where it stands at both scales."""
    lines = ["| experiment | paper | place | on Glyphs | at full scale |", "|---|---|---|---|---|"]
    for one in results.statuses(every, folder):
        name = f"[`{one['name']}`](#{anchor(title(values[one['name']]))})" if one["name"] in values else f"`{one['name']}`"
        lines.append(
            f"| {name} | {escape(one['paper'])} | {escape(one['place'])} | {escape(one['glyphs']['said'])} | {escape(one['full']['said'])} |"
        )
    return lines


def anchor(heading: str) -> str:
    """A heading's address within the page."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


if __name__ == "__main__":
    sys.exit(main())

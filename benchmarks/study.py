"""What a study costs over the classifiers' bare forward passes: `python benchmarks/study.py`, some minutes a classifier on one core.

The classifiers are the 16 transformers of the papers' study and the 19 convolutional networks of the training table that ship; the data are all of
`glyphs-200`. The study is that of `farfield study`: load, run, fit and score every detector, figures with intervals, tests, tables and the page. A bare
pass is the module alone over the same pictures, in batches as large, one after the other; the ratio is the time of the study over the sum of those.
`--detectors outputs` takes every detector and shaper of logits and features, `all` those that look inside the classifier too; `--classifiers N` the first
N; `--limit N` at most so many pictures of each set.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import farfield as ff
from farfield import study
from farfield.cli.bench import Given, suite_jobs
from farfield.data import suites
from farfield.detectors import CATALOGUE, DEFAULTS, SHAPERS, parse
from farfield.detectors.compose import looks_inside
from farfield.inputs import limited_suite
from farfield.reproduce.networks import ROWS, SHIPPED, slug
from farfield.reproduce.pool import MEMBERS
from farfield.study import Options

SUITE, BATCH = "glyphs-200", 256
OTHERS = ("panel",)  # is made of other detectors


def main() -> None:
    said = argparse.ArgumentParser()
    said.add_argument("--detectors", choices=("defaults", "outputs", "all"), default="defaults")
    said.add_argument("--classifiers", type=int)
    said.add_argument("--limit", type=int)
    said.add_argument("--out", type=Path)
    chosen = said.parse_args()
    out = chosen.out or Path(tempfile.mkdtemp())
    pool = study.pool([str(listed(out, chosen.classifiers))])
    names = detectors(chosen.detectors)
    options: dict[str, Any] = {"suite": [SUITE], **({"limit": chosen.limit} if chosen.limit else {})}
    sets = pictures(chosen.limit)
    count = sum(map(len, sets))
    print(f"{len(pool)} classifiers, {len(names)} detectors, {count:,} pictures in {len(sets)} sets, {torch.get_num_threads()} threads", flush=True)
    bare, aside = [], []

    def jobs(model: str) -> Any:
        made = suite_jobs(Given({**options, "model": [model]}), "cpu")
        began = time.perf_counter()
        bare.append(passes(made[0][1][0], sets))  # right before the study's own, on a machine as busy; it is no part of the study
        aside.append(time.perf_counter() - began)
        return made

    began = time.perf_counter()
    found = study.run(pool, jobs, {name: parse(name) for name in names}, out=out, options=Options(), each=told)
    value = study.value_of(found, names, out)
    study.write(value, out)
    total, passed = time.perf_counter() - began - sum(aside), sum(bare)
    print(f"bare forward passes: {passed:.1f} s, {1e3 * passed / count / len(bare):.3f} ms a picture")
    print(f"study: {total:.1f} s, {total / passed:.2f} times the bare passes")
    stages: dict[str, float] = {}
    for one in found:
        for stage, seconds in (one.results or {"cost": {}})["cost"].items():
            if isinstance(seconds, float) and stage != "total_seconds":
                stages[stage] = stages.get(stage, 0.0) + seconds
    stages["the rest: loading, analysis, tables, the page"] = total - sum(stages.values())
    for stage, seconds in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"  {stage.removesuffix('_seconds')}: {seconds:.1f} s, {seconds / passed:.2f}")
    if value["answer"] is not None:
        print(value["answer"]["sentence"])
    if chosen.out is None:
        shutil.rmtree(out)


def listed(out: Path, count: int | None) -> Path:
    """The pool as a CSV file: the transformers with their settings, then the networks of the table."""
    rows = []
    for name, member in MEMBERS.items():
        at = SHIPPED / f"pool-{slug(name)}.safetensors"
        rows.append(
            {"name": name, "model": str(at), "pretrained on": member.settings["pretraining"], "pretraining decay": member.settings["weight decay"]}
        )
    rows += [{"name": name, "model": str(path)} for name in ROWS if (path := SHIPPED / f"{slug(name)}.safetensors").exists()]
    path = out / "pool.csv"
    out.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("name", "model", "pretrained on", "pretraining decay"))
        writer.writeheader()
        writer.writerows(rows[:count])
    return path


def detectors(which: str) -> list[str]:
    if which == "defaults":
        return list(DEFAULTS)
    every = [name for name in CATALOGUE if name not in OTHERS] + [f"{name}+energy" for name in SHAPERS]
    return [name for name in every if which == "all" or not looks_inside(parse(name))]


def pictures(limit: int | None) -> list[Any]:
    suite = limited_suite(suites.load(SUITE), limit)
    return [suite.split("train"), suite.split("test"), *(ood.load() for ood in suite.ood)]


def passes(classifier: ff.Classifier, sets: list[Any]) -> float:
    """Seconds of the module alone over all pictures."""
    classifier.module.eval()
    seconds = 0.0
    with torch.inference_mode():
        for data in sets:
            for start in range(0, len(data), BATCH):
                batch = torch.stack([classifier.transform(picture) for picture in data.batch(list(range(start, min(start + BATCH, len(data)))))[0]])
                began = time.perf_counter()
                classifier.module(batch)
                seconds += time.perf_counter() - began
    return seconds


def told(done: study.Done, number: int, ahead: str) -> None:
    print(f"  {number}, {done.entry.name}: {done.reason or f'{done.seconds:.1f} s'}{ahead and f'; {ahead}'}", flush=True)


if __name__ == "__main__":
    main()

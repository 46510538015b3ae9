"""Command lines and TOML files, mutilated and run over a small world that may be broken too."""

from __future__ import annotations

import contextlib
import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asking import Tally
from damage import damaged, mutilated_text
from small_world import TOML, make_world

LINES = """
bench --model python:mine:net --id-train train --id-test test --far noise=far --detector energy --detector knn:k=2 --out out --limit 9
bench --model python:mine:net --id-train train.csv --id-test test --near a=list.txt --shifted b=openood.txt --class-map classes.json --detector msp --out out --json
bench --id-train train.npz --id-test test.npz --far far=far.npz --near near=far.safetensors --name mine --detector mahalanobis --detector react:q=90+energy --out out
bench --id-train stored-train --id-test stored-test --far far=stored-far --detector knn:k=2 --detector maxlogit --out out --workers 0 --batch-size 4
bench --model python:mine:net --id-train stored-train --id-test test --far far=arrays --far b=far --detector energy --preprocess resize=24,crop=24 --strict --out out
bench --config bench.toml --out out
fit --model python:mine:net --id-train train --detector mahalanobis --out made/det.safetensors --store out/store --limit 12 --device cpu
fit --id-train stored-train --detector knn:k=2 --out det3.safetensors --limit 8
score det.safetensors far list.txt --model python:mine:net --format jsonl --store out/store
score det.safetensors far/0.png test --model python:mine:net --class-map classes.txt --root . --out rows.csv --store out/store --batch-size 2
score det2.safetensors far.npz far.safetensors arrays --format csv
score det.safetensors far --model classifier.safetensors --store out/store
metrics id.csv far=ood.jsonl
metrics id.npy ood.npz a=ood.safetensors --ood-is-high --json
compare a b
compare a/results.json b --json
store ls --store a/store --json
store rm --store a/store --all --yes
store rm --store a/store --incomplete
store verify --store a/store
bench --model timm:test_resnet.r160_in1k --random-weights --id-test far --far noise=far --limit 2 --detector msp --preprocess resize=32,crop=32 --out out
fit --model torchvision:squeezenet1_1 --random-weights --id-train train --detector energy --out d --limit 4 --store out/store
score det.safetensors far --model hf:nobody/nothing --store out/store
bench --model timm:test_vit --weights weights.safetensors --id-train train --id-test test --far noise=far --detector msp --limit 6 --out out
""".strip().splitlines()
ODD = [
    "", " ", "-", "--", "-1", "--x", "a b", "a\nb", "\t", "\x1b[31m", "ü", "日本", "\udcff", "%s", "{}", "[bold]x[/bold]", "[/nope]", "'", '"', "*", ".",
    "x" * 300, "x" * 5000, "a/" * 2000, "=", "a=", "=a", "a=b=c", ":", "hf:", "python:", "nan", "inf", "-inf", "None", "null", "\u202e", "\r",
]  # fmt: skip
TABLE = """
--detector enrgy knn:k=0 knn:k=nan knn:k=1e9 knn:k=99999999999999999999 knn:k knn: knn:k=2,k=3 knn:j=2 react:q=200+energy react:q=nan+energy KNN react + energy+
--detector react+react+energy energy+react energy:temperature=-1 energy:temperature=inf mahalanobis:x python:mine:net msp,energy react:q=90+knn:k=2 react:q=0+msp
--model timm: timm:resnet18x timm:resnet18.nope timm:resnet18.a1_in1k timm:vit_base_patch16_dinov3 timm:test_vit tim:resnet18 torchvision: torchvision:resnet18x
--model torchvision:squeezenet1_1:NOPE torchvision:squeezenet1_1:DEFAULT hf:nobody/nothing hf:far hf:../.. hf:mine.py python:mine python:mine:nett python:mine:broken
--model python:mine:bare python:mine:number python:mine:constant python:mine:text python::net python:mine: python:os:getcwd python:no.such:thing python:.mine:net
--model python:mine:leaves python:mine:data x.pth mine.py far det.safetensors weights.safetensors far.safetensors glyphs-200-resnet glyphs-200-rsnet python:mine:net
--preprocess resize=0 resize=-1 crop=0 resize=24,crop=99999 crop=x resize mean=0/0 mean=nan std=0 std=-1 std=inf interpolation=cubic resize=2,crop=24 , rezise=3
--preprocess resize=24,,crop=24 resize=1e9 mean=1/2/3/4 resize=24,crop=1 mean=1e300
--class-map train det.safetensors id.csv
--limit 0 -1 1 2 nan inf 1.5 999999999999999999999999999999 1_0 ٣
--batch-size 0 -5 1 nan 999999999999 9999999999999999999999999 2.0
--workers -1 1 x 1.5
--device cuda cuda:99 cpu:7 gpu meta mps xla cpu:-1 cuda:x hpu privateuseone vulkan ipu
--out mine.py mine.py/x far . train/red new/deep/er
--store mine.py nowhere far a a/store/x
--format xml CSV jsonl
--far far far= =far test=far near=far train=far a/b=far noise=nowhere n=train.npz n=hf:x n=python:mine:data n=python:mine:empty n=python:mine:pictures n=mine.py
--far n=stored-far n=ood.npz n=id.csv n=id.npy n=a n=a/store
--id-test hf:far python:mine:data python:mine:pictures python:mine:broken python:mine:number python:mine:empty test/red far list.txt openood.txt a b id.npy
--id-test train.npz stored-train arrays det.safetensors a/store classes.txt
--name a/b ../../x [red] glyphs
--root nowhere mine.py far
--weights nowhere far mine.py det.safetensors a.pth far.safetensors
--config nowhere far mine.py det.safetensors classes.json
"""
VALUES = {"--far": ["a\nb=far", "\udcff=far", f"{'n' * 400}=far"], "--name": ["", "x" * 500, "a\nb", "\udcff"], "--root": [""], "--workers": [""]}
for row in TABLE.strip().splitlines():
    VALUES.setdefault(row.split()[0], []).extend(row.split()[1:])
VALUES |= {"--near": VALUES["--far"], "--shifted": VALUES["--far"], "--id-train": VALUES["--id-test"]}


def _places(argv: list[str], world: Path) -> list[tuple[int, str]]:
    """Which arguments are paths inside the world, or NAME=PATH."""
    found = []
    for index, argument in enumerate(argv):
        place = argument.partition("=")[2] or argument
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}", place) and ".." not in place and argv[index - 1] not in ("--out", "--root"):
            with contextlib.suppress(OSError, RuntimeError):  # none, or a loop of links
                found += [(index, place)] if world.resolve() in (world / place).resolve(strict=True).parents else []
    return found


def mutilated_line(argv: list[str], world: Path, rng: random.Random) -> tuple[list[str], str]:
    """A broken command line over a world that may be broken too; and what was done."""
    argv, done = list(argv), []
    for _ in range(rng.choice([1, 1, 1, 2])):
        at = rng.randrange(1, len(argv))
        places, valued = _places(argv, world), [i for i in range(1, len(argv)) if argv[i - 1] in VALUES]
        way = rng.choice(
            [*["damage"] * 6 * bool(places), *["value"] * 5 * bool(valued), *["other path"] * bool(places), *["edit"] * 7, "move", "extra"]
        )
        if way == "damage":
            place = rng.choice(places)[1]
            way = f"{place}: {damaged(world / place, rng)}"
        elif way == "value":
            at = rng.choice(valued)
            argv[at] = rng.choice(VALUES[argv[at - 1]])
        elif way == "other path":
            argv[rng.choice(places)[0]] = rng.choice(sorted(path.name for path in world.iterdir()))
        elif way == "edit":
            old, place = argv[at], rng.randrange(len(argv[at]) + 1)
            misspelt = old[:place] + rng.choice(["", "x", old[place : place + 1] * 2]) + old[place + 1 :]
            argv[at : at + 1] = rng.choice([[], [old, old], [rng.choice(argv)], [misspelt], *[[rng.choice(ODD)]] * 2])
        elif way == "move":
            argv.insert(rng.randrange(len(argv)), argv.pop(at))
        else:
            option = rng.choice(sorted(VALUES))
            argv += [option, rng.choice(VALUES[option])]
        done.append(way)
    for at in range(1, len(argv)):
        if argv[at - 1] == "--workers" and argv[at].isdigit() and int(argv[at]) > 4:  # no thousands of processes
            argv[at] = "0"
        if argv[at].startswith(("/", "~", "..")) or "=/" in argv[at]:  # nothing outside the world
            argv[at] = "nowhere"
    return argv, "; ".join(done)


def judged(answer: dict[str, Any]) -> tuple[str, str]:
    """Whether a command kept the promise: the column it counts in, and why."""
    err, status = answer["err"], answer["status"]
    lines = [line for line in err.split("\n") if line.strip()]
    last = (lines or [""])[-1][:300]
    if status is None:
        return "timeouts", ""
    if "fault in Farfield" in err:
        return "faults", last
    if "Traceback" in err or "Traceback" in answer["out"]:
        return "tracebacks", last
    if status != 2:
        return ("other", f"status {status}: {last}") if status else ("accepted", "")
    while lines and lines[0].startswith("warning: "):
        del lines[0]
    if (not lines and "Usage: farfield" in answer["out"]) or (len(lines) == 1 and lines[0].startswith("farfield: ")):  # the help, or one sentence
        return "refused", last
    return "other", f"not one sentence: {lines[:3]!r:.300}"


def fuzz_lines(ask: Callable[..., Any], count: int, seed: int, folder: Path, *, hub: bool = True) -> list[Tally]:
    """Runs so many broken command lines and TOML files, a quarter, each in a fresh copy of a small world; `hub` says whether any names a hub."""
    world = folder / "world"
    make_world(ask, world)
    lines, tomls = Tally("command lines"), Tally("TOML files")
    rng = random.Random(f"lines {seed}")
    for index in range(count):
        broken, place = folder / f"{index:05d}", folder / f"{index:05d} run"
        shutil.copytree(world, broken, symlinks=True)
        if index % 4 == 3:
            argv, done = ["bench", "--config", "bench.toml"], "bench.toml"
            text = re.sub(rb"(?<=[\"'])(/|~|\.\.)", b"x", mutilated_text(TOML.encode(), rng))  # nothing outside the world
            (broken / "bench.toml").write_bytes(text)
        else:
            argv, done = mutilated_line(LINES[(index - index // 4) % len(LINES)].split(), broken, rng)
            argv = argv if hub else [argument.replace("hf:", "hub:") for argument in argv]
        shutil.copytree(broken, place, symlinks=True)
        verdict, told = judged(ask("line", argv=argv, cwd=str(place)))
        tally = tomls if index % 4 == 3 else lines
        if tally.note(verdict, f"{told} ({done}) `cd {shlex.quote(str(broken))} && farfield {shlex.join(argv)[:400]}`"):
            shutil.rmtree(broken)
        shutil.rmtree(place)
    return [lines, tomls]

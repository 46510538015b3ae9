"""Makes the pool of small transformers that the study of Mueller and Hein stands on: 4 pretrainings, and 4 fine-tunings of each.

    python experiments/pool.py --out FOLDER          # those that are not there yet; a stop costs some minutes at most
    python experiments/pool.py --out FOLDER --keep   # and then puts what does not ship otherwise where Farfield finds it, 16 bits a weight
    python experiments/pool.py --out FOLDER --smoke  # two steps each, on few pictures

What each is, `farfield.reproduce.pool` says. A pretraining takes 8 to 15 minutes of one core, a fine-tuning under one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from farfield import models, recipes
from farfield.classifier import Classifier
from farfield.collect import collect
from farfield.data import suites
from farfield.reproduce.few import few_of
from farfield.reproduce.networks import SHIPPED, Networks, slug
from farfield.reproduce.pool import DECAYS, MEMBERS, PRETRAININGS, Pool

NAMES = (*(name for name, (_, decay) in PRETRAININGS.items() if decay != DECAYS[0]), *MEMBERS)


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def progress(what: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        say(f"{what} {done}/{total}")


def accuracy(classifier: Classifier, name: str, smoke: bool) -> float:
    """On the test split of what it was trained on."""
    suite = suites.load(f"glyphs-{PRETRAININGS[name][0]}" if name in PRETRAININGS else "glyphs-200")
    outputs = collect(classifier, (few_of(suites.load("glyphs-200")) if smoke else suite).split("test"))
    assert outputs.labels is not None
    return (outputs.predictions() == outputs.labels).double().mean().item()


def keep(pool: Pool, name: str, into: Path) -> Path:
    """Writes a network with what it is."""
    path = pool.file(name)
    facts: dict[str, Any] = {key: value for key, value in models.contents(path)[1].items() if key not in ("mean", "std", "size", "labels", "groups")}
    classifier = Classifier.load(str(path))
    told = {"pool": name, "command": "python experiments/pool.py", "test_accuracy": round(accuracy(classifier, name, pool.networks.smoke), 4)}
    kept = into / f"pool-{slug(name)}.safetensors"
    recipes.save(classifier, kept, "vit", {**facts, **told}, half=True)
    say(f"{name}: test accuracy {told['test_accuracy']}, {kept.stat().st_size:,} bytes")
    return kept


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--keep", type=Path, nargs="?", const=SHIPPED, help="where the networks go; into the package by default")
    parser.add_argument("--smoke", action="store_true", help="two steps each, on few pictures")
    given = parser.parse_args(arguments)
    pool = Pool(Networks(given.out / "networks", smoke=given.smoke, progress=progress), given.out / "pool", shipped=False)
    for name in NAMES:
        say(f"{name}: {pool.file(name)}")
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            keep(pool, name, given.keep)


if __name__ == "__main__":
    main()

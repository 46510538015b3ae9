"""The small networks that experiments at the scale of Glyphs stand on: every training recipe, on one network, schedule and set of pictures.

A row of `ROWS` is a network that a recipe of `farfield recipes` makes on `glyphs-200`, from random weights or from another row's network. What a recipe
does (objective, options, augmentation, what has weight decay) is the catalogue's; its schedule is not, but `SCHEDULE` for all rows that start from random
weights. All rows of a seed begin with the same weights and see the same renderings in the same order. The networks of seed 0 that start from random
weights ship with Farfield; any other is trained where it is asked for, in some 20 to 90 seconds on one core.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from farfield import recipes
from farfield.classifier import Classifier
from farfield.collect import Progress, collect
from farfield.data import glyphs, suites
from farfield.data.images import Images
from farfield.outputs import Outputs
from farfield.reproduce.few import few_of
from farfield.training import Recipe

SUITE = "glyphs-200"
SCHEDULE: dict[str, Any] = {
    "epochs": 4, "steps": 0, "batch_size": 128, "lr": 0.15, "schedule": "cosine", "drops": (), "warmup": 0.1, "optimizer": "sgd", "momentum": 0.9,
    "nesterov": True, "weight_decay": 5e-4, "precision": "no",
}  # fmt: skip
AVERAGE = 0.98  # a running average over the last 50 of 624 steps
SHIPPED = Path(__file__).with_name("networks")


@dataclass(frozen=True)
class Row:
    """How a network is made.

    Args:
        recipe: a name in `RECIPES`, or `augdelete`.
        start: the row whose network it starts from; nothing for random weights.
        network: `resnet` or `bit`.
        change: settings of the recipe in place of its own.
        options: likewise of its objective.
        groups: of classes, for MOS.
    """

    recipe: str
    start: str = ""
    network: str = "resnet"
    change: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: str = ""


LESS = {"weight_decay": SCHEDULE["weight_decay"] / 5}  # torchvision's second recipe has a fifth of the first one's
LONG = {"epochs": 2 * SCHEDULE["epochs"]}
LONGER = {"epochs": 4 * SCHEDULE["epochs"]}  # torchvision's second recipe has nearly seven times the epochs of the first
# a class is seen 400 times in all, so its queue cannot be the paper's 1,000; outliers begin after 40 % of the steps as there, a tenth as many
NPOS = {"queue": 100, "begin": 250, "samples": 60}
MOS = {"steps": 2000, "lr": 0.03}  # a tenth of the paper's steps, ten times its rate
ROWS: dict[str, Row] = {
    "cross-entropy": Row("cross-entropy"),
    "label-smoothing": Row("label-smoothing"),
    "mixup": Row("mixup"),
    "cutmix": Row("cutmix"),
    "erasing": Row("erasing"),
    "trivial": Row("trivial"),
    "ema": Row("ema"),
    "long": Row("long", change=LONG),
    "weight-decay": Row("weight-decay", change=LESS),
    "v2": Row("v2", change=LESS),
    "v2, longer": Row("v2", change=LESS | LONGER),
    "cross-entropy, AugDelete": Row("augdelete", "cross-entropy"),
    "label-smoothing, AugDelete": Row("augdelete", "label-smoothing"),
    "mixup, AugDelete": Row("augdelete", "mixup"),
    "v2, AugDelete": Row("augdelete", "v2"),
    "v2, longer, AugDelete": Row("augdelete", "v2, longer"),
    "erasing, AugDelete": Row("augdelete", "erasing"),
    "trivial, AugDelete": Row("augdelete", "trivial"),
    "regmixup": Row("regmixup"),
    "augrevise": Row("augrevise"),
    "augrevise, AugDelete": Row("augdelete", "augrevise"),
    "augrevise as printed": Row("augrevise", options={"form": "printed"}),
    "augrevise as printed, AugDelete": Row("augdelete", "augrevise as printed"),
    "augrevise, smoothing": Row("augrevise", options={"smoothing": 0.1}),
    "augrevise, smoothing, AugDelete": Row("augdelete", "augrevise, smoothing"),
    "augmix": Row("augmix"),
    "logitnorm": Row("logitnorm"),
    "t2fnorm": Row("t2fnorm"),
    "npos": Row("npos", change=LESS, options=NPOS),
    "outlier-exposure": Row("outlier-exposure", "cross-entropy", change={"epochs": 1}),
    "mos, taxonomy": Row("mos", "cross-entropy", change=MOS, groups="suite"),
    "mos, k-means": Row("mos", "cross-entropy", change=MOS, groups="kmeans"),
    "mos, random": Row("mos", "cross-entropy", change=MOS, groups="random"),
    "sft": Row("sft", "cross-entropy"),
    "bit": Row("cross-entropy", network="bit"),
    "bit, sft": Row("sft", "bit", "bit"),
    "bit, sft by SAM": Row("sft", "bit", "bit", {"sharpness": "sam"}),
    "bit, sft by SGD": Row("sft", "bit", "bit", {"sharpness": "none"}),
    "bit, sft by Adam": Row("sft", "bit", "bit", {"sharpness": "none", "optimizer": "adam"}),
    "bit, sft 400 steps": Row("sft", "bit", "bit", {"steps": 400, "lr": 1e-2}),
}


def slug(name: str) -> str:
    """A name, for a file.

    >>> slug("bit, sft by SAM")
    'bit-sft-by-sam'
    """
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


class Networks:
    """The networks of one seed, each made when it is first asked for and kept in a folder.

    Args:
        out: the folder; a seed has a sub-folder, a network one in that.
        seed: of weights, renderings and order.
        smoke: two steps on few pictures of 34 classes, to see that all runs.
        progress: as `collect`'s.
    """

    def __init__(self, out: str | Path, seed: int = 0, *, smoke: bool = False, progress: Progress | None = None) -> None:
        self.out, self.seed, self.smoke, self.progress = Path(out) / f"seed-{seed}", seed, smoke, progress
        self.suite = few_of(suites.load(SUITE)) if smoke else suites.load(SUITE)
        self.classes = len(self.suite.classes)
        self.drawings: dict[int, Images] = {}
        self.seen: dict[str, tuple[Outputs, float]] = {}

    def pictures(self, epoch: int) -> Images:
        """The renderings of an epoch, the same for all networks of the seed."""
        epoch = 0 if self.smoke else epoch
        if epoch not in self.drawings:
            drawn: Images = self.suite.split("train") if self.smoke else glyphs.draw_split(200, "train", self.seed * 100 + epoch)
            self.drawings[epoch] = drawn
        return self.drawings[epoch]

    def folder(self, name: str) -> Path:
        """Where a network's run is."""
        return self.out / slug(name) / "run"

    def get(self, name: str) -> Classifier:
        """The network of a row: the one that ships, the one in the folder, or one made now.

        Raises:
            InputError: when the folder holds a run of other settings.
        """
        path = SHIPPED / f"{slug(name)}.safetensors"
        if self.seed == 0 and not self.smoke and path.exists():
            return _laid_out(Classifier.load(str(path)), name)
        if not (self.folder(name) / "model.safetensors").exists():
            self.train(name)
        return self.trained(name)

    def trained(self, name: str) -> Classifier:
        """The network of a row that is done."""
        return _laid_out(Classifier.load(str(self.folder(name))), name)

    def recipe(self, row: Row) -> Recipe:
        """A row's recipe."""
        recipe = recipes.RECIPES[row.recipe].recipe
        if not row.start:
            recipe = replace(recipe, **SCHEDULE, average=AVERAGE if recipe.average else 0.0)
        recipe = replace(recipe, **row.change, options={**recipe.options, **row.options}, seed=self.seed)
        if not self.smoke:
            return recipe
        fewer = {"queue": 2, "begin": 0, "samples": 3} if row.recipe == "npos" else {}
        return replace(recipe, steps=2, batch_size=64, options={**recipe.options, **fewer})

    def said(self, name: str, classifier: Classifier | None = None) -> tuple[Outputs, float]:
        """What a network says of the plain training pictures (the renderings of the first epoch), and the CPU seconds that took."""
        if name not in self.seen:
            network, pictures = classifier or self.get(name), self.pictures(0)
            began = time.process_time()
            outputs = collect(network, pictures)
            self.seen[name] = outputs, time.process_time() - began
        return self.seen[name]

    def data(self) -> recipes.TrainingData:
        """The training pictures, and what may be done to them."""
        drawn, suite = self.pictures, self.suite
        return recipes.TrainingData(self.pictures(0), self.classes, drawn=drawn, augmentations=suite.augmentations, taxonomy=suite.taxonomy)

    def train(self, name: str) -> tuple[Classifier, float]:
        """Makes a row's network, goes on with one that was begun, and returns it with the CPU seconds of its training.

        Drawing the pictures is not counted; looking at them is, where the head alone is trained.
        """
        row, run = ROWS[name], self.folder(name)
        recipe = None if row.recipe == "augdelete" else self.recipe(row)
        source = f"{row.network}-pooled"
        if recipe is not None and not row.groups:  # all renderings that will be wanted are there before the clock starts
            steps_an_epoch = max(len(self.pictures(0)) // recipe.batch_size, 1)
            for epoch in range(-(-recipe.steps // steps_an_epoch) if recipe.steps else recipe.epochs):
                self.pictures(epoch)
        setting, before = recipes.Setting(source, self.data(), row.start or None), 0.0
        if recipe is None or row.groups:
            features, before = self.said(row.start)
            setting = replace(setting, data=replace(setting.data, train=features, drawn=None))
        torch.manual_seed(self.seed)
        classifier = self.get(row.start) if row.start else recipes.fresh(source, 200, seed=self.seed)
        began = time.process_time()
        if recipe is None:
            recipes.augdelete(classifier, setting, run, seed=self.seed, progress=self.progress)
        else:
            if row.groups:
                k = None if row.groups == "suite" else len(self.suite.taxonomy)
                setting = replace(setting, groups=recipes.groups_of(row.groups, classifier, setting, run, k, self.seed))
            entry = replace(recipes.RECIPES[row.recipe], recipe=recipe, then="augdelete" if row.recipe == "npos" else "")
            recipes.run(classifier, row.recipe, entry, setting, run, progress=self.progress)
        seconds = time.process_time() - began + before
        shutil.rmtree(run / "store", ignore_errors=True)
        return classifier, seconds


def _laid_out(classifier: Classifier, name: str) -> Classifier:
    """The network under its row's name, as it lay in memory when it was trained: another layout gives other last bits."""
    channels_last: Any = torch.channels_last
    classifier.module.to(memory_format=channels_last)
    classifier.name = name
    return classifier

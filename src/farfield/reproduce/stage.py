"""Where an experiment runs: on Glyphs with small networks, or at full scale with the papers' classifiers and data sets on disk."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from farfield import recipes
from farfield.classifier import Classifier
from farfield.classifier.surgery import put_head
from farfield.collect import Progress, collect
from farfield.data import suites
from farfield.data.images import OODSet, Suite
from farfield.data.transforms import Preprocess
from farfield.errors import InputError
from farfield.outputs import Head, Outputs
from farfield.reproduce.base import Convention
from farfield.reproduce.few import few_of, kept, limited
from farfield.reproduce.figures import Mean
from farfield.reproduce.networks import ROWS, SUITE, Networks, slug
from farfield.reproduce.worth import Judged, judged, seconds
from farfield.store import Stored
from farfield.training import Recipe, make_objective, train
from farfield.training.features import FeatureSet
from farfield.training.groups import layout, read_taxonomy

Scale = Literal["glyphs", "full"]
SCALES: tuple[Scale, ...] = ("glyphs", "full")


@dataclass(frozen=True)
class Network:
    """A classifier on a stage, under a name of its own there, and what it was built from."""

    name: str
    classifier: Classifier
    source: str


class Stage:
    """A scale, a seed, a folder, and what experiments do there.

    Args:
        scale: `glyphs` or `full`.
        out: the folder that everything is kept in; what is there is not done again.
        seed: of whatever is random.
        root: the folder of the data sets, at full scale.
        limit: at most so many samples of each set.
        model: in place of an experiment's classifier, at full scale.
        preprocess: in place of the suite's.
        random_weights: a dry run: no weights are fetched, and nothing that starts from random weights is trained.
        smoke: another: two steps of training, and on Glyphs few pictures.
        device: where classifiers run.
        progress: as `collect`'s.
    """

    def __init__(
        self,
        scale: Scale,
        out: str | Path,
        seed: int = 0,
        *,
        root: Path | None = None,
        limit: int | None = None,
        model: str | None = None,
        preprocess: str | None = None,
        random_weights: bool = False,
        smoke: bool = False,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> None:
        self.scale, self.out, self.seed, self.root, self.limit = scale, Path(out), seed, root, limit
        self.model, self.preprocess, self.random_weights, self.smoke = model, preprocess, random_weights, smoke
        self.device, self.progress = device, progress
        self.loaded: dict[str, Suite] = {}

    @property
    def glyphs(self) -> bool:
        """Whether this is the scale of Glyphs."""
        return self.scale == "glyphs"

    @cached_property
    def networks(self) -> Networks:
        """The networks of Glyphs."""
        return Networks(self.out / "networks", self.seed, smoke=self.smoke, progress=self.progress)

    @property
    def place(self) -> Path:
        """The folder of this seed."""
        return self.out / f"seed-{self.seed}"

    # --- data and classifiers -----------------------------------------------------------------------------------------------------------------

    def suite(self, full: str, glyphs: str = SUITE) -> Suite:
        """The suite of this scale."""
        name = glyphs if self.glyphs else full
        if name not in self.loaded:
            suite = suites.load(name) if self.glyphs else self._grouped(suites.load(name, self.root))
            self.loaded[name] = few_of(suite) if self.glyphs and self.smoke else limited(suite, self.limit)
        return self.loaded[name]

    def _grouped(self, suite: Suite) -> Suite:
        """A suite with a taxonomy: its own, or one in the folder of the data sets, as the authors of MOS have it or as `taxonomy.json`."""
        root = suites.place(suites.definition(suite.name), self.root)
        found = [*sorted((root / "data_lists").glob("*group_softmax_train*.txt")), root / "taxonomy.json"]
        path = next((path for path in found if path.is_file()), None)
        if suite.taxonomy or path is None:
            return suite
        members = read_taxonomy(path, suite.classes if path.suffix == ".json" else None, len(suite.classes))
        return replace(suite, taxonomy={f"group {i}": tuple(group) for i, group in enumerate(members, 1)})

    def network(self, glyphs: str, full: str) -> Network:
        """A trained classifier: one of the small networks or one that ships, or the paper's own.

        Raises:
            InputError: when its weights cannot be had; says where they are.
        """
        if self.glyphs:
            if glyphs in ROWS:
                return Network(glyphs, self.networks.get(glyphs).to(self.device), f"{ROWS[glyphs].network}-pooled")
            return Network(glyphs, self._shown(Classifier.load(glyphs)).to(self.device), glyphs)
        name = self.model or full
        fetched = name.partition(":")[0] in ("timm", "torchvision", "hf", "zoo")
        transform = None if self.preprocess is None else Preprocess.parse(self.preprocess)
        torch.manual_seed(self.seed)  # random weights are those of the seed, so that what they said is found again
        classifier = Classifier.load(name, transform=transform, random_weights=self.random_weights and fetched, device=self.device)
        return Network(name, classifier, name)

    def _shown(self, classifier: Classifier) -> Classifier:
        """In a smoke run, which has few classes, with a head for these."""
        head = classifier.head
        if self.smoke and head is not None:
            some = list(kept(head.classes))
            put_head(classifier, Head(head.weight[some], head.bias[some]))
        return classifier

    def trained(
        self, row: str, source: str, suite: Suite, *, change: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None
    ) -> Network:
        """A network made from random weights: on Glyphs a row of `ROWS`, else by the row's recipe, published but for `change` and the objective's `options`."""
        if self.glyphs:
            return self.network(row, source)
        source, published = self.model or source, recipes.RECIPES[ROWS[row].recipe]
        name = f"{row} of {source} on {suite.name}"
        folder = self.place / "trained" / slug(name)
        recipe = replace(published.recipe, **(change or {}), options={**published.recipe.options, **(options or {})}, seed=self.seed)
        classifier = recipes.fresh(source, len(suite.classes), seed=self.seed, preprocess=self.preprocess)
        if self.random_weights and not self.smoke:
            classifier.name = name
            return Network(name, classifier.to(self.device), source)
        if not (folder / "model.safetensors").exists():
            # a row is the network before AugDelete, which is a row of its own; but for NPOS, whose training makes no head
            entry = replace(published, recipe=self._short(recipe), then="augdelete" if ROWS[row].recipe == "npos" else "")
            setting = recipes.Setting(source, self.training(suite))
            recipes.run(classifier.to(self.device), ROWS[row].recipe, entry, setting, folder, progress=self.progress)
        return self._found(name, folder, source)

    def training(self, suite: Suite) -> recipes.TrainingData:
        """The training data of a suite, for a recipe."""
        if self.glyphs and suite.name.startswith(SUITE):
            return self.networks.data()
        classes = len(suite.classes)
        return recipes.TrainingData(
            suite.split("train"),
            classes,
            labels=suite.classes or None,
            drawn=suite.drawn,
            augmentations=suite.augmentations or None,
            taxonomy=suite.taxonomy,
        )

    def finetuned(
        self,
        start: Network,
        label: str,
        recipe: str,
        suite: Suite,
        *,
        glyphs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        groups: torch.Tensor | None = None,
        **change: Any,
    ) -> Network:
        """A copy of a network trained further by a recipe, under `label`.

        Args:
            start: where it starts from; it is left as it is.
            label: its name here.
            recipe: by name.
            suite: whose training data.
            glyphs: settings at the scale of Glyphs, in place of the published ones.
            options: of the objective, likewise.
            groups: of the head, for MOS.
            change: settings at both scales.
        """
        name = f"{start.name}, {label}"
        folder = self.place / "finetuned" / slug(name)
        if not (folder / "model.safetensors").exists():
            entry = recipes.RECIPES[recipe]
            settings = {**(glyphs or {} if self.glyphs else {}), **change, "seed": self.seed}
            own = entry.recipe.options if settings.get("objective", entry.recipe.objective) == entry.recipe.objective else {}
            changed = replace(entry.recipe, **settings, options={**own, **(options or {})})
            torch.manual_seed(self.seed)
            setting = recipes.Setting(start.source, self.training(suite), start.name, groups=groups)
            recipes.run(copy.deepcopy(start.classifier), recipe, replace(entry, recipe=self._short(changed)), setting, folder, progress=self.progress)
        return self._found(name, folder, start.source)

    def augdelete(self, start: Network, suite: Suite, fraction: float = 1.0) -> Network:
        """A copy of a network with its last layer at the optimum of plain cross-entropy on a fraction of the training data."""
        name = f"{start.name}, AugDelete" + (f" on {fraction:.0%}" if fraction < 1 else "")
        folder = self.place / "finetuned" / slug(name)
        if not (folder / "model.safetensors").exists():
            data = self.training(suite)  # on Glyphs the renderings of the first epoch, which differ by seed
            said = collect(start.classifier, data.train, out=self.place / "store", name="train", progress=self.progress)
            data = replace(data, train=said, drawn=None)
            recipes.augdelete(
                copy.deepcopy(start.classifier), recipes.Setting(start.source, data, start.name), folder, fraction=fraction, seed=self.seed
            )
        return self._found(name, folder, start.source)

    def _found(self, name: str, folder: Path, source: str) -> Network:
        classifier = Classifier.load(str(folder)).to(self.device)
        classifier.name = name
        return Network(name, classifier, source)

    def _short(self, recipe: Recipe) -> Recipe:
        """A recipe as this stage runs it: two steps in a smoke run."""
        return replace(recipe, steps=2, batch_size=min(recipe.batch_size, 32)) if self.smoke else recipe

    # --- what classifiers say -----------------------------------------------------------------------------------------------------------------

    def said(self, network: Network, suite: Suite, names: Sequence[str] = ()) -> dict[str, Outputs | Stored]:
        """What a network says of the training and test data and of every near, far and shifted set, or of some of them; stored, and looked up there again."""
        loaders = {"train": suite.splits["train"], "test": suite.splits["test"], **{ood.name: ood.load for ood in suite.ood}}
        return {
            name: collect(network.classifier, load(), out=self.place / "store", name=name, progress=self.progress)
            for name, load in loaders.items()
            if not names or name in names
        }

    def head(self, label: str, data: Outputs | Iterable[Outputs], classes: int, groups: torch.Tensor | None = None, **change: Any) -> Head:
        """A head trained on features alone: the recipe `mos`, with one softmax for each group, or a flat one where there are no groups.

        Args:
            label: its name on this stage, where it is kept.
            data: features and labels.
            classes: how many there are.
            groups: of the head; see `farfield.training.groups`.
            change: settings in place of the recipe's.
        """
        found = FeatureSet(data)
        recipe = self._short(replace(recipes.RECIPES["mos"].recipe, **change, seed=self.seed))
        if groups is None:
            recipe = replace(recipe, objective="cross-entropy", options={})
        layer = nn.Linear(found.width, classes if groups is None else len(groups))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        objective = make_objective(recipe.objective, recipe.options, **({} if groups is None else {"groups": groups}))
        train(layer, found, recipe, transform=_float32, out=self.place / "heads" / slug(label), objective=objective, progress=self.progress)
        return Head(layer.weight.detach(), layer.bias.detach(), groups)

    def headed(self, network: Network, head: Head) -> Network:
        """A copy of a network with this head."""
        classifier = copy.deepcopy(network.classifier)
        put_head(classifier, head)
        return Network(f"{network.name}, another head", classifier, network.source)

    def groups(self, suite: Suite) -> torch.Tensor:
        """The groups of a suite's taxonomy, as a head has them."""
        if not suite.taxonomy:
            raise InputError(
                f"{suite.name} has no taxonomy of its classes, which this experiment needs for their groups. Put the authors' list, "
                "data_lists/imagenet2012_group_softmax_train_list.txt, or a taxonomy.json into the folder of the data sets."
            )
        return layout(list(suite.taxonomy.values()))

    # --- what that is worth -------------------------------------------------------------------------------------------------------------------

    def judge(
        self,
        network: Network,
        detectors: Sequence[str],
        suite: Suite,
        *,
        fpr: Convention = "id",
        mean: Mean = "sets",
        precision: bool = False,
    ) -> Judged:
        """Detectors on a classifier and a suite: records `(detector, set)` and `(detector, "average")`."""
        return judged(self.place, network.name, suite, network.classifier, detectors, fpr=fpr, mean=mean, precision=precision, progress=self.progress)

    def judge_outputs(
        self,
        label: str,
        outputs: Mapping[str, Outputs],
        detectors: Sequence[str],
        suite: Suite,
        *,
        fpr: Convention = "id",
        mean: Mean = "sets",
        precision: bool = False,
    ) -> Judged:
        """The same on outputs at hand: `train`, `test`, and the sets of a suite by name."""
        splits = {name: partial(_given, outputs[name]) for name in ("train", "test") if name in outputs}
        ood = tuple(OODSet(one.name, one.group, partial(_given, outputs[one.name])) for one in suite.ood if one.name in outputs)
        given = Suite(suite.name, (), {}, splits, ood, (), "")
        clusters = {one.name: _clusters(one) for one in suite.ood if one.name in outputs}
        return judged(self.place, label, given, None, detectors, fpr=fpr, mean=mean, precision=precision, clusters=clusters, progress=self.progress)

    def seconds(self, network: Network, detector: str, suite: Suite, *, again: int = 3) -> float:
        """How long the test data and all sets take with a detector; see `worth.seconds`."""
        return seconds(network.classifier, detector, suite, self.place / "store", again=again, progress=self.progress)


def _given(outputs: Outputs) -> Outputs:
    return outputs


def _clusters(ood: OODSet) -> np.ndarray | None:
    clusters = getattr(ood.load(), "clusters", None)
    return None if clusters is None else clusters.numpy()


def _float32(features: torch.Tensor) -> torch.Tensor:
    return features.to(torch.float32)


def loaded(outputs: Outputs | Stored) -> Outputs:
    """Outputs in memory."""
    return outputs.load() if isinstance(outputs, Stored) else outputs


def reheaded(outputs: Outputs, head: Head) -> Outputs:
    """The same features under another head."""
    assert outputs.features is not None
    return Outputs(logits=head(outputs.features.float()), features=outputs.features, labels=outputs.labels, head=head)

"""A pool of vision transformers that differ in how they were trained: small ones for Glyphs, made here, and those that timm publishes.

On Glyphs four pretrainings (the label space of `glyphs-200` or `glyphs-1000`, weight decay 0.05 or 0.3) are each fine-tuned on `glyphs-200` at four
learning rates. The two pretrainings with decay 0.05 are classifiers that ship; the others have their recipe but for the decay. All of seed 0 ship with
Farfield, in 16 bits; `python experiments/pool.py` makes them. Another seed is one of fine-tuning: the pretrainings are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from farfield import models, recipes
from farfield.classifier import Classifier
from farfield.classifier.surgery import new_head
from farfield.data import glyphs
from farfield.data.images import Images
from farfield.models.shipped import NORMALIZE, RECIPES
from farfield.reproduce.networks import SHIPPED, Networks, slug
from farfield.training import Recipe, train

SPACES, DECAYS, RATES = (200, 1000), (0.05, 0.3), (0.003, 0.01, 0.03, 0.1)
# two passes over renderings, in batches as small as those of the other networks: the recipe's 512 would leave 78 steps
FINETUNING: dict[str, Any] = {"steps": 0, "epochs": 2, "batch_size": 128, "augment": ()}


@dataclass(frozen=True)
class Member:
    """A model of a pool.

    Args:
        name: of the model.
        settings: how it was trained, by what is set: `pretraining`, `weight decay`, `learning rate` (of fine-tuning) and so on; what is not known is not in it.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def pretraining(self) -> str:
        """What it was pretrained on, and with what decay.

        >>> MEMBERS["200 classes, decay 0.3, rate 0.01"].pretraining
        '200 classes, decay 0.3'
        """
        decay = self.settings.get("weight decay")
        return self.settings["pretraining"] + ("" if decay is None else f", decay {decay}")

    @property
    def architecture(self) -> str:
        """Its architecture, where the pool has several."""
        return self.settings.get("architecture", "")

    def but(self, setting: str) -> tuple[str, ...]:
        """All its settings but one, for comparison."""
        return tuple(f"{name} {value}" for name, value in sorted(self.settings.items()) if name != setting)


def pretraining(space: int, decay: float) -> str:
    """The name of a pretraining on Glyphs."""
    return f"{space} classes, decay {decay:g}"


def _member(space: int, decay: float, rate: float) -> Member:
    settings = {"pretraining": f"{space} classes", "weight decay": f"{decay:g}", "learning rate": f"{rate:g}"}
    return Member(f"{pretraining(space, decay)}, rate {rate:g}", settings)


PRETRAININGS: dict[str, tuple[int, float]] = {pretraining(space, decay): (space, decay) for space in SPACES for decay in DECAYS}
MEMBERS: dict[str, Member] = {one.name: one for one in (_member(*PRETRAININGS[name], rate) for name in PRETRAININGS for rate in RATES)}


def pairs(some: Sequence[Member], setting: str, one: str, other: str) -> list[tuple[Member, Member]]:
    """The models that differ in one setting alone, which has these values.

    >>> [(a.name, b.name) for a, b in pairs(list(MEMBERS.values())[:5], "weight decay", "0.05", "0.3")]
    [('200 classes, decay 0.05, rate 0.003', '200 classes, decay 0.3, rate 0.003')]
    """
    first = {member.but(setting): member for member in some if member.settings.get(setting) == one}
    return [(first[member.but(setting)], member) for member in some if member.settings.get(setting) == other and member.but(setting) in first]


class Pool:
    """The transformers of Glyphs: those that ship, and those that a folder has; each is made when it is first asked for.

    Args:
        networks: of the stage: the data, and the seed of fine-tuning.
        out: the folder.
        shipped: whether those that ship are taken; else they are made as well.
    """

    def __init__(self, networks: Networks, out: str | Path, *, shipped: bool = True) -> None:
        self.networks, self.out, self.shipped = networks, Path(out), shipped

    def file(self, name: str) -> Path:
        """The file of a pretraining or member.

        Raises:
            InputError: when the folder holds a run of other settings.
        """
        space, decay = PRETRAININGS.get(name, (0, 0.0))
        if decay == DECAYS[0]:
            return models.shipped_path(f"glyphs-{space}-vit")
        ships = SHIPPED / f"pool-{slug(name)}.safetensors"
        whole = not self.networks.smoke and self.networks.seed == 0  # a pretraining is that of seed 0 in any case
        if self.shipped and (whole or space) and ships.exists():
            return ships
        path = (self.out if space else self.out / f"seed-{self.networks.seed}") / slug(name) / "model.safetensors"
        if not path.exists():
            self._pretrain(name, path) if space else self._finetune(MEMBERS[name], path)
        return path

    def get(self, name: str) -> Classifier:
        """The classifier of that name."""
        classifier = Classifier.load(str(self.file(name)))
        classifier.name = name
        return classifier

    def recipe(self, name: str) -> Recipe:
        """How a pretraining or a member is trained."""
        if name in PRETRAININGS:
            return self._short(replace(RECIPES["vit"], weight_decay=PRETRAININGS[name][1]))
        rate = float(MEMBERS[name].settings["learning rate"])
        return self._short(replace(recipes.RECIPES["vit"].recipe, **FINETUNING, lr=rate, seed=self.networks.seed))

    def _short(self, recipe: Recipe) -> Recipe:
        return replace(recipe, steps=2, batch_size=32) if self.networks.smoke else recipe

    def _pretrain(self, name: str, path: Path) -> None:
        """As `farfield.models.shipped` does."""
        space, recipe = PRETRAININGS[name][0], self.recipe(name)
        drawn: Callable[[int], Images] = partial(glyphs.draw_split, space, "train")
        if self.networks.smoke:
            space, drawn = self.networks.classes, self.networks.pictures
        torch.manual_seed(recipe.seed)
        channels_last: Any = torch.channels_last
        module = models.build("vit", space, SPACES.index(PRETRAININGS[name][0])).to(memory_format=channels_last)
        history = train(module, drawn, recipe, transform=NORMALIZE, out=path.parent, progress=self.networks.progress)
        facts = {"architecture": "vit", "classes": space, "mean": NORMALIZE.mean, "std": NORMALIZE.std, "recipe": asdict(recipe)}
        models.save(module, path, {**facts, "train_accuracy": history[-1]["accuracy"], "seconds": sum(record["seconds"] for record in history)})

    def _finetune(self, member: Member, path: Path) -> None:
        """The recipe `vit` with a new head of zeros, whatever the label space was (Dosovitskiy et al., ICLR 2021, section 3.2)."""
        start = member.pretraining
        classifier = self.get(start)
        new_head(classifier, self.networks.classes)
        setting = recipes.Setting("vit", self.networks.data(), start, half=True)
        entry = replace(recipes.RECIPES["vit"], recipe=self.recipe(member.name))
        recipes.run(classifier, "vit", entry, setting, path.parent, progress=self.networks.progress)


def published() -> list[Member]:
    """The transformers that timm publishes, with what their names tell of their training."""
    from farfield.models.zoo import augreg

    found = []
    for one in augreg.pool():
        trained = one.trained
        tuned = None if trained is None else trained.finetuning
        told: dict[str, object] = {
            "pretraining": one.pretraining,
            "architecture": one.name.partition(".")[0],
            "data": one.data,
            "between": one.between,
        }
        if trained is not None:
            told |= {"weight decay": trained.weight_decay, "augmentation": trained.augmentation, "dropout": trained.dropout}
            told |= {"stochastic depth": trained.stochastic_depth, "epochs": trained.epochs}
        if tuned is not None:
            told |= {"learning rate": tuned.learning_rate, "steps": tuned.steps}
        found.append(Member(f"timm:{one.name}", {name: f"{value}" for name, value in told.items() if value is not None}))
    return found

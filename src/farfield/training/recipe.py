"""`Recipe`: the settings of a training run; with the model, the data and the seed they reproduce it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farfield.errors import InputError, nearest

SCHEDULES = ("cosine", "constant", "steps")
OPTIMIZERS = ("sgd", "adam", "adamw")
SHARPNESS = ("none", "sam", "sam-norm")
STATISTICS = ("batch", "frozen")
AUGMENTATIONS = ("crop", "flip", "trivial", "augmix", "erase")


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; with the data and the seed they reproduce it.

    Args:
        objective: what is minimised, a name in `farfield.training.OBJECTIVES`.
        options: of the objective, such as `{"smoothing": 0.1}`.
        augment: what is done to each training picture, some of `crop` (a random part, resized), `flip`, `trivial` (TrivialAugment),
            and `erase` (random erasing).
        epochs: passes over the training set.
        steps: in all, in place of the epochs; 0 for epochs.
        batch_size: pictures in a step, over all processes.
        lr: the peak learning rate.
        schedule: after a linear rise over `warmup` of the steps, it falls to 0 along a half cosine (`cosine`), stays (`constant`), or falls tenfold after
            each of `drops` (`steps`).
        drops: fractions of the steps.
        warmup: fraction of the steps in [0, 1).
        optimizer: `sgd`, `adam` or `adamw`.
        momentum: of SGD.
        nesterov: whether that momentum looks ahead.
        weight_decay: of weights with two or more dimensions, and with `decay_all` of biases and normalisation too.
        decay_all: see there.
        clip: the largest norm of the gradient; 0 for no limit.
        sharpness: `sam` takes each gradient `rho` up the slope, `sam-norm` with the parameters of normalisation layers alone.
        rho: that radius; 0 for 0.0016 times the square root of the number of parameters it moves (0.5 for the ResNetv2-101 of Zhang et al., 2026).
        statistics: of BatchNorm: those of the `batch`, or the running ones, `frozen`.
        average: decay of a running average of the weights a step, which is what is kept in the end; 0 for none.
        layers: which are trained: `all`, `head`, or the last blocks as `2`.
        dropout: probability, where the model's maker takes one.
        precision: `no` (float32), `bf16` or `fp16` autocast.
        seed: of the order of the pictures and of all that is random.
    """

    objective: str = "cross-entropy"
    options: Mapping[str, Any] = field(default_factory=dict)
    augment: tuple[str, ...] = ()
    epochs: int = 20
    steps: int = 0
    batch_size: int = 256
    lr: float = 0.5
    schedule: str = "cosine"
    drops: tuple[float, ...] = ()
    warmup: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_all: bool = False
    clip: float = 0.0
    sharpness: str = "none"
    rho: float = 0.0
    statistics: str = "batch"
    average: float = 0.0
    layers: str = "all"
    dropout: float = 0.0
    precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", tuple(self.augment))
        object.__setattr__(self, "drops", tuple(self.drops))
        words = {
            "schedule": SCHEDULES,
            "optimizer": OPTIMIZERS,
            "sharpness": SHARPNESS,
            "statistics": STATISTICS,
            "precision": ("no", "bf16", "fp16"),
        }
        for name, known in words.items():
            if getattr(self, name) not in known:
                raise InputError(
                    f"A recipe cannot have {name}={getattr(self, name)!r}{nearest(str(getattr(self, name)), known)} There are: {', '.join(known)}."
                )
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise InputError(f"A recipe cannot augment by {name!r}{nearest(name, AUGMENTATIONS)} There are: {', '.join(AUGMENTATIONS)}.")
        checks = {
            "epochs": self.epochs >= 1,
            "steps": self.steps >= 0,
            "batch_size": self.batch_size >= 1,
            "lr": self.lr > 0 and math.isfinite(self.lr),
            "drops": all(0 < share < 1 for share in self.drops),
            "warmup": 0 <= self.warmup < 1,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0 and math.isfinite(self.weight_decay),
            "clip": self.clip >= 0,
            "rho": self.rho >= 0 and math.isfinite(self.rho),
            "average": 0 <= self.average < 1,
            "dropout": 0 <= self.dropout < 1,
            "layers": self.layers in ("all", "head") or (self.layers.isdecimal() and int(self.layers) >= 1),
        }
        for name, fine in checks.items():
            if not fine:
                raise InputError(f"A recipe cannot have {name}={getattr(self, name)!r}; see the documentation of `Recipe` for its range.")


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate's factor at `step` of `steps`: a linear rise over `warmup * steps`, then as `schedule` says.

    >>> [round(rate(s, 10, Recipe(warmup=0.2)), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    >>> [round(rate(s, 10, Recipe(schedule="steps", drops=(0.3, 0.6, 0.9), warmup=0)), 3) for s in (0, 3, 6, 9)]
    [1.0, 0.1, 0.01, 0.001]
    """
    rise = math.ceil(recipe.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1))) / 2
    drops = recipe.drops if recipe.schedule == "steps" else ()
    return 0.1 ** sum(step >= share * steps - 1e-9 for share in drops)

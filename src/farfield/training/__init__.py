"""Training a classifier: losses and steps as pure functions, objectives made of them, one loop."""

from farfield.training.batch import Batch, Net, Objective, as_objective
from farfield.training.draws import Draws
from farfield.training.features import FeatureSet
from farfield.training.groups import make_groups
from farfield.training.loop import train
from farfield.training.objectives import OBJECTIVES, make_objective
from farfield.training.recipe import Recipe
from farfield.training.sharpness import frozen_statistics, norm_parameters, perturbed, usual_rho

__all__ = [
    "OBJECTIVES",
    "Batch",
    "Draws",
    "FeatureSet",
    "Net",
    "Objective",
    "Recipe",
    "as_objective",
    "frozen_statistics",
    "make_groups",
    "make_objective",
    "norm_parameters",
    "perturbed",
    "train",
    "usual_rho",
]

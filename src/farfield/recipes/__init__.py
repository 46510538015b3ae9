"""Recipes: named settings, and the way from a model's name and data to a run folder."""

from farfield.recipes.catalogue import RECIPES, Entry, changed, recipe_of
from farfield.recipes.data import TrainingData, featured, open_training, outlier_pictures
from farfield.recipes.making import fresh, save
from farfield.recipes.run import Setting, accuracy, augdelete, first_process, groups_of, on_features, run
from farfield.recipes.soups import soup

__all__ = [
    "RECIPES",
    "Entry",
    "Setting",
    "TrainingData",
    "accuracy",
    "augdelete",
    "changed",
    "featured",
    "first_process",
    "fresh",
    "groups_of",
    "on_features",
    "open_training",
    "outlier_pictures",
    "recipe_of",
    "run",
    "save",
    "soup",
]

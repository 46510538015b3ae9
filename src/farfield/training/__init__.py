"""Training a classifier: one loop, and the recipes that name its settings."""

from farfield.training.loop import Recipe, train

__all__ = ["Recipe", "train"]

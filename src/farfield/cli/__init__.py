"""The command line: parses, calls the library, prints."""

from farfield.cli import (  # the commands, which register themselves
    bench,
    catalogue,
    data,
    detect,
    diagnose,
    judge,
    models,
    overlaps,
    recommend,
    reports,
    reproduce,
    stores,
    study,
    train,
    tune,
)
from farfield.cli.app import app, main

__all__ = [
    "app",
    "bench",
    "catalogue",
    "data",
    "detect",
    "diagnose",
    "judge",
    "main",
    "models",
    "overlaps",
    "recommend",
    "reports",
    "reproduce",
    "stores",
    "study",
    "train",
    "tune",
]

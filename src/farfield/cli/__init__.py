"""The command line: parses, calls the library, prints."""

from farfield.cli import bench, catalogue, detect, judge, models, reports, stores, train, tune  # the commands, which register themselves
from farfield.cli.app import app, main

__all__ = ["app", "bench", "catalogue", "detect", "judge", "main", "models", "reports", "stores", "train", "tune"]

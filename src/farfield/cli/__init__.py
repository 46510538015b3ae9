"""The command line: parses, calls the library, prints."""

from farfield.cli import bench, catalogue, data, detect, judge, models, overlaps, reports, reproduce, stores, train, tune  # the commands, which register themselves
from farfield.cli.app import app, main

__all__ = ["app", "bench", "catalogue", "data", "detect", "judge", "main", "models", "overlaps", "reports", "reproduce", "stores", "train", "tune"]

"""The command line: parses, calls the library, prints."""

from farfield.cli import bench, catalogue, detect, judge, reports, reproduce, stores, train, tune  # the commands, which register themselves
from farfield.cli.app import app, main

__all__ = ["app", "bench", "catalogue", "detect", "judge", "main", "reports", "reproduce", "stores", "train", "tune"]

"""The command line: parses, calls the library, prints."""

from farfield.cli import bench, detect, judge, reports, stores  # the commands, which register themselves
from farfield.cli.app import app, main

__all__ = ["app", "bench", "detect", "judge", "main", "reports", "stores"]

"""Classifiers x detectors x suites to rows of figures, with an interval on every one."""

from farfield.benchmark.results import Results, Row, read
from farfield.benchmark.rows import ScoredSet
from farfield.benchmark.run import environment, run, score

__all__ = ["Results", "Row", "ScoredSet", "environment", "read", "run", "score"]

"""Farfield: out-of-distribution detection on image classifiers. Measure it, mend it, ship it.

Run a classifier once over data with `collect` and you get `Outputs`. `SomeDetector.fit(train)` turns training outputs into a detector, a
module from `Outputs` to one number per sample, higher meaning more in-distribution. Everything else looks at that number.
"""

from farfield import metrics
from farfield.classifier import Classifier
from farfield.collect import collect
from farfield.detectors import CATALOGUE, SHAPERS, chain, load
from farfield.errors import FarfieldWarning, InputError
from farfield.outputs import Head, Outputs
from farfield.store import Stored

__version__ = "0.1.0"

__all__ = [
    "CATALOGUE",
    "SHAPERS",
    "Classifier",
    "FarfieldWarning",
    "Head",
    "InputError",
    "Outputs",
    "Stored",
    "chain",
    "collect",
    "load",
    "metrics",
]

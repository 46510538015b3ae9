"""Which detector to take, and which options of one: from ID data, and for options from validation OOD sets."""

from farfield.choose.apart import check_names, hold_apart, row_hashes
from farfield.choose.comparison import Comparison, Figure, Material, compare
from farfield.choose.recommend import USUAL, Ranked, Recommendation, recommend, recommendation
from farfield.choose.record import Figures, Metric, Trial, Tuning
from farfield.choose.tuning import NAMES, goodness, grid, tune

__all__ = [
    "NAMES",
    "USUAL",
    "Comparison",
    "Figure",
    "Figures",
    "Material",
    "Metric",
    "Ranked",
    "Recommendation",
    "Trial",
    "Tuning",
    "check_names",
    "compare",
    "goodness",
    "grid",
    "hold_apart",
    "recommend",
    "recommendation",
    "row_hashes",
    "tune",
]

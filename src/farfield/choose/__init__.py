"""Which options of a detector to take, from ID data and validation OOD sets."""

from farfield.choose.apart import check_names, hold_apart, row_hashes
from farfield.choose.record import Figures, Metric, Trial, Tuning
from farfield.choose.tuning import NAMES, goodness, grid, tune

__all__ = ["NAMES", "Figures", "Metric", "Trial", "Tuning", "check_names", "goodness", "grid", "hold_apart", "row_hashes", "tune"]

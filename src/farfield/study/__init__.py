"""Many classifiers, every detector: one tidy table, what goes with what, and which classifier to take."""

from farfield.study.effects import check_unit
from farfield.study.figures import columns_of
from farfield.study.files import to_csv, to_json, to_parquet, write
from farfield.study.pool import Entry, pool
from farfield.study.run import Done, Options, forecast, run
from farfield.study.terminal import shown
from farfield.study.value import value_of

__all__ = [
    "Done",
    "Entry",
    "Options",
    "check_unit",
    "columns_of",
    "forecast",
    "pool",
    "run",
    "shown",
    "to_csv",
    "to_json",
    "to_parquet",
    "value_of",
    "write",
]

"""What is wrong with a classifier, by coded checks, and the least that can be done about it."""

from farfield.diagnose.base import Case, Check, Evidence, Finding, Reference, Series, Shown
from farfield.diagnose.case import Work, gather
from farfield.diagnose.checks import CHECKS
from farfield.diagnose.commands import Trial
from farfield.diagnose.examine import Diagnosis, diagnose, known, plain
from farfield.diagnose.prescription import BOUND, TRIED, Fix, Remedy, fix, prescribe

__all__ = [
    "BOUND",
    "CHECKS",
    "TRIED",
    "Case",
    "Check",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Fix",
    "Reference",
    "Remedy",
    "Series",
    "Shown",
    "Trial",
    "Work",
    "diagnose",
    "fix",
    "gather",
    "known",
    "plain",
    "prescribe",
]

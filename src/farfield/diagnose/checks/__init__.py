"""The checks, in the order in which they are told; a file for each family."""

from __future__ import annotations

from farfield.diagnose.base import Check

EVERY: tuple[Check, ...] = ()
CHECKS = {check.code: check for check in EVERY}

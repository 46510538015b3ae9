"""The conformance suite every detector passes, public so that yours can too.

`check_detector(Mine.fit, unusual=..., refused=..., oracle=...)` runs all of `CHECKS` on small worlds made here and raises an
`AssertionError` that says what is wrong. A shaper is checked in a chain: `check_detector(chain(Mine.fit, MaxLogit.fit), ...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from farfield.detectors.base import Fitter
from farfield.outputs import Outputs
from farfield.testing.checks import CHECKS, Case, Oracle, same
from farfield.testing.worlds import World, with_groups, world

__all__ = ["CHECKS", "Case", "World", "check_detector", "with_groups", "world"]


def check_detector(
    fit: Fitter,
    *,
    unusual: Mapping[str, Mapping[str, Any]] | None = None,
    refused: Mapping[str, Any] | None = None,
    oracle: Oracle | None = None,
    classes: Sequence[type[nn.Module]] = (),
    easy: Callable[[], World] = world,
    prepare: Callable[[Outputs], Outputs] = same,
) -> None:
    """Runs every check of `CHECKS`; the arguments are those of `Case`.

    Raises:
        AssertionError: the first thing that is wrong, after the name of the check.

    >>> from farfield.detectors import MaxLogit
    >>> check_detector(MaxLogit.fit)
    """
    case = Case(fit, unusual or {}, refused or {}, oracle, classes, easy, prepare)
    for name, check in CHECKS.items():
        try:
            check(case)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error

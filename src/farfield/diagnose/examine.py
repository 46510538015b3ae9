"""A diagnosis: every check on a case, what can be done, and one value that reports are made of."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from farfield import metrics
from farfield.diagnose.base import ORDER, Case, Check, Finding
from farfield.diagnose.case import Work
from farfield.diagnose.checks import CHECKS
from farfield.diagnose.commands import Trial
from farfield.diagnose.prescription import Remedy
from farfield.errors import InputError, nearest

SIDE = 96  # pixels of a picture in a report


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a classifier.

    Args:
        case: what was looked at.
        findings: of every check, issues first.
        remedies: what can be done.
    """

    case: Case
    findings: Sequence[Finding]
    remedies: Sequence[Remedy] = ()

    @property
    def issues(self) -> list[Finding]:
        """Findings that are issues and not muted."""
        return [finding for finding in self.findings if finding.outcome == "issue"]

    def summary(self) -> str:
        """The verdict, in a sentence or two."""
        tips = sum(finding.outcome == "tip" for finding in self.findings)
        titles = ", ".join(f"{CHECKS[finding.code].title} ({finding.code})" for finding in self.issues)
        said = f"{_many(len(self.issues), 'issue')}: {titles}." if self.issues else f"No issue, and {_many(tips, 'tip')}."
        first = next((remedy for remedy in self.remedies if remedy.helps), None)
        if first is None or first.gain is None:
            return said
        return f"{said} The cheapest thing that helps: {first.name}, {first.detector}, +{100 * first.gain.auroc:.1f} points of AUROC on pseudo-OOD."


def diagnose(work: Work, *, ignore: Sequence[str] = (), remedies: Sequence[Remedy] = (), trial: Trial | None = None) -> Diagnosis:
    """Puts every check to a case.

    Args:
        work: of `gather`.
        ignore: codes of checks whose issues and tips are muted.
        remedies: of `prescribe`.
        trial: what commands are filled in with.

    Raises:
        InputError: for a code that is none.
    """
    known(ignore)
    found = [_looked(check, work.case, ignore) for check in CHECKS.values()]
    if trial is not None:
        found = [replace(finding, command=trial.filled(finding.command)) for finding in found]
    return Diagnosis(work.case, sorted(found, key=lambda finding: ORDER.index(finding.outcome)), remedies)


def known(codes: Sequence[str]) -> None:
    """Raises for a code of no check."""
    for code in codes:
        if code not in CHECKS:
            raise InputError(f"There is no check {code!r}{nearest(code, CHECKS)} There are: {', '.join(CHECKS)}.")


def _looked(check: Check, case: Case, ignore: Sequence[str]) -> Finding:
    found = check.look(case)
    return replace(found, outcome="muted") if check.code in ignore and found.outcome in ("issue", "tip") else found


def plain(diagnosis: Diagnosis, seconds: float = 0.0) -> dict[str, Any]:
    """A diagnosis as JSON has it, and as reports take it."""
    case, told = diagnosis.case, diagnosis.case.recommendation
    return {
        "format": 1,
        "classifier": case.classifier.name,
        "command": told.command,
        "seconds": seconds,
        "environment": dict(told.environment),
        "accuracy": _accuracy(case),
        "samples": dict(told.samples),
        "current": case.current,
        "summary": diagnosis.summary(),
        "findings": [_plain(finding, case) for finding in diagnosis.findings],
        "remedies": [remedy.plain() for remedy in diagnosis.remedies],
        "recommendation": told.plain(),
        "real": _real(case),
    }


def _plain(finding: Finding, case: Case) -> dict[str, Any]:
    check = CHECKS[finding.code]
    return {
        **asdict(replace(finding, shown=())),
        "title": check.title,
        "how": check.how,
        "source": check.source,
        "shown": [shown_picture(case.pictures[one.of].images[one.row], one.caption) for one in finding.shown],
    }


def shown_picture(picture: UInt8[Tensor, "3 h w"], caption: str, side: int = SIDE) -> dict[str, Any]:
    """A picture as a finding of the plain value has it: the address of a small copy, caption, and the copy's width and height.

    Args:
        picture: red, green and blue.
        caption: what it is.
        side: pixels of the copy's longer side, at most.
    """
    small = Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())
    small.thumbnail((side, side))
    written = io.BytesIO()
    small.save(written, "PNG", optimize=True)
    address = "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
    return {"uri": address, "caption": caption, "width": small.width, "height": small.height}


def _accuracy(case: Case) -> tuple[float, tuple[float, float]] | None:
    """On all held-out pictures that are labelled, with its interval."""
    labels = case.test.labels
    if labels is None or case.test.logits is None or not bool((known := labels >= 0).any()):
        return None
    hits, n = int((case.test.predictions() == labels)[known].sum()), int(known.sum())
    return hits / n, metrics.proportion_interval(hits, n)


def _real(case: Case) -> list[dict[str, Any]]:
    """How the detector in use and the recommended one do on real OOD sets, by which nothing was chosen."""
    return [
        {
            "set": row.ood,
            "detector": row.detector,
            "auroc": row.auroc,
            "interval": list(row.auroc_interval),
            "fpr": row.fpr_at_95_tpr_id,
            "fpr_interval": list(row.fpr_at_95_tpr_id_interval),
        }
        for row in case.real
    ]


def _many(count: int, what: str) -> str:
    """
    >>> _many(1, "tip"), _many(3, "issue")
    ('1 tip', '3 issues')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"

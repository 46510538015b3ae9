"""What a benchmark found: rows of figures, and what they stand on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """One detector of one classifier on one OOD set; on the mean of a group's sets where `ood` is `None`."""

    classifier: str
    detector: str
    suite: str
    ood: str | None
    group: str
    auroc: float
    auroc_interval: tuple[float, float]
    fpr_at_95_tpr_id: float
    fpr_at_95_tpr_id_interval: tuple[float, float]
    fpr_at_95_tpr_ood: float
    ap_id: float
    ap_ood: float
    n_id: int
    n_ood: int
    sources: int | None = None  # how many sources the OOD pictures are from, where they share some
    rank: int | None = None  # of a mean: 1 + the number of detectors significantly better on the same pictures


@dataclass
class Results:
    """What a benchmark found; `asdict` of it is `results.json`."""

    rows: list[Row] = field(default_factory=list)
    classifiers: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)  # pictures that are in no figure, with the reason
    refused: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    suites: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

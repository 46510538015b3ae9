"""Pictures that are in the training data and among the held-out ones, or in the training data twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from farfield.diagnose.base import Case, Check, Evidence, Finding, Series, Shown, bins
from farfield.diagnose.checks.moments import guarded
from farfield.loading import Pictures, name_of, picture_of
from farfield.outputs import Outputs
from farfield.overlap import BITS, WITHIN, nearest_hashes, perceptual_hash
from farfield.stats import hashed
from farfield.store import Stored

BUDGET = 20_000  # pictures of a set that are read: minutes, for photographs
SMALL = 64  # pixels of the shorter side up to which perceptual hashes meet by chance, as of letters, which differ in few pixels
NAMED, PICTURES = 5, 6  # pairs that are named, and pictures shown


@dataclass(frozen=True, eq=False)
class _Read:
    """Of the pictures that could be read: their rows, hashes of their look and of their pixels, and the shorter side of the median one."""

    rows: Int64[np.ndarray, " m"]
    looks: UInt8[np.ndarray, "m 8"]
    pixels: list[bytes]
    side: float


def _read(data: Pictures) -> _Read:
    """Up to `BUDGET` pictures, those with the lowest hash of their row."""
    order = hashed(torch.arange(len(data)), 0).argsort()[:BUDGET].sort().values
    rows, looks, pixels, sides = [], [], [], []
    for row in order.tolist():
        picture = picture_of(data, row)
        if picture is not None:
            rows.append(row)
            looks.append(perceptual_hash(picture))
            pixels.append(hashlib.blake2b(f"{picture.mode} {picture.size}".encode() + picture.tobytes(), digest_size=16).digest())
            sides.append(min(picture.size))
    return _Read(np.array(rows, np.int64), np.array(looks, np.uint8).reshape(-1, 8), pixels, float(np.median(sides)) if sides else 0.0)


def _has_pictures(data: Any) -> bool:
    return isinstance(data, Pictures) and not isinstance(data, Outputs | Stored)


def _repeats(read: _Read, labels: Any) -> tuple[int, int]:
    """How many pictures are the same as an earlier one, pixel by pixel, and how many of those have another label."""
    first: dict[bytes, int] = {}
    repeated = at_odds = 0
    for row, pixels in zip(read.rows.tolist(), read.pixels, strict=True):
        earlier = first.setdefault(pixels, row)
        if earlier != row:
            repeated += 1
            at_odds += isinstance(labels, torch.Tensor) and int(labels[row]) != int(labels[earlier])
    return repeated, at_odds


def _duplicates(case: Case) -> Finding:
    train, held = case.data.get("train"), case.data.get("test")
    if not _has_pictures(train) or not _has_pictures(held):
        return Finding("T1", "skipped", "The ID data were given as outputs, so there are no pictures to compare.")
    assert isinstance(train, Pictures) and isinstance(held, Pictures)
    bank, queries = _read(train), _read(held)
    if len(bank.rows) == 0 or len(queries.rows) == 0:
        return Finding("T1", "skipped", "No picture of the training or the held-out data can be read.")
    known = {pixels: row for row, pixels in zip(bank.rows.tolist(), bank.pixels, strict=True)}
    same = {place: known[pixels] for place, pixels in enumerate(queries.pixels) if pixels in known}
    nearest, apart = nearest_hashes(queries.looks, bank.looks)
    flat = (np.unpackbits(queries.looks, axis=1).sum(1) <= 1).tolist()  # of one colour: its brightness is the only bit
    alike = {
        place: int(bank.rows[int(nearest[place])]) for place in (apart <= WITHIN).nonzero()[:, 0].tolist() if place not in same and not flat[place]
    }
    repeated, at_odds = _repeats(bank, getattr(train, "labels", None))
    small = min(bank.side, queries.side) <= SMALL
    figures = {
        "held-out pictures in the training data": float(len(same)),
        "held-out pictures nearly in the training data": float(len(alike)),
        "share": (len(same) + (0 if small else len(alike))) / len(queries.rows),
        "training pictures that are repeated": float(repeated),
        "of them with another label": float(at_odds),
        "training pictures compared": float(len(bank.rows)),
        "held-out pictures compared": float(len(queries.rows)),
    }
    edges, shares = bins([apart.double().numpy()], BITS // 2)
    evidence = Evidence("histogram", edges, [Series("held out", shares[0])], f"bits of {BITS} to the nearest training picture", "pictures, %")
    limits = [f"{BUDGET} of {len(data)} {what} pictures" for what, data in (("training", train), ("held-out", held)) if len(data) > BUDGET]
    said = f"Of {len(queries.rows)} held-out pictures {len(same)} are in the training data pixel by pixel, and {len(alike)} more nearly (hashes within {WITHIN} bits)."
    if small and alike:
        said += f" At {min(bank.side, queries.side):g} pixels other pictures may have such hashes too."
    if repeated:
        said += f" {repeated} training pictures repeat an earlier one{f', {at_odds} of them with another label' if at_odds else ''}."
    if limits:
        said += f" Compared were {' and '.join(limits)}; there may be more."
    pairs = [*same.items(), *alike.items()]
    if pairs:
        told = "; ".join(f"{name_of(held, int(queries.rows[place]))} is {name_of(train, row)}" for place, row in pairs[:NAMED])
        said += f" {told}{f'; and {len(pairs) - NAMED} more' if len(pairs) > NAMED else ''}."
    shown = list(_shown(case, held, train, queries, pairs[:PICTURES]))
    if same or (alike and not small):
        do = "Take these pictures out of the held-out data: accuracy, calibration and thresholds on them are too good."
        return Finding("T1", "issue", said, figures, {}, evidence, shown, do)
    if at_odds:
        do = "Give the repeated pictures one label, or take them out of the training data."
        return Finding("T1", "issue", said, figures, {}, evidence, shown, do)
    if alike or repeated:
        do = "Look at the pairs." if alike else "Keep one of each: a detector such as KNN finds the others at distance 0."
        return Finding("T1", "tip", said, figures, {}, evidence, shown, do)
    return Finding("T1", "passed", said, figures, {}, evidence)


def _shown(case: Case, held: Pictures, train: Pictures, queries: _Read, pairs: list[tuple[int, int]]) -> Iterator[Shown]:
    """The held-out pictures, where it is known which row of the case's pictures they are: all of them were read, or those read are all there are."""
    pictures = case.pictures.get("test")
    if pictures is None or len(pictures) not in (len(held), len(queries.rows)):
        return
    for place, row in pairs:
        yield Shown("test", int(queries.rows[place]) if len(pictures) == len(held) else place, f"held out, and in training as {name_of(train, row)}")


DUPLICATES = Check(
    "T1",
    "Duplicates",
    f"Held-out pictures whose pixels are those of a training picture, or whose perceptual hash is within {WITHIN} bits of {BITS} of one's; training pictures whose pixels repeat an earlier "
    f"one's; among {BUDGET:,} pictures of each at most. An issue where held-out pictures are in the training data, or a repeated picture has two labels; a tip where training pictures repeat, "
    f"and where only the hashes of pictures of at most {SMALL} pixels are near, as these may be by chance.",
    guarded("T1", _duplicates),
    "Zauner, 2010",
)

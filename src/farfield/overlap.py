"""What an OOD set shares with the ID training data: pictures that are nearly the same, and classes of one name.

Two measures of "nearly the same", each for every OOD picture and its nearest ID training picture: the Hamming distance of perceptual
hashes, which finds copies that were resized or compressed again, and the cosine distance of a classifier's features, which finds pictures
of the same thing too. Neither proves anything: look at the pairs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from farfield.collect import Progress
from farfield.data.suites import classes as lists
from farfield.detectors import search
from farfield.loading import Pictures, name_of, picture_of
from farfield.outputs import Outputs, chunks
from farfield.store import Stored

SIDE, LOW, BITS = 32, 8, 64
WITHIN, DISTANCE = 4, 0.05  # up to which pairs are told: bits, and cosine distance
_QUERIES, _BANK = 1024, 8192  # hashes compared at once


@dataclass(frozen=True)
class Pair:
    """An OOD picture and the ID training picture nearest to it, by `hash` (distance in bits of 64) or `features` (1 - cosine)."""

    by: str
    ood_set: str
    ood: str
    id: str
    distance: float


@dataclass(frozen=True)
class Shared:
    """A class of an OOD set whose name an ID class has too."""

    ood_set: str
    ood_class: str
    id_class: str
    pictures: int


# --- perceptual hashes --------------------------------------------------------------------------------------------------------------------


def _cosines() -> np.ndarray:
    """The first rows of the orthonormal DCT-II of 32 values."""
    k, x = np.arange(LOW)[:, None], np.arange(SIDE)[None]
    rows: np.ndarray = np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE)) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return rows


_DCT = _cosines()


def perceptual_hash(picture: Image.Image) -> UInt8[np.ndarray, " 8"]:
    """64 bits of a picture that change little when it is resized, compressed again or made paler.

    Formula: with X the picture in grey at 32 x 32 and D the DCT-II, the 8 x 8 lowest frequencies C of D X D', and bit (i, j) = C_ij > median C.

    Args:
        picture: of any size and mode.

    >>> picture = Image.effect_mandelbrot((128, 96), (-2.5, -1.5, 1, 1), 60)
    >>> int(distances(perceptual_hash(picture)[None], perceptual_hash(picture.resize((90, 70)))[None])) <= 2
    True

    Source: the method known as pHash; Zauner, *Implementation and Benchmarking of Perceptual Image Hash Functions*, 2010.
    """
    grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    low = (_DCT @ grey @ _DCT.T).round(6).ravel()  # rounded, so that what is flat has no bits by chance
    return np.packbits(low > np.median(low))


def hashes(dataset: Pictures, called: str, progress: Progress | None = None) -> tuple[UInt8[np.ndarray, "m 8"], Int64[np.ndarray, " m"]]:
    """The hash of each picture that can be read, and its row."""
    found, rows = [], []
    for row in range(len(dataset)):
        picture = picture_of(dataset, row)
        if picture is not None:
            found.append(perceptual_hash(picture))
            rows.append(row)
        if progress is not None and (row % 64 == 0 or row + 1 == len(dataset)):
            progress(f"hashes of {called}", row + 1, len(dataset))
    return np.array(found, np.uint8).reshape(-1, LOW), np.array(rows, np.int64)


def distances(a: UInt8[np.ndarray, "n 8"], b: UInt8[np.ndarray, "m 8"]) -> Float[Tensor, "n m"]:
    """How many bits differ between each two hashes.

    Formula: with s = 2 bit - 1, (64 - s_a . s_b) / 2: a product of matrices, exact in float32, and faster than counting bits.

    >>> zeros, ones = np.zeros((1, 8), np.uint8), np.full((1, 8), 255, np.uint8)
    >>> distances(zeros, np.concatenate([zeros, ones])).tolist()
    [[0.0, 64.0]]
    """
    return (BITS - _signs(a) @ _signs(b).T) / 2


def _signs(packed: UInt8[np.ndarray, "n 8"]) -> Float[Tensor, "n 64"]:
    return torch.from_numpy(np.unpackbits(packed, axis=1)).float() * 2 - 1


def nearest_hashes(queries: UInt8[np.ndarray, "n 8"], bank: UInt8[np.ndarray, "m 8"]) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """The row of the bank whose hash is nearest to each query's, one of several, and the distance; blocks are compared, and none kept."""
    rows, best = torch.zeros(len(queries), dtype=torch.int64), torch.full((len(queries),), -torch.inf)
    for first in range(0, len(bank), _BANK):
        known = _signs(bank[first : first + _BANK]).T
        for start in range(0, len(queries), _QUERIES):
            mine = slice(start, start + _QUERIES)
            most, here = (_signs(queries[mine]) @ known).max(1)
            better = most > best[mine]
            rows[mine] = torch.where(better, here + first, rows[mine])
            best[mine] = torch.where(better, most, best[mine])
    return rows, (BITS - best) / 2


# --- features -----------------------------------------------------------------------------------------------------------------------------


def nearest_features(queries: Float[Tensor, "n d"], bank: Iterable[Float[Tensor, "_ d"]]) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """The row of a bank that comes in chunks whose direction is nearest to each query's, and 1 - cosine.

    Args:
        queries: features; a row of zeros is at distance 1 of all.
        bank: features, chunk by chunk; one chunk is in memory at a time.

    >>> nearest_features(torch.tensor([[1.0, 0.0]]), [torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 0.0]])])
    (tensor([1]), tensor([0.], dtype=torch.float64))
    """
    z = _directions(queries)
    rows, best, first = torch.zeros(len(z), dtype=torch.int64), torch.full((len(z),), -torch.inf, dtype=torch.float64), 0
    for chunk in bank:
        b = _directions(chunk)
        for start in range(0, len(z), search.ROWS):
            mine = slice(start, start + search.ROWS)
            row, cosine = _best(z[mine], b)
            better = cosine > best[mine]
            rows[mine] = torch.where(better, row + first, rows[mine])
            best[mine] = torch.where(better, cosine, best[mine])
        first += len(b)
    return rows, (1 - best).clamp_min(0)


def _directions(x: Tensor) -> Tensor:
    x = x.detach().cpu().double()
    unit: Tensor = x / x.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return unit


def _best(z: Float[Tensor, "n d"], bank: Float[Tensor, "m d"]) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """The row with the largest product for each query, in float64, found among those that a fast search leaves."""
    query, row, _, _ = search.candidates(z, bank, 1)
    rows, best = torch.zeros(len(z), dtype=torch.int64), torch.full((len(z),), -torch.inf, dtype=torch.float64)
    value = torch.cat([(z[q] * bank[r]).sum(1) for q, r in zip(query.split(4096), row.split(4096), strict=True)]) if len(query) else best[:0]
    best.scatter_reduce_(0, query, value, "amax")
    at = value == best[query]
    rows[query[at].flip(0)] = row[at].flip(0)  # the first of equals is written last
    undecided = torch.bincount(query, minlength=len(z)) == 0  # more rows are as near as the fast search can tell
    for index in undecided.nonzero()[:, 0].tolist():
        products = bank @ z[index]
        best[index], rows[index] = products.max(), products.argmax()
    return rows, best


# --- both ---------------------------------------------------------------------------------------------------------------------------------


def by_hash(train: Pictures, sets: Mapping[str, Pictures], within: int = WITHIN, progress: Progress | None = None) -> list[Pair]:
    """The OOD pictures whose hash is within so many bits of a training picture's, nearest first."""
    bank, bank_rows = hashes(train, "train", progress)
    found = []
    for name, data in sets.items():
        queries, rows = hashes(data, name, progress)
        if len(bank) == 0 or len(queries) == 0:
            continue
        nearest, distance = nearest_hashes(queries, bank)
        for i in (distance <= within).nonzero()[:, 0].tolist():
            found.append(Pair("hash", name, name_of(data, int(rows[i])), name_of(train, int(bank_rows[int(nearest[i])])), float(distance[i])))
    return sorted(found, key=lambda pair: pair.distance)


def by_features(
    train: tuple[Pictures, Outputs | Stored],
    sets: Mapping[str, tuple[Pictures, Outputs | Stored]],
    distance: float = DISTANCE,
    progress: Progress | None = None,
) -> list[Pair]:
    """The OOD pictures whose features point within so much of where a training picture's do, nearest first.

    Args:
        train: the pictures, and what the classifier said of them.
        sets: the same for each OOD set.
        distance: 1 - cosine, up to which pairs are told.
        progress: called with the set, how far, and out of how many.
    """
    found = []
    ids = _rows(train[1])
    for index, (name, (data, outputs)) in enumerate(sets.items()):
        if progress is not None:
            progress(f"features of {name}", index, len(sets))
        queries = torch.cat([chunk.features for chunk in chunks(outputs) if chunk.features is not None])
        rows = _rows(outputs)
        nearest, apart = nearest_features(queries, (chunk.features for chunk in chunks(train[1]) if chunk.features is not None))
        for i in (apart <= distance).nonzero()[:, 0].tolist():
            found.append(Pair("features", name, name_of(data, int(rows[i])), name_of(train[0], int(ids[nearest[i]])), float(apart[i])))
    return sorted(found, key=lambda pair: pair.distance)


def _rows(outputs: Outputs | Stored) -> Tensor:
    """Which row of the data each output is of."""
    found = [chunk.ids if chunk.ids is not None else None for chunk in chunks(outputs)]
    if any(ids is None for ids in found):
        return torch.arange(len(outputs))
    return torch.cat([ids.cpu() for ids in found if ids is not None])


def to_csv(pairs: Sequence[Pair]) -> str:
    """The pairs as CSV, a line each."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["by", "set", "ood", "id", "distance"])
    writer.writerows([pair.by, pair.ood_set, pair.ood, pair.id, f"{pair.distance:.6g}"] for pair in pairs)
    return text.getvalue()


# --- classes ------------------------------------------------------------------------------------------------------------------------------


def shared_classes(id_names: Sequence[Sequence[str]], sets: Mapping[str, Any]) -> list[Shared]:
    """The classes of OOD sets that have a name of an ID class, but for capitals, underscores and hyphens; WordNet ids count with their words.

    Args:
        id_names: every name of each ID class; its first that is no WordNet id is what it is called.
        sets: OOD sets; the classes of files are the folders they are in.

    >>> from farfield.data.files import Files, Path
    >>> files = Files("x", Path(), ("a/Great_White_Shark/1.jpg", "a/tench/1.jpg"), torch.tensor([-1, -1]))
    >>> [found.id_class for found in shared_classes([["n01484850", "great white shark"]], {"x": files})]
    ['great white shark']
    """
    known: dict[str, str] = {}
    for names in id_names:
        called = next((name for name in names if not lists.is_wordnet(name)), names[0] if names else "")
        for name in names:
            known.setdefault(_plain(name), called)
    found = []
    for set_name, data in sets.items():
        for name, pictures in classes_in(data).items():
            hit = next((known[_plain(word)] for word in (name, *lists.words(name)) if _plain(word) in known), None)
            if hit is not None:
                found.append(Shared(set_name, name, hit, pictures))
    return found


def classes_in(data: Any) -> dict[str, int]:
    """The folders that the files of a set lie in, with how many each has; none where all lie in one, whose name says nothing."""
    counts: dict[str, int] = {}
    for path in getattr(data, "paths", ()):
        folder = PurePosixPath(path).parent.name
        counts[folder] = counts.get(folder, 0) + 1
    counts.pop("", None)
    return counts if len(counts) > 1 else {}


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())

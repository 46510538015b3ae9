"""Data to choose by are held apart from training and test data: which samples two sets have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, Num
from torch import Tensor

from farfield.collect import contents
from farfield.data.files import Files
from farfield.data.images import Images
from farfield.errors import InputError, nearest
from farfield.identity import hash_of
from farfield.outputs import Outputs, chunks

SPLITS = {"train": "training", "calibration": "calibration"}


@dataclass(frozen=True)
class Samples:
    """What a set of data holds: a hash of the whole, and of each sample, by what is hashed."""

    contents: str
    rows: Mapping[str, Int64[Tensor, " n"]]


def hold_apart(mine: Mapping[str, Any], others: Mapping[str, Any], allow: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Refuses data to choose by that share samples with data they must be held apart from; says which were let through by name.

    Samples are the same whose features, or else logits, are the same bit for bit in float32; of pictures in memory, the pixels; of picture
    files, the files.

    Args:
        mine: calibration data, called `calibration`, and validation OOD sets, by name: outputs or pictures.
        others: what they are held apart from, likewise; `train` and `calibration` are those data, the rest test sets.
        allow: names in `mine` that may share samples.

    Raises:
        InputError: which set shares how many samples with which; when two cannot be compared, or nothing in `mine` is called as `allow` says.

    >>> one = Outputs(logits=torch.eye(3))
    >>> hold_apart({"birds": one}, {"test": one[1:]}, allow=["birds"])
    [{'set': 'birds', 'shares': 2, 'of': 3, 'with': 'test'}]
    """
    seen = {key: samples_of(data) for key, data in {**mine, **others}.items()}
    return held_apart({name: seen[name] for name in mine}, {name: seen[name] for name in others}, allow)


def held_apart(mine: Mapping[str, Samples], others: Mapping[str, Samples], allow: Sequence[str]) -> list[dict[str, Any]]:
    """As `hold_apart`, of sets that were looked at."""
    for name in allow:
        if name not in mine:
            raise InputError(f"There is no validation set {name!r} to let through{nearest(name, mine)} There are: {', '.join(mine)}.")
    found = []
    for name, samples in mine.items():
        whose = f"The ID {SPLITS[name]} data" if name in SPLITS else f"The validation OOD set {name!r}"
        for other, theirs in others.items():
            what = f"the ID {SPLITS[other]} data" if other in SPLITS else f"the test set {other!r}"
            kind = next((kind for kind in samples.rows if kind in theirs.rows), None)
            if other == name:
                continue
            if kind is None:
                kinds = [" and ".join(one.rows) or "nothing" for one in (samples, theirs)]
                raise InputError(f"{whose} and {what} cannot be compared: {kinds[0]} of one, {kinds[1]} of the other. Give both in the same form.")
            size, shared = len(samples.rows[kind]), int(torch.isin(samples.rows[kind], theirs.rows[kind]).sum())
            if shared and name not in allow:
                share = f"all {size:,}" if shared == size else f"{shared:,} of {size:,}"
                raise InputError(f"{whose} and {what} have samples in common, {share}. Give data of another source, or allow {name!r} by name.")
            if shared:
                found.append({"set": name, "shares": shared, "of": size, "with": other})
    return found


def check_names(ood: Iterable[str], test: Iterable[str]) -> None:
    """Raises where two of the sets have one name, or the name of a split."""
    names = [*SPLITS, *ood, *test]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"There are two sets called {name!r}. Give each a name of its own, other than {', '.join(SPLITS)}.")


def samples_of(data: Any) -> Samples:
    """What outputs or pictures hold, as hashes."""
    if isinstance(data, Images):
        return Samples(data.fingerprint(), {"pixels": row_hashes(data.images)})
    if isinstance(data, Files):
        return Samples(contents(data), {"files": torch.tensor([_file_hash(data.root / path, row) for row, path in enumerate(data.paths)])})
    if not _are_outputs(data):
        return Samples(contents(data), {"pictures": torch.tensor([_picture_hash(data, row) for row in range(len(data))])})
    found: dict[str, list[Tensor]] = {}
    head = None
    for chunk in chunks(data):
        head = chunk.head
        for name, column in chunk.columns().items() if len(chunk) else ():
            if name != "ids":
                found.setdefault(name, []).append(row_hashes(column.reshape(len(chunk), -1)))
    rows = {name: torch.cat(parts) for name, parts in found.items()}
    return Samples(hash_of(rows, head and (head.weight, head.bias)), {name: rows[name] for name in ("features", "logits") if name in rows})


def row_hashes(x: Num[Tensor, "n ..."]) -> Int64[Tensor, " n"]:
    """A hash of each row's bytes. Fractions count as float32, -0 as 0.

    >>> a, b, c = row_hashes(torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
    >>> bool(a == c), bool(a == b)
    (True, False)
    """
    rows = (x.float() + 0.0 if x.is_floating_point() else x).flatten(1).contiguous().cpu().numpy()
    return torch.tensor([_short(row.data) for row in rows], dtype=torch.int64)


def _file_hash(path: Path, row: int) -> int:
    """A file's hash; one that cannot be read or is empty is like no other."""
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    return _short(content or f"{path} {row}".encode("utf-8", "surrogateescape"))


def _picture_hash(data: Any, row: int) -> int:
    """Likewise of the picture in an item of a data set, which may be a pair or a dict."""
    try:
        item = data[row]
    except Exception:  # each data set has its own way to fail
        return _short(f"{type(data)} {id(data)} {row}".encode())
    return _short(hash_of(item[0] if isinstance(item, tuple | list) else item.get("image", item) if isinstance(item, Mapping) else item).encode())


def _are_outputs(data: Any) -> bool:
    """Whether data are a classifier's outputs, as one or in pieces."""
    if isinstance(data, Outputs) or not hasattr(data, "__getitem__"):
        return True
    try:
        return isinstance(data[0], Outputs)
    except Exception:  # a picture that cannot be read
        return False


def _short(content: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)

"""Which pictures a person should see, and small copies of them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from farfield.benchmark.gather import Gathered
from farfield.errors import InputError
from farfield.files import put
from farfield.loading import name_of, picture_of
from farfield.metrics import threshold_at_tpr
from farfield.outputs import Outputs, chunks
from farfield.store import Stored

ID_SHOWN, OOD_SHOWN, DRAWN = 12, 6, 6  # pictures of each kind
SIDE = 96  # pixels of a copy's longer side, at most
QUALITY = 70

Scores = Float[np.ndarray, "_"]
Gallery = dict[str, dict[str, dict[str, str]]]


def flagged(s_in: Scores) -> list[int]:
    """The ID pictures most wrongly taken for OOD where 95 % of ID is kept: those of the lowest scores, lowest first."""
    limit = threshold_at_tpr(s_in)
    return [int(row) for row in np.argsort(s_in, kind="stable")[:ID_SHOWN] if s_in[row] < limit]


def accepted(s_in: Scores, s_out: Scores) -> list[int]:
    """The OOD pictures most wrongly taken for ID there: those of the highest scores, highest first."""
    limit = threshold_at_tpr(s_in)
    return [int(row) for row in np.argsort(-s_out, kind="stable")[:OOD_SHOWN] if s_out[row] >= limit]


def wrong(scores: Mapping[str, Scores]) -> dict[str, list[int]]:
    """The rows of each set that a detector is most wrong about; `test` is the ID one."""
    return {name: flagged(values) if name == "test" else accepted(scores["test"], values) for name, values in scores.items()}


def drawn(name: str, n: int) -> list[int]:
    """Pictures of a set drawn at random, the same whatever the classifier and the detector."""
    seed = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
    return sorted(int(row) for row in np.random.default_rng(seed).choice(n, size=min(n, DRAWN), replace=False))


def shown(scores: Iterable[Mapping[str, Scores]], sizes: Mapping[str, int]) -> dict[str, list[int]]:
    """The rows of each set that some detector is most wrong about, or that are drawn."""
    rows = {name: set(drawn(name, n)) for name, n in sizes.items()}
    for mine in scores:
        for name, some in wrong(mine).items():
            rows[name] |= set(some)
    return {name: sorted(some) for name, some in rows.items()}


def gallery(gathered: Mapping[str, Gathered], rows: Mapping[str, Iterable[int]]) -> Gallery:
    """By set and row: what the picture is called and a small copy of it, where there are pictures."""
    found: Gallery = {}
    for name, some in rows.items():
        entry = gathered[name]
        if entry.data is None:
            continue
        items = _ids(entry.outputs)
        found[name] = {}
        for row in some:
            item = int(items[row])
            picture = picture_of(entry.data, item)
            found[name][str(row)] = {"name": _within(entry.data, name_of(entry.data, item)), "picture": "" if picture is None else encoded(picture)}
    return found


def _within(data: Any, name: str) -> str:
    """A file's name in the folder of its data set; another name as it is."""
    root = getattr(data, "root", None)
    return name.removeprefix(f"{root}{os.sep}") if isinstance(root, str | Path) else name


def _ids(outputs: Outputs | Stored) -> torch.Tensor:
    return torch.cat([chunk.columns()["ids"] for chunk in chunks(outputs)])


def encoded(picture: Image.Image, side: int = SIDE) -> str:
    """A small copy of a picture as a `data:` address; WebP."""
    small = picture.copy()
    small.thumbnail((side, side))
    written = io.BytesIO()
    small.save(written, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode()


def save(path: Path, value: Gallery) -> None:
    """Writes a gallery.

    Raises:
        InputError: when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: partial.write_text(json.dumps(value), "ascii"))
    except OSError as error:
        raise InputError(f"The pictures for the report cannot be written to {path}: {error}. Make room and run the same command again.") from error


def read(path: Path) -> Gallery:
    """A gallery from its file; an empty one where there is none, or it is broken: a report without pictures is still one."""
    try:
        value: Any = json.loads(path.read_text("ascii"))
        return {
            str(name): {str(row): {"name": str(about["name"]), "picture": _picture(about["picture"])} for row, about in rows.items()}
            for name, rows in value.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _picture(address: Any) -> str:
    """A picture's `data:` address; nothing for any other, which a browser would fetch."""
    return address if isinstance(address, str) and address.startswith("data:image/webp;base64,") else ""

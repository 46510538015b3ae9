"""Outputs on disk: one folder per classifier and data set, named by the hash of what went in, cut into shards.

A shard is one safetensors file of whole batches, written beside its place and then moved there, so that it is either absent or
whole. A folder with all its shards is done; one with some is taken up where it stopped. Two processes that write the same
folder write the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from farfield.errors import InputError
from farfield.files import put
from farfield.outputs import Head, Outputs, concatenate

FORMAT = 1
_OWN = ("logits", "features", "labels", "ids")


def key_of(facts: dict[str, Any]) -> str:
    """The name of the folder for outputs that depend on these facts alone."""
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Stored:
    """A classifier's outputs for one data set, on disk; iterating yields them shard by shard, memory-mapped.

    Args:
        folder: where the shards are.
        samples: how many samples there are.
        rows: samples in a shard; the last has the rest.
        fingerprint: of the classifier.
    """

    folder: Path
    samples: int
    rows: int
    fingerprint: str

    @classmethod
    def at(cls, root: str | Path, facts: dict[str, Any], samples: int, rows: int, fingerprint: str) -> Stored:
        """The store for these facts under `root`, made if it is not there.

        Raises:
            InputError: when the folder cannot be made or written.
        """
        folder = Path(root) / key_of({**facts, "samples": samples, "rows": rows, "fingerprint": fingerprint})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "facts.json").exists():
                put(folder / "facts.json", lambda path: path.write_text(json.dumps(facts, indent=2), "utf-8"))
        except OSError as error:
            raise InputError(f"The store {root} cannot be written: {error.strerror or error}. Give another folder.") from error
        return cls(folder, samples, rows, fingerprint)

    def __len__(self) -> int:
        return self.samples

    @property
    def shards(self) -> int:
        """How many shards a complete store has."""
        return -(-self.samples // self.rows)

    def path(self, shard: int) -> Path:
        """Where a shard is, or will be."""
        return self.folder / f"shard-{shard:05d}.safetensors"

    def has(self, shard: int) -> bool:
        """Whether a shard is there and whole."""
        try:
            with safe_open(self.path(shard), framework="pt") as file:
                return "ids" in file.keys()  # noqa: SIM118 (safe_open is not a mapping)
        except (OSError, SafetensorError):
            return False

    def missing(self) -> list[int]:
        """The shards that are still to be written."""
        return [shard for shard in range(self.shards) if not self.has(shard)]

    def write(self, shard: int, outputs: Outputs) -> None:
        """Puts one shard in its place, at once.

        Raises:
            InputError: when the disk is full or cannot be written; the shards before stay.
        """
        tensors = {name: column.contiguous() for name, column in outputs.columns().items()}
        if outputs.head is not None:
            tensors |= {"head.weight": outputs.head.weight.contiguous(), "head.bias": outputs.head.bias.contiguous()}
        try:
            put(self.path(shard), lambda path: save_file(tensors, path))
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{self.path(shard)} cannot be written: {error}. What is stored so far stays; make room and run the same command again."
            ) from error

    def __iter__(self) -> Iterator[Outputs]:
        for shard in range(self.shards):
            yield self.read(shard)

    def read(self, shard: int) -> Outputs:
        """One shard; the tensors are mapped, not read, until they are used.

        Raises:
            InputError: when the shard is missing or broken.
        """
        try:
            with safe_open(self.path(shard), framework="pt") as file:
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path(shard)} cannot be read: {error}. Run `collect` again to write it anew.") from error
        weight, bias = tensors.pop("head.weight", None), tensors.pop("head.bias", None)
        head = None if weight is None or bias is None else Head(weight, bias)
        own = {name: tensors.pop(name) for name in _OWN if name in tensors}
        return Outputs(head=head, fingerprint=self.fingerprint, taps=tensors).having(**own)

    def load(self) -> Outputs:
        """All of it, in memory."""
        return concatenate(self)

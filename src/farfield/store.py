"""Outputs on disk: one folder per classifier and data set, named by the hash of what went in, cut into shards.

A shard is one safetensors file of whole batches, written beside its place and then moved there, so that it is either absent or
whole. A folder with all its shards is done; one with some is taken up where it stopped. Two processes that write the same
folder write the same files. Samples that could not be read are not in a shard; its header names them, and has a hash of the rest.
The column of a tap is a file of its own beside each shard, so that another detector's column is added and nothing is written anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from farfield.errors import InputError
from farfield.files import left_over, put
from farfield.outputs import Head, Outputs, concatenate

FORMAT = 2
MOST = 10**10  # items a store may claim
_OWN = ("logits", "features", "labels", "ids")


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read: its row in the data set, its name, and why."""

    row: int
    name: str
    reason: str


def key_of(facts: Mapping[str, Any]) -> str:
    """The name of the folder for outputs that depend on these facts alone."""
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors by name, shape and content."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Stored:
    """A classifier's outputs for one data set, on disk; iterating yields them shard by shard, memory-mapped.

    Args:
        folder: where the shards are.
        items: how many samples the data set has, the unreadable ones included.
        rows: items in a shard; the last has the rest.
        fingerprint: of the classifier.
        taps: the columns of taps that belong to it; others may lie in the folder.
    """

    folder: Path
    items: int
    rows: int
    fingerprint: str
    taps: tuple[str, ...] = ()

    @classmethod
    def at(
        cls, root: str | Path, facts: Mapping[str, Any], items: int, rows: int, fingerprint: str, about: Mapping[str, Any] | None = None
    ) -> Stored:
        """The store for these facts under `root`, made if it is not there; `about` is kept for people, and changes nothing.

        Raises:
            InputError: when the folder cannot be made or written.
        """
        shape = {"items": items, "rows": rows, "fingerprint": fingerprint}
        folder = Path(root) / key_of({**facts, **shape})
        content = json.dumps({"format": FORMAT, **shape, "about": dict(about or {}), **facts}, indent=2)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not _readable(folder):
                put(folder / "facts.json", lambda path: path.write_text(content, "utf-8"))
        except OSError as error:
            raise InputError(f"The store {root} cannot be written: {error.strerror or error}. Give another folder.") from error
        return cls(folder, items, rows, fingerprint)

    @classmethod
    def open(cls, folder: str | Path) -> Stored:
        """The store in a folder, as it is.

        Raises:
            InputError: when the folder is none, or of another version.
        """
        facts = facts_of(Path(folder))
        return cls(Path(folder), facts["items"], facts["rows"], facts["fingerprint"])

    def __len__(self) -> int:
        return self.samples

    @property
    def samples(self) -> int:
        """How many samples there are: the items that could be read."""
        return self.items - len(self.failures())

    def failures(self) -> list[Failure]:
        """The items that could not be read, of the shards that are there."""
        found = []
        for shard in range(self.shards):
            found += self._header(shard).get("failed", [])
        return found

    def _header(self, shard: int) -> dict[str, Any]:
        try:
            with safe_open(self.path(shard), framework="pt") as file:
                header: dict[str, Any] = json.loads((file.metadata() or {}).get("farfield", "{}"))
                failed = [Failure(*entry) for entry in header["failed"]]
                fine = all(type(f.row) is int and isinstance(f.name, str) and isinstance(f.reason, str) for f in failed)
                return {"digest": str(header["digest"]), "failed": failed} if fine else {}
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, RecursionError):
            return {}

    @property
    def shards(self) -> int:
        """How many shards a complete store has."""
        return -(-self.items // self.rows)

    def span(self, shard: int) -> range:
        """The items of a shard."""
        return range(shard * self.rows, min((shard + 1) * self.rows, self.items))

    def path(self, shard: int) -> Path:
        """Where a shard is, or will be."""
        return self.folder / f"shard-{shard:05d}.safetensors"

    def tap_path(self, shard: int, tap: str) -> Path:
        """Where a tap's column of a shard is, or will be."""
        return self.folder / f"shard-{shard:05d}.tap-{hashlib.blake2b(tap.encode(), digest_size=6).hexdigest()}.safetensors"

    def having(self, taps: Sequence[str]) -> Stored:
        """The same store with the columns of these taps, which may still have to be collected."""
        return replace(self, taps=tuple(taps))

    def has(self, shard: int) -> bool:
        """Whether a shard is there and whole."""
        return "digest" in self._header(shard)

    def has_tap(self, shard: int, tap: str) -> bool:
        """Whether a tap's column is there, for the samples that the shard has."""
        try:
            with safe_open(self.tap_path(shard, tap), framework="pt") as file:
                return (file.metadata() or {}).get("of") == self._ids(shard) and tap in file.keys()  # noqa: SIM118 (safe_open is not a mapping)
        except (OSError, SafetensorError):
            return False

    def _ids(self, shard: int) -> str | None:
        """A hash of which samples a shard has."""
        try:
            with safe_open(self.path(shard), framework="pt") as file:
                return digest_of({"ids": file.get_tensor("ids")})
        except (OSError, SafetensorError):
            return None

    def missing(self) -> list[int]:
        """The shards that are still to be written, or lack the column of a tap."""
        return [shard for shard in range(self.shards) if not self.has(shard) or not all(self.has_tap(shard, tap) for tap in self.taps)]

    def write(self, shard: int, outputs: Outputs, failed: Sequence[Failure] = ()) -> None:
        """Puts one shard in its place, at once, and the columns of its taps in theirs; what is there already of the same samples stays.

        Raises:
            InputError: when the disk is full or cannot be written; the shards before stay.
        """
        assert outputs.ids is not None
        tensors = {name: column.contiguous() for name, column in outputs.columns().items() if name not in outputs.taps}
        if outputs.head is not None:
            tensors |= {"head.weight": outputs.head.weight.contiguous(), "head.bias": outputs.head.bias.contiguous()}
            tensors |= {} if outputs.head.groups is None else {"head.groups": outputs.head.groups.contiguous()}
        told = [(failure.row, failure.name, failure.reason) for failure in failed]
        same = digest_of({"ids": outputs.ids})
        if self._ids(shard) != same or [tuple(vars(failure).values()) for failure in self._header(shard).get("failed", [])] != told:
            self._put(self.path(shard), tensors, {"farfield": json.dumps({"digest": digest_of(tensors), "failed": told})})
        for tap, column in outputs.taps.items():
            if not self.has_tap(shard, tap):
                self._put(self.tap_path(shard, tap), {tap: column.contiguous()}, {"of": same, "digest": digest_of({tap: column})})

    def _put(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        try:
            put(path, lambda partial: save_file(tensors, partial, metadata=metadata))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be written: {error}. What is stored so far stays; make room and run the same command again.") from error

    def __iter__(self) -> Iterator[Outputs]:
        for shard in range(self.shards):
            yield self.read(shard)

    def read(self, shard: int) -> Outputs:
        """One shard; the tensors are mapped, not read, until they are used.

        Raises:
            InputError: when the shard is missing or broken, or a tap's column is of other samples than the shard has now.
        """
        tensors = self._tensors(self.path(shard))
        for tap in self.taps:
            if self.tap_path(shard, tap).exists() and not self.has_tap(shard, tap):
                raise InputError(f"{self.tap_path(shard, tap)} is broken, or of other samples than its shard. Run `collect` again to write it anew.")
            tensors |= self._tensors(self.tap_path(shard, tap))
        weight, bias, groups = (tensors.pop(f"head.{part}", None) for part in ("weight", "bias", "groups"))
        head = None if weight is None or bias is None else Head(weight, bias, groups)
        own = {name: tensors.pop(name) for name in _OWN if name in tensors}
        return Outputs(head=head, fingerprint=self.fingerprint, taps=tensors).having(**own)

    def _tensors(self, path: Path) -> dict[str, Tensor]:
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is not a mapping)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}. Run `collect` again to write it anew.") from error

    def load(self) -> Outputs:
        """All of it, in memory."""
        return concatenate(self)

    def verify(self) -> list[str]:
        """What is wrong with the shards, by name: missing, broken, or changed since they were written."""
        wrong = []
        for shard in range(self.shards):
            name = self.path(shard).name
            if not self.path(shard).exists():
                wrong.append(f"{name} is missing")
                continue
            wrong += self._wrong_taps(shard)
            try:
                tensors = self._tensors(self.path(shard))
            except InputError:
                wrong.append(f"{name} is broken")
                continue
            header = self._header(shard)
            if header.get("digest") != digest_of(tensors):
                wrong.append(f"{name} was changed")
            elif sorted([*tensors.get("ids", torch.zeros(0)).tolist(), *(failure.row for failure in header["failed"])]) != list(self.span(shard)):
                wrong.append(f"{name} has other items than it should")
        return wrong

    def _wrong_taps(self, shard: int) -> list[str]:
        """The columns of taps beside a shard that are broken, or changed since they were written."""
        wrong = []
        for path in sorted(self.folder.glob(f"shard-{shard:05d}.tap-*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    told = (file.metadata() or {}).get("digest")
                wrong += [] if digest_of(self._tensors(path)) == told else [f"{path.name} was changed"]
            except (InputError, OSError, SafetensorError):
                wrong.append(f"{path.name} is broken")
        return wrong

    def half_written(self, age: float = 0.0) -> list[Path]:
        """Files that a killed run left, untouched for `age` seconds."""
        return left_over(self.folder, age)

    def remove(self) -> None:
        """Deletes the store."""
        shutil.rmtree(self.folder)


def facts_of(folder: Path) -> dict[str, Any]:
    """What a store says of itself.

    Raises:
        InputError: when the folder is no store, or one of another version.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / "facts.json").read_text("utf-8"))
        version = facts.get("format")
        fine = version == FORMAT and all(type(facts[name]) is int and 0 < facts[name] < MOST for name in ("items", "rows"))
        fine = fine and isinstance(facts["fingerprint"], str) and isinstance(facts["about"], dict)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder} is no store of outputs: it has no readable facts.json.") from error
    if not fine:
        raise InputError(
            f"{folder} is a store of another version of Farfield, or broken (format {version!r}; this one reads {FORMAT}). Remove it and collect again."
        )
    return facts


def _readable(folder: Path) -> bool:
    try:
        facts_of(folder)
    except InputError:
        return False
    return True


def stores(root: str | Path) -> list[Path]:
    """The folders of all stores under a root, newest first, readable or not.

    Raises:
        InputError: when there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"There is no folder {root}.")
    found = [path for path in root.iterdir() if path.is_dir() and (path / "facts.json").exists()]
    return sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))

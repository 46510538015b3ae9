"""Fetching and unpacking what a suite lacks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farfield.data import obtain
from farfield.data.suites import vision
from farfield.data.suites.checking import advice, check, check_archive, needed, place_of
from farfield.data.suites.definition import Archive, Definition, Source
from farfield.errors import InputError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Step:
    """One thing to do for a suite.

    Args:
        source: whose data.
        action: `fetch`, `fetch and unpack`, `unpack` (the archive is there), or `by hand`.
        what: the file, or torchvision's data set.
        where: the folder that it comes to.
        url: from where; `None` where that is not known or left to torchvision.
        size: bytes to fetch, where that is known.
        checked: by what a file is known to be the published one.
        told: what a person has to do.
    """

    source: str
    action: str
    what: str
    where: Path
    url: str | None = None
    size: int | None = None
    checked: str = ""
    told: str = ""


def plan(definition: Definition, root: Path, progress: Progress | None = None) -> list[Step]:
    """What is to be done so that every set is there; nothing is done yet."""
    steps: list[Step] = []
    for name in needed(definition, check(definition, root, progress)):
        steps += _steps(name, definition.sources[name], root)
    return steps


def _steps(name: str, source: Source, root: Path) -> list[Step]:
    if source.torchvision is not None:
        return [Step(name, "fetch and unpack", f"torchvision's {source.torchvision}", root / source.into, checked="its checksums")]
    steps = [_step(name, archive, root) for archive in source.archives]
    if not steps or any(step.action == "by hand" for step in steps):
        return [*(step for step in steps if step.action != "by hand"), Step(name, "by hand", _files(source, root), root, told=advice(source, root))]
    return steps


def _files(source: Source, root: Path) -> str:
    return ", ".join(archive.file for archive in source.archives if not place_of(archive, root).is_file()) or source.title


def _step(name: str, archive: Archive, root: Path) -> Step:
    checked = "md5" if archive.md5 else "sha256" if archive.sha256 else "size" if archive.size is not None else "the size that the server says"
    where = root / (archive.into if archive.into is not None else archive.keep)
    if place_of(archive, root).is_file() and archive.into is not None:
        return Step(name, "unpack", archive.file, where, checked=checked)
    if archive.url is None:
        return Step(name, "by hand", archive.file, where)
    return Step(name, "fetch" if archive.into is None else "fetch and unpack", archive.file, where, archive.url, archive.size, checked)


def prepare(definition: Definition, root: Path, progress: Progress | None = None, say: Callable[[str], None] | None = None) -> list[Step]:
    """Does what `plan` says, as far as it can be done without a person; what it could not do comes back, with the reason.

    One source that cannot be had does not stop the others.

    Args:
        definition: the suite.
        root: the folder of its data.
        progress: called with what is done, how far, and out of how much.
        say: called with a line for each thing done.
    """
    left = []
    for step in plan(definition, root, progress):
        if step.action == "by hand":
            left.append(step)
            continue
        try:
            _do(step, definition.sources[step.source], root, progress)
        except InputError as error:
            left.append(Step(step.source, "failed", step.what, step.where, step.url, told=str(error)))
            continue
        if say is not None:
            say(f"{step.what}: done ({step.action}), in {step.where}")
    return left


def _do(step: Step, source: Source, root: Path, progress: Progress | None) -> None:
    if source.torchvision is not None:
        _by_torchvision(source.torchvision, root / source.into)
        return
    archive = next(archive for archive in source.archives if archive.file == step.what)
    place = place_of(archive, root)
    if not place.is_file() and archive.url is not None:
        obtain.fetch(archive.url, place, md5=archive.md5, sha256=archive.sha256, size=archive.size, progress=progress)
    elif (found := check_archive(step.source, archive, root, progress)).state == "unlike":
        raise InputError(f"{place} is not what was published: {found.told}. Remove it, and run this again.")
    if archive.into is not None:
        obtain.unpack(place, root / archive.into, progress)


def _by_torchvision(name: str, root: Path) -> None:
    """Fetches a data set by torchvision's own downloader, which checks what it fetches; what it prints goes to stderr."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            for split in vision.SPLITS:
                vision.opened(name, split, root, download=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"torchvision could not fetch {name} into {root}: {first}. Run this again.") from error

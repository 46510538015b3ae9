"""What of a suite is there, what is missing, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from farfield.data import noise
from farfield.data.files import Files
from farfield.data.images import Images
from farfield.data.obtain import digest
from farfield.data.suites import classes as lists
from farfield.data.suites.definition import SPLITS, Archive, Definition, Pictures, Source
from farfield.data.suites.reading import chosen, raw, there, where
from farfield.errors import InputError

Progress = Callable[[str, int, int], None]
SHOWN = 3  # missing files that are named


@dataclass(frozen=True)
class Found:
    """One set of a suite as it is on the disk.

    Args:
        role: the split, `near`, `far`, `shifted` or `validation`.
        name: of the set.
        place: where it was looked for.
        expected: pictures it is to have; `None` where no number is published.
        there: pictures it has.
        state: `complete`, `missing` (its place is not there), `incomplete`, `too many`, or `broken` (it cannot be read).
        missing: the first files or class folders that are not there, or why it is broken.
        lacking: how many files are not there, as far as that is known.
        sources: what is to be obtained for it.
    """

    role: str
    name: str
    place: str
    expected: int | None
    there: int
    state: str
    missing: tuple[str, ...] = ()
    lacking: int = 0
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundArchive:
    """One archive as it is on the disk: `fits`, `unlike` (its checksum or size differs), `absent`, or `unchecked` (nothing public to compare with)."""

    source: str
    file: str
    place: Path
    state: str
    told: str = ""


def check(definition: Definition, root: Path, progress: Progress | None = None) -> list[Found]:
    """Every set of a suite: whether its pictures are there, each a file that is not empty, and as many as there are to be.

    Args:
        definition: the suite.
        root: the folder of its data.
        progress: called with what is looked at, how far, and out of how much.
    """
    sets = list(_named(definition))
    found = []
    for index, (role, name, pictures) in enumerate(sets):
        if progress is not None:
            progress(f"looking at {name}", index, len(sets))
        found.append(_check(definition, root, role, name, pictures))
    if progress is not None:
        progress("looked at all", len(sets), len(sets))
    return found


def _named(definition: Definition) -> Iterator[tuple[str, str, Pictures]]:
    """The sets; those of a split with several pieces are numbered."""
    for role, name, pictures in definition.sets():
        pieces = definition.splits.get(role, ()) if role == name else ()
        yield role, name if len(pieces) < 2 else f"{name} ({pieces.index(pictures) + 1} of {len(pieces)})", pictures


def _check(definition: Definition, root: Path, role: str, name: str, pictures: Pictures) -> Found:
    labelled = role in SPLITS
    one = chosen(pictures, root, labelled)
    place = str(root / where(one))
    expected = pictures.count

    def said(state: str, count: int = 0, missing: tuple[str, ...] = (), lacking: int = 0) -> Found:
        return Found(role, name, place, expected, count, state, missing, lacking, pictures.sources)

    if one.reader == "noise":
        expected = (one.count or 0) * len(noise.FAMILIES)
        place = "drawn on the spot"
        return said("complete", expected)
    if not there(one, root, labelled):
        return said("missing", lacking=expected or 0)
    try:
        data = raw(name, one, root, labelled)
    except InputError as error:
        return said("broken", missing=(str(error),))
    if isinstance(data, Images):
        return said(_state(len(data), expected), len(data))
    lost = absent(data)
    count = len(data) - len(lost)
    if one.pick is not None and not lost:
        count = min(count, one.pick)
    missing = [data.paths[row] for row in lost[:SHOWN]]
    if expected is not None and count < expected and labelled and one.reader == "folder":
        missing += [f"{folder}/" for folder in (lists.folders(definition.classes) or ()) if folder not in set(data.folders)][:SHOWN]
    state = "incomplete" if lost else _state(count, expected)
    return said(state, count, tuple(missing[:SHOWN]), len(lost) or max(0, (expected or 0) - count))


def _state(count: int, expected: int | None) -> str:
    return "complete" if expected is None or count == expected else "incomplete" if count < expected else "too many"


def absent(files: Files) -> list[int]:
    """The rows of files that are not there, or empty."""
    rows = []
    for row, path in enumerate(files.paths):
        try:
            if os.stat(os.path.join(files.root, path)).st_size > 0:
                continue
        except (OSError, ValueError):
            pass
        rows.append(row)
    return rows


def needed(definition: Definition, found: list[Found]) -> list[str]:
    """The sources of the sets that are not complete, each once."""
    return list(dict.fromkeys(source for one in found if one.state not in ("complete", "too many") for source in one.sources))


def check_archives(definition: Definition, root: Path, progress: Progress | None = None) -> list[FoundArchive]:
    """Every archive of a suite's sources: whether it is there and is what was published."""
    archives = [(name, archive) for name, source in definition.sources.items() for archive in source.archives]
    return [check_archive(name, archive, root, progress) for name, archive in archives]


def check_archive(source: str, archive: Archive, root: Path, progress: Progress | None = None) -> FoundArchive:
    """One archive."""
    place = place_of(archive, root)
    if not place.is_file():
        return FoundArchive(source, archive.file, place, "absent")
    wanted = {kind: value for kind in ("md5", "sha256") if (value := getattr(archive, kind)) is not None}
    for kind, value in wanted.items():
        got = digest(place, kind, progress)
        if got != value:
            return FoundArchive(source, archive.file, place, "unlike", f"its {kind} is {got}, and the published one is {value}")
    size = place.stat().st_size
    if not wanted and archive.size is not None and size != archive.size:
        return FoundArchive(source, archive.file, place, "unlike", f"it has {size:,} bytes, and the published one {archive.size:,}")
    return FoundArchive(source, archive.file, place, "fits" if wanted or archive.size is not None else "unchecked")


def place_of(archive: Archive, root: Path) -> Path:
    """Where an archive is kept."""
    return root / archive.keep / archive.file


def advice(source: Source, root: Path) -> str:
    """One sentence: how a source is obtained."""
    if source.torchvision is not None or (source.archives and all(archive.url for archive in source.archives)):
        return f"{source.title}: fetched by `farfield data prepare`."
    where = f" from {source.page}" if source.page else ""
    told = f" {source.get}" if source.get else ""
    puts = [f"{archive.file} into {root / archive.keep}" for archive in source.archives if archive.into is not None]
    then = f" Put {', '.join(puts)}; `farfield data prepare` unpacks it." if puts else ""
    return f"{source.title}: by hand{where}.{told}{then}"

"""Fetching files, so that a broken connection loses nothing, and unpacking archives, so that nothing lands outside a folder."""

from __future__ import annotations

import errno
import hashlib
import http.client
import lzma
import os
import re
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from farfield.errors import InputError

Progress = Callable[[str, int, int], None]
BLOCK = 1 << 20
TRIES = 4  # connections in a row that bring nothing new
PATIENCE = 60.0  # seconds without a byte after which a connection is given up


def digest(path: Path, kind: str, progress: Progress | None = None) -> str:
    """The hash of a file, in hexadecimal digits; `kind` is `md5` or `sha256`."""
    found, done, size = hashlib.new(kind, usedforsecurity=False), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
            done += len(block)
            if progress is not None:
                progress(f"{kind} of {path.name.removesuffix('.partial')}", done, size)
    return found.hexdigest()


# --- fetching -----------------------------------------------------------------------------------------------------------------------------


def fetch(
    url: str, target: Path, *, md5: str | None = None, sha256: str | None = None, size: int | None = None, progress: Progress | None = None
) -> None:
    """Fetches a file. It has its name only when it is whole: by its checksum, or where none is given by its size.

    What is fetched so far lies beside it as `.partial`; a further call goes on there.

    Args:
        url: `http` or `https`.
        target: the file.
        md5: as published.
        sha256: as published.
        size: bytes, as published; else what the server says.
        progress: called with the file's name, the bytes so far and in all.

    Raises:
        InputError: where it cannot be had, breaks off, does not fit its checksum, or the disk is full.
    """
    partial = target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    tries = TRIES
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            whole = _go_on(url, partial, before, size, target.name, progress)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(
                    f"The disk of {target.parent} is full. What is fetched of {target.name} stays; make room and run this again."
                ) from error
            whole, reason = None, _reason(error)
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise InputError(
                    f"{url} cannot be had ({reason}). See where it is from, and put {target.name} into {target.parent} by hand."
                ) from error
        except http.client.HTTPException as error:
            whole, reason = None, _reason(error)
        else:
            reason = "the connection broke off"
        now = partial.stat().st_size if partial.exists() else 0
        if whole is not None and now == whole:
            break
        if whole is not None and now > whole:
            partial.unlink()
            raise InputError(f"{url} is {whole:,} bytes, and {now:,} were there. What was fetched is removed; run this again.")
        tries = TRIES if now > before else tries - 1
        if tries == 0:
            raise InputError(f"{url} cannot be had ({reason}); {now:,} bytes of it are there. Run this again to go on.")
    _accept(url, partial, target, {"md5": md5, "sha256": sha256}, size, progress)


def _go_on(url: str, partial: Path, start: int, size: int | None, name: str, progress: Progress | None) -> int:
    """Appends what a server has from `start` on; the bytes there are to be in all, as far as the server says."""
    if size is not None and start == size:
        return size
    request = urllib.request.Request(url, headers={"User-Agent": "farfield", **({"Range": f"bytes={start}-"} if start else {})})
    try:
        response = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:  # nothing comes after what is there
            told = re.fullmatch(r"bytes \*/([0-9]+)", error.headers.get("Content-Range", ""))
            if told and int(told[1]) == start:
                return start
            partial.unlink()
            return _go_on(url, partial, 0, size, name, progress)
        raise
    with response:
        begin, whole = _extent(response, start, size)
        _check_room(partial, whole - begin if whole is not None else 0)
        with partial.open("ab" if begin else "wb") as file:
            if begin and file.tell() != begin:
                raise OSError(f"the server goes on at byte {begin}")
            done = begin
            while block := response.read(BLOCK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(name, done, whole or done)
    return done if whole is None else whole


def _extent(response: Any, start: int, size: int | None) -> tuple[int, int | None]:
    """At which byte what a server sends begins, and how many the whole file has."""
    length = response.headers.get("Content-Length")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT and start:
        told = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", response.headers.get("Content-Range", ""))
        if told is None:
            raise OSError("the server does not say which part it sends")
        return int(told[1]), int(told[2]) if told[2] != "*" else size
    return 0, int(length) if length is not None else size  # a server that knows no ranges begins again


def _check_room(partial: Path, more: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if more > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))


def _accept(url: str, partial: Path, target: Path, sums: dict[str, str | None], size: int | None, progress: Progress | None) -> None:
    """Gives a fetched file its name, or removes it where it is not what was published."""
    wanted = {kind: value for kind, value in sums.items() if value is not None}
    for kind, value in wanted.items():
        if (got := digest(partial, kind, progress)) != value:
            partial.unlink()
            raise InputError(
                f"{url} is not what was published: its {kind} is {got}, not {value}. It is removed; run this again, or see where it is from."
            )
    if not wanted and size is not None and partial.stat().st_size != size:
        got_size = partial.stat().st_size
        partial.unlink()
        raise InputError(f"{url} is not what was published: it has {got_size:,} bytes, not {size:,}. It is removed; run this again.")
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(target)


def _reason(error: Exception) -> str:
    said = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return (str(said).splitlines() or [""])[0].rstrip(".: ") or type(error).__name__


# --- unpacking ----------------------------------------------------------------------------------------------------------------------------


def unpack(archive: Path, into: Path, progress: Progress | None = None) -> int:
    """Unpacks a tar or zip archive into a folder, beside what is there; the number of its files.

    All names are looked at first. Then it is unpacked into a folder beside, and moved into place when it is whole, so that a run that
    was stopped leaves nothing behind that could be taken for data.

    Raises:
        InputError: for what is no such archive, is broken, or has an absolute name, one with `..`, a link that leads out, or a device: then
            nothing of it is written.
    """
    partial = into / f".{archive.name}.unpacking"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        into.mkdir(parents=True, exist_ok=True)
        count = _unzip(archive, partial, progress) if zipfile.is_zipfile(archive) else _untar(archive, partial, progress)
        _merge(partial, into)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The archive {archive} cannot be unpacked: {_reason(error)}. Fetch it again.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"The disk of {into} is full. Nothing of {archive.name} is unpacked; make room and run this again.") from error
        if type(error).__name__ == "BadGzipFile" or error.errno is None:
            raise InputError(f"The archive {archive} cannot be unpacked: {_reason(error)}. Fetch it again.") from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count


def _untar(archive: Path, into: Path, progress: Progress | None) -> int:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        for member in members:
            _check_name(archive, member.name)
            if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                raise InputError(f"{archive.name} has a device or the like, {member.name!r}. Nothing of it is unpacked.")
            if member.issym() or member.islnk():
                _check_link(archive, member.name, member.linkname, member.issym())
        into.mkdir()
        for index, member in enumerate(members):
            tar.extract(member, into, filter="data")
            if progress is not None:
                progress(f"unpacking {archive.name}", index + 1, len(members))
    return sum(member.isfile() for member in members)


def _unzip(archive: Path, into: Path, progress: Progress | None) -> int:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        for member in members:
            _check_name(archive, member.filename)
            mode = member.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{archive.name} has a link or a device, {member.filename!r}. Nothing of it is unpacked.")
        into.mkdir()
        for index, member in enumerate(members):
            zipped.extract(member, into)
            if progress is not None:
                progress(f"unpacking {archive.name}", index + 1, len(members))
    return sum(not member.is_dir() for member in members)


def _check_name(archive: Path, name: str) -> None:
    """Raises for a name that could lie outside the folder, on this or another system."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in PurePosixPath(plain).parts or "\0" in name:
        raise InputError(f"{archive.name} has a name that leads out of its folder, {name!r}. Nothing of it is unpacked.")


def _check_link(archive: Path, name: str, to: str, symbolic: bool) -> None:
    """Raises for a link that leads out: a symbolic one is relative to its own folder, a hard one to the archive's."""
    target = os.path.normpath(os.path.join(os.path.dirname(name) if symbolic else "", to))
    if os.path.isabs(to) or target.split(os.sep)[0] == "..":
        raise InputError(f"{archive.name} has a link that leads out of its folder, {name!r} to {to!r}. Nothing of it is unpacked.")


def _merge(partial: Path, into: Path) -> None:
    """Moves what is in one folder into another, over what has the same name."""
    for entry in sorted(os.scandir(partial), key=lambda entry: entry.name):
        target = into / entry.name
        if entry.is_dir(follow_symlinks=False) and target.is_dir() and not target.is_symlink():
            _merge(Path(entry.path), target)
        elif entry.is_dir(follow_symlinks=False) and target.is_symlink():
            raise InputError(f"{target} is a link, and a folder of that name is to be unpacked there. Unpack it by hand where the link leads.")
        else:
            os.replace(entry.path, target)

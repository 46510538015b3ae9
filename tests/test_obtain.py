"""Fetching from a server of our own on 127.0.0.1 that breaks off, forgets and lies; unpacking archives that would like to write elsewhere."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.data import obtain
from farfield.errors import InputError

CONTENT = bytes(range(256)) * 4096  # a megabyte
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `CONTENT`; what else it does, a test says."""

    ranges = True  # whether it knows ranges
    breaks: int | None = None  # after so many bytes of an answer it hangs up
    fails = 0  # so many answers are errors of this status
    status = 503
    length = True  # whether it says how much it sends
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked or "all")
        if self.server.fails:
            self.server.fails -= 1
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if self.server.length:
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        sent = CONTENT[start:] if self.server.breaks is None else CONTENT[start : start + self.server.breaks]
        self.wfile.write(sent)
        self.wfile.flush()
        if self.server.breaks is not None:
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server(("127.0.0.1", 0), Handler)
    started.asked = []
    thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_with_its_progress(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    obtain.fetch(server.url, tmp_path / "sub" / "file.bin", md5=MD5, progress=lambda *step: told.append(step))
    assert (tmp_path / "sub" / "file.bin").read_bytes() == CONTENT and left(tmp_path / "sub") == ["file.bin"]
    assert ("file.bin", len(CONTENT), len(CONTENT)) in told and told[-1][0] == "md5 of file.bin"


def test_a_file_without_a_checksum_is_complete_by_its_size(server: Server, tmp_path: Path) -> None:
    obtain.fetch(server.url, tmp_path / "a", size=len(CONTENT))
    obtain.fetch(server.url, tmp_path / "b")  # by what the server says
    server.length = False
    obtain.fetch(server.url, tmp_path / "c", sha256=hashlib.sha256(CONTENT).hexdigest())
    assert all((tmp_path / name).read_bytes() == CONTENT for name in "abc")


def test_what_broke_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.breaks = 300_000
    obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == ["all", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_file_that_was_left_half_done_goes_on_in_another_run(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.partial").write_bytes(CONTENT[:1000])
    obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert server.asked == ["bytes=1000-"] and (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_partial_file_that_is_whole_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    for given_size, asked in ((None, ["bytes=1048576-"]), (len(CONTENT), [])):
        server.asked.clear()
        (tmp_path / "file.bin.partial").write_bytes(CONTENT)
        obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5, size=given_size)
        assert server.asked == asked and left(tmp_path) == ["file.bin"]
        (tmp_path / "file.bin").unlink()


def test_a_partial_file_that_is_too_long_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.partial").write_bytes(CONTENT + b"more")
    obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT and server.asked == ["bytes=1048580-", "all"]


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.bin.partial").write_bytes(b"x" * 1000)
    obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up_and_what_came_stays(server: Server, tmp_path: Path) -> None:
    server.ranges, server.breaks = False, 1000
    with pytest.raises(InputError, match=r"cannot be had \(the connection broke off\); 1,000 bytes of it are there\. Run this again to go on\."):
        obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert left(tmp_path) == ["file.bin.partial"] and len(server.asked) == obtain.TRIES + 1


def test_a_server_that_fails_for_a_while_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.fails = obtain.TRIES - 1
    obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert len(server.asked) == obtain.TRIES


def test_what_is_not_there_is_told_at_once(server: Server, tmp_path: Path) -> None:
    server.fails, server.status = 9, 404
    with pytest.raises(InputError, match=r"file\.bin cannot be had \(Not Found\)\. See where it is from, and put file\.bin into .* by hand\."):
        obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert server.asked == ["all"] and left(tmp_path) == []


def test_no_connection_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be had \(.*refused.*\); 0 bytes of it are there"):
        obtain.fetch("http://127.0.0.1:1/file.bin", tmp_path / "file.bin", md5=MD5)


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_is_refused_and_nothing_stays(server: Server, tmp_path: Path, kind: str) -> None:
    wrong = "0" * (32 if kind == "md5" else 64)
    got = getattr(hashlib, kind)(CONTENT).hexdigest()
    with pytest.raises(InputError, match=rf"is not what was published: its {kind} is {got}, not {wrong}\. It is removed"):
        obtain.fetch(server.url, tmp_path / "file.bin", **{kind: wrong})
    assert left(tmp_path) == []


def test_a_wrong_size_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it has 1,048,576 bytes, not 1,048,577"):
        obtain.fetch(server.url, tmp_path / "file.bin", size=len(CONTENT) + 1)
    assert left(tmp_path) == []


def test_a_full_disk_keeps_what_came(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    (tmp_path / "file.bin.partial").write_bytes(CONTENT[:500])
    with pytest.raises(InputError, match=r"The disk of .* is full\. What is fetched of file\.bin stays; make room and run this again\."):
        obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert (tmp_path / "file.bin.partial").read_bytes() == CONTENT[:500]
    monkeypatch.undo()
    obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_disk_that_fills_up_in_the_middle(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.partial").symlink_to("/dev/full")
    with pytest.raises(InputError, match="is full"):
        obtain.fetch(server.url, tmp_path / "file.bin", md5=MD5)


# --- unpacking ----------------------------------------------------------------------------------------------------------------------------


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as made:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                made.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def zipped(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name in links else 0o100644) << 16
            made.writestr(info, content)
    return path


GOOD = {"a folder/x.jpg": b"1", "a folder/deep/er/y.jpg": b"22", "z.txt": b""}


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar", "a.tar.xz", "a.zip"])
def test_archives_are_unpacked_beside_what_is_there(tmp_path: Path, name: str) -> None:
    modes = {"a.tar.gz": "w:gz", "a.tar": "w", "a.tar.xz": "w:xz"}
    archive = zipped(tmp_path / name, GOOD) if name == "a.zip" else tar(tmp_path / name, dict(GOOD), modes[name])
    into = tmp_path / "into"
    (into / "a folder").mkdir(parents=True)
    (into / "a folder" / "old.jpg").write_bytes(b"old")
    (into / "a folder" / "x.jpg").write_bytes(b"of an earlier run")
    told: list[tuple[str, int, int]] = []
    assert obtain.unpack(archive, into, lambda *step: told.append(step)) == 3
    assert {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()} == {**GOOD, "a folder/old.jpg": b"old"}
    assert left(into) == ["a folder", "z.txt"] and told[-1] == (f"unpacking {name}", 3, 3)
    assert obtain.unpack(archive, into) == 3  # again, over itself


def test_links_that_stay_inside_are_kept(tmp_path: Path) -> None:
    members = {"a/x.jpg": b"1", "a/y.jpg": link("a/y.jpg", "x.jpg"), "b/z.jpg": link("b/z.jpg", "a/x.jpg", tarfile.LNKTYPE)}
    obtain.unpack(tar(tmp_path / "a.tar.gz", members), tmp_path / "into")
    assert (tmp_path / "into/a/y.jpg").read_bytes() == b"1" == (tmp_path / "into/b/z.jpg").read_bytes()


EVIL: dict[str, dict[str, bytes | tarfile.TarInfo]] = {
    "a name that leads out of its folder, '/etc/x'": {"/etc/x": b"1"},
    "a name that leads out of its folder, '../x'": {"../x": b"1"},
    "a name that leads out of its folder, 'a/../../x'": {"a/../../x": b"1"},
    "a name that leads out of its folder, 'a/..'": {"a/..": b""},
    "a name that leads out of its folder, 'C:\\\\\\\\x'": {"C:\\x": b"1"},
    "a name that leads out of its folder, '..\\\\\\\\x'": {"..\\x": b"1"},
    "a link that leads out of its folder, 'a/l' to '../../secret'": {"a/l": link("a/l", "../../secret")},
    "a link that leads out of its folder, 'l' to '/etc/passwd'": {"l": link("l", "/etc/passwd")},
    "a link that leads out of its folder, 'h' to '../secret'": {"h": link("h", "../secret", tarfile.LNKTYPE)},
    "a device or the like, 'dev'": {"dev": link("dev", "", tarfile.CHRTYPE)},
    "a device or the like, 'pipe'": {"pipe": link("pipe", "", tarfile.FIFOTYPE)},
}


@pytest.mark.parametrize("said", EVIL)
def test_what_would_write_elsewhere_is_refused_whole(tmp_path: Path, said: str) -> None:
    archive = tar(tmp_path / "a.tar.gz", {"good.jpg": b"1", **EVIL[said]})
    with pytest.raises(InputError, match=rf"a\.tar\.gz has {said}.*Nothing of it is unpacked\."):
        obtain.unpack(archive, tmp_path / "into")
    assert left(tmp_path / "into") == [] and left(tmp_path) == ["a.tar.gz", "into"]


@pytest.mark.parametrize("name", ["/x", "../x", "a/../../x", "C:/x"])
def test_zip_files_that_would_write_elsewhere_are_refused_whole(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"a\.zip has a name that leads out of its folder"):
        obtain.unpack(zipped(tmp_path / "a.zip", {"good.jpg": b"1", name: b"2"}), tmp_path / "into")
    assert left(tmp_path / "into") == [] and left(tmp_path) == ["a.zip", "into"]


def test_a_link_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip has a link or a device, 'l'\. Nothing of it is unpacked\."):
        obtain.unpack(zipped(tmp_path / "a.zip", {"good.jpg": b"1", "l": b"good.jpg"}, ("l",)), tmp_path / "into")
    assert left(tmp_path / "into") == []


def test_a_link_followed_by_what_goes_through_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    members = {"a/b": link("a/b", "."), "c": link("c", "a/b/../../.."), "c/x": b"1"}
    with pytest.raises(InputError):
        obtain.unpack(tar(tmp_path / "a.tar", members, "w"), tmp_path / "into")
    assert left(tmp_path / "into") == [] and left(tmp_path) == ["a.tar", "into", "outside"]


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar", "a.tar.xz", "a.zip"])
def test_a_broken_archive_leaves_nothing(tmp_path: Path, name: str, cut: float) -> None:
    content = {f"{index}.bin": os.urandom(5000) for index in range(9)}
    modes = {"a.tar.gz": "w:gz", "a.tar": "w", "a.tar.xz": "w:xz"}
    archive = zipped(tmp_path / name, content) if name == "a.zip" else tar(tmp_path / name, dict(content), modes[name])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(cut * len(whole))])
    if name == "a.tar" and cut > 0.9:
        return  # only the zeros at its end are gone
    with pytest.raises(InputError, match=r"The archive .* cannot be unpacked: .*Fetch it again\."):
        obtain.unpack(archive, tmp_path / "into")
    assert left(tmp_path / "into") == []


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_archive_is_an_input_error_or_unpacks(place: int, flip: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        archive = tar(Path(folder) / "a.tar.gz", {"x.bin": bytes(range(256)) * 20, "y/z.bin": b"abc" * 999})
        content = bytearray(archive.read_bytes())
        content[place % len(content)] ^= flip
        archive.write_bytes(content)
        try:
            obtain.unpack(archive, Path(folder) / "into")
        except InputError:
            assert left(Path(folder) / "into") == []
        assert left(Path(folder)) == ["a.tar.gz", "into"]


def test_unpacking_that_was_stopped_starts_over(tmp_path: Path) -> None:
    archive, into = tar(tmp_path / "a.tar.gz", dict(GOOD)), tmp_path / "into"
    (into / ".a.tar.gz.unpacking" / "half").mkdir(parents=True)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain.unpack(archive, into, stop)
    assert left(into) == []
    assert obtain.unpack(archive, into) == 3 and left(into) == ["a folder", "z.txt"]


def test_a_disk_that_is_full_while_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar.gz", dict(GOOD))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(InputError, match=r"The disk of .* is full\. Nothing of a\.tar\.gz is unpacked"):
        obtain.unpack(archive, tmp_path / "into")
    assert left(tmp_path / "into") == []


def test_a_folder_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "a folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"a folder is a link, and a folder of that name is to be unpacked there"):
        obtain.unpack(tar(tmp_path / "a.tar.gz", dict(GOOD)), tmp_path / "into")
    assert left(tmp_path / "elsewhere") == []


def test_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT * 2 + b"end")
    assert obtain.digest(tmp_path / "x", "sha256") == hashlib.sha256(CONTENT * 2 + b"end").hexdigest()

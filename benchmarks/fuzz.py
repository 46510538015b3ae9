"""Bad input on purpose: `python benchmarks/fuzz.py [--images 1000] [--lines 300] [--seed 0] [--keep FOLDER]`.

Pictures in every format that Pillow writes here are mutilated and read: each must become an 8-bit RGB picture or raise `Unreadable` with one
line, within ten seconds and two gigabytes. All of them in one folder go through `collect` once: outputs and named failures must add up to the
files. Command lines and TOML files over small valid data are mutilated likewise and run: each must succeed, or say one sentence on stderr and
leave with status 2.

Prints a Markdown table and each violation with the way to see it again (their folders are kept under `--keep`); status 1 on any violation.
Everything that is read or run is so in a forked child of a process of its own that has the library loaded; a hang or a crash ends only a child.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import os
import random
import re
import resource
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

PICTURE_SECONDS, PICTURE_BYTES = 10.0, 2 << 30
LINE_SECONDS, LINE_BYTES = 60.0, 6 << 30
GLYPHS = 77  # the status of a child that was about to run a whole embedded suite
COLUMNS = ("tried", "accepted", "refused", "tracebacks", "faults", "timeouts", "other")

# --- a process that has the library loaded and forks a child for each job -----------------------------------------------------------------


def serve() -> None:
    """Reads a job a line from stdin, answers a line on stdout."""
    jobs, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    import timm  # noqa: F401 (loaded once, for all children)
    import torchvision.models  # noqa: F401

    from farfield import benchmark, cli, collect, compare, detectors, inputs, metrics, report  # noqa: F401
    from farfield.data import pictures  # noqa: F401

    for line in jobs:
        job = json.loads(line)
        answer = {"read": _serve_read, "collect": _serve_collect, "line": _serve_line}[job.pop("what")](**job)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _limit_memory(more: int) -> None:
    """This process may map so many bytes more than it does now."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    if now:
        resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


def _fork(work: Callable[[Callable[[Any], None]], None], memory: int) -> tuple[int, int]:
    """A child in a group of its own that does some work; what it tells can be read, a JSON line each, from the second number's end of a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 70
    try:
        os.setsid()
        os.close(reading)
        _limit_memory(memory)
        work(lambda value: os.write(writing, (json.dumps(value) + "\n").encode()) and None)
        status = 0
    except SystemExit as leaving:
        status = 0 if leaving.code is None else leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _told(reading: int, seconds: float) -> Iterator[Any]:
    """What a child tells, until it ends or is silent for so long; then a last `None` for silence."""
    rest = b""
    while True:
        if not select.select([reading], [], [], seconds)[0]:
            yield None
            return
        part = os.read(reading, 1 << 16)
        if not part:
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from map(json.loads, lines)


def _end(child: int, reading: int) -> int:
    """Ends a child and all of its group; its exit status, negative for a signal."""
    os.close(reading)
    done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        time.sleep(0.05)
        done, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


def _read_one(path: str) -> tuple[str, str]:
    """What comes of reading one picture."""
    from farfield.data.pictures import Unreadable, read_picture

    try:
        image = read_picture(path)
        pixels = np.asarray(image)
        if image.mode != "RGB" or pixels.dtype != np.uint8 or pixels.shape != (image.height, image.width, 3) or pixels.size == 0:
            return "other", f"a picture of mode {image.mode}, {pixels.dtype}, {pixels.shape}"
        return "accepted", ""
    except Unreadable as error:
        text = str(error)
        if not text.strip() or len(text.splitlines()) != 1:
            return "other", f"the message is not one line: {text!r}"
        return ("other", f"memory: {text}") if text.startswith("MemoryError") else ("refused", text)
    except BaseException as error:
        return "tracebacks", f"{type(error).__name__}: {error}"


def _serve_read(paths: list[str]) -> list[tuple[str, str]]:
    """Each picture's verdict; a child reads on after the other until it dies or hangs, and another goes on behind that."""
    found: list[tuple[str, str]] = []
    while len(found) < len(paths):
        todo = paths[len(found) :]

        def work(tell: Callable[[Any], None], todo: list[str] = todo) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes there by itself; what a person sees is judged with the command lines
            for path in todo:
                tell(_read_one(path))

        child, reading = _fork(work, PICTURE_BYTES)
        silent = False
        for verdict in _told(reading, PICTURE_SECONDS):
            silent = verdict is None
            if not silent:
                found.append(tuple(verdict))
        status = _end(child, reading)
        if len(found) < len(paths):
            found.append(("timeouts", f"longer than {PICTURE_SECONDS:.0f} s") if silent else ("other", f"the process died with status {status}"))
    return found


def _serve_collect(folder: str, out: str) -> dict[str, Any]:
    """`collect` over a folder with a small net: the rows of the outputs, and the failures."""

    def work(tell: Callable[[Any], None]) -> None:
        import warnings

        import torch
        from torch import nn

        from farfield import Classifier
        from farfield.collect import collect
        from farfield.data.files import folder as pictures_of
        from farfield.data.transforms import Preprocess

        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        classifier = Classifier.wrap(net, transform=Preprocess(resize=32, crop=32), input_size=(3, 32, 32))
        data = pictures_of(folder)
        stored = collect(classifier, data, out=out, workers=0)
        outputs = stored.load()
        assert outputs.ids is not None
        tell({"files": len(data), "read": [data.paths[row] for row in outputs.ids.tolist()], "failures": [list(f) for f in stored.failures()]})

    child, reading = _fork(work, LINE_BYTES)
    answer: dict[str, Any] = next((value for value in _told(reading, 900.0) if value is not None), {})
    status = _end(child, reading)
    return answer or {"died": status}


def _serve_line(argv: list[str], cwd: str, log: str) -> dict[str, Any]:
    """One command line in a folder: its status, stdout and stderr."""
    if any("hf:" in argument for argument in argv):
        import datasets  # noqa: F401 (slow, and loaded once here for all children)
        import transformers  # noqa: F401

    def work(tell: Callable[[Any], None]) -> None:
        os.chdir(cwd)
        Path(f"{log}.in").write_text("y\n" * 9)
        for number, (name, flags) in enumerate((("in", os.O_RDONLY), ("out", os.O_WRONLY | os.O_CREAT), ("err", os.O_WRONLY | os.O_CREAT))):
            os.dup2(os.open(f"{log}.{name}", flags), number)
        sys.argv = ["farfield", *argv]
        _guard()
        from farfield.cli import main

        main()

    started = time.monotonic()
    child, reading = _fork(work, LINE_BYTES)
    silent = any(value is None for value in _told(reading, LINE_SECONDS))
    status = _end(child, reading)
    said = [Path(f"{log}.{name}").read_bytes().decode("utf-8", "replace") if Path(f"{log}.{name}").exists() else "" for name in ("out", "err")]
    return {"status": status, "silent": silent, "out": said[0], "err": said[1], "seconds": time.monotonic() - started}


def _guard() -> None:
    """Leaves before a whole embedded suite would run."""
    from farfield import benchmark

    whole = benchmark.run

    def run(jobs: Any, *rest: Any, **options: Any) -> Any:
        if any(suite.name.startswith("glyphs") for suite, _ in jobs):
            os._exit(GLYPHS)
        return whole(jobs, *rest, **options)

    benchmark.run = run


class Server:
    """The process with the library, without a network."""

    def __init__(self, cache: Path) -> None:
        nowhere = "http://127.0.0.1:9"
        settings = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache / "hf"), "TORCH_HOME": str(cache / "torch"),
            "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": "", "COLUMNS": "100",
            "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=settings, text=True, encoding="utf-8"
        )

    def ask(self, what: str, **job: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"what": what, **job}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process that has the library died with status {self.process.wait()}")
        return json.loads(answer)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@dataclass
class Report:
    """What came of one kind of input."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def note(self, verdict: str, how: str = "") -> None:
        """One more input."""
        self.counts["tried"] += 1
        self.counts[verdict] += 1
        if verdict not in ("accepted", "refused"):
            self.violations.append(f"{self.kind}, {verdict}: {how}")

    def row(self) -> str:
        """A row of the table."""
        return f"| {self.kind} | {' | '.join(str(self.counts[column]) for column in COLUMNS)} |"


# --- pictures -----------------------------------------------------------------------------------------------------------------------------


def seed_pictures() -> dict[str, bytes]:
    """Valid pictures by name, in every format and mode that can be written here."""
    draw = np.random.default_rng(0)
    rgb = Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    smooth = Image.fromarray(np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8))
    deep = Image.fromarray(draw.integers(0, 65536, (30, 40), dtype=np.uint16))
    whole = Image.fromarray(draw.integers(0, 65536, (30, 40), dtype=np.int32))
    real = Image.fromarray(draw.random((30, 40), dtype=np.float32))
    turned = Image.Exif()
    turned[0x0112] = 6
    turned[0x010E] = "a description"
    frames = [Image.fromarray(draw.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(3)]
    found: dict[str, bytes] = {}

    def add(name: str, picture: Image.Image, **how: Any) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, **how)
        found[name] = buffer.getvalue()

    for mode in ("RGB", "L", "CMYK"):
        add(f"{mode}.jpg", rgb.convert(mode), format="JPEG")
    add("progressive.jpg", smooth, format="JPEG", progressive=True)
    add("turned.jpg", smooth, format="JPEG", exif=turned)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        add(f"{mode}.png", rgb.convert(mode), format="PNG")
    add("16.png", deep, format="PNG")
    add("turned.png", smooth, format="PNG", exif=turned)
    add("see-through.png", rgb.convert("P"), format="PNG", transparency=3)
    found["interlaced.png"] = _interlaced()
    add("still.gif", rgb.convert("P"), format="GIF")
    add("moving.gif", frames[0], format="GIF", save_all=True, append_images=frames[1:], duration=40)
    if features.check("webp"):
        add("lossy.webp", smooth, format="WEBP", exif=turned)
        add("lossless.webp", rgb.convert("RGBA"), format="WEBP", lossless=True)
        add("moving.webp", frames[0], format="WEBP", save_all=True, append_images=frames[1:])
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK"):
        add(f"{mode}.tif", rgb.convert(mode), format="TIFF")
    if features.check("libtiff"):
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            add(f"{compression}.tiff", rgb, format="TIFF", compression=compression)
        add("group4.tiff", rgb.convert("1"), format="TIFF", compression="group4")
    add("moving.tif", frames[0], format="TIFF", save_all=True, append_images=frames[1:])
    add("16.tif", deep, format="TIFF")
    found["16B.tif"] = _big_endian(deep)
    add("I.tif", whole, format="TIFF")
    add("F.tif", real, format="TIFF")
    for mode in ("RGB", "L", "P", "1"):
        add(f"{mode}.bmp", rgb.convert(mode), format="BMP")
    add("RGB.ppm", rgb, format="PPM")
    add("L.pgm", rgb.convert("L"), format="PPM")
    add("16.pgm", whole, format="PPM")
    add("1.pbm", rgb.convert("1"), format="PPM")
    found["plain.pnm"] = b"P3 2 2 255\n" + b"1 2 3 " * 4
    if features.check("avif"):
        add("RGB.avif", smooth, format="AVIF")
        add("RGBA.avif", smooth.convert("RGBA"), format="AVIF")
    if features.check("jpg_2000"):
        add("RGB.jp2", smooth, format="JPEG2000")
        add("L.jp2", smooth.convert("L"), format="JPEG2000")
    return found


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _interlaced() -> bytes:
    """A grey 8 x 8 PNG in seven passes, which Pillow reads and does not write."""
    rows = b"".join((b"\0" + bytes(range(width))) * height for width, height in ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _big_endian(picture: Image.Image) -> bytes:
    """A 16-bit TIFF of the other byte order, written by hand."""
    pixels = np.asarray(picture).astype(">u2").tobytes()
    tags = [
        (256, 4, picture.width), (257, 4, picture.height), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8 + 2 + 12 * 9 + 4),
        (277, 3, 1), (278, 4, picture.height), (279, 4, len(pixels)),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)) for tag, kind, value in tags
    )
    return b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0) + pixels


def bombs() -> dict[str, bytes]:
    """Small files of valid pictures with nearly as many pixels as Pillow allows, or more."""
    found: dict[str, bytes] = {}
    for side, depth, kind in ((9400, 1, 0), (9400, 16, 0), (14000, 1, 0), (30000, 1, 0)):
        packed = zlib.compressobj(1)
        row = bytes(1 + (side * depth + 7) // 8)
        data = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
        head = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
        found[f"bomb-{side}-{depth}.png"] = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return found


def _pieces(data: bytes) -> list[bytes]:
    """A file cut at the chunks of its format, or anywhere."""
    cuts: list[int] = []
    if data.startswith(b"\x89PNG"):
        at = 8
        while at + 12 <= len(data):
            cuts.append(at)
            at += 12 + struct.unpack(">I", data[at : at + 4])[0]
    elif data.startswith(b"\xff\xd8"):
        cuts = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    elif data[:4] == b"RIFF":
        at = 12
        while at + 8 <= len(data):
            cuts.append(at)
            size = struct.unpack("<I", data[at + 4 : at + 8])[0]
            at += 8 + size + size % 2
    else:
        cuts = list(range(8, len(data), max(len(data) // 12, 1)))
    edges = [0, *[cut for cut in cuts if 0 < cut < len(data)], len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def _resized(data: bytes, rng: random.Random) -> bytes:
    """The same file with another width or height in its header."""
    sizes = [0, 1, 3, 65535, 65536, 20000, 100_000, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(1, 5000)]
    wide, high = rng.choice(sizes), rng.choice([40, *sizes])
    changed = bytearray(data)

    def write(at: int, form: str, *values: int) -> None:
        size = struct.calcsize(form)
        bits = 8 * struct.calcsize(form[:2])
        changed[at : at + size] = struct.pack(form, *(value % 2**bits for value in values))

    if data.startswith(b"\x89PNG"):
        return data[:8] + _chunk(b"IHDR", struct.pack(">II", wide, high) + data[24:29]) + data[33:]
    if data.startswith(b"\xff\xd8"):
        start = next((match.start() for match in re.finditer(rb"\xff[\xc0\xc2]\0", data)), 2)
        write(start + 5, ">HH", high, wide)
    elif data.startswith(b"GIF"):
        at = rng.choice([6, max(data.find(b",\0\0\0\0") + 5, 6)])
        write(at, "<HH", wide, high)
    elif data.startswith(b"BM"):
        write(18, "<II", wide, high)
    elif data[:2] in (b"II", b"MM"):
        order = "<" if data[:2] == b"II" else ">"
        first = struct.unpack(f"{order}I", data[4:8])[0]
        for entry in range(struct.unpack(f"{order}H", data[first : first + 2])[0]):
            at = first + 2 + 12 * entry
            tag, kind = struct.unpack(f"{order}HH", data[at : at + 4])
            if tag in (256, 257) or (tag in (258, 277, 278, 279, 322, 323) and rng.random() < 0.15):
                write(at + 8, f"{order}{'H' if kind == 3 else 'I'}", wide if tag == 256 else high)
    elif data[:4] == b"RIFF":
        write(24 if data[12:16] == b"VP8X" else 26, "<HH", wide, high)
    elif data[:1] == b"P" and data[1:2].isdigit():
        return re.sub(rb"^(P\d\s+)\d+\s+\d+", lambda match: match[1] + f"{wide} {high}".encode(), data)
    else:
        at = max(data.find(b"ihdr"), data.find(b"ispe") + 4)
        if at >= 4:
            write(at + 4, ">II", high, wide)
    return bytes(changed)


def mutilated_picture(seeds: dict[str, bytes], rng: random.Random) -> tuple[str, bytes, str]:
    """A broken picture: the end of its name, its bytes, and what was done."""
    name = rng.choice(sorted(seeds))
    data, ending = seeds[name], Path(name).suffix
    done = [name]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        way = rng.choice(
            ["truncate", "truncate", "zero", "flip", "flip", "noise", "splice", "chunks", "chunks", "size", "size", "ending", "alien", "append"]
        )
        done.append(way)
        where = rng.randrange(max(len(data), 1)) if rng.random() < 0.6 else rng.randrange(min(max(len(data), 1), 64))
        if way == "truncate":
            data = data[:where]
        elif way == "zero":
            length = rng.choice([1, 4, 16, 200])
            data = data[:where] + bytes(min(length, max(len(data) - where, 0))) + data[where + length :]
        elif way == "flip" and data:
            changed = bytearray(data)
            for _ in range(rng.choice([1, 1, 3, 20])):
                place = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(len(changed), 100))
                changed[place] ^= 1 << rng.randrange(8)
            data = bytes(changed)
        elif way == "noise":
            data = data[:where] + rng.randbytes(rng.choice([1, 8, 100])) + data[where + 8 :]
        elif way == "splice":
            other = seeds[rng.choice(sorted(seeds))]
            data = data[:where] + other[rng.randrange(len(other)) :]
        elif way == "chunks":
            pieces = _pieces(data)
            at, to = rng.randrange(len(pieces)), rng.randrange(len(pieces))
            how = rng.choice(["delete", "double", "insert", "swap", "many"])
            if how == "delete":
                del pieces[at]
            elif how == "double":
                pieces.insert(to, pieces[at])
            elif how == "insert":
                kind = rng.choice([b"tEXt", b"zTXt", b"iCCP", b"tRNS", b"PLTE", b"eXIf", b"acTL", b"fdAT", b"IDAT", b"abcd"])
                pieces.insert(to, _chunk(kind, rng.choice([b"", bytes(100), rng.randbytes(50), b"key\0\0" + zlib.compress(bytes(5_000_000))])))
            elif how == "many":
                pieces[at] *= rng.choice([3, 100])
            else:
                pieces[at], pieces[to] = pieces[to], pieces[at]
            data = b"".join(pieces)
        elif way == "size" and len(data) > 40:
            try:
                data = _resized(data, rng)
            except struct.error:
                data = data[:where]
        elif way == "ending":
            ending = rng.choice([".jpg", ".png", ".gif", ".webp", ".tif", ".bmp", ".ppm", ".avif", ".jp2", ".JPEG", ".PNG"])
        elif way == "alien":
            aliens = [
                b"", b"\0", b"hello, this is text\n", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07nothing\x94.", b"PK\x03\x04" + bytes(40), bytes(5000),
                b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"SIMPLE  =   T" + bytes(3000),
                b"<!DOCTYPE html><html>404</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"P6 -1 -1 255\n", b"P5 4 4 99999\n" + bytes(64),
                b"P3 99999 99999 255\n1 2", b"Pf\n2 2\n-1.0\n" + bytes(16), b"\x93NUMPY" + bytes(100), b"II*\0\x08\0\0\0\0\0", b"II*\0\x08\0\0\0\xff\xff" + bytes(60),
                b"qoif" + struct.pack(">II", 9999, 9999) + b"\x04\0" + bytes(9), b"8BPS\0\1" + bytes(30), b"\0\0\1\0\1\0" + bytes(30), b"version https://git-lfs.github.com/spec/v1\n",
            ]  # fmt: skip
            data = rng.choice(aliens)
        else:
            data += rng.randbytes(rng.choice([1, 1000]))
    return ending, data, " + ".join(done)


def fuzz_pictures(server: Server, count: int, seed: int, folder: Path, keep: Path, *, large: bool = True) -> list[Report]:
    """Reads so many broken pictures one by one, and collects them all once."""
    rng = random.Random(f"pictures {seed}")
    seeds = seed_pictures()
    folder.mkdir(parents=True)
    made: dict[str, str] = {}
    for index in range(count):
        ending, data, done = mutilated_picture(seeds, rng)
        name = f"{index:05d}{ending}"
        (folder / name).write_bytes(data)
        made[name] = done
    extra = {**seeds, **(bombs() if large else {})}
    for name, data in extra.items():
        (folder / f"whole {name}").write_bytes(data)
        made[f"whole {name}"] = f"{name}, as it is"
    single, all_at_once = Report("pictures, one by one"), Report("pictures, one folder")
    verdicts = dict(zip(made, server.ask("read", paths=[str(folder / name) for name in made]), strict=True))
    for name, (verdict, told) in verdicts.items():
        where = folder / name
        if verdict not in ("accepted", "refused"):
            keep.mkdir(parents=True, exist_ok=True)
            where = Path(shutil.copy(folder / name, keep / name))
        single.note(verdict, f'{made[name]}: {told}. `python -c "from farfield.data.pictures import read_picture as r; r({str(where)!r})"`')
    whole = [name for name in made if name.startswith("whole ") and name != "whole F.tif" and "bomb" not in name and verdicts[name][0] == "refused"]
    single.violations += [f"pictures, a valid one refused: {name}: {verdicts[name][1]}" for name in whole]
    for name in [name for name, (verdict, _) in verdicts.items() if verdict in ("timeouts", "tracebacks")]:
        (folder / name).unlink()
        del made[name]
    answer = server.ask("collect", folder=str(folder), out=str(folder.parent / "store of pictures"))
    if "died" in answer:
        all_at_once.note("other", f"`collect` over the folder ended with status {answer['died']}")
        return [single, all_at_once]
    failed = {os.path.relpath(name, folder): reason for _, name, reason in answer["failures"]}
    for name in made:
        outputs, failures = answer["read"].count(name), list(failed).count(name)
        agreed = (outputs, failures) == ((1, 0) if verdicts[name][0] == "accepted" else (0, 1))
        fine = agreed and (outputs or (failed[name].strip() and len(failed[name].splitlines()) == 1))
        all_at_once.note(
            ("accepted" if outputs else "refused") if fine else "other",
            f"{name} ({made[name]}): alone {verdicts[name][0]}, in the folder {outputs} outputs and {failures} failures ({failed.get(name)!r})",
        )
    if len(answer["read"]) + len(answer["failures"]) != len(made):
        all_at_once.note("other", f"{len(made)} files, {len(answer['read'])} outputs, {len(answer['failures'])} failures")
    return [single, all_at_once]


# --- command lines ------------------------------------------------------------------------------------------------------------------------

MINE = """
import torch
from torch import nn
from farfield.data.transforms import Preprocess


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), Preprocess(resize=24, crop=24)


def broken():
    raise RuntimeError("a fault\\nof two lines")


def bare():
    return nn.Linear(3, 2)


def number():
    return 7


def leaves():
    raise SystemExit(3)


def constant():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 1)), Preprocess(resize=24, crop=24)


def data():
    return [(torch.zeros(3, 24, 24), 0), (None, None), "nonsense", 5]


def pictures():
    from PIL import Image
    return [(Image.new("RGB", (30, 30), (i, 2 * i, 3 * i)), i % 3) for i in range(9)]


def empty():
    return []


text = "no function"
"""
TOML = """# what a person might write
model = ["python:mine:net"]
detector = ["energy", "knn:k=2", "react:q=90+energy"]
id-train = "train"
id-test = "test"
name = "colours"
limit = 9
batch-size = 4
strict = false
preprocess = "resize=24,crop=24"
class-map = "classes.txt"
out = "out"

[near]
noise = "far"

[far]
"listed ones" = "list.txt"
"""
LINES = [
    "bench --model python:mine:net --id-train train --id-test test --far noise=far --detector energy --detector knn:k=2 --out out --limit 9",
    "bench --model python:mine:net --id-train train.csv --id-test test --near a=list.txt --shifted b=openood.txt --class-map classes.json --detector msp --out out --json",
    "bench --id-train train.npz --id-test test.npz --far far=far.npz --near near=far.safetensors --name mine --detector mahalanobis --detector react:q=90+energy --out out",
    "bench --id-train stored-train --id-test stored-test --far far=stored-far --detector knn:k=2 --detector maxlogit --out out --workers 0 --batch-size 4",
    "bench --model python:mine:net --id-train stored-train --id-test test --far far=arrays --far b=far --detector energy --preprocess resize=24,crop=24 --strict --out out",
    "bench --config bench.toml --out out",
    "fit --model python:mine:net --id-train train --detector mahalanobis --out made/det.safetensors --store out/store --limit 12 --device cpu",
    "fit --id-train train.npz --detector react:q=90+energy --out det3.safetensors",
    "fit --id-train stored-train --detector knn:k=2 --out det3.safetensors --limit 8",
    "score det.safetensors far list.txt --model python:mine:net --format jsonl --store out/store",
    "score det.safetensors far/0.png test --model python:mine:net --class-map classes.txt --root . --out rows.csv --store out/store --batch-size 2",
    "score det2.safetensors far.npz far.safetensors arrays --format csv",
    "score det.safetensors stored-far stored-test",
    "score det.safetensors far --model classifier.safetensors --store out/store",
    "metrics id.csv far=ood.jsonl",
    "metrics id.npy ood.npz a=ood.safetensors --ood-is-high --json",
    "compare a b",
    "compare a/results.json b --json",
    "store ls --store a/store --json",
    "store ls --store a/store",
    "store rm --store a/store --all --yes",
    "store rm --store a/store --incomplete",
    "store verify --store a/store",
    "bench --model timm:test_resnet.r160_in1k --random-weights --id-test far --far noise=far --limit 2 --detector msp --preprocess resize=32,crop=32 --out out",
    "fit --model torchvision:squeezenet1_1 --random-weights --id-train train --detector energy --out d --limit 4 --store out/store",
    "score det.safetensors far --model hf:nobody/nothing --store out/store",
    "bench --model timm:test_vit --weights weights.safetensors --id-train train --id-test test --far noise=far --detector msp --limit 6 --out out",
]


def make_world(server: Server, folder: Path) -> None:
    """Small valid data for every command in `LINES`, and what other commands make of them."""
    from safetensors.numpy import save_file

    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    colours = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}

    def paint(path: Path, colour: tuple[int, ...]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(draw.normal(colour, 50, (24, 28, 3)), 0, 255).astype(np.uint8)).save(path)

    for split, count in (("train", 5), ("test", 3)):
        for name, colour in colours.items():
            for index in range(count):
                paint(folder / split / name / f"{index} x.jpg", colour)
    for index in range(5):
        paint(folder / "far" / f"{index}.png", (128, 128, 128))
    (folder / "far" / "broken.jpg").write_bytes(b"no picture")
    (folder / "mine.py").write_text(MINE)
    (folder / "bench.toml").write_text(TOML)
    (folder / "list.txt").write_text("far/0.png 0\nfar/1.png 2\nfar/2.png\n")
    (folder / "openood.txt").write_text('far/0.png {"group_label": 0, "class_label": 1}\nfar/3.png {"group_label": 0, "class_label": 2}\n')
    rows = [f"train/{name}/{index} x.jpg,{name}" for name in colours for index in range(5)]
    (folder / "train.csv").write_text("path,class\n" + "\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("red\ngreen\nblue\n")
    (folder / "classes.json").write_text('{"red": 2, "green": 1, "blue": 0}')
    weight, bias = draw.normal(size=(3, 6)).astype(np.float32), draw.normal(size=3).astype(np.float32)
    for name, count, shift in (("train", 40, 0.0), ("test", 20, 0.0), ("far", 15, 2.0)):
        labels = draw.integers(0, 3, count)
        seen = (draw.normal(size=(count, 6)) + 2 * weight[labels] + shift).astype(np.float32)
        arrays = {"features": seen, "logits": seen @ weight.T + bias, "labels": labels, "head.weight": weight, "head.bias": bias}
        np.savez(folder / f"{name}.npz", **arrays)
        if name == "far":
            save_file(arrays, folder / "far.safetensors")
            (folder / "arrays").mkdir()
            for key in ("features", "logits", "labels"):
                np.save(folder / "arrays" / f"{key}.npy", arrays[key])
    save_file({"wrong.weight": weight}, folder / "weights.safetensors")
    found = importlib.util.find_spec("farfield")
    assert found is not None and found.origin is not None
    shutil.copy(Path(found.origin).parent / "models" / "glyphs-200-resnet.safetensors", folder / "classifier.safetensors")
    inside, outside = draw.normal(1, 1, 40), draw.normal(-1, 1, 30)
    (folder / "id.csv").write_text(
        "path,class,score,error\n" + "".join(f"{i}.png,0,{value!r},\n" for i, value in enumerate(inside.tolist())) + "x.png,,,broken\n"
    )
    (folder / "ood.jsonl").write_text("".join(json.dumps({"path": f"{i}.png", "score": value}) + "\n" for i, value in enumerate(outside.tolist())))
    np.save(folder / "id.npy", inside)
    np.savez(folder / "ood.npz", scores=outside)
    save_file({"scores": outside}, folder / "ood.safetensors")
    made = "--model python:mine:net --id-train train --id-test test --far noise=far --detector energy --detector"
    for line in (
        f"bench {made} knn:k=2 --out a",
        f"bench {made} msp --out b",
        "fit --model python:mine:net --id-train train --detector mahalanobis --out det.safetensors --store a/store",
        "fit --id-train train.npz --detector react:q=90+energy --out det2.safetensors",
    ):
        answer = server.ask("line", argv=line.split(), cwd=str(folder), log=str(folder.parent / "making"))
        if answer["status"]:
            raise RuntimeError(f"`{line}` fails: {answer['err']}")
    for store in (folder / "a" / "store").iterdir():
        name = json.loads((store / "facts.json").read_text())["about"]["data"]
        shutil.copytree(store, folder / f"stored-{ {'noise': 'far'}.get(name, name) }")


ODD = [
    "", " ", "-", "--", "-1", "--x", "a b", "a\nb", "\t", "\x1b[31m", "ü", "日本", "\udcff", "%s", "{}", "[bold]x[/bold]", "[/nope]", "'", '"', "*", ".",
    "x" * 300, "x" * 5000, "a/" * 2000, "=", "a=", "=a", "a=b=c", ":", "hf:", "python:", "nan", "inf", "-inf", "None", "null", "\u202e", "\r",
]  # fmt: skip
VALUES: dict[str, list[str]] = {
    "--detector": [
        "enrgy", "knn:k=0", "knn:k=-1", "knn:k=nan", "knn:k=1e9", "knn:k=99999999999999999999", "knn:k", "knn:", "knn:k=2,k=3", "knn:j=2", "react:q=200+energy",
        "react:q=nan+energy", "react+react+energy", "react", "energy+react", "+", "energy+", "+energy", "energy:t=0", "energy:temperature=-1", "energy:temperature=inf",
        "mahalanobis:x", "python:mine:net", "python:mine", "msp,energy", "KNN", "react:q=90+knn:k=2", "ash+energy", "mahalanobis:shrink=2", "react:q=0+msp", "react:q=100+maxlogit",
    ],
    "--model": [
        "timm:", "timm:resnet18x", "timm:resnet18.nope", "timm:resnet18.a1_in1k", "timm:vit_base_patch16_dinov3", "torchvision:", "torchvision:resnet18x",
        "torchvision:squeezenet1_1:NOPE", "torchvision:squeezenet1_1:DEFAULT", "torchvision:", "hf:nobody/nothing", "hf:far", "hf:../..", "hf:a/b/c", "hf:mine.py", "python:mine",
        "python:mine:nett", "python:mine:broken", "python:mine:bare", "python:mine:number", "python:mine:constant", "python:mine:text", "python::net", "python:mine:",
        "python:os:getcwd", "python:no.such:thing", "python:..:x", "python:.mine:net", "python:mine:leaves", "python:json:loads", "x.pth", "mine.py", "far", "det.safetensors",
        "weights.safetensors", "far.safetensors", "glyphs-200-resnet", "glyphs-200-rsnet", "timm:test_vit", "tim:resnet18", "python:mine:net", "python:mine:data",
    ],
    "--preprocess": [
        "resize=0", "resize=-1", "crop=0", "resize=24,crop=99999", "crop=x", "resize", "mean=0/0", "mean=nan", "std=0", "std=inf", "interpolation=cubic", "resize=2,crop=24",
        ",", "resize=24,,crop=24", "rezise=3", "resize=1e9", "std=-1", "mean=1/2/3/4", "resize=24,crop=1", "resize=0,crop=24", "mean=1e300",
    ],
    "--class-map": ["train", "det.safetensors", "id.csv"],
    "--limit": ["0", "-1", "1", "2", "nan", "inf", "1.5", "9" * 30, "1_0", "٣"],
    "--batch-size": ["0", "-5", "1", "nan", "9" * 12, "9" * 25, "2.0"],
    "--workers": ["-1", "1", "x", "1.5", ""],
    "--device": ["cuda", "cuda:99", "cpu:7", "gpu", "meta", "mps", "xla", "tpu", "cpu:-1", "cuda:x", "hpu", "privateuseone", "vulkan", "ipu"],
    "--out": ["mine.py", "mine.py/x", "far", ".", "train/red", "new/deep/er"],
    "--store": ["mine.py", "nowhere", "far", "a", "a/store/x"],
    "--format": ["xml", "CSV", "jsonl"],
    "--far": ["far", "far=", "=far", "test=far", "near=far", "train=far", "a/b=far", "a\nb=far", "noise=nowhere", "n=train.npz", "n=hf:x", "n=python:mine:data", "n=python:mine:empty",
              "n=python:mine:pictures", "n=mine.py", "n=stored-far", "n=ood.npz", "n=id.csv", "n=id.npy", "n=a", "n=a/store", "\udcff=far", f"{'n' * 400}=far"],
    "--id-test": ["hf:nobody/nothing", "hf:far", "python:mine:data", "python:mine:pictures", "python:mine:broken", "python:mine:number", "python:mine:empty", "test/red", "far", "list.txt", "openood.txt",
                  "a", "b", "id.npy", "train.npz", "stored-train", "arrays", "det.safetensors", "a/store", "classes.txt"],
    "--name": ["a/b", "../../x", "", "x" * 500, "a\nb", "[red]", "\udcff", "glyphs"],
    "--root": ["nowhere", "mine.py", "far", ""],
    "--weights": ["nowhere", "far", "mine.py", "det.safetensors", "a.pth", "far.safetensors"],
    "--config": ["nowhere", "far", "mine.py", "det.safetensors", "classes.json"],
}  # fmt: skip
VALUES |= {"--near": VALUES["--far"], "--shifted": VALUES["--far"], "--id-train": VALUES["--id-test"]}


def _places(argv: list[str], world: Path) -> list[tuple[int, str]]:
    """Which arguments are paths inside the world, or NAME=PATH."""
    found = []
    for index, argument in enumerate(argv):
        place = argument.partition("=")[2] or argument
        if index and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}", place) and ".." not in place and argv[index - 1] not in ("--out", "--root"):
            try:
                inside = world.resolve() in (world / place).resolve(strict=True).parents
            except (OSError, RuntimeError):  # none, or a loop of links
                continue
            found += [(index, place)] if inside else []
    return found


def _another_value(rng: random.Random, value: Any) -> Any:
    """A value of another kind, or of the same kind elsewhere."""
    if isinstance(value, str) and value and rng.random() < 0.4:
        return value[:-1] + rng.choice("x0\n")
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return rng.choice([-1, 0, value + 1, 10**9, 10**30, 0.5, float("nan")])
    return rng.choice([None, True, 0, -1, 1.5, "", "text", [], {}, [1, "a"], {"a": 1}, [[]], float("nan"), 10**30])


def mutilated_json(value: Any, rng: random.Random) -> Any:
    """The same tree with one thing in it changed, dropped or doubled."""
    spots: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if not isinstance(value, dict | list) or not value or rng.random() < 0.05:
        return _another_value(rng, value)
    value = json.loads(json.dumps(value))
    walk(value)
    shallow = [spot for spot in spots if spot[0] is value]
    node, key = rng.choice(shallow if rng.random() < 0.4 else spots)
    way = rng.random()
    if way < 0.3:
        del node[key]
    elif way < 0.4 and isinstance(node, dict):
        node[f"{key}x"] = node.pop(key)
    elif way < 0.5 and isinstance(node, list):
        node.append(node[key])
    else:
        node[key] = _another_value(rng, node[key])
    return value


def _mutilated_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A file whose header, or a text inside it, is another."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    about = header.get("__metadata__", {})
    nested = {key: value for key, value in about.items() if value[:1] in ("{", "[")}
    if nested and rng.random() < 0.6:
        key = rng.choice(sorted(nested))
        about[key] = json.dumps(mutilated_json(json.loads(nested[key]), rng))
    elif rng.random() < 0.5 and len(header) > 1:
        name = rng.choice([key for key in header if key != "__metadata__"])
        way = rng.random()
        if way < 0.4 and header[name]["shape"]:
            header[name]["shape"] = rng.choice(
                [[1, *header[name]["shape"]], list(reversed(header[name]["shape"])), [int(np.prod(header[name]["shape"]))]]
            )
        elif way < 0.7:
            header[name]["dtype"] = {"F32": "I32", "I64": "F64", "F64": "I64"}.get(header[name]["dtype"], "U8")
        else:
            header[rng.choice(["logits", "labels", "ids", f"{name}x", "head.bias", ""])] = header.pop(name)
    else:
        header = mutilated_json(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _odd_array(rng: random.Random) -> np.ndarray:
    """An array that is not what was asked for."""
    arrays: list[Any] = [
        np.array(3.0), np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 3, 4)), np.full(9, np.nan), np.full((9, 3), np.nan), np.full(9, np.inf), np.array(["a", "b"]),
        np.array([1 + 2j, 3]), np.array([True, False]), np.zeros(4, dtype=[("a", "f4")]), np.array(["2020-01-01"], dtype="M8[D]"), np.zeros(9, np.uint64), np.zeros(9, np.float16),
        np.zeros((15, 3), ">f4"), np.zeros((15, 3), np.int32), np.full((15, 3), 1e308), np.zeros((15, 3)), np.zeros(15), np.zeros((15, 6)), np.array([None, 1], dtype=object),
        np.zeros((15, 3), np.longdouble), np.zeros((15, 3), np.uint8), np.full(15, -7), np.full(15, 99), np.zeros((15, 1)), np.asfortranarray(np.random.rand(15, 3))[::-1],
    ]  # fmt: skip
    made: np.ndarray = rng.choice(arrays)
    return made


def damaged(path: Path, rng: random.Random) -> str:
    """Breaks a file or a folder in place; what was done."""
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        way = rng.choice(
            [
                "one file",
                "one file",
                "one file",
                "one file",
                "drop a file",
                "empty",
                "a file instead",
                "stranger",
                "broken TIFF",
                "odd names",
                "one class",
                "loop",
            ]
        )
        if way == "one file" and inside:
            best = [p for p in inside if p.suffix in (".json", ".npy", ".safetensors")]
            file = rng.choice(best or inside)
            return f"{file.relative_to(path)}: {damaged(file, rng)}"
        if way == "drop a file" and inside:
            rng.choice(inside).unlink()
        elif way == "empty":
            shutil.rmtree(path)
            path.mkdir()
        elif way == "a file instead":
            shutil.rmtree(path)
            path.write_bytes(b"")
        elif way == "stranger":
            for name in rng.choice(
                [["x.png"], ["logits.npy"], ["facts.json"], ["results.json"], ["x.png/y.png"], ["labels.npy"], ["new/1.png"], ["model.safetensors"]]
            ):
                (path / name).parent.mkdir(exist_ok=True)
                (path / name).write_bytes(rng.choice([b"", b"{}", b"[]", b"nonsense", rng.randbytes(50)]))
        elif way == "broken TIFF":  # which libtiff complains of on stderr, by itself
            Image.new("RGB", (30, 40)).save(path / "x.tif", compression="tiff_adobe_deflate")
            whole = (path / "x.tif").read_bytes()
            (path / "x.tif").write_bytes(whole[:12] + bytes(10) + whole[22:])
        elif way == "odd names" and inside:
            inside[0].rename(inside[0].with_name(rng.choice(["a\nb", "\udcff", "[red]", "日本", " ", "x" * 200, "-rf"]) + inside[0].suffix))
        elif way == "one class":
            for folder in sorted(p for p in path.iterdir() if p.is_dir())[1:]:
                shutil.rmtree(folder)
        elif way == "loop" and not (path / "again").is_symlink():
            (path / "again").symlink_to(path, target_is_directory=True)
        return way
    data = path.read_bytes()
    general = ["empty", "noise", "cut", "flip", "folder", "text", "gone", "loop", "other"]
    special = {".json": 8, ".safetensors": 8, ".npy": 6, ".npz": 6, ".csv": 8, ".txt": 8, ".jsonl": 8, ".toml": 8}.get(path.suffix, 0)
    way = rng.choice(["special"] * special + general)
    if way == "special" and path.suffix == ".json":
        path.write_text(json.dumps(mutilated_json(json.loads(data), rng)))
    elif way == "special" and path.suffix == ".safetensors":
        path.write_bytes(_mutilated_safetensors(data, rng))
    elif way == "special" and path.suffix == ".npy":
        if rng.random() < 0.3:
            path.write_bytes(re.sub(rb"\((\d+),", rng.choice([b"(9\\1,", b"(-\\1,", b"(9999999999\\1,", b"('a',"]), data, count=1))
        else:
            np.save(path, _odd_array(rng), allow_pickle=True)
    elif way == "special" and path.suffix == ".npz":
        with np.load(path) as file:
            arrays = dict(file)
        name = rng.choice(list(arrays))
        how = rng.random()
        if how < 0.6:
            arrays[name] = _odd_array(rng)
        elif how < 0.8:
            arrays[rng.choice([f"{name}x", "ids", "labels", "logits"])] = arrays.pop(name)
        else:
            arrays[name] = arrays[name][:-1]
        np.savez(path, **arrays)
    elif way in ("special", "flip") and path.suffix in (".csv", ".txt", ".jsonl", ".toml"):
        path.write_bytes(mutilated_text(data, rng))
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "noise":
        path.write_bytes(rng.randbytes(rng.choice([1, 8, 500])))
    elif way == "cut":
        path.write_bytes(data[: rng.randrange(len(data) + 1)])
    elif way in ("flip", "special") and data:
        changed = bytearray(data)
        for _ in range(rng.choice([1, 3, 10])):
            changed[rng.randrange(min(len(data), 1000))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(changed))
    elif way == "folder":
        path.unlink()
        path.mkdir()
    elif way == "gone":
        path.unlink()
    elif way == "loop":
        path.unlink()
        path.symlink_to(path.name)
    elif way == "other":
        other = rng.choice(["id.csv", "far.npz", "det.safetensors", "classes.json", "far/0.png", "mine.py", "id.npy"])
        top = next(parent for parent in path.parents if (parent / "mine.py").exists())
        if (top / other).is_file():
            path.write_bytes((top / other).read_bytes())
    else:
        path.write_bytes(
            rng.choice(
                [
                    b"hello\n",
                    b"{}",
                    b"[]",
                    b"null",
                    b"\xef\xbb\xbf",
                    b"\xff\xfe\0\0",
                    b"score\nnan\n",
                    b"score\n1\n2\nx\n",
                    b"path\n",
                    b"[" * 3000,
                    b'"' * 99,
                ]
            )
        )
    return way


def mutilated_text(data: bytes, rng: random.Random) -> bytes:
    """A text with lines or bytes changed."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        way = rng.choice(["drop", "double", "swap", "flip", "flip", "cut", "insert", "insert", "value", "value", "value", "misspell", "misspell"])
        if way == "drop":
            del lines[at]
        elif way == "double":
            lines.insert(at, lines[at])
        elif way == "swap":
            to = rng.randrange(len(lines))
            lines[at], lines[to] = lines[to], lines[at]
        elif way == "cut":
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
        elif way == "flip" and data.strip():
            line = bytearray(b"\n".join(lines))
            line[rng.randrange(len(line))] ^= 1 << rng.randrange(8)
            lines = [bytes(line)]
        elif way == "insert":
            odd = [
                b"\xff\xfe", b"\0", b"nan", b"inf", b"[a.b.c]", b"[[far]]", b"x = 1", b"model = 7", b"far = 3", b'near = { a = { b = "c" } }', b"limit = 0", b"limit = 1e3", b"limit = true",
                b"limit = 99999999999999999999999", b"strict = 1", b'strict = "yes"', b"date = 1979-05-27", b"out = []", b'suite = "glyphs-200"', b'id_train = "train"', b"[id-test]",
                b'"" = ""', b"'\xc3\xbc' = 1", b"a.png {'class_label': 'x'}", b"../../etc/passwd.png 0", b"/etc/x.png 1", b"far/0.png 999999999999", b"far/0.png -7", b"far/0.png 7",
                b"far/0.png {__import__('os')}", b"a b c d", b"red", b"red,0", b"red,-1", b"red,99999999999999999999", b",", b'"', b"score", b"1,2,3,4,5,6", b'{"score": "x"}', b'{"score": true}',
                b'{"score": null}', b'{"score": NaN}', b'{"score": [1]}', b'{"score": 1e999}', b"[]", b"{" * 50, b"\xe2\x80\xa8", b"\x1b[2J", b"a" * 200_000, b"far/\xc2\x85.png",
            ]  # fmt: skip
            lines.insert(at, rng.choice(odd))
        elif way == "value":
            odd = [
                b"nan",
                b"inf",
                b"-1",
                b"0",
                b"true",
                b'""',
                b"[]",
                b"{}",
                b'["a", 1]',
                b"1.5",
                b"x",
                b"'",
                b'"""',
                b"1979-05-27",
                b'"\\ud800"',
                b'"\\n"',
                b'"nowhere"',
                b'{ a = "far" }',
                b'[["a"]]',
            ]
            head, equals, _ = lines[at].partition(rng.choice([b"=", b",", b" "]))
            lines[at] = head + equals + b" " + rng.choice(odd)
        elif lines[at]:
            place = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + rng.choice([b"", b"x", b"-", b" "]) + lines[at][place + 1 :]
        data = b"\n".join(lines)
    return data


def mutilated_line(argv: list[str], world: Path, rng: random.Random) -> tuple[list[str], str]:
    """A broken command line over a world that may be broken too; and what was done."""
    argv, done = list(argv), []
    for _ in range(rng.choice([1, 1, 1, 2])):
        way = rng.choice(["damage"] * 6 + ["value"] * 5 + ["drop", "double", "swap", "misspell", "odd", "odd", "other path", "move", "extra"])
        at = rng.randrange(1, len(argv)) if len(argv) > 1 else 0
        places, valued = _places(argv, world), [i for i in range(1, len(argv)) if argv[i - 1] in VALUES]
        if way == "damage" and places:
            place = rng.choice(places)[1]
            done.append(f"{place}: {damaged(world / place, rng)}")
            continue
        done.append(way)
        if way == "value" and valued:
            at = rng.choice(valued)
            argv[at] = rng.choice(VALUES[argv[at - 1]])
        elif way == "extra":
            option = rng.choice(sorted(VALUES))
            argv += [option, rng.choice(VALUES[option])]
        elif way == "drop":
            del argv[at]
        elif way == "double":
            argv.insert(at, argv[at])
        elif way == "swap":
            to = rng.randrange(len(argv))
            argv[at], argv[to] = argv[to], argv[at]
        elif way == "misspell" and argv[at]:
            place = rng.randrange(len(argv[at]))
            argv[at] = argv[at][:place] + rng.choice(["", "x", argv[at][place] * 2]) + argv[at][place + 1 :]
        elif way == "other path" and places:
            argv[rng.choice(places)[0]] = rng.choice(sorted(path.name for path in world.iterdir()))
        elif way == "move":
            argv.insert(rng.randrange(len(argv)), argv.pop(at))
        else:
            argv[at] = rng.choice(ODD)
    for before, argument in enumerate(argv[1:]):
        if argv[before] == "--workers" and argument.isdigit() and int(argument) > 4:  # no thousands of processes
            argv[before + 1] = "0"
        if argument.startswith(("/", "~", "..")) or "=/" in argument:  # nothing outside the world
            argv[before + 1] = "nowhere"
    return argv, "; ".join(done)


def judged(answer: dict[str, Any]) -> tuple[str, str]:
    """Whether a command kept the promise: the column it counts in, and why."""
    err, status = answer["err"], answer["status"]
    last = (err.strip().splitlines() or [""])[-1][:300]
    if answer["silent"]:
        return "timeouts", f"longer than {LINE_SECONDS:.0f} s"
    if "fault in Farfield" in err:
        return "faults", last
    if "Traceback" in err or "Traceback" in answer["out"]:
        return "tracebacks", last
    if status == 0:
        return "accepted", ""
    if status != 2:
        return "other", f"status {status}: {last}"
    lines = [line for line in err.split("\n") if line.strip()]
    while lines and lines[0].startswith("warning: "):
        del lines[0]
    if not lines and "Usage: farfield" in answer["out"]:  # no arguments: the help
        return "refused", ""
    if len(lines) != 1 or not lines[0].startswith("farfield: "):
        return "other", f"not one sentence: {lines[:3]!r:.300}"
    return "refused", lines[0]


def fuzz_lines(server: Server, count: int, seed: int, folder: Path, keep: Path, *, slow: bool = True, show: bool = False) -> list[Report]:
    """Runs so many broken command lines and TOML files, a quarter, each in a fresh copy of a small world; without `slow` none that needs the hub."""
    world = folder / "world"
    make_world(server, world)
    reports = [Report("command lines"), Report("TOML files")]
    for toml, report in enumerate(reports):
        rng = random.Random(f"lines {seed} {toml}")
        wanted = count // 4 if toml else count - count // 4
        index = 0
        while report.counts["tried"] < wanted and index < 3 * count:
            place, log = folder / f"{toml}-{index:05d}", folder / f"{toml}-{index:05d} said"
            index += 1
            shutil.copytree(world, place, symlinks=True)
            if toml:
                argv, done = ["bench", "--config", "bench.toml"], "bench.toml"
                (place / "bench.toml").write_bytes(mutilated_text(TOML.encode(), rng))
            else:
                argv, done = mutilated_line(LINES[(index - 1) % len(LINES)].split(), place, rng)
            outside = toml and any(way in (place / "bench.toml").read_bytes() for way in (b'"/', b'"~', b'"..', b"'/"))
            if outside or (not slow and any("hf:" in argument for argument in argv)):
                shutil.rmtree(place)
                continue
            again = place.with_name(f"{place.name} before")
            shutil.copytree(place, again, symlinks=True)
            answer = server.ask("line", argv=argv, cwd=str(place), log=str(log))
            if answer["status"] != GLYPHS:
                verdict, told = judged(answer)
                if verdict not in ("accepted", "refused"):
                    keep.mkdir(parents=True, exist_ok=True)
                    again = Path(shutil.copytree(again, keep / place.name, symlinks=True, dirs_exist_ok=True))
                report.note(verdict, f"{told} ({done}) `cd {again} && farfield {shlex.join(argv)[:400]}`")
                if show:
                    print(
                        f"{answer['seconds']:.1f} s {verdict}: {shlex.join(argv)[:200]} ({done}): {told}".encode(
                            "utf-8", "backslashreplace"
                        ).decode(),
                        flush=True,
                    )
            for left in (place, place.with_name(f"{place.name} before")):
                shutil.rmtree(left)
    return reports


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--lines", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()) / "farfield-fuzz", help="where inputs that break the promise are kept"
    )
    arguments.add_argument("--show", action="store_true", help="print every command line and what came of it")
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve()
        return 0
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "cache") as server:
        if given.images:
            reports += fuzz_pictures(server, given.images, given.seed, Path(folder) / "pictures", given.keep / "pictures")
        if given.lines:
            reports += fuzz_lines(server, given.lines, given.seed, Path(folder) / "lines", given.keep / "lines", show=given.show)
    print("| input | tried | accepted | refused with one sentence | tracebacks | faults | timeouts | other |\n| --- |" + " ---: |" * len(COLUMNS))
    for report in reports:
        print(report.row())
    violations = [violation for report in reports for violation in report.violations]
    for violation in violations:
        print(f"\n- {violation}".encode("utf-8", "backslashreplace").decode())
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

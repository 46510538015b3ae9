"""Pictures in every format that can be written here, mutilated and read."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from asking import Tally
from damage import flipped
from PIL import Image

MODES = {".jpg": "RGB L CMYK", ".png": "RGB RGBA L LA P 1", ".tif": "RGB RGBA L LA P 1 CMYK", ".bmp": "RGB L P 1", ".ppm": "RGB", ".pgm": "L"}
MODES |= {".pbm": "1", ".gif": "P", ".webp": "RGB RGBA", ".avif": "RGB RGBA", ".jp2": "RGB L"}
ENDINGS = [".jpg", ".png", ".gif", ".webp", ".tif", ".bmp", ".ppm", ".avif", ".jp2", ".JPEG", ".PNG"]
SIZES = [0, 1, 3, 40, 65535, 65536, 20000, 100_000, 2**31 - 1, 2**31, 2**32 - 1]
CHUNKS = re.compile(rb"\xff[\xc0-\xef]|....(?:IHDR|PLTE|IDAT|IEND|tRNS|eXIf|ftyp|meta|mdat|jp2[hc])|VP8[ LX]|ALPH|ANIM|ANMF|EXIF", re.DOTALL)
SIZE_PLACES = [  # after what, how many bytes on, and how width and height are written
    (rb"^GIF8[79]a", 0, "<H"), (rb"^GIF8.*?,\0\0\0\0", 0, "<H"), (rb"^BM.{16}", 0, "<I"), (rb"^RIFF.{8}VP8X", 8, "<H"), (rb"^RIFF.{8}VP8[ L]", 10, "<H"),
    (rb"^\xff\xd8.*?\xff[\xc0\xc2]\0", 2, ">H"), (rb"ihdr", 0, ">I"), (rb"ispe", 4, ">I"),
]  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"
LONG_TEXT = b"key\0\0" + zlib.compress(bytes(5_000_000))
ALIENS = [
    b"", b"\0", b"hello, this is text\n", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07nothing\x94.", b"PK\x03\x04" + bytes(40), bytes(5000),
    b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"SIMPLE  =   T" + bytes(3000),
    b"<!DOCTYPE html><html>404</html>", b"\xff\xd8\xff", PNG, b"GIF89a", b"P6 -1 -1 255\n", b"P5 4 4 99999\n" + bytes(64), b"P3 99999 99999 255\n1 2",
    b"Pf\n2 2\n-1.0\n" + bytes(16), b"\x93NUMPY" + bytes(100), b"II*\0\x08\0\0\0\0\0", b"II*\0\x08\0\0\0\xff\xff" + bytes(60), b"8BPS\0\1" + bytes(30),
    b"qoif" + struct.pack(">II", 9999, 9999) + b"\x04\0" + bytes(9), b"\0\0\1\0\1\0" + bytes(30), b"version https://git-lfs.github.com/spec/v1\n",
]  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _grey_png(side: int, depth: int, packed: bytes, interlaced: int = 0) -> bytes:
    return PNG + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, 0, 0, 0, interlaced)) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def whole_pictures() -> dict[str, bytes]:
    """Valid pictures by name; those that this Pillow cannot write are left out."""
    draw = np.random.default_rng(0)
    rgb = Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    smooth = Image.fromarray(np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8))
    deep = Image.fromarray(draw.integers(0, 65536, (30, 40), dtype=np.uint16))
    integers = Image.fromarray(draw.integers(0, 65536, (30, 40), dtype=np.int32))
    first, *rest = (Image.fromarray(draw.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(3))
    turned = Image.Exif()
    turned[0x0112], turned[0x010E] = 6, "a description"
    pictures: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        f"{mode}{ending}": (rgb.convert(mode), {}) for ending, modes in MODES.items() for mode in modes.split()
    }
    pictures |= {f"turned{ending}": (smooth, {"exif": turned}) for ending in (".jpg", ".png", ".webp")}
    pictures |= {f"moving{ending}": (first, {"save_all": True, "append_images": rest}) for ending in (".gif", ".webp", ".tif")}
    pictures |= {f"{way}.tiff": (rgb, {"compression": way}) for way in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")}
    pictures |= {
        "progressive.jpg": (smooth, {"progressive": True}), "see-through.png": (rgb.convert("P"), {"transparency": 3}),
        "lossless.webp": (rgb.convert("RGBA"), {"lossless": True}), "group4.tiff": (rgb.convert("1"), {"compression": "group4"}),
        "16.png": (deep, {}), "16.tif": (deep, {}), "16B.tif": (Image.frombytes("I;16B", deep.size, deep.tobytes()), {}),
        "I.tif": (integers, {}), "16.pgm": (integers, {}), "F.tif": (Image.fromarray(draw.random((30, 40), dtype=np.float32)), {}),
    }  # fmt: skip
    rows = b"".join((b"\0" + bytes(range(width))) * height for width, height in ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)))
    found = {"interlaced.png": _grey_png(8, 8, zlib.compress(rows), 1), "plain.pnm": b"P3 2 2 255\n" + b"1 2 3 " * 4}
    for name, (picture, how) in pictures.items():
        buffer = io.BytesIO()
        with contextlib.suppress(OSError, KeyError):
            picture.save(buffer, format=Image.registered_extensions()[Path(name).suffix], **how)
            found[name] = buffer.getvalue()
    return found


def bombs() -> dict[str, bytes]:
    """Small files of valid pictures with nearly as many pixels as Pillow allows, or more."""
    found = {}
    for side, depth in ((9400, 1), (9400, 16), (14000, 1), (30000, 1)):
        packed, row = zlib.compressobj(1), bytes(1 + (side * depth + 7) // 8)
        found[f"bomb-{side}-{depth}.png"] = _grey_png(side, depth, b"".join(packed.compress(row) for _ in range(side)) + packed.flush())
    return found


def _rearranged(data: bytes, rng: random.Random) -> bytes:
    """A file with a chunk of its format, or any twelfth, dropped, doubled, moved, exchanged or new."""
    cuts = [match.start() for match in CHUNKS.finditer(data)] or list(range(8, len(data), max(len(data) // 12, 1)))
    pieces = [data[start:end] for start, end in itertools.pairwise([0, *cuts, len(data)])]
    at, to = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    kind = rng.choice(b"tEXt zTXt iCCP tRNS PLTE eXIf acTL fdAT IDAT abcd".split())
    new = _chunk(kind, rng.choice([b"", bytes(100), rng.randbytes(50), LONG_TEXT]))
    edits = [b"", pieces[to], new + pieces[at], pieces[at] + pieces[to], pieces[at] * rng.choice([2, 3, 100])]
    pieces[at] = rng.choice(edits)
    return b"".join(pieces)


def _resized(data: bytes, rng: random.Random) -> bytes:
    """The same file with another width or height in its header; `struct.error` where there is no place for it."""
    wide, high = rng.choice(SIZES), rng.choice([40, rng.randrange(1, 5000), *SIZES])
    if data.startswith(PNG):
        return data[:8] + _chunk(b"IHDR", struct.pack(">II", wide, high) + data[24:29]) + data[33:]
    if re.match(rb"P\d", data):
        return re.sub(rb"^(P\d\s+)\d+\s+\d+", lambda match: match[1] + f"{wide} {high}".encode(), data)
    places = []  # where a size is, how it is written, and the size
    order = "<" if data[:2] == b"II" else ">"
    if data[:2] in (b"II", b"MM"):
        first = struct.unpack_from(f"{order}I", data, 4)[0]
        for at in range(first + 2, first + 2 + 12 * struct.unpack_from(f"{order}H", data, first)[0], 12):
            tag, kind = struct.unpack_from(f"{order}HH", data, at)
            if tag in (256, 257) or (tag in (258, 277, 278, 279, 322, 323) and rng.random() < 0.15):
                places.append((at + 8, order + ("H" if kind == 3 else "I"), wide if tag == 256 else high))
    else:
        for start, skip, form in SIZE_PLACES:
            if (match := re.search(start, data, re.DOTALL)) and rng.random() < 0.8:
                step = struct.calcsize(form)
                places += [(match.end() + skip, form, wide), (match.end() + skip + step, form, high)]
    changed = bytearray(data)
    for at, form, size in places:
        struct.pack_into(form, changed, at, size % 2 ** (8 * struct.calcsize(form)))
    return bytes(changed)


WAYS: dict[str, Callable[[bytes, int, random.Random], bytes]] = {
    "truncate": lambda data, at, rng: data[:at],
    "zero": lambda data, at, rng: (data[:at] + bytes(rng.choice([1, 4, 16, 200])) + data[at + 16 :])[: len(data)],
    "flip": lambda data, at, rng: flipped(data, rng),
    "noise": lambda data, at, rng: data[:at] + rng.randbytes(rng.choice([1, 8, 100])) + data[at + 8 :],
    "chunks": lambda data, at, rng: _rearranged(data, rng),
    "size": lambda data, at, rng: _resized(data, rng),
    "alien": lambda data, at, rng: rng.choice(ALIENS),
    "append": lambda data, at, rng: data + rng.randbytes(rng.choice([1, 1000])),
}


def mutilated_picture(whole: dict[str, bytes], rng: random.Random) -> tuple[str, bytes, str]:
    """A broken picture: the end of its name, its bytes, and what was done."""
    name = rng.choice(sorted(whole))
    data, ending, done = whole[name], Path(name).suffix, [name]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        way = rng.choice([*WAYS, "truncate", "flip", "chunks", "size", "splice", "ending"])
        done.append(way)
        at = rng.randrange(1 + (len(data) if rng.random() < 0.6 else min(len(data), 63)))
        if way == "splice":
            other = whole[rng.choice(sorted(whole))]
            data = data[:at] + other[rng.randrange(len(other)) :]
        elif way == "ending":
            ending = rng.choice(ENDINGS)
        else:
            with contextlib.suppress(struct.error):  # too broken for another size
                data = WAYS[way](data, at, rng)
    return ending, data, " + ".join(done)


def fuzz_pictures(ask: Callable[..., Any], count: int, seed: int, folder: Path, *, large: bool = True) -> list[Tally]:
    """Reads so many broken pictures and all whole ones, one by one, and collects them once."""
    rng = random.Random(f"pictures {seed}")
    whole = whole_pictures()
    folder.mkdir(parents=True)
    made = {}
    for index in range(count):
        ending, data, done = mutilated_picture(whole, rng)
        made[f"{index:05d}{ending}"] = done
        (folder / f"{index:05d}{ending}").write_bytes(data)
    for name, data in (whole | (bombs() if large else {})).items():
        made[f"whole {name}"] = "as it is"
        (folder / f"whole {name}").write_bytes(data)
    single, together = Tally("pictures, one by one"), Tally("pictures, one folder")
    verdicts = dict(zip(made, ask("read", paths=[str(folder / name) for name in made]), strict=True))
    for name, (verdict, told) in verdicts.items():
        done, place = made[name], folder / name
        if verdict in ("timeouts", "tracebacks"):
            place = place.rename(folder.parent / name)
            del made[name]
        elif verdict == "refused" and name.removeprefix("whole ") in whole.keys() - {"F.tif"}:  # a valid picture
            verdict = "other"
        single.note(verdict, f'{done}: {told}. `python -c "from farfield.data.pictures import read_picture as r; r({str(place)!r})"`')
    answer = ask("collect", folder=str(folder), out=str(folder.parent / "store of pictures"))
    if "died" in answer:
        together.note("other", f"`collect` over {folder}: {answer['died']}")
        return [single, together]
    outputs = Counter(answer["read"])
    failures = Counter(os.path.relpath(name, folder) for name, _ in answer["failures"])
    one_line = all(reason.strip() and len(reason.splitlines()) == 1 for _, reason in answer["failures"])
    for name in {**made, **outputs, **failures}:
        counts, alone = (outputs[name], failures[name]), verdicts[name][0] if name in verdicts else "nothing"
        fine = one_line and counts == ((1, 0) if alone == "accepted" else (0, 1))
        how = f"{folder / name} ({made.get(name)}): alone {alone}, in the folder {counts[0]} outputs and {counts[1]} failures"
        together.note(("accepted" if outputs[name] else "refused") if fine else "other", how)
    return [single, together]

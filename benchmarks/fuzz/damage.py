"""Ways to break bytes, texts, files and folders."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ODD_LINES = r"""nan|inf|[a.b.c]|[[far]]|x = 1|model = 7|far = 3|near = { a = { b = "c" } }|limit = 0|limit = 1e3|limit = true|limit = 99999999999999999999999
strict = 1|strict = "yes"|date = 1979-05-27|out = []|suite = "glyphs-200"|id_train = "train"|[id-test]|"" = ""|'ü' = 1|a.png {'class_label': 'x'}|,|"|score
../../nowhere/x.png 0|/nowhere/x.png 1|far/0.png 999999999999|far/0.png -7|far/0.png 7|far/0.png {__import__('os')}|a b c d|red|red,0|red,-1|1,2,3,4,5,6
red,99999999999999999999|{"score": "x"}|{"score": true}|{"score": null}|{"score": NaN}|{"score": [1]}|{"score": 1e999}|[]|{{{{{{{{{{"""
LINES = [*ODD_LINES.replace("\n", "|").encode().split(b"|"), b"\xff\xfe", b"\0", b"\xe2\x80\xa8", b"\x1b[2J", b"a" * 200_000, b"far/\xc2\x85.png"]
VALUES = rb"""nan|inf|-1|0|true|""|[]|{}|["a", 1]|1.5|x|'|'''|1979-05-27|"\ud800"|"\n"|"nowhere"|{ a = "far" }|[["a"]]""".split(b"|")
TEXTS = [b"hello\n", b"{}", b"[]", b"null", b"\xef\xbb\xbf", b"\xff\xfe\0\0", b"score\nnan\n", b"score\n1\n2\nx\n", b"path\n", b"[" * 3000, b'"' * 99]
STRANGERS = ["x.png", "logits.npy", "facts.json", "results.json", "x.png/y.png", "labels.npy", "new/1.png", "model.safetensors"]
STRUCTURED = [".json", ".safetensors", ".npy", ".npz", ".csv", ".txt", ".jsonl", ".toml"]
ODD_THINGS = [None, True, 0, -1, 1.5, 10**9, 10**30, float("nan"), "", "text", [], {}, [1, "a"], {"a": 1}, [[]]]
ODD_ARRAYS: list[Any] = [
    *[np.zeros(shape) for shape in ((), 0, (0, 3), (3, 0), (2, 3, 4), (15, 3), 15, (15, 6), (15, 1))],
    *[np.full(shape, value) for shape in (9, 15, (9, 3), (15, 3)) for value in (np.nan, np.inf, 1e308, -7, 99)],
    *[np.zeros((15, 3), kind) for kind in (">f4", np.int32, np.longdouble, np.uint8, np.uint64, np.float16, bool, complex, object, "M8[D]", "U1")],
    *[np.array(["a", "b"]), np.zeros(4, dtype=[("a", "f4")]), np.array([None, 1], dtype=object)],
]


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Other bits here and there, rather near the start."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20]) if data else 0):
        changed[rng.randrange(len(changed) if rng.random() < 0.5 else min(len(changed), 100))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def mutilated_text(data: bytes, rng: random.Random) -> bytes:
    """A text with lines, values or bytes changed."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        line, place = lines[at], rng.randrange(len(lines[at]) + 1)
        head, equals, _rest = line.partition(rng.choice([b"=", b",", b" "]))
        misspelt = line[:place] + rng.choice([b"", b"x", b"-", b" "]) + line[place + 1 :]
        edits = [[], [line, line], [rng.choice(lines)], [line[:place]], *[[misspelt]] * 2, *[[flipped(line, rng)]] * 2]
        lines[at : at + 1] = rng.choice([*edits, *[[rng.choice(LINES), line]] * 2, *[[head + equals + b" " + rng.choice(VALUES)]] * 3])
        data = b"\n".join(lines)
    return data


def mutilated_json(tree: Any, rng: random.Random) -> Any:
    """The same tree with one thing in it changed, dropped, renamed or doubled."""

    def spots(node: Any) -> list[tuple[Any, Any]]:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
        return [(node, key) for key in keys] + [spot for key in keys for spot in spots(node[key])]

    found = spots(tree)
    if not found or rng.random() < 0.05:
        return rng.choice(ODD_THINGS)
    node, key = rng.choice(found[: len(tree)] if rng.random() < 0.4 else found)
    value, way = node[key], rng.random()
    if way < 0.3:
        del node[key]
    elif way < 0.4 and isinstance(node, dict):
        node[f"{key}x"] = node.pop(key)
    elif way < 0.5 and isinstance(node, list):
        node.append(value)
    elif way < 0.7 and isinstance(value, str | int | float):
        node[key] = value[:-1] + rng.choice("x0\n") if isinstance(value, str) else value + rng.choice([1, 0.5])
    else:
        node[key] = rng.choice(ODD_THINGS)
    return tree


def _mutilated_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A file whose header, or a text inside it, is another."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    about = header.get("__metadata__", {})
    nested = sorted(key for key, value in about.items() if value[:1] in ("{", "["))
    if nested and rng.random() < 0.6:
        key = rng.choice(nested)
        about[key] = json.dumps(mutilated_json(json.loads(about[key]), rng))
    elif rng.random() < 0.5:
        name = rng.choice(sorted(header.keys() - {"__metadata__"}))
        entry = header.pop(name)
        shapes = [[1, *entry["shape"]], entry["shape"][::-1], [int(np.prod(entry["shape"]))]]
        kind = {"F32": "I32", "I64": "F64", "F64": "I64"}.get(entry["dtype"], "U8")
        new = rng.choice(["logits", "labels", "ids", f"{name}x", "head.bias", "", *[name] * 6])
        header[new] = entry if new != name else entry | rng.choice([{"shape": rng.choice(shapes)}, {"dtype": kind}])
    else:
        header = mutilated_json(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _restructured(data: bytes, ending: str, rng: random.Random) -> bytes:
    """A file of a known format that is wrong in what it says."""
    buffer = io.BytesIO()
    if ending == ".json":
        return json.dumps(mutilated_json(json.loads(data), rng)).encode()
    if ending == ".safetensors":
        return _mutilated_safetensors(data, rng)
    if ending == ".npy":
        np.save(buffer, rng.choice(ODD_ARRAYS))
        shape = rng.choice([b"(9\\1,", b"(-\\1,", b"(9999999999\\1,", b"('a',"])
        return buffer.getvalue() if rng.random() < 0.7 else re.sub(rb"\((\d+),", shape, data, count=1)
    if ending == ".npz":
        arrays = dict(np.load(io.BytesIO(data)))
        name = rng.choice(sorted(arrays))
        array = arrays.pop(name)
        arrays[rng.choice([f"{name}x", "ids", "labels", "logits", *[name] * 8])] = rng.choice([array, array[:-1], *[rng.choice(ODD_ARRAYS)] * 3])
        np.savez(buffer, **arrays)
        return buffer.getvalue()
    return mutilated_text(data, rng)


def _damaged_folder(path: Path, rng: random.Random) -> str:
    inside = sorted(p for p in path.rglob("*") if p.is_file())
    way = rng.choice([*["one file"] * 4, "drop", "empty", "a file", "stranger", "broken TIFF", "odd name", "one class", "loop"])
    if way == "one file" and inside:
        file = rng.choice([p for p in inside if p.suffix in (".json", ".npy", ".safetensors")] or inside)
        return f"{file.relative_to(path)}: {damaged(file, rng)}"
    if way == "drop" and inside:
        rng.choice(inside).unlink()
    elif way in ("empty", "a file"):
        shutil.rmtree(path)
        path.mkdir() if way == "empty" else path.touch()
    elif way == "stranger":
        file = path / rng.choice(STRANGERS)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(rng.choice([b"", b"{}", b"[]", b"nonsense", rng.randbytes(50)]))
    elif way == "broken TIFF":  # which libtiff complains of on stderr, by itself
        buffer = io.BytesIO()
        Image.new("RGB", (30, 40)).save(buffer, format="TIFF", compression="tiff_adobe_deflate")
        (path / "x.tif").write_bytes(buffer.getvalue()[:12] + bytes(10) + buffer.getvalue()[22:])
    elif way == "odd name" and inside:
        inside[0].rename(inside[0].with_name(rng.choice(["a\nb", "\udcff", "[red]", "日本", " ", "x" * 200, "-rf"]) + inside[0].suffix))
    elif way == "one class":
        for folder in sorted(p for p in path.iterdir() if p.is_dir())[1:]:
            shutil.rmtree(folder)
    elif way == "loop" and not (path / "again").is_symlink():
        (path / "again").symlink_to(".", target_is_directory=True)
    return way


def damaged(path: Path, rng: random.Random) -> str:
    """Breaks a file or a folder in place; what was done."""
    if path.is_dir():
        return _damaged_folder(path, rng)
    data = path.read_bytes()
    ways = {"empty": b"", "noise": rng.randbytes(rng.choice([1, 8, 500])), "cut": data[: rng.randrange(len(data) + 1)], "text": rng.choice(TEXTS)}
    way = rng.choice([*ways, "flip", "folder", "gone", "loop", *["inside"] * (8 if path.suffix in STRUCTURED else 0)])
    if way in ways:
        path.write_bytes(ways[way])
    elif way in ("inside", "flip"):
        changed = flipped(data, rng)
        with contextlib.suppress(Exception):  # it may be broken already
            changed = _restructured(data, path.suffix, rng) if way == "inside" else changed
        path.write_bytes(changed)
    else:
        path.unlink()
        if way == "folder":
            path.mkdir()
        elif way == "loop":
            path.symlink_to(path.name)
    return way

"""Which characters the Glyphs suites use: chosen by rule, then frozen in `glyphs-v1.json`.

The rule, over the DejaVu typefaces that ship inside matplotlib:

1. *Candidates* are the code points that all twelve text faces draw with ink, without controls and combining marks.
2. *Homoglyphs go.* Two characters are homoglyphs when, in any of the four upright regular and bold faces compared,
   their bitmaps differ by at most 3 % of their energy under the best shift of one pixel. Of each such set
   the lowest code point stays. The same comparison holds between the classes and the unseen characters.
3. *Groups* come from the Unicode script and category (`group_of`).
4. *Unseen letters* (near-OOD) are drawn from the letters, in proportion to their scripts; the *thousand classes* are drawn
   from the rest, all ten digits among them, and the *two hundred* from those, 25 a group.
5. *Unseen scripts* (near-OOD) are letters of scripts that no class has and both test faces draw.

`farfield.data.alphabet.select()` runs the rule again; a test holds it to the frozen file.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from farfield.errors import InputError

TRAIN_FACES = (
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
)
TEST_FACES = ("DejaVuSans", "DejaVuSans-Bold")
COMPARED_FACES = (*TEST_FACES, "DejaVuSerif", "DejaVuSansMono")
UNSEEN_SCRIPTS = ("ARABIC", "BRAILLE", "CANADIAN", "HEBREW", "LAO", "NKO", "OGHAM", "TIFINAGH")
GROUPS = (
    "latin-upper",
    "latin-lower",
    "greek",
    "cyrillic",
    "armenian-georgian",
    "numbers-modifiers",
    "punctuation-mathematics",
    "shapes",
)
CANVAS = 64  # side of a mask in pixels, twice the side of a picture
EM = 40  # pixels an em takes on the canvas; taller and wider glyphs are set smaller
BASELINE = 45  # row of the baseline
HOMOGLYPH = 0.03
N_LETTERS = 250
SEED = 20_260_501


class Alphabet(TypedDict):
    """Code points, by role; `groups` holds an index into `GROUPS` for each class."""

    classes: list[int]
    groups: list[int]
    classes_200: list[int]
    letters: list[int]
    scripts: list[int]
    fonts: dict[str, str]


@cache
def load() -> Alphabet:
    """The frozen choice."""
    text = resources.files("farfield.data").joinpath("glyphs-v1.json").read_text("utf-8")
    alphabet: Alphabet = json.loads(text)
    return alphabet


def font_path(face: str) -> str:
    """Where matplotlib keeps a DejaVu face."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf")


def font_hash(face: str) -> str:
    """A hash of the face's file: glyphs of another DejaVu version are another data set."""
    return hashlib.blake2b(Path(font_path(face)).read_bytes(), digest_size=16).hexdigest()


def check_fonts(alphabet: Alphabet) -> None:
    """Raises `InputError` when this matplotlib ships other typefaces than the suite was frozen with."""
    for face, expected in alphabet["fonts"].items():
        if font_hash(face) != expected:
            raise InputError(
                f"The typeface {face} in this matplotlib differs from the one Glyphs v1 was made with; its pictures, and so its "
                "numbers, would not be comparable. Install a matplotlib whose DejaVu fonts are version 2.37."
            )


def masks(face: str, code_points: list[int]) -> UInt8[Tensor, "n 64 64"]:
    """Each character in one face, unhinted, on its baseline and centred between the sides: 0 is paper, 255 ink."""
    from matplotlib.ft2font import FT2Font, LoadFlags

    font = FT2Font(font_path(face))
    canvas = np.zeros((len(code_points), CANVAS, CANVAS), np.uint8)
    for page, code_point in zip(canvas, code_points, strict=True):
        size = float(EM)
        for _ in range(4):  # shrink until it fits; the outline scales almost, not quite, linearly
            font.set_size(size, 72)
            left, bottom, right, top = (edge / 64 for edge in font.load_char(code_point, flags=LoadFlags.NO_HINTING).bbox)
            room = ((CANVAS - 4) / max(right - left, 1), (BASELINE - 2) / max(top, 1), (CANVAS - BASELINE - 2) / max(-bottom, 1))
            if min(room) >= 1:
                break
            size *= 0.99 * min(room)
        font.clear()
        font.set_text(chr(code_point), 0.0, flags=LoadFlags.NO_HINTING)
        font.draw_glyphs_to_bitmap(antialiased=True)
        ink = np.asarray(font.get_image())
        row = max(BASELINE - int(np.ceil(top)), 0)
        column = max(round((CANVAS - ink.shape[1]) / 2), 0)
        ink = ink[: CANVAS - row, : CANVAS - column]
        page[row : row + ink.shape[0], column : column + ink.shape[1]] = ink
    return torch.from_numpy(canvas)


def bitmap_distance(a: UInt8[Tensor, "n 64 64"], b: UInt8[Tensor, "m 64 64"]) -> Float[Tensor, "n m"]:
    """`min over shifts t of |a - t(b)|^2 / (|a|^2 + |b|^2)` at picture size, slightly blurred: 0 same, 1 nothing in common."""

    def small(x: Tensor) -> Tensor:
        kernel = torch.tensor([0.25, 0.5, 0.25])
        halved = F.avg_pool2d(x[:, None].float() / 255, 2)
        return F.conv2d(halved, torch.outer(kernel, kernel)[None, None], padding=1)

    left, right = small(a), small(b)
    best = torch.full((len(a), len(b)), -torch.inf)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = F.pad(right, (1 + dx, 1 - dx, 1 + dy, 1 - dy))[..., 1:-1, 1:-1]
            best = torch.maximum(best, left.flatten(1) @ moved.flatten(1).T)
    energy = left.flatten(1).square().sum(1)[:, None] + right.flatten(1).square().sum(1)[None]
    return 1 - 2 * best / energy.clamp_min(1e-6)


def homoglyphs(a: list[int], b: list[int], faces: tuple[str, ...]) -> Bool[Tensor, "n m"]:
    """Which characters of `a` look like which of `b` in any of `faces`."""
    same = torch.zeros(len(a), len(b), dtype=torch.bool)
    for face in faces:
        one, other = masks(face, a), masks(face, b)
        same |= bitmap_distance(one, other) <= HOMOGLYPH
        same |= bitmap_distance(other, one).T <= HOMOGLYPH
    return same


def script_of(code_point: int) -> str:
    """The first word of the Unicode name, which for letters is the script."""
    return unicodedata.name(chr(code_point), "").split(" ")[0]


def group_of(code_point: int) -> int:
    """Index into `GROUPS`, from Unicode script and category."""
    category, script = unicodedata.category(chr(code_point)), script_of(code_point)
    if category in ("Lm", "Sk", "Nd", "No", "Nl"):
        return GROUPS.index("numbers-modifiers")
    if script == "LATIN":
        return GROUPS.index("latin-upper" if category in ("Lu", "Lt") else "latin-lower")
    if script in ("GREEK", "CYRILLIC"):
        return GROUPS.index(script.lower())
    if script in ("ARMENIAN", "GEORGIAN"):
        return GROUPS.index("armenian-georgian")
    return GROUPS.index("shapes" if category == "So" else "punctuation-mathematics")


def is_letter(code_point: int) -> bool:
    """Whether the character is in one of the groups of letters."""
    return group_of(code_point) < GROUPS.index("numbers-modifiers")


def distinct(code_points: list[int], faces: tuple[str, ...]) -> list[int]:
    """The code points that have ink, without those that look like an earlier one."""
    same = homoglyphs(code_points, code_points, faces)
    blank = masks(faces[0], code_points).flatten(1).amax(1) == 0
    kept: list[int] = []
    for i in range(len(code_points)):
        if not blank[i] and not same[i, kept].any():
            kept.append(i)
    return [code_points[i] for i in kept]


def drawn_by(faces: tuple[str, ...]) -> list[int]:
    """The code points all of `faces` draw, without spaces, controls and combining marks."""
    from matplotlib.ft2font import FT2Font

    maps = [set(FT2Font(font_path(face)).get_charmap()) for face in faces]
    unusable = ("Mn", "Me", "Mc", "Zs", "Zl", "Zp", "Cf", "Cc", "Co", "Cn")
    return sorted(c for c in set.intersection(*maps) if unicodedata.category(chr(c)) not in unusable)


def select() -> Alphabet:
    """The rule of this module's docstring, run from the typefaces."""
    rng = np.random.default_rng(SEED)
    candidates = distinct(drawn_by(TRAIN_FACES + TEST_FACES), COMPARED_FACES)
    digits = [c for c in candidates if unicodedata.category(chr(c)) == "Nd"]
    letters = [c for c in candidates if is_letter(c)]
    unseen = set(_share(rng, letters, N_LETTERS))
    pool = [c for c in candidates if c not in unseen and c not in digits]
    classes = sorted([*digits, *rng.choice(pool, 1000 - len(digits), replace=False).tolist()])
    few = []
    for group in range(len(GROUPS)):
        members = [c for c in classes if group_of(c) == group]
        forced = [c for c in members if c in digits]
        free = [c for c in members if c not in digits]
        few += forced + rng.choice(free, 25 - len(forced), replace=False).tolist()
    foreign = [
        c
        for c in drawn_by(TEST_FACES)
        if script_of(c) in UNSEEN_SCRIPTS and unicodedata.category(chr(c)) in ("Lo", "So") and c != 0x2800  # the blank of Braille
    ]
    foreign = distinct(foreign, TEST_FACES)
    seen_alike = homoglyphs(foreign, classes, TEST_FACES).any(1).tolist()
    return Alphabet(
        classes=classes,
        groups=[group_of(c) for c in classes],
        classes_200=sorted(few),
        letters=sorted(unseen),
        scripts=[c for c, alike in zip(foreign, seen_alike, strict=True) if not alike],
        fonts={face: font_hash(face) for face in TRAIN_FACES + TEST_FACES},
    )


def _share(rng: np.random.Generator, letters: list[int], n: int) -> list[int]:
    """`n` of the letters, each group in proportion to its size."""
    order = rng.permutation(letters).tolist()
    order.sort(key=group_of)  # stable: random inside a group
    return [order[i] for i in np.linspace(0, len(order) - 1, n).round().astype(int)]

"""Glyphs, the embedded benchmark: characters of real typefaces on coloured paper, drawn on the spot.

*What it is*: a real image classification task (1,000 or 200 characters, 32 x 32 RGB), trained on ten typefaces and tested on
two others, with sets to tell it from that range from near to far. It needs no download, takes seconds, and is the same for everyone.
*What it is not*: a substitute for ImageNet. Its pictures have one object, no clutter and few colours; a method that wins here has not
thereby won on photographs.

Each picture is a character's mask under a small affine map (rotation within 12 degrees, size within 15 %, shear within 0.15, shift within
2 pixels), in one of eight inks, more or less faint, on one of eight papers, under a smooth unevenness of light and a little noise.

*Colour carries meaning.* Every paper has red > green > blue and every ink blue > green > red, by at least 0.07 each: the two warm and cool
families that `PAPERS` and `INKS` list. Exchanging the channels in any way therefore leaves the palette, so a channel-shuffled glyph is
out-of-distribution. Mirroring changes many characters into others. Hence the augmentations that keep a label: shift, rotation and
scaling within the bounds above, brightness; no flips, no change of hue.

*To choose options on*, and never part of a result, there are two sets made from the calibration data's characters and typefaces, in renderings
of their own: `jigsaw`, whose tiles are in another order, so that no character is left, and `channels`, whose colours no glyph has.

The version is part of the name: once numbers are published, a change makes `glyphs2`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from farfield.data import alphabet, noise
from farfield.data.images import Images, OODSet, Suite
from farfield.errors import InputError
from farfield.files import cache_folder, put

SIZES = (200, 1000)
SIDE = 32
PAPERS = (
    (0.98, 0.88, 0.70),
    (0.96, 0.80, 0.62),
    (0.93, 0.84, 0.74),
    (0.99, 0.91, 0.79),
    (0.88, 0.78, 0.58),
    (0.95, 0.76, 0.66),
    (0.90, 0.82, 0.66),
    (0.99, 0.83, 0.74),
)
INKS = (
    (0.05, 0.15, 0.40),
    (0.02, 0.25, 0.45),
    (0.12, 0.20, 0.32),
    (0.20, 0.27, 0.55),
    (0.02, 0.10, 0.22),
    (0.05, 0.30, 0.38),
    (0.15, 0.22, 0.48),
    (0.00, 0.18, 0.30),
)
ROTATION, SCALE, SHEAR, SHIFT = 12.0, 0.15, 0.15, 2.0  # degrees, fraction, fraction, pixels
FAINTEST = 0.2  # the least opacity of ink
LIGHT, GRAIN = 0.08, 0.14  # standard deviations of the smooth light and of the noise
AUGMENTATIONS = (f"shift {SHIFT} px", f"rotation {ROTATION} degrees", f"scaling {SCALE:.0%}", f"shear {SHEAR}", "brightness")
NOTE = (
    "Glyphs is a real but small task (characters of DejaVu typefaces, tested on two unseen faces), not a substitute for ImageNet. Intervals are over "
    "new renderings of the same characters; those of `photos` are over its two photographs, so they are wide."
)
PER_SET = 2000
PER_FAMILY = 100
TILES = 4  # a side of a jigsaw
_BLOCK = 2000  # pictures drawn at once: 100 MB of temporaries
# Renderings per class and typeface.
_RENDERS = {("train", 200): 10, ("test", 200): 10, ("calibration", 200): 5, ("train", 1000): 3, ("test", 1000): 2, ("calibration", 1000): 1}
_SPLITS = ("train", "calibration", "test")


def suite(classes: int = 200) -> Suite:
    """`glyphs-200` or `glyphs-1000`: the classes, their splits and what to tell them from.

    Raises:
        InputError: for another number of classes.

    >>> suite(200).name, len(suite(200).classes), [s.name for s in suite(200).ood]
    ('glyphs-200', 200, ['letters', 'scripts', 'photos', 'noise', 'digits'])
    """
    if classes not in SIZES:
        raise InputError(f"Glyphs has {SIZES[0]} or {SIZES[1]} classes; got {classes}.")
    points = class_points(classes)
    members = [alphabet.group_of(point) for point in points]
    sets = (
        OODSet("letters", "near", partial(_cached, "letters", _letters)),
        OODSet("scripts", "near", partial(_cached, "scripts", _scripts)),
        OODSet("photos", "far", partial(_cached, "photos", _photos)),
        OODSet("noise", "far", _noise),
        OODSet("digits", "shifted", partial(_cached, f"digits-{classes}", partial(_digits, classes))),
    )
    made = (("jigsaw", _jigsaw), ("channels", _channels))
    return Suite(
        name=f"glyphs-{classes}",
        classes=tuple(chr(point) for point in points),
        taxonomy={g: tuple(i for i, m in enumerate(members) if m == k) for k, g in enumerate(alphabet.GROUPS)},
        splits={s: partial(_cached, f"{s}-{classes}", partial(draw_split, classes, s)) for s in _SPLITS},
        ood=sets,
        augmentations=AUGMENTATIONS,
        note=NOTE,
        validation=tuple(OODSet(name, "near", partial(_cached, f"{name}-{classes}", partial(make, classes))) for name, make in made),
        drawn=partial(draw_split, classes, "train"),
    )


def class_points(classes: int) -> list[int]:
    """The code points of the classes, in label order."""
    frozen = alphabet.load()
    return frozen["classes"] if classes == 1000 else frozen["classes_200"]


def draw_split(classes: int, split: str, epoch: int = 0) -> Images:
    """A split, drawn; `epoch` gives as many new renderings of the same classes and typefaces, for training."""
    faces = alphabet.TRAIN_FACES if split == "train" else alphabet.TEST_FACES
    rng = _rng(split, classes, epoch)
    images, index = _draw(rng, class_points(classes), faces, _RENDERS[split, classes])
    return Images(f"glyphs-{classes}/{split}", images, torch.from_numpy(index))


def _letters() -> Images:
    points = alphabet.load()["letters"]
    images, _ = _draw(_rng("letters"), points, alphabet.TEST_FACES, PER_SET // (2 * len(points)))
    return _unlabelled("letters", images)


def _scripts() -> Images:
    images, _ = _draw(_rng("scripts"), alphabet.load()["scripts"], alphabet.TEST_FACES, 2)
    keep = _rng("scripts", 1).permutation(len(images))[:PER_SET]
    return _unlabelled("scripts", images[torch.from_numpy(np.sort(keep))])


def _photos() -> Images:
    """Square crops of 32 to 256 pixels from the two photographs that ship with scikit-learn, brought to 32 x 32."""
    from sklearn.datasets import load_sample_images

    rng, crops = _rng("photos"), []
    photographs = load_sample_images().images
    for photograph in photographs:
        pixels = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None].float()
        for _ in range(PER_SET // len(photographs)):
            side = round(32 * 8 ** rng.random())
            top, left = rng.integers(pixels.shape[2] - side + 1), rng.integers(pixels.shape[3] - side + 1)
            crop = pixels[..., top : top + side, left : left + side]
            crops.append(F.interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False))
    images = torch.cat(crops).round().clamp(0, 255).to(torch.uint8)
    which = torch.arange(len(photographs)).repeat_interleave(PER_SET // len(photographs))
    return Images("photos", images, torch.full((len(images),), -1), clusters=which)


def _noise() -> Images:
    """The 17 families of `noise`, equally many of each; those that permute pixels permute renderings of the 200 classes in the test typefaces."""
    parts = {family: slice(i * PER_FAMILY, (i + 1) * PER_FAMILY) for i, family in enumerate(noise.FAMILIES)}
    return replace(_cached("noise", _draw_noise), parts=parts)


def _draw_noise() -> Images:
    source, _ = _draw(_rng("noise"), class_points(200), alphabet.TEST_FACES, 1)
    families = [noise.generate(f, PER_FAMILY, (SIDE, SIDE), seed=alphabet.SEED, source=source) for f in noise.FAMILIES]
    return _unlabelled("noise", torch.cat(families))


def _digits(classes: int) -> Images:
    """Scikit-learn's 1,797 handwritten digits as masks, drawn like the rest: other shapes, the same classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    masks = torch.from_numpy(digits.images.copy()).float()[:, None] * (255 / 16)
    # An 8 x 8 digit fills its frame; at 22 of 32 pixels it is as tall as a printed one.
    masks = F.interpolate(masks, (44, 44), mode="bicubic", align_corners=False).clamp(0, 255)
    masks = F.pad(masks, (10, 10, 8, 12))[:, 0].round().to(torch.uint8)
    label_of = [class_points(classes).index(ord("0") + d) for d in range(10)]
    images = _paint(_rng("digits"), masks)
    return Images("digits", images, torch.tensor(label_of)[torch.from_numpy(digits.target)])


def _jigsaw(classes: int) -> Images:
    """New renderings of the calibration data, each cut into 4 x 4 tiles that are put together in another order."""
    pictures, tile = draw_split(classes, "calibration", 1).images, SIDE // TILES
    n, places = len(pictures), np.arange(TILES**2)
    order = _rng("jigsaw", classes).permuted(np.tile(places, (n, 1)), axis=1)
    order = np.where((order == places).all(1, keepdims=True), np.roll(places, 1), order)
    tiles = pictures.reshape(n, 3, TILES, tile, TILES, tile).permute(0, 2, 4, 1, 3, 5).reshape(n, TILES**2, 3, tile, tile)
    moved = tiles[torch.arange(n)[:, None], torch.from_numpy(order)].reshape(n, TILES, TILES, 3, tile, tile)
    return _unlabelled("jigsaw", moved.permute(0, 3, 1, 4, 2, 5).reshape(n, 3, SIDE, SIDE))


def _channels(classes: int) -> Images:
    """Other renderings, each with its three channels in one of the five other orders."""
    pictures = draw_split(classes, "calibration", 2).images
    orders = torch.tensor(list(itertools.permutations(range(3)))[1:])
    which = torch.from_numpy(_rng("channels", classes).integers(len(orders), size=len(pictures)))
    return _unlabelled("channels", pictures[torch.arange(len(pictures))[:, None], orders[which]])


def _unlabelled(name: str, images: Tensor) -> Images:
    return Images(name, images, torch.full((len(images),), -1))


def _rng(*key: str | int) -> np.random.Generator:
    """One stream of random numbers for each set, from the frozen seed and the set's name."""
    words = [int.from_bytes(str(part).encode()[:16].ljust(16, b"\0"), "little") for part in key]
    return np.random.default_rng([alphabet.SEED, *words])


def _draw(rng: np.random.Generator, points: list[int], faces: Sequence[str], renders: int) -> tuple[Tensor, np.ndarray]:
    """`renders` pictures of every character in every face, in random order, and which character each shows."""
    alphabet.check_fonts(alphabet.load())
    masks = torch.stack([alphabet.masks(face, points) for face in faces])
    order = rng.permutation(len(points) * len(faces) * renders)
    which, face = order % len(points), order // len(points) % len(faces)
    blocks = [slice(i, i + _BLOCK) for i in range(0, len(order), _BLOCK)]
    return torch.cat([_paint(rng, masks[face[b], which[b]]) for b in blocks]), which


def _paint(rng: np.random.Generator, masks: UInt8[Tensor, "n 64 64"]) -> UInt8[Tensor, "n 3 32 32"]:
    """Masks to pictures: affine map, ink on paper, light, grain."""
    n = len(masks)
    ink = F.grid_sample(masks[:, None].float() / 255, _affine_grid(rng, n), align_corners=False)
    ink = F.avg_pool2d(ink, 2)
    paper_colour = torch.tensor(PAPERS)[torch.from_numpy(rng.integers(len(PAPERS), size=n))][:, :, None, None]
    ink_colour = torch.tensor(INKS)[torch.from_numpy(rng.integers(len(INKS), size=n))][:, :, None, None]
    opacity = torch.from_numpy(rng.uniform(FAINTEST, 1, (n, 1, 1, 1)).astype(np.float32))
    picture = paper_colour + (ink_colour - paper_colour) * ink * opacity
    light = torch.from_numpy(rng.standard_normal((n, 1, 4, 4), dtype=np.float32)) * LIGHT
    light = F.interpolate(light, (SIDE, SIDE), mode="bicubic", align_corners=False)
    grain = torch.from_numpy(rng.standard_normal((n, 3, SIDE, SIDE), dtype=np.float32)) * GRAIN
    return ((picture * (1 + light) + grain) * 255).round().clamp(0, 255).to(torch.uint8)


def _affine_grid(rng: np.random.Generator, n: int) -> Tensor:
    """Sampling grids of the small random affine maps, at mask size."""
    angle, size, shear = (bound * rng.uniform(-1, 1, n) for bound in (np.deg2rad(ROTATION), SCALE, SHEAR))
    shift = rng.uniform(-1, 1, (2, n)) * SHIFT * 2 / SIDE
    cos, sin = np.cos(angle) / (1 + size), np.sin(angle) / (1 + size)
    rows = [[cos, shear * cos - sin, shift[0]], [sin, shear * sin + cos, shift[1]]]
    theta = torch.from_numpy(np.stack([np.stack(row, -1) for row in rows], 1).astype(np.float32))
    return F.affine_grid(theta, [n, 1, alphabet.CANVAS, alphabet.CANVAS], align_corners=False)


@cache
def _source_hash() -> str:
    """A hash of all that decides the pictures, so that a folder of another version is not taken for this one's."""
    here = Path(__file__).parent
    sources = [(here / name).read_bytes() for name in ("glyphs-v1.json", "alphabet.py", "glyphs.py", "noise.py")]
    return hashlib.blake2b(b"".join(sources), digest_size=6).hexdigest()


def _cached(name: str, make: Callable[[], Images]) -> Images:
    """The set from its file, or made and, where the folder can be written, filed."""
    path = cache_folder() / f"glyphs-v1-{_source_hash()}" / f"{name}.safetensors"
    try:
        tensors = load_file(path)
        return Images(name, tensors["images"], tensors["labels"], tensors.get("clusters"))
    except (OSError, SafetensorError):
        pass  # absent or broken: drawn again
    made = make()
    tensors = {"images": made.images, "labels": made.labels} | ({} if made.clusters is None else {"clusters": made.clusters})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial_file: save_file(tensors, partial_file))
    except (OSError, SafetensorError):
        pass  # a read-only or full cache costs seconds on the next run, nothing else
    return Images(name, made.images, made.labels, made.clusters)

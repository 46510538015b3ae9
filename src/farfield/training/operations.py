"""What may be done to one picture: the operations of TrivialAugment and AugMix on batches of 8-bit pictures, with a magnitude for each picture.

Everything is summed and rounded for each picture alone, so that a picture comes out the same in whatever batch it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from farfield.errors import InputError, nearest

# From magnitudes `(n,)` and the sides (height, width) to what a point is in the source, `(n, 2, 3)`: pixels from the middle, x before y.
Matrix = Callable[[Tensor, tuple[int, int]], Tensor]
# From pictures and magnitudes `(n,)`, those on the CPU, to pictures.
Change = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Operation:
    """One thing that may be done to a picture.

    Args:
        largest: the magnitude TrivialAugment ends at, having begun at 0.
        signed: whether half of the magnitudes are negative.
        matrix: what it does, where pixels move,
        change: or where they change their values. Neither: nothing.
    """

    largest: float = 0.0
    signed: bool = False
    matrix: Matrix | None = None
    change: Change | None = None


def operate(
    pictures: UInt8[Tensor, "n 3 h w"], names: Sequence[str], which: Int64[Tensor, " n"], magnitudes: Float64[Tensor, " n"], smooth: bool = False
) -> UInt8[Tensor, "n 3 h w"]:
    """Each picture after the operation `names[which]` with its magnitude.

    Values are cut to whole levels, and agree with torchvision's to one level, those of pixels that only move exactly, but where a source lies midway
    between two pixels.

    Args:
        pictures: on any device.
        names: of `OPERATIONS`.
        which: on the CPU, as magnitudes are, so that no step waits for a device.
        magnitudes: in the operation's unit: pixels, degrees (counter-clockwise), tangents for shears, a fraction for `Scale` and for how much of
            brightness, colour, contrast or sharpness is added; bits to drop for `Posterize`; for `Solarize` how far below 255 inversion begins.
        smooth: whether pixels that move are interpolated linearly; the nearest is taken otherwise.

    >>> operate(torch.full((1, 3, 2, 2), 100, dtype=torch.uint8), ["Brightness"], torch.tensor([0]), torch.tensor([0.5]).double()).unique()
    tensor([150], dtype=torch.uint8)
    """
    made, sides = pictures.clone(), (pictures.shape[2], pictures.shape[3])
    moved, matrices = [], []
    for place, name in enumerate(names):
        rows = (which == place).nonzero().flatten()
        operation = OPERATIONS[name]
        if len(rows) and operation.matrix is not None:
            moved.append(rows)
            matrices.append(operation.matrix(magnitudes[rows], sides))
        elif len(rows) and operation.change is not None:
            there = rows.to(pictures.device)
            made[there] = operation.change(pictures[there], magnitudes[rows])
    if moved:
        there = torch.cat(moved).to(pictures.device)
        made[there] = _warp(pictures[there], torch.cat(matrices).float().to(pictures.device), smooth)
    return made


def allowed(augmentations: Sequence[str]) -> dict[str, float]:
    """The operations that a suite says keep a label, with their largest magnitudes: what `trivial` and `augmix` take.

    The texts are `shift 2 px`, `rotation 12 degrees`, `scaling 15%`, `shear 0.15`, and `brightness 0.3`. `brightness` alone is 0.08, as Glyphs' own light
    varies: at 1.1 times its brightness a first of Glyphs' eight papers loses its order of red, green and blue to white, at 1.5 times all have,
    and that order carries meaning there.

    Args:
        augmentations: of a suite, see `farfield.data.images.Suite`.

    Raises:
        InputError: for another text.

    >>> allowed(["rotation 12.0 degrees", "scaling 15%"])
    {'Identity': 0.0, 'Rotate': 12.0, 'Scale': 0.15}
    """
    found = {"Identity": 0.0}
    for text in augmentations:
        word, amount, unit = _split(text)
        if word not in _WORDS or amount is None or unit != _WORDS[word][0]:
            raise InputError(f"The augmentation {text!r} is not known. There are: {', '.join(_EXAMPLES)}.")
        for name in _WORDS[word][1]:
            found[name] = amount / 100 if unit == "%" else amount
    return check_operations(found)


def check_operations(operations: Mapping[str, float]) -> dict[str, float]:
    """The same, if each is there and its magnitude possible.

    Raises:
        InputError: otherwise.
    """
    if not operations:
        raise InputError("There is no operation to choose from; give Identity for none.")
    for name, limit in operations.items():
        if name not in OPERATIONS:
            raise InputError(f"There is no operation {name!r}{nearest(name, OPERATIONS)} There are: {', '.join(OPERATIONS)}.")
        if not 0 <= limit <= _MOST.get(name, math.inf) or not math.isfinite(limit):
            most = f" and at most {_MOST[name]:g}" if name in _MOST else ""
            raise InputError(f"The largest magnitude of {name} must be a number of at least 0{most}; got {limit!r}.")
    return dict(operations)


_WORDS = {
    "shift": ("px", ("TranslateX", "TranslateY")),
    "rotation": ("degrees", ("Rotate",)),
    "scaling": ("%", ("Scale",)),
    "shear": ("", ("ShearX", "ShearY")),
    "brightness": ("", ("Brightness",)),
}
_EXAMPLES = ("shift 2 px", "rotation 12 degrees", "scaling 15%", "shear 0.15", "brightness", "brightness 0.3")
_MOST = {"Scale": 0.99, "Brightness": 1.0, "Color": 1.0, "Contrast": 1.0, "Sharpness": 1.0, "Posterize": 8.0, "Solarize": 255.0}


def _split(text: str) -> tuple[str, float | None, str]:
    """A word, its amount and unit."""
    match = re.fullmatch(r"([a-z]+)(?: (\d+(?:\.\d+)?) ?([a-z]+|%)?)?", text.strip())
    if match is None:
        return text, None, ""
    word, amount, unit = match.groups()
    if amount is None:
        return word, (0.08 if word == "brightness" else None), ""
    return word, float(amount), unit or ""


# --- pixels that move ---------------------------------------------------------------------------------------------------------------------


def _warp(pictures: UInt8[Tensor, "n 3 h w"], matrices: Float[Tensor, "n 2 3"], smooth: bool) -> UInt8[Tensor, "n 3 h w"]:
    """Each picture drawn anew, with 0 where the source lies outside of it."""
    height, width = pictures.shape[2:]
    x = (torch.arange(width, device=pictures.device) - (width - 1) / 2)[None, None, :]
    y = (torch.arange(height, device=pictures.device) - (height - 1) / 2)[None, :, None]
    # Not a matrix product, whose last bits, and so the pixel nearest to a point midway, depend on the batch.
    half = torch.tensor([[width / 2], [height / 2]], device=pictures.device)
    a, b, c, d, e, f = ((matrices / half).flatten(1).unbind(1)[i][:, None, None] for i in range(6))
    grid = torch.stack([a * x + b * y + c, d * x + e * y + f], 3)
    made: Tensor = F.grid_sample(pictures.float(), grid, mode="bilinear" if smooth else "nearest", padding_mode="zeros", align_corners=False)
    return made.round().to(torch.uint8)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Float64[Tensor, "n 2 3"]:
    return torch.stack([a, b, c, d, e, f], 1).reshape(-1, 2, 3)


def _rotate(degrees: Tensor, sides: tuple[int, int]) -> Tensor:
    angle, zero = torch.deg2rad(degrees), torch.zeros_like(degrees)
    return _matrix(angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero)


def _scale(more: Tensor, sides: tuple[int, int]) -> Tensor:
    size, zero = 1 / (1 + more), torch.zeros_like(more)
    return _matrix(size, zero, zero, zero, size, zero)


def _shear_x(tangent: Tensor, sides: tuple[int, int]) -> Tensor:
    """The first row stays, as in the paper's code."""
    one, zero = torch.ones_like(tangent), torch.zeros_like(tangent)
    return _matrix(one, tangent, tangent * sides[0] / 2, zero, one, zero)


def _shear_y(tangent: Tensor, sides: tuple[int, int]) -> Tensor:
    """The first column stays."""
    one, zero = torch.ones_like(tangent), torch.zeros_like(tangent)
    return _matrix(one, zero, zero, tangent, one, tangent * sides[1] / 2)


def _translate_x(pixels: Tensor, sides: tuple[int, int]) -> Tensor:
    """By whole pixels: what is left over is cut off, as in the paper's code."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return _matrix(one, zero, -pixels.trunc(), zero, one, zero)


def _translate_y(pixels: Tensor, sides: tuple[int, int]) -> Tensor:
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return _matrix(one, zero, zero, zero, one, -pixels.trunc())


# --- pixels that change -------------------------------------------------------------------------------------------------------------------


def _blend(pictures: Tensor, others: Tensor, more: Tensor) -> Tensor:
    """`(1 + m) x - m x'`, within 0 and 255, cut to whole levels."""
    return (_wide(1 + more, pictures) * pictures - _wide(more, pictures) * others).clamp(0, 255).to(torch.uint8)


def _wide(values: Tensor, pictures: Tensor) -> Float[Tensor, "n 1 1 1"]:
    """A value for each picture, beside its pixels."""
    return values.float().to(pictures.device)[:, None, None, None]


def _grey(pictures: Tensor) -> Tensor:
    """`(n, 1, h, w)`, whole levels."""
    red, green, blue = pictures.float().split(1, 1)
    grey: Tensor = 0.2989 * red + 0.587 * green + 0.114 * blue
    return grey.floor()


def _brightness(pictures: Tensor, more: Tensor) -> Tensor:
    return (_wide(1 + more, pictures) * pictures).clamp(0, 255).to(torch.uint8)


def _colour(pictures: Tensor, more: Tensor) -> Tensor:
    return _blend(pictures, _grey(pictures), more)


def _contrast(pictures: Tensor, more: Tensor) -> Tensor:
    # Whole numbers in float64 have one sum, in whatever order a batch's shape has them added.
    return _blend(pictures, _grey(pictures).double().mean((1, 2, 3), keepdim=True).float(), more)


def _sharpness(pictures: Tensor, more: Tensor) -> Tensor:
    """Away from a blur of 3 x 3 pixels, the middle one weighing 5 of 13; the rim stays."""
    if min(pictures.shape[2:]) < 3:
        return pictures
    blur = pictures.float()
    inner = blur[:, :, 1:-1, 1:-1].clone()
    blur[:, :, 1:-1, 1:-1] = ((9 * F.avg_pool2d(pictures.float(), 3, 1) + 4 * inner) / 13).round()
    return _blend(pictures, blur, more)


def _posterize(pictures: Tensor, bits: Tensor) -> Tensor:
    """Without its lowest bits, as many as `bits` rounds to."""
    step = _wide(2 ** bits.round(), pictures).to(torch.int16)
    return (pictures // step * step).to(torch.uint8)


def _solarize(pictures: Tensor, below: Tensor) -> Tensor:
    """Inverted where the value is `255 - below` and more."""
    return torch.where(pictures >= _wide(255 - below, pictures), 255 - pictures, pictures)


def _autocontrast(pictures: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched to 0 ... 255; one of a single value stays."""
    low, high = pictures.float().amin((2, 3), keepdim=True), pictures.float().amax((2, 3), keepdim=True)
    # In whole numbers: times 255 / (high - low) would bring some largest values to 254.99998, which is cut to 254.
    return torch.where(high > low, (pictures - low) * 255 / (high - low), pictures.float()).to(torch.uint8)


def _equalize(pictures: Tensor, _: Tensor) -> Tensor:
    """Each channel's values made equally frequent, after Pillow's table; one whose pixels below the largest value are fewer than 255 stays."""
    pixels = pictures.flatten(2).long()
    counts = pixels.new_zeros(*pixels.shape[:2], 256).scatter_add_(2, pixels, torch.ones_like(pixels))
    step = (pixels.shape[2] - counts.gather(2, pixels.amax(2, keepdim=True))) // 255
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp_min(1)).clamp_max(255)
    return torch.where(step > 0, table.gather(2, pixels), pixels).to(torch.uint8).view_as(pictures)


OPERATIONS = {
    "Identity": Operation(),
    "ShearX": Operation(0.99, True, matrix=_shear_x),
    "ShearY": Operation(0.99, True, matrix=_shear_y),
    "TranslateX": Operation(32.0, True, matrix=_translate_x),
    "TranslateY": Operation(32.0, True, matrix=_translate_y),
    "Rotate": Operation(135.0, True, matrix=_rotate),
    "Brightness": Operation(0.99, True, change=_brightness),
    "Color": Operation(0.99, True, change=_colour),
    "Contrast": Operation(0.99, True, change=_contrast),
    "Sharpness": Operation(0.99, True, change=_sharpness),
    "Posterize": Operation(6.0, change=_posterize),
    "Solarize": Operation(255.0, change=_solarize),
    "AutoContrast": Operation(change=_autocontrast),
    "Equalize": Operation(change=_equalize),
    "Scale": Operation(0.5, True, matrix=_scale),
}
"""By name. The first 14 are TrivialAugment's, wide; `Scale` is for suites that allow it."""
TRIVIAL = {name: operation.largest for name, operation in OPERATIONS.items() if name != "Scale"}

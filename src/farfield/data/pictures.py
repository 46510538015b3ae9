"""One picture file to one 8-bit RGB picture, or a reason why not."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"]
)
_ONE_AT_A_TIME = threading.Lock()
LONGEST = 200  # times as long as wide: resizing the short side of a thinner strip makes gigabytes


class Unreadable(Exception):
    """A picture that cannot be had; the message says why, without saying which."""


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file as 8-bit RGB, upright.

    Turned by its EXIF orientation. Grey, palette and CMYK pictures are converted; alpha is dropped (what lies under it is seen, as in
    torchvision's and timm's loaders); of 16 bits the upper 8 are kept; of an animation the first frame.

    Raises:
        Unreadable: when it is missing, empty, truncated, no picture, of floating point, thinner than 1 to 200, or of so many pixels that
            Pillow takes it for a decompression bomb.
    """
    try:
        if os.path.getsize(path) == 0:
            raise Unreadable("the file is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return upright_rgb(image)
    except Unreadable:
        raise
    except FileNotFoundError as error:
        raise Unreadable("there is no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise Unreadable("it is no picture of a known format") from error
    except Exception as error:  # Pillow's decoders raise nearly every kind for broken files
        raise Unreadable(f"{type(error).__name__}: {error}".replace("\n", " ").removesuffix(": ")) from error


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Keeps libtiff, which writes its complaints to the process's stderr itself, from doing so."""
    with _ONE_AT_A_TIME:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened picture as 8-bit RGB, turned by its EXIF orientation.

    Raises:
        Unreadable: for floating point or 32-bit pixels, and strips.
    """
    width, height = image.size
    if max(width, height) > LONGEST * min(width, height):
        raise Unreadable(f"it is a strip of {width} x {height} pixels")
    with _without_stderr() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()
    with contextlib.suppress(Exception):  # broken EXIF data do not make a picture unreadable
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers of unknown range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("its pixels are 32-bit numbers of unknown range")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert("RGB")

"""From pictures to a model's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from farfield.errors import InputError, nearest

Three = tuple[float, float, float]
LARGEST = 4096  # pixels of a side


def as_pil(picture: Any) -> Image.Image:
    """A PIL picture, an 8-bit tensor `(3, h, w)` or an 8-bit array `(h, w, 3)`, as an RGB PIL picture.

    Raises:
        InputError: for anything else.

    >>> as_pil(torch.zeros(3, 4, 6, dtype=torch.uint8)).size
    (6, 4)
    """
    if isinstance(picture, Image.Image):
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    if isinstance(picture, Tensor) and picture.dtype == torch.uint8 and picture.ndim == 3 and len(picture) == 3:
        picture = picture.permute(1, 2, 0).cpu().numpy()
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(picture))
    shape = f" of shape {tuple(picture.shape)} and type {picture.dtype}" if hasattr(picture, "shape") else ""
    raise InputError(f"A picture is a PIL image, an 8-bit tensor (3, h, w), or an 8-bit array (h, w, 3); got a {type(picture).__name__}{shape}.")


def as_tensor(picture: Any) -> Tensor:
    """A picture as an 8-bit tensor `(3, h, w)`; a tensor stays as it is."""
    return picture if isinstance(picture, Tensor) else torch.from_numpy(np.array(as_pil(picture))).permute(2, 0, 1)


@dataclass(frozen=True)
class FromPictures:
    """A transform of PIL pictures, for pictures of any kind: those in memory are made PIL pictures first."""

    transform: Callable[[Image.Image], Any]

    def __call__(self, picture: Any) -> Any:
        """The model's input."""
        return self.transform(as_pil(picture))


@dataclass(frozen=True)
class Normalize:
    """`(x / 255 - mean) / std` per channel, for one 8-bit picture `(3, h, w)` or a batch `(n, 3, h, w)`, or a PIL picture.

    With `size`, PIL pictures of another size are made `size` x `size` first (bilinear, antialiased, the aspect ignored).

    >>> Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(torch.full((3, 1, 1), 255, dtype=torch.uint8)).flatten()
    tensor([1., 1., 1.])
    """

    mean: Three
    std: Three
    size: int | None = None
    batched: ClassVar[bool] = True

    def __call__(self, images: Any) -> Float[Tensor, "... 3 h w"]:
        """The model's input."""
        if isinstance(images, Image.Image) and self.size is not None and images.size != (self.size, self.size):
            images = images.resize((self.size, self.size), Image.Resampling.BILINEAR)
        images = as_tensor(images)
        mean = torch.tensor(self.mean, device=images.device)[:, None, None]
        std = torch.tensor(self.std, device=images.device)[:, None, None]
        normal: Tensor = (images.float() / 255 - mean) / std
        return normal


@dataclass(frozen=True)
class Preprocess:
    """The usual evaluation transform: the shorter side to `resize`, the middle `crop` x `crop`, then `(x / 255 - mean) / std`.

    Args:
        resize: pixels of the shorter side; 0 makes the whole picture `crop` x `crop`, its aspect ignored.
        crop: pixels of a side.
        mean: of each channel, in [0, 1].
        std: likewise, above 0.
        interpolation: `bilinear`, `bicubic` or `nearest`; antialiased.

    >>> Preprocess.parse("resize=8,crop=6,mean=0.5/0.5/0.5,std=0.5/0.5/0.5")(Image.new("RGB", (20, 10), "white")).shape
    torch.Size([3, 6, 6])
    """

    resize: int = 256
    crop: int = 224
    mean: Three = (0.485, 0.456, 0.406)
    std: Three = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= LARGEST or 0 < self.resize < self.crop or not 0 <= self.resize <= LARGEST:
            raise InputError(
                f"Preprocessing needs crop >= 1 and resize >= crop, or resize=0, and neither over {LARGEST}; got resize={self.resize}, crop={self.crop}."
            )
        if not all(s > 0 for s in self.std):
            raise InputError(f"Preprocessing needs std > 0; got {self.std}.")
        if self.interpolation not in ("bilinear", "bicubic", "nearest"):
            raise InputError(f"Preprocessing has no interpolation {self.interpolation!r}; use bilinear, bicubic or nearest.")

    @staticmethod
    def parse(text: str) -> Preprocess:
        """From `resize=256,crop=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5,interpolation=bicubic`; what is not said is ImageNet's usual.

        Raises:
            InputError: for an unknown name or a value of another kind.
        """
        given: dict[str, Any] = {}
        for pair in text.split(","):
            name, _, value = (part.strip() for part in pair.partition("="))
            if name not in Preprocess.__dataclass_fields__:
                raise InputError(
                    f"Preprocessing has no {name!r}{nearest(name, Preprocess.__dataclass_fields__)} It has: {', '.join(Preprocess.__dataclass_fields__)}."
                )
            try:
                if name in ("mean", "std"):
                    three = tuple(float(part) for part in value.split("/"))
                    given[name] = three * 3 if len(three) == 1 else three
                    if len(given[name]) != 3 or not all(np.isfinite(given[name])):
                        raise ValueError
                else:
                    given[name] = value if name == "interpolation" else int(value)
            except ValueError as error:
                kind = "three numbers as 0.5/0.5/0.5" if name in ("mean", "std") else "a whole number"
                raise InputError(f"Preprocessing takes {kind} for {name}; got {value!r}.") from error
        return Preprocess(**given)

    def text(self) -> str:
        """What `parse` makes this of.

        >>> Preprocess.parse(Preprocess(crop=200).text()) == Preprocess(crop=200)
        True
        """
        mean, std = ("/".join(repr(value) for value in three) for three in (self.mean, self.std))
        return f"resize={self.resize},crop={self.crop},mean={mean},std={std},interpolation={self.interpolation}"

    def __call__(self, picture: Any) -> Float[Tensor, "3 h w"]:
        """The model's input."""
        image = as_pil(picture)
        how = Image.Resampling[self.interpolation.upper()]
        if self.resize == 0:
            image = image.resize((self.crop, self.crop), how)
        else:
            width, height = image.size
            short = min(width, height)
            width, height = int(self.resize * width / short), int(self.resize * height / short)
            left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
            image = image.resize((width, height), how).crop((left, top, left + self.crop, top + self.crop))
        return Normalize(self.mean, self.std)(image)

"""Augmentations: each agrees with torchvision's, one picture at a time, and a picture's own does not depend on whom it shares a batch with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as vision
from torchvision.transforms.v2 import functional as tv

from farfield.data import glyphs
from farfield.errors import InputError
from farfield.training import Draws, make_objective
from farfield.training.operations import OPERATIONS, TRIVIAL, allowed, operate
from farfield.training.pictures import augmix, crop, erase, flip, jigsaw, shuffle_channels, tile_sizes, trivial

SHAPES = [(1, 1), (2, 5), (7, 7), (16, 24), (33, 18), (32, 32)]
GLYPHS = allowed(glyphs.AUGMENTATIONS)


def noise(n: int, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    return torch.randint(256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def smooth(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Pictures with few values, many of them the same, and channels of one value alone."""
    made = noise(n, height, width, seed) // 64 * 40 + 20
    made[: n // 4, 1] = 77
    made[n // 4 : n // 3] = made[n // 4 : n // 3, :1]
    return made


def draws(n: int, step: int = 0, first: int = 0) -> Draws:
    return Draws(5, step, torch.arange(first, first + n))


def one(name: str, pictures: Tensor, magnitudes: Tensor, smoothly: bool = False) -> Tensor:
    return operate(pictures, [name], torch.zeros(len(pictures), dtype=torch.long), magnitudes.double(), smoothly)


# --- the operations -----------------------------------------------------------------------------------------------------------------------


def affine(picture: Tensor, mode: InterpolationMode, center: list[float] | None = None, **given: object) -> Tensor:
    return tv.affine(picture, **{"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **given}, interpolation=mode, center=center)


ORACLES: dict[str, Callable[[Tensor, float, InterpolationMode], Tensor]] = {
    "Identity": lambda x, m, mode: x,
    "ShearX": lambda x, m, mode: affine(x, mode, [0.0, 0.0], shear=[math.degrees(math.atan(m)), 0.0]),
    "ShearY": lambda x, m, mode: affine(x, mode, [0.0, 0.0], shear=[0.0, math.degrees(math.atan(m))]),
    "TranslateX": lambda x, m, mode: affine(x, mode, translate=[int(m), 0]),
    "TranslateY": lambda x, m, mode: affine(x, mode, translate=[0, int(m)]),
    "Rotate": lambda x, m, mode: tv.rotate(x, m, mode),
    "Scale": lambda x, m, mode: affine(x, mode, scale=1 + m),
    "Brightness": lambda x, m, mode: tv.adjust_brightness(x, 1 + m),
    "Color": lambda x, m, mode: tv.adjust_saturation(x, 1 + m),
    "Contrast": lambda x, m, mode: tv.adjust_contrast(x, 1 + m),
    "Sharpness": lambda x, m, mode: tv.adjust_sharpness(x, 1 + m),
    "Posterize": lambda x, m, mode: tv.posterize(x, 8 - round(m)),
    "Solarize": lambda x, m, mode: tv.solarize(x, 255 - m),
    "AutoContrast": lambda x, m, mode: tv.autocontrast(x),
    "Equalize": lambda x, m, mode: tv.equalize(x),
}
EXACT = {"Identity", "TranslateX", "TranslateY", "Brightness", "Posterize", "Solarize", "Equalize"}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name: str, shape: tuple[int, int]) -> None:
    operation = OPERATIONS[name]
    magnitudes = torch.linspace(0, operation.largest, 31, dtype=torch.float64)
    magnitudes = torch.cat([magnitudes, -magnitudes]) if operation.signed else magnitudes.repeat(2)
    for pictures in (noise(62, *shape), smooth(62, *shape)):
        made = one(name, pictures, magnitudes)
        wanted = torch.stack([ORACLES[name](x, float(m), InterpolationMode.NEAREST) for x, m in zip(pictures, magnitudes, strict=True)])
        apart = (made.int() - wanted.int()).abs()
        if name in EXACT:
            assert apart.max() == 0
        elif operation.change is not None:
            assert apart.max() <= 1  # float32 sums that end close to a whole level
        else:
            assert (apart > 0).float().mean() < 0.002  # sources midway between two pixels, where a machine multiplies matrices otherwise
            assert made.dtype == torch.uint8


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if operation.matrix is not None])
def test_smooth_moves_are_torchvisions(name: str) -> None:
    magnitudes = torch.linspace(-1, 1, 21, dtype=torch.float64) * OPERATIONS[name].largest
    pictures = noise(21, 16, 24)
    wanted = torch.stack([ORACLES[name](x, float(m), InterpolationMode.BILINEAR) for x, m in zip(pictures, magnitudes, strict=True)])
    assert (one(name, pictures, magnitudes, True).int() - wanted.int()).abs().max() <= 1


def test_operations_share_a_batch() -> None:
    pictures, names = noise(90, 9, 13), list(OPERATIONS)
    which = torch.arange(90) % len(names)
    magnitudes = torch.tensor([OPERATIONS[names[i]].largest for i in which]).double() / 3
    together = operate(pictures, names, which, magnitudes)
    for i, name in enumerate(names):
        rows = which == i
        assert torch.equal(together[rows], one(name, pictures[rows], magnitudes[rows]))
    assert torch.equal(operate(pictures, names, torch.full((90,), -1), magnitudes), pictures)  # none of them
    assert len(operate(pictures[:0], names, which[:0], magnitudes[:0])) == 0


def test_known_answers() -> None:
    row = torch.tensor([10, 20, 30, 200, 255], dtype=torch.uint8).expand(1, 3, 5, 5)
    m = torch.tensor
    assert one("TranslateX", row, m([2.0]))[0, 0, 0].tolist() == [0, 0, 10, 20, 30]
    assert one("TranslateX", row, m([-1.9]))[0, 0, 0].tolist() == [20, 30, 200, 255, 0]  # whole pixels, towards zero
    assert one("Rotate", row, m([90.0]))[0, 0, :, 0].tolist() == [255, 200, 30, 20, 10]  # counter-clockwise
    assert one("Brightness", row, m([0.5]))[0, 0, 0].tolist() == [15, 30, 45, 255, 255]
    assert one("Posterize", row, m([6.0]))[0, 0, 0].tolist() == [0, 0, 0, 192, 192]
    assert one("Posterize", row, m([8.0])).max() == 0
    assert one("Solarize", row, m([60.0]))[0, 0, 0].tolist() == [10, 20, 30, 55, 0]
    assert one("Solarize", row, m([-1.0]))[0, 0, 0].tolist() == [10, 20, 30, 200, 255]
    assert one("AutoContrast", row, m([0.0]))[0, 0, 0].tolist() == [0, 10, 20, 197, 255]
    assert one("Color", row, m([-1.0])).float().sub(row).abs().max() <= 1  # grey stays grey
    assert torch.equal(one("Contrast", row, m([-1.0])).unique(), m([102], dtype=torch.uint8))  # its mean, of levels 9, 19, 29, 199, 254
    assert one("Scale", row, m([-0.5]))[0, 0, 2].tolist() == [0, 10, 30, 255, 0]


def test_what_a_suite_allows() -> None:
    limits = {"TranslateX": 2.0, "TranslateY": 2.0, "Rotate": 12.0, "Scale": 0.15, "ShearX": 0.15, "ShearY": 0.15, "Brightness": 0.08}
    assert pytest.approx({"Identity": 0.0} | limits) == GLYPHS
    assert allowed(()) == {"Identity": 0.0}
    assert allowed(["brightness 0.3"])["Brightness"] == 0.3
    for wrong in ("flip", "hue 0.1", "shift", "shift 2", "shift 2 degrees", "rotation -3 degrees", "scaling", "shear 0.1 px", "brightness 3%", ""):
        with pytest.raises(InputError, match=f"'{wrong}' is not known"):
            allowed([wrong])
    with pytest.raises(InputError, match=r"Scale must be a number of at least 0 and at most 0\.99; got 2"):
        allowed(["scaling 200%"])


def test_brightness_keeps_the_palette_of_glyphs() -> None:
    palette = torch.tensor([*glyphs.PAPERS, *glyphs.INKS]).mul(255).round().to(torch.uint8)[:, :, None, None]
    sign = torch.tensor([1] * len(glyphs.PAPERS) + [-1] * len(glyphs.INKS))

    def ordered(share: float) -> Tensor:
        red, green, blue = one("Brightness", palette, torch.full((len(palette),), share)).int().flatten(1).unbind(1)
        return ((red - green) * sign > 0) & ((green - blue) * sign > 0)

    assert ordered(GLYPHS["Brightness"]).all()
    assert ordered(-GLYPHS["Brightness"]).all()
    assert not ordered(0.5)[: len(glyphs.PAPERS)].any()


@pytest.mark.parametrize(
    ("operations", "says"),
    [
        ({"Rotat": 3.0}, "did you mean 'Rotate'"),
        ({}, "no operation to choose from"),
        ({"Rotate": -1.0}, "Rotate must be"),
        ({"Rotate": math.nan}, "Rotate must be"),
        ({"ShearX": math.inf}, "ShearX must be"),
        ({"Scale": 1.0}, "Scale must be"),
        ({"Posterize": 9.0}, "Posterize must be"),
    ],
)
def test_impossible_operations(operations: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        trivial(noise(2), draws(2), operations)
    with pytest.raises(InputError, match=says):
        augmix(noise(2), draws(2), "one", operations=operations)


# --- whoever is in the batch --------------------------------------------------------------------------------------------------------------

ALL: dict[str, Callable[[Tensor, Draws], Tensor]] = {
    "jigsaw": lambda x, d: jigsaw(x, 3, d),
    "flip": flip,
    "erase": lambda x, d: erase(x.float(), d, 0.7),
    "trivial": trivial,
    "trivial of Glyphs": lambda x, d: trivial(x, d, GLYPHS),
    "augmix": lambda x, d: augmix(x, d, "one"),
    "augmix of Glyphs": lambda x, d: augmix(x, d, "one", 10.0, 2, 2, GLYPHS),
    "channels": shuffle_channels,  # of noise, which is never left out
}


@pytest.mark.parametrize("name", ALL)
def test_a_pictures_own_is_its_own(name: str) -> None:
    act, pictures, random = ALL[name], noise(60, 18, 13), draws(60)
    made = act(pictures, random)
    before = pictures.clone()
    assert torch.equal(made, act(pictures, random))
    assert torch.equal(pictures, before)  # nothing is done in place
    for seed in range(3):
        rows = torch.randperm(60, generator=torch.Generator().manual_seed(seed))[: 7 + 20 * seed]
        assert torch.equal(act(pictures[rows], random.of(rows)), made[rows])
    for i in range(5):
        assert torch.equal(act(pictures[i : i + 1], random.of(slice(i, i + 1))), made[i : i + 1])
    assert torch.equal(act(pictures.contiguous(memory_format=torch.channels_last), random), made)
    assert not torch.equal(act(pictures, draws(60, step=1)), made)
    assert not torch.equal(act(pictures, draws(60, first=60)), made)
    assert made.shape == pictures.shape
    assert len(act(pictures[:0], random.of(slice(0)))) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (40, 3)], ids=str)
def test_any_shape(shape: tuple[int, int]) -> None:
    grey = noise(200, *shape)[:, :1].expand(-1, 3, -1, -1).contiguous()
    for pictures in (noise(200, *shape), grey, torch.zeros_like(grey), torch.full_like(grey, 255)):
        for name in set(ALL) - {"jigsaw", "channels"}:
            made = ALL[name](pictures, draws(200))
            assert made.shape == pictures.shape
            assert torch.isfinite(made.float()).all()
    assert shuffle_channels(grey, draws(200)).shape == (0, 3, *shape)


# --- jigsaw and channels ------------------------------------------------------------------------------------------------------------------


def test_tile_sizes() -> None:
    assert tile_sizes((2, 3, 5, 10, 15, 30, 60), (224, 224)) == [2, 3, 5, 10, 15, 30, 60]
    assert tile_sizes((1, 2, 3), (5, 100)) == [1, 2]
    for sizes, shape in (((2, 3), (3, 100)), ((), (32, 32)), ((0,), (32, 32))):
        with pytest.raises(InputError, match=f"{shape[0]} x {shape[1]} pixels are too small"):
            tile_sizes(sizes, shape)
    with pytest.raises(InputError, match="too small"):
        jigsaw(noise(1, 7, 20), 4, draws(1))


@settings(max_examples=60)
@given(st.integers(2, 17), st.integers(2, 17), st.integers(1, 8), st.integers(0, 10**6))
def test_a_jigsaw_moves_whole_tiles(height: int, width: int, size: int, step: int) -> None:
    size = min(size, min(height, width) // 2)
    pictures = noise(6, height, width, step)
    made = jigsaw(pictures, size, draws(6, step))
    rows, columns = height // size * size, width // size * size
    assert torch.equal(made[:, :, rows:], pictures[:, :, rows:])
    assert torch.equal(made[:, :, :, columns:], pictures[:, :, :, columns:])

    def tiles(picture: Tensor) -> list[bytes]:
        return [picture[:, i : i + size, j : j + size].numpy().tobytes() for i in range(0, rows, size) for j in range(0, columns, size)]

    for one, other in zip(made, pictures, strict=True):
        assert Counter(tiles(one)) == Counter(tiles(other))
    places = torch.arange(height * width).reshape(1, 1, height, width).remainder(256).to(torch.uint8).expand(40, 3, -1, -1)
    if height * width <= 256:  # then each pixel is another, and a picture that stays has kept its order
        assert (jigsaw(places, size, draws(40, step)) != places).flatten(1).any(1).all()


def test_a_jigsaw_takes_every_order_alike() -> None:
    places = torch.arange(4).reshape(1, 1, 2, 2).to(torch.uint8).expand(6900, 3, 2, 2)
    seen = Counter(tuple(row) for row in jigsaw(places, 1, draws(6900))[:, 0].flatten(1).tolist())
    assert len(seen) == 23
    assert min(seen.values()) > 200 and sorted(seen.values())[-2] < 400  # 288 each; the one that stands in for the identity has twice as many
    assert seen[3, 0, 1, 2] < 750


def test_channels_are_exchanged() -> None:
    pictures = noise(1000, 4, 5)
    made = shuffle_channels(pictures, draws(1000))
    assert torch.equal(made.sort(1).values, pictures.sort(1).values)
    assert (made != pictures).flatten(1).any(1).all()
    orders = Counter(tuple(int((x == channel).flatten(1).all(1).nonzero()) for channel in y) for x, y in zip(pictures, made, strict=True))
    assert len(orders) == 5 and min(orders.values()) > 150
    some = pictures.clone()
    some[::2] = some[::2, :1]  # grey
    assert torch.equal(shuffle_channels(some, draws(1000)), made[1::2])
    two = pictures.clone()
    two[:, 1] = two[:, 0]  # one of five orders changes nothing
    assert 750 < len(shuffle_channels(two, draws(1000))) < 850


# --- flip, erase, crop --------------------------------------------------------------------------------------------------------------------


def test_flip() -> None:
    pictures = noise(2000, 3, 4)
    made = flip(pictures, draws(2000))
    turned = (made == pictures.flip(3)).flatten(1).all(1)
    assert 900 < turned.sum() < 1100
    assert torch.equal(made[~turned], pictures[~turned])
    assert torch.equal(flip(pictures, draws(2000), 1.0), pictures.flip(3))
    assert torch.equal(flip(pictures, draws(2000), 0.0), pictures)
    with pytest.raises(InputError, match=r"chance to flip must lie in \[0, 1\]; got 1.5"):
        flip(pictures, draws(2000), 1.5)


@pytest.mark.parametrize("shape", [(32, 32), (20, 50), (3, 4)], ids=str)
def test_erase_is_the_loop(shape: tuple[int, int]) -> None:
    height, width = shape
    random = draws(400)
    made = erase(torch.ones(400, 3, *shape), random, 0.6)
    numbers, chances = random.uniform("erase", 4, 10).double().tolist(), random.uniform("erase, chance").tolist()
    for picture, (shares, proportions, downs, acrosses), chance in zip(made, numbers, chances, strict=True):
        wanted = torch.ones(3, *shape)
        for share, proportion, down, across in zip(shares, proportions, downs, acrosses, strict=True):
            area, aspect = height * width * (0.02 + 0.31 * share), math.exp(math.log(0.3) + proportion * (math.log(3.3) - math.log(0.3)))
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width:
                top, left = int(down * (height - tall + 1)), int(across * (width - wide + 1))
                if chance < 0.6:
                    wanted[:, top : top + tall, left : left + wide] = 0
                break
        assert torch.equal(picture, wanted)


def test_erase_takes_the_share_it_says() -> None:
    inputs = torch.randn(3000, 3, 32, 32, generator=torch.Generator().manual_seed(0)).abs() + 1
    made = erase(inputs, draws(3000), 1.0)
    gone = made == 0
    assert torch.equal(made[~gone], inputs[~gone])
    assert torch.equal(gone.all(1), gone.any(1))
    share = gone[:, 0].float().mean((1, 2))
    assert share.min() > 0.01 and share.max() < 0.35
    assert share.mean() == pytest.approx(0.175, abs=0.01)
    torch.manual_seed(0)
    theirs = vision.RandomErasing(1.0)
    other = torch.stack([(theirs(x) == 0)[0].float().mean() for x in inputs[:600]])
    assert share.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx(other.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist(), abs=0.02)
    middle = gone[:, 0].float().mean(0)
    assert (middle - middle.flip(0)).abs().max() < 0.05 and (middle - middle.flip(1)).abs().max() < 0.05 and (middle - middle.T).abs().max() < 0.05
    assert 200 < (erase(inputs, draws(3000)) == 0).flatten(1).any(1).sum() < 400
    assert torch.equal(erase(inputs, draws(3000), 0.0), inputs)
    assert erase(inputs.bfloat16(), draws(3000)).dtype == torch.bfloat16
    with pytest.raises(InputError, match="chance to erase must lie"):
        erase(inputs, draws(3000), -0.1)


def photograph(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("sides", [(60, 40), (31, 64), (500, 8), (3, 300), (1, 1)], ids=str)
def test_crop_is_the_loop(sides: tuple[int, int]) -> None:
    picture, (wide, tall) = photograph(*sides), sides
    for i in range(30):
        random = draws(1, first=i)
        shares, proportions, acrosses, downs = random.uniform("crop", 4, 10)[0].double().tolist()
        for share, proportion, across, down in zip(shares, proportions, acrosses, downs, strict=True):
            area, aspect = wide * tall * (0.08 + 0.92 * share), math.exp(math.log(3 / 4) + proportion * (math.log(4 / 3) - math.log(3 / 4)))
            width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < width <= wide and 0 < height <= tall:
                left, top = int(across * (wide - width + 1)), int(down * (tall - height + 1))
                break
        else:
            width, height = (
                (wide, round(wide / 0.75)) if wide / tall < 3 / 4 else (round(tall * 4 / 3), tall) if wide / tall > 4 / 3 else (wide, tall)
            )
            left, top = (wide - width) // 2, (tall - height) // 2
        wanted = tv.resized_crop(picture, top, left, height, width, [24, 24], InterpolationMode.BILINEAR)
        assert np.array_equal(np.asarray(crop(picture, 24, random)), np.asarray(wanted))


def test_crop_options() -> None:
    picture = photograph(40, 40)
    whole = crop(picture, 20, draws(1), (1.0, 1.0), (1.0, 1.0))
    assert np.array_equal(np.asarray(whole), np.asarray(picture.resize((20, 20), Image.Resampling.BILINEAR)))
    with pytest.raises(InputError, match="of one picture; the random numbers are of 2"):
        crop(picture, 20, draws(2))
    for size, scale, ratio in ((0, (0.1, 1), (1, 1)), (8, (0, 1), (1, 1)), (8, (0.5, 0.1), (1, 1)), (8, (0.1, 2), (1, 1)), (8, (0.1, 1), (0, 1))):
        with pytest.raises(InputError, match="A crop needs"):
            crop(picture, size, draws(1), scale, ratio)


# --- TrivialAugment and AugMix ------------------------------------------------------------------------------------------------------------


def test_trivial_has_the_papers_space() -> None:
    theirs = vision.TrivialAugmentWide._AUGMENTATION_SPACE
    assert list(TRIVIAL) == list(theirs)
    for name, (magnitudes, signed) in theirs.items():
        assert OPERATIONS[name].signed == signed
        values = magnitudes(31, 32, 32)
        if values is None:
            assert TRIVIAL[name] == 0
            continue
        mine = torch.arange(31).double() / 30 * TRIVIAL[name]
        own = {"Posterize": 8 - mine.round(), "Solarize": 1 - mine / 255}.get(name, mine)
        assert own.tolist() == pytest.approx(values.tolist(), abs=1e-5)


def test_trivial_is_one_operation_of_the_oracles() -> None:
    pictures, random = noise(700, 16, 20), draws(700)
    made, names = trivial(pictures, random), list(TRIVIAL)
    which = random.choice("trivial, operation", 14).tolist()
    share, sign = random.choice("trivial, magnitude", 31).double() / 30, random.uniform("trivial, sign")
    assert min(Counter(which).values()) > 25 and len(set(share.tolist())) == 31  # 50 of each
    wrong = 0
    for i, x in enumerate(pictures):
        name = names[which[i]]
        magnitude = float(share[i]) * TRIVIAL[name] * (-1 if OPERATIONS[name].signed and sign[i] < 0.5 else 1)
        apart = (ORACLES[name](x, magnitude, InterpolationMode.NEAREST).int() - made[i].int()).abs()
        wrong += int((apart > 1).sum())
    assert wrong / made.numel() < 1e-3


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("Solarize", "AutoContrast", "Equalize")])
def test_nothing_at_magnitude_zero(name: str) -> None:
    pictures = noise(40, 17, 12)
    assert torch.equal(trivial(pictures, draws(40), {name: 0.0}), pictures)


def test_trivial_goes_as_far_as_it_is_told() -> None:
    row = torch.full((3000, 3, 9, 9), 100, dtype=torch.uint8)
    levels = trivial(row, draws(3000), {"Brightness": 0.3})[:, 0, 0, 0].int()
    assert (levels.min(), levels.max()) == (70, 130)
    assert len(levels.unique()) >= 59  # of 61; two may be cut to one level
    assert levels.float().mean() == pytest.approx(99.75, abs=1.5)
    assert 1350 < (levels < 100).sum() < 1550
    both = trivial(row, draws(3000), {"Identity": 0, "Brightness": 0.3})[:, 0, 0, 0]
    assert 1450 < (both == 100).sum() < 1680  # half, and one in 31 of the other half


@pytest.mark.parametrize("depth", [0, 2])
def test_augmix_is_its_formula(depth: int) -> None:
    """A loop over pictures, chains and operations, as the paper's code has it, from the same numbers."""
    width, severity, pictures, random = 3, 7.0, noise(60, 18, 15), draws(60)
    made, most = augmix(pictures, random, "one", severity, width, depth), depth or 3
    names = ["AutoContrast", "Equalize", "Posterize", "Rotate", "Solarize", "ShearX", "ShearY", "TranslateX", "TranslateY"]
    u = {what: random.uniform(f"augmix one, {what}", width, most).double() for what in ("operation", "level", "sign")}
    depths = torch.full((60, width), depth) if depth else (random.uniform("augmix one, depth", width) * 3).long() + 1
    exponential = -(1 - random.uniform("augmix one, weights", width).double()).log()
    skip = random.uniform("augmix one, skip")
    mode, apart = InterpolationMode.BILINEAR, []
    assert depth or set(depths.flatten().tolist()) == {1, 2, 3}
    for i, x in enumerate(pictures):
        mixed = torch.zeros(3, 18, 15)
        for k in range(width):
            chain = x
            for at in range(int(depths[i, k])):
                name = names[int(u["operation"][i, k, at] * 9)]
                level = (0.1 + (severity - 0.1) * float(u["level"][i, k, at])) / 10
                sign = -1 if u["sign"][i, k, at] < 0.5 else 1
                if name == "Posterize":
                    chain = tv.posterize(chain, 4 - int(level * 4))
                elif name == "Solarize":
                    cut = 256 - int(level * 256)
                    chain = tv.solarize(chain, cut) if cut < 256 else chain
                elif name == "Rotate":
                    chain = tv.rotate(chain, sign * int(level * 30), mode)
                elif name.startswith("Shear"):
                    chain = ORACLES[name](chain, sign * level * 0.3, mode)
                else:
                    chain = ORACLES[name](chain, sign * int(level * (15 if name[-1] == "X" else 18) / 3), mode)
            mixed += float(exponential[i, k] / exponential[i].sum()) * chain
        wanted = ((1 - skip[i]) * x + skip[i] * mixed).round()
        apart.append((wanted - made[i]).abs())
    assert torch.stack(apart).mean() < 0.05
    assert (torch.stack(apart) > 2).float().mean() < 0.01  # a level's difference may be posterised or equalised into more


def test_augmix_stays_close_where_it_is_gentle() -> None:
    pictures = noise(50, 32, 32)
    least = augmix(pictures, draws(50), "one", 1e-3, operations={"Rotate": 1.0, "Identity": 0.0})
    assert (least.int() - pictures).abs().max() <= 3
    assert torch.equal(augmix(pictures, draws(50), "one", 3.0, operations={"Identity": 0.0, "Rotate": 0.0}), pictures)

    def moved(severity: float) -> float:
        return float((augmix(glyph, draws(len(glyph)), "one", severity, operations=GLYPHS).float() - glyph).abs().mean())

    glyph = torch.nn.functional.interpolate(noise(50, 4, 4).float(), (32, 32), mode="bilinear").to(torch.uint8)
    assert moved(0.1) < 0.5 * moved(3) < 0.5 * moved(10)


def test_augmix_mixes() -> None:
    """Of white pictures that every chain shifts out of sight remains `1 - m`, uniform, whatever the chains and their weights."""
    white, away = torch.full((4000, 3, 2, 2), 200, dtype=torch.uint8), {"TranslateX": 1e6}
    made = augmix(white, draws(4000), "one", 3.0, 1, 1, away)
    assert made[:, 0, 0, 0].float().quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() == pytest.approx([0, 50, 100, 150, 200], abs=6)
    assert torch.equal(made, augmix(white, draws(4000), "one", 3.0, 4, 0, away))
    assert not torch.equal(made, augmix(white, draws(4000), "two", 3.0, 1, 1, away))
    half = augmix(white, draws(4000), "one", 3.0, 2, 1, away | {"Identity": 0})[:, 0, 0, 0].float()
    assert 900 < (half == 200).sum() < 1120  # both chains stay: a quarter, and where the weight is next to nothing
    assert half.mean() == pytest.approx(150, abs=3)  # half of the chains go, with a mean weight of a half


@pytest.mark.parametrize("given", [{"severity": 0.0}, {"severity": 11.0}, {"severity": math.nan}, {"width": 0}, {"depth": -1}], ids=str)
def test_augmix_options(given: dict[str, float]) -> None:
    with pytest.raises(InputError, match="AugMix needs"):
        augmix(noise(1), draws(1), "one", **given)  # type: ignore[arg-type]


def test_augmix_as_an_objective_takes_a_suites_operations() -> None:
    objective = make_objective("augmix", {"operations": GLYPHS, "severity": 10})
    assert objective.operations == GLYPHS  # type: ignore[attr-defined]

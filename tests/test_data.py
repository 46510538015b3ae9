"""Pictures, folders, lists, the order of classes, preprocessing and Hugging Face data sets, against pixels and paths written by hand."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as tv

import farfield as ff
from farfield.data.files import Files, folder
from farfield.data.hub import Hub, from_hub, load_hub
from farfield.data.lists import image_list
from farfield.data.order import read_class_map, with_classes
from farfield.data.pictures import EXTENSIONS, Unreadable, read_picture
from farfield.data.transforms import FromPictures, Normalize, Preprocess, as_pil, as_tensor

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path | str | bytes, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (4, 3)) -> None:
    """A picture file of one colour; PNG, whatever its name."""
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 (names may be bytes)
    with open(path, "wb") as file:  # noqa: PTH123
        Image.new("RGB", size, colour).save(file, "PNG")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def pixels(path: Path) -> list[Any]:
    image = read_picture(path)
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def grey(values: Sequence[Sequence[int]]) -> list[Any]:
    return [[[v, v, v] for v in row] for row in values]


# Pictures


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(np.array([[0x0000, 0x00FF, 0x12FE], [0x8000, 0xFEFF, 0xFFFF]], np.uint16)).save(tmp_path / f"x.{suffix}")
    assert pixels(tmp_path / f"x.{suffix}") == grey([[0x00, 0x00, 0x12], [0x80, 0xFE, 0xFF]])


def test_sixteen_bits_of_the_other_byte_order(tmp_path: Path) -> None:
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 122), (278, 3, 1, 1), (279, 4, 1, 4)]
    packed = b"".join(struct.pack(">HHI", *entry[:3]) + struct.pack(">I" if entry[1] == 4 else ">Hxx", entry[3]) for entry in entries)
    header = struct.pack(">2sHIH", b"MM", 42, 8, len(entries)) + packed + struct.pack(">I", 0)
    (tmp_path / "x.tif").write_bytes(header.ljust(122, b"\0") + bytes([0x12, 0xFF, 0xAB, 0x00]))
    assert pixels(tmp_path / "x.tif") == grey([[0x12, 0xAB]])


def test_grey_two_tone_palette_and_cmyk_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7], [200, 255]], np.uint8)).save(tmp_path / "grey.png")
    assert pixels(tmp_path / "grey.png") == grey([[0, 7], [200, 255]])
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "two.png")
    assert pixels(tmp_path / "two.png") == grey([[0, 255]])
    palette = Image.new("P", (2, 1))
    palette.putpalette([*BLUE, 9, 8, 7])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png")
    assert pixels(tmp_path / "palette.png") == [[[0, 0, 255], [9, 8, 7]]]
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    found = np.array(pixels(tmp_path / "cmyk.jpg"))
    assert np.abs(found - [255, 0, 0]).max() <= 6


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [("RGBA", (10, 20, 30, 0), [10, 20, 30]), ("RGBA", (10, 20, 30, 128), [10, 20, 30]), ("LA", (77, 0), [77, 77, 77])],
)
def test_alpha_is_dropped_and_not_blended(tmp_path: Path, mode: str, values: tuple[int, ...], expected: list[int]) -> None:
    Image.new(mode, (2, 1), values).save(tmp_path / "x.png")
    assert pixels(tmp_path / "x.png") == [[expected, expected]]


def test_a_transparent_colour_of_a_palette_is_seen(tmp_path: Path) -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([*GREEN])
    image.save(tmp_path / "x.png", transparency=0)
    assert pixels(tmp_path / "x.png") == [[[0, 255, 0]]]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in (RED, GREEN, BLUE)]
    more = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **more)
    with Image.open(tmp_path / f"x.{suffix}") as opened:
        assert opened.n_frames == 3  # type: ignore[attr-defined]
    assert pixels(tmp_path / f"x.{suffix}") == [[[255, 0, 0]] * 3] * 2


# By the EXIF standard: which side of the upright picture the first row and the first column of the stored one are.
UPRIGHT = ("abc", "def")
STORED = {
    1: ("abc", "def"),  # top, left
    2: ("cba", "fed"),  # top, right
    3: ("fed", "cba"),  # bottom, right
    4: ("def", "abc"),  # bottom, left
    5: ("ad", "be", "cf"),  # left, top
    6: ("cf", "be", "ad"),  # right, top
    7: ("fc", "eb", "da"),  # right, bottom
    8: ("da", "eb", "fc"),  # left, bottom
}
INK = {"a": (250, 10, 10), "b": (10, 250, 10), "c": (10, 10, 250), "d": (240, 240, 20), "e": (20, 20, 20), "f": (240, 240, 240)}


def drawn(rows: Sequence[str], scale: int = 1) -> np.ndarray:
    return np.array([[INK[letter] for letter in row] for row in rows], np.uint8).repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_every_exif_orientation_makes_the_picture_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(drawn(STORED[orientation])).save(tmp_path / f"x.{suffix}", exif=exif, **more)
    assert np.array_equal(np.asarray(read_picture(tmp_path / f"x.{suffix}")), drawn(UPRIGHT))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_of_a_jpeg(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(drawn(STORED[orientation], 16)).save(tmp_path / "x.jpg", exif=exif, quality=100, subsampling=0)
    found = np.asarray(read_picture(tmp_path / "x.jpg")).astype(int)
    assert found.shape == (32, 48, 3)
    assert np.abs(found - drawn(UPRIGHT, 16)).max() <= 8


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0"])
def test_broken_exif_data_do_not_make_a_picture_unreadable(tmp_path: Path, exif: bytes) -> None:
    Image.new("RGB", (8, 8), (128, 128, 128)).save(tmp_path / "x.jpg", exif=exif)
    assert pixels(tmp_path / "x.jpg") == grey([[128] * 8] * 8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def encoded(kind: str, image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def half(kind: str) -> bytes:
    whole = encoded(kind, noise(64, 64))
    return whole[: len(whole) // 2]


UNREADABLE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "empty": ("x.png", lambda: b"", "^the file is empty$"),
    "truncated-png": ("x.png", lambda: half("PNG"), "(?i)truncated|broken png"),
    "truncated-jpeg": ("x.jpg", lambda: half("JPEG"), "(?i)truncated"),
    "header-alone": ("x.jpg", lambda: encoded("JPEG", noise(8, 8))[:20], "."),
    "text": ("x.png", lambda: b"This is no picture.\n", "^it is no picture of a known format$"),
    "zeros": ("x.jpg", lambda: bytes(5000), "^it is no picture of a known format$"),
    "floats": ("x.tif", lambda: encoded("TIFF", Image.fromarray(np.ones((4, 4), np.float32))), "floating-point numbers of unknown range"),
    "integers": ("x.tif", lambda: encoded("TIFF", Image.fromarray(np.full((4, 4), 70_000, np.int32))), "32-bit numbers of unknown range"),
    "negative": ("x.tif", lambda: encoded("TIFF", Image.fromarray(np.full((4, 4), -1, np.int32))), "32-bit numbers of unknown range"),
    "high": ("x.png", lambda: encoded("PNG", Image.new("RGB", (1, 1000))), "^it is a strip of 1 x 1000 pixels$"),
    "wide": ("x.png", lambda: encoded("PNG", Image.new("L", (1000, 1))), "^it is a strip of 1000 x 1 pixels$"),
    "bomb": ("x.png", lambda: png_that_claims(60_000), r"^it has more than 89,478,485 pixels$"),
    "small-bomb": ("x.png", lambda: png_that_claims(10_000), r"^it has more than 89,478,485 pixels$"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_unreadable_says_why(tmp_path: Path, case: str) -> None:
    name, content, reason = UNREADABLE[case]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(Unreadable, match=reason) as caught:
        read_picture(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_what_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"^there is no such file$"):
        read_picture(tmp_path / "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(Unreadable):
        read_picture(tmp_path / "folder.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(Unreadable, match=r"^there is no such file$"):
        read_picture(tmp_path / "dangling.png")


def test_a_strip_of_1_to_200_is_still_read(tmp_path: Path) -> None:
    picture(tmp_path / "x.png", size=(1, 200))
    assert read_picture(tmp_path / "x.png").size == (1, 200)
    picture(tmp_path / "y.png", size=(1, 201))
    with pytest.raises(Unreadable, match="strip of 1 x 201"):
        read_picture(tmp_path / "y.png")


def test_what_a_picture_is_does_not_hang_on_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encoded("PNG", Image.new("RGB", (1, 1), BLUE)))
    assert pixels(tmp_path / "x.jpg") == [[[0, 0, 255]]]


# Folders


def test_a_folder_is_in_the_order_of_names_without_hidden_and_other_files(tmp_path: Path) -> None:
    inside = ["b/2.png", "b/10.PNG", "b.png", "a/z.jpeg", "a/deep/er/x.webp", "a b/y.gif"]
    for name in [*inside, ".hidden.png", ".git/x.png", "a/.cache/x.png", "a/._z.jpeg"]:
        picture(tmp_path / "set" / name)
    for name in ("readme.txt", "a/labels.csv", "b/png", "Thumbs.db"):
        (tmp_path / "set" / name).write_text("x")
    found = folder(tmp_path / "set")
    assert found.paths == ("a/deep/er/x.webp", "a/z.jpeg", "a b/y.gif", "b/10.PNG", "b/2.png", "b.png")
    assert found.labels.tolist() == [-1] * 6
    assert (found.name, found.folders, len(found)) == ("set", (), 6)
    assert folder(str(tmp_path / "set"), name="other").name == "other"
    image, label = found[5]
    assert (image.size, image.getpixel((0, 0)), label) == ((4, 3), RED, -1)
    assert found.name_of(5) == str(tmp_path / "set" / "b.png")


def test_the_name_of_a_folder_given_by_dots_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "birds" / "x.png")
    monkeypatch.chdir(tmp_path / "birds")
    assert folder(".").name == "birds"
    assert folder("../birds/").paths == ("x.png",)


def test_a_hidden_folder_may_be_the_root(tmp_path: Path) -> None:
    picture(tmp_path / ".cache" / "x.png")
    assert folder(tmp_path / ".cache").paths == ("x.png",)


@pytest.mark.parametrize("suffix", sorted(EXTENSIONS))
def test_every_ending_is_found_in_either_case(tmp_path: Path, suffix: str) -> None:
    picture(tmp_path / f"x{suffix}")
    picture(tmp_path / f"y{suffix.upper()}")
    assert folder(tmp_path).paths == (f"x{suffix}", f"y{suffix.upper()}")


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "x.png", GREEN)
    picture(tmp_path / "set" / "a" / "y.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "a" / "self").symlink_to(tmp_path / "set" / "a")
    (tmp_path / "set" / "gone").symlink_to(tmp_path / "nowhere")
    found = folder(tmp_path / "set", labelled=True)
    assert found.paths == ("a/y.png", "linked/x.png")
    assert found.folders == ("a", "linked")
    assert found[1][0].getpixel((0, 0)) == GREEN


ODD = [
    " leading.png",
    "a b  c.png",
    "new\nline.png",
    "tab\there.png",
    "quote'\".png",
    "комета-ü-猫.png",
    "emoji😀.png",
    "-dash.png",
    "semi;colon,.png",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_read_and_hashed(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "odd" / name, BLUE)
    found = folder(tmp_path / "odd")
    assert found.paths == (name,)
    assert found[0][0].getpixel((0, 0)) == BLUE
    assert found.fingerprint() == folder(tmp_path / "odd").fingerprint()


def test_names_that_are_no_utf8_are_read_and_hashed(tmp_path: Path) -> None:
    where = os.fsencode(tmp_path) + b"/set/caf\xe9"
    try:
        picture(where + b"/\xff\xfe.png", BLUE)
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    picture(where + b"/a.png", GREEN)
    found = folder(tmp_path / "set", labelled=True)
    assert [os.fsencode(path) for path in found.paths] == [b"caf\xe9/a.png", b"caf\xe9/\xff\xfe.png"]
    assert found[1][0].getpixel((0, 0)) == BLUE
    assert len(found.fingerprint()) == 32
    assert os.fsencode(found.name_of(1)) == where + b"/\xff\xfe.png"


def test_the_fingerprint_of_files_changes_with_paths_sizes_and_labels(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    base = Files("x", tmp_path, ("a.png", "b.png"), torch.tensor([0, 1]))
    others = [
        Files("x", tmp_path, ("a.png", "c.png"), torch.tensor([0, 1])),
        Files("x", tmp_path, ("b.png", "a.png"), torch.tensor([0, 1])),
        Files("x", tmp_path, ("a.png", "b.png"), torch.tensor([1, 0])),
        Files("x", tmp_path, ("a.png",), torch.tensor([0])),
        Files("x", tmp_path, ("a.png", "gone.png"), torch.tensor([0, 1])),
    ]
    before = [entry.fingerprint() for entry in (base, *others)]
    assert len(set(before)) == 6
    assert Files("y", tmp_path, ("a.png", "b.png"), torch.tensor([0, 1])).fingerprint() == before[0]
    noise(20, 20).save(tmp_path / "a.png")
    assert base.fingerprint() != before[0]


def test_some_of_the_files_keep_their_labels_and_folders(tmp_path: Path) -> None:
    files = Files("x", tmp_path, ("a.png", "b.png", "c.png"), torch.tensor([5, 6, 7]), ("p", "q", "r"))
    some = files.only([2, 0])
    assert (some.paths, some.labels.tolist(), some.folders) == (("c.png", "a.png"), [7, 5], ("r", "p"))
    assert files.only([]).labels.dtype == torch.int64


def test_folders_that_have_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match=r"There is no folder .*nowhere"):
        folder(tmp_path / "nowhere")
    picture(tmp_path / "x.png")
    with pytest.raises(ff.InputError, match=r"x\.png is not a folder"):
        folder(tmp_path / "x.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ff.InputError, match=r"empty has no images\. "):
        folder(tmp_path / "empty")
    (tmp_path / "texts").mkdir()
    for i in range(3):
        (tmp_path / "texts" / f"{i}.txt").write_text("x")
    picture(tmp_path / "texts" / ".hidden" / "x.png")
    with pytest.raises(ff.InputError, match=r"texts has no images among its 3 files\. "):
        folder(tmp_path / "texts")


def test_class_folders_are_the_first_level(tmp_path: Path) -> None:
    for name in ("dog/2.png", "dog/old/1.png", "cat/3.png"):
        picture(tmp_path / "set" / name)
    (tmp_path / "set" / "empty").mkdir()
    (tmp_path / "set" / "readme.md").write_text("x")
    found = folder(tmp_path / "set", labelled=True)
    assert found.paths == ("cat/3.png", "dog/2.png", "dog/old/1.png")
    assert found.folders == ("cat", "dog", "dog")
    assert folder(tmp_path / "set").folders == ()
    picture(tmp_path / "set" / "stray.png")
    with pytest.raises(ff.InputError, match=r"images beside its class folders, such as 'stray\.png'"):
        folder(tmp_path / "set", labelled=True)
    assert len(folder(tmp_path / "set")) == 4


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "x.png")
    assert folder(tmp_path / "set", labelled=True).folders == ()


def test_a_link_inside_a_class_does_not_take_the_pictures_of_another(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "a" / "x.png")
    picture(tmp_path / "set" / "b" / "y.png")
    (tmp_path / "set" / "a" / "see-also").symlink_to(tmp_path / "set" / "b")
    assert "b/y.png" in folder(tmp_path / "set", labelled=True).paths


# Lists


def listed(tmp_path: Path, text: str | bytes, name: str = "list.txt", **more: Any) -> Files:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return image_list(tmp_path / name, **more)


def test_paths_and_labels_are_split_from_the_right(tmp_path: Path) -> None:
    found = listed(tmp_path, "a.png 3\nmy holiday/photo 12.jpg 0\n\n  c.JPEG\t 7  \nwith 5.png 2/x.png 11\nd.png -1\n")
    assert found.paths == ("a.png", "my holiday/photo 12.jpg", "c.JPEG", "with 5.png 2/x.png", "d.png")
    assert found.labels.tolist() == [3, 0, 7, 11, -1]
    assert (found.name, found.root, found.folders) == ("list", tmp_path, ())


def test_labels_may_be_left_out(tmp_path: Path) -> None:
    found = listed(tmp_path, "a.png\nphoto 12.jpg\nb.png 4")
    assert found.paths == ("a.png", "photo 12.jpg", "b.png")
    assert found.labels.tolist() == [-1, -1, 4]


def test_group_lists_do_not_say_the_class(tmp_path: Path) -> None:
    found = listed(tmp_path, "n01/a b.JPEG 3 17\nn02/c.JPEG 0 0\n")
    assert found.paths == ("n01/a b.JPEG", "n02/c.JPEG")
    assert found.labels.tolist() == [-1, -1]


def test_dict_literals_say_the_class(tmp_path: Path) -> None:
    lines = ['a b.png {"group_label": 0, "class_label": 12}', "c {1}.png {'class_label': -1, 'sample_weight': 0.5}", "d.png 4"]
    found = listed(tmp_path, "\n".join(lines), "list.imglist")
    assert found.paths == ("a b.png", "c {1}.png", "d.png")
    assert found.labels.tolist() == [12, -1, 4]


def test_a_csv_has_quotes_columns_by_name_and_labels_left_out(tmp_path: Path) -> None:
    text = 'id,image_location,class\n1,"a, b.png",3\n2,c d.png,\n3,"say ""hi"".png",0\n\n4,"new\nline.png",5\n'
    found = listed(tmp_path, text, "list.csv")
    assert found.paths == ("a, b.png", "c d.png", 'say "hi".png', "new\nline.png")
    assert found.labels.tolist() == [3, -1, 0, 5]


@pytest.mark.parametrize("column", ["image_location", "path", "image", "file"])
@pytest.mark.parametrize("label", ["class", "label", None])
def test_a_csv_may_name_its_columns_in_several_ways(tmp_path: Path, column: str, label: str | None) -> None:
    text = f"{column}\na.png\n" if label is None else f"split, {label}, {column}\ntrain,4,a.png\n"
    found = listed(tmp_path, text, "list.CSV")
    assert (found.paths, found.labels.tolist()) == (("a.png",), [-1 if label is None else 4])


def test_names_as_labels_become_folders(tmp_path: Path) -> None:
    found = listed(tmp_path, "path,label\na.png,dog\nb.png, cat \n", "list.csv")
    assert found.folders == ("dog", "cat")
    assert with_classes(found, 2).labels.tolist() == [1, 0]
    with pytest.raises(ff.InputError, match="both numbers and names as labels, such as 1 and 'dog'"):
        listed(tmp_path, "path,label\na.png,dog\nb.png,1\n", "list.csv")


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_it(tmp_path: Path, name: str) -> None:
    text = "path,label\r\nä.png,1\r\nb c.png,2\r\n" if name.endswith("csv") else "ä.png 1\r\nb c.png 2\r\n"
    found = listed(tmp_path, b"\xef\xbb\xbf" + text.encode(), name)
    assert (found.paths, found.labels.tolist()) == (("ä.png", "b c.png"), [1, 2])


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0c", "\x1c"])
def test_signs_that_only_some_take_for_line_ends_stay_in_names(tmp_path: Path, name: str, sign: str) -> None:
    text = f"path,label\na{sign}b.png,1\n" if name.endswith("csv") else f"a{sign}b.png 1\n"
    found = listed(tmp_path, text, name)
    assert (found.paths, found.labels.tolist()) == ((f"a{sign}b.png",), [1])


@pytest.mark.parametrize("file", ["../x.png", "a/../../x.png", "a/b/../../../x.png"])
@pytest.mark.parametrize("root", [None, "pictures"])
def test_a_path_that_leads_out_of_the_root_is_refused(tmp_path: Path, file: str, root: str | None) -> None:
    (tmp_path / "pictures").mkdir()
    more = {} if root is None else {"root": tmp_path / root}
    with pytest.raises(ff.InputError, match=r"Line 2 of .*list\.txt leads out of"):
        listed(tmp_path, f"a.png 0\n{file} 1\n", **more)
    with pytest.raises(ff.InputError, match=r"Line 3 of .*list\.csv leads out of"):
        listed(tmp_path, f"path,label\na.png,0\n{file},1\n", "list.csv", **more)


def test_an_absolute_path_is_refused_where_a_root_is_given(tmp_path: Path) -> None:
    picture(tmp_path / "x.png", BLUE)
    assert listed(tmp_path, f"{tmp_path}/x.png 1\n")[0][0].getpixel((0, 0)) == BLUE
    with pytest.raises(ff.InputError, match=r"Line 1 of .* leads out of"):
        listed(tmp_path, f"{tmp_path}/x.png 1\n", root=tmp_path)


def test_a_name_may_begin_with_dots(tmp_path: Path) -> None:
    assert listed(tmp_path, "..x.png 1\na/../..y.png 2\n").paths == ("..x.png", "a/../..y.png")


def test_a_list_is_relative_to_its_own_folder_or_to_the_root(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "x.png", GREEN)
    picture(tmp_path / "b" / "x.png", BLUE)
    assert listed(tmp_path / "a", "x.png 1")[0][0].getpixel((0, 0)) == GREEN
    found = listed(tmp_path / "a", "x.png 1", root=tmp_path / "b", name="mine")
    assert (found[0][0].getpixel((0, 0)), found[0][1], found.name) == (BLUE, 1, "mine")
    with pytest.raises(ff.InputError, match=r"There is no folder .*nowhere, which the paths"):
        listed(tmp_path / "a", "x.png 1", root=tmp_path / "nowhere")


@pytest.mark.parametrize("line", ["b", "b.txt 3", "b.png three", "b.png 1 2 3", "{'class_label': 1}", "7", "b.png 1.5", "b.png 12345678901"])
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(ff.InputError, match=r"Line 3 of .*list\.txt"):
        listed(tmp_path, f"a.png 0\n\n{line}\nc.png 1\n")


@pytest.mark.parametrize(
    "literal",
    [
        "{'class_label': __import__('os').system('touch hacked')}",
        "{'class_label': open('hacked', 'w')}",
        "{'class_label': 1 + 1}",
        "{'class_label': True}",
        "{'class_label': '1'}",
        "{'class_label': 1.0}",
        "{'label': 1}",
        "{1, 2}",
        "{'class_label': }",
        "{" + "[" * 5000 + "}",
        "{'class_label': 99999999999999999999999}",
    ],
)
def test_a_literal_without_a_whole_class_or_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, literal: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ff.InputError, match="Line 2 of"):
        listed(tmp_path, f"a.png 0\nb.png {literal}\n")
    assert not (tmp_path / "hacked").exists()


def test_broken_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match="cannot be read"):
        image_list(tmp_path / "nowhere.txt")
    with pytest.raises(ff.InputError, match="cannot be read"):
        listed(tmp_path, b"caf\xe9.png 1\n")
    for name, text in (("list.txt", ""), ("list.txt", " \n\n"), ("list.csv", "path,label\n")):
        with pytest.raises(ff.InputError, match="is empty"):
            listed(tmp_path, text, name)
    with pytest.raises(ff.InputError, match=r"has no column .*its header is \['where', 'what'\]"):
        listed(tmp_path, "where,what\na.png,1\n", "list.csv")
    with pytest.raises(ff.InputError, match=r"Line 3 of .* has 3 fields, and the header 2"):
        listed(tmp_path, "path,label\na.png,1\nb.png,2,3\n", "list.csv")
    with pytest.raises(ff.InputError, match="is no CSV"):
        listed(tmp_path, 'path,label\n"a.png,1\n', "list.csv")


def test_labels_outside_the_model_are_named(tmp_path: Path) -> None:
    files = listed(tmp_path, "a.png 0\nb.png 9\nc.png -1\n")
    assert with_classes(files, 10).labels.tolist() == [0, 9, -1]
    with pytest.raises(ff.InputError, match=r"b\.png of list has label 9, and the model's classes are 0 to 8"):
        with_classes(files, 9)
    with pytest.raises(ff.InputError, match=r"a\.png of list has label -2"):
        with_classes(listed(tmp_path, "a.png -2\n"), 9)


# The order of classes


def named(*folders: str) -> Files:
    return Files("set", Path("where"), tuple(f"{i}.png" for i in range(len(folders))), torch.full((len(folders),), -1), folders)


def test_names_in_their_order_where_there_are_as_many_as_classes() -> None:
    assert with_classes(named("b", "a", "c", "b"), 3).labels.tolist() == [1, 0, 2, 1]
    with pytest.raises(ff.InputError, match="where has 3 class folders and the model has 4 classes, so their order is not known"):
        with_classes(named("b", "a", "c"), 4)


def test_other_names_than_the_models_own_are_taken_in_order_with_a_warning() -> None:
    with pytest.warns(ff.FarfieldWarning, match=r"classes of where \('a', \.\.\.\) have other names than the model's own labels \('x', \.\.\.\)"):
        assert with_classes(named("b", "a"), 2, ["x", "y"]).labels.tolist() == [1, 0]


def test_the_models_own_labels_go_before_the_order_of_names() -> None:
    assert with_classes(named("ant", "Golden_Retriever", "zebra"), 3, ["zebra", "ant", "golden retriever"]).labels.tolist() == [1, 2, 0]
    assert with_classes(named("0", "1"), 2, ["1", "0"]).labels.tolist() == [1, 0]
    assert with_classes(named("n01443537", "n01440764"), 2, ["n01443537", "n01440764"]).labels.tolist() == [0, 1]


def test_some_of_the_models_classes_are_enough_by_label() -> None:
    assert with_classes(named("zebra", "ant"), 4, ["dog", "zebra", "cat", "ant"]).labels.tolist() == [1, 3]


def test_a_partial_match_of_the_labels_is_refused() -> None:
    with pytest.raises(ff.InputError, match="The folder 'zebras' of where is none of the model's own labels; did you mean 'zebra'"):
        with_classes(named("ant", "zebras"), 2, ["zebra", "ant"])


def test_labels_that_two_classes_share_tell_nothing() -> None:
    with pytest.raises(ff.InputError, match="'crane'"):
        with_classes(named("crane", "dog"), 3, ["crane", "dog", "crane"])
    mapped = with_classes(named("crane", "dog"), 3, ["crane", "dog", "crane"], {"crane": 2, "dog": 1})
    assert mapped.labels.tolist() == [2, 1]
    assert with_classes(named("crane", "dog"), 4, ["dog", "crane", "ox", "ox"]).labels.tolist() == [1, 0]
    with pytest.raises(ff.InputError, match="two classes called 'Ox'"):
        with_classes(named("ox", "Ox"), 3, ["ox", "ox", "ox"])
    with pytest.raises(ff.InputError, match="Two class folders of where have the name of one class"):
        with_classes(named("ox", "Ox"), 2, ["ox", "cow"])


def test_wordnet_ids_are_those_of_imagenet() -> None:
    known = {"n01440764": 0, "n01443537": 1, "n02099601": 207, "n02123045": 281, "n07753592": 954, "n15075141": 999}
    names = list(reversed(known))
    assert with_classes(named(*names), 1000).labels.tolist() == [known[name] for name in names]
    tench = ["tench"] + ["other"] * 999
    assert with_classes(named(*names), 1000, tench).labels.tolist() == [known[name] for name in names]
    with pytest.raises(ff.InputError, match="6 class folders and the model has 999 classes"):
        with_classes(named(*names), 999)
    with pytest.raises(ff.InputError, match="7 class folders and the model has 1000"):
        with_classes(named(*names, "n99999999"), 1000)


def test_numbers_are_numbers() -> None:
    names = [str(i) for i in range(12)]
    assert with_classes(named(*sorted(names)), 12).labels.tolist() == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert with_classes(named("0007", "0010"), 12).labels.tolist() == [7, 10]
    assert with_classes(named("1", "01"), 2).labels.tolist() == [1, 0]
    with pytest.raises(ff.InputError, match="Class '12' of where has the index 12, and the model's classes are 0 to 11"):
        with_classes(named(*(str(i) for i in range(1, 13))), 12)


def test_a_class_map_decides() -> None:
    order = {"a": 2, "b": 0, "c": 1, "unused": 5}
    assert with_classes(named("a", "b", "c"), 3, None, order).labels.tolist() == [2, 0, 1]
    assert with_classes(named("0", "1"), 2, None, {"0": 1, "1": 0}).labels.tolist() == [1, 0]
    assert with_classes(named("b"), 1, None, {"b": 0}).labels.tolist() == [0]
    with pytest.raises(ff.InputError, match="The class map has no class 'cat', which is a folder of where; did you mean 'cats'"):
        with_classes(named("cat", "dog"), 2, None, {"cats": 0, "dog": 1})
    for index in (-1, 2):
        with pytest.raises(ff.InputError, match=f"Class 'b' of where has the index {index}, and the model's classes are 0 to 1"):
            with_classes(named("a", "b"), 2, None, {"a": 0, "b": index})


def test_a_class_map_may_not_contradict_the_models_own_labels() -> None:
    with pytest.raises(ff.InputError, match="has 'cat' as class 1, and the model's own labels have it as class 0"):
        with_classes(named("cat", "dog"), 2, ["cat", "dog"], {"cat": 1, "dog": 0})
    assert with_classes(named("cat", "wolf"), 2, ["cat", "dog"], {"cat": 0, "wolf": 1}).labels.tolist() == [0, 1]


def test_one_class_only_is_refused() -> None:
    with pytest.raises(ff.InputError, match="where has one class only, 'train', and the model has 10"):
        with_classes(named("train", "train"), 10)
    assert with_classes(named("a", "a"), 1).labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.json", '{"cat": 1, "wild dog": 0}'),
        ("map.json", '["wild dog", "cat"]'),
        ("map.txt", "wild dog\ncat\n"),
        ("map.txt", "\n wild dog \r\n\r\ncat"),
        ("map.csv", "cat,1\nwild dog,0\n"),
        ("map.tsv", "cat\t1\nwild dog \t 0\n"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_class_map_in_each_form(tmp_path: Path, name: str, text: str, mark: str) -> None:
    (tmp_path / name).write_text(mark + text, "utf-8")
    assert read_class_map(tmp_path / name) == {"cat": 1, "wild dog": 0}


def test_names_with_commas_are_names(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("tench, Tinca tinca\ngoldfish, Carassius auratus\n")
    assert read_class_map(tmp_path / "map.txt") == {"tench, Tinca tinca": 0, "goldfish, Carassius auratus": 1}
    (tmp_path / "map.txt").write_text("tench, Tinca tinca, 5\ngoldfish,7\n")
    assert read_class_map(tmp_path / "map.txt") == {"tench, Tinca tinca": 5, "goldfish": 7}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("map.json", '{"cat": "0"}', "look at 'cat': '0'"),
        ("map.json", '{"cat": true}', "look at 'cat': True"),
        ("map.json", '{"cat": 0.0}', "look at 'cat': 0.0"),
        ("map.json", '["cat", "dog", "cat"]', "look at 'cat': 2"),
        ("map.json", "[1, 2]", "look at 1: 0"),
        ("map.json", '{"cat": 0, "cat": 1}', "cat"),
        ("map.json", '"cat"', "map.json"),
        ("map.json", "{", "cannot be read"),
        ("map.json", "7", "cannot be read"),
        ("map.json", "{}", "is empty"),
        ("map.txt", "", "is empty"),
        ("map.txt", "cat\ndog\ncat\n", "look at 'cat': 2"),
        ("map.txt", "cat,0\ncat,1\n", "look at 'cat': 1"),
    ],
)
def test_a_broken_class_map_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ff.InputError, match=message):
        read_class_map(tmp_path / name)


def test_a_class_map_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ff.InputError, match="cannot be read"):
        read_class_map(tmp_path / "nowhere.json")
    (tmp_path / "map.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ff.InputError, match="cannot be read"):
        read_class_map(tmp_path / "map.txt")


# Preprocessing


INTERPOLATIONS = {"bilinear": tv.InterpolationMode.BILINEAR, "bicubic": tv.InterpolationMode.BICUBIC, "nearest": tv.InterpolationMode.NEAREST}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("how", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(37, 53), (53, 37), (31, 31), (32, 32), (201, 67), (7, 5), (5, 301), (33, 32), (640, 427)])
@pytest.mark.parametrize(("resize", "crop"), [(32, 28), (33, 28), (32, 32), (41, 1)])
def test_preprocess_equals_torchvision(how: str, size: tuple[int, int], resize: int, crop: int) -> None:
    image = noise(*size)
    steps = [tv.Resize(resize, INTERPOLATIONS[how]), tv.CenterCrop(crop), tv.ToTensor(), tv.Normalize(MEAN, STD)]
    torch.testing.assert_close(Preprocess(resize, crop, MEAN, STD, how)(image), tv.Compose(steps)(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(37, 53), (24, 24), (201, 67)])
def test_a_resize_of_zero_ignores_the_aspect(how: str, size: tuple[int, int]) -> None:
    image, half = noise(*size), (0.5, 0.4, 0.3)
    steps = [tv.Resize((24, 24), INTERPOLATIONS[how]), tv.ToTensor(), tv.Normalize(half, half)]
    torch.testing.assert_close(Preprocess(0, 24, half, half, how)(image), tv.Compose(steps)(image), rtol=0, atol=1e-6)


def test_the_usual_preprocessing_is_torchvisions_of_imagenet() -> None:
    image = noise(333, 500)
    steps = [tv.Resize(256), tv.CenterCrop(224), tv.ToTensor(), tv.Normalize(MEAN, STD)]
    torch.testing.assert_close(Preprocess()(image), tv.Compose(steps)(image), rtol=0, atol=1e-6)
    array = np.array(image)
    for kind in (array, torch.from_numpy(array).permute(2, 0, 1)):
        assert torch.equal(Preprocess()(kind), Preprocess()(image))


def test_preprocess_is_parsed() -> None:
    text = " resize = 40 , crop=32, mean=0.1/0.2/0.3, std=0.5, interpolation=bicubic"
    assert Preprocess.parse(text) == Preprocess(40, 32, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "bicubic")
    assert Preprocess.parse("crop=200") == Preprocess(256, 200)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no ''"),
        ("size=3", "has no 'size'"),
        ("croop=3", "has no 'croop'; did you mean 'crop'"),
        ("crop", "takes a whole number for crop; got ''"),
        ("crop=2.5", "takes a whole number for crop; got '2.5'"),
        ("resize=big", "takes a whole number for resize; got 'big'"),
        ("mean=0.5/0.5", "three numbers as 0.5/0.5/0.5 for mean; got '0.5/0.5'"),
        ("mean=0.5/x/0.5", "three numbers"),
        ("mean=nan", "three numbers"),
        ("std=inf/1/1", "three numbers"),
        ("std=1/1/1/1", "three numbers"),
        ("std=0", "needs std > 0"),
        ("std=1/1/-1", "needs std > 0"),
        ("crop=0", "needs crop >= 1"),
        ("resize=-1", "needs crop >= 1 and resize >= crop"),
        ("resize=100", "resize >= crop, or resize=0, and neither over 4096; got resize=100, crop=224"),
        ("interpolation=lanczos", "no interpolation 'lanczos'"),
    ],
)
def test_preprocess_says_what_it_cannot_parse(text: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=message):
        Preprocess.parse(text)


def test_normalize_resizes_pil_pictures_to_its_size() -> None:
    image = noise(37, 53)
    steps = tv.Compose([tv.Resize((8, 8)), tv.ToTensor(), tv.Normalize(MEAN, STD)])
    torch.testing.assert_close(Normalize(MEAN, STD, 8)(image), steps(image), rtol=0, atol=1e-6)
    assert Normalize(MEAN, STD)(image).shape == (3, 53, 37)


def test_what_is_no_picture_is_refused() -> None:
    wrong: list[Any] = [
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        torch.zeros(3, 4, 4),
        "x.png",
        None,
    ]
    for value in wrong:
        with pytest.raises(ff.InputError, match="A picture is a PIL image"):
            as_pil(value)
    assert torch.equal(as_tensor(noise(3, 2)), torch.from_numpy(np.array(noise(3, 2))).permute(2, 0, 1))
    assert FromPictures(lambda image: image.size)(torch.zeros(3, 4, 6, dtype=torch.uint8)) == (6, 4)


# Hugging Face


@pytest.fixture(scope="module")
def hf() -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets


def hub_pictures() -> list[Image.Image]:
    palette = Image.new("P", (5, 4))
    palette.putpalette([*GREEN])
    return [Image.new("RGB", (5, 4), RED), Image.new("L", (5, 4), 77), palette, Image.new("RGBA", (5, 4), (1, 2, 3, 0))]


def hub(hf: Any, images: Sequence[Any] | None = None) -> Any:
    features = hf.Features({"id": hf.Value("string"), "picture": hf.Image(), "kind": hf.ClassLabel(names=["ant", "bee", "cow"])})
    images = hub_pictures() if images is None else images
    rows = range(len(images))
    return hf.Dataset.from_dict({"id": [str(i) for i in rows], "picture": list(images), "kind": [(2, 0, 1, 1)[i] for i in rows]}, features)


def test_a_saved_data_set_is_read(hf: Any, tmp_path: Path) -> None:
    hub(hf).save_to_disk(tmp_path / "insects")
    found = load_hub(str(tmp_path / "insects"))
    assert (len(found), found.name, found.name_of(3)) == (4, "insects", "insects[3]")
    assert found.labels.tolist() == [2, 0, 1, 1]
    assert found.folders == ("cow", "ant", "bee", "bee")
    for row, expected in enumerate([RED, (77, 77, 77), GREEN, (1, 2, 3)]):
        image, label = found[row]
        assert (image.mode, image.size, image.getpixel((0, 0)), label) == ("RGB", (5, 4), expected, [2, 0, 1, 1][row])
    assert load_hub(str(tmp_path / "insects"), name="other").name == "other"
    assert load_hub(str(tmp_path / "insects")).fingerprint() == found.fingerprint()
    assert found.only([0, 1]).fingerprint() != found.fingerprint()


def test_a_split_is_named_after_a_colon(hf: Any, tmp_path: Path) -> None:
    whole = hub(hf)
    hf.DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(tmp_path / "insects")
    assert len(load_hub(f"{tmp_path / 'insects'}:train")) == 4
    assert load_hub(f"{tmp_path / 'insects'}:test").labels.tolist() == [0]
    with pytest.raises(ff.InputError, match=r"has the splits train, test; did you mean 'train'.* Write hf:.*insects:SPLIT"):
        load_hub(f"{tmp_path / 'insects'}:trian")
    with pytest.raises(ff.InputError, match="has the splits train, test"):
        load_hub(str(tmp_path / "insects"))


def test_pictures_of_a_data_set_are_upright_and_of_eight_bits(hf: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(drawn(STORED[6])).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.array([[0x12FF]], np.uint16)).save(tmp_path / "deep.png")
    stored = [{"bytes": (tmp_path / name).read_bytes(), "path": None} for name in ("turned.png", "deep.png")]
    found = from_hub(hub(hf, stored))
    assert np.array_equal(np.asarray(found[0][0]), drawn(UPRIGHT))
    assert found[1][0].getpixel((0, 0)) == (0x12, 0x12, 0x12)


def test_a_corrupt_picture_is_unreadable_in_its_row_alone(hf: Any) -> None:
    good = hub_pictures()[0]
    broken = [{"bytes": content, "path": None} for content in (b"no picture", half("PNG"))]
    found = from_hub(hub(hf, [good, *broken, good]))
    assert found[0][0].getpixel((0, 0)) == found[3][0].getpixel((0, 0)) == RED
    for row in (1, 2):
        with pytest.raises(Unreadable):
            found[row]
    missing = from_hub(hub(hf, [good, None]))
    assert missing[0][1] == 2
    with pytest.raises(Unreadable):
        missing[1]


def test_a_bomb_in_a_data_set_is_unreadable(hf: Any) -> None:
    found = from_hub(hub(hf, [{"bytes": png_that_claims(60_000), "path": None}]))
    with pytest.raises(Unreadable, match="DecompressionBombError"):
        found[0]


def test_columns_are_found_by_kind_or_by_name(hf: Any) -> None:
    whole = hub(hf)
    found = from_hub(whole, name="insects", image="picture", label="kind")
    assert found.labels.tolist() == [2, 0, 1, 1]
    without = from_hub(whole.remove_columns("kind"))
    assert (without.labels.tolist(), without.folders) == ([-1] * 4, ())
    with pytest.raises(ff.InputError, match=r"insects has no column of pictures.* Its columns are: id, kind"):
        from_hub(whole.remove_columns("picture"), name="insects")
    with pytest.raises(ff.InputError, match="no column of pictures; did you mean 'picture'"):
        from_hub(whole, image="pictures")
    with pytest.raises(ff.InputError, match="no column 'kinds'; did you mean 'kind'"):
        from_hub(whole, label="kinds")


def test_columns_of_another_kind_are_refused(hf: Any) -> None:
    whole = hub(hf).add_column("word", ["p", "q", "r", "s"])
    with pytest.raises(ff.InputError, match="word"):
        from_hub(whole, label="word")
    with pytest.raises(ff.InputError, match="kind"):
        from_hub(whole, image="kind")


def test_numbers_without_names_are_labels_already(hf: Any) -> None:
    whole = hub(hf).add_column("number", [4, 0, None, 2])
    found = from_hub(whole, label="number")
    assert (found.labels.tolist(), found.folders) == ([4, 0, -1, 2], ())
    with pytest.raises(ff.InputError, match=r"hub\[0\] of hub has label 4, and the model's classes are 0 to 3"):
        with_classes(found, 4)


def test_the_classes_of_a_data_set_follow_the_models_labels(hf: Any) -> None:
    found = with_classes(from_hub(hub(hf)), 3, ["cow", "ant", "bee"])
    assert isinstance(found, Hub)
    assert found.labels.tolist() == [0, 1, 2, 2]
    some = found.only([2, 0])
    assert (some.labels.tolist(), some.folders, some[1][0].getpixel((0, 0))) == ([2, 0], ("bee", "cow"), RED)


def test_a_data_set_that_cannot_be_had_says_so(hf: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any) -> None:
        raise ConnectionError("\nCouldn't reach it.\nlong story")

    monkeypatch.setattr(hf, "load_dataset", unreachable)
    with pytest.raises(ff.InputError, match=r"hf:some/where:test cannot be had \(ConnectionError: Couldn't reach it\)\. Check"):
        load_hub("some/where:test")
    (tmp_path / "none").mkdir()
    with pytest.raises(ff.InputError, match="cannot be had"):
        load_hub(str(tmp_path / "none"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ff.InputError, match=r"needs the package datasets: pip install 'farfield\[hf\]'"):
        load_hub("some/where")


def test_a_class_map_orders_a_data_set(hf: Any, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({"ant": 1, "bee": 2, "cow": 0}))
    assert with_classes(from_hub(hub(hf)), 3, None, read_class_map(tmp_path / "map.json")).labels.tolist() == [0, 1, 2, 2]


def test_a_hub_data_set_keeps_the_numbers_of_its_classes() -> None:
    """`ClassLabel` has an order of its own, which need not be that of the names."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant", "ox"])})
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green", "blue", "white")]
    whole = from_hub(datasets.Dataset.from_dict({"image": pictures, "label": [2, 0, 1, 1]}, features=features), name="zoo")
    assert with_classes(whole, 3).labels.tolist() == [2, 0, 1, 1]
    assert with_classes(whole, 3, ["ant", "ox", "zebra"]).labels.tolist() == [1, 2, 0, 0]
    with pytest.warns(ff.FarfieldWarning, match="keep the numbers the data set gives them"):
        assert with_classes(whole, 3, ["a", "b", "c"]).labels.tolist() == [2, 0, 1, 1]
    some = whole.only([1, 3])
    assert ([some.name_of(i) for i in range(2)], some.only([1]).name_of(0)) == (["zoo[1]", "zoo[3]"], "zoo[3]")

"""The classes of well-known data sets, in the order of their labels."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from farfield.errors import InputError, nearest

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle chair
    chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""
# Of ImageNet-1k, the classes of ImageNet-R.
_IMAGENET_200 = """
    1 2 4 6 8 9 11 13 22 23 26 29 31 39 47 63 71 76 79 84 90 94 96 97 99 100 105 107 113 122 125 130 132 144 145 147 148 150 151 155 160 161 162
    163 171 172 178 187 195 199 203 207 208 219 231 232 234 235 242 245 247 250 251 254 259 260 263 265 267 269 276 277 281 288 289 291 292 293
    296 299 301 308 309 310 311 314 315 319 323 327 330 334 335 337 338 340 341 344 347 353 355 361 362 365 366 367 368 372 388 390 393 397 401
    407 413 414 425 428 430 435 437 441 447 448 457 462 463 469 470 471 472 476 483 487 515 546 555 558 570 579 583 587 593 594 596 609 613 617
    621 629 637 657 658 701 717 724 763 768 774 776 779 780 787 805 812 815 820 824 833 847 852 866 875 883 889 895 907 928 931 932 933 934 936
    937 943 945 947 948 949 951 953 954 957 963 965 967 980 981 983 988
"""
LISTS = {"cifar-10": 10, "cifar-100": 100, "imagenet-1k": 1000, "imagenet-200": 200}
"""By name, with how many classes each has. ImageNet-200 are the classes of ImageNet-R, in the order of their WordNet ids, as OpenOOD numbers them."""


def check(name: str, where: str) -> None:
    """Raises where there is no such list."""
    if name not in LISTS:
        raise InputError(f"{where}: there is no class list {name!r}{nearest(name, LISTS)} There are: {', '.join(LISTS)}.")


def count(classes: str | int | tuple[str, ...]) -> int:
    """How many classes a definition's `classes` are.

    >>> count("imagenet-200"), count(7), count(("a", "b"))
    (200, 7, 2)
    """
    return classes if isinstance(classes, int) else LISTS[classes] if isinstance(classes, str) else len(classes)


def names(classes: str | int | tuple[str, ...]) -> tuple[str, ...]:
    """A name for each class, in label order.

    >>> names("cifar-10")[3], names("imagenet-1k")[1], names(2)
    ('cat', 'goldfish', ('class 0', 'class 1'))
    """
    if isinstance(classes, tuple):
        return classes
    if isinstance(classes, int):
        return tuple(f"class {index}" for index in range(classes))
    first = [said[0] for _, said in _list(classes)]
    return tuple(word if first.count(word) == 1 else f"{word} ({folder})" for word, (folder, _) in zip(first, _list(classes), strict=True))


def synonyms(classes: str | int | tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Every name of each class: its folder's, and its words in WordNet where it has such.

    >>> synonyms("imagenet-1k")[1]
    ('n01443537', 'goldfish', 'Carassius auratus')
    """
    if isinstance(classes, str):
        return tuple((folder, *said) for folder, said in _list(classes))
    return tuple((name,) for name in names(classes)) if isinstance(classes, tuple) else tuple(() for _ in range(classes))


def folders(classes: str | int | tuple[str, ...]) -> dict[str, int] | None:
    """The label of each class folder by its name, for ImageNet by its WordNet id; `None` where nothing is known."""
    if isinstance(classes, int):
        return None
    keys = [folder for folder, _ in _list(classes)] if isinstance(classes, str) else classes
    return {key: index for index, key in enumerate(keys)}


def is_wordnet(name: str) -> bool:
    """Whether a name is a WordNet id, as ImageNet's folders have."""
    return re.fullmatch(r"n[0-9]{8}", name) is not None


def words(name: str) -> tuple[str, ...]:
    """The words of a WordNet id; none for another name, or an id that is not of ImageNet-21k.

    >>> words("n01443537"), words("goldfish")
    (('goldfish', 'Carassius auratus'), ())
    """
    if not is_wordnet(name):
        return ()
    try:
        return tuple(word.strip() for word in _large().label_name_to_description(name).split(","))
    except (KeyError, AssertionError):
        return ()


@cache
def _large() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo("imagenet-22k-ms")


@cache
def _list(name: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The folder and the words of each class."""
    if name in ("cifar-10", "cifar-100"):
        return tuple((word, (word,)) for word in (CIFAR10 if name == "cifar-10" else _CIFAR100.split()))
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    wnids = info.label_names()
    chosen = wnids if name == "imagenet-1k" else [wnids[int(index)] for index in _IMAGENET_200.split()]
    return tuple((wnid, tuple(word.strip() for word in info.label_name_to_description(wnid).split(","))) for wnid in chosen)

"""A suite as data: what a TOML file says, checked key by key.

    name = "my-suite"             # a changed suite gets another name
    title = "..."                 # one line
    like = "mos-imagenet"         # a published suite: what is not said here is as it says
    version = 1
    paper = "..."                 # where it was published
    note = "..."                  # one sentence that every report prints
    classes = "imagenet-1k"       # a list of `classes.LISTS`; or a number; or the names, in label order
    taxonomy = {animal = [0, 1]}  # groups of labels
    augmentations = ["mirror"]    # what may be done to a training picture without changing its label
    preprocess = "resize=256,crop=224"  # as `--preprocess`; absent: each model's own
    fpr = "id"                    # which FPR its publications print: of OOD at 95 % of ID kept (`id`), or of ID at 95 % of OOD caught (`ood`)
    models = "..."                # one sentence: which models are meant
    root = "/data"                # where its data lie by default, relative to the file; a suite that ships has none

    [splits.train]                # train, calibration (ID, unseen by the model, of the test's source) and test: each a set,
    [[splits.test]]               # or several, read one after the other

    [near.NAME]                   # OOD sets by group: `near`, `far`, or `shifted`, the ID classes in another look
    [validation.NAME]             # OOD sets to choose options on; `shares = ["NAME"]` names test sets of the same source

A set says one of four readers, and what it needs:

    folder = "ood/SUN/images"     # the pictures of a folder; for a split its sub-folders are the classes
    parts = "classes"             # each sub-folder is also reported alone, as a class, or as one of the `unit-tests`
    list = "lists/sun.txt"        # an image list, its paths relative to
    root = "ood"
    torchvision = "CIFAR10"       # a data set that torchvision reads from
    root = "cifar"
    split = "train"
    noise = 400                   # so many generated pictures of each family of `farfield.data.noise`, of
    size = [224, 224]
    pick = 10000                  # of a folder or list, only so many, spread over it; the same each time
    count = 10000                 # how many pictures it has
    sources = ["sun"]             # what is to be obtained for it
    or = [{folder = "..."}]       # where else it may be: the first place that is there is read

Paths are relative to the suite's root and lead out of it nowhere. A source says where data come from:

    [sources.sun]
    title = "..."
    licence = "..."               # absent: none was found
    page = "https://..."          # where a person gets it
    get = "..."                   # what to do, where it is not a plain download
    torchvision = "CIFAR10"       # downloaded by torchvision, into
    into = "cifar"
    [[sources.sun.archives]]
    file = "SUN.tar.gz"
    url = "https://..."           # absent: to be fetched by hand and put into `archives`
    md5 = "..."                   # or sha256; absent: none is public
    size = 2000000000             # bytes; absent: not known
    into = "ood"                  # where it is unpacked; absent: it is not
    keep = "svhn"                 # where the file is kept; absent: in `archives`
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from farfield.data.images import RESERVED, Group
from farfield.data.suites import classes as lists
from farfield.data.suites import tables, vision
from farfield.data.transforms import Preprocess
from farfield.errors import InputError, nearest

Reader = Literal["folder", "list", "torchvision", "noise"]
Like = Callable[[str], Mapping[str, Any]]
SPLITS = ("train", "calibration", "test")
GROUPS = get_args(Group)
SUMS = {"md5": 32, "sha256": 64}  # hexadecimal digits
PARTS = {"classes": "class", "unit-tests": "unit-test"}  # what parts may be, and the group of their rows
_COMMON = ("count", "sources", "or")
_KEYS: dict[Reader, tuple[str, ...]] = {"folder": ("parts", "pick"), "list": ("root", "pick"), "torchvision": ("root", "split"), "noise": ("size",)}
_PLAIN = {"name": str, "title": str, "version": int, "paper": str, "note": str, "preprocess": str, "fpr": str, "models": str, "root": str}
_ALL = (*_PLAIN, "like", "classes", "taxonomy", "augmentations", "splits", *GROUPS, "validation", "sources")


@dataclass(frozen=True)
class Pictures:
    """One set of pictures: how it is read, from where under the root, and how many there are to be.

    Args:
        reader: `folder`, `list`, `torchvision` or `noise`.
        place: the folder, the list, or the name of torchvision's data set.
        root: what a list's paths are relative to; where torchvision looks.
        split: of torchvision's data set.
        parts: `classes` or `unit-tests` where each sub-folder is also reported alone, as one of these.
        pick: how many of them are taken; `None` for all.
        size: height and width of noise.
        count: how many pictures; of noise, in each family.
        sources: what is to be obtained for it.
        others: where else it may be.
    """

    reader: Reader
    place: str
    root: str = ""
    split: str = ""
    parts: str = ""
    pick: int | None = None
    size: tuple[int, int] = (0, 0)
    count: int | None = None
    sources: tuple[str, ...] = ()
    others: tuple[Pictures, ...] = ()


@dataclass(frozen=True)
class OOD:
    """An OOD set of a suite; `shares` names the test sets that are of the same source."""

    name: str
    group: Group
    pictures: Pictures
    shares: tuple[str, ...] = ()


@dataclass(frozen=True)
class Archive:
    """One file to fetch, and where it is kept; `into` is where it is unpacked, `None` where it is not."""

    file: str
    url: str | None = None
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None
    into: str | None = None
    keep: str = "archives"


@dataclass(frozen=True)
class Source:
    """Where data come from: archives, torchvision's own downloader, or by hand."""

    title: str
    licence: str | None = None
    page: str | None = None
    get: str | None = None
    torchvision: str | None = None
    into: str = ""
    archives: tuple[Archive, ...] = ()


@dataclass(frozen=True)
class Definition:
    """A suite as its TOML file says it; the keys are explained above."""

    name: str
    title: str
    classes: str | int | tuple[str, ...]
    splits: Mapping[str, tuple[Pictures, ...]]
    ood: tuple[OOD, ...]
    validation: tuple[OOD, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    version: int = 1
    paper: str = ""
    note: str = ""
    taxonomy: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    augmentations: tuple[str, ...] = ()
    preprocess: str | None = None
    fpr: str = "id"
    models: str = ""
    root: str | None = None

    def sets(self) -> Iterator[tuple[str, str, Pictures]]:
        """Role, name and pictures of every set; the pieces of a split have one name."""
        for split, pieces in self.splits.items():
            yield from ((split, split, piece) for piece in pieces)
        yield from ((entry.group, entry.name, entry.pictures) for entry in self.ood)
        yield from (("validation", entry.name, entry.pictures) for entry in self.validation)


def read(path: Path, like: Like | None = None) -> Definition:
    """The definition in a TOML file; `like` gives the table of a published one by name.

    Raises:
        InputError: where the file cannot be read, or says what no definition says.
    """
    definition = parse(table_of(path), str(path), like)
    if definition.root is not None:
        definition = replace(definition, root=os.path.join(path.parent, definition.root))
    return definition


def table_of(path: Path) -> dict[str, Any]:
    """A TOML file as tables."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The suite {path} cannot be read as TOML: {str(error) or type(error).__name__}.") from error


def resolved(table: Mapping[str, Any], where: str, like: Like | None) -> Mapping[str, Any]:
    """A table with what the suite that it is like says; splits and sources are added to the other's."""
    if "like" not in table or like is None:
        return table
    base = like(tables.text(table, "like", where))
    own = {key: value for key, value in table.items() if key != "like"}
    both = {key: {**base.get(key, {}), **tables.table(table, key, where)} for key in ("splits", "sources")}
    return {**base, **own, **both}


def parse(table: Mapping[str, Any], where: str, like: Like | None = None) -> Definition:
    """The definition in a table; `where` is what errors call it."""
    table = resolved(table, where, like)
    tables.known(table, _ALL, where)
    plain = {key: tables.typed(table, key, kind, where) for key, kind in _PLAIN.items() if key in table}
    for key in ("name", "title", "classes", "splits"):
        if key not in table:
            raise InputError(f"{where} has no {key!r}, which a suite needs.")
    splits = {split: _pieces(value, f"{where}: splits.{split}") for split, value in tables.table(table, "splits", where).items()}
    tables.known(splits, SPLITS, f"{where}: splits")
    if "test" not in splits:
        raise InputError(f"{where} has no splits.test: a suite needs ID test data.")
    ood = tuple(_ood(name, group, value, where) for group in GROUPS for name, value in tables.table(table, group, where).items())
    validation = tuple(_ood(name, "near", value, where, "validation") for name, value in tables.table(table, "validation", where).items())
    sources = {name: _source(value, f"{where}: sources.{name}") for name, value in tables.table(table, "sources", where).items()}
    taxonomy = {name: tuple(tables.numbers(value, f"{where}: taxonomy.{name}")) for name, value in tables.table(table, "taxonomy", where).items()}
    made = Definition(
        classes=_classes(table["classes"], where), splits=splits, ood=ood, validation=validation, sources=sources, taxonomy=taxonomy,
        augmentations=tuple(tables.texts(table, "augmentations", where)), **plain,
    )  # fmt: skip
    _check(made, where)
    return made


def _check(made: Definition, where: str) -> None:
    """Raises where what is said does not fit together."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", made.name):
        raise InputError(f"{where}: the name {made.name!r} may have letters, digits and . _ + - only; files are named after it.")
    if made.fpr not in ("id", "ood"):
        raise InputError(f"{where}: fpr is 'id' or 'ood', for what is kept or caught at 95 %; got {made.fpr!r}.")
    if made.preprocess is not None:
        Preprocess.parse(made.preprocess)
    names = [entry.name for entry in (*made.ood, *made.validation)]
    for name in names:
        if names.count(name) > 1 or name in RESERVED or not name:
            raise InputError(f"{where}: the OOD set {name!r} needs a name of its own, other than {', '.join(RESERVED)}.")
    if not made.ood:
        raise InputError(f"{where} has no OOD set: add [near.NAME] or [far.NAME].")
    for entry in made.validation:
        for shared in entry.shares:
            if shared not in [other.name for other in made.ood]:
                raise InputError(f"{where}: validation.{entry.name} shares a source with {shared!r}, which is no OOD set{nearest(shared, names)}")
    for role, name, pictures in made.sets():
        for source in pictures.sources:
            if source not in made.sources:
                raise InputError(f"{where}: {role}.{name} is from the source {source!r}, which is not there{nearest(source, made.sources)}")
    count = lists.count(made.classes)
    labels = [label for group in made.taxonomy.values() for label in group]
    if labels and sorted(labels) != list(range(count)):
        raise InputError(f"{where}: the taxonomy must have each of the labels 0 to {count - 1} once.")


def _classes(value: Any, where: str) -> str | int | tuple[str, ...]:
    if isinstance(value, str):
        lists.check(value, where)
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2:
        return value
    if isinstance(value, list) and len(value) >= 2 and all(isinstance(name, str) and name for name in value) and len(set(value)) == len(value):
        return tuple(value)
    raise InputError(
        f"{where}: classes are a list of names, each once, a number of at least 2, or one of {', '.join(lists.LISTS)}; got {str(value)[:60]!r}."
    )


def _pieces(value: Any, where: str) -> tuple[Pictures, ...]:
    """A split: a set, or several read one after the other, which must then be files."""
    if not isinstance(value, list):
        return (_pictures(value, where, parts=False),)
    pieces = tuple(_pictures(piece, f"{where}[{index}]", parts=False) for index, piece in enumerate(value))
    if not pieces or any(other.reader not in ("folder", "list") for piece in pieces for other in (piece, *piece.others)):
        raise InputError(f"{where}: the pieces of a split are folders or lists.")
    return pieces


def _ood(name: str, group: Any, value: Any, where: str, role: str | None = None) -> OOD:
    place = f"{where}: {role or group}.{name}"
    given = tables.is_table(value, place)
    shares = tuple(tables.texts(given, "shares", place)) if role else ()
    return OOD(name, group, _pictures({key: v for key, v in given.items() if not (role and key == "shares")}, place), shares)


def _pictures(value: Any, where: str, parts: bool = True, nested: bool = False) -> Pictures:
    given = tables.is_table(value, where)
    readers = [reader for reader in _KEYS if reader in given]
    if len(readers) != 1:
        raise InputError(f"{where} must say one of {', '.join(_KEYS)}; it says {' and '.join(readers) or 'none'}.")
    reader = readers[0]
    if reader == "noise" and not parts:
        raise InputError(f"{where}: noise is no ID data.")
    keys = [reader, *_COMMON[: 1 if nested else 3], *(key for key in _KEYS[reader] if parts or key != "parts")]
    tables.known(given, keys, where)
    count = tables.typed(given, "noise" if reader == "noise" else "count", int, where) if reader == "noise" or "count" in given else None
    if count is not None and count < 1:
        raise InputError(f"{where}: a set has at least one picture; got {count}.")
    size = tables.numbers(given.get("size", [224, 224]), f"{where}: size") if reader == "noise" else [0, 0]
    if reader == "noise" and (len(size) != 2 or min(size) < 3):
        raise InputError(f"{where}: size is height and width, of at least 3 pixels; got {size}.")
    said = tables.text(given, "parts", where) if "parts" in given else ""
    if said and said not in PARTS:
        raise InputError(f"{where}: parts are {' or '.join(PARTS)}; got {said!r}.")
    if reader == "torchvision":
        vision.check(tables.text(given, reader, where), str(given.get("split", "")), where)
    others = given.get("or", [])
    return Pictures(
        reader,
        "" if reader == "noise" else tables.text(given, reader, where) if reader == "torchvision" else tables.inside(given, reader, where),
        root=tables.inside(given, "root", where) if "root" in given else "",
        split=tables.text(given, "split", where) if "split" in given else "",
        parts=said,
        pick=tables.typed(given, "pick", int, where) if "pick" in given else None,
        size=(size[0], size[1]),
        count=count,
        sources=tuple(tables.texts(given, "sources", where)),
        others=tuple(_pictures(other, f"{where}: or[{index}]", parts, nested=True) for index, other in enumerate(others)),
    )


def _source(value: Any, where: str) -> Source:
    given = tables.is_table(value, where)
    tables.known(given, ("title", "licence", "page", "get", "torchvision", "into", "archives"), where)
    texts = {key: tables.text(given, key, where) for key in ("title", "licence", "page", "get", "torchvision") if key in given}
    if "title" not in texts:
        raise InputError(f"{where} has no 'title'.")
    if "torchvision" in texts:
        vision.check(texts["torchvision"], "train", where)
    archives = given.get("archives", [])
    if not isinstance(archives, list):
        raise InputError(f"{where}: archives are written [[sources.NAME.archives]].")
    into = tables.inside(given, "into", where) if "into" in given else ""
    return Source(into=into, archives=tuple(_archive(entry, f"{where}: archives[{index}]") for index, entry in enumerate(archives)), **texts)


def _archive(value: Any, where: str) -> Archive:
    given = tables.is_table(value, where)
    tables.known(given, ("file", "url", "md5", "sha256", "size", "into", "keep"), where)
    texts = {key: tables.text(given, key, where) for key in ("file", "url", *SUMS) if key in given}
    if not re.fullmatch(r"[^/\\]+", texts.get("file", "")) or texts["file"].startswith("."):
        raise InputError(f"{where}: file is the name of a file; got {texts.get('file', '')!r}.")
    for key, digits in SUMS.items():
        if key in texts and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", texts[key]):
            raise InputError(f"{where}: {key} is {digits} hexadecimal digits; got {texts[key]!r}.")
    if "url" in texts and not re.match(r"https?://", texts["url"]):
        raise InputError(f"{where}: url begins with https:// or http://; got {texts['url']!r}.")
    size = tables.typed(given, "size", int, where) if "size" in given else None
    places = {key: tables.inside(given, key, where) for key in ("into", "keep") if key in given}
    return Archive(size=size, **texts, **places)

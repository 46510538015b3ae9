"""TOML files of suites: every key is checked, each error says where, and what is written is read again."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trees
from farfield.data import suites
from farfield.data.images import RESERVED
from farfield.data.suites.definition import GROUPS, OOD, SUMS, Archive, Definition, Pictures, Source, parse, read
from farfield.data.suites.writing import to_toml
from farfield.errors import InputError

BASE = """
name = "mine"
title = "Mine"
classes = ["cat", "dog"]
[splits.test]
folder = "test"
count = 3
[near.birds]
folder = "birds"
sources = ["web"]
[validation.other]
list = "lists/other.txt"
root = "pictures"
shares = ["birds"]
[sources.web]
title = "The web"
[[sources.web.archives]]
file = "birds.tar.gz"
url = "https://somewhere.test/birds.tar.gz"
"""


def of(text: str) -> Definition:
    return parse(tomllib.loads(text), "my.toml", suites._published)


def test_a_definition_says_what_its_file_says() -> None:
    found = of(BASE)
    assert (found.name, found.classes, found.version, found.fpr, found.preprocess) == ("mine", ("cat", "dog"), 1, "id", None)
    assert found.splits == {"test": (Pictures("folder", "test", count=3),)}
    assert found.ood == (OOD("birds", "near", Pictures("folder", "birds", sources=("web",))),)
    assert found.validation == (OOD("other", "near", Pictures("list", "lists/other.txt", root="pictures"), ("birds",)),)
    assert found.sources["web"].archives == (Archive("birds.tar.gz", "https://somewhere.test/birds.tar.gz"),)


WRONG = [
    ("title =", "titel =", r"my\.toml has an unknown key 'titel'; did you mean 'title'\? Known: name, "),
    ('name = "mine"', "", r"my\.toml has no 'name', which a suite needs"),
    ('title = "Mine"', "", r"has no 'title', which a suite needs"),
    ('classes = ["cat", "dog"]', "", r"has no 'classes'"),
    ('name = "mine"', 'name = "../mine"', r"the name '\.\./mine' may have letters, digits"),
    ('name = "mine"', "name = 3", r"my\.toml: 'name' takes a text; got 3"),
    ('["cat", "dog"]', '["cat"]', r"classes are a list of names, each once, a number of at least 2, or one of cifar-10, "),
    ('["cat", "dog"]', '["cat", "cat"]', r"each once"),
    ('["cat", "dog"]', "1", r"a number of at least 2"),
    ('["cat", "dog"]', "true", r"a number of at least 2"),
    ('["cat", "dog"]', '"imagenet"', r"there is no class list 'imagenet'; did you mean 'imagenet-200'|'imagenet-1k'"),
    ("[splits.test]", "[splits.tests]", r"my\.toml: splits has an unknown key 'tests'; did you mean 'test'\?"),
    ("[splits.test]", "[splits.train]", r"has no splits\.test: a suite needs ID test data"),
    ('folder = "test"', "", r"splits\.test must say one of folder, list, torchvision, noise; it says none"),
    ('folder = "test"', 'folder = "test"\nlist = "x.txt"', r"it says folder and list"),
    ('folder = "test"', "noise = 3", r"splits\.test: noise is no ID data"),
    ('folder = "test"', 'folder = "test"\nparts = "classes"', r"splits\.test has an unknown key 'parts'"),
    ('folder = "test"', 'folder = "/test"', r"splits\.test: folder leads out of the suite's root: '/test'"),
    ('folder = "test"', 'folder = "a/../../test"', r"folder leads out of the suite's root"),
    ('root = "pictures"', 'root = ".."', r"validation\.other: root leads out"),
    ("count = 3", "count = 0", r"splits\.test: a set has at least one picture; got 0"),
    ("count = 3", 'count = "3"', r"splits\.test: 'count' takes a whole number; got '3'"),
    ("count = 3", "counts = 3", r"splits\.test has an unknown key 'counts'; did you mean 'count'\?"),
    ("count = 3", "pick = true", r"'pick' takes a whole number"),
    ("count = 3", 'or = [{folder = "x", count = 3, sources = ["web"]}]', r"splits\.test: or\[0\] has an unknown key 'sources'"),
    ('folder = "birds"', 'folder = "birds"\nparts = "class"', r"near\.birds: parts are classes or unit-tests; got 'class'"),
    ('folder = "birds"', "noise = 2\nsize = [2, 9]", r"near\.birds: size is height and width, of at least 3 pixels; got \[2, 9\]"),
    ('folder = "birds"', "noise = 0", r"at least one picture"),
    (
        'folder = "birds"',
        'torchvision = "CIFAR"\nroot = "x"\nsplit = "test"',
        r"near\.birds: torchvision's 'CIFAR' is not read here; did you mean 'CIFAR10'\?",
    ),
    ('folder = "birds"', 'torchvision = "SVHN"\nroot = "x"\nsplit = "val"', r"SVHN has the splits train, test, extra; got 'val'"),
    ('["web"]', '["wed"]', r"near\.birds is from the source 'wed', which is not there; did you mean 'web'\?"),
    ('sources = ["web"]', 'sources = "web"', r"near\.birds: 'sources' takes a list of texts; got 'web'"),
    ("[near.birds]", "[near.test]", r"the OOD set 'test' needs a name of its own, other than near, far"),
    ("[near.birds]", "[validation.birds]", r"has no OOD set: add \[near\.NAME\] or \[far\.NAME\]"),
    ("[near.birds]", "[nearer.birds]", r"has an unknown key 'nearer'; did you mean 'near'\?"),
    ('shares = ["birds"]', 'shares = ["bird"]', r"validation\.other shares a source with 'bird', which is no OOD set; did you mean 'birds'\?"),
    ("[validation.other]", "[far.other]", r"far\.other has an unknown key 'shares'"),
    ("[validation.other]", "[validation.birds]", r"the OOD set 'birds' needs a name of its own"),
    ('title = "Mine"', 'title = "Mine"\nfpr = "in"', r"fpr is 'id' or 'ood', for what is kept or caught at 95 %; got 'in'"),
    ('title = "Mine"', 'title = "Mine"\npreprocess = "resise=3"', r"Preprocessing has no 'resise'; did you mean 'resize'\?"),
    ('title = "Mine"', 'title = "Mine"\ntaxonomy = {animal = [0]}', r"the taxonomy must have each of the labels 0 to 1 once"),
    ('title = "Mine"', 'title = "Mine"\ntaxonomy = {animal = ["cat"]}', r"taxonomy\.animal takes a list of whole numbers; got \['cat'\]"),
    ('title = "Mine"', 'title = "Mine"\ntaxonomy = 3', r"my\.toml: taxonomy is a table; got 3"),
    ('title = "Mine"', 'title = "Mine"\naugmentations = [1]', r"'augmentations' takes a list of texts"),
    ('title = "The web"', "", r"sources\.web has no 'title'"),
    ('title = "The web"', 'title = "The web"\ntorchvision = "SHVN"', r"sources\.web: torchvision's 'SHVN' is not read here; did you mean 'SVHN'\?"),
    ("[[sources.web.archives]]", "[sources.web.archives]", r"archives are written \[\[sources\.NAME\.archives\]\]"),
    ('file = "birds.tar.gz"', 'file = "../birds.tar.gz"', r"file is the name of a file; got '\.\./birds\.tar\.gz'"),
    ('file = "birds.tar.gz"', 'file = ".birds"', r"file is the name of a file"),
    ('file = "birds.tar.gz"', "", r"file is the name of a file; got ''"),
    ('url = "https', 'url = "ftp', r"url begins with https:// or http://; got 'ftp:"),
    ('file = "birds.tar.gz"', 'file = "b"\nmd5 = "12"', r"md5 is 32 hexadecimal digits; got '12'"),
    ('file = "birds.tar.gz"', f'file = "b"\nsha256 = "{"G" * 64}"', r"sha256 is 64 hexadecimal digits"),
    ('file = "birds.tar.gz"', 'file = "b"\nkeep = "../x"', r"keep leads out of the suite's root"),
    ('file = "birds.tar.gz"', 'file = "b"\ninto = "/x"', r"into leads out of the suite's root"),
    ('name = "mine"', 'name = "mine"\nlike = "nincos"', r"There is no published suite 'nincos' to be like; did you mean 'ninco'\?"),
    ('name = "mine"', 'name = "mine"\nlike = 3', r"'like' takes a text"),
]


@pytest.mark.parametrize(
    ("old", "new", "said"), WRONG, ids=[f"{index}-{new.splitlines()[-1] if new else 'without'}" for index, (_, new, _) in enumerate(WRONG)]
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, said: str) -> None:
    assert old in BASE
    with pytest.raises(InputError, match=said):
        of(BASE.replace(old, new, 1))


def test_pieces_of_a_split_are_files() -> None:
    pieces = '[[splits.test]]\nfolder = "test"\n[[splits.test]]\nlist = "more.txt"'
    assert [piece.reader for piece in of(BASE.replace('[splits.test]\nfolder = "test"\ncount = 3', pieces)).splits["test"]] == ["folder", "list"]
    for bad in ('[[splits.test]]\ntorchvision = "CIFAR10"\nroot = "x"\nsplit = "test"', "splits = {test = []}"):
        text = BASE.replace('[splits.test]\nfolder = "test"\ncount = 3', "" if bad.startswith("splits") else bad)
        text = f"{bad}\n{text}" if bad.startswith("splits") else text
        with pytest.raises(InputError, match=r"splits\.test: the pieces of a split are folders or lists"):
            of(text)


def test_broken_toml_and_missing_files_are_input_errors(tmp_path: Path) -> None:
    for text, said in (
        ("name = ", "cannot be read as TOML"),
        ("x = 1", "has an unknown key 'x'"),
        ("[splits]\ntest = 3", "splits.test is a table; got 3"),
    ):
        text = text if text != "[splits]\ntest = 3" else 'name = "a"\ntitle = "b"\nclasses = 2\n' + text
        with pytest.raises(InputError, match=said.replace(".", r"\.")):
            read(trees.write(tmp_path / "x.toml", text))
    (tmp_path / "y.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as TOML"):
        read(tmp_path / "y.toml")


def test_a_suite_like_another_says_only_what_differs() -> None:
    text = 'like = "openood-v1.5-cifar10-fs"\nname = "ours"\nnote = "Ours."\n[far.more]\nfolder = "more"\n[sources.extra]\ntitle = "x"\n'
    found, base = of(text), suites.definition("openood-v1.5-cifar10-fs")
    assert found.name == "ours" and found.note == "Ours." and found.splits == base.splits and found.preprocess == base.preprocess
    assert [entry.name for entry in found.ood if entry.group == "far"] == ["more"]  # a group that is said takes the other's place
    assert [entry for entry in found.ood if entry.group == "near"] == [entry for entry in base.ood if entry.group == "near"]
    assert set(found.sources) == {*base.sources, "extra"}


@pytest.mark.parametrize("name", suites.PUBLISHED)
def test_published_definitions_are_written_and_read_again(name: str) -> None:
    found = suites.definition(name)
    assert parse(tomllib.loads(to_toml(found)), name) == found


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
paths = st.sampled_from(["a", "a b/c", "é/-/x.y", "a/./b"])
counts = st.none() | st.integers(1, 10**7)
Draw = Any


def pictures(draw: Draw, labelled: bool, nested: bool = False) -> Pictures:
    """Any set; made outside of strategies, since what checks annotated types draws at random itself."""
    reader = draw(st.sampled_from(["folder", "list"] if labelled else ["folder", "list", "torchvision", "noise"]))
    others = () if nested else tuple(pictures(draw, labelled, nested=True) for _ in range(draw(st.integers(0, 2))))
    made = Pictures(reader, draw(paths), count=draw(counts), sources=() if nested else ("web",) * draw(st.integers(0, 1)), others=others)
    if reader == "noise":
        return replace(made, place="", count=draw(st.integers(1, 999)), size=(draw(st.integers(3, 500)), draw(st.integers(3, 500))))
    if reader == "torchvision":
        return replace(made, place="SVHN", root=draw(paths), split=draw(st.sampled_from(["train", "test", "extra"])))
    made = replace(made, pick=draw(counts))
    parts = "" if labelled or reader == "list" else draw(st.sampled_from(["", "classes", "unit-tests"]))
    return replace(made, parts=parts) if reader == "folder" else replace(made, root=draw(paths))


@settings(max_examples=60)
@given(st.data())
def test_any_definition_is_written_and_read_again(data: st.DataObject) -> None:
    draw = data.draw
    names = draw(st.lists(texts.filter(lambda name: name not in RESERVED), min_size=2, max_size=4, unique=True))
    ood = [OOD(name, draw(st.sampled_from(GROUPS)), pictures(draw, False)) for name in names[:-1]]
    sums = {kind: draw(st.none() | st.just("0123456789abcdef" * (digits // 16))) for kind, digits in SUMS.items()}
    archive = Archive(
        "x y.tar", draw(st.sampled_from([None, "https://a.test/b?c=d"])), size=draw(counts), into=draw(st.none() | paths), keep=draw(paths), **sums
    )
    made = Definition(
        "a-1.5_b",
        draw(texts),
        draw(st.sampled_from(["imagenet-1k", 7]) | st.lists(texts, min_size=2, max_size=4, unique=True).map(tuple)),
        {"test": tuple(pictures(draw, True) for _ in range(draw(st.integers(1, 2))))},
        tuple(sorted(ood, key=lambda entry: GROUPS.index(entry.group))),
        (OOD(names[-1], "near", pictures(draw, False), (names[0],) * draw(st.integers(0, 1))),),
        {"web": Source(draw(texts), draw(st.none() | texts), archives=(archive,))},
        draw(st.integers(1, 9)),
        note=draw(st.just("") | texts),
        augmentations=tuple(draw(st.lists(texts, max_size=2))),
        fpr=draw(st.sampled_from(["id", "ood"])),
    )
    assert parse(tomllib.loads(to_toml(made)), "made") == made

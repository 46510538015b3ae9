"""A definition as the TOML that `definition` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from farfield.data.suites.definition import Definition, Pictures, Source


def to_toml(definition: Definition) -> str:
    """The file of a suite.

    >>> from farfield.data import suites
    >>> from farfield.data.suites.definition import parse
    >>> import tomllib
    >>> ninco = suites.definition("ninco")
    >>> parse(tomllib.loads(to_toml(ninco)), "ninco") == ninco
    True
    """
    plain = ("name", "title", "version", "paper", "note", "preprocess", "fpr", "models", "root")
    top = {key: value for key in plain if (value := getattr(definition, key)) not in (None, "")}
    top["classes"] = list(definition.classes) if isinstance(definition.classes, tuple) else definition.classes
    if definition.augmentations:
        top["augmentations"] = list(definition.augmentations)
    if definition.taxonomy:
        top["taxonomy"] = {group: list(labels) for group, labels in definition.taxonomy.items()}
    return (
        "\n".join([*_lines(top), *_sets(definition), *(line for name, source in definition.sources.items() for line in _source(name, source))]) + "\n"
    )


def _sets(definition: Definition) -> Iterator[str]:
    for split, pieces in definition.splits.items():
        for piece in pieces:
            yield from ("", f"[splits.{split}]" if len(pieces) == 1 else f"[[splits.{split}]]", *_lines(_pictures(piece)))
    for entry in definition.ood:
        yield from ("", f"[{entry.group}.{_value(entry.name)}]", *_lines(_pictures(entry.pictures)))
    for entry in definition.validation:
        shares = {"shares": list(entry.shares)} if entry.shares else {}
        yield from ("", f"[validation.{_value(entry.name)}]", *_lines(_pictures(entry.pictures) | shares))


def _pictures(pictures: Pictures) -> dict[str, Any]:
    if pictures.reader == "noise":
        found: dict[str, Any] = {"noise": pictures.count, "size": list(pictures.size)}
    else:
        found = {pictures.reader: pictures.place}
        found |= {key: value for key in ("root", "split", "parts", "pick", "count") if (value := getattr(pictures, key)) not in ("", None)}
    if pictures.sources:
        found["sources"] = list(pictures.sources)
    return found | ({"or": [_pictures(other) for other in pictures.others]} if pictures.others else {})


def _source(name: str, source: Source) -> Iterator[str]:
    keys = ("title", "licence", "page", "get", "torchvision", "into")
    yield from ("", f"[sources.{_value(name)}]", *_lines({key: value for key in keys if (value := getattr(source, key)) not in (None, "")}))
    for archive in source.archives:
        told = {key: value for key, value in vars(archive).items() if value is not None and (key, value) != ("keep", "archives")}
        yield from (f"[[sources.{_value(name)}.archives]]", *_lines(told))


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    """A text, number, list or table as TOML has it; JSON's texts and numbers are TOML's."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""What the site has beside the files in `docs/`: a hook of MkDocs and an extension of Griffe, both named in `mkdocs.yml`.

The home page, the changelog and the page for contributors are those of the repository. Each room of the code gets a page with its public classes
and functions, found by reading the source: a new one is on the site without a line here.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "farfield"
COPIED = {"index.md": "README.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
HIDDEN = {"cli"}  # what it has is on the command line


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the API to the navigation."""
    assert config.nav is not None
    config.nav.append({"API": [{room: f"api/{room}.md"} for room in rooms()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made here."""
    for target, source in COPIED.items():
        text = (ROOT / source).read_text("utf-8")
        text = re.sub(r"\]\((?:docs/|(?=README\.md))", "](", text).replace("](README.md", "](index.md")
        files.append(File.generated(config, target, content=text))
    for room, (docstring, names) in rooms().items():
        files.append(File.generated(config, f"api/{room}.md", content=api_page(room, docstring, names)))
    return files


def api_page(room: str, docstring: str, names: list[str]) -> str:
    """A room's page: what it is, then each of its names."""
    parts = [f"# farfield.{room}", fenced(docstring), *(f"::: {name}" for name in names)]
    return "\n\n".join(parts) + "\n"


@cache
def rooms() -> dict[str, tuple[str, list[str]]]:
    """Each room's docstring, and where its public classes and functions are; read, not imported."""
    package = griffe.load("farfield", search_paths=[SOURCE.parent], resolve_aliases=True)
    found = {}
    for room, module in sorted(package.modules.items()):
        names = public(module, f"farfield.{room}")
        if not module.exports:  # a room whose modules are used by name
            names += [name for inner, part in sorted(module.modules.items()) for name in public(part, f"farfield.{room}.{inner}")]
        if names and room not in HIDDEN:
            found[room] = (module.docstring.value if module.docstring else "", names)
    return found


def public(module: griffe.Module, where: str) -> list[str]:
    """The classes and functions that a module has in `__all__`, or else defines under a public name."""
    names = module.exports or [name for name, member in module.members.items() if not name.startswith("_") and not member.is_alias]
    members = [(str(name), module[str(name)]) for name in names]
    return [f"{where}.{name}" for name, member in members if (member.is_class or member.is_function) and member.has_docstring]


class Doctests(griffe.Extension):
    """Docstrings with their doctests as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring with each doctest between fences: from a prompt to the next empty line."""
    blocks = re.split(r"\n[ \t]*\n", text)
    return "\n\n".join(f"```pycon\n{block}\n```" if block.startswith(">>>") else block for block in blocks)

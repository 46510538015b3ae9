"""Imports point down only. The rooms and their order are those of the architecture; a new module must be given its place here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "farfield"

# Each level may import the levels above it in this list. Within a level, what a room may import is listed.
LEVELS: list[dict[str, set[str]]] = [
    {"errors": set(), "files": set(), "identity": set()},
    {"plugins": set(), "citations": set()},
    {"outputs": set(), "stats": set()},
    {"metrics": set()},
    {
        "data": set(),
        "training": set(),
        "models": {"data", "training"},
        "classifier": {"models", "data"},
        "store": set(),
        "loading": {"classifier", "store", "data"},
        "taps": {"classifier"},
        "collect": {"classifier", "store", "data", "loading", "taps"},
        "detectors": {"taps"},
    },
    {"benchmark": {"inputs"}, "testing": set(), "inputs": set(), "choose": {"benchmark", "inputs"}, "recipes": {"inputs"}, "overlap": set()},
    {"diagnose": set()},
    {"report": set(), "compare": set()},
    {"reproduce": set(), "study": set()},
    {"cli": set(), "__main__": {"cli"}},
]
# The package's own front door: imported for its version alone, and importing whatever it re-exports.
FRONT = "__init__"
PRINTERS = {"cli"}
COMMANDS = {SOURCE / "models" / "shipped.py"}  # run by hand, to make what ships


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> set[str]:
    """The rooms of farfield that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            names.add("farfield.relative")  # says nothing of the room, so it has no place
        elif isinstance(node, ast.ImportFrom) and node.module == "farfield":
            names |= {f"farfield.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[1] for name in names if name.startswith("farfield.")}


def allowed(room: str) -> set[str]:
    for depth, level in enumerate(LEVELS):
        if room in level:
            return {room, *level[room], *(above for upper in LEVELS[:depth] for above in upper)}
    raise AssertionError(f"The room {room!r} has no place in LEVELS.")


def violations(room: str, source: str) -> list[str]:
    """What a module of a room does that it may not: imports from above or beside it, and printing."""
    tree = ast.parse(source)
    wrong = [f"{room} imports {other}" for other in sorted(imported_rooms(tree) - allowed(room) - {"__version__"})]
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    printing = calls & {"print", "sys.stdout.write", "sys.stderr.write"} and room not in PRINTERS
    return wrong + ([f"{room} prints"] if printing else [])


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    if path == SOURCE / "__init__.py":
        return
    found = violations(room_of(path), path.read_text("utf-8"))
    assert found == (["models prints"] if path in COMMANDS else [])


@pytest.mark.parametrize(
    ("room", "line", "found"),
    [
        ("metrics", "from farfield.detectors import MSP", "metrics imports detectors"),
        ("detectors", "import farfield.collect", "detectors imports collect"),
        ("stats", "def f():\n    from farfield import outputs", "stats imports outputs"),
        ("benchmark", "from farfield.cli import main", "benchmark imports cli"),
        ("store", "print('hello')", "store prints"),
        ("store", "sys.stderr.write('hello')", "store prints"),
        ("metrics", "from . import cli", "metrics imports relative"),
        ("metrics", "from .detectors import MSP", "metrics imports relative"),
    ],
)
def test_a_planted_violation_is_found(room: str, line: str, found: str) -> None:
    assert violations(room, line) == [found]


def test_every_room_has_a_place() -> None:
    rooms = {room_of(path) for path in SOURCE.rglob("*.py")} - {FRONT}
    assert rooms == {room for level in LEVELS for room in level}

"""Writes the table of the papers' classifiers into `docs/models.md`: `python docs/models.py`."""

from __future__ import annotations

import re
from pathlib import Path

from farfield.models.zoo import ZOO, Entry

PAGE = Path(__file__).with_name("models.md")


def line(name: str, entry: Entry) -> str:
    """One classifier."""
    address, _, rest = (entry.address or "").partition(" ")
    weights = f"[`{entry.file}`]({address}){f' {rest}' if rest else ''}" if entry.file else "none published"
    note = (
        f"; {entry.note[0].lower()}{entry.note[1:]}".rstrip(".")
        if entry.note.startswith("The ")
        else f"; {entry.note.rstrip('.')}"
        if entry.note
        else ""
    )
    cells = (
        f"`zoo:{name}`",
        f"{entry.what}{note}",
        entry.paper,
        str(entry.classes),
        f"{entry.millions:g}",
        f"`{entry.preprocess}`",
        weights,
        entry.licence or "not said",
    )
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """A line for each classifier."""
    head = ["| name | what | paper | classes | M parameters | preprocessing | weights | licence |", "|---|---|---|---|---|---|---|---|"]
    return "\n".join([*head, *(line(name, entry) for name, entry in ZOO.items())])


def page() -> str:
    """The page with the table as it is now."""
    text = PAGE.read_text("utf-8")
    return re.sub(r"(<!-- models -->\n).*?(<!-- end of models -->)", lambda found: f"{found[1]}{table()}\n{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

"""Writes the table of recipes into `docs/training.md`: `python docs/training.py`."""

from __future__ import annotations

import re
from pathlib import Path

from farfield.recipes import RECIPES

PAGE = Path(__file__).with_name("training.md")


def table() -> str:
    """A line for each recipe, and the published command of each."""
    lines = ["| recipe | starts from | what it does | from | differs from what was published |", "|---|---|---|---|---|"]
    for name, entry in RECIPES.items():
        start = "a trained model" if entry.finetunes else "random weights"
        then = "; AugDelete follows" if entry.then else ""
        lines.append(f"| `{name}` | {start} | {entry.what.rstrip('.')}{then} | {entry.paper} | {entry.differs} |")
    lines += [
        "",
        "As published (ImageNet in `imagenet/train` and `imagenet/val`):",
        "",
        "```bash",
        *(entry.command(name) for name, entry in RECIPES.items()),
        "```",
    ]
    return "\n".join(lines)


def page() -> str:
    """The page with the table as it is now."""
    text = PAGE.read_text("utf-8")
    return re.sub(r"(<!-- recipes -->\n).*?(<!-- end of recipes -->)", lambda found: f"{found[1]}{table()}\n{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

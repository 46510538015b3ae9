"""One self-contained HTML file: the template, its style and scripts, the plotting library, and the content as JSON."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import vl_convert

from farfield.collect import Progress
from farfield.files import cache_folder, put
from farfield.report.model import model
from farfield.report.render import Value, put_text

ASSETS = Path(__file__).with_name("assets")
TITLES = {"page": "report", "run": "training run", "experiment": "experiment", "diagnosis": "diagnosis", "study": "study"}


def page(results: Value, folder: str | Path | None = None, progress: Progress | None = None) -> str:
    """The page for a benchmark's results.

    Args:
        results: the content of `results.json`.
        folder: where that lies, with `scores` and `pictures` beside it; without, the page has tables alone.
        progress: called with what is done, how far, and out of how much.
    """
    return assembled(model(results, None if folder is None else Path(folder), progress), "page")


def assembled(content: Value, name: str) -> str:
    """A page: the shell that all have, with the body `name`.html, the style, `name`.css if there is one, the plotting library, the content, and the scripts that show it."""
    told, own = json.dumps(content, separators=(",", ":"), allow_nan=False), ASSETS / f"{name}.css"
    parts = {
        "title": TITLES[name],
        "style": (ASSETS / "shell.css").read_text("utf-8"),
        "own": own.read_text("utf-8") if own.exists() else "",
        "body": (ASSETS / f"{name}.html").read_text("utf-8"),
        "vega": vega(),
        "content": told.replace("<", "\\u003c"),  # so that no text can end the script element it is in
        **{script: (ASSETS / f"{script}.js").read_text("utf-8") for script in ("elements", "plots")},
        "script": (ASSETS / f"{name}.js").read_text("utf-8"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], (ASSETS / "shell.html").read_text("utf-8"))


def write_page(results: Value, folder: str | Path, progress: Progress | None = None) -> Path:
    """Writes `report.html` beside `results.json`, and returns its path."""
    return put_text(Path(folder) / "report.html", page(results, folder, progress))


def vega() -> str:
    """Vega-Embed with Vega-Lite and Vega as one script, made once by vl-convert and kept: making it takes seconds."""
    path = cache_folder() / f"vega-embed-{version('vl-convert-python')}.js"
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        pass  # absent or broken: made again
    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    script = re.sub("</(?=script)", r"<\\/", made, flags=re.IGNORECASE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, lambda partial: partial.write_text(script, "utf-8"))
    except OSError:
        pass  # a read-only or full cache costs seconds, nothing else
    return script

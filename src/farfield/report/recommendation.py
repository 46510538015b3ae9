"""Which detector suits a classifier, as files: JSON, Markdown, and one HTML page; and how its figures are written wherever they are shown."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farfield.choose.comparison import KINDS
from farfield.report.page import assembled
from farfield.report.render import FAILED, Value, escape, percent, put_text, to_json

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they turn the text around them about
NONE = "\u2013"  # where there is no figure
TAKE, TIED, BEHIND, AGAINST = "take this", "not told from it", "behind", "not recommended"


def write_recommendation(plain: Value, folder: str | Path) -> list[Path]:
    """Writes `recommendation.json`, `.md` and `.html` into a folder, and returns their paths.

    Args:
        plain: of `Recommendation.plain`.
        folder: made where it is not there.

    Raises:
        InputError: when a file cannot be written.
    """
    plain = finite(plain)
    return put_all(Path(folder), "recommendation", plain, to_markdown(plain), page_content(plain))


def put_all(folder: Path, name: str, value: Value, text: str, content: Value) -> list[Path]:
    """Writes a value as JSON, its Markdown, and its page, which recommendations and diagnoses share; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        put_text(folder / f"{name}.json", to_json(value) + "\n"),
        put_text(folder / f"{name}.md", text),
        put_text(folder / f"{name}.html", assembled(cleaned(content), "diagnosis")),
    ]


def to_markdown(plain: Value) -> str:
    """The ranking with every interval, reason and refusal, as Markdown."""
    lines = [f"# Which detector suits {shown(plain['classifier'])}", "", shown(verdict(plain)), ""]
    if plain["accuracy"] is not None:
        lines += [f"ID accuracy {of_share(*plain['accuracy'])} %.", ""]
    lines += ranking_lines(plain)
    if plain["command"]:
        lines += ["The command that does it again:", "", *fenced(plain["command"])]
    return "\n".join(lines)


def ranking_lines(plain: Value) -> list[str]:
    """The ranking and what a reader must know beside it, as lines of Markdown."""
    kinds = kinds_of(plain)
    heads = ["", "detector", "mean", *kinds, "behind the first", "noise failed", "verdict"]
    rows = []
    for place, one in enumerate(plain["ranked"], 1):
        of = [figure(one["kinds"].get(kind)) for kind in kinds]
        rows.append([str(place), one["detector"], figure(one["mean"]), *of, behind(plain, one), noise(one), standing(plain, one)])
    lines = [*table_lines(heads, rows), ""]
    lines += [f"- {shown(one['detector'])}: {shown(reason)}" for one in plain["ranked"] for reason in one["reasons"]]
    lines += [f"- {shown(name)}: n/a. {shown(reason)}" for name, reason in plain["refused"].items()]
    return [*lines, *(f"- {shown(note)}" for note in notes(plain)), ""]


def page_content(plain: Value) -> dict[str, Any]:
    """What the page of a recommendation shows; that of a diagnosis has more."""
    return {
        "kind": "Which detector suits",
        "title": plain["classifier"],
        "summary": verdict(plain),
        "accuracy": plain["accuracy"],
        "recommendation": content(plain),
        "command": plain["command"],
        "facts": facts(plain),
    }


def content(plain: Value, current: str | None = None) -> dict[str, Any]:
    """What a page shows of the ranking: its rows, and the plot of the means.

    Args:
        plain: of `Recommendation.plain`.
        current: the detector in use, which is marked.
    """
    kinds, names = kinds_of(plain), [one["detector"] for one in plain["ranked"]]
    series = [{"name": "mean", **_series([one["mean"] for one in plain["ranked"]], True)}]
    series += [{"name": kind, **_series([one["kinds"].get(kind) for one in plain["ranked"]], False)} for kind in kinds]
    plot = {"kind": "points", "x": names, "series": series, "x_title": "detector", "y_title": "AUROC, %", "limit": 50.0}
    rows = [{**one, "standing": standing(plain, one), "noise": noise(one), "current": one["detector"] == current} for one in plain["ranked"]]
    refused = [[name, reason] for name, reason in plain["refused"].items()]
    return {"verdict": verdict(plain), "kinds": kinds, "ranked": rows, "refused": refused, "notes": notes(plain), "plot": plot}


def _series(figures: Sequence[Value | None], ends: bool) -> dict[str, list[float | None]]:
    def of(get: Any) -> list[float | None]:
        return [None if one is None else round(100 * get(one), 4) for one in figures]

    around = {"low": of(lambda one: one["interval"][0]), "high": of(lambda one: one["interval"][1])} if ends else {"low": [], "high": []}
    return {"y": of(lambda one: one["auroc"]), **around}


def facts(plain: Value) -> list[list[str]]:
    """Of how many pictures all this is, how long it took, and by which versions; a diagnosis has the same fields."""
    counts = [[f"pictures, {name}", f"{n:,}"] for name, n in plain["samples"].items()]
    return [*counts, ["seconds", f"{plain['seconds']:.1f}"], *([name, str(text)] for name, text in plain["environment"].items())]


# --- what is said of a ranking ------------------------------------------------------------------------------------------------------------


def verdict(plain: Value) -> str:
    """Which detector to take, and which are as good, in a sentence or two."""
    first, tied = plain["ranked"][0], plain["tied"]
    if first["reasons"]:
        return f"Something speaks against every detector here; {plain['best']}, at a mean AUROC of {figure(first['mean'])} %, is the best of them."
    said = f"Take {plain['best']}: its mean AUROC on pseudo-OOD is {figure(first['mean'])} %."
    if not tied:
        return f"{said} Every other detector that can be recommended is behind it."
    return f"{said} Not told from it {'is' if len(tied) == 1 else 'are'} {listed(tied)}."


def standing(plain: Value, one: Value) -> str:
    """What a detector is in the ranking: `take this`, `not told from it`, `behind`, or `not recommended`."""
    if one["reasons"]:
        return AGAINST
    return TAKE if one["detector"] == plain["best"] else TIED if one["detector"] in plain["tied"] else BEHIND


def notes(plain: Value) -> list[str]:
    """What a reader must know beside the ranking."""
    groups = {group: [kind for kind in kinds_of(plain) if KINDS.get(kind) == group] for group in ("near", "far")}
    parts = [f"{group} ({', '.join(kinds)})" for group, kinds in groups.items() if kinds]
    return [
        "Figures are AUROC in %, with 95 % intervals, on pseudo-OOD that is made of held-out ID pictures; no OOD data was used.",
        f"The mean is of {' and '.join(parts)}{', half each' if len(parts) > 1 else ''}; its intervals go by picture, since all sets are made of the same ones.",
        "Behind the first: by how many points the mean is below the first one's, on the same pictures; where the interval holds 0 the two are not told apart.",
        f"A family of noise is failed when more than {100 * FAILED:.0f} % of it is taken for ID where 95 % of ID is kept.",
    ]


def kinds_of(plain: Value) -> list[str]:
    """The kinds of pseudo-OOD in a ranking, near ones first."""
    found = dict.fromkeys(kind for one in plain["ranked"] for kind in one["kinds"])
    return sorted(found, key=lambda kind: list(KINDS).index(kind) if kind in KINDS else len(KINDS))


def noise(one: Value) -> str:
    """How many families of noise a detector fails; empty where there are none."""
    return f"{one['failed']} of {one['families']}" if one["families"] else ""


def behind(plain: Value, one: Value) -> str:
    """By how many points a detector is behind the first, which is not behind itself."""
    return NONE if one["detector"] == plain["ranked"][0]["detector"] else figure(one["behind"])


# --- how figures and texts are written ----------------------------------------------------------------------------------------------------


def figure(one: Value | None) -> str:
    """An AUROC with its interval, in %.

    >>> figure({"auroc": 0.835, "interval": [0.826, 0.844]}), figure(None)
    ('83.5 (82.6 to 84.4)', '–')
    """
    return NONE if one is None else of_share(one["auroc"], one["interval"])


def of_share(value: float, interval: Sequence[float]) -> str:
    """A share with its interval, in %.

    >>> of_share(0.85, (0.84, 0.86))
    '85.0 (84.0 to 86.0)'
    """
    return f"{percent(value)} ({percent(interval[0])} to {percent(interval[1])})"


def points(value: float, interval: Sequence[float]) -> str:
    """A difference of shares with its sign, in points.

    >>> points(0.042, (-0.001, 0.085))
    '+4.2 (-0.1 to +8.5)'
    """
    value, low, high = (100 * one + 0.0 for one in (value, *interval))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def number(value: float | None) -> str:
    """Any figure, to four digits.

    >>> number(0.123456), number(50000.0), number(12.0), number(None)
    ('0.1235', '50,000', '12', '–')
    """
    return NONE if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["msp", "knn", "vim"]), listed(["msp"])
    ('msp, knn and vim', 'msp')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def clean(text: str, breaks: bool = False) -> str:
    r"""A text without what a terminal or a page would obey: on one line, control characters escaped.

    Args:
        text: any, names of files and classes among it.
        breaks: leaves line breaks and spaces as they are, which commands need.

    >>> clean("two\nlines, \x1b[31mred")
    'two lines, \\x1b[31mred'
    """
    text = text if breaks else " ".join(text.split())
    obeyed = {c for c in set(text) if c != "\n" and (c in BIDI or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp"))}
    return "".join(c.encode("unicode_escape").decode() if c in obeyed else c for c in text)


def shown(text: str) -> str:
    """A text that Markdown shows as it is, on one line.

    >>> shown("a | <b>")
    'a \\\\| \\\\<b\\\\>'
    """
    return escape(clean(text)).replace("~", "\\~").replace("&", "\\&")


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    return [
        "| " + " | ".join(cells) + " |"
        for cells in ([shown(one) for one in heads], ["---"] * len(heads), *([shown(one) for one in row] for row in rows))
    ]


def fenced(command: str) -> list[str]:
    """A command as a block of code, which no text in it can end."""
    fence = "`" * (1 + max([2, *map(len, re.findall("`+", command))]))
    return [f"{fence}sh", clean(command, breaks=True), fence, ""]


def cleaned(value: Any) -> Any:
    """A plain value whose texts are `clean`, but for commands, which are to be copied as they are.

    >>> cleaned({"a\\n": ["b\\n"], "command": "c\\n"})
    {'a': ['b'], 'command': 'c\\n'}
    """
    if isinstance(value, dict):
        return {clean(key): one if key == "command" else cleaned(one) for key, one in value.items()}
    return [cleaned(one) for one in value] if isinstance(value, list) else clean(value) if isinstance(value, str) else value


def finite(value: Any) -> Any:
    """A plain value with `None` for every number that JSON has no way to write, and lists for tuples.

    >>> finite({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

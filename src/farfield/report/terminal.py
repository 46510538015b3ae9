"""Results, diagnoses and recommendations as tables on the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from farfield.diagnose.base import ORDER
from farfield.report import recommendation as ranking
from farfield.report.diagnosis import OPEN, accuracy_change, by_cost, gain, tally, told
from farfield.report.recommendation import clean, figure, finite, of_share
from farfield.report.render import MEASURES, Value, blocks, notes, percent, ranks, title

WIDE = 110  # columns from which every figure has room for its interval
TOP = 10  # detectors of a ranking
STYLES = {"issue": "bold red", "tip": "bold yellow", ranking.TAKE: "bold green", ranking.AGAINST: "dim", "better": "green", "worse": "red"}
WORDS = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:\\.|[^"\\])*"|['"\\])+""", re.DOTALL)  # as a shell cuts a line


def tables(results: Value, width: int = 80) -> Group:
    """The tables for a terminal of some width: intervals on the means, and where there is room on every set, the shifted ones, and which set is worst."""
    shown: list[RenderableType] = []
    for classifier, every, block in blocks(results):
        columns = [c for c in every if width >= WIDE or not block or block[0].cells[c]["group"] != "shifted"]
        shown.append(Text(title(classifier), style="bold"))
        for measure, name in MEASURES.items():
            table = Table(title=name, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
            table.add_column("rank", justify="right")
            table.add_column("detector")
            for column in columns:
                table.add_column(Text(column), justify="right", no_wrap=True)
            worst_too = width >= WIDE or measure == "auroc"
            if worst_too:
                table.add_column("worst set" if width >= WIDE else "worst", justify="right", no_wrap=True)
            if measure != "auroc":
                table.add_column("noise failed", justify="right")
            for rank, line in zip(ranks(block), block, strict=True):
                cells = [_cell(line.cells[c], measure, c in ("near", "far") or width >= WIDE) for c in columns]
                worst = line.worst(measure)
                told = Text("" if worst is None else percent(worst[measure]) + (f" {worst['ood']}" if width >= WIDE else ""))
                table.add_row(rank, Text(line.detector), *cells, *([told] if worst_too else []), *([line.failed()] if measure != "auroc" else []))
            shown += [table, Text("")]
    shown += [Text(note, style="dim") for note in notes(results)]
    return Group(*shown)


def _cell(row: Value, measure: str, with_interval: bool) -> str:
    """`83.5 ±0.9`: the figure and the farther end of its interval."""
    if not with_interval:
        return percent(row[measure])
    low, high = row[f"{measure}_interval"]
    return f"{percent(row[measure])} ±{percent(max(high - row[measure], row[measure] - low))}"


# --- diagnoses and recommendations --------------------------------------------------------------------------------------------------------


def diagnosis_table(value: Value, width: int = 80) -> Group:
    """A diagnosis for a terminal of some width: the verdict, what there is to do, the other checks by their codes, the remedies and the ranking."""
    value = finite(value)
    parts: list[RenderableType] = [_text(value["classifier"], "bold"), _text(value["summary"]), _text(f"{tally(value)}.", "dim"), *_accuracy(value)]
    for outcome in OPEN:
        for one in (one for one in value["findings"] if one["outcome"] == outcome):
            parts += [Text(""), *_finding(one, width)]
    rest = {outcome: [one["code"] for one in value["findings"] if one["outcome"] == outcome] for outcome in ORDER if outcome not in OPEN}
    parts += [Text(""), *(_text(f"{outcome}: {', '.join(codes)}") for outcome, codes in rest.items() if codes)]
    if value["remedies"]:
        parts += [Text(""), *_remedies(by_cost(value["remedies"]), width)]
    if value["recommendation"] is not None:
        parts += [Text(""), *_ranking(value["recommendation"], width, value.get("current"))]
    if value["real"]:
        parts += [Text(""), _real(value["real"])]
    return Group(*parts)


def recommendation_table(plain: Value, width: int = 80) -> Group:
    """A recommendation for a terminal of some width: which detector, then the best of the ranking with what speaks against them."""
    plain = finite(plain)
    return Group(_text(plain["classifier"], "bold"), *_accuracy(plain), Text(""), *_ranking(plain, width))


def _text(said: str, style: str = "") -> Text:
    return Text(clean(said), style=style)


def _indented(text: Text, by: int) -> Padding:
    return Padding(text, (0, 0, 0, by), expand=False)


def _accuracy(value: Value) -> list[RenderableType]:
    return [] if value["accuracy"] is None else [_text(f"ID accuracy {of_share(*value['accuracy'])} %.", "dim")]


def _finding(one: Value, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text.assemble((one["outcome"], STYLES[one["outcome"]]), " ", _text(f"{one['code']}  {one['title']}", "bold"))]
    parts.append(_indented(_text(one["said"]), 2))
    if one["do"]:
        parts.append(_indented(Text.assemble(("To do: ", "bold"), _text(one["do"])), 2))
    return parts + ([_indented(continued(one["command"], width - 4), 4)] if one["command"] else [])


def continued(command: str, width: int) -> Text:
    """A command over as many lines as it needs, each but the last with the backslash by which a shell reads on: it can be copied.

    >>> continued("farfield bench --model 'my model' --out results", 30).plain.splitlines()
    ['farfield bench --model \\\\', "  'my model' --out results"]
    """
    lines: list[str] = []
    for word in WORDS.findall(clean(command, breaks=True)):
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return Text(" \\\n".join(lines), style="cyan", overflow="fold")


def _plain_table(heading: str, *columns: str, words: Sequence[str] = ()) -> Table:
    """A table without lines; columns that are not of words have figures."""
    made = Table(title=Text(heading, style="bold"), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="left" if column in words else "right", no_wrap=column not in ("remedy", "detector", "set"), overflow="fold")
    return made


def _remedies(remedies: Sequence[Value], width: int) -> list[RenderableType]:
    wide = width >= WIDE
    columns = ("cost", "remedy", *(("AUROC",) if wide else ()), "gain", *(("ID accuracy",) if wide else ()), "AUROC is")
    made = _plain_table("Remedies, cheapest first; changes in points", *columns, words=("cost", "remedy", "AUROC is"))
    for one in remedies:
        around = [" \u2192 ".join(ranking.NONE if of is None else percent(of["auroc"]) for of in (one["before"], one["after"]))] if wide else []
        after = [accuracy_change(one)] if wide else []
        made.add_row(_text(one["cost"]), _text(one["name"]), *around, gain(one), *after, Text(told(one), style=STYLES.get(told(one), "")))
    parts: list[RenderableType] = [made]
    for one in (one for one in remedies if one["command"]):
        parts += [_text(f"{one['name']}:"), _indented(continued(one["command"], width - 4), 4)]
    return parts


def _ranking(plain: Value, width: int, current: str | None = None) -> list[RenderableType]:
    wide = width >= WIDE
    kinds = ranking.kinds_of(plain) if width >= WIDE + 40 else []
    columns = ("#", "detector", "mean AUROC", *kinds, *(("behind the first",) if wide else ()), "noise failed", "verdict")
    made = _plain_table("Detectors", *columns, words=("detector", "verdict"))
    rows = list(enumerate(plain["ranked"], 1))
    some = [(place, one) for place, one in rows if place <= TOP or one["detector"] == current]
    for place, one in some:
        name = one["detector"] + (", in use" if one["detector"] == current else "")
        of = [ranking.NONE if one["kinds"].get(kind) is None else percent(one["kinds"][kind]["auroc"]) for kind in kinds]
        more = [ranking.behind(plain, one)] if wide else []
        stands = ranking.standing(plain, one)
        made.add_row(str(place), _text(name), figure(one["mean"]), *of, *more, ranking.noise(one), Text(stands, style=STYLES.get(stands, "")))
    said = [f"{len(rows) - len(some)} more are not shown."] * (len(rows) > len(some))
    said += [f"{one['detector']}: {reason}" for _, one in some for reason in one["reasons"]]
    said += [f"{name}: n/a. {reason}" for name, reason in plain["refused"].items()]
    return [_text(ranking.verdict(plain)), Text(""), made, *(_text(note, "dim") for note in (*said, *ranking.notes(plain)))]


def _real(rows: Sequence[Value]) -> Table:
    made = _plain_table("Real OOD sets; nothing was chosen by them", "set", "detector", "AUROC", "FPR at 95 % TPR", words=("set", "detector"))
    for one in rows:
        made.add_row(_text(one["set"]), _text(one["detector"]), figure(one), of_share(one["fpr"], one["fpr_interval"]))
    return made

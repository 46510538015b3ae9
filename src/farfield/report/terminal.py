"""Results as tables on the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from farfield.report.render import MEASURES, Value, blocks, notes, percent, ranks, title

WIDE = 110  # columns from which every figure has room for its interval


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

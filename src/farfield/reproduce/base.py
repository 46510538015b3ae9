"""What an experiment is: a table or figure of a paper, as records that a stage makes, beside the paper's own and what the paper claims of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from farfield.reproduce.stage import Stage

Key = tuple[str, ...]
Convention = Literal["id", "ood"]


@dataclass(frozen=True)
class Record:
    """Figures of one thing at one seed; shares are in percent, as papers print them.

    Args:
        of: what the figures are of, an entry for each of the experiment's `keys`, such as `("mos", "average")`.
        values: the figures by name, such as `auroc`.
        intervals: their 95 % intervals over pictures, of those that have one.
        seed: of the network and whatever else was random.
    """

    of: Key
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seed: int = 0


class Cells:
    """The figures of one seed, to be looked up by what they are of.

    >>> cells = Cells([Record(("msp", "average"), {"auroc": 79.3})])
    >>> cells["msp", "average", "auroc"], cells.get("mos", "average", "auroc")
    (79.3, None)
    """

    def __init__(self, records: Iterable[Record]) -> None:
        kept = list(records)
        self.known = {(*record.of, name): value for record in kept for name, value in record.values.items()}
        self.ends = {(*record.of, name): ends for record in kept for name, ends in record.intervals.items()}

    def __getitem__(self, where: Key) -> float:
        return self.known[where]

    def get(self, *where: str) -> float | None:
        """The figure, `None` where there is none."""
        return self.known.get(where)

    def interval(self, *where: str) -> tuple[float, float]:
        """The interval of a figure. A `KeyError` where it has none."""
        return self.ends[where]

    def names(self, place: int = 0) -> list[str]:
        """What stands at a place of the keys, each once, in order."""
        return list(dict.fromkeys(where[place] for where in self.known))


@dataclass(frozen=True)
class Claim:
    """Something that a paper says of an experiment's figures.

    Args:
        text: what it says, in a sentence without its full stop.
        difference: of one seed's figures, in points: above 0 where they are as the paper says. A `KeyError` means that they are not there.
        same: that the paper says that there is no difference to speak of, which holds where the interval is within a point of 0.
        interval: of that difference, where one seed has one: over the models of a pool, say. By it a claim is told from chance.
    """

    text: str
    difference: Callable[[Cells], float]
    same: bool = False
    interval: Callable[[Cells], tuple[float, float] | None] | None = None


@dataclass(frozen=True)
class Plot:
    """How a figure is drawn: which key or value is on which axis.

    Args:
        x: a key or a value on the horizontal axis.
        y: the value on the vertical axis.
        series: the key that tells lines or kinds of points apart.
        panel: the key of which each value has a small plot of its own.
        kind: `lines`, `points` or `bars`.
    """

    x: str
    y: str
    series: str = ""
    panel: str = ""
    kind: Literal["lines", "points", "bars"] = "lines"


Cell = Callable[[], Iterable[Record]]


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper.

    Args:
        name: what `farfield reproduce` calls it.
        paper: as `farfield cite` knows it.
        place: where it is in the paper, such as `Table 1`.
        what: it shows, in a sentence.
        keys: what each entry of a record's `of` is, such as `("method", "set")`.
        figures: the values of a record with their headings, in the order of the table.
        cells: the pieces of work on a stage by name; each is done, and kept, by itself.
        published: the paper's own figures, in the same form; none where it has none, or they did not survive.
        claims: what the paper says of them.
        fpr: the paper's convention: `id` (OOD taken for ID where 95 % of ID is kept), or `ood` (ID lost where 95 % of OOD is caught).
        here: how the experiment at the scale of Glyphs differs from the paper's.
        suite: of the full scale.
        plot: how it is drawn.
    """

    name: str
    paper: str
    place: str
    what: str
    keys: Key
    figures: Mapping[str, str]
    cells: Callable[[Stage], Mapping[str, Cell]]
    published: Sequence[Record] = ()
    claims: Sequence[Claim] = ()
    fpr: Convention = "id"
    here: str = ""
    suite: str = ""
    plot: Plot | None = None


def plain(record: Record) -> dict[str, Any]:
    """A record as JSON has it, rounded to what a table may show."""
    values = {name: round(value, 4) for name, value in record.values.items()}
    intervals = {name: [round(end, 4) for end in ends] for name, ends in record.intervals.items()}
    return {"of": list(record.of), "seed": record.seed, "values": values, "intervals": intervals}


def read(told: Mapping[str, Any]) -> Record:
    """A record from JSON.

    Raises:
        KeyError, TypeError, ValueError: where it is none.
    """
    values = {str(name): float(value) for name, value in told["values"].items()}
    intervals = {str(name): (float(low), float(high)) for name, (low, high) in told.get("intervals", {}).items()}
    return Record(tuple(map(str, told["of"])), values, intervals, int(told.get("seed", 0)))


def printed(text: str, keys: int, figures: Sequence[str], columns: Sequence[str] = ()) -> list[Record]:
    """A paper's table, from text: a line a record, its keys and then its figures between bars; `-` where there is none.

    Args:
        text: the table.
        keys: how many of the entries of a line are keys.
        figures: the names of the figures that follow.
        columns: where a line has the figures of several columns, one after another: the names of those, which become the last key.

    >>> printed("msp | 63.69 | 87.59 | 79.98 | 78.34", 1, ("fpr", "auroc"), ("iNaturalist", "SUN"))[1]
    Record(of=('msp', 'SUN'), values={'fpr': 79.98, 'auroc': 78.34}, intervals={}, seed=0)
    """
    records = []
    for line in text.strip().splitlines():
        entries = [entry.strip() for entry in line.split("|")]
        of, told = tuple(entries[:keys]), entries[keys:]
        for i, column in enumerate(columns or ("",)):
            mine = told[i * len(figures) : (i + 1) * len(figures)]
            values = {name: float(value) for name, value in zip(figures, mine, strict=True) if value != "-"}
            if values:
                records.append(Record((*of, column) if column else of, values))
    return records

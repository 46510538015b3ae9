"""A study as tables of texts, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = Mapping[str, Any]
HEADS = {"auroc": "AUROC", "fpr": "FPR", "accuracy": "ID accuracy"}
NONE = "n/a"


@dataclass(frozen=True)
class Texts:
    """A table of texts.

    Args:
        title: above it.
        heads: of its columns.
        rows: of as many cells.
        names: how many columns on the left are names; the others are figures.
        wide: whether it is for wide terminals and files alone.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    wide: bool = False


def tables(value: Value, full: bool = True) -> list[Texts]:
    """All tables; those that are not `full` have the columns that 80 letters have room for."""
    return [
        table
        for table in (
            _failed(value),
            _choice(value, full),
            *_winners(value, full),
            _families(value),
            _correlations(value, full),
            _effects(value, full),
        )
        if table.rows
    ]


def beside(value: Value) -> list[str]:
    """What stands beside the tables."""
    alone = f"Effects, n/a: no two classifiers differ in one of these alone: {'; '.join(value['without_pairs'])}."
    return [*value["notes"], *([alone] if value["without_pairs"] else [])]


def around(figure: float | None, interval: Sequence[float] | None, digits: int = 1, full: bool = True) -> str:
    """A figure and its interval, or the farther end of that; `n/a` where there is none.

    >>> around(61.25, [60.0, 62.0]), around(61.25, [60.0, 62.0], full=False), around(None, None)
    ('61.2 (60.0 to 62.0)', '61.2 ±1.2', 'n/a')
    """
    if figure is None:
        return NONE
    if interval is None:
        return f"{figure:.{digits}f}"
    low, high = interval
    return (
        f"{figure:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
        if full
        else f"{figure:.{digits}f} ±{max(high - figure, figure - low):.{digits}f}"
    )


def letters(runs: Sequence[Sequence[int]], place: int) -> str:
    """The runs that a place is in, a letter each.

    >>> [letters([[0, 1], [1, 2]], place) for place in range(4)]
    ['a', 'ab', 'b', '']
    """
    return "".join(chr(97 + i) if i < 26 else f"({i + 1})" for i, (first, last) in enumerate(runs) if first <= place <= last)


def _failed(value: Value) -> Texts:
    rows = [[one["name"], one["reason"]] for one in value["classifiers"] if one["reason"]]
    return Texts(f"{len(rows)} of {len(value['classifiers'])} classifiers failed", ["classifier", "why"], rows, 2)


def _choice(value: Value, full: bool) -> Texts:
    told = value["answer"]
    if told is None:
        return Texts("", [], [])
    target = told["target"].removesuffix(" OOD")
    heads = ["classifier", "ID accuracy", f"{target} AUROC", f"{target} FPR"]
    others = list(told["lines"][0]["others"])
    heads += [f"{other.removesuffix(' OOD')} FPR" for other in others if full]
    heads += [f"own best, chosen on these very sets: {target} AUROC", f"chosen by other sets: {target} AUROC"] if full else []
    heads += ["of the first", "front"]
    rows = []
    for place, line in enumerate(told["lines"]):
        cells = [line["classifier"], *(around(line[name], line[f"{name}_interval"], full=full) for name in ("accuracy", "auroc", "fpr"))]
        if full:
            own, elsewhere = line["own"], line["elsewhere"]
            cells += [around(line["others"][other]["fpr"], None) for other in others]
            cells += [
                f"{own['auroc']:.1f} {own['detector']}",
                NONE if elsewhere is None else f"{elsewhere['auroc']:.1f} {', '.join(dict.fromkeys(elsewhere['detectors'].values()))}",
            ]
        cells += ["first" if place == 0 else "not told apart" if line["classifier"] in told["tied"] else NONE if line["p_holm"] is None else "behind"]
        rows.append([*cells, "*" if line["front"] else ""])
    title = f"Classifiers by {told['detector']}, percent; * is on the front: none is as accurate with as low an FPR"
    return Texts(title, heads, rows)


def _winners(value: Value, full: bool) -> list[Texts]:
    found = []
    for one in value["winners"]:
        mean = one["column"] is None and any(target["name"] == one["target"] and target["mean"] for target in value["targets"])
        if mean and (full or one["measure"] == "fpr"):
            tested = "same letter: not told apart" if one["tested"] else "not tested"
            p = "" if one["friedman_p"] is None else f", Friedman p {small(one['friedman_p'])}"
            title = f"Detectors by {HEADS[one['measure']]} on {one['target']} over {one['n']} classifiers ({tested}{p})"
            rows = [
                [line["detector"], f"{line['rank']:.2f}", f"{line['mean']:.1f}", letters(one["runs"], place) if one["tested"] else ""]
                for place, line in enumerate(one["detectors"])
            ]
            found.append(Texts(title, ["detector", "mean rank", f"mean {HEADS[one['measure']]}, %", "letters"], rows))
    return found


def small(p: float) -> str:
    """A p-value.

    >>> small(0.0312), small(1e-9)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _families(value: Value) -> Texts:
    """On each family and mean the detector of the best mean rank, and those not told apart from it."""
    rows = []
    for one in value["winners"]:
        if one["column"] is None or one["measure"] != "fpr" or not one["detectors"]:
            continue
        first = one["detectors"][0]["detector"]
        tied = [line["detector"] for line in one["detectors"][1:] if line["p_first"] is not None and line["p_first"] >= 0.05]
        said = "not tested" if not one["tested"] else ", ".join(tied) if len(tied) < len(one["detectors"]) - 1 else "all others"
        rows.append([f"{one['column']} {setting(one['value'])}", str(one["n"]), one["target"], first, said or "none"])
    return Texts(
        "The detector of the lowest mean rank by FPR on each family",
        ["family", "classifiers", "on", "detector", "not told apart from it"],
        rows,
        5,
        True,
    )


def setting(value: Any) -> str:
    """A setting: numbers without zeros that say nothing.

    >>> setting(300.0), setting(0.0005), setting("i21k")
    ('300', '0.0005', 'i21k')
    """
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _correlations(value: Value, full: bool) -> Texts:
    names = ("spearman", "pearson") if full else ("spearman",)
    measures = ("fpr", "auroc") if full else ("fpr",)
    means = [target["name"] for target in value["targets"] if target["mean"]]
    by = {(one["detector"], one["target"], one["measure"]): one for one in value["correlations"]}
    columns = [(target, measure, name) for target in means for measure in measures for name in names]
    rows = [
        [
            detector,
            *(
                around(by[detector, target, measure][name], by[detector, target, measure][f"{name}_interval"], 2, full)
                for target, measure, name in columns
            ),
        ]
        for detector in value["detectors"]
    ]
    rows = rows if any(cell != NONE for row in rows for cell in row[1:]) else []
    heads = [f"{target} {HEADS[measure]}" + (f", {name.capitalize()}" if full else "") for target, measure, name in columns]
    return Texts(f"{'Correlation' if full else 'Rank correlation (Spearman)'} of ID accuracy with", ["detector", *heads], rows)


def _effects(value: Value, full: bool) -> Texts:
    """The changes of accuracy, and of the figures by the detector of the answer."""
    told = value["answer"]
    detector = None if told is None else told["detector"]
    means = [target["name"] for target in value["targets"] if target["mean"]]
    wanted = [(None, "accuracy"), *((target, measure) for target in means for measure in (("fpr", "auroc") if full else ("fpr",)))]
    changes: dict[tuple[Any, ...], dict[tuple[Any, Any], Value]] = {}
    for one in value["effects"]:
        if one["detector"] in (None, detector):
            changes.setdefault((tuple(one["columns"]), one["from"], one["to"], one["pairs"]), {})[one["target"], one["measure"]] = one
    rows = [
        [" and ".join(columns), f"{setting(before)} to {setting(after)}", str(pairs), *(_change(mine.get(where), full) for where in wanted)]
        for (columns, before, after, pairs), mine in changes.items()
    ]
    heads = ["column", "from, to", "pairs", *(HEADS[measure] if target is None else f"{target} {HEADS[measure]}" for target, measure in wanted)]
    return Texts(f"Mean change, in points, between classifiers that differ in a column alone{f', by {detector}' if detector else ''}", heads, rows, 2)


def _change(one: Value | None, full: bool) -> str:
    if one is None or one["difference"] is None:
        return NONE
    if one["interval"] is None:
        return f"{one['difference']:+.1f}"
    low, high = one["interval"]
    return f"{one['difference']:+.1f} " + (f"({low:+.1f} to {high:+.1f})" if full else f"±{high - one['difference']:.1f}")

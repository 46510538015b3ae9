"""BibTeX of what a result stands on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

ALWAYS = ("Farfield", "DeLong et al., 1988", "Clopper and Pearson, 1934")  # the library, and the intervals of every figure
CLUSTERED = "Obuchowski, 1997"
NOISE = "Bitterwolf et al., ICML 2023"


@cache
def known() -> dict[str, str]:
    """The entries of `references.bib` by what the code calls them, such as `Liu et al., NeurIPS 2020`."""
    entries = {}
    for block in Path(__file__).with_name("references.bib").read_text("utf-8").split("\n\n")[1:]:
        called, _, entry = block.strip().partition("\n")
        entries[called.removeprefix("% ")] = entry
    return entries


def bibtex(papers: Iterable[str]) -> str:
    """The BibTeX entries of some papers, each once and in the order of that file; one that is not known is a comment.

    Args:
        papers: as `Detector.paper` has them, several joined by `; `.

    >>> print(bibtex(["Liu et al., NeurIPS 2020", "My paper, 2031"]).splitlines()[0])
    @inproceedings{liu2020energy,
    """
    called = dict.fromkeys(part for paper in papers for part in paper.split("; ") if part)
    order = list(known())
    found = sorted((name for name in called if name in known()), key=order.index)
    missing = [f"% No entry is known for: {' '.join(name.split())}" for name in called if name not in known()]
    return "\n\n".join([known()[name] for name in found] + missing)

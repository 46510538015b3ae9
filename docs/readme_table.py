"""Puts the table of a finished benchmark into the README: `python docs/readme_table.py farfield-out/results.json`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from farfield.report.render import blocks, percent, ranks

README = Path(__file__).parents[1] / "README.md"
COLUMNS = (
    ("near AUROC", "near", "auroc"),
    ("far AUROC", "far", "auroc"),
    ("near FPR", "near", "fpr_at_95_tpr_id"),
    ("far FPR", "far", "fpr_at_95_tpr_id"),
)


def main() -> None:
    results = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    lines = ["Percent; ± is the farther end of the 95 % interval; FPR is the OOD kept where 95 % of ID is kept; = marks a shared rank.", ""]
    for classifier, _, block in blocks(results):
        lines += [f"**{classifier['name']}**, ID accuracy {percent(classifier['id_accuracy'])} %", ""]
        lines += [
            "| rank | detector | " + " | ".join(name for name, _, _ in COLUMNS) + " | worst set, AUROC | noise families failed |",
            "|---|---|" + "---|" * (len(COLUMNS) + 2),
        ]
        for rank, line in zip(ranks(block), block, strict=True):
            cells = [cell(line.cells[group], measure) for _, group, measure in COLUMNS]
            worst = line.worst("auroc")
            told = "" if worst is None else f"{cell(worst, 'auroc')} ({worst['ood'].replace('_', ' ')})"
            lines.append(f"| {rank} | `{line.detector}` | " + " | ".join(cells) + f" | {told} | {line.failed()} |")
        lines.append("")
    table = "\n".join(lines)
    text = re.sub(
        r"(<!-- results -->\n).*(<!-- end of results -->)", lambda match: match[1] + table + match[2], README.read_text("utf-8"), flags=re.DOTALL
    )
    README.write_text(text, "utf-8")


def cell(row: dict[str, float], measure: str) -> str:
    low, high = row[f"{measure}_interval"]  # type: ignore[misc]
    return f"{percent(row[measure])} ±{percent(max(high - row[measure], row[measure] - low))}"


if __name__ == "__main__":
    main()

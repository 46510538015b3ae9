"""Writes docs/diagnosis.md: how to diagnose a classifier, and every check by its code, from the checks themselves.

python docs/diagnosis.py
"""

from __future__ import annotations

from pathlib import Path

from farfield.choose.comparison import FOLDS, KINDS, SHARE
from farfield.diagnose import BOUND, CHECKS, TRIED
from farfield.report.render import escape

PAGE = Path(__file__).with_suffix(".md")

TEXT = f"""# Which detector, what is wrong, and what to do

<!-- Written by `python docs/diagnosis.py`. -->

Two commands for a classifier and its own data, no OOD data needed. Both make *pseudo-OOD* of ID pictures that the classifier was not trained on, and both can be read as a page.

```bash
farfield recommend timm:resnet18 --id-train photos/train --id-cal photos/cal        # which detector suits it
farfield diagnose  timm:resnet18 --id-train photos/train --id-test photos/held-out  # what is wrong, and the least to be done
farfield diagnose  glyphs-200-resnet --suite glyphs-200 --try augdelete             # on a classifier that ships
```

## Pseudo-OOD

| kind | what it is | counts as |
|---|---|---|
| `left-out classes` | {SHARE:.0%} of the classes are taken out of the training data and of the head, and their held-out pictures are OOD; {FOLDS} times, each with other classes. Needs labels | {KINDS["left-out classes"]} |
| `mixup` | half of one picture and half of one of another class | {KINDS["mixup"]} |
| `jigsaw` | the 4 x 4 tiles of a picture in another order | {KINDS["jigsaw"]} |
| `channels` | a picture's colour channels in another order | {KINDS["channels"]} |
| `noise` | the 17 unit tests of NINCO at the pictures' size | {KINDS["noise"]} |

A detector's figure is the mean of near and far, each the mean AUROC of its kinds. All sets are made of the same pictures, so intervals and tests go by picture, not by set
(`farfield.metrics.linked_auroc`). The network has seen the classes that are left out: its features tell them apart better than they would new ones.
[How well this chooses](recommendation.md), measured on classifiers and OOD sets that it knows nothing of.

Pictures are taken as the middle square, a little larger than the model sees, before its own transform. `--pictures N` is how many; 2,000 by default.

## A diagnosis

One pass over each set, then every check below: an *issue* is to be mended or makes a method useless, a *tip* is worth knowing; *not applicable* and *skipped* say why. While an issue stands
that is not muted by `--ignore CODE`, the exit status is 3, so that a pipeline can stop: 0 is no issue, 2 an input at fault.

- `--ood NAME=DATA` has the detector in use (`--detector`, `msp` by default) and the recommended one judged on real OOD pictures. Nothing is chosen by them.
- `--reference MODEL` compares with another classifier of the same classes, such as one that was trained without label smoothing and mixup.
- `--try {"|".join(TRIED)}` does a remedy and measures it: the gain in mean AUROC over the detector in use, paired on the same pictures, and the change of accuracy. AugDelete takes
  the stored features: no pass of the classifier.
- `--fix` does the cheapest remedy that helps beyond chance, and refuses one that loses more than {100 * BOUND:g} point of accuracy (`--most-lost`).

`farfield-diagnosis/` then holds `diagnosis.html`, `.md` and `.json`, and what was stored: a second run reads that.

```python
import farfield.diagnose as diagnosing
from farfield.choose.pseudo import squares

held, unreadable = squares(held_out, 256, name="held-out ID")
work = diagnosing.gather(classifier, train, held, out="farfield-diagnosis")
found = diagnosing.diagnose(work, ignore=["T3"])
for finding in found.issues:
    print(finding.code, finding.said)
```

## The checks
"""


def page() -> str:
    """The text of docs/diagnosis.md."""
    lines = [TEXT]
    for check in CHECKS.values():
        lines += [f"### {check.code}: {escape(check.title)}", "", escape(check.how), ""]
        lines += [f"Source: {escape(check.source)}", ""] if check.source else []
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

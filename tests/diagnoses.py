"""A made-up diagnosis with every outcome, plot and kind of remedy, whose figures tell where they are from; and one of names that mean harm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from farfield.choose import Recommendation
from farfield.choose.recommend import Figure, Ranked
from farfield.diagnose.base import Evidence, Series
from farfield.diagnose.examine import shown_picture

HOSTILE = "</script><!--{{style}}<img src=x onerror=window.hacked=1>'\"`$(rm) | # [a](b)\n\r\x1b[31m\u2028\u202e\ud800 \u05e9\u05dc\u05d5\u05dd"
CLASSES = ("oak", "a class with a rather long name, as taxonomies have them", "beech", "ash", "elm", "lime", "yew")
DETECTORS = (
    "knn", "vim", "mahalanobis", "relative-mahalanobis", "energy", "maxlogit", "react+energy", "scale+energy", "ash-s+energy", "vra+energy", "gen", "msp",
    "klmatching", "nnguide", "she", "fdbd", "neco", "odin",
)  # fmt: skip
KINDS = ("left-out classes", "mixup", "jigsaw", "channels", "noise")


def around(value: float, half: float) -> tuple[float, float]:
    return value - half, value + half


def finding(code: str, outcome: str, title: str, said: str = "", evidence: Evidence | None = None, **more: Any) -> dict[str, Any]:
    plain = None if evidence is None else asdict(evidence)
    empty = {
        "values": {},
        "intervals": {},
        "shown": [],
        "do": "",
        "command": "",
        "how": f"How {code} is detected: a figure above the limit.",
        "source": "",
    }
    return {"code": code, "title": title, "outcome": outcome, "said": said or f"What {code} saw.", "evidence": plain, **empty, **more}


def pictures(count: int, side: int = 32) -> list[dict[str, Any]]:
    drawn = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8))
    return [shown_picture(one, f"oak, row {row} of the training data") for row, one in enumerate(drawn)]


def histogram() -> Evidence:
    edges = np.linspace(-2, 4, 25)
    bumps = [np.exp(-((edges[:-1] - middle) ** 2)) for middle in (1.5, 0.5)]
    series = [Series(name, (100 * bump / bump.sum()).round(3).tolist()) for name, bump in zip(("held-out ID", "mixup"), bumps, strict=True)]
    return Evidence("histogram", edges.tolist(), series, "largest logit", "% of the set", 0.25)


FINDINGS = [
    finding(
        "M1", "issue", "Training with mixtures has flattened the logits", "Mixtures score like ID pictures: AUROC 61.2 % (59.8 to 62.6) at a share of 0.5, where 75 % is usual.",
        Evidence("lines", [0.1, 0.2, 0.3, 0.4, 0.5], [
            Series("this classifier", [50.3, 52.1, 55.4, 58.7, 61.2], [49.0, 50.8, 54.1, 57.4, 59.8], [51.6, 53.4, 56.7, 60.0, 62.6]),
            Series("plainly trained", [53.9, 61.8, 70.2, 76.4, 80.5], [52.5, 60.4, 68.9, 75.1, 79.3], [55.3, 63.2, 71.5, 77.7, 81.7]),
        ], "share of the second picture", "AUROC, ID against mixtures, %", 75.0),
        values={"auroc_at_half": 0.612, "limit": 0.75, "mixtures": 1840.0}, intervals={"auroc_at_half": (0.598, 0.626)},
        do="Refit the last layer alone on plain pictures (AugDelete); it takes seconds.", command="farfield finetune augdelete --model runs/mixup/model.safetensors --data train --out runs/mixup-augdelete",
        source="Adjusting for augmentation, NeurIPS 2024",
    ),
    finding(
        "D2", "issue", "Held-out pictures that are in the training data", "37 of 2,000 held-out pictures (1.85 %) are copies of training pictures.",
        values={"copies": 37.0, "share": 0.0185}, intervals={"share": (0.0131, 0.0254)}, shown=pictures(5), do="Take them out of the held-out data.",
        command="farfield overlap --id train --ood held-out --drop copies.txt",
    ),
    finding(
        "U1", "issue", "Noise that is taken for ID", "3 of 17 families pass.",
        Evidence("bars", ["gaussian", "uniform", "black", "white", "smooth"], [Series("msp", [2.5, 31.75, 0.0, 88.2, 12.3], [1.1, 28.5, 0.0, 85.4, 9.9], [4.4, 35.1, 0.9, 90.6, 15.0]), Series("energy", [1.2, 11.4, 0.3, 43.1, 6.7])], "family of noise", "taken for ID, %", 10.0),
        do="Take a detector that looks at features.", source="Bitterwolf et al., ICML 2023",
    ),
    finding(
        "C1", "tip", "Classes whose pictures are flagged often", "Pictures of elm are flagged more often than others.",
        Evidence("points", [0.91, 0.62, 0.88, 0.79, 0.95, 0.7, 0.85], [Series("", [4.1, 21.3, 5.2, 9.8, 3.3, 15.6, 6.6], [2.1, 16.3, 3.0, 6.6, 1.5, 11.6, 4.1], [7.0, 27.0, 8.3, 13.9, 6.2, 20.4, 10.0])], "accuracy of the class", "flagged, %"),
        do="Look at the labels of these classes.",
    ),
    finding("S1", "tip", "ID and mixtures overlap in their scores", "The scores overlap.", histogram(), values={"overlap": 0.4321}, do="Use vim."),
    finding("A1", "passed", "The classifier is as accurate as its training says", evidence=Evidence("bars", CLASSES, [Series("", [91.0, 62.0, 88.0, 79.0, 95.0, 70.0, 85.0])], "class", "accuracy, %"), values={"gap": 0.0123}, intervals={"gap": (-0.0045, 0.0291)}),
    finding("A2", "passed", "Logits are finite"), finding("L1", "passed", "Labels are there"),
    finding("G1", "muted", "The suite is small", "Fewer than 1,000 pictures; muted by --ignore."),
    finding("R1", "skipped", "Against a reference", "No reference was given."),
    finding("K1", "not applicable", "Groups of classes", "There is one group alone."),
]  # fmt: skip


def figure(auroc: float, half: float) -> dict[str, Any]:
    return {"auroc": auroc, "interval": list(around(auroc, half))}


REMEDIES = [
    {
        "name": "AugRevise", "cost": "hours", "said": "Train anew with a loss that keeps mixtures apart.", "command": "farfield train --recipe augrevise --data train --out runs/augrevise",
        "tried": False, "before": None, "after": None, "gain": None, "accuracy_change": None, "note": "Too long to be tried here.",
    },
    {
        "name": "Use knn", "cost": "free", "said": "Another detector on the same classifier.", "command": "farfield fit knn --model runs/mixup --out guard", "tried": True,
        "before": figure(0.71262, 0.0111), "after": figure(0.8642, 0.009), "gain": figure(0.1517, 0.013), "accuracy_change": None, "note": "",
    },
    {
        "name": "AugDelete", "cost": "seconds", "said": "Refit the last layer on plain features.", "command": "farfield finetune augdelete --model 'runs/a model' --data train --out runs/fixed",
        "tried": True, "before": figure(0.71262, 0.0111), "after": figure(0.7203, 0.012), "gain": figure(0.0078, 0.0101), "accuracy_change": [-0.0036, [-0.0081, 0.0012]],
        "note": "Measured on the same held-out pictures.",
    },
    {
        "name": "SFT", "cost": "minutes", "said": "A few steps of sharpness-aware tuning.", "command": "", "tried": True, "before": figure(0.71262, 0.0111),
        "after": figure(0.6911, 0.012), "gain": figure(-0.0214, 0.0092), "accuracy_change": [0.0021, [-0.0019, 0.0061]], "note": "",
    },
]  # fmt: skip


def recommendation(detectors: Sequence[str] = DETECTORS) -> dict[str, Any]:
    ranked = []
    for place, name in enumerate(detectors):
        mean = 0.86423 - 0.0213 * place
        kinds = {kind: Figure(mean + 0.011 * (i - 2), around(mean + 0.011 * (i - 2), 0.01231)) for i, kind in enumerate(KINDS)}
        reasons = (f"It takes noise for more in-distribution than ID pictures (AUROC {41 + place}.3).",) if place > len(detectors) - 3 else ()
        gap = 0.02131 * place
        ranked.append(
            Ranked(name, Figure(mean, around(mean, 0.00942)), kinds, place % 7, 17, Figure(gap, around(gap, 0.02502 if place else 0.0)), reasons)
        )
    refused = {"mos": "The head has no groups.", "gradnorm": "Its covariance is singular."}
    environment = {"farfield": "0.1.0", "torch": "2.9.0", "device": "cpu"}
    samples = {"held out": 1840, "mixup": 1840, "noise": 6800}
    found = Recommendation(
        "mixup-net",
        ranked,
        list(detectors[1:2]),
        refused,
        (0.8123, (0.8034, 0.8212)),
        samples,
        83.25,
        "farfield recommend --model runs/mixup",
        environment,
    )
    return found.plain()


def diagnosis(**more: Any) -> dict[str, Any]:
    """A whole diagnosis, anew each time; `more` takes the place of what it has."""
    value = {
        "format": 1, "classifier": "mixup-net", "command": "farfield diagnose --model runs/mixup --data train --held held-out --out diagnosis", "seconds": 128.4,
        "environment": {"farfield": "0.1.0", "torch": "2.9.0", "device": "cpu"}, "accuracy": [0.8123, [0.8034, 0.8212]],
        "samples": {"held out": 1840, "mixup": 1840, "noise": 6800}, "current": "msp",
        "summary": "Training with mixtures has flattened the logits, so msp tells little. Use knn: 86.4 % instead of 71.3 % AUROC, at no cost.",
        "findings": FINDINGS, "remedies": REMEDIES, "recommendation": recommendation(),
        "real": [
            {"set": "photos", "detector": "msp", "auroc": 0.7431, "interval": [0.7302, 0.756], "fpr": 0.6612, "fpr_interval": [0.6391, 0.6833]},
            {"set": "photos", "detector": "knn", "auroc": 0.8891, "interval": [0.8802, 0.898], "fpr": 0.3412, "fpr_interval": [0.3191, 0.3633]},
        ],
    }  # fmt: skip
    return copy.deepcopy({**value, **more})


def bare() -> dict[str, Any]:
    """One with nothing that may be left out."""
    return diagnosis(findings=FINDINGS[-1:], remedies=[], recommendation=None, real=[], accuracy=None, command=None, environment={}, samples={})


def hostile() -> dict[str, Any]:
    """Every text that may come from a user's files and names means harm, and so does the address of a picture."""
    value = diagnosis(classifier=HOSTILE, command=HOSTILE, summary=HOSTILE, environment={HOSTILE: HOSTILE}, samples={HOSTILE: 3}, current=HOSTILE)
    for one in value["findings"]:
        one.update(dict.fromkeys(("code", "title", "said", "do", "command", "how", "source"), HOSTILE))
        one["values"], one["intervals"] = {HOSTILE: 12.5}, {HOSTILE: [11.0, 14.0]}
        one["shown"] = [{"uri": HOSTILE, "caption": HOSTILE, "width": 4, "height": 4}, *one["shown"]]
        if one["evidence"] is not None:
            titles = {"x_title": HOSTILE, "y_title": HOSTILE}
            one["evidence"].update(titles, series=[{**series, "name": HOSTILE} for series in one["evidence"]["series"]])
            if one["evidence"]["kind"] == "bars":
                one["evidence"]["x"] = [HOSTILE] * len(one["evidence"]["x"])
    for one in value["remedies"]:
        one.update(dict.fromkeys(("name", "cost", "said", "command", "note"), HOSTILE))
    plain = recommendation((HOSTILE, *DETECTORS[:4]))
    plain["ranked"] = [{**one, "kinds": {**one["kinds"], HOSTILE: one["mean"]}, "reasons": [HOSTILE]} for one in plain["ranked"]]
    value["recommendation"] = {**plain, "classifier": HOSTILE, "refused": {HOSTILE: HOSTILE}, "tied": [HOSTILE], "command": HOSTILE}
    value["real"] = [{**one, "set": HOSTILE, "detector": HOSTILE} for one in value["real"]]
    return value

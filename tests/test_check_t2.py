"""T2: labels that another class has the better claim to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cases_outputs import case, drawn, grouped_head, headless, of_logits, plain, said, stored, turns
from farfield.diagnose.base import Case, Shown
from farfield.diagnose.checks.labels import LABEL_ERRORS, suspects
from farfield.outputs import CHUNK, Outputs

CLASSES = 4
NAMES = ("cat", "dog", "cow", "hen")


def by_hand(logits: Tensor, labels: Tensor) -> list[tuple[float, int, int, int]]:
    """`(margin, row, label, class)` of each suspect, the surest first, as the paper defines them."""
    p = [np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in logits.double().numpy()]
    known = [i for i, label in enumerate(labels.tolist()) if label >= 0]
    limits = []
    for j in range(logits.shape[1]):
        mine = [p[i][j] for i in known if int(labels[i]) == j]
        limits.append(sum(mine) / len(mine) if mine else np.inf)
    found = []
    for i in known:
        claims = [j for j in range(logits.shape[1]) if p[i][j] >= limits[j]]
        if claims:
            best = max(claims, key=lambda j: p[i][j])
            if best != int(labels[i]):
                found.append((float(p[i][best] - p[i][int(labels[i])]), i, int(labels[i]), best))
    return sorted(found, reverse=True)


def noisy(n: int, wrong: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a good classifier, and labels of which the first few are wrong."""
    true = turns(n, CLASSES)
    logits = 0.2 * drawn(n, CLASSES, seed=seed) + 2 * torch.nn.functional.one_hot(true, CLASSES)
    logits[:wrong] += 2 * torch.nn.functional.one_hot(true[:wrong], CLASSES)  # it is surer of these than of most
    labels = true.clone()
    labels[:wrong] = (true[:wrong] + 1) % CLASSES
    return logits, labels


def made(held: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor]) -> Case:
    pictures = plain("held", held[1])
    trained = Outputs(logits=train[0], labels=train[1])
    data = {"train": plain("train", train[1], side=2), "test": pictures}
    return of_logits(*held, train=trained, classifier=headless(CLASSES), names=NAMES, pictures={"test": pictures}, data=data)


@pytest.mark.parametrize("good", [0.0, 1.5])  # with limits that the largest probability is always above, and often below
def test_suspects_are_those_of_the_definition(good: float) -> None:
    labels = turns(2 * CHUNK + 50, CLASSES)
    logits = 2 * drawn(2 * CHUNK + 50, CLASSES, seed=3) + good * torch.nn.functional.one_hot(labels, CLASSES)
    labels[::7] = -1
    expected, found = by_hand(logits, labels), suspects(Outputs(logits=logits, labels=labels), CLASSES)
    assert len(expected) > 300 and found.samples == int((labels >= 0).sum())
    assert sorted(found.pairs.tolist()) == sorted(label * CLASSES + best for _, _, label, best in expected)
    assert found.rows.tolist() == [row for _, row, _, _ in expected[:20]]
    assert found.labels.tolist() == [label for _, _, label, _ in expected[:20]]
    assert found.classes.tolist() == [best for _, _, _, best in expected[:20]]
    assert found.margins.tolist() == pytest.approx([margin for margin, *_ in expected[:20]], abs=1e-12)


def test_a_class_without_samples_claims_none() -> None:
    logits = torch.tensor([[3.0, 0.0, 9.0]] * 3 + [[0.0, 3.0, 0.0]] * 3)
    found = suspects(Outputs(logits=logits, labels=torch.tensor([0, 0, 0, 1, 1, 1])), 3)
    assert len(found.pairs) == 0


def test_wrong_labels_are_found_named_and_shown(tmp_path: Path) -> None:
    one = made(noisy(400, 12), noisy(600, 3, seed=1))
    found = LABEL_ERRORS.look(one)
    assert found.outcome == "tip"
    assert (found.values["suspected, held-out"], found.values["suspected, training"]) == (12, 3)
    assert found.values["share, held-out"] == 0.03
    assert found.intervals["share, held-out"][0] < 0.03 < found.intervals["share, held-out"][1]
    assert {shown.row for shown in found.shown} <= set(range(12)) and len(found.shown) == 5
    row = found.shown[0].row
    assert one.test.labels is not None
    label = NAMES[int(one.test.labels[row])]
    assert f'held[{row}], labelled "{label}", seems "{NAMES[row % 4]}"' in found.said
    assert found.shown[0] == Shown("test", row, found.shown[0].caption) and f'labelled "{label}", seems' in found.shown[0].caption
    assert "weak evidence" in found.said
    assert found.evidence is not None and sum(found.evidence.series[0].y) == 12
    assert set(found.evidence.x) <= {f"{NAMES[(i + 1) % 4]} > {NAMES[i]}" for i in range(4)}
    on_disk = stored(one.train, tmp_path)  # type: ignore[arg-type]
    again = LABEL_ERRORS.look(case(on_disk, one.test, classifier=one.classifier, names=NAMES, pictures=one.pictures, data=one.data))
    assert (again.values, again.said) == (found.values, found.said)


@pytest.mark.parametrize(("wrong", "outcome"), [(0, "passed"), (9, "passed"), (10, "tip"), (105, "tip"), (130, "issue")])
def test_outcomes_go_by_the_share(wrong: int, outcome: str) -> None:
    clean = noisy(1000, 0)
    assert LABEL_ERRORS.look(made(noisy(1000, wrong), clean)).outcome == outcome
    assert LABEL_ERRORS.look(made(clean, noisy(1000, wrong))).outcome == outcome


def test_of_training_labels_the_rows_are_told_where_no_held_out_ones_are_suspected() -> None:
    one = made(noisy(400, 0), noisy(600, 8, seed=1))
    said_ = LABEL_ERRORS.look(one).said
    assert "train[" in said_ and "held[" not in said_
    bare = of_logits(*noisy(400, 0), train=one.train, classifier=one.classifier)  # type: ignore[arg-type]
    assert "training row" in LABEL_ERRORS.look(bare).said


def test_rows_are_by_number_where_some_pictures_were_not_read() -> None:
    one = made(noisy(400, 12), noisy(40, 0))
    fewer = {"train": one.data["train"], "test": plain("held", turns(401, 4), side=2)}
    found = LABEL_ERRORS.look(case(one.train, one.test, classifier=one.classifier, names=NAMES, pictures=one.pictures, data=fewer))
    assert "held out row" in found.said and "held[" not in found.said


def test_ids_are_rows_of_the_data() -> None:
    logits, labels = noisy(600, 8, seed=1)
    kept = torch.arange(600) != 2
    train = Outputs(logits=logits[kept], labels=labels[kept], ids=torch.arange(600)[kept])
    assert set(suspects(train, CLASSES).rows.tolist()) == set(range(8)) - {2}


def test_skipped_and_not_applicable() -> None:
    assert LABEL_ERRORS.look(of_logits(drawn(5, 1))).outcome == "not applicable"
    grouped = said(drawn(30, 4), turns(30, 3), grouped_head(4))
    assert LABEL_ERRORS.look(case(grouped, grouped)).outcome == "not applicable"
    bare = Outputs(logits=drawn(5, 3))
    assert LABEL_ERRORS.look(case(bare, bare)).outcome == "skipped"
    bad = drawn(5, 3)
    bad[4, 0] = torch.nan
    assert LABEL_ERRORS.look(case(Outputs(logits=bad, labels=turns(5, 3)), bare)).outcome == "skipped"
    assert LABEL_ERRORS.look(case(Outputs(logits=drawn(5, 3), labels=turns(5, 4)), bare)).outcome == "skipped"

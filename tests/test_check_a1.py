"""A1: accuracy, and labels in another order than the model's classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cases_outputs import case, drawn, grouped_head, of_logits, said, turns
from farfield.diagnose.base import Case
from farfield.diagnose.checks.order import ACCURACY, usual_orders
from farfield.metrics import proportion_interval
from farfield.outputs import Outputs


def made(order: list[int], right: float = 0.8, n: int = 600, names: tuple[str, ...] = (), seed: int = 0) -> Case:
    """A classifier that takes pictures labelled j for its class `order[j]`, so often; for any class otherwise."""
    classes, labels = len(order), turns(n, len(order))
    rng = torch.Generator().manual_seed(seed)
    random = torch.randint(0, classes, (n,), generator=rng)
    predicted = torch.where(torch.rand(n, generator=rng) < right, torch.tensor(order)[labels], random)
    return of_logits(torch.nn.functional.one_hot(predicted, classes).float(), labels, names=names)


def test_figures_are_those_of_the_definition() -> None:
    one = made(list(range(5)))
    assert one.test.logits is not None and one.test.labels is not None
    predicted, true = one.test.logits.argmax(1).tolist(), one.test.labels.tolist()
    hits = sum(a == b for a, b in zip(predicted, true, strict=True))
    found = ACCURACY.look(one)
    assert found.outcome == "passed" and found.values["accuracy"] == hits / 600
    assert found.intervals["accuracy"] == tuple(proportion_interval(hits, 600))
    by_chance = sum(a == b for a in predicted for b in true) / 600**2
    assert found.values["by chance"] == pytest.approx(by_chance)


def test_no_better_than_chance_is_an_issue() -> None:
    found = ACCURACY.look(made(list(range(5)), right=0.0))
    assert found.outcome == "issue" and "no better than chance" in found.said
    # one class for all, which most pictures have: 90 % right, and by chance too
    labels = (torch.arange(200) % 10 == 0).long()
    found = ACCURACY.look(of_logits(torch.tensor([[1.0, 0.0]]).expand(200, 2), labels))
    assert found.outcome == "issue" and found.values["accuracy"] == pytest.approx(0.9) == found.values["by chance"]


NUMBERS = sorted(range(12), key=str)  # 0, 1, 10, 11, 2, ...
ANIMALS = ("owl", "cat", "dog", "hen", "ant", "pig", "cow")


@pytest.mark.parametrize(
    ("order", "names", "called"),
    [
        ([1, 2, 3, 4, 5, 6, 0], (), "each label is 1 too low, in a circle"),
        ([6, 0, 1, 2, 3, 4, 5], (), "each label is 1 too high, in a circle"),
        ([6, 5, 4, 3, 2, 1, 0], (), "the labels are reversed"),
        (NUMBERS, (), "the labels are numbers in the order of text"),
        ([NUMBERS.index(i) for i in range(12)], (), "the model's classes are numbers in the order of text"),
        (sorted(range(7), key=lambda i: ANIMALS[i]), ANIMALS, "the labels are in the order of the names' alphabet"),
        ([sorted(ANIMALS).index(name) for name in ANIMALS], ANIMALS, "the model's classes are in the order of the names' alphabet"),
    ],
)
def test_a_usual_slip_is_named(order: list[int], names: tuple[str, ...], called: str) -> None:
    found = ACCURACY.look(made(order, names=names))
    assert found.outcome == "issue" and called in found.said, found.said
    assert found.values["accuracy in the likeliest order, second half"] == pytest.approx(0.82, abs=0.08)
    assert "--class-map" in found.command
    moved = [label for label, to in enumerate(order) if to != label]
    first = moved[0]
    name = f'"{names[first]}"' if names else f"class {first}"
    assert f"label {name} is the model's class {order[first]}" in found.said
    assert found.values["classes that move"] == len(moved)


def test_any_order_is_told_class_by_class() -> None:
    found = ACCURACY.look(made([3, 0, 4, 1, 2], names=("a", "b", "c", "d", "e")))
    assert found.outcome == "issue" and "another order than" not in found.said
    assert """label "a" is the model's class 3; label "b" is the model's class 0; label "c" is the model's class 4""" in found.said


def test_two_classes_that_are_exchanged_are_a_tip() -> None:
    found = ACCURACY.look(made([0, 1, 3, 2, *range(4, 12)], n=1200))
    assert found.outcome == "tip" and found.values["classes that move"] == 2
    assert "label class 2 is the model's class 3; label class 3 is the model's class 2." in found.said


def test_classes_without_pictures_keep_their_label() -> None:
    one = made([5, 1, 2, 3, 4, 0, 6, 7, 8, 9], right=1.0, n=1000)
    seen = turns(1000, 10) < 3  # class 5, which label 0 stands for, must go to another
    assert one.test.logits is not None and one.test.labels is not None
    found = ACCURACY.look(of_logits(one.test.logits[seen], one.test.labels[seen]))
    assert found.values["classes that move"] == 2


def test_is_quiet_for_the_right_order() -> None:
    for seed in range(20):
        assert ACCURACY.look(made(list(range(6)), right=0.3, n=120, seed=seed)).outcome == "passed"  # another order fits a half by chance


def test_usual_slips_are_found_with_fewer_samples_than_all_orders_need() -> None:
    order = [*range(1, 400), 0]
    found = ACCURACY.look(made(order, n=500))
    assert found.outcome == "issue" and "1 too low" in found.said
    assert ACCURACY.look(made(list(range(400)), n=500)).outcome == "passed"
    random = torch.randperm(400, generator=torch.Generator().manual_seed(0)).tolist()
    assert "order" not in ACCURACY.look(made(random, n=500)).said


def test_usual_orders_leave_out_the_order_as_given() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert list(usual_orders(("a", "b", "c"), none, none, 3)) == ["the labels are reversed"]
    assert list(usual_orders(("a", "a", "b"), none, none, 3)) == ["the labels are reversed"]


def test_unlabelled_pictures_count_for_nothing() -> None:
    one = made(list(range(5)))
    assert one.test.logits is not None and one.test.labels is not None
    more: Tensor = torch.cat([one.test.logits, torch.ones(50, 5)])
    found = ACCURACY.look(of_logits(more, torch.cat([one.test.labels, torch.full((50,), -1)])))
    assert found.values == ACCURACY.look(one).values


def test_a_grouped_head_predicts_by_its_rule() -> None:
    head = grouped_head(4)
    held = said(drawn(300, 4), None, head)
    held = held.having(labels=held.predictions())
    assert ACCURACY.look(case(held, held)).values["accuracy"] == 1


def test_skipped_and_not_applicable() -> None:
    assert ACCURACY.look(of_logits(drawn(5, 1), torch.zeros(5).long())).outcome == "not applicable"
    assert ACCURACY.look(of_logits(drawn(5, 3))).outcome == "skipped"
    found = ACCURACY.look(of_logits(drawn(5, 3), torch.tensor([0, 1, 2, 3, 0]), train=Outputs(logits=drawn(5, 3))))
    assert found.outcome == "skipped" and "label" in found.said
    assert np.isfinite(ACCURACY.look(made([0, 1])).values["by chance"])

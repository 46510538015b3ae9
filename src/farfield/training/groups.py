"""Groups of classes, for a softmax in each (MOS): from a taxonomy, by k-means of the classes' mean features, or at random."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from farfield.errors import InputError


def layout(members: Iterable[Sequence[int]]) -> Int64[Tensor, " c"]:
    """The `groups` of a head whose groups have these classes: -1 for "others", then the classes, group after group.

    Raises:
        InputError: where the groups miss a class, repeat one, or one is empty.

    >>> layout([[2], [0, 1]])
    tensor([-1,  2, -1,  0,  1])
    """
    members = [list(group) for group in members]
    if any(not group for group in members):
        raise InputError(f"Group {next(i for i, group in enumerate(members) if not group)} of {len(members)} is empty.")
    named = [c for group in members for c in group]
    for c in named:
        if named.count(c) > 1:
            raise InputError(f"Class {c} is in {named.count(c)} groups; it must be in one.")
    if missing := sorted(set(range(max(named, default=-1) + 1)) - set(named)):
        raise InputError(f"Class {missing[0]} is in no group{f', nor are {len(missing) - 1} others' if len(missing) > 1 else ''}.")
    return torch.tensor([c for group in members for c in [-1, *group]])


def targets(groups: Integer[Tensor, " c"]) -> Int64[Tensor, "classes k"]:
    """For each class, which logit of each group is right: its place in its own group, and 0, "others", elsewhere.

    >>> targets(torch.tensor([-1, 2, -1, 0, 1]))
    tensor([[0, 1],
            [0, 2],
            [1, 0]])
    """
    starts = (groups == -1).nonzero()[:, 0]
    group = (groups == -1).cumsum(0) - 1
    right = torch.zeros(int((groups >= 0).sum()), len(starts), dtype=torch.int64)
    own = (groups >= 0).nonzero()[:, 0]
    right[groups[own], group[own]] = own - starts[group[own]]
    return right


def usual_k(classes: int) -> int:
    """How many groups where nothing is said: the square root of the number of classes, at least 2 (1 of 1 class).

    >>> usual_k(200)
    14
    """
    return min(max(round(math.sqrt(classes)), 2), classes)

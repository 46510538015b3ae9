"""The two nouns everything else speaks: `Outputs`, what a classifier said about some samples, and its `Head`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from farfield.errors import InputError

CHUNK = 1024  # rows a statistic takes at a time: 16 MB of 2,048 features in float64


@dataclass(frozen=True, eq=False)
class Head:
    """The last linear layer, `logits = features @ weight.T + bias`.

    Args:
        weight: `(c, d)`, `c` logits from `d` features.
        bias: `(c,)`; zeros where the layer has none.
        groups: `(c,)`, for a head with a softmax in each of several groups (MOS): the class that a logit stands for; -1 begins a group,
            and is its "others". `None` for a flat head, whose logits are the classes in order.

    Raises:
        InputError: when the shapes do not fit, or the groups do not hold every class once.

    >>> head = Head(torch.eye(2), torch.tensor([0.0, 1.0]))
    >>> head(torch.tensor([[3.0, 1.0]])), head.predict(torch.tensor([[3.0, 2.0]]))
    (tensor([[3., 2.]]), tensor([0]))
    >>> grouped = Head(torch.eye(5), torch.zeros(5), groups=torch.tensor([-1, 2, -1, 0, 1]))
    >>> grouped.predict(torch.tensor([[0.0, 3.0, 9.0, 5.0, 0.0]]))  # 3 against 0 in its group, 5 against 9 in its
    tensor([2])
    """

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]
    groups: Integer[Tensor, " c"] | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise InputError(
                f"A head has a weight (classes, features) and a bias (classes,); got {tuple(self.weight.shape)} and {tuple(self.bias.shape)}."
            )
        if self.groups is not None:
            if self.groups.ndim != 1 or self.groups.is_floating_point() or self.groups.is_complex():
                raise InputError(
                    f"`groups` of a head are whole numbers, one for each logit; got {self.groups.dtype} of shape {tuple(self.groups.shape)}."
                )
            object.__setattr__(self, "groups", self.groups.long())
            _check_groups(self.groups.tolist(), len(self.weight))

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """The logits of some features."""
        return features @ self.weight.T.to(features) + self.bias.to(features)

    @property
    def classes(self) -> int:
        """How many classes it tells apart: its logits, without the "others" of groups."""
        return len(self.weight) if self.groups is None else int((self.groups >= 0).sum())

    def predict(self, logits: Float[Tensor, "n c"]) -> Int64[Tensor, " n"]:
        """The class of each sample: the only way from logits to classes.

        Of a head with groups, the class with the largest probability in the softmax of its own group.
        """
        if self.groups is None:
            return logits.argmax(1)
        places = group_places(self.groups).to(logits.device)
        grouped = in_groups(logits, places)
        top, best = grouped[:, :, 1:].max(2, keepdim=True)  # without "others"
        # log p / (1 - p) of each group's best class: probabilities near 1 would tie
        odds = (top - grouped.scatter(2, best + 1, -torch.inf).logsumexp(2, keepdim=True))[:, :, 0]
        group = odds.argmax(1)
        return self.groups.to(logits.device)[places[group, best[:, :, 0].gather(1, group[:, None])[:, 0] + 1]]

    def to(self, device: torch.device | str) -> Head:
        """The same on another device."""
        return Head(self.weight.to(device), self.bias.to(device), None if self.groups is None else self.groups.to(device))


def _check_groups(groups: list[int], logits: int) -> None:
    """Raises unless groups name every class once, each group after its "others"."""
    labels = sorted(label for label in groups if label >= 0)
    empty = any(one == -1 and after == -1 for one, after in pairwise([*groups, -1]))
    if len(groups) != logits or min(groups, default=0) < -1 or groups[0] != -1 or empty or labels != list(range(len(labels))):
        raise InputError(
            f"`groups` of a head has an entry for each of its {logits} logits: -1 where a group begins, then the classes in it, every class in one "
            f"group; got {groups[:8]}{'...' if len(groups) > 8 else ''} ({len(groups)} entries)."
        )


def group_places(groups: Int64[Tensor, " c"]) -> Int64[Tensor, "k m"]:
    """Where the logits of each of `k` groups are, "others" first; `c`, one beyond the last, fills up the shorter ones.

    >>> group_places(torch.tensor([-1, 2, -1, 0, 1]))
    tensor([[0, 1, 5],
            [2, 3, 4]])
    """
    starts = (groups == -1).nonzero()[:, 0]
    ends = torch.cat([starts[1:], starts.new_tensor([len(groups)])])
    places = starts[:, None] + torch.arange(int((ends - starts).max()), device=groups.device)
    return torch.where(places < ends[:, None], places, len(groups))


def in_groups(logits: Float[Tensor, "n c"], places: Int64[Tensor, "k m"]) -> Float[Tensor, "n k m"]:
    """Logits by group, "others" first; -infinity where a group is shorter than the longest."""
    beyond = torch.full_like(logits[:, :1], -torch.inf)
    return torch.cat([logits, beyond], 1)[:, places]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a classifier said about `n` samples. Whatever a detector does not need may be left out.

    Args:
        logits: `(n, c)`, before any softmax.
        features: `(n, d)`, the input of the last linear layer.
        labels: `(n,)`, the true classes; -1 where there is none.
        head: the last linear layer.
        taps: further columns a detector asked for, each `(n, ...)`.
        ids: `(n,)`, a number for each sample that stays with it, such as its row in the data set.
        fingerprint: which classifier these came from; detectors refuse those of another.

    Raises:
        InputError: when the columns differ in length or dimension, or do not fit the head.

    >>> outputs = Outputs(logits=torch.zeros(3, 2), features=torch.ones(3, 5))
    >>> len(outputs), len(outputs[1:]), outputs.labels is None
    (3, 2, True)
    """

    logits: Float[Tensor, "n c"] | None = None
    features: Float[Tensor, "n d"] | None = None
    labels: Integer[Tensor, " n"] | None = None
    head: Head | None = None
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    ids: Integer[Tensor, " n"] | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        given = {"logits": self.logits, "features": self.features, "labels": self.labels, "ids": self.ids, **self.taps}
        for name, column in given.items():
            if column is not None and (not isinstance(column, Tensor) or column.ndim == 0):
                raise InputError(f"`{name}` must be a tensor with a row per sample; got {type(column).__name__}. Use torch.as_tensor.")
        for name in ("labels", "ids"):
            column = given[name]
            if column is not None and (column.is_floating_point() or column.is_complex()):
                raise InputError(f"`{name}` must be whole numbers; got {column.dtype}.")
            object.__setattr__(self, name, None if column is None else column.long())
        if taken := {"logits", "features", "labels", "ids", "head"} & self.taps.keys():
            raise InputError(f"A tap cannot be called {taken.pop()!r}, which is a column of its own.")
        columns = self.columns()
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"The columns of `Outputs` must have one row per sample; got {lengths}.")
        for name, dimensions in {"logits": 2, "features": 2, "labels": 1, "ids": 1}.items():
            if name in columns and columns[name].ndim != dimensions:
                raise InputError(f"`{name}` must have {dimensions} dimension{'s' * (dimensions > 1)}; got shape {tuple(columns[name].shape)}.")
        if self.head is not None:
            for name, axis in {"logits": 0, "features": 1}.items():
                if name in columns and columns[name].shape[1] != self.head.weight.shape[axis]:
                    raise InputError(
                        f"`{name}` has {columns[name].shape[1]} columns but the head has {self.head.weight.shape[axis]}; they are of another model."
                    )

    def columns(self) -> dict[str, Tensor]:
        """The columns that are present, by name."""
        named = {"logits": self.logits, "features": self.features, "labels": self.labels, "ids": self.ids, **self.taps}
        return {name: column for name, column in named.items() if column is not None}

    def __len__(self) -> int:
        return next((len(column) for column in self.columns().values()), 0)

    def __getitem__(self, rows: slice | Tensor) -> Outputs:
        """The chosen samples; a slice copies nothing."""
        taps = {name: column[rows] for name, column in self.taps.items()}
        chosen = {name: column[rows] for name, column in self.columns().items() if name not in taps}
        return replace(self, taps=taps, **chosen)  # type: ignore[arg-type]

    def having(self, **columns: Tensor | None) -> Outputs:
        """The same with some columns replaced, or left out where given as `None`."""
        return replace(self, **columns)  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> Outputs:
        """The same on another device; the head goes along."""
        taps = {name: column.to(device) for name, column in self.taps.items()}
        moved = {name: column.to(device) for name, column in self.columns().items() if name not in taps}
        return replace(self, **moved, taps=taps, head=None if self.head is None else self.head.to(device))  # type: ignore[arg-type]

    def predictions(self) -> Int64[Tensor, " n"]:
        """The class of each sample, by the head's rule."""
        if self.logits is None:
            raise InputError("Predictions need `logits`, and these `Outputs` have none.")
        return self.logits.argmax(1) if self.head is None else self.head.predict(self.logits)


Data = Outputs | Iterable[Outputs]
"""What `fit` takes: outputs in memory, or anything that yields them in chunks each time it is iterated."""


def chunks(data: Data, rows: int = CHUNK) -> Iterator[Outputs]:
    """The data in pieces of at most `rows` samples, without copying."""
    if isinstance(data, Iterator):
        raise InputError("`fit` may go over the data more than once, and a generator can be used up; pass a list, `Outputs` or a stored stream.")
    for whole in [data] if isinstance(data, Outputs) else data:
        if len(whole) <= rows:
            yield whole
        else:
            yield from (whole[start : start + rows] for start in range(0, len(whole), rows))


def count(data: Data) -> int:
    """How many samples the data have, reading none of them; data that know say so in an attribute `samples`."""
    if isinstance(data, Outputs):
        return len(data)
    known: int | None = getattr(data, "samples", None)
    return sum(len(chunk) for chunk in data) if known is None else known


def concatenate(parts: Iterable[Outputs]) -> Outputs:
    """Several chunks of one classifier's outputs as one."""
    parts = list(parts)
    first = parts[0]
    joined = {name: torch.cat([part.columns()[name] for part in parts]) for name in first.columns()}
    taps = {name: joined.pop(name) for name in first.taps}
    return replace(first, taps=taps, logits=joined.get("logits"), features=joined.get("features"), labels=joined.get("labels"), ids=joined.get("ids"))


def validated(data: Data, needs: Iterable[str], method: str, *, grouped: bool = False) -> Iterator[Outputs]:
    """The data in chunks, each checked: every need is there, finite, and labels are classes; a head with groups only where the method is for one.

    Raises:
        InputError: which field, which row, what to do.
    """
    first_row = 0
    for chunk in chunks(data):
        if len(chunk) == 0:
            continue
        for need in needs:
            _check(chunk, need, method, first_row)
        if not grouped and chunk.head is not None and chunk.head.groups is not None and {"logits", "head"} & set(needs):
            raise InputError(
                f"{method} is for flat logits; this head has a softmax in each of several groups. Take `mos`, or a detector of features."
            )
        first_row += len(chunk)
        yield chunk
    if first_row == 0:
        raise InputError(f"{method} cannot be fitted on no samples.")


def _check(chunk: Outputs, need: str, method: str, first_row: int) -> None:
    column = chunk.head if need == "head" else chunk.columns().get(need)
    if column is None:
        present = ", ".join(f"`{name}`" for name in chunk.columns()) or "nothing"
        raise InputError(f"{method} needs `{need}`, which these outputs lack; they have {present}.")
    if isinstance(column, Head):
        column = torch.cat([column.weight, column.bias[:, None]], 1)
    if need == "labels":
        _check_labels(chunk, column, method, first_row)
    elif column.is_floating_point() and not torch.isfinite(column).all():
        bad = (~torch.isfinite(column)).flatten(1).any(1)
        kind = "NaN" if torch.isnan(column).any() else "infinity"
        if need == "head":
            raise InputError(f"`head` has {kind} among its weights; mend the model.")
        rows, looked_at, where = int(bad.sum()), first_row + len(bad), first_row + int(bad.nonzero()[0])
        raise InputError(f"`{need}` has {kind} in {rows} of {looked_at} rows, first at row {where}. Leave those samples out, or mend the model.")
    if need == "logits" and column.shape[1] < 2:
        raise InputError(f"{method} needs at least two classes; `logits` has {column.shape[1]}.")


def _check_labels(chunk: Outputs, labels: Tensor, method: str, first_row: int) -> None:
    classes = chunk.head.classes if chunk.head is not None else None if chunk.logits is None else chunk.logits.shape[1]
    bad = (labels < 0 if classes is None else (labels < 0) | (labels >= classes)).nonzero()
    if len(bad):
        row = int(bad[0])
        span = "0 or more" if classes is None else f"from 0 to {classes - 1}"
        raise InputError(f"`labels` must be classes, {span}; row {first_row + row} has {int(labels[row])}. {method} is fitted on labelled ID data.")

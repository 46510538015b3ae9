"""Groups of classes, for a softmax in each (MOS): from a taxonomy, by k-means of the classes' mean features, or at random.

A grouping is `members`, the classes of each group; `layout` makes of it the `groups` that a head, a classifier and the objective take.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import InputError, nearest
from farfield.outputs import Data, validated
from farfield.stats import double

Members = list[list[int]]
HOW = ("kmeans", "random", "suite")


def make_groups(
    how: str | Path,
    classes: int,
    *,
    k: int | None = None,
    labels: Sequence[str] | None = None,
    taxonomy: Mapping[str, Sequence[int]] | None = None,
    data: Data | None = None,
    seed: int = 0,
) -> Int64[Tensor, " c"]:
    """The groups of a head, by the way they are asked for; see `layout` for what they look like.

    Args:
        how: `kmeans` of the classes' mean features, `random`, `suite` (the taxonomy the data set has), or the path of a taxonomy (see `read_taxonomy`).
        classes: how many there are.
        k: how many groups k-means and chance make; `usual_k` by default.
        labels: the classes' names, in order.
        taxonomy: the suite's, group name to classes.
        data: training outputs with features and labels, for k-means.
        seed: of k-means and chance.

    Raises:
        InputError: for what is no way of grouping, or lacks what it needs.

    >>> make_groups("suite", 3, taxonomy={"round": (2,), "square": (0, 1)})
    tensor([-1,  2, -1,  0,  1])
    """
    if str(how) not in ("kmeans", "random") and k is not None:
        raise InputError(f"`k` is for the groups kmeans and random; those of {str(how)!r} are as many as it has.")
    k = usual_k(classes) if k is None else k
    if str(how) == "kmeans":
        if data is None:
            raise InputError("Groups by k-means need the training data's features and labels.")
        return layout(cluster(data, k, seed, classes))
    if str(how) == "random":
        return layout(at_random(classes, k, seed))
    if str(how) == "suite":
        if not taxonomy:
            raise InputError("This data set has no taxonomy of its own. Give kmeans, random or the path of a taxonomy.")
        members = [list(group) for group in taxonomy.values()]
        _check(members, "The suite's taxonomy", classes, list(taxonomy), labels)
        return layout(members)
    if not Path(how).exists():
        raise InputError(f"There are no groups {str(how)!r}{nearest(str(how), HOW)} There are {', '.join(HOW)}, and the path of a taxonomy.")
    return layout(read_taxonomy(how, labels, classes))


def layout(members: Iterable[Sequence[int]]) -> Int64[Tensor, " c"]:
    """The `groups` of a head whose groups have these classes: -1 for "others", then the classes, group after group.

    Raises:
        InputError: where the groups miss a class, repeat one, or one is empty.

    >>> layout([[2], [0, 1]])
    tensor([-1,  2, -1,  0,  1])
    """
    members = [list(group) for group in members]
    _check(members, "The groups", max((c for group in members for c in group), default=-1) + 1)
    return torch.tensor([c for group in members for c in [-1, *group]], dtype=torch.int64)


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


def at_random(classes: int, k: int, seed: int = 0) -> Members:
    """Groups of the same size, or one more, drawn at random: what a grouping without meaning is worth (the paper's lower bound).

    >>> [len(group) for group in at_random(10, 4)]
    [3, 3, 2, 2]
    """
    _check_k(k, classes)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed)).tolist()
    return [sorted(order[start::k]) for start in range(k)]


def cluster(data: Data, k: int, seed: int = 0, classes: int | None = None) -> Members:
    """Groups of classes whose mean features are near: k-means (k-means++, the best of 10 starts) of the `(c, d)` class means, in float64.

    The groups are in the order of their first class, so that the same clusters are the same groups.

    Args:
        data: training outputs with `features` `(n, d)` and `labels` `(n,)`.
        k: how many groups.
        seed: of the starts.
        classes: how many there are; those of the head by default, or as many as the labels name.

    Raises:
        InputError: where a class has no sample, or there are fewer different means than groups.

    >>> from farfield.outputs import Outputs
    >>> cluster(Outputs(features=torch.tensor([[0.0], [9.0], [1.0], [8.0]]), labels=torch.arange(4)), 2)
    [[0, 2], [1, 3]]

    Source: Huang and Li, "MOS", CVPR 2021, section 3.3, which says neither how k-means starts nor that features are scaled; they are not.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    means = _class_means(data, classes).cpu().numpy()
    _check_k(k, len(means))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it says that clusters are empty, which is said below
        found = KMeans(k, init="k-means++", n_init=10, random_state=seed).fit_predict(means)
    members: dict[int, list[int]] = {}
    for c, group in enumerate(found.tolist()):
        members.setdefault(group, []).append(c)
    if len(members) < k:
        raise InputError(
            f"k-means finds {len(members)} groups of classes, not {k}: the other classes have the same mean features. Ask for fewer groups."
        )
    return list(members.values())


def _class_means(data: Data, classes: int | None) -> Float[Tensor, "c d"]:
    """The mean feature of each class, in one pass."""
    sums, counts = torch.zeros(0, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    for chunk in validated(data, ("features", "labels"), "A grouping by k-means", grouped=True):
        assert chunk.features is not None and chunk.labels is not None
        x, y = double(chunk.features).cpu(), chunk.labels.cpu()
        classes = chunk.head.classes if classes is None and chunk.head is not None else classes
        more = max(int(y.max()) + 1, classes or 0, len(counts)) - len(counts)
        sums, counts = F.pad(sums, (0, x.shape[1] - sums.shape[1], 0, more)), F.pad(counts, (0, more))
        sums.index_add_(0, y, x)
        counts += torch.bincount(y, minlength=len(counts))
    if classes is not None and len(counts) > classes:
        raise InputError(f"There are {classes} classes, and a label is {len(counts) - 1}; the data are of another classifier.")
    if unseen := (counts == 0).nonzero()[:, 0].tolist():
        raise InputError(
            f"Class {unseen[0]} has no sample ({len(unseen)} of {len(counts)} have none), so its mean feature is not known. Give all of the training data, or a taxonomy."
        )
    return sums / counts[:, None]


def read_taxonomy(path: str | Path, labels: Sequence[str] | None, classes: int) -> Members:
    """The groups in a file.

    It is JSON: `{"group": [classes]}`, each a number or a name, or `{"class": "group"}`. Or it is a list of pictures as the authors of MOS have it, lines
    `folder/picture group place`, the folder being the class's name (or, where the classes have no names, its place in the alphabetical order of folders).

    Args:
        path: of the file.
        labels: the classes' names, in order, if they have such.
        classes: how many there are.

    Raises:
        InputError: for what is neither, a name or number of no class, a class in no group or in two, and an empty group.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The taxonomy {path} cannot be read: {error}.") from error
    named = _read_json(path, text) if text.lstrip()[:1] in ("{", "[", '"') else _read_list(path, text, labels)
    places: dict[str, list[int]] = {}
    for c, name in enumerate(labels or ()):
        places.setdefault(name, []).append(c)
    members = [[_class(path, entry, places, classes) for entry in group] for group in named.values()]
    _check(members, f"The taxonomy {path}", classes, list(named), labels)
    return members


def _read_json(path: Path, text: str) -> dict[str, list[Any]]:
    """Group name to what it names."""
    try:
        pairs: Any = json.loads(text, object_pairs_hook=tuple)  # pairs, since a dict keeps only the last of a key that stands twice
    except (ValueError, RecursionError) as error:
        raise InputError(f"The taxonomy {path} is not JSON: {error}.") from error
    if not isinstance(pairs, tuple):
        raise InputError(f'The taxonomy {path} is a {type(pairs).__name__}; it must be an object, {{"group": [classes]}} or {{"class": "group"}}.')
    named: dict[str, list[Any]] = {}
    flat = bool(pairs) and isinstance(pairs[0][1], str)
    for key, value in pairs:
        if isinstance(value, str) != flat or not isinstance(value, str | list):
            raise InputError(
                f"The taxonomy {path} has {json.dumps(value)[:40]} for {key!r}; every group has a list of classes, or every class the name of its group."
            )
        if isinstance(value, str):
            named.setdefault(value, []).append(key)
        elif key in named:
            raise InputError(f"The taxonomy {path} has the group {key!r} twice.")
        else:
            named[key] = value
    return named


def _read_list(path: Path, text: str, labels: Sequence[str] | None) -> dict[str, list[Any]]:
    """Group number to its classes, in the order of their places, from lines `folder/picture group place`."""
    known: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        picture, *rest = line.rsplit(maxsplit=2)
        if len(rest) != 2 or not all(part.isdecimal() for part in rest) or len(Path(picture).parts) < 2:
            raise InputError(f"The taxonomy {path} is neither JSON nor a list: line {number} is {line[:60]!r}, not `folder/picture group place`.")
        folder, place = Path(picture).parent.name, (int(rest[0]), int(rest[1]))
        if known.setdefault(folder, place) != place:
            raise InputError(f"The taxonomy {path} has the class {folder!r} in two places; line {number} is {line[:60]!r}.")
    order: dict[str, Any] = {folder: folder if labels else c for c, folder in enumerate(sorted(known))}
    named: dict[str, list[Any]] = {}
    for folder, (group, _) in sorted(known.items(), key=lambda item: item[1]):
        named.setdefault(str(group), []).append(order[folder])
    return named


def _class(path: Path, entry: Any, places: Mapping[str, Sequence[int]], classes: int) -> int:
    """Which class an entry of a taxonomy names."""
    if isinstance(entry, str):
        found = places.get(entry, ())
        if len(found) > 1:
            raise InputError(f"The taxonomy {path} has {entry!r}, which is the name of the classes {found[0]} and {found[1]}; give their numbers.")
        if found:
            return found[0]
        if not (entry.isascii() and entry.isdecimal()):
            raise InputError(
                f"The taxonomy {path} is for other labels: {entry!r} is no class here{nearest(entry, places)}"
                if places
                else f"The taxonomy {path} names classes, such as {entry!r}, and these have no names; give their numbers."
            )
        entry = int(entry) if len(entry) < 20 else classes
    if type(entry) is not int:
        raise InputError(f"The taxonomy {path} has {json.dumps(entry)[:40]} among the classes; they are numbers or names.")
    if not 0 <= entry < classes:
        raise InputError(f"The taxonomy {path} is for other labels: it has class {entry}, and there are {classes}, from 0 to {classes - 1}.")
    return entry


def _check(
    members: Sequence[Sequence[int]], what: str, classes: int, groups: Sequence[str] | None = None, labels: Sequence[str] | None = None
) -> None:
    """Raises unless every class is in one group, once, and no group is empty."""

    def name(c: int) -> str:
        return f"{c} ({labels[c]!r})" if labels is not None and 0 <= c < len(labels) else f"{c}"

    for i, group in enumerate(members):
        if not group:
            raise InputError(f"{what}: group {repr(groups[i]) if groups else f'{i} of {len(members)}'} is empty.")
    named = Counter(c for group in members for c in group)
    if wrong := [c for c in named if not 0 <= c < classes]:
        raise InputError(f"{what}: there is no class {wrong[0]}; there are {classes}, from 0 to {classes - 1}.")
    if twice := [c for c in named if named[c] > 1]:
        raise InputError(f"{what}: class {name(twice[0])} is named {named[twice[0]]} times; each must be in one group, once.")
    if missing := [c for c in range(classes) if c not in named]:
        raise InputError(f"{what}: class {name(missing[0])} is in no group; {len(missing)} of {classes} are in none.")


def _check_k(k: int, classes: int) -> None:
    if not 1 <= k <= classes:
        raise InputError(f"{classes} classes make from 1 to {classes} groups; got k={k}.")

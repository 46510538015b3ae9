"""Pseudo-OOD: what a classifier was not trained for, made from ID data alone, so that detectors can be compared where there is no OOD data.

Of held-out ID pictures are made

    mixup           half of one picture and half of one of another class: between classes
    jigsaw          the tiles of a picture in another order: its texture without its shape
    channels        the channels of a picture in another order: its shape in wrong colours
    noise           the 17 unit tests of NINCO at the pictures' size

and of what the classifier said about ID data *left-out classes*: some classes are taken out of the training data and out of the head, and their held-out pictures
are OOD. The network has seen them, so its features tell them from others better than they would tell a new class; detectors of features have it easier there.

Source: jigsaw and channels as in Zhang et al., IEEE TIP 2026; mixtures as in Xiong et al., ICCV 2025, figure 3b; noise of Bitterwolf et al., ICML 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from farfield.collect import Progress
from farfield.data import noise
from farfield.data.images import Images
from farfield.data.transforms import as_tensor
from farfield.errors import InputError
from farfield.loading import Pictures, name_of, picture_of
from farfield.outputs import Data, Head, Outputs, chunks, concatenate
from farfield.stats import hashed
from farfield.store import Failure
from farfield.training.draws import Draws
from farfield.training.pictures import jigsaw, reorder_channels

TILES = 4  # of a side of a jigsaw
EACH = 100  # pictures of a family of noise
BLOCK = 64  # pictures that are mixed at once


def squares(data: Pictures, side: int, *, name: str, whole: bool = False, progress: Progress | None = None) -> tuple[Images, list[Failure]]:
    """Pictures of any kind as squares in memory, `side` pixels wide: the middle of each, or the `whole` with its aspect ignored; those that cannot be read are told.

    Pictures that are in memory and as large as each other stay as they are.

    Raises:
        InputError: when none can be read.
    """
    if isinstance(data, Images):
        return replace(data, name=name, clusters=None, parts={}), []
    made, labels, failed = [], [], []
    for row in range(len(data)):
        picture = picture_of(data, row)
        if picture is None:
            failed.append(Failure(row, name_of(data, row), "it cannot be read as a picture"))
        else:
            short = min(picture.size)
            left, top = (picture.width - short) // 2, (picture.height - short) // 2
            box = (0, 0, *picture.size) if whole else (left, top, left + short, top + short)
            made.append(as_tensor(picture.resize((side, side), box=box, reducing_gap=3.0)))
            labels.append(_label(data, row))
        if progress is not None and (row % 64 == 0 or row + 1 == len(data)):
            progress(f"pictures of {name}", row + 1, len(data))
    if not made:
        raise InputError(f"None of the {len(data)} pictures of {name} can be read. {failed[0].name if failed else 'It is empty'}.")
    return Images(name, torch.stack(made), torch.tensor(labels)), failed


def _label(data: Pictures, row: int) -> int:
    labels = getattr(data, "labels", None)
    if isinstance(labels, Tensor):
        return int(labels[row])
    item = data[row]
    label = item[1] if isinstance(item, tuple | list) and len(item) > 1 else item.get("label") if isinstance(item, dict) else None
    return -1 if label is None else int(label)


# --- pictures -----------------------------------------------------------------------------------------------------------------------------


def mixtures(images: Images, share: float, *, seed: int = 0) -> UInt8[Tensor, "m 3 h w"]:
    """Mixtures of each picture with one of another class; none of a picture that finds no partner.

    Formula: `(1 - share) x + share x'`, rounded, where x' is a picture of another class that a hash of the seed and the row chooses.

    Args:
        images: with labels, all of one size. Where none is labelled, any other picture is a partner.
        share: of the other picture, above 0 and at most 0.5.
        seed: of the choice.

    >>> two = Images("two", torch.tensor([0, 100], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 1, 1), torch.tensor([0, 1]))
    >>> mixtures(two, 0.25)[:, 0, 0, 0].tolist()
    [25, 75]

    Source: Zhang et al., mixup, ICLR 2018.
    """
    if not 0 < share <= 0.5:
        raise InputError(f"The share of the other picture in a mixture is above 0 and at most 0.5; got {share}.")
    partner = partners(images.labels, seed)
    kept = (partner >= 0).nonzero()[:, 0]
    made = images.images.new_empty((len(kept), *images.images.shape[1:]))
    for rows in torch.arange(len(kept)).split(BLOCK):  # four float32 copies of every picture at once would be most of a machine's memory
        x, other = images.images[kept[rows]].float(), images.images[partner[kept[rows]]].float()
        # (1 - share) x + share x'
        made[rows] = ((1 - share) * x + share * other).round().to(torch.uint8)
    return made


def partners(labels: Int64[Tensor, " n"], seed: int) -> Int64[Tensor, " n"]:
    """For each sample another of another class, -1 where there is none; the same for a seed.

    Samples are put in an order of their hashes, and each takes the next one of another class.

    >>> partners(torch.tensor([0, 0, 1]), 0)[:2].tolist(), partners(torch.tensor([4, 4]), 0).tolist()
    ([2, 2], [-1, -1])
    """
    n = len(labels)
    order = hashed(torch.arange(n), seed).argsort()
    ringed = labels[order]
    unknown = bool((labels < 0).all())
    found = torch.full((n,), -1)
    open_ = torch.ones(n, dtype=torch.bool)
    for step in range(1, n):
        if not open_.any():
            break
        other = ringed.roll(-step)
        fits = open_ & ((other != ringed) | unknown)
        found[order[fits]] = order.roll(-step)[fits]
        open_ &= ~fits
    return found


def invented(images: Images, *, seed: int = 0, tiles: int = TILES) -> dict[str, Images]:
    """Pseudo-OOD pictures of each kind by name: `mixup`, `jigsaw`, `channels` and `noise`; a kind that these pictures cannot make is missing.

    `clusters` says which held-out picture each is made of, of a mixture its first; `partners` are the second.

    Args:
        images: held-out ID pictures, all of one size.
        seed: of what is random.
        tiles: of a side of a jigsaw.
    """
    rows = torch.arange(len(images))
    draws = Draws(seed, 0, rows)
    height, width = images.images.shape[2:]
    made = {"mixup": (mixtures(images, 0.5, seed=seed), (partners(images.labels, seed) >= 0).nonzero()[:, 0])}
    if (size := min(height, width) // tiles) >= 1:
        made["jigsaw"] = jigsaw(images.images, size, draws), rows
    shuffled = reorder_channels(images.images, draws)
    other = (shuffled != images.images).flatten(1).any(1).nonzero()[:, 0]  # all but grey ones
    made["channels"] = shuffled[other], other
    found = {name: Images(name, pictures, torch.full((len(pictures),), -1), of) for name, (pictures, of) in made.items() if len(pictures)}
    if min(height, width) >= 3:
        found["noise"] = unit_tests(images, seed=seed)
    return found


def unit_tests(images: Images, each: int = EACH, *, seed: int = 0) -> Images:
    """The 17 families of noise at the pictures' size, each a part; the permutations are of these pictures."""
    height, width = images.images.shape[2:]
    made = [noise.generate(family, each, (height, width), seed=seed, source=images.images) for family in noise.FAMILIES]
    parts = {family.replace("_", " "): slice(i * each, (i + 1) * each) for i, family in enumerate(noise.FAMILIES)}
    return Images("noise", torch.cat(made), torch.full((each * len(made),), -1), parts=parts)


# --- left-out classes ---------------------------------------------------------------------------------------------------------------------


def folds(classes: int, share: float, count: int, seed: int = 0) -> list[Bool[Tensor, " c"]]:
    """Which classes are left out in each of several folds: a seeded share of them, disjoint as far as there are enough.

    >>> [fold.nonzero()[:, 0].tolist() for fold in folds(10, 0.2, 2)]
    [[3, 5], [1, 8]]
    """
    order = hashed(torch.arange(classes), seed).argsort()
    many = max(1, round(share * classes))
    found = []
    for fold in range(count):
        out = torch.zeros(classes, dtype=torch.bool)
        out[order[torch.arange(fold * many, (fold + 1) * many) % classes]] = True
        found.append(out)
    return found


@dataclass(frozen=True, eq=False)
class Without:
    """Outputs as of a classifier without some classes: their samples, their logits and their rows of the head are gone; the others are counted anew.

    A stream of chunks over other data; nothing is copied before it is asked for.

    Args:
        data: outputs with labels, and logits or a flat head.
        out: `(c,)`, which classes are left out.
        only: whether to keep, the other way round, the samples of those classes alone.

    >>> data = Outputs(logits=torch.eye(3), labels=torch.arange(3))
    >>> [(chunk.logits.tolist(), chunk.labels.tolist()) for chunk in Without(data, torch.tensor([False, True, False]))]
    [([[1.0, 0.0], [0.0, 1.0]], [0, 1])]
    """

    data: Data
    out: Bool[Tensor, " c"]
    only: bool = False

    def __iter__(self) -> Iterator[Outputs]:
        kept = (~self.out).nonzero()[:, 0]
        place = torch.full((len(self.out),), -1)
        place[kept] = torch.arange(len(kept))
        for chunk in chunks(self.data):
            if chunk.labels is None:
                raise InputError("Classes can be left out of labelled data alone, and these have no labels.")
            if chunk.head is not None and chunk.head.groups is not None:
                raise InputError("A head with a softmax in each of several groups has no class that can be left out.")
            known = chunk.labels >= 0
            mine = known & (self.out[chunk.labels.clamp_min(0)] == self.only)
            some = chunk[mine]
            assert some.labels is not None
            head = (
                None
                if some.head is None
                else Head(some.head.weight[kept.to(some.head.weight.device)], some.head.bias[kept.to(some.head.bias.device)])
            )
            logits = None if some.logits is None else some.logits[:, kept]
            yield replace(some, head=head, logits=logits, labels=place[some.labels])

    def load(self) -> Outputs:
        """All of it in memory."""
        parts = [chunk for chunk in self if len(chunk)]
        if not parts:
            raise InputError("No sample is left of the classes that are kept.")
        return concatenate(parts)

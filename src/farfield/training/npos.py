"""NPOS: compact classes on a sphere, and outliers made beside the samples that lie at a class's border."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from farfield.errors import InputError
from farfield.training.batch import Batch, Net, Objective, within
from farfield.training.draws import Draws

CHUNK = 2**24  # numbers in the largest tensor that the search for neighbours makes at once, unless one class needs more


def dispersion(prototypes: Float[Tensor, "c d"], temperature: float = 0.1) -> Float[Tensor, ""]:
    """How near the classes are to each other: `mean_i log [1 / (c - 1) sum_(j != i) exp(m_i . m_j / T)]`, least where they are far apart.

    Args:
        prototypes: of length 1, two or more.
        temperature: `T`.

    >>> round(float(dispersion(torch.eye(3))), 4), round(float(dispersion(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))), 4)
    (0.0, -10.0)

    Source: Ming et al., "How to Exploit Hyperspherical Embeddings for Out-of-Distribution Detection?" (CIDER), ICLR 2023, section 3.
    """
    near = (prototypes @ prototypes.T / temperature).masked_fill(torch.eye(len(prototypes), dtype=torch.bool, device=prototypes.device), -math.inf)
    return near.logsumexp(1).mean() - math.log(len(prototypes) - 1)


def compactness(
    projections: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], prototypes: Float[Tensor, "c d"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """How far samples are from their class: `-mean_n log [exp(z . m_y / T) / sum_j exp(z . m_j / T)]`.

    Args:
        projections: `z`, of length 1.
        labels: `y`.
        prototypes: `m`, of length 1.
        temperature: `T`.

    >>> round(float(compactness(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), 1.0)), 4)  # log(1 + exp(-1))
    0.3133

    Source: CIDER, section 3.
    """
    return F.cross_entropy(projections @ prototypes.T / temperature, labels)


def separate(inside: Float[Tensor, " n"], outside: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """How badly ID samples (whose logits should be high) and outliers are told apart: `mean_n -log s(v_n) + mean_m -log s(-v_m)`, `s` the sigmoid.

    >>> round(float(separate(torch.zeros(2), torch.zeros(5))), 4)  # 2 log 2
    1.3863

    Source: NPOS, section 3.2. *Differs from the authors' code*, which takes one mean over samples and outliers, so that whichever are more count more.
    """
    return F.softplus(-inside).mean() + F.softplus(outside).mean()


def follow(
    prototypes: Float[Tensor, "c d"], projections: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], keep: float = 0.95
) -> Float[Tensor, "c d"]:
    """The prototypes after each sample in turn has moved its class's: `m <- normalised(keep m + (1 - keep) z)`.

    A prototype of zeros, that of a class not yet seen, becomes its first sample. What is returned has the gradients of the projections.

    >>> follow(torch.zeros(2, 2), torch.tensor([[0.6, 0.8]]), torch.tensor([1]))
    tensor([[0.0000, 0.0000],
            [0.6000, 0.8000]])

    Source: CIDER, section 3.
    """
    turns = _turns(labels, len(prototypes))
    for turn in range(int(turns.max()) + 1):  # the classes at once: as many rounds as the commonest class has samples
        now = turns == turn
        moved = F.normalize(keep * prototypes[labels[now]] + (1 - keep) * projections[now], dim=1)
        prototypes = prototypes.index_copy(0, labels[now], moved)
    return prototypes


def remember(queue: Float[Tensor, "c q d"], counts: Int64[Tensor, " c"], features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> None:
    """Puts samples into their class's ring of the last `q`, in place.

    Args:
        queue: the rings; sample number `i` of a class is at place `i % q`.
        counts: samples that each class has had.
        features: to be put there.
        labels: of them.

    >>> queue, counts = torch.zeros(1, 2, 1), torch.tensor([0])
    >>> remember(queue, counts, torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 0]))
    >>> queue.flatten().tolist(), counts.tolist()
    ([3.0, 2.0], [3])
    """
    new = F.one_hot(labels, len(queue)).sum(0)
    turns = _turns(labels, len(queue))
    last = turns >= new[labels] - queue.shape[1]  # of more than a ring holds, its last ones: no place is written twice
    queue[labels[last], (counts[labels] + turns)[last] % queue.shape[1]] = features[last]
    counts += new


def boundary(queue: Float[Tensor, "c q d"], k: int, count: int) -> Int64[Tensor, "c count"]:
    """Where in its queue each class's border is: the samples with the largest distance on the sphere to their k-th nearest neighbour, farthest first.

    Args:
        queue: samples of each class; they are normalised here.
        k: which neighbour, from 1 to `q - 1`; a sample is none of its own. (In the authors' code it is, so that their `k` is ours plus one.)
        count: how many.

    >>> angles = torch.tensor([0.0, 0.1, 0.2, 1.5])
    >>> boundary(torch.stack([angles.cos(), angles.sin()], 1)[None], 1, 1).tolist()
    [[3]]

    Source: NPOS, section 3.1.
    """
    rows = queue.shape[1]
    return torch.cat([_kth(queue[some], queue[some], k + 1).topk(count, 1).indices for some in _chunks(len(queue), rows * rows)])


def synthesise(
    queue: Float[Tensor, "c q d"], chosen: Int64[Tensor, "c p"], noise: Float[Tensor, "s d"], sigma: float, k: int, count: int
) -> Float[Tensor, "c m d"]:
    """Outliers: `f + sigma * noise` for the chosen samples `f`; for each, those of the `s` whose k-th nearest sample of the class is farthest.

    Args:
        queue: samples of each class.
        chosen: the places in it of those that outliers are made of.
        noise: standard normal; all classes share it.
        sigma: the noise's standard deviation, in units of the features, which are not normalised before it is added; distances are on the sphere.
        k: which neighbour, from 1 to `q`.
        count: how many are kept for each sample chosen, so that `m = p * count`.

    >>> queue = torch.tensor([[[1.0, 0.0], [1.0, 0.1]]])
    >>> synthesise(queue, torch.tensor([[0]]), torch.tensor([[0.0, 0.0], [0.0, -5.0]]), 0.1, 2, 1)
    tensor([[[ 1.0000, -0.5000]]])

    Source: NPOS, section 3.1.
    """
    (points, (samples, d)), kept = (chosen.shape[1], noise.shape), []
    for some in _chunks(len(queue), points * samples * max(queue.shape[1], d)):
        centres = queue[some].gather(1, chosen[some, :, None].expand(-1, -1, d))
        made = centres[:, :, None] + sigma * noise
        far = _kth(made.flatten(1, 2), queue[some], k).unflatten(1, (points, samples)).topk(count, 2).indices
        kept.append(made.gather(2, far[..., None].expand(-1, -1, -1, d)).flatten(1, 2))
    return torch.cat(kept)


class NPOS(Objective):
    """Compact and dispersed classes on a sphere, and features that tell ID samples from outliers made at the classes' borders.

    `L = dispersion * L_disp + compactness * L_comp + outlier * L_bce`. Beside the classifier it learns a projection of the features `f`, `z = normalised(P f)`, with a
    hidden layer as wide as the features, and a detector of outliers `v(f)` with one of 128. `L_disp` and `L_comp` are of `z` and of prototypes that follow
    it, and `L_bce` of `v`, for the samples and the outliers of the step. The last `queue` features of each class are kept for these; they and the
    prototypes are in the checkpoints (`4 * classes * queue * features` bytes).

    Outliers are made from step `begin` on, but never before each class has had `queue` samples. From then on each step takes, in each class, the
    `boundary` samples farthest from their `k`-th neighbour, `points` of them at random, and `farthest` of `samples` draws around each.

    It trains no classifier: the model's own head gets a gradient of zero, and has to be trained afterwards (`farfield.training.last_layer`), unless
    scores are of features alone, such as KNN's. The logits for counting hits are those of the nearest prototype, `z . m / T`.

    Processes share their features, so that prototypes, queues and outliers are those of the whole batch.

    *Differs from the authors' code*: a step has one view of a picture, not two; prototypes begin with the first sample of a class, not with a mean over
    data; `L_bce` gives samples and outliers equal weight (see `separate`); the detector learns at the recipe's rate, not at a tenth of it; a
    sample is not its own neighbour.

    Args:
        features: how many the model has.
        classes: two or more.
        width: of the projection.
        temperature: `T` of both losses.
        keep: how much of a prototype a sample leaves as it is, in [0, 1).
        dispersion: weight of the first loss.
        compactness: of the second.
        outlier: of the third.
        queue: samples kept for each class, two or more.
        k: which neighbour distances are to; 0 for three tenths of the queue, which is the authors' 300 of 1000.
        boundary: samples at the border; 0 for a fifth of the queue, their 200 of 1000.
        points: how many of them outliers are made of, in each class at each step.
        samples: draws around each point.
        farthest: how many of them are kept; 0 for a third, their 200 of 600.
        sigma: standard deviation of the draws, in units of the features.
        begin: first step with outliers; the authors begin after 40 of 100 epochs.

    Source: Tao et al., "Non-Parametric Outlier Synthesis", ICLR 2023; Ming et al., CIDER, ICLR 2023, for the first two losses.
    """

    features = True

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        width: int = 128,
        temperature: float = 0.1,
        keep: float = 0.95,
        dispersion: float = 0.5,
        compactness: float = 1.0,
        outlier: float = 0.1,
        queue: int = 1000,
        k: int = 0,
        boundary: int = 0,
        points: int = 2,
        samples: int = 600,
        farthest: int = 0,
        sigma: float = 0.1,
        begin: int = 0,
    ) -> None:
        super().__init__()
        within("features", features, 1)
        within("classes", classes, 2)
        within("width", width, 1)
        for name, value in {"temperature": temperature, "sigma": sigma}.items():
            within(name, value, 0, above=True)
        if not 0 <= keep < 1:
            raise InputError(f"An objective needs `keep` at least 0 and below 1; got {keep!r}.")
        for name, value in {"dispersion": dispersion, "compactness": compactness, "outlier": outlier, "begin": begin}.items():
            within(name, value, 0)
        within("queue", queue, 2)
        within("k", k, 0, queue - 1)
        within("boundary", boundary, 0, queue)
        within("samples", samples, 1)
        within("farthest", farthest, 0, samples)
        self.k, self.boundary, self.farthest = k or max(3 * queue // 10, 1), boundary or max(queue // 5, points), farthest or max(samples // 3, 1)
        within("points", points, 1, min(self.boundary, queue))
        self.temperature, self.keep, self.sigma, self.begin = temperature, keep, sigma, begin
        self.dispersion, self.compactness, self.outlier = dispersion, compactness, outlier
        self.points, self.samples = points, samples
        self.projection = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, width))
        self.detector = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 1))
        self.prototypes: Tensor
        self.queue: Tensor
        self.counts: Tensor
        self.last: Tensor
        self.register_buffer("prototypes", torch.zeros(classes, width))
        self.register_buffer("queue", torch.zeros(classes, queue, features))
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("last", torch.tensor(-1))  # the step whose samples the queues have: sharpness-aware steps come twice

    def forward(self, net: Net, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, "n c"]]:
        """The loss and the logits of the nearest prototype."""
        mine, unused = net.look(batch.inputs)
        with torch.autocast(mine.device.type, enabled=False):
            features, labels = _together(mine), _together(batch.labels)
            projections = F.normalize(self.projection(features), dim=1)
            prototypes = follow(self.prototypes, projections, labels, self.keep)
            fixed = prototypes.detach()
            if self.training and int(self.last) != batch.draws.step:
                self.last.fill_(batch.draws.step)
                self.prototypes.copy_(fixed)
                remember(self.queue, self.counts, features.detach(), labels)
            loss = self.dispersion * dispersion(prototypes, self.temperature) + self.compactness * compactness(
                projections, labels, fixed, self.temperature
            )
            inside = self.detector(features)[:, 0]
            if batch.draws.step >= self.begin and bool((self.counts >= self.queue.shape[1]).all()):
                loss = loss + self.outlier * separate(inside, self.detector(self.outliers(batch.draws))[:, 0])
            # each process must have a gradient for each parameter at each step
            loss = loss + 0 * (inside.sum() + unused.sum())
            own = len(mine) * _place()
            return loss, projections[own : own + len(mine)] @ fixed.T / self.temperature

    @torch.no_grad()
    def outliers(self, draws: Draws) -> Float[Tensor, "m d"]:
        """The outliers of a step."""
        random = draws.once("outliers")
        order = torch.rand(len(self.queue), self.boundary, generator=random).argsort(1)[:, : self.points]
        noise = torch.randn(self.samples, self.queue.shape[2], generator=random).to(self.queue.device)
        chosen = boundary(self.queue, self.k, self.boundary).gather(1, order.to(self.queue.device))
        return synthesise(self.queue, chosen, noise, self.sigma, self.k, self.farthest).flatten(0, 1)


def _turns(labels: Int64[Tensor, " n"], classes: int) -> Int64[Tensor, " n"]:
    """How many samples of its class are before each."""
    return F.one_hot(labels, classes).cumsum(0).gather(1, labels[:, None])[:, 0] - 1


def _kth(points: Float[Tensor, "c m d"], bank: Float[Tensor, "c q d"], k: int) -> Float[Tensor, "c m"]:
    """The distance on the sphere from each point to its k-th nearest row of the same class's bank."""
    near = F.normalize(points, dim=2) @ F.normalize(bank, dim=2).mT
    return (2 - 2 * near.topk(k, 2, sorted=False).values.amin(2)).clamp_min(0).sqrt()  # faster than kthvalue


def _chunks(classes: int, each: int) -> Iterator[slice]:
    """Slices of the classes, of which each has about `CHUNK` numbers where a class has `each`."""
    step = max(CHUNK // each, 1)
    return (slice(start, start + step) for start in range(0, classes, step))


def _place() -> int:
    """This process's number."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def _together(mine: Tensor) -> Tensor:
    """The rows of all processes in the batch's order; with the gradient that this process's rows have in the loss of them all."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return mine
    parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, mine.detach().contiguous())
    if mine.requires_grad:
        mine = mine.view_as(mine)
        mine.register_hook(lambda gradient: gradient * len(parts))  # what makes processes agree takes a mean, and here each has a part of the sum
    parts[distributed.get_rank()] = mine
    return torch.cat(parts)

"""Model soups: the average of the weights of several fine-tuned models that began with the same ones.

    soup, chosen = greedy(states, score=lambda state: accuracy(module, state))
    module.load_state_dict(soup)
    refresh_statistics(module, batches)  # where it has BatchNorm

Source: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time", ICML 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from farfield.errors import InputError
from farfield.stats import double

State = Mapping[str, Tensor]


def average(states: Sequence[State]) -> dict[str, Tensor]:
    """The uniform soup: the mean of each tensor over the models, in float64, as the first model keeps it; whole numbers are the first's.

    The running statistics of BatchNorm are averaged too, and are those of no model: see `refresh_statistics`.

    Args:
        states: the `state_dict` of each model; one tensor of each at a time is read.

    Raises:
        InputError: where there is no model, or one has other tensors than the first, of another shape, or with NaN or infinity.

    >>> average([{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([2.0, 4.0])}])
    {'w': tensor([1.5000, 2.0000])}

    Source: Wortsman et al., ICML 2022, the uniform soup.
    """
    if not states:
        raise InputError("There is no model to average.")
    first = states[0]
    for i, state in enumerate(states):
        if other := sorted(first.keys() ^ state.keys()):
            lacks, has = ("0", f"{i}") if other[0] in state else (f"{i}", "0")
            raise InputError(
                f"Model {lacks} of {len(states)} has no tensor {other[0]!r}, which model {has} has; only models of one architecture average."
            )
    return {name: _mean(name, states) for name in first}


def _mean(name: str, states: Sequence[State]) -> Tensor:
    """The mean of one tensor."""
    first = states[0][name]
    total = double(first.detach())
    for i, state in enumerate(states):
        value = state[name].detach()
        if value.shape != first.shape or value.is_floating_point() != first.is_floating_point():
            raise InputError(
                f"{name!r} is {value.dtype} of shape {tuple(value.shape)} in model {i} of {len(states)} and {first.dtype} of shape {tuple(first.shape)} "
                "in model 0; only models of one architecture average."
            )
        if not torch.isfinite(value).all():
            raise InputError(f"{name!r} has NaN or infinity in model {i} of {len(states)}. Leave that model out.")
        if i:
            total = total + double(value).to(total.device)
    return (total / len(states)).to(first) if first.is_floating_point() else first.detach().clone()


def greedy(states: Sequence[State], score: Callable[[dict[str, Tensor]], float]) -> tuple[dict[str, Tensor], list[int]]:
    """The greedy soup: from the best model down, each is added unless the average with it scores less. It is never worse than the best, by this score.

    Args:
        states: the `state_dict` of each model.
        score: of weights, on held-out data, such as the accuracy; higher is better. It is called at most `2 m - 1` times for `m` models.

    Returns:
        The soup, and which models are in it, as they were added.

    Raises:
        InputError: as `average`, and where a score is NaN.

    >>> states = [{"w": torch.tensor(value)} for value in (0.0, 2.0, 5.0)]
    >>> greedy(states, lambda state: -abs(float(state["w"]) - 1.0))
    ({'w': tensor(1.)}, [0, 1])

    Source: Wortsman et al., ICML 2022, recipe 1.
    """
    if not states:
        raise InputError("There is no model to average.")
    own = [_scored(score, [state]) for state in states]
    order = sorted(range(len(states)), key=lambda i: -own[i])  # stable: of equal ones the first given
    chosen, best = order[:1], own[order[0]]
    for i in order[1:]:
        value = _scored(score, [states[j] for j in (*chosen, i)])
        if value >= best:
            chosen, best = [*chosen, i], value
    return average([states[j] for j in chosen]), chosen


def _scored(score: Callable[[dict[str, Tensor]], float], states: Sequence[State]) -> float:
    value = float(score(average(states)))
    if math.isnan(value):
        raise InputError("The score of a model is NaN, which says nothing of which is better.")
    return value


class _Moments:
    """The mean and variance of each channel of all that went into a layer, in float64 (Chan's merging)."""

    def __init__(self) -> None:
        self.batches = self.seen = 0
        self.mean = self.scatter = torch.zeros(())

    def hear(self, layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        """Adds a batch `(n, channels, ...)`."""
        x = double(given[0].detach()).transpose(0, 1).flatten(1)
        n = x.shape[1]
        if n < 2:
            raise InputError("A batch of one picture has no variance to normalise by. Give batches of two or more.")
        mean = x.mean(1)
        scatter, shift, both = (x - mean[:, None]).square().sum(1), mean - self.mean, self.seen + n
        self.scatter = self.scatter + scatter + shift.square() * (self.seen * n / both)
        self.mean = self.mean + shift * (n / both)
        self.batches, self.seen = self.batches + 1, both

    @property
    def variance(self) -> Float[Tensor, " c"]:
        """Unbiased, as torch keeps it."""
        return self.scatter / (self.seen - 1)


def refresh_statistics(module: nn.Module, batches: Iterable[Any], call: Callable[[nn.Module, Any], Any] | None = None) -> None:
    """BatchNorm's running statistics anew, in one pass: the mean and unbiased variance of everything that goes into each layer.

    Each layer normalises by its batch on the way, as in training, and everything else (dropout) is as in evaluation. Unlike a mean of the batches' variances,
    this has the variance between batches, and batches of any sizes count by their samples.

    Args:
        module: a model, changed in place; one without BatchNorm is left alone, and nothing is run.
        batches: of training pictures as the model takes them, on its device, of two or more; shuffled, since each layer's batch is normalised by itself.
        call: how the module is called on a batch, where that is not `module(batch)`.

    Raises:
        InputError: where there is no batch, or what a layer got is not finite; the statistics then are as they were.

    >>> layer = nn.BatchNorm1d(1)
    >>> refresh_statistics(layer, [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [5.0], [9.0]])])
    >>> layer.running_mean, layer.running_var
    (tensor([4.]), tensor([11.5000]))
    """
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats}
    if not layers:
        return
    heard = {name: _Moments() for name in layers}
    modes = {part: part.training for part in module.modules()}
    kept = {layer: [buffer.clone() for buffer in layer.buffers(recurse=False)] for layer in layers.values()}
    hooks = [layer.register_forward_pre_hook(heard[name].hear) for name, layer in layers.items()]
    module.eval()
    for layer in layers.values():
        layer.train()
    try:
        with torch.no_grad():
            for batch in batches:
                (nn.Module.__call__ if call is None else call)(module, batch)
    finally:
        for hook in hooks:
            hook.remove()
        for part, mode in modes.items():
            part.training = mode
        for layer, buffers in kept.items():
            for buffer, before in zip(layer.buffers(recurse=False), buffers, strict=True):
                buffer.copy_(before)
    if not any(moments.seen for moments in heard.values()):
        raise InputError("There are no pictures to take statistics of: not one batch came.")
    for name, moments in heard.items():
        if moments.seen and not (torch.isfinite(moments.mean).all() and torch.isfinite(moments.scatter).all()):
            raise InputError(f"What goes into {name!r} is not finite, so it has no statistics. Mend the model or the pictures.")
    for name, layer in layers.items():
        moments = heard[name]
        if moments.seen and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.copy_(moments.mean)
            layer.running_var.copy_(moments.variance)
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked.fill_(moments.batches)

"""What a training step is made of: a batch, the classifier as its objective sees it, and the objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from farfield.errors import InputError
from farfield.training.draws import Draws


@dataclass(frozen=True, eq=False)
class Batch:
    """The samples of a step.

    Args:
        pictures: `(n, 3, h, w)`, 8 bits a channel, as augmented; or features `(n, d)`, where the head alone is trained on them.
        inputs: the same as the model takes them, normalised.
        labels: `(n,)`, classes.
        draws: random numbers for these samples in this step.
        normalize: from such pictures to inputs.
        partners: a sample for each of these to be mixed with (the next one of the step, over all processes); only where the objective is `paired`.
        highest: the largest label, of partners too, as it was read before the labels went to the device; -1 where nobody looked.
    """

    pictures: Tensor
    inputs: Tensor
    labels: Int64[Tensor, " n"]
    draws: Draws
    normalize: Callable[[Tensor], Tensor]
    partners: Batch | None = None
    highest: int = -1

    def check(self, classes: int) -> None:
        """Raises where a label is none of so many classes; on a GPU the loss itself would break the process."""
        if self.highest >= classes:
            both = [self] if self.partners is None else [self, self.partners]
            row = next(int(some.draws.ids[some.labels.cpu() == self.highest][0]) for some in both if bool((some.labels == self.highest).any()))
            raise InputError(
                f"Item {row} of the training set has the label {self.highest}, and the model has {classes} classes: labels are 0 to {classes - 1}. "
                "Give a model with more classes, or other labels."
            )


class Net:
    """A classifier as an objective sees it: from inputs to logits, or to features and logits.

    Args:
        module: the classifier.
        call: how it is called on inputs, where that is not `module(inputs)`.
        head: its last linear layer (or 1 x 1 convolution); needed for features.
        batch: whose labels must be among the logits.
    """

    def __init__(
        self, module: nn.Module, call: Callable[[nn.Module, Any], Any] | None = None, head: nn.Module | None = None, batch: Batch | None = None
    ) -> None:
        self.module, self.call, self.head, self.batch = module, call, head, batch

    def __call__(self, inputs: Tensor) -> Float[Tensor, "n c"]:
        """The logits, in float32."""
        said = self.module(inputs) if self.call is None else self.call(self.module, inputs)
        logits: Tensor = said if isinstance(said, Tensor) else said["logits"] if isinstance(said, dict) else said.logits
        if self.batch is not None:
            self.batch.check(logits.shape[1])
        return logits.float()

    def look(self, inputs: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
        """The features (what goes into the head) and the logits, in float32."""
        assert self.head is not None, "features need the head"
        heard: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
        try:
            logits = self(inputs)
        finally:
            hook.remove()
        return heard[0].flatten(1).float(), logits


class Objective(nn.Module):
    """What training minimises. It holds its options, and whatever is learnt beside the classifier, such as a projection.

    `forward(net, batch)` gives the loss, a scalar that is a mean over the samples, and the logits of `batch.inputs` `(n, c)`.
    """

    paired: bool = False  # whether samples are mixed with partners
    features: bool = False  # whether the classifier needs a head that can be listened to

    def forward(self, net: Net, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, "n c"]]:
        """The loss and the logits."""
        raise NotImplementedError


class Trainee(nn.Module):
    """A classifier and its objective as one module, so that what makes processes agree sees every parameter."""

    def __init__(
        self, module: nn.Module, objective: Objective, call: Callable[[nn.Module, Any], Any] | None = None, head: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model, self.objective = module, objective
        self.how = (call, head)  # in a tuple, since either may be a module, which is not to be ours a second time

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss and the logits."""
        loss, logits = self.objective(Net(self.model, *self.how, batch), batch)
        return loss, logits.detach()


def as_objective(loss: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """An objective of a plain loss: `(logits, labels) -> scalar`.

    >>> isinstance(as_objective(nn.functional.cross_entropy), Objective)
    True
    """
    return _Plain(loss)


class _Plain(Objective):
    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = net(batch.inputs)
        return self.loss(logits, batch.labels), logits

"""What to keep of a pass besides logits and features: a tap makes one further column of outputs.

`watch` runs a classifier once over a batch with the taps on. Hooks live only inside it. A tap sees the pass as `Seen`: the maps of the
classifier's blocks, changed copies of a block's maps that ran to the end along with the batch, and, where it must, further passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.classifier import Classifier
from farfield.errors import InputError
from farfield.outputs import Outputs

Maps = Float[Tensor, "n channels places"]
Change = Callable[[Maps], Maps]


class Tap:
    """The base of every tap. Its `name`, which the column gets, says all that the values depend on besides the classifier and the data.

    `maps` says whether it looks at the blocks' maps; `branches` which blocks' maps it wants to change, and how; `column` makes the column.
    """

    name: str
    maps = False

    def branches(self, blocks: int) -> Mapping[int, Change]:
        """Changes of blocks' maps, by the number of the block, for a classifier of so many; the changed copies run to the end with the batch."""
        return {}

    def column(self, seen: Seen) -> Float[Tensor, "n ..."]:
        """The values, a row per sample."""
        raise NotImplementedError


@dataclass
class Seen:
    """One pass over a batch, as taps see it.

    Args:
        classifier: who saw.
        batch: its input.
        rows: `(n,)`, a number for each sample that stays with it.
        outputs: its logits and features.
        maps: of each block, `(n, channels, places)`, where a tap asked for them; tokens are places, and features are channels.
        branches: logits and features of the changed copies, by the tap's name and the block.
    """

    classifier: Classifier
    batch: Tensor
    rows: Int64[Tensor, " n"]
    outputs: Outputs
    maps: tuple[Tensor, ...] = ()
    branches: dict[tuple[str, int], Outputs] = field(default_factory=dict)

    def again(self, batch: Tensor, *, maps: bool = False) -> Seen:
        """Another pass, over other inputs of the same samples."""
        return _pass(self.classifier, batch, self.rows, (), maps=maps, gradients=False)

    def gradient(self, objective: Callable[[Seen], Float[Tensor, " n"]], *, maps: bool = False) -> Tensor:
        """The gradient of each sample's objective by its own input, from a pass of its own, at least in float32; the parameters get none.

        Raises:
            InputError: for a model that gradients do not pass.
        """
        dtype = torch.promote_types(self.classifier.dtype, torch.float32)
        batch = self.batch.detach().to(self.classifier.device, dtype).requires_grad_()
        try:
            with torch.enable_grad():
                value = objective(_pass(self.classifier, batch, self.rows, (), maps=maps, gradients=True)).sum()
            (found,) = torch.autograd.grad(value, batch)
        except InputError:
            raise
        except RuntimeError as error:
            raise InputError(
                f"The gradient of {self.classifier.name} by its input cannot be had ({str(error).splitlines()[0]}); methods that need it refuse it."
            ) from error
        return found


def watch(classifier: Classifier, batch: Any, rows: Int64[Tensor, " n"], taps: Sequence[Tap]) -> Outputs:
    """Logits, features and the taps' columns of one batch.

    Raises:
        InputError: for taps on a classifier without blocks, or one whose input is not one tensor, or whose blocks are not run once each.
    """
    if not taps:
        return classifier.outputs(batch)
    if not isinstance(batch, Tensor):
        raise InputError(f"The input of {classifier.name} is a dict, and {taps[0].name} is for models whose input is one tensor.")
    seen = _pass(classifier, batch, rows, taps, maps=any(tap.maps for tap in taps), gradients=False)
    with torch.no_grad():
        columns = {tap.name: tap.column(seen).detach() for tap in taps}
    for name, column in columns.items():
        if len(column) != len(rows):
            raise InputError(f"The tap {name} makes {len(column)} rows of {len(rows)} samples.")
    return Outputs(logits=seen.outputs.logits, features=seen.outputs.features, taps=columns)


def _pass(classifier: Classifier, batch: Tensor, rows: Tensor, taps: Sequence[Tap], *, maps: bool, gradients: bool) -> Seen:
    """One pass: every branch is joined to the batch where it leaves it, so that what comes after runs once."""
    n, blocks = len(batch), classifier.blocks
    leaving = [(tap.name, block, change) for tap in taps for block, change in tap.branches(len(blocks)).items()]
    if (maps or leaving) and not blocks:
        raise InputError(f"{classifier.name} has no blocks that could be found; name them: Classifier.wrap(..., blocks=[...]).")
    kept: dict[int, Tensor] = {}
    joined: list[tuple[str, int]] = []  # the branches, in the order in which the blocks run, which need not be that of their numbers
    last = bool(getattr(classifier.module, "output_fmt", None) == "NHWC")

    def hook(block: int) -> Callable[..., Any]:
        def heard(_: Any, __: Any, output: Any) -> Any:
            whole = _tensor_of(output, classifier, block)
            if block in kept:
                raise InputError(f"The block {blocks[block]!r} of {classifier.name} runs more than once in a pass. Name other `blocks`.")
            if len(whole) != n * (1 + len(joined)):
                raise InputError(
                    f"The block {blocks[block]!r} of {classifier.name} puts out {tuple(whole.shape)} for {n * (1 + len(joined))} inputs, "
                    "so its rows are not samples. Name other `blocks`."
                )
            plain = _maps_of(whole[:n].clone(), last)  # what comes after may write into the block's output
            kept[block] = plain
            here = [(name, change) for name, at, change in leaving if at == block]
            joined.extend((name, block) for name, _ in here)
            changed = [_like(change(plain), whole[:n], last) for _, change in here]
            return _with_tensor(output, torch.cat([whole, *changed])) if changed else None

        return heard

    wanted = range(len(blocks)) if maps else sorted({block for _, block, _ in leaving})
    with ExitStack() as stack:
        for block in wanted:
            handle = classifier.module.get_submodule(blocks[block]).register_forward_hook(hook(block))
            stack.callback(handle.remove)
        try:
            outputs = classifier.outputs(batch.clone(), gradients=gradients)  # some models write into their input
        except RuntimeError as error:
            if not joined or ("size" not in str(error) and "shape" not in str(error)):
                raise
            raise _tied(classifier, joined[0][1]) from error
    if silent := [blocks[block] for block in wanted if block not in kept]:
        raise InputError(f"{classifier.name} does not run its block {silent[0]!r} in a pass. Name other `blocks`.")
    if len(outputs) != n * (1 + len(joined)):
        raise _tied(classifier, joined[0][1]) if joined else InputError(f"{classifier.name} puts out {len(outputs)} rows for {n} inputs.")
    parts = [outputs[start : start + n] for start in range(0, n * (1 + len(joined)), n)] if n else [outputs] * (1 + len(joined))
    branches = dict(zip(joined, parts[1:], strict=True))
    return Seen(classifier, batch, rows, parts[0], tuple(kept[block] for block in wanted) if maps else (), branches)


def _tied(classifier: Classifier, block: int) -> InputError:
    """Why changed maps cannot run to the end along with the batch."""
    return InputError(
        f"{classifier.name} ties what comes after {classifier.blocks[block]!r} to the size of the batch, so no changed maps can run there."
    )


def _tensor_of(output: Any, classifier: Classifier, block: int) -> Tensor:
    """What a block puts out; the first part, where there are several."""
    found = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(found, Tensor) or found.ndim not in (2, 3, 4):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"The block {classifier.blocks[block]!r} of {classifier.name} puts out {shape}, which is no map. Name other `blocks`.")
    return found


def _with_tensor(output: Any, changed: Tensor) -> Any:
    """The same output with its tensor replaced."""
    if not isinstance(output, tuple | list):
        return changed
    parts = [changed, *output[1:]]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)  # a named tuple takes its parts one by one


def channels_last(shape: Sequence[int], told: bool) -> bool:
    """Whether maps `(n, h, w, channels)` are meant: told so, or two equal sides come before something else.

    >>> channels_last((2, 7, 7, 768), False), channels_last((2, 768, 7, 7), False)
    (True, False)
    """
    return len(shape) == 4 and (told or (shape[1] == shape[2] != shape[3]))


def _maps_of(x: Tensor, last: bool) -> Maps:
    """A block's output `(n, channels, h, w)`, `(n, h, w, channels)`, `(n, tokens, channels)` or `(n, channels)` as maps."""
    if x.ndim == 2:
        return x[:, :, None]
    if x.ndim == 3 or channels_last(x.shape, last):
        return x.flatten(1, -2).transpose(1, 2)
    return x.flatten(2)


def _like(maps: Maps, x: Tensor, last: bool) -> Tensor:
    """Maps in the layout of the block's output they came from."""
    return (maps.transpose(1, 2) if x.ndim == 3 or channels_last(x.shape, last) else maps).reshape(x.shape).to(x.dtype)

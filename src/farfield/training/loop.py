"""One readable training loop: a loss, a cosine schedule, checkpoints that make a stop cost at most one epoch.

Each epoch starts from the weights, the optimiser's state and the seed `(recipe.seed, epoch)`, and nothing else. A run that
was stopped and started again therefore ends with the same weights as one that was not (same device, same number of processes; with fp16
not to the bit, since the loss scale is sought anew).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from farfield.errors import InputError
from farfield.files import put, sweep

Progress = Callable[[str, int, int], None]
LossFunction = Callable[[Float[Tensor, "n c"], Int64[Tensor, " n"]], Float[Tensor, ""]]


@runtime_checkable
class LabelledImages(Protocol):
    """What the loop trains on: pictures and labels by index, a batch at a time."""

    def __len__(self) -> int: ...
    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The pictures and labels at some indices."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; with the data and the seed they reproduce it.

    Args:
        epochs: passes over the training set.
        batch_size: pictures in a step, over all processes.
        lr: the peak learning rate; it rises linearly over `warmup` of the steps and falls to 0 along a half cosine.
        weight_decay: applied to weights with two or more dimensions, not to biases and normalisation.
        optimizer: `sgd` (Nesterov momentum 0.9) or `adamw`.
        warmup: fraction of the steps in [0, 1).
        precision: `no` (float32), `bf16` or `fp16` autocast.
        seed: of the order of the pictures and of anything random in the model.
    """

    epochs: int = 20
    batch_size: int = 256
    lr: float = 0.5
    weight_decay: float = 5e-4
    optimizer: str = "sgd"
    warmup: float = 0.1
    precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "lr": self.lr > 0 and math.isfinite(self.lr),
            "weight_decay": self.weight_decay >= 0 and math.isfinite(self.weight_decay),
            "optimizer": self.optimizer in ("sgd", "adamw"),
            "warmup": 0 <= self.warmup < 1,
            "precision": self.precision in ("no", "bf16", "fp16"),
        }
        for name, fine in checks.items():
            if not fine:
                raise InputError(f"A recipe cannot have {name}={getattr(self, name)!r}; see the documentation of `Recipe` for its range.")


def cosine(step: int, steps: int, warmup: float) -> float:
    """The learning rate's factor at `step`: linear rise over `warmup * steps`, then `(1 + cos(pi t)) / 2`.

    >>> [round(cosine(s, 10, 0.2), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1))) / 2


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser, with weight decay on matrices and kernels alone."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)


def train(
    module: nn.Module,
    data: LabelledImages | Callable[[int], LabelledImages],
    recipe: Recipe,
    *,
    transform: Callable[[Tensor], Tensor],
    out: str | Path,
    loss: LossFunction = F.cross_entropy,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Trains `module` in place and returns one record per epoch: its mean loss, accuracy, learning rate and seconds.

    Stop it at any moment; called again with the same arguments it goes on after the last whole epoch.

    Args:
        module: a classifier from a batch of pictures to logits `(n, c)`.
        data: the training set, or a function from the epoch to the set for that epoch (pictures rendered anew, say).
        recipe: the settings.
        transform: what turns a batch from `data` into the model's input.
        out: a folder for `checkpoint.safetensors`, `recipe.json` and `metrics.jsonl`.
        loss: `(logits, labels) -> scalar`.
        progress: called with `("training", steps done, steps in all)`.

    Raises:
        InputError: when `out` holds a run of another recipe or model, or the loss is no longer finite (the last good checkpoint stays).
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # it is one per process, and an earlier run may have had another precision
    accelerator = Accelerator(mixed_precision=recipe.precision)
    folder = Path(out)
    if accelerator.is_main_process:
        _claim(folder, recipe)
    accelerator.wait_for_everyone()
    model, optimizer = accelerator.prepare(module, make_optimizer(module, recipe))
    try:
        done, history = _resume(folder, accelerator.unwrap_model(model), optimizer)
        for epoch in range(done, recipe.epochs):
            record = _epoch(accelerator, model, optimizer, data(epoch) if callable(data) else data, recipe, epoch, transform, loss, folder, progress)
            history.append(record)
            if accelerator.is_main_process:
                _save(folder, accelerator.unwrap_model(model), optimizer, epoch + 1, history)
            accelerator.wait_for_everyone()
    finally:
        # The module is plain again: no autocast in its forward.
        accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        for patch in ("forward", "_original_forward"):
            vars(module).pop(patch, None)
    return history


def _epoch(
    accelerator: Any,
    model: nn.Module,
    optimizer: Any,
    images: LabelledImages,
    recipe: Recipe,
    epoch: int,
    transform: Callable[[Tensor], Tensor],
    loss: LossFunction,
    folder: Path,
    progress: Progress | None,
) -> dict[str, float]:
    """One pass over the training set; its record."""
    from accelerate.utils import set_seed

    if len(images) == 0:
        raise InputError("There is nothing to train on: the data set is empty.")
    started, seed = time.perf_counter(), recipe.seed * 100_003 + epoch
    set_seed(seed)
    loader = accelerator.prepare_data_loader(_shuffled(images, max(recipe.batch_size // accelerator.num_processes, 1), seed))
    first, steps = epoch * len(loader), len(loader) * recipe.epochs
    totals = torch.zeros(3, dtype=torch.float64)
    rate = 0.0
    model.train()
    for step, (batch, labels) in enumerate(loader, first):
        rate = recipe.lr * cosine(step, steps, recipe.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with accelerator.autocast():
            logits = model(transform(batch))
        value = loss(logits.float(), labels)
        if not torch.isfinite(value):
            raise _diverged(f"training loss became {value.item()}", step, epoch, recipe, rate, folder)
        optimizer.zero_grad()
        accelerator.backward(value)
        optimizer.step()
        hits = (logits.detach().argmax(1) == labels).sum()
        totals += torch.tensor([value.item() * len(labels), hits.item(), len(labels)], dtype=torch.float64)
        if progress is not None and accelerator.is_main_process:
            progress("training", step + 1, steps)
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise _diverged("weights are no longer finite", first + len(loader) - 1, epoch, recipe, rate, folder)
    sums = accelerator.reduce(totals.to(accelerator.device) if accelerator.num_processes > 1 else totals)
    seconds = time.perf_counter() - started
    return {"epoch": epoch + 1, "loss": float(sums[0] / sums[2]), "accuracy": float(sums[1] / sums[2]), "lr": rate, "seconds": seconds}


def _diverged(what: str, step: int, epoch: int, recipe: Recipe, rate: float, folder: Path) -> InputError:
    return InputError(
        f"The {what} at step {step} (epoch {epoch + 1} of {recipe.epochs}, learning rate {rate:.3g}); "
        f"{folder / 'checkpoint.safetensors'} keeps the last whole epoch. Lower `lr` or use precision='no'."
    )


class _Batches(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """A labelled set as torch's loader wants it: asked for a whole batch at once."""

    def __init__(self, images: LabelledImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images.batch(indices)


def _whole(batch: Any) -> Any:
    return batch


def _shuffled(images: LabelledImages, batch_size: int, seed: int) -> DataLoader[tuple[Tensor, Tensor]]:
    order = torch.Generator().manual_seed(seed)
    # The last batch is dropped when it is not whole: BatchNorm cannot normalise one picture.
    whole = len(images) >= batch_size
    return DataLoader(_Batches(images), batch_size, shuffle=True, generator=order, drop_last=whole, collate_fn=_whole)


def _claim(folder: Path, recipe: Recipe) -> None:
    """Writes the recipe beside the run, or raises if the folder is another recipe's."""
    path = folder / "recipe.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and json.loads(path.read_text("utf-8")) != asdict(recipe):
            raise InputError(f"{folder} holds a run of another recipe (its recipe.json differs). Give another folder, or delete this one.")
        put(path, lambda partial: partial.write_text(json.dumps(asdict(recipe), indent=2), "utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read or written: {error}. Give another folder.") from error


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                yield f"optimizer.{index}.{name}", value.contiguous()


def _save(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, history: list[dict[str, float]]) -> None:
    """The state after a whole epoch, put in place at once: a reader sees the old file or the new one."""
    # Cloned, since tied weights share memory and safetensors does not store that.
    tensors = {f"model.{name}": value.detach().clone().contiguous() for name, value in module.state_dict().items()}
    tensors.update(_optimizer_tensors(optimizer))
    metadata = {"epoch": str(epoch), "history": json.dumps(history)}
    lines = "".join(json.dumps(record) + "\n" for record in history)
    try:
        put(folder / "metrics.jsonl", lambda path: path.write_text(lines, "utf-8"))  # first: a run that is whole writes it no more
        put(folder / "checkpoint.safetensors", lambda path: save_file(tensors, path, metadata=metadata))
        sweep(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"The checkpoint cannot be written to {folder}: {error}. The last one stays; make room and run the same command again."
        ) from error


def _resume(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[dict[str, float]]]:
    """Loads the last checkpoint, if there is one: whole epochs done, and their records."""
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0, []
    state: dict[int, dict[str, Any]] = {}
    weights: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            for key in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
                owner, _, rest = key.partition(".")
                if owner == "model":
                    weights[rest] = file.get_tensor(key)
                else:
                    index, name = rest.split(".")
                    state.setdefault(int(index), {})[name] = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it to start anew.") from error
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path} is of another architecture: {str(error).splitlines()[-1].strip()} Give another folder.") from error
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["epoch"]), json.loads(metadata["history"])

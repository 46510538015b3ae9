"""One readable training loop: batches whose randomness belongs to the samples, an objective, a step, checkpoints.

What a step does depends on the weights, the optimiser's state and `(recipe.seed, step)`, and on nothing else. A run that was stopped and
started again therefore ends with the same weights as one that was not (same device, same number of processes; with fp16 not to the bit,
since the loss scale is sought anew). Two processes share a batch, and each draws for a sample what one process would (but for what a model draws itself, dropout, and BatchNorm, which sees a process's share alone).
"""

from __future__ import annotations

import json
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from farfield.errors import FarfieldWarning, InputError
from farfield.files import put, sweep
from farfield.training.batch import Batch, Objective, Trainee, as_objective
from farfield.training.draws import Draws
from farfield.training.recipe import Recipe, rate
from farfield.training.sharpness import frozen_statistics, is_norm, norm_parameters, perturbed, usual_rho

Progress = Callable[[str, int, int], None]
LossFunction = Callable[[Float[Tensor, "n c"], Int64[Tensor, " n"]], Float[Tensor, ""]]
Augment = Callable[[Tensor, Draws], Tensor]
LARGE = 3.0  # times the usual radius, from where a warning is due
SHOWN = 3  # unreadable pictures that a warning names
SAVE_EVERY = 300.0  # seconds between checkpoints inside an epoch


@runtime_checkable
class LabelledImages(Protocol):
    """What the loop trains on: pictures and labels by index, a batch at a time.

    A set that draws each picture anew (a random part of it) has `drawn(indices, draws)` as well, which is then used in place of `batch`, and gives
    the names of what could not be read, for which others stand in, as a third.
    """

    def __len__(self) -> int: ...
    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The pictures, 8 bits `(n, 3, h, w)`, and labels at some indices."""


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over what is trained, with weight decay on matrices and kernels alone unless `decay_all`."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    heavy = [p for p in parameters if p.ndim >= 2 or recipe.decay_all]
    light = [p for p in parameters if p.ndim < 2 and not recipe.decay_all]
    groups = [{"params": heavy, "weight_decay": recipe.weight_decay}, {"params": light, "weight_decay": 0.0}]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov and recipe.momentum > 0)


def train(
    module: nn.Module,
    data: LabelledImages | Callable[[int], LabelledImages],
    recipe: Recipe,
    *,
    transform: Callable[[Tensor], Tensor],
    out: str | Path,
    objective: Objective | LossFunction = F.cross_entropy,
    augment: Augment | None = None,
    erase: Augment | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
    head: nn.Module | None = None,
    about: Mapping[str, Any] | None = None,
    workers: int = 0,
    save_every: float = SAVE_EVERY,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Trains `module` in place and returns one record per epoch: its mean loss, accuracy, learning rate and seconds.

    Training is where the module is; of several processes, each takes the device of its own that accelerate gives it.

    Stop it at any moment; called again with the same arguments it goes on after the last checkpoint, and ends with the same weights. The accuracy is that of
    the training pictures as they were shown, by the largest logit; `seconds` are those of the last run that worked on the epoch.

    Args:
        module: a classifier from a batch of pictures to logits `(n, c)`.
        data: the training set, or a function from the epoch to the set for that epoch (pictures rendered anew, say).
        recipe: the settings; `objective`, `options` and `augment` in it are names, whose meaning is the caller's to give in the arguments below.
        transform: what turns a batch from `data` into the model's input.
        out: a folder for `checkpoint.safetensors`, `recipe.json` and `metrics.jsonl`.
        objective: what is minimised, or a plain loss `(logits, labels) -> scalar`.
        augment: what is done to the pictures, with random numbers of the samples.
        erase: likewise, to the model's inputs.
        call: how the module is called, where that is not `module(inputs)`.
        head: its last layer, for objectives that look at features.
        about: what else is to stand in `recipe.json`, and must be the same for a run to go on.
        workers: processes that load pictures.
        save_every: seconds after which a checkpoint is made inside an epoch.
        progress: called with `("training", steps done, steps in all)`.

    Raises:
        InputError: when `out` holds a run of another recipe or model, or the loss is no longer finite (the last good checkpoint stays).
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    here = next(module.parameters(), torch.zeros(())).device
    if recipe.precision == "fp16" and here.type == "cpu":
        raise InputError("precision='fp16' needs a GPU, and the model is on the CPU. Use bf16 or no.")
    # they are one per process, and an earlier run may have had another precision or device
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=here.type == "cpu")
    folder = Path(out)
    if recipe.batch_size % accelerator.num_processes:
        raise InputError(f"A batch of {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes. Give a multiple of them.")
    if accelerator.is_main_process:
        _claim(folder, recipe, about or {})
    accelerator.wait_for_everyone()
    goal = objective if isinstance(objective, Objective) else as_objective(objective)
    trainee = Trainee(module, goal, call, head).to(accelerator.device)
    optimizer = make_optimizer(trainee, recipe)
    run = _Run(accelerator, trainee, optimizer, recipe, folder, save_every, progress)
    images = data if callable(data) else lambda _: data
    run.resume()
    while not run.over:
        run.epoch(images(run.state.epoch), transform, augment, erase, workers)
    run.finish()
    return run.state.history


@dataclass
class _State:
    """Where a run is: whole epochs, steps done in this one and in all, sums over this epoch so far, and the records of the epochs before."""

    epoch: int
    within: int
    step: int
    totals: list[float]
    history: list[dict[str, float]]


class _Run:
    """One run of `train`, from where it stands to its end."""

    def __init__(
        self, accelerator: Any, trainee: Trainee, optimizer: Any, recipe: Recipe, folder: Path, save_every: float, progress: Progress | None
    ) -> None:
        self.accelerator, self.trainee, self.recipe, self.folder = accelerator, trainee, recipe, folder
        self.save_every, self.progress = save_every, progress
        self.average = {k: v.detach().clone() for k, v in trainee.model.state_dict().items()} if recipe.average else {}
        self.state = _State(0, 0, 0, [0.0, 0.0, 0.0], [])
        self.steep = _steep(trainee.model, recipe)
        self.plain = optimizer
        self.model, self.optimizer = accelerator.prepare(trainee, optimizer)

    @property
    def over(self) -> bool:
        """Whether all is done."""
        recipe, state = self.recipe, self.state
        return state.step >= recipe.steps if recipe.steps else state.epoch >= recipe.epochs

    def epoch(
        self, images: LabelledImages, transform: Callable[[Tensor], Tensor], augment: Augment | None, erase: Augment | None, workers: int
    ) -> None:
        """One pass over the training set, from where the run stands in it."""
        if len(images) == 0:
            raise InputError("There is nothing to train on: the data set is empty.")
        recipe, state, accelerator = self.recipe, self.state, self.accelerator
        rows = _rows(len(images), recipe, state.epoch, accelerator.num_processes)
        steps = recipe.steps or len(rows) * recipe.epochs
        requests = [(state.step + i, some) for i, some in enumerate(rows[state.within :])][: steps - state.step]
        share = slice(
            accelerator.process_index * len(rows[0]) // accelerator.num_processes,
            (accelerator.process_index + 1) * len(rows[0]) // accelerator.num_processes,
        )
        paired = self.trainee.objective.paired
        source = _Source(images, recipe.seed, share, paired)
        loader = DataLoader(source, batch_size=None, sampler=requests, num_workers=workers, collate_fn=_whole, worker_init_fn=_deaf)
        from accelerate.utils import gather_object

        started = saved = time.perf_counter()
        now = 0.0
        unread: dict[str, None] = {}
        self._training()
        for (step, _), loaded in zip(requests, loader, strict=True):
            _seed(recipe.seed, step, accelerator.process_index, accelerator.num_processes)
            if isinstance(loaded, InputError):
                raise loaded
            unread.update(dict.fromkeys(loaded[-1]))
            batch = _batch(loaded, accelerator.device, transform, augment, erase)
            now = recipe.lr * rate(step, steps, recipe)
            for group in self.optimizer.param_groups:
                group["lr"] = now
            value, hits = self._step(batch)
            if not math.isfinite(value):
                raise self._diverged(f"training loss became {value}", step, now)
            state.totals = [a + b for a, b in zip(state.totals, (value * len(batch.labels), hits, len(batch.labels)), strict=True)]
            state.step, state.within = step + 1, state.within + 1
            if self.average:
                self._follow(step, steps)
            if self.progress is not None and accelerator.is_main_process:
                self.progress("training", step + 1, steps)
            if accelerator.num_processes == 1 and time.perf_counter() - saved > self.save_every and state.within < len(rows):
                self._save(step, now)
                saved = time.perf_counter()
        sums = accelerator.reduce(
            torch.tensor(state.totals, dtype=torch.float64, device="cpu" if accelerator.num_processes == 1 else accelerator.device)
        )
        record = {"epoch": state.epoch + 1, "loss": float(sums[0] / sums[2]), "accuracy": float(sums[1] / sums[2]), "lr": now}
        if accelerator.num_processes > 1:
            unread = dict.fromkeys(gather_object(list(unread)))
        state.history.append({**record, "seconds": time.perf_counter() - started, **({"unreadable": len(unread)} if unread else {})})
        if unread and state.epoch == 0:
            rest = f"; and {len(unread) - SHOWN} more" if len(unread) > SHOWN else ""
            warnings.warn(
                f"{len(unread)} training pictures cannot be read, and others stand in for them: {'; '.join(list(unread)[:SHOWN])}{rest}.",
                FarfieldWarning,
                stacklevel=3,
            )
        state.epoch, state.within, state.totals = state.epoch + 1, 0, [0.0, 0.0, 0.0]
        if accelerator.is_main_process:
            self._save(state.step - 1, now)
        accelerator.wait_for_everyone()

    def _training(self) -> None:
        """Training mode, but for normalisation whose statistics are frozen or which is not trained."""
        self.model.train()
        for layer in self.trainee.model.modules():
            own = list(layer.parameters(recurse=False))
            if is_norm(layer) and (self.recipe.statistics == "frozen" or (own and not any(p.requires_grad for p in own))):
                layer.eval()

    def _step(self, batch: Batch) -> tuple[float, float]:
        """One step of the optimiser; the loss before it, and how many samples were told rightly."""
        value, logits = self._backward(batch)
        if self.steep:
            rho = self.recipe.rho or usual_rho(self.steep)
            with perturbed(self.steep, rho), frozen_statistics(self.trainee.model):
                self._backward(batch)
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(self.trainee.parameters(), self.recipe.clip)
        self.optimizer.step()
        return value, float((logits.argmax(1) == batch.labels).sum())

    def _backward(self, batch: Batch) -> tuple[float, Tensor]:
        self.optimizer.zero_grad()
        try:
            loss, logits = self.model(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(f"BatchNorm cannot normalise a step of {len(batch.labels)} picture. Give more pictures, or a larger batch.") from error
        self.accelerator.backward(loss)
        return float(loss.detach()), logits

    def _follow(self, step: int, steps: int) -> None:
        """The running average of the weights and buffers; during the warm-up it is the weights themselves."""
        keep = 0.0 if step < math.ceil(self.recipe.warmup * steps) else self.recipe.average
        for key, value in self.trainee.model.state_dict().items():
            held = self.average[key]
            if value.is_floating_point():
                held.lerp_(value.detach().to(held.device), 1 - keep)
            else:
                held.copy_(value)

    def _diverged(self, what: str, step: int, now: float) -> InputError:
        path = self.folder / "checkpoint.safetensors"
        kept = f"{path} keeps the last good weights" if path.exists() else "there was no checkpoint yet"
        return InputError(
            f"The {what} at step {step} (epoch {self.state.epoch + 1}{f' of {self.recipe.epochs}' if not self.recipe.steps else ''}, learning rate {now:.3g}); "
            f"{kept}. Lower `lr` or use precision='no'."
        )

    # --- checkpoints ----------------------------------------------------------------------------------------------------------------------

    def _save(self, step: int, now: float) -> None:
        """The state as it is, put in place at once: a reader sees the old file or the new one."""
        if not all(torch.isfinite(p).all() for p in self.trainee.parameters()):
            self.state.epoch -= self.state.within == 0
            raise self._diverged("weights are no longer finite", step, now)
        # Cloned, since tied weights share memory and safetensors does not store that.
        held = {"model": self.trainee.model.state_dict(), "objective": self.trainee.objective.state_dict(), "average": self.average}
        tensors = {f"{owner}.{name}": value.detach().clone().contiguous() for owner, state in held.items() for name, value in state.items()}
        tensors.update(_optimizer_tensors(self.plain))
        lines = "".join(json.dumps(record) + "\n" for record in self.state.history)
        try:
            put(self.folder / "metrics.jsonl", lambda path: path.write_text(lines, "utf-8"))  # first: a run that is whole writes it no more
            put(self.folder / "checkpoint.safetensors", lambda path: save_file(tensors, path, metadata={"state": json.dumps(asdict(self.state))}))
            sweep(self.folder)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"The checkpoint cannot be written to {self.folder}: {error}. The last one stays; make room and run the same command again."
            ) from error

    def resume(self) -> None:
        """Loads the last checkpoint, if there is one."""
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return
        moments: dict[int, dict[str, Tensor]] = {}
        held: dict[str, dict[str, Tensor]] = {"model": {}, "objective": {}, "average": {}}
        try:
            with safe_open(path, framework="pt") as file:
                state = _State(**json.loads(file.metadata()["state"]))
                for key in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
                    owner, _, rest = key.partition(".")
                    if owner == "optimizer":
                        index, name = rest.split(".")
                        moments.setdefault(int(index), {})[name] = file.get_tensor(key)
                    else:
                        held[owner][rest] = file.get_tensor(key)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}. Delete it to start anew.") from error
        try:
            self.trainee.model.load_state_dict(held["model"])
            self.trainee.objective.load_state_dict(held["objective"])
        except RuntimeError as error:
            raise InputError(f"{path} is of another architecture: {str(error).splitlines()[-1].strip()} Give another folder.") from error
        self.average = {key: value.to(self.accelerator.device) for key, value in held["average"].items()}
        self.plain.load_state_dict({"state": moments, "param_groups": self.plain.state_dict()["param_groups"]})
        self.state = state

    def finish(self) -> None:
        """Leaves the module with the averaged weights, where there are such."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if self.average:
            self.trainee.model.load_state_dict(self.average)


def _steep(module: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """The parameters that are moved up the slope."""
    if recipe.sharpness == "none":
        return []
    if recipe.sharpness == "sam":
        return [p for p in module.parameters() if p.requires_grad]
    found = norm_parameters(module)
    if not found:
        warnings.warn(
            "The model has no normalisation layer to train, so sharpness-aware steps have nothing to move: these are plain steps.",
            FarfieldWarning,
            stacklevel=4,
        )
    elif recipe.rho > LARGE * usual_rho(found):
        warnings.warn(
            f"A radius of {recipe.rho:g} is large for {sum(p.numel() for p in found):,} parameters of normalisation layers, for which "
            f"{usual_rho(found):.2g} is usual: it may cost much accuracy. rho=0 takes that.",
            FarfieldWarning,
            stacklevel=4,
        )
    return found


def _rows(items: int, recipe: Recipe, epoch: int, processes: int) -> list[list[int]]:
    """The rows of each step of an epoch, shuffled; what does not make a whole batch is left out, since BatchNorm cannot normalise one picture."""
    order = torch.randperm(items, generator=torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)).tolist()
    size = min(recipe.batch_size, items)
    size -= size % processes
    if size == 0:
        raise InputError(f"There are {items} pictures to train on, and {processes} processes to share them.")
    return [order[start : start + size] for start in range(0, items - size + 1, size)]


def _seed(seed: int, step: int, process: int, processes: int) -> None:
    """What a model draws (dropout) belongs to the step, and is not the same for each process's share of it."""
    torch.manual_seed((seed * 1_000_003 + step) * processes + process)


Loaded = tuple[Tensor, Tensor, Draws, Tensor | None, list[str]]


class _Source(Dataset[Loaded | InputError]):
    """A labelled set as the loop asks for it: this process's share of a step, with the next sample of each for partner."""

    def __init__(self, images: LabelledImages, seed: int, share: slice, paired: bool) -> None:
        self.images, self.seed, self.share, self.paired = images, seed, share, paired

    def __getitem__(self, request: tuple[int, Sequence[int]]) -> Loaded | InputError:
        try:
            return self._loaded(*request)
        except InputError as error:  # returned, since a loader's process raises with its traceback in the message
            return error

    def _loaded(self, step: int, rows: Sequence[int]) -> Loaded:
        mine = list(rows[self.share])
        partner: Tensor | None = None
        if self.paired:
            nexts = [*rows[1:], rows[0]][self.share]
            places = {row: place for place, row in enumerate(dict.fromkeys([*mine, *nexts]))}
            mine, partner = list(places), torch.tensor([places[row] for row in nexts])
        draws = Draws(self.seed, step, torch.tensor(mine))
        drawn = getattr(self.images, "drawn", None)
        pictures, labels, *failed = self.images.batch(mine) if drawn is None else drawn(mine, draws)
        return pictures, labels, draws, partner, failed[0] if failed else []


def _whole(loaded: Any) -> Any:
    return loaded


def _deaf(_: int) -> None:
    """Ctrl-C is for the parent, which ends its loaders itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _batch(loaded: Loaded, device: torch.device, transform: Callable[[Tensor], Tensor], augment: Augment | None, erase: Augment | None) -> Batch:
    """A step's samples on the device, augmented, each with its partner."""
    pictures, labels, draws, partner, _ = loaded
    if (lowest := int(labels.min())) < 0:
        raise InputError(
            f"Item {int(draws.ids[labels.argmin()])} of the training set has the label {lowest}: a sample of no class cannot be trained on. Leave it out."
        )
    highest = int(labels.max())
    pictures, labels = pictures.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    if augment is not None:
        pictures = augment(pictures, draws)
    inputs = transform(pictures)
    if erase is not None:
        inputs = erase(inputs, draws)
    if partner is None:
        return Batch(pictures, inputs, labels, draws, transform, highest=highest)
    mine, others = slice(len(partner)), partner.to(device)
    second = Batch(pictures[others], inputs[others], labels[others], draws.of(partner), transform)
    return Batch(pictures[mine], inputs[mine], labels[mine], draws.of(mine), transform, second, highest)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                yield f"optimizer.{index}.{name}", value.contiguous()


def _claim(folder: Path, recipe: Recipe, about: Mapping[str, Any]) -> None:
    """Writes the recipe beside the run, or raises if the folder is another recipe's."""
    path = folder / "recipe.json"
    told = json.loads(json.dumps({**about, "recipe": asdict(recipe)}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and json.loads(path.read_text("utf-8")) != told:
            raise InputError(f"{folder} holds a run of another recipe (its recipe.json differs). Give another folder, or delete this one.")
        put(path, lambda partial: partial.write_text(json.dumps(told, indent=2), "utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read or written: {error}. Give another folder.") from error

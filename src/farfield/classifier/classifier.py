"""A model with its preprocessing, its proven head, and the names of its classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from farfield.classifier.heads import Found, evaluating, find_head, logits_of
from farfield.errors import FarfieldWarning, InputError, nearest
from farfield.identity import hash_of
from farfield.outputs import Head, Outputs

Transform = Callable[[Any], Any]
Batch = Tensor | Mapping[str, Tensor]
Size = tuple[int, ...] | Mapping[str, tuple[int, ...]]
PROBES = 4


def move(batch: Batch, to: Callable[[Tensor], Tensor]) -> Batch:
    """A batch with something done to each of its tensors."""
    return to(batch) if isinstance(batch, Tensor) else {name: to(value) for name, value in batch.items()}


def _directly(module: nn.Module, batch: Batch) -> Any:
    """How a module is called when nothing else is said."""
    return module(batch)


@dataclass(eq=False)
class Classifier:
    """A model with its preprocessing and its proven head. Make one with `Classifier.wrap` or `Classifier.load`.

    Args:
        module: from a batch of inputs to logits.
        name: what tables call it.
        transform: from a picture to the model's input.
        found: where the logits come from; `None` for a model without a linear head (detectors that need features refuse it).
        input_size: of one input.
        call: how the module is called on a batch.
        labels: the names of its classes, in order, if it knows them.
        blocks: the names of its stages, first to last.
        groups: which class each logit stands for, where there is a softmax in each of several groups; see `Head`.
    """

    module: nn.Module
    name: str
    transform: Transform
    found: Found | None
    input_size: Size
    call: Callable[[nn.Module, Any], Any] = _directly
    labels: tuple[str, ...] | None = None
    blocks: tuple[str, ...] = ()
    groups: Tensor | None = None

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        *,
        transform: Transform,
        name: str | None = None,
        input_size: Size = (3, 224, 224),
        layer: nn.Module | None = None,
        call: Callable[[nn.Module, Any], Any] | None = None,
        labels: Sequence[str] | None = None,
        blocks: Sequence[str] | None = None,
        groups: Tensor | None = None,
    ) -> Classifier:
        """Any module from pictures to logits.

        Args:
            module: the classifier; its weights, mode and hooks are left as they are.
            transform: from a picture to the model's input, as in evaluation; a tensor, or a dict of tensors.
            name: what tables call it; the class's name by default.
            input_size: of one input, for the probe that finds the head; a dict of sizes where the input is a dict.
            layer: the layer the logits come from, where the head cannot be found; it is proven all the same.
            call: how to get logits from the module and a batch of inputs, where that is not `module(batch)`.
            labels: the names of the classes, in the order of the logits.
            blocks: the names of the stages; found where the model has a usual build.
            groups: `(c,)`, which class each logit stands for, of a model with a softmax in each of several groups (MOS); see `Head`.

        Raises:
            InputError: when the model does not return logits, has NaN among its weights, or `layer` or `blocks` are not its own.

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> Classifier.wrap(net, transform=torch.as_tensor, input_size=(3, 2, 2)).found.names
        ('3',)
        """
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module  # its copies run in threads and processes that cannot be listened to
        module = getattr(module, "_orig_mod", module)  # of torch.compile, which cannot be listened to either
        name = name or type(module).__name__
        for key, value in module.state_dict().items():
            if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
                raise InputError(f"{name} has NaN or infinity among its weights, in `{key}`; its outputs would mean nothing.")
        made = cls(module, name, transform, None, input_size, call or _directly, None if labels is None else tuple(labels), groups=groups)
        probe = made.probe()
        try:
            logits = made._logits(probe)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{name} fails on a probe of size {input_size} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
                "Give its `input_size`, and `call` if it is not called as module(batch)."
            ) from error
        _check_logits(name, logits)
        classes = logits.shape[1] if groups is None else Head(logits.new_zeros(logits.shape[1], 1), logits[0], groups).classes
        if made.labels is not None and len(made.labels) != classes:
            raise InputError(f"{name} has {classes} classes, and {len(made.labels)} names were given for them.")
        if unknown := [block for block in blocks or () if block not in dict(module.named_modules())]:
            raise InputError(
                f"{name} has no part {unknown[0]!r}{nearest(unknown[0], dict(module.named_modules()))} Name the `blocks` as `named_modules` does."
            )
        made.found = find_head(lambda: made._logits(probe), module, layer=layer, dtype=_coarser(made.dtype, logits.dtype))
        if made.found is None and layer is not None:
            raise InputError(f"The `layer` given is not the head of {name}: its inputs do not make the logits by any weight and bias.")
        if made.found is None:
            warnings.warn(
                f"{name} has no linear head that could be found: its logits can be scored, its features cannot. If it has one, pass it as `layer`.",
                FarfieldWarning,
                stacklevel=2,
            )
        made.blocks = tuple(blocks) if blocks is not None else blocks_of(module, () if made.found is None else made.found.names)
        return made

    @classmethod
    def load(
        cls,
        name: str,
        *,
        weights: str | None = None,
        transform: Transform | None = None,
        random_weights: bool = False,
        device: torch.device | str = "cpu",
    ) -> Classifier:
        """A classifier by name.

        Args:
            name: one that ships (`glyphs-200-resnet`), a Farfield classifier file or a folder with one, `zoo:NAME` (the papers', see
                `farfield.models.zoo`), `timm:NAME`, `torchvision:NAME[:WEIGHTS]`, `hf:NAME` (a name on the hub, or a folder), or `python:module:function`, a function that
                returns a `Classifier`, or a module and its transform.
            weights: your own, for `timm:`, `torchvision:` and `zoo:`: safetensors, a checkpoint of `torch.save` with tensors alone, or Google's
                npz; the number of classes is read from them.
            transform: from a picture to the model's input; the model's own by default.
            random_weights: do not fetch weights (a dry run).
            device: where to put it.

        Raises:
            InputError: for an unknown name, weights that cannot be fetched or do not fit, and pickles of more than tensors.

        >>> Classifier.load("glyphs-200-resnet").head.weight.shape
        torch.Size([200, 128])
        """
        from farfield.classifier import sources

        return sources.load(cls, name, weights=weights, transform=transform, random_weights=random_weights).to(device)

    def to(self, device: torch.device | str) -> Classifier:
        """Moves the model, in place."""
        self.module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.module.parameters(), torch.zeros(())).device

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are kept in."""
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return self.logit_count if self.groups is None else int((self.groups >= 0).sum())

    @property
    def logit_count(self) -> int:
        """How many logits it has: one for each class, and one more for each group where there are groups."""
        return self.found.classes if self.found is not None else self._logits(self.probe()).shape[1]

    @property
    def head(self) -> Head | None:
        """The weight and bias that make the logits of the features, as they are now.

        Raises:
            InputError: when the model was changed since it was wrapped, in a way that no weight and bias explain.
        """
        if self.found is None:
            return None
        with self.found.listening() as heard:
            logits = self._logits(self.probe())
        return replace(self.found.head(heard, logits), groups=self.groups)

    def fingerprint(self) -> str:
        """A hash of the modules, their code, settings and tensors, how they are called, and the blocks where others were named: who said these outputs."""
        found = blocks_of(self.module, () if self.found is None else self.found.names)
        groups = () if self.groups is None else (self.groups,)
        return hash_of(self.module, self.call, *groups, *(() if self.blocks == found else (self.blocks,)))

    def outputs(self, batch: Batch, *, gradients: bool = False) -> Outputs:
        """Logits, and features where there is a head, of one batch of inputs, in one pass; with gradients only where they are asked for."""
        if self.found is None:
            return Outputs(logits=self._logits(batch, gradients))
        with self.found.listening() as heard:
            logits = self._logits(batch, gradients)
        return Outputs(logits=logits, features=self.found.features(heard))

    def _logits(self, batch: Batch, gradients: bool = False) -> Tensor:
        dtype, device = self.dtype, self.device
        batch = move(batch, lambda x: x.to(device, dtype if x.is_floating_point() else x.dtype))
        with evaluating(self.module, gradients=gradients):
            return logits_of(self.call(self.module, batch))

    def probe(self) -> Batch:
        """A few unlike inputs: noise of several strengths on several greys."""
        random = torch.Generator().manual_seed(0)

        def draw(size: tuple[int, ...]) -> Tensor:
            noise = torch.randn((PROBES, *size), generator=random)
            shape = (PROBES, *(1 for _ in size))
            return noise * torch.linspace(0.5, 1.5, PROBES).reshape(shape) + torch.linspace(-1.0, 1.0, PROBES).reshape(shape)

        return draw(self.input_size) if isinstance(self.input_size, tuple) else {name: draw(size) for name, size in self.input_size.items()}


def _coarser(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """The type that rounds more."""
    floats = [dtype for dtype in (one, other) if dtype.is_floating_point]
    return max(floats, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _check_logits(name: str, logits: Tensor) -> None:
    """Warns of a model that ends in a softmax, whose probabilities look like logits and are none."""
    ones = torch.ones(len(logits), device=logits.device)
    kind = None
    if (logits >= 0).all() and torch.allclose(logits.float().sum(1), ones, atol=1e-3):
        kind = "probabilities"
    elif torch.allclose(logits.float().exp().sum(1), ones, atol=1e-3):
        kind = "log-probabilities"
    if kind is not None and logits.shape[1] > 1:
        warnings.warn(
            f"{name} returns {kind}, not logits: its last layer is a softmax, and the scores of logits mean little after it. Wrap the model without it.",
            FarfieldWarning,
            stacklevel=3,
        )


def blocks_of(module: nn.Module, head: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of a model's stages, first to last: timm's `feature_info`, or the composite children of the part that holds nearly everything.

    Where that part is a plain row of layers, its poolings end the stages. `head` names what is after the last stage.

    >>> blocks_of(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2)))
    ('0', '1')
    """
    told = getattr(module, "feature_info", None)
    infos = told if isinstance(told, list) else getattr(told, "info", [])
    known = dict(module.named_modules())
    if names := tuple(info["module"] for info in infos if info.get("module") in known):
        return names
    prefix, children = "", list(module.named_children())
    while True:
        sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in children}
        body = {name: size for name, size in sizes.items() if not any(f"{h}.".startswith(f"{prefix}{name}.") for h in head)}
        body = body if any(body.values()) else sizes
        name = max(body, key=lambda key: body[key], default="")
        largest = dict(children).get(name)
        share = body[name] / max(sum(body.values()), 1) if body else 0.0
        if largest is None or share < (0.5 if isinstance(largest, nn.ModuleList) else 0.9) or not list(largest.children()):
            break
        prefix, children = f"{prefix}{name}.", list(largest.named_children())
    composite = [name for name, child in children if list(child.children()) and name in body and sizes[name]]
    pools = [name for name, child in children if isinstance(child, nn.MaxPool2d | nn.AvgPool2d)]
    return tuple(f"{prefix}{name}" for name in composite or pools)

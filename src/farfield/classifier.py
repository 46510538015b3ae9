"""Any image classifier as a body and a head, proven by `body(x) @ W.T + b == model(x)`."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield import models
from farfield.data.transforms import Normalize
from farfield.errors import FarfieldWarning, InputError
from farfield.outputs import Head, Outputs

Transform = Callable[[Any], Tensor]


def tolerance(dtype: torch.dtype) -> float:
    """How far the proof may miss, in units of the logits' spread: 1e-4, and more where the weights' own rounding is coarser."""
    return max(1e-4, 16 * torch.finfo(dtype).eps)


def plain(value: object) -> str:
    """What an object says of itself, without where in memory it is."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; every submodule's mode is put back after."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def is_linear_map(module: nn.Module) -> bool:
    """Whether a module is a linear layer, or a 1 x 1 convolution, which is one at each place."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1 and module.stride == (1, 1) and module.padding in ((0, 0), 0, "valid", "same")
    return isinstance(module, nn.Linear)


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returns: a tensor `(n, c)`, or an object that has one as `logits`."""
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"A classifier must return logits of shape (n, classes); this one returns {shape}.")
    return logits


def features_into(layer: nn.Module, x: Tensor) -> Float[Tensor, "n d"]:
    """A linear map's input as one row of features per sample; places are averaged, which commutes with the map."""
    if isinstance(layer, nn.Conv2d):
        return x.flatten(2).mean(2)
    return x if x.ndim == 2 else x.flatten(1, -2).mean(1)


def head_of_layer(layer: nn.Module) -> Head:
    """A copy of a linear map's weight and bias."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    weight = weight.detach().flatten(1).clone()
    bias = layer.bias.detach().clone() if isinstance(layer.bias, Tensor) else weight.new_zeros(len(weight))
    return Head(weight, bias)


@contextmanager
def listening(layers: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """The inputs each layer gets inside the `with`, in order of the calls; no hook outlives it."""
    heard: dict[nn.Module, list[Tensor]] = {}

    def note(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        heard.setdefault(layer, []).append(inputs[0] if inputs else next(iter(named.values())))

    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def find_head(module: nn.Module, probe: Tensor) -> nn.Module | None:
    """The layer that is the model's head, or `None` where no linear map is.

    Of the linear maps that ran, the last that has one output per class is the first candidate. A candidate is proven with weights
    drawn at random for the moment (a zero or untrained head proves nothing), then restored bit by bit.
    """
    layers = [part for part in module.modules() if is_linear_map(part)]
    with evaluating(module), listening(layers) as heard:
        classes = logits_of(module(probe)).shape[1]
    ran = [layer for layer, inputs in heard.items() if len(inputs) == 1 and len(head_of_layer(layer).weight) == classes]
    return next((layer for layer in reversed(ran) if proof_error(module, layer, probe) <= tolerance(probe.dtype)), None)


def proof_error(module: nn.Module, layer: nn.Module, probe: Tensor) -> float:
    """The largest `|body(x) @ W.T + b - model(x)|` under random `W` and `b`, over the spread of the logits."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    kept = [(parameter, parameter.detach().clone()) for parameter in (weight, bias) if isinstance(parameter, Tensor)]
    random = torch.Generator().manual_seed(0)
    try:
        with evaluating(module), listening([layer]) as heard:
            for parameter, _ in kept:
                scale = parameter.shape[1] ** -0.5 if parameter.ndim > 1 else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=random) * scale)
            logits, head = logits_of(module(probe)), head_of_layer(layer)
            if layer not in heard or len(head.weight) != logits.shape[1]:
                return float("inf")
            features, logits = features_into(layer, heard[layer][-1]).float(), logits.float()
            return float((Head(head.weight.float(), head.bias.float())(features) - logits).abs().max() / logits.std().clamp_min(1e-30))
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)


@dataclass(eq=False)
class Classifier:
    """A model with its preprocessing and its proven head. Make one with `Classifier.wrap` or `Classifier.load`.

    Args:
        module: from a batch of inputs to logits.
        name: what tables call it.
        transform: from a picture to the model's input.
        layer: the head, as found; `None` for a model without a linear one (detectors that need features refuse it).
    """

    module: nn.Module
    name: str
    transform: Transform
    layer: nn.Module | None

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        *,
        transform: Transform,
        name: str | None = None,
        input_size: tuple[int, int, int] = (3, 224, 224),
        layer: nn.Module | None = None,
    ) -> Classifier:
        """Any module from pictures to logits.

        Args:
            module: the classifier; its weights, mode and hooks are left as they are.
            transform: from a picture to the model's input, as in evaluation.
            name: what tables call it; the class's name by default.
            input_size: of one input, for the probe that finds the head.
            layer: the head, where it cannot be found; it is proven all the same.

        Raises:
            InputError: when the model does not return logits, has NaN among its weights, or `layer` is not its head.

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> Classifier.wrap(net, transform=torch.as_tensor, input_size=(3, 2, 2)).layer is net[3]
        True
        """
        name = name or type(module).__name__
        for key, value in module.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise InputError(f"{name} has NaN or infinity among its weights, in `{key}`; its outputs would mean nothing.")
        like = next(module.parameters(), torch.zeros(()))
        probe = torch.randn((4, *input_size), generator=torch.Generator().manual_seed(0)).to(like)
        found = layer if layer is not None else find_head(module, probe)
        if layer is not None and (error := proof_error(module, layer, probe)) > tolerance(probe.dtype):
            raise InputError(f"The `layer` given is not the head of {name}: features @ W.T + b misses the logits by {error:.2g} of their spread.")
        if found is None:
            warnings.warn(
                f"{name} has no linear head that could be found: its logits can be scored, its features cannot. If it has one, pass it as `layer`.",
                FarfieldWarning,
                stacklevel=2,
            )
        return cls(module, name, transform, found)

    @classmethod
    def load(cls, name: str, *, random_weights: bool = False, device: torch.device | str = "cpu") -> Classifier:
        """A classifier by name: one that ships (`glyphs-200-resnet`), a classifier file, or `timm:NAME`.

        Args:
            name: what to load.
            random_weights: for `timm:`, do not fetch weights (a dry run).
            device: where to put it.

        Raises:
            InputError: for an unknown name, or weights that cannot be fetched.

        >>> Classifier.load("glyphs-200-resnet").head.weight.shape
        torch.Size([200, 128])
        """
        if name.startswith("timm:"):
            return _load_timm(cls, name, random_weights).to(device)
        module, facts = models.read(name if name.endswith(".safetensors") else models.shipped_path(name))
        transform = Normalize(tuple(facts["mean"]), tuple(facts["std"]))
        return cls.wrap(module, transform=transform, name=name, input_size=(3, 32, 32)).to(device)

    def to(self, device: torch.device | str) -> Classifier:
        """Moves the model, in place."""
        self.module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.module.parameters(), torch.zeros(())).device

    @property
    def head(self) -> Head | None:
        """A copy of the head as it is now."""
        return None if self.layer is None else head_of_layer(self.layer)

    def fingerprint(self) -> str:
        """A hash of the modules, their settings and their tensors: who said these outputs."""
        digest = hashlib.blake2b(plain(self.module).encode(), digest_size=16)
        for part in self.module.modules():
            settings = {name: plain(value) for name, value in vars(part).items() if not name.startswith("_") and name != "training"}
            digest.update(f"{type(part).__module__}.{type(part).__qualname__} {settings}".encode())
        for key, value in (*self.module.named_parameters(), *self.module.named_buffers()):
            digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def outputs(self, batch: Tensor) -> Outputs:
        """Logits, and features where there is a head, of one batch of inputs, in one pass."""
        dtype = next((parameter.dtype for parameter in self.module.parameters()), batch.dtype)
        with evaluating(self.module), listening([] if self.layer is None else [self.layer]) as heard:
            logits = logits_of(self.module(batch.to(dtype)))
            features = None if self.layer is None else features_into(self.layer, heard[self.layer][-1])
        return Outputs(logits=logits, features=features)


def _load_timm(cls: type[Classifier], name: str, random_weights: bool) -> Classifier:
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    model_name = name.removeprefix("timm:")
    if not timm.is_model(model_name.split(".")[0]):
        near = timm.list_models(f"*{model_name.split('_')[0]}*")[:3]
        raise InputError(f"timm has no model {model_name!r}." + (f" It has, for example, {', '.join(near)}." if near else ""))
    try:
        module = timm.create_model(model_name, pretrained=not random_weights)
    except Exception as error:  # the hub's client raises many kinds for "not reachable"
        raise InputError(
            f"The weights of {name} cannot be had ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
            "Check the name's tag and the connection, or ask for random weights for a dry run."
        ) from error
    config = resolve_model_data_config(module)
    transform = create_transform(**config)
    return cls.wrap(module, transform=transform, name=name, input_size=config["input_size"])

"""Where a model's logits come from: its last linear map, found by a probe and proven by other weights.

A forward pass is watched for products `x @ W.T + b` with one output per class, whoever makes them: a layer, a 1 x 1 convolution, or a
function call. The proof puts random weights in a product for the moment of the call (a zero or untrained head proves nothing) and
looks whether the logits follow. The model's own weights are never touched, and no hook is left on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from farfield.errors import InputError
from farfield.outputs import Head
from farfield.stats import double

SPREADS = (1.0, 100.0)  # of the logits in the proof: a clamp or a saturation may hide at one
CANDIDATES = 8  # the last products that are tried: more would let a regression on a few probes explain anything


def tolerance(dtype: torch.dtype) -> float:
    """How far the proof may miss, in units of the logits' spread: 1e-4, and more where the weights' own rounding is coarser."""
    return max(1e-4, 16 * torch.finfo(dtype).eps)


@contextmanager
def evaluating(module: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Evaluation mode inside, and no gradients unless asked for; every submodule's mode is put back after."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.set_grad_enabled(gradients):
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returns: a tensor `(n, c)`, or what an object or a dict has as `logits`.

    Raises:
        InputError: for anything else.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(output).__name__}"
        raise InputError(
            f"A classifier must return logits of shape (n, classes); this one returns {shape}. "
            "Say how to get them, for example call=lambda module, x: module(x)[0]."
        )
    return logits


@dataclass(frozen=True, eq=False)
class Product:
    """One `x @ weight.T + bias` of a forward pass; `x` is `(n, d)`, `(n, places, d)`, or `(n, d, h, w)` where it is `maps`."""

    x: Tensor
    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"] | None
    maps: bool = False

    def features(self) -> Float[Tensor, "n d"]:
        """The input as one row per sample; places are averaged, which commutes with a linear map."""
        if self.maps:
            return self.x.flatten(2).mean(2)
        return self.x if self.x.ndim == 2 else self.x.flatten(1, -2).mean(1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Product | None:
    return Product(x, weight, bias) if weight.ndim == 2 and x.ndim >= 2 else None


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Product | None:
    pointwise = weight.shape[2:] == (1, 1) and groups == 1 and stride in (1, (1, 1)) and padding in (0, (0, 0), "valid", "same")
    return Product(x, weight.flatten(1), bias, maps=True) if pointwise and x.ndim == 4 else None


def _matmul(x: Tensor, matrix: Any) -> Product | None:
    return Product(x, matrix.T, None) if isinstance(matrix, Tensor) and matrix.ndim == 2 and x.ndim >= 2 else None


def _addmm(bias: Tensor, x: Tensor, matrix: Tensor, **scales: Any) -> Product | None:
    return Product(x, matrix.T, bias) if not scales and bias.ndim == 1 else None


# How each function that multiplies by a matrix is read.
_READERS: dict[Callable[..., Any], Callable[..., Product | None]] = {
    F.linear: _linear,
    F.conv2d: _convolution,
    **dict.fromkeys((torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.__matmul__), _matmul),
    torch.addmm: _addmm,
    torch.Tensor.addmm: _addmm,
}


class Listening(TorchFunctionMode):
    """Inside the `with`: the products with `classes` outputs, numbered in order, and the wanted ones kept in `heard`.

    Args:
        classes: outputs of the products to count.
        wanted: the numbers to keep; all if None.
        instead: weight and bias to use in a product in place of its own, by number.
        open: whether products count at this moment.
    """

    def __init__(
        self,
        classes: int,
        wanted: Collection[int] | None = None,
        instead: Mapping[int, tuple[Tensor, Tensor | None]] | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.wanted, self.instead = classes, wanted, instead or {}
        self.heard: dict[int, Product] = {}
        self.calls = 0
        self.open = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the function, with other weights where they were asked for."""
        kwargs = kwargs or {}
        reader = _READERS.get(func) if self.open else None
        product = None if reader is None else reader(*args, **kwargs)
        if product is None or len(product.weight) != self.classes:
            return func(*args, **kwargs)
        number, self.calls = self.calls, self.calls + 1
        if number in self.instead:
            weight, bias = self.instead[number]
            product = Product(
                product.x, weight.to(product.weight), None if product.bias is None or bias is None else bias.to(product.bias), product.maps
            )
            self.heard[number] = product
            return (
                F.conv2d(product.x, product.weight[..., None, None], product.bias)
                if product.maps
                else F.linear(product.x, product.weight, product.bias)
            )
        if self.wanted is None or number in self.wanted:
            self.heard[number] = product
        return func(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class Found:
    """A proven head: `logits = sum_i scale_i (x_i @ W_i.T + b_i) + constant`, over the products `numbers` of a pass; the
    constant is the same for every sample, as of a bias outside the product.

    Nearly always one product of scale 1; a distilled DeiT has two of scale 1/2.

    Args:
        names: the modules or parameters whose weights these are.
        numbers: which of the products with `classes` outputs.
        scales: each product's factor.
        classes: outputs.
        calls: how many products with as many outputs a pass makes.
        tolerance: how far a product may miss, over the spread of the logits.
        error: what the proof missed, over the spread of the logits.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    scales: tuple[float, ...]
    classes: int
    calls: int
    tolerance: float
    error: float

    def listening(self) -> Listening:
        """A `with` that hears this head's products."""
        return Listening(self.classes, self.numbers)

    def features(self, heard: Listening) -> Float[Tensor, "n d"]:
        """The features of the pass that was heard.

        Raises:
            InputError: when the pass took another path than the probe.
        """
        if heard.calls != self.calls:
            raise InputError(
                f"The model took another path than when its head was found ({heard.calls} products with {self.classes} outputs, not {self.calls}), "
                "so its features are not known. Wrap it as it is to be used."
            )
        return torch.cat([heard.heard[number].features() for number in self.numbers], 1)

    def head(self, heard: Listening, logits: Float[Tensor, "n c"]) -> Head:
        """The weight and bias that were used in the pass that was heard."""
        features = self.features(heard)  # checks the path
        products = [heard.heard[number] for number in self.numbers]
        scaled = [_scaled(product.weight, scale) for product, scale in zip(products, self.scales, strict=True)]
        weight = torch.cat(scaled, 1).detach().clone()
        bias = weight.new_zeros(self.classes)
        for product, scale in zip(products, self.scales, strict=True):
            if product.bias is not None:
                bias = bias + _scaled(product.bias.detach(), scale)
        rest = double(logits) - double(features) @ double(weight).T - double(bias)
        rounding = 4 * torch.finfo(logits.dtype).eps * float((double(features).abs() @ double(weight).abs().T + double(logits).abs()).max())
        slack = self.tolerance * float(_spread(logits)) + rounding
        if float((rest - rest.mean(0)).abs().max()) > slack:
            raise InputError("The model was changed after its head was found: its features no longer make its logits. Wrap it again.")
        if float(rest.mean(0).abs().max()) > slack:  # a bias outside the products
            bias = bias + rest.mean(0).to(bias)
        return Head(weight, bias)


def _scaled(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1 else x * scale


def find_head(run: Callable[[], Tensor], module: nn.Module, *, layer: nn.Module | None = None, dtype: torch.dtype = torch.float32) -> Found | None:
    """The head of a model, or `None` where its logits are no linear map of anything.

    Every candidate product gets random weights at once; least squares says with which factors they make the logits, and a second pass
    with other random weights in the chosen ones is the proof.

    Args:
        run: the model's logits of a few different probes, in evaluation mode.
        module: the model, for the names of what is found.
        layer: where to look, if it is known: products outside it do not count.
        dtype: of the weights, which bounds how exact the proof can be.
    """
    classes = run().shape[1]
    own, logits = _listen(run, Listening(classes), layer)
    last = [number for number in sorted(own.heard) if len(own.heard[number].features()) == len(logits)][-CANDIDATES:]
    if not last:
        return None
    heard, logits = _listen(run, Listening(classes, last, _random(own, last, seed=0)), layer)
    if heard.calls != own.calls or heard.heard.keys() != set(last):
        return None
    made = torch.stack([_made(heard.heard[number]) for number in last])
    scales = _least_squares(made, logits)
    share = scales.abs() * _spread(made) / _spread(logits).clamp_min(1e-30)
    chosen = [i for i in range(len(last)) if share[i] > max(1e-4, 2 * torch.finfo(dtype).eps)]
    numbers = tuple(last[i] for i in chosen)
    if not numbers:
        return None
    nice = tuple(_nice(float(scales[i]), tolerance(dtype)) for i in chosen)
    errors = [_missed(run, layer, classes, nice, _random(own, numbers, seed=1 + i, spread=spread)) for i, spread in enumerate(SPREADS)]
    if not max(errors) <= tolerance(dtype):
        return None
    names = tuple(_name(module, own.heard[number].weight) for number in numbers)
    return Found(names, numbers, nice, classes, own.calls, tolerance(dtype), max(errors))


def _missed(
    run: Callable[[], Tensor], layer: nn.Module | None, classes: int, scales: Sequence[float], instead: dict[int, tuple[Tensor, Tensor | None]]
) -> float:
    """How far products with other weights miss the logits, beyond rounding and whatever else is the same for all samples, over the logits' spread."""
    heard, logits = _listen(run, Listening(classes, list(instead), instead), layer)
    if heard.heard.keys() != instead.keys():
        return float("inf")
    made = sum(scale * _made(heard.heard[number]) for scale, number in zip(scales, instead, strict=True))
    rest = double(logits) - made
    # features that hardly differ make logits that are large beside their spread, and round accordingly
    sizes = [abs(scale) * (double(p.features()).abs() @ double(p.weight).abs().T) for scale, p in zip(scales, heard.heard.values(), strict=True)]
    rounding = 4 * torch.finfo(logits.dtype).eps * float((torch.stack(sizes).sum(0) + double(logits).abs()).max())
    missed = float((rest - rest.mean(0)).abs().max()) - rounding
    return max(missed, 0.0) / max(float(_spread(logits)), 1e-30)


def _listen(run: Callable[[], Tensor], mode: Listening, layer: nn.Module | None) -> tuple[Listening, Tensor]:
    """Runs the model with the mode on; inside one layer alone, where it is given."""
    with contextlib.ExitStack() as stack:
        if layer is not None:
            mode.open = False
            before = layer.register_forward_pre_hook(lambda *_: setattr(mode, "open", True))
            after = layer.register_forward_hook(lambda *_: setattr(mode, "open", False))
            stack.callback(after.remove)
            stack.callback(before.remove)
        stack.enter_context(mode)
        return mode, run()


def _random(own: Listening, numbers: Collection[int], seed: int, spread: float = 1.0) -> dict[int, tuple[Tensor, Tensor | None]]:
    """A random weight, and bias where there is one, for each product, so scaled that outputs and biases have some spread."""
    random = torch.Generator().manual_seed(seed)
    drawn = {}
    for number in numbers:
        product = own.heard[number]
        weight, bias = torch.randn(product.weight.shape, generator=random), torch.randn(len(product.weight), generator=random)
        own_spread = float(_spread(product.features().float().cpu() @ weight.T))
        weight, bias = weight * (spread / own_spread if own_spread > 0 else spread), bias * spread
        drawn[number] = (weight, None if product.bias is None else bias)
    return drawn


def _made(product: Product) -> Float[Tensor, "n c"]:
    """What a product gives, in float64."""
    made = double(product.features()) @ double(product.weight).T
    return made if product.bias is None else made + double(product.bias)


def _least_squares(made: Float[Tensor, "k n c"], logits: Float[Tensor, "n c"]) -> Float[Tensor, " k"]:
    """The factors with which the products add up to the logits, whatever else is the same for all samples."""
    regressors = (made - made.mean(1, keepdim=True)).flatten(1).T.cpu()
    target = (double(logits) - double(logits).mean(0)).flatten().cpu()
    if not (torch.isfinite(regressors).all() and torch.isfinite(target).all()):
        return torch.zeros(len(made), dtype=torch.float64, device=made.device)
    solution: Tensor = torch.linalg.lstsq(regressors, target[:, None], driver="gelsd").solution[:, 0]
    return solution.to(made.device)


def _spread(x: Tensor) -> Tensor:
    """The standard deviation over samples and classes, per leading index; a class's mean over the samples is no spread."""
    x = double(x)
    return (x - x.mean(-2, keepdim=True)).flatten(-2).square().mean(-1).sqrt()


def _nice(scale: float, slack: float) -> float:
    """The nearest twelfth (1, 1/2, 1/3, 1/4 ...) where the factor is one but for rounding."""
    twelfths = round(12 * scale)
    return twelfths / 12 if twelfths and abs(12 * scale - twelfths) <= slack * abs(twelfths) else scale


def _name(module: nn.Module, weight: Tensor) -> str:
    """The parameter that a weight is a view of, without its `.weight`."""
    storage = weight.untyped_storage().data_ptr()
    named = (*module.named_parameters(), *module.named_buffers())
    found = next((name for name, value in named if value.untyped_storage().data_ptr() == storage), "computed")
    return found.removesuffix(".weight")

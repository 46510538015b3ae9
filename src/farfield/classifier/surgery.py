"""Another head on a classifier: written into its own last layer, proven, and undone where it does not prove."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor, nn

from farfield.classifier.classifier import Classifier, _coarser
from farfield.classifier.heads import find_head
from farfield.errors import InputError
from farfield.outputs import Head

COUNTS = ("num_classes", "num_labels")  # what timm, torchvision and transformers call the number of logits


def put_head(classifier: Classifier, head: Head) -> None:
    """Writes a head into the classifier's own last layer, in place, so that its logits are `head(features)` from then on.

    A layer without a bias gets one; for another number of logits the layer is replaced by a plain one of that size, and what models say of their number
    of classes (`num_classes`, `num_labels`) is kept in step. The names of the classes go where their number changes. After it
    `classifier.head` is this head, in the layer's own number format, and `classifier.groups` its groups.

    Args:
        classifier: one whose head is the product of a single `nn.Linear` or 1 x 1 `nn.Conv2d`.
        head: the new one, of as many features.

    Raises:
        InputError: where the classifier has another kind of head, the head has another number of features or NaN, or the model does not follow; the
            model is then as it was.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> classifier = Classifier.wrap(net, transform=torch.as_tensor, input_size=(1, 2, 2))
    >>> put_head(classifier, Head(torch.eye(5)[:2], torch.ones(2)))
    >>> net[3], classifier.classes
    (Linear(in_features=5, out_features=2, bias=True), 2)
    """
    layer = _layer(classifier)
    width = layer.weight.shape[1]
    if head.weight.shape[1] != width:
        raise InputError(f"The head of {classifier.name} takes {width} features, and the new one {head.weight.shape[1]}; it is of another model.")
    weight, bias = head.weight.detach().to(layer.weight), head.bias.detach().to(layer.weight)
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise InputError(f"The new head of {classifier.name} has NaN or infinity among its weights, as {weight.dtype}.")
    with _undone(classifier):
        _write(classifier, layer, weight, bias)
        classifier.groups = head.groups
        _prove(classifier, weight, bias)


def new_head(classifier: Classifier, classes: int, groups: Integer[Tensor, " c"] | None = None) -> None:
    """Puts a head of zeros in place of the classifier's own, to be trained for other classes; see `put_head`.

    Args:
        classifier: as in `put_head`.
        classes: how many there are to be.
        groups: for a softmax in each of several groups (MOS): which class each logit stands for; see `Head`.

    Raises:
        InputError: as `put_head`, and where the groups do not hold these classes.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> classifier = Classifier.wrap(net, transform=torch.as_tensor, input_size=(1, 2, 2))
    >>> new_head(classifier, 3, torch.tensor([-1, 2, -1, 0, 1]))
    >>> classifier.classes, classifier.logit_count, classifier.head.weight.any()
    (3, 5, tensor(False))
    """
    if classes < 1:
        raise InputError(f"A head has at least one class; got classes={classes}.")
    width, logits = _layer(classifier).weight.shape[1], classes if groups is None else len(groups)
    head = Head(torch.zeros(logits, width), torch.zeros(logits), groups)
    if head.classes != classes:
        raise InputError(f"The `groups` hold {head.classes} classes, and the head is to have {classes}.")
    put_head(classifier, head)


def _layer(classifier: Classifier) -> nn.Linear | nn.Conv2d:
    """The one layer whose weight and bias make the logits.

    Raises:
        InputError: where there is no such layer.
    """
    name, found = classifier.name, classifier.found
    if found is None:
        raise InputError(f"{name} has no linear head that could be found, so none can be put in its place. Wrap it with `layer`, if it has one.")
    if len(found.names) > 1:
        raise InputError(
            f"The logits of {name} come from {len(found.names)} layers ({', '.join(found.names)}), and one head does not say what each is to be. "
            "Wrap a model with one of them."
        )
    if found.scales[0] != 1:
        raise InputError(f"{name} multiplies the outputs of its last layer, {found.names[0]}, by {found.scales[0]:.4g}. Wrap it without that factor.")
    parts = dict(classifier.module.named_modules())
    layer = classifier.module if found.names[0] == "weight" else parts.get(found.names[0])
    if not isinstance(layer, nn.Linear | nn.Conv2d) or not isinstance(layer._parameters.get("weight"), nn.Parameter):
        raise InputError(
            f"The head of {name} is no layer of its own but {found.names[0]}: its weight is computed, or no nn.Linear or nn.Conv2d holds it. "
            "Put an nn.Linear in its place, and wrap the model again."
        )
    storage = layer.weight.untyped_storage().data_ptr()
    for key, part in parts.items():
        if part is not layer and any(value.untyped_storage().data_ptr() == storage for value in part.parameters(recurse=False)):
            raise InputError(f"The weight of the head of {name} is also that of its part {key!r}, which would change with it. Untie them first.")
    return layer


def _write(classifier: Classifier, layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    """Weight and bias into the layer, or a new layer in its place, and the model's counts of classes with it."""
    old, shaped = len(layer.weight), weight if isinstance(layer, nn.Linear) else weight[..., None, None]
    if len(weight) == old:
        with torch.no_grad():
            layer.weight.copy_(shaped)
            if layer.bias is None:
                layer.bias = nn.Parameter(bias.clone(), requires_grad=layer.weight.requires_grad)
            else:
                layer.bias.copy_(bias)
        return
    options: dict[str, Any] = {"device": "meta", "dtype": weight.dtype}
    width = weight.shape[1]
    new = nn.Linear(width, len(weight), **options) if isinstance(layer, nn.Linear) else nn.Conv2d(width, len(weight), 1, **options)
    new.weight = nn.Parameter(shaped.clone(), requires_grad=layer.weight.requires_grad)
    new.bias = nn.Parameter(bias.clone(), requires_grad=layer.weight.requires_grad)
    new.train(layer.training)
    for name, part in list(classifier.module.named_modules(remove_duplicate=False)):
        if part is layer and name:
            parent, _, child = name.rpartition(".")
            setattr(classifier.module.get_submodule(parent), child, new)
    if classifier.module is layer:
        classifier.module = new
    for holder, name in _counts(classifier.module, old):
        setattr(holder, name, len(weight))
    classifier.labels = None
    classifier.found = None  # of another number of outputs; found anew


def _counts(module: nn.Module, classes: int) -> list[tuple[Any, str]]:
    """What of a model, and of its settings, says that it has so many classes."""
    holders = [holder for part in module.modules() for holder in (getattr(part, "config", None), part) if holder is not None]
    unique = {id(holder): holder for holder in holders}.values()
    return [(holder, name) for holder in unique for name in COUNTS if type(value := getattr(holder, name, None)) is int and value == classes]


def _prove(classifier: Classifier, weight: Tensor, bias: Tensor) -> None:
    """Raises unless the classifier's head is this one: found by other weights where it is new, and making its logits as it is."""
    if classifier.found is None:
        probe = classifier.probe()
        logits = classifier._logits(probe)
        found = find_head(lambda: classifier._logits(probe), classifier.module, dtype=_coarser(classifier.dtype, logits.dtype))
        classifier.found = found
    now = classifier.head
    if now is None or not (torch.equal(now.weight, weight) and torch.equal(now.bias, bias)):
        raise InputError(
            f"{classifier.name} does not follow the head that was put into it: something after its last layer, or a bias beside it, changes the logits. "
            "It is as it was before; wrap a model that ends in its last layer."
        )


@contextmanager
def _undone(classifier: Classifier) -> Iterator[None]:
    """Inside: a change to the classifier's last layer, which is undone where it raises."""
    layer, module = _layer(classifier), classifier.module
    places = [name for name, part in module.named_modules(remove_duplicate=False) if part is layer and name]
    weight, bias = layer.weight.detach().clone(), layer.bias
    numbers = None if bias is None else bias.detach().clone()
    fields = {name: getattr(classifier, name) for name in ("module", "found", "labels", "groups")}
    counts = _counts(module, len(layer.weight))
    names = {id(holder): (holder, dict(vars(holder))) for holder, _ in counts if not isinstance(holder, nn.Module)}
    try:
        yield
    except BaseException:
        for name in places:
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias = bias
            if bias is not None and numbers is not None:
                bias.copy_(numbers)
        for holder, name in counts:
            if isinstance(holder, nn.Module):
                setattr(holder, name, len(weight))
        for holder, settings in names.values():
            vars(holder).clear()
            vars(holder).update(settings)
        for name, value in fields.items():
            setattr(classifier, name, value)
        raise

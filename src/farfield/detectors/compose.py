"""Putting fitters together, from Python and from text: `chain(React.fit, Energy.fit)` and `react:q=90+energy`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints

from farfield.detectors.base import Chain, Detector, Fitter, Shaped, Shaper
from farfield.errors import InputError, OptionError, nearest
from farfield.outputs import Data


def options_of(fitter: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of a fitter: its signature's keyword-only parameters.

    >>> from farfield.detectors import KNN
    >>> {name: option.default for name, option in options_of(KNN.fit).items()}
    {'k': 50, 'bank': None, 'seed': 0, 'bits': 32}
    """
    return {p.name: p for p in inspect.signature(fitter).parameters.values() if p.kind is p.KEYWORD_ONLY}


def name_of(fitter: Callable[..., Any]) -> str:
    """What to call a fitter in a message: the class whose `fit` it is."""
    inner = fitter.func if isinstance(fitter, partial) else fitter
    owner = getattr(inner, "__self__", None)
    return owner.__name__ if isinstance(owner, type) else getattr(inner, "__name__", repr(inner))


def passes_of(fitter: Callable[..., Any]) -> int:
    """How often a fitter goes over the training data; once, where it does not say.

    >>> from farfield.detectors import KNN, Energy, React
    >>> passes_of(Energy.fit), passes_of(partial(KNN.fit, k=3)), passes_of(chain(React.fit, Energy.fit))
    (0, 1, 2)
    """
    if parts := getattr(fitter, "parts", None):
        return sum(passes_of(part) for part in parts)
    return int(getattr(_class_of(fitter), "passes", 1))


def papers_of(fitter: Callable[..., Any]) -> list[str]:
    """Where the methods of a fitter come from, as `citations` knows them.

    >>> from farfield.detectors import Energy, React
    >>> papers_of(chain(React.fit, Energy.fit))
    ['Sun, Guo and Li, NeurIPS 2021', 'Liu et al., NeurIPS 2020']
    """
    if parts := getattr(fitter, "parts", None):
        return [paper for part in parts for paper in papers_of(part)]
    return [getattr(_class_of(fitter), "paper", "")]


def _class_of(fitter: Callable[..., Any]) -> Any:
    """The class whose `fit` a fitter is."""
    return getattr(fitter.func if isinstance(fitter, partial) else fitter, "__self__", None)


def chain(shaper: Callable[..., Shaper], scorer: Fitter) -> Fitter:
    """A fitter that fits the shaper, then the scorer on what the shaper lets through.

    Options go to whichever of the two has them: `chain(React.fit, Energy.fit)(train, q=90)`. The scorer may be a chain.

    Raises:
        InputError: when both have an option of one name (give it by `functools.partial`), or neither has one that is given.

    >>> from farfield.detectors import Energy, React
    >>> list(options_of(chain(React.fit, Energy.fit)))
    ['q', 'temperature']
    """
    first, second = _free(shaper), _free(scorer)
    for name in second:
        if name in first:
            raise InputError(f"{name_of(shaper)} and {name_of(scorer)} both have an option {name!r}; fix one with functools.partial.")

    def fit(train: Data, **options: Any) -> Detector:
        check_options(options, {**first, **second}, f"{name_of(shaper)}+{name_of(scorer)}")
        shape = shaper(train, **{name: value for name, value in options.items() if name in first})
        return Chain(shaper=shape, scorer=scorer(Shaped(train, shape), **{name: value for name, value in options.items() if name in second}))

    train = inspect.Parameter("train", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    fit.__signature__ = inspect.Signature([train, *first.values(), *second.values()])  # type: ignore[attr-defined]
    fit.parts = (shaper, scorer)  # type: ignore[attr-defined]
    return fit


def _free(fitter: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of a fitter that are not bound."""
    bound = fitter.keywords if isinstance(fitter, partial) else {}
    return {name: option for name, option in options_of(fitter).items() if name not in bound}


def check_ranges(fitter: Callable[..., Any]) -> None:
    """Raises `OptionError` where a bound option is out of its range, before there are data: every `fit` looks at its options first."""
    for part in getattr(fitter, "parts", (fitter,)):
        if part is not fitter:
            check_ranges(part)
            continue
        try:
            part([])
        except OptionError:
            raise
        except Exception:
            continue


def check_options(options: Mapping[str, Any], allowed: Mapping[str, Any], method: str) -> None:
    """Raises `InputError` for an option that does not exist, naming the nearest that does."""
    for name in options:
        if name not in allowed:
            raise InputError(f"{method} has no option {name!r}{nearest(name, allowed)} It has: {', '.join(allowed) or 'none'}.")


def parse(text: str, catalogue: Mapping[str, type[Detector]], shapers: Mapping[str, type[Shaper]]) -> Fitter:
    """The fitter a text names: `knn:k=10`, or shapers and a scorer joined by `+`, as `react:q=90+energy`.

    Raises:
        InputError: for an unknown name, option or value, with the nearest that exists.
    """
    *before, last = re.split(r"(?<!\+)\+(?!\+)", text)  # names may end in ++
    fitter = _one(last, catalogue, "detector", shapers)
    for part in reversed(before):
        fitter = chain(_one(part, shapers, "shaper", catalogue), fitter)
    return fitter


def _one(text: str, known: Mapping[str, type[Any]], kind: str, other: Mapping[str, type[Any]]) -> Callable[..., Any]:
    """The fitter of one part of a text, its options bound."""
    name, _, rest = text.strip().partition(":")
    if name not in known:
        if name in other:
            rule = "comes last, after any shapers" if kind == "shaper" else "changes features for a detector, as in `react+energy`"
            raise InputError(f"{name!r} in {text!r} {rule}.")
        raise InputError(f"There is no {kind} {name!r}{nearest(name, known)} There are: {', '.join(known)}.")
    fit = known[name].fit
    pairs = [pair.partition("=") for pair in rest.split(",")] if rest else []
    given = {option.strip(): value.strip() for option, _, value in pairs}
    if len(given) < len(pairs):
        raise InputError(f"An option is given twice in {text!r}.")
    check_options(given, options_of(fit), name)
    hints = get_type_hints(fit)
    values = {option: _value(name, option, value, hints[option]) for option, value in given.items()}
    return partial(fit, **values) if values else fit


def _value(method: str, option: str, text: str, kind: Any) -> Any:
    """A text as the type an option is annotated with."""
    kinds = getattr(kind, "__args__", (kind,))
    if str in kinds:
        return text
    try:
        value = ast.literal_eval(text.title() if text.lower() in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        value = text
    if type(value) is int and float in kinds and int not in kinds:
        return float(value)
    if type(value) in kinds:
        return value
    wanted = " or ".join("none" if k is type(None) else k.__name__ for k in kinds)
    raise InputError(f"{method}'s option {option} takes {wanted}; got {text!r}.")

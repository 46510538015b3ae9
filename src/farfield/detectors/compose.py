"""Putting fitters together, from Python and from text: `chain(React.fit, Energy.fit)` and `react:q=90+energy`."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints

from farfield import plugins
from farfield.detectors.base import Chain, Detector, Fitter, Setting, Shaped, Shaper
from farfield.errors import InputError, OptionError, nearest
from farfield.outputs import Data
from farfield.taps import Tap


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
    return int(getattr(class_of(fitter), "passes", 1))


def calibrated(fitter: Callable[..., Any]) -> bool:
    """Whether a fitter takes ID data that the classifier was not trained on as a second argument.

    >>> from farfield.detectors import MSP, React, TemperatureScaling
    >>> calibrated(MSP.fit), calibrated(chain(React.fit, TemperatureScaling.fit))
    (False, True)
    """
    return bool(getattr(class_of(singles(fitter)[-1]), "calibrated", False))


def fitted(fitter: Fitter, train: Data, calibration: Data | None) -> Detector:
    """The detector of a fitter, which gets the calibration data if it takes any."""
    return fitter(train, calibration) if calibrated(fitter) else fitter(train)


def fit_taps_of(fitter: Callable[..., Any]) -> tuple[Tap, ...]:
    """The taps whose columns a fitter reads, with the options that are bound in it.

    >>> from farfield.detectors import FeatureNorm
    >>> [tap.name for tap in fit_taps_of(FeatureNorm.fit)], [tap.name for tap in fit_taps_of(partial(FeatureNorm.fit, block=3))]
    (['norms', 'shuffled-norms'], ['norms'])
    """
    made = [(getattr(class_of(single), "fit_taps", None), single) for single in singles(fitter)]
    return tuple(tap for make, single in made if make for tap in make(**(single.keywords if isinstance(single, partial) else {})))


def looks_inside(fitter: Callable[..., Any]) -> bool:
    """Whether a fitter's detector needs more than logits and features: columns that only a pass of the classifier makes.

    >>> from farfield.detectors import KNN, ODIN, FeatureNorm
    >>> looks_inside(KNN.fit), looks_inside(FeatureNorm.fit), looks_inside(partial(ODIN.fit, eps=0.0))
    (False, True, True)
    """
    own = {"logits", "features"}
    return any(not set(getattr(class_of(part), "needs", ())) <= own for part in singles(fitter))


def most_of(fitter: Callable[..., Any]) -> int | None:
    """How many training samples a fitter has use for; `None` for all."""
    known: int | None = getattr(class_of(fitter), "most", None)
    return known


def papers_of(fitter: Callable[..., Any]) -> list[str]:
    """Where the methods of a fitter come from, as `citations` knows them.

    >>> from farfield.detectors import Energy, React
    >>> papers_of(chain(React.fit, Energy.fit))
    ['Sun, Guo and Li, NeurIPS 2021', 'Liu et al., NeurIPS 2020']
    """
    if parts := getattr(fitter, "parts", None):
        return [paper for part in parts for paper in papers_of(part)]
    return [getattr(class_of(fitter), "paper", "")]


def singles(fitter: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The fitters of a chain, the scorer last; of what is no chain, itself alone."""
    parts = getattr(fitter, "parts", None)
    return [fitter] if parts is None else [single for part in parts for single in singles(part)]


def search_of(fitter: Callable[..., Any]) -> dict[str, tuple[Setting, ...]]:
    """The values worth trying of each option that is not bound, as the classes say in `search`.

    >>> from farfield.detectors import Energy, React
    >>> list(search_of(chain(React.fit, Energy.fit))), search_of(chain(partial(React.fit, q=80.0), Energy.fit)).get("q")
    (['q', 'temperature'], None)
    """
    found: dict[str, tuple[Setting, ...]] = {}
    for single in singles(fitter):
        free, search = _free(single), getattr(class_of(single), "search", {})
        found |= {name: tuple(values) for name, values in search.items() if name in free}
    return found


def defaults_of(fitter: Callable[..., Any]) -> dict[str, Any]:
    """The default of each option that is not bound."""
    return {name: option.default for single in singles(fitter) for name, option in _free(single).items()}


def bind(fitter: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """The fitter with options bound, in a chain those of each part to it, so that `parts` and `check_ranges` know of them.

    Raises:
        InputError: for an option that does not exist, or is bound already.

    >>> from farfield.detectors import Energy, React
    >>> bind(chain(React.fit, Energy.fit), {"q": 80.0}).parts[0].keywords
    {'q': 80.0}
    """
    if isinstance(fitter, partial) and hasattr(fitter.func, "parts"):
        fitter = bind(fitter.func, fitter.keywords)
    check_options(options, defaults_of(fitter), title(fitter))
    if parts := getattr(fitter, "parts", None):
        return chain(*(bind(part, {name: value for name, value in options.items() if name in _free(part)}) for part in parts))
    return partial(fitter, **options) if options else fitter


def title(fitter: Callable[..., Any], names: Mapping[Any, str] | None = None) -> str:
    """A fitter as `parse` reads it, where `names` has what its classes are called.

    >>> from farfield.detectors import KNN
    >>> title(partial(KNN.fit, k=10, bank=None), {KNN: "knn"})
    'knn:k=10,bank=none'
    """
    said = []
    for single in singles(fitter):
        bound = single.keywords if isinstance(single, partial) else {}
        options = ",".join(f"{name}={_text(value)}" for name, value in bound.items())
        said.append((names or {}).get(class_of(single), name_of(single)) + (f":{options}" if options else ""))
    return "+".join(said)


def _text(value: Any) -> str:
    """A value of an option, as `parse` reads it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def value_of(fitter: Callable[..., Any], option: str, text: str) -> Any:
    """A text as a value of an option of a fitter.

    Raises:
        InputError: for an option that does not exist or is bound, or a text that is no value of it.
    """
    singled = {name: single for single in singles(fitter) for name in _free(single)}
    check_options({option: text}, singled, title(fitter))
    single = singled[option]
    return _value(name_of(single), option, text, get_type_hints(single.func if isinstance(single, partial) else single)[option])


def class_of(fitter: Callable[..., Any]) -> Any:
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

    def fit(train: Data, calibration: Data | None = None, **options: Any) -> Detector:
        check_options(options, {**first, **second}, f"{name_of(shaper)}+{name_of(scorer)}")
        shape = shaper(train, **{name: value for name, value in options.items() if name in first})
        rest = {name: value for name, value in options.items() if name in second}
        held = None if calibration is None else Shaped(calibration, shape)
        return Chain(shaper=shape, scorer=fitted(partial(scorer, **rest), Shaped(train, shape), held))

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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
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
    *before, last = re.split(r"(?<!\+)\+(?!\+)(?![^(]*\))", text)  # names may end in ++; what is in brackets is one value
    fitter = _one(last, catalogue, "detector", shapers)
    for part in reversed(before):
        fitter = chain(_one(part, shapers, "shaper", catalogue), fitter)
    return fitter


def _one(text: str, known: Mapping[str, type[Any]], kind: str, other: Mapping[str, type[Any]]) -> Callable[..., Any]:
    """The fitter of one part of a text, its options bound."""
    name, _, rest = text.strip().partition(":")
    inside, _, after = rest.partition(":")
    if name not in known and name not in other and inside and "=" not in inside:  # module:Class, somebody's own
        known, name, rest = {text: own_class(f"{name}:{inside}", kind)}, text, after
    if name not in known:
        if name in other:
            rule = "comes last, after any shapers" if kind == "shaper" else "changes features for a detector, as in `react+energy`"
            raise InputError(f"{name!r} in {text!r} {rule}.")
        raise InputError(f"There is no {kind} {name!r}{nearest(name, known)} There are: {', '.join(known)}.")
    fit = known[name].fit
    pairs = [pair.partition("=") for pair in re.split(r",(?![^(]*\))", rest)] if rest else []
    given = {option.strip(): value.strip() for option, _, value in pairs}
    if len(given) < len(pairs):
        raise InputError(f"An option is given twice in {text!r}.")
    check_options(given, options_of(fit), name)
    hints = get_type_hints(fit)
    values = {option: _value(name, option, value, hints[option]) for option, value in given.items()}
    return partial(fit, **values) if values else fit


def own_class(text: str, kind: str) -> Any:
    """The detector or shaper `module:Class`, which somebody else wrote.

    Raises:
        InputError: when there is none, or it is something else.
    """
    found = plugins.find(text, f"a {kind}")
    base: type = Shaper if kind == "shaper" else Detector
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(
            f"{text} is no {kind}: it must be a subclass of farfield.detectors.{base.__name__}. Run farfield.testing.check_detector on it."
        )
    return found


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

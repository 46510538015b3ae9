"""`python:module:function`: a user's own function, called for a classifier or a data set."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from farfield.errors import InputError, nearest


def find(text: str, what: str, form: str = "module:name") -> Any:
    """What `module:name` is, a function or a class; the module is looked for in the working folder too.

    Raises:
        InputError: when there is none.

    >>> find("collections:OrderedDict", "a test")
    <class 'collections.OrderedDict'>
    """
    module_name, colon, function_name = text.partition(":")
    called = form.removesuffix("module:name").removesuffix("module:function") + text  # as a person wrote it
    if not (colon and module_name and function_name):
        raise InputError(f"{called} does not name {what}; write {form}.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(f"The module {module_name!r} of {called} cannot be imported ({type(error).__name__}: {error}).") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))]
        raise InputError(f"{module_name} has no function {function_name!r}{nearest(function_name, names)}")
    return function


def call(text: str, what: str) -> Any:
    """What `module:function` returns.

    Raises:
        InputError: when there is none, or it fails.

    >>> call("collections:OrderedDict", "a test")
    OrderedDict()
    """
    function = find(text, f"a function for {what}", "python:module:function")
    module_name, _, function_name = text.partition(":")
    try:
        return function()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{function_name} of {module_name} fails: {type(error).__name__}: {error}.") from error

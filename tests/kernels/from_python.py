"""Calls, from tests, of functions that otherwise only compiled code calls."""

import importlib.util
import inspect
import os
import sys
from functools import cache
from pathlib import Path

# A module of its own for each function: Numba keeps no code of a function made within another.
CALLER = """import numba
from {module} import {name} as function


@numba.njit(nogil=True, cache=True)
def call(*arguments):
    return function(*arguments)
"""


@cache
def from_python(function):
    """A ``kernels.cpu.compiling.helper``, or an overloaded function, that Python can call."""
    plain = inspect.unwrap(function)
    module, name = plain.__module__, plain.__qualname__
    source = CALLER.format(module=module, name=name)
    path = Path(os.environ["NUMBA_CACHE_DIR"]) / "from-python" / f"{module}.{name}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(source, "utf-8")
        fresh.replace(path)
    spec = importlib.util.spec_from_file_location(f"{path.stem}_from_python", path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # kept code looks for its module
    spec.loader.exec_module(made)
    return made.call

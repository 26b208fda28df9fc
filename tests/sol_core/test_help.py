"""Answers of ``help()``: every public name says what it takes and what it raises."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sol_core
import sol_core.api
import sol_core.errors

MODULES = (sol_core, sol_core.api)
ERRORS = {
    name
    for name, part in vars(sol_core.errors).items()
    if inspect.isclass(part) and issubclass(part, sol_core.SolError)
}


def _public() -> dict[str, Any]:
    """Functions, classes, and the classes' own methods, by what people call them."""
    found: dict[str, Any] = {}
    for module in MODULES:
        for name in module.__all__:
            part = vars(module).get(name) or getattr(module, name)
            if inspect.isclass(part):
                found[name] = part
                found |= {f"{name}.{one}": method for one, method in _methods(part)}
            elif inspect.isfunction(part):
                found[name] = part
    return found


def _methods(part: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in vars(part).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property) and value.fget is not None:
            yield name, value.fget
        elif isinstance(value, staticmethod | classmethod):
            yield name, value.__func__
        elif inspect.isfunction(value):
            yield name, value


PUBLIC = _public()


def _raised(function: Callable[..., Any]) -> set[str]:
    """Errors of the project that stand behind ``raise`` in its own body."""
    body = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    raised = (node.exc for node in body if isinstance(node, ast.Raise))
    called = (one.func for one in raised if isinstance(one, ast.Call))
    return {one.id for one in called if isinstance(one, ast.Name)} & ERRORS


@pytest.mark.parametrize("name", PUBLIC)
def test_help_says_what_is_taken_and_what_is_raised(name: str) -> None:
    part = PUBLIC[name]
    said = inspect.getdoc(part) or ""
    assert said, "nothing"
    assert "(" not in said.splitlines()[0][:1], "a dataclass's own signature"
    if inspect.isclass(part):
        return
    taken = [one for one in inspect.signature(part).parameters if one not in ("self", "cls")]
    assert not taken or "Args:" in said
    unsaid = [one for one in taken if not re.search(rf"\b{one}\b", said)]
    assert unsaid == []
    assert not _raised(part) or "Raises:" in said

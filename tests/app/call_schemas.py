"""What every handler of every tab takes, read from its code, so that new ones are known too."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import NamedTuple

from app.site.ui import PAGES


class Call(NamedTuple):
    """One handler, and the names and types of its request's fields ("any": not checked there)."""

    tab: str
    name: str
    fields: dict[str, str]


def all_calls():
    """Every handler once, with the first tab that has it."""
    found = {}
    for page in PAGES:
        for name, handler in page.handlers.items():
            found.setdefault(handler, Call(page.name, name, dict(sorted(_fields(handler)))))
    return list(found.values())


def _fields(handler):
    """(name, type) of the fields that a function reads, itself or by handing its request on."""
    left, seen = [handler], set()
    while left:
        function = left.pop()
        plain = getattr(function, "__func__", function)
        if plain in seen:
            continue
        seen.add(plain)
        tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from _read_by(node, tree)
                left += _handed_on(node, function)


def _read_by(call, tree):
    match call:
        case ast.Call(ast.Name("field"), [_, ast.Constant(str(name)), ast.Name(kind), *_]):
            yield name, kind
        case ast.Call(ast.Name("field"), [_, ast.Name(), ast.Name(kind), *_]):  # in a loop
            yield from ((name, kind) for name in _listed(tree))
        case ast.Call(ast.Name("choice"), [_, ast.Constant(str(name)), *_]):
            yield name, "str"
        case ast.Call(ast.Attribute(ast.Name("request"), "get"), [ast.Constant(str(name)), *_]):
            yield name, "any"


def _listed(tree):
    """Texts of the tuples that a function's loops go through."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.comprehension, ast.For)) and isinstance(node.iter, ast.Tuple):
            yield from (one.value for one in node.iter.elts if isinstance(one, ast.Constant))


def _handed_on(call, function):
    """The function that is given the request, if it is one of ours."""
    if not any(isinstance(one, ast.Name) and one.id == "request" for one in call.args):
        return []
    target = None
    plain = getattr(function, "__func__", function)
    match call.func:
        case ast.Name(name):
            target = plain.__globals__.get(name)
        case ast.Attribute(ast.Name("self"), name):
            target = getattr(getattr(function, "__self__", None), name, None)
    ours = inspect.isroutine(target) and target.__module__.startswith("app.")
    return [target] if ours and target.__name__ not in ("field", "choice") else []

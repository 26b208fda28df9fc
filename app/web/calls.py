"""Pages, and calls from their scripts into Python: one JSON object in, one JSON object out.

A tab is one component of Gradio's, which draws itself and asks Python by functions. Everything that
arrives is checked; what this project raises on purpose goes back as ``{"refused": message}``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from app.formats import capital
from app.host.errors import AppError
from app.host.visitor import take_ticket
from app.web.assets import module_url, plotly_path
from app.web.services import Services
from sol_core.errors import SolError
from sol_core.fields import MAX_WHOLE, Rules, from_json
from sol_core.files.paths import whole_characters
from storage import StorageError

if TYPE_CHECKING:
    import gradio as gr

Request = dict[str, Any]
Handler = Callable[[Services, Request], dict[str, Any]]
ChoiceT = TypeVar("ChoiceT", bound=str)
ValueT = TypeVar("ValueT")
FormT = TypeVar("FormT")
MAX_NUMBER = 2**53 - 1  # the largest whole number that a browser tells from the next
_FORM = Rules(name="the form")
_OWNER = re.compile(r"[0-9a-f]{32}")
_STALE = "This page is of an older release, or the server does not answer. Reload it."
MAX_DEPTH = 32  # of objects and lists in each other; a page's have four


class RequestError(AppError, ValueError):
    """A call that no page of ours makes."""


@dataclass(frozen=True, slots=True)
class Page:
    """A tab, which the module ``js/<name>/<name>.js`` draws from ``constants`` and ``handlers``."""

    name: str
    label: str
    handlers: Mapping[str, Handler]
    constants: Callable[[Services], dict[str, Any]] = lambda services: {}

    def build(self, services: Services) -> gr.HTML:
        import gradio as gr

        gr.set_static_paths([plotly_path()])
        module = f"{self.name}/{self.name}.js"
        return gr.HTML(
            value="",
            html_template=f'<div class="sol-page sol-{self.name}"></div>',
            js_on_load=mount_script(module, "server", self.constants(services)),
            server_functions=server_functions(services, self.handlers),
            apply_default_css=False,
            elem_id=f"{self.name}-page",
        )


def mount_script(module: str, tool: str, constants: dict[str, Any]) -> str:
    """Return the body for ``js_on_load``: import a module and mount it with Gradio's tool."""
    page = json.dumps(constants, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return (
        "const root = element.firstElementChild;\n"
        f'import(new URL("{module_url(module)}", document.baseURI))\n'
        f"  .then((module) => module.mount(root, {tool}, {page}),\n"
        f"    () => root.append({json.dumps(_STALE)}));"
    )


def by_name(*handlers: Handler) -> dict[str, Handler]:
    return {handler.__name__: handler for handler in handlers}


def server_functions(
    services: Services, handlers: Mapping[str, Handler]
) -> list[Callable[[Any], dict[str, Any]]]:
    """Functions for ``gr.HTML(server_functions=…)``, one per handler, under the handler's name."""
    return [_server_function(services, name, handler) for name, handler in handlers.items()]


def field(request: Request, name: str, kind: type[ValueT]) -> ValueT:
    """A named value of the request. Raises: RequestError when it is missing or of another type."""
    value = request.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestError(
            f"{name} must be {kind.__name__}, got {type(value).__name__}. Reload the page."
        )
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise RequestError(f"{name} must be at most {MAX_NUMBER:,} in size. Reload the page.")
    return value


def whole_numbers(request: Request, name: str) -> list[int]:
    """A named list of whole numbers from 0 on. Raises: RequestError for anything else."""
    values = field(request, name, list)
    if not all(type(value) is int and 0 <= value <= MAX_NUMBER for value in values):
        raise RequestError(f"{name} must be whole numbers from 0 on. Reload the page.")
    return values


def choice(request: Request, name: str, choices: Iterable[ChoiceT]) -> ChoiceT | None:
    """A named value that is one of some words, or missing. Raises: RequestError for another."""
    value, known = request.get(name), tuple(choices)
    if value is None or value in known:
        return value
    raise RequestError(f"{name} must be one of {', '.join(known)} or null. Reload the page.")


def read_form(kind: type[FormT], values: dict[str, Any]) -> FormT:
    """Return the form that a page sent; what is missing takes its default. Raises: ConfigError."""
    return from_json(kind, values, rules=_FORM)


def owner_of(request: Request) -> str:
    """The visitor's random id, made and kept by their browser."""
    owner = field(request, "owner", str)
    if not _OWNER.fullmatch(owner):
        raise RequestError("owner must be 32 hexadecimal digits. Reload the page.")
    return owner


def _server_function(
    services: Services, name: str, handler: Handler
) -> Callable[[Any], dict[str, Any]]:
    def call(arguments: Any) -> dict[str, Any]:
        request = arguments[0] if isinstance(arguments, list) and arguments else arguments
        try:
            if not isinstance(request, dict):
                raise RequestError("a call takes one object. Reload the page.")
            take_ticket(request)
            answer = handler(services, _whole(request))
            return dict(_whole(answer, is_answer=True))
        except (SolError, StorageError) as error:
            return {"refused": capital(str(error))}

    call.__name__ = name
    return call


def _whole(value: Any, *, is_answer: bool = False, depth: int = 0) -> Any:
    """The value without halves of characters and, of answers, whole numbers beyond 64 bits.

    Raises: RequestError for a request that is nested too deep.
    """
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, (dict, list, tuple)):
        if depth == MAX_DEPTH and not is_answer:
            raise RequestError(f"a call is nested at most {MAX_DEPTH} deep. Reload the page.")
        inner = functools.partial(_whole, is_answer=is_answer, depth=depth + 1)
        if isinstance(value, dict):
            return {inner(key): inner(item) for key, item in value.items()}
        return list(map(inner, value))
    if is_answer and isinstance(value, int) and abs(value) > MAX_WHOLE:
        return None
    return value

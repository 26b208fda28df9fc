"""The one component that a tab consists of: it draws itself and asks Python by functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.web.assets import module_url, plotly_path
from app.web.calls import Handler, server_functions
from app.web.services import Services

_STALE = "This page is of an older release, or the server does not answer. Reload it."


@dataclass(frozen=True, slots=True)
class Page:
    """A tab, which the module ``js/<name>/<name>.js`` draws from ``constants`` and ``handlers``."""

    name: str
    label: str
    handlers: Mapping[str, Handler]
    constants: Callable[[Services], dict[str, Any]] = lambda services: {}

    def build(self, services: Services) -> gr.HTML:
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

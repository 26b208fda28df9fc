"""The one component that a tab consists of: it draws itself and asks Python by functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.web.assets import plotly_path
from app.web.calls import Handler, server_functions
from app.web.modules import module_url
from app.web.services import Services

_STALE = "This page is of an older release, or the server does not answer. Reload it."
_FOLDERS = {"benchmark": "accuracy"}


def page_component(
    services: Services, name: str, constants: dict[str, Any], handlers: Mapping[str, Handler]
) -> gr.HTML:
    """Return the component of a tab, which the module ``js/<name>/<name>.js`` mounts.

    Args:
        constants: its third argument, ``page``.
        handlers: what it may call, by ``server``.
    """
    gr.set_static_paths([plotly_path()])
    return gr.HTML(
        value="",
        html_template=f'<div class="sol-page sol-{name}"></div>',
        js_on_load=mount_script(f"{name}/{name}.js", "server", constants),
        server_functions=server_functions(services, handlers),
        apply_default_css=False,
        elem_id=f"{name}-page",
    )


def mount_script(module: str, tool: str, constants: dict[str, Any]) -> str:
    """Return the body for ``js_on_load``: import a module and mount it in the element.

    Args:
        tool: what Gradio's script hands on, "server" or "trigger".
        constants: JSON without NaN.
    """
    page = json.dumps(constants, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return (
        "const root = element.firstElementChild;\n"
        f'import(new URL("{module_url(module)}", document.baseURI))\n'
        f"  .then((module) => module.mount(root, {tool}, {page}),\n"
        f"    () => root.append({json.dumps(_STALE)}));"
    )

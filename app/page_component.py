"""The one component that a tab consists of: it draws itself and asks Python by functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.page_assets import page_script, plotly_path
from app.page_calls import Handler, server_functions
from app.services import Services

__all__ = ["page_component"]


def page_component(
    services: Services,
    name: str,
    scripts: tuple[str, ...],
    constants: dict[str, Any],
    handlers: Mapping[str, Handler],
) -> gr.HTML:
    """The component of the tab ``app.<name>``.

    Args:
        scripts: files of its assets, or of Explore's, in the order they are read.
        constants: what the scripts find in ``PAGE``.
        handlers: what they may call.
    """
    gr.set_static_paths([plotly_path()])
    return gr.HTML(
        value="",
        html_template=f'<div class="sol-page sol-{name}"></div>',
        js_on_load=page_script(f"app.{name}", scripts, constants),
        server_functions=server_functions(services, handlers),
        apply_default_css=False,
        elem_id=f"{name}-page",
    )

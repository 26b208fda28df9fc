"""Builds the page: its header and five rooms. Each room is a ``Page``."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages.explore import PAGE as EXPLORE
from app.pages.history import PAGE as HISTORY
from app.pages.inspect import PAGE as INSPECT
from app.pages.lab.jobs import PAGE as LAB
from app.pages.learn import PAGE as LEARN
from app.pages.policies import POLICY_UPLOAD
from app.pages.shared.corpus_choice import CORPUS_UPLOAD, MAX_UPLOAD_BYTES, SUFFIXES
from app.pages.shared.run_calls import IMPORT_UPLOAD
from app.web.calls import mount_script
from app.web.services import Services

TITLE = "SOL Explorer"
SENTENCE = "See and steer a model's compute, token by token."

_HEADER = f"""
<header class="sol-header">
  <a class="sol-skip" href="#">Skip to the page</a>
  <span class="sol-mark" aria-hidden="true"><i></i><i></i><i></i></span>
  <div><h1>{TITLE}</h1><p>{SENTENCE}</p></div>
  <button type="button" class="sol-chip">Dark</button>
</header>
"""

UPLOADS = {"import": IMPORT_UPLOAD, "policy": POLICY_UPLOAD, "corpus": CORPUS_UPLOAD}
PAGES = (EXPLORE, INSPECT, LEARN, LAB, HISTORY)

# Both run in the browser, see js/header.js: the header names the tab that comes to the front, and
# hears which one did.
_SHOW_TAB = """() => ({
  __type__: 'update', selected: document.querySelector('.sol-header').dataset.tab
})"""
_TAB_SHOWN = """() => {{
  document.dispatchEvent(new CustomEvent('sol-tab-shown', {{ detail: '{name}' }}));
}}"""


def page_constants(services: Services) -> dict[str, Any]:
    """Return what all pages' scripts find in ``js/shared/dom.js``."""
    return {
        "isShared": services.is_shared,
        "maxUploadBytes": MAX_UPLOAD_BYTES,
        "suffixes": SUFFIXES,
    }


def build_app(services: Services) -> gr.Blocks:
    """The whole page, not launched. Theme and style sheet are given to ``launch``."""
    app = gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False)
    names = [page.name for page in PAGES]
    with app:
        head = gr.HTML(
            _HEADER,
            js_on_load=mount_script("header.js", "trigger", {"tabs": names}),
            apply_default_css=False,
        )
        with gr.Tabs() as tabs:
            for page in PAGES:
                with gr.Tab(page.label, id=page.name) as tab:
                    page.build(services)
                tab.select(fn=None, js=_TAB_SHOWN.format(name=page.name))
        head.select(fn=None, js=_SHOW_TAB, outputs=tabs)
    return app

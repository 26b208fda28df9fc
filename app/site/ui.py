"""Builds the page: header and tabs. Each tab has its own package with ``build_tab(services)``."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages import accuracy as benchmark
from app.pages import compare, evaluate, explore, history, inspect, learn, policies, train
from app.pages.shared.corpus_files import MAX_UPLOAD_BYTES, SUFFIXES
from app.pages.shared.job_views import JOB_KINDS
from app.web.component import mount_script
from app.web.services import Services

TITLE = "SOL Explorer"
SENTENCE = "See and steer where a language model spends its compute, token by token."

_HEADER = f"""
<header class="sol-header">
  <span class="sol-mark" aria-hidden="true"><i></i><i></i><i></i></span>
  <div><h1>{TITLE}</h1><p>{SENTENCE}</p></div>
  <button type="button" class="sol-chip">Dark</button>
</header>
"""

# Name in the address, label, and what lays it out.
_TABS = {
    "explore": ("Explore", explore.build_tab),
    "inspect": ("Inspect", inspect.build_tab),
    "compare": ("Compare", compare.build_tab),
    "train": ("Train", train.build_tab),
    "evaluate": ("Evaluate", evaluate.build_tab),
    "benchmark": ("Benchmark", benchmark.build_tab),
    "policies": ("Policies", policies.build_tab),
    "history": ("History", history.build_tab),
    "learn": ("Learn", learn.build_tab),
}

# Both run in the browser, see js/header.js: the header names the tab that comes to the front, and
# hears which one did.
_SHOW_TAB = """() => ({
  __type__: 'update', selected: document.querySelector('.sol-header').dataset.tab
})"""
_TAB_SHOWN = """() => {{
  document.dispatchEvent(new CustomEvent('sol-tab-shown', {{ detail: '{name}' }}));
}}"""


def page_constants(services: Services) -> dict[str, Any]:
    """Return what all pages' scripts find in ``js/shared/site.js``."""
    return {
        "isShared": services.is_shared,
        "jobKinds": JOB_KINDS,
        "maxUploadBytes": MAX_UPLOAD_BYTES,
        "suffixes": SUFFIXES,
    }


def build_app(services: Services) -> gr.Blocks:
    """The whole page, not launched. Theme and style sheet are given to ``launch``."""
    app = gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False)
    with app:
        head = gr.HTML(
            _HEADER,
            js_on_load=mount_script("header.js", "trigger", {"tabs": list(_TABS)}),
            apply_default_css=False,
        )
        with gr.Tabs() as tabs:
            for name, (label, build_tab) in _TABS.items():
                with gr.Tab(label, id=name) as tab:
                    build_tab(services)
                tab.select(fn=None, js=_TAB_SHOWN.format(name=name))
        head.select(fn=None, js=_SHOW_TAB, outputs=tabs)
    return app

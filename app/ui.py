"""Builds the page: header and tabs. Each tab has its own package with ``build_tab(services)``."""

from __future__ import annotations

import gradio as gr

from app import benchmark, evaluate, explore, history, inspect, train
from app.services import Services

__all__ = ["TITLE", "build_app"]

TITLE = "SOL Explorer"
SENTENCE = "See and steer where a language model spends its compute, token by token."

_HEADER = f"""
<header class="sol-header">
  <span class="sol-mark" aria-hidden="true"><i></i><i></i><i></i></span>
  <div><h1>{TITLE}</h1><p>{SENTENCE}</p></div>
  <button type="button" class="sol-chip">Dark</button>
</header>
"""

# The choice of theme is kept in the browser; without one, the system's is followed.
_THEME_SCRIPT = """
const button = element.querySelector("button");
const read = () => { try { return localStorage.getItem("sol.theme"); } catch { return null; } };
const isDark = () => document.body.classList.contains("dark");
const label = () => { button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`); };
const asked = new URL(location.href).searchParams.get("__theme");
const chosen = ["light", "dark"].includes(asked) ? asked : read();
if (chosen) document.body.classList.toggle("dark", chosen === "dark");
label();
new MutationObserver(label).observe(document.body, { attributes: true });
button.addEventListener("click", () => {
  const dark = !isDark();
  document.body.classList.toggle("dark", dark);
  try { localStorage.setItem("sol.theme", dark ? "dark" : "light"); } catch { /* forgets */ }
});
"""

# Runs in the browser: something was opened, so its tab comes to the front.
_SHOW_TAB = "() => ({ __type__: 'update', selected: window.solTab ?? 'explore' })"
# The address names what is on show; a reload opens its tab.
_SHOW_ASKED = """() => {
  const asked = new URL(location.href).searchParams;
  const tabs = { train: "train", evaluation: "evaluate", benchmark: "benchmark",
    inspection: "inspect" };
  const shown = Object.keys(tabs).find((name) => asked.has(name));
  const selected = shown ? tabs[shown] : "explore";
  return { __type__: "update", selected };
}"""


def build_app(services: Services) -> gr.Blocks:
    """The whole page, not launched. Theme and style sheet are given to ``launch``."""
    app = gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False)
    with app:
        gr.HTML(_HEADER, js_on_load=_THEME_SCRIPT, apply_default_css=False)
        with gr.Tabs() as tabs:
            with gr.Tab("Explore", id="explore"):
                explore_page = explore.build_tab(services)
            with gr.Tab("Inspect", id="inspect"):
                inspect_page = inspect.build_tab(services)
            with gr.Tab("Train", id="train"):
                train_page = train.build_tab(services)
            with gr.Tab("Evaluate", id="evaluate"):
                evaluate_page = evaluate.build_tab(services)
            with gr.Tab("Benchmark", id="benchmark"):
                benchmark_page = benchmark.build_tab(services)
            with gr.Tab("History", id="history"):
                history_page = history.build_tab(services)
        pages = (explore_page, inspect_page, train_page, evaluate_page, benchmark_page)
        for page in (*pages, history_page):
            page.select(fn=None, js=_SHOW_TAB, outputs=tabs)
        app.load(fn=None, js=_SHOW_ASKED, outputs=tabs)
    return app

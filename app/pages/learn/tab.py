"""Lays out the Learn tab: one component with five lessons and the glossary."""

from __future__ import annotations

import gradio as gr

from app.lessons.experiments import MOST_PICKS
from app.lessons.texts import BEGINNINGS
from app.pages.learn.handlers import HANDLERS
from app.web.component import page_component
from app.web.services import Services


def build_tab(services: Services) -> gr.HTML:
    """Return the tab's component."""
    constants = {"beginnings": BEGINNINGS, "mostPicks": MOST_PICKS}
    return page_component(services, "learn", constants, HANDLERS)

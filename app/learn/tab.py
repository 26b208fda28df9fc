"""Lays out the Learn tab: one component with five lessons and the glossary."""

from __future__ import annotations

import gradio as gr

from app.learn.handlers import HANDLERS
from app.lesson_experiments import MOST_PICKS
from app.lesson_texts import BEGINNINGS
from app.page_component import page_component
from app.services import Services
from app.theme_colours import NUM_BINS

__all__ = ["build_tab"]

_SCRIPTS = (
    "form_parts.js",
    "token_text.js",
    "experiment.js",
    "pictures.js",
    "lesson.js",
    "lesson_steps.js",
    "lesson_pages.js",
    "lesson_channels.js",
    "lesson_bits.js",
    "lesson_spend.js",
    "glossary_list.js",
    "learn.js",
)


def build_tab(services: Services) -> gr.HTML:
    """The tab's component; its ``select`` event asks to show another tab."""
    constants = {"beginnings": BEGINNINGS, "mostPicks": MOST_PICKS, "numBins": NUM_BINS}
    return page_component(services, "learn", _SCRIPTS, constants, HANDLERS)

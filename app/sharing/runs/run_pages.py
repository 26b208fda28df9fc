"""Saved runs as HTML files: a generation, and an inspection."""

from __future__ import annotations

from typing import Any

from app.runs.views import whole_view
from app.sharing.html_page import html_page
from storage import RunRecord


def page_of_generation(record: RunRecord, events: list[dict[str, Any]]) -> str:
    """Return Explore's view of a generation."""
    view = whole_view(record, events)
    return html_page(view["run"]["title"], view, "shared_run", ("costs",))


def page_of_inspection(record: RunRecord, tokens: list[dict[str, Any]]) -> str:
    """Return Inspect's view of an inspection, its report included."""
    view = whole_view(record, tokens)
    return html_page(view["run"]["title"], view, "shared_inspection", ("costs", "inspect"))

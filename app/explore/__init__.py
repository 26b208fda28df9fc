"""The Explore page: a prompt, a budget, and every token coloured by what was spent on it."""

from app.explore.tab import build_tab

__all__ = ["build_tab"]

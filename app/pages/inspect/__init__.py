"""The Inspect page: any text, token by token, under several schedules.

Its form, and its calls beyond those of Explore. Scored tokens come from ``app.runs``.
"""

from app.pages.inspect.tab import build_tab

__all__ = ["build_tab"]

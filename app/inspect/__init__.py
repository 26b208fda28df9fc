"""The Inspect page: any text, token by token, under several schedules."""

from app.inspect.tab import build_tab

__all__ = ["build_tab"]

"""The Learn page: five short lessons, each with a live experiment, and the glossary."""

from app.learn.tab import build_tab

__all__ = ["build_tab"]

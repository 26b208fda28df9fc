"""The History page: runs that have ended, newest first."""

from app.history.tab import build_tab

__all__ = ["build_tab"]

"""The Compare page: two runs side by side, and a schedule painted by hand against the policy."""

from app.compare.tab import build_tab

__all__ = ["build_tab"]

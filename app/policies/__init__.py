"""The Policies page: the library, what each policy measured, and its ways in and out."""

from app.policies.tab import build_tab

__all__ = ["build_tab"]

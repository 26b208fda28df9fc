"""The Train page: choose settings, press Start, watch a policy learn, come back to it later."""

from app.train.tab import build_tab

__all__ = ["build_tab"]

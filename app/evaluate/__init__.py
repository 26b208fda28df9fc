"""The Evaluate page: policies against baselines at matched spend, with the paper's figures."""

from app.evaluate.tab import build_tab

__all__ = ["build_tab"]

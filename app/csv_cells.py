"""Cells of CSV files that are safe to open in a spreadsheet."""

from __future__ import annotations

__all__ = ["plain_cell"]

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: such text gets an apostrophe in front."""
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) else text

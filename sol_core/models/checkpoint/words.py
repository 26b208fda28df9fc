"""First line of a library's error, for messages of one line."""

from __future__ import annotations

__all__ = ["first_line"]


def first_line(error: BaseException) -> str:
    """Return at most 200 characters; the class where there is no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__

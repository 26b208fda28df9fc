"""Progress callbacks: ``on_progress(message, fraction)`` with the fraction in [0, 1].

The engine calls them, the command line and the page draw them; nothing here writes anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "ignore_progress", "megabytes", "part_of"]

Progress = Callable[[str, float], None]


def ignore_progress(message: str, fraction: float) -> None:
    """The callback of a caller who does not want to know."""


def part_of(on_progress: Progress, start: float, stop: float) -> Progress:
    """A callback whose 0 to 1 is shown as ``start`` to ``stop`` of the whole work."""

    def report(message: str, fraction: float) -> None:
        on_progress(message, start + (stop - start) * min(max(fraction, 0.0), 1.0))

    return report


def megabytes(num_bytes: int) -> str:
    """``"93 MB"``: decimal megabytes, as download pages count them."""
    return f"{num_bytes / 1e6:.0f} MB"

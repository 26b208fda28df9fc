"""Progress callbacks: ``on_progress(message, fraction)`` with the fraction in [0, 1].

The engine calls them, the command line and the page draw them. Library users who hand in none
get a bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "ignore_progress", "megabytes", "part_of", "shown_progress"]

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


@contextmanager
def shown_progress(on_progress: Progress | None) -> Iterator[Progress]:
    """``on_progress`` itself, or a bar on stderr that goes in the end.

    Who has turned the Hub's bars off (HF_HUB_DISABLE_PROGRESS_BARS) gets none here either.
    """
    if on_progress is not None:
        yield on_progress
        return
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from tqdm import tqdm

    form = "{percentage:3.0f} %|{bar:20}| {desc}"
    off = are_progress_bars_disabled()
    with tqdm(total=1.0, leave=False, bar_format=form, disable=off) as bar:

        def report(message: str, fraction: float) -> None:
            bar.n = min(max(fraction, 0.0), 1.0)
            bar.set_description_str(message)

        yield report

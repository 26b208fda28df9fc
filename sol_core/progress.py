"""Progress of long work: callbacks for one bar, events for training, evaluation and tasks.

``on_progress(message, fraction)`` is called while something is read or made, with the fraction
in [0, 1]; library users who hand in none get a bar. Work that takes minutes to hours is a
generator of ``WorkEvent``s instead. They are JSON-ready; the app stores them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class WorkProgress:
    """Some of the work is done."""

    fraction: float  # of the whole work, in [0, 1]
    message: str  # what is being done, for people; of a training, its phase
    eta_s: float | None = None  # estimate of the seconds left; None while unknown
    row: dict[str, Any] | None = None  # numbers of a training, see ``training.config``


@dataclass(frozen=True, slots=True)
class WorkSample:
    """The newest of something to look at: a held-out text, or means so far."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkCheckpoint:
    """A checkpoint is on disk: work that dies now continues from here."""


@dataclass(frozen=True, slots=True)
class WorkStopped:
    """``should_stop`` was obeyed; the same call later goes on from here."""


@dataclass(frozen=True, slots=True)
class WorkFinished:
    """The work is done; its module describes the result."""

    result: dict[str, Any]
    per_text: tuple[dict[str, Any], ...] = ()  # of an evaluation; no stored result holds them


WorkEvent = WorkProgress | WorkSample | WorkCheckpoint | WorkStopped | WorkFinished


def ignore_progress(message: str, fraction: float) -> None:
    """The callback of a caller who does not want to know."""


def no_stop() -> bool:
    """The default ``should_stop``: never."""
    return False


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
    """``on_progress`` itself, or a bar on stderr, unless HF_HUB_DISABLE_PROGRESS_BARS is set."""
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

"""Progress of long work: callbacks for a single bar, events for training, evaluation and tasks.

``on_progress(message, fraction)`` is called while something is read or made, with the fraction in
[0, 1]; library users who pass none get a bar. Work that takes minutes to hours is a generator of
``WorkEvent``s instead, which are plain JSON and stored by the app unchanged.
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

    fraction: float  # done, in [0, 1]
    message: str  # what is being done; for a training, its phase
    eta_s: float | None = None  # estimated seconds left; None while unknown
    row: dict[str, Any] | None = None  # a training's numbers, see ``training.config``


@dataclass(frozen=True, slots=True)
class WorkSample:
    """An intermediate result: a held-out text, or means so far."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkCheckpoint:
    """A checkpoint is on disk; work that dies after this resumes here."""


@dataclass(frozen=True, slots=True)
class WorkStopped:
    """The work stopped at ``should_stop``; the same call resumes here."""


@dataclass(frozen=True, slots=True)
class WorkFinished:
    """The work is done; the work's module describes the result."""

    result: dict[str, Any]
    per_text: tuple[dict[str, Any], ...] = ()  # an evaluation's losses; not stored with the result


WorkEvent = WorkProgress | WorkSample | WorkCheckpoint | WorkStopped | WorkFinished


def ignore_progress(message: str, fraction: float) -> None:
    """Discard progress; the default callback."""


def no_stop() -> bool:
    """Return False; the default ``should_stop``."""
    return False


def part_of(on_progress: Progress, start: float, stop: float) -> Progress:
    """Return a callback that maps fractions 0–1 to ``start``–``stop`` of the whole work."""

    def report(message: str, fraction: float) -> None:
        on_progress(message, start + (stop - start) * min(max(fraction, 0.0), 1.0))

    return report


def megabytes(num_bytes: int) -> str:
    """Format bytes as decimal megabytes: "93 MB"."""
    return f"{num_bytes / 1e6:.0f} MB"


@contextmanager
def shown_progress(on_progress: Progress | None) -> Iterator[Progress]:
    """Yield ``on_progress``, or a bar on stderr unless HF_HUB_DISABLE_PROGRESS_BARS is set."""
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

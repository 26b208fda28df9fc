"""Closes what Gradio leaves open, so that warnings can stay errors in tests that launch it.

Every ``App`` makes an event loop that nobody runs or closes; collected later, inside whatever
test happens to be running, it would be an unraisable ResourceWarning there.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["closing_gradio_leftovers"]


@contextmanager
def closing_gradio_leftovers() -> Iterator[None]:
    """Wrap everything between building an app and having closed it."""
    made: list[asyncio.AbstractEventLoop] = []
    real = asyncio.new_event_loop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        made.append(real())
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", new_event_loop)
        yield
    for loop in made:
        if not loop.is_running():
            loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()

"""Closes what Gradio leaves open, so that warnings can stay errors in tests that launch it."""

import asyncio
import gc
import warnings
from contextlib import contextmanager

import pytest


@contextmanager
def closing_gradio_leftovers():
    """Wrap everything between building an app and having closed it."""
    made = []
    real = asyncio.new_event_loop

    def new_event_loop():
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

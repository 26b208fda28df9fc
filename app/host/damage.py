"""Saved things that cannot be shown: a sentence or a row that says so, never a page that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.host.errors import DamagedError
from sol_core.errors import SolError
from storage import StorageError

# Raised while a record of another shape than expected is read.
_OF_ANOTHER_SHAPE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@contextmanager
def naming_damage(record: str) -> Iterator[None]:
    """Turn what goes wrong with the shape of a record, as in "This run", into a DamagedError."""
    try:
        yield
    except (SolError, StorageError):
        raise
    except _OF_ANOTHER_SHAPE as error:
        raise DamagedError(
            f"{record} is damaged and cannot be shown ({type(error).__name__}: "
            f"{str(error)[:200]}). Delete it."
        ) from error

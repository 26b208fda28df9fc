"""Saved things that cannot be shown: a sentence or a row that says so, never a page that fails.

What this release writes can always be read and sent; older releases and other hands wrote things
that cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.host.errors import DamagedError
from sol_core.errors import SolError
from storage import StorageError

# What reading a record of another shape than expected raises.
_OF_ANOTHER_SHAPE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@contextmanager
def naming_damage(what: str) -> Iterator[None]:
    """Turn what goes wrong with a saved record's shape into one sentence.

    Args:
        what: the record, as in "This run".
    Raises: DamagedError.
    """
    try:
        yield
    except (SolError, StorageError):
        raise
    except _OF_ANOTHER_SHAPE as error:
        raise DamagedError(
            f"{what} is damaged and cannot be shown ({type(error).__name__}: {str(error)[:200]}). "
            "Delete it."
        ) from error

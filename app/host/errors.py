"""Errors of the app layer; ``app.cli.main`` shows them as one line. Standard library only."""

from collections.abc import Iterator
from contextlib import contextmanager

from sol_core.errors import SolError


class AppError(SolError):
    """Root of the app's own errors."""


class BootstrapError(AppError, RuntimeError):
    """The Python environment is incomplete and cannot be completed here."""


class DataDirError(AppError, OSError):
    """A data directory that cannot be created, written or filled."""


class InputFileError(AppError, ValueError):
    """A file named on the command line that is missing or malformed."""


class DocumentError(AppError, ValueError):
    """An exported file of another kind or version, or one that is damaged."""


class DamagedError(AppError, ValueError):
    """A saved run, job or policy of a shape that nothing here can show."""


class PolicyNotFoundError(AppError, LookupError):
    """A policy that is neither stored under this name nor a folder."""


@contextmanager
def system_errors(
    failed: str, kind: type[AppError] = InputFileError, remedy: str = ""
) -> Iterator[None]:
    """Raise an OSError of the block as what ``failed``, the system's reason and a remedy."""
    try:
        yield
    except SolError:  # some are the system's errors too
        raise
    except OSError as error:
        raise kind(f"{failed}: {error.strerror or error}{remedy}") from error


def is_told(error: BaseException) -> bool:
    """Return whether an error of the engine, the app or storage has a message for the user."""
    # Storage is imported where it raises: its packages may be missing.
    return isinstance(error, SolError) or type(error).__module__.endswith("storage.errors")


@contextmanager
def naming_damage(record: str) -> Iterator[None]:
    """Turn what goes wrong with the shape of a record, as in "This run", into a DamagedError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if is_told(error):
            raise
        raise DamagedError(
            f"{record} is damaged and cannot be shown ({type(error).__name__}: "
            f"{str(error)[:200]}). Delete it."
        ) from error

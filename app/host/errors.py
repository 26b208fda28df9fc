"""Errors of the app layer; ``app.cli.main`` shows them as one line. Standard library only."""

from sol_core.errors import SolError


class AppError(SolError):
    """Root of the app's own errors."""


class BootstrapError(AppError, RuntimeError):
    """The Python environment is incomplete and cannot be completed here."""


class DataDirError(AppError, OSError):
    """A data directory that cannot be created, written or filled."""


class AlreadyRunningError(AppError, RuntimeError):
    """Another launch holds the data directory."""


class InputFileError(AppError, ValueError):
    """A file named on the command line that is missing or malformed."""


class DocumentError(AppError, ValueError):
    """An exported file of another kind or version, or one that is damaged."""


class DamagedError(AppError, ValueError):
    """A saved run, job or policy of a shape that nothing here can show."""


class PolicyNotFoundError(AppError, LookupError):
    """A policy that is neither stored under this name nor a folder."""

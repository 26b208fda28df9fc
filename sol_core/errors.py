"""The engine's error hierarchy.

Every error is a ``SolError`` and also of the built-in class that it refines. Messages name the
value, the legal values and the remedy; ``app`` shows them unchanged.
"""


class SolError(Exception):
    """Base class of the project's errors."""


class ConfigError(SolError, ValueError):
    """A configuration value that is not allowed."""


class UnknownNameError(ConfigError, TypeError):
    """An unknown keyword or setting."""


class ShapeError(SolError, ValueError):
    """A tensor argument of the wrong shape, dtype or device."""


class UnsupportedModelError(SolError, ValueError):
    """A model family or feature that the decoder does not implement."""


class ModelLoadError(SolError, RuntimeError):
    """Model files that are missing, truncated, corrupt or unreachable."""


class DownloadError(SolError, RuntimeError):
    """An asset that could not be fetched or does not match its checksum."""


class CorpusError(SolError, ValueError):
    """Text that cannot be read or yields no usable block."""


class PolicyError(SolError, ValueError):
    """A policy that is damaged, or made for another model or grid."""


class PolicyNotKeptError(PolicyError):
    """A trained policy that is no better than static."""


class TrainingDivergedError(SolError, ArithmeticError):
    """A non-finite number in training; the last good checkpoint is kept."""


class NotFiniteError(SolError, ArithmeticError):
    """A NaN or infinity computed by a model: damaged weights, or too narrow a format."""


class CardMemoryError(SolError, MemoryError):
    """A GPU out of memory; the next run may fit."""


class CardLostError(SolError, RuntimeError):
    """A GPU error that this process cannot recover from."""


class ContextLengthError(SolError, ValueError):
    """More tokens than the model's context window holds."""

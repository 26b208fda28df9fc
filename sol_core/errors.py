"""The engine's error hierarchy.

Every error is a ``SolError`` and one of the built-in kind that it refines. Messages name the
value, the legal values and the remedy. ``app`` shows them unchanged.
"""


class SolError(Exception):
    """Root of every error this project raises on purpose."""


class ConfigError(SolError, ValueError):
    """A configuration value that is not allowed."""


class UnknownNameError(ConfigError, TypeError):
    """A keyword or setting that there is none of."""


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
    """A trained policy that is of no use."""


class TrainingDivergedError(SolError, ArithmeticError):
    """Training met a number that is not finite; the last good checkpoint is kept."""


class NotFiniteError(SolError, ArithmeticError):
    """A model computed NaN or infinity: damaged weights, or too narrow a format."""


class CardMemoryError(SolError, MemoryError):
    """A GPU's memory is full; the next run may fit."""


class CardLostError(SolError, RuntimeError):
    """A GPU's error after which all its work fails in this process."""


class ContextLengthError(SolError, ValueError):
    """More tokens than the model's context window holds."""

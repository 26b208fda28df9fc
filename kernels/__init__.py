"""GPU and CPU kernels for compressed decode steps, one folder an operation.

Each folder holds ``reference.py`` (plain PyTorch, the definition) behind the
dispatch in its ``__init__``. Nothing heavy is imported here: ``transformers``
probes a top-level package of this name and reads its ``__version__``.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"

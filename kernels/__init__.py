"""GPU and CPU kernels for compressed decode steps, one folder an operation.

Each folder holds ``reference.py`` (plain PyTorch, the definition) behind the
dispatch in its ``__init__``. Nothing heavy is imported here: ``transformers``
probes a top-level package of this name and reads its ``__version__``. This is the version
of the whole project: ``pyproject.toml`` and ``sol_core.__version__`` take it from here.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"

"""GPU and CPU kernels for compressed decode steps, one folder an operation.

``reference.py`` defines an operation, ``cpu.py`` and ``triton_kernel.py`` compute it faster, and
``__init__.py`` checks arguments and chooses. What several share is in ``kernels.cpu`` and
``kernels.gpu``; no model and no schedule is known here.

Nothing heavy is imported here: in a checkout ``transformers`` finds a top-level package of this
name and reads its ``__version__``. This is the version of the whole project: ``pyproject.toml`` and
``sol_core.__version__`` take it from here.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"

"""GPU and CPU kernels for compressed decode steps, one folder an operation.

``reference.py`` defines an operation, ``cpu.py`` and ``triton_kernel.py`` compute it faster, and
``__init__.py`` checks arguments and chooses. What several share is in ``kernels.cpu`` and
``kernels.gpu``; no model and no schedule is known here.

Nothing heavy is imported here. In a checkout this folder hides Hugging Face's package of the same
name, which transformers imports from 5.25 on, so that package's names are found here as well; a
wheel has this package under ``sol_core``. ``__version__`` is the version of the whole project:
``pyproject.toml`` and ``sol_core.__version__`` take it from here.
"""

import functools
import importlib.metadata
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = ["__version__"]

__version__ = "0.1.0"


@functools.cache
def _hidden_package() -> ModuleType:
    """Hugging Face's ``kernels``, whose modules import each other as ``kernels.…``."""
    folder = importlib.metadata.distribution(__name__).locate_file(__name__)
    __path__.append(str(folder))  # after this folder: its own modules come first
    spec = importlib.util.spec_from_file_location(f"{__name__}._hidden", f"{folder}/__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


if not TYPE_CHECKING:  # with it, a type checker would take every name

    def __getattr__(name):
        """A name of the hidden package. Raises: AttributeError."""
        own = name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}")
        if not own and "." not in __name__:
            try:
                return getattr(_hidden_package(), name)
            except importlib.metadata.PackageNotFoundError:
                pass
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The package's surface: true ``__all__`` lists, error hierarchy, and no work at import."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import storage
from storage import StorageError
from tests.storage.child_python import StartPython

# A module's public names are those without an underscore; what a package offers is listed.
PACKAGES = [
    "storage",
    *(one.name for one in pkgutil.walk_packages(storage.__path__, "storage.") if one.ispkg),
]
BUILT_INS = {
    "NotFoundError": LookupError,
    "InvalidRecordError": ValueError,
    "JobStateError": RuntimeError,
    "DatabaseVersionError": RuntimeError,
    "DatabaseCorruptError": RuntimeError,
    "DatabaseLockedError": TimeoutError,
    "DatabaseWriteError": OSError,
}


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_true(name: str) -> None:
    module = importlib.import_module(name)
    public = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == name
    }
    assert list(module.__all__) == sorted(
        set(module.__all__), key=lambda key: (not key.isupper(), key)
    )
    assert public <= set(module.__all__)
    for key in module.__all__:
        assert hasattr(module, key), key


@pytest.mark.parametrize(("name", "built_in"), BUILT_INS.items())
def test_leaves_refine_a_built_in(name: str, built_in: type[Exception]) -> None:
    leaf = getattr(storage, name)
    assert issubclass(leaf, StorageError)
    assert issubclass(leaf, built_in)
    assert str(leaf("what to do")) == "what to do"


def test_import_is_light_and_does_nothing(start_python: StartPython) -> None:
    code = (
        "import sys, storage\n"
        "heavy = {'torch', 'transformers', 'gradio', 'sol_core', 'kernels', 'app'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    output, _ = start_python(code).communicate(timeout=60)
    assert output == "[]\n"

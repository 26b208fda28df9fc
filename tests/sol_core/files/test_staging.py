"""Files and folders that come into place in one rename, flushed to disk as the system wants it."""

import os
from types import SimpleNamespace

import pytest

from sol_core.files import staging
from sol_core.files.staging import publish


@pytest.fixture
def flushed(monkeypatch):
    """Names of what was flushed, on a system that is asked as Windows is."""
    names = []
    opened = {}
    open_ = os.open

    def open_file(path, flags):
        if path.is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        descriptor = open_(path, flags)
        opened[descriptor] = path.name, flags
        return descriptor

    def flush(descriptor):
        name, flags = opened[descriptor]
        if not flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(13, "Permission denied")
        names.append(name)

    monkeypatch.setattr(staging, "_ON_WINDOWS", True)
    monkeypatch.setattr(
        staging, "os", SimpleNamespace(**vars(os) | {"open": open_file, "fsync": flush})
    )
    return names


def test_a_folder_is_published_as_windows_wants_it(flushed, tmp_path):
    (made := tmp_path / "staging" / "made").mkdir(parents=True)
    (made / "one.txt").write_text("1")
    publish(made, tmp_path / "target", tmp_path / "staging")
    assert flushed == ["one.txt"]
    assert (tmp_path / "target" / "one.txt").read_text() == "1"

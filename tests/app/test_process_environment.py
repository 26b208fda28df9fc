"""What every command sets for the libraries before they are imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import environment
from sol_core.threads import SPIN_VARIABLE


def test_threads_and_caches_are_set_unless_the_user_set_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (SPIN_VARIABLE, *environment.CACHES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "/mine")
    monkeypatch.setattr(environment.os, "environ", dict(environment.os.environ))
    environment.prepare(tmp_path)
    assert environment.os.environ["GOMP_SPINCOUNT"] == "1000"
    assert environment.os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "cache/numba")
    assert environment.os.environ["HF_HOME"] == "/mine"
    monkeypatch.setitem(environment.os.environ, "GOMP_SPINCOUNT", "5")
    environment.prepare(tmp_path)
    assert environment.os.environ["GOMP_SPINCOUNT"] == "5"

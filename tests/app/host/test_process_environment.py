"""What every command sets for the libraries before they are imported."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from app.host import environment
from app.host.environment import KEPT_DAYS, kernel_cache_folder, remove_unused_caches
from sol_core.threads import SPIN_VARIABLE


def test_threads_and_caches_are_set_unless_the_user_set_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (SPIN_VARIABLE, *environment.CACHES, "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "/mine")
    monkeypatch.setattr(environment.os, "environ", dict(environment.os.environ))
    environment.prepare(tmp_path)
    assert environment.os.environ["GOMP_SPINCOUNT"] == "1000"
    kernels = kernel_cache_folder(tmp_path / "cache/numba")
    assert environment.os.environ["NUMBA_CACHE_DIR"] == str(kernels)
    assert environment.os.environ["HF_HOME"] == "/mine"
    monkeypatch.setitem(environment.os.environ, "GOMP_SPINCOUNT", "5")
    environment.prepare(tmp_path)
    assert environment.os.environ["GOMP_SPINCOUNT"] == "5"


def test_any_changed_kernel_source_means_another_folder(tmp_path: Path) -> None:
    sources = tmp_path / "kernels" / "deep"
    sources.mkdir(parents=True)
    helper = sources / "helper.py"
    seen = set()
    for text in ("a = 1", "a = 2"):
        helper.write_text(text)
        seen.add(kernel_cache_folder(tmp_path, sources.parent))
    helper.rename(sources / "other.py")
    seen.add(kernel_cache_folder(tmp_path, sources.parent))
    assert len(seen) == 3
    assert kernel_cache_folder(tmp_path, sources.parent) in seen


def test_only_long_unused_caches_are_removed(tmp_path: Path) -> None:
    now = time.time()
    for name, days in (("current", 100), ("recent", KEPT_DAYS - 1), ("old", KEPT_DAYS + 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code").write_text("")
        os.utime(tmp_path / name, (now - days * 86_400,) * 2)
    remove_unused_caches(tmp_path / "current")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "recent"]
    remove_unused_caches(tmp_path / "current")
    assert (tmp_path / "current").stat().st_mtime > now - 60
    remove_unused_caches(tmp_path / "missing" / "folder")

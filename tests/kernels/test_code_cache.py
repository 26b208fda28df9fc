"""Processes that compile one function for different types at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu.threads import why_no_kernels

SAVING = """
import sys
from numba.core.caching import IndexDataCacheFile
import kernels.cpu.compiling

cache = IndexDataCacheFile(sys.argv[1], "step", "stamp")
cache._load_index = lambda: {}  # both look before either of them has written
cache.save(sys.argv[2], sys.argv[2] + "'s code")
"""


@pytest.mark.skipif(why_no_kernels() is not None, reason="Numba cannot run here")
def test_no_type_is_led_to_another_one_s_code(tmp_path: Path) -> None:
    from numba.core.caching import IndexDataCacheFile

    import kernels.cpu.compiling  # noqa: F401 (names files for the cache)

    for types in ("float32", "bfloat16"):
        command = [sys.executable, "-c", SAVING, str(tmp_path), types]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert len(list(tmp_path.glob("*.nbc"))) == 2
    cache = IndexDataCacheFile(str(tmp_path), "step", "stamp")
    assert cache.load("bfloat16") == "bfloat16's code"
    assert cache.load("float32") in (None, "float32's code")

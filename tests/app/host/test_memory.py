"""Freed memory goes back to the system."""

import os
import sys

import pytest

from app.host import memory
from tests.load.trial import memory_mb


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has it")
def test_what_is_free_is_given_back():
    memory.give_back()
    before = memory_mb(os.getpid(), "VmRSS")
    pieces = [bytes(bytearray(b"x" * 60_000)) for _ in range(2000)]
    kept = pieces[-1]  # it keeps the heap from shrinking by itself
    del pieces
    memory.give_back()
    assert memory_mb(os.getpid(), "VmRSS") - before < 30
    assert len(kept) == 60_000

"""``bench memory``: how fast parts of memory are read against all of it, lines kept at random.

The bound of any step that leaves weights or pages out on this machine: plain sums, two threads, a
later line prefetched while one is summed, and nothing else to do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kernels.cpu.threads import why_no_kernels
from sol_core.errors import ConfigError, SolError
from sol_core.models.devices import cpu_name
from sol_core.progress import Progress

THREADS = 2  # each reads an array of its own
ARRAY_BYTES = 96_000_000  # beyond the cache; whole lines of every length
LINE_BYTES = (64, 256, 768, 1536)
KEPT = (0.7, 0.5, 0.3, 0.15)
AHEAD_BYTES = (1024, 4096)  # how far ahead is prefetched; the faster counts
_CACHE_LINE, _WORD = 64, 8  # bytes
_Reader = Callable[[Any, Any, int], int]


def bench_memory(on_progress: Progress, *, rounds: int = 5) -> dict[str, Any]:
    """Speed of reading each kept share against reading all, the median of the rounds."""
    if rounds < 1:
        raise ConfigError(f"rounds must be 1 or more, got {rounds}")
    if (reason := why_no_kernels()) is not None:
        raise SolError(f"Numba cannot run here: {reason}")
    arrays = [np.ones(ARRAY_BYTES // _WORD, np.int64) for _ in range(THREADS)]
    generator = np.random.default_rng(0)
    rows, rates = [], []
    with ThreadPoolExecutor(THREADS) as pool:
        for done, line in enumerate(LINE_BYTES):
            on_progress(f"lines of {line} bytes", done / len(LINE_BYTES))
            lines = np.arange(ARRAY_BYTES // line, dtype=np.int32)
            kept = [np.sort(generator.permutation(lines)[: round(k * len(lines))]) for k in KEPT]
            whole = np.arange(ARRAY_BYTES // LINE_BYTES[-1], dtype=np.int32)
            read_all, read = _reader(LINE_BYTES[-1]), _reader(line)
            speedups: list[list[float]] = [[] for _ in KEPT]
            for _ in range(rounds):
                full = _seconds(pool, read_all, arrays, whole, LINE_BYTES[-1])
                rates.append(THREADS * ARRAY_BYTES / full / 1e9)
                for speedup, which in zip(speedups, kept, strict=True):
                    speedup.append(full / _seconds(pool, read, arrays, which, line))
            named = zip(KEPT, map(statistics.median, speedups), strict=True)
            rows.append({"line_bytes": line, **{f"kept_{k:.0%}": speed for k, speed in named}})
    return {
        "speed_against_all": rows,
        "ideal": {f"kept_{share:.0%}": 1 / share for share in KEPT},
        "read_all_gb_s": statistics.median(rates),
        "megabytes": THREADS * ARRAY_BYTES / 1e6,
        "threads": THREADS,
        "rounds": rounds,
        "cpu": cpu_name(),
    }


def _seconds(
    pool: ThreadPoolExecutor, read: _Reader, arrays: list[Any], lines: Any, line: int
) -> float:
    """Time in which every thread reads these lines of its array, at the better distance."""
    taken = []
    for ahead in (max(1, distance // line) for distance in AHEAD_BYTES):
        start = time.perf_counter()
        sums = list(pool.map(read, arrays, [lines] * THREADS, [ahead] * THREADS))
        taken.append(time.perf_counter() - start)
        assert sums == [len(lines) * line // _WORD] * THREADS
    return min(taken)


def _reader(line_bytes: int) -> _Reader:
    """Compiled sum of lines of an array, by ascending numbers, ``ahead`` of them prefetched."""
    import numba
    from numba.core import types

    from kernels.cpu.compiling import emitted
    from kernels.cpu.vector_code import prefetch

    @emitted(index=types.intp)
    def ask(builder: Any, array: Any, index: Any) -> None:
        prefetch(builder, builder.gep(array.array().data, [index.value]))

    words, step = line_bytes // _WORD, _CACHE_LINE // _WORD

    @numba.njit(nogil=True, error_model="numpy")
    def read(array: Any, lines: Any, ahead: int) -> int:
        total = 0
        for number in range(len(lines)):
            start = lines[number] * words
            later = lines[min(number + ahead, len(lines) - 1)] * words
            for word in range(0, words, step):
                ask(array, later + word)
            for word in range(words):
                total += array[start + word]
        return total

    reader: _Reader = read
    reader(np.ones(words, np.int64), np.zeros(1, np.int32), 1)  # compiled before it is timed
    return reader

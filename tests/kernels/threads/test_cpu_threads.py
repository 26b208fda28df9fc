"""How torch's and Numba's threads share the cores."""

import ctypes
import logging
import sys

import numba
import pytest
import torch

from kernels.cpu import threads as cpu_threads
from kernels.cpu.threads import cpu_kernel, one_pool, torch_on_one_thread, torch_with_numba
from sol_core.models.devices import cpu_kernels


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_thread_counts_come_back_even_after_an_error():
    before = numba.get_num_threads()
    for context in (torch_on_one_thread, torch_with_numba):
        with pytest.raises(KeyError), context():
            raise KeyError
        assert torch.get_num_threads() == 2
        assert numba.get_num_threads() == before


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("shared", [True, False])
def test_numba_joins_torchs_threads_or_keeps_to_one(shared, monkeypatch):
    monkeypatch.setattr(cpu_threads, "one_pool", lambda: shared)
    with torch_with_numba():
        expected = min(2, numba.config.NUMBA_NUM_THREADS) if shared else 1
        assert numba.get_num_threads() == expected
        assert torch.get_num_threads() == 2


def test_without_openmp_the_log_says_why_once(monkeypatch, caplog):
    def fail(name):
        raise ImportError(f"no {name}")

    cpu_kernel.cache_clear()
    cpu_threads.why_no_kernels.cache_clear()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(cpu_threads.importlib, "import_module", fail)
        for _ in range(2):
            assert cpu_kernel("kernels.channel_pruning.cpu", "keep_largest_rows") is None
            with torch_with_numba():
                pass
        assert cpu_kernels().endswith("slowly: no numba.np.ufunc.omppool")
    cpu_kernel.cache_clear()
    cpu_threads.why_no_kernels.cache_clear()
    assert caplog.text.count("CPU kernels are off") == 1
    assert cpu_kernel("kernels.channel_pruning.cpu", "keep_largest_rows") is not None


@pytest.mark.skipif(sys.platform != "linux", reason="finds OpenMP as Linux does")
def test_numbas_start_leaves_nested_loops_forbidden():
    """torch's attention multiplies matrices inside a loop: nested threads cost it 300 times."""
    openmp = ctypes.CDLL(None)
    openmp.omp_set_max_active_levels(8)
    one_pool.cache_clear()
    one_pool()
    assert openmp.omp_get_max_active_levels() == 1

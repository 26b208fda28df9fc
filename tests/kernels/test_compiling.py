"""Compiled functions: by their address, from several processes, from the cache and without it."""

import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.cpu.team import native_function, team_call
from kernels.cpu.threads import why_no_kernels

numba = pytest.importorskip("numba")
IndexDataCacheFile = pytest.importorskip("numba.core.caching").IndexDataCacheFile


@numba.njit(nogil=True, error_model="numpy")
def _scaled(place, marks, arguments):
    ((numbers, factor), add), out = arguments
    if factor == 0:
        raise ValueError("nothing is left")
    out[place] = numbers[place] * factor + add


def _run(numbers, factor, native):
    out = np.zeros(numbers.shape[0], np.float32)
    # No named tuple of this module: the cached index of ``team_call`` would be read by others.
    arguments = (((numbers, factor), True), out)
    return team_call(native, numbers.shape[0], arguments), out.tolist()


@pytest.fixture(scope="module")
def native():
    single = np.zeros(1, np.float32)
    return native_function(_scaled, (((single, np.float32(1)), True), single))


def test_every_place_gets_arguments_of_any_form(native):
    numbers = np.arange(5, dtype=np.float32)
    assert _run(numbers, np.float32(2), native) == (True, [1, 3, 5, 7, 9])


@pytest.mark.parametrize(
    ("kind", "factor"),
    [(np.float64, np.float32(2)), (np.float32, 2.0), (np.float32, np.float32(0))],
)
def test_a_call_of_other_types_or_that_raised_is_told(native, kind, factor):
    assert _run(np.arange(3, dtype=kind), factor, native) == (False, [0] * 3)


ROOT = Path(__file__).parents[2]
SAVING = """
import sys
from numba.core.caching import IndexDataCacheFile
import kernels.cpu.compiling

cache = IndexDataCacheFile(sys.argv[1], "step", "stamp")
cache._load_index = lambda: {}  # both look before either of them has written
cache.save(sys.argv[2], sys.argv[2] + "'s code")
"""


@pytest.mark.skipif(why_no_kernels() is not None, reason="Numba cannot run here")
def test_no_type_is_led_to_another_one_s_code(tmp_path):
    from numba.core.caching import IndexDataCacheFile

    for types in ("float32", "bfloat16"):
        command = [sys.executable, "-c", SAVING, str(tmp_path), types]
        subprocess.run(command, check=True, cwd=ROOT)
    assert len(list(tmp_path.glob("*.nbc"))) == 2
    cache = IndexDataCacheFile(str(tmp_path), "step", "stamp")
    assert cache.load("bfloat16") == "bfloat16's code"
    assert cache.load("float32") in (None, "float32's code")


def test_compiled_code_goes_by_its_source_wherever_it_lies(monkeypatch, tmp_path):
    compiling = pytest.importorskip("kernels.cpu.compiling")
    from kernels.kv_write.cpu import __file__ as file

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    source = Path(file).read_bytes()
    places = []
    for root in ("one", "two"):
        copy = tmp_path / root / "kernels" / "kv_write" / "cpu.py"
        copy.parent.mkdir(parents=True)
        copy.write_bytes(source)
        monkeypatch.setattr(compiling, "_KERNELS", tmp_path / root / "kernels")
        locator = compiling._SourceLocator.from_function(_run, str(copy))
        places.append((locator.get_cache_path(), locator.get_source_stamp()))
    assert places[0] == places[1]
    assert places[0][0] == str(tmp_path / "kernels.kv_write")
    assert compiling._SourceLocator.from_function(_run, __file__) is None


@pytest.mark.parametrize("module", ["kernels.long_gone", "kernels.cpu.compiling"])
def test_a_cache_of_a_release_with_other_modules_counts_as_empty(tmp_path, module):
    cache = IndexDataCacheFile(str(tmp_path), "step", "stamp")
    cache.save("types", "code")
    assert cache.load("types") == "code"
    index = tmp_path / "step.nbi"
    named = f"c{module}\nGone\n.".encode()  # a pickle of the class ``Gone`` of that module
    version, _ = first_pickle(index.read_bytes())
    index.write_bytes(version + named)
    assert cache.load("types") is None
    cache.save("types", "code again")
    assert cache.load("types") == "code again"


def first_pickle(data):
    """The first of two pickles, and the rest."""
    stream = io.BytesIO(data)
    pickle.load(stream)
    return data[: stream.tell()], data[stream.tell() :]

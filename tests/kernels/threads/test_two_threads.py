"""The CPU's kernels on two threads: the processes of the whole suite have one each."""

import os
import subprocess
import sys
from pathlib import Path

TWO = {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
FILES = (
    "tests/kernels/test_cpu_kernels.py",
    "tests/kernels/threads/test_cpu_threads.py",
    "tests/kernels/test_decode_layer.py",
    "tests/kernels/test_linear.py",
    "tests/kernels/threads/test_team.py",
)
# What compiles a helper for Python to call has no loop of Numba's threads: it is the same on two.
ONE_CALLER = "products_match_torch or page_choice or families_that_are_not_compiled"


def test_kernels_pass_their_tests_on_two_threads():
    """A loop whose threads get in each other's way passes on one."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"),
            *("-k", f"not ({ONE_CALLER})", *FILES),
        ],
        cwd=Path(__file__).resolve().parents[3],
        env=os.environ | TWO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]

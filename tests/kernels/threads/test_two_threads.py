"""The CPU's kernels on two threads, and compiled anew: the whole suite has one thread a process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.tiny_language_model import save_model_folder

ROOT = Path(__file__).parents[3]
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
        cwd=ROOT,
        env=os.environ | TWO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


EVALUATION = """
import json, sys
from pathlib import Path
from tests.sol_core.evaluation_stand_ins import evaluate_contenders
from tests.sol_core.evaluation_child import CONFIG, TEXTS, load
from tests.sol_core.evaluation_stand_ins import contender

*_, last = evaluate_contenders(load(Path(sys.argv[1])), [contender()[0]], CONFIG, TEXTS)
del last.result["elapsed_s"]
print(json.dumps(last.result))
"""


def test_the_first_process_computes_what_later_ones_compute(tmp_path):
    """Sums of kernels that run on all threads once came in another order there."""
    folder = save_model_folder(tmp_path / "model", "llama-gqa-tied", starts=False)
    command = [sys.executable, "-c", EVALUATION, str(folder)]
    variables = os.environ | TWO | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    variables |= {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "sol_core")))}
    found = [
        subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1]

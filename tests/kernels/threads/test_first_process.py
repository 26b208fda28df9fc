"""Kernels that a process compiles itself compute what loaded ones compute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu.threads import why_no_kernels
from tests.support.tiny_language_model import save_model_folder

ROOT = Path(__file__).parents[3]
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


@pytest.mark.skipif(why_no_kernels() is not None, reason="Numba cannot run here")
def test_the_first_process_computes_what_later_ones_compute(tmp_path):
    """Sums of kernels that run on all threads once came in another order there."""
    folder = save_model_folder(tmp_path / "model", "llama-gqa-tied", starts=False)
    command = [sys.executable, "-c", EVALUATION, str(folder)]
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    variables |= {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "sol_core")))}
    found = [
        subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1]

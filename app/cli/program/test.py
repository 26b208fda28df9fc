"""``launch.py test``: the test suite, in an environment that has the ``test`` extra."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from app.cli import options as cli
from app.host import environment
from app.host.hosting import PROJECT_ROOT
from app.host.paths import DataDir
from app.setup.bootstrap import replace_process

HELP = "run the tests; other arguments go to pytest"
WORKERS = 2  # more were not tried: the suite's memory is that of its language models
LANDING = "not release"
FAST = f"{LANDING} and not model and not browser and not slow"
WARM_UP = """
import sys
from sol_core.generation.warm_up import KernelWarmUp
bits = int(sys.argv[2]) if sys.argv[2:] else None
KernelWarmUp(sys.argv[1], "cpu", bits=bits).wait(lambda *progress: None)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    extent = parser.add_mutually_exclusive_group()
    cli.add_flag(extent, "all", "also what only a release needs")
    cli.add_flag(extent, "fast", f"leave out what takes long: pytest -m '{FAST}'")
    text = "also what only a release needs of the paths changed since a commit"
    cli.add_texts(extent, {"since COMMIT": text})
    parser.set_defaults(extras=("test",), passes_rest_on=True, is_answered=False)


def run(args: argparse.Namespace) -> int:
    """Become pytest, in the project's folder, with the libraries set up as for the page."""
    environment.prepare(DataDir.resolve(None).root)
    os.chdir(PROJECT_ROOT)
    # Tests that are named are all run, whatever their marks.
    extent = FAST if args.fast else "" if args.all or _names_tests(args.rest) else LANDING
    selection = ["-m", extent] if extent else []
    if args.since:
        selection.append(f"--since={args.since}")
    # Chosen tests run in one process, so that -s, --pdb and -x mean what they say.
    parallel = [] if args.rest else _parallel()
    if parallel:
        _compile_kernels()
    replace_process([sys.executable, "-m", "pytest", *parallel, *selection, *args.rest])


def _names_tests(rest: list[str]) -> bool:
    """Return whether an argument is a path of tests, with or without ``::`` and a name."""
    paths = [(PROJECT_ROOT / argument.partition("::")[0]).resolve() for argument in rest]
    return any(path.exists() and path.is_relative_to(PROJECT_ROOT / "tests") for path in paths)


def _parallel() -> list[str]:
    """Two processes that share the cores; a file's tests stay together, in conftest.py's order."""
    # With a thread per core each, Numba's kernels would be eight times slower.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if (cores or 1) < WORKERS:
        return []
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str((cores or 1) // WORKERS))
    return ["-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"]


def _compile_kernels() -> None:
    """Once, before each process of the suite would; in the formats that tests load models in."""
    command = [sys.executable, "-c", WARM_UP]
    for kinds in ([["float32"], ["bfloat16"]], [["auto", "4"], ["float32", "4"]]):
        for process in [subprocess.Popen([*command, *kind]) for kind in kinds]:
            process.wait()

"""The self-test of a card, kept for each card, driver, torch, Triton, dtype and source.

It runs in a child process, so that an error of CUDA cannot spoil the page.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from kernels.gpu.triton_support import OPERATIONS, use_reference
from sol_core.files.fetch import own_python_path, run_module
from sol_core.models.card import checks as checks_module
from sol_core.models.card.checks import CHECKS, GRAPHS, STEPS
from sol_core.models.step.graph import StepGraphs
from sol_core.progress import Progress

FOLDER = "cards"  # in the data directory
CHILD_SECONDS = 900.0  # a child compiles about 30 kernels
_HERE = Path(__file__).resolve()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CardReport:
    card: str  # its name, as CUDA tells it
    replaced: dict[str, str] = field(default_factory=dict)  # by operation whose kernels failed, why
    graphs: str | None = None  # why steps do not run in CUDA graphs; None where they do
    missing: str | None = None  # what the system lacks for Triton; nothing was tried then

    def sentences(self) -> list[str]:
        if self.missing is not None:
            return [f"Compressed steps run on PyTorch alone, slowly. {self.missing}"]
        made = [
            f"{operation} runs on PyTorch's reference, not on its Triton kernel: {reason}"
            for operation, reason in self.replaced.items()
        ]
        if self.graphs is not None:
            made.append(f"Steps start kernel by kernel, without CUDA graphs: {self.graphs}")
        return made

    def apply(self) -> None:
        """Switch this process to what was found right, and log the rest."""
        use_reference(OPERATIONS if self.missing is not None else self.replaced)
        StepGraphs.off = self.graphs
        for sentence in self.sentences():
            _log.warning("%s", sentence)


def checked_card(
    device: torch.device, dtype: torch.dtype, data_dir: Path, report: Progress
) -> CardReport:
    """The kept result of this card's self-test, or that of one that is run now."""
    known = kept_report(device, dtype, data_dir)
    if known is not None:
        return known
    name = str(dtype).removeprefix("torch.")
    card = torch.cuda.get_device_name(device)
    made = run_checks(card, lambda checks: _run_child(device, name, checks, report))
    with contextlib.suppress(OSError):  # a full disk: it is tested again at the next start
        path = _path(device, dtype, data_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(made)), "utf-8")
    return made


def kept_report(device: torch.device, dtype: torch.dtype, data_dir: Path) -> CardReport | None:
    """Result without a test: what the system lacks, or what an earlier test found; else None."""
    missing = missing_for_triton()
    if missing is not None:  # not kept: it must be installed
        return CardReport(torch.cuda.get_device_name(device), missing=missing)
    try:
        return CardReport(**json.loads(_path(device, dtype, data_dir).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def run_checks(
    card: str,
    run_child: Callable[[Sequence[str]], tuple[str, int]],  # its output so far, and its status
) -> CardReport:
    errors: dict[str, str] = {}
    pending = list(CHECKS)
    while pending:
        output, status = run_child(pending)
        done, failed = _results(output, status)
        errors |= failed
        if not done and not failed:  # it did not come to its first check
            words = output.strip().splitlines() or [f"it ended with status {status}"]
            errors |= dict.fromkeys(pending, f"the self-test did not start: {words[-1][:200]}")
            break
        pending = [name for name in pending if name not in done and name not in failed]
        if STEPS in failed:  # the graphs' steps would be no better
            break
    replaced = {name: errors[name] for name in OPERATIONS if name in errors}
    if STEPS in errors and not replaced:
        replaced = dict.fromkeys(OPERATIONS, errors[STEPS])
    return CardReport(card, replaced, errors.get(GRAPHS, errors.get(STEPS)))


def _results(output: str, status: int) -> tuple[set[str], dict[str, str]]:
    """Names of the checks that passed, and the errors of those that did not."""
    passed, failed, begun = set(), {}, None
    for line in output.splitlines():
        try:
            name, *error = json.loads(line)
        except (ValueError, TypeError):
            continue  # of a library
        if name not in CHECKS:
            continue
        begun = None if error else name
        if error == [None]:
            passed.add(name)
        elif error:
            failed[name] = str(error[0])
    if begun is not None:
        failed[begun] = f"the process that tried it ended with status {status}"
    return passed, failed


class _TooLongError(Exception):
    """A child has used up its time."""


def _run_child(
    device: torch.device, dtype: str, checks: Sequence[str], report: Progress
) -> tuple[str, int]:
    began, output = time.monotonic(), ""

    def look(so_far: str) -> None:
        nonlocal output
        output = so_far
        passed, failed = _results(so_far, 0)
        done = len(CHECKS) - len(checks) + len(passed) + len(failed)
        report("testing the GPU's kernels, once", min(0.9, done / len(CHECKS)))
        if time.monotonic() - began > CHILD_SECONDS:
            raise _TooLongError

    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(device), dtype, *checks]
        try:
            result = run_module(
                checks_module.__name__,
                arguments,
                Path(folder),
                environment={"PYTHONPATH": own_python_path()},
                on_poll=look,
            )
        except _TooLongError:
            return output, -1
    return result.stdout, result.returncode


def _path(device: torch.device, dtype: torch.dtype, data_dir: Path) -> Path:
    driver = Path("/proc/driver/nvidia/version")
    parts = [
        torch.cuda.get_device_name(device),
        str(torch.cuda.get_device_capability(device)),
        driver.read_text("utf-8") if driver.is_file() else "",
        torch.__version__,
        importlib.metadata.version("triton"),
        str(dtype),
    ]
    digest = hashlib.sha256("\n".join(parts).encode())
    sources = [*_HERE.parent.glob("*.py"), *(_HERE.parents[1] / "step").glob("*.py")]
    # In a checkout, kernels lies beside sol_core; in a wheel, within it.
    for home in (_HERE.parents[3] / "kernels", _HERE.parents[2] / "kernels"):
        for pattern in ("*/triton_*.py", "*/__init__.py", "gpu/*.py"):
            sources += home.glob(pattern)
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return data_dir / FOLDER / f"{digest.hexdigest()[:32]}.json"


def missing_for_triton() -> str | None:
    """The first part that is missing, in a sentence with the package to install."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    compiler = os.environ.get("CC", "").strip()
    if compiler and shutil.which(compiler.split()[0]) is None:
        return f"Triton needs a C compiler, and CC names {compiler!r}, which is not here: unset CC"
    if not compiler and not (shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler: sudo apt install gcc (Fedora: sudo dnf install gcc)"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not headers.is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"Triton needs {headers}: sudo apt install python{version}-dev "
            "(Fedora: sudo dnf install python3-devel)"
        )
    try:
        if torch.version.hip is None:
            ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (
            "Triton needs libcuda.so.1, a part of NVIDIA's driver: install the driver, or in a "
            "container start it with --gpus all (NVIDIA Container Toolkit)"
        )
    return None

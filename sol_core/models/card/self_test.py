"""The self-test of a card, stored per card, driver, torch, Triton, dtype, widths and source.

It runs in a child process, so a CUDA error cannot break the page. Only verdicts on numbers are
stored; checks that failed for lack of memory, time or a compiler run again at the next load.
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
import sysconfig
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kernels.gpu import triton_support as gpu
from sol_core.files.fetch import own_python_path, run_module
from sol_core.models.card import checks as checks_module
from sol_core.models.card.checks import CHECKS, GRAPHS, STEPS
from sol_core.models.card.operations import WrongNumbersError
from sol_core.models.card.small_model import Widths
from sol_core.models.step.graph import StepGraphs
from sol_core.progress import Progress

FOLDER = "cards"  # in the data directory
CHILD_SECONDS = 900.0  # a child compiles about 30 kernels
# Runs pending checks with some operations replaced; returns the output so far and the status.
RunChild = Callable[[Sequence[str], Collection[str]], tuple[str, int]]
Verdicts = dict[str, str | None]  # by check; None for right numbers
_REPORTS: dict[Path, CardReport] = {}  # this process's, by the path of their file
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CardReport:
    """A card's verdicts and their consequences."""

    verdicts: Verdicts = field(default_factory=dict)
    missing: str | None = None  # what Triton lacks here; then nothing was tested

    @property
    def replaced(self) -> dict[str, str]:
        """Return the operations that run on their references, and why."""
        if self.missing is not None:
            return dict.fromkeys(gpu.OPERATIONS, self.missing)
        verdict = self.verdicts.get
        wrong = {name: why for name in gpu.OPERATIONS if (why := verdict(name)) is not None}
        if (steps := verdict(STEPS)) is not None:
            return dict.fromkeys(gpu.OPERATIONS, steps) | wrong
        pairs = ((outer, name) for outer, inner in gpu.OPERATIONS.items() for name in inner)
        return {outer: f"it contains {name}" for outer, name in pairs if name in wrong} | wrong

    @property
    def graphs(self) -> str | None:
        """Return why steps do not run in CUDA graphs; None if they do."""
        return self.verdicts.get(GRAPHS) or self.verdicts.get(STEPS)

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
        """Switch off what was found wrong in this process, for all its models, and log it."""
        gpu.use_reference(gpu.replaced_operations().union(self.replaced))
        StepGraphs.off = self.graphs or StepGraphs.off
        for sentence in self.sentences():
            _log.warning("%s", sentence)


def checked_card(
    device: torch.device, dtype: torch.dtype, widths: Widths, data_dir: Path, report: Progress
) -> CardReport:
    """Return the card's verdicts for a model, running missing checks once per process."""
    if (missing := missing_for_triton()) is not None:  # not stored, as it may be installed
        return CardReport(missing=missing)
    name = "-".join(map(str, (_digest(device, dtype), *widths)))
    path = data_dir / FOLDER / f"{name}.json"
    if path in _REPORTS:
        return _REPORTS[path]

    def run_child(checks: Sequence[str], replaced: Collection[str]) -> tuple[str, int]:
        kind = str(dtype).removeprefix("torch.")
        arguments = str(device), kind, json.dumps(widths), json.dumps(sorted(replaced))
        return _run_child([*arguments, *checks], report)

    made = _REPORTS[path] = run_checks(run_child, _kept(path))
    with contextlib.suppress(OSError):  # a full disk: tests run again at the next start
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_on_numbers(made.verdicts)), "utf-8")
    return made


def forget_verdicts(data_dir: Path) -> None:
    """Make the next load repeat all tests of its card."""
    _REPORTS.clear()
    for path in (data_dir / FOLDER).glob("*.json"):
        path.unlink()


def kept_reports(device: torch.device, dtype: torch.dtype, data_dir: Path) -> list[CardReport]:
    """Read stored reports without testing: what Triton lacks here, or the verdicts per model."""
    if (missing := missing_for_triton()) is not None:
        return [CardReport(missing=missing)]
    paths = sorted((data_dir / FOLDER).glob(f"{_digest(device, dtype)}-*.json"))
    kept = map(_kept, paths)
    return [CardReport(verdicts) for verdicts in kept if len(verdicts) == len(CHECKS)]


def run_checks(run_child: RunChild, known: Verdicts | None = None) -> CardReport:
    """Run checks that have no verdict; steps and graphs use the operations that passed."""
    report = CardReport(dict(known or {}))
    while pending := [name for name in CHECKS if name not in report.verdicts]:
        output, status = run_child(pending, report.replaced)
        verdicts = _results(output, status)
        if not verdicts:  # it failed before the first check
            words = output.strip().splitlines() or [f"it ended with status {status}"]
            verdicts = dict.fromkeys(pending, f"the self-test did not start: {words[-1][:200]}")
        report.verdicts.update(verdicts)
        if report.verdicts.get(STEPS) is not None:  # the graphs' steps would fail, too
            report.verdicts.setdefault(GRAPHS, report.verdicts[STEPS])
    return report


def _on_numbers(verdicts: Mapping[str, str | None]) -> Verdicts:
    wrong = WrongNumbersError.__name__
    kept = {name: why for name, why in verdicts.items() if why is None or why.startswith(wrong)}
    # Steps ran without operations that lack a verdict, and graphs consist of such steps.
    for name, before in ((STEPS, gpu.OPERATIONS), (GRAPHS, (*gpu.OPERATIONS, STEPS))):
        if not kept.keys() >= set(before):
            kept.pop(name, None)
    return kept


def _kept(path: Path) -> Verdicts:
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and set(known) <= set(CHECKS) else {}


def _results(output: str, status: int) -> Verdicts:
    """Parse the verdicts of the checks that began."""
    verdicts: Verdicts = {}
    for line in output.splitlines():
        try:
            name, *verdict = json.loads(line)
        except (ValueError, TypeError):
            continue  # a library's output
        if name in CHECKS:
            died = f"the process that tried it ended with status {status}"
            verdicts[name] = verdict[0] if verdict else died
    return verdicts


def _run_child(arguments: Sequence[str], report: Progress) -> tuple[str, int]:
    began, output = time.monotonic(), ""

    def look(so_far: str) -> None:
        nonlocal output
        output = so_far
        left = sum(name in arguments for name in CHECKS) - len(_results(so_far, 0))
        report("testing the GPU's kernels, once", min(0.9, 1 - left / len(CHECKS)))
        if time.monotonic() - began > CHILD_SECONDS:
            raise TimeoutError

    with tempfile.TemporaryDirectory() as folder:
        try:
            path, module = {"PYTHONPATH": own_python_path()}, checks_module.__name__
            result = run_module(module, arguments, Path(folder), environment=path, on_poll=look)
        except TimeoutError:
            return output, -1
    return result.stdout, result.returncode


def _digest(device: torch.device, dtype: torch.dtype) -> str:
    """Return a digest of the card, its driver, versions, the dtype and the checked source."""
    driver = Path("/proc/driver/nvidia/version")
    card = torch.cuda.get_device_name(device), str(torch.cuda.get_device_capability(device))
    versions = torch.__version__, importlib.metadata.version("triton"), str(dtype)
    parts = *card, driver.read_text("utf-8") if driver.is_file() else "", *versions
    digest = hashlib.sha256("\n".join(parts).encode())
    here, kernels = Path(__file__).resolve().parent, Path(gpu.__file__).parents[1]
    for folder in (here, here.parent / "step", kernels):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def missing_for_triton() -> str | None:
    """Describe the first part that Triton lacks here, and the package to install."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    compiler = os.environ.get("CC", "").strip()
    if compiler and shutil.which(compiler.split()[0]) is None:
        return f"Triton needs a C compiler, and CC names {compiler!r}, which is not here: unset CC"
    if not compiler and not (shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler: sudo apt install gcc (Fedora: sudo dnf install gcc)"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not headers.is_file():
        return (
            f"Triton needs {headers}: sudo apt install python{sysconfig.get_python_version()}-dev "
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

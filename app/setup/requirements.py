"""The packages that pyproject.toml asks for, which of them an interpreter lacks, and whose torch.

Nothing is imported. A Python without ``packaging`` has none of our dependencies either, so there
the name alone decides.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.host.errors import BootstrapError
from app.host.hosting import is_checkout

BASE = "base"  # the group of what the program itself needs, beside the extras
APP = "app"  # the extra that the page and the commands add to the engine's dependencies
DISTRIBUTION = "sol-explorer"  # pyproject.toml's name
# PyPI's torch for Linux brings the newest CUDA along, three gigabytes to fetch.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_12_INDEX = "https://download.pytorch.org/whl/cu126"
OLDEST_CUDA = (12, 0)  # of the releases of torch that we take
_INDEX_SETTING = re.compile(r"\.(?:index-url|extra-index-url|no-index)=", re.MULTILINE)
NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def read_requirements(pyproject: Path, extras: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """Requirements by group: ``BASE`` and all ``extras``. Raises: BootstrapError."""
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        optional = project.get("optional-dependencies", {})
        groups = {BASE: (*project.get("dependencies", ()), *optional.get(APP, ()))}
        return groups | {extra: tuple(optional[extra]) for extra in extras}
    except (OSError, KeyError, ValueError) as error:
        raise BootstrapError(
            f"cannot read the dependencies from {pyproject} ({error}): "
            "restore the file from the repository"
        ) from error


def project_requirements(root: Path) -> tuple[str, ...]:
    """Requirements of the page and the commands: the checkout's in ``root``, or the package's."""
    if is_checkout(root):
        return read_requirements(root / "pyproject.toml")[BASE]
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in requires(DISTRIBUTION) or []]
    except PackageNotFoundError as error:
        raise BootstrapError(
            f"{root} is neither a checkout nor an installed package: install {DISTRIBUTION} again"
        ) from error

    return tuple(
        f"{requirement.name}{requirement.specifier}"
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": APP})
    )


def digest(requirements: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(sorted(requirements)).encode()).hexdigest()


def requirement_name(text: str) -> str:
    """``"torch>=2.8; sys_platform == 'linux'"`` → ``torch``."""
    match = NAME.match(text)
    return match[1] if match else text


def unmet(requirements: Sequence[str]) -> list[str]:
    """The requirements that this interpreter lacks in a fitting version, in their order."""
    return [text for text in requirements if not _is_met(text)]


def _is_met(text: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return installed_version(requirement_name(text)) is not None
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = installed_version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def installed_version(name: str) -> str | None:
    """A package's version; None of one that this interpreter lacks."""
    import importlib.metadata  # 15 ms, which a complete .venv never pays

    for distribution in importlib.metadata.distributions(name=name):
        # A half-removed package leaves a folder whose metadata has no version.
        if version := distribution.metadata["Version"]:
            return str(version)
    return None


def torch_index(python: Path) -> str | None:
    """The index for torch, None for pip's own; one that the user has set is torch's as well."""
    if sys.platform != "linux" or _has_index_of_its_own(python):
        return None
    if not _wants_cuda():
        return CPU_INDEX
    return CUDA_12_INDEX if driver_cuda() < (13, 0) else None


def driver_cuda() -> tuple[int, int]:
    """The newest CUDA that NVIDIA's driver for Linux runs; (0, 0) without a driver."""
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return (0, 0)
    return version.value // 1000, version.value % 1000 // 10


def why_gpu_is_unused() -> str | None:
    """Reason that a torch without CUDA leaves this machine's GPU unused; None without a driver."""
    known = driver_cuda()
    if known == (0, 0):
        return None
    if known < OLDEST_CUDA:
        return (
            f"the NVIDIA driver runs CUDA {known[0]}.{known[1]} at most, torch needs "
            f"{OLDEST_CUDA[0]}.{OLDEST_CUDA[1]}: install a newer driver"
        )
    return "an NVIDIA driver is here, but torch has no CUDA"


def needed_bytes() -> int:
    """Disk that all packages need: 6.1 GB unpacked with CUDA, 2.8 without, and pip's own files."""
    if sys.platform != "linux":
        return 3 * 1000**3
    return (7 if _wants_cuda() else 4) * 1000**3


def _wants_cuda() -> bool:
    return driver_cuda() >= OLDEST_CUDA


def _has_index_of_its_own(python: Path) -> bool:
    command = [str(python), "-I", "-m", "pip", "config", "list"]
    settings = subprocess.run(command, capture_output=True, text=True, check=False)
    return _INDEX_SETTING.search(settings.stdout) is not None

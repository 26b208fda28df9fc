"""Finished batches of an interrupted measurement: one file each, written in one rename.

A batch is as many texts or questions as a stage rolls out at once (some seconds of work). A
resumed measurement reads the finished batches back and runs the others; its result is the
uninterrupted one's. Files of other settings, another policy or another text are passed over, and
so is a damaged one: its batch is run again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sol_core.comparing.rollout import Floats
from sol_core.files.safetensors_files import read_safetensors
from sol_core.files.staging import publish

if TYPE_CHECKING:
    from sol_core.comparing.contenders import Contender

SCHEMA = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of a stage.

    Attributes:
        first: number that names its file: of its first text, or of the batch.
        count: of its texts or continuations.
        work: in steps of one row.
    """

    first: int
    count: int
    work: float


class Stage(Protocol):
    """A part of a measurement that runs in batches, in order."""

    @property
    def name(self) -> str:
        """The first part of its partial results' file names."""
        ...

    @property
    def batches(self) -> Sequence[Batch]: ...

    def message(self, batch: Batch) -> str:
        """The progress line once the batch is done."""
        ...

    def run(self, batch: Batch) -> None: ...

    def saved(self, batch: Batch) -> dict[str, Floats]:
        """The arrays that ``restore`` needs of a batch that has just run."""
        ...

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        """Take a batch as run."""
        ...


class PartialResults:
    """The files of one measurement.

    Args:
        folder: made when the first batch is saved; None keeps nothing.
        key: what decides the numbers besides the machine, as ``evaluation_key`` gives it.

    Attributes:
        seconds: work that the restored batches stand for.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder, self._key = folder, key
        self._is_failing = False
        self.seconds = 0.0

    def restore(self, stage: Stage, batch: Batch) -> bool:
        """Put a finished batch back into its stage; False when there is none."""
        path = self._path(stage, batch)
        if path is None or not path.is_file():
            return False
        try:
            header, arrays = read_safetensors(path, "numpy")
        except (OSError, ValueError) as error:
            _LOG.warning("%s is damaged and passed over: %s", path, error)
            return False
        if header.get("key") != self._key or header.get("count") != str(batch.count):
            return False
        stage.restore(batch, arrays)
        self.seconds += float(header["seconds"])
        return True

    def save(self, stage: Stage, batch: Batch, seconds: float) -> None:
        """Keep a batch that took ``seconds``. A full disk is logged; the measurement goes on."""
        path = self._path(stage, batch)
        if path is None:
            return
        header = {"key": self._key, "count": str(batch.count), "seconds": repr(seconds)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, stage.saved(batch), header)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                _LOG.warning("partial results cannot be kept in %s: %s", path.parent, error)
            self._is_failing = True

    def _path(self, stage: Stage, batch: Batch) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{stage.name}-{batch.first:06}.safetensors"


def evaluation_key(
    config: Mapping[str, Any],
    fingerprint: str,
    contenders: Sequence[Contender],
    blocks: Sequence[Sequence[int]],
) -> str:
    """SHA-256 of what decides a measurement's numbers.

    Args:
        fingerprint: of the language model and its number format.
    """
    record = {
        "schema": SCHEMA,
        "config": config,
        "model": fingerprint,
        "policies": [[contender.name, contender.fingerprint] for contender in contenders],
        "texts": [list(block) for block in blocks],
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _write(path: Path, arrays: Mapping[str, Floats], header: dict[str, str]) -> None:
    from safetensors.numpy import save

    staged = path.with_suffix(".part")
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, header)
    try:
        staged.write_bytes(data)
        publish(staged, path, path.parent)
    finally:
        staged.unlink(missing_ok=True)

"""Runs evaluations and tasks in stages of batches, and resumes them.

``should_stop`` is polled between batches (some seconds). Each finished batch is a file, written
atomically. A resumed measurement reads it back and gives the uninterrupted result. Files of other
settings, policies or texts and damaged files are ignored.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import save

from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.rollout import Floats
from sol_core.files.staging import flush_to_disk, read_safetensors, replacing, sealed
from sol_core.models.loading import LanguageModel
from sol_core.progress import WorkProgress

SCHEMA = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts or continuations that a stage runs, saves and restores together."""

    first: int  # number in its file's name: its first text's, or the batch's
    count: int  # number of texts or continuations
    work: float  # in steps of one row


class Stage(Protocol):
    """A part of a measurement that runs in batches, in order; its name begins its files' names."""

    @property
    def name(self) -> str: ...
    @property
    def batches(self) -> Sequence[Batch]: ...
    def message(self, batch: Batch) -> str: ...  # progress line after the batch
    def run(self, batch: Batch) -> None: ...
    def saved(self, batch: Batch) -> dict[str, Floats]: ...  # input of ``restore``
    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None: ...


class BatchRunner:
    """Runs stages, saves and restores their batches, and reports progress."""

    def __init__(
        self,
        should_stop: Callable[[], bool],
        work: float,  # total of all batches, in the unit of ``Batch.work``
        folder: Path | None,  # for partial results; None keeps nothing
        key: str,  # see ``measurement_key``
    ) -> None:
        self._should_stop, self._work, self._folder, self._key = should_stop, work, folder, key
        self._done = self._restored_s = 0.0
        self._began = time.perf_counter()
        self._is_failing = False
        self.stopped = False  # stopped by ``should_stop``

    def run(self, stage: Stage) -> Iterator[WorkProgress]:
        """Run a stage; yield progress after each batch that was not restored."""
        for batch in stage.batches:
            if self._should_stop():
                self.stopped = True
                return
            self._done += batch.work
            if self._restore(stage, batch):
                continue
            began = time.perf_counter()
            stage.run(batch)
            self._save(stage, batch, time.perf_counter() - began)
            fraction = min(1.0, self._done / self._work)
            left = self.elapsed_s * (1 - fraction) / fraction
            yield WorkProgress(fraction, stage.message(batch), left)

    @property
    def elapsed_s(self) -> float:
        """Return the time worked, including before interruptions."""
        return self._restored_s + time.perf_counter() - self._began

    def _restore(self, stage: Stage, batch: Batch) -> bool:
        """Restore a finished batch; return False if there is none."""
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
        self._restored_s += float(header["seconds"])
        return True

    def _save(self, stage: Stage, batch: Batch, seconds: float) -> None:
        """Save a batch that took ``seconds``. If the disk is full, log it and continue."""
        path = self._path(stage, batch)
        if path is None:
            return
        header = {"key": self._key, "count": str(batch.count), "seconds": repr(seconds)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays = {k: np.ascontiguousarray(part) for k, part in stage.saved(batch).items()}
            with replacing(path) as staged:
                staged.write_bytes(save(arrays, sealed(arrays, header)))
                flush_to_disk(staged)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                _LOG.warning("partial results cannot be kept in %s: %s", path.parent, error)
            self._is_failing = True

    def _path(self, stage: Stage, batch: Batch) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{stage.name}-{batch.first:06}.safetensors"


def measurement_key(
    model: LanguageModel,
    contenders: Sequence[Contender],
    config: Mapping[str, Any],  # with former fields, so earlier releases' batches are found
    texts: Sequence[Sequence[int]],
    program: str = "",  # distinguishes measurements with equal settings and texts
) -> str:
    """Return a SHA-256 of everything that determines a measurement besides the machine."""
    name = f"{model.fingerprint} {model.dtype_name} {model.device_name}"
    record = {
        "schema": SCHEMA,
        "config": config,
        "model": name + program,
        "policies": [[contender.name, contender.fingerprint] for contender in contenders],
        "texts": [list(text) for text in texts],
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

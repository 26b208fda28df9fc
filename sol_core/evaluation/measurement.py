"""The driver of evaluation and tasks: stage after stage, batch after batch.

``should_stop`` is asked between batches (some seconds). A finished batch is a file, written in one
rename: a resumed measurement reads it back, and its result is the uninterrupted one's. Files of
other settings, another policy or another text are passed over, and so is a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from sol_core.comparing.contenders import Contender
from sol_core.comparing.rollout import Floats
from sol_core.files.staging import publish, read_safetensors
from sol_core.models.loading import LanguageModel
from sol_core.progress import WorkProgress

if TYPE_CHECKING:
    from sol_core.comparing.contenders import Contender

SCHEMA = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of a stage."""

    first: int  # number that names its file: of its first text, or of the batch
    count: int  # of its texts or continuations
    work: float  # in steps of one row


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
    """SHA-256 of what decides a measurement's numbers."""
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


class _Config(Protocol):
    FORMER_FIELDS: ClassVar[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]: ...


ConfigT = TypeVar("ConfigT", bound=_Config)


class BatchRunner:
    """Runs stages, keeps and restores their batches, reports.

    Args:
        work: of all batches of all stages, in the unit of ``Batch.work``.

    Attributes:
        stopped: ``should_stop`` was obeyed.
    """

    def __init__(self, kept: PartialResults, should_stop: Callable[[], bool], work: float) -> None:
        self._kept, self._should_stop, self._work = kept, should_stop, work
        self._done = 0.0
        self._began = time.perf_counter()
        self.stopped = False

    def over(self, stage: Stage) -> Iterator[WorkProgress]:
        """Yield a report after every batch that was not restored."""
        for batch in stage.batches:
            if self._should_stop():
                self.stopped = True
                return
            self._done += batch.work
            if self._kept.restore(stage, batch):
                continue
            began = time.perf_counter()
            stage.run(batch)
            self._kept.save(stage, batch, time.perf_counter() - began)
            fraction = min(1.0, self._done / self._work)
            left = self.elapsed_s * (1 - fraction) / fraction
            yield WorkProgress(fraction, stage.message(batch), left)

    @property
    def elapsed_s(self) -> float:
        """Time worked, before an interruption too."""
        return self._kept.seconds + time.perf_counter() - self._began


@dataclass(frozen=True, slots=True)
class Measurement(Generic[ConfigT]):
    """Model, policies and settings of an evaluation or of tasks, and how it ends early.

    Attributes:
        partial: folder in which finished batches are kept and found again; None keeps nothing.
    """

    model: LanguageModel
    contenders: Sequence[Contender]
    config: ConfigT
    should_stop: Callable[[], bool]
    partial: Path | None

    def runner(
        self,
        texts: Sequence[Sequence[int]],
        work: float,
        program: str = "",
        apart: Sequence[str] = (),
    ) -> BatchRunner:
        """Return a runner whose partial results are valid for this measurement of these texts.

        Args:
            program: what measures, where configuration and texts do not tell.
            apart: fields of the configuration that no batch's numbers depend on.
        """
        model = f"{self.model.fingerprint} {self.model.dtype_name} {self.model.device_name}"
        # With former fields, so that what an earlier release began is found.
        config = self.config.FORMER_FIELDS | self.config.to_dict()
        config = {name: value for name, value in config.items() if name not in apart}
        key = evaluation_key(config, model + program, self.contenders, texts)
        return BatchRunner(PartialResults(self.partial, key), self.should_stop, work)

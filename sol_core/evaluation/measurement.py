"""The driver of evaluation and tasks: stage after stage, batch after batch.

``should_stop`` is asked between batches (some seconds). With a folder for partial results, work
that was stopped or killed goes on at the batch it had not finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from sol_core.comparing.contenders import Contender
from sol_core.comparing.partial import PartialResults, Stage, evaluation_key
from sol_core.models.loading import LanguageModel
from sol_core.progress import WorkProgress


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

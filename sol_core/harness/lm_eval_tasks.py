"""Tasks of the package lm-eval by name: dense, the policy, and static at what the policy spent.

lm-eval asks the questions and scores the answers, on ``SolLM`` of ``sol_core/lm_eval_model.py``;
every method is one run of its ``evaluate``. The result is that of the project's own tasks, where
lm-eval says as much: accuracy and its gains by question, and what the run spent. lm-eval is
optional, so it is imported when it is asked for.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch

from sol_core.actions import DENSE, SHORT_AXES, Budget, grid_name
from sol_core.comparing.methods import derive_seed
from sol_core.comparing.rollout import Floats
from sol_core.errors import ConfigError, CorpusError, SolError
from sol_core.evaluation.config import check_budgets
from sol_core.fields import Range, Seed, check_fields, setting
from sol_core.generation.engine import never
from sol_core.models.loading import LanguageModel
from sol_core.policy import Policy, load_policy
from sol_core.progress import WorkEvent, WorkFinished, WorkProgress, WorkStopped
from sol_core.tasks.config import DEFAULT_BUDGETS, MAX_BUDGETS
from sol_core.tasks.result import SCHEMA, MethodScores, ScoredTask, pooled_records, summary_record

if TYPE_CHECKING:
    from sol_core.lm_eval_model import SolLM

INSTALL = "pip install 'lm-eval>=0.4.13'"
# Of a task's scores of single questions, the one that is compared: the first of these that it has.
PREFERRED = ("acc_norm", "acc", "exact_match")
_NAME = "lm-eval"  # decides the bootstraps' seeds, beside each task's name


@dataclass(frozen=True, slots=True)
class LmEvalConfig:
    """Everything that decides the numbers besides the model, the policy and the machine.

    Attributes: see each field's help.
    """

    tasks: tuple[str, ...] = field(
        metadata={"help": "tasks, groups, tags or patterns of lm-eval, by name"}
    )
    limit: Annotated[int, Range(2, 1_000_000)] = setting(
        500, "questions of each task, its first ones, at most"
    )
    budgets: tuple[Budget, ...] = setting(
        DEFAULT_BUDGETS, f"mean spends to ask for: {', '.join(SHORT_AXES)}"
    )
    seed: Seed = setting(0, "decides intervals")
    include_path: str | None = setting(
        None, "a folder with tasks of your own, as lm-eval's YAML files"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.tasks:
            raise ConfigError("no task of lm-eval given; name some, as in arc_easy,gsm8k")
        check_budgets(self.budgets, MAX_BUDGETS)
        if self.include_path is not None and not Path(self.include_path).is_dir():
            raise ConfigError(f"{self.include_path} is no folder of lm-eval tasks")


@dataclass(frozen=True, slots=True)
class LmEvalTasks:
    """Tasks of lm-eval that are loaded, their questions among them.

    Attributes:
        config: that named them.
        tasks: lm-eval's objects, by the tasks' names; groups are taken apart.
        metrics: of each task, the score of single questions that is compared.
    """

    config: LmEvalConfig
    tasks: Mapping[str, Any]
    metrics: Mapping[str, str]


def open_lm_eval_tasks(config: LmEvalConfig) -> LmEvalTasks:
    """Find and load tasks of lm-eval, before any model is loaded.

    Raises:
        ConfigError: lm-eval is not installed, has no such task, or the task has no score of single
            questions, runs the model's own code or shows pictures.
        CorpusError: the task's questions cannot be had.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        raise ConfigError(
            f"tasks of lm-eval need that package, which is not installed: {INSTALL}"
        ) from error
    manager = TaskManager(include_path=config.include_path)
    names = [found for name in config.tasks for found in _matching(name, manager)]
    try:
        tasks = dict(manager.load(list(dict.fromkeys(names)))["tasks"])
    except (OSError, ValueError, RuntimeError, ImportError, LookupError, TypeError) as error:
        raise CorpusError(
            f"lm-eval cannot load {', '.join(names)} ({error}): check the network, or name another "
            "task"
        ) from error
    return LmEvalTasks(config, tasks, {name: _metric(name, task) for name, task in tasks.items()})


def run_lm_eval_tasks(
    model: LanguageModel,
    name: str,
    policy_folder: Path,
    opened: LmEvalTasks,
    *,
    should_stop: Callable[[], bool] = never,
) -> Iterator[WorkEvent]:
    """Measure a policy on tasks of lm-eval against static at the same spend.

    Args:
        name: of the policy, for the result.
        opened: what ``open_lm_eval_tasks`` found.
        should_stop: asked before every run of lm-eval.
    Yields: WorkProgress; the last is WorkFinished, with a result as of the project's own tasks, or
        WorkStopped.
    Raises: before the first event, PolicyError for a policy of another model and ConfigError for a
        budget that its grid lacks; then ConfigError for what lm-eval refuses to run.
    """
    policy = load_policy(policy_folder, model)
    policy.check_model(model.fingerprint)
    for budget in opened.config.budgets:
        policy.info.grid.check_budget(budget)
    return _Run(model, name, policy, opened, should_stop).events()


class _Run:
    """State of one measurement while it runs."""

    def __init__(
        self,
        model: LanguageModel,
        name: str,
        policy: Policy,
        opened: LmEvalTasks,
        should_stop: Callable[[], bool],
    ) -> None:
        self._model, self._name, self._policy, self._opened = model, name, policy, opened
        self._should_stop = should_stop
        self._began = time.perf_counter()
        self._done = 0
        self._chance = 0.0  # of the task that ran last

    def events(self) -> Iterator[WorkEvent]:
        scored: list[ScoredTask] = []
        for task in self._opened.tasks:
            found: list[MethodScores] = []  # dense, then policy and static at every budget
            for budget, kind in self._methods():
                if self._should_stop():
                    yield WorkStopped()
                    return
                yield self._progress(f"{task}: {kind}")
                # Static gets what the policy spent, which ran just before it.
                found.append(self._scores(task, kind, budget or found[-1].spend))
            scored.append(self._scored(task, found))
        yield WorkFinished(self._result(scored))

    def _methods(self) -> Iterator[tuple[Budget | None, Literal["dense", "policy", "static"]]]:
        yield Budget(*DENSE.as_tuple()), "dense"
        for budget in self._opened.config.budgets:
            yield budget, "policy"
            yield None, "static"

    def _progress(self, message: str) -> WorkProgress:
        runs = len(self._opened.tasks) * (1 + 2 * len(self._opened.config.budgets))
        self._done += 1
        return WorkProgress((self._done - 1) / runs, message)

    def _scores(
        self, task: str, kind: Literal["dense", "policy", "static"], budget: Budget
    ) -> MethodScores:
        """One run of lm-eval."""
        from lm_eval.evaluator import evaluate

        from sol_core.lm_eval_model import SolLM

        axes: dict[str, Any] = dict(zip(SHORT_AXES, budget.as_tuple(), strict=True))
        lm = SolLM(
            self._model,
            self._policy if kind == "policy" else "",
            "" if kind == "policy" else kind,
            grid=self._policy.info.grid,
            **axes,
        )
        one = self._opened.tasks[task]
        if one.get_config("num_fewshot") is None:
            one.set_config(key="num_fewshot", value=0)
        one.set_fewshot_seed(seed=self._opened.config.seed)
        try:
            with torch.no_grad():
                found = evaluate(
                    lm, {"tasks": {task: one}}, limit=self._opened.config.limit, bootstrap_iters=0
                )
        except SolError:
            raise
        except ValueError as error:
            raise ConfigError(f"lm-eval refuses to run {task}: {error}") from error
        answers = found["samples"][task]
        # Of the ways in which answers were read off, the first.
        asked = [one for one in answers if one["filter"] == answers[0]["filter"]]
        self._chance = _chance(one.OUTPUT_TYPE, asked)
        correct = np.asarray([float(one[self._opened.metrics[task]]) for one in asked])
        return _method(lm, correct)

    def _scored(self, task: str, found: list[MethodScores]) -> ScoredTask:
        methods = [
            {"policy": policy, "static": static}
            for policy, static in zip(found[1::2], found[2::2], strict=True)
        ]
        config = self._opened.config
        seed = derive_seed(config.seed, _NAME, task)
        return ScoredTask(task, config.budgets, found[0], methods, self._chance, seed)

    def _result(self, scored: list[ScoredTask]) -> dict[str, Any]:
        config = self._opened.config
        records = [one.record() | {"metric": self._opened.metrics[one.task]} for one in scored]
        return {
            "schema": SCHEMA,
            "source": _NAME,
            "policy": self._name,
            "grid": grid_name(self._policy.info.grid),
            "model": self._model.name,
            "fingerprint": self._model.fingerprint,
            "limit": config.limit,
            "seed": config.seed,
            "read_under_budget": False,
            "elapsed_s": time.perf_counter() - self._began,
            "tasks": records,
            "summary": summary_record(scored, records),
            "pooled": pooled_records(scored, derive_seed(config.seed, _NAME, "pooled")),
        }


def _matching(name: str, manager: Any) -> list[str]:
    """Names of lm-eval that a name or pattern means. Raises: ConfigError for none."""
    found = [str(one) for one in manager.match_tasks([name])]
    if not found:
        near = difflib.get_close_matches(name, manager.all_tasks, 3)
        hint = f"near it: {', '.join(near)}" if near else "lm-eval ls tasks lists them"
        raise ConfigError(f"lm-eval has no task {name!r}; {hint}")
    return found


def _metric(name: str, task: Any) -> str:
    """The score that is compared: a mean over questions, higher where better."""
    from lm_eval.api.metrics import mean

    better = task.higher_is_better()
    metrics = [one for one, how in task.aggregation().items() if how is mean and better.get(one)]
    if not metrics:
        raise ConfigError(
            f"{name} has no score of single questions that is better where it is higher (lm-eval's "
            f"are {', '.join(task.aggregation())}): run it with python -m sol_core.lm_eval_model"
        )
    return next((one for one in PREFERRED if one in metrics), metrics[0])


def _chance(kind: str, asked: list[dict[str, Any]]) -> float:
    """Share of questions that are right by chance: of those with choices, one of them."""
    if kind != "multiple_choice":
        return 0.0
    return float(np.mean([1 / len(one["resps"]) for one in asked]))


def _method(lm: SolLM, correct: Floats) -> MethodScores:
    none = np.full(len(correct), np.nan)
    spend = lm.mean_spend
    if spend is None:
        raise ConfigError("lm-eval asked the model nothing: the task has no questions")
    return MethodScores(correct, none, none, none, none, none, spend, float("nan"), lm.num_tokens)

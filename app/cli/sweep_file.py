"""The TOML file of a sweep: seeds, a training and an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from app.cli.experiment_file import Experiment, merged
from app.cli.job_options import corpus_source
from sol_core.errors import ConfigError
from sol_core.evaluation import EvaluationConfig
from sol_core.fields import Seed, check_fields, from_json
from sol_core.training import TrainConfig, preset


@dataclass(frozen=True, slots=True)
class Sweep:
    """Everything that decides a sweep besides the model and the machine.

    Attributes:
        seeds: of the trainings, one policy each; all are evaluated on the same texts.
        train: its ``seed`` is not used.
        evaluate: its ``seed`` decides texts, random schedules and intervals.
    """

    seeds: tuple[Seed, ...]
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds must be different numbers, got {list(self.seeds)}")
        for budget in self.evaluate.budgets:
            self.train.grid.check_budget(budget)


def read_sweep(experiment: Experiment) -> Sweep:
    """The whole sweep; its file says what differs from a preset and the defaults.

    Raises: ConfigError, InputFileError for a text that is not there.
    """
    train, evaluate = (_table(experiment, name) for name in ("train", "evaluate"))
    if "seed" in train:
        raise ConfigError("the trainings' seeds are named once, in seeds = [0, 1, 2]")
    name = train.pop("preset", None)
    base = TrainConfig() if name is None else preset(name)
    for table in (train, evaluate):
        if isinstance(corpus := table.get("corpus"), str):
            table["corpus"] = corpus_source(corpus)
    tables = {
        "train": merged(base.to_dict(), train),
        "evaluate": merged(EvaluationConfig().to_dict(), evaluate),
    }
    return from_json(Sweep, experiment.fields | tables)


def _table(experiment: Experiment, name: str) -> dict[str, Any]:
    table = experiment.fields.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{name} must be a table, as in [{name}]")
    return dict(table)

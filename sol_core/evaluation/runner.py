"""Runs an evaluation: the passes at matched spend, and the result.

Deterministic for a seed on one machine. ``measurement.py`` handles batches, stops and partial
results. Samples are means so far: ``{"texts", "budgets": [{"requested", "methods": {NAME: {"nll",
"kl"}}}]}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sol_core.actions import DENSE, SHORT_AXES, ActionGrid, Budget, grid_record
from sol_core.budgets.mixes import MixTable, mix_table
from sol_core.decoding.batch_scheduling import Schedule
from sol_core.decoding.cost import CostModel
from sol_core.errors import ContextLengthError
from sol_core.evaluation import result as results
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.contenders import Contender, load_contenders
from sol_core.evaluation.measurement import BatchRunner, measurement_key
from sol_core.evaluation.passes import (
    BaselinePass,
    OtherMethodsPass,
    PolicyPass,
    Setting,
    TablePass,
    derive_seed,
)
from sol_core.evaluation.statistics import PairedBootstrap
from sol_core.evaluation.texts import EvaluationTexts, load_texts
from sol_core.models.loading import LanguageModel
from sol_core.models.provenance import provenance
from sol_core.policy.policy import Policy
from sol_core.progress import (
    WorkEvent,
    WorkFinished,
    WorkProgress,
    WorkSample,
    WorkStopped,
    no_stop,
)


def evaluate(
    model: LanguageModel,
    policies: Mapping[str, Path | Policy | Schedule],  # the others match the first one's spend
    config: EvaluationConfig,
    *,
    data_dir: Path,  # holds corpora
    should_stop: Callable[[], bool] = no_stop,
    partial: Path | None = None,  # folder of finished texts, to resume from
    grid: ActionGrid | None = None,  # for functions; None is ``resolved_grid``'s
) -> Iterator[WorkEvent]:
    """Measure policies against the baselines at matched spend.

    Raises: before the first event, ConfigError, PolicyError or ContextLengthError for an invalid
        request; later, CorpusError if the text cannot be read or is too short.
    """
    contenders = load_contenders(model, policies, config.budgets, grid)
    mixes = mix_table(model, contenders[0].grid) if config.by_share else None
    if mixes is not None:
        for budget in config.budgets:
            mixes.check(budget.bytes_share, config.context + 1)
    if config.block_len - 1 > model.context_length:
        raise ContextLengthError(
            f"{config.context} tokens of context and {config.windows} · {config.steps} steps "
            f"exceed the context of {model.name}, {model.context_length}; shorten them"
        )

    def events() -> Iterator[WorkEvent]:
        yield WorkProgress(0.0, f"Reading the text of {config.corpus}")
        texts = load_texts(
            config.corpus,
            model.tokenizer,
            count=config.texts,
            block_len=config.block_len,
            seed=derive_seed(config.seed, "texts"),
            trained_on={contender.trained_on for contender in contenders} - {""},
            data_dir=data_dir,
        )
        run = _Run(model, contenders, config, texts, mixes)
        kept = config.FORMER_FIELDS | config.to_dict()
        # Distinguishes results from those of earlier releases.
        if contenders[1:]:
            kept |= {"rivals": "at the first one's spend"}
        if config.signals:
            kept |= {"signals": "again in each rollout"}
        key = measurement_key(model, contenders, kept, texts.blocks)
        yield from run.events(BatchRunner(should_stop, run.work, partial, key))

    return events()


class _Run:
    def __init__(
        self,
        model: LanguageModel,
        contenders: Sequence[Contender],
        config: EvaluationConfig,
        texts: EvaluationTexts,
        mixes: MixTable | None,
    ) -> None:
        self.model, self.config, self.texts = model, config, texts
        blocks = torch.tensor(texts.blocks[: config.texts], device=model.lm.device)
        grid = contenders[0].grid  # of all
        self.setting = setting = Setting(model.lm, contenders, config, blocks, mixes, grid)
        self.policies = PolicyPass(setting)
        self.baselines = BaselinePass(setting, self.policies)
        self.others = OtherMethodsPass(setting, self.policies) if contenders[1:] else None
        stages = self.policies, self.others, self.baselines
        self.stages: list[TablePass] = [stage for stage in stages if stage is not None]
        for number, stage in enumerate(self.stages, start=1):
            stage.part = f"part {number} of {len(self.stages)}"
        self.work = sum(batch.work for stage in self.stages for batch in stage.batches)

    def events(self, runner: BatchRunner) -> Iterator[WorkEvent]:
        for stage in self.stages:
            for progress in runner.run(stage):
                yield progress
                yield WorkSample(self._partial())
            if runner.stopped:
                yield WorkStopped()
                return
        yield self._finished(runner.elapsed_s)

    def _partial(self) -> dict[str, Any]:
        """Return means over the texts that all methods have finished."""
        windows = self.config.windows
        compared = self.baselines.done // windows
        count = compared or self.policies.done // windows
        return {
            "texts": count,
            "budgets": [
                {
                    "requested": results.asked_record(budget),
                    "methods": {
                        name: {
                            "nll": float(scores.nll[:count].mean()),
                            "kl": float(scores.kl[:count].mean()),
                        }
                        for name, scores in self._scores(index, compared).items()
                    },
                }
                for index, budget in enumerate(self.config.budgets)
            ],
        }

    def _finished(self, elapsed_s: float) -> WorkFinished:
        config, names = self.config, [contender.name for contender in self.setting.contenders]
        bootstrap = PairedBootstrap(config.texts, seed=derive_seed(config.seed, "bootstrap"))
        budgets = [self._budget(index, bootstrap) for index in range(len(config.budgets))]
        result = {
            "schema": results.SCHEMA,
            "policies": names,
            "policy": names[0],
            **grid_record(self.setting.grid),
            "model": self.model.name,
            "fingerprint": self.model.fingerprint,
            "corpus": self.texts.corpus,
            "corpus_fingerprint": self.texts.fingerprint,
            "held_out_only": self.texts.held_out_only,
            "texts": config.texts,
            "context": config.context,
            "steps": config.steps,
            "windows": config.windows,
            "scored_tokens": config.scored_tokens,
            "seed": config.seed,
            "baselines": list(config.baselines),
            "weights_sha256": {
                contender.name: contender.weights_sha256
                for contender in self.setting.contenders
                if contender.weights_sha256
            },
            "source_sha256": {
                contender.name: contender.source_sha256
                for contender in self.setting.contenders
                if not contender.weights_sha256
            },
            "elapsed_s": elapsed_s,
            "budgets": budgets,
            **({"mixes_measured_on": mixes.measured_on} if (mixes := self.setting.mixes) else {}),
            "made_with": provenance(self.model),
        }
        per_text = [
            row
            for index, budget in enumerate(config.budgets)
            for row in results.text_losses(
                index,
                budget,
                results.by_own_names(self._scores(index, config.texts), names),
                budgets[index]["methods"],
            )
        ]
        return WorkFinished(result, tuple(per_text))

    def _budget(self, index: int, bootstrap: PairedBootstrap) -> dict[str, Any]:
        scores = self._scores(index, self.config.texts)
        record = results.budget_record(index, self.policies, self.baselines, scores, bootstrap)
        costs = CostModel.of(self.model.lm, self.setting.grid)
        # Costs of a step at the mean spend, halfway through the scored tokens.
        cached = self.config.context + self.config.windows * self.config.steps // 2
        whole = costs.decode_step(DENSE, cached).bytes_read
        for method in record["methods"].values():
            spend = Budget(*(method["spend"][name] for name in SHORT_AXES))
            cost = costs.decode_step(spend, cached)
            method.setdefault("bytes_per_token", cost.bytes_read)
            method.setdefault("bytes_share", cost.bytes_read / whole)
            method["flops_per_token"] = cost.flops
        names = [contender.name for contender in self.setting.contenders]
        parts = ("methods", "paired")
        return record | {part: results.by_own_names(record[part], names) for part in parts}

    def _scores(self, index: int, compared: int) -> dict[str, results.MethodScores]:
        """Return the scores of the policies and of passes that finished ``compared`` texts."""
        enough = max(compared, 1) * self.config.windows
        passes = (self.others, self.baselines)
        done = [stage for stage in passes if stage is not None and stage.done >= enough]
        return results.method_scores(index, self.policies, done)

"""Measures where a policy pays: its KL against static's at equal bytes, by context and share.

The last part of a training of a policy that takes shares of the bytes.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sol_core.actions import Budget
from sol_core.budgets.mixes import mix_table
from sol_core.errors import SolError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.runner import evaluate
from sol_core.models.loading import LanguageModel
from sol_core.policy.policy import Policy, load_policy
from sol_core.policy.prices import GainTable
from sol_core.progress import WorkEvent, WorkFinished, WorkProgress, WorkStopped, no_stop
from sol_core.training.config import TrainConfig

logger = logging.getLogger(__name__)
CONTEXTS = (32, 256, 2000)
SHARES = (0.55, 0.6, 0.7, 0.8, 0.9)
WINDOWS = 8  # of a text
MARGIN = 0.01  # between the least share of any mix and one that a policy is measured at
MESSAGE = "measuring where the policy pays"


def trained_with_gains(
    training: Iterator[WorkEvent],
    model: LanguageModel,
    config: TrainConfig,
    *,
    data_dir: Path,
    should_stop: Callable[[], bool] = no_stop,
) -> Iterator[WorkEvent]:
    """A training's events; before the last one its policy gets the gains that are measured.

    Only where shares have texts of their own (``config.shares_from``): gains on texts of the
    policy's own corpus promise too much.
    """
    for event in training:
        if isinstance(event, WorkFinished) and config.shares_from != "corpus":
            folder = Path(event.result["folder"])
            policy, corpus = load_policy(folder, model), config.shares_from
            texts = max(2, config.calibration_texts // 2)
            measuring = measure_gains(model, policy, data_dir, corpus, texts, should_stop)
            try:
                for made in measuring if policy.states is not None else ():
                    if isinstance(made, GainTable):
                        policy.gains = made
                        policy.save_pretrained(folder)
                        continue
                    yield made
                    if isinstance(made, WorkStopped):
                        return
            except SolError as error:  # what was trained is kept
                logger.warning("where the policy pays was not measured: %s", error)
        yield event


def measure_gains(
    model: LanguageModel,
    policy: Policy,
    data_dir: Path,
    corpus: str,
    texts: int,
    should_stop: Callable[[], bool],
) -> Iterator[WorkEvent | GainTable]:
    """Measure a policy as one that always schedules; ends with the table, unless it is stopped.

    Shares that no mix reaches at a context have the gain of the next one.
    """
    always, rows = copy.copy(policy), list[tuple[float, ...]]()
    always.gains = None
    mixes = mix_table(model, policy.info.grid)
    contexts = tuple(context for context in CONTEXTS if context < model.context_length // 2)
    for number, context in enumerate(contexts):
        own = policy.num_bytes / mixes.costs.dense_step(context + 1).bytes_read
        lowest = mixes.lowest_share(context + 1) + own + MARGIN
        reached = [share for share in SHARES if share >= lowest]
        config = EvaluationConfig(
            corpus=corpus,
            budgets=tuple(map(Budget.share, reached)),
            baselines=("static",),
            texts=texts,
            windows=WINDOWS,
            context=context,
        )
        events = evaluate(
            model, {"policy": always}, config, data_dir=data_dir, should_stop=should_stop
        )
        for event in events:
            if isinstance(event, WorkStopped):
                yield event
                return
            if isinstance(event, WorkProgress):
                yield WorkProgress((number + event.fraction) / len(contexts), MESSAGE)
            if isinstance(event, WorkFinished):
                gains = [_recovered_at_least(budget) for budget in event.result["budgets"]]
                rows.append((*gains[:1] * (len(SHARES) - len(gains)), *gains))
    yield GainTable(tuple(map(float, contexts)), SHARES, tuple(rows))


def _recovered_at_least(budget: dict[str, Any]) -> float:
    """Return the lower end of the KL that is recovered, as a fraction of static's; 0: unmatched."""
    pair, static = budget["paired"]["static"], budget["methods"]["static"]
    if pair["kl_low"] is None:
        return 0.0
    return round(float(pair["kl_low"] / max(static["kl"], 1e-9)), 4)

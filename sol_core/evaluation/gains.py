"""Measures where a policy pays: its KL against static's at equal bytes, by context and share.

This is the last part of training a policy that takes shares of the bytes.
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
WINDOWS = 8  # per text
MARGIN = 0.01  # between the least share of any mix and the least measured share
MESSAGE = "measuring where the policy pays"


def trained_with_gains(
    training: Iterator[WorkEvent],
    model: LanguageModel,
    config: TrainConfig,
    *,
    data_dir: Path,
    should_stop: Callable[[], bool] = no_stop,
) -> Iterator[WorkEvent]:
    """Yield a training's events, and store the measured gains in its policy before the last.

    Requires separate texts for shares (``config.shares_from``), because gains on the policy's own
    corpus are too optimistic.
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
            except SolError as error:  # the trained policy is kept
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
    """Measure a policy that schedules at every budget; yield the table last, unless stopped.

    Shares that no mix reaches at a context get the next share's gain.
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
    """Return the recovered fraction of static's KL, lower end; 0 if bytes are not matched."""
    pair, static = budget["paired"]["static"], budget["methods"]["static"]
    if pair["kl_low"] is None:
        return 0.0
    return round(float(pair["kl_low"] / max(static["kl"], 1e-9)), 4)

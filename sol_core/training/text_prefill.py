"""Runs teacher-forced rollouts of a text from a single dense prefill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.log_softmax import kl_to_dense
from sol_core.actions import AXES, Action, ActionGrid, Budget
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, ScoredStep, teacher_forced, token_nll
from sol_core.decoding.prefix import PrefixState
from sol_core.models import FrozenLM, PrefillOutput
from sol_core.models.cache import KVCache
from sol_core.training.config import TrainConfig


class Rollout(NamedTuple):
    """T teacher-forced steps of R rows from B windows, in nats."""

    kl: Tensor  # [R, T], to the dense step
    nll: Tensor  # [R, T]
    dense_nll: Tensor  # [B, T]
    dense_entropy: Tensor  # [B, T]
    actions: list[Sequence[Action]]  # of each step


@dataclass(frozen=True, slots=True)
class TextPrefill:
    """A text prefilled densely once; rollouts start at the run's windows."""

    lm: FrozenLM
    config: TrainConfig
    tokens: Tensor  # [N + 1] int64; the last is only predicted
    cache: KVCache
    output: PrefillOutput  # of the first N tokens, observed before each window

    def rollout(
        self, starts: Sequence[int], rows_per_start: int, scheduler: BatchScheduler
    ) -> Rollout:
        """Decode from several windows at once, feeding the text's own tokens."""
        first = torch.tensor(starts)
        seen = torch.searchsorted(torch.tensor(self.config.starts), first)
        prefix = PrefixState(
            self.output.hidden[0, first - 1],
            self.output.mid_hidden[0, seen],
            self.output.attention_concentration[0, seen],
        )
        steps, mechanisms = self.config.steps, self.config.grid.mechanisms
        options = DecodeOptions(steps, mechanisms, batched=True)
        cache = self.cache.branch(rows_per_start, steps, list(starts), [0] * len(starts))
        paths = [self.tokens[start : start + steps + 1].tolist() for start in starts]
        scores, actions = list[tuple[Tensor, ...]](), list[Sequence[Action]]()
        for scored in teacher_forced(self.lm, cache, paths, scheduler, options, prefix):
            scores.append(self._score(scored, first))
            actions.append(scored.step.actions)
        kl, nll, dense_nll, entropy = (
            torch.stack(column, 1) for column in zip(*scores, strict=True)
        )
        return Rollout(kl, nll, dense_nll, entropy, actions)

    def _score(self, scored: ScoredStep, first: Tensor) -> tuple[Tensor, ...]:
        """Return KL and NLL of a step's rows [R], NLL and entropy of the dense step [B]."""
        hidden = self.output.hidden[0, first + scored.step.index]
        dense = torch.log_softmax(self.lm.logits(hidden, batched=True), -1)
        kl, entropy = kl_to_dense(dense, scored.log_probabilities)
        dense_nll = token_nll(dense[:, None], scored.targets)[:, 0]
        return kl.flatten(), scored.nll.flatten(), dense_nll, entropy


def prefill_text(lm: FrozenLM, tokens: Sequence[int], config: TrainConfig) -> TextPrefill:
    """Prefill all tokens but the last, with the model prepared for batches."""
    lm.prepare_for_batches()
    text = torch.tensor(tokens)
    cache = lm.new_cache(1, len(tokens) - 1, page_size=config.grid.page_size)
    before = torch.tensor(config.starts) - 1
    fed = text[None, :-1].to(lm.device)
    how = config.grid.mechanisms
    output = lm.observed_prefill(fed, cache, mechanisms=how, observed=before, batched=True)
    return TextPrefill(lm, config, text, cache, output)


def draw_budgets(count: int, grid: ActionGrid, generator: torch.Generator) -> list[Budget]:
    """Draw target budgets, uniform over each axis."""
    budgets = []
    for _ in range(count):
        points = torch.rand(len(AXES), generator=generator).tolist()
        axes = zip(grid.levels(), points, strict=True)
        budgets.append(Budget(*(some[0] + point * (some[-1] - some[0]) for some, point in axes)))
    return budgets

"""Teacher-forced rollouts of one text on one dense prefill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.log_softmax import kl_to_dense
from sol_core.actions import AXES, ActionGrid, Budget
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, DecodeStep
from sol_core.decoding.prefix import PrefixState, Windows
from sol_core.decoding.teacher_forcing import ScoredStep, teacher_forced, token_nll
from sol_core.models import FrozenLM, PrefillOutput
from sol_core.models.cache import KVCache
from sol_core.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class StepScores:
    """One teacher-forced step of all rows: kl and nll [R]; the dense step's nll and entropy [B]."""

    step: DecodeStep
    kl: Tensor
    nll: Tensor
    dense_nll: Tensor
    dense_entropy: Tensor


@dataclass(frozen=True, slots=True)
class TextPrefill:
    """A text, prefilled densely once, of which rollouts start at a run's windows."""

    lm: FrozenLM
    config: TrainConfig
    tokens: Tensor  # [N + 1] int64; the last one is only predicted
    cache: KVCache
    output: PrefillOutput  # of the prefill of the first N, observed before all windows

    def rollout(
        self, starts: Sequence[int], rows_per_start: int, scheduler: BatchScheduler
    ) -> Iterator[StepScores]:
        """Teacher-forced decode steps from several windows at once."""
        first = torch.tensor(starts)
        seen = torch.searchsorted(torch.tensor(self.config.starts), first)
        prefix = PrefixState(
            self.output.hidden[0, first - 1],
            self.output.mid_hidden[0, seen],
            self.output.attention_concentration[0, seen],
        )
        steps, mechanisms = self.config.steps, self.config.grid.mechanisms
        options = DecodeOptions(steps, mechanisms, rows_per_sequence=rows_per_start, batched=True)
        windows = Windows(self.cache, (0,) * len(starts), tuple(starts))
        paths = [self.tokens[start : start + steps + 1].tolist() for start in starts]
        for scored in teacher_forced(self.lm, windows, paths, scheduler, options, prefix):
            yield self._score(scored, first)

    def _score(self, scored: ScoredStep, first: Tensor) -> StepScores:
        hidden = self.output.hidden[0, first + scored.step.index]
        dense = torch.log_softmax(self.lm.logits(hidden, batched=True), -1)
        kl, entropy = kl_to_dense(dense, scored.log_probabilities)
        dense_nll = token_nll(dense[:, None], scored.targets)[:, 0]
        return StepScores(scored.step, kl.flatten(), scored.nll.flatten(), dense_nll, entropy)


def prefill_text(lm: FrozenLM, tokens: Sequence[int], config: TrainConfig) -> TextPrefill:
    """Prefill all tokens but the last, by a model that is prepared for batches."""
    lm.prepare_for_batches()
    text = torch.tensor(tokens)
    cache = lm.new_cache(1, len(tokens) - 1, page_size=config.grid.page_size)
    before = torch.tensor(config.starts) - 1
    fed = text[None, :-1].to(lm.device)
    how = config.grid.mechanisms
    output = lm.observed_prefill(fed, cache, mechanisms=how, observed=before, batched=True)
    return TextPrefill(lm, config, text, cache, output)


def draw_budgets(count: int, grid: ActionGrid, generator: torch.Generator) -> list[Budget]:
    """Targets, uniform over each axis (METHOD 5)."""
    budgets = []
    for _ in range(count):
        shares = torch.rand(len(AXES), generator=generator).tolist()
        axes = zip(grid.levels(), shares, strict=True)
        budgets.append(Budget(*(some[0] + share * (some[-1] - some[0]) for some, share in axes)))
    return budgets

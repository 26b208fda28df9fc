"""Many episodes of one text on one dense prefill: their starts and their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sol_core.actions import ActionGrid
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.divergence import kl_to_dense
from sol_core.decoding.loop import DecodeOptions, DecodeStep, PrefixState, Windows, decode
from sol_core.models import FrozenLM, PrefillOutput
from sol_core.models.cache import KVCache


@dataclass(frozen=True, slots=True)
class StepScores:
    """One teacher-forced step of all rows: kl to the dense step and nll [R], nats; and the
    dense step's own nll and entropy [B]."""

    step: DecodeStep
    kl: Tensor
    nll: Tensor
    dense_nll: Tensor
    dense_entropy: Tensor


@dataclass(frozen=True, slots=True)
class TextPrefill:
    """A text, prefilled densely once, of which rollouts start at given positions.

    Attributes:
        tokens: [N + 1] int64; the last one is only predicted.
        starts: [B] int64, ascending, positions of the first tokens fed, at least 1.
        output: of the prefill of the first N, observed before the starts.
    """

    lm: FrozenLM
    tokens: Tensor
    starts: Tensor
    cache: KVCache
    output: PrefillOutput

    def rollout(
        self,
        starts: Sequence[int],
        rows_per_start: int,
        scheduler: BatchScheduler,
        steps: int,
        grid: ActionGrid,
    ) -> Iterator[StepScores]:
        """Teacher-forced decode steps from several positions at once.

        Args:
            starts: B of the text's.
            scheduler: of B · rows_per_start rows.
        """
        first = torch.tensor(starts)
        seen = torch.searchsorted(self.starts, first)
        prefix = PrefixState(
            self.output.hidden[0, first - 1],
            self.output.mid_hidden[0, seen],
            self.output.attention_concentration[0, seen],
        )
        options = DecodeOptions(
            max_steps=steps,
            mechanisms=grid.mechanisms,
            rows_per_sequence=rows_per_start,
        )
        windows = Windows(self.cache, (0,) * len(starts), tuple(starts))

        def choose(step: DecodeStep) -> list[int]:
            return self._at(first, step.index + 1)

        for step in decode(
            self.lm, windows, self._at(first, 0), scheduler, choose, options, prefix
        ):
            yield self._score(step, first, rows_per_start)

    def _at(self, first: Tensor, offset: int) -> list[int]:
        tokens: list[int] = self.tokens[first + offset].tolist()
        return tokens

    def _score(self, step: DecodeStep, first: Tensor, group: int) -> StepScores:
        place = first + step.index
        dense = torch.log_softmax(self.lm.logits(self.output.hidden[0, place]), -1)
        target = self.tokens[place + 1][:, None].to(dense.device)
        given = step.log_probabilities.unflatten(0, (-1, group))
        kl, entropy = kl_to_dense(dense, given)
        nll = -given.gather(-1, target[:, None].expand(-1, group, 1))[..., 0]
        return StepScores(
            step, kl.flatten(), nll.flatten(), -dense.gather(-1, target)[:, 0], entropy
        )


def prefill_text(
    lm: FrozenLM, tokens: Sequence[int], grid: ActionGrid, starts: Sequence[int]
) -> TextPrefill:
    """Prefill all tokens but the last, by a model that is prepared for batches."""
    lm.prepare_for_batches()
    text = torch.tensor(tokens)
    cache = lm.new_cache(1, len(tokens) - 1, page_size=grid.page_size)
    places = torch.tensor(starts)
    output = lm.prefill(
        text[None, :-1].to(lm.device),
        cache,
        mechanisms=grid.mechanisms,
        observe=True,
        observed=places - 1,
    )
    return TextPrefill(lm, text, places, cache, output)

"""Teacher-forced rollouts of several schedules on the same texts, scored as they run.

A text may have several windows: rollouts that start at different tokens of it. All rows of a
window share its token path; row 0 is dense and the reference for KL. Step t of a window that
starts at token s feeds token s + t and is scored on token s + t + 1. Logits live for one step only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sol_core.actions import AXES, Action, ActionGrid
from sol_core.decoding.batch_scheduling import BatchScheduler, PolicyReads
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions
from sol_core.decoding.prefix import PrefixState, Windows, read_prefixes
from sol_core.decoding.teacher_forcing import teacher_forced
from sol_core.errors import ShapeError
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prefix:
    """B windows, read densely up to their first token to feed."""

    cache: KVCache | Windows
    state: PrefixState
    path: Tensor  # [B, T + 1] int64, the tokens to feed and, shifted by one, to score


@dataclass(frozen=True, slots=True)
class Rollout:
    """Scores of B windows × G rows × T steps; row 0 of each window is dense."""

    nll: Floats  # [B, G, T] nats
    kl: Floats  # [B, G, T] nats, KL(dense ‖ row); 0 for row 0
    spend: Floats  # [B, G, T, axes]
    dense_entropy: Floats  # [B, T] nats
    tokens_read: Floats  # [B, G, T] cached tokens read, summed over layers and KV heads
    cached_tokens: Floats  # [B, T] tokens attended over, the step's own included
    policies: list[tuple[PolicyReads, ...]]  # per step, of the B · G rows

    def bytes_read(self, costs: CostModel) -> Floats:
        """Computed bytes of every step: [B, G, T]."""
        num_bytes, group = np.zeros(self.nll.shape), self.nll.shape[1]
        for window, row, step in np.ndindex(num_bytes.shape):
            policy = self.policies[step][window * group + row]
            num_bytes[window, row, step] = policy.num_bytes + costs.bytes_read(
                Action.of(self.spend[window, row, step].tolist()),
                int(self.cached_tokens[window, step]),
                float(self.tokens_read[window, row, step]),
                observed=policy.scores_pages,
            )
        return num_bytes


@torch.no_grad()
def read_windows(
    lm: FrozenLM,
    windows: Sequence[tuple[Sequence[int], int]],  # per window its text, and where it starts
    steps: int,
    grid: ActionGrid,
    *,
    observe: bool,
) -> Prefix:
    """Read the prefix of every window, in the pieces that any other caller reads it in."""
    how = grid.mechanisms if observe else None
    prefixes = [text[:start] for text, start in windows]
    cache, state = read_prefixes(lm, prefixes, grid.page_size, how)
    path = torch.tensor([text[start : start + steps + 1] for text, start in windows])
    return Prefix(cache, state, path)


@torch.no_grad()
def roll_out(
    lm: FrozenLM, prefix: Prefix, scheduler: BatchScheduler, options: DecodeOptions
) -> Rollout:
    """Run all rows of the windows and score them. Raises: ShapeError: a first row is not dense."""
    group = options.rows_per_sequence
    nll, kl, entropy, read = [], [], [], []
    cached: list[tuple[int, ...]] = []
    policies: list[tuple[PolicyReads, ...]] = []
    spend: list[list[tuple[float, ...]]] = []
    paths = prefix.path.tolist()
    for scored in teacher_forced(lm, prefix.cache, paths, scheduler, options, prefix.state):
        step = scored.step
        if not all(action.is_dense for action in step.actions[::group]):
            raise ShapeError("row 0 of every window must be dense: it is the reference for KL")
        nll.append(scored.nll)
        kl.append(scored.kl)
        entropy.append(step.entropy[::group])
        spend.append([action.as_tuple() for action in step.actions])
        read.append(step.output.tokens_read.sum(1).unflatten(0, (-1, group)))
        cached.append(step.cached_tokens[::group])
        policies.append(step.policy_reads)
    by_step = np.asarray(spend, dtype=np.float64).reshape(len(spend), -1, group, len(AXES))
    return Rollout(
        _stacked(nll),
        _stacked(kl),
        by_step.transpose(1, 2, 0, 3),
        _stacked(entropy),
        _stacked(read),
        np.asarray(cached, dtype=np.float64).T,
        policies,
    )


def _stacked(columns: list[Tensor]) -> Floats:
    stacked: Floats = torch.stack(columns, -1).double().cpu().numpy()
    return stacked

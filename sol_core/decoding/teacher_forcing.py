"""Teacher forcing: the decode loop along given tokens, each step scored on the token after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.log_softmax import kl_to_dense
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.decoding.prefix import PrefixState, Windows
from sol_core.models import FrozenLM
from sol_core.models.cache import KVCache
from sol_core.models.devices import from_host


class ScoredStep(NamedTuple):
    """One step of B sequences × G rows, and the tokens that it should have predicted."""

    step: DecodeStep
    targets: Tensor  # [B] int64

    @property
    def log_probabilities(self) -> Tensor:
        """[B, G, V] fp32, nats."""
        rows: Tensor = self.step.log_probabilities.unflatten(0, (len(self.targets), -1))
        return rows

    @property
    def nll(self) -> Tensor:
        """[B, G] fp32, nats."""
        return token_nll(self.log_probabilities, self.targets)

    @property
    def kl(self) -> Tensor:
        """KL(row 0 ‖ row) [B, G] fp32, nats; that of row 0 is 0."""
        return kl_to_first(self.log_probabilities)


def teacher_forced(
    lm: FrozenLM,
    prefix: KVCache | Windows,
    paths: Sequence[Sequence[int]],
    scheduler: BatchScheduler,
    options: DecodeOptions,
    state: PrefixState | None = None,
) -> Iterator[ScoredStep]:
    """Decode along given tokens; all but ``paths`` as of ``decode``.

    Args:
        paths: of each of B sequences ``options.max_steps`` + 1 tokens or more: those to feed and,
            shifted by one, those to score.
    """

    def following(step: DecodeStep) -> list[int]:
        return [path[step.index + 1] for path in paths]

    first = [path[0] for path in paths]
    for step in decode(lm, prefix, first, scheduler, following, options, state):
        yield ScoredStep(step, from_host(following(step), lm.device))


def token_nll(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """[B, G, V] fp32 and [B] int64 → [B, G], nats."""
    wanted = targets[:, None, None].expand(-1, log_probabilities.shape[1], 1)
    return -log_probabilities.gather(-1, wanted).squeeze(-1)


def kl_to_first(log_probabilities: Tensor) -> Tensor:
    """KL(row 0 ‖ row) of [B, G, V] fp32: [B, G], nats; that of row 0 is 0."""
    kl = torch.zeros_like(log_probabilities[..., 0])
    kl[:, 1:], _ = kl_to_dense(log_probabilities[:, 0], log_probabilities[:, 1:])
    return kl

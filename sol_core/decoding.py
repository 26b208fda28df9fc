"""The decode loop: the only one, for generation, scoring, evaluation and training.

Rows of one sequence share its token path and its prefix; each row has a scheduler and
a KV cache of its own. Whoever consumes the steps decides the next token, by sampling
or by reading it from a text (teacher forcing).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sol_core.actions import DENSE, Action, QuantSite
from sol_core.cache import KVCache
from sol_core.models import FrozenLM, StepOutput
from sol_core.schedules import Observation, Scheduler

__all__ = ["DecodeOptions", "DecodeStep", "decode", "entropy_nats"]


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How the loop runs.

    Attributes:
        max_steps: at most this many steps.
        quant_site: where activations are quantised.
        episode_steps: steps per episode.
        refresh: at an episode's end, forget the compressed keys and values and replay
            the episode's tokens densely in one pass (SOL, section 4).
        dense_positions: steps at context positions below this one are dense.
    """

    max_steps: int
    quant_site: QuantSite = "mlp_output"
    episode_steps: int = 16
    refresh: bool = False
    dense_positions: int = 0


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One step of all rows.

    Attributes:
        index: 0-based.
        actions: one per row.
        output: hidden [R, C] and logits [R, V].
        entropy: [R] fp32, nats.
        cached_tokens: per row, tokens attended over, this step's input included.
        refreshed_tokens: tokens replayed densely before this step; 0 without a refresh.
        started: ``time.perf_counter()`` before the step (and its refresh) began.
    """

    index: int
    actions: tuple[Action, ...]
    output: StepOutput
    entropy: Tensor
    cached_tokens: tuple[int, ...]
    refreshed_tokens: int
    started: float


ChooseToken = Callable[[DecodeStep], Sequence[int] | None]


def decode(
    lm: FrozenLM,
    prefix: KVCache,
    first_tokens: Sequence[int],
    schedulers: Sequence[Scheduler],
    choose: ChooseToken,
    options: DecodeOptions,
    prefix_hidden: Tensor | None = None,
) -> Iterator[DecodeStep]:
    """Decode step by step from a dense prefix.

    Args:
        prefix: B sequences, prefilled densely up to (not including) their first token
            to feed; with ``refresh`` it grows, so give it room for ``max_steps`` more.
        first_tokens: B tokens, the input of step 0.
        schedulers: B·G, sequence after sequence; row 0 of each group first.
        choose: called after each step is consumed; the B next tokens, or None to end.
        prefix_hidden: [B, C] last hidden states of the prefill, for step 0's observation.
    Yields: a DecodeStep per step; its tensors are not overwritten later.
    """
    num_sequences = prefix.num_rows
    group = len(schedulers) // num_sequences
    room = min(options.max_steps, options.episode_steps) if options.refresh else options.max_steps
    cache = prefix.branch(group, room)
    hidden = None if prefix_hidden is None else prefix_hidden.repeat_interleave(group, 0)
    entropy: list[float] | None = None
    episode: list[Sequence[int]] = []
    tokens: Sequence[int] = list(first_tokens)
    for index in range(options.max_steps):
        started = time.perf_counter()
        refreshed = 0
        if options.refresh and len(episode) == options.episode_steps:
            refreshed = len(episode)
            lm.prefill(torch.tensor(episode, device=lm.device).T.contiguous(), prefix)
            cache = prefix.branch(group, room)
            episode = []
        actions = _pick(schedulers, cache, index, hidden, entropy, options.dense_positions)
        fed = torch.tensor(tokens, device=lm.device).repeat_interleave(group)
        output = lm.decode_step(fed, cache, actions, quant_site=options.quant_site)
        step = DecodeStep(
            index,
            actions,
            output,
            entropy_nats(output.logits),
            tuple(cache.lengths),
            refreshed,
            started,
        )
        yield step
        episode.append(tokens)
        chosen = choose(step)
        if chosen is None:
            return
        tokens = chosen
        hidden, entropy = output.hidden, step.entropy.tolist()


def entropy_nats(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) over the last axis, nats, fp32."""
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def _pick(
    schedulers: Sequence[Scheduler],
    cache: KVCache,
    step: int,
    hidden: Tensor | None,
    entropy: list[float] | None,
    dense_positions: int,
) -> tuple[Action, ...]:
    actions = []
    for row, (scheduler, position) in enumerate(zip(schedulers, cache.lengths, strict=True)):
        action = scheduler.next_action(
            Observation(
                step,
                None if hidden is None else hidden[row],
                None if entropy is None else entropy[row],
            )
        )
        actions.append(DENSE if position < dense_positions else action)
    return tuple(actions)

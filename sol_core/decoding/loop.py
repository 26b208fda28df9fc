"""The decode loop of generation, scoring, evaluation and training.

The rows of a sequence are fed the same tokens. Each row has its own actions and KV cache, which may
branch from a shared prefix (``KVCache.branch``). The caller chooses the next token: sampled, or
taken from a text (teacher forcing).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernels.log_softmax import kl_to_dense, log_softmax_and_entropy
from sol_core.actions import PAPER, Action, Mechanisms
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    StepObservation,
    StepReads,
)
from sol_core.decoding.cost import CostModel
from sol_core.decoding.prefix import PrefixState
from sol_core.errors import NotFiniteError
from sol_core.events import StepCost
from sol_core.files.paths import program_name
from sol_core.models import FrozenLM, StepOutput
from sol_core.models.cache import KVCache
from sol_core.models.devices import from_host
from sol_core.models.step.clock import StepClock


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of the decode loop."""

    max_steps: int
    mechanisms: Mechanisms = PAPER  # how a compressed step skips what its action drops
    timed: bool = False  # time the parts of every step
    # Copy every step to the host at once, for callers that read every token; schedulers observe
    # the copy.
    on_host: bool = False
    record: Collection[str] = ()  # of "pages" (those read), "hidden", "attention"
    left_out: Sequence[Sequence[int]] | None = None  # per row, pages that it must not read
    # Faster for many rows on a CPU, but a row's last digits depend on the others (``decode_step``).
    batched: bool = False


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One step of all rows."""

    index: int  # 0-based
    actions: tuple[Action, ...]  # one per row
    output: StepOutput  # hidden [R, C] and logits [R, V]
    log_probabilities: Tensor  # [R, V] fp32, log softmax of the logits, nats
    entropy: Tensor  # [R] fp32, entropy of that distribution, nats
    cached_tokens: tuple[int, ...]  # per row, tokens attended to, the step's input included
    reads: tuple[StepReads, ...]  # per row; without counts on a GPU, which would stall it
    started: float  # ``time.perf_counter()`` before the step
    clock: StepClock | None = None  # valid until the next step; None unless timed

    def rows(self, first: int, count: int) -> DecodeStep:
        """Select ``count`` adjacent rows of the step."""
        if count == len(self.actions):
            return self
        part = slice(first, first + count)
        return replace(
            self,
            actions=self.actions[part],
            output=self.output.rows(part),
            log_probabilities=self.log_probabilities[part],
            entropy=self.entropy[part],
            cached_tokens=self.cached_tokens[part],
            reads=self.reads[part],
        )

    def cost(self, costs: CostModel, row: int = 0) -> StepCost:
        """Compute the cost of a row's step, its policy's included, from measured reads if known."""
        return costs.decode_step(self.actions[row], self.cached_tokens[row], self.reads[row])


ChooseToken = Callable[[DecodeStep], Sequence[int] | None]


def decode(
    lm: FrozenLM,
    cache: KVCache,
    first_tokens: Sequence[int],
    scheduler: BatchScheduler,
    choose: ChooseToken,
    options: DecodeOptions,
    prefix_state: PrefixState | None = None,
) -> Iterator[DecodeStep]:
    """Decode step by step from a dense prefix.

    Args:
        cache: R rows, the same number for each of B sequences, grouped by sequence; must have room
            for one token per step.
        first_tokens: B tokens, the input of step 0.
        scheduler: schedules all R rows.
        choose: called after each step is consumed; returns the B next tokens, or None to stop.
        prefix_state: state of the B prefixes, for the observation of step 0.
    Yields: one DecodeStep per step; later steps do not overwrite its tensors.
    Raises: NotFiniteError at a step whose logits are not finite; on a GPU one step later, unless
        steps are copied to the host.
    """
    loop = _Loop(lm, cache, scheduler, options, len(first_tokens), prefix_state)
    tokens, step = first_tokens, None
    for index in range(options.max_steps):
        step = loop.run(index, tokens, step)
        yield step
        chosen = choose(step)
        if chosen is None:
            break
        tokens = chosen
    if step is not None and loop.checks_late:
        require_finite(step.entropy, f"decode step {step.index}")


class _Loop:
    """State between steps, with what the scheduler observes of the last one."""

    def __init__(
        self,
        lm: FrozenLM,
        cache: KVCache,
        scheduler: BatchScheduler,
        options: DecodeOptions,
        sequences: int,
        prefix: PrefixState | None,
    ) -> None:
        self._lm, self._cache, self._scheduler, self._options = lm, cache, scheduler, options
        self._group = cache.num_rows // sequences
        self._device = torch.device("cpu") if options.on_host else lm.device  # for observations
        self._observes = scheduler.observes
        self._added: Sequence[StepReads] = ()  # reads that policies add to every step
        self._known: dict[str, Any] = {}  # fields of the observation from the previous step
        self._log_probabilities: Tensor | None = None
        if prefix is not None:
            self._observe_prefix(prefix, sequences if options.batched else 1)

    @cached_property
    def checks_late(self) -> bool:
        """Whether numbers are checked a step late, because an immediate check would stall a GPU."""
        return self._device.type != "cpu"

    def run(self, index: int, tokens: Sequence[int], last: DecodeStep | None) -> DecodeStep:
        """Run one step on ``tokens``; ``last`` is the previous step."""
        lm, options, started = self._lm, self._options, time.perf_counter()
        rows = np.repeat(tokens, self._group)
        fed = from_host(rows, lm.device)
        tokens_here = fed if fed.device == self._device else from_host(rows, self._device)
        clock = StepClock.for_step(lm.device, index) if options.timed else None
        observation = self._observation(index, tokens_here, last)
        actions = tuple(self._scheduler.next_actions(observation))
        self._added = self._added or self._scheduler.reads()
        if clock is not None:
            clock.lap("policy")
        output = lm.decode_step(
            fed,
            self._cache,
            actions,
            mechanisms=options.mechanisms,
            observe=self._observes,
            left_out=options.left_out,
            record=options.record,
            clock=clock,
            batched=options.batched,
        )
        if lm.device != self._device:
            output = output.on_host()
        distribution = log_softmax_and_entropy(output.logits)
        lengths, reads = tuple(self._cache.lengths), _reads(output, self._added)
        step = DecodeStep(index, actions, output, *distribution, lengths, reads, started, clock)
        checked = last if self.checks_late else step
        if checked is not None:
            require_finite(checked.entropy, f"decode step {checked.index}")
        return step

    def _observe_prefix(self, prefix: PrefixState, at_once: int) -> None:
        """Start from a prefix's state; logits are computed for ``at_once`` sequences at a time."""

        def spread(values: Tensor | None) -> Tensor | None:
            if values is None:
                return None
            return values.repeat_interleave(self._group, 0).to(self._device)

        self._known["hidden"] = spread(prefix.hidden)
        if self._observes:
            logits = torch.cat([self._lm.logits(some) for some in prefix.hidden.split(at_once)])
            log_probabilities, entropy = log_softmax_and_entropy(logits)
            self._known["mid_hidden"] = spread(prefix.mid_hidden)
            self._known["concentration"] = spread(prefix.concentration)
            self._known["entropy"] = spread(entropy)
            self._log_probabilities = spread(log_probabilities)

    def _observation(self, index: int, tokens: Tensor, last: DecodeStep | None) -> StepObservation:
        if last is not None:
            output = last.output
            self._known = {"hidden": output.hidden, "entropy": last.entropy, "reads": last.reads}
            if self._observes:
                self._known["mid_hidden"] = output.mid_hidden
                self._known["concentration"] = output.attention_concentration
                self._log_probabilities = last.log_probabilities
        if self._log_probabilities is not None:
            drawn = self._log_probabilities.gather(-1, tokens[:, None])[:, 0]
            self._known["surprisal"] = -drawn
        return StepObservation(index, tokens, tuple(self._cache.lengths), **self._known)


def _reads(output: StepOutput, added: Sequence[StepReads]) -> tuple[StepReads, ...]:
    """Return each row's measured reads, together with those that its policy adds."""
    tokens, head_rows = output.tokens_read, output.head_rows
    if tokens.device.type != "cpu":
        return tuple(added)
    by_row = tokens.numpy().sum(1).tolist()
    exact = [None] * len(by_row) if head_rows is None else head_rows.numpy()[:, 0].tolist()
    rows = zip(added, by_row, exact, strict=True)
    return tuple(row._replace(tokens=read, head_rows=outputs) for row, read, outputs in rows)


def require_finite(numbers: Tensor, where: str) -> None:
    """Raise NotFiniteError if any of the numbers is NaN or infinite."""
    if not math.isfinite(numbers.cpu().numpy().sum()):
        raise NotFiniteError(
            f"{where}: the model computed numbers that are not finite (NaN or infinity), so its "
            "weights are damaged, or too large for its number format. To check the default "
            f"model's files and fetch damaged ones again: {program_name()} doctor --repair. "
            "For another model, copy its files again, or load it with --dtype float32"
        )


class ScoredStep(NamedTuple):
    """A decode step of B sequences × G rows with its target tokens."""

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
    cache: KVCache,
    paths: Sequence[Sequence[int]],
    scheduler: BatchScheduler,
    options: DecodeOptions,
    state: PrefixState | None = None,
) -> Iterator[ScoredStep]:
    """Decode along given tokens; see ``decode`` for the other arguments.

    Args:
        paths: for each of B sequences at least ``options.max_steps`` + 1 tokens: the inputs and,
            shifted by one, the targets.
    """

    def following(step: DecodeStep) -> list[int]:
        return [path[step.index + 1] for path in paths]

    first = [path[0] for path in paths]
    for step in decode(lm, cache, first, scheduler, following, options, state):
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

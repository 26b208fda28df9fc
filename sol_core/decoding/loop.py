"""The decode loop: the only one, for generation, scoring, evaluation and training.

Rows of one sequence share its token path and its prefix; each row has a scheduler and
a KV cache of its own. The consumer of the steps decides the next token, by sampling
or by reading it from a text (teacher forcing).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.log_softmax import log_softmax_and_entropy
from sol_core.actions import PAPER, Action, Mechanisms
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    PolicyReads,
    StepObservation,
    StepReads,
)
from sol_core.decoding.prefix import PrefixState, Windows
from sol_core.errors import NotFiniteError
from sol_core.files.paths import program_name
from sol_core.models import FrozenLM, StepOutput
from sol_core.models.cache import KVCache
from sol_core.models.devices import from_host
from sol_core.models.signals import Observe
from sol_core.models.step.clock import StepClock


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Options of the decode loop.

    Attributes:
        on_host: bring every step to the host by one copy, for consumers that look at every token;
            the scheduler sees that copy.
        in_place: steps are cached in the prefix itself, which grows and must have the room;
            it has a row for every row that decodes.
        batched: many rows faster on a CPU, where a row's last digits then depend on its company;
            see ``FrozenLM.decode_step``.
    """

    max_steps: int  # at most this many steps
    mechanisms: Mechanisms = PAPER  # how steps skip what their actions drop
    rows_per_sequence: int = 1  # rows (schedules) on each sequence's token path
    timed: bool = False  # give every step a clock
    on_host: bool = False
    record: Collection[str] = ()  # "pages" that were read, "hidden", "attention"
    left_out: Sequence[Sequence[int]] | None = None  # per row, pages that it may not read
    in_place: bool = False
    batched: bool = False


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One step of all rows.

    Attributes:
        reads: of each row; unknown on a GPU, where counts would be waited for.
        policy_reads: what policies added to each row's bytes.
        clock: the laps of the step, to be read before the next one; None unless timed.
    """

    index: int  # 0-based
    actions: tuple[Action, ...]  # one per row
    output: StepOutput  # hidden [R, C] and logits [R, V]
    log_probabilities: Tensor  # [R, V] fp32, log softmax of the logits, nats
    entropy: Tensor  # [R] fp32, of that distribution, nats
    cached_tokens: tuple[int, ...]  # per row, tokens attended over, this step's input included
    reads: tuple[StepReads, ...]
    policy_reads: tuple[PolicyReads, ...]
    started: float  # ``time.perf_counter()`` before the step began
    clock: StepClock | None = None

    def rows(self, first: int, count: int) -> DecodeStep:
        """The step of some rows that follow one another, as if there were no others."""
        if count == len(self.actions):
            return self
        part = slice(first, first + count)
        output: dict[str, Any] = {}
        for field in fields(StepOutput):
            value = getattr(self.output, field.name)
            output[field.name] = None if value is None else value[part]
        return replace(
            self,
            actions=self.actions[part],
            output=StepOutput(**output),
            log_probabilities=self.log_probabilities[part],
            entropy=self.entropy[part],
            cached_tokens=self.cached_tokens[part],
            reads=self.reads[part],
            policy_reads=self.policy_reads[part],
        )


ChooseToken = Callable[[DecodeStep], Sequence[int] | None]


def decode(
    lm: FrozenLM,
    prefix: KVCache | Windows,
    first_tokens: Sequence[int],
    scheduler: BatchScheduler,
    choose: ChooseToken,
    options: DecodeOptions,
    prefix_state: PrefixState | None = None,
) -> Iterator[DecodeStep]:
    """Decode step by step from a dense prefix.

    Args:
        prefix: B sequences, prefilled densely up to (not including) their first token
            to feed.
        first_tokens: B tokens, the input of step 0.
        scheduler: of B · ``options.rows_per_sequence`` rows, sequence after sequence.
        choose: called after each step is consumed; the B next tokens, or None to end.
        prefix_state: for step 0's observation.
    Yields: a DecodeStep per step; its tensors are not overwritten later.
    Raises: NotFiniteError at a step whose logits are not finite; on a GPU one step late, unless
        steps are brought to the host.
    """
    group, observes = options.rows_per_sequence, scheduler.observes
    cache = _step_cache(prefix, options)
    device = torch.device("cpu") if options.on_host else lm.device
    at_once = len(first_tokens) if options.batched else 1
    observer = _Observer(lm, observes, prefix_state, (group, at_once), device)
    finite = FiniteCheck(late=device.type != "cpu")
    run_step = partial(
        lm.decode_step,
        mechanisms=options.mechanisms,
        observe=observes,
        left_out=options.left_out,
        record=options.record,
        batched=options.batched,
    )
    tokens: Sequence[int] = list(first_tokens)
    step: DecodeStep | None = None
    policy_reads: tuple[PolicyReads, ...] = ()
    for index in range(options.max_steps):
        started = time.perf_counter()
        fed = from_host(tokens, lm.device).repeat_interleave(group)
        clock = StepClock.for_step(lm.device, index) if options.timed else None
        seen = fed if lm.device == device else torch.tensor(tokens).repeat_interleave(group)
        observation = observer.observe(index, seen, cache.lengths, step)
        actions = tuple(scheduler.next_actions(observation))
        policy_reads = policy_reads or tuple(scheduler.reads())
        if clock is not None:
            clock.lap("policy")
        output = run_step(fed, cache, actions, clock=clock)
        if lm.device != device:
            output = output.on_host()
        distribution = log_softmax_and_entropy(output.logits)
        finite.add(index, distribution[1])
        lengths, reads = tuple(cache.lengths), _reads(output)
        step = DecodeStep(
            index, actions, output, *distribution, lengths, reads, policy_reads, started, clock
        )
        yield step
        chosen = choose(step)
        if chosen is None:
            break
        tokens = chosen
    finite.finish()


def _reads(output: StepOutput) -> tuple[StepReads, ...]:
    tokens, head_rows = output.tokens_read, output.head_rows
    if tokens.device.type != "cpu":
        return (StepReads(),) * len(tokens)
    by_row = tokens.sum(1).tolist()
    exact = [None] * len(by_row) if head_rows is None else head_rows[:, 0].tolist()
    return tuple(map(StepReads, by_row, exact))


def _step_cache(prefix: KVCache | Windows, options: DecodeOptions) -> KVCache:
    group, room = options.rows_per_sequence, options.max_steps
    if isinstance(prefix, KVCache):
        return prefix if options.in_place else prefix.branch(group, room)
    return prefix.prefix.branch(
        group, room, lengths=list(prefix.lengths), sources=list(prefix.sources)
    )


class _Observer:
    """Turns the previous step, or the prefix, into the next step's observation.

    Args:
        rows: of each sequence, and sequences whose prefixes' logits are computed together.
        device: of the observations.
    """

    def __init__(
        self,
        lm: FrozenLM,
        observes: Observe,
        prefix: PrefixState | None,
        rows: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._observes = observes
        self._known: dict[str, Any] = {}  # fields of the observation that the step before left
        self._log_probabilities: Tensor | None = None
        if prefix is None:
            return

        def spread(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.repeat_interleave(rows[0], 0).to(device)

        self._known["hidden"] = spread(prefix.hidden)
        if observes:
            logits = torch.cat([lm.logits(hidden) for hidden in prefix.hidden.split(rows[1])])
            log_probabilities, entropy = log_softmax_and_entropy(logits)
            self._known["mid_hidden"] = spread(prefix.mid_hidden)
            self._known["concentration"] = spread(prefix.concentration)
            self._known["entropy"] = spread(entropy)
            self._log_probabilities = spread(log_probabilities)

    def observe(
        self, index: int, tokens: Tensor, lengths: Sequence[int], last: DecodeStep | None
    ) -> StepObservation:
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
        return StepObservation(index, tokens, tuple(lengths), **self._known)


def require_finite(numbers: Tensor, where: str) -> None:
    """Raise NotFiniteError when one of a few numbers is NaN or infinite."""
    if not math.isfinite(float(numbers.sum())):
        raise NotFiniteError(
            f"{where}: the model computed numbers that are not finite (NaN or infinity), so its "
            "weights are damaged, or too large for its number format. To check the default "
            f"model's files and fetch damaged ones again: {program_name()} doctor --repair. "
            "For another model, copy its files again, or load it with --dtype float32"
        )


class FiniteCheck:
    """The check of every decode step, by the entropy that is computed anyway.

    One NaN or infinite logit makes a row's entropy NaN.

    Args:
        late: check a step after the next one was started, as on a GPU, which would be idle in
            between if it was asked at once.
    """

    def __init__(self, *, late: bool) -> None:
        self._most_waiting = 1 if late else 0
        self._waiting: list[tuple[int, Tensor]] = []

    def add(self, index: int, entropy: Tensor) -> None:
        """Take a step's entropy [R]; raise NotFiniteError for this step or, late, the last."""
        self._waiting.append((index, entropy))
        self.finish(self._most_waiting)

    def finish(self, left: int = 0) -> None:
        """Check the steps that are still waiting, but for the newest ``left``."""
        while len(self._waiting) > left:
            index, entropy = self._waiting.pop(0)
            require_finite(entropy, f"decode step {index}")

"""Text generation under a compute schedule: prompts in, frozen events out.

A prompt is prefilled densely up to its last token. Each generated token then takes exactly one
step of the decode loop (``loop.py``), the first of which feeds the prompt's last token. Several
prompts are decoded one after another on a CPU and together on a GPU, each with its own sampler and
schedules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path

from sol_core.config import GenerationConfig
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.decoding.prefix import PrefixState, ReadPrefix, read_prefix_in_chunks
from sol_core.errors import ConfigError, ContextLengthError, SolError
from sol_core.events import Event, PrefillProgress
from sol_core.fields import check_text
from sol_core.generation.schedules import GenerationSchedules, PolicyFinder, with_grid
from sol_core.generation.sequence import GeneratedSequence, RunOptions, ms_since
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel
from sol_core.progress import no_stop

# Prompts per batch, by device: on a CPU, up to 16 rows take as long one by one.
PROMPTS_TOGETHER = {"cuda": 32, "cpu": 1}


def encode_prompt(model: LanguageModel, prompt: str, *, chat: bool) -> list[int]:
    """Encode a prompt, in the model's chat template if requested."""
    if not prompt.strip():
        raise ConfigError("the prompt is empty; type some text to continue")
    check_text("the prompt", prompt)
    if chat:
        if not model.tokenizer.chat_template:
            raise ConfigError(f"{model.name} has no chat template; turn chat off")
        messages = [{"role": "user", "content": prompt}]
        prompt = str(
            model.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )
    tokens = model.encode(prompt, add_special_tokens=not chat)
    if not tokens:
        raise ConfigError("the prompt has no token for this model; type some text")
    if len(tokens) >= model.context_length:
        raise ContextLengthError(
            f"Too long: {len(tokens):,} tokens; this model holds {model.context_length:,}. Shorten "
            "the text, or load a model with a longer context."
        )
    return tokens


def generate(
    model: LanguageModel,
    prompt: str,
    config: GenerationConfig,
    should_stop: Callable[[], bool] = no_stop,
    policies: PolicyFinder = Path,
    *,
    tokens: Sequence[int] | None = None,
    options: RunOptions | None = None,
) -> Iterator[Event]:
    """Generate from a prompt.

    Args:
        should_stop: polled before each step and each prefill chunk.
        policies: finds a policy, or its folder, by name; by default the name is a folder.
        tokens: the prompt's tokens if the caller has encoded it; at least one.
        options: options that no stored configuration can hold.
    Yields: PrefillProgress while a long prompt is read, one PrefillEvent, a TokenEvent per token,
        one FinishEvent.
    Raises: SolError for a prompt or configuration that cannot be run, before any event.
    """
    ids = list(tokens or encode_prompt(model, prompt, chat=config.chat))
    options, config = options or RunOptions(), with_grid(config, policies)
    schedules = GenerationSchedules(model, config, policies, on_host=True)
    sequence = GeneratedSequence(model, config, schedules, 0, prompt, ids, options)
    batch = _Batch(model, config, [sequence], schedules, should_stop, options)
    return map(itemgetter(1), batch.run())


def generate_many(
    model: LanguageModel,
    prompts: Sequence[str],
    config: GenerationConfig,
    should_stop: Callable[[], bool] = no_stop,
    policies: PolicyFinder = Path,
    *,
    tokens: Sequence[Sequence[int]] | None = None,
    options: RunOptions | None = None,
) -> Iterator[tuple[int, Event]]:
    """Generate from prompts of different lengths, up to ``PROMPTS_TOGETHER`` in one batch.

    On a CPU, each gets the tokens that it gets alone, bit for bit. In a GPU's batch, products are
    summed in another order (1e-6 of a logit in fp32), so tokens that are nearly as probable, pages
    and rounded activations may swap. There, a finished prompt is fed on, unseen, until its batch
    ends; prompts of one token and prompts that fill the context are decoded alone.

    Args: as for ``generate``; all prompts are sampled with the same seed.
    Yields: a prompt's index and an event; per prompt, in the order of ``generate``.
    Raises: SolError naming the prompt that cannot be run, before any event.
    """
    options, config = options or RunOptions(), with_grid(config, policies)
    schedules = GenerationSchedules(model, config, policies, copies=True, on_host=True)
    sequences = []
    for number, prompt in enumerate(prompts):
        try:
            given = tokens and tokens[number]
            ids = list(given or encode_prompt(model, prompt, chat=config.chat))
        except SolError as error:
            raise type(error)(f"prompt[{number}]: {error}") from error
        sequences.append(GeneratedSequence(model, config, schedules, number, prompt, ids, options))
    batches = (
        _Batch(model, config, some, schedules, should_stop, options)
        for some in _batches(sequences, PROMPTS_TOGETHER[model.lm.device.type])
    )
    return (pair for batch in batches for pair in batch.run())


def _batches(
    sequences: Sequence[GeneratedSequence], most: int
) -> Iterator[list[GeneratedSequence]]:
    """Group sequences that fit beside others, ``most`` at a time; the rest run alone."""
    together = [sequence for sequence in sequences if sequence.fits_beside_others]
    for first in range(0, len(together), most):
        yield together[first : first + most]
    for sequence in sequences:
        if not sequence.fits_beside_others:
            yield [sequence]


def _with_number(
    number: int, reading: Generator[PrefillProgress, None, ReadPrefix]
) -> Generator[tuple[int, Event], None, ReadPrefix]:
    """Read a prefix; yield each event with its prompt's index."""
    while True:
        try:
            event = next(reading)
        except StopIteration as end:
            read: ReadPrefix = end.value
            return read
        yield number, event


@dataclass(frozen=True, slots=True)
class _Batch:
    """Generations whose steps run together."""

    model: LanguageModel
    config: GenerationConfig
    sequences: Sequence[GeneratedSequence]
    schedules: GenerationSchedules
    should_stop: Callable[[], bool]
    options: RunOptions

    def run(self) -> Iterator[tuple[int, Event]]:
        began, size = time.perf_counter(), self.config.grid_in_use.page_size
        caches, states = [], []
        for sequence in self.sequences:
            started = time.perf_counter()
            reading = read_prefix_in_chunks(
                self.model.lm,
                sequence.tokens[:-1],
                size,
                self.schedules.observed,
                self.should_stop,
                self.model.prefixes,
            )
            read = yield from _with_number(sequence.number, reading)
            caches.append(read.cache)
            states.append(read.state)
            yield sequence.number, sequence.prefill_event(ms_since(started), read.reused)
        decode_began = time.perf_counter()
        pending = list(self.sequences)
        if self.should_stop():
            self._stop()
        else:
            for step in self._steps(caches, PrefixState.joined(states)):
                # Events are made before the first is yielded: a consumer's pause is not timed.
                yield from self._token_events(step, began)
                if self.should_stop():
                    self._stop()
                for sequence in pending.copy():
                    if sequence.ended is not None:
                        pending.remove(sequence)
                        yield self._finished(sequence, decode_began)
                if not pending:
                    break
        for sequence in pending:
            yield self._finished(sequence, decode_began)

    def _finished(self, sequence: GeneratedSequence, began: float) -> tuple[int, Event]:
        rows = self.schedules.policy_rows.get(0)
        left_at = None if rows is None else rows.left_at.get(self.sequences.index(sequence))
        return sequence.number, sequence.finish(ms_since(began), left_at)

    def _steps(self, caches: list[KVCache], state: PrefixState | None) -> Iterator[DecodeStep]:
        several, rows_each = len(caches) > 1, 1 + len(self.config.side_rows)
        max_steps, left_out = self.sequences[0].max_steps, self.config.left_out
        if several and rows_each == 1:
            cache = KVCache.joined(caches, max_steps)
        else:
            prefix = KVCache.joined(caches, 0) if several else caches[0]
            cache = prefix.branch(rows_each, max_steps)
        next_token = attrgetter("next_token")
        options = DecodeOptions(
            max_steps=max_steps,
            mechanisms=self.config.grid_in_use.mechanisms,
            timed=True,
            on_host=True,
            record=self.options.record | ({"pages"} if self.config.page_reads else frozenset()),
            left_out=[left_out, *[()] * (rows_each - 1)] * len(caches) if left_out else None,
        )
        return decode(
            self.model.lm,
            cache,
            list(map(next_token, self.sequences)),
            self.schedules.build(max_steps, [cache.lengths[0] for cache in caches]),
            lambda _: list(map(next_token, self.sequences)),
            options,
            state,
        )

    def _token_events(self, step: DecodeStep, began: float) -> list[tuple[int, Event]]:
        policy_rows, rows_each = self.schedules.policy_rows.get(0), 1 + len(self.config.side_rows)
        chosen = None if policy_rows is None else policy_rows.distributions()
        events: list[tuple[int, Event]] = []
        for index, sequence in enumerate(self.sequences):
            if sequence.ended is None:
                rows = step.rows(index * rows_each, rows_each)
                policy = None if chosen is None else chosen[index]
                events.append((sequence.number, sequence.consume(rows, began, policy)))
        return events

    def _stop(self) -> None:
        for sequence in self.sequences:
            if sequence.ended is None:
                sequence.ended = "stopped"

"""Text generation under a compute schedule: prompt in, frozen events out.

Consumes the one decode loop (``loop.py``). The prompt is prefilled densely up to
its last token; every generated token is then produced by exactly one decode step, the
first of which feeds the prompt's last token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from sol_core.actions import DENSE, Action, Budget
from sol_core.config import GenerationConfig, SideRowConfig
from sol_core.decoding.cost import CostModel
from sol_core.decoding.divergence import kl_to_dense
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode, prefill_in_chunks
from sol_core.errors import ConfigError, ContextLengthError
from sol_core.events import (
    Alternative,
    Event,
    FinishEvent,
    FinishReason,
    PageReads,
    PrefillEvent,
    SideEvent,
    StepCost,
    TokenEvent,
)
from sol_core.files.characters import whole_characters
from sol_core.generation.page_reads import page_reads
from sol_core.generation.sampling import TokenSampler
from sol_core.generation.schedules import GenerationSchedules, PolicyFinder
from sol_core.generation.text_stream import TextStream, TextUntil
from sol_core.models.loading import LanguageModel

__all__ = ["DENSE_ROW", "encode_prompt", "generate"]

DENSE_ROW = "dense"  # a side row of this name is the reference for KL
NUM_ALTERNATIVES = 5


def never() -> bool:
    """The default ``should_stop``."""
    return False


def encode_prompt(model: LanguageModel, prompt: str, *, chat: bool) -> list[int]:
    """Token ids of a prompt, in the model's chat template if asked for.

    Raises: ConfigError for an empty prompt or a model without a chat template;
        ContextLengthError when nothing could be generated after it.
    """
    if not prompt.strip():
        raise ConfigError("the prompt is empty; type some text to continue")
    prompt = whole_characters(prompt)
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
            f"the prompt has {len(tokens)} tokens, the context of {model.name} holds "
            f"{model.context_length}; shorten it"
        )
    return tokens


def generate(
    model: LanguageModel,
    prompt: str,
    config: GenerationConfig,
    should_stop: Callable[[], bool] = never,
    policies: PolicyFinder = Path,
    *,
    tokens: Sequence[int] | None = None,
) -> Iterator[Event]:
    """Generate from a prompt.

    Args:
        should_stop: asked before every step and every prefill chunk.
        policies: finds a policy, or its folder, by its name; by default the name is a folder.
        tokens: the prompt's, where the caller has encoded it; at least one.
    Yields: one PrefillEvent, a TokenEvent per token, one FinishEvent.
    Raises: SolError for a prompt or configuration that cannot be run, before any event.
    """
    tokens = list(tokens or encode_prompt(model, prompt, chat=config.chat))
    if config.given and max(config.given) >= model.spec.vocab_size:
        raise ConfigError(
            f"given has tokens outside the vocabulary of {model.name} "
            f"({model.spec.vocab_size:,} tokens)"
        )
    schedules = GenerationSchedules(model, config, policies)
    return _Generation(model, prompt, tokens, config, schedules, should_stop).run()


@dataclass(slots=True)
class _Totals:
    tokens: int = 0
    spend: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    cost: StepCost = field(default_factory=StepCost)
    dense_cost: StepCost = field(default_factory=StepCost)

    def add(self, event: TokenEvent) -> None:
        self.tokens += 1
        self.spend = [s + v for s, v in zip(self.spend, event.action.as_tuple(), strict=True)]
        self.cost += event.cost
        self.dense_cost += event.dense_cost


class _Generation:
    """State of one generation while it runs."""

    def __init__(
        self,
        model: LanguageModel,
        prompt: str,
        tokens: list[int],
        config: GenerationConfig,
        schedules: GenerationSchedules,
        should_stop: Callable[[], bool],
    ) -> None:
        self.model, self.prompt, self.tokens, self.config = model, prompt, tokens, config
        self.schedules, self.should_stop = schedules, should_stop
        self.max_steps = min(config.max_new_tokens, model.context_length - len(tokens))
        self.cost_model = CostModel.of(model.lm, config.grid)
        self.side_rows = _distinct_rows(config)
        self.sampler = TokenSampler(config.sampling, tokens)
        self.stream = TextStream(model.tokenizer, tokens)
        self.specials = set(model.tokenizer.all_special_ids)
        self.end_tokens = set() if config.ignore_end_of_text else model.end_of_text_ids
        self.visible = TextUntil(config.stop_strings)
        self.totals = _Totals()
        self.next_token: int | None = None

    def run(self) -> Iterator[Event]:
        began = time.perf_counter()
        prefix = self.model.lm.new_cache(
            1,
            len(self.tokens) + (self.max_steps if self.config.refresh else 0),
            page_size=self.config.grid.page_size,
        )
        state = prefill_in_chunks(
            self.model.lm,
            self.tokens[:-1],
            prefix,
            observe=self.config.grid.mechanisms if self.schedules.observes else None,
            should_stop=self.should_stop,
        )
        prefill_ms = _ms_since(began)
        yield PrefillEvent(
            len(self.tokens),
            self.prompt,
            prefill_ms,
            self.cost_model.prefill(len(self.tokens) - 1),
        )
        reason: FinishReason = "stopped"
        decode_began = time.perf_counter()
        if not self.should_stop():
            reason = "length" if self.max_steps == self.config.max_new_tokens else "context_full"
            for step in decode(
                self.model.lm,
                prefix,
                [self.tokens[-1]],
                self.schedules.build(self.max_steps),
                lambda _: None if self.next_token is None else [self.next_token],
                self._options(),
                state,
            ):
                event, ended = self._consume(step, began)
                self.totals.add(event)
                yield event
                if ended is None and self.should_stop():
                    ended = "stopped"
                if ended is not None:
                    reason = ended
                    break
        self.visible.add(self.stream.flush())
        yield self._finish(reason, prefill_ms, _ms_since(decode_began))

    def _options(self) -> DecodeOptions:
        return DecodeOptions(
            max_steps=self.max_steps,
            mechanisms=self.config.grid.mechanisms,
            episode_steps=self.config.episode_steps,
            refresh=self.config.refresh,
            rows_per_sequence=1 + len(self.side_rows),
            timed=True,
            page_reads=self.config.page_reads,
        )

    def _consume(self, step: DecodeStep, began: float) -> tuple[TokenEvent, FinishReason | None]:
        """Take the given token, or draw the next one from row 0, and describe the step."""
        given = self.config.given[step.index : step.index + 1]
        token = self.sampler.draw(step.output.logits[0], *given)
        self.next_token = token
        text = self.stream.push(token)
        ended: FinishReason | None = None
        if token in self.end_tokens:
            ended = "end_of_text"
        elif self.visible.add(text):
            ended = "stop_string"
        shown = self.model.spelled(token) if token in self.specials else text
        return self._event(step, token, shown, began), ended

    def _event(self, step: DecodeStep, token: int, text: str, began: float) -> TokenEvent:
        log_probabilities = step.log_probabilities
        surprisals = (-log_probabilities[:, token]).tolist()
        entropies = step.entropy.tolist()
        divergences = self._kl_to_dense(log_probabilities)
        best = log_probabilities[0].topk(min(NUM_ALTERNATIVES, log_probabilities.shape[1]))
        firsts = log_probabilities[1:].max(-1)
        step_ms = _ms_since(step.started)
        return TokenEvent(
            index=step.index,
            token_id=token,
            text=text,
            action=step.actions[0],
            surprisal=surprisals[0],
            entropy=entropies[0],
            top=self._alternatives(best.values, best.indices),
            kl_to_dense=divergences[0],
            side=tuple(
                SideEvent(side.name, *values)
                for side, *values in zip(
                    self.side_rows,
                    step.actions[1:],
                    surprisals[1:],
                    entropies[1:],
                    divergences[1:],
                    self._alternatives(firsts.values, firsts.indices),
                    strict=True,
                )
            ),
            step_ms=step_ms,
            elapsed_ms=_ms_since(began),
            cost=self._cost(step, step.actions[0]),
            dense_cost=self.cost_model.decode_step(DENSE, step.cached_tokens[0]),
            cached_tokens=step.cached_tokens[0],
            refreshed=step.refreshed_tokens > 0,
            policy=self.schedules.distribution(),
            parts_ms=None if step.clock is None else step.clock.part_times(step_ms),
            page_reads=self._page_reads(step),
        )

    def _page_reads(self, step: DecodeStep) -> PageReads | None:
        readers = step.output.page_readers
        if readers is None:
            return None
        return page_reads(readers[0].cpu().numpy(), self.model.spec.num_kv_heads)

    def _alternatives(self, log_probabilities: Tensor, tokens: Tensor) -> tuple[Alternative, ...]:
        return tuple(
            Alternative(token, self.model.spelled(token), probability)
            for token, probability in zip(
                tokens.tolist(), log_probabilities.exp().tolist(), strict=True
            )
        )

    def _kl_to_dense(self, log_probabilities: Tensor) -> list[float | None]:
        """KL(dense ‖ row) of every row, nats; None without a dense row."""
        names = [row.name for row in self.side_rows]
        if DENSE_ROW not in names:
            return [None] * log_probabilities.shape[0]
        place = 1 + names.index(DENSE_ROW)
        divergences, _ = kl_to_dense(log_probabilities[place : place + 1], log_probabilities[None])
        divergences[0, place] = 0
        return divergences[0].tolist()

    def _cost(self, step: DecodeStep, action: Action) -> StepCost:
        cached = step.cached_tokens[0]
        cost = self.cost_model.decode_step(action, cached)
        cost += self.schedules.policy_cost()
        if step.refreshed_tokens:
            before = cached - 1 - step.refreshed_tokens
            cost += self.cost_model.prefill(step.refreshed_tokens, before)
        return cost

    def _finish(self, reason: FinishReason, prefill_ms: float, decode_ms: float) -> FinishEvent:
        totals = self.totals
        spend = None
        if totals.tokens:
            spend = Budget(*(total / totals.tokens for total in totals.spend))
        return FinishEvent(
            reason=reason,
            text=self.visible.text,
            num_tokens=totals.tokens,
            spend=spend,
            prefill_ms=prefill_ms,
            decode_ms=decode_ms,
            tokens_per_s=1000 * totals.tokens / decode_ms if decode_ms > 0 else 0.0,
            cost=totals.cost,
            dense_cost=totals.dense_cost,
        )


def _distinct_rows(config: GenerationConfig) -> tuple[SideRowConfig, ...]:
    for row in config.side_rows:
        if row.name == DENSE_ROW and row.schedule.kind != "dense":
            raise ConfigError('a side row named "dense" must have the dense schedule')
    return config.side_rows


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000

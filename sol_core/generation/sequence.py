"""State of one generation while it runs: steps of its rows in, tokens and their events out."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from torch import Tensor

from kernels.top_k import top_k
from sol_core.actions import AXES, DENSE, Budget
from sol_core.config import GenerationConfig, SideRowConfig
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeStep
from sol_core.decoding.teacher_forcing import kl_to_dense
from sol_core.errors import ConfigError
from sol_core.events import (
    Alternative,
    FinishEvent,
    FinishReason,
    PageReads,
    PrefillEvent,
    RecordedTokenEvent,
    SideEvent,
    StepCost,
    TokenEvent,
)
from sol_core.generation.sampling import (
    LogitsProcessor,
    TextStream,
    TextUntil,
    TokenSampler,
    page_texts,
)
from sol_core.generation.schedules import Distribution, PolicyCost
from sol_core.models.loading import LanguageModel

MOST_CELLS = 64  # of a layer
_MOST_LEVELS = 3072  # of a record: 1,024 characters
_DIGITS = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8
)  # of base64
_PARTLY = 2  # levels of a cell that is read in part; one more is for a cell read wholly
DENSE_ROW = "dense"  # a side row of this name is the reference for KL
NUM_ALTERNATIVES = 5
RECORDS = ("hidden", "attention", "pages")


def page_reads(readers: Any, num_kv_heads: int, *, exact: bool = False) -> PageReads:
    """Record of which pages were read.

    Args:
        readers: array [L, P] of integers, how many KV heads read each page; P at least 1.
    """
    num_layers, pages = readers.shape
    most = max(1, min(MOST_CELLS, _MOST_LEVELS // num_layers))
    width = 1 if exact else -(-pages // most)
    starts = np.arange(0, pages, width)
    read = np.add.reduceat(readers.astype(np.int64), starts, axis=1)
    pairs = np.diff(starts, append=pages) * num_kv_heads
    levels = -(-_PARTLY * read // pairs) + (read == pairs)
    share = float(readers.sum(dtype=np.int64)) / (readers.size * num_kv_heads)
    by_page = reads_by_page(readers, num_kv_heads)
    return PageReads(pages, len(starts), _packed(levels), share, by_page)


def reads_by_page(readers: Any, num_kv_heads: int) -> str:
    """``PageReads.by_page`` of array [L, P], as of ``page_reads``."""
    shares = readers.mean(0, dtype=np.float64) / num_kv_heads
    if shares.min() == 1:
        return ""
    return str(_DIGITS[np.ceil(shares * 63 - 1e-9).astype(int)].tobytes(), "ascii")


def _packed(levels: Any) -> str:
    """Base64 of two bits a level, four to a byte."""
    quads = np.pad(levels.ravel(), (0, -levels.size % 4)).reshape(-1, 4)
    return base64.b64encode((quads @ [1, 4, 16, 64]).astype(np.uint8).tobytes()).decode()


@dataclass(frozen=True, slots=True)
class Extras:
    """Wishes of a caller that no stored configuration can hold.

    Attributes:
        logits_processors: see ``LogitsProcessor``; they change what is drawn and nothing measured.
        record: of RECORDS, kept of every step: "pages" exactly, the others as tensors.
    """

    logits_processors: Sequence[LogitsProcessor] = ()
    record: frozenset[str] = frozenset()

    @property
    def tensors(self) -> frozenset[str]:
        """Records that no event of a stored run has."""
        return self.record - {"pages"}


@dataclass(slots=True)
class _Totals:
    tokens: int = 0
    spend: list[float] = field(default_factory=lambda: [0.0] * len(AXES))
    cost: StepCost = field(default_factory=StepCost)
    dense_cost: StepCost = field(default_factory=StepCost)

    def add(self, event: TokenEvent) -> None:
        self.tokens += 1
        self.spend = [s + v for s, v in zip(self.spend, event.action.as_tuple(), strict=True)]
        self.cost += event.cost
        self.dense_cost += event.dense_cost


class GeneratedSequence:
    """A prompt and what is generated after it.

    Attributes:
        number: of the prompt among those of the call.
        tokens: the prompt's.
        max_steps: at most this many fit into the context and the configuration.
        next_token: that was drawn last; the prompt's last one before the first draw.
        ended: why nothing more is drawn; None while it goes on.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: GenerationConfig,
        number: int,
        prompt: str,
        tokens: list[int],
        extras: Extras,
    ) -> None:
        count = (len(tokens) - 1) // config.grid.page_size
        if not all(page < count for page in config.left_out):
            pages = f"pages 0 to {count - 1}" if count else "no page"
            raise ConfigError(
                f"of a prompt of {len(tokens)} tokens {pages} can be left out, got "
                f"{', '.join(map(str, config.left_out))}"
            )
        self.number, self.tokens, self.next_token = number, tokens, tokens[-1]
        self.max_steps = min(config.max_new_tokens, model.context_length - len(tokens))
        self.ended: FinishReason | None = None
        self._model, self._config, self._prompt, self._extras = model, config, prompt, extras
        self._cost_model = CostModel.of(model.lm, config.grid)
        self._side_rows = _distinct_rows(config)
        self._sampler = TokenSampler(config.sampling, tokens, extras.logits_processors)
        self._stream = TextStream(model.text_codec, tokens)
        self._specials = set(model.text_codec.all_special_ids)
        self._end_tokens = set() if config.ignore_end_of_text else model.end_of_text_ids
        self._visible = TextUntil(config.stop_strings)
        self._totals = _Totals()
        self._prefill_ms = 0.0

    @property
    def fits_beside_others(self) -> bool:
        """Return whether its steps may be those of other prompts too."""
        whole = self.max_steps == self._config.max_new_tokens
        return whole and len(self.tokens) > 1

    def prefilled(self, elapsed_ms: float) -> PrefillEvent:
        self._prefill_ms = elapsed_ms
        count, cost = len(self.tokens), self._cost_model.prefill(len(self.tokens) - 1)
        texts: tuple[str, ...] = ()
        if self._config.page_reads or "pages" in self._extras.record:
            size = self._config.grid.page_size
            texts = tuple(page_texts(self._model.text_codec, self.tokens, size))
        return PrefillEvent(count, self._prompt, elapsed_ms, cost, texts)

    def consume(
        self,
        step: DecodeStep,
        began: float,
        policy_cost: PolicyCost,
        policy: Distribution | None,
    ) -> TokenEvent:
        """Take the given token, or draw the next one from row 0, and describe the step."""
        given = self._config.given[step.index : step.index + 1]
        token = self._sampler.draw(step.output.logits[0], *given)
        self.next_token = token
        text = self._stream.push(token)
        if token in self._end_tokens:
            self.ended = "end_of_text"
        elif self._visible.add(text):
            self.ended = "stop_string"
        shown = self._model.spelled(token) if token in self._specials else text
        event = self._event(step, token, shown, began, policy_cost, policy)
        self._totals.add(event)
        return self._recorded(event, step) if self._extras.tensors else event

    def _recorded(self, event: TokenEvent, step: DecodeStep) -> RecordedTokenEvent:
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        states, mass = step.output.hidden_states, step.output.page_mass
        pages = -(-event.cached_tokens // self._config.grid.page_size)
        return RecordedTokenEvent(
            **values,
            hidden_states=None if states is None else states[0],
            attention=None if mass is None else mass[0, ..., :pages],
        )

    def finish(self, decode_ms: float) -> FinishEvent:
        """The last event; where nothing else ended it, there were no more steps."""
        self._visible.add(self._stream.flush())
        if self.ended is None:
            whole = self.max_steps == self._config.max_new_tokens
            self.ended = "length" if whole else "context_full"
        totals, spend = self._totals, None
        if totals.tokens:
            spend = Budget(*(total / totals.tokens for total in totals.spend))
        return FinishEvent(
            reason=self.ended,
            text=self._visible.text,
            num_tokens=totals.tokens,
            spend=spend,
            prefill_ms=self._prefill_ms,
            decode_ms=decode_ms,
            tokens_per_s=1000 * totals.tokens / decode_ms if decode_ms > 0 else 0.0,
            cost=totals.cost,
            dense_cost=totals.dense_cost,
        )

    def _event(
        self,
        step: DecodeStep,
        token: int,
        text: str,
        began: float,
        policy_cost: PolicyCost,
        policy: Distribution | None,
    ) -> TokenEvent:
        log_probabilities = step.log_probabilities
        surprisals = (-log_probabilities[:, token]).tolist()
        entropies = step.entropy.tolist()
        divergences = self._kl_to_dense(log_probabilities)
        firsts = log_probabilities[1:].max(-1)
        step_ms = ms_since(step.started)
        return TokenEvent(
            index=step.index,
            token_id=token,
            text=text,
            action=step.actions[0],
            surprisal=surprisals[0],
            entropy=entropies[0],
            top=most_probable(self._model, log_probabilities[0]),
            kl_to_dense=divergences[0],
            side=tuple(
                SideEvent(side.name, *values)
                for side, *values in zip(
                    self._side_rows,
                    step.actions[1:],
                    surprisals[1:],
                    entropies[1:],
                    divergences[1:],
                    alternatives(self._model, firsts.values, firsts.indices),
                    strict=True,
                )
            ),
            step_ms=step_ms,
            elapsed_ms=ms_since(began),
            cost=self._cost_model.taken(step, 0, observed=policy_cost.scores_pages)
            + policy_cost.step,
            dense_cost=self._cost_model.decode_step(DENSE, step.cached_tokens[0]),
            cached_tokens=step.cached_tokens[0],
            policy=policy,
            parts_ms=None if step.clock is None else step.clock.part_times(step_ms),
            page_reads=self._page_reads(step),
        )

    def _page_reads(self, step: DecodeStep) -> PageReads | None:
        readers = step.output.page_readers
        if readers is None:
            return None
        pages = -(-step.cached_tokens[0] // self._config.grid.page_size)
        own = readers[0, :, :pages].cpu().numpy()
        return page_reads(own, self._model.spec.num_kv_heads, exact="pages" in self._extras.record)

    def _kl_to_dense(self, log_probabilities: Tensor) -> list[float | None]:
        """KL(dense ‖ row) of every row, nats; None without a dense row."""
        names = [row.name for row in self._side_rows]
        if DENSE_ROW not in names:
            return [None] * log_probabilities.shape[0]
        place = 1 + names.index(DENSE_ROW)
        divergences, _ = kl_to_dense(log_probabilities[place : place + 1], log_probabilities[None])
        divergences[0, place] = 0
        return divergences[0].tolist()


def most_probable(model: LanguageModel, log_probabilities: Tensor) -> tuple[Alternative, ...]:
    """The five most probable tokens of a distribution [V], best first."""
    best = top_k(log_probabilities, min(NUM_ALTERNATIVES, log_probabilities.shape[0]))
    return alternatives(model, *best)


def alternatives(
    model: LanguageModel, log_probabilities: Tensor, tokens: Tensor
) -> tuple[Alternative, ...]:
    """Tokens [N] int64, spelled, with their probabilities."""
    pairs = zip(tokens.tolist(), log_probabilities.exp().tolist(), strict=True)
    return tuple(Alternative(token, model.spelled(token), share) for token, share in pairs)


def ms_since(start: float) -> float:
    """Milliseconds since ``time.perf_counter()`` was ``start``."""
    return (time.perf_counter() - start) * 1000


def _distinct_rows(config: GenerationConfig) -> tuple[SideRowConfig, ...]:
    for row in config.side_rows:
        if row.name == DENSE_ROW and row.schedule.kind != "dense":
            raise ConfigError('a side row named "dense" must have the dense schedule')
    return config.side_rows

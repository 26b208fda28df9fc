"""State of one running generation: takes decode steps, makes tokens and their events."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from kernels.log_softmax import kl_to_dense, top_k
from sol_core.actions import AXES, Action, ActionGrid, Spend
from sol_core.config import DENSE_ROW, GenerationConfig
from sol_core.decoding.loop import DecodeStep
from sol_core.errors import ConfigError, ContextLengthError
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
    TextUntilStop,
    TokenSampler,
    page_texts,
)
from sol_core.generation.schedules import GenerationSchedules
from sol_core.models.loading import LanguageModel
from sol_core.models.provenance import made_on
from sol_core.policy.scheduler import Distribution

MOST_CELLS = 64  # per layer
_MOST_LEVELS = 3072  # per record: 1,024 characters
_DIGITS = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8
)  # base64
_PARTLY = 2  # levels for a cell that is read in part; one more for a cell read in full
NUM_ALTERNATIVES = 5
RECORDS = ("hidden", "attention", "pages")


def check_tokens(model: LanguageModel, tokens: Sequence[int], what: str, fed: int = 0) -> None:
    """Raise ConfigError for unknown tokens, ContextLengthError if too many are fed."""
    if tokens and not 0 <= min(tokens) <= max(tokens) < model.spec.vocab_size:
        raise ConfigError(
            f"{what} has tokens outside the vocabulary of {model.name} "
            f"(0 to {model.spec.vocab_size - 1})"
        )
    if fed > model.context_length:
        raise ContextLengthError(
            f"{fed} tokens exceed the context of {model.name}, {model.context_length}"
        )


def page_reads(readers: Any, num_kv_heads: int, *, exact: bool = False) -> PageReads:
    """Record which pages were read.

    Args:
        readers: [L, P] integer array, the number of KV heads that read each page; P ≥ 1.
    """
    num_layers, pages = readers.shape
    most = max(1, min(MOST_CELLS, _MOST_LEVELS // num_layers))
    width = 1 if exact else -(-pages // most)
    starts = np.arange(0, pages, width)
    read = np.add.reduceat(readers.astype(np.int64), starts, axis=1)
    pairs = np.diff(starts, append=pages) * num_kv_heads
    levels = -(-_PARTLY * read // pairs) + (read == pairs)
    read_fraction = float(readers.sum(dtype=np.int64)) / (readers.size * num_kv_heads)
    by_page = reads_by_page(readers, num_kv_heads)
    return PageReads(pages, len(starts), _packed(levels), read_fraction, by_page)


def row_page_reads(
    model: LanguageModel, step: DecodeStep, row: int, grid: ActionGrid, *, exact: bool = False
) -> PageReads:
    """Record which pages a step's row read; the step must have recorded pages."""
    return page_reads(page_readers(step, row, grid), model.spec.num_kv_heads, exact=exact)


def page_readers(step: DecodeStep, row: int, grid: ActionGrid) -> Any:
    """Return [L, P], the number of KV heads of a row that read each page."""
    assert step.output.page_readers is not None
    pages = -(-step.cached_tokens[row] // grid.page_size)
    return step.output.page_readers[row, :, :pages].cpu().numpy()


def reads_by_page(readers: Any, num_kv_heads: int) -> str:
    """Return ``PageReads.by_page`` for readers [L, P], see ``page_reads``."""
    fractions = readers.mean(0, dtype=np.float64) / num_kv_heads
    return "" if fractions.min() == 1 else base64_digits(fractions)


def base64_digits(parts: Any) -> str:
    """Encode numbers from 0 to 1 as base64 digits, in 63rds, rounded up."""
    return str(_DIGITS[np.ceil(parts * 63 - 1e-9).astype(int)].tobytes(), "ascii")


def _packed(levels: Any) -> str:
    """Encode levels as base64, two bits each."""
    quads = np.pad(levels.ravel(), (0, -levels.size % 4)).reshape(-1, 4)
    return base64.b64encode((quads @ [1, 4, 16, 64]).astype(np.uint8).tobytes()).decode()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of one call that no stored configuration can hold."""

    logits_processors: Sequence[LogitsProcessor] = ()  # change draws, not measurements
    record: frozenset[str] = frozenset()  # some of RECORDS: exact "pages", the others as tensors


class GeneratedSequence:
    """The ``number``-th prompt of a call, and what is generated after it."""

    def __init__(
        self,
        model: LanguageModel,
        config: GenerationConfig,
        schedules: GenerationSchedules,
        number: int,
        prompt: str,
        tokens: list[int],
        options: RunOptions,
    ) -> None:
        check_tokens(model, config.given, "given")
        self._grid = config.grid_in_use
        count = (len(tokens) - 1) // self._grid.page_size
        if not all(page < count for page in config.left_out):
            pages = f"pages 0 to {count - 1}" if count else "no page"
            raise ConfigError(
                f"of a prompt of {len(tokens)} tokens {pages} can be left out, got "
                f"{', '.join(map(str, config.left_out))}"
            )
        self.number, self.tokens = number, tokens
        self.next_token = tokens[-1]  # last drawn token; before the first draw, the prompt's last
        self.max_steps = min(config.max_new_tokens, model.context_length - len(tokens))
        self.ended: FinishReason | None = None  # why it ended; None while it runs
        self._model, self._config, self._schedules = model, config, schedules
        self._prompt, self._options = prompt, options
        self._keeps_tensors = bool(options.record - {"pages"})  # never for stored runs
        self._side_names = [row.name for row in config.side_rows]
        self._sampler = TokenSampler(config.sampling, tokens, options.logits_processors)
        self._stream = TextStream(model.text_codec, tokens)
        self._specials = set(model.text_codec.all_special_ids)
        self._end_tokens = set() if config.ignore_end_of_text else model.end_of_text_ids
        self._visible = TextUntilStop(config.stop_strings)
        self._prefill_ms = 0.0
        # Collected per step, summed at the end.
        self._actions: list[Action] = []
        self._costs: list[StepCost] = []
        self._dense_costs: list[StepCost] = []

    @property
    def fits_beside_others(self) -> bool:
        """Return whether it can be decoded in a batch with other prompts."""
        whole = self.max_steps == self._config.max_new_tokens
        return whole and len(self.tokens) > 1

    def prefill_event(self, elapsed_ms: float, reused: int) -> PrefillEvent:
        self._prefill_ms = elapsed_ms
        count = len(self.tokens)
        cost = self._schedules.costs.prefill(count - 1 - reused, reused)
        texts: tuple[str, ...] = ()
        if self._config.page_reads or "pages" in self._options.record:
            pages = page_texts(self._model.text_codec, self.tokens, self._grid.page_size)
            texts = tuple(pages)
        return PrefillEvent(count, self._prompt, elapsed_ms, cost, texts, reused)

    def consume(self, step: DecodeStep, began: float, policy: Distribution | None) -> TokenEvent:
        """Take the given token or draw the next from row 0; return the step's event."""
        given = self._config.given[step.index : step.index + 1]
        token = self._sampler.draw(step.output.logits[0], *given)
        self.next_token = token
        text = self._stream.push(token)
        if token in self._end_tokens:
            self.ended = "end_of_text"
        elif self._visible.add(text):
            self.ended = "stop_string"
        shown = self._model.spelled(token) if token in self._specials else text
        event = self._event(step, token, shown, began, policy)
        self._actions.append(event.action)
        self._costs.append(event.cost)
        self._dense_costs.append(event.dense_cost)
        return self._recorded(event, step) if self._keeps_tensors else event

    def _recorded(self, event: TokenEvent, step: DecodeStep) -> RecordedTokenEvent:
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        states, mass = step.output.hidden_states, step.output.page_mass
        pages = -(-event.cached_tokens // self._grid.page_size)
        return RecordedTokenEvent(
            **values,
            hidden_states=None if states is None else states[0],
            attention=None if mass is None else mass[0, ..., :pages],
        )

    def finish(self, decode_ms: float, left_at: float | None) -> FinishEvent:
        """Return the last event; without another reason, the steps ran out."""
        self._visible.add(self._stream.flush())
        if self.ended is None:
            whole = self.max_steps == self._config.max_new_tokens
            self.ended = "length" if whole else "context_full"
        count, spend = len(self._actions), None
        cost, dense_cost = sum(self._costs, StepCost()), sum(self._dense_costs, StepCost())
        if count:
            values = (np.array(action.as_tuple()) for action in self._actions)
            taken = sum(values, np.zeros(len(AXES))).tolist()
            spend = Spend.of_steps(taken, count, cost.bytes_read, dense_cost.bytes_read)
        return FinishEvent(
            reason=self.ended,
            text=self._visible.text,
            num_tokens=count,
            spend=spend,
            prefill_ms=self._prefill_ms,
            decode_ms=decode_ms,
            tokens_per_s=1000 * count / decode_ms if decode_ms > 0 else 0.0,
            cost=cost,
            dense_cost=dense_cost,
            made_on=made_on(self._model),
            left_at=left_at,
        )

    def _event(
        self, step: DecodeStep, token: int, text: str, began: float, policy: Distribution | None
    ) -> TokenEvent:
        kl_to_dense, side = self._beside(step, token) if self._side_names else (None, ())
        step_ms, page_reads = ms_since(step.started), None
        if step.output.page_readers is not None:
            exact = "pages" in self._options.record
            page_reads = row_page_reads(self._model, step, 0, self._grid, exact=exact)
        return TokenEvent(
            index=step.index,
            token_id=token,
            text=text,
            action=step.actions[0],
            surprisal=-float(step.log_probabilities[0, token]),
            entropy=float(step.entropy[0]),
            top=top_alternatives(self._model, step.log_probabilities[0]),
            kl_to_dense=kl_to_dense,
            side=side,
            step_ms=step_ms,
            elapsed_ms=ms_since(began),
            cost=step.cost(self._schedules.costs),
            dense_cost=self._schedules.costs.dense_step(step.cached_tokens[0]),
            cached_tokens=step.cached_tokens[0],
            policy=policy,
            parts_ms=None if step.clock is None else step.clock.part_times(step_ms),
            page_reads=page_reads,
        )

    def _beside(self, step: DecodeStep, token: int) -> tuple[float | None, tuple[SideEvent, ...]]:
        """Return KL(dense ‖ this), nats, or None without a dense row, and the side rows' events."""
        kl, *divergences = self._kl_to_dense(step.log_probabilities)
        log_probabilities = step.log_probabilities[1:]
        firsts = log_probabilities.max(-1)
        values = zip(
            self._side_names,
            step.actions[1:],
            (-log_probabilities[:, token]).tolist(),
            step.entropy[1:].tolist(),
            divergences,
            alternatives(self._model, firsts.values, firsts.indices),
            strict=True,
        )
        return kl, tuple(SideEvent(*row) for row in values)

    def _kl_to_dense(self, log_probabilities: Tensor) -> list[float | None]:
        """Return KL(dense ‖ row) of each row, nats; None without a dense row."""
        if DENSE_ROW not in self._side_names:
            return [None] * log_probabilities.shape[0]
        row = 1 + self._side_names.index(DENSE_ROW)
        divergences, _ = kl_to_dense(log_probabilities[row : row + 1], log_probabilities[None])
        divergences[0, row] = 0
        return divergences[0].tolist()


def top_alternatives(model: LanguageModel, log_probabilities: Tensor) -> tuple[Alternative, ...]:
    """Return the five most probable tokens of a distribution [V], best first."""
    best = top_k(log_probabilities, min(NUM_ALTERNATIVES, log_probabilities.shape[0]))
    return alternatives(model, *best)


def alternatives(
    model: LanguageModel, log_probabilities: Tensor, tokens: Tensor
) -> tuple[Alternative, ...]:
    """Spell tokens [N] int64 and add their probabilities."""
    pairs = zip(tokens.tolist(), log_probabilities.exp().tolist(), strict=True)
    return tuple(Alternative(token, model.spelled(token), likely) for token, likely in pairs)


def ms_since(start: float) -> float:
    """Return the milliseconds since ``time.perf_counter()`` was ``start``."""
    return (time.perf_counter() - start) * 1000

"""Scores a text token by token under several schedules, as rows of one batch.

Teacher forcing on the one decode loop (``loop.py``): the step that feeds a token is scored
on the one after it. All rows share the densely read prefix and the text's token path; each has
its own schedule and its own KV cache from there on, so what a compressed step left in its
cache stays with it (SOL, arXiv:2605.10875, "KV pollution"). Row 0 is dense and the reference.

Static is scored once more at the bytes that another row really read, where they differ: a schedule
does not win by overspending.

The report is read off what was measured: no level is tried that no row took. So a token counts
as over-served only where another row of the inspection really spent less on it and came to no
harm, and a loss holds what earlier compressed steps left in the row's cache as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sol_core.actions import Budget
from sol_core.comparing.statistics import ENOUGH_TOKENS
from sol_core.comparing.token_kinds import predicted_kinds
from sol_core.decoding.loop import DecodeOptions, DecodeStep, prefilled_in_chunks
from sol_core.decoding.teacher_forcing import ScoredStep, teacher_forced
from sol_core.errors import ConfigError
from sol_core.evaluation.probes import difficulty_report
from sol_core.events import StepCost
from sol_core.files.places import whole_characters
from sol_core.generation.engine import encode_prompt, never
from sol_core.generation.sampling import TextStream
from sol_core.generation.schedules import GenerationSchedules
from sol_core.generation.sequence import (
    check_tokens,
    most_probable,
    ms_since,
    page_readers,
    reads_by_page,
)
from sol_core.inspection.matching import StaticAgain
from sol_core.inspection.records import (
    DifficultyReport,
    InspectedRow,
    InspectedToken,
    InspectionConfig,
    InspectionEnd,
    InspectionEvent,
    InspectionStart,
    KindSpend,
    MatchedStatic,
    RowReport,
    RowTotals,
    TokenPlace,
)
from sol_core.models.loading import LanguageModel

HARMLESS_KL = 0.01  # nats; a step this close to dense did not need more than it got
LISTED = 10  # entries of a list at most


def difficulty(names: Sequence[str], tokens: Sequence[InspectedToken]) -> DifficultyReport:
    """The report of an inspection."""
    by_surprisal = sorted(tokens, key=lambda token: -token.rows[0].nll)
    return DifficultyReport(
        least_confident=tuple(_place(token, 0) for token in by_surprisal[:LISTED]),
        rows=tuple(
            _row_report(row, name, names, tokens) for row, name in enumerate(names) if row > 0
        ),
    )


def _row_report(
    row: int, name: str, names: Sequence[str], tokens: Sequence[InspectedToken]
) -> RowReport:
    dense = [token.rows[0] for token in tokens]
    steps = [token.rows[row] for token in tokens]
    kinds = np.array([token.kind for token in tokens])
    loss = np.array([step.nll - full.nll for step, full in zip(steps, dense, strict=True)])
    report = difficulty_report(
        surprisal=np.array([full.nll for full in dense]),
        entropy=np.array([full.entropy for full in dense]),
        kinds=kinds.tolist(),
        spend=np.array([[step.action.as_tuple() for step in steps]], dtype=np.float64),
        kl=np.array([[step.kl for step in steps]]),
    )
    return RowReport(
        name=name,
        correlation=report["correlation"],
        kinds=tuple(
            KindSpend(
                kind, int((kinds == kind).sum()), **means, loss=float(loss[kinds == kind].mean())
            )
            for kind, means in report["kinds"].items()
        ),
        under_served=_under_served(row, tokens, loss),
        over_served=_over_served(row, names, tokens),
    )


def _under_served(
    row: int, tokens: Sequence[InspectedToken], loss: NDArray[np.float64]
) -> tuple[TokenPlace, ...]:
    """Steps that got less than everything and lost most, the largest loss first."""
    order = np.argsort(-loss, kind="stable")
    worst = [
        tokens[at]
        for at in order.tolist()
        if loss[at] > HARMLESS_KL and not tokens[at].rows[row].action.is_dense
    ]
    return tuple(_place(token, row) for token in worst[:LISTED])


def _over_served(
    row: int, names: Sequence[str], tokens: Sequence[InspectedToken]
) -> tuple[TokenPlace, ...]:
    """Steps on which another row spent less at no harm, the largest difference first."""
    shifts = []
    for token in tokens:
        spent = _net(token.rows[row])
        # Dense is harmless by definition and never cheaper; it takes no part.
        harmless = [
            (_net(step), other)
            for other, step in enumerate(token.rows)
            if other not in (0, row) and step.kl <= HARMLESS_KL and _net(step) < spent - 1e-9
        ]
        if harmless:
            spend, other = min(harmless)
            shifts.append((spent - spend, token, other))
    shifts.sort(key=lambda entry: -entry[0])
    return tuple(_place(token, row, names, other) for _, token, other in shifts[:LISTED])


def _place(
    token: InspectedToken, row: int, names: Sequence[str] = (), cheaper: int | None = None
) -> TokenPlace:
    step, dense = token.rows[row], token.rows[0]
    other = None if cheaper is None else token.rows[cheaper]
    return TokenPlace(
        index=token.index,
        text=token.text,
        nll=step.nll,
        kl=step.kl,
        loss=step.nll - dense.nll,
        entropy=dense.entropy,
        spend=_net(step),
        cheaper="" if cheaper is None else names[cheaper],
        cheaper_spend=None if other is None else _net(other),
        cheaper_kl=None if other is None else other.kl,
    )


def _net(step: InspectedRow) -> float:
    return step.action.net_keep_rate


def inspect_text(
    model: LanguageModel,
    text: str,
    config: InspectionConfig,
    should_stop: Callable[[], bool] = never,
    policies: Callable[[str], Path] = Path,
) -> Iterator[InspectionEvent]:
    """Score a text under ``config.rows``.

    Args:
        policies: finds the folder of a policy by its name; by default the name is a folder.
    Yields: one InspectionStart, an InspectedToken per scored token, one InspectionEnd.
    Raises: SolError for a text or configuration that cannot be run, before any event.
    """
    tokens, prefix = text_tokens(model, text, config)
    schedules = GenerationSchedules(model, config.as_generation(), policies)
    return _Inspection(model, tokens, prefix, config, schedules, should_stop).run()


def text_tokens(model: LanguageModel, text: str, config: InspectionConfig) -> tuple[list[int], int]:
    """All tokens of a text, and how many of them are the prefix; it may need cutting yet."""
    if config.generated:
        check_tokens(model, config.generated, "generated")
        prompt = encode_prompt(model, text, chat=config.chat)
        return [*prompt, *config.generated], len(prompt)
    if not text.strip():
        raise ConfigError("the text is empty: there is nothing to score")
    tokens = model.encode(whole_characters(text))
    if len(tokens) <= config.prefix_tokens:
        raise ConfigError(
            f"the text has {len(tokens)} token{'s' * (len(tokens) != 1)} for {model.name}, of "
            f"which the first {config.prefix_tokens} cannot be scored: give a longer text"
        )
    return tokens, config.prefix_tokens


def cut(model: LanguageModel, tokens: list[int], config: InspectionConfig) -> list[int]:
    """The tokens that are looked at: up to ``max_tokens`` and the end of the context.

    The last one is scored and not fed, so it needs no room in the context.
    """
    room = model.context_length + 1
    return tokens[: min(room, config.max_tokens or room)]


class _Inspection:
    """State of one inspection while it runs."""

    def __init__(
        self,
        model: LanguageModel,
        tokens: list[int],
        prefix: int,
        config: InspectionConfig,
        schedules: GenerationSchedules,
        should_stop: Callable[[], bool],
    ) -> None:
        self.model, self.config, self.prefix = model, config, prefix
        self.schedules, self.should_stop = schedules, should_stop
        self.text_tokens = len(tokens)
        self.tokens = cut(model, tokens, config)
        self.kinds = predicted_kinds(model.tokenizer, self.tokens)
        self.stream = TextStream(model.text_codec, self.tokens[:prefix])
        self.specials = set(model.text_codec.all_special_ids)
        self.made: list[InspectedToken] = []

    @torch.no_grad()
    def run(self) -> Iterator[InspectionEvent]:
        began = time.perf_counter()
        lm, first = self.model.lm, self.prefix - 1
        grid = self.config.grid
        cache, state = prefilled_in_chunks(
            lm, self.tokens[:first], grid.page_size, self.schedules.observed, self.should_stop
        )
        steps = len(self.tokens) - self.prefix
        yield InspectionStart(
            rows=self.config.rows,
            prefix=tuple(self.tokens[: self.prefix]),
            prefix_text=self._spelled(self.tokens[: self.prefix]),
            text_tokens=self.text_tokens,
            scored_tokens=steps,
            elapsed_ms=ms_since(began),
        )
        options = DecodeOptions(
            max_steps=steps,
            mechanisms=grid.mechanisms,
            rows_per_sequence=len(self.config.rows),
            record={"pages"} if self.config.read_pages else (),
        )
        decode_began = time.perf_counter()
        stopped = self.should_stop()
        if not stopped:
            path, scheduler = self.tokens[first:], self.schedules.build(steps)
            for step in teacher_forced(lm, cache, [path], scheduler, options, state):
                self.made.append(self._scored(step, began))
                yield self.made[-1]
                stopped = len(self.made) < steps and self.should_stop()
                if stopped:
                    break
        decode_ms = ms_since(decode_began)
        totals = [self._totals(row, name) for row, name in enumerate(self.config.rows)]
        matched: tuple[MatchedStatic, ...] = ()
        if not stopped and "static" in self.config.rows and len(self.made) >= ENOUGH_TOKENS:
            again = StaticAgain(self.model, self.config, self.tokens[first:], cache, state)
            matched = again.beside(totals, self.should_stop)
        yield self._end(stopped, decode_ms, totals, matched)

    def _scored(self, scored: ScoredStep, began: float) -> InspectedToken:
        step, token = scored.step, int(scored.targets)
        scores = zip(
            self.config.rows,
            step.actions,
            scored.nll[0].tolist(),
            scored.kl[0].tolist(),
            step.entropy.tolist(),
            strict=True,
        )
        rows = tuple(
            InspectedRow(
                *score,
                cost=self.schedules.step_cost(step, row),
                policy=(self.schedules.distributions(row) or (None,))[0],
                pages_read=self._pages_read(step, row),
            )
            for row, score in enumerate(scores)
        )
        shown = self.stream.push(token)
        return InspectedToken(
            index=step.index,
            token_id=token,
            text=self.model.spelled(token) if token in self.specials else shown,
            kind=self.kinds[self.prefix + step.index - 1],
            top=most_probable(self.model, step.log_probabilities[0]),
            rows=rows,
            cached_tokens=step.cached_tokens[0],
            step_ms=ms_since(step.started),
            elapsed_ms=ms_since(began),
        )

    def _pages_read(self, step: DecodeStep, row: int) -> str:
        readers = page_readers(step, row, self.config.grid)
        return "" if readers is None else reads_by_page(readers, self.model.spec.num_kv_heads)

    def _spelled(self, tokens: list[int]) -> str:
        return str(self.model.text_codec.decode(tokens, clean_up_tokenization_spaces=False))

    def _end(
        self,
        stopped: bool,
        decode_ms: float,
        totals: Sequence[RowTotals],
        matched: tuple[MatchedStatic, ...],
    ) -> InspectionEnd:
        count = len(self.made)
        return InspectionEnd(
            reason="stopped" if stopped else "finished",
            num_tokens=count,
            decode_ms=decode_ms,
            tokens_per_s=1000 * count / decode_ms if decode_ms > 0 else 0.0,
            rows=tuple(totals) if count else (),
            report=difficulty(self.config.rows, self.made) if count else None,
            matched=matched,
        )

    def _totals(self, row: int, name: str) -> RowTotals:
        count = max(len(self.made), 1)
        steps = [token.rows[row] for token in self.made]
        axes = zip(*(step.action.as_tuple() for step in steps), strict=True)
        return RowTotals(
            name=name,
            nll=sum(step.nll for step in steps) / count,
            kl=sum(step.kl for step in steps) / count,
            spend=Budget(*(sum(axis) / count for axis in axes)),
            cost=sum((step.cost for step in steps), StepCost()),
        )

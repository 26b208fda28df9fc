"""Scores a text token by token under several schedules, as rows of one batch.

Uses teacher forcing in the decode loop (``loop.py``): the step that feeds a token is scored on the
next one. All rows share the densely read prefix and the token path. From there on, each has its own
schedule and KV cache, so a compressed step's keys and values stay with it (SOL, arXiv:2605.10875,
"KV pollution"). Row 0 is dense and the reference.

If a row read other bytes than static, static is scored again at the row's bytes, so no schedule
wins by overspending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sol_core.actions import ActionGrid, Budget, Spend
from sol_core.config import ScheduleConfig
from sol_core.corpus.token_kinds import predicted_kinds
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions, ScoredStep, teacher_forced
from sol_core.decoding.prefix import PrefixState, read_prefix_in_chunks
from sol_core.errors import ConfigError
from sol_core.events import StepCost
from sol_core.fields import check_text
from sol_core.generation import sequence
from sol_core.generation.engine import encode_prompt
from sol_core.generation.sampling import TextStream, page_texts
from sol_core.generation.schedules import GenerationSchedules, PolicyFinder, with_grid
from sol_core.generation.sequence import check_tokens, ms_since
from sol_core.inspection import records
from sol_core.inspection.records import InspectedToken, InspectionConfig, InspectionEvent
from sol_core.inspection.report import difficulty, inspection_verdicts
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel
from sol_core.models.provenance import made_on
from sol_core.progress import no_stop
from sol_core.reporting.verdict import ENOUGH_TOKENS

MATCHED_SHARE = 0.01  # of the dense bytes; rows within it spent the same
BISECTIONS = 40


def inspect_text(
    model: LanguageModel,
    text: str,
    config: InspectionConfig,
    should_stop: Callable[[], bool] = no_stop,
    policies: PolicyFinder = Path,
) -> Iterator[InspectionEvent]:
    """Score a text under ``config.rows``.

    Yields: PrefillProgress while a long prefix is read, one InspectionStart, an InspectedToken per
        scored token, one InspectionEnd.
    Raises: SolError for a text or configuration that cannot be run, before any event.
    """
    config = with_grid(config, policies)
    tokens, prefix = text_tokens(model, text, config)
    schedules = GenerationSchedules(model, config.as_generation(), policies)
    return _Inspection(model, tokens, prefix, config, schedules, should_stop).run()


def text_tokens(model: LanguageModel, text: str, config: InspectionConfig) -> tuple[list[int], int]:
    """Return a text's tokens, not yet cut, and the length of the prefix."""
    if config.generated:
        check_tokens(model, config.generated, "generated")
        prompt = encode_prompt(model, text, chat=config.chat)
        return [*prompt, *config.generated], len(prompt)
    if not text.strip():
        raise ConfigError("the text is empty: there is nothing to score")
    check_text("the text", text)
    tokens = model.encode(text)
    if len(tokens) <= config.prefix_tokens:
        raise ConfigError(
            f"the text has {len(tokens)} token{'s' * (len(tokens) != 1)} for {model.name}, of "
            f"which the first {config.prefix_tokens} cannot be scored: give a longer text"
        )
    return tokens, config.prefix_tokens


def cut(model: LanguageModel, tokens: list[int], config: InspectionConfig) -> list[int]:
    """Cut tokens to ``max_tokens`` and the context window."""
    room = model.context_length + 1  # the last token is scored, not fed
    return tokens[: min(room, config.max_tokens or room)]


def budget_of_bytes(
    costs: CostModel, grid: ActionGrid, near: Budget, context: int, num_bytes: float
) -> Budget:
    """Find the budget per axis that reads ``num_bytes`` per step, or the nearest.

    Attention and channels move together from ``near`` towards their highest or lowest levels. Bits
    stay, because no byte depends on them.
    """
    keeps, ratios, _ = grid.levels()
    middle = near.keep_fraction, near.channel_keep_ratio
    corners = (keeps[-1], ratios[-1]), middle, (keeps[0], ratios[0])

    def at(point: float) -> Budget:
        keep, ratio = (
            float(np.interp(point, range(len(corners)), levels))
            for levels in zip(*corners, strict=True)
        )
        return Budget(keep, ratio, near.bit_width)

    low, high = 0.0, float(len(corners) - 1)  # the wanted reading lies between theirs
    for _ in range(BISECTIONS):
        point = (low + high) / 2
        reads_more = costs.decode_step(at(point), context).bytes_read > num_bytes
        low, high = (point, high) if reads_more else (low, point)
    return at(high)


class _Inspection:
    """A running inspection."""

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
        self.path = self.tokens[prefix - 1 :]  # tokens to feed, and a last one to score
        self.kinds = predicted_kinds(model.tokenizer, self.tokens)
        self.stream = TextStream(model.text_codec, self.tokens[:prefix])
        self.specials = set(model.text_codec.all_special_ids)
        self.made: list[InspectedToken] = []

    @torch.no_grad()
    def run(self) -> Iterator[InspectionEvent]:
        began = time.perf_counter()
        model, config, prefix = self.model, self.config, self.tokens[: self.prefix]
        grid, steps = config.grid_in_use, len(self.path) - 1
        read = yield from read_prefix_in_chunks(
            model.lm,
            prefix[:-1],
            grid.page_size,
            self.schedules.observed,
            self.should_stop,
            model.prefixes,
        )
        cache, state = read.cache, read.state
        yield self._start(began, read.reused)
        options = DecodeOptions(
            max_steps=steps,
            mechanisms=grid.mechanisms,
            record={"pages"} if config.read_pages else (),
        )
        decode_began = time.perf_counter()
        stopped = self.should_stop()
        if not stopped:
            scheduler = self.schedules.build(steps, cache.lengths)
            branch = cache.branch(len(config.rows), steps)
            for step in teacher_forced(model.lm, branch, [self.path], scheduler, options, state):
                self.made.append(self._scored(step, began))
                yield self.made[-1]
                stopped = len(self.made) < steps and self.should_stop()
                if stopped:
                    break
        yield self._end(ms_since(decode_began), cache, state, stopped=stopped)

    def _start(self, began: float, reused: int) -> records.InspectionStart:
        codec, prefix = self.model.text_codec, self.tokens[: self.prefix]
        pages: Iterable[str] = ()
        if self.config.read_pages:
            pages = page_texts(codec, prefix, self.config.grid_in_use.page_size)
        return records.InspectionStart(
            rows=self.config.rows,
            prefix=tuple(prefix),
            prefix_text=str(codec.decode(prefix, clean_up_tokenization_spaces=False)),
            text_tokens=self.text_tokens,
            scored_tokens=len(self.path) - 1,
            elapsed_ms=ms_since(began),
            reused_tokens=reused,
            page_texts=tuple(pages),
        )

    def _end(
        self, decode_ms: float, cache: KVCache, state: PrefixState | None, *, stopped: bool
    ) -> records.InspectionEnd:
        """Make the last event, scoring static again where bytes differ."""
        names, count = self.config.rows, len(self.made)
        rows = enumerate(names if count else ())
        totals = tuple(self._totals(row, name) for row, name in rows)
        matched: tuple[records.MatchedStatic, ...] = ()
        if not stopped and "static" in names and count >= ENOUGH_TOKENS:
            matched = tuple(self._static_again(totals, cache, state))
        return records.InspectionEnd(
            reason="stopped" if stopped else "finished",
            num_tokens=count,
            decode_ms=decode_ms,
            tokens_per_s=1000 * count / decode_ms if decode_ms > 0 else 0.0,
            rows=totals,
            report=difficulty(self.made) if count else None,
            matched=matched,
            verdicts=inspection_verdicts(self.made, totals, matched),
            made_on=made_on(self.model),
        )

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
        rows = []
        for row, score in enumerate(scores):
            pages_read = ""
            if step.output.page_readers is not None:
                readers = sequence.page_readers(step, row, self.config.grid_in_use)
                pages_read = sequence.reads_by_page(readers, self.model.spec.num_kv_heads)
            cost = step.cost(self.schedules.costs, row)
            by_policy = self.schedules.policy_rows.get(row)
            policy = None if by_policy is None else by_policy.distributions()[0]
            rows.append(records.InspectedRow(*score, cost, policy, pages_read))
        shown = self.stream.push(token)
        return InspectedToken(
            index=step.index,
            token_id=token,
            text=self.model.spelled(token) if token in self.specials else shown,
            kind=self.kinds[self.prefix + step.index - 1],
            top=sequence.top_alternatives(self.model, step.log_probabilities[0]),
            rows=tuple(rows),
            cached_tokens=step.cached_tokens[0],
            step_ms=ms_since(step.started),
            elapsed_ms=ms_since(began),
        )

    def _totals(self, row: int, name: str) -> records.RowTotals:
        count = len(self.made)
        steps = [token.rows[row] for token in self.made]
        sums = map(sum, zip(*(step.action.as_tuple() for step in steps), strict=True))
        cost = sum((step.cost for step in steps), StepCost())
        dense = sum(token.rows[0].cost.bytes_read for token in self.made)
        return records.RowTotals(
            name=name,
            nll=sum(step.nll for step in steps) / count,
            kl=sum(step.kl for step in steps) / count,
            spend=Spend.of_steps(sums, count, cost.bytes_read, dense),
            cost=cost,
        )

    def _static_again(
        self, totals: Sequence[records.RowTotals], cache: KVCache, state: PrefixState | None
    ) -> Iterator[records.MatchedStatic]:
        """Score static at the bytes of each row that read more or less."""
        dense, static = totals[0], next(row for row in totals if row.name == "static")
        for row in totals[1:]:
            gap = row.cost.bytes_read - static.cost.bytes_read
            if abs(gap) <= MATCHED_SHARE * dense.cost.bytes_read:
                continue
            budget = self._budget(row, dense)
            try:
                nll, kl, cost = self._score_static(budget, cache, state)
            except ConfigError:  # no mix reads so few bytes
                continue
            if len(nll) < len(self.made):  # stopped
                return
            yield records.MatchedStatic(row.name, budget, tuple(nll), cost, tuple(kl))

    def _budget(self, row: records.RowTotals, dense: records.RowTotals) -> Budget:
        """Return the budget at which static reads as much as a row."""
        asked = next(row.budget for row in self.config.schedules if row.kind == "static")
        if asked.bytes_share is not None:
            share = min(row.cost.bytes_read / dense.cost.bytes_read, 1.0)
            return Budget.share(share, asked.bit_width)
        steps, grid = len(self.made), self.config.grid_in_use
        context, num_bytes = self.prefix + steps // 2, row.cost.bytes_read / steps
        costs = CostModel.of(self.model.lm, grid)
        return budget_of_bytes(costs, grid, row.spend, context, num_bytes)

    def _score_static(
        self, budget: Budget, cache: KVCache, state: PrefixState | None
    ) -> tuple[list[float], list[float], StepCost]:
        """Score static; return NLL and KL per token, fewer if stopped, and the cost."""
        grid, steps = self.config.grid_in_use, len(self.made)
        config = replace(self.config, schedules=(ScheduleConfig("static", budget),))
        schedules = GenerationSchedules(self.model, config.as_generation(), Path)
        scheduler = schedules.build(steps, cache.lengths)
        options = DecodeOptions(steps, grid.mechanisms)
        nll, kl, cost = [], [], StepCost()
        lm, rows = self.model.lm, cache.branch(2, steps)
        for scored in teacher_forced(lm, rows, [self.path], scheduler, options, state):
            if self.should_stop():
                break
            cost += scored.step.cost(schedules.costs, 1)
            nll.append(float(scored.nll[0, 1]))
            kl.append(float(scored.kl[0, 1]))
        return nll, kl, cost

"""The counterfactual lens: tries other actions at one token of a run.

The run's KV cache is rebuilt bit for bit as it was at a decode step. That step is decoded again
with all alternatives as rows of one batch. Some rows continue with the following tokens and their
actions, which shows how far their keys and values carry the damage (SOL, arXiv:2605.10875).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from kernels.log_softmax import kl_to_dense
from sol_core.actions import AXES, DENSE, Action
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions, ScoredStep, teacher_forced
from sol_core.decoding.prefix import read_prefix
from sol_core.errors import ConfigError
from sol_core.evaluation.statistics import rank_correlation
from sol_core.generation.schedules import PolicyFinder, with_grid
from sol_core.generation.sequence import alternatives, check_tokens
from sol_core.inspection.engine import cut, inspect_text, text_tokens
from sol_core.inspection.records import InspectedToken, InspectionConfig
from sol_core.inspection.report import noise_floor
from sol_core.lens import records
from sol_core.lens.records import LensRun, PageEffect, PageEffects
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel

FOLLOWING = 16  # following tokens to measure damage on
ROWS_AT_ONCE = 128
PAGES_AT_ONCE = 32  # rows, each without one page; half a second after 2,048 tokens


class Lens:
    """Measures single steps of one run; keeps the replayed cache between measurements."""

    def __init__(self, model: LanguageModel, run: LensRun) -> None:
        check_tokens(model, run.tokens, "the run", len(run.tokens) - 1)
        self._model, self._lm, self._run = model, model.lm, run
        # The replayed part of the run, extended on demand.
        self._along: KVCache | None = None  # the run's row, and the full model's if it ran along
        self._cache: KVCache | None = None  # a copy of the run's row, to branch from
        self._replayed: list[records.ReplayedStep] = []
        self._effects: dict[int, tuple[list[PageEffect], list[float]]] = {}  # by token

    @torch.no_grad()
    def look(self, index: int, without: Sequence[int] = ()) -> records.LensView:
        """Measure a step at each level, the effect of the lowest ones, and it without pages."""
        taken, grid = self._taken(index), self._run.grid
        axes = [
            [taken.with_level(axis, level) for level in levels]
            for axis, levels in zip(AXES, grid.levels(), strict=True)
        ]
        actions = [taken, *(action for levels in axes for action in levels)]
        rows = self._rows(index, actions)
        lowest = {axis.field: levels[0] for axis, levels in zip(AXES, axes, strict=True)}
        return records.LensView(
            index,
            rows[taken],
            rows[DENSE],
            tuple(tuple(rows[action] for action in levels) for levels in axes),
            self._trails(index, {"taken": taken} | lowest),
            self._replayed[index],
            self.without(index, [without])[0] if without else None,
            noise_floor(taken),
        )

    @torch.no_grad()
    def without(self, index: int, sets: Sequence[Sequence[int]]) -> tuple[PageEffect, ...]:
        """Measure the step as taken, without each of these sets of pages."""
        taken, count = self._taken(index), self._page_count(index)
        if not all(0 <= page < count for pages in sets for page in pages):
            raise ConfigError(
                f"token {index} can be decoded without pages 0 to {count - 1}, got "
                f"{sorted({page for pages in sets for page in pages})}"
            )
        always = self._run.left_out
        rows = [always, *((*always, *pages) for pages in sets)]
        (scored,) = self._steps(index, [[taken]] * len(rows), left_out=rows)
        best = scored.step.log_probabilities.max(-1)
        nll, kl = scored.nll[0].tolist(), scored.kl[0].tolist()
        choices = alternatives(self._model, best.values, best.indices)
        return tuple(
            PageEffect(tuple(pages), kl[row], nll[row] - nll[0], nll[row], choices[row])
            for row, pages in enumerate(sets, start=1)
        )

    def page_effects(self, index: int, most: int = PAGES_AT_ONCE) -> PageEffects:
        """Measure the next ``most`` single pages; call again until all are done."""
        self._taken(index)
        if index not in self._effects:
            self._effects[index] = [], self._attention(index)
        (known, attention), count = self._effects[index], self._page_count(index)
        first = len(known)
        pages = range(first, min(first + most, count))
        if pages:
            known += self.without(index, [(page,) for page in pages])
        correlation, kl = None, [effect.kl for effect in known]
        if len(kl) == count and len(set(kl)) > 1 and len(set(attention)) > 1:
            correlation = rank_correlation(np.asarray(kl), np.asarray(attention))
        return PageEffects(index, count, tuple(known), tuple(attention), correlation)

    def _page_count(self, index: int) -> int:
        """Return the number of pages before that of the step's own token."""
        return (self._run.before + index) // self._run.grid.page_size

    def _attention(self, index: int) -> list[float]:
        """Return each removable page's fraction of a dense step's attention."""
        at, pages = self._run.before + index, self._page_count(index)
        if not pages:
            return []
        cache = self._replay(index).branch(1, 1, lengths=[at])
        fed = torch.tensor([self._run.tokens[at]], device=self._lm.device)
        how = self._run.grid.mechanisms
        mass = self._lm.decode_step(fed, cache, mechanisms=how, record=["attention"]).page_mass
        assert mass is not None
        means: list[float] = mass[0].mean((0, 1))[:pages].tolist()
        return means

    def _taken(self, index: int) -> Action:
        count = len(self._run.actions)
        if not 0 <= index < count:
            raise ConfigError(f"the run has tokens 0 to {count - 1}, got {index!r}")
        return self._run.actions[index]

    def _rows(self, index: int, actions: Sequence[Action]) -> dict[Action, records.LensRow]:
        """Measure the step under each of these actions and the dense one."""
        rows: dict[Action, records.LensRow] = {}
        for batch in _batches(actions, ROWS_AT_ONCE):
            (scored,) = self._steps(index, [[action] for action in batch])
            best = scored.step.log_probabilities.max(-1)
            numbers = (scored.nll[0].tolist(), scored.kl[0].tolist(), scored.step.entropy.tolist())
            choices = alternatives(self._model, best.values, best.indices)
            for row in zip(batch, *numbers, choices, strict=True):
                rows[row[0]] = records.LensRow(*row)
        return rows

    def _trails(self, index: int, named: dict[str, Action]) -> tuple[records.LensTrail, ...]:
        """Measure the effect of each action at this step on the following tokens."""
        followed = self._run.actions[index + 1 : index + 1 + FOLLOWING]
        tried = list(dict.fromkeys((DENSE, *named.values())))
        scores = self._steps(index, [[action, *followed] for action in tried])[1:]
        trails = []
        for name, action in named.items():
            row = tried.index(action)
            change = tuple(float(step.nll[0, row] - step.nll[0, 0]) for step in scores)
            kl = tuple(float(step.kl[0, row]) for step in scores)
            trails.append(records.LensTrail(name, action, change, kl))
        return tuple(trails)

    def _steps(
        self,
        index: int,
        schedules: Sequence[Sequence[Action]],
        left_out: Sequence[Sequence[int]] | None = None,
    ) -> list[ScoredStep]:
        """Decode the steps from ``index`` on, one row per schedule."""
        steps, start = len(schedules[0]), self._run.before + index
        cache = self._replay(index).branch(len(schedules), steps, [start], [0])
        if left_out is None and self._run.left_out:
            left_out = [self._run.left_out] * len(schedules)
        return list(self._decode(cache, index, schedules, left_out))

    def _replay(self, index: int) -> KVCache:
        """Replay the run at least through step ``index``; return its row's cache."""
        run = self._run
        if self._along is None:
            before, kept = run.tokens[: run.before], self._model.prefixes
            read = read_prefix(self._lm, before, run.grid.page_size, prefixes=kept)
            self._along = read.cache.branch(1 + run.shadow, len(run.actions))
        first = len(self._replayed)
        if first <= index or self._cache is None:
            schedules = [run.actions[first : index + 1]]
            schedules += [(DENSE,) * len(schedules[0])] * run.shadow
            # The full model reads all pages.
            left_out = [run.left_out, *[()] * run.shadow] if run.left_out else None
            for step in self._decode(self._along, first, schedules, left_out):
                self._replayed.append(self._replayed_step(step))
            self._cache = self._along.copy_row(0)
        return self._cache

    def _replayed_step(self, scored: ScoredStep) -> records.ReplayedStep:
        kl, rows = 0.0 if self._run.is_dense else None, scored.step.log_probabilities
        if self._run.shadow:
            kl = float(kl_to_dense(rows[1:], rows[None, :1])[0])
        return records.ReplayedStep(float(scored.nll[0, 0]), float(scored.step.entropy[0]), kl)

    def _decode(
        self,
        cache: KVCache,
        first: int,
        schedules: Sequence[Sequence[Action]],
        left_out: Sequence[Sequence[int]] | None,
    ) -> Iterator[ScoredStep]:
        """Decode along the run's tokens from step ``first`` on, one row per schedule."""
        options = DecodeOptions(len(schedules[0]), self._run.grid.mechanisms, left_out=left_out)
        path = self._run.tokens[self._run.before + first :]
        return teacher_forced(self._lm, cache, [path], PlannedRows(schedules), options)


def _batches(actions: Sequence[Action], most: int) -> Iterator[list[Action]]:
    """Yield distinct actions in batches of at most ``most`` rows, a dense row first."""
    others = [action for action in dict.fromkeys(actions) if not action.is_dense]
    for first in range(0, max(len(others), 1), most - 1):
        yield [DENSE, *others[first : first + most - 1]]


def run_of_text(
    model: LanguageModel,
    text: str,
    index: int,  # 0-based among the scored tokens, as in an inspection
    config: InspectionConfig,  # its schedule applies to other steps and axes; dense without one
    policies: PolicyFinder = Path,
) -> tuple[LensRun, int]:
    """Make the run along a text; return it and the id of its token ``index``."""
    config = with_grid(config, policies)
    tokens, prefix = text_tokens(model, text, config)
    tokens = cut(model, tokens, config)
    count = len(tokens) - prefix
    if not 0 <= index < count:
        raise ConfigError(
            f"token must be 0 to {count - 1}, got {index}: of the text's {len(tokens)} tokens the "
            f"first {prefix} cannot be predicted, and token 0 is the next one"
        )
    token = tokens[prefix + index]
    if not config.schedules:
        return LensRun(tuple(tokens), (DENSE,) * count, config.grid_in_use), token
    actions = []
    for event in inspect_text(model, text, config, policies=policies):
        if isinstance(event, InspectedToken):
            actions.append(event.rows[1].action)
        if len(actions) > index + FOLLOWING:
            break
    known = tuple(tokens[: prefix + len(actions)])
    return LensRun(known, tuple(actions), config.grid_in_use), token

"""Probes of an evaluation: spend against how hard a token is, and pollution of the cache.

Keys and values that compressed steps wrote stay in the cache (SOL, arXiv:2605.10875). The probe
compresses R steps on one axis at one level (the impulse), decodes the next R densely, and compares
the tail's perplexity with a run that was dense throughout.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sol_core.actions import AXES, DENSE, SHORT_AXES, Action, ActionGrid
from sol_core.corpus.token_kinds import KINDS
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.loop import DecodeOptions
from sol_core.evaluation.rollout import Floats, read_windows, roll_out
from sol_core.evaluation.stages import PREFILL_UNITS, PROBE_TEXTS, ROWS_AT_ONCE, Setting, TextStage
from sol_core.evaluation.statistics import PairedBootstrap, Values, rank_correlation

LEVELS = (0, 1, 2, 4)  # the lowest levels of an axis, where pollution shows if anywhere


def difficulty_report(
    *,
    surprisal: Values,  # surprisal, entropy: [M] nats, of the dense model; M = N texts × T steps
    entropy: Values,
    kinds: Sequence[str],  # [M], one of ``KINDS`` each
    spend: Floats,  # spend, kl: [budgets, M, axes], and [budgets, M] nats; the policy's
    kl: Floats,
) -> dict[str, dict[str, Any]]:
    """``{"correlation": {AXIS: {"surprisal", "entropy"}}, "kinds": {KIND: {...}}}``.

    Spearman's correlations within each budget, averaged, so that a budget's level plays no part;
    means over tokens and budgets of each kind that occurs.
    """
    measures = {"surprisal": surprisal, "entropy": entropy}
    correlation = {
        axis: {
            name: float(
                np.mean([rank_correlation(per_token[:, index], values) for per_token in spend])
            )
            for name, values in measures.items()
        }
        for index, axis in enumerate(SHORT_AXES)
    }
    labels = np.asarray(kinds)
    by_kind = {}
    for kind in KINDS:
        chosen = labels == kind
        if not chosen.any():
            continue
        means = spend[:, chosen].mean(axis=(0, 1))
        by_kind[kind] = {
            "share": float(chosen.mean()),
            **{axis: float(mean) for axis, mean in zip(SHORT_AXES, means, strict=True)},
            "kl": float(kl[:, chosen].mean()),
        }
    return {"correlation": correlation, "kinds": by_kind}


def probe_actions(grid: ActionGrid) -> list[tuple[str, float, Action]]:
    """Axis, level and action of every impulse: one axis compressed, the others dense."""
    actions = []
    for axis, levels in zip(AXES, grid.levels(), strict=True):
        for index in LEVELS:
            level = levels[min(index, len(levels) - 1)]
            action = dataclasses.replace(DENSE, **{axis.field: level})  # type: ignore[arg-type]  # one axis
            entry = (axis.short, float(level), action)
            if not action.is_dense and entry not in actions:
                actions.append(entry)
    return actions


class PollutionProbe(TextStage):
    """Runs the impulses over the texts; ``report`` is for afterwards."""

    name, title = "pollution", "Probing the pollution of the cache"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, min(setting.config.texts, PROBE_TEXTS))
        self._impulses = probe_actions(setting.grid)
        config = setting.config
        self._region = config.steps
        self._context = config.context - config.steps
        shape = (self.num_texts, 1 + len(self._impulses), 2 * config.steps)
        self._nll, self._kl = np.zeros((2, *shape))
        self.texts_at_once = max(1, ROWS_AT_ONCE // shape[1])
        self.units_per_text = shape[1] * 2 * self._region + PREFILL_UNITS * self._context

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        setting, steps = self.setting, 2 * self._region
        num_texts, group = blocks.shape[0], self._nll.shape[1]
        windows = [(text, self._context) for text in blocks.tolist()]
        prefix = read_windows(setting.lm, windows, steps, setting.grid, observe=False)
        plans = [
            [action] * self._region + [DENSE] * self._region for _, _, action in self._impulses
        ]
        scheduler = PlannedRows([[DENSE], *plans] * num_texts)
        options = DecodeOptions(steps, setting.grid.mechanisms, rows_per_sequence=group)
        rollout = roll_out(setting.lm, prefix, scheduler, options)
        self._nll[first_text : first_text + num_texts] = rollout.nll
        self._kl[first_text : first_text + num_texts] = rollout.kl

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        texts = slice(first_text, first_text + count)
        return {"nll": self._nll[texts], "kl": self._kl[texts]}

    def report(self, seed: int) -> dict[str, Any]:
        """``{"region", "tail", "texts", "axes": {AXIS: [{"level", ...}]}}``.

        Per level the tail's ``change`` of perplexity with its interval, its ``kl`` and the change
        of NLL ``by_step``; ``region_kl`` of the impulse itself.
        """
        bootstrap = PairedBootstrap(self.num_texts, seed=seed)
        axes: dict[str, list[dict[str, Any]]] = {name: [] for name in SHORT_AXES}
        tail = slice(self._region, None)
        for row, (axis, level, _) in enumerate(self._impulses, start=1):
            change: Floats = self._nll[:, row, tail] - self._nll[:, 0, tail]
            interval = bootstrap.interval(change.mean(-1))
            axes[axis].append(
                {
                    "level": level,
                    "change": math.expm1(interval.mean),
                    "low": math.expm1(interval.low),
                    "high": math.expm1(interval.high),
                    "kl": float(self._kl[:, row, tail].mean()),
                    "region_kl": float(self._kl[:, row, : self._region].mean()),
                    "by_step": change.mean(0).tolist(),
                }
            )
        return {"region": self._region, "tail": self._region, "texts": self.num_texts, "axes": axes}

"""Gain and cost of refreshing the cache.

The first policy runs over several episodes twice: once as it is, once replaying every
finished episode densely, so that no compressed key or value outlives it (SOL,
arXiv:2605.10875). A replay is a dense pass over the episode's tokens: its computed cost
is reported beside the gain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from sol_core.actions import DENSE, SHORT_AXES, Budget
from sol_core.comparing.rollout import Floats, Layout, prefill_texts, roll_out
from sol_core.comparing.statistics import PairedBootstrap
from sol_core.decoding.cost import CostModel
from sol_core.decoding.loop import DecodeOptions
from sol_core.errors import ConfigError
from sol_core.evaluation.result import asked_record, gain_record
from sol_core.evaluation.setting import Setting
from sol_core.evaluation.stages import (
    PREFILL_UNITS,
    PROBE_TEXTS,
    ROWS_AT_ONCE,
    TextStage,
    assemble,
)

MAX_EPISODES = 4
MIN_EPISODES = 2  # the first episode has nothing to refresh


class RefreshProbe(TextStage):
    """Runs the policy with and without refresh; ``report`` is for afterwards."""

    name, title = "refresh", "Measuring the refresh of the cache"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, min(setting.config.texts, PROBE_TEXTS))
        config = setting.config
        self._episode = setting.episode_steps
        length = config.block_len - 1
        # The prefix keeps at least half of the text.
        self._episodes = max(MIN_EPISODES, min(MAX_EPISODES, length // 2 // self._episode))
        self._steps = self._episodes * self._episode
        self._context = length - self._steps
        if self._context < 1:
            raise ConfigError(
                f"refresh needs {MIN_EPISODES} episodes of {self._episode} steps after a context: "
                f"context + windows · steps must be above {self._steps}, got {length}"
            )
        shape = (self.num_texts, len(config.budgets), self._steps)
        self._nll = {refresh: np.zeros(shape) for refresh in (False, True)}
        self._kl = {refresh: np.zeros(shape) for refresh in (False, True)}
        self._spend = np.zeros((*shape[:2], len(SHORT_AXES)))

    @property
    def texts_at_once(self) -> int:
        return max(1, ROWS_AT_ONCE // (1 + len(self.setting.config.budgets)))

    @property
    def units_per_text(self) -> float:
        rows = 1 + len(self.setting.config.budgets)
        return 2 * rows * self._steps + PREFILL_UNITS * (self._context + self._steps)

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        setting, config = self.setting, self.setting.config
        num_texts, group = blocks.shape[0], 1 + len(config.budgets)
        layout = Layout(self._context, self._steps, room=self._steps)
        prefix = prefill_texts(setting.lm, blocks, layout, setting.grid, observe=True)
        texts = slice(first_text, first_text + num_texts)
        rows = [(text, number) for text in range(num_texts) for number in range(group - 1)]
        # Without refresh first: refreshing grows the shared prefix.
        for refresh in (False, True):
            scheduler = setting.contenders[0].policy.scheduler(
                list(config.budgets) * num_texts, seed=None
            )
            options = DecodeOptions(
                self._steps,
                setting.grid.mechanisms,
                self._episode,
                refresh=refresh,
                rows_per_sequence=group,
            )
            rollout = roll_out(
                setting.lm,
                prefix,
                assemble([(rows, scheduler)], num_texts, group, self._steps),
                options,
            )
            self._nll[refresh][texts] = rollout.nll[:, 1:]
            self._kl[refresh][texts] = rollout.kl[:, 1:]
            self._spend[texts] = rollout.spend[:, 1:].mean(2)

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        texts = slice(first_text, first_text + count)
        scores = {"nll": self._nll, "kl": self._kl}
        return {"spend": self._spend[texts]} | {
            f"{name}_{'with' if refresh else 'without'}": values[refresh][texts]
            for name, values in scores.items()
            for refresh in (False, True)
        }

    def report(self, seed: int) -> dict[str, Any]:
        """``{"episodes", "episode_steps", "texts", "replayed_per_token", "budgets": [...]}``.

        Per budget: ``requested``; ``with`` and ``without``, each ``{"nll", "kl",
        "by_episode" (KL), "flops_per_token"}``; ``gain``, ``low``, ``high`` and the same of
        KL: without minus with; ``dense_flops_per_token``. FLOPs are computed at the mean
        spend and the mean cache length.
        """
        bootstrap = PairedBootstrap(self.num_texts, seed=seed)
        return {
            "episodes": self._episodes,
            "episode_steps": self._episode,
            "texts": self.num_texts,
            "replayed_per_token": (self._episodes - 1) / self._episodes,
            "budgets": [
                self._budget_report(index, bootstrap)
                for index in range(len(self.setting.config.budgets))
            ],
        }

    def _budget_report(self, index: int, bootstrap: PairedBootstrap) -> dict[str, Any]:
        requested = asked_record(self.setting.config.budgets[index])
        nll = {refresh: self._nll[refresh][:, index].mean(-1) for refresh in (False, True)}
        kl = {refresh: self._kl[refresh][:, index].mean(-1) for refresh in (False, True)}
        step, dense, replay = self._flops(index)
        return {
            "requested": requested,
            "without": self._run_report(index, False) | {"flops_per_token": step},
            "with": self._run_report(index, True) | {"flops_per_token": step + replay},
            "dense_flops_per_token": dense,
            **gain_record(
                bootstrap.gain(nll[False], nll[True]), bootstrap.gain(kl[False], kl[True])
            ),
        }

    def _run_report(self, index: int, refresh: bool) -> dict[str, Any]:
        kl: Floats = self._kl[refresh][:, index]
        episodes = kl.reshape(self.num_texts, self._episodes, self._episode)
        return {
            "nll": float(self._nll[refresh][:, index].mean()),
            "kl": float(kl.mean()),
            "by_episode": episodes.mean((0, 2)).tolist(),
        }

    def _flops(self, index: int) -> tuple[float, float, float]:
        """Computed FLOPs per token: the policy's step, a dense step, the replay's share."""
        lm, spend = self.setting.lm, self._spend[:, index].mean(0)
        cost = CostModel.of(lm, self.setting.grid)
        cached = self._context + self._steps // 2
        step = cost.decode_step(Budget(*spend.tolist()), cached)
        replay = cost.prefill(self._episode, cached).flops * (self._episodes - 1) / self._steps
        return step.flops, cost.decode_step(DENSE, cached).flops, replay

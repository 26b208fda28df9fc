"""Measured milliseconds of single steps: dense, the policy, and static at the policy's spend.

One row at a time, as a generation decodes. Methods take turns on each text, so that a machine
whose speed drifts slows all of them. The policy's own network is in its steps. Measured where it
runs; bytes and FLOPs are computed instead (``sol_core.decoding.cost``).
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sol_core.actions import DENSE
from sol_core.budgets.building import build_scheduler
from sol_core.comparing.methods import PlannedRows
from sol_core.comparing.rollout import Floats, Layout, prefill_texts
from sol_core.comparing.statistics import Interval, PairedBootstrap
from sol_core.config import ScheduleConfig
from sol_core.decoding.batch_scheduling import BatchScheduler
from sol_core.decoding.loop import DecodeOptions, DecodeStep, decode
from sol_core.decoding.schedules import Horizon, Observation
from sol_core.evaluation.setting import Setting
from sol_core.evaluation.stages import PREFILL_UNITS, PolicyPass, TextStage

TIMED_TEXTS = 8
MAX_STEPS = 32  # of a text and method
TIMED_METHODS = ("dense", "policy", "static")
SLOWER = 10.0  # a row by itself costs about so many times its share of a batch


class StepTimes(TextStage):
    """Times the methods on a few texts; ``report`` is for afterwards.

    Args:
        policies: pass 1, which must have run: static gets what it spent.
    """

    name, title = "timing", "Timing single steps"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        super().__init__(setting, min(setting.config.texts, TIMED_TEXTS))
        config = setting.config
        self._policies = policies
        self._steps = min(config.windows * config.steps, MAX_STEPS)
        # Dense once, then the policy and static at each budget.
        self._ms = np.zeros((self.num_texts, 1 + 2 * len(config.budgets)))

    @property
    def texts_at_once(self) -> int:
        return 1

    @property
    def units_per_text(self) -> float:
        return (
            SLOWER * self._ms.shape[1] * self._steps + PREFILL_UNITS * self.setting.config.context
        )

    @torch.no_grad()
    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        setting = self.setting
        layout = Layout(setting.config.context, self._steps)
        prefix = prefill_texts(setting.lm, blocks, layout, setting.grid, observe=True)
        tokens = prefix.path[0].tolist()

        def next_token(step: DecodeStep) -> list[int]:
            return [tokens[step.index + 1]]

        options = DecodeOptions(self._steps, setting.grid.mechanisms, setting.episode_steps)
        for column, scheduler in enumerate(self._schedulers()):
            taken, before = [], time.perf_counter()
            for step in decode(
                setting.lm, prefix.cache, tokens[:1], scheduler, next_token, options, prefix.state
            ):
                float(step.entropy)  # a GPU is waited for
                now = time.perf_counter()
                taken.append(1000 * (now - before))
                before = now
            # The first step copies the prefix: once a generation, not once a token.
            self._ms[first_text, column] = statistics.median(taken[1:] or taken)

    def _schedulers(self) -> list[BatchScheduler]:
        setting = self.setting
        found: list[BatchScheduler] = [PlannedRows([[DENSE] * self._steps])]
        horizon = Horizon(setting.episode_steps, self._steps)
        by_share = setting.config.by_share
        spends = zip(
            setting.config.budgets,
            self._policies.shares() if by_share else self._policies.spends(),
            strict=True,
        )
        for asked, spent in spends:
            static = build_scheduler(
                ScheduleConfig("static", spent, 0),
                setting.grid,
                horizon=horizon,
                mixes=setting.mixes,
            )
            context = setting.config.context
            plan = [
                static.next_action(Observation(step, cached_tokens=context + step))
                for step in range(self._steps)
            ]
            found += [
                setting.contenders[0].policy.scheduler([asked], seed=None),
                PlannedRows([plan]),
            ]
        return found

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        return {"ms": self._ms[first_text : first_text + count]}

    def of(self, budget: int, method: str, seed: int) -> dict[str, float]:
        """A method's step at a budget as ``{"mean", "low", "high"}``, milliseconds.

        Args:
            budget: its number among those requested.
            method: of ``TIMED_METHODS``.
            seed: of the bootstrap over texts, each of which counts by its median step.
        """
        column = 0 if method == "dense" else 2 * budget + TIMED_METHODS.index(method)
        bootstrap = PairedBootstrap(self.num_texts, seed=seed)
        found: Interval = bootstrap.interval(self._ms[:, column])
        return {"mean": found.mean, "low": found.low, "high": found.high}

    def report(self) -> dict[str, Any]:
        """Return on what it was measured: ``{"texts", "steps", "device"}``."""
        from sol_core.models.tuning import cpu_name

        device = self.setting.lm.device
        name = cpu_name() if device.type == "cpu" else torch.cuda.get_device_name(device)
        return {"texts": self.num_texts, "steps": self._steps, "device": name}

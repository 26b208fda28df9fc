"""Times the parts of one decode step; on a GPU, by few CUDA events.

On a GPU, attention and MLP are timed apart in every fifth layer. The layers in between are timed
together, and their time is divided in the same proportion.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from sol_core.events import PartTimes

GPU_STEPS_APART = 8
# Coprime to the periods of alternating layer kinds (2, 3, 4, 6), as with windows.
GPU_LAYERS_APART = 5
Part = Literal["attention", "mlp", "head", "policy", "rest"]
Lap = Callable[[Part], None]


def no_lap(part: Part) -> None:
    """Do nothing; the lap of a step without a clock."""


class StepClock:
    """Laps of one step, valid until the next; in a graph, each replay records the events."""

    def __init__(self, device: torch.device, *, in_graph: bool = False) -> None:
        self._on_gpu, self._in_graph = device.type == "cuda" or in_graph, in_graph
        self._device = device
        self._times = [time.perf_counter()]  # CPU laps
        self._events: list[torch.cuda.Event] = []  # GPU laps
        self._parts: list[Part | Literal["layers"]] = []
        self._layers, self._between = 0, False  # layers begun; whether some are untimed
        if self._on_gpu and not in_graph:
            self._record()

    @staticmethod
    def for_step(device: torch.device, index: int) -> StepClock | None:
        """Make the clock of a generation's step; on a GPU, whose graph waits for each event, only
        one step in eight has a clock."""
        return StepClock(device) if device.type != "cuda" or not index % GPU_STEPS_APART else None

    def lap(self, part: Part) -> None:
        """Assign the time since the last lap to ``part``; a GPU may merge it with the next lap."""
        if not self._on_gpu:
            self._times.append(time.perf_counter())
        elif self._goes_on(part):
            return
        else:
            self._record()
        self._parts.append("layers" if self._between else part)
        self._between = False

    def _goes_on(self, part: Part) -> bool:
        """Return whether a GPU's lap is skipped because its layer is timed with its neighbours."""
        if part not in ("attention", "mlp"):
            return False
        self._layers += part == "attention"
        is_apart = self._layers % GPU_LAYERS_APART == 1
        self._between = not is_apart
        ends_before_one = part == "mlp" and self._layers % GPU_LAYERS_APART == 0
        return not is_apart and not ends_before_one

    def shared_lap(self, ticks: Mapping[Part, int]) -> None:
        """Divide the CPU time since the last lap among parts, in proportion to ``ticks``."""
        begin, total = self._times[-1], max(sum(ticks.values()), 1)
        taken, counted = time.perf_counter() - begin, 0
        for part, count in ticks.items():
            counted += count
            self._parts.append(part)
            self._times.append(begin + taken * counted / total)

    def replayed(self, laps: StepClock) -> None:
        """Take the laps of a replayed graph."""
        self._parts += laps._parts
        self._events += laps._events

    def part_times(self, step_ms: float) -> PartTimes:
        """Return milliseconds by part; on a GPU, wait for the last lap."""
        sums = dict.fromkeys(("attention", "mlp", "head", "policy", "layers"), 0.0)
        if self._on_gpu:
            self._events[-1].synchronize()
            taken = [begin.elapsed_time(end) for begin, end in pairwise(self._events)]
        else:
            taken = (1000 * np.diff(self._times)).tolist()
        for part, part_ms in zip(self._parts, taken, strict=True):
            if part in sums:
                sums[part] += part_ms
        apart, between = sums["attention"] + sums["mlp"], sums.pop("layers")
        if between and apart:
            sums["attention"] *= 1 + between / apart
            sums["mlp"] *= 1 + between / apart
        # Events have another clock than the host, so their sum may exceed the step by rounding.
        return PartTimes(**sums, rest=max(0.0, step_ms - sum(sums.values())))

    def _record(self) -> None:
        event = torch.cuda.Event(enable_timing=True, external=self._in_graph)
        event.record(torch.cuda.current_stream(self._device))
        self._events.append(event)

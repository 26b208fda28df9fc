"""Clock of one decode step's parts; on a GPU its laps are CUDA events, and few.

There, attention and MLP are timed apart in every fifth layer; the layers in between are timed
together and shared in the same proportion.
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
# Kinds of layers that take turns by 2, 3, 4 or 6, as those with windows do, are met evenly.
GPU_LAYERS_APART = 5
Part = Literal["attention", "mlp", "head", "policy", "rest"]
Lap = Callable[[Part], None]


def no_lap(part: Part) -> None:
    """The lap of a step that has no clock."""


class StepClock:
    """Laps of one step, read before the next one; in a graph, events that each replay records."""

    def __init__(self, device: torch.device, *, in_graph: bool = False) -> None:
        self._on_gpu, self._in_graph = device.type == "cuda" or in_graph, in_graph
        self._device = device
        self._times = [time.perf_counter()]  # laps of a CPU
        self._events: list[torch.cuda.Event] = []  # of a GPU
        self._parts: list[Part | Literal["layers"]] = []
        self._layers, self._between = 0, False  # layers begun; whether some are not timed yet
        if self._on_gpu and not in_graph:
            self._record()

    @staticmethod
    def for_step(device: torch.device, index: int) -> StepClock | None:
        """The clock of a generation's step; on a GPU, whose graph waits for every lap's event, one
        step in eight has one."""
        return StepClock(device) if device.type != "cuda" or not index % GPU_STEPS_APART else None

    def lap(self, part: Part) -> None:
        """Count the time since the last lap as ``part``; a GPU may count some with the next."""
        if not self._on_gpu:
            self._times.append(time.perf_counter())
        elif self._goes_on(part):
            return
        else:
            self._record()
        self._parts.append("layers" if self._between else part)
        self._between = False

    def _goes_on(self, part: Part) -> bool:
        """Return whether a GPU's lap is left out, as its layer is timed with its neighbours."""
        if part not in ("attention", "mlp"):
            return False
        self._layers += part == "attention"
        is_apart = self._layers % GPU_LAYERS_APART == 1
        self._between = not is_apart
        ends_before_one = part == "mlp" and self._layers % GPU_LAYERS_APART == 0
        return not is_apart and not ends_before_one

    def shared_lap(self, ticks: Mapping[Part, int]) -> None:
        """Share the CPU time since the last lap among these parts, in proportion to ``ticks``."""
        begin, total = self._times[-1], max(sum(ticks.values()), 1)
        taken, counted = time.perf_counter() - begin, 0
        for part, count in ticks.items():
            counted += count
            self._parts.append(part)
            self._times.append(begin + taken * counted / total)

    def replayed(self, laps: StepClock) -> None:
        """A graph that was captured with these laps has been started."""
        self._parts += laps._parts
        self._events += laps._events

    def part_times(self, step_ms: float) -> PartTimes:
        """Milliseconds by part; on a GPU it waits for the last lap."""
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
        # The events' clock is not the host's: their sum may exceed it by rounding.
        return PartTimes(**sums, rest=max(0.0, step_ms - sum(sums.values())))

    def _record(self) -> None:
        event = torch.cuda.Event(enable_timing=True, external=self._in_graph)
        event.record(torch.cuda.current_stream(self._device))
        self._events.append(event)

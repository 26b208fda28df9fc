"""Clock of one decode step's parts: measured, never computed; on a GPU its laps are CUDA events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import torch

from sol_core.events import PartTimes

GPU_STEPS_APART = 8
Part = Literal["attention", "mlp", "head", "policy", "rest"]
Lap = Callable[[Part], None]


def no_lap(part: Part) -> None:
    """The lap of a step that has no clock."""


class StepClock:
    """Laps of one step, read before the next one; in a graph, events that each replay records."""

    def __init__(self, device: torch.device, *, in_graph: bool = False) -> None:
        self._on_gpu, self._in_graph = device.type == "cuda" or in_graph, in_graph
        self._device = device
        self._times: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self._parts: list[Part] = []
        if not in_graph:
            self._read()

    @staticmethod
    def for_step(device: torch.device, index: int) -> StepClock | None:
        """The clock of a generation's step; on a GPU, whose graph waits for every lap's event, one
        step in eight has one."""
        return StepClock(device) if device.type != "cuda" or not index % GPU_STEPS_APART else None

    def lap(self, part: Part) -> None:
        """Count the time since the last lap as ``part``."""
        self._parts.append(part)
        self._read()

    def shared_lap(self, ticks: Mapping[Part, int]) -> None:
        """Share the CPU time since the last lap among these parts, in proportion to ``ticks``."""
        begin, total = self._times[-1], max(sum(ticks.values()), 1)
        self._read()
        taken, counted = self._times.pop() - begin, 0
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
        sums: dict[Part, float] = dict.fromkeys(("attention", "mlp", "head", "policy"), 0.0)
        for part, taken in zip(self._parts, self._laps_ms(), strict=True):
            if part in sums:
                sums[part] += taken
        # The events' clock is not the host's: their sum may exceed it by rounding.
        return PartTimes(**sums, rest=max(0.0, step_ms - sum(sums.values())))

    def _read(self) -> None:
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True, external=self._in_graph)
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def _laps_ms(self) -> list[float]:
        if self._on_gpu:
            self._events[-1].synchronize()
            pairs = zip(self._events, self._events[1:], strict=False)
            return [begin.elapsed_time(end) for begin, end in pairs]
        return [1000 * (b - a) for a, b in zip(self._times, self._times[1:], strict=False)]

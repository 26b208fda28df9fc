"""Runs decode steps as CUDA graphs, which launch a step's hundreds of kernels at once.

A graph serves one *key*: a step's shape and its cache's layout. Each replay reads tokens and
numbers from two buffers. Results are bit-identical to the same step without a graph.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from torch import Tensor

from sol_core.card_errors import KEEPERS
from sol_core.models.devices import from_host
from sol_core.models.step.clock import Lap, StepClock, no_lap
from sol_core.models.step.output import StepOutput

# A capture costs about as much as two steps, and an episode's cache lives for sixteen.
STEPS_BEFORE_CAPTURE = 2
# One row under a policy has 8 kinds of steps (each of three axes dense or not) per bucket of
# lengths. A graph of a thousand launches takes a few megabytes of the driver's memory.
MOST_GRAPHS = 16
_MOST_COUNTS = 256
_Key = tuple[Hashable, bool]  # a step's key, and whether it has a clock
_log = logging.getLogger(__name__)

Numbers = list[list[int]]  # see ``step_numbers``
Step = Callable[[Tensor, Tensor, Lap], StepOutput]
# Captures a step, its laps included: takes the step, its lap and a graph whose memory it may share;
# returns a graph to replay and the location of its output. Raises RuntimeError if it cannot.
Capture = Callable[[Callable[[Lap], StepOutput], Lap, Any], tuple[Any, StepOutput]]


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: Any
    kind: Hashable
    tokens: Tensor  # [R] int64; numbers: [N, …] int64; written before a replay
    numbers: Tensor
    output: StepOutput  # written by a replay, overwritten by the next
    laps: StepClock | None  # None without a clock


class StepGraphs:
    """One model's most recently used graphs."""

    off: ClassVar[str | None] = None  # why graphs are off in this process; None if on

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._graphs: OrderedDict[_Key, _Captured] = OrderedDict()
        self._seen = Counter[Hashable]()  # steps run without a graph, by kind
        self.failure: str | None = None  # why graphs failed; None if they work
        self._uncapturable: WeakSet[object] = WeakSet()  # caches with a step that was not captured
        # Guards a replay's inputs, its run and the copy of its results.
        self._lock = threading.RLock()
        KEEPERS.add(self)

    def clear(self) -> None:
        """Free all graphs; later steps make new ones."""
        with self._lock:
            self._graphs.clear()
            self._seen.clear()

    @staticmethod
    def make(device: torch.device) -> StepGraphs | None:
        """Make the graphs of a model on a CUDA device; None elsewhere, and while they are off."""
        if device.type != "cuda" or StepGraphs.off is not None:
            return None
        return StepGraphs(partial(_captured_on, torch.cuda.Stream(device)))

    def run(
        self,
        key: Hashable,  # equal for steps with the same work on the same memory
        kind: Hashable,  # the key without lengths
        step: Step,
        tokens: Tensor,  # [R] int64 on the model's device
        numbers: Numbers,
        clock: StepClock | None,
        owner: object,  # the cache; after one failed capture, its steps are never captured
    ) -> StepOutput:
        """Run a step in its graph if it has one, else without."""
        # Graphs share memory only on the default stream.
        cuda, device = torch.cuda, tokens.device
        is_elsewhere = device.type == "cuda" and (
            cuda.current_stream(device) != cuda.default_stream(device)
        )
        if is_elsewhere or owner in self._uncapturable:
            return run_without_graph(step, tokens, numbers, clock)
        timed_key = (key, clock is not None)
        with self._lock:
            captured = self._graphs.get(timed_key)
            if captured is None and self._is_due(kind):
                captured = self._captured(timed_key, kind, step, tokens, numbers)
                if captured is None:
                    self._uncapturable.add(owner)
            if captured is None:
                return run_without_graph(step, tokens, numbers, clock)
            self._graphs.move_to_end(timed_key)
            captured.tokens.copy_(tokens)
            captured.numbers.copy_(from_host(numbers, tokens.device))
            captured.graph.replay()
            if clock is not None and captured.laps is not None:
                clock.replayed(captured.laps)
            return captured.output.clone()

    def _is_due(self, kind: Hashable) -> bool:
        """Count a step of this kind; return whether enough ran to make graphs worthwhile, for all
        lengths, with and without a clock."""
        if self.failure is not None:
            return False
        if len(self._seen) > _MOST_COUNTS:
            self._seen.clear()
        self._seen[kind] += 1
        return self._seen[kind] > STEPS_BEFORE_CAPTURE

    def _captured(
        self, key: _Key, kind: Hashable, step: Step, tokens: Tensor, numbers: Numbers
    ) -> _Captured | None:
        """Capture a graph; log a warning and return None if the step cannot be captured."""
        fed, given = tokens.clone(), from_host(numbers, tokens.device)
        laps = StepClock(tokens.device, in_graph=True) if key[1] else None
        beside = next((other.graph for other in self._graphs.values()), None)
        lap = no_lap if laps is None else laps.lap
        try:
            graph, output = self._capture(partial(step, fed, given), lap, beside)
        except RuntimeError as error:
            # Ending a capture that ran out of memory raises another error.
            if any(isinstance(e, torch.OutOfMemoryError) for e in (error, error.__context__)):
                _log.warning("a run goes on without CUDA graphs: no memory for one")
                self.clear()  # the run may need their memory
                return None
            self.failure = f"one could not be made: {error}"
            _log.warning("decode steps run without CUDA graphs, %s", self.failure)
            return None
        self._graphs[key] = _Captured(graph, kind, fed, given, output, laps)
        if len(self._graphs) > MOST_GRAPHS:
            _, dropped = self._graphs.popitem(last=False)
            del self._seen[dropped.kind]  # count again before the next capture
        return self._graphs[key]


def run_without_graph(
    step: Step, tokens: Tensor, numbers: Numbers, clock: StepClock | None
) -> StepOutput:
    """Run one step without a graph; arguments as for ``StepGraphs.run``."""
    lap = no_lap if clock is None else clock.lap
    return step(tokens, from_host(numbers, tokens.device), lap)


def _captured_on(
    stream: torch.cuda.Stream, step: Callable[[Lap], StepOutput], lap: Lap, beside: Any
) -> tuple[Any, StepOutput]:
    """Capture on a separate stream after a warm-up there, as torch's documentation requires."""
    before = torch.cuda.current_stream(stream.device)
    stream.wait_stream(before)
    # The outer context restores the stream even if ending a capture fails.
    with torch.cuda.stream(stream):
        step(no_lap)
        graph, pool = torch.cuda.CUDAGraph(), None if beside is None else beside.pool()
        # Other threads may allocate meanwhile.
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            output = step(lap)
    before.wait_stream(stream)
    return graph, output

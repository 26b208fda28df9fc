"""The clock of a decode step: which lap counts for which part, and that the parts are the step."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from sol_core.actions import Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.events import PartTimes, TokenEvent
from sol_core.generation.engine import generate
from sol_core.models.step import clock as step_clock
from sol_core.models.step import graph as step_graph
from sol_core.models.step import plan as step_plan
from sol_core.models.step.clock import StepClock
from sol_core.models.step.graph import StepGraphs
from tests.sol_core.tape import tape_capture
from tests.support.tiny_language_model import make_language_model

CPU = torch.device("cpu")


@pytest.fixture
def ticking(monkeypatch):
    """A clock that is read at 0, 1, 3, 6, 10 … seconds."""
    times = iter(n * (n + 1) / 2 for n in range(1000))
    monkeypatch.setattr(step_clock, "time", SimpleNamespace(perf_counter=lambda: next(times)))


@pytest.mark.usefixtures("ticking")
def test_a_lap_goes_to_its_part_and_what_no_part_took_is_the_rest():
    clock = StepClock(CPU)
    laps = ["policy", "rest", "attention", "mlp", "attention", "mlp", "rest", "head"]
    for part in laps:
        clock.lap(part)
    assert clock.part_times(40_000) == PartTimes(8000, 10_000, 8000, 1000, 13_000)
    # Reading changes nothing, and a rest is never negative.
    assert clock.part_times(20_000) == PartTimes(8000, 10_000, 8000, 1000, 0)


@pytest.fixture
def on_gpu(monkeypatch):
    """Clocks of a card, whose events are counted."""
    _Event.log, _Event.count = [], 0
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the card's")
    begin = StepClock.__init__
    on_gpu = lambda clock, device, **how: begin(clock, torch.device("cuda"), **how)  # noqa: E731
    monkeypatch.setattr(StepClock, "__init__", on_gpu)


@pytest.mark.usefixtures("on_gpu")
def test_a_gpu_times_every_fifth_layer_apart_and_shares_the_others_alike():
    clock, layers = StepClock(CPU), 12
    for part in ["rest", *["attention", "mlp"] * layers, "rest", "head"]:
        clock.lap(part)
    apart = ["attention", "mlp", "layers"]
    assert clock._parts == ["rest", *apart * 3, "head"]
    assert len(clock._events) == 12
    # A lap from the square of n to that of n + 1 takes 2 n + 1.
    times = [2 * n + 1 for n in range(1, 12)]
    attention, mlp, between = (sum(times[first:10:3]) for first in (1, 2, 3))
    parts = clock.part_times(1000)
    assert parts.attention + parts.mlp == pytest.approx(attention + mlp + between)
    assert parts.attention / parts.mlp == pytest.approx(attention / mlp)
    assert parts.head == times[-1]
    clock = StepClock(CPU)
    for part in ["rest", *["attention", "mlp"] * 6, "rest", "head"]:
        clock.lap(part)  # the last layer is timed apart
    assert clock._parts == ["rest", *apart, *apart[:2], "rest", "head"]


@pytest.mark.parametrize(("device", "timed"), [("cpu", 20), ("cuda", 3)])
def test_a_gpu_times_one_step_in_eight(device, timed, monkeypatch):
    monkeypatch.setattr(StepClock, "_record", lambda clock: None)
    clocks = [StepClock.for_step(torch.device(device), index) for index in range(20)]
    assert clocks[0] is not None
    assert sum(clock is not None for clock in clocks) == timed


class _Event:
    """A CUDA event's methods over a counter that goes on by itself."""

    log: list[str]
    count: int

    def __init__(self, enable_timing, external=False):
        assert enable_timing
        self.external = external

    def record(self, stream):
        assert stream == "the card's"
        _Event.count += 1
        self.at = _Event.count**2
        self.log.append("record")

    def synchronize(self):
        self.log.append(f"wait for {self.at}")

    def elapsed_time(self, end):
        self.log.append("read")
        return float(end.at - self.at)


@pytest.mark.usefixtures("on_gpu")
def test_a_graph_keeps_its_laps_and_every_replay_gives_them_to_its_clock():
    lm, graphs = make_language_model().lm, StepGraphs(tape_capture)
    lm.graphs = graphs
    cache = lm.new_cache(1, 8, page_size=4)
    clocks = []
    for step in range(4):
        clocks.append(StepClock(CPU))
        clocks[-1].lap("policy")
        lm.decode_step(torch.tensor([3 + step]), cache, clock=clocks[-1])
    (graph,) = graphs._graphs.values()
    for clock in clocks:
        assert clock._parts == ["policy", "rest", "attention", "mlp", "layers", "head"]
        assert clock._events[-1].external == (clock in clocks[2:])
    assert clocks[3]._events[2:] == graph.laps._events
    lm.decode_step(torch.tensor([9]), cache)
    assert [each.laps is None for each in graphs._graphs.values()] == [False, True]


@pytest.mark.usefixtures("on_gpu")
def test_what_was_worth_a_graph_has_one_at_once_after_more_tokens_and_with_a_clock(monkeypatch):
    monkeypatch.setattr(step_plan, "BUCKET_TOKENS", 8)
    alone, run = [], step_graph.run_without_graph

    def counted(*given):
        alone.append(1)
        return run(*given)

    monkeypatch.setattr(step_graph, "run_without_graph", counted)
    lm, graphs = make_language_model().lm, StepGraphs(tape_capture)
    lm.graphs = graphs
    cache = lm.new_cache(1, 24, page_size=4)
    for step in range(24):
        clock = StepClock(CPU) if step % 8 == 0 else None
        lm.decode_step(torch.tensor([5]), cache, clock=clock)
    assert len(alone) == 2
    shapes = {(shape.own_width, timed) for ((shape, _), timed) in graphs._graphs}
    assert shapes == {(8, False), *((width, timed) for width in (16, 24) for timed in (0, 1))}


def test_a_generated_tokens_parts_add_up_to_its_step():
    config = GenerationConfig(
        ScheduleConfig("static", Budget(0.5, 0.6, 8.0)),
        max_new_tokens=6,
        ignore_end_of_text=True,
        side_rows=(SideRowConfig("dense", ScheduleConfig("dense")),),
    )
    events = generate(make_language_model(), "Once upon a time", config)
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert len(tokens) == 6
    for token in tokens:
        parts = asdict(token.parts_ms)
        assert min(parts.values()) > 0
        assert sum(parts.values()) == pytest.approx(token.step_ms)

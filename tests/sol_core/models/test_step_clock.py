"""The clock of a decode step: which lap counts for which part, and that the parts are the step."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sol_core.actions import Action, Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.decoding.loop import DecodeOptions, decode
from sol_core.events import PartTimes, TokenEvent
from sol_core.generation.engine import generate
from sol_core.models import FrozenLM, decoder
from sol_core.models.signals import Observe
from sol_core.models.step import clock as step_clock
from sol_core.models.step import few_rows
from sol_core.models.step.clock import Part, StepClock
from sol_core.models.step.graph import StepGraphs
from tests.sol_core.tape import tape_capture
from tests.support.tiny_language_model import make_language_model

CPU = torch.device("cpu")


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is read at 0, 1, 3, 6, 10 … seconds."""
    times = iter(n * (n + 1) / 2 for n in range(1000))
    monkeypatch.setattr(step_clock, "time", SimpleNamespace(perf_counter=lambda: next(times)))


@pytest.mark.usefixtures("ticking")
def test_a_lap_goes_to_its_part_and_what_no_part_took_is_the_rest() -> None:
    clock = StepClock(CPU)
    laps: list[Part] = ["policy", "rest", "attention", "mlp", "attention", "mlp", "rest", "head"]
    for part in laps:
        clock.lap(part)
    assert clock.part_times(40_000) == PartTimes(8000, 10_000, 8000, 1000, 13_000)
    # Reading changes nothing, and a rest is never negative.
    assert clock.part_times(20_000) == PartTimes(8000, 10_000, 8000, 1000, 0)


class _Event:
    """A CUDA event's methods over a counter that goes on by itself."""

    log: list[str]
    count: int

    def __init__(self, enable_timing: bool, external: bool = False) -> None:
        assert enable_timing
        self.external = external

    def record(self) -> None:
        _Event.count += 1
        self.at = _Event.count**2
        self.log.append("record")

    def synchronize(self) -> None:
        self.log.append(f"wait for {self.at}")

    def elapsed_time(self, end: _Event) -> float:
        self.log.append("read")
        return float(end.at - self.at)


def test_on_a_gpu_laps_are_events_and_nothing_waits_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _Event.log, _Event.count = [], 0
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    clock = StepClock(torch.device("cuda"))
    clock.lap("attention")
    clock.lap("mlp")
    clock.lap("head")
    assert _Event.log == ["record"] * 4
    assert clock.part_times(20.0) == PartTimes(3.0, 5.0, 7.0, 0.0, 5.0)
    assert _Event.log[4:] == ["wait for 16", "read", "read", "read"]


def test_a_graph_keeps_its_laps_and_every_replay_gives_them_to_its_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _Event.log, _Event.count = [], 0
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    begin = StepClock.__init__
    on_gpu = lambda clock, device: begin(clock, torch.device("cuda"))  # noqa: E731
    monkeypatch.setattr(StepClock, "__init__", on_gpu)
    lm, graphs = make_language_model().lm, StepGraphs(tape_capture)
    lm.graphs = graphs
    cache = lm.new_cache(1, 8, page_size=4)
    clocks = []
    for step in range(4):
        clocks.append(StepClock(CPU))
        clocks[-1].lap("policy")
        lm.decode_step(torch.tensor([3 + step]), cache, clock=clocks[-1])
    (graph,) = graphs._graphs.values()
    assert graph.laps is not None
    for clock in clocks:
        layers = ["attention", "mlp"] * lm.spec.num_layers
        assert clock._parts == ["policy", "rest", *layers, "rest", "head"]
        assert clock._events[-1].external == (clock in clocks[2:])  # type: ignore[attr-defined]
    assert clocks[3]._events[2:] == graph.laps.events
    lm.decode_step(torch.tensor([9]), cache)
    assert list(graphs._graphs.values()) == [graph]  # a step without a clock is another graph


@pytest.mark.parametrize(("rows", "has_ticks"), [(1, True), (1, False), (5, True)])
def test_every_part_of_a_step_is_timed_with_few_rows_and_with_many(
    rows: int, has_ticks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part alone takes time in turn, in the fast path (1 row) and beside it (5)."""
    monkeypatch.setattr(few_rows, "HAS_TICKS", has_ticks and few_rows.HAS_TICKS)
    lm = make_language_model().lm
    for part, (owner, name) in _places(lm, rows).items():
        now = [0.0]  # seconds; nothing but the part moves this clock
        with monkeypatch.context() as patch:
            patch.setattr(step_clock, "time", SimpleNamespace(perf_counter=lambda now=now: now[0]))
            patch.setattr(owner, name, _slowly(getattr(owner, name), part, now))
            times = asdict(_one_step(lm, rows))
        assert times.pop(part) >= 1000, part
        del times["rest"]
        assert set(times.values()) == {0.0}, part


def _places(lm: FrozenLM, rows: int) -> dict[str, tuple[Any, str]]:
    """What runs each part."""
    fast = lm._few_rows if rows == 1 else None
    layers = {"attention": (lm, "_attend"), "mlp": (decoder, "step_mlp"), "head": (lm, "logits")}
    if fast is not None:
        layers = dict.fromkeys(layers, (fast, "_kernel"))
    return {**layers, "policy": (_Dense, "next_actions")}


def _slowly(function: Any, part: str, now: list[float]) -> Any:
    """The function made slow; of the few-row kernel, only what it runs of this part."""

    def slow(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        if not (arguments and isinstance(arguments[0], tuple)):
            now[0] += 1.0
            return found
        places, model, ticks = range(*arguments[0]), arguments[2], arguments[-2]
        mine = [_part_of(place, model) == part for place in places]
        now[0] += any(mine)
        if ticks.size:
            assert (ticks > 0).all()
            ticks[:] = mine
        return found

    return slow


def _part_of(place: int, model: Any) -> str:
    layers = model.places.shape[0]
    return "head" if place == 2 * layers else ("attention", "mlp")[place % 2]


class _Dense:
    observes = Observe.NOTHING

    def next_actions(self, observation: Any) -> list[Action]:
        return [Action()] * observation.tokens.shape[0]


def _one_step(lm: FrozenLM, rows: int) -> PartTimes:
    cache = lm.new_cache(1, 4)
    lm.prefill(torch.tensor([[1, 2, 3]]), cache)
    options = DecodeOptions(max_steps=1, rows_per_sequence=rows, timed=True)
    (step,) = decode(lm, cache, [4], _Dense(), lambda _: [5], options)
    assert step.clock is not None
    return step.clock.part_times(10_000)


def test_a_generated_tokens_parts_add_up_to_its_step() -> None:
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
        assert token.parts_ms is not None
        parts = asdict(token.parts_ms)
        assert min(parts.values()) > 0
        assert sum(parts.values()) == pytest.approx(token.step_ms)

"""Decode steps in graphs: bit for bit the same steps, whatever changes from token to token.

On a CPU a tape stands in for CUDA graphs (``tape.py``), over the PyTorch references and, more
slowly, Triton's kernels in its interpreter; on a CUDA device the same tests run real graphs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sol_core.actions import DENSE, GRIDS, PAPER, Action, Mechanisms
from sol_core.card_errors import give_memory_back
from sol_core.models import FrozenLM, StepOutput
from sol_core.models.cache import KVCache
from sol_core.models.signals import Observe
from sol_core.models.step import graph as step_graph
from sol_core.models.step import plan as step_plan
from sol_core.models.step.graph import MOST_GRAPHS, STEPS_BEFORE_CAPTURE, StepGraphs
from tests.kernels.triton_cases import DEVICE, triton_here
from tests.sol_core.tape import tape_capture
from tests.support.tiny_models import laid_out_for_cuda, make_tiny_lm, moved

ALL = Observe.CONCENTRATION


FULL = Action(0.3, 0.5, 6)
MIXED = [FULL, DENSE, Action(0.6, 0.8, 16), Action(0.2, 1.0, 9)]
PROMPT = 13
DEFAULT = GRIDS["default"].mechanisms
NEED = GRIDS["need"].mechanisms
AT_INPUT = Mechanisms(quant_site="mlp_input")


class Call(NamedTuple):
    """One decode step of some rows."""

    actions: Sequence[Action] | Action
    how: Mechanisms = PAPER
    observe: Observe = Observe.NOTHING


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders between buckets every eight tokens; and no Numba, which a tape does not see."""
    monkeypatch.setattr(step_plan, "BUCKET_TOKENS", 8)
    for module in ("activation_quantisation", "channel_pruning"):
        monkeypatch.setattr(f"kernels.{module}.cpu_kernel", lambda *_: None)


def _model(family: str = "llama3-rope", **options: int) -> FrozenLM:
    return moved(laid_out_for_cuda(make_tiny_lm(family, **options)), DEVICE)


def _new_graphs() -> StepGraphs:
    graphs = StepGraphs.make(torch.device(DEVICE))
    return StepGraphs(tape_capture) if graphs is None else graphs


def _twins(lm: FrozenLM, graphs: StepGraphs) -> tuple[FrozenLM, FrozenLM]:
    """The same model with these graphs, and with all steps run alone."""
    never = _new_graphs()
    never.failure = "off"
    twins = FrozenLM(lm.spec, lm.weights), FrozenLM(lm.spec, lm.weights)
    for twin, its_graphs in zip(twins, (graphs, never), strict=True):
        twin.graphs = its_graphs
    return twins


def _one_row(lm: FrozenLM, room: int = 40) -> KVCache:
    cache = lm.new_cache(1, PROMPT + room, page_size=4)
    lm.prefill(torch.arange(3, 3 + PROMPT, device=DEVICE)[None], cache)
    return cache


def _ragged_rows(lm: FrozenLM, room: int = 30) -> KVCache:
    """Four rows, two behind each of two shared prefixes of different lengths."""
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(torch.arange(3, 3 + 2 * PROMPT, device=DEVICE).reshape(2, PROMPT), cache)
    rows = cache.branch(2, room, lengths=[13, 10])
    rows.own_lengths = [own + row % 2 for row, own in enumerate(rows.own_lengths)]
    return rows


def _windows_of_one_text(lm: FrozenLM, room: int = 30) -> KVCache:
    cache = _one_row(lm)
    return cache.branch(2, room, lengths=[13, 9], sources=[0, 0])


def _run(lm: FrozenLM, cache: KVCache, calls: Sequence[Call]) -> list[StepOutput]:
    rows = torch.arange(cache.num_rows, device=DEVICE)
    return [
        lm.decode_step(
            5 + 3 * step + rows,
            cache,
            call.actions,
            mechanisms=call.how,
            observe=call.observe,
        )
        for step, call in enumerate(calls)
    ]


def _check_same(found: Sequence[StepOutput], expected: Sequence[StepOutput]) -> None:
    for step, (mine, right) in enumerate(zip(found, expected, strict=True)):
        for name in StepOutput.__dataclass_fields__:
            one, other = getattr(mine, name), getattr(right, name)
            assert (one is None) == (other is None)
            if one is not None:
                assert torch.equal(one, other), f"{name} of step {step} differs"


def _compare(
    lm: FrozenLM,
    new_cache: Callable[[FrozenLM], KVCache],
    calls: Sequence[Call],
    graphs: StepGraphs | None = None,
) -> StepGraphs:
    """Both ways to the same numbers, looked at after the last step; returns the graphs."""
    graphs = graphs or _new_graphs()
    graphed, alone = _twins(lm, graphs)
    found = _run(graphed, new_cache(graphed), calls)
    _check_same(found, _run(alone, new_cache(alone), calls))
    return graphs


def test_a_dense_row_decodes_the_same_in_a_graph_per_bucket() -> None:
    graphs = _compare(_model(), _one_row, [Call(DENSE)] * 20)
    # Steps of 14 … 33 tokens: the bucket of 40 is met once, too seldom for a graph.
    widths = [_shape(key).own_width for key in graphs._graphs]
    assert widths == [16, 24, 32]


def _shape(key: Any) -> step_plan.StepShape:
    """Of a graph's key, ((shape, layout), timed)."""
    shape = key[0][0]
    assert isinstance(shape, step_plan.StepShape)
    return shape


@pytest.mark.parametrize("family", ["llama3-rope", "mistral-window", "qwen3", "gemma3"])
@pytest.mark.parametrize("how", [PAPER, AT_INPUT, DEFAULT])
def test_ragged_rows_behind_shared_prefixes_with_an_action_each(
    family: str, how: Mechanisms
) -> None:
    """Budgets, ratios and bits change hands between the rows from step to step."""
    turned = [MIXED[turn % 4 :] + MIXED[: turn % 4] for turn in range(12)]
    calls = [Call(actions, how, observe=ALL) for actions in turned]
    assert _compare(_model(family), _ragged_rows, calls)._graphs


@pytest.mark.skipif(DEVICE == "cuda", reason="there, every test runs Triton's kernels")
@pytest.mark.parametrize(
    ("family", "layers", "how"),
    [("llama3-rope", 1, AT_INPUT), ("llama3-rope", 1, NEED), ("gemma3", 2, DEFAULT)],
)
def test_triton_kernels_in_a_graph(
    family: str,
    layers: int,
    how: Mechanisms,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Dense without page bounds, then an action for each row, with them (or with 4-bit keys): bit
    for bit in a graph, and, as there are few layers, the references' numbers. A layer and two heads
    of keys with two of queries each are what the interpreter has time for; Gemma's layers differ.
    """
    monkeypatch.setattr(step_plan, "BUCKET_TOKENS", 16)
    monkeypatch.setattr(step_graph, "STEPS_BEFORE_CAPTURE", 1)  # the interpreter takes seconds
    calls = [Call([DENSE] * 4, how)] * 2
    calls += [Call(actions, how, observe=ALL) for actions in (MIXED, MIXED[::-1], [FULL] * 4)]
    small = {"num_attention_heads": 4, "num_hidden_layers": layers}
    lm, graphs = _model(family, **small), _new_graphs()
    graphed, alone = _twins(lm, graphs)
    references = _run(lm, _ragged_rows(lm), calls)
    with triton_here(), caplog.at_level(logging.WARNING):
        found = _run(graphed, _ragged_rows(graphed), calls)
        expected = _run(alone, _ragged_rows(alone), calls)
    # Nothing fell back but the paper's choice of pages.
    assert caplog.text.count("WARNING") == (how.page_choice == "head")
    _check_same(found, expected)
    assert [_shape(key).sparse for key in graphs._graphs] == [False, True]
    for mine, right in zip(expected, references, strict=True):
        torch.testing.assert_close(mine.logits, right.logits, rtol=2e-4, atol=2e-4)
        if right.attention_concentration is not None:
            torch.testing.assert_close(
                mine.attention_concentration, right.attention_concentration, rtol=2e-4, atol=2e-4
            )


@pytest.mark.parametrize("how", [PAPER, DEFAULT])
@pytest.mark.parametrize("new_cache", [_one_row, _windows_of_one_text])
def test_dense_and_compressed_steps_take_turns(
    new_cache: Callable[[FrozenLM], KVCache], how: Mechanisms
) -> None:
    """Bounds (or 4-bit keys) do not exist, are extended, go stale (a step with the other) and
    return."""
    other = PAPER if how is DEFAULT else DEFAULT
    varied = [
        Call(Action(0.2 + 0.05 * step, 0.9 - 0.05 * step, 4 + step), how) for step in range(8)
    ]
    calls = [Call(DENSE, how)] * 4 + varied + [Call(DENSE, how)] * 4
    calls += [Call(FULL, other)] * 4 + varied
    graphs = _compare(_model("gemma3"), new_cache, calls)
    assert {_shape(key).sparse for key in graphs._graphs} == {False, True}


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_every_array_of_a_plan_is_aligned_as_kernels_are_compiled_for(rows: int) -> None:
    lm = _model()
    cache = lm.new_cache(rows, 8, page_size=4)
    shape = step_plan.step_shape(lm.spec, cache, [FULL] * rows, DEFAULT, in_buckets=True)
    numbers = step_plan.step_numbers(lm.spec, cache, [FULL] * rows, DEFAULT)
    plan = step_plan.plan_step(lm.spec, shape, torch.tensor(numbers, device=DEVICE))
    kept = [attention.pages_kept for attention in plan.attention.values()]
    mlp = (plan.channels_kept, plan.inner_kept, plan.bit_widths)
    for array in (plan.slots, plan.positions, *mlp, *kept):
        assert array is not None
        assert array.shape == (rows,)
        assert array.data_ptr() % 16 == 0


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU every step is in buckets")
@pytest.mark.parametrize("family", ["llama3-rope", "mistral-window", "gemma3"])
@pytest.mark.parametrize("new_cache", [_one_row, _ragged_rows])
@pytest.mark.parametrize("how", [PAPER, DEFAULT])
def test_steps_in_buckets_are_those_of_exact_lengths(
    family: str, new_cache: Callable[[FrozenLM], KVCache], how: Mechanisms
) -> None:
    lm = _model(family)
    _, in_buckets = _twins(lm, _new_graphs())
    rows = new_cache(lm).num_rows
    calls = [Call(DENSE, how)] * 5 + [Call(MIXED[:rows], how, observe=ALL)] * 5
    found, expected = (_run(each, new_cache(each), calls) for each in (in_buckets, lm))
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.logits, right.logits, rtol=2e-4, atol=2e-4)
        if right.attention_concentration is not None:
            torch.testing.assert_close(
                mine.attention_concentration, right.attention_concentration, rtol=2e-4, atol=2e-4
            )


@pytest.mark.parametrize("how", [PAPER, DEFAULT])
def test_what_a_prefill_left_behind_is_made_current_outside_the_graph(how: Mechanisms) -> None:
    lm, graphs = _model(), _new_graphs()

    def decode(lm: FrozenLM) -> list[StepOutput]:
        cache = lm.new_cache(1, 60, page_size=4)
        found = []
        for _ in range(4):  # a prefill between stretches of steps in one bucket
            lm.prefill(torch.arange(3, 5, device=DEVICE)[None], cache)
            found += _run(lm, cache, [Call(FULL, how, observe=ALL)] * 6)
        return found

    graphed, alone = _twins(lm, graphs)
    _check_same(decode(graphed), decode(alone))
    assert graphs._graphs


@pytest.mark.parametrize("how", [PAPER, DEFAULT])
def test_a_truncated_cache_is_decoded_by_the_graphs_that_it_has(how: Mechanisms) -> None:
    lm, graphs = _model(), _new_graphs()
    graphed, alone = _twins(lm, graphs)
    mine, other = _one_row(graphed), _one_row(alone)
    for length in (PROMPT, PROMPT - 3, PROMPT - 6):
        mine.truncate(length)
        other.truncate(length)
        calls = [Call(FULL, how)] * 6
        _check_same(_run(graphed, mine, calls), _run(alone, other, calls))
    shapes = [_shape(key).own_width for key in graphs._graphs]
    assert len(shapes) == len(set(shapes))


def test_two_caches_take_turns() -> None:
    lm, graphs = _model(), _new_graphs()
    graphed, alone = _twins(lm, graphs)
    caches = [(_one_row(graphed), _one_row(alone)) for _ in range(2)]
    other_prompt = torch.arange(90, 94, device=DEVICE)[None]
    for one, lm_there in zip(caches[1], (graphed, alone), strict=True):
        lm_there.prefill(other_prompt, one)
    for step in range(12):
        for mine, other in caches:
            call = [Call(FULL if step % 2 else DENSE)]
            _check_same(_run(graphed, mine, call), _run(alone, other, call))
    layouts = {key[0][1] for key in graphs._graphs}  # type: ignore[index]  # (shape, layout), timed
    assert len(layouts) == 2


ACTIONS = st.builds(
    Action,
    st.sampled_from([0.1, 0.4, 0.75, 1.0]),
    st.sampled_from([0.25, 0.6, 1.0]),
    st.sampled_from([2, 7, 16]),
)


@settings(max_examples=40)
@given(
    st.sampled_from([_one_row, _ragged_rows, _windows_of_one_text]),
    st.lists(st.lists(ACTIONS, min_size=4, max_size=4), min_size=1, max_size=3),
    st.sampled_from([PAPER, DEFAULT]),
    st.sampled_from(Observe),
)
def test_any_steps_in_any_order(
    new_cache: Callable[[FrozenLM], KVCache],
    kinds: list[list[Action]],
    how: Mechanisms,
    observe: Observe,
) -> None:
    rows = 1 if new_cache is _one_row else 4
    calls = [Call(kinds[step % len(kinds)][:rows], how, observe) for step in range(10)]
    _compare(_model("mistral-window"), new_cache, calls)


def test_graphs_beyond_the_limit_are_dropped_the_least_used_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step_graph, "MOST_GRAPHS", 2)
    lm = _model()
    kinds = [Call(DENSE), Call(Action(0.5, 1.0)), Call(Action(1.0, 0.5))]
    order = [0, 0, 0, 1, 1, 1, 0, 2, 2, 2, 1]  # dense is used again before the third comes
    graphs = _compare(lm, lambda lm: _one_row(lm), [kinds[kind] for kind in order])
    left = {(_shape(key).sparse, _shape(key).pruned) for key in graphs._graphs}
    assert left <= {(False, False), (False, True), (True, False)}
    assert len(graphs._graphs) == 2
    assert MOST_GRAPHS == 16


def test_a_step_that_cannot_be_captured_runs_alone_and_the_log_says_why_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    with caplog.at_level(logging.WARNING):
        graphs = _compare(_model(), _one_row, [Call(DENSE), Call(FULL)] * 6, StepGraphs(refuse))
    assert not graphs._graphs
    (record,) = caplog.records
    assert "run without CUDA graphs" in record.message
    assert "not permitted" in record.message


def test_later_generations_find_the_graphs_of_earlier_ones() -> None:
    """Their caches lie in the same memory, cleared; a longer one's capacity is rounded alike."""
    captures: list[int] = []

    def capture(*given: Any) -> Any:
        captures.append(1)
        return tape_capture(*given)

    lm, graphs = _model(), StepGraphs(capture)
    graphed, alone = _twins(lm, graphs)
    calls = [Call(DENSE, DEFAULT)] * 4 + [Call(FULL, DEFAULT)] * 4
    made = []
    for room in (40, 41, 60):
        found = _run(graphed, _one_row(graphed, room), calls)
        _check_same(found, _run(alone, _one_row(alone, room), calls))
        made.append(len(captures))
    assert made[1] == made[2], "the third generation captures nothing"
    assert _one_row(graphed).capacity == _one_row(graphed, 60).capacity
    pool = graphed._pool
    assert pool is not None
    assert pool._free
    give_memory_back()
    assert not pool._free


def test_a_capture_without_memory_turns_graphs_off_for_that_run_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[int] = []

    def short_of_memory_once(*given: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            finally:  # as ending such a capture does
                raise RuntimeError("capture invalidated")
        return tape_capture(*given)

    lm, graphs = _model(), StepGraphs(short_of_memory_once)
    with caplog.at_level(logging.WARNING):
        _compare(lm, _one_row, [Call(DENSE)] * 20, graphs)
    assert (len(tries), len(graphs._graphs), graphs.failure) == (1, 0, None)
    assert "goes on without CUDA graphs" in caplog.text
    _compare(lm, _one_row, [Call(DENSE)] * 20, graphs)
    assert graphs._graphs


@pytest.mark.skipif(DEVICE == "cuda", reason="the tape is the CPU's")
@pytest.mark.parametrize(
    ("baked", "noticed"),
    [
        (lambda tokens, numbers: tokens + int(numbers[1][0]), "differs"),
        (lambda tokens, numbers: tokens + torch.tensor([int(numbers[1][0])]), "from the host"),
        (lambda tokens, numbers: tokens + numbers[1][0].item(), "read back"),
    ],
)
def test_a_number_that_does_not_come_through_the_buffers_is_noticed(
    baked: Callable[[Tensor, Any], Tensor], noticed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the tape itself: it freezes, or refuses, what a CUDA graph does."""
    host = [[0], [4]]

    def step(tokens: Tensor, numbers: Tensor, lap: Any) -> StepOutput:
        given = numbers if noticed == "read back" else host
        hidden = baked(tokens, given)
        return StepOutput(hidden, hidden, hidden)

    graphs = StepGraphs(tape_capture)
    found = []
    for count in range(STEPS_BEFORE_CAPTURE + 2):
        host = [[0], [count]]
        found.append(int(graphs.run("key", step, torch.tensor([1]), host).hidden))
    if noticed == "differs":
        assert found != [1 + count for count in range(len(found))]
    else:
        assert noticed in caplog.text
        assert not graphs._graphs


class _FakeCuda:
    """The calls of torch.cuda that a capture makes, in order; nothing runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
        self.log: list[str] = []
        self.current = "main"
        main, side = (SimpleNamespace(name=name, device=0) for name in ("main", "side"))
        for stream in (main, side):
            stream.wait_stream = lambda other, mine=stream: self.log.append(
                f"{mine.name} waits for {other.name}"
            )
        made = iter("ab")
        fakes = {
            "Stream": lambda device: side,
            "current_stream": lambda device: main,
            "stream": self._within,
            "graph": self._capturing,
            "CUDAGraph": lambda: SimpleNamespace(name=next(made), pool=lambda: "pool of a"),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        self.fails = fails

    @contextlib.contextmanager
    def _within(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def _capturing(
        self, graph: Any, *, pool: Any, stream: Any, capture_error_mode: str
    ) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.log.append(f"begin {graph.name} on {stream.name} in {pool}")
        yield
        if self.fails:
            raise RuntimeError("capture failed")
        self.log.append(f"end {graph.name}")


def test_a_capture_on_cuda_warms_up_on_its_stream_and_shares_one_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one part that no test runs without a GPU: at least its calls are right."""
    cuda = _FakeCuda(monkeypatch)
    nothing = torch.zeros(1)

    def step(lap: Any) -> StepOutput:
        cuda.log.append(f"step on {cuda.current}{'' if lap is step_graph.no_lap else ' with laps'}")
        return StepOutput(nothing, nothing, nothing)

    capture = step_graph._CudaCapture(torch.device("cuda"))
    first, _ = capture(step, print, None)
    capture(step, step_graph.no_lap, first)
    around = ["side waits for main", "step on side"], ["main waits for side"]
    assert cuda.log == [
        *around[0], "begin a on side in None", "step on side with laps", "end a", *around[1],
        *around[0], "begin b on side in pool of a", "step on side", "end b", *around[1],
    ]  # fmt: skip
    cuda.fails = True
    cuda.log.clear()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(name="c"))
    with pytest.raises(RuntimeError, match="capture failed"):
        capture(step, step_graph.no_lap, first)
    assert cuda.current == "main"


def test_a_failed_self_test_turns_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graph, "_CudaCapture", lambda device: tape_capture)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert StepGraphs.make(cuda) is not None
    assert StepGraphs.make(cpu) is None
    step_graph.turn_off("they differ")
    try:
        assert StepGraphs.make(cuda) is None
    finally:
        step_graph.turn_off(None)

"""Decode steps in graphs: bit for bit the same steps, whatever changes from token to token."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.actions import DENSE, GRIDS, PAPER, Action, Mechanisms
from sol_core.card_errors import give_memory_back
from sol_core.models import FrozenLM, StepOutput
from sol_core.models.signals import Observe
from sol_core.models.step import graph as step_graph
from sol_core.models.step import plan as step_plan
from sol_core.models.step.graph import StepGraphs
from tests.kernels.triton_cases import DEVICE, triton_here
from tests.sol_core.tape import tape_capture
from tests.support.tiny_models import laid_out_for_cuda, make_tiny_lm, moved

ALL = Observe.CONCENTRATION
FULL = Action(0.3, 0.5, 6)
MIXED = [FULL, DENSE, Action(0.6, 0.8, 16), Action(0.2, 1.0, 9)]
BY_LAYER = [Action((0.3, 0.9), (1.0, 0.5), 6), DENSE, FULL, Action((1.0, 0.2), 0.7)]
PROMPT = 13
DEFAULT = GRIDS["default"].mechanisms
AT_INPUT = Mechanisms(quant_site="mlp_input")


class Call(NamedTuple):
    """One decode step of some rows."""

    actions: Sequence[Action] | Action
    how: Mechanisms = PAPER
    observe: Observe = Observe.NOTHING


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch):
    """Borders between buckets every eight tokens; and no Numba, which a tape does not see."""
    monkeypatch.setattr(step_plan, "BUCKET_TOKENS", 8)
    for module in ("activation_quantisation", "channel_pruning", "page_attention"):
        monkeypatch.setattr(f"kernels.{module}.cpu_kernel", lambda *_: None)


def _model(family="llama3-rope", **options):
    return moved(laid_out_for_cuda(make_tiny_lm(family, **options)), DEVICE)


def _new_graphs():
    graphs = StepGraphs.make(torch.device(DEVICE))
    return StepGraphs(tape_capture) if graphs is None else graphs


def _twins(lm, graphs):
    """The same model with these graphs, and with all steps run alone."""
    never = _new_graphs()
    never.failure = "off"
    twins = FrozenLM(lm.spec, lm.weights), FrozenLM(lm.spec, lm.weights)
    for twin, its_graphs in zip(twins, (graphs, never), strict=True):
        twin.graphs = its_graphs
    return twins


def _one_row(lm, room=40):
    cache = lm.new_cache(1, PROMPT + room, page_size=4)
    lm.prefill(torch.arange(3, 3 + PROMPT, device=DEVICE)[None], cache)
    return cache


def _ragged_rows(lm, room=30):
    """Four rows, two behind each of two shared prefixes of different lengths."""
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(torch.arange(3, 3 + 2 * PROMPT, device=DEVICE).reshape(2, PROMPT), cache)
    rows = cache.branch(2, room, lengths=[13, 10])
    rows.own_lengths = [own + row % 2 for row, own in enumerate(rows.own_lengths)]
    return rows


def _windows_of_one_text(lm, room=30):
    cache = _one_row(lm)
    return cache.branch(2, room, lengths=[13, 9], sources=[0, 0])


def _run(lm, cache, calls):
    rows = torch.arange(cache.num_rows, device=DEVICE)
    return [
        lm.decode_step(
            5 + 3 * step + rows, cache, call.actions, mechanisms=call.how, observe=call.observe
        )
        for step, call in enumerate(calls)
    ]


def _check_same(found, expected):
    for step, (mine, right) in enumerate(zip(found, expected, strict=True)):
        for name in StepOutput.__dataclass_fields__:
            one, other = getattr(mine, name), getattr(right, name)
            assert (one is None) == (other is None)
            if one is not None:
                assert torch.equal(one, other), f"{name} of step {step} differs"


def _check_close(found, expected):
    for mine, right in zip(found, expected, strict=True):
        for name in ("logits", "attention_concentration"):
            one, other = getattr(mine, name), getattr(right, name)
            if other is not None:
                torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-4)


def _compare(lm, new_cache, calls, graphs=None):
    """Both ways to the same numbers, looked at after the last step; returns the graphs."""
    graphs = graphs or _new_graphs()
    graphed, alone = _twins(lm, graphs)
    found = _run(graphed, new_cache(graphed), calls)
    _check_same(found, _run(alone, new_cache(alone), calls))
    return graphs


def test_a_dense_row_decodes_the_same_in_a_graph_per_bucket():
    graphs = _compare(_model(), _one_row, [Call(DENSE)] * 20)
    # Steps of 14 … 33 tokens: two ran alone, and each later bucket has its graph at once.
    assert [_shape(key).own_width for key in graphs._graphs] == [16, 24, 32, 40]


def test_a_dropped_kind_must_be_worth_a_graph_anew(monkeypatch):
    monkeypatch.setattr(step_graph, "MOST_GRAPHS", 1)
    captures = []

    def capture(*given):
        captures.append(1)
        return tape_capture(*given)

    kinds = [DENSE, Action(bit_width=6)]
    monkeypatch.setattr(step_plan, "BUCKET_TOKENS", 64)
    for order, count in (([0, 0, 0, 1, 1, 1, 0, 0], 2), ([0, 0, 0, 1, 1, 1, 0, 0, 0], 3)):
        captures.clear()
        _compare(_model(), _one_row, [Call(kinds[kind]) for kind in order], StepGraphs(capture))
        assert len(captures) == count


def _shape(key):
    """Of a graph's key, ((shape, layout), timed)."""
    shape = key[0][0]
    assert isinstance(shape, step_plan.StepShape)
    return shape


@pytest.mark.skipif(DEVICE == "cuda", reason="there, every test runs Triton's kernels")
@pytest.mark.parametrize(
    ("family", "layers", "how"),
    [("llama3-rope", 1, AT_INPUT), ("gemma3", 2, DEFAULT)],
)
def test_triton_kernels_in_a_graph(family, layers, how, monkeypatch, caplog):
    """Dense without page bounds, then an action for each row, with them (or with 4-bit keys)."""
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
    _check_close(expected, references)


@pytest.mark.skipif(DEVICE == "cuda", reason="there, every test runs Triton's kernels")
def test_triton_kernels_by_layer_in_a_graph(monkeypatch, caplog):
    """A list per layer in some rows; the next step's lists are others, its graph is the same."""
    monkeypatch.setattr(step_plan, "BUCKET_TOKENS", 16)
    monkeypatch.setattr(step_graph, "STEPS_BEFORE_CAPTURE", 1)
    calls = [Call(actions, DEFAULT, observe=ALL) for actions in (BY_LAYER, BY_LAYER[::-1])]
    lm, graphs = _model("gemma3", num_attention_heads=4), _new_graphs()
    graphed, alone = _twins(lm, graphs)
    references = _run(lm, _ragged_rows(lm), calls)
    with triton_here(), caplog.at_level(logging.WARNING):
        found = _run(graphed, _ragged_rows(graphed), calls)
        expected = _run(alone, _ragged_rows(alone), calls)
    assert not caplog.records
    assert [_shape(key).by_layer for key in graphs._graphs] == [True]
    _check_same(found, expected)
    _check_close(expected, references)


@pytest.mark.parametrize("new_cache", [_one_row, _windows_of_one_text])
def test_dense_and_compressed_steps_take_turns(new_cache):
    """Bounds (or 4-bit keys) do not exist, are extended, go stale (a step with the other) and
    return."""
    for how, other in ((PAPER, DEFAULT), (DEFAULT, PAPER)):
        varied = [
            Call(Action(0.2 + 0.05 * step, 0.9 - 0.05 * step, 4 + step), how) for step in range(8)
        ]
        calls = [Call(DENSE, how)] * 4 + varied + [Call(DENSE, how)] * 4
        graphs = _compare(_model("gemma3"), new_cache, [*calls, *[Call(FULL, other)] * 4, *varied])
        assert {_shape(key).sparse for key in graphs._graphs} == {False, True}


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU every step is in buckets")
@pytest.mark.parametrize("family", ["mistral-window", "gemma3"])
@pytest.mark.parametrize("how", [PAPER, DEFAULT])
def test_steps_in_buckets_are_those_of_exact_lengths(family, how):
    lm = _model(family)
    _, in_buckets = _twins(lm, _new_graphs())
    calls = [Call([DENSE] * 4, how)] * 5 + [Call(MIXED, how, observe=ALL)] * 5
    _check_close(*(_run(each, _ragged_rows(each), calls) for each in (in_buckets, lm)))


@pytest.mark.parametrize("how", [PAPER, DEFAULT])
def test_a_cache_changes_between_steps_of_one_graph(how):
    """By prefills and truncations, for which no new graph is captured."""
    lm, graphs = _model(), _new_graphs()

    def decode(lm):
        cache = lm.new_cache(1, 60, page_size=4)
        found = []
        for length in (10, 20, 17, 11):
            cache.truncate(length)
            lm.prefill(torch.arange(3, 5, device=DEVICE)[None], cache)
            found += _run(lm, cache, [Call(FULL, how, observe=ALL)] * 6)
        return found

    graphed, alone = _twins(lm, graphs)
    _check_same(decode(graphed), decode(alone))
    shapes = [_shape(key).own_width for key in graphs._graphs]
    assert 0 < len(shapes) == len(set(shapes))


ACTIONS = st.builds(
    Action,
    st.sampled_from([0.1, 0.4, 0.75, 1.0, (0.2, 0.9), (1.0, 0.3)]),
    st.sampled_from([0.25, 0.6, 1.0, (0.8, 0.4)]),
    st.sampled_from([2, 7, 16]),
)


@settings(max_examples=15)
@given(
    st.sampled_from([_one_row, _ragged_rows, _windows_of_one_text]),
    st.lists(st.lists(ACTIONS, min_size=4, max_size=4), min_size=1, max_size=3),
    st.sampled_from([PAPER, DEFAULT]),
    st.sampled_from(Observe),
)
def test_any_steps_in_any_order(new_cache, kinds, how, observe):
    rows = 1 if new_cache is _one_row else 4
    calls = [Call(kinds[step % len(kinds)][:rows], how, observe) for step in range(10)]
    _compare(_model("mistral-window"), new_cache, calls)


def test_graphs_beyond_the_limit_are_dropped_the_least_used_first(monkeypatch):
    monkeypatch.setattr(step_graph, "MOST_GRAPHS", 2)
    monkeypatch.setattr(step_plan, "BUCKET_TOKENS", 64)
    kinds = [Call(DENSE), Call(Action(bit_width=6)), Call(Action(1.0, 0.5))]
    order = [0, 0, 0, 1, 1, 1, 0, 2, 2, 2, 1]  # dense is used again before the third comes
    graphs = _compare(_model(), _one_row, [kinds[kind] for kind in order])
    left = [(_shape(key).quantised, _shape(key).pruned) for key in graphs._graphs]
    assert left == [(False, False), (False, True)]


def test_a_step_that_cannot_be_captured_runs_alone_and_the_log_says_why_once(caplog):
    def refuse(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    with caplog.at_level(logging.WARNING):
        graphs = _compare(_model(), _one_row, [Call(DENSE), Call(FULL)] * 6, StepGraphs(refuse))
    assert not graphs._graphs
    (record,) = caplog.records
    assert "run without CUDA graphs" in record.message
    assert "not permitted" in record.message


def test_later_generations_find_the_graphs_of_earlier_ones():
    """Their caches lie in the same memory, cleared; a longer one's capacity is rounded alike."""
    lm, graphs = _model(), _new_graphs()
    graphed, alone = _twins(lm, graphs)
    calls = [Call(DENSE, DEFAULT)] * 4 + [Call(FULL, DEFAULT)] * 4
    made = []
    for room in (40, 41, 60):
        found = _run(graphed, _one_row(graphed, room), calls)
        _check_same(found, _run(alone, _one_row(alone, room), calls))
        made.append(list(graphs._graphs.values()))
    assert made[1] == made[2], "the third generation captures nothing"
    pool = graphed._pool
    assert pool._free
    give_memory_back()
    assert not pool._free


def test_a_step_without_memory_lets_go_of_pools_and_graphs_and_is_the_same(monkeypatch):
    lm, graphs = _model(), _new_graphs()
    graphed, alone = _twins(lm, graphs)
    calls = [Call(FULL, DEFAULT)] * 4
    expected = _run(alone, _one_row(alone), calls * 2)
    cache = _one_row(graphed)
    found = _run(graphed, cache, calls)
    kept = list(graphs._graphs.values())
    assert kept
    step, errors = graphed._decode_planned, [torch.OutOfMemoryError("CUDA out of memory")]

    def short_once(*given):
        output = step(*given)  # all is written when the memory is short
        if errors:
            raise errors.pop()
        return output

    monkeypatch.setattr(graphed, "_decode_planned", short_once)
    rows = torch.arange(1, device=DEVICE)
    for number, call in enumerate(calls):
        token = 5 + 3 * (number + len(calls)) + rows
        found.append(graphed.decode_step(token, cache, call.actions, mechanisms=call.how))
        assert all(graph not in kept for graph in graphs._graphs.values())  # the step's second try
    _check_same(found, expected)


def test_a_capture_without_memory_turns_graphs_off_for_that_run_alone(caplog):
    tries = []

    def short_of_memory_once(*given):
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

"""The lens: every alternative of one step, against the run itself and plain scoring."""

import dataclasses
import json
import logging
import math
from importlib import resources
from unittest.mock import Mock

import pytest

from sol_core.actions import AXIS_FIELDS, DENSE, ActionGrid, Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError, ContextLengthError
from sol_core.events import TokenEvent
from sol_core.generation.engine import encode_prompt, generate
from sol_core.generation.scoring import ScoreCase, score_case
from sol_core.lens.engine import FOLLOWING, Lens
from sol_core.lens.records import LensRun
from sol_core.models import FrozenLM

pytestmark = pytest.mark.usefixtures("one_thread")
logger = logging.getLogger(__name__)
PROMPT = "The keeper of the light wrote"
GRID = ActionGrid(page_size=4)
STEPS = 24


def configured(**options):
    schedule = ScheduleConfig("random", Budget(0.4, 0.6, 8.0), seed=3)
    defaults = {"schedule": schedule, "grid": GRID, "max_new_tokens": STEPS}
    return GenerationConfig(**(defaults | {"ignore_end_of_text": True} | options))


def made(model, prompt=PROMPT, **options):
    """A run under random actions, as the lens takes it, and its own events."""
    config = configured(**options)
    events = [e for e in generate(model, prompt, config) if isinstance(e, TokenEvent)]
    tokens = *encode_prompt(model, prompt, chat=False), *(event.token_id for event in events)
    actions = tuple(event.action for event in events)
    shadow = any(row.name == "dense" for row in config.side_rows)
    more = {"shadow": shadow, "left_out": config.left_out}
    return LensRun(tokens, actions, config.grid_in_use, **more), events


@pytest.fixture(scope="module")
def run(model):
    return made(model)[0]


@pytest.mark.parametrize("options", [{}, {"prompt": "a"}], ids=["a text", "one token"])
def test_the_taken_row_is_the_run(model, options):
    run, events = made(model, **options)
    lens = Lens(model, run)
    for index in (11, 3, 0, STEPS - 1, 4, 5):
        taken = lens.look(index).taken
        assert taken.action == events[index].action
        assert (taken.nll, taken.entropy) == (events[index].surprisal, events[index].entropy)


BESIDE = (
    SideRowConfig("static", ScheduleConfig("static", Budget(0.5, 2 / 3, 8.0))),
    SideRowConfig("dense", ScheduleConfig("dense")),
)
THIRDS = ActionGrid(channel_keep_ratios=(1 / 3, 2 / 3, 1.0), page_size=4)


def test_only_a_run_with_a_dense_row_has_a_kl_to_it(model):
    run, events = made(model, grid=THIRDS, side_rows=BESIDE)
    event, view = events[3], Lens(model, run).look(3)
    assert view.replayed.kl_to_dense == event.kl_to_dense
    # The row's own KL is to one dense step on the same cache: another question.
    assert abs(view.taken.kl - (event.kl_to_dense or 0)) > 1e-4
    assert Lens(model, made(model)[0]).look(3).replayed.kl_to_dense is None
    dense = Lens(model, made(model, schedule=ScheduleConfig("dense"))[0]).look(2)
    assert dense.replayed.kl_to_dense == 0
    assert dense.trails[0].action == DENSE
    assert dense.trails[0].nll_change == dense.trails[0].kl == (0.0,) * FOLLOWING


@pytest.mark.model
def test_a_real_replay_is_the_run_bit_for_bit(either_model):
    shipped = resources.files("sol_core.policy") / "shipped" / "smollm2-135m-instruct"
    schedule = ScheduleConfig("policy", Budget(0.5, 2 / 3, 8.0), policy=str(shipped))
    run, events = made(either_model, schedule=schedule, grid=ActionGrid(), side_rows=BESIDE[1:])
    lens = Lens(either_model, run)
    for index in (1, 11, 19):
        step, event = lens.look(index).replayed, events[index]
        recorded = (event.surprisal, event.entropy, event.kl_to_dense)
        assert (step.nll, step.entropy, step.kl_to_dense) == recorded


def test_rows_are_the_levels_of_one_axis_as_scoring_them_gives(model, run):
    index = 9
    view = Lens(model, run).look(index)
    assert (view.dense.kl, view.dense.action) == (0, DENSE)
    for axis, levels, of_axis in zip(AXIS_FIELDS, GRID.levels(), view.axes, strict=True):
        assert [getattr(row.action, axis) for row in of_axis] == list(levels)
        assert view.taken in of_axis
        for row in of_axis:
            others = {axis: getattr(view.taken.action, axis)}
            assert dataclasses.replace(row.action, **others) == view.taken.action
            assert row.kl >= 0
            assert 0 <= row.entropy <= math.log(257) + 1e-4
    rows = [row for of_axis in view.axes for row in of_axis]
    schedules = tuple((*run.actions[:index], row.action) for row in rows)
    scored = score_case(model, ScoreCase(run.tokens, run.before, schedules, GRID.page_size))
    expected = [nll[-1] for nll in scored]
    assert [row.nll for row in rows] == expected
    assert any(abs(row.nll - view.taken.nll) > 1e-4 for row in rows)


def test_a_rows_choice_is_its_most_probable_token(model):
    """The run is greedy: the choice of the row that it took is its token."""
    run, events = made(model)
    lens, others = Lens(model, run), 0
    for index in (0, 11, 17):
        view, event = lens.look(index), events[index]
        assert view.taken.choice.token_id == event.token_id
        assert view.taken.choice.text == event.top[0].text
        for row in (view.dense, *(row for levels in view.axes for row in levels)):
            differs = row.choice.token_id != event.token_id
            others += differs
            least = math.exp(-row.nll)
            assert row.choice.probability >= least * (1 - 1e-5)
            assert differs or row.choice.probability == pytest.approx(least, rel=1e-5)
    assert others > 0


def test_all_levels_are_one_decode_step(model, run, monkeypatch):
    step = Mock(wraps=model.lm.decode_step)
    monkeypatch.setattr(FrozenLM, "decode_step", step)
    lens, levels = Lens(model, run), sum(len(axis) for axis in GRID.levels())
    lens.look(5)
    rows = [len(call.args[0]) for call in step.call_args_list]
    assert rows[:6] == [1] * 6  # the replay, the step itself included
    assert levels - 2 <= rows[6] <= levels + 1  # less duplicates, with the dense row
    assert len(rows[7:]) == 1 + FOLLOWING
    assert max(rows[7:]) <= 5  # dense, taken, and the lowest of each axis
    step.reset_mock()
    lens.look(5)
    assert all(len(call.args[0]) > 1 for call in step.call_args_list), "the replay is kept"


@pytest.mark.parametrize("index", [0, 6])
def test_trails_are_the_change_to_dense(model, run, index):
    view = Lens(model, run).look(index)
    assert [trail.name for trail in view.trails] == ["taken", *AXIS_FIELDS]
    followed = run.actions[index + 1 : index + 1 + FOLLOWING]
    tried = [DENSE, *(trail.action for trail in view.trails)]
    schedules = tuple((*run.actions[:index], action, *followed) for action in tried)
    case = ScoreCase(run.tokens, run.before, schedules, GRID.page_size)
    dense, *others = score_case(model, case)
    for trail, nll in zip(view.trails, others, strict=True):
        expected = [a - b for a, b in zip(nll, dense, strict=True)][index + 1 :]
        assert list(trail.nll_change) == expected
        assert all(value >= 0 for value in trail.kl)
        assert len(trail.kl) == FOLLOWING
    assert max(abs(value) for trail in view.trails for value in trail.nll_change) > 1e-4
    assert [len(t.kl) for t in Lens(model, run).look(STEPS - 4).trails] == [3] * 4
    json.dumps(view.to_dict(), allow_nan=False)


def test_bad_runs_and_positions_are_named(model, run):
    for ask in (Lens(model, run).look, Lens(model, run).page_effects):
        for index in (-1, STEPS):
            with pytest.raises(ConfigError, match=f"tokens 0 to {STEPS - 1}, got {index}"):
                ask(index)
    with pytest.raises(ConfigError, match="at least one"):
        LensRun((1,), (DENSE,), GRID)
    with pytest.raises(ConfigError, match="outside the vocabulary"):
        Lens(model, LensRun((1, 257), (DENSE,), GRID))
    long = (1,) * (model.context_length + 2)
    with pytest.raises(ContextLengthError, match="exceed the context"):
        Lens(model, LensRun(long, (DENSE,), GRID))

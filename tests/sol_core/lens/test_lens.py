"""The lens: every alternative of one step, against the run itself and plain scoring."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import time
from importlib import resources
from typing import Any

import pytest
import torch

from kernels.linear import FEW_ROWS
from sol_core.actions import AXIS_FIELDS, DENSE, Action, ActionGrid, Budget
from sol_core.comparing.scoring import ScoreCase, score_case
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.errors import ConfigError, ContextLengthError
from sol_core.events import TokenEvent
from sol_core.generation.engine import encode_prompt, generate
from sol_core.lens.engine import FOLLOWING, Lens
from sol_core.lens.records import LensRun
from sol_core.models import FrozenLM
from sol_core.models.loading import LanguageModel
from tests.support.tiny_language_model import make_language_model

pytestmark = pytest.mark.usefixtures("one_thread")
logger = logging.getLogger(__name__)
PROMPT = "The keeper of the light wrote"
GRID = ActionGrid(page_size=4)
STEPS = 24


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_language_model()


def made(
    model: LanguageModel, prompt: str = PROMPT, **options: Any
) -> tuple[LensRun, list[TokenEvent]]:
    """A run under random actions, as the lens takes it, and its own events."""
    schedule = ScheduleConfig("random", Budget(0.4, 0.6, 8.0), seed=3)
    defaults = {"schedule": schedule, "grid": GRID, "max_new_tokens": STEPS}
    config = GenerationConfig(**(defaults | {"ignore_end_of_text": True} | options))
    events = [e for e in generate(model, prompt, config) if isinstance(e, TokenEvent)]
    tokens = [*encode_prompt(model, prompt, chat=False), *(event.token_id for event in events)]
    return as_run(tokens, config, events), events


def as_run(tokens: list[int], config: GenerationConfig, events: list[TokenEvent]) -> LensRun:
    return LensRun(
        tuple(tokens),
        tuple(event.action for event in events),
        config.grid,
        beside=tuple(
            tuple(event.side[row].action for event in events)
            for row in range(len(config.side_rows))
        ),
        observed=config.schedule.policy is not None,
    )


@pytest.fixture(scope="module")
def run(model: LanguageModel) -> LensRun:
    return made(model)[0]


def test_the_taken_row_is_the_run_itself_in_any_order_of_looking(
    model: LanguageModel,
) -> None:
    run, events = made(model)
    lens = Lens(model, run)
    for index in (11, 3, 0, STEPS - 1, 4, 5):
        taken = lens.look(index).taken
        assert taken.action == events[index].action
        assert taken.nll == pytest.approx(events[index].surprisal, abs=1e-4)
        assert taken.entropy == pytest.approx(events[index].entropy, abs=1e-4)


BESIDE = (
    SideRowConfig("static", ScheduleConfig("static", Budget(0.5, 2 / 3, 8.0))),
    SideRowConfig("dense", ScheduleConfig("dense")),
)
THIRDS = ActionGrid(channel_keep_ratios=(1 / 3, 2 / 3, 1.0), page_size=4)


def test_a_replay_gives_the_kl_that_the_run_recorded(model: LanguageModel) -> None:
    run, events = made(model, grid=THIRDS, side_rows=BESIDE)
    assert any(event.action.channel_keep_ratio == 2 / 3 for event in events)
    lens = Lens(model, run)
    for index in (STEPS - 1, 3, 0, 11, 4, 5):
        step, event = lens.look(index).replayed, events[index]
        assert step.nll == pytest.approx(event.surprisal, rel=1e-5)
        assert step.entropy == pytest.approx(event.entropy, rel=1e-5)
        assert step.kl_to_dense == pytest.approx(event.kl_to_dense, rel=1e-4, abs=1e-6)
    # The row's own KL is to one dense step on the same cache: another question.
    away = [abs(lens.look(at).taken.kl - (events[at].kl_to_dense or 0)) for at in range(1, 5)]
    assert max(away) > 1e-3


def test_a_run_without_a_dense_row_has_no_kl_to_it(model: LanguageModel, run: LensRun) -> None:
    assert Lens(model, run).look(3).replayed.kl_to_dense is None
    dense, _ = made(model, schedule=ScheduleConfig("dense"))
    assert Lens(model, dense).look(3).replayed.kl_to_dense == 0


@pytest.mark.model
@pytest.mark.parametrize("kind", ["random", "policy"])
def test_a_replay_of_the_default_model_is_the_run_to_the_last_bit(
    default_model: LanguageModel, kind: str
) -> None:
    """In bfloat16 a step of another number of rows adds up in another order."""
    shipped = resources.files("sol_core.policy") / "shipped" / "smollm2-135m-instruct"
    policy = str(shipped) if kind == "policy" else None
    schedule = ScheduleConfig(kind, Budget(0.5, 2 / 3, 8.0), policy=policy)
    grid = ActionGrid() if policy else dataclasses.replace(THIRDS, page_size=8)
    run, events = made(default_model, schedule=schedule, grid=grid, side_rows=BESIDE[1:])
    lens = Lens(default_model, run)
    for index in (1, 11, 19):
        step, event = lens.look(index).replayed, events[index]
        recorded = (event.surprisal, event.entropy, event.kl_to_dense)
        assert (step.nll, step.entropy, step.kl_to_dense) == recorded


def test_rows_are_the_levels_of_one_axis_and_nothing_else_changes(
    model: LanguageModel, run: LensRun
) -> None:
    view = Lens(model, run).look(9)
    assert view.dense.kl == 0
    assert view.dense.action == DENSE
    for axis, levels, rows in zip(AXIS_FIELDS, GRID.levels(), view.axes, strict=True):
        assert [getattr(row.action, axis) for row in rows] == list(levels)
        for row in rows:
            others = {axis: getattr(view.taken.action, axis)}
            assert dataclasses.replace(row.action, **others) == view.taken.action
            assert row.kl >= 0
            assert 0 <= row.entropy <= math.log(257) + 1e-4
        assert view.taken in rows
    assert any(abs(row.nll - view.taken.nll) > 1e-4 for rows in view.axes for row in rows)


def test_every_row_is_what_scoring_that_schedule_gives(model: LanguageModel, run: LensRun) -> None:
    index = 7
    view = Lens(model, run).look(index)
    rows = [row for levels in view.axes for row in levels]
    schedules = tuple((*run.actions[:index], row.action) for row in rows)
    case = ScoreCase(run.tokens, run.before, schedules, GRID.page_size)
    expected = [nll[-1] for nll in score_case(model, case)]
    assert [row.nll for row in rows] == pytest.approx(
        expected, abs=5e-4
    )  # a CPU with AMX sums in another order


def test_a_rows_choice_is_its_most_probable_token(model: LanguageModel) -> None:
    """The run is greedy: the choice of the row that it took is its token.

    Where the token that was generated is the choice, its probability is that of its NLL.
    """
    run, events = made(model)
    lens = Lens(model, run)
    others = 0
    for index in (0, 5, 11, 17):
        view, event = lens.look(index), events[index]
        assert view.taken.choice.token_id == event.token_id == event.top[0].token_id
        assert view.taken.choice.text == event.top[0].text
        assert view.taken.choice.probability == pytest.approx(event.top[0].probability, rel=1e-3)
        for row in (view.dense, *(row for levels in view.axes for row in levels)):
            if row.choice.token_id == event.token_id:
                assert row.choice.probability == pytest.approx(math.exp(-row.nll), rel=1e-5)
            else:
                others += 1
                assert row.choice.probability >= math.exp(-row.nll)
    assert others > 0
    plane = lens.plane(17, view.taken.action.bit_width)
    found = {row.action: row.choice.token_id for line in plane for row in line}
    assert all(found[row.action] == row.choice.token_id for row in view.axes[0])


def test_all_levels_are_one_decode_step(
    model: LanguageModel, run: LensRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    step = FrozenLM.decode_step

    def counted(self: FrozenLM, tokens: torch.Tensor, *rest: Any, **named: Any) -> Any:
        rows.append(len(tokens))
        return step(self, tokens, *rest, **named)

    monkeypatch.setattr(FrozenLM, "decode_step", counted)
    lens = Lens(model, run)
    lens.look(5)
    levels = sum(len(axis) for axis in GRID.levels())
    assert rows[:6] == [1] * 6  # the replay, the step itself included
    assert levels - 2 <= rows[6] <= levels + 1  # less duplicates, with the dense row
    assert len(rows[7:]) in (1 + FOLLOWING, 2 * (1 + FOLLOWING))
    assert max(rows[7:]) <= FEW_ROWS  # more take three times as long
    del rows[:]
    lens.look(5)
    assert 1 not in rows, "the replay is kept"


@pytest.mark.parametrize("index", [0, 6])
def test_trails_are_the_difference_to_a_dense_step(
    model: LanguageModel, run: LensRun, index: int
) -> None:
    # Rounded to few bits, sums in another order may fall to the other side and move 5e-3 nats.
    actions = tuple(dataclasses.replace(action, bit_width=16) for action in run.actions)
    run = dataclasses.replace(run, actions=actions)
    view = Lens(model, run).look(index)
    assert [trail.name for trail in view.trails] == ["taken", *AXIS_FIELDS]
    followed = run.actions[index + 1 : index + 1 + FOLLOWING]
    tried = [DENSE, *(trail.action for trail in view.trails)]
    schedules = tuple((*run.actions[:index], action, *followed) for action in tried)
    case = ScoreCase(run.tokens, run.before, schedules, GRID.page_size)
    dense, *others = score_case(model, case)
    for trail, nll in zip(view.trails, others, strict=True):
        expected = [a - b for a, b in zip(nll, dense, strict=True)][index + 1 :]
        assert list(trail.nll_change) == pytest.approx(expected, abs=2e-5)
        assert all(value >= 0 for value in trail.kl)
        assert len(trail.kl) == FOLLOWING
    assert max(abs(value) for trail in view.trails for value in trail.nll_change) > 1e-4


def test_a_dense_step_leaves_nothing_behind(model: LanguageModel) -> None:
    run, _ = made(model, schedule=ScheduleConfig("dense"))
    view = Lens(model, run).look(2)
    taken = view.trails[0]
    assert taken.action == DENSE
    assert taken.nll_change == (0.0,) * FOLLOWING
    assert taken.kl == (0.0,) * FOLLOWING


def test_trails_end_with_the_run(model: LanguageModel, run: LensRun) -> None:
    assert [len(t.kl) for t in Lens(model, run).look(STEPS - 1).trails] == [0] * 4
    assert [len(t.kl) for t in Lens(model, run).look(STEPS - 4).trails] == [3] * 4


def test_a_plane_of_the_joint_grid_agrees_with_the_axes(model: LanguageModel, run: LensRun) -> None:
    lens, index = Lens(model, run), 9
    view = lens.look(index)
    plane = lens.plane(index, view.taken.action.bit_width)
    actions = [[row.action for row in line] for line in plane]
    expected = list(itertools.product(GRID.keep_fractions, GRID.channel_keep_ratios))
    assert [a.as_tuple()[:2] for line in actions for a in line] == expected
    found = {row.action: row for line in plane for row in line}
    for row in (*view.axes[0], *view.axes[1]):
        assert found[row.action].nll == pytest.approx(row.nll, abs=1e-4)
        assert found[row.action].kl == pytest.approx(row.kl, abs=1e-4)


def test_a_run_of_one_prompt_token(model: LanguageModel) -> None:
    run, events = made(model, prompt="a", max_new_tokens=3)
    assert run.before == 0
    lens = Lens(model, run)
    for index in range(3):
        assert lens.look(index).taken.nll == pytest.approx(events[index].surprisal, abs=1e-4)


def test_the_json_form_holds_everything(model: LanguageModel, run: LensRun) -> None:
    record = json.loads(json.dumps(Lens(model, run).look(4).to_dict(), allow_nan=False))
    assert record["index"] == 4
    assert [len(rows) for rows in record["axes"]] == [10, 13, 12]
    assert set(record["taken"]) == {"action", "nll", "kl", "entropy", "choice"}
    assert set(record["axes"][2][0]["choice"]) == {"token_id", "text", "probability"}
    assert record["trails"][1]["name"] == "keep_fraction"


@pytest.mark.parametrize("index", [-1, STEPS, 10**9])
def test_a_position_outside_the_run_is_named(
    model: LanguageModel, run: LensRun, index: int
) -> None:
    for ask in (Lens(model, run).look, lambda at: Lens(model, run).plane(at, 8)):
        with pytest.raises(ConfigError, match=f"tokens 0 to {STEPS - 1}, got {index}"):
            ask(index)


def test_bad_runs_are_named(model: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        LensRun((1,), (DENSE,), GRID)
    with pytest.raises(ConfigError, match="at least one"):
        LensRun((1, 2), (), GRID)
    with pytest.raises(ConfigError, match="every row beside a run needs its 1 actions"):
        LensRun((1, 2), (DENSE,), GRID, beside=((),))
    with pytest.raises(ConfigError, match="outside the vocabulary"):
        Lens(model, LensRun((1, 257), (DENSE,), GRID))
    long = (1,) * (model.context_length + 2)
    with pytest.raises(ContextLengthError, match="exceed the context"):
        Lens(model, LensRun(long, (DENSE,), GRID))
    with pytest.raises(ConfigError, match="bits must be"):
        Lens(model, LensRun((1, 2), (DENSE,), GRID)).plane(0, 99)


@pytest.mark.model
def test_what_a_look_takes_at_512_tokens(default_model: LanguageModel) -> None:
    """Seconds, with ``-o log_cli=true -o log_cli_level=info``; the machine decides them."""
    text = " ".join(str(number) for number in range(400))
    ids = default_model.tokenizer(text)["input_ids"][: 512 + FOLLOWING + 1]
    actions = (Action(0.5, 0.7, 8),) * (len(ids) - 448)
    lens = Lens(default_model, LensRun(tuple(ids), actions, ActionGrid()))
    for name in ("first look, with 64 replayed steps", "second look"):
        began = time.perf_counter()
        view = lens.look(64)
        logger.info("%s: %.2f s", name, time.perf_counter() - began)
    assert view.taken in view.axes[0]

"""Inspection: every row against plain scoring, the report against hand-made tokens, the lens."""

import json
import math

import pytest

from sol_core.actions import AXIS_FIELDS, DENSE, Action, ActionGrid, Budget
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.errors import ConfigError
from sol_core.events import StepCost, TokenEvent
from sol_core.fields import from_json
from sol_core.generation.engine import encode_prompt, generate
from sol_core.generation.scoring import ScoreCase, score_case
from sol_core.inspection import records
from sol_core.inspection.engine import inspect_text
from sol_core.inspection.report import HARMLESS_KL, difficulty
from sol_core.lens.engine import Lens, run_of_text
from sol_core.policy.policy import load_policy
from tests.support.tiny_policies import save_tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "The keeper of the light wrote: 12 ships, Ada's too. def f(): 7\nÉ!"
BUDGET = Budget(0.4, 0.6, 8.0)
GRID = ActionGrid(page_size=4)
STATIC, RANDOM = ScheduleConfig("static", BUDGET), ScheduleConfig("random", BUDGET, seed=3)


def inspected(model, text=TEXT, **options):
    config = records.InspectionConfig(**({"schedules": (STATIC, RANDOM), "grid": GRID} | options))
    start, *tokens, end = inspect_text(model, text, config)
    assert isinstance(start, records.InspectionStart)
    assert isinstance(end, records.InspectionEnd)
    return start, [one for one in tokens if isinstance(one, records.InspectedToken)], end


@pytest.fixture(scope="module")
def made(model):
    return inspected(model)


def test_every_row_scores_as_the_same_actions_alone(model, made):
    start, tokens, _ = made
    assert start.rows == ("dense", "static", "random")
    ids = (*start.prefix, *(token.token_id for token in tokens))
    assert list(ids) == model.tokenizer(TEXT)["input_ids"]
    schedules = tuple(tuple(token.rows[row].action for token in tokens) for row in range(3))
    alone = score_case(model, ScoreCase(ids, 0, schedules, GRID.page_size))
    for row, losses in enumerate(alone):
        assert [token.rows[row].nll for token in tokens] == pytest.approx(losses, abs=1e-4)
    assert set(schedules[0]) == {DENSE}
    assert all(token.rows[0].kl == 0 for token in tokens)
    assert any(token.rows[2].kl > 1e-3 for token in tokens)


def test_tokens_say_what_they_are_and_what_dense_thought(made):
    start, tokens, _ = made
    assert start.prefix_text + "".join(token.text for token in tokens) == TEXT
    assert [token.index for token in tokens] == list(range(len(tokens)))
    assert [token.cached_tokens for token in tokens] == list(range(1, len(tokens) + 1))
    json.dumps([start.to_dict(), *(token.to_dict() for token in tokens)], allow_nan=False)
    for token in tokens:
        assert [row.name for row in token.rows] == list(start.rows)
        listed = {one.token_id: one.probability for one in token.top}
        assert list(listed.values()) == sorted(listed.values(), reverse=True)
        if token.token_id in listed:
            nll = -math.log(listed[token.token_id])
            assert token.rows[0].nll == pytest.approx(nll, abs=1e-4)
        assert token.rows[1].cost.bytes_read < token.rows[0].cost.bytes_read


def test_rows_say_which_pages_they_read(model, made):
    _, plain, _ = made
    assert not any(row.pages_read for token in plain for row in token.rows)
    options = {"schedules": (STATIC,), "grid": GRID, "read_pages": True}
    start, tokens, _ = inspected(model, **options)
    for token in tokens[8:]:
        dense, static = token.rows
        assert dense.pages_read == ""
        assert len(static.pages_read) == -(-token.cached_tokens // GRID.page_size)
        assert set(static.pages_read) - {"/"}, "some pages were read in part, or not at all"
    assert "read_pages" not in start.to_dict()


def test_budgets_are_met_and_totals_are_means(made):
    _, tokens, end = made
    assert end.reason == "finished"
    assert end.num_tokens == len(tokens)
    for row, totals in enumerate(end.rows):
        nll = [token.rows[row].nll for token in tokens]
        assert totals.nll == pytest.approx(sum(nll) / len(nll))
        if row:
            assert totals.spend.as_tuple() == pytest.approx(BUDGET.as_tuple(), abs=0.02)


def test_a_painted_schedule_takes_the_painted_actions(model):
    levels = GRID.levels()
    painted = tuple(
        Action.of([some[step % len(some)] for some in levels]) for step in range(len(TEXT) - 2)
    )
    schedule = ScheduleConfig("painted", BUDGET, painted=painted)
    _, tokens, end = inspected(model, schedules=(STATIC, schedule))
    assert [row.name for row in end.rows] == ["dense", "static", "painted"]
    taken = [token.rows[2].action for token in tokens]
    assert taken == [*painted, *painted[-1:] * (len(tokens) - len(painted))]
    config = records.InspectionConfig((STATIC, schedule), GRID)
    assert from_json(records.InspectionConfig, json.loads(json.dumps(config.to_dict()))) == config
    assert "painted" not in config.to_dict()["schedules"][0]
    for wrong in ({"kind": "painted"}, {"kind": "static", "painted": painted}):
        with pytest.raises(ConfigError, match="painted needs an action per step"):
            ScheduleConfig(**wrong)


def test_static_is_scored_again(model, monkeypatch):
    monkeypatch.setattr("sol_core.inspection.engine.ENOUGH_TOKENS", 20)
    rich = ScheduleConfig("random", Budget(0.8, 0.9, 8.0), seed=1)
    _, tokens, end = inspected(model, schedules=(STATIC, rich))
    (matched,) = end.matched
    assert (matched.name, len(matched.nll)) == ("random", len(tokens))
    assert len([kl for kl in matched.kl if kl > 0]) == len(tokens)
    dense, static, random = (row.cost.bytes_read for row in end.rows)
    assert static < matched.cost.bytes_read
    assert matched.cost.bytes_read == pytest.approx(random, abs=0.01 * dense)
    assert matched.budget.as_tuple()[0] > BUDGET.keep_fraction
    # Of rows that spent the same, and of few tokens, nothing is scored again.
    assert inspected(model)[2].matched == ()
    monkeypatch.undo()
    assert inspected(model, schedules=(STATIC, rich))[2].matched == ()


def test_a_saved_runs_tokens_are_scored_after_its_prompt(model):
    config = GenerationConfig(STATIC, grid=GRID, chat=True, max_new_tokens=9)
    made = [one for one in generate(model, "Hello", config) if isinstance(one, TokenEvent)]
    options = {"chat": True, "generated": tuple(one.token_id for one in made)}
    start, tokens, _ = inspected(model, "Hello", schedules=(STATIC,), **options)
    assert list(start.prefix) == encode_prompt(model, "Hello", chat=True)
    losses = [one.surprisal for one in made]
    assert [token.rows[1].nll for token in tokens] == pytest.approx(losses, abs=1e-4)


def test_long_texts_are_cut_and_it_is_said(model):
    room = model.context_length
    start, tokens, _ = inspected(model, "ab" * room, schedules=())
    assert len(tokens) == start.scored_tokens == room
    assert start.tokens_left_out == room - 1
    start, tokens, _ = inspected(model, TEXT, prefix_tokens=4, max_tokens=9)
    assert (len(start.prefix), len(tokens)) == (4, 5)
    assert start.tokens_left_out == start.text_tokens - 9


def test_a_stop_ends_it_with_a_report_of_what_there_is(model):
    config = records.InspectionConfig((STATIC,), GRID)
    seen = []
    for event in inspect_text(model, TEXT, config, should_stop=lambda: len(seen) > 6):
        seen.append(event)
    end = seen[-1]
    assert end.reason == "stopped"
    assert end.num_tokens == len(seen) - 2 < len(TEXT) - 1
    assert end.report is not None
    (_, end) = list(inspect_text(model, TEXT, config, should_stop=lambda: True))
    assert isinstance(end, records.InspectionEnd)
    assert (end.num_tokens, end.rows, end.report) == (0, (), None)


FOUR_POLICIES = tuple(ScheduleConfig("policy", policy=name) for name in "abcd")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("  \n", {}, "the text is empty"),
        ("a", {}, "has 1 token for tiny"),
        ("abc", {"prefix_tokens": 3}, "of which the first 3 cannot be scored"),
        ("abc", {"generated": (4000,)}, "outside the vocabulary"),
        ("abc", {"schedules": (ScheduleConfig("dense"),)}, "dense row is always there"),
        ("abc", {"schedules": (STATIC, STATIC)}, "schedules must differ, got static, static"),
        ("abc", {"schedules": FOUR_POLICIES}, "at most 3 schedules"),
        ("abc", {"schedules": (ScheduleConfig("static", Budget(0.04)),)}, "outside the grid's"),
        ("abc", {"prefix_tokens": 5, "max_tokens": 5}, "above the 5 that are not scored"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_event(model, text, options, message):
    with pytest.raises(ConfigError, match=message):
        inspect_text(model, text, records.InspectionConfig(**({"schedules": (STATIC,)} | options)))


def token(index, kind, *rows):
    """A token from (action, nll, kl) of its rows."""
    made = tuple(
        records.InspectedRow(name, *row, 1.0 + index, StepCost())
        for name, row in zip(("dense", "static", "policy:p"), rows, strict=True)
    )
    return records.InspectedToken(index, index, f" {index}", kind, (), made, index + 1, 1.0, 1.0)


EVEN, LITTLE, MUCH = Action(0.5, 0.6, 8), Action(0.2, 0.5, 6), Action(0.9, 0.9, 12)
TOKENS = [
    token(0, "name", (DENSE, 3.0, 0.0), (EVEN, 4.0, 0.5), (MUCH, 3.2, 0.1)),
    token(1, "word start", (DENSE, 1.0, 0.0), (EVEN, 1.005, HARMLESS_KL), (MUCH, 1.0, 0.0)),
    token(2, "word start", (DENSE, 2.0, 0.0), (EVEN, 2.1, 0.2), (LITTLE, 3.9, HARMLESS_KL)),
    token(3, "name", (DENSE, 5.0, 0.0), (EVEN, 4.0, 0.3), (DENSE, 6.0, 0.4)),
]


def test_the_report_lists_what_its_words_say():
    report = difficulty(TOKENS)
    assert [place.index for place in report.least_confident] == [3, 0, 2, 1]
    static, policy = report.rows
    # Lost against dense, most first; not what was noise, lucky, or given everything.
    assert [(p.index, round(p.loss, 3)) for p in static.under_served] == [(0, 1.0)]
    assert [(p.index, round(p.loss, 3)) for p in policy.under_served] == [(2, 1.9)]
    # Another row, dense aside, spent less and stayed within HARMLESS_KL.
    (place,) = static.over_served
    assert (place.index, place.cheaper, place.cheaper_kl) == (2, "policy:p", HARMLESS_KL)
    assert place.cheaper_spend == pytest.approx(LITTLE.net_keep_rate)
    assert [(place.index, place.cheaper) for place in policy.over_served] == [(1, "static")]


def test_what_noise_may_hide_is_not_called_over_served():
    few = Action(0.2, 0.5, 5)
    noisy = token(0, "name", (DENSE, 3.0, 0.0), (few, 3.0, 0.0), (MUCH, 3.0, 0.0))
    assert difficulty([noisy]).rows[1].over_served == ()


def test_the_report_gives_spend_by_kind_and_what_it_goes_along_with():
    _, policy = difficulty(TOKENS).rows
    kinds = {kind.kind: kind for kind in policy.kinds}
    assert list(kinds) == ["word start", "name"]
    assert (kinds["name"].tokens, kinds["name"].share) == (2, 0.5)
    assert kinds["name"].keep == pytest.approx(0.95)
    assert kinds["name"].loss == pytest.approx(0.6)
    assert kinds["word start"].kl == pytest.approx(HARMLESS_KL / 2)
    # Spends rank 2.5, 2.5, 1, 4 (tokens 0 to 3), surprisals 3, 1, 2, 4.
    assert policy.correlation["keep"]["surprisal"] == pytest.approx(0.6325, abs=1e-3)


@pytest.mark.parametrize("schedules", [(), (RANDOM,)], ids=["dense", "random"])
def test_the_lens_finds_it(model, schedules):
    _, tokens, _ = inspected(model, schedules=schedules)
    config = records.InspectionConfig(schedules, GRID)
    run, token_id = run_of_text(model, TEXT, 30, config)
    view = Lens(model, run).look(30)
    assert (view.index, token_id) == (30, tokens[30].token_id)
    assert view.taken.action == tokens[30].rows[-1].action
    assert view.taken.nll == pytest.approx(tokens[30].rows[-1].nll, abs=1e-4)
    assert [len(rows) for rows in view.axes] == [10, 13, 12]
    for axis, rows in zip(AXIS_FIELDS, view.axes, strict=True):
        at = [row for row in rows if row.action == view.taken.action]
        assert [row.nll for row in at] == [view.taken.nll], axis
    assert all(len(trail.kl) == 16 for trail in view.trails)
    last = len(tokens) - 1
    run, _ = run_of_text(model, TEXT, last, config)
    assert Lens(model, run).look(last).trails[0].kl == ()
    with pytest.raises(ConfigError, match=f"token must be 0 to {last}, got {last + 1}"):
        run_of_text(model, TEXT, last + 1, config)


def test_a_policy_beside_static(model, tmp_path):
    folder = save_tiny_policy(model, tmp_path / "tiny")
    schedules = STATIC, ScheduleConfig("policy", BUDGET, policy="mine")
    config = records.InspectionConfig(schedules, load_policy(folder, model).info.grid)
    start, *tokens, end = inspect_text(model, TEXT, config, policies=lambda _: folder)
    assert isinstance(start, records.InspectionStart)
    assert isinstance(end, records.InspectionEnd)
    assert start.rows == ("dense", "static", "policy:mine")
    assert end.made_on["dtype"] == "float32"
    assert all(
        token.rows[2].policy for token in tokens if isinstance(token, records.InspectedToken)
    )
    _, static, learned = end.rows
    assert learned.cost.policy_bytes > 0 == static.cost.policy_bytes

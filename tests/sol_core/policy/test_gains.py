"""A policy schedules where it pays; elsewhere its rows are the static mix's and cost nothing."""

from dataclasses import replace
from unittest.mock import patch

import pytest

from sol_core.actions import GRIDS, Budget
from sol_core.budgets.row_schedules import ShareSchedule
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.decoding.batch_scheduling import UNKNOWN_READS, RowSchedules
from sol_core.errors import ConfigError, CorpusError, PolicyError
from sol_core.evaluation import gains as measuring
from sol_core.generation.engine import generate
from sol_core.policy.policy import load_policy, save_policy
from sol_core.policy.prices import GainTable
from sol_core.policy.scheduler import PolicyScheduler, schedule_by_policy
from sol_core.progress import WorkFinished, no_stop
from sol_core.training.config import TrainConfig
from tests.sol_core.policy.test_byte_prices import with_states
from tests.sol_core.policy.test_policy import observe
from tests.support.tiny_policies import change_config

TABLE = GainTable((64.0, 2000.0), (0.6, 0.8), ((0.2, -0.1), (-0.1, -0.2)))
SHARES = (0.85, 0.95)


def test_it_pays_at_the_nearest_context_and_on_both_sides_of_a_share():
    assert TABLE.pays(64, 0.6)
    assert TABLE.pays(300, 0.6), "nearer to 64 in ratio"
    assert TABLE.pays(1, 0.3), "as at the nearest place that was measured"
    assert not TABLE.pays(64, 0.7), "at one of its neighbours it loses"
    assert not TABLE.pays(64, 0.95)
    assert not TABLE.pays(400, 0.6)
    assert not TABLE.pays(9000, 0.6)


@pytest.mark.parametrize(
    "change",
    [
        {"contexts": (2000.0, 64.0)},
        {"shares": ()},
        {"shares": (0.0, 0.8)},
        {"recovered": ((0.1, 0.1),)},
        {"recovered": ((0.1, 0.1), (0.1, float("nan")))},
    ],
)
def test_a_damaged_table_is_refused(change):
    with pytest.raises(ConfigError):
        replace(TABLE, **change)


def actions(scheduler, model, contexts, steps=40):
    made = []
    for step in range(steps):
        seen = replace(observe(model, len(contexts), step), cached_tokens=contexts)
        made.append(list(scheduler.next_actions(seen)))
    return made


def test_rows_are_the_policys_where_it_pays_and_statics_elsewhere(model):
    policy, mixes = with_states(model)
    budgets = [Budget.share(share) for share in SHARES]
    policy.gains = GainTable((64.0, 7000.0), (0.5,), ((0.1,), (-0.1,)))
    both = schedule_by_policy(policy, budgets, mixes, (64, 7000))
    taken = actions(both.scheduler, model, (64, 7000))
    assert both.scheduler.reads() == [policy.reads, UNKNOWN_READS]
    assert both.left_at == {1: 7000.0}
    first, second = both.distributions()
    assert second is None
    alone = PolicyScheduler(policy, budgets[:1], mixes=mixes)
    static = ShareSchedule(budgets[1], policy.info.grid, mixes)
    for step, (by_policy, by_mix) in enumerate(taken):
        seen = replace(observe(model, 2, step), cached_tokens=(64, 7000))
        assert by_policy == alone.next_actions(seen.rows([0]))[0]
        assert by_mix == static(seen.rows([1]))
    assert first == alone.distributions()[0]


def test_only_measured_policies_at_shares_step_aside(model):
    policy, mixes = with_states(model)
    shares, axes = [Budget.share(0.9)], [Budget(0.5, 0.7, 8)]
    for gains, budgets, left in ((None, shares, []), (TABLE, axes, []), (TABLE, shares, [0])):
        policy.gains = gains
        made = schedule_by_policy(policy, budgets, mixes, [64])
        assert list(made.left_at) == left
        assert isinstance(made.scheduler, RowSchedules if left else PolicyScheduler)


def test_a_run_says_which_context_left_it_to_static(model):
    policy, _ = with_states(model, GRIDS["default"])
    schedule = ScheduleConfig("policy", Budget.share(0.9), policy="p")
    config = GenerationConfig(schedule, max_new_tokens=2, grid=policy.info.grid)
    for gain, left_at in ((-0.1, 64.0), (0.1, None)):
        policy.gains = GainTable((64.0,), (0.9,), ((gain,),))
        *_, finish = generate(model, "the sea", config, policies=lambda _: policy)
        assert finish.left_at == left_at


def test_gains_are_kept_with_the_policy(model, tmp_path):
    policy, _ = with_states(model)
    policy.gains = TABLE
    save_policy(policy, tmp_path / "p")
    assert load_policy(tmp_path / "p", model).gains == TABLE
    change_config(tmp_path / "p", gains={"contexts": [1.0]})
    with pytest.raises(PolicyError, match="prices cannot be read"):
        load_policy(tmp_path / "p", model)


@pytest.mark.usefixtures("one_thread")
def test_gains_are_lower_ends_by_context_and_share(model, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "SHARES", (0.1, 0.8, 0.9))
    monkeypatch.setattr(measuring, "WINDOWS", 2)
    policy, _ = with_states(model, GRIDS["default"])
    policy.gains = GainTable((1.0,), (0.5,), ((-1.0,),))  # is measured as one without
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n\n".join(f"A text of words about {number}. " * 12 for number in range(9)))
    monkeypatch.setattr(measuring, "CONTEXTS", (16, 40, 9999))
    *_, table = measuring.measure_gains(model, policy, tmp_path, str(corpus), 4, no_stop)
    assert (table.contexts, table.shares) == ((16.0, 40.0), (0.1, 0.8, 0.9))
    for row in table.recovered:
        assert row[0] == row[1], "no mix reaches the least share: as at the next one"
    assert any(gain != 0 for row in table.recovered for gain in row)


@pytest.mark.usefixtures("one_thread")
def test_what_was_trained_is_kept_where_gains_cannot_be_measured(model, tmp_path, caplog):
    policy, _ = with_states(model, GRIDS["default"])
    save_policy(policy, tmp_path / "p")
    done = WorkFinished({"folder": str(tmp_path / "p"), "summary": {}})
    config = TrainConfig(shares_from="papers")

    def refused(*_, **__):
        raise CorpusError("no network")

    with patch.object(measuring, "evaluate", refused):
        training = measuring.trained_with_gains(iter([done]), model, config, data_dir=tmp_path)
        assert list(training) == [done]
    assert load_policy(tmp_path / "p", model).gains is None
    assert "was not measured: no network" in caplog.text

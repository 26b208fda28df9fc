"""Policies in the decode loop: batches of schedulers, generation, scoring."""

import dataclasses

import pytest
import torch

from sol_core.actions import Action, ActionGrid, Budget
from sol_core.config import GenerationConfig, ScheduleConfig, SideRowConfig
from sol_core.decoding.batch_scheduling import UNKNOWN_READS, SplitScheduler, StepObservation
from sol_core.errors import ConfigError, PolicyError, ShapeError
from sol_core.events import PrefillEvent, TokenEvent
from sol_core.generation.engine import generate
from sol_core.generation.scoring import ScoreCase, score_case, score_text
from sol_core.models.signals import Observe
from sol_core.policy.policy import load_policy
from tests.support.tiny_policies import SERVED, save_tiny_policy

CHEAP, DEAR = Action(0.5, 0.5, 6), Action(1.0, 1.0, 16)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return save_tiny_policy(model, tmp_path_factory.mktemp("policies") / "tiny")


class Recording:
    """Gives one action to all its rows and keeps what it saw."""

    def __init__(self, action, observes=Observe.NOTHING):
        self.action, self.observes = action, observes
        self.seen = []

    def next_actions(self, observation):
        self.seen.append(observation)
        return [self.action] * observation.tokens.shape[0]

    def reads(self):
        return [UNKNOWN_READS] * self.seen[-1].tokens.shape[0]


def test_split_rows_get_their_own_actions_and_observations():
    first, second = Recording(CHEAP), Recording(DEAR, observes=Observe.CONCENTRATION)
    split = SplitScheduler([([0, 2], first), ([1], second)])
    assert split.observes
    seen = StepObservation(
        3, torch.tensor([7, 8, 9]), (1, 2, 3), hidden=torch.arange(6.0).reshape(3, 2)
    )
    assert split.next_actions(seen) == [CHEAP, DEAR, CHEAP]
    assert first.seen[0].tokens.tolist() == [7, 9]
    assert first.seen[0].cached_tokens == (1, 3)
    assert second.seen[0].hidden.tolist() == [[2.0, 3.0]]
    assert second.seen[0].mid_hidden is None
    for rows in ([0, 2], [0, 0], [1]):
        with pytest.raises(ShapeError, match="must cover rows"):
            SplitScheduler([(rows, Recording(CHEAP))])


def policy_config(folder, **changes):
    budget = Budget(0.5, 0.7, 8.0)
    options = {
        "schedule": ScheduleConfig("policy", budget, 0, str(folder)),
        "side_rows": (
            SideRowConfig("dense", ScheduleConfig("dense")),
            SideRowConfig("static", ScheduleConfig("static", budget)),
        ),
        "grid": SERVED,
        "max_new_tokens": 40,
        "ignore_end_of_text": True,
    }
    return GenerationConfig(**(options | changes))


def test_a_generation_under_a_policy_tells_what_it_thought_and_cost(model, folder):
    events = list(generate(model, "the sea was calm and the light", policy_config(folder)))
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert isinstance(events[0], PrefillEvent)
    assert len(tokens) == 40
    levels = SERVED.levels()
    for token in tokens:
        for axis, probabilities in enumerate(token.policy):
            assert sum(probabilities) == pytest.approx(1, abs=1e-4)
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            assert levels[axis][best] == token.action.as_tuple()[axis]
        assert token.cost.policy_flops > 0
        assert token.dense_cost.policy_flops == 0
    assert len({token.action for token in tokens}) > 1
    again = generate(model, "the sea was calm and the light", policy_config(folder))
    repeated = [event.action for event in again if isinstance(event, TokenEvent)]
    assert repeated == [token.action for token in tokens]


def test_policies_are_found_by_the_resolver(model, folder):
    asked = []

    def find(name):
        asked.append(name)
        return folder

    schedule = ScheduleConfig("policy", Budget(0.5, 0.7, 8.0), 0, "mine")
    config = policy_config(folder, schedule=schedule, max_new_tokens=1)
    list(generate(model, "the sea", config, policies=find))
    assert asked == ["mine"]
    with pytest.raises(PolicyError, match="another grid"):
        generate(model, "the sea", policy_config(folder, grid=ActionGrid(quant_site="mlp_input")))


def test_a_policy_schedule_and_its_name_belong_together():
    with pytest.raises(ConfigError, match="needs a policy's name"):
        ScheduleConfig("policy", Budget())
    with pytest.raises(ConfigError, match="needs a policy's name"):
        ScheduleConfig("static", Budget(), 0, "mine")


# With fewer bits, the last digit of a sum decides now and then which way a number is rounded. That
# token is off by a hundredth then, and those behind it read its key and value.
@pytest.mark.parametrize(("bits", "tolerance", "others"), [(16.0, 1e-4, 0), (9.0, 1e-3, 1)])
def test_scoring_under_a_policy_equals_scoring_the_actions_it_chose(
    model, folder, bits, tolerance, others
):
    ids = tuple((37 * n) % 251 for n in range(60))
    policy = load_policy(folder, model)
    schedule = ScheduleConfig("policy", Budget(0.5, 0.7, bits), policy="mine")
    config = GenerationConfig(schedule, grid=policy.info.grid)
    made = score_text(model, ids[:51], 31, config, lambda _: policy)
    assert len(set(made.actions)) > 1
    replayed = score_case(model, ScoreCase(ids, 30, (made.actions,)), policy.info.grid.mechanisms)
    apart = sorted(abs(a - b) for a, b in zip(made.nll, replayed[0], strict=True))
    assert apart[-1 - others] <= tolerance
    assert apart[-1] <= 1e-2
    other = dataclasses.replace(policy.info.grid, page_size=4)
    with pytest.raises(PolicyError, match="another grid"):
        score_text(model, ids, 31, dataclasses.replace(config, grid=other), lambda _: policy)

"""An evaluation whose budgets are shares of the bytes: what is read, matched, kept and refused."""

from dataclasses import replace

import pytest

from sol_core.actions import DENSE, GRIDS, Action, Budget
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError
from sol_core.evaluation.config import EvaluationConfig
from sol_core.evaluation.contenders import Contender
from sol_core.events import StepCost
from sol_core.models.signals import Observe
from tests.sol_core.evaluation_stand_ins import evaluate_contenders, random_texts

GRID = GRIDS["default"]
SHARES = (0.6, 0.8)
CONFIG = EvaluationConfig(
    budgets=tuple(map(Budget.share, SHARES)),
    baselines=("static", "random:2", "emc", "dac"), texts=24, context=90, steps=8,
    windows=2, seed=3,
)  # fmt: skip
TEXTS = random_texts(24, CONFIG.block_len)
OWN_BYTES = 1000
# All of the attention: what a random model's groups need is not what was measured of another's.
ACTIONS = {0.6: (Action(1.0, 0.2), Action(1.0, 0.4)), 0.8: (Action(1.0, 0.6), Action(1.0, 0.8))}

pytestmark = pytest.mark.usefixtures("one_thread")


def alternating(budgets, contexts):
    """Takes turns between two actions of a share, by the number of the step."""
    return _Turns([ACTIONS[budget.bytes_share or 0] for budget in budgets])


class _Turns:
    observes = Observe.CONCENTRATION

    def __init__(self, pairs):
        self._pairs = pairs

    def next_actions(self, observation):
        return [pair[observation.step % 2] for pair in self._pairs]

    def reads(self):
        return [StepReads(observed=True, policy=StepCost(policy_bytes=OWN_BYTES))] * len(
            self._pairs
        )


def _evaluate(model, config=CONFIG, partial=None):
    rival = Contender("mine", alternating, GRID, 16, "")
    *_, last = evaluate_contenders(model, [rival], config, TEXTS, partial=partial)
    return last.result | {"elapsed_s": 0}


@pytest.fixture(scope="module")
def result(model):
    return _evaluate(model)


@pytest.mark.parametrize("index", [0, 1])
def test_baselines_read_what_the_policy_read(result, index):
    budget = result["budgets"][index]
    assert budget["requested"] == {"share": SHARES[index], "bits": 16.0}
    methods = budget["methods"]
    names = {"mine", "dense", "static", "random_best", "emc", "dac"}
    assert set(methods) == names
    read = methods["mine"]["bytes_share"]
    for name, method in methods.items():
        if name != "dense":
            assert method["bytes_share"] == pytest.approx(read, abs=0.01), name
            assert method["matched"], name
        share = method["bytes_per_token"] / method["dense_bytes_per_token"]
        assert share == pytest.approx(method["bytes_share"], rel=1e-3)
    assert methods["dense"]["bytes_share"] == 1
    assert budget["adherence"]["gap"]["share"] == pytest.approx(read - SHARES[index], abs=1e-9)
    assert set(budget["paired"]) == set(methods) - {"mine"}


def test_own_bytes_and_page_scores_count(model, result):
    costs = CostModel.of(model.lm, GRID)
    for share, budget in zip(SHARES, result["budgets"], strict=True):
        read, whole = [], []
        for window in range(CONFIG.windows):
            for step in range(CONFIG.steps):
                cached = CONFIG.context + window * CONFIG.steps + step + 1
                action = ACTIONS[share][step % 2]
                cost = costs.decode_step(action, cached, StepReads(observed=True))
                read.append(cost.bytes_read + OWN_BYTES)
                whole.append(costs.decode_step(DENSE, cached).bytes_read)
        policy = budget["methods"]["mine"]
        assert policy["bytes_per_token"] == pytest.approx(sum(read) / len(read), rel=0.01)
        assert policy["dense_bytes_per_token"] == pytest.approx(sum(whole) / len(whole))


def test_a_stopped_evaluation_goes_on(model, result, tmp_path):
    _evaluate(model, partial=tmp_path)
    finished = sorted(tmp_path.glob("baselines-*"))
    for path in finished[len(finished) // 2 :]:
        path.unlink()
    assert _evaluate(model, partial=tmp_path) == result


def test_what_cannot_be_reached_is_refused_before_any_text(model):
    with pytest.raises(ConfigError, match=r"at least \d+ % of the full model's bytes"):
        _evaluate(model, replace(CONFIG, budgets=(Budget.share(0.05),)))

"""Tasks whose budgets are shares of the bytes: what every arm reads."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sol_core.accuracy.config import TasksConfig
from sol_core.accuracy.passes import SharePlan
from sol_core.accuracy.questions import Question
from sol_core.actions import GRIDS, Action, Budget
from sol_core.budgets.mixes import mix_table
from sol_core.decoding.batch_scheduling import PlannedRows, StepReads
from sol_core.errors import ConfigError
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measure_tables import measure_page_floors
from sol_core.events import StepCost
from sol_core.models.signals import Observe
from tests.sol_core.evaluation_stand_ins import run_questions
from tests.support.tiny_language_model import make_language_model

GRID = GRIDS["default"]
MIXES = mix_table(make_language_model(), GRID)
QUESTIONS = [
    Question((f"{'word ' * (20 + 3 * n)}the answer is",) * 2, (f" {n} or so", " no"), n % 2)
    for n in range(40)
]

pytestmark = pytest.mark.usefixtures("one_thread")


def constant(budgets, contexts):
    """The same action always; a policy of 500 bytes."""
    scheduler = PlannedRows([[Action(0.4, 0.7)]] * len(budgets))
    scheduler.observes = Observe.CONCENTRATION
    scheduler.reads = lambda: (
        [StepReads(observed=True, policy=StepCost(policy_bytes=500))] * len(budgets)
    )
    return scheduler


def _run(model, budgets):
    config = TasksConfig(("piqa",), 40, budgets)
    rival = Contender("mine", constant, GRID, 16, "")
    *_, last = run_questions(model, rival, config, {"piqa": QUESTIONS})
    return last.result


def test_static_reads_what_the_policy_read():
    model = make_language_model()
    texts = [model.encode(question.contexts[0])[:250] for question in QUESTIONS]
    model.lm.page_thresholds = measure_page_floors(model, texts)
    result = _run(model, (Budget.share(0.7),))
    (task,) = result["tasks"]
    (budget,) = task["budgets"]
    assert budget["requested"] == {"share": 0.7, "bits": 16.0}
    methods = budget["methods"]
    read = methods["policy"]["bytes_share"]
    assert methods["static"]["bytes_share"] == pytest.approx(read, abs=0.005)
    assert task["dense"]["bytes_share"] == 1
    with pytest.raises(ConfigError, match="at least"):
        _run(model, (Budget.share(0.05),))


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.lists(st.integers(1, 12), min_size=1, max_size=5)),
        min_size=1,
        max_size=30,
    ),
    st.floats(0.5, 1),
)
@example([(152, [10])], 0.5)  # the least share rises between two steps
def test_choices_share_their_mixes(questions, share):
    contexts, lengths = (list(part) for part in zip(*questions, strict=True))
    plan = SharePlan(Budget.share(share), GRID, MIXES, contexts, lengths)
    off, gaps = 0.0, [0.0]
    for number, (context, of_choices) in enumerate(zip(contexts, lengths, strict=True)):
        longest = plan.actions(number, max(of_choices) + 3)
        for steps in of_choices:
            assert plan.actions(number, steps) == longest[:steps]
        for step in range(max(of_choices)):
            low, high = MIXES.neighbours(share, context + step + 1)
            mix = low if longest[step] == low.action else high
            assert longest[step] == mix.action
            running = sum(steps > step for steps in of_choices)
            off += running * (mix.share - share)
            gaps.append(running * max(abs(low.share - share), abs(high.share - share)))
    reachable = all(
        MIXES.hull(context + step + 1)[0].share <= share
        for context, of_choices in zip(contexts, lengths, strict=True)
        for step in range(max(of_choices))
    )
    if reachable:
        assert abs(off) <= 2 * max(gaps) + 1e-9

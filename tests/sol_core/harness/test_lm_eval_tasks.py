"""Tasks of lm-eval by name: a tiny model, tiny tasks of a folder; skipped without that extra."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sol_core.actions import Budget
from sol_core.errors import ConfigError, CorpusError
from sol_core.harness.lm_eval_tasks import LmEvalConfig, open_lm_eval_tasks, run_lm_eval_tasks
from sol_core.progress import WorkFinished, WorkProgress, WorkStopped
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import save_tiny_policy

BUDGETS = (Budget(0.5, 0.7, 8), Budget(0.3, 0.5, 6))
QUESTIONS = 6
CHOICE = """
output_type: multiple_choice
doc_to_text: "Q: {{question}} A:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
"""
WRITTEN = """
output_type: generate_until
doc_to_text: "Q: {{question}} A:"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 3}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
WHOLE = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tasks on one file of questions; lm-eval's own, which take seconds to list, left out."""
    listed = pytest.importorskip("lm_eval.tasks")
    own_alone = partial(listed.TaskManager, include_defaults=False)
    monkeypatch.setattr(listed, "TaskManager", own_alone)
    made = tmp_path / "own"
    made.mkdir()
    words = ["the sky", "a stone", "snow", "fire", "a leaf", "the sea", "coal", "milk"]
    rows = [
        {"question": f"{word} is?", "choices": [" blue", " white", " red"], "answer": n % 3}
        for n, word in enumerate(words)
    ]
    data = tmp_path / "questions.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
    source += "test_split: test\n"
    for name, text in (("choice", CHOICE), ("written", WRITTEN), ("whole", WHOLE)):
        (made / f"{name}.yaml").write_text(f"task: tiny_{name}\n{source}{text}")
    (made / "gone.yaml").write_text(
        f"task: tiny_gone\n{source}{CHOICE}".replace(str(data), "gone.jsonl")
    )
    return made


@pytest.fixture
def opened(folder: Path) -> Callable[..., Any]:
    def open_tasks(*names: str) -> Any:
        return open_lm_eval_tasks(LmEvalConfig(names, QUESTIONS, BUDGETS, include_path=str(folder)))

    return open_tasks


def test_a_policy_is_compared_with_static_at_what_it_spent(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_language_model()
    policy = save_tiny_policy(model, tmp_path / "tiny")
    events = list(run_lm_eval_tasks(model, "tiny", policy, opened("tiny_choice", "tiny_written")))
    assert [event.message for event in events[:3] if isinstance(event, WorkProgress)] == [
        "tiny_choice: dense",
        "tiny_choice: policy",
        "tiny_choice: static",
    ]
    assert len(events) == 2 * (1 + 2 * len(BUDGETS)) + 1
    (result,) = [event.result for event in events if isinstance(event, WorkFinished)]
    assert (result["source"], result["policy"], result["limit"]) == ("lm-eval", "tiny", QUESTIONS)
    choice, written = result["tasks"]
    assert (choice["metric"], written["metric"]) == ("acc_norm", "exact_match")
    assert choice["chance"] == pytest.approx(1 / 3)
    assert written["chance"] == 0
    for task in (choice, written):
        assert task["questions"] == QUESTIONS
        assert task["dense"]["spend"] == {"keep": 1.0, "channels": 1.0, "bits": 16.0}
        for asked, budget in zip(BUDGETS, task["budgets"], strict=True):
            spent = budget["methods"]["policy"]["spend"]
            assert budget["requested"]["bits"] == asked.bit_width
            assert 0 <= budget["gain"]["mean"] + 1 <= 2
            # Six questions are few: static's mean is met over them as far as its levels go.
            assert budget["methods"]["static"]["spend"] == pytest.approx(spent, rel=0.1)
            assert budget["nll_gain"] is None
    assert result["summary"]["pairs"] == 4
    assert [one["questions"] for one in result["pooled"]][:1] == [2 * QUESTIONS]


def test_the_score_of_a_question_is_lm_evals_own(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    """Dense, against ``simple_evaluate`` with the adapter."""
    from lm_eval import simple_evaluate

    from sol_core.lm_eval_model import SolLM

    model = make_language_model()
    policy = save_tiny_policy(model, tmp_path / "tiny")
    tasks = opened("tiny_choice")
    *_, last = run_lm_eval_tasks(model, "tiny", policy, tasks)
    assert isinstance(last, WorkFinished)
    found = simple_evaluate(SolLM(model), tasks=list(tasks.tasks.values()), limit=QUESTIONS)
    mine = last.result["tasks"][0]["dense"]["accuracy"]["mean"]
    assert mine == pytest.approx(found["results"]["tiny_choice"]["acc_norm,none"])


def test_it_stops_between_two_runs(opened: Callable[..., Any], tmp_path: Path) -> None:
    model = make_language_model()
    policy = save_tiny_policy(model, tmp_path / "tiny")
    answers = iter([False, True])
    events = run_lm_eval_tasks(
        model, "tiny", policy, opened("tiny_choice"), should_stop=lambda: next(answers)
    )
    assert [type(event) for event in events] == [WorkProgress, WorkStopped]


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_run_is_refused_at_once(opened: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no task 'tiny_chocie'; near it: tiny_choice"):
        opened("tiny_choice", "tiny_chocie")
    with pytest.raises(ConfigError, match=r"no score of single questions .*word_perplexity"):
        opened("tiny_whole")
    with pytest.raises(CorpusError, match="lm-eval cannot load tiny_gone"):
        opened("tiny_gone")
    with pytest.raises(ConfigError, match="no task of lm-eval given"):
        LmEvalConfig(())
    with pytest.raises(ConfigError, match="is no folder"):
        LmEvalConfig(("a",), include_path="not-there")


def test_without_the_package_its_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("lm_eval"):
            raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"not installed: pip install 'lm-eval"):
        open_lm_eval_tasks(LmEvalConfig(("arc_easy",)))

"""What ships: measured files that the pages can draw, of the policy that ships beside them."""

from __future__ import annotations

from datetime import datetime

import pytest

from app.pages.lab.accuracy_view import accuracy_view
from app.results.figures import result_view
from app.results.shipped import SHIPPED, shipped_about, shipped_record
from sol_core.evaluation.config import REFERENCE_BUDGETS
from sol_core.files.places import SHIPPED_POLICY
from sol_core.policy.info import read_policy_info
from storage import TASKS_JOB


def test_the_shipped_evaluation_is_of_the_shipped_policy_and_whole() -> None:
    record = shipped_record("evaluate")
    result = record["result"]
    assert result["policy"] == "default"
    assert result["fingerprint"] == read_policy_info(SHIPPED_POLICY).fingerprint
    assert [tuple(one["requested"].values()) for one in result["budgets"]] == [
        budget.as_tuple() for budget in REFERENCE_BUDGETS
    ]
    view = result_view(result)
    assert view["figures"]["pareto"]["costs"] == ["bytes", "flops", "net"]
    line = view["headline"]["static"]
    assert line["budgets"] == 9
    assert (line["kl"]["better"], line["kl"]["surely"]) == (9, 8)  # as README says
    assert line["kl"]["recovered"] == pytest.approx(0.104, abs=0.001)
    for one in result["budgets"]:
        for method in one["methods"].values():
            assert method["kl_low"] <= method["kl"] <= method["kl_high"]


def test_the_shipped_accuracy_is_of_the_same_policy() -> None:
    evaluation, accuracy = (shipped_record(kind)["result"] for kind in ("evaluate", TASKS_JOB))
    assert accuracy["policy"] == "default"
    assert accuracy["fingerprint"] == evaluation["fingerprint"]
    view = accuracy_view(accuracy)
    assert [task["questions"] for task in view["tasks"]] == [50, 50]
    assert view["summary"]["pairs"] == 8


def test_it_says_when_where_and_how_it_was_measured() -> None:
    for kind, command in (("evaluate", "evaluate default"), (TASKS_JOB, "tasks default")):
        about = shipped_about(kind)
        assert set(about) == {"title", "made", "machine", "command"}
        assert datetime.fromisoformat(about["made"]).tzinfo is not None
        assert "AMD EPYC" in about["machine"]
        assert f"python launch.py {command}" in about["command"]
        assert about["title"] != SHIPPED

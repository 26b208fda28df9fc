"""The shipped policy on real questions: every baseline at the spend or the bytes it should have."""

from __future__ import annotations

from pathlib import Path

import pytest

from sol_core.actions import Budget
from sol_core.files.places import SHIPPED_POLICIES
from sol_core.models.loading import LanguageModel
from sol_core.progress import WorkFinished
from sol_core.tasks.config import TasksConfig
from sol_core.tasks.runner import run_tasks


@pytest.mark.model
def test_paper_reads_as_many_bytes_as_static(
    default_model: LanguageModel, model_data_dir: Path
) -> None:
    baselines = ("static", "paper")
    config = TasksConfig(("arc_easy", "lambada"), 2, (Budget(0.4, 0.65, 12),), 0, baselines)
    events = run_tasks(
        default_model, "default", SHIPPED_POLICIES["default"], config, data_dir=model_data_dir
    )
    *_, last = events
    assert isinstance(last, WorkFinished)
    arc_easy, lambada = last.result["tasks"]
    for task in (arc_easy, lambada):
        methods = task["budgets"][0]["methods"]
        static, paper = methods["static"], methods["paper"]
        assert paper["bytes_per_token"] == pytest.approx(static["bytes_per_token"], rel=0.01)
        assert static["bytes_per_token"] < 0.9 * task["dense"]["bytes_per_token"]
        assert paper["spend"]["channels"] < static["spend"]["channels"] - 0.1
    assert arc_easy["dense"]["answer_nll"] < 6
    assert lambada["budgets"][0]["margin_gain"] is None
    assert arc_easy["steps"] > lambada["questions"]
    assert lambada["steps"] > 2 * lambada["questions"]  # the last sentence is stepped too

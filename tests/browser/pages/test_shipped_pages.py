"""Evaluate, Accuracy and Policies before anybody measured here: what ships is on show."""

import pytest
from playwright.sync_api import expect

from storage import TASKS_JOB
from tests.browser.conftest import in_sight
from tests.support.job_samples import store_policy
from tests.support.tasks_samples import tasks_result

pytestmark = pytest.mark.browser


def test_a_measurement_from_the_form_to_its_figures(serve, visit, stand_in_policies):
    server = serve()
    store_policy(server.services.data_dir.policies, "mine")
    visitor = visit(server)
    visitor.tab("Accuracy")
    page = visitor.page.locator(".sol-accuracy")
    expect(page.locator(".sol-job")).to_contain_text("measured by the authors")
    page.get_by_label("Questions of each task").fill("1")
    page.get_by_role("button", name="Measure accuracy").click()
    expect(page.get_by_role("alert").last).to_contain_text("limit must be a whole number")
    page.get_by_label("Questions of each task").fill("20")
    page.get_by_role("checkbox", name="HellaSwag").uncheck()
    page.get_by_label("Baselines").fill("static, paper")
    page.get_by_role("button", name="Measure accuracy").click()
    expect(page.locator(".sol-job .sol-state")).to_have_text("Queued")
    jobs = server.services.store.jobs
    (record,) = jobs.list(kind=TASKS_JOB)
    assert "hellaswag" not in record.params["config"]["tasks"]
    assert record.params["config"]["baselines"] == ["static", "paper"]
    jobs.claim("w")
    jobs.finish(record.id, "w", "succeeded", tasks_result("mine"))
    expect(page.locator(".sol-job .sol-state")).to_have_text("Finished")
    expect(page.locator(".sol-figure")).to_have_count(5)  # three tasks, all questions, two tasks
    expect(in_sight(page.locator(".sol-figure").first).locator(".main-svg").first).to_be_visible()
    (row,) = page.get_by_role("rowgroup").filter(has_text="ARC easy + PIQA").all()
    expect(row).to_contain_text("+3.4")
    expect(page.get_by_role("columnheader", name="Static, paper's mechanisms")).to_be_attached()
    visitor.page.reload()
    expect(page.locator(".sol-job .sol-state")).to_have_text("Finished")
    assert "accuracy=" in visitor.page.url
    # From the list of all jobs it opens on its own page.
    visitor.tab("Train")
    visitor.page.locator(".sol-train .sol-jobs").get_by_role("link", name="mine").click()
    expect(page.locator(".sol-job .sol-state")).to_have_text("Finished")

"""Evaluate, Accuracy and Policies before anybody measured here: what ships is on show."""

from functools import partial

import pytest
from playwright.sync_api import expect

from app.results.shipped import shipped_record
from storage import TASKS_JOB
from tests.browser.axe import violations
from tests.browser.conftest import comes_to, in_sight
from tests.support.job_samples import finished_evaluation, store_policy
from tests.support.tasks_samples import tasks_result

pytestmark = pytest.mark.browser
HOSTILE = """---
tags: [<img src=x onerror=alert(1)>]
---
# <img src=x onerror=alert(2)> \ud800 \u202e

[go](javascript:alert(3)) [there](https://example.com/a) **bold** `x<b>`

- one
  and more

after"""


def test_evaluate_opens_with_what_ships_and_ones_own_takes_its_place(serve, visit):
    server = serve()
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Evaluate")
    job = page.locator(".sol-evaluate .sol-job")
    expect(job.locator(".sol-state")).to_have_text("Shipped")
    record = shipped_record("evaluate")
    expect(job).to_contain_text(f"On {record['machine']}, not on this one")
    expect(page.locator(".sol-evaluate .sol-results tbody tr")).to_have_count(9)
    figure = in_sight(page.locator(".sol-evaluate .sol-figure").filter(has_text="Pareto").first)
    expect(figure.locator(".errorbars").first).to_be_attached()
    title = "(plot) => plot.layout.xaxis.title.text"
    for cost, words in (("", "MB that a step reads"), ("flops", "MFLOPs of a step")):
        if cost:
            figure.get_by_label("Cost").select_option(cost)
        shown = figure.locator(".sol-plot")
        comes_to(partial(shown.evaluate, title), f"{words}, computed")
    assert list(violations(page)) == []

    finished_evaluation(server.services.store)
    page.reload()
    expect(job.locator(".sol-state")).to_have_text("Finished")
    page.locator(".sol-evaluate .sol-jobs").get_by_role("link", name="default").press("Enter")
    expect(job.locator(".sol-state")).to_have_text("Shipped")
    assert "evaluation=shipped" in page.url
    page.go_back()
    expect(job.locator(".sol-state")).to_have_text("Finished")


def test_a_card_is_drawn_and_a_hostile_one_stays_text(serve, visit, monkeypatch):
    visitor = visit(serve())
    visitor.tab("Policies")
    page = visitor.page.locator(".sol-policies")
    card = page.locator(".sol-model-card")
    expect(card.locator("li").first).to_contain_text("network: factored")
    expect(card.get_by_role("link", name="arXiv:2605.10875")).to_have_attribute(
        "href", "https://arxiv.org/abs/2605.10875"
    )
    evaluated = page.get_by_role("region", name="Evaluations").get_by_role("link")
    expect(evaluated).to_have_count(1)
    assert list(violations(visitor.page)) == []

    monkeypatch.setattr("app.pages.policies.handlers._card", lambda folder: HOSTILE)
    visitor.page.reload()
    expect(card.locator("h3")).to_contain_text("<img src=x onerror=alert(2)>")
    expect(card.locator("img")).to_have_count(0)
    expect(card.get_by_role("link")).to_have_count(1)  # not the one that would run a script
    expect(card).to_contain_text("[go](javascript:alert(3))")
    expect(card.locator("dd")).to_have_text("<img src=x onerror=alert(1)>")
    expect(card.locator("p").last).to_have_text("after")
    evaluated.click()
    expect(visitor.page.locator(".sol-evaluate .sol-job .sol-state")).to_have_text("Shipped")


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

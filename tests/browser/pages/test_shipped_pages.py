"""Evaluate, Accuracy and Policies before anybody measured here: what ships is on show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from app.results.shipped import shipped_record
from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor, comes_to, in_sight
from tests.support.job_samples import evaluation_result

pytestmark = pytest.mark.browser
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
OWNER = "c" * 32
HOSTILE = (
    """---
tags: [<img src=x onerror=alert(1)>]
---
# <img src=x onerror=alert(2)> \ud800 \u202e

[go](javascript:alert(3)) [there](https://example.com/a) **bold** `x<b>`

- one
  and more
- two

```json
"""
    + "{\n" * 20
    + "```\nafter"
)


def _pareto(page: Page) -> Locator:
    return page.locator(".sol-evaluate .sol-figure").filter(has_text="Pareto front").first


def _axis(figure: Locator, name: str) -> dict[str, Any]:
    expect(in_sight(figure).locator(".main-svg").first).to_be_visible()
    found: dict[str, Any] = figure.locator(".sol-plot").evaluate(
        "(plot, name) => ({ range: plot.layout[name].range, title: plot.layout[name].title.text })",
        name,
    )
    return found


def test_evaluate_opens_with_what_ships_and_ones_own_takes_its_place(
    serve: Serve, visit: Visit
) -> None:
    server = serve()
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Evaluate")
    job = page.locator(".sol-evaluate .sol-job")
    expect(job.locator(".sol-state")).to_have_text("Shipped")
    record = shipped_record("evaluate")
    expect(job).to_contain_text(f"On {record['machine']}, not on this one")
    expect(job).to_contain_text(record["command"])
    expect(page.locator(".sol-evaluate .sol-results tbody tr")).to_have_count(9)
    figure = _pareto(page)
    expect(in_sight(figure).locator(".errorbars").first).to_be_attached()
    assert _axis(figure, "xaxis")["title"] == "MB that a step reads, computed"
    figure.get_by_label("Cost").select_option("flops")
    comes_to(lambda: _axis(figure, "xaxis")["title"], "MFLOPs of a step, computed")
    assert list(violations(page)) == []
    with page.expect_download() as download:
        job.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "evaluation-default.csv"

    jobs = server.services.store.jobs
    mine = jobs.create("evaluate", OWNER, "mine", {"config": {}, "policies": ["mine"]})
    jobs.claim("w")
    jobs.finish(mine.id, "w", "succeeded", evaluation_result(("mine",)))
    page.reload()
    expect(job.locator(".sol-state")).to_have_text("Finished")
    page.locator(".sol-evaluate .sol-jobs").get_by_role("link", name="default").press("Enter")
    expect(job.locator(".sol-state")).to_have_text("Shipped")
    assert "evaluation=shipped" in page.url
    page.go_back()
    expect(job.locator(".sol-state")).to_have_text("Finished")


def test_one_budget_leaves_the_axis_whole(serve: Serve, visit: Visit) -> None:
    server = serve()
    result = evaluation_result(("mine",))
    del result["budgets"][1:]
    for name, method in result["budgets"][0]["methods"].items():
        method["bytes_per_token"] = 2e8 + len(name)  # apart by bytes
    del result["budgets"][0]["methods"]["dense"]
    jobs = server.services.store.jobs
    mine = jobs.create("evaluate", OWNER, "mine", {"config": {}, "policies": ["mine"]})
    jobs.claim("w")
    jobs.finish(mine.id, "w", "succeeded", result)
    visitor = visit(server)
    visitor.page.goto(f"{server.url}?evaluation={mine.id}")
    figure = _pareto(visitor.page)
    low, high = _axis(figure, "xaxis")["range"]
    assert low == pytest.approx(190, abs=1)
    assert high == pytest.approx(210, abs=1)


def test_accuracy_opens_with_what_ships(serve: Serve, visit: Visit) -> None:
    visitor = visit(serve(), color_scheme="dark")
    visitor.tab("Accuracy")
    page = visitor.page.locator(".sol-accuracy")
    expect(page.locator(".sol-job .sol-state")).to_have_text("Shipped")
    expect(page.locator(".sol-task-table tbody").first).to_contain_text("ARC easy")
    expect(in_sight(page.locator(".sol-figure").first).locator(".main-svg").first).to_be_visible()
    assert list(violations(visitor.page)) == []
    assert visitor.overflows(390, 1440) == []


def test_a_card_is_drawn_and_a_hostile_one_stays_text(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = visit(serve())
    visitor.tab("Policies")
    page = visitor.page.locator(".sol-policies")
    card = page.locator(".sol-model-card")
    expect(page.get_by_role("heading", name="default")).to_have_count(1)  # the page's own
    expect(card.locator("li").first).to_contain_text("network: factored")
    expect(card.get_by_role("link", name="arXiv:2605.10875")).to_have_attribute(
        "href", "https://arxiv.org/abs/2605.10875"
    )
    expect(card.get_by_text("JSON, 144 lines")).to_be_visible()
    expect(card.get_by_text('"labelled_texts"')).to_be_hidden()
    evaluated = page.get_by_role("region", name="Evaluations").get_by_role("link")
    expect(evaluated).to_have_count(1)
    assert list(violations(visitor.page)) == []

    monkeypatch.setattr("app.pages.policies.handlers._card", lambda folder: HOSTILE)
    visitor.page.reload()
    expect(card.locator("h3")).to_contain_text("<img src=x onerror=alert(2)>")
    expect(card.locator("img")).to_have_count(0)
    expect(card.get_by_role("link")).to_have_count(1)  # not the one that would run a script
    expect(card).to_contain_text("[go](javascript:alert(3))")
    expect(card.locator("li").first).to_have_text("one and more")
    expect(card.locator("dd")).to_have_text("<img src=x onerror=alert(1)>")
    expect(card.locator("details pre")).to_be_hidden()
    expect(card.locator("p").last).to_have_text("after")
    evaluated.click()
    expect(visitor.page.locator(".sol-evaluate .sol-job .sol-state")).to_have_text("Shipped")

"""The Evaluate page on a real database: the result is the test's, as a worker would save it."""

import pytest
from playwright.sync_api import expect

from tests.support.job_samples import store_policy

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("stand_in_policies")]


def open_page(visit, server, **options):
    visitor = visit(server, **options)
    visitor.tab("Evaluate")
    return visitor


def test_an_evaluation_is_started_from_the_form(serve, visit):
    server = serve()
    for name in ("first", "second"):
        store_policy(server.services.data_dir.policies, name)
    visitor = open_page(visit, server)
    page, start = visitor.page, visitor.page.get_by_role("button", name="Start evaluation")
    expect(page.locator(".sol-evaluate .sol-job")).to_contain_text("measured by the authors")
    form = page.locator(".sol-evaluate form").first
    form.get_by_role("checkbox", name="first").check()
    form.get_by_role("checkbox", name="second").check()
    form.get_by_label("Baselines").fill("static, random:10, emc")
    form.get_by_label("Texts", exact=True).fill("20")
    form.get_by_label("Budgets").fill("0.5,0.6")
    start.click()
    expect(form.locator("> .sol-message.is-bad")).to_contain_text("must be a number per axis")
    assert server.services.store.jobs.list() == []
    form.get_by_label("Budgets").fill("0.5,0.6,8; 0.3,0.5,7")
    form.get_by_label("Windows per text").fill("4")
    start.click()
    expect(page.locator(".sol-evaluate .sol-job .sol-state")).to_have_text("Queued")
    (record,) = server.services.store.jobs.list(kind="evaluate")
    assert set(record.params["policies"]) == {"first", "second"}
    config = record.params["config"]
    assert config["baselines"] == ["static", "random:10", "emc"]
    assert (len(config["budgets"]), config["texts"], config["windows"]) == (2, 20, 4)
    page.reload()
    expect(page.locator(".sol-evaluate .sol-job .sol-state")).to_have_text("Queued")

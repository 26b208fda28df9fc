"""The Evaluate page on a real database: the result is the test's, as a worker would save it."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import in_sight
from tests.support.job_samples import evaluation_result, finished_evaluation, store_policy

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("stand_in_policies")]
HOSTILE = "<img src=x onerror=alert(1)> ${7*7} %{x} {{1}}"
FIGURES = (
    "Pareto front", "Random schedules", "Budget adherence", "Spend over the steps",
    "Spend by kind of token", "Spend and difficulty",
)  # fmt: skip


def open_page(visit, server, **options):
    visitor = visit(server, **options)
    visitor.tab("Evaluate")
    return visitor


def panel(visitor, title):
    return visitor.page.locator(".sol-evaluate .sol-figure").filter(
        has=visitor.page.get_by_role("heading", name=title, exact=True)
    )


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


def test_a_result_is_rendered_whole(serve, visit, tmp_path):
    server = serve()
    result = evaluation_result(("mine", "other"))
    finished_evaluation(server.services.store, result)
    page = open_page(visit, server).page
    verdict = page.locator(".sol-evaluate .sol-job .sol-finding")
    expect(verdict).to_contain_text("of 9 budgets: policy mine against static, ")
    results = page.locator(".sol-results")
    rows = results.locator("tbody tr")
    expect(rows).to_have_count(9)
    gain = result["budgets"][0]["paired"]["static"]["gain"]
    expect(rows.first).to_contain_text("30 % attention · 45 % MLP · 6 bits")
    expect(rows.first.locator(".sol-gain")).to_contain_text(f"+{gain:.4f}")
    for row, said in ((rows.first, "good"), (rows.last, "open")):
        expect(row.locator(".sol-gain")).to_have_attribute("data-verdict", said)
    results.get_by_role("radio", name="KL to the full model").check(force=True)
    expect(rows.first).to_contain_text(f"{result['budgets'][0]['methods']['policy']['kl']:.4f}")
    results.get_by_role("radio", name="Random, best").check(force=True)
    expect(results.locator("thead")).to_contain_text("Random, best")
    expect(verdict).to_contain_text("policy mine against random, best")
    for form in ("json", "csv"):
        with page.expect_download() as download:
            page.get_by_role("button", name=form.upper(), exact=True).click()
        assert download.value.suggested_filename == f"evaluation-mine.{form}"
        download.value.save_as(tmp_path / form)
    assert json.loads((tmp_path / "json").read_text()) == result


def test_hostile_names_stay_text_in_every_figure(serve, visit):
    server = serve()
    result = evaluation_result(("mine", HOSTILE))
    result["policy"] = result["corpus"] = HOSTILE
    result["difficulty"]["kinds"][HOSTILE] = result["difficulty"]["kinds"].pop("name")
    finished_evaluation(server.services.store, result, title=HOSTILE)
    visitor = open_page(visit, server)
    page = visitor.page
    expect(page.locator(".sol-evaluate .sol-job-title")).to_have_text(HOSTILE)
    for title in FIGURES:
        figure = in_sight(panel(visitor, title))
        expect(figure.locator(".main-svg").first).to_be_visible()
        expect(figure.locator(".sol-empty-chart")).to_be_hidden()
    expect(panel(visitor, "Pareto front").get_by_role("button", name=HOSTILE)).to_be_visible()
    points = in_sight(panel(visitor, "Pareto front")).locator(".scatterlayer .point")
    for at in range(min(points.count(), 20)):
        points.nth(at).dispatch_event("pointerover")
    expect(page.locator(".sol-evaluate img")).to_have_count(0)

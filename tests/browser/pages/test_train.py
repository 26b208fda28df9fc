"""The Train page on a real database: jobs are written by the test, as a worker would."""

import re
import shutil

import pytest
from playwright.sync_api import expect

from sol_core.training.config import PRESETS
from tests.browser.conftest import free_port, in_sight
from tests.support.job_samples import metric_row, running_training

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("stand_in_policies")]


def jobs_of(server):
    return server.services.store.jobs


def state(visitor):
    return visitor.page.locator(".sol-train .sol-job .sol-state")


def tile_of(visitor, name):
    return visitor.page.locator(".sol-train .sol-tile").filter(has_text=name).locator("dd").first


def points(visitor, chart):
    panel = visitor.page.locator(".sol-train .sol-figure").filter(
        has=visitor.page.get_by_role("heading", name=chart)
    )
    return in_sight(panel).locator(".scatterlayer .trace .point")


def test_a_training_is_started_from_the_form_and_queued(serve, visit):
    server = serve()
    visitor = visit(server)
    page, room = visitor.page, visitor.page.locator(".sol-train")
    visitor.tab("Train")
    expect(page.get_by_text("Train a policy of your own")).to_be_visible()
    expect(page.get_by_text("About 39 minutes on two CPU cores")).to_be_visible()
    page.get_by_role("radio", name="Quick").check(force=True)
    room.locator("summary").click()
    updates, start = (
        room.get_by_label("Updates", exact=True),
        page.get_by_role("button", name="Start training"),
    )
    updates.fill("-3")
    start.click()
    expect(page.locator(".sol-train .sol-controls > .sol-message.is-bad")).to_contain_text("-3")
    updates.fill("7")
    expect(page.get_by_text("Changed from Quick: grpo.updates.")).to_be_visible()
    assert jobs_of(server).list() == []
    page.get_by_label("Name of the policy").fill("my-first")
    start.click()
    expect(state(visitor)).to_have_text("Queued")
    (record,) = jobs_of(server).list()
    assert (record.title, record.status) == ("my-first", "queued")
    assert record.params["config"]["grpo"]["updates"] == 7
    assert record.params["config"]["warm_start"] == PRESETS["quick"].to_dict()["warm_start"]
    assert f"train={record.id}" in page.url
    page.reload()
    expect(state(visitor)).to_have_text("Queued")
    # What was typed is there again, and so is the way back.
    room.locator("summary").click()
    expect(updates).to_have_value("7")
    page.get_by_role("button", name="Back to the preset").click()
    expect(updates).to_have_value(str(PRESETS["quick"].grpo.updates))


def test_live_reports_appear_and_a_restarted_server_loses_nothing(serve, visit):
    port = free_port()
    server = serve(port=port)
    job_id = running_training(server.services.store, reports=9)
    visitor = visit(server)
    visitor.tab("Train")
    expect(state(visitor)).to_have_text("Running")
    detail = visitor.page.locator(".sol-job .sol-detail")
    expect(detail).to_contain_text("about 5 min left")
    expect(points(visitor, "Speed")).to_have_count(9)
    expect(points(visitor, "Held-out KL to the full model")).to_have_count(6)  # and static's
    jobs_of(server).append_metrics(job_id, [metric_row(step) for step in range(9, 21)])
    jobs_of(server).heartbeat(job_id, "w", 0.5, "grpo", 240.0)
    expect(points(visitor, "Speed")).to_have_count(21)
    expect(tile_of(visitor, "KL, held out")).to_have_text("0.161")
    expect(tile_of(visitor, "Phase")).to_have_text("Rollouts (GRPO)")
    expect(detail).to_contain_text("50 %")
    server.close()
    expect(visitor.page.get_by_text("the training itself goes on", exact=False)).to_be_visible()
    expect(points(visitor, "Speed")).to_have_count(21)
    again = serve(port=port)
    jobs_of(again).append_metrics(job_id, [metric_row(21)])
    visitor.problems.clear()  # the browser reports the connections that the restart closed
    visitor.open()
    visitor.tab("Train")
    expect(points(visitor, "Speed")).to_have_count(22)
    visitor.problems.clear()


def test_a_training_that_begins_says_its_step_and_shows_no_empty_chart(serve, visit):
    server = serve()
    job_id = running_training(server.services.store, reports=0)
    jobs, begun = jobs_of(server), {"phase": "measuring", "elapsed_s": 4.0}
    jobs.heartbeat(job_id, "w", 0.0, "measuring", None)
    visitor = visit(server)
    visitor.tab("Train")
    detail = visitor.page.locator(".sol-train .sol-job .sol-detail")
    early = "Getting ready: measuring static on held-out text, to compare with"
    expect(detail).to_have_text(
        re.compile(rf"^{early} · .* so far · about 5\smin in all \(estimate\)$")
    )
    charts = visitor.page.locator(".sol-train .sol-figure").locator("visible=true")
    expect(charts).to_have_count(0)
    labels = [
        {"step": step, "phase": "labelling", "elapsed_s": 9.0, "metrics": {"decisions_per_s": 20.0}}
        for step in (2, 3)
    ]
    jobs.append_metrics(job_id, [begun | {"step": 1, "metrics": {}}, *labels])
    jobs.heartbeat(job_id, "w", 0.04, "labelling", 200.0)
    texts = PRESETS["quick"].warm_start.texts
    expect(detail).to_have_text(f"Labelling text 3 of {texts} · 4 % · about 3 min left (estimate)")
    expect(charts).to_have_count(1)
    jobs.set_log_file(job_id, "/var/log/job.log")
    log = visitor.page.get_by_text("/var/log/job.log")
    expect(log).to_be_attached()
    expect(log).to_be_hidden()
    visitor.page.locator(".sol-train .sol-job-facts").get_by_text("Details").click()
    expect(log).to_be_visible()
    visitor.page.wait_for_timeout(1500)  # a poll folds nothing
    expect(log).to_be_visible()


def test_pause_resume_and_cancel_reach_the_database(serve, visit):
    server = serve()
    job_id = running_training(server.services.store)
    jobs = jobs_of(server)
    visitor = visit(server)
    job = visitor.page.locator(".sol-train .sol-job")

    def press(name, word, within=job):
        within.get_by_role("button", name=name).click()
        expect(state(visitor)).to_have_text(word)

    visitor.tab("Train")
    press("Pause", "Pausing")
    assert jobs.get(job_id).control == "pause"
    jobs.finish(job_id, "w", "paused")
    expect(state(visitor)).to_have_text("Paused")
    press("Resume", "Queued")
    jobs.claim("w2")
    expect(state(visitor)).to_have_text("Running")
    jobs.heartbeat(job_id, "w2", 0.5, "grpo", 240.0)
    expect(job).to_contain_text("50 % · about 4 min left")
    press("Cancel", "Cancelling")
    assert jobs.get(job_id).control == "cancel"
    expect(job.locator(".sol-detail")).to_have_text(
        "Stops after the current text or update, usually within a minute"
    )
    jobs.finish(job_id, "w2", "cancelled")
    expect(state(visitor)).to_have_text("Cancelled")
    expect(job).to_contain_text(
        "It was cancelled before its first checkpoint, so Resume starts over."
    )
    kept = server.services.data_dir.jobs / job_id / "labels"
    kept.mkdir(parents=True)
    (kept / "00000.safetensors").touch()
    expect(job).to_contain_text("Resume takes it up again from its last checkpoint.")
    # A minute of work is not ended by a slip.
    press("Resume", "Queued")
    jobs.claim("w3")
    expect(state(visitor)).to_have_text("Running")
    visitor.page.evaluate("Date.now = ((now) => () => now() + 61000)(Date.now)")
    job.get_by_role("button", name="Cancel").click()
    dialog = visitor.page.get_by_role("dialog")
    expect(dialog).to_contain_text("You can resume from its last checkpoint.")
    dialog.get_by_role("button", name="Keep training").click()
    shutil.rmtree(kept.parent)
    assert jobs.get(job_id).control == "run"
    visitor.page.wait_for_timeout(1500)  # a poll
    job.get_by_role("button", name="Cancel").click()
    expect(dialog).to_contain_text("Nothing to resume yet")
    press("Cancel training", "Cancelling", dialog)
    jobs.finish(job_id, "w3", "cancelled")
    expect(job.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(points(visitor, "Speed")).to_have_count(20)

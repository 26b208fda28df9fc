"""The Train page on a real database: jobs are written by the test, as a worker would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from sol_core.training.config import PRESETS
from storage import JobStore
from tests.browser.conftest import Server, Visitor, free_port, in_sight
from tests.support.fake_engine import FakeEngine
from tests.support.job_samples import metric_row, store_policy, train_sample

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("stand_in_policies")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
OWNER = "c" * 32
HOSTILE = "<img src=x onerror=alert(1)> ${7*7} {{7*7}} `x` \u202eabc"


def jobs_of(server: Server) -> JobStore:
    return server.services.store.jobs


def running(server: Server, name: str = "mine", reports: int = 20, **params: Any) -> str:
    """A training that a worker is at, with reports and two samples."""
    jobs = jobs_of(server)
    record = jobs.create(
        "train",
        OWNER,
        name,
        {"config": PRESETS["quick"].to_dict(), "model": "fake-model", "name": name} | params,
    )
    jobs.claim("w")
    jobs.append_metrics(record.id, [metric_row(step) for step in range(reports)])
    jobs.set_sample(record.id, train_sample(4))
    jobs.set_sample(record.id, train_sample(8))
    jobs.heartbeat(record.id, "w", reports / 40, "grpo", 300.0)
    return record.id


def state(visitor: Visitor) -> Locator:
    return visitor.page.locator(".sol-train .sol-job .sol-state")


def tile_of(visitor: Visitor, name: str) -> Locator:
    return visitor.page.locator(".sol-train .sol-tile").filter(has_text=name).locator("dd").first


def points(visitor: Visitor, chart: str) -> Locator:
    panel = visitor.page.locator(".sol-train .sol-figure").filter(
        has=visitor.page.get_by_role("heading", name=chart)
    )
    return in_sight(panel).locator(".scatterlayer .trace .point")


def test_a_training_is_started_from_the_form_and_queued(serve: Serve, visit: Visit) -> None:
    server = serve()
    visitor = visit(server)
    page, room = visitor.page, visitor.page.locator(".sol-train")
    visitor.tab("Train")
    expect(page.get_by_text("Train a policy of your own")).to_be_visible()
    expect(page.get_by_text("About 19 minutes on two CPU cores")).to_be_visible()
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


def test_live_reports_appear_and_a_restarted_server_loses_nothing(
    serve: Serve, visit: Visit
) -> None:
    port = free_port()
    server = serve(port=port)
    job_id = running(server, reports=9)
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


def test_pause_resume_and_cancel_reach_the_database(serve: Serve, visit: Visit) -> None:
    server = serve()
    job_id = running(server)
    jobs = jobs_of(server)
    visitor = visit(server)
    job = visitor.page.locator(".sol-train .sol-job")

    def press(name: str, word: str, within: Locator = job) -> None:
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
    press("Cancel", "Cancelling")
    assert jobs.get(job_id).control == "cancel"
    jobs.finish(job_id, "w2", "cancelled")
    expect(state(visitor)).to_have_text("Cancelled")
    # A minute of work is not ended by a slip.
    press("Resume", "Queued")
    jobs.claim("w3")
    expect(state(visitor)).to_have_text("Running")
    visitor.page.evaluate("Date.now = ((now) => () => now() + 61000)(Date.now)")
    job.get_by_role("button", name="Cancel").click()
    dialog = visitor.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Go on").click()
    assert jobs.get(job_id).control == "run"
    job.get_by_role("button", name="Cancel").click()
    press("Cancel it", "Cancelling", dialog)
    jobs.finish(job_id, "w3", "cancelled")
    expect(job.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(points(visitor, "Speed")).to_have_count(20)


def test_a_failed_job_says_what_to_do_its_text_stays_text_and_its_settings_are_cloned(
    serve: Serve, visit: Visit
) -> None:
    server = serve()
    jobs = jobs_of(server)
    job_id = running(server, name=HOSTILE, config=PRESETS["quick"].to_dict() | {"seed": 77})
    words = [" <b>", "${7*7}", "\n", "`", " \u05d0\u05d1", "&amp;"]
    jobs.set_sample(job_id, train_sample(16, words) | {"context": HOSTILE})
    jobs.set_log_file(job_id, f"/logs/{HOSTILE}.log")
    jobs.finish(job_id, "w", "failed", None, f"{HOSTILE}\nsecond line {{{{1+1}}}}")
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Train")
    job = page.locator(".sol-train .sol-job")
    expect(job).to_contain_text("resume from the last checkpoint")
    expect(page.locator(".sol-job-title")).to_have_text(HOSTILE)
    expect(page.locator(".sol-job-error")).to_have_text(f"{HOSTILE}\nsecond line {{{{1+1}}}}")
    expect(page.locator(".sol-job-facts code")).to_contain_text("onerror")
    expect(page.locator(".sol-sample .sol-lead-text")).to_have_text(HOSTILE)
    expect(page.locator(".sol-sample .sol-lines .sol-token").first).to_contain_text("<b>")
    expect(page.locator(".sol-train img")).to_have_count(0)
    expect(page.locator(".sol-train .sol-jobs")).to_contain_text("${7*7} {{7*7}}")
    job.get_by_role("button", name="Clone settings").click()
    page.locator(".sol-train summary").click()
    expect(page.locator(".sol-train").get_by_label("Seed", exact=True)).to_have_value("77")


def test_a_corpus_is_uploaded_and_used(serve: Serve, visit: Visit, tmp_path: Path) -> None:
    text = tmp_path / "My <b>novel.txt"
    text.write_text("It was a dark and stormy night. " * 40_000)
    server = serve()
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Train")
    page.get_by_role("radio", name="Your file").check(force=True)
    page.get_by_label("File to upload").set_input_files(text)
    picked = page.get_by_label("Uploaded file")
    expect(picked).to_have_value("My_b_novel.txt")
    page.get_by_role("button", name="Start training").click()
    expect(state(visitor)).to_have_text("Queued")
    stored = Path(jobs_of(server).list()[0].params["config"]["corpus"])
    assert stored.read_text() == text.read_text()
    assert stored.parent == server.services.data_dir.corpora / "uploads"
    page.get_by_label("File to upload").set_input_files(
        {"name": "virus.exe", "mimeType": "text/plain", "buffer": b"x"}
    )
    expect(page.locator(".sol-corpus .sol-message")).to_contain_text("A corpus is a .txt")


def test_a_finished_policy_is_in_explore_at_once(serve: Serve, visit: Visit) -> None:
    server = serve(FakeEngine(step_s=0.001))
    job_id = running(server)
    visitor = visit(server)
    page = visitor.page
    explore = page.locator(".sol-explore")
    explore.get_by_role("radio", name="Policy").check(force=True)
    expect(explore.get_by_text("No policy is stored yet.")).to_be_visible()
    visitor.generate("hello")
    expect(explore.get_by_text("Choose a policy.")).to_be_visible()
    visitor.tab("Train")
    expect(state(visitor)).to_have_text("Running")
    store_policy(server.services.data_dir.policies, "mine")
    jobs_of(server).finish(job_id, "w", "succeeded", {"policy": "mine", "summary": {}})
    page.get_by_role("button", name="Use it in Explore").click()
    chosen = explore.get_by_label("Policy", exact=True).and_(page.locator("select"))
    expect(chosen).to_have_value("mine")


def _drawn(visitor: Visitor, title: str) -> dict[str, Any]:
    """The axes' ranges, and how many points each line has."""
    panel = visitor.page.locator(".sol-train .sol-figure").filter(has_text=title).first
    plot = in_sight(panel).locator(".sol-plot")
    expect(plot.locator(".main-svg").first).to_be_attached()
    found: dict[str, Any] = plot.evaluate(
        """({ layout, data }) => ({ x: layout.xaxis.range, y: layout.yaxis.range,
          lines: Object.fromEntries(data.map(({ meta, x }) => [meta, x.length])) })"""
    )
    return found


def test_axes_begin_at_nothing_and_stand_still(serve: Serve, visit: Visit) -> None:
    server = serve()
    job_id = running(server)
    visitor = visit(server)
    visitor.tab("Train")
    expect(points(visitor, "Speed")).to_have_count(20)
    titles = ("Held-out KL", "Speed", "NLL")
    before = [_drawn(visitor, title) for title in titles]
    assert all(one["x"] == [0, 5] for one in before)  # 19 reports are 4.4 minutes
    assert before[0]["y"] == before[2]["y"] == [0, 0.2]  # NLL is 0.16 above dense
    gap = _drawn(visitor, "Budget gap")["y"]
    assert gap[0] == -gap[1] <= -3
    # The loss of each phase is a line of its own.
    lines = {"loss labelling": 0, "loss warm start": 16, "loss grpo": 4, "reward": 4}
    assert _drawn(visitor, "Reward")["lines"] == lines
    jobs_of(server).append_metrics(job_id, [metric_row(20), metric_row(21)])
    expect(points(visitor, "Speed")).to_have_count(22)
    for title, was in zip(titles, before, strict=True):
        now = _drawn(visitor, title)
        assert (now["x"], now["y"]) == (was["x"], was["y"])

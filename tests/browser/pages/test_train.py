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
    page = visitor.page
    visitor.tab("Train")
    expect(page.get_by_text("Train a policy of your own")).to_be_visible()
    expect(page.locator(".sol-estimate dd").first).to_contain_text("min")
    page.get_by_role("radio", name="Quick").check(force=True)
    page.locator(".sol-train summary").click()
    page.locator(".sol-train").get_by_label("Updates", exact=True).fill("7")
    expect(page.get_by_text("Changed from Quick: grpo.updates.")).to_be_visible()
    page.get_by_label("Name of the policy").fill("my-first")
    page.get_by_role("button", name="Start training").click()
    expect(state(visitor)).to_have_text("Queued")
    (record,) = jobs_of(server).list()
    assert (record.title, record.status) == ("my-first", "queued")
    assert record.params["config"]["grpo"]["updates"] == 7
    assert record.params["config"]["warm_start"] == PRESETS["quick"].to_dict()["warm_start"]
    row = page.locator(".sol-train").get_by_role("listitem").filter(has_text="my-first")
    expect(row).to_contain_text("Queued")
    assert f"train={record.id}" in page.url
    page.reload()
    expect(state(visitor)).to_have_text("Queued")
    # What was typed is there again, and so is the way back.
    page.locator(".sol-train summary").click()
    expect(page.locator(".sol-train").get_by_label("Updates", exact=True)).to_have_value("7")
    page.get_by_role("button", name="Back to the preset").click()
    expect(page.locator(".sol-train").get_by_label("Updates", exact=True)).to_have_value(
        str(PRESETS["quick"].grpo.updates)
    )


def test_the_form_says_what_is_wrong_and_keeps_what_was_typed(serve: Serve, visit: Visit) -> None:
    server = serve()
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Train")
    page.locator(".sol-train summary").click()
    updates = page.locator(".sol-train").get_by_label("Updates", exact=True)
    updates.fill("-3")
    problem = page.locator(".sol-estimate .sol-message")
    expect(problem).to_have_text("grpo.updates must be a whole number from 0 to 10,000,000, got -3")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".sol-train .sol-controls > .sol-message.is-bad")).to_contain_text("-3")
    expect(updates).to_have_value("-3")
    updates.fill("3")
    expect(problem).to_be_hidden()
    page.get_by_label("Name of the policy").fill("../up")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("A policy's name has letters")).to_be_visible()
    assert jobs_of(server).list() == []


def test_live_reports_appear_and_a_reload_keeps_all(serve: Serve, visit: Visit) -> None:
    server = serve()
    job_id = running(server, reports=9)
    visitor = visit(server)
    visitor.tab("Train")
    expect(state(visitor)).to_have_text("Running")
    expect(visitor.page.locator(".sol-job .sol-detail")).to_contain_text("about 5 min left")
    expect(points(visitor, "Speed")).to_have_count(9)
    expect(points(visitor, "Held-out KL to the full model")).to_have_count(6)  # and static's
    expect(visitor.page.locator(".sol-figure").nth(4)).to_contain_text("first report that measures")
    jobs_of(server).append_metrics(job_id, [metric_row(step) for step in range(9, 21)])
    jobs_of(server).heartbeat(job_id, "w", 0.5, "grpo", 240.0)
    expect(points(visitor, "Speed")).to_have_count(21)
    expect(points(visitor, "Budget gap")).to_have_count(18)
    expect(tile_of(visitor, "KL, held out")).to_have_text("0.161")
    expect(tile_of(visitor, "Phase")).to_have_text("Rollouts (GRPO)")
    expect(visitor.page.locator(".sol-job .sol-detail")).to_contain_text("50 %")
    visitor.page.reload()
    visitor.tab("Train")
    expect(points(visitor, "Speed")).to_have_count(21)
    expect(tile_of(visitor, "KL, held out")).to_have_text("0.161")


def test_a_restarted_server_loses_nothing(serve: Serve, visit: Visit) -> None:
    port = free_port()
    server = serve(port=port)
    running(server, reports=12)
    visitor = visit(server)
    visitor.tab("Train")
    expect(points(visitor, "Speed")).to_have_count(12)
    server.close()
    expect(visitor.page.get_by_text("the training itself goes on", exact=False)).to_be_visible()
    expect(points(visitor, "Speed")).to_have_count(12)
    again = serve(port=port)
    jobs_of(again).append_metrics(jobs_of(again).list()[0].id, [metric_row(12)])
    visitor.problems.clear()  # the browser reports the connections that the restart closed
    visitor.open()
    visitor.tab("Train")
    expect(points(visitor, "Speed")).to_have_count(13)
    visitor.problems.clear()


def test_pause_resume_and_cancel_reach_the_database(serve: Serve, visit: Visit) -> None:
    server = serve()
    job_id = running(server)
    jobs = jobs_of(server)
    visitor = visit(server)
    job = visitor.page.locator(".sol-train .sol-job")
    visitor.tab("Train")
    job.get_by_role("button", name="Pause").click()
    expect(state(visitor)).to_have_text("Pausing")
    expect(job).to_contain_text("waiting for the text or update in work, then for a checkpoint")
    assert jobs.get(job_id).control == "pause"
    jobs.finish(job_id, "w", "paused")
    expect(state(visitor)).to_have_text("Paused")
    expect(job).to_contain_text("Resume puts it back in line")
    job.get_by_role("button", name="Resume").click()
    expect(state(visitor)).to_have_text("Queued")
    assert jobs.get(job_id).status == "queued"
    jobs.claim("w2")
    expect(state(visitor)).to_have_text("Running")
    job.get_by_role("button", name="Cancel").click()
    expect(state(visitor)).to_have_text("Cancelling")
    assert jobs.get(job_id).control == "cancel"
    jobs.finish(job_id, "w2", "cancelled")
    expect(state(visitor)).to_have_text("Cancelled")
    # A minute of work is not ended by a slip.
    job.get_by_role("button", name="Resume").click()
    expect(state(visitor)).to_have_text("Queued")
    jobs.claim("w3")
    expect(state(visitor)).to_have_text("Running")
    visitor.page.evaluate("Date.now = ((now) => () => now() + 61000)(Date.now)")
    job.get_by_role("button", name="Cancel").click()
    dialog = visitor.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Go on").click()
    assert jobs.get(job_id).control == "run"
    job.get_by_role("button", name="Cancel").click()
    dialog.get_by_role("button", name="Cancel it").click()
    expect(state(visitor)).to_have_text("Cancelling")
    jobs.finish(job_id, "w3", "cancelled")
    expect(state(visitor)).to_have_text("Cancelled")
    expect(job.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(points(visitor, "Speed")).to_have_count(20)


def test_the_sample_is_coloured_and_older_ones_can_be_seen(serve: Serve, visit: Visit) -> None:
    server = serve()
    job_id = running(server)
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Train")
    sample = page.locator(".sol-sample")
    tokens = sample.locator(".sol-lines .sol-token")
    expect(tokens).to_have_count(32)
    expect(sample).to_contain_text("Report 8: spent attention")
    first = tokens.first.evaluate(
        "(one) => [one.dataset.bin, one.style.getPropertyValue('--attention')]"
    )
    assert float(first[1]) == train_sample(8)["tokens"][0]["action"][0]
    sample.get_by_role("radio", name="KL").check(force=True)
    assert tokens.first.get_attribute("data-bin") != first[0]
    sample.get_by_role("button", name="Older sample").click()
    expect(sample).to_contain_text("Report 4: spent")
    # A newer one that comes meanwhile does not take the old one away.
    jobs_of(server).set_sample(job_id, train_sample(12))
    expect(sample).to_contain_text("Sample 1 of 3")
    expect(sample).to_contain_text("Report 4: spent")
    newer = sample.get_by_role("button", name="Newer sample")
    newer.click()
    expect(sample).to_contain_text("Report 8: spent")
    newer.click()
    expect(sample).to_contain_text("Report 12: spent")
    tokens.first.click()  # no lens looks into a sample
    tokens.nth(3).hover()
    expect(page.locator(".sol-train .sol-card")).to_contain_text("KL to the full model")


def test_hostile_text_stays_text(serve: Serve, visit: Visit) -> None:
    server = serve()
    jobs = jobs_of(server)
    job_id = running(server, name=HOSTILE)
    words = [" <b>", "${7*7}", "\n", "`", " \u05d0\u05d1", "&amp;"]
    jobs.set_sample(job_id, train_sample(16, words) | {"context": HOSTILE})
    jobs.set_log_file(job_id, f"/logs/{HOSTILE}.log")
    jobs.finish(job_id, "w", "failed", None, f"{HOSTILE}\nsecond line {{{{1+1}}}}")
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Train")
    expect(page.locator(".sol-job-title")).to_have_text(HOSTILE)
    expect(page.locator(".sol-job-error")).to_have_text(f"{HOSTILE}\nsecond line {{{{1+1}}}}")
    expect(page.locator(".sol-job-facts code")).to_contain_text("onerror")
    expect(page.locator(".sol-sample .sol-lead-text")).to_have_text(HOSTILE)
    expect(page.locator(".sol-sample .sol-lines .sol-token").first).to_contain_text("<b>")
    expect(page.locator(".sol-train img")).to_have_count(0)
    expect(page.locator(".sol-train .sol-jobs")).to_contain_text("${7*7} {{7*7}}")


def test_a_failed_job_says_what_to_do_and_its_settings_are_cloned(
    serve: Serve, visit: Visit
) -> None:
    server = serve()
    config = PRESETS["quick"].to_dict() | {"seed": 77}
    job_id = running(server, config=config)
    jobs_of(server).set_log_file(job_id, "/somewhere/logs/job.log")
    jobs_of(server).finish(job_id, "w", "failed", None, "the loss is not a number any more")
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Train")
    expect(page.locator(".sol-job-error")).to_have_text("the loss is not a number any more")
    job = page.locator(".sol-train .sol-job")
    expect(job).to_contain_text("resume from the last checkpoint")
    expect(job).to_contain_text("/somewhere/logs/job.log")
    job.get_by_role("button", name="Clone settings").click()
    page.locator(".sol-train summary").click()
    expect(page.locator(".sol-train").get_by_label("Seed", exact=True)).to_have_value("77")
    page.get_by_role("button", name="Start training").click()
    expect(state(visitor)).to_have_text("Queued")
    newest, failed = jobs_of(server).list()
    assert newest.params["config"] == failed.params["config"]


def test_the_list_is_filtered_and_asks_before_deleting(serve: Serve, visit: Visit) -> None:
    server = serve()
    jobs = jobs_of(server)
    done = running(server, name="done-one")
    jobs.finish(done, "w", "succeeded", {"policy": "done-one"})
    running(server, name="live-one")
    jobs.create("evaluate", OWNER, "measured", {"config": {}, "policies": []})
    visitor = visit(server)
    page = visitor.page
    visitor.tab("Train")
    rows = page.locator(".sol-train").get_by_role("listitem").filter(has=page.get_by_role("link"))
    expect(rows).to_have_count(3)

    def pill(name: str) -> Locator:
        filters = page.locator(".sol-train .sol-job-filters")
        return filters.locator("label").filter(has=page.get_by_text(name, exact=True))

    pill("Active").click()
    expect(rows).to_have_count(2)
    pill("Training").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("live-one")
    pill("Stopped").click()
    expect(page.get_by_text("No job of this kind and status.")).to_be_visible()
    pill("All").click()
    rows.filter(has_text="done-one").get_by_role("link").click()
    expect(state(visitor)).to_have_text("Finished")
    page.get_by_role("button", name="Delete: done-one").click()
    page.keyboard.press("Enter")  # the safe answer has the focus
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Delete: done-one").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(rows).to_have_count(1)
    expect(page.get_by_text("Train a policy of your own")).to_be_visible()


def test_a_corpus_is_uploaded_and_used(serve: Serve, visit: Visit, tmp_path: Path) -> None:
    text = tmp_path / "My <b>novel.txt"
    text.write_text("It was a dark and stormy night. " * 40_000)  # more than two pieces
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
    expect(explore.get_by_label("Policy", exact=True).and_(page.locator("select"))).to_have_value(
        "mine"
    )
    store_policy(server.services.data_dir.policies, "newer")
    visitor.tab("History")
    visitor.tab("Explore")
    expect(explore.locator("select option").filter(has_text="newer")).to_have_count(1)


def test_a_shared_server_refuses_with_a_reason(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/something")
    visitor = visit(serve())
    for tab, button in (("Train", "Start training"), ("Evaluate", "Start evaluation")):
        visitor.tab(tab)
        shown = visitor.page.locator(f".sol-{tab.lower()}")
        expect(shown.get_by_text("This is a shared server")).to_be_visible()
        expect(shown.get_by_role("button", name=button)).to_be_disabled()


def test_nothing_overflows_sideways(serve: Serve, visit: Visit) -> None:
    server = serve()
    job_id = running(server, name="a-very-long-name-" + "x" * 40)
    jobs_of(server).set_log_file(job_id, "/a/very/long/path/" + "y" * 120)
    jobs_of(server).finish(job_id, "w", "failed", None, "z" * 300)
    visitor = visit(server, viewport={"width": 360, "height": 900})
    visitor.tab("Train")
    expect(points(visitor, "Speed")).to_have_count(20)
    visitor.page.locator(".sol-train summary").click()
    assert visitor.overflows(360, 899, 1280, 2560) == []


def test_every_control_has_a_name_and_ids_are_unique(serve: Serve, visit: Visit) -> None:
    server = serve()
    running(server)
    visitor = visit(server)
    visitor.tab("Train")
    visitor.page.locator(".sol-train summary").click()
    visitor.tab("Evaluate")
    expect(visitor.page.get_by_role("button", name="Start evaluation")).to_be_visible()
    visitor.expect_names_and_single_ids(":is(.sol-train, .sol-evaluate)")

"""Damaged runs, jobs and policies: each list shows them beside the others and deletes them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from app.policies.library import SHIPPED_FOLDER
from tests.browser.conftest import Server, Visitor
from tests.support.fake_engine import FakeEngine

pytestmark = pytest.mark.browser
HUGE = b'{"seed": 1000000000000000000000000000000}'


def delete(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Delete: {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()


def test_what_is_damaged_is_shown_and_deleted(
    serve: Callable[..., Server], visit: Callable[..., Visitor]
) -> None:
    server = serve(FakeEngine(step_s=0.001))
    visitor = visit(server)
    page, store = visitor.page, server.services.store
    visitor.generate("A good run", max_new_tokens=5)
    visitor.expect_state("Finished")
    bad_run = store.runs.create("a" * 32, "A bad run", "m", "static", {})
    store.runs.finish(bad_run.id, "finished")
    job = store.jobs.create("train", "a" * 32, "A bad job", {}, worker="w")
    store.jobs.finish(job.id, "w", "failed")
    folder = server.services.data_dir.policies / "bad-policy"
    shutil.copytree(SHIPPED_FOLDER, folder)
    (folder / "config.json").write_text("{", "utf-8")
    with closing(sqlite3.connect(server.services.data_dir.database)) as database:
        database.execute("UPDATE runs SET config = ? WHERE id = ?", (HUGE, bad_run.id))
        database.execute("UPDATE jobs SET params = ? WHERE id = ?", (HUGE, job.id))
        database.commit()

    visitor.tab("History")
    rows = page.locator(".sol-history .sol-history-row")
    bad = rows.filter(has_text="A bad run")
    expect(bad).to_contain_text("Damaged")
    expect(bad.get_by_role("button")).to_have_text(["Delete"])
    expect(rows.filter(has_text="A good run")).to_contain_text("Finished")
    delete(page, "A bad run")
    expect(rows).to_have_count(1)

    visitor.tab("Train")
    jobs = page.locator(".sol-jobs:visible .sol-history-row")
    expect(jobs).to_contain_text("Damaged")
    expect(jobs.get_by_role("button", name="Clone settings")).to_be_hidden()
    delete(page, "A bad job")
    expect(jobs).to_have_count(0)

    visitor.tab("Policies")
    policies = page.locator(".sol-policies .sol-policy-row")
    bad = policies.filter(has_text="bad-policy")
    expect(bad).to_contain_text("Damaged")
    expect(bad).to_contain_text("cannot be read")
    delete(page, "bad-policy")
    expect(bad).to_have_count(0)
    expect(policies.filter(has_text="default")).to_have_count(1)
    assert not folder.exists()

"""axe over every kind of exported page, as its own file, in both themes and on a narrow screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from app.explore.handlers import HANDLERS as EXPLORE
from app.inspect.handlers import HANDLERS as INSPECT
from app.paths import DataDir
from app.services import Services, build_services, engine_generate
from app.sharing.handlers import EXPORT_HANDLERS
from tests.app.waiting import wait_until
from tests.browser.axe import violations
from tests.browser.exported import offline
from tests.tiny_language_model import make_language_model

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]
OWNER = "c" * 32
TEXT = "The keeper <b> of the light wrote: 12 boats came home. " * 3
RUN = {"max_new_tokens": 32, "ignore_end_of_text": True, "schedule": "random", "shadow": True}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    data_dir = DataDir(tmp_path_factory.mktemp("data"))
    data_dir.prepare()
    model = dataclasses.replace(make_language_model(), name="tiny")
    made = build_services(data_dir, "tiny", lambda report: model, engine_generate(data_dir))
    yield made
    made.close()


@pytest.fixture(scope="module")
def files(services: Services, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An exported page of every kind."""

    def ended(handlers: Any, name: str, **request: Any) -> str:
        made = handlers[name](services, {"owner": OWNER, **request})
        run_id = str(made["run_id"])
        wait_until(lambda: services.store.runs.get(run_id).status == "finished", 120)
        return run_id

    first = ended(EXPLORE, "start_run", prompt=TEXT, settings=RUN)
    second = ended(EXPLORE, "start_run", prompt=TEXT, settings=RUN | {"schedule": "static"})
    schedules = {"schedules": ["static", "random", "emc"], "max_tokens": 100}
    inspected = ended(INSPECT, "start_inspection", text=TEXT, settings=schedules)
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for kind, thing in (
        ("run", first),
        ("comparison", f"{first},{second}"),
        ("inspection", inspected),
        ("lens", f"{first}:5::8"),
    ):
        request = {"owner": OWNER, "kind": kind, "id": thing, "form": "html"}
        made[kind] = folder / f"{kind}.html"
        made[kind].write_text(EXPORT_HANDLERS["export_file"](services, request)["text"], "utf-8")
    return made


def open_everything(page: Page) -> None:
    """Axe sees only what is open: a selection, a card, the settings, the joint grid."""
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    page.locator(".sol-token[role=option]").nth(2).focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("kind", ["run", "inspection", "comparison", "lens"])
@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
    ],
    ids=["light", "dark and narrow"],
)
def test_axe_finds_nothing_on_an_exported_page(
    chromium: Browser, files: dict[str, Path], kind: str, options: Any
) -> None:
    page, problems = offline(chromium, files[kind], reduced_motion="reduce", **options)
    page.locator(".sol-token[role=option]").first.wait_for()
    found = list(violations(page))
    open_everything(page)
    found += violations(page)
    assert found == [], "\n".join(found)
    assert problems == []
    page.context.close()

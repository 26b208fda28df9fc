"""Charts of a training: axes that begin at nothing and stand still, phases apart, another run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from sol_core.training.config import PRESETS
from tests.browser.axe import violations
from tests.browser.conftest import Server, Visitor, in_sight
from tests.support.job_samples import metric_row, store_policy

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("stand_in_policies")]
Serve = Callable[..., Server]
Visit = Callable[..., Visitor]
OWNER = "c" * 32
HOSTILE = "<img src=x onerror=alert(1)> %{x} \u202eabc"


def _training(server: Server, name: str, rows: list[dict[str, Any]], status: str = "") -> str:
    jobs = server.services.store.jobs
    params = {"config": PRESETS["quick"].to_dict(), "model": "fake-model", "name": name}
    record = jobs.create("train", OWNER, name, params)
    jobs.claim("w")
    jobs.append_metrics(record.id, rows)
    if status:
        jobs.finish(record.id, "w", status)
    return record.id


def _reports(count: int) -> list[dict[str, Any]]:
    """Labels, then a training that goes well; measured before anything is learnt."""
    rows = [metric_row(step) for step in range(count)]
    for row in rows[:6]:
        row["phase"] = "labelling"
    return rows


def _chart(page: Page, title: str) -> Locator:
    return in_sight(page.locator(".sol-train .sol-figure").filter(has_text=title).first)


def _drawn(page: Page, title: str) -> dict[str, Any]:
    plot = _chart(page, title).locator(".sol-plot")
    expect(plot.locator(".main-svg").first).to_be_attached()
    found: dict[str, Any] = plot.evaluate(
        """(plot) => ({
          ranges: ['xaxis', 'yaxis', 'yaxis2'].map((name) => plot.layout[name]?.range ?? null),
          lines: plot.data.map(({ meta, x, y, opacity, hovertemplate }) =>
            ({ meta, points: x.length, last: y.at(-1), opacity, hovertemplate })),
        })"""
    )
    return found


def test_axes_begin_at_nothing_and_stand_still(serve: Serve, visit: Visit) -> None:
    server = serve()
    job_id = _training(server, "mine", _reports(20))
    visitor = visit(server, "")
    visitor.tab("Train")
    page = visitor.page
    expect(_chart(page, "Speed").locator(".point")).to_have_count(20)
    before = {title: _drawn(page, title)["ranges"] for title in ("Held-out KL", "Speed", "NLL")}
    for x, y, _ in before.values():
        assert x == [0, 5]  # 19 reports are 4.4 minutes
        assert y[0] == 0
    assert before["Held-out KL"][1] == [0, 0.2]
    assert before["NLL"][1] == [0, 0.2]  # 0.16 above dense, not 3.34
    gap = _drawn(page, "Budget gap")["ranges"][1]
    assert gap[0] == -gap[1] <= -3
    server.services.store.jobs.append_metrics(job_id, _reports(22)[20:])
    expect(_chart(page, "Speed").locator(".point")).to_have_count(22)
    for title, ranges in before.items():
        assert _drawn(page, title)["ranges"] == ranges
    assert list(violations(page)) == []


def test_static_is_there_to_beat_before_anything_is_learnt(serve: Serve, visit: Visit) -> None:
    server = serve()
    first = {"kl_static": 0.17, "nll_static": 3.325, "nll_dense": 3.18}
    rows = [{"step": 1, "phase": "measuring", "elapsed_s": 6.0, "metrics": first}]
    rows += [
        {"step": step, "phase": "labelling", "elapsed_s": 20.0 * step, "metrics": {"loss": 0.4}}
        for step in range(2, 8)
    ]
    _training(server, "mine", rows)
    visitor = visit(server)
    visitor.tab("Train")
    for title, value in (("Held-out KL", 0.17), ("NLL", 0.145)):
        static, policy = _drawn(visitor.page, title)["lines"]
        assert (static["points"], policy["points"]) == (2, 0)  # as measured, and up to now
        assert static["last"] == pytest.approx(value)
        expect(_chart(visitor.page, title).locator(".sol-empty-chart")).to_be_hidden()
    tile = visitor.page.locator(".sol-train .sol-tile").filter(has_text="KL, held out")
    expect(tile).to_contain_text("static 0.170")


def test_a_policy_that_is_surprised_less_than_dense_is_drawn_too(
    serve: Serve, visit: Visit
) -> None:
    server = serve()
    measured = {"nll": 2.5434, "nll_static": 2.545, "nll_dense": 2.5501}
    rows = [
        {"step": step, "phase": "grpo", "elapsed_s": 60.0 * step, "metrics": measured}
        for step in (1, 2)
    ]
    _training(server, "mine", rows)
    visitor = visit(server)
    visitor.tab("Train")
    low, high = _drawn(visitor.page, "NLL")["ranges"][1]
    assert low < 2.5434 - 2.5501 < 0 < high


# All at once, and only of a chart that is drawn for the width it has.
_NAMES_ARE_APART = """(chart) => {
  const box = (element) => element.getBoundingClientRect();
  const within = box(chart.querySelector(".sol-plot"));
  const drawn = box(chart.querySelector(".main-svg"));
  const plotted = box(chart.querySelector(".nsewdrag"));
  const names = [...chart.querySelectorAll(".shape-label text")].map(box);
  return Math.abs(drawn.width - within.width) < 2 && names.length === 3 && names.every(
    (name, at) => name.bottom <= plotted.top + 1 && names.slice(0, at).every(
      (other) => other.right <= name.left || Math.abs(other.top - name.top) >= 9));
}"""


def test_names_of_short_phases_neither_touch_nor_cover_the_data(serve: Serve, visit: Visit) -> None:
    server = serve()
    rows = _reports(40)
    for row in rows[14:17]:
        row["phase"] = "grpo"
    for row in rows[17:]:
        row["phase"] = "calibrating"
    _training(server, "mine", rows)
    visitor = visit(server)
    visitor.tab("Train")
    for width in (1440, 390):
        visitor.page.set_viewport_size({"width": width, "height": 900})
        speed = _chart(visitor.page, "Speed")
        names = speed.locator(".shape-label text")
        expect(names).to_have_text(["Warm start", "Rollouts (GRPO)", "Calibrating prices"])
        visitor.page.wait_for_function(_NAMES_ARE_APART, arg=speed.element_handle())


def test_the_loss_of_each_phase_is_a_line_of_its_own(serve: Serve, visit: Visit) -> None:
    server = serve()
    _training(server, "mine", _reports(30))
    visitor = visit(server)
    visitor.tab("Train")
    expect(_chart(visitor.page, "Speed").locator(".point")).to_have_count(30)
    lines = {one["meta"]: one["points"] for one in _drawn(visitor.page, "Reward")["lines"]}
    assert lines == {"loss labelling": 6, "loss warm start": 10, "loss grpo": 14, "reward": 14}


def test_the_tools_lie_above_the_data(serve: Serve, visit: Visit) -> None:
    server = serve()
    _training(server, "mine", _reports(20))
    visitor = visit(server)
    visitor.tab("Train")
    chart = _chart(visitor.page, "Speed")
    expect(chart.locator(".point")).to_have_count(20)
    chart.locator(".sol-plot").hover()
    tools = chart.locator(".modebar-container .modebar-btn").first
    expect(tools).to_be_visible()
    top = chart.locator(".sol-plot").evaluate(
        "(plot) => plot.getBoundingClientRect().top + plot._fullLayout._size.t"
    )
    box = tools.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= top + 1


def test_another_training_lies_behind(serve: Serve, visit: Visit) -> None:
    server = serve()
    _training(server, HOSTILE, _reports(40), "succeeded")
    _training(server, "mine", _reports(12))
    visitor = visit(server)
    visitor.tab("Train")
    page = visitor.page
    expect(_chart(page, "Speed").locator(".point")).to_have_count(12)
    choice = page.get_by_label("Compare with another training")
    choice.focus()
    page.keyboard.press("ArrowDown")
    expect(choice).not_to_have_value("")
    expect(_chart(page, "Speed").locator(".trace")).to_have_count(2)
    lines = _drawn(page, "Speed")["lines"]
    assert [one["points"] for one in lines] == [40, 12]
    assert lines[0]["opacity"] < 1
    assert "<img" not in lines[0]["hovertemplate"]
    assert _drawn(page, "Speed")["ranges"][0] == [0, 10]  # as long as the longer one
    choice.select_option("")
    expect(_chart(page, "Speed").locator(".trace")).to_have_count(1)


def test_a_name_in_use_is_said_as_it_is_typed(serve: Serve, visit: Visit) -> None:
    server = serve()
    store_policy(server.services.data_dir.policies, "mine")
    visitor = visit(server)
    visitor.tab("Train")
    page = visitor.page
    name = page.get_by_label("Name of the policy")
    expect(name).to_have_value("policy-1")
    name.fill("Mine")
    expect(page.get_by_text("The name Mine is in use. policy-1 is free.")).to_be_visible()
    expect(name).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Start training").click()
    expect(name).to_be_focused()
    assert server.services.store.jobs.list() == []
    name.fill("another")
    expect(page.get_by_text("is in use").locator("visible=true")).to_have_count(0)
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".sol-train .sol-job .sol-state")).to_have_text("Queued")

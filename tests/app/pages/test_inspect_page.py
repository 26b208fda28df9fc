"""What the Inspect page may ask of Python, over the real engine with a tiny model."""

import dataclasses

import pytest

from app.formats import cost_total
from app.host.paths import DataDir
from app.pages import explore
from app.pages.explore import HANDLERS as EXPLORE
from app.pages.history import HANDLERS as HISTORY
from app.pages.inspect import (
    DEFAULT_FORM,
    EXAMPLES,
    config_from_form,
    default_form,
    form_from_config,
)
from app.pages.inspect import HANDLERS as INSPECT
from app.web.services import build_services, engine_run
from sol_core.actions import ActionGrid
from sol_core.inspection.records import InspectedToken
from tests.app.page_calls import ANNA, BEN, caller
from tests.app.waiting import wait_until
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import no_policy

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "Two ships <b>went</b> ${7*7} out."
SETTINGS = {"schedules": ["static", "random", ""], "max_tokens": 200}


class Gate:
    """The real engine, held before the token ``hold_at`` until somebody lets it go on."""

    def __init__(self, data_dir):
        self.hold_at = None
        self.data_dir = data_dir
        self.engine = engine_run(data_dir)

    def __call__(self, model, text, config, should_stop):
        for event in self.engine(model, text, config, should_stop):
            yield event
            if isinstance(event, InspectedToken) and event.index == self.hold_at:
                wait_until(lambda: self.hold_at is None or should_stop())


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    return Gate(DataDir(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def services(gate):
    data_dir = gate.data_dir
    data_dir.prepare()
    model = make_language_model()
    made = build_services(data_dir, "tiny", lambda _: model, gate)
    yield made
    made.close()


@pytest.fixture
def call(services):
    # Both pages have a poll_run; a run of the other's is asked for as "explore_poll".
    explore = {"start_run": EXPLORE["start_run"], "explore_poll": EXPLORE["poll_run"]}
    return caller(services, explore, HISTORY, INSPECT)


def finish(call, services, **request):
    answer = call("start_inspection", **({"text": TEXT, "settings": SETTINGS} | request))
    assert "refused" not in answer, answer
    run_id = str(answer["run_id"])
    wait_until(lambda: services.store.runs.get(run_id).status == "finished", 90)
    return run_id


def test_an_inspection_is_kept_like_a_run(call, services):
    run_id = finish(call, services)
    live = call("poll_run", run_id=run_id, cursor=0)
    services.runs.forget(run_id)
    stored = call("poll_run", BEN, run_id=run_id, cursor=0)
    assert stored == live
    assert "".join(row["text"] for row in stored["rows"]) == TEXT[1:]
    assert [len(row["rows"]) for row in stored["rows"]] == [3] * (len(TEXT) - 1)
    record = services.store.runs.get(run_id)
    prefill = stored["prefill"] | {"page_texts": stored["pages"]}
    assert (prefill, stored["summary"]) == (record.prefill, record.summary)
    assert stored["pages"] == ["T"]
    assert (len(stored["prefill"]["prefix"]), stored["prefill"]["prefix_text"]) == (1, "T")
    assert stored["summary"]["reason"] == "finished"
    assert [row["name"] for row in stored["summary"]["report"]["rows"]] == ["static", "random"]
    assert stored["run"]["settings"] == DEFAULT_FORM | SETTINGS | {"grid": "default"}
    assert call("poll_run", run_id=run_id, cursor=len(TEXT) - 2)["rows"] == stored["rows"][-1:]


def test_a_saved_run_is_inspected_token_by_token(call, services):
    asked = {"max_new_tokens": 8, "ignore_end_of_text": True, "chat": True}
    made = str(call("start_run", prompt="Hi", settings=asked)["run_id"])
    wait_until(lambda: services.store.runs.get(made).status == "finished", 90)
    assert [run["id"] for run in call("saved_runs")["runs"]] == [made]
    run_id = finish(call, services, run_id=made)
    view = call("poll_run", run_id=run_id, cursor=0)
    generated = call("explore_poll", run_id=made, cursor=0)
    ids = [[row["token_id"] for row in one["rows"]] for one in (view, generated)]
    assert ids[0] == ids[1]
    assert len(view["prefill"]["prefix"]) == generated["prefill"]["prompt_tokens"]
    assert view["pages"] == generated["pages"]
    assert view["run"]["prompt"] == "Hi"
    # Neither page shows the other's runs.
    assert "run of the Inspect tab" in call("explore_poll", run_id=run_id, cursor=0)["refused"]
    assert "run of the Explore tab" in call("poll_run", run_id=made, cursor=0)["refused"]
    services.runs.forget(run_id)
    assert "run of the Inspect tab" in call("explore_poll", run_id=run_id, cursor=0)["refused"]


def test_a_painted_schedule_is_scored_beside_the_others_at_its_bytes(call, services):
    first = finish(call, services)
    rows = call("poll_run", run_id=first, cursor=0)["rows"]
    painted = [[1.0, 1.0, 16] if at % 2 else [0.2, 0.4, 6] for at in range(len(rows))]
    share = call("painted_compute", inspection_id=first, painted=painted)["share"]
    # Unchanged, it reads what the schedule did that it is painted over.
    actions = [list(row["rows"][1]["action"].values()) for row in rows]
    full, even = (
        sum(cost_total(row["rows"][at]["cost"], "bytes") for row in rows) for at in (0, 1)
    )
    opening = call("painted_compute", inspection_id=first, painted=actions)["share"]
    assert opening == pytest.approx(even / full, rel=1e-9)
    answer = call("inspect_painted", inspection_id=first, painted=painted)
    run_id = str(answer["run_id"])
    wait_until(lambda: services.store.runs.get(run_id).status == "finished", 90)
    view = call("poll_run", run_id=run_id, cursor=0)
    taken = [list(row["rows"][3]["action"].values()) for row in view["rows"]]
    assert [row["name"] for row in view["rows"][0]["rows"]][1:] == ["static", "random", "painted"]
    assert taken == painted
    totals = [row["cost"] for row in view["summary"]["rows"]]
    read = [sum(cost[part] for part in cost if part.endswith("_bytes")) for cost in totals]
    assert read[3] / read[0] == pytest.approx(share, rel=5e-3)
    assert read[1:3] == pytest.approx([read[3]] * 2, rel=0.03)
    assert view["run"]["settings"]["schedules"] == ["static", "random", ""]
    row = call("list_runs", query="ships", limit=10)["runs"][0]
    assert row["schedule_label"] == "Inspected: Full model, Static, Random, Painted"
    for wrong, message in (
        ([], "1 to 4,096 actions"),
        ([[0.5, "x", 8]], "channel_keep_ratio must be a finite number"),
        ([[0.5, 0.5, 8]], "Painted has 1 actions, and the inspection"),
    ):
        answer = call("inspect_painted", inspection_id=first, painted=wrong)
        assert message in answer["refused"]


def test_a_painting_that_reads_less_than_any_mix_is_scored_beside_the_lowest(call, services):
    first = finish(call, services, settings=SETTINGS | {"share": 90})
    rows = call("poll_run", run_id=first, cursor=0)["rows"]
    answer = call("inspect_painted", inspection_id=first, painted=[[0.05, 0.2, 16]] * len(rows))
    run_id = str(answer["run_id"])
    wait_until(lambda: services.store.runs.get(run_id).status == "finished", 90)
    names = [row["name"] for row in call("poll_run", run_id=run_id, cursor=0)["rows"][0]["rows"]]
    assert names == ["dense", "static", "random", "painted"]


def test_a_reload_finds_it_running_and_a_stop_keeps_what_there_is(call, services, gate):
    gate.hold_at = 5
    run_id = str(call("start_inspection", text=TEXT, settings=SETTINGS)["run_id"])
    wait_until(lambda: len(call("poll_run", run_id=run_id, cursor=0)["rows"]) == 6)
    assert call("home")["active"] == run_id
    assert call("home", BEN)["active"] is None
    assert services.runs.active(ANNA) is None  # Explore does not take it up
    assert "does not exist" in call("poll_run", BEN, run_id=run_id, cursor=0)["refused"]
    assert "Wait until" in call("look_at_token", run_id=run_id, index=1, row=1)["refused"]
    call("stop_run", run_id=run_id)
    gate.hold_at = None
    wait_until(lambda: services.store.runs.get(run_id).status == "stopped")
    view = call("poll_run", run_id=run_id, cursor=0)
    assert (len(view["rows"]), view["summary"]["reason"]) == (6, "stopped")
    assert view["summary"]["report"]["least_confident"]


def test_the_lens_looks_into_a_row(call, services):
    run_id = finish(call, services)
    token = call("poll_run", run_id=run_id, cursor=0)["rows"][9]
    for row in range(3):
        taken = call("look_at_token", run_id=run_id, index=9, row=row)["taken"]
        assert taken["action"] == token["rows"][row]["action"]
        assert taken["nll"] == pytest.approx(token["rows"][row]["nll"], abs=1e-3)
    assert "rows 0 to 2, got 3" in call("look_at_token", run_id=run_id, index=0, row=3)["refused"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"text": " \n "}, "The text is empty"),
        ({"text": "x" * 1_000_001}, "1,000,001 characters"),
        ({"run_id": "nowhere"}, "This run does not exist"),
        ({"settings": {"schedules": ["", "", ""]}}, "Choose at least one schedule"),
        ({"settings": {"schedules": ["static", "static"]}}, "Schedules must differ"),
        ({"settings": {"schedules": ["policy:nobody"]}}, "No policy 'nobody'"),
    ],
)
def test_bad_requests_are_refused_in_words(call, request_, message):
    answer = call("start_inspection", **({"text": TEXT, "settings": {}} | request_))
    assert message in answer["refused"]


@pytest.mark.model
def test_every_example_is_long_enough_for_a_verdict(default_model):
    tokenizer = default_model.tokenizer
    assert all(len(tokenizer.encode(example["prompt"])) > 200 for example in EXAMPLES)


def test_settings_and_configuration_are_each_others_inverse():
    settings = DEFAULT_FORM | {"schedules": ["policy:mine", "dac", ""], "keep": 35.5, "bits": 7.5}
    settings |= {"max_tokens": 77, "quant_site": "mlp_input", "episode_steps": 4}
    config = config_from_form(settings | {"grid": "paper"}, no_policy)
    assert form_from_config(config.to_dict()) == settings | {"grid": "paper"}
    own = dataclasses.replace(config, grid=ActionGrid(keep_fractions=(0.3, 0.5, 1.0)))
    assert form_from_config(own.to_dict())["grid"] == "policy"
    shipped = default_form("smollm2-135m-instruct")
    assert (shipped["schedules"], shipped["share"]) == (["static", "policy:default", ""], 70)
    assert default_form("tiny") == DEFAULT_FORM, "which the shipped policy does not fit"
    assert explore.default_form("smollm2-135m-instruct")["schedule"] == "policy:default"
    assert explore.default_form("tiny")["schedule"] == "static"

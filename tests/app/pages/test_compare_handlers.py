"""What the Compare page may ask, over the real engine with a tiny model and a tiny policy."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.host.limits import Limits
from app.host.paths import DataDir
from app.pages.compare import handlers
from app.pages.compare.handlers import BOARD_LENGTH, HANDLERS, MAX_NAME
from app.web.calls import server_functions
from app.web.services import Services, build_services, engine_generate
from sol_core.evaluation.arena import Arena, Passage
from sol_core.models.loading import LanguageModel
from tests.app.waiting import wait_until
from tests.support.fake_engine import FakeEngine, fake_load
from tests.support.tiny_language_model import make_language_model
from tests.support.tiny_policies import no_policy, save_tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")
ANNA, BEN = "a" * 32, "b" * 32
Call = Callable[..., dict[str, Any]]
TEXT = "The keeper of the light wrote down every ship that passed."
REQUEST = {"text": TEXT, "steps": 16, "policy": "tiny", "budget": [0.5, 0.6, 8]}
HOSTILE = "<img src=x onerror=alert(1)>\n\x00${7*7} \ud800"
SETTINGS = {"chat": False, "max_new_tokens": 12, "ignore_end_of_text": True}


def caller(services: Services) -> Call:
    functions = {f.__name__: f for f in server_functions(services, HANDLERS)}

    def invoke(handler: str, owner: str = ANNA, **request: Any) -> dict[str, Any]:
        return dict(json.loads(json.dumps(functions[handler]([{"owner": owner, **request}]))))

    return invoke


def begin(folder: Path, model: LanguageModel) -> Services:
    data_dir = DataDir(folder)
    data_dir.prepare()
    services = build_services(data_dir, model.name, lambda report: model, engine_generate(data_dir))
    wait_until(lambda: services.loader.loaded() is not None)
    return services


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return dataclasses.replace(make_language_model(), name="tiny")


@pytest.fixture
def services(tmp_path: Path, model: LanguageModel) -> Iterator[Services]:
    save_tiny_policy(model, DataDir(tmp_path).policies / "tiny")
    made = begin(tmp_path, model)
    yield made
    made.close()


@pytest.fixture
def call(services: Services) -> Call:
    return caller(services)


def by_name(view: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {score["name"]: score for score in view["scores"]}


# --- beat the policy ----------------------------------------------------------------------------


def test_a_challenge_is_set_up_once_and_read_from_the_database(
    call: Call, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = call("set_up_challenge", **REQUEST)
    assert [token["text"] for token in view["tokens"]] == list(TEXT[-16:])
    assert view["lead"] == TEXT[:-16]
    assert [len(levels) for levels in view["levels"]] == [10, 13, 12]
    scores = by_name(view)
    assert list(scores) == ["dense", "policy", "static", "random"]
    assert scores["dense"]["kl"] == 0
    limit = [sum(column) for column in zip(*view["plans"]["policy"], strict=True)]
    assert view["limit"] == pytest.approx(limit)
    for name in ("policy", "static", "random"):
        assert scores[name]["spend"] == pytest.approx([total / 16 for total in limit], rel=1e-4)
        assert scores[name]["kl"] == pytest.approx(math.fsum(scores[name]["kls"]) / 16, rel=1e-3)
    assert view["tokens"][3]["surprisal"] == scores["dense"]["nlls"][3]
    assert view["board"] == []

    monkeypatch.setattr(
        "sol_core.evaluation.arena.Arena.__init__", None
    )  # nothing is computed again
    assert call("set_up_challenge", BEN, **REQUEST) == view
    assert call("open_challenge", BEN, challenge=view["id"]) == view


def test_an_attempt_is_scored_beside_the_others_and_kept(call: Call, services: Services) -> None:
    view = call("set_up_challenge", **REQUEST)
    answer = call("score_attempt", challenge=view["id"], actions=view["plans"]["policy"], name="")
    scores = by_name(answer)
    assert scores["you"]["kls"] == scores["policy"]["kls"]
    assert scores["policy"]["kl"] == pytest.approx(by_name(view)["policy"]["kl"], abs=1e-5)
    (entry,) = answer["board"]
    assert (entry["id"], entry["wins"], entry["mine"]) == (answer["id"], False, True)
    assert entry["actions"] == view["plans"]["policy"]

    best = min(("static", "random"), key=lambda name: by_name(view)[name]["kl"])
    plan = by_name(view)[best]["actions"]
    answer = call("score_attempt", BEN, challenge=view["id"], actions=plan, name=HOSTILE)
    you = by_name(answer)["you"]
    assert you["kl"] == by_name(answer)[best]["kl"]
    entry = next(one for one in answer["board"] if one["id"] == answer["id"])
    assert entry["name"] == "<img src=x onerror=alert(1)> \x00${7*7} \ufffd"[:MAX_NAME]
    house = min(by_name(answer)[name]["kl"] for name in ("policy", "static"))
    assert entry["wins"] == (you["kl"] < house)
    assert [one["kl"] for one in answer["board"]] == sorted(one["kl"] for one in answer["board"])
    mine = {one["id"]: one["mine"] for one in call("open_challenge", challenge=view["id"])["board"]}
    assert sorted(mine.values()) == [False, True]


def test_the_dense_context_is_read_once_per_challenge(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Passage] = []
    begin_arena = Arena.__init__

    def counted(self: Arena, model: Any, passage: Passage, grid: Any) -> None:
        made.append(passage)
        begin_arena(self, model, passage, grid)

    monkeypatch.setattr(Arena, "__init__", counted)
    view = call("set_up_challenge", **REQUEST)
    for plan in view["plans"].values():
        call("score_attempt", challenge=view["id"], actions=plan, name="")
    assert len(made) == 1
    call("set_up_challenge", **REQUEST | {"text": TEXT + "!"})
    call("score_attempt", challenge=view["id"], actions=view["plans"]["static"], name="")
    assert len(made) == 3


def test_who_is_under_policy_and_static_of_the_same_batch_wins(
    call: Call, services: Services
) -> None:
    view = call("set_up_challenge", **REQUEST)
    own = by_name(view)["static"]["kl"]
    kept: list[tuple[float, dict[str, float], bool]] = [
        (0.1, {"policy": 0.5, "static": 0.3}, True),
        (0.3, {"policy": 0.5, "static": 0.3}, False),  # as good as static, to the last digit
        (0.4, {"policy": 0.5, "static": 0.3}, False),  # the policy alone is not enough
        (0.45, {"policy": 0.3, "static": 0.5}, False),
        (0.9 * own, {"policy": 2 * own}, True),  # of before static was kept: the challenge's own
        (1.1 * own, {"policy": 2 * own}, False),
    ]
    for kl, house, _ in kept:
        services.store.challenges.add_attempt(
            view["id"],
            BEN,
            name="",
            kl=kl,
            nll=3.0,
            schedule={"actions": [[kl]]},
            record={name: {"kl": value, "nll": 3.0} for name, value in house.items()},
        )
    board = call("open_challenge", challenge=view["id"])["board"]
    assert [one["wins"] for one in board] == [has_won for *_, has_won in sorted(kept, key=_kl_of)]


def _kl_of(kept: tuple[float, dict[str, float], bool]) -> float:
    return kept[0]


def test_nobody_wins_with_an_untouched_board_or_with_what_is_there_to_start_from(
    call: Call,
) -> None:
    view = call("set_up_challenge", **REQUEST)
    lowest = [[levels[0] for levels in view["levels"]]] * view["steps"]
    for plan in (lowest, *view["plans"].values()):
        board = call("score_attempt", challenge=view["id"], actions=plan, name="")["board"]
        assert [one["wins"] for one in board] == [False] * len(board)


def test_a_schedule_over_the_budget_is_refused_with_the_excess(call: Call) -> None:
    view = call("set_up_challenge", **REQUEST)
    plan = [list(action) for action in view["plans"]["policy"]]
    step = next(at for at, action in enumerate(plan) if action[0] < 1)
    plan[step][0] = round(plan[step][0] + 0.1, 1)
    refused = call("score_attempt", challenge=view["id"], actions=plan, name="")["refused"]
    assert "over the budget" in refused
    assert "keep_fraction by 0.1" in refused
    assert call("open_challenge", challenge=view["id"])["board"] == []


@pytest.mark.parametrize(
    "actions",
    [[], [[0.5, 0.6, 8]], [[0.5, 0.6, 8]] * 17, [[0.45, 0.6, 8]] * 16, [[0.1, 0.4, 5.5]] * 16,
     [[0.1, 0.4]] * 16, [["a", 0.4, 5]] * 16, [[float("nan"), 0.4, 5]] * 16, [3] * 16, "no"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(call: Call, actions: Any) -> None:
    view = call("set_up_challenge", **REQUEST)
    assert "refused" in call("score_attempt", challenge=view["id"], actions=actions, name="")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"text": ""}, "empty"),
        ({"text": "Too short."}, "Paste a longer text"),
        ({"text": "long " * 200}, "shorten|at most 512"),
        ({"steps": 15}, "16 to 64"),
        ({"steps": 65}, "16 to 64"),
        ({"policy": "none"}, "no policy 'none'"),
        ({"policy": "/etc"}, "no policy '/etc'"),
        ({"budget": [0.01, 0.6, 8]}, "outside the grid"),
        ({"budget": [0.5, 0.6]}, "a number per axis"),
    ],
)
def test_what_cannot_be_set_up_says_why(call: Call, changes: dict[str, Any], problem: str) -> None:
    assert any(
        part in call("set_up_challenge", **REQUEST | changes)["refused"]
        for part in problem.split("|")
    )


def test_the_scoreboard_survives_a_restart_and_another_model_is_refused(
    tmp_path: Path, model: LanguageModel
) -> None:
    save_tiny_policy(model, DataDir(tmp_path).policies / "tiny")
    services = begin(tmp_path, model)
    call = caller(services)
    view = call("set_up_challenge", **REQUEST)
    plan = view["plans"]["static"]
    board = call("score_attempt", challenge=view["id"], actions=plan, name="Ada")["board"]
    services.close()

    services = begin(tmp_path, dataclasses.replace(model, name="larger", fingerprint="1" * 32))
    call = caller(services)
    assert call("open_challenge", challenge=view["id"])["board"] == board
    refused = call("score_attempt", challenge=view["id"], actions=plan, name="")["refused"]
    assert "larger (float32) is loaded now" in refused
    assert "There is no challenge" in call("open_challenge", challenge="none")["refused"]
    services.close()


def test_attempts_are_deleted_by_who_may(call: Call, services: Services) -> None:
    view = call("set_up_challenge", **REQUEST)
    plan = view["plans"]["static"]
    made = call("score_attempt", challenge=view["id"], actions=plan, name="")["id"]
    shared = caller(dataclasses.replace(services, is_shared=True))
    assert not shared("open_challenge", BEN, challenge=view["id"])["board"][0]["can_delete"]
    assert "refused" in shared("delete_attempt", BEN, challenge=view["id"], id=made)
    assert call("open_challenge", BEN, challenge=view["id"])["board"][0]["can_delete"]
    assert call("delete_attempt", BEN, challenge=view["id"], id=made) == {"board": []}


# --- two runs -----------------------------------------------------------------------------------


def test_a_pair_is_aligned_and_scored_by_the_dense_model(call: Call, services: Services) -> None:
    a = SETTINGS | {"schedule": "static", "keep": 100, "channels": 100, "bits": 16}
    b = SETTINGS | {"schedule": "static", "keep": 20, "channels": 45, "bits": 6}
    first, second = call("start_pair", prompt="The keeper", a=a, b=b)["runs"]
    for run_id in (first, second):
        wait_until(lambda run_id=run_id: not services.runs.is_live(run_id))
    view = call("compare_runs", BEN, a=first, b=second)
    rows = [call("poll_run", run_id=run_id, cursor=0)["rows"] for run_id in (first, second)]
    for side, own in zip(view["sides"], rows, strict=True):
        shadow = [row["side"][0]["surprisal"] for row in own]  # a dense row with a cache of its own
        assert side["nll"] == pytest.approx(shadow, abs=1e-3)
        assert side["problem"] is None
    ids = [[row["token_id"] for row in own] for own in rows]
    parted = next((n for n, (x, y) in enumerate(zip(*ids, strict=True)) if x != y), None)
    assert view["same_prompt"]
    assert view["parted"] == parted
    assert view["stretches"][-1][2] == view["stretches"][-1][4] == 12

    same = call("compare_runs", a=first, b=first)
    assert (same["parted"], same["stretches"]) == (None, [[True, 0, 12, 0, 12]])


def test_runs_of_other_prompts_and_models_are_shown_without_alignment(
    call: Call, services: Services
) -> None:
    first, second = call("start_pair", prompt="The keeper", a=SETTINGS, b=SETTINGS)["runs"]
    wait_until(lambda: not services.runs.is_live(second))
    other = services.store.runs.create(ANNA, "Another", "larger", "dense", {})
    services.store.runs.append_events(other.id, services.store.runs.events(first)[:2])
    services.store.runs.finish(other.id, "finished")
    view = call("compare_runs", a=first, b=other.id)
    assert (view["same_prompt"], view["parted"], view["stretches"]) == (False, None, None)
    assert view["sides"][0]["problem"] is None
    assert "larger made this run" in view["sides"][1]["problem"]
    empty = services.store.runs.create(ANNA, "The keeper", "tiny", "dense", {"chat": False})
    services.store.runs.finish(empty.id, "stopped")
    view = call("compare_runs", a=first, b=empty.id)
    assert (view["same_prompt"], view["parted"]) == (True, 0)
    assert view["sides"][1] == {"nll": None, "problem": "Nothing was generated."}
    assert "does not exist" in call("compare_runs", a=first, b="none")["refused"]


def test_a_pair_that_cannot_begin_leaves_no_half(tmp_path: Path) -> None:
    engine = FakeEngine(pause_at=1)
    services = build_services(DataDir(tmp_path), "fake-model", fake_load, engine)
    call = caller(services)
    bad = call("start_pair", prompt="x", a=SETTINGS, b=SETTINGS | {"keep": 0})
    assert "refused" in bad
    assert services.runs.active(ANNA) is None
    for _ in range(Limits().runs_per_visitor - 1):
        services.runs.start(ANNA, "x", handlers.config_from_form(SETTINGS, no_policy))
    before = services.runs.active(ANNA)
    refused = call("start_pair", prompt="x", a=SETTINGS, b=SETTINGS)["refused"]
    assert refused.startswith("You already have 3 runs")
    wait_until(lambda: services.runs.active(ANNA) == before)
    refused = call("compare_runs", a=before, b=before)["refused"]
    assert "Wait until the run has ended" in refused
    engine.resume.set()
    services.close()


def test_the_scoreboard_has_an_end(call: Call, services: Services) -> None:
    view = call("set_up_challenge", **REQUEST)
    for number in range(BOARD_LENGTH + 2):
        services.store.challenges.add_attempt(
            view["id"],
            f"{number:032x}",
            name="",
            kl=number / 10,
            nll=1.0,
            schedule={"actions": []},
            record={"policy": {"kl": 1.0, "nll": 1.0}},
        )
    board = call("open_challenge", challenge=view["id"])["board"]
    assert [one["kl"] for one in board] == [number / 10 for number in range(BOARD_LENGTH)]

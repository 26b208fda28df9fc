"""Forks through the pages' calls: what is asked of the engine, and who may."""

import dataclasses

import pytest

from app.pages.explore import HANDLERS
from app.web.services import build_services
from tests.app.page_calls import BEN, caller
from tests.app.waiting import wait_until
from tests.support.fake_engine import FakeEngine, fake_load


@pytest.fixture
def services(data_dir, request):
    """Of a server whose environment is the parameter, where there is one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOL_LIMITS", "new_tokens=40")
        for name, value in getattr(request, "param", {}).items():
            patch.setenv(name, value)
        made = build_services(data_dir, "fake-model", fake_load, FakeEngine())
    yield made
    made.close()


@pytest.fixture
def call(services):
    return caller(services, HANDLERS)


def ended(services, run_id):
    """The run, once it is in the database alone, as after a restart."""
    listed = services.store.runs.list
    wait_until(lambda: run_id in [run.id for run in listed() if run.status == "finished"])
    services.runs.forget(run_id)
    return run_id


def begun(services, call):
    settings = {"max_new_tokens": 12, "schedule": "static", "chat": False}
    return ended(services, call("start_run", prompt="A sea", settings=settings)["run_id"])


def forked(services, call, of, index, token):
    answer = call("fork_run", run_id=of, index=index, token_id=token)
    return ended(services, answer["run_id"])


def test_a_fork_is_its_parent_with_one_token_exchanged(services, call):
    parent = begun(services, call)
    child = forked(services, call, parent, 4, 999)
    store = services.store.runs
    before, after = store.get(parent), store.get(child)
    assert (after.parent, before.parent) == (parent, None)
    assert (after.prompt, after.owner) == (before.prompt, before.owner)
    changed = {name for name in after.config if after.config[name] != before.config[name]}
    assert changed == {"given", "max_new_tokens"}
    assert after.config["given"] == [100, 101, 102, 103, 999]
    assert after.config["max_new_tokens"] == 5 + 12
    ids = [event["token_id"] for event in store.events(child)]
    assert ids[:6] == [100, 101, 102, 103, 999, 105]
    # A fork of a fork: again as many tokens as were asked for at first.
    grandchild = store.get(forked(services, call, child, 6, 998))
    assert grandchild.config["given"] == [*ids[:6], 998]
    assert grandchild.config["max_new_tokens"] == 7 + 12


@pytest.mark.parametrize(
    ("index", "token", "says"),
    [
        (12, 7, "12 tokens, and none of number 13"),
        (4, 104, "went on from this token itself"),
        (4, -7, "given"),
        (4, 2**40, "given"),
    ],
)
def test_what_cannot_be_put_in_is_refused(services, call, index, token, says):
    parent = begun(services, call)
    answer = call("fork_run", run_id=parent, index=index, token_id=token)
    assert says in answer["refused"]
    assert [run.id for run in services.store.runs.list()] == [parent]


def test_the_limit_of_tokens_holds_for_forks(services, call):
    run = begun(services, call)
    for place in (10, 21, 32):
        run = forked(services, call, run, place, 900 + place)
    assert services.store.runs.get(run).config["max_new_tokens"] == 40
    assert "at most 40 tokens" in call("fork_run", run_id=run, index=39, token_id=7)["refused"]


def test_another_models_run_is_not_forked(services, call, monkeypatch):
    parent, status, answers = begun(services, call), services.loader.status(), []
    for name in ("/of/a/file/fake-model.gguf", "other-model"):
        named = dataclasses.replace(status, name=name)
        monkeypatch.setattr(services.loader, "status", lambda named=named: named)
        answers.append(call("fork_run", run_id=parent, index=4, token_id=7))
    assert "run_id" in answers[0]
    assert "fake-model made this run, other-model is loaded" in answers[1]["refused"]


@pytest.mark.parametrize(
    ("services", "shared"),
    [
        ({"SOL_PUBLIC": "1", "SOL_LIMITS": "new_tokens=40,share_runs=1"}, True),
        ({"SOL_PUBLIC": "1"}, False),
    ],
    indirect=["services"],
)
def test_who_has_the_link_may_fork_where_links_are_shared(services, call, shared):
    root = begun(services, call)
    answer = call("fork_run", BEN, run_id=root, index=2, token_id=901)
    assert ("does not exist" in answer.get("refused", "")) is not shared
    if shared:
        bens = ended(services, answer["run_id"])
        assert services.store.runs.get(bens).owner == BEN
        assert call("poll_run", BEN, run_id=bens, cursor=0)["run"]["parent"] == root

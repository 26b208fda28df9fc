"""A public server over real HTTP: visitors kept apart, nobody hogs it, the disk does not fill."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.host.limits import Limits
from app.pages.shared import job_calls, run_calls
from app.runs import generation_runs
from app.runs.storage_cap import StorageCap, fair_choice
from app.sharing.kinds import align_tokens
from sol_core.errors import ConfigError
from sol_core.files.paths import SHIPPED_POLICY
from storage import TASKS_JOB, StoredSize
from tests.app.page_calls import ANNA, BEN
from tests.app.restored_runs import restored_run
from tests.app.waiting import wait_until
from tests.load.page_client import PageClient
from tests.support.job_samples import evaluation_result, finished_job

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_nobody_reads_stops_deletes_or_exports_another_visitors_run(serve):
    server = serve()
    anna, ben = server.visitor(ANNA), server.visitor(BEN)
    run_id, other = anna.start("My secret words"), anna.start("More secrets")
    for one in (run_id, other):
        anna.wait(one)
        wait_until(lambda one=one: server.services.store.runs.get(one).status == "finished")
    mine = ben.start("Mine")
    ben.wait(mine)
    wait_until(lambda: server.services.store.runs.get(mine).status == "finished")
    for is_kept in (True, False):
        if not is_kept:
            server.services.runs.forget(run_id)
        asked = [
            ("explore", "poll_run", {"run_id": run_id, "cursor": 0}),
            ("explore", "look_at_token", {"run_id": run_id, "index": 0}),
            ("history", "delete_run", {"run_id": run_id}),
            ("explore", "compare_runs", {"a": mine, "b": run_id}),
            ("inspect", "start_inspection", {"run_id": run_id, "settings": {}}),
        ]
        asked += [
            ("explore", "export_file", {"kind": kind, "id": thing, "form": form})
            for form in ("json", "csv", "html")
            for kind, thing in (
                ("run", run_id),
                ("comparison", f"{mine},{run_id}"),
                ("comparison", f"{run_id},{other}"),
                ("lens", f"{run_id}:0::"),
            )
        ]
        for tab, name, request in asked:
            answer = ben.call(tab, name, **request)
            assert "refused" in answer, (name, request)
            assert "secret" not in json.dumps(answer)
    assert [run["id"] for run in ben.call("history", "list_runs", query="", limit=99)["runs"]] == [
        mine
    ]
    assert [run["id"] for run in ben.call("inspect", "saved_runs")["runs"]] == [mine]
    assert anna.call("explore", "export_file", kind="run", id=run_id, form="json")["text"]
    assert anna.poll(run_id)["run"]["prompt"] == "My secret words"


def test_hogs_are_refused_in_words(serve):
    limits = "runs_per_visitor=2,runs_per_address=3,new_tokens=500,characters=100"
    server = serve(step_s=0.05, SOL_LIMITS=limits)
    anna, ben = server.visitor(ANNA), server.visitor(BEN)
    settings = {"max_new_tokens": 500}
    runs = [anna.start("long", **settings) for _ in range(2)]
    again = anna.call("explore", "start_run", prompt="long", settings=settings)["refused"]
    assert "You already have 2 runs running or waiting, the most that are allowed" in again
    his = ben.start("long", **settings)
    stranger = server.visitor("c" * 32).call("explore", "start_run", prompt="x", settings=settings)
    assert "Your network already has 3 runs" in stranger["refused"]
    more = ben.call("explore", "start_run", prompt="x", settings={"max_new_tokens": 501})
    assert "at most 500 tokens, 501 were asked for" in more["refused"]
    longer = ben.call("explore", "start_run", prompt="x" * 101, settings=settings)
    assert "101 characters; at most 100 are read" in longer["refused"]
    for visitor, run_id in ((anna, runs[0]), (anna, runs[1]), (ben, his)):
        visitor.call("explore", "stop_run", run_id=run_id)


@pytest.mark.parametrize(
    ("variables", "believed"),
    [
        ({"FORWARDED_ALLOW_IPS": ""}, False),
        ({"FORWARDED_ALLOW_IPS": "127.0.0.1"}, True),
        ({"FORWARDED_ALLOW_IPS": "", "SPACE_ID": "a/b"}, True),  # behind the Space's proxy
    ],
)
def test_forwarded_addresses_are_those_of_named_proxies(serve, variables, believed):
    server = serve(step_s=0.05, SOL_LIMITS="runs_per_address=1", **variables)
    proxy = ", 10.0.0.1" if "SPACE_ID" in variables else ""
    anna = server.visitor(ANNA, **{"X-Forwarded-For": f"203.0.113.1{proxy}"})
    ben = server.visitor(BEN, **{"X-Forwarded-For": f"203.0.113.2{proxy}"})
    first = anna.start("x", max_new_tokens=400)
    about = {"prompt": "x", "settings": {"max_new_tokens": 400}}
    answer = ben.call("explore", "start_run", **about)
    assert ("Your network already has" in answer.get("refused", "")) is not believed
    anna.call("explore", "stop_run", run_id=first)
    if believed:
        ben.call("explore", "stop_run", run_id=answer["run_id"])


def test_a_visitor_keeps_the_newest_runs(serve):
    server = serve(SOL_LIMITS="kept_runs=3")
    anna, ben = server.visitor(ANNA), server.visitor(BEN)
    his = ben.start("Bens")
    ben.wait(his)
    made = [anna.start(f"number {number}") for number in range(3)]
    for run_id in made:
        anna.wait(run_id)
    made += [anna.start("number 3")]
    anna.wait(made[-1])
    store = server.services.store.runs
    wait_until(lambda: all(run.status != "running" for run in store.list()))
    server.services.storage_cap.enforce()
    assert [run.id for run in store.list(owner=ANNA)] == made[:0:-1]
    assert [run.id for run in store.list(owner=BEN)] == [his]


def test_uploads_are_small(serve):
    server = serve(SOL_LIMITS="upload_mb=1")
    anna = server.visitor(ANNA)
    assert "1 MB" in anna.send("import", "a.json", b"x" * (1024**2 + 1))["refused"]
    assert "is not JSON" in anna.send("import", "a.json", b"x" * 1024**2)["refused"]


def test_policies_and_jobs_belong_to_the_owner(serve):
    anna = serve().visitor(ANNA)
    for name, request in (
        ("rename_policy", {"name": "default", "new_name": "x"}),
        ("delete_policy", {"name": "default"}),
    ):
        assert "belong to its owner" in anna.call("lab", name, **request)["refused"]
    assert anna.call("lab", "export_policy", name="default")["name"] == "default.zip"
    assert "belong to its owner" in anna.send("policy", "a.zip", b"x")["refused"]
    assert "jobs are turned off" in anna.send("corpus", "a.txt", b"x")["refused"]


def test_allowed_jobs_read_no_hub_and_fill_no_disk(serve):
    from app.pages.shared.corpus_choice import corpus_source

    server = serve(SOL_LIMITS="jobs=1,kept_mb=10,upload_mb=8")
    with pytest.raises(ConfigError, match="SOL_LIMITS=hub=1"):
        corpus_source(server.services, ANNA, {"kind": "hub", "name": "a/b"})
    folder = server.services.data_dir.corpora / "uploads" / BEN
    folder.mkdir(parents=True)
    (folder / "big.txt").write_bytes(b"x" * 9 * 1024**2)
    sent = server.visitor(ANNA).send("corpus", "a.txt", b"x" * 2 * 1024**2)
    assert "fill the 10 MB" in sent["refused"]


def test_jobs_and_what_they_name_are_seen_by_their_owner_alone(serve):
    server = serve(SOL_LIMITS="jobs=1")
    store, data_dir = server.services.store, server.services.data_dir
    shutil.copytree(SHIPPED_POLICY, data_dir.policies / "mine")
    upload = data_dir.corpora / "uploads" / BEN / "secret.txt"
    upload.parent.mkdir(parents=True)
    upload.write_text("secret words")
    params = {"policies": ["mine"], "policy": "mine", "config": {"corpus": str(upload)}}
    made = {}
    results = {
        "train": {"policy": "mine"},
        "evaluate": evaluation_result(("mine",)) | {"corpus": str(upload)},
        TASKS_JOB: {},
    }
    for kind, result in results.items():
        made[kind] = finished_job(store, kind, params, result, f"secret {kind}", BEN)
    waiting = store.jobs.create("evaluate", BEN, "secret waiting", params).id
    schedule = {"kind": "policy", "policy": "mine"}
    store.runs.create(BEN, "secret prompt", "m", "policy", {"schedule": schedule})

    anna = server.visitor(ANNA)
    every = {"kind": None, "limit": 99}
    asked = [
        ("lab", "policy_details", {"name": "mine"}),
        ("lab", "all_policies", {}),
        *(("lab", "lab_home", {"kind": kind}) for kind in made),
        ("lab", "list_jobs", every),
        ("lab", "list_corpora", {}),
        ("history", "list_runs", {"query": "", "limit": 99}),
    ]
    for kind, job_id in made.items():
        about = {"job_id": job_id, "kind": kind, "cursor": -1, "form": "csv"}
        for name in (
            *("poll_job", "pause_job", "cancel_job", "resume_job", "delete_job"),
            *(("job_settings",) if kind == "train" else ("job_settings", "job_result")),
            *(("export_result",) if kind == "evaluate" else ()),
        ):
            assert "This job does not exist" in anna.call("lab", name, **about)["refused"]
    answers = [anna.call(tab, name, **request) for tab, name, request in asked]
    told = json.dumps(answers)
    assert all("refused" not in answer for answer in answers)
    for hidden in ("secret", BEN, waiting, *made.values()):
        assert hidden not in told
    details = server.visitor(BEN).call("lab", "policy_details", name="mine")
    assert details["training_job"] == made["train"]
    uses = "1 saved run, 1 evaluation, 1 accuracy measurement, 1 job that"
    assert details["uses"].startswith(uses)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("jobs=1, new_tokens=0", "from 1 to 4,096, got '0'"),
        ("kept_mb=5", "or 0 for no limit, got '5'"),
        ("jobs", "from 0 to 1, got ''"),
        ("new_token=5", "no limit 'new_token'; did you mean 'new_tokens'. Allowed are concurrent"),
        ("concurrent=2", "concurrent=2 needs ZeroGPU"),
    ],
)
def test_a_wrong_limit_is_named(limits, said):
    with pytest.raises(ConfigError, match="remove") as caught:
        Limits.from_environment({"SOL_LIMITS": limits}, public=True, zero_gpu=False)
    assert said in str(caught.value)
    with pytest.raises(ConfigError, match="SOL_KEEP_MB no longer exists: name the limit in"):
        Limits.from_environment({"SOL_KEEP_MB": "1"}, public=True)


def test_what_is_public_is_said_by_0_or_1(monkeypatch):
    from app.host.hosting import is_public

    monkeypatch.setenv("SPACE_ID", "a/b")
    for value, public in (("", True), ("0", False), ("1", True)):
        monkeypatch.setenv("SOL_PUBLIC", value)
        assert is_public() is public
    monkeypatch.setenv("SOL_PUBLIC", "yes")
    with pytest.raises(ConfigError, match="SOL_PUBLIC must be 1"):
        is_public()


def test_without_variables_a_machine_of_ones_own_has_few_limits():
    assert Limits.from_environment({}, public=False, zero_gpu=False) == Limits()
    public = Limits.from_environment({}, public=True, zero_gpu=True)
    assert (public.jobs, public.hub, public.share_runs) == (0, 0, 0)
    assert public.kept_mb
    assert public.kept_runs
    allowed = {"SOL_LIMITS": " concurrent = 4, kept_mb=0,"}
    chosen = Limits.from_environment(allowed, public=True, zero_gpu=True)
    assert (chosen.concurrent, chosen.kept_mb) == (4, 0)


CAROL = "c" * 32


LONG = 4000


@pytest.fixture
def only_when_told(monkeypatch):
    """The server deletes nothing of its own accord while a test stores too much."""
    monkeypatch.setattr(StorageCap, "enforce_now_and_then", lambda cap: None)


@pytest.mark.usefixtures("only_when_told")
def test_a_visitors_imports_push_out_their_own_runs_and_nobody_elses(serve):
    server = serve(SOL_LIMITS="kept_mb=10")
    store, cap = server.services.store, server.services.storage_cap
    kept = [restored_run(store, BEN, [1, 2, 3]) for _ in range(5)]  # the oldest of all
    imported = [restored_run(store, ANNA, [0] * 200) for _ in range(50)]
    assert store.used_bytes() > 10 * 1024**2
    cap.enforce()
    assert store.used_bytes() <= 10 * 1024**2
    assert [run.id for run in store.runs.list(owner=BEN, limit=99)] == kept[::-1]
    left = [run.id for run in store.runs.list(owner=ANNA, limit=99)]
    assert left == imported[: -len(left) - 1 : -1]  # the newest stay
    assert store.used_bytes() > 8 * 1024**2


@pytest.mark.usefixtures("only_when_told")
def test_a_flood_of_jobs_deletes_nobodys_runs_and_the_largest_holders_jobs_first(serve):
    server = serve(SOL_LIMITS="kept_mb=10,jobs=1")
    store, cap = server.services.store, server.services.storage_cap
    while store.used_bytes() < 8 * 1024**2:
        restored_run(store, BEN, [0] * 200)
    kept = [run.id for run in store.runs.list(owner=BEN, limit=500)]
    result = {"text": "x" * 20_000}
    mine = finished_job(store, "evaluate", {}, result, "mine", ANNA)
    for number in range(300):
        job = store.jobs.create(
            "evaluate", f"{number:032x}", "flood", {"x": "y" * 20_000}, address="203.0.113.1"
        )
        (server.services.data_dir.jobs / job.id).mkdir()
        store.jobs.request_cancel(job.id)
    assert store.used_bytes() > 13 * 1024**2
    cap.enforce()
    assert store.used_bytes() <= 10 * 1024**2
    assert [run.id for run in store.runs.list(owner=BEN, limit=500)] == kept
    left = store.jobs.list(limit=500)
    assert mine in {job.id for job in left}
    assert len(left) > 30, "what runs leave is theirs"
    folders = {folder.name for folder in server.services.data_dir.jobs.iterdir()}
    assert folders == {job.id for job in left} - {mine}


@pytest.mark.usefixtures("only_when_told")
def test_runs_delete_no_jobs_within_their_tenth(serve):
    server = serve(SOL_LIMITS="kept_mb=10,jobs=1")
    store = server.services.store
    mine = [finished_job(store, "evaluate", {}, {"x": "y" * 9000}, "t", ANNA) for _ in range(20)]
    while store.used_bytes() < 12 * 1024**2:
        restored_run(store, BEN, [0] * 200)
    server.services.storage_cap.enforce()
    assert store.used_bytes() <= 10 * 1024**2
    assert {job.id for job in store.jobs.list()} == set(mine)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has many addresses of its own")
def test_jobs_of_one_address_and_of_all_have_limits(serve, monkeypatch):
    monkeypatch.setattr(job_calls, "JOBS", replace(job_calls.JOBS, of_address=3, of_all=5))
    server = serve(SOL_LIMITS="jobs=1")
    asked = {"kind": "evaluate", "policies": ["default"], "values": {}}
    asked["corpus"] = {"kind": "builtin"}

    def queue(address):
        with PageClient(server.url, address=address) as client:
            client.open()
            return client, client.call("lab", "start_job", **asked)

    made = [queue("127.0.0.2") for _ in range(3)]
    assert "Your network already has 3 jobs" in queue("127.0.0.2")[1]["refused"]
    jobs = server.services.store.jobs
    jobs.request_pause(made[0][1]["job_id"])  # it is still there
    assert "Your network already has 3 jobs" in queue("127.0.0.2")[1]["refused"]
    jobs.request_cancel(made[0][1]["job_id"])
    assert "job_id" in queue("127.0.0.2")[1]
    with PageClient(server.url, made[0][0].owner, address="127.0.0.2") as client:
        client.open()
        again = client.call("lab", "resume_job", job_id=made[0][1]["job_id"])
        assert "Your network already has 3 jobs" in again["refused"]
        assert (
            client.call("lab", "list_jobs", kind=None, limit=9)["jobs"][0]["status"] == "cancelled"
        )
    assert all("job_id" in queue(address)[1] for address in ("127.0.0.3", "127.0.0.4"))
    assert "This server already has 5 jobs" in queue("127.0.0.5")[1]["refused"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=20), st.integers(0, 99)
)
def test_nobody_loses_a_run_to_somebody_who_keeps_more(runs, num_bytes):
    sizes = [StoredSize(str(at), owner.encode(), size) for at, (owner, size) in enumerate(runs)]
    chosen = fair_choice(sizes, num_bytes)
    gone = [run for run in sizes if run.id in chosen]
    freed = sum(run.num_bytes for run in gone)
    assert len(gone) == len(chosen) == len(set(chosen))
    assert freed >= min(num_bytes, sum(run.num_bytes for run in sizes))
    for owner in {run.owner for run in gone}:
        mine = [run.id for run in sizes if run.owner == owner]
        lost = [run_id for run_id in chosen if run_id in mine]
        assert lost == mine[: len(lost)]  # oldest first
        last = sizes[int(lost[-1])]
        had = last.num_bytes + sum(
            run.num_bytes for run in sizes if run.owner == owner and run.id not in chosen
        )
        kept = [run for run in sizes if run.id not in chosen and run.owner != owner]
        for other in {run.owner for run in kept}:
            assert had >= sum(run.num_bytes for run in kept if run.owner == other)


def test_a_flood_of_comparisons_leaves_the_others_their_answers(serve, monkeypatch):
    aligned = []

    def counted(*sides, same_prompt):
        aligned.append(len(sides[0]))
        return align_tokens(*sides, same_prompt=same_prompt)

    monkeypatch.setattr(run_calls, "align_tokens", counted)
    monkeypatch.setattr(generation_runs, "QUESTION_PATIENCE_S", 60.0)
    server = serve()
    server.engine.pause_at = 1
    ben, carol = server.visitor(BEN), server.visitor(CAROL)
    pair = {
        "a": restored_run(server.services.store, ANNA, [0] * LONG),
        "b": restored_run(server.services.store, ANNA, [1, 0] * (LONG // 2)),
    }
    running = carol.start("holds the model")
    carol.wait(running, until=lambda view: view["cursor"] == 1)
    visits = [server.visitor(ANNA) for _ in range(40)]
    with ThreadPoolExecutor(40) as pool:
        calls = [pool.submit(visit.call, "explore", "compare_runs", **pair) for visit in visits]
        wait_until(lambda: sum(call.done() for call in calls) >= 37)  # refused, and not in line
        assert ben.call("history", "list_runs", query="", limit=9) == {"runs": [], "next": None}
        assert ben.poll(ben.start("Ben comes next"))["position"] == 2  # takes turns with Anna
        server.engine.resume.set()
        answers = [call.result(60) for call in calls]
    refused = [answer["refused"] for answer in answers if "refused" in answer]
    assert len(refused) == 37
    assert all("already have 3 runs" in words for words in refused)
    assert aligned == [LONG] * 3
    answer = next(answer for answer in answers if "refused" not in answer)
    assert (answer["parted"], len(answer["sides"])) == (0, 2)

"""A public server over real HTTP: visitors kept apart, nobody hogs it, the disk does not fill."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from app.host.limits import Limits
from app.policies.library import SHIPPED_FOLDER
from sol_core.errors import ConfigError
from storage import TASKS_JOB, JobKind, open_store
from tests.app.public_server import ANNA, BEN, Serve
from tests.app.waiting import wait_until
from tests.support.job_samples import evaluation_result

# Gradio leaves the sockets that it probes ports with to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
KB = 1024


def test_nobody_reads_stops_deletes_or_exports_another_visitors_run(serve: Serve) -> None:
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
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("explore", "poll_run", {"run_id": run_id, "cursor": 0}),
            ("explore", "look_at_token", {"run_id": run_id, "index": 0}),
            ("explore", "look_at_plane", {"run_id": run_id, "index": 0, "bits": 8}),
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


def test_links_are_shared_where_the_owner_says_so(serve: Serve) -> None:
    server = serve(SOL_LIMITS="share_runs=1")
    anna, ben = server.visitor(ANNA), server.visitor(BEN)
    run_id = anna.start("For everybody")
    anna.wait(run_id)
    assert ben.poll(run_id)["run"]["prompt"] == "For everybody"
    assert "refused" in ben.call("history", "delete_run", run_id=run_id)


def test_no_file_of_the_server_can_be_fetched(serve: Serve) -> None:
    server = serve()
    database = server.services.data_dir.database
    inside = [str(database), f"{database.parent}/logs/../sol.sqlite3", str(Path(__file__))]
    for path in (*inside, "/etc/passwd", "../../../../etc/passwd", "launch.py"):
        for route in ("file=", "file/", "static/"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{server.url}gradio_api/{route}{path}", timeout=30)
            assert caught.value.code == 404
            caught.value.close()


def test_gradios_own_door_for_files_is_shut(serve: Serve) -> None:
    server = serve()
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    form += b"z" * 100 * KB + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{server.url}gradio_api/upload", form, kind)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    assert caught.value.code == 404  # by the guard: only calls of the page have a way in
    caught.value.close()


def test_hogs_are_refused_in_words(serve: Serve) -> None:
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


def test_behind_a_spaces_proxy_addresses_are_those_it_names(serve: Serve) -> None:
    server = serve(step_s=0.05, SPACE_ID="a/b", SOL_LIMITS="runs_per_address=1")
    anna = server.visitor(ANNA, **{"X-Forwarded-For": "203.0.113.1, 10.0.0.1"})
    ben = server.visitor(BEN, **{"X-Forwarded-For": "203.0.113.2, 10.0.0.1"})
    first, second = anna.start("x", max_new_tokens=400), ben.start("x", max_new_tokens=400)
    anna.call("explore", "stop_run", run_id=first)
    ben.call("explore", "stop_run", run_id=second)


@pytest.mark.parametrize("believed", [False, True])
def test_forwarded_addresses_are_those_of_named_proxies(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, believed: bool
) -> None:
    if believed:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    else:
        monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    server = serve(step_s=0.05, SOL_LIMITS="runs_per_address=1")
    anna = server.visitor(ANNA, **{"X-Forwarded-For": "203.0.113.1"})
    ben = server.visitor(BEN, **{"X-Forwarded-For": "203.0.113.2"})
    first = anna.start("x", max_new_tokens=400)
    about = {"prompt": "x", "settings": {"max_new_tokens": 400}}
    answer = ben.call("explore", "start_run", **about)
    assert ("Your network already has" in answer.get("refused", "")) is not believed
    anna.call("explore", "stop_run", run_id=first)
    if believed:
        ben.call("explore", "stop_run", run_id=answer["run_id"])


def test_a_visitor_keeps_the_newest_runs(serve: Serve) -> None:
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


def test_the_database_stays_below_its_cap(tmp_path: Path) -> None:
    from app.runs.storage_cap import StorageCap

    with open_store(tmp_path / "sol.sqlite3") as store:
        for number in range(30):
            run = store.runs.create(f"{number:032x}", "x" * 500_000, "m", "static", {})
            if number != 0:  # the oldest one is going on
                store.runs.finish(run.id, "finished")
        before = store.used_bytes()
        assert before > 10 * KB**2
        StorageCap(store, Limits(kept_mb=10)).enforce()
        assert store.used_bytes() <= 10 * KB**2
        left = store.runs.list(limit=100)
        assert left[-1].status == "running"
        assert left[0].owner == f"{29:032x}"
        StorageCap(store, Limits()).enforce()
        assert store.runs.list(limit=100) == left


def test_uploads_are_small_and_few(serve: Serve) -> None:
    server = serve(SOL_LIMITS="upload_mb=1")
    anna = server.visitor(ANNA)
    assert "1 MB" in anna.call("history", "begin_import", size=1024**2 + 1)["refused"]
    begun = [anna.call("history", "begin_import", size=1000) for _ in range(5)]
    assert all("upload_id" in answer for answer in begun[:4])
    assert "You already have 4 uploads going on" in begun[4]["refused"]
    assert "upload_id" in server.visitor(BEN).call("history", "begin_import", size=1000)
    piece = {"upload_id": begun[0]["upload_id"], "size": 10**9, "offset": 0}
    data = base64.b64encode(b"x" * (1024**2 + 1)).decode()
    assert "does not fit" in anna.call("history", "import_piece", **piece, data=data)["refused"]


def test_policies_jobs_and_the_hub_belong_to_the_owner(serve: Serve) -> None:
    anna = serve().visitor(ANNA)
    for name, request in (
        ("rename_policy", {"name": "default", "new_name": "x"}),
        ("delete_policy", {"name": "default"}),
        ("tag_policy", {"name": "default", "tags": []}),
        ("pull_policy", {"repository": "a/b", "revision": "", "token": ""}),
        ("push_policy", {"name": "default", "repository": "a/b", "private": True, "token": ""}),
        ("begin_policy_import", {"size": 10}),
    ):
        assert "belong to its owner" in anna.call("lab", name, **request)["refused"]
    begun = anna.call("lab", "begin_upload", name="a.txt", size=10)
    assert "jobs are turned off" in begun["refused"]


def test_allowed_jobs_read_no_hub_and_fill_no_disk(serve: Serve) -> None:
    from app.pages.shared.corpus_choice import corpus_source

    server = serve(SOL_LIMITS="jobs=1,kept_mb=10,upload_mb=8")
    with pytest.raises(ConfigError, match="SOL_LIMITS=hub=1"):
        corpus_source(server.services, ANNA, {"kind": "hub", "name": "a/b"})
    folder = server.services.data_dir.corpora / "uploads" / BEN
    folder.mkdir(parents=True)
    (folder / "big.txt").write_bytes(b"x" * 9 * 1024**2)
    begun = server.visitor(ANNA).call("lab", "begin_upload", name="a.txt", size=2 * 1024**2)
    assert "fill the 10 MB" in begun["refused"]


def test_jobs_and_what_they_name_are_seen_by_their_owner_alone(serve: Serve) -> None:
    server = serve(SOL_LIMITS="jobs=1")
    store, data_dir = server.services.store, server.services.data_dir
    shutil.copytree(SHIPPED_FOLDER, data_dir.policies / "mine")
    upload = data_dir.corpora / "uploads" / BEN / "secret.txt"
    upload.parent.mkdir(parents=True)
    upload.write_text("secret words")
    params = {"policies": ["mine"], "policy": "mine", "config": {"corpus": str(upload)}}
    made: dict[str, str] = {}  # by the name of the view
    kinds: dict[str, JobKind] = {"accuracy": TASKS_JOB, "train": "train", "evaluate": "evaluate"}
    for view, result in (
        ("train", {"policy": "mine"}),
        ("evaluate", evaluation_result(("mine",)) | {"corpus": str(upload)}),
        ("accuracy", {}),
    ):
        job = store.jobs.create(kinds[view], BEN, f"secret {view}", params, worker="w")
        store.jobs.finish(job.id, "w", "succeeded", result=result)
        made[view] = job.id
    waiting = store.jobs.create("evaluate", BEN, "secret waiting", params).id
    schedule = {"kind": "policy", "policy": "mine"}
    store.runs.create(BEN, "secret prompt", "m", "policy", {"schedule": schedule})

    anna = server.visitor(ANNA)
    every = {"before": None, "kind": None, "group": "all", "limit": 99}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("lab", "policy_details", {"name": "mine"}),
        ("lab", "all_policies", {}),
        *(("lab", "lab_home", {"kind": kind}) for kind in kinds.values()),
        ("lab", "list_jobs", every),
        ("lab", "list_corpora", {}),
        ("history", "list_runs", {"query": "", "limit": 99}),
    ]
    own: list[tuple[str, str, dict[str, Any]]] = [
        ("train", "poll_job", {"cursor": -1}),
        ("train", "job_settings", {"kind": "train"}),
        ("train", "pause_job", {}),
        ("train", "cancel_job", {}),
        ("train", "resume_job", {}),
        ("train", "delete_job", {}),
        ("evaluate", "job_result", {"kind": "evaluate"}),
        ("evaluate", "job_settings", {"kind": "evaluate"}),
        ("evaluate", "export_result", {"kind": "evaluate", "form": "csv"}),
        ("accuracy", "job_result", {"kind": TASKS_JOB}),
        ("accuracy", "job_settings", {"kind": TASKS_JOB}),
    ]
    for view, name, request in own:
        answer = anna.call("lab", name, job_id=made[view], **request)
        assert "This job does not exist" in answer["refused"]
    answers = [anna.call(tab, name, **request) for tab, name, request in asked]
    told = json.dumps(answers)
    assert all("refused" not in answer for answer in answers)
    for hidden in ("secret", BEN, waiting, *made.values()):
        assert hidden not in told
    details = answers[0]
    assert (details["training_job"], details["evaluations"]) == (None, [])
    assert (details["uses"], details["num_waiting"]) == ("nothing", 0)

    details = server.visitor(BEN).call("lab", "policy_details", name="mine")
    assert details["training_job"] == made["train"]
    assert [line["id"] for line in details["evaluations"]] == [made["evaluate"]]
    uses = "1 saved run, 1 evaluation, 1 accuracy measurement, 1 job that"
    assert details["uses"].startswith(uses)
    assert upload.exists()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("new_tokens=many", "from 1 to 4,096, got 'many'"),
        ("jobs=1, new_tokens=0", "from 1 to 4,096, got '0'"),
        ("kept_mb=5", "or 0 for no limit, got '5'"),
        ("jobs=yes", "from 0 to 1, got 'yes'"),
        ("jobs", "from 0 to 1, got ''"),
        ("new_token=5", "no limit 'new_token'; did you mean 'new_tokens'. Allowed are concurrent"),
        ("=5", "no limit ''. Allowed are concurrent"),
        ("concurrent=2", "concurrent=2 needs ZeroGPU"),
    ],
)
def test_a_wrong_limit_is_named(limits: str, said: str) -> None:
    with pytest.raises(ConfigError, match="remove") as caught:
        Limits.from_environment({"SOL_LIMITS": limits}, public=True, zero_gpu=False)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["SOL_MAX_LINE", "SOL_ALLOW_JOBS", "SOL_KEEP_MB"])
def test_a_limit_of_an_older_release_is_not_ignored(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} no longer exists: name the limit in SOL_LIMITS"):
        Limits.from_environment({name: "1"}, public=True)


def test_what_is_public_is_said_by_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.host.hosting import is_public

    monkeypatch.setenv("SPACE_ID", "a/b")
    for value, public in (("", True), ("0", False), ("1", True)):
        monkeypatch.setenv("SOL_PUBLIC", value)
        assert is_public() is public
    monkeypatch.setenv("SOL_PUBLIC", "yes")
    with pytest.raises(ConfigError, match="SOL_PUBLIC must be 1"):
        is_public()


def test_without_variables_a_machine_of_ones_own_has_few_limits() -> None:
    assert Limits.from_environment({}, public=False, zero_gpu=False) == Limits()
    public = Limits.from_environment({}, public=True, zero_gpu=True)
    assert (public.jobs, public.hub, public.share_runs) == (0, 0, 0)
    assert public.kept_mb
    assert public.kept_runs
    allowed = {"SOL_LIMITS": " concurrent = 4, kept_mb=0,"}
    chosen = Limits.from_environment(allowed, public=True, zero_gpu=True)
    assert (chosen.concurrent, chosen.kept_mb) == (4, 0)

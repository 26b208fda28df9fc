"""What the pages may ask of Python about files and policies: good values, bad ones, others'."""

import base64
import shutil

import pytest

from app.pages.explore import HANDLERS as EXPLORE
from app.pages.policies import HANDLERS as POLICIES
from app.pages.shared.run_calls import EXPORT_HANDLERS
from sol_core.files.paths import SHIPPED_POLICY
from tests.app.page_calls import ANNA, caller, sender
from tests.app.policies.test_policy_files import FILES, evaluation, write_zip
from tests.app.sharing.test_run_documents import as_json, contents, save_run
from tests.support.job_samples import metric_row


@pytest.fixture
def call(services):
    return caller(services, EXPLORE, POLICIES, EXPORT_HANDLERS)


@pytest.fixture
def send(services):
    return sender(services)


def test_a_run_goes_out_and_comes_back(call, send, services):
    run_id = save_run(services.store)
    for form in ("html", "json", "csv"):
        made = call("export_file", kind="run", id=run_id, form=form)
        assert made["name"] == f"run-why-script-is-the-sky-blue.{form}"
        assert made["text"]
    answer = send("import", "x.json", as_json(services.store, run_id))
    assert answer["kind"] == "run"
    assert contents(services.store, answer["id"]) == contents(services.store, run_id)
    assert services.store.runs.get(answer["id"]).owner == ANNA
    shown = call("poll_run", run_id=answer["id"], cursor=0)
    assert len(shown["rows"]) == 20
    assert list(services.data_dir.uploads.iterdir()) == []


def test_what_the_page_found_out_goes_with_its_file(call, services):
    run_id = save_run(services.store)
    words = {"kind": "run", "id": run_id, "form": "html"}
    seen = {"full": "Full model: no", "index": 1, "lost": [0.5, 0], "attention": [0.9, 0.1]}
    assert call("export_file", **words, seen=seen)["text"] != call("export_file", **words)["text"]
    refused = call("export_file", **words, seen=seen | {"lost": "<b>"})["refused"]
    assert "seen.lost must be a list" in refused


def test_what_is_not_imported(send, services):
    for kind in ("import", "policy"):
        answer = send(kind, "x", b"x", **{"Content-Length": str(2**40)})
        assert "may have 1 byte to" in answer["refused"]
    assert "is not JSON" in send("import", "x.json", b"no")["refused"]
    assert "no policy's folder and no zip" in send("policy", "x.zip", b"no")["refused"]
    assert list(services.data_dir.uploads.iterdir()) == []
    assert services.store.runs.list() == []


def test_a_policy_goes_out_and_comes_back(call, send, services, tmp_path, monkeypatch):
    made = call("export_policy", name="default")
    assert made["name"] == "default.zip"
    answer = send("policy", "../My policy.zip", base64.b64decode(made["data"]))
    assert answer["name"] == "My policy"
    monkeypatch.setattr(services.loader.loaded(), "fingerprint", "0" * 32)
    zipped = write_zip(tmp_path / "a.zip", FILES).read_bytes()
    refused = send("policy", "a.zip", zipped)["refused"]
    assert "not for fake-model (00000000)" in refused
    assert list(services.data_dir.uploads.iterdir()) == []


def test_a_policy_is_shown_renamed_and_deleted(call, services):
    shutil.copytree(SHIPPED_POLICY, services.data_dir.policies / "mine")
    jobs = services.store.jobs
    training = jobs.create("train", ANNA, "mine", {}, worker="w")
    jobs.append_metrics(training.id, [metric_row(step) for step in range(5)])
    jobs.finish(training.id, "w", "succeeded", result={"policy": "mine"})
    done = evaluation(services.store, "mine")
    assert [one["name"] for one in call("all_policies")["policies"]] == ["default", "mine"]
    shown = call("policy_details", name="mine")
    assert shown["training_job"] == training.id
    assert [one["id"] for one in shown["evaluations"]] == [done]
    assert shown["verdict"] == shown["evaluations"][0]["verdict"]
    assert shown["verdict"]["head"].startswith("Policy mine is closer to the full model")
    assert shown["uses"] == "1 evaluation"
    assert shown["card"].startswith("---\nlibrary_name: sol-explorer")
    assert shown["measured"]["kl"] == pytest.approx(0.220, abs=1e-3)
    assert call("rename_policy", name="mine", new_name=" yours ")["name"] == "yours"
    assert "is taken" in call("rename_policy", name="yours", new_name="default")["refused"]
    assert call("policy_details", name="mine")["name"] == "yours"
    waiting = jobs.create("evaluate", ANNA, "waits", {"policies": ["mine"]})
    assert "need this policy: waits" in call("delete_policy", name="yours")["refused"]
    jobs.request_cancel(waiting.id)
    assert call("delete_policy", name="yours") == {}
    for name in ("policy_details", "export_policy", "delete_policy"):  # no path of the server
        for policy in ("yours", str(SHIPPED_POLICY), "../policies", ""):
            assert "No policy" in call(name, name=policy)["refused"]
    assert "cannot be deleted" in call("delete_policy", name="default")["refused"]

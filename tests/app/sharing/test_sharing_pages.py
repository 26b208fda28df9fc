"""What the pages may ask of Python about files and policies: good values, bad ones, others'."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.pages.explore.handlers import HANDLERS as EXPLORE
from app.pages.policies.handlers import HANDLERS as POLICIES
from app.pages.shared.sharing_calls import EXPORT_HANDLERS, IMPORT_HANDLERS
from app.policies.library import SHIPPED_FOLDER
from app.web.services import Services
from tests.app.page_calls import ANNA, Call, caller
from tests.app.policies.test_policy_files import FILES, evaluation, write_zip
from tests.app.sharing.test_run_documents import as_json, contents, save_run
from tests.support.job_samples import metric_row

RUN_CALLS, POLICY_CALLS = (
    ("begin_import", "import_piece"),
    ("begin_policy_import", "policy_import_piece"),
)


@pytest.fixture
def call(services: Services) -> Call:
    return caller(services, EXPLORE, POLICIES, EXPORT_HANDLERS, IMPORT_HANDLERS)


def send(call: Call, calls: tuple[str, str], name: str, data: bytes) -> dict[str, Any]:
    """Upload in three pieces; the last one's answer, or the first refusal."""
    answer = call(calls[0], name=name, size=len(data))
    if "refused" in answer:
        return answer
    about = {"name": name, "size": len(data), "upload_id": answer["upload_id"]}
    step = len(data) // 3 + 1
    for offset in range(0, len(data), step):
        piece = base64.b64encode(data[offset : offset + step]).decode()
        answer = call(calls[1], **about, offset=offset, data=piece)
        if "refused" in answer:
            return answer
    return answer


def test_a_run_goes_out_and_comes_back(call: Call, services: Services) -> None:
    run_id = save_run(services.store)
    for form in ("html", "json", "csv"):
        made = call("export_file", kind="run", id=run_id, form=form)
        assert made["name"] == f"run-why-script-is-the-sky-blue.{form}"
        assert made["text"]
    answer = send(call, RUN_CALLS, "x.json", as_json(services.store, run_id))
    assert answer["kind"] == "run"
    assert contents(services.store, answer["id"]) == contents(services.store, run_id)
    assert services.store.runs.get(answer["id"]).owner == ANNA
    shown = call("poll_run", run_id=answer["id"], cursor=0)
    assert len(shown["rows"]) == 20
    assert list(services.data_dir.uploads.iterdir()) == []


def test_what_is_not_imported(call: Call, services: Services) -> None:
    for calls in (RUN_CALLS, POLICY_CALLS):
        assert "may have 1 byte to" in call(calls[0], name="x", size=2**40)["refused"]
        assert (
            "hexadecimal"
            in call(calls[1], name="x", size=1, upload_id="../x", offset=0, data="")["refused"]
        )
    assert "is not JSON" in send(call, RUN_CALLS, "x.json", b"no")["refused"]
    assert "no policy's folder and no zip" in send(call, POLICY_CALLS, "x.zip", b"no")["refused"]
    assert list(services.data_dir.uploads.iterdir()) == []
    assert services.store.runs.list() == []


def test_a_policy_goes_out_and_comes_back(
    call: Call, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = call("export_policy", name="default")
    assert made["name"] == "default.zip"
    answer = send(call, POLICY_CALLS, "../My policy.zip", base64.b64decode(made["data"]))
    assert answer["name"] == "My policy"
    monkeypatch.setattr(services.loader.loaded(), "fingerprint", "0" * 32)
    zipped = write_zip(tmp_path / "a.zip", FILES).read_bytes()
    refused = send(call, POLICY_CALLS, "a.zip", zipped)["refused"]
    assert "not for fake-model (00000000)" in refused
    assert list(services.data_dir.uploads.iterdir()) == []


def test_a_policy_is_shown_renamed_and_deleted(call: Call, services: Services) -> None:
    shutil.copytree(SHIPPED_FOLDER, services.data_dir.policies / "mine")
    jobs = services.store.jobs
    training = jobs.create("train", ANNA, "mine", {}, worker="w")
    jobs.append_metrics(training.id, [metric_row(step) for step in range(5)])
    jobs.finish(training.id, "w", "succeeded", result={"policy": "mine"})
    done = evaluation(services.store, "mine")
    assert [one["name"] for one in call("all_policies")["policies"]] == ["default", "mine"]
    shown = call("policy_details", name="mine")
    assert shown["training_job"] == training.id
    assert [one["id"] for one in shown["evaluations"]] == [done]
    assert shown["evaluations"][0]["budgets"] == 9
    assert shown["uses"] == "1 evaluation"
    assert shown["card"].startswith("---\nlibrary_name: sol-explorer")
    assert shown["measured"]["kl"] == pytest.approx(0.297, abs=1e-3)
    assert call("rename_policy", name="mine", new_name=" yours ")["name"] == "yours"
    assert "is taken" in call("rename_policy", name="yours", new_name="default")["refused"]
    assert call("policy_details", name="mine")["name"] == "yours"
    waiting = jobs.create("evaluate", ANNA, "waits", {"policies": ["mine"]})
    assert "need this policy: waits" in call("delete_policy", name="yours")["refused"]
    jobs.request_cancel(waiting.id)
    assert call("delete_policy", name="yours") == {}
    for name in ("policy_details", "export_policy", "delete_policy"):  # no path of the server
        for policy in ("yours", str(SHIPPED_FOLDER), "../policies", ""):
            assert "no policy" in call(name, name=policy)["refused"]
    assert "cannot be deleted" in call("delete_policy", name="default")["refused"]

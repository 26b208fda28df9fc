"""Files that visitors send: what is refused is forgotten at once, and few are read at a time."""

import errno
import gc
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.host.errors import AppError
from app.pages.shared.uploads import TAKEN_AT_ONCE, UploadKind, upload_route
from tests.app.page_calls import ANNA, sender

PLACE = "/gradio_api/sol-upload"


@pytest.fixture
def send(services):
    return sender(services)


def kept_documents():
    """Objects of a refused document that are still in memory."""
    return [
        thing for thing in gc.get_objects() if type(thing) is dict and "sent to be refused" in thing
    ]


@pytest.mark.parametrize(
    "document", ["%s", "[%s, {}]", '{"format": "sol-explorer-run", "run": %s}']
)
def test_a_refused_document_is_freed_without_the_garbage_collector(send, document):
    data = (document % '{"sent to be refused": [[], []]}').encode()
    send("import", "a.json", b"no")
    gc.collect()
    gc.disable()
    try:
        assert "refused" in send("import", "a.json", data)
        assert kept_documents() == []
    finally:
        gc.enable()


def test_a_file_of_nothing_but_objects_is_refused_before_it_is_parsed(send):
    for data in (b"[" + b"{}," * 10_000 + b"0]", b"[" * 100_000, b"[" + b'{"a":[]},' * 9_000):
        assert "far more objects and lists" in send("import", "a.json", data)["refused"]


def test_a_refusal_names_the_visitors_file_and_no_place_of_the_server(send, services):
    for name, data in (("mine.zip", b"no"), ("mine.zip", b"PK\3\4" + bytes(40))):
        refused = send("policy", name, data)["refused"]
        assert "'mine.zip'" in refused
        for hidden in (str(services.data_dir.root), ".part-", ".incoming-"):
            assert hidden not in refused


def test_a_disk_that_may_only_be_read_is_not_called_full(send, monkeypatch):
    def touch(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    assert "is full" in send("import", "a.json", b"no")["refused"]
    monkeypatch.setattr(Path, "touch", touch)
    assert "Read-only file system" in send("import", "a.json", b"no")["refused"]


def test_a_few_files_are_read_at_once(services):
    reading, most, lock = [], [], threading.Lock()
    go_on = threading.Event()

    def take(services, owner, name, part):
        with lock:
            reading.append(name)
            most.append(len(reading))
        go_on.wait(0.2)
        with lock:
            reading.remove(name)
        raise AppError(f"{part} is no good")

    kind = UploadKind("It", "", lambda services: 99, lambda *about: None, take)
    app = Starlette(routes=[upload_route(services, {"it": kind})])
    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        asked = {"kind": "it", "owner": ANNA, "name": "b.txt"}
        calls = [pool.submit(client.post, PLACE, params=asked, content=b"x") for _ in range(4)]
        answers = [call.result(30).json() for call in calls]
    assert answers == [{"refused": "'b.txt' is no good"}] * 4
    assert max(most) == TAKEN_AT_ONCE

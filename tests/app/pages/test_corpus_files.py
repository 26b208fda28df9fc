"""Uploaded files: names made safe, limits held, nothing left over or outside the folder."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.host.errors import AppError
from app.host.limits import Holder
from app.pages.shared import uploads
from app.pages.shared.corpus_choice import MAX_UPLOAD_BYTES, CorpusFiles, safe_name
from app.pages.shared.uploads import QUOTA
from app.site.ui import UPLOADS
from tests.app.page_calls import ANNA, BEN, sender


@pytest.fixture
def files(tmp_path):
    return CorpusFiles(tmp_path / "uploads")


@pytest.fixture
def send(services):
    return sender(services)


def put(files, name, data):
    part = files.folder.parent / "part"
    part.write_bytes(data)
    return files.finish(part, name)


def test_a_file_arrives_under_its_name(files):
    assert files.list() == []
    assert put(files, "My novel.TXT", b"0123456789") == "My_novel.txt"
    assert files.list() == [{"name": "My_novel.txt", "bytes": 10}]
    assert files.path("My_novel.txt").read_bytes() == b"0123456789"
    assert put(files, "My novel.TXT", b"x") == "My_novel-2.txt"


def left(services):
    folder = services.data_dir.uploads
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_sizes_have_a_limit_and_must_be_true(services, send):
    assert (
        "may have 1 byte to 256 MB, this one has 0.0 MB" in send("corpus", "a.txt", b"")["refused"]
    )
    for length in (str(MAX_UPLOAD_BYTES + 1), "9" * 15):
        answer = send("corpus", "a.txt", b"x", **{"Content-Length": length})
        assert "may have 1 byte to 256 MB" in answer["refused"]
    for length in ("9", "1"):
        answer = send("corpus", "a.txt", b"some words", **{"Content-Length": length})
        assert "another size" in answer["refused"]
    pieces = (b"x" for _ in range(4))
    assert "must be announced" in send("corpus", "a.txt", pieces)["refused"]
    assert left(services) == []


def test_what_no_page_sends_is_refused(services, send):
    assert "kind must be one of import, policy, corpus" in send("x", "a.txt", b"x")["refused"]
    assert "owner must be 32" in send("corpus", "a.txt", b"x", owner="../../x")["refused"]
    assert "A corpus is a .txt" in send("corpus", "../../a.sh", b"x")["refused"]
    assert send("corpus", "../../etc/cron.txt", b"x") == {"name": "cron.txt"}
    assert left(services) == []


def test_forgotten_files_go_after_a_day(services, send):
    folder = services.data_dir.uploads
    folder.mkdir(parents=True)
    (folder / ".part-a").touch()
    (folder / ".part-b").touch()
    then = time.time() - 2 * 24 * 3600
    os.utime(folder / ".part-a", (then, then))
    send("corpus", "a.txt", b"x")
    assert left(services) == [".part-b"]


def test_a_full_disk_is_said(services, send, monkeypatch):
    monkeypatch.setattr(uploads, "_KEEP_FREE_BYTES", 2**60)
    assert "disk of the data directory is full" in send("corpus", "a.txt", b"x")["refused"]
    assert left(services) == []


def test_few_uploads_go_on_at_once():
    going = []
    with ExitStack() as held:
        for _ in range(QUOTA.of_visitor):
            held.enter_context(uploads._counted(going, Holder(ANNA, "192.0.2.1")))
        with pytest.raises(AppError, match="You already have 4 uploads going on"):
            held.enter_context(uploads._counted(going, Holder(ANNA, "192.0.2.9")))
        for number in range(QUOTA.of_address - QUOTA.of_visitor):
            held.enter_context(uploads._counted(going, Holder(f"{number}", "192.0.2.1")))
        with pytest.raises(AppError, match="Your network already has 16 uploads"):
            held.enter_context(uploads._counted(going, Holder(BEN, "192.0.2.1")))
        for number in range(QUOTA.of_all - QUOTA.of_address):
            held.enter_context(
                uploads._counted(going, Holder(f"b{number}", f"198.51.100.{number}"))
            )
        with pytest.raises(AppError, match="This server already has 32 uploads"):
            held.enter_context(uploads._counted(going, Holder(BEN, "203.0.113.7")))
    assert going == []


def test_who_sends_nothing_gives_the_place_back(services, monkeypatch):
    monkeypatch.setattr(uploads, "IDLE_S", 0.05)
    answers = []

    async def receive():
        if answers:
            return {"type": "http.disconnect"}
        await asyncio.sleep(10)

    async def answer(message):
        answers.append(message)

    query = f"kind=corpus&owner={ANNA}&name=a.txt".encode()
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/sol-upload", "headers": [
        (b"content-length", b"8")], "query_string": query}  # fmt: skip
    route = uploads.upload_route(services, UPLOADS)

    async def run():
        monkeypatch.setattr(uploads, "_drop", _nothing)
        await route.handle(scope, receive, answer)

    with ThreadPoolExecutor(1) as pool:  # a browser's loop may run in this thread
        pool.submit(lambda: asyncio.run(run())).result()
    assert b"Nothing more of the file came" in answers[1]["body"]
    assert left(services) == []


async def _nothing(request):
    pass


@pytest.mark.parametrize("name", ["a", "a.txt.sh", ".txt/.."])
def test_other_kinds_are_refused(name):
    with pytest.raises(AppError, match="A corpus is a"):
        safe_name(name)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/cron.txt", "cron.txt"),
        ("C:\\Users\\x\\a b.CSV", "a_b.csv"),
        (".txt", "corpus.txt"),
        ("nul.txt", "nul_.txt"),
        ("x" * 300 + ".txt", "x" * 76 + ".txt"),
    ],
)
def test_names_are_made_safe(name, safe):
    assert safe_name(name) == safe


@given(st.text(max_size=60))
def test_no_name_leaves_the_folder(tmp_path, stem):
    name = safe_name(f"{stem}.txt")
    assert (tmp_path / name).parent == tmp_path
    assert "\0" not in name
    assert not name.startswith(".")


def test_only_listed_files_can_be_named(files, tmp_path):
    put(files, "a.txt", b"x")
    (tmp_path / "secret.txt").write_text("s")
    (files.folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    for name in ("../secret.txt", "link.txt", "b.txt", str(tmp_path / "secret.txt"), ""):
        with pytest.raises(AppError, match="no uploaded file"):
            files.path(name)
    files.delete("a.txt")
    assert files.list() == []

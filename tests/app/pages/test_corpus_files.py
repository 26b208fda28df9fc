"""Uploaded corpora: names made safe, pieces in order, limits held, nothing outside the folder."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pages.shared import uploads
from app.pages.shared.corpus_files import MAX_UPLOAD_BYTES, CorpusFileError, CorpusFiles, safe_name
from app.pages.shared.uploads import IDLE_S, SHARES, UploadError
from tests.app.page_calls import ANNA, BEN


@pytest.fixture
def files(tmp_path):
    return CorpusFiles(tmp_path / "uploads")


def put(files, name, data, piece=4):
    upload = files.uploads(ANNA).begin(len(data))
    for offset in range(0, len(data), piece):
        files.uploads(ANNA).append(upload, offset, data[offset : offset + piece], len(data))
    return files.finish(files.uploads(ANNA).part(upload), name)


def test_a_file_arrives_in_pieces_under_its_name(files):
    assert files.list() == []
    assert put(files, "My novel.TXT", b"0123456789") == "My_novel.txt"
    assert files.list() == [{"name": "My_novel.txt", "bytes": 10}]
    assert files.path("My_novel.txt").read_bytes() == b"0123456789"
    assert put(files, "My novel.TXT", b"x") == "My_novel-2.txt"


def test_a_piece_that_does_not_fit_is_refused_and_half_an_upload_is_no_corpus(files):
    mine = files.uploads(ANNA)
    upload = mine.begin(8)
    mine.append(upload, 0, b"1234", 8)
    assert files.list() == []
    for offset, data in ((0, b"12"), (3, b"12"), (5, b"12"), (4, b"12345")):
        with pytest.raises(UploadError, match="does not fit"):
            mine.append(upload, offset, data, 8)
    with pytest.raises(UploadError, match="does not fit"):
        mine.append(mine.begin(4), 0, bytes(MAX_UPLOAD_BYTES + 1), MAX_UPLOAD_BYTES + 1)


@pytest.mark.parametrize("size", [0, -1, MAX_UPLOAD_BYTES + 1])
def test_sizes_have_a_limit(files, size):
    with pytest.raises(UploadError, match="256 MB"):
        files.uploads(ANNA).begin(size)


def age(upload, seconds):
    then = time.time() - seconds
    os.utime(upload, (then, then))


def test_forgotten_pieces_go_after_a_day(files):
    part = files.uploads(ANNA).part(files.uploads(ANNA).begin(4))
    age(part, 2 * 24 * 3600)
    files.uploads(ANNA).begin(4)
    assert not part.exists()


def test_a_visitor_has_few_uploads_that_go_on_and_the_others_have_room(files):
    anna, ben = files.uploads(ANNA), files.uploads(BEN)
    begun = [anna.begin(4) for _ in range(SHARES.of_visitor)]
    with pytest.raises(UploadError, match="You already have 4 uploads going on"):
        anna.begin(4)
    his = ben.begin(4)
    # What stands still goes when room is needed, what stands still longest first.
    age(anna.part(begun[1]), IDLE_S + 5)
    age(anna.part(begun[2]), IDLE_S + 9)
    age(ben.part(his), IDLE_S + 20)
    anna.begin(4)
    assert [anna.part(upload).exists() for upload in begun] == [True, True, False, True]
    assert ben.part(his).exists()


def test_one_network_does_not_take_all_places(files, monkeypatch):
    here = ["192.0.2.1"]
    monkeypatch.setattr(uploads, "address", lambda: here[0])
    for number in range(SHARES.of_address):
        files.uploads(f"{number:032x}").begin(4)
    with pytest.raises(UploadError, match="Your network already has 16 uploads"):
        files.uploads(ANNA).begin(4)
    here[0] = "192.0.2.2"
    first = files.uploads(ANNA).begin(4)
    for number in range(SHARES.of_all - SHARES.of_address - 1):
        files.uploads(f"{number:031x}f").begin(4)
    here[0] = "192.0.2.3"
    with pytest.raises(UploadError, match="This server already has 32 uploads"):
        files.uploads(BEN).begin(4)
    age(files.uploads(ANNA).part(first), IDLE_S + 1)
    files.uploads(BEN).begin(4)
    assert not files.uploads(ANNA).part(first).exists()


def test_nobody_adds_to_anothers_upload(files):
    upload = files.uploads(ANNA).begin(4)
    with pytest.raises(UploadError, match="hexadecimal"):
        files.uploads(ANNA).append("../../etc/passwd", 0, b"x", 1)
    with pytest.raises(UploadError, match="gone"):
        files.uploads(BEN).append(upload, 0, b"1234", 4)
    assert files.uploads(ANNA).append(upload, 0, b"1234", 4) == 4


def test_equal_pieces_at_the_same_time_are_added_once(files):
    data = bytes(range(256)) * 1000
    size, num_threads = 4 * len(data), 8
    mine = files.uploads(ANNA)
    upload = mine.begin(size)
    together = threading.Barrier(num_threads)

    def send(offset):
        together.wait(20)
        try:
            return mine.append(upload, offset, data, size)
        except UploadError:
            return None

    with ThreadPoolExecutor(num_threads) as pool:
        for offset in range(0, size, len(data)):
            answers = list(pool.map(send, [offset] * num_threads))
            assert sorted(answers, key=str) == [offset + len(data)] + [None] * (num_threads - 1)
    assert mine.part(upload).read_bytes() == data * 4
    # Nothing makes a whole file whole once more.
    with pytest.raises(UploadError, match="at least 1 byte"):
        mine.append(upload, size, b"", size)


@pytest.mark.parametrize("name", ["a", "a.txt.sh", ".txt/.."])
def test_other_kinds_are_refused(name):
    with pytest.raises(CorpusFileError, match="A corpus is a"):
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
        with pytest.raises(CorpusFileError, match="no uploaded file"):
            files.path(name)
    files.delete("a.txt")
    assert files.list() == []

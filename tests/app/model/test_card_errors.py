"""A card's errors, injected: each ends in a sentence, and the page or the next worker goes on."""

from types import SimpleNamespace

import pytest
import torch

from app.jobs.runner import JobResources, run_job
from app.jobs.worker import EXIT_CARD_LOST, run_worker
from app.model.compute import Compute, ModelLoader
from sol_core import card_errors
from sol_core.card_errors import card_error
from sol_core.errors import CardLostError, CardMemoryError, ModelLoadError
from sol_core.progress import WorkFinished

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a …")
STICKY = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")


@pytest.fixture(autouse=True)
def _a_card_with_little_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (512 * 1024**2, 8 * 1024**3))


@pytest.fixture
def compute():
    facts = {"dtype_name": "float16", "device_name": "cuda:0", "context_length": 8, "notes": ()}
    model = SimpleNamespace(name="m", **facts)
    loader = ModelLoader("m", lambda _: model, in_background=False)
    loader.start()
    return Compute(loader)


def _raising(error):
    def work(*_):
        yield "a token"
        raise error

    return work


def test_words():
    told = str(card_error(FULL))
    assert "2.50 GiB was asked for and 0.50 of 8.0 GiB was free" in told
    assert "fewer new tokens" in told
    assert "an illegal memory access was encountered)" in str(card_error(STICKY))
    assert isinstance(card_error(RuntimeError("CUDA error: unspecified")), CardLostError)
    assert "cluster" in str(
        card_error(RuntimeError("Triton Error [CUDA]: cluster misconfiguration"))
    )
    full = card_error(RuntimeError("Triton Error [CUDA]: out of memory"))
    assert isinstance(full, CardMemoryError)
    assert card_error(RuntimeError("a size does not fit")) is None


@pytest.mark.parametrize("times", [1, 2])
def test_what_was_short_of_memory_is_done_once_more_with_all_kept_memory(times, monkeypatch):
    given_back, errors = [], [FULL] * times
    monkeypatch.setattr(card_errors, "give_memory_back", given_back.append)

    def work():
        if errors:
            raise errors.pop()
        return "done"

    if times == 1:
        assert card_errors.retry_out_of_memory(work) == "done"
    else:
        with pytest.raises(torch.OutOfMemoryError):
            card_errors.retry_out_of_memory(work)
    assert given_back == [FULL]


def test_other_errors_are_not_tried_again():
    tries = []

    def work():
        tries.append(1)
        raise STICKY

    with pytest.raises(torch.AcceleratorError):
        card_errors.retry_out_of_memory(work)
    assert tries == [1]


def test_a_run_without_memory_ends_in_a_sentence_and_the_page_goes_on(compute, monkeypatch):
    given_back = []
    monkeypatch.setattr("app.model.compute.give_memory_back", given_back.append)
    stream = compute.stream(_raising(FULL), lambda: False, 4)
    assert next(stream) == "a token"
    with pytest.raises(CardMemoryError, match=r"2\.50 GiB was asked"):
        next(stream)
    assert given_back == [FULL]
    assert compute.ask(lambda bench: bench.model.name) == "m"


def test_after_an_error_that_lasts_the_loader_says_restart(compute):
    with pytest.raises(CardLostError, match="start it again"):
        list(compute.stream(_raising(STICKY), lambda: False, 4))
    loader = compute._loader
    assert loader.status().state == "failed"
    assert "illegal memory access" in loader.status().message
    with pytest.raises(ModelLoadError, match="start it again"):
        loader.wait(lambda: False)
    loader._in_background = True
    with pytest.raises(ModelLoadError, match="start it again"):
        loader.retry()


def test_a_job_without_memory_fails_in_words(store, data_dir):
    job = store.jobs.create("train", "a", "t", {}, worker="w")
    outcome = run_job(job, _raising(FULL), JobResources(store.jobs, data_dir, "w"))
    assert outcome.status == "failed"
    assert "2.50 GiB was asked for" in str(store.jobs.get(job.id).error)


def test_a_worker_that_lost_its_card_ends_and_another_resumes_the_job(store, data_dir, monkeypatch):
    given_back = []
    monkeypatch.setattr("app.jobs.worker.give_memory_back", lambda: given_back.append(1))
    errors = [STICKY]

    def function(task):
        if errors:
            raise errors.pop()
        yield WorkFinished({})

    job = store.jobs.create("train", "a", "t", {})
    assert run_worker(data_dir, {"train": function}) == EXIT_CARD_LOST
    assert store.jobs.get(job.id).status == "queued"
    options = {"is_supervised": True, "poll_s": 0.05, "lonely_s": 0.0}
    assert run_worker(data_dir, {"train": function}, **options) == 0
    assert store.jobs.get(job.id).status == "succeeded"
    assert len(given_back) == 2

    def always(task):
        raise STICKY
        yield

    job = store.jobs.create("train", "a", "t", {})
    ends = [run_worker(data_dir, {"train": always}) for _ in range(2)]
    assert ends == [EXIT_CARD_LOST] * 2
    assert store.jobs.get(job.id).status == "failed"


def test_memory_is_given_back_once_frames_have_let_go(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))

    class Held:
        def __del__(self):
            calls.append("freed")

    def fails():
        held = Held()
        raise ValueError(held is None)

    try:
        fails()
    except ValueError as error:
        card_errors.give_memory_back(error)
    assert calls == ["freed", "emptied"]

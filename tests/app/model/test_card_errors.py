"""A card's errors, injected: each ends in a sentence, and the page or the next worker goes on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from app.cli import main as command_line
from app.host.paths import DataDir
from app.jobs.runner import Workplace, run_job
from app.jobs.updates import JobTask, JobUpdate
from app.jobs.worker import EXIT_CARD_LOST, WorkerOptions, run_worker
from app.model.compute import InProcess
from app.model.loader import ModelLoader
from sol_core import card_errors
from sol_core.card_errors import in_words
from sol_core.errors import CardLostError, CardMemoryError, ModelLoadError
from sol_core.progress import WorkFinished
from storage import Store

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a …")
STICKY = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")
ERRORS = [(FULL, CardMemoryError), (STICKY, CardLostError)]


@pytest.fixture(autouse=True)
def _a_card_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (512 * 1024**2, 8 * 1024**3))


@pytest.fixture
def compute() -> InProcess:
    facts = {"dtype_name": "float16", "device_name": "cuda:0", "context_length": 8, "notes": ()}
    model = SimpleNamespace(name="m", **facts)
    loader = ModelLoader("m", lambda _: model, in_background=False)
    loader.start()
    return InProcess(loader)


def _raising(error: BaseException) -> Callable[..., Iterator[str]]:
    def work(*_: Any) -> Iterator[str]:
        yield "a token"
        raise error

    return work


def test_words() -> None:
    told = str(in_words(FULL))
    assert "2.50 GiB was asked for and 0.50 of 8.0 GiB was free" in told
    assert "fewer new tokens" in told
    assert "an illegal memory access was encountered)" in str(in_words(STICKY))
    assert isinstance(in_words(RuntimeError("CUDA error: unspecified")), CardLostError)
    assert in_words(RuntimeError("a size does not fit")) is None


def test_a_run_without_memory_ends_in_a_sentence_and_the_page_goes_on(
    compute: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[Any] = []
    monkeypatch.setattr("app.model.compute.give_memory_back", given_back.append)
    stream = compute.stream(_raising(FULL), lambda: False, 4)
    assert next(stream) == "a token"
    with pytest.raises(CardMemoryError, match=r"2\.50 GiB was asked"):
        next(stream)
    assert given_back == [FULL]
    assert compute.ask(lambda bench: bench.model.name) == "m"


def test_after_an_error_that_lasts_the_loader_says_restart(compute: InProcess) -> None:
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


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_a_command_ends_with_one_line(
    error: Exception,
    kind: type,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(args: Any) -> int:
        raise error

    monkeypatch.setattr("app.cli.commands.generate.run", run)
    monkeypatch.setattr(command_line, "ensure_environment", lambda **_: None)
    assert command_line.main(["generate", "hello"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: The GPU")


def test_a_job_without_memory_fails_in_words(store: Store, data_dir: DataDir) -> None:
    job = store.jobs.create("train", "a", "t", {}, worker="w")
    outcome = run_job(job, _raising(FULL), Workplace(store.jobs, data_dir, "w"))  # type: ignore[arg-type]  # ends at once
    assert outcome.status == "failed"
    assert "2.50 GiB was asked for" in str(store.jobs.get(job.id).error)


def test_a_worker_that_lost_its_card_ends_and_another_resumes_the_job(
    store: Store, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr("app.jobs.worker.give_memory_back", lambda: given_back.append(1))
    errors: list[Exception] = [STICKY]

    def function(task: JobTask) -> Generator[JobUpdate, None, None]:
        if errors:
            raise errors.pop()
        yield WorkFinished({})

    job = store.jobs.create("train", "a", "t", {})
    assert run_worker(data_dir, {"train": function}) == EXIT_CARD_LOST
    assert store.jobs.get(job.id).status == "queued"
    options = WorkerOptions(is_supervised=True, poll_s=0.05, lonely_s=0.0)
    assert run_worker(data_dir, {"train": function}, options) == 0
    assert store.jobs.get(job.id).status == "succeeded"
    assert len(given_back) == 2

    def always(task: JobTask) -> Generator[JobUpdate, None, None]:
        raise STICKY
        yield

    job = store.jobs.create("train", "a", "t", {})
    ends = [run_worker(data_dir, {"train": always}) for _ in range(2)]
    assert ends == [EXIT_CARD_LOST] * 2
    assert store.jobs.get(job.id).status == "failed"


def test_memory_is_given_back_once_frames_have_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))

    class Held:
        def __del__(self) -> None:
            calls.append("freed")

    def fails() -> None:
        held = Held()
        raise ValueError(held is None)

    try:
        fails()
    except ValueError as error:
        card_errors.give_memory_back(error)
    assert calls == ["freed", "emptied"]

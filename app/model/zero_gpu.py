"""The model's work on ZeroGPU: in decorated calls of a few seconds, each in a forked process.

The contract of the package ``spaces`` (0.51), which only such a Space has:

- A decorated function runs in a process forked from this one, or in one forked for an earlier
  call: what has changed here since is not seen there, and what changes there is lost.
- Arguments, yields and results are pickled. An exception arrives as its class's name only.
- This process has no GPU: ``.to("cuda")`` is recorded, in the thread that imported ``spaces``
  only, and done in the fork. So the model is loaded in the main thread before the page starts.
- A call asks for a duration and may be killed after it. Whose quota it takes is read from the
  request that the calling thread's context holds (``visitor.py``).

Before the page, the card is tested and its kernels are compiled: a call made while a Space starts
takes no visitor's quota and may last 25 minutes (huggingface.co/blog/zerogpu-aoti). An error of
CUDA ends with its fork. What Triton compiles there stays in its cache on disk, for later calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import mmap
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

from app.host.errors import AppError
from app.model.compute import Compute, ModelLoader, Question, ShouldStop, Work
from sol_core.errors import SolError

logger = logging.getLogger(__name__)
AnswerT = TypeVar("AnswerT")

# No GPU was at hand to measure these: generous, so that a slow start cuts no run short.
START_S = 10.0  # of a call: fork, weights to the GPU, kernels from the cache on disk
STEPS_PER_S = 10.0
QUESTION_S = 20.0
RESERVE_S = 5.0  # before the end of a call, for what it has to say at last
COMPILE_S = 90.0  # more, until a run has ended where the start of the Space compiled nothing
LONGEST_CALL_S = 120  # that a visitor may ask for
START_CALL_S = 600  # of one call; a Space that has not started after 30 minutes is stopped
WATCH_S = 0.1

_ELSEWHERE = "or run SOL Explorer on your own machine (python launch.py)"
_ADVICE = {
    "ZeroGPU quota exceeded": f"Log in to Hugging Face for a larger quota, wait, {_ELSEWHERE}.",
    "ZeroGPU pending credits exceeded": "Wait until your other calls have ended.",
    "ZeroGPU illegal duration": "The Space's owner can lower gpu_seconds in SOL_LIMITS.",
    "ZeroGPU queue timeout": f"All GPUs are busy: try again in a minute, {_ELSEWHERE}.",
    "ZeroGPU client error": f"Reload the page and try again, {_ELSEWHERE}.",
    "ZeroGPU worker error": "The call's time was used up, or it crashed: ask for fewer tokens or "
    "a shorter text, and try again.",
}


class ZeroGpu(Compute):
    """``Compute`` in calls that ``gpu`` decorates, each asking for ``seconds`` at most."""

    def __init__(
        self, loader: ModelLoader, gpu: Callable[..., Any], seconds: int, concurrent: int = 1
    ) -> None:
        super().__init__(loader)
        self._seconds = seconds
        self._flags = _StopFlags(concurrent)
        self._is_compiled = True
        self._test_there = gpu(self._test_here, duration=START_CALL_S)
        self._compile_there = gpu(self._compile_here, duration=START_CALL_S)
        self._stream_there = gpu(self._stream_here, duration=lambda work, asked, flag: asked)
        self._ask_there = gpu(self._ask_here, duration=lambda question, asked: asked)

    def prepare(self) -> None:
        """Test the card and compile for it while the Space starts, in the main thread."""
        model = self._loader.loaded()
        if model is None or not model.device_name.startswith("cuda"):
            return  # nothing will be compiled
        from sol_core.models.card.self_test import CardReport, missing_for_triton, run_checks

        try:
            missing = missing_for_triton()
            tested = None if missing else run_checks(self._tested)
            report = tested or CardReport(missing=missing)
            report.apply()
            self._loader.note(report.sentences())
            if tested is not None:
                self._compile_there()
        except Exception as error:  # ``spaces`` is foreign code: its errors have no common root
            reason = getattr(error, "message", error)
            logger.warning("no GPU while the Space started (%s): first runs take longer", reason)
            self._is_compiled = False

    def _tested(self, names: Sequence[str], replaced: Collection[str]) -> tuple[str, int]:
        """See ``RunChild``. Raises: whatever ``spaces`` raises where it gives no GPU."""
        lines: list[str] = []
        try:
            for line in self._test_there(list(names), sorted(replaced)):
                lines.append(line)  # those before an error count
        except Exception:
            if not lines:
                raise
            return "\n".join(lines), -1
        return "\n".join(lines), 0

    def _test_here(self, names: Sequence[str], replaced: Sequence[str]) -> Iterator[str]:
        from sol_core.models.card.checks import check_lines
        from sol_core.models.card.small_model import Setting, Widths

        lm = self._loader.loaded().lm
        yield from check_lines(names, Setting(lm.device, lm.dtype, Widths.of_model(lm)), replaced)

    def _compile_here(self) -> None:
        from sol_core.generation.warm_up import warm_up_card

        warm_up_card(self._loader.loaded().lm)

    def stream(self, work: Work, should_stop: ShouldStop, steps: int) -> Iterator[Any]:
        """See ``Compute``. A stop while no GPU is there yet takes effect when one is."""
        asked = self._allowance(START_S + steps / STEPS_PER_S)
        with (
            self._flags.following(should_stop) as flag,
            _in_words(),
            contextlib.closing(self._stream_there(work, asked, flag)) as answers,
        ):
            for answer in answers:
                yield _unless_failed(answer)
        self._is_compiled = True

    def ask(self, question: Question[AnswerT]) -> AnswerT:
        with _in_words():
            asked = self._allowance(QUESTION_S)
            answer: AnswerT = _unless_failed(self._ask_there(question, asked))
        return answer

    def _allowance(self, seconds: float) -> int:
        """Seconds to ask for, within the owner's limit; longer while kernels must be compiled."""
        asked = math.ceil(min(self._seconds, seconds))
        return asked if self._is_compiled else min(LONGEST_CALL_S, math.ceil(asked + COMPILE_S))

    def _stream_here(self, work: Work, asked: int, flag: int) -> Iterator[Any]:
        ends_at = time.monotonic() + asked - RESERVE_S

        def should_stop() -> bool:
            return self._flags.is_set(flag) or time.monotonic() > ends_at

        def events() -> Iterator[Any]:
            yield from work(self._loader.loaded(), should_stop)

        stream = events()
        while (event := _caught(lambda: next(stream, None))) is not None:
            is_cut = getattr(event, "reason", "") == "stopped" and not self._flags.is_set(flag)
            yield dataclasses.replace(event, reason="time_limit") if is_cut else event

    def _ask_here(self, question: Question[Any], asked: int) -> Any:
        return _caught(lambda: question(self._workbench()))


class _StopFlags:
    """Bytes that this process and all that are forked from it see alike."""

    def __init__(self, count: int) -> None:
        self._bytes = mmap.mmap(-1, count)
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            self._free.put(number)

    def is_set(self, number: int) -> bool:
        return self._bytes[number] != 0

    @contextlib.contextmanager
    def following(self, should_stop: ShouldStop) -> Iterator[int]:
        """A flag that is set soon after ``should_stop`` says so, while the block runs."""
        number, is_over = self._free.get(), threading.Event()
        self._bytes[number] = should_stop()

        def watch() -> None:
            while not is_over.wait(WATCH_S):
                self._bytes[number] = should_stop()

        watcher = threading.Thread(target=watch, name="stop-flag", daemon=True)
        watcher.start()
        try:
            yield number
        finally:
            is_over.set()
            watcher.join()
            self._free.put(number)


def _caught(call: Callable[[], Any]) -> Any:
    """Return the call's result, or its error in words, which out of the fork have no class."""
    try:
        return call()
    except SolError as error:
        return AppError(str(error))
    except Exception as error:
        logger.exception("a call on ZeroGPU failed")
        return AppError(f"The call on ZeroGPU failed: {type(error).__name__}: {error}")


def _unless_failed(answer: Any) -> Any:
    if isinstance(answer, AppError):
        raise answer
    return answer


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Turn what ``spaces`` raises into AppError. It knows ``gradio.Error``, with a title."""
    try:
        yield
    except SolError:
        raise
    except Exception as error:  # ``spaces`` is foreign code: its errors have no common root
        title = str(getattr(error, "title", type(error).__name__))
        reason = str(getattr(error, "message", error)).strip().rstrip(".")
        advice = _ADVICE.get(title, f"Try again in a minute, {_ELSEWHERE}.")
        raise AppError(f"{title}: {reason}. {advice}") from error

"""A stand-in for the package ``spaces`` on ZeroGPU: its documented contract, without a GPU.

As ``spaces`` 0.51 does it:

- every call runs in a process forked from this one, in a thread of it; a process that has ended a
  call may be used again for the next (``REUSE``), and then knows nothing newer than its fork;
- arguments, yields and results are pickled; an exception arrives as ``gradio.Error`` with the
  name of its class, and so does the end of the process ("GPU task aborted");
- closing a decorated generator ends the call after what it is yielding;
- a call is killed when the duration that it asked for is over;
- CUDA must not be initialised here, and ``refuse`` is what the scheduler answers.

``CALLS`` has one entry per call. Nothing here knows the project.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import multiprocessing
import os
import pickle
import signal
import threading
from dataclasses import dataclass

import gradio as gr
import torch
from gradio.context import LocalContext

_fork = multiprocessing.get_context("fork")
REUSE = [False]
CALLS = []
refusals = []  # (title, message) of the next calls
_workers = {}


@dataclass
class Call:
    """One decorated call: what it asked for, whose quota it takes, and where it ran."""

    name: str
    duration: float
    ticket: str | None
    pid: int = 0
    ended: bool = False


class _Worker:
    """A forked process that does the calls of one function, one after another."""

    def __init__(self, task):
        self.requests, there = _fork.Pipe()
        self.stop = _fork.Event()
        self.process = _fork.Process(target=self._serve, args=(task, there), daemon=True)
        self.process.start()
        there.close()

    def _serve(self, task, there):
        self.requests.close()  # the parent's end
        while True:
            try:
                arguments = pickle.loads(there.recv_bytes())
            except EOFError:
                return
            self.stop.clear()
            # Not in the thread that forked: OpenMP's pool of that one is gone.
            thread = threading.Thread(target=self._answer, args=(task, there, arguments))
            thread.start()
            thread.join()

    def _answer(self, task, there, arguments):
        try:
            if inspect.isgeneratorfunction(task):
                events = task(*arguments)
                for event in events:
                    if self.stop.is_set():
                        events.close()
                        break
                    there.send_bytes(pickle.dumps(("value", event)))
                there.send_bytes(pickle.dumps(("end", None)))
            else:
                there.send_bytes(pickle.dumps(("end", task(*arguments))))
        except Exception as error:
            there.send_bytes(pickle.dumps(("error", type(error).__name__)))


def GPU(task, *, duration=60):
    """The decorator."""

    @functools.wraps(task)
    def generator(*arguments):
        with _running(task, duration, arguments) as worker:
            try:
                while (answer := _receive(worker))[0] == "value":
                    yield answer[1]
            except GeneratorExit:
                worker.stop.set()
                with contextlib.suppress(gr.Error):
                    while _receive(worker)[0] == "value":
                        pass
                raise

    @functools.wraps(task)
    def function(*arguments):
        with _running(task, duration, arguments) as worker:
            return _receive(worker)[1]

    return generator if inspect.isgeneratorfunction(task) else function


@contextlib.contextmanager
def _running(task, duration, arguments):
    """A process that has begun the call, and is killed when its time is over."""
    assert not torch.cuda.is_initialized(), "CUDA was initialised before the fork"
    request = LocalContext.request.get(None)
    ticket = None if request is None else request.headers.get("x-ip-token")
    seconds = duration(*arguments) if callable(duration) else duration
    call = Call(task.__name__, seconds, ticket)
    CALLS.append(call)
    if refusals:
        title, message = refusals.pop(0)
        raise gr.Error(message, title=title, print_exception=False)
    idle = _workers.get(task, [])
    worker = idle.pop() if idle else _Worker(task)
    call.pid = worker.process.pid
    worker.requests.send_bytes(pickle.dumps(arguments))
    timer = threading.Timer(seconds, functools.partial(os.kill, call.pid, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    is_whole = False
    try:
        yield worker
        is_whole = True
    finally:
        timer.cancel()
        call.ended = True
        if REUSE[0] and is_whole and worker.process.is_alive():
            _workers.setdefault(task, []).append(worker)
        else:
            worker.process.kill()
            worker.process.join()
            worker.requests.close()


def _receive(worker):
    try:
        kind, value = pickle.loads(worker.requests.recv_bytes())
    except (EOFError, ConnectionResetError):
        raise _error("GPU task aborted") from None
    if kind == "error":
        raise _error(value)
    return kind, value


def _error(message):
    return gr.Error(message, title="ZeroGPU worker error", print_exception=False)

"""Ctrl+C is answered at once, whatever the main thread is doing.

Python runs signal handlers between two of its own instructions, so a compiler delays them. Here a
thread reads the signal from a socket and ends the process if the main thread does not. What may
go on for a while, until a checkpoint, has a flag that every signal to end sets.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from app.host.console import Console

EXIT_INTERRUPTED = 130
# Time to end in order; a busy machine takes as much again until the process is gone. A checkpoint
# is at most 20 s old, so nobody waits for the unit of work.
GRACE_S = 1.0
_AGAIN_GRACE_S = 0.3
_NAP_S = 0.05
# Of signals that ask to end; no system has all.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")


@dataclass(slots=True)
class Notice:
    """Sentence that answers Ctrl+C."""

    kept: str = "nothing is kept"  # what is kept, and the line that goes on
    is_told: bool = False

    def tell(self) -> None:
        if not self.is_told:
            self.is_told = True
            Console().say(f"\ninterrupted: {self.kept}")


@contextmanager
def answering(notice: Notice) -> Iterator[None]:
    """Answer Ctrl+C within the block; outside the main thread do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(ours, notice), name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()  # which ends the thread
        thread.join()
        ours.close()


def leave(status: int = EXIT_INTERRUPTED) -> None:
    """End the process without waiting for threads inside a compiler."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _watch(ours: socket.socket, notice: Notice) -> None:
    while True:
        try:
            signals = ours.recv(16)
            if signal.SIGINT in signals:
                ours.settimeout(_AGAIN_GRACE_S if notice.is_told else GRACE_S)
                notice.tell()
        except TimeoutError:
            leave()
        if not signals:
            return


class StopFlag:
    """False until ``set``; a handler that ran while ``threading.Event`` waits would hang."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Sleep for as long, or until it is set; returns whether it is."""
        ends_at = time.monotonic() + seconds
        while not self.is_set() and (left := ends_at - time.monotonic()) > 0:
            time.sleep(min(_NAP_S, left))
        return self.is_set()


@contextmanager
def set_by_signals(stop: StopFlag) -> Iterator[None]:
    """Signals that ask to end, and are not ignored, set ``stop``; a second SIGINT ends at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

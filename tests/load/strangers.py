"""``python -m tests.load.strangers``: what others still get while strangers attack a real server.

One line for each attack, on a public server and on one's own machine (``--mode`` chooses), with the
default model. Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from app.host.database import open_database
from app.host.hosting import PUBLIC_VARIABLE
from app.host.limits import LIMITS_VARIABLE
from app.host.paths import DataDir
from app.site.server import SESSIONS
from sol_core.files.paths import DEFAULT_MODEL, default_data_dir
from tests.load.attacks import ATTACKS, BURST
from tests.load.page_client import PageClient, RefusedError
from tests.load.processes import address_of, launched, running
from tests.load.trial import MODEL_S, memory_mb
from tests.load.visitors import wait_for_model

LEAST_SERVED, SLOWEST_S, MOST_GROWN_MB = 0.99, 2.0, 50.0
PACE_S = 0.1  # between two rounds of the honest visitor
SETTLE_S = 3.0
SHORT = {"max_new_tokens": 4}
MODES = {"public": {PUBLIC_VARIABLE: "1", LIMITS_VARIABLE: "jobs=1,kept_mb=10"}, "own": {}}


@dataclass(slots=True)
class HonestVisitor:
    """Somebody at another address, who opens the page again and again; the waits are seconds."""

    url: str
    waits: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    _ends: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> HonestVisitor:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.set()
        assert self._thread is not None
        self._thread.join()

    def _work(self) -> None:
        while not self._ends.wait(PACE_S):
            with PageClient(self.url, timeout_s=30.0) as client:
                self._timed(client.open)
                if client.components:
                    self._timed(partial(client.ask, "explore", "home"))
                    listed = partial(client.ask, "history", "list_runs", query="", limit=9)
                    self._timed(listed)

    def _timed(self, call: Callable[[], object]) -> None:
        began = time.monotonic()
        try:
            call()
        except (httpx.HTTPError, RefusedError) as error:
            self.lost.append(f"{type(error).__name__}: {error}"[:120])
        self.waits.append(time.monotonic() - began)


def attack(name: str, url: str, pid: int, *, is_loading: bool = False) -> bool:
    """Run one attack beside an honest visitor; prints a line, returns whether the bars are met.

    While the model ``is_loading``, what memory grows by is the model's.
    """
    before = memory_mb(pid, "VmRSS") or 0.0
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here on
    began = time.monotonic()
    # In a process of its own: threads of this one would keep the honest visitor waiting.
    attacker = multiprocessing.get_context("spawn").Process(target=ATTACKS[name], args=(url,))
    with HonestVisitor(url) as honest:
        attacker.start()
        attacker.join()
        time.sleep(SETTLE_S)
    grown, peak = ((memory_mb(pid, name) or 0.0) - before for name in ("VmRSS", "VmHWM"))
    served = 1 - len(honest.lost) / len(honest.waits)
    slowest = max(honest.waits)
    is_met = served >= LEAST_SERVED and slowest <= SLOWEST_S
    is_met = is_met and (is_loading or grown <= MOST_GROWN_MB)
    memory = f"grown {grown:6.1f} MB (meanwhile {peak:.0f})"
    sys.stdout.write(
        f"{name:26} {len(honest.waits):5} honest calls, served {100 * served:5.1f} %, "
        f"slowest {slowest:5.2f} s, memory {'of a model' if is_loading else memory}, "
        f"{time.monotonic() - began:3.0f} s"
        f"  {'met' if is_met else 'MISSED'} {'; '.join(dict.fromkeys(honest.lost[:9]))}\n"
    )
    sys.stdout.flush()
    return is_met


def run_attacks(mode: str, names: list[str]) -> bool:
    """Start a server and attack it; returns whether every bar is met.

    The burst comes first, while the model loads, which must then be ready all the same.
    """
    os.environ.update(MODES[mode])
    with ExitStack() as started:
        user = DataDir(default_data_dir())
        processes = started.enter_context(launched(user, DEFAULT_MODEL, "auto"))
        data_dir = processes.data_dir
        data_dir.prepare()
        server = started.enter_context(running(processes.server, data_dir.logs / "server.out"))
        url = address_of(data_dir, server)
        sys.stdout.write(f"{mode}: {url}, nofile {_file_limits(server.pid)}\n")
        met = [attack(name, url, server.pid, is_loading=True) for name in names if name == BURST]
        with PageClient(url) as client:
            client.open()
            wait_for_model(client, MODEL_S)
            _warm_up(url)
            made = client.ask("explore", "start_run", prompt="The sea", settings=SHORT)["run_id"]
            met += [attack(name, url, server.pid) for name in names]
            kept = client.ask("history", "list_runs", query="", limit=9)["runs"]
            met.append(made in {run["id"] for run in kept})
        with open_database(data_dir) as store:
            jobs = len(store.jobs.list(limit=10_000))
        sys.stdout.write(
            f"{'a run of before':26} {'kept' if met[-1] else 'LOST'}, {jobs} jobs stored\n"
        )
        logs = sum(path.stat().st_size for path in data_dir.logs.iterdir())
        sys.stdout.write(f"{'logs':26} {logs / 1e6:.1f} MB\n")
    return all(met)


def _warm_up(url: str) -> None:
    """As many visitors as Gradio keeps sessions of: what a server takes anyway is no growth."""
    for _ in range(SESSIONS):
        with PageClient(url) as client:
            client.open()
            client.ask("explore", "home")


def _file_limits(pid: int) -> str:
    """The soft and the hard limit of file descriptors."""
    limits = Path(f"/proc/{pid}/limits").read_text("ascii")
    return " of ".join(limits.partition("Max open files")[2].split()[:2])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.strangers", description=__doc__)
    parser.add_argument("--mode", choices=MODES, action="append", help="(default: both)")
    parser.add_argument("--attack", choices=ATTACKS, action="append", help="(default: all)")
    args = parser.parse_args()
    met = [run_attacks(mode, args.attack or list(ATTACKS)) for mode in args.mode or MODES]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

"""A class of thirty at one lesson, over the real server and the real model.

Every pupil is a client of their own, who asks as the page does: again and again until the answer
is there. What was measured is logged; ``--log-cli-level=INFO`` shows it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.host.paths import DataDir
from tests.load.page_client import PageClient

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]
logger = logging.getLogger(__name__)

CLASS = 30
PATIENCE_S = 300.0  # of the test; how long they really wait is logged
MEMORY_MB = 300.0  # that a class may add; the model itself has several times that
LAUNCHER = Path(__file__).resolve().parents[3] / "launch.py"


@dataclass
class Pupil:
    """One client with the page open, and what happened to them.

    Attributes:
        places: how many the server said came first, answer by answer.
        waited_s: until the answer was there.
    """

    number: int
    client: PageClient
    places: list[int] = field(default_factory=list)
    waited_s: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)

    def measure(
        self, experiment: str, parameters: dict[str, Any], together: threading.Barrier
    ) -> None:
        """Ask for an experiment as the lesson does, until it is there."""
        self.places.clear()
        together.wait(60)
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            answer = self.client.ask(
                "learn", "ask_experiment", experiment=experiment, parameters=parameters
            )
            if answer["state"] == "done":
                self.waited_s = time.monotonic() - began
                self.result = answer["result"]
                return
            before = answer.get("before", 0)
            self.places.append(before)
            time.sleep(min(0.25 * (1 + max(before, len(self.places) / 4)), 1.0))
        raise AssertionError(f"pupil {self.number} has waited {PATIENCE_S:.0f} s, {self.places}")


@dataclass(frozen=True)
class Running:
    """A server in a process of its own."""

    url: str
    process_id: int

    def memory_mb(self) -> float:
        """Resident memory of the server."""
        status = Path(f"/proc/{self.process_id}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


@pytest.fixture
def server(tmp_path: Path, default_model_dir: Path) -> Iterator[Running]:
    data_dir = DataDir(tmp_path)
    command = [sys.executable, str(LAUNCHER), "--no-browser", "--port", "0"]
    command += ["--model", str(default_model_dir), "--data-dir", str(data_dir.root)]
    log = tmp_path / "server.txt"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ)
        try:
            url = None
            gives_up_at = time.monotonic() + 120
            while url is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < gives_up_at, log.read_text()
                url = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
                time.sleep(0.1)
            yield Running(url[0], process.pid)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def pupils(server: Running) -> Iterator[list[Pupil]]:
    """The class, and its teacher at the end."""
    with contextlib.ExitStack() as opened:
        made = []
        for number in range(CLASS + 1):
            client = opened.enter_context(PageClient(server.url, f"{number:032x}"))
            client.open()
            made.append(Pupil(number, client))
        yield made


def lesson(
    server: Running, pupils: list[Pupil], experiment: str, asked: list[dict[str, Any]]
) -> None:
    """The whole class asks at the same moment, each for their own parameters."""
    together = threading.Barrier(CLASS)
    with ThreadPoolExecutor(CLASS) as pool:
        tasks = [
            pool.submit(pupil.measure, experiment, parameters, together)
            for pupil, parameters in zip(pupils, asked, strict=True)
        ]
        for task in tasks:
            task.result()
    waits = sorted(pupil.waited_s for pupil in pupils)
    logger.info(
        "%s, %d questions of %d pupils: waited p50 %.1f s, p95 %.1f s, most %.1f s; "
        "longest line shown %d; server %.0f MB",
        *(experiment, len({str(one) for one in asked}), CLASS),
        *(statistics.median(waits), waits[int(0.95 * (CLASS - 1))], waits[-1]),
        *(max([0, *(place for pupil in pupils for place in pupil.places)]), server.memory_mb()),
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_thirty_pupils_get_their_own_answers_in_turn(
    server: Running, pupils: list[Pupil], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="httpx")  # which logs every call
    # The teacher tries it before the class: the model is loaded, its kernels are compiled.
    *pupils, teacher = pupils
    teacher.measure("pages", {"text": "recipe"}, threading.Barrier(1))
    teacher.measure("choices", {"text": "door", "picks": []}, threading.Barrier(1))

    # Everybody at the same lesson: one measurement for all.
    lesson(server, pupils, "pages", [{"text": "comet"}] * CLASS)
    assert len({pupil.result["measured_at"] for pupil in pupils}) == 1
    assert "".join(pupils[0].result["tokens"]).startswith("The comet Zelinka")
    before_mb = server.memory_mb()

    # Everybody their own question: a token of their own after the same beginning.
    tokens = [1000 + 7 * number for number in range(CLASS)]
    asked = [{"text": "capital", "picks": [token]} for token in tokens]
    lesson(server, pupils, "choices", asked)
    for pupil, parameters in zip(pupils, asked, strict=True):
        wanted = {"experiment": "choices", "parameters": parameters}
        again = teacher.client.ask("learn", "ask_experiment", **wanted)
        assert again["result"] == pupil.result  # theirs, and nobody else's
    assert len({"".join(pupil.result["picked"]) for pupil in pupils}) > 0.8 * CLASS

    for pupil in pupils:
        # A place in line that everybody has once, and that only gets better.
        assert all(0 <= place < CLASS for place in pupil.places)
        assert pupil.places == sorted(pupil.places, reverse=True)
    assert max(place for pupil in pupils for place in pupil.places) > CLASS / 2
    assert server.memory_mb() - before_mb < MEMORY_MB

"""Serves the app as a ZeroGPU Space does, on the stand-in for ``spaces`` and a tiny model.

``python -m tests.app.space_server DATA_DIR`` prints {"url": …, "pid": …}, then answers one JSON
line for each on its standard input: {"do": "calls" | "refuse" | "reuse", …}.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.support import spaces_stand_in

sys.modules["spaces"] = spaces_stand_in

from app.host.paths import DataDir  # noqa: E402  # as on ZeroGPU, spaces comes first
from app.site.server import launch_app  # noqa: E402
from app.web.services import build_services, engine_run  # noqa: E402
from kernels.cpu import threads as cpu_threads  # noqa: E402
from sol_core.models import FrozenLM  # noqa: E402
from tests.support.tiny_language_model import make_long_model  # noqa: E402

STEP_S = 0.1


@dataclasses.dataclass(frozen=True)
class Paced:
    """The real engine. "slow …" takes its time; "stuck …" hears nothing after three tokens."""

    engine: Any

    def __call__(self, model, prompt, config, should_stop):
        for number, event in enumerate(self.engine(model, prompt, config, should_stop)):
            yield event
            if prompt.startswith("slow"):
                time.sleep(STEP_S)
            if prompt.startswith("stuck") and number == 3:
                time.sleep(600)


def forbid_here(name):
    """The parent has no GPU: it computes nothing."""
    real, parent = getattr(FrozenLM, name), os.getpid()

    def guarded(*arguments, **options):
        assert os.getpid() != parent, f"{name} in the process that has no GPU"
        return real(*arguments, **options)

    setattr(FrozenLM, name, guarded)


def main():
    cpu_threads.why_no_kernels = lambda: "none"
    data_dir = DataDir(Path(sys.argv[1]))
    data_dir.prepare()
    model = make_long_model()
    for name in ("prefill", "decode_step"):
        forbid_here(name)
    services = build_services(
        data_dir,
        "tiny",
        lambda report: model,
        Paced(engine_run(data_dir)),
    )
    app = launch_app(services, host="127.0.0.1", port=0)
    say({"url": app.local_url, "pid": os.getpid()})
    # Not sys.stdin: a forked process closes its own, and would wait for this thread's lock on it.
    for line in os.fdopen(os.dup(0)):
        command = json.loads(line)
        if command["do"] == "refuse":
            spaces_stand_in.refusals.append((command["title"], command["message"]))
        if command["do"] == "reuse":
            spaces_stand_in.REUSE[0] = command["on"]
        say([dataclasses.asdict(call) for call in spaces_stand_in.CALLS])
        if command["do"] == "forget":
            spaces_stand_in.CALLS.clear()
    app.close(verbose=False)
    services.close()


def say(value):
    print(json.dumps(value), flush=True)  # noqa: T201  # to the test


if __name__ == "__main__":
    main()

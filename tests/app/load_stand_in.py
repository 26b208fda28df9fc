"""A page and workers on a stand-in engine, for the load test: run it as a script.

``load_stand_in.py strangers MINUTES`` lets strangers loose on a public page;
``load_stand_in.py serve FOLDER`` is the page of such a trial.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.host.paths import DataDir
from app.host.processes import hold_instance_lock, publish_url
from app.site.server import launch_app
from app.web.services import build_services
from tests.app import job_stand_in
from tests.load import Processes
from tests.support.fake_engine import FakeEngine, fake_load

STEP_S = 0.004  # 250 tokens a second
NUM_WORKERS = 2


def stand_in_processes(folder, num_workers=NUM_WORKERS):
    """A page on the stand-in engine and workers whose engine counts."""
    python = [sys.executable, "-W", "error"]
    worker = [*python, str(job_stand_in.__file__), str(folder), json.dumps({"poll_s": 0.05})]
    server = [sys.executable, str(Path(__file__).resolve()), "serve", str(folder)]
    return Processes(DataDir(folder), server, [worker] * num_workers)


def _serve(folder):
    data_dir = DataDir(folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with hold_instance_lock(data_dir.lock_file):
        services = build_services(data_dir, "fake-model", fake_load, FakeEngine(step_s=STEP_S))
        app = launch_app(services, host="127.0.0.1", port=0)
        try:
            publish_url(data_dir.lock_file, str(app.local_url))
            app.block_thread()
        except KeyboardInterrupt:
            app.close(verbose=False)
        finally:
            services.close()


def _let_strangers_loose(minutes):
    from tests.app.call_schemas import all_calls
    from tests.load.fuzz import strangers_report

    os.environ["SOL_PUBLIC"] = "1"
    handlers = [(call.tab, call.name, list(call.fields)) for call in all_calls()]
    with tempfile.TemporaryDirectory() as folder:
        report = strangers_report(stand_in_processes(Path(folder), 0), minutes, handlers)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["server_lives"] and not report["tracebacks"] else 1


def main(argv):
    """See the module's text."""
    if argv[:1] == ["strangers"]:
        return _let_strangers_loose(float(argv[1]))
    _serve(Path(argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A worker whose engine only counts: run it as a script, in a process of its own.

The counting job keeps a checkpoint in its folder like the real one, and writes down which
process did which step, so that a test can see what was done twice and by whom.
"""

import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.host.paths import DataDir
from app.jobs.worker import run_worker
from sol_core.progress import WorkFinished, WorkProgress, WorkSample, WorkStopped

CHECKPOINT, WORKED = "checkpoint.json", "worked.txt"


def count(task):
    """Count to params["steps"], one every params["step_s"] seconds.

    Other params: checkpoint_every (5), deaf (never looks at ``should_stop``).
    """
    params = {"steps": 10, "step_s": 0.0, "checkpoint_every": 5, "deaf": False, **task.job.params}
    checkpoint = task.folder / CHECKPOINT
    start = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else 0
    task.say("counting")
    for step in range(start, params["steps"]):
        if task.should_stop() and not params["deaf"]:
            _save(checkpoint, step)
            yield WorkStopped()
            return
        time.sleep(params["step_s"])
        with (task.folder / WORKED).open("a") as file:
            file.write(f"{os.getpid()} {step}\n")
        row = {"step": step, "phase": "grpo", "elapsed_s": 0.1, "metrics": {"kl": 1 / (step + 1)}}
        yield WorkProgress((step + 1) / params["steps"], "grpo", 1.0, row)
        yield WorkSample({"step": step})
        if (step + 1) % params["checkpoint_every"] == 0:
            _save(checkpoint, step + 1)
    yield WorkFinished({"policy": "counted", "pid": os.getpid()})


STAND_INS = {"train": count, "evaluate": count}


def worked_steps(data_dir, job_id):
    """(process id, step) in the order of work."""
    path = data_dir.jobs / job_id / WORKED
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(step)) for pid, step in (line.split() for line in lines)]


def _save(checkpoint, step):
    fresh = checkpoint.with_suffix(".new")
    fresh.write_text(json.dumps({"step": step}))
    fresh.replace(checkpoint)


def main(argv):
    """``job_stand_in.py FOLDER [OPTIONS as JSON]``"""
    options = json.loads(argv[1]) if len(argv) > 1 else {}
    return run_worker(DataDir(Path(argv[0])), STAND_INS, **options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A finished policy moves into the library once, wherever the worker is killed."""

import json
import subprocess
import sys

from app.host.paths import DataDir
from app.policies.library import PolicyLibrary
from tests.conftest import ROOT

# What a resumed job does: the trainer writes the policy anew, then the library adopts it. The
# process is killed just before its n-th look at, or change of, a file below the data directory.
CHILD = """
import json, os, sys
from pathlib import Path
from app.host.paths import DataDir
from app.policies.library import PolicyLibrary

root, job, wanted, killed_before = sys.argv[1:]
data_dir = DataDir(Path(root))
library = PolicyLibrary(data_dir)
folder = data_dir.jobs / job / "policy"
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text(json.dumps({"made by": job}))
count = 0

def watch(event, args):
    global count
    if event in ("open", "os.rename", "os.listdir", "os.scandir") and root in str(args[0]):
        count += 1
        if count == int(killed_before):
            os._exit(9)

sys.addaudithook(watch)
print(library.adopt(folder, wanted, job))
"""


def adopt(data_dir, job, killed_before=0):
    """The name that the policy got; None when the process was killed."""
    if not killed_before:
        folder = data_dir.jobs / job / "policy"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"made by": job}))
        return PolicyLibrary(data_dir).adopt(folder, "my policy", job)
    texts = [str(data_dir.root), job, "my policy", str(killed_before)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *texts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 9), done.stderr
    return None if done.returncode else done.stdout.strip()


def maker_of(data_dir, name):
    record = json.loads((data_dir.policies / name / "config.json").read_text("utf-8"))
    return str(record["made by"])


def test_a_worker_that_is_killed_at_any_step_adopts_its_own_policy_once(tmp_path):
    for step in range(1, 60):
        data_dir = DataDir(tmp_path / str(step))
        data_dir.prepare()
        adopt(data_dir, "first")
        name = adopt(data_dir, "mine", killed_before=step)
        # Meanwhile another job of the same wish ends, and takes whatever name is free.
        between = adopt(data_dir, "other")
        resumed = adopt(data_dir, "mine")
        assert maker_of(data_dir, between) == "other"
        assert maker_of(data_dir, resumed) == "mine"
        makers = [maker_of(data_dir, path.name) for path in data_dir.policies.iterdir()]
        assert sorted(makers) == ["first", "mine", "other"]
        if name is not None:
            assert name == resumed
            break
    assert 5 < step < 59, "every step was tried, and the last one killed nothing"


def test_a_renamed_policy_is_still_the_jobs(data_dir):
    library = PolicyLibrary(data_dir)
    assert adopt(data_dir, "mine") == "my policy"
    library.rename("my policy", "better")
    assert adopt(data_dir, "mine") == "better"
    library.delete("better")
    assert adopt(data_dir, "mine") == "my policy", "made again, since nothing is left of it"

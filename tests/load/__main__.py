"""``python -m tests.load``: the trial on the real model; ends with 1 if anything went wrong."""

import argparse
import json
import sys

from app.host.console import Console
from app.host.paths import DataDir
from sol_core.files.paths import DEFAULT_MODEL, default_data_dir
from tests.load import LoadOptions, launched, run_trial

parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
parser.add_argument("--clients", type=int, default=20, help="visitors")
parser.add_argument("--jobs", type=int, default=50, help="queued jobs")
parser.add_argument("--new-tokens", type=int, default=48, help="of each visitor")
args = parser.parse_args()
options = LoadOptions(args.clients, args.jobs, args.new_tokens)
with launched(DataDir(default_data_dir()), DEFAULT_MODEL, "auto") as processes:
    report = run_trial(processes, options, Console().say)
sys.stdout.write(json.dumps(report, indent=1) + "\n")
sys.exit(1 if report["problems"] else 0)

"""Weights and caches are read in pieces of 16 bytes, ahead of their use: the PTX is the proof."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CARDS = ("80", "90", "120")


@pytest.mark.timeout(300)
def test_weights_and_caches_are_read_in_wide_pieces():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.app.bench.wide_reads", *CARDS]
    child = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True)
    counts = json.loads(child.stdout)
    assert len(counts) == 4 * len(CARDS)
    for name, (wide, narrow) in counts.items():
        assert wide >= 2, f"{name}: {wide} reads of 16 bytes, {narrow} of 2"
        # One gathers its inputs, the other reads two scales a token.
        assert name.startswith(("multiply_rows gate", "weigh_pages")) or narrow == 0, name

"""A rank as a fork of a process that has imported all that a training imports: no seconds of start.

What is imported here starts no thread, which a fork would be without.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch._dynamo  # an optimiser's; the largest of all
from transformers import PreTrainedTokenizerFast  # noqa: F401

import kernels.decode_layer.step
import kernels.policy_step.cpu  # noqa: F401
from tests.sol_core import ranks_child

__all__ = ["run_rank"]


def run_rank(variables: Mapping[str, str], errors: Path, arguments: Sequence[str]) -> None:
    """``ranks_child.py`` with these variables and arguments; what it says goes to a file."""
    torch.set_num_threads(1)
    os.environ.update(variables)
    sys.argv[1:] = arguments
    with errors.open("wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
        sys.exit(ranks_child.main())

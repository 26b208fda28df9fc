"""Checks a card: each operation's Triton kernels, whole decode steps, and their graphs.

``python -m sol_core.models.card.checks DEVICE DTYPE WIDTHS REPLACED CHECK…`` prints JSON lines up
to the first error, because a CUDA error invalidates the process. The device "cpu" is Triton's
interpreter. Steps run with the operations that will be used, so replaced ones are replaced here.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from kernels.gpu import triton_support as gpu
from sol_core.actions import DEFAULT_GRID, DENSE, GRIDS, Action
from sol_core.models.card import operations
from sol_core.models.card.operations import both, by_references, check_no_farther, compare
from sol_core.models.card.small_model import Setting, Widths, small_model, small_tensors
from sol_core.models.devices import DTYPES
from sol_core.models.signals import Observe
from sol_core.models.step.clock import StepClock
from sol_core.models.step.graph import StepGraphs

STEPS = "steps"  # eager decode steps against the references'
GRAPHS = "graphs"  # steps in CUDA graphs against eager ones

_NUM_STEPS = 32  # per kind
_CONTEXT = {"cuda": 600, "cpu": 100}  # tokens: a long text's attention is split
_HALF = Action(0.5, 0.5)
# Actions by row; several rows share a prefix.
_KINDS = {"dense": [DENSE], "sparse": [_HALF], "several": [_HALF, DENSE, Action(0.3, 0.7, 8)]}


def run_check(name: str, at: Setting) -> None:
    """Run one of ``CHECKS``. Raises: WrongNumbersError, or any error of a compiler or CUDA."""
    torch.manual_seed(at.seed)
    with gpu.kernels_must_start():
        CHECKS[name](at)
    if at.device.type == "cuda":
        torch.cuda.synchronize(at.device)  # an error of a launch is raised here at the latest


def check_lines(names: Sequence[str], at: Setting, replaced: Collection[str] = ()) -> Iterator[str]:
    """Run some of ``CHECKS`` in order, up to the first error; yield JSON lines."""
    gpu.use_reference(replaced)
    with gpu.triton_on_cpu() if at.device.type == "cpu" else contextlib.nullcontext():
        for name in names:
            yield json.dumps([name])
            try:
                run_check(name, at)
            except Exception as error:  # any error of Triton's compiler, its tools or CUDA
                lines = str(error).strip().splitlines() or [""]
                yield json.dumps([name, f"{type(error).__name__}: {lines[-1][:200]}"])
                return
            yield json.dumps([name, None])


def _check_steps(at: Setting) -> None:
    tensors = small_tensors(at.widths, at.seed)
    mine, right = both(_logits_of_steps, at, tensors)
    stored = {name: tensor.to(at.dtype).float() for name, tensor in tensors.items()}
    exact = by_references(_logits_of_steps, at._replace(dtype=torch.float32), stored)
    for kind, logits in exact.items():
        given = mine[kind], right[kind], logits
        check_no_farther(f"logits of {kind} steps", *given, by_step=True)


def _check_graphs(at: Setting) -> None:
    graphs = StepGraphs.make(at.device)
    if graphs is None:
        return
    tensors = small_tensors(at.widths, at.seed)
    for timed in (False, True):
        graphed = _logits_of_steps(at, tensors, graphs, timed=timed)
        for kind, logits in _logits_of_steps(at, tensors, timed=timed).items():
            compare(f"{kind} steps in CUDA graphs", graphed[kind], logits, 0.0)
    if graphs.failure is not None:
        raise gpu.KernelNotStartedError(graphs.failure)


CHECKS: dict[str, Callable[[Setting], None]] = {
    "add_and_norm": operations.check_residual,
    "rotate_and_write": operations.check_writes,
    "page_attention": operations.check_attention,
    "gated_mlp": operations.check_mlp,
    "keep_largest_channels": operations.check_pruning,
    "fake_quantise": operations.check_quantisation,
    STEPS: _check_steps,
    GRAPHS: _check_graphs,
}


def _logits_of_steps(
    at: Setting, tensors: dict[str, Tensor], graphs: StepGraphs | None = None, timed: bool = False
) -> dict[str, Tensor]:
    """Return a small model's logits [steps · R, V] by kind of step, after a prefill."""
    context, device = _CONTEXT[at.device.type], at.device
    lm = small_model(tensors, at)
    lm.graphs = graphs
    tokens = torch.arange(context + _NUM_STEPS, device=device) * 7 % lm.spec.vocab_size
    how, made = GRIDS[DEFAULT_GRID].mechanisms, {}
    for kind, actions in _KINDS.items():
        cache = prefix = lm.new_cache(1, context + _NUM_STEPS)
        lm.prefill(tokens[None, :context], prefix)
        if len(actions) > 1:
            cache = prefix.branch(len(actions), _NUM_STEPS)
        logits = []
        for token in tokens[context:].split(1):
            given = token.expand(len(actions)), cache, actions
            clock, seen = StepClock(device) if timed else None, Observe.CONCENTRATION
            output = lm.decode_step(*given, mechanisms=how, observe=seen, clock=clock)
            logits.append(output.logits)
        made[kind] = torch.cat(logits)
    return made


def main(device: str, dtype: str, widths: str, replaced: str, *names: str) -> None:
    """Run the named checks and print their lines."""
    at = Setting(torch.device(device), DTYPES[dtype], Widths(*json.loads(widths)))
    for line in check_lines(names, at, json.loads(replaced)):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

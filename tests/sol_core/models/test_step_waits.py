"""A decode step on a GPU must not wait for it: nothing comes back to the host in between.

Seen without a GPU on torch's "meta" device: its tensors have no numbers, so ``.item()``,
``.cpu()``, ``.tolist()``, ``nonzero`` or a branch on a value raise there.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels.gpu.triton_support import recorded_launches
from sol_core.actions import DENSE, Action, Mechanisms, QuantSite
from sol_core.models import FrozenLM, StepOutput
from sol_core.models.cache import KVCache
from sol_core.models.signals import Observe
from sol_core.models.step.graph import StepGraphs
from tests.sol_core.tape import Tape, tape_capture
from tests.support.tiny_models import make_tiny_lm, moved

CASES = {
    "dense": [DENSE] * 4,
    "compressed": [Action(0.3, 0.5, 6)] * 4,
    "mixed": [Action(0.3, 0.5, 6), DENSE, Action(0.6, 0.8, 16), Action(0.2, 1.0, 9)],
}


class _CopiesFromHost(TorchDispatchMode):
    """Counts operations that read a tensor of the host into one of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {leaf.device.type for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
        made = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        self.count += "cpu" in given and "meta" in given | made
        return result


class _HostTensors(TorchFunctionMode):
    """Counts tensors that are made from numbers of the host: each is a copy to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += function in (torch.tensor, torch.as_tensor, torch.from_numpy)
        return function(*args, **(kwargs or {}))


def _decoding(family: str) -> tuple[FrozenLM, KVCache]:
    """A model and four ragged rows behind shared prefixes, one compressed step in."""
    lm = moved(make_tiny_lm(family), "meta")
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(torch.zeros(2, 13, dtype=torch.int64, device="meta"), cache)
    rows = cache.branch(2, 6, lengths=[13, 10])
    _step(lm, rows, CASES["compressed"], "mlp_output")
    return lm, rows


def _step(lm: FrozenLM, rows: KVCache, actions: list[Action], site: QuantSite) -> torch.Tensor:
    tokens = torch.zeros(4, dtype=torch.int64, device="meta")
    return lm.decode_step(
        tokens, rows, actions, mechanisms=Mechanisms(quant_site=site), observe=Observe.CONCENTRATION
    ).logits


@pytest.mark.parametrize("family", ["llama3-rope", "mistral-window", "qwen3", "gemma3"])
@pytest.mark.parametrize("site", ["mlp_output", "mlp_input"])
def test_a_step_brings_nothing_back_to_the_host(family: str, site: QuantSite) -> None:
    with recorded_launches():
        lm, rows = _decoding(family)
        for actions in CASES.values():
            logits = _step(lm, rows, actions, site)
            assert (logits.device.type, logits.shape) == ("meta", (4, lm.spec.vocab_size))
            with pytest.raises(RuntimeError):
                logits.argmax().item()


@pytest.mark.parametrize("family", ["llama3-rope", "gemma3"])
def test_layers_copy_nothing_from_the_host(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step needs from the host is made with its plan, once for all layers."""
    watched = _HostTensors()
    inside = FrozenLM._decode

    def watch(*arguments: Any) -> Any:
        with watched:
            return inside(*arguments)

    with recorded_launches():
        lm, rows = _decoding(family)
        monkeypatch.setattr(FrozenLM, "_decode", watch)
        for actions in CASES.values():
            _step(lm, rows, actions, "mlp_output")
    assert watched.count == 0


@pytest.mark.parametrize("family", ["llama3-rope", "gemma3"])
@pytest.mark.parametrize("case", CASES)
def test_a_step_copies_once_from_the_host_and_a_replay_too(family: str, case: str) -> None:
    """The step's numbers; its tokens are on the device already."""
    tapes: list[Tape] = []

    def capture(*arguments: Any) -> tuple[Tape, StepOutput]:
        tape, output = tape_capture(*arguments)
        tapes.append(tape)
        return tape, output

    with recorded_launches():
        lm, rows = _decoding(family)
        lm.graphs = StepGraphs(capture)
        counts = []
        for _ in range(5):
            with _CopiesFromHost() as copies:
                _step(lm, rows, CASES[case], "mlp_output")
            counts.append(copies.count)
    assert counts == [1, 1, 2, 1, 1]  # the third is captured first, with numbers of its own
    assert [tape.replays for tape in tapes] == [3]

"""A step waits for no GPU, as torch's "meta" device shows: no tensor there has numbers to read."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernels.gpu.triton_support import recorded_launches
from sol_core.actions import DENSE, GRIDS, Action, Mechanisms
from sol_core.config import SamplingConfig
from sol_core.decoding.batch_scheduling import RowSchedules, StepReads
from sol_core.decoding.loop import DecodeOptions, decode
from sol_core.decoding.schedules import FixedSchedule
from sol_core.generation.sampling import TokenSampler
from sol_core.models import StepOutput
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

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {leaf.device.type for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
        made = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        self.count += "cpu" in given and "meta" in given | made
        return result


def _decoding(family):
    """A model and four ragged rows behind shared prefixes, one compressed step in."""
    lm = moved(make_tiny_lm(family), "meta")
    cache = lm.new_cache(2, 24, page_size=4)
    lm.prefill(torch.zeros(2, 13, dtype=torch.int64, device="meta"), cache)
    rows = cache.branch(2, 6, lengths=[13, 10])
    _step(lm, rows, CASES["compressed"], "mlp_output")
    return lm, rows


def _step(lm, rows, actions, site):
    tokens = torch.zeros(4, dtype=torch.int64, device="meta")
    return lm.decode_step(
        tokens, rows, actions, mechanisms=Mechanisms(quant_site=site), observe=Observe.CONCENTRATION
    ).logits


@pytest.mark.parametrize("family", ["llama3-rope", "mistral-window", "gemma3"])
@pytest.mark.parametrize("site", ["mlp_output", "mlp_input"])
def test_a_step_brings_nothing_back_to_the_host(family, site):
    with recorded_launches():
        lm, rows = _decoding(family)
        for actions in CASES.values():
            logits = _step(lm, rows, actions, site)
            assert (logits.device.type, logits.shape) == ("meta", (4, lm.spec.vocab_size))
            with pytest.raises(RuntimeError):
                logits.argmax().item()


@pytest.mark.parametrize("family", ["llama3-rope", "gemma3"])
@pytest.mark.parametrize("case", CASES)
def test_a_step_copies_once_from_the_host_and_a_replay_too(family, case):
    """The step's numbers; its tokens are on the device already."""
    with recorded_launches():
        lm, rows = _decoding(family)
        lm.graphs = StepGraphs(tape_capture)
        counts = []
        for _ in range(5):
            with _CopiesFromHost() as copies:
                _step(lm, rows, CASES[case], "mlp_output")
            counts.append(copies.count)
    assert counts == [1, 1, 2, 1, 1]  # the third is captured first, with numbers of its own
    (captured,) = lm.graphs._graphs.values()
    assert isinstance(captured.graph, Tape)
    assert captured.graph.replays == 3


def test_a_generated_token_waits_for_the_device_once(monkeypatch):
    """All that its consumer looks at comes in one copy; numbers of any other tensor would raise."""
    copies = []

    def random_copy(output):
        copies.append(output.logits.shape[0])
        return replace(
            output,
            hidden=torch.randn(output.hidden.shape),
            logits=torch.randn(output.logits.shape),
            tokens_read=torch.ones(output.tokens_read.shape, dtype=torch.int64),
        )

    monkeypatch.setattr(StepOutput, "on_host", random_copy)
    options = DecodeOptions(5, GRIDS["default"].mechanisms, on_host=True)
    with recorded_launches():
        lm = moved(make_tiny_lm("llama3-rope"), "meta")
        cache = lm.new_cache(1, 24, page_size=4)
        lm.prefill(torch.zeros(1, 13, dtype=torch.int64, device="meta"), cache)
        rows = RowSchedules([FixedSchedule([DENSE, Action(0.3, 0.5, 6)])])
        sampler = TokenSampler(SamplingConfig(temperature=1.0))

        def drawn(step):
            assert step.reads == (StepReads(float(lm.spec.num_layers)),)
            assert step.entropy.tolist()[0] > 0
            return [sampler.draw(step.output.logits[0])]

        assert len(list(decode(lm, cache.branch(1, 5), [7], rows, drawn, options))) == 5
    assert copies == [1] * 5


def test_one_copy_holds_a_whole_step(generator):
    output = StepOutput(
        torch.randn(2, 8, generator=generator),
        torch.randn(2, 30, generator=generator),
        torch.tensor([[3, 1], [2**24 - 1, 0]]),
        mid_hidden=torch.randn(2, 2, 8, generator=generator),
        page_readers=torch.arange(8, dtype=torch.uint8).view(2, 2, 2),
    )
    copied = output.on_host()
    for name in StepOutput.__slots__:
        right, mine = getattr(output, name), getattr(copied, name)
        assert (mine is None) == (right is None)
        assert right is None or (mine.dtype == right.dtype and torch.equal(mine, right))

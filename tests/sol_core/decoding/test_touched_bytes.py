"""The bytes that the cost model counts against a stand-in that marks what a step reads."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kernels.decode_layer import few_row_kernel, multiplies_quantised
from kernels.quantised_weights import unpack_blocks
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.decoding.cost import CostModel
from sol_core.models import FrozenLM, spec_from_config
from sol_core.models.weights import arrange_weights
from tests.kernels.test_quantised_weights import make_blocks
from tests.sol_core.decoding.touched_step import TouchedStep

CONFIG = LlamaConfig(
    vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
    num_attention_heads=8, num_key_value_heads=2, head_dim=32, max_position_embeddings=8192,
    tie_word_embeddings=True,
)  # fmt: skip
MIXES = (DENSE, Action(0.3, 0.6, 16), Action(0.1, 1.0, 16), Action(1.0, 0.45, 16))
MIXES += (Action((0.1, 1.0), (0.9, 0.35)), Action(0.4, (1.0, 0.5)), Action((1.0, 0.3), 0.7))


@pytest.fixture(scope="module")
def model():
    """A model whose steps read 4-bit blocks, and a head in 8 bits."""
    state = LlamaForCausalLM(CONFIG).state_dict()
    tensors = {name: tensor.float() for name, tensor in state.items()}
    del tensors["lm_head.weight"]
    blocks = {}
    for seed, (name, tensor) in enumerate(tensors.items()):
        if "embed" in name:
            blocks[name] = make_blocks("Q8_0", *tensor.shape, seed)
        elif tensor.dim() == 2:
            blocks[name] = scaled(make_blocks("Q4_1", *tensor.shape, seed), 0.05)
    tensors |= {name: unpack_blocks(block) for name, block in blocks.items()}
    spec = spec_from_config(CONFIG)
    return FrozenLM(spec, arrange_weights(tensors, spec, torch.float32, blocks=blocks)), blocks


def scaled(block, factor):
    """The block with smaller weights, so that two layers stay far from overflow."""
    data = block.data.clone()
    heads = data[..., :4].contiguous().view(torch.float16)
    data[..., :4] = (heads.float() * factor).half().view(torch.uint8)
    return block._replace(data=data)


@pytest.mark.skipif(
    few_row_kernel() is None or not multiplies_quantised(), reason="Numba cannot run here"
)
@pytest.mark.parametrize("grid", ["paper", "default"])
@pytest.mark.parametrize("length", [64, 8191])
def test_counted_bytes_are_those_that_a_step_touches(length, grid, model):
    lm, blocks = model
    generator = torch.Generator().manual_seed(length)
    shape = (2, 2, length - 1, 32)
    keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
    costs = CostModel.of(lm, GRIDS[grid])
    for action in MIXES:
        cache = lm.new_cache(1, length + 8)
        for layer in range(2):
            cache.write(layer, keys[layer : layer + 1], values[layer : layer + 1])
        cache.advance(length - 1)
        step = TouchedStep(lm, blocks, keys, values, GRIDS[grid])
        logits = step.run(7, action)
        real = lm.decode_step(torch.tensor([7]), cache, action, mechanisms=GRIDS[grid].mechanisms)
        # The stand-in takes the same step: the same channels, the same pages.
        torch.testing.assert_close(real.logits[0], logits, atol=2e-3, rtol=1e-3)
        counted = costs.decode_step(action, length, StepReads(sum(step.tokens_read)))
        assert counted.bytes_read == pytest.approx(step.nbytes, rel=0.02)

"""Steps of few rows on the blocks that a GGUF file holds, and the file that keeps them."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from kernels.quantised_weights import unpack_blocks
from sol_core.actions import DENSE, GRIDS, Action
from sol_core.errors import ModelLoadError
from sol_core.files.paths import BLOCKS_NAME
from sol_core.models import FrozenLM, spec_from_config
from sol_core.models.step.few_row_weights import packed_weights
from sol_core.models.weights import arrange_weights, read_blocks
from tests.kernels.test_quantised_weights import can_multiply, make_blocks

ACTIONS = (DENSE, Action(0.4, 1.0), Action(1.0, 0.6), Action(0.3, 0.5))
ROUNDED = ([Action(1.0, 1.0, 8), Action(0.5, 0.6, 6), Action(1.0, 0.6, 12)],)
CONFIG = LlamaConfig(
    vocab_size=192, hidden_size=128, intermediate_size=384, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=256,
    tie_word_embeddings=True,
)  # fmt: skip


@pytest.fixture(scope="module", params=["Q4_1", "Q8_0"])
def blocks(request):
    """Blocks for every matrix, the layers' of one kind and the embedding's of Q8_0."""
    shapes = LlamaForCausalLM(CONFIG).state_dict()
    return {
        name: make_blocks("Q8_0" if "embed" in name else request.param, *tensor.shape, seed)
        for seed, (name, tensor) in enumerate(shapes.items())
        if tensor.dim() == 2 and name != "lm_head.weight"
    }


@pytest.fixture(scope="module")
def tensors(blocks):
    whole = {name: tensor.float() for name, tensor in LlamaForCausalLM(CONFIG).state_dict().items()}
    whole.pop("lm_head.weight")
    return whole | {name: unpack_blocks(one) for name, one in blocks.items()}


def make_model(tensors, blocks=None):
    spec = spec_from_config(CONFIG)
    return FrozenLM(spec, arrange_weights(tensors, spec, torch.float32, blocks=blocks))


# Rounded activations may fall to the next level where their float differs in the last bit.
@can_multiply
@pytest.mark.parametrize(
    ("grid", "rows", "site", "block", "tolerance"),
    [
        ("paper", 1, "mlp_output", 0, 2e-3),
        ("default", 3, "mlp_output", 0, 2e-3),
        ("default", 3, "mlp_input", 0, 2e-2),  # with blocks of 4 bits, products of integers
        ("default", 3, "mlp_input", 32, 2e-2),
    ],
)
def test_steps_read_the_blocks_and_find_the_same(
    grid, rows, site, block, tolerance, blocks, tensors
):
    how = replace(GRIDS[grid].mechanisms, quant_site=site, quant_block=block)
    tokens = torch.randint(3, 190, (rows, 60), generator=torch.Generator().manual_seed(0))
    plain, packed = make_model(tensors), make_model(tensors, blocks)
    plain.__dict__["_few_rows"] = None  # the cached property, decided: no few-row kernels
    found = []
    for model in (packed, plain):
        cache = model.new_cache(rows, 80)
        model.prefill(tokens[:, :50], cache)
        steps = [
            model.decode_step(tokens[:, 50 + n], cache, action, mechanisms=how).logits
            for n, action in enumerate(ACTIONS if site == "mlp_output" else ROUNDED)
        ]
        found.append(torch.stack(steps))
    torch.testing.assert_close(*found, atol=tolerance, rtol=1e-3)
    # Q8_0 blocks get minima here, two bytes of 34; norms are fp32.
    size = sum(one.data.nbytes * (18 / 17) ** (one.kind == "Q8_0") for one in blocks.values())
    stored = packed.weight_bytes
    parts = (stored.attention, stored.gate_up, stored.down, stored.head)
    assert 0 <= sum(part.nbytes for part in parts) - size < 10_000


def test_only_whole_models_of_known_sizes_are_packed(blocks, tensors):
    assert packed_weights(make_model(tensors, blocks).weights) is not None
    assert packed_weights(make_model(tensors).weights) is None
    for missing in ("model.embed_tokens.weight", "model.layers.1.self_attn.k_proj.weight"):
        some = {name: one for name, one in blocks.items() if name != missing}
        assert packed_weights(make_model(tensors, some).weights) is None


def test_the_file_must_be_whole_and_of_these_weights(blocks, tensors, tmp_path):
    assert read_blocks(tmp_path, tensors) == {}
    kinds = json.dumps({name: one.kind for name, one in blocks.items()})
    path = tmp_path / BLOCKS_NAME
    save_file({name: one.data for name, one in blocks.items()}, path, {"kinds": kinds})
    found = read_blocks(tmp_path, tensors)
    assert found.keys() == blocks.keys()
    assert all(torch.equal(found[name].data, blocks[name].data) for name in blocks)
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ModelLoadError, match=f"its {name} is not the model's"):
        read_blocks(tmp_path, tensors | {name: tensors[name] + 1e-6})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match=BLOCKS_NAME):
        read_blocks(tmp_path, tensors)


@pytest.mark.model
def test_the_default_model_s_blocks_are_its_weights(model_data_dir):
    from safetensors.torch import load_file

    folder = model_data_dir / "models" / "smollm2-135m-instruct"
    tensors = load_file(folder / "model.safetensors")
    found = read_blocks(folder, tensors)
    assert len(found) == 30 * 7 + 1
    assert all(torch.equal(unpack_blocks(one), tensors[name]) for name, one in found.items())

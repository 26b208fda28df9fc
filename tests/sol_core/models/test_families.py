"""Our decoder against transformers, for every family: prefill and 20 decode steps."""

import pytest
import torch

from sol_core.errors import ModelLoadError
from sol_core.models import spec_from_config
from sol_core.models.weights import arrange_weights
from tests.support.tiny_models import FAMILIES, make_pair

TOLERANCE = 1e-4
PROMPT, STEPS = 23, 20
ids = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@ids
def test_prefill_in_parts_and_decode_match_transformers(family):
    reference, lm = make_pair(family)
    tokens = torch.randint(3, 199, (1, PROMPT + STEPS))
    with torch.no_grad():
        expected = reference(tokens).logits
    cache = lm.new_cache(1, PROMPT + STEPS)
    parts = [lm.prefill(chunk, cache) for chunk in tokens[:, :PROMPT].split(10, dim=1)]
    assert (lm.logits(torch.cat(parts, dim=1)) - expected[:, :PROMPT]).abs().max() <= TOLERANCE
    for position in range(PROMPT, PROMPT + STEPS):
        output = lm.decode_step(tokens[:, position], cache)
        assert (output.logits - expected[:, position]).abs().max() <= TOLERANCE


@ids
def test_left_padded_batch_matches_transformers(family):
    reference, lm = make_pair(family)
    lengths = [PROMPT, PROMPT - 7, PROMPT - 16]
    tokens = torch.randint(3, 199, (3, PROMPT + STEPS))
    mask = torch.ones_like(tokens)
    for row, length in enumerate(lengths):
        mask[row, : PROMPT - length] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = reference(tokens, attention_mask=mask, position_ids=positions).logits
    pairs = zip(tokens[:, :PROMPT], lengths, strict=True)
    aligned = torch.stack([row.roll(length - PROMPT) for row, length in pairs])
    cache = lm.new_cache(3, PROMPT + STEPS)
    hidden = lm.prefill(aligned, cache, lengths)
    last = hidden[torch.arange(3), torch.tensor(lengths) - 1]
    assert (lm.logits(last) - expected[:, PROMPT - 1]).abs().max() <= TOLERANCE
    for position in range(PROMPT, PROMPT + STEPS):
        output = lm.decode_step(tokens[:, position], cache)
        assert (output.logits - expected[:, position]).abs().max() <= TOLERANCE


REMOVED = torch.empty(0)  # stands for a tensor that is left out


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("model.layers.1.mlp.up_proj.weight", REMOVED, r"layers\.1\.mlp\.up_proj"),
        ("model.layers.0.self_attn.sinks", torch.zeros(3), "sinks"),
        ("model.norm.weight", torch.zeros(5), r"model\.norm.*\(5,\)"),
    ],
    ids=["missing", "left over", "misshapen"],
)
def test_weights_that_do_not_fit_are_named(name, tensor, words):
    reference, _ = make_pair(FAMILIES[0])
    tensors = {k: v for k, v in reference.state_dict().items() if k != "lm_head.weight"}
    tensors[name] = tensor
    if tensor is REMOVED:
        del tensors[name]
    with pytest.raises(ModelLoadError, match=words):
        arrange_weights(tensors, spec_from_config(reference.config), torch.float32)


class _OnZeroGpu(torch.Tensor):
    """A tensor of ZeroGPU's main process: its device says cuda, ``is_cuda`` says no."""

    @property
    def device(self):
        return torch.device("cuda")


def test_the_mlp_lies_in_channel_major_on_zero_gpu_too():
    reference, lm = make_pair(FAMILIES[0])
    tensors = reference.state_dict()

    def emulated(tensor):
        return tensor.as_subclass(_OnZeroGpu)

    weights = arrange_weights(tensors, lm.spec, torch.bfloat16, emulated)
    layer = weights.layers[0]
    assert not layer.down.weight.is_cuda
    assert layer.down.weight.is_contiguous()
    assert layer.gate_up.weight.is_contiguous()
    assert not layer.query_key_value.weight.is_contiguous()

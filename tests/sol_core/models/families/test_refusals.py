"""Models that the decoder does not have: refused by name, before any weight is read."""

import json

import pytest
import transformers

from sol_core.errors import ModelLoadError, UnsupportedModelError
from sol_core.models.families.readers import SUPPORTED_FAMILIES
from sol_core.models.loading import load_language_model

YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 2.0}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0], "long_factor": [1.0]}


def _rope(**values):
    return {"rope_parameters": {"rope_theta": 1e4} | values}


def _of(name, **values):
    return getattr(transformers, f"{name}Config")(**values)


CASES = {
    "mixtral": (_of("Mixtral"), {}, r"'mixtral' is not supported \(a mixture of experts\); "
                f"supported: {', '.join(SUPPORTED_FAMILIES)}$"),
    "t5": (_of("T5"), {}, r"'t5' is not supported \(an encoder and a decoder"),
    "falcon-alibi": (_of("Falcon", alibi=True), {}, r"'falcon' .*\(ALiBi's position biases\)"),
    "mamba": (_of("FalconMamba"), {}, r"'falcon_mamba' is not supported \(a state space\)"),
    "gpt2": (_of("GPT2"), {}, r"'gpt2' is not supported \(learned positions\)"),
    "cross": (_of("Llama"), {"add_cross_attention": True}, r"asks for cross-attention, which is"),
    "activation": (_of("Llama"), {"hidden_act": "relu2"}, r"activation 'relu2' .* silu, gelu_py"),
    "gemma-act": (_of("Gemma2", hidden_activation="gelu"), {}, r"activation 'gelu' is not"),
    "partial": (_of("Llama"), {"partial_rotary_factor": 0.5}, r"rotary_factor = 0\.5 .*phi3"),
    "rope": (_of("Llama"), {"rope_parameters": YARN | {"rope_type": "proportional"}},
             r"rope scaling 'proportional' is not supported; supported: default, linear, dynamic"),
    "no-factor": (_of("Llama"), _rope(rope_type="linear"), "need a number 'factor', got None"),
    "short": (_of("Llama"), _rope(**LONG), "'short_factor', one number for each of 64 pairs"),
    "odd-heads": (_of("Llama"), {"head_dim": 33}, r"33 rotated of 33 channels"),
    "odd-part": (_of("Phi3"), {"rope_parameters": {
        "rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.99}}, "95 rotated"),
    "norms": (_of("Qwen3", head_dim=20), {}, r"heads of 20 channels with norms of queries"),
    "uneven": (_of("Llama"), {"num_key_value_heads": 5}, "32 query heads cannot share 5"),
    "two-way": (_of("Gemma2", use_bidirectional_attention=True), {}, "in both directions"),
    "multiplier": (_of("Granite", residual_multiplier=0.0), {}, r"residual_multiplier = 0\.0"),
    "layers": (_of("SmolLM3"), {"layer_types": ["chunked_attention"] * 36}, "type 'chunked_att"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_supported_is_named_before_weights_are_read(tmp_path, case):
    config, changes, words = CASES[case]
    record = config.to_dict() | {"model_type": config.model_type} | changes
    (tmp_path / "config.json").write_text(json.dumps(record), "utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises((UnsupportedModelError, ModelLoadError), match=words):
        load_language_model(str(tmp_path), data_dir=tmp_path)

"""GGUF files of tiny random models, written as llama.cpp's converter writes them."""

import gguf
import torch

from tests.sol_core.tiny_assets import BYTES, MERGED, SPECIALS, VOCABULARY

VOCAB_SIZE = 288  # whole tiles of the kernels for quantised weights
_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
}


def write_tiny_gguf(
    path,
    model,
    kind=lambda name: "F32",
    *,
    keys=None,
    tensors=None,
    tokenizer=True,
    architecture=None,
):
    """Write a model of transformers, and change its weights to what the file holds."""
    config = model.config
    arch = _ARCHITECTURES[config.model_type]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter(str(path), architecture or config.model_type.removesuffix("_text"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if tokenizer:
        _add_tokenizer(writer)
    for key, value in (keys or {}).items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add = writer.add_uint32 if isinstance(value, int) else add
        add(key.format(arch=writer.arch), value)
    state = model.state_dict()
    if config.tie_word_embeddings:
        state.pop("lm_head.weight")
    for name, weight in state.items():
        stem, _, suffix = name.rpartition(".")
        stored = weight if weight.dim() == 2 or "norm" not in stem else weight + _offset(config)
        stored = _paired(name, stored, config)
        kept = gguf.GGMLQuantizationType[kind(name) if weight.dim() == 2 else "F32"]
        data = gguf.quantize(stored.float().numpy(), kept)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", data, raw_dtype=kept)
        weight.copy_(_halves(name, torch.from_numpy(gguf.dequantize(data, kept)).clone(), config))
        if weight.dim() == 1 and "norm" in stem:
            weight.sub_(_offset(config))
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer):
    unused = [f"[PAD{number}]" for number in range(len(VOCABULARY), VOCAB_SIZE)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*VOCABULARY, *unused])
    plain = len(BYTES) + len(MERGED)
    writer.add_token_types([3] * len(SPECIALS) + [1] * plain + [5] * len(unused))
    writer.add_token_merges(["Ċ Ċ", "Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(2)
    writer.add_chat_template(
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    )


def _offset(config):
    return 1.0 if config.model_type == "gemma3_text" else 0.0


def _heads(name, config):
    if config.model_type != "llama":
        return None
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return heads.get(name.split(".")[-2])


def _paired(name, weight, config):
    """Rows as Llama's files have them: channel i of a head beside channel i + half."""
    heads = _heads(name, config)
    if heads is None:
        return weight
    return weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _halves(name, weight, config):
    heads = _heads(name, config)
    if heads is None:
        return weight
    return weight.view(heads, -1, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)

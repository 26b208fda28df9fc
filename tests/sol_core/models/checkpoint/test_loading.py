"""Loading from a local folder: what works, and what each broken folder says."""

import dataclasses
import json
from functools import partial

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaModel

import sol_core
from sol_core.errors import ConfigError, ModelLoadError, UnsupportedModelError
from sol_core.models import loading, spec_from_config
from sol_core.models.devices import pick_device, pick_dtype, why_no_gpu
from sol_core.models.families.readers import complete_config
from sol_core.models.loading import load_language_model
from tests.support.tiny_language_model import byte_tokenizer, save_model_folder
from tests.support.tiny_models import FAMILIES, Family, family_of, make_pair


@pytest.fixture
def folder(tmp_path):
    """A tiny model as transformers saves it, in two shards."""
    family = Family("x", "Llama", {"vocab_size": 257})
    model, _ = make_pair(family)
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    byte_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def _load(folder):
    return load_language_model(str(folder), data_dir=folder, dtype="float32", device="cpu")


def _logits(model, tokens):
    return model.lm.logits(model.lm.prefill(tokens, model.lm.new_cache(*tokens.shape)))


@pytest.mark.parametrize("tied", [False, True])
def test_a_sharded_folder_loads_and_matches_transformers(folder, tied):
    """A head of its own counts where the configuration denies it, too."""
    _change_config(folder, tie_word_embeddings=tied)
    tokens, model = torch.randint(3, 250, (1, 12)), _load(folder)
    with torch.no_grad():
        expected = LlamaForCausalLM.from_pretrained(folder)(tokens).logits
    torch.testing.assert_close(_logits(model, tokens), expected, rtol=0, atol=1e-4)
    assert 2 in model.end_of_text_ids
    other, _ = make_pair(Family("x", "Llama", {"vocab_size": 257}), seed=1)
    other.save_pretrained(folder, max_shard_size="200KB")
    assert _load(folder).fingerprint != model.fingerprint


def _change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


@pytest.mark.parametrize("family", [f for f in FAMILIES if "llama" in f.name], ids=lambda f: f.name)
def test_a_complete_config_is_read_as_transformers_reads_it(tmp_path, family):
    make_pair(family)[0].save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config, theirs = complete_config(record), LlamaConfig.from_pretrained(tmp_path)
    assert spec_from_config(config) == spec_from_config(theirs)
    assert config.eos_token_id == theirs.eos_token_id


@pytest.mark.parametrize("name", ["vocab_size", "rms_norm_eps", "attention_bias", "eos_token_id",
                                  "hidden_act", "rope_parameters"])  # fmt: skip
def test_a_config_with_a_gap_is_left_to_transformers(name):
    record = {"eos_token_id": 2} | LlamaConfig().to_dict()
    assert complete_config(record) is not None
    for value in (None, {}, (2,)):
        assert complete_config(record | {name: value}) is None
    del record[name]
    assert complete_config(record) is None


def test_a_bias_that_the_config_denies_is_refused_by_name(tmp_path):
    save_model_folder(tmp_path, "llama-mqa-bias", starts=False)
    _load(tmp_path)
    _change_config(tmp_path, mlp_bias=False)
    with pytest.raises(ModelLoadError, match=r"'model.layers.0.mlp.down_proj.bias'.*mlp_bias"):
        _load(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    family = Family("x", "Llama", {"vocab_size": 256})
    make_pair(family)[0].save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model = _load(tmp_path)  # an added token may lie beyond the vocabulary
    with pytest.raises(ConfigError, match=r"holds '<\|end\|>', token 256 .* knows 256"):
        model.encode("one <|end|>")
    make_pair(dataclasses.replace(family, options={"vocab_size": 255}))[0].save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="has 256 tokens, the model 255"):
        _load(tmp_path)


IN_HAND = (
    *("llama-gqa-tied", "mistral", "qwen2-window", "qwen3", "gemma2", "gemma3", "phi3-longrope"),
    *("olmo2", "granite", "smollm3"),
)


@pytest.mark.parametrize("name", IN_HAND)
def test_a_model_in_hand_is_the_model_of_its_files(tmp_path, name):
    theirs, _ = make_pair(family_of(name, vocab_size=257))
    theirs.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    taken = sol_core.from_transformers(theirs, byte_tokenizer(), name="mine")
    tokens = torch.arange(3, 15)[None]
    with torch.no_grad():
        expected = theirs(tokens).logits
        for parameter in theirs.parameters():
            parameter.zero_()  # a copy is left as it is
    torch.testing.assert_close(_logits(taken, tokens), expected, rtol=0, atol=1e-4)
    loaded = _load(tmp_path)
    assert (taken.name, taken.fingerprint) == ("mine", loaded.fingerprint)
    assert taken.end_of_text_ids == loaded.end_of_text_ids
    assert len(sol_core.generate(taken, "a fox", max_new_tokens=3).tokens) == 3


def test_what_is_no_supported_model_of_transformers_is_refused(folder):
    with pytest.raises(ConfigError, match="model must be a model of transformers"):
        sol_core.from_transformers(_load(folder), byte_tokenizer())
    headless = LlamaModel(LlamaConfig.from_pretrained(folder))
    with pytest.raises(ModelLoadError, match=r"lack 'model\.embed_tokens\.weight'"):
        sol_core.from_transformers(headless, byte_tokenizer())
    other = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=257))
    with pytest.raises(UnsupportedModelError, match="gpt2"):
        sol_core.from_transformers(other, byte_tokenizer())


def _shard(folder):
    return sorted(folder.glob("*.safetensors"))[0]


def _cut(folder, size):
    _shard(folder).write_bytes(_shard(folder).read_bytes()[:size])


def _leave_the_folder(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text("utf-8").replace(_shard(folder).name, "../secret.safetensors"))


def _of_another_family(folder):
    _change_config(folder, model_type="mamba", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')", "utf-8")


def _delete(folder, pattern):
    for path in folder.glob(pattern):
        path.unlink()


REFUSED = [
    *((partial(_cut, size=size), "00001-of.* is corrupt or truncated") for size in (0, 5, 100, -1)),
    (lambda folder: _shard(folder).unlink(), "00001-of"),
    (_leave_the_folder, "secret"),
    (
        lambda folder: (folder / "config.json").write_text("[1]"),
        r"config\.json is not a JSON object",
    ),
    (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is not a JSON object"),
    (_of_another_family, "mamba.*supported: llama"),
    (partial(_change_config, quantization_config={"quant_method": "gptq"}), r"\(gptq\).*GGUF"),
    (partial(_delete, pattern="tokenizer*"), r"no tokenizer\.json; copy it"),
    (partial(_delete, pattern="*"), r"no config\.json"),
    (partial(_delete, pattern="model*"), "only safetensors"),
]


@pytest.mark.parametrize(("damage", "words"), REFUSED)
def test_a_folder_that_cannot_be_loaded_is_refused(folder, damage, words):
    damage(folder)
    with pytest.raises((ModelLoadError, UnsupportedModelError), match=words):
        _load(folder)


@pytest.mark.parametrize("name", ["/nowhere/model", "gpt2", "a/b/c"])
def test_unknown_names_say_what_is_allowed(tmp_path, name):
    with pytest.raises(ModelLoadError, match="smollm2-135m-instruct"):
        load_language_model(name, data_dir=tmp_path)


def test_of_a_hub_model_the_configuration_comes_first_and_no_pytorch_weights(
    folder, tmp_path, monkeypatch
):
    _delete(folder, "model*")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    asked = []

    def download(name, *, cache_dir, allow_patterns):
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelLoadError, match=r"only safetensors.*python -c .*'owner/name'"):
        load_language_model("owner/name", data_dir=tmp_path, device="cpu")
    assert asked[0] == ["config.json"]
    assert not any("bin" in pattern for patterns in asked for pattern in patterns)
    _change_config(folder, hidden_act="relu")
    asked.clear()
    with pytest.raises(UnsupportedModelError, match="activation 'relu'"):
        load_language_model("owner/name", data_dir=tmp_path, device="cpu")
    assert asked == [["config.json"]]


def test_devices_and_dtypes_are_checked(monkeypatch):
    for name in ("gpu", "cuda:99", "meta"):
        with pytest.raises(ConfigError, match="device"):
            pick_device(name)
    for dtype in ("int8", "float16"):
        with pytest.raises(ConfigError, match="float16"):
            pick_dtype(dtype, torch.device("cpu"))
    monkeypatch.setattr("sol_core.models.devices.why_no_gpu", lambda: None)
    monkeypatch.setenv("SOL_DEVICE", "cpu")
    assert pick_device("auto").type == "cpu"
    monkeypatch.setenv("SOL_DEVICE", "tpu")
    with pytest.raises(ConfigError, match="'tpu'"):
        pick_device("auto")


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)]
)
def test_a_card_without_bfloat16_units_gets_float16(monkeypatch, capability, dtype):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)  # emulated ones count there
    assert pick_dtype("auto", torch.device("cuda")) == dtype


@pytest.mark.parametrize(
    ("capability", "built_for", "said"),
    [
        ((8, 6), ["sm_75", "sm_80"], None),
        ((12, 1), ["sm_90", "compute_120"], None),
        ((6, 1), ["sm_75", "sm_80"], "no code for GTX 1080"),
        ((9, 0), ["sm_75", "sm_80"], "only for sm_75, sm_80"),
        (None, [], "knows CUDA 12.2, torch needs 12.6: install a newer driver"),
    ],
)
def test_an_unsupported_card_or_driver_leaves_the_cpu_and_says_why(
    monkeypatch, capability, built_for, said
):
    monkeypatch.setattr("torch.version.cuda", "12.6")
    monkeypatch.setattr("torch.cuda.is_available", lambda: capability is not None)
    monkeypatch.setattr("torch._C._cuda_getDriverVersion", lambda: 12020, raising=False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "GTX 1080")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("torch.cuda.get_arch_list", lambda: built_for)
    assert pick_device("auto").type == ("cuda" if said is None else "cpu")
    reason = why_no_gpu()
    assert reason is None if said is None else said in str(reason)


def test_a_model_that_a_device_cannot_hold_is_said(folder, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("sol_core.models.loading.arrange_weights", full)
    with pytest.raises(ModelLoadError, match=r"GB in float32, more than cpu has free: choose a 16"):
        _load(folder)


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (10**9, 2 * 10**9))
    tensors = {"w": torch.empty(10**9, device="meta")}
    with pytest.raises(ModelLoadError, match=r"big takes 2\.0 GB in float16.*free \(1\.0 GB\)"):
        loading._check_fits("big", tensors, torch.float16, torch.device("cuda"))
    loading._check_fits(
        "small", {"w": torch.empty(9, device="meta")}, torch.float16, torch.device("cuda")
    )


def test_states_that_overflow_float16_make_a_model_float32_and_a_note(folder, monkeypatch):
    monkeypatch.setattr(loading, "pick_dtype", lambda name, device: torch.float16)
    fits = loading.load_language_model(str(folder), data_dir=folder, device="cpu")
    assert (fits.dtype_name, fits.notes) == ("float16", ())
    read = loading.read_tensors

    def large(*given):
        return {
            name: tensor * 1e4 if "up_proj" in name or "down_proj" in name else tensor
            for name, tensor in read(*given).items()
        }

    monkeypatch.setattr(loading, "read_tensors", large)
    model = loading.load_language_model(str(folder), data_dir=folder, device="cpu")
    assert model.dtype_name == "float32"
    (note,) = model.notes
    assert "overflow float16" in note

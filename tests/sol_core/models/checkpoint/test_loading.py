"""Loading from a local folder: what works, and what each broken folder says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaModel

import sol_core
from sol_core.errors import ConfigError, ModelLoadError, UnsupportedModelError
from sol_core.models import loading, spec_from_config
from sol_core.models.card.self_test import CardReport
from sol_core.models.devices import pick_device, pick_dtype, why_no_gpu
from sol_core.models.families import complete_config
from sol_core.models.loading import LanguageModel, load_language_model
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import FAMILIES, Family, make_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model as transformers saves it, in two shards."""
    family = Family("x", LlamaConfig, LlamaForCausalLM, {"vocab_size": 257})
    model, _ = make_pair(family)
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    byte_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def _load(folder: Path) -> LanguageModel:
    return load_language_model(str(folder), data_dir=folder, dtype="float32", device="cpu")


def test_a_sharded_folder_loads_and_matches_transformers(folder: Path) -> None:
    model = _load(folder)
    theirs = LlamaForCausalLM.from_pretrained(folder)
    tokens = torch.randint(3, 250, (1, 12))
    hidden = model.lm.prefill(tokens, model.lm.new_cache(1, 12))
    with torch.no_grad():
        expected = theirs(tokens).logits
    torch.testing.assert_close(model.lm.logits(hidden), expected, rtol=0, atol=1e-4)
    assert 2 in model.end_of_text_ids


def _change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


@pytest.mark.parametrize("family", [f for f in FAMILIES if "llama" in f.name], ids=lambda f: f.name)
def test_a_complete_config_is_read_as_transformers_reads_it(tmp_path: Path, family: Family) -> None:
    make_pair(family)[0].save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config, theirs = complete_config(record), LlamaConfig.from_pretrained(tmp_path)
    assert spec_from_config(config) == spec_from_config(theirs)
    assert config.eos_token_id == theirs.eos_token_id


@given(data=st.data())
@settings(max_examples=60)
def test_a_config_with_a_gap_is_left_to_transformers(data: st.DataObject) -> None:
    record = {"eos_token_id": 2} | LlamaConfig().to_dict()
    assert complete_config(record) is not None
    read = sorted(name for name in record if _is_read(record, name))
    assert len(read) >= 13
    name = data.draw(st.sampled_from(read))
    if data.draw(st.booleans()):
        del record[name]
    else:
        record[name] = data.draw(st.sampled_from([None, {}, (2,)]))
    assert complete_config(record) is None


def _is_read(record: dict[str, object], name: str) -> bool:
    """Return whether the spec of a config changes or fails without one of its values."""

    class Asked(SimpleNamespace):
        def __getattribute__(self, asked: str) -> object:
            seen.add(asked)
            return super().__getattribute__(asked)

    seen = {"eos_token_id", "attention_bias", "mlp_bias"}
    spec_from_config(Asked(**record))  # type: ignore[arg-type]
    return name in seen - {"hidden_activation", "model_type"}


def test_a_head_of_its_own_counts_where_the_config_denies_it(folder: Path) -> None:
    tokens = torch.arange(3, 15)[None]
    _change_config(folder, tie_word_embeddings=True)
    model = _load(folder)
    with torch.no_grad():
        expected = LlamaForCausalLM.from_pretrained(folder)(tokens).logits
    hidden = model.lm.prefill(tokens, model.lm.new_cache(1, 12))
    torch.testing.assert_close(model.lm.logits(hidden), expected, rtol=0, atol=1e-4)


def test_a_bias_that_the_config_denies_is_refused_by_name(tmp_path: Path) -> None:
    family = next(one for one in FAMILIES if one.name == "llama-mqa-bias")
    model, _ = make_pair(dataclasses.replace(family, options=family.options | {"vocab_size": 257}))
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    _load(tmp_path)
    _change_config(tmp_path, mlp_bias=False)
    with pytest.raises(ModelLoadError, match=r"'model.layers.0.mlp.down_proj.bias'.*mlp_bias"):
        _load(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    family = Family("x", LlamaConfig, LlamaForCausalLM, {"vocab_size": 256})
    make_pair(family)[0].save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model = _load(tmp_path)  # an added token may lie beyond the vocabulary
    with pytest.raises(ConfigError, match=r"holds '<\|end\|>', token 256 .* knows 256"):
        model.encode("one <|end|>")
    make_pair(dataclasses.replace(family, options={"vocab_size": 255}))[0].save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="has 256 tokens, the model 255"):
        _load(tmp_path)


@pytest.mark.parametrize("name", ["llama-gqa-tied", "qwen2-window", "gemma3"])
def test_a_model_in_hand_is_the_model_of_its_files(tmp_path: Path, name: str) -> None:
    family = next(one for one in FAMILIES if one.name == name)
    theirs, _ = make_pair(dataclasses.replace(family, options=family.options | {"vocab_size": 257}))
    theirs.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    taken = sol_core.from_transformers(theirs, byte_tokenizer(), name="mine")
    tokens = torch.arange(3, 15)[None]
    with torch.no_grad():
        expected = theirs(tokens).logits
        for parameter in theirs.parameters():
            parameter.zero_()  # a copy is left as it is
    hidden = taken.lm.prefill(tokens, taken.lm.new_cache(1, 12))
    torch.testing.assert_close(taken.lm.logits(hidden), expected, rtol=0, atol=1e-4)
    loaded = _load(tmp_path)
    assert (taken.name, taken.fingerprint) == ("mine", loaded.fingerprint)
    assert taken.end_of_text_ids == loaded.end_of_text_ids
    assert len(sol_core.generate(taken, "a fox", max_new_tokens=3).tokens) == 3


def test_what_is_no_supported_model_of_transformers_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="model must be a model of transformers"):
        sol_core.from_transformers(_load(folder), byte_tokenizer())  # type: ignore[arg-type]
    headless = LlamaModel(LlamaConfig.from_pretrained(folder))
    with pytest.raises(ModelLoadError, match=r"lack 'model\.embed_tokens\.weight'"):
        sol_core.from_transformers(headless, byte_tokenizer())
    other = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=257))
    with pytest.raises(UnsupportedModelError, match="gpt2"):
        sol_core.from_transformers(other, byte_tokenizer())


def test_fingerprint_follows_the_weights(folder: Path) -> None:
    first = _load(folder).fingerprint
    assert _load(folder).fingerprint == first
    other, _ = make_pair(Family("x", LlamaConfig, LlamaForCausalLM, {"vocab_size": 257}), seed=1)
    other.save_pretrained(folder, max_shard_size="200KB")
    assert _load(folder).fingerprint != first


def test_truncated_weights_are_named(folder: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[0]
    for size in (0, 5, 100, shard.stat().st_size - 1):
        shard.write_bytes(shard.read_bytes()[:size])
        with pytest.raises(ModelLoadError, match=rf"{shard.name} is corrupt or truncated"):
            _load(folder)


def test_missing_shard_is_named(folder: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(ModelLoadError, match=shard.name):
        _load(folder)


def test_an_index_may_not_leave_its_folder(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    record = json.loads(index.read_text("utf-8"))
    name = next(iter(record["weight_map"]))
    record["weight_map"][name] = "../secret.safetensors"
    index.write_text(json.dumps(record), "utf-8")
    with pytest.raises(ModelLoadError, match="secret"):
        _load(folder)


@pytest.mark.parametrize("content", ["", "[1]", "{", '"text"'])
def test_broken_config_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, "utf-8")
    with pytest.raises(ModelLoadError, match=r"config\.json is not a JSON object"):
        _load(folder)


def test_other_family_is_refused_before_anything_runs(folder: Path) -> None:
    record = json.loads((folder / "config.json").read_text("utf-8"))
    record |= {"model_type": "mamba", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(record), "utf-8")
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')", "utf-8")
    with pytest.raises(UnsupportedModelError, match=r"mamba.*supported: llama"):
        _load(folder)


def test_quantised_weights_are_refused_by_name(folder: Path) -> None:
    _change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UnsupportedModelError, match=r"quantised \(gptq\).*GGUF"):
        _load(folder)


def test_a_missing_tokenizer_is_said_with_a_remedy(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelLoadError, match=r"no tokenizer\.json; copy it"):
        _load(folder)


def test_folder_without_config_or_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        _load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LlamaConfig().to_dict()), "utf-8")
    with pytest.raises(ModelLoadError, match="only safetensors"):
        _load(tmp_path)


def test_pytorchs_weights_are_refused_with_what_converts_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Hub model they are not fetched, and the configuration comes first."""
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    asked: list[list[str]] = []

    def download(name: str, *, cache_dir: Path, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for name in (str(folder), "owner/name"):
        with pytest.raises(ModelLoadError, match="only safetensors") as raised:
            load_language_model(name, data_dir=tmp_path, device="cpu")
        said = str(raised.value)
        assert "\n" not in said
        line = f"[one.from_pretrained({name!r}).save_pretrained('NEW') for one in "
        assert f'python -c "import transformers as t; {line}' in said
    assert asked[0] == ["config.json"]
    assert not any("bin" in pattern for patterns in asked for pattern in patterns)
    _change_config(folder, hidden_act="relu")
    asked.clear()
    with pytest.raises(UnsupportedModelError, match="activation 'relu'"):
        load_language_model("owner/name", data_dir=tmp_path, device="cpu")
    assert asked == [["config.json"]]


@pytest.mark.parametrize("name", ["/nowhere/model", "gpt2", "./x", "a/b/c"])
def test_unknown_names_say_what_is_allowed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelLoadError, match="smollm2-135m-instruct"):
        load_language_model(name, data_dir=tmp_path)


def test_devices_and_dtypes_are_checked() -> None:
    for name in ("gpu", "cuda:99", "meta", "mps"):
        with pytest.raises(ConfigError, match="device"):
            pick_device(name)
    with pytest.raises(ConfigError, match="dtype must be auto, float32"):
        pick_dtype("int8", torch.device("cpu"))
    with pytest.raises(ConfigError, match="float16"):
        pick_dtype("float16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((12, 0), torch.bfloat16)],
)
def test_a_card_without_bfloat16_units_gets_float16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)  # emulated ones count there
    assert pick_dtype("auto", torch.device("cuda")) == dtype


@pytest.mark.parametrize(
    ("capability", "built_for", "said"),
    [
        ((7, 5), ["sm_75", "sm_80"], None),
        ((8, 6), ["sm_75", "sm_80"], None),
        ((12, 1), ["sm_90", "compute_120"], None),
        ((6, 1), ["sm_75", "sm_80"], "no code for GTX 1080"),
        ((9, 0), ["sm_75", "sm_80"], "only for sm_75, sm_80"),
    ],
)
def test_an_unsupported_card_leaves_the_cpu_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    built_for: list[str],
    said: str | None,
) -> None:
    monkeypatch.setattr("torch.version.cuda", "12.6")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "GTX 1080")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("torch.cuda.get_arch_list", lambda: built_for)
    assert pick_device("auto").type == ("cuda" if said is None else "cpu")
    reason = why_no_gpu()
    assert reason is None if said is None else said in str(reason)


def test_a_driver_that_is_too_old_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch._C._cuda_getDriverVersion", lambda: 12020, raising=False)
    assert pick_device("auto").type == "cpu"
    assert "knows CUDA 12.2, torch needs 13.0: install a newer driver" in str(why_no_gpu())


def test_a_model_that_a_device_cannot_hold_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("sol_core.models.loading.arrange_weights", full)
    with pytest.raises(ModelLoadError, match=r"GB in float32, more than cpu has free: choose a 16"):
        _load(folder)


class _Card:
    """A stand-in for a card: the CPU, which says that it is one."""

    type = "cuda"

    def __str__(self) -> str:
        return "cuda"


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (10**9, 2 * 10**9))
    tensors = {"w": torch.empty(10**9, device="meta")}
    with pytest.raises(ModelLoadError, match=r"big takes 2\.0 GB in float16.*free \(1\.0 GB\)"):
        loading._check_fits("big", tensors, torch.float16, _Card())  # type: ignore[arg-type]
    loading._check_fits("small", {"w": torch.empty(9, device="meta")}, torch.float16, _Card())  # type: ignore[arg-type]


def test_states_that_overflow_float16_make_a_model_float32_and_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "pick_dtype", lambda name, device: torch.float16)
    fits = loading.load_language_model(str(folder), data_dir=folder, device="cpu")
    assert (fits.dtype_name, fits.notes) == ("float16", ())
    read = loading.read_tensors

    def large(*given: Any) -> dict[str, torch.Tensor]:
        return {
            name: tensor * 1e4 if "up_proj" in name or "down_proj" in name else tensor
            for name, tensor in read(*given).items()
        }

    monkeypatch.setattr(loading, "read_tensors", large)
    model = loading.load_language_model(str(folder), data_dir=folder, device="cpu")
    assert model.dtype_name == "float32"
    (note,) = model.notes
    assert "overflow float16" in note


def test_a_cards_notes_come_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[CardReport] = []
    monkeypatch.setattr(CardReport, "apply", lambda self: applied.append(self))
    report = CardReport("T4", graphs="no memory")
    monkeypatch.setattr(loading, "checked_card", lambda *_: report)
    notes = loading._prepare_card(_Card(), torch.float16, Path(), lambda *_: None)  # type: ignore[arg-type]
    assert applied == [report]
    assert notes == report.sentences()
    cpu = loading._prepare_card(torch.device("cpu"), torch.float16, Path(), lambda *_: None)
    assert cpu == []


def test_the_variable_chooses_where_a_command_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_DEVICE", "cpu")
    monkeypatch.setattr("sol_core.models.devices.why_no_gpu", lambda: None)
    assert pick_device("auto").type == "cpu"
    monkeypatch.setenv("SOL_DEVICE", "tpu")
    with pytest.raises(ConfigError, match="'tpu'"):
        pick_device("auto")

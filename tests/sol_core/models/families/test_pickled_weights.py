"""PyTorch's pickled weights: converted once, never by an unpickler that runs code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from sol_core.errors import ModelLoadError, UnsupportedModelError
from sol_core.models.loading import LanguageModel, load_language_model, model_fingerprint
from tests.support.tiny_language_model import save_model_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model with tied weights in two pickled files, as transformers saved them once."""
    folder = save_model_folder(tmp_path / "model", "llama-gqa-tied", starts=False)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]  # one memory, two names
    halves = [sorted(weights)[::2], sorted(weights)[1::2]]
    names = [f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        torch.save({key: weights[key] for key in half}, folder / name)
    places = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), "utf-8")
    return folder


def _load(folder: Path) -> LanguageModel:
    data_dir = folder.parent / "data"
    return load_language_model(str(folder), data_dir=data_dir, dtype="float32", device="cpu")


def _single(folder: Path, save: Callable[[Any, Path], object], content: Any) -> Path:
    """The folder with one pickled file of this content."""
    for path in folder.glob("pytorch_model*"):
        path.unlink()
    save(content, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def test_pickled_weights_are_those_of_the_model(folder: Path) -> None:
    model = _load(folder)
    theirs = LlamaForCausalLM(LlamaConfig.from_pretrained(folder)).eval()
    halves = [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.bin"))]
    theirs.load_state_dict(halves[0] | halves[1])
    tokens = torch.arange(3, 15)[None]
    hidden = model.lm.prefill(tokens, model.lm.new_cache(1, 12))
    with torch.no_grad():
        expected = theirs(tokens).logits
    torch.testing.assert_close(model.lm.logits(hidden), expected, rtol=0, atol=1e-4)
    assert model_fingerprint(str(folder), data_dir=folder.parent / "data") == model.fingerprint


def test_they_are_converted_once_and_again_when_they_change(folder: Path) -> None:
    home = folder.parent / "data" / "models" / "pickled"
    first = _load(folder).fingerprint
    (made,) = (path for path in home.iterdir() if path.is_dir())
    stamps = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    assert sorted(path.suffix for path in stamps) == [".safetensors"] * 2
    assert _load(folder).fingerprint == first
    assert stamps == {path: path.stat().st_mtime_ns for path in made.iterdir()}
    shard = sorted(folder.glob("*.bin"))[0]
    torch.save({k: v + 1 for k, v in torch.load(shard, weights_only=True).items()}, shard)
    assert _load(folder).fingerprint != first
    assert sum(path.is_dir() for path in home.iterdir()) == 2


def test_safetensors_are_taken_where_there_are_both(folder: Path) -> None:
    first = _load(folder).fingerprint
    (made,) = (path for path in (folder.parent / "data/models/pickled").iterdir() if path.is_dir())
    weights = load_file(made / "00000.safetensors") | load_file(made / "00001.safetensors")
    save_file(weights, folder / "model.safetensors")
    for path in folder.glob("*.bin"):
        path.write_bytes(b"never looked at")
    assert _load(folder).fingerprint == first


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_a_pickle_that_would_run_code_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    _single(folder, torch.save, {"model.norm.weight": _Code()})
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin holds more than tensors.*code"):
        _load(folder)
    bare = _single(
        folder, lambda content, path: path.write_bytes(content), pickle.dumps(_Code(), protocol=2)
    )
    with pytest.raises(ModelLoadError, match=rf"{bare.name} "):
        _load(folder)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], {"model.norm.weight": 3}, {5: torch.ones(1)}]
)
def test_other_content_is_refused(folder: Path, content: Any) -> None:
    _single(folder, torch.save, content)
    with pytest.raises(ModelLoadError, match="something else than weights by their names"):
        _load(folder)


def test_of_a_hub_model_what_is_needed_is_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration first; pickled weights only where there are no safetensors."""
    home, asked = tmp_path / "snapshot", []

    def download(name: str, *, cache_dir: Path, allow_patterns: list[str]) -> str:
        home.mkdir(exist_ok=True)
        asked.append(allow_patterns)
        for path in (path for pattern in allow_patterns for path in folder.glob(pattern)):
            shutil.copy(path, home)
        return str(home)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    load_language_model("owner/name", data_dir=tmp_path / "data", device="cpu")
    assert asked[0] == ["config.json"]
    assert [any("bin" in pattern for pattern in patterns) for patterns in asked] == [0, 0, 1]
    shutil.rmtree(home)
    record = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(record | {"hidden_act": "relu"}), "utf-8")
    with pytest.raises(UnsupportedModelError, match="activation 'relu'"):
        load_language_model("owner/name", data_dir=tmp_path / "data", device="cpu")
    assert [path.name for path in home.iterdir()] == ["config.json"]


def test_damaged_files_are_named_with_a_remedy(folder: Path) -> None:
    _load(folder)
    (made,) = (path for path in (folder.parent / "data/models/pickled").iterdir() if path.is_dir())
    (made / "00001.safetensors").write_bytes(b"x")
    with pytest.raises(ModelLoadError, match=r"00001.* delete its folder, and it is converted"):
        _load(folder)
    shard = sorted(folder.glob("*.bin"))[1]
    whole = shard.read_bytes()
    for size in (0, 9, len(whole) // 2):
        shard.write_bytes(whole[:size])
        with pytest.raises(ModelLoadError, match=rf"{shard.name} is corrupt or truncated"):
            _load(folder)
    shard.unlink()
    with pytest.raises(ModelLoadError, match=rf"index\.json names '{shard.name}'"):
        _load(folder)
    for path in folder.glob("pytorch_model*"):
        path.unlink()
    with pytest.raises(ModelLoadError, match="only safetensors weights are read, and PyTorch's"):
        _load(folder)

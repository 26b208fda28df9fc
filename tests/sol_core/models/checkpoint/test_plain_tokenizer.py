"""A tokenizer read without transformers does what transformers' own does, or is not read at all."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sol_core.files.assets import DEFAULT_MODEL_ASSET, ensure_model
from sol_core.files.paths import default_data_dir
from sol_core.models.checkpoint import PlainTokenizer
from tests.support.tiny_language_model import END, save_model_folder

_TEXTS = st.text(max_size=40) | st.lists(
    st.sampled_from(["a", " the", "  ", "\n", "é", "👋", "日", END, "<|im_start|>", "<|im_end|>"]),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "starts every text"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return save_model_folder(folder, "llama-gqa-tied", starts=request.param)


def _same(ours, theirs, text):
    for special in (True, False):
        ids = ours.encode(text, add_special_tokens=special)
        assert ids == theirs.encode(text, add_special_tokens=special)
        for part in (ids, ids[1:], ids[::-1]):
            for skip in (True, False):
                expected = theirs.decode(
                    part, skip_special_tokens=skip, clean_up_tokenization_spaces=False
                )
                assert ours.decode(part, skip_special_tokens=skip) == expected


def _check_attributes(ours, theirs):
    for name in ("vocab_size", "eos_token_id", "all_special_ids"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert type(ours.of_transformers) is type(theirs)
    assert ours.of_transformers.get_vocab() == theirs.get_vocab()


@given(text=_TEXTS)
@settings(max_examples=60)
def test_texts_and_ids_are_those_of_transformers(folder, text):
    ours = PlainTokenizer.read(folder)
    _same(ours, AutoTokenizer.from_pretrained(folder), text)


def test_attributes_are_those_of_transformers(folder):
    ours = PlainTokenizer.read(folder)
    _check_attributes(ours, AutoTokenizer.from_pretrained(folder))


@pytest.mark.model
def test_the_default_models_tokenizer_is_that_of_transformers():
    folder = ensure_model(DEFAULT_MODEL_ASSET, default_data_dir())
    ours, theirs = PlainTokenizer.read(folder), AutoTokenizer.from_pretrained(folder)
    _check_attributes(ours, theirs)
    for text in (
        Path(__file__).read_text("utf-8"),
        "<|im_start|>user\nNaïve 👋🏽 日本語\t1,000.50 don't<|im_end|>\n<repo_name>x",
        "",
    ):
        _same(ours, theirs, text)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "GemmaTokenizer"},
        {"add_bos_token": True},
        {"clean_up_tokenization_spaces": True},
        {"extra_special_tokens": ["<a>"]},
        {"eos_token": "of no added token"},
        {"eos_token": "a"},  # in the vocabulary, not special there: transformers makes it so
        {"eos_token": {"content": END}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_says_more_is_left_to_transformers(tmp_path, changes):
    save_model_folder(tmp_path, "llama-gqa-tied", starts=False)
    assert PlainTokenizer.read(tmp_path) is not None
    for name in ("added_tokens.json", "special_tokens_map.json"):
        (tmp_path / name).write_text("{}", "utf-8")
        assert PlainTokenizer.read(tmp_path) is None
        (tmp_path / name).unlink()
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    assert PlainTokenizer.read(tmp_path) is None

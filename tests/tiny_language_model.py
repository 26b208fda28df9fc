"""A complete language model that needs no download: random weights, one token per byte."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sol_core.loading import LanguageModel
from tests.tiny_models import Family, make_pair

__all__ = ["END", "byte_tokenizer", "make_language_model"]

END = "<|end|>"
_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 byte tokens and one end-of-text token: every character beyond ASCII is several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    wrapped.chat_template = _TEMPLATE
    return wrapped


def make_language_model(family: Family | None = None) -> LanguageModel:
    """Random weights over the byte vocabulary."""
    base = family or Family("tiny", LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True})
    _, lm = make_pair(
        Family(base.name, base.config, base.model, base.options | {"vocab_size": 257})
    )
    tokenizer = byte_tokenizer()
    return LanguageModel("tiny", "0" * 32, lm, tokenizer, frozenset({tokenizer.eos_token_id}))

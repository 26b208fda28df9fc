"""A complete language model that needs no download: random weights, one token per byte."""

import dataclasses

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from sol_core.models.loading import LanguageModel
from tests.support.tiny_models import FAMILIES, Family, family_of, make_pair

END = "<|end|>"
CONTEXT_LENGTH = 256  # of a saved folder
_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer():
    """256 byte tokens and one end-of-text token: every character beyond ASCII is several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    wrapped.chat_template = _TEMPLATE
    return wrapped


def make_language_model(family=None, dtype=torch.float32):
    """Random weights over the byte vocabulary."""
    base = family or Family("tiny", "Llama", {"tie_word_embeddings": True})
    base = dataclasses.replace(base, options=base.options | {"vocab_size": 257})
    _, lm = make_pair(base, dtype=dtype)
    tokenizer = byte_tokenizer()
    return LanguageModel("tiny", "0" * 32, lm, tokenizer, frozenset({tokenizer.eos_token_id}))


def make_long_model(name="tiny", dtype=torch.float32, max_positions=1024):
    """The same with room for the lessons' passages, which have a token per byte here."""
    family = dataclasses.replace(FAMILIES[0], options={"max_position_embeddings": max_positions})
    return dataclasses.replace(make_language_model(family, dtype), name=name)


def save_model_folder(folder, name, *, starts):
    """A Hugging Face folder of random weights with the byte tokenizer, without a chat template."""
    family = family_of(name, vocab_size=257, max_position_embeddings=CONTEXT_LENGTH)
    make_pair(family)[0].save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    if starts:
        tokenizer.bos_token = END
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{END} $A", special_tokens=[(END, tokenizer.bos_token_id)]
        )
    tokenizer.save_pretrained(folder)
    return folder

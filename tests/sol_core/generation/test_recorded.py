"""Tensors of every layer that a generation keeps: transformers' own, and those of sparse steps."""

import json

import pytest
import torch

from sol_core import Budget, GenerationConfig, from_transformers, generate
from sol_core.errors import ConfigError
from sol_core.events import event_to_dict
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import Family, make_pair

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "Once upon a time there was a fox in a wood, and a hen."
ALL = {"hidden", "attention", "pages"}


def test_a_dense_step_keeps_what_transformers_gives():
    theirs, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    theirs.set_attn_implementation("eager")
    model = from_transformers(theirs, byte_tokenizer(), name="tiny")
    tokens = generate(model, TEXT, record=ALL, max_new_tokens=5).tokens
    ids = [*byte_tokenizer()(TEXT)["input_ids"], *(token.token_id for token in tokens)]
    whole = theirs(torch.tensor([ids]), output_hidden_states=True, output_attentions=True)
    for token in tokens:
        fed = token.cached_tokens - 1
        states = torch.stack([layer[0, fed] for layer in whole.hidden_states])
        torch.testing.assert_close(token.hidden_states, states, atol=2e-5, rtol=1e-4)
        theirs_read = torch.stack([layer[0, :, fed, : fed + 1] for layer in whole.attentions])
        padded = torch.nn.functional.pad(theirs_read, (0, -(fed + 1) % 8))
        pages = padded.unflatten(-1, (-1, 8)).sum(-1)
        torch.testing.assert_close(token.attention, pages, atol=2e-5, rtol=1e-4)
        assert set(json.loads(json.dumps(event_to_dict(token)))).isdisjoint(
            {"attention", "hidden_states"}
        )


def test_a_sparse_steps_attention_is_on_the_pages_that_it_read():
    theirs, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    model = from_transformers(theirs, byte_tokenizer(), name="tiny")
    config = GenerationConfig(max_new_tokens=6)
    made = generate(model, TEXT, None, Budget(0.3, 0.6, 8), config=config, record=ALL)
    alone = generate(model, TEXT, None, Budget(0.3, 0.6, 8), config=config)
    assert made.text == alone.text
    for token in made.tokens:
        torch.testing.assert_close(token.attention.sum(-1), torch.ones(token.attention.shape[:2]))
        lists = token.page_reads.lists(model.spec.num_layers)
        for layer, pages in zip(token.attention, lists, strict=True):
            assert layer.sum(0).nonzero().flatten().tolist() == pages
            assert len(pages) < token.page_reads.pages


def test_an_unknown_record_is_refused():
    theirs, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    model = from_transformers(theirs, byte_tokenizer(), name="tiny")
    with pytest.raises(ConfigError, match="no record 'hiden'; did you mean hidden"):
        generate(model, TEXT, record={"hiden"})

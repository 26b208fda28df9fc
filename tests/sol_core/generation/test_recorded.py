"""Tensors of every layer that a generation keeps: transformers' own, and those of sparse steps."""

import pytest
import torch

from sol_core import Budget, from_transformers, generate
from sol_core.errors import ConfigError
from sol_core.events import event_to_dict
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import Family, make_pair

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "Once upon a time there was a fox in a wood, and a hen."
ALL = {"hidden", "attention", "pages"}


@pytest.fixture(scope="module")
def theirs():
    model, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def model(theirs):
    return from_transformers(theirs, byte_tokenizer(), name="tiny")


def test_a_dense_step_keeps_what_transformers_gives(theirs, model):
    tokens = generate(model, TEXT, record=ALL, max_new_tokens=5).tokens
    ids = [*byte_tokenizer()(TEXT)["input_ids"], *(token.token_id for token in tokens)]
    whole = theirs(torch.tensor([ids]), output_hidden_states=True, output_attentions=True)
    for token in tokens:
        fed = token.cached_tokens - 1
        states = torch.stack([layer[0, fed] for layer in whole.hidden_states])
        torch.testing.assert_close(token.hidden_states, states, atol=2e-5, rtol=1e-4)
        read = torch.stack([layer[0, :, fed, : fed + 1] for layer in whole.attentions])
        pages = torch.nn.functional.pad(read, (0, -(fed + 1) % 8)).unflatten(-1, (-1, 8)).sum(-1)
        torch.testing.assert_close(token.attention, pages, atol=2e-5, rtol=1e-4)
        assert not {"attention", "hidden_states"} & event_to_dict(token).keys()


def test_a_sparse_steps_attention_is_on_the_pages_that_it_read(model):
    made = generate(model, TEXT, None, Budget(0.3, 0.6, 8), max_new_tokens=6, record=ALL)
    assert made.text == generate(model, TEXT, None, Budget(0.3, 0.6, 8), max_new_tokens=6).text
    for token in made.tokens:
        torch.testing.assert_close(token.attention.sum(-1), torch.ones(token.attention.shape[:2]))
        lists = token.page_reads.lists(model.spec.num_layers)
        assert [layer.sum(0).nonzero().flatten().tolist() for layer in token.attention] == lists
        assert sum(map(len, lists)) < len(lists) * token.page_reads.pages


def test_an_unknown_record_is_refused(model):
    with pytest.raises(ConfigError, match="no record 'hiden'; did you mean hidden"):
        generate(model, TEXT, record={"hiden"})

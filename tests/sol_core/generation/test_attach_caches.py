"""Caches and positions of an attached model: right as transformers alone has it, or refused."""

import copy
import dataclasses

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, StaticCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from sol_core import attach
from sol_core.errors import ConfigError
from tests.sol_core.generation.test_attach import TEXT, _greedy, _ids
from tests.support.tiny_language_model import byte_tokenizer
from tests.support.tiny_models import Family, make_pair

pytestmark = pytest.mark.usefixtures("one_thread")
NEAR = {"atol": 2e-4, "rtol": 1e-4}
MORE = " It ran."
_FIELDS = {item.name for item in dataclasses.fields(CausalLMOutputWithPast)}
NAME = "cache" if "cache" in _FIELDS else "past_key_values"  # as the release has it


@pytest.fixture(scope="module")
def theirs():
    model, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    model.generation_config.eos_token_id = None
    return model


def _cache_of(output):
    return getattr(output, NAME)


def _pieces(model, ids, first, caches=None, **options):
    """Logits of the last token after ``first`` tokens, then of each token by itself."""
    cache, logits = caches, []
    for start, stop in [(0, first), *((at, at + 1) for at in range(first, ids.shape[1]))]:
        output = model(ids[:, start:stop], **{NAME: cache}, **options)
        cache = _cache_of(output)
        logits.append(output.logits[0, -1])
    return torch.stack(logits)


@torch.no_grad()
def test_a_caller_s_own_loop_goes_on_with_the_cache_that_it_gets(theirs):
    ids = _ids()
    wanted = [_pieces(theirs, ids, 20), _pieces(theirs, ids, 20, DynamicCache())]
    with attach(theirs) as spent:
        got = [_pieces(theirs, ids, 20), _pieces(theirs, ids, 20, DynamicCache())]
    for ours, alone in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, alone, **NEAR)
    assert len(spent.actions) == 2 * (ids.shape[1] - 19)


@torch.no_grad()
def test_texts_by_turns_and_calls_between_do_not_disturb_each_other(theirs):
    first, second = _ids(), _ids("A hen")

    def by_turns():
        one, other = theirs(first[:, :9]), theirs(second[:, :2])
        logits = []
        for place in range(3):
            theirs(first[:, :4], use_cache=False)
            one = theirs(first[:, 9 + place, None], **{NAME: _cache_of(one)})
            other = theirs(second[:, 2 + place, None], **{NAME: _cache_of(other)})
            logits += [one.logits[0, -1], other.logits[0, -1]]
        return torch.stack(logits)

    wanted = by_turns()
    with attach(theirs):
        torch.testing.assert_close(by_turns(), wanted, **NEAR)


def test_a_guided_generation_reads_a_second_text_between_its_steps(theirs):
    asked = {"guidance_scale": 1.5, "negative_prompt_ids": _ids("A hen")}
    for cached in (True, False):
        wanted = _greedy(theirs, use_cache=cached, **asked)
        with attach(theirs):
            assert torch.equal(_greedy(theirs, use_cache=cached, **asked), wanted)


def _turns(model, cache):
    """A conversation of two turns, each sent whole, with the cache of the one before."""
    options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
    ids, made = _ids(), []
    for _ in range(2):
        mask = torch.ones_like(ids)
        output = model.generate(ids, attention_mask=mask, **{NAME: cache}, **options)
        made.append(output.sequences)
        cache = _cache_of(output)
        ids = torch.cat([output.sequences, _ids(MORE)], 1)
    return made


@pytest.mark.parametrize("cache", [None, DynamicCache], ids=["none", "empty"])
def test_a_conversation_sent_whole_goes_on_with_its_cache(theirs, cache):
    wanted = _turns(theirs, cache and cache())
    with attach(theirs):
        got = _turns(theirs, cache and cache())
    assert all(map(torch.equal, got, wanted))


@torch.no_grad()
def test_positions_that_are_counted_on_are_taken_and_others_refused(theirs):
    ids = _ids()
    places = torch.arange(ids.shape[1])[None]
    wanted = theirs(ids, position_ids=places).logits
    with attach(theirs):
        torch.testing.assert_close(theirs(ids, position_ids=places).logits, wanted, **NEAR)
        cache = _cache_of(theirs(ids[:, :5]))
        for name in ("position_ids", "cache_position"):
            with pytest.raises(ConfigError, match="next position of this text is 0"):
                theirs(ids, **{name: places + 3})
            with pytest.raises(ConfigError, match="next position of this text is 5"):
                theirs(ids[:, 5:6], **{NAME: cache}, **{name: places[:, :1]})
        with pytest.raises(ConfigError, match="the attention mask has 9 tokens, the text 6"):
            theirs(ids[:, 5:6], **{NAME: cache}, attention_mask=torch.ones(1, 9))
        mask, place = torch.ones(1, 6), torch.tensor([[5]])
        theirs(ids[:, 5:6], **{NAME: cache}, attention_mask=mask, position_ids=place)


@torch.no_grad()
def test_a_filled_cache_and_one_of_another_kind_are_refused(theirs):
    ids = _ids()
    filled = theirs(ids[:, :30], **{NAME: DynamicCache()})
    emptied = copy.deepcopy(_cache_of(filled))
    emptied.reset()
    static = StaticCache(config=theirs.config, max_cache_len=64)
    with attach(theirs):
        for cache in (_cache_of(filled), static, ((torch.ones(1), torch.ones(1)),)):
            with pytest.raises(ConfigError, match="keeps keys and values itself"):
                theirs(ids[:, 30:31], **{NAME: cache})
            with pytest.raises(ConfigError, match="keeps keys and values itself"):
                theirs.generate(ids, **{NAME: static}, max_new_tokens=3)
        with pytest.raises(ConfigError, match="keeps keys and values itself"):
            _greedy(theirs, cache_implementation="static")
        if emptied.get_seq_length() == 0:
            _pieces(theirs, ids, 4, emptied)


@torch.no_grad()
def test_a_cache_that_is_changed_copied_or_of_another_block_is_refused(theirs):
    ids = _ids()
    with attach(theirs):
        cache = _cache_of(theirs(ids[:, :9]))
        for name in ("crop", "reorder_cache", "batch_repeat_interleave", "batch_select_indices"):
            with pytest.raises(ConfigError, match=f"of an attached model has no {name}"):
                getattr(cache, name)(4)
        with pytest.raises(ConfigError, match="has no reset"):
            cache.reset()
        with pytest.raises(ConfigError, match="has no update"):
            theirs.model(ids[:, 9:10], **{NAME: cache})
        with pytest.raises(ConfigError, match="is a copy"):
            theirs(ids[:, 9:10], **{NAME: copy.deepcopy(cache)})
        theirs(ids[:, 9:10], **{NAME: cache})
    with attach(theirs), pytest.raises(ConfigError, match="of another block"):
        theirs(ids[:, 10:11], **{NAME: cache})
    assert cache.get_seq_length() == 0, "transformers alone reads the text with it"
    torch.testing.assert_close(theirs(ids, **{NAME: cache}).logits, theirs(ids).logits)


@torch.no_grad()
def test_several_tokens_after_a_prompt_are_refused(theirs):
    ids = _ids()
    with attach(theirs):
        cache = _cache_of(theirs(ids[:, :9]))
        with pytest.raises(ConfigError, match="got 4 tokens after 9"):
            theirs(ids[:, 9:13], **{NAME: cache})
        with pytest.raises(ConfigError, match=r"mask has 13|is 0: leave position_ids out"):
            theirs.generate(
                ids[:, 9:13],
                attention_mask=torch.ones(1, 13, dtype=torch.long),
                **{NAME: DynamicCache()},
                max_new_tokens=2,
            )


def test_modes_that_feed_pieces_are_refused(theirs):
    assistant, _ = make_pair(Family("llama", "Llama", {"vocab_size": 257}))
    for name, value in (
        ("prefill_chunk_size", 8),
        ("prefill_chunk_size", 1),
        ("assistant_model", assistant),
        ("prompt_lookup_num_tokens", 3),
    ):
        with attach(theirs):
            with pytest.raises(ConfigError, match=f"token by token: leave {name} out"):
                _greedy(theirs, **{name: value})
            if name != "assistant_model":
                config = GenerationConfig(max_new_tokens=3, **{name: value})
                with pytest.raises(ConfigError, match=f"leave {name} out"):
                    theirs.generate(_ids(), config)


def test_what_is_not_one_text_of_tokens_is_refused(theirs):
    ids = _ids()
    padded = torch.cat([torch.zeros_like(ids[:, :2]), ids], 1)
    mask = torch.ones_like(padded)
    mask[:, :2] = 0
    embedded = theirs.get_input_embeddings()(ids)
    with attach(theirs):
        with pytest.raises(ConfigError, match="no padding"):
            theirs.generate(padded, attention_mask=mask, max_new_tokens=3)
        with pytest.raises(ConfigError, match="no mask of its own"):
            theirs(ids, attention_mask=torch.ones(1, 1, ids.shape[1], ids.shape[1]))
        with pytest.raises(ConfigError, match="inputs_embeds"):
            theirs.generate(inputs_embeds=embedded, max_new_tokens=3)
        with pytest.raises(ConfigError, match="no inputs_embeds: leave it out"):
            theirs(ids, inputs_embeds=embedded)
        with pytest.raises(ConfigError, match="no token_type_ids"):
            theirs(ids, token_type_ids=torch.zeros_like(ids))
        for several in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}):
            with pytest.raises(ConfigError, match="one sequence"):
                theirs.generate(ids, max_new_tokens=3, **several)
        with pytest.raises(ConfigError, match="score"):
            theirs(ids, labels=ids)
        assert len(byte_tokenizer()(TEXT)["input_ids"]) == ids.shape[1]

"""Prefixes: read in pieces, kept by owner, the same to the bit whether kept or read anew."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sol_core.actions import GRIDS, Budget
from sol_core.api.generating import generate, generate_many, score, stream_generate
from sol_core.decoding import prefix as prefix_module
from sol_core.decoding.prefix import _chunk_ends, _common_tokens, read_prefix, read_prefix_in_chunks
from sol_core.events import PrefillEvent, PrefillProgress, TokenEvent
from sol_core.models.kept_prefixes import KeptPrefixes, OwnersPrefixes
from sol_core.progress import no_stop
from tests.support.tiny_language_model import make_long_model

MECHANISMS = GRIDS["default"].mechanisms


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def tiny(request):
    return make_long_model(dtype=request.param)


def tokens_of(count):
    return [n * (n + 3) % 50 for n in range(count)]


def bytes_kept(prefixes):
    return sum(kept.cache.num_bytes for kept in prefixes._kept)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(prefix_module, "BLOCK", 64)
    monkeypatch.setattr(prefix_module, "LEAST_CHUNK", 8)


@given(st.integers(0, 5000))
def test_pieces_follow_from_the_length(count):
    ends = list(_chunk_ends(count))
    assert ends == sorted(set(ends))
    assert ends[-1:] == [count][:count]
    if count > 1:
        assert ends[-2] == count - 1  # the last token is read by itself


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 3000))
def test_what_two_prefixes_have_in_common_is_whole_pieces_of_both(one, other, same):
    first, second = [7] * one, [7] * min(same, other) + [8] * max(0, other - same)
    common = _common_tokens(first, second)
    assert common == _common_tokens(second, first)
    assert first[:common] == second[:common]
    if common:
        before = [list(_chunk_ends(len(tokens))) for tokens in (first, second)]
        cut = [ends[: ends.index(common) + 1] for ends in before]
        assert cut[0] == cut[1]


@pytest.mark.usefixtures("one_thread", "small_pieces")
@pytest.mark.parametrize("observe", [None, MECHANISMS])
def test_kept_prefixes_have_the_numbers_of_reading_anew(tiny, observe):
    draw, kept = random.Random(3), OwnersPrefixes()
    base = [draw.randrange(tiny.spec.vocab_size) for _ in range(400)]
    reused = []
    for _ in range(12):
        tokens = [*base[: draw.randrange(1, 400)], *(draw.randrange(9) for _ in range(5))]
        for size in (8, 16):
            read = read_prefix(tiny.lm, tokens, size, observe, prefixes=kept)
            anew = read_prefix(tiny.lm, tokens, size, observe)
            reused.append(read.reused)
            assert read.cache.page_size == size
            assert read.cache.own_lengths == anew.cache.own_lengths == [len(tokens)]
            for mine, theirs in zip(read.cache.layers, anew.cache.layers, strict=True):
                for a, b in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
                    assert torch.equal(a[:, :, : len(tokens)], b[:, :, : len(tokens)])
            assert torch.equal(read.state.hidden, anew.state.hidden)
            if observe is not None:
                assert torch.equal(read.state.concentration, anew.state.concentration)
    assert sum(reused) > 1000


@pytest.mark.usefixtures("small_pieces")
def test_a_text_is_read_once_and_steps_leave_it_as_it_is(tiny):
    text, first = "A keeper had a dog that ate fish. " * 9, None
    for _ in range(3):
        events = list(stream_generate(tiny, text, None, Budget(0.4, 0.7, 8), max_new_tokens=5))
        (prefill,) = (event for event in events if isinstance(event, PrefillEvent))
        tokens = [event.token_id for event in events if isinstance(event, TokenEvent)]
        if first is None:
            first = tokens
            assert prefill.reused_tokens == 0
            assert any(isinstance(event, PrefillProgress) for event in events)
        else:
            assert prefill.reused_tokens == prefill.prompt_tokens - 1
            assert prefill.cost.flops == 0
        assert tokens == first
    whole = score(tiny, " It barked.", context=text)
    assert whole.nll == score(tiny.of_owner("other"), " It barked.", context=text).nll


def test_an_owner_reuses_nothing_of_another(tiny):
    text, found = "A keeper had a dog that ate fish. " * 9, []
    for owner in ("ada", "bob", "ada"):
        events = stream_generate(tiny.of_owner(owner), text, max_new_tokens=1)
        found += [e.reused_tokens for e in events if isinstance(e, PrefillEvent)]
    assert found[:2] == [0, 0]
    assert found[2] > 0


def test_the_least_recently_used_go_first_and_the_limit_holds(tiny):
    size = read_prefix(tiny.lm, tokens_of(100), 8).cache.num_bytes
    kept = KeptPrefixes(2 * size + size // 2)
    mine = OwnersPrefixes(kept)
    texts = [[start, *tokens_of(99)] for start in (11, 12, 13)]
    for tokens in (texts[0], texts[1], texts[0], texts[2]):
        read_prefix(tiny.lm, tokens, 8, prefixes=mine)
        assert bytes_kept(kept) <= kept.limit
    reused = [read_prefix(tiny.lm, tokens, 8, prefixes=mine).reused for tokens in texts[::2]]
    assert reused == [100, 100]
    assert read_prefix(tiny.lm, texts[1], 8, prefixes=mine).reused == 0
    kept.limit = 0
    read_prefix(tiny.lm, [*texts[0], 5], 8, prefixes=mine)
    assert bytes_kept(kept) == 0


def test_nothing_is_kept_where_memory_is_short(tiny, monkeypatch):
    monkeypatch.setattr("sol_core.models.kept_prefixes.LEAST_FREE", 10**18)
    mine = OwnersPrefixes()
    read_prefix(tiny.lm, tokens_of(100), 8, prefixes=mine)
    assert bytes_kept(mine.kept) == 0


def test_a_longer_text_takes_the_place_of_its_beginning(tiny):
    mine = OwnersPrefixes()
    for count in (100, 200, 300):
        read_prefix(tiny.lm, tokens_of(count), 8, prefixes=mine)
    alone = read_prefix(tiny.lm, tokens_of(300), 8).cache.num_bytes
    assert bytes_kept(mine.kept) == alone


@pytest.mark.usefixtures("small_pieces")
def test_reading_stops_within_a_piece_and_keeps_nothing_of_it(tiny):
    mine, asked = OwnersPrefixes(), []

    def stop_in_the_second_piece():
        asked.append(None)
        return len(asked) == 5

    read = read_prefix(tiny.lm, tokens_of(100), 8, None, stop_in_the_second_piece, mine)
    assert read.state is None
    assert read.cache.own_lengths == [64]
    assert bytes_kept(mine.kept) == 0
    assert read_prefix(tiny.lm, tokens_of(100), 8, prefixes=mine).reused == 0


@pytest.mark.usefixtures("small_pieces")
def test_progress_counts_what_was_kept_and_ends_before_the_whole(tiny):
    mine = OwnersPrefixes()
    read_prefix(tiny.lm, tokens_of(200), 8, prefixes=mine)
    progress = list(read_prefix_in_chunks(tiny.lm, tokens_of(300), 8, None, no_stop, mine))
    assert [event.tokens_read for event in progress] == [256]
    assert all(event.prompt_tokens == 300 and event.seconds_left >= 0 for event in progress)


def test_a_list_of_prompts_reuses_what_they_begin_with(tiny, small_pieces):
    text = "A keeper had a dog that ate fish. " * 9
    alone = [generate(tiny.of_owner(str(n)), text + end) for n, end in enumerate(("A", "B"))]
    made = generate_many(tiny, [text + "A", text + "B"])
    assert made[1].prefill.reused_tokens > 0
    assert [one.text for one in made] == [one.text for one in alone]

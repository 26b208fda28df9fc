"""Sampling: seeds, cuts and the repetition penalty."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sol_core.config import SamplingConfig
from sol_core.errors import ConfigError
from sol_core.generation.sampling import TextStream, TokenSampler
from tests.support.tiny_language_model import END, byte_tokenizer

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 3.0])


def _draw(count, **options):
    sampler = TokenSampler(SamplingConfig(**options))
    return [sampler.draw(LOGITS) for _ in range(count)]


def test_the_same_seed_gives_the_same_tokens():
    assert _draw(40, temperature=1, seed=7) == _draw(40, temperature=1, seed=7)
    assert _draw(40, temperature=1, seed=7) != _draw(40, temperature=1, seed=8)
    assert _draw(5, temperature=0) == [4] * 5


def test_frequencies_follow_the_softmax():
    counts = Counter(_draw(4000, temperature=1.0))
    for token, probability in enumerate(torch.softmax(LOGITS, 0).tolist()):
        assert counts[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_top_k_and_top_p_cut_the_tail():
    assert set(_draw(300, temperature=2.0, top_k=2)) == {0, 4}
    # Probabilities: 0.64, 0.23, 0.09 …; 0.7 needs the first two.
    assert set(_draw(300, temperature=1.0, top_p=0.7)) == {0, 4}


def test_repetition_penalty_moves_on():
    sampler = TokenSampler(SamplingConfig(repetition_penalty=5.0))
    assert [sampler.draw(LOGITS) for _ in range(3)] == [4, 0, 1]


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", -1), ("top_k", -1), ("top_p", 0.0), ("repetition_penalty", 0.0)],
)  # fmt: skip
def test_bad_values_are_named(option, value):
    with pytest.raises(ConfigError, match=option):
        SamplingConfig(**{option: value})


def test_processors_come_after_the_penalty_and_before_the_temperature():
    seen = []

    def ban_the_best(ids, scores):
        seen.append((ids[0].tolist(), scores[0].tolist()))
        assert (ids.dtype, ids.shape[0], scores.dtype) == (torch.int64, 1, torch.float32)
        return scores.masked_fill(scores == scores.max(), -torch.inf)

    config = SamplingConfig(temperature=0.5, repetition_penalty=1.5, top_k=1)
    sampler = TokenSampler(config, [0], [ban_the_best])
    assert [sampler.draw(LOGITS), sampler.draw(LOGITS, given=2)] == [0, 2]
    assert seen[0][0] == [0]
    assert seen[1][0] == [0, 0]
    assert seen[0][1] == pytest.approx([2 / 1.5, 1.0, 0.0, -1.0, 3.0])
    twice = TokenSampler(SamplingConfig(), (), [ban_the_best, ban_the_best])
    assert twice.draw(LOGITS) == 1, "each is given what the one before it returned"
    assert LOGITS[4] == 3.0


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "got NoneType"),
        (torch.zeros(5), r"got \(5,\)"),
        (torch.full((1, 5), -torch.inf), "left no token"),
        (torch.full((1, 5), torch.nan), "left no token"),
    ],
    ids=["nothing", "shape", "none", "nan"],
)
def test_a_processor_that_leaves_nothing_to_draw_is_refused(returned, words):
    with pytest.raises(ConfigError, match=words):
        TokenSampler(SamplingConfig(), [1], [lambda ids, scores: returned]).draw(LOGITS)


BYTES = byte_tokenizer()


@given(text=st.text(st.characters(codec="utf-8"), max_size=40))
def test_pieces_join_to_the_text(text):
    stream = TextStream(BYTES)
    pieces = [stream.push(token) for token in BYTES(text)["input_ids"]]
    assert "".join(pieces) + stream.flush() == text


@pytest.mark.parametrize(
    ("text", "count", "pieces"),
    [
        ("a🦊b", 6, ["a", "", "", "", "🦊", "b", ""]),
        ("é", 1, ["", "\N{REPLACEMENT CHARACTER}"]),
        (END, 1, ["", ""]),
    ],
    ids=["whole", "cut", "special"],
)
def test_a_character_appears_with_its_last_token(text, count, pieces):
    stream, tokens = TextStream(BYTES), BYTES(text)["input_ids"][:count]
    assert [*(stream.push(token) for token in tokens), stream.flush()] == pieces


def test_a_whole_character_after_broken_ones_is_shown_whole():
    stream = TextStream(BYTES)
    assert any(stream.push(BYTES("é")["input_ids"][0]) for _ in range(10)), "not held back for ever"
    stream, broken = TextStream(BYTES), BYTES("\U00040000")["input_ids"][0]
    pieces = [stream.push(token) for token in [broken] * 6 + BYTES("🦊")["input_ids"]]
    assert "".join(pieces) + stream.flush() == "\N{REPLACEMENT CHARACTER}" * 6 + "🦊"


@pytest.mark.model
@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_real_tokenizer_joins_to_the_text(default_model, text):
    tokenizer = default_model.tokenizer
    stream = TextStream(tokenizer, tokenizer("Hello ,")["input_ids"])
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = "".join(stream.push(token) for token in tokens) + stream.flush()
    assert joined == tokenizer.decode(tokens, skip_special_tokens=True)

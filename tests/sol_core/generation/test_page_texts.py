"""Which pages a step read, a digit a page; the prompt's text by the same pages."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sol_core import PrefillEvent, TokenEvent, stream_generate
from sol_core.actions import Budget
from sol_core.generation.sequence import page_reads
from tests.support.tiny_language_model import make_language_model

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_digit_a_page_is_its_share_of_layers_and_heads(layers, pages, heads, seed):
    readers = np.random.default_rng(seed).integers(0, heads + 1, (layers, pages)).astype(np.uint8)
    reads = page_reads(readers, heads)
    shares = readers.sum(0) / (layers * heads)
    if shares.min() == 1:
        assert reads.by_page == ""
        return
    assert len(reads.by_page) == pages
    for digit, share in zip(reads.by_page, shares, strict=True):
        value = DIGITS.index(digit) / 63
        assert share <= value + 1e-9 < share + 1 / 63 + 1e-6, "rounded up: what was read shows"


def test_a_run_has_its_prompts_text_page_by_page():
    model = make_language_model()
    prompt = "The village lies on the north coast. Mira Okafor keeps the lighthouse."
    events = list(
        stream_generate(model, prompt, budget=Budget(0.5), record={"pages"}, max_new_tokens=9)
    )
    first, tokens = events[0], [event for event in events if isinstance(event, TokenEvent)]
    assert isinstance(first, PrefillEvent)
    assert len(first.page_texts) == -(-first.prompt_tokens // 8)
    assert "".join(first.page_texts) == prompt
    for token in tokens:
        lists = token.page_reads.lists(model.spec.num_layers)
        read = {page for layer in lists for page in layer}
        by_page = token.page_reads.by_page or "/" * token.page_reads.pages
        assert {page for page, digit in enumerate(by_page) if digit != "A"} == read

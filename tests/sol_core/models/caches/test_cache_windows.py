"""Windows: several groups of rows continue one prefilled text from different positions."""

import pytest
import torch

from sol_core.actions import DENSE, Action
from sol_core.errors import ShapeError
from tests.support.tiny_models import make_tiny_lm

ROWS = [DENSE, Action(0.3, 0.5, 16), Action(0.5, 1.0, 16), Action(0.1, 0.8, 16)]
STEPS = 11


@pytest.fixture(scope="module", params=["llama-gqa-tied", "mistral-window"])
def family(request):
    return str(request.param)


@pytest.fixture(scope="module")
def lm(family):
    return make_tiny_lm(family)


def _texts(rows, length):
    return torch.randint(3, 199, (rows, length), generator=torch.Generator().manual_seed(5))


def _prefilled(lm, tokens, room=0):
    cache = lm.new_cache(tokens.shape[0], tokens.shape[1] + room)
    lm.prefill(tokens, cache)
    return cache


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize(
    ("sources", "lengths"),
    [
        ([1, 0, 1, 1, 0], [40, 16, 3, 40, 33]),  # out of order, repeated, within a first page
        ([0, 0, 1, 1], [16, 16, 16, 16]),  # in order: no index is needed
    ],
)
def test_windows_equal_prefills_of_their_own(lm, group, sources, lengths):
    """16 rows and more go through the CPU kernel, fewer through the reference."""
    tokens = _texts(2, 40)
    together = _prefilled(lm, tokens).branch(group, STEPS, lengths, sources)
    actions = [ROWS[(row + 1) % 4] for row in range(group)]
    alone = [
        _prefilled(lm, tokens[source : source + 1, :length]).branch(group, STEPS)
        for source, length in zip(sources, lengths, strict=True)
    ]
    assert together.lengths == [length for length in lengths for _ in range(group)]
    for step in range(STEPS):
        fed = torch.arange(len(sources)).repeat_interleave(group) + 20 + step
        found = lm.decode_step(fed, together, actions * len(sources)).logits
        for window, cache in enumerate(alone):
            rows = slice(window * group, (window + 1) * group)
            expected = lm.decode_step(fed[rows], cache, actions).logits
            torch.testing.assert_close(found[rows], expected, rtol=0, atol=5e-4)


def test_windows_copy_no_shared_page(lm):
    prefix = _prefilled(lm, _texts(2, 64))
    windows = prefix.branch(4, STEPS, [16, 40, 64, 8], [1, 0, 0, 1])
    windows.prepare_token_write(reads_codes=True)
    for codes in (False, True):
        shared, own = windows.blocks(0, 0, codes=codes)
        (block,) = prefix.blocks(0, 0, codes=codes)
        assert shared.keys.data_ptr() == block.keys.data_ptr()
        assert own.keys.shape[0] == 16
        assert shared.keys.shape[0] == 2
    assert shared.codes.data_ptr() == block.codes.data_ptr()
    assert windows.capacity <= STEPS + 8


@pytest.mark.parametrize(
    ("lengths", "sources", "message"),
    [
        ([8], [2], "sources must name"),
        ([8], [-1], "sources must name"),
        ([], [], "sources must name"),
        ([8, 8], [0], "one length per group"),
        ([21], [0], "within its sequence's"),
        ([-1], [0], "within its sequence's"),
    ],
)
def test_windows_that_do_not_exist_are_refused(lm, lengths, sources, message):
    prefix = _prefilled(lm, _texts(2, 20))
    with pytest.raises(ShapeError, match=message):
        prefix.branch(2, 4, lengths, sources)
    child = prefix.branch(2, 4)
    with pytest.raises(ShapeError, match="without a shared prefix"):
        child.branch(2, 4)

"""Page bounds and 4-bit copies follow the keys, however these are written and in any order."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.key_codes import encode_keys
from kernels.kv_write import NewTokens
from kernels.page_attention import page_bounds
from sol_core.models.layer_store import LayerStore

ROWS, HEADS, CAPACITY, SIZE, PAGE = 2, 1, 48, 8, 4
SUMMARIES = st.sampled_from(["codes", "bounds", None])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("stretch"), st.integers(1, 9)),
        st.tuples(st.just("step"), SUMMARIES),
        st.tuples(st.just("steps"), SUMMARIES),
        st.tuples(st.just("truncate"), st.integers(0, 20)),
        st.tuples(st.just("ask"), SUMMARIES),
    ),
    min_size=2,
    max_size=12,
)


def _check(store, ends, read):
    """What a read reads of the written tokens is that of the keys as they are."""
    if read == "codes":
        for mine, right in zip(store.codes(ends), encode_keys(store.keys), strict=True):
            found, made = (part.movedim(4, 3).flatten(2, 3) for part in (mine, right))
            for row, end in enumerate(ends):
                assert torch.equal(found[row, :, :end], made[row, :, :end])
    elif read == "bounds":
        valid = torch.arange(CAPACITY)[None] < torch.tensor(ends)[:, None]
        pages = -(-max(ends) // PAGE)
        fresh = page_bounds(store.keys, valid, PAGE)
        for mine, right in zip(store.bounds(ends), fresh, strict=True):
            assert torch.equal(mine[:, :, :pages], right[:, :, :pages])


def _step(store, ends, new, read):
    """A token per row as steps in buckets write it: what is read of it is decided beforehand."""
    if read is not None:
        store.prepare(read, ends)
    extend = store.take_token(ends, read)
    assert read is None or extend == read
    # Two queries for each KV head, and nothing is turned.
    still = torch.ones(ROWS, SIZE), torch.zeros(ROWS, SIZE), 1.0
    tokens = NewTokens(new.repeat(1, 4, 1), *still)
    store.rotate_and_write(tokens, torch.tensor(ends), extend=extend)


@settings(max_examples=150)
@given(first=st.integers(0, 9), apart=st.integers(0, 9), operations=OPERATIONS)
def test_bounds_and_copies_are_those_of_the_keys(first, apart, operations):
    generator = torch.Generator().manual_seed(first)
    shape = (ROWS, HEADS, CAPACITY, SIZE)
    keys = torch.randn(shape, generator=generator)
    store = LayerStore(keys, keys.clone(), PAGE)
    ends = [first, first + apart]
    for name, argument in operations:
        room = CAPACITY - max(ends)
        if name == "stretch" and apart == 0 and room >= argument:
            new = torch.randn(ROWS, HEADS, argument, SIZE, generator=generator)
            store.write_stretch(new, new, ends)
            ends = [end + argument for end in ends]
        elif name in ("step", "steps") and room >= 5:
            for _ in range(1 if name == "step" else 5):
                _step(store, ends, torch.randn(ROWS, HEADS, SIZE, generator=generator), argument)
                ends = [end + 1 for end in ends]
                _check(store, ends, argument)
        elif name == "truncate":
            ends = [min(end, argument) for end in ends]
            store.truncate(argument)
        elif name == "ask" and max(ends) > 0:
            _check(store, ends, argument)
    for read in ("codes", "bounds"):
        _check(store, ends, read)

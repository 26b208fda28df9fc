"""4-bit copies follow the keys of a cache, however these are written and in any order."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.key_codes import encode_keys
from kernels.kv_write import NewTokens, rotate_and_write
from tests.support.tiny_models import make_tiny_lm

CAPACITY = 48
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("prefill"), st.sampled_from([1, 2, 9])),
        st.tuples(st.just("steps"), st.sampled_from([1, 5])),
        st.tuples(st.just("dense steps"), st.sampled_from([1, 5])),
        st.tuples(st.just("failed step"), st.booleans()),
        st.tuples(st.just("truncate"), st.integers(0, 20)),
    ),
    min_size=2,
    max_size=12,
)
LM = make_tiny_lm()


def _check(cache):
    """What a step would read of the written tokens is that of the keys as they are."""
    for store in cache.layers:
        for mine, right in zip(store.codes, encode_keys(store.keys), strict=True):
            found, made = (part.movedim(4, 3).flatten(2, 3) for part in (mine, right))
            for row, end in enumerate(cache.own_lengths):
                assert torch.equal(found[row, :, :end], made[row, :, :end])


def _step(cache, generator, *, reads_codes):
    spec = LM.spec
    extend = cache.prepare_token_write(reads_codes=reads_codes)
    assert extend or not reads_codes
    if reads_codes:
        _check(cache)
    still = torch.ones(cache.num_rows, spec.head_size), torch.zeros(cache.num_rows, spec.head_size)
    heads = spec.num_heads + 2 * spec.num_kv_heads
    for store in cache.layers:
        new = torch.randn(cache.num_rows, heads, spec.head_size, generator=generator)
        slots = torch.tensor(cache.own_lengths)
        codes = store.codes if extend else None
        rotate_and_write(NewTokens(new, *still, 1.0), (store.keys, store.values), slots, codes)


@settings(max_examples=100)
@given(first=st.integers(0, 9), apart=st.integers(0, 9), operations=OPERATIONS)
def test_copies_are_those_of_the_keys(first, apart, operations):
    generator = torch.Generator().manual_seed(first)
    prefix = LM.new_cache(1, CAPACITY)
    LM.prefill(torch.randint(3, 190, (1, 18), generator=generator), prefix)
    cache = prefix.branch(1, CAPACITY, [first, first + apart], [0, 0])
    alone = LM.new_cache(2, CAPACITY)
    for name, argument in operations:
        for some in (cache, alone):
            room = some.capacity - max(some.own_lengths) - 5
            if name == "prefill" and some is alone and room > argument:
                some.truncate(min(some.own_lengths))
                tokens = torch.randint(3, 190, (2, argument), generator=generator)
                LM.prefill(tokens, some)
            elif name in ("steps", "dense steps") and room > 0:
                for _ in range(argument):
                    _step(some, generator, reads_codes=name == "steps")
                    some.advance(1)
            elif name == "failed step" and room > 0:
                _step(some, generator, reads_codes=argument)
            elif name == "truncate" and some is alone:
                some.truncate(argument)
    for some in (cache, alone):
        some.prepare_token_write(reads_codes=True)
        _check(some)

"""4-bit copies of keys: what they stand for, and the pages that are chosen by them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.key_codes import (
    encode_keys,
    encode_tokens,
    estimated_scores,
    page_log_mass,
    round_queries,
)
from kernels.page_attention.reference import group_fractions, select_pages
from tests.kernels.from_python import from_python


def _keys(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


@settings(max_examples=30)
@given(octets=st.integers(1, 4), size=st.sampled_from([8, 16, 64]), seed=st.integers(0, 99))
def test_scores_are_those_of_keys_in_sixteen_steps(octets, size, seed):
    keys, query = _keys(2, 8 * octets, size, seed=seed), _keys(2, 3, size, seed=seed + 1)
    query[0, 0] = 0.0
    found = estimated_scores(query, *encode_keys(keys))
    exact = query @ keys.mT
    # Half a step of the key in every channel, half a unit of the query, and bf16's rounding.
    steps = (keys.amax(-1) - keys.amin(-1)) / 15
    error = query.abs().sum(-1)[..., None] * (0.55 * steps + 0.02 * keys.abs().amax(-1))[:, None]
    error += round_queries(query)[1] * keys.abs().sum(-1)[:, None]
    assert ((found - exact).abs() <= error).all()


def test_equal_channels_have_no_scale_and_keep_their_value():
    codes, scales = encode_keys(torch.full((1, 8, 16), 0.5))
    assert not codes.any()
    assert torch.equal(scales[0, 0, 0], torch.zeros(8, dtype=torch.bfloat16))
    query = torch.ones(1, 1, 16)
    torch.testing.assert_close(estimated_scores(query, codes, scales), torch.full((1, 1, 8), 8.0))


def test_a_page_weighs_what_its_visible_tokens_weigh():
    scores = _keys(2, 3, 11)
    valid = torch.ones(2, 11, dtype=torch.bool)
    valid[1, :5] = False
    found = page_log_mass(scores, valid, 4)
    assert found.shape == (2, 3, 3)
    torch.testing.assert_close(found[0, 0, 2].exp(), scores[0, 0, 8:].exp().sum())
    assert (found[1, :, 0] == -torch.inf).all()
    torch.testing.assert_close(found[1, 2, 1].exp(), scores[1, 2, 5:8].exp().sum())


def test_a_group_chooses_by_the_mean_of_its_heads_shares():
    mass = torch.tensor([[[9.0, 1.0, 0.0], [0.0, 2.0, 3.0], [5.0, 5.0, 5.0], [5.0, 5.0, 6.0]]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    shares = group_fractions(mass, valid, 2)
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 2))
    chosen = select_pages(shares, valid, torch.tensor([2]))
    assert chosen[0].tolist() == [[True, False, True], [True, False, True]]


_WAYS = ["wide", "vnni", "avx2", "plain"]  # a CPU that has one has those behind it


@pytest.mark.parametrize("how", _WAYS)
@pytest.mark.parametrize(("size", "extreme"), [(24, False), (24, True), (136, True)])
@pytest.mark.parametrize("heads", [1, 5])
def test_octets_are_multiplied_alike_in_every_way_that_this_cpu_has(how, size, extreme, heads):
    import numba
    import numpy as np

    from kernels.key_codes.cpu import best_products, round_rows, score_octets

    if _WAYS.index(how) < _WAYS.index(best_products()):
        pytest.skip(f"this CPU has no {how}")
    octets = 7  # some taken at once, and some left over
    keys, query = _keys(1, 8 * octets, size), _keys(heads, size, seed=5)
    if extreme:
        keys[0, 5, 1:] = keys[0, 5].max() + 1.0  # all but one have the highest code
        query[0], query[-1] = 2.0, -2.0  # and meet the highest numbers of queries
    codes, scales = encode_keys(keys)
    expected = estimated_scores(query[None], codes, scales)[0]

    @numba.njit
    def score(codes, scales, stretch, queries, about, out):
        score_octets(codes, scales, stretch, queries, about, out, how)

    rounded, about = np.empty((heads, size), np.int8), np.empty((heads, 2), np.float32)
    from_python(round_rows)(query.numpy(), rounded, about)
    whole, unit = round_queries(query)
    assert rounded.tolist() == whole.tolist()
    assert about[:, 0].tolist() == unit[:, 0].tolist()
    assert about[:, 1].tolist() == whole.sum(-1).tolist()
    lines = codes.numpy().reshape(octets, -1), scales.view(torch.uint16).numpy().reshape(octets, 16)
    wider = np.full((heads, 64), 7, np.float32)
    out = wider[:, 5:59]  # rows that do not follow each other
    score(*lines, (1, octets - 1), rounded, about, out)
    torch.testing.assert_close(
        torch.from_numpy(out[:, : 8 * octets - 8].copy()),
        expected[:, 8:],
        rtol=1e-6,
        atol=1e-5 if extreme else 1e-6,
    )
    assert (wider[:, :5] == 7).all()
    assert (wider[:, 8 * octets - 3 :] == 7).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(
    capacity=st.sampled_from([8, 24, 29]),
    ends=st.tuples(st.integers(0, 24), st.integers(0, 24)).map(sorted),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_codes_of_some_tokens_are_those_of_all(dtype, capacity, ends, seed):
    start, end = (min(token, capacity) for token in ends)
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(2, 3, capacity, 16, generator=generator).to(dtype)
    octets = -(-capacity // 8)
    codes = torch.zeros(2, 3, octets, 2, 8, 4, dtype=torch.uint8)
    scales = torch.zeros(2, 3, octets, 2, 8, dtype=torch.bfloat16)
    encode_tokens(keys, codes, scales, start, end)
    whole = torch.nn.functional.pad(keys, (0, 0, 0, -capacity % 8))
    for found, right in zip((codes, scales), encode_keys(whole), strict=True):
        mine, theirs = (part.movedim(4, 3).flatten(2, 3) for part in (found, right))
        assert torch.equal(mine[:, :, start:end], theirs[:, :, start:end])

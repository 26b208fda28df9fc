"""The few-row CPU kernels against the references: products, page choice, and whole steps."""

import dataclasses
import itertools

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cpu import as_array
from kernels.cpu.team import Team
from kernels.cpu.threads import Tuning
from kernels.decode_layer import few_row_kernel
from kernels.key_codes import encode_keys
from sol_core.actions import DENSE, GRIDS, PAPER, Action
from sol_core.models import FrozenLM
from sol_core.models.signals import Observe
from tests.kernels.from_python import from_python
from tests.support.tiny_models import make_tiny_lm

pytestmark = pytest.mark.skipif(few_row_kernel() is None, reason="Numba cannot run here")

DTYPES = (torch.float32, torch.bfloat16)
# Absolute, on logits of a few units; bf16 products of the reference round their inputs.
TOLERANCE = {torch.float32: 5e-5, torch.bfloat16: 0.25}
DEFAULT = GRIDS["default"].mechanisms
ALL = Observe.CONCENTRATION
# One of each kind of rope, window, norm, bias, activation and size of heads.
COMPILED = ("llama-gqa-tied", "llama3-rope", "qwen2-window", "qwen3", "gemma3", "llama-odd-heads",
            "phi3-window", "granite", "smollm3")  # fmt: skip
ACTIONS = (DENSE, Action(0.4, 1.0), Action(1.0, 0.6), Action(0.3, 0.5), Action(0.5, 0.7, 6))


def _reference(lm):
    """The same model without the few-row kernels."""
    plain = FrozenLM(lm.spec, lm.weights)
    plain.__dict__["_few_rows"] = None  # the cached property, decided
    return plain


def _tokens(rows, count, seed):
    return torch.randint(3, 190, (rows, count), generator=torch.Generator().manual_seed(seed))


def _product(inputs, weight, out_major, tasks, ahead=2):
    """[R, in] · [in, out] by so many tasks, the weight laid out as asked; starts from NaN."""
    from kernels.decode_layer.products import product_range

    laid = weight.t().contiguous() if out_major else weight.contiguous()
    outputs = torch.full((inputs.shape[0], weight.shape[1]), torch.nan)
    compute = from_python(product_range)
    for task in range(tasks):
        member = Team(0, task, tasks, ahead)
        compute(inputs.numpy(), as_array(laid), out_major, outputs.numpy(), member)
    return outputs


@given(
    rows=st.integers(1, 4),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 150)),
    zero_share=st.sampled_from([0.0, 0.5, 1.0]),
    layout=st.tuples(st.booleans(), st.sampled_from(DTYPES)),
    work=st.tuples(st.integers(1, 5), st.integers(1, 64)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80)
def test_products_match_torch(rows, sizes, zero_share, layout, work, seed):
    out_major, dtype = layout
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, sizes[0], generator=generator)
    inputs[:, torch.rand(sizes[0], generator=generator) < zero_share] = 0
    weight = torch.randn(*sizes, generator=generator).to(dtype)
    found = _product(inputs, weight, out_major, *work)
    expected = inputs.double() @ weight.double()
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)
    assert torch.equal(found, _product(inputs, weight, out_major, 1))


def test_a_pruned_channel_is_not_read():
    """Weights of channels that are zero in every row may be anything."""
    inputs, weight = torch.randn(2, 20), torch.randn(20, 40)
    inputs[:, 3:17] = 0
    expected = _product(inputs, weight, out_major=False, tasks=2)
    weight[3:17] = torch.nan
    assert torch.equal(_product(inputs, weight, out_major=False, tasks=2), expected)


def _long_lm():
    """One whose context needs several parts, and pages that more than one thread scores."""
    lm = make_tiny_lm()
    lm.spec = dataclasses.replace(lm.spec, max_positions=2048)
    return lm


def _compare(found, expected, tolerance):
    torch.testing.assert_close(found.logits, expected.logits, atol=tolerance, rtol=0)
    for name in ("attention_concentration", "mid_hidden"):
        one, two = getattr(found, name), getattr(expected, name)
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, atol=tolerance, rtol=1e-2)
    assert (found.page_readers is None) == (expected.page_readers is None)
    if tolerance == TOLERANCE[torch.float32]:  # rounding to bf16 moves pages
        assert torch.equal(found.tokens_read, expected.tokens_read)
        if found.page_readers is not None:
            assert torch.equal(found.page_readers, expected.page_readers)


def _steps(lm, new_cache, actions, how=DEFAULT, observe=ALL):
    """Nine steps of both paths, each on a cache of its own, actions in turn."""
    plain, rows = _reference(lm), len(actions)
    ours, theirs = new_cache(), new_cache()
    for step in range(9):
        fed, now = _tokens(rows, 1, step)[:, 0], actions[step % rows :] + actions[: step % rows]
        options = {"mechanisms": how, "observe": observe, "record": {"pages"}}
        found = lm.decode_step(fed, ours, now, **options)
        expected = plain.decode_step(fed, theirs, now, **options)
        _compare(found, expected, TOLERANCE[lm.dtype])


def _prefilled(lm, length, texts=1):
    prefix = lm.new_cache(texts, length)
    lm.prefill(_tokens(texts, length, 4), prefix)
    return prefix


@pytest.mark.parametrize("family", COMPILED)
def test_steps_of_every_compiled_family_match_the_reference(family):
    """Norms of heads and outputs, biases, windows, both activations and all ropes."""
    lm = make_tiny_lm(family)
    prefix = _prefilled(lm, 30)
    for action in ACTIONS[2:4]:  # one rounding flip moves a whole quantised step
        _steps(lm, lambda: prefix.branch(1, 9), [action])


@pytest.mark.parametrize(
    ("lengths", "sources"),
    [
        ([1], [0]),
        ([8] * 3, [0] * 3),
        ([9] * 4, [0] * 4),
        ([1300] * 4, [0] * 4),  # several parts, and pages that more than one thread chooses
        ([508, 700], [0, 0]),  # a row just short of another part has larger ones than a longer row
        ([1020, 1024], [0, 0]),
        ([700, 5, 1290], [1, 0, 1]),
    ],
)
def test_rows_with_their_own_actions_match_the_reference(lengths, sources):
    """Short and whole last pages, ragged rows, repeated sources."""
    lm, rows = _long_lm(), len(lengths)
    prefix = _prefilled(lm, 1300, 2)
    for some, observe in ((ACTIONS[:rows], Observe.NOTHING), (ACTIONS[-rows - 1 : -1], ALL)):
        _steps(lm, lambda: prefix.branch(1, 9, lengths, sources), list(some), observe=observe)


@pytest.mark.parametrize("block", [0, 32])
@pytest.mark.parametrize("site", ["mlp_output", "mlp_input"])
def test_quantised_steps_match_the_reference(site, block):
    """Blocks count from the first of all channels, pruned ones among them."""
    lm, fed = make_tiny_lm(), torch.tensor([9, 8])
    how = dataclasses.replace(DEFAULT, quant_site=site, quant_block=block)
    prefix = lm.new_cache(1, 20)
    lm.prefill(_tokens(1, 20, 7), prefix)  # a text on which no rounding flips
    for bits in (4, 8, 12):
        found, expected = (
            one.decode_step(fed, prefix.branch(2, 1), Action(0.5, 0.7, bits), mechanisms=how)
            for one in (lm, _reference(lm))
        )
        _compare(found, expected, 1e-4)


def test_bf16_steps_match_the_reference():
    lm = make_tiny_lm(dtype=torch.bfloat16)
    prefix = _prefilled(lm, 40)
    _steps(lm, lambda: prefix.branch(1, 9), [Action(0.5, 0.5)])
    _steps(lm, lambda: prefix.branch(2, 9), [DENSE, DENSE])


def test_codes_stay_current_through_dense_and_compressed_steps():
    """4-bit keys that the kernel wrote equal those made afresh, whatever came between."""
    lm = make_tiny_lm()
    cache = lm.new_cache(1, 64)
    lm.prefill(_tokens(1, 11, 7), cache)
    for step in range(30):
        how = PAPER if step % 5 == 3 else DEFAULT
        lm.decode_step(torch.tensor([step + 3]), cache, ACTIONS[step % 4], mechanisms=how)
    cache.prepare_token_write(reads_codes=True)
    store, whole = cache.layers[0], cache.own_lengths[0] // 8
    codes, scales = store.codes
    fresh = encode_keys(store.keys[:, :, : 8 * whole])
    assert torch.equal(codes[:, :, :whole], fresh[0])
    assert torch.equal(scales[:, :, :whole], fresh[1])


def test_unselected_pages_are_not_read():
    """Poisoning a page's values shows only where a KV head chose the page."""
    lm = make_tiny_lm()
    cache = lm.new_cache(1, 208)
    lm.prefill(_tokens(1, 200, 8), cache)
    action, fed = Action(0.05, 1.0), torch.tensor([5])
    expected = lm.decode_step(fed, cache, action, mechanisms=DEFAULT).logits
    store = cache.layers[0]
    felt = 0
    for page in range(25):
        cache.own_lengths = [200]
        values = store.values[:, :, 8 * page : 8 * page + 8]
        saved = values.clone()
        values[:] = torch.nan
        found = lm.decode_step(fed, cache, action, mechanisms=DEFAULT).logits
        values[:] = saved
        felt += not torch.equal(found, expected)
    # ceil(0.05 · 201) tokens are 2 of 26 pages per KV head.
    assert 1 <= felt <= 2 * lm.spec.num_kv_heads


def test_neither_threads_nor_tuning_change_a_bit():
    lm = _long_lm()
    prefix = _prefilled(lm, 700)
    actions = [DENSE, Action(0.4, 0.5, 6)]
    before, found = numba.get_num_threads(), []
    tunings = (None, *(Tuning(threads, ahead) for threads in (1, 2) for ahead in (1, 40)))
    for threads, tuning in itertools.product({1, before}, tunings):
        numba.set_num_threads(threads)
        lm.tuning = tuning
        try:
            cache = prefix.branch(2, 2)
            options = {"mechanisms": DEFAULT, "observe": Observe.CONCENTRATION}
            found.append(lm.decode_step(torch.tensor([5, 6]), cache, actions, **options))
        finally:
            numba.set_num_threads(before)
            lm.tuning = None
    for name in ("logits", "hidden", "mid_hidden", "attention_concentration"):
        assert all(torch.equal(getattr(found[0], name), getattr(one, name)) for one in found)

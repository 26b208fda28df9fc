"""The few-row CPU kernels against the references: products, page choice, and whole steps."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.channel_pruning import reference as pruning_reference
from kernels.cpu.arrays import as_array
from kernels.cpu.team import Team
from kernels.cpu.tuning import Tuning
from kernels.decode_layer import few_row_kernel
from kernels.key_codes import encode_keys
from kernels.page_attention import KVBlock, page_bounds, page_scores
from kernels.page_attention import reference as attention_reference
from sol_core.actions import DENSE, GRIDS, PAPER, Action, Mechanisms
from sol_core.models import FrozenLM, StepOutput, spec_from_config
from sol_core.models.cache import KVCache
from sol_core.models.signals import Observe
from sol_core.models.step.few_rows import FewRowStep
from sol_core.models.weights import arrange_weights
from tests.kernels.from_python import from_python
from tests.kernels.threads.teams import in_team
from tests.support.tiny_models import FAMILIES, Family, make_pair, make_tiny_lm

pytestmark = pytest.mark.skipif(few_row_kernel() is None, reason="Numba cannot run here")

DTYPES = (torch.float32, torch.bfloat16)
# Absolute, on logits of a few units; bf16 products of the reference round their inputs.
TOLERANCE = {torch.float32: 5e-5, torch.bfloat16: 0.25}
DEFAULT = GRIDS["default"].mechanisms
NEED = GRIDS["need"].mechanisms
MECHANISMS = pytest.mark.parametrize(
    "how", [PAPER, DEFAULT, NEED], ids=["paper", "default", "need"]
)
ACTIONS = (DENSE, Action(0.4, 1.0), Action(1.0, 0.6), Action(0.3, 0.5), Action(0.5, 0.7, 6))


def _reference(lm: FrozenLM) -> FrozenLM:
    """The same model without the few-row kernels."""
    plain = FrozenLM(lm.spec, lm.weights)
    plain.__dict__["_few_rows"] = None  # the cached property, decided
    return plain


def _tokens(rows: int, count: int, seed: int) -> Tensor:
    return torch.randint(3, 190, (rows, count), generator=torch.Generator().manual_seed(seed))


def _product(inputs: Tensor, weight: Tensor, out_major: bool, tasks: int, ahead: int = 2) -> Tensor:
    """[R, in] · [in, out] in so many shares, the weight laid out as asked; starts from NaN."""
    from kernels.decode_layer.products import product_share

    laid = weight.t().contiguous() if out_major else weight.contiguous()
    outputs = torch.full((inputs.shape[0], weight.shape[1]), torch.nan)
    for task in range(tasks):
        member = Team(0, task, tasks, ahead)
        product_share(inputs.numpy(), as_array(laid), out_major, outputs.numpy(), member)
    return outputs


@given(
    rows=st.integers(1, 4),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 150)),
    zero_share=st.sampled_from([0.0, 0.5, 1.0]),
    layout=st.tuples(st.booleans(), st.sampled_from(DTYPES)),
    work=st.tuples(st.integers(1, 5), st.integers(1, 64)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=120)
def test_products_match_torch(
    rows: int,
    sizes: tuple[int, int],
    zero_share: float,
    layout: tuple[bool, torch.dtype],
    work: tuple[int, int],
    seed: int,
) -> None:
    out_major, dtype = layout
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, sizes[0], generator=generator)
    inputs[:, torch.rand(sizes[0], generator=generator) < zero_share] = 0
    weight = torch.randn(*sizes, generator=generator).to(dtype)
    found = _product(inputs, weight, out_major, *work)
    expected = inputs.double() @ weight.double()
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)
    assert torch.equal(found, _product(inputs, weight, out_major, 1))


def test_a_pruned_channel_is_not_read() -> None:
    """Weights of channels that are zero in every row may be anything."""
    inputs, weight = torch.randn(2, 20), torch.randn(20, 40)
    inputs[:, 3:17] = 0
    expected = _product(inputs, weight, out_major=False, tasks=2)
    weight[3:17] = torch.nan
    assert torch.equal(_product(inputs, weight, out_major=False, tasks=2), expected)


@given(pages=st.integers(1, 40), data=st.data())
@settings(max_examples=60)
def test_page_choice_matches_the_reference(pages: int, data: st.DataObject) -> None:
    """Exactly k pages, ties to the lowest, signed zeros alike."""
    from kernels.page_attention.page_choice import choose_pages

    values = st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5])
    scores = torch.tensor(data.draw(st.lists(values, min_size=pages, max_size=pages)))
    kept = data.draw(st.integers(1, pages))
    chosen = np.full(pages, 7, np.uint8)
    from_python(choose_pages)(scores.numpy(), kept, chosen)
    expected = attention_reference.select_pages(
        scores[None, None], torch.ones(1, pages, dtype=torch.bool), torch.tensor([kept])
    )
    assert chosen.tolist() == expected[0, 0].int().tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [5, 8, 16, 64, 72])
@pytest.mark.parametrize(("pages", "heads"), [(1, 1), (7, 2), (8, 3), (17, 4), (16, 7)])
def test_page_scores_match_the_reference(
    dtype: torch.dtype, size: int, pages: int, heads: int
) -> None:
    from kernels.page_attention.page_choice import score_pages

    low = torch.randn(1, 1, pages, size).to(dtype)
    high = low + torch.rand(1, 1, pages, size).to(dtype)
    query = torch.randn(1, heads, size)
    scores = torch.full((heads, pages), torch.nan)
    signed = (query[0].clamp(min=0).numpy(), query[0].clamp(max=0).numpy())
    few = np.empty((heads, 8), np.float32)
    bounds = (as_array(high[0, 0]), as_array(low[0, 0]))
    from_python(score_pages)(signed, *bounds, (0, pages), (0, pages), scores.numpy(), few)
    block = KVBlock(low, low, low, high)
    torch.testing.assert_close(scores, page_scores(query, block)[0])


@pytest.mark.parametrize("page_size", [1, 4, 8])
@pytest.mark.parametrize(("first", "total"), [(0, 5), (0, 32), (3, 33), (9, 41)])
def test_mass_outside_matches_the_reference(page_size: int, first: int, total: int) -> None:
    from kernels.page_attention.page_choice import mass_outside

    tokens = torch.zeros(-(-total // page_size) * page_size)
    tokens[first:total] = 1
    per_page = tokens.view(-1, page_size).sum(-1)[first // page_size :]
    scores = torch.randn(per_page.shape[0]).round(decimals=1)  # with ties
    expected = attention_reference.page_mass_outside(
        scores[None], torch.ones(per_page.shape[0], dtype=torch.bool), per_page, 0.4
    )
    found = from_python(mass_outside)(scores.clone().numpy(), first, total, page_size, 0.4)
    assert found == pytest.approx(expected.item(), abs=1e-6)


def _long_lm() -> FrozenLM:
    """One whose context needs several parts, and pages that more than one thread scores."""
    lm = make_tiny_lm()
    lm.spec = dataclasses.replace(lm.spec, max_positions=2048)
    return lm


def _compare(found: StepOutput, expected: StepOutput, tolerance: float) -> None:
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


@MECHANISMS
@pytest.mark.parametrize("lengths", [[508, 700], [1020, 1024], [700, 100]])
def test_rows_that_are_cut_into_more_and_fewer_parts(lengths: list[int], how: Mechanisms) -> None:
    """A row just short of another part has larger ones than a longer row."""
    lm = _long_lm()
    prefix = lm.new_cache(1, max(lengths))
    lm.prefill(_tokens(1, max(lengths), 4), prefix)
    for actions in ([DENSE, DENSE], [Action(0.9, 1.0), Action(0.7, 1.0)]):
        ours, theirs = (prefix.branch(1, 12, lengths=lengths, sources=[0, 0]) for _ in range(2))
        _steps(lm, ours, theirs, actions, how, observe=Observe.CONCENTRATION)


def _both(
    lm: FrozenLM, start: KVCache, actions: list[Action], how: Mechanisms, observe: Observe
) -> None:
    """Steps of both paths from one prefix; the fast one's cache must have the same bounds."""
    rows = len(actions)
    _steps(lm, start.branch(rows, 12), start.branch(rows, 12), actions, how, observe)


def _steps(
    lm: FrozenLM,
    ours: KVCache,
    theirs: KVCache,
    actions: list[Action],
    how: Mechanisms,
    observe: Observe,
) -> None:
    """Twelve steps of both paths, each on a cache of its own."""
    plain, rows = _reference(lm), len(actions)
    for step in range(12):
        fed = _tokens(rows, 1, step)[:, 0]
        options: dict[str, Any] = {"mechanisms": how, "observe": observe, "page_reads": True}
        found = lm.decode_step(fed, ours, actions, **options)
        expected = plain.decode_step(fed, theirs, actions, **options)
        _compare(found, expected, TOLERANCE[lm.dtype])


@MECHANISMS
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_steps_of_every_family_match_the_reference(family: Family, how: Mechanisms) -> None:
    """Norms of heads and outputs, biases, windows, both activations and all ropes."""
    _, lm = make_pair(family)
    prefix = lm.new_cache(1, 30)
    lm.prefill(_tokens(1, 30, 3), prefix)
    for action in ACTIONS:
        if action.bit_width == 16:  # one rounding flip moves a whole quantised step
            _both(lm, prefix, [action], how, observe=Observe.CONCENTRATION)


def test_families_that_are_not_compiled_are_those_of_the_docs() -> None:
    """Biases of the MLP, scores with a cap, norms elsewhere."""
    lms = {family.name: make_pair(family)[1] for family in FAMILIES}
    slow = {name for name, lm in lms.items() if FewRowStep.make(lm.spec, lm.weights) is None}
    assert slow == {"llama-mqa-bias", "granite-bias", "gemma2", "olmo2", "olmo2-mha-bias"}


@MECHANISMS
@pytest.mark.parametrize("length", [1, 7, 8, 9, 240, 1300])
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_rows_with_their_own_actions_match_the_reference(
    length: int, rows: int, how: Mechanisms
) -> None:
    """Short and whole last pages, one and several parts, alone and behind a shared prefix; pages
    chosen by one thread and by all."""
    lm = _long_lm()
    prefix = lm.new_cache(1, length)
    lm.prefill(_tokens(1, length, 4), prefix)
    _both(lm, prefix, list(ACTIONS[:rows]), how, observe=Observe.NOTHING)
    at_input = dataclasses.replace(how, quant_site="mlp_input")
    _both(lm, prefix, list(ACTIONS[-rows - 1 : -1]), at_input, observe=Observe.CONCENTRATION)


@pytest.mark.parametrize("site", ["mlp_output", "mlp_input"])
def test_quantised_steps_match_the_reference(site: str) -> None:
    lm = make_tiny_lm()
    prefix = lm.new_cache(1, 20)
    lm.prefill(_tokens(1, 20, 5), prefix)
    plain = _reference(lm)
    for bits in (4, 8, 12):
        fed, action = torch.tensor([9, 8]), Action(0.5, 0.7, bits)
        found = lm.decode_step(
            fed, prefix.branch(2, 1), action, mechanisms=Mechanisms(quant_site=site)
        )  # type: ignore[arg-type]
        expected = plain.decode_step(
            fed, prefix.branch(2, 1), action, mechanisms=Mechanisms(quant_site=site)
        )  # type: ignore[arg-type]
        _compare(found, expected, 1e-4)


@MECHANISMS
@pytest.mark.parametrize("lengths", [[5, 17, 48], [700, 5, 1290]])
def test_ragged_windows_of_one_text_match_the_reference(
    lengths: list[int], how: Mechanisms
) -> None:
    """Rows of different lengths that read repeated sources of one prefix."""
    lm = _long_lm()
    plain = _reference(lm)
    prefix = lm.new_cache(2, 1300)
    lm.prefill(_tokens(2, 1300, 6), prefix)
    caches = [prefix.branch(1, 9, lengths=lengths, sources=[1, 0, 1]) for _ in range(2)]
    for step in range(9):
        fed = _tokens(3, 1, step)[:, 0]
        actions = [ACTIONS[(step + row) % 4] for row in range(3)]
        options: dict[str, Any] = {"mechanisms": how, "observe": Observe(step % 3)}
        found = lm.decode_step(fed, caches[0], actions, **options)
        expected = plain.decode_step(fed, caches[1], actions, **options)
        _compare(found, expected, TOLERANCE[torch.float32])


def test_page_bounds_stay_current_through_dense_and_compressed_steps() -> None:
    """Bounds that the kernel extended equal bounds made afresh."""
    lm = make_tiny_lm()
    cache = lm.new_cache(1, 64)
    lm.prefill(_tokens(1, 11, 7), cache)
    for step in range(30):
        lm.decode_step(torch.tensor([step + 3]), cache, ACTIONS[step % 2])
    store = cache._layers[0]
    low, high = store.bounds(cache.own_lengths)
    used = cache.own_lengths[0]
    fresh = page_bounds(store.keys[:, :, :used], None, cache.page_size)
    pages = fresh[0].shape[2]
    assert torch.equal(low[:, :, :pages], fresh[0])
    assert torch.equal(high[:, :, :pages], fresh[1])


def test_codes_stay_current_through_dense_and_compressed_steps() -> None:
    """4-bit keys that the kernel wrote equal those made afresh, whatever came between."""
    lm = make_tiny_lm()
    cache = lm.new_cache(1, 64)
    lm.prefill(_tokens(1, 11, 7), cache)
    for step in range(30):
        how = PAPER if step % 5 == 3 else DEFAULT
        lm.decode_step(torch.tensor([step + 3]), cache, ACTIONS[step % 4], mechanisms=how)
    store, used = cache._layers[0], cache.own_lengths[0]
    codes, scales = store.codes(cache.own_lengths)
    whole = used // 8
    fresh = encode_keys(store.keys[:, :, : 8 * whole])
    assert torch.equal(codes[:, :, :whole], fresh[0])
    assert torch.equal(scales[:, :, :whole], fresh[1])
    low, _ = store.bounds(cache.own_lengths)
    expected, _ = page_bounds(store.keys[:, :, :used], None, 8)
    assert torch.equal(low[:, :, : expected.shape[2]], expected)


def test_unselected_pages_are_not_read() -> None:
    """Poisoning a page's values shows only where one of the heads chose the page."""
    lm = make_tiny_lm()
    cache = lm.new_cache(1, 208)
    lm.prefill(_tokens(1, 200, 8), cache)
    action, fed = Action(0.05, 1.0), torch.tensor([5])
    expected = lm.decode_step(fed, cache, action).logits
    store = cache._layers[0]
    felt = 0
    for page in range(25):
        cache.own_lengths = [200]
        values = store.values[:, :, 8 * page : 8 * page + 8]
        saved = values.clone()
        values[:] = torch.nan
        found = lm.decode_step(fed, cache, action).logits
        values[:] = saved
        felt += not torch.equal(found, expected)
    # ceil(0.05 · 201) tokens are 2 of 26 pages per head.
    assert 1 <= felt <= 2 * lm.spec.num_heads


@pytest.mark.parametrize("family", FAMILIES[:1], ids=lambda family: family.name)
def test_bf16_steps_are_close_to_the_fp32_model(family: Family) -> None:
    theirs, _ = make_pair(family)
    spec = spec_from_config(theirs.config)
    lm = FrozenLM(spec, arrange_weights(theirs.state_dict(), spec, torch.bfloat16))
    prefix = lm.new_cache(1, 40)
    lm.prefill(_tokens(1, 40, 9), prefix)
    for rows in (1, 2):
        _both(lm, prefix, [Action(0.5, 0.5)] * rows, PAPER, observe=Observe.CONCENTRATION)
        _both(lm, prefix, [DENSE] * rows, PAPER, observe=Observe.NOTHING)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "gelu"), [(32, False), (70, True), (200, False)])
def test_gate_and_up_in_blocks_give_the_same_bits(
    dtype: torch.dtype, width: int, gelu: bool
) -> None:
    """However many blocks the copy is cut into, more or fewer than there are members."""
    from kernels.decode_layer.mlp import MlpWeights, in_blocks, mlp_rows, rows_in_blocks
    from kernels.decode_layer.scratch import Scratch

    norm, none = np.ones(24, np.float32), np.empty(0, np.float32)
    gate_up = as_array(torch.randn(24, 2 * width).to(dtype))
    down = as_array(torch.randn(24, width).to(dtype))
    rows, norms = np.ascontiguousarray(down.T), torch.rand(width).numpy()
    hidden = torch.randn(3, 24)
    counts = np.array([24, 12, 5]), np.array([width, width // 2, 1])
    bits = np.array([16, 16, 8])

    def run(weights: Any, blocks: int, members: int) -> torch.Tensor:
        sizes = hidden.numel(), 6 * width, 3 * width
        update, both, inner = (np.empty(size, np.float32) for size in sizes)
        scratch = Scratch(heads=none, update=update, both=both, inner=inner, pages=none)
        lines = rows_in_blocks(rows, blocks) if blocks else rows
        layer = MlpWeights(
            norm, weights, blocks, down, True, none, gelu, np.float32(1e-5), lines, norms
        )
        results = [hidden.clone() for _ in range(members)]

        def member(team: Team) -> None:
            own = results[team.member].numpy()
            from_python(mlp_rows)(own, layer, counts, bits, False, scratch, team)

        in_team(members, member)
        assert all(torch.equal(result, results[0]) for result in results)
        return results[0]

    plain = run(gate_up, 0, 1)
    assert not torch.equal(plain, hidden)
    for blocks in (1, 2, 3, 5):
        for members in (1, 2, 4):
            assert torch.equal(run(in_blocks(gate_up, blocks), blocks, members), plain)


@MECHANISMS
def test_neither_threads_nor_tuning_change_a_bit(how: Mechanisms) -> None:
    lm = _long_lm()
    prefix = lm.new_cache(1, 700)
    lm.prefill(_tokens(1, 700, 4), prefix)
    actions = [DENSE, Action(0.4, 0.5, 6)]
    before, found = numba.get_num_threads(), []
    tunings = (None, *(Tuning(threads, ahead) for threads in (1, 2) for ahead in (1, 40)))
    for threads, tuning in itertools.product({1, before}, tunings):
        numba.set_num_threads(threads)
        lm.tuning = tuning
        try:
            cache = prefix.branch(2, 2)
            options: dict[str, Any] = {"mechanisms": how, "observe": Observe.CONCENTRATION}
            found.append(lm.decode_step(torch.tensor([5, 6]), cache, actions, **options))
        finally:
            numba.set_num_threads(before)
            lm.tuning = None
    for name in ("logits", "hidden", "mid_hidden", "attention_concentration"):
        assert all(torch.equal(getattr(found[0], name), getattr(one, name)) for one in found)


def test_pruning_keeps_the_reference_channels() -> None:
    """The row function behind the kernels: ties to the lowest, exactly k."""
    from kernels.cpu.numba_rows import keep_largest_row

    hidden = torch.tensor([1.0, -2.0, 2.0, 0.0, 2.0, -0.0, 1.0])
    for count in range(1, 8):
        kept = torch.full_like(hidden, torch.nan)
        from_python(keep_largest_row)(hidden.numpy(), count, kept.numpy())
        expected = pruning_reference.keep_largest_channels(hidden[None], torch.tensor([count]))
        assert torch.equal(kept, expected[0])
